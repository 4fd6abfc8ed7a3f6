//! What one archived segment holds, found fast: [`scan_segment`]; or [`scan_part`] by part, so that
//! whoever reads a segment piece by piece needs no buffer for all of it.
//!
//! For choosing segments by recovery target. Record headers are followed from one to the next; no
//! CRC is computed and no block is decoded, so this says nothing about damage within records. Page
//! headers and the links between records are checked.
//!
//! A record that starts in a segment and ends in the next one counts for the segment it starts in,
//! if what is asked for (time, name) lies in it; else it is lost here, and [`SegmentFacts::tail`]
//! tells that there is something to read with [`crate::wal::WalReader`].

use crate::bytes::{u8_at, u32_at, u64_at};
use crate::dirops::DirectoryOps;
use crate::time::PgTimestamp;
use crate::version::PgMajor;
use crate::wal::{
    LONG_HEADER, MAX_RECORD, RECORD_HEADER, RecordHeader, Rmgr, SHORT_HEADER, SegmentHeader, WAL_PAGE_SIZE,
    WalError, WalPageHeader, XactKind, XlogRecord, decode_xlog_parts, header_size, segment_header,
};
use holdfast_core::lsn::{Lsn, SegmentSize, TimelineId};

/// Enough of a record for all that is looked at: header, ids before the main data, the main data's
/// own header, and the largest struct (a checkpoint).
const ENOUGH: usize = RECORD_HEADER + 3 + 5 + 5 + 96;
const PAGE: usize = WAL_PAGE_SIZE as usize;

/// A restore point (`pg_create_restore_point`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePoint {
    pub name: String,
    pub lsn: Lsn,
    /// Microseconds since 1970.
    pub time: i64,
}

/// What a segment holds. Times are microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFacts {
    pub major: PgMajor,
    pub system_id: u64,
    pub segment_size: SegmentSize,
    /// Timeline of the last page.
    pub timeline: TimelineId,
    pub start: Lsn,
    /// The first record that starts here; `None` when the whole segment is the middle of one.
    pub first_record: Option<Lsn>,
    pub last_record: Option<Lsn>,
    /// Records that start here.
    pub records: u64,
    /// Earliest and latest time in commits, aborts, checkpoints, restore points and ends of recovery.
    /// The times of concurrent commits need not ascend.
    pub first_time: Option<i64>,
    pub last_time: Option<i64>,
    pub commits: u64,
    pub restore_points: Vec<RestorePoint>,
    pub has_switch: bool,
    pub directory_ops: DirectoryOps,
    /// End of the last record, rounded up; the segment's end when a record goes on in the next one or
    /// after a switch; else where the zeroes start.
    pub end_of_data: Lsn,
    /// Start of the record that goes on in the next segment.
    pub tail: Option<Lsn>,
}

impl SegmentFacts {
    /// What two neighbouring parts hold together. `self` is the earlier one.
    pub fn join(mut self, later: SegmentFacts) -> SegmentFacts {
        if let (Some(f), Some(l)) = (later.first_time, later.last_time) {
            self.see_time(f);
            self.see_time(l);
        }
        let begun = later.end_of_data > later.start;
        // The later part is but the middle of a record of this one.
        let middle = begun && later.first_record.is_none() && later.tail.is_some();
        if begun && !self.has_switch {
            self.end_of_data = later.end_of_data;
            self.timeline = later.timeline;
            if !middle {
                self.tail = later.tail;
            }
        }
        self.first_record = self.first_record.or(later.first_record);
        self.last_record = later.last_record.or(self.last_record);
        self.records += later.records;
        self.commits += later.commits;
        self.restore_points.extend(later.restore_points);
        self.has_switch |= later.has_switch;
        self.directory_ops = self.directory_ops.join(later.directory_ops);
        self
    }

    fn see_time(&mut self, t: i64) {
        self.first_time = Some(self.first_time.map_or(t, |f| f.min(t)));
        self.last_time = Some(self.last_time.map_or(t, |l| l.max(t)));
    }
}

