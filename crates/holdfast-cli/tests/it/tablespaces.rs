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
