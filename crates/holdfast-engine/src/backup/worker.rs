//! Worker threads of a backup: read blocks, check them, compare them, seal them.
//!
//! A worker reads straight into the frame that it is filling, so an unchanged run of blocks is the
//! only thing that moves in memory. Per byte it does, in this order of cost on the reference machine
//! (one core): zstd-1 ≈ 0.6 GB/s, page checksum ≈ 11 GB/s, fingerprint and frame digest (GMAC)
//! ≈ 20 GB/s each, AES-GCM on what is left after compression. Everything but the compression is
//! noise, which is why fingerprints are always made.
//!
//! Invariants: a block goes to the collector exactly once, as part of a frame, as zeros, or as
//! unchanged; a file's length is the least that any reader saw.

use super::plan::ParentFile;
use super::window::contains;
use crate::error::{EngineError, Result};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use holdfast_core::{Lsn, Monitor};
use holdfast_pgformat::page::{self, PageCheck};
use holdfast_vault::codec::Compressor;
use holdfast_vault::digest::Digests;
use holdfast_vault::pack::{FrameLoc, PackInfo, PackWriter, PartSink};
use holdfast_vault::{PackId, VaultError};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A file to read. `leaf` and `slot` say where its entry waits in the collector.
#[derive(Debug)]
pub struct FileJob {
    pub leaf: u32,
    pub slot: u32,
    pub path: PathBuf,
    pub name: String,
    /// First block of this file within its relation, for page checksums; `None` = not made of pages.
    pub first_block_of_relation: Option<u32>,
    /// Length that the file is read up to; what grows behind it, WAL repeats.
    pub size: u64,
    pub parent: Option<Arc<ParentFile>>,
    /// Runs of blocks that the WAL names; all others must be as the parent has them. `None`: who knows.
    pub told: Option<Vec<(u32, u32)>>,
    /// Runs of blocks that are stored anew, whether they changed or not (R7).
    pub rewrite: Vec<(u32, u32)>,
}

/// A range of blocks of a file.
#[derive(Debug, Clone)]
pub struct ReadTask {
    pub file: Arc<FileJob>,
    pub first: u32,
    pub count: u32,
    /// The blocks themselves, if they do not come from a file of this host.
    pub data: Option<Bytes>,
}

/// Blocks that lie together in a frame.
#[derive(Debug, Clone)]
pub struct Piece {
    pub leaf: u32,
    pub slot: u32,
    pub start: u32,
    pub count: u32,
    pub at: u32,
    pub fps: Vec<u64>,
}

/// What workers tell the collector.
#[derive(Debug)]
pub enum Found {
    Frame {
        loc: FrameLoc,
        pieces: Vec<Piece>,
    },
    Zeros {
        leaf: u32,
        slot: u32,
        start: u32,
        count: u32,
        fp: u64,
    },
    /// A task is through: `changed` blocks of it are in frames or zeros (sent, or still to come).
    Done {
        leaf: u32,
        slot: u32,
        changed: u32,
        end: Option<u64>,
        torn: bool,
        unsettled: bool,
        damaged: Vec<(u32, String)>,
        watched: Watched,
        rewritten: u64,
    },
    /// The file is gone: nothing of it is kept.
    Gone {
        leaf: u32,
        slot: u32,
    },
    PackDone(PackInfo),
}

/// What reading blocks that should not have changed showed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watched {
    /// So many were read.
    pub blocks: u64,
    /// Of those differed in what is not logged, or were written after the window.
    pub excused: u64,
    /// Of those the window should have named.
    pub missed: u64,
}

/// With what blocks that should not have changed are judged.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    /// The window's start.
    pub from: Lsn,
    /// The parent's pages are those of this server, and hints are logged: nothing changes without a record.
    pub exact: bool,
}

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    pub block_size: u32,
    pub checksums: bool,
    pub start_lsn: Lsn,
    /// There is a window.
    pub watch: Option<Watch>,
    /// The server's insert position as last asked; refreshed by the keepalive.
    pub insert_lsn: AtomicU64,
    /// Set when a worker meets a page from beyond it: the keepalive asks again soon.
    pub want_lsn: AtomicBool,
    pub digests: Digests,
    pub frame_size: usize,
    pub pack_size: u64,
    pub stop: AtomicBool,
    pub monitor: Arc<dyn Monitor>,
    /// Bytes per second that all workers together may read; 0 = no limit.
    pub rate: u64,
    pub read_bytes: AtomicU64,
    /// Damaged pages so far.
    pub damaged: AtomicU64,
    pub begun: std::time::Instant,
}

