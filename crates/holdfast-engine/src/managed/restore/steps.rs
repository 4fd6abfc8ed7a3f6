//! The steps of a restore. Each is written down before it is taken, and may be taken twice.
//!
//! What one call cannot carry comes before the instances: a cluster's parameters and limits count from an
//! instance's start. Deletion protection comes last: what fails before must be removable.
//!
//! A verification takes the same steps inside of its own operation: [`Restoring`].

use super::origin::Origin;
use super::plan::Plan;
use crate::error::{EngineError, Result};
use crate::managed::journal::Operation;
use crate::managed::wait::{Answer, Pace};
use crate::managed::{Managed, operation};
use holdfast_core::Monitor;
use holdfast_core::managed::{
    Database, Modification, NewRestoreJob, Operation as OperationName, RestoreTarget, Tags, restore_metadata,
    tags as keys,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Start,
    /// Of AWS Backup's restore job.
    WaitJob,
    WaitDatabase,
    Remainder,
    WaitRemainder,
    /// Of the instance with this number in the plan.
    CreateInstance(usize),
    WaitInstances,
    Protection,
    Done,
}

impl Step {
    /// Under which name its time is counted.
    fn phase(self) -> &'static str {
        match self {
            Step::Start => "start",
            Step::WaitJob => "restore job",
            Step::WaitDatabase => "database",
            Step::Remainder | Step::WaitRemainder => "settings",
            Step::CreateInstance(_) | Step::WaitInstances => "instances",
            Step::Protection | Step::Done => "protection",
        }
    }
}

/// How long one part took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    pub name: String,
    /// By this host's clock, between the steps: time in which no process ran counts too.
    pub seconds: f64,
}

/// How far a restore is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub plan: Plan,
    pub next: Step,
    /// When the step before ended.
    pub since: Timestamp,
    pub phases: Vec<Phase>,
    /// AWS Backup's restore job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The job was asked for; without [`Progress::job`] nobody knows whether there is one.
    #[serde(default)]
    pub job_asked: bool,
}

impl Progress {
    pub fn new(plan: Plan, now: Timestamp) -> Self {
        Progress { plan, next: Step::Start, since: now, phases: Vec::new(), job: None, job_asked: false }
    }

    fn go(&mut self, next: Step, now: Timestamp) {
        let seconds = now.duration_since(self.since).as_secs_f64().max(0.0);
        let name = self.next.phase();
        match self.phases.last_mut().filter(|p| p.name == name) {
            Some(last) => last.seconds += seconds,
            None => self.phases.push(Phase { name: name.into(), seconds }),
        }
        (self.next, self.since) = (next, now);
    }
}

/// An operation of which a restore is a part.
pub trait Restoring: Serialize {
    fn progress(&self) -> &Progress;
    fn progress_mut(&mut self) -> &mut Progress;
}

/// Takes all steps that are left; the new database at the end.
pub async fn take<S: Restoring>(m: &Managed, op: &mut Operation<S>) -> Result<Database> {
    let name = operation(op.id())?;
    loop {
        let step = op.state().progress().next;
        if m.monitor.cancelled() {
            return Err(EngineError::Cancelled);
        }
        let plan = op.state().progress().plan.clone();
        let next = match step {
            Step::Start => start(m, op, &plan, &name).await?,
            Step::WaitJob => wait_job(m, op, &plan, &name).await?,
            Step::WaitDatabase => {
                available(m, &plan).await?;
                match remainder(&plan).is_empty() {
                    true => Step::CreateInstance(0),
                    false => Step::Remainder,
                }
            }
            Step::Remainder => {
                modify(m, &plan, &remainder(&plan)).await?;
                Step::WaitRemainder
            }
            Step::WaitRemainder => {
                available(m, &plan).await?;
                Step::CreateInstance(0)
            }
            Step::CreateInstance(n) => match plan.instances.get(n) {
                None => Step::WaitInstances,
                Some(_) => {
                    create_instance(m, &plan, n, &name).await?;
                    Step::CreateInstance(n + 1)
                }
            },
            Step::WaitInstances => {
                wait_instances(m, &plan).await?;
                Step::Protection
            }
            Step::Protection => {
                if plan.protect {
                    let on = Modification { deletion_protection: Some(true), ..Modification::default() };
                    modify(m, &plan, &on).await?;
                }
                Step::Done
            }
            Step::Done => return available(m, &plan).await,
        };
        op.advance(Timestamp::now(), |s| s.progress_mut().go(next, Timestamp::now()))?;
    }
}

