//! The newest recovery point of a vault of AWS Backup, in another of its vaults, now. The copy actions of AWS
//! Backup's plan do it by themselves; this is for what was made on demand, and for what they missed.
//!
//! A copy does not say which point it is of: its job does. So [`plan`] takes the newest finished point of each source
//! vault, and asks the copy jobs whether one brought it, or is bringing it, to the target. A job that says COMPLETED is
//! believed only if the target has its point: it may have been deleted since, or never have come. A vault of another
//! account cannot be asked with these credentials; there the job is believed, which is said.
//!
//! Crash: the operation's name is the job's idempotency token, and the job is in the journal before it is started.
//! Killed at any point, the same command goes on waiting for the same job.

use super::journal::{Ended, Operation};
use super::wait::{Answer, Pace};
use super::{Managed, backup_role, operation};
use crate::error::{EngineError, Result};
use holdfast_core::managed::{
    CopyJob, JobFilter, Lifecycle, ManagedError, NewCopyJob, PointFilter, PointStatus, RecoveryPoint, Region,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const VERB: &str = "copy-job";
/// A copy that AWS Backup began before the point was listed as finished is found too.
const BEFORE: SignedDuration = SignedDuration::from_hours(24);
/// How long the target may not show the point of a job that has ended.
const SHOWN_WITHIN: Duration = Duration::from_secs(120);

/// From where to where.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    /// Vaults of AWS Backup in the source's region, with their roles; `None`: the default one.
    pub from: Vec<(String, Option<String>)>,
    pub region: Region,
    /// Its name at AWS.
    pub vault: String,
    /// Twelve digits; `None`: the account of the source vault.
    pub account: Option<String>,
    /// Until AWS Backup removes the copy; `None`: never.
    pub days: Option<u32>,
}

/// What would be done.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    pub target: Target,
    pub missing: Vec<Missing>,
    /// Jobs that others, or a killed run, began for these points.
    pub under_way: usize,
    /// Points that are there already.
    pub there: usize,
}

/// A point that the target lacks.
#[derive(Debug, Clone, Serialize)]
pub struct Missing {
    pub point: RecoveryPoint,
    #[serde(skip)]
    job: NewCopyJob,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    job: NewCopyJob,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    pub arrived: Vec<CopyJob>,
    /// Point and reason.
    pub failed: Vec<(String, String)>,
}

/// Compares. Makes no change.
pub async fn plan(m: &Managed, target: &Target) -> Result<Plan> {
    let mut out = Plan { target: target.clone(), missing: Vec::new(), under_way: 0, there: 0 };
    let home = &m.source.region;
    for (vault, role) in &target.from {
        let mut points = m.cloud.recovery_points(home, vault, &PointFilter::default()).await?;
        let of_this =
            format!(":{}:{}", if m.source.engine.is_cluster() { "cluster" } else { "db" }, m.source.id);
        points.retain(|p| {
            p.engine == m.source.engine
                && p.resource_arn.ends_with(&of_this)
                && matches!(p.status, PointStatus::Completed | PointStatus::Available)
                && !p.continuous
        });
        let Some(point) = points.into_iter().max_by_key(|p| p.created) else { continue };
        let source = m.cloud.vault(home, vault).await?;
        let to_vault_arn = target_arn(&source.arn, target).ok_or_else(|| {
            EngineError::failed(format!("the ARN of vault `{vault}`, `{}`, is none", source.arn), "")
        })?;
        let filter = JobFilter {
            resource_arn: Some(point.resource_arn.clone()),
            created_after: point.created.checked_sub(BEFORE).ok(),
        };
        let jobs = m.cloud.copy_jobs(home, &filter).await?;
        let mut of_point =
            jobs.iter().filter(|j| j.from_point_arn == point.arn && j.to_vault_arn == to_vault_arn);
        let mut there = false;
        for job in of_point.clone().filter(|j| j.state.is_success()) {
            there = there || matches!(arrived(m, job).await?, Arrived::There | Arrived::NotKnown);
        }
        if there {
            out.there += 1;
            continue;
        }
        if of_point.any(|j| !j.state.is_final()) {
            out.under_way += 1;
            continue;
        }
        let job = NewCopyJob {
            region: home.clone(),
            from_vault: vault.clone(),
            point_arn: point.arn.clone(),
            to_vault_arn,
            role_arn: backup_role::role(&*m.cloud, home, vault, role.as_deref()).await?,
            lifecycle: Lifecycle { cold_after_days: None, delete_after_days: target.days },
        };
        out.missing.push(Missing { point, job });
    }
    Ok(out)
}

/// `arn:aws:backup:REGION:ACCOUNT:backup-vault:NAME`, of the same partition as the source's.
fn target_arn(source: &str, t: &Target) -> Option<String> {
    let parts: Vec<&str> = source.split(':').collect();
    let (partition, own) = (parts.get(1)?, parts.get(4)?);
    let account = t.account.as_deref().unwrap_or(own);
    Some(format!("arn:{partition}:backup:{}:{account}:backup-vault:{}", t.region, t.vault))
}

