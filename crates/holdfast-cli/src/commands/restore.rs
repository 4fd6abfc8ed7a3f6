//! `holdfast restore`

use super::{Done, context, pair, program};
use crate::args::{Cli, RestoreArgs};
use crate::{failure, output};
use holdfast_core::time::Duration;
use holdfast_core::{ByteSize, TimelineId, time};
use holdfast_engine::restore::cold::{Retrieval, Retrieve};
use holdfast_engine::restore::delta::{DeltaPlan, Found};
use holdfast_engine::restore::plan::RestorePlan;
use holdfast_engine::restore::select::{Selection, label};
use holdfast_engine::restore::settings::TargetAction;
use holdfast_engine::restore::target::{ServerTarget, Target, TimelineChoice};
use holdfast_engine::restore::{self, RestoreOptions, Standby};
use holdfast_engine::{EngineError, catalog};
use serde_json::json;
use std::path::PathBuf;

pub async fn run(cli: &Cli, a: &RestoreArgs) -> Done {
    let (ctx, progress) = context(cli, a.database.as_deref())?;
    let Some(to) = &a.to else {
        return Err(failure::usage(
            format!("where is `{}` to be restored to?", ctx.db.name),
            "name a directory: --to DIR; --to-id is for databases that a provider runs",
        ));
    };
    let mut o = RestoreOptions::new(std::path::absolute(to)?, program()?);
    o.target = target(a)?;
    o.timeline = match a.timeline.as_str() {
        "latest" => TimelineChoice::Latest,
        "current" => TimelineChoice::Current,
        n => TimelineChoice::Number(
            n.parse::<TimelineId>()
                .map_err(|e| failure::usage(e.to_string(), "write a number, `latest` or `current`"))?,
        ),
    };
    o.action = match a.target_action.as_str() {
        "promote" => TargetAction::Promote,
        "pause" => TargetAction::Pause,
        "shutdown" => TargetAction::Shutdown,
        other => {
            return Err(failure::usage(
                format!("`{other}` is no target action"),
                "use promote, pause or shutdown",
            ));
        }
    };
    o.exclusive = a.exclusive;
    o.delta = a.delta;
    o.only_databases = a.only_database.clone();
    if a.standby {
        if a.timeline != "latest" {
            return Err(failure::usage(
                "a standby follows the latest timeline",
                "leave --timeline out; --point chooses where it starts",
            ));
        }
        let text = |v: &Option<String>| v.clone().unwrap_or_default();
        o.standby = Some(Standby::new(&text(&a.primary_conninfo), &text(&a.primary_slot))?);
    }
    o.retrieve = retrieve(a)?;
    o.cluster = a.cluster.clone();
    o.wal_from = a.wal_from.as_ref().map(std::path::absolute).transpose()?;
    for m in &a.tablespace_map {
        let (old, new) = pair(m, "--tablespace-map")?;
        o.tablespace_map.push((PathBuf::from(old), PathBuf::from(new)));
    }
    for s in &a.set {
        let (k, v) = pair(s, "--set")?;
        if !k.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') || v.contains('\n') {
            return Err(failure::usage(format!("`{s}` is not a setting"), "write --set port=5433"));
        }
        o.set.push((k, v));
    }
    if let Some(p) = &a.point {
        // By the id that the backup gave it, which it has in every vault.
        let (_, _, point) = catalog::find(&ctx, p).await?;
        o.point = Some(point.origin().clone());
    }
    let chosen = restore::choose::plan(&ctx, &o).await?;
    if a.plan {
        if cli.json {
            output::json(&chosen.plan)
        } else {
            print_plan(&chosen.plan);
            output::line("nothing was touched: leave out --plan to do it");
        }
        return Ok(0);
    }
    if chosen.plan.retrieval.as_ref().is_some_and(Retrieval::asks) && !a.yes && !cli.json {
        // What the refusal that follows is about.
        print_plan(&chosen.plan);
    }
    let result = restore::choose::run(&ctx, &o, chosen).await;
    progress.finish();
    let r = result?;
    if cli.json {
        let mut done = json!({
            "to": r.plan.to, "point": r.plan.point, "timeline": r.plan.timeline, "target": r.plan.server_target,
            "bytes": r.bytes, "fetched_bytes": r.fetched_bytes, "files": r.files, "seconds": r.seconds,
            "delta": r.delta, "notes": r.plan.notes, "plan": r.plan,
        });
        if let Some(s) = &r.plan.selection {
            done["databases"] = json!(s.databases);
            done["databases_left_out"] = json!(s.left_out);
        }
        output::json(&done);
    } else {
        // What was compared is dealt with, too.
        let bytes = if r.delta.is_some() { r.plan.size_bytes } else { r.bytes };
        let speed = ByteSize((bytes as f64 / r.seconds.max(0.001)) as u64);
        output::line(&format!(
            "restored point {} to {}: {} in {} files, {} ({speed}/s)",
            r.plan.point,
            r.plan.to.display(),
            ByteSize(r.plan.size_bytes),
            r.files,
            time::human(std::time::Duration::from_secs_f64(r.seconds)),
        ));
        if let Some(d) = &r.delta {
            output::line(&format!(
                "compared {}, rewrote {}, removed {} files ({})",
                ByteSize(d.compared_bytes),
                ByteSize(d.rewritten_bytes),
                d.removed_files,
                ByteSize(d.removed_bytes)
            ));
        }
        output::line(&format!("target: {}", describe(&r.plan)));
        if let Some(s) = &r.plan.selection {
            print_selection(s);
        }
        let own = r.plan.set.iter().any(|(k, v)| k == "archive_mode" && v != "off");
        let archiving = if own { "" } else { ". archiving is off in the copy" };
        output::line(&format!(
            "start the server on it; it fetches its wal with `holdfast wal get`{archiving}"
        ));
    }
    Ok(0)
}