fn what(plan: &Plan) -> String {
    format!("`{}`", plan.target.source)
}

async fn start<S: Restoring>(
    m: &Managed,
    op: &mut Operation<S>,
    plan: &Plan,
    name: &OperationName,
) -> Result<Step> {
    let what = format!("restore to {}", what(plan));
    match &plan.origin {
        Origin::Provider { from } => {
            // A source or a snapshot that is busy is waited for.
            m.pace
                .until(&what, &*m.monitor, async || {
                    m.cloud.restore(from, &plan.target, name).await.map(Answer::Ready)
                })
                .await?;
            Ok(Step::WaitDatabase)
        }
        Origin::RecoveryPoint { .. } => {
            let Some(job) = job_of(plan) else { return Ok(Step::WaitDatabase) };
            op.advance(Timestamp::now(), |s| s.progress_mut().job_asked = true)?;
            let started = m
                .pace
                .until(&what, &*m.monitor, async || {
                    m.cloud.start_restore(&job, name).await.map(Answer::Ready)
                })
                .await?;
            op.advance(Timestamp::now(), |s| s.progress_mut().job = Some(started.id))?;
            Ok(Step::WaitJob)
        }
    }
}

/// The restore job of a recovery point.
fn job_of(plan: &Plan) -> Option<NewRestoreJob> {
    let Origin::RecoveryPoint { arn, role_arn, hints, moment, .. } = &plan.origin else { return None };
    Some(NewRestoreJob {
        region: plan.target.source.region.clone(),
        engine: plan.target.source.engine,
        point_arn: arn.clone(),
        role_arn: role_arn.clone(),
        metadata: restore_metadata(hints, &plan.target, *moment),
        copy_tags: false,
    })
}

