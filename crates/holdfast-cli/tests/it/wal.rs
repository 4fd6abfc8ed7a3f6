//! The archive: what it takes, what it refuses, what it gives back.

use crate::common::{DB, Site, eventually, path_text, server, text};
use holdfast_testkit::damage::flip_bit_at;
use holdfast_testkit::{Output, PgVersion, user};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn push(site: &Site, path: &Path) -> Output {
    site.hf.run(&["--json", "wal", "push", "--db", DB, &path_text(path)])
}

/// A file of this name and content outside of any data directory.
fn stray(site: &Site, dir: &str, name: &str, content: &[u8]) -> PathBuf {
    site.scratch.write(format!("stray/{dir}/{name}"), content)
}

#[test]
fn what_the_archive_takes() {
    let site = Site::new("push", PgVersion::NEWEST);
    let segment = site.pg.wait_archived();
    let next = site.pg.wait_archived();
    let path = site.pg.data_dir().join("pg_wal").join(&segment);
    let original = fs::read(&path).expect("read a segment");
    let before = site.vault_files();

    // The same again is success and stores nothing.
    let again = push(&site, &path).ok().json();
    assert_eq!((&again["duplicate"], &again["stored_bytes"]), (&true.into(), &0.into()), "{again}");
    assert_eq!(site.vault_files(), before);

    // Other content under its name: refused, kept apart (once), and the original stays what it was.
    let mut other = original.clone();
    let middle = other.len() / 2;
    other[middle] ^= 1;
    let twin = stray(&site, "twin", &segment, &other);
    for _ in 0..2 {
        let out = push(&site, &twin).expect_code(13);
        let (code, message, hint) = crate::common::error_of(&out);
        assert_eq!(code, "refused");
        assert!(message.contains("other content") && hint.contains("conflict"), "{message} {hint}");
    }
    let conflicts: Vec<String> =
        site.vault_files().into_iter().filter(|f| f.contains("/wal/conflict/")).collect();
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    assert_eq!(site.wal_status()["conflicts"].as_array().map(Vec::len), Some(1));
    let _ = site.hf.run(&["wal", "status"]).ok().says("CONFLICT");
    let (code, got) = site.wal_get(&segment, "1s");
    assert_eq!(code, 0);
    assert!(fs::read(got).expect("what came back") == original);

    // Another system's WAL, in its own data directory and carried into ours.
    let files = site.vault_files();
    let stranger = server(&site.scratch, "stranger", PgVersion::NEWEST).fresh_initdb().create();
    let foreign = segments(stranger.data_dir(), "00000001").remove(0);
    let out = push(&site, &foreign).expect_code(13);
    assert!(crate::common::error_of(&out).1.contains("another cluster"), "{}", out.transcript());
    let carried = stray(&site, "foreign", "0000000100000000000000F1", &fs::read(&foreign).expect("read"));
    let _ = push(&site, &carried).expect_code(13).says("is of system");

    // Right system, wrong name, wrong size, no WAL at all, names that are none.
    let _ = push(&site, &stray(&site, "moved", "0000000100000000000000F2", &original))
        .expect_code(13)
        .says("position");
    let _ = push(&site, &stray(&site, "short", &segment, &original[..4096]))
        .expect_code(13)
        .says("bytes instead of");
    let _ = push(&site, &stray(&site, "zeros", "0000000100000000000000F3", &vec![0; original.len()]))
        .expect_code(13);
    let _ = push(&site, &stray(&site, "name", "notes.txt", b"x")).expect_code(2);
    let _ = push(&site, &site.scratch.path("stray/not/there/0000000100000000000000F4")).expect_code(1);
    assert_eq!(site.vault_files(), files, "nothing refused is stored");

    // What a server gave before still goes on.
    let (code, _) = site.wal_get(&next, "1s");
    assert_eq!(code, 0);
    site.pg.wait_archived();
    assert!(!site.pg.log().contains("archive command failed"), "{}", site.pg.log());
}

