//! Snapshots in another region or account, with a key of that place.
//!
//! [`plan`] compares what Holdfast made of a database here with what the target has, by tags; [`run`] starts what
//! is missing, a few at a time, and waits for each. Oldest first: a copy after the first is incremental where the
//! provider knows its predecessor there (provider rules §5b).
//!
//! What another account needs for it is in [`super::copy_abroad`].
//!
//! A snapshot whose copy is under way is not removed ([`super::expire`]): AWS would let the copy fail.
//!
//! Crash: names are in the journal before anything is created. The same command goes on with what was begun.

use super::abroad::{Gate, Gates, account_of};
use super::copy_abroad::{self, Guest};
use super::expire::goes;
use super::journal::{Ended, Operation, Outline};
use super::names::{copy_name, copy_name_abroad};
use super::tiers::ByTier;
use super::wait::Answer;
use super::{Managed, awaited, lineage, operation};
use crate::error::{EngineError, Result};
use futures::{StreamExt as _, stream};
use holdfast_core::managed::{
    Region, Snapshot, SnapshotCopy, SnapshotFilter, SnapshotKind, SnapshotRef, tags as keys,
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
    /// In another account.
    #[serde(serialize_with = "account_only", rename = "account", skip_serializing_if = "Option::is_none")]
    pub abroad: Option<Gate>,
    /// Where the originals are: the source's region; of a vault in another account and another region, the copies
    /// that another vault of that account has in the source's region.
    pub second: bool,
    /// Of such a one: the policy has that other vault.
    #[serde(skip)]
    pub between: bool,
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

fn account_only<S: serde::Serializer>(gate: &Option<Gate>, s: S) -> Result<S::Ok, S::Error> {
    gate.as_ref().map(|g| &g.account).serialize(s)
}

/// One copy to be made.
#[derive(Debug, Clone, Serialize)]
pub struct Missing {
    pub from: Snapshot,
    pub to: SnapshotRef,
}

/// One that is missing there and cannot go.
#[derive(Debug, Clone, Serialize)]
pub struct KeptBack {
    pub from: SnapshotRef,
    pub why: String,
    pub hint: Option<String>,
}

/// What would be done.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    pub target: Target,
    /// Oldest first.
    pub missing: Vec<Missing>,
    /// What the provider would refuse. Where it would refuse all, and nothing is there, there is no plan but an error.
    pub kept_back: Vec<KeptBack>,
    /// Begun by a run that was killed.
    pub under_way: usize,
    /// The newest moment that the target has.
    pub newest_there: Option<Timestamp>,
    pub newest_here: Option<Timestamp>,
    /// GiB of the volumes that cross: the most that can be charged for the transfer.
    pub transfer_gib: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    /// With another account.
    Share,
    Create,
    Wait,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    pub copy: SnapshotCopy,
    pub from: SnapshotRef,
    pub next: Step,
    /// Of a copy that another account makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<Guest>,
}

/// Which snapshots: all that the target lacks, or one.
#[derive(Debug, Clone, Default)]
pub struct Which {
    /// Only this snapshot.
    pub only: Option<String>,
    /// Not older than this: what the target's rules would let go at once is not worth its transfer.
    pub since: Option<Timestamp>,
}

/// Whether the source's region has a finished snapshot of this database, of that name, that Holdfast made.
pub async fn has(m: &Managed, id: &str) -> Result<bool> {
    Ok(ours(m, &m.source.region).await?.iter().any(|s| s.at.id == id))
}

