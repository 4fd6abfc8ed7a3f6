//! Object Lock: locked before it is committed, extended once, left by sweeps until its time has come.

use crate::common::{DB, Site, error_of, eventually, fingerprint, text};
use crate::retention::{ids, keep};
use crate::s3::{site, start_copy};
use holdfast_testkit::{Fault, FaultProxy, PgVersion, Rule, Scratch, Store};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

const LOCK: &str = "lock = { mode = \"governance\", for = \"10h\" }\n";

/// A site in a bucket with Object Lock, reached through a proxy; the policy does not lock yet.
fn locked_site(name: &str, version: PgVersion) -> (Scratch, Store, FaultProxy, Site) {
    let scratch = Scratch::new(name);
    let store = Store::ministack(&scratch, &[]);
    store.create_locked_bucket("backups");
    let proxy = FaultProxy::with_seed(&store.endpoint(), 7);
    let site = site(&scratch, version, store.env_for(&proxy.endpoint()));
    (scratch, store, proxy, site)
}

fn lock_policy(site: &Site, on: bool) {
    let old = std::fs::read_to_string(site.scratch.path("holdfast.toml")).unwrap();
    let text = match on {
        true => old.replacen("url = ", &format!("{LOCK}url = "), 1),
        false => old.replace(LOCK, ""),
    };
    assert_ne!(old, text);
    site.scratch.write("holdfast.toml", text);
}

/// Keys below the vault that contain `part`, with the version that counts and until when it is locked.
fn locks(store: &Store, part: &str) -> Vec<(String, String, Option<Timestamp>)> {
    let page = store.request("GET", "backups?versions&prefix=prod/", &[], b"").text();
    assert!(page.contains("<IsTruncated>false"), "one page is enough here");
    let field = |v: &str, tag: &str| {
        v.split_once(&format!("<{tag}>")).unwrap().1.split_once('<').unwrap().0.to_string()
    };
    let all = page.split("<Version>").skip(1).map(|v| (field(v, "Key"), field(v, "VersionId")));
    all.filter(|(key, _)| key.contains(part))
        .map(|(key, id)| {
            let r = store.request("GET", &format!("backups/{key}?retention&versionId={id}"), &[], b"").text();
            let until =
                r.contains("<RetainUntilDate>").then(|| field(&r, "RetainUntilDate").parse().unwrap());
            (key, id, until)
        })
        .collect()
}

fn short(site: &Site) -> Vec<String> {
    let plan = site.hf.run(&["--json", "lock"]).ok().json();
    let rows = plan["locks"][0]["objects"].as_array().unwrap();
    rows.iter().map(|r| text(&r["name"]).to_string()).collect()
}

