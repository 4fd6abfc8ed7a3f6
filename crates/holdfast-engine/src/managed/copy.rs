//! Snapshots in another region, with a key of that region.
//!
//! [`plan`] compares what Holdfast made of a database here with what the target has, by tags; [`run`] starts what
//! is missing, a few at a time, and waits for each. Oldest first: a copy after the first is incremental where the
//! provider knows its predecessor there (provider rules §5b).
//!
//! A snapshot whose copy is under way is not removed ([`super::expire`]): AWS would let the copy fail.
//!
//! Crash: names are in the journal before anything is created. The same command goes on with what was begun.

use super::expire::goes;
use super::journal::{Ended, Operation, Outline};
use super::names::copy_name;
use super::tiers::ByTier;
use super::wait::Answer;
use super::{Managed, operation};
use crate::error::{EngineError, Result};
use futures::{StreamExt as _, stream};
use holdfast_core::managed::{
    Region, Snapshot, SnapshotCopy, SnapshotFilter, SnapshotKind, SnapshotRef, Source, tags as keys,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

const VERB: &str = "copy";
/// Copies at once to one region: what AWS allowed for clusters in 2023, and less than for instances (20).
const AT_ONCE: usize = 4;

/// Where copies go.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    pub region: Region,
    /// In that region; must be given for what is encrypted and crosses regions.
    pub key: Option<String>,
    /// RDS: the option group there, if the source has one of its own.
    pub option_group: Option<String>,
    /// Only what these tiers made; `None`: what all made.
    pub of: Option<Vec<String>>,
    /// What the target would let go at once is not sent there.
    #[serde(skip)]
    pub rules: Option<ByTier>,
}

/// One copy to be made.
#[derive(Debug, Clone, Serialize)]
pub struct Missing {
    pub from: Snapshot,
    pub to: SnapshotRef,
}

/// What would be done.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    pub target: Target,
    /// Oldest first.
    pub missing: Vec<Missing>,
    /// Begun by a run that was killed.
    pub under_way: usize,
    /// The newest moment that the target has.
    pub newest_there: Option<Timestamp>,
    pub newest_here: Option<Timestamp>,
    /// GiB of the volumes that cross: the most that can be charged for the transfer.
    pub transfer_gib: u64,
}

