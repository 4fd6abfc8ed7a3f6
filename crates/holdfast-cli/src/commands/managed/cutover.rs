//! `holdfast cutover`: the application to a restored database, and back.

use super::open;
use crate::args::{Cli, CutoverArgs};
use crate::commands::Done;
use crate::output;
use holdfast_core::time;
use holdfast_engine::EngineError;
use holdfast_engine::managed::cutover::{Plan, Report, plan, resume, run};
use serde_json::json;

pub async fn cutover(cli: &Cli, a: &CutoverArgs) -> Done {
    let s = open(cli, a.database.as_deref(), a.wait_for.as_deref()).await?;
    let result = if a.resume || a.back {
        resume(&s.managed, a.back).await
    } else {
        let Some(id) = &a.to_id else {
            return Err(crate::failure::usage("where to?", "name the restored database: --to-id ID"));
        };
        let to = s.managed.source.named(id).map_err(|e| EngineError::usage(e.to_string(), e.hint()))?;
        let p = plan(&s.managed, &to, &s.database.cutover, s.plan.quarantine.0).await?;
        if !a.yes {
            s.progress.finish();
            match cli.json {
                true => output::json(&json!({ "plan": p })),
                false => plan_text(&p),
            }
            return Ok(0);
        }
        run(&s.managed, p).await
    };
    s.progress.finish();
    let r = result?;
    match cli.json {
        true => output::json(&json!({ "cutover": r })),
        false => report_text(&r),
    }
    Ok(if r.rolled_back.is_some() { 1 } else { 0 })
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
    let days = p.quarantine / 86_400;
    output::line(&format!("  then {} stays for {days} days, marked; nothing is deleted", p.pair.old.source));
    for w in &p.warnings {
        output::line(&format!("warning: {w}"));
    }
    output::line("nothing was changed; --yes does it");
}

fn report_text(r: &Report) {
    for s in &r.steps {
        output::line(&format!("{}: {}", format!("{:?}", s.progress).to_lowercase(), s.does));
    }
    match (&r.rolled_back, r.quarantined_until) {
        (Some(why), _) => output::line(&format!("put back, because: {why}")),
        (None, Some(t)) => {
            output::line(&format!("done; the old database stays until {} at least", time::short(t)))
        }
        (None, None) => {}
    }
}
