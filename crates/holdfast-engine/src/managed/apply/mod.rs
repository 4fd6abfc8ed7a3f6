//! The provider's settings brought to the policy: [`plan`] shows what differs, [`run`] changes it.
//!
//! ```text
//! what the policy wants (desired) ─┐
//! what there is (look) ────────────┴─▶ differences, in order (settings, vaults, plans) ─▶ one after the other (steps)
//! ```
//!
//! Of each database: retention and windows of automated backups, copying of tags, deletion protection, replication
//! of automated backups; vaults of AWS Backup with keys, locks and access policies, a plan with its rules, copy
//! actions and selection. What Holdfast did not make is used and not changed, with one exception ([`vaults`]). Nothing
//! that the policy does not name is removed, but Holdfast's own plan and replication of this database.
//!
//! **Nothing is lost unseen.** A change that lets go of backups or of protection is made only with
//! [`Consent::loss`], a lock that becomes immutable only for the vaults in [`Consent::locks`]; they stay in the
//! report as remaining.
//!
//! Crash: what is compared is what is there, so whatever was done before is no difference any more. The journal has
//! the operation, its tag, what was done and what came next; the same command goes on with it.

mod change;
mod cost;
mod desired;
mod look;
mod plans;
mod settings;
mod steps;
#[cfg(test)]
mod tests;
mod vaults;

pub use change::{Action, Change, Consent, Difference, Left};
pub(super) use desired::place_of;
pub use desired::plan_name;

use super::journal::{Ended, Operation};
use super::wait::Answer;
use super::{Managed, expected};
use crate::error::{EngineError, Result};
use cost::Costs;
use desired::{Desired, desired};
use holdfast_core::managed::{Cloud, Database, Engine, Source};
use holdfast_core::policy::{ManagedDatabase, ManagedPlan, Policy};
use holdfast_core::rules::{self, Observed};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

const VERB: &str = "apply";

/// What is compared with what.
#[derive(Debug, Clone)]
pub struct Request {
    pub policy: Arc<Policy>,
    pub database: ManagedDatabase,
    pub plan: ManagedPlan,
    /// How vaults with a `profile` of their own are reached, by their names in the policy.
    pub elsewhere: BTreeMap<String, Arc<dyn Cloud>>,
    pub consent: Consent,
}

/// What would be done.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    pub database: String,
    pub source: Source,
    /// `available`, or what it is busy with: then this may not be all.
    pub status: String,
    /// In the order in which they would be made.
    pub changes: Vec<Change>,
    pub left: Vec<Left>,
}

/// A change that was made, and is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub on: String,
    pub what: String,
    pub from: String,
    pub to: String,
    pub at: Timestamp,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub database: String,
    pub source: Source,
    /// `None`: nothing was to be done.
    pub operation: Option<String>,
    /// True if an earlier, killed run had begun it.
    pub resumed: bool,
    pub done: Vec<Done>,
    /// What was not confirmed, or differs all the same.
    pub remaining: Vec<Change>,
    pub left: Vec<Left>,
}

