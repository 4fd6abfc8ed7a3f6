//! The main job, from nothing to a verified copy, on every supported version.

use crate::common::{DB, Site, fingerprint, path_text, server, text};
use holdfast_testkit::{Cluster, PgVersion, Scratch, StopMode, version};
use std::time::Duration;

fn lifecycle(pg_version: PgVersion) {
    if !version::supported_in_test().contains(&pg_version) {
        return;
    }
    let scratch = Scratch::new(&format!("life{pg_version}"));
    // As a real server: 16 MiB segments, fsync, autovacuum.
    let pg = Cluster::builder(&scratch, "main", pg_version)
        .checksums(true)
        .fsync(true)
        .setting("archive_timeout", "60")
        .archive_command("")
        .start();
    let site = Site::with(pg, &scratch, &[]);
    site.pg.pgbench_init(1);
    site.sql("create database other");
    site.pg.sql("other", "create table blob(id serial primary key, b bytea); insert into blob(b) select sha256(g::text::bytea) from generate_series(1, 500) g");

    let full = site.backup(&["--full", "--tag", "why=test", "--tag", "n=1", "--note", "first one"]);
    assert_eq!((text(&full["kind"]), text(&full["status"])), ("full", "succeeded"), "{full}");
    site.pg.pgbench_run(1, 2);
    site.sql("create table made_later as select g, repeat('x', 100) as t from generate_series(1, 2000) g");
    site.pg.sql("other", "update blob set b = 'changed' where id % 7 = 0");
    let incremental = site.backup(&[]);
    assert_eq!(text(&incremental["kind"]), "incremental", "{incremental}");
    assert_eq!(incremental["parent"], full["id"]);
    assert!(incremental["stored_bytes"].as_u64() < full["stored_bytes"].as_u64());
    site.pg.pgbench_run(1, 2);
    let before = (fingerprint(&site.pg, "postgres"), fingerprint(&site.pg, "other"));
    site.pg.wait_archived();

    listing_has_every_field(&site);
    let id = text(&full["id"]);
    let shown = site.hf.run(&["--json", "show", id]).ok().json();
    assert_eq!(shown["point"]["note"], "first one", "{shown}");
    let _ = site.hf.run(&["show", id]).ok().says("first one").says("why=test").says("full");
    let _ = site.hf.run(&["list"]).ok().says(id).says("incremental");
    let _ = site.hf.run(&["show", "20000101"]).expect_code(10).says("hint:");

    let done = site.restore("copy", &[]);
    assert_eq!(done["point"], incremental["id"], "{done}");
    assert!(done["bytes"].as_u64() > Some(1_000_000) && done["seconds"].is_f64(), "{done}");
    let mut copy = site.copy("copy").start();
    copy.wait_recovery_end(Duration::from_secs(120));
    assert_eq!(fingerprint(&copy, "postgres"), before.0);
    assert_eq!(fingerprint(&copy, "other"), before.1);
    copy.stop(StopMode::Fast);
    copy.check_checksums();

    let verified = site.hf.run(&["--json", "verify", DB]).ok().json();
    assert_eq!((&verified["level"], &verified["passed"]), (&"L3".into(), &true.into()), "{verified}");
    let databases: Vec<&str> =
        verified["databases"].as_array().expect("databases").iter().map(text).collect();
    assert!(databases.contains(&"other") && databases.contains(&"postgres"), "{databases:?}");
    let points = site.hf.run(&["--json", "list", DB]).ok().json()["points"].clone();
    assert_eq!(points[0]["verified_level"], serde_json::Value::Null);
    assert_eq!(points[1]["verified_level"], "L3");
    // A lower level on a point does not hide what was shown before, and a name of a point works.
    let _ = site.hf.run(&["verify", text(&incremental["id"]), "--level", "L1"]).ok();
    let points = site.hf.run(&["--json", "list", DB]).ok().json()["points"].clone();
    assert_eq!(points[1]["verified_level"], "L3");
    let scratch_left = std::fs::read_dir(scratch.path("state/scratch")).map_or(0, Iterator::count);
    assert_eq!(scratch_left, 0, "verify cleans up");

    let _ = site.hf.run(&["check"]).ok().says("OK");
    let check = site.hf.run(&["--json", "check"]).ok().json();
    assert_eq!(check["clusters"][0]["damaged"], false, "{check}");
    assert_eq!(check["clusters"][0]["points"], 2, "{check}");
    let _ = site.hf.run(&["check", "--fast"]).ok();
    let doctor = site.hf.run(&["--json", "doctor"]).ok().json();
    for line in doctor["checks"].as_array().expect("checks") {
        assert_ne!(text(&line["status"]), "FAIL", "{line}");
        assert!(line["name"].is_string() && line["message"].is_string(), "{line}");
    }
    let _ = site.hf.run(&["validate"]).ok().says(&path_text(&scratch.path("holdfast.toml")));
}

