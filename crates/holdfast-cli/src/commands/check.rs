//! `holdfast check`, `check --undelete`, `holdfast doctor`

use super::{Done, context};
use crate::args::Cli;
use crate::output;
use holdfast_core::ByteSize;
use holdfast_engine::{checks, doctor};
use holdfast_vault::check::Finding;
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
                        "hint": hint(f),
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
                if let (true, Some(hint)) = (f.hidden, hint(f)) {
                    output::line(&format!("     hint: {hint}"));
                }
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

fn hint(f: &Finding) -> Option<&'static str> {
    match (f.hidden, f.damage) {
        (true, _) => Some("find out who can write there; `holdfast check --undelete` takes it away"),
        (_, true) => Some("restore from another point or vault; this object cannot be repaired"),
        _ => None,
    }
}

/// Shows what lies over objects, and takes it away if told so.
pub async fn undelete(cli: &Cli, db: Option<&str>, yes: bool) -> Done {
    let (ctx, progress) = context(cli, db)?;
    let result = checks::covered(&ctx).await;
    progress.finish();
    let all = result?;
    let found: usize = all.iter().map(|c| c.hidden.len()).sum();
    if !cli.json {
        for c in &all {
            for h in &c.hidden {
                output::line(&format!("vault {}: {}", c.vault, h.name));
                for o in &h.over {
                    let what = if o.marker {
                        "delete marker".into()
                    } else {
                        format!("version of {}", ByteSize(o.size))
                    };
                    output::line(&format!("  {what} {}, {}", o.version, holdfast_core::time::short(o.at)));
                }
            }
        }
    }
    let (mut done, mut refused) = (0, Vec::new());
    if yes {
        for c in &all {
            let (n, no) = c.uncover(&*ctx.monitor).await?;
            done += n;
            refused.extend(no);
        }
    }
    if cli.json {
        let hidden: Vec<_> = all
            .iter()
            .flat_map(|c| c.hidden.iter().map(|h| json!({ "vault": c.vault, "object": h })))
            .collect();
        output::json(&json!({ "hidden": hidden, "applied": yes, "uncovered": done, "refused": refused }));
    } else {
        for r in &refused {
            output::line(&format!("WARN not removed: {r}"));
        }
        output::line(&match (found, yes) {
            (0, _) => "nothing lies over any object".to_string(),
            (_, true) => format!("{done} objects are open again"),
            (n, false) => format!("{n} objects; --yes removes what lies over them, and no original"),
        });
    }
    Ok(if refused.is_empty() { 0 } else { 3 })
}

pub async fn doctor(cli: &Cli, db: Option<&str>) -> Done {
    let (ctx, progress) = context(cli, db)?;
    let lines = doctor::doctor(&ctx).await;
    progress.finish();
    Ok(show(cli, ctx.db.name.as_str(), &lines))
}

/// Prints what `doctor` found, and gives the exit code.
pub fn show(cli: &Cli, database: &str, lines: &[doctor::Line]) -> u8 {
    if cli.json {
        output::json(&json!({ "database": database, "checks": lines }));
    } else {
        for l in lines {
            output::line(&format!("{:4} {}: {}", l.status, l.name, l.message));
            if let (Some(h), true) = (&l.hint, l.status != doctor::Status::Ok || cli.verbose) {
                output::line(&format!("     hint: {h}"));
            }
        }
    }
    if doctor::worst(lines) == doctor::Status::Fail { 5 } else { 0 }
}
