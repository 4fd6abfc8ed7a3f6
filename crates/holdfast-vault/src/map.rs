//! Page maps: which frame holds which block of a file (R6).
//!
//! A file is a row of blocks (the cluster's block size; the last may be short). A **layer** maps
//! some of its blocks; a point names up to [`MAX_LAYERS`] layers for a file, newest last, and a block
//! is where the newest layer that has it says. So a point is complete by itself, an incremental adds
//! a small layer, and expiring a point touches no other.
//!
//! Layers are merged when the upper ones outgrow a quarter of the base, or their number its limit
//! ([`merge_plan`]): reads stay flat and the cost of merging is spread over many runs.
//!
//! Beside a layer lie the **fingerprints** of its blocks, 8 bytes each, in the order of its runs; they
//! are read only to find changed blocks.

use crate::codec::FrameCodec;
use crate::names::{PackClass, PackId};
use crate::pack::{FrameLoc, PackTable};
use crate::wire::{Put, Take, WireError};
use holdfast_core::RunId;

pub const MAX_LAYERS: usize = 8;

/// Consecutive blocks that lie one after another in one frame, or are all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First block.
    pub start: u32,
    pub count: u32,
    /// Index into the layer's frames; `None` = blocks of zeros, stored nowhere.
    pub frame: Option<u32>,
    /// Byte offset of the first block in the frame's plain content.
    pub at: u32,
}

impl Run {
    pub fn end(&self) -> u32 {
        self.start + self.count
    }
}

/// Some blocks of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer {
    pub frames: Vec<FrameLoc>,
    /// Sorted by `start`, not overlapping.
    pub runs: Vec<Run>,
}

impl Layer {
    pub fn blocks(&self) -> u64 {
        self.runs.iter().map(|r| u64::from(r.count)).sum()
    }

    /// Sorts runs and joins neighbours; call before encoding.
    pub fn normalize(&mut self, block_size: u32) {
        self.runs.sort_by_key(|r| r.start);
        let mut out: Vec<Run> = Vec::with_capacity(self.runs.len());
        for r in self.runs.drain(..) {
            if let Some(last) = out.last_mut() {
                let follows = last.end() == r.start && last.frame == r.frame;
                let joined = match r.frame {
                    None => follows,
                    Some(_) => {
                        follows
                            && u64::from(last.at) + u64::from(last.count) * u64::from(block_size)
                                == u64::from(r.at)
                    }
                };
                if joined {
                    last.count += r.count;
                    continue;
                }
            }
            out.push(r);
        }
        self.runs = out;
    }
}

/// The pack table at the head of a chunk: local numbers for the packs that its contents name.
#[derive(Debug, Default)]
pub struct LocalPacks {
    handles: Vec<u32>,
    by_handle: std::collections::HashMap<u32, u32>,
}

impl LocalPacks {
    fn local(&mut self, handle: u32) -> u32 {
        *self.by_handle.entry(handle).or_insert_with(|| {
            self.handles.push(handle);
            self.handles.len() as u32 - 1
        })
    }

    pub fn encode(&self, packs: &PackTable, out: &mut Vec<u8>) {
        out.put_varint(self.handles.len() as u64);
        for h in &self.handles {
            if let Some(id) = packs.get(*h) {
                put_pack_id(id, out);
            }
        }
    }

    /// Reads the table; returns the handle for each local number.
    pub fn decode(t: &mut Take<'_>, packs: &mut PackTable) -> Result<Vec<u32>, WireError> {
        let n = t.count(25)?;
        let mut v = Vec::with_capacity(n);
        for _ in 0..n {
            v.push(packs.intern(&take_pack_id(t)?));
        }
        Ok(v)
    }
}

pub fn put_pack_id(id: &PackId, out: &mut Vec<u8>) {
    out.extend_from_slice(id.run.as_str().as_bytes());
    out.push(match id.class {
        PackClass::Data => 0,
        PackClass::Meta => 1,
    });
    out.put_varint(id.number.into());
}

pub fn take_pack_id(t: &mut Take<'_>) -> Result<PackId, WireError> {
    let e = t.err("run id is malformed");
    let run: RunId = std::str::from_utf8(t.raw(23)?).map_err(|_| e)?.parse().map_err(|_| e)?;
    let class = match t.u8()? {
        0 => PackClass::Data,
        1 => PackClass::Meta,
        _ => return Err(t.err("pack class is unknown")),
    };
    Ok(PackId { run, class, number: t.varint32()? })
}

/// Delta coder for frame locations: a frame right behind the last one of the same pack costs a few bytes.
#[derive(Debug, Default)]
pub struct LocCoder {
    pack: u32,
    end: u64,
    index: u32,
}

