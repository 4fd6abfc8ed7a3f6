//! What must hold for a database: [`Plan`], its [`Tier`]s, copies and verification.

use super::file::{CopySection, PlanSection, Scalar, Text, TierSection, VerifySection, list};
use super::keep::Keep;
use super::promise::{DataClass, Drill, Objective, Scenario};
use super::resolve::Resolver;
use crate::schedule::Schedule;
use crate::time::Duration;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use toml::Spanned;

/// `[policies.NAME]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// At most this much of the newest work may be lost; `None`: no such objective.
    pub rpo: Option<Duration>,
    /// At most this long until the database serves again; `None`: no such objective.
    pub rto: Option<Duration>,
    pub wal: WalPolicy,
    pub tiers: BTreeMap<String, Tier>,
    pub copies: BTreeMap<String, CopyTo>,
    /// `None`: verified only when somebody asks.
    pub verify: Option<Verify>,
    /// Where they differ from `rpo` and `rto`.
    pub objectives: BTreeMap<Scenario, Objective>,
    pub drills: BTreeMap<String, Drill>,
    pub data: BTreeMap<String, DataClass>,
}

/// `wal = { keep, required }`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalPolicy {
    /// `None`: as long as a kept point needs it to become consistent.
    pub keep: Option<Duration>,
    pub required: Required,
}

/// How many vaults must have a segment before `wal push` succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Required {
    #[default]
    Any,
    All,
    /// At least 1, and not more than there are vaults.
    Count(usize),
}

/// `[policies.NAME.tiers.TIER]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    pub schedule: Schedule,
    /// An IANA name such as `Europe/Copenhagen`, or `UTC`; not looked up.
    pub timezone: String,
    pub kind: Kind,
    /// At least one; all exist.
    pub vaults: Vec<String>,
    pub keep: Keep,
}

/// `[policies.NAME.copies.COPY]`: points that go from the tiers' vaults to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyTo {
    /// The vault; it exists.
    pub to: String,
    pub keep: Keep,
}

/// `[policies.NAME.verify]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verify {
    pub level: VerifyLevel,
    pub every: Duration,
}

/// A choice among words, spelled in one place.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            pub const WORDS: &[&str] = &[$($word),+];

            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl FromStr for $name {
            type Err = String;
            fn from_str(s: &str) -> Result<Self, String> {
                match s {
                    $($word => Ok($name::$variant),)+
                    _ => Err(format!("`{s}` is not one of {}", list(Self::WORDS))),
                }
            }
        }
    };
}

pub(super) use words;

words! {
    /// What a tier makes.
    Kind {
        Full = "full",
        /// Full when there is no parent.
        Incremental = "incremental",
    }
}

words! {
    /// How much a verification proves; each level includes the ones before.
    VerifyLevel {
        /// Every byte authenticated.
        L1 = "L1",
        /// Complete in structure: maps, continuity of the WAL.
        L2 = "L2",
        /// Started and recovered.
        L3 = "L3",
        /// Content checked.
        L4 = "L4",
        /// The application's own test.
        L5 = "L5",
    }
}

impl Plan {
    /// The vaults that its tiers name, each once, in the order of the tiers' names.
    pub fn tier_vaults(&self) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        for name in self.tiers.values().flat_map(|t| &t.vaults) {
            if !out.contains(name) {
                out.push(name.clone());
            }
        }
        out
    }

    /// All vaults that it names, each once: those of the tiers, then those that copies go to.
    pub fn vaults(&self) -> Vec<String> {
        let mut out = self.tier_vaults();
        for c in self.copies.values() {
            if !out.contains(&c.to) {
                out.push(c.to.clone());
            }
        }
        out
    }
}

