//! One record: [`Record`] and its [`BlockRef`]s.
//!
//! src/include/access/xlogrecord.h and `DecodeXLogRecord` (src/backend/access/transam/xlogreader.c),
//! with all of its cross-checks: a record that the server would refuse is refused here.

use super::{Rmgr, WalError};
use crate::bytes::{Cursor, u8_at, u32_at, u64_at};
use crate::crc32c::Crc32c;
use crate::relation::{Fork, RelFileLocator};
use holdfast_core::lsn::Lsn;
use std::ops::Range;

/// `SizeOfXLogRecord`.
pub(crate) const RECORD_HEADER: usize = 24;
/// `XLogRecordMaxSize`; 15 allowed a little more, up to `MaxAllocSize`, which is used for all.
pub(crate) const MAX_RECORD: u32 = 0x3FFF_FFFF;

const MAX_BLOCK_ID: u8 = 32;
const ID_DATA_SHORT: u8 = 255;
const ID_DATA_LONG: u8 = 254;
const ID_ORIGIN: u8 = 253;
const ID_TOPLEVEL_XID: u8 = 252;

const HAS_IMAGE: u8 = 0x10;
const HAS_DATA: u8 = 0x20;
const WILL_INIT: u8 = 0x40;
const SAME_REL: u8 = 0x80;

const IMAGE_HAS_HOLE: u8 = 0x01;
const IMAGE_APPLY: u8 = 0x02;
const IMAGE_PGLZ: u8 = 0x04;
const IMAGE_LZ4: u8 = 0x08;
const IMAGE_ZSTD: u8 = 0x10;

/// A full image of a page, perhaps compressed, perhaps without the hole in its middle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockImage {
    pub hole_offset: u16,
    pub hole_length: u16,
    /// `bimg_info`.
    pub info: u8,
    data: Range<usize>,
}

impl BlockImage {
    /// Bytes stored in the record.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    pub fn has_hole(&self) -> bool {
        self.info & IMAGE_HAS_HOLE != 0
    }

    /// Whether replay writes the image; if not, it is only there to compare.
    pub fn is_applied(&self) -> bool {
        self.info & IMAGE_APPLY != 0
    }

    /// `pglz`, `lz4` or `zstd`.
    pub fn compression(&self) -> Option<&'static str> {
        match self.info {
            i if i & IMAGE_PGLZ != 0 => Some("pglz"),
            i if i & IMAGE_LZ4 != 0 => Some("lz4"),
            i if i & IMAGE_ZSTD != 0 => Some("zstd"),
            _ => None,
        }
    }
}

/// A page that a record changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRef {
    /// Its number within the record.
    pub id: u8,
    pub rel: RelFileLocator,
    pub fork: Fork,
    /// Block within the fork.
    pub block: u32,
    /// The high four bits of `fork_flags`.
    pub flags: u8,
    pub image: Option<BlockImage>,
    data: Range<usize>,
}

impl BlockRef {
    /// Replay initialises the page from nothing.
    pub fn will_init(&self) -> bool {
        self.flags & WILL_INIT != 0
    }

    pub fn has_data(&self) -> bool {
        self.flags & HAS_DATA != 0
    }

    pub fn has_image(&self) -> bool {
        self.flags & HAS_IMAGE != 0
    }

    /// The relation was taken over from the reference before.
    pub fn same_rel(&self) -> bool {
        self.flags & SAME_REL != 0
    }
}

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it starts.
    pub lsn: Lsn,
    /// Where the next one can start: rounded up to eight bytes, and for a switch the end of the
    /// segment. At the end of a page this is the start of the next one, before its header.
    pub end_lsn: Lsn,
    pub prev: Lsn,
    pub xid: u32,
    pub rmgr: Rmgr,
    /// `xl_info`, all eight bits.
    pub info: u8,
    pub origin: Option<u16>,
    /// The top-level transaction, when the record is the first of a subtransaction at logical level.
    pub toplevel_xid: Option<u32>,
    pub blocks: Vec<BlockRef>,
    main: Range<usize>,
    bytes: Vec<u8>,
}

