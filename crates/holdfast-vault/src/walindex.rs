//! The WAL of a cluster as a listing shows it, and the index that keeps such listings short.
//!
//! A year of WAL is a million objects, and a thousand requests to list. Settled stretches of it are
//! written down in an *index*: a record, signed by the operator, of which segments are there, in chunks of
//! at most 256 with their sizes and times. [`WalListing::read`] takes the newest index and lists what it
//! does not tell: what came after it, and its holes. Without an index everything is listed.
//!
//! # Why an index never speaks of what is gone
//! Indexes are numbered, and written create-if-absent under the number after the highest. Whoever writes one
//! has read that highest *before* listing. A sweep writes the next index, without the doomed segments and
//! settled beyond them, *before* it removes the first; one that was paused between reading and writing finds
//! its number taken, or a higher one there. And only what lies beyond the settled part is ever added. So no index that counts
//! (the highest) names a segment whose removal began. What the index lacks is listed, so a segment that was
//! not removed after all, or came late, is seen.
//!
//! Crash: the next index is there or not; with it, doomed segments are in its holes and found by the next
//! sweep. Earlier indexes are removed by whoever writes a later one, and mean nothing if they stay.

use crate::error::{Result, StoreErrorKind, VaultError};
use crate::keys::Signer;
use crate::listing::Span;
use crate::point::Body;
use crate::store::Listed;
use crate::vault::ClusterVault;
use futures::{StreamExt, TryStreamExt};
use holdfast_core::{SegmentName, SegmentSize, TimelineId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// Segments of a chunk, which never crosses a multiple of it.
pub const CHUNK: u64 = 256;
/// The newest segments are not settled: several may be on their way, out of order.
const UNSETTLED: u64 = 64;
/// With more holes than this the whole settled part is listed, in one go.
const MANY_HOLES: usize = 64;
const PARALLEL: usize = 16;

/// Consecutive segments that are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Number of the first.
    pub first: u64,
    pub count: u64,
    pub bytes: u64,
    /// The store's times of the objects.
    pub oldest: Timestamp,
    pub newest: Timestamp,
}

/// What an index tells of one timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    pub timeline: TimelineId,
    /// Number of the last segment that the index tells of.
    pub through: u64,
    pub chunks: Vec<Chunk>,
}

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalIndex {
    pub number: u64,
    pub timelines: Vec<Settled>,
    pub at: Timestamp,
    pub host: String,
}

/// A segment that was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub number: u64,
    pub size: u64,
    pub modified: Timestamp,
}

/// One timeline of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimelineWal {
    /// From the index.
    pub chunks: Vec<Chunk>,
    /// Listed: none of them in a chunk. In order.
    pub loose: Vec<Segment>,
    through: Option<u64>,
}

impl TimelineWal {
    /// Numbers of all segments that are there, in order.
    pub fn numbers(&self) -> BTreeSet<u64> {
        let settled = self.chunks.iter().flat_map(|c| c.first..c.first.saturating_add(c.count));
        settled.chain(self.loose.iter().map(|s| s.number)).collect()
    }

    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|c| c.bytes).chain(self.loose.iter().map(|s| s.size)).sum()
    }

    pub fn newest_at(&self) -> Option<Timestamp> {
        self.chunks.iter().map(|c| c.newest).chain(self.loose.iter().map(|s| s.modified)).max()
    }

    /// What the settled part lacks: first and last number of each stretch.
    fn holes(&self) -> Vec<(u64, u64)> {
        let mut out = Vec::new();
        let Some(through) = self.through else { return out };
        let mut next = 0;
        for c in &self.chunks {
            if c.first > next {
                out.push((next, c.first - 1));
            }
            next = next.max(c.first.saturating_add(c.count));
        }
        if next <= through {
            out.push((next, through));
        }
        out
    }
}

/// Everything below `wal/`.
#[derive(Debug, Clone, Default)]
pub struct WalListing {
    pub timelines: BTreeMap<TimelineId, TimelineWal>,
    /// Histories, owners, and what lies in `extra` and `conflict`.
    pub others: Vec<Listed>,
    /// The highest number of an index that counts, 0 without any. Unknown if others write one after the other:
    /// then nothing may be written from here.
    highest: Option<u64>,
}

/// How [`WalListing::write`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Done,
    /// Somebody else wrote one meanwhile: read again.
    Raced,
}

