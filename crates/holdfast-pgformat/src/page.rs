//! Relation pages: [`PageHeader`], [`checksum`] and [`verify_page`].
//!
//! From src/include/storage/bufpage.h (layout), src/include/storage/checksum_impl.h (checksum) and
//! `PageIsVerifiedExtended` in src/backend/storage/page/bufpage.c (what makes a header valid).

use crate::bytes::{u16_at, u32_at};
use crate::checksum_simd;
use holdfast_core::lsn::Lsn;

/// `BLCKSZ` as everyone builds it; pg_control says what a cluster really has.
pub const DEFAULT_BLOCK_SIZE: u32 = 8192;
/// `SizeOfPageHeaderData`.
pub const PAGE_HEADER_SIZE: usize = 24;
/// `PD_VALID_FLAG_BITS`.
const VALID_FLAGS: u16 = 0x0007;
/// Parallel sums of the checksum; part of the algorithm.
const N_SUMS: usize = 32;
const ROW: usize = N_SUMS * 4;
const FNV_PRIME: u32 = 16_777_619;

/// `checksumBaseOffsets`.
const BASE_OFFSETS: [u32; N_SUMS] = [
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
];

/// `PageHeaderData`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageHeader {
    pub lsn: Lsn,
    pub checksum: u16,
    pub flags: u16,
    pub lower: u16,
    pub upper: u16,
    pub special: u16,
    /// Size of the page in bytes, from `pd_pagesize_version`.
    pub page_size: u16,
    /// Layout version, 4 since PostgreSQL 8.3.
    pub version: u8,
    pub prune_xid: u32,
}

impl PageHeader {
    /// `None` when there are fewer than [`PAGE_HEADER_SIZE`] bytes.
    pub fn parse(page: &[u8]) -> Option<Self> {
        let size_version = u16_at(page, 18)?;
        Some(PageHeader {
            lsn: page_lsn(page)?,
            checksum: u16_at(page, 8)?,
            flags: u16_at(page, 10)?,
            lower: u16_at(page, 12)?,
            upper: u16_at(page, 14)?,
            special: u16_at(page, 16)?,
            page_size: size_version & 0xFF00,
            version: (size_version & 0xFF) as u8,
            prune_xid: u32_at(page, 20)?,
        })
    }

    /// The header checks of `PageIsVerifiedExtended`, for a page of `size` bytes that is not new.
    pub fn is_sane(&self, size: usize) -> bool {
        self.flags & !VALID_FLAGS == 0
            && self.lower <= self.upper
            && self.upper <= self.special
            && usize::from(self.special) <= size
            && self.special.is_multiple_of(8)
    }
}

/// `pd_lsn`: two 32-bit halves, the high one first.
pub fn page_lsn(page: &[u8]) -> Option<Lsn> {
    Some(Lsn(u64::from(u32_at(page, 0)?) << 32 | u64::from(u32_at(page, 4)?)))
}

/// Whether this is the first page of an SP-GiST index. It holds a cache of pages with room, which
/// `SpGistUpdateMetaPage` (src/backend/access/spgist/spgutils.c) writes without any WAL record: such a page
/// changes with its LSN unchanged, also with checksums on, and an older one does as well. Known by its magic
/// number and by the id and flag behind it (src/include/access/spgist_private.h).
pub fn is_spgist_metapage(page: &[u8]) -> bool {
    const MAGIC: u32 = 0xBA0B_ABEE;
    const PAGE_ID: u16 = 0xFF82;
    const META: u16 = 1;
    let Some(special) = page.len().checked_sub(8) else { return false };
    u32_at(page, PAGE_HEADER_SIZE) == Some(MAGIC)
        && u16_at(page, special + 6) == Some(PAGE_ID)
        && u16_at(page, special).is_some_and(|flags| flags & META != 0)
}

