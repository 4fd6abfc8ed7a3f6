//! Object Lock: locked before it is committed, extended once, left by sweeps until its time has come.

use crate::common::{DB, Site, error_of, eventually, fingerprint, text};
use crate::copies;
use crate::remote::{make_remote, method};
use crate::retention::{ids, keep};
use crate::s3::{site, start_copy};
use holdfast_testkit::{Fault, FaultProxy, PgVersion, Rule, Scratch, Store};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeSet;
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
    locks_below(store, "prod/", part)
}

fn locks_below(store: &Store, vault: &str, part: &str) -> Vec<(String, String, Option<Timestamp>)> {
    let page = store.request("GET", &format!("backups?versions&prefix={vault}"), &[], b"").text();
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

/// All that a restore of the point reads is locked at least until then, and nobody removes it, whatever else he
/// may. Returns the keys.
fn all_is_locked(store: &Store, vault: &str, shown: &Value, until: Timestamp) -> BTreeSet<String> {
    let point = &shown["point"];
    let mut names: Vec<String> =
        point["wal"].as_array().unwrap().iter().map(|w| text(&w["name"]).into()).collect();
    assert!(!names.is_empty(), "{point}");
    names.push(format!("{}.point", text(&point["id"])));
    names.push(format!("/runs/{}/", text(&point["id"])));
    names.extend(["holdfast.vault".to_string(), "/cluster".to_string()]);
    if let Some(parent) = point["parent"].as_str() {
        names.push(format!("/runs/{parent}/meta"));
    }
    let mut keys = BTreeSet::new();
    for part in names {
        let found = locks_below(store, vault, &part);
        assert!(!found.is_empty(), "no object with {part}");
        for (key, id, locked) in found {
            assert!(locked.is_some_and(|t| t >= until), "{key}: {locked:?}, {until}");
            let gone = store.request("DELETE", &format!("backups/{key}?versionId={id}"), &[], b"");
            assert_eq!(gone.status(), 403, "{key}");
            keys.insert(key);
        }
    }
    keys
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
    // The proxy sends it on in the end, whoever asked for it: after this test.
    proxy.add(Rule::on("PUT", ".point").fault(Fault::Delay(Duration::from_secs(600))));
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

/// A remote run does as one on the server's host: everything is locked when its point appears.
#[test]
fn remote_points_are_locked_before_they_are_committed() {
    let (_scratch, store, proxy, site) = locked_site("s3lockremote", PgVersion::NEWEST);
    make_remote(&site);
    lock_policy(&site, true);
    site.sql("alter system set summarize_wal = on");
    site.sql("select pg_reload_conf()");
    site.sql("create table t as select g, gen_random_uuid() u from generate_series(1, 100000) g");
    site.sql("checkpoint");
    proxy.add(Rule::on("PUT", ".point").times(1).fault(Fault::Delay(Duration::from_secs(10))));
    proxy.reset_counts();
    let ten = Timestamp::now() + SignedDuration::from_hours(10);
    let mut run = site.hf.spawn(&["--json", "backup", DB]);
    eventually("the run commits", || proxy.count("PUT", ".point") > 0);
    // Not yet committed.
    assert!(locks(&store, ".point").is_empty());
    let packs = locks(&store, "/runs/");
    assert!(packs.iter().any(|(key, ..)| key.contains("data-")), "{packs:?}");
    for (key, _, until) in packs {
        assert!(until.is_some_and(|t| t >= ten), "{key} {until:?} {ten}");
    }
    let ended = run.wait(Duration::from_secs(120)).expect("the run ends");
    assert!(ended.success(), "{}", run.output());
    site.sql("update t set u = gen_random_uuid() where g % 50 = 0");
    site.pg.wait_archived();
    let incremental = site.backup(&[]);
    assert_eq!((&incremental["kind"], method(&incremental)), (&"incremental".into(), "wal-summaries"));
    for id in ids(&site) {
        let shown = site.hf.run(&["--json", "show", &id]).ok().json();
        let _ = all_is_locked(&store, "prod/", &shown, ten);
    }
    assert_eq!(short(&site), Vec::<String>::new());
    assert_eq!(warnings(&site.hf.run(&["--json", "check"]).ok().json()), 0);
    // A role that may not extend commits all the same, and says so.
    proxy.add(Rule::on("PUT", "retention").fault(Fault::Status(403)));
    site.sql("update t set u = gen_random_uuid() where g % 50 = 1");
    let _ = site.hf.run(&["backup", DB]).ok();
    proxy.heal();
    let _ = site.hf.run(&["lock", "--apply"]).ok();
    assert_eq!(short(&site), Vec::<String>::new());
    let _ = site.hf.run(&["check"]).ok();
}

/// What a copy brings is locked in its vault, by that vault's rule, before the copy appears.
#[test]
fn copies_are_locked_before_they_are_committed() {
    let scratch = Scratch::new("s3lockcopy");
    let store = Store::ministack(&scratch, &[]);
    store.create_locked_bucket("backups");
    let proxy = FaultProxy::with_seed(&store.endpoint(), 7);
    let pg = crate::common::server(&scratch, "main", PgVersion::V17).start();
    let mut site = Site::with(pg, &scratch, &[]);
    let key = scratch.path("dr.key").display().to_string();
    copies::extend(
        &site,
        &format!(
            "[vaults.dr]\n{LOCK}url = \"s3://backups/dr\"\nkey-file = \"{key}\"\nsweep-after = \"1s\"\n\n\
             [policies.standard.copies.dr]\nto = \"dr\"\nkeep = {{ last = 1 }}\n"
        ),
    );
    // A window of recovery to any second would want its base as well.
    copies::replace(&site, "wal = { keep = \"30d\", required = \"any\" }", "wal = { required = \"any\" }");
    site.hf = site.hf.clone().envs(store.env_for(&proxy.endpoint()));
    let conninfo = site.pg.conninfo();
    let args =
        ["init", "--name", DB, "--conninfo", &conninfo, "--vault", "s3://backups/dr", "--key-file", &key];
    let _ = site.hf.run(&[&args[..], &["--yes"]].concat()).ok();
    // What the archiver brings is locked by itself: here only copies bring anything.
    site.sql("create table t as select g, gen_random_uuid() u from generate_series(1, 100000) g");
    let full = text(&site.backup(&[])["id"]).to_owned();
    site.pg.wait_archived();
    let dr = |args: &[&str]| site.hf.run(&[&["--json", "--vault", "dr"], args].concat());
    let copied = |origin: &str| -> String {
        let list = dr(&["list"]).ok().json();
        let all = list["points"].as_array().unwrap();
        text(&all.iter().find(|p| p["copy_of"] == origin).unwrap_or_else(|| panic!("{list}"))["id"])
            .to_owned()
    };

    proxy.add(Rule::on("PUT", ".point").times(1).fault(Fault::Delay(Duration::from_secs(10))));
    proxy.reset_counts();
    let ten = Timestamp::now() + SignedDuration::from_hours(10);
    let mut run = site.hf.spawn(&["--json", "copy", DB, "--to", "dr"]);
    eventually("the copy commits", || proxy.count("PUT", ".point") > 0);
    assert!(locks_below(&store, "dr/", ".point").is_empty());
    for (key, _, until) in locks_below(&store, "dr/", "/runs/") {
        assert!(until.is_some_and(|t| t >= ten), "{key} {until:?} {ten}");
    }
    let ended = run.wait(Duration::from_secs(120)).expect("the copy ends");
    assert!(ended.success(), "{}", run.output());
    let first = copied(&full);
    let shown = dr(&["show", &first]).ok().json();
    let of_first = all_is_locked(&store, "dr/", &shown, ten);

    // The second one builds on the first, whose packs are locked long enough: nothing of them is asked or extended.
    site.sql("update t set u = gen_random_uuid() where g % 50 = 0");
    let second = text(&site.backup(&[])["id"]).to_owned();
    site.pg.wait_archived();
    proxy.reset_counts();
    let ten = Timestamp::now() + SignedDuration::from_hours(10);
    let _ = copies::copy(&site, &[DB, "--to", "dr"]).ok();
    let second = copied(&second);
    let retention: Vec<String> =
        proxy.requests().into_iter().map(|s| s.target).filter(|t| t.contains("?retention")).collect();
    assert!(retention.iter().all(|t| !t.contains(&format!("/runs/{first}/"))), "{retention:?}");
    let shown = dr(&["show", &second]).ok().json();
    assert_eq!(shown["point"]["parent"], first.as_str(), "{shown}");
    let of_second = all_is_locked(&store, "dr/", &shown, ten);
    assert!(of_first.intersection(&of_second).any(|k| k.contains("/runs/")), "{of_second:?}");
    let plan = dr(&["lock"]).ok().json();
    assert_eq!(plan["locks"][0]["objects"], json!([]), "{plan}");
    let check = dr(&["check"]).ok().json();
    assert_eq!(warnings(&check), 0, "{check}");

    // No rule wants the first any more: its lock does, and no person overrides that.
    let plan = dr(&["expire", "--apply"]).ok().json();
    let rows = plan["plans"][0]["points"].as_array().unwrap();
    let row = rows.iter().find(|r| r["point"] == first.as_str()).unwrap();
    assert!(row["verdict"] == "keep" && row["reasons"].to_string().contains("locked"), "{plan}");
    let (_, why, _) = error_of(&dr(&["expire", &first, "--apply"]).expect_code(13));
    assert!(why.contains("locked"), "{why}");
    std::thread::sleep(Duration::from_millis(2100));
    let swept = dr(&["sweep"]).ok().json()["sweeps"][0].clone();
    assert_eq!((&swept["refused"], &swept["points"]), (&json!([]), &json!({})), "{swept}");
    assert_eq!(copied(&full), first);
    // Restored from there, byte for byte as far as the table tells.
    let expected = fingerprint(&site.pg, "postgres");
    let env = store.env_for(&proxy.endpoint());
    let _ = site.restore("copy", &["--vault", "dr", "--point", &second, "--immediate"]);
    assert_eq!(fingerprint(&start_copy(&site, "copy", &env), "postgres"), expected);
}

/// Retention asks for the locks of what would go, and of nothing that stays anyway.
#[test]
fn only_what_would_go_is_asked_about() {
    let (_scratch, _store, proxy, site) = locked_site("s3lockasked", PgVersion::NEWEST);
    site.sql("create table t as select g from generate_series(1, 1000) g");
    let mut points: Vec<String> = (0..4).map(|_| text(&site.backup(&["--full"])["id"]).to_owned()).collect();
    lock_policy(&site, true);
    points.push(text(&site.backup(&["--full"])["id"]).to_owned());
    site.pg.wait_archived();
    let asked = |args: &[&str]| -> Vec<String> {
        proxy.reset_counts();
        let _ = site.hf.run(args).ok();
        let all = proxy.requests().into_iter().filter(|s| s.target.contains("?retention")).map(|s| s.target);
        all.filter_map(|t| Some(t.split(".point").next()?.rsplit('/').next()?.to_owned())).collect()
    };
    keep(&site, "last = 9", "");
    assert_eq!(asked(&["expire"]), Vec::<String>::new());
    keep(&site, "last = 3, at-least = 1", "");
    let found: BTreeSet<String> = asked(&["expire"]).into_iter().filter(|id| points.contains(id)).collect();
    assert_eq!(found, points[..2].iter().cloned().collect::<BTreeSet<_>>());
    // A person names one that the rules keep, and is told that it is locked.
    let (_, why, _) = error_of(&site.hf.run(&["--json", "expire", &points[4], "--apply"]).expect_code(13));
    assert!(why.contains("locked"), "{why}");
}
