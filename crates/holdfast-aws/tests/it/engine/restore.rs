//! Restores, whole.

use super::Site;
use holdfast_core::ExitCode;
use holdfast_core::managed::{Deletion, FinalSnapshot, NewVault, Operation, Scaling, Tags, tags};
use holdfast_engine::managed::journal::Ended;
use holdfast_engine::managed::restore::{self, At, Overrides, Request, What};
use jiff::SignedDuration;
use serde_json::json;
use std::time::Duration;

fn to(id: &str, what: What) -> Request {
    Request { to: id.into(), what, ..Request::default() }
}

fn moment(at: At) -> What {
    What::Moment { at, backup: None }
}

async fn restored(s: &Site, r: &Request) -> restore::Report {
    let plan = restore::plan(&s.m, r).await.unwrap();
    restore::run(&s.m, &plan).await.unwrap()
}

#[tokio::test]
async fn an_instance_comes_back_with_all_that_it_had() {
    let s = Site::new("engine-restore-rds", "rds://us-east-1/shop").await;
    let shop = s.m.cloud.describe(&s.m.source).await.unwrap();
    let snapshot = s.snapshot().await;
    for (id, what) in [
        ("from-newest", What::Newest),
        ("from-name", What::Snapshot(snapshot.clone())),
        ("from-latest", moment(At::Latest)),
    ] {
        let plan = restore::plan(&s.m, &to(id, what)).await.unwrap();
        let text = plan.to_string();
        assert!(text.contains(&format!("rds://us-east-1/{id}")) && text.contains("network"), "{text}");
        let report = restore::run(&s.m, &plan).await.unwrap();
        assert!(!report.resumed && report.endpoint.is_some(), "{report:?}");
        let made = s.m.cloud.describe(&s.m.source.named(id).unwrap()).await.unwrap();
        assert_eq!(
            (made.class, made.subnet_group, made.security_groups, made.parameter_group, made.option_group),
            (
                shop.class.clone(),
                shop.subnet_group.clone(),
                shop.security_groups.clone(),
                shop.parameter_group.clone(),
                shop.option_group.clone()
            )
        );
        assert_eq!(made.tags.get(tags::DATABASE), Some("shop"));
        assert_eq!(made.tags.operation(), Some(report.operation.as_str()));
        assert!(report.seconds > 0.0 && report.phases.iter().any(|p| p.name == "database"));
    }
    s.nothing_is_under_way();
}

