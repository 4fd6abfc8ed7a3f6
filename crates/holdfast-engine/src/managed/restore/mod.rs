//! A new instance or cluster from a snapshot, a second, what is left of a deleted source, or a recovery point.
//!
//! ```text
//! plan: source (or how it was last seen) ─▶ where from ─▶ what it looks like ─▶ refused, or a plan
//! run:  start ─▶ wait for the job ─▶ wait for the database ─▶ what one call cannot carry
//!             ─▶ each instance ─▶ wait for them ─▶ deletion protection ─▶ done
//! ```
//!
//! [`plan()`] looks and decides, and changes nothing; [`run`] takes the steps ([`steps`]). The source is never
//! restored over, and never named again: a restore always makes something new (provider rules §5b).
//!
//! Crash: the plan and the next step are in the journal before each call, and everything that is created carries the
//! operation's tag. The same command finds its plan again and goes on. If a step fails for good, what was made is
//! named in the error, or removed with [`Request::remove_on_failure`]; nothing is removed that this operation did not
//! make.

pub mod moment;
pub mod origin;
pub mod plan;
pub mod price;
pub mod steps;
mod target;

pub use moment::At;
pub use plan::{Plan, plan};
pub use target::SERVERLESS;

use super::journal::{Ended, Operation};
use super::{Managed, remove};
use crate::error::{EngineError, Result};
use holdfast_core::managed::{Database, Endpoint, ErrorKind, Region, Scaling, Tags};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use steps::{Phase, Progress, Restoring};

const VERB: &str = "restore";

/// What to restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A moment of the source: while it lives, after its deletion, or in another region from what was replicated
    /// there. `backup` picks one past by the ARN of its automated backup or the resource id of its source.
    Moment { at: At, backup: Option<String> },
    /// The newest snapshot of the source that is available in the target's region, whoever made it.
    Newest,
    /// A snapshot by name or ARN; automated ones too.
    Snapshot(String),
    /// A recovery point of AWS Backup. `at` is for continuous ones.
    RecoveryPoint { vault: String, arn: String, at: Option<At> },
}

impl Default for What {
    fn default() -> Self {
        What::Moment { at: At::Latest, backup: None }
    }
}

/// What the new database has instead of what the source has. Empty = as the source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Overrides {
    /// Of the instance, or of all instances of a cluster.
    pub class: Option<String>,
    /// How many instances a cluster gets.
    pub instances: Option<u32>,
    pub scaling: Option<Scaling>,
    pub engine_version: Option<String>,
    pub subnet_group: Option<String>,
    pub security_groups: Vec<String>,
    /// Of the instance, or of the cluster.
    pub parameter_group: Option<String>,
    pub instance_parameter_group: Option<String>,
    pub option_group: Option<String>,
    pub multi_az: Option<bool>,
    pub availability_zone: Option<String>,
    pub public: Option<bool>,
    pub port: Option<u16>,
    pub storage_kind: Option<String>,
    /// GiB.
    pub allocated_gib: Option<u32>,
    pub iops: Option<u32>,
    /// MiB/s.
    pub throughput: Option<u32>,
    /// Clusters only.
    pub key: Option<String>,
    pub iam_auth: Option<bool>,
    pub log_exports: Option<Vec<String>>,
    pub deletion_protection: Option<bool>,
}

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Request {
    /// Identifier of the new database.
    pub to: String,
    /// The source's, if none is given.
    pub region: Option<Region>,
    /// In another account, from a copy that is there: whoever asks works with its credentials. Nothing is asked of
    /// the source, which is in its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The source's own region is lost: nothing is asked of it.
    pub source_lost: bool,
    pub what: What,
    /// `db-…` or `cluster-…` of the database, as the policy says it: what is of another one of its name is refused.
    pub resource_id: Option<String>,
    /// Not even then: somebody wants that one.
    pub of_another: bool,
    /// Takes the nearest moment if the one that is asked for cannot be reached.
    pub nearest: bool,
    /// When it happened, which is what the loss is counted to; the moment that is asked for, if it is not known, or now.
    pub incident: Option<Timestamp>,
    /// The role under which AWS Backup restores a recovery point.
    pub role_arn: Option<String>,
    pub set: Overrides,
    pub tags: Tags,
    pub remove_on_failure: bool,
    /// A copy that is looked at and removed again: small, alone in a security group that its maker sets, without the
    /// source's tags, never protected.
    pub temporary: bool,
}

