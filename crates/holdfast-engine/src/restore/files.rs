//! Writes the files of a point into a directory.
//!
//! Frames are fetched in the order in which they lie in their packs, neighbours in one read, and each
//! is opened once, however many files share it. Work goes leaf batch by leaf batch, so memory does
//! not grow with the database. A file is fsynced as soon as its last block is written, while others
//! are still being fetched: the disk is the bottleneck of a restore and should never wait.
//!
//! Holes stay holes: blocks of zeros are not written.

use crate::error::{EngineError, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use holdfast_core::Monitor;
use holdfast_vault::VaultError;
use holdfast_vault::codec::Decompressor;
use holdfast_vault::manifest::{Entry, EntryKind, Leaf};
use holdfast_vault::map::{Layer, flatten};
use holdfast_vault::pack::FrameLoc;
use holdfast_vault::reader::{ChunkCache, PackSet, PointReader};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Frames per batch: bounds what is planned in memory to a few MiB.
const BATCH_FRAMES: usize = 16_384;
/// One read fetches at most this much, and bridges gaps up to this.
const READ_BYTES: u64 = 4 << 20;
const GAP_BYTES: u64 = 64 << 10;

/// A file that is being written. It is opened by whoever writes its first piece and closed once it is
/// durable: the plan of a batch names thousands of files, and 1,024 open ones are the usual limit.
#[derive(Debug)]
struct Target {
    path: PathBuf,
    file: Mutex<Option<Arc<File>>>,
    size: u64,
    mode: u32,
    owner: Owner,
    pieces_left: AtomicU32,
    mtime_ns: i64,
}

impl Target {
    fn open(&self) -> Result<Arc<File>> {
        let mut slot = self.file.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(f) = &*slot {
            return Ok(f.clone());
        }
        let path = &self.path;
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(EngineError::io("make", path))?;
        file.set_permissions(std::fs::Permissions::from_mode(self.mode))
            .map_err(EngineError::io("set the mode of", path))?;
        if let Some((uid, gid)) = self.owner {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid))
                .map_err(EngineError::io("set the owner of", path))?;
        }
        file.set_len(self.size).map_err(EngineError::io("set the length of", path))?;
        let file = Arc::new(file);
        *slot = Some(file.clone());
        Ok(file)
    }
}

/// Where a run of blocks goes.
#[derive(Debug, Clone)]
struct Put {
    target: Arc<Target>,
    /// Offset in the file and length in bytes.
    to: u64,
    len: u64,
    /// Offset in the frame's plain content.
    at: u32,
}

/// Neighbouring frames of one pack.
#[derive(Debug)]
struct ReadJob {
    pack: u32,
    from: u64,
    to: u64,
    frames: Vec<(FrameLoc, Vec<Put>)>,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    pub files: AtomicU64,
    pub bytes: AtomicU64,
    pub fetched: AtomicU64,
}

/// Maps a path of the point to where it is written: tablespaces may lie elsewhere.
pub trait Paths: Sync {
    /// `None`: not written (handled elsewhere).
    fn place(&self, path: &Path) -> Option<PathBuf>;
}

/// Who gets the files, when root restores.
pub type Owner = Option<(u32, u32)>;

struct Shared<'a> {
    set: PackSet,
    rt: tokio::runtime::Handle,
    monitor: Arc<dyn Monitor>,
    stop: AtomicBool,
    written: &'a Written,
}

/// What is restored, where to, and by how many.
pub struct Work<'a> {
    pub reader: &'a PointReader,
    pub paths: &'a dyn Paths,
    pub owner: Owner,
    pub block_size: u32,
    pub workers: usize,
    pub monitor: Arc<dyn Monitor>,
    pub rt: tokio::runtime::Handle,
}

impl std::fmt::Debug for Work<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("workers", &self.workers).finish_non_exhaustive()
    }
}

/// Writes every entry of the point. Directories come first (the manifest's order has parents before
/// children).
pub fn write_all(work: &Work<'_>, written: &Written) -> Result<()> {
    let workers = work.workers;
    let shared = Shared {
        set: work.reader.packs().clone(),
        rt: work.rt.clone(),
        monitor: work.monitor.clone(),
        stop: AtomicBool::new(false),
        written,
    };
    let (job_tx, job_rx) = bounded::<ReadJob>(workers * 2);
    let (sync_tx, sync_rx) = bounded::<Arc<Target>>(64);
    std::thread::scope(|s| {
        let shared = &shared;
        let mut handles = Vec::new();
        for _ in 0..workers {
            let (jobs, sync) = (job_rx.clone(), sync_tx.clone());
            handles.push(s.spawn(move || worker(shared, &jobs, &sync)));
        }
        // fsync waits for the disk, not for a core.
        for _ in 0..2 {
            let sync = sync_rx.clone();
            handles.push(s.spawn(move || syncer(shared, &sync)));
        }
        drop((job_rx, sync_rx));
        let planned = plan_all(work, shared, &job_tx, &sync_tx);
        drop((job_tx, sync_tx));
        let mut results = vec![planned];
        for h in handles {
            results.push(h.join().unwrap_or_else(|_| Err(EngineError::Worker("a restore".into()))));
        }
        let mut cancelled = false;
        for r in results {
            match r {
                Ok(()) => {}
                Err(EngineError::Cancelled) => cancelled = true,
                Err(e) => return Err(e),
            }
        }
        if cancelled { Err(EngineError::Cancelled) } else { Ok(()) }
    })
}

