//! `restore --standby`: a copy that follows, and an old primary that follows the one that replaced it.

use crate::common::{DB, Site, fingerprint, path_text};
use crate::delta::number;
use holdfast_testkit::{Cluster, PgVersion, StopMode, version};
use std::fs;
use std::time::Duration;

fn streams(primary: &Cluster, standby: &Cluster) {
    crate::common::eventually("the standby streams", || {
        standby.sql("postgres", "select status from pg_stat_wal_receiver") == "streaming"
    });
    let n = primary.sql("postgres", "insert into t select max(id) + 1 from t returning id");
    crate::common::eventually("the standby catches up", || {
        standby.sql("postgres", "select max(id) from t") == n.lines().next().unwrap_or_default()
    });
    assert!(standby.is_in_recovery());
}

fn standbys_are_seeded(pg_version: PgVersion) {
    if !version::supported_in_test().contains(&pg_version) {
        return;
    }
    let mut site = Site::new(&format!("standby{pg_version}"), pg_version);
    site.sql(
        "create table t(id int); insert into t values (1); \
         create table big as select g, repeat('b', 400) b from generate_series(1, 50000) g; vacuum",
    );
    let _ = site.backup(&[]);
    site.sql("insert into t values (2)");
    site.pg.wait_archived();
    site.sql("select from pg_create_physical_replication_slot('replica', true)");
    // What makes no sense says so.
    let conninfo = site.pg.conninfo();
    for (args, part) in [
        (&["--standby", "--immediate"][..], "cannot be used with"),
        (&["--standby", "--target-action", "pause"], "cannot be used with"),
        (&["--standby", "--exclusive"], "cannot be used with"),
        (&["--primary-conninfo", "host=x"], "--standby"),
        (&["--standby", "--primary-slot", "s"], "--primary-conninfo"),
        (&["--standby", "--timeline", "1"], "latest"),
        (&["--standby", "--primary-conninfo", "host=x password=hunter2"], "password"),
        (&["--standby", "--primary-conninfo", "postgresql://me:hunter2@x/"], "password"),
        (&["--standby", "--primary-conninfo", "nonsense"], "connection string"),
        (&["--standby", "--primary-conninfo", "host=x", "--primary-slot", "No!"], "slot"),
    ] {
        let out = site.try_restore("no", args).expect_code(2);
        let said = out.transcript();
        assert!(said.contains(part), "{args:?}: {said}");
        assert!(!out.stdout.contains("hunter2") && !out.stderr.contains("hunter2"), "{said}");
    }
    let push = format!("archive_command={}", site.archive_command);
    let follow = ["--standby", "--primary-conninfo", &conninfo, "--primary-slot", "replica"];
    let _ = site.restore("two", &[&follow[..], &["--set", "archive_mode=on", "--set", &push]].concat());
    let dir = site.scratch.path("two");
    assert!(dir.join("standby.signal").exists() && !dir.join("recovery.signal").exists());
    let auto = fs::read_to_string(dir.join("postgresql.auto.conf")).expect("settings");
    assert!(auto.contains("recovery_target_timeline = 'latest'"), "{auto}");
    let two = site.copy("two").start();
    streams(&site.pg, &two);
    assert_eq!(site.sql("select active from pg_replication_slots where slot_name = 'replica'"), "t");
    // Without a primary it follows the archive.
    let _ = site.restore("three", &["--standby"]);
    let three = site.copy("three").start();
    let last = site.sql("insert into t select max(id) + 1 from t returning id");
    let last = last.lines().next().unwrap_or_default().to_owned();
    site.pg.wait_archived();
    crate::common::eventually("the archive is followed", || {
        three.sql("postgres", "select max(id) from t") == last
    });
    assert!(three.is_in_recovery());
    drop(three);

    // The primary goes on alone for a while, then dies: a row that nobody else has.
    // In the middle of a segment, which then exists on both branches.
    streams(&site.pg, &two);
    let mut two = two;
    two.stop(StopMode::Fast);
    site.sql("insert into t values (1000000); update big set b = 'lost' where g = 5; checkpoint");
    site.archive_with("false");
    site.sql("insert into t values (1000001)");
    site.pg.switch_wal();
    site.pg.kill9();
    two.start();
    two.promote();
    two.wait_recovery_end(Duration::from_secs(60));
    let _ = site.hf.run(&["wal", "adopt", DB, "--data-dir", &path_text(&dir)]).ok();
    let mut old = site.move_to(two);
    site.sql("insert into t values (2000000); checkpoint");
    site.sql("select from pg_create_physical_replication_slot('old', true)");
    if pg_version == PgVersion::NEWEST {
        // The archive has the branch, and nothing that lies on it: the rest can only be streamed.
        crate::common::eventually("the history is archived", || {
            // An archiver that was refused three times sleeps for a minute; this wakes it.
            site.sql("select pg_reload_conf()");
            site.vault_files().iter().any(|f| f.contains("/00000002.history"))
        });
        assert!(!site.vault_files().iter().any(|f| f.contains("/000000020000")), "a segment was archived");
    } else {
        site.pg.wait_archived();
    }
    // The old primary cannot follow as it is; re-seeded it can, and little is written.
    let conninfo = site.pg.conninfo();
    let follow = ["--delta", "--standby", "--primary-conninfo", &conninfo, "--primary-slot", "old"];
    let plan = site.restore("main", &[&follow[..], &["--plan"]].concat());
    assert!(plan["notes"].to_string().contains("were not archived"), "{plan}");
    assert_eq!(plan["delta"]["state"], "in production", "{plan}");
    let done = site.restore("main", &follow);
    let size = done["plan"]["size_bytes"].as_u64().expect("size");
    let rewritten = number(&done, "rewritten_bytes");
    assert!(rewritten < size / 10, "rewrote {rewritten} of {size}");
    old.start();
    streams(&site.pg, &old);
    assert_eq!(old.sql("postgres", "select count(*) from t where id in (1000000, 1000001)"), "0");
    assert_eq!(fingerprint(&old, "postgres"), fingerprint(&site.pg, "postgres"));
    old.stop(StopMode::Fast);
    old.check_checksums();
}

#[test]
fn delta_standbys_are_seeded_on_15() {
    standbys_are_seeded(PgVersion::V15);
}

#[test]
fn delta_standbys_are_seeded_on_18() {
    standbys_are_seeded(PgVersion::V18);
}