fn retrieve(a: &RestoreArgs) -> anyhow::Result<Option<Retrieve>> {
    let Some(speed) = &a.retrieve else { return Ok(None) };
    let speed = speed.parse().map_err(|e: String| failure::usage(e, "use bulk, standard or expedited"))?;
    let patience = a.retrieve_for.as_deref().map(str::parse).transpose();
    let patience = patience.map_err(|e: String| failure::usage(e, "--retrieve-for 12h"))?;
    Ok(Some(Retrieve { speed, days: a.retrieve_days, patience, approved: a.yes }))
}

fn target(a: &RestoreArgs) -> anyhow::Result<Target> {
    Ok(if let Some(t) = &a.at {
        let now = jiff::Timestamp::now();
        Target::Time(time::parse_instant(t, now).map_err(EngineError::from)?)
    } else if let Some(l) = &a.lsn {
        Target::Lsn(
            l.parse().map_err(|e: holdfast_core::lsn::LsnError| {
                failure::usage(e.to_string(), "--lsn 16/B374D848")
            })?,
        )
    } else if let Some(x) = a.xid {
        Target::Xid(x)
    } else if let Some(n) = &a.name {
        Target::Name(n.clone())
    } else if a.immediate {
        Target::Immediate
    } else {
        Target::EndOfWal
    })
}

fn describe(p: &RestorePlan) -> String {
    if let Some(s) = &p.standby {
        let from = if s.conninfo.is_empty() { String::new() } else { format!(" and of `{}`", s.conninfo) };
        return format!("a standby of the archive{from}, from {} on timeline {}", p.wal_end, p.timeline);
    }
    let what = match &p.server_target {
        ServerTarget::None => match p.wal_end_time {
            Some(t) => format!("the end of the archived wal, {} (about {})", p.wal_end, time::rfc3339(t)),
            None => format!("the end of the archived wal, {}", p.wal_end),
        },
        ServerTarget::Time(t) => time::rfc3339(*t),
        ServerTarget::Lsn(l) => format!("lsn {l}"),
        ServerTarget::Xid(x) => format!("transaction {x}"),
        ServerTarget::Name(n) => format!("restore point `{n}`"),
        ServerTarget::Immediate => "as soon as it is consistent".into(),
    };
    format!("{what}, timeline {}, then {}", p.timeline, p.action.word())
}