impl Record {
    /// `XLR_RMGR_INFO_MASK`: the bits that belong to the resource manager.
    pub fn kind(&self) -> u8 {
        self.info & 0xF0
    }

    /// `XLR_SPECIAL_REL_UPDATE`: changes relation files in ways no block reference shows.
    pub fn is_special_rel_update(&self) -> bool {
        self.info & 0x01 != 0
    }

    /// `XLOG_SWITCH`: the rest of the segment is unused.
    pub fn is_switch(&self) -> bool {
        is_switch(self.rmgr, self.info)
    }

    /// The whole record, page headers removed, without padding.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn main_data(&self) -> &[u8] {
        self.bytes.get(self.main.clone()).unwrap_or_default()
    }

    pub fn block_data(&self, b: &BlockRef) -> &[u8] {
        self.bytes.get(b.data.clone()).unwrap_or_default()
    }

    pub fn block_image(&self, b: &BlockRef) -> Option<&[u8]> {
        self.bytes.get(b.image.as_ref()?.data.clone())
    }
}

pub(crate) fn is_switch(rmgr: Rmgr, info: u8) -> bool {
    rmgr == Rmgr::XLOG && info & 0xF0 == 0x40
}

/// The fixed fields of `XLogRecord`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordHeader {
    pub(crate) total_len: u32,
    pub(crate) xid: u32,
    pub(crate) prev: Lsn,
    pub(crate) info: u8,
    pub(crate) rmgr: Rmgr,
    pub(crate) crc: u32,
}

impl RecordHeader {
    pub(crate) fn parse(b: &[u8]) -> Option<Self> {
        Some(RecordHeader {
            total_len: u32_at(b, 0)?,
            xid: u32_at(b, 4)?,
            prev: Lsn(u64_at(b, 8)?),
            info: u8_at(b, 16)?,
            rmgr: Rmgr(u8_at(b, 17)?),
            crc: u32_at(b, 20)?,
        })
    }
}

/// `ValidXLogRecord`: the data first, then the header up to the CRC.
#[inline]
pub(crate) fn check_crc(at: Lsn, bytes: &[u8], stored: u32) -> Result<(), WalError> {
    let (data, header) = (bytes.get(RECORD_HEADER..), bytes.get(..RECORD_HEADER - 4));
    let computed = Crc32c::new().update(data.unwrap_or_default()).update(header.unwrap_or_default()).value();
    if stored == computed { Ok(()) } else { Err(WalError::Crc { at, stored, computed }) }
}

/// What [`walk_record`] finds beside the block references.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts {
    pub(crate) origin: Option<u16>,
    pub(crate) toplevel_xid: Option<u32>,
    /// Where the headers end and the images and data begin.
    data_at: usize,
    /// Bytes of main data: the last ones of the record.
    pub(crate) main_len: usize,
}

