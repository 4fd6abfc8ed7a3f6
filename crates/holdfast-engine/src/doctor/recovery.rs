//! Could we recover, and to when: `recovery.*`. About the database's first vault, where backups go;
//! of the others only how far their WAL has come (`vault.<name>.wal-lag`).

use super::host::Host;
use super::schedule::longest_pause;
use super::server::{Live, patient};
use super::vault::Stock;
use super::{Line, Status};
use crate::context::Context;
use crate::state::State;
use crate::wal::archive::WalArchive;
use crate::wal::owner::owner_of;
use holdfast_core::policy::{Plan, Verify};
use holdfast_core::size::ByteSize;
use holdfast_core::time::{human, short};
use holdfast_core::{DatabaseName, Lsn, SegmentName, SegmentSize, TimelineId};
use holdfast_pg::process::Programs;
use holdfast_pg::server::insert_lsn;
use holdfast_pgformat::history::TimelineHistory;
use holdfast_vault::point::{FailedRun, Point, Verified};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

pub(super) async fn check(ctx: &Context, stocks: &[Stock], live: Option<&Live>, host: &Host) -> Vec<Line> {
    let now = Timestamp::now();
    let mut lines = Vec::new();
    let first = stocks.first().filter(|s| s.known);
    let newest = first.and_then(|s| s.newest.as_ref());
    let major =
        live.map(|l| l.server.version.major.number()).or(newest.map(|p| p.server.version_num / 10_000));
    if let Some(major) = major {
        lines.push(match Programs::find(ctx.db.bin_dir.as_deref(), major) {
            Ok(p) => Line::ok(
                "recovery.programs",
                format!("the programs of postgresql {major} are in `{}`", p.bin().display()),
            ),
            Err(e) => Line {
                message: format!("{e}: points cannot be verified or restored here"),
                ..Line::error("recovery.programs", Status::Warn, &e.into())
            },
        });
    }
    if let Some(stock) = first {
        if let Some(l) = live {
            lines.push(same_cluster(l.server.system_identifier, &stock.clusters, ctx.db.name.as_str()));
        }
        let pause = longest_pause(&ctx.plan);
        lines.push(newest_point(newest.map(|p| p.finished_at), now, pause));
        lines.push(damaged_pages(newest));
        lines.extend(last_run(stock.last_failure.as_ref(), newest.map(|p| p.started_at)));
        lines.extend(verification(&stock.verified, newest.is_some(), ctx.plan.verify, now));
        if let (Some(p), Some(a)) = (newest, &stock.archive) {
            let end = a.latest_for(p.timeline, p.stop_lsn);
            lines.push(continuity(a.segment_size(), &a.segments, &a.history(end), p.redo_lsn));
        }
    }
    if let Some(l) = live {
        lines.extend(archive_owner(ctx, first, l, host).await);
        if let Ok(lsn) = patient(insert_lsn(&l.session, l.server.in_recovery)).await {
            for (i, s) in stocks.iter().enumerate().filter(|(_, s)| s.known) {
                let name =
                    if i == 0 { "recovery.wal-lag".into() } else { format!("vault.{}.wal-lag", s.vault) };
                let end = s.archive.as_ref().and_then(|a| archive_end(a, l.server.timeline));
                lines.push(wal_lag(&name, lsn, end, l.server.wal_segment_size, &ctx.plan));
            }
        }
    }
    lines
}

/// End of the newest segment on `timeline` or on what it descends from.
fn archive_end(a: &WalArchive, timeline: TimelineId) -> Option<Lsn> {
    let h = a.history(timeline);
    last_segment(a.segment_size(), &a.segments, &h).map(|s| s.end(a.segment_size()))
}

type Segments = BTreeMap<TimelineId, BTreeSet<u64>>;

/// The last segment of the path that ends in `history`.
fn last_segment(size: SegmentSize, segments: &Segments, history: &TimelineHistory) -> Option<SegmentName> {
    path(history).rev().find_map(|t| {
        let (_, to) = history.range_of(t)?;
        let numbers = segments.get(&t)?.iter().rev();
        let n = numbers.copied().find(|n| to.is_none_or(|to| size.start_of(*n) < to))?;
        Some(SegmentName::new(t, n, size))
    })
}

fn path(history: &TimelineHistory) -> impl DoubleEndedIterator<Item = TimelineId> {
    history.entries().iter().map(|e| e.timeline).chain([history.timeline()])
}

fn same_cluster(system_id: u64, known: &[u64], db: &str) -> Line {
    const NAME: &str = "recovery.cluster";
    if known.contains(&system_id) {
        return Line::ok(NAME, "the vault knows this server's cluster");
    }
    if known.is_empty() {
        return Line::warn(NAME, format!("the vault holds nothing of `{db}` yet"), "run `holdfast backup`");
    }
    Line::warn(
        NAME,
        format!("the vault holds `{db}` of another cluster, and nothing of this server ({system_id})"),
        "after pg_upgrade or initdb run `holdfast backup --full`; otherwise check `source` in the policy",
    )
}

