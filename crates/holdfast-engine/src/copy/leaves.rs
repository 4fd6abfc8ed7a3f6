//! Turns the manifest of a source point into work: leaves for the collector, reads for the workers.
//!
//! The cuts are the source's: one leaf of it becomes one leaf of the copy. With a parent in the target, a
//! leaf in which nothing differs is named again and costs nothing, a file in which no block differs keeps
//! its layers, and of any other only the blocks whose fingerprint differs are fetched. That needs
//! fingerprints under one digest secret; where the two vaults have different ones (each heard of the
//! cluster by itself), every block is fetched and compared under the target's, and still nothing is stored
//! that the target has.
//!
//! Memory: maps are loaded file by file, and reads handed out once [`BATCH_FRAMES`] frames or
//! [`BATCH_BLOCKS`] fingerprints wait.

use super::worker::{CopyFile, ReadJob, Shared, Want, in_vault};
use crate::backup::plan::ParentFile;
use crate::backup::source::{Begin, ParentRefs, Slot, live_of};
use crate::backup::worker::Found;
use crate::error::{EngineError, Result};
use crossbeam_channel::Sender;
use holdfast_vault::VaultError;
use holdfast_vault::manifest::{Entry, EntryKind, Leaf, LeafRef};
use holdfast_vault::map::{Layer, flatten};
use holdfast_vault::pack::FrameLoc;
use holdfast_vault::reader::{ChunkCache, PointReader};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Frames that wait to be sorted by place, at most.
const BATCH_FRAMES: usize = 16_384;
/// Blocks of files whose fingerprints are held meanwhile: 64 MiB of them.
const BATCH_BLOCKS: u64 = 8 << 20;
/// One read fetches at most this much, and bridges gaps up to this.
const READ_BYTES: u64 = 4 << 20;
const GAP_BYTES: u64 = 64 << 10;

fn gone() -> EngineError {
    EngineError::Cancelled
}

/// A file laid flat: one layer with every block, and their fingerprints.
struct Flat {
    layer: Layer,
    fps: Vec<u64>,
}

/// What is to be done for an entry.
enum Verdict<'t> {
    Plain,
    /// The target has all of it, in this leaf.
    Same(&'t Leaf, &'t Entry),
    /// Some or all blocks are to be fetched; this is what the target has.
    Fetch(Option<(&'t Leaf, &'t Entry)>),
}

/// The producer's side of a copy.
pub struct Planner<'a> {
    shared: &'a Shared,
    source: PointReader,
    parent: Option<PointReader>,
    begin: Sender<Begin>,
    found: Sender<Found>,
    jobs: Sender<ReadJob>,
    theirs: ChunkCache,
    ours: ChunkCache,
    frames: HashMap<FrameLoc, Vec<Want>>,
    held_blocks: u64,
    next_leaf: u32,
}

impl std::fmt::Debug for Planner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planner").field("next_leaf", &self.next_leaf).finish_non_exhaustive()
    }
}

impl<'a> Planner<'a> {
    pub fn new(
        shared: &'a Shared,
        source: PointReader,
        parent: Option<PointReader>,
        begin: Sender<Begin>,
        found: Sender<Found>,
        jobs: Sender<ReadJob>,
    ) -> Self {
        Planner {
            shared,
            source,
            parent,
            begin,
            found,
            jobs,
            theirs: ChunkCache::default(),
            ours: ChunkCache::default(),
            frames: HashMap::new(),
            held_blocks: 0,
            next_leaf: 0,
        }
    }

    /// Goes through every leaf; returns when all work is handed out.
    pub fn run(mut self) -> Result<()> {
        let result = self.all();
        if result.is_err() {
            self.shared.stop.store(true, Ordering::Relaxed);
        }
        result
    }

