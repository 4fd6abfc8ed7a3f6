//! Puts the pieces together: files become maps, maps become leaves, leaves become the root.
//!
//! One thread, fed by producer and workers. A file's map and fingerprints go to the meta pack as soon
//! as the file is complete, so memory holds only files that are being read; a leaf keeps references.
//!
//! Invariants: a file is complete when all its tasks reported and every block that they announced has
//! arrived (a frame is sealed later than the task that filled it); a leaf when all its files are.

mod grow;

use super::plan::ParentFile;
use super::source::{Begin, ParentRefs, SMALL_FILE_BLOCKS, Slot, live_of};
use super::worker::{Found, Piece, Watched};
use crate::error::{EngineError, Result};
use crossbeam_channel::{Receiver, select};
use holdfast_core::RunId;
use holdfast_core::policy::Compression;
use holdfast_vault::codec::Compressor;
use holdfast_vault::manifest::{Entry, Group, LayerRef, Leaf, LeafRef, Live, PackUse, Root, flags};
use holdfast_vault::map::{Layer, LocalPacks, MergePlan, Run, encode_layer, flatten, merge_plan};
use holdfast_vault::pack::{FrameLoc, PackInfo, PackTable, PackWriter};
use holdfast_vault::point::DamagedPage;
use holdfast_vault::reader::PackSet;
use holdfast_vault::{ClusterVault, PackClass, PackId, VaultError};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

const MAP_CHUNK: usize = 256 << 10;
const FPS_CHUNK: usize = 1 << 20;

/// What a copy produced.
#[derive(Debug)]
pub struct Copied {
    pub root: FrameLoc,
    pub root_pack: u32,
    /// Every pack of this run, data and meta.
    pub packs: Vec<PackInfo>,
    pub size_bytes: u64,
    pub files: u64,
    pub changed_bytes: u64,
    pub damaged: Vec<DamagedPage>,
    pub torn_files: u64,
    pub watched: Watched,
    /// Of `changed_bytes`, what did not change and was stored anew.
    pub rewritten_bytes: u64,
}

struct SlotState {
    entry: Entry,
    tasks_left: u32,
    expected: u64,
    arrived: u64,
    frames: Vec<FrameLoc>,
    /// (run, its fingerprints)
    runs: Vec<(Run, Vec<u64>)>,
    parent: Option<(Arc<ParentFile>, ParentRefs)>,
    done: bool,
    gone: bool,
    /// Of a file in a leaf that grows: what it uses, its newest layer if that is written with its
    /// neighbours', and whether its entry is the parent's.
    live: HashMap<u32, Live>,
    held: Option<(Layer, Vec<u64>)>,
    same: bool,
}

impl SlotState {
    fn new(entry: Entry, tasks_left: u32) -> Self {
        SlotState {
            entry,
            tasks_left,
            expected: 0,
            arrived: 0,
            frames: Vec::new(),
            runs: Vec::new(),
            parent: None,
            done: tasks_left == 0,
            gone: false,
            live: HashMap::new(),
            held: None,
            same: false,
        }
    }
}

struct OpenLeaf {
    group: Vec<u8>,
    slots: Vec<SlotState>,
    waiting: usize,
    chunks: Vec<FrameLoc>,
    chunk_ids: HashMap<FrameLoc, u32>,
    map_local: LocalPacks,
    map_body: Vec<u8>,
    fps: Vec<u8>,
    /// Layers whose chunks are still open: (slot, layer).
    open_maps: Vec<(usize, usize)>,
    open_fps: Vec<(usize, usize)>,
    live: HashMap<u32, Live>,
    gather: bool,
    grow: Option<grow::Growing>,
}

impl OpenLeaf {
    fn new(group: Vec<u8>, gather: bool) -> Self {
        OpenLeaf {
            group,
            slots: Vec::new(),
            waiting: 0,
            chunks: Vec::new(),
            chunk_ids: HashMap::new(),
            map_local: LocalPacks::default(),
            map_body: Vec::new(),
            fps: Vec::new(),
            open_maps: Vec::new(),
            open_fps: Vec::new(),
            live: HashMap::new(),
            gather,
            grow: None,
        }
    }
}

