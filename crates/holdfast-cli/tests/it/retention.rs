//! Letting go: what the rules keep, what `expire` notes, what `sweep` removes, and what neither ever does.

use crate::common::{DB, Site, error_of, fingerprint, path_text, text};
use holdfast_core::RunId;
use holdfast_testkit::{Holdfast, Output, PgVersion};
use holdfast_vault::point::{Body, DamagedPage, Expired};
use holdfast_vault::{ClusterPath, Keys, Signer, Store, Vault};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// The policy with these rules, and the shortest wait before a sweep.
pub fn keep(site: &Site, rules: &str, wal: &str) {
    let path = site.scratch.path("holdfast.toml");
    let old = fs::read_to_string(&path).expect("policy");
    let changed: Vec<String> = old
        .lines()
        .map(|l| match l.trim_start() {
            t if t.starts_with("keep = {") => format!("keep = {{ {rules} }}"),
            t if t.starts_with("wal = {") => wal.to_string(),
            _ => l.to_string(),
        })
        .collect();
    let mut text = changed.join("\n");
    if !text.contains("sweep-after = \"1s\"") {
        text = text.replacen("url = ", "sweep-after = \"1s\"\nurl = ", 1);
    }
    assert!(text.contains(rules), "{text}");
    site.scratch.write("holdfast.toml", text + "\n");
}

/// A sweep, once `sweep-after` is over.
pub fn sweep(hf: &Holdfast, args: &[&str]) -> Output {
    std::thread::sleep(Duration::from_millis(1100));
    hf.run(args)
}

fn verdicts(plan: &Value) -> BTreeMap<String, String> {
    let rows = plan["plans"][0]["points"].as_array().expect("points");
    let real = rows.iter().filter(|r| r["cluster"] != "999");
    real.map(|r| (text(&r["point"]).to_owned(), text(&r["verdict"]).to_owned())).collect()
}

pub fn ids(site: &Site) -> Vec<String> {
    let list = site.hf.run(&["--json", "list"]).ok().json();
    let real = list["points"].as_array().expect("points").iter().filter(|p| p["cluster"] != "999");
    real.map(|p| text(&p["id"]).to_owned()).collect()
}

