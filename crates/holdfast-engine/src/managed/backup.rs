//! A snapshot on demand or by a tier, waited for.
//!
//! ```text
//! describe the source ──▶ name and tags decided, written down ──▶ create ──▶ wait ──▶ look at it
//! ```
//!
//! The command ends with 0 only when the snapshot is `available`: "before a change" scripts hang on that. A source
//! that is busy (`backing-up`, `modifying`) is waited for, one that is stopped or failed is refused: AWS takes
//! snapshots of available sources only (provider rules §5b).
//!
//! Crash: before `create` nothing exists; after it the name is in the journal, and the same command goes on waiting.
//! A snapshot that failed is removed, because it counts against the quota and restores nothing.

use super::journal::{Ended, Operation, Outline};
use super::wait::Answer;
use super::{Managed, awaited, observed, operation};
use crate::error::{EngineError, Result};
use holdfast_core::managed::{
    Database, ErrorKind, NewSnapshot, Snapshot, SnapshotRef, Source, Tags, tags as keys,
};
use holdfast_core::policy::managed::{IdParts, IdPattern};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

const VERB: &str = "backup";
/// A snapshot that a killed run began counts for this one up to then.
const YOUNG: SignedDuration = SignedDuration::from_hours(1);

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// A tier of the policy; `None` for one made by hand, which no rule but its own tags expires.
    pub tier: Option<String>,
    /// Of its name.
    pub pattern: IdPattern,
    /// The policy's and the command line's.
    pub tags: Tags,
    /// Why it is made.
    pub note: String,
    /// Until its end, which no rule decides; `None`: until somebody removes it.
    pub keep_for: Option<SignedDuration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Create,
    Wait,
}

/// What is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    source: Source,
    snapshot: SnapshotRef,
    tags: Tags,
    tier: Option<String>,
    next: Step,
    /// Filled at the end: what it looks like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made: Option<Snapshot>,
}

/// How it ended.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub operation: String,
    /// True if an earlier, killed run had begun it.
    pub resumed: bool,
    pub snapshot: Snapshot,
    pub seconds: f64,
    pub warnings: Vec<String>,
}

/// Makes a snapshot, or goes on with one that an earlier run began.
pub async fn run(m: &Managed, request: &Request) -> Result<Report> {
    let _lock = m.state.lock_run(&m.name)?;
    let mut went_on = None;
    for outline in m.journal.unfinished(Some(VERB), Some(m.name.as_str()))? {
        let op: Operation<State> = m.journal.resume(outline)?;
        m.monitor.info(format!(
            "going on with snapshot `{}`, begun {} and not finished",
            op.state().snapshot,
            holdfast_core::time::short(op.record.begun)
        ));
        let (begun, snapshot) = (op.record.begun, op.state().snapshot.clone());
        match finish(m, op, true).await {
            Ok(report) => went_on = Some((begun, report)),
            // What goes on another time stays open, and so does what was asked for now. What is over is no reason to make
            // no backup.
            Err(e) if e.goes_on() => return Err(e),
            Err(e) => {
                m.monitor.warning(format!("snapshot `{snapshot}`, which an earlier run began, is over: {e}"))
            }
        }
    }
    // It is what this run was started for, unless somebody asks for a snapshot with a reason of its own.
    let asked_again = |(begun, r): &(Timestamp, Report)| {
        // One that was begun long ago shows another time than the one that is asked for now.
        Timestamp::now().duration_since(*begun) < YOUNG
            && r.snapshot.tags.get(keys::TIER) == request.tier.as_deref()
            && r.snapshot.tags.get(keys::NOTE).unwrap_or_default() == keys::clean_value(&request.note)
            && r.snapshot.tags.get(keys::EXPIRES) == end_of(request, *begun).as_deref()
            && request.tags.0.iter().all(|(k, v)| r.snapshot.tags.get(k) == Some(v))
    };
    if let Some((_, report)) = went_on.filter(asked_again) {
        return Ok(report);
    }
    let database = ready(m).await?;
    let now = Timestamp::now();
    let snapshot =
        SnapshotRef { engine: m.source.engine, region: m.source.region.clone(), id: name(m, request, now) };
    let state = State {
        source: m.source.clone(),
        snapshot,
        tags: tags(m, request, &database, now),
        tier: request.tier.clone(),
        next: Step::Create,
        made: None,
    };
    let op = m.journal.begin(VERB, m.name.as_str(), now, state)?;
    finish(m, op, false).await
}

/// Regions and names of snapshots that are under way: nobody removes them.
pub(super) fn under_way(outlines: &[Outline]) -> impl Iterator<Item = (&str, &str)> {
    outlines.iter().filter(|o| o.verb == VERB).filter_map(|o| {
        let at = &o.state["snapshot"];
        Some((at["region"].as_str()?, at["id"].as_str()?))
    })
}

/// RDS takes 255 characters (API reference, CreateDBSnapshot), DocumentDB 63: a name that fits both.
const NAME_MAX: usize = 63;