impl Resolver<'_> {
    pub(super) fn plan(&mut self, name: &Text, w: &PlanSection) -> Option<Plan> {
        let good_name = self.name(name, "policy");
        self.not_managed_plan(w);
        let rpo = self.duration(w.rpo.as_ref());
        let rto = self.duration(w.rto.as_ref());
        let keep = self.duration(w.wal.keep.as_ref());
        let mut tiers = BTreeMap::new();
        for (tier_name, tier) in &w.tiers {
            if let Some(t) = self.tier(name.get_ref(), tier_name, tier) {
                tiers.insert(tier_name.get_ref().clone(), t);
            }
        }
        let mut copies = BTreeMap::new();
        let mut sound_copies = true;
        for (copy_name, copy) in &w.copies {
            let found = self.copy(name.get_ref(), copy_name, copy);
            sound_copies &= found.is_some();
            let enabled = self.flag(copy.enabled.as_ref()).unwrap_or(true);
            if let Some(c) = found.filter(|_| enabled) {
                copies.insert(copy_name.get_ref().clone(), c);
            }
        }
        let verify = w.verify.as_ref().and_then(|v| self.verify(name.get_ref(), v));
        let mut plan = Plan {
            rpo,
            rto,
            wal: WalPolicy { keep, required: Required::Any },
            tiers,
            copies,
            verify,
            objectives: self.objectives(&w.objectives),
            drills: self.drills(name.get_ref(), &w.drills),
            data: self.data_classes(&w.data),
        };
        let vaults = self.vaults_of(&plan).len();
        // A tier with a problem of its own leaves the number of vaults unknown.
        let sure = plan.tiers.len() == w.tiers.len()
            && !self.left_out_under(&["policies", name.get_ref()])
            && sound_copies
            && !self.left_out_under(&["policies", name.get_ref(), "tiers"])
            && !self.left_out_under(&["policies", name.get_ref(), "copies"]);
        plan.wal.required = self.required(w.wal.required.as_ref(), sure.then_some(vaults));
        good_name.map(|_| plan)
    }

    fn required(&mut self, written: Option<&Spanned<Scalar>>, vaults: Option<usize>) -> Required {
        let Some(w) = written else { return Required::Any };
        match w.get_ref() {
            Scalar::Text(t) if t == "any" => return Required::Any,
            Scalar::Text(t) if t == "all" => return Required::All,
            Scalar::Number(n @ 1..) => {
                let n = usize::try_from(*n).unwrap_or(usize::MAX);
                match vaults {
                    Some(have) if n > have => self.problem(
                        w.span(),
                        format!("{n} vaults are required for WAL, but this policy uses {have}"),
                        "Write `\"all\"`, or name more vaults in tiers and copies.",
                    ),
                    _ => return Required::Count(n),
                }
            }
            other => self.problem(
                w.span(),
                format!("`{other}` does not say how many vaults are required"),
                "Write `\"any\"`, `\"all\"` or a number from 1.",
            ),
        }
        Required::Any
    }

    fn tier(&mut self, plan: &str, name: &Text, w: &TierSection) -> Option<Tier> {
        let good_name = self.name(name, "tier");
        let path = ["policies", plan, "tiers", name.get_ref()];
        let schedule = self.schedule(&path, w.schedule.as_ref(), name.span());
        let timezone = self.timezone(w.timezone.as_ref());
        let kind = self.word(w.kind.as_ref()).unwrap_or(Kind::Incremental);
        let vaults = match &w.vaults {
            None if self.was_left_out(&path, "vaults") => None,
            None => Some(self.hot_vaults()),
            Some(v) => {
                if v.get_ref().is_empty() {
                    self.problem(
                        v.span(),
                        "this tier goes to no vault",
                        "Name at least one, or leave `vaults` out to mean all.",
                    );
                }
                let mut out: Vec<String> = Vec::new();
                for text in v.get_ref() {
                    if let Some(vault) = self.known_vault(text)
                        && !out.contains(&vault)
                    {
                        if self.cold.contains(&vault) {
                            self.problem(
                                text.span(),
                                format!(
                                    "vault `{vault}` is cold: an incremental and its checks read what earlier backups \
                                     stored there, and that takes hours"
                                ),
                                format!(
                                    "Back up to another vault, and bring points to `{vault}` by \
                                     `[policies.{plan}.copies.{vault}]`."
                                ),
                            );
                        }
                        out.push(vault);
                    }
                }
                (out.len() == v.get_ref().len()).then_some(out)
            }
        };
        if w.vaults.is_none() && self.hot_vaults().is_empty() && !self.left_out_at_top() {
            self.problem(name.span(), "there is no vault for this tier", "Add a `[vaults.local]` section.");
        }
        let keep = self.keep(w.keep.as_ref(), &path, name.span());
        good_name?;
        Some(Tier { schedule: schedule?, timezone, kind, vaults: vaults?, keep: keep? })
    }

    fn copy(&mut self, plan: &str, name: &Text, w: &CopySection) -> Option<CopyTo> {
        let good_name = self.name(name, "copy");
        let path = ["policies", plan, "copies", name.get_ref()];
        let to = match &w.to {
            None => {
                self.missing(&path, "to", name.span(), "Write the name of a vault, such as `to = \"dr\"`.");
                None
            }
            Some(t) => self.known_vault(t),
        };
        let keep = self.keep(w.keep.as_ref(), &path, name.span());
        good_name?;
        Some(CopyTo { to: to?, keep: keep? })
    }

    fn verify(&mut self, plan: &str, w: &Spanned<VerifySection>) -> Option<Verify> {
        let enabled = self.flag(w.get_ref().enabled.as_ref()).unwrap_or(true);
        let (level, every) = self.level_and_pace(plan, w);
        let out = Verify { level: level?, every: every? };
        enabled.then_some(out)
    }

    /// What native and managed verification have in common.
    pub(super) fn level_and_pace(
        &mut self,
        plan: &str,
        w: &Spanned<VerifySection>,
    ) -> (Option<VerifyLevel>, Option<Duration>) {
        let path = ["policies", plan, "verify"];
        let level = match &w.get_ref().level {
            None => {
                self.missing(&path, "level", w.span(), "Write for example `level = \"L3\"`.");
                None
            }
            level => self.word(level.as_ref()),
        };
        let every = match &w.get_ref().every {
            None => {
                self.missing(&path, "every", w.span(), "Write for example `every = \"7d\"`.");
                None
            }
            every => self.duration(every.as_ref()),
        };
        (level, every)
    }

    /// One of a few words.
    pub(super) fn word<T: FromStr<Err = String>>(&mut self, written: Option<&Text>) -> Option<T> {
        let w = written?;
        match w.get_ref().parse() {
            Ok(v) => Some(v),
            Err(message) => {
                self.problem(w.span(), message, None::<String>);
                None
            }
        }
    }
}
