//! Incrementals that go by the WAL: what they read, when they do not go by it, and what catches a page
//! that it did not name.

use crate::common::{DB, Site, fingerprint, path_text, server, text};
use crate::retention::{keep, sweep};
use holdfast_testkit::{FaultProxy, PgVersion, Scratch, StopMode, Store, TestRng, version};
use serde_json::Value;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::time::Duration;

fn method(point: &Value) -> &str {
    text(&point["changes"]["method"])
}

fn reason(point: &Value) -> &str {
    text(&point["changes"]["reason"])
}

fn number(point: &Value, key: &str) -> u64 {
    point[key].as_u64().unwrap_or_else(|| panic!("{key} of {point}"))
}

/// About 24 MB in a table that nothing else touches.
fn with_table(name: &str, version: PgVersion, checksums: bool) -> Site {
    let scratch = Scratch::new(name);
    let pg = server(&scratch, "main", version).checksums(checksums).start();
    let site = Site::with(pg, &scratch, &[]);
    site.sql("create table t(id int, n int, pad text) with (fillfactor = 50)");
    site.sql("insert into t select g, 0, repeat('x', 400) from generate_series(1, 25000) g");
    site.sql("create index on t(id)");
    // Hint bits are set now, not by what a test reads.
    site.sql("vacuum t; select count(*) from t");
    site
}

fn same_after_restore(site: &Site, name: &str, args: &[&str]) {
    let before = fingerprint(&site.pg, "postgres");
    site.pg.wait_archived();
    let mut copy = site.restore_and_start(name, args);
    assert_eq!(fingerprint(&copy, "postgres"), before);
    copy.stop(StopMode::Fast);
    if site.sql("show data_checksums") == "on" {
        copy.check_checksums();
    }
}

fn only_what_changed(pg_version: PgVersion) {
    if !version::supported_in_test().contains(&pg_version) {
        return;
    }
    let site = with_table(&format!("maps{pg_version}"), pg_version, true);
    let full = site.backup(&["--full"]);
    assert_eq!(method(&full), "all");
    assert!(number(&full, "read_bytes") > 24 << 20, "{full}");
    // Nothing changed: what is read are files that the WAL does not tell of and that are too new to go by
    // their times.
    let idle = site.backup(&[]);
    assert_eq!(method(&idle), "wal-maps", "{idle}");
    assert!(number(&idle, "read_bytes") < 6 << 20, "{idle}");
    // Ten pages far from each other, and the file's times change.
    site.sql("update t set n = 1 where id % 2500 = 7");
    let few = site.backup(&[]);
    assert_eq!(method(&few), "wal-maps");
    let read = number(&few, "read_bytes");
    assert!(read < 6 << 20, "{read} bytes for ten rows: {few}");
    // The log names every page that changed, says a run that reads all of them.
    site.sql("update t set n = 2 where id % 500 = 3; create table more as select * from t where id < 900");
    let all = site.backup(&["--reread"]);
    assert_eq!(method(&all), "wal-maps");
    assert!(number(&all, "read_bytes") > 24 << 20, "{all}");
    assert!(number(&all["changes"], "reread") > 2000 && all["changes"]["missed"].is_null(), "{all}");
    let part = site.backup(&["--reread=20"]);
    let sampled = number(&part["changes"], "reread");
    assert!(sampled < number(&all["changes"], "reread"), "{part}");
    let _ = site.hf.run(&["backup", DB, "--reread=101"]).expect_code(2);
    same_after_restore(&site, "copy", &[]);
}

#[test]
fn only_what_changed_on_15() {
    only_what_changed(PgVersion::V15);
}

#[test]
fn only_what_changed_on_17() {
    only_what_changed(PgVersion::V17);
}

#[test]
fn only_what_changed_on_18() {
    only_what_changed(PgVersion::V18);
}

/// Without an archiver the run takes what it needs from pg_wal, and knows changes from there.
#[test]
fn without_an_archiver() {
    let site = with_table("maps-local", PgVersion::NEWEST, true);
    let _ = site.backup(&["--full"]);
    site.archive_with("false");
    site.sql("update t set n = 1 where id % 1000 = 7");
    let p = site.backup(&[]);
    assert_eq!(method(&p), "wal-maps", "{p}");
    assert!(number(&p, "read_bytes") < 6 << 20, "{p}");
    site.sql("select pg_switch_wal(); update t set n = 2 where id % 1000 = 8; checkpoint");
    let p = site.backup(&[]);
    assert_eq!(method(&p), "wal-maps", "{p}");
    let mut copy = site.restore_and_start("copy", &["--immediate"]);
    assert_eq!(fingerprint(&copy, "postgres"), fingerprint(&site.pg, "postgres"));
    copy.stop(StopMode::Fast);
}

