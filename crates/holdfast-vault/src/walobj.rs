//! WAL segments as objects: sealed in frames of 1 MiB, judged by their header alone.
//!
//! Between header and frames may stand what the segment says about changed pages (docs/FORMAT.md §6.1), as
//! a record of its own under the meta key: a host that takes an incremental backup reads it without the
//! private key, with the header in one small request, and it comes and goes with its segment.
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
use crate::keys::{Keys, Signer};
use crate::object::{Describe, HEADER_LEN, Header, Kind, Opener, Place, Purpose, Sealer};
use crate::pack::{FOOTER_LEN, FOOTER_MAGIC, Footer, SealContext, TableRow, encode_table, slice};
use crate::record;
use bytes::Bytes;
use holdfast_core::policy::Compression;
use holdfast_core::{Lsn, TimelineId, VaultId};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Bytes of the changes behind the header; 0 = none. Set by [`encode`].
    pub changes_len: u32,
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
        b[44..48].copy_from_slice(&self.changes_len.to_le_bytes());
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
            changes_len: u32::from_le_bytes([b[44], b[45], b[46], b[47]]),
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

/// Where the frames begin.
fn frames_start(facts: &WalFacts) -> u64 {
    HEADER_LEN as u64 + u64::from(facts.changes_len)
}

/// The name that the changes in the object `name` are bound to.
fn changes_name(name: &str) -> String {
    format!("{name}#changes")
}

/// The changes of a segment, from (at least) as many bytes of its object as [`head`] tells: 256 and
/// `changes_len`. `None`: it was stored without any.
pub fn changes(bytes: &[u8], keys: &Keys, place: Place<'_>) -> Result<Option<Vec<u8>>> {
    let facts = head(bytes, keys, place)?.facts;
    if facts.changes_len == 0 {
        return Ok(None);
    }
    let end = usize::try_from(frames_start(&facts)).unwrap_or(usize::MAX);
    let part =
        bytes.get(HEADER_LEN..end).ok_or_else(|| VaultError::damaged(place.name, "it is cut short"))?;
    let name = changes_name(place.name);
    let (plain, _) = record::decode(part, keys, Place { vault: place.vault, name: &name })?;
    Ok(Some(plain))
}

/// What is to be sealed, read piece by piece: most of what handling 16 MiB costs is the kernel handing out
/// fresh memory for it page by page, so nobody holds all of it.
pub trait Plain: Sync {
    /// Bytes in all.
    fn size(&self) -> u64;
    /// Fills `buf` from `at` on.
    fn read_at(&self, at: u64, buf: &mut [u8]) -> std::io::Result<()>;
    /// Bytes behind each piece that [`Plain::look`] wants to see.
    fn look_ahead(&self) -> usize {
        0
    }
    /// Sees the piece that starts at `at`, and what it wants of the next; on any thread.
    fn look(&self, _at: u64, _piece: &[u8]) {}
    /// What goes into the header, and the changes of a segment (empty: there are none); asked once, when
    /// every piece was seen.
    fn finish(&self) -> (WalFacts, Vec<u8>);
}

/// Bytes in memory, and what to say of them.
impl Plain for (&[u8], WalFacts) {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }
    fn read_at(&self, at: u64, buf: &mut [u8]) -> std::io::Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.0.get(at..at + buf.len()));
        buf.copy_from_slice(from.ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn finish(&self) -> (WalFacts, Vec<u8>) {
        (self.1, Vec::new())
    }
}

/// A WAL file in memory, with what is said of it: for whoever seals it anew.
#[derive(Debug, Clone)]
pub struct Held {
    pub plain: Vec<u8>,
    pub facts: WalFacts,
    /// Of [`changes`]; may be empty.
    pub changes: Vec<u8>,
}

impl Plain for Held {
    fn size(&self) -> u64 {
        self.plain.len() as u64
    }
    fn read_at(&self, at: u64, buf: &mut [u8]) -> std::io::Result<()> {
        (self.plain.as_slice(), self.facts).read_at(at, buf)
    }
    fn finish(&self) -> (WalFacts, Vec<u8>) {
        (self.facts, self.changes.clone())
    }
}