    fn all(&mut self) -> Result<()> {
        let groups = self.source.root().groups.clone();
        for g in groups {
            let old: Vec<LeafRef> = self
                .parent
                .iter()
                .flat_map(|p| &p.root().groups)
                .filter(|o| o.name == g.name)
                .flat_map(|o| o.leaves.clone())
                .collect();
            // The target's leaves that reach into the source's one: usually one, with the same cuts.
            let mut window: VecDeque<(usize, Leaf)> = VecDeque::new();
            for leaf_ref in &g.leaves {
                let leaf = self.shared.rt.block_on(self.source.leaf(leaf_ref));
                let leaf = leaf.map_err(|e| in_vault(&self.shared.source_name, e))?;
                let last = leaf.entries.last().map(|e| e.path.clone()).unwrap_or_default();
                let end_of = |i: usize| old.get(i + 1).map(|l: &LeafRef| l.first.as_slice());
                while window
                    .front()
                    .is_some_and(|(i, _)| end_of(*i).is_some_and(|e| e <= &leaf_ref.first[..]))
                {
                    window.pop_front();
                }
                for (i, o) in old.iter().enumerate() {
                    let before = end_of(i).is_some_and(|e| e <= &leaf_ref.first[..]);
                    let loaded = window.iter().any(|(w, _)| *w == i);
                    if !before
                        && !loaded
                        && o.first <= last
                        && let Some(p) = &self.parent
                    {
                        window.push_back((i, self.shared.rt.block_on(p.leaf(o))?));
                    }
                }
                let same = match window.make_contiguous() {
                    [(i, _)] => old.get(*i).cloned(),
                    _ => None,
                };
                let there: Vec<&Leaf> = window.iter().map(|(_, l)| l).collect();
                self.leaf(&g.name, &leaf, &there, same)?;
                if self.frames.len() >= BATCH_FRAMES || self.held_blocks >= BATCH_BLOCKS {
                    self.hand_out()?;
                }
            }
        }
        self.hand_out()?;
        self.begin.send(Begin::End).map_err(|_| gone())
    }

    fn leaf(&mut self, group: &[u8], leaf: &Leaf, there: &[&Leaf], one: Option<LeafRef>) -> Result<()> {
        let mut by_path: HashMap<&[u8], (&Leaf, &Entry)> = HashMap::new();
        for l in there {
            by_path.extend(l.entries.iter().map(|e| (e.path.as_slice(), (*l, e))));
        }
        let (mut verdicts, mut equal) = (Vec::with_capacity(leaf.entries.len()), true);
        for e in &leaf.entries {
            if self.shared.stop.load(Ordering::Relaxed) || self.shared.monitor.cancelled() {
                return Err(gone());
            }
            let old = by_path.get(e.path.as_slice()).copied();
            equal &= old.is_some_and(|(_, o)| same_facts(e, o));
            let verdict = self.judge(leaf, e, old)?;
            equal &= !matches!(verdict, Verdict::Fetch(_));
            verdicts.push(verdict);
        }
        let count: usize = there.iter().map(|l| l.entries.len()).sum();
        if let Some(one) = one.filter(|_| equal && count == leaf.entries.len()) {
            return self.begin.send(Begin::Same { group: group.to_vec(), leaf: one }).map_err(|_| gone());
        }
        let id = self.next_leaf;
        self.next_leaf += 1;
        let mut slots = Vec::with_capacity(leaf.entries.len());
        let mut fetch = Vec::new();
        for (e, v) in leaf.entries.iter().zip(verdicts) {
            let entry = Entry { layers: Vec::new(), ..e.clone() };
            slots.push(match v {
                Verdict::Plain => Slot::Plain(entry),
                Verdict::Same(l, old) => {
                    let flat = self.flat_of_target(l, old, e.size, false)?;
                    let live = live_of(&flat.layer, e.size, self.shared.block_size);
                    let entry = Entry { layers: old.layers.clone(), ..entry };
                    Slot::Reuse { entry, chunks: l.chunks.clone(), live }
                }
                Verdict::Fetch(old) => {
                    fetch.push((slots.len() as u32, e, old));
                    Slot::Read { entry, tasks: 1 }
                }
            });
        }
        let begin = Begin::Leaf { id, group: group.to_vec(), slots, gather: false };
        self.begin.send(begin).map_err(|_| gone())?;
        for (slot, e, old) in fetch {
            self.fetch(id, slot, leaf, e, old)?;
            if self.frames.len() >= BATCH_FRAMES || self.held_blocks >= BATCH_BLOCKS {
                self.hand_out()?;
            }
        }
        Ok(())
    }

