//! `holdfast lock`

use super::{Done, context};
use crate::args::Cli;
use crate::output;
use holdfast_core::time;
use holdfast_engine::lock::{self, LockReport};
use serde_json::json;

pub async fn run(cli: &Cli, db: Option<&str>, apply: bool) -> Done {
    let (ctx, progress) = context(cli, db)?;
    let result = lock::run(&ctx, apply).await;
    progress.finish();
    let reports = result?;
    let refused = reports.iter().any(|r| !r.refused.is_empty());
    if cli.json {
        output::json(&json!({ "applied": apply, "locks": reports }));
    } else {
        for r in &reports {
            print(r);
        }
        let short: usize = reports.iter().map(|r| r.objects.len()).sum();
        let extended: u64 = reports.iter().filter_map(|r| r.extended).sum();
        output::line(&match (short, apply) {
            (0, _) => "everything is locked as long as the points that need it".to_string(),
            (_, true) => format!("{extended} objects are locked for longer"),
            (n, false) => {
                format!("{n} objects are locked too short; --apply extends them, by a request each")
            }
        });
    }
    Ok(if refused { 3 } else { 0 })
}

fn print(r: &LockReport) {
    let last = r.last.map(|t| format!(", the last lock ends {}", time::short(t))).unwrap_or_default();
    output::line(&format!("vault {}, cluster {}: {} objects asked{last}", r.vault, r.cluster, r.asked));
    for id in &r.points {
        output::line(&format!("  point {id} is not yet locked"));
    }
    if !r.objects.is_empty() {
        let head = ["OBJECT", "LOCKED UNTIL", "NEEDED UNTIL"];
        let mut rows = vec![head.map(String::from).to_vec()];
        rows.extend(r.objects.iter().map(|o| {
            let now = o.locked_until.map_or_else(|| "not locked".into(), time::short);
            vec![o.name.clone(), now, time::short(o.needed_until)]
        }));
        output::table(&rows);
    }
    for why in &r.refused {
        output::line(&format!("WARN {why}"));
    }
}
