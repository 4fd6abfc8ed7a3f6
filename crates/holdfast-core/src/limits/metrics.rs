//! Metrics of CloudWatch that alarms about backups name, rightly or wrongly: [`METRICS`].
//!
//! Sources: Aurora user guide, `Aurora.AuroraMonitoring.Metrics` and `aurora-storage-backup`; RDS user
//! guide, `rds-metrics`; DocumentDB developer guide, `cloud_watch` and `backup_restore-understanding_backup_storage_usage`;
//! AWS Backup developer guide, `cloudwatch`.

use crate::managed::Engine::{self, Aurora, DocumentDb, Rds};

/// What a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Count,
    Percent,
    Seconds,
}

/// A metric, for whom it is published and what it can tell.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub namespace: &'static str,
    pub name: &'static str,
    pub engines: &'static [Engine],
    pub unit: Unit,
    /// One of these is needed.
    pub dimensions: &'static [&'static str],
    /// As [`crate::policy::managed::Detects`] spells it.
    pub tells: &'static str,
}

const INSTANCE: &str = "DBInstanceIdentifier";
const CLUSTER: &str = "DBClusterIdentifier";

const fn metric(
    namespace: &'static str,
    name: &'static str,
    engines: &'static [Engine],
    unit: Unit,
    dimensions: &'static [&'static str],
    tells: &'static str,
) -> Metric {
    Metric { namespace, name, engines, unit, dimensions, tells }
}

const RDS: &str = "AWS/RDS";
const DOCDB: &str = "AWS/DocDB";
const BACKUP: &str = "AWS/Backup";
const ALL: &[Engine] = &[Rds, Aurora, DocumentDb];

pub const METRICS: &[Metric] = &[
    metric(RDS, "CPUUtilization", &[Rds, Aurora], Unit::Percent, &[INSTANCE, CLUSTER], "load"),
    metric(RDS, "DatabaseConnections", &[Rds, Aurora], Unit::Count, &[INSTANCE, CLUSTER], "load"),
    metric(RDS, "FreeableMemory", &[Rds, Aurora], Unit::Bytes, &[INSTANCE, CLUSTER], "load"),
    metric(RDS, "FreeStorageSpace", &[Rds], Unit::Bytes, &[INSTANCE], "size"),
    metric(RDS, "ReplicaLag", &[Rds], Unit::Seconds, &[INSTANCE], "load"),
    metric(RDS, "ServerlessDatabaseCapacity", &[Aurora], Unit::Count, &[INSTANCE, CLUSTER], "load"),
    metric(RDS, "VolumeBytesUsed", &[Aurora], Unit::Bytes, &[CLUSTER], "size"),
    metric(RDS, "FreeLocalStorage", &[Aurora], Unit::Bytes, &[INSTANCE], "size"),
    metric(RDS, "BackupRetentionPeriodStorageUsed", &[Aurora], Unit::Bytes, &[CLUSTER], "backup-storage"),
    metric(RDS, "SnapshotStorageUsed", &[Aurora], Unit::Bytes, &[CLUSTER], "backup-storage"),
    metric(RDS, "TotalBackupStorageBilled", &[Aurora], Unit::Bytes, &[CLUSTER], "backup-storage"),
    metric(DOCDB, "CPUUtilization", &[DocumentDb], Unit::Percent, &[INSTANCE, CLUSTER], "load"),
    metric(DOCDB, "DatabaseConnections", &[DocumentDb], Unit::Count, &[INSTANCE, CLUSTER], "load"),
    metric(DOCDB, "VolumeBytesUsed", &[DocumentDb], Unit::Bytes, &[CLUSTER], "size"),
    metric(
        DOCDB,
        "BackupRetentionPeriodStorageUsed",
        &[DocumentDb],
        Unit::Bytes,
        &[CLUSTER],
        "backup-storage",
    ),
    metric(DOCDB, "SnapshotStorageUsed", &[DocumentDb], Unit::Bytes, &[CLUSTER], "backup-storage"),
    metric(DOCDB, "TotalBackupStorageBilled", &[DocumentDb], Unit::Bytes, &[CLUSTER], "backup-storage"),
    // Whatever they count, a job that never ran counts nowhere: none of them tells of a backup that is missing.
    metric(
        BACKUP,
        "NumberOfBackupJobsCreated",
        ALL,
        Unit::Count,
        &["BackupVaultName", "ResourceType"],
        "jobs",
    ),
    metric(
        BACKUP,
        "NumberOfBackupJobsCompleted",
        ALL,
        Unit::Count,
        &["BackupVaultName", "ResourceType"],
        "jobs",
    ),
    metric(
        BACKUP,
        "NumberOfBackupJobsFailed",
        ALL,
        Unit::Count,
        &["BackupVaultName", "ResourceType"],
        "jobs",
    ),
    metric(
        BACKUP,
        "NumberOfBackupJobsExpired",
        ALL,
        Unit::Count,
        &["BackupVaultName", "ResourceType"],
        "jobs",
    ),
    metric(
        BACKUP,
        "NumberOfBackupJobsAborted",
        ALL,
        Unit::Count,
        &["BackupVaultName", "ResourceType"],
        "jobs",
    ),
];
