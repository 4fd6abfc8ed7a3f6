//! Where a restore can go to, and what it says when it cannot.

use crate::common::{Site, error_of, text};
use holdfast_testkit::{Output, PgVersion, version};
use std::thread::sleep;
use std::time::Duration;

fn refused(out: Output, code: i32) -> (String, String, String) {
    error_of(&out.expect_code(code))
}

/// A time: to the moment before a mistake, on every version.
fn to_a_time(pg_version: PgVersion) {
    if !version::supported_in_test().contains(&pg_version) {
        return;
    }
    let site = Site::new(&format!("time{pg_version}"), pg_version);
    site.sql("create table victim as select g from generate_series(1, 1000) g; create table t(id int)");
    let begin = site.pg.now();
    let first = site.backup(&[]);
    site.sql("insert into t values (1); insert into victim values (0)");
    sleep(Duration::from_millis(20));
    let before_drop = site.pg.now();
    sleep(Duration::from_millis(20));
    site.sql("drop table victim; insert into t values (2)");
    site.pg.wait_archived();

    // The plan says where it goes, and touches nothing.
    let plan = site.restore("plan", &["--at", &before_drop, "--plan"]);
    assert_eq!(plan["point"], first["id"], "{plan}");
    assert_eq!(plan["server_target"]["kind"], "time", "{plan}");
    assert!(
        plan["size_bytes"].is_u64() && plan["wal_segments"].is_u64() && plan["free_bytes"].is_u64(),
        "{plan}"
    );
    let to = site.scratch.path("plan");
    let _ = site
        .hf
        .run(&["restore", "app", "--to", &to.display().to_string(), "--at", &before_drop, "--plan"])
        .ok()
        .says("nothing was touched")
        .says(text(&first["id"]));
    assert!(!to.exists(), "--plan touches nothing");

    let copy = site.restore_and_start("copy", &["--at", &before_drop]);
    assert_eq!(copy.sql("postgres", "select count(*), min(g) from victim"), "1001|0");
    assert_eq!(copy.sql("postgres", "select string_agg(id::text, ',') from t"), "1");
    drop(copy);

    // A second point, and then only WAL without the end of any transaction behind the target.
    let second = site.backup(&[]);
    site.sql("insert into t values (3)");
    sleep(Duration::from_millis(1200));
    let quiet = site.pg.now();
    sleep(Duration::from_millis(1200));
    site.sql("checkpoint");
    let segment = site.sql("select pg_walfile_name(pg_switch_wal())");
    site.pg.wait_segment_archived(&segment);
    let plan = site.restore("quiet", &["--at", &quiet, "--plan"]);
    assert_eq!(plan["point"], second["id"]);
    assert!(plan["notes"].to_string().contains("no transaction ended after the target"), "{plan}");
    let copy = site.restore_and_start("quiet", &["--at", &quiet]);
    assert_eq!(copy.sql("postgres", "select string_agg(id::text, ',' order by id) from t"), "1,2,3");
    drop(copy);

    // Times that cannot be reached say what can.
    let (code, _, hint) = refused(site.try_restore("no", &["--at", &begin]), 10);
    assert_eq!(code, "not-found");
    assert!(hint.contains("earliest possible is 20"), "{hint}");
    let (_, _, hint) = refused(site.try_restore("no", &["--at", "2090-01-01T00:00:00Z"]), 10);
    assert!(hint.contains("latest possible is 20"), "{hint}");
    let (code, _, hint) = refused(site.try_restore("no", &["--at", "2026-11-21 09:35:00"]), 2);
    assert_eq!(code, "usage");
    assert!(!hint.is_empty());
    let (_, _, hint) = refused(site.try_restore("no", &["--at", "yesterday-ish"]), 2);
    assert!(hint.contains("10 minutes ago"), "{hint}");
    // The hint of the earliest is itself a target.
    let (_, _, hint) = refused(site.try_restore("no", &["--at", "2 hours ago"]), 10);
    let earliest = hint.rsplit(' ').next().expect("a time");
    let plan = site.restore("no", &["--at", earliest, "--plan"]);
    assert_eq!(plan["point"], first["id"]);
    assert!(!site.scratch.path("no").exists());

    // Relative times count from now; something ends after it.
    // On a busy machine what was just archived may be older than that when the plan is made.
    let mut tries = [3, 6, 12, 24].into_iter().map(|n| {
        sleep(Duration::from_secs(n + 1));
        site.pg.wait_archived();
        site.try_restore("no", &["--at", &format!("{n} seconds ago"), "--plan"])
    });
    let plan = tries.find(|out| out.code == 0).expect("a plan").json();
    assert_eq!((&plan["server_target"]["kind"], &plan["point"]), (&"time".into(), &second["id"]), "{plan}");
}

