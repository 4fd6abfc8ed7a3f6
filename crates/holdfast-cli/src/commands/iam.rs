//! `holdfast iam`

use super::Done;
use crate::args::{Cli, IamArgs};
use crate::{failure, output};
use holdfast_core::managed::iam::{Role, Scope, policy};
use serde_json::json;

/// Prints the policy of one role. Asks AWS nothing: it works where Holdfast may not do anything yet.
pub fn run(cli: &Cli, a: &IamArgs) -> Done {
    let role: Role = a.role.parse().map_err(|e| failure::usage(e, "use --role backup, for example"))?;
    let part = |given: &Option<String>| given.clone().unwrap_or_else(|| "*".into());
    let scope = Scope { partition: a.partition.clone(), account: part(&a.account), region: part(&a.region) };
    let document = policy(role, &scope);
    if cli.json {
        output::json(&json!({ "role": role, "policy": document }));
    } else {
        output::line(&format!("{document:#}"));
    }
    Ok(0)
}
