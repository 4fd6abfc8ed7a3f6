//! Buckets that keep versions: the original is what counts, and what is removed is gone.

use crate::common::{Site, eventually, fingerprint, text};
use crate::retention::{ids, keep};
use crate::s3::{site, start_copy};
use holdfast_testkit::{PgVersion, Scratch, Store};
use serde_json::Value;
use std::collections::BTreeSet;

/// Keys of all versions and of all delete markers below the vault.
fn versions(store: &Store) -> (Vec<String>, Vec<String>) {
    let (mut all, mut next) = ((Vec::new(), Vec::new()), String::new());
    loop {
        let page = store.request("GET", &format!("backups?versions&prefix=prod/{next}"), &[], b"").text();
        let keys = |tag: &str| -> Vec<String> {
            let key = |v: &str| v.split_once("<Key>").unwrap().1.split_once('<').unwrap().0.to_string();
            page.split(tag).skip(1).map(key).collect()
        };
        all.0.extend(keys("<Version>"));
        all.1.extend(keys("<DeleteMarker>"));
        let Some((_, rest)) = page.split_once("<NextKeyMarker>") else { return all };
        let marker = rest.split_once('<').unwrap().0;
        let (_, rest) = page.split_once("<NextVersionIdMarker>").expect("a page goes on within a key");
        next = format!("&key-marker={marker}&version-id-marker={}", rest.split_once('<').unwrap().0);
    }
}

fn swept(site: &Site) -> Value {
    // Stores tell the time in seconds.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    site.hf.run(&["--json", "sweep"]).ok().json()["sweeps"][0].clone()
}

/// Whoever may write to the bucket puts something over every object whose key contains `part`, and a delete
/// marker over that of every second one.
fn attack(store: &Store, part: &str) -> usize {
    let keys: BTreeSet<String> = versions(store).0.into_iter().filter(|k| k.contains(part)).collect();
    for (i, key) in keys.iter().enumerate() {
        let path = format!("backups/{key}");
        assert_eq!(store.request("PUT", &path, &[], b"not what was here").status(), 200);
        if i % 2 == 0 {
            assert_eq!(store.request("DELETE", &path, &[], b"").status(), 204);
        }
    }
    keys.len()
}

#[test]
fn lifecycle_where_versions_are_kept() {
    let scratch = Scratch::new("s3versions");
    let store = Store::ministack(&scratch, &["backups"]);
    store.enable_versioning("backups");
    let env = store.env();
    let site = site(&scratch, PgVersion::V17, env.clone());
    keep(&site, "last = 1", "");
    site.sql("create table t as select g, repeat('x', 100) x from generate_series(1, 20000) g");
    let full = site.backup(&[]);
    site.sql("update t set x = 'changed' where g % 100 = 0");
    let newest = site.backup(&[]);
    // Nothing comes to the vault but what the sweep does.
    site.pg.wait_archived();
    let _ = site.hf.run(&["expire", "--apply"]).ok();
    let before = versions(&store);
    let r = swept(&site);
    let removed = r["removed"]["objects"].as_u64().unwrap() as usize;
    assert!(removed > 1, "{r}");
    assert_eq!((&r["refused"], &r["locked"]["objects"]), (&serde_json::json!([]), &0.into()), "{r}");
    let after = versions(&store);
    // Gone for good: no version of what went, and no marker in its place. (The tombstone is new.)
    assert_eq!(after.0.len(), before.0.len() - removed + 1, "{r} {after:?}");
    assert_eq!((before.1.len(), after.1.len()), (0, 0), "{:?} {:?}", before.1, after.1);
    assert!(!after.0.iter().any(|k| k.ends_with(&format!("{}.point", text(&full["id"])))));
    assert_eq!(ids(&site), [text(&newest["id"])]);
    let _ = site.hf.run(&["check"]).ok();
    let _ = site.hf.run(&["doctor"]).says("vault.main.versions");
    let expected = fingerprint(&site.pg, "postgres");
    site.sql("select pg_switch_wal()");
    site.pg.wait_archived();
    let _ = site.restore("copy", &[]);
    assert_eq!(fingerprint(&start_copy(&site, "copy", &env), "postgres"), expected);
}

#[test]
fn an_attacker_who_may_write_hides_nothing() {
    let scratch = Scratch::new("s3attack");
    let store = Store::ministack(&scratch, &["backups"]);
    store.enable_versioning("backups");
    let env = store.env();
    let site = site(&scratch, PgVersion::NEWEST, env.clone());
    keep(&site, "last = 1", "");
    site.sql("create table t as select g, repeat('x', 100) x from generate_series(1, 20000) g");
    let first = site.backup(&[]);
    site.sql("update t set x = 'changed' where g % 100 = 0");
    let expected = fingerprint(&site.pg, "postgres");
    site.sql("select pg_switch_wal()");
    site.pg.wait_archived();
    eventually("the archiver is idle", || site.wal_status()["conflicts"] == serde_json::json!([]));
    // Everything: descriptor, keys, records, packs, WAL.
    site.archive_with("true");
    let objects = attack(&store, "prod/");
    assert!(objects > 10, "{objects}");
    assert_eq!(ids(&site), [text(&first["id"])]);
    let _ = site.restore("copy", &[]);
    assert_eq!(fingerprint(&start_copy(&site, "copy", &env), "postgres"), expected);
    for fast in [&["--json", "check"][..], &["--json", "check", "--fast"]] {
        let found = site.hf.run(fast).expect_code(5).json();
        let all = found["checks"].as_array().unwrap();
        assert!(all.iter().all(|c| text(&c["message"]).contains("somebody put")), "{found}");
        assert_eq!(all.len(), objects, "{found}");
    }
    let _ = site.hf.run(&["doctor"]).expect_code(5).says("vault.main.versions").says("--undelete");
    // The plan touches nothing.
    let plan = site.hf.run(&["--json", "check", "--undelete"]).ok().json();
    assert_eq!((plan["hidden"].as_array().unwrap().len(), &plan["applied"]), (objects, &false.into()));
    let before = versions(&store);
    let done = site.hf.run(&["--json", "check", "--undelete", "--yes"]).ok().json();
    assert_eq!(done["uncovered"], objects, "{done}");
    let after = versions(&store);
    assert_eq!((after.0.len(), after.1.len()), (before.0.len() - objects, 0));
    assert_eq!(after.0.iter().collect::<BTreeSet<_>>().len(), objects, "one version each");
    let _ = site.hf.run(&["check"]).ok();
    // What is hidden and no longer needed goes as well, with what lies over it.
    site.archive_with(&site.archive_command);
    let newest = site.backup(&["--full"]);
    let _ = site.hf.run(&["expire", "--apply"]).ok();
    attack(&store, &format!("runs/{}", text(&first["id"])));
    let r = swept(&site);
    assert_eq!(r["refused"], serde_json::json!([]), "{r}");
    let left = versions(&store);
    assert!(
        !left.0.iter().chain(&left.1).any(|k| k.contains(&format!("runs/{}", text(&first["id"])))),
        "{left:?}"
    );
    assert_eq!(ids(&site), [text(&newest["id"])]);
    let _ = site.hf.run(&["check"]).ok();
}
