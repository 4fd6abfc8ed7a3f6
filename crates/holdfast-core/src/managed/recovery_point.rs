//! Recovery points of AWS Backup: [`RecoveryPoint`], [`RecoveryPoints`].

use super::error::Result;
use super::source::{Engine, Region};
use super::tags::Tags;
use super::window::RestorableWindow;
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What happens to a point by itself, in days since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// RDS, Aurora and DocumentDB have no cold tier: AWS ignores it there, Holdfast refuses it (VE2).
    pub cold_after_days: Option<u32>,
    /// `None` = kept for ever.
    pub delete_after_days: Option<u32>,
}

/// The state of a recovery point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PointStatus {
    Creating,
    Completed,
    /// Of a continuous point: it works.
    Available,
    /// Parts are missing: not a success.
    Partial,
    Deleting,
    /// Its time is over, but AWS could not remove it.
    Expired,
    /// Of a continuous point: the source no longer feeds it.
    Stopped,
    Other(String),
}

impl PointStatus {
    /// True if it can be restored.
    pub fn is_restorable(&self) -> bool {
        matches!(self, PointStatus::Completed | PointStatus::Available | PointStatus::Stopped)
    }
}

/// The plan and rule that made a point or a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedBy {
    pub plan_id: String,
    pub rule_id: Option<String>,
    /// As they were called when it was made.
    #[serde(default)]
    pub plan_name: Option<String>,
    #[serde(default)]
    pub rule_name: Option<String>,
}

/// A recovery point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryPoint {
    pub region: Region,
    pub vault: String,
    pub arn: String,
    /// The vault it was copied from.
    pub copied_from_vault: Option<String>,
    /// ARN of what was backed up; it may be gone.
    pub resource_arn: String,
    pub engine: Engine,
    /// Identifier of the source when the point was made, from its name or ARN.
    pub resource_id: Option<String>,
    pub status: PointStatus,
    pub status_message: Option<String>,
    pub created: Timestamp,
    pub completed: Option<Timestamp>,
    pub size_bytes: Option<u64>,
    pub lifecycle: Lifecycle,
    /// When AWS will delete it.
    pub delete_at: Option<Timestamp>,
    pub encrypted: bool,
    pub key: Option<String>,
    /// A continuous point: restorable to any second of [`window`](Self::window).
    pub continuous: bool,
    /// Only from [`RecoveryPoints::recovery_point`], for continuous points of RDS instances and Aurora clusters.
    pub window: Option<RestorableWindow>,
    pub created_by: Option<CreatedBy>,
    pub last_restored: Option<Timestamp>,
    /// Only from [`RecoveryPoints::recovery_point`]; lists do not carry them.
    pub tags: Option<Tags>,
}

impl RecoveryPoint {
    /// The snapshot's identifier, if the point is one: AWS Backup names points of RDS and DocumentDB by the ARN of
    /// their snapshot.
    pub fn snapshot_id(&self) -> Option<&str> {
        let rest = self.arn.split_once(":snapshot:").or_else(|| self.arn.split_once(":cluster-snapshot:"))?;
        Some(rest.1)
    }
}

/// Which points.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointFilter {
    pub resource_arn: Option<String>,
    pub created_after: Option<Timestamp>,
    pub created_before: Option<Timestamp>,
}

/// Recovery points.
#[async_trait]
pub trait RecoveryPoints: Send + Sync {
    /// Those of a vault that are of RDS, Aurora or DocumentDB.
    async fn recovery_points(
        &self,
        region: &Region,
        vault: &str,
        filter: &PointFilter,
    ) -> Result<Vec<RecoveryPoint>>;

    async fn recovery_point(&self, region: &Region, vault: &str, arn: &str) -> Result<RecoveryPoint>;

    /// What AWS Backup remembers of the source, for [`restore_metadata`](super::restore_metadata).
    async fn restore_hints(
        &self,
        region: &Region,
        vault: &str,
        arn: &str,
    ) -> Result<BTreeMap<String, String>>;

    /// Changes when it is deleted; a vault's lock sets limits.
    async fn set_lifecycle(
        &self,
        region: &Region,
        vault: &str,
        arn: &str,
        lifecycle: Lifecycle,
    ) -> Result<()>;

    /// Deletes it, unless a lock keeps it. Gone already is success.
    async fn delete_recovery_point(&self, region: &Region, vault: &str, arn: &str) -> Result<()>;
}