/// Makes directories and files, and hands out reads, leaf by leaf.
fn plan_all(
    work: &Work<'_>,
    shared: &Shared<'_>,
    jobs: &Sender<ReadJob>,
    sync: &Sender<Arc<Target>>,
) -> Result<()> {
    let (reader, paths, owner) = (work.reader, work.paths, work.owner);
    let result = (|| {
        let mut frames: HashMap<FrameLoc, Vec<Put>> = HashMap::new();
        let mut cache = ChunkCache::default();
        // Directories of every group before any file: a group's own directory belongs to its parent's.
        let mut leaves: Vec<Leaf> = Vec::new();
        for g in &reader.root().groups {
            if g.name.is_empty() {
                for l in &g.leaves {
                    let leaf = shared.rt.block_on(reader.leaf(l))?;
                    for e in leaf.entries.iter().filter(|e| e.kind == EntryKind::Dir) {
                        make_dir(e, paths, owner)?;
                    }
                    leaves.push(leaf);
                }
            }
        }
        let rest = reader.root().groups.iter().filter(|g| !g.name.is_empty()).flat_map(|g| &g.leaves);
        let loaded = leaves.into_iter().map(Ok).chain(rest.map(|l| shared.rt.block_on(reader.leaf(l))));
        for leaf in loaded {
            let leaf = leaf?;
            for entry in &leaf.entries {
                if shared.stop.load(Ordering::Relaxed) || shared.monitor.cancelled() {
                    return Err(EngineError::Cancelled);
                }
                plan_entry(work, &leaf, entry, shared, sync, &mut frames, &mut cache)?;
                if frames.len() >= BATCH_FRAMES {
                    send(&mut frames, jobs)?;
                }
            }
        }
        send(&mut frames, jobs)
    })();
    if result.is_err() {
        shared.stop.store(true, Ordering::Relaxed);
    }
    result
}

fn make_dir(e: &Entry, paths: &dyn Paths, owner: Owner) -> Result<()> {
    let Some(path) = paths.place(Path::new(OsStr::from_bytes(&e.path))) else { return Ok(()) };
    std::fs::create_dir_all(&path).map_err(EngineError::io("make the directory", &path))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(e.mode))
        .map_err(EngineError::io("set the mode of", &path))?;
    chown(&path, owner)
}

/// Gives `path` (not what a link points to) to `owner`.
pub fn chown(path: &Path, owner: Owner) -> Result<()> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).map_err(EngineError::io("set the owner of", path))
}

fn plan_entry(
    work: &Work<'_>,
    leaf: &Leaf,
    entry: &Entry,
    shared: &Shared<'_>,
    sync: &Sender<Arc<Target>>,
    frames: &mut HashMap<FrameLoc, Vec<Put>>,
    cache: &mut ChunkCache,
) -> Result<()> {
    let (reader, paths, owner, block_size) = (work.reader, work.paths, work.owner, work.block_size);
    let rel = Path::new(OsStr::from_bytes(&entry.path));
    let Some(path) = paths.place(rel) else { return Ok(()) };
    match entry.kind {
        EntryKind::Dir => return make_dir(entry, paths, owner),
        EntryKind::Link => {
            std::os::unix::fs::symlink(OsStr::from_bytes(&entry.link), &path)
                .map_err(EngineError::io("make the link", &path))?;
            return chown(&path, owner);
        }
        EntryKind::File => {}
    }
    let (layers, _) = if entry.size > 0 {
        shared.rt.block_on(reader.entry_layers(leaf, entry, false, cache))?
    } else {
        Default::default()
    };
    let flat = match <[Layer; 1]>::try_from(layers) {
        Ok([one]) if one.blocks() == entry.blocks(block_size) => one,
        Ok([one]) => flatten(&[&one], &[], entry.blocks(block_size) as u32, block_size).0,
        Err(many) => {
            let l: Vec<&Layer> = many.iter().collect();
            flatten(&l, &[], entry.blocks(block_size) as u32, block_size).0
        }
    };
    if flat.blocks() != entry.blocks(block_size) {
        return Err(VaultError::Damaged {
            name: reader.packs().cluster().path().folder(),
            what: format!("the map of `{}` is incomplete", rel.display()),
        }
        .into());
    }
    let stored = flat.runs.iter().filter(|r| r.frame.is_some()).count() as u32;
    let target = Arc::new(Target {
        path,
        file: Mutex::new(None),
        size: entry.size,
        mode: entry.mode,
        owner,
        pieces_left: AtomicU32::new(stored),
        mtime_ns: entry.mtime_ns,
    });
    if stored == 0 {
        return sync.send(target).map_err(|_| EngineError::Cancelled);
    }
    for r in &flat.runs {
        let Some(loc) = r.frame.and_then(|f| flat.frames.get(f as usize)) else { continue };
        let to = u64::from(r.start) * u64::from(block_size);
        let end = (u64::from(r.end()) * u64::from(block_size)).min(entry.size);
        let put = Put { target: target.clone(), to, len: end.saturating_sub(to), at: r.at };
        frames.entry(*loc).or_default().push(put);
    }
    Ok(())
}

