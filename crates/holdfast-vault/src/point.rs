//! What a recovery point's record says, and the other JSON records of a cluster.
//!
//! A point is complete by itself: its record names the root of its manifest, the packs its run made,
//! the WAL it needs (by name and digest, R10) and every fact that a later rule could ask for (R11).
//! It is the commit: the point exists from the moment this object does.

use crate::noteindex::NoteIndex;
use crate::pointindex::PointIndex;
use crate::walindex::WalIndex;
use holdfast_core::{ClusterId, DatabaseName, Lsn, RunId, SegmentName, SegmentSize, TimelineId, VaultId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Full: every block was stored by this run. Incremental: some are where an earlier run put them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PointKind {
    Full,
    Incremental,
}

/// A frame as JSON names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameJson {
    pub pack: u32,
    pub index: u32,
    pub offset: u64,
    pub sealed_len: u32,
    pub plain_len: u32,
    pub codec: u8,
}

/// A pack that this run wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackJson {
    pub class: String,
    pub number: u32,
    pub len: u64,
    /// BLAKE3 of the object but for its last 32 bytes, hexadecimal.
    pub digest: String,
}

/// A WAL segment that the point needs to become consistent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalNeed {
    pub name: SegmentName,
    /// Keyed digest of its content, hexadecimal.
    pub digest: String,
}

/// Where changed blocks came from, and why that way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeSource {
    /// `all`, `fingerprints` (read and compared), `wal-maps` (pages that the WAL since the parent names); of a
    /// remote backup `stream-compare` or `wal-summaries`.
    pub method: String,
    pub reason: String,
    /// With `wal-maps`: version of the decoder that this run went by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<u16>,
    /// Every page is byte for byte as this server had it, or a record names its change: hints are logged, and
    /// nothing came from a point of another server or timeline.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
    /// Pages that were read again although the WAL named no change.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reread: u64,
    /// How many of those had changed all the same: an alarm.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u64,
}

impl ChangeSource {
    pub fn new(method: &str, reason: &str) -> Self {
        ChangeSource { method: method.into(), reason: reason.into(), ..Default::default() }
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A page that did not check out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedPage {
    pub path: String,
    pub block: u32,
    pub what: String,
}

/// Facts about the server at backup time (R11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFacts {
    pub system_identifier: u64,
    /// As `server_version_num`: 150020.
    pub version_num: u32,
    pub version: String,
    pub catalog_version: u32,
    pub control_version: u32,
    pub block_size: u32,
    pub segment_blocks: u32,
    pub wal_segment_size: SegmentSize,
    pub wal_level: String,
    pub wal_log_hints: bool,
    pub full_page_writes: bool,
    pub data_checksums: bool,
    pub in_recovery: bool,
    pub timeline_history: Vec<(TimelineId, Lsn)>,
    /// Settings that a copy must have at least as high to recover: max_connections …
    pub recovery_settings: BTreeMap<String, String>,
    pub data_directory: String,
    pub owner: String,
    pub group: String,
    pub port: u16,
    /// Configuration that lives outside of the data directory (Debian): name → content.
    pub outside_config: BTreeMap<String, String>,
    pub shared_preload_libraries: String,
    pub locale_provider: String,
    /// The role that initdb made; empty: not recorded.
    #[serde(default)]
    pub superuser: String,
}

/// A tablespace outside of the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablespace {
    pub oid: u32,
    pub location: String,
}

/// A database of the cluster, as it was called when the backup ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseEntry {
    pub oid: u32,
    pub name: String,
}

/// A recovery point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    pub id: RunId,
    pub database: DatabaseName,
    pub cluster: ClusterId,
    pub kind: PointKind,
    pub parent: Option<RunId>,
    pub started_at: Timestamp,
    /// When the first file was read; a file that last changed well before is settled in this point.
    pub copy_started_at: Timestamp,
    pub finished_at: Timestamp,
    /// From what position replay starts (the checkpoint's redo).
    pub redo_lsn: Lsn,
    pub start_lsn: Lsn,
    pub stop_lsn: Lsn,
    /// The server's clock when the backup stopped: no earlier time can be a target.
    pub stop_time: Timestamp,
    pub timeline: TimelineId,
    pub backup_label: String,
    pub tablespace_map: String,
    /// Base64 of `global/pg_control`, read after every other file.
    pub control_file: String,
    pub tablespaces: Vec<Tablespace>,
    /// Empty: not recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<DatabaseEntry>,
    /// Symbolic link of pg_wal, if it was one.
    pub wal_link: Option<String>,
    pub server: ServerFacts,
    pub changes: ChangeSource,
    pub size_bytes: u64,
    pub files: u64,
    /// Plain bytes that this run had to store.
    pub changed_bytes: u64,
    /// Bytes that this run added to the vault.
    pub stored_bytes: u64,
    pub root: FrameJson,
    pub packs: Vec<PackJson>,
    pub wal: Vec<WalNeed>,
    pub damaged: Vec<DamagedPage>,
    pub tags: BTreeMap<String, String>,
    pub note: String,
    pub host: String,
    pub tool: String,
    /// One more than the highest generation that the run could see: a vault rolled back to an old
    /// copy shows itself.
    pub generation: u64,
    /// Of a copy: what it is a copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied: Option<CopiedFrom>,
}

