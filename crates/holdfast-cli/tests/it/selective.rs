//! `restore --only-database`: the databases that are named come back whole, the others as holes that
//! nobody can connect to, and recovery takes it all the same.

use crate::common::{Site, error_of, fingerprint, path_text, server, text};
use holdfast_testkit::damage::files_under;
use holdfast_testkit::{Cluster, PgVersion, Scratch, StopMode, version};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn oid(site: &Site, database: &str) -> String {
    site.sql(&format!("select oid from pg_database where datname = '{database}'"))
}

/// Length and disk usage of the relation files below a directory.
fn usage(dir: &Path) -> (u64, u64) {
    let is_relation = |p: &PathBuf| {
        p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()))
    };
    files_under(dir).iter().filter(|p| is_relation(p)).fold((0, 0), |(len, used), p| {
        let m = fs::metadata(p).expect("stat");
        (len + m.len(), used + m.blocks() * 512)
    })
}

fn names(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap_or_else(|| panic!("not a list: {list}"));
    list.iter().map(|d| d["name"].as_str().unwrap_or("?").to_owned()).collect()
}

/// Nobody gets in, and the server's own words are not about a password or a missing table.
#[track_caller]
fn assert_closed(pg: &Cluster, database: &str) {
    let error = pg.try_sql(database, "select 1").expect_err("it can be connected to");
    assert!(error.contains("is not a valid data directory"), "{error}");
}

