//! R10: a point is complete with its WAL. Makes sure that every segment from start to stop is durable
//! in this vault before the point commits.
//!
//! The archiver is given a short while for what it has not pushed yet; then the segments are taken
//! from `pg_wal` by the run itself: they are finished (`pg_backup_stop` switched the segment), pushing
//! the same content twice is success, and so a slow or broken archiver never makes a backup fail or
//! wait. If it is broken, the run says so.

use crate::context::Context;
use crate::error::{EngineError, Result};
use crate::wal::archive::segment_head;
use crate::wal::file::WalFile;
use crate::wal::push::store;
use holdfast_core::policy::Compression;
use holdfast_core::{Lsn, SegmentName, TimelineId};
use holdfast_pgformat::dirops::DirectoryOps;
use holdfast_pgformat::walname::WalFileName;
use holdfast_vault::ClusterVault;
use holdfast_vault::point::WalNeed;
use holdfast_vault::vault::hex;
use std::path::Path;
use std::time::{Duration, Instant};

/// How the needed segments came in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gathered {
    pub needs: Vec<WalNeed>,
    pub stored_by_run: u64,
    pub stored_bytes: u64,
    /// What the segments do to whole directories, in order.
    pub directory_ops: Vec<DirectoryOps>,
}

impl Gathered {
    /// Replay copies the directory of a database as the *copy* has it. If its source dropped it before
    /// this run came by, the copy has an empty one, and that would replace what the run took.
    pub fn refuse_lost_copies(&self) -> Result<()> {
        let held = DirectoryOps::of_sequence(&self.directory_ops);
        if held.iter().any(|h| h.copies) && held.iter().any(|h| h.drops) {
            return Err(EngineError::failed(
                "during the backup a database was copied file by file and one was dropped or moved: \
                 recovery could not repeat that",
                "run the backup again when `alter database … set tablespace` and `create database … \
                 strategy file_copy` are done",
            ));
        }
        Ok(())
    }
}

/// Stores finished segments while files are copied, when no archiver does: the server keeps its WAL
/// for a checkpoint or two only, and a backup may take many.
#[derive(Debug)]
pub struct Early {
    timeline: TimelineId,
    next: u64,
    pub stored_by_run: u64,
    pub stored_bytes: u64,
}

impl Early {
    pub fn new(cluster: &ClusterVault, timeline: TimelineId, start: Lsn) -> Self {
        let next = cluster.record().wal_segment_size.segment_of(start);
        Early { timeline, next, stored_by_run: 0, stored_bytes: 0 }
    }

    /// `flushed`: everything before it is in the files of `pg_wal`.
    pub async fn advance(
        &mut self,
        ctx: &Context,
        cluster: &ClusterVault,
        compression: Compression,
        data_dir: &Path,
        flushed: Lsn,
    ) -> Result<()> {
        let size = cluster.record().wal_segment_size;
        while self.next < size.segment_of(flushed) {
            let s = SegmentName::new(self.timeline, self.next, size);
            let got = gather(ctx, cluster, compression, data_dir, &[s], false).await?;
            self.stored_by_run += got.stored_by_run;
            self.stored_bytes += got.stored_bytes;
            self.next += 1;
        }
        Ok(())
    }
}

/// Segments of one timeline from `start` to `stop`.
pub fn segments(cluster: &ClusterVault, t: TimelineId, start: Lsn, stop: Lsn) -> Vec<SegmentName> {
    let size = cluster.record().wal_segment_size;
    (size.segment_of(start)..=size.segment_before(stop)).map(|n| SegmentName::new(t, n, size)).collect()
}

/// Waits for, or stores, every segment.
pub async fn gather(
    ctx: &Context,
    cluster: &ClusterVault,
    compression: Compression,
    data_dir: &Path,
    wanted: &[SegmentName],
    archiver_works: bool,
) -> Result<Gathered> {
    let mut out = Gathered::default();
    let patience = if archiver_works { Duration::from_millis(200) } else { Duration::ZERO };
    let begin = Instant::now();
    for s in wanted {
        let head = loop {
            if let Some(h) = segment_head(cluster, *s).await? {
                same_as_local(cluster, data_dir, *s, &h.digest)?;
                break h;
            }
            if begin.elapsed() < patience {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            let (bytes, _) = store_one(cluster, compression, data_dir, *s).await?;
            out.stored_by_run += 1;
            out.stored_bytes += bytes;
            if ctx.monitor.cancelled() {
                return Err(EngineError::Cancelled);
            }
        };
        out.directory_ops.push(DirectoryOps::from_bits(head.facts.flags));
        out.needs.push(WalNeed { name: *s, digest: hex(&head.digest) });
    }
    Ok(out)
}

/// Stores one finished segment from `pg_wal`.
pub async fn store_one(
    cluster: &ClusterVault,
    compression: Compression,
    data_dir: &Path,
    s: SegmentName,
) -> Result<(u64, bool)> {
    let name = s.to_string();
    let path = data_dir.join("pg_wal").join(&name);
    let (_, control) = holdfast_pg::datadir::read_control(data_dir)?;
    let file = match WalFile::open(&path, &name, WalFileName::Segment(s), &control) {
        Err(EngineError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(EngineError::failed(
                format!("wal segment {name}, which the backup needs, is neither in the vault nor in pg_wal"),
                "turn on archive_mode with the archive_command that `holdfast doctor` prints, or raise wal_keep_size",
            ));
        }
        other => other?,
    };
    store(cluster, compression, &file).await
}

/// What the vault has under a segment's name must be what this server wrote: after a rollback of the
/// machine it may hold another future. While the file is still in pg_wal, that can be told.
pub(super) fn same_as_local(
    cluster: &ClusterVault,
    data_dir: &Path,
    s: SegmentName,
    digest: &[u8; 32],
) -> Result<()> {
    let Ok(bytes) = std::fs::read(data_dir.join("pg_wal").join(s.to_string())) else { return Ok(()) };
    if &cluster.digests().content(&bytes) == digest {
        return Ok(());
    }
    let name = cluster.path().segment(s.timeline, &s.to_string());
    Err(holdfast_vault::VaultError::WalConflict { name }.into())
}
