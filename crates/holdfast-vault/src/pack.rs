//! Packs: many sealed frames in one object, written as a stream, readable frame by frame.
//!
//! ```text
//! header (256) ‖ frame 0 ‖ frame 1 ‖ … ‖ table (a sealed frame) ‖ footer (64, clear)
//! ```
//!
//! A map or a manifest names a frame by [`FrameLoc`]: one ranged read fetches it. The table repeats
//! lengths, codecs and the frames' content digests, so that a pack can be checked, copied and matched
//! without any map. The footer carries a BLAKE3 digest of all bytes before it: with it and the
//! manifest a host without the private key can tell that a pack is whole.
//!
//! How to use: [`PackWriter::frame`] for each frame, [`PackWriter::finish`] at the end; the bytes go to
//! a [`PartSink`] in parts. Nothing is visible in the store before the sink's own finish: a crash
//! leaves no pack, or a whole one that no point names yet (the sweep removes it).

use crate::codec::{Compressor, Decompressor, FrameCodec};
use crate::digest::Digests;
use crate::error::{Result, VaultError};
use crate::keys::Keys;
use crate::names::PackId;
use crate::object::{Cipher, Describe, HEADER_LEN, Header, Opener, Place, Purpose, Sealer, TAG_LEN};
use crate::wire::{Put, Take, WireError};
use bytes::Bytes;
use holdfast_core::VaultId;

pub const FOOTER_LEN: usize = 64;
pub const FOOTER_MAGIC: &[u8; 8] = b"HFPACKv1";

/// Where a frame lies. `pack` is a handle into a [`PackTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameLoc {
    pub pack: u32,
    pub index: u32,
    pub offset: u64,
    pub sealed_len: u32,
    pub plain_len: u32,
    pub codec: FrameCodec,
}

impl FrameLoc {
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.sealed_len.into())
    }
}

/// Interns pack ids, so that millions of frames name their pack by a small number.
#[derive(Debug, Clone, Default)]
pub struct PackTable {
    ids: Vec<PackId>,
    by_id: std::collections::HashMap<PackId, u32>,
}

impl PackTable {
    pub fn intern(&mut self, id: &PackId) -> u32 {
        if let Some(&h) = self.by_id.get(id) {
            return h;
        }
        let h = self.ids.len() as u32;
        self.ids.push(id.clone());
        self.by_id.insert(id.clone(), h);
        h
    }

    pub fn get(&self, handle: u32) -> Option<&PackId> {
        self.ids.get(handle as usize)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &PackId)> {
        self.ids.iter().enumerate().map(|(i, id)| (i as u32, id))
    }
}

/// One row of a pack's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableRow {
    pub sealed_len: u32,
    pub plain_len: u32,
    pub codec: FrameCodec,
    pub digest: [u8; 16],
}

pub fn encode_table(rows: &[TableRow]) -> Vec<u8> {
    let mut b = Vec::with_capacity(4 + rows.len() * 24);
    b.put_varint(rows.len() as u64);
    for r in rows {
        b.put_varint(r.sealed_len.into());
        b.put_varint(r.plain_len.into());
        b.push(r.codec as u8);
        b.extend_from_slice(&r.digest);
    }
    b
}

pub fn decode_table(plain: &[u8]) -> Result<Vec<TableRow>, WireError> {
    let mut t = Take::new(plain);
    let n = t.count(19)?;
    let mut rows = Vec::with_capacity(n);
    for _ in 0..n {
        rows.push(TableRow {
            sealed_len: t.varint32()?,
            plain_len: t.varint32()?,
            codec: FrameCodec::from_byte(t.u8()?).ok_or(t.err("unknown codec"))?,
            digest: t.array()?,
        });
    }
    Ok(rows)
}

/// The last 64 bytes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    pub table_offset: u64,
    pub table_sealed: u32,
    pub table_plain: u32,
    pub frames: u32,
    pub table_codec: FrameCodec,
    /// BLAKE3 of every byte of the object before this field.
    pub digest: [u8; 32],
}

impl Footer {
    fn head(&self) -> [u8; FOOTER_LEN - 32] {
        let mut b = [0u8; FOOTER_LEN - 32];
        b[..8].copy_from_slice(FOOTER_MAGIC);
        b[8..16].copy_from_slice(&self.table_offset.to_le_bytes());
        b[16..20].copy_from_slice(&self.table_sealed.to_le_bytes());
        b[20..24].copy_from_slice(&self.table_plain.to_le_bytes());
        b[24..28].copy_from_slice(&self.frames.to_le_bytes());
        b[28] = self.table_codec as u8;
        b
    }