/// Every kind of log about databases that are left out, with the chosen one changing as well.
fn keeps_what_is_named(pg_version: PgVersion, checksums: bool, full_page_writes: bool) {
    if !version::supported_in_test().contains(&pg_version) {
        return;
    }
    let scratch = Scratch::new(&format!("only{pg_version}{}{}", checksums as u8, full_page_writes as u8));
    let pg = server(&scratch, "main", pg_version)
        .checksums(checksums)
        .setting("wal_log_hints", "off")
        .setting("full_page_writes", if full_page_writes { "on" } else { "off" })
        .start();
    let site = Site::with(pg, &scratch, &[]);
    let location = site.pg.create_tablespace("ts");
    for db in ["wanted", "other", "spare", "cloned", "moved", "doomed"] {
        site.sql(&format!("create database {db}"));
    }
    let rows = "as select g, gen_random_uuid() a, gen_random_uuid() b from generate_series(1, 40000) g";
    for db in ["wanted", "other", "spare"] {
        site.pg.sql(
            db,
            &format!(
                "create table t {rows}; create index on t(g); create table far tablespace ts {rows}; \
                 create table cut {rows}; create table gone {rows}; \
                 create index far_hash on far using hash (a); create unlogged table u as select 1 x"
            ),
        );
    }
    for db in ["cloned", "moved", "doomed"] {
        site.pg.sql(db, "create table t as select g from generate_series(1, 1000) g");
    }
    let point = site.backup(&[]);
    let shown = site.hf.run(&["--json", "show", text(&point["id"])]).ok().json();
    assert!(names(&shown["point"]["databases"]).contains(&"wanted".to_owned()), "{shown}");

    for db in ["wanted", "other"] {
        let sql = |sql: &str| site.pg.sql(db, sql);
        sql("update t set a = gen_random_uuid() where g % 7 = 0; delete from far where g % 3 > 0");
        sql("delete from cut where g > 500");
        // The visibility map: records that name heap pages without an image, if there are no checksums.
        sql("vacuum t, far, cut");
        sql("insert into t select g, gen_random_uuid(), gen_random_uuid() from generate_series(1, 9000) g");
        sql("truncate gone; drop table gone; create table new as select * from far; vacuum full pg_class");
        sql("alter table far set tablespace pg_default; reindex table t; vacuum");
    }
    site.sql("create database by_log template spare strategy wal_log");
    site.sql("create database by_files template cloned strategy file_copy");
    site.sql("create database again template by_files strategy file_copy");
    site.sql("create database plain strategy file_copy");
    site.pg.sql("plain", "create table t as select g from generate_series(1, 300) g");
    site.pg.sql("by_files", "insert into t values (0); vacuum t");
    site.sql("alter database moved set tablespace ts; drop database doomed");
    site.sql("alter database other rename to another; checkpoint");
    site.pg.sql("another", "update t set b = gen_random_uuid() where g % 5 = 0; vacuum");
    site.pg.sql("wanted", "update t set b = gen_random_uuid() where g % 5 = 0; vacuum");
    site.pg.wait_archived();

    let map = format!("{}={}", location.display(), site.scratch.path("copy-ts").display());
    let args = ["--tablespace-map", &map, "--only-database", "wanted"];
    let plan = site.restore("copy", &[&args[..], &["--plan"]].concat());
    let out = names(&plan["databases_left_out"]);
    for db in ["other", "spare", "cloned", "moved", "doomed"] {
        assert!(out.contains(&db.to_owned()), "{db} in {out:?}");
    }
    assert_eq!(names(&plan["databases"]).iter().filter(|n| !n.starts_with("temp")).count(), 2, "{plan}");
    let full = point["size_bytes"].as_u64().expect("size");
    assert!(plan["size_bytes"].as_u64().expect("size") < full * 6 / 10, "{plan}");
    let from = |of: &str| {
        let all = plan["databases_left_out"].as_array().expect("a list");
        let hit = all.iter().find(|d| d["oid"].as_u64() == oid(&site, of).parse().ok());
        hit.unwrap_or_else(|| panic!("{of} in {plan}"))["copied_from"].to_string()
    };
    assert_eq!((from("by_files"), from("again")), (oid(&site, "cloned"), oid(&site, "by_files")));
    for whole in ["by_log", "plain"] {
        assert!(!plan["databases_left_out"].to_string().contains(&oid(&site, whole)), "{whole}");
    }

    let done = site.restore("copy", &args);
    assert_eq!(done["databases_left_out"], plan["databases_left_out"]);
    assert!(done["bytes"].as_u64().expect("bytes") < full * 6 / 10, "{}", done["bytes"]);
    let hollow = site.scratch.path("copy").join("base").join(oid(&site, "another"));
    let ((len, used), (kept, _)) =
        (usage(&hollow), usage(&site.scratch.path("copy/base").join(oid(&site, "wanted"))));
    assert!(len > 8 << 20 && used == 0, "{len} bytes use {used}");
    assert!(kept > 8 << 20);
    let (far, used) = usage(&site.scratch.path("copy-ts"));
    assert!(far > 4 << 20 && used < far * 4 / 10 && used > far / 5, "{far} bytes use {used}");
    let sentence = fs::read_to_string(hollow.join("PG_VERSION")).expect("read");
    assert!(sentence.contains("not restored") && sentence.contains("drop database \"other\""), "{sentence}");
    let auto = fs::read_to_string(site.scratch.path("copy/postgresql.auto.conf")).expect("settings");
    assert!(auto.contains("\n#   other (oid "), "{auto}");

    if !checksums || !full_page_writes {
        // Why that setting is there.
        let map = format!("{}={}", location.display(), site.scratch.path("stops-ts").display());
        let strict =
            ["--only-database", "wanted", "--set", "ignore_invalid_pages=off", "--tablespace-map", &map];
        let _ = site.restore("stops", &strict);
        let mut stops = site.copy("stops").create();
        // It may be over before anybody saw it ready.
        let seen = stops.try_start();
        assert!(
            seen.is_err() || stops.wait_exit(Duration::from_secs(60)),
            "no page was invalid: {}",
            stops.log()
        );
        assert!(stops.log().contains("WAL contains references to invalid pages"), "{}", stops.log());
    }
    site.pg.sql("wanted", "truncate u");
    let mut copy = site.copy("copy").start();
    copy.wait_recovery_end(Duration::from_secs(120));
    assert!(copy.log().contains("archive recovery complete"), "{}", copy.log());
    for db in ["wanted", "postgres", "plain"] {
        assert_eq!(fingerprint(&copy, db), fingerprint(&site.pg, db), "{db}");
    }
    assert_eq!(copy.sql("wanted", "select count(*) from u"), "0");
    // Its pages came with the log, whatever the template has become.
    assert_eq!(copy.sql("by_log", "select count(*) from t"), "40000");
    // What the server passed over, if it did, belongs to nobody.
    let ours = format!("/{}/", oid(&site, "wanted"));
    let passed: Vec<String> =
        copy.log().lines().filter(|l| l.contains("uninitialized")).map(str::to_owned).collect();
    assert!(!passed.iter().any(|l| l.contains(&ours)), "{passed:#?}");
    assert_eq!(passed.is_empty(), checksums && full_page_writes, "{passed:#?}");
    for db in ["another", "spare", "cloned", "moved", "by_files", "again"] {
        assert_closed(&copy, db);
    }
    let exists = copy.sql("postgres", "select count(*) from pg_database where datname = 'doomed'");
    assert_eq!(exists, "0");
    for db in ["another", "spare", "cloned", "moved", "by_files", "again"] {
        copy.sql("postgres", &format!("drop database {db}"));
    }
    copy.sql("wanted", "insert into t values (1); vacuum; create database fresh; checkpoint");
    copy.stop(StopMode::Fast);
    if checksums {
        copy.check_checksums();
    }
    copy.start();
    assert_eq!(copy.sql("fresh", "select 1"), "1");
}

#[test]
fn selective_on_15() {
    keeps_what_is_named(PgVersion::V15, true, true);
}

#[test]
fn selective_on_15_without_checksums() {
    keeps_what_is_named(PgVersion::V15, false, true);
}