/// Goes through the headers of a whole record, and shows `block` each block reference, without taking any
/// memory. An error may come after some of them were shown. As in [`decode_record`], the CRC is not looked at.
#[inline]
pub(crate) fn walk_record(
    lsn: Lsn,
    bytes: &[u8],
    block_size: u32,
    mut block: impl FnMut(BlockRef),
) -> Result<Parts, WalError> {
    let bad = |what| WalError::Malformed { at: lsn, what };
    let short = || bad("it is cut short");
    let total_len = u32_at(bytes, 0).ok_or_else(short)?;
    if usize::try_from(total_len) != Ok(bytes.len()) || bytes.len() < RECORD_HEADER {
        return Err(WalError::RecordLength { at: lsn, length: total_len });
    }

    let (mut origin, mut toplevel_xid) = (None, None);
    let mut last_rel: Option<RelFileLocator> = None;
    let mut last_id: Option<u8> = None;
    let mut main_len = 0usize;
    // Bytes of images, block data and main data announced so far; they follow the headers.
    let mut announced = 0usize;
    let mut c = Cursor::new(bytes, RECORD_HEADER);
    while c.left() > announced {
        let id = c.u8().ok_or_else(short)?;
        match id {
            ID_DATA_SHORT => {
                main_len = usize::from(c.u8().ok_or_else(short)?);
                announced += main_len;
                break;
            }
            ID_DATA_LONG => {
                main_len = c.u32().ok_or_else(short)? as usize;
                announced = announced.saturating_add(main_len);
                break;
            }
            ID_ORIGIN => origin = Some(c.u16().ok_or_else(short)?),
            ID_TOPLEVEL_XID => toplevel_xid = Some(c.u32().ok_or_else(short)?),
            0..=MAX_BLOCK_ID => {
                if last_id.is_some_and(|last| id <= last) {
                    return Err(bad("its block references are out of order"));
                }
                last_id = Some(id);
                let (b, len) = block_header(&mut c, id, &mut last_rel, block_size, lsn)?;
                announced += len;
                block(b);
            }
            _ => return Err(bad("it has an unknown kind of header")),
        }
    }
    if c.left() != announced {
        return Err(bad("its parts do not add up to its length"));
    }
    Ok(Parts { origin, toplevel_xid, data_at: c.at(), main_len })
}

/// Takes a whole record apart. `bytes` is the record without page headers or padding; its CRC is not
/// looked at. `block_size` is the size of relation pages.
pub fn decode_record(lsn: Lsn, end_lsn: Lsn, bytes: Vec<u8>, block_size: u32) -> Result<Record, WalError> {
    let mut blocks: Vec<BlockRef> = Vec::new();
    let parts = walk_record(lsn, &bytes, block_size, |b| blocks.push(b))?;
    let header =
        RecordHeader::parse(&bytes).ok_or(WalError::Malformed { at: lsn, what: "it is cut short" })?;

    // Where the parts lie: images and data of each block in turn, the main data last.
    let mut at = parts.data_at;
    for b in &mut blocks {
        if let Some(i) = &mut b.image {
            i.data = at..at + i.data.len();
            at = i.data.end;
        }
        b.data = at..at + b.data.len();
        at = b.data.end;
    }
    let main = at..at + parts.main_len;
    Ok(Record {
        lsn,
        end_lsn,
        prev: header.prev,
        xid: header.xid,
        rmgr: header.rmgr,
        info: header.info,
        origin: parts.origin,
        toplevel_xid: parts.toplevel_xid,
        blocks,
        main,
        bytes,
    })
}

