//! Examples, as tables.

use super::histories::*;
use super::*;
use crate::id::{ClusterId, RunId};
use crate::lsn::{Lsn, TimelineId};
use crate::policy::Keep;
use jiff::Timestamp;
use std::collections::BTreeMap;

pub(super) fn ask(points: &[Candidate], rules: &Rules, now: &str) -> Decision {
    decide(points, &[], &BTreeMap::new(), rules, at(now))
}

fn number(id: &RunId) -> usize {
    999_999 - id.as_str()[17..].parse::<usize>().unwrap()
}

/// A line per point, newest first: its number, `keep` or `-`, and the reasons.
fn table(d: &Decision) -> String {
    d.verdicts
        .iter()
        .map(|v| {
            let reasons: Vec<String> = v.reasons.iter().map(ToString::to_string).collect();
            format!("{} {} {}\n", number(&v.id), if v.keep { "keep" } else { "-" }, reasons.join("; "))
        })
        .collect()
}

/// The numbers of the points that stay, newest first.
pub(super) fn kept(d: &Decision) -> Vec<usize> {
    d.verdicts.iter().filter(|v| v.keep).map(|v| number(&v.id)).collect()
}

fn alarms(d: &Decision) -> Vec<String> {
    let shorten = |text: &str| {
        let words =
            text.split(' ').map(|w| w.parse::<RunId>().map_or(w.to_string(), |id| number(&id).to_string()));
        words.collect::<Vec<_>>().join(" ")
    };
    d.alarms.iter().map(|a| shorten(&a.to_string())).collect()
}

#[test]
fn a_union_of_rules() {
    let points = daily("2026-01-25", 10);
    let keep = Keep { last: 2, daily: 3, weekly: 2, monthly: 3, at_least: 1, ..Keep::default() };
    let d = ask(&points, &rules(keep), "2026-02-03T12:00:00Z");
    assert_eq!(
        table(&d),
        "10 keep t: last 1 of 2; t: daily 2026-02-03 (1 of 3); t: weekly 2026-W06 (1 of 2); \
            t: monthly 2026-02 (1 of 3); newest success; t: at least 1\n\
         9 keep t: last 2 of 2; t: daily 2026-02-02 (2 of 3)\n\
         8 keep t: daily 2026-02-01 (3 of 3); t: weekly 2026-W05 (2 of 2)\n\
         7 keep t: monthly 2026-01 (2 of 3)\n\
         6 - no rule wants it\n\
         5 - no rule wants it\n\
         4 - no rule wants it\n\
         3 - no rule wants it\n\
         2 - no rule wants it\n\
         1 - no rule wants it\n"
    );
    assert!(d.alarms.is_empty());
}

#[test]
fn no_rules_keep_everything_and_no_points_are_fine() {
    let none = Rules { keeps: vec![], wal_keep: None, timezone: zone() };
    let d = ask(&daily("2026-01-01", 3), &none, "2036-01-01T00:00:00Z");
    assert_eq!(kept(&d), [3, 2, 1]);
    assert_eq!(d.verdicts[2].reasons, [Reason::NoRules]);
    assert_eq!(ask(&[], &none, "2036-01-01T00:00:00Z"), Decision::default());
}

#[test]
fn days_without_a_point_use_up_nothing() {
    let points = daily("2020-01-01", 3);
    let keep = Keep { daily: 2, window: Some(days(7)), ..Keep::default() };
    assert_eq!(kept(&ask(&points, &rules(keep), "2026-01-01T00:00:00Z")), [3, 2]);
}

#[test]
fn a_window_ends_to_the_second() {
    let points = daily("2026-01-01", 3);
    let keep = rules(Keep { window: Some(days(2)), ..Keep::default() });
    assert_eq!(kept(&ask(&points, &keep, "2026-01-04T03:00:00Z")), [3, 2]);
    assert_eq!(kept(&ask(&points, &keep, "2026-01-04T03:00:01Z")), [3]);
    let d = ask(&points, &keep, "2026-01-03T12:00:00Z");
    assert_eq!(d.verdicts[1].reasons[0].to_string(), "t: window until 2026-01-04 03:00:00Z");
}

#[test]
fn days_are_those_of_the_policy() {
    // 23:30 and 00:30 in Copenhagen are one day in UTC and two there.
    let points =
        vec![point(1, at("2026-07-01T21:30:00Z"), 1, 1000), point(2, at("2026-07-01T22:30:00Z"), 1, 2000)];
    let mut r = rules(Keep { daily: 5, ..Keep::default() });
    assert_eq!(kept(&ask(&points, &r, "2026-07-02T12:00:00Z")), [2, 1]);
    r.timezone = jiff::tz::TimeZone::UTC;
    assert_eq!(kept(&ask(&points, &r, "2026-07-02T12:00:00Z")), [2]);
}