fn warnings(check: &Value) -> usize {
    check["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| text(&c["message"]).contains("holdfast lock"))
        .count()
}

#[test]
fn points_are_locked_before_they_are_committed() {
    let (_scratch, store, proxy, site) = locked_site("s3lock", PgVersion::V17);
    site.sql("create table t as select g, gen_random_uuid() u from generate_series(1, 20000) g");
    let full = site.backup(&[]);
    let of_full = format!("runs/{}/", text(&full["id"]));
    assert!(locks(&store, &of_full).iter().all(|(_, _, until)| until.is_none()));
    lock_policy(&site, true);
    // Enough for a pack of several parts.
    site.sql(
        "create table big as select gen_random_uuid() a, gen_random_uuid() b from generate_series(1, 400000)",
    );
    site.pg.wait_archived();

    // Killed between locks and commit: locked too long, and no point.
    proxy.add(Rule::on("PUT", ".point").fault(Fault::Delay(Duration::from_secs(60))));
    proxy.reset_counts();
    let begun = Timestamp::now();
    let mut run = site.hf.spawn(&["backup", DB]);
    eventually("the run commits", || proxy.count("PUT", ".point") > 0);
    run.kill9();
    let extended = proxy.count("PUT", "retention");
    proxy.heal();
    assert!(extended > 0);
    assert_eq!(ids(&site), [text(&full["id"])]);
    let ten = begun + SignedDuration::from_hours(10);
    for (key, _, until) in locks(&store, "/runs/") {
        assert!(until.is_some_and(|t| t >= ten), "{key} {until:?} {ten}");
    }

    // The next one extends nothing once more.
    proxy.reset_counts();
    let incremental = site.backup(&[]);
    assert_eq!(incremental["kind"], "incremental");
    let of = |method: &str| -> Vec<String> {
        let all = proxy.requests();
        all.into_iter()
            .filter(|s| s.method == method && s.target.contains("?retention"))
            .map(|s| s.target)
            .collect()
    };
    // The emulator takes the lock of a multipart upload and forgets it: that is what the question is for.
    let own_run = format!("runs/{}/", text(&incremental["id"]));
    let extended = of("PUT");
    assert!(extended.iter().all(|t| t.contains(&own_run)), "{extended:?}");
    // What the ledger of the killed run knows is not asked again.
    let asked = of("GET");
    assert!(asked.iter().all(|t| !t.contains(&of_full)), "{asked:?}");
    let own = locks(&store, &format!("runs/{}/", text(&incremental["id"]))).len();
    assert!(asked.iter().filter(|t| t.contains("/runs/")).count() <= own, "{asked:?}");
    let parts =
        proxy.requests().iter().filter(|s| s.method == "PUT" && s.target.contains("partNumber")).count();
    assert!(parts >= 2, "no pack of several parts: {parts}");
    let record = locks(&store, &format!("{}.point", text(&incremental["id"])));
    assert!(record[0].2.is_some_and(|t| t >= ten));
    // Nobody removes it, whatever else he may.
    for (key, id, _) in locks(&store, &format!("runs/{}/", text(&incremental["id"]))) {
        assert_eq!(store.request("DELETE", &format!("backups/{key}?versionId={id}"), &[], b"").status(), 403);
    }

    // The first point was made without.
    let left = short(&site);
    assert!(left.iter().any(|n| n.ends_with(&format!("{}.point", text(&full["id"])))), "{left:?}");
    assert!(!left.iter().any(|n| n.contains("/runs/")), "{left:?}");
    let check = site.hf.run(&["--json", "check"]).ok().json();
    assert_eq!(warnings(&check), left.len(), "{check}");
    let done = site.hf.run(&["--json", "lock", "--apply"]).ok().json();
    assert_eq!(done["locks"][0]["extended"], left.len(), "{done}");
    assert!(short(&site).is_empty());
    assert_eq!(warnings(&site.hf.run(&["--json", "check"]).ok().json()), 0);
    let _ = site.hf.run(&["doctor"]).says("vault.main.lock");

    // What is locked stays, and says so.
    keep(&site, "last = 1", "");
    let plan = site.hf.run(&["--json", "expire"]).ok().json();
    let rows = plan["plans"][0]["points"].as_array().unwrap();
    assert!(rows.iter().all(|r| r["verdict"] == "keep"), "{plan}");
    assert!(rows.iter().any(|r| r["reasons"].to_string().contains("locked")), "{plan}");
    let (_, why, _) =
        error_of(&site.hf.run(&["--json", "expire", text(&full["id"]), "--apply"]).expect_code(13));
    assert!(why.contains("locked"), "{why}");
    // A policy that knows nothing of it any more changes nothing about it.
    lock_policy(&site, false);
    let _ = site.hf.run(&["expire", "--apply"]).ok();
    std::thread::sleep(Duration::from_millis(2100));
    let swept = site.hf.run(&["--json", "sweep"]).ok().json()["sweeps"][0].clone();
    assert!(text(&swept["waiting"][text(&full["id"])]).contains("locked"), "{swept}");
    assert_eq!(swept["refused"], json!([]), "{swept}");
    assert_eq!(ids(&site), [text(&full["id"]), text(&incremental["id"])]);
    let _ = site.hf.run(&["check"]).ok();
}

#[test]
fn a_role_that_may_not_extend_leaves_it_to_another() {
    let (_scratch, store, proxy, site) = locked_site("s3lockrole", PgVersion::NEWEST);
    site.sql("create table t as select g, gen_random_uuid() u from generate_series(1, 20000) g");
    let _ = site.backup(&[]);
    lock_policy(&site, true);
    site.sql("update t set u = gen_random_uuid() where g % 50 = 0");
    site.pg.wait_archived();
    proxy.add(Rule::on("PUT", "retention").fault(Fault::Status(403)));
    let _ = site.hf.run(&["backup", DB]).ok().says("not yet locked");
    let newest = ids(&site).pop().unwrap();
    assert!(short(&site).iter().any(|n| n.contains("/runs/")));
    let refused = site.hf.run(&["--json", "lock", "--apply"]).expect_code(3).json();
    assert_eq!(refused["locks"][0]["extended"], 0, "{refused}");
    proxy.heal();
    let plan = site.hf.run(&["--json", "lock"]).ok().json();
    assert!(plan["locks"][0]["points"].as_array().unwrap().contains(&json!(newest)), "{plan}");
    let _ = site.hf.run(&["lock", "--apply"]).ok();
    assert!(short(&site).is_empty());
    // Restores do not care.
    let expected = fingerprint(&site.pg, "postgres");
    site.sql("select pg_switch_wal()");
    site.pg.wait_archived();
    let env = store.env_for(&proxy.endpoint());
    let _ = site.restore("copy", &[]);
    assert_eq!(fingerprint(&start_copy(&site, "copy", &env), "postgres"), expected);
}
