//! What the rules keep of the snapshots that Holdfast made, and removing the rest.
//!
//! The rules are those of the native plane ([`holdfast_core::retention`]), with the same guards; but each tier's
//! decide about what that tier made ([`super::tiers::rules`]). [`plan`] says for every snapshot whether it stays and why; [`apply`] removes what does not, one by one.
//!
//! The rules are for what tiers made. What a person made with `backup` stays until its own end of life
//! (`--keep-for`), or until it is named. Only what carries Holdfast's tags for this database is looked at, whatever it is called; automated snapshots,
//! those of AWS Backup and other people's are never counted and never touched (provider rules X19, X27). What is
//! not `available` counts for nothing and is left alone. A snapshot that a copy is made from stays until the copy
//! has arrived.
//!
//! In another account the same holds of copies whose originals are of this database's account ([`super::abroad`]):
//! they are looked at and removed with the credentials of that vault.
//!
//! Crash: every removal stands by itself; the next run decides again from what is there.

use super::abroad::Gates;
use super::copy::{in_use, moment, ours, ours_abroad};
use super::tiers::{ByTier, Site};
use super::{Managed, backup, verify};
use crate::error::{EngineError, Result};
use holdfast_core::managed::{Region, Snapshot, Tags, tags as keys};
use holdfast_core::retention::{Candidate, Reason, decide, keep_until};
use holdfast_core::time::short;
use holdfast_core::{ClusterId, Lsn, RunId, TimelineId};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A tag of Holdfast that rules read without its prefix: `holdfast:keep-until`.
const PREFIX: &str = "holdfast:";

/// One snapshot, and what is said of it.
#[derive(Debug, Clone)]
pub struct Line {
    pub snapshot: Snapshot,
    pub keep: bool,
    pub reasons: Vec<Reason>,
    /// Why it stays although no rule wants it: a copy is made from it, or a person made it.
    pub stays: Option<String>,
}

/// What would be removed in one region.
#[derive(Debug)]
pub struct Plan {
    pub region: Region,
    /// Of the vault there, if it is another one's.
    pub account: Option<String>,
    /// The database as it is worked on there.
    there: Managed,
    /// Newest first.
    pub lines: Vec<Line>,
}

impl Plan {
    pub fn removed(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|l| !l.keep && l.stays.is_none())
    }
}

/// Decides about what Holdfast made of this database in one place. Makes no change.
///
/// # Errors
/// The place cannot be seen; of another account, whose copies they are is not known.
pub async fn plan(m: &Managed, gates: &Gates, site: &Site, rules: &ByTier, now: Timestamp) -> Result<Plan> {
    let region = &site.region;
    let (there, all) = match &site.account {
        None => (m.clone(), ours(m, region).await?),
        Some(account) => {
            let gate = gates.into_account(account, Some(region)).ok_or_else(|| {
                EngineError::refused(
                    format!("nobody gets into account {account}"),
                    "see [vaults] in the policy",
                )
            })?;
            let Some(own) = gates.own.as_deref() else {
                return Err(EngineError::refused(
                    format!(
                        "the account of `{}` is not known: which copies in {account} are its is open",
                        m.name
                    ),
                    format!("write `account` into [databases.{}]", m.name),
                ));
            };
            let there = m.through(gate.enter().await?);
            let all = ours_abroad(m, &there, region, Some(own)).await?;
            (there, all)
        }
    };
    let outlines = m.journal.unfinished(None, Some(m.name.as_str()))?;
    let here = |(at, _): &(&str, &str)| *at == region.as_str();
    let busy: HashMap<&str, &str> = in_use(&outlines)
        .filter(here)
        .map(|(_, id)| (id, "a copy of it is under way"))
        .chain(
            verify::in_use(&outlines).filter(here).map(|(_, id)| (id, "a verification of it is under way")),
        )
        .chain(backup::under_way(&outlines).filter(here).map(|(_, id)| (id, "it is being made")))
        .collect();
    let verdicts = verdicts(all.iter(), rules, now);
    let lines = all.into_iter().map(|snapshot| {
        let stays = busy.get(snapshot.at.id.as_str()).map(ToString::to_string);
        match (verdicts.get(&snapshot.arn), snapshot.tags.get(keys::TIER)) {
            (Some((keep, reasons)), _) => Line { keep: *keep, reasons: reasons.clone(), stays, snapshot },
            (None, Some(tier)) => {
                let why = format!(
                    "the policy has no tier `{tier}` any more, so no rule lets it go: write the tier again, or delete \
                     it at the provider"
                );
                Line { keep: true, reasons: Vec::new(), stays: stays.or(Some(why)), snapshot }
            }
            (None, None) => {
                let by_hand = by_hand(&snapshot.tags, now);
                Line { keep: by_hand.is_some(), reasons: Vec::new(), stays: stays.or(by_hand), snapshot }
            }
        }
    });
    let mut lines: Vec<Line> = lines.collect();
    lines.sort_by_key(|l| std::cmp::Reverse(moment(&l.snapshot)));
    // Whoever asked for a snapshot of a month did not ask for none: the last one may be all that is left of a
    // database that somebody deleted.
    if let Some(newest) = lines.first_mut().filter(|l| !l.keep && l.stays.is_none()) {
        newest.stays = Some("it is the newest that there is here: holdfast removes no last one".into());
    }
    Ok(Plan { region: region.clone(), account: site.account.clone(), there, lines })
}