#[tokio::test]
async fn a_second_is_reached_or_refused_with_the_nearest() {
    let s = Site::new("engine-restore-second", "rds://us-east-1/shop").await;
    // The begin of a window moves on with the time: here it stands still between plan and restore.
    let _ = s.world.aws.control("clock", Some(json!({ "frozen": true })));
    let window = s.m.cloud.describe(&s.m.source).await.unwrap().window.unwrap();
    let incident = window.latest - SignedDuration::from_hours(30);
    let report = restored(&s, &to("to-incident", moment(At::Time(incident)))).await;
    assert_eq!((report.moment, report.loss_seconds), (Some(restore::moment::whole(incident)), Some(0)));
    // The stand-in says what it restored to.
    let seen = s.world.aws.control("state", None).to_string();
    assert!(seen.contains("to-incident"), "{seen}");

    let before = window.earliest.unwrap() - SignedDuration::from_hours(24);
    let mut r = to("too-early", moment(At::Time(before)));
    let e = restore::plan(&s.m, &r).await.unwrap_err();
    assert_eq!(e.exit_code(), ExitCode::Refused);
    assert!(e.hint().unwrap().contains("--nearest"), "{e}");
    r.nearest = true;
    let plan = restore::plan(&s.m, &r).await.unwrap();
    assert!(plan.notes.iter().any(|n| n.contains("cannot be reached")), "{:?}", plan.notes);
    restore::run(&s.m, &plan).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_restored_is_refused_and_makes_nothing() {
    let s = Site::new("engine-restore-refused", "rds://us-east-1/shop").await;
    let snapshot = s.snapshot().await;
    let plan = async |r: Request| restore::plan(&s.m, &r).await.unwrap_err();
    let e = plan(to("shop", What::Newest)).await;
    assert_eq!(
        (e.exit_code(), e.to_string().contains("the source itself")),
        (ExitCode::Refused, true),
        "{e}"
    );
    restored(&s, &to("taken", What::Newest)).await;
    let e = plan(to("taken", What::Newest)).await;
    assert!(e.to_string().contains("already"), "{e}");
    assert_eq!(plan(to("x", What::Snapshot("no-such".into()))).await.exit_code(), ExitCode::NotFound);
    let mut small = to("x", What::Snapshot(snapshot.clone()));
    small.set.allocated_gib = Some(10);
    assert!(plan(small).await.to_string().contains("does not shrink"));
    // In another region: what is missing, all at once; and the snapshot is not there.
    let mut west = to("x", What::Snapshot(snapshot.clone()));
    west.region = Some("us-west-2".parse().unwrap());
    assert_eq!(plan(west.clone()).await.exit_code(), ExitCode::NotFound);
    let arn = format!("arn:aws:rds:us-east-1:123456789012:snapshot:{snapshot}");
    west.what = What::Snapshot(arn);
    assert!(plan(west.clone()).await.to_string().contains("where the snapshot is"));
    west.what = moment(At::Latest);
    assert!(plan(west).await.to_string().contains("replicated to us-west-2"));
    let mut nowhere = to("x", What::Newest);
    nowhere.set.subnet_group = Some("no-such-group".into());
    assert!(plan(nowhere).await.to_string().contains("no subnet group"));
    assert_eq!(s.made(), ["taken"]);
}

#[tokio::test]
async fn clusters_get_their_instances_again() {
    for (source, id, members) in
        [("aurora://us-east-1/orders", "orders-back", 2), ("docdb://us-east-1/docs", "docs-back", 1)]
    {
        let s = Site::new("engine-restore-cluster", source).await;
        let mut r = to(id, moment(At::Latest));
        if members == 2 {
            // Serverless v2: a provisioned cluster with limits.
            r.set.scaling = Some(Scaling { min: 0.5, max: 2.0, pause_after: None });
            r.set.class = Some(restore::SERVERLESS.into());
        }
        let report = restored(&s, &r).await;
        assert_eq!(report.instances.len(), members);
        let made = s.m.cloud.describe(&s.m.source.named(id).unwrap()).await.unwrap();
        let source = s.m.cloud.describe(&s.m.source).await.unwrap();
        assert_eq!(made.members.len(), members);
        assert_eq!(made.parameter_group, source.parameter_group);
        assert_eq!(made.security_groups, source.security_groups);
        if members == 2 {
            assert_eq!(made.scaling.map(|s| s.max), Some(2.0));
            assert!(made.engine_mode.is_none_or(|m| m == "provisioned"));
        }
        s.nothing_is_under_way();
    }
}

#[tokio::test]
async fn a_source_that_is_gone_comes_back_as_it_was_last_seen() {
    let s = Site::new("engine-restore-gone", "rds://us-east-1/shop").await;
    let shop = s.m.cloud.describe(&s.m.source).await.unwrap();
    s.snapshot().await;
    let how = Deletion { final_snapshot: FinalSnapshot::Skip, delete_automated_backups: false };
    s.m.cloud.delete(&s.m.source, &how).await.unwrap();
    while s.m.cloud.describe(&s.m.source).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let plan = restore::plan(&s.m, &to("again", moment(At::Latest))).await.unwrap();
    assert!(plan.from.contains("retained") && plan.like.contains("was seen"), "{plan}");
    restore::run(&s.m, &plan).await.unwrap();
    let made = s.m.cloud.describe(&s.m.source.named("again").unwrap()).await.unwrap();
    assert_eq!((made.class, made.subnet_group), (shop.class, shop.subnet_group));
    // And with nothing known of it, everything must be given.
    std::fs::remove_dir_all(s.m.state.dir().join("observed")).unwrap();
    let e = restore::plan(&s.m, &to("third", What::Newest)).await.unwrap_err();
    let hint = e.hint().unwrap();
    assert!(hint.contains("--class") && hint.contains("--subnet-group"), "{hint}");
    // When what was retained goes too, only snapshots are left.
    for b in s.m.cloud.automated_backups(s.m.source.engine, &s.m.source.region).await.unwrap() {
        if b.at.id == "shop" {
            s.m.cloud.delete_automated_backup(&b).await.unwrap();
        }
    }
    let mut r = to("fourth", moment(At::Latest));
    r.set = given();
    let e = restore::plan(&s.m, &r).await.unwrap_err();
    assert!(e.to_string().contains("no automated backup of it was retained"), "{e}");
}

/// What a host that never saw the source has to give.
fn given() -> Overrides {
    Overrides {
        class: Some("db.t4g.medium".into()),
        subnet_group: Some("default".into()),
        security_groups: vec!["sg-unknown".into()],
        parameter_group: Some("default.postgres17".into()),
        ..Overrides::default()
    }
}

#[tokio::test]
async fn a_recovery_point_is_restored_by_a_job() {
    let s = Site::new("engine-restore-point", "rds://us-east-1/shop").await;
    let vault =
        NewVault { name: "main".into(), region: s.m.source.region.clone(), key: None, tags: Tags::default() };
    s.m.cloud.create_vault(&vault, &Operation::new("setup").unwrap()).await.unwrap();
    s.world.aws.control("seed", Some(json!({"points": {"source": "shop", "vault": "main", "count": 2}})));
    let region = &s.m.source.region;
    let points = s.m.cloud.recovery_points(region, "main", &Default::default()).await.unwrap();
    let newest = points.iter().max_by_key(|p| p.created).unwrap();
    let mut r =
        to("from-point", What::RecoveryPoint { vault: "main".into(), arn: newest.arn.clone(), at: None });
    // Without one given it is the default role, of the vault's account.
    match restore::plan(&s.m, &r).await.unwrap().origin {
        restore::origin::Origin::RecoveryPoint { role_arn, .. } => {
            assert!(role_arn.ends_with(":role/service-role/AWSBackupDefaultServiceRole"), "{role_arn}");
        }
        other => panic!("{other:?}"),
    }
    r.role_arn = Some(s.world.role());
    let report = restored(&s, &r).await;
    assert_eq!(report.moment, Some(newest.created));
    let made = s.m.cloud.describe(&s.m.source.named("from-point").unwrap()).await.unwrap();
    assert_eq!(made.tags.operation(), Some(report.operation.as_str()));
    assert_eq!(made.tags.get(tags::DATABASE), Some("shop"));
}

/// A process that is killed again and again, at another place each time, ends with one cluster and its instances.
#[tokio::test]
async fn killed_at_any_step_it_goes_on() {
    let s = Site::new("engine-restore-killed", "aurora://us-east-1/orders").await;
    let r = to("orders-back", moment(At::Latest));
    let mut limit = Duration::from_millis(5);
    let (mut kills, mut resumed) = (0, false);
    let report = loop {
        assert!(kills < 400, "it never ends");
        let once = async {
            let plan = restore::plan(&s.m, &r).await?;
            resumed |= plan.resumes.is_some();
            restore::run(&s.m, &plan).await
        };
        match tokio::time::timeout(limit, once).await {
            Ok(done) => break done.unwrap(),
            Err(_) => kills += 1,
        }
        limit += (limit / 10).max(Duration::from_millis(7));
    };
    assert!(resumed && kills > 3, "{kills} kills");
    assert_eq!(s.made(), ["orders-back", "orders-back-1", "orders-back-2"]);
    assert_eq!(s.m.journal.ended("restore", "shop").unwrap().len(), 1);
    assert_eq!(report.instances, ["orders-back-1", "orders-back-2"]);
    s.nothing_is_under_way();
}

#[tokio::test]
async fn a_lost_answer_and_throttling_change_nothing() {
    let s = Site::new("engine-restore-faults", "aurora://us-east-1/orders").await;
    s.world.fault(json!({"kind": "cut-after", "action": "rds:RestoreDBClusterToPointInTime"}));
    s.world.fault(json!({"kind": "cut-after", "action": "rds:CreateDBInstance"}));
    s.world.fault(json!({"kind": "throttle", "action": "rds:Describe*", "times": 5}));
    restored(&s, &to("orders-back", moment(At::Latest))).await;
    assert_eq!(s.made(), ["orders-back", "orders-back-1", "orders-back-2"]);
}

#[tokio::test]
async fn what_a_failed_restore_made_is_named_or_removed() {
    for remove in [false, true] {
        let s = Site::new("engine-restore-fails", "aurora://us-east-1/orders").await;
        let mut r = to("orders-back", moment(At::Latest));
        r.remove_on_failure = remove;
        let plan = restore::plan(&s.m, &r).await.unwrap();
        s.world.fault(json!({"kind": "deny", "action": "rds:CreateDBInstance"}));
        let e = restore::run(&s.m, &plan).await.unwrap_err();
        assert!(e.to_string().contains("cluster `orders-back`"), "{e}");
        assert!(e.to_string().contains("CreateDBInstance"), "{e}");
        match remove {
            true => assert!(matches!(s.ended("restore"), Ended::RolledBack(_))),
            false => assert!(matches!(s.ended("restore"), Ended::Failed(_))),
        }
        assert_eq!(s.made().is_empty(), remove, "{:?}", s.made());
        s.nothing_is_under_way();
    }
}
