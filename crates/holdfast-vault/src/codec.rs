//! Compression of frames. Each frame names its codec, so a vault may mix them.
//!
//! The parameters come from a trial on a pgbench + JSON + small-tables cluster; its table is in
//! `docs/benchmarks.md`. zstd's own level table switches to "small input" parameters under 256 KiB,
//! which cost more time *and* bytes than the large ones: so windowLog and friends are set by hand.

use holdfast_core::policy::Compression;

/// What a frame's bytes went through before they were sealed. The number is in the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameCodec {
    None = 0,
    Zstd = 1,
    Lz4 = 2,
}

impl FrameCodec {
    pub fn from_byte(b: u8) -> Option<Self> {
        match b {
            0 => Some(FrameCodec::None),
            1 => Some(FrameCodec::Zstd),
            2 => Some(FrameCodec::Lz4),
            _ => None,
        }
    }
}

/// Compresses frames one after another; keep one per thread.
pub struct Compressor {
    setting: Compression,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").field("setting", &self.setting).finish_non_exhaustive()
    }
}

impl Compressor {
    pub fn new(setting: Compression) -> std::io::Result<Self> {
        let zstd = match setting {
            Compression::Zstd { level } => Some(zstd_compressor(level)?),
            _ => None,
        };
        Ok(Compressor { setting, zstd })
    }

    /// Compresses `plain` to the end of `out`; a frame that does not shrink is kept as it is.
    pub fn compress(&mut self, plain: &[u8], out: &mut Vec<u8>) -> std::io::Result<FrameCodec> {
        let start = out.len();
        let codec = match (&self.setting, &mut self.zstd) {
            (Compression::Zstd { .. }, Some(z)) => {
                let bound = zstd::zstd_safe::compress_bound(plain.len());
                // Room is reserved, not zeroed: zeroing the bound would cost as much as hashing it.
                out.reserve(bound);
                let mut tail = std::io::Cursor::new(&mut *out);
                tail.set_position(start as u64);
                z.compress_to_buffer(plain, &mut tail)?;
                FrameCodec::Zstd
            }
            (Compression::Lz4, _) => {
                out.resize(start + lz4_flex::block::get_maximum_output_size(plain.len()), 0);
                let tail = out.get_mut(start..).unwrap_or(&mut []);
                let n = lz4_flex::block::compress_into(plain, tail).map_err(std::io::Error::other)?;
                out.truncate(start + n);
                FrameCodec::Lz4
            }
            _ => {
                out.extend_from_slice(plain);
                return Ok(FrameCodec::None);
            }
        };
        if out.len() - start >= plain.len() {
            out.truncate(start);
            out.extend_from_slice(plain);
            return Ok(FrameCodec::None);
        }
        Ok(codec)
    }
}

fn zstd_compressor(level: i32) -> std::io::Result<zstd::bulk::Compressor<'static>> {
    use zstd::zstd_safe::CParameter;
    let mut c = zstd::bulk::Compressor::new(level)?;
    // The frame's length is in the map and its integrity in the seal: neither is repeated.
    c.set_parameter(CParameter::ChecksumFlag(false))?;
    match level {
        1 => fast(&mut c, 12)?,
        2 => fast(&mut c, 14)?,
        _ => {}
    }
    Ok(c)
}

/// One hash table, small enough to stay in the first-level cache (2^12 entries of 4 bytes), and matches
/// from 5 bytes: on pages that beats zstd's own level 1 in time *and* in size, because tuples repeat in
/// short pieces close by. 2^14 entries pay off with frames of 1 MiB.
fn fast(c: &mut zstd::bulk::Compressor<'static>, hash_log: u32) -> std::io::Result<()> {
    use zstd::zstd_safe::{CParameter, Strategy};
    c.set_parameter(CParameter::WindowLog(20))?;
    c.set_parameter(CParameter::HashLog(hash_log))?;
    c.set_parameter(CParameter::MinMatch(5))?;
    c.set_parameter(CParameter::Strategy(Strategy::ZSTD_fast))
}

/// Decompresses frames; keep one per thread.
pub struct Decompressor(zstd::bulk::Decompressor<'static>);

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decompressor")
    }
}

impl Decompressor {
    pub fn new() -> std::io::Result<Self> {
        Ok(Decompressor(zstd::bulk::Decompressor::new()?))
    }

    /// Replaces `out` by the `plain_len` bytes that `packed` stands for; any other length is an error.
    pub fn decompress(
        &mut self,
        codec: FrameCodec,
        packed: &[u8],
        plain_len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        out.clear();
        match codec {
            FrameCodec::None => out.extend_from_slice(packed),
            FrameCodec::Zstd => {
                out.reserve(plain_len);
                if out.capacity() < plain_len {
                    return Err("out of memory".into());
                }
                self.0.decompress_to_buffer(packed, out).map_err(|e| e.to_string())?;
            }
            FrameCodec::Lz4 => {
                out.resize(plain_len, 0);
                let n = lz4_flex::block::decompress_into(packed, out).map_err(|e| e.to_string())?;
                out.truncate(n);
            }
        }
        if out.len() != plain_len {
            return Err(format!("holds {} bytes instead of {plain_len}", out.len()));
        }
        Ok(())
    }
}

impl Decompressor {
    /// Fills `out` exactly with what `packed` stands for.
    pub fn decompress_into(
        &mut self,
        codec: FrameCodec,
        packed: &[u8],
        out: &mut [u8],
    ) -> Result<(), String> {
        let n = match codec {
            FrameCodec::None => {
                out.get_mut(..packed.len()).ok_or("holds too much")?.copy_from_slice(packed);
                packed.len()
            }
            FrameCodec::Zstd => self.0.decompress_to_buffer(packed, out).map_err(|e| e.to_string())?,
            FrameCodec::Lz4 => lz4_flex::block::decompress_into(packed, out).map_err(|e| e.to_string())?,
        };
        if n == out.len() { Ok(()) } else { Err(format!("holds {n} bytes instead of {}", out.len())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_round_trips_behind_other_bytes() {
        let text: Vec<u8> = (0..100_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        let noise: Vec<u8> = (0..5000).map(|_| rand::random::<u8>()).collect();
        for codec in [
            Compression::None,
            Compression::Lz4,
            Compression::Zstd { level: 1 },
            Compression::Zstd { level: 2 },
            Compression::Zstd { level: 3 },
        ] {
            let mut c = Compressor::new(codec).unwrap();
            let mut d = Decompressor::new().unwrap();
            for plain in [&text[..], &noise[..], &[]] {
                let mut out = b"before".to_vec();
                let used = c.compress(plain, &mut out).unwrap();
                assert!(out.len() <= plain.len() + 6);
                let mut back = Vec::new();
                d.decompress(used, &out[6..], plain.len(), &mut back).unwrap();
                assert_eq!(back, plain);
                if !plain.is_empty() {
                    assert!(d.decompress(used, &out[6..], plain.len() + 1, &mut back).is_err());
                }
            }
        }
    }
}
