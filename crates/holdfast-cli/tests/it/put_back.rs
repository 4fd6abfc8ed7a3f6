//! A machine that was put back to a snapshot writes another future under the same names. A remote run sees only
//! what the server says of itself: it must not go by what the abandoned future left, neither in the vault nor
//! in the server's summaries. (`changes.rs` has the same for runs on the server's host.)

use crate::common::{DB, Site, error_of, fingerprint, path_text, server, text};
use crate::remote::{make_remote, method, pages, remote_site};
use holdfast_testkit::{PgVersion, Scratch, StopMode};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn cp(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().expect("run cp").success());
}

/// The whole data directory, WAL, summaries and statistics included, as a snapshot of the machine has it.
fn snapshot(site: &mut Site) -> PathBuf {
    let saved = site.scratch.path("snapshot");
    site.pg.stop(StopMode::Fast);
    cp(site.pg.data_dir(), &saved);
    site.pg.start();
    saved
}

fn put_back(site: &mut Site, saved: &Path) {
    let data = site.pg.data_dir().to_path_buf();
    site.pg.stop(StopMode::Immediate);
    fs::remove_dir_all(&data).expect("remove the data directory");
    cp(saved, &data);
}

fn table(site: &Site) {
    site.sql("create table t as select g, repeat('x', 300) as pad from generate_series(1, 20000) g");
    site.sql("vacuum analyze t; checkpoint");
}

fn points(site: &Site) -> Vec<String> {
    let list = site.hf.run(&["--json", "list", DB]).ok().json();
    list["points"].as_array().expect("points").iter().map(|p| text(&p["id"]).to_owned()).collect()
}

/// Changes pages until the log is so many MiB further than this.
fn go_beyond(site: &Site, lsn: &str, mib: u32) {
    while site.sql(&format!("select pg_current_wal_lsn() > pg_lsn '{lsn}' + ({mib} << 20)")) != "t" {
        site.sql("update t set pad = 'kept' where g % 77 = 0; select pg_switch_wal()");
    }
}

/// No row of the abandoned future, all of this one.
fn restored(site: &Site, point: &Value, name: &str, args: &[&str], expected: &str) {
    let args = [&["--point", text(&point["id"])], args].concat();
    let mut copy = site.restore_and_start(name, &args);
    assert_eq!(copy.sql("postgres", "select count(*) from t where pad = 'lost'"), "0", "{point}");
    assert_eq!(fingerprint(&copy, "postgres"), expected, "{point}");
    copy.amcheck();
    copy.stop(StopMode::Fast);
    copy.check_checksums();
}

/// The archive has the abandoned future. Its names are taken, so nothing can be backed up until the server is on
/// a timeline of its own; then everything is compared, and from there on the summaries are good again.
#[test]
fn the_archive_has_the_abandoned_future() {
    let mut site = remote_site("remote-back", PgVersion::NEWEST, &[("summarize_wal", "on")]);
    table(&site);
    // The server's own host pushes, so it is the one that owns the archive.
    let full = site.backup(&[]);
    site.pg.wait_archived();
    let saved = snapshot(&mut site);
    site.sql("update t set pad = 'lost' where g % 50 = 0");
    let lost = site.backup(&[]);
    assert_eq!((&lost["parent"], method(&lost)), (&full["id"], "wal-summaries"), "{lost}");
    site.sql("update t set pad = 'lost' where g % 51 = 0");
    site.pg.wait_archived();
    let far = site.pg.current_lsn();

    put_back(&mut site, &saved);
    site.pg.start();
    // A machine put back has the same data directory; this one is a copy, with another inode.
    let dir = path_text(site.pg.data_dir());
    let _ = site.hf.run(&["wal", "adopt", DB, "--data-dir", &dir]).ok();
    site.sql("update t set pad = 'kept' where g % 77 = 0");
    // Before the end of its parent, and beyond it.
    let before = site.vault_files();
    for _ in 0..2 {
        let (_, message, hint) = error_of(&site.hf.run(&["--json", "backup", DB]).expect_code(13));
        assert!(message.contains("wal") && !hint.is_empty(), "{message} {hint}");
        go_beyond(&site, &far, 3);
    }
    assert_eq!(points(&site), [text(&full["id"]), text(&lost["id"])]);
    let wal = |files: &[String]| -> Vec<String> {
        files.iter().filter(|f| f.contains("/wal/0000")).cloned().collect()
    };
    assert_eq!(wal(&site.vault_files()), wal(&before), "no segment of this future under a name of the other");

    // As it should be done: put back, and onto a timeline of its own before anything is written.
    put_back(&mut site, &saved);
    site.scratch.write("main/recovery.signal", "");
    let conf = site.pg.data_dir().join("postgresql.auto.conf");
    let old = fs::read_to_string(&conf).expect("settings");
    fs::write(&conf, format!("{old}\nrestore_command = 'false'\n")).expect("settings");
    site.pg.start();
    site.pg.wait_recovery_end(Duration::from_secs(60));
    let _ = site.hf.run(&["wal", "adopt", DB, "--data-dir", &dir]).ok();
    site.sql("update t set pad = 'kept' where g % 77 = 0; checkpoint");
    site.pg.wait_archived();
    let next = site.backup(&[]);
    assert_eq!((&next["parent"], method(&next)), (&lost["id"], "stream-compare"), "{next}");
    assert!(text(&next["changes"]["reason"]).contains("timeline"), "{next}");
    assert_eq!(next["timeline"], 2, "{next}");
    site.sql("update t set pad = 'also kept' where g % 78 = 0");
    let after = site.backup(&[]);
    assert_eq!((&after["parent"], method(&after)), (&next["id"], "wal-summaries"), "{after}");
    let expected = fingerprint(&site.pg, "postgres");
    site.pg.wait_archived();
    restored(&site, &next, "next", &[], &expected);
    restored(&site, &after, "after", &[], &expected);
    // Page by page, with the server stopped at the same place.
    let mut copy = site.restore_and_start("plain", &["--point", text(&after["id"])]);
    copy.stop(StopMode::Fast);
    site.pg.stop(StopMode::Fast);
    let found = pages::compare(site.pg.data_dir(), copy.data_dir());
    assert_eq!(found.different, Vec::<String>::new());
    assert!(found.pages > 500, "{found:?}");
    let _ = site.hf.run(&["check"]).ok();
}

