//! `holdfast verify`

use super::{Done, context, program};
use crate::args::{Cli, VerifyArgs};
use crate::{failure, output, policy};
use holdfast_core::time;
use holdfast_engine::verify::{Level, run as verify};

pub async fn run(cli: &Cli, a: &VerifyArgs) -> Done {
    let level = Level::parse(&a.level)
        .ok_or_else(|| failure::usage(format!("`{}` is no level", a.level), "use L0, L1, L2, L3 or L4"))?;
    // A name of the policy is a database; anything else a point, looked for in all of them.
    let p = policy::read(&policy::locate(cli.config.as_deref())?)?;
    let is_db = a.target.as_ref().is_none_or(|t| p.databases.keys().any(|k| k.as_str() == t));
    let (ctx, progress, point) = if is_db {
        let (c, progress) = context(cli, a.target.as_deref())?;
        (c, progress, None)
    } else {
        let id = a.target.as_deref().unwrap_or_default();
        let mut found = None;
        for name in p.databases.keys() {
            let (c, progress) = context(cli, Some(name.as_str()))?;
            if holdfast_engine::catalog::find(&c, id).await.is_ok() {
                found = Some((c, progress));
                break;
            }
        }
        let Some((c, progress)) = found else {
            return Err(holdfast_engine::EngineError::not_found(
                format!("`{id}` is neither a database of the policy nor a point"),
                "see `holdfast list`",
            )
            .into());
        };
        (c, progress, Some(id))
    };
    let result = verify(&ctx, point, level, &program()?).await;
    progress.finish();
    let r = result?;
    if cli.json {
        output::json(&r);
    } else {
        let d = time::human(std::time::Duration::from_secs_f64(r.seconds));
        let reached = r.level.unwrap_or("nothing");
        let verdict = if r.passed { "passed" } else { "FAILED" };
        output::line(&format!("point {}: {verdict} {}, reached {reached} in {d}", r.point, r.wanted));
        if let Some(s) = r.restore_seconds {
            let d = time::human(std::time::Duration::from_secs_f64(s));
            output::line(&format!(
                "  restored and accepting sessions after {d}; databases: {}",
                r.databases.join(", ")
            ));
        }
        for f in &r.findings {
            output::line(&format!("  {f}"));
        }
    }
    Ok(if r.passed { 0 } else { 5 })
}
