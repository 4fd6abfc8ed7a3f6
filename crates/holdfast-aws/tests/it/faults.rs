//! What goes wrong on the way: lost replies, throttling, denials, late answers, regions that are down.

use crate::common::{World, client, client_with, home, op, source, until};
use holdfast_core::managed::{
    BackupJobs, BackupVaults, Databases, Engine, ErrorKind, JobFilter, Lifecycle, Moment, NewBackupJob,
    NewSnapshot, NewVault, Outcome, RestoreFrom, RestoreTarget, Restores, SnapshotFilter, SnapshotRef,
    Snapshots, Tags,
};
use serde_json::json;

fn new(id: &str) -> NewSnapshot {
    NewSnapshot { id: id.into(), tags: Tags::default() }
}

#[tokio::test]
async fn a_lost_reply_does_not_make_a_second_snapshot() {
    let w = World::new("lost").await;
    let shop = source("rds://us-east-1/shop");
    for kind in ["cut-after", "error-after"] {
        w.fault(json!({"kind": kind, "action": "rds:CreateDBSnapshot"}));
        until("instance", || w.cloud.describe(&shop), |d| d.status.is_available()).await;
        // The SDK's own second try meets the name that its first made.
        let made = w.cloud.create_snapshot(&shop, &new(kind), &op(kind)).await.unwrap();
        assert_eq!(made.tags.operation(), Some(kind));
        assert_eq!(w.log.outcomes("rds:CreateDBSnapshot").last(), Some(&Outcome::Adopted), "{kind}");
    }
    until("instance", || w.cloud.describe(&shop), |d| d.status.is_available()).await;
    w.fault(json!({"kind": "cut-before", "action": "rds:CreateDBSnapshot"}));
    w.cloud.create_snapshot(&shop, &new("cut-before"), &op("x")).await.unwrap();
    assert_eq!(w.log.outcomes("rds:CreateDBSnapshot").last(), Some(&Outcome::Done));
    let filter = SnapshotFilter { kind: Some(holdfast_core::managed::SnapshotKind::Manual), source_id: None };
    assert_eq!(w.cloud.snapshots(Engine::Rds, &home(), &filter).await.unwrap().len(), 3);
}

/// The reply is lost and our process dies: the next one makes the same calls again.
#[tokio::test]
async fn whoever_resumes_finds_its_own() {
    let w = World::new("resume").await;
    let shop = w.cloud.describe(&source("rds://us-east-1/shop")).await.unwrap();
    let vault = NewVault { region: home(), name: "main".into(), key: None, tags: Tags::default() };
    let job = NewBackupJob {
        region: home(),
        vault: "main".into(),
        resource_arn: shop.arn.clone(),
        role_arn: w.role(),
        lifecycle: Lifecycle { cold_after_days: None, delete_after_days: Some(30) },
        start_window: None,
        complete_window: None,
        tags: Tags::default(),
    };
    let from = RestoreFrom::Live { id: "shop".into(), to: Moment::Latest };
    let target = RestoreTarget::like(&shop, shop.source.named("back").unwrap());
    for action in ["backup:CreateBackupVault", "backup:StartBackupJob", "rds:RestoreDBInstanceToPointInTime"]
    {
        w.fault(json!({"kind": "cut-after", "action": action}));
    }
    let mut last = Vec::new();
    for _ in 0..2 {
        // One try each: the SDK's own second one would hide the fault.
        let (cloud, log) = client_with(&w.aws, "test", Some(1)).await;
        let first = cloud.create_vault(&vault, &op("r/vault")).await;
        let begun = cloud.start_backup(&job, &op("r/job")).await;
        let made = cloud.restore(&from, &target, &op("r/restore")).await;
        last.push((first, begun, made, log));
    }
    let (first, begun, made, _) = &last[0];
    assert_eq!(first.as_ref().unwrap_err().kind, ErrorKind::Network);
    assert_eq!(begun.as_ref().unwrap_err().kind, ErrorKind::Network);
    assert_eq!(made.as_ref().unwrap_err().kind, ErrorKind::Network);
    let (first, begun, made, log) = &last[1];
    assert!(first.is_ok() && begun.is_ok() && made.is_ok(), "{:?}", last[1]);
    assert_eq!(log.outcomes("rds:RestoreDBInstanceToPointInTime"), [Outcome::Adopted]);
    let jobs = w.cloud.backup_jobs(&home(), &JobFilter::default()).await.unwrap();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
}

