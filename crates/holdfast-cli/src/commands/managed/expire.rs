//! `holdfast expire` of a managed database.

use super::open;
use crate::args::Cli;
use crate::commands::Done;
use crate::output;
use holdfast_core::{ByteSize, time};
use holdfast_engine::managed::copy::moment;
use holdfast_engine::managed::expire::{Plan, Report, apply, plan};
use holdfast_engine::managed::tiers;
use jiff::Timestamp;
use serde_json::json;

pub async fn expire(cli: &Cli, database: Option<&str>, do_it: bool) -> Done {
    let s = open(cli, database, None).await?;
    let rules = tiers::rules(&s.ctx.policy, &s.plan, &s.managed.source.region)?;
    let (mut documents, mut failed) = (Vec::new(), false);
    for (region, rules) in &rules {
        let p = plan(&s.managed, region, rules, Timestamp::now()).await?;
        let report = match do_it {
            true => Some(apply(&s.managed, &p).await?),
            false => None,
        };
        s.progress.finish();
        failed |= report.as_ref().is_some_and(|r| !r.failed.is_empty());
        match cli.json {
            true => documents.push(document(&p, report.as_ref())),
            false => text(&p, report.as_ref()),
        }
    }
    if cli.json {
        output::json(&json!({ "regions": documents }));
    }
    Ok(if failed { 3 } else { 0 })
}

fn reasons(l: &holdfast_engine::managed::expire::Line) -> String {
    let all = l.reasons.iter().map(ToString::to_string).chain(l.stays.clone());
    all.collect::<Vec<_>>().join("; ")
}

fn document(p: &Plan, report: Option<&Report>) -> serde_json::Value {
    let lines = p.lines.iter().map(|l| {
        json!({
            "id": l.snapshot.at.id, "taken_at": moment(&l.snapshot), "size_gib": l.snapshot.size_gib,
            "keep": l.keep || l.stays.is_some(), "reasons": reasons(l),
        })
    });
    json!({ "region": p.region, "snapshots": lines.collect::<Vec<_>>(), "report": report })
}

fn text(p: &Plan, report: Option<&Report>) {
    output::line(&format!("snapshots of holdfast in {}", p.region));
    let mut rows = vec![["SNAPSHOT", "SHOWS", "SIZE", "", "REASON"].map(String::from).to_vec()];
    rows.extend(p.lines.iter().map(|l| {
        let stays = l.keep || l.stays.is_some();
        vec![
            l.snapshot.at.to_string(),
            moment(&l.snapshot).map(time::short).unwrap_or_default(),
            ByteSize(u64::from(l.snapshot.size_gib) << 30).to_string(),
            if stays { "keep".into() } else { "remove".into() },
            reasons(l),
        ]
    }));
    match p.lines.is_empty() {
        true => output::line("  none"),
        false => output::table(&rows),
    }
    let n = p.removed().count();
    match report {
        None if n > 0 => output::line(&format!("{n} would be removed; --apply does it")),
        None => {}
        Some(r) => {
            output::line(&format!("{} removed", r.removed.len()));
            for (id, why) in &r.failed {
                output::line(&format!("failed: {id}: {why}"));
            }
        }
    }
}
