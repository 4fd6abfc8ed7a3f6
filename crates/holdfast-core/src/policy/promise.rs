//! What a policy promises beside its backups: objectives per scenario, drills, and how long data must and
//! may be kept. The same for native and managed databases.

use super::file::{Named, Scalar, Text, list};
use super::locate::nearest;
use super::managed::written::{DataSection, DrillSection, ObjectiveSection, ObjectivesSection};
use super::plan::words;
use super::resolve::Resolver;
use crate::schedule::Schedule;
use crate::time::Duration;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use toml::Spanned;

words! {
    /// What happened, as `holdfast recover` asks for it.
    Scenario {
        /// Rows or tables were deleted; the database runs.
        Deletion = "deletion",
        /// The content is wrong or unreadable; the database is there.
        Corruption = "corruption",
        /// The instance or cluster is gone, its automated backups with it unless they were kept.
        Loss = "loss",
        /// The region cannot be reached.
        Region = "region",
        /// Somebody with the rights of an administrator deleted what could be deleted.
        Malicious = "malicious",
    }
}

impl Scenario {
    pub const ALL: [Scenario; 5] =
        [Scenario::Deletion, Scenario::Corruption, Scenario::Loss, Scenario::Region, Scenario::Malicious];
}

/// `[policies.NAME.objectives.SCENARIO]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Objective {
    pub rpo: Option<Duration>,
    pub rto: Option<Duration>,
}

/// `[policies.NAME.drills.DRILL]`: a recovery that is rehearsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drill {
    pub scenario: Scenario,
    pub schedule: Schedule,
    pub timezone: String,
    /// Who does it; for people.
    pub owner: Option<String>,
}

/// `[policies.NAME.data.CLASS]`: what the law or a contract says about a kind of data in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataClass {
    /// It must be there for so long.
    pub keep: Option<Span>,
    /// When somebody asks, it must be gone from backups too within this.
    pub erase_within: Option<Duration>,
    /// The longer life in backups is documented, told to users, and erasures are repeated after a restore.
    pub documented: bool,
}

/// A span that may have no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    For(Duration),
    Forever,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Span::For(d) => d.fmt(f),
            Span::Forever => f.write_str("forever"),
        }
    }
}

/// `7y`: up to a century, of 365 days each.
fn years(w: &Scalar) -> Option<Duration> {
    let Scalar::Text(t) = w else { return None };
    let n: u64 = t.strip_suffix('y')?.parse().ok()?;
    (1..=100).contains(&n).then_some(Duration(n * 365 * 86_400))
}

impl Resolver<'_> {
    pub(super) fn objectives(&mut self, w: &ObjectivesSection) -> BTreeMap<Scenario, Objective> {
        let written: [(Scenario, &Option<ObjectiveSection>); 5] = [
            (Scenario::Deletion, &w.deletion),
            (Scenario::Corruption, &w.corruption),
            (Scenario::Loss, &w.loss),
            (Scenario::Region, &w.region),
            (Scenario::Malicious, &w.malicious),
        ];
        let mut out = BTreeMap::new();
        for (scenario, section) in written {
            if let Some(s) = section {
                let o = Objective { rpo: self.duration(s.rpo.as_ref()), rto: self.duration(s.rto.as_ref()) };
                out.insert(scenario, o);
            }
        }
        out
    }

    pub(super) fn drills(&mut self, plan: &str, w: &Named<DrillSection>) -> BTreeMap<String, Drill> {
        let mut out = BTreeMap::new();
        for (name, d) in w {
            let path = ["policies", plan, "drills", name.get_ref()];
            let good_name = self.name(name, "drill");
            const WHAT: &str = "Write `deletion`, `corruption`, `loss`, `region` or `malicious`.";
            if d.scenario.is_none() {
                self.missing(&path, "scenario", name.span(), WHAT);
            }
            let scenario = self.word(d.scenario.as_ref());
            let schedule = self.schedule(&path, d.schedule.as_ref(), name.span());
            let timezone = self.timezone(d.timezone.as_ref());
            let owner = d.owner.as_ref().map(|o| o.get_ref().clone());
            if let (Some(name), Some(scenario), Some(schedule)) = (good_name, scenario, schedule) {
                out.insert(name, Drill { scenario, schedule, timezone, owner });
            }
        }
        out
    }

    pub(super) fn data_classes(&mut self, w: &Named<DataSection>) -> BTreeMap<String, DataClass> {
        let mut out = BTreeMap::new();
        for (name, d) in w {
            let good_name = self.name(name, "data class");
            let keep = match &d.keep {
                Some(k) if matches!(k.get_ref(), Scalar::Text(t) if t == "forever") => Some(Span::Forever),
                // Laws count in years.
                Some(k) if years(k.get_ref()).is_some() => years(k.get_ref()).map(Span::For),
                k => self.duration(k.as_ref()).map(Span::For),
            };
            let class = DataClass {
                keep,
                erase_within: self.duration(d.erase_within.as_ref()),
                documented: self.flag(d.documented.as_ref()).unwrap_or(false),
            };
            if let Some(n) = good_name {
                out.insert(n, class);
            }
        }
        out
    }

    /// `true` or `false`, also as text, because a variable is text.
    pub(super) fn flag(&mut self, written: Option<&Spanned<Scalar>>) -> Option<bool> {
        let w = written?;
        match w.get_ref() {
            Scalar::Flag(b) => Some(*b),
            Scalar::Text(t) if t == "true" => Some(true),
            Scalar::Text(t) if t == "false" => Some(false),
            other => {
                self.problem(
                    w.span(),
                    format!("`{other}` is neither true nor false"),
                    "Write `true` or `false`.",
                );
                None
            }
        }
    }

    pub(super) fn schedule(
        &mut self,
        path: &[&str],
        written: Option<&Text>,
        at: std::ops::Range<usize>,
    ) -> Option<Schedule> {
        match written.map(|w| (w.get_ref().parse::<Schedule>(), w.span())) {
            None => {
                self.missing(
                    path,
                    "schedule",
                    at,
                    "Write minute, hour, day of month, month and day of week, such as `\"0 3 * * *\"`, or \
                     `\"first sunday 02:00\"`.",
                );
                None
            }
            Some((Ok(s), _)) => Some(s),
            Some((Err(e), span)) => {
                self.problem(span, e.message, e.hint);
                None
            }
        }
    }

    /// The name of a zone; whether this host knows it is asked when it is used.
    pub(super) fn timezone(&mut self, written: Option<&Text>) -> String {
        let Some(z) = written else { return "UTC".to_string() };
        let zone = z.get_ref();
        let looks = zone.starts_with(|c: char| c.is_ascii_alphabetic())
            && zone.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_+-".contains(&b));
        if !looks {
            let message = format!("`{zone}` is not a time zone");
            self.problem(z.span(), message, "Write `UTC` or a name such as `Europe/Copenhagen`.");
        }
        zone.clone()
    }

    /// One of a few words; a near one is suggested.
    pub(super) fn word_of<'w>(&mut self, w: &Text, what: &str, known: &'w [&'w str]) -> Option<&'w str> {
        if let Some(found) = known.iter().find(|k| *k == w.get_ref()) {
            return Some(found);
        }
        let hint = match nearest(w.get_ref(), known.iter().copied()) {
            Some(k) => format!("Did you mean `{k}`?"),
            None => format!("There is {}.", list(known)),
        };
        self.problem(w.span(), format!("`{}` is not {what}", w.get_ref()), hint);
        None
    }
}