/// Whether every byte is zero: a page that was allocated and never written, which is valid.
pub fn is_new(page: &[u8]) -> bool {
    let (chunks, tail) = page.as_chunks::<64>();
    chunks.iter().all(|c| c.iter().fold(0, |a, b| a | b) == 0) && tail.iter().all(|b| *b == 0)
}

/// `pg_checksum_page`: what belongs in `pd_checksum` of this page when it is block `block_number`
/// **of its relation** (segment number × blocks per segment + block within the segment file).
///
/// The stored checksum does not take part. `page` is a whole page; bytes past the last multiple of
/// 128 would be ignored.
pub fn checksum(page: &[u8], block_number: u32) -> u16 {
    let (rows, _) = page.as_chunks::<ROW>();
    let Some((first, rest)) = rows.split_first() else { return 1 };
    let mut first = *first;
    first[8] = 0;
    first[9] = 0;

    // The head row is hashed from a copy that lacks the stored checksum.
    let sums = match checksum_simd::block_sums(std::slice::from_ref(&first), &BASE_OFFSETS)
        .and_then(|s| checksum_simd::block_sums(rest, &s))
    {
        Some(s) => s,
        None => sums_portable(rest, &sums_portable(std::slice::from_ref(&first), &BASE_OFFSETS)),
    };
    fold(sums, block_number)
}

/// [`checksum`] without the processor's vector instructions, for comparison and measurement.
pub fn checksum_portable(page: &[u8], block_number: u32) -> u16 {
    let (rows, _) = page.as_chunks::<ROW>();
    let Some((first, rest)) = rows.split_first() else { return 1 };
    let mut first = *first;
    first[8] = 0;
    first[9] = 0;
    fold(sums_portable(rest, &sums_portable(std::slice::from_ref(&first), &BASE_OFFSETS)), block_number)
}

fn mix(sum: u32, value: u32) -> u32 {
    let t = sum ^ value;
    t.wrapping_mul(FNV_PRIME) ^ t >> 17
}

fn sums_portable(rows: &[[u8; ROW]], start: &[u32; N_SUMS]) -> [u32; N_SUMS] {
    let mut sums = *start;
    for row in rows {
        for (sum, word) in sums.iter_mut().zip(row.as_chunks::<4>().0) {
            *sum = mix(*sum, u32::from_le_bytes(*word));
        }
    }
    sums
}

/// Two rounds of zeroes, the xor of all sums, the block number, and 16 bits that are never zero.
fn fold(sums: [u32; N_SUMS], block_number: u32) -> u16 {
    let all = sums.iter().fold(0, |acc, s| acc ^ mix(mix(*s, 0), 0));
    ((all ^ block_number) % 65535 + 1) as u16
}

/// What [`verify_page`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageCheck {
    /// All zero: allocated, never written. Valid.
    New,
    Ok,
    /// The page may also have been read while the server wrote it: see the LSN, and read again.
    BadChecksum {
        stored: u16,
        computed: u16,
        lsn: Lsn,
    },
    /// Not a page: impossible pointers or flags, an empty page with content, or an odd size.
    BadHeader,
}

impl PageCheck {
    pub fn is_good(self) -> bool {
        matches!(self, PageCheck::New | PageCheck::Ok)
    }
}

/// Checks one page as `PageIsVerifiedExtended` does.
///
/// `block_in_relation` counts from the start of the relation's fork, not of the segment file: block
/// 5 of `16384.1` is 131077 with the usual 131072 blocks per file ([`block_in_relation`]). Without
/// checksums in the cluster only the header can be judged.
pub fn verify_page(page: &[u8], block_in_relation: u32, checksums_enabled: bool) -> PageCheck {
    // BLCKSZ is a power of two from 1 to 32 kB (configure).
    if !page.len().is_power_of_two() || !(1024..=32768).contains(&page.len()) {
        return PageCheck::BadHeader;
    }
    let Some(header) = PageHeader::parse(page) else { return PageCheck::BadHeader };
    // `PageIsNew` is `pd_upper == 0`; such a page carries no checksum and must be empty.
    if header.upper == 0 {
        return if is_new(page) { PageCheck::New } else { PageCheck::BadHeader };
    }
    if checksums_enabled {
        let computed = checksum(page, block_in_relation);
        if computed != header.checksum {
            return PageCheck::BadChecksum { stored: header.checksum, computed, lsn: header.lsn };
        }
    }
    if header.is_sane(page.len()) { PageCheck::Ok } else { PageCheck::BadHeader }
}

