//! `hold` and `release`: a point that stays whatever the rules say, and the end of that.

use crate::catalog;
use crate::context::{Context, open_vault};
use crate::error::{EngineError, Result};
use crate::state::hostname;
use holdfast_core::RunId;
use holdfast_vault::point::{Body, Hold, Released};
use holdfast_vault::{Notes, Signer};
use jiff::Timestamp;

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
    let mut held = false;
    for v in ctx.vaults()? {
        let vault = open_vault(&v).await?;
        for cluster in ctx.clusters(&vault).await? {
            if cluster.commit(&found.id).await?.is_none() {
                continue;
            }
            // With the operator's signature where we have it; a host's counts as well.
            let signer =
                if vault.keys().can_sign(Signer::Operator) { Signer::Operator } else { Signer::Host };
            let name = cluster.path().note(&found.id, &hold.id, "hold");
            vault.put_record(&name, &Body::Hold(hold.clone()), signer).await?;
            held = true;
            // Written before we look: a sweep that condemns later reads our hold.
            if cluster.is_condemned(&found.id).await? {
                return Err(EngineError::failed(
                    format!("a sweep had begun to remove point {} from vault `{}`", found.id, v.name),
                    "the hold is written, but may be too late: see `holdfast list` when the sweep has ended",
                ));
            }
        }
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
    let mut released: Option<Hold> = None;
    for v in ctx.vaults()? {
        let vault = open_vault(&v).await?;
        for cluster in ctx.clusters(&vault).await? {
            let notes = Notes::read(&cluster).await?;
            let hits: Vec<&Hold> = notes.find_hold(id);
            let Some(first) = hits.first().copied() else { continue };
            if hits.iter().any(|h| h.id != first.id) {
                return Err(EngineError::usage(
                    format!("`{id}` stands for {} holds", hits.len()),
                    "write more of its id",
                ));
            }
            let note = Body::Released(Released {
                hold: first.id.clone(),
                point: first.point.clone(),
                reason: reason.into(),
                at: now,
                host: hostname(),
            });
            let name = cluster.path().note(&first.point, &RunId::generate(now), "released");
            vault.put_record(&name, &note, Signer::Operator).await?;
            released = Some(first.clone());
        }
    }
    released.ok_or_else(|| {
        EngineError::not_found(format!("there is no hold `{id}`"), "see `holdfast hold --list`")
    })
}
