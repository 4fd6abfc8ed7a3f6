//! Forward, backward, and on after a crash.

use super::{Before, Pair, Plan, Progress, Step, VERB, What};
use super::{after, command, dns, health, kubernetes, proxy, rename, secret};
use crate::error::{EngineError, Result};
use crate::managed::journal::{Ended, Journal, Operation};
use crate::managed::{Managed, operation};
use holdfast_core::DatabaseName;
use holdfast_core::managed::{Operation as OperationName, Source};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Why it goes back when a person says so.
const ASKED: &str = "asked for with --back";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    pub pair: Pair,
    pub steps: Vec<Step>,
    pub quarantine: u64,
    /// Why it goes back; `None`: forward.
    pub back: Option<String>,
}

impl State {
    /// What the new database is called at the end.
    pub(super) fn new_name(&self) -> &Source {
        match self.steps.iter().any(|s| s.what == What::Rename) {
            true => &self.pair.old.source,
            false => &self.pair.new.source,
        }
    }

    /// What the old one is called at the end.
    pub(super) fn old_name(&self) -> &Source {
        let aside = self.steps.iter().find_map(|s| match &s.before {
            Before::Rename { aside, .. } => Some(aside),
            _ => None,
        });
        aside.unwrap_or(&self.pair.old.source)
    }
}

/// How it ended.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub operation: String,
    pub resumed: bool,
    pub steps: Vec<Step>,
    /// The reason, if everything was put back.
    pub rolled_back: Option<String>,
    /// That was asked for: it is what the command was to do.
    pub asked: bool,
    /// Until when the old database stays; `None`: there is none, or the cutover went back.
    pub quarantined_until: Option<Timestamp>,
    /// What the application uses now: what `source` in the policy must be.
    pub now: Source,
    /// Its resource id: what `resource-id` in the policy must be. Empty: not known.
    pub now_resource_id: String,
    pub seconds: f64,
}

/// The unfinished cutover of this database, if there is one.
pub fn unfinished(m: &Managed) -> Result<bool> {
    Ok(!m.journal.unfinished(Some(VERB), Some(m.name.as_str()))?.is_empty())
}

/// One that was begun and has not ended.
#[derive(Debug, Clone, Serialize)]
pub struct Unfinished {
    pub operation: String,
    pub begun: Timestamp,
    pub from: Source,
    pub to: Source,
    pub steps: Vec<Step>,
    /// Why it goes back; `None`: forward.
    pub back: Option<String>,
}

/// What it is, and how far it came.
///
/// # Errors
/// The journal cannot be read.
pub fn pending(m: &Managed) -> Result<Option<Unfinished>> {
    let Some(outline) = m.journal.unfinished(Some(VERB), Some(m.name.as_str()))?.pop() else {
        return Ok(None);
    };
    let op: Operation<State> = m.journal.resume(outline)?;
    let State { pair, steps, back, .. } = op.state().clone();
    Ok(Some(Unfinished {
        operation: op.id().to_string(),
        begun: op.record.begun,
        from: pair.old.source,
        to: pair.new.source,
        steps: steps.into_iter().map(Step::shown).collect(),
        back,
    }))
}

/// Whether one was begun while the old database's region did not answer: whoever goes on with it asks nothing there.
///
/// # Errors
/// The journal cannot be read.
pub fn without_home(journal: &Journal, database: &DatabaseName) -> Result<bool> {
    let begun = journal.unfinished(Some(VERB), Some(database.as_str()))?;
    Ok(begun.iter().any(|o| o.state["pair"]["presence"] == "unseen"))
}

/// Does what the plan says.
pub async fn run(m: &Managed, plan: Plan) -> Result<Report> {
    let _lock = m.state.lock_run(&m.name)?;
    if unfinished(m)? {
        return Err(EngineError::refused(
            format!("a cutover of `{}` is not finished", m.name),
            format!(
                "`holdfast cutover {0} --resume` goes on with it, `holdfast cutover {0} --back` puts everything back",
                m.name
            ),
        ));
    }
    let state = State { pair: plan.pair, steps: plan.steps, quarantine: plan.quarantine, back: None };
    let op = m.journal.begin(VERB, m.name.as_str(), Timestamp::now(), state)?;
    finish(m, op, false).await
}

