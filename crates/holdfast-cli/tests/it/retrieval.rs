//! Archived packs are retrieved by `restore`: planned with what it costs, agreed to, waited for, gone on with
//! after a kill. And what it costs to remove packs too early.

use crate::cold::{classes, cold_site, edit, points};
use crate::common::{DB, Site, error_of, eventually, fingerprint, text};
use crate::retention::keep;
use crate::s3::{site, start_copy};
use holdfast_testkit::{Fault, FaultProxy, PgVersion, Rule, Scratch, Store};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// A site with a point in a cold vault, in packs of 1 MiB.
struct Cold {
    site: Site,
    proxy: FaultProxy,
    store: Store,
    /// Keys of the data packs of the point.
    packs: Vec<String>,
    expected: String,
}

impl Cold {
    fn new(name: &str, versions: bool) -> Cold {
        let scratch = Scratch::new(name);
        let store = Store::ministack(&scratch, &["backups"]);
        if versions {
            store.enable_versioning("backups");
        }
        let proxy = FaultProxy::start(&store.endpoint());
        let site = cold_site(&scratch, store.env_for(&proxy.endpoint()));
        edit(&site, |old| {
            old.replacen(
                "storage-class = \"deep-archive\"",
                "pack-size = \"1MiB\"\nstorage-class = \"deep-archive\"",
                1,
            )
        });
        site.sql("create table t as select g, gen_random_uuid() u from generate_series(1, 200000) g");
        let _ = site.backup(&[]);
        let expected = fingerprint(&site.pg, "postgres");
        site.sql("select pg_switch_wal()");
        site.pg.wait_archived();
        let copied = site.hf.run(&["--json", "copy", DB]).ok().json();
        let run = format!("/runs/{}/data-", text(&points(&copied)[0]["point"]));
        let packs: Vec<String> = classes(&store, "cold").into_keys().filter(|k| k.contains(&run)).collect();
        assert!(packs.len() > 3, "{packs:?}");
        proxy.reset_counts();
        Cold { site, proxy, store, packs, expected }
    }

    /// Targets of the requests to retrieve so far.
    fn asked(&self) -> Vec<String> {
        let all = self.proxy.requests().into_iter();
        all.filter(|s| s.method == "POST" && s.target.contains("restore=")).map(|s| s.target).collect()
    }

    fn ready(&self) -> bool {
        self.packs
            .iter()
            .all(|k| self.store.request("GET", &format!("backups/{k}"), &[], b"").status() == 200)
    }

    fn plan(&self, more: &[&str]) -> Value {
        let args = [&["--vault", "cold", "--plan"], more].concat();
        self.site.restore("plan", &args)["retrieval"].clone()
    }

    fn untouched(&self) {
        assert!(!self.site.scratch.path("copy").exists(), "touched");
    }

    fn restores(self, args: &[&str]) {
        let done = self.site.restore("copy", args);
        assert_eq!(done["plan"]["vault"], "cold", "{done}");
        let copy = start_copy(&self.site, "copy", &self.store.env_for(&self.proxy.endpoint()));
        assert_eq!(fingerprint(&copy, "postgres"), self.expected);
    }
}

fn number(v: &Value) -> u64 {
    v.as_u64().unwrap_or_else(|| panic!("no number: {v}"))
}

