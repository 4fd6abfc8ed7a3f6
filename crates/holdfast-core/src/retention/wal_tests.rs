//! Examples: the bases of the WAL window, and which WAL stays.

use super::histories::*;
use super::tests::{ask, kept};
use super::*;
use crate::id::ClusterId;
use crate::lsn::{Lsn, TimelineId};
use crate::policy::Keep;

#[test]
fn the_base_of_the_wal_window_and_the_one_after_it() {
    let points = daily("2026-01-01", 20);
    let mut r = rules(Keep { last: 1, ..Keep::default() });
    r.wal_keep = Some(days(10));
    let d = ask(&points, &r, "2026-01-20T12:00:00Z");
    assert_eq!(kept(&d), [20, 11, 10]);
    assert_eq!(d.verdicts[10].reasons, [Reason::WalBase]);
    assert_eq!(d.verdicts[9].reasons, [Reason::NextWalBase]);
    r.wal_keep = Some(days(100));
    assert_eq!(kept(&ask(&points, &r, "2026-01-20T12:00:00Z")), [20, 2, 1], "as far as points go back");
}

#[test]
fn each_live_branch_has_its_base() {
    // 1 to 10 on timeline 1; back to 6; 11 to 20 on timeline 2.
    let mut points = daily("2026-01-01", 20);
    for (i, p) in points.iter_mut().enumerate().skip(10) {
        *p = Candidate {
            timeline_history: vec![(TimelineId(1), Lsn(6500))],
            ..point(i + 1, p.stop_time, 2, 6500 + i as u64)
        };
    }
    let mut r = rules(Keep { last: 1, ..Keep::default() });
    r.wal_keep = Some(days(12));
    // Eight days before the 20th: timeline 2 stands on 6 of timeline 1, the branch left on 8.
    assert_eq!(kept(&ask(&points, &r, "2026-01-20T12:00:00Z")), [20, 11, 10, 9, 8, 6]);
    assert_eq!(kept(&ask(&points, &r, "2026-02-08T12:00:00Z")), [20, 10]);
    assert_eq!(kept(&ask(&points, &r, "2026-02-10T12:00:00Z")), [20], "30 days after its end");
}

#[test]
fn a_timeline_that_only_points_in_doubt_tell_of_has_its_base() {
    // Back to 6, and the backups from there are suspiciously small.
    let mut points = daily("2026-01-01", 12);
    for (i, p) in points.iter_mut().enumerate().skip(10) {
        *p = Candidate {
            timeline_history: vec![(TimelineId(1), Lsn(6500))],
            size_bytes: 5,
            ..point(i + 1, p.stop_time, 2, 6500 + i as u64)
        };
    }
    let mut r = rules(Keep { last: 1, ..Keep::default() });
    r.wal_keep = Some(days(1));
    let d = ask(&points, &r, "2026-01-12T12:00:00Z");
    assert_eq!(kept(&d), [12, 11, 10, 6], "timeline 2 stands on 6");
    assert_eq!(d.verdicts[6].reasons, [Reason::WalBase]);
}

#[test]
fn what_tells_a_timelines_history_stays() {
    let mut points = daily("2026-01-01", 12);
    for (i, p) in points.iter_mut().enumerate().skip(6) {
        *p = point(i + 1, p.stop_time, 2, 6500 + i as u64);
    }
    points[8].timeline_history = vec![(TimelineId(1), Lsn(6500))];
    let mut r = rules(Keep { last: 1, ..Keep::default() });
    r.wal_keep = Some(days(7));
    let d = ask(&points, &r, "2026-01-12T12:00:00Z");
    assert_eq!(kept(&d), [12, 9, 6, 5]);
    assert_eq!(d.verdicts[3].reasons, [Reason::TellsHistory]);
}

fn needs(points: &[Candidate], r: &Rules, now: &str) -> (WalKeep, Decision) {
    let d = ask(points, r, now);
    let kept: Vec<&Candidate> =
        points.iter().filter(|p| d.verdicts.iter().any(|v| v.keep && v.id == p.id)).collect();
    (wal_needs(&kept, &d, r, at(now)), d)
}

