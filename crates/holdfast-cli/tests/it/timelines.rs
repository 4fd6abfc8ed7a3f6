//! Recovery, promotion, and backups that go on: the archive of several histories.

use crate::common::{DB, Site, path_text, text};
use holdfast_testkit::{Cluster, PgVersion, StopMode, version};
use std::fs;
use std::time::Duration;

/// Turns archiving on in a promoted copy, and makes it the database.
fn take_over(site: &mut Site, mut copy: Cluster, name: &str) -> Cluster {
    copy.stop(StopMode::Fast);
    drop(copy);
    let copy = site.copy(name).archive_command(&site.archive_command).start();
    let _ = site.hf.run(&["wal", "adopt", DB, "--data-dir", &path_text(copy.data_dir())]).ok();
    let old = site.move_to(copy);
    site.pg.wait_archived();
    old
}

fn ids(pg: &Cluster) -> String {
    pg.sql("postgres", "select string_agg(id, '' order by id) from t")
}

fn three_timelines(pg_version: PgVersion) {
    if !version::supported_in_test().contains(&pg_version) {
        return;
    }
    let mut site = Site::new(&format!("tl{pg_version}"), pg_version);
    site.sql("create table t(id text)");
    let first = site.backup(&[]);
    site.sql("insert into t values ('a')");
    let fork = site.pg.current_lsn();
    site.pg.wait_archived();

    // Timeline 1 goes on behind the fork.
    let copy = site.restore_and_start("two", &["--lsn", &fork]);
    site.sql("insert into t values ('b')");
    site.pg.wait_archived();
    assert_eq!(ids(&copy), "a");
    let old = take_over(&mut site, copy, "two");
    site.sql("insert into t values ('c')");
    let second = site.backup(&[]);
    assert_eq!((&second["timeline"], &first["timeline"]), (&2.into(), &1.into()), "{second}");
    site.sql("insert into t values ('d')");
    site.pg.wait_archived();
    // The old server still believes in timeline 1; nobody took that from it, and it owns only that.
    drop(old);

    // Latest follows the promotion, also from the point before it.
    let copy = site.restore_and_start("three", &[]);
    assert_eq!(ids(&copy), "acd");
    let other = site.restore_and_start("other", &["--point", text(&first["id"])]);
    assert_eq!(ids(&other), "acd");
    drop(other);
    let other = site.restore_and_start("one", &["--timeline", "1"]);
    assert_eq!(ids(&other), "ab");
    drop(other);
    let plan = site.restore("no", &["--timeline", "current", "--plan"]);
    assert_eq!((&plan["timeline"], &plan["point"]), (&2.into(), &second["id"]));
    let _ = site.try_restore("no", &["--timeline", "1", "--point", text(&second["id"])]).expect_code(10);

    let old = take_over(&mut site, copy, "three");
    site.sql("insert into t values ('e')");
    let third = site.backup(&[]);
    assert_eq!(third["timeline"], 3);
    site.sql("insert into t values ('f')");
    site.pg.wait_archived();
    drop(old);
    let copy = site.restore_and_start("four", &[]);
    assert_eq!(ids(&copy), "acdef");
    drop(copy);
    let plan = site.restore("no", &["--timeline", "2", "--plan"]);
    assert_eq!((&plan["timeline"], &plan["point"]), (&2.into(), &second["id"]), "{plan}");

    // What a timeline leaves behind besides segments.
    let files = site.vault_files();
    for part in ["/00000002.history", "/00000003.history", ".backup"] {
        assert!(files.iter().any(|f| f.contains(part)), "{part} in {files:?}");
    }
    let (code, got) = site.wal_get("00000003.history", "1s");
    assert_eq!(code, 0);
    let history = fs::read_to_string(got).expect("a history");
    assert_eq!(history.lines().filter(|l| l.starts_with(['1', '2'])).count(), 2, "{history}");
    let status = site.wal_status();
    let numbers: Vec<u64> = status["timelines"]
        .as_array()
        .expect("timelines")
        .iter()
        .filter_map(|t| t["timeline"].as_u64())
        .collect();
    assert_eq!(numbers, [1, 2, 3], "{status}");
    assert_eq!(status["gaps"].as_array().map(Vec::len), Some(0), "{status}");
    let _ = site.hf.run(&["check"]).ok();
    let _ = site.hf.run(&["verify", text(&third["id"])]).ok();
}

#[test]
fn three_timelines_on_15() {
    three_timelines(PgVersion::V15);
}

#[test]
fn three_timelines_on_18() {
    three_timelines(PgVersion::V18);
}

/// Timelines are hexadecimal in names: 10 is 0000000A.
#[test]
fn the_eleventh_timeline() {
    let mut site = Site::new("tl11", PgVersion::V17);
    site.sql("create table t(id text)");
    let _ = site.backup(&[]);
    site.sql("insert into t values ('a')");
    site.pg.wait_archived();
    let copy = site.restore_and_start("copy", &[]);
    let _old = take_over(&mut site, copy, "copy");
    for _ in 3..=11 {
        site.pg.stop(StopMode::Fast);
        site.scratch.write("copy/recovery.signal", "");
        site.pg.start();
        site.pg.wait_recovery_end(Duration::from_secs(60));
    }
    assert_eq!(site.sql("select timeline_id from pg_control_checkpoint()"), "11");
    site.sql("insert into t values ('b')");
    site.pg.wait_archived();
    let point = site.backup(&[]);
    assert_eq!(point["timeline"], 11);
    site.sql("insert into t values ('c')");
    site.pg.wait_archived();
    assert!(site.vault_files().iter().any(|f| f.ends_with("/0000000B.history")));
    let copy = site.restore_and_start("last", &[]);
    assert_eq!(ids(&copy), "abc");
    assert_eq!(copy.sql("postgres", "select timeline_id from pg_control_checkpoint()"), "12");
    let plan = site.restore("no", &["--timeline", "10", "--plan"]);
    assert_eq!(plan["timeline"], 10, "{plan}");
}

/// A promoted standby archives the half-written segment of its old timeline as `.partial`.
#[test]
fn a_partial_segment_is_kept_apart() {
    let mut site = Site::new("partial", PgVersion::NEWEST);
    site.sql("create table t(id text)");
    site.pg.wait_archived();
    site.sql("insert into t values ('a')");
    let standby = site.pg.standby("standby").archive_command(&site.archive_command).start();
    site.sql("insert into t values ('b')");
    crate::common::eventually("the standby follows", || ids(&standby) == "ab");
    site.pg.stop(StopMode::Immediate);
    standby.promote();
    let _ = site.hf.run(&["wal", "adopt", DB, "--data-dir", &path_text(standby.data_dir())]).ok();
    // The archiver sleeps for a minute after it was refused; a new segment wakes it.
    crate::common::eventually("what was left of timeline 1 is archived", || {
        standby.switch_wal();
        std::thread::sleep(Duration::from_millis(500));
        site.vault_files().iter().any(|f| f.ends_with(".partial"))
    });
    standby.wait_archived();
    let partial =
        site.vault_files().into_iter().find(|f| f.ends_with(".partial")).expect("a partial segment");
    let name = partial.rsplit('/').next().expect("a name").to_owned();
    assert_eq!(site.wal_get(&name, "1s").0, 0);
    assert_eq!(site.wal_get(name.trim_end_matches(".partial"), "1s").0, 1);
}
