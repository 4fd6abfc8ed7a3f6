//! `holdfast check`, `holdfast doctor`

use super::{Done, context};
use crate::args::Cli;
use crate::output;
use holdfast_core::ByteSize;
use holdfast_engine::{checks, doctor};
use serde_json::json;

pub async fn check(cli: &Cli, db: Option<&str>, fast: bool) -> Done {
    let (ctx, progress) = context(cli, db)?;
    let result = checks::run(&ctx, fast).await;
    progress.finish();
    let all = result?;
    let damaged = all.iter().any(|c| c.report.damaged());
    if cli.json {
        let lines: Vec<_> = all
            .iter()
            .flat_map(|c| {
                c.report.findings.iter().map(|f| {
                    json!({ "name": f.name, "status": if f.damage { "FAIL" } else { "WARN" }, "message": f.what,
                        "hint": if f.damage { Some("restore from another point or vault; this object cannot be repaired") } else { None },
                        "vault": c.vault })
                })
            })
            .collect();
        let totals: Vec<_> = all
            .iter()
            .map(|c| {
                json!({ "vault": c.vault, "cluster": c.cluster, "points": c.report.points, "packs": c.report.packs,
                    "segments": c.report.segments, "records": c.report.records, "bytes_read": c.report.bytes_read,
                    "damaged": c.report.damaged() })
            })
            .collect();
        output::json(&json!({ "checks": lines, "clusters": totals }));
    } else {
        for c in &all {
            for f in &c.report.findings {
                let word = if f.damage { "FAIL" } else { "WARN" };
                output::line(&format!("{word} {}: {}", f.name, f.what));
            }
            output::line(&format!(
                "vault {}, cluster {}: {} points, {} packs, {} segments, {} records, {} read: {}",
                c.vault,
                c.cluster,
                c.report.points,
                c.report.packs,
                c.report.segments,
                c.report.records,
                ByteSize(c.report.bytes_read),
                if c.report.damaged() { "DAMAGED" } else { "OK" }
            ));
        }
        if all.is_empty() {
            output::line("nothing is stored yet");
        }
    }
    Ok(if damaged { 5 } else { 0 })
}

pub async fn doctor(cli: &Cli, db: Option<&str>) -> Done {
    let (ctx, progress) = context(cli, db)?;
    let lines = doctor::doctor(&ctx).await;
    progress.finish();
    let failed = lines.iter().any(|l| l.status == doctor::Status::Fail);
    if cli.json {
        output::json(&json!({ "database": ctx.db.name, "checks": lines }));
    } else {
        for l in &lines {
            output::line(&format!("{:4} {}: {}", l.status, l.name, l.message));
            if let (Some(h), true) = (&l.hint, l.status != doctor::Status::Ok || cli.verbose) {
                output::line(&format!("     hint: {h}"));
            }
        }
    }
    Ok(if failed { 5 } else { 0 })
}
