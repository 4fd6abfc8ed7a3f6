//! `holdfast verify`

use super::{Done, context, program};
use crate::args::{Cli, ManagedVerifyArgs, VerifyArgs};
use crate::{failure, output, policy};
use holdfast_core::time;
use holdfast_engine::verify::{Level, run as verify};

/// What a provider restores is not what a vault holds.
fn only_managed(m: &ManagedVerifyArgs) -> anyhow::Result<()> {
    let given = [
        (m.at.is_some(), "--at"),
        (m.random, "--random"),
        (m.from_snapshot.is_some(), "--from-snapshot"),
        (m.newest_snapshot, "--newest-snapshot"),
        (m.from_point.is_some(), "--from-point"),
        (m.region.is_some(), "--region"),
        (m.class.is_some(), "--class"),
        (m.subnet_group.is_some(), "--subnet-group"),
        (m.from_cidr.is_some(), "--from-cidr"),
        (m.ca_file.is_some(), "--ca-file"),
        (m.reset_password, "--reset-password"),
        (m.wait_for.is_some(), "--wait-for"),
        (m.plan, "--plan"),
    ];
    match given.iter().find(|(on, _)| *on) {
        None => Ok(()),
        Some((_, name)) => Err(failure::usage(
            format!("{name} is for managed databases"),
            "name one of them, or leave the option out",
        )),
    }
}

pub async fn run(cli: &Cli, a: &VerifyArgs) -> Done {
    let level = a.level.as_deref().unwrap_or("L3");
    let level = Level::parse(level)
        .ok_or_else(|| failure::usage(format!("`{level}` is no level"), "use L0, L1, L2, L3 or L4"))?;
    only_managed(&a.managed)?;
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
