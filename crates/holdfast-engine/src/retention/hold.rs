//! `hold` and `release`: a point that stays whatever the rules say, and the end of that.

use crate::away::{Away, each, each_vault};
use crate::catalog;
use crate::context::{Context, open_vault};
use crate::error::{EngineError, Result};
use crate::state::hostname;
use holdfast_core::{RunId, policy};
use holdfast_vault::PointFacts;
use holdfast_vault::point::{Body, Hold, Point, Released};
use holdfast_vault::{ClusterVault, Notes, Signer};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// Holds a point in every vault of the database that has it, and says which are away: there nothing holds it
/// until somebody does so again.
pub async fn hold(
    ctx: &Context,
    point: &str,
    title: &str,
    until: Option<Timestamp>,
) -> Result<(Hold, Vec<Away>)> {
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
    let (placed, away) = each_vault(ctx, async |v| hold_in(ctx, &v, &found, &hold).await).await?;
    let late: Vec<String> = placed.iter().flat_map(|p| p.late.clone()).collect();
    if !late.is_empty() {
        return Err(EngineError::failed(
            format!("a sweep had begun to remove point {} from `{}`", found.id, late.join("`, `")),
            "the hold is written, but may be too late there: see `holdfast list` when the sweep has ended",
        ));
    }
    match (placed.iter().any(|p| p.held), away.first()) {
        (true, _) => Ok((hold, away)),
        (false, Some(away)) => Err(EngineError::failed(away.to_string(), "hold it again when it is back")),
        (false, None) => {
            Err(EngineError::not_found(format!("there is no point `{point}`"), "see `holdfast list`"))
        }
    }
}

/// What became of a hold in one vault.
#[derive(Default)]
struct Placed {
    held: bool,
    /// The vault, where a sweep had begun with the point.
    late: Vec<String>,
}

async fn hold_in(ctx: &Context, v: &policy::Vault, found: &Point, hold: &Hold) -> Result<Placed> {
    let mut placed = Placed::default();
    let vault = open_vault(v).await?;
    for cluster in ctx.clusters(&vault).await? {
        // A copy is the same point under another id.
        let points = cluster.survey().await?.points;
        let called = |p: &PointFacts| p.is_called(found.origin());
        let mine = points.iter().map(|s| &s.facts).find(|p| called(p)).map(|p| p.id.clone());
        let known = match mine {
            // A record that does not open: its name says enough.
            None => cluster.store().head(&cluster.path().point(&found.id)).await?.map(|_| found.id.clone()),
            some => some,
        };
        let Some(id) = known else { continue };
        // With the operator's signature where we have it; a host's counts as well.
        let signer = if vault.keys().can_sign(Signer::Operator) { Signer::Operator } else { Signer::Host };
        let name = cluster.path().note(&id, &hold.id, "hold");
        vault.put_record(&name, &Body::Hold(Hold { point: id.clone(), ..hold.clone() }), signer).await?;
        placed.held = true;
        // Written before we look: a sweep that condemns later reads our hold.
        if cluster.is_condemned(&id).await? {
            placed.late.push(v.name.clone());
        }
    }
    Ok(placed)
}

/// Every hold in force, with its vault; and the vaults that are away.
pub async fn list(ctx: &Context) -> Result<(Vec<(String, Hold)>, Vec<Away>)> {
    let now = Timestamp::now();
    let (found, away) = each_vault(ctx, async |v| {
        let vault = open_vault(&v).await?;
        let mut found = Vec::new();
        for cluster in ctx.clusters(&vault).await? {
            let notes = Notes::read(&cluster).await?;
            found.extend(notes.holds(now).map(|h| (v.name.clone(), h.clone())));
        }
        Ok(found)
    })
    .await?;
    Ok((found.into_iter().flatten().collect(), away))
}

/// Ends a hold in every vault that has it, and says which are away: there it holds on. Needs the operator's
/// key (R4).
pub async fn release(ctx: &Context, id: &str, reason: &str) -> Result<(Hold, Vec<Away>)> {
    let now = Timestamp::now();
    let (found, mut away) = each_vault(ctx, async |v| {
        let vault = open_vault(&v).await?;
        let mut found: Vec<(String, ClusterVault, Hold)> = Vec::new();
        for cluster in ctx.clusters(&vault).await? {
            let notes = Notes::read(&cluster).await?;
            let holds = notes.find_hold(id).into_iter();
            found.extend(holds.map(|h| (v.name.clone(), cluster.clone(), h.clone())));
        }
        Ok(found)
    })
    .await?;
    let found: Vec<_> = found.into_iter().flatten().collect();
    let ids: BTreeSet<&RunId> = found.iter().map(|(_, _, h)| &h.id).collect();
    if ids.len() > 1 || id.is_empty() {
        return Err(EngineError::usage(
            format!("`{id}` stands for {} holds", ids.len()),
            "write more of its id",
        ));
    }
    let Some((_, _, hold)) = found.first() else {
        let what = format!("there is no hold `{id}`");
        return Err(match away.first() {
            Some(a) => EngineError::not_found(
                format!("{what} in the vaults that could be asked; {a}"),
                "see `holdfast hold --list`",
            ),
            None => EngineError::not_found(what, "see `holdfast hold --list`"),
        });
    };
    // Where nobody could look there may be another that begins so.
    if let Some(a) = away.first().filter(|_| hold.id.as_str() != id) {
        return Err(EngineError::usage(
            format!("`{id}` is the beginning of `{}`, but not all could be asked: {a}", hold.id),
            "write the whole id",
        ));
    }
    let write = async |(_, cluster, hold): &(String, ClusterVault, Hold)| {
        let note = Body::Released(Released {
            hold: hold.id.clone(),
            point: hold.point.clone(),
            reason: reason.into(),
            at: now,
            host: hostname(),
        });
        let name = cluster.path().note(&hold.point, &RunId::generate(now), "released");
        cluster.vault().put_record(&name, &note, Signer::Operator).await?;
        Ok(())
    };
    let (_, failed) = each(&found, |(vault, ..)| vault.clone(), write).await?;
    away.extend(failed);
    Ok((hold.clone(), away))
}
