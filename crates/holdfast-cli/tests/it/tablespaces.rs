//! Files that lie elsewhere, and files that must not come along.

use crate::common::{Site, error_of, fingerprint, path_text, server, text};
use holdfast_testkit::{PgVersion, Scratch, StopMode};
use std::fs;
use std::time::Duration;

fn elsewhere(version: PgVersion) {
    let scratch = Scratch::new(&format!("ts{version}"));
    let waldir = scratch.path("elsewhere-wal");
    let pg = server(&scratch, "main", version).waldir(&waldir).start();
    let site = Site::with(pg, &scratch, &[]);
    let location = site.pg.create_tablespace("fast");
    let second = site.pg.create_tablespace("second");
    site.sql(
        "create table here as select g, repeat('h', 50) h from generate_series(1, 3000) g; \
         create table there tablespace fast as select g, repeat('t', 50) t from generate_series(1, 3000) g; \
         create index on there(g) tablespace second; \
         create table empty_here(x int); create table empty_there(x int) tablespace fast; \
         create unlogged table scratchpad as select g from generate_series(1, 1000) g; \
         create unlogged table scratchpad2 tablespace fast as select g from generate_series(1, 1000) g; \
         create temp table gone as select 1",
    );
    site.sql("create database spaced tablespace fast");
    site.pg.sql("spaced", "create table inside as select g from generate_series(1, 100) g");
    site.sql("vacuum");
    // What a crashed session leaves, and what somebody's editor leaves.
    let temp = site.pg.data_dir().join("base/pgsql_tmp");
    let _ = fs::create_dir(&temp);
    holdfast_testkit::user::chown(&temp);
    scratch.write(temp.join("pgsql_tmp999.0").strip_prefix(scratch.dir()).expect("inside"), "temporary");

    let point = site.backup(&[]);
    site.sql("insert into there select g, 'late' from generate_series(3001, 3500) g");
    site.pg.wait_archived();
    site.sql("truncate scratchpad, scratchpad2");
    let expected = (fingerprint(&site.pg, "postgres"), fingerprint(&site.pg, "spaced"));

    // Without a map the locations are taken: by the source itself.
    let (code, message, hint) = error_of(&site.try_restore("copy", &[]).expect_code(13));
    assert_eq!(code, "refused");
    assert!(message.contains("not empty") && hint.contains("--tablespace-map"), "{message} {hint}");
    let taken = scratch.write("taken/somebodys.file", "precious");
    let map = |new: &str| format!("{}={}", location.display(), scratch.path(new).display());
    let other = format!("{}={}", second.display(), scratch.path("copy-second").display());
    let out = site.try_restore("copy", &["--tablespace-map", &map("taken"), "--tablespace-map", &other]);
    let _ = out.expect_code(13);
    assert_eq!(fs::read_to_string(taken).expect("still there"), "precious");
    let (_, _, hint) =
        error_of(&site.try_restore("copy", &["--tablespace-map", "/no/such=/tmp/x"]).expect_code(2));
    assert!(hint.contains(&path_text(&location)), "{hint}");
    assert!(!scratch.path("copy").exists());

    let maps = ["--tablespace-map", &map("copy-fast"), "--tablespace-map", &other];
    let plan = site.restore("copy", &[&maps[..], &["--plan"]].concat());
    assert_eq!(plan["tablespaces"].as_array().map(Vec::len), Some(2), "{plan}");
    assert!(!scratch.path("copy-fast").exists());
    let done = site.restore("copy", &maps);
    assert_eq!(done["point"], point["id"]);
    let data = scratch.path("copy");
    let links: Vec<_> = fs::read_dir(data.join("pg_tblspc")).expect("links").flatten().collect();
    assert_eq!(links.len(), 2);
    for l in links {
        let to = fs::read_link(l.path()).expect("a link");
        assert!(to == scratch.path("copy-fast") || to == scratch.path("copy-second"), "{}", to.display());
    }
    assert!(fs::symlink_metadata(data.join("pg_wal")).expect("pg_wal").is_dir());
    assert!(!data.join("base/pgsql_tmp/pgsql_tmp999.0").exists());
    assert!(!data.join("postmaster.pid").exists() && !data.join("postmaster.opts").exists());
    let names = holdfast_testkit::damage::files_under(&data);
    for ending in ["_fsm", "_vm"] {
        assert!(
            names.iter().any(|f| path_text(f).contains("/base/") && path_text(f).ends_with(ending)),
            "{ending}"
        );
    }
    let mut copy = site.copy("copy").start();
    copy.wait_recovery_end(Duration::from_secs(60));
    assert_eq!(
        copy.sql("postgres", "select (select count(*) from scratchpad), (select count(*) from scratchpad2)"),
        "0|0"
    );
    assert_eq!(fingerprint(&copy, "postgres"), expected.0);
    assert_eq!(fingerprint(&copy, "spaced"), expected.1);
    copy.sql("postgres", "insert into scratchpad values (1); insert into empty_there values (1)");
    copy.stop(StopMode::Fast);
    copy.check_checksums();
    drop(copy);

    // An incremental on top, and verify, which maps by itself.
    let next = site.backup(&[]);
    assert_eq!(text(&next["kind"]), "incremental");
    let _ = site.hf.run(&["verify"]).ok();
    // The source is gone: its locations are free again, no map is needed.
    let mut site = site;
    site.pg.stop(StopMode::Fast);
    for dir in [site.pg.data_dir(), &location, &second, &waldir] {
        fs::remove_dir_all(dir).expect("the disaster");
    }
    let copy = site.restore_and_start("again", &[]);
    assert_eq!(fingerprint(&copy, "postgres"), expected.0);
    assert_eq!(fingerprint(&copy, "spaced"), expected.1);
}