impl LocCoder {
    pub fn put(&mut self, f: &FrameLoc, local: &mut LocalPacks, out: &mut Vec<u8>) {
        let pack = local.local(f.pack);
        out.put_varint(pack.into());
        if pack != self.pack {
            (self.end, self.index) = (0, 0);
        }
        out.put_zigzag((f.offset as i64).wrapping_sub(self.end as i64));
        out.put_zigzag(i64::from(f.index) - i64::from(self.index));
        out.put_varint(f.sealed_len.into());
        out.put_varint(f.plain_len.into());
        out.push(f.codec as u8);
        (self.pack, self.end, self.index) = (pack, f.end(), f.index + 1);
    }

    pub fn take(&mut self, t: &mut Take<'_>, packs: &[u32]) -> Result<FrameLoc, WireError> {
        let local = t.varint32()?;
        let pack = *packs.get(local as usize).ok_or(t.err("pack number is unknown"))?;
        if local != self.pack {
            (self.end, self.index) = (0, 0);
        }
        let offset = (self.end as i64).wrapping_add(t.zigzag()?) as u64;
        let index = i64::from(self.index).wrapping_add(t.zigzag()?);
        let loc = FrameLoc {
            pack,
            offset,
            index: u32::try_from(index).map_err(|_| t.err("frame index is out of range"))?,
            sealed_len: t.varint32()?,
            plain_len: t.varint32()?,
            codec: FrameCodec::from_byte(t.u8()?).ok_or(t.err("unknown codec"))?,
        };
        let end = offset.checked_add(loc.sealed_len.into()).ok_or(t.err("frame offset is out of range"))?;
        (self.pack, self.end, self.index) = (local, end, loc.index.wrapping_add(1));
        Ok(loc)
    }
}

/// Appends a layer. `block_size` makes the usual case (blocks follow each other in a frame) free.
pub fn encode_layer(layer: &Layer, block_size: u32, local: &mut LocalPacks, out: &mut Vec<u8>) {
    out.put_varint(layer.frames.len() as u64);
    let mut coder = LocCoder::default();
    for f in &layer.frames {
        coder.put(f, local, out);
    }
    out.put_varint(layer.runs.len() as u64);
    let (mut block, mut frame, mut at) = (0u32, 0i64, 0u64);
    for r in &layer.runs {
        out.put_varint((r.start - block).into());
        out.put_varint(r.count.into());
        // 0 = zeros; otherwise 1 + zigzag of the step from the last frame.
        match r.frame {
            None => out.put_varint(0),
            Some(f) => {
                let step = i64::from(f) - frame;
                out.put_varint(1 + (((step << 1) ^ (step >> 63)) as u64));
                if step != 0 {
                    at = 0;
                }
                out.put_zigzag(i64::from(r.at) - at as i64);
                frame = f.into();
                at = u64::from(r.at) + u64::from(r.count) * u64::from(block_size);
            }
        }
        block = r.end();
    }
}

/// Reads a layer that [`encode_layer`] wrote.
pub fn decode_layer(t: &mut Take<'_>, block_size: u32, packs: &[u32]) -> Result<Layer, WireError> {
    let n = t.count(6)?;
    let mut layer = Layer { frames: Vec::with_capacity(n), runs: Vec::new() };
    let mut coder = LocCoder::default();
    for _ in 0..n {
        layer.frames.push(coder.take(t, packs)?);
    }
    let n = t.count(3)?;
    layer.runs.reserve(n);
    let (mut block, mut frame, mut at) = (0u32, 0i64, 0u64);
    for _ in 0..n {
        let start = block.checked_add(t.varint32()?).ok_or(t.err("block is out of range"))?;
        let count = t.varint32()?;
        block = start.checked_add(count).ok_or(t.err("block is out of range"))?;
        if count == 0 {
            return Err(t.err("run is empty"));
        }
        let run = match t.varint()? {
            0 => Run { start, count, frame: None, at: 0 },
            v => {
                let z = v - 1;
                let step = (z >> 1) as i64 ^ -((z & 1) as i64);
                if step != 0 {
                    at = 0;
                }
                frame = frame.wrapping_add(step);
                let f = u32::try_from(frame).map_err(|_| t.err("frame is out of range"))?;
                let loc = layer.frames.get(f as usize).ok_or(t.err("frame is out of range"))?;
                let offset = (at as i64).wrapping_add(t.zigzag()?);
                let a = u32::try_from(offset).map_err(|_| t.err("offset is out of range"))?;
                // The last block may be short: only its first byte has to be inside.
                let last = u64::from(a) + u64::from(count - 1) * u64::from(block_size);
                if last >= u64::from(loc.plain_len) {
                    return Err(t.err("run is outside of its frame"));
                }
                at = u64::from(a) + u64::from(count) * u64::from(block_size);
                Run { start, count, frame: Some(f), at: a }
            }
        };
        layer.runs.push(run);
    }
    Ok(layer)
}

