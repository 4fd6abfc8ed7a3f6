//! `verify` of a managed database: restores it somewhere small and alone, looks at what is in it, removes it again.
//!
//! ```text
//! group ─▶ restore (its steps) ─▶ connect ─▶ check ─▶ remove database and group ─▶ evidence
//! ```
//!
//! | level | what was shown |
//! |---|---|
//! | L2 | the provider restored it, and says that it is available |
//! | L3 | it accepts connections: a session in every database; of DocumentDB only that its port answers |
//! | L4 | every check of its content holds ([`checks`]); PostgreSQL only |
//!
//! The copy is of the smallest sensible class, in a security group of its own that lets in one address and nothing
//! out, without the source's tags: a backup plan that selects by tag must not find it. It is never an instance that
//! anybody else uses (provider rules X31).
//!
//! Crash and failure: everything carries the operation and an end of life from its creation. The run removes it at the
//! end, and when a step fails; Ctrl-C gives the removal [`CLEANING`]. A process that is killed goes on, or only removes,
//! the next time; if there is none, [`super::reap`] removes it. The operation's record, with what was found, is kept:
//! that is the evidence.

pub mod checks;
mod choose;
pub mod connect;
pub mod evidence;
mod plan;

pub use checks::Checks;
pub use choose::What;
pub use connect::{Login, Password};
pub use evidence::{Level, Report};
pub use plan::{Plan, plan};

use super::journal::{Ended, Operation};
use super::restore::steps::{self, Progress, Restoring};
use super::wait::Pace;
use super::{Managed, operation, remove, restore};
use crate::error::{EngineError, Result};
use connect::{Access, endpoint, port_answers};
use evidence::Outcome;
use holdfast_core::managed::{
    Database, Engine, NewSecurityGroup, Operation as OperationName, Peer, Region, Tags, tags as keys,
};
use holdfast_core::time::{Duration as Span, short};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

pub(super) const VERB: &str = "verify";
/// How long the removal goes on after Ctrl-C.
const CLEANING: Duration = Duration::from_secs(120);

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Request {
    pub what: What,
    /// Where to restore; the source's region, if none is given.
    pub region: Option<Region>,
    /// The role under which AWS Backup restores a recovery point.
    pub role_arn: Option<String>,
    /// What the copy has instead of the smallest class and the source's network.
    pub set: restore::Overrides,
    /// L4, if none is given; L3 of DocumentDB.
    pub level: Option<Level>,
    /// Who may connect, such as `10.0.0.7/32`; this host, if nobody is named.
    pub from_cidr: Option<String>,
    pub login: Login,
    pub checks: Checks,
    /// After this the reaper may remove the copy; 12 hours, if it is not given.
    pub life: Option<Span>,
    pub tags: Tags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Group,
    Restore,
    Check,
    Remove,
}

/// What is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    plan: Plan,
    progress: Progress,
    /// The isolated security group, once it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    next: Step,
    outcome: Outcome,
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

/// Verifies, or goes on with a verification that an earlier run began.
///
/// # Errors
/// What keeps us from looking. A copy that cannot be restored, reached or trusted is no error but a report that did
/// not pass.
pub async fn run(m: &Managed, plan: &Plan) -> Result<Report> {
    let _lock = m.state.lock_run(&m.name)?;
    let mut unfinished = m.journal.unfinished(Some(VERB), Some(m.name.as_str()))?;
    if !unfinished.is_empty() {
        let op: Operation<State> = m.journal.resume(unfinished.remove(0))?;
        return finish(m, op, true).await;
    }
    let now = Timestamp::now();
    let state = State {
        plan: plan.clone(),
        progress: Progress::new(plan.restore.clone(), now),
        group: None,
        next: Step::Group,
        outcome: Outcome::default(),
        report: None,
    };
    let op = m.journal.begin(VERB, m.name.as_str(), now, state)?;
    finish(m, op, false).await
}

/// The plan of a verification that was begun and has not ended.
fn begun(m: &Managed) -> Result<Option<Plan>> {
    let mut unfinished = m.journal.unfinished(Some(VERB), Some(m.name.as_str()))?;
    if unfinished.is_empty() {
        return Ok(None);
    }
    let op: Operation<State> = m.journal.resume(unfinished.remove(0))?;
    Ok(Some(Plan { resumes: Some(op.id().to_string()), ..op.state().plan.clone() }))
}