    /// Whether the target has the content of an entry.
    fn judge<'t>(
        &mut self,
        leaf: &Leaf,
        e: &Entry,
        old: Option<(&'t Leaf, &'t Entry)>,
    ) -> Result<Verdict<'t>> {
        if e.kind != EntryKind::File || e.size == 0 {
            return Ok(Verdict::Plain);
        }
        let Some((l, o)) = old.filter(|(_, o)| o.kind == EntryKind::File && o.size > 0) else {
            return Ok(Verdict::Fetch(None));
        };
        // Without one secret nothing can be told before it is fetched; damaged blocks are always taken.
        if !self.shared.one_secret || e.size != o.size || e.damaged != o.damaged || !e.damaged.is_empty() {
            return Ok(Verdict::Fetch(old));
        }
        let theirs = self.flat_of_source(leaf, e)?;
        let ours = self.flat_of_target(l, o, e.size, true)?;
        if theirs.fps != ours.fps {
            return Ok(Verdict::Fetch(old));
        }
        self.shared.monitor.advance(e.size);
        Ok(Verdict::Same(l, o))
    }

    /// Queues what is to be fetched of one file.
    fn fetch(
        &mut self,
        leaf: u32,
        slot: u32,
        source: &Leaf,
        e: &Entry,
        old: Option<(&Leaf, &Entry)>,
    ) -> Result<()> {
        let bs = self.shared.block_size;
        let theirs = self.flat_of_source(source, e)?;
        let parent = match old {
            None => None,
            Some((l, o)) => {
                let file = Arc::new(self.parent_file(l, o)?);
                let refs = ParentRefs { entry: o.clone(), chunks: l.chunks.clone() };
                let message = Begin::Parent { leaf, slot, file: file.clone(), refs };
                self.begin.send(message).map_err(|_| gone())?;
                self.held_blocks += o.blocks(bs);
                Some(file)
            }
        };
        self.held_blocks += e.blocks(bs);
        let file = Arc::new(CopyFile {
            leaf,
            slot,
            name: String::from_utf8_lossy(&e.path).into_owned(),
            size: e.size,
            parent,
            // The planner's own part, until everything is queued.
            left: AtomicU32::new(1),
            changed: AtomicU32::new(0),
        });
        let len_of =
            |block: u32| e.size.saturating_sub(u64::from(block) * u64::from(bs)).min(bs.into()) as usize;
        let mut at = 0usize;
        for r in &theirs.layer.runs {
            let fps = theirs.fps.get(at..at + r.count as usize).ok_or_else(|| self.incomplete(e))?;
            at += r.count as usize;
            let frame = r.frame.and_then(|f| theirs.layer.frames.get(f as usize)).copied();
            let mut i = 0u32;
            while i < r.count {
                let Some(fp) = fps.get(i as usize).copied() else { break };
                let block = r.start + i;
                if self.target_has(&file, block, len_of(block), fp) {
                    self.shared.monitor.advance(len_of(block) as u64);
                    i += 1;
                    continue;
                }
                let mut n = 1;
                while i + n < r.count
                    && fps.get((i + n) as usize).is_some_and(|fp| {
                        !self.target_has(&file, r.start + i + n, len_of(r.start + i + n), *fp)
                    })
                {
                    n += 1;
                }
                match frame {
                    None => self.zeros(&file, block, n, &len_of)?,
                    Some(loc) => {
                        let some = fps.get(i as usize..(i + n) as usize).unwrap_or_default();
                        file.left.fetch_add(1, Ordering::AcqRel);
                        self.frames.entry(loc).or_default().push(Want {
                            file: file.clone(),
                            start: block,
                            at: r.at + i * bs,
                            fps: some.to_vec(),
                        });
                    }
                }
                i += n;
            }
        }
        file.done(&self.found)
    }

    /// Known to be in the target without looking at the block itself.
    fn target_has(&self, file: &CopyFile, block: u32, len: usize, fp: u64) -> bool {
        self.shared.one_secret && file.parent.as_ref().is_some_and(|p| p.is_same(block, len, fp))
    }

    /// Zeros are stored nowhere: nothing is fetched for them.
    fn zeros(
        &mut self,
        file: &CopyFile,
        start: u32,
        count: u32,
        len_of: &dyn Fn(u32) -> usize,
    ) -> Result<()> {
        let zero = vec![0u8; self.shared.block_size as usize];
        let (whole, mut same): (u64, Option<(u32, u32, u64)>) = (self.shared.ours.block(&zero), None);
        for block in start..start + count {
            let len = len_of(block);
            let fp = match zero.get(..len) {
                Some(short) if len < zero.len() => self.shared.ours.block(short),
                _ => whole,
            };
            self.shared.monitor.advance(len as u64);
            if file.parent.as_ref().is_some_and(|p| p.is_same(block, len, fp)) {
                continue;
            }
            file.changed.fetch_add(1, Ordering::AcqRel);
            match &mut same {
                Some((from, n, known)) if *from + *n == block && *known == fp => *n += 1,
                _ => {
                    self.send_zeros(file, same.take())?;
                    same = Some((block, 1, fp));
                }
            }
        }
        self.send_zeros(file, same)
    }

    fn send_zeros(&self, file: &CopyFile, zeros: Option<(u32, u32, u64)>) -> Result<()> {
        let Some((start, count, fp)) = zeros else { return Ok(()) };
        let found = Found::Zeros { leaf: file.leaf, slot: file.slot, start, count, fp };
        self.found.send(found).map_err(|_| gone())
    }

    fn flat_of_source(&mut self, leaf: &Leaf, e: &Entry) -> Result<Flat> {
        let read = self.source.entry_layers(leaf, e, true, &mut self.theirs);
        let (layers, fps) =
            self.shared.rt.block_on(read).map_err(|e| in_vault(&self.shared.source_name, e))?;
        let flat = lay_flat(&layers, &fps, e.blocks(self.shared.block_size) as u32, self.shared.block_size);
        if flat.layer.blocks() != e.blocks(self.shared.block_size) {
            return Err(self.incomplete(e));
        }
        Ok(flat)
    }

    /// Cut or filled to the blocks of a file of `size` bytes.
    fn flat_of_target(&mut self, leaf: &Leaf, e: &Entry, size: u64, want_fps: bool) -> Result<Flat> {
        let Some(p) = &self.parent else { return Err(gone()) };
        let read = p.entry_layers(leaf, e, want_fps, &mut self.ours);
        let (layers, fps) = self.shared.rt.block_on(read)?;
        let blocks = size.div_ceil(self.shared.block_size.into()) as u32;
        Ok(lay_flat(&layers, &fps, blocks, self.shared.block_size))
    }

    fn parent_file(&mut self, leaf: &Leaf, e: &Entry) -> Result<ParentFile> {
        let Some(p) = &self.parent else { return Err(gone()) };
        let read = p.entry_layers(leaf, e, true, &mut self.ours);
        let (layers, layer_fps) = self.shared.rt.block_on(read)?;
        let block_size = self.shared.block_size;
        let fps = lay_flat(&layers, &layer_fps, e.blocks(block_size) as u32, block_size).fps;
        Ok(ParentFile { size: e.size, block_size, layers, layer_fps, fps, damaged: e.damaged.clone() })
    }

    fn incomplete(&self, e: &Entry) -> EngineError {
        let name = self.source.packs().cluster().path().folder();
        let what = format!("the map of `{}` is incomplete", String::from_utf8_lossy(&e.path));
        in_vault(&self.shared.source_name, VaultError::Damaged { name, what }).into()
    }

    /// Sorts what waits by place, joins neighbours and hands it to the workers.
    fn hand_out(&mut self) -> Result<()> {
        self.held_blocks = 0;
        let mut all: Vec<(FrameLoc, Vec<Want>)> = self.frames.drain().collect();
        all.sort_by_key(|(f, _)| (f.pack, f.offset));
        let mut job: Option<ReadJob> = None;
        for (loc, mut wants) in all {
            // Blocks of a file stay together in the copy's frames, too.
            wants.sort_by_key(|w| (w.file.leaf, w.file.slot, w.start));
            if let Some(j) = &mut job
                && j.pack == loc.pack
                && loc.offset <= j.to + GAP_BYTES
                && loc.end() - j.from <= READ_BYTES
            {
                j.to = j.to.max(loc.end());
                j.frames.push((loc, wants));
                continue;
            }
            let next =
                ReadJob { pack: loc.pack, from: loc.offset, to: loc.end(), frames: vec![(loc, wants)] };
            if let Some(full) = job.replace(next) {
                self.jobs.send(full).map_err(|_| gone())?;
            }
        }
        match job {
            Some(j) => self.jobs.send(j).map_err(|_| gone()),
            None => Ok(()),
        }
    }
}

fn lay_flat(layers: &[Layer], fps: &[Vec<u64>], blocks: u32, block_size: u32) -> Flat {
    let l: Vec<&Layer> = layers.iter().collect();
    let f: Vec<&[u64]> = fps.iter().map(Vec::as_slice).collect();
    let (layer, fps) = flatten(&l, &f, blocks, block_size);
    Flat { layer, fps }
}

/// All that an entry says but for where its blocks lie.
fn same_facts(a: &Entry, b: &Entry) -> bool {
    Entry { layers: Vec::new(), ..a.clone() } == Entry { layers: Vec::new(), ..b.clone() }
}
