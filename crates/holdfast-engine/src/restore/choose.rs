//! Which vault to restore from, where a database has several: [`plan`] and [`run`].
//!
//! Every vault of the database is planned from, as if it were the only one. Those whose plan stands (a point
//! for the target, its manifest and WAL there, everything checked that can be checked) are ranked: without a
//! target the one that reaches furthest, with a target all that reach it are alike; then the order of the
//! policy, in which the nearest vault should come first. The plan says which one it is and why, and what
//! keeps the others. `--vault` leaves no choice.
//!
//! A cold vault from which packs have to be retrieved comes behind all that can be read at once, however far
//! these reach: a copy fetches its WAL from every vault. Once the packs were retrieved the plan is made anew, for
//! the same point.
//!
//! If the chosen vault turns out to be damaged or goes away while its files are read, the restore goes on
//! with the next: what was written is emptied, and the plan is made anew from there.
//!
//! The copy's `restore_command` names no vault, so each segment is asked of all of them. Only if one does not
//! open when the plan is made, the chosen one is named: from a vault that does not answer nobody can hear
//! that the log has ended, and recovery would stop there.

use super::cold::Retrieval;
use super::plan::{RestorePlan, plan as plan_from};
use super::target::Target;
use super::{RestoreOptions, RestoreReport, execute, retrieve};
use crate::context::{Context, open_vault};
use crate::error::{EngineError, Result};
use crate::retention::hold::hold;
use holdfast_core::time::short;
use holdfast_core::{Lsn, TimelineId};
use holdfast_vault::ClusterVault;
use holdfast_vault::point::Point;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// How long a vault may take to answer at all, if there is another.
const PATIENCE: Duration = Duration::from_secs(30);

/// A plan that stands, and the vaults to fall back to, best first.
#[derive(Debug)]
pub struct Chosen {
    pub plan: RestorePlan,
    pub cluster: ClusterVault,
    next: Vec<String>,
    ctx: Context,
}

/// Orders plans of one cluster: greater is better.
type Rank = (bool, bool, TimelineId, Lsn);

/// Packs have to be retrieved first.
fn waits(plan: &RestorePlan) -> bool {
    plan.retrieval.as_ref().is_some_and(Retrieval::is_needed)
}

/// `newest`: the cluster that the database is now. Vaults may have heard of a new one at other times.
fn rank(o: &RestoreOptions, plan: &RestorePlan, newest: Option<u64>) -> Rank {
    let (current, at_once) = (newest == Some(plan.cluster), !waits(plan));
    match o.target {
        Target::EndOfWal => (current, at_once, plan.timeline, plan.wal_end),
        _ => (current, at_once, TimelineId(0), Lsn(0)),
    }
}

/// Plans from the best vault.
pub async fn plan(ctx: &Context, o: &RestoreOptions) -> Result<Chosen> {
    let vaults = ctx.vaults()?;
    if vaults.len() < 2 {
        let (plan, cluster) = plan_from(ctx, o).await?;
        return Ok(Chosen { plan, cluster, next: Vec::new(), ctx: ctx.clone() });
    }
    let mut good: Vec<(Context, RestorePlan, ClusterVault)> = Vec::new();
    let mut bad: Vec<(String, EngineError)> = Vec::new();
    let mut all_open = true;
    for v in &vaults {
        let only = Context { vault: Some(v.name.clone()), ..ctx.clone() };
        let answers = async { open_vault(v).await.map(drop) };
        let answered = tokio::time::timeout(PATIENCE, answers).await.unwrap_or_else(|_| {
            Err(EngineError::failed(
                format!("it did not answer within {} s", PATIENCE.as_secs()),
                "check the network and `url` of the vault in the policy",
            ))
        });
        let planned = match answered {
            Ok(()) => plan_from(&only, o).await,
            Err(e) => {
                all_open = false;
                Err(e)
            }
        };
        match planned {
            Ok((plan, cluster)) => good.push((only, plan, cluster)),
            // What is wrong with the target or the command is so whatever the vault.
            Err(e @ EngineError::Usage { .. }) => return Err(e),
            Err(e) => bad.push((v.name.clone(), e)),
        }
    }
    // Stable: vaults that are alike stay in the order of the policy.
    let newest = good.iter().max_by_key(|(.., c)| c.record().created_at).map(|(_, p, _)| p.cluster);
    good.sort_by_key(|(_, p, _)| std::cmp::Reverse(rank(o, p, newest)));
    let mut good = good.into_iter();
    let Some((only, mut plan, cluster)) = good.next() else {
        return Err(worst(ctx, bad));
    };
    let best = rank(o, &plan, newest);
    let mut next = Vec::new();
    let mut why = "it is the first of the policy that reaches the target".to_string();
    for (_, p, _) in good {
        if waits(&p) && !waits(&plan) {
            let more = format!("vault `{}` would have to be retrieved from; --vault names it", p.vault);
            plan.notes.push(more);
        } else if rank(o, &p, newest) < best {
            let less = format!("vault `{}` reaches {} on timeline {} only", p.vault, p.wal_end, p.timeline);
            plan.notes.push(less);
            why = "it reaches furthest".into();
        }
        next.push(p.vault);
    }
    for (name, e) in &bad {
        plan.notes.push(format!("vault `{name}` cannot be restored from: {e}"));
    }
    plan.notes.push(format!("vault `{}` was chosen: {why}", plan.vault));
    plan.vault_chosen = !all_open;
    if !all_open {
        plan.notes.push(format!("the copy fetches its wal from vault `{}` alone", plan.vault));
    }
    Ok(Chosen { plan, cluster, next, ctx: only })
}

