//! Verifications: the "restored instance" is a PostgreSQL that really answers.

use super::Site;
use holdfast_core::ExitCode;
use holdfast_core::managed::{SnapshotRef, tags};
use holdfast_core::policy::managed::Expect;
use holdfast_core::time::Duration as Span;
use holdfast_engine::managed::journal::Ended;
use holdfast_engine::managed::reap;
use holdfast_engine::managed::verify::checks::{Assertion, Fresh};
use holdfast_engine::managed::verify::{self, Level, Login, Password, Request, What};
use holdfast_testkit::{Cluster, PgVersion, Scratch};
use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

const CONTENT: &str = "create table users(id int primary key, name text); \
    insert into users select g, 'u' || g from generate_series(1, 500) g; \
    create table orders(id int primary key, user_id int not null references users, created_at timestamptz); \
    insert into orders select g, 1 + g % 500, now() - interval '1 hour' from generate_series(1, 2000) g; \
    create index on orders(user_id)";

/// A server with the content of a shop, TLS and a password; and the root certificate.
fn server(scratch: &Scratch) -> (Cluster, PathBuf) {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["localhost".to_string()]).unwrap().signed_by(&key, &ca).unwrap();
    let root = scratch.write("root.crt", ca.pem());
    let crt = scratch.write("server.crt", cert.pem());
    let key = scratch.write("server.key", key.serialize_pem());
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let pg = Cluster::builder(scratch, "restored", PgVersion::V17)
        .tcp(true)
        .setting("ssl", "on")
        .setting("ssl_cert_file", &crt.display().to_string())
        .setting("ssl_key_file", &key.display().to_string())
        .start();
    pg.sql("postgres", "alter user postgres password 'correct-horse'");
    let hba = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\nhostssl all all ::1/128 scram-sha-256\n";
    std::fs::write(pg.data_dir().join("pg_hba.conf"), hba).unwrap();
    pg.sql("postgres", "select pg_reload_conf()");
    pg.sql("postgres", CONTENT);
    (pg, root)
}

/// The site, with a server behind every restore of `shop`.
async fn site(name: &str) -> (Site, Cluster, Request) {
    let s = Site::new(name, "rds://us-east-1/shop").await;
    let scratch = Scratch::new(&format!("{name}-pg"));
    let (pg, root) = server(&scratch);
    let point = json!({"source": "shop", "host": "localhost", "port": pg.port()});
    s.world.aws.control("restore-endpoint", Some(point));
    let password = scratch.write("password", "correct-horse\n");
    let login = Login { password: Password::File(password), ca_bundle: Some(root), ..Login::default() };
    (s, pg, Request { login, ..Request::default() })
}

async fn verified(s: &Site, r: &Request) -> verify::Report {
    let plan = verify::plan(&s.m, r).await.unwrap();
    verify::run(&s.m, &plan).await.unwrap()
}

