//! WAL segments as objects: sealed in frames of 1 MiB, judged by their header alone.
//!
//! The header carries the keyed digest of the plain content, so "is this the segment that is there
//! already?" is answered without the private key and without reading 16 MiB. It also carries facts
//! (first and last time of a commit, …) with which a restore finds its target by bisection.
//!
//! Pushing is one create-if-absent. Same content again is success; other content is kept apart under
//! `conflict/` and is a hard error: PostgreSQL keeps the segment and tries again, nothing is lost.

use crate::codec::{Compressor, Decompressor, FrameCodec};
use crate::digest::Digests;
use crate::error::{Result, VaultError};
use crate::keys::Keys;
use crate::object::{Describe, Header, Kind, Opener, Place, Purpose, Sealer};
use crate::pack::{FOOTER_LEN, FOOTER_MAGIC, Footer, SealContext, TableRow, encode_table, slice};
use bytes::Bytes;
use holdfast_core::policy::Compression;
use holdfast_core::{Lsn, TimelineId, VaultId};

/// Plain bytes per frame. Larger than a data frame: WAL is read whole.
const FRAME: usize = crate::digest::CONTENT_PIECE;

/// Facts about a segment, in clear in its header (48 bytes, docs/FORMAT.md §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalFacts {
    pub system_identifier: u64,
    pub timeline: u32,
    pub major: u16,
    /// What it does to whole directories: `holdfast_pgformat::dirops`. 0 = nobody looked.
    pub flags: u16,
    /// Microseconds since 1970 of the first and the last timestamp in it; 0 = it has none.
    pub first_time: i64,
    pub last_time: i64,
    /// End of the last record that ends in it; 0 = unknown.
    pub end_lsn: u64,
    pub segment_size: u32,
}

impl WalFacts {
    fn encode(&self) -> [u8; 48] {
        let mut b = [0u8; 48];
        b[0..8].copy_from_slice(&self.system_identifier.to_le_bytes());
        b[8..12].copy_from_slice(&self.timeline.to_le_bytes());
        b[12..14].copy_from_slice(&self.major.to_le_bytes());
        b[14..16].copy_from_slice(&self.flags.to_le_bytes());
        b[16..24].copy_from_slice(&self.first_time.to_le_bytes());
        b[24..32].copy_from_slice(&self.last_time.to_le_bytes());
        b[32..40].copy_from_slice(&self.end_lsn.to_le_bytes());
        b[40..44].copy_from_slice(&self.segment_size.to_le_bytes());
        b
    }

    fn decode(b: &[u8; 48]) -> Self {
        let u64_at = |i: usize| {
            u64::from_le_bytes([b[i], b[i + 1], b[i + 2], b[i + 3], b[i + 4], b[i + 5], b[i + 6], b[i + 7]])
        };
        WalFacts {
            system_identifier: u64_at(0),
            timeline: u32::from_le_bytes([b[8], b[9], b[10], b[11]]),
            major: u16::from_le_bytes([b[12], b[13]]),
            flags: u16::from_le_bytes([b[14], b[15]]),
            first_time: u64_at(16) as i64,
            last_time: u64_at(24) as i64,
            end_lsn: u64_at(32),
            segment_size: u32::from_le_bytes([b[40], b[41], b[42], b[43]]),
        }
    }

    pub fn timeline(&self) -> TimelineId {
        TimelineId(self.timeline)
    }

    pub fn end(&self) -> Lsn {
        Lsn(self.end_lsn)
    }
}

/// The part of a WAL object that is known without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalHead {
    pub plain_len: u64,
    pub digest: [u8; 32],
    pub facts: WalFacts,
}

/// Reads the head from (at least) the first 256 bytes.
pub fn head(bytes: &[u8], keys: &Keys, place: Place<'_>) -> Result<WalHead> {
    let h = Header::decode(bytes, keys, place)?;
    if h.kind != Kind::Wal {
        return Err(VaultError::damaged(place.name, "it is not a wal object"));
    }
    Ok(WalHead { plain_len: h.plain_len, digest: h.content, facts: WalFacts::decode(&h.facts) })
}

