//! The policy file: as it is written ([`PolicyFile`]) and as it is meant ([`Policy`]).
//!
//! One TOML file says what is protected, where backups go, how often, for how long, and how they
//! are proven. [`Policy::parse`] takes its text (somebody else reads the file; nothing here does
//! IO) and gives either a [`Policy`] in which every reference exists, every path is joined to the
//! file's folder and every default is filled in, or a [`PolicyError`] with *all* problems found,
//! each with line, column and a hint. [`NewPolicy::render`] and [`add_database`] write such files.
//!
//! Invariants of a [`Policy`], relied on everywhere else:
//! 1. the plan of every database exists, and so does every vault that a tier or copy names;
//! 2. no source, vault URL or option holds a password;
//! 3. every tier and copy keeps something (an empty `keep` would expire everything);
//! 4. names of databases, vaults, policies and tiers are usable as a folder name;
//! 5. no tier goes to a cold vault, and a cold vault is not the first of a database;
//! 6. a plan is for native databases or for managed ones, and so is every vault that it names.
//!
//! `docs/guide/policy.md` is the reference for people; keep it in step with [`mod@file`].

mod class;
mod database;
mod env;
pub mod file;
mod keep;
mod locate;
pub mod managed;
mod places;
mod plan;
mod prices;
mod problem;
mod promise;
mod resolve;
mod tuning;
mod vault;
mod write;

pub use class::StorageClass;
pub use database::{Database, Source};
pub use env::Lookup;
pub use file::PolicyFile;
pub use keep::{KEEP_UNTIL, Keep, TagRule};
pub use locate::Position;
pub(crate) use locate::nearest;
pub use managed::{ManagedDatabase, ManagedPlan, ManagedVault};
pub use places::Places;
pub use plan::{CopyTo, Kind, Plan, Required, Tier, Verify, VerifyLevel, WalPolicy};
pub use problem::{PolicyError, Problem};
pub use promise::{DataClass, Drill, Objective, Scenario, Span};
pub use tuning::Tuning;
pub use vault::{Compression, Lock, LockMode, Vault};
pub use write::{NewDatabase, NewPolicy, add_database, render_new};

use crate::id::DatabaseName;
use crate::limits::Limits;
use crate::prices::Prices;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Is told what is wrong in a table that has its own rules: where, what, and what to do.
pub(crate) type Refuse<'a> = &'a mut dyn FnMut(std::ops::Range<usize>, String, String);

/// A policy file, checked and resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The file that this was read from. Give [`Policy::parse`] an absolute path: the server runs
    /// `wal push` in its data directory, and relative paths are joined to this file's folder.
    pub origin: PathBuf,
    /// `state-dir`, if it was written; see [`Policy::state_dir`].
    pub state_dir: Option<PathBuf>,
    pub databases: BTreeMap<DatabaseName, Database>,
    /// Those that Holdfast writes.
    pub vaults: BTreeMap<String, Vault>,
    /// Those of the managed plane. No name is in both.
    pub managed_vaults: BTreeMap<String, ManagedVault>,
    /// What `[policies.NAME]` says, if it is for native databases; each of those points at one.
    pub policies: BTreeMap<String, Plan>,
    /// The same for managed databases. No name is in both.
    pub managed_plans: BTreeMap<String, ManagedPlan>,
    pub tuning: Tuning,
    /// With what `[limits]` says.
    pub limits: Limits,
    /// List prices, and what `[prices]` puts in their place.
    pub prices: Prices,
    /// Where every entry of the file stands.
    pub places: Places,
}

impl Policy {
    /// Checks and resolves `text`; `origin` is where it came from, for messages and relative paths. No
    /// variable is set: what is written as `${NAME:-default}` has its default.
    pub fn parse(text: &str, origin: &Path) -> Result<Policy, PolicyError> {
        Policy::parse_with(text, origin, &|_| None)
    }

    /// The same with variables, which `lookup` gives.
    pub fn parse_with(text: &str, origin: &Path, lookup: Lookup<'_>) -> Result<Policy, PolicyError> {
        resolve::resolve(text, origin, lookup)
    }

    /// The folder of the policy file.
    pub fn dir(&self) -> &Path {
        self.origin.parent().unwrap_or(Path::new(""))
    }

    /// Where state, spool and owner tokens live: `state-dir`, or `state` beside the policy.
    pub fn state_dir(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(|| self.dir().join("state"))
    }

    /// The plan of a native database. [`Policy::parse`] has checked that there is one; `None` only for a
    /// managed database, or a `Database` of another policy.
    pub fn plan_of(&self, database: &Database) -> Option<&Plan> {
        self.policies.get(&database.policy)
    }

    /// The plan of a managed database; `None` for a native one.
    pub fn managed_plan_of(&self, database: &Database) -> Option<&ManagedPlan> {
        self.managed_plans.get(&database.policy)
    }

    /// The vaults of a database, in the order in which they are tried.
    pub fn vaults_of<'a>(&'a self, database: &'a Database) -> impl Iterator<Item = &'a Vault> {
        database.vaults().iter().filter_map(|name| self.vaults.get(name))
    }
}

#[cfg(test)]
mod tests;
