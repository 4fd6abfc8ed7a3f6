//! Databases, snapshots, copies, automated backups.

use crate::common::{World, home, op, region, source, until};
use holdfast_core::managed::{
    AutomatedBackups, AutomatedKind, Databases, Deletion, Engine, ErrorKind, FinalSnapshot, Modification,
    NewSnapshot, Outcome, Replication, SnapshotCopy, SnapshotFilter, SnapshotKind, SnapshotRef, Snapshots,
    Tags, tags,
};
use serde_json::json;

fn new(id: &str) -> NewSnapshot {
    NewSnapshot { id: id.into(), tags: Tags::default().with(tags::TIER, "daily") }
}

fn at(engine: Engine, region_name: &str, id: &str) -> SnapshotRef {
    SnapshotRef { engine, region: region(region_name), id: id.into() }
}

#[tokio::test]
async fn databases_tell_everything() {
    let w = World::new("describe").await;
    let shop = w.cloud.describe(&source("rds://us-east-1/shop")).await.unwrap();
    assert!(shop.status.is_available());
    assert!(shop.resource_id.starts_with("db-"), "{}", shop.resource_id);
    assert_eq!(shop.backup.retention_days, 7);
    let window = shop.window.unwrap();
    let days = window.latest.duration_since(window.earliest.unwrap()).as_hours() / 24;
    assert!((6..=7).contains(&days), "{window:?}");
    let lag = window.lag(jiff::Timestamp::now()).as_secs();
    assert!((200..=900).contains(&lag), "{lag}");

    let orders = w.cloud.describe(&source("aurora://us-east-1/orders")).await.unwrap();
    assert_eq!(orders.engine_name, "aurora-postgresql");
    assert_eq!(orders.members.len(), 2);
    assert_eq!(orders.members.iter().filter(|m| m.writer).count(), 1);
    assert!(orders.window.unwrap().earliest.is_some());
    assert_eq!(w.cloud.instances(&orders.source).await.unwrap().len(), 2);

    let all = w.cloud.list(&home()).await.unwrap();
    let mut urls: Vec<String> = all.iter().map(|d| d.source.to_string()).collect();
    urls.sort();
    // Instances of clusters are no databases.
    assert_eq!(urls, ["aurora://us-east-1/orders", "docdb://us-east-1/docs", "rds://us-east-1/shop"]);
    // The window moves with the clock.
    let listed =
        all.iter().find(|d| d.source.engine == Engine::Rds).unwrap().window.unwrap().earliest.unwrap();
    assert!(listed.duration_since(window.earliest.unwrap()).as_secs() < 120, "{listed}");

    let gone = w.cloud.describe(&source("rds://us-east-1/nothing")).await.unwrap_err();
    assert_eq!(gone.kind, ErrorKind::NotFound);
    // An Aurora cluster is not a DocumentDB cluster.
    let other = w.cloud.describe(&source("docdb://us-east-1/orders")).await.unwrap_err();
    assert_eq!(other.kind, ErrorKind::InvalidRequest, "{other}");
}

#[tokio::test]
async fn a_snapshot_started_twice_is_one() {
    let w = World::new("snapshot").await;
    for (url, id) in [
        ("rds://us-east-1/shop", "s-rds"),
        ("aurora://us-east-1/orders", "s-a"),
        ("docdb://us-east-1/docs", "s-d"),
    ] {
        let db = source(url);
        let first = w.cloud.create_snapshot(&db, &new(id), &op("run-1")).await.unwrap();
        assert_eq!(first.status.as_str(), "creating", "{url}");
        assert_eq!(first.kind, SnapshotKind::Manual);
        let again = w.cloud.create_snapshot(&db, &new(id), &op("run-1")).await.unwrap();
        assert_eq!(again.arn, first.arn);
        let other = w.cloud.create_snapshot(&db, &new(id), &op("run-2")).await.unwrap_err();
        assert_eq!(other.kind, ErrorKind::AlreadyExists, "{other}");
        let name = at(db.engine, "us-east-1", id);
        let ready = until("snapshot", || w.cloud.snapshot(&name), |s| s.status.is_available()).await;
        assert_eq!(ready.percent, 100);
        assert_eq!(ready.source_id, db.id);
        assert_eq!(ready.tags.get(tags::TIER), Some("daily"));
        assert_eq!(ready.tags.operation(), Some("run-1"));
        assert!(ready.taken.is_some());
        let action =
            if db.engine.is_cluster() { "rds:CreateDBClusterSnapshot" } else { "rds:CreateDBSnapshot" };
        let outcomes = w.log.outcomes(action);
        let last = outcomes.get(outcomes.len() - 3..).unwrap();
        assert_eq!(last[..2], [Outcome::Done, Outcome::Adopted]);
        assert!(matches!(last[2], Outcome::Failed { .. }));

        w.cloud.delete_snapshot(&name).await.unwrap();
        w.cloud.delete_snapshot(&name).await.unwrap();
        assert!(w.cloud.snapshot(&name).await.unwrap_err().is_not_found());
    }
    // Every change has the request id that AWS support asks for.
    let done = w.log.changes().into_iter().filter(|c| c.outcome == Outcome::Done);
    assert!(done.clone().count() > 5 && done.into_iter().all(|c| c.request_id.is_some()));
}

