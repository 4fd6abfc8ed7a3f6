//! [`SegmentChanges`]: what one segment file of the log, or a part of it, says by itself.
//!
//! Records lie across the edges of segments, and nothing may be taken from one before its CRC was checked, so
//! a segment keeps what it has of them as it is: the rest of the record that began before it, and the start of
//! the one that goes on behind it. [`SegmentChanges::join`] puts both together.
//!
//! Invariants:
//! 1. The set holds what records that start *and* end here do.
//! 2. `join` is associative. Whatever does not fit together makes the sum untrusted.

use super::{ChangeSet, Effect, effects};
use crate::control::WalLevel;
use crate::version::PgMajor;
use crate::wal::{
    MAX_RECORD, RECORD_HEADER, RecordHeader, SegmentHeader, WAL_PAGE_SIZE, WalError, header_size, is_switch,
};
use holdfast_core::lsn::{Lsn, SegmentSize, TimelineId};

/// The longest record that is put together from pieces. The server allows a little under 1 GiB.
pub(super) const MAX_HELD: u64 = 64 << 20;

/// Why what a stretch of the log says cannot be relied on: pages have to be read and compared instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Distrust {
    /// The CRC of a record is wrong.
    #[error("a wal record has a bad checksum")]
    BadCrc,
    /// The server would refuse the record.
    #[error("a wal record is malformed")]
    Malformed,
    /// Neither one of the core's resource managers nor a custom one.
    #[error("a wal record has an unknown resource manager")]
    UnknownRmgr,
    /// `XLR_SPECIAL_REL_UPDATE`, or a storage record of an unknown kind.
    #[error("a wal record changes files in an unknown way")]
    UnknownFileChange,
    /// Neither minimal, replica nor logical.
    #[error("a wal record names an unknown wal level")]
    UnknownWalLevel,
    /// Pages, or parts of a record, or the links from record to record.
    #[error("the wal does not go on where it should")]
    Broken,
    /// A record whose pieces were too long to be kept.
    #[error("a wal record across segments is too long to be kept")]
    Hole,
    /// More than [`super::MAX_ENCODED`] bytes.
    #[error("the changes of a wal segment are too many to be kept")]
    TooMany,
}

impl Distrust {
    /// The number in stored bytes; from 1.
    const ALL: [Distrust; 8] = [
        Distrust::BadCrc,
        Distrust::Malformed,
        Distrust::UnknownRmgr,
        Distrust::UnknownFileChange,
        Distrust::UnknownWalLevel,
        Distrust::Broken,
        Distrust::Hole,
        Distrust::TooMany,
    ];

    pub(super) fn code(self) -> u8 {
        Distrust::ALL.iter().zip(1..).find(|(d, _)| **d == self).map_or(0, |(_, n)| n)
    }

    pub(super) fn from_code(n: u8) -> Option<Self> {
        Distrust::ALL.get(usize::from(n).checked_sub(1)?).copied()
    }
}

impl From<&WalError> for Distrust {
    fn from(e: &WalError) -> Self {
        match e {
            WalError::Crc { .. } => Distrust::BadCrc,
            WalError::Rmgr { .. } => Distrust::UnknownRmgr,
            WalError::Malformed { .. } | WalError::RecordLength { .. } => Distrust::Malformed,
            _ => Distrust::Broken,
        }
    }
}

/// Where and why a stretch of the log cannot be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("wal at {at}")]
pub struct Untrusted {
    /// The record, or the start of the stretch.
    pub at: Lsn,
    /// What is wrong.
    #[source]
    pub why: Distrust,
}

/// Bytes of a record, page headers left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Bytes(Vec<u8>),
    /// As many were not kept.
    Dropped(u64),
}

impl Piece {
    pub(super) fn len(&self) -> u64 {
        match self {
            Piece::Bytes(b) => b.len() as u64,
            Piece::Dropped(n) => *n,
        }
    }

    fn append(&mut self, more: Piece) {
        let len = self.len().saturating_add(more.len());
        match (&mut *self, more) {
            (Piece::Bytes(a), Piece::Bytes(b)) if len <= MAX_HELD => a.extend_from_slice(&b),
            _ => *self = Piece::Dropped(len),
        }
    }
}

