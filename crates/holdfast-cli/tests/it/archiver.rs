//! Servers that do not archive, or cannot: a backup still stands on its own.

use crate::common::{Site, eventually, fingerprint, server};
use holdfast_testkit::{Cluster, PgVersion, Scratch};

fn warned(point: &serde_json::Value) -> String {
    let warnings = point["warnings"].to_string();
    assert!(warnings.contains("wal") || warnings.contains("archiv"), "{point}");
    warnings
}

fn stands_on_its_own(site: &Site, name: &str) {
    site.sql("create table if not exists t as select g from generate_series(1, 1000) g");
    let expected = fingerprint(&site.pg, "postgres");
    let point = site.backup(&[]);
    warned(&point);
    let copy = site.restore_and_start(name, &["--immediate"]);
    assert_eq!(fingerprint(&copy, "postgres"), expected);
    drop(copy);
    // The next one too, on top of it, under load that goes through segments.
    let load = site.pg.pgbench_spawn(20, 1);
    let point = site.backup(&[]);
    drop(load);
    warned(&point);
    let _ = site.hf.run(&["verify"]).ok();
    let _ = site.hf.run(&["check"]).ok();
    let _ = site.hf.run(&["doctor"]).expect_code(5).says("FAIL");
}

#[test]
fn archiving_is_off() {
    let scratch = Scratch::new("noarch");
    let pg = Cluster::builder(&scratch, "main", PgVersion::NEWEST)
        .wal_segsize_mb(1)
        .setting("archive_mode", "off")
        .start();
    let site = Site::with(pg, &scratch, &[]);
    site.pg.pgbench_init(1);
    stands_on_its_own(&site, "copy");
    let status = site.wal_status();
    assert!(status["segments"].as_u64() > Some(0), "what a point needs is in the vault: {status}");
}

#[test]
fn archiving_fails() {
    let scratch = Scratch::new("badarch");
    let pg = server(&scratch, "main", PgVersion::V15).start();
    let site = Site::with(pg, &scratch, &[]);
    site.archive_with("exit 1");
    site.pg.pgbench_init(1);
    site.pg.switch_wal();
    eventually("the archiver has failed", || {
        site.sql("select failed_count > 0 from pg_stat_archiver") == "t"
    });
    stands_on_its_own(&site, "copy");
    // When archiving is repaired, what a backup had stored itself is pushed again without a conflict.
    site.archive_with(&site.archive_command);
    site.pg.wait_archived();
    let status = site.wal_status();
    assert_eq!(status["gaps"].as_array().map(Vec::len), Some(0), "{status}");
    assert_eq!(status["conflicts"].as_array().map(Vec::len), Some(0), "{status}");
    let point = site.backup(&[]);
    assert_eq!(point["warnings"].as_array().map(Vec::len), Some(0), "{point}");
}
