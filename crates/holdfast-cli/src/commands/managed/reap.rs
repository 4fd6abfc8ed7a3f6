//! `holdfast reap`: removes temporary things at the provider that are past their end of life.

use super::{is_managed, open};
use crate::args::Cli;
use crate::commands::Done;
use crate::{failure, output, policy};
use holdfast_core::managed::Region;
use holdfast_engine::managed::reap::{Reaper, plan, run};
use holdfast_engine::managed::tiers;
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeSet;

pub async fn reap(cli: &Cli, database: Option<&str>, yes: bool) -> Done {
    let p = policy::read(&policy::locate(cli.config.as_deref())?)?;
    let mut done: BTreeSet<(Option<String>, Region)> = BTreeSet::new();
    let (mut documents, mut trouble) = (Vec::new(), false);
    let names = p.databases.keys().map(|k| k.as_str()).filter(|n| database.is_none_or(|d| d == *n));
    let names: Vec<&str> = names.filter(|n| is_managed(&p, Some(n))).collect();
    if names.is_empty() {
        return Err(failure::usage(
            "the policy has no such managed database",
            "see [databases] in the policy",
        ));
    }
    for name in names {
        let s = open(cli, Some(name), None).await?;
        let mut regions = tiers::regions(&s.ctx.policy, &s.plan)?;
        regions.push(s.managed.source.region.clone());
        regions.extend(s.database.places.values().filter_map(|p| p.region.parse().ok()));
        regions.sort();
        regions.dedup();
        // One identity looks at each region once.
        regions.retain(|r| done.insert((s.database.profile.clone(), r.clone())));
        if regions.is_empty() {
            continue;
        }
        let m = &s.managed;
        let reaper = Reaper {
            cloud: m.cloud.clone(),
            journal: m.journal.clone(),
            state: m.state.clone(),
            monitor: m.monitor.clone(),
            pace: m.pace,
        };
        let found = plan(&reaper, &regions, Timestamp::now()).await?;
        let report = match yes {
            true => Some(run(&reaper, &found).await?),
            false => None,
        };
        s.progress.finish();
        trouble |= !found.failures.is_empty() || report.as_ref().is_some_and(|r| !r.failed.is_empty());
        if cli.json {
            documents.push(json!({ "plan": found, "report": report }));
            continue;
        }
        output::line(found.to_string().trim_end());
        match report {
            None if !found.remove.is_empty() => output::line("nothing was removed; --yes does it"),
            None => {}
            Some(r) => {
                r.removed.iter().for_each(|t| output::line(&format!("removed {t}")));
                r.failed.iter().for_each(|(t, why)| output::line(&format!("failed: {t}: {why}")));
            }
        }
    }
    if cli.json {
        output::json(&json!({ "reap": documents }));
    }
    Ok(if trouble { 3 } else { 0 })
}