fn name(m: &Managed, request: &Request, at: Timestamp) -> String {
    let parts = IdParts {
        id: &m.source.id,
        database: m.name.as_str(),
        tier: request.tier.as_deref().unwrap_or("manual"),
        note: &request.note,
        region: m.source.region.as_str(),
    };
    request.pattern.render(&parts, at, NAME_MAX)
}

fn tags(m: &Managed, request: &Request, database: &Database, now: Timestamp) -> Tags {
    let mut tags = request.tags.clone();
    tags.set(keys::DATABASE, m.name.as_str());
    tags.set(keys::SOURCE, &database.resource_id);
    if let Some(tier) = &request.tier {
        tags.set(keys::TIER, tier);
    }
    if !request.note.is_empty() {
        tags.set(keys::NOTE, &request.note);
    }
    if let Some(end) = end_of(request, now) {
        tags.set(keys::EXPIRES, &end);
    }
    tags
}

/// The end of its life, if somebody asked for one, as the tag has it.
fn end_of(request: &Request, begun: Timestamp) -> Option<String> {
    request.keep_for.and_then(|d| begun.checked_add(d).ok()).map(|end| keys::clean_value(&end.to_string()))
}

/// The source, once it can be backed up.
async fn ready(m: &Managed) -> Result<Database> {
    let what = format!("source `{}`", m.source);
    let asked = m.pace.until(&what, &*m.monitor, async || {
        let d = observed::look(m).await?.database;
        if d.status.is_stopped() || d.status.is_deleting() {
            return Ok(Answer::Failed(format!("it is `{}`: AWS takes no snapshot of it", d.status)));
        }
        let status = d.status.clone();
        Ok(Answer::of(&status, None, d))
    });
    m.pace.before(&what, asked).await
}

async fn finish(m: &Managed, mut op: Operation<State>, resumed: bool) -> Result<Report> {
    let begun = std::time::Instant::now();
    let result = steps(m, &mut op).await;
    match result {
        Ok(snapshot) => {
            let mut warnings = Vec::new();
            if !snapshot.encrypted {
                warnings.push(format!(
                    "snapshot `{}` is not encrypted, because its source is not: copy it with a key",
                    snapshot.at
                ));
            }
            op.advance(Timestamp::now(), |s| s.made = Some(snapshot.clone()))?;
            let record = op.end(Timestamp::now(), Ended::Succeeded)?;
            let seconds = begun.elapsed().as_secs_f64();
            Ok(Report { operation: record.id, resumed, snapshot, seconds, warnings })
        }
        Err(e) => {
            // What passes is gone on with by the next run; what does not is over.
            if !e.goes_on() {
                op.end(Timestamp::now(), Ended::Failed(e.to_string()))?;
            }
            Err(e)
        }
    }
}

async fn steps(m: &Managed, op: &mut Operation<State>) -> Result<Snapshot> {
    let id = operation(op.id())?;
    let State { source, snapshot: at, tags, .. } = op.state().clone();
    let mut at = at;
    if op.state().next == Step::Create {
        let mut more = free_names(&at.id);
        loop {
            let new = NewSnapshot { id: at.id.clone(), tags: tags.clone() };
            let what = format!("snapshot `{at}`");
            let asked = m.pace.until(&what, &*m.monitor, async || {
                // Between our look and this call its own backup may have begun: that is waited for.
                m.cloud.create_snapshot(&source, &new, &id).await.map(Answer::Ready)
            });
            match (asked.await, more.next()) {
                (Ok(_), _) => break,
                // A tier and a person may share a pattern, and its second. Ours of this operation is adopted, so
                // this is another's; the next name is written down before it is asked for.
                (Err(EngineError::Cloud(e)), Some(next)) if e.kind == ErrorKind::AlreadyExists => {
                    m.monitor.info(format!("the name `{}` is taken: `{next}` instead", at.id));
                    at.id = next;
                    let named = at.clone();
                    op.advance(Timestamp::now(), |s| s.snapshot = named)?;
                }
                (Err(e), _) => return Err(explain(e)),
            }
        }
        op.advance(Timestamp::now(), |s| s.next = Step::Wait)?;
    }
    awaited::snapshot(m, &format!("snapshot `{at}`"), &at).await
}

/// Further names, short enough.
fn free_names(id: &str) -> impl Iterator<Item = String> + use<> {
    let stem: String = id.chars().take(NAME_MAX - 2).collect();
    let stem = stem.trim_end_matches('-').to_string();
    (2..=9).map(move |n| format!("{stem}-{n}"))
}

fn explain(e: EngineError) -> EngineError {
    match &e {
        EngineError::Cloud(c) if matches!(c.kind, ErrorKind::QuotaExceeded { .. }) => EngineError::refused(
            c.to_string(),
            "`holdfast expire --apply` lets go of what the rules do not keep; AWS raises the quota on request",
        ),
        _ => e,
    }
}
