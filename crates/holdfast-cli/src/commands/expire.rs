//! `holdfast expire`, `sweep`, `hold`, `release`

use super::{Done, context, partial};
use crate::args::{Cli, HoldArgs};
use crate::{output, policy};
use holdfast_core::{ByteSize, time};
use holdfast_engine::retention::early::EarlyDeletion;
use holdfast_engine::retention::expire::{ExpirePlan, Row};
use holdfast_engine::retention::sweep::SweepReport;
use holdfast_engine::retention::{self, hold as holds};
use holdfast_engine::{Away, Context, EngineError};
use holdfast_vault::point::{Hold, PointKind};
use serde_json::json;

/// The context of a target: a database, or a point in one of the databases, with its whole id.
async fn target(cli: &Cli, target: Option<&str>) -> anyhow::Result<(Context, Option<String>)> {
    let p = policy::read(&policy::locate(cli.config.as_deref())?)?;
    // Ids begin with a date; anything else is a database, and told if it does not exist.
    let Some(id) = target.filter(|t| t.starts_with("20") && !p.databases.keys().any(|d| d.as_str() == *t))
    else {
        return Ok((context(cli, target)?.0, None));
    };
    let (mut hits, mut unasked, mut failed) = (Vec::new(), Vec::new(), None);
    for d in p.databases.keys() {
        let (ctx, _) = context(cli, Some(d.as_str()))?;
        match retention::expire::matching(&ctx, id).await {
            Ok((found, away)) => {
                hits.extend(found.into_iter().map(|run| (ctx.clone(), run)));
                unasked.extend(away);
            }
            // Another database may have it.
            Err(e) => failed = failed.or(Some(e)),
        }
    }
    match (hits.len(), hits.pop()) {
        // Where nobody could look there may be another that begins so.
        (1, Some((_, run))) if run.as_str() != id && (failed.is_some() || !unasked.is_empty()) => {
            let away = unasked.first().map(ToString::to_string).or(failed.map(|e| e.to_string()));
            Err(crate::failure::usage(
                format!(
                    "`{id}` is the beginning of `{run}`, but not all could be asked: {}",
                    away.unwrap_or_default()
                ),
                "write the whole id",
            ))
        }
        (1, Some((ctx, run))) => Ok((ctx, Some(run.to_string()))),
        // It may be where nobody could look.
        (0, _) | (_, None) => Err(match (failed, unasked.first()) {
            (Some(e), _) => e,
            (None, Some(away)) => EngineError::not_found(
                format!("there is no point `{id}` in the vaults that could be asked; {away}"),
                "see `holdfast list`",
            ),
            (None, None) => {
                EngineError::not_found(format!("there is no point `{id}`"), "see `holdfast list`")
            }
        }
        .into()),
        (n, _) => Err(crate::failure::usage(format!("`{id}` stands for {n} points"), "write more of its id")),
    }
}

pub async fn expire(cli: &Cli, what: Option<&str>, apply: bool) -> Done {
    let (ctx, point) = target(cli, what).await?;
    let point = point.as_deref();
    let (plans, mut away) = retention::expire::plan(&ctx, point, apply).await?;
    let mut written = 0;
    if apply {
        let (n, failed) = retention::expire::apply(&plans).await?;
        written = n;
        away.extend(failed);
    }
    let alarms = plans.iter().any(|p| !p.alarms.is_empty());
    if cli.json {
        output::json(&json!({ "plans": plans, "applied": apply, "expired": written, "away": away }));
    } else {
        for p in &plans {
            print_plan(p, point);
        }
        output::away(&away);
        let n = if apply { written } else { plans.iter().map(ExpirePlan::expires).sum() };
        output::line(&match (n, apply) {
            (0, _) => "nothing to expire".to_string(),
            (n, true) => format!("{n} points expired; `holdfast sweep` removes them after `sweep-after`"),
            (n, false) => format!("{n} points would be expired; run it with --apply to do so"),
        });
    }
    Ok(partial(!alarms && away.is_empty()))
}

