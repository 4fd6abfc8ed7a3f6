//! Instances and clusters: what they are ([`Database`], [`Instance`]) and what can be done to them ([`Databases`]).

use super::Operation;
use super::error::Result;
use super::source::{Region, Source};
use super::status::Status;
use super::tags::Tags;
use super::window::{DailyWindow, RestorableWindow, WeeklyWindow};
use crate::secret::Secret;
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

/// How the data lies on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// GiB provisioned; clusters grow by themselves and say 0 or 1.
    pub allocated_gib: Option<u32>,
    /// GiB up to which RDS grows it.
    pub max_allocated_gib: Option<u32>,
    /// `gp3`, `io2`, `aurora`, `aurora-iopt1` …
    pub kind: Option<String>,
    pub iops: Option<u32>,
    /// MiB/s.
    pub throughput: Option<u32>,
    pub encrypted: bool,
    /// ARN of the key.
    pub key: Option<String>,
}

/// The settings of automated backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSettings {
    /// Days; 0 = automated backup is off.
    pub retention_days: u32,
    pub window: Option<DailyWindow>,
    pub copy_tags: bool,
    /// Set when AWS Backup owns the automated backups: RDS refuses changes of retention and window then.
    pub owned_by_aws_backup: bool,
}

/// Serverless v2 limits in capacity units (Aurora: ACU, DocumentDB: DCU), of half a unit each.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    pub min: f64,
    pub max: f64,
    /// Seconds until an idle cluster pauses; only where `min` is 0.
    pub pause_after: Option<u32>,
}

/// An instance as its cluster lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub id: String,
    pub writer: bool,
    /// 0 (first) to 15.
    pub promotion_tier: Option<u32>,
}

/// An RDS instance, an Aurora cluster or a DocumentDB cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Database {
    pub source: Source,
    /// `db-…` or `cluster-…`: survives a rename; finds the automated backups of a source that is gone.
    pub resource_id: String,
    pub arn: String,
    /// `postgres`, `aurora-postgresql`, `docdb`.
    pub engine_name: String,
    pub engine_version: String,
    /// Aurora: `provisioned` (Serverless v2 included), `serverless` (v1), `global` …
    pub engine_mode: Option<String>,
    pub status: Status,
    pub created: Option<Timestamp>,
    /// Absent while it is being created.
    pub endpoint: Option<Endpoint>,
    /// Clusters: the reader endpoint's host.
    pub reader: Option<String>,
    /// An instance's class; clusters have it per [`Instance`].
    pub class: Option<String>,
    pub storage: Storage,
    pub multi_az: bool,
    pub availability_zone: Option<String>,
    pub vpc: Option<String>,
    pub subnet_group: Option<String>,
    pub security_groups: Vec<String>,
    /// Of the instance, or of the cluster.
    pub parameter_group: Option<String>,
    /// RDS only.
    pub option_group: Option<String>,
    pub public: bool,
    pub port: Option<u16>,
    pub iam_auth: bool,
    pub log_exports: Vec<String>,
    pub database_name: Option<String>,
    pub master_user: Option<String>,
    /// ARN of the secret that RDS itself manages.
    pub master_secret: Option<String>,
    pub deletion_protection: bool,
    pub scaling: Option<Scaling>,
    /// Clusters only; empty means that nobody can connect.
    pub members: Vec<Member>,
    pub backup: BackupSettings,
    pub maintenance_window: Option<WeeklyWindow>,
    /// `None` while it is being restored or when automated backup is off. For an instance `earliest` comes from
    /// its automated backup ([`Databases::describe`] asks for it, [`Databases::list`] joins it).
    pub window: Option<RestorableWindow>,
    /// Names of settings that change at the next maintenance window.
    pub pending: Vec<String>,
    /// Set on a read replica or a member of a global cluster: the source it follows.
    pub replica_of: Option<String>,
    pub tags: Tags,
}

