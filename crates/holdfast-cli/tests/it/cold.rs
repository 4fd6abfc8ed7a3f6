//! Storage classes: data packs have the vault's, all else the bucket's own; cold vaults take dense copies, and
//! what is in them is read only after it was retrieved.

use crate::common::{DB, Site, error_of, eventually, fingerprint, text};
use crate::s3::{site, start_copy};
use holdfast_testkit::{Holdfast, PgVersion, Scratch, Store};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Every object below a prefix with its class as S3 says it, its length, and whether it came in parts.
pub fn classes(store: &Store, prefix: &str) -> BTreeMap<String, (String, u64, bool)> {
    let page = store.request("GET", &format!("backups?list-type=2&prefix={prefix}/"), &[], b"").text();
    assert!(page.contains("<IsTruncated>false"), "one page is enough here");
    let keys = page.split("<Key>").skip(1).map(|k| k.split('<').next().expect("a key").to_string());
    keys.map(|key| {
        let head = store.request("HEAD", &format!("backups/{key}"), &[], b"").head;
        let class = head.header("x-amz-storage-class").unwrap_or("-").to_string();
        let len = head.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
        let parts = head.header("etag").is_some_and(|e| e.contains('-'));
        (key, (class, len, parts))
    })
    .collect()
}

/// Data packs have `class`, everything else none; returns the data packs.
fn only_data_packs_have(class: &str, all: &BTreeMap<String, (String, u64, bool)>) -> BTreeMap<String, u64> {
    for (key, (found, ..)) in all {
        let data = key.contains("/runs/") && key.contains("/data-") && key.ends_with(".pack");
        assert_eq!(found, if data { class } else { "-" }, "{key}");
    }
    for kind in ["/data-", "/meta-", ".point", ".lease", "/wal/", "holdfast.vault", "/cluster"] {
        assert!(all.keys().any(|k| k.contains(kind)), "no {kind} in {:?}", all.keys());
    }
    let data = all.iter().filter(|(k, _)| k.contains("/data-"));
    data.map(|(k, (_, len, _))| (k.clone(), *len)).collect()
}

pub fn edit(site: &Site, change: impl FnOnce(String) -> String) {
    let path = site.scratch.path("holdfast.toml");
    let old = std::fs::read_to_string(path).expect("the policy");
    site.scratch.write("holdfast.toml", change(old));
}

#[test]
fn data_packs_get_the_class_of_the_vault() {
    let scratch = Scratch::new("class");
    let store = Store::ministack(&scratch, &[]);
    store.create_locked_bucket("backups");
    let site = site(&scratch, PgVersion::NEWEST, store.env());
    // Not a single object of `init` is a pack.
    let line = "storage-class = \"standard-ia\"\n";
    edit(&site, |old| old.replacen("url = ", &format!("{line}url = "), 1));
    // Enough for a pack of several parts.
    site.sql(
        "create table big as select gen_random_uuid() a, gen_random_uuid() b from generate_series(1, 400000)",
    );
    let _ = site.backup(&[]);
    site.sql("update big set a = b where b < '04000000-0000-0000-0000-000000000000'");
    site.pg.wait_archived();
    // With a lock as well the class goes another way.
    let lock = "lock = { mode = \"governance\", for = \"10h\" }\n";
    edit(&site, |old| old.replacen("url = ", &format!("{lock}url = "), 1));
    assert_eq!(site.backup(&[])["kind"], "incremental");
    let _ = site.backup(&["--full"]);
    let all = classes(&store, "prod");
    let data = only_data_packs_have("STANDARD_IA", &all);
    let runs: BTreeSet<&str> = data.keys().filter_map(|k| k.rsplit('/').nth(1)).collect();
    assert_eq!(runs.len(), 3, "{data:?}");
    let large: BTreeSet<&str> =
        data.keys().filter(|k| all[*k].2).filter_map(|k| k.rsplit('/').nth(1)).collect();
    assert!(large.len() >= 2, "packs in parts, locked and not: {all:?}");
    assert!(data.keys().any(|k| !all[k].2), "packs in one piece: {all:?}");
    let _ = site.hf.run(&["check"]).ok();
}

/// A site in a bucket whose points are copied to a vault of the class `deep-archive`.
pub fn cold_site(scratch: &Scratch, env: Vec<(String, String)>) -> Site {
    let site = site(scratch, PgVersion::V17, env.clone());
    let other = Holdfast::new(scratch, scratch.path("cold.toml")).envs(env);
    let (url, conninfo) = ("s3://backups/cold", site.pg.conninfo());
    let key = scratch.path("cold.key").display().to_string();
    let args = ["init", "--name", DB, "--conninfo", &conninfo, "--vault", url, "--key-file", &key, "--yes"];
    let _ = other.run(&args).ok();
    edit(&site, |old| {
        format!(
            "{old}\n[vaults.cold]\nurl = \"{url}\"\nkey-file = \"{key}\"\nstorage-class = \"deep-archive\"\n\
             [policies.standard.copies.cold]\nto = \"cold\"\nkeep = {{ last = 9 }}\n"
        )
    });
    site
}

pub fn points(copied: &Value) -> &Vec<Value> {
    copied["copies"][0]["points"].as_array().expect("points")
}

