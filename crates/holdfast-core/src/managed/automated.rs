//! Automated backups: of live sources, retained after a deletion, replicated to another region.

use super::error::Result;
use super::source::{Engine, Region, Source};
use super::status::Status;
use super::tags::Tags;
use super::window::RestorableWindow;
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Whose automated backup it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AutomatedKind {
    /// Of a source that lives in this region.
    Live,
    /// Of a source that was deleted with its backups kept; expires.
    Retained,
    /// Replicated here from another region; survives the source.
    Replicated,
}

/// The automated backups of one source, as one region has them. DocumentDB has no such list: its windows are on
/// the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutomatedBackup {
    /// The source's engine and identifier; the region is the one that has the backup.
    pub at: Source,
    /// ARN of the backup itself: what a restore of a deleted or replicated source names.
    pub arn: Option<String>,
    /// `db-…` or `cluster-…`.
    pub resource_id: String,
    pub source_arn: String,
    /// Where the source lives or lived.
    pub source_region: Region,
    pub kind: AutomatedKind,
    /// `active`, `retained`, `creating`, `replicating`, `pending`.
    pub status: Status,
    pub window: Option<RestorableWindow>,
    /// Days.
    pub retention_days: u32,
    pub size_gib: Option<u32>,
    pub engine_version: String,
    pub encrypted: bool,
    pub key: Option<String>,
    pub source_created: Option<Timestamp>,
    pub vpc: Option<String>,
    pub option_group: Option<String>,
    pub port: Option<u16>,
    /// ARNs of its replicas in other regions.
    pub replicas: Vec<String>,
    /// ARN of the continuous recovery point that it is, if AWS Backup owns it.
    pub recovery_point: Option<String>,
    pub tags: Tags,
}

/// Replication of automated backups to another region (RDS instances only; fixed pairs of regions).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replication {
    /// ARN of the instance.
    pub source_arn: String,
    pub to: Region,
    /// Days kept there, 1 to 35.
    pub retention_days: u32,
    /// Key in the target region; needed for encrypted instances.
    pub key: Option<String>,
    /// Of the replica: it does not get those of its source.
    pub tags: Tags,
}

/// Automated backups of a region.
#[async_trait]
pub trait AutomatedBackups: Send + Sync {
    /// All of them: live, retained, replicated. Empty for DocumentDB.
    async fn automated_backups(&self, engine: Engine, region: &Region) -> Result<Vec<AutomatedBackup>>;

    /// Starts replication into `to`. Running already with the same source is success.
    async fn start_replication(&self, replication: &Replication) -> Result<AutomatedBackup>;

    /// Stops it; what arrived expires by its retention. Not running is success.
    async fn stop_replication(&self, source_arn: &str, to: &Region) -> Result<()>;

    /// Deletes a retained or replicated backup by ARN (RDS), or by resource id (Aurora). Gone already is success.
    async fn delete_automated_backup(&self, backup: &AutomatedBackup) -> Result<()>;
}