impl WalListing {
    /// Requests: one for the indexes, one to read the newest, one for `wal/` itself, one each for `extra` and
    /// `conflict` if they are there; of each timeline one per 1,000 segments behind the index, and one per
    /// hole (of a local vault: one look through the folder).
    pub async fn read(cluster: &ClusterVault) -> Result<Self> {
        let (highest, index) = newest(cluster).await?;
        let mut out = WalListing { highest, ..Default::default() };
        for s in index.into_iter().flat_map(|i| i.timelines) {
            let t = TimelineWal { chunks: s.chunks, loose: Vec::new(), through: Some(s.through) };
            out.timelines.insert(s.timeline, t);
        }
        let wal = cluster.path().wal();
        let level = cluster.store().level(&wal).await?;
        out.others = level.objects;
        for folder in &level.folders {
            match TimelineId::from_hex(folder) {
                Ok(t) => {
                    let known = out.timelines.entry(t).or_default();
                    look(cluster, t, known).await?;
                }
                Err(_) => out.others.extend(cluster.store().list(&format!("{wal}/{folder}")).await?),
            }
        }
        Ok(out)
    }

    /// Every segment, in order, and when the store saw it; of one that an index tells of: not later than that.
    pub fn segments(&self, size: SegmentSize) -> Vec<(SegmentName, Timestamp)> {
        let mut out = Vec::new();
        for (t, wal) in &self.timelines {
            let settled = wal
                .chunks
                .iter()
                .flat_map(|c| (c.first..c.first.saturating_add(c.count)).map(|n| (n, c.newest)));
            let loose = wal.loose.iter().map(|s| (s.number, s.modified));
            out.extend(settled.chain(loose).map(|(n, at)| (SegmentName::new(*t, n, size), at)));
        }
        out.sort_unstable();
        out
    }

    /// How many segments no index tells of yet.
    pub fn unsettled(&self) -> u64 {
        let loose = |t: &TimelineWal| {
            t.loose.iter().filter(|s| t.through.is_none_or(|through| s.number > through)).count() as u64
        };
        self.timelines.values().map(loose).sum()
    }

    /// Writes the next index: of what is settled by now, without the segments in `doomed`.
    pub async fn write(
        &self,
        cluster: &ClusterVault,
        doomed: &BTreeSet<SegmentName>,
        host: &str,
    ) -> Result<Written> {
        let size = cluster.record().wal_segment_size;
        let Some(highest) = self.highest else { return Ok(Written::Raced) };
        let mut timelines = Vec::new();
        for (timeline, t) in &self.timelines {
            let gone: BTreeSet<u64> =
                doomed.iter().filter(|s| s.timeline == *timeline).map(|s| s.number(size)).collect();
            timelines.extend(settle(*timeline, t, &gone));
        }
        let mut index = WalIndex { number: highest + 1, timelines, at: Timestamp::now(), host: host.into() };
        loop {
            let name = cluster.path().wal_index(index.number);
            let body = Body::WalIndex(index.clone());
            match cluster.vault().put_record(&name, &body, Signer::Operator).await {
                Ok(_) => break,
                Err(e) if e.store_kind() == Some(StoreErrorKind::Exists) => {}
                Err(e) => return Err(e),
            }
            // What does not count takes a number, and nobody's turn.
            match open(cluster, index.number).await? {
                Found::Counts(_) | Found::Gone => return Ok(Written::Raced),
                Found::Nothing => index.number += 1,
            }
        }
        let number = index.number;
        let listed = cluster.store().list(&cluster.path().index()).await?;
        for n in listed.iter().filter_map(|l| number_of(&l.name)).filter(|n| *n > number) {
            // Later ones came and this number had been removed, so its name was free again: ours means nothing.
            // Found by the model in `tests/it/indexes.rs`.
            if !matches!(open(cluster, n).await?, Found::Nothing) {
                return Ok(Written::Raced);
            }
        }
        for l in listed {
            if number_of(&l.name).is_some_and(|n| n < number) {
                // It means nothing any more; who may not delete leaves it to the next.
                let _ = cluster.store().delete(&l.name).await;
            }
        }
        Ok(Written::Done)
    }
}

/// What the next index tells of a timeline.
fn settle(timeline: TimelineId, t: &TimelineWal, gone: &BTreeSet<u64>) -> Option<Settled> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for c in &t.chunks {
        cut(c, gone, &mut chunks);
    }
    let newest = t.loose.last().map(|s| s.number);
    let settled = newest.map(|n| n.saturating_sub(UNSETTLED)).filter(|n| *n > 0);
    // What is being removed must not be listed and added again later.
    let through = t.through.max(settled).max(gone.last().copied())?;
    let new = |s: &&Segment| {
        t.through.is_none_or(|from| s.number > from) && s.number <= through && !gone.contains(&s.number)
    };
    for s in t.loose.iter().filter(new) {
        match chunks.last_mut() {
            Some(c) if c.first + c.count == s.number && !s.number.is_multiple_of(CHUNK) => {
                c.count += 1;
                c.bytes = c.bytes.saturating_add(s.size);
                c.oldest = c.oldest.min(s.modified);
                c.newest = c.newest.max(s.modified);
            }
            _ => chunks.push(Chunk {
                first: s.number,
                count: 1,
                bytes: s.size,
                oldest: s.modified,
                newest: s.modified,
            }),
        }
    }
    Some(Settled { timeline, through, chunks })
}