/// Writes meta packs of one run, one after another.
struct MetaWriter {
    cluster: ClusterVault,
    run: RunId,
    set: PackSet,
    rt: tokio::runtime::Handle,
    pack: Option<(PackWriter, u32)>,
    next: u32,
    pack_size: u64,
    compressor: Compressor,
    done: Vec<PackInfo>,
}

impl MetaWriter {
    fn frame(&mut self, plain: &[u8]) -> Result<FrameLoc> {
        if self.pack.as_ref().is_some_and(|(p, _)| p.len() >= self.pack_size) {
            self.close()?;
        }
        let (mut pack, handle) = match self.pack.take() {
            Some(p) => p,
            None => {
                let id = PackId { run: self.run.clone(), class: PackClass::Meta, number: self.next };
                self.next += 1;
                let handle = self.set.intern(&id);
                (self.cluster.pack_writer(id, handle, &self.rt)?, handle)
            }
        };
        let loc = pack.frame(plain, &mut self.compressor);
        self.pack = Some((pack, handle));
        Ok(loc?)
    }

    fn close(&mut self) -> Result<()> {
        if let Some((pack, _)) = self.pack.take() {
            let (info, sink) = pack.finish()?;
            sink.finish()?;
            self.done.push(info);
        }
        Ok(())
    }

    fn number(&self, handle: u32) -> u32 {
        self.set.id(handle).map(|id| id.number).unwrap_or_default()
    }
}

/// The collecting thread's state.
pub struct Collector {
    meta: MetaWriter,
    block_size: u32,
    leaves: HashMap<u32, OpenLeaf>,
    groups: BTreeMap<Vec<u8>, Vec<LeafRef>>,
    packs: Vec<PackInfo>,
    /// Length and digest of the parent's packs.
    known: HashMap<PackId, (u64, [u8; 32])>,
    size_bytes: u64,
    files: u64,
    changed_bytes: u64,
    torn_files: u64,
    damaged: Vec<DamagedPage>,
    watched: Watched,
    rewritten_bytes: u64,
    /// Bytes of layers that wait for their neighbours.
    held_bytes: usize,
    parts: u32,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("files", &self.files).finish_non_exhaustive()
    }
}

fn lost(what: &str) -> EngineError {
    EngineError::Worker(format!("the collector lost track: {what}"))
}

impl Collector {
    pub fn new(
        cluster: ClusterVault,
        run: RunId,
        set: PackSet,
        rt: tokio::runtime::Handle,
        (block_size, pack_size): (u32, u64),
        known: HashMap<PackId, (u64, [u8; 32])>,
    ) -> Result<Self> {
        let compressor = Compressor::new(Compression::Zstd { level: 3 })
            .map_err(|e| EngineError::Worker(e.to_string()))?;
        Ok(Collector {
            meta: MetaWriter {
                cluster,
                run,
                set,
                rt,
                pack: None,
                next: 1,
                pack_size,
                compressor,
                done: Vec::new(),
            },
            block_size,
            leaves: HashMap::new(),
            groups: BTreeMap::new(),
            packs: Vec::new(),
            known,
            size_bytes: 0,
            files: 0,
            changed_bytes: 0,
            torn_files: 0,
            damaged: Vec::new(),
            watched: Watched::default(),
            rewritten_bytes: 0,
            held_bytes: 0,
            parts: 0,
        })
    }