/// A window with a hole is no window: the run reads, and says why.
#[test]
fn a_hole_means_reading() {
    let site = with_table("maps-hole", PgVersion::NEWEST, true);
    let _ = site.backup(&["--full"]);
    site.sql("update t set n = 1 where id % 1000 = 7");
    site.sql("select pg_switch_wal()");
    site.sql("update t set n = 2 where id % 1000 = 8; select pg_switch_wal()");
    site.pg.wait_archived();
    // The server forgets its WAL, and the vault loses one.
    site.sql("checkpoint; select pg_switch_wal(); checkpoint");
    site.pg.wait_archived();
    let lost = site.vault_files().into_iter().filter(|f| f.ends_with(".wal")).rev().nth(1).expect("wal");
    let name = lost.rsplit('/').next().expect("a name").trim_end_matches(".wal").to_owned();
    std::fs::remove_file(site.scratch.path("vault").join(&lost)).expect("lose a segment");
    let here = site.pg.data_dir().join("pg_wal").join(&name);
    if here.exists() {
        std::fs::remove_file(&here).expect("lose it here too");
    }
    let p = site.backup(&[]);
    assert_eq!(method(&p), "fingerprints", "{p}");
    assert!(reason(&p).contains(&name) && reason(&p).contains("not in the vault"), "{p}");
    // Nothing is worn out yet: what is stored is what changed.
    assert_eq!(number(&p, "rewritten_bytes"), 0, "{p}");
    assert!(number(&p, "read_bytes") > 20 << 20, "{p}");
    // The next one has a window again.
    site.sql("update t set n = 3 where id % 1000 = 9");
    let p = site.backup(&[]);
    assert_eq!(method(&p), "wal-maps", "{p}");
    same_after_restore(&site, "copy", &[]);
}

/// With `wal_level = minimal` a table's first content is not logged.
#[test]
fn minimal_wal_means_reading() {
    let mut site = with_table("maps-minimal", PgVersion::NEWEST, true);
    let _ = site.backup(&["--full"]);
    site.sql(
        "alter system set wal_level = minimal; alter system set max_wal_senders = 0;\n\
         alter system set archive_mode = off; alter system set wal_keep_size = '1GB'",
    );
    site.pg.restart();
    site.sql("begin; create table unlogged_content(id int); truncate t; insert into t select g, 9, 'y' from generate_series(1, 9000) g; insert into unlogged_content select generate_series(1, 5000); commit");
    site.sql(
        "alter system reset wal_level; alter system reset max_wal_senders; alter system reset archive_mode",
    );
    site.pg.restart();
    site.archive_with(&site.archive_command);
    let p = site.backup(&[]);
    assert_eq!(method(&p), "fingerprints", "{p}");
    assert!(reason(&p).contains("minimal"), "{p}");
    same_after_restore(&site, "copy", &["--immediate"]);
}

/// The window follows the history over a promotion, and a host that cannot read data needs no more.
#[test]
fn over_a_promotion_with_the_key_of_a_host() {
    let mut site = with_table("maps-timeline", PgVersion::NEWEST, true);
    let first = site.backup(&["--full"]);
    site.sql("update t set n = 1 where id % 1000 = 7");
    site.pg.wait_archived();
    let mut copy = site.restore_and_start("two", &[]);
    copy.stop(StopMode::Fast);
    drop(copy);
    let copy = site.copy("two").archive_command(&site.archive_command).start();
    let _ = site.hf.run(&["wal", "adopt", DB, "--data-dir", &path_text(copy.data_dir())]).ok();
    drop(site.move_to(copy));
    site.sql("update t set n = 2 where id % 1000 = 8");
    let host = path_text(&site.scratch.path("host.key"));
    let whole = site.scratch.path("hf.key");
    let _ = site.hf.run(&["key", "export", "--role", "host", "--to", &host]).ok();
    let kept = site.scratch.path("kept.key");
    std::fs::rename(&whole, &kept).expect("take the key away");
    std::fs::rename(&host, &whole).expect("leave the host's");
    let p = site.backup(&[]);
    assert_eq!((method(&p), &p["parent"], &p["timeline"]), ("wal-maps", &first["id"], &2.into()), "{p}");
    std::fs::rename(&kept, &whole).expect("bring the key back");
    same_after_restore(&site, "three", &[]);
}

/// A page of `t` that changes on disk with nothing in the log: LSN and one byte of it.
fn change_behind_its_back(site: &mut Site, lsn: &str) {
    let path = site.sql("checkpoint; select pg_relation_filepath('t')");
    let path = site.pg.data_dir().join(path.lines().last().expect("a path"));
    site.pg.stop(StopMode::Fast);
    let (high, low) = lsn.split_once('/').expect("an lsn");
    let part = |t: &str| u32::from_str_radix(t, 16).expect("hexadecimal").to_ne_bytes();
    let file = OpenOptions::new().write(true).open(path).expect("open the table");
    let mut rng = TestRng::new(3);
    let at = 8192 * rng.range(100, 2000);
    file.write_all_at(&[part(high), part(low)].concat(), at).expect("write an lsn");
    file.write_all_at(b"z", at + 8191).expect("write a byte");
    site.pg.start();
}

