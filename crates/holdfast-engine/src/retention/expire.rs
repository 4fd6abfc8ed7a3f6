//! `expire`: which points the rules let go, and the notes that say so.
//!
//! The promise: nothing is removed. A plan shows every point with the reasons for its verdict; applying
//! it writes a signed note beside each point that goes, with the reason. A sweep removes what was
//! expired, later, after asking the rules again; until then a hold brings it back.
//!
//! A vault that is away is told, and the others get their plan and their notes: each decides by what it has.
//!
//! Crash: some notes are written, the others are not. The next `expire` finds the same.

use super::Holdings;
use super::early::EarlyDeletion;
use crate::away::{Away, each, each_vault};
use crate::context::{Context, open_vault};
use crate::error::{EngineError, Result};
use crate::state::hostname;
use futures::StreamExt;
use holdfast_core::RunId;
use holdfast_vault::point::{Body, Expired, PointKind};
use holdfast_vault::sweep;
use holdfast_vault::{ClusterVault, Signer};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A point in the plan.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub point: RunId,
    pub cluster: String,
    pub kind: PointKind,
    /// The state that it holds.
    pub time: Timestamp,
    pub size_bytes: u64,
    pub stored_bytes: u64,
    /// `keep`, `expire` (this plan does it) or `expired` (a note says so already).
    pub verdict: &'static str,
    pub reasons: Vec<String>,
}

/// What a sweep could remove then.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Frees {
    pub objects: u64,
    pub bytes: u64,
    pub wal_segments: u64,
    pub wal_bytes: u64,
    /// Of them, those that are locked: nothing of these is freed before they end.
    pub locked_objects: u64,
    pub locked_bytes: u64,
    /// When the last of these locks ends.
    pub locked_until: Option<Timestamp>,
}

impl Frees {
    /// Asks for the locks of what would go; one request each, only where the policy locks.
    async fn ask_locks(&mut self, cluster: &ClusterVault, s: &sweep::Sweep, now: Timestamp) -> Result<()> {
        let store = cluster.store();
        if store.lock_rule().is_none() || !store.knows_locks().await? {
            return Ok(());
        }
        let asked: Vec<_> = futures::stream::iter(s.doomed())
            .map(|d| async move { (d.size, store.lock_state(&d.name).await) })
            .buffer_unordered(16)
            .collect()
            .await;
        for (size, state) in asked {
            let Some(until) = state?.and_then(|(_, r)| r).map(|r| r.until).filter(|t| *t > now) else {
                continue;
            };
            self.locked_objects += 1;
            self.locked_bytes += size;
            self.locked_until = self.locked_until.max(Some(until));
        }
        Ok(())
    }
}

/// The plan for one vault.
#[derive(Debug, Clone, Serialize)]
pub struct ExpirePlan {
    pub vault: String,
    pub points: Vec<Row>,
    /// Points that do not count, and notes that do not.
    pub alarms: Vec<String>,
    /// Of everything that is expired or would be.
    pub frees: Frees,
    /// Why that is not known.
    pub frees_unknown: Option<String>,
    /// What it costs if all of it goes now, before the minimum duration of its storage class is over.
    pub early_deletion: Option<EarlyDeletion>,
    #[serde(skip)]
    by_hand: bool,
    #[serde(skip)]
    notes: Vec<(ClusterVault, RunId, String)>,
}

impl ExpirePlan {
    /// How many points it expires.
    pub fn expires(&self) -> usize {
        self.notes.len()
    }
}

/// The points of the database, in any vault that answers, whose id begins so; and the vaults that do not.
pub async fn matching(ctx: &Context, id: &str) -> Result<(BTreeSet<RunId>, Vec<Away>)> {
    let (found, away) = each_vault(ctx, async |v| {
        let vault = open_vault(&v).await?;
        let mut found = Vec::new();
        for cluster in ctx.clusters(&vault).await? {
            let ids = cluster.survey().await?.points.into_iter().map(|s| s.facts.id);
            found.extend(ids.filter(|run| run.as_str().starts_with(id)));
        }
        Ok(found)
    })
    .await?;
    Ok((found.into_iter().flatten().collect(), away))
}

/// Plans, for each vault that answers. With `point` (a whole id) only that one, whatever the rules say of it;
/// guards hold all the same.
pub async fn plan(
    ctx: &Context,
    point: Option<&str>,
    ask_clock: bool,
) -> Result<(Vec<ExpirePlan>, Vec<Away>)> {
    let (all, mut away) = Holdings::of_vaults(ctx, ask_clock, point).await?;
    if let Some(id) = point {
        for h in &all {
            for held in &h.clusters {
                for seen in held.points.iter().filter(|s| s.facts.id.as_str() == id) {
                    let guards = h.guards_of(&held.cluster.path().cluster, &seen.facts.id);
                    if !guards.is_empty() {
                        return Err(EngineError::refused(
                            format!(
                                "point {id} stays in vault `{}`: {}",
                                h.vault_policy.name,
                                guards.join("; ")
                            ),
                            "release its holds, or make and verify newer points first; \
                             the newest success, the newest verified point and `at-least` are never expired",
                        ));
                    }
                }
            }
        }
    }
    let (plans, failed) =
        each(&all, |h| h.vault_policy.name.clone(), async |h| plan_vault(ctx, h, point).await).await?;
    away.extend(failed);
    Ok((plans, away))
}

