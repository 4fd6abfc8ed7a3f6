//! Which WAL stays: [`wal_needs`].
//!
//! WAL stays if any of these holds; what nobody can name a reason for may go:
//! 1. a point that stays needs it to become consistent (redo to stop);
//! 2. it lies behind the base of the WAL window, or without a window, behind the newest point: from
//!    there any later state can be reached, and the next backup may want to read it;
//! 3. it is young: the store saw it less than `wal.keep`, and never less than two days, ago. That
//!    covers timelines of which no point tells, and runs that are under way;
//! 4. its cluster has no point that stays: then it is all there is.
//!
//! "Behind" a point are all positions from its redo on, on its own timeline *and every timeline with
//! a higher number*. A timeline's number is higher than that of all its ancestors, so everything
//! that descends from the point is there. Branches that do not descend from it stay as well until
//! the base moves past them: which of them do is known only from histories that hosts brought, and a
//! false history must not make WAL go.
//!
//! Each point also names its segments (R10). A sweep honours those as well; this is the answer for
//! the segments that no point names.
//!
//! # Invariants
//! 1. The range of every point given is needed.
//! 2. From a base on, what is needed is without a gap, across switches of timeline.
//! 3. Rules that keep more need no less, where the newest point of the cluster stays either way (an
//!    earlier cluster may lose it, and WAL is then needed from an older one on).

use super::input::{Candidate, Rules, after, before};
use super::verdict::{Decision, Reason};
use crate::id::{ClusterId, RunId};
use crate::lsn::{Lsn, TimelineId};
use crate::time::{Duration, short};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// WAL stays at least this long.
const SHORTEST: Duration = Duration(2 * 86_400);

/// Which WAL of a database stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalKeep {
    clusters: BTreeMap<ClusterId, Needs>,
    young: Duration,
    now: Timestamp,
}

/// Of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Needs {
    /// What points need for themselves.
    ranges: BTreeMap<TimelineId, Ranges>,
    /// Behind these, everything.
    starts: Vec<(TimelineId, Lsn, WalReason)>,
}

/// What [`WalKeep::needs_all`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stretch {
    Stays,
    Goes,
    /// Each segment must be asked about; with `by_age` its own time counts.
    Mixed {
        by_age: bool,
    },
}

/// Ranges of one timeline, by where they start: a million segments are asked about, and ten thousand points
/// have ranges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Ranges {
    all: Vec<(Range<Lsn>, RunId)>,
    /// The furthest end up to each of them.
    ends: Vec<Lsn>,
}

impl Ranges {
    fn sort(&mut self) {
        self.all.sort_by_key(|(r, _)| r.start);
        let mut furthest = Lsn(0);
        self.ends = self
            .all
            .iter()
            .map(|(r, _)| {
                furthest = furthest.max(r.end);
                furthest
            })
            .collect();
    }

    /// A point whose range meets the one from `start` to `end` (excluded).
    fn meeting(&self, start: Lsn, end: Lsn) -> Option<&RunId> {
        let before = self.all.partition_point(|(r, _)| r.start < end);
        let candidates = self.all.iter().zip(&self.ends).take(before).rev();
        candidates
            .take_while(|(_, furthest)| **furthest > start)
            .find(|((r, _), _)| r.end > start)
            .map(|((_, point), _)| point)
    }
}

/// Why WAL stays. Displays as one short phrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalReason {
    /// The point cannot become consistent without it.
    Consistency { point: RunId },
    /// Part of the window that starts at the point.
    Window { base: RunId },
    /// Later than the newest point.
    SinceNewest { point: RunId },
    /// The store saw it lately.
    Young { until: Timestamp },
    /// No point of its cluster stays.
    NoPoint,
}

impl fmt::Display for WalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalReason::Consistency { point } => write!(f, "point {point} needs it"),
            WalReason::Window { base } => write!(f, "window from point {base} on"),
            WalReason::SinceNewest { point } => write!(f, "later than point {point}"),
            WalReason::Young { until } => write!(f, "young until {}", short(*until)),
            WalReason::NoPoint => f.write_str("its cluster has no point"),
        }
    }
}

