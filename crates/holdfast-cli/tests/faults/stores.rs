//! An object store that errs, dawdles, breaks off and loses its answers.

use crate::world::{DB, Site, fingerprint, remove, rng, server, soak};
use holdfast_testkit::{Fault, FaultProxy, Holdfast, PgVersion, Rule, Running, Scratch, Store};
use std::fs;
use std::time::{Duration, Instant};

struct Cloud {
    site: Site,
    proxy: FaultProxy,
    _store: Store,
}

/// A site whose vault is behind the proxy.
fn cloud(name: &str, seed: u64) -> Cloud {
    let scratch = Scratch::new(name);
    let store = Store::ministack(&scratch, &["faulty"]);
    let proxy = FaultProxy::with_seed(&store.endpoint(), seed);
    let pg = server(&scratch, "main", PgVersion::NEWEST).checksums(true).start();
    let hf = Holdfast::new(&scratch, scratch.path("holdfast.toml")).envs(store.env_for(&proxy.endpoint()));
    let site = Site::at(pg, &scratch, hf, "s3://faulty/vault", &[]);
    // Small packs: several uploads.
    site.policy(|text| text.replace("key-file =", "pack-size = \"6MiB\"\nkey-file ="));
    Cloud { site, proxy, _store: store }
}

/// A bit of everything, with faults that pass: nobody notices.
#[test]
fn faults_that_pass() {
    let seed = rng(41).next_u64();
    let c = cloud("faulty-store", seed);
    let site = &c.site;
    site.sql("create table t as select g, md5(g::text) m from generate_series(1, 30000) g");
    let faults: [(&str, Vec<Rule>); 7] = [
        ("500", vec![Rule::on("", "").every(4).fault(Fault::Status(500))]),
        ("503", vec![Rule::on("", "").per_mille(200).fault(Fault::Status(503))]),
        ("slow", vec![Rule::on("", "").every(6).fault(Fault::Delay(Duration::from_millis(400)))]),
        ("cut answers", vec![Rule::on("GET", "").every(4).fault(Fault::CutResponse(100))]),
        (
            "cut requests",
            vec![
                Rule::on("PUT", "").every(4).fault(Fault::CutRequest(1000)),
                Rule::on("POST", "").every(3).fault(Fault::Refuse),
            ],
        ),
        ("lost answers", vec![Rule::on("PUT", "").every(2).fault(Fault::LoseReply)]),
        ("409 for a moment", vec![Rule::on("PUT", "").every(3).fault(Fault::Status(409))]),
    ];
    for (n, (what, rules)) in faults.into_iter().enumerate() {
        site.sql(&format!("update t set m = 'round {n}' where g % 17 = {n}"));
        c.proxy.reset_counts();
        rules.into_iter().for_each(|r| c.proxy.add(r));
        let kind = if n % 3 == 0 { "--full" } else { "--incremental" };
        let made = site.hf.run(&["--json", "backup", DB, kind]);
        assert_eq!(made.code, 0, "{what}: backup\n{}", made.transcript());
        let segment = site.pg.switch_wal();
        let path = site.pg.data_dir().join("pg_wal").join(&segment);
        let pushed = site.hf.run(&["wal", "push", "--db", DB, &path.display().to_string()]);
        assert_eq!(pushed.code, 0, "{what}: wal push\n{}", pushed.transcript());
        let dest = site.scratch.make_dir("got").join(&segment);
        let got = site.hf.run(&["wal", "get", "--db", DB, &segment, &dest.display().to_string()]);
        assert_eq!(got.code, 0, "{what}: wal get\n{}", got.transcript());
        assert!(fs::read(&dest).expect("got") == fs::read(&path).expect("pushed"), "{what}: {segment}");
        let restored = site.try_restore("copy", &["--immediate"]);
        assert_eq!(restored.code, 0, "{what}: restore\n{}", restored.transcript());
        assert!(c.proxy.faults() > 0, "{what}: no fault happened in {:?}", c.proxy.counts());
        remove(&site.scratch.path("copy"));
        c.proxy.heal();
    }
    site.vault_is_whole();
    assert_eq!(site.points().len(), 7);
    let before = fingerprint(&site.pg);
    site.archive_with(&site.push_command());
    site.pg.wait_archived();
    site.wal_is_continuous();
    // The server has not our environment: its command brings it along.
    let command = format!("restore_command={} wal get --db {DB} %f \"%p\"", site.hf.shell());
    let copy = site.restore_and_start("copy", &["--set", &command]);
    assert_eq!(fingerprint(&copy), before);
}

