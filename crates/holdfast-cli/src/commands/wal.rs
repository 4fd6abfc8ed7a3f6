//! `holdfast wal push|get|status|adopt`

use super::{Done, context, partial, program};
use crate::args::{Cli, WalCommand};
use crate::{failure, output};
use holdfast_core::{ByteSize, time};
use holdfast_engine::EngineError;
use holdfast_engine::wal::get::{GetOptions, Got, get, prefetch, wants_prefetch};
use holdfast_engine::wal::{owner, push, status};
use serde_json::json;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

pub async fn run(cli: &Cli, w: &WalCommand) -> Done {
    match w {
        WalCommand::Push { db, path } => {
            let (ctx, _) = context(cli, db.as_deref())?;
            let p = push::push(&ctx, path).await?;
            if cli.json {
                output::json(&p);
            } else if cli.verbose {
                let how = if p.duplicate { "was there already" } else { "stored" };
                output::line(&format!("{} {how}, {}", p.name, ByteSize(p.stored_bytes)));
            }
            Ok(0)
        }
        WalCommand::Get { db, cluster, timeline, reach, planned, retry_for, prefetch, name, dest } => {
            let (ctx, _) = context(cli, db.as_deref())?;
            let span: time::Duration =
                retry_for.parse().map_err(|e: String| failure::usage(e, "--retry-for 60s"))?;
            let o = GetOptions {
                retry_for: span.std(),
                cluster: *cluster,
                timeline: timeline.map(holdfast_core::TimelineId),
                // One that does not parse is no permission.
                reach: reach.as_deref().and_then(|r| r.parse().ok()),
                planned: planned.as_deref().and_then(|r| r.parse().ok()),
                prefetch: *prefetch,
            };
            let got = get(&ctx, name, dest, &o).await?;
            if cli.json {
                output::json(&json!({ "name": name, "found": got == Got::File }));
            }
            if got == Got::CertainlyAbsent {
                return Ok(1);
            }
            if let Some(id) = cluster
                && wants_prefetch(&ctx, *id, name, *prefetch)
            {
                start_prefetch(cli, db.as_deref(), *id, *prefetch, name);
            }
            Ok(0)
        }
        WalCommand::Prefetch { db, cluster, ahead, name } => {
            let (ctx, _) = context(cli, db.as_deref())?;
            prefetch(&ctx, *cluster, name, *ahead).await?;
            Ok(0)
        }
        WalCommand::Status { database } => wal_status(cli, database.as_deref()).await,
        WalCommand::Adopt { database, data_dir } => {
            adopt(cli, database.as_deref(), data_dir.as_deref()).await
        }
    }
}

/// Fetches ahead in a process of its own: replay goes on meanwhile. Its failure is nobody's problem.
fn start_prefetch(cli: &Cli, db: Option<&str>, cluster: u64, ahead: u64, name: &str) {
    let Ok(exe) = program() else { return };
    let mut c = Command::new(exe);
    if let Ok(config) = crate::policy::locate(cli.config.as_deref()) {
        c.arg("--config").arg(config);
    }
    if let Some(v) = &cli.vault {
        c.arg("--vault").arg(v);
    }
    c.arg("wal").arg("prefetch");
    if let Some(d) = db {
        c.arg("--db").arg(d);
    }
    c.arg("--cluster").arg(cluster.to_string()).arg("--ahead").arg(ahead.to_string()).arg(name);
    c.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let _ = c.spawn();
}

async fn wal_status(cli: &Cli, db: Option<&str>) -> Done {
    let (ctx, _) = context(cli, db)?;
    let (all, away) = status::status(&ctx).await?;
    let code = partial(away.is_empty());
    if cli.json {
        output::json(&json!({ "database": ctx.db.name, "archives": all, "away": away }));
        return Ok(code);
    }
    output::away(&away);
    if all.is_empty() {
        output::line("no wal is archived");
    }
    for a in &all {
        let newest = a.newest_at.map_or("-".into(), time::short);
        output::line(&format!(
            "vault {}, cluster {}: {} segments, {}, newest {newest}",
            a.vault,
            a.cluster,
            a.segments,
            ByteSize(a.stored_bytes)
        ));
        for t in &a.timelines {
            let from = match (&t.parent, &t.switched_at) {
                (Some(p), Some(at)) => format!(" from {p} at {at}"),
                _ => String::new(),
            };
            let owner = t.owner_host.as_deref().unwrap_or("nobody yet");
            output::line(&format!("  timeline {}{from}, owned by {owner}", t.timeline));
        }
        for s in &a.spans {
            output::line(&format!("  {} to {} ({} segments)", s.first, s.last, s.segments));
        }
        for g in &a.gaps {
            output::line(&format!(
                "  GAP: {} segments are missing between {} and {}",
                g.missing, g.after, g.before
            ));
        }
        for c in &a.conflicts {
            output::line(&format!("  CONFLICT: {c} came with other content than what is archived"));
        }
    }
    Ok(code)
}

async fn adopt(cli: &Cli, db: Option<&str>, data_dir: Option<&std::path::Path>) -> Done {
    let (ctx, _) = context(cli, db)?;
    let dir = data_dir
        .map(std::path::Path::to_path_buf)
        .or_else(|| ctx.db.data_directory.clone())
        .ok_or_else(|| {
            failure::usage(
                "cannot tell the data directory",
                "name it with --data-dir, or set `data-directory` in the policy",
            )
        })?;
    let (_, control) = holdfast_pg::datadir::read_control(&dir).map_err(EngineError::from)?;
    let timeline = owner::current_timeline(&control);
    let mut adopted = Vec::new();
    for v in ctx.vaults()? {
        let vault = holdfast_engine::context::open_vault(&v).await?;
        let cluster =
            vault.cluster(ctx.cluster_path(control.system_identifier)).await.map_err(EngineError::from)?;
        let o = owner::adopt(&ctx, &cluster, timeline, &dir).await?;
        push::catch_up(&cluster, v.wal_compression, &dir, &control).await?;
        adopted.push(json!({ "vault": v.name, "timeline": o.timeline, "number": o.number, "host": o.host }));
    }
    if cli.json {
        output::json(&json!({ "adopted": adopted }));
    } else {
        output::line(&format!("`{}` now owns timeline {timeline} of `{}`", dir.display(), ctx.db.name));
    }
    Ok(0)
}
