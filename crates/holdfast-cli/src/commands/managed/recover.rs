//! `holdfast recover`: the ways out of an incident.

use super::list::gather;
use crate::args::{Cli, RecoverArgs};
use crate::commands::{Done, context};
use crate::output;
use holdfast_core::time;
use holdfast_engine::EngineError;
use holdfast_engine::managed::recover::{From, Incident, Scenario, Way, options};
use jiff::Timestamp;
use serde_json::json;

pub async fn recover(cli: &Cli, a: &RecoverArgs) -> Done {
    let (ctx, progress) = context(cli, a.database.as_deref())?;
    let scenario: Scenario =
        a.scenario.parse().map_err(|e: String| crate::failure::usage(e, "see holdfast recover --help"))?;
    let now = Timestamp::now();
    let at = match (&a.at, scenario.needs_time()) {
        (Some(text), _) => time::parse_instant(text, now)?,
        (None, false) => now,
        (None, true) => {
            return Err(crate::failure::usage(
                format!("when did the {scenario} begin?"),
                "write it with --at and a zone: nothing later than that may be restored",
            ));
        }
    };
    let name = ctx.db.name.as_str();
    let listing = gather(&ctx.policy, Some(name), ctx.state.dir()).await?;
    progress.finish();
    let Some(h) = listing.databases.first() else {
        return Err(
            EngineError::usage(format!("`{name}` is no managed database"), "use holdfast restore").into()
        );
    };
    let ways = options(h, Incident { scenario, at, now });
    let failures: Vec<_> = listing.failures.iter().map(|(r, e)| json!({ "region": r, "error": e })).collect();
    if ways.is_empty() {
        return Err(EngineError::not_found(
            format!("nothing of `{name}` that can be seen shows a moment before {}", time::short(at)),
            "look at `holdfast list`; a vault of another account may have more",
        )
        .into());
    }
    match cli.json {
        true => output::json(&json!({ "scenario": scenario, "at": at, "ways": ways, "failures": failures })),
        false => text(name, &ways),
    }
    if !cli.json {
        for (region, why) in &listing.failures {
            output::line(&format!("could not be seen: {region}: {why}"));
        }
    }
    Ok(if listing.failures.is_empty() { 0 } else { 3 })
}

fn text(name: &str, ways: &[Way]) {
    let mut rows = vec![["", "RESTORE", "REGION", "SHOWS", "LOST", ""].map(String::from).to_vec()];
    for (i, w) in ways.iter().enumerate() {
        let what = match &w.from {
            From::Source { .. } => format!("{name} itself, to that second"),
            From::Snapshot { id } => format!("snapshot {id}"),
            From::Automated { arn, .. } => format!("automated backup {arn}"),
            From::Point { vault, arn, .. } => format!("{arn} of vault {vault}"),
        };
        let lost = std::time::Duration::from_secs(w.loss.as_secs().max(0).unsigned_abs());
        let n = (i + 1).to_string();
        let row =
            [n, what, w.region.to_string(), time::short(w.shows), time::human(lost), w.merits.join(", ")];
        rows.push(row.to_vec());
    }
    output::table(&rows);
}
