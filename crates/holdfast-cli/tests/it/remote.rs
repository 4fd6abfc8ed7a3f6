//! Backups over the replication protocol: the policy has no data directory, and the source is asked only.

use crate::common::{DB, Site, error_of, fingerprint, server, text};
use holdfast_testkit::{Cluster, PgVersion, Scratch, StopMode, proc, version};
use serde_json::Value;
use std::fs;
use std::time::Duration;

#[path = "../oracle/pages.rs"]
#[allow(dead_code)]
pub mod pages;

/// Takes the data directory out of the policy and sets the method.
pub fn make_remote(site: &Site) {
    let policy = fs::read_to_string(site.scratch.path("holdfast.toml")).expect("the policy");
    let without: Vec<&str> = policy.lines().filter(|l| !l.starts_with("data-directory")).collect();
    let text = without.join("\n").replace("[databases.app]", "[databases.app]\nmethod = \"remote\"");
    assert!(text.contains("method = \"remote\""), "{text}");
    site.scratch.write("holdfast.toml", format!("{text}\n"));
}

pub fn remote_site(name: &str, version: PgVersion, settings: &[(&str, &str)]) -> Site {
    let scratch = Scratch::new(name);
    let mut builder = server(&scratch, "main", version);
    for (k, v) in settings {
        builder = builder.setting(k, v);
    }
    let site = Site::with(builder.start(), &scratch, &[]);
    make_remote(&site);
    site
}

pub fn method(p: &Value) -> &str {
    text(&p["changes"]["method"])
}

fn is_here(version: PgVersion) -> bool {
    version::supported_in_test().contains(&version)
}

/// Everything that can happen to relation files between two runs.
fn changes(site: &Site) {
    site.sql(
        "update t set pad = 'changed' where g % 97 = 0; \
         delete from cut where g > 500; vacuum (truncate) cut; \
         drop table gone; \
         create table created as select g, md5(g::text) m from generate_series(1, 5000) g; \
         insert into longer select g, repeat('n', 200) from generate_series(1, 9000) g; \
         truncate emptied; \
         update there set t = 'moved' where g % 10 = 0; \
         vacuum t",
    );
    let strategy = match site.pg.version() {
        v if v >= PgVersion::V15 => "strategy file_copy",
        _ => "",
    };
    site.sql(&format!("create database copied template shop {strategy}"));
    site.pg.sql("copied", "insert into goods select g, 'copied' from generate_series(1, 100) g");
}

fn fill(site: &Site) {
    let _ = site.pg.create_tablespace("fast");
    site.sql(
        "create table t as select g, repeat('x', 300) as pad from generate_series(1, 20000) g; \
         create index on t(g); \
         create table cut as select g, repeat('c', 200) c from generate_series(1, 8000) g; \
         create table gone as select g from generate_series(1, 3000) g; \
         create table longer as select g, repeat('l', 200) l from generate_series(1, 1000) g; \
         create table emptied as select g from generate_series(1, 3000) g; \
         create table there tablespace fast as select g, repeat('t', 100) t from generate_series(1, 3000) g; \
         vacuum analyze",
    );
    site.sql("create database shop");
    site.pg.sql("shop", "create table goods as select g, 'of shop' name from generate_series(1, 2000) g");
}

fn map_args(site: &Site, to: &str) -> Vec<String> {
    let from = site.sql("select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'");
    let to = site.scratch.path(to);
    vec!["--tablespace-map".into(), format!("{from}={}", to.display())]
}

/// Restores a point to its own end, and compares content, checksums and structure.
fn same_as(site: &Site, point: &Value, name: &str, expected: &[(&str, String)]) -> Cluster {
    let maps = map_args(site, &format!("{name}-fast"));
    let mut args = vec!["--point", text(&point["id"])];
    args.extend(maps.iter().map(String::as_str));
    let mut copy = site.restore_and_start(name, &args);
    for (database, want) in expected {
        assert_eq!(&fingerprint(&copy, database), want, "{database} of {name}");
    }
    copy.amcheck();
    copy.stop(StopMode::Fast);
    copy.check_checksums();
    copy
}