#[test]
fn what_the_rules_let_go_is_removed_and_the_rest_restores() {
    let site = Site::new("retention", PgVersion::V17);
    keep(&site, "last = 2", "");
    let mut points = Vec::new();
    for n in 0..6 {
        site.sql(&format!("create table t{n} as select g, md5(g::text) from generate_series(1, 2000) g"));
        points.push(text(&site.backup(&[])["id"]).to_owned());
    }
    site.pg.wait_archived();
    let size = |site: &Site| -> u64 {
        let dir = site.scratch.path("vault");
        site.vault_files().iter().map(|f| fs::metadata(dir.join(f)).map_or(0, |m| m.len())).sum()
    };
    let before = (site.vault_files(), size(&site));
    // A plan changes nothing and names every point with a reason.
    let plan = site.hf.run(&["--json", "expire", DB]).ok().json();
    let expected: Vec<&str> = vec!["expire", "expire", "expire", "expire", "keep", "keep"];
    let found = verdicts(&plan);
    assert_eq!(points.iter().map(|p| found[p].as_str()).collect::<Vec<_>>(), expected, "{plan}");
    assert!(plan["plans"][0]["frees"]["bytes"].as_u64().expect("bytes") > 0, "{plan}");
    assert_eq!(site.vault_files(), before.0);
    let table = site.hf.run(&["expire"]).ok();
    assert!(
        table.stdout.contains("last 1 of 2") && table.stdout.contains("no rule wants it"),
        "{}",
        table.stdout
    );
    // A sweep before anything is expired removes nothing.
    let _ = sweep(&site.hf, &["sweep"]).ok();
    assert_eq!(ids(&site).len(), 6);
    // Held: stays although it is expired.
    let held = site.hf.run(&["--json", "hold", &points[1], "--title", "audit 2026"]).ok().json();
    let hold_id = text(&held["hold"]["id"]).to_owned();
    let done = site.hf.run(&["--json", "expire", "--apply"]).ok().json();
    assert_eq!(done["expired"], 3, "{done}");
    let listed = site.hf.run(&["--json", "list"]).ok().json();
    let status = |id: &str| {
        let all = listed["points"].as_array().expect("points");
        text(&all.iter().find(|p| p["id"] == id).expect("the point")["status"]).to_owned()
    };
    assert_eq!(
        [status(&points[0]), status(&points[1]), status(&points[5])],
        ["expired", "succeeded", "succeeded"]
    );
    // Expired is not gone: it restores until a sweep.
    let _ = site.restore("early", &["--point", &points[0], "--immediate"]);
    let plan = sweep(&site.hf, &["--json", "sweep", "--plan"]).ok().json();
    assert_eq!(plan["sweeps"][0]["points"].as_object().expect("points").len(), 3, "{plan}");
    assert_eq!(ids(&site).len(), 6);
    let done = sweep(&site.hf, &["--json", "sweep"]).ok().json();
    assert!(done["sweeps"][0]["removed"]["objects"].as_u64().expect("objects") > 3, "{done}");
    assert_eq!(ids(&site), [points[1].as_str(), &points[4], &points[5]]);
    assert!(size(&site) < before.1, "{} and before {}", size(&site), before.1);
    // What is left is whole, and each point comes back.
    let check = site.hf.run(&["check"]).ok();
    assert!(!check.stdout.contains("FAIL") && !check.stdout.contains("missing"), "{}", check.stdout);
    let now = fingerprint(&site.pg, "postgres");
    let copy = site.restore_and_start("copy", &[]);
    assert_eq!(fingerprint(&copy, "postgres"), now);
    let old = site.restore_and_start("held", &["--point", &points[1], "--immediate"]);
    assert_eq!(old.sql("postgres", "select count(*) from pg_tables where tablename ~ '^t[0-9]'"), "2");
    // The next incremental builds on what is there.
    let next = site.backup(&["--incremental"]);
    assert_eq!(next["parent"], points[5].as_str());
    // Released, it goes; and a second sweep finds nothing to do.
    let _ = site.hf.run(&["release", &hold_id, "--reason", "the audit is over"]).ok();
    let _ = site.hf.run(&["expire", "--apply"]).ok();
    let _ = sweep(&site.hf, &["sweep"]).ok();
    assert!(!ids(&site).contains(&points[1]));
    let again = sweep(&site.hf, &["--json", "sweep"]).ok().json();
    assert_eq!(again["sweeps"][0]["removed"]["objects"], 0, "{again}");
    // WAL that nothing needs goes once it is old; what points need stays, however old.
    let wal: Vec<String> = site.vault_files().into_iter().filter(|f| f.ends_with(".wal")).collect();
    for f in &wal {
        let file = fs::File::open(site.scratch.path("vault").join(f)).expect("open");
        file.set_modified(SystemTime::now() - Duration::from_secs(10 * 86_400)).expect("set the time");
    }
    let done = sweep(&site.hf, &["--json", "sweep"]).ok().json();
    let left: Vec<String> = site.vault_files().into_iter().filter(|f| f.ends_with(".wal")).collect();
    assert!(left.len() < wal.len() && !left.is_empty(), "{done}");
    let check = site.hf.run(&["check"]).ok();
    assert!(!check.stdout.contains("FAIL") && !check.stdout.contains("missing"), "{}", check.stdout);
    for (n, id) in ids(&site).iter().enumerate() {
        let _ = site.restore_and_start(&format!("last{n}"), &["--point", id, "--immediate"]);
    }
}

