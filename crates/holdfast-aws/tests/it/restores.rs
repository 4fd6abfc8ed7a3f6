//! New databases from what was kept.

use crate::common::{World, home, op, region, source, until};
use holdfast_core::managed::{
    AutomatedBackups, AutomatedKind, Databases, Deletion, Engine, ErrorKind, FinalSnapshot, Moment,
    NewInstance, NewSnapshot, Replication, RestoreFrom, RestoreTarget, Restores, Scaling, SnapshotRef,
    Snapshots, Tags, tags,
};

#[tokio::test]
async fn an_instance_comes_back_from_a_snapshot_and_a_second() {
    let w = World::new("restore-rds").await;
    let shop = w.cloud.describe(&source("rds://us-east-1/shop")).await.unwrap();
    let new = NewSnapshot { id: "s1".into(), tags: Tags::default() };
    w.cloud.create_snapshot(&shop.source, &new, &op("run-1")).await.unwrap();
    let at = SnapshotRef { engine: Engine::Rds, region: home(), id: "s1".into() };
    until("snapshot", || w.cloud.snapshot(&at), |s| s.status.is_available()).await;

    let window = shop.window.unwrap();
    let second = Moment::At(window.latest - jiff::SignedDuration::from_mins(10));
    let froms = [
        ("from-snapshot", RestoreFrom::Snapshot(at)),
        ("to-second", RestoreFrom::Live { id: "shop".into(), to: second }),
        ("to-latest", RestoreFrom::Resource { resource_id: shop.resource_id.clone(), to: Moment::Latest }),
    ];
    for (id, from) in froms {
        let mut target = RestoreTarget::like(&shop, shop.source.named(id).unwrap());
        target.class = Some("db.t4g.micro".into());
        target.tags.set(tags::EXPIRES, "2026-12-01T00:00:00Z");
        let made = w.cloud.restore(&from, &target, &op("restore-1")).await.unwrap();
        assert!(!made.status.is_available(), "{id}");
        assert_eq!(w.cloud.restore(&from, &target, &op("restore-1")).await.unwrap().arn, made.arn);
        let taken = w.cloud.restore(&from, &target, &op("restore-2")).await.unwrap_err();
        assert_eq!(taken.kind, ErrorKind::AlreadyExists);
        let ready = until(id, || w.cloud.describe(&target.source), |d| d.status.is_available()).await;
        assert_eq!(ready.class.as_deref(), Some("db.t4g.micro"));
        assert_eq!(ready.subnet_group, shop.subnet_group);
        assert_eq!(ready.parameter_group, shop.parameter_group);
        assert_eq!(ready.tags.get(tags::EXPIRES), Some("2026-12-01T00:00:00Z"));
        assert_ne!(ready.resource_id, shop.resource_id);
        assert!(ready.endpoint.is_some());
    }
    let outside =
        RestoreFrom::Live { id: "shop".into(), to: Moment::At("1999-01-01T00:00:00Z".parse().unwrap()) };
    let target = RestoreTarget::like(&shop, shop.source.named("never").unwrap());
    let refused = w.cloud.restore(&outside, &target, &op("restore-3")).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidRequest, "{refused}");
}

#[tokio::test]
async fn a_cluster_comes_back_and_gets_its_instances() {
    let w = World::new("restore-cluster").await;
    for url in ["aurora://us-east-1/orders", "docdb://us-east-1/docs"] {
        let db = w.cloud.describe(&source(url)).await.unwrap();
        let window = db.window.unwrap();
        let from = RestoreFrom::Live {
            id: db.source.id.clone(),
            to: Moment::At(window.latest - jiff::SignedDuration::from_mins(10)),
        };
        let mut target =
            RestoreTarget::like(&db, db.source.named(&format!("{}-back", db.source.id)).unwrap());
        let aurora = db.source.engine == Engine::Aurora;
        target.scaling = aurora.then_some(Scaling { min: 0.5, max: 2.0, pause_after: None });
        w.cloud.restore(&from, &target, &op("r")).await.unwrap();
        let ready = until("cluster", || w.cloud.describe(&target.source), |d| d.status.is_available()).await;
        assert!(ready.members.is_empty(), "a restored cluster has no instances");
        assert_eq!(ready.scaling.map(|s| s.max), aurora.then_some(2.0));
        let rest = target.remainder(&from);
        assert_eq!(rest.is_empty(), aurora);
        if !rest.is_empty() {
            w.cloud.modify(&target.source, &rest).await.unwrap();
            until("settings", || w.cloud.describe(&target.source), |d| d.status.is_available()).await;
        }

        let instance = NewInstance {
            id: format!("{}-1", target.source.id),
            class: if aurora { "db.serverless".into() } else { "db.t4g.medium".into() },
            parameter_group: None,
            availability_zone: None,
            public: None,
            promotion_tier: Some(0),
            tags: Tags::default(),
        };
        let first = w.cloud.create_instance(&target.source, &instance, &op("r/1")).await.unwrap();
        let again = w.cloud.create_instance(&target.source, &instance, &op("r/1")).await.unwrap();
        assert_eq!(first.arn, again.arn);
        until(
            "instance",
            || w.cloud.instance(&target.source.region, &instance.id),
            |i| i.status.is_available(),
        )
        .await;
        let whole = until("cluster", || w.cloud.describe(&target.source), |d| d.status.is_available()).await;
        assert_eq!(whole.members.len(), 1);

        // Away again: instances first.
        let how = Deletion { final_snapshot: FinalSnapshot::Skip, delete_automated_backups: true };
        w.cloud.delete_instance(&home(), &instance.id).await.unwrap();
        until("no instance", || w.cloud.instances(&target.source), Vec::is_empty).await;
        w.cloud.delete(&target.source, &how).await.unwrap();
        w.cloud.delete(&target.source, &how).await.unwrap();
    }
}