/// Seals a segment; returns the object and the digest of the content. The archiver waits for this, so
/// hashing, compression and sealing of each piece run on `threads` threads.
pub fn encode(
    ctx: &SealContext,
    name: &str,
    plain: &[u8],
    facts: WalFacts,
    compression: Compression,
    threads: usize,
) -> Result<(Bytes, [u8; 32])> {
    let place = Place { vault: &ctx.vault, name };
    let what = Describe {
        kind: Kind::Wal,
        purpose: Purpose::Data,
        plain_len: plain.len() as u64,
        content: [0; 32],
        facts: facts.encode(),
    };
    let (sealer, mut header) = Sealer::begin(&ctx.keys, ctx.cipher, place, what)?;
    let chunks: Vec<&[u8]> = plain.chunks(FRAME).collect();
    let frames = seal_frames(&sealer, &ctx.digests, &chunks, compression, threads, name)?;
    let pieces: Vec<[u8; 16]> = frames.iter().map(|f| f.row.digest).collect();
    let digest = ctx.digests.content_of_pieces(&pieces);
    header.content = digest;
    let mut out = Vec::with_capacity(frames.iter().map(|f| f.bytes.len()).sum::<usize>() + 4096);
    out.extend_from_slice(&header.encode(ctx.keys.newest()?, place));
    let mut rows = Vec::with_capacity(frames.len());
    for f in frames {
        out.extend_from_slice(&f.bytes);
        rows.push(f.row);
    }
    let table = encode_table(&rows);
    let table_offset = out.len() as u64;
    let start = out.len();
    out.extend_from_slice(&table);
    sealer.seal_at(rows.len() as u64, &mut out, start, FrameCodec::None, table.len() as u32)?;
    let sealed = (out.len() - start) as u32;
    out.extend_from_slice(FOOTER_MAGIC);
    out.extend_from_slice(&table_offset.to_le_bytes());
    out.extend_from_slice(&sealed.to_le_bytes());
    out.extend_from_slice(&(table.len() as u32).to_le_bytes());
    out.extend_from_slice(&(rows.len() as u32).to_le_bytes());
    out.extend_from_slice(&[FrameCodec::None as u8, 0, 0, 0]);
    let hash = blake3::hash(&out);
    out.extend_from_slice(hash.as_bytes());
    Ok((Bytes::from(out), digest))
}

struct SealedFrame {
    bytes: Vec<u8>,
    row: TableRow,
}

fn seal_frames(
    sealer: &Sealer,
    digests: &Digests,
    chunks: &[&[u8]],
    compression: Compression,
    threads: usize,
    name: &str,
) -> Result<Vec<SealedFrame>> {
    let err = |e: std::io::Error| VaultError::Codec { name: name.into(), what: e.to_string() };
    // One buffer a thread: a fresh one of the bound's size for each frame costs more in page faults than
    // the copy of what is left of it.
    let one = |c: &mut Compressor, buf: &mut Vec<u8>, i: usize, chunk: &[u8]| -> Result<SealedFrame> {
        buf.clear();
        let codec = c.compress(chunk, buf).map_err(err)?;
        sealer.seal_at(i as u64, buf, 0, codec, chunk.len() as u32)?;
        let row = TableRow {
            sealed_len: buf.len() as u32,
            plain_len: chunk.len() as u32,
            codec,
            digest: digests.frame(chunk),
        };
        Ok(SealedFrame { bytes: buf.as_slice().to_vec(), row })
    };
    let threads = threads.clamp(1, chunks.len().max(1));
    let per = chunks.len().div_ceil(threads).max(1);
    std::thread::scope(|s| {
        let mut handles = Vec::new();
        for (t, group) in chunks.chunks(per).enumerate() {
            let work = move || -> Result<Vec<SealedFrame>> {
                let mut c = Compressor::new(compression).map_err(err)?;
                let mut buf = Vec::new();
                group.iter().enumerate().map(|(i, chunk)| one(&mut c, &mut buf, t * per + i, chunk)).collect()
            };
            handles.push(s.spawn(work));
        }
        let mut all = Vec::with_capacity(chunks.len());
        for h in handles {
            match h.join() {
                Ok(r) => all.extend(r?),
                Err(_) => return Err(err(std::io::Error::other("a compression thread failed"))),
            }
        }
        Ok(all)
    })
}

