//! What recovery does to whole directories: tablespaces that it would create ([`in_replay`]), databases
//! that it would copy file by file ([`copies_in_replay`]).
//!
//! A restored copy replays `CREATE TABLESPACE` with the source's path
//! (`create_tablespace_directories`, src/backend/commands/tablespace.c), which no map changes. The
//! heads of the segments say where such records are; only those segments are read.

use super::target::scan;
use crate::error::Result;
use crate::wal::archive::WalArchive;
use futures::{StreamExt, TryStreamExt};
use holdfast_core::{Lsn, SegmentName};
use holdfast_pgformat::dirops::{DirectoryOps, Held};
use holdfast_pgformat::wal::{StorageRecord, XactKind, XactRecord};
use std::path::PathBuf;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTablespace {
    pub oid: u32,
    pub path: PathBuf,
    /// Of the record.
    pub lsn: Lsn,
}

/// A database that replay makes (or moves) by copying the files of one that the copy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopiedDatabase {
    pub database: u32,
    pub source: u32,
    /// Of the record.
    pub lsn: Lsn,
}

/// How far replay goes: until a position, or until a transaction that ends behind a time (microseconds
/// since 1970).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until {
    pub lsn: Lsn,
    pub time: i64,
}

/// Heads that are read at once.
const PARALLEL_HEADS: usize = 16;

/// The tablespaces that replay of `wal` creates.
pub async fn in_replay(
    archive: &WalArchive,
    wal: &[SegmentName],
    until: Until,
) -> Result<Vec<CreatedTablespace>> {
    let mut found: Vec<CreatedTablespace> = Vec::new();
    look(archive, wal, until, |h| h.tablespaces, &mut |lsn, record| {
        if let StorageRecord::CreateTablespace { tablespace, path } = record
            && !path.is_empty()
        {
            let t = CreatedTablespace { oid: tablespace, path: PathBuf::from(path), lsn };
            if !found.contains(&t) {
                found.push(t);
            }
        }
    })
    .await?;
    Ok(found)
}

/// The databases that replay of `wal` copies, in order.
pub async fn copies_in_replay(
    archive: &WalArchive,
    wal: &[SegmentName],
    until: Until,
) -> Result<Vec<CopiedDatabase>> {
    let mut found: Vec<CopiedDatabase> = Vec::new();
    look(archive, wal, until, |h| h.copies, &mut |lsn, record| {
        if let StorageRecord::CreateDatabaseCopy { database, source_database, .. } = record {
            let c = CopiedDatabase { database, source: source_database, lsn };
            // A record at the end of a segment is met twice.
            if !found.contains(&c) {
                found.push(c);
            }
        }
    })
    .await?;
    found.sort_by_key(|c| c.lsn);
    Ok(found)
}

/// Reads the segments that may hold what is wanted.
async fn look(
    archive: &WalArchive,
    wal: &[SegmentName],
    until: Until,
    wanted: fn(&Held) -> bool,
    each: &mut dyn FnMut(Lsn, StorageRecord),
) -> Result<()> {
    let size = archive.segment_size();
    let reach = wal.partition_point(|s| s.start(size) <= until.lsn);
    let mut heads = futures::stream::iter(wal.get(..reach).unwrap_or(wal))
        .map(|s| archive.head(*s))
        .buffered(PARALLEL_HEADS);
    let mut ops = Vec::new();
    while let Some(h) = heads.try_next().await? {
        ops.push(DirectoryOps::from_bits(h.facts.flags));
        if h.facts.first_time > until.time {
            break;
        }
    }
    drop(heads);
    for (i, held) in DirectoryOps::of_sequence(&ops).into_iter().enumerate() {
        // The last one's cut header belongs to a record that ends behind the target.
        let unlooked = held.unknown && i + 1 < ops.len();
        if !wanted(&held) && !unlooked {
            continue;
        }
        // A record may go on in the next segment.
        let stretch = wal.get(i..wal.len().min(i + 2)).unwrap_or_default();
        scan(archive, stretch, &mut |r, major| {
            if r.lsn > until.lsn {
                return false;
            }
            if let Ok(Some(x)) = XactRecord::decode(r, major)
                && x.kind != XactKind::Prepare
                && x.time.unix_micros() > until.time
            {
                return false;
            }
            if let Ok(Some(record)) = StorageRecord::decode(r) {
                each(r.lsn, record);
            }
            true
        })
        .await?;
    }
    Ok(())
}