    pub fn decode(b: &[u8], name: &str) -> Result<Self> {
        let bad = |what: &str| VaultError::damaged(name, what);
        let b: &[u8; FOOTER_LEN] = b.last_chunk().ok_or_else(|| bad("it is shorter than its footer"))?;
        if &b[..8] != FOOTER_MAGIC {
            return Err(bad("its footer is missing; it was cut short"));
        }
        let u32_at = |i: usize| u32::from_le_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
        Ok(Footer {
            table_offset: u64::from_le_bytes([b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]),
            table_sealed: u32_at(16),
            table_plain: u32_at(20),
            frames: u32_at(24),
            table_codec: FrameCodec::from_byte(b[28]).ok_or_else(|| bad("its footer is damaged"))?,
            digest: b[32..].try_into().unwrap_or([0; 32]),
        })
    }
}

/// Takes a pack's bytes in order. `finish` makes them visible, durably.
pub trait PartSink: Send {
    fn part(&mut self, bytes: Bytes) -> Result<()>;
    fn finish(self: Box<Self>) -> Result<()>;
    /// Gives up: nothing becomes visible.
    fn abort(self: Box<Self>);
}

/// What a finished pack is, as manifests record it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackInfo {
    pub id: PackId,
    pub len: u64,
    pub digest: [u8; 32],
}

/// Everything a writer of sealed objects needs to know about the vault.
#[derive(Debug, Clone)]
pub struct SealContext {
    pub vault: VaultId,
    pub keys: std::sync::Arc<Keys>,
    pub cipher: Cipher,
    pub digests: Digests,
}

/// Writes one pack.
pub struct PackWriter {
    id: PackId,
    handle: u32,
    sealer: Sealer,
    digests: Digests,
    sink: Box<dyn PartSink>,
    buf: Vec<u8>,
    flushed: u64,
    hasher: blake3::Hasher,
    rows: Vec<TableRow>,
    part_size: usize,
}

impl std::fmt::Debug for PackWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackWriter").field("id", &self.id).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl PackWriter {
    pub fn new(
        ctx: &SealContext,
        id: PackId,
        handle: u32,
        name: &str,
        purpose: Purpose,
        sink: Box<dyn PartSink>,
        part_size: usize,
    ) -> Result<Self> {
        let place = Place { vault: &ctx.vault, name };
        let (sealer, header) = Sealer::new(&ctx.keys, ctx.cipher, place, Describe::pack(purpose))?;
        let mut buf = Vec::with_capacity(part_size + (1 << 20));
        buf.extend_from_slice(&header);
        Ok(PackWriter {
            id,
            handle,
            sealer,
            digests: ctx.digests.clone(),
            sink,
            buf,
            flushed: 0,
            hasher: blake3::Hasher::new(),
            rows: Vec::new(),
            part_size,
        })
    }

    pub fn id(&self) -> &PackId {
        &self.id
    }

    /// Bytes so far, the table and footer not counted.
    pub fn len(&self) -> u64 {
        self.flushed + self.buf.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Compresses, seals and appends one frame.
    pub fn frame(&mut self, plain: &[u8], compressor: &mut Compressor) -> Result<FrameLoc> {
        let offset = self.len();
        let start = self.buf.len();
        let plain_len = plain.len() as u32;
        let name = self.id.run.as_str();
        let codec = compressor
            .compress(plain, &mut self.buf)
            .map_err(|e| VaultError::Codec { name: name.to_string(), what: e.to_string() })?;
        let index = self.sealer.seal_tail(&mut self.buf, start, codec, plain_len)?;
        let sealed_len = (self.buf.len() - start) as u32;
        self.rows.push(TableRow { sealed_len, plain_len, codec, digest: self.digests.frame(plain) });
        let loc = FrameLoc { pack: self.handle, index: index as u32, offset, sealed_len, plain_len, codec };
        if self.buf.len() >= self.part_size {
            self.flush()?;
        }
        Ok(loc)
    }

    fn flush(&mut self) -> Result<()> {
        let next = Vec::with_capacity(self.part_size + (1 << 20));
        let part = std::mem::replace(&mut self.buf, next);
        self.hasher.update(&part);
        self.flushed += part.len() as u64;
        self.sink.part(Bytes::from(part))
    }

    /// Writes table and footer. The sink is handed back: its `finish` makes the pack visible and may
    /// take a while (fsync), so the caller chooses when.
    pub fn finish(mut self) -> Result<(PackInfo, Box<dyn PartSink>)> {
        let table = encode_table(&self.rows);
        let table_offset = self.len();
        let start = self.buf.len();
        self.buf.extend_from_slice(&table);
        self.sealer.seal_tail(&mut self.buf, start, FrameCodec::None, table.len() as u32)?;
        let mut footer = Footer {
            table_offset,
            table_sealed: (self.buf.len() - start) as u32,
            table_plain: table.len() as u32,
            frames: self.rows.len() as u32,
            table_codec: FrameCodec::None,
            digest: [0; 32],
        };
        self.buf.extend_from_slice(&footer.head());
        self.hasher.update(&self.buf);
        footer.digest = *self.hasher.finalize().as_bytes();
        self.buf.extend_from_slice(&footer.digest);
        let len = self.len();
        let part = std::mem::take(&mut self.buf);
        self.sink.part(Bytes::from(part))?;
        Ok((PackInfo { id: self.id, len, digest: footer.digest }, self.sink))
    }

    pub fn abort(self) {
        self.sink.abort();
    }
}