/// The parts of a chunk that stay. Of the sizes only the sum is known: each part gets its share.
fn cut(c: &Chunk, gone: &BTreeSet<u64>, out: &mut Vec<Chunk>) {
    let end = c.first.saturating_add(c.count);
    if gone.range(c.first..end).next().is_none() {
        out.push(c.clone());
        return;
    }
    let mut from = c.first;
    for stop in gone.range(c.first..end).copied().chain([end]) {
        if stop > from {
            let count = stop - from;
            let bytes = (u128::from(c.bytes) * u128::from(count) / u128::from(c.count.max(1))) as u64;
            out.push(Chunk { first: from, count, bytes, ..c.clone() });
        }
        from = stop + 1;
    }
}

/// Number of an index, from its name.
fn number_of(name: &str) -> Option<u64> {
    let number = name.rsplit('/').next()?.strip_prefix("wal-")?.strip_suffix(".index")?.parse().ok();
    // No row of sweeps gets there, and whoever writes it means no good.
    number.filter(|n| *n < u64::MAX / 2)
}

/// What stands at the name of an index.
enum Found {
    Counts(WalIndex),
    /// Damaged, or a host's: a host must not hide WAL by saying that it is settled.
    Nothing,
    /// A later one took its place.
    Gone,
}

async fn open(cluster: &ClusterVault, number: u64) -> Result<Found> {
    match cluster.vault().get_record(&cluster.path().wal_index(number)).await {
        Ok((Body::WalIndex(i), Signer::Operator)) if i.number == number && i.is_sound() => {
            Ok(Found::Counts(i))
        }
        Ok(_) | Err(VaultError::Damaged { .. } | VaultError::Codec { .. }) => Ok(Found::Nothing),
        Err(e) if e.is_not_found() => Ok(Found::Gone),
        Err(e) => Err(e),
    }
}

/// The index that counts, and its number (0 without any).
async fn newest(cluster: &ClusterVault) -> Result<(Option<u64>, Option<WalIndex>)> {
    for _ in 0..4 {
        let listed = cluster.store().list(&cluster.path().index()).await?;
        let mut numbers: Vec<u64> = listed.iter().filter_map(|l| number_of(&l.name)).collect();
        numbers.sort_unstable();
        let mut raced = false;
        for n in numbers.iter().rev() {
            match open(cluster, *n).await? {
                Found::Counts(i) => return Ok((Some(*n), Some(i))),
                Found::Nothing => {}
                Found::Gone => {
                    raced = true;
                    break;
                }
            }
        }
        if !raced {
            return Ok((Some(0), None));
        }
    }
    Ok((None, None))
}

impl WalIndex {
    /// Chunks in order, apart from each other, within what is settled.
    fn is_sound(&self) -> bool {
        self.timelines.iter().all(|t| {
            let mut next = 0;
            t.chunks.iter().all(|c| {
                let end = c.first.checked_add(c.count);
                let good = c.first >= next
                    && (1..=CHUNK).contains(&c.count)
                    && end.is_some_and(|end| end - 1 <= t.through);
                next = end.unwrap_or(u64::MAX);
                good
            })
        })
    }
}

