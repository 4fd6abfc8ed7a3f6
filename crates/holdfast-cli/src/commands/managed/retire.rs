//! `holdfast retire`: deletes what a cutover replaced.

use super::open;
use crate::args::Cli;
use crate::commands::Done;
use crate::output;
use holdfast_core::policy::managed::IdParts;
use holdfast_engine::EngineError;
use holdfast_engine::managed::retire::{Plan, plan, run};
use jiff::Timestamp;
use serde_json::json;

/// RDS takes 255 characters, DocumentDB 63.
const NAME_MAX: usize = 63;

pub async fn retire(cli: &Cli, id: &str, db: Option<&str>, yes: bool, wait_for: Option<&str>) -> Done {
    let s = open(cli, db, wait_for).await?;
    let Some(pattern) = &s.plan.final_snapshot else {
        return Err(EngineError::refused(
            format!(
                "the policy of `{}` makes no final snapshot, and nothing is deleted without one",
                s.ctx.db.name
            ),
            "set final-snapshot in the policy",
        )
        .into());
    };
    let now = Timestamp::now();
    let (database, region) = (s.ctx.db.name.as_str(), s.managed.source.region.as_str());
    let parts = IdParts { id, database, tier: "final", note: "", region };
    let keeps = s.plan.pitr.as_ref().is_none_or(|p| p.keep_after_deletion);
    let p = plan(&s.managed, id, pattern.render(&parts, now, NAME_MAX), keeps, now).await?;
    s.progress.finish();
    if !cli.json {
        text(&p);
    }
    let made = match yes {
        true => Some(run(&s.managed, &p).await?),
        false => None,
    };
    s.progress.finish();
    if cli.json {
        output::json(&json!({ "plan": p, "final_snapshot": made }));
        return Ok(0);
    }
    match made {
        Some(snapshot) => output::line(&format!("done; {} is {}", snapshot.at, snapshot.status)),
        None => output::line("nothing was changed; --yes does it"),
    }
    Ok(0)
}

fn text(p: &Plan) {
    output::line(&format!("delete {} ({})", p.database, p.resource_id));
    if p.protected {
        output::line("  its deletion protection is turned off first");
    }
    for id in &p.instances {
        output::line(&format!("  its instance {id}"));
    }
    output::line(&format!("  with the final snapshot {}", p.final_snapshot));
    match p.keeps_automated_backups {
        true => output::line("  its automated backups stay until they expire"),
        false => output::line("  its automated backups go with it"),
    }
}
