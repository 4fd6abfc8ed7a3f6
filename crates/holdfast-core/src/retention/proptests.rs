//! What holds for every history, every rule and every hostile host.

use super::histories::*;
use super::*;
use crate::id::{ClusterId, RunId};
use crate::lsn::{Lsn, TimelineId};
use crate::policy::Keep;
use crate::time::Duration;
use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::{BTreeMap, BTreeSet};

type Locks = BTreeMap<RunId, Timestamp>;

fn step() -> impl Strategy<Value = Step> {
    let event = prop_oneof![
        16 => Just(Event::Nothing),
        2 => Just(Event::Failover),
        1 => (0usize..8).prop_map(Event::Recovery),
        1 => Just(Event::Upgrade),
    ];
    let times = (prop_oneof![60i64..180, 1300i64..1500, 60i64..6000], -290i64..290, 0i64..58);
    let flags = (weighted(0.1), weighted(0.15), weighted(0.15), weighted(0.2), weighted(0.1));
    // Together not to less than a quarter: what shrinks faster is in doubt once the steps expired.
    (event, times, 98u64..130, flags).prop_map(
        |(event, (minutes, skew_seconds, upload_minutes), size_percent, flags)| {
            let (partial, verified, trusted, forgets_history, tagged) = flags;
            Step {
                event,
                minutes,
                skew_seconds,
                upload_minutes,
                size_percent,
                partial,
                verified,
                trusted,
                forgets_history,
                tagged,
            }
        },
    )
}

fn weighted(p: f64) -> impl Strategy<Value = bool> {
    proptest::bool::weighted(p)
}

fn honest() -> impl Strategy<Value = Vec<Candidate>> {
    vec(step(), 1..60).prop_map(|steps| History::of(&steps))
}

/// Anything that a host could write, from so few values that they meet.
fn hostile() -> impl Strategy<Value = Vec<Candidate>> {
    let positions = ([0u64..40, 0u64..40, 0u64..40], weighted(0.8));
    let times = (-5000i64..60, 0i64..20_000);
    let facts = (0u64..6, 0u64..16, weighted(0.2), weighted(0.2), weighted(0.3));
    let tag = prop_oneof![
        6 => Just(None),
        1 => Just(Some(("env", "prod"))),
        1 => Just(Some(("keep-until", "2025-01-09"))),
        1 => Just(Some(("keep-until", "soon"))),
    ];
    let history = vec((0u32..4, (0u64..40).prop_map(Lsn)), 0..3);
    let one = (1u64..3, 1u32..5, positions, times, facts, tag, history);
    vec(one, 0..25).prop_map(|all| {
        all.into_iter()
            .enumerate()
            .map(|(n, (cluster, timeline, (mut lsn, sorted), (late, stored), facts, tag, history))| {
                if sorted {
                    lsn.sort();
                }
                let [redo, start, stop] = lsn.map(Lsn);
                let (generation, size_bytes, partial, verified, trusted) = facts;
                let stored_at = plus(at("2025-01-01T00:00:00Z"), stored * 60);
                Candidate {
                    cluster: ClusterId::from_system_identifier(cluster),
                    redo_lsn: redo,
                    start_lsn: start,
                    stop_lsn: stop,
                    stop_time: plus(stored_at, late * 60),
                    stored_at,
                    generation,
                    size_bytes,
                    partial,
                    verified: verified.then_some(stored_at),
                    trusted,
                    tags: tag.into_iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
                    timeline_history: history.into_iter().map(|(t, l)| (TimelineId(t), l)).collect(),
                    ..point(n, stored_at, timeline, 0)
                }
            })
            .collect()
    })
}

fn any_points() -> impl Strategy<Value = Vec<Candidate>> {
    prop_oneof![honest(), hostile()]
}

