//! Headers of WAL pages: [`WalPageHeader`], and [`segment_header`] for the head of a segment file.
//!
//! `XLogPageHeaderData`, `XLogLongPageHeaderData` (src/include/access/xlog_internal.h) and
//! `XLogReaderValidatePageHeader` (src/backend/access/transam/xlogreader.c).

use super::WalError;
use crate::bytes::{u16_at, u32_at, u64_at};
use crate::version::PgMajor;
use holdfast_core::lsn::{Lsn, SegmentName, SegmentSize, TimelineId};

/// `XLOG_BLCKSZ` as everyone builds it.
pub const WAL_PAGE_SIZE: u64 = 8192;
/// `SizeOfXLogShortPHD`, `SizeOfXLogLongPHD`.
pub(crate) const SHORT_HEADER: usize = 24;
pub(crate) const LONG_HEADER: usize = 40;

/// `xlp_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageFlags(pub u16);

impl PageFlags {
    const ALL: u16 = 0x000F;

    /// The page starts with the rest of a record.
    pub fn is_continuation(self) -> bool {
        self.0 & 0x0001 != 0
    }

    pub fn has_long_header(self) -> bool {
        self.0 & 0x0002 != 0
    }

    /// The record that was to continue here was lost in a crash; another one starts instead.
    pub fn overwrites_continuation(self) -> bool {
        self.0 & 0x0008 != 0
    }
}

/// The header of one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalPageHeader {
    pub magic: u16,
    pub flags: PageFlags,
    pub timeline: TimelineId,
    pub page_addr: Lsn,
    /// Bytes of the record begun on an earlier page that are still to come, from this page on.
    pub rem_len: u32,
    /// Only on the first page of a segment.
    pub long: Option<LongHeader>,
}

/// What the first page of a segment adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongHeader {
    pub system_id: u64,
    pub segment_size: u32,
    pub block_size: u32,
}

impl WalPageHeader {
    /// `None` when there are too few bytes. Nothing is judged here.
    pub fn parse(b: &[u8]) -> Option<Self> {
        let flags = PageFlags(u16_at(b, 2)?);
        Some(WalPageHeader {
            magic: u16_at(b, 0)?,
            flags,
            timeline: TimelineId(u32_at(b, 4)?),
            page_addr: Lsn(u64_at(b, 8)?),
            rem_len: u32_at(b.get(..SHORT_HEADER)?, 16)?,
            long: if flags.has_long_header() {
                Some(LongHeader {
                    system_id: u64_at(b, 24)?,
                    segment_size: u32_at(b, 32)?,
                    block_size: u32_at(b, 36)?,
                })
            } else {
                None
            },
        })
    }

    /// Bytes of header before the first record data.
    pub fn size(&self) -> usize {
        if self.long.is_some() { LONG_HEADER } else { SHORT_HEADER }
    }

    /// Whether this header belongs at `at`, less the timeline and system, which callers know.
    pub(crate) fn check(&self, at: Lsn, major: PgMajor, size: SegmentSize) -> Result<(), WalError> {
        if self.magic != major.wal_magic() {
            return Err(WalError::Magic { at, found: self.magic, major });
        }
        if self.flags.0 & !PageFlags::ALL != 0 {
            return Err(WalError::Flags { at, found: self.flags.0 });
        }
        match &self.long {
            Some(l) if u64::from(l.segment_size) != size.bytes() => {
                return Err(WalError::WrongSegmentSize { at, found: l.segment_size, expected: size.bytes() });
            }
            Some(l) if u64::from(l.block_size) != WAL_PAGE_SIZE => {
                return Err(WalError::BlockSize { at, found: l.block_size });
            }
            None if at.0.is_multiple_of(size.bytes()) => return Err(WalError::NoLongHeader { at }),
            _ => {}
        }
        if self.page_addr != at {
            return Err(WalError::PageAddress { at, found: self.page_addr });
        }
        Ok(())
    }
}

/// Bytes of header that the page at `lsn` has.
pub(crate) fn header_size(lsn: u64, size: SegmentSize) -> u64 {
    if lsn.is_multiple_of(size.bytes()) { LONG_HEADER as u64 } else { SHORT_HEADER as u64 }
}

/// What the head of a segment file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    pub major: PgMajor,
    pub system_id: u64,
    pub segment_size: SegmentSize,
    pub block_size: u32,
    /// The timeline of the first page; a segment of a new timeline may start with pages of its
    /// parent, so this may be lower than the timeline in the file's name.
    pub timeline: TimelineId,
    pub page_addr: Lsn,
    /// Bytes at the head that belong to a record of the segment before.
    pub rem_len: u32,
}

impl SegmentHeader {
    /// Whether the content can be what a file of this name holds: the position is the same and the
    /// timeline is not newer than the name's.
    pub fn matches_name(&self, name: SegmentName) -> bool {
        self.page_addr == name.start(self.segment_size) && self.timeline <= name.timeline
    }
}

/// Reads the first bytes of a segment file (40 are enough).
pub fn segment_header(bytes: &[u8]) -> Result<SegmentHeader, WalError> {
    let head = bytes.get(..LONG_HEADER).ok_or(WalError::TooShort(bytes.len()))?;
    let h = WalPageHeader::parse(head).ok_or(WalError::TooShort(bytes.len()))?;
    let major = PgMajor::from_wal_magic(h.magic)?;
    let at = h.page_addr;
    let Some(long) = h.long else { return Err(WalError::NoLongHeader { at }) };
    let segment_size = SegmentSize::try_from(u64::from(long.segment_size)).map_err(WalError::SegmentSize)?;
    if !at.0.is_multiple_of(segment_size.bytes()) {
        return Err(WalError::StartPosition(at));
    }
    h.check(at, major, segment_size)?;
    Ok(SegmentHeader {
        major,
        system_id: long.system_id,
        segment_size,
        block_size: long.block_size,
        timeline: h.timeline,
        page_addr: at,
        rem_len: if h.flags.is_continuation() { h.rem_len } else { 0 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Vec<u8> {
        let mut b = vec![0u8; 64];
        b[..2].copy_from_slice(&0xD116u16.to_le_bytes());
        b[2] = 3;
        b[4] = 10;
        b[8..16].copy_from_slice(&0x300_0000u64.to_le_bytes());
        b[16] = 77;
        b[24..32].copy_from_slice(&42u64.to_le_bytes());
        b[32..36].copy_from_slice(&(16u32 << 20).to_le_bytes());
        b[36..40].copy_from_slice(&8192u32.to_le_bytes());
        b
    }

    #[test]
    fn heads_of_segments() {
        let h = segment_header(&head()).unwrap();
        assert_eq!((h.major, h.system_id, h.timeline, h.rem_len), (PgMajor::V17, 42, TimelineId(10), 77));
        assert!(h.matches_name("0000000A0000000000000003".parse().unwrap()));
        assert!(h.matches_name("0000000B0000000000000003".parse().unwrap()));
        assert!(!h.matches_name("000000090000000000000003".parse().unwrap()));
        assert!(!h.matches_name("0000000A0000000000000004".parse().unwrap()));
        for (at, value) in [(0, 0u8), (2, 1), (2, 0x13), (9, 1), (33, 1), (36, 1)] {
            let mut b = head();
            b[at] = value;
            assert!(segment_header(&b).is_err(), "{at}");
        }
        assert_eq!(segment_header(&head()[..39]), Err(WalError::TooShort(39)));
        assert!(segment_header(&[0; 8192]).is_err());
    }
}