#[test]
fn tags_holds_and_locks() {
    let mut points = daily("2026-01-01", 8);
    let now = "2026-02-01T00:00:00Z";
    let tag = |p: &mut Candidate, k: &str, v: &str| p.tags.insert(k.into(), v.into());
    tag(&mut points[0], "env", "prod");
    tag(&mut points[1], "env", "test");
    tag(&mut points[2], "keep-until", "2026-02-01");
    tag(&mut points[3], "keep-until", "2026-01-31");
    tag(&mut points[4], "keep-until", "next \u{1b}[2J year");
    let tags = vec!["env=prod".parse().unwrap(), "release".parse().unwrap()];
    let rules = rules(Keep { tags, ..Keep::default() });
    let hold = |n: usize, p: usize, until: Option<Timestamp>| Hold {
        id: id(500 + n),
        point: points[p].id.clone(),
        title: "audit".into(),
        until,
    };
    let holds = [hold(1, 5, None), hold(2, 6, Some(at(now))), hold(3, 1, Some(at("2026-02-01T00:00:01Z")))];
    let locks = BTreeMap::from([
        (points[5].id.clone(), at("2026-02-02T00:00:00Z")),
        (points[6].id.clone(), at("2026-01-31T00:00:00Z")),
    ]);
    let d = decide(&points, &holds, &locks, &rules, at(now));
    assert_eq!(
        table(&d),
        "8 keep newest success; t: at least 1\n\
         7 - no rule wants it\n\
         6 keep held: audit; locked until 2026-02-02 00:00:00Z\n\
         5 keep tag keep-until `next  [2J year` is not a date\n\
         4 - no rule wants it\n\
         3 keep tag keep-until 2026-02-01 23:00:00Z\n\
         2 keep held until 2026-02-01 00:00:01Z: audit\n\
         1 keep t: tag env=prod\n"
    );
    assert_eq!(alarms(&d), ["point 5 has the tag keep-until `next  [2J year`, which is not a date"]);
}

#[test]
fn the_newest_verified_and_at_least_so_many_stay() {
    let mut points = daily("2026-01-01", 6);
    points[1].verified = Some(points[1].stored_at);
    points[2].verified = Some(points[2].stored_at);
    let mut r = rules(Keep { last: 1, at_least: 2, ..Keep::default() });
    r.keeps.push(("u".into(), Keep { last: 1, at_least: 1, ..Keep::default() }));
    let d = ask(&points, &r, "2027-01-01T00:00:00Z");
    assert_eq!(kept(&d), [6, 5, 3]);
    assert_eq!(d.verdicts[1].reasons, [Reason::AtLeast { rule: "t".into(), n: 2 }]);
    assert_eq!(d.verdicts[3].reasons, [Reason::NewestVerified]);
}

#[test]
fn damaged_points_never_count() {
    let mut points = daily("2026-01-01", 5);
    for n in [0, 2, 4] {
        points[n].partial = true;
    }
    let r = rules(Keep { last: 2, window: Some(days(3)), ..Keep::default() });
    let d = ask(&points, &r, "2026-06-01T00:00:00Z");
    assert_eq!(
        table(&d),
        "5 keep damaged, but nothing newer is complete\n\
         4 keep t: last 1 of 2; newest success; t: at least 1\n\
         3 - damaged, and a newer point is complete\n\
         2 keep t: last 2 of 2\n\
         1 - damaged, and a newer point is complete\n"
    );
    // Inside a window a damaged point stays like any other.
    assert_eq!(kept(&ask(&points, &r, "2026-01-06T02:00:00Z")), [5, 4, 3, 2]);
    for p in &mut points {
        p.partial = true;
    }
    assert_eq!(kept(&ask(&points, &r, "2026-06-01T00:00:00Z")), [5, 4, 3, 2, 1], "nothing better is there");
}

#[test]
fn implausible_points_stay_and_displace_nothing() {
    let mut points = daily("2026-01-01", 4);
    let real = points[3].clone();
    for (n, kind) in Fake::ALL.into_iter().enumerate() {
        points.push(kind.after(&real, n, 1 + n as i64));
    }
    let d = ask(&points, &rules(Keep { last: 2, ..Keep::default() }), "2026-03-01T00:00:00Z");
    assert_eq!(kept(&d).into_iter().filter(|n| *n < 100).collect::<Vec<_>>(), [4, 3]);
    let mut told = alarms(&d);
    told.sort();
    assert_eq!(
        told,
        [
            "point 100000 does not count: its stop time is 24h in the future",
            "point 100001 does not count: it was stored 4d after its stop time",
            "point 100002 does not count: it ends at 0/F9F, before 0/FA0 of the earlier 4",
            "point 100003 does not count: it has 256.0 MiB where 4 has 1.00 GiB",
            "point 100004 does not count: it did not see the earlier 4",
            "point 100005 does not count: its positions are not in order",
        ]
    );
}

