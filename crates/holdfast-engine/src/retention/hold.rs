//! `hold` and `release`: a point that stays whatever the rules say, and the end of that.

use crate::catalog;
use crate::context::{Context, open_vault};
use crate::error::{EngineError, Result};
use crate::state::hostname;
use holdfast_core::RunId;
use holdfast_vault::PointFacts;
use holdfast_vault::point::{Body, Hold, Released};
use holdfast_vault::{ClusterVault, Notes, Signer};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// Holds a point in every vault of the database that has it.
pub async fn hold(ctx: &Context, point: &str, title: &str, until: Option<Timestamp>) -> Result<Hold> {
    let (_, _, found) = catalog::find(ctx, point).await?;
    let now = Timestamp::now();
    if until.is_some_and(|u| u <= now) {
        return Err(EngineError::usage("a hold cannot end in the past", "give a later --until, or none"));
    }
    let hold = Hold {
        id: RunId::generate(now),
        point: found.id.clone(),
        title: title.into(),
        until,
        at: now,
        host: hostname(),
    };
    let (mut held, mut late) = (false, Vec::new());
    for v in ctx.vaults()? {
        let vault = open_vault(&v).await?;
        for cluster in ctx.clusters(&vault).await? {
            // A copy is the same point under another id.
            let points = cluster.survey().await?.points;
            let called = |p: &PointFacts| p.is_called(found.origin());
            let mine = points.iter().map(|s| &s.facts).find(|p| called(p)).map(|p| p.id.clone());
            let known = match mine {
                // A record that does not open: its name says enough.
                None => {
                    cluster.store().head(&cluster.path().point(&found.id)).await?.map(|_| found.id.clone())
                }
                some => some,
            };
            let Some(id) = known else { continue };
            // With the operator's signature where we have it; a host's counts as well.
            let signer =
                if vault.keys().can_sign(Signer::Operator) { Signer::Operator } else { Signer::Host };
            let name = cluster.path().note(&id, &hold.id, "hold");
            vault.put_record(&name, &Body::Hold(Hold { point: id.clone(), ..hold.clone() }), signer).await?;
            held = true;
            // Written before we look: a sweep that condemns later reads our hold.
            if cluster.is_condemned(&id).await? {
                late.push(v.name.clone());
            }
        }
    }
    if !late.is_empty() {
        return Err(EngineError::failed(
            format!("a sweep had begun to remove point {} from `{}`", found.id, late.join("`, `")),
            "the hold is written, but may be too late there: see `holdfast list` when the sweep has ended",
        ));
    }
    if held {
        Ok(hold)
    } else {
        Err(EngineError::not_found(format!("there is no point `{point}`"), "see `holdfast list`"))
    }
}

/// Every hold in force.
pub async fn list(ctx: &Context) -> Result<Vec<(String, Hold)>> {
    let now = Timestamp::now();
    let mut out = Vec::new();
    for v in ctx.vaults()? {
        let vault = open_vault(&v).await?;
        for cluster in ctx.clusters(&vault).await? {
            let notes = Notes::read(&cluster).await?;
            out.extend(notes.holds(now).map(|h| (v.name.clone(), h.clone())));
        }
    }
    Ok(out)
}

/// Ends a hold in every vault that has it. Needs the operator's key (R4).
pub async fn release(ctx: &Context, id: &str, reason: &str) -> Result<Hold> {
    let now = Timestamp::now();
    let mut found: Vec<(ClusterVault, Hold)> = Vec::new();
    for v in ctx.vaults()? {
        let vault = open_vault(&v).await?;
        for cluster in ctx.clusters(&vault).await? {
            let notes = Notes::read(&cluster).await?;
            found.extend(notes.find_hold(id).into_iter().map(|h| (cluster.clone(), h.clone())));
        }
    }
    let ids: BTreeSet<&RunId> = found.iter().map(|(_, h)| &h.id).collect();
    if ids.len() > 1 || id.is_empty() {
        return Err(EngineError::usage(
            format!("`{id}` stands for {} holds", ids.len()),
            "write more of its id",
        ));
    }
    let mut released: Option<Hold> = None;
    for (cluster, hold) in &found {
        let note = Body::Released(Released {
            hold: hold.id.clone(),
            point: hold.point.clone(),
            reason: reason.into(),
            at: now,
            host: hostname(),
        });
        let name = cluster.path().note(&hold.point, &RunId::generate(now), "released");
        cluster.vault().put_record(&name, &note, Signer::Operator).await?;
        released = Some(hold.clone());
    }
    released.ok_or_else(|| {
        EngineError::not_found(format!("there is no hold `{id}`"), "see `holdfast hold --list`")
    })
}