/// How it ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    pub operation: String,
    /// True if an earlier, killed run had begun it.
    pub resumed: bool,
    /// `rds://REGION/ID` of what was made.
    pub database: String,
    pub arn: String,
    pub endpoint: Option<Endpoint>,
    /// Clusters: host of the reader endpoint.
    pub reader: Option<String>,
    pub instances: Vec<String>,
    /// What the data shows.
    pub moment: Option<Timestamp>,
    pub asked: Timestamp,
    /// Seconds between the two: the work that is lost.
    pub loss_seconds: Option<i64>,
    /// From the first call to the last, also over a kill: the measured part of the RTO that is the provider's.
    pub seconds: f64,
    pub phases: Vec<Phase>,
    pub notes: Vec<String>,
}

/// What is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    progress: Progress,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    report: Option<Report>,
}

impl Restoring for State {
    fn progress(&self) -> &Progress {
        &self.progress
    }

    fn progress_mut(&mut self) -> &mut Progress {
        &mut self.progress
    }
}

/// Takes the steps of a plan, or goes on with the operation that it resumes.
///
/// # Errors
/// What failed, with the names of what is left. [`EngineError::goes_on`]: the same command goes on.
pub async fn run(m: &Managed, plan: &Plan) -> Result<Report> {
    let _lock = m.state.lock_run(&m.name)?;
    if let Some(account) = &plan.account {
        let me = m.cloud.identity().await?;
        if me.account != *account {
            return Err(EngineError::refused(
                format!(
                    "these are credentials of account {}, and the restore is one in {account}",
                    me.account
                ),
                "nothing was made; check `profile` and `role` of the vault",
            ));
        }
    }
    let unfinished = m.journal.unfinished(Some(VERB), Some(m.name.as_str()))?;
    for outline in unfinished {
        let op: Operation<State> = m.journal.resume(outline)?;
        let other = &op.state().progress.plan;
        if other.target.source == plan.target.source && other.account == plan.account {
            return finish(m, op, true).await;
        }
    }
    if let Some(id) = &plan.resumes {
        return Err(EngineError::not_found(
            format!("operation {id}, which the plan goes on with, has ended"),
            "make the plan again",
        ));
    }
    let now = Timestamp::now();
    let state = State { progress: Progress::new(plan.clone(), now), report: None };
    let op = m.journal.begin(VERB, m.name.as_str(), now, state)?;
    finish(m, op, false).await
}

/// The unfinished operation that makes `plan`'s target, if there is one.
fn begun(m: &Managed, to: &holdfast_core::managed::Source, account: Option<&str>) -> Result<Option<Plan>> {
    for outline in m.journal.unfinished(Some(VERB), Some(m.name.as_str()))? {
        let op: Operation<State> = m.journal.resume(outline)?;
        let plan = &op.state().progress.plan;
        if &plan.target.source == to && plan.account.as_deref() == account {
            return Ok(Some(Plan { resumes: Some(op.id().to_string()), ..plan.clone() }));
        }
    }
    Ok(None)
}

