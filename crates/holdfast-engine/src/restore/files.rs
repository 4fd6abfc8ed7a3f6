//! Writes the files of a point into a directory.
//!
//! Frames are fetched in the order in which they lie in their packs, neighbours in one read, and each
//! is opened once, however many files share it. Work goes leaf batch by leaf batch, so memory does
//! not grow with the database. A file is fsynced as soon as its last block is written, while others
//! are still being fetched: the disk is the bottleneck of a restore and should never wait.
//!
//! Holes stay holes: blocks of zeros are not written.
//!
//! With [`Work::selection`] databases are left out: their relations become holes of the right length.
//!
//! With [`Work::compare`] a file that is there is compared first (`compare`), and only frames
//! with blocks that differ are fetched.

use super::compare::{self, CompareJob};
use super::fetch::{self, ReadJob, Wanted};
use super::select::{Selection, Treat};
use crate::error::{EngineError, Result, first_reason};
use crate::state::write_atomic;
use crossbeam_channel::{Receiver, Sender, bounded};
use holdfast_core::Monitor;
use holdfast_vault::VaultError;
use holdfast_vault::digest::Digests;
use holdfast_vault::manifest::{Entry, EntryKind, Leaf};
use holdfast_vault::map::{Layer, Run, flatten};
use holdfast_vault::pack::FrameLoc;
use holdfast_vault::reader::{ChunkCache, PackSet, PointReader};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A file that is being written. It is opened by whoever writes its first piece and closed once it is
/// durable: the plan of a batch names thousands of files, and 1,024 open ones are the usual limit.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) path: PathBuf,
    /// It was there, with its length and mode set right by now.
    pub(super) existing: bool,
    file: Mutex<Option<Arc<File>>>,
    pub(super) size: u64,
    mode: u32,
    owner: Owner,
    /// Pieces to write, and parts to compare, that are still under way.
    pieces_left: AtomicU32,
    mtime_ns: i64,
}

impl Target {
    /// Blocks of it follow; before the part that found them is done.
    pub(super) fn expect(&self, pieces: usize) {
        self.pieces_left.fetch_add(pieces as u32, Ordering::AcqRel);
    }

    /// One piece less. Whoever ends the last one hands the file to be made durable.
    pub(super) fn done(self: Arc<Self>, sync: &Sender<Arc<Target>>) -> Result<()> {
        if self.pieces_left.fetch_sub(1, Ordering::AcqRel) == 1 {
            sync.send(self).map_err(|_| EngineError::Cancelled)?;
        }
        Ok(())
    }

    pub(super) fn open(&self) -> Result<Arc<File>> {
        if self.existing {
            // Not kept open: the changes of a delta lie far apart, in more files than may be open at once.
            return compare::open(&self.path).map(Arc::new);
        }
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
pub(super) struct Put {
    pub(super) target: Arc<Target>,
    /// Offset in the file and length in bytes.
    pub(super) to: u64,
    pub(super) len: u64,
    /// Offset in the frame's plain content.
    pub(super) at: u32,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    pub files: AtomicU64,
    pub bytes: AtomicU64,
    pub fetched: AtomicU64,
    /// Bytes that were there and were compared.
    pub compared: AtomicU64,
}

/// Maps a path of the point to where it is written: tablespaces may lie elsewhere.
pub trait Paths: Sync {
    /// `None`: not written (handled elsewhere).
    fn place(&self, path: &Path) -> Option<PathBuf>;
}

/// Who gets the files, when root restores.
pub type Owner = Option<(u32, u32)>;

pub(super) struct Shared<'a> {
    pub(super) set: PackSet,
    pub(super) rt: tokio::runtime::Handle,
    pub(super) monitor: Arc<dyn Monitor>,
    pub(super) stop: AtomicBool,
    pub(super) written: &'a Written,
}

/// Where the planner sends what it finds.
struct Out {
    wanted: Sender<Wanted>,
    compare: Sender<CompareJob>,
    sync: Sender<Arc<Target>>,
}

/// What is restored, where to, and by how many.
pub struct Work<'a> {
    pub reader: &'a PointReader,
    pub paths: &'a dyn Paths,
    pub owner: Owner,
    pub block_size: u32,
    pub workers: usize,
    /// Only these databases.
    pub selection: Option<&'a Selection>,
    /// Files that are there are compared by these, and written over.
    pub compare: Option<Digests>,
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
    let (wanted_tx, wanted_rx) = bounded::<Wanted>(16);
    let (compare_tx, compare_rx) = bounded::<CompareJob>(workers * 2);
    std::thread::scope(|s| {
        let shared = &shared;
        let mut handles = Vec::new();
        for _ in 0..workers {
            let (jobs, sync) = (job_rx.clone(), sync_tx.clone());
            handles.push(s.spawn(move || fetch::worker(shared, &jobs, &sync)));
        }
        handles.push(s.spawn(move || fetch::batches(shared, &wanted_rx, &job_tx)));
        // fsync waits for the disk, not for a core.
        for _ in 0..2 {
            let sync = sync_rx.clone();
            handles.push(s.spawn(move || syncer(shared, &sync)));
        }
        if let Some(digests) = &work.compare {
            for _ in 0..workers {
                let (jobs, wanted, sync) = (compare_rx.clone(), wanted_tx.clone(), sync_tx.clone());
                handles.push(
                    s.spawn(move || compare::worker(shared, digests, work.block_size, &jobs, &wanted, &sync)),
                );
            }
        }
        drop((job_rx, sync_rx, compare_rx));
        let planned = plan_all(work, shared, &Out { wanted: wanted_tx, compare: compare_tx, sync: sync_tx });
        let mut results = vec![planned];
        for h in handles {
            results.push(h.join().unwrap_or_else(|_| Err(EngineError::Worker("a restore".into()))));
        }
        first_reason(results)
    })
}

