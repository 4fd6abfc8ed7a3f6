//! `verify` of a managed database: restores it somewhere small and alone, looks at what is in it, removes it again.
//!
//! ```text
//! group ─▶ restore (its steps) ─▶ connect ─▶ check ─▶ remove database and group ─▶ evidence
//! ```
//!
//! | level | what was shown |
//! |---|---|
//! | L2 | the provider restored it, and says that it is available |
//! | L3 | it accepts connections: a session in every database; DocumentDB: a login and a command |
//! | L4 | every check of its content holds, and all of it was looked at ([`checks`], [`documents`]) |
//!
//! The copy is of the smallest sensible class, in a security group of its own that lets in one address and nothing
//! out (or in those that the policy sets apart for this, never the source's), without the source's tags: a backup plan that selects by tag must not find it. It is never an instance that
//! anybody else uses (provider rules X31).
//!
//! Crash and failure: everything carries the operation and an end of life from its creation. The run removes it at the
//! end, and when a step fails; Ctrl-C gives the removal [`CLEANING`]. When the time to wait is up it is left as it is,
//! and the same command goes on. A process that is killed goes on, or only removes, the next time; if there is none,
//! [`super::reap`] removes it. The operation's record, with what was found, is kept:
//! that is the evidence.

pub mod checks;
mod choose;
pub mod connect;
mod documents;
pub mod evidence;
mod plan;

pub use checks::Checks;
pub use choose::What;
pub use connect::{Login, Password};
pub use evidence::{Level, Report};
pub use plan::{Plan, plan};

use super::journal::{Ended, Operation, Outline};
use super::reap::Reaper;
use super::restore::steps::{self, Progress, Restoring};
use super::wait::Pace;
use super::{Managed, operation, remove, restore};
use crate::error::{EngineError, Result};
use connect::Access;
use evidence::Outcome;
use holdfast_core::DatabaseName;
use holdfast_core::managed::{
    Database, DocumentError, Engine, NewSecurityGroup, Operation as OperationName, Peer, Region, SnapshotRef,
    Tags, tags as keys,
};
use holdfast_core::time::{Duration as Span, short};
use holdfast_pg::PgError;
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
    /// Of the database, as the policy says it: what another one of its name left verifies nothing.
    pub resource_id: Option<String>,
    /// The role under which AWS Backup restores a recovery point.
    pub role_arn: Option<String>,
    /// What the copy has instead of the smallest class and the source's network.
    pub set: restore::Overrides,
    /// L4, if none is given.
    pub level: Option<Level>,
    /// Who may connect, such as `10.0.0.7/32`; this host, if nobody is named.
    pub from_cidr: Option<String>,
    pub login: Login,
    pub checks: Checks,
    /// After this the reaper may remove the copy; 12 hours, if it is not given.
    pub life: Option<Span>,
    pub tags: Tags,
}

impl Request {
    /// Whether a verification for the one answers the other: the same point in the same region, looked at as far.
    fn asks_as(&self, other: &Request, home: &Region) -> bool {
        let place = |r: &Request| r.region.clone().unwrap_or_else(|| home.clone());
        self.what == other.what
            && place(self) == place(other)
            && self.level.unwrap_or_default() == other.level.unwrap_or_default()
    }
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
    /// It stopped for something that says nothing about the backup: only the removal is left.
    #[serde(default)]
    no_verdict: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    report: Option<Report>,
}

impl State {
    /// Whether going on with it gives what is asked for.
    fn answers(&self, request: &Request, home: &Region) -> bool {
        !self.no_verdict && self.plan.request.asks_as(request, home)
    }
}

impl Restoring for State {
    fn progress(&self) -> &Progress {
        &self.progress
    }

    fn progress_mut(&mut self) -> &mut Progress {
        &mut self.progress
    }
}

