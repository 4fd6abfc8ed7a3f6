//! Clusters: every version, crashes, archiving, restored directories.

use std::time::Duration;

use holdfast_testkit::version::supported_in_test;
use holdfast_testkit::{Cluster, PgVersion, Scratch, StopMode, damage};

fn each_version(test: impl Fn(PgVersion, &Scratch)) {
    for version in supported_in_test() {
        let scratch = Scratch::new(&format!("kit-{version}"));
        test(version, &scratch);
    }
}

#[test]
fn starts_stops_and_survives_kill_9() {
    each_version(|version, scratch| {
        let mut cluster = Cluster::builder(scratch, "main", version).checksums(true).start();
        let shown = cluster.sql("postgres", "show server_version_num");
        assert!(shown.starts_with(&version.to_string()), "{shown}");
        cluster.sql("postgres", "create table t as select generate_series(1, 1000) as i");
        cluster.restart();
        cluster.sql("postgres", "insert into t values (0)");
        cluster.kill9();
        assert!(!cluster.is_running());
        cluster.start();
        assert_eq!(cluster.sql("postgres", "select count(*) from t"), "1001");
        assert!(cluster.try_sql("postgres", "select * from missing").is_err());
        assert_eq!(cluster.control("Data page checksum version"), "1");
        cluster.amcheck();
        assert!(cluster.waldump(&["-n", "1", &cluster.switch_wal()]).contains("rmgr:"));
        cluster.stop(StopMode::Fast);
        cluster.check_checksums();
    });
}

#[test]
fn archives_and_restores_to_a_point() {
    each_version(|version, scratch| {
        let archive = scratch.make_dir("archive");
        let copy = format!("cp %p {}/%f", archive.display());
        let cluster = Cluster::builder(scratch, "main", version)
            .checksums(false)
            .wal_segsize_mb(1)
            .waldir(scratch.path("wal"))
            .archive_command(&copy)
            .start();
        let space = cluster.create_tablespace("space");
        cluster.sql("postgres", "create table t (i int) tablespace space; insert into t values (1)");
        assert!(!damage::files_under(&space).is_empty());
        cluster.sql("postgres", "create table u (i int); drop table t; drop tablespace space");
        cluster.pgbench_init(1);
        let restored = scratch.path("restored");
        cluster.basebackup(&restored);
        cluster.sql("postgres", "insert into u values (1)");
        let target = cluster.current_lsn();
        cluster.sql("postgres", "insert into u values (2)");
        let segment = cluster.wait_archived();
        assert!(archive.join(&segment).exists());

        std::fs::write(restored.join("recovery.signal"), "").unwrap();
        let fetch = format!("cp {}/%f %p", archive.display());
        let mut copy = Cluster::builder(scratch, "copy", version)
            .from_data_dir(&restored)
            .setting("archive_mode", "off")
            .setting("restore_command", &fetch)
            .setting("recovery_target_lsn", &target)
            .setting("recovery_target_action", "promote")
            .start();
        copy.wait_recovery_end(Duration::from_secs(60));
        assert_eq!(copy.sql("postgres", "select count(*) from u"), "1");
        assert_eq!(copy.sql("postgres", "select count(*) from pgbench_accounts"), "100000");
        assert!(cluster.pgbench_run(1, 2).contains("tps"));
    });
}

#[test]
fn a_standby_is_promoted() {
    let scratch = Scratch::new("kit-standby");
    let main = Cluster::builder(&scratch, "main", PgVersion::NEWEST).fresh_initdb().start();
    main.sql("postgres", "create table t as select 1 as i");
    let mut standby = main.standby("standby").start();
    assert!(standby.is_in_recovery());
    standby.promote();
    standby.wait_recovery_end(Duration::from_secs(10));
    assert_eq!(standby.sql("postgres", "select i from t"), "1");
    assert_eq!(main.dump("postgres"), standby.dump("postgres"));
    let id = "Database system identifier";
    assert_eq!(main.control(id), standby.control(id));
    let other = Cluster::builder(&scratch, "other", PgVersion::NEWEST).create();
    assert_ne!(main.control(id), other.control(id));
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let scratch = Scratch::new("kit-broken");
    let builder = Cluster::builder(&scratch, "main", PgVersion::NEWEST);
    let error = builder.setting("shared_buffers", "nonsense").try_start().unwrap_err();
    assert!(error.contains("shared_buffers"), "{error}");
}