/// Opens the next pack of a worker.
pub trait Packs: Sync {
    fn open(&self) -> Result<PackWriter, VaultError>;
}

/// One worker.
pub struct Worker<'a> {
    shared: &'a Shared,
    packs: &'a dyn Packs,
    compressor: Compressor,
    pack: Option<PackWriter>,
    finishing: Vec<(PackInfo, std::thread::JoinHandle<Result<(), VaultError>>)>,
    frame: Vec<u8>,
    len: usize,
    pieces: Vec<Piece>,
    /// The file of the last task.
    open: Option<(Arc<FileJob>, File)>,
    out: Sender<Found>,
}

impl std::fmt::Debug for Worker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl<'a> Worker<'a> {
    pub fn new(shared: &'a Shared, packs: &'a dyn Packs, compressor: Compressor, out: Sender<Found>) -> Self {
        Worker {
            shared,
            packs,
            compressor,
            pack: None,
            finishing: Vec::new(),
            // Room behind the frame: a read may overshoot its end by less than a block.
            frame: vec![0; shared.frame_size],
            len: 0,
            pieces: Vec::new(),
            open: None,
            out,
        }
    }

    /// Works until the channel is empty and closed; then flushes and finishes its packs.
    pub fn run(mut self, tasks: Receiver<Vec<ReadTask>>) -> Result<()> {
        let result = self.work(&tasks);
        if result.is_err() {
            self.shared.stop.store(true, Ordering::Relaxed);
            if let Some(p) = self.pack.take() {
                p.abort();
            }
        }
        result
    }

    fn work(&mut self, tasks: &Receiver<Vec<ReadTask>>) -> Result<()> {
        for batch in tasks.iter() {
            for task in batch {
                if self.shared.stop.load(Ordering::Relaxed) || self.shared.monitor.cancelled() {
                    return Err(EngineError::Cancelled);
                }
                self.task(&task)?;
            }
        }
        self.flush()?;
        self.close_pack()?;
        for (info, join) in std::mem::take(&mut self.finishing) {
            join.join().map_err(|_| EngineError::Worker("upload".into()))??;
            self.send(Found::PackDone(info))?;
        }
        Ok(())
    }

    fn send(&self, f: Found) -> Result<()> {
        self.out.send(f).map_err(|_| EngineError::Cancelled)
    }