#[tokio::test]
async fn listings_go_to_the_last_page() {
    let w = World::new("pages").await;
    w.aws.control("config", Some(json!({"page_size": 20})));
    w.aws.control(
        "seed",
        Some(json!({"snapshots": [
            {"source": "shop", "count": 130, "prefix": "m"},
            {"source": "shop", "count": 7, "type": "awsbackup"},
            {"source": "orders", "count": 45, "prefix": "c"},
        ]})),
    );
    let filter = |kind, id: Option<&str>| SnapshotFilter { kind, source_id: id.map(Into::into) };
    let list = |e, f: SnapshotFilter| {
        let cloud = &w.cloud;
        async move { cloud.snapshots(e, &home(), &f).await.unwrap() }
    };
    let manual = list(Engine::Rds, filter(Some(SnapshotKind::Manual), None)).await;
    assert_eq!(manual.len(), 130);
    assert!(w.aws.count("rds:DescribeDBSnapshots") >= 7);
    let all = list(Engine::Rds, filter(None, Some("shop"))).await;
    let of = |k| all.iter().filter(|s| s.kind == k).count();
    assert_eq!((of(SnapshotKind::Manual), of(SnapshotKind::AwsBackup)), (130, 7));
    assert!(of(SnapshotKind::Automated) >= 7, "{}", of(SnapshotKind::Automated));
    assert_eq!(list(Engine::Aurora, filter(Some(SnapshotKind::Manual), None)).await.len(), 45);
    assert_eq!(list(Engine::DocumentDb, filter(Some(SnapshotKind::Manual), None)).await.len(), 0);
}

#[tokio::test]
async fn copies_arrive_in_the_other_region() {
    let w = World::new("copies").await;
    for (url, id) in [
        ("rds://us-east-1/shop", "c-rds"),
        ("aurora://us-east-1/orders", "c-a"),
        ("docdb://us-east-1/docs", "c-d"),
    ] {
        let db = source(url);
        let name = at(db.engine, "us-east-1", id);
        w.cloud.create_snapshot(&db, &new(id), &op("run-1")).await.unwrap();
        let ready = until("snapshot", || w.cloud.snapshot(&name), |s| s.status.is_available()).await;
        let copy = SnapshotCopy {
            from_arn: ready.arn.clone(),
            from_region: home(),
            to: at(db.engine, "eu-west-1", id),
            key: None,
            copy_tags: false,
            tags: Tags::default().with(tags::TAKEN, &ready.taken.unwrap().to_string()),
            option_group: None,
        };
        let first = w.cloud.copy_snapshot(&copy, &op("run-1/copy")).await.unwrap();
        let again = w.cloud.copy_snapshot(&copy, &op("run-1/copy")).await.unwrap();
        assert_eq!(first.arn, again.arn);
        let there = until("copy", || w.cloud.snapshot(&copy.to), |s| s.status.is_available()).await;
        assert_eq!(there.copied_from.as_deref(), Some(ready.arn.as_str()));
        assert_eq!(there.copied_from_region, Some(home()));
        // RPO is computed from the original's moment, not from when it arrived.
        assert_eq!(there.taken.unwrap().as_second(), ready.taken.unwrap().as_second(), "{url}");
    }
}

