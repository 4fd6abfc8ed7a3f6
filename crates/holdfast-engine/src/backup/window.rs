//! Which pages changed since the parent, from the WAL between the two: [`Window`].
//!
//! The window goes from the parent's redo position to this run's, along the history of this run's timeline
//! (engine-rules §2). Its segments are looked up in the vault, each by one small read, and where the vault
//! does not have them (the archiver lags, or there is none) in `pg_wal`; the last one, which is not finished,
//! always there, up to the redo position, before which the checkpoint has put everything on disk.
//!
//! A server that was put back to an earlier state (a snapshot of its machine) writes another future under the
//! same names. Where both have it, the newest segment that comes from the vault is compared with the one in
//! `pg_wal`; elsewhere each record's link to the one before must fit.
//!
//! Anything that is not known or not trusted gives a reason instead of a window, and the run reads and
//! compares all files whose times changed: slower, never wrong.
//!
//! What is taken besides the pages that records name ([`Window::judge`], §2.9–2.11): blocks at or above a
//! limit, blocks behind the parent's end, blocks that were zeros in the parent, files that the parent does
//! not have, saw change, or recorded damage in, files that are no multiple of a page, databases that were
//! copied or dropped. Visibility and free space maps and init forks are never taken by page. Everything else
//! that is no relation is compared by content.

use super::need::same_as_local;
use crate::wal::archive::{read_file, timeline_of_segment};
use crate::wal::changes::{local, stored};
use futures::StreamExt;
use holdfast_core::{Lsn, SegmentName, TimelineId};
use holdfast_pgformat::changes::{ChangeWindow, WindowChanges};
use holdfast_pgformat::history::TimelineHistory;
use holdfast_pgformat::path::RelationFork;
use holdfast_pgformat::relation::{Fork, RelFileLocator};
use holdfast_vault::ClusterVault;
use holdfast_vault::manifest::{Entry, flags};
use holdfast_vault::map::Layer;
use holdfast_vault::point::Point;
use std::path::Path;

/// `XLogLongPageHeaderData` (src/include/access/xlog_internal.h): what a segment starts with.
const LONG_HEADER: u64 = 40;
/// Requests at once. One is a few KiB: what counts is the way there and back.
const PARALLEL: usize = 32;
/// 1 TiB of 16 MiB segments. Behind that, looking each up costs more than reading most databases.
const MAX_SEGMENTS: u64 = 65_536;

/// The changes between two positions.
#[derive(Debug)]
pub struct Window {
    pub from: Lsn,
    pub to: Lsn,
    changes: WindowChanges,
}

/// What a window says about one file that the parent has, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// Read all of it.
    Whole,
    /// It has no pages that the log tells of: its times decide.
    ByTimes,
    /// These runs of blocks (first, count), ascending. Nothing else has changed.
    Blocks(Vec<(u32, u32)>),
}

impl Window {
    /// The window from `parent` to a run that began at `redo` on `timeline`. `Err`: why there is none.
    pub async fn read(
        cluster: &ClusterVault,
        data_dir: &Path,
        parent: &Point,
        (timeline, redo): (TimelineId, Lsn),
    ) -> Result<Window, String> {
        let history = history(cluster, data_dir, timeline).await?;
        if parent.timeline != timeline && !history.descends_from(parent.timeline, parent.stop_lsn) {
            return Err(format!("timeline {timeline} left the one of {} before that point's end", parent.id));
        }
        if redo < parent.stop_lsn || parent.redo_lsn > parent.stop_lsn {
            return Err(format!("the backup starts before the end of {}", parent.id));
        }
        let size = cluster.record().wal_segment_size;
        let first = size.segment_of(parent.redo_lsn);
        // Just behind a page header at the start of a segment: nothing in that segment is before it.
        let last = match redo.0 - size.start_of(size.segment_of(redo)).0 {
            n if n <= LONG_HEADER => size.segment_of(redo).saturating_sub(1),
            _ => size.segment_of(redo),
        };
        if last.saturating_sub(first) > MAX_SEGMENTS {
            return Err(format!("{} wal segments were written since {}", last - first, parent.id));
        }
        let wanted = (first..=last).map(|n| {
            let name = SegmentName::new(timeline_of_segment(&history, size, n), n, size);
            async move {
                // The one with the redo position is not finished, or was just now.
                let end = name.end(size);
                if end > redo {
                    return match local(cluster, data_dir, name, redo) {
                        Ok(c) => Ok((c, None)),
                        Err(e) => stored(cluster, name).await.map(|(c, _)| (c, None)).map_err(|_| e),
                    };
                }
                match stored(cluster, name).await {
                    Ok((c, digest)) => Ok((c, Some((name, digest)))),
                    Err(e) => match local(cluster, data_dir, name, end) {
                        Ok(c) => Ok((c, None)),
                        // Between the two looks it may have been archived, and its file used again.
                        Err(_) => {
                            stored(cluster, name).await.map(|(c, d)| (c, Some((name, d)))).map_err(|_| e)
                        }
                    },
                }
            }
        });
        let mut segments = futures::stream::iter(wanted).buffered(PARALLEL);
        let mut window = ChangeWindow::new(parent.redo_lsn);
        let pg_wal = data_dir.join("pg_wal");
        let mut on_both_sides = None;
        while let Some(c) = segments.next().await {
            let (changes, of_vault) = c?;
            window.add(changes).map_err(text)?;
            on_both_sides = of_vault.filter(|(n, _)| pg_wal.join(n.to_string()).exists()).or(on_both_sides);
        }
        if let Some((name, digest)) = on_both_sides
            && same_as_local(cluster, data_dir, name, &digest).is_err()
        {
            return Err(format!("segment {name} in the vault is not the one in pg_wal"));
        }
        let changes = window.finish(redo).map_err(text)?;
        Ok(Window { from: parent.redo_lsn, to: redo, changes })
    }