#[tokio::test]
async fn throttling_is_waited_out() {
    let w = World::new("throttle").await;
    let shop = source("rds://us-east-1/shop");
    w.fault(json!({"kind": "throttle", "action": "rds:DescribeDBInstances", "times": 2}));
    w.cloud.describe(&shop).await.unwrap();
    // By hand, too.
    w.fault(json!({"kind": "throttle", "action": "kms:DescribeKey", "times": 1}));
    let missing = holdfast_core::managed::Keys::key(&w.cloud, &home(), "alias/none").await.unwrap_err();
    assert!(missing.is_not_found(), "{missing}");
    // For ever is too long.
    w.fault(json!({"kind": "throttle", "action": "rds:DescribeDBClusters", "times": null}));
    let e = w.cloud.describe(&source("aurora://us-east-1/orders")).await.unwrap_err();
    assert_eq!(e.kind, ErrorKind::Throttled, "{e}");
    assert!(e.retryable());
}

#[tokio::test]
async fn a_denial_names_action_resource_and_policy() {
    let w = World::new("denied").await;
    w.aws.control(
        "keys",
        Some(json!({"access_key": "reader", "policies": [
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "rds:Describe*", "Resource": "*"}]}
        ]})),
    );
    let (cloud, log) = client(&w.aws, "reader").await;
    cloud.describe(&source("rds://us-east-1/shop")).await.unwrap();
    let e = cloud.create_snapshot(&source("rds://us-east-1/shop"), &new("s"), &op("r")).await.unwrap_err();
    let ErrorKind::Denied { action, resource, principal } = &e.kind else { panic!("{e:?}") };
    assert_eq!(action, "rds:CreateDBSnapshot");
    assert!(resource.as_ref().unwrap().starts_with("arn:aws:rds:us-east-1:123456789012:"), "{resource:?}");
    assert!(principal.as_ref().unwrap().starts_with("arn:aws:"), "{principal:?}");
    let text = format!("{e} {}", e.hint().unwrap());
    assert!(text.contains("holdfast iam --role backup") && text.contains("rds:CreateDBSnapshot"), "{text}");
    assert!(text.contains(resource.as_ref().unwrap()), "{text}");
    assert!(matches!(log.outcomes("rds:CreateDBSnapshot")[..], [Outcome::Failed { .. }]));
}

#[tokio::test]
async fn what_was_just_made_may_be_invisible() {
    let w = World::new("invisible").await;
    w.fault(json!({"kind": "invisible", "operation": "snapshot", "describes": 2}));
    let shop = source("rds://us-east-1/shop");
    w.cloud.create_snapshot(&shop, &new("s"), &op("r")).await.unwrap();
    let at = SnapshotRef { engine: Engine::Rds, region: home(), id: "s".into() };
    w.cloud.snapshot(&at).await.unwrap();
    // What nobody made is missing at once.
    let begun = std::time::Instant::now();
    let never = SnapshotRef { id: "never".into(), ..at };
    assert!(w.cloud.snapshot(&never).await.unwrap_err().is_not_found());
    assert!(begun.elapsed() < std::time::Duration::from_secs(20));
}

#[tokio::test]
async fn quotas_and_states_are_told_apart() {
    let w = World::new("quota").await;
    let shop = source("rds://us-east-1/shop");
    w.aws.control("config", Some(json!({"quotas": {"manual-snapshots": 1}})));
    w.cloud.create_snapshot(&shop, &new("one"), &op("1")).await.unwrap();
    let at = SnapshotRef { engine: Engine::Rds, region: home(), id: "one".into() };
    until("snapshot", || w.cloud.snapshot(&at), |s| s.status.is_available()).await;
    until("instance", || w.cloud.describe(&shop), |d| d.status.is_available()).await;
    let full = w.cloud.create_snapshot(&shop, &new("two"), &op("2")).await.unwrap_err();
    assert!(matches!(full.kind, ErrorKind::QuotaExceeded { .. }), "{full}");
    w.aws.control("config", Some(json!({"quotas": {"manual-snapshots": 100}})));
    w.aws.control("state", Some(json!({"id": "shop", "status": "modifying"})));
    let busy = w.cloud.create_snapshot(&shop, &new("two"), &op("2")).await.unwrap_err();
    assert!(busy.is_wrong_state() && busy.retryable(), "{busy}");
}

#[tokio::test]
async fn credentials_that_aws_does_not_know() {
    let w = World::new("unknown").await;
    let (cloud, _) = client(&w.aws, "nobody").await;
    let e = cloud.describe(&source("rds://us-east-1/shop")).await.unwrap_err();
    assert_eq!(e.kind, ErrorKind::NoCredentials, "{e}");
    assert!(e.hint().unwrap().contains("AWS_PROFILE"));
}

#[tokio::test]
async fn a_server_that_is_away_is_the_network() {
    let mut w = World::new("away").await;
    w.aws.kill9();
    let e = w.cloud.describe(&source("rds://us-east-1/shop")).await.unwrap_err();
    assert_eq!(e.kind, ErrorKind::Network, "{e}");
    assert!(e.retryable());
}
