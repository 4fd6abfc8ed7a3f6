//! The manifest of a point: a tree that earlier points share (R6).
//!
//! ```text
//! point record ─▶ root chunk ─▶ leaf chunks (≤ 256 files each) ─▶ map chunks, fingerprint chunks
//! ```
//!
//! All chunks are frames of meta packs. A leaf whose files did not change is named again by the next
//! point, so an incremental writes only the leaves it touched. The root sums, for each pack, the bytes
//! and blocks that are live in this point: a sweep decides without reading a map.
//!
//! Groups keep a (tablespace, database) together: `global`, `base/16384`, `pg_tblspc/16390/PG_15_…/5`.

use crate::map::{LocCoder, LocalPacks, put_pack_id, take_pack_id};
use crate::names::PackId;
use crate::pack::{FrameLoc, PackTable};
use crate::wire::{Put, Take, WireError};

/// Files per leaf: small enough that a touched file rewrites little, large enough that a million
/// files make 4,000 leaves (docs/FORMAT.md §8 has the figures).
pub const LEAF_FILES: usize = 256;

/// What an entry is. The number is in the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    File = 0,
    Dir = 1,
    /// A symbolic link that belongs to the data directory (tablespaces are listed in the point).
    Link = 2,
}

/// Facts about an entry, as bits. Part of the format.
pub mod flags {
    /// A fork of a relation: made of pages.
    pub const RELATION: u8 = 1;
    /// A page with a bad checksum was accepted, because WAL of the backup repairs it (§2.13).
    pub const TORN: u8 = 2;
    /// Pages are recorded as damaged; their numbers follow.
    pub const DAMAGED: u8 = 4;
    /// Was changing while it was copied: never reused by its times.
    pub const UNSETTLED: u8 = 8;
}

/// A layer of a file's map, and where its fingerprints are. `map` and `fps` index the leaf's chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerRef {
    pub map: u32,
    pub map_at: u32,
    pub map_len: u32,
    pub fps: u32,
    pub fps_at: u32,
    pub blocks: u32,
}

/// A file, directory or link of the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the data directory; bytes, because file names are.
    pub path: Vec<u8>,
    pub kind: EntryKind,
    pub flags: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    pub inode: u64,
    pub link: Vec<u8>,
    pub damaged: Vec<u32>,
    /// Oldest first.
    pub layers: Vec<LayerRef>,
}

impl Entry {
    pub fn blocks(&self, block_size: u32) -> u64 {
        self.size.div_ceil(block_size.into())
    }
}

/// Up to [`LEAF_FILES`] entries of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaf {
    pub chunks: Vec<FrameLoc>,
    pub entries: Vec<Entry>,
}

impl Leaf {
    pub fn encode(&self, packs: &PackTable) -> Vec<u8> {
        let mut local = LocalPacks::default();
        let mut body = Vec::new();
        body.put_varint(self.chunks.len() as u64);
        let mut coder = LocCoder::default();
        for c in &self.chunks {
            coder.put(c, &mut local, &mut body);
        }
        body.put_varint(self.entries.len() as u64);
        let mut last: &[u8] = &[];
        let (mut mtime, mut inode) = (0i64, 0i64);
        for e in &self.entries {
            let common = last.iter().zip(&e.path).take_while(|(a, b)| a == b).count();
            body.put_varint(common as u64);
            body.put_bytes(e.path.get(common..).unwrap_or(&[]));
            last = &e.path;
            body.push(e.kind as u8);
            body.push(e.flags);
            body.put_varint(e.mode.into());
            body.put_varint(e.uid.into());
            body.put_varint(e.gid.into());
            body.put_varint(e.size);
            body.put_zigzag(e.mtime_ns.wrapping_sub(mtime));
            body.put_zigzag(e.ctime_ns.wrapping_sub(e.mtime_ns));
            body.put_zigzag((e.inode as i64).wrapping_sub(inode));
            (mtime, inode) = (e.mtime_ns, e.inode as i64);
            if e.kind == EntryKind::Link {
                body.put_bytes(&e.link);
            }
            if e.flags & flags::DAMAGED != 0 {
                body.put_varint(e.damaged.len() as u64);
                for b in &e.damaged {
                    body.put_varint((*b).into());
                }
            }
            body.put_varint(e.layers.len() as u64);
            for l in &e.layers {
                for v in [l.map, l.map_at, l.map_len, l.fps, l.fps_at, l.blocks] {
                    body.put_varint(v.into());
                }
            }
        }
        let mut out = Vec::with_capacity(body.len() + 64);
        local.encode(packs, &mut out);
        out.extend_from_slice(&body);
        out
    }

