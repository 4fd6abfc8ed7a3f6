//! What is to be done with a file that the parent has, too: [`ParentTree::judge`].
//!
//! By the window of the WAL, where there is one and the file is a relation's main fork; by its times
//! otherwise (see [`super::source`]).

use super::source::TASK_BYTES;
use super::wear::Wear;
use super::window::{Judged, Window};
use holdfast_pg::datadir::{Item, ItemKind};
use holdfast_pgformat::path::PathKind;
use holdfast_vault::manifest::{Entry, EntryKind, flags};
use holdfast_vault::point::Point;
use holdfast_vault::reader::PointReader;
use std::sync::Arc;

/// Blocks of a task.
pub fn per_task(block_size: u32) -> u32 {
    (TASK_BYTES / u64::from(block_size)) as u32
}

/// Which part of what shows no sign of change is read all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reread {
    /// 0 to 100.
    pub percent: u8,
    /// So that each run takes another sample.
    pub seed: u64,
}

impl Reread {
    fn all(self) -> bool {
        self.percent >= 100
    }

    /// The blocks of a file's sample: whole tasks, chosen by a hash of their place.
    fn sample(self, path: &[u8], blocks: u32, per_task: u32) -> Vec<(u32, u32)> {
        let mut runs = Vec::new();
        let mut first = 0;
        while self.percent > 0 && first < blocks {
            let count = per_task.min(blocks - first);
            // FNV-1a; not against an adversary.
            let bytes = self.seed.to_le_bytes().into_iter().chain(first.to_le_bytes());
            let hash = bytes
                .chain(path.iter().copied())
                .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
            if (hash >> 32) % 100 < u64::from(self.percent) {
                runs.push((first, count));
            }
            first += count;
        }
        runs
    }
}

/// Parent tree and what decides about reuse.
#[derive(Debug)]
pub struct ParentTree {
    pub reader: PointReader,
    /// A file whose ctime is before this (nanoseconds) was settled when the parent read it.
    pub settled_before_ns: i64,
    pub stat_shortcut: bool,
    pub window: Option<Arc<Window>>,
    pub reread: Reread,
    pub wear: Wear,
}

/// What is to be done with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is as the parent has it, and so is its entry.
    Same,
    /// Read all of it.
    Read,
    /// Its blocks have changed in `told` only; those in `sample` are read as well.
    Window { told: Vec<(u32, u32)>, sample: Vec<(u32, u32)> },
}

impl ParentTree {
    pub fn new(
        reader: PointReader,
        parent: &Point,
        now: jiff::Timestamp,
        (window, reread): (Option<Arc<Window>>, Reread),
        wear: Wear,
    ) -> Self {
        let copy = parent.copy_started_at.as_nanosecond() as i64;
        let clock_is_sane = now >= parent.finished_at && parent.finished_at >= parent.started_at;
        ParentTree {
            reader,
            settled_before_ns: copy - 2_000_000_000,
            stat_shortcut: !reread.all() && clock_is_sane,
            window,
            reread,
            wear,
        }
    }

    /// `parent`: the entry of that path, if the parent has one.
    pub fn judge(&self, item: &Item, now: &Entry, parent: Option<&Entry>, geometry: (u32, u32)) -> Verdict {
        let Some(p) = parent else { return Verdict::Read };
        let attributes = p.kind == now.kind
            && (p.mode, p.uid, p.gid) == (now.mode, now.uid, now.gid)
            && p.link == now.link;
        if now.kind != EntryKind::File {
            return if attributes { Verdict::Same } else { Verdict::Read };
        }
        let settled = attributes && self.settled(p, now);
        let by_times = if settled { Verdict::Same } else { Verdict::Read };
        let (Some(window), ItemKind::File(PathKind::RelationFork(r))) = (&self.window, item.kind) else {
            return by_times;
        };
        if p.kind != EntryKind::File || p.size == 0 || now.size == 0 {
            return by_times;
        }
        match window.judge(&r, p, now.size, geometry) {
            Judged::Whole => Verdict::Read,
            Judged::ByTimes => by_times,
            Judged::Blocks(told) => {
                let blocks = (now.size / u64::from(geometry.0)) as u32;
                let sample = self.reread.sample(&now.path, blocks, per_task(geometry.0));
                match settled && told.is_empty() && sample.is_empty() {
                    true => Verdict::Same,
                    false => Verdict::Window { told, sample },
                }
            }
        }
    }

    fn settled(&self, parent: &Entry, now: &Entry) -> bool {
        self.stat_shortcut
            && parent.kind == now.kind
            && parent.size == now.size
            && parent.mtime_ns == now.mtime_ns
            && parent.ctime_ns == now.ctime_ns
            && parent.inode == now.inode
            && parent.flags & (flags::TORN | flags::DAMAGED | flags::UNSETTLED) == 0
            && now.ctime_ns < self.settled_before_ns
            && now.mtime_ns < self.settled_before_ns
    }
}