/// Seals a segment; returns the object and the digest of the content. The archiver waits for this, so
/// reading, hashing, compression and sealing of each piece run on `threads` threads.
pub fn encode(
    ctx: &SealContext,
    name: &str,
    plain: &dyn Plain,
    compression: Compression,
    threads: usize,
) -> Result<(Bytes, [u8; 32])> {
    let place = Place { vault: &ctx.vault, name };
    let what = Describe {
        kind: Kind::Wal,
        purpose: Purpose::Data,
        plain_len: plain.size(),
        content: [0; 32],
        facts: [0; 48],
    };
    let (sealer, mut header) = Sealer::begin(&ctx.keys, ctx.cipher, place, what)?;
    let frames = seal_frames(&sealer, &ctx.digests, plain, compression, threads, name)?;
    let (mut facts, changes) = plain.finish();
    let changes = match changes.as_slice() {
        [] => Bytes::new(),
        plain => {
            let name = changes_name(name);
            let place = Place { vault: &ctx.vault, name: &name };
            record::encode(&ctx.keys, ctx.cipher, place, Signer::Host, plain)?
        }
    };
    facts.changes_len = changes.len() as u32;
    header.facts = facts.encode();
    let pieces: Vec<[u8; 16]> = frames.iter().map(|f| f.row.digest).collect();
    let digest = ctx.digests.content_of_pieces(&pieces);
    header.content = digest;
    let frame_bytes = frames.iter().map(|f| f.bytes.len()).sum::<usize>();
    let mut out = Vec::with_capacity(frame_bytes + changes.len() + 4096);
    out.extend_from_slice(&header.encode(ctx.keys.newest()?, place));
    out.extend_from_slice(&changes);
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
    plain: &dyn Plain,
    compression: Compression,
    threads: usize,
    name: &str,
) -> Result<Vec<SealedFrame>> {
    let err = |e: std::io::Error| VaultError::Codec { name: name.into(), what: e.to_string() };
    let one = |c: &mut Compressor, read: &mut [u8], buf: &mut Vec<u8>, i: u64| -> Result<SealedFrame> {
        let at = i * FRAME as u64;
        let left = usize::try_from(plain.size() - at).unwrap_or(usize::MAX);
        let seen = read.get_mut(..left.min(FRAME + plain.look_ahead())).unwrap_or_default();
        plain.read_at(at, seen).map_err(err)?;
        plain.look(at, seen);
        let chunk = seen.get(..left.min(FRAME)).unwrap_or_default();
        buf.clear();
        let codec = c.compress(chunk, buf).map_err(err)?;
        sealer.seal_at(i, buf, 0, codec, chunk.len() as u32)?;
        let row = TableRow {
            sealed_len: buf.len() as u32,
            plain_len: chunk.len() as u32,
            codec,
            digest: digests.frame(chunk),
        };
        Ok(SealedFrame { bytes: buf.as_slice().to_vec(), row })
    };
    let count = plain.size().div_ceil(FRAME as u64);
    let next = AtomicU64::new(0);
    // Two buffers a thread, used again: fresh ones for each frame cost more in page faults than the copy of
    // what is left of it. Threads take the next frame each, so that none waits for a slow one's half.
    let work = || -> Result<Vec<(u64, SealedFrame)>> {
        let mut c = Compressor::new(compression).map_err(err)?;
        let (mut read, mut buf) = (vec![0; FRAME + plain.look_ahead()], Vec::new());
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return Ok(done);
            }
            done.push((i, one(&mut c, &mut read, &mut buf, i)?));
        }
    };
    std::thread::scope(|s| {
        let handles: Vec<_> = (1..threads.clamp(1, count.max(1) as usize)).map(|_| s.spawn(work)).collect();
        let mut all = work()?;
        for h in handles {
            match h.join() {
                Ok(r) => all.extend(r?),
                Err(_) => return Err(err(std::io::Error::other("a compression thread failed"))),
            }
        }
        all.sort_by_key(|(i, _)| *i);
        Ok(all.into_iter().map(|(_, f)| f).collect())
    })
}

/// Opens a whole WAL object into memory.
pub fn decode(
    bytes: &[u8],
    keys: &Keys,
    vault: &VaultId,
    digests: &Digests,
    name: &str,
    threads: usize,
) -> Result<(Vec<u8>, WalHead)> {
    let plain = Mutex::new(Vec::new());
    let put = |at: u64, piece: &[u8]| {
        let Ok(mut all) = plain.lock() else { return Err(std::io::Error::other("a thread failed")) };
        let at = usize::try_from(at).map_err(std::io::Error::other)?;
        if all.len() < at + piece.len() {
            all.resize(at + piece.len(), 0);
        }
        if let Some(to) = all.get_mut(at..at + piece.len()) {
            to.copy_from_slice(piece);
        }
        Ok(())
    };
    let head = decode_to(bytes, keys, vault, digests, name, threads, &put)?;
    Ok((plain.into_inner().unwrap_or_default(), head))
}

