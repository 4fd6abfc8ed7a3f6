//! Tablespaces that recovery would create: [`in_replay`].
//!
//! A restored copy replays `CREATE TABLESPACE` with the source's path
//! (`create_tablespace_directories`, src/backend/commands/tablespace.c), which no map changes. The
//! heads of the segments say where such records are; only those segments are read.

use super::target::scan;
use crate::error::Result;
use crate::wal::archive::WalArchive;
use futures::{StreamExt, TryStreamExt};
use holdfast_core::{Lsn, SegmentName};
use holdfast_pgformat::dirops::DirectoryOps;
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

/// Heads that are read at once.
const PARALLEL_HEADS: usize = 16;

/// What replay of `wal` creates until `lsn`, or until a transaction that ends behind `time`
/// (microseconds since 1970).
pub async fn in_replay(
    archive: &WalArchive,
    wal: &[SegmentName],
    until: Lsn,
    time: i64,
) -> Result<Vec<CreatedTablespace>> {
    let size = archive.segment_size();
    let reach = wal.partition_point(|s| s.start(size) <= until);
    let mut heads = futures::stream::iter(wal.get(..reach).unwrap_or(wal))
        .map(|s| archive.head(*s))
        .buffered(PARALLEL_HEADS);
    let mut ops = Vec::new();
    while let Some(h) = heads.try_next().await? {
        ops.push(DirectoryOps::from_bits(h.facts.flags));
        if h.facts.first_time > time {
            break;
        }
    }
    drop(heads);
    let mut found: Vec<CreatedTablespace> = Vec::new();
    for (i, held) in DirectoryOps::of_sequence(&ops).into_iter().enumerate() {
        // The last one's cut header belongs to a record that ends behind the target.
        let unlooked = held.unknown && i + 1 < ops.len();
        if !held.tablespaces && !unlooked {
            continue;
        }
        // A record may go on in the next segment.
        let stretch = wal.get(i..wal.len().min(i + 2)).unwrap_or_default();
        scan(archive, stretch, &mut |r, major| {
            if r.lsn > until {
                return false;
            }
            if let Ok(Some(x)) = XactRecord::decode(r, major)
                && x.kind != XactKind::Prepare
                && x.time.unix_micros() > time
            {
                return false;
            }
            if let Ok(Some(StorageRecord::CreateTablespace { tablespace, path })) = StorageRecord::decode(r)
                && !path.is_empty()
            {
                let t = CreatedTablespace { oid: tablespace, path: PathBuf::from(path), lsn: r.lsn };
                if !found.contains(&t) {
                    found.push(t);
                }
            }
            true
        })
        .await?;
    }
    Ok(found)
}