    fn task(&mut self, task: &ReadTask) -> Result<()> {
        let f = &task.file;
        let bs = u64::from(self.shared.block_size);
        if let Some(data) = &task.data {
            return self.given(f, task.first, data);
        }
        // Scattered blocks of one file come as many tasks.
        let file = match self.open.take() {
            Some((job, file)) if Arc::ptr_eq(&job, f) => file,
            _ => match File::open(&f.path) {
                Ok(file) => file,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    return self.send(Found::Gone { leaf: f.leaf, slot: f.slot });
                }
                Err(e) => return Err(EngineError::io("read", &f.path)(e)),
            },
        };
        let stop_at = (u64::from(task.first) + u64::from(task.count)) * bs;
        let stop_at = stop_at.min(f.size);
        let mut at = u64::from(task.first) * bs;
        if stop_at - at > 1 << 20 {
            let _ = rustix::fs::fadvise(
                &file,
                at,
                std::num::NonZeroU64::new(stop_at - at),
                rustix::fs::Advice::WillNeed,
            );
        }
        let mut state = TaskState::default();
        while at < stop_at {
            self.throttle();
            // Whole blocks only, but for the last of the file.
            let mut room = self.shared.frame_size - self.len;
            if (room as u64) < bs {
                self.flush()?;
                room = self.shared.frame_size;
            }
            let room = room as u64 - room as u64 % bs;
            let want = (stop_at - at).min(room) as usize;
            let into = self.frame.get_mut(self.len..self.len + want).unwrap_or(&mut []);
            let got = read_full(&file, into, at).map_err(EngineError::io("read", &f.path))?;
            self.shared.monitor.advance(got as u64);
            self.shared.read_bytes.fetch_add(got as u64, Ordering::Relaxed);
            self.blocks(f, Some(&file), (at / bs) as u32, got, &mut state)?;
            at += got as u64;
            if got < want {
                // Truncated meanwhile: WAL has the truncation.
                state.end = Some(at);
                break;
            }
        }
        self.open = Some((f.clone(), file));
        self.done(f, state)
    }

    /// Blocks that came over the network: judged as they are, because they cannot be read again.
    fn given(&mut self, f: &Arc<FileJob>, first: u32, data: &[u8]) -> Result<()> {
        let bs = self.shared.block_size as usize;
        let mut state = TaskState::default();
        let (mut block, mut rest) = (first, data);
        while !rest.is_empty() {
            let mut room = self.shared.frame_size - self.len;
            if room < bs {
                self.flush()?;
                room = self.shared.frame_size;
            }
            let (now, later) = rest.split_at(rest.len().min(room - room % bs));
            if let Some(into) = self.frame.get_mut(self.len..self.len + now.len()) {
                into.copy_from_slice(now);
            }
            self.blocks(f, None, block, now.len(), &mut state)?;
            block += (now.len() / bs) as u32;
            rest = later;
        }
        self.done(f, state)
    }

    fn done(&mut self, f: &FileJob, mut state: TaskState) -> Result<()> {
        self.send_zeros(f, &mut state)?;
        self.send(Found::Done {
            leaf: f.leaf,
            slot: f.slot,
            changed: state.changed,
            end: state.end,
            torn: state.torn,
            unsettled: state.unsettled,
            damaged: state.damaged,
            watched: state.watched,
            rewritten: state.rewritten,
        })
    }

    /// Judges the `got` bytes behind the frame's fill and keeps what has to be stored.
    fn blocks(
        &mut self,
        f: &Arc<FileJob>,
        file: Option<&File>,
        first: u32,
        got: usize,
        st: &mut TaskState,
    ) -> Result<()> {
        let bs = self.shared.block_size as usize;
        let base = self.len;
        let mut offset = 0usize;
        while offset < got {
            let n = (got - offset).min(bs);
            let block = first + (offset / bs) as u32;
            let from = base + offset;
            if let Some(relation) = f.first_block_of_relation
                && n == bs
            {
                self.check_page(f, file, relation, block, from, st)?;
            }
            let bytes = self.frame.get(from..from + n).unwrap_or(&[]);
            let fp = self.shared.digests.block(bytes);
            let same = f.parent.as_ref().is_some_and(|p| p.is_same(block, n, fp));
            if let (Some(told), Some(watch)) = (&f.told, self.shared.watch)
                && !contains(told, block)
            {
                st.watched.blocks += 1;
                let rotten = st.damaged.last().is_some_and(|(b, _)| *b == block);
                match same {
                    true => {}
                    false if rotten || watch.excuses(bytes, self.shared.start_lsn) => {
                        st.watched.excused += 1;
                    }
                    // It may be on its way to disk at this moment: the old header before a new content.
                    // A few are enough for the alarm: no pause for each of thousands.
                    false if st.watched.missed < 16 && is_changing(file, f, block, bytes)? => {
                        st.watched.excused += 1;
                    }
                    false => st.watched.missed += 1,
                }
            }
            if same && !contains(&f.rewrite, block) {
                offset += n;
                continue;
            }
            st.rewritten += u64::from(same);
            st.changed += 1;
            if page::is_new(bytes) {
                self.zeros(f, block, fp, st)?;
                offset += n;
                continue;
            }
            if from != self.len {
                self.frame.copy_within(from..from + n, self.len);
            }
            self.keep(f, block, fp);
            self.len += n;
            offset += n;
        }
        Ok(())
    }

    /// Neighbouring zeros share a message: a sparse file would send one per block otherwise.
    fn zeros(&mut self, f: &FileJob, block: u32, fp: u64, st: &mut TaskState) -> Result<()> {
        match &mut st.zeros {
            Some((start, count, same)) if *start + *count == block && *same == fp => {
                *count += 1;
                Ok(())
            }
            _ => {
                self.send_zeros(f, st)?;
                st.zeros = Some((block, 1, fp));
                Ok(())
            }
        }
    }

    fn send_zeros(&mut self, f: &FileJob, st: &mut TaskState) -> Result<()> {
        match st.zeros.take() {
            Some((start, count, fp)) => {
                self.send(Found::Zeros { leaf: f.leaf, slot: f.slot, start, count, fp })
            }
            None => Ok(()),
        }
    }

    fn keep(&mut self, f: &FileJob, block: u32, fp: u64) {
        let bs = self.shared.block_size;
        let at = self.len as u32;
        if let Some(p) = self.pieces.last_mut()
            && (p.leaf, p.slot) == (f.leaf, f.slot)
            && p.start + p.count == block
            && p.at + p.count * bs == at
        {
            p.count += 1;
            p.fps.push(fp);
            return;
        }
        self.pieces.push(Piece { leaf: f.leaf, slot: f.slot, start: block, count: 1, at, fps: vec![fp] });
    }

    /// §2.13 and trap 15: a page that does not check out is torn (WAL repairs it), was being written
    /// (read it again), or is damaged (stored as it is, and said so).
    fn check_page(
        &mut self,
        f: &FileJob,
        file: Option<&File>,
        relation: u32,
        block: u32,
        from: usize,
        st: &mut TaskState,
    ) -> Result<()> {
        let bs = self.shared.block_size as usize;
        let number = relation.wrapping_add(block);
        let verify = |b: &[u8]| page::verify_page(b, number, self.shared.checksums);
        let Some(bytes) = self.frame.get_mut(from..from + bs) else { return Ok(()) };
        if verify(bytes).is_good() {
            return Ok(());
        }
        let original = bytes.to_vec();
        // A disk full of damage must not cost half a second a page.
        let patience = if self.shared.damaged.load(Ordering::Relaxed) < 100 { 10 } else { 3 };
        for attempt in 0..patience {
            if self.shared.covered(bytes) {
                st.torn = true;
                return Ok(());
            }
            let Some(file) = file else { break };
            std::thread::sleep(Duration::from_millis(10 * attempt));
            let again = read_full(file, bytes, u64::from(block) * bs as u64)
                .map_err(EngineError::io("read", &f.path))?;
            if again < bs {
                // Truncated under our hands: the task's end will be found by the next read.
                bytes.copy_from_slice(&original);
                st.torn = true;
                st.unsettled = true;
                return Ok(());
            }
            if verify(bytes).is_good() {
                return Ok(());
            }
            if attempt >= 5 && *bytes != original[..] {
                // Still changing after a while: whoever writes it also logs it.
                st.torn = true;
                st.unsettled = true;
                return Ok(());
            }
        }
        let what = match verify(bytes) {
            PageCheck::BadChecksum { stored, computed, .. } => {
                format!("its checksum is {stored:04x} and should be {computed:04x}")
            }
            _ => "its header is malformed".to_string(),
        };
        self.shared.monitor.warning(format!("page {block} of {} is damaged: {what}", f.name));
        self.shared.damaged.fetch_add(1, Ordering::Relaxed);
        st.damaged.push((block, what));
        Ok(())
    }

    /// Seals what the frame holds.
    fn flush(&mut self) -> Result<()> {
        if self.len == 0 {
            return Ok(());
        }
        if self.pack.as_ref().is_some_and(|p| p.len() >= self.shared.pack_size) {
            self.close_pack()?;
        }
        let mut pack = match self.pack.take() {
            Some(p) => p,
            None => self.packs.open()?,
        };
        let plain = self.frame.get(..self.len).unwrap_or(&[]);
        let loc = pack.frame(plain, &mut self.compressor);
        self.pack = Some(pack);
        let loc = loc?;
        self.len = 0;
        let pieces = std::mem::take(&mut self.pieces);
        self.send(Found::Frame { loc, pieces })
    }

    /// Ends the current pack. Making it durable (fsync, or the last parts of an upload) goes on beside
    /// the work; at most two packs of a worker are in that state.
    fn close_pack(&mut self) -> Result<()> {
        let Some(pack) = self.pack.take() else { return Ok(()) };
        let (info, sink): (PackInfo, Box<dyn PartSink>) = pack.finish()?;
        self.finishing.push((info, std::thread::spawn(move || sink.finish())));
        if self.finishing.len() > 2 {
            let (info, join) = self.finishing.remove(0);
            join.join().map_err(|_| EngineError::Worker("upload".into()))??;
            self.send(Found::PackDone(info))?;
        }
        Ok(())
    }

    fn throttle(&self) {
        let rate = self.shared.rate;
        if rate == 0 {
            return;
        }
        let due = self.shared.read_bytes.load(Ordering::Relaxed) as f64 / rate as f64;
        let ahead = due - self.shared.begun.elapsed().as_secs_f64();
        if ahead > 0.0 {
            std::thread::sleep(Duration::from_secs_f64(ahead.min(1.0)));
        }
    }
}