impl Report {
    /// True if the provider does what the policy says.
    pub fn is_whole(&self) -> bool {
        self.remaining.is_empty() && !self.left.iter().any(|l| l.blocked)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    source: Source,
    done: Vec<Done>,
    /// What was next when this was written.
    next: Option<String>,
}

/// Compares. Makes no change.
///
/// # Errors
/// The provider's; a policy that AWS cannot be told.
pub async fn plan(m: &Managed, r: &Request) -> Result<Plan> {
    let d = look::database(m, r).await?;
    compare(m, r, d).await
}

async fn compare(m: &Managed, r: &Request, d: Database) -> Result<Plan> {
    let wanted =
        desired(&r.policy, m.name.as_str(), &r.database, &r.plan, &m.source, &d.arn, &d.resource_id)?;
    let seen = look::look(m, r, d, &wanted).await?;
    let difference = differences(m.name.as_str(), r, &wanted, &seen, Timestamp::now());
    Ok(Plan {
        database: m.name.to_string(),
        source: m.source.clone(),
        status: seen.database.status.to_string(),
        changes: ordered(difference.changes),
        left: difference.left,
    })
}

/// All that differs. Pure.
fn differences(name: &str, r: &Request, wanted: &Desired, seen: &look::Seen, now: Timestamp) -> Difference {
    let costs = Costs { policy: &r.policy, database: &r.database };
    let d = &seen.database;
    let mut out = settings::settings(&wanted.settings, d, &costs);
    out.extend(settings::replication(&wanted.replication, d, &seen.replicas, &costs));
    let account = place_of(&d.arn).map_or("", |(_, a)| a);
    for w in &wanted.vaults {
        if let Some(v) = seen.vaults.get(&w.name) {
            out.extend(vaults::vault(w, v, account, now));
        }
    }
    match &seen.plans {
        Ok(all) => {
            let estimate = rules::estimate(&r.policy, &Observed::default(), now)
                .into_iter()
                .find(|e| e.database.as_str() == name)
                .map(|e| format!("all backups of the database together about ${:.2} a month", e.total()));
            out.extend(plans::plan(wanted.plan.as_ref(), name, d, all, estimate));
        }
        Err(e) => out.left.push(Left::note(
            d.source.to_string(),
            "plan",
            format!("whether AWS Backup has plans for it could not be seen: {e}"),
        )),
    }
    if let Some(pitr) = r.plan.pitr.as_ref().filter(|p| p.keep_after_deletion) {
        let why = match d.source.engine {
            Engine::DocumentDb => "automated backups of DocumentDB die with the cluster".to_string(),
            _ => format!(
                "AWS asks for it only when the database is deleted: `holdfast retire` says it then ({})",
                pitr.keep
            ),
        };
        out.left.push(Left::note(d.source.to_string(), "keep-after-deletion", why));
    }
    out
}

/// What makes safer comes first, what cannot be taken back last.
fn ordered(mut all: Vec<Change>) -> Vec<Change> {
    let rank = |c: &Change| match &c.action {
        Action::Modify(_) => 0,
        Action::Replicate(_) => 1,
        Action::CreateVault { .. } => 2,
        Action::VaultPolicy { .. } => 3,
        Action::CreatePlan { .. } | Action::UpdatePlan { .. } | Action::TagPlan { .. } => 4,
        Action::Select { .. } => 5,
        Action::Unselect { .. } => 6,
        Action::Lock { .. } if !c.irreversible => 7,
        Action::StopReplication { .. } => 8,
        Action::Lock { .. } => 9,
    };
    all.sort_by_key(rank);
    all
}

/// Makes what is allowed, in order, each waited for; goes on with what an earlier run began.
///
/// # Errors
/// The first change that fails ends it; what was made before stays made. The same command goes on.
pub async fn run(m: &Managed, r: &Request) -> Result<Report> {
    let _lock = m.state.lock_run(&m.name)?;
    let mut begun = m.journal.unfinished(Some(VERB), Some(m.name.as_str()))?.into_iter();
    let mut op: Option<Operation<State>> = begun.next().map(|o| m.journal.resume(o)).transpose()?;
    let resumed = op.is_some();
    if let Some(op) = &op {
        m.monitor.info(format!(
            "going on with what was begun {}{}",
            holdfast_core::time::short(op.record.begun),
            op.state().next.as_ref().map(|n| format!(", at {n}")).unwrap_or_default()
        ));
    }
    let result = all(m, r, &mut op).await;
    let done = op.as_ref().map(|op| op.state().done.clone()).unwrap_or_default();
    let operation = op.as_ref().map(|op| op.id().to_string());
    if let Some(op) = op {
        match &result {
            Ok(_) => drop(op.end(Timestamp::now(), Ended::Succeeded)?),
            Err(e) if e.goes_on() => {}
            Err(e) => drop(op.end(Timestamp::now(), Ended::Failed(e.to_string()))?),
        }
    }
    let last = result?;
    // From now on points of its tiers are missed if they do not come.
    let _ = expected::since(m, &r.plan, Timestamp::now());
    let Plan { database, source, changes: remaining, left, .. } = last;
    Ok(Report { database, source, operation, resumed, done, remaining, left })
}

/// The last look is the proof: whatever still differs is in it.
async fn all(m: &Managed, r: &Request, op: &mut Option<Operation<State>>) -> Result<Plan> {
    let p = compare(m, r, settled(m, r).await?).await?;
    let todo: Vec<&Change> = p.changes.iter().filter(|c| c.allowed(&r.consent)).collect();
    if todo.is_empty() {
        return Ok(p);
    }
    let op = match op {
        Some(op) => op,
        none => {
            let state = State { source: m.source.clone(), done: Vec::new(), next: None };
            none.insert(m.journal.begin(VERB, m.name.as_str(), Timestamp::now(), state)?)
        }
    };
    let settings: Vec<&Change> =
        todo.iter().copied().filter(|c| matches!(c.action, Action::Modify(_))).collect();
    let others = todo.iter().filter(|c| !matches!(c.action, Action::Modify(_)));
    let groups = (!settings.is_empty()).then_some(settings).into_iter().chain(others.map(|c| vec![*c]));
    for group in groups {
        if m.monitor.cancelled() {
            return Err(EngineError::Cancelled);
        }
        let names: Vec<String> = group.iter().map(|c| format!("{} of {}", c.what, c.on)).collect();
        let next = names.join(", ");
        m.monitor.phase(&next);
        op.advance(Timestamp::now(), |s| s.next = Some(next))?;
        steps::make(m, r, op.id(), &group).await?;
        let at = Timestamp::now();
        let made = group.iter().map(|c| Done {
            on: c.on.clone(),
            what: c.what.to_string(),
            from: c.from.clone(),
            to: c.to.clone(),
            at,
        });
        for d in made.clone() {
            m.monitor.info(format!("done: {} of {}: {}", d.what, d.on, d.to));
        }
        op.advance(at, |s| {
            s.done.extend(made);
            s.next = None;
        })?;
    }
    compare(m, r, settled(m, r).await?).await
}

/// The database, once it is not on its way to somewhere else: what an earlier run asked for may be in force only then.
async fn settled(m: &Managed, r: &Request) -> Result<Database> {
    // Whose database it is does not change while it is waited for.
    let first = look::database(m, r).await?;
    if is_settled(&first) {
        return Ok(first);
    }
    m.pace
        .until(&format!("database `{}`", m.source), &*m.monitor, async || {
            let d = m.cloud.describe(&m.source).await?;
            Ok(match is_settled(&d) {
                true => Answer::Ready(d),
                false => Answer::Going(d.status.to_string()),
            })
        })
        .await
}

/// It takes changes, or will not take any for as long as anybody waits.
fn is_settled(d: &Database) -> bool {
    let s = &d.status;
    let ends = s.is_stopped() || s.is_deleting() || s.is_failed();
    // Storage is optimized for hours after it has grown, and the database takes changes meanwhile.
    ends || s.is_available() || s.as_str() == "storage-optimization"
}

/// The rule about objectives: what a policy promises, and what its tiers, copies and locks give.
const PROMISES: &str = "VE9";

/// A policy that breaks its rules is not applied. Whoever allows a loss may go below the policy's own objectives, as when
/// a lock that fulfils one is taken back while it can be: what is missing then comes back as warnings.
///
/// # Errors
/// Which ones.
pub fn check(policy: &Policy, now: Timestamp, loss: bool) -> Result<Vec<String>> {
    let found = rules::check(policy, &Observed::default(), now);
    let errors = found.iter().filter(|f| f.severity == rules::Severity::Error);
    let (promises, errors): (Vec<_>, Vec<_>) = errors.partition(|f| f.rule == PROMISES);
    let text = |f: &&rules::Finding| format!("{}: {}: {}", f.rule, f.subject, f.message);
    if errors.is_empty() && (loss || promises.is_empty()) {
        return Ok(promises.iter().map(text).collect());
    }
    let hint = match errors.is_empty() {
        true => {
            "`holdfast validate` shows where; --allow-loss brings it into force all the same, and warns of what is missing"
        }
        false => "`holdfast validate` shows where, and what to write instead",
    };
    let all: Vec<String> = errors.iter().chain(&promises).map(text).collect();
    Err(EngineError::usage(
        format!("the policy breaks its rules, so it is not applied: {}", all.join("; ")),
        hint,
    ))
}