/// What there is at the start of a stretch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Head {
    /// A record.
    Record,
    /// The rest of a record that began before, all of it or (`through`) as much as fits the whole stretch.
    Rest { piece: Piece, through: bool },
    /// A record that replaces the one that began there and was lost.
    Replaces(Lsn),
}

/// The start of a record that goes on behind the stretch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) at: Lsn,
    pub(super) piece: Piece,
}

/// What a segment file, or a part of it, says about changed pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentChanges {
    /// The server's major version, by the magic of the pages.
    pub major: PgMajor,
    /// The database system.
    pub system_id: u64,
    /// Size of segment files.
    pub segment_size: SegmentSize,
    /// Size of relation pages.
    pub block_size: u32,
    /// Timeline of the segment's first page.
    pub first_timeline: TimelineId,
    /// Timeline of the last page.
    pub timeline: TimelineId,
    /// Start of the stretch.
    pub start: Lsn,
    /// What lies before this was looked at. The segment's end, unless it is not full.
    pub end: Lsn,
    /// A record says that the WAL level is, or from here on was, minimal.
    pub minimal_wal: bool,
    /// A record says that `full_page_writes` is off.
    pub full_page_writes_off: bool,
    /// Why nothing of this can be relied on.
    pub untrusted: Option<Untrusted>,
    /// What whole records did.
    pub set: ChangeSet,
    pub(super) head: Head,
    pub(super) tail: Option<Tail>,
    /// The link of the first record that starts and ends here to the one before it.
    pub(super) first_prev: Option<Lsn>,
    /// The last record that starts and ends here.
    pub(super) last_record: Option<Lsn>,
}

impl SegmentChanges {
    /// Of a stretch in which nothing was found yet.
    pub(super) fn begin(head: &SegmentHeader, block_size: u32, start: Lsn, end: Lsn) -> Self {
        SegmentChanges {
            major: head.major,
            system_id: head.system_id,
            segment_size: head.segment_size,
            block_size,
            first_timeline: head.timeline,
            timeline: head.timeline,
            start,
            end,
            minimal_wal: false,
            full_page_writes_off: false,
            untrusted: None,
            set: ChangeSet::new(),
            head: Head::Record,
            tail: None,
            first_prev: None,
            last_record: None,
        }
    }

    /// Bytes of a record that began before this, if there are any, and of one that goes on behind it.
    pub fn fragment_lengths(&self) -> (u64, u64) {
        let head = match &self.head {
            Head::Rest { piece, .. } => piece.len(),
            _ => 0,
        };
        (head, self.tail.as_ref().map_or(0, |t| t.piece.len()))
    }

    /// Where the record starts that goes on behind this.
    pub fn tail(&self) -> Option<Lsn> {
        self.tail.as_ref().map(|t| t.at)
    }

    /// What this and the stretch right behind it say together. One that does not start where this ends adds
    /// nothing: the log ended in between, or a switch left the rest of the segment unused.
    #[must_use]
    pub fn join(mut self, later: SegmentChanges) -> SegmentChanges {
        if later.start != self.end {
            return self;
        }
        let mut end = later.end;
        let mut began_in = false;
        // What was found is told before what follows from it.
        self.untrusted = self.untrusted.or(later.untrusted);
        match (self.tail.take(), later.head) {
            (Some(mut tail), Head::Rest { piece, through }) => {
                tail.piece.append(piece);
                if through {
                    self.tail = Some(tail);
                } else {
                    began_in = true;
                    if self.put_together(&tail) {
                        // The rest of the segment is unused.
                        let size = self.segment_size;
                        end = size.start_of(size.segment_of(later.start).saturating_add(1)).max(end);
                    }
                }
            }
            (Some(tail), Head::Replaces(lost)) if tail.at == lost => {}
            (None, Head::Rest { piece: more, through: goes_on }) => match &mut self.head {
                Head::Rest { piece, through } if *through => {
                    piece.append(more);
                    *through = goes_on;
                }
                _ => self.distrust(later.start, Distrust::Broken),
            },
            (None, Head::Replaces(lost)) => match self.head {
                Head::Rest { through: true, .. } => self.head = Head::Replaces(lost),
                _ => self.distrust(later.start, Distrust::Broken),
            },
            // An empty stretch, of a segment that holds nothing from here on.
            (tail, Head::Record) if later.start == later.end => self.tail = tail,
            (None, Head::Record) => {
                if matches!(self.head, Head::Rest { through: true, .. }) {
                    self.distrust(later.start, Distrust::Broken);
                }
            }
            (Some(_), _) => self.distrust(later.start, Distrust::Broken),
        }
        if let (Some(last), Some(link)) = (self.last_record, later.first_prev)
            && last != link
        {
            self.distrust(later.start, Distrust::Broken);
        }
        if !began_in {
            self.first_prev = self.first_prev.or(later.first_prev.filter(|_| self.last_record.is_none()));
        }
        self.last_record = later.last_record.or(self.last_record);
        self.tail = self.tail.or(later.tail);
        self.minimal_wal |= later.minimal_wal;
        self.full_page_writes_off |= later.full_page_writes_off;
        self.timeline = self.timeline.max(later.timeline);
        self.end = end;
        self.set.merge(later.set);
        self
    }

