//! CRC-32C (Castagnoli), which guards pg_control and WAL records.
//!
//! Same as `COMP_CRC32C` in src/port/pg_crc32c_sb8.c: slicing by eight in safe code; on x86-64 with
//! SSE 4.2 the processor's own instruction is used instead.

use crate::checksum_simd;

const POLY: u32 = 0x82F6_3B78;

const TABLES: [[u32; 256]; 8] = tables();

#[allow(clippy::indexing_slicing)] // evaluated by the compiler: a slip cannot reach run time
const fn tables() -> [[u32; 256]; 8] {
    let mut t = [[0u32; 256]; 8];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLY } else { crc >> 1 };
            bit += 1;
        }
        t[0][i] = crc;
        i += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut i = 0;
        while i < 256 {
            let prev = t[k - 1][i];
            t[k][i] = prev >> 8 ^ t[0][(prev & 0xff) as usize];
            i += 1;
        }
        k += 1;
    }
    t
}

/// A running CRC, for input that arrives in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crc32c(u32);

impl Default for Crc32c {
    fn default() -> Self {
        Crc32c(!0)
    }
}

impl Crc32c {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn update(self, data: &[u8]) -> Self {
        match checksum_simd::crc32c_update(self.0, data) {
            Some(state) => Crc32c(state),
            None => Crc32c(update_portable(self.0, data)),
        }
    }

    pub fn value(self) -> u32 {
        !self.0
    }
}

/// CRC-32C of `data`.
pub fn crc32c(data: &[u8]) -> u32 {
    Crc32c::new().update(data).value()
}

/// The table walk; the state is not inverted here.
#[allow(clippy::indexing_slicing)] // each index is one byte into a table of 256
pub(crate) fn update_portable(mut crc: u32, data: &[u8]) -> u32 {
    let (words, tail) = data.as_chunks::<8>();
    for w in words {
        let lo = crc ^ u32::from_le_bytes([w[0], w[1], w[2], w[3]]);
        crc = TABLES[7][usize::from(lo as u8)]
            ^ TABLES[6][usize::from((lo >> 8) as u8)]
            ^ TABLES[5][usize::from((lo >> 16) as u8)]
            ^ TABLES[4][usize::from((lo >> 24) as u8)]
            ^ TABLES[3][usize::from(w[4])]
            ^ TABLES[2][usize::from(w[5])]
            ^ TABLES[1][usize::from(w[6])]
            ^ TABLES[0][usize::from(w[7])];
    }
    for b in tail {
        crc = crc >> 8 ^ TABLES[0][usize::from(crc as u8 ^ b)];
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_vectors() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0u8; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFFu8; 32]), 0x62A8_AB43);
        let up: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&up), 0x46DD_794E);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn parts_and_both_ways_agree() {
        let data: Vec<u8> = (0..1000u32).map(|i| (i * 7 + i / 13) as u8).collect();
        for cut in [0, 1, 7, 8, 9, 500, 999, 1000] {
            let (a, b) = data.split_at(cut);
            assert_eq!(Crc32c::new().update(a).update(b).value(), crc32c(&data));
            assert_eq!(!update_portable(!0, a), crc32c(a));
        }
    }
}
