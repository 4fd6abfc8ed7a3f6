//! The managed plane's port: what Holdfast asks of Amazon's managed databases, without Amazon's SDK.
//!
//! A [`Source`] is an RDS instance, an Aurora cluster or a DocumentDB cluster in a region. A [`Cloud`] is one
//! account as one identity sees it; its traits are grouped by noun:
//!
//! | trait | noun |
//! |---|---|
//! | [`Databases`] | instances and clusters: describe, list, modify, rename, tag, delete, instances of clusters |
//! | [`Snapshots`] | manual and automated snapshots: create, describe, list, copy, share, delete |
//! | [`AutomatedBackups`] | restorable windows, retained and replicated automated backups |
//! | [`Restores`] | a new database from a snapshot, a second, or what is left of a deleted source |
//! | [`BackupVaults`], [`BackupPlans`], [`RecoveryPoints`], [`BackupJobs`] | AWS Backup |
//! | [`Proxies`], [`Networks`], [`Secrets`], [`Dns`] | what a verification or a cutover touches |
//! | [`Keys`], [`Account`] | keys, quotas, who we are |
//! | [`Surveys`] | everything in several regions at once, failures kept per region |
//!
//! **Nothing here waits.** Every call is one request, or the pages of one listing: states are polled by whoever
//! holds the state machine, with progress and a deadline. Every list goes to its last page.
//!
//! **An operation started twice is one operation.** Whatever creates something takes its name from the caller and
//! an [`Operation`], whose name goes on the resource as the tag [`tags::OPERATION`] (AWS Backup: into the
//! idempotency token). A name that is taken by the caller's own operation is adopted: the call returns what is
//! there. Taken by anything else it is [`ErrorKind::AlreadyExists`]. So after a crash, or after a reply that
//! never came, the same call is simply made again.
//!
//! **Not there yet** is not "not there": AWS may deny for some seconds that what it has just created exists. A
//! describe of something that this process created a moment ago is repeated for [`GRACE`] before it says
//! [`ErrorKind::NotFound`]. A process that resumes makes its creating call again, and so begins the grace anew.
//!
//! **Whatever changes something** goes to the [`ChangeLog`] before it is sent and after its outcome is known.
//!
//! The provider's rules (windows, limits, what needs a key) are not here but in the checks that run before any call.

mod account;
mod automated;
mod backup_job;
mod backup_plan;
mod backup_vault;
mod change;
mod database;
mod dns;
mod documents;
mod error;
pub mod iam;
mod key;
mod metadata;
mod network;
mod proxy;
mod recovery_point;
mod restore;
mod secret;
mod snapshot;
mod source;
mod status;
mod survey;
pub mod tags;
mod window;

pub use account::{Account, Identity, Quota};
pub use automated::{AutomatedBackup, AutomatedBackups, AutomatedKind, Replication};
pub use backup_job::{
    BackupJob, BackupJobState, BackupJobs, CopyJob, CopyJobState, JobFilter, NewBackupJob, NewCopyJob,
    NewRestoreJob, RestoreJob, RestoreJobState,
};
pub use backup_plan::{
    BackupPlan, BackupPlans, BackupRule, CopyAction, PlanContent, Selection, SelectionContent,
};
pub use backup_vault::{BackupVault, BackupVaults, LockMode, LockRequest, NewVault, VaultKind, VaultLock};
pub use change::{Change, ChangeLog, Outcome};
pub use database::{
    BackupSettings, Database, Databases, Deletion, Endpoint, FinalSnapshot, Instance, Member, Modification,
    NewInstance, Scaling, Storage,
};
pub use dns::{Dns, DnsChange, DnsRecord};
pub use documents::{DocumentError, DocumentLogin, DocumentServers, Documents, NewestDocument};
pub use error::{About, ErrorKind, ManagedError, Result};
pub use key::{KeyState, Keys, KmsKey};
pub use metadata::restore_metadata;
pub use network::{Networks, NewSecurityGroup, Peer, SecurityGroup};
pub use proxy::{Proxies, ProxyTarget, TargetHealth};
pub use recovery_point::{CreatedBy, Lifecycle, PointFilter, PointStatus, RecoveryPoint, RecoveryPoints};
pub use restore::{Moment, RestoreFrom, RestoreTarget, Restores};
pub use secret::{SecretFacts, SecretValue, Secrets};
pub use snapshot::{
    NewSnapshot, Snapshot, SnapshotCopy, SnapshotFilter, SnapshotKind, SnapshotRef, Snapshots,
};
pub use source::{Engine, Region, Source, SourceError};
pub use status::Status;
pub use survey::{RegionSurvey, SurveyScope, Surveys};
pub use tags::Tags;
pub use window::{DailyWindow, RestorableWindow, WeeklyWindow, WindowError, offsets};

/// For how long AWS may deny that what it has just created exists.
pub const GRACE: std::time::Duration = std::time::Duration::from_secs(30);

/// One account as one identity sees it.
///
/// Made by `holdfast-aws`; engine and server hold it as `Arc<dyn Cloud>`.
pub trait Cloud:
    Account
    + AutomatedBackups
    + BackupJobs
    + BackupPlans
    + BackupVaults
    + Databases
    + Dns
    + Keys
    + Networks
    + Proxies
    + RecoveryPoints
    + Restores
    + Secrets
    + Snapshots
    + Surveys
    + std::fmt::Debug
{
}

impl<T> Cloud for T where
    T: Account
        + AutomatedBackups
        + BackupJobs
        + BackupPlans
        + BackupVaults
        + Databases
        + Dns
        + Keys
        + Networks
        + Proxies
        + RecoveryPoints
        + Restores
        + Secrets
        + Snapshots
        + Surveys
        + std::fmt::Debug
{
}

/// The name of an operation: chosen by whoever starts it, the same whenever it is started again.
///
/// It becomes a tag and an idempotency token, so it holds letters, digits, `-`, `_`, `.`, `:` and `/` only, and
/// at most 120 of them. `20261121T093512Z-k3f9q2/copy/eu-west-1` is a good one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Operation(String);

impl Operation {
    pub fn new(name: impl Into<String>) -> Result<Self, crate::id::IdError> {
        let value = name.into();
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/');
        if (1..=120).contains(&value.len()) && value.bytes().all(fits) {
            return Ok(Operation(value));
        }
        Err(crate::id::IdError {
            what: "operation name",
            value,
            rule: "use up to 120 letters, digits, `-`, `_`, `.`, `:` and `/`",
        })
    }

    /// The operation of one step: `self/step`.
    pub fn step(&self, step: &str) -> Result<Self, crate::id::IdError> {
        Operation::new(format!("{}/{step}", self.0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Operation> for String {
    fn from(v: Operation) -> String {
        v.0
    }
}

impl TryFrom<String> for Operation {
    type Error = crate::id::IdError;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        Operation::new(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_fit_for_tags_and_tokens() {
        let op = Operation::new("20261121T093512Z-k3f9q2").unwrap();
        assert_eq!(op.step("copy/eu-west-1").unwrap().as_str(), "20261121T093512Z-k3f9q2/copy/eu-west-1");
        assert!(Operation::new("").is_err());
        assert!(Operation::new("two words").is_err());
        assert!(Operation::new("x".repeat(121)).is_err());
    }
}
