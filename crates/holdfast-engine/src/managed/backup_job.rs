//! A recovery point in a vault of AWS Backup, made now and waited for: a tier whose vault is one.
//!
//! ```text
//! describe the source ──▶ job decided, written down ──▶ start ──▶ wait for the job ──▶ look at its point
//! ```
//!
//! The command ends with 0 only when the job is `COMPLETED`: `PARTIAL`, `EXPIRED` and `ABORTED` are no successes
//! (provider rules X5). A source that is busy is AWS Backup's to wait for, within the job's start window; one that is
//! stopped is refused, because the job could only expire.
//!
//! Crash: the operation's name is the job's idempotency token, so the same call starts the same job. Killed at any
//! point, the same command goes on waiting for it.

use super::journal::{Ended, Operation};
use super::wait::Answer;
use super::{Managed, backup_role, observed, operation};
use crate::error::{EngineError, Result};
use holdfast_core::managed::{BackupJob, Lifecycle, NewBackupJob, RecoveryPoint, Region, Tags, tags as keys};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

const VERB: &str = "backup-job";
/// A job that a killed run began counts for this one up to then.
const YOUNG: SignedDuration = SignedDuration::from_hours(1);

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The tier of the policy.
    pub tier: String,
    /// Where the vault is; a backup is made in the region of its source.
    pub region: Region,
    /// Its name at AWS.
    pub vault: String,
    /// `None`: AWS Backup's default role.
    pub role: Option<String>,
    /// Until AWS Backup removes it; `None`: never.
    pub days: Option<u32>,
    pub tags: Tags,
    /// Why it is made.
    pub note: String,
}

/// What is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    job: NewBackupJob,
    tier: String,
    note: String,
    /// The job, once it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Filled at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made: Option<RecoveryPoint>,
}

/// How it ended.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub operation: String,
    pub job: String,
    pub tier: String,
    pub note: String,
    /// True if an earlier, killed run had begun it.
    pub resumed: bool,
    pub point: RecoveryPoint,
    pub seconds: f64,
    pub warnings: Vec<String>,
}

/// Makes a recovery point, or goes on with one that an earlier run began.
///
/// # Errors
/// The job's end, in AWS's words, if it is not `COMPLETED`.
pub async fn run(m: &Managed, request: &Request) -> Result<Report> {
    let _lock = m.state.lock_run(&m.name)?;
    let mut went_on = None;
    for outline in m.journal.unfinished(Some(VERB), Some(m.name.as_str()))? {
        let op: Operation<State> = m.journal.resume(outline)?;
        m.monitor.info(format!(
            "going on with the backup job for tier `{}`, begun {} and not finished",
            op.state().tier,
            holdfast_core::time::short(op.record.begun)
        ));
        let (begun, tier, job) = (op.record.begun, op.state().tier.clone(), op.state().job.clone());
        match finish(m, op, true).await {
            Ok(report) => went_on = Some((begun, job, report)),
            Err(e) if e.goes_on() => return Err(e),
            // What is over is no reason to make no backup.
            Err(e) => m
                .monitor
                .warning(format!("the job for tier `{tier}`, which an earlier run began, is over: {e}")),
        }
    }
    let asked_again = |(begun, job, r): &(Timestamp, NewBackupJob, Report)| {
        Timestamp::now().duration_since(*begun) < YOUNG
            && r.tier == request.tier
            && r.note == request.note
            && (&job.region, &job.vault) == (&request.region, &request.vault)
            && job.lifecycle.delete_after_days == request.days
            && request.tags.0.iter().all(|(k, v)| job.tags.get(k) == Some(v))
    };
    if let Some((_, _, report)) = went_on.filter(asked_again) {
        return Ok(report);
    }
    let job = decide(m, request).await?;
    let (tier, note) = (request.tier.clone(), request.note.clone());
    let state = State { job, tier, note, id: None, made: None };
    let op = m.journal.begin(VERB, m.name.as_str(), Timestamp::now(), state)?;
    finish(m, op, false).await
}