/// Why what a person made stays, if it does: a `keep-until` is stronger than its end of life, which is stronger
/// than none.
fn by_hand(tags: &Tags, now: Timestamp) -> Option<String> {
    let asked = tags.get("keep-until").or_else(|| tags.get("holdfast:keep-until"));
    match asked.map(|text| (text, keep_until(text, &TimeZone::UTC))) {
        Some((text, None)) => return Some(format!("its tag keep-until `{text}` is not a date")),
        Some((_, Some(until))) if until > now => return Some(format!("tag keep-until {}", short(until))),
        _ => {}
    }
    match tags.expires() {
        Some(end) if end <= now => None,
        Some(end) => Some(format!("made by hand, kept until {}", short(end))),
        None => Some("made by hand: no rule lets it go".into()),
    }
}

/// By ARN, of what tiers made that have rules: whether it stays, and why. Each tier for itself.
fn verdicts<'a>(
    all: impl Iterator<Item = &'a Snapshot>,
    rules: &ByTier,
    now: Timestamp,
) -> HashMap<String, (bool, Vec<Reason>)> {
    let mut by_tier: BTreeMap<&str, Vec<&Snapshot>> = BTreeMap::new();
    for s in all {
        if let Some(tier) = s.tags.get(keys::TIER) {
            by_tier.entry(tier).or_default().push(s);
        }
    }
    let mut out = HashMap::new();
    for (tier, snapshots) in by_tier {
        let Some(rules) = rules.get(tier) else { continue };
        let candidates: Vec<Candidate> = snapshots.iter().map(|s| candidate(s)).collect();
        let arns: HashMap<&RunId, &str> =
            candidates.iter().map(|c| &c.id).zip(snapshots.iter().map(|s| s.arn.as_str())).collect();
        for v in decide(&candidates, &[], &BTreeMap::new(), rules, now).verdicts {
            if let Some(arn) = arns.get(&v.id) {
                out.insert(arn.to_string(), (v.keep, v.reasons));
            }
        }
    }
    out
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    pub removed: Vec<String>,
    /// Snapshot and reason; what is gone already counts as removed.
    pub failed: Vec<(String, String)>,
}

/// Removes what the plan lets go. One that the provider refuses keeps no other.
pub async fn apply(m: &Managed, plan: &Plan) -> Result<Report> {
    let _lock = m.state.lock_run(&m.name)?;
    let mut report = Report::default();
    for line in plan.removed() {
        if m.monitor.cancelled() {
            return Err(EngineError::Cancelled);
        }
        // A copy or a verification of it may have begun since the plan was made.
        let begun = m.journal.unfinished(None, Some(m.name.as_str()))?;
        let this = (plan.region.as_str(), line.snapshot.at.id.as_str());
        if in_use(&begun).chain(verify::in_use(&begun)).any(|busy| busy == this) {
            continue;
        }
        let id = line.snapshot.at.id.clone();
        m.monitor.phase(&format!("removing snapshot `{id}` in {}", plan.region));
        match plan.there.cloud.delete_snapshot(&line.snapshot.at).await {
            Ok(()) => report.removed.push(id),
            Err(e) => report.failed.push((id, e.to_string())),
        }
    }
    Ok(report)
}

/// ARNs of the snapshots that the rules would let go, were they all in one place.
pub(super) fn goes<'a>(
    all: impl Iterator<Item = &'a Snapshot>,
    rules: &ByTier,
    now: Timestamp,
) -> BTreeSet<String> {
    verdicts(all, rules, now).into_iter().filter(|(_, (keep, _))| !keep).map(|(arn, _)| arn).collect()
}

/// A snapshot as retention sees it. The provider vouches for all that it says, so nothing is in doubt; positions
/// are seconds, and a source of another resource id is another cluster, which ages out by the same rules.
fn candidate(s: &Snapshot) -> Candidate {
    let taken = moment(s).unwrap_or_default();
    let position = Lsn(u64::try_from(taken.as_second()).unwrap_or(0));
    let tags = s.tags.iter().map(|(k, v)| (k.strip_prefix(PREFIX).unwrap_or(k).to_string(), v.to_string()));
    Candidate {
        id: id_of(s, taken),
        cluster: cluster_of(s),
        timeline: TimelineId(1),
        redo_lsn: position,
        start_lsn: position,
        stop_lsn: position,
        stop_time: taken,
        // A copy is no younger than what it shows.
        stored_at: taken,
        generation: 1,
        size_bytes: u64::from(s.size_gib) << 30,
        partial: false,
        verified: s.tags.verified().map(|(at, _)| at),
        trusted: true,
        tags: tags.collect(),
        timeline_history: Vec::new(),
    }
}

fn id_of(s: &Snapshot, taken: Timestamp) -> RunId {
    let [a, b, c, d, e, f, _, _] = digest(&s.arn);
    RunId::generate(taken).derived([a, b, c, d, e, f])
}

fn cluster_of(s: &Snapshot) -> ClusterId {
    let source = s.tags.get(keys::SOURCE).or(s.source_resource_id.as_deref()).unwrap_or(&s.source_id);
    ClusterId::from_system_identifier(u64::from_le_bytes(digest(source)))
}

/// The same for the same text: retention wants ids of its own shape.
fn digest(text: &str) -> [u8; 8] {
    let whole = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let mut out = [0; 8];
    out.iter_mut().zip(whole.as_ref()).for_each(|(o, b)| *o = *b);
    out
}