/// Faults that stay end the run, cleanly, in time, with the right code; the next one works.
#[test]
fn faults_that_stay() {
    let c = cloud("dead-store", 0);
    let site = &c.site;
    site.sql("create table t as select g, md5(g::text) m from generate_series(1, 10000) g");
    let _ = site.backup(&["--full"]);
    let segment = site.pg.switch_wal();
    let path = site.pg.data_dir().join("pg_wal").join(&segment).display().to_string();
    let dest = site.scratch.make_dir("got").join("segment");
    let to = dest.display().to_string();
    let rules = [
        ("all 503", Rule::on("", "").fault(Fault::Status(503))),
        ("refused", Rule::on("", "").fault(Fault::Refuse)),
        ("403", Rule::on("", "").fault(Fault::Status(403))),
        ("no writes", Rule::on("PUT", "").fault(Fault::Status(500))),
    ];
    for (what, rule) in rules {
        if what == "refused" && !soak() {
            continue;
        }
        c.proxy.add(rule);
        let begun = Instant::now();
        let mut all: Vec<(&str, Running)> = vec![
            ("backup", site.hf.spawn(&["--json", "backup", DB])),
            ("wal push", site.hf.spawn(&["wal", "push", "--db", DB, &path])),
        ];
        if what != "no writes" {
            all.push((
                "wal get",
                site.hf.spawn(&["wal", "get", "--db", DB, "--retry-for", "1s", &segment, &to]),
            ));
        }
        for (command, run) in &mut all {
            let status = run.wait(Duration::from_secs(150));
            let code =
                status.and_then(|s| s.code()).unwrap_or_else(|| panic!("{what}: {command} goes on for ever"));
            let expected: &[i32] = if *command == "wal get" { &[200] } else { &[1, 12] };
            assert!(expected.contains(&code), "{what}: {command}: {code}\n{}", run.output());
            assert!(run.output().contains("hint"), "{what}: {command}\n{}", run.output());
        }
        assert!(!dest.exists(), "{what}");
        eprintln!("{what}: {:?}", begun.elapsed());
        c.proxy.heal();
    }
    // A read that breaks for good in the middle of a restore: no copy that could start.
    c.proxy.add(Rule::on("GET", "data-").fault(Fault::CutResponse(64)));
    let broken = site.try_restore("copy", &["--immediate"]);
    assert_ne!(broken.code, 0, "{}", broken.transcript());
    assert!(!site.scratch.path("copy/global/pg_control").exists());
    c.proxy.heal();
    // Bits that flip on the way are noticed.
    c.proxy.add(Rule::on("GET", "data-").fault(Fault::FlipBit(5000)));
    let flipped = site.try_restore("copy", &["--immediate"]);
    assert_ne!(flipped.code, 0, "{}", flipped.transcript());
    c.proxy.heal();
    let _ = site.try_restore("copy", &["--immediate"]).ok();
    assert_eq!(site.points().len(), 1, "no half point");
    let next = site.backup(&[]);
    assert_eq!(next["kind"], "incremental", "{next}");
    site.vault_is_whole();
}

/// The answers to the requests that matter most are lost, one by one: the lease, the commit, the end
/// of a multipart upload, a WAL object. What the store did is found, not done twice, and not refused.
#[test]
fn lost_answers_where_it_matters() {
    let c = cloud("lost-answers", 0);
    let site = &c.site;
    site.sql("create table t as select g, md5(g::text) m from generate_series(1, 10000) g");
    for (n, part) in [".lease", ".point", ".pack", ".wal", "cluster"].into_iter().enumerate() {
        c.proxy.add(Rule::on("PUT", part).nth(1).fault(Fault::LoseReply));
        c.proxy.add(Rule::on("POST", part).nth(1).fault(Fault::LoseReply));
        let made = site.hf.run(&["--json", "backup", DB, "--full"]);
        assert_eq!(made.code, 0, "{part}: {}", made.transcript());
        assert_eq!(site.points().len(), n + 1, "{part}");
        c.proxy.heal();
    }
    // A store that says 412 though the name is free: never taken for success.
    c.proxy.add(Rule::on("PUT", ".point").fault(Fault::Status(412)));
    let refused = site.hf.run(&["--json", "backup", DB]);
    assert_ne!(refused.code, 0, "{}", refused.transcript());
    assert_eq!(site.points().len(), 5);
    c.proxy.heal();
    let _ = site.backup(&[]);
    site.vault_is_whole();
}