#[tokio::test]
async fn a_source_that_is_gone_comes_back() {
    let w = World::new("restore-gone").await;
    let shop = w.cloud.describe(&source("rds://us-east-1/shop")).await.unwrap();
    let west = region("us-west-2");
    let replication = Replication {
        source_arn: shop.arn.clone(),
        to: west.clone(),
        retention_days: 7,
        key: None,
        tags: Tags::default(),
    };
    w.cloud.start_replication(&replication).await.unwrap();
    // The first replica takes its time.
    w.aws.control("advance", Some(serde_json::json!({"seconds": 7200})));
    let ask = || w.cloud.automated_backups(Engine::Rds, &west);
    let far = until("replica", ask, |all| all.iter().any(|b| b.window.is_some())).await;

    let how = Deletion { final_snapshot: FinalSnapshot::Skip, delete_automated_backups: false };
    w.cloud.delete(&shop.source, &how).await.unwrap();
    let ask = || w.cloud.automated_backups(Engine::Rds, &shop.source.region);
    let kept = until("retained", ask, |all| all.iter().any(|b| b.kind == AutomatedKind::Retained)).await;

    let begun = std::time::Instant::now();
    while !w.cloud.describe(&shop.source).await.is_err_and(|e| e.is_not_found()) {
        assert!(begun.elapsed().as_secs() < 30, "the source does not go");
    }
    // By name it cannot be found any more (X15).
    let by_name = RestoreFrom::Live { id: "shop".into(), to: Moment::Latest };
    let here = RestoreTarget::like(&shop, shop.source.named("back").unwrap());
    assert_eq!(w.cloud.restore(&by_name, &here, &op("r0")).await.unwrap_err().kind, ErrorKind::NotFound);

    let by_arn = RestoreFrom::Automated { arn: kept[0].arn.clone().unwrap(), to: Moment::Latest };
    w.cloud.restore(&by_arn, &here, &op("r1")).await.unwrap();
    until("restore", || w.cloud.describe(&here.source), |d| d.status.is_available()).await;

    let mut there = RestoreTarget::like(&shop, shop.source.in_region(&west).named("back").unwrap());
    // Groups of one region mean nothing in another.
    there.subnet_group = None;
    there.security_groups.clear();
    there.parameter_group = None;
    there.option_group = None;
    let from_replica = RestoreFrom::Automated { arn: far[0].arn.clone().unwrap(), to: Moment::Latest };
    w.cloud.restore(&from_replica, &there, &op("r2")).await.unwrap();
    until("restore in the west", || w.cloud.describe(&there.source), |d| d.status.is_available()).await;
}

#[tokio::test]
async fn a_deleted_aurora_cluster_comes_back_by_its_resource_id() {
    let w = World::new("restore-aurora-gone").await;
    let orders = w.cloud.describe(&source("aurora://us-east-1/orders")).await.unwrap();
    for m in &orders.members {
        w.cloud.delete_instance(&home(), &m.id).await.unwrap();
    }
    until("no instances", || w.cloud.instances(&orders.source), Vec::is_empty).await;
    let how = Deletion { final_snapshot: FinalSnapshot::Skip, delete_automated_backups: false };
    w.cloud.delete(&orders.source, &how).await.unwrap();
    let ask = || w.cloud.automated_backups(Engine::Aurora, &orders.source.region);
    let kept = until("retained", ask, |all| all.iter().any(|b| b.kind == AutomatedKind::Retained)).await;
    let from = RestoreFrom::Resource { resource_id: kept[0].resource_id.clone(), to: Moment::Latest };
    let target = RestoreTarget::like(&orders, orders.source.named("orders-back").unwrap());
    w.cloud.restore(&from, &target, &op("r")).await.unwrap();
    until("restore", || w.cloud.describe(&target.source), |d| d.status.is_available()).await;
}
