//! One file per command; this one chooses.

mod backup;
mod check;
mod copy;
mod expire;
mod iam;
mod init;
mod key;
mod list;
mod lock;
mod managed;
mod restore;
mod validate;
mod verify;
mod wal;

use crate::args::{Cli, Command, WalCommand};
use crate::policy;
use crate::progress::{Progress, Style};
use holdfast_core::ExitCode;
use holdfast_engine::Context;
use std::sync::Arc;

/// The exit code of a command that was done: all of it, or not for every vault.
pub fn partial(whole: bool) -> u8 {
    if whole { ExitCode::Ok as u8 } else { ExitCode::Partial as u8 }
}

/// An exit code of any command.
pub type Done = anyhow::Result<u8>;

pub async fn run(cli: &Cli) -> Done {
    let done = dispatch(cli).await;
    let stopped = done.as_ref().is_err_and(|e| crate::failure::judge(e).0 == ExitCode::Cancelled);
    if stopped && let Some(database) = begins_things(&cli.command) {
        managed::left_open(cli, database);
    }
    done
}

/// Commands that leave something with a provider when they are stopped, and for which database.
fn begins_things(command: &Command) -> Option<Option<&str>> {
    Some(match command {
        Command::Backup(a) => a.database.as_deref(),
        Command::Cutover(a) => a.database.as_deref(),
        Command::Retire { db, .. } => db.as_deref(),
        Command::Apply(a) => a.database.as_deref(),
        Command::Recover(a) => a.database.as_deref(),
        Command::Restore(a) => a.database.as_deref(),
        Command::Verify(a) => a.target.as_deref(),
        Command::Copy(a) => a.db.as_deref().or(Some(&a.target)),
        _ => return None,
    })
}

async fn dispatch(cli: &Cli) -> Done {
    if let Some((command, database)) = native_only(&cli.command)
        && is_managed(cli, database)
    {
        return Err(crate::failure::usage(
            format!("`{command}` is for databases whose vault is holdfast's own; a provider runs this one"),
            "see holdfast list, expire, copy, restore --to-id, verify and reap",
        ));
    }
    match &cli.command {
        Command::Init(a) => init::run(cli, a).await,
        Command::Backup(a) if is_managed(cli, a.database.as_deref()) => managed::backup::backup(cli, a).await,
        Command::Backup(a) => backup::run(cli, a).await,
        Command::Cutover(a) => managed::cutover::cutover(cli, a).await,
        Command::Retire { id, db, yes, wait_for } => {
            managed::retire::retire(cli, id, db.as_deref(), *yes, wait_for.as_deref()).await
        }
        Command::Plan { database } => managed::apply::plan(cli, database.as_deref()).await,
        Command::Apply(a) => managed::apply::apply(cli, a).await,
        Command::Recover(a) => managed::recover::recover(cli, a).await,
        Command::List { database } => list::list(cli, database.as_deref()).await,
        Command::Show { point } => list::show(cli, point).await,
        Command::Restore(a) if is_managed(cli, a.database.as_deref()) => {
            managed::restore::restore(cli, a).await
        }
        Command::Reap { database, yes } => managed::reap::reap(cli, database.as_deref(), *yes).await,
        Command::Restore(a) => restore::run(cli, a).await,
        Command::Wal(w) => wal::run(cli, w).await,
        Command::Verify(a) if is_managed(cli, a.target.as_deref()) => managed::verify::verify(cli, a).await,
        Command::Verify(a) => verify::run(cli, a).await,
        Command::Check { database, undelete: true, yes, .. } => {
            check::undelete(cli, database.as_deref(), *yes).await
        }
        Command::Check { database, fast, .. } => check::check(cli, database.as_deref(), *fast).await,
        Command::Doctor { database } if is_managed(cli, database.as_deref()) => {
            managed::doctor::doctor(cli, database.as_deref()).await
        }
        Command::Doctor { database } => check::doctor(cli, database.as_deref()).await,
        Command::Copy(a) if is_managed(cli, Some(&a.target)) => managed::copy::copy(cli, a, &a.target).await,
        Command::Copy(a) => match managed::copy::owner(cli, &a.target, a.db.as_deref()).await? {
            Some(database) => managed::copy::copy(cli, a, &database).await,
            None => copy::run(cli, a).await,
        },
        Command::Expire { target, apply } if is_managed(cli, target.as_deref()) => {
            managed::expire::expire(cli, target.as_deref(), *apply).await
        }
        Command::Expire { target, apply } => expire::expire(cli, target.as_deref(), *apply).await,
        Command::Sweep { database, plan } => expire::sweep(cli, database.as_deref(), *plan).await,
        Command::Lock { database, apply } => lock::run(cli, database.as_deref(), *apply).await,
        Command::Hold(a) => expire::hold(cli, a).await,
        Command::Release { hold, reason, db } => expire::release(cli, hold, reason, db.as_deref()).await,
        Command::Validate(a) => validate::run(cli, a).await,
        Command::Key(k) => key::run(cli, k).await,
        Command::Iam(a) => iam::run(cli, a),
    }
}

/// A command that only native databases know, and which one it is for.
fn native_only(command: &Command) -> Option<(&'static str, Option<&str>)> {
    Some(match command {
        Command::Check { database, .. } => ("check", database.as_deref()),
        Command::Sweep { database, .. } => ("sweep", database.as_deref()),
        Command::Lock { database, .. } => ("lock", database.as_deref()),
        Command::Hold(a) => ("hold", a.db.as_deref()),
        Command::Release { db, .. } => ("release", db.as_deref()),
        Command::Wal(WalCommand::Status { database }) => ("wal status", database.as_deref()),
        Command::Wal(WalCommand::Adopt { database, .. }) => ("wal adopt", database.as_deref()),
        _ => return None,
    })
}

/// Whether the provider runs the database. A policy that cannot be read is complained of by the command itself.
fn is_managed(cli: &Cli, database: Option<&str>) -> bool {
    let read = policy::locate(cli.config.as_deref()).and_then(|path| policy::read(&path));
    read.is_ok_and(|p| managed::is_managed(&p, database))
}

/// The policy, a database of it, and a monitor that fits the command.
pub fn context(cli: &Cli, db: Option<&str>) -> anyhow::Result<(Context, Arc<Progress>)> {
    let path = policy::locate(cli.config.as_deref())?;
    let p = Arc::new(policy::read(&path)?);
    let quiet = matches!(cli.command, Command::Wal(WalCommand::Push { .. } | WalCommand::Get { .. }));
    let style = if quiet && !cli.json { Style::Quiet } else { Style::choose(cli.json, cli.no_progress) };
    let progress = Arc::new(Progress::new(style, cli.verbose, cli.no_progress));
    let mut ctx = Context::new(p, db, progress.clone())?;
    ctx.allow_unsupported = cli.allow_unsupported;
    ctx.vault = cli.vault.clone();
    if let Some(n) = ctx.policy.tuning.nice {
        let _ = rustix::process::nice(n);
    }
    Ok((ctx, progress))
}

/// `KEY=VALUE` of an option.
pub fn pair(text: &str, option: &str) -> anyhow::Result<(String, String)> {
    match text.split_once('=') {
        Some((k, v)) if !k.is_empty() => Ok((k.to_string(), v.to_string())),
        _ => Err(crate::failure::usage(
            format!("`{text}` is not KEY=VALUE"),
            format!("write it as {option} key=value"),
        )),
    }
}

/// The path of this program, for commands that others will run.
pub fn program() -> anyhow::Result<std::path::PathBuf> {
    Ok(std::env::current_exe()?)
}