/// Goes through one whole segment file, or as much of its beginning as `bytes` holds.
pub fn scan_segment(bytes: &[u8]) -> Result<SegmentFacts, WalError> {
    scan_part(&segment_header(bytes)?, bytes, 0, usize::MAX)
}

/// How much of the next part [`scan_part`] wants to see: enough of a record that starts at the end of its
/// own, and the header of a page between.
pub const LOOK_AHEAD: usize = 256;

/// Goes through the part of a segment that starts `offset` bytes (whole pages) into it and is `len` bytes
/// long; `bytes` is that part and [`LOOK_AHEAD`] bytes more, where there are any. Join the parts with
/// [`SegmentFacts::join`], in order.
pub fn scan_part(
    head: &SegmentHeader,
    bytes: &[u8],
    offset: u64,
    len: usize,
) -> Result<SegmentFacts, WalError> {
    walk_part(head, bytes, offset, len, &mut ())
}

/// Is shown what [`walk_part`] comes across, in order; [`crate::changes`] looks into the records by it.
///
/// A record belongs to the part if it starts and ends there. Of one that does not, a part shows what it has:
/// the look-ahead is not counted, since the next part shows it.
pub(crate) trait Sink {
    /// The rest of a record begun before this part. Unless it `ends` here, it is all that there is.
    fn rest(&mut self, _data: Data<'_>, _ends: bool) {}
    /// A whole record.
    fn record(&mut self, _at: Lsn, _header: RecordHeader, _data: Data<'_>) {}
    /// The start of a record that goes on in the next part.
    fn tail(&mut self, _at: Lsn, _data: Data<'_>) {}
    /// The record begun here, or before this part, was lost in a crash; the one that comes next has to name it
    /// (`XLP_FIRST_IS_OVERWRITE_CONTRECORD`).
    fn lost(&mut self, _begun: Option<Lsn>) {}
    /// Nothing comes after this: zeroes, or the rest of a segment after a switch.
    fn closed(&mut self, _at: Lsn) {}
}

impl Sink for () {}

/// Bytes of one record, with page headers between them.
#[derive(Clone, Copy)]
pub(crate) struct Data<'a> {
    bytes: &'a [u8],
    at: usize,
    len: usize,
    base: u64,
    size: SegmentSize,
}

impl<'a> Data<'a> {
    /// They lie within one page, as most records do.
    pub(crate) fn in_one_page(&self) -> Option<&'a [u8]> {
        if self.at % PAGE + self.len > PAGE {
            return None;
        }
        self.bytes.get(self.at..self.at + self.len)
    }

    /// Appends them to `to`, without the page headers: as many as there are.
    pub(crate) fn append_to(&self, to: &mut Vec<u8>) {
        let (mut at, mut left) = (self.at, self.len);
        while left > 0 && at < self.bytes.len() {
            let n = left.min(PAGE - at % PAGE);
            let piece = self.bytes.get(at..self.bytes.len().min(at + n)).unwrap_or_default();
            to.extend_from_slice(piece);
            left -= n;
            at += n;
            if at.is_multiple_of(PAGE) {
                at += header_size(self.base.saturating_add(at as u64), self.size) as usize;
            }
        }
    }
}

/// [`scan_part`], with somebody who looks on.
pub(crate) fn walk_part<S: Sink>(
    head: &SegmentHeader,
    bytes: &[u8],
    offset: u64,
    len: usize,
    sink: &mut S,
) -> Result<SegmentFacts, WalError> {
    let size = head.segment_size;
    let start = Lsn(head.page_addr.0.saturating_add(offset));
    let mut w = Walk {
        bytes,
        base: start.0,
        segment: head.page_addr.0,
        major: head.major,
        size,
        timeline: head.timeline,
        after_lost: 0,
    };
    let mut facts = SegmentFacts {
        major: head.major,
        system_id: head.system_id,
        segment_size: size,
        timeline: head.timeline,
        start,
        first_record: None,
        last_record: None,
        records: 0,
        first_time: None,
        last_time: None,
        commits: 0,
        restore_points: Vec::new(),
        has_switch: false,
        directory_ops: DirectoryOps::begin(match head.rem_len as usize {
            _ if offset > 0 => &[],
            0 => &[],
            rest => bytes.get(LONG_HEADER..PAGE.min(LONG_HEADER + rest)).unwrap_or_default(),
        }),
        end_of_data: start,
        tail: None,
    };

    // The rest of a record of the segment (or part) before.
    let stop = len.min(w.len());
    let (from, rest, replaces) = match w.header(0)? {
        Some(h) if h.flags.is_continuation() => (h.size(), h.rem_len as usize, false),
        Some(h) => (h.size(), 0, h.flags.overwrites_continuation()),
        None => {
            sink.closed(start);
            return Ok(facts);
        }
    };
    if replaces {
        sink.lost(None);
    }
    let mut at = match w.advance(from, rest)? {
        End::At(at) => {
            if rest > 0 {
                sink.rest(w.data(from, rest, stop), at <= len);
            }
            at
        }
        End::Lost => {
            match w.after_lost < len {
                true => sink.lost(None),
                false => sink.rest(w.data(from, rest, stop), false),
            }
            w.after_lost
        }
        End::Unwritten => {
            sink.closed(start);
            return Ok(facts);
        }
        End::Beyond => {
            sink.rest(w.data(from, rest, stop), false);
            facts.end_of_data = w.lsn(w.len());
            facts.timeline = w.timeline;
            facts.tail = (offset > 0).then_some(start);
            return Ok(facts);
        }
    };
    let mut prev: Option<Lsn> = None;
    loop {
        // A later part without a byte of data has no end of its own.
        if offset == 0 || rest > 0 || facts.records > 0 {
            facts.end_of_data = w.lsn(at);
        }
        if at >= len {
            break;
        }
        let Some(rec) = w.record_start(at)? else {
            if at < w.len() {
                sink.closed(w.lsn(at));
            }
            break;
        };
        let lsn = w.lsn(rec);
        let Some(total) = u32_at(bytes, rec).filter(|n| *n > 0) else {
            sink.closed(w.lsn(at));
            break;
        };
        if !(RECORD_HEADER as u32..=MAX_RECORD).contains(&total) {
            return Err(WalError::RecordLength { at: lsn, length: total });
        }
        let mut buf = [0u8; ENOUGH];
        // Few records are more than skipped; only those that lie across pages need a copy for it.
        let header = match bytes.get(rec..rec + RECORD_HEADER) {
            Some(h) if rec % PAGE + RECORD_HEADER <= PAGE => h,
            _ => w.copy(rec, &mut buf, RECORD_HEADER),
        };
        let next = w.advance(rec, total as usize)?;
        match next {
            // Never completed: it does not count, and the next record follows the one before it.
            End::Lost => {
                at = w.after_lost;
                match at < len {
                    true => sink.lost(Some(lsn)),
                    false => sink.tail(lsn, w.data(rec, total as usize, stop)),
                }
                continue;
            }
            End::Unwritten => {
                sink.closed(w.lsn(at));
                break;
            }
            End::At(_) | End::Beyond => {}
        }
        // Whatever follows is the next part's.
        let whole = matches!(next, End::At(end) if end <= len);
        // With the header cut by the end of the segment there is nothing to check it by.
        if let Some(h) = RecordHeader::parse(header) {
            check(lsn, h.prev, prev, h.rmgr)?;
            if whole {
                sink.record(lsn, h, w.data(rec, total as usize, stop));
            }
            facts.directory_ops.see(h.rmgr, h.info);
            if matches!(h.rmgr, Rmgr::XACT | Rmgr::XLOG) {
                look(&mut facts, lsn, h.rmgr, h.info, w.copy(rec, &mut buf, total as usize));
            }
        } else {
            facts.directory_ops.cut(header.len());
        }
        if !whole {
            sink.tail(lsn, w.data(rec, total as usize, stop));
        }
        facts.first_record.get_or_insert(lsn);
        facts.last_record = Some(lsn);
        facts.records += 1;
        prev = Some(lsn);
        match next {
            _ if facts.has_switch => {
                facts.end_of_data = w.end();
                if whole {
                    sink.closed(w.end());
                }
                break;
            }
            End::At(next) => at = next,
            End::Beyond | End::Unwritten | End::Lost => {
                facts.tail = Some(lsn);
                facts.end_of_data = w.lsn(w.len());
                break;
            }
        }
    }
    facts.timeline = w.timeline;
    Ok(facts)
}

fn check(at: Lsn, link: Lsn, prev: Option<Lsn>, rmgr: Rmgr) -> Result<(), WalError> {
    if !rmgr.is_valid() {
        return Err(WalError::Rmgr { at, id: rmgr.0 });
    }
    match prev {
        Some(expected) if link != expected => Err(WalError::PrevLink { at, found: link, expected }),
        None if link >= at => Err(WalError::PrevLink { at, found: link, expected: Lsn::INVALID }),
        _ => Ok(()),
    }
}

/// Notes what a record says, if it is one of the few that say something here.
fn look(facts: &mut SegmentFacts, lsn: Lsn, rmgr: Rmgr, info: u8, part: &[u8]) {
    match rmgr {
        Rmgr::XACT => {
            let Some(kind) = XactKind::from_info(info) else { return };
            if kind == XactKind::Prepare {
                return;
            }
            if kind.is_commit() {
                facts.commits += 1;
            }
            if let Some(t) = main_data(part).and_then(|m| u64_at(m, 0)) {
                facts.see_time(PgTimestamp(t as i64).unix_micros());
            }
        }
        Rmgr::XLOG => {
            if info & 0xF0 == 0x40 {
                facts.has_switch = true;
                return;
            }
            let Some(main) = main_data(part) else { return };
            match decode_xlog_parts(info & 0xF0, main, facts.major).flatten() {
                Some(XlogRecord::Checkpoint { checkpoint, .. }) => {
                    facts.see_time(checkpoint.time.saturating_mul(1_000_000));
                }
                Some(XlogRecord::RestorePoint { name, time }) => {
                    let time = time.unix_micros();
                    facts.see_time(time);
                    facts.restore_points.push(RestorePoint { name, lsn, time });
                }
                Some(XlogRecord::EndOfRecovery { time, .. }) => facts.see_time(time.unix_micros()),
                _ => {}
            }
        }
        _ => {}
    }
}

/// The main data of a record without block references, as far as it is there.
fn main_data(part: &[u8]) -> Option<&[u8]> {
    let mut at = RECORD_HEADER;
    loop {
        match u8_at(part, at)? {
            255 => return part.get(at + 2..),
            254 => return part.get(at + 5..),
            253 => at += 3,
            252 => at += 5,
            _ => return None,
        }
    }
}

/// Offsets in a segment, with the page headers between the data.
struct Walk<'a> {
    bytes: &'a [u8],
    base: u64,
    /// Start of the segment; `base` unless this is a later part of it.
    segment: u64,
    major: PgMajor,
    size: SegmentSize,
    timeline: TimelineId,
    /// The page that replaces a lost record, after [`End::Lost`].
    after_lost: usize,
}