fn print_plan(p: &ExpirePlan, only: Option<&str>) {
    output::line(&format!("vault {}", p.vault));
    let head = ["POINT", "KIND", "TIME", "SIZE", "VERDICT", "REASONS"];
    let mut rows = vec![head.map(String::from).to_vec()];
    let shown = |r: &&Row| only.is_none_or(|id| r.point.as_str().starts_with(id));
    rows.extend(p.points.iter().filter(shown).map(|r| {
        vec![
            r.point.to_string(),
            match r.kind {
                PointKind::Full => "full".into(),
                PointKind::Incremental => "incremental".into(),
            },
            time::short(r.time),
            ByteSize(r.size_bytes).to_string(),
            r.verdict.into(),
            r.reasons.join("; "),
        ]
    }));
    output::table(&rows);
    for a in &p.alarms {
        output::line(&format!("WARN {a}"));
    }
    match &p.frees_unknown {
        Some(why) => output::line(&format!("what it would free is unknown: {why}")),
        None => output::line(&format!(
            "frees {} in {} objects, {} of it in {} wal segments",
            ByteSize(p.frees.bytes),
            p.frees.objects,
            ByteSize(p.frees.wal_bytes),
            p.frees.wal_segments
        )),
    }
    if let Some(until) = p.frees.locked_until {
        output::line(&format!(
            "{} of it in {} objects is locked: the last of it cannot go before {}",
            ByteSize(p.frees.locked_bytes),
            p.frees.locked_objects,
            time::short(until)
        ));
    }
    p.early_deletion.iter().for_each(print_early);
}

/// What goes before the minimum duration of its class is over.
fn print_early(e: &EarlyDeletion) {
    let head = ["RUN", "PACKS", "SIZE", "DAYS LEFT", "COST"];
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(e.runs.iter().map(|r| {
        let size = ByteSize(r.bytes).to_string();
        vec![r.run.to_string(), r.packs.to_string(), size, r.days_left.to_string(), r.cost_usd.to_string()]
    }));
    output::line(&format!(
        "early deletion: `{}` is paid for {} days at least; removed now, this costs about {} ({} of {}), \
         and nothing from {} on",
        e.class,
        e.minimum_days,
        e.cost_usd,
        e.prices_region,
        e.prices_date,
        time::short(e.free_at)
    ));
    output::table(&rows);
}

pub async fn sweep(cli: &Cli, db: Option<&str>, plan: bool) -> Done {
    let (ctx, progress) = context(cli, db)?;
    let result = retention::sweep::run(&ctx, plan).await;
    progress.finish();
    let reports = result?;
    let blocked = reports.iter().any(|r| r.blocked.is_some());
    let refused = reports.iter().any(|r| !r.refused.is_empty() || !r.ignored_notes.is_empty());
    if cli.json {
        output::json(&json!({ "plan": plan, "sweeps": reports }));
    } else {
        for r in &reports {
            print_sweep(r, plan);
        }
        if reports.is_empty() {
            output::line("nothing is stored yet");
        }
    }
    Ok(match (blocked, refused) {
        (true, _) => 1,
        (_, true) => 3,
        _ => 0,
    })
}