/// The block number that goes into a checksum: relation-wide. `None` past the largest block number
/// (`MaxBlockNumber`, src/include/storage/block.h).
pub fn block_in_relation(segment_no: u32, blocks_per_segment: u32, block_in_file: u32) -> Option<u32> {
    let n = segment_no.checked_mul(blocks_per_segment)?.checked_add(block_in_file)?;
    (n != u32::MAX).then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Block 0 and block 1 of pg_class of a fresh `initdb -k` of PostgreSQL 15.
    const REAL: &[u8] = include_bytes!("../testdata/pg15-pg_class-2blocks.bin");

    #[test]
    fn real_pages_verify() {
        let (pages, tail) = REAL.as_chunks::<8192>();
        assert!(tail.is_empty());
        for (no, p) in pages.iter().enumerate() {
            assert_eq!(verify_page(p, no as u32, true), PageCheck::Ok);
            assert!(matches!(verify_page(p, no as u32 + 131072, true), PageCheck::BadChecksum { .. }));
            assert_eq!(checksum(p, no as u32), checksum_portable(p, no as u32));
            let h = PageHeader::parse(p).unwrap();
            assert_eq!((h.page_size, h.version), (8192, 4));
            assert!(h.lsn.is_valid());
            let mut bad = *p;
            bad[8191] ^= 1;
            assert!(!verify_page(&bad, no as u32, true).is_good());
            assert!(verify_page(&bad, no as u32, false).is_good());
        }
    }

    #[test]
    fn empty_and_odd_pages() {
        let zero = [0u8; 8192];
        assert_eq!(verify_page(&zero, 0, true), PageCheck::New);
        let mut p = zero;
        p[8000] = 1;
        assert_eq!(verify_page(&p, 0, true), PageCheck::BadHeader);
        assert_eq!(verify_page(&zero[..100], 0, true), PageCheck::BadHeader);
        assert_eq!(verify_page(&[], 0, true), PageCheck::BadHeader);
        assert!(is_new(&[]) && is_new(&zero[..65]) && !is_new(&p));
    }

    #[test]
    fn metapages_of_spgist() {
        let mut page = vec![0u8; 8192];
        assert!(!is_spgist_metapage(&page) && !is_spgist_metapage(&[]));
        page[24..28].copy_from_slice(&0xBA0B_ABEEu32.to_le_bytes());
        page[8190..].copy_from_slice(&[0x82, 0xFF]);
        assert!(!is_spgist_metapage(&page));
        page[8184] = 1;
        assert!(is_spgist_metapage(&page));
    }

    #[test]
    fn block_numbers_are_relation_wide() {
        assert_eq!(block_in_relation(1, 131072, 5), Some(131077));
        assert_eq!(block_in_relation(32767, 131072, 131071), None);
        assert_eq!(block_in_relation(40000, 131072, 0), None);
    }

    #[test]
    fn vector_and_portable_code_agree() {
        let mut x = 1u32;
        for size in [1024usize, 2048, 8192, 32768] {
            let page: Vec<u8> = (0..size)
                .map(|_| {
                    x = x.wrapping_mul(1664525).wrapping_add(1013904223);
                    (x >> 24) as u8
                })
                .collect();
            for block in [0, 1, 77, u32::MAX - 1] {
                assert_eq!(checksum(&page, block), checksum_portable(&page, block));
            }
        }
    }
}
