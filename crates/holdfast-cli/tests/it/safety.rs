//! A restore writes over nothing, cannot be started half done, and leaves the world alone.

use crate::common::{Site, error_of, fingerprint, path_text, server};
use holdfast_testkit::{PgVersion, Scratch, StopMode, proc};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

#[test]
fn nothing_is_written_over() {
    let site = Site::new("over", PgVersion::NEWEST);
    let _ = site.backup(&[]);
    site.pg.wait_archived();
    site.scratch.write("full/precious.txt", "mine");
    let (code, message, hint) = error_of(&site.try_restore("full", &[]).expect_code(13));
    assert_eq!(code, "refused");
    assert!(message.contains("not empty") && !hint.is_empty(), "{message}");
    assert_eq!(fs::read_to_string(site.scratch.path("full/precious.txt")).expect("still there"), "mine");
    assert_eq!(fs::read_dir(site.scratch.path("full")).expect("dir").count(), 1);
    // The plan says so too, before anyone relies on it.
    let _ = site.try_restore("full", &["--plan"]).expect_code(13);
    // The source itself, running.
    let (_, message, _) = error_of(&site.try_restore("main", &[]).expect_code(13));
    assert!(message.contains("server may be running"), "{message}");
    // A file instead of a directory, and a place where nobody may write.
    site.scratch.write("a-file", "mine");
    assert_ne!(site.try_restore("a-file", &[]).code, 0);
    assert_eq!(fs::read_to_string(site.scratch.path("a-file")).expect("still there"), "mine");
    let out = site.hf.run(&["--json", "restore", "app", "--to", "/proc/nowhere/copy"]);
    assert_ne!(out.code, 0, "{}", out.transcript());
    // An empty directory that exists is fine, whatever its mode, and ends up private.
    let empty = site.scratch.make_dir("empty");
    fs::set_permissions(&empty, fs::Permissions::from_mode(0o755)).expect("chmod");
    let _ = site.restore("empty", &[]);
    assert_eq!(fs::metadata(&empty).expect("stat").permissions().mode() & 0o777, 0o700);
    for f in holdfast_testkit::damage::files_under(&empty) {
        let mode = fs::metadata(&f).expect("stat").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", f.display());
    }
    assert_eq!(site.sql("select 1"), "1");
}

