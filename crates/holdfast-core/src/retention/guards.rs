//! What stays whatever the rules say.

use super::input::{Rules, after};
use super::periods::Every;
use super::plausible::Standing;
use super::rules::Docket;
use super::verdict::{Alarm, Reason};
use crate::id::ClusterId;
use crate::time::Duration;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// How long the newest point of an earlier cluster, or of a branch that was left, stays at least.
/// The time for somebody to notice that `pg_upgrade` went wrong; and as long as a cluster makes a
/// point now and then, an invented one cannot push its newest out.
const SHORTEST_REACH: Duration = Duration(30 * 86_400);

pub(super) fn apply(docket: &mut Docket<'_>, rules: &Rules, now: Timestamp) {
    if rules.keeps.is_empty() {
        for (i, _) in docket.points() {
            docket.keep(i, Reason::NoRules);
        }
    }
    newest(docket);
    at_least(docket, rules);
    earlier_clusters(docket, rules, now);
    damaged(docket, rules, now);
    doubtful(docket);
}

/// How far back from its newest point a cluster or branch is still looked after: the longest span
/// of any rule.
pub(super) fn reach(rules: &Rules) -> Duration {
    let calendar = |every: Every| {
        let most = rules.keeps.iter().map(|(_, k)| every.wanted(k)).max().unwrap_or(0);
        Duration(every.longest().0.saturating_mul(most.into()))
    };
    Every::ALL
        .into_iter()
        .map(calendar)
        .chain(rules.keeps.iter().filter_map(|(_, k)| k.window))
        .chain(rules.wal_keep)
        .chain([SHORTEST_REACH])
        .max()
        .unwrap_or(SHORTEST_REACH)
}

fn newest(docket: &mut Docket<'_>) {
    let lineup = docket.lineup;
    if let Some((i, _)) = lineup.counting().next() {
        docket.keep(i, Reason::NewestSuccess);
    }
    let verified = lineup.counting().find(|(_, e)| e.point.verified.is_some());
    // A damaged one that was verified is better than none.
    let damaged = lineup.all().find(|(_, e)| e.standing == Standing::Partial && e.point.verified.is_some());
    if let Some((i, _)) = verified.or(damaged) {
        docket.keep(i, Reason::NewestVerified);
    }
}

/// The newest so many, not "so many of those that stay": else holding an old point would let a
/// newer one go.
fn at_least(docket: &mut Docket<'_>, rules: &Rules) {
    let mut most: Option<(&str, u32)> = None;
    for (rule, keep) in &rules.keeps {
        if most.is_none_or(|(_, n)| keep.at_least > n) {
            most = Some((rule, keep.at_least));
        }
    }
    let Some((rule, n)) = most else { return };
    let lineup = docket.lineup;
    for (_, (i, _)) in (0..n).zip(lineup.counting()) {
        docket.keep(i, Reason::AtLeast { rule: rule.to_string(), n });
    }
}

fn earlier_clusters(docket: &mut Docket<'_>, rules: &Rules, now: Timestamp) {
    let lineup = docket.lineup;
    let reach = reach(rules);
    let mut seen: Vec<&ClusterId> = lineup.current_cluster().into_iter().collect();
    for (i, e) in lineup.counting() {
        if seen.contains(&&e.point.cluster) {
            continue;
        }
        seen.push(&e.point.cluster);
        let until = after(e.time, reach);
        if until >= now {
            docket.keep(i, Reason::NewestOfCluster { until });
        }
    }
}

/// A point with damaged pages may be the only copy of everything else in it.
fn damaged(docket: &mut Docket<'_>, rules: &Rules, now: Timestamp) {
    let lineup = docket.lineup;
    let reach = reach(rules);
    let mut complete: BTreeMap<&ClusterId, usize> = BTreeMap::new();
    for (i, e) in lineup.counting() {
        complete.entry(&e.point.cluster).or_insert(i);
    }
    for (i, e) in lineup.all().filter(|(_, e)| e.standing == Standing::Partial) {
        let stays = match complete.get(&e.point.cluster) {
            None => true,
            Some(newest) if i > *newest => false,
            Some(_) => lineup.current_cluster() == Some(&e.point.cluster) || after(e.time, reach) >= now,
        };
        if stays {
            docket.keep(i, Reason::NothingBetter);
        }
    }
}

fn doubtful(docket: &mut Docket<'_>) {
    let lineup = docket.lineup;
    for (i, e) in lineup.all() {
        if let Standing::Doubtful(doubt) = &e.standing {
            docket.keep(i, Reason::Doubtful(doubt.clone()));
            docket.alarm(
                i,
                Alarm::Doubtful {
                    cluster: e.point.cluster.clone(),
                    point: e.point.id.clone(),
                    doubt: doubt.clone(),
                },
            );
        }
    }
}
