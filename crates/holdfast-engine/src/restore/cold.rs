//! A point in a cold vault: are its data packs retrieved, before anything is touched?
//!
//! S3 answers a read of an archived object with a refusal, and one of a retrieved object with its bytes. So
//! the first bytes of each data pack are read; a restore reads them as well.

use crate::error::{EngineError, Result};
use futures::{StreamExt, TryStreamExt};
use holdfast_core::ByteSize;
use holdfast_vault::names::PackId;
use holdfast_vault::point::Point;
use holdfast_vault::reader::{PackSet, PointReader};
use holdfast_vault::{ClusterVault, PackClass, StoreErrorKind};
use std::collections::BTreeMap;

/// Packs that are asked for at the same time.
const AT_ONCE: usize = 16;

/// Refuses a point that cannot be read now.
pub async fn require_readable(vault: &str, cluster: &ClusterVault, p: &Point) -> Result<()> {
    let packs = data_packs(cluster, p).await?;
    let archived: Vec<u64> = futures::stream::iter(&packs)
        .map(|(id, len)| async move {
            match cluster.store().get_range_up_to(&cluster.path().pack(id), 0..1).await {
                Err(e) if e.store_kind() == Some(StoreErrorKind::Archived) => Ok(Some(*len)),
                Err(e) => Err(EngineError::from(e)),
                Ok(_) => Ok(None),
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_filter_map(|found| async move { Ok(found) })
        .try_collect()
        .await?;
    if archived.is_empty() {
        return Ok(());
    }
    Err(EngineError::refused(
        format!(
            "point {} in the cold vault `{vault}` cannot be read: {} of its {} data packs ({}) are archived",
            p.id,
            archived.len(),
            packs.len(),
            ByteSize(archived.iter().sum())
        ),
        "restore from another vault with --vault; or retrieve `data-*.pack` of its run with the store's own tools, \
         as docs/guide/cold.md says, and run this again when they are there",
    ))
}

/// The data packs that a point needs, and their lengths. A point that was copied before the vault was cold may
/// share some.
async fn data_packs(cluster: &ClusterVault, p: &Point) -> Result<BTreeMap<PackId, u64>> {
    let set = PackSet::new(cluster.clone());
    let reader = PointReader::open(set.clone(), p).await?;
    let shared = reader.root().packs.iter().filter_map(|u| Some((set.id(u.pack)?, u.len)));
    let own = p
        .packs
        .iter()
        .filter(|j| j.class == "data")
        .map(|j| (PackId { run: p.id.clone(), class: PackClass::Data, number: j.number }, j.len));
    Ok(shared.filter(|(id, _)| id.class == PackClass::Data).chain(own).collect())
}
