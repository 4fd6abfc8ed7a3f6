//! What there is: points of a database with what is known about each, for `list` and `show`.

use crate::context::{Context, open_vault};
use crate::error::{EngineError, Result};
use holdfast_core::{Lsn, RunId, TimelineId};
use holdfast_vault::PointFacts;
use holdfast_vault::notes::PointNotes;
use holdfast_vault::point::{Body, FailedRun, Point, PointKind, Verified};
use holdfast_vault::{ClusterVault, Notes};
use serde::Serialize;
use std::collections::BTreeMap;

/// A point as `list --json` shows it. Field names are part of the interface.
#[derive(Debug, Clone, Serialize)]
pub struct PointView {
    pub id: RunId,
    pub database: String,
    pub cluster: String,
    pub vault: String,
    pub kind: PointKind,
    pub status: &'static str,
    pub started_at: jiff::Timestamp,
    pub finished_at: jiff::Timestamp,
    pub start_lsn: Lsn,
    pub stop_lsn: Lsn,
    pub timeline: TimelineId,
    pub size_bytes: u64,
    pub stored_bytes: u64,
    pub changed_bytes: u64,
    pub files: u64,
    pub parent: Option<RunId>,
    /// Of a copy: the id that the backup gave the point.
    pub copy_of: Option<RunId>,
    pub tags: BTreeMap<String, String>,
    pub note: String,
    pub verified_level: Option<String>,
    pub verified_at: Option<jiff::Timestamp>,
    pub damaged_pages: u64,
    pub postgres_version: String,
    /// Titles of the holds in force.
    pub holds: Vec<String>,
}

impl PointView {
    /// As [`PointView::new`], with all that notes say.
    pub fn with_notes(p: &PointFacts, vault: &str, notes: Option<&PointNotes>, now: jiff::Timestamp) -> Self {
        let mut view = PointView::new(p, vault, notes.and_then(PointNotes::best));
        if let Some(n) = notes {
            view.holds = n.holds(now).map(|h| h.title.clone()).collect();
            if n.expired(now).is_some() {
                view.status = "expired";
            }
        }
        view
    }

    pub fn new(p: &PointFacts, vault: &str, verified: Option<&Verified>) -> Self {
        PointView {
            id: p.id.clone(),
            database: p.database.to_string(),
            cluster: p.cluster.to_string(),
            vault: vault.into(),
            kind: p.kind,
            // A point with damaged pages is complete, and yet not all that the user hopes for.
            status: if p.damaged == 0 { "succeeded" } else { "partial" },
            started_at: p.started_at,
            finished_at: p.finished_at,
            start_lsn: p.start_lsn,
            stop_lsn: p.stop_lsn,
            timeline: p.timeline,
            size_bytes: p.size_bytes,
            stored_bytes: p.stored_bytes,
            changed_bytes: p.changed_bytes,
            files: p.files,
            parent: p.parent.clone(),
            copy_of: p.copy_of.clone(),
            tags: p.tags.clone(),
            note: p.note.clone(),
            verified_level: verified.map(|v| v.level.clone()),
            verified_at: verified.map(|v| v.at),
            damaged_pages: p.damaged,
            postgres_version: format!("{}.{}", p.version_num / 10_000, p.version_num % 10_000),
            holds: Vec::new(),
        }
    }
}

/// Points of a database in one vault.
#[derive(Debug, Clone)]
pub struct Listing {
    pub points: Vec<PointView>,
    pub failed: Vec<FailedRun>,
    pub problems: Vec<String>,
}

/// Everything that the database has in its vaults.
pub async fn list(ctx: &Context) -> Result<Listing> {
    let mut out = Listing { points: Vec::new(), failed: Vec::new(), problems: Vec::new() };
    let now = jiff::Timestamp::now();
    let vaults = ctx.vaults()?;
    for v in &vaults {
        let vault = match open_vault(v).await {
            // One that is away does not hide the others.
            Err(e) if vaults.len() > 1 => {
                out.problems.push(format!("vault `{}` cannot be read: {e}", v.name));
                continue;
            }
            other => other?,
        };
        for cluster in ctx.clusters(&vault).await? {
            let survey = cluster.survey().await?;
            let notes = Notes::read(&cluster).await?;
            let view = |p| PointView::with_notes(p, &v.name, notes.get(&p.id), now);
            out.points.extend(survey.points.iter().map(|s| view(&s.facts)));
            out.problems.extend(survey.damaged.iter().map(ToString::to_string));
            for l in cluster.store().list(&format!("{}/failed", cluster.path().folder())).await? {
                if let Ok((Body::FailedRun(f), _)) = cluster.vault().get_record(&l.name).await {
                    out.failed.push(f);
                }
            }
        }
    }
    Ok(out)
}

/// Finds a point by its id (or the unambiguous beginning of one) in any vault of the database.
pub async fn find(ctx: &Context, id: &str) -> Result<(String, ClusterVault, Point)> {
    let mut hits: Vec<(String, ClusterVault, RunId)> = Vec::new();
    let mut away: Option<EngineError> = None;
    for v in ctx.vaults()? {
        let vault = match open_vault(&v).await {
            Ok(vault) => vault,
            // Another vault may have it.
            Err(e) => {
                ctx.monitor.warning(format!("vault `{}` cannot be read: {e}", v.name));
                away.get_or_insert(e);
                continue;
            }
        };
        for cluster in ctx.clusters(&vault).await? {
            for p in cluster.survey().await?.points.into_iter().map(|s| s.facts) {
                // A copy answers to the id that the backup gave it, too.
                if p.id.as_str().starts_with(id) || p.origin().as_str().starts_with(id) {
                    hits.push((v.name.clone(), cluster.clone(), p.id));
                }
            }
        }
        // A copy in a second vault is the same point.
        if !hits.is_empty() {
            break;
        }
    }
    match hits.len() {
        1 => {
            let (vault, cluster, id) = hits.pop().ok_or(EngineError::Cancelled)?;
            let point = cluster.point(&id).await?;
            Ok((vault, cluster, point))
        }
        // It may be where nobody could look.
        0 if away.is_some() => Err(away.unwrap_or(EngineError::Cancelled)),
        0 => Err(EngineError::not_found(format!("there is no point `{id}`"), "see `holdfast list`")),
        n => Err(EngineError::usage(format!("`{id}` stands for {n} points"), "write more of its id")),
    }
}
