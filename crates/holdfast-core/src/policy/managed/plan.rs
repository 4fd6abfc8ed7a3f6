//! What must hold for managed databases: [`ManagedPlan`].

use super::pattern::IdPattern;
use super::vault::VaultPlace;
use super::written::PitrSection;
use crate::managed::{DailyWindow, WeeklyWindow, WindowError};
use crate::policy::file::{CopySection, PlanSection, Scalar, Text, TierSection, VerifySection};
use crate::policy::keep::Keep;
use crate::policy::plan::VerifyLevel;
use crate::policy::promise::{DataClass, Drill, Objective, Scenario};
use crate::policy::resolve::Resolver;
use crate::schedule::Schedule;
use crate::time::Duration;
use std::collections::BTreeMap;
use std::str::FromStr;
use toml::Spanned;

/// `[policies.NAME]` that managed databases follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedPlan {
    /// Holds for deletion, corruption and loss, where no objective of that scenario is written.
    pub rpo: Option<Duration>,
    pub rto: Option<Duration>,
    pub objectives: BTreeMap<Scenario, Objective>,
    /// `None`: the provider's automated backups are left as they are.
    pub pitr: Option<Pitr>,
    pub tiers: BTreeMap<String, ManagedTier>,
    pub copies: BTreeMap<String, ManagedCopy>,
    pub verify: Option<ManagedVerify>,
    pub drills: BTreeMap<String, Drill>,
    pub data: BTreeMap<String, DataClass>,
    pub deletion_protection: bool,
    /// What the last snapshot before a deletion is called; `None`: none is made (VE11).
    pub final_snapshot: Option<IdPattern>,
    /// How long a database that was replaced stays.
    pub quarantine: Duration,
    /// How long a snapshot that somebody asked for stays; `None`: until somebody deletes it. A tag
    /// `keep-until` is stronger.
    pub manual_keep: Option<Duration>,
    /// What a restored database is called.
    pub restore_id: IdPattern,
    /// Of all that Holdfast makes for it.
    pub tags: BTreeMap<String, String>,
}

/// `[policies.NAME.pitr]`: the provider's automated backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pitr {
    pub keep: Duration,
    /// As written, in `timezone`.
    pub backup_window: Option<DailyWindow>,
    pub maintenance_window: Option<WeeklyWindow>,
    pub timezone: String,
    /// Automated backups outlive the database (not those of DocumentDB).
    pub keep_after_deletion: bool,
    pub replicate: Option<Replicate>,
}

/// `replicate = { to, keep }`: automated backups in another region, by the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicate {
    /// A vault of snapshots; it exists.
    pub to: String,
    pub keep: Duration,
}

/// `[policies.NAME.tiers.TIER]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedTier {
    pub schedule: Schedule,
    pub timezone: String,
    /// `None`: snapshots in the region and account of the database.
    pub vault: Option<String>,
    pub keep: Keep,
    /// Cold storage, which no managed database has (VE2).
    pub cold_after: Option<Duration>,
    pub snapshot_id: IdPattern,
    pub tags: BTreeMap<String, String>,
}

/// `[policies.NAME.copies.COPY]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedCopy {
    /// The vault; it exists.
    pub to: String,
    /// The tiers whose points are copied; they exist.
    pub of: Vec<String>,
    pub keep: Keep,
    pub cold_after: Option<Duration>,
    /// With the moment of the point that is copied.
    pub snapshot_id: IdPattern,
}

/// `[policies.NAME.verify]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedVerify {
    /// L3 or more: a copy is restored and connected to.
    pub level: VerifyLevel,
    pub every: Duration,
    /// Of the throwaway instance.
    pub class: Option<String>,
    /// For counting rows, following foreign keys and comparing indexes, all together.
    pub check_within: Duration,
    /// Whatever became of the run, what it made is removed after this.
    pub remove_after: Duration,
}

const FINAL_ID: &str = "{id}-final-%Y%m%d-%H%M%S";
const RESTORE_ID: &str = "{id}-restored-%Y%m%d-%H%M%S";
const TIER_ID: &str = "{id}-{tier}-%Y%m%d-%H%M%S";
const WEEK: Duration = Duration(7 * 86_400);
const DAY: Duration = Duration(86_400);
/// An hour of the smallest class costs cents, and reads some hundred gigabytes.
const CHECK_WITHIN: Duration = Duration(3_600);

