//! What a verification found: kept in its operation's record, and printed.
//!
//! [`newest`] reads it back: what was shown to work, and how long that took.

use super::super::journal::{Ended, Journal, Outline};
use super::super::restore::{self, origin::Origin, steps::Phase};
use crate::error::Result;
use holdfast_core::managed::Region;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How far it was shown to work. L0 and L1 of the native plane are the provider's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Level {
    /// The provider restored it and says that it is available.
    L2,
    /// It accepts connections: a session in every database (DocumentDB: a login and a command).
    L3,
    /// That, and every check of its content holds.
    #[default]
    L4,
}

impl Level {
    pub fn word(self) -> &'static str {
        match self {
            Level::L2 => "L2",
            Level::L3 => "L3",
            Level::L4 => "L4",
        }
    }
}

/// So many were looked at, of so many that there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub looked_at: u64,
    pub of: u64,
}

impl Share {
    fn add(&mut self, other: Share) {
        self.looked_at += other.looked_at;
        self.of += other.of;
    }

    /// One more that there is.
    pub fn count(&mut self, weight: u64, looked_at: bool) {
        self.of += weight;
        self.looked_at += if looked_at { weight } else { 0 };
    }

    pub fn is_whole(self) -> bool {
        self.looked_at >= self.of
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.looked_at, self.of)
    }
}

/// How much of the content was looked at. L4 is all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Coverage {
    /// Tables whose rows were counted, or collections whose documents were.
    pub tables: Share,
    /// What those tables have on disk; of what was not counted, as the catalog has it. DocumentDB: not asked.
    pub bytes: Share,
    /// Followed, of those that are validated.
    pub foreign_keys: Share,
    /// B-tree indexes that amcheck compared with their table. DocumentDB: nothing compares them.
    pub indexes: Share,
}

impl Coverage {
    fn add(&mut self, other: Coverage) {
        self.tables.add(other.tables);
        self.bytes.add(other.bytes);
        self.foreign_keys.add(other.foreign_keys);
        self.indexes.add(other.indexes);
    }

    /// What is not whole, in figures.
    pub fn lacks(&self) -> Option<String> {
        let parts = [
            (self.tables, "tables or collections"),
            (self.foreign_keys, "foreign keys"),
            (self.indexes, "indexes"),
        ];
        let open: Vec<String> =
            parts.iter().filter(|(s, _)| !s.is_whole()).map(|(s, what)| format!("{s} {what}")).collect();
        (!open.is_empty()).then(|| open.join(", "))
    }
}

/// Of one database of a server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DatabaseEvidence {
    pub name: String,
    /// Rows of each table, counted one by one; the statistics of a server say nothing about a copy.
    pub tables: Vec<TableCount>,
    /// Foreign keys that exist, and `not valid` ones among them.
    pub foreign_keys: u64,
    pub foreign_keys_not_valid: u64,
    pub indexes: u64,
    #[serde(default)]
    pub coverage: Coverage,
}

impl DatabaseEvidence {
    pub fn rows(&self) -> u64 {
        self.tables.iter().filter_map(|t| t.rows).sum()
    }
}

/// A table, with its schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableCount {
    pub table: String,
    /// `None`: the time was up.
    pub rows: Option<u64>,
}

/// An assertion or a freshness that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub name: String,
    pub holds: bool,
    /// What was found.
    pub found: String,
}

/// Everything that was found in the copy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub server_version: Option<String>,
    pub databases: Vec<DatabaseEvidence>,
    /// Of all of them together.
    #[serde(default)]
    pub coverage: Coverage,
    pub asked: Vec<Asked>,
    /// What is not as it should be: one of them, and L4 is not reached.
    pub faults: Vec<String>,
    /// What was not looked at, or is worth knowing.
    pub notes: Vec<String>,
}

impl Evidence {
    /// One more database was looked at.
    pub fn push(&mut self, found: DatabaseEvidence) {
        self.coverage.add(found.coverage);
        self.databases.push(found);
    }
}