    /// Runs until the producer said `End` and all workers are gone.
    pub fn run(mut self, begin: Receiver<Begin>, found: Receiver<Found>) -> Result<Copied> {
        let mut ended = false;
        let (mut begin_open, mut found_open) = (true, true);
        while begin_open || found_open {
            // A leaf must be known before what belongs to it: the producer's channel goes first.
            while let Ok(b) = begin.try_recv() {
                ended |= matches!(b, Begin::End);
                self.begin(b)?;
            }
            if begin_open && found_open {
                select! {
                    recv(begin) -> m => match m {
                        Ok(b) => { ended |= matches!(b, Begin::End); self.begin(b)? }
                        Err(_) => begin_open = false,
                    },
                    recv(found) -> m => match m {
                        Ok(f) => { self.drain(&begin, &mut ended)?; self.found(f)? }
                        Err(_) => found_open = false,
                    },
                }
            } else if begin_open {
                match begin.recv() {
                    Ok(b) => {
                        ended |= matches!(b, Begin::End);
                        self.begin(b)?;
                    }
                    Err(_) => begin_open = false,
                }
            } else {
                match found.recv() {
                    Ok(f) => self.found(f)?,
                    Err(_) => found_open = false,
                }
            }
        }
        if !ended {
            return Err(EngineError::Cancelled);
        }
        if !self.leaves.is_empty() {
            return Err(lost("files are incomplete"));
        }
        self.finish()
    }

    fn drain(&mut self, begin: &Receiver<Begin>, ended: &mut bool) -> Result<()> {
        while let Ok(b) = begin.try_recv() {
            *ended |= matches!(b, Begin::End);
            self.begin(b)?;
        }
        Ok(())
    }

    fn begin(&mut self, b: Begin) -> Result<()> {
        match b {
            Begin::End => Ok(()),
            Begin::Same { group, leaf } => {
                self.files += u64::from(leaf.files);
                self.size_bytes += leaf.bytes;
                self.groups.entry(group).or_default().push(leaf);
                Ok(())
            }
            Begin::Parent { leaf, slot, file, refs } => {
                let s = self.slot(leaf, slot)?;
                s.parent = Some((file, refs));
                Ok(())
            }
            Begin::Leaf { id, group, slots, gather } => self.open_leaf(id, group, slots, gather),
            Begin::Grow { id, group } => self.grow(id, group),
            Begin::Add { leaf, slot, same } => self.add(leaf, slot, same),
            Begin::Seal { leaf, cuts } => self.seal(leaf, cuts),
        }
    }

    fn open_leaf(&mut self, id: u32, group: Vec<u8>, slots: Vec<Slot>, gather: bool) -> Result<()> {
        let mut leaf = OpenLeaf::new(group, gather);
        let mut gathered = Vec::new();
        for s in slots {
            let (entry, tasks_left) = match s {
                Slot::Plain(e) => (e, 0),
                Slot::Reuse { mut entry, chunks, live } => {
                    leaf.adopt(&mut entry, &chunks)?;
                    for (p, l) in live {
                        leaf.add_live(p, l);
                    }
                    (entry, 0)
                }
                Slot::Gather { mut entry, layer, fps } => {
                    for (p, l) in live_of(&layer, entry.size, self.block_size) {
                        leaf.add_live(p, l);
                    }
                    entry.layers.clear();
                    gathered.push((leaf.slots.len(), layer, fps));
                    (entry, 0)
                }
                Slot::Read { entry, tasks } => (entry, tasks),
            };
            leaf.waiting += usize::from(tasks_left > 0);
            leaf.slots.push(SlotState::new(entry, tasks_left));
        }
        let empty = leaf.waiting == 0;
        self.leaves.insert(id, leaf);
        for (slot, layer, fps) in gathered {
            let mut entry = self.slot(id, slot as u32)?.entry.clone();
            if layer.blocks() != entry.blocks(self.block_size) {
                return Err(lost("blocks of a file are missing"));
            }
            self.put_layer(id, slot, &mut entry, &layer, &fps)?;
            self.slot(id, slot as u32)?.entry = entry;
        }
        if empty { self.close_leaf(id) } else { Ok(()) }
    }