async fn plan_vault(ctx: &Context, h: &Holdings, by_hand: Option<&str>) -> Result<ExpirePlan> {
    let mut plan = ExpirePlan {
        vault: h.vault_policy.name.clone(),
        points: Vec::new(),
        alarms: h.decision.alarms.iter().map(|a| format!("{a}. {}", a.hint())).collect(),
        frees: Frees::default(),
        frees_unknown: None,
        early_deletion: None,
        by_hand: by_hand.is_some(),
        notes: Vec::new(),
    };
    let mut packs = Vec::new();
    for held in &h.clusters {
        let ignored = held.notes.ignored.iter();
        plan.alarms.extend(ignored.map(|n| {
            format!(
                "the note {n} does not count: it is damaged, or a host signed what only an operator may say"
            )
        }));
        plan.alarms.extend(held.damaged.iter().map(|d| format!("{d}; nothing of its cluster is swept")));
        let mut going: BTreeMap<RunId, String> = BTreeMap::new();
        for seen in held.points.iter().rev() {
            let p = &seen.facts;
            let Some(v) = h.verdict(&held.cluster.path().cluster, &p.id) else { continue };
            let mut reasons: Vec<String> = v.reasons.iter().map(ToString::to_string).collect();
            let noted = held.notes.get(&p.id).and_then(|n| n.expired(h.now));
            let chosen = by_hand.is_some_and(|id| p.id.as_str() == id);
            let verdict = match noted {
                // The rules let it go and want it again; a person does not.
                Some((_, note)) if chosen && !note.by_hand && v.keep => {
                    going.insert(p.id.clone(), "by hand".into());
                    plan.notes.push((held.cluster.clone(), p.id.clone(), "by hand".into()));
                    "expire"
                }
                Some((_, note)) => {
                    reasons = vec![note.reason.clone()];
                    if !note.by_hand && v.keep {
                        reasons.push("the rules want it again, so no sweep removes it".into());
                        "keep"
                    } else {
                        going.insert(p.id.clone(), note.reason.clone());
                        "expired"
                    }
                }
                None if chosen || (by_hand.is_none() && !v.keep) => {
                    let reason = if chosen { "by hand".to_string() } else { reasons.join("; ") };
                    going.insert(p.id.clone(), reason.clone());
                    plan.notes.push((held.cluster.clone(), p.id.clone(), reason));
                    "expire"
                }
                None => "keep",
            };
            plan.points.push(Row {
                point: p.id.clone(),
                cluster: p.cluster.to_string(),
                kind: p.kind,
                time: p.stop_time,
                size_bytes: p.size_bytes,
                stored_bytes: p.stored_bytes,
                verdict,
                reasons,
            });
        }
        let order = super::sweep::order(h, held, going).await?;
        match sweep::plan(&held.cluster, &order).await {
            Ok(s) => {
                plan.frees.wal_segments += s.wal.len() as u64;
                plan.frees.wal_bytes += s.wal.iter().map(|d| d.size).sum::<u64>();
                plan.frees.objects += s.doomed().count() as u64;
                plan.frees.bytes += s.bytes();
                plan.frees.ask_locks(&held.cluster, &s, h.now).await?;
                packs.extend(s.packs);
            }
            Err(e) => plan.frees_unknown = Some(e.to_string()),
        }
    }
    // A vault that waits pays for nothing that is gone.
    let packs = packs.iter().filter(|_| h.vault_policy.sweep_early);
    plan.early_deletion = EarlyDeletion::of(&h.vault_policy, &ctx.policy.prices.s3, packs, h.now);
    Ok(plan)
}

/// Writes the notes of the plans; returns how many. What a vault that went away meanwhile did not take, the
/// next `expire` finds.
pub async fn apply(plans: &[ExpirePlan]) -> Result<(usize, Vec<Away>)> {
    let some = plans.iter().filter(|p| !p.notes.is_empty());
    let (written, away) = each(some, |p| p.vault.clone(), async |p| apply_plan(p).await).await?;
    Ok((written.iter().sum(), away))
}

async fn apply_plan(plan: &ExpirePlan) -> Result<usize> {
    for (cluster, point, reason) in &plan.notes {
        let at = Timestamp::now();
        let note = Body::Expired(Expired {
            point: point.clone(),
            reason: reason.clone(),
            by_hand: plan.by_hand,
            at,
            host: hostname(),
        });
        let name = cluster.path().note(point, &RunId::generate(at), "expired");
        cluster.vault().put_record(&name, &note, Signer::Operator).await?;
    }
    Ok(plan.notes.len())
}

/// Spans that a sweep works with.
pub(super) const DEAD_AFTER: SignedDuration = SignedDuration::from_hours(24);
pub(super) const KEEP_FAILED: SignedDuration = SignedDuration::from_hours(90 * 24);
