//! `doctor`: every setting that could make a backup or a recovery fail, one line each.
//!
//! The promise: it looks and never mends; a check that fails never stops the others. A server that
//! is down gives one FAIL, and the vaults are still looked at. What it writes: a file in `state-dir`
//! and a few objects below `probe/` in each vault, all removed at once (where removing is allowed).
//!
//! Each file holds one group: thin IO that gathers facts, and judgements (facts in, [`Line`] out)
//! that are pure and tested here. Names of lines are part of the interface: `postgres.wal-level`,
//! `vault.<name>.space`; `docs/guide/doctor.md` lists them.

mod archiving;
mod copies;
mod files;
mod host;
mod keys;
mod policy;
mod recovery;
mod remote;
mod schedule;
mod server;
mod settings;
mod vault;
mod versions;

pub use archiving::archive_command;
pub use policy::unwritable;

use crate::context::Context;
use host::Host;
use serde::Serialize;
use std::time::Duration;

/// How bad it is. Ordered: the worst line decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    Ok,
    /// Works today, and will hurt some day.
    Warn,
    /// Backup, archiving or recovery fails, or would give wrong data.
    Fail,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Status::Ok => "OK",
            Status::Warn => "WARN",
            Status::Fail => "FAIL",
        })
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Stable and dotted, such as `postgres.archive-command`.
    pub name: String,
    pub status: Status,
    pub message: String,
    pub hint: Option<String>,
}

impl Line {
    pub(crate) fn ok(name: &str, message: impl Into<String>) -> Self {
        Line { name: name.into(), status: Status::Ok, message: message.into(), hint: None }
    }

    pub(crate) fn warn(name: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Line { status: Status::Warn, ..Line::ok(name, message) }.hint(hint)
    }

    pub(crate) fn fail(name: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Line { status: Status::Fail, ..Line::ok(name, message) }.hint(hint)
    }

    /// A failed operation as a line; the error brings its own hint.
    pub(crate) fn error(name: &str, status: Status, e: &crate::EngineError) -> Self {
        Line { name: name.into(), status, message: explain(e), hint: e.hint() }
    }

    /// What to try when the error itself has no advice.
    pub(crate) fn or_hint(self, hint: &str) -> Self {
        Line { hint: self.hint.or_else(|| Some(hint.into())), ..self }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        Line { hint: (!hint.is_empty()).then_some(hint), ..self }
    }
}

/// The worst status of all; OK for nothing at all.
pub fn worst(lines: &[Line]) -> Status {
    lines.iter().map(|l| l.status).max().unwrap_or(Status::Ok)
}

/// What an error and its sources say.
fn explain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(s) = next {
        text.push_str(": ");
        text.push_str(&s.to_string());
        next = s.source();
    }
    text
}

/// `1 file`, `2 files`.
fn count(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// A vault or server that says nothing for this long is as good as away.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks at everything.
pub async fn doctor(ctx: &Context) -> Vec<Line> {
    // The server first: it tells where its files are, which the other groups want to know.
    let (mut of_server, live) = server::connect(ctx).await;
    let host = Host::look(ctx, live.as_ref().map(|l| &l.server));
    if let Some(live) = &live {
        of_server.extend(server::check(live, ctx.db.remote).await);
        of_server.extend(settings::check(&live.server));
        of_server.extend(archiving::check(ctx, live, &host).await);
    }
    match ctx.db.remote {
        // The files are none of this host's.
        true => of_server.extend(remote::check(ctx, live.as_ref().map(|l| &l.server)).await),
        false => of_server.extend(files::check(ctx, live.as_ref().map(|l| &l.server), &host)),
    }

    let mut lines = policy::check(ctx, &host);
    lines.extend(of_server);
    let mut stocks = Vec::new();
    match ctx.vaults() {
        Ok(vaults) if vaults.is_empty() => lines.push(Line::fail(
            "policy.vaults",
            format!("`{}` has no vault", ctx.db.name),
            "add a [vaults.NAME] table to the policy",
        )),
        Ok(vaults) => {
            for v in &vaults {
                lines.extend(keys::check(v, &host));
                stocks.push(vault::check(ctx, v, live.as_ref().map(|l| &l.server), &host, &mut lines).await);
            }
        }
        Err(e) => lines.push(Line::error("policy.vaults", Status::Fail, &e)),
    }
    lines.extend(recovery::check(ctx, &stocks, live.as_ref(), &host).await);
    lines.extend(copies::check(ctx, &stocks));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_serialise_as_the_interface_says_and_the_worst_wins() {
        let lines = [Line::ok("a.b", "fine"), Line::warn("a.c", "so so", "run `x`"), Line::ok("a.d", "fine")];
        assert_eq!(worst(&lines), Status::Warn);
        assert_eq!(worst(&[]), Status::Ok);
        assert_eq!(
            serde_json::to_string(&lines[1]).unwrap(),
            r#"{"name":"a.c","status":"WARN","message":"so so","hint":"run `x`"}"#
        );
        assert_eq!(serde_json::to_value(&lines[0]).unwrap()["hint"], serde_json::Value::Null);
        assert_eq!(serde_json::to_value(Status::Fail).unwrap(), "FAIL");
        assert_eq!(format!("{:<5}|", Status::Ok), "OK   |");
    }
}
