//! `holdfast cutover`: the application to a restored database, and back.

use super::super::context;
use super::{Base, Session, open_in};
use crate::args::{Cli, CutoverArgs};
use crate::commands::Done;
use crate::output;
use holdfast_core::managed::{Source, SourceError};
use holdfast_core::time;
use holdfast_engine::EngineError;
use holdfast_engine::managed::cutover::{
    Plan, Presence, Report, Request, Unfinished, pending, plan, resume, run, without_home,
};
use holdfast_engine::managed::journal::Journal;
use serde_json::{Value, json};

pub async fn cutover(cli: &Cli, a: &CutoverArgs) -> Done {
    let s = open_in(cli, a.database.as_deref(), a.wait_for.as_deref(), base(cli, a)?).await?;
    let begun = pending(&s.managed)?;
    let to = target(a, &s)?;
    match (begun, &to) {
        // What was agreed to when it was begun is gone on with; what it does is shown all the same.
        (Some(u), None) => on(cli, a, &s, &u).await,
        (Some(u), Some(to)) if u.to == *to && a.yes => on(cli, a, &s, &u).await,
        (Some(u), Some(to)) if u.to == *to => {
            s.progress.finish();
            match cli.json {
                true => output::json(&json!({ "unfinished": u })),
                false => {
                    unfinished_text(&u, false);
                    output::line("nothing was changed; --yes goes on with it");
                    let name = &s.managed.name;
                    output::line(&format!("  `holdfast cutover {name} --back` puts everything back instead"));
                }
            }
            Ok(0)
        }
        (Some(u), Some(to)) => Err(EngineError::refused(
            format!("a cutover to `{}` is not finished, so none to `{to}` can begin", u.to),
            format!(
                "`holdfast cutover {0} --resume` goes on with it, `holdfast cutover {0} --back` puts everything back",
                s.managed.name
            ),
        )
        .into()),
        // It says that there is none.
        (None, None) => ended(cli, &s, resume(&s.managed, a.back).await, None),
        (None, Some(to)) => begin(cli, a, &s, to).await,
    }
}

/// Where nothing is asked of a region that is lost, or does not answer.
fn base(cli: &Cli, a: &CutoverArgs) -> anyhow::Result<Base> {
    Ok(match (Base::region(a.region.as_deref()), a.lost) {
        (Base::There(region), _) => Base::There(region),
        (_, true) => Base::Elsewhere,
        _ => {
            let (ctx, progress) = context(cli, a.database.as_deref())?;
            progress.finish();
            let begun = without_home(&Journal::open(ctx.state.dir())?, &ctx.db.name)?;
            if begun { Base::Elsewhere } else { Base::Home }
        }
    })
}

/// Where to; `None` with `--resume` and `--back`.
fn target(a: &CutoverArgs, s: &Session) -> anyhow::Result<Option<Source>> {
    if a.resume || a.back {
        return Ok(None);
    }
    let Some(id) = &a.to_id else {
        return Err(crate::failure::usage(
            "where to?",
            "name the restored database: --to-id ID; --resume goes on with a cutover that was stopped",
        ));
    };
    let usage = |e: SourceError| EngineError::usage(e.to_string(), e.hint());
    let to = s.managed.source.named(id).map_err(usage)?;
    Ok(Some(match &a.region {
        Some(region) => to.in_region(&region.parse().map_err(usage)?),
        None => to,
    }))
}

async fn begin(cli: &Cli, a: &CutoverArgs, s: &Session, to: &Source) -> Done {
    let request = Request {
        to,
        steps: &s.database.cutover,
        quarantine: s.plan.quarantine.0,
        lost: a.lost,
        resource_id: s.database.resource_id.as_deref(),
    };
    let p = plan(&s.managed, &request).await?;
    s.progress.finish();
    let shown = json!(p.shown());
    if !cli.json {
        plan_text(&p.shown());
    }
    if !a.yes {
        match cli.json {
            true => output::json(&json!({ "plan": shown })),
            false => output::line("nothing was changed; --yes does it"),
        }
        return Ok(0);
    }
    ended(cli, s, run(&s.managed, p).await, Some(("plan", shown)))
}

