//! Backups of a standby.

use crate::common::{DB, Site, fingerprint, text};
use holdfast_testkit::{Cluster, Holdfast, PgVersion, StopMode, version};
use std::time::Duration;

/// A standby of the site's server, and a policy of its host: the same vault and key, another source.
fn standby(site: &Site, name: &str) -> (Cluster, Holdfast) {
    let copy = site.pg.standby(name).setting("archive_mode", "off").start();
    let old = std::fs::read_to_string(site.scratch.path("holdfast.toml")).expect("the policy");
    let new = old
        .replace(&site.pg.socket_dir().display().to_string(), &copy.socket_dir().display().to_string())
        .replace(&format!("port={}", site.pg.port()), &format!("port={}", copy.port()))
        .replace(&site.pg.data_dir().display().to_string(), &copy.data_dir().display().to_string());
    assert_ne!(old, new);
    let path = site.scratch.write(format!("{name}.toml"), new);
    (copy, Holdfast::new(&site.scratch, path))
}

fn caught_up(site: &Site, copy: &Cluster) {
    let lsn = site.pg.current_lsn();
    let replayed = format!("select pg_last_wal_replay_lsn() >= '{lsn}'");
    crate::common::eventually("the standby replays", || copy.sql("postgres", &replayed) == "t");
}

fn on_a_standby(pg_version: PgVersion) {
    if !version::supported_in_test().contains(&pg_version) {
        return;
    }
    let site = Site::new(&format!("standby{pg_version}"), pg_version);
    site.sql("create table t as select g, repeat('x', 300) as pad from generate_series(1, 20000) g");
    let first = site.backup(&["--full"]);
    let (copy, hf) = standby(&site, "second");
    site.sql("update t set pad = 'new' where g % 50 = 1; create table later as select 1 as a; checkpoint");
    caught_up(&site, &copy);
    let out = hf.run(&["--json", "backup", DB]).ok().json();
    assert_eq!((text(&out["kind"]), &out["parent"]), ("incremental", &first["id"]), "{out}");
    let shown = hf.run(&["--json", "show", text(&out["id"])]).ok().json();
    assert_eq!(shown["point"]["server"]["in_recovery"], true, "{shown}");
    assert!(text(&shown["point"]["backup_label"]).contains("BACKUP FROM: standby"), "{shown}");
    // Nothing new since: the same restartpoint once more, and a full.
    let again = hf.run(&["--json", "backup", DB]).ok().json();
    assert_eq!(text(&again["kind"]), "incremental", "{again}");
    let full = hf.run(&["--json", "backup", DB, "--full"]).ok().json();
    site.sql("insert into t select g, 'last' from generate_series(1, 500) g");
    let before = fingerprint(&site.pg, "postgres");
    site.pg.wait_archived();
    for (i, p) in [&out, &full].into_iter().enumerate() {
        let mut restored = site.restore_and_start(&format!("copy{i}"), &["--point", text(&p["id"])]);
        assert_eq!(fingerprint(&restored, "postgres"), before);
        restored.stop(StopMode::Fast);
        restored.check_checksums();
    }
    // As soon as it is consistent, and nothing further.
    let mut restored = site.restore_and_start("early", &["--point", text(&again["id"]), "--immediate"]);
    assert_eq!(restored.sql("postgres", "select count(*) from t where pad = 'last'"), "0");
    assert_eq!(restored.sql("postgres", "select count(*) from t where pad = 'new'"), "400");
    restored.stop(StopMode::Fast);
    let verified = hf.run(&["--json", "verify", text(&out["id"])]).ok().json();
    assert_eq!(verified["passed"], true, "{verified}");
    let doctor = hf.run(&["--json", "doctor"]).json();
    // The tests' servers run without fsync.
    for line in doctor["checks"].as_array().expect("checks").iter().filter(|l| l["name"] != "postgres.fsync")
    {
        assert_ne!(text(&line["status"]), "FAIL", "{line}");
    }
    let says = |word: &str| doctor["checks"].to_string().contains(word);
    assert!(says("the server is a standby: its files") && says("nothing after a promotion"), "{doctor}");
    // The primary goes on with what the standby left.
    // Hints that the one set and did not log are no missed changes of the other.
    let _ = site.sql("select count(*) from t");
    let next = site.backup(&["--reread"]);
    assert_eq!((text(&next["kind"]), &next["parent"]), ("incremental", &full["id"]), "{next}");
    assert!(next["changes"]["missed"].is_null() && next["changes"]["exact"] == true, "{next}");
    site.sql("update t set pad = 'newer' where g % 50 = 3; select pg_switch_wal(); checkpoint");
    site.pg.wait_archived();
    site.sql("checkpoint");
    caught_up(&site, &copy);
    let back = hf.run(&["--json", "backup", DB, "--reread"]).ok().json();
    assert_eq!(text(&back["changes"]["method"]), "wal-maps", "{back}");
    assert!(back["changes"]["missed"].is_null() && back["changes"]["exact"].is_null(), "{back}");
    let _ = site.hf.run(&["check"]).ok();
    drop(copy);
}

#[test]
fn on_a_standby_15() {
    on_a_standby(PgVersion::V15);
}

#[test]
fn on_a_standby_18() {
    on_a_standby(PgVersion::V18);
}

/// A promotion in the middle ends the backup, and leaves no point.
#[test]
fn promoted_in_the_middle() {
    let site = Site::new("standby-promoted", PgVersion::NEWEST);
    site.sql("create table t as select g, repeat(md5(g::text), 10) as pad from generate_series(1, 60000) g");
    let _ = site.backup(&["--full"]);
    let (copy, hf) = standby(&site, "second");
    caught_up(&site, &copy);
    let policy = std::fs::read_to_string(site.scratch.path("second.toml")).expect("the policy");
    site.scratch.write("second.toml", format!("{policy}\n[tuning]\nrate = \"4MiB\"\n"));
    let mut run = hf.spawn(&["--json", "backup", DB, "--full"]);
    run.wait_for("copying files");
    std::thread::sleep(Duration::from_millis(500));
    copy.promote();
    let ended = run.wait(Duration::from_secs(120)).expect("the run ends");
    assert!(!ended.success(), "{}", run.output());
    assert!(run.output().contains("promoted") || run.output().contains("timeline"), "{}", run.output());
    let points = site.hf.run(&["--json", "list", DB]).ok().json()["points"].clone();
    assert_eq!(points.as_array().map(Vec::len), Some(1), "{points}");
}

/// A copy in recovery is no standby.
#[test]
fn a_copy_in_recovery_is_refused() {
    let site = Site::new("standby-none", PgVersion::NEWEST);
    let _ = site.backup(&["--full"]);
    site.pg.wait_archived();
    let (copy, hf) = standby(&site, "second");
    std::fs::rename(copy.data_dir().join("standby.signal"), copy.data_dir().join("aside")).expect("rename");
    let _ = hf.run(&["backup", DB]).expect_code(13).says("is no standby");
    drop(copy);
}
