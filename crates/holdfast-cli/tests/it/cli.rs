//! What the command line says, and how it ends.

use crate::common::{DB, Site, error_of, path_text, server, text};
use holdfast_testkit::{Fault, Holdfast, Output, PgVersion, Scratch};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

fn hint(out: Output, code: i32) -> (String, String) {
    let (_, message, hint) = error_of(&out.expect_code(code));
    assert!(!hint.is_empty(), "no hint with: {message}");
    (message, hint)
}

#[test]
fn policies_that_are_not_there_or_malformed() {
    let scratch = Scratch::new("policy");
    let bare = Holdfast::bare(&scratch);
    for args in [
        &["list"][..],
        &["backup"],
        &["check"],
        &["doctor"],
        &["validate"],
        &["wal", "status"],
        &["show", "x"],
    ] {
        let json = [&["--json"], args].concat();
        let (message, hint) = hint(bare.run(&json), 2);
        assert!(message.contains("policy") && hint.contains("holdfast init"), "{message} {hint}");
        let out = bare.run(args).expect_code(2);
        assert!(
            out.stdout.is_empty() && out.stderr.contains("error: ") && out.stderr.contains("hint: "),
            "{}",
            out.transcript()
        );
    }
    let missing = Holdfast::new(&scratch, scratch.path("nowhere.toml"));
    let _ = missing.run(&["list"]).expect_code(2).says("nowhere.toml");
    let by_env = Holdfast::bare(&scratch).env("HOLDFAST_CONFIG", scratch.path("elsewhere.toml"));
    let _ = by_env.run(&["list"]).expect_code(2).says("elsewhere.toml");
    // File, line, column and a hint.
    let path = scratch.write(
        "bad.toml",
        "version = 1\n\n[databases.app]\nsource = \"postgresql:///x\"\npolicyy = \"standard\"\n",
    );
    let bad = Holdfast::new(&scratch, &path);
    let (message, _) = hint(bad.run(&["--json", "validate"]), 2);
    assert!(message.contains(&format!("{}:5:1", path.display())), "{message}");
    let path = scratch.write("worse.toml", "version = 1\n[databases.app\n");
    let (message, _) = hint(Holdfast::new(&scratch, &path).run(&["--json", "backup"]), 2);
    assert!(message.contains(&format!("{}:2:", path.display())), "{message}");
    // A policy where it is looked for without being told.
    fs::rename(scratch.path("worse.toml"), scratch.path("holdfast.toml")).expect("rename");
    let _ = bare.run(&["list"]).expect_code(2).says("holdfast.toml:2:");
    // The command line itself.
    let _ = bare.run(&["dance"]).expect_code(2);
    let _ = bare.run(&["--version"]).ok().says("holdfast ");
    let _ = bare.run(&["--help"]).ok().says("backup");
    let _ = bare.run(&["restore", "--help"]).ok().says("--tablespace-map");
}

