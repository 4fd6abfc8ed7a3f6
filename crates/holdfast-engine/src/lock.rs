//! `lock`: what is locked shorter than the points that need it, and its extension.
//!
//! A backup and a copy extend before they commit ([`before_commit`]). Where their role may not, the point is
//! committed all the same, with a warning, and is *not yet locked*: whoever may runs [`run`] with `apply`,
//! by hand or from a timer. The plan asks the store for every object that a point needs; nothing is believed
//! that a host wrote down. Locks are extended, never shortened.
//!
//! Crash: some objects are locked for longer, the others as before. The next run finds the rest.

use crate::context::{Context, open_vault};
use crate::error::{EngineError, Result};
use holdfast_core::{Monitor, RunId};
use holdfast_vault::point::Point;
use holdfast_vault::{ClusterVault, lock};
use jiff::Timestamp;
use serde::Serialize;

/// An object that has to be locked for longer.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub name: String,
    /// `null`: it is not locked.
    pub locked_until: Option<Timestamp>,
    pub needed_until: Timestamp,
}

/// One cluster in one vault.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LockReport {
    pub vault: String,
    pub cluster: String,
    /// Points that are not yet locked as they should be.
    pub points: Vec<RunId>,
    pub objects: Vec<Row>,
    /// Objects that the store was asked about: as many requests, and one more for each that is extended.
    pub asked: u64,
    /// When the last lock that a point needs ends.
    pub last: Option<Timestamp>,
    /// How many were extended; absent in a plan.
    pub extended: Option<u64>,
    pub refused: Vec<String>,
}

/// Plans, and with `apply` extends. Vaults without `lock` in the policy are left out.
pub async fn run(ctx: &Context, apply: bool) -> Result<Vec<LockReport>> {
    let mut out = Vec::new();
    let mut any = false;
    for v in ctx.vaults()? {
        if v.lock.is_none() {
            continue;
        }
        any = true;
        let vault = open_vault(&v).await?;
        let Some(rule) = vault.store().lock_rule() else { continue };
        if !vault.store().knows_locks().await? {
            return Err(EngineError::refused(
                format!("the policy locks vault `{}`, and its bucket knows no Object Lock", v.name),
                "turn Object Lock on for the bucket (it keeps versions then), or take `lock` out of the policy",
            ));
        }
        for cluster in ctx.clusters(&vault).await? {
            let path = cluster.path().cluster.to_string();
            ctx.monitor.phase(&format!("asking for locks of {path} in {}", v.name));
            let points = cluster.survey().await?.points;
            let found = lock::look(&cluster, &rule, &points, Timestamp::now()).await?;
            let mut report = LockReport {
                vault: v.name.clone(),
                cluster: path,
                points: found.points.iter().cloned().collect(),
                asked: found.asked,
                last: found.last,
                ..Default::default()
            };
            report.objects.extend(found.short.iter().map(|s| Row {
                name: s.name.clone(),
                locked_until: s.now.map(|r| r.until),
                needed_until: s.need,
            }));
            if apply {
                let done = lock::extend(&cluster, &rule, &found.short).await?;
                report.extended = Some(done.objects);
                report.refused = done.refused;
            }
            out.push(report);
        }
    }
    if !any {
        return Err(EngineError::usage(
            format!("no vault of `{}` is locked", ctx.db.name),
            "add `lock = { mode = \"governance\", for = \"30d\" }` to a vault in S3",
        ));
    }
    Ok(out)
}

/// Extends what the point needs, before it is committed; gives the date of the point's own lock.
pub async fn before_commit(
    cluster: &ClusterVault,
    point: &Point,
    monitor: &dyn Monitor,
) -> Result<(Option<Timestamp>, Vec<String>)> {
    let mut warnings = Vec::new();
    let mut warn = |text: String| {
        monitor.warning(text.clone());
        warnings.push(text);
    };
    let store = cluster.store();
    let until = match lock::before_commit(cluster, point).await? {
        Some((until, done)) => {
            if let Some(first) = done.refused.first() {
                warn(format!(
                    "the point is not yet locked: the store refused to lock {} objects ({first}); \
                     run `holdfast lock --apply` with a role that may",
                    done.refused.len()
                ));
            }
            Some(until)
        }
        None if store.lock_rule().is_some() => {
            warn("the policy asks for locks, and the bucket knows no Object Lock: nothing is locked".into());
            None
        }
        None => None,
    };
    if store.unlocked() {
        warn("this role may not lock what it writes: run `holdfast lock --apply` with one that may".into());
    }
    Ok((until, warnings))
}
