//! What a cluster's WAL archive holds: [`WalArchive`].

use crate::error::{EngineError, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as B64;
use holdfast_core::{Lsn, SegmentName, SegmentSize, TimelineId};
use holdfast_pgformat::history::TimelineHistory;
use holdfast_vault::point::Body;
use holdfast_vault::walindex::WalListing;
use holdfast_vault::walobj::{self, WalHead};
use holdfast_vault::{ClusterVault, VaultError};
use std::collections::{BTreeMap, BTreeSet};

/// Consecutive segments of one timeline.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Span {
    pub timeline: TimelineId,
    pub first: SegmentName,
    pub last: SegmentName,
    pub segments: u64,
}

/// A listing of the archive, and the histories of its timelines.
#[derive(Debug, Clone)]
pub struct WalArchive {
    pub cluster: ClusterVault,
    /// Numbers of finished segments, by timeline.
    pub segments: BTreeMap<TimelineId, BTreeSet<u64>>,
    pub histories: BTreeMap<TimelineId, TimelineHistory>,
    pub stored_bytes: u64,
    pub newest_at: Option<jiff::Timestamp>,
    /// Things kept apart because a segment with other content was there.
    pub conflicts: Vec<String>,
}

/// Reads one stored file of PostgreSQL's (a history or `.backup` file).
pub async fn read_file(cluster: &ClusterVault, name: &str) -> Result<Option<Vec<u8>>> {
    match cluster.vault().get_record(name).await {
        Ok((Body::File { content, .. }, _)) => {
            Ok(Some(B64.decode(content).map_err(|_| damaged(name, "its content is malformed"))?))
        }
        Ok(_) => Err(damaged(name, "it is not a file of the archive").into()),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

pub fn file_body(name: &str, content: &[u8]) -> Body {
    Body::File { name: name.to_string(), content: B64.encode(content) }
}

fn damaged(name: &str, what: &str) -> VaultError {
    VaultError::Damaged { name: name.into(), what: what.into() }
}

impl WalArchive {
    /// One listing (of which [`WalListing::read`] counts the requests), and one read per timeline history.
    pub async fn read(cluster: &ClusterVault) -> Result<Self> {
        let listing = WalListing::read(cluster).await?;
        let mut a = WalArchive {
            cluster: cluster.clone(),
            segments: BTreeMap::new(),
            histories: BTreeMap::new(),
            stored_bytes: 0,
            newest_at: None,
            conflicts: Vec::new(),
        };
        let mut histories = Vec::new();
        for (t, wal) in &listing.timelines {
            let numbers = wal.numbers();
            if !numbers.is_empty() {
                a.segments.insert(*t, numbers);
            }
            a.stored_bytes += wal.bytes();
            a.newest_at = a.newest_at.max(wal.newest_at());
        }
        for l in listing.others {
            let file = l.name.rsplit('/').next().unwrap_or_default();
            a.stored_bytes += l.size;
            if l.name.contains("/wal/conflict/") {
                a.conflicts.push(file.to_string());
            } else if let Some(t) = file.strip_suffix(".history").and_then(|t| TimelineId::from_hex(t).ok()) {
                histories.push(t);
            }
        }
        for t in histories {
            let name = cluster.path().history(t);
            if let Some(text) = read_file(cluster, &name).await? {
                let h = TimelineHistory::parse(t, &String::from_utf8_lossy(&text))
                    .map_err(|e| EngineError::from(damaged(&name, &e.to_string())))?;
                a.histories.insert(t, h);
            }
        }
        Ok(a)
    }

    pub fn segment_size(&self) -> SegmentSize {
        self.cluster.record().wal_segment_size
    }

    /// Timelines that the archive knows of.
    pub fn timelines(&self) -> Vec<TimelineId> {
        let mut all: BTreeSet<TimelineId> = self.segments.keys().copied().collect();
        all.extend(self.histories.keys());
        all.into_iter().collect()
    }

    /// History of a timeline; one without a file has no parent.
    pub fn history(&self, t: TimelineId) -> TimelineHistory {
        self.histories.get(&t).cloned().unwrap_or_else(|| TimelineHistory::root(t))
    }

    /// The newest timeline that descends from `(timeline, end)`: what `latest` means for a point that
    /// ends there (PostgreSQL's `findNewestTimeLine`, but never a branch that left before the point).
    pub fn latest_for(&self, timeline: TimelineId, end: Lsn) -> TimelineId {
        self.histories
            .iter()
            .rev()
            .find(|(t, h)| **t > timeline && h.descends_from(timeline, end))
            .map_or(timeline, |(t, _)| *t)
    }

    /// Is segment `number` of the path that ends in `history` there? Only the newest timeline that
    /// reaches into it counts. The segment in which a timeline was left exists twice, and the parent's
    /// goes on along the branch that was left: PostgreSQL would take it if the child's is missing, and
    /// recover what should not be there. So a missing one ends the reach.
    pub fn locate(&self, history: &TimelineHistory, number: u64) -> Option<SegmentName> {
        let t = timeline_of_segment(history, self.segment_size(), number);
        let there = self.segments.get(&t).is_some_and(|s| s.contains(&number));
        there.then(|| SegmentName::new(t, number, self.segment_size()))
    }

    /// How far replay gets without a gap from the segment that holds `from`: the segments, in order.
    pub fn reach(&self, history: &TimelineHistory, from: Lsn) -> Vec<SegmentName> {
        let mut number = self.segment_size().segment_of(from);
        let mut out = Vec::new();
        while let Some(s) = self.locate(history, number) {
            out.push(s);
            number += 1;
        }
        out
    }

    /// Runs of consecutive segments.
    pub fn spans(&self) -> Vec<Span> {
        let size = self.segment_size();
        let mut out: Vec<Span> = Vec::new();
        for (t, numbers) in &self.segments {
            for n in numbers {
                let name = SegmentName::new(*t, *n, size);
                match out.last_mut() {
                    Some(s) if s.timeline == *t && s.last.number(size) + 1 == *n => {
                        s.last = name;
                        s.segments += 1;
                    }
                    _ => out.push(Span { timeline: *t, first: name, last: name, segments: 1 }),
                }
            }
        }
        out
    }

    /// Reads the head of a segment's object. One small ranged read.
    pub async fn head(&self, segment: SegmentName) -> Result<WalHead> {
        segment_head(&self.cluster, segment).await?.ok_or_else(|| {
            EngineError::not_found(
                format!("segment {segment} is not in the archive"),
                "see `holdfast wal status`",
            )
        })
    }

    /// Reads a whole segment.
    pub async fn content(&self, segment: SegmentName) -> Result<Vec<u8>> {
        let name = self.cluster.path().segment(segment.timeline, &segment.to_string());
        let bytes = self.cluster.store().get(&name).await?;
        let vault = self.cluster.vault();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (plain, _) =
            walobj::decode(&bytes, vault.keys(), vault.id(), self.cluster.digests(), &name, threads)?;
        Ok(plain)
    }
}

/// The timeline whose segment `number` is the right one on the way to the end of `history`.
pub fn timeline_of_segment(history: &TimelineHistory, size: SegmentSize, number: u64) -> TimelineId {
    history
        .entries()
        .iter()
        // A switch exactly on a boundary leaves the segment before it to the parent.
        .find(|e| size.segment_of(e.switch_lsn) > number)
        .map_or(history.timeline(), |e| e.timeline)
}

/// Head of a segment's object, `None` if it is certainly not there.
pub async fn segment_head(cluster: &ClusterVault, segment: SegmentName) -> Result<Option<WalHead>> {
    let name = cluster.path().segment(segment.timeline, &segment.to_string());
    match cluster.store().get_range(&name, 0..holdfast_vault::object::HEADER_LEN as u64).await {
        Ok(b) => Ok(Some(walobj::head(&b, cluster.vault().keys(), cluster.vault().place(&name))?)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_belongs_to_the_newest_timeline_that_reaches_into_it() {
        let size = SegmentSize::DEFAULT;
        let h = TimelineHistory::parse(TimelineId(3), "1\t0/3000100\tx\n2\t0/6000000\tx\n").unwrap();
        let of = |n| timeline_of_segment(&h, size, n).0;
        assert_eq!([of(1), of(2), of(3), of(4), of(5), of(6), of(7)], [1, 1, 2, 2, 2, 3, 3]);
    }
}
