//! The only `unsafe` of this crate: calling code built for instructions that not every x86-64 has.
//!
//! Each function asks the processor first and answers `None` when the instructions are missing, so
//! the caller falls back to the portable code. See `UNSAFE.md`.
//!
//! No AVX-512 variant: one page is a chain of dependent 32-bit multiplications, so wider registers
//! shorten nothing; the AVX2 code already runs at the speed of that chain.
#![allow(unsafe_code)]

/// `pg_checksum_block` over whole rows of 32 words, or `None` without AVX2.
pub(crate) fn block_sums(rows: &[[u8; 128]], offsets: &[u32; 32]) -> Option<[u32; 32]> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, which is all that `avx2::block_sums` requires.
        return Some(unsafe { avx2::block_sums(rows, offsets) });
    }
    let _ = (rows, offsets);
    None
}

/// One step of CRC-32C over `data`, or `None` without SSE 4.2.
pub(crate) fn crc32c_update(state: u32, data: &[u8]) -> Option<u32> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has SSE 4.2, which is all that `sse42::update` requires.
        return Some(unsafe { sse42::update(state, data) });
    }
    let _ = (state, data);
    None
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    const PRIME: i32 = 16_777_619;

    #[target_feature(enable = "avx2")]
    fn load(from: &[u8; 32]) -> __m256i {
        // SAFETY: `from` is 32 readable bytes and `loadu` asks for no alignment.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx2")]
    fn step(sum: __m256i, value: __m256i, prime: __m256i) -> __m256i {
        let t = _mm256_xor_si256(sum, value);
        _mm256_xor_si256(_mm256_mullo_epi32(t, prime), _mm256_srli_epi32::<17>(t))
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn block_sums(rows: &[[u8; 128]], offsets: &[u32; 32]) -> [u32; 32] {
        let prime = _mm256_set1_epi32(PRIME);
        let mut start = [[0u8; 32]; 4];
        for (lane, word) in start.as_flattened_mut().as_chunks_mut::<4>().0.iter_mut().zip(offsets) {
            *lane = word.to_ne_bytes();
        }
        let [s0, s1, s2, s3] = &start;
        let (mut a, mut b, mut c, mut d) = (load(s0), load(s1), load(s2), load(s3));
        for row in rows {
            let ([r0, r1, r2, r3], _) = row.as_chunks::<32>() else { continue };
            a = step(a, load(r0), prime);
            b = step(b, load(r1), prime);
            c = step(c, load(r2), prime);
            d = step(d, load(r3), prime);
        }
        let mut out = [0u32; 32];
        for (part, sum) in out.as_chunks_mut::<8>().0.iter_mut().zip([a, b, c, d]) {
            // SAFETY: `part` is 32 writable bytes and `storeu` asks for no alignment.
            unsafe { _mm256_storeu_si256(part.as_mut_ptr().cast(), sum) }
        }
        out
    }
}

#[cfg(target_arch = "x86_64")]
mod sse42 {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u16, _mm_crc32_u32, _mm_crc32_u64};

    #[target_feature(enable = "sse4.2")]
    pub(super) fn update(state: u32, data: &[u8]) -> u32 {
        let (words, tail) = data.as_chunks::<8>();
        let crc = words.iter().fold(u64::from(state), |c, w| _mm_crc32_u64(c, u64::from_le_bytes(*w)));
        // Each step waits three cycles for the one before it, and most records of the log are short.
        let (words, tail) = tail.as_chunks::<4>();
        let crc = words.iter().fold(crc as u32, |c, w| _mm_crc32_u32(c, u32::from_le_bytes(*w)));
        let (words, tail) = tail.as_chunks::<2>();
        let crc = words.iter().fold(crc, |c, w| _mm_crc32_u16(c, u16::from_le_bytes(*w)));
        tail.iter().fold(crc, |c, b| _mm_crc32_u8(c, *b))
    }
}
