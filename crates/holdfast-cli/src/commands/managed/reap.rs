//! `holdfast reap`: removes temporary things at the provider that are past their end of life.

use super::{is_managed, open};
use crate::args::Cli;
use crate::commands::Done;
use crate::{failure, output, policy};
use holdfast_core::DatabaseName;
use holdfast_core::ExitCode;
use holdfast_core::managed::Region;
use holdfast_core::policy::{Database, Policy};
use holdfast_engine::EngineError;
use holdfast_engine::managed::reap::{Reaper, plan, run};
use holdfast_engine::managed::tiers;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Profile and role.
type Identity = (Option<String>, Option<String>);

/// Databases that the same credentials see.
fn same_identity(p: &Policy, who: &Identity) -> Vec<DatabaseName> {
    let own = |d: &&Database| d.managed.as_ref().is_some_and(|m| (&m.profile, &m.role) == (&who.0, &who.1));
    p.databases.values().filter(own).map(|d| d.name.clone()).collect()
}

pub async fn reap(cli: &Cli, database: Option<&str>, yes: bool) -> Done {
    let p = policy::read(&policy::locate(cli.config.as_deref())?)?;
    let mut done: BTreeSet<(Identity, Region)> = BTreeSet::new();
    let (mut documents, mut trouble) = (Vec::new(), false);
    let names = p.databases.keys().map(|k| k.as_str()).filter(|n| database.is_none_or(|d| d == *n));
    let names: Vec<&str> = names.filter(|n| is_managed(&p, Some(n))).collect();
    if names.is_empty() {
        let all: Vec<_> =
            p.databases.keys().map(|k| k.as_str()).filter(|n| is_managed(&p, Some(n))).collect();
        let wanted = database.map(|d| format!(" `{d}`")).unwrap_or_default();
        return Err(EngineError::not_found(
            format!("the policy has no managed database{wanted}"),
            format!("it has: {}", if all.is_empty() { "none".into() } else { all.join(", ") }),
        )
        .into());
    }
    let alone = names.len() == 1;
    for name in names {
        match one(cli, &p, name, yes, &mut done).await {
            Ok(None) => {}
            Ok(Some((document, whole))) => {
                documents.push(document);
                trouble |= !whole;
            }
            Err(e) if alone || failure::judge(&e).0 == ExitCode::Cancelled => return Err(e),
            // What cannot be reached keeps nothing else running.
            Err(e) => {
                trouble = true;
                if !cli.json {
                    output::line(&format!("{name}: failed: {}", failure::text(&e)));
                }
                let mut document = failure::as_json(&e);
                document["database"] = json!(name);
                documents.push(document);
            }
        }
    }
    if cli.json {
        output::json(&json!({ "reap": documents }));
    }
    Ok(if trouble { 3 } else { 0 })
}

/// What there is by the credentials of one database, in regions that nobody has looked at with them yet. Whether
/// everything was seen and done.
async fn one(
    cli: &Cli,
    p: &Policy,
    name: &str,
    yes: bool,
    done: &mut BTreeSet<(Identity, Region)>,
) -> anyhow::Result<Option<(Value, bool)>> {
    let s = open(cli, Some(name), None).await?;
    let mut regions = tiers::regions(&s.ctx.policy, &s.plan, &s.gates().await?)?;
    regions.push(s.managed.source.region.clone());
    regions.extend(s.database.places.values().filter_map(|p| p.region.parse().ok()));
    regions.sort();
    regions.dedup();
    let identity = (s.database.profile.clone(), s.database.role.clone());
    regions.retain(|r| done.insert((identity.clone(), r.clone())));
    if regions.is_empty() {
        return Ok(None);
    }
    let m = &s.managed;
    let reaper = Reaper {
        cloud: m.cloud.clone(),
        journal: m.journal.clone(),
        state: m.state.clone(),
        monitor: m.monitor.clone(),
        pace: m.pace,
        databases: same_identity(p, &identity),
    };
    let found = plan(&reaper, &regions, Timestamp::now()).await?;
    s.progress.finish();
    if !cli.json {
        output::line(found.to_string().trim_end());
    }
    let report = match yes {
        true => Some(run(&reaper, &found).await?),
        false => None,
    };
    s.progress.finish();
    let whole = found.failures.is_empty() && report.as_ref().is_none_or(|r| r.failed.is_empty());
    let document = json!({ "plan": found, "report": report });
    if !cli.json {
        match report {
            None if !found.remove.is_empty() => output::line("nothing was removed; --yes does it"),
            None => {}
            Some(r) => {
                r.removed.iter().for_each(|t| output::line(&format!("removed {t}")));
                r.failed.iter().for_each(|(t, why)| output::line(&format!("failed: {t}: {why}")));
            }
        }
    }
    Ok(Some((document, whole)))
}
