//! Keys: what each may do, how they come back, and that they are never shown.

use crate::common::{DB, Site, error_of, fingerprint, path_text, server};
use holdfast_testkit::{Holdfast, Output, PgVersion, Scratch, TestRng, damage};
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).expect("stat").permissions().mode() & 0o777
}

/// A second policy for the same database with another key file.
fn with_key(site: &Site, name: &str, key: &str) -> Holdfast {
    let text = fs::read_to_string(site.scratch.path("holdfast.toml")).expect("policy");
    let changed = text.replace(&path_text(&site.scratch.path("hf.key")), &path_text(&site.scratch.path(key)));
    assert_ne!(text, changed);
    let path = site.scratch.write(name, changed);
    Holdfast::new(&site.scratch, path)
}

fn auth(out: Output) -> String {
    let (code, message, hint) = error_of(&out.expect_code(12));
    assert_eq!(code, "auth", "{message}");
    assert!(!hint.is_empty(), "{message}");
    message
}

#[test]
fn a_hosts_key_adds_and_does_not_read() {
    let site = Site::new("hostkey", PgVersion::NEWEST);
    let full = site.backup(&[]);
    let to = path_text(&site.scratch.path("host.key"));
    let _ = site.hf.run(&["key", "export", "--role", "host", "--to", &to]).ok();
    assert_eq!(mode(&site.scratch.path("host.key")), 0o600);
    let _ = site.hf.run(&["key", "export", "--role", "host", "--to", &to]).expect_code(13);
    let _ = site.hf.run(&["key", "export", "--role", "king", "--to", "/tmp/x"]).expect_code(2);
    let host = with_key(&site, "host.toml", "host.key");
    // What a host does every day works: backups build on those that others made, and WAL goes in.
    site.archive_with(&format!("{} wal push --db {DB} %p", host.shell()));
    site.sql("create table t as select g from generate_series(1, 1000) g");
    let point = host.run(&["--json", "backup"]).ok().json();
    assert_eq!((&point["kind"], &point["parent"]), (&"incremental".into(), &full["id"]), "{point}");
    let segment = site.pg.wait_archived();
    let _ = host.run(&["list"]).ok();
    let _ = host.run(&["wal", "status"]).ok();
    // What needs the content does not.
    let copy = path_text(&site.scratch.path("copy"));
    auth(host.run(&["--json", "restore", DB, "--to", &copy]));
    auth(host.run(&["--json", "restore", DB, "--to", &copy, "--plan"]));
    auth(host.run(&["--json", "verify", "--level", "L3"]));
    let _ = host.run(&["wal", "get", "--retry-for", "1s", &segment, &copy]).expect_code(200);
    let passphrase = path_text(&site.scratch.write("pass", "correct horse"));
    let _ = host.run(&["key", "passphrase", "--passphrase-file", &passphrase]).expect_code(13);
    assert!(!site.scratch.path("copy").exists());
    // The owner restores what the host stored.
    let expected = fingerprint(&site.pg, "postgres");
    let restored = site.restore_and_start("copy", &[]);
    assert_eq!(fingerprint(&restored, "postgres"), expected);
    let _ = site.hf.run(&["check"]).ok();
}

#[test]
fn wrong_keys_and_recovery_by_passphrase() {
    let site = Site::new("recover", PgVersion::V15);
    let _ = site.backup(&[]);
    site.pg.wait_archived();
    assert_eq!(mode(&site.scratch.path("hf.key")), 0o600);
    // Nothing to recover from yet.
    let right = path_text(&site.scratch.write("pass", "correct horse battery staple\n"));
    let wrong = path_text(&site.scratch.write("wrong", "tr0ub4dor\n"));
    let to = path_text(&site.scratch.path("new.key"));
    let _ = site.hf.run(&["key", "recover", "--passphrase-file", &right, "--to", &to]).expect_code(10);
    let _ = site.hf.run(&["key", "passphrase", "--passphrase-file", &right]).ok();
    // A key of another vault, a damaged one, one that is not there.
    let other = path_text(&site.scratch.path("other.key"));
    let url = format!("file://{}", site.scratch.path("other-vault").display());
    let elsewhere = Holdfast::new(&site.scratch, site.scratch.path("elsewhere.toml"));
    let _ = elsewhere
        .run(&[
            "init",
            "--name",
            "x",
            "--conninfo",
            &site.pg.conninfo(),
            "--vault",
            &url,
            "--key-file",
            &other,
            "--yes",
        ])
        .ok();
    let hf = with_key(&site, "other.toml", "other.key");
    let copy = path_text(&site.scratch.path("copy"));
    for args in [
        &["--json", "list"][..],
        &["--json", "backup"],
        &["--json", "restore", DB, "--to", &copy],
        &["--json", "verify"],
        &["--json", "check"],
    ] {
        auth(hf.run(args));
    }
    let mut key = fs::read(site.scratch.path("hf.key")).expect("key");
    let middle = key.len() / 2;
    key[middle] = if key[middle] == b'A' { b'B' } else { b'A' };
    site.scratch.write("damaged.key", &key);
    auth(with_key(&site, "damaged.toml", "damaged.key").run(&["--json", "list"]));
    let gone = with_key(&site, "gone.toml", "gone.key").run(&["--json", "list"]);
    assert!(gone.code != 0 && error_of(&gone).1.contains("gone.key"), "{}", gone.transcript());
    // Lost and found.
    fs::remove_file(site.scratch.path("hf.key")).expect("lose the key");
    auth(site.hf.run(&["--json", "key", "recover", "--passphrase-file", &wrong, "--to", &to]));
    assert!(!site.scratch.path("new.key").exists());
    let _ = site.hf.run(&["key", "recover", "--passphrase-file", &right, "--to", &to]).ok();
    assert_eq!(mode(&site.scratch.path("new.key")), 0o600);
    let _ = site.hf.run(&["key", "recover", "--passphrase-file", &right, "--to", &to]).expect_code(13);
    let hf = with_key(&site, "recovered.toml", "new.key");
    let _ = hf.run(&["restore", DB, "--to", &copy]).ok();
    // An empty passphrase is none.
    let empty = path_text(&site.scratch.write("empty", "\n"));
    let _ = hf.run(&["key", "passphrase", "--passphrase-file", &empty]).expect_code(2);
}