#[test]
fn to_a_time_on_15() {
    to_a_time(PgVersion::V15);
}

#[test]
fn to_a_time_on_17() {
    to_a_time(PgVersion::V17);
}

#[test]
fn to_a_time_on_18() {
    to_a_time(PgVersion::V18);
}

/// Positions, transactions, names, consistency; before or after; and what happens there.
fn to_a_record(pg_version: PgVersion) {
    if !version::supported_in_test().contains(&pg_version) {
        return;
    }
    let site = Site::new(&format!("record{pg_version}"), pg_version);
    site.sql("create table t(id int)");
    let too_early = site.pg.current_lsn();
    let first = site.backup(&[]);
    site.sql("insert into t values (1)");
    let lsn = site.pg.current_lsn();
    site.sql("insert into t values (2)");
    let xid = site.sql("begin; insert into t values (3); select pg_current_xact_id(); commit;");
    site.sql("insert into t values (4); select from pg_create_restore_point('before it all'); insert into t values (5)");
    let second = site.backup(&[]);
    let stop = text(&second["stop_lsn"]).to_owned();
    site.sql("insert into t values (6)");
    site.pg.wait_archived();
    let ids = |name: &str, args: &[&str]| {
        let copy = site.restore_and_start(name, args);
        copy.sql("postgres", "select string_agg(id::text, '' order by id) from t")
    };
    assert_eq!(ids("lsn", &["--lsn", &lsn]), "1");
    assert_eq!(ids("xid", &["--xid", &xid]), "123");
    assert_eq!(ids("before", &["--xid", &xid, "--exclusive"]), "12");
    assert_eq!(ids("name", &["--name", "before it all"]), "1234");
    assert_eq!(ids("now", &["--immediate"]), "12345");
    assert_eq!(ids("first", &["--immediate", "--point", text(&first["id"])]), "");
    let plan = site.restore("no", &["--lsn", &stop, "--plan"]);
    assert_eq!(plan["point"], second["id"], "the newest point that fits: {plan}");
    let plan = site.restore("no", &["--name", "before it all", "--plan"]);
    assert_eq!(plan["point"], first["id"], "the newest point before the record: {plan}");

    // Pause: it waits for a person, readable, and goes on when told to.
    let _ = site.restore("pause", &["--lsn", &lsn, "--target-action", "pause"]);
    let mut copy = site.copy("pause").start();
    crate::common::eventually("recovery pauses at the target", || {
        copy.sql("postgres", "select pg_get_wal_replay_pause_state()") == "paused"
    });
    assert_eq!(copy.sql("postgres", "select string_agg(id::text, '') from t"), "1");
    copy.sql("postgres", "select pg_wal_replay_resume()");
    copy.wait_recovery_end(Duration::from_secs(60));
    drop(copy);

    for (args, part) in [
        (["--name", "never made"], "never made"),
        (["--xid", "999999"], "999999"),
        (["--lsn", &too_early], "before every"),
        (["--lsn", "F/0"], "end of the archived wal"),
        (["--point", "20010101T000000Z-aaaaaaaa"], "no point"),
        (["--timeline", "9"], "timeline"),
    ] {
        let (_, message, hint) = refused(site.try_restore("no", &args), 10);
        assert!(message.contains(part), "{args:?}: {message}");
        assert!(!hint.is_empty(), "{args:?}: {message}");
    }
    let _ = refused(site.try_restore("no", &["--lsn", "nonsense"]), 2);
    let _ = refused(site.try_restore("no", &["--target-action", "dance"]), 2);
    let _ = site.try_restore("no", &["--immediate", "--lsn", &lsn]).expect_code(2);
    assert!(!site.scratch.path("no").exists(), "a refused restore leaves nothing");
}

#[test]
fn to_a_record_on_15() {
    to_a_record(PgVersion::V15);
}

#[test]
fn to_a_record_on_18() {
    to_a_record(PgVersion::V18);
}