#[test]
fn guards_hold_against_persons_rules_and_hosts() {
    let site = Site::new("guards", PgVersion::V17);
    keep(&site, "last = 1, at-least = 2", "");
    let points: Vec<String> = (0..4).map(|_| text(&site.backup(&[])["id"]).to_owned()).collect();
    site.pg.wait_archived();
    let _ = site.hf.run(&["verify", &points[0], "--level", "L1"]).ok();
    let found = verdicts(&site.hf.run(&["--json", "expire"]).ok().json());
    let of: Vec<&str> = points.iter().map(|p| found[p].as_str()).collect();
    assert_eq!(of, ["keep", "expire", "keep", "keep"], "verified, nothing, at-least, last");
    // Not by hand either: the newest, the newest verified, what is held.
    let _ = site.hf.run(&["hold", &points[1], "--title", "x"]).ok();
    for p in [&points[3], &points[0], &points[1]] {
        let (code, message, hint) =
            error_of(&site.hf.run(&["--json", "expire", p, "--apply"]).expect_code(13));
        assert!(code == "refused" && message.contains(p.as_str()) && !hint.is_empty(), "{message}");
    }
    let _ = site.hf.run(&["expire", "20000101T000000Z-aaaaaa"]).expect_code(10);
    let _ = site.hf.run(&["expire", "nosuch"]).expect_code(10);
    let _ = site.hf.run(&["hold", &points[0], "--title", "x", "--until", "2020-01-01"]).expect_code(2);
    let _ = site.hf.run(&["release", "20000101T000000Z-aaaaaa"]).expect_code(10);
    // A host's key plans and holds, and cannot expire, release or sweep away.
    let to = path_text(&site.scratch.path("host.key"));
    let _ = site.hf.run(&["key", "export", "--role", "host", "--to", &to]).ok();
    let policy = fs::read_to_string(site.scratch.path("holdfast.toml")).expect("policy");
    let changed = policy.replace(&path_text(&site.scratch.path("hf.key")), &to);
    let host = Holdfast::new(&site.scratch, site.scratch.write("host.toml", changed));
    let held = host.run(&["--json", "hold", &points[0], "--title", "by a host"]).ok().json();
    let _ = host.run(&["release", text(&held["hold"]["id"])]).expect_code(12);
    let _ = site.hf.run(&["release", text(&held["hold"]["id"])]).ok();
    keep(&site, "last = 1", "");
    fs::copy(site.scratch.path("holdfast.toml"), site.scratch.path("host.toml")).expect("copy");
    let text_now = fs::read_to_string(site.scratch.path("host.toml")).expect("policy");
    site.scratch.write("host.toml", text_now.replace(&path_text(&site.scratch.path("hf.key")), &to));
    let _ = host.run(&["expire"]).ok();
    let _ = host.run(&["expire", "--apply"]).expect_code(12);
    let _ = site.hf.run(&["expire", "--apply"]).ok();
    let _ = host.run(&["sweep", "--plan"]).ok();
    let _ = sweep(&host, &["sweep"]).expect_code(12);
    assert_eq!(ids(&site).len(), 4);
    let _ = sweep(&site.hf, &["sweep"]).ok();
    assert_eq!(ids(&site), [points[0].as_str(), &points[1], &points[3]]);
    // What was let go by rules that have changed since stays.
    keep(&site, "last = 1", "");
    let p = text(&site.backup(&[])["id"]).to_owned();
    let _ = site.hf.run(&["expire", "--apply"]).ok();
    keep(&site, "last = 9", "");
    let swept = sweep(&site.hf, &["--json", "sweep"]).ok().json();
    let waiting = swept["sweeps"][0]["waiting"][&points[3]].as_str().unwrap_or_default();
    assert!(waiting.contains("the rules want it again"), "{swept}");
    assert!(ids(&site).contains(&points[3]) && ids(&site).contains(&p));
}

