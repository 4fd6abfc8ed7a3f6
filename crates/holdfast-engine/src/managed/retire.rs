//! Deleting a database that was replaced, when its quarantine is over: with a last snapshot, always.
//!
//! ```text
//! not protected any more ─▶ instances of a cluster ─▶ delete, with the final snapshot ─▶ gone ─▶ the snapshot is there
//! ```
//!
//! Only what a cutover put into quarantine is deleted ([`tags::STATE`], [`tags::QUARANTINED_UNTIL`]), never the
//! database that the policy protects, and not before its time. The only copy of a corrupt state is worth keeping
//! (provider rules X32), and AWS wants the name of the snapshot (X16): the policy's `final-snapshot` gives it.
//! Automated backups stay as retained ones where the engine can (not DocumentDB).
//!
//! Crash: the journal has the step and the name of the snapshot; the same command goes on. Each step may be done
//! twice: what is gone is gone.

use super::Managed;
use super::journal::{Ended, Operation};
use super::wait::Answer;
use crate::error::{EngineError, Result};
use holdfast_core::managed::{
    Database, Deletion, Engine, FinalSnapshot, Modification, Snapshot, SnapshotRef, Source, tags,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

const VERB: &str = "retire";

/// What would be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    pub database: Source,
    pub resource_id: String,
    pub arn: String,
    /// Its instances, which go first.
    pub instances: Vec<String>,
    pub protected: bool,
    pub quarantined_until: Timestamp,
    pub final_snapshot: String,
    /// They stay until they expire.
    pub keeps_automated_backups: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Unprotect,
    Instances,
    Delete,
    Wait,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    database: Source,
    resource_id: String,
    plan: Plan,
    final_snapshot: SnapshotRef,
    delete_automated_backups: bool,
    next: Step,
}

/// Looks whether it may go. `id` is what it is called now; `keeps`: its automated backups outlive it, where the engine
/// can.
///
/// # Errors
/// It is the database itself, it is in no quarantine, or its time is not over.
pub async fn plan(
    m: &Managed,
    id: &str,
    final_snapshot: String,
    keeps: bool,
    now: Timestamp,
) -> Result<Plan> {
    let database = m.source.named(id).map_err(|e| EngineError::usage(e.to_string(), e.hint()))?;
    if database == m.source {
        return Err(EngineError::refused(
            format!("`{database}` is what the policy protects"),
            "name the database that was replaced; after a rename it is called ID-old-TIME",
        ));
    }
    if let Some(plan) = begun(m, &database)? {
        return Ok(plan);
    }
    let d = m.cloud.describe(&database).await?;
    let until = d.tags.get(tags::QUARANTINED_UNTIL).and_then(|t| t.parse::<Timestamp>().ok());
    let mine =
        d.tags.get(tags::DATABASE) == Some(m.name.as_str()) && d.tags.get(tags::STATE) == Some("quarantine");
    let Some(until) = until.filter(|_| mine) else {
        return Err(EngineError::refused(
            format!("`{database}` was not replaced by a cutover of `{}`", m.name),
            "holdfast deletes only what it put into quarantine; delete it yourself, with a final snapshot",
        ));
    };
    if until > now {
        return Err(EngineError::refused(
            format!("`{database}` is in quarantine until {}", holdfast_core::time::short(until)),
            "wait for it, or change the tag holdfast:quarantined-until by hand",
        ));
    }
    room(m, &database).await?;
    Ok(Plan {
        instances: d.members.iter().map(|i| i.id.clone()).collect(),
        resource_id: d.resource_id,
        arn: d.arn,
        protected: d.deletion_protection,
        quarantined_until: until,
        final_snapshot,
        keeps_automated_backups: keeps && database.engine != Engine::DocumentDb,
        database,
    })
}

/// Whether the last snapshot has room. Asked at the end, when nothing of the database is left but its name, it would be
/// too late.
async fn room(m: &Managed, database: &Source) -> Result<()> {
    let name = if database.engine.is_cluster() { "ManualClusterSnapshots" } else { "ManualSnapshots" };
    let quotas = m.cloud.quotas(&database.region).await?;
    match quotas.iter().find(|q| q.name == name && q.used >= q.max) {
        None => Ok(()),
        Some(q) => Err(EngineError::refused(
            format!(
                "{} of {} manual snapshots are used in {}: the last snapshot of `{database}` has no room",
                q.used, q.max, database.region
            ),
            "`holdfast expire` shows what may go; AWS raises the quota on request",
        )),
    }
}

/// One that was begun and not finished: by now the database may be gone.
fn begun(m: &Managed, database: &Source) -> Result<Option<Plan>> {
    for outline in m.journal.unfinished(Some(VERB), Some(m.name.as_str()))? {
        let op: Operation<State> = m.journal.resume(outline)?;
        if op.state().database == *database {
            return Ok(Some(op.state().plan.clone()));
        }
    }
    Ok(None)
}