/// What has been reached so far; in the record, and the base of the report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// `None`: not even restored.
    pub level: Option<Level>,
    pub evidence: Evidence,
    /// L4 was wanted, and not all of the content was looked at: what, in figures. That is no fault of the backup, and no
    /// L4 either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
    pub restore_seconds: Option<f64>,
    pub connect_seconds: Option<f64>,
    pub check_seconds: Option<f64>,
    /// Why it ended early.
    pub stopped: Option<String>,
}

impl Outcome {
    /// After the content was looked at: L4, if nothing is wrong and nothing was left out.
    pub(super) fn judge(&mut self) {
        if !self.evidence.faults.is_empty() {
            return;
        }
        match self.evidence.coverage.lacks() {
            None => self.level = Some(Level::L4),
            lacks => self.incomplete = lacks,
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub operation: String,
    /// True if an earlier, killed run had begun it.
    pub resumed: bool,
    pub database: String,
    /// What was restored, in words, and the moment that it shows.
    pub from: String,
    pub moment: Option<Timestamp>,
    pub wanted: Level,
    /// Nothing speaks against the backup, as far as [`Outcome::level`]; that may be less than what was wanted.
    pub passed: bool,
    #[serde(flatten)]
    pub outcome: Outcome,
    pub phases: Vec<Phase>,
    /// Whether the snapshot says now when it was verified.
    pub noted: bool,
    /// From the first call until everything was removed again.
    pub seconds: f64,
}

/// What one verification showed, from its record: [`newest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    pub operation: String,
    /// ARN of the snapshot or recovery point that was restored. `None`: a moment of the source.
    pub what: Option<String>,
    /// The same in words.
    pub from: String,
    /// Where it was restored.
    pub region: Region,
    /// What the data showed.
    pub moment: Option<Timestamp>,
    /// When it ended.
    pub at: Timestamp,
    /// How far it came; `None`: it was not even restored.
    pub level: Option<Level>,
    pub wanted: Level,
    pub passed: bool,
    /// From the first call until the provider said that it is available. Seconds.
    pub restored_seconds: Option<f64>,
    /// The same, and until a session was open and its content had been checked.
    pub usable_seconds: Option<f64>,
    /// Until everything was removed again.
    pub total_seconds: f64,
    /// A killed run had begun it: the seconds hold time in which nobody worked on it, and say nothing.
    pub resumed: bool,
    /// Class of the copy's instance, which may be smaller than what a recovery would take.
    pub class: Option<String>,
}

/// All verifications of a database that have ended with a verdict, the newest first.
///
/// # Errors
/// The journal cannot be read. A record of another shape, as another version may have left, shows nothing.
pub fn newest(journal: &Journal, database: &str) -> Result<Vec<Verified>> {
    let mut all: Vec<Verified> =
        journal.ended(super::VERB, database)?.into_iter().filter_map(verified).collect();
    all.sort_by_key(|v| std::cmp::Reverse(v.at));
    Ok(all)
}

fn verified(record: Outline) -> Option<Verified> {
    // Cancelled: nothing was shown, one way or the other.
    if matches!(record.ended, None | Some(Ended::RolledBack(_))) {
        return None;
    }
    let part = |path: &str| record.state.pointer(path).cloned();
    let report: Report = serde_json::from_value(part("/report")?).ok()?;
    let plan: restore::Plan = serde_json::from_value(part("/plan/restore")?).ok()?;
    let outcome = &report.outcome;
    let usable = [outcome.connect_seconds, outcome.check_seconds].into_iter().flatten().sum::<f64>();
    let connected = outcome.level.is_some_and(|l| l >= Level::L3);
    Some(Verified {
        operation: record.id,
        what: plan.snapshot_arn.or(match plan.origin {
            Origin::RecoveryPoint { arn, .. } => Some(arn),
            Origin::Provider { .. } => None,
        }),
        from: report.from,
        region: plan.target.source.region,
        moment: report.moment,
        at: record.updated,
        level: outcome.level,
        wanted: report.wanted,
        passed: report.passed,
        restored_seconds: outcome.restore_seconds,
        usable_seconds: outcome.restore_seconds.filter(|_| connected).map(|s| s + usable),
        total_seconds: report.seconds,
        resumed: report.resumed,
        class: plan.instances.first().map(|i| i.class.clone()).or(plan.target.class),
    })
}