/// Sorts a batch by place, joins neighbours and hands it out.
fn send(frames: &mut HashMap<FrameLoc, Vec<Put>>, jobs: &Sender<ReadJob>) -> Result<()> {
    let mut all: Vec<(FrameLoc, Vec<Put>)> = frames.drain().collect();
    all.sort_by_key(|(f, _)| (f.pack, f.offset));
    let mut job: Option<ReadJob> = None;
    for (loc, puts) in all {
        if let Some(j) = &mut job
            && j.pack == loc.pack
            && loc.offset <= j.to + GAP_BYTES
            && loc.end() - j.from <= READ_BYTES
        {
            j.to = j.to.max(loc.end());
            j.frames.push((loc, puts));
            continue;
        }
        if let Some(j) = job.take() {
            jobs.send(j).map_err(|_| EngineError::Cancelled)?;
        }
        job = Some(ReadJob { pack: loc.pack, from: loc.offset, to: loc.end(), frames: vec![(loc, puts)] });
    }
    match job {
        Some(j) => jobs.send(j).map_err(|_| EngineError::Cancelled),
        None => Ok(()),
    }
}

fn worker(shared: &Shared<'_>, jobs: &Receiver<ReadJob>, sync: &Sender<Arc<Target>>) -> Result<()> {
    let mut d = Decompressor::new().map_err(|e| EngineError::Worker(e.to_string()))?;
    let (mut sealed, mut plain) = (Vec::new(), Vec::new());
    let result = (|| {
        for job in jobs.iter() {
            if shared.stop.load(Ordering::Relaxed) {
                return Err(EngineError::Cancelled);
            }
            let bytes = shared.rt.block_on(async {
                let reader = shared.set.reader(job.pack).await?;
                let bytes = shared.set.cluster().store().get_range(reader.name(), job.from..job.to).await?;
                Ok::<_, VaultError>((reader, bytes))
            });
            let (reader, bytes) = bytes?;
            shared.written.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            for (loc, puts) in job.frames {
                let damaged =
                    |what: &str| VaultError::Damaged { name: reader.name().into(), what: what.into() };
                let (a, b) = ((loc.offset - job.from) as usize, (loc.end() - job.from) as usize);
                sealed.clear();
                sealed.extend_from_slice(bytes.get(a..b).ok_or_else(|| damaged("a frame is missing"))?);
                reader.frame(&loc, &mut sealed, &mut d, &mut plain)?;
                for p in puts {
                    let from = p.at as usize;
                    let piece = plain
                        .get(from..from + p.len as usize)
                        .ok_or_else(|| damaged("a map names blocks that a frame does not have"))?;
                    p.target
                        .open()?
                        .write_all_at(piece, p.to)
                        .map_err(EngineError::io("write", &p.target.path))?;
                    shared.monitor.advance(p.len);
                    shared.written.bytes.fetch_add(p.len, Ordering::Relaxed);
                    if p.target.pieces_left.fetch_sub(1, Ordering::AcqRel) == 1 {
                        sync.send(p.target).map_err(|_| EngineError::Cancelled)?;
                    }
                }
            }
        }
        Ok(())
    })();
    if result.is_err() {
        shared.stop.store(true, Ordering::Relaxed);
        // Drain, so that the planner is not left waiting for room.
        for _ in jobs.try_iter() {}
    }
    result
}

fn syncer(shared: &Shared<'_>, sync: &Receiver<Arc<Target>>) -> Result<()> {
    for t in sync.iter() {
        let file = match t.open() {
            Ok(f) => f,
            Err(e) => {
                shared.stop.store(true, Ordering::Relaxed);
                return Err(e);
            }
        };
        // The times of the source are kept for people; PostgreSQL does not look at them.
        if let Ok(ns) = u64::try_from(t.mtime_ns) {
            let when = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(ns);
            let _ = file.set_modified(when);
        }
        if let Err(e) = file.sync_all() {
            shared.stop.store(true, Ordering::Relaxed);
            return Err(EngineError::io("make durable", &t.path)(e));
        }
        debug_assert!(file.metadata().is_ok_and(|m| m.len() == t.size));
        t.file.lock().unwrap_or_else(|e| e.into_inner()).take();
        shared.written.files.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