    fn slot(&mut self, leaf: u32, slot: u32) -> Result<&mut SlotState> {
        self.leaves
            .get_mut(&leaf)
            .and_then(|l| l.slots.get_mut(slot as usize))
            .ok_or_else(|| lost("a leaf is unknown"))
    }

    fn found(&mut self, f: Found) -> Result<()> {
        match f {
            Found::PackDone(info) => {
                self.packs.push(info);
                Ok(())
            }
            Found::Frame { loc, pieces } => {
                for p in pieces {
                    self.piece(Some(loc), p)?;
                }
                Ok(())
            }
            Found::Zeros { leaf, slot, start, count, fp } => {
                let fps = vec![fp; count as usize];
                self.piece(None, Piece { leaf, slot, start, count, at: 0, fps })
            }
            Found::Done { leaf, slot, changed, end, torn, unsettled, damaged, watched, rewritten } => {
                self.rewritten_bytes += rewritten * u64::from(self.block_size);
                self.watched.blocks += watched.blocks;
                self.watched.excused += watched.excused;
                self.watched.missed += watched.missed;
                let path = {
                    let s = self.slot(leaf, slot)?;
                    s.tasks_left = s.tasks_left.saturating_sub(1);
                    s.expected += u64::from(changed);
                    if let Some(end) = end {
                        s.entry.size = s.entry.size.min(end);
                        s.entry.flags |= flags::UNSETTLED;
                    }
                    if torn {
                        s.entry.flags |= flags::TORN;
                    }
                    if unsettled {
                        s.entry.flags |= flags::UNSETTLED;
                    }
                    if !damaged.is_empty() {
                        s.entry.flags |= flags::DAMAGED;
                        s.entry.damaged.extend(damaged.iter().map(|(b, _)| *b));
                    }
                    String::from_utf8_lossy(&s.entry.path).into_owned()
                };
                for (block, what) in damaged {
                    self.damaged.push(DamagedPage { path: path.clone(), block, what });
                }
                self.maybe_complete(leaf, slot)
            }
            Found::Gone { leaf, slot } => {
                let s = self.slot(leaf, slot)?;
                s.tasks_left = s.tasks_left.saturating_sub(1);
                s.gone = true;
                self.maybe_complete(leaf, slot)
            }
        }
    }

    fn piece(&mut self, loc: Option<FrameLoc>, p: Piece) -> Result<()> {
        let s = self.slot(p.leaf, p.slot)?;
        s.arrived += u64::from(p.count);
        let frame = loc.map(|loc| match s.frames.iter().rposition(|f| *f == loc) {
            // The newest frames are the likely ones.
            Some(i) => i as u32,
            None => {
                s.frames.push(loc);
                s.frames.len() as u32 - 1
            }
        });
        s.runs.push((Run { start: p.start, count: p.count, frame, at: p.at }, p.fps));
        self.maybe_complete(p.leaf, p.slot)
    }

    fn maybe_complete(&mut self, leaf: u32, slot: u32) -> Result<()> {
        let s = self.slot(leaf, slot)?;
        if s.done || s.tasks_left > 0 || s.arrived < s.expected {
            return Ok(());
        }
        s.done = true;
        self.complete(leaf, slot as usize)?;
        let l = self.leaves.get_mut(&leaf).ok_or_else(|| lost("a leaf is unknown"))?;
        l.waiting -= 1;
        if l.waiting == 0 { self.close(leaf) } else { Ok(()) }
    }

