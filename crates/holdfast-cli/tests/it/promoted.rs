//! Backups of a server that was a standby until it was promoted: which point it compares with, and by what.

use crate::common::{DB, Site, eventually, fingerprint, path_text, text};
use crate::remote::{make_remote, method};
use holdfast_testkit::{Cluster, Holdfast, PgVersion, StopMode, version};
use serde_json::Value;
use std::time::Duration;

fn caught_up(site: &Site, copy: &Cluster) {
    let lsn = site.pg.current_lsn();
    let replayed = format!("select pg_last_wal_replay_lsn() >= '{lsn}'");
    eventually("the standby replays", || copy.sql("postgres", &replayed) == "t");
}

/// A policy of the standby's host: the same vault and key.
fn policy_of(site: &Site, copy: &Cluster) -> Holdfast {
    let old = std::fs::read_to_string(site.scratch.path("holdfast.toml")).expect("the policy");
    let new = old
        .replace(&path_text(site.pg.socket_dir()), &path_text(copy.socket_dir()))
        .replace(&format!("port={}", site.pg.port()), &format!("port={}", copy.port()))
        .replace(&path_text(site.pg.data_dir()), &path_text(copy.data_dir()));
    assert_ne!(old, new);
    Holdfast::new(&site.scratch, site.scratch.write("second.toml", new))
}

fn same(site: &Site, point: &Value, name: &str, expected: &str) {
    let mut copy = site.restore_and_start(name, &["--point", text(&point["id"])]);
    assert_eq!(copy.sql("postgres", "select count(*) from t where pad = 'lost'"), "0");
    assert_eq!(fingerprint(&copy, "postgres"), expected, "{point}");
    copy.amcheck();
    copy.stop(StopMode::Fast);
    copy.check_checksums();
}

/// A primary, a standby that is backed up, and its promotion. With `alone` the primary goes on for a while
/// before it dies, and makes a point of what nobody else has.
fn promotion(pg_version: PgVersion, alone: bool, remote: bool) {
    if !version::supported_in_test().contains(&pg_version) {
        return;
    }
    let how = if alone { "left" } else { "kept" };
    let kind = if remote { "remote" } else { "local" };
    let mut site = Site::new(&format!("promoted{pg_version}{how}{kind}"), pg_version);
    if remote {
        site.sql("alter system set summarize_wal = on");
        site.sql("select pg_reload_conf()");
        make_remote(&site);
    }
    site.sql("create table t as select g, repeat('x', 300) as pad from generate_series(1, 20000) g");
    site.sql("create index on t(g)");
    let full = site.backup(&["--full"]);
    let mut copy = site.pg.standby("second").archive_command(&site.archive_command).start();
    let hf = policy_of(&site, &copy);
    site.sql("update t set pad = 'first' where g % 40 = 1; checkpoint");
    site.pg.wait_archived();
    caught_up(&site, &copy);
    let of_standby = hf.run(&["--json", "backup", DB]).ok().json();
    assert_eq!(&of_standby["parent"], &full["id"], "{of_standby}");
    let mut parent = of_standby.clone();
    if alone {
        caught_up(&site, &copy);
        copy.stop(StopMode::Fast);
        site.sql("update t set pad = 'lost' where g % 50 = 3; checkpoint");
        parent = site.backup(&[]);
        assert_eq!(&parent["parent"], &of_standby["id"], "{parent}");
        site.sql("update t set pad = 'lost' where g % 50 = 4");
        site.pg.wait_archived();
        site.pg.kill9();
        copy.start();
    } else {
        site.pg.kill9();
    }
    copy.promote();
    copy.wait_recovery_end(Duration::from_secs(60));
    let dir = path_text(copy.data_dir());
    let _ = hf.run(&["wal", "adopt", DB, "--data-dir", &dir]).ok();
    let old = site.move_to(copy);
    // Beyond where the parent ends on the timeline that was left.
    for _ in 0..4 {
        site.sql("update t set pad = 'second' where g % 60 = 2");
        site.pg.switch_wal();
    }
    site.sql("checkpoint");
    site.pg.wait_archived();
    let next = site.backup(&[]);
    assert_eq!((&next["parent"], &next["timeline"]), (&parent["id"], &2.into()), "{next}");
    let wanted = match (alone, remote) {
        // Summaries are of one timeline.
        (_, true) => "stream-compare",
        (true, false) => "fingerprints",
        // The standby's point lies on the way to where the primary is now.
        (false, false) => "wal-maps",
    };
    assert_eq!(method(&next), wanted, "{next}");
    if alone || remote {
        assert!(text(&next["changes"]["reason"]).contains("timeline"), "{next}");
    }
    site.sql("update t set pad = 'third' where g % 60 = 5; insert into t select g, 'new' from generate_series(1, 500) g");
    let last = site.backup(&[]);
    let goes_on = if remote { "wal-summaries" } else { "wal-maps" };
    assert_eq!((&last["parent"], method(&last)), (&next["id"], goes_on), "{last}");
    let expected = fingerprint(&site.pg, "postgres");
    site.pg.wait_archived();
    same(&site, &next, "next", &expected);
    same(&site, &last, "last", &expected);
    let _ = site.hf.run(&["check"]).ok();
    drop(old);
}

#[test]
fn the_standbys_point_is_on_the_way_15() {
    promotion(PgVersion::V15, false, false);
}

#[test]
fn the_standbys_point_is_on_the_way_18() {
    promotion(PgVersion::V18, false, false);
}

#[test]
fn the_old_primary_went_on_alone_15() {
    promotion(PgVersion::V15, true, false);
}

#[test]
fn the_old_primary_went_on_alone_18() {
    promotion(PgVersion::V18, true, false);
}

#[test]
fn the_standbys_point_is_on_the_way_remote() {
    promotion(PgVersion::V18, false, true);
}

#[test]
fn the_old_primary_went_on_alone_remote() {
    promotion(PgVersion::V18, true, true);
}
