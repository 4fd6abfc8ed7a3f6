//! `holdfast iam`

use super::Done;
use crate::args::{Cli, IamArgs};
use crate::{failure, output};
use holdfast_core::managed::iam::{Role, Scope, key_statements, policy};
use serde_json::json;

/// Prints the policy of one role, or what a key has to say. Asks AWS nothing: it works where Holdfast may not do
/// anything yet.
pub fn run(cli: &Cli, a: &IamArgs) -> Done {
    if let Some(account) = &a.key_for {
        return key_for(cli, &a.partition, account);
    }
    let role: Role = a
        .role
        .as_deref()
        .unwrap_or_default()
        .parse()
        .map_err(|e| failure::usage(e, "use --role backup, for example"))?;
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

fn key_for(cli: &Cli, partition: &str, account: &str) -> Done {
    if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
        return Err(failure::usage(
            format!("--key-for: `{account}` is no account"),
            "an account has twelve digits",
        ));
    }
    let statements = key_statements(partition, account);
    match cli.json {
        true => output::json(&json!({ "account": account, "statements": statements })),
        false => output::line(&format!("{statements:#}")),
    }
    Ok(0)
}
