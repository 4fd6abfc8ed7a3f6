//! [`WalReader`]: bytes of the log in, records out.
//!
//! The rules are those of `XLogDecodeNextRecord` (src/backend/access/transam/xlogreader.c).
//!
//! How to use it: make one for a position that is the start of a page or of a record, [`feed`] it
//! the bytes from exactly there on (of one segment after the other, in pieces of any size), and call
//! [`next`] until it answers `None`, which asks for more bytes unless [`end`] tells that the log is
//! over.
//!
//! Invariants:
//! 1. The result does not depend on how the input is cut into pieces.
//! 2. Starting at a page, the rest of a record that began earlier is skipped.
//! 3. The end of the log is where the server would find it: a length of zero, a page of zeroes, or a
//!    page left over from the file's former use. Anything else that does not fit is an error, and
//!    after an error the same error is given again.
//!
//! [`feed`]: WalReader::feed
//! [`next`]: WalReader::next
//! [`end`]: WalReader::end

use super::page::{LONG_HEADER, PageFlags, SHORT_HEADER, WAL_PAGE_SIZE, WalPageHeader};
use super::record::{MAX_RECORD, RECORD_HEADER, Record, RecordHeader, check_crc, decode_record, is_switch};
use super::{Rmgr, WalError};
use crate::bytes::{u16_at, u32_at, u64_at};
use crate::page::DEFAULT_BLOCK_SIZE;
use crate::version::PgMajor;
use holdfast_core::lsn::{Lsn, SegmentSize, TimelineId};

/// Where and how the log ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalEnd {
    /// Zeroes: never written. The position is where the next record would go, or where a record
    /// starts whose rest is missing.
    ZeroFill(Lsn),
    /// A page of an earlier use of the file.
    Recycled(Lsn),
}

impl WalEnd {
    pub fn lsn(self) -> Lsn {
        match self {
            WalEnd::ZeroFill(l) | WalEnd::Recycled(l) => l,
        }
    }
}

/// Reads records from a stream of bytes.
#[derive(Debug)]
pub struct WalReader {
    major: PgMajor,
    size: SegmentSize,
    verify_crc: bool,
    block_size: u32,
    system_id: Option<u64>,

    buf: Vec<u8>,
    pos: usize,
    /// Position of the byte at `pos`.
    lsn: u64,
    /// Bytes to drop, page headers included: padding, and the rest of a segment after a switch.
    drop: u64,
    /// Bytes of record data to drop, page headers not counted: the rest of a record before ours.
    skip: u64,
    partial: Option<Partial>,
    /// Nothing but skipping has happened yet.
    fresh: bool,
    prev: Option<Lsn>,
    timeline: Option<TimelineId>,
    /// A record was lost here; the next one must say so.
    overwritten: Option<Lsn>,
    end: Option<WalEnd>,
    failed: Option<WalError>,
}

/// A record of which more is to come.
#[derive(Debug)]
struct Partial {
    lsn: Lsn,
    total: usize,
    data: Vec<u8>,
    header_checked: bool,
}

/// What one step of the machine did.
enum Step {
    Again,
    NeedMore,
    Record(Box<Record>),
}

impl WalReader {
    /// A reader for the bytes from `start` on. `start` is the start of a page or of a record.
    pub fn new(start: Lsn, major: PgMajor, size: SegmentSize) -> Self {
        let off = start.0 % WAL_PAGE_SIZE;
        let fits = off == 0 || (off >= SHORT_HEADER as u64 && off.is_multiple_of(8));
        WalReader {
            major,
            size,
            verify_crc: true,
            block_size: DEFAULT_BLOCK_SIZE,
            system_id: None,
            buf: Vec::new(),
            pos: 0,
            lsn: start.0,
            drop: 0,
            skip: 0,
            partial: None,
            fresh: true,
            prev: None,
            timeline: None,
            overwritten: None,
            end: None,
            failed: (!fits).then_some(WalError::StartPosition(start)),
        }
    }

    /// Whether CRCs of records are checked (they are, unless told otherwise).
    #[must_use]
    pub fn verify_crc(mut self, yes: bool) -> Self {
        self.verify_crc = yes;
        self
    }

    /// The size of relation pages, when it is not 8192.
    #[must_use]
    pub fn block_size(mut self, bytes: u32) -> Self {
        self.block_size = bytes;
        self
    }

    /// Refuse segments of another database system.
    #[must_use]
    pub fn expect_system_id(mut self, id: u64) -> Self {
        self.system_id = Some(id);
        self
    }