/// What the log does not name and has changed is an alarm: the run has it, the next one is a full, and the
/// log is not gone by any more.
#[test]
fn a_missed_page_is_an_alarm() {
    let mut site = with_table("maps-missed", PgVersion::NEWEST, false);
    let first = site.backup(&["--full"]);
    site.sql("create table other as select generate_series(1, 100)");
    let lsn = site.pg.current_lsn();
    change_behind_its_back(&mut site, &lsn);
    let blind = site.backup(&[]);
    assert_eq!((method(&blind), &blind["parent"]), ("wal-maps", &first["id"]), "{blind}");
    // Its change lies before the window of the next run: without logged hints that is like a hint.
    let seen = site.backup(&["--reread"]);
    assert!(seen["changes"]["missed"].is_null(), "{seen}");
    let lsn = site.pg.current_lsn();
    change_behind_its_back(&mut site, &lsn);
    let out = site.hf.run(&["--json", "backup", DB, "--reread"]);
    let alarm = out.ok().json();
    assert_eq!(alarm["changes"]["missed"], 1, "{alarm}");
    assert!(alarm["warnings"].to_string().contains("does not name"), "{alarm}");
    let full = site.backup(&[]);
    assert_eq!(text(&full["kind"]), "full", "{full}");
    assert!(text(&full["reason"]).contains(text(&alarm["id"])), "{full}");
    let after = site.backup(&[]);
    assert_eq!((text(&after["kind"]), method(&after)), ("incremental", "fingerprints"), "{after}");
    // What the alarm found is in its point.
    let _ = site.restore("copy", &["--point", text(&alarm["id"]), "--immediate"]);
    let path = site.sql("select pg_relation_filepath('t')");
    site.sql("checkpoint");
    let (a, b) = (site.pg.data_dir().join(&path), site.scratch.path("copy").join(&path));
    assert_eq!(std::fs::read(a).expect("read"), std::fs::read(b).expect("read"));
}

/// Limits: files that got shorter, longer, and new ones under the same name; databases made both ways.
#[test]
fn truncated_and_grown_again() {
    let site = with_table("maps-truncate", PgVersion::NEWEST, true);
    let _ = site.backup(&["--full"]);
    site.sql("delete from t where id > 9000; vacuum t");
    let cut = site.backup(&[]);
    assert_eq!(method(&cut), "wal-maps");
    let restored = |p: &Value, name: &str| {
        let mut copy = site.restore_and_start(name, &["--point", text(&p["id"]), "--immediate"]);
        let now = fingerprint(&copy, "postgres");
        copy.stop(StopMode::Fast);
        copy.check_checksums();
        now
    };
    assert_eq!(restored(&cut, "cut"), fingerprint(&site.pg, "postgres"));
    site.sql("insert into t select g, 5, repeat('y', 300) from generate_series(1, 9000) g");
    let longer = site.backup(&[]);
    assert_eq!(method(&longer), "wal-maps");
    assert_eq!(restored(&longer, "longer"), fingerprint(&site.pg, "postgres"));
    site.sql("truncate t; insert into t select g, 6, repeat('z', 300) from generate_series(1, 20000) g");
    let grown = site.backup(&[]);
    assert_eq!(method(&grown), "wal-maps");
    assert_eq!(restored(&grown, "grown"), fingerprint(&site.pg, "postgres"));
    site.sql("create database copied template template0 strategy wal_log");
    site.sql("create database moved template template0 strategy file_copy");
    site.pg.sql("moved", "create table u as select generate_series(1, 1000)");
    std::thread::sleep(Duration::from_millis(10));
    let last = site.backup(&["--reread"]);
    assert!(last["changes"]["missed"].is_null(), "{last}");
    same_after_restore(&site, "copy", &[]);
}