/// One instance of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub id: String,
    pub cluster: Option<String>,
    pub arn: String,
    pub resource_id: String,
    pub status: Status,
    /// `db.serverless` for Serverless v2.
    pub class: String,
    pub parameter_group: Option<String>,
    pub endpoint: Option<Endpoint>,
    pub availability_zone: Option<String>,
    pub public: bool,
    pub promotion_tier: Option<u32>,
    pub tags: Tags,
}

/// An instance to be made in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewInstance {
    pub id: String,
    pub class: String,
    pub parameter_group: Option<String>,
    pub availability_zone: Option<String>,
    /// Aurora only.
    pub public: Option<bool>,
    pub promotion_tier: Option<u32>,
    pub tags: Tags,
}

/// What is to be changed; `None` stays as it is. Applied at once, not at the next maintenance window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Modification {
    pub retention_days: Option<u32>,
    pub backup_window: Option<DailyWindow>,
    /// Of the instance, or of the cluster; instances of a cluster have windows of their own.
    pub maintenance_window: Option<WeeklyWindow>,
    /// Not for DocumentDB, which always copies them.
    pub copy_tags: Option<bool>,
    pub deletion_protection: Option<bool>,
    /// Renames it: its endpoint changes, its resource id and backups stay.
    pub new_id: Option<String>,
    pub security_groups: Option<Vec<String>>,
    pub parameter_group: Option<String>,
    pub option_group: Option<String>,
    pub class: Option<String>,
    pub multi_az: Option<bool>,
    pub scaling: Option<Scaling>,
    pub log_exports: Option<Vec<String>>,
    #[serde(skip)]
    pub master_password: Option<Secret>,
}

impl Modification {
    /// True if it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Modification::default()
    }
}

/// The last snapshot before a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinalSnapshot {
    /// Of this name. The only choice for what people made.
    Named(String),
    /// None: for temporary restores, which carry an end of life.
    Skip,
}

/// How something is deleted; nothing has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    pub final_snapshot: FinalSnapshot,
    /// False keeps them as retained backups until they expire. DocumentDB cannot: they go with the cluster.
    pub delete_automated_backups: bool,
}

/// Instances and clusters.
#[async_trait]
pub trait Databases: Send + Sync {
    /// Everything about one, with its tags and restorable window.
    async fn describe(&self, source: &Source) -> Result<Database>;

    /// All that Holdfast could protect in a region: PostgreSQL instances outside of clusters, Aurora PostgreSQL and
    /// DocumentDB clusters.
    async fn list(&self, region: &Region) -> Result<Vec<Database>>;

    /// The instances of a cluster, in any state.
    async fn instances(&self, cluster: &Source) -> Result<Vec<Instance>>;

    async fn instance(&self, region: &Region, id: &str) -> Result<Instance>;

    /// Makes an instance in a cluster. Adopts its own.
    async fn create_instance(&self, cluster: &Source, new: &NewInstance, op: &Operation) -> Result<Instance>;

    /// Changes settings, at once. The reply may still show the old ones.
    async fn modify(&self, source: &Source, change: &Modification) -> Result<Database>;

    /// Deletes an instance or a cluster (whose instances must have been deleted first). Gone already, or being
    /// deleted, is success.
    async fn delete(&self, source: &Source, how: &Deletion) -> Result<()>;

    /// Deletes one instance of a cluster; the cluster's data stays. Gone already is success.
    async fn delete_instance(&self, region: &Region, id: &str) -> Result<()>;

    /// Adds or replaces tags of a database, snapshot or instance by ARN (RDS, Aurora, DocumentDB).
    async fn add_tags(&self, region: &Region, arn: &str, tags: &Tags) -> Result<()>;

    async fn remove_tags(&self, region: &Region, arn: &str, keys: &[&str]) -> Result<()>;

    async fn tags(&self, region: &Region, arn: &str) -> Result<Tags>;
}
