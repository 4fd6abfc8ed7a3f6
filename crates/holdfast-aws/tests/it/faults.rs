//! What goes wrong on the way: lost replies, throttling, denials, late answers, regions that are down.

use crate::common::{World, client, home, op, source, until};
use holdfast_core::managed::{
    Databases, Engine, ErrorKind, NewSnapshot, Outcome, SnapshotFilter, SnapshotRef, Snapshots, Tags,
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
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
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