impl Plan {
    /// How much younger the newest here is: the loss if this region is lost now, beside what the newest lacks.
    pub fn behind(&self) -> Option<jiff::SignedDuration> {
        Some(self.newest_here?.duration_since(self.newest_there?))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Create,
    Wait,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    copy: SnapshotCopy,
    from: SnapshotRef,
    next: Step,
}

/// Which snapshots: all that the target lacks, or one.
#[derive(Debug, Clone, Default)]
pub struct Which {
    /// Only this snapshot.
    pub only: Option<String>,
    /// Not older than this: what the target's rules would let go at once is not worth its transfer.
    pub since: Option<Timestamp>,
}

/// Compares both sides. Makes no change.
pub async fn plan(m: &Managed, target: &Target, which: &Which) -> Result<Plan> {
    let here = ours(m, &m.source.region).await?;
    let there = ours(m, &target.region).await?;
    let copied = |s: &Snapshot| there.iter().any(|t| t.tags.get(keys::COPY_OF) == Some(s.arn.as_str()));
    if let Some(id) = &which.only
        && !here.iter().any(|s| &s.at.id == id)
    {
        return Err(EngineError::not_found(
            format!("`{}` has no finished snapshot `{id}` in {} that holdfast made", m.name, m.source.region),
            format!("`holdfast list {}` shows them", m.name),
        ));
    }
    let same_region = target.region == m.source.region;
    let mut missing: Vec<Missing> = Vec::new();
    let mut newest_here = None;
    for s in here.into_iter().filter(|s| s.tags.get(keys::COPY_OF).is_none()) {
        newest_here = newest_here.max(moment(&s));
        let tier = s.tags.get(keys::TIER);
        let of = target.of.as_ref().is_none_or(|of| tier.is_some_and(|t| of.iter().any(|o| o == t)));
        if which.only.is_none() && !of {
            continue;
        }
        let wanted = which.only.as_ref().is_none_or(|id| *id == s.at.id)
            && which.since.is_none_or(|t| moment(&s).is_some_and(|m| m >= t));
        if !wanted || copied(&s) {
            continue;
        }
        if s.encrypted && !same_region && target.key.is_none() {
            return Err(EngineError::usage(
                format!(
                    "snapshot `{}` is encrypted: a copy to {} needs a key of that region",
                    s.at, target.region
                ),
                "set kms-key on the vault of that region in the policy",
            ));
        }
        let to = SnapshotRef {
            region: target.region.clone(),
            id: copy_name(&s.at.id, same_region),
            ..s.at.clone()
        };
        missing.push(Missing { from: s, to });
    }
    missing.sort_by_key(|c| moment(&c.from));
    if let (Some(rules), None) = (&target.rules, &which.only) {
        let gone = goes(there.iter().chain(missing.iter().map(|c| &c.from)), rules, Timestamp::now());
        missing.retain(|c| !gone.contains(&c.from.arn));
    }
    let newest_there = there.iter().filter(|s| s.tags.get(keys::COPY_OF).is_some()).filter_map(moment).max();
    let begun = m.journal.unfinished(Some(VERB), Some(m.name.as_str()))?;
    let under_way =
        begun.iter().filter(|o| o.state["copy"]["to"]["region"] == target.region.as_str()).count();
    let transfer_gib = match same_region {
        true => 0,
        false => missing.iter().map(|c| u64::from(c.from.size_gib)).sum(),
    };
    Ok(Plan { target: target.clone(), missing, under_way, newest_there, newest_here, transfer_gib })
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    pub arrived: Vec<Snapshot>,
    /// Snapshot and reason.
    pub failed: Vec<(String, String)>,
}

/// Finishes what was begun, then makes what the plan lists. One that fails keeps no other.
pub async fn run(m: &Managed, plan: &Plan) -> Result<Report> {
    let _lock = m.state.lock_run(&m.name)?;
    let mut ops: Vec<Operation<State>> = Vec::new();
    for outline in m.journal.unfinished(Some(VERB), Some(m.name.as_str()))? {
        ops.push(m.journal.resume(outline)?);
    }
    for c in &plan.missing {
        if ops.iter().any(|op| op.state().copy.to == c.to) {
            continue;
        }
        let copy = SnapshotCopy {
            from_arn: c.from.arn.clone(),
            from_region: c.from.at.region.clone(),
            to: c.to.clone(),
            key: plan.target.key.clone(),
            copy_tags: false,
            tags: copy_tags(&c.from),
            option_group: plan.target.option_group.clone(),
        };
        let state = State { copy, from: c.from.at.clone(), next: Step::Create };
        ops.push(m.journal.begin(VERB, m.name.as_str(), Timestamp::now(), state)?);
    }
    let mut report = Report::default();
    let mut worst = None;
    let mut running = stream::iter(ops).map(|op| finish(m, op)).buffer_unordered(AT_ONCE);
    while let Some((id, result)) = running.next().await {
        match result {
            Ok(s) => report.arrived.push(s),
            Err(e @ EngineError::Cancelled) => return Err(e),
            Err(e) => {
                report.failed.push((id, e.to_string()));
                worst.get_or_insert(e);
            }
        }
    }
    match worst {
        // Nothing arrived: the reason is the outcome.
        Some(e) if report.arrived.is_empty() => Err(e),
        _ => Ok(report),
    }
}

/// The snapshots that copies are made from just now: removing one would let its copy fail.
pub(super) fn in_use(outlines: &[Outline]) -> impl Iterator<Item = &str> {
    outlines.iter().filter(|o| o.verb == VERB).filter_map(|o| o.state["from"]["id"].as_str())
}

/// When the data was as the snapshot shows it.
pub fn moment(s: &Snapshot) -> Option<Timestamp> {
    s.tags.get(keys::TAKEN).and_then(|t| t.parse().ok()).or(s.taken).or(s.created)
}

/// Finished snapshots that Holdfast made of this database, in one region.
pub(super) async fn ours(m: &Managed, region: &Region) -> Result<Vec<Snapshot>> {
    let filter = SnapshotFilter { kind: Some(SnapshotKind::Manual), ..SnapshotFilter::default() };
    let mut all = m.cloud.snapshots(m.source.engine, region, &filter).await?;
    all.retain(|s| is_ours(s, m.name.as_str(), &m.source) && s.status.is_available());
    Ok(all)
}

/// Made by Holdfast, of this very database: another policy may have one of the same name, of another source, in the
/// same account. After a cutover to another identifier the old one's snapshots are nobody's: they stay.
pub(super) fn is_ours(s: &Snapshot, name: &str, source: &Source) -> bool {
    let region = s.tags.get(keys::COPY_FROM_REGION).unwrap_or(s.at.region.as_str());
    s.tags.is_ours()
        && s.tags.get(keys::DATABASE) == Some(name)
        && s.at.engine == source.engine
        && s.source_id == source.id
        && region == source.region.as_str()
}

fn copy_tags(from: &Snapshot) -> holdfast_core::managed::Tags {
    // The operation is this copy's own, and nobody has restored it yet; AWS's are its own business.
    let mut tags: holdfast_core::managed::Tags = from
        .tags
        .iter()
        .filter(|(k, _)| ![keys::OPERATION, keys::VERIFIED].contains(k) && !k.starts_with("aws:"))
        .collect();
    tags.set(keys::COPY_OF, &from.arn);
    tags.set(keys::COPY_FROM_REGION, from.at.region.as_str());
    if let Some(t) = moment(from) {
        tags.set(keys::TAKEN, &t.to_string());
    }
    tags
}

async fn finish(m: &Managed, mut op: Operation<State>) -> (String, Result<Snapshot>) {
    let id = op.state().from.id.clone();
    let result = steps(m, &mut op).await;
    let ended = match &result {
        Ok(_) => Some(Ended::Succeeded),
        Err(e) if e.goes_on() => None,
        Err(e) => Some(Ended::Failed(e.to_string())),
    };
    let closed = ended.map_or(Ok(()), |how| op.end(Timestamp::now(), how).map(|_| ()));
    (id, closed.and(result))
}

async fn steps(m: &Managed, op: &mut Operation<State>) -> Result<Snapshot> {
    let name = operation(op.id())?;
    let copy = op.state().copy.clone();
    let what = format!("copy `{}` in {}", copy.to, copy.to.region);
    if op.state().next == Step::Create {
        // A limit of copies at once is a state that passes, in the eyes of `until`.
        m.pace
            .until(&what, &*m.monitor, async || m.cloud.copy_snapshot(&copy, &name).await.map(Answer::Ready))
            .await?;
        op.advance(Timestamp::now(), |s| s.next = Step::Wait)?;
    }
    let done = m
        .pace
        .until(&what, &*m.monitor, async || {
            let s = m.cloud.snapshot(&copy.to).await?;
            let (status, percent) = (s.status.clone(), s.percent);
            Ok(Answer::of(&status, Some(percent), s))
        })
        .await;
    if let Err(EngineError::Failed { .. }) = &done
        && m.cloud.snapshot(&copy.to).await.is_ok_and(|s| s.status.is_failed())
    {
        m.cloud.delete_snapshot(&copy.to).await?;
    }
    done
}
