//! `INCREMENTAL.*` files of an incremental base backup (17 and later): [`IncrementalHeader`].
//!
//! Magic, number of blocks, length up to which older copies count, block numbers; filled up to a whole block if
//! blocks follow (src/backend/backup/basebackup_incremental.c, src/bin/pg_combinebackup/reconstruct.c).

/// `INCREMENTAL_MAGIC` (src/include/backup/basebackup_incremental.h).
const MAGIC: u32 = 0xd3ae_1f0d;
/// Magic, count and length.
pub const FIXED_LEN: usize = 12;
/// What the file's name begins with.
pub const PREFIX: &str = "INCREMENTAL.";

/// Why a header cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IncrementalError {
    #[error("it ends before its header does")]
    Short,
    #[error("its magic number is {0:08x}")]
    Magic(u32),
    #[error("it names {0} blocks, more than a segment has")]
    TooMany(u32),
    #[error("its block numbers do not ascend within the segment")]
    Order,
}

/// What an incremental file brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncrementalHeader {
    /// Blocks at or behind this one are not taken from older copies, and the file has at least so many.
    pub truncation_blocks: u32,
    /// Ascending; their content follows in this order.
    pub blocks: Vec<u32>,
}

fn word(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(b.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

impl IncrementalHeader {
    /// How many bytes lie before the first block's content. `start`: the file's first [`FIXED_LEN`] bytes.
    pub fn len(start: &[u8], block_size: u32, segment_blocks: u32) -> Result<usize, IncrementalError> {
        let magic = word(start, 0).ok_or(IncrementalError::Short)?;
        if magic != MAGIC {
            return Err(IncrementalError::Magic(magic));
        }
        let count = word(start, 4).ok_or(IncrementalError::Short)?;
        if count > segment_blocks {
            return Err(IncrementalError::TooMany(count));
        }
        let plain = FIXED_LEN.saturating_add((count as usize).saturating_mul(4));
        Ok(if count == 0 { plain } else { plain.next_multiple_of((block_size as usize).max(1)) })
    }

    /// Reads a header of [`IncrementalHeader::len`] bytes.
    pub fn parse(b: &[u8], block_size: u32, segment_blocks: u32) -> Result<Self, IncrementalError> {
        if b.len() < Self::len(b, block_size, segment_blocks)? {
            return Err(IncrementalError::Short);
        }
        let count = word(b, 4).ok_or(IncrementalError::Short)?;
        // A relation's length: of one with more files than this, the first versions of 17 did not cut it down.
        let truncation_blocks = word(b, 8).ok_or(IncrementalError::Short)?.min(segment_blocks);
        let mut blocks = Vec::with_capacity(count as usize);
        for i in 0..count as usize {
            let n = word(b, FIXED_LEN + i * 4).ok_or(IncrementalError::Short)?;
            if n >= segment_blocks || blocks.last().is_some_and(|last| *last >= n) {
                return Err(IncrementalError::Order);
            }
            blocks.push(n);
        }
        Ok(IncrementalHeader { truncation_blocks, blocks })
    }

    /// How many blocks the whole file has.
    pub fn file_blocks(&self) -> u32 {
        let last = self.blocks.last().map_or(0, |b| b.saturating_add(1));
        self.truncation_blocks.max(last)
    }

    /// Its blocks in runs of neighbours: (first, count).
    pub fn runs(&self) -> Vec<(u32, u32)> {
        let mut out: Vec<(u32, u32)> = Vec::new();
        for b in &self.blocks {
            match out.last_mut() {
                Some((first, count)) if first.saturating_add(*count) == *b => *count += 1,
                _ => out.push((*b, 1)),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(truncation: u32, blocks: &[u32]) -> Vec<u8> {
        let mut b = Vec::new();
        for w in [MAGIC, blocks.len() as u32, truncation].iter().chain(blocks) {
            b.extend_from_slice(&w.to_le_bytes());
        }
        if !blocks.is_empty() {
            b.resize(b.len().next_multiple_of(8192), 0);
        }
        b
    }

    #[test]
    fn headers_read_and_odd_ones_are_refused() {
        let b = file(5, &[1, 2, 7]);
        assert_eq!(IncrementalHeader::len(&b, 8192, 131_072), Ok(8192));
        let h = IncrementalHeader::parse(&b, 8192, 131_072).unwrap();
        assert_eq!((h.file_blocks(), h.runs()), (8, vec![(1, 2), (7, 1)]));
        let h = IncrementalHeader::parse(&file(9, &[]), 8192, 131_072).unwrap();
        assert_eq!((h.file_blocks(), h.runs().len()), (9, 0));
        for cut in 0..b.len() {
            assert!(IncrementalHeader::parse(&b[..cut], 8192, 131_072).is_err());
        }
        assert_eq!(IncrementalHeader::parse(&file(1, &[2, 1]), 8192, 131_072), Err(IncrementalError::Order));
        assert_eq!(IncrementalHeader::parse(&file(1, &[9]), 8192, 9), Err(IncrementalError::Order));
        let of_longer = IncrementalHeader::parse(&file(10, &[3]), 8192, 9).unwrap();
        assert_eq!((of_longer.truncation_blocks, of_longer.file_blocks()), (9, 9));
        assert_eq!(IncrementalHeader::parse(&file(1, &[0; 10]), 8192, 9), Err(IncrementalError::TooMany(10)));
        assert!(IncrementalHeader::parse(&[0; 64], 8192, 9).is_err());
    }
}