/// The names that scripts rely on.
fn listing_has_every_field(site: &Site) {
    let points = site.hf.run(&["--json", "list", DB]).ok().json()["points"].clone();
    let points = points.as_array().expect("points").clone();
    assert_eq!(points.len(), 2);
    for p in &points {
        for k in ["id", "database", "kind", "status", "started_at", "finished_at", "start_lsn", "stop_lsn"] {
            assert!(p[k].is_string(), "{k} of {p}");
        }
        for k in ["timeline", "size_bytes", "stored_bytes"] {
            assert!(p[k].is_u64(), "{k} of {p}");
        }
        assert_eq!((text(&p["database"]), &p["timeline"], text(&p["status"])), (DB, &1.into(), "succeeded"));
        assert!(text(&p["started_at"]).ends_with('Z') && text(&p["started_at"]) <= text(&p["finished_at"]));
        assert!(text(&p["start_lsn"]).starts_with("0/"), "{p}");
        assert!(p.as_object().is_some_and(|o| o.contains_key("verified_level") && o.contains_key("parent")));
    }
    assert_eq!(points[0]["parent"], serde_json::Value::Null);
    assert_eq!(points[0]["tags"], serde_json::json!({ "why": "test", "n": "1" }));
    assert_eq!(points[1]["tags"], serde_json::json!({}));
}

#[test]
fn lifecycle_on_15() {
    lifecycle(PgVersion::V15);
}

#[test]
fn lifecycle_on_17() {
    lifecycle(PgVersion::V17);
}

#[test]
fn lifecycle_on_18() {
    lifecycle(PgVersion::V18);
}

/// Every kind on request, a full when there is nothing to build on, and nothing stored twice.
#[test]
fn kinds_of_backups() {
    let site = Site::new("kinds", PgVersion::NEWEST);
    let first = site.backup(&["--incremental"]);
    assert_eq!(text(&first["kind"]), "full");
    assert!(!text(&first["reason"]).is_empty());
    let second = site.backup(&["--incremental"]);
    assert_eq!((text(&second["kind"]), &second["parent"]), ("incremental", &first["id"]));
    let reread = site.backup(&["--reread"]);
    assert_eq!((text(&reread["kind"]), &reread["parent"]), ("incremental", &second["id"]));
    let full = site.backup(&["--full"]);
    assert_eq!((text(&full["kind"]), &full["parent"]), ("full", &serde_json::Value::Null));
    let (a, b) =
        (full["stored_bytes"].as_u64().expect("bytes"), second["stored_bytes"].as_u64().expect("bytes"));
    assert!(b * 4 < a, "an incremental without changes stores little: {b} of {a}");
    let _ = site.hf.run(&["backup", "--full", "--incremental"]).expect_code(2);
    let _ = site.hf.run(&["backup", "--tag", "nothing"]).expect_code(2).says("hint:");
}

/// amcheck misses TOAST values of dead rows while something is prepared in another database, and waits for tables
/// that a prepared transaction has locked. The source's own extension is in a schema that no session of ours searches.
#[test]
fn what_is_prepared_does_not_fail_a_verification() {
    let scratch = Scratch::new("prepared");
    let pg = server(&scratch, "main", PgVersion::V15).setting("max_prepared_transactions", "4").start();
    let site = Site::with(pg, &scratch, &[]);
    site.sql("create database other");
    site.sql(
        "create table t(id int primary key, body text); alter table t alter body set storage external;\n\
         insert into t select g, repeat(md5(g::text), 200) from generate_series(1, 30) g;\n\
         create table locked as select 1 as one;",
    );
    site.pg.sql(
        "other",
        "create table x(i int); begin; insert into x values (1); prepare transaction E'it\\'s \\\\ one'",
    );
    site.sql("delete from t where id > 3");
    // Of the TOAST table alone, as pruning does when one of its pages is full.
    let toast = site.sql("select reltoastrelid::regclass from pg_class where relname = 't'");
    site.sql(&format!("vacuum {toast}"));
    let amcheck = "create extension amcheck; select count(*) from verify_heapam('t', check_toast => true)";
    assert_ne!(site.sql(amcheck), "0", "amcheck finds fault with a server that is well");
    site.sql("begin; truncate locked; prepare transaction 'two'");
    let _ = site.backup(&["--full"]);
    let verified = site.hf.run(&["--json", "verify", DB, "--level", "L4"]).ok().json();
    assert_eq!((&verified["level"], &verified["passed"]), (&"L4".into(), &true.into()), "{verified}");
    // The source keeps what it had prepared.
    assert_eq!(site.sql("select count(*) from pg_prepared_xacts"), "2");
}