/// Lists what the index does not tell of a timeline.
async fn look(cluster: &ClusterVault, t: TimelineId, known: &mut TimelineWal) -> Result<()> {
    let (store, path, size) = (cluster.store(), cluster.path(), cluster.record().wal_segment_size);
    let folder = path.wal_timeline(t);
    let name = |n: u64| path.segment(t, &SegmentName::new(t, n, size).to_string());
    let number = |name: &str| {
        let file = name.rsplit('/').next()?.strip_suffix(".wal")?;
        file.parse::<SegmentName>().ok().filter(|s| s.timeline == t).map(|s| s.number(size))
    };
    let mut holes = known.holes();
    if holes.len() > MANY_HOLES {
        // Everything up to there, in one go.
        holes = vec![(0, known.through.unwrap_or(0))];
    }
    // From one number to another; the last is open.
    let mut spans: Vec<(String, Option<String>)> =
        holes.iter().map(|(a, b)| (a.checked_sub(1).map_or(String::new(), &name), Some(name(*b)))).collect();
    spans.push((known.through.map_or(String::new(), &name), None));
    if store.local_path().is_some() {
        // One look through the folder costs the same as any part of it.
        spans = vec![(String::new(), None)];
    }
    let in_chunk = |n: u64| {
        let i = known.chunks.partition_point(|c| c.first <= n);
        i.checked_sub(1).and_then(|i| known.chunks.get(i)).is_some_and(|c| n - c.first < c.count)
    };
    let is_known = |name: &str| number(name).is_some_and(in_chunk);
    let found: Mutex<Vec<Segment>> = Mutex::new(Vec::new());
    futures::stream::iter(&spans)
        .map(|(after, until)| async {
            let span = Span { folder: &folder, after, until: until.as_deref() };
            let mut each = |l: Listed| {
                if let (Some(number), Ok(mut found)) = (number(&l.name), found.lock()) {
                    found.push(Segment { number, size: l.size, modified: l.modified });
                }
            };
            store.visit(span, &is_known, &mut each).await
        })
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await?;
    let mut loose = found.into_inner().unwrap_or_default();
    loose.sort_by_key(|s| s.number);
    loose.dedup_by_key(|s| s.number);
    known.loose = loose;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn loose(n: u64) -> Segment {
        Segment { number: n, size: n % 7, modified: Timestamp::from_second(n as i64).unwrap() }
    }

    fn numbers(chunks: &[Chunk]) -> BTreeSet<u64> {
        chunks.iter().flat_map(|c| c.first..c.first + c.count).collect()
    }

    proptest! {
        /// What settles is what was there, without what goes; again and again.
        #[test]
        fn chunks_say_what_is_there(
            there in prop::collection::btree_set(0..1500_u64, 0..900),
            gone in prop::collection::btree_set(0..1500_u64, 0..200),
            later in prop::collection::btree_set(1500..2500_u64, 0..400),
        ) {
            let t = TimelineId(1);
            let mut wal = TimelineWal { loose: there.iter().map(|n| loose(*n)).collect(), ..Default::default() };
            let mut all = there.clone();
            for (gone, more) in [(gone, later), (BTreeSet::new(), BTreeSet::new())] {
                let before = wal.clone();
                let Some(s) = settle(t, &wal, &gone) else {
                    prop_assert!(wal.loose.last().is_none_or(|l| l.number <= UNSETTLED) && gone.is_empty());
                    break;
                };
                all.retain(|n| !gone.contains(n));
                let index = WalIndex { number: 1, timelines: vec![s.clone()], at: Timestamp::UNIX_EPOCH, host: String::new() };
                prop_assert!(index.is_sound(), "{s:?}");
                prop_assert!(before.through.is_none_or(|b| s.through >= b));
                let told = numbers(&s.chunks);
                prop_assert!(told.is_subset(&all));
                // All that was not settled before and is now.
                let is_new = |n: &&u64| before.through.is_none_or(|b| **n > b) && **n <= s.through;
                prop_assert!(all.iter().filter(is_new).all(|n| told.contains(n)));
                wal = TimelineWal { chunks: s.chunks, loose: Vec::new(), through: Some(s.through) };
                // Holes and chunks are apart, and everything that is settled.
                let holes: u64 = wal.holes().iter().map(|(a, b)| b - a + 1).sum();
                prop_assert_eq!(holes + told.len() as u64, s.through + 1);
                prop_assert!(wal.holes().iter().all(|(a, b)| told.range(a..=b).next().is_none()));
                all.extend(&more);
                wal.loose = all.iter().filter(|n| !told.contains(n)).map(|n| loose(*n)).collect();
                prop_assert_eq!(wal.numbers(), all.clone());
            }
        }
    }

    #[test]
    fn unsound_indexes_do_not_count() {
        let chunk = |first, count| Chunk {
            first,
            count,
            bytes: 0,
            oldest: Timestamp::UNIX_EPOCH,
            newest: Timestamp::UNIX_EPOCH,
        };
        let sound = |through, chunks: &[Chunk]| {
            let timelines = vec![Settled { timeline: TimelineId(1), through, chunks: chunks.to_vec() }];
            WalIndex { number: 1, timelines, at: Timestamp::UNIX_EPOCH, host: String::new() }.is_sound()
        };
        assert!(sound(9, &[chunk(0, 4), chunk(5, 5)]));
        assert!(!sound(8, &[chunk(0, 4), chunk(5, 5)]), "beyond what is settled");
        assert!(!sound(9, &[chunk(0, 4), chunk(3, 5)]), "one over the other");
        assert!(!sound(9, &[chunk(5, 4), chunk(0, 2)]), "out of order");
        assert!(!sound(9, &[chunk(0, 0)]) && !sound(u64::MAX, &[chunk(0, CHUNK + 1)]));
        assert!(!sound(u64::MAX, &[chunk(u64::MAX, 2)]));
    }
}