fn keep() -> impl Strategy<Value = Keep> {
    let few = || prop_oneof![2 => Just(0u32), 2 => 1u32..4];
    let window = prop_oneof![2 => Just(None), 1 => (1u64..400).prop_map(|h| Some(Duration(h * 3600)))];
    ((few(), few(), few()), (few(), few(), few()), window, weighted(0.3), 1u32..4).prop_map(
        |((last, hourly, daily), (weekly, monthly, yearly), window, tag, at_least)| Keep {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            window,
            tags: tag.then(|| "env=prod".parse().unwrap()).into_iter().collect(),
            at_least,
        },
    )
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let wal = prop_oneof![1 => Just(None), 2 => (1u64..1000).prop_map(|h| Some(Duration(h * 3600)))];
    (vec(keep(), 1..3), wal).prop_map(|(keeps, wal_keep)| Rules {
        keeps: keeps.into_iter().enumerate().map(|(n, k)| (format!("tier {n}"), k)).collect(),
        wal_keep,
        timezone: zone(),
    })
}

/// A later time than any in the points, some of the time much later.
fn later(points: &[Candidate], hours: u32) -> Timestamp {
    let last = points.iter().map(|p| p.stored_at).max().unwrap_or(at("2025-01-01T00:00:00Z"));
    plus(last, i64::from(hours) * 3600)
}

fn ask(points: &[Candidate], rules: &Rules, now: Timestamp) -> Decision {
    decide(points, &[], &Locks::new(), rules, now)
}

fn kept(d: &Decision) -> BTreeSet<RunId> {
    d.verdicts.iter().filter(|v| v.keep).map(|v| v.id.clone()).collect()
}

fn those_kept(points: &[Candidate], d: &Decision) -> Vec<Candidate> {
    let kept = kept(d);
    points.iter().filter(|p| kept.contains(&p.id)).cloned().collect()
}

/// That a second look at what was kept expires nothing.
fn nothing_more(first: &Decision, second: &Decision) -> Result<(), TestCaseError> {
    let Some(v) = second.verdicts.iter().find(|v| !v.keep) else { return Ok(()) };
    let before = first.verdicts.iter().find(|b| b.id == v.id);
    let alarms: String = second.alarms.iter().map(|a| format!("\n{a}")).collect();
    Err(TestCaseError::fail(format!("{before:?}\nbecame {v:?}{alarms}")))
}

