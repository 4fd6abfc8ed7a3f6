//! Verified on arrival: a copy is read back from the store that now has it.
//!
//! Every byte that the copy added is read and authenticated, its tree is walked, and what it shares with
//! earlier points of the vault is asked for by name and length. So the level that is noted is L2 where the
//! copy brought everything itself, and L0 where it builds on earlier points: their packs were read back
//! when they came, not now, and a note claims nothing that was not looked at. Of a cold vault maps and WAL are
//! read back, and its data packs are asked for by name and length: L0.

use super::Pair;
use crate::context::Context;
use crate::error::{EngineError, Result};
use crate::state::hostname;
use crate::verify::Level;
use holdfast_core::RunId;
use holdfast_vault::check::check_arrival;
use holdfast_vault::point::{Body, Point, Verified};
use holdfast_vault::{Notes, Signer};
use std::time::Instant;

/// Reads back what nobody read back: copies whose run was killed right after it had committed them. Only
/// where it can be noted; otherwise each copy would begin with all of them.
pub async fn overdue(ctx: &Context, pair: &Pair) -> Result<()> {
    if !pair.target.vault().keys().can_sign(Signer::Operator) {
        return Ok(());
    }
    let survey = pair.target.survey().await?;
    let notes = Notes::read(&pair.target).await?;
    let now = jiff::Timestamp::now();
    for p in survey.points.iter().map(|s| &s.facts).filter(|p| p.copy_of.is_some()) {
        let of = notes.of(&p.id);
        if of.verified.is_empty() && of.expired(now).is_none() {
            check(ctx, pair, &pair.target.point(&p.id).await?).await?;
        }
    }
    Ok(())
}

/// Reads a copy back; notes what was shown, if the key may. The level, if anything could be shown.
pub async fn check(ctx: &Context, pair: &Pair, point: &Point) -> Result<Option<&'static str>> {
    ctx.monitor.phase("reading back what arrived");
    let begun = Instant::now();
    let report = check_arrival(&pair.target, point, &*ctx.monitor).await?;
    let findings: Vec<String> = report.findings.iter().map(|f| format!("{}: {}", f.name, f.what)).collect();
    let passed = findings.is_empty();
    let keys = pair.target.vault().keys();
    // Without the private key frames stay closed: their digests are checked, which shows that they are stored.
    let whole = point.parent.is_none() && keys.can_read() && !pair.policy.is_cold();
    let level = if whole { Level::L2 } else { Level::L0 };
    if keys.can_sign(Signer::Operator) {
        let at = jiff::Timestamp::now();
        let note = Body::Verified(Verified {
            point: point.id.clone(),
            level: if passed { level.word() } else { "none" }.into(),
            passed,
            findings: findings.clone(),
            seconds: begun.elapsed().as_secs_f64(),
            restore_seconds: None,
            at,
            host: hostname(),
            tool: format!("holdfast {}", env!("CARGO_PKG_VERSION")),
        });
        let name = pair.target.path().note(&point.id, &RunId::generate(at), "verified");
        pair.target.vault().put_record(&name, &note, Signer::Operator).await?;
    }
    match findings.first() {
        None => Ok(Some(level.word())),
        Some(first) => Err(EngineError::failed(
            format!(
                "point {} arrived damaged in vault `{}` ({} findings): {first}",
                point.id,
                pair.policy.name,
                findings.len()
            ),
            "look at the store of that vault; `holdfast expire POINT --apply` lets the copy go, then copy it again",
        )),
    }
}
