//! The points that the WAL window stands on.
//!
//! With `wal.keep = 30d` any second of the last thirty days can be reached, which takes a point
//! from before that time. A timeline that was left is looked after like an earlier cluster, its
//! newest point and its base: whoever recovered to the wrong time wants to go back to it. A timeline
//! that only points in doubt, or damaged ones, tell of is looked after as well, because the server
//! may be on it; it stands on points that count. If its newest point brought no history, one that
//! did stays too: without it nobody knew what the timeline stands on.
//!
//! The base alone would be a trap for rules that keep little: with `last = 1` nothing but the base
//! and the newest point is left, the newest is replaced every day, and so no point ever grows old
//! enough to take over from the base, while WAL piles up behind it. So the point after the base
//! stays too. With it a base is at most twice as old as the window.

use super::guards::reach;
use super::input::{Rules, after, before, is_past_of};
use super::lineup::{Entry, Lineup};
use super::plausible::Standing;
use super::rules::Docket;
use super::verdict::Reason;
use crate::id::ClusterId;
use crate::lsn::TimelineId;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn apply(docket: &mut Docket<'_>, rules: &Rules, now: Timestamp) {
    let Some(span) = rules.wal_keep else { return };
    let lineup = docket.lineup;
    let oldest = before(now, span);
    let reach = reach(rules);
    let current = [lineup.all().next(), lineup.counting().next()];
    let mut bases = BTreeSet::new();
    let mut next = BTreeSet::new();
    for branch in branches(lineup).values() {
        let (i, tip) = branch.tip;
        let until = after(branch.seen_at, reach);
        let is_current = current.iter().flatten().any(|(_, e)| is_same_timeline(e, tip));
        if !is_current && until < now {
            continue;
        }
        if !is_current {
            docket.keep(i, Reason::NewestOfBranch { until });
        }
        let p = tip.point;
        if p.timeline_history.is_empty() && !tip.history.is_empty() {
            let teller = lineup
                .counting()
                .find(|(_, e)| is_same_timeline(e, tip) && !e.point.timeline_history.is_empty());
            if let Some((i, _)) = teller {
                docket.keep(i, Reason::TellsHistory);
            }
        }
        let past: Vec<(usize, &Entry<'_>)> = lineup
            .counting()
            .filter(|(_, e)| {
                e.point.cluster == p.cluster
                    && is_past_of(p.timeline, tip.history, e.point.timeline, e.point.stop_lsn)
            })
            .collect();
        // While no point is old enough, the window reaches back to the oldest there is.
        let at = past.iter().position(|(_, e)| e.time <= oldest).unwrap_or(past.len().saturating_sub(1));
        bases.extend(past.get(at).map(|(i, _)| *i));
        next.extend(at.checked_sub(1).and_then(|at| past.get(at)).map(|(i, _)| *i));
    }
    for &i in &bases {
        docket.keep(i, Reason::WalBase);
    }
    for &i in next.difference(&bases) {
        docket.keep(i, Reason::NextWalBase);
    }
}

/// A timeline that points tell of.
struct Branch<'a> {
    /// Its newest point that counts, or else its newest.
    tip: (usize, &'a Entry<'a>),
    /// When the store last saw the tip, or a point in doubt. Only points that stay: what expires
    /// must not have kept another.
    seen_at: Timestamp,
}

fn branches<'a>(lineup: &'a Lineup<'a>) -> BTreeMap<(&'a ClusterId, TimelineId), Branch<'a>> {
    let mut out: BTreeMap<(&ClusterId, TimelineId), Branch<'_>> = BTreeMap::new();
    // Those that count first, so that the first of each timeline is its tip.
    let others = lineup.all().filter(|(_, e)| !e.counts());
    for (i, e) in lineup.counting().chain(others) {
        let p = e.point;
        let branch =
            out.entry((&p.cluster, p.timeline)).or_insert(Branch { tip: (i, e), seen_at: p.stored_at });
        if matches!(e.standing, Standing::Doubtful(_)) {
            branch.seen_at = branch.seen_at.max(p.stored_at);
        }
    }
    out
}

fn is_same_timeline(a: &Entry<'_>, b: &Entry<'_>) -> bool {
    (&a.point.cluster, a.point.timeline) == (&b.point.cluster, b.point.timeline)
}
