//! From segment files to [`SegmentChanges`]: [`SegmentScanner`] part by part, beside the scan that `wal push`
//! does anyway, or [`scan_changes`] for bytes that are there as a whole.
//!
//! How to use it with pieces on several threads: on any thread, in any order, [`scan_part_changes`] looks
//! through one piece (it does what [`crate::scan::scan_part`] does, and gives its facts too);
//! [`SegmentScanner::add`] takes the results, each once, and joins neighbours at once, so that no more is held
//! than what the pieces under work need; [`SegmentScanner::finish`] gives the sum.

use super::collect::Collector;
use super::segment::{Facts, Head, Piece, Tail};
use super::{Distrust, SegmentChanges, effects};
use crate::scan::{Data, SegmentFacts, Sink, walk_part};
use crate::wal::{RecordHeader, SegmentHeader, WalError, segment_header};
use holdfast_core::lsn::Lsn;
use std::collections::BTreeMap;

/// What one part of a segment holds.
#[derive(Debug)]
pub struct ScannedPart {
    /// Bytes from the segment's start to this part.
    pub offset: u64,
    /// Bytes of the part, less any look-ahead.
    pub len: u64,
    /// As of [`crate::scan::scan_part`].
    pub facts: Result<SegmentFacts, WalError>,
    /// Untrusted when there are no facts.
    pub changes: SegmentChanges,
}

impl ScannedPart {
    /// What this part and the one behind it hold together.
    #[must_use]
    pub fn join(self, later: ScannedPart) -> ScannedPart {
        ScannedPart {
            offset: self.offset,
            len: self.len + later.len,
            facts: match (self.facts, later.facts) {
                (Ok(a), Ok(b)) => Ok(a.join(b)),
                (Err(e), _) | (_, Err(e)) => Err(e),
            },
            changes: self.changes.join(later.changes),
        }
    }
}

/// Goes once through the part of a segment that starts `offset` bytes (whole pages) into it and is `len` bytes
/// long: what [`crate::scan::scan_part`] finds, and the changes. `bytes` is that part and
/// [`crate::scan::LOOK_AHEAD`] bytes more, where there are any; `block_size` the size of relation pages.
pub fn scan_part_changes(
    head: &SegmentHeader,
    bytes: &[u8],
    offset: u64,
    len: usize,
    block_size: u32,
) -> ScannedPart {
    let room = head.segment_size.bytes().saturating_sub(offset);
    // Records start at multiples of eight; less than that is nothing.
    let len = (len.min(bytes.len()) as u64).min(room) & !7;
    let start = Lsn(head.page_addr.0.saturating_add(offset));
    let end = Lsn(start.0.saturating_add(len));
    let mut looker = Looker {
        changes: SegmentChanges::begin(head, block_size, start, end),
        collector: Collector::new(),
        scratch: Vec::new(),
        lost: None,
    };
    let facts = walk_part(head, bytes, offset, usize::try_from(len).unwrap_or(usize::MAX), &mut looker);
    let Looker { mut changes, collector, lost, .. } = looker;
    changes.set = collector.finish();
    match &facts {
        Ok(f) => changes.timeline = f.timeline,
        Err(e) => changes.distrust(start, Distrust::from(e)),
    }
    // The bytes end before the record that replaces the lost one does: nothing is known from there on.
    if let Some(begun) = lost {
        changes.end = begun.unwrap_or(start).min(changes.end);
        changes.tail = None;
    }
    ScannedPart { offset, len, facts, changes }
}

/// What a whole segment file says, or as much of its beginning as `bytes` holds: of the segment that the server
/// writes now, the part that is known to be on disk. An error means that it is no segment at all; whatever is
/// wrong within makes it untrusted.
pub fn scan_changes(bytes: &[u8], block_size: u32) -> Result<SegmentChanges, WalError> {
    let head = segment_header(bytes)?;
    /// Small enough for the tables of one to stay in the processor's cache.
    const PART: usize = 1 << 20;
    let mut scanner = SegmentScanner::new();
    let mut offset = 0;
    while let Some(rest) = bytes.get(offset..).filter(|r| !r.is_empty()) {
        let seen = rest.get(..PART + crate::scan::LOOK_AHEAD).unwrap_or(rest);
        scanner.add(scan_part_changes(&head, seen, offset as u64, PART, block_size));
        offset += PART;
    }
    match scanner.finish() {
        Some(part) => Ok(part.changes),
        None => Err(WalError::TooShort(bytes.len())),
    }
}

/// Puts the parts of one segment together, in whatever order they come.
#[derive(Debug, Default)]
pub struct SegmentScanner {
    /// From the segment's start on.
    done: Option<ScannedPart>,
    waiting: BTreeMap<u64, ScannedPart>,
}

impl SegmentScanner {
    /// For one segment.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a part in.
    pub fn add(&mut self, part: ScannedPart) {
        self.waiting.insert(part.offset, part);
        while let Some(next) = self.waiting.remove(&self.done.as_ref().map_or(0, |d| d.offset + d.len)) {
            self.done = Some(match self.done.take() {
                Some(done) => done.join(next),
                None => next,
            });
        }
    }

    /// The sum; `None` when a part is missing.
    pub fn finish(self) -> Option<ScannedPart> {
        self.done.filter(|_| self.waiting.is_empty())
    }
}

/// Looks into the records that the scan comes across.
struct Looker {
    changes: SegmentChanges,
    collector: Collector,
    scratch: Vec<u8>,
    /// A record was lost, the one that began there or (`None`) before this part; the next one has to say so.
    lost: Option<Option<Lsn>>,
}

impl Looker {
    fn piece(data: Data<'_>) -> Piece {
        let mut bytes = Vec::new();
        data.append_to(&mut bytes);
        Piece::Bytes(bytes)
    }
}

impl Sink for Looker {
    fn rest(&mut self, data: Data<'_>, ends: bool) {
        self.changes.head = Head::Rest { piece: Looker::piece(data), through: !ends };
    }

    #[inline]
    fn record(&mut self, at: Lsn, header: RecordHeader, data: Data<'_>) {
        let bytes = match data.in_one_page() {
            Some(b) => b,
            None => {
                self.scratch.clear();
                data.append_to(&mut self.scratch);
                self.scratch.as_slice()
            }
        };
        let c = &mut self.changes;
        if c.last_record.is_none() {
            c.first_prev = Some(header.prev);
            if header.prev >= c.start {
                c.distrust(at, Distrust::Broken);
            }
        }
        c.last_record = Some(at);
        let mut facts = Facts::default();
        let result = effects(at, bytes, c.major, c.block_size, |e| {
            facts.see(e);
            self.collector.take(e);
        });
        c.note(at, &facts, result);
        if let Some(lost) = self.lost.take() {
            match (lost, facts.replaces) {
                (None, Some(named)) if named < c.start && named.0.is_multiple_of(8) => {
                    c.head = Head::Replaces(named);
                }
                (Some(lost), Some(named)) if lost == named => {}
                _ => c.distrust(at, Distrust::Broken),
            }
        }
    }

    fn tail(&mut self, at: Lsn, data: Data<'_>) {
        self.changes.tail = Some(Tail { at, piece: Looker::piece(data) });
    }

    fn lost(&mut self, begun: Option<Lsn>) {
        self.lost = Some(begun);
    }

    fn closed(&mut self, at: Lsn) {
        self.changes.end = at;
    }
}
