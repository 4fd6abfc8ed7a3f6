//! `holdfast copy` of a managed database: snapshots to other regions.

use super::open;
use crate::args::{Cli, CopyArgs};
use crate::commands::Done;
use crate::output;
use holdfast_core::time;
use holdfast_engine::managed::copy::{Plan, Report, Which, moment, plan, run};
use holdfast_engine::managed::tiers;
use serde_json::json;

/// `target` is a database of the policy, or a snapshot of `database`.
pub async fn copy(cli: &Cli, a: &CopyArgs, database: &str) -> Done {
    let s = open(cli, Some(database), a.wait_for.as_deref()).await?;
    let which = Which { only: (a.target != database).then(|| a.target.clone()), since: None };
    let (mut documents, mut failed) = (Vec::new(), false);
    let targets = tiers::targets(&s.ctx.policy, &s.plan, &s.managed.source.region, a.to.as_deref())?;
    if targets.is_empty() {
        return Err(crate::failure::usage(
            format!("the policy of `{database}` has no copies that holdfast makes"),
            "write [policies.NAME.copies.COPY] with a vault snapshots://REGION",
        ));
    }
    for (name, target) in targets {
        let p = plan(&s.managed, &target, &which).await?;
        let report = match a.plan {
            true => None,
            false => Some(run(&s.managed, &p).await?),
        };
        s.progress.finish();
        failed |= report.as_ref().is_some_and(|r| !r.failed.is_empty());
        match cli.json {
            true => documents.push(json!({ "copy": name, "plan": p, "report": report })),
            false => text(&name, &p, report.as_ref()),
        }
    }
    if cli.json {
        output::json(&json!({ "copies": documents }));
    }
    Ok(if failed { 3 } else { 0 })
}

fn text(name: &str, p: &Plan, report: Option<&Report>) {
    output::line(&format!("copy {name} to {}", p.target.region));
    if p.missing.is_empty() && p.under_way == 0 {
        output::line("  nothing is missing there");
    }
    if p.under_way > 0 {
        output::line(&format!("  {} begun by an earlier run", p.under_way));
    }
    for c in &p.missing {
        let at = moment(&c.from).map(time::short).unwrap_or_default();
        output::line(&format!("  {} ({at}, {} GiB) as {}", c.from.at, c.from.size_gib, c.to));
    }
    if p.transfer_gib > 0 {
        output::line(&format!("  at most {} GiB cross the border of the region", p.transfer_gib));
    }
    if let Some(behind) = p.behind() {
        let behind = std::time::Duration::from_secs(behind.as_secs().max(0).unsigned_abs());
        output::line(&format!("  the newest there is {} behind the newest here", time::human(behind)));
    }
    let Some(r) = report else { return };
    for s in &r.arrived {
        output::line(&format!("  arrived: {}", s.at));
    }
    for (id, why) in &r.failed {
        output::line(&format!("  failed: {id}: {why}"));
    }
}