async fn finish(m: &Managed, mut op: Operation<State>, resumed: bool) -> Result<Report> {
    if resumed {
        let begun = short(op.record.begun);
        m.monitor.info(format!("going on with verification {}, begun {begun} and not finished", op.id()));
    }
    let mut failure = None;
    if op.state().next != Step::Remove
        && let Err(e) = work(m, &mut op).await
    {
        op.advance(Timestamp::now(), |s| {
            s.outcome.stopped = Some(e.to_string());
            s.next = Step::Remove;
        })?;
        failure = Some(e);
    }
    let cancelled = matches!(failure, Some(EngineError::Cancelled));
    if let Err(e) = remove_all(m, &op, cancelled).await {
        m.monitor.warning(format!(
            "the copy `{}` could not be removed yet: {e}; `holdfast reap`, or the same command again, removes it",
            op.state().progress.plan.target.source
        ));
        return Err(failure.unwrap_or(e));
    }
    let report = report(m, &op, resumed).await;
    op.advance(Timestamp::now(), |s| s.report = Some(report.clone()))?;
    let ended = match (&failure, report.passed) {
        (Some(EngineError::Cancelled), _) => Ended::RolledBack("cancelled".into()),
        (_, true) => Ended::Succeeded,
        (_, false) => Ended::Failed(reason(&report)),
    };
    op.end(Timestamp::now(), ended)?;
    match failure {
        Some(e) if !is_verdict(&e) => Err(e),
        _ => Ok(report),
    }
}

/// Errors that say something about the backup; the rest is about permissions, this host or the network.
fn is_verdict(e: &EngineError) -> bool {
    match e {
        EngineError::Failed { .. } | EngineError::NotYet { .. } => true,
        EngineError::Pg(e) => matches!(e, holdfast_pg::PgError::Lost(_) | holdfast_pg::PgError::Query { .. }),
        _ => false,
    }
}

fn reason(report: &Report) -> String {
    let first = report.outcome.stopped.as_ref().or(report.outcome.evidence.faults.first());
    match first {
        Some(why) => why.clone(),
        None => format!(
            "reached {}, wanted {}",
            report.outcome.level.map_or("nothing", Level::word),
            report.wanted.word()
        ),
    }
}

/// Everything up to the removal.
async fn work(m: &Managed, op: &mut Operation<State>) -> Result<()> {
    let name = operation(op.id())?;
    if Timestamp::now() >= op.state().plan.expires {
        return Err(EngineError::failed(
            format!("its end of life, {}, came before its end", short(op.state().plan.expires)),
            "run it again",
        ));
    }
    if op.state().next == Step::Group {
        let group = isolate(m, &op.state().plan, &name).await?;
        op.advance(Timestamp::now(), |s| {
            s.progress.plan.target.security_groups = vec![group.clone()];
            s.group = Some(group);
            s.next = Step::Restore;
        })?;
    }
    if op.state().next == Step::Restore {
        steps::take(m, op).await?;
        op.advance(Timestamp::now(), |s| {
            s.outcome.restore_seconds = Some(s.progress.phases.iter().map(|p| p.seconds).sum());
            s.outcome.level = Some(Level::L2);
            s.next = Step::Check;
        })?;
    }
    if op.state().next == Step::Check {
        // What a killed run had found is found again: the copy is the same.
        let mut outcome = Outcome { evidence: evidence::Evidence::default(), ..op.state().outcome.clone() };
        let looked = look(m, &op.state().plan, &mut outcome).await;
        let stopped = looked.as_ref().err().map(ToString::to_string);
        op.advance(Timestamp::now(), |s| {
            s.outcome = Outcome { stopped, ..outcome };
            s.next = Step::Remove;
        })?;
        looked?;
    }
    Ok(())
}

async fn isolate(m: &Managed, plan: &Plan, name: &OperationName) -> Result<String> {
    let region = plan.restore.target.source.region.clone();
    let Some(vpc) = plan.restore.vpc.clone() else {
        return Err(EngineError::usage("the subnet group's VPC is not known", "give --subnet-group"));
    };
    let new = NewSecurityGroup {
        region: region.clone(),
        vpc,
        name: format!("holdfast-verify-{name}"),
        description: "holdfast verify: a temporary copy, removed with it".into(),
        tags: plan.restore.target.tags.clone(),
    };
    let group = m.cloud.create_group(&new, name).await?;
    m.cloud.allow_in(&region, &group.id, &Peer::Cidr(plan.cidr.clone()), plan.port).await?;
    Ok(group.id)
}