#[test]
fn a_retrieval_is_planned_agreed_to_and_waited_for() {
    let cold = Cold::new("retrieve", false);
    let n = cold.packs.len() as u64;
    // What can be read at once is better, and the plan says what there is besides.
    let plan = cold.site.restore("plan", &["--retrieve", "--plan"]);
    assert_eq!((&plan["vault"], &plan["retrieval"]), (&"main".into(), &Value::Null), "{plan}");
    assert!(plan["notes"].to_string().contains("would have to be retrieved"), "{plan}");

    let r = cold.plan(&["--retrieve"]);
    assert_eq!(
        (&r["speed"], &r["days"], &r["patience_seconds"]),
        (&"standard".into(), &3.into(), &86400.into())
    );
    let archived = &r["archived"][0];
    assert_eq!((&archived["class"], number(&archived["packs"])), (&"deep-archive".into(), n), "{r}");
    assert_eq!(archived["bytes"], r["all"]["bytes"], "{r}");
    assert_eq!((number(&archived["from_seconds"]), number(&archived["to_seconds"])), (0, 43_200), "{r}");
    let gb = number(&r["all"]["bytes"]) as f64 / f64::from(1 << 30);
    let cost = |k: &str| r["cost"][k].as_f64().unwrap_or_else(|| panic!("{k}: {r}"));
    let near = |a: f64, b: f64| (a - b).abs() < 2e-6;
    assert!(near(cost("bytes_usd"), gb * 0.02) && near(cost("requests_usd"), n as f64 * 0.0001), "{r}");
    assert!(near(cost("copies_usd"), gb * 0.023 * 4.0 / 30.0), "{r}");
    assert!(near(cost("total_usd"), cost("bytes_usd") + cost("requests_usd") + cost("copies_usd")), "{r}");
    assert!(text(&r["prices_date"]).starts_with("20") && r["prices_region"] == "us-east-1", "{r}");
    // The policy's own figures count.
    edit(&cold.site, |old| {
        format!(
            "{old}\n[prices.s3]\ndate = \"2026-11-20\"\nregion = \"eu-central-1\"\n\
             [prices.s3.retrieval.deep-archive.bulk]\nper-gb = 0\nper-1000-requests = 1000000\nto = \"2h\"\n"
        )
    });
    let r = cold.plan(&["--retrieve=bulk", "--retrieve-days", "9", "--retrieve-for", "1h"]);
    assert_eq!((&r["days"], &r["patience_seconds"]), (&9.into(), &3600.into()), "{r}");
    assert_eq!(number(&r["archived"][0]["to_seconds"]), 7200, "{r}");
    assert!(near(r["cost"]["requests_usd"].as_f64().unwrap(), n as f64 * 1000.0), "{r}");

    // Nothing is asked for before somebody agrees.
    let refused = |args: &[&str]| {
        let out = cold.site.try_restore("copy", &[&["--vault", "cold"], args].concat()).expect_code(13);
        let (_, why, hint) = error_of(&out);
        (why, hint)
    };
    let (why, hint) = refused(&["--retrieve"]);
    assert!(why.contains("costs about") && why.contains("agreed") && hint.contains("--yes"), "{why} {hint}");
    let (why, hint) = refused(&["--retrieve=expedited", "--yes"]);
    assert!(why.contains("deep-archive") && why.contains("expedited"), "{why}");
    assert!(hint.contains("--retrieve=bulk") && hint.contains("--retrieve=standard"), "{hint}");
    let to = cold.site.scratch.path("copy").display().to_string();
    let args = ["--vault", "cold", "restore", DB, "--to", &to, "--retrieve"];
    let _ = cold
        .site
        .hf
        .run(&args)
        .expect_code(13)
        .says("deep-archive; `standard` takes up to 12h")
        .says("2026-11-20");
    assert_eq!(cold.asked(), [""; 0]);
    cold.untouched();

    // Asked for, and not waited for.
    let args = ["--vault", "cold", "--retrieve", "--yes", "--retrieve-for", "0s"];
    let (_, why, hint) = error_of(&cold.site.try_restore("copy", &args).expect_code(1));
    assert!(why.contains("have not been retrieved") && hint.contains("run the same again"), "{why} {hint}");
    assert_eq!(cold.asked().len() as u64, n);
    cold.untouched();
    eventually("the packs are retrieved", || cold.ready());
    // A copy went again: that pack has to be paid for once more.
    let gone = b"<RestoreRequest><Days>-1</Days></RestoreRequest>";
    let path = format!("backups/{}?restore", cold.packs[0]);
    assert_eq!(cold.store.request("POST", &path, &[], gone).status(), 200);
    let r = cold.plan(&["--retrieve"]);
    assert_eq!((number(&r["archived"][0]["packs"]), number(&r["readable"]["packs"])), (1, n - 1), "{r}");
    assert!(text(&r["readable_until"]) > "2026", "{r}");
    let (why, _) = refused(&["--retrieve"]);
    assert!(why.starts_with("retrieving 1 data packs"), "{why}");
    cold.proxy.reset_counts();
    let args = ["--vault", "cold", "--retrieve", "--yes", "--retrieve-for", "0s"];
    let _ = cold.site.try_restore("copy", &args).expect_code(1);
    assert_eq!(cold.asked().len(), 1);
    // All is asked for: what is left to do costs nothing, and needs nobody's word.
    cold.restores(&["--vault", "cold", "--retrieve"]);
}

#[test]
fn a_retrieval_that_was_killed_goes_on_where_the_store_is() {
    let cold = Cold::new("retrieve-kill", true);
    // The first answer is lost, later requests hang: killed meanwhile, only some packs were asked for.
    cold.proxy.add(Rule::on("POST", "restore=").nth(1).fault(Fault::LoseReply));
    cold.proxy.add(Rule::on("POST", "restore=").nth(3).fault(Fault::Delay(Duration::from_secs(20))));
    cold.proxy.add(Rule::on("POST", "restore=").nth(4).fault(Fault::Delay(Duration::from_secs(20))));
    let to = cold.site.scratch.path("copy").display().to_string();
    let args = ["--vault", "cold", "restore", DB, "--to", &to, "--retrieve", "--yes"];
    let mut run = cold.site.hf.spawn(&args);
    eventually("packs are asked for", || cold.asked().len() >= 4);
    run.kill9();
    cold.untouched();
    let before: BTreeSet<String> = cold.asked().into_iter().collect();
    assert!(before.len() >= 3, "{before:?}");
    cold.proxy.heal();
    cold.proxy.reset_counts();
    let packs = cold.packs.clone();
    let done = cold.site.hf.run(&args).ok();
    assert!(done.stderr.contains("retrieving archived packs"), "{}", done.transcript());
    let after: BTreeSet<String> = cold.asked().into_iter().collect();
    let all: BTreeSet<String> = before.union(&after).cloned().collect();
    assert_eq!(all.len(), packs.len(), "{all:?}");
    let answered = before.len() - 2;
    assert!(after.len() <= packs.len() - answered, "asked again: {before:?} {after:?}");
    let copy = start_copy(&cold.site, "copy", &cold.store.env_for(&cold.proxy.endpoint()));
    assert_eq!(fingerprint(&copy, "postgres"), cold.expected);
}