#[test]
fn tablespaces_and_wal_elsewhere_on_15() {
    elsewhere(PgVersion::V15);
}

#[test]
fn tablespaces_and_wal_elsewhere_on_18() {
    elsewhere(PgVersion::V18);
}

/// Replay of `create tablespace` goes to the source's path: on its own host that is refused.
#[test]
fn tablespaces_made_after_the_point() {
    let site = Site::new("ts-late", PgVersion::V17);
    site.sql("create table t as select g from generate_series(1, 1000) g");
    let _ = site.backup(&[]);
    site.sql("insert into t values (0)");
    let before = site.sql("select pg_current_wal_insert_lsn()");
    let location = site.pg.create_tablespace("late");
    site.sql("create table elsewhere tablespace late as select g from generate_series(1, 1000) g");
    site.sql("select pg_switch_wal()");
    site.pg.wait_archived();
    let expected = fingerprint(&site.pg, "postgres");
    let files = holdfast_testkit::damage::files_under(&location);

    for more in [&[][..], &["--plan"]] {
        let (code, message, hint) = error_of(&site.try_restore("copy", more).expect_code(13));
        assert_eq!(code, "refused");
        assert!(message.contains(&path_text(&location)) && message.contains("in use"), "{message}");
        assert!(hint.contains("--lsn") && hint.contains("another host"), "{hint}");
    }
    assert!(!site.scratch.path("copy").exists());
    // To before it, and to the point itself, as verify does.
    let copy = site.restore_and_start("before", &["--lsn", &before]);
    assert_eq!(copy.sql("postgres", "select count(*) from t"), "1001");
    drop(copy);
    let _ = site.hf.run(&["verify"]).ok();
    assert_eq!(holdfast_testkit::damage::files_under(&location), files);

    // On another host the place is free; it must exist.
    let mut site = site;
    site.pg.stop(StopMode::Fast);
    fs::remove_dir_all(&location).expect("another host");
    let (_, message, hint) = error_of(&site.try_restore("copy", &[]).expect_code(13));
    assert!(message.contains("no such directory") && hint.contains("make it"), "{message} {hint}");
    fs::create_dir(&location).expect("make it");
    holdfast_testkit::user::chown(&location);
    let copy = site.restore_and_start("copy", &[]);
    assert_eq!(fingerprint(&copy, "postgres"), expected);
}

/// PostgreSQL warns of a tablespace inside the data directory, and allows it: stored once, and in the
/// copy it is inside the copy.
#[test]
fn tablespaces_inside_the_data_directory() {
    let site = Site::new("ts-inside", PgVersion::V15);
    let location = site.pg.data_dir().join("nested/space");
    fs::create_dir_all(&location).expect("make it");
    for dir in [location.parent().expect("nested"), &location] {
        holdfast_testkit::user::chown(dir);
    }
    site.sql(&format!("create tablespace nested location '{}'", location.display()));
    site.sql(
        "create table t tablespace nested as select g, repeat('x', 500) from generate_series(1, 20000) g",
    );
    site.sql("checkpoint");
    let size: u64 = site.sql("select sum(pg_database_size(oid)) from pg_database").parse().expect("a number");
    let done = site.backup(&[]);
    let stored = done["size_bytes"].as_u64().expect("size");
    assert!(stored < size + (8 << 20), "{stored} for {size}: stored twice?");
    site.pg.wait_archived();
    let expected = fingerprint(&site.pg, "postgres");
    let copy = site.restore_and_start("copy", &[]);
    assert_eq!(fingerprint(&copy, "postgres"), expected);
    let links: Vec<_> = fs::read_dir(copy.data_dir().join("pg_tblspc")).expect("links").flatten().collect();
    assert_eq!(links.len(), 1);
    let to = fs::read_link(links[0].path()).expect("a link");
    assert_eq!(to, site.scratch.path("copy").join("nested/space"));
}

/// One directory cannot hold two tablespaces, nor the copy itself.
#[test]
fn tablespaces_need_places_of_their_own() {
    let site = Site::new("ts-same", PgVersion::V18);
    let (a, b) = (site.pg.create_tablespace("a"), site.pg.create_tablespace("b"));
    let _ = site.backup(&[]);
    let map =
        |from: &std::path::Path, to: &str| format!("{}={}", from.display(), site.scratch.path(to).display());
    for (x, y) in [("both", "both"), ("both", "both/inner"), ("copy", "other")] {
        let out =
            site.try_restore("copy", &["--tablespace-map", &map(&a, x), "--tablespace-map", &map(&b, y)]);
        let (_, message, hint) = error_of(&out.expect_code(2));
        assert!(message.contains("hold a tablespace") && hint.contains("of its own"), "{message} {hint}");
    }
}

/// A tablespace that is a plain directory in pg_tblspc (for developers) comes along as one.
#[test]
fn in_place_tablespaces() {
    let site = Site::new("inplace", PgVersion::V17);
    site.sql("set allow_in_place_tablespaces = on; create tablespace near location ''");
    site.sql("create table t tablespace near as select g from generate_series(1, 1000) g");
    let _ = site.backup(&[]);
    site.pg.wait_archived();
    let expected = fingerprint(&site.pg, "postgres");
    let copy = site.restore_and_start("copy", &[]);
    assert_eq!(fingerprint(&copy, "postgres"), expected);
}
