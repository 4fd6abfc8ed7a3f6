//! Walks the data directory and turns it into work: leaves for the collector, tasks for the workers.
//!
//! The walk's items are grouped by (tablespace, database) and cut into leaves. With a parent, the
//! cuts are the parent's, so that a leaf in which nothing changed is named again and costs nothing.
//!
//! A file is reused without reading only if size, mtime, ctime and inode equal the parent's, the
//! ctime is at least two seconds older than the parent's copy (a change in the same tick could hide),
//! the parent did not see it change, and the clock has not gone backwards since. Everything else is
//! read, and its blocks compared by fingerprint.
//!
//! With a window of the WAL (see [`super::window`]) relation files are judged by it instead, whatever their
//! times say: only the blocks that it names are read. A sample of the others may be read as well
//! ([`super::judge::Reread`]), to see that it names them all.
//!
//! Maps and fingerprints of the parent are loaded file by file as the workers get there: the channel
//! to them is short, so memory does not grow with the database.

use super::judge::{ParentTree, Verdict, per_task};
use super::plan::ParentFile;
use super::window::{union, zeros};
use super::worker::{FileJob, ReadTask};
use crate::error::{EngineError, Result};
use crossbeam_channel::Sender;
use holdfast_pg::datadir::{Item, ItemKind, walk};
use holdfast_pgformat::path::PathKind;
use holdfast_pgformat::relation::Fork;
use holdfast_vault::manifest::{Entry, EntryKind, Group, LEAF_FILES, Leaf, LeafRef, Live, flags};
use holdfast_vault::map::{Layer, flatten};
use holdfast_vault::pack::FrameLoc;
use holdfast_vault::reader::ChunkCache;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a large file per task; several workers share a file.
pub const TASK_BYTES: u64 = 8 << 20;
/// A leaf that is written anyway gathers the maps of its small files once they lie in more chunks than
/// this: every run that touched it left some, and each is a request for whoever reads the leaf (FORMAT §8:
/// an hourly backup of a million files came to 133 chunks a leaf after two weeks).
const SCATTERED_CHUNKS: usize = 8;
/// Files of more blocks keep their layers: writing those again would cost more than finding them.
pub const SMALL_FILE_BLOCKS: u64 = 1024;
/// Blocks between two runs that are read along: a system call costs as much as a few pages.
const GAP_BLOCKS: u32 = 2;
/// Small files are handed out together.
const BATCH_FILES: usize = 64;
const BATCH_BYTES: u64 = 4 << 20;

/// An entry of a new leaf, and what is to be done for it.
#[derive(Debug)]
pub enum Slot {
    /// Nothing to read: a directory, a link, an empty file.
    Plain(Entry),
    /// The parent's content: its layers are taken over, chunk by chunk.
    Reuse { entry: Entry, chunks: Vec<FrameLoc>, live: HashMap<u32, Live> },
    /// The parent's content, its layers laid flat: written again beside its neighbours'.
    Gather { entry: Entry, layer: Layer, fps: Vec<u64> },
    /// Will be read in this many tasks.
    Read { entry: Entry, tasks: u32 },
}

/// What the producer tells the collector.
#[derive(Debug)]
pub enum Begin {
    /// A leaf of the parent, unchanged.
    Same {
        group: Vec<u8>,
        leaf: LeafRef,
    },
    /// A new leaf.
    Leaf {
        id: u32,
        group: Vec<u8>,
        slots: Vec<Slot>,
        /// Small files' maps are written again, so that the leaf's layers lie together.
        gather: bool,
    },
    /// The parent's map of a file that is about to be read.
    Parent {
        leaf: u32,
        slot: u32,
        file: Arc<ParentFile>,
        refs: ParentRefs,
    },
    /// A leaf of files that are not known beforehand: they come in any order, by [`Begin::Add`].
    Grow {
        id: u32,
        group: Vec<u8>,
    },
    /// The next file of such a leaf; its slot is the number of those before it. `same`: its entry is the
    /// parent's.
    Add {
        leaf: u32,
        slot: Slot,
        same: bool,
    },
    /// That was the last; the leaf is cut like the parent's leaves of this group.
    Seal {
        leaf: u32,
        cuts: Vec<LeafRef>,
    },
    End,
}