fn age(now: Timestamp, then: Timestamp) -> Duration {
    Duration::from_secs(now.as_second().saturating_sub(then.as_second()).max(0) as u64)
}

/// An age for people: days once hours get many.
fn aged(d: Duration) -> String {
    if d.as_secs() >= 2 * 86_400 { format!("{} days", d.as_secs() / 86_400) } else { human(d) }
}

/// `pause`: how long the most frequent tier of the policy waits at most.
fn newest_point(finished: Option<Timestamp>, now: Timestamp, pause: Option<Duration>) -> Line {
    const NAME: &str = "recovery.newest-point";
    let Some(at) = finished else {
        return Line::warn(NAME, "there is no recovery point yet", "run `holdfast backup`");
    };
    let old = age(now, at);
    let text = format!("the newest recovery point is {} old ({})", aged(old), short(at));
    match pause {
        // One missed run may be a coincidence; two are not.
        Some(p) if old > 2 * p => Line::warn(
            NAME,
            format!("{text}; the policy makes one every {}", aged(p)),
            "run `holdfast backup`, and see that its timer or cron line works",
        ),
        _ => Line::ok(NAME, text),
    }
}

fn damaged_pages(newest: Option<&Point>) -> Line {
    const NAME: &str = "recovery.damaged-pages";
    match newest.and_then(|p| p.damaged.first().map(|d| (p, d))) {
        None => Line::ok(NAME, "the newest point holds no page that was damaged in the database"),
        Some((p, d)) => Line::fail(
            NAME,
            format!(
                "{} damaged when {} was made, the first in `{}`, block {}",
                super::count(p.damaged.len() as u64, "page"),
                p.id,
                d.path,
                d.block
            ),
            format!(
                "run `holdfast show {}`; restore an earlier point beside the server and mend the table from it",
                p.id
            ),
        ),
    }
}

fn last_run(failure: Option<&FailedRun>, newest_started: Option<Timestamp>) -> Option<Line> {
    const NAME: &str = "recovery.last-run";
    let f = failure.filter(|f| newest_started.is_none_or(|p| f.started_at > p));
    match (f, newest_started) {
        (Some(f), _) => Some(Line::warn(
            NAME,
            format!("the last run failed at {}: {}", short(f.failed_at), f.error),
            f.hint.clone().unwrap_or_else(|| "run `holdfast backup` again".into()),
        )),
        (None, Some(_)) => Some(Line::ok(NAME, "the last run succeeded")),
        (None, None) => None,
    }
}

/// Nothing to say before the first point.
fn verification(all: &[Verified], any_point: bool, plan: Option<Verify>, now: Timestamp) -> Option<Line> {
    const NAME: &str = "recovery.verification";
    if !any_point {
        return None;
    }
    let wanted = plan.map_or("L1", |v| v.level.as_str());
    let hint = format!("run `holdfast verify --level {}`", plan.map_or("L3", |v| v.level.as_str()));
    let passed = |v: &&Verified| v.passed && v.level.as_str() >= wanted;
    let Some(last) = all.iter().filter(passed).max_by_key(|v| v.at) else {
        let text = match plan {
            Some(p) => format!("no point has been verified at {} or higher", p.level),
            None => "no point has ever been verified: nobody knows whether they restore".into(),
        };
        return Some(Line::warn(NAME, text, hint));
    };
    // A failure newer than the last success is the news.
    if let Some(f) = all.iter().filter(|v| !v.passed && v.at > last.at).max_by_key(|v| v.at) {
        let why = f.findings.first().map(String::as_str).unwrap_or("see `holdfast list`");
        return Some(Line::fail(
            NAME,
            format!("the verification of {} failed at {}: {why}", f.point, short(f.at)),
            hint,
        ));
    }
    let old = age(now, last.at);
    let text = format!("{} was verified at {} {} ago", last.point, last.level, aged(old));
    Some(match plan {
        Some(p) if old > p.every.std() => {
            Line::warn(NAME, format!("{text}; the policy wants it every {}", p.every), hint)
        }
        _ => Line::ok(NAME, text),
    })
}