/// Opens frames of one pack whose header was read.
#[derive(Debug)]
pub struct PackReader {
    opener: Opener,
    name: String,
}

impl PackReader {
    /// `head` is the first 256 bytes of the object.
    pub fn new(head: &[u8], keys: &Keys, vault: &VaultId, name: &str) -> Result<Self> {
        let place = Place { vault, name };
        let header = Header::decode(head, keys, place)?;
        Ok(PackReader { opener: Opener::new(&header, keys, place)?, name: name.to_string() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Authenticates, decrypts and decompresses a frame into `out`.
    pub fn frame(
        &self,
        loc: &FrameLoc,
        sealed: &mut [u8],
        d: &mut Decompressor,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if sealed.len() != loc.sealed_len as usize || sealed.len() < TAG_LEN {
            return Err(VaultError::damaged(&self.name, format!("frame {} has a wrong length", loc.index)));
        }
        let packed = self.opener.open(loc.index.into(), sealed, loc.codec, loc.plain_len)?;
        d.decompress(loc.codec, packed, loc.plain_len as usize, out)
            .map_err(|what| VaultError::Codec { name: self.name.clone(), what })
    }

    /// The frames of a whole pack, from its table.
    pub fn table(&self, footer: &Footer, sealed: &mut [u8]) -> Result<Vec<(FrameLoc, [u8; 16])>> {
        self.table_from(HEADER_LEN as u64, footer, sealed)
    }

    /// The same for an object whose frames begin at `start`.
    pub(crate) fn table_from(
        &self,
        start: u64,
        footer: &Footer,
        sealed: &mut [u8],
    ) -> Result<Vec<(FrameLoc, [u8; 16])>> {
        let bad = |what: String| VaultError::damaged(&self.name, what);
        let plain = self.opener.open(footer.frames.into(), sealed, footer.table_codec, footer.table_plain)?;
        let rows = decode_table(plain).map_err(|e| bad(format!("its table is {e}")))?;
        if rows.len() != footer.frames as usize {
            return Err(bad("its table and footer disagree".into()));
        }
        let mut offset = start;
        let mut out = Vec::with_capacity(rows.len());
        for (i, r) in rows.into_iter().enumerate() {
            let loc = FrameLoc {
                pack: 0,
                index: i as u32,
                offset,
                sealed_len: r.sealed_len,
                plain_len: r.plain_len,
                codec: r.codec,
            };
            offset = loc.end();
            out.push((loc, r.digest));
        }
        if offset != footer.table_offset {
            return Err(bad("its frames do not fill it".into()));
        }
        Ok(out)
    }
}

/// Checks a whole pack that is in memory: digest, table, and every frame it can open. Returns the
/// plain content of all frames, in order, through `each`.
pub fn check_whole(
    bytes: &[u8],
    keys: &Keys,
    vault: &VaultId,
    name: &str,
    mut each: impl FnMut(&FrameLoc, &[u8], &[u8; 16]) -> Result<()>,
) -> Result<Footer> {
    let footer = check_sealed(bytes, name)?;
    let reader = PackReader::new(bytes, keys, vault, name)?;
    let bad = || VaultError::damaged(name, "its table points outside of it");
    let end = footer.table_offset.checked_add(footer.table_sealed.into()).ok_or_else(bad)?;
    let mut sealed = slice(bytes, footer.table_offset, end).ok_or_else(bad)?.to_vec();
    let table = reader.table(&footer, &mut sealed)?;
    let mut d =
        Decompressor::new().map_err(|e| VaultError::Codec { name: name.into(), what: e.to_string() })?;
    let mut out = Vec::new();
    for (loc, digest) in &table {
        sealed.clear();
        sealed.extend_from_slice(slice(bytes, loc.offset, loc.end()).ok_or_else(bad)?);
        reader.frame(loc, &mut sealed, &mut d, &mut out)?;
        each(loc, &out, digest)?;
    }
    Ok(footer)
}

/// Checks the digest of a whole pack without any key.
pub fn check_sealed(bytes: &[u8], name: &str) -> Result<Footer> {
    let footer = Footer::decode(bytes, name)?;
    let body = bytes.len().checked_sub(32).and_then(|n| bytes.get(..n)).unwrap_or(&[]);
    if blake3::hash(body).as_bytes() != &footer.digest {
        return Err(VaultError::damaged(name, "its bytes do not match its digest"));
    }
    Ok(footer)
}

pub(crate) fn slice(b: &[u8], from: u64, to: u64) -> Option<&[u8]> {
    b.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
}

/// Purpose of a pack by its class.
pub fn purpose_of(id: &PackId) -> Purpose {
    match id.class {
        crate::names::PackClass::Data => Purpose::Data,
        crate::names::PackClass::Meta => Purpose::Meta,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::names::PackClass;
    use holdfast_core::policy::Compression;
    use holdfast_core::{RunId, Secret};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    pub(crate) struct MemSink(pub Arc<Mutex<Vec<u8>>>);
    impl PartSink for MemSink {
        fn part(&mut self, bytes: Bytes) -> Result<()> {
            self.0.lock().unwrap().extend_from_slice(&bytes);
            Ok(())
        }
        fn finish(self: Box<Self>) -> Result<()> {
            Ok(())
        }
        fn abort(self: Box<Self>) {}
    }

    #[test]
    fn packs_round_trip_and_damage_is_found() {
        let keys = Keys::generate().unwrap();
        let ctx = SealContext {
            vault: VaultId::generate(),
            keys: Arc::new(keys.clone()),
            cipher: Cipher::Aes256Gcm,
            digests: Digests::new(&Secret::new([3; 32])),
        };
        let id = PackId { run: RunId::generate(jiff::Timestamp::now()), class: PackClass::Data, number: 1 };
        let sink = MemSink::default();
        let mut w = PackWriter::new(&ctx, id, 0, "p", Purpose::Data, Box::new(sink.clone()), 1000).unwrap();
        let mut c = Compressor::new(Compression::Zstd { level: 1 }).unwrap();
        let frames: Vec<Vec<u8>> = (0..50u32).map(|i| i.to_le_bytes().repeat(i as usize * 20)).collect();
        let locs: Vec<FrameLoc> = frames.iter().map(|f| w.frame(f, &mut c).unwrap()).collect();
        let (info, s) = w.finish().unwrap();
        s.finish().unwrap();
        let bytes = sink.0.lock().unwrap().clone();
        assert_eq!(bytes.len() as u64, info.len);
        let mut i = 0;
        check_whole(&bytes, &keys, &ctx.vault, "p", |loc, plain, digest| {
            assert_eq!((loc, plain), (&locs[i], &frames[i][..]));
            assert_eq!(digest, &ctx.digests.frame(plain));
            i += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(i, 50);
        // One flipped byte anywhere, or any cut, is found without a key.
        for at in (0..bytes.len()).step_by(7) {
            let mut b = bytes.clone();
            b[at] ^= 0x40;
            assert!(check_sealed(&b, "p").is_err(), "byte {at}");
            assert!(check_sealed(&bytes[..at], "p").is_err(), "cut {at}");
        }
    }
}
