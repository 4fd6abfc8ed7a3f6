//! A new database from what was kept: [`RestoreFrom`], [`RestoreTarget`], [`Restores`].
//!
//! AWS fills in its own defaults for whatever is left out (default security group, default parameters), so a
//! target carries everything. What one call cannot carry comes from [`RestoreTarget::remainder`] and is brought by
//! [`Databases::modify`](super::Databases::modify) once the database is `available`.

use super::Operation;
use super::database::{Database, Modification, Scaling};
use super::error::Result;
use super::snapshot::SnapshotRef;
use super::source::{Engine, Source};
use super::tags::Tags;
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The second to restore to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moment {
    /// The end of the window when AWS begins.
    Latest,
    /// Whole seconds: AWS knows no smaller ones.
    At(Timestamp),
}

/// What to restore from. Recovery points of AWS Backup go through a restore job:
/// [`BackupJobs::start_restore`](super::BackupJobs::start_restore).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestoreFrom {
    /// In the target's region.
    Snapshot(SnapshotRef),
    /// A source that lives in the target's region.
    Live { id: String, to: Moment },
    /// A source that may be gone, by its resource id (`db-…`, `cluster-…`). Not for DocumentDB.
    Resource { resource_id: String, to: Moment },
    /// A retained or replicated automated backup, by ARN. RDS only.
    Automated { arn: String, to: Moment },
}

impl RestoreFrom {
    pub fn moment(&self) -> Option<Moment> {
        match self {
            RestoreFrom::Snapshot(_) => None,
            RestoreFrom::Live { to, .. }
            | RestoreFrom::Resource { to, .. }
            | RestoreFrom::Automated { to, .. } => Some(*to),
        }
    }
}

/// The database to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreTarget {
    /// Engine, region and the new identifier.
    pub source: Source,
    /// `aurora-postgresql`, `docdb`: a cluster's restore from a snapshot must say it.
    pub engine_name: String,
    /// `None` = of the backup.
    pub engine_version: Option<String>,
    /// RDS: the instance's class. Clusters get their instances one by one.
    pub class: Option<String>,
    pub subnet_group: Option<String>,
    pub security_groups: Vec<String>,
    /// Of the instance, or of the cluster.
    pub parameter_group: Option<String>,
    pub option_group: Option<String>,
    pub multi_az: Option<bool>,
    pub availability_zone: Option<String>,
    pub public: Option<bool>,
    pub port: Option<u16>,
    pub storage_kind: Option<String>,
    /// GiB; may grow, never shrink. `None` = of the backup.
    pub allocated_gib: Option<u32>,
    pub iops: Option<u32>,
    /// MiB/s.
    pub throughput: Option<u32>,
    /// Serverless v2; the cluster stays `provisioned`.
    pub scaling: Option<Scaling>,
    /// Another key than the backup's: clusters only.
    pub key: Option<String>,
    pub iam_auth: Option<bool>,
    pub log_exports: Vec<String>,
    pub copy_tags: Option<bool>,
    pub deletion_protection: bool,
    pub tags: Tags,
}

/// Storage whose speed is bought by the operation.
fn provisioned(kind: Option<&str>) -> bool {
    matches!(kind, Some("io1" | "io2"))
}

impl RestoreTarget {
    /// A target named `id` that looks like `like`: network, groups, class, availability, tags (without Holdfast's
    /// own). Deletion protection is left to the caller, and is off.
    pub fn like(like: &Database, source: Source) -> Self {
        let tags =
            like.tags.iter().filter(|(k, _)| !k.starts_with("holdfast:") && !k.starts_with("aws:")).collect();
        RestoreTarget {
            engine_name: like.engine_name.clone(),
            engine_version: None,
            class: like.class.clone(),
            subnet_group: like.subnet_group.clone(),
            security_groups: like.security_groups.clone(),
            parameter_group: like.parameter_group.clone(),
            // AWS chooses the default group itself, by engine and version; named, it must exist in the region.
            option_group: like.option_group.clone().filter(|g| !g.starts_with("default:")),
            multi_az: (source.engine == Engine::Rds).then_some(like.multi_az),
            // A Multi-AZ instance may not name a zone, and a restore elsewhere has others.
            availability_zone: None,
            public: (source.engine == Engine::Rds).then_some(like.public),
            port: like.port,
            storage_kind: like.storage.kind.clone(),
            allocated_gib: None,
            // "If you specify io1, io2, or gp3, you must also include a value for the Iops parameter" (API reference,
            // RestoreDBInstanceFromDBSnapshot); gp3 has a default.
            iops: like.storage.iops.filter(|_| provisioned(like.storage.kind.as_deref())),
            throughput: None,
            scaling: like.scaling,
            key: None,
            iam_auth: (source.engine != Engine::DocumentDb).then_some(like.iam_auth),
            log_exports: like.log_exports.clone(),
            copy_tags: (source.engine != Engine::DocumentDb).then_some(like.backup.copy_tags),
            deletion_protection: false,
            tags,
            source,
        }
    }

    /// What the restoring call cannot carry and [`Databases::modify`](super::Databases::modify) must bring when the
    /// database is available. Empty for most.
    pub fn remainder(&self, from: &RestoreFrom) -> Modification {
        let mut rest = Modification::default();
        // DocumentDB's restore to a time has no such member (docdb, RestoreDBClusterToPointInTime).
        if self.source.engine == Engine::DocumentDb && from.moment().is_some() {
            rest.parameter_group.clone_from(&self.parameter_group);
        }
        rest
    }
}

/// Restores.
#[async_trait]
pub trait Restores: Send + Sync {
    /// Starts a restore to a new database, which is `creating` in the reply. A cluster has no instances then: add
    /// them with [`Databases::create_instance`](super::Databases::create_instance). Adopts its own.
    async fn restore(&self, from: &RestoreFrom, target: &RestoreTarget, op: &Operation) -> Result<Database>;
}