    /// How many segments there were.
    pub fn segments(&self) -> u64 {
        self.changes.segments
    }

    /// Blocks that records name.
    pub fn blocks(&self) -> u64 {
        self.changes.set.block_count()
    }

    /// What to read of a file of `size` bytes; [`zeros`] comes on top of it.
    pub fn judge(
        &self,
        file: &RelationFork,
        parent: &Entry,
        size: u64,
        (block_size, segment_blocks): (u32, u32),
    ) -> Judged {
        let set = &self.changes.set;
        let (tablespace, database) = (file.tablespace.oid(), file.database);
        let rel = RelFileLocator { tablespace, database, relation: file.relfilenode };
        // A torn page that the parent took had an LSN behind its start: the window names it.
        let unsure = parent.flags & (flags::DAMAGED | flags::UNSETTLED) != 0;
        if set.is_whole(tablespace, database) || unsure {
            return Judged::Whole;
        }
        if file.fork != Fork::Main {
            return if set.is_referenced(rel) { Judged::Whole } else { Judged::ByTimes };
        }
        let bs = u64::from(block_size);
        if !size.is_multiple_of(bs) || !parent.size.is_multiple_of(bs) {
            return Judged::Whole;
        }
        let (Ok(now), Ok(before)) = (u32::try_from(size / bs), u32::try_from(parent.size / bs)) else {
            return Judged::Whole;
        };
        let Some(start) = file.segment_no.checked_mul(segment_blocks) else { return Judged::Whole };
        let c = set.relation(rel, Fork::Main);
        let limit = c.and_then(|c| c.limit).map(|l| l.saturating_sub(start));
        // Shorter, and no record of the window says so: a truncation behind the window, or a surprise.
        if now < before && limit.is_none_or(|l| l > now) {
            return Judged::Whole;
        }
        let from = limit.unwrap_or(u32::MAX).min(before).min(now);
        let mut runs = Runs::default();
        for (a, b) in c.iter().flat_map(|c| c.blocks.runs_in(start, from)) {
            runs.add(a - start, b - a + 1);
        }
        runs.add(from, now - from);
        Judged::Blocks(runs.0)
    }
}

/// Ascending runs of blocks that do not touch.
#[derive(Debug, Default)]
struct Runs(Vec<(u32, u32)>);

impl Runs {
    fn add(&mut self, first: u32, count: u32) {
        if count == 0 {
            return;
        }
        match self.0.last_mut() {
            Some((f, n)) if first <= f.saturating_add(*n) => {
                *n = (*n).max((first - *f).saturating_add(count))
            }
            _ => self.0.push((first, count)),
        }
    }
}

/// Runs of `a` and `b` (each ascending) together; those with at most `gap` blocks between them are one.
pub fn union(a: &[(u32, u32)], b: &[(u32, u32)], gap: u32) -> Vec<(u32, u32)> {
    let mut all = [a, b].concat();
    all.sort_unstable();
    let mut out: Vec<(u32, u32)> = Vec::with_capacity(all.len());
    for (first, count) in all {
        match out.last_mut() {
            Some((f, n)) if first <= f.saturating_add(*n).saturating_add(gap) => {
                *n = (*n).max((first - *f).saturating_add(count));
            }
            _ => out.push((first, count)),
        }
    }
    out
}

/// Blocks that the parent has as zeros: a page is logged when something is put on it, not when it is made.
pub fn zeros(flat: &Layer, blocks: u32) -> Vec<(u32, u32)> {
    let mut runs = Runs::default();
    for r in flat.runs.iter().filter(|r| r.frame.is_none()) {
        runs.add(r.start, r.count.min(blocks.saturating_sub(r.start)));
    }
    runs.0
}

/// Whether a block lies in one of the runs.
pub fn contains(runs: &[(u32, u32)], block: u32) -> bool {
    let i = runs.partition_point(|(first, _)| *first <= block);
    i.checked_sub(1).and_then(|i| runs.get(i)).is_some_and(|(f, n)| block - f < *n)
}