/// A restore job takes no tags: they go on what it made as soon as it says what that is.
async fn wait_job<S: Restoring>(
    m: &Managed,
    op: &mut Operation<S>,
    plan: &Plan,
    name: &OperationName,
) -> Result<Step> {
    let to = &plan.target.source;
    let Some(id) = op.state().progress().job.clone() else { return Ok(Step::Start) };
    let tags = made(&plan.target, name);
    let tagged = std::sync::atomic::AtomicBool::new(false);
    let flag = std::sync::atomic::Ordering::Relaxed;
    m.pace
        .until(&format!("restore job of {}", what(plan)), &*m.monitor, async || {
            let job = m.cloud.restore_job(&to.region, &id).await?;
            if let Some(arn) = &job.created_resource
                && !tagged.load(flag)
            {
                // It says what it makes before that is there.
                match m.cloud.add_tags(&to.region, arn, &tags).await {
                    Ok(()) => tagged.store(true, flag),
                    Err(e) if e.is_not_found() => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(match (job.state.is_success(), job.state.is_final()) {
                (true, _) => Answer::Ready(()),
                (false, true) => Answer::Failed(match job.message {
                    Some(why) => format!("it ended as {:?}: {why}", job.state),
                    None => format!("it ended as {:?}", job.state),
                }),
                _ => Answer::Going(match job.percent.filter(|p| *p > 0.0) {
                    Some(p) => format!("{:?}, {p:.0} %", job.state).to_lowercase(),
                    None => format!("{:?}", job.state).to_lowercase(),
                }),
            })
        })
        .await?;
    if !tagged.load(flag) {
        let made = m.cloud.describe(to).await?;
        m.cloud.add_tags(&to.region, &made.arn, &tags).await?;
    }
    Ok(Step::WaitDatabase)
}

async fn available(m: &Managed, plan: &Plan) -> Result<Database> {
    m.pace
        .until(&what(plan), &*m.monitor, async || {
            let d = m.cloud.describe(&plan.target.source).await?;
            let status = d.status.clone();
            Ok(Answer::of(&status, None, d))
        })
        .await
}

async fn modify(m: &Managed, plan: &Plan, change: &Modification) -> Result<()> {
    let what = format!("settings of {}", what(plan));
    m.pace
        .until(&what, &*m.monitor, async || {
            m.cloud.modify(&plan.target.source, change).await.map(|_| Answer::Ready(()))
        })
        .await
}

/// What the restoring call could not carry.
fn remainder(plan: &Plan) -> Modification {
    match &plan.origin {
        Origin::Provider { from } => plan.target.remainder(from),
        // A restore job has no limits of Serverless v2.
        Origin::RecoveryPoint { .. } => {
            Modification { scaling: plan.target.scaling, ..Modification::default() }
        }
    }
}

async fn create_instance(m: &Managed, plan: &Plan, n: usize, name: &OperationName) -> Result<()> {
    let Some(new) = plan.instances.get(n) else { return Ok(()) };
    let mut new = new.clone();
    new.tags.clone_from(&plan.target.tags);
    m.pace
        .until(&format!("instance `{}`", new.id), &*m.monitor, async || {
            m.cloud.create_instance(&plan.target.source, &new, name).await.map(|_| Answer::Ready(()))
        })
        .await
}

async fn wait_instances(m: &Managed, plan: &Plan) -> Result<()> {
    let region = &plan.target.source.region;
    for new in &plan.instances {
        m.pace
            .until(&format!("instance `{}`", new.id), &*m.monitor, async || {
                let i = m.cloud.instance(region, &new.id).await?;
                Ok(Answer::of(&i.status, None, ()))
            })
            .await?;
    }
    Ok(())
}

/// Waits until a restore job makes nothing any more, and tags what it made: only then can all of it be removed.
///
/// A job that was asked for and whose answer was lost is asked for again with the same token, which is the
/// operation's: AWS Backup then names the one that there is.
pub async fn settle(
    m: &Managed,
    pace: &Pace,
    monitor: &dyn Monitor,
    progress: &Progress,
    name: &OperationName,
) -> Result<()> {
    let (to, target) = (&progress.plan.target.source, &progress.plan.target);
    let id = match (&progress.job, job_of(&progress.plan)) {
        (Some(id), _) => id.clone(),
        (None, Some(job)) if progress.job_asked => {
            let ask = async || m.cloud.start_restore(&job, name).await.map(Answer::Ready);
            pace.until(&format!("restore job of `{to}`"), monitor, ask).await?.id
        }
        _ => return Ok(()),
    };
    let job = pace
        .until(&format!("restore job of `{to}`"), monitor, async || {
            let job = m.cloud.restore_job(&to.region, &id).await?;
            let state = format!("{:?}", job.state).to_lowercase();
            Ok(if job.state.is_final() { Answer::Ready(job) } else { Answer::Going(state) })
        })
        .await?;
    if let Some(arn) = &job.created_resource {
        let tags = made(target, name);
        match m.cloud.add_tags(&to.region, arn, &tags).await {
            Err(e) if e.is_not_found() => {}
            other => other?,
        }
    }
    Ok(())
}

/// What a restore job makes carries no tags of ours at first.
fn made(target: &RestoreTarget, name: &OperationName) -> Tags {
    let tags = target.tags.clone().with(keys::OPERATION, name.as_str());
    tags.with(keys::MADE, &keys::database_mark(&target.source))
}