/// No copy, no group, nothing under way.
async fn nothing_is_left(s: &Site) {
    assert_eq!(s.made(), Vec::<String>::new());
    let groups = s.m.cloud.own_groups(&s.m.source.region).await.unwrap();
    assert!(groups.is_empty(), "{groups:?}");
    s.nothing_is_under_way();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_restored_looked_into_and_removed() {
    let (s, _pg, mut r) = site("engine-verify").await;
    let snapshot = s.snapshot().await;
    r.checks.assertions = vec![
        Assertion {
            name: "users".into(),
            database: None,
            sql: "select count(*) from users;".into(),
            expect: Expect::parse(">= 500"),
            within: None,
        },
        Assertion { name: "no orphan".into(), sql: "select true".into(), ..Assertion::default() },
    ];
    r.checks.fresh = vec![Fresh {
        database: None,
        table: "orders".into(),
        column: "created_at".into(),
        within: Span(86_400),
    }];
    let plan = verify::plan(&s.m, &r).await.unwrap();
    let text = plan.to_string();
    assert!(text.contains("db.t4g.micro") && text.contains("isolated") && text.contains("removed"), "{text}");
    let report = verify::run(&s.m, &plan).await.unwrap();
    assert!(report.passed && report.outcome.level == Some(Level::L4), "{report:#?}");
    let found = &report.outcome.evidence.databases[0];
    let all = report.outcome.evidence.coverage;
    assert_eq!((found.rows(), all.foreign_keys.looked_at, all.foreign_keys.of), (2500, 1, 1), "{found:?}");
    assert!(all.indexes.of > 3 && all.indexes.is_whole(), "{all:?}");
    assert!(all.tables.of == 2 && all.bytes.of > 100_000 && all.lacks().is_none(), "{all:?}");
    assert_eq!(report.outcome.evidence.asked.len(), 3);
    assert!(report.outcome.restore_seconds.is_some() && report.outcome.connect_seconds.is_some());
    // The evidence is in the record, and on the snapshot.
    assert!(report.noted);
    let at = SnapshotRef { engine: s.m.source.engine, region: s.m.source.region.clone(), id: snapshot };
    assert!(s.m.cloud.snapshot(&at).await.unwrap().tags.get(tags::VERIFIED).is_some());
    assert_eq!(s.ended("verify"), Ended::Succeeded);
    let record = s.m.journal.ended("verify", "shop").unwrap();
    assert_eq!(record[0].state["report"]["passed"], true);
    assert!(!serde_json::to_string(&record).unwrap().contains("correct-horse"));
    // It was alone: in its own group, without the source's, never public.
    assert_eq!(s.world.aws.count("ec2:CreateSecurityGroup"), 1);
    nothing_is_left(&s).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_content_are_found() {
    let (s, pg, mut r) = site("engine-verify-faults").await;
    s.snapshot().await;
    // An order without its user, as a torn restore would have it; a fact that does not hold; and an old table.
    pg.sql(
        "postgres",
        "set session_replication_role = replica; delete from users where id = 7; \
         update orders set created_at = now() - interval '9 days'",
    );
    r.checks.assertions = vec![
        Assertion {
            name: "many".into(),
            sql: "select count(*) from users".into(),
            expect: Expect::parse(">= 9999"),
            ..Assertion::default()
        },
        Assertion { name: "wrong".into(), sql: "select nothing from nowhere".into(), ..Assertion::default() },
    ];
    r.checks.fresh = vec![Fresh {
        database: None,
        table: "orders".into(),
        column: "created_at".into(),
        within: Span(86_400),
    }];
    r.checks.databases = vec!["postgres".into()];
    let report = verified(&s, &r).await;
    assert!(!report.passed && report.outcome.level == Some(Level::L3), "{report:#?}");
    let faults = report.outcome.evidence.faults.join("\n");
    for part in
        ["orders has rows without the row of public.users", "wanted >= 9999", "nowhere", "more than 1d"]
    {
        assert!(faults.contains(part), "{part}: {faults}");
    }
    assert!(matches!(s.ended("verify"), Ended::Failed(_)));
    nothing_is_left(&s).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_copy_and_a_missing_database_do_not_pass() {
    let (s, pg, mut r) = site("engine-verify-empty").await;
    s.snapshot().await;
    pg.sql("postgres", "drop table orders, users");
    let report = verified(&s, &r).await;
    assert!(!report.passed, "{report:#?}");
    assert!(report.outcome.evidence.faults[0].contains("no table"), "{report:#?}");
    r.checks.databases = vec!["nosuch".into()];
    let report = verified(&s, &r).await;
    assert!(report.outcome.evidence.faults[0].contains("no database `nosuch`"), "{report:#?}");
    assert_eq!(report.outcome.level, Some(Level::L2));
    nothing_is_left(&s).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_cannot_be_trusted_is_none() {
    let (s, _pg, r) = site("engine-verify-login").await;
    s.snapshot().await;
    let scratch = Scratch::new("engine-verify-login-wrong");
    let mut wrong = r.clone();
    wrong.login.password = Password::File(scratch.write("wrong", "incorrect"));
    let plan = verify::plan(&s.m, &wrong).await.unwrap();
    let e = verify::run(&s.m, &plan).await.unwrap_err();
    assert_eq!(e.exit_code(), ExitCode::Auth, "{e}");
    nothing_is_left(&s).await;
    // Nothing is made when the certificates or the password are missing.
    let before = s.world.aws.count("ec2:CreateSecurityGroup");
    let mut blind = r.clone();
    blind.login.ca_bundle = None;
    assert!(verify::plan(&s.m, &blind).await.unwrap_err().hint().unwrap().contains("--ca-file"));
    let mut silent = r.clone();
    silent.login.password = Password::Managed;
    assert!(verify::plan(&s.m, &silent).await.unwrap_err().to_string().contains("no secret"));
    assert_eq!(s.world.aws.count("ec2:CreateSecurityGroup"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_second_of_the_window_and_a_fresh_password() {
    let (s, pg, mut r) = site("engine-verify-random").await;
    r.what = What::Random;
    // The stand-in cannot set a password in a real server: that server asks for none here.
    r.login.password = Password::Reset;
    let hba = |method: &str| {
        let text = format!("local all all trust\nhostssl all all all {method}\n");
        std::fs::write(pg.data_dir().join("pg_hba.conf"), text).unwrap();
        pg.sql("postgres", "select pg_reload_conf()");
    };
    // A password that was just set may be refused at first.
    hba("reject");
    let later = async {
        while s.world.aws.count("rds:ModifyDBInstance") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        hba("trust");
    };
    let (report, ()) = tokio::join!(verified(&s, &r), later);
    assert!(report.passed, "{report:#?}");
    assert!(report.moment.unwrap() < Timestamp::now() && !report.noted);
    assert_eq!(s.world.aws.count("rds:ModifyDBInstance"), 1);
    nothing_is_left(&s).await;
}

/// What is in a cluster is looked at in the program's own tests; here: without a driver nothing is begun.
#[tokio::test(flavor = "multi_thread")]
async fn documentdb_without_a_driver_goes_as_far_as_the_provider() {
    let mut s = Site::new("engine-verify-docdb", "docdb://us-east-1/docs").await;
    s.m.documents = None;
    s.snapshot().await;
    let e = verify::plan(&s.m, &Request::default()).await.unwrap_err();
    assert!(e.hint().unwrap().contains("--level L2"), "{e}");
    let report = verified(&s, &Request { level: Some(Level::L2), ..Request::default() }).await;
    assert!(report.passed && report.outcome.level == Some(Level::L2), "{report:#?}");
    nothing_is_left(&s).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fails_at_the_provider_does_not_pass() {
    let (s, _pg, r) = site("engine-verify-broken").await;
    s.snapshot().await;
    s.world.fault(json!({"kind": "fail", "operation": "restore", "resource": "*verify-shop*"}));
    let report = verified(&s, &r).await;
    assert!(!report.passed && report.outcome.level.is_none(), "{report:#?}");
    assert!(report.outcome.stopped.is_some());
    nothing_is_left(&s).await;
}

/// A process that is killed again and again ends with a verdict and nothing left.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_nothing_is_left() {
    let (s, _pg, r) = site("engine-verify-killed").await;
    s.snapshot().await;
    let mut limit = Duration::from_millis(5);
    let mut kills = 0;
    let report = loop {
        assert!(kills < 300, "it never ends");
        let once = async {
            let plan = verify::plan(&s.m, &r).await?;
            verify::run(&s.m, &plan).await
        };
        match tokio::time::timeout(limit, once).await {
            Ok(done) => break done.unwrap(),
            Err(_) => kills += 1,
        }
        limit += (limit / 10).max(Duration::from_millis(15));
    };
    assert!(report.passed && report.resumed && kills > 3, "{kills} kills: {report:#?}");
    assert_eq!(s.m.journal.ended("verify", "shop").unwrap().len(), 1);
    nothing_is_left(&s).await;
}

/// Ctrl-C while it restores: the copy goes all the same.
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_removes_the_copy() {
    let (s, _pg, r) = site("engine-verify-ctrl-c").await;
    s.snapshot().await;
    let plan = verify::plan(&s.m, &r).await.unwrap();
    let restores = "rds:RestoreDBInstanceFromDBSnapshot";
    let stop = async {
        while s.world.aws.count(restores) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        s.monitor.cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (result, ()) = tokio::join!(verify::run(&s.m, &plan), stop);
    assert_eq!(result.unwrap_err().exit_code(), ExitCode::Cancelled);
    assert!(matches!(s.ended("verify"), Ended::RolledBack(_)));
    nothing_is_left(&s).await;
}

/// What a crash left, and nobody goes on with, is for the reaper: not before its end, and then all of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_reaper_finds_what_a_crash_left() {
    let (s, _pg, r) = site("engine-verify-crashed").await;
    s.snapshot().await;
    let plan = verify::plan(&s.m, &r).await.unwrap();
    let copy = plan.restore.target.source.clone();
    // It must not be over before we see it.
    s.world.aws.control("config", Some(json!({ "polls": 1000 })));
    let killed = async {
        while s.m.cloud.describe(&copy).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = verify::run(&s.m, &plan) => panic!("it ended"),
        () = killed => {}
    }
    s.world.aws.control("config", Some(json!({ "polls": 2 })));
    s.world.aws.control("settle", Some(json!({})));
    let regions = [s.m.source.region.clone()];
    let now = Timestamp::now();
    let before = reap::plan(&s.reaper(), &regions, now).await.unwrap();
    assert!(before.remove.is_empty() && before.stays.len() == 2, "{before}");
    let later = now + SignedDuration::from_hours(13);
    let after = reap::plan(&s.reaper(), &regions, later).await.unwrap();
    assert_eq!(after.remove.len(), 3, "the copy, its group, and the operation itself: {after}");
    // A verification that runs is left alone, and keeps nobody from making a backup.
    let running = s.m.state.lock_verify(&s.m.name).unwrap();
    let busy = reap::plan(&s.reaper(), &regions, later).await.unwrap();
    assert!(busy.remove.is_empty() && busy.stays.len() == 2, "{busy}");
    drop(s.m.state.lock_run(&s.m.name).unwrap());
    drop(running);
    let report = reap::run(&s.reaper(), &after).await.unwrap();
    assert!(report.failed.is_empty(), "{report:?}");
    assert_eq!(s.made(), Vec::<String>::new());
    nothing_is_left(&s).await;
    assert!(matches!(s.ended("verify"), Ended::Failed(_)));
    let shown = verify::evidence::newest(&s.m.journal, "shop").unwrap();
    assert!(shown.len() == 1 && !shown[0].passed && shown[0].resumed, "{shown:?}");
}