/// Compares both sides. Makes no change.
///
/// # Errors
/// What the provider would refuse; a target in another account and another region, with no place between.
pub async fn plan(m: &Managed, target: &Target, which: &Which) -> Result<Plan> {
    if let (Some(gate), true, false) = (&target.abroad, target.second, target.between) {
        let (account, region, home) = (&gate.account, &target.region, &m.source.region);
        return Err(EngineError::refused(
            format!(
                "this goes to account {account} and to {region} at once, and a copy changes one of the two"
            ),
            format!(
                "copy to a vault `snapshots://{home}` of account {account} too: from there it goes on to {region}"
            ),
        ));
    }
    let (here, there) = both(m, target).await?;
    let copied = |s: &Snapshot| there.iter().any(|t| t.of_original(keys::COPY_OF) == Some(original(s)));
    let named = |s: &Snapshot, id: &str| original(s).rsplit(':').next() == Some(id);
    if let Some(id) = &which.only
        && !here.iter().any(|s| named(s, id))
    {
        return Err(EngineError::not_found(
            format!("`{}` has no finished snapshot `{id}` in {} that holdfast made", m.name, m.source.region),
            format!("`holdfast list {}` shows them", m.name),
        ));
    }
    let same_region = target.region == m.source.region;
    let mut missing: Vec<Missing> = Vec::new();
    let mut newest_here = None;
    for s in here.into_iter().filter(|s| s.is_our_copy() == target.second) {
        newest_here = newest_here.max(moment(&s));
        let tier = s.tags.get(keys::TIER);
        let of = target.of.as_ref().is_none_or(|of| tier.is_some_and(|t| of.iter().any(|o| o == t)));
        if which.only.is_none() && !of {
            continue;
        }
        let wanted = which.only.as_ref().is_none_or(|id| named(&s, id))
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
        let id = match (&target.abroad, account_of(&s.arn)) {
            (Some(_), Some(from)) if !target.second => copy_name_abroad(&s.at.id, from),
            _ => copy_name(&s.at.id, same_region),
        };
        let to = SnapshotRef { region: target.region.clone(), id, ..s.at.clone() };
        missing.push(Missing { from: s, to });
    }
    missing.sort_by_key(|c| moment(&c.from));
    if let (Some(rules), None) = (&target.rules, &which.only) {
        let gone = goes(there.iter().chain(missing.iter().map(|c| &c.from)), rules, Timestamp::now());
        missing.retain(|c| !gone.contains(&c.from.arn));
    }
    let mut kept_back = Vec::new();
    if let (Some(gate), false, false) = (&target.abroad, target.second, missing.is_empty()) {
        let from: Vec<&Snapshot> = missing.iter().map(|c| &c.from).collect();
        let mut refused =
            copy_abroad::check(m, gate, &gate.enter().await?, &from, target.key.as_deref()).await?;
        let why = |c: &Missing| c.from.key.as_ref().and_then(|key| refused.get(key));
        let (stay, go): (Vec<Missing>, Vec<Missing>) = missing.into_iter().partition(|c| why(c).is_some());
        kept_back = stay
            .iter()
            .filter_map(|c| {
                let e = why(c)?;
                Some(KeptBack { from: c.from.at.clone(), why: e.to_string(), hint: e.hint() })
            })
            .collect();
        missing = go;
        // Is there anything already, it is one outcome among others.
        let alone = missing.is_empty() && (there.is_empty() || which.only.is_some());
        if let (true, Some((_, e))) = (alone, refused.pop_first()) {
            return Err(e);
        }
    }
    let newest_there = there.iter().filter(|s| s.is_our_copy()).filter_map(moment).max();
    let begun = m.journal.unfinished(Some(VERB), Some(m.name.as_str()))?;
    let account = target.abroad.as_ref().map(|g| g.account.as_str());
    let same = |o: &&Outline| {
        o.state["copy"]["to"]["region"] == target.region.as_str()
            && o.state["guest"]["account"].as_str() == account
    };
    let under_way = begun.iter().filter(same).count();
    let transfer_gib = match same_region {
        true => 0,
        false => missing.iter().map(|c| u64::from(c.from.size_gib)).sum(),
    };
    Ok(Plan {
        target: target.clone(),
        missing,
        kept_back,
        under_way,
        newest_there,
        newest_here,
        transfer_gib,
    })
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    pub arrived: Vec<Snapshot>,
    /// Snapshot and reason.
    pub failed: Vec<(String, String)>,
}

/// Finishes what was begun, then makes what the plan lists. One that fails keeps no other.
///
/// `gates`: into the accounts of the policy's vaults, also those that an earlier run had begun to copy to.
pub async fn run(m: &Managed, plan: &Plan, gates: &Gates) -> Result<Report> {
    let _lock = m.state.lock_run(&m.name)?;
    let mut ops = begun(m)?;
    for c in &plan.missing {
        let gate = plan.target.abroad.as_ref();
        let same = |op: &Operation<State>| {
            let guest = op.state().guest.as_ref().map(|g| &g.account);
            op.state().copy.to == c.to && guest == gate.map(|g| &g.account)
        };
        if ops.iter().any(same) {
            continue;
        }
        let copy = SnapshotCopy {
            from_arn: c.from.arn.clone(),
            from_region: c.from.at.region.clone(),
            to: c.to.clone(),
            key: plan.target.key.clone().filter(|_| c.from.encrypted || !m.source.engine.is_cluster()),
            // They are another account's business, and ours are given.
            copy_tags: false,
            tags: copy_tags(&c.from),
            option_group: plan.target.option_group.clone(),
        };
        let (next, shared) = match (gate, plan.target.second) {
            (Some(_), false) => (Step::Share, None),
            _ => (Step::Create, Some(false)),
        };
        let guest = gate.map(|g| Guest { vault: g.vault.clone(), account: g.account.clone(), shared });
        let state = State { copy, from: c.from.at.clone(), next, guest };
        ops.push(m.journal.begin(VERB, m.name.as_str(), Timestamp::now(), state)?);
    }
    let mut report = all(m, gates, ops).await?;
    report.failed.extend(plan.kept_back.iter().map(|k| (k.from.id.clone(), k.why.clone())));
    Ok(report)
}