    /// A file is complete: encode its map.
    fn complete(&mut self, leaf_id: u32, slot: usize) -> Result<()> {
        let bs = self.block_size;
        let leaf = self.leaves.get_mut(&leaf_id).ok_or_else(|| lost("a leaf is unknown"))?;
        let s = leaf.slots.get_mut(slot).ok_or_else(|| lost("a file is unknown"))?;
        let frames = std::mem::take(&mut s.frames);
        let mut runs = std::mem::take(&mut s.runs);
        let parent = s.parent.take();
        if s.gone {
            return Ok(());
        }
        let blocks = s.entry.blocks(bs) as u32;
        runs.sort_by_key(|(r, _)| r.start);
        // What lies behind a truncation that somebody saw is not part of the file.
        let mut layer = Layer { frames, runs: Vec::with_capacity(runs.len()) };
        let mut fps = Vec::new();
        for (mut r, mut f) in runs {
            if r.start >= blocks {
                continue;
            }
            r.count = r.count.min(blocks - r.start);
            f.truncate(r.count as usize);
            layer.runs.push(r);
            fps.extend(f);
        }
        layer.normalize(bs);
        let changed = layer.blocks();
        self.changed_bytes += changed * u64::from(bs);
        if s.entry.flags & flags::TORN != 0 {
            self.torn_files += 1;
        }
        let mut entry = s.entry.clone();
        let live;
        let is_parents = |p: &Entry| Entry { layers: p.layers.clone(), ..entry.clone() } == *p;
        let same = changed == 0 && parent.as_ref().is_some_and(|(_, refs)| is_parents(&refs.entry));
        match parent {
            None => {
                live = live_of(&layer, entry.size, bs);
                entry.layers = Vec::new();
                self.put_layer(leaf_id, slot, &mut entry, &layer, &fps)?;
            }
            Some((file, refs)) => {
                let mut all: Vec<&Layer> = file.layers.iter().collect();
                let mut all_fps: Vec<&[u64]> = file.layer_fps.iter().map(Vec::as_slice).collect();
                let counts: Vec<u64> = file.layers.iter().map(Layer::blocks).collect();
                let gather = leaf.gather && u64::from(blocks) <= SMALL_FILE_BLOCKS;
                if !gather {
                    entry.layers = refs.entry.layers.clone();
                    leaf.adopt(&mut entry, &refs.chunks)?;
                }
                if changed > 0 {
                    all.push(&layer);
                    all_fps.push(&fps);
                }
                let (flat, flat_fps) = flatten(&all, &all_fps, blocks, bs);
                if flat.blocks() != u64::from(blocks) {
                    return Err(lost("blocks of a file are missing"));
                }
                live = live_of(&flat, entry.size, bs);
                let plan = match changed {
                    _ if gather => Some(MergePlan::All),
                    0 => None,
                    _ => Some(merge_plan(&counts, changed)),
                };
                match plan {
                    None => {}
                    Some(MergePlan::Add) => self.put_layer(leaf_id, slot, &mut entry, &layer, &fps)?,
                    Some(MergePlan::Upper) => {
                        let upper = all.get(1..).unwrap_or(&[]);
                        let upper_fps = all_fps.get(1..).unwrap_or(&[]);
                        let (m, f) = flatten(upper, upper_fps, blocks, bs);
                        entry.layers.truncate(1);
                        self.put_layer(leaf_id, slot, &mut entry, &m, &f)?;
                    }
                    Some(MergePlan::All) => {
                        entry.layers.clear();
                        self.put_layer(leaf_id, slot, &mut entry, &flat, &flat_fps)?;
                    }
                }
            }
        }
        let leaf = self.leaves.get_mut(&leaf_id).ok_or_else(|| lost("a leaf is unknown"))?;
        if leaf.grow.is_none() {
            for (p, l) in &live {
                leaf.add_live(*p, *l);
            }
        }
        if let Some(s) = leaf.slots.get_mut(slot) {
            s.entry = entry;
            if leaf.grow.is_some() {
                (s.live, s.same) = (live, same);
            }
        }
        Ok(())
    }

