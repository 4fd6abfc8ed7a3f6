//! What is asked of a point when there are many: [`PointFacts`], a twentieth of its record.
//!
//! A record holds pg_control, configuration and settings: what a restore needs, once. Listing, retention
//! and sweeping go by facts, and whoever restores or builds on a point reads its record.

use crate::point::{FrameJson, Point, PointKind, WalNeed};
use holdfast_core::{ClusterId, DatabaseName, Lsn, RunId, TimelineId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The facts of a point. Fields mean what they mean in [`Point`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointFacts {
    pub id: RunId,
    pub database: DatabaseName,
    pub cluster: ClusterId,
    pub kind: PointKind,
    pub parent: Option<RunId>,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub redo_lsn: Lsn,
    pub start_lsn: Lsn,
    pub stop_lsn: Lsn,
    pub stop_time: Timestamp,
    pub timeline: TimelineId,
    pub timeline_history: Vec<(TimelineId, Lsn)>,
    pub system_identifier: u64,
    pub version_num: u32,
    pub block_size: u32,
    pub segment_blocks: u32,
    pub size_bytes: u64,
    pub files: u64,
    pub changed_bytes: u64,
    pub stored_bytes: u64,
    pub root: FrameJson,
    /// Pages that had changed although the WAL named no change, and the decoder that had missed them.
    pub missed: u64,
    pub decoder: Option<u16>,
    pub wal: Vec<WalNeed>,
    /// How many pages did not check out.
    pub damaged: u64,
    pub tags: BTreeMap<String, String>,
    pub note: String,
    pub generation: u64,
    /// Of a copy: the id that the backup gave the point.
    pub copy_of: Option<RunId>,
}

impl PointFacts {
    /// Is this the point that somebody calls `id`, here or in the vault that it came from?
    pub fn is_called(&self, id: &RunId) -> bool {
        &self.id == id || self.origin() == id
    }

    /// The id that the backup gave the point.
    pub fn origin(&self) -> &RunId {
        self.copy_of.as_ref().unwrap_or(&self.id)
    }
}

impl From<&Point> for PointFacts {
    fn from(p: &Point) -> Self {
        PointFacts {
            id: p.id.clone(),
            database: p.database.clone(),
            cluster: p.cluster.clone(),
            kind: p.kind,
            parent: p.parent.clone(),
            started_at: p.started_at,
            finished_at: p.finished_at,
            redo_lsn: p.redo_lsn,
            start_lsn: p.start_lsn,
            stop_lsn: p.stop_lsn,
            stop_time: p.stop_time,
            timeline: p.timeline,
            timeline_history: p.server.timeline_history.clone(),
            system_identifier: p.server.system_identifier,
            version_num: p.server.version_num,
            block_size: p.server.block_size,
            segment_blocks: p.server.segment_blocks,
            size_bytes: p.size_bytes,
            files: p.files,
            changed_bytes: p.changed_bytes,
            stored_bytes: p.stored_bytes,
            root: p.root.clone(),
            missed: p.changes.missed,
            decoder: p.changes.decoder,
            wal: p.wal.clone(),
            damaged: p.damaged.len() as u64,
            tags: p.tags.clone(),
            note: p.note.clone(),
            generation: p.generation,
            copy_of: p.copied.as_ref().map(|c| c.origin.clone()),
        }
    }
}
