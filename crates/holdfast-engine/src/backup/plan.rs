//! What a backup will do, before it does it: kind, parent, and why.

use crate::error::Result;
use holdfast_core::{Lsn, RunId};
use holdfast_pg::server::Server;
use holdfast_pgformat::changes::CHANGES_VERSION;
use holdfast_vault::PointFacts;
use holdfast_vault::map::Layer;
use holdfast_vault::point::{Point, PointKind};
use holdfast_vault::{ClusterVault, Notes};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KindWanted {
    /// Incremental if there is a usable parent, else full.
    #[default]
    Auto,
    Full,
    Incremental,
}

/// What will be done.
#[derive(Debug, Clone)]
pub struct BackupPlan {
    pub kind: PointKind,
    pub parent: Option<Point>,
    pub reason: String,
    /// Why changes must not be taken from the WAL.
    pub distrust: Option<String>,
    /// One more than the highest that the vault shows.
    pub generation: u64,
}

/// A parent's file, flat: one layer with every block, and its fingerprints in block order.
#[derive(Debug)]
pub struct ParentFile {
    pub size: u64,
    pub block_size: u32,
    pub layers: Vec<Layer>,
    pub layer_fps: Vec<Vec<u64>>,
    /// By block; computed once.
    pub fps: Vec<u64>,
    /// Blocks that the parent recorded as damaged are always taken again (§2.9).
    pub damaged: Vec<u32>,
}

impl ParentFile {
    /// Is block `block` of `len` bytes what the parent has?
    pub fn is_same(&self, block: u32, len: usize, fp: u64) -> bool {
        let start = u64::from(block) * u64::from(self.block_size);
        let parent_len = self.size.saturating_sub(start).min(self.block_size.into());
        parent_len == len as u64
            && self.fps.get(block as usize) == Some(&fp)
            && !self.damaged.contains(&block)
    }
}

/// Chooses kind and parent. `start` is unknown before the backup starts; what depends on it is
/// checked again by [`still_usable`].
pub async fn plan(cluster: &ClusterVault, server: &Server, wanted: KindWanted) -> Result<BackupPlan> {
    let survey = cluster.survey().await?;
    let (points, errors) = (survey.points, survey.damaged);
    let generation = points.iter().map(|s| s.facts.generation).max().unwrap_or(0).saturating_add(1);
    let full = |reason: String| BackupPlan {
        kind: PointKind::Full,
        parent: None,
        reason,
        distrust: None,
        generation,
    };
    if wanted == KindWanted::Full {
        return Ok(full("a full was asked for".into()));
    }
    let mut why =
        if errors.is_empty() { "there is no earlier point".to_string() } else { errors[0].to_string() };
    let facts = || points.iter().rev().map(|s| &s.facts);
    let alarm = facts().find(|p| missed(p)).map(|p| p.id.clone());
    for p in facts() {
        if missed(p) {
            return Ok(full(format!(
                "point {} found pages that the wal since its parent did not name",
                p.id
            )));
        }
        let p = match cluster.point(&p.id).await {
            // A sweep was faster.
            Err(e) if e.is_not_found() => continue,
            found => found?,
        };
        match unusable(&p, server) {
            Some(reason) => why = format!("point {} cannot be a parent: {reason}", p.id),
            // It is on its way out: a sweep would have to wait for us, and its blocks to stay.
            None if is_expired(cluster, &p.id).await? => why = format!("point {} is expired", p.id),
            None if cluster.is_condemned(&p.id).await? => why = format!("point {} is being removed", p.id),
            None => {
                return Ok(BackupPlan {
                    kind: PointKind::Incremental,
                    reason: format!("compared with {}", p.id),
                    parent: Some(p),
                    distrust: alarm.map(|id| format!("point {id} found pages that the wal did not name")),
                    generation,
                });
            }
        }
    }
    Ok(full(why))
}

/// §2.16: a page that changed and that no record named. The decoder is not to be relied on, until another
/// version of it is there.
fn missed(p: &PointFacts) -> bool {
    p.missed > 0 && p.decoder.is_none_or(|d| d >= CHANGES_VERSION)
}

async fn is_expired(cluster: &ClusterVault, id: &RunId) -> Result<bool> {
    Ok(Notes::of_point(cluster, id).await?.expired(jiff::Timestamp::now()).is_some())
}

/// §2.3: what rules a parent out for good. Content decides what changed, so timelines do not matter;
/// what the bytes *mean* does.
fn unusable(p: &Point, s: &Server) -> Option<String> {
    let f = &p.server;
    if f.system_identifier != s.system_identifier {
        return Some("it is of another cluster".into());
    }
    if f.version_num / 10_000 != s.version_num / 10_000 {
        return Some("it is of another major version".into());
    }
    if f.data_checksums != s.checksums() {
        return Some("page checksums were turned on or off since".into());
    }
    if f.block_size != s.block_size || f.segment_blocks != s.segment_blocks {
        return Some("block or segment size changed".into());
    }
    None
}

/// After the backup has started: a position before the parent's end on the parent's own timeline means
/// that the log was reset (pg_resetwal) or the cluster was put back by other means.
pub fn still_usable(p: &Point, start: Lsn, timeline: holdfast_core::TimelineId) -> Result<(), String> {
    if p.timeline == timeline && start < p.stop_lsn {
        return Err(format!("the log went back behind the end of {} ({} < {})", p.id, start, p.stop_lsn));
    }
    Ok(())
}

/// Who is named as a lease's parents.
pub fn parents(plan: &BackupPlan) -> Vec<RunId> {
    plan.parent.iter().map(|p| p.id.clone()).collect()
}