    /// Where the rest of a record that began before this ends.
    pub(super) fn rest_end(&self) -> Lsn {
        let Head::Rest { piece, through } = &self.head else { return self.start };
        if *through {
            return self.end;
        }
        let (mut at, mut left) = (self.start.0, piece.len());
        while left > 0 && at < self.end.0 {
            if at.is_multiple_of(WAL_PAGE_SIZE) {
                at = at.saturating_add(header_size(at, self.segment_size));
            }
            let n = left.min(WAL_PAGE_SIZE - at % WAL_PAGE_SIZE);
            at = at.saturating_add(n);
            left -= n;
        }
        Lsn(at)
    }

    pub(super) fn distrust(&mut self, at: Lsn, why: Distrust) {
        self.untrusted.get_or_insert(Untrusted { at, why });
    }

    /// Takes in a record whose last piece was found. Whether it is a switch.
    fn put_together(&mut self, record: &Tail) -> bool {
        let at = record.at;
        let bytes = match &record.piece {
            Piece::Bytes(b) => b,
            Piece::Dropped(_) => {
                self.distrust(at, Distrust::Hole);
                // The link of the next record can be checked all the same.
                self.last_record = Some(at);
                return false;
            }
        };
        let Some(header) = RecordHeader::parse(bytes).filter(|h| whole(h, bytes)) else {
            self.distrust(at, Distrust::Broken);
            return false;
        };
        if self.last_record.is_some_and(|last| last != header.prev) || header.prev >= at {
            self.distrust(at, Distrust::Broken);
        }
        if self.last_record.is_none() {
            self.first_prev = Some(header.prev);
        }
        self.last_record = Some(at);
        let (mut set, mut facts) = (std::mem::take(&mut self.set), Facts::default());
        let result = effects(at, bytes, self.major, self.block_size, |e| {
            facts.see(e);
            set.apply(e);
        });
        self.set = set;
        self.note(at, &facts, result);
        is_switch(header.rmgr, header.info)
    }

    /// What a record says beside changes of files.
    pub(super) fn note(&mut self, at: Lsn, facts: &Facts, result: Result<(), WalError>) {
        self.minimal_wal |= facts.minimal_wal;
        self.full_page_writes_off |= facts.full_page_writes_off;
        if let Err(e) = result {
            self.distrust(at, Distrust::from(&e));
        } else if let Some(why) = facts.distrust {
            self.distrust(at, why);
        }
    }
}

fn whole(header: &RecordHeader, bytes: &[u8]) -> bool {
    bytes.len() >= RECORD_HEADER
        && header.total_len <= MAX_RECORD
        && usize::try_from(header.total_len) == Ok(bytes.len())
}

/// Effects on no file, of one record or more.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    pub(super) minimal_wal: bool,
    pub(super) full_page_writes_off: bool,
    pub(super) distrust: Option<Distrust>,
    pub(super) replaces: Option<Lsn>,
}

impl Facts {
    #[inline]
    pub(super) fn see(&mut self, effect: Effect) {
        match effect {
            Effect::WalLevel(WalLevel::Minimal) => self.minimal_wal = true,
            Effect::FullPageWrites(false) => self.full_page_writes_off = true,
            Effect::Unknown(why) => self.distrust = self.distrust.or(Some(why)),
            Effect::Replaces(lost) => self.replaces = Some(lost),
            _ => {}
        }
    }
}