async fn decide(m: &Managed, request: &Request) -> Result<NewBackupJob> {
    if request.region != m.source.region {
        return Err(EngineError::refused(
            format!(
                "vault `{}` is in {}, and AWS Backup backs `{}` up in {}",
                request.vault, request.region, m.source, m.source.region
            ),
            "give the tier a vault of that region, and bring its points to the other one by a copy",
        ));
    }
    let database = observed::look(m).await?.database;
    if database.status.is_stopped() || database.status.is_deleting() || database.status.is_failed() {
        return Err(EngineError::refused(
            format!("`{}` is `{}`: AWS takes no backup of it", m.source, database.status),
            "start it first",
        ));
    }
    let role_arn =
        backup_role::role(&*m.cloud, &request.region, &request.vault, request.role.as_deref()).await?;
    let mut tags = request.tags.clone();
    tags.set(keys::DATABASE, m.name.as_str());
    tags.set(keys::SOURCE, &database.resource_id);
    tags.set(keys::TIER, &request.tier);
    if !request.note.is_empty() {
        tags.set(keys::NOTE, &request.note);
    }
    Ok(NewBackupJob {
        region: request.region.clone(),
        vault: request.vault.clone(),
        resource_arn: database.arn,
        role_arn,
        lifecycle: Lifecycle { cold_after_days: None, delete_after_days: request.days },
        start_window: None,
        complete_window: None,
        tags,
    })
}

async fn finish(m: &Managed, mut op: Operation<State>, resumed: bool) -> Result<Report> {
    let begun = std::time::Instant::now();
    match steps(m, &mut op).await {
        Ok((job, point)) => {
            let mut warnings = Vec::new();
            if let Some(why) = job.message.filter(|w| !w.is_empty()) {
                warnings.push(format!("the job ended well, and says: {why}"));
            }
            if !point.encrypted {
                warnings.push("the recovery point is not encrypted, because its source is not".into());
            }
            op.advance(Timestamp::now(), |s| s.made = Some(point.clone()))?;
            let record = op.end(Timestamp::now(), Ended::Succeeded)?;
            let State { tier, note, .. } = record.state;
            let seconds = begun.elapsed().as_secs_f64();
            Ok(Report { operation: record.id, job: job.id, tier, note, resumed, point, seconds, warnings })
        }
        Err(e) => {
            if !e.goes_on() {
                op.end(Timestamp::now(), Ended::Failed(e.to_string()))?;
            }
            Err(e)
        }
    }
}

async fn steps(m: &Managed, op: &mut Operation<State>) -> Result<(BackupJob, RecoveryPoint)> {
    let name = operation(op.id())?;
    let new = op.state().job.clone();
    let what = format!("backup job into vault `{}`", new.vault);
    let id = match op.state().id.clone() {
        Some(id) => id,
        None => {
            let begin = async || m.cloud.start_backup(&new, &name).await.map(Answer::Ready);
            let id = m.pace.until(&what, &*m.monitor, begin).await?.id;
            op.advance(Timestamp::now(), |s| s.id = Some(id.clone()))?;
            id
        }
    };
    let job = m
        .pace
        .until(&what, &*m.monitor, async || Ok(judge(m.cloud.backup_job(&new.region, &id).await?)))
        .await?;
    let arn = job.point_arn.clone().ok_or_else(|| {
        EngineError::failed(
            format!("{what}: it is completed and names no recovery point"),
            "look at it in AWS Backup",
        )
    })?;
    let point = m.cloud.recovery_point(&new.region, &new.vault, &arn).await?;
    Ok((job, point))
}

fn judge(job: BackupJob) -> Answer<BackupJob> {
    if job.state.is_success() {
        return Answer::Ready(job);
    }
    let state = format!("{:?}", job.state).to_lowercase();
    if job.state.is_final() {
        let why = job.message.as_deref().unwrap_or("no reason is given");
        return Answer::Failed(format!("job {} ended as {state}: {why}", job.id));
    }
    Answer::Going(match job.percent.filter(|p| *p > 0.0) {
        Some(p) => format!("{state}, {p:.0} %"),
        None => state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::managed::BackupJobState;

    fn job(state: &str) -> BackupJob {
        BackupJob {
            region: "us-east-1".parse().unwrap(),
            id: "J".into(),
            state: BackupJobState::of(state),
            message: Some("because".into()),
            percent: None,
            vault: "main".into(),
            resource_arn: "arn".into(),
            point_arn: None,
            created: Timestamp::UNIX_EPOCH,
            completed: None,
            expected: None,
            size_bytes: None,
            created_by: None,
        }
    }

    #[test]
    fn only_completed_is_a_success() {
        assert!(matches!(judge(job("COMPLETED")), Answer::Ready(_)));
        for state in ["FAILED", "ABORTED", "EXPIRED", "PARTIAL"] {
            match judge(job(state)) {
                Answer::Failed(why) => assert!(why.contains(&state.to_lowercase()), "{why}"),
                other => panic!("{state}: {other:?}"),
            }
        }
        for state in ["CREATED", "PENDING", "RUNNING", "ABORTING", "NEW"] {
            assert!(matches!(judge(job(state)), Answer::Going(_)), "{state}");
        }
    }
}