#[test]
fn init_again_and_again() {
    let mut site = Site::new("init", PgVersion::V15);
    let first = site.backup(&[]);
    // Its .backup file comes last, and is a file of the vault.
    site.pg.wait_archived();
    let policy = fs::read_to_string(site.scratch.path("holdfast.toml")).expect("policy");
    let key = fs::read(site.scratch.path("hf.key")).expect("key");
    let files = site.vault_files();
    let url = format!("file://{}", site.scratch.path("vault").display());
    let key_file = path_text(&site.scratch.path("hf.key"));
    let conninfo = site.pg.conninfo();
    let init = |hf: &Holdfast, name: &str, conninfo: &str, key: &str| {
        hf.run(&[
            "--json",
            "init",
            "--name",
            name,
            "--conninfo",
            conninfo,
            "--vault",
            &url,
            "--key-file",
            key,
            "--yes",
        ])
    };
    // The same again changes nothing.
    let again = init(&site.hf, DB, &conninfo, &key_file).ok().json();
    assert_eq!((&again["vault_created"], &again["key_created"]), (&false.into(), &false.into()));
    assert_eq!(fs::read_to_string(site.scratch.path("holdfast.toml")).expect("policy"), policy);
    assert!(fs::read(site.scratch.path("hf.key")).expect("key") == key);
    assert_eq!(site.vault_files(), files);
    // Another host joins the vault with the key.
    let joined = Holdfast::new(&site.scratch, site.scratch.path("joined/holdfast.toml"));
    site.scratch.make_dir("joined");
    let done = init(&joined, DB, &conninfo, &key_file).ok().json();
    assert_eq!(done["vault_created"], false);
    assert_eq!(joined.run(&["--json", "list"]).ok().json()["points"][0]["id"], first["id"]);
    // Without the right key it does not.
    let stranger = Holdfast::new(&site.scratch, site.scratch.path("stranger.toml"));
    let fresh = path_text(&site.scratch.path("fresh.key"));
    let _ = init(&stranger, DB, &conninfo, &fresh).expect_code(12);
    assert!(!site.scratch.path("stranger.toml").exists());
    // A second database in the same policy and vault.
    let second = server(&site.scratch, "second", PgVersion::V15).fresh_initdb().start();
    let done = init(&site.hf, "billing", &second.conninfo(), &key_file).ok().json();
    second
        .sql("postgres", &format!("alter system set archive_command = '{}'", text(&done["archive_command"])));
    second.sql("postgres", "select pg_reload_conf()");
    let _ = site.hf.run(&["--json", "backup"]).expect_code(2);
    let point = site.hf.run(&["--json", "backup", "billing"]).ok().json();
    assert_eq!(point["database"], "billing");
    let all = site.hf.run(&["--json", "list"]).ok().json();
    assert_eq!(all["points"].as_array().map(Vec::len), Some(2), "{all}");
    let (message, hint) = self::hint(site.hf.run(&["--json", "backup", "unknown"]), 10);
    assert!(message.contains("unknown") && hint.contains("billing"), "{message} {hint}");
    let _ = self::hint(site.hf.run(&["--json", "list", "unknown"]), 10);
    let _ = self::hint(site.hf.run(&["--json", "verify", "unknown"]), 10);
    let _ = self::hint(site.hf.run(&["--json", "restore", "unknown", "--to", "/tmp/x"]), 10);
    // Passwords do not belong on a command line, and questions need a terminal.
    let with_password = format!("{conninfo} password=hunter2");
    let out = init(&stranger, DB, &with_password, &fresh);
    let (message, _) = self::hint(out.clone(), 2);
    assert!(
        message.contains("password") && !out.transcript().replace("password=hunter2", "").contains("hunter2"),
        "{message}"
    );
    let _ = stranger.run(&["--json", "init", "--yes"]).expect_code(2).says("--name");
    let _ = stranger
        .run(&["--json", "init", "--name", "Not a name!", "--conninfo", &conninfo, "--yes"])
        .expect_code(2);
    // A server that is not there.
    site.pg.stop(holdfast_testkit::StopMode::Fast);
    let (message, _) = self::hint(site.hf.run(&["--json", "backup", DB]), 1);
    assert!(!message.is_empty());
    let _ = site.hf.run(&["list", DB]).ok();
}

#[test]
fn init_prints_what_the_server_needs() {
    let scratch = Scratch::new("initout");
    let pg = server(&scratch, "main", PgVersion::NEWEST).start();
    pg.sql("postgres", "create role backup login");
    let hf = Holdfast::new(&scratch, scratch.path("holdfast.toml"));
    let vault = path_text(&scratch.path("vault"));
    let conninfo = pg.conninfo().replace("user=postgres", "user=backup");
    // Without rights the data directory is not even known.
    let args = ["init", "--name", DB, "--conninfo", &conninfo, "--vault", &vault, "--yes"];
    let _ = hf.run(&args).expect_code(13).says("pg_read_all_settings");
    pg.sql("postgres", "grant pg_read_all_settings to backup");
    let out = hf.run(&args).ok();
    for part in [
        "archive_command = '",
        "wal push --db app %p",
        "grant execute on function pg_backup_start",
        "archive_mode = on",
    ] {
        assert!(out.stdout.contains(part), "{part} in\n{}", out.transcript());
    }
    assert_eq!(
        fs::metadata(scratch.path("holdfast.key")).expect("a key").permissions().mode() & 0o777,
        0o600
    );
    // The grants it prints are enough.
    for line in out.stdout.lines().map(str::trim).filter(|l| l.starts_with("grant ")) {
        pg.sql("postgres", line);
    }
    let command = format!("{} wal push --db {DB} %p", hf.shell());
    pg.sql("postgres", &format!("alter system set archive_command = '{command}'"));
    pg.sql("postgres", "select pg_reload_conf()");
    let point = hf.run(&["--json", "backup"]).ok().json();
    assert_eq!(point["status"], "succeeded");
    let doctor = hf.run(&["--json", "doctor"]).json();
    for line in doctor["checks"].as_array().expect("checks").iter().filter(|l| l["status"] == "FAIL") {
        assert!(text(&line["name"]).contains("fsync") || text(&line["message"]).contains("fsync"), "{line}");
    }
}

#[test]
fn json_is_one_document_and_progress_goes_to_stderr() {
    let site = Site::new("json", PgVersion::NEWEST);
    let out = site.hf.run(&["--json", "backup"]).ok();
    let _ = out.json();
    for line in out.stderr.lines() {
        let v: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(v["type"].is_string(), "{line}");
    }
    assert!(out.stderr.contains("\"phase\""), "{}", out.transcript());
    site.pg.wait_archived();
    for args in [
        &["list"][..],
        &["wal", "status"],
        &["check"],
        &["doctor"],
        &["validate"],
        &["verify", "--level", "L1"],
        &["restore", DB, "--to", "/nonexistent/x", "--plan"],
        &["wal", "adopt", DB],
    ] {
        let out = site.hf.run(&[&["--json"], args].concat());
        assert!(out.json().is_object(), "{}", out.transcript());
    }
    // An error is a document too, and nothing else.
    let out = site.hf.run(&["--json", "show", "nothing"]).expect_code(10);
    let (code, message, hint) = error_of(&out);
    assert_eq!(code, "not-found");
    assert!(!message.is_empty() && !hint.is_empty());
    assert_eq!(out.json().as_object().map(serde_json::Map::len), Some(1));
    // Without --json: data on stdout, progress on stderr, and less of it on request.
    let out = site.hf.run(&["backup"]).ok();
    assert!(out.stdout.starts_with("point ") && !out.stderr.is_empty(), "{}", out.transcript());
    let out = site.hf.run(&["--no-progress", "backup"]).ok();
    assert!(out.stderr.is_empty(), "{}", out.transcript());
}