/// The parent's layers as its leaf names them.
#[derive(Debug, Clone)]
pub struct ParentRefs {
    pub entry: Entry,
    pub chunks: Vec<FrameLoc>,
}

/// What is read of a file, in runs of blocks, and why.
#[derive(Debug, Clone, Default)]
struct Told {
    /// Those that may have changed, if somebody knows.
    told: Option<Vec<(u32, u32)>>,
    /// Those that are stored anew in any case.
    rewrite: Vec<(u32, u32)>,
    /// All that are read.
    read: Vec<(u32, u32)>,
}

impl Told {
    fn all(blocks: u32) -> Told {
        Told { read: vec![(0, blocks)], ..Default::default() }
    }
}

/// The producer's side of the copy.
pub struct Source<'a> {
    data_dir: &'a Path,
    block_size: u32,
    segment_blocks: u32,
    parent: Option<ParentTree>,
    begin: Sender<Begin>,
    tasks: Sender<Vec<ReadTask>>,
    rt: tokio::runtime::Handle,
    next_leaf: u32,
    cache: ChunkCache,
    batch: Vec<ReadTask>,
    batch_bytes: u64,
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

/// Which part of the tree a directory's items belong to.
pub fn group_of(dir: &Path) -> PathBuf {
    let parts: Vec<&std::ffi::OsStr> = dir.iter().collect();
    let take = match parts.first().and_then(|p| p.to_str()) {
        Some("base") if parts.len() >= 2 => 2,
        Some("global") => 1,
        Some("pg_tblspc") if parts.len() >= 4 => 4,
        _ => 0,
    };
    parts.iter().take(take).collect()
}

fn gone() -> EngineError {
    EngineError::Cancelled
}

impl<'a> Source<'a> {
    pub fn new(
        data_dir: &'a Path,
        (block_size, segment_blocks): (u32, u32),
        parent: Option<ParentTree>,
        begin: Sender<Begin>,
        tasks: Sender<Vec<ReadTask>>,
        rt: tokio::runtime::Handle,
    ) -> Self {
        Source {
            data_dir,
            block_size,
            segment_blocks,
            parent,
            begin,
            tasks,
            rt,
            next_leaf: 0,
            cache: ChunkCache::default(),
            batch: Vec::new(),
            batch_bytes: 0,
        }
    }

    /// Walks everything; returns when all work is handed out.
    pub fn run(mut self) -> Result<()> {
        let mut rest: Vec<Item> = Vec::new();
        let mut current: (PathBuf, Vec<Item>) = Default::default();
        let data_dir = self.data_dir;
        let mut failed = None;
        let walked = walk(data_dir, &mut |items| {
            let Some(first) = items.first() else { return Ok(()) };
            let dir = first.path.parent().unwrap_or(Path::new("")).to_path_buf();
            let group = group_of(&dir);
            if group.as_os_str().is_empty() {
                rest.extend(items);
            } else if group == current.0 {
                current.1.extend(items);
            } else {
                let (name, full) = std::mem::replace(&mut current, (group, items));
                if let Err(e) = self.group(&name, full) {
                    failed = Some(e);
                    return Err(holdfast_pg::PgError::Lost("stopped".into()));
                }
            }
            Ok(())
        });
        if let Some(e) = failed {
            return Err(e);
        }
        walked?;
        let (name, full) = current;
        self.group(&name, full)?;
        self.group(Path::new(""), rest)?;
        self.send_batch()?;
        self.begin.send(Begin::End).map_err(|_| gone())
    }