    /// The next bytes of the log.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.end.is_some() || self.failed.is_some() {
            return;
        }
        if self.pos >= self.buf.len() / 2 {
            self.buf.drain(..self.pos.min(self.buf.len()));
            self.pos = 0;
        }
        self.buf.extend_from_slice(bytes);
    }

    /// The next record, or `None` when more bytes are needed or the log is over.
    #[allow(clippy::should_implement_trait)] // an iterator's `None` would mean something else
    pub fn next(&mut self) -> Result<Option<Record>, WalError> {
        if let Some(e) = &self.failed {
            return Err(e.clone());
        }
        while self.end.is_none() {
            match self.step() {
                Ok(Step::Again) => {}
                Ok(Step::NeedMore) => return Ok(None),
                Ok(Step::Record(r)) => return Ok(Some(*r)),
                Err(e) => {
                    self.failed = Some(e.clone());
                    return Err(e);
                }
            }
        }
        Ok(None)
    }

    /// Where the log ended, once that is known.
    pub fn end(&self) -> Option<WalEnd> {
        self.end
    }

    /// Position of the next byte to be looked at.
    pub fn position(&self) -> Lsn {
        Lsn(self.lsn)
    }

    /// Start of the record of which more is needed.
    pub fn partial_record(&self) -> Option<Lsn> {
        self.partial.as_ref().map(|p| p.lsn)
    }

    /// The timeline of the last page whose header was read.
    pub fn timeline(&self) -> Option<TimelineId> {
        self.timeline
    }

    fn available(&self) -> &[u8] {
        self.buf.get(self.pos..).unwrap_or_default()
    }

    fn consume(&mut self, n: usize) {
        self.pos += n;
        self.lsn = self.lsn.saturating_add(n as u64);
    }

    fn step(&mut self) -> Result<Step, WalError> {
        if self.drop > 0 {
            return Ok(self.drop_some());
        }
        if self.lsn.is_multiple_of(WAL_PAGE_SIZE) {
            return self.page_header();
        }
        let page_left = WAL_PAGE_SIZE - self.lsn % WAL_PAGE_SIZE;
        let n = usize::try_from(page_left).unwrap_or(0).min(self.available().len());
        if self.skip > 0 {
            let n = n.min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            if n == 0 {
                return Ok(Step::NeedMore);
            }
            self.consume(n);
            self.skip -= n as u64;
            if self.skip == 0 {
                self.drop = padding(self.lsn);
            }
            return Ok(Step::Again);
        }
        if self.partial.is_some() { self.continue_record(n) } else { self.begin_record(page_left) }
    }

    fn drop_some(&mut self) -> Step {
        let n = self.available().len().min(usize::try_from(self.drop).unwrap_or(usize::MAX));
        if n == 0 {
            return Step::NeedMore;
        }
        self.consume(n);
        self.drop -= n as u64;
        Step::Again
    }

    fn page_header(&mut self) -> Result<Step, WalError> {
        let at = Lsn(self.lsn);
        let here = self.available();
        let (Some(head), Some(flags)) = (here.get(..SHORT_HEADER), u16_at(here, 2)) else {
            return Ok(Step::NeedMore);
        };
        if head.iter().all(|b| *b == 0) {
            self.end = Some(WalEnd::ZeroFill(self.partial_record().unwrap_or(at)));
            return Ok(Step::Again);
        }
        if PageFlags(flags).has_long_header() && here.len() < LONG_HEADER {
            return Ok(Step::NeedMore);
        }
        let Some(h) = WalPageHeader::parse(here) else { return Ok(Step::NeedMore) };
        match h.check(at, self.major, self.size) {
            // A segment file is reused by renaming it: what it still holds lies further back. Magic
            // and flags may be of an older major version only in a cluster that was upgraded with
            // its pg_wal, which pg_upgrade does not do.
            Err(WalError::PageAddress { found, .. }) if found < at => {
                self.end = Some(WalEnd::Recycled(self.partial_record().unwrap_or(at)));
                return Ok(Step::Again);
            }
            other => other?,
        }
        if let (Some(long), Some(expected)) = (&h.long, self.system_id)
            && long.system_id != expected
        {
            return Err(WalError::SystemId { at, found: long.system_id, expected });
        }
        match self.timeline {
            Some(previous) if h.timeline < previous => {
                return Err(WalError::TimelineOrder { at, previous, found: h.timeline });
            }
            _ => self.timeline = Some(h.timeline),
        }
        self.continuation(at, &h)?;
        self.consume(h.size());
        Ok(Step::Again)
    }

    /// Whether the page goes on with what came before it.
    fn continuation(&mut self, at: Lsn, h: &WalPageHeader) -> Result<(), WalError> {
        if let Some(p) = &self.partial {
            if h.flags.overwrites_continuation() {
                self.overwritten = Some(p.lsn);
                self.partial = None;
                return Ok(());
            }
            if !h.flags.is_continuation() {
                return Err(WalError::NoContinuation { at, record: p.lsn });
            }
            return expect_length(at, h.rem_len, p.total.saturating_sub(p.data.len()) as u64);
        }
        if self.skip > 0 {
            if h.flags.overwrites_continuation() {
                self.skip = 0;
                return Ok(());
            }
            if !h.flags.is_continuation() {
                return Err(WalError::NoContinuation { at, record: Lsn::INVALID });
            }
            return expect_length(at, h.rem_len, self.skip);
        }
        if h.flags.is_continuation() {
            if !self.fresh {
                return Err(WalError::UnexpectedContinuation { at });
            }
            self.skip = u64::from(h.rem_len);
        }
        Ok(())
    }

    fn begin_record(&mut self, page_left: u64) -> Result<Step, WalError> {
        let at = Lsn(self.lsn);
        let here = self.available();
        let Some(length) = u32_at(here, 0) else { return Ok(Step::NeedMore) };
        if length == 0 {
            self.end = Some(WalEnd::ZeroFill(at));
            return Ok(Step::Again);
        }
        if !(RECORD_HEADER as u32..=MAX_RECORD).contains(&length) {
            return Err(WalError::RecordLength { at, length });
        }
        let total = length as usize;
        if u64::from(length) > page_left {
            self.partial = Some(Partial {
                lsn: at,
                total,
                data: Vec::with_capacity(total.min(64 << 10)),
                header_checked: false,
            });
            self.fresh = false;
            return Ok(Step::Again);
        }
        let Some(bytes) = here.get(..total) else { return Ok(Step::NeedMore) };
        let bytes = bytes.to_vec();
        self.check_header(at, &bytes)?;
        self.fresh = false;
        self.consume(total);
        self.finish_record(at, bytes)
    }

    fn continue_record(&mut self, n: usize) -> Result<Step, WalError> {
        if n == 0 {
            return Ok(Step::NeedMore);
        }
        let Some(mut p) = self.partial.take() else { return Ok(Step::Again) };
        let n = n.min(p.total.saturating_sub(p.data.len()));
        p.data.extend_from_slice(self.available().get(..n).unwrap_or_default());
        self.consume(n);
        // Before collecting a gigabyte, make sure that this is a record at all.
        if !p.header_checked && p.data.len() >= RECORD_HEADER {
            self.check_header(p.lsn, &p.data)?;
            p.header_checked = true;
        }
        if p.data.len() < p.total {
            self.partial = Some(p);
            return Ok(Step::Again);
        }
        self.finish_record(p.lsn, p.data)
    }

    /// `ValidXLogRecordHeader`.
    fn check_header(&self, at: Lsn, bytes: &[u8]) -> Result<(), WalError> {
        let h = RecordHeader::parse(bytes).ok_or(WalError::Malformed { at, what: "it is cut short" })?;
        if !h.rmgr.is_valid() {
            return Err(WalError::Rmgr { at, id: h.rmgr.0 });
        }
        match self.prev {
            Some(expected) if h.prev != expected => Err(WalError::PrevLink { at, found: h.prev, expected }),
            None if h.prev >= at => Err(WalError::PrevLink { at, found: h.prev, expected: Lsn::INVALID }),
            _ => Ok(()),
        }
    }

    fn finish_record(&mut self, at: Lsn, bytes: Vec<u8>) -> Result<Step, WalError> {
        let h = RecordHeader::parse(&bytes).ok_or(WalError::Malformed { at, what: "it is cut short" })?;
        if self.verify_crc {
            check_crc(at, &bytes, h.crc)?;
        }
        self.drop = padding(self.lsn);
        if is_switch(h.rmgr, h.info) {
            let here = self.lsn.saturating_add(self.drop);
            let over = here % self.size.bytes();
            if over != 0 {
                self.drop += self.size.bytes() - over;
            }
        }
        let record = decode_record(at, Lsn(self.lsn.saturating_add(self.drop)), bytes, self.block_size)?;
        // `VerifyOverwriteContrecord` (src/backend/access/transam/xlogrecovery.c).
        if let Some(lost) = self.overwritten.take() {
            let named = u64_at(record.main_data(), 0).map(Lsn);
            if record.rmgr != Rmgr::XLOG || record.kind() != 0xD0 || named != Some(lost) {
                return Err(WalError::Malformed { at, what: "it replaces a lost record without naming it" });
            }
        }
        self.prev = Some(at);
        Ok(Step::Record(Box::new(record)))
    }
}

fn padding(lsn: u64) -> u64 {
    lsn.wrapping_neg() % 8
}

fn expect_length(at: Lsn, found: u32, expected: u64) -> Result<(), WalError> {
    if found == 0 || u64::from(found) != expected {
        return Err(WalError::ContinuationLength { at, found, expected });
    }
    Ok(())
}