fn print_sweep(r: &SweepReport, plan: bool) {
    output::line(&format!("vault {}, cluster {}", r.vault, r.cluster));
    let verb = if plan { "would go" } else { "gone" };
    for (id, why) in &r.points {
        output::line(&format!("  point {id} {verb}: {why}"));
    }
    for (id, why) in &r.waiting {
        output::line(&format!("  point {id} stays for now: {why}"));
    }
    for id in &r.dead_runs {
        output::line(&format!("  run {id} died without a point"));
    }
    for id in &r.active_runs {
        output::line(&format!("  run {id} is under way"));
    }
    for (what, c) in [("packs", r.packs), ("wal files", r.wal), ("other objects", r.other)] {
        if c.objects > 0 {
            output::line(&format!("  {} {what}, {} {verb}", c.objects, ByteSize(c.bytes)));
        }
    }
    if plan {
        r.early_deletion.iter().for_each(print_early);
    }
    output::line(&format!("  {} of packs stay", ByteSize(r.kept_pack_bytes)));
    if let Some(c) = r.removed {
        output::line(&format!("  removed {} objects, {}", c.objects, ByteSize(c.bytes)));
    }
    if r.locked.objects > 0 {
        let until = r.locked.until.map(|t| format!(" until {}", time::short(t))).unwrap_or_default();
        let held = match r.locked.held {
            0 => String::new(),
            n => format!(", {n} of them by a legal hold"),
        };
        let size = ByteSize(r.locked.bytes);
        output::line(&format!(
            "  {} objects, {size}, are locked{until}{held}: a later sweep removes them",
            r.locked.objects
        ));
    }
    if let Some(why) = &r.blocked {
        output::line(&format!("  FAIL {why}"));
    }
    for n in &r.ignored_notes {
        output::line(&format!("  WARN the note {n} does not count"));
    }
    for f in &r.refused {
        output::line(&format!("  WARN not removed: {f}"));
    }
}

pub async fn hold(cli: &Cli, a: &HoldArgs) -> Done {
    let (Some(point), Some(title)) = (&a.point, &a.title) else {
        let (ctx, _) = context(cli, a.db.as_deref())?;
        let (all, away) = holds::list(&ctx).await?;
        if cli.json {
            let list: Vec<_> = all.iter().map(|(vault, h)| json!({ "vault": vault, "hold": h })).collect();
            output::json(&json!({ "holds": list, "away": away }));
            return Ok(partial(away.is_empty()));
        }
        output::away(&away);
        if all.is_empty() {
            output::line("no holds");
        } else {
            let head = ["HOLD", "POINT", "UNTIL", "VAULT", "TITLE"];
            let mut rows = vec![head.map(String::from).to_vec()];
            rows.extend(all.iter().map(|(vault, h)| {
                let until = h.until.map_or_else(|| "released".into(), time::short);
                vec![h.id.to_string(), h.point.to_string(), until, vault.clone(), h.title.clone()]
            }));
            output::table(&rows);
        }
        return Ok(partial(away.is_empty()));
    };
    let until = a.until.as_deref().map(parse_until).transpose()?;
    let (ctx, _) = context(cli, a.db.as_deref())?;
    let (h, away) = holds::hold(&ctx, point, title, until).await?;
    tell(cli, &h, "held", &away);
    Ok(partial(away.is_empty()))
}

/// A time, or a day: the hold ends when it begins, in UTC.
fn parse_until(text: &str) -> anyhow::Result<jiff::Timestamp> {
    if let Ok(day) = text.parse::<jiff::civil::Date>()
        && text.len() == 10
    {
        return Ok(day.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp());
    }
    Ok(time::parse_instant(text, jiff::Timestamp::now()).map_err(holdfast_engine::EngineError::from)?)
}

pub async fn release(cli: &Cli, id: &str, reason: &str, db: Option<&str>) -> Done {
    let (ctx, _) = context(cli, db)?;
    let (h, away) = holds::release(&ctx, id, reason).await?;
    tell(cli, &h, "released", &away);
    Ok(partial(away.is_empty()))
}

fn tell(cli: &Cli, h: &Hold, word: &str, away: &[Away]) {
    if cli.json {
        output::json(&json!({ "hold": h, "status": word, "away": away }));
        return;
    }
    output::line(&format!("point {} is {word}: {} (hold {})", h.point, h.title, h.id));
    output::away(away);
    for a in away {
        output::line(&format!("  there it is not: run it again with --vault {} when it is back", a.vault));
    }
}