#[test]
fn what_the_operator_vouches_for_counts() {
    let mut points = daily("2026-01-01", 3);
    // A late copy, and one that goes back.
    points[1].stored_at = plus(points[2].stored_at, 30 * DAY);
    points[2].stop_lsn = Lsn(1500);
    (points[2].redo_lsn, points[2].start_lsn) = (Lsn(1500), Lsn(1500));
    let r = rules(Keep { last: 3, ..Keep::default() });
    let d = ask(&points, &r, "2026-06-01T00:00:00Z");
    assert_eq!(alarms(&d), ["point 2 does not count: it was stored 31d after its stop time"]);
    points[1].trusted = true;
    let d = ask(&points, &r, "2026-06-01T00:00:00Z");
    assert!(d.alarms.is_empty(), "{:?}", d.alarms);
    assert_eq!(kept(&d), [2, 3, 1], "on one timeline the position says what is newer");
    // But not a time that nobody can know.
    points[1].stop_time = plus(points[1].stored_at, 3600);
    let d = ask(&points, &r, "2026-06-01T00:00:00Z");
    assert_eq!(alarms(&d), ["point 2 does not count: its stop time is 60m in the future"]);
    // Our clock may be the one that is wrong: nothing is expired by it.
    let d = ask(&daily("2026-01-01", 3), &rules(Keep { last: 1, ..Keep::default() }), "2025-01-01T00:00:00Z");
    assert_eq!((kept(&d).len(), d.alarms.len()), (3, 3));
}

#[test]
fn a_truncated_database_counts_again_after_a_verification_or_a_week() {
    let r = rules(Keep { last: 2, ..Keep::default() });
    let shrunk = |n: usize| {
        let mut points = daily("2026-01-01", 2 + n);
        for p in &mut points[2..] {
            p.size_bytes = 1 << 20;
        }
        points
    };
    let d = ask(&shrunk(3), &r, "2026-06-01T00:00:00Z");
    assert_eq!((kept(&d), d.alarms.len()), (vec![5, 4, 3, 2, 1], 3));
    let mut points = shrunk(3);
    points[4].verified = Some(points[4].stored_at);
    let d = ask(&points, &r, "2026-06-01T00:00:00Z");
    assert_eq!((kept(&d), d.alarms.len()), (vec![5, 4], 0), "those before it showed the same");
    assert_eq!(ask(&shrunk(6), &r, "2026-06-01T00:00:00Z").alarms.len(), 6);
    let d = ask(&shrunk(7), &r, "2026-06-01T00:00:00Z");
    assert_eq!((kept(&d), d.alarms.len()), (vec![9, 8], 0));
    // A point of the old size in between: the small ones were never real.
    let mut points = shrunk(7);
    points[8].size_bytes = 1 << 30;
    let d = ask(&points, &r, "2026-06-01T00:00:00Z");
    assert_eq!((d.alarms.len(), d.verdicts[0].counts), (6, true));
}

#[test]
fn tiny_fakes_do_not_count_when_the_database_really_shrinks_later() {
    let mut points = daily("2026-01-01", 6);
    points.push(Candidate { size_bytes: 1 << 20, ..Fake::Tiny.after(&points[1], 0, 60) });
    for p in &mut points[4..6] {
        p.size_bytes = 1 << 20;
    }
    points[5].verified = Some(points[5].stored_at);
    let d = ask(&points, &rules(Keep { last: 2, ..Keep::default() }), "2026-06-01T00:00:00Z");
    assert_eq!(alarms(&d), ["point 100000 does not count: it has 1.00 MiB where 2 has 1.00 GiB"]);
}

#[test]
fn clocks_may_differ_by_minutes() {
    // A failover to a host whose clock is behind, and a backup at once.
    let backup = |behind: i64| {
        let mut points = daily("2026-01-01", 2);
        let last = points[1].clone();
        points.push(Candidate {
            timeline_history: vec![(TimelineId(1), Lsn(2500))],
            stored_at: plus(last.stored_at, 30),
            ..point(3, plus(last.stop_time, -behind), 2, 3000)
        });
        ask(&points, &rules(Keep { last: 1, ..Keep::default() }), "2026-06-01T00:00:00Z")
    };
    let d = backup(300);
    assert_eq!((kept(&d), d.alarms.len()), (vec![3], 0), "the timeline is the newer one, whatever the clock");
    assert_eq!(
        alarms(&backup(301)),
        ["point 3 does not count: its stop time is 5m before that of the earlier 2"]
    );
}