/// What somebody with a host's key writes into the vault: lies about every point, and points that are none.
fn lie(site: &Site, key: &str) -> Vec<String> {
    let rt = tokio::runtime::Runtime::new().expect("a runtime");
    rt.block_on(async {
        let keys = Keys::parse(&fs::read(key).expect("read the key")).expect("a key");
        let url = format!("file://{}", site.scratch.path("vault").display());
        let vault =
            Vault::open(Store::open(&url, &BTreeMap::new()).expect("a store"), keys).await.expect("a vault");
        let db = vault.databases().await.expect("databases").remove(0);
        let path = vault.clusters(&db).await.expect("clusters").remove(0);
        let c = vault.cluster(path.clone()).await.expect("a cluster");
        let (points, _) = c.points().await.expect("points");
        let now = jiff::Timestamp::now();
        for p in &points {
            let note = Body::Expired(Expired {
                point: p.id.clone(),
                reason: "by a stranger".into(),
                by_hand: true,
                at: now,
                host: "db1".into(),
            });
            let name = c.path().note(&p.id, &RunId::generate(now), "expired");
            vault.put_record(&name, &note, Signer::Host).await.expect("write");
        }
        let newest = points.last().expect("a point");
        let mut fakes = Vec::new();
        for n in 0..4 {
            let mut f = newest.clone();
            f.id = RunId::generate(now);
            f.generation += 1 + n;
            match n {
                0 => f.stop_time = now + jiff::SignedDuration::from_hours(24),
                1 => f.stop_time = now - jiff::SignedDuration::from_hours(24 * 30),
                2 => f.stop_lsn = holdfast_core::Lsn(f.stop_lsn.0 / 2),
                _ => f.size_bytes = 10,
            }
            fakes.push(f.id.to_string());
            c.commit_point(f).await.expect("commit");
        }
        // A cluster that never was, with twins of the real points that nobody would want, and a newer one.
        let path = ClusterPath { database: path.database, cluster: "999".parse().expect("a cluster") };
        let mut record = c.record().clone();
        record.cluster = path.cluster.clone();
        let invented = vault.ensure_cluster(path.clone(), || record).await.expect("a cluster");
        for p in points.iter().chain([newest]).enumerate() {
            let (n, mut twin) = (p.0, p.1.clone());
            twin.cluster = path.cluster.clone();
            if n < points.len() {
                twin.damaged.push(DamagedPage { path: "base/1/1".into(), block: 0, what: "x".into() });
            } else {
                twin.id = RunId::generate(now);
            }
            invented.commit_point(twin).await.expect("commit");
        }
        fakes
    })
}

#[test]
fn a_hostile_host_adds_and_nothing_is_lost() {
    let site = Site::new("hostile", PgVersion::V17);
    // One plausible point of an invented cluster takes the place of one: that is the limit of what can be told.
    keep(&site, "last = 3", "");
    let real: Vec<String> = (0..3).map(|_| text(&site.backup(&[])["id"]).to_owned()).collect();
    site.pg.wait_archived();
    let key = path_text(&site.scratch.path("host.key"));
    let _ = site.hf.run(&["key", "export", "--role", "host", "--to", &key]).ok();
    let listed = site.hf.run(&["--json", "list"]).ok().json();
    let cluster = text(&listed["points"][0]["cluster"]).to_owned();
    let fakes = lie(&site, &key);
    // As if the server's user had written it, as whom the program runs.
    let vault = site.scratch.path("vault");
    let reference = format!("--reference={}", vault.join("holdfast.vault").display());
    assert!(Command::new("chown").args(["-R", &reference]).arg(&vault).status().expect("chown").success());
    // Said plainly, and nothing real is pushed out.
    let plan = site.hf.run(&["--json", "expire", "--apply"]).expect_code(3).json();
    let found = verdicts(&plan);
    let of = |ids: &[String]| ids.iter().map(|p| found[p].clone()).collect::<Vec<_>>();
    assert_eq!(of(&real), ["expire", "keep", "keep"], "{plan}");
    assert_eq!(of(&fakes), ["keep", "keep", "keep", "keep"], "{plan}");
    let alarms = plan["plans"][0]["alarms"].to_string();
    for id in fakes.iter().chain(&real) {
        assert!(alarms.contains(id.as_str()), "{id}: {alarms}");
    }
    // What the false points need is not there, so nothing is removed until a person has let them go.
    let blocked = sweep(&site.hf, &["--json", "sweep"]).expect_code(1).json();
    let why = blocked["sweeps"].to_string();
    assert!(why.contains("nothing was removed") && why.contains("by hand"), "{why}");
    assert_eq!(ids(&site).len(), 7);
    for f in &fakes {
        let _ = site.hf.run(&["expire", f, "--apply"]);
    }
    // The invented cluster cannot be swept, as nobody can read it; the real one is.
    let _ = sweep(&site.hf, &["sweep"]).expect_code(1);
    assert_eq!(ids(&site), [real[1].as_str(), &real[2]]);
    let _ = site.restore_and_start("copy", &["--cluster", &cluster]);
}