    pub fn decode(plain: &[u8], packs: &mut PackTable) -> Result<Self, WireError> {
        let mut t = Take::new(plain);
        let handles = LocalPacks::decode(&mut t, packs)?;
        let n = t.count(6)?;
        let mut leaf = Leaf { chunks: Vec::with_capacity(n), entries: Vec::new() };
        let mut coder = LocCoder::default();
        for _ in 0..n {
            leaf.chunks.push(coder.take(&mut t, &handles)?);
        }
        let n = t.count(12)?;
        leaf.entries.reserve(n);
        let mut last: Vec<u8> = Vec::new();
        let (mut mtime, mut inode) = (0i64, 0i64);
        for _ in 0..n {
            let common = t.varint()? as usize;
            let tail = t.bytes()?;
            if common > last.len() {
                return Err(t.err("path prefix is longer than the last path"));
            }
            last.truncate(common);
            last.extend_from_slice(tail);
            let kind = match t.u8()? {
                0 => EntryKind::File,
                1 => EntryKind::Dir,
                2 => EntryKind::Link,
                _ => return Err(t.err("entry kind is unknown")),
            };
            let fl = t.u8()?;
            let (mode, uid, gid, size) = (t.varint32()?, t.varint32()?, t.varint32()?, t.varint()?);
            mtime = mtime.wrapping_add(t.zigzag()?);
            let ctime_ns = mtime.wrapping_add(t.zigzag()?);
            inode = inode.wrapping_add(t.zigzag()?);
            let link = if kind == EntryKind::Link { t.bytes()?.to_vec() } else { Vec::new() };
            let mut damaged = Vec::new();
            if fl & flags::DAMAGED != 0 {
                for _ in 0..t.count(1)? {
                    damaged.push(t.varint32()?);
                }
            }
            let mut layers = Vec::new();
            for _ in 0..t.count(6)? {
                let l = LayerRef {
                    map: t.varint32()?,
                    map_at: t.varint32()?,
                    map_len: t.varint32()?,
                    fps: t.varint32()?,
                    fps_at: t.varint32()?,
                    blocks: t.varint32()?,
                };
                if l.map as usize >= leaf.chunks.len() || l.fps as usize >= leaf.chunks.len() {
                    return Err(t.err("layer names an unknown chunk"));
                }
                layers.push(l);
            }
            leaf.entries.push(Entry {
                path: last.clone(),
                kind,
                flags: fl,
                mode,
                uid,
                gid,
                size,
                mtime_ns: mtime,
                ctime_ns,
                inode: inode as u64,
                link,
                damaged,
                layers,
            });
        }
        Ok(leaf)
    }
}

/// How much of a pack a part of the tree uses. `bytes` are sealed bytes, shared out by block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Live {
    pub bytes: u64,
    pub blocks: u64,
}

/// A leaf as the root names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafRef {
    pub chunk: FrameLoc,
    /// Path of its first entry, so that one file is found without reading other leaves.
    pub first: Vec<u8>,
    pub files: u32,
    pub bytes: u64,
    /// Use of data packs: (pack handle, live).
    pub live: Vec<(u32, Live)>,
    /// Meta packs that hold this leaf's chunks.
    pub meta: Vec<u32>,
}

/// A (tablespace, database).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    pub name: Vec<u8>,
    pub leaves: Vec<LeafRef>,
}

/// A pack that the point needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackUse {
    pub pack: u32,
    pub len: u64,
    pub digest: [u8; 32],
    pub live: Live,
}

/// The root chunk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Root {
    /// Every pack that the point needs, data and meta, but for the one that holds this chunk.
    pub packs: Vec<PackUse>,
    pub groups: Vec<Group>,
}

impl Root {
    pub fn encode(&self, packs: &PackTable) -> Vec<u8> {
        let mut out = Vec::new();
        let mut local: std::collections::HashMap<u32, u64> = Default::default();
        out.put_varint(self.packs.len() as u64);
        for (i, p) in self.packs.iter().enumerate() {
            local.insert(p.pack, i as u64);
            if let Some(id) = packs.get(p.pack) {
                put_pack_id(id, &mut out);
            }
            out.put_varint(p.len);
            out.extend_from_slice(&p.digest);
            out.put_varint(p.live.bytes);
            out.put_varint(p.live.blocks);
        }
        let mut body = Vec::new();
        let mut names = LocalPacks::default();
        body.put_varint(self.groups.len() as u64);
        let mut coder = LocCoder::default();
        for g in &self.groups {
            body.put_bytes(&g.name);
            body.put_varint(g.leaves.len() as u64);
            for l in &g.leaves {
                coder.put(&l.chunk, &mut names, &mut body);
                body.put_bytes(&l.first);
                body.put_varint(l.files.into());
                body.put_varint(l.bytes);
                body.put_varint(l.live.len() as u64);
                for (p, live) in &l.live {
                    body.put_varint(local.get(p).copied().unwrap_or(u64::MAX));
                    body.put_varint(live.bytes);
                    body.put_varint(live.blocks);
                }
                body.put_varint(l.meta.len() as u64);
                for p in &l.meta {
                    body.put_varint(local.get(p).copied().unwrap_or(u64::MAX));
                }
            }
        }
        names.encode(packs, &mut out);
        out.extend_from_slice(&body);
        out
    }