#[test]
fn a_disk_put_back_counts_again_after_a_verification() {
    // The server's disk is put back to what it was after point 2: same timeline, lower positions.
    let mut points = daily("2026-01-01", 7);
    for (i, p) in points.iter_mut().enumerate().skip(4) {
        p.stop_lsn = Lsn(2000 + i as u64 * 100);
        (p.redo_lsn, p.start_lsn) = (Lsn(p.stop_lsn.0 - 2), Lsn(p.stop_lsn.0 - 1));
    }
    let r = rules(Keep { last: 1, ..Keep::default() });
    let d = ask(&points, &r, "2026-06-01T00:00:00Z");
    assert_eq!((d.alarms.len(), d.verdicts.iter().filter(|v| v.counts).count()), (3, 4));
    points[5].verified = Some(points[5].stored_at);
    assert!(ask(&points, &r, "2026-06-01T00:00:00Z").alarms.is_empty());
}

#[test]
fn recovery_to_an_earlier_time_is_no_alarm() {
    // Days 1 to 4 on timeline 1; back to day 2; days 5 and 6 on timeline 2, at lower positions.
    let mut points = daily("2026-01-01", 6);
    for (i, p) in points.iter_mut().enumerate().skip(4) {
        *p = Candidate {
            timeline_history: vec![(TimelineId(1), Lsn(2100))],
            ..point(i + 1, p.stop_time, 2, 2300 + i as u64)
        };
    }
    let d = ask(&points, &rules(Keep { last: 3, ..Keep::default() }), "2026-01-10T00:00:00Z");
    assert!(d.alarms.is_empty(), "{:?}", d.alarms);
    assert_eq!(kept(&d), [6, 5, 4]);
}

#[test]
fn an_earlier_cluster_keeps_its_newest_while_rules_reach_it() {
    let mut points = daily("2026-01-01", 6);
    for (i, p) in points.iter_mut().enumerate().skip(3) {
        p.cluster = ClusterId::from_system_identifier(8);
        p.generation = i as u64 - 2;
    }
    let r = rules(Keep { last: 2, ..Keep::default() });
    let d = ask(&points, &r, "2026-02-02T03:00:00Z");
    assert_eq!(
        table(&d),
        "6 keep t: last 1 of 2; newest success; t: at least 1\n\
         5 keep t: last 2 of 2\n\
         4 - no rule wants it\n\
         3 keep newest of an earlier cluster until 2026-02-02 03:00:00Z\n\
         2 - no rule wants it\n\
         1 - no rule wants it\n"
    );
    assert_eq!(kept(&ask(&points, &r, "2026-02-02T03:00:01Z")), [6, 5]);
    let r = rules(Keep { last: 2, monthly: 1, window: Some(days(90)), ..Keep::default() });
    assert_eq!(kept(&ask(&points, &r, "2026-04-03T03:00:00Z")), [6, 5, 4, 3], "as long as the window");
}

#[test]
fn plausible_fakes_cannot_push_out_the_newest_verified_nor_the_real_cluster() {
    let mut points = daily("2026-01-01", 5);
    points[2].verified = Some(points[2].stored_at);
    for n in 0..50 {
        let real = points[4].clone();
        points.push(Candidate {
            id: id(100 + n),
            stored_at: plus(real.stored_at, 60 * n as i64),
            stop_lsn: Lsn(real.stop_lsn.0 + n as u64),
            ..real
        });
    }
    let d = ask(&points, &rules(Keep { last: 7, daily: 5, ..Keep::default() }), "2026-01-06T00:00:00Z");
    let real = |d: &Decision| kept(d).into_iter().filter(|n| *n < 100).collect::<Vec<_>>();
    assert_eq!(real(&d), [4, 3, 2, 1], "a flood takes `last` and its own day, not other days");
    assert_eq!(real(&ask(&points, &rules(Keep { last: 7, ..Keep::default() }), "2026-01-06T00:00:00Z")), [3]);
    for p in &mut points[5..] {
        p.cluster = ClusterId::from_system_identifier(777);
    }
    assert_eq!(
        real(&ask(&points, &rules(Keep { last: 7, ..Keep::default() }), "2026-01-06T00:00:00Z")),
        [5, 3]
    );
}