impl Resolver<'_> {
    pub(in crate::policy) fn managed_plan(&mut self, name: &Text, w: &PlanSection) -> Option<ManagedPlan> {
        let good_name = self.name(name, "policy");
        let plan = name.get_ref().as_str();
        self.misplaced(
            [
                ("keep", w.wal.keep.as_ref().map(Spanned::span)),
                ("required", w.wal.required.as_ref().map(Spanned::span)),
            ],
            "of `wal` is for native databases",
            "Write `pitr = { keep = \"30d\" }`: the provider keeps the log of a managed database.",
        );
        let mut tiers = BTreeMap::new();
        for (tier, section) in &w.tiers {
            if let Some(t) = self.managed_tier(plan, tier, section) {
                tiers.insert(tier.get_ref().clone(), t);
            }
        }
        let mut copies = BTreeMap::new();
        for (copy, section) in &w.copies {
            if let Some(c) = self.managed_copy(plan, copy, section, w, &tiers) {
                copies.insert(copy.get_ref().clone(), c);
            }
        }
        let final_snapshot = match &w.final_snapshot {
            None => Some(self.pattern(None, FINAL_ID)),
            Some(f) => match f.get_ref() {
                Scalar::Flag(false) => None,
                Scalar::Flag(true) => Some(self.pattern(None, FINAL_ID)),
                Scalar::Text(t) => Some(self.pattern(Some(&Spanned::new(f.span(), t.clone())), FINAL_ID)),
                Scalar::Number(_) => {
                    self.problem(
                        f.span(),
                        "`final-snapshot` is a name",
                        format!("Write for example `{FINAL_ID}`."),
                    );
                    None
                }
            },
        };
        let out = ManagedPlan {
            rpo: self.duration(w.rpo.as_ref()),
            rto: self.duration(w.rto.as_ref()),
            objectives: self.objectives(&w.objectives),
            pitr: w.pitr.as_ref().and_then(|p| self.pitr(plan, p)),
            tiers,
            copies,
            verify: w.verify.as_ref().and_then(|v| self.managed_verify(plan, v)),
            drills: self.drills(plan, &w.drills),
            data: self.data_classes(&w.data),
            deletion_protection: self.flag(w.deletion_protection.as_ref()).unwrap_or(true),
            final_snapshot,
            quarantine: self.duration(w.quarantine.as_ref()).unwrap_or(WEEK),
            manual_keep: self.duration(w.manual_keep.as_ref()),
            restore_id: self.pattern(w.restore_id.as_ref(), RESTORE_ID),
            tags: self.tags(&w.tags),
        };
        good_name.map(|_| out)
    }

    /// Complains of everything in `w` that only policies of managed databases have.
    pub(in crate::policy) fn not_managed_plan(&mut self, w: &PlanSection) {
        const WHAT: &str = "is for policies of managed databases";
        const HINT: &str = "Take it out; a native database has `wal`, `tiers` and `copies`.";
        self.misplaced(
            [
                ("pitr", w.pitr.as_ref().map(Spanned::span)),
                ("deletion-protection", w.deletion_protection.as_ref().map(Spanned::span)),
                ("final-snapshot", w.final_snapshot.as_ref().map(Spanned::span)),
                ("quarantine", w.quarantine.as_ref().map(Spanned::span)),
                ("manual-keep", w.manual_keep.as_ref().map(Spanned::span)),
                ("restore-id", w.restore_id.as_ref().map(Spanned::span)),
                ("tags", w.tags.first_key_value().map(|(k, _)| k.span())),
            ],
            WHAT,
            HINT,
        );
        for t in w.tiers.values() {
            self.misplaced(
                [
                    ("cold-after", t.cold_after.as_ref().map(Spanned::span)),
                    ("snapshot-id", t.snapshot_id.as_ref().map(Spanned::span)),
                    ("tags", t.tags.first_key_value().map(|(k, _)| k.span())),
                ],
                WHAT,
                "Take it out; native points go to cold storage by a copy to a vault with a `storage-class`.",
            );
        }
        for c in w.copies.values() {
            self.misplaced(
                [
                    ("of", c.of.as_ref().map(Spanned::span)),
                    ("snapshot-id", c.snapshot_id.as_ref().map(Spanned::span)),
                    ("cold-after", c.cold_after.as_ref().map(Spanned::span)),
                ],
                WHAT,
                "Take it out; `keep` of a native copy chooses among all points.",
            );
        }
        if let Some(v) = &w.verify {
            self.misplaced(
                [
                    ("class", v.get_ref().class.as_ref().map(Spanned::span)),
                    ("check-within", v.get_ref().check_within.as_ref().map(Spanned::span)),
                    ("remove-after", v.get_ref().remove_after.as_ref().map(Spanned::span)),
                ],
                WHAT,
                HINT,
            );
        }
    }

    fn pitr(&mut self, plan: &str, w: &Spanned<PitrSection>) -> Option<Pitr> {
        let p = w.get_ref();
        let path = ["policies", plan, "pitr"];
        if p.keep.is_none() {
            self.missing(&path, "keep", w.span(), "Write for example `keep = \"14d\"`.");
        }
        let backup_window = self.window(p.backup_window.as_ref(), "03:00-04:00");
        let maintenance_window = self.window(p.maintenance_window.as_ref(), "sun:04:00-sun:05:00");
        let replicate = p.replicate.as_ref().and_then(|r| {
            let section = r.get_ref();
            if section.to.is_none() || section.keep.is_none() {
                self.problem(
                    r.span(),
                    "`replicate` needs `to` and `keep`",
                    "Write for example `replicate = { to = \"dr\", keep = \"14d\" }`.",
                );
            }
            let to = self.known_managed_vault(section.to.as_ref()?)?;
            if self.managed_places.get(&to).is_some_and(VaultPlace::is_aws_backup) {
                self.problem(
                    r.span(),
                    "automated backups are replicated into a region, not into a vault of AWS Backup",
                    "Name a vault `snapshots://REGION`.",
                );
            }
            Some(Replicate { to, keep: self.whole_days(section.keep.as_ref())? })
        });
        Some(Pitr {
            keep: self.whole_days(p.keep.as_ref())?,
            backup_window,
            maintenance_window,
            timezone: self.timezone(p.timezone.as_ref()),
            keep_after_deletion: self.flag(p.keep_after_deletion.as_ref()).unwrap_or(true),
            replicate,
        })
    }

    fn window<T: FromStr<Err = WindowError>>(&mut self, w: Option<&Text>, example: &str) -> Option<T> {
        let w = w?;
        match w.get_ref().parse() {
            Ok(window) => Some(window),
            Err(e) => {
                self.problem(w.span(), e.to_string(), format!("Write for example `\"{example}\"`."));
                None
            }
        }
    }

    fn managed_tier(&mut self, plan: &str, name: &Text, w: &TierSection) -> Option<ManagedTier> {
        let good_name = self.name(name, "tier");
        let path = ["policies", plan, "tiers", name.get_ref()];
        self.misplaced(
            [("kind", w.kind.as_ref().map(Spanned::span))],
            "is for native databases",
            "Take it out: every snapshot of the provider is complete, and stored by what changed.",
        );
        let schedule = self.schedule(&path, w.schedule.as_ref(), name.span());
        let timezone = self.timezone(w.timezone.as_ref());
        let vault = match w.vaults.as_ref().map(|v| (v.get_ref().as_slice(), v.span())) {
            None => None,
            Some(([one], _)) => self.known_managed_vault(one),
            Some((_, span)) => {
                self.problem(
                    span,
                    "a tier of a managed database goes to one vault",
                    format!("Name the first, and bring points to others by `[policies.{plan}.copies.NAME]`."),
                );
                None
            }
        };
        let aws_backup =
            vault.as_ref().and_then(|v| self.managed_places.get(v)).is_some_and(VaultPlace::is_aws_backup);
        if let (true, Some(at)) = (aws_backup, &w.snapshot_id) {
            self.problem(at.span(), "AWS Backup names its points itself", "Take `snapshot-id` out.");
        }
        if let (true, Some(s), Some(at)) = (aws_backup, &schedule, &w.schedule)
            && s.amazon().is_none()
        {
            self.problem(
                at.span(),
                format!("AWS Backup has no way to say `{s}`"),
                "Use a schedule that its cron knows, or let holdfast take snapshots: leave `vaults` out.",
            );
        }
        let keep = self.keep(w.keep.as_ref(), &path, name.span());
        let cold_after = self.whole_days(w.cold_after.as_ref());
        let snapshot_id = self.pattern(w.snapshot_id.as_ref(), TIER_ID);
        let tags = self.tags(&w.tags);
        good_name?;
        Some(ManagedTier { schedule: schedule?, timezone, vault, keep: keep?, cold_after, snapshot_id, tags })
    }

    fn managed_copy(
        &mut self,
        plan: &str,
        name: &Text,
        w: &CopySection,
        all: &PlanSection,
        tiers: &BTreeMap<String, ManagedTier>,
    ) -> Option<ManagedCopy> {
        let good_name = self.name(name, "copy");
        let path = ["policies", plan, "copies", name.get_ref()];
        let to = match &w.to {
            None => {
                self.missing(&path, "to", name.span(), "Write the name of a vault, such as `to = \"dr\"`.");
                None
            }
            Some(t) => self.known_managed_vault(t),
        };
        let keep = self.keep(w.keep.as_ref(), &path, name.span());
        let cold_after = self.whole_days(w.cold_after.as_ref());
        let known: Vec<&str> = all.tiers.keys().map(|k| k.get_ref().as_str()).collect();
        let of: Vec<String> = match &w.of {
            None => known.iter().map(|k| k.to_string()).collect(),
            Some(list) => {
                if list.get_ref().is_empty() {
                    self.problem(
                        list.span(),
                        "this copies no tier",
                        "Name one, or leave `of` out to mean all.",
                    );
                }
                let named: Vec<_> =
                    list.get_ref().iter().map(|t| self.word_of(t, "a tier of this policy", &known)).collect();
                named.into_iter().flatten().map(str::to_string).collect()
            }
        };
        if known.is_empty() {
            self.problem(
                name.span(),
                "there is nothing to copy",
                format!("Add a `[policies.{plan}.tiers.daily]` section."),
            );
        }
        let enabled = self.flag(w.enabled.as_ref()).unwrap_or(true);
        let target = to.as_ref().and_then(|v| self.managed_places.get(v)).map(VaultPlace::is_aws_backup);
        for tier in of.iter().filter_map(|t| tiers.get(t).map(|v| (t, v))) {
            let from = tier.1.vault.as_ref().and_then(|v| self.managed_places.get(v));
            let from = from.is_some_and(VaultPlace::is_aws_backup);
            if target.is_some_and(|t| t != from) {
                let (a, b) = if from { ("AWS Backup", "snapshots") } else { ("snapshots", "AWS Backup") };
                self.problem(
                    name.span(),
                    format!("tier `{}` is kept by {a} and cannot be copied to a vault of {b}", tier.0),
                    "AWS Backup copies between its own vaults, snapshots are copied to snapshots: give the tier a vault of \
                     the same kind as the copy's.",
                );
            }
        }
        good_name?;
        if let (Some(true), Some(at)) = (target, &w.snapshot_id) {
            self.problem(at.span(), "AWS Backup names its points itself", "Take `snapshot-id` out.");
        }
        let snapshot_id = self.pattern(w.snapshot_id.as_ref(), TIER_ID);
        let copy = ManagedCopy { to: to?, of, keep: keep?, cold_after, snapshot_id };
        enabled.then_some(copy)
    }

    fn managed_verify(&mut self, plan: &str, w: &Spanned<VerifySection>) -> Option<ManagedVerify> {
        let v = w.get_ref();
        let enabled = self.flag(v.enabled.as_ref()).unwrap_or(true);
        let (level, every) = self.level_and_pace(plan, w);
        if let (Some(l @ (VerifyLevel::L1 | VerifyLevel::L2)), Some(at)) = (level, &v.level) {
            self.problem(
                at.span(),
                format!(
                    "`{l}` says nothing of a managed database: holdfast cannot read what the provider stores"
                ),
                "Write `L3` (restored and connected to) or `L4` (content checked).",
            );
        }
        // What is promised and not done would look like it was.
        if let (Some(VerifyLevel::L5), Some(at)) = (level, &v.level) {
            self.problem(
                at.span(),
                "`L5`, the application's own test, is not run for managed databases",
                "Write `L4` (content checked), and the application's questions as [databases.NAME.checks].",
            );
        }
        let class = self.class(v.class.as_ref());
        let remove_after = self.duration(v.remove_after.as_ref()).unwrap_or(DAY);
        let check_within = self.duration(v.check_within.as_ref()).unwrap_or(CHECK_WITHIN.min(remove_after));
        if let Some(at) = v.check_within.as_ref().filter(|_| check_within > remove_after) {
            self.problem(
                at.span(),
                format!("the copy is removed after {remove_after}, and its content is looked at for {check_within}"),
                "Write a longer `remove-after`: the restore needs its time, too.",
            );
        }
        let out = ManagedVerify { level: level?, every: every?, class, check_within, remove_after };
        enabled.then_some(out)
    }
}
