//! Compares a file that is there with the point, block by block, and asks for what differs.
//!
//! [`take_over`] makes length, mode and owner right, [`jobs`] cuts the file into parts, and [`worker`]
//! reads a part and compares each block's keyed fingerprint with the one that the vault holds. Blocks
//! that differ go, as [`Wanted`], to be fetched and written in place; blocks that must be zeros are
//! written here, for the vault does not store them.
//!
//! A crash leaves a file with some blocks of the point and some of before; the next comparison does not
//! mind. Memory: a part's buffer for each worker, and the maps of files whose parts are under way.

use super::fetch::Wanted;
use super::files::{Owner, Put, Shared, Target, put};
use crate::error::{EngineError, Result};
use crossbeam_channel::{Receiver, Sender};
use holdfast_vault::digest::Digests;
use holdfast_vault::manifest::Entry;
use holdfast_vault::map::{Layer, Run};
use holdfast_vault::pack::FrameLoc;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes of one part: workers share large files.
const PART_BYTES: u64 = 64 << 20;
/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;

/// What the point says of a file.
#[derive(Debug)]
struct Wants {
    flat: Layer,
    /// By block.
    fps: Vec<u64>,
}

/// A part of a file that is there.
#[derive(Debug)]
pub(super) struct CompareJob {
    target: Arc<Target>,
    wants: Arc<Wants>,
    /// Length that the file had: what lies behind it is zeros since its length was set.
    local_size: u64,
    first: u32,
    end: u32,
}

/// Opens a file that is there, to read and write; never through a link.
pub(super) fn open(path: &Path) -> Result<File> {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(path)
        .map_err(EngineError::io("open", path))
}

/// Gives a file that is there the length, mode and owner of the point's. Returns the length that it had;
/// `None` if there is no file, or none to write to: one with a second name is let go, because whoever
/// made that (a snapshot of hard links) counts on its content.
pub(super) fn take_over(path: &Path, entry: &Entry, owner: Owner) -> Result<Option<u64>> {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(m) => m,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(EngineError::io("look up", path)(e)),
    };
    if meta.nlink() > 1 || !meta.is_file() {
        std::fs::remove_file(path).map_err(EngineError::io("remove", path))?;
        return Ok(None);
    }
    if let Some((uid, gid)) = owner
        && (meta.uid(), meta.gid()) != (uid, gid)
    {
        super::files::chown(path, owner)?;
    }
    if meta.mode() & 0o7777 != entry.mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(entry.mode))
            .map_err(EngineError::io("set the mode of", path))?;
    }
    if meta.len() != entry.size {
        open(path)?.set_len(entry.size).map_err(EngineError::io("set the length of", path))?;
    }
    Ok(Some(meta.len()))
}

/// The parts of a file. All of them are counted before the first is handed out.
pub(super) fn jobs(
    target: Target,
    flat: Layer,
    fps: Vec<u64>,
    local_size: u64,
    block_size: u32,
) -> impl Iterator<Item = CompareJob> {
    let blocks = target.size.div_ceil(block_size.into()) as u32;
    let per_part = (PART_BYTES / u64::from(block_size)).max(1) as usize;
    let parts = (0..blocks).step_by(per_part);
    target.expect(parts.len());
    let (target, wants) = (Arc::new(target), Arc::new(Wants { flat, fps }));
    parts.map(move |first| CompareJob {
        target: target.clone(),
        wants: wants.clone(),
        local_size,
        first,
        end: first.saturating_add(per_part as u32).min(blocks),
    })
}

/// Compares parts until there are no more.
pub(super) fn worker(
    shared: &Shared<'_>,
    digests: &Digests,
    block_size: u32,
    jobs: &Receiver<CompareJob>,
    wanted: &Sender<Wanted>,
    sync: &Sender<Arc<Target>>,
) -> Result<()> {
    let size = READ_BYTES - READ_BYTES % block_size as usize;
    let mut buffer = vec![0u8; size.max(block_size as usize)];
    let result = (|| {
        for job in jobs.iter() {
            if shared.stop.load(Ordering::Relaxed) || shared.monitor.cancelled() {
                return Err(EngineError::Cancelled);
            }
            let differing = compare(shared, digests, block_size, &job, &mut buffer)?;
            if !differing.is_empty() {
                job.target.expect(differing.len());
                wanted.send(differing).map_err(|_| EngineError::Cancelled)?;
            }
            job.target.done(sync)?;
        }
        Ok(())
    })();
    if result.is_err() {
        shared.stop.store(true, Ordering::Relaxed);
    }
    result
}