#[test]
fn what_the_archive_gives() {
    let site = Site::new("get", PgVersion::NEWEST);
    let names: Vec<String> = (0..5).map(|_| site.pg.wait_archived()).collect();
    let (code, got) = site.wal_get(&names[0], "1s");
    assert_eq!(code, 0);
    let source = site.pg.data_dir().join("pg_wal").join(&names[0]);
    assert!(fs::read(got).expect("got") == fs::read(source).expect("source"));

    // 1 only for what is certainly absent.
    assert_eq!(site.wal_get("0000000100000000000000FF", "1s").0, 1);
    assert_eq!(site.wal_get("00000002.history", "1s").0, 1);
    assert_eq!(site.wal_get("000000020000000000000001", "1s").0, 1);

    // 200 for everything else: names that are none, a place that is none, arguments that are none.
    assert_eq!(site.wal_get("nonsense", "1s").0, 200);
    let _ = site.hf.run(&["wal", "get", &names[0], "/nonexistent/dir/x"]).expect_code(200);
    let _ = site.hf.run(&["wal", "get", "--what"]).expect_code(200);
    let _ = site.hf.run(&["wal", "get", "--db", "unknown", &names[0], "x"]).expect_code(200);

    // A damaged object.
    let object = site.vault_file(&format!("{}.wal", names[1]));
    let intact = fs::read(&object).expect("read");
    // In the first frame, behind what the segment says about pages.
    let changes = u32::from_le_bytes(intact[220..224].try_into().expect("four bytes"));
    flip_bit_at(&object, 256 + u64::from(changes) + 5, 3);
    assert_eq!(site.wal_get(&names[1], "1s").0, 200);
    site.scratch.write(object.strip_prefix(site.scratch.dir()).expect("inside"), &intact);

    // A gap is not the end.
    let object = site.vault_file(&format!("{}.wal", names[2]));
    let aside = site.scratch.path("aside");
    fs::rename(&object, &aside).expect("move an object away");
    assert_eq!(site.wal_get(&names[2], "1s").0, 200);
    let status = site.wal_status();
    let gap = &status["gaps"][0];
    assert_eq!(
        (text(&gap["after"]), text(&gap["before"]), &gap["missing"]),
        (&*names[1], &*names[3], &1.into()),
        "{status}"
    );
    let _ = site.hf.run(&["wal", "status"]).ok().says("GAP");
    fs::rename(&aside, &object).expect("bring it back");
    assert_eq!(site.wal_status()["gaps"].as_array().map(Vec::len), Some(0));
    assert_eq!(site.wal_get(&names[2], "1s").0, 0);

    // A vault that is not there, and a key that does not open it.
    let (vault, away) = (site.scratch.path("vault"), site.scratch.path("away"));
    fs::rename(&vault, &away).expect("move the vault away");
    assert_eq!(site.wal_get(&names[0], "1s").0, 200);
    assert_eq!(site.wal_get("0000000100000000000000FF", "1s").0, 200);
    fs::rename(&away, &vault).expect("bring it back");
    let key = site.scratch.path("hf.key");
    fs::rename(&key, site.scratch.path("right.key")).expect("move the key away");
    assert_eq!(site.wal_get(&names[0], "1s").0, 200);
    other_key(&site, "hf.key");
    assert_eq!(site.wal_get(&names[0], "1s").0, 200);
    assert_eq!(site.wal_get("0000000100000000000000FF", "1s").0, 200);
}

/// A key file that opens another vault.
fn other_key(site: &Site, name: &str) {
    let hf = holdfast_testkit::Holdfast::new(&site.scratch, site.scratch.path("other.toml"));
    let url = format!("file://{}", site.scratch.path("other-vault").display());
    let key = path_text(&site.scratch.path(name));
    let _ = hf
        .run(&[
            "init",
            "--name",
            "x",
            "--conninfo",
            &site.pg.conninfo(),
            "--vault",
            &url,
            "--key-file",
            &key,
            "--yes",
        ])
        .ok();
}

#[test]
fn prefetch_stays_outside_of_the_data_directory() {
    let site = Site::new("prefetch", PgVersion::V15);
    let names: Vec<String> = (0..6).map(|_| site.pg.wait_archived()).collect();
    let system = site.sql("select system_identifier from pg_control_system()");
    let dest = path_text(&site.scratch.make_dir("got").join("one"));
    let get = |name: &str| {
        let args = [
            "wal",
            "get",
            "--db",
            DB,
            "--cluster",
            &system,
            "--prefetch",
            "3",
            "--retry-for",
            "0s",
            name,
            &dest,
        ];
        site.hf.run(&args)
    };
    let _ = get(&names[0]).ok();
    let spool = site.scratch.path("state/spool");
    let spooled = || holdfast_testkit::damage::files_under(&spool);
    eventually("three segments are spooled", || {
        (1..=3).all(|i| spooled().iter().any(|f| f.ends_with(&names[i])))
    });
    assert!(!spooled().iter().any(|f| f.ends_with(&names[4])));
    let (vault, away) = (site.scratch.path("vault"), site.scratch.path("away"));
    fs::rename(&vault, &away).expect("move the vault away");
    let _ = get(&names[1]).ok();
    let expected = fs::read(site.pg.data_dir().join("pg_wal").join(&names[1])).expect("source");
    assert!(fs::read(&dest).expect("got") == expected);
    let _ = get(&names[5]).expect_code(200);
    fs::rename(&away, &vault).expect("bring it back");
    let in_data = holdfast_testkit::damage::files_under(site.pg.data_dir());
    let ours = |f: &PathBuf| f.file_name().is_some_and(|n| n.to_string_lossy().contains("holdfast"));
    assert!(!in_data.iter().any(ours), "nothing of ours in the data directory");
}