/// What to do with a file's layers before a new one is put on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergePlan {
    /// Just add the new layer.
    Add,
    /// Merge every layer but the base with the new one.
    Upper,
    /// Merge all into a new base.
    All,
}

/// Decides by the number of blocks in each existing layer (oldest first) and in the new one. The
/// quarter rule counts blocks because both the map and the fingerprints grow with them.
pub fn merge_plan(existing: &[u64], new: u64) -> MergePlan {
    let Some((base, upper)) = existing.split_first() else { return MergePlan::Add };
    let top: u64 = upper.iter().sum::<u64>() + new;
    if top.saturating_mul(4) > *base {
        MergePlan::All
    } else if existing.len() >= MAX_LAYERS {
        MergePlan::Upper
    } else {
        MergePlan::Add
    }
}

/// Lays `layers` (oldest first) over each other and cuts at `blocks`. `fingerprints[i]` belongs to
/// `layers[i]`; when all are given, the merged fingerprints come back too.
pub fn flatten(
    layers: &[&Layer],
    fingerprints: &[&[u64]],
    blocks: u32,
    block_size: u32,
) -> (Layer, Vec<u64>) {
    const NONE: u32 = u32::MAX;
    // owner[b] = which run (numbered over all layers) has block b.
    let mut owner = vec![NONE; blocks as usize];
    let mut runs: Vec<(usize, Run, usize)> = Vec::new();
    for (li, layer) in layers.iter().enumerate() {
        let mut fp_at = 0usize;
        for r in &layer.runs {
            let id = runs.len() as u32;
            runs.push((li, *r, fp_at));
            fp_at += r.count as usize;
            let (s, e) = (r.start.min(blocks) as usize, r.end().min(blocks) as usize);
            if let Some(slots) = owner.get_mut(s..e) {
                slots.fill(id);
            }
        }
    }
    let mut out = Layer::default();
    let mut fps = Vec::new();
    let want_fps = fingerprints.len() == layers.len() && !layers.is_empty();
    let mut frame_ids: std::collections::HashMap<(usize, u32), u32> = Default::default();
    let mut b = 0usize;
    while b < owner.len() {
        let id = owner[b];
        let mut e = b + 1;
        while e < owner.len() && owner[e] == id {
            e += 1;
        }
        if let Some((li, r, fp_at)) = runs.get(id as usize) {
            let skip = b as u32 - r.start;
            let frame = r.frame.and_then(|f| {
                let loc = layers.get(*li)?.frames.get(f as usize)?;
                Some(*frame_ids.entry((*li, f)).or_insert_with(|| {
                    out.frames.push(*loc);
                    out.frames.len() as u32 - 1
                }))
            });
            out.runs.push(Run {
                start: b as u32,
                count: (e - b) as u32,
                frame,
                at: if frame.is_some() { r.at + skip * block_size } else { 0 },
            });
            if want_fps {
                let from = fp_at + skip as usize;
                match fingerprints.get(*li).and_then(|f| f.get(from..from + (e - b))) {
                    Some(s) => fps.extend_from_slice(s),
                    None => fps.resize(fps.len() + (e - b), 0),
                }
            }
        }
        b = e;
    }
    (out, fps)
}

#[cfg(test)]
#[allow(clippy::print_stderr)]
mod tests {
    use super::*;

    fn loc(pack: u32, i: u32) -> FrameLoc {
        FrameLoc {
            pack,
            index: i,
            offset: 256 + u64::from(i) * 5000,
            sealed_len: 5000,
            plain_len: 262_144,
            codec: FrameCodec::Zstd,
        }
    }

    fn table(n: u32) -> PackTable {
        let mut t = PackTable::default();
        for i in 0..n {
            t.intern(&PackId {
                run: "20261121T093512Z-k3f9q2".parse().unwrap(),
                class: PackClass::Data,
                number: i,
            });
        }
        t
    }

    fn round_trip(layer: &Layer) -> usize {
        let mut packs = table(4);
        let mut local = LocalPacks::default();
        let mut body = Vec::new();
        encode_layer(layer, 8192, &mut local, &mut body);
        let mut chunk = Vec::new();
        local.encode(&packs, &mut chunk);
        chunk.extend_from_slice(&body);
        let mut t = Take::new(&chunk);
        let handles = LocalPacks::decode(&mut t, &mut packs).unwrap();
        assert_eq!(&decode_layer(&mut t, 8192, &handles).unwrap(), layer);
        assert_eq!(t.remaining(), 0);
        // No prefix of it is a layer, and nothing panics.
        for cut in 0..chunk.len() {
            let mut t = Take::new(&chunk[..cut]);
            let r = LocalPacks::decode(&mut t, &mut packs).and_then(|h| decode_layer(&mut t, 8192, &h));
            assert!(r.is_err());
        }
        body.len()
    }