#[test]
fn selective_on_the_newest() {
    keeps_what_is_named(PgVersion::NEWEST, true, true);
}

#[test]
fn selective_on_the_newest_without_checksums() {
    keeps_what_is_named(PgVersion::NEWEST, false, true);
}

#[test]
fn selective_without_full_page_writes() {
    keeps_what_is_named(PgVersion::V15, true, false);
}

#[test]
fn selective_over_a_directory_and_back() {
    let site = Site::new("only-delta", PgVersion::NEWEST);
    for db in ["one", "two"] {
        site.sql(&format!("create database {db}"));
        site.pg.sql(
            db,
            "create table t as select g, gen_random_uuid() a from generate_series(1, 60000) g; vacuum freeze",
        );
    }
    let _ = site.backup(&[]);
    site.pg.wait_archived();
    let mut copy = site.restore_and_start("copy", &[]);
    copy.sql("one", "update t set a = gen_random_uuid() where g = 5");
    copy.sql("two", "create table more as select * from t");
    copy.stop(StopMode::Fast);
    drop(copy);
    // All of it was there: what is left out becomes a hole, what is named is compared.
    let done = site.restore("copy", &["--delta", "--only-database", "one"]);
    assert!(done["delta"]["rewritten_bytes"].as_u64().expect("bytes") < 2 << 20, "{}", done["delta"]);
    let (dir, two) = (site.scratch.path("copy"), oid(&site, "two"));
    let (len, used) = usage(&dir.join("base").join(&two));
    assert!(len > 4 << 20 && used == 0, "{len} bytes use {used}");
    let mut copy = site.copy("copy").start();
    copy.wait_recovery_end(Duration::from_secs(60));
    assert_eq!(fingerprint(&copy, "one"), fingerprint(&site.pg, "one"));
    assert_closed(&copy, "two");
    copy.stop(StopMode::Fast);
    drop(copy);
    // And back: the holes are filled, the sentence goes.
    let _ = site.restore("copy", &["--delta"]);
    let version = fs::read_to_string(dir.join("base").join(&two).join("PG_VERSION")).expect("read");
    assert_eq!(version.trim(), site.pg.version().to_string());
    let mut copy = site.copy("copy").start();
    copy.wait_recovery_end(Duration::from_secs(60));
    for db in ["one", "two"] {
        assert_eq!(fingerprint(&copy, db), fingerprint(&site.pg, db), "{db}");
    }
}

#[test]
fn selective_names_and_refusals() {
    let site = Site::new("only-names", PgVersion::NEWEST);
    for db in ["one", "Two \"2\"", "late_template"] {
        site.sql(&format!("create database \"{}\"", db.replace('"', "\"\"")));
    }
    let point = site.backup(&[]);
    site.pg.wait_archived();
    let (code, message, hint) =
        error_of(&site.try_restore("copy", &["--only-database", "tow"]).expect_code(10));
    assert_eq!(code, "not-found");
    assert!(message.contains("`tow`"), "{message}");
    for db in ["one", "postgres", "late_template", &format!("(oid {})", oid(&site, "one"))] {
        assert!(hint.contains(db), "{db} in {hint}");
    }
    assert!(!site.scratch.path("copy").exists());
    let standby = site.try_restore("copy", &["--only-database", "one", "--standby"]);
    let _ = standby.expect_code(2);
    // `show` has the names, too.
    let _ = site.hf.run(&["show", text(&point["id"])]).ok().says(&format!("one (oid {})", oid(&site, "one")));
    // By OID, and two of them.
    let both = ["--only-database", &oid(&site, "one"), "--only-database", "Two \"2\"", "--plan"];
    let plan = site.restore("copy", &both);
    assert_eq!(names(&plan["databases_left_out"]), ["late_template"]);
    // Of all of them nothing is left out; without the option nothing is said.
    let all = site.restore("copy", &[&both[..4], &["--only-database", "late_template", "--plan"]].concat());
    assert_eq!(names(&all["databases_left_out"]), Vec::<String>::new());
    assert!(site.restore("copy", &["--plan"]).get("databases_left_out").is_none());
    // In words.
    let to = path_text(&site.scratch.path("copy"));
    let said = site.hf.run(&["restore", "app", "--to", &to, "--only-database", "one"]).ok();
    let said = said.says("left out  late_template (oid ").says("drop these databases");
    assert!(said.transcript().contains("left out  Two \\\"2\\\""), "{}", said.transcript());
    let mut copy = site.copy("copy").start();
    copy.wait_recovery_end(Duration::from_secs(60));
    assert_closed(&copy, "Two \"2\"");
    copy.sql("postgres", "drop database \"Two \"\"2\"\"\"; ");
    assert_eq!(copy.sql("one", "select 1"), "1");
}
