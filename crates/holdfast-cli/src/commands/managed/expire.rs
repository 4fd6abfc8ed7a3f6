//! `holdfast expire` of a managed database.

use super::{Session, open};
use crate::args::Cli;
use crate::commands::Done;
use crate::output;
use holdfast_core::managed::tags as keys;
use holdfast_core::{ByteSize, time};
use holdfast_engine::EngineError;
use holdfast_engine::managed::abroad::Gates;
use holdfast_engine::managed::copy::moment;
use holdfast_engine::managed::expire::{Plan, Report, apply, plan};
use holdfast_engine::managed::identity;
use holdfast_engine::managed::tiers;
use jiff::Timestamp;
use serde_json::json;

pub async fn expire(cli: &Cli, database: Option<&str>, do_it: bool) -> Done {
    let s = open(cli, database, None).await?;
    identity::live(&s.managed, &s.database).await?;
    let gates = s.gates().await?;
    let rules = tiers::rules(&s.ctx.policy, &s.plan, &s.managed.source.region, &gates)?;
    let (mut documents, mut failed) = (Vec::new(), false);
    let mut away: Vec<(&tiers::Site, EngineError)> = Vec::new();
    for (site, rules) in &rules {
        let (p, report) = match one(&s, &gates, site, rules, do_it).await {
            Ok(done) => done,
            Err(e @ EngineError::Cancelled) => return Err(e.into()),
            // What cannot be asked keeps no other; what else goes wrong here would there, too.
            Err(e) if matches!(e, EngineError::Cloud(_)) || site.account.is_some() => {
                s.progress.finish();
                away.push((site, e));
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        s.progress.finish();
        failed |= report.as_ref().is_some_and(|r| !r.failed.is_empty());
        match cli.json {
            true => documents.push(document(&p, report.as_ref())),
            false => text(&p, report.as_ref()),
        }
    }
    if away.len() == rules.len()
        && let Some((_, e)) = away.pop()
    {
        return Err(e.into());
    }
    match cli.json {
        true => {
            let away: Vec<_> = away
                .iter()
                .map(|(s, e)| json!({ "region": s.region, "account": s.account, "error": e.to_string() }))
                .collect();
            output::json(&json!({ "regions": documents, "failures": away }));
        }
        false => {
            for (site, e) in &away {
                let account = site.account.as_ref().map(|a| format!(" of account {a}")).unwrap_or_default();
                output::line(&format!(
                    "could not be seen, and nothing of it was judged: {}{account}: {e}",
                    site.region
                ));
            }
        }
    }
    Ok(if failed || !away.is_empty() { 3 } else { 0 })
}

async fn one(
    s: &Session,
    gates: &Gates,
    site: &tiers::Site,
    rules: &tiers::ByTier,
    do_it: bool,
) -> Result<(Plan, Option<Report>), EngineError> {
    let p = plan(&s.managed, gates, site, rules, Timestamp::now()).await?;
    let report = match do_it {
        true => Some(apply(&s.managed, &p).await?),
        false => None,
    };
    Ok((p, report))
}

fn reasons(l: &holdfast_engine::managed::expire::Line) -> String {
    let all = l.reasons.iter().map(ToString::to_string).chain(l.stays.clone());
    let all: Vec<String> = all.collect();
    match (l.snapshot.tags.expires(), l.snapshot.tags.get(keys::TIER)) {
        _ if !all.is_empty() => all.join("; "),
        (Some(end), None) => format!("its end of life was {}", time::short(end)),
        _ => "no rule of its tier keeps it".into(),
    }
}

fn document(p: &Plan, report: Option<&Report>) -> serde_json::Value {
    let lines = p.lines.iter().map(|l| {
        json!({
            "id": l.snapshot.at.id, "taken_at": moment(&l.snapshot), "size_gib": l.snapshot.size_gib,
            "keep": l.keep || l.stays.is_some(), "reasons": reasons(l),
        })
    });
    let mut out = json!({ "region": p.region, "snapshots": lines.collect::<Vec<_>>(), "report": report });
    if let Some(account) = &p.account {
        out["account"] = json!(account);
    }
    out
}

fn text(p: &Plan, report: Option<&Report>) {
    let account = p.account.as_ref().map(|a| format!(" of account {a}")).unwrap_or_default();
    output::line(&format!("snapshots of holdfast in {}{account}", p.region));
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