/// Finishes what was begun, then copies what the plan lists. One that fails keeps no other.
pub async fn run(m: &Managed, plan: &Plan) -> Result<Report> {
    let _lock = m.state.lock_run(&m.name)?;
    let mut ops: Vec<Operation<State>> = Vec::new();
    for outline in m.journal.unfinished(Some(VERB), Some(m.name.as_str()))? {
        ops.push(m.journal.resume(outline)?);
    }
    for c in &plan.missing {
        let same = |op: &Operation<State>| {
            op.state().job.point_arn == c.job.point_arn && op.state().job.to_vault_arn == c.job.to_vault_arn
        };
        if !ops.iter().any(same) {
            let state = State { job: c.job.clone(), id: None };
            ops.push(m.journal.begin(VERB, m.name.as_str(), Timestamp::now(), state)?);
        }
    }
    let mut report = Report::default();
    let mut worst = None;
    for mut op in ops {
        let arn = op.state().job.point_arn.clone();
        match steps(m, &mut op).await {
            Ok(job) => {
                op.end(Timestamp::now(), Ended::Succeeded)?;
                report.arrived.push(job);
            }
            Err(e @ EngineError::Cancelled) => return Err(e),
            Err(e) => {
                if !e.goes_on() {
                    op.end(Timestamp::now(), Ended::Failed(e.to_string()))?;
                }
                report.failed.push((arn, e.to_string()));
                worst.get_or_insert(e);
            }
        }
    }
    match worst {
        Some(e) if report.arrived.is_empty() => Err(e),
        _ => Ok(report),
    }
}

async fn steps(m: &Managed, op: &mut Operation<State>) -> Result<CopyJob> {
    let name = operation(op.id())?;
    let new = op.state().job.clone();
    let what = format!("copy job to `{}`", new.to_vault_arn);
    let id = match op.state().id.clone() {
        Some(id) => id,
        None => {
            let begin = async || m.cloud.start_copy(&new, &name).await.map(Answer::Ready);
            let id = m.pace.until(&what, &*m.monitor, begin).await?.id;
            op.advance(Timestamp::now(), |s| s.id = Some(id.clone()))?;
            id
        }
    };
    let job = m
        .pace
        .until(&what, &*m.monitor, async || {
            let job = m.cloud.copy_job(&new.region, &id).await?;
            let state = format!("{:?}", job.state).to_lowercase();
            Ok(match (job.state.is_success(), job.state.is_final()) {
                (true, _) => Answer::Ready(job),
                (false, true) => {
                    let why = job.message.as_deref().unwrap_or("no reason is given");
                    Answer::Failed(format!("job {} ended as {state}: {why}", job.id))
                }
                _ => Answer::Going(state),
            })
        })
        .await?;
    let pace = Pace { deadline: SHOWN_WITHIN.min(m.pace.deadline), ..m.pace };
    let seen = pace.until(&what, &*m.monitor, async || {
        Ok(match arrived(m, &job).await? {
            Arrived::There => Answer::Ready(true),
            Arrived::NotKnown => Answer::Ready(false),
            Arrived::Absent(why) => Answer::Going(why),
        })
    });
    match seen.await {
        Ok(true) => Ok(job),
        Ok(false) => {
            m.monitor.warning(format!(
                "job {} is completed; its vault is another account's and was not looked into",
                job.id
            ));
            Ok(job)
        }
        Err(EngineError::NotYet { what, .. }) => Err(EngineError::failed(
            format!("job {} is completed, and its point is not there: {what}", job.id),
            "look at the job and the vault in AWS Backup; the same command begins a new copy",
        )),
        Err(e) => Err(e),
    }
}

/// What the target has of a copy whose job succeeded.
enum Arrived {
    There,
    /// The vault is another account's.
    NotKnown,
    Absent(String),
}

async fn arrived(m: &Managed, job: &CopyJob) -> Result<Arrived, ManagedError> {
    // arn:aws:backup:REGION:ACCOUNT:backup-vault:NAME, and arn:aws:rds:REGION:ACCOUNT:…
    let place: Vec<&str> = job.to_vault_arn.split(':').collect();
    let account = job.from_point_arn.split(':').nth(4);
    let (Some(region), Some(vault), Some(arn)) =
        (place.get(3).and_then(|r| r.parse::<Region>().ok()), place.get(6), &job.to_point_arn)
    else {
        return Ok(Arrived::Absent("the job names no point".into()));
    };
    if place.get(4).copied() != account {
        return Ok(Arrived::NotKnown);
    }
    match m.cloud.recovery_point(&region, vault, arn).await {
        Ok(p) if p.status.is_restorable() => Ok(Arrived::There),
        Ok(p) => Ok(Arrived::Absent(format!("`{arn}` is {:?} there", p.status))),
        Err(e) if e.is_not_found() => {
            Ok(Arrived::Absent(format!("vault `{vault}` in {region} has no `{arn}`")))
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_in_the_partition_of_the_source_and_in_the_account_that_is_named() {
        let mut t = Target {
            from: Vec::new(),
            region: "us-west-2".parse().unwrap(),
            vault: "dr".into(),
            account: None,
            days: None,
        };
        let own = "arn:aws-us-gov:backup:us-gov-east-1:111122223333:backup-vault:main";
        let arn = target_arn(own, &t).unwrap();
        assert_eq!(arn, "arn:aws-us-gov:backup:us-west-2:111122223333:backup-vault:dr");
        t.account = Some("444455556666".into());
        assert!(target_arn(own, &t).unwrap().contains(":444455556666:"));
        assert_eq!(target_arn("main", &t), None);
    }
}