/// Nothing but the runs themselves brings WAL: no archive says which future is the right one.
#[test]
fn nobody_archives() {
    let scratch = Scratch::new("remote-back-alone");
    let pg = server(&scratch, "main", PgVersion::NEWEST).setting("archive_mode", "off");
    let mut site = Site::with(pg.setting("summarize_wal", "on").start(), &scratch, &[]);
    make_remote(&site);
    table(&site);
    let full = site.backup(&[]);
    let saved = snapshot(&mut site);
    site.sql("update t set pad = 'lost' where g = 50");
    let lost = site.backup(&[]);
    assert_eq!(&lost["parent"], &full["id"], "{lost}");
    put_back(&mut site, &saved);
    site.pg.start();
    // More than before: with as many bytes, and in the same second, the next segments of both futures are the same byte
    // for byte (times of checkpoints are whole seconds), and there is nothing to refuse.
    site.sql("update t set pad = 'kept' where g between 77 and 97");
    // It begins in a segment that the vault has from the other future.
    let (_, message, _) = error_of(&site.hf.run(&["--json", "backup", DB]).expect_code(13));
    assert!(message.contains("/wal/00000001/"), "{message}");
    assert_eq!(points(&site), [text(&full["id"]), text(&lost["id"])]);
    // Far beyond all that the vault has: what differs is found by content, also from the abandoned point.
    go_beyond(&site, text(&lost["stop_lsn"]), 8);
    let next = site.backup(&[]);
    assert_eq!((&next["parent"], method(&next)), (&lost["id"], "stream-compare"), "{next}");
    restored(&site, &next, "next", &["--immediate"], &fingerprint(&site.pg, "postgres"));
    // Back once more, and less far than the newest point, where the vault has nothing yet.
    put_back(&mut site, &saved);
    site.pg.start();
    go_beyond(&site, text(&lost["stop_lsn"]), 2);
    let third = site.backup(&[]);
    assert_eq!((text(&third["kind"]), method(&third)), ("full", "all"), "{third}");
    assert!(text(&third["changes"]["reason"]).contains("went back"), "{third}");
    restored(&site, &third, "third", &["--immediate"], &fingerprint(&site.pg, "postgres"));
    // And again, with a parent from the second future that was abandoned.
    put_back(&mut site, &saved);
    site.pg.start();
    site.sql("update t set pad = 'fourth' where g % 79 = 0");
    go_beyond(&site, text(&next["stop_lsn"]), 2);
    let fourth = site.backup(&[]);
    assert_eq!((&fourth["parent"], method(&fourth)), (&third["id"], "stream-compare"), "{fourth}");
    restored(&site, &fourth, "fourth", &["--immediate"], &fingerprint(&site.pg, "postgres"));
}