/// Verifies, or goes on with a verification that an earlier run began. One that was begun for something else is
/// finished first; its result is a note.
///
/// # Errors
/// What keeps us from looking. A copy that cannot be restored, reached or trusted is no error but a report that did
/// not pass.
pub async fn run(m: &Managed, plan: &Plan) -> Result<Report> {
    let _lock = m.state.lock_verify(&m.name)?;
    let mut asked = None;
    let mut others = Vec::new();
    for outline in m.journal.unfinished(Some(VERB), Some(m.name.as_str()))? {
        let op: Operation<State> = m.journal.resume(outline)?;
        match asked.is_none() && op.state().answers(&plan.request, &m.source.region) {
            true => asked = Some(op),
            false => others.push(op),
        }
    }
    let mut notes = Vec::new();
    for op in others {
        notes.push(first(m, op).await?);
    }
    let mut report = match asked {
        Some(op) => finish(m, op, true).await?,
        None => begin(m, plan).await?,
    };
    report.outcome.evidence.notes.extend(notes);
    Ok(report)
}

/// Finishes one that was begun for something else. What came of it, in words.
async fn first(m: &Managed, op: Operation<State>) -> Result<String> {
    let (id, from) = (op.id().to_string(), op.state().plan.restore.from.clone());
    let said = match finish(m, op, true).await {
        Ok(r) if r.passed => {
            let reached = r.outcome.level.map_or("nothing", Level::word);
            format!("verification {id} of {from}, begun before, passed {reached}")
        }
        Ok(r) => format!("verification {id} of {from}, begun before, did NOT pass: {}", reason(&r)),
        Err(e) => {
            let open = m.journal.unfinished(Some(VERB), Some(m.name.as_str()))?;
            if matches!(e, EngineError::Cancelled) || open.iter().any(|o| o.id == id) {
                return Err(e);
            }
            format!("verification {id} of {from}, begun before, ended without a verdict: {e}")
        }
    };
    m.monitor.info(said.clone());
    Ok(said)
}

async fn begin(m: &Managed, plan: &Plan) -> Result<Report> {
    if let Some(id) = &plan.resumes {
        return Err(EngineError::refused(
            format!("verification {id}, which this plan goes on with, has ended meanwhile"),
            "run it again",
        ));
    }
    let now = Timestamp::now();
    let state = State {
        plan: plan.clone(),
        progress: Progress::new(plan.restore.clone(), now),
        group: None,
        next: Step::Group,
        outcome: Outcome::default(),
        no_verdict: false,
        report: None,
    };
    let op = m.journal.begin(VERB, m.name.as_str(), now, state)?;
    finish(m, op, false).await
}

/// Verifications that were begun and have not ended.
struct Begun {
    /// That of what is asked for.
    plan: Option<Plan>,
    /// The others, in words: they are finished first.
    others: Vec<String>,
}

fn begun(m: &Managed, request: &Request) -> Result<Begun> {
    let mut out = Begun { plan: None, others: Vec::new() };
    for outline in m.journal.unfinished(Some(VERB), Some(m.name.as_str()))? {
        let op: Operation<State> = m.journal.resume(outline)?;
        let plan = op.state().plan.clone();
        match out.plan.is_none() && op.state().answers(request, &m.source.region) {
            true => out.plan = Some(Plan { resumes: Some(op.id().to_string()), ..plan }),
            false => {
                let (from, wanted) = (&plan.restore.from, plan.wanted.word());
                out.others.push(format!("{} ({wanted} of {from}), begun and not finished", op.id()));
            }
        }
    }
    Ok(out)
}

/// Regions and names of the snapshots that verifications are restored from just now.
pub(super) fn in_use(outlines: &[Outline]) -> impl Iterator<Item = (&str, &str)> {
    let all = outlines.iter().filter(|o| o.verb == VERB);
    all.filter_map(|o| {
        // arn:aws:rds:REGION:ACCOUNT:snapshot:ID
        let arn = o.state["plan"]["restore"]["snapshot_arn"].as_str()?;
        Some((arn.split(':').nth(3)?, arn.rsplit(':').next()?))
    })
}