#[test]
fn a_killed_restore_cannot_start_and_can_be_repeated() {
    let site = Site::new("killed", PgVersion::NEWEST);
    // Incompressible, so that there is time to kill it.
    site.sql("create table big as select g, gen_random_uuid() a, gen_random_uuid() b, gen_random_uuid() c from generate_series(1, 500000) g");
    let location = site.pg.create_tablespace("ts");
    site.sql("create table far tablespace ts as select * from big limit 200000");
    let _ = site.backup(&[]);
    site.pg.wait_archived();
    let to = path_text(&site.scratch.path("copy"));
    let map = format!("{}={}", location.display(), site.scratch.path("copy-ts").display());
    let args = ["restore", "app", "--to", &to, "--tablespace-map", &map];
    let control = site.scratch.path("copy/global/pg_control");
    for wait_for in [1u64, 8, 40] {
        let far_enough = || {
            // A listing of ours would stumble over what a repeated restore removes.
            let list = |d: &str| fs::read_dir(site.scratch.path(d)).map_or(0, |d| d.flatten().count());
            list("copy/base/5") as u64 >= wait_for
        };
        let mut tries = 0;
        let mut run = loop {
            let mut run = site.hf.spawn(&args);
            while run.is_running() && !far_enough() {
                std::thread::sleep(Duration::from_millis(1));
            }
            if run.freeze() && !control.exists() {
                break run;
            }
            // pg_control comes last: where it is, everything is.
            let there = |name: &str| site.scratch.path("copy").join(name).exists();
            assert!(
                !control.exists() || (there("backup_label") && there("recovery.signal")),
                "{}",
                run.output()
            );
            run.kill9();
            tries += 1;
            assert!(
                tries < 20,
                "pg_control comes last, and it is always faster than the kill:\n{}",
                run.output()
            );
            for d in ["copy", "copy-ts"] {
                fs::remove_dir_all(site.scratch.path(d)).expect("remove what was finished");
            }
        };
        run.kill9();
        let failed = site.copy("copy").try_start();
        assert!(failed.is_err(), "half a restore starts");
    }
    // Killed before the marker had its name, there is nothing but that: no reason to refuse.
    for dir in ["early", "early-ts"] {
        site.scratch.write(format!("{dir}/.holdfast-restore-in-progress.tmp-00c0ffee"), "half");
    }
    let early = format!("{}={}", location.display(), site.scratch.path("early-ts").display());
    let _ = site.restore("early", &["--tablespace-map", &early]);
    for dir in ["early", "early-ts"] {
        let mut left = fs::read_dir(site.scratch.path(dir)).expect("dir").flatten();
        assert!(left.all(|e| !e.file_name().to_string_lossy().starts_with(".holdfast")), "{dir}");
    }
    // It says so, and does it again.
    let plan = site.restore("copy", &["--tablespace-map", &map, "--plan"]);
    assert_eq!(plan["replaces_partial"], true);
    let mut copy = site.restore_and_start("copy", &["--tablespace-map", &map]);
    assert_eq!(fingerprint(&copy, "postgres"), fingerprint(&site.pg, "postgres"));
    let left: Vec<_> = ["copy", "copy-ts"]
        .iter()
        .flat_map(|d| holdfast_testkit::damage::files_under(&site.scratch.path(d)))
        .collect();
    assert!(!left.iter().any(|f| path_text(f).contains("holdfast-restore")), "no marker is left");
    copy.stop(StopMode::Fast);
    copy.check_checksums();
    // A finished one is nobody's to write over.
    let _ = site.try_restore("copy", &["--tablespace-map", &map]).expect_code(13);
}

#[test]
fn a_copy_needs_its_backup_label_and_leaves_the_world_alone() {
    let scratch = Scratch::new("copy");
    let pg = server(&scratch, "main", PgVersion::NEWEST)
        .setting("wal_level", "logical")
        .setting("synchronous_standby_names", "")
        .setting("primary_conninfo", "host=/nowhere user=replicator")
        .setting("work_mem", "7MB")
        .start();
    let site = Site::with(pg, &scratch, &[]);
    site.sql("create table t(id int primary key); create publication p for table t");
    site.sql("select from pg_create_physical_replication_slot('keep'); select from pg_create_logical_replication_slot('logical', 'pgoutput')");
    let _ = site.backup(&[]);
    site.pg.wait_archived();
    let _ = site.restore("copy", &["--set", "work_mem=9MB", "--set", "port=6543"]);
    let auto = fs::read_to_string(scratch.path("copy/postgresql.auto.conf")).expect("settings");
    for part in
        ["archive_mode = 'off'", "recovery_target_timeline", "wal get --db app --cluster", "port = '6543'"]
    {
        assert!(auto.contains(part), "{part} in:\n{auto}");
    }
    assert!(scratch.path("copy/recovery.signal").exists());
    // Somebody deletes backup_label "because the server would not start": it does not start.
    let label = scratch.path("copy/backup_label");
    let aside = scratch.path("label");
    fs::rename(&label, &aside).expect("move the label");
    let error = site.copy("copy").try_start().expect_err("a copy without backup_label must not start");
    assert!(error.contains("checkpoint"), "{error}");
    fs::rename(&aside, &label).expect("bring the label back");
    let mut copy = site.copy("copy").start();
    copy.wait_recovery_end(Duration::from_secs(60));
    let show = |name: &str| copy.sql("postgres", &format!("select current_setting('{name}')"));
    assert_eq!(show("archive_mode"), "off");
    assert_eq!(show("primary_conninfo"), "");
    assert_eq!(show("synchronous_standby_names"), "");
    assert_eq!(show("max_logical_replication_workers"), "0");
    assert_eq!(show("work_mem"), "9MB");
    assert_eq!(copy.sql("postgres", "select count(*) from pg_replication_slots"), "0");
    assert_eq!(copy.sql("postgres", "select count(*) from pg_publication"), "1");
    assert!(!scratch.path("copy/backup_label").exists(), "the server took it");
    let _ = site.try_restore("bad", &["--set", "port"]).expect_code(2);
    let _ = site.try_restore("bad", &["--set", "a b=c"]).expect_code(2);
}