/// One `XLogRecordBlockHeader` with what follows it, and the length of its image and data. The
/// ranges in the result have the right lengths but start at zero.
#[inline(always)]
fn block_header(
    c: &mut Cursor<'_>,
    id: u8,
    last_rel: &mut Option<RelFileLocator>,
    block_size: u32,
    at: Lsn,
) -> Result<(BlockRef, usize), WalError> {
    let bad = |what| WalError::Malformed { at, what };
    let short = || bad("it is cut short");
    let fork_flags = c.u8().ok_or_else(short)?;
    let fork =
        Fork::from_number(u32::from(fork_flags & 0x0F)).ok_or_else(|| bad("it names an unknown fork"))?;
    let flags = fork_flags & 0xF0;
    let data_len = usize::from(c.u16().ok_or_else(short)?);
    if (flags & HAS_DATA != 0) != (data_len > 0) {
        return Err(bad("a block's data flag and data length contradict"));
    }
    let image = if flags & HAS_IMAGE != 0 {
        let len = c.u16().ok_or_else(short)?;
        let hole_offset = c.u16().ok_or_else(short)?;
        let info = c.u8().ok_or_else(short)?;
        let compressed = info & (IMAGE_PGLZ | IMAGE_LZ4 | IMAGE_ZSTD) != 0;
        let has_hole = info & IMAGE_HAS_HOLE != 0;
        let full = u32::from(len) == block_size;
        let hole_length = match (compressed, has_hole) {
            (true, true) => c.u16().ok_or_else(short)?,
            (true, false) => 0,
            // The server's arithmetic wraps in 16 bits; an image longer than a page has no hole.
            (false, _) => u16::try_from(block_size.saturating_sub(u32::from(len))).unwrap_or(0),
        };
        if has_hole && (hole_offset == 0 || hole_length == 0 || full) {
            return Err(bad("a page image has a hole that is none"));
        }
        if !has_hole && (hole_offset != 0 || hole_length != 0) {
            return Err(bad("a page image has a hole that is not announced"));
        }
        if compressed && full {
            return Err(bad("a compressed page image has the length of a page"));
        }
        if !has_hole && !compressed && !full {
            return Err(bad("a page image has the wrong length"));
        }
        Some(BlockImage { hole_offset, hole_length, info, data: 0..usize::from(len) })
    } else {
        None
    };
    let rel = if flags & SAME_REL != 0 {
        last_rel.ok_or_else(|| bad("a block refers to a relation before it, but there is none"))?
    } else {
        RelFileLocator {
            tablespace: c.u32().ok_or_else(short)?,
            database: c.u32().ok_or_else(short)?,
            relation: c.u32().ok_or_else(short)?,
        }
    };
    *last_rel = Some(rel);
    let block = c.u32().ok_or_else(short)?;
    let len = data_len + image.as_ref().map_or(0, BlockImage::len);
    Ok((BlockRef { id, rel, fork, block, flags, image, data: 0..data_len }, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(body: &[u8]) -> Vec<u8> {
        let mut b = vec![0u8; RECORD_HEADER];
        b.extend_from_slice(body);
        let n = b.len() as u32;
        b[..4].copy_from_slice(&n.to_le_bytes());
        b
    }

    fn decode(body: &[u8]) -> Result<Record, WalError> {
        decode_record(Lsn(0x28), Lsn(0x100), record(body), 8192)
    }

    #[test]
    fn block_references_share_their_relation() {
        let mut b = vec![0u8, HAS_DATA | 1, 2, 0];
        for n in [1663u32, 5, 16384, 9] {
            b.extend_from_slice(&n.to_le_bytes());
        }
        b.extend_from_slice(&[3, SAME_REL | WILL_INIT, 0, 0, 7, 0, 0, 0]);
        b.extend_from_slice(&[ID_ORIGIN, 4, 0, ID_TOPLEVEL_XID, 8, 0, 0, 0, ID_DATA_SHORT, 3]);
        b.extend_from_slice(b"ABxyz");
        let r = decode(&b).unwrap();
        assert_eq!((r.blocks.len(), r.origin, r.toplevel_xid), (2, Some(4), Some(8)));
        let (x, y) = (&r.blocks[0], &r.blocks[1]);
        assert_eq!((x.fork, x.block, r.block_data(x)), (Fork::Fsm, 9, &b"AB"[..]));
        assert_eq!((y.id, y.rel, y.block, y.will_init(), y.same_rel()), (3, x.rel, 7, true, true));
        assert_eq!(r.main_data(), b"xyz");
        assert_eq!(r.block_image(x), None);
    }

    #[test]
    fn contradictions_are_refused() {
        for body in [
            &[ID_DATA_SHORT, 3, 0][..],
            &[ID_DATA_LONG, 255, 255, 255, 255],
            &[100],
            &[0, SAME_REL, 0, 0, 7, 0, 0, 0],
            &[0, HAS_DATA, 0, 0],
            &[0, 4, 0, 0],
            &[0, HAS_IMAGE | SAME_REL, 0, 0, 1, 0, 0, 0, 0],
            &[ID_ORIGIN, 1],
        ] {
            assert!(decode(body).is_err(), "{body:?}");
        }
        assert!(decode(&[]).is_ok());
        assert!(decode_record(Lsn(0x28), Lsn(0x40), vec![1; 10], 8192).is_err());
    }
}
