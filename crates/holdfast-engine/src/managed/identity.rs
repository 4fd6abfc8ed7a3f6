//! Whether what is worked on is what the policy means: the account of the credentials, and the database itself.
//!
//! Names of databases and snapshots are the same in every account, and a database that was made anew has the name of
//! the one before. So whoever changes or pays for something asks here first: [`account`] once per run, [`database`]
//! and [`live`] before what is done with a database. A policy that names neither account nor resource id is believed; one that
//! still names a database that a cutover replaced is not.

use super::Managed;
use super::apply::place_of;
use crate::error::{EngineError, Result};
use holdfast_core::managed::{Database, tags};
use holdfast_core::policy::ManagedDatabase;

/// The account of the credentials, against the policy's.
///
/// # Errors
/// It is another. Who cannot be asked (sts is away) is let through: whatever comes next says it better.
pub async fn account(m: &Managed, wanted: &ManagedDatabase) -> Result<()> {
    let Some(wanted) = &wanted.account else { return Ok(()) };
    match m.cloud.identity().await {
        Ok(me) if me.account != *wanted => Err(EngineError::refused(
            format!("these are credentials of account {}, and the policy says {wanted}", me.account),
            format!("set `profile` or `role` in [databases.{}], or AWS_PROFILE: nothing was changed", m.name),
        )),
        _ => Ok(()),
    }
}

/// A database that was described, against the account and the resource id of the policy.
///
/// # Errors
/// It is another one.
pub fn database(m: &Managed, wanted: &ManagedDatabase, is: &Database) -> Result<()> {
    let in_account = place_of(&is.arn).map(|(_, a)| a);
    if let (Some(wanted), Some(is_in)) = (&wanted.account, in_account)
        && wanted != is_in
    {
        return Err(EngineError::refused(
            format!("`{}` is in account {is_in}, and the policy says {wanted}", is.source),
            "check `profile` and AWS_PROFILE: nothing was changed",
        ));
    }
    if is_replaced(is) {
        return Err(EngineError::refused(
            format!("`{}` was replaced by a cutover, and is in quarantine", is.source),
            format!(
                "write the database that took its place as `source` and its `resource-id` in [databases.{}]; from there \
                 `holdfast cutover {} --to-id {}` makes this one the database again",
                m.name, m.name, is.source.id
            ),
        ));
    }
    match &wanted.resource_id {
        Some(id) if *id != is.resource_id => Err(EngineError::refused(
            format!(
                "`{}` has the resource id {}, and the policy says {id}: it is another database",
                is.source, is.resource_id
            ),
            format!(
                "if it is the right one, as after a restore or cutover, write `resource-id = \"{}\"` in [databases.{}]",
                is.resource_id, m.name
            ),
        )),
        _ => Ok(()),
    }
}

/// Whether a cutover put another one in its place, and left it for the days of its quarantine.
pub fn is_replaced(is: &Database) -> bool {
    is.tags.get(tags::STATE) == Some("quarantine")
}

/// The same of the source as it is now. One that is gone or cannot be asked is nobody else's.
///
/// # Errors
/// It is another one.
pub async fn live(m: &Managed, wanted: &ManagedDatabase) -> Result<()> {
    match m.cloud.describe(&m.source).await {
        Ok(is) => database(m, wanted, &is),
        Err(_) => Ok(()),
    }
}

/// Whether a text has the shape of `DbiResourceId` and `DbClusterResourceId`: `db-` or `cluster-` and 26 letters and
/// digits in the examples of the RDS API reference, which gives no pattern; 20 are asked for. A placeholder that
/// somebody forgot is shorter.
pub fn is_resource_id(text: &str) -> bool {
    let rest = text.strip_prefix("db-").or_else(|| text.strip_prefix("cluster-"));
    rest.is_some_and(|r| r.len() >= 20 && r.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_is_no_resource_id() {
        assert!(is_resource_id("db-FAIHNTYBKTGAUSUZQYPDS2GW4A"));
        assert!(is_resource_id("cluster-ABCDEFGHIJKLMNOPQRSTUVWXYZ"));
        for bad in ["db-WRITEYOUROWNHERE", "cluster-", "shop", "db-faihntybktgausuzqypds2gw4a"] {
            assert!(!is_resource_id(bad), "{bad}");
        }
    }
}