/// One change that asks for more.
fn grow(rules: &mut Rules, what: usize, which: usize) {
    let n = rules.keeps.len();
    let keep = &mut rules.keeps[which % n].1;
    match what {
        0 => keep.last += 1,
        1 => keep.hourly += 1,
        2 => keep.daily += 1,
        3 => keep.weekly += 2,
        4 => keep.monthly += 1,
        5 => keep.yearly += 1,
        6 => keep.at_least += 1,
        7 => keep.window = Some(Duration(keep.window.map_or(0, |w| w.0) + 86_400)),
        8 => keep.tags.push("env".parse().unwrap()),
        9 => rules.wal_keep = rules.wal_keep.or(Some(days(3))),
        _ => rules.keeps.push(("another".into(), Keep { daily: 2, ..Keep::default() })),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn guards_hold_for_anything(points in any_points(), rules in any_rules(), hours in 0u32..9000) {
        let now = later(&points, hours);
        let d = ask(&points, &rules, now);
        prop_assert_eq!(d.verdicts.len(), points.len());
        prop_assert!(points.is_empty() || d.verdicts.iter().any(|v| v.keep));
        let by_id: BTreeMap<_, _> = points.iter().map(|p| (&p.id, p)).collect();
        let counting: Vec<&Verdict> = d.verdicts.iter().filter(|v| v.counts).collect();
        let least = rules.keeps.iter().map(|(_, k)| k.at_least).max().unwrap() as usize;
        for v in counting.iter().take(least) {
            prop_assert!(v.keep, "{v:?}");
        }
        if let Some(v) = counting.iter().find(|v| by_id[&v.id].verified.is_some()) {
            prop_assert!(v.keep && v.reasons.contains(&Reason::NewestVerified));
        }
        for v in &d.verdicts {
            let p = by_id[&v.id];
            let alarmed = d.alarms.iter().any(|a| matches!(a, Alarm::Doubtful { point, .. } if *point == p.id));
            prop_assert!(!v.reasons.is_empty());
            prop_assert_eq!(v.keep, v.reasons.iter().all(Reason::keeps));
            prop_assert_eq!(alarmed, !v.counts && !p.partial || v.reasons.iter().any(|r| matches!(r, Reason::Doubtful(_))));
            prop_assert!(!alarmed || v.keep);
            for r in &v.reasons {
                let text = r.to_string();
                prop_assert!(!text.is_empty() && !text.contains(char::is_control));
            }
        }
        for (cluster, newest) in counting.iter().rev().map(|v| (&v.cluster, v)).collect::<BTreeMap<_, _>>() {
            let young = plus(by_id[&newest.id].time(), 30 * DAY) >= now;
            prop_assert!(newest.keep || !young, "newest of {cluster}");
        }
    }

    #[test]
    fn the_order_of_the_input_is_irrelevant(
        (points, shuffled) in any_points().prop_flat_map(|p| (Just(p.clone()), Just(p).prop_shuffle())),
        rules in any_rules(),
        hours in 0u32..9000,
    ) {
        let now = later(&points, hours);
        prop_assert_eq!(ask(&points, &rules, now), ask(&shuffled, &rules, now));
    }

    #[test]
    fn asking_for_more_expires_nothing_more(
        points in any_points(),
        rules in any_rules(),
        hours in 0u32..9000,
        what in 0usize..11,
        which: Index,
    ) {
        let now = later(&points, hours);
        let before = kept(&ask(&points, &rules, now));
        let mut more = rules.clone();
        grow(&mut more, what, which.index(10));
        let after = kept(&ask(&points, &more, now));
        prop_assert!(before.is_subset(&after), "{:?}", before.difference(&after));
        if points.is_empty() {
            return Ok(());
        }
        let chosen = which.get(&points).id.clone();
        let hold = Hold { id: id(5), point: chosen.clone(), title: "x".into(), until: None };
        let held = kept(&decide(&points, &[hold], &Locks::new(), &rules, now));
        let locked = kept(&decide(&points, &[], &Locks::from([(chosen.clone(), plus(now, 1))]), &rules, now));
        prop_assert!(before.is_subset(&held) && held.contains(&chosen));
        prop_assert_eq!(held, locked);
        let none = Rules { keeps: Vec::new(), ..rules };
        prop_assert_eq!(kept(&ask(&points, &none, now)).len(), points.len());
    }

    #[test]
    fn honest_histories_raise_no_alarm(points in honest(), rules in any_rules(), hours in 0u32..9000) {
        for upto in [points.len() / 2, points.len()] {
            let points = &points[..upto];
            let d = ask(points, &rules, later(points, hours));
            prop_assert_eq!(&d.alarms, &[]);
            for v in &d.verdicts {
                prop_assert_eq!(v.counts, !points.iter().any(|p| p.id == v.id && p.partial));
            }
        }
    }

    /// Also when retention has taken its steps in between for a while.
    #[test]
    fn expiring_raises_no_alarm_and_expires_no_more(
        points in honest(),
        rules in any_rules(),
        hours in 0u32..9000,
    ) {
        let mut there: Vec<Candidate> = Vec::new();
        for p in points {
            let now = later(std::slice::from_ref(&p), 0);
            there.push(p);
            let d = ask(&there, &rules, now);
            there = those_kept(&there, &d);
            nothing_more(&d, &ask(&there, &rules, now))?;
        }
        let now = later(&there, hours);
        let d = ask(&there, &rules, now);
        let left = those_kept(&there, &d);
        nothing_more(&d, &ask(&left, &rules, now))?;
    }

    #[test]
    fn recognisable_fakes_change_no_verdict(
        points in honest(),
        fakes in vec((any::<Index>(), 0usize..6, 1i64..50), 1..20),
        rules in any_rules(),
        hours in 0u32..9000,
    ) {
        let complete: Vec<Candidate> = points.iter().filter(|p| !p.partial).cloned().collect();
        let mut with = points.clone();
        for (n, (of, kind, seconds)) in fakes.into_iter().enumerate() {
            with.push(Fake::ALL[kind].after(of.get(&complete), n, seconds));
        }
        let now = later(&with, hours);
        let honest = ask(&points, &rules, now);
        let mut attacked = ask(&with, &rules, now);
        prop_assert_eq!(attacked.alarms.len(), with.len() - points.len());
        let real: BTreeSet<&RunId> = points.iter().map(|p| &p.id).collect();
        let left = those_kept(&with, &attacked);
        attacked.verdicts.retain(|v| real.contains(&v.id));
        for (before, after) in honest.verdicts.iter().zip(&attacked.verdicts) {
            prop_assert_eq!((&before.id, before.counts), (&after.id, after.counts));
            // Whatever was said for a point still is. (Branches that fakes tell of may add to it.)
            let wanted = before.reasons.iter().filter(|r| r.keeps() && !matches!(r, Reason::NewestOfBranch { .. } | Reason::NextWalBase));
            for r in wanted {
                prop_assert!(after.reasons.contains(r), "{} lost {r}", before.id);
            }
            prop_assert!(after.keep || !before.keep);
        }
        // Fakes stay, and may outlive what gave them away. Even then no honest point goes.
        let again = ask(&left, &rules, now);
        let gone: Vec<_> = again.verdicts.iter().filter(|v| !v.keep && real.contains(&v.id)).collect();
        prop_assert!(gone.is_empty(), "{gone:?}");
    }

    #[test]
    fn wal_is_there_for_every_point_and_from_every_base(
        points in any_points(),
        rules in any_rules(),
        hours in 0u32..9000,
    ) {
        let now = later(&points, hours);
        let d = ask(&points, &rules, now);
        let left = those_kept(&points, &d);
        let wal = wal_needs(&left.iter().collect::<Vec<_>>(), &d, &rules, now);
        let old = Timestamp::MIN;
        let needed = |p: &Candidate, t: TimelineId, lsn: u64| {
            wal.needs(&p.cluster, t, Lsn(lsn), Lsn(lsn + 1), old).is_some()
        };
        for p in &left {
            for lsn in p.redo_lsn.0..p.stop_lsn.0 {
                prop_assert!(needed(p, p.timeline, lsn));
            }
        }
        let bases: BTreeSet<&RunId> =
            d.verdicts.iter().filter(|v| v.reasons.contains(&Reason::WalBase)).map(|v| &v.id).collect();
        for base in points.iter().filter(|p| bases.contains(&p.id)) {
            for tip in points.iter().filter(|p| p.cluster == base.cluster) {
                if tip.timeline != base.timeline && (tip.timeline_history.is_empty() || tip.timeline < base.timeline) {
                    continue;
                }
                // Along the tip's history, from the base to far behind the tip.
                let mut from = base.redo_lsn;
                let mut path: Vec<(TimelineId, Lsn)> =
                    tip.timeline_history.iter().filter(|(t, _)| *t >= base.timeline).copied().collect();
                if tip.timeline != base.timeline && path.first().is_none_or(|(t, left)| *t != base.timeline || *left < base.stop_lsn) {
                    continue;
                }
                path.push((tip.timeline, Lsn(tip.stop_lsn.0 + 1000)));
                for (timeline, to) in path {
                    for lsn in from.0..to.0 {
                        prop_assert!(needed(base, timeline, lsn), "{timeline} {lsn}");
                    }
                    from = from.max(to);
                }
            }
        }
    }

    #[test]
    fn rules_that_keep_more_need_no_less_wal(
        points in any_points(),
        rules in any_rules(),
        hours in 0u32..9000,
        what in 0usize..11,
        probes in vec((any::<Index>(), 0u32..6, 0u64..3000, 0i64..40), 100),
    ) {
        let now = later(&points, hours);
        let mut more = rules.clone();
        grow(&mut more, what, 0);
        let needs = |rules: &Rules| {
            let d = ask(&points, rules, now);
            let kept = those_kept(&points, &d);
            (wal_needs(&kept.iter().collect::<Vec<_>>(), &d, rules, now), d)
        };
        let (less, d) = needs(&rules);
        let (more, _) = needs(&more);
        for (of, timeline, lsn, days) in probes {
            if points.is_empty() {
                continue;
            }
            let cluster = &of.get(&points).cluster;
            // Only a cluster whose newest point stays: see the invariants of the module.
            if d.verdicts.iter().find(|v| v.cluster == *cluster && v.counts).is_none_or(|v| !v.keep) {
                continue;
            }
            let stored = plus(now, -days * DAY / 4);
            let ask = |w: &WalKeep| w.needs(cluster, TimelineId(timeline), Lsn(lsn), Lsn(lsn + 16), stored);
            prop_assert!(ask(&less).is_none() || ask(&more).is_some(), "{:?}", ask(&less));
        }
    }
}

/// Two years of days, with the expired points really gone. Some days have no backup, some several.
fn two_years(rules: &Rules, seed: &[u8], mut check: impl FnMut(i64, &[Candidate], &Decision)) {
    let start = at("2025-01-01T00:30:00Z");
    let mut there: Vec<Candidate> = Vec::new();
    let mut n = 0;
    for day in 0..730i64 {
        let dice = seed[day as usize % seed.len()];
        for k in 0..i64::from(dice % 4) {
            n += 1;
            let time = plus(start, day * DAY + i64::from(dice / 4) * 600 + k * 3600);
            there.push(point(n, time, 1, 1000 + n as u64 * 100));
        }
        if there.is_empty() {
            continue;
        }
        let d = ask(&there, rules, plus(start, (day + 1) * DAY - 600));
        assert!(d.alarms.is_empty(), "{:?}", d.alarms);
        there = those_kept(&there, &d);
        check(day, &there, &d);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn calendar_rules_keep_their_promise_for_two_years(seed in vec(1u8..128, 97)) {
        let rules = rules(Keep { daily: 30, monthly: 12, ..Keep::default() });
        two_years(&rules, &seed, |day, there, d| {
            assert!(there.len() <= 42, "{} points", there.len());
            let periods = |wanted: Every| {
                let all = d.verdicts.iter().flat_map(|v| &v.reasons);
                let of = all.filter_map(|r| match r {
                    Reason::Period { every, period, .. } if *every == wanted => Some(period.clone()),
                    _ => None,
                });
                of.collect::<BTreeSet<String>>()
            };
            let months = periods(Every::Month);
            if day >= 365 {
                assert_eq!((periods(Every::Day).len(), months.len()), (30, 12));
                // Twelve in a row, as every month has points.
                let of = |m: &String| m[..4].parse::<i32>().unwrap() * 12 + m[5..].parse::<i32>().unwrap();
                assert_eq!(of(months.last().unwrap()) - of(months.first().unwrap()), 11);
            }
        });
    }

    #[test]
    fn a_wal_window_always_has_a_base_and_it_moves(seed in vec(1u8..128, 97), wide: bool) {
        let mut rules = rules(Keep { last: 1, daily: if wide { 5 } else { 0 }, ..Keep::default() });
        rules.wal_keep = Some(days(30));
        two_years(&rules, &seed, |day, there, d| {
            let base = d.verdicts.iter().find(|v| v.reasons.contains(&Reason::WalBase)).expect("a base");
            let time = there.iter().find(|p| p.id == base.id).unwrap().stop_time;
            let age = plus(at("2025-01-01T00:30:00Z"), (day + 1) * DAY - 600).duration_since(time).as_secs();
            assert!(day < 40 || age >= 30 * DAY, "the window is {age} s");
            assert!(age <= 70 * DAY, "the base is {age} s old");
            assert!(there.len() <= 9, "{} points", there.len());
        });
    }
}