/// Is there every segment from the point to the end of the archive?
fn continuity(size: SegmentSize, segments: &Segments, history: &TimelineHistory, redo: Lsn) -> Line {
    const NAME: &str = "recovery.wal-continuity";
    let first = size.segment_of(redo);
    let Some(last) = last_segment(size, segments, history).filter(|s| s.number(size) >= first) else {
        return Line::fail(
            NAME,
            "the archive holds no wal from the newest point on",
            "see `postgres.archiver` above; run `holdfast check`",
        );
    };
    // A segment may be there under any timeline of the path that reaches into it.
    let there: BTreeSet<u64> = path(history)
        .filter_map(|t| Some((history.range_of(t)?, segments.get(&t)?)))
        .flat_map(|((from, to), numbers)| {
            numbers
                .iter()
                .copied()
                .filter(move |n| size.start_of(*n + 1) > from && to.is_none_or(|to| size.start_of(*n) < to))
        })
        .collect();
    let mut gaps = (first..=last.number(size)).filter(|n| !there.contains(n));
    match gaps.next() {
        None => Line::ok(NAME, format!("the wal from the newest point to {last} is complete")),
        Some(gap) => {
            let name = SegmentName::new(history.timeline(), gap, size);
            Line::fail(
                NAME,
                format!(
                    "{} missing between the newest point and {last}, first {name}: what follows cannot be recovered",
                    super::count(1 + gaps.count() as u64, "segment")
                ),
                "run `holdfast backup` now; if a segment is still in a pg_wal, run `holdfast wal push` with its path",
            )
        }
    }
}

fn wal_lag(name: &str, insert: Lsn, end: Option<Lsn>, size: SegmentSize, plan: &Plan) -> Line {
    let Some(end) = end else {
        return Line::warn(
            name,
            "the archive holds no wal of this server yet",
            "set archive_command as `postgres.archive-command` says, then run `select pg_switch_wal()`",
        );
    };
    let behind = insert.bytes_since(end);
    let text = format!("the archive is {} behind the server", ByteSize(behind));
    if behind > 2 * size.bytes() {
        let rpo = plan.rpo.map(|r| format!("; the policy promises an rpo of {r}")).unwrap_or_default();
        return Line::warn(
            name,
            format!("{text}{rpo}"),
            "see `postgres.archiver` and `postgres.archive-backlog` above, and `holdfast wal status`",
        );
    }
    Line::ok(name, text)
}

/// Does the archive belong to this data directory? Asked only where the answer leaves no trace.
async fn archive_owner(ctx: &Context, stock: Option<&Stock>, live: &Live, host: &Host) -> Option<Line> {
    const NAME: &str = "recovery.archive-owner";
    let cluster = stock?.cluster.as_ref()?;
    let dir = host.data_dir.as_deref()?;
    // A standby's archive is its primary's.
    if !token_exists(&ctx.state, &ctx.db.name) || live.server.in_recovery {
        return None;
    }
    let token = ctx.state.owner_token(&ctx.db.name, dir).ok()?;
    Some(match owner_of(cluster, live.server.timeline).await {
        Ok(owner) => owner_line(owner.map(|o| (o.token == token, o.host)), live.server.timeline),
        Err(e) => Line::error(NAME, Status::Warn, &e),
    })
}

/// Asking for a token makes one; a token of root's would lock the server out.
fn token_exists(state: &State, db: &DatabaseName) -> bool {
    let path: &Path = &state.dir().join("owner").join(format!("{db}.token"));
    std::fs::read_to_string(path).is_ok()
}