async fn finish(m: &Managed, mut op: Operation<State>, resumed: bool) -> Result<Report> {
    if resumed {
        m.monitor.info(format!(
            "going on with the restore to `{}`, begun {}",
            op.state().progress.plan.target.source,
            holdfast_core::time::short(op.record.begun)
        ));
    }
    match steps::take(m, &mut op).await {
        Ok(made) => {
            let report = report(&op, &made, resumed);
            op.advance(Timestamp::now(), |s| s.report = Some(report.clone()))?;
            op.end(Timestamp::now(), Ended::Succeeded)?;
            Ok(report)
        }
        Err(e) if e.goes_on() => Err(e),
        Err(e) => Err(fail(m, op, e, resumed).await?),
    }
}

fn report(op: &Operation<State>, made: &Database, resumed: bool) -> Report {
    let p = &op.state().progress;
    Report {
        operation: op.id().to_string(),
        resumed,
        database: made.source.to_string(),
        arn: made.arn.clone(),
        endpoint: made.endpoint.clone(),
        reader: made.reader.clone(),
        instances: p.plan.instances.iter().map(|i| i.id.clone()).collect(),
        moment: p.plan.moment,
        asked: p.plan.asked,
        loss_seconds: p.plan.loss_seconds(),
        seconds: p.phases.iter().map(|f| f.seconds).sum(),
        phases: p.phases.clone(),
        notes: p.plan.notes.clone(),
    }
}

/// Ends a restore that cannot succeed. `Ok` is the error to tell; `Err` is one that let the operation stay open.
async fn fail(m: &Managed, op: Operation<State>, why: EngineError, resumed: bool) -> Result<EngineError> {
    let progress = op.state().progress.clone();
    // A job of AWS Backup makes its database with or without us, and puts no tags on it. Past that they are there.
    let with_job = matches!(progress.next, steps::Step::Start | steps::Step::WaitJob);
    if with_job
        && let Err(e) = steps::settle(m, &m.pace, &*m.monitor, &progress, &super::operation(op.id())?).await
    {
        if matches!(e, EngineError::Cancelled) {
            return Err(e);
        }
        // One that could not even be begun makes nothing; what an earlier run asked for may have been begun. Nor does one
        // that is not known any more, if its database is not there.
        let gone =
            matches!(&e, EngineError::Cloud(e) if e.is_not_found() || e.kind == ErrorKind::InvalidRequest);
        let absent = gone
            && matches!(m.cloud.describe(&progress.plan.target.source).await, Err(e) if e.is_not_found());
        if (progress.job.is_some() || resumed) && !absent {
            return Err(EngineError::NotYet {
                what: format!(
                    "{why}; and what its restore job makes is not known ({e}): `{}` may be there, or come, without a tag \
                     of ours, and cost money",
                    progress.plan.target.source
                ),
                hint: "when that is mended, the same command goes on with it".into(),
            });
        }
    }
    let plan = progress.plan;
    let owner = op.id().to_string();
    let made = match remove::of_operation(&*m.cloud, &plan.target.source, &owner).await {
        Ok(made) => made,
        Err(e) => vec![format!("`{}`, if it was made (looking failed: {e})", plan.target.source)],
    };
    if made.is_empty() {
        op.end(Timestamp::now(), Ended::Failed(why.to_string()))?;
        return Ok(why);
    }
    let names = made.join(", ");
    if plan.remove_on_failure {
        m.monitor.warning(format!("it failed, and what was made is removed: {names}"));
        // From here on it is something to be reaped, should this end here too.
        remove::condemn(&*m.cloud, &plan.target.source, &owner, Timestamp::now()).await?;
        remove::database(&*m.cloud, &m.pace, &*m.monitor, &plan.target.source, &owner).await?;
        op.end(Timestamp::now(), Ended::RolledBack(why.to_string()))?;
        return Ok(EngineError::failed(
            format!("{why}; removed again: {names}"),
            why.hint().unwrap_or_default(),
        ));
    }
    op.end(Timestamp::now(), Ended::Failed(why.to_string()))?;
    Ok(EngineError::failed(
        format!("{why}; left in {}: {names}", plan.target.source.region),
        "it costs money: look at it, then delete it; with --remove-on-failure that is done at once",
    ))
}