/// No vault will do. The first one's reason is told, unless it only says that something is not there, and
/// another one knows more; the others' are warnings.
fn worst(ctx: &Context, mut bad: Vec<(String, EngineError)>) -> EngineError {
    let telling = bad.iter().position(|(_, e)| !matches!(e, EngineError::NotFound { .. })).unwrap_or(0);
    if bad.is_empty() {
        return EngineError::Cancelled;
    }
    let (_, e) = bad.remove(telling);
    for (name, other) in bad {
        if other.to_string() != e.to_string() {
            ctx.monitor.warning(format!("vault `{name}`: {other}"));
        }
    }
    e
}

/// Worth trying from elsewhere: the vault is damaged, away, or lost something meanwhile.
fn is_the_vaults(e: &EngineError) -> bool {
    matches!(e, EngineError::Vault(_))
}

/// Retrieves what is archived, if there is any, and plans anew: that may have taken days.
async fn made_readable(
    ctx: &Context,
    o: &RestoreOptions,
    plan: RestorePlan,
    cluster: ClusterVault,
) -> Result<(RestorePlan, ClusterVault)> {
    let (Some(retrieval), Some(how), Some(point)) = (&plan.retrieval, &o.retrieve, &plan.resolved_point)
    else {
        return Ok((plan, cluster));
    };
    if retrieval.is_needed() && how.approved {
        keep(ctx, point, retrieval).await;
    }
    retrieve::carry_out(ctx, &cluster, point, retrieval, how).await?;
    // The point that was paid for, whatever has been copied meanwhile.
    let same = RestoreOptions { point: Some(point.id.clone()), ..o.clone() };
    let (mut now, cluster) = plan_from(ctx, &same).await?;
    if waits(&now) {
        return Err(EngineError::failed(
            format!("point {} is archived again before it was read", now.point),
            "run it again, with more --retrieve-days",
        ));
    }
    now.vault_chosen = plan.vault_chosen;
    now.notes = plan.notes;
    now.retrieval = plan.retrieval;
    Ok((now, cluster))
}

/// Waiting takes hours to days, and no sweep may take the point away meanwhile.
async fn keep(ctx: &Context, point: &Point, retrieval: &Retrieval) {
    let span = retrieval.patience_seconds.saturating_add(retrieval.reading_seconds);
    let span = SignedDuration::from_secs(i64::try_from(span).unwrap_or(i64::MAX));
    let until = Timestamp::now().checked_add(span).unwrap_or(Timestamp::MAX);
    match hold(ctx, point.id.as_str(), "a restore retrieves it", Some(until)).await {
        Ok(_) => ctx.monitor.info(format!("point {} is held until {}", point.id, short(until))),
        Err(e) => ctx.monitor.warning(format!(
            "point {} could not be held while it is retrieved ({e}): let no sweep run meanwhile",
            point.id
        )),
    }
}

/// Retrieves if need be, and restores.
async fn restore(
    ctx: &Context,
    o: &RestoreOptions,
    plan: RestorePlan,
    cluster: ClusterVault,
) -> Result<RestoreReport> {
    let (plan, cluster) = made_readable(ctx, o, plan, cluster).await?;
    execute(ctx, o, plan, cluster).await
}

/// Carries out what was planned; falls back to the next vault where the chosen one fails.
pub async fn run(ctx: &Context, o: &RestoreOptions, chosen: Chosen) -> Result<RestoreReport> {
    let Chosen { plan, cluster, next, ctx: only } = chosen;
    let mut from = plan.vault.clone();
    // What was agreed to is what the first plan showed.
    let agreed = plan.retrieval.is_some();
    let mut result = restore(&only, o, plan, cluster).await;
    for name in next {
        let Err(e) = &result else { break };
        if !is_the_vaults(e) {
            break;
        }
        let note = format!("vault `{from}` failed ({e}): restored from vault `{name}`");
        ctx.monitor.warning(format!("vault `{from}` failed: {e}; going on with vault `{name}`"));
        let only = Context { vault: Some(name.clone()), ..ctx.clone() };
        match plan_from(&only, o).await {
            Ok((plan, _)) if !agreed && plan.retrieval.as_ref().is_some_and(Retrieval::asks) => {
                ctx.monitor.warning(format!(
                    "vault `{name}` would have to be retrieved from, which no plan has shown: \
                     see --vault {name} --retrieve --plan"
                ));
            }
            Ok((mut plan, cluster)) => {
                // One that failed may be away.
                plan.vault_chosen = !e.is_damage();
                plan.notes.push(note);
                from = name;
                result = restore(&only, o, plan, cluster).await;
            }
            Err(e) => ctx.monitor.warning(format!("vault `{name}` cannot be restored from: {e}")),
        }
    }
    result
}