/// Goes on with the unfinished one; `back` turns it round.
pub async fn resume(m: &Managed, back: bool) -> Result<Report> {
    let _lock = m.state.lock_run(&m.name)?;
    let mut open = m.journal.unfinished(Some(VERB), Some(m.name.as_str()))?;
    let Some(outline) = open.pop() else {
        return Err(EngineError::not_found(
            format!("no cutover of `{}` is unfinished", m.name),
            "begin one with --to-id ID",
        ));
    };
    let mut op: Operation<State> = m.journal.resume(outline)?;
    if back && op.state().back.is_none() {
        op.advance(Timestamp::now(), |s| s.back = Some(ASKED.into()))?;
    }
    finish(m, op, true).await
}

async fn finish(m: &Managed, mut op: Operation<State>, resumed: bool) -> Result<Report> {
    let begun = std::time::Instant::now();
    if op.state().back.is_none() {
        match forward(m, &mut op).await {
            Ok(()) => {}
            Err(EngineError::Cancelled) => return Err(EngineError::Cancelled),
            // Back to what is lost would be worse than where it stands.
            Err(e) if !op.state().pair.presence.usable() => {
                m.monitor.warning(
                    "nothing goes back by itself, because the old database is lost: mend it and go on with \
                     --resume, or put back what can be with --back"
                        .into(),
                );
                return Err(e);
            }
            Err(e) => {
                m.monitor.warning(format!("{e}; going back"));
                op.advance(Timestamp::now(), |s| s.back = Some(e.to_string()))?;
            }
        }
    }
    let rolled_back = op.state().back.clone();
    let mut quarantined_until = None;
    let now = match &rolled_back {
        Some(_) => {
            backward(m, &mut op).await?;
            let old = &op.state().pair.old;
            if op.state().pair.presence.exists() {
                after::in_service(m, &old.source, &[]).await?;
            }
            old.source.clone()
        }
        None => {
            let state = op.state();
            if state.pair.presence.exists() {
                quarantined_until = Some(after::quarantine(m, state).await?);
            }
            let new = state.new_name().clone();
            after::in_service(m, &new, &state.pair.replaced).await?;
            new
        }
    };
    let pair = &op.state().pair;
    let side = if rolled_back.is_some() { &pair.old } else { &pair.new };
    let now_resource_id = side.resource_id.clone();
    let ended = rolled_back.clone().map_or(Ended::Succeeded, Ended::RolledBack);
    let record = op.end(Timestamp::now(), ended)?;
    Ok(Report {
        operation: record.id,
        resumed,
        steps: record.state.steps.into_iter().map(Step::shown).collect(),
        asked: rolled_back.as_deref() == Some(ASKED),
        rolled_back,
        quarantined_until,
        now,
        now_resource_id,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

async fn forward(m: &Managed, op: &mut Operation<State>) -> Result<()> {
    for i in 0..op.state().steps.len() {
        let Some(step) = op.state().steps.get(i).cloned() else { break };
        if step.progress == Progress::Done {
            continue;
        }
        if m.monitor.cancelled() {
            return Err(EngineError::Cancelled);
        }
        let name = step_name(op.id(), i, "do")?;
        set(op, i, Progress::Begun, None)?;
        m.monitor.phase(&step.does);
        let pair = &op.state().pair;
        match (&step.what, &step.before) {
            (What::Proxy { name, region, within }, Before::Proxy { targets }) => {
                let front = proxy::Front { region, name, within: *within };
                proxy::switch(m, front, targets, &pair.new.source).await?;
            }
            (What::Dns { zone, record, ttl, value }, _) => {
                dns::point(m, zone, record, *ttl, value).await?;
            }
            (What::Secret { region, id, keys }, _) => secret::write(m, region, id, keys, &name).await?,
            (What::Kubernetes(change), Before::Kubernetes { replicas, values }) => {
                kubernetes::write(m, change, *replicas, values).await?;
            }
            (What::Rename, Before::Rename { old_resource, new_resource, aside }) => {
                rename::swap(m, pair, old_resource.as_deref(), new_resource, aside).await?;
            }
            (What::Command { run, within, .. }, _) => command::run(m, run, pair, *within, false).await?,
            (What::Proxy { .. } | What::Kubernetes(_) | What::Rename, _) => return Err(torn(op.id())),
        }
        if let Some(url) = &step.health {
            health::wait(m, url, std::time::Duration::from_secs(step.health_within)).await?;
        }
        set(op, i, Progress::Done, None)?;
    }
    Ok(())
}

/// Undoes what was begun, last first. One that cannot be undone keeps no other step: what is gone, and programs that
/// fail, are tried once more when all others lead back, then left, and told; what may work the next time leaves the
/// operation open. Only a rename ends it there: steps before it go by names that mean the wrong database until it is
/// undone.
async fn backward(m: &Managed, op: &mut Operation<State>) -> Result<()> {
    let begun = |s: &&Step| matches!(s.progress, Progress::Begun | Progress::Done);
    let mut waiting: Vec<usize> = (0..op.state().steps.len()).rev().collect();
    let mut open = None;
    for last_try in [false, true] {
        for i in std::mem::take(&mut waiting) {
            let Some(step) = op.state().steps.get(i).filter(begun).cloned() else { continue };
            m.monitor.phase(&step.undoes);
            let left = match undo(m, op, i, &step).await {
                Ok(left) => left,
                Err(EngineError::Cancelled) => return Err(EngineError::Cancelled),
                Err(e) if step.what == What::Rename => return Err(e),
                Err(e) if is_final(&step, &e) && last_try && open.is_none() => {
                    Some(format!("it could not be undone ({}): {e}", step.undoes))
                }
                Err(e) => {
                    m.monitor.warning(format!("not undone yet ({}): {e}", step.undoes));
                    match is_final(&step, &e) {
                        true => waiting.push(i),
                        false => drop(open.get_or_insert(e)),
                    }
                    continue;
                }
            };
            if let Some(left) = &left {
                m.monitor.warning(left.clone());
            }
            set(op, i, Progress::Undone, left)?;
        }
    }
    open.map_or(Ok(()), Err)
}

/// Trying it again changes nothing: the object is gone, or the program says no.
fn is_final(step: &Step, e: &EngineError) -> bool {
    match e {
        EngineError::NotFound { .. } => true,
        EngineError::Failed { .. } => matches!(step.what, What::Command { .. }),
        EngineError::Cloud(e) => e.is_not_found(),
        _ => false,
    }
}

/// What was left, if not all could be put back.
async fn undo(m: &Managed, op: &Operation<State>, i: usize, step: &Step) -> Result<Option<String>> {
    let name = step_name(op.id(), i, "undo")?;
    let pair = &op.state().pair;
    match (&step.what, &step.before) {
        (What::Proxy { name, region, within }, Before::Proxy { targets }) => {
            let front = proxy::Front { region, name, within: *within };
            proxy::restore(m, front, targets, pair).await
        }
        (What::Dns { zone, record, value, .. }, Before::Dns { record: was }) => {
            dns::put_back(m, zone, record, value, was.as_ref()).await
        }
        (What::Secret { region, id, keys }, Before::Secret { version }) => {
            secret::put_back(m, region, id, keys, version, &name).await
        }
        (What::Kubernetes(change), Before::Kubernetes { replicas, values }) => {
            kubernetes::put_back(m, change, *replicas, values).await
        }
        (What::Rename, Before::Rename { old_resource, new_resource, aside }) => {
            rename::swap_back(m, pair, old_resource.as_deref(), new_resource, aside).await?;
            Ok(None)
        }
        (What::Command { undo, within, .. }, _) => {
            command::run(m, undo, pair, *within, true).await?;
            Ok(None)
        }
        _ => Err(torn(op.id())),
    }
}

fn set(op: &mut Operation<State>, i: usize, progress: Progress, left: Option<String>) -> Result<()> {
    op.advance(Timestamp::now(), |s| {
        if let Some(step) = s.steps.get_mut(i) {
            step.progress = progress;
            step.left = left;
        }
    })
}

fn step_name(id: &str, i: usize, way: &str) -> Result<OperationName> {
    operation(&format!("{id}/{i}/{way}"))
}

fn torn(id: &str) -> EngineError {
    EngineError::failed(
        format!("the record of operation {id} does not fit together"),
        "look at its file in state-dir/operations: a person edited it, or the disk did",
    )
}