/// The history of the run's timeline: of its own server, or from the vault.
async fn history(
    cluster: &ClusterVault,
    data_dir: &Path,
    timeline: TimelineId,
) -> Result<TimelineHistory, String> {
    if timeline.0 <= 1 {
        return Ok(TimelineHistory::root(timeline));
    }
    let name = cluster.path().history(timeline);
    let file = name.rsplit('/').next().unwrap_or_default().to_string();
    let text = match std::fs::read(data_dir.join("pg_wal").join(&file)) {
        Ok(t) => Some(t),
        Err(_) => read_file(cluster, &name).await.map_err(|e| e.to_string())?,
    };
    let text = text.ok_or_else(|| format!("the history of timeline {timeline} is not there"))?;
    TimelineHistory::parse(timeline, &String::from_utf8_lossy(&text)).map_err(|e| format!("{file}: {e}"))
}

/// An error and its causes.
fn text(e: impl std::error::Error) -> String {
    let mut out = e.to_string();
    let mut cause = e.source();
    while let Some(c) = cause {
        out = format!("{out}: {c}");
        cause = c.source();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_pgformat::changes::{ChangeSet, Effect};
    use holdfast_pgformat::path::Tablespace;
    use holdfast_vault::manifest::EntryKind;

    /// Blocks of 8 KiB, files of 100 of them; relation 9 of database 5: block 3 and 150 named, cut to 170.
    #[test]
    fn files_are_judged_by_their_part_of_the_relation() {
        let rel = |n| RelFileLocator { tablespace: 1663, database: 5, relation: n };
        let mut set = ChangeSet::new();
        let main = Fork::Main;
        for block in [3, 150, 180] {
            set.apply(Effect::Block { rel: rel(9), fork: main, block });
        }
        set.apply(Effect::Limit { rel: rel(9), fork: main, blocks: 170 });
        set.apply(Effect::Block { rel: rel(9), fork: main, block: 185 });
        let w = Window {
            from: Lsn(1),
            to: Lsn(2),
            changes: WindowChanges {
                set,
                full_page_writes_off: false,
                start: Lsn(0),
                end: Lsn(3),
                timeline: TimelineId(1),
                segments: 1,
            },
        };
        let judge = |n: u32, fork, segment_no: u32, before: u64, now: u64, fl: u8| {
            let file = RelationFork {
                tablespace: Tablespace::Default,
                database: 5,
                relfilenode: n,
                fork,
                segment_no,
            };
            let parent = Entry {
                path: b"base/5/9".to_vec(),
                kind: EntryKind::File,
                flags: fl,
                mode: 0,
                uid: 0,
                gid: 0,
                size: before,
                mtime_ns: 0,
                ctime_ns: 0,
                inode: 0,
                link: Vec::new(),
                damaged: Vec::new(),
                layers: Vec::new(),
            };
            w.judge(&file, &parent, now, (8192, 100))
        };
        let b = |n: u64| n * 8192;
        let blocks = |r: &[(u32, u32)]| Judged::Blocks(r.to_vec());
        assert_eq!(judge(9, main, 0, b(100), b(100), 0), blocks(&[(3, 1)]));
        // Block 150 is the fiftieth of the second file; from 170 on everything counts.
        assert_eq!(judge(9, main, 1, b(100), b(100), 0), blocks(&[(50, 1), (70, 30)]));
        assert_eq!(judge(9, main, 1, b(60), b(65), 0), blocks(&[(50, 1), (60, 5)]));
        assert_eq!(judge(9, main, 1, b(100), b(70), 0), blocks(&[(50, 1)]));
        assert_eq!(judge(9, main, 1, b(100), b(69), 0), Judged::Whole, "shorter than anybody said");
        assert_eq!(judge(9, main, 2, b(10), b(10), 0), blocks(&[(0, 10)]));
        assert_eq!(judge(8, main, 0, b(10), b(10), 0), blocks(&[]));
        assert_eq!(judge(8, main, 0, b(10), b(12), 0), blocks(&[(10, 2)]));
        assert_eq!(judge(8, main, 0, b(10), b(9), 0), Judged::Whole);
        assert_eq!(judge(8, main, 0, b(10) + 1, b(11), 0), Judged::Whole);
        assert_eq!(judge(8, main, 0, b(10), b(10), flags::UNSETTLED), Judged::Whole);
        assert_eq!(judge(8, main, 0, b(10), b(10), flags::DAMAGED), Judged::Whole);
        assert_eq!(judge(8, main, 0, b(10), b(10), flags::TORN), blocks(&[]));
        assert_eq!(judge(8, Fork::Vm, 0, b(1), b(1), 0), Judged::ByTimes);
        assert_eq!(judge(9, Fork::Vm, 0, b(1), b(1), 0), Judged::Whole);
        assert_eq!(judge(9, main, u32::MAX, b(1), b(1), 0), Judged::Whole);
    }

    #[test]
    fn runs_join() {
        assert_eq!(union(&[(0, 2), (5, 1)], &[(2, 1), (9, 3)], 0), [(0, 3), (5, 1), (9, 3)]);
        assert_eq!(union(&[(0, 2), (5, 1)], &[(2, 1), (9, 3)], 2), [(0, 6), (9, 3)]);
        assert_eq!(union(&[(0, 10)], &[(2, 1)], 0), [(0, 10)]);
        let r = [(2, 2), (7, 1)];
        let inside: Vec<u32> = (0..10).filter(|b| contains(&r, *b)).collect();
        assert_eq!(inside, [2, 3, 7]);
    }
}