fn round_trip(version: PgVersion, summaries: bool) {
    if !is_here(version) {
        return;
    }
    let name = format!("remote{version}{}", if summaries { "s" } else { "" });
    let settings: &[(&str, &str)] = if summaries { &[("summarize_wal", "on")] } else { &[] };
    let mut site = remote_site(&name, version, settings);
    fill(&site);
    let full = site.backup(&[]);
    assert_eq!((text(&full["kind"]), method(&full)), ("full", "all"), "{full}");
    assert!(full["warnings"].as_array().is_some_and(Vec::is_empty), "{full}");
    let before = fingerprint(&site.pg, "postgres");
    let shop = fingerprint(&site.pg, "shop");
    site.pg.wait_archived();
    drop(same_as(&site, &full, "first", &[("postgres", before), ("shop", shop.clone())]));

    changes(&site);
    // The server's summaries are used when the archiver is not far behind them.
    site.pg.wait_archived();
    let inc = site.backup(&[]);
    let way = if summaries { "wal-summaries" } else { "stream-compare" };
    assert_eq!(
        (text(&inc["kind"]), method(&inc), &inc["parent"]),
        ("incremental", way, &full["id"]),
        "{inc}"
    );
    let bytes = |v: &Value, k: &str| v[k].as_u64().unwrap_or_else(|| panic!("{k} of {v}"));
    assert!(bytes(&inc, "changed_bytes") < bytes(&full, "changed_bytes") / 2, "{inc}");
    if summaries {
        assert!(bytes(&inc, "read_bytes") < bytes(&full, "read_bytes"), "{inc} {full}");
    }
    // Nothing happened: nearly nothing is stored.
    let idle = site.backup(&[]);
    assert_eq!((method(&idle), &idle["parent"]), (way, &inc["id"]), "{idle}");
    assert!(bytes(&idle, "changed_bytes") < bytes(&inc, "changed_bytes") / 4, "{idle}");
    let of = |db: &str| fingerprint(&site.pg, db);
    let expected = [("postgres", of("postgres")), ("shop", shop), ("copied", of("copied"))];
    site.pg.wait_archived();
    drop(same_as(&site, &inc, "second", &expected));
    drop(same_as(&site, &idle, "third", &expected));
    // Copies that nobody did anything to (amcheck installs itself).
    let plain = |point: &Value, name: &str| {
        let maps = map_args(&site, &format!("{name}-fast"));
        let mut args = vec!["--point", text(&point["id"])];
        args.extend(maps.iter().map(String::as_str));
        let mut copy = site.restore_and_start(name, &args);
        copy.stop(StopMode::Fast);
        copy
    };
    let (copy, later) = (plain(&inc, "fourth"), plain(&idle, "fifth"));
    // Page by page, with the server that was stopped at the same place.
    site.pg.stop(StopMode::Fast);
    for c in [&copy, &later] {
        let found = pages::compare(site.pg.data_dir(), c.data_dir());
        assert_eq!(found.different, Vec::<String>::new());
        assert!(found.pages > 2000, "{found:?}");
    }
    let _ = site.hf.run(&["check"]).ok();
    site.pg.start();
    let doctor = site.hf.run(&["--json", "doctor"]).json();
    let checks = doctor["checks"].as_array().expect("checks");
    let status = |name: &str| checks.iter().find(|l| l["name"] == name).map(|l| text(&l["status"]));
    assert_eq!(status("postgres.replication"), Some("OK"), "{doctor}");
    assert_eq!(status("postgres.data-directory"), None, "{doctor}");
    let wanted = match (summaries, version >= PgVersion::V17) {
        (true, _) => Some("OK"),
        (false, true) => Some("WARN"),
        (false, false) => None,
    };
    assert_eq!(status("postgres.summaries"), wanted, "{doctor}");
    let verified = site.hf.run(&["--json", "verify", text(&inc["id"])]).ok().json();
    assert_eq!(verified["passed"], true, "{verified}");
}

#[test]
fn compared_15() {
    round_trip(PgVersion::V15, false);
}

#[test]
fn compared_18() {
    round_trip(PgVersion::V18, false);
}

#[test]
fn summaries_17() {
    round_trip(PgVersion::V17, true);
}