/// A machine that was put back writes another future under the same names: the archive has the first one, and
/// a window of it would name the wrong pages.
#[test]
fn another_future_is_not_gone_by() {
    let mut site = with_table("maps-rollback", PgVersion::NEWEST, true);
    site.sql("alter system set wal_keep_size = '1GB'; select pg_reload_conf()");
    site.pg.stop(StopMode::Fast);
    let (data, saved) = (site.pg.data_dir().to_path_buf(), site.scratch.path("saved"));
    let cp = |from: &std::path::Path, to: &std::path::Path| {
        let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().expect("run cp");
        assert!(done.success());
    };
    cp(&data, &saved);
    site.pg.start();
    site.sql("update t set n = 1 where id % 1000 = 7");
    let _ = site.backup(&["--full"]);
    site.sql("update t set n = 1 where id % 1000 = 8; select pg_switch_wal()");
    site.pg.wait_archived();
    let far = site.pg.current_lsn();
    site.pg.stop(StopMode::Immediate);
    std::fs::remove_dir_all(&data).expect("put back");
    cp(&saved, &data);
    site.pg.start();
    site.archive_with("false");
    site.sql("update t set n = 4 where id % 1000 = 9");
    while site.sql(&format!("select pg_current_wal_lsn() > pg_lsn '{far}' + (2 << 20)")) != "t" {
        site.sql("update t set n = 5 where id % 1000 = 10; select pg_switch_wal()");
    }
    // The copied directory has another inode than the owner's; a machine put back would have the same.
    let _ = site.hf.run(&["wal", "adopt", DB]).ok();
    let p = site.backup(&[]);
    assert_eq!((text(&p["kind"]), method(&p)), ("incremental", "fingerprints"), "{p}");
    // Most often the links between records tell; else the content of a segment that both have.
    let why = ["is not the one in pg_wal", "does not go on where it should"];
    assert!(why.iter().any(|w| reason(&p).contains(w)), "{p}");
    let mut copy = site.restore_and_start("copy", &["--point", text(&p["id"]), "--immediate"]);
    assert_eq!(fingerprint(&copy, "postgres"), fingerprint(&site.pg, "postgres"));
    copy.stop(StopMode::Fast);
}

/// Blocks that never change would keep packs alive that are mostly holes: they are stored anew in time.
#[test]
fn worn_packs_are_let_go() {
    let site = with_table("maps-wear", PgVersion::NEWEST, true);
    keep(&site, "last = 1", "");
    let stored = || -> u64 {
        let packs = site.vault_files().into_iter().filter(|f| f.contains("data-"));
        packs.map(|f| std::fs::metadata(site.scratch.path("vault").join(f)).map_or(0, |m| m.len())).sum()
    };
    let _ = site.backup(&["--full"]);
    let mut rewritten = 0;
    for n in 0..16 {
        site.sql(&format!("update t set n = {n}, pad = md5(random()::text) || pad where random() < 0.04"));
        site.sql("update t set pad = right(pad, 400)  where length(pad) > 700");
        let p = site.backup(&[]);
        assert_eq!(method(&p), "wal-maps");
        rewritten += number(&p, "rewritten_bytes");
    }
    assert!(rewritten > 0);
    let _ = site.hf.run(&["expire", DB, "--apply"]).ok();
    let _ = sweep(&site.hf, &["sweep"]).ok();
    let left = stored();
    // The newest alone is left: what it needs must not be much more than what a fresh full stores.
    let now = site.backup(&["--full"]);
    let fresh = number(&now, "stored_bytes");
    assert!(left * 10 < fresh * 15, "{left} bytes of packs for {fresh}");
    same_after_restore(&site, "copy", &[]);
}

/// Over a network each segment of the window costs one small request, and nothing else that grows with it.
#[test]
fn requests_of_a_window() {
    let scratch = Scratch::new("maps-requests");
    let store = Store::ministack(&scratch, &["backups"]);
    let proxy = FaultProxy::start(&store.endpoint());
    let site = crate::s3::site(&scratch, PgVersion::NEWEST, store.env_for(&proxy.endpoint()));
    site.sql("create table t as select g, 0 as n, repeat('x', 300) as pad from generate_series(1, 5000) g");
    let _ = site.backup(&["--full"]);
    let mut counts = Vec::new();
    for segments in [2, 22] {
        for n in 0..segments {
            site.sql(&format!("update t set n = {n} where g % 100 = {n}; select pg_switch_wal()"));
        }
        site.pg.wait_archived();
        proxy.reset_counts();
        let p = site.backup(&[]);
        assert_eq!(method(&p), "wal-maps", "{p}");
        // Those of the archiver, which stores a segment or two meanwhile, are not ours.
        let window = reason(&p).split(' ').next().and_then(|n| n.parse::<u64>().ok()).expect("segments");
        counts.push((window, proxy.count("GET", ".wal"), proxy.counts()["GET"]));
    }
    let (few, many) = (counts[0], counts[1]);
    assert!(many.0 >= few.0 + 15, "{counts:?}");
    // One for each of the window (its last is read from pg_wal), those that the point needs, and looks for the one that
    // the archiver is about to store.
    for (window, requests, _) in [few, many] {
        assert!((window - 1..=window + 8).contains(&requests), "{counts:?}");
    }
    assert!(many.2 - few.2 <= many.0 - few.0 + 18, "{counts:?}");
}
