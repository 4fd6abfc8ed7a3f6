//! Jobs of AWS Backup: backup, copy and restore, in every state.

use super::Operation;
use super::error::Result;
use super::recovery_point::{CreatedBy, Lifecycle};
use super::source::{Engine, Region};
use super::tags::Tags;
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),* } done: $($done:ident)|*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name {
            $($variant,)*
            Other(String),
        }

        impl $name {
            /// Of AWS's word.
            pub fn of(text: &str) -> Self {
                match text {
                    $($text => $name::$variant,)*
                    other => $name::Other(other.to_string()),
                }
            }

            /// True when it will not change any more, well or badly.
            pub fn is_final(&self) -> bool {
                matches!(self, $($name::$done)|*)
            }

            /// True only when all of it worked.
            pub fn is_success(&self) -> bool {
                *self == $name::Completed
            }
        }
    };
}

states! {
    /// Of a backup job. `Expired`: it could not start in its window. `Partial` is no success.
    BackupJobState {
        Created = "CREATED", Pending = "PENDING", Running = "RUNNING", Aborting = "ABORTING", Aborted = "ABORTED",
        Completed = "COMPLETED", Failed = "FAILED", Expired = "EXPIRED", Partial = "PARTIAL"
    }
    done: Aborted | Completed | Failed | Expired | Partial
}
states! {
    /// Of a copy job.
    CopyJobState {
        Created = "CREATED", Running = "RUNNING", Completed = "COMPLETED", Failed = "FAILED", Partial = "PARTIAL"
    }
    done: Completed | Failed | Partial
}
states! {
    /// Of a restore job.
    RestoreJobState {
        Pending = "PENDING", Running = "RUNNING", Completed = "COMPLETED", Aborted = "ABORTED", Failed = "FAILED"
    }
    done: Completed | Aborted | Failed
}

/// A backup job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupJob {
    pub region: Region,
    pub id: String,
    pub state: BackupJobState,
    /// Also of completed jobs: `completed with issues` says why here.
    pub message: Option<String>,
    /// 0 to 100.
    pub percent: Option<f64>,
    pub vault: String,
    pub resource_arn: String,
    pub point_arn: Option<String>,
    pub created: Timestamp,
    pub completed: Option<Timestamp>,
    pub expected: Option<Timestamp>,
    pub size_bytes: Option<u64>,
    pub created_by: Option<CreatedBy>,
}

/// A copy job. Its region is the source's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyJob {
    pub region: Region,
    pub id: String,
    pub state: CopyJobState,
    pub message: Option<String>,
    pub from_point_arn: String,
    pub to_vault_arn: String,
    pub to_point_arn: Option<String>,
    pub resource_arn: String,
    pub created: Timestamp,
    pub completed: Option<Timestamp>,
    pub size_bytes: Option<u64>,
    pub created_by: Option<CreatedBy>,
}

/// A restore job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreJob {
    pub region: Region,
    pub id: String,
    pub state: RestoreJobState,
    pub message: Option<String>,
    /// 0 to 100.
    pub percent: Option<f64>,
    pub point_arn: String,
    /// ARN of the instance or cluster, once there is one.
    pub created_resource: Option<String>,
    pub created: Timestamp,
    pub completed: Option<Timestamp>,
    /// Minutes.
    pub expected_minutes: Option<u32>,
}

/// A backup to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewBackupJob {
    pub region: Region,
    pub vault: String,
    pub resource_arn: String,
    /// The role under which AWS Backup works.
    pub role_arn: String,
    pub lifecycle: Lifecycle,
    /// Minutes, at least 60.
    pub start_window: Option<u32>,
    /// Minutes.
    pub complete_window: Option<u32>,
    /// Tags of the recovery point.
    pub tags: Tags,
}

/// A copy to be started, in the region of its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewCopyJob {
    pub region: Region,
    pub from_vault: String,
    pub point_arn: String,
    /// `arn:aws:backup:REGION:ACCOUNT:backup-vault:NAME`.
    pub to_vault_arn: String,
    pub role_arn: String,
    pub lifecycle: Lifecycle,
}

/// A restore to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRestoreJob {
    pub region: Region,
    pub engine: Engine,
    pub point_arn: String,
    pub role_arn: String,
    /// From [`restore_metadata`](super::restore_metadata).
    pub metadata: BTreeMap<String, String>,
    pub copy_tags: bool,
}

/// Which jobs of a listing. Without a time AWS goes back 30 days.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFilter {
    pub resource_arn: Option<String>,
    pub created_after: Option<Timestamp>,
}

/// Jobs. The operation is the idempotency token: a job started twice is one job.
#[async_trait]
pub trait BackupJobs: Send + Sync {
    async fn start_backup(&self, new: &NewBackupJob, op: &Operation) -> Result<BackupJob>;
    async fn backup_job(&self, region: &Region, id: &str) -> Result<BackupJob>;
    async fn backup_jobs(&self, region: &Region, filter: &JobFilter) -> Result<Vec<BackupJob>>;
    /// Stops a backup that runs. Over already is success.
    async fn stop_backup(&self, region: &Region, id: &str) -> Result<()>;

    async fn start_copy(&self, new: &NewCopyJob, op: &Operation) -> Result<CopyJob>;
    async fn copy_job(&self, region: &Region, id: &str) -> Result<CopyJob>;
    async fn copy_jobs(&self, region: &Region, filter: &JobFilter) -> Result<Vec<CopyJob>>;

    async fn start_restore(&self, new: &NewRestoreJob, op: &Operation) -> Result<RestoreJob>;
    async fn restore_job(&self, region: &Region, id: &str) -> Result<RestoreJob>;
    async fn restore_jobs(&self, region: &Region, filter: &JobFilter) -> Result<Vec<RestoreJob>>;
}
