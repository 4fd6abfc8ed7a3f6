//! What is to be copied: [`plan`]. Reads only.
//!
//! Of a database: the points of the source that the target lacks, that are not expired, that count (one in
//! doubt may be a broken-into host's; the operator's verification ends the doubt), and that the rules of the
//! target would keep if they were there. So what retention let go in the target is not brought again by the
//! next copy, and a vault with `keep = { monthly = 12 }` gets one point a month. WAL is chosen likewise: what
//! the target's rules need, given the points that it will have.
//!
//! A point that a person names is copied whatever the rules say, unless it is expired.

use super::wal::segments_of;
use super::{CopyOptions, Pair, open_source, sources};
use crate::context::Context;
use crate::error::{EngineError, Result};
use crate::retention::{Held, Holdings, candidate};
use holdfast_core::policy;
use holdfast_core::retention::{Candidate, Reason, WalKeep, decide, wal_needs};
use holdfast_core::{RunId, SegmentName};
use holdfast_vault::PointFacts;
use holdfast_vault::point::Point;
use holdfast_vault::walindex::WalListing;
use holdfast_vault::{ClusterVault, Notes};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A point of the source, and why it is not copied.
#[derive(Debug, Clone, Serialize)]
pub struct Choice {
    pub point: RunId,
    pub reason: String,
}

/// One cluster's part.
#[derive(Debug)]
pub struct Part {
    pub source: ClusterVault,
    /// Oldest first.
    pub points: Vec<Point>,
}

/// What a copy will do.
#[derive(Debug)]
pub struct CopyPlan {
    pub from: String,
    pub to: String,
    pub parts: Vec<Part>,
    pub left: Vec<Choice>,
    /// Of a database: points that the target has already.
    pub there: usize,
    /// Segments that will be brought beside those of the points. (What is archived meanwhile comes too.)
    pub segments: usize,
    wal: Option<WalKeep>,
}

impl CopyPlan {
    pub fn points(&self) -> impl Iterator<Item = &Point> {
        self.parts.iter().flat_map(|p| &p.points)
    }

    /// Whether the target's rules need a segment that the source's store saw at `at`.
    pub(super) fn wants_wal(&self, pair: &Pair, s: SegmentName, at: Timestamp) -> bool {
        self.needs(pair.source.path(), pair.source.record().wal_segment_size, s, at)
    }

    fn needs(
        &self,
        path: &holdfast_vault::ClusterPath,
        size: holdfast_core::SegmentSize,
        s: SegmentName,
        at: Timestamp,
    ) -> bool {
        let Some(keep) = &self.wal else { return false };
        keep.needs(&path.cluster, s.timeline, s.start(size), s.end(size), at).is_some()
    }
}

/// Plans a copy to `to`, from the first vault that can be read.
pub async fn plan(ctx: &Context, o: &CopyOptions, to: &policy::Vault) -> Result<CopyPlan> {
    let all = sources(ctx, o, to)?;
    let mut first: Option<EngineError> = None;
    for v in &all {
        let tried = match &o.point {
            Some(id) => one_point(ctx, v, id, to).await,
            None => database(ctx, v, to).await,
        };
        match tried {
            Ok(plan) => return Ok(plan),
            // One vault that is away, or whose key is not here, is no reason to stop if another has it.
            Err(e) => {
                let there = !matches!(e, EngineError::NotFound { .. });
                if all.len() > 1 && there {
                    ctx.monitor.warning(format!("vault `{}` cannot be copied from: {e}", v.name));
                }
                // What says more than "not here" is what to tell in the end.
                if first.is_none() || (there && matches!(first, Some(EngineError::NotFound { .. }))) {
                    first = Some(e);
                }
            }
        }
    }
    Err(first.unwrap_or(EngineError::Cancelled))
}

async fn one_point(ctx: &Context, from: &policy::Vault, id: &str, to: &policy::Vault) -> Result<CopyPlan> {
    let vault = open_source(from).await?;
    let mut hits: Vec<(ClusterVault, PointFacts)> = Vec::new();
    for cluster in ctx.clusters(&vault).await? {
        let fits = |p: &PointFacts| p.id.as_str().starts_with(id) || p.origin().as_str().starts_with(id);
        let points = cluster.survey().await?.points.into_iter().map(|s| s.facts);
        hits.extend(points.filter(fits).map(|p| (cluster.clone(), p)));
    }
    let (source, point) = match (hits.len(), hits.pop()) {
        (1, Some((source, facts))) => {
            let point = source.point(&facts.id).await?;
            (source, point)
        }
        (0, _) | (_, None) => {
            return Err(EngineError::not_found(
                format!("there is no point `{id}` in vault `{}`", from.name),
                "see `holdfast list`",
            ));
        }
        (n, _) => {
            return Err(EngineError::usage(format!("`{id}` stands for {n} points"), "write more of its id"));
        }
    };
    if Notes::of_point(&source, &point.id).await?.expired(Timestamp::now()).is_some() {
        return Err(EngineError::refused(
            format!("point {} of vault `{}` is expired", point.id, from.name),
            "`holdfast hold` it first if it shall stay",
        ));
    }
    Ok(CopyPlan {
        from: from.name.clone(),
        to: to.name.clone(),
        parts: vec![Part { source, points: vec![point] }],
        left: Vec::new(),
        there: 0,
        segments: 0,
        wal: None,
    })
}