/// Makes directories and files, and hands out reads, leaf by leaf.
fn plan_all(work: &Work<'_>, shared: &Shared<'_>, out: &Out) -> Result<()> {
    let (reader, paths, owner) = (work.reader, work.paths, work.owner);
    let result = (|| {
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
                plan_entry(work, &leaf, entry, shared, out, &mut cache)?;
            }
        }
        Ok(())
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
    out: &Out,
    cache: &mut ChunkCache,
) -> Result<()> {
    let (reader, paths, owner, block_size) = (work.reader, work.paths, work.owner, work.block_size);
    let rel = Path::new(OsStr::from_bytes(&entry.path));
    let Some(path) = paths.place(rel) else { return Ok(()) };
    match entry.kind {
        EntryKind::Dir => return make_dir(entry, paths, owner),
        EntryKind::Link => {
            let link = Path::new(OsStr::from_bytes(&entry.link));
            // A delta has removed one that leads elsewhere.
            if work.compare.is_none() || std::fs::read_link(&path).is_err() {
                std::os::unix::fs::symlink(link, &path).map_err(EngineError::io("make the link", &path))?;
            }
            return chown(&path, owner);
        }
        EntryKind::File => {}
    }
    let hollow = match work.selection.map_or(Treat::Whole, |s| s.treat(&entry.path)) {
        Treat::Whole => false,
        Treat::Hollow => true,
        Treat::Mark(text) => {
            write_atomic(&path, text.as_bytes(), entry.mode)?;
            shared.written.files.fetch_add(1, Ordering::Relaxed);
            return chown(&path, owner);
        }
    };
    let local_size = match &work.compare {
        // A hole is made, not compared: what is there would have to be read, and cut out.
        Some(_) if hollow => remove(&path)?,
        Some(_) => compare::take_over(&path, entry, owner)?,
        None => None,
    };
    let blocks = entry.blocks(block_size) as u32;
    let mut target = Target {
        path,
        existing: local_size.is_some(),
        file: Mutex::new(None),
        size: entry.size,
        mode: entry.mode,
        owner,
        pieces_left: AtomicU32::new(0),
        mtime_ns: entry.mtime_ns,
    };
    if hollow {
        return out.sync.send(Arc::new(target)).map_err(|_| EngineError::Cancelled);
    }
    let (layers, fps) = if entry.size > 0 {
        shared.rt.block_on(reader.entry_layers(leaf, entry, local_size.is_some(), cache))?
    } else {
        Default::default()
    };
    let (flat, fps) = match <[Layer; 1]>::try_from(layers) {
        Ok([one]) if one.blocks() == u64::from(blocks) => (one, fps.into_iter().next().unwrap_or_default()),
        Ok([one]) => flatten(&[&one], &fps.iter().map(Vec::as_slice).collect::<Vec<_>>(), blocks, block_size),
        Err(many) => {
            let l: Vec<&Layer> = many.iter().collect();
            flatten(&l, &fps.iter().map(Vec::as_slice).collect::<Vec<_>>(), blocks, block_size)
        }
    };
    if flat.blocks() != u64::from(blocks) {
        return Err(VaultError::Damaged {
            name: reader.packs().cluster().path().folder(),
            what: format!("the map of `{}` is incomplete", rel.display()),
        }
        .into());
    }
    if let Some(local_size) = local_size.filter(|_| entry.size > 0) {
        let jobs = compare::jobs(target, flat, fps, local_size, block_size);
        for job in jobs {
            out.compare.send(job).map_err(|_| EngineError::Cancelled)?;
        }
        return Ok(());
    }
    let stored = flat.runs.iter().filter(|r| r.frame.is_some()).count() as u32;
    target.pieces_left = AtomicU32::new(stored);
    let target = Arc::new(target);
    if stored == 0 {
        return out.sync.send(target).map_err(|_| EngineError::Cancelled);
    }
    let all = flat.runs.iter().filter_map(|r| put(&flat, r, r.start, r.end(), &target, block_size));
    out.wanted.send(all.collect()).map_err(|_| EngineError::Cancelled)
}

/// Removes a file that may be there; none of it is left to compare.
fn remove(path: &Path) -> Result<Option<u64>> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(EngineError::io("remove", path)(e)),
        _ => Ok(None),
    }
}

/// Blocks `from` to `to` of a run, and the frame that has them; `None` for zeros.
pub(super) fn put(
    flat: &Layer,
    run: &Run,
    from: u32,
    to: u32,
    target: &Arc<Target>,
    block_size: u32,
) -> Option<(FrameLoc, Put)> {
    let loc = run.frame.and_then(|f| flat.frames.get(f as usize))?;
    let start = u64::from(from) * u64::from(block_size);
    let end = (u64::from(to) * u64::from(block_size)).min(target.size);
    let at = run.at + (from - run.start) * block_size;
    Some((*loc, Put { target: target.clone(), to: start, len: end.saturating_sub(start), at }))
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
            // Setting what is set already would make fsync write.
            if !t.existing || file.metadata().and_then(|m| m.modified()).is_ok_and(|m| m != when) {
                let _ = file.set_modified(when);
            }
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