fn print_plan(p: &RestorePlan) {
    let rows = [
        ("database", format!("{} (cluster {}, postgresql {})", p.database, p.cluster, p.postgres_version)),
        ("from", format!("point {} of {} in vault {}", p.point, time::short(p.point_time), p.vault)),
        ("target", describe(p)),
        ("wal", format!("from {}: {} segments, up to {}", p.wal_from, p.wal_segments, p.wal_end)),
        ("to", p.to.display().to_string()),
        (
            "size",
            format!(
                "{} in {} files; free: {}",
                ByteSize(p.size_bytes),
                p.files,
                p.free_bytes.map_or("unknown".into(), |f| ByteSize(f).to_string())
            ),
        ),
    ];
    for (k, v) in rows {
        output::line(&format!("{k:10}{v}"));
    }
    if let Some(r) = &p.retrieval {
        print_retrieval(r);
    }
    for t in &p.tablespaces {
        output::line(&format!("tablespace {} from {} to {}", t.oid, t.from.display(), t.to.display()));
    }
    if let Some(d) = &p.delta {
        print_delta(d);
    }
    if let Some(s) = &p.selection {
        print_selection(s);
    }
    if p.replaces_partial {
        output::line("note      the directory holds a restore that was broken off; it is emptied first");
    }
    for n in &p.notes {
        output::line(&format!("note      {n}"));
    }
}

fn print_retrieval(r: &Retrieval) {
    let packs = |n: u64, bytes: u64| format!("{n} data packs ({})", ByteSize(bytes));
    let span = |from: u64, to: u64| match from {
        0 => format!("up to {}", Duration(to)),
        _ => format!("{} to {}", Duration(from), Duration(to)),
    };
    for c in &r.archived {
        output::line(&format!(
            "archived  {} of {} in {}; `{}` takes {}, and costs {} for bytes, {} for requests",
            packs(c.packs, c.bytes),
            r.all.packs,
            c.class,
            r.speed,
            span(c.from_seconds, c.to_seconds),
            c.cost.bytes_usd,
            c.cost.requests_usd,
        ));
    }
    if r.under_way.packs > 0 {
        let n = packs(r.under_way.packs, r.under_way.bytes);
        output::line(&format!("asked for {n} are being retrieved, at the speed that they were asked for"));
    }
    if r.readable.packs > 0 {
        let until = r.readable_until.map(|t| format!(", until {}", time::short(t))).unwrap_or_default();
        output::line(&format!("readable  {}{until}", packs(r.readable.packs, r.readable.bytes)));
    }
    if r.extended.packs > 0 {
        output::line(&format!(
            "longer    {} of these are to stay for longer: the restore could read for {}",
            r.extended.packs,
            time::human(Duration(r.reading_seconds).std())
        ));
    }
    if r.spends() {
        output::line(&format!(
            "costs     about {}: {} of it for copies that stay for {} days ({} of {}); --yes agrees to that",
            r.cost.total_usd, r.cost.copies_usd, r.days, r.prices_region, r.prices_date
        ));
    }
    output::line(&format!("waits     for at most {}", time::human(Duration(r.patience_seconds).std())));
}

fn print_selection(s: &Selection) {
    let names: Vec<String> = s.databases.iter().map(|d| label(d.oid, d.name.as_deref())).collect();
    output::line(&format!("databases {}", names.join(", ")));
    for d in &s.left_out {
        let what = match d.copied_from {
            Some(from) => format!("recovery makes it as a copy of {from}"),
            None => ByteSize(d.bytes).to_string(),
        };
        output::line(&format!("left out  {} ({what})", label(d.oid, d.name.as_deref())));
    }
    if !s.left_out.is_empty() {
        output::line(
            "note      nobody can connect to what is left out: drop these databases once the copy is started",
        );
    }
}

fn print_delta(d: &DeltaPlan) {
    let state = match (&d.found, &d.state, d.timeline, d.checkpoint) {
        (Found::Partial, ..) => "what a restore that was broken off left".into(),
        (_, Some(state), Some(timeline), Some(at)) => {
            format!("a data directory of this cluster, {state}, timeline {timeline}, last checkpoint at {at}")
        }
        _ => "a data directory of this cluster".into(),
    };
    let rows = [
        ("over", format!("{state}; {} in {} files", ByteSize(d.seen.bytes), d.seen.files)),
        (
            "removes",
            format!(
                "{} files that are not in the point ({}){}",
                d.seen.surplus_files,
                ByteSize(d.seen.surplus_bytes),
                if d.surplus_names.is_empty() {
                    String::new()
                } else {
                    format!(", {} among them", d.surplus_names.join(", "))
                }
            ),
        ),
        ("rewrites", "what differs; every block is compared by content".into()),
    ];
    for (k, v) in rows {
        output::line(&format!("{k:10}{v}"));
    }
}
