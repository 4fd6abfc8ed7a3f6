//! A long archive: sweeps index it, listings go by the index, and what goes is what the rules say.

use crate::common::{DB, Site, fingerprint, server, text};
use crate::retention::{keep, sweep};
use holdfast_core::{SegmentName, SegmentSize};
use holdfast_testkit::{PgVersion, Scratch, StopMode};
use std::fs;
use std::time::{Duration, SystemTime};

const DAY: u64 = 86_400;

/// A server whose log begins behind thousands of segments.
fn site_far_on() -> Site {
    let scratch = Scratch::new("indexes");
    let mut pg = server(&scratch, "main", PgVersion::NEWEST).start();
    pg.stop(StopMode::Fast);
    let mut reset = pg.client("pg_resetwal");
    let out = reset.args(["-l", "000000010000000200000001", "-D"]).arg(pg.data_dir()).output();
    assert!(out.expect("run pg_resetwal").status.success());
    pg.start();
    Site::with(pg, &scratch, &[])
}

#[test]
fn long_archives_are_indexed_and_swept() {
    let site = site_far_on();
    site.sql("create table t as select generate_series(1, 1000) g");
    let point = site.backup(&[]);
    site.pg.wait_archived();
    let size = SegmentSize::try_from(1 << 20).expect("1 MiB");
    let folder = site.scratch.path("vault").join(format!("db/{DB}/{}/wal/00000001", text(&point["cluster"])));
    let files: Vec<_> = fs::read_dir(&folder).expect("list").flatten().map(|e| e.file_name()).collect();
    let number = |f: &std::ffi::OsString| {
        let name: SegmentName = f.to_str()?.strip_suffix(".wal")?.parse().ok()?;
        Some(name.number(size))
    };
    let newest = files.iter().filter_map(number).min().expect("a segment");
    let real = files.len() as u64;
    // Older ones, by name; nobody reads them. The last 50 are young.
    for n in newest - 700..newest {
        let name = SegmentName::new(holdfast_core::TimelineId(1), n, size);
        let file = fs::File::create(folder.join(format!("{name}.wal"))).expect("create");
        let days = if n < newest - 50 { 40 } else { 20 };
        file.set_modified(SystemTime::now() - Duration::from_secs(days * DAY)).expect("set the time");
    }
    holdfast_testkit::user::chown_tree(&folder);
    let status = || {
        let all = site.hf.run(&["--json", "wal", "status"]).ok().json();
        let s = &all["archives"][0];
        assert_eq!(s["gaps"].as_array().map(Vec::len), Some(0), "{s}");
        s["segments"].as_u64().expect("a number")
    };
    let index =
        || -> Vec<String> { site.vault_files().into_iter().filter(|f| f.contains("/index/wal-")).collect() };
    assert_eq!(status(), 700 + real);

    keep(&site, "window = \"90d\"", "wal = { keep = \"90d\" }");
    let none = sweep(&site.hf, &["--json", "sweep"]).ok().json();
    assert_eq!(none["sweeps"][0]["removed"]["objects"], 0, "{none}");
    assert_eq!((status(), index().len()), (700 + real, 1));
    // An index is a record like any other.
    let check = site.hf.run(&["check"]).expect_code(5);
    let of_index = |l: &&str| l.starts_with("FAIL") && !l.contains("shorter than its footer");
    assert_eq!(check.stdout.lines().find(of_index), None, "only our empty segments");

    keep(&site, "window = \"90d\"", "wal = { keep = \"30d\" }");
    let plan = site.hf.run(&["--json", "sweep", "--plan"]).ok().json();
    assert_eq!(plan["sweeps"][0]["wal"]["objects"], 650, "{plan}");
    assert_eq!(status(), 700 + real, "a plan touches nothing");
    let done = sweep(&site.hf, &["--json", "sweep"]).ok().json();
    assert_eq!(done["sweeps"][0]["removed"]["objects"], 650, "{done}");
    assert_eq!(fs::read_dir(&folder).expect("list").count() as u64, 50 + real);
    assert_eq!((status(), index().len()), (50 + real, 1));
    let again = sweep(&site.hf, &["--json", "sweep"]).ok().json();
    assert_eq!(again["sweeps"][0]["removed"]["objects"], 0, "{again}");

    // What an index cannot know: it was made by somebody else, or is damaged. Then all is listed.
    let at = site.scratch.path("vault").join(&index()[0]);
    let mut bytes = fs::read(&at).expect("read");
    bytes[300] ^= 1;
    fs::write(&at, bytes).expect("write");
    assert_eq!(status(), 50 + real);
    let before = fingerprint(&site.pg, "postgres");
    let copy = site.restore_and_start("copy", &[]);
    assert_eq!(fingerprint(&copy, "postgres"), before);
}

#[test]
fn many_points_are_known_by_their_index() {
    let site = Site::new("many", PgVersion::V17);
    keep(&site, "window = \"90d\"", "wal = { keep = \"90d\" }");
    site.sql("create table t(n int)");
    for n in 0..66 {
        site.sql(&format!("insert into t values ({n})"));
        let _ = site.backup(&[]);
    }
    site.pg.wait_archived();
    let list = || site.hf.run(&["--json", "list"]).ok().json()["points"].clone();
    let before = list();
    let _ = sweep(&site.hf, &["sweep"]).ok();
    assert_eq!(site.vault_files().iter().filter(|f| f.contains("/index/points-")).count(), 1);
    assert_eq!(list(), before, "the same by the index");
    // All that goes by facts finds its point.
    let tenth = text(&before[9]["id"]).to_owned();
    let shown = site.hf.run(&["--json", "show", &tenth]).ok().json();
    assert_eq!(shown["point"]["id"], tenth.as_str());
    let copy = site.restore_and_start("copy", &["--point", &tenth, "--immediate"]);
    assert_eq!(copy.sql("postgres", "select count(*) from t"), "10");
    drop(copy);
    let next = site.backup(&["--incremental"]);
    assert_eq!(next["parent"], before[65]["id"]);
    // And what goes goes, by the roots.
    keep(&site, "last = 3", "wal = { keep = \"90d\" }");
    let _ = site.hf.run(&["expire", "--apply"]).ok();
    let _ = sweep(&site.hf, &["sweep"]).ok();
    // The last three, and what the window of WAL begins with.
    let left = list().as_array().map(Vec::len).expect("a list");
    assert!((3..=6).contains(&left), "{left} points are left");
    let check = site.hf.run(&["check"]).ok();
    assert!(!check.stdout.contains("FAIL"), "{}", check.stdout);
    let copy = site.restore_and_start("last", &[]);
    assert_eq!(copy.sql("postgres", "select count(*) from t"), "66");
}
