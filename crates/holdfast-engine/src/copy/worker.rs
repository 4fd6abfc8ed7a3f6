//! Worker threads of a copy: fetch frames of the source, open them, judge each block, seal what the target
//! lacks.
//!
//! A frame is opened once, however many files share it, and nothing of it is believed before its seal
//! opened. Every block is then compared with the fingerprint that the source's map has for it, so what
//! arrives is what the backup read; a map that points at another frame, or a frame that was exchanged, is
//! found here and named.
//!
//! Invariant, as of a backup: a block goes to the collector exactly once, as part of a frame, as zeros, or
//! as unchanged.

use crate::backup::plan::ParentFile;
use crate::backup::worker::{Found, Packs, Piece, Watched};
use crate::error::{EngineError, Result};
use crossbeam_channel::{Receiver, Sender};
use holdfast_core::Monitor;
use holdfast_vault::VaultError;
use holdfast_vault::codec::{Compressor, Decompressor};
use holdfast_vault::digest::Digests;
use holdfast_vault::pack::{FrameLoc, PackInfo, PackWriter, PartSink};
use holdfast_vault::reader::PackSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A file of which blocks are wanted. `leaf` and `slot` say where its entry waits in the collector.
#[derive(Debug)]
pub struct CopyFile {
    pub leaf: u32,
    pub slot: u32,
    pub name: String,
    pub size: u64,
    /// What the target has of it.
    pub parent: Option<Arc<ParentFile>>,
    /// Pieces that are not through yet.
    pub left: AtomicU32,
    pub changed: AtomicU32,
}

impl CopyFile {
    /// One piece is through; the last one says so to the collector.
    pub fn done(&self, out: &Sender<Found>) -> Result<()> {
        if self.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return Ok(());
        }
        let done = Found::Done {
            leaf: self.leaf,
            slot: self.slot,
            changed: self.changed.load(Ordering::Acquire),
            end: None,
            torn: false,
            unsettled: false,
            damaged: Vec::new(),
            watched: Watched::default(),
            rewritten: 0,
        };
        out.send(done).map_err(|_| EngineError::Cancelled)
    }
}

/// Blocks of a file that lie one after another in a frame of the source.
#[derive(Debug)]
pub struct Want {
    pub file: Arc<CopyFile>,
    pub start: u32,
    /// Offset of the first block in the frame's plain content.
    pub at: u32,
    /// What the source says of each.
    pub fps: Vec<u64>,
}

/// Neighbouring frames of one pack of the source.
#[derive(Debug)]
pub struct ReadJob {
    pub pack: u32,
    pub from: u64,
    pub to: u64,
    pub frames: Vec<(FrameLoc, Vec<Want>)>,
}

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    pub source: PackSet,
    /// What the policy calls the vault of it.
    pub source_name: String,
    pub rt: tokio::runtime::Handle,
    pub block_size: u32,
    /// Of the source's cluster, and of the target's.
    pub theirs: Digests,
    pub ours: Digests,
    /// They are the same.
    pub one_secret: bool,
    pub frame_size: usize,
    pub pack_size: u64,
    pub stop: AtomicBool,
    pub monitor: Arc<dyn Monitor>,
    /// Bytes per second that all workers together may read; 0 = no limit.
    pub rate: u64,
    pub read_bytes: AtomicU64,
    pub begun: Instant,
}