/// One run per database at a time; a stopped one leaves no point and nobody has to clean up.
#[test]
fn two_runs_at_once_and_an_interrupt() {
    let scratch = Scratch::new("busy");
    let store = holdfast_testkit::Store::ministack(&scratch, &["busy"]);
    let proxy = holdfast_testkit::FaultProxy::start(&store.endpoint());
    let pg = server(&scratch, "main", PgVersion::V15).start();
    let hf = Holdfast::new(&scratch, scratch.path("holdfast.toml")).envs(store.env_for(&proxy.endpoint()));
    let key = path_text(&scratch.path("hf.key"));
    let _ = hf
        .run(&[
            "init",
            "--name",
            DB,
            "--conninfo",
            &pg.conninfo(),
            "--vault",
            "s3://busy/v",
            "--key-file",
            &key,
            "--yes",
        ])
        .ok();
    // A slow store gives the time that the test needs.
    proxy.add(holdfast_testkit::Rule::on("", "/runs/").fault(Fault::Delay(Duration::from_secs(3))));
    let slow = |hf: &Holdfast| {
        let mut run = hf.spawn(&["--json", "backup"]);
        crate::common::eventually("the run writes", || proxy.count("", "/runs/") > 0 || !run.is_running());
        assert!(run.is_running(), "{}", run.output());
        run
    };
    let mut run = slow(&hf);
    assert!(run.freeze(), "{}", run.output());
    let (message, _) = hint(hf.run(&["--json", "backup"]), 11);
    assert!(message.contains("another run"), "{message}");
    // Reading is not a run.
    let _ = hf.run(&["list"]).ok();
    run.thaw();
    run.interrupt();
    let status = run.wait(Duration::from_secs(60)).expect("it stops");
    assert_eq!(status.code(), Some(130), "{}", run.output());
    assert!(run.output().contains("\"cancelled\""), "{}", run.output());
    // Terminated, as systemd does it.
    proxy.reset_counts();
    let mut run = slow(&hf);
    run.terminate();
    let status = run.wait(Duration::from_secs(60)).expect("it stops");
    assert_eq!(status.code(), Some(130), "{}", run.output());
    // The server is not left in backup mode, the vault shows no point, the next run is fine.
    proxy.heal();
    // Its backend sees a little later that the client has gone.
    let sessions = "select count(*) from pg_stat_activity where application_name = 'holdfast'";
    crate::common::eventually("its session ends", || pg.sql("postgres", sessions) == "0");
    let list = hf.run(&["--json", "list"]).ok().json();
    assert_eq!(list["points"].as_array().map(Vec::len), Some(0), "{list}");
    assert_eq!(list["failed_runs"].as_array().map(Vec::len), Some(2), "{list}");
    let _ = hf.run(&["backup"]).ok();
    let _ = hf.run(&["check"]).ok();
}

#[test]
fn iam_policies_are_printed_without_a_policy_or_credentials() {
    let scratch = Scratch::new("iam");
    let bare = Holdfast::bare(&scratch);
    let out =
        bare.run(&["iam", "--role", "backup", "--account", "123456789012", "--region", "eu-west-1"]).ok();
    let policy: serde_json::Value = serde_json::from_str(&out.stdout).expect("a JSON document");
    assert_eq!(policy["Version"], "2012-10-17");
    assert!(out.stdout.contains("arn:aws:rds:eu-west-1:123456789012:snapshot:*"), "{}", out.stdout);
    assert!(!out.stdout.contains("rds:DeleteDBSnapshot"), "{}", out.stdout);
    let json = bare.run(&["--json", "iam", "--role", "delete"]).ok();
    assert!(json.stdout.contains("\"role\": \"delete\"") && json.stdout.contains("rds:DeleteDBSnapshot"));
    let key = bare.run(&["iam", "--key-for", "210987654321"]).ok();
    assert!(key.stdout.contains("arn:aws:iam::210987654321:root") && key.stdout.contains("kms:CreateGrant"));
    let (message, _) = hint(bare.run(&["--json", "iam", "--key-for", "12"]), 2);
    assert!(message.contains("is no account"), "{message}");
    let (message, _) = hint(bare.run(&["--json", "iam", "--role", "admin"]), 2);
    assert!(message.contains("observe, backup, configure, restore and delete"), "{message}");
}