async fn database(ctx: &Context, from: &policy::Vault, to: &policy::Vault) -> Result<CopyPlan> {
    drop(open_source(from).await?);
    let now = Timestamp::now();
    let theirs = Holdings::read(ctx, from.clone(), now).await?;
    if theirs.clusters.is_empty() {
        return Err(EngineError::not_found(
            format!("the vault `{}` has nothing of `{}`", from.name, ctx.db.name),
            "run `holdfast backup`, or choose another vault with --from",
        ));
    }
    let ours = Holdings::read(ctx, to.clone(), now).await?;
    let (mut left, mut missing, mut there) = (Vec::new(), Vec::new(), 0);
    for held in &theirs.clusters {
        let has = origins(&ours, held);
        for seen in &held.points {
            if has.contains(seen.facts.origin()) {
                there += 1;
            } else if let Some(reason) = unfit(&theirs, held, &seen.facts, now) {
                left.push(Choice { point: seen.facts.id.clone(), reason });
            } else {
                missing.push((held, seen));
            }
        }
    }
    // As if all of them were there and believed.
    let mut all: Vec<Candidate> = ours.candidates().to_vec();
    all.extend(missing.iter().map(|(held, seen)| Candidate {
        stored_at: now,
        trusted: true,
        ..candidate(&held.cluster.path().cluster, seen, &held.notes)
    }));
    let decision = decide(&all, &ours.holds(), &BTreeMap::new(), &ours.rules, now);
    let kept =
        |c: &Candidate| decision.verdicts.iter().any(|v| v.keep && v.cluster == c.cluster && v.id == c.id);
    let stays: Vec<&Candidate> = all.iter().filter(|c| kept(c)).collect();
    let mut plan = CopyPlan {
        from: from.name.clone(),
        to: to.name.clone(),
        parts: Vec::new(),
        left,
        there,
        segments: 0,
        wal: Some(wal_needs(&stays, &decision, &ours.rules, now)),
    };
    for held in &theirs.clusters {
        let id = &held.cluster.path().cluster;
        let mut part = Part { source: held.cluster.clone(), points: Vec::new() };
        for (_, seen) in missing.iter().filter(|(h, _)| &h.cluster.path().cluster == id) {
            if stays.iter().any(|c| &c.cluster == id && c.id == seen.facts.id) {
                part.points.push(held.cluster.point(&seen.facts.id).await?);
            } else {
                let reason = format!("no rule of vault `{}` wants it", to.name);
                plan.left.push(Choice { point: seen.facts.id.clone(), reason });
            }
        }
        // WAL without any point to start from is of no use there.
        let has_points = ours.held_of(id).is_some_and(|h| !h.points.is_empty()) || !part.points.is_empty();
        if has_points {
            plan.segments += lacking(&plan, held, ours.held_of(id)).await?;
            plan.parts.push(part);
        }
    }
    Ok(plan)
}

/// The points of a cluster that `ours` has, by the ids that backups gave them.
fn origins(ours: &Holdings, held: &Held) -> BTreeSet<RunId> {
    let same = ours.held_of(&held.cluster.path().cluster);
    same.into_iter().flat_map(|h| &h.points).map(|s| s.facts.origin().clone()).collect()
}

/// Why a point of the source is not to be copied.
fn unfit(theirs: &Holdings, held: &Held, p: &PointFacts, now: Timestamp) -> Option<String> {
    if held.notes.get(&p.id).is_some_and(|n| n.expired(now).is_some()) {
        return Some(format!("it is expired in vault `{}`", theirs.vault_policy.name));
    }
    let verdict = theirs.verdict(&held.cluster.path().cluster, &p.id)?;
    let doubt = verdict.reasons.iter().find(|r| matches!(r, Reason::Doubtful(_)))?;
    Some(format!("it is in doubt ({doubt}); `holdfast verify` it first"))
}

/// How many segments beside those of points will be brought.
async fn lacking(plan: &CopyPlan, theirs: &Held, ours: Option<&Held>) -> Result<usize> {
    let (path, size) = (theirs.cluster.path(), theirs.cluster.record().wal_segment_size);
    let mut there: BTreeSet<SegmentName> = match ours {
        None => BTreeSet::new(),
        Some(h) => segments_of(&h.cluster).await?,
    };
    there.extend(plan.points().flat_map(|p| p.wal.iter().map(|w| w.name)));
    let all = WalListing::read(&theirs.cluster).await?.segments(size);
    Ok(all.into_iter().filter(|(s, at)| !there.contains(s) && plan.needs(path, size, *s, *at)).count())
}
