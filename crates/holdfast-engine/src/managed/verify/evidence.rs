//! What a verification found: kept in its operation's record, and printed.

use super::super::restore::steps::Phase;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How far it was shown to work. L0 and L1 of the native plane are the provider's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Level {
    /// The provider restored it and says that it is available.
    L2,
    /// It accepts connections: a session in every database (DocumentDB: a TCP connection, no more).
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

/// Of one database of a server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DatabaseEvidence {
    pub name: String,
    /// Rows of each table, counted one by one; the statistics of a server say nothing about a copy.
    pub tables: Vec<TableCount>,
    /// Foreign keys that exist; `not valid` ones among them; those of which every row was compared.
    pub foreign_keys: u64,
    pub foreign_keys_not_valid: u64,
    pub foreign_keys_checked: u64,
    pub indexes: u64,
    /// By amcheck.
    pub indexes_checked: u64,
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
    pub asked: Vec<Asked>,
    /// What is not as it should be: one of them, and L4 is not reached.
    pub faults: Vec<String>,
    /// What was not looked at, or is worth knowing.
    pub notes: Vec<String>,
}

/// What has been reached so far; in the record, and the base of the report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// `None`: not even restored.
    pub level: Option<Level>,
    pub evidence: Evidence,
    pub restore_seconds: Option<f64>,
    pub connect_seconds: Option<f64>,
    pub check_seconds: Option<f64>,
    /// Why it ended early.
    pub stopped: Option<String>,
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
    pub passed: bool,
    #[serde(flatten)]
    pub outcome: Outcome,
    pub phases: Vec<Phase>,
    /// Whether the snapshot says now when it was verified.
    pub noted: bool,
    /// From the first call until everything was removed again.
    pub seconds: f64,
}
