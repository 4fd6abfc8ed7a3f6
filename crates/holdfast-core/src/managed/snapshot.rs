//! Snapshots of instances and clusters: [`Snapshot`], [`Snapshots`].

use super::Operation;
use super::error::Result;
use super::source::{Engine, Region, Source};
use super::status::Status;
use super::tags::{self, Tags};
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who made a snapshot, which decides who may remove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotKind {
    /// Made by a call; never expires by itself; counts against the quota.
    Manual,
    /// Made in the backup window; goes when retention or the source does.
    Automated,
    /// Made by AWS Backup; does not count against the quota; only AWS Backup removes it.
    AwsBackup,
    /// Another account's, shared with ours.
    Shared,
    Other,
}

/// A snapshot by name. In calls that read, `id` may be an ARN (needed for another account's).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SnapshotRef {
    pub engine: Engine,
    pub region: Region,
    pub id: String,
}

impl std::fmt::Display for SnapshotRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)
    }
}

/// A snapshot of an instance or a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub at: SnapshotRef,
    pub arn: String,
    pub kind: SnapshotKind,
    pub status: Status,
    /// 0 to 100.
    pub percent: u8,
    /// When this snapshot (or copy) was made; absent while `creating`.
    pub created: Option<Timestamp>,
    /// The moment that the data shows: of a copy, when the original was made. What RPO is computed from. Clusters
    /// do not report it for copies: there it is `created`, and a copy made by Holdfast says it in
    /// [`tags::TAKEN`](super::tags::TAKEN), which the copy's caller sets.
    pub taken: Option<Timestamp>,
    /// Identifier that the source had.
    pub source_id: String,
    /// `db-…` or `cluster-…`; DocumentDB leaves it out.
    pub source_resource_id: Option<String>,
    /// Set on a copy.
    pub copied_from: Option<String>,
    pub copied_from_region: Option<Region>,
    /// GiB: of the volume, not of what is billed.
    pub size_gib: u32,
    /// Billed bytes of a full snapshot, where RDS says it.
    pub full_bytes: Option<u64>,
    pub engine_name: String,
    pub engine_version: String,
    pub encrypted: bool,
    pub key: Option<String>,
    pub option_group: Option<String>,
    pub port: Option<u16>,
    pub vpc: Option<String>,
    pub storage_kind: Option<String>,
    pub tags: Tags,
}

impl Snapshot {
    /// True if Holdfast made it: it carries its own name, which nothing inherits
    /// ([`tags::SNAPSHOT`](super::tags::SNAPSHOT)).
    pub fn is_ours(&self) -> bool {
        let mark = self.tags.get(tags::SNAPSHOT);
        self.tags.is_ours() && (mark == Some(&tags::snapshot_mark(&self.at)) || self.is_our_copy())
    }

    /// True if Holdfast made it by copying another.
    pub fn is_our_copy(&self) -> bool {
        self.tags.is_ours() && self.tags.get(tags::SNAPSHOT) == Some(&tags::copy_mark(&self.at))
    }

    /// What a copy of ours says of its original ([`tags::COPY_OF`](super::tags::COPY_OF) and its like); of anything
    /// else such tags were inherited, and say nothing.
    pub fn of_original(&self, key: &str) -> Option<&str> {
        self.tags.get(key).filter(|_| self.is_our_copy())
    }
}

/// A snapshot to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSnapshot {
    /// The whole name, decided before the first try and stored: never made from the clock again.
    pub id: String,
    pub tags: Tags,
}

/// A copy to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotCopy {
    /// ARN: right for any region, and the only name another account's snapshot has.
    pub from_arn: String,
    pub from_region: Region,
    pub to: SnapshotRef,
    /// Key in the target region; must be given for encrypted snapshots that cross regions.
    pub key: Option<String>,
    /// Takes the source's tags along besides [`tags`](Self::tags).
    pub copy_tags: bool,
    pub tags: Tags,
    /// RDS: group in the target region, needed when the source's is not a default one.
    pub option_group: Option<String>,
}

/// Which snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFilter {
    /// Of this source only.
    pub source_id: Option<String>,
    pub kind: Option<SnapshotKind>,
}

/// Snapshots of a region.
#[async_trait]
pub trait Snapshots: Send + Sync {
    /// Starts a snapshot. Adopts its own.
    async fn create_snapshot(&self, source: &Source, new: &NewSnapshot, op: &Operation) -> Result<Snapshot>;

    async fn snapshot(&self, at: &SnapshotRef) -> Result<Snapshot>;

    /// All of them, in no order that may be relied on: sort by [`Snapshot::taken`].
    async fn snapshots(
        &self,
        engine: Engine,
        region: &Region,
        filter: &SnapshotFilter,
    ) -> Result<Vec<Snapshot>>;

    /// Starts a copy, in the target's region. Adopts its own.
    async fn copy_snapshot(&self, copy: &SnapshotCopy, op: &Operation) -> Result<Snapshot>;

    /// Deletes a manual snapshot. Gone already is success.
    async fn delete_snapshot(&self, at: &SnapshotRef) -> Result<()>;

    /// Lets an account copy it and restore from it, or no longer (`shared` = false). Others that may keep that.
    async fn share_snapshot(&self, at: &SnapshotRef, account: &str, shared: bool) -> Result<()>;

    /// The accounts that may restore from it; `all` means public.
    async fn shared_with(&self, at: &SnapshotRef) -> Result<Vec<String>>;
}