#[test]
fn a_cold_vault_takes_dense_copies_and_no_backups() {
    let scratch = Scratch::new("cold");
    let store = Store::ministack(&scratch, &["backups"]);
    let site = cold_site(&scratch, store.env());
    site.sql("create table t as select g, gen_random_uuid() u from generate_series(1, 50000) g");
    let _ = site.backup(&[]);
    site.sql("update t set u = gen_random_uuid() where g % 100 = 0");
    let incremental = site.backup(&[]);
    assert_eq!(incremental["kind"], "incremental");
    let copied = site.hf.run(&["--json", "copy", DB]).ok().json();
    assert_eq!(points(&copied).len(), 2, "{copied}");
    for p in points(&copied) {
        assert_eq!((&p["status"], &p["verified_level"]), (&"copied".into(), &"L0".into()), "{copied}");
    }
    // Each brought all of its packs, and nothing of another's.
    let data = only_data_packs_have("DEEP_ARCHIVE", &classes(&store, "cold"));
    let of = |p: &Value| -> u64 {
        let run = format!("/runs/{}/", text(&p["point"]));
        data.iter().filter(|(k, _)| k.contains(&run)).map(|(_, len)| len).sum()
    };
    let (first, second) = (of(&points(&copied)[0]), of(&points(&copied)[1]));
    assert!(second * 10 > first * 9 && first > 0, "{first} {second}");
    assert!(second > 3 * incremental["stored_bytes"].as_u64().unwrap(), "{second} {incremental}");
    let list = site.hf.run(&["--json", "--vault", "cold", "list", DB]).ok().json();
    assert!(list["points"].as_array().unwrap().iter().all(|p| p["parent"].is_null()), "{list}");
    // Again: nothing is lacking, and nothing is read back.
    assert!(points(&site.hf.run(&["--json", "copy", DB]).ok().json()).is_empty());

    let refused = |args: &[&str]| error_of(&site.hf.run(args).expect_code(13));
    let (_, why, hint) = refused(&["--json", "--vault", "cold", "backup", DB]);
    assert!(why.contains("is cold") && hint.contains("copy"), "{why} {hint}");
    let (_, why, hint) = refused(&["--json", "copy", DB, "--from", "cold", "--to", "main"]);
    assert!(why.contains("is cold") && hint.contains("--from"), "{why} {hint}");
    let (_, why, hint) = refused(&["--json", "--vault", "cold", "verify", DB, "--level", "L2"]);
    assert!(why.contains("is cold") && hint.contains("L0"), "{why} {hint}");
    let _ = site.hf.run(&["--vault", "cold", "verify", DB, "--level", "L0"]).ok();
    let _ = site.hf.run(&["--vault", "cold", "check", DB]).ok().says("data packs are archived");
    let _ = site.hf.run(&["check", DB]).ok();
}

#[test]
fn a_cold_point_is_restored_once_its_packs_are_retrieved() {
    let scratch = Scratch::new("thaw");
    let store = Store::ministack(&scratch, &["backups"]);
    let site = cold_site(&scratch, store.env());
    site.sql("create table t as select g, gen_random_uuid() u from generate_series(1, 50000) g");
    let _ = site.backup(&[]);
    let expected = fingerprint(&site.pg, "postgres");
    site.sql("select pg_switch_wal()");
    site.pg.wait_archived();
    let copied = site.hf.run(&["--json", "copy", DB]).ok().json();
    let run = format!("/runs/{}/", text(&points(&copied)[0]["point"]));
    // The other vault is as near and can be read.
    let plan = site.restore("plan", &["--plan"]);
    assert_eq!(plan["vault"], "main", "{plan}");
    assert!(plan["notes"].to_string().contains("archived"), "{plan}");

    let from_cold = ["--vault", "cold"];
    for more in [&["--plan"][..], &[]] {
        let args = [&from_cold[..], more].concat();
        let (_, why, hint) = error_of(&site.try_restore("copy", &args).expect_code(13));
        assert!(why.contains("data packs") && why.contains("are archived"), "{why}");
        assert!(hint.contains("--vault") && hint.contains("--retrieve"), "{hint}");
        assert!(!scratch.path("copy").exists(), "touched");
    }
    let all = classes(&store, "cold");
    let packs: Vec<&String> = all.keys().filter(|k| k.contains(&run) && k.contains("/data-")).collect();
    assert!(!packs.is_empty());
    let wish = b"<RestoreRequest xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Days>1</Days>\
                 <GlacierJobParameters><Tier>Bulk</Tier></GlacierJobParameters></RestoreRequest>";
    for pack in &packs {
        assert_eq!(store.request("POST", &format!("backups/{pack}?restore"), &[], wish).status(), 202);
    }
    let ready = |k: &String| store.request("GET", &format!("backups/{k}"), &[], b"").status() == 200;
    eventually("the packs are retrieved", || packs.iter().all(|k| ready(k)));
    // Only packs of blocks were asked for: all else can be read as it is.
    let done = site.restore("copy", &from_cold);
    assert_eq!(done["plan"]["vault"], "cold", "{done}");
    assert_eq!(fingerprint(&start_copy(&site, "copy", &store.env()), "postgres"), expected);
}