/// Where a record ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Its aligned end.
    At(usize),
    /// Not in these bytes.
    Beyond,
    /// Nowhere yet: a page it would go on in was never written. The log ends at its start.
    Unwritten,
    /// Nowhere: its rest was lost in a crash and another record overwrites it.
    Lost,
}

impl<'a> Walk<'a> {
    /// `len` bytes of record data from `at` on, less what lies at `stop` or behind.
    fn data(&self, at: usize, len: usize, stop: usize) -> Data<'a> {
        let bytes = self.bytes.get(..stop).unwrap_or(self.bytes);
        Data { bytes, at, len, base: self.base, size: self.size }
    }

    fn lsn(&self, at: usize) -> Lsn {
        Lsn(self.base.saturating_add(at as u64))
    }

    fn end(&self) -> Lsn {
        Lsn(self.segment.saturating_add(self.size.bytes()))
    }

    /// Bytes that belong to this segment.
    fn len(&self) -> usize {
        let room = self.end().0.saturating_sub(self.base);
        self.bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))
    }

    /// The place of the record at or after the aligned offset `at`: behind the header when `at` is
    /// the start of a page. `None` at the end of the data.
    fn record_start(&mut self, at: usize) -> Result<Option<usize>, WalError> {
        if at >= self.len() {
            return Ok(None);
        }
        if !at.is_multiple_of(PAGE) {
            return Ok(Some(at));
        }
        match self.header(at)? {
            Some(h) if h.flags.is_continuation() => {
                Err(WalError::UnexpectedContinuation { at: self.lsn(at) })
            }
            Some(h) => Ok(Some(at + h.size())),
            None => Ok(None),
        }
    }

    /// The checked header of the page at `at`; `None` when the page is empty, cut off, or left over
    /// from an earlier use of the file.
    fn header(&mut self, at: usize) -> Result<Option<WalPageHeader>, WalError> {
        let Some(page) = self.bytes.get(at..self.len()) else { return Ok(None) };
        let Some(h) = WalPageHeader::parse(page) else { return Ok(None) };
        if h.magic == 0 && h.page_addr == Lsn::INVALID {
            return Ok(None);
        }
        let lsn = self.lsn(at);
        match h.check(lsn, self.major, self.size) {
            Err(WalError::PageAddress { found, .. }) if found < lsn => return Ok(None),
            other => other?,
        }
        if h.timeline < self.timeline {
            let previous = self.timeline;
            return Err(WalError::TimelineOrder { at: lsn, previous, found: h.timeline });
        }
        self.timeline = h.timeline;
        Ok(Some(h))
    }

    /// Where `len` bytes of record data that start at `at` end, following continuations over pages.
    fn advance(&mut self, at: usize, len: usize) -> Result<End, WalError> {
        let (mut at, mut left) = (at, len);
        loop {
            let room = PAGE - at % PAGE;
            if left <= room {
                let end = (at + left).next_multiple_of(8);
                return Ok(if end <= self.len() { End::At(end) } else { End::Beyond });
            }
            left -= room;
            at += room;
            let Some(h) = self.header(at)? else {
                return Ok(if at + SHORT_HEADER > self.len() { End::Beyond } else { End::Unwritten });
            };
            let here = self.lsn(at);
            if h.flags.overwrites_continuation() {
                self.after_lost = at;
                return Ok(End::Lost);
            }
            if !h.flags.is_continuation() {
                return Err(WalError::NoContinuation { at: here, record: Lsn::INVALID });
            }
            if h.rem_len as usize != left {
                return Err(WalError::ContinuationLength {
                    at: here,
                    found: h.rem_len,
                    expected: left as u64,
                });
            }
            at += h.size();
        }
    }

    /// The first bytes of a record at `at`, at most `len`, page headers left out: as many as there
    /// are and as `to` can hold.
    fn copy<'b>(&self, at: usize, to: &'b mut [u8; ENOUGH], len: usize) -> &'b [u8] {
        let want = len.min(ENOUGH);
        let (mut at, mut done) = (at, 0);
        while done < want {
            let n = (want - done).min(PAGE - at % PAGE);
            let from = self.bytes.get(at..self.len().min(at + n)).unwrap_or_default();
            let Some(t) = to.get_mut(done..done + from.len()) else { break };
            t.copy_from_slice(from);
            done += from.len();
            if from.len() < n {
                break;
            }
            at += n;
            if at.is_multiple_of(PAGE) {
                at += header_size(self.lsn(at).0, self.size) as usize;
            }
        }
        to.get(..done).unwrap_or_default()
    }
}