async fn on(cli: &Cli, a: &CutoverArgs, s: &Session, u: &Unfinished) -> Done {
    s.progress.finish();
    if !cli.json {
        unfinished_text(u, a.back);
    }
    ended(cli, s, resume(&s.managed, a.back).await, Some(("unfinished", json!(u))))
}

/// `before`: what was shown first, and is in the one document.
fn ended(cli: &Cli, s: &Session, result: Result<Report, EngineError>, before: Option<(&str, Value)>) -> Done {
    s.progress.finish();
    let r = result?;
    match cli.json {
        true => {
            let mut all = json!({ "cutover": r });
            if let Some((name, value)) = before {
                all[name] = value;
            }
            output::json(&all);
        }
        false => report_text(&r, &s.managed.source, s.database.resource_id.as_deref()),
    }
    // Asked for and done is well; asked for and not all put back is not.
    let left = r.steps.iter().any(|s| s.left.is_some());
    Ok(if r.rolled_back.is_some() && (!r.asked || left) { 1 } else { 0 })
}

fn unfinished_text(u: &Unfinished, back: bool) {
    output::line(&format!("a cutover from {} to {} was begun {}", u.from, u.to, time::short(u.begun)));
    let why = u.back.as_deref().or(back.then_some("asked for with --back"));
    if let Some(why) = why {
        output::line(&format!("  it goes back, because: {why}"));
    }
    for (i, step) in u.steps.iter().enumerate() {
        let what = if why.is_some() { &step.undoes } else { &step.does };
        let state = format!("{:?}", step.progress).to_lowercase();
        output::line(&format!("  {}. ({state}) {what}", i + 1));
    }
}

fn plan_text(p: &Plan) {
    output::line(&format!("from {} to {}", p.pair.old.source, p.pair.new.source));
    for (i, s) in p.steps.iter().enumerate() {
        output::line(&format!("  {}. {}", i + 1, s.does));
        if let Some(url) = &s.health {
            output::line(&format!("     then {url} must answer within {} s", s.health_within));
        }
        output::line(&format!("     to go back: {}", s.undoes));
    }
    let old = &p.pair.old.source;
    output::line(&match p.pair.presence {
        Presence::There | Presence::Broken => {
            let stays = time::Duration(p.quarantine);
            format!("  then {old} stays for {stays}, marked; nothing is deleted")
        }
        Presence::Gone => format!("  {old} is gone: nothing is put into quarantine"),
        Presence::Unseen => format!("  {old} cannot be seen: nothing is put into quarantine"),
    });
    for w in &p.warnings {
        output::line(&format!("warning: {w}"));
    }
}

/// `id`: the resource id that the policy has.
fn report_text(r: &Report, source: &Source, id: Option<&str>) {
    for s in &r.steps {
        output::line(&format!("{}: {}", format!("{:?}", s.progress).to_lowercase(), s.does));
        if let Some(left) = &s.left {
            output::line(&format!("  left: {left}"));
        }
    }
    match (&r.rolled_back, r.quarantined_until) {
        (Some(why), _) => output::line(&format!("put back, because: {why}")),
        (None, Some(t)) => {
            output::line(&format!("done; the old database stays until {} at least", time::short(t)))
        }
        (None, None) => output::line("done; there is no old database to keep"),
    }
    if r.now != *source {
        output::line(&format!("now write source = \"{}\" in the policy", r.now));
    }
    // `plan` and `apply` refuse a database that is not the one of the policy.
    if !r.now_resource_id.is_empty() && id != Some(r.now_resource_id.as_str()) {
        output::line(&format!("now write resource-id = \"{}\" in the policy", r.now_resource_id));
    }
}