/// Opens a whole WAL object; checks every byte, the length and the content digest. `put` gets the pieces
/// with their positions, in any order and on any thread; what it got is worth nothing unless this
/// returns `Ok`.
pub fn decode_to(
    bytes: &[u8],
    keys: &Keys,
    vault: &VaultId,
    digests: &Digests,
    name: &str,
    threads: usize,
    put: &(dyn Fn(u64, &[u8]) -> std::io::Result<()> + Sync),
) -> Result<WalHead> {
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
    let table = reader.table_from(frames_start(&head.facts), &footer, &mut sealed)?;
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
    let next = AtomicU64::new(0);
    // As in `seal_frames`: two buffers a thread, used again.
    let work = || -> Result<Vec<(usize, [u8; 16])>> {
        let codec_err = |what: String| VaultError::Codec { name: name.into(), what };
        let mut d = Decompressor::new().map_err(|e| codec_err(e.to_string()))?;
        let (mut piece, mut sealed) = (vec![0; FRAME], Vec::new());
        let mut done = Vec::new();
        loop {
            let i = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
            let Some((loc, digest)) = table.get(i) else { return Ok(done) };
            sealed.clear();
            sealed.extend_from_slice(slice(bytes, loc.offset, loc.end()).ok_or_else(outside)?);
            let packed = opener.open(loc.index.into(), &mut sealed, loc.codec, loc.plain_len)?;
            let out = piece.get_mut(..loc.plain_len as usize).ok_or_else(|| bad("its length is wrong"))?;
            d.decompress_into(loc.codec, packed, out).map_err(codec_err)?;
            let found = digests.frame(out);
            if &found != digest {
                return Err(bad("a frame has other content than its digest says"));
            }
            put((i * FRAME) as u64, out).map_err(VaultError::Sink)?;
            done.push((i, found));
        }
    };
    let mut pieces = std::thread::scope(|s| -> Result<Vec<(usize, [u8; 16])>> {
        let handles: Vec<_> = (1..threads.clamp(1, table.len().max(1))).map(|_| s.spawn(work)).collect();
        let mut all = work()?;
        for h in handles {
            all.extend(h.join().map_err(|_| bad("a thread failed while opening it"))??);
        }
        Ok(all)
    })?;
    pieces.sort_unstable();
    let pieces: Vec<[u8; 16]> = pieces.into_iter().map(|(_, d)| d).collect();
    if digests.content_of_pieces(&pieces) != head.digest {
        return Err(bad("its content does not match its digest"));
    }
    Ok(head)
}

/// Size of the smallest possible WAL object; a shorter one was cut.
pub const MIN_LEN: usize = HEADER_LEN + FOOTER_LEN;

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
            let (b, digest) = encode(&ctx, "w", &(plain.as_slice(), facts), lz4, 2).unwrap();
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

    struct WithChanges<'a>(&'a [u8], &'a [u8]);

    impl Plain for WithChanges<'_> {
        fn size(&self) -> u64 {
            self.0.len() as u64
        }
        fn read_at(&self, at: u64, buf: &mut [u8]) -> std::io::Result<()> {
            (self.0, WalFacts::default()).read_at(at, buf)
        }
        fn finish(&self) -> (WalFacts, Vec<u8>) {
            (WalFacts { timeline: 3, ..Default::default() }, self.1.to_vec())
        }
    }

    #[test]
    fn hosts_read_the_changes_and_every_damage_is_found() {
        let all = Keys::generate().unwrap();
        for cipher in [Cipher::None, Cipher::Aes256Gcm] {
            let ctx = SealContext {
                vault: VaultId::generate(),
                keys: Arc::new(all.for_host()),
                cipher,
                digests: Digests::new(&Secret::new([5; 32])),
            };
            let (plain, said) = (vec![7; 3_000_000], b"which pages".repeat(9));
            let (b, _) = encode(&ctx, "w", &WithChanges(&plain, &said), Compression::Lz4, 2).unwrap();
            let place = Place { vault: &ctx.vault, name: "w" };
            let h = head(&b, &ctx.keys, place).unwrap();
            let end = HEADER_LEN + h.facts.changes_len as usize;
            assert_eq!(changes(&b[..end], &ctx.keys, place).unwrap(), Some(said.clone()));
            assert!(changes(&b[..end - 1], &ctx.keys, place).is_err());
            let (back, _) = decode(&b, &all, &ctx.vault, &ctx.digests, "w", 2).unwrap();
            assert_eq!(back, plain);
            for at in 0..end {
                let mut d = b[..end].to_vec();
                d[at] ^= 1;
                assert!(changes(&d, &ctx.keys, place).is_err(), "byte {at}");
            }
            // Those of another segment do not pass for this one's.
            let (other, _) = encode(&ctx, "v", &WithChanges(&plain, &said), Compression::Lz4, 2).unwrap();
            let len = head(&other, &ctx.keys, Place { vault: &ctx.vault, name: "v" }).unwrap();
            assert_eq!(len.facts.changes_len, h.facts.changes_len);
            let mixed = [&b[..HEADER_LEN], &other[HEADER_LEN..end]].concat();
            assert!(changes(&mixed, &ctx.keys, place).is_err());
            let (none, _) = encode(&ctx, "w", &WithChanges(&plain, b""), Compression::Lz4, 2).unwrap();
            assert_eq!(changes(&none, &ctx.keys, place).unwrap(), None);
        }
    }
}