/// Where a verification that is under way has its copy, and when its end of life is; `None` if its record is another
/// version's.
pub(super) fn end_of(o: &Outline) -> Option<(Region, Timestamp)> {
    let plan: Plan = serde_json::from_value(o.state.get("plan")?.clone()).ok()?;
    Some((plan.restore.target.source.region, plan.expires))
}

/// Ends a verification that nobody goes on with, and removes what it made. Success if it has ended meanwhile.
pub(super) async fn abandon(r: &Reaper, database: &DatabaseName, id: &str) -> Result<()> {
    let _lock = r.state.lock_verify(database)?;
    let mut unfinished = r.journal.unfinished(Some(VERB), Some(database.as_str()))?;
    unfinished.retain(|o| o.id == id);
    let Some(outline) = unfinished.pop() else { return Ok(()) };
    let mut op: Operation<State> = r.journal.resume(outline)?;
    let m = Managed {
        name: database.clone(),
        source: op.state().plan.restore.source.clone(),
        cloud: r.cloud.clone(),
        journal: r.journal.clone(),
        state: r.state.clone(),
        monitor: r.monitor.clone(),
        pace: r.pace,
        documents: None,
    };
    if op.state().next != Step::Remove {
        op.advance(Timestamp::now(), |s| {
            s.outcome.stopped = Some("nobody went on with it until its end of life".into());
            s.next = Step::Remove;
        })?;
    }
    finish(&m, op, true).await.map(|_| ())
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
        // It goes on at the provider: the same command waits for it again, and the reaper knows its end of life.
        if matches!(e, EngineError::NotYet { .. }) {
            return Err(e);
        }
        let written = op.advance(Timestamp::now(), |s| {
            s.outcome.stopped = Some(e.to_string());
            s.no_verdict = !is_verdict(&e);
            s.next = Step::Remove;
        });
        // A disk that is full keeps nothing alive that costs money.
        if let Err(e) = written {
            m.monitor.warning(format!("the record of {} could not be written: {e}", op.id()));
        }
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
    let no_verdict = failure.as_ref().map_or(op.state().no_verdict, |e| !is_verdict(e));
    let ended = match report.passed {
        _ if no_verdict => Ended::RolledBack(reason(&report)),
        true => Ended::Succeeded,
        false => Ended::Failed(reason(&report)),
    };
    op.end(Timestamp::now(), ended)?;
    match failure {
        Some(e) if no_verdict => Err(e),
        None if no_verdict => Err(EngineError::Unreachable {
            what: format!("an earlier run stopped without a verdict: {}", reason(&report)),
            hint: "what it made is removed; run it again".into(),
        }),
        _ => Ok(report),
    }
}