    #[test]
    fn layers_round_trip_and_full_ones_are_small() {
        let full = Layer {
            frames: (0..4096).map(|i| loc(0, i)).collect(),
            runs: (0..4096).map(|i| Run { start: i * 32, count: 32, frame: Some(i), at: 0 }).collect(),
        };
        let bytes = round_trip(&full);
        assert!(bytes < 4096 * 14, "{bytes}");
        round_trip(&Layer {
            frames: vec![loc(1, 7), loc(0, 3), loc(1, 2)],
            runs: vec![
                Run { start: 0, count: 2, frame: Some(2), at: 8192 },
                Run { start: 2, count: 5, frame: None, at: 0 },
                Run { start: 9, count: 1, frame: Some(0), at: 100 },
                Run { start: 10, count: 1, frame: Some(2), at: 65536 },
            ],
        });
        round_trip(&Layer::default());
    }

    #[test]
    fn random_histories_flatten_to_what_a_plain_array_says() {
        let seed: u64 =
            std::env::var("HOLDFAST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
        eprintln!("HOLDFAST_SEED={seed}");
        use rand::{RngExt, SeedableRng};
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        for _ in 0..200 {
            let mut model: Vec<Option<(u32, u32, u64)>> = Vec::new();
            let mut layers: Vec<Layer> = Vec::new();
            let mut fps: Vec<Vec<u64>> = Vec::new();
            let mut blocks = 0u32;
            for gen_no in 0..rng.random_range(1..12u32) {
                let new_blocks = rng.random_range(0..200u32);
                // Blocks beyond the old end are always in the new layer, as a backup does it.
                let mut layer = Layer::default();
                let mut f = Vec::new();
                model.truncate(new_blocks as usize);
                model.resize(new_blocks as usize, None);
                for b in 0..new_blocks {
                    if b >= blocks || rng.random_bool(0.1) {
                        let zero = rng.random_bool(0.2);
                        let fp: u64 = rng.random();
                        f.push(fp);
                        if zero {
                            layer.runs.push(Run { start: b, count: 1, frame: None, at: 0 });
                            model[b as usize] = Some((u32::MAX, 0, fp));
                        } else {
                            if layer.frames.is_empty() || rng.random_bool(0.1) {
                                layer.frames.push(loc(gen_no % 4, layer.frames.len() as u32));
                            }
                            let at = rng.random_range(0..31u32) * 8192;
                            let fi = layer.frames.len() as u32 - 1;
                            layer.runs.push(Run { start: b, count: 1, frame: Some(fi), at });
                            model[b as usize] = Some((layer.frames[fi as usize].pack * 1000 + fi, at, fp));
                        }
                    }
                }
                // Cut older layers the way a restore does: by the file's length.
                blocks = new_blocks;
                layer.normalize(8192);
                round_trip(&layer);
                let counts: Vec<u64> = layers.iter().map(Layer::blocks).collect();
                let keep = match merge_plan(&counts, layer.blocks()) {
                    MergePlan::Add => layers.len(),
                    MergePlan::Upper => 1,
                    MergePlan::All => 0,
                };
                layers.push(layer);
                fps.push(f);
                if keep + 1 < layers.len() {
                    let l: Vec<&Layer> = layers[keep..].iter().collect();
                    let p: Vec<&[u64]> = fps[keep..].iter().map(Vec::as_slice).collect();
                    let (m, f) = flatten(&l, &p, blocks, 8192);
                    layers.truncate(keep);
                    fps.truncate(keep);
                    layers.push(m);
                    fps.push(f);
                }
                assert!(layers.len() <= MAX_LAYERS + 1);
                let l: Vec<&Layer> = layers.iter().collect();
                let p: Vec<&[u64]> = fps.iter().map(Vec::as_slice).collect();
                let (flat, flat_fps) = flatten(&l, &p, blocks, 8192);
                let mut got = vec![None; blocks as usize];
                let mut i = 0;
                for r in &flat.runs {
                    for k in 0..r.count {
                        let v = match r.frame {
                            None => (u32::MAX, 0, flat_fps[i]),
                            Some(f) => {
                                let loc = flat.frames[f as usize];
                                (loc.pack * 1000 + loc.index, r.at + k * 8192, flat_fps[i])
                            }
                        };
                        got[(r.start + k) as usize] = Some(v);
                        i += 1;
                    }
                }
                assert_eq!(got, model);
            }
        }
    }
}