/// Where a copy came from. All else that its record says of the backup is what the first record said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedFrom {
    /// The id that the backup gave the point: the same in every vault.
    pub origin: RunId,
    /// The vault that it was read from, and its id there.
    pub vault: VaultId,
    pub point: RunId,
    pub at: Timestamp,
    pub host: String,
    pub tool: String,
}

impl Point {
    /// The id that the backup gave it: a copy is another object, and the same point.
    pub fn origin(&self) -> &RunId {
        self.copied.as_ref().map_or(&self.id, |c| &c.origin)
    }

    /// Is this the point that somebody calls `id`, here or in the vault that it came from?
    pub fn is_called(&self, id: &RunId) -> bool {
        &self.id == id || self.origin() == id
    }
}

/// Who is writing what, so that nobody sweeps it away (R5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub run: RunId,
    pub parents: Vec<RunId>,
    /// The one name under which this run may commit.
    pub commit: String,
    pub host: String,
    /// Machine and state directory of the writer: only the same may call the run dead by looking at
    /// its own lock. Host names repeat (containers).
    #[serde(default)]
    pub agent: String,
    pub pid: u32,
    pub started_at: Timestamp,
    /// Segments that the run found in the vault and will name: no sweep takes them meanwhile, however old.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wal: Vec<SegmentName>,
}

/// A sign of life of a run that writes nothing else for long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    pub run: RunId,
    /// The one in its name.
    pub number: u32,
    pub at: Timestamp,
    pub host: String,
}

/// Stands at a point's name when somebody declared its run dead: a late commit meets it and fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aborted {
    pub run: RunId,
    pub by: String,
    pub at: Timestamp,
    pub reason: String,
}

/// A run that failed, for the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRun {
    pub run: RunId,
    pub kind: String,
    pub started_at: Timestamp,
    pub failed_at: Timestamp,
    pub error: String,
    pub hint: Option<String>,
    pub host: String,
}

/// What a cluster is; written when it is first backed up or its WAL first arrives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    pub database: DatabaseName,
    pub cluster: ClusterId,
    pub system_identifier: u64,
    pub major: u16,
    pub block_size: u32,
    pub wal_segment_size: SegmentSize,
    pub created_at: Timestamp,
    /// Base64 of 32 bytes: key of all content digests of this cluster, in every vault.
    pub digest_secret: String,
}

/// Who may push WAL of a timeline. The newest number counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub timeline: TimelineId,
    pub number: u32,
    /// Token of the host's state directory; never inside the data directory.
    pub token: String,
    pub host: String,
    pub since: Timestamp,
    pub reason: String,
}

/// Outcome of a verification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    pub point: RunId,
    /// `L0` … `L5`: the highest level that passed.
    pub level: String,
    pub passed: bool,
    pub findings: Vec<String>,
    pub seconds: f64,
    /// Seconds from the start of the restore to a server that accepts connections.
    pub restore_seconds: Option<f64>,
    pub at: Timestamp,
    pub host: String,
    pub tool: String,
}

/// Keeps a point whatever the rules say, until it is released or its time has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The note's own id; what `release` names.
    pub id: RunId,
    pub point: RunId,
    pub title: String,
    pub until: Option<Timestamp>,
    pub at: Timestamp,
    pub host: String,
}

/// Ends a hold. Counts only if the operator signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    pub hold: RunId,
    pub point: RunId,
    pub reason: String,
    pub at: Timestamp,
    pub host: String,
}

/// A point that nobody wants any more. Counts only if the operator signed it, and only as long as
/// nothing holds the point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expired {
    pub point: RunId,
    pub reason: String,
    /// A person named this point; otherwise the policy's rules let it go, and a sweep asks them again.
    pub by_hand: bool,
    pub at: Timestamp,
    pub host: String,
}

/// A sweep removes this run. Nothing may build on it from now on. Stays for ever: the name of its
/// point must not look free to a writer that was paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condemned {
    pub run: RunId,
    /// Of its point, so that `check` does not miss it.
    pub generation: u64,
    pub reason: String,
    pub at: Timestamp,
    pub host: String,
}

/// An object whose lock was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockSeen {
    pub name: String,
    pub until: Timestamp,
}

/// The ledger of locks: until when objects are locked at least, as the store said or was told. Only saves
/// questions: whoever wants to be sure asks the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockLedger {
    pub run: String,
    pub objects: Vec<LockSeen>,
    pub at: Timestamp,
    pub host: String,
}

/// The content of a record object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Body {
    Point(Box<Point>),
    Aborted(Aborted),
    Lease(Lease),
    Alive(Alive),
    Cluster(Cluster),
    Owner(Owner),
    Verified(Verified),
    FailedRun(FailedRun),
    Hold(Hold),
    Released(Released),
    Expired(Expired),
    Condemned(Condemned),
    WalIndex(WalIndex),
    PointIndex(PointIndex),
    NoteIndex(NoteIndex),
    LockLedger(LockLedger),
    /// A file of PostgreSQL's own, base64: a timeline history or a `.backup` file.
    File {
        name: String,
        content: String,
    },
}