#[test]
fn summaries_18() {
    round_trip(PgVersion::V18, true);
}

/// While others write: what the stream holds is torn in time, and WAL makes it whole.
#[test]
fn under_load() {
    for summaries in [false, true] {
        let on = if summaries { "on" } else { "off" };
        let name = format!("remote-load-{on}");
        let site = remote_site(&name, PgVersion::NEWEST, &[("summarize_wal", on), ("autovacuum", "on")]);
        site.pg.pgbench_init(5);
        let load = site.pg.pgbench_spawn(60, 4);
        let points = [site.backup(&[]), site.backup(&[]), site.backup(&[])];
        assert_eq!(text(&points[2]["kind"]), "incremental");
        drop(load);
        let sums = "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history), \
             (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history)";
        site.pg.wait_archived();
        for (i, p) in points.iter().enumerate() {
            assert!(p["damaged"].as_array().is_some_and(Vec::is_empty), "{p}");
            let args = ["--point", text(&p["id"]), "--immediate"];
            let mut copy = site.restore_and_start(&format!("copy{i}"), &args);
            assert_eq!(copy.sql("postgres", sums), "t|t", "{p}");
            copy.amcheck();
            copy.stop(StopMode::Fast);
            copy.check_checksums();
        }
    }
}

/// Without an archiver the run brings the WAL itself, and says what that means.
#[test]
fn without_an_archiver() {
    let scratch = Scratch::new("remote-alone");
    let pg = server(&scratch, "main", PgVersion::NEWEST).setting("archive_mode", "off");
    let pg = pg.setting("summarize_wal", "on").start();
    let site = Site::with(pg, &scratch, &[]);
    make_remote(&site);
    site.sql(
        "create table t as select g from generate_series(1, 1000) g; \
         create unlogged table scratchpad as select g from generate_series(1, 1000) g",
    );
    let point = site.backup(&[]);
    assert!(point["warnings"].to_string().contains("wal archiving is off"), "{point}");
    let copy = site.restore_and_start("copy", &["--point", text(&point["id"]), "--immediate"]);
    let counts = "select (select count(*) from t), (select count(*) from scratchpad)";
    assert_eq!(copy.sql("postgres", counts), "1000|0");
    let left = fs::read_dir(site.scratch.path("state").join("incoming")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
    // Nothing shows that the server did not begin another future since.
    site.sql("update t set g = -g where g % 10 = 0");
    let next = site.backup(&[]);
    assert_eq!((&next["parent"], method(&next)), (&point["id"], "stream-compare"), "{next}");
    assert!(text(&next["changes"]["reason"]).contains("archiver"), "{next}");
    let copy = site.restore_and_start("next", &["--point", text(&next["id"]), "--immediate"]);
    let sum = "select sum(g) from t";
    assert_eq!(copy.sql("postgres", sum), site.sql(sum));
}

/// WAL of a timeline that somebody owns comes from its archiver, and not from whoever has the same numbers.
#[test]
fn not_into_the_archive_of_another() {
    let site = remote_site("remote-owned", PgVersion::NEWEST, &[("summarize_wal", "on")]);
    site.sql("create table t as select g from generate_series(1, 1000) g");
    let full = site.backup(&[]);
    site.pg.wait_archived();
    site.archive_with("false");
    site.sql("insert into t values (0)");
    let before = site.vault_files();
    let (_, message, hint) = error_of(&site.hf.run(&["--json", "backup", DB]));
    assert!(message.contains("belongs to another data directory"), "{message}");
    assert!(hint.contains("wal push"), "{hint}");
    let segments = |files: &[String]| files.iter().filter(|f| f.contains("/wal/0000")).count();
    assert_eq!(segments(&site.vault_files()), segments(&before));
    // As soon as it pushes again, all is well.
    site.archive_with(&site.archive_command);
    site.pg.wait_archived();
    let next = site.backup(&[]);
    assert_eq!((&next["parent"], method(&next)), (&full["id"], "wal-summaries"), "{next}");
}

/// A table is cut, and grows again by pages that nobody writes to: no WAL names them, and they are zeros.
#[test]
fn cut_and_grown_again() {
    for version in [PgVersion::V17, PgVersion::V18] {
        if !is_here(version) {
            continue;
        }
        let mut site = remote_site(&format!("remote-regrown{version}"), version, &[("summarize_wal", "on")]);
        let rows = "insert into t select g, repeat('c', 200) from generate_series(1, 60000) g";
        site.sql(&format!("create table t(g int, c text); {rows}"));
        let file = site.sql("select pg_relation_filepath('t')");
        let full = site.backup(&[]);
        site.sql("delete from t where g > 20000");
        site.sql("vacuum (truncate) t");
        // Rows that are too long for the room that is left; a copy extends by more pages than it needs.
        let unused = (0..8).any(|i| {
            site.sql(&format!("copy t(c) from program 'seq -f %0180g 1 {}'", 1501 + 700 * i));
            site.sql("checkpoint");
            let bytes = fs::read(site.pg.data_dir().join(&file)).expect("the table");
            assert!(bytes.len() < 1600 * 8192, "longer than the parent's");
            bytes.chunks(8192).any(|page| page.iter().all(|b| *b == 0))
        });
        assert!(unused, "no page was left unused");
        site.pg.wait_archived();
        let inc = site.backup(&[]);
        assert_eq!((&inc["parent"], method(&inc)), (&full["id"], "wal-summaries"), "{inc}");
        let expected = fingerprint(&site.pg, "postgres");
        site.pg.wait_archived();
        let mut copy = site.restore_and_start("copy", &["--point", text(&inc["id"])]);
        assert_eq!(fingerprint(&copy, "postgres"), expected);
        copy.stop(StopMode::Fast);
        site.pg.stop(StopMode::Fast);
        let found = pages::compare(site.pg.data_dir(), copy.data_dir());
        assert_eq!(found.different, Vec::<String>::new());
    }
}

/// The parent ran on behind the place where its timeline was left: blocks that only it changed have to go.
#[test]
fn a_parent_on_the_branch_that_was_left() {
    let mut site = remote_site("remote-promoted", PgVersion::NEWEST, &[("summarize_wal", "on")]);
    site.sql("create table t as select g, repeat('x', 300) as pad from generate_series(1, 20000) g");
    let two = site.pg.standby("two");
    let mut two = two.start();
    let position = site.pg.current_lsn();
    crate::common::eventually("the standby follows", || {
        let sql = format!("select pg_last_wal_replay_lsn() >= '{position}'");
        two.sql("postgres", &sql) == "t"
    });
    two.stop(StopMode::Fast);
    site.sql("update t set pad = 'lost' where g % 50 = 0");
    let parent = site.backup(&[]);
    site.pg.wait_archived();
    site.pg.kill9();
    two.start();
    two.promote();
    two.wait_recovery_end(Duration::from_secs(60));
    let dir = crate::common::path_text(two.data_dir());
    let _ = site.hf.run(&["wal", "adopt", DB, "--data-dir", &dir]).ok();
    let old = site.move_to(two);
    // Further than the parent's end.
    for _ in 0..4 {
        site.sql("update t set pad = 'kept' where g % 77 = 0");
        site.pg.switch_wal();
    }
    site.sql("checkpoint");
    site.pg.wait_archived();
    let next = site.backup(&[]);
    assert_eq!((&next["parent"], method(&next)), (&parent["id"], "stream-compare"), "{next}");
    assert!(text(&next["changes"]["reason"]).contains("timeline"), "{next}");
    let expected = fingerprint(&site.pg, "postgres");
    let after = site.backup(&[]);
    assert_eq!((&after["parent"], method(&after)), (&next["id"], "wal-summaries"), "{after}");
    site.pg.wait_archived();
    for (i, p) in [&next, &after].into_iter().enumerate() {
        let copy = site.restore_and_start(&format!("copy{i}"), &["--point", text(&p["id"])]);
        assert_eq!(copy.sql("postgres", "select count(*) from t where pad = 'lost'"), "0");
        assert_eq!(fingerprint(&copy, "postgres"), expected);
    }
    drop(old);
}

/// Points of both ways in one vault, each the parent of the other.
#[test]
fn local_and_remote_take_turns() {
    let site = remote_site("remote-turns", PgVersion::V18, &[("summarize_wal", "on")]);
    fill(&site);
    let remote = fs::read_to_string(site.scratch.path("holdfast.toml")).expect("the policy");
    let local = remote.replace("method = \"remote\"", "method = \"local\"");
    let full = site.backup(&[]);
    site.sql("update t set pad = 'a' where g % 11 = 0");
    site.scratch.write("holdfast.toml", &local);
    let second = site.backup(&[]);
    assert_eq!((&second["parent"], method(&second)), (&full["id"], "wal-maps"), "{second}");
    changes(&site);
    site.pg.wait_archived();
    site.scratch.write("holdfast.toml", &remote);
    let third = site.backup(&[]);
    assert_eq!((&third["parent"], method(&third)), (&second["id"], "wal-summaries"), "{third}");
    site.sql("update t set pad = 'b' where g % 13 = 0");
    let fourth = site.backup(&["--reread"]);
    assert_eq!((&fourth["parent"], method(&fourth)), (&third["id"], "stream-compare"), "{fourth}");
    site.scratch.write("holdfast.toml", &local);
    site.sql("update t set pad = 'c' where g % 17 = 0");
    let fifth = site.backup(&["--reread"]);
    assert_eq!(&fifth["parent"], &fourth["id"], "{fifth}");
    assert!(fifth["changes"]["missed"].is_null(), "{fifth}");
    // The flag alone does it, too.
    let sixth = site.backup(&["--remote"]);
    assert_eq!((&sixth["parent"], method(&sixth)), (&fifth["id"], "wal-summaries"), "{sixth}");
    let expected =
        [("postgres", fingerprint(&site.pg, "postgres")), ("copied", fingerprint(&site.pg, "copied"))];
    site.pg.wait_archived();
    for (i, p) in [&fourth, &fifth, &sixth].into_iter().enumerate() {
        drop(same_as(&site, p, &format!("copy{i}"), &expected));
    }
}

/// The summaries are gone: the run says so and compares.
#[test]
fn summaries_that_are_not_there() {
    let site = remote_site("remote-nosum", PgVersion::NEWEST, &[]);
    fill(&site);
    let full = site.backup(&[]);
    site.sql("alter system set summarize_wal = on");
    site.sql("select pg_reload_conf()");
    changes(&site);
    site.sql("checkpoint");
    let inc = site.backup(&[]);
    assert_eq!(&inc["parent"], &full["id"]);
    assert!(["stream-compare", "wal-summaries"].contains(&method(&inc)), "{inc}");
    let expected = [("postgres", fingerprint(&site.pg, "postgres"))];
    site.pg.wait_archived();
    drop(same_as(&site, &inc, "copy", &expected));
}

/// A role without the right, a line that is missing, and a password that is wrong.
#[test]
fn refused_with_a_hint() {
    let scratch = Scratch::new("remote-refused");
    let pg = server(&scratch, "main", PgVersion::NEWEST).tcp(true).start();
    let site = Site::with(pg, &scratch, &[]);
    make_remote(&site);
    let conninfo = site.pg.conninfo();
    let policy = fs::read_to_string(site.scratch.path("holdfast.toml")).expect("policy");
    let passfile = site.scratch.write("pass", "*:*:*:plain:right\n*:*:*:backup:right\n*:*:*:wrong:wrong\n");
    holdfast_testkit::user::chown(&passfile);
    fs::set_permissions(&passfile, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
    let hba = |lines: &str| {
        fs::write(site.pg.data_dir().join("pg_hba.conf"), format!("local all all trust\n{lines}"))
            .expect("hba");
        site.sql("select pg_reload_conf()");
        std::thread::sleep(Duration::from_millis(300));
    };
    for (role, more) in [("plain", ""), ("backup", "replication"), ("wrong", "replication")] {
        site.sql(&format!("create role {role} login password 'right' {more}; grant pg_monitor to {role}"));
    }
    let run = |role: &str| {
        let new = format!(
            "host=127.0.0.1 port={} user={role} dbname=postgres passfile={}",
            site.pg.port(),
            passfile.display()
        );
        site.scratch.write("holdfast.toml", policy.replace(&conninfo, &new));
        site.hf.run(&["--json", "backup", DB])
    };
    hba("host all all 127.0.0.1/32 scram-sha-256\n");
    let (_, message, hint) = error_of(&run("backup").expect_code(13));
    assert!(message.contains("pg_hba.conf") && hint.contains("host replication backup"), "{message} {hint}");
    hba("host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n");
    let (_, message, hint) = error_of(&run("plain").expect_code(13));
    assert!(hint.contains("alter role plain replication"), "{message} {hint}");
    let _ = run("wrong").expect_code(12);
    // The right to replicate, and to read what the server says of itself, is all that it takes.
    let point = run("backup").ok().json();
    let restored = site.restore_and_start("copy", &["--point", text(&point["id"])]);
    assert_eq!(restored.sql("postgres", "select 1"), "1");
}

/// Killed in the middle, or the server goes: no point, a whole vault, and the next run works.
#[test]
fn killed_and_left_alone() {
    let mut site = remote_site("remote-killed", PgVersion::NEWEST, &[("summarize_wal", "on")]);
    site.sql("create table t as select g, repeat(md5(g::text), 10) as pad from generate_series(1, 60000) g");
    let full = site.backup(&[]);
    site.sql(
        "create table more as select g, repeat(md5(g::text), 10) as pad from generate_series(1, 60000) g",
    );
    let policy = fs::read_to_string(site.scratch.path("holdfast.toml")).expect("the policy");
    let slow = format!("{policy}\n[tuning]\nrate = \"4MiB\"\n");
    site.scratch.write("holdfast.toml", &slow);
    let points = |site: &Site| {
        let list = site.hf.run(&["--json", "list", DB]).ok().json();
        list["points"].as_array().map_or(0, Vec::len)
    };
    let mut run = site.hf.spawn(&["--json", "backup", DB]);
    run.wait_for("copying files");
    std::thread::sleep(Duration::from_millis(700));
    run.kill9();
    assert_eq!(points(&site), 1);
    let _ = site.hf.run(&["check"]).ok();
    // The server notices, and so there is no walsender left for long.
    assert!(proc::wait_until(Duration::from_secs(60), || {
        site.sql("select count(*) from pg_stat_activity where backend_type = 'walsender'") == "0"
    }));
    assert_eq!(site.sql("select count(*) from pg_replication_slots"), "0");
    let mut run = site.hf.spawn(&["--json", "backup", DB, "--full"]);
    run.wait_for("copying files");
    std::thread::sleep(Duration::from_millis(700));
    site.pg.stop(StopMode::Immediate);
    let ended = run.wait(Duration::from_secs(120)).expect("the run ends");
    assert!(!ended.success(), "{}", run.output());
    site.pg.start();
    assert_eq!(points(&site), 1);
    site.scratch.write("holdfast.toml", &policy);
    let next = site.backup(&[]);
    assert_eq!(&next["parent"], &full["id"], "{next}");
    let expected = fingerprint(&site.pg, "postgres");
    site.pg.wait_archived();
    let copy = site.restore_and_start("copy", &["--point", text(&next["id"])]);
    assert_eq!(fingerprint(&copy, "postgres"), expected);
    let _ = site.hf.run(&["check"]).ok();
}

/// A page that is damaged on the server's disk is stored as it is, and said; the run does not fail for it.
#[test]
fn damaged_pages_are_said() {
    let mut site = remote_site("remote-damaged", PgVersion::NEWEST, &[]);
    site.sql("create table t as select g, repeat('x', 300) as pad from generate_series(1, 5000) g");
    let file = site.sql("select pg_relation_filepath('t')");
    site.pg.stop(StopMode::Fast);
    holdfast_testkit::damage::flip_bit_at(&site.pg.data_dir().join(&file), 3 * 8192 + 4000, 3);
    site.pg.start();
    let out = site.hf.run(&["--json", "backup", DB]).expect_code(3).json();
    assert_eq!(
        (&out["damaged"][0]["path"], &out["damaged"][0]["block"]),
        (&file.as_str().into(), &3.into()),
        "{out}"
    );
    // The next one takes it again, whoever tells what changed.
    site.sql("alter system set summarize_wal = on");
    site.sql("select pg_reload_conf()");
    let out = site.hf.run(&["--json", "backup", DB]).expect_code(3).json();
    assert_eq!(out["damaged"].as_array().map(Vec::len), Some(1), "{out}");
}

/// From a standby: its files, and the primary's archive.
#[test]
fn of_a_standby() {
    let site = Site::new("remote-standby", PgVersion::NEWEST);
    site.sql(
        "create table t as select g, repeat('x', 300) as pad from generate_series(1, 20000) g; checkpoint",
    );
    let copy = site.pg.standby("second").setting("archive_mode", "off").start();
    let old = fs::read_to_string(site.scratch.path("holdfast.toml")).expect("the policy");
    make_remote(&site);
    let new = fs::read_to_string(site.scratch.path("holdfast.toml"))
        .expect("the policy")
        .replace(&site.pg.socket_dir().display().to_string(), &copy.socket_dir().display().to_string())
        .replace(&format!("port={}", site.pg.port()), &format!("port={}", copy.port()));
    site.scratch.write("holdfast.toml", &new);
    let point = site.backup(&[]);
    let shown = site.hf.run(&["--json", "show", text(&point["id"])]).ok().json();
    assert_eq!(shown["point"]["server"]["in_recovery"], true, "{shown}");
    site.scratch.write("holdfast.toml", &old);
    let before = fingerprint(&site.pg, "postgres");
    site.pg.wait_archived();
    let restored = site.restore_and_start("copy", &["--point", text(&point["id"])]);
    assert_eq!(fingerprint(&restored, "postgres"), before);
    drop(copy);
}

/// The replication session is as safe as the others: chain and name checked, the password bound to the channel.
#[test]
fn over_tls() {
    use crate::common::path_text;
    use crate::tls::{ca, issue};
    let scratch = Scratch::new("remote-tls");
    let (ours, other) = (ca("ours"), ca("another"));
    let root = path_text(&scratch.write("root.crt", ours.pem()));
    let wrong_root = path_text(&scratch.write("wrong.crt", other.pem()));
    let (crt, key) = issue(&scratch, &ours, "server", "localhost");
    let pg = server(&scratch, "main", PgVersion::V17)
        .tcp(true)
        .setting("ssl", "on")
        .setting("ssl_cert_file", &path_text(&crt))
        .setting("ssl_key_file", &path_text(&key))
        .start();
    let site = Site::with(pg, &scratch, &[]);
    make_remote(&site);
    site.sql("create role backup login password 'right' replication; grant pg_monitor to backup");
    let hba = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n\
               hostssl replication all 127.0.0.1/32 scram-sha-256\n";
    fs::write(site.pg.data_dir().join("pg_hba.conf"), hba).expect("hba");
    site.sql("select pg_reload_conf()");
    std::thread::sleep(Duration::from_millis(300));
    let passfile = site.scratch.write("pass", "*:*:*:backup:right\n");
    holdfast_testkit::user::chown(&passfile);
    fs::set_permissions(&passfile, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
    let policy = fs::read_to_string(site.scratch.path("holdfast.toml")).expect("policy");
    let run = |more: &str| {
        let new = format!(
            "host=localhost hostaddr=127.0.0.1 port={} user=backup dbname=postgres passfile={} {more}",
            site.pg.port(),
            passfile.display()
        );
        site.scratch.write("holdfast.toml", policy.replace(&site.pg.conninfo(), &new));
        site.hf.run(&["--json", "backup", DB])
    };
    let full = format!("sslmode=verify-full sslrootcert={root}");
    for good in
        [full.as_str(), "sslmode=require", &format!("{full} channel_binding=require sslnegotiation=direct")]
    {
        let _ = run(good).ok();
    }
    for (bad, part) in [
        ("sslmode=disable".to_string(), "pg_hba.conf"),
        (format!("sslmode=verify-full sslrootcert={wrong_root}"), "certificate"),
    ] {
        let (_, message, _) = error_of(&run(&bad));
        assert!(message.contains(part), "{bad}: {message}");
    }
}