/// What `kept` needs. Those are the points that will be there: the ones that `decision` keeps, and
/// any others that are not gone yet. `decision` says which of them are bases and which count.
pub fn wal_needs(kept: &[&Candidate], decision: &Decision, rules: &Rules, now: Timestamp) -> WalKeep {
    let mut clusters: BTreeMap<ClusterId, Needs> = BTreeMap::new();
    for p in kept {
        let needs = clusters.entry(p.cluster.clone()).or_default();
        for (timeline, range) in ranges(p) {
            needs.ranges.entry(timeline).or_default().all.push((range, p.id.clone()));
        }
    }
    for (cluster, needs) in &mut clusters {
        needs.ranges.values_mut().for_each(Ranges::sort);
        needs.starts = starts(cluster, kept, decision);
    }
    let young = rules.wal_keep.unwrap_or(SHORTEST).max(SHORTEST);
    WalKeep { clusters, young, now }
}

/// What a point needs for itself: its own timeline from redo to stop, and where its redo lies
/// before its timeline began, the ancestors' parts.
fn ranges(p: &Candidate) -> Vec<(TimelineId, Range<Lsn>)> {
    // A range without length would need nothing; replay reads at least the record at redo.
    let end = p.stop_lsn.max(Lsn(p.redo_lsn.0.saturating_add(1)));
    let mut out = vec![(p.timeline, p.redo_lsn..end)];
    let ancestors = p.timeline_history.iter().filter(|(_, left_at)| p.redo_lsn < *left_at);
    out.extend(ancestors.map(|(t, left_at)| (*t, p.redo_lsn..end.min(*left_at))));
    out
}

/// The points of `cluster` behind which everything is needed.
fn starts(
    cluster: &ClusterId,
    kept: &[&Candidate],
    decision: &Decision,
) -> Vec<(TimelineId, Lsn, WalReason)> {
    let by_id: BTreeMap<&RunId, &Candidate> =
        kept.iter().rev().filter(|p| p.cluster == *cluster).map(|p| (&p.id, *p)).collect();
    let of_cluster = |id: &RunId| by_id.get(id).copied();
    let mut out = Vec::new();
    let mut newest = None;
    for v in decision.verdicts.iter().filter(|v| v.cluster == *cluster && v.counts) {
        let Some(p) = of_cluster(&v.id) else { continue };
        newest = newest.or(Some(p));
        if v.reasons.iter().any(|r| matches!(r, Reason::WalBase | Reason::NextWalBase)) {
            out.push((p.timeline, p.redo_lsn, WalReason::Window { base: p.id.clone() }));
        }
    }
    let since = |p: &Candidate| (p.timeline, p.redo_lsn, WalReason::SinceNewest { point: p.id.clone() });
    match newest {
        Some(p) => out.push(since(p)),
        // Nothing here is sure, so each may be the one that is needed.
        None => out.extend(kept.iter().filter(|p| p.cluster == *cluster).map(|p| since(p))),
    }
    out
}

impl WalKeep {
    /// Why the positions from `start` to `end` (excluded) of `timeline`, usually a segment, have to
    /// stay. `stored_at` is the store's time of the object.
    pub fn needs(
        &self,
        cluster: &ClusterId,
        timeline: TimelineId,
        start: Lsn,
        end: Lsn,
        stored_at: Timestamp,
    ) -> Option<WalReason> {
        let Some(needs) = self.clusters.get(cluster) else { return Some(WalReason::NoPoint) };
        if let Some(point) = needs.ranges.get(&timeline).and_then(|r| r.meeting(start, end)) {
            return Some(WalReason::Consistency { point: point.clone() });
        }
        let behind =
            |(t, from, _): &&(TimelineId, Lsn, WalReason)| *t < timeline || (*t == timeline && *from < end);
        if let Some((.., reason)) = needs.starts.iter().find(behind) {
            return Some(reason.clone());
        }
        (stored_at >= before(self.now, self.young))
            .then(|| WalReason::Young { until: after(stored_at, self.young) })
    }

    /// The same of a stretch of segments that the store saw between `oldest` and `newest`.
    pub fn needs_all(
        &self,
        cluster: &ClusterId,
        timeline: TimelineId,
        stretch: Range<Lsn>,
        oldest: Timestamp,
        newest: Timestamp,
    ) -> Stretch {
        let Some(needs) = self.clusters.get(cluster) else { return Stretch::Stays };
        // The strictest question: its first position alone, as old as the oldest.
        let first = Lsn(stretch.start.0.saturating_add(1));
        let behind =
            |(t, from, _): &(TimelineId, Lsn, WalReason)| *t < timeline || (*t == timeline && *from < first);
        let young = before(self.now, self.young);
        if needs.starts.iter().any(behind) || oldest >= young {
            return Stretch::Stays;
        }
        match self.needs(cluster, timeline, stretch.start, stretch.end, newest) {
            None => Stretch::Goes,
            Some(_) => Stretch::Mixed { by_age: newest >= young },
        }
    }
}