#[test]
fn a_store_that_does_not_retrieve_is_told_from_a_role_that_may_not() {
    let cold = Cold::new("retrieve-not", false);
    let args = ["--vault", "cold", "--retrieve", "--yes"];
    for (status, code, says, advice) in [
        (403, 12, "does not allow it", "s3:RestoreObject"),
        (501, 1, "the store cannot do this", "RestoreObject of S3"),
        (405, 1, "the store cannot do this", "--vault"),
        (503, 1, "the store failed", "run it again"),
    ] {
        cold.proxy.add(Rule::on("POST", "restore=").fault(Fault::Status(status)));
        let (_, why, hint) = error_of(&cold.site.try_restore("copy", &args).expect_code(code));
        assert!(why.contains("cannot retrieve") && why.contains(says), "{status}: {why}");
        assert!(hint.contains(advice), "{status}: {hint}");
        cold.untouched();
        cold.proxy.heal();
    }
    let plan = cold.plan(&["--retrieve"]);
    assert_eq!(number(&plan["archived"][0]["packs"]), cold.packs.len() as u64, "{plan}");
    // Not asking which packs are archived is no licence to guess.
    cold.proxy.add(Rule::on("HEAD", "/data-").fault(Fault::Status(403)));
    let _ = cold.site.try_restore("copy", &args).expect_code(12);
    cold.untouched();
}

#[test]
fn what_goes_before_its_minimum_is_priced() {
    let scratch = Scratch::new("early");
    let store = Store::ministack(&scratch, &["backups"]);
    let site = site(&scratch, PgVersion::NEWEST, store.env());
    let line = "storage-class = \"standard-ia\"\n";
    edit(&site, |old| {
        let old = old.replacen("url = ", &format!("{line}url = "), 1);
        format!("{old}\n[prices.s3.storage]\nstandard-ia = 1000\n")
    });
    keep(&site, "last = 1", "");
    site.sql("create table t as select g, gen_random_uuid() u from generate_series(1, 20000) g");
    let first = site.backup(&["--full"]);
    let _ = site.backup(&["--full"]);
    let plan = site.hf.run(&["--json", "expire", DB]).ok().json();
    let early = &plan["plans"][0]["early_deletion"];
    assert_eq!((&early["class"], &early["minimum_days"]), (&"standard-ia".into(), &30.into()), "{plan}");
    let run = &early["runs"][0];
    assert_eq!((&run["run"], &run["days_left"]), (&first["id"], &30.into()), "{plan}");
    let data: u64 = classes(&store, "prod")
        .into_iter()
        .filter(|(k, _)| k.contains(&format!("/runs/{}/data-", text(&first["id"]))))
        .map(|(_, (_, len, _))| len)
        .sum();
    assert_eq!(number(&early["bytes"]), data, "{early}");
    let expected = data as f64 / f64::from(1 << 30) * 1000.0;
    assert!((early["cost_usd"].as_f64().unwrap() - expected).abs() < 1e-5, "{expected} {early}");
    let _ = site.hf.run(&["expire", DB]).ok().says("early deletion: `standard-ia` is paid for 30 days");
    let _ = site.hf.run(&["expire", DB, "--apply"]).ok();
    // Stores tell the time in seconds.
    std::thread::sleep(Duration::from_millis(2100));
    let out = site.hf.run(&["sweep", DB, "--plan"]).ok().says("early deletion").says("DAYS LEFT");
    assert!(out.stdout.contains(text(&first["id"])), "{}", out.transcript());
    let swept = site.hf.run(&["--json", "sweep", DB, "--plan"]).ok().json();
    assert_eq!(number(&swept["sweeps"][0]["early_deletion"]["bytes"]), data, "{swept}");
    // A vault can be told to wait: then nothing is charged, and the point stays.
    edit(&site, |old| old.replacen(line, &format!("{line}sweep-early = false\n"), 1));
    let plan = site.hf.run(&["--json", "expire", DB]).ok().json();
    assert_eq!(plan["plans"][0]["early_deletion"], Value::Null, "{plan}");
    let swept = site.hf.run(&["--json", "sweep", DB]).ok().json();
    let one = &swept["sweeps"][0];
    assert_eq!((&one["early_deletion"], number(&one["removed"]["objects"])), (&Value::Null, 0), "{swept}");
    assert!(text(&one["waiting"][text(&first["id"])]).contains("is paid for until"), "{swept}");
    edit(&site, |old| old.replace("sweep-early = false\n", ""));
    // Without a class there is no minimum.
    edit(&site, |old| old.replace(line, ""));
    let swept = site.hf.run(&["--json", "sweep", DB, "--plan"]).ok().json();
    assert_eq!(swept["sweeps"][0]["early_deletion"], Value::Null, "{swept}");
}