/// Only finishes what was begun: a share that a killed run left is taken back, whether there is anything to copy or
/// not.
pub async fn go_on(m: &Managed, gates: &Gates) -> Result<Report> {
    let _lock = m.state.lock_run(&m.name)?;
    all(m, gates, begun(m)?).await
}

fn begun(m: &Managed) -> Result<Vec<Operation<State>>> {
    let found = m.journal.unfinished(Some(VERB), Some(m.name.as_str()))?;
    found.into_iter().map(|outline| m.journal.resume(outline)).collect()
}

async fn all(m: &Managed, gates: &Gates, ops: Vec<Operation<State>>) -> Result<Report> {
    let mut report = Report::default();
    let mut worst = None;
    let mut running = stream::iter(ops).map(|op| finish(m, gates, op)).buffer_unordered(AT_ONCE);
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
/// Region and name: a copy elsewhere has the same name.
pub(super) fn in_use(outlines: &[Outline]) -> impl Iterator<Item = (&str, &str)> {
    outlines.iter().filter(|o| o.verb == VERB).filter_map(|o| {
        let from = &o.state["from"];
        Some((from["region"].as_str()?, from["id"].as_str()?))
    })
}

/// When the data was as the snapshot shows it.
pub fn moment(s: &Snapshot) -> Option<Timestamp> {
    s.of_original(keys::TAKEN).and_then(|t| t.parse().ok()).or(s.taken).or(s.created)
}

/// The ARN of what it shows: its own, or that of its original.
fn original(s: &Snapshot) -> &str {
    s.of_original(keys::COPY_OF).unwrap_or(&s.arn)
}

/// What there is to copy from, and what the target has.
async fn both(m: &Managed, target: &Target) -> Result<(Vec<Snapshot>, Vec<Snapshot>)> {
    let Some(gate) = &target.abroad else {
        return Ok((ours(m, &m.source.region).await?, ours(m, &target.region).await?));
    };
    let own = ours(m, &m.source.region).await?;
    let account = own.iter().find_map(|s| account_of(&s.arn));
    let there = m.through(gate.enter().await?);
    // Without any snapshot here the account is not known, and nothing is missing there either.
    let found = ours_abroad(m, &there, &target.region, account).await?;
    match target.second {
        true => Ok((ours_abroad(m, &there, &m.source.region, account).await?, found)),
        false => Ok((own, found)),
    }
}

/// Finished snapshots that Holdfast made of this database, in one region.
pub(super) async fn ours(m: &Managed, region: &Region) -> Result<Vec<Snapshot>> {
    let mut all = finished(m, region).await?;
    let lineage = lineage::of(m).await;
    all.retain(|s| lineage.made(s, m.name.as_str(), &m.source));
    Ok(all)
}

/// The same of copies in another account. `m` is the database in its own: nobody else knows its lineage.
pub(super) async fn ours_abroad(
    m: &Managed,
    there: &Managed,
    region: &Region,
    account: Option<&str>,
) -> Result<Vec<Snapshot>> {
    let mut all = finished(there, region).await?;
    let lineage = lineage::of(m).await;
    all.retain(|s| lineage.made_abroad(s, m.name.as_str(), &m.source, account));
    Ok(all)
}

async fn finished(m: &Managed, region: &Region) -> Result<Vec<Snapshot>> {
    let filter = SnapshotFilter { kind: Some(SnapshotKind::Manual), ..SnapshotFilter::default() };
    let mut all = m.cloud.snapshots(m.source.engine, region, &filter).await?;
    all.retain(|s| s.status.is_available());
    Ok(all)
}

fn copy_tags(from: &Snapshot) -> holdfast_core::managed::Tags {
    // Operation and mark are this copy's own, and nobody has restored it yet; AWS's are its own business.
    let mut tags: holdfast_core::managed::Tags = from
        .tags
        .iter()
        .filter(|(k, _)| {
            ![keys::OPERATION, keys::SNAPSHOT, keys::VERIFIED].contains(k) && !k.starts_with("aws:")
        })
        .collect();
    tags.set(keys::COPY_OF, original(from));
    let region = from.of_original(keys::COPY_FROM_REGION).unwrap_or(from.at.region.as_str());
    tags.set(keys::COPY_FROM_REGION, region);
    if let Some(t) = moment(from) {
        tags.set(keys::TAKEN, &t.to_string());
    }
    tags
}

async fn finish(m: &Managed, gates: &Gates, mut op: Operation<State>) -> (String, Result<Snapshot>) {
    let id = op.state().from.id.clone();
    let result = match op.state().guest.clone() {
        Some(guest) => copy_abroad::steps(m, gates, &mut op, &guest).await,
        None => steps(m, &mut op).await,
    };
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
    awaited::snapshot(m, &what, &copy.to).await
}