/// One worker.
pub struct Worker<'a> {
    shared: &'a Shared,
    packs: &'a dyn Packs,
    compressor: Compressor,
    pack: Option<PackWriter>,
    finishing: Vec<(PackInfo, std::thread::JoinHandle<Result<(), VaultError>>)>,
    frame: Vec<u8>,
    pieces: Vec<Piece>,
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
            frame: Vec::with_capacity(shared.frame_size),
            pieces: Vec::new(),
            out,
        }
    }

    /// Works until the channel is empty and closed; then flushes and finishes its packs.
    pub fn run(mut self, jobs: &Receiver<ReadJob>) -> Result<()> {
        let result = self.work(jobs);
        if result.is_err() {
            self.shared.stop.store(true, Ordering::Relaxed);
            if let Some(p) = self.pack.take() {
                p.abort();
            }
            // The planner must not be left waiting for room.
            for _ in jobs.try_iter() {}
        }
        result
    }

    fn work(&mut self, jobs: &Receiver<ReadJob>) -> Result<()> {
        let mut d = Decompressor::new().map_err(|e| EngineError::Worker(e.to_string()))?;
        let (mut sealed, mut plain) = (Vec::new(), Vec::new());
        for job in jobs.iter() {
            if self.shared.stop.load(Ordering::Relaxed) || self.shared.monitor.cancelled() {
                return Err(EngineError::Cancelled);
            }
            self.throttle();
            let source = &self.shared.source;
            let bytes = self.shared.rt.block_on(async {
                let reader = source.reader(job.pack).await?;
                let bytes = source.cluster().store().get_range(reader.name(), job.from..job.to).await?;
                Ok::<_, VaultError>((reader, bytes))
            });
            let theirs = |e: VaultError| in_vault(&self.shared.source_name, e);
            let (reader, bytes) = bytes.map_err(theirs)?;
            self.shared.read_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            for (loc, wants) in job.frames {
                let (a, b) = ((loc.offset - job.from) as usize, (loc.end() - job.from) as usize);
                sealed.clear();
                sealed.extend_from_slice(
                    bytes.get(a..b).ok_or_else(|| theirs(damaged(reader.name(), "a frame is missing")))?,
                );
                reader.frame(&loc, &mut sealed, &mut d, &mut plain).map_err(theirs)?;
                for w in wants {
                    self.want(&w, &plain, &loc, reader.name())?;
                    w.file.done(&self.out)?;
                }
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

    /// Judges the blocks of one piece and keeps what the target lacks.
    fn want(&mut self, w: &Want, plain: &[u8], loc: &FrameLoc, pack: &str) -> Result<()> {
        let bs = u64::from(self.shared.block_size);
        for (i, theirs) in w.fps.iter().enumerate() {
            let block = w.start + i as u32;
            let len = w.file.size.saturating_sub(u64::from(block) * bs).min(bs) as usize;
            let from = w.at as usize + i * bs as usize;
            let bytes = plain
                .get(from..from + len)
                .ok_or_else(|| self.theirs(pack, "a map names blocks that a frame does not have".into()))?;
            if self.shared.theirs.block(bytes) != *theirs {
                let what = format!(
                    "frame {} holds something else than block {block} of `{}`",
                    loc.index, w.file.name
                );
                return Err(self.theirs(pack, what));
            }
            self.shared.monitor.advance(len as u64);
            let fp = if self.shared.one_secret { *theirs } else { self.shared.ours.block(bytes) };
            if w.file.parent.as_ref().is_some_and(|p| p.is_same(block, len, fp)) {
                continue;
            }
            w.file.changed.fetch_add(1, Ordering::AcqRel);
            self.keep(&w.file, block, bytes, fp)?;
        }
        Ok(())
    }

    /// Damage of the source.
    fn theirs(&self, pack: &str, what: String) -> EngineError {
        in_vault(&self.shared.source_name, damaged(pack, &what)).into()
    }

    fn keep(&mut self, file: &CopyFile, block: u32, bytes: &[u8], fp: u64) -> Result<()> {
        if self.frame.len() + bytes.len() > self.shared.frame_size {
            self.flush()?;
        }
        let (bs, at) = (self.shared.block_size, self.frame.len() as u32);
        self.frame.extend_from_slice(bytes);
        if let Some(p) = self.pieces.last_mut()
            && (p.leaf, p.slot) == (file.leaf, file.slot)
            && p.start + p.count == block
            && p.at + p.count * bs == at
        {
            p.count += 1;
            p.fps.push(fp);
            return Ok(());
        }
        let (leaf, slot) = (file.leaf, file.slot);
        self.pieces.push(Piece { leaf, slot, start: block, count: 1, at, fps: vec![fp] });
        Ok(())
    }

    /// Seals what the frame holds.
    fn flush(&mut self) -> Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        if self.pack.as_ref().is_some_and(|p| p.len() >= self.shared.pack_size) {
            self.close_pack()?;
        }
        let mut pack = match self.pack.take() {
            Some(p) => p,
            None => self.packs.open()?,
        };
        let loc = pack.frame(&self.frame, &mut self.compressor);
        self.pack = Some(pack);
        let loc = loc?;
        self.frame.clear();
        let pieces = std::mem::take(&mut self.pieces);
        self.send(Found::Frame { loc, pieces })
    }

    /// Ends the current pack; making it durable goes on beside the work, of at most two at a time.
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
        while rate > 0 && !self.shared.stop.load(Ordering::Relaxed) && !self.shared.monitor.cancelled() {
            let due = self.shared.read_bytes.load(Ordering::Relaxed) as f64 / rate as f64;
            let ahead = due - self.shared.begun.elapsed().as_secs_f64();
            if ahead <= 0.0 {
                return;
            }
            std::thread::sleep(Duration::from_secs_f64(ahead.min(1.0)));
        }
    }
}

/// Names are relative to their vault, and two of them are in play: damage says which one it is in.
pub fn in_vault(vault: &str, e: VaultError) -> VaultError {
    match e {
        VaultError::Damaged { name, what } => {
            VaultError::Damaged { name, what: format!("{what} (in vault `{vault}`)") }
        }
        VaultError::Codec { name, what } => {
            VaultError::Codec { name, what: format!("{what} (in vault `{vault}`)") }
        }
        other => other,
    }
}

fn damaged(name: &str, what: &str) -> VaultError {
    VaultError::Damaged { name: name.into(), what: what.into() }
}
