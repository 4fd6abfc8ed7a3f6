//! How long restores of this database really took: [`all`], from the journal of this host.
//!
//! A recovery time that nobody measured is a wish (provider rules X22). What counts is a restore, or the restore of a
//! verification, that ended well and ran in one go: the time of one that was killed and resumed holds time in which
//! nobody worked on it. Kind and region must be the same; size and class are said beside it, because a smaller copy
//! of a smaller time proves less.

use super::journal::{Ended, Journal, Outline};
use super::restore::origin::Origin;
use super::restore::{Plan, SERVERLESS};
use crate::error::Result;
use holdfast_core::managed::{Region, RestoreFrom};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What was restored from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Snapshot,
    /// To a second: of the live source, or of what was retained or replicated.
    Moment,
    /// Of AWS Backup.
    RecoveryPoint,
}

/// One restore, and how long it took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    pub kind: Kind,
    pub region: Region,
    /// From the first call until the provider said that it is available.
    pub seconds: f64,
    /// When it ended.
    pub at: Timestamp,
    /// GiB of the backup, where the provider says it.
    pub size_gib: Option<u32>,
    pub class: Option<String>,
    /// `restore`, or `verify`: a verification restores to a small class.
    pub by: &'static str,
    pub operation: String,
}

/// All that were measured of a database, newest first.
///
/// # Errors
/// The journal cannot be read. A record of another shape, as another version may have left, measures nothing.
pub fn all(journal: &Journal, database: &str) -> Result<Vec<Measured>> {
    let restores = journal.ended("restore", database)?;
    let verifications = journal.ended("verify", database)?;
    let mut out: Vec<Measured> = restores.iter().filter_map(of_restore).collect();
    out.extend(verifications.iter().filter_map(of_verification));
    out.sort_by_key(|m| std::cmp::Reverse(m.at));
    Ok(out)
}

/// The newest of a kind in a region.
pub fn newest<'a>(all: &'a [Measured], kind: Kind, region: &Region) -> Option<&'a Measured> {
    all.iter().find(|m| m.kind == kind && m.region == *region)
}

fn of_restore(record: &Outline) -> Option<Measured> {
    if record.ended != Some(Ended::Succeeded) {
        return None;
    }
    measured(record, "restore", "/progress/plan", "/report/seconds")
}

/// Whatever its checks found: that it was restored is in its evidence.
fn of_verification(record: &Outline) -> Option<Measured> {
    measured(record, "verify", "/plan/restore", "/report/restore_seconds")
}

fn measured(record: &Outline, by: &'static str, plan: &str, seconds: &str) -> Option<Measured> {
    if record.state.pointer("/report/resumed")?.as_bool()? {
        return None;
    }
    let seconds = record.state.pointer(seconds)?.as_f64()?;
    let plan: Plan = serde_json::from_value(record.state.pointer(plan)?.clone()).ok()?;
    let kind = match &plan.origin {
        Origin::Provider { from: RestoreFrom::Snapshot(_) } => Kind::Snapshot,
        Origin::Provider { .. } => Kind::Moment,
        Origin::RecoveryPoint { .. } => Kind::RecoveryPoint,
    };
    let serverless = plan.target.scaling.map(|_| SERVERLESS.to_string());
    let class = plan.instances.first().map(|i| i.class.clone()).or(plan.target.class).or(serverless);
    Some(Measured {
        kind,
        region: plan.target.source.region,
        seconds,
        at: record.updated,
        size_gib: plan.size_gib,
        class,
        by,
        operation: record.id.clone(),
    })
}