/// Without encryption the content lies open, and damage is still found.
#[test]
fn without_encryption() {
    let scratch = Scratch::new("plain");
    let pg = server(&scratch, "main", PgVersion::V15).start();
    let site = Site::with(pg, &scratch, &["--no-encryption"]);
    site.sql("create table t as select g, 'something' from generate_series(1, 5000) g");
    let _ = site.backup(&[]);
    site.pg.wait_archived();
    let expected = fingerprint(&site.pg, "postgres");
    let copy = site.restore_and_start("copy", &[]);
    assert_eq!(fingerprint(&copy, "postgres"), expected);
    drop(copy);
    let _ = site.hf.run(&["check"]).ok();
    let pack = site.vault_files().into_iter().find(|f| f.contains("data-")).expect("a pack of data");
    let pack = scratch.path("vault").join(pack);
    let size = fs::metadata(&pack).expect("stat").len();
    damage::flip_bit_at(&pack, size / 2, 0);
    let _ = site.hf.run(&["check"]).expect_code(5).says("FAIL");
    let _ = site.hf.run(&["verify", "--level", "L1"]).expect_code(5);
    let _ = site.try_restore("again", &[]).expect_code(5);
    assert!(!scratch.path("again/global/pg_control").exists());
}

/// Every command, with everything said that can be said: no secret is among it.
#[test]
fn secrets_are_never_shown() {
    let scratch = Scratch::new("secrets");
    let pg = server(&scratch, "main", PgVersion::NEWEST).start();
    let phrase = "a very secret passphrase 4711";
    let file = path_text(&scratch.write("pass", phrase));
    let site = Site::with(pg, &scratch, &["--passphrase-file", &file]);
    let password = "hunter2-and-then-some";
    let hf =
        site.hf.clone().env("PGPASSWORD", password).env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI-example");
    let segment = site.pg.wait_archived();
    let copy = path_text(&scratch.path("copy"));
    let exported = path_text(&scratch.path("export.key"));
    let got = path_text(&scratch.path("got"));
    let key_file = scratch.path("hf.key");
    let mut all = String::new();
    for args in [
        &["backup", "-v"][..],
        &["--json", "backup"],
        &["list", "-v"],
        &["--json", "list"],
        &["--json", "wal", "status"],
        &["doctor", "-v"],
        &["--json", "doctor", "-v"],
        &["check", "-v"],
        &["--json", "check"],
        &["validate", "-v"],
        &["restore", DB, "--to", &copy, "--plan"],
        &["--json", "restore", DB, "--to", &copy],
        &["--json", "verify", "-v"],
        &["-v", "key", "export", "--role", "owner", "--to", &exported],
        &["-v", "key", "passphrase", "--passphrase-file", &file],
        &["-v", "wal", "get", &segment, &got],
    ] {
        let out = hf.run(args);
        assert!(out.code == 0 || out.code == 5 && args.contains(&"doctor"), "{}", out.transcript());
        all.push_str(&out.transcript());
    }
    // And when the key file is damaged, the message does not quote it.
    let key = fs::read_to_string(&key_file).expect("the key file");
    let mut rng = TestRng::new(7);
    damage::flip_bit(&key_file, &mut rng);
    all.push_str(&hf.run(&["--json", "-v", "list"]).transcript());
    all.push_str(&site.pg.log());
    let words: Vec<&str> = key
        .split(|c: char| !(c.is_ascii_alphanumeric() || "+/=_-".contains(c)))
        .filter(|w| w.len() >= 24)
        .collect();
    assert!(!words.is_empty(), "the key file holds something that looks like a key");
    for (i, word) in words.iter().enumerate() {
        // The whole and its beginning; messages of this test must not show it either.
        assert!(!all.contains(&word[..16]), "word {i} of the key file was shown");
    }
    for secret in [phrase, password, "wJalrXUtnFEMI"] {
        assert!(!all.contains(secret), "a secret was shown");
    }
    // Nor does the restored copy hold any.
    for f in damage::files_under(&scratch.path("copy")) {
        let name = path_text(&f);
        if name.ends_with(".conf") || name.ends_with("backup_label") {
            let text = fs::read_to_string(&f).expect("a text");
            assert!(!text.contains(password) && !text.contains(&words[0][..16]), "{name}");
        }
    }
}