    /// `own` is the handle of the pack that holds this root.
    pub fn decode(plain: &[u8], packs: &mut PackTable, own: u32) -> Result<Self, WireError> {
        let mut t = Take::new(plain);
        let mut root = Root::default();
        for _ in 0..t.count(60)? {
            let id: PackId = take_pack_id(&mut t)?;
            root.packs.push(PackUse {
                pack: packs.intern(&id),
                len: t.varint()?,
                digest: t.array()?,
                live: Live { bytes: t.varint()?, blocks: t.varint()? },
            });
        }
        let names = LocalPacks::decode(&mut t, packs)?;
        let mut coder = LocCoder::default();
        for _ in 0..t.count(2)? {
            let name = t.bytes()?.to_vec();
            let mut leaves = Vec::new();
            for _ in 0..t.count(10)? {
                let chunk = coder.take(&mut t, &names)?;
                let first = t.bytes()?.to_vec();
                let (files, bytes) = (t.varint32()?, t.varint()?);
                // A number beyond the table names the pack that holds the root itself.
                let handle = |t: &mut Take<'_>, root: &Root| -> Result<u32, WireError> {
                    let n = t.varint()?;
                    if n == u64::MAX {
                        return Ok(own);
                    }
                    let p = usize::try_from(n).ok().and_then(|n| root.packs.get(n));
                    p.map(|p| p.pack).ok_or(t.err("pack number is unknown"))
                };
                let mut live = Vec::new();
                for _ in 0..t.count(3)? {
                    let p = handle(&mut t, &root)?;
                    live.push((p, Live { bytes: t.varint()?, blocks: t.varint()? }));
                }
                let mut meta = Vec::new();
                for _ in 0..t.count(1)? {
                    meta.push(handle(&mut t, &root)?);
                }
                leaves.push(LeafRef { chunk, first, files, bytes, live, meta });
            }
            root.groups.push(Group { name, leaves });
        }
        Ok(root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::FrameCodec;
    use crate::names::PackClass;

    fn packs() -> PackTable {
        let mut t = PackTable::default();
        for (class, number) in [(PackClass::Data, 1), (PackClass::Meta, 1), (PackClass::Data, 2)] {
            t.intern(&PackId { run: "20261121T093512Z-k3f9q2".parse().unwrap(), class, number });
        }
        t
    }

    fn loc(pack: u32, index: u32) -> FrameLoc {
        FrameLoc {
            pack,
            index,
            offset: 256 + u64::from(index) * 99,
            sealed_len: 99,
            plain_len: 500,
            codec: FrameCodec::Zstd,
        }
    }

    #[test]
    fn leaves_and_roots_round_trip() {
        let mut packs = packs();
        let entry = |path: &str, kind| Entry {
            path: path.into(),
            kind,
            flags: if kind == EntryKind::File { flags::RELATION | flags::DAMAGED } else { 0 },
            mode: 0o600,
            uid: 101,
            gid: 104,
            size: 16384,
            mtime_ns: 1_763_717_712_123_456_789,
            ctime_ns: 1_763_717_712_123_456_790,
            inode: 123_456,
            link: if kind == EntryKind::Link { b"/elsewhere".to_vec() } else { vec![] },
            damaged: if kind == EntryKind::File { vec![1, 7] } else { vec![] },
            layers: if kind == EntryKind::File {
                vec![LayerRef { map: 0, map_at: 0, map_len: 30, fps: 1, fps_at: 8, blocks: 2 }]
            } else {
                vec![]
            },
        };
        let leaf = Leaf {
            chunks: vec![loc(1, 4), loc(1, 5)],
            entries: vec![
                entry("base/5", EntryKind::Dir),
                entry("base/5/1247", EntryKind::File),
                entry("base/5/1247_vm", EntryKind::Link),
            ],
        };
        let bytes = leaf.encode(&packs);
        assert_eq!(Leaf::decode(&bytes, &mut packs).unwrap(), leaf);
        for cut in 0..bytes.len() {
            assert!(Leaf::decode(&bytes[..cut], &mut packs).is_err());
        }
        let live = Live { bytes: 9, blocks: 3 };
        let root = Root {
            packs: vec![
                PackUse { pack: 2, len: 7, digest: [1; 32], live },
                PackUse { pack: 0, len: 8, digest: [2; 32], live },
            ],
            groups: vec![Group {
                name: b"base/5".to_vec(),
                leaves: vec![LeafRef {
                    chunk: loc(1, 9),
                    first: b"base/5".to_vec(),
                    files: 3,
                    bytes: 16384,
                    live: vec![(0, live), (2, live)],
                    meta: vec![1],
                }],
            }],
        };
        let bytes = root.encode(&packs);
        assert_eq!(Root::decode(&bytes, &mut packs, 1).unwrap(), root);
        for cut in 0..bytes.len() {
            assert!(Root::decode(&bytes[..cut], &mut packs, 1).is_err());
        }
    }
}