#[derive(Debug, Default)]
struct TaskState {
    changed: u32,
    end: Option<u64>,
    torn: bool,
    /// A page was taken that nothing vouches for: the next run reads the file whole.
    unsettled: bool,
    damaged: Vec<(u32, String)>,
    watched: Watched,
    /// Unchanged blocks that were stored anew.
    rewritten: u64,
    /// Start, count and fingerprint of zeros that were not sent yet.
    zeros: Option<(u32, u32, u64)>,
}

impl Watch {
    /// May this page differ from the parent's although no record of the window names it? One that was
    /// written after the window belongs to the next one; an SP-GiST metapage has a cache that is never
    /// logged. Where hints are not logged, or the parent is of another server, one whose LSN did not move since
    /// the window's start.
    fn excuses(&self, page: &[u8], redo: Lsn) -> bool {
        // Zeros come without a record when a file grows, again after it was cut behind the window.
        let lsn = page::page_lsn(page).unwrap_or_default();
        lsn >= redo
            || page::is_new(page)
            || page::is_spgist_metapage(page)
            || (!self.exact && lsn < self.from)
    }
}

impl Shared {
    /// Was the page written since the backup began? Then WAL that the point has repairs it. Its LSN
    /// must also not lie beyond what the server has reached: rubbish would pass otherwise.
    fn covered(&self, page: &[u8]) -> bool {
        let Some(lsn) = page::page_lsn(page) else { return false };
        if lsn < self.start_lsn {
            return false;
        }
        for _ in 0..40 {
            if lsn.0 <= self.insert_lsn.load(Ordering::Relaxed) {
                return true;
            }
            self.want_lsn.store(true, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

/// Is a block another one a moment later?
fn is_changing(file: Option<&File>, f: &FileJob, block: u32, seen: &[u8]) -> Result<bool> {
    let Some(file) = file else { return Ok(false) };
    std::thread::sleep(Duration::from_millis(50));
    let mut again = vec![0; seen.len()];
    let at = u64::from(block) * seen.len() as u64;
    let n = read_full(file, &mut again, at).map_err(EngineError::io("read", &f.path))?;
    Ok(n < seen.len() || again != seen)
}

/// Reads until `buf` is full or the file ends.
fn read_full(file: &File, buf: &mut [u8], mut at: u64) -> std::io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..)
        && !rest.is_empty()
    {
        match file.read_at(rest, at) {
            Ok(0) => break,
            Ok(n) => {
                done += n;
                at += n as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Hands out pack ids and writers of one run.
pub struct RunPacks {
    pub cluster: holdfast_vault::ClusterVault,
    pub run: holdfast_core::RunId,
    pub next: std::sync::atomic::AtomicU32,
    pub set: holdfast_vault::reader::PackSet,
    pub rt: tokio::runtime::Handle,
}

impl std::fmt::Debug for RunPacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunPacks").field("run", &self.run).finish_non_exhaustive()
    }
}

impl Packs for RunPacks {
    fn open(&self) -> Result<PackWriter, VaultError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = PackId { run: self.run.clone(), class: holdfast_vault::PackClass::Data, number };
        let handle = self.set.intern(&id);
        self.cluster.pack_writer(id, handle, &self.rt)
    }
}