/// Does it, or goes on with one that was begun. The final snapshot is the result.
pub async fn run(m: &Managed, plan: &Plan) -> Result<Snapshot> {
    let _lock = m.state.lock_run(&m.name)?;
    let begun = m.journal.unfinished(Some(VERB), Some(m.name.as_str()))?;
    let same = begun.into_iter().find(|o| o.state["resource_id"] == plan.resource_id.as_str());
    let mut op: Operation<State> = match same {
        Some(outline) => m.journal.resume(outline)?,
        None => {
            let final_snapshot = SnapshotRef {
                engine: plan.database.engine,
                region: plan.database.region.clone(),
                id: plan.final_snapshot.clone(),
            };
            let state = State {
                database: plan.database.clone(),
                resource_id: plan.resource_id.clone(),
                plan: plan.clone(),
                final_snapshot,
                delete_automated_backups: !plan.keeps_automated_backups,
                next: Step::Unprotect,
            };
            m.journal.begin(VERB, m.name.as_str(), Timestamp::now(), state)?
        }
    };
    let result = steps(m, &mut op).await;
    match &result {
        Ok(_) => drop(op.end(Timestamp::now(), Ended::Succeeded)?),
        Err(e) if e.goes_on() => {}
        Err(e) => drop(op.end(Timestamp::now(), Ended::Failed(e.to_string()))?),
    }
    result
}

async fn steps(m: &Managed, op: &mut Operation<State>) -> Result<Snapshot> {
    let State { database, resource_id, final_snapshot, delete_automated_backups, .. } = op.state().clone();
    if op.state().next == Step::Unprotect {
        if let Some(d) = still(m, &database, &resource_id).await?
            && d.deletion_protection
        {
            let change = Modification { deletion_protection: Some(false), ..Modification::default() };
            m.cloud.modify(&database, &change).await?;
        }
        op.advance(Timestamp::now(), |s| s.next = Step::Instances)?;
    }
    if op.state().next == Step::Instances {
        if database.engine.is_cluster() && still(m, &database, &resource_id).await?.is_some() {
            // Those that it has now: a name of one that is gone may be another's by now.
            for i in m.cloud.instances(&database).await? {
                m.cloud.delete_instance(&database.region, &i.id).await?;
            }
        }
        op.advance(Timestamp::now(), |s| s.next = Step::Delete)?;
    }
    let what = format!("deletion of `{}`", database.id);
    if op.state().next == Step::Delete {
        let how = Deletion {
            final_snapshot: FinalSnapshot::Named(final_snapshot.id.clone()),
            delete_automated_backups,
        };
        // The wait for a state that allows it, such as the end of a modification.
        m.pace
            .until(&what, &*m.monitor, async || match m.cloud.describe(&database).await {
                Ok(d) if d.resource_id != resource_id => {
                    Ok(Answer::Failed("another has its name now".into()))
                }
                Ok(d) if d.status.is_deleting() => Ok(Answer::Ready(())),
                Ok(d) if !in_quarantine(&d, m, Timestamp::now()) => {
                    Ok(Answer::Failed("it is in no quarantine that is over".into()))
                }
                Ok(_) => m.cloud.delete(&database, &how).await.map(Answer::Ready),
                Err(e) if e.is_not_found() => Ok(Answer::Ready(())),
                Err(e) => Err(e),
            })
            .await?;
        op.advance(Timestamp::now(), |s| s.next = Step::Wait)?;
    }
    m.pace
        .until(&what, &*m.monitor, async || match m.cloud.describe(&database).await {
            Ok(d) if d.resource_id == resource_id => Ok(Answer::Going(d.status.to_string())),
            Ok(_) => Ok(Answer::Ready(())),
            Err(e) if e.is_not_found() => Ok(Answer::Ready(())),
            Err(e) => Err(e),
        })
        .await?;
    m.pace
        .until(&format!("final snapshot `{final_snapshot}`"), &*m.monitor, async || {
            let s = m.cloud.snapshot(&final_snapshot).await?;
            let (status, percent) = (s.status.clone(), s.percent);
            Ok(Answer::of(&status, Some(percent), s))
        })
        .await
}

/// Whether a cutover put it aside, and its time is over. It may have gone back into service since a retirement began.
fn in_quarantine(d: &Database, m: &Managed, now: Timestamp) -> bool {
    let until = d.tags.get(tags::QUARANTINED_UNTIL).and_then(|t| t.parse::<Timestamp>().ok());
    d.tags.get(tags::DATABASE) == Some(m.name.as_str())
        && d.tags.get(tags::STATE) == Some("quarantine")
        && until.is_some_and(|t| t <= now)
}

/// The database, if it is still the one that was planned for, and still aside.
async fn still(m: &Managed, source: &Source, resource_id: &str) -> Result<Option<Database>> {
    match m.cloud.describe(source).await {
        Ok(d) if d.resource_id == resource_id => {
            if d.status.is_deleting() || in_quarantine(&d, m, Timestamp::now()) {
                return Ok(Some(d));
            }
            Err(EngineError::refused(
                format!("`{source}` is in no quarantine that is over: it may be in use again"),
                "nothing more was done to it; was it protected from deletion, turn that on again",
            ))
        }
        Ok(_) => Err(EngineError::refused(
            format!("`{source}` is another database than the one that was to go"),
            "somebody gave its name away; nothing was deleted",
        )),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e.into()),
    }
}