    /// Appends a layer to the leaf's open chunks; closes them when they are full.
    fn put_layer(
        &mut self,
        leaf_id: u32,
        slot: usize,
        entry: &mut Entry,
        layer: &Layer,
        fps: &[u64],
    ) -> Result<()> {
        let bs = self.block_size;
        if self.hold(leaf_id, slot, layer, fps)? {
            return Ok(());
        }
        let leaf = self.leaves.get_mut(&leaf_id).ok_or_else(|| lost("a leaf is unknown"))?;
        if leaf.map_body.len() >= MAP_CHUNK {
            leaf.close_map(&mut self.meta)?;
        }
        if leaf.fps.len() >= FPS_CHUNK {
            leaf.close_fps(&mut self.meta)?;
        }
        let (map_at, fps_at) = (leaf.map_body.len(), leaf.fps.len());
        encode_layer(layer, bs, &mut leaf.map_local, &mut leaf.map_body);
        for f in fps {
            leaf.fps.extend_from_slice(&f.to_le_bytes());
        }
        leaf.open_maps.push((slot, entry.layers.len()));
        leaf.open_fps.push((slot, entry.layers.len()));
        entry.layers.push(LayerRef {
            map: u32::MAX,
            map_at: map_at as u32,
            map_len: (leaf.map_body.len() - map_at) as u32,
            fps: u32::MAX,
            fps_at: fps_at as u32,
            blocks: layer.blocks() as u32,
        });
        Ok(())
    }

    fn close_leaf(&mut self, id: u32) -> Result<()> {
        let mut leaf = self.leaves.remove(&id).ok_or_else(|| lost("a leaf is unknown"))?;
        leaf.close_map(&mut self.meta)?;
        leaf.close_fps(&mut self.meta)?;
        let OpenLeaf { group, slots, chunks, live, .. } = leaf;
        let entries: Vec<Entry> = slots.into_iter().filter(|s| !s.gone).map(|s| s.entry).collect();
        let Some(first) = entries.first().map(|e| e.path.clone()) else { return Ok(()) };
        let files = entries.len() as u32;
        let bytes = entries.iter().map(|e| e.size).sum();
        let l = Leaf { chunks, entries };
        let plain = self.meta.set.with_table(|t: &mut PackTable| l.encode(t));
        let chunk = self.meta.frame(&plain)?;
        let mut meta: BTreeSet<u32> = l.chunks.iter().map(|c| c.pack).collect();
        meta.insert(chunk.pack);
        let mut live: Vec<(u32, Live)> = live.into_iter().collect();
        live.sort_by_key(|(p, _)| *p);
        self.files += u64::from(files);
        self.size_bytes += bytes;
        self.groups.entry(group).or_default().push(LeafRef {
            chunk,
            first,
            files,
            bytes,
            live,
            meta: meta.into_iter().collect(),
        });
        Ok(())
    }

    /// Writes the root and closes the last meta pack.
    fn finish(mut self) -> Result<Copied> {
        let mut root = Root::default();
        let mut live: BTreeMap<u32, Live> = BTreeMap::new();
        for (name, mut leaves) in std::mem::take(&mut self.groups) {
            leaves.sort_by(|a, b| a.first.cmp(&b.first));
            for l in &leaves {
                for (p, v) in &l.live {
                    let t = live.entry(*p).or_default();
                    t.bytes += v.bytes;
                    t.blocks += v.blocks;
                }
                for p in &l.meta {
                    live.entry(*p).or_default();
                }
            }
            root.groups.push(Group { name, leaves });
        }
        for info in self.packs.iter().chain(&self.meta.done) {
            self.known.insert(info.id.clone(), (info.len, info.digest));
        }
        // The pack that will hold the root is not in its own table.
        let own = self.meta.pack.as_ref().map(|(_, h)| *h);
        for (pack, live) in live {
            if Some(pack) == own {
                continue;
            }
            let id = self.meta.set.id(pack).ok_or_else(|| lost("a pack is unknown"))?;
            let (len, digest) = *self.known.get(&id).ok_or_else(|| lost("a pack was not finished"))?;
            root.packs.push(PackUse { pack, len, digest, live });
        }
        let plain = self.meta.set.with_table(|t| root.encode(t));
        let before = self.meta.done.len();
        // Rolling over here would put the root into a pack that its table does not expect.
        self.meta.pack_size = u64::MAX;
        let loc = self.meta.frame(&plain)?;
        debug_assert_eq!(before, self.meta.done.len());
        let root_pack = self.meta.number(loc.pack);
        self.meta.close()?;
        let mut packs = self.packs;
        packs.extend(self.meta.done);
        Ok(Copied {
            root: loc,
            root_pack,
            packs,
            size_bytes: self.size_bytes,
            files: self.files,
            changed_bytes: self.changed_bytes.saturating_sub(self.rewritten_bytes),
            damaged: self.damaged,
            torn_files: self.torn_files,
            watched: self.watched,
            rewritten_bytes: self.rewritten_bytes,
        })
    }
}