/// `owner`: is it us, and its host.
fn owner_line(owner: Option<(bool, String)>, timeline: TimelineId) -> Line {
    const NAME: &str = "recovery.archive-owner";
    match owner {
        None => {
            Line::ok(NAME, format!("timeline {timeline} belongs to nobody yet; the first push claims it"))
        }
        Some((true, _)) => Line::ok(NAME, "the archive belongs to this data directory"),
        Some((false, host)) => Line::fail(
            NAME,
            format!(
                "timeline {timeline} of the archive belongs to another data directory (host {host}): wal is refused"
            ),
            "if this server has taken over for good, run `holdfast wal adopt`; a copy must not archive at all",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::policy::VerifyLevel;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + s).unwrap()
    }

    const DAY: i64 = 86_400;

    #[test]
    fn points_grow_old_by_the_policys_schedule() {
        let day = Some(Duration::from_secs(DAY as u64));
        assert_eq!(newest_point(None, at(0), day).status, Status::Warn);
        assert_eq!(newest_point(Some(at(0)), at(2 * DAY), day).status, Status::Ok);
        assert_eq!(newest_point(Some(at(0)), at(2 * DAY + 1), day).status, Status::Warn);
        assert_eq!(newest_point(Some(at(0)), at(900 * DAY), None).status, Status::Ok);
        assert_eq!(newest_point(Some(at(9)), at(0), day).status, Status::Ok, "a clock that went back");
    }

    fn verified(level: &str, passed: bool, t: i64) -> Verified {
        Verified {
            point: holdfast_core::RunId::generate(at(0)),
            level: level.into(),
            passed,
            findings: vec!["bad page".into()],
            seconds: 1.0,
            restore_seconds: None,
            at: at(t),
            host: "h".into(),
            tool: "t".into(),
        }
    }

    #[test]
    fn verification_is_recent_enough_and_high_enough() {
        let plan =
            Some(Verify { level: VerifyLevel::L3, every: holdfast_core::time::Duration(7 * DAY as u64) });
        let judge = |all: &[Verified], plan, now| verification(all, true, plan, at(now)).unwrap().status;
        assert_eq!(verification(&[], false, plan, at(0)), None);
        assert_eq!(judge(&[], plan, 0), Status::Warn);
        assert_eq!(judge(&[], None, 0), Status::Warn);
        assert_eq!(judge(&[verified("L2", true, 0)], plan, 1), Status::Warn);
        assert_eq!(judge(&[verified("L2", true, 0)], None, 400 * DAY), Status::Ok);
        let both = [verified("L3", true, 0), verified("L4", true, 5)];
        assert_eq!(judge(&both, plan, 7 * DAY), Status::Ok);
        assert_eq!(judge(&both, plan, 8 * DAY), Status::Warn);
        assert_eq!(judge(&[verified("L3", true, 0), verified("L3", false, 5)], plan, 9), Status::Fail);
    }

    fn wal(list: &[(u32, &[u64])]) -> Segments {
        list.iter().map(|(t, n)| (TimelineId(*t), n.iter().copied().collect())).collect()
    }

    #[test]
    fn gaps_are_found_along_the_timelines() {
        let size = SegmentSize::DEFAULT;
        let redo = size.start_of(3);
        let one = TimelineHistory::root(TimelineId(1));
        let judge = |s: &Segments, h: &TimelineHistory| continuity(size, s, h, redo).status;
        assert_eq!(judge(&wal(&[(1, &[3, 4, 5])]), &one), Status::Ok);
        assert_eq!(judge(&wal(&[(1, &[1, 3, 4])]), &one), Status::Ok, "a gap before the point");
        assert_eq!(judge(&wal(&[(1, &[3, 5])]), &one), Status::Fail);
        assert_eq!(judge(&wal(&[(1, &[4, 5])]), &one), Status::Fail);
        assert_eq!(judge(&wal(&[(1, &[2])]), &one), Status::Fail);
        assert_eq!(judge(&wal(&[]), &one), Status::Fail);
        // Timeline 2 leaves in the middle of segment 5, which is there under its own name.
        let two = one.child(TimelineId(2), Lsn(size.start_of(5).0 + 100), "promoted").unwrap();
        assert_eq!(judge(&wal(&[(1, &[3, 4]), (2, &[5, 6])]), &two), Status::Ok);
        assert_eq!(
            judge(&wal(&[(1, &[3, 4, 5, 6, 7]), (2, &[7])]), &two),
            Status::Fail,
            "6 is another branch's"
        );
        let line = continuity(size, &wal(&[(1, &[3]), (2, &[7])]), &two, redo);
        assert!(line.message.contains("3 segments missing"), "{}", line.message);
        assert_eq!(last_segment(size, &wal(&[(1, &[3, 9])]), &two).unwrap().number(size), 3);
    }

    #[test]
    fn lag_is_counted_in_segments() {
        let size = SegmentSize::DEFAULT;
        let judge = |end| wal_lag("recovery.wal-lag", size.start_of(10), end, size, &Plan::default()).status;
        assert_eq!(judge(None), Status::Warn);
        assert_eq!(judge(Some(size.start_of(11))), Status::Ok);
        assert_eq!(judge(Some(size.start_of(8))), Status::Ok);
        assert_eq!(judge(Some(size.start_of(7))), Status::Warn);
    }

    #[test]
    fn clusters_owners_and_failures() {
        assert_eq!(same_cluster(1, &[2, 1], "a").status, Status::Ok);
        assert_eq!(same_cluster(1, &[2], "a").status, Status::Warn);
        assert_eq!(same_cluster(1, &[], "a").hint.as_deref(), Some("run `holdfast backup`"));
        let t = TimelineId(1);
        assert_eq!(owner_line(None, t).status, Status::Ok);
        assert_eq!(owner_line(Some((true, "h".into())), t).status, Status::Ok);
        assert_eq!(owner_line(Some((false, "h".into())), t).status, Status::Fail);
        let f = FailedRun {
            run: holdfast_core::RunId::generate(at(0)),
            kind: "full".into(),
            started_at: at(10),
            failed_at: at(11),
            error: "no space".into(),
            hint: None,
            host: "h".into(),
        };
        assert_eq!(last_run(Some(&f), Some(at(5))).unwrap().status, Status::Warn);
        assert_eq!(last_run(Some(&f), Some(at(20))).unwrap().status, Status::Ok);
        assert_eq!(last_run(None, None), None);
    }
}