/// A copy with the same system identifier and timeline is not the owner until a person says so.
#[test]
fn a_copy_does_not_write_into_its_parents_archive() {
    let site = Site::new("fence", PgVersion::NEWEST);
    site.sql("create table t(id int)");
    let _ = site.backup(&[]);
    site.pg.wait_archived();
    let before = site.vault_files();
    // Archiving is off in the copy, whatever the source says.
    let copy = site.restore_and_start("copy", &["--immediate"]);
    assert_eq!(copy.sql("postgres", "show archive_mode"), "off");
    assert_eq!(copy.sql("postgres", "show archive_command"), "(disabled)");
    drop(copy);
    // Someone turns it on.
    let mut copy = site.copy("copy").archive_command(&site.archive_command).start();
    copy.wait_recovery_end(Duration::from_secs(60));
    copy.sql("postgres", "insert into t values (1)");
    copy.switch_wal();
    eventually("the copy is refused", || copy.log().contains("belongs to another data directory"));
    assert_eq!(site.vault_files(), before, "nothing of the copy is stored");
    let _ = site
        .hf
        .run(&["wal", "push", "--db", DB, &path_text(&segments(copy.data_dir(), "00000002")[0])])
        .expect_code(13)
        .says("wal adopt");
    // The rightful owner goes on meanwhile.
    site.pg.wait_archived();
    // A person decides. The old one is refused from then on, on the timeline that was taken.
    let done =
        site.hf.run(&["--json", "wal", "adopt", DB, "--data-dir", &path_text(copy.data_dir())]).ok().json();
    assert_eq!(done["adopted"][0]["timeline"], 2, "{done}");
    copy.wait_archived();
    assert!(site.vault_files().iter().any(|f| f.ends_with("/00000002.history")));
    let _ = site.hf.run(&["wal", "status"]).ok().says("timeline 2 from 1");
}

/// The segments of a timeline in pg_wal, oldest first.
fn segments(data_dir: &Path, timeline: &str) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = holdfast_testkit::damage::files_under(&data_dir.join("pg_wal"));
    all.retain(|f| f.file_name().is_some_and(|n| n.to_string_lossy().starts_with(timeline) && n.len() == 24));
    all.sort();
    all
}

/// A byte-for-byte copy of a data directory on the same timeline is fenced too.
#[test]
fn a_moved_data_directory_must_adopt() {
    let mut site = Site::new("moved", PgVersion::V15);
    let segment = site.pg.wait_archived();
    site.pg.stop(holdfast_testkit::StopMode::Immediate);
    let twin = site.scratch.path("twin");
    let done = user::command("cp").arg("-a").arg(site.pg.data_dir()).arg(&twin).status().expect("cp");
    assert!(done.success());
    let in_twin = path_text(&twin.join("pg_wal").join(&segment));
    let in_main = path_text(&site.pg.data_dir().join("pg_wal").join(&segment));
    let _ = site.hf.run(&["wal", "push", "--db", DB, &in_main]).ok();
    let _ = site.hf.run(&["wal", "push", "--db", DB, &in_twin]).expect_code(13).says("hint:");
    let _ = site.hf.run(&["wal", "adopt", DB, "--data-dir", &path_text(&twin)]).ok();
    let _ = site.hf.run(&["wal", "adopt", DB, "--data-dir", &path_text(&twin)]).ok();
    let _ = site.hf.run(&["wal", "push", "--db", DB, &in_twin]).ok();
    let _ = site
        .hf
        .run(&["wal", "push", "--db", DB, &in_main])
        .expect_code(13)
        .says("belongs to another data directory");
}

/// What a restore's plan saw and a sweep removed meanwhile is not the end of the log.
#[test]
fn what_vanished_is_not_the_end() {
    let site = Site::new("vanished", PgVersion::V17);
    let _ = site.backup(&[]);
    site.sql("select pg_switch_wal()");
    let last = site.pg.wait_archived();
    let status = site.wal_status();
    let cluster = text(&status["cluster"]).to_owned();
    let first = text(&status["spans"][0]["first"]).to_owned();
    let folder = format!("/{first}.wal");
    std::fs::remove_file(site.vault_file(&folder)).expect("remove a segment");
    let dest = site.scratch.path("got").display().to_string();
    let get = |more: &[&str], name: &str| {
        let mut args = vec!["wal", "get", "--db", DB, "--retry-for", "1s", "--cluster", &cluster];
        args.extend(["--timeline", "1", "--prefetch", "0"]);
        args.extend(more);
        args.extend([name, &dest]);
        site.hf.run(&args)
    };
    // By itself it could be older than the archive.
    let _ = get(&[], &first).expect_code(1);
    let out = get(&["--planned", &last], &first).expect_code(200);
    assert!(out.stderr.contains("is gone"), "{}", out.stderr);
    let _ = get(&["--reach", &last], &first).expect_code(200);
    // Behind the plan's end the archive may simply end.
    let _ = get(&["--planned", &last], "0000000100000000000000F0").expect_code(1);
}