/// Errors that say something about the backup; the rest is about permissions, this host or the network.
fn is_verdict(e: &EngineError) -> bool {
    match e {
        EngineError::Failed { .. } => true,
        EngineError::Documents(e) => {
            matches!(e, DocumentError::Lost(_) | DocumentError::Refused(_) | DocumentError::TimeUp)
        }
        EngineError::Pg(e) => matches!(e, PgError::Lost(_) | PgError::Query { .. }),
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
        // A host that was away for long says nothing about the backup.
        return Err(EngineError::Unreachable {
            what: format!("its end of life, {}, came before its end", short(op.state().plan.expires)),
            hint: "run it again".into(),
        });
    }
    if op.state().next == Step::Group {
        let given = op.state().plan.groups.clone();
        let made = match given.is_empty() {
            true => Some(isolate(m, &op.state().plan, &name).await?),
            false => None,
        };
        op.advance(Timestamp::now(), |s| {
            s.progress.plan.target.security_groups = made.clone().map_or(given, |g| vec![g]);
            s.group = made;
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
        let looked = tokio::select! {
            looked = look(m, &op.state().plan, &mut outcome) => looked,
            // A query may take minutes, and knows nothing of Ctrl-C.
            () = cancelled(m) => Err(EngineError::Cancelled),
        };
        let stopped = looked.as_ref().err().map(ToString::to_string);
        op.advance(Timestamp::now(), |s| {
            s.outcome = Outcome { stopped, ..outcome };
            s.no_verdict = looked.as_ref().is_err_and(|e| !is_verdict(e));
            s.next = Step::Remove;
        })?;
        looked?;
    }
    Ok(())
}

async fn cancelled(m: &Managed) {
    while !m.monitor.cancelled() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
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
    let access = Access::new(m, &plan.restore, &copy, &plan.request.login).await?;
    if copy.source.engine == Engine::DocumentDb {
        return look_into_documents(m, plan, &access, outcome).await;
    }
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
    access.or_unreachable(done).await?;
    outcome.judge();
    Ok(())
}

async fn look_into_documents(m: &Managed, plan: &Plan, access: &Access, outcome: &mut Outcome) -> Result<()> {
    let begun = Instant::now();
    let checks = &plan.request.checks;
    let session = documents::open(m, access).await?;
    let names = documents::databases(&*session, checks, &mut outcome.evidence).await;
    let names = access.or_unreachable(names).await?;
    outcome.connect_seconds = Some(begun.elapsed().as_secs_f64());
    if !outcome.evidence.faults.is_empty() {
        return Ok(());
    }
    outcome.level = Some(Level::L3);
    if plan.wanted < Level::L4 {
        return Ok(());
    }
    let begun = Instant::now();
    let moment = plan.restore.moment;
    let done = documents::run(m, &*session, &names, checks, moment, &mut outcome.evidence).await;
    outcome.check_seconds = Some(begun.elapsed().as_secs_f64());
    access.or_unreachable(done).await?;
    outcome.judge();
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
    let first = plan.request.login.database.as_deref().or(copy.database_name.as_deref());
    let session = access.first(m, first.unwrap_or("postgres")).await?;
    let names = checks::databases(&session, &plan.request.checks, &mut outcome.evidence).await?;
    for name in &names {
        if let Err(why) = access.another(name).await? {
            outcome.evidence.faults.push(format!("`{name}` accepts no session: {why}"));
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
    let reached = outcome.level.is_some_and(|l| l >= plan.wanted) || outcome.incomplete.is_some();
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
        noted: passed && note(m, &plan.restore, outcome.level, now).await,
        seconds: now.duration_since(op.record.begun).as_secs_f64(),
    }
}

/// Says on the snapshot when it was verified, if it is one that Holdfast made; other people's stay as they are.
async fn note(m: &Managed, plan: &restore::Plan, level: Option<Level>, now: Timestamp) -> bool {
    let Some(arn) = &plan.snapshot_arn else { return false };
    let region = &plan.target.source.region;
    let write = async {
        // A tag that it inherited names another snapshot.
        let at = SnapshotRef {
            engine: m.source.engine,
            region: region.clone(),
            id: arn.rsplit(':').next().unwrap_or_default().to_string(),
        };
        let found = m.cloud.tags(region, arn).await?;
        let mark = found.get(keys::SNAPSHOT);
        let own = mark == Some(&keys::snapshot_mark(&at)) || mark == Some(&keys::copy_mark(&at));
        if !found.is_ours() || !own {
            return Ok(false);
        }
        // What was shown of a snapshot stays shown: it does not change.
        let before = found.verified().and_then(|(_, l)| l).map(str::to_string);
        if before.is_some_and(|l| l.as_str() > level.map_or("", Level::word)) {
            return Ok(true);
        }
        let tags = Tags::default().with(keys::VERIFIED, &format!("{now} {}", level.map_or("", Level::word)));
        m.cloud.add_tags(region, arn, &tags).await.map(|()| true)
    };
    write.await.unwrap_or_else(|e| {
        m.monitor.warning(format!("the snapshot does not say that it was verified: {e}"));
        false
    })
}
