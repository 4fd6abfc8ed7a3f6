//! What a segment says about changed pages: [`stored`] with it in the vault, or [`local`] from `pg_wal`.
//!
//! `wal push` and every other way into the archive look through a segment once and store the result inside
//! its object (docs/FORMAT.md §6.1). A backup adds the segments of its window up: [`crate::backup::window`].
//!
//! Losing it, or not knowing its version, loses no data: whoever asks reads the pages instead.

use crate::error::{EngineError, Result};
use holdfast_core::{Lsn, SegmentName};
use holdfast_pgformat::changes::{SegmentChanges, scan_changes};
use holdfast_vault::ClusterVault;
use holdfast_vault::object::HEADER_LEN;
use holdfast_vault::walobj;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Header and changes come with one request: most are 3 to 10 KiB.
const FIRST_READ: u64 = 16 << 10;

/// Of a segment in the vault, and the digest of its content. `Err`: why it is not known, for people.
pub async fn stored(
    cluster: &ClusterVault,
    segment: SegmentName,
) -> Result<(SegmentChanges, [u8; 32]), String> {
    let name = cluster.path().segment(segment.timeline, &segment.to_string());
    let (store, keys) = (cluster.store(), cluster.vault().keys());
    let place = || cluster.vault().place(&name);
    let mut bytes = match store.get_range_up_to(&name, 0..FIRST_READ).await {
        Ok(b) => b,
        Err(e) if e.is_not_found() => return Err(format!("segment {segment} is not in the vault")),
        Err(e) => return Err(e.to_string()),
    };
    let head = walobj::head(&bytes, keys, place()).map_err(|e| e.to_string())?;
    let need = HEADER_LEN as u64 + u64::from(head.facts.changes_len);
    if need > bytes.len() as u64 {
        bytes = store.get_range(&name, 0..need).await.map_err(|e| e.to_string())?;
    }
    let plain = walobj::changes(&bytes, keys, place())
        .map_err(|e| e.to_string())?
        .ok_or_else(|| format!("segment {segment} was stored without its changes"))?;
    let changes = SegmentChanges::decode(&plain).map_err(|e| format!("segment {segment}: {e}"))?;
    Ok((fits(cluster, segment, changes)?, head.digest))
}

/// Of a segment in `pg_wal` that is complete up to `end`.
pub fn local(
    cluster: &ClusterVault,
    data_dir: &Path,
    segment: SegmentName,
    end: Lsn,
) -> Result<SegmentChanges, String> {
    let size = cluster.record().wal_segment_size;
    let path = data_dir.join("pg_wal").join(segment.to_string());
    let len = end.0.saturating_sub(segment.start(size).0).min(size.bytes());
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    std::fs::File::open(&path)
        .and_then(|f| f.read_exact_at(&mut bytes, 0))
        .map_err(|e| EngineError::io("read", &path)(e).to_string())?;
    let changes = scan_changes(&bytes, cluster.record().block_size)
        .map_err(|e| format!("segment {segment} in pg_wal: {e}"))?;
    fits(cluster, segment, changes)
}

/// A file that waits to be used again holds old WAL under a new name.
fn fits(cluster: &ClusterVault, segment: SegmentName, c: SegmentChanges) -> Result<SegmentChanges, String> {
    let r = cluster.record();
    let same = (c.system_id, c.segment_size, c.block_size, c.start)
        == (r.system_identifier, r.wal_segment_size, r.block_size, segment.start(r.wal_segment_size));
    // The first pages of a new timeline's first segment are copies of the old one's.
    if same && c.timeline == segment.timeline {
        Ok(c)
    } else {
        Err(format!("what is stored as segment {segment} tells of other wal"))
    }
}