    fn group(&mut self, name: &Path, mut items: Vec<Item>) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        items.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
        let name = name.as_os_str().as_bytes().to_vec();
        let old: Option<Group> = self
            .parent
            .as_ref()
            .and_then(|p| p.reader.root().groups.iter().find(|g| g.name == name).cloned());
        let mut rest = items.as_slice();
        for (i, leaf) in old.iter().flat_map(|g| &g.leaves).enumerate() {
            let next = old.as_ref().and_then(|g| g.leaves.get(i + 1)).map(|l| l.first.as_slice());
            let n = match next {
                Some(next) => rest.partition_point(|it| it.path.as_os_str().as_bytes() < next),
                None => rest.len(),
            };
            let (bucket, tail) = rest.split_at(n);
            rest = tail;
            self.bucket(&name, bucket, Some(leaf))?;
        }
        self.bucket(&name, rest, None)
    }

    /// Items that fall into one leaf of the parent (or into none).
    fn bucket(&mut self, group: &[u8], items: &[Item], leaf: Option<&LeafRef>) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        let old: Option<Leaf> = match (leaf, &self.parent) {
            (Some(l), Some(p)) => Some(self.rt.block_on(p.reader.leaf(l))?),
            _ => None,
        };
        let by_path: HashMap<&[u8], &Entry> =
            old.iter().flat_map(|l| &l.entries).map(|e| (e.path.as_slice(), e)).collect();
        let entries: Vec<Entry> = items.iter().map(|i| self.entry(i)).collect();
        let geometry = (self.block_size, self.segment_blocks);
        let mut verdicts: Vec<Verdict> = match &self.parent {
            Some(t) => {
                let each = items.iter().zip(&entries);
                each.map(|(i, e)| t.judge(i, e, by_path.get(e.path.as_slice()).copied(), geometry)).collect()
            }
            None => vec![Verdict::Read; entries.len()],
        };
        if let (Some(leaf), Some(old)) = (leaf, &old)
            && old.entries.len() == entries.len()
            && verdicts.iter().all(|v| *v == Verdict::Same)
            && !self.worn(leaf)
        {
            let same = Begin::Same { group: group.to_vec(), leaf: leaf.clone() };
            return self.begin.send(same).map_err(|_| gone());
        }
        // Parts of about equal size, none above 1.5 leaves.
        let parts = (entries.len() * 2).div_ceil(LEAF_FILES * 3).max(1);
        let per = entries.len().div_ceil(parts);
        let mut rest = items;
        let mut entries = entries.into_iter();
        while !rest.is_empty() {
            let (part, tail) = rest.split_at(per.min(rest.len()));
            rest = tail;
            let judged = verdicts.drain(..part.len());
            let some = part.iter().zip(entries.by_ref()).zip(judged).map(|((i, e), v)| (i, e, v)).collect();
            let worn = leaf.is_some_and(|l| self.worn(l));
            self.leaf(group, some, (old.as_ref(), worn), &by_path)?;
        }
        Ok(())
    }

    /// Does it hold blocks that are to be rewritten?
    fn worn(&self, leaf: &LeafRef) -> bool {
        self.parent.as_ref().is_some_and(|t| t.wear.touches(leaf.live.iter().map(|(p, _)| *p)))
    }

    /// Does a window say which of its blocks changed?
    fn is_watched(&self, item: &Item) -> bool {
        let main = matches!(item.kind, ItemKind::File(PathKind::RelationFork(r)) if r.fork == Fork::Main);
        main && self.parent.as_ref().is_some_and(|t| t.window.is_some())
    }

    fn leaf(
        &mut self,
        group: &[u8],
        files: Vec<(&Item, Entry, Verdict)>,
        (old, worn): (Option<&Leaf>, bool),
        by_path: &HashMap<&[u8], &Entry>,
    ) -> Result<()> {
        let bs = self.block_size;
        let id = self.next_leaf;
        self.next_leaf += 1;
        let gather = old.is_some_and(|l| l.chunks.len() > SCATTERED_CHUNKS);
        let mut slots = Vec::with_capacity(files.len());
        let mut to_read: Vec<(u32, &Item, Told)> = Vec::new();
        for (item, e, verdict) in files {
            if e.kind != EntryKind::File || e.size == 0 {
                slots.push(Slot::Plain(e));
                continue;
            }
            let parent = match (old, by_path.get(e.path.as_slice())) {
                (Some(old), Some(p)) if p.kind == EntryKind::File => Some((old, *p)),
                _ => None,
            };
            let blocks = e.blocks(bs) as u32;
            let Some((old, p)) = parent else {
                let tasks = blocks.div_ceil(per_task(bs));
                to_read.push((slots.len() as u32, item, Told::all(blocks)));
                slots.push(Slot::Read { entry: e, tasks });
                continue;
            };
            let flat = match worn || matches!(verdict, Verdict::Window { .. }) {
                true => Some(self.flat_of_parent(old, p, blocks, false)?.0),
                false => None,
            };
            let zeros = flat.as_ref().map(|f| zeros(f, blocks)).unwrap_or_default();
            let mut told = match verdict {
                Verdict::Read => Told::all(blocks),
                Verdict::Window { told, sample } => {
                    let told = union(&told, &zeros, 0);
                    let read = union(&told, &sample, GAP_BLOCKS);
                    Told { told: Some(told), read, ..Default::default() }
                }
                // By the window, not by its times, for those that it can speak for.
                Verdict::Same if self.is_watched(item) => Told { told: Some(zeros), ..Default::default() },
                Verdict::Same => Told::default(),
            };
            if let (true, Some(flat), Some(t)) = (worn, &flat, &mut self.parent) {
                told.rewrite = t.wear.take(flat, blocks);
                told.read = union(&told.read, &told.rewrite, 0);
            }
            if !told.read.is_empty() {
                let tasks = told.read.iter().map(|(_, n)| n.div_ceil(per_task(bs))).sum();
                to_read.push((slots.len() as u32, item, told));
                slots.push(Slot::Read { entry: e, tasks });
                continue;
            }
            let entry = Entry { layers: p.layers.clone(), flags: p.flags, ..e };
            if gather && entry.blocks(bs) <= SMALL_FILE_BLOCKS {
                let (layer, fps) = self.flat_of_parent(old, p, blocks, true)?;
                slots.push(Slot::Gather { entry, layer, fps });
            } else {
                let flat = match flat {
                    Some(f) => f,
                    None => self.flat_of_parent(old, p, blocks, false)?.0,
                };
                let live = live_of(&flat, entry.size, bs);
                slots.push(Slot::Reuse { entry, chunks: old.chunks.clone(), live });
            }
        }
        self.begin.send(Begin::Leaf { id, group: group.to_vec(), slots, gather }).map_err(|_| gone())?;
        for (slot, item, told) in to_read {
            let bytes = item.path.as_os_str().as_bytes();
            let parent = match (old, by_path.get(bytes)) {
                (Some(old), Some(p)) if p.kind == EntryKind::File && p.size > 0 => {
                    let file = Arc::new(self.parent_file(old, p)?);
                    let refs = ParentRefs { entry: (*p).clone(), chunks: old.chunks.clone() };
                    let message = Begin::Parent { leaf: id, slot, file: file.clone(), refs };
                    self.begin.send(message).map_err(|_| gone())?;
                    Some(file)
                }
                _ => None,
            };
            self.queue(item, id, slot, parent, told)?;
        }
        Ok(())
    }

    /// The map of a reused file, which has `blocks` blocks now, as one layer, with its fingerprints if they
    /// are wanted.
    fn flat_of_parent(
        &mut self,
        old: &Leaf,
        entry: &Entry,
        blocks: u32,
        fps: bool,
    ) -> Result<(Layer, Vec<u64>)> {
        let Some(p) = &self.parent else { return Err(gone()) };
        let (layers, layer_fps) =
            self.rt.block_on(p.reader.entry_layers(old, entry, fps, &mut self.cache))?;
        let l: Vec<&Layer> = layers.iter().collect();
        let f: Vec<&[u64]> = layer_fps.iter().map(Vec::as_slice).collect();
        Ok(flatten(&l, &f, blocks, self.block_size))
    }

    fn parent_file(&mut self, old: &Leaf, entry: &Entry) -> Result<ParentFile> {
        let Some(p) = &self.parent else { return Err(gone()) };
        let (layers, layer_fps) =
            self.rt.block_on(p.reader.entry_layers(old, entry, true, &mut self.cache))?;
        let l: Vec<&Layer> = layers.iter().collect();
        let f: Vec<&[u64]> = layer_fps.iter().map(Vec::as_slice).collect();
        let (_, fps) = flatten(&l, &f, entry.blocks(self.block_size) as u32, self.block_size);
        Ok(ParentFile {
            size: entry.size,
            block_size: self.block_size,
            layers,
            layer_fps,
            fps,
            damaged: entry.damaged.clone(),
        })
    }

    fn queue(
        &mut self,
        item: &Item,
        leaf: u32,
        slot: u32,
        parent: Option<Arc<ParentFile>>,
        told: Told,
    ) -> Result<()> {
        let relation = match item.kind {
            ItemKind::File(PathKind::RelationFork(r)) => Some(r.segment_no.wrapping_mul(self.segment_blocks)),
            _ => None,
        };
        let file = Arc::new(FileJob {
            leaf,
            slot,
            path: self.data_dir.join(&item.path),
            name: item.path.to_string_lossy().into_owned(),
            first_block_of_relation: relation,
            size: item.size,
            parent,
            told: told.told,
            rewrite: told.rewrite,
        });
        let per_task = per_task(self.block_size);
        for (mut first, count) in told.read {
            let end = first.saturating_add(count);
            while first < end {
                let count = per_task.min(end - first);
                self.batch.push(ReadTask { file: file.clone(), first, count, data: None });
                self.batch_bytes += u64::from(count) * u64::from(self.block_size);
                first += count;
                if self.batch.len() >= BATCH_FILES || self.batch_bytes >= BATCH_BYTES {
                    self.send_batch()?;
                }
            }
        }
        Ok(())
    }

    fn send_batch(&mut self) -> Result<()> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() { Ok(()) } else { self.tasks.send(batch).map_err(|_| gone()) }
    }

    fn entry(&self, i: &Item) -> Entry {
        let (kind, mut fl) = match i.kind {
            ItemKind::Dir => (EntryKind::Dir, 0),
            ItemKind::Link => (EntryKind::Link, 0),
            ItemKind::File(PathKind::RelationFork(_)) => (EntryKind::File, flags::RELATION),
            ItemKind::File(_) => (EntryKind::File, 0),
        };
        let is_file = kind == EntryKind::File;
        if !is_file {
            fl = 0;
        }
        Entry {
            path: i.path.as_os_str().as_bytes().to_vec(),
            kind,
            flags: fl,
            mode: i.mode,
            uid: i.uid,
            gid: i.gid,
            size: i.size,
            // Times of directories change with every file in them and mean nothing to a restore.
            mtime_ns: if is_file { i.mtime_ns } else { 0 },
            ctime_ns: if is_file { i.ctime_ns } else { 0 },
            inode: if is_file { i.inode } else { 0 },
            link: i.link.as_bytes().to_vec(),
            damaged: Vec::new(),
            layers: Vec::new(),
        }
    }
}

/// How many sealed bytes and blocks of each pack a flat layer uses; a frame's bytes are shared out
/// among its blocks by their length.
pub fn live_of(flat: &Layer, size: u64, block_size: u32) -> HashMap<u32, Live> {
    let mut out: HashMap<u32, Live> = HashMap::new();
    for r in &flat.runs {
        let Some(f) = r.frame.and_then(|f| flat.frames.get(f as usize)) else { continue };
        let from = u64::from(r.start) * u64::from(block_size);
        let plain = (u64::from(r.end()) * u64::from(block_size)).min(size).saturating_sub(from);
        let live = out.entry(f.pack).or_default();
        live.bytes += u64::from(f.sealed_len) * plain / u64::from(f.plain_len.max(1));
        live.blocks += u64::from(r.count);
    }
    out
}