impl OpenLeaf {
    fn add_live(&mut self, pack: u32, l: Live) {
        let t = self.live.entry(pack).or_default();
        t.bytes += l.bytes;
        t.blocks += l.blocks;
    }

    fn chunk(&mut self, loc: FrameLoc) -> u32 {
        *self.chunk_ids.entry(loc).or_insert_with(|| {
            self.chunks.push(loc);
            self.chunks.len() as u32 - 1
        })
    }

    /// Takes over layers that another leaf names: their chunks get numbers here.
    fn adopt(&mut self, entry: &mut Entry, chunks: &[FrameLoc]) -> Result<()> {
        for i in 0..entry.layers.len() {
            let l = entry.layers[i];
            let get = |n: u32| chunks.get(n as usize).copied().ok_or_else(|| lost("a chunk is unknown"));
            let (map, fps) = (get(l.map)?, get(l.fps)?);
            let (map, fps) = (self.chunk(map), self.chunk(fps));
            entry.layers[i] = LayerRef { map, fps, ..l };
        }
        Ok(())
    }

    fn close_map(&mut self, meta: &mut MetaWriter) -> Result<()> {
        if self.open_maps.is_empty() {
            return Ok(());
        }
        let mut plain = Vec::with_capacity(self.map_body.len() + 256);
        let local = std::mem::take(&mut self.map_local);
        meta.set.with_table(|t| local.encode(t, &mut plain));
        plain.extend_from_slice(&self.map_body);
        self.map_body.clear();
        let id = self.chunk(meta.frame(&plain)?);
        for (slot, layer) in std::mem::take(&mut self.open_maps) {
            if let Some(l) = self.slots.get_mut(slot).and_then(|s| s.entry.layers.get_mut(layer)) {
                l.map = id;
            }
        }
        Ok(())
    }

    fn close_fps(&mut self, meta: &mut MetaWriter) -> Result<()> {
        if self.open_fps.is_empty() {
            return Ok(());
        }
        let plain = std::mem::take(&mut self.fps);
        let id = self.chunk(meta.frame(&plain)?);
        for (slot, layer) in std::mem::take(&mut self.open_fps) {
            if let Some(l) = self.slots.get_mut(slot).and_then(|s| s.entry.layers.get_mut(layer)) {
                l.fps = id;
            }
        }
        Ok(())
    }
}

/// Packs of the parent by id, from its record and its root.
pub fn known_packs(
    parent: &holdfast_vault::point::Point,
    root: &Root,
    set: &PackSet,
) -> Result<HashMap<PackId, (u64, [u8; 32])>> {
    let mut known = HashMap::new();
    for p in &root.packs {
        if let Some(id) = set.id(p.pack) {
            known.insert(id, (p.len, p.digest));
        }
    }
    for p in &parent.packs {
        let class = if p.class == "meta" { PackClass::Meta } else { PackClass::Data };
        let id = PackId { run: parent.id.clone(), class, number: p.number };
        let digest = holdfast_vault::vault::unhex32(&p.digest).ok_or_else(|| {
            EngineError::from(VaultError::Damaged {
                name: set.cluster().path().point(&parent.id),
                what: "a pack digest is malformed".into(),
            })
        })?;
        known.insert(id, (p.len, digest));
    }
    Ok(known)
}