#[tokio::test]
async fn settings_are_changed_and_shown() {
    let w = World::new("modify").await;
    for url in ["rds://us-east-1/shop", "aurora://us-east-1/orders", "docdb://us-east-1/docs"] {
        let db = source(url);
        let change = Modification {
            retention_days: Some(14),
            backup_window: Some("05:00-05:30".parse().unwrap()),
            deletion_protection: Some(true),
            ..Modification::default()
        };
        w.cloud.modify(&db, &change).await.unwrap();
        let now = until(
            "change",
            || w.cloud.describe(&db),
            |d| d.status.is_available() && d.backup.retention_days == 14,
        )
        .await;
        assert_eq!(now.backup.window.unwrap().to_string(), "05:00-05:30", "{url}");
        assert!(now.deletion_protection, "{url}");

        let how = Deletion { final_snapshot: FinalSnapshot::Skip, delete_automated_backups: false };
        let kept = w.cloud.delete(&db, &how).await.unwrap_err();
        assert!(matches!(kept.kind, ErrorKind::InvalidRequest | ErrorKind::WrongState { .. }), "{kept}");
        w.cloud.add_tags(&home(), &now.arn, &Tags::default().with("team", "shop")).await.unwrap();
        assert_eq!(w.cloud.tags(&home(), &now.arn).await.unwrap().get("team"), Some("shop"));
        assert_eq!(w.cloud.describe(&db).await.unwrap().tags.get("team"), Some("shop"));
        w.cloud.remove_tags(&home(), &now.arn, &["team"]).await.unwrap();
        assert_eq!(w.cloud.tags(&home(), &now.arn).await.unwrap().get("team"), None);
    }
    let bad = Modification { retention_days: Some(99), ..Modification::default() };
    let refused = w.cloud.modify(&source("rds://us-east-1/shop"), &bad).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidRequest);
    assert!(!refused.retryable());
}

#[tokio::test]
async fn backups_outlive_their_source() {
    let w = World::new("retained").await;
    let shop = w.cloud.describe(&source("rds://us-east-1/shop")).await.unwrap();
    let replication = Replication {
        source_arn: shop.arn.clone(),
        to: region("us-west-2"),
        retention_days: 7,
        key: None,
        tags: Tags::default(),
    };
    w.cloud.start_replication(&replication).await.unwrap();
    w.cloud.start_replication(&replication).await.unwrap();
    let far = w.cloud.automated_backups(Engine::Rds, &region("us-west-2")).await.unwrap();
    assert_eq!(far.len(), 1);
    assert_eq!((far[0].kind, &far[0].source_region), (AutomatedKind::Replicated, &home()));

    let how = Deletion {
        final_snapshot: FinalSnapshot::Named("shop-final".into()),
        delete_automated_backups: false,
    };
    w.cloud.delete(&shop.source, &how).await.unwrap();
    // Twice is once.
    w.cloud.delete(&shop.source, &how).await.unwrap();
    let last = at(Engine::Rds, "us-east-1", "shop-final");
    until("final snapshot", || w.cloud.snapshot(&last), |s| s.status.is_available()).await;
    let ask = || w.cloud.automated_backups(Engine::Rds, &shop.source.region);
    let kept =
        until("retained backup", ask, |all| all.iter().any(|b| b.kind == AutomatedKind::Retained)).await;
    assert_eq!(kept[0].resource_id, shop.resource_id);
    assert!(kept[0].window.is_some() && kept[0].arn.is_some());

    w.cloud.stop_replication(&shop.arn, &region("us-west-2")).await.unwrap();
    w.cloud.delete_automated_backup(&kept[0]).await.unwrap();
    w.cloud.delete_automated_backup(&kept[0]).await.unwrap();
    assert!(w.cloud.automated_backups(Engine::Rds, &home()).await.unwrap().is_empty());
}

#[tokio::test]
async fn snapshots_are_shared_with_one_account_and_others_stay() {
    let w = World::new("share").await;
    for (url, id) in [("rds://us-east-1/shop", "x-rds"), ("aurora://us-east-1/orders", "x-a")] {
        let db = source(url);
        let name = at(db.engine, "us-east-1", id);
        w.cloud.create_snapshot(&db, &new(id), &op("run-1")).await.unwrap();
        until("snapshot", || w.cloud.snapshot(&name), |s| s.status.is_available()).await;
        for (account, shared) in
            [("111111111111", true), ("222222222222", true), ("111111111111", false), ("333333333333", false)]
        {
            w.cloud.share_snapshot(&name, account, shared).await.unwrap();
        }
        assert_eq!(w.cloud.shared_with(&name).await.unwrap(), ["222222222222"], "{url}");
    }
}