/// One part: what of it must be fetched.
fn compare(
    shared: &Shared<'_>,
    digests: &Digests,
    block_size: u32,
    job: &CompareJob,
    buffer: &mut [u8],
) -> Result<Wanted> {
    let (t, bs) = (&job.target, u64::from(block_size));
    let file = open(&t.path)?;
    let mut found = Found { job, block_size, differing: Vec::new(), run: None, cursor: 0 };
    let runs = &job.wants.flat.runs;
    found.cursor = runs.partition_point(|r| r.end() <= job.first);
    // Blocks behind what was there are zeros.
    let there = (job.local_size.div_ceil(bs)).min(job.end.into()) as u32;
    let mut block = job.first;
    while block < there {
        let from = u64::from(block) * bs;
        let len = ((there - block) as u64 * bs).min(t.size - from).min(buffer.len() as u64) as usize;
        let bytes = buffer.get_mut(..len).unwrap_or(&mut []);
        file.read_exact_at(bytes, from).map_err(EngineError::io("read", &t.path))?;
        shared.written.compared.fetch_add(len as u64, Ordering::Relaxed);
        for piece in bytes.chunks(block_size as usize) {
            if job.wants.fps.get(block as usize) != Some(&digests.block(piece)) {
                found.add(block, true);
            }
            block += 1;
        }
    }
    for block in there.max(job.first)..job.end {
        found.add(block, false);
    }
    let (differing, zeros) = found.finish();
    let mut rest = t.size.min(u64::from(job.end) * bs) - u64::from(job.first) * bs;
    for (from, len) in zeros {
        write_zeros(&file, from, len).map_err(EngineError::io("write", &t.path))?;
        shared.written.bytes.fetch_add(len, Ordering::Relaxed);
    }
    for (_, p) in &differing {
        rest = rest.saturating_sub(p.len);
    }
    // The others count when they are written.
    shared.monitor.advance(rest);
    Ok(differing)
}

fn write_zeros(file: &File, from: u64, len: u64) -> std::io::Result<()> {
    let zeros = [0u8; 8192];
    let mut at = from;
    while at < from + len {
        let n = (from + len - at).min(zeros.len() as u64);
        file.write_all_at(zeros.get(..n as usize).unwrap_or(&zeros), at)?;
        at += n;
    }
    Ok(())
}

/// Joins blocks that differ into pieces of one run each.
struct Found<'a> {
    job: &'a CompareJob,
    block_size: u32,
    differing: Vec<Piece>,
    run: Option<Piece>,
    cursor: usize,
}

/// Blocks of one run, from and to.
#[derive(Clone, Copy)]
struct Piece {
    run: Run,
    from: u32,
    to: u32,
    there: bool,
}

impl Found<'_> {
    /// `there`: the file had something at that place.
    fn add(&mut self, block: u32, there: bool) {
        let runs = &self.job.wants.flat.runs;
        while runs.get(self.cursor).is_some_and(|r| r.end() <= block) {
            self.cursor += 1;
        }
        let Some(run) = runs.get(self.cursor) else { return };
        match &mut self.run {
            Some(p) if p.run == *run && p.to == block && p.there == there => p.to += 1,
            _ => {
                self.differing.extend(self.run.take());
                self.run = Some(Piece { run: *run, from: block, to: block + 1, there });
            }
        }
    }

    /// What to fetch, and where to write zeros (offset and length) over something else.
    fn finish(mut self) -> (Wanted, Vec<(u64, u64)>) {
        self.differing.extend(self.run.take());
        let (t, bs) = (&self.job.target, u64::from(self.block_size));
        let mut wanted: Vec<(FrameLoc, Put)> = Vec::new();
        let mut zeros = Vec::new();
        for p in &self.differing {
            match put(&self.job.wants.flat, &p.run, p.from, p.to, t, self.block_size) {
                Some(w) => wanted.push(w),
                None if p.there => {
                    let from = u64::from(p.from) * bs;
                    zeros.push((from, (u64::from(p.to) * bs).min(t.size) - from));
                }
                None => {}
            }
        }
        (wanted, zeros)
    }
}
