//! How an error reaches the user: text with a hint, or one JSON document, and an exit code.

use holdfast_core::ExitCode;
use holdfast_core::policy::PolicyError;
use holdfast_engine::EngineError;
use holdfast_vault::VaultError;
use serde_json::json;

/// An error of the command line itself.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct UsageError {
    pub what: String,
    pub hint: String,
    pub code: ExitCode,
}

pub fn usage(what: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    UsageError { what: what.into(), hint: hint.into(), code: ExitCode::Usage }.into()
}

pub fn refused(what: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    UsageError { what: what.into(), hint: hint.into(), code: ExitCode::Refused }.into()
}

/// Code and hint of any error that a command can end with.
pub fn judge(e: &anyhow::Error) -> (ExitCode, Option<String>) {
    for cause in e.chain() {
        if let Some(e) = cause.downcast_ref::<EngineError>() {
            return (e.exit_code(), e.hint());
        }
        if let Some(e) = cause.downcast_ref::<UsageError>() {
            return (e.code, (!e.hint.is_empty()).then(|| e.hint.clone()));
        }
        if let Some(e) = cause.downcast_ref::<PolicyError>() {
            return (ExitCode::Usage, e.hint().map(str::to_string));
        }
        if let Some(e) = cause.downcast_ref::<VaultError>() {
            return (ExitCode::Error, e.hint());
        }
    }
    (ExitCode::Error, None)
}

/// The chain in one line; a source that only repeats its wrapper is left out.
pub fn text(e: &anyhow::Error) -> String {
    let mut out = String::new();
    for cause in e.chain() {
        let t = cause.to_string();
        if out.is_empty() {
            out = t;
        } else if !out.contains(&t) {
            out.push_str(": ");
            out.push_str(&t);
        }
    }
    out
}

pub fn as_json(e: &anyhow::Error) -> serde_json::Value {
    let (code, hint) = judge(e);
    json!({ "error": { "code": code.word(), "message": text(e), "hint": hint } })
}