/// Opens a whole WAL object; checks every byte, the length and the content digest.
pub fn decode(
    bytes: &[u8],
    keys: &Keys,
    vault: &VaultId,
    digests: &Digests,
    name: &str,
    threads: usize,
) -> Result<(Vec<u8>, WalHead)> {
    let place = Place { vault, name };
    let header = Header::decode(bytes, keys, place)?;
    let head = head(bytes, keys, place)?;
    let footer = Footer::decode(bytes, name)?;
    let opener = Opener::new(&header, keys, place)?;
    let bad = |what: &str| VaultError::damaged(name, what);
    let outside = || bad("its table points outside of it");
    let end = footer.table_offset.checked_add(footer.table_sealed.into()).ok_or_else(outside)?;
    let mut sealed = slice(bytes, footer.table_offset, end).ok_or_else(outside)?.to_vec();
    let reader = crate::pack::PackReader::new(bytes, keys, vault, name)?;
    let table = reader.table(&footer, &mut sealed)?;
    if head.plain_len > (2 << 30)
        || table.iter().map(|(l, _)| u64::from(l.plain_len)).sum::<u64>() != head.plain_len
    {
        return Err(bad("its length is wrong"));
    }
    // Frames are pieces of the content digest: each is hashed by the thread that opened it.
    let (last, whole) = table.split_last().map_or((0, true), |((l, _), rest)| {
        (l.plain_len, rest.iter().all(|(l, _)| l.plain_len as usize == FRAME))
    });
    if !whole || last as usize > FRAME {
        return Err(bad("its frames have a wrong length"));
    }
    let threads = threads.clamp(1, table.len().max(1));
    let per = table.len().div_ceil(threads).max(1);
    let open_group = |group: &[(crate::pack::FrameLoc, [u8; 16])],
                      mut out: &mut [u8]|
     -> Result<Vec<[u8; 16]>> {
        let codec_err = |what: String| VaultError::Codec { name: name.into(), what };
        let mut d = Decompressor::new().map_err(|e| codec_err(e.to_string()))?;
        let (mut pieces, mut sealed) = (Vec::with_capacity(group.len()), Vec::new());
        for (loc, digest) in group {
            sealed.clear();
            sealed.extend_from_slice(slice(bytes, loc.offset, loc.end()).ok_or_else(outside)?);
            let packed = opener.open(loc.index.into(), &mut sealed, loc.codec, loc.plain_len)?;
            let (piece, rest) =
                out.split_at_mut_checked(loc.plain_len as usize).ok_or_else(|| bad("its length is wrong"))?;
            d.decompress_into(loc.codec, packed, piece).map_err(codec_err)?;
            let found = digests.frame(piece);
            if &found != digest {
                return Err(bad("a frame has other content than its digest says"));
            }
            pieces.push(found);
            out = rest;
        }
        Ok(pieces)
    };
    // One buffer, filled in place: handing fresh memory out page by page is what costs here.
    let mut plain = vec![0u8; head.plain_len as usize];
    let mut pieces = Vec::with_capacity(table.len());
    std::thread::scope(|s| -> Result<()> {
        let open_group = &open_group;
        let groups = table.chunks(per).zip(plain.chunks_mut(per * FRAME));
        let handles: Vec<_> = groups.map(|(g, out)| s.spawn(move || open_group(g, out))).collect();
        for h in handles {
            pieces.extend(h.join().map_err(|_| bad("a thread failed while opening it"))??);
        }
        Ok(())
    })?;
    if digests.content_of_pieces(&pieces) != head.digest {
        return Err(bad("its content does not match its digest"));
    }
    Ok((plain, head))
}

/// Size of the smallest possible WAL object; a shorter one was cut.
pub const MIN_LEN: usize = crate::object::HEADER_LEN + FOOTER_LEN;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Cipher;
    use holdfast_core::Secret;
    use std::sync::Arc;

    #[test]
    fn segments_round_trip_and_every_damage_is_found() {
        for cipher in [Cipher::None, Cipher::Aes256Gcm] {
            let ctx = SealContext {
                vault: VaultId::generate(),
                keys: Arc::new(Keys::generate().unwrap()),
                cipher,
                digests: Digests::new(&Secret::new([5; 32])),
            };
            let plain: Vec<u8> = (0..700_000u32).flat_map(|i| (i / 3).to_le_bytes()).collect();
            let facts = WalFacts { system_identifier: 7, timeline: 2, last_time: -5, ..Default::default() };
            let lz4 = Compression::Lz4;
            let (b, digest) = encode(&ctx, "w", &plain, facts, lz4, 2).unwrap();
            assert_eq!(digest, ctx.digests.content(&plain));
            let (back, h) = decode(&b, &ctx.keys, &ctx.vault, &ctx.digests, "w", 2).unwrap();
            assert!(back == plain && h.facts == facts && h.digest == digest);
            let mut at = 0;
            while at < b.len() {
                let mut d = b.to_vec();
                d[at] ^= 1;
                // The footer's digest is for readers without the private key; they check it.
                let found = decode(&d, &ctx.keys, &ctx.vault, &ctx.digests, "w", 1).is_err()
                    || crate::pack::check_sealed(&d, "w").is_err();
                assert!(found, "byte {at}");
                at += 1 + b.len() / 300;
            }
            assert!(decode(&b[..b.len() - 1], &ctx.keys, &ctx.vault, &ctx.digests, "w", 1).is_err());
        }
    }
}
