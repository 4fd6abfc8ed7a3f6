//! The same over S3: whole, with a network that misbehaves, and with a store that is too weak.

use crate::common::{DB, Site, error_of, fingerprint, server, text};
use crate::retention::{ids, keep};
use holdfast_testkit::{Ceph, Cluster, Fault, FaultProxy, Holdfast, PgVersion, Rule, Scratch, Store};
use std::time::Duration;

/// `init` over S3; the archive command carries the credentials, as a unit's environment would.
pub fn site(scratch: &Scratch, version: PgVersion, env: Vec<(String, String)>) -> Site {
    let pg = server(scratch, "main", version).start();
    let hf = Holdfast::new(scratch, scratch.path("holdfast.toml")).envs(env);
    let key = scratch.path("hf.key").display().to_string();
    let done = hf
        .run(&[
            "--json",
            "init",
            "--name",
            DB,
            "--conninfo",
            &pg.conninfo(),
            "--vault",
            "s3://backups/prod",
            "--key-file",
            &key,
            "--yes",
        ])
        .ok()
        .json();
    assert_eq!(done["vault_created"], true);
    let archive_command = format!("{} wal push --db {DB} %p", hf.shell());
    let site = Site { pg, hf, archive_command, scratch: scratch.clone() };
    site.archive_with(&site.archive_command);
    site
}

/// The server of a copy needs the environment too.
pub fn start_copy(site: &Site, name: &str, env: &[(String, String)]) -> Cluster {
    let auto =
        std::fs::read_to_string(site.scratch.path(name).join("postgresql.auto.conf")).expect("settings");
    let line =
        auto.lines().rev().find_map(|l| l.strip_prefix("restore_command = '")).expect("restore_command");
    let command = line.trim_end_matches('\'').replace("''", "'");
    let words: Vec<String> = env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let command = format!("env {} {command}", words.join(" "));
    let mut copy = site.copy(name).setting("restore_command", &command).start();
    copy.wait_recovery_end(Duration::from_secs(120));
    copy
}

#[test]
fn lifecycle_over_s3() {
    let scratch = Scratch::new("s3");
    let store = Store::ministack(&scratch, &["backups"]);
    let env = store.env();
    lifecycle(&scratch, store, env);
}

#[test]
fn lifecycle_over_ceph() {
    let scratch = Scratch::new("ceph");
    let Some(store) = Ceph::start(&scratch, &["backups"]) else { return };
    let env = store.env();
    lifecycle(&scratch, store, env);
}

/// The whole of it, against a store that goes away at the end.
fn lifecycle<S>(scratch: &Scratch, store: S, env: Vec<(String, String)>) {
    let site = site(scratch, PgVersion::V17, env.clone());
    site.sql("create table t as select g, repeat('x', 100) x from generate_series(1, 20000) g");
    let full = site.backup(&[]);
    site.sql("update t set x = 'changed' where g % 100 = 0");
    let incremental = site.backup(&[]);
    assert_eq!((&incremental["kind"], &incremental["parent"]), (&"incremental".into(), &full["id"]));
    site.sql("insert into t values (0, 'last')");
    let expected = fingerprint(&site.pg, "postgres");
    let at = site.pg.now();
    site.sql("drop table t; create table u(x int)");
    site.pg.wait_archived();
    let _ = site.restore("copy", &["--at", &at]);
    let copy = start_copy(&site, "copy", &env);
    assert_eq!(fingerprint(&copy, "postgres"), expected);
    drop(copy);
    let _ = site.hf.run(&["verify"]).ok();
    let _ = site.hf.run(&["check"]).ok();
    let _ = site.hf.run(&["doctor"]).says("vault");
    // Letting go: the first point goes, and what the others need of it stays.
    keep(&site, "last = 1", "");
    let newest = site.backup(&[]);
    let _ = site.hf.run(&["expire", "--apply"]).ok();
    // Stores tell the time in seconds.
    std::thread::sleep(Duration::from_millis(2100));
    let swept = site.hf.run(&["--json", "sweep"]).ok().json();
    assert!(swept["sweeps"][0]["removed"]["objects"].as_u64() > Some(1), "{swept}");
    assert_eq!(ids(&site), [text(&incremental["id"]), text(&newest["id"])], "verified, and newest");
    let _ = site.hf.run(&["check"]).ok();
    let expected = fingerprint(&site.pg, "postgres");
    site.sql("select pg_switch_wal()");
    site.pg.wait_archived();
    let _ = site.restore("after", &[]);
    let copy = start_copy(&site, "after", &env);
    assert_eq!(fingerprint(&copy, "postgres"), expected);
    drop(copy);
    // The store is away: PostgreSQL must hear 200, people what to look at.
    drop(store);
    let dest = scratch.path("x").display().to_string();
    let _ =
        site.hf.run(&["wal", "get", "--retry-for", "1s", "000000010000000000000001", &dest]).expect_code(200);
}

#[test]
fn faults_on_the_way_to_s3() {
    let scratch = Scratch::new("s3faults");
    let store = Store::ministack(&scratch, &["backups"]);
    let proxy = FaultProxy::with_seed(&store.endpoint(), 42);
    let site = site(&scratch, PgVersion::NEWEST, store.env_for(&proxy.endpoint()));
    site.sql("create table t as select g, gen_random_uuid() u from generate_series(1, 60000) g");
    for fault in [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Refuse,
        Fault::CutResponse(10),
        Fault::CutRequest(100),
        Fault::LoseReply,
        Fault::Delay(Duration::from_millis(300)),
    ] {
        proxy.add(Rule::on("", "").per_mille(12).fault(fault));
    }
    let _ = site.backup(&[]);
    for i in 0..5 {
        site.sql(&format!("update t set u = gen_random_uuid() where g % 10 = {i}"));
        site.pg.wait_archived();
    }
    let point = site.backup(&[]);
    assert_eq!(point["kind"], "incremental");
    let expected = fingerprint(&site.pg, "postgres");
    site.pg.wait_archived();
    let _ = site.restore("copy", &[]);
    let copy = start_copy(&site, "copy", &store.env_for(&proxy.endpoint()));
    assert_eq!(fingerprint(&copy, "postgres"), expected);
    let _ = site.hf.run(&["verify", "--level", "L2"]).ok();
    assert!(proxy.faults() > 10, "only {} faults happened", proxy.faults());
    proxy.heal();
    let _ = site.hf.run(&["check"]).ok();
    let status = site.wal_status();
    assert_eq!(status["conflicts"].as_array().map(Vec::len), Some(0), "{status}");
}

#[test]
fn a_weak_store_is_refused() {
    let scratch = Scratch::new("weak");
    let Some(store) = Store::s3rver(&scratch, &["backups"]) else { return };
    let pg = server(&scratch, "main", PgVersion::V15).start();
    let hf = Holdfast::new(&scratch, scratch.path("holdfast.toml")).envs(store.env());
    let key = scratch.path("hf.key").display().to_string();
    let out = hf
        .run(&[
            "--json",
            "init",
            "--name",
            DB,
            "--conninfo",
            &pg.conninfo(),
            "--vault",
            "s3://backups/x",
            "--key-file",
            &key,
            "--yes",
        ])
        .expect_code(13);
    let (_, message, hint) = error_of(&out);
    assert!(message.contains("create-if-absent") && hint.contains("conditional"), "{message} {hint}");
    assert!(!scratch.path("holdfast.toml").exists());
}
