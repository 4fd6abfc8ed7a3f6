//! `holdfast copy`

use super::{Done, context};
use crate::args::{Cli, CopyArgs};
use crate::progress::Progress;
use crate::{output, policy};
use holdfast_core::{ByteSize, time};
use holdfast_engine::copy::{self, CopyOptions, CopyPlan, CopyReport, PointReport, Status};
use holdfast_engine::{Context, EngineError, catalog};
use serde_json::json;
use std::sync::Arc;

pub async fn run(cli: &Cli, a: &CopyArgs) -> Done {
    let (ctx, progress, point) = target(cli, &a.target).await?;
    let o = CopyOptions { point, to: a.to.clone(), from: a.from.clone() };
    let targets = copy::targets(&ctx, &o)?;
    let (mut documents, mut failed) = (Vec::new(), None);
    for to in &targets {
        if a.plan {
            let plan = copy::select::plan(&ctx, &o, to).await?;
            documents.push(plan_document(&plan));
            if !cli.json {
                print_plan(&plan);
            }
            continue;
        }
        let result = copy::run(&ctx, &o, to).await;
        progress.finish();
        let r = result?;
        failed = failed.or(r.failed().map(|p| p.exit).next());
        documents.push(
            json!({ "to": to.name, "points": r.points, "wal": r.wal, "left": r.left, "seconds": r.seconds }),
        );
        if !cli.json {
            print(&r, &to.name);
        }
    }
    if cli.json {
        output::json(&json!({ "plan": a.plan, "copies": documents }));
    }
    Ok(failed.map_or(0, |code| code as u8))
}

/// The context of a target: a database, or a point in one of them. (Ids begin with a date.)
async fn target(cli: &Cli, what: &str) -> anyhow::Result<(Context, Arc<Progress>, Option<String>)> {
    let p = policy::read(&policy::locate(cli.config.as_deref())?)?;
    if !what.starts_with("20") || p.databases.keys().any(|d| d.as_str() == what) {
        let (ctx, progress) = context(cli, Some(what))?;
        return Ok((ctx, progress, None));
    }
    if p.databases.len() > 1 {
        for name in p.databases.keys() {
            let (ctx, progress) = context(cli, Some(name.as_str()))?;
            match catalog::find(&ctx, what).await {
                Ok(_) => return Ok((ctx, progress, Some(what.to_string()))),
                Err(EngineError::NotFound { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    let only = p.databases.keys().next().filter(|_| p.databases.len() == 1);
    match only {
        Some(name) => {
            let (ctx, progress) = context(cli, Some(name.as_str()))?;
            Ok((ctx, progress, Some(what.to_string())))
        }
        None => {
            Err(EngineError::not_found(format!("there is no point `{what}`"), "see `holdfast list`").into())
        }
    }
}

fn plan_document(p: &CopyPlan) -> serde_json::Value {
    let points: Vec<_> = p
        .points()
        .map(|p| json!({ "point": p.id, "origin": p.origin(), "stop_time": p.stop_time, "size_bytes": p.size_bytes }))
        .collect();
    json!({ "from": p.from, "to": p.to, "points": points, "already_there": p.there, "wal_segments": p.segments, "left": p.left })
}

fn print_plan(p: &CopyPlan) {
    output::line(&format!("from vault {} to vault {}", p.from, p.to));
    for point in p.points() {
        output::line(&format!(
            "  point {} of {}, {} in {} files",
            point.id,
            time::short(point.stop_time),
            ByteSize(point.size_bytes),
            point.files
        ));
    }
    for l in &p.left {
        output::line(&format!("  not {}: {}", l.point, l.reason));
    }
    output::line(&format!("  {} points are there already; {} wal segments are missing", p.there, p.segments));
    output::line("nothing was touched: leave out --plan to do it");
}

fn print(r: &CopyReport, to: &str) {
    for p in &r.points {
        output::line(&row(p));
        if let Some(h) = &p.hint {
            output::line(&format!("  hint: {h}"));
        }
    }
    for l in &r.left {
        output::line(&format!("not {}: {}", l.point, l.reason));
    }
    let new = r.points.iter().filter(|p| p.status == Status::Copied).count();
    output::line(&format!(
        "vault {to}: {new} points and {} wal segments brought, {} added, in {}",
        r.wal.segments + r.points.iter().map(|p| p.wal.segments).sum::<u64>(),
        ByteSize(r.wal.stored_bytes + r.points.iter().map(|p| p.stored_bytes).sum::<u64>()),
        time::human(std::time::Duration::from_secs_f64(r.seconds)),
    ));
}

fn row(p: &PointReport) -> String {
    let there = p.point.as_ref().map(|id| format!(" as {id}")).unwrap_or_default();
    match p.status {
        Status::Copied => format!(
            "point {} copied from {} to {}{there}: {} changed, {} stored, {} read, verified {}",
            p.origin,
            p.from,
            p.to,
            ByteSize(p.changed_bytes),
            ByteSize(p.stored_bytes),
            ByteSize(p.read_bytes),
            p.verified_level.unwrap_or("-"),
        ),
        Status::AlreadyThere => format!("point {} is already there{there}", p.origin),
        Status::RemovedThere => {
            format!("point {} was removed from {} by a sweep; name it to bring it again", p.origin, p.to)
        }
        Status::Failed => {
            format!("FAIL point {} was not copied: {}", p.origin, p.error.as_deref().unwrap_or_default())
        }
    }
}