/// Connects and checks.
async fn look(m: &Managed, plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    if plan.wanted < Level::L3 {
        return Ok(());
    }
    let copy = m.cloud.describe(&plan.restore.target.source).await?;
    let begun = Instant::now();
    if copy.source.engine == Engine::DocumentDb {
        port_answers(m, &endpoint(&copy)?).await?;
        outcome.connect_seconds = Some(begun.elapsed().as_secs_f64());
        outcome.level = Some(Level::L3);
        let said = "DocumentDB: its port answers; nobody logged in, and no document was read";
        outcome.evidence.notes.push(said.into());
        return Ok(());
    }
    let access = Access::new(m, &plan.restore, &copy, &plan.request.login).await?;
    let names = sessions(m, plan, &copy, &access, outcome).await?;
    outcome.connect_seconds = Some(begun.elapsed().as_secs_f64());
    if !outcome.evidence.faults.is_empty() {
        return Ok(());
    }
    outcome.level = Some(Level::L3);
    if plan.wanted < Level::L4 {
        return Ok(());
    }
    let begun = Instant::now();
    let (checks, moment) = (&plan.request.checks, plan.restore.moment);
    let done = checks::run(&access, &names, checks, moment, &*m.monitor, &mut outcome.evidence).await;
    outcome.check_seconds = Some(begun.elapsed().as_secs_f64());
    done?;
    if outcome.evidence.faults.is_empty() {
        outcome.level = Some(Level::L4);
    }
    Ok(())
}

/// A session in every database.
async fn sessions(
    m: &Managed,
    plan: &Plan,
    copy: &Database,
    access: &Access,
    outcome: &mut Outcome,
) -> Result<Vec<String>> {
    let first = copy.database_name.as_deref().unwrap_or("postgres");
    let session = access.first(m, first).await?;
    let names = checks::databases(&session, &plan.request.checks, &mut outcome.evidence).await?;
    for name in &names {
        if let Err(e) = access.open(name).await {
            outcome.evidence.faults.push(format!("`{name}` accepts no session: {e}"));
        }
    }
    Ok(names)
}

/// Removes the copy and its group. After Ctrl-C only for a while.
async fn remove_all(m: &Managed, op: &Operation<State>, cancelled: bool) -> Result<()> {
    let name = operation(op.id())?;
    let quiet = remove::Undisturbed(&*m.monitor);
    let deadline = if cancelled { CLEANING.min(m.pace.deadline) } else { m.pace.deadline };
    let pace = Pace { deadline, ..m.pace };
    let State { progress, group, .. } = op.state();
    let copy = &progress.plan.target.source;
    steps::settle(m, &pace, &quiet, progress, &name).await?;
    remove::database(&*m.cloud, &pace, &quiet, copy, op.id()).await?;
    match group {
        Some(id) => remove::group(&*m.cloud, &pace, &quiet, &copy.region, id).await,
        // It may have been made, and the answer lost.
        None => {
            for g in m.cloud.own_groups(&copy.region).await? {
                if g.tags.operation() == Some(op.id()) {
                    remove::group(&*m.cloud, &pace, &quiet, &copy.region, &g.id).await?;
                }
            }
            Ok(())
        }
    }
}

async fn report(m: &Managed, op: &Operation<State>, resumed: bool) -> Report {
    let State { plan, progress, outcome, .. } = op.state();
    let reached = outcome.level.is_some_and(|l| l >= plan.wanted);
    let passed = reached && outcome.stopped.is_none() && outcome.evidence.faults.is_empty();
    let now = Timestamp::now();
    Report {
        operation: op.id().to_string(),
        resumed,
        database: plan.restore.database.clone(),
        from: plan.restore.from.clone(),
        moment: plan.restore.moment,
        wanted: plan.wanted,
        passed,
        outcome: outcome.clone(),
        phases: progress.phases.clone(),
        noted: passed && note(m, &plan.restore, now).await,
        seconds: now.duration_since(op.record.begun).as_secs_f64(),
    }
}

/// Says on the snapshot when it was verified, if it is one that Holdfast made; other people's stay as they are.
async fn note(m: &Managed, plan: &restore::Plan, now: Timestamp) -> bool {
    let Some(arn) = &plan.snapshot_arn else { return false };
    let region = &plan.target.source.region;
    let write = async {
        if !m.cloud.tags(region, arn).await?.is_ours() {
            return Ok(false);
        }
        let tags = Tags::default().with(keys::VERIFIED, &now.to_string());
        m.cloud.add_tags(region, arn, &tags).await.map(|()| true)
    };
    write.await.unwrap_or_else(|e| {
        m.monitor.warning(format!("the snapshot does not say that it was verified: {e}"));
        false
    })
}
