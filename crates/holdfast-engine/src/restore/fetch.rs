//! Fetches the blocks that are wanted, frame by frame in the order of the packs, and writes them.

use super::files::{Put, Shared, Target};
use crate::error::{EngineError, Result};
use crossbeam_channel::{Receiver, Sender};
use holdfast_vault::VaultError;
use holdfast_vault::codec::Decompressor;
use holdfast_vault::pack::FrameLoc;
use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Frames per batch: bounds what is planned in memory to a few MiB.
const BATCH_FRAMES: usize = 16_384;
/// One read fetches at most this much, and bridges gaps up to this.
const READ_BYTES: u64 = 4 << 20;
const GAP_BYTES: u64 = 64 << 10;

/// Blocks to fetch, with the frame that has each.
pub(super) type Wanted = Vec<(FrameLoc, Put)>;

/// Neighbouring frames of one pack.
#[derive(Debug)]
pub(super) struct ReadJob {
    pack: u32,
    from: u64,
    to: u64,
    frames: Vec<(FrameLoc, Vec<Put>)>,
}

/// Gathers wanted blocks by frame, until there are enough to be sorted by place.
pub(super) fn batches(shared: &Shared<'_>, wanted: &Receiver<Wanted>, jobs: &Sender<ReadJob>) -> Result<()> {
    let mut frames: HashMap<FrameLoc, Vec<Put>> = HashMap::new();
    for some in wanted.iter() {
        for (loc, put) in some {
            frames.entry(loc).or_default().push(put);
        }
        if shared.stop.load(Ordering::Relaxed) {
            return Err(EngineError::Cancelled);
        }
        if frames.len() >= BATCH_FRAMES {
            send(&mut frames, jobs)?;
        }
    }
    // Not after a failure: what was planned is not complete.
    if shared.stop.load(Ordering::Relaxed) { Err(EngineError::Cancelled) } else { send(&mut frames, jobs) }
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

/// Reads, opens and writes until there are no more jobs.
pub(super) fn worker(
    shared: &Shared<'_>,
    jobs: &Receiver<ReadJob>,
    sync: &Sender<Arc<Target>>,
) -> Result<()> {
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
                    p.target.done(sync)?;
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