#[test]
fn wal_of_points_and_since_the_newest() {
    let points = daily("2026-01-01", 5);
    let r = rules(Keep { last: 2, ..Keep::default() });
    let now = "2026-02-01T00:00:00Z";
    let (wal, _) = needs(&points, &r, now);
    let cluster = &points[0].cluster;
    let old = at("2026-01-10T00:00:00Z");
    let ask = |t: u32, lsn: u64, stored| {
        wal.needs(cluster, TimelineId(t), Lsn(lsn), Lsn(lsn + 1), stored).map_or("-".to_string(), |r| {
            r.to_string().replace(points[3].id.as_str(), "4").replace(points[4].id.as_str(), "5")
        })
    };
    assert_eq!(ask(1, 3979, old), "-");
    assert_eq!(ask(1, 3980, old), "point 4 needs it");
    assert_eq!(ask(1, 3999, old), "point 4 needs it");
    assert_eq!(ask(1, 4000, old), "-");
    assert_eq!(ask(1, 4980, old), "point 5 needs it");
    assert_eq!(ask(1, 999_999, old), "later than point 5");
    assert_eq!(ask(2, 1, old), "later than point 5", "it may branch off later");
    assert_eq!(ask(1, 1, at("2026-01-30T00:00:00Z")), "young until 2026-02-01 00:00:00Z");
    assert_eq!(ask(1, 1, at("2026-01-29T23:59:59Z")), "-");
    let segment =
        |start: u64, end: u64| wal.needs(cluster, TimelineId(1), Lsn(start), Lsn(end), old).is_some();
    assert!(segment(3900, 3981) && segment(3999, 4100) && segment(3900, 4100));
    assert!(!segment(3900, 3980) && !segment(4000, 4980) && segment(4000, 4981));
    let other = ClusterId::from_system_identifier(9);
    assert_eq!(wal.needs(&other, TimelineId(1), Lsn(1), Lsn(2), old), Some(WalReason::NoPoint));
}

#[test]
fn wal_of_the_window_goes_through_switches_of_timeline() {
    let mut points = daily("2026-01-01", 20);
    for (i, p) in points.iter_mut().enumerate().skip(10) {
        *p = Candidate {
            timeline_history: vec![(TimelineId(1), Lsn(10_500))],
            ..point(i + 1, p.stop_time, 2, 11_000 + i as u64 * 100)
        };
    }
    let mut r = rules(Keep { last: 1, ..Keep::default() });
    r.wal_keep = Some(days(12));
    let (wal, d) = needs(&points, &r, "2026-01-20T12:00:00Z");
    assert_eq!(kept(&d), [20, 10, 9, 8]);
    let old = at("2026-01-01T00:00:00Z");
    let needed = |t, lsn| wal.needs(&points[0].cluster, TimelineId(t), Lsn(lsn), Lsn(lsn + 1), old).is_some();
    assert!(!needed(1, 7979));
    assert!((7980..12_000).all(|lsn| needed(1, lsn)));
    assert!((10_000..20_000).all(|lsn| needed(2, lsn)));
}

#[test]
fn redo_before_the_timeline_began_needs_the_ancestor() {
    let mut p = point(1, at("2026-01-01T03:00:00Z"), 3, 1000);
    p.timeline_history = vec![(TimelineId(1), Lsn(500)), (TimelineId(2), Lsn(985))];
    let (wal, _) = needs(
        &[p.clone(), point(2, at("2026-01-02T03:00:00Z"), 4, 5000)],
        &rules(Keep { last: 2, ..Keep::default() }),
        "2026-02-01T00:00:00Z",
    );
    let old = at("2026-01-01T00:00:00Z");
    let needed = |t, lsn| wal.needs(&p.cluster, TimelineId(t), Lsn(lsn), Lsn(lsn + 1), old).is_some();
    assert!(needed(2, 980) && needed(2, 984) && !needed(2, 985) && !needed(1, 499));
    assert!(needed(3, 985) && needed(3, 999) && !needed(3, 1000));
}

#[test]
fn without_a_point_that_counts_all_wal_from_the_oldest_on_stays() {
    let mut points = daily("2026-01-01", 3);
    for p in &mut points {
        p.partial = true;
    }
    let (wal, _) = needs(&points, &rules(Keep { last: 1, ..Keep::default() }), "2026-06-01T00:00:00Z");
    let old = at("2026-01-01T00:00:00Z");
    let needed = |lsn| wal.needs(&points[0].cluster, TimelineId(1), Lsn(lsn), Lsn(lsn + 1), old).is_some();
    assert!(!needed(979) && (980..9000).all(needed));
}
