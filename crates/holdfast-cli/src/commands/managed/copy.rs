//! `holdfast copy` of a managed database: snapshots to other regions.

use super::{Session, open};
use crate::args::{Cli, CopyArgs};
use crate::commands::Done;
use crate::{output, policy};
use holdfast_core::prices::Price;
use holdfast_core::{ByteSize, time};
use holdfast_engine::EngineError;
use holdfast_engine::managed::abroad::Gates;
use holdfast_engine::managed::copy::{Plan, Report, Which, go_on, has, moment, plan, run};
use holdfast_engine::managed::{copy_job, identity, tiers};
use jiff::Timestamp;
use serde_json::json;

/// `target` is a database of the policy, or a snapshot of `database`.
pub async fn copy(cli: &Cli, a: &CopyArgs, database: &str) -> Done {
    if a.from.is_some() {
        return Err(crate::failure::usage(
            "copies of a managed database begin at its own snapshots",
            "leave out --from",
        ));
    }
    let s = open(cli, Some(database), a.wait_for.as_deref()).await?;
    identity::live(&s.managed, &s.database).await?;
    let which = Which { only: (a.target != database).then(|| a.target.clone()), since: None };
    let (mut documents, mut failed) = (Vec::new(), false);
    let home = &s.managed.source.region;
    let gates = s.gates().await?;
    let targets = tiers::targets(&s.ctx.policy, &s.plan, home, a.to.as_deref(), &gates)?;
    // The plan of AWS Backup copies by itself, so only who names its vault gets a copy now; it has no single snapshots.
    let points = match (&which.only, a.to.as_deref()) {
        (None, Some(to)) => tiers::point_targets(&s.ctx.policy, &s.plan, home, Some(to))?,
        _ => Vec::new(),
    };
    if let (Some(v), true, true) = (&a.to, targets.is_empty(), points.is_empty()) {
        return Err(EngineError::not_found(
            format!("no copy of this policy goes to `{v}`"),
            "see [policies.NAME.copies] in the policy",
        )
        .into());
    }
    if targets.is_empty() && points.is_empty() {
        leftovers(&s, &gates, a.plan).await;
        return Err(crate::failure::usage(
            format!("the policy of `{database}` has no copies that holdfast makes"),
            "write [policies.NAME.copies.COPY] with a vault snapshots://REGION; what AWS Backup copies by its plan, \
             `--to VAULT` copies now",
        ));
    }
    let several = targets.len() + points.len() > 1;
    for (name, target) in targets {
        let done = async {
            let p = match plan(&s.managed, &target, &which).await {
                Err(e) if !matches!(e, EngineError::Cancelled) => {
                    leftovers(&s, &gates, a.plan).await;
                    return Err(e);
                }
                other => other?,
            };
            let report = match a.plan {
                true => None,
                false => Some(run(&s.managed, &p, &gates).await?),
            };
            Ok::<_, EngineError>((p, report))
        };
        let result = done.await;
        s.progress.finish();
        let (p, report) = match result {
            Ok(done) => done,
            // A place that cannot be reached keeps no other from its copies.
            Err(e) if several && !matches!(e, EngineError::Cancelled) => {
                failed = true;
                let e = anyhow::Error::from(e);
                match cli.json {
                    true => {
                        let mut d = crate::failure::as_json(&e);
                        d["copy"] = json!(name);
                        documents.push(d);
                    }
                    false => error_text(&name, &e),
                }
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        failed |= report.as_ref().is_some_and(|r| !r.failed.is_empty());
        let cost = transfer(&s, &p);
        let newest = newest_there(&p, report.as_ref());
        let behind = newest.map(|t| Timestamp::now().duration_since(t).as_secs());
        match cli.json {
            true => documents.push(json!({
                "copy": name, "plan": p, "report": report, "transfer_dollars": cost, "newest_there": newest,
                "behind_seconds": behind,
            })),
            false => text(&name, &p, cost, report.as_ref()),
        }
    }
    for (name, target) in points {
        let p = copy_job::plan(&s.managed, &target).await?;
        let report = match a.plan {
            true => None,
            false => Some(copy_job::run(&s.managed, &p).await?),
        };
        s.progress.finish();
        failed |= report.as_ref().is_some_and(|r| !r.failed.is_empty());
        match cli.json {
            true => documents.push(json!({ "copy": name, "plan": p, "report": report })),
            false => points_text(&name, &p, report.as_ref()),
        }
    }
    if cli.json {
        output::json(&json!({ "copies": documents }));
    }
    Ok(if failed { 3 } else { 0 })
}

/// What an earlier run had begun is finished although nothing new can be: it may have left a share.
async fn leftovers(s: &Session, gates: &Gates, only_plan: bool) {
    if only_plan {
        return;
    }
    match go_on(&s.managed, gates).await {
        Ok(r) => {
            r.arrived.iter().for_each(|c| s.managed.monitor.info(format!("arrived: {}", c.at)));
            r.failed.iter().for_each(|(id, why)| s.managed.monitor.warning(format!("{id}: {why}")));
        }
        Err(e) => s.managed.monitor.warning(e.to_string()),
    }
    s.progress.finish();
}

/// Whose snapshot `target` is, if it is no database of the policy: the one that is named, the only managed one, or
/// the one whose region has it. `None`: it is a point of a native one, whose ids begin with a date.
pub async fn owner(cli: &Cli, target: &str, db: Option<&str>) -> anyhow::Result<Option<String>> {
    if !target.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Ok(None);
    }
    let p = policy::read(&policy::locate(cli.config.as_deref())?)?;
    let managed: Vec<&str> =
        p.databases.values().filter(|d| d.managed.is_some()).map(|d| d.name.as_str()).collect();
    match (db, managed.as_slice()) {
        (Some(db), _) => return Ok(managed.contains(&db).then(|| db.to_string())),
        (None, []) => return Ok(None),
        (None, [only]) => return Ok(Some(only.to_string())),
        (None, _) => {}
    }
    for name in managed {
        let s = open(cli, Some(name), None).await?;
        let found = has(&s.managed, target).await;
        s.progress.finish();
        if found? {
            return Ok(Some(name.to_string()));
        }
    }
    Err(EngineError::not_found(
        format!("no managed database of the policy has a snapshot `{target}` that holdfast made"),
        "`holdfast list` shows them; --db says whose it is",
    )
    .into())
}

fn points_text(name: &str, p: &copy_job::Plan, report: Option<&copy_job::Report>) {
    output::line(&format!("copy {name} to vault {} in {}", p.target.vault, p.target.region));
    if p.missing.is_empty() {
        output::line(match p.under_way {
            0 => "  nothing is missing there",
            _ => "  the newest is on its way",
        });
    }
    for c in &p.missing {
        let size = c.point.size_bytes.map(|b| format!(", {}", ByteSize(b))).unwrap_or_default();
        output::line(&format!("  {} ({}{size})", c.point.arn, time::short(c.point.created)));
    }
    let Some(r) = report else { return };
    for j in &r.arrived {
        output::line(&format!("  arrived: {}", j.to_point_arn.as_deref().unwrap_or(&j.from_point_arn)));
    }
    for (id, why) in &r.failed {
        output::line(&format!("  failed: {id}: {why}"));
    }
}

/// Dollars at most, by the table; whole volumes are counted, as AWS may.
fn transfer(s: &Session, p: &Plan) -> f64 {
    let (prices, home) = (&s.ctx.policy.prices.managed, s.managed.source.region.as_str());
    f64::from(u32::try_from(p.transfer_gib).unwrap_or(u32::MAX)) * prices.get(Price::Transfer, home)
}

/// The newest moment that the target can show, what has just arrived included.
fn newest_there(p: &Plan, report: Option<&Report>) -> Option<Timestamp> {
    let arrived = report.iter().flat_map(|r| &r.arrived).filter_map(moment).max();
    p.newest_there.max(arrived)
}

fn error_text(name: &str, e: &anyhow::Error) {
    output::line(&format!("copy {name} failed: {}", crate::failure::text(e)));
    if let Some(hint) = crate::failure::judge(e).1 {
        output::line(&format!("  hint: {hint}"));
    }
}

fn text(name: &str, p: &Plan, cost: f64, report: Option<&Report>) {
    let account = p.target.abroad.as_ref().map(|g| format!(" in account {}", g.account)).unwrap_or_default();
    output::line(&format!("copy {name} to {}{account}", p.target.region));
    if p.missing.is_empty() && p.under_way == 0 {
        output::line(match p.newest_here {
            Some(_) => "  nothing is missing there",
            None => "  there is nothing to copy: no snapshot of it that holdfast made is finished here",
        });
    }
    if p.under_way > 0 {
        output::line(&format!("  {} begun by an earlier run", p.under_way));
    }
    for c in &p.missing {
        let at = moment(&c.from).map(time::short).unwrap_or_default();
        output::line(&format!("  {} ({at}, {} GiB) as {}", c.from.at, c.from.size_gib, c.to));
    }
    for k in &p.kept_back {
        output::line(&format!("  {} cannot go: {}", k.from, k.why));
        if let Some(hint) = &k.hint {
            output::line(&format!("    hint: {hint}"));
        }
    }
    if p.transfer_gib > 0 {
        output::line(&format!(
            "  at most {} GiB cross the border of the region, at most {cost:.2} dollars",
            p.transfer_gib
        ));
    }
    for s in report.iter().flat_map(|r| &r.arrived) {
        output::line(&format!("  arrived: {}", s.at));
    }
    for (id, why) in report.iter().flat_map(|r| &r.failed) {
        output::line(&format!("  failed: {id}: {why}"));
    }
    // What is lost with the region now, not how far two old snapshots are apart.
    output::line(&match newest_there(p, report) {
        None => "  there is none of it there".into(),
        Some(t) => {
            let age = Timestamp::now().duration_since(t).as_secs().max(0).unsigned_abs();
            let age = time::human(std::time::Duration::from_secs(age));
            format!("  the newest there shows {}: {age} would be lost with the region", time::short(t))
        }
    });
}