/// WAL that a crashed host still had, which the archive never saw.
#[test]
fn rescued_wal_is_replayed() {
    let mut site = Site::new("rescue", PgVersion::V15);
    site.sql("create table t(id int)");
    let _ = site.backup(&[]);
    site.sql("insert into t values (1)");
    site.pg.wait_archived();
    site.archive_with("false");
    site.sql("insert into t values (2)");
    site.pg.switch_wal();
    site.sql("insert into t values (3)");
    site.pg.kill9();
    let pg_wal = path_text(&site.pg.data_dir().join("pg_wal"));
    let copy = site.restore_and_start("without", &[]);
    assert_eq!(copy.sql("postgres", "select string_agg(id::text, '') from t"), "1");
    drop(copy);
    let copy = site.restore_and_start("with", &["--wal-from", &pg_wal]);
    assert_eq!(copy.sql("postgres", "select string_agg(id::text, '' order by id) from t"), "123");
    drop(copy);
    assert!(proc::wait_until(Duration::from_secs(1), || !site.pg.is_running()));
}

/// An administrator as root: what comes back belongs to the server's user, and nothing that root left
/// behind is in that user's way.
#[test]
fn root_restores_for_the_servers_user() {
    use std::os::unix::fs::MetadataExt;
    let me = fs::metadata("/proc/self").expect("who am I").uid();
    if me != 0 {
        return;
    }
    let site = Site::new("root", PgVersion::V15);
    let location = site.pg.create_tablespace("ts");
    site.sql("create table t tablespace ts as select g from generate_series(1, 1000) g");
    let owner = fs::metadata(site.pg.data_dir()).expect("stat").uid();
    let as_root = |args: &[&str]| {
        let mut command = std::process::Command::new(site.hf.path());
        holdfast_testkit::user::clean_environment(&mut command);
        command.arg("--config").arg(site.scratch.path("holdfast.toml")).args(args).current_dir("/");
        let done = proc::run(&mut command, b"", Duration::from_secs(120));
        assert_eq!(
            done.code,
            0,
            "{args:?}: {}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
    };
    as_root(&["backup"]);
    site.pg.wait_archived();
    let to = path_text(&site.scratch.path("copy"));
    let map = format!("{}={}", location.display(), site.scratch.path("copy-ts").display());
    as_root(&["restore", "app", "--to", &to, "--tablespace-map", &map]);
    let mut files = holdfast_testkit::damage::files_under(&site.scratch.path("copy"));
    files.extend(holdfast_testkit::damage::files_under(&site.scratch.path("copy-ts")));
    files.extend(["copy", "copy/base", "copy/pg_wal", "copy-ts"].map(|d| site.scratch.path(d)));
    for f in &files {
        assert_eq!(fs::symlink_metadata(f).expect("stat").uid(), owner, "{}", f.display());
    }
    let mut copy = site.copy("copy").start();
    copy.wait_recovery_end(Duration::from_secs(60));
    assert_eq!(copy.sql("postgres", "select count(*) from t"), "1000");
    drop(copy);
    as_root(&["verify"]);
    as_root(&["check"]);
    // The server's user goes on where root was.
    let _ = site.backup(&[]);
    site.pg.wait_archived();
    let _ = site.hf.run(&["verify"]).ok();
    let _ = site.hf.run(&["check"]).ok();
}
