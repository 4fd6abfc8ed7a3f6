//! The same against plain moto, as far as it goes: we do not only agree with ourselves.

use crate::common::{client, home, op, region, source, until};
use holdfast_core::managed::{
    BackupVaults, Databases, Deletion, Engine, FinalSnapshot, LockMode, LockRequest, Modification, Moment,
    NewInstance, NewSnapshot, NewVault, RestoreFrom, RestoreTarget, Restores, SnapshotCopy, SnapshotFilter,
    SnapshotKind, SnapshotRef, Snapshots, Tags,
};
use holdfast_testkit::{Aws, Scratch};
use std::process::Command;

fn make(aws: &Aws) {
    let script = "import boto3\n\
        r = boto3.client('rds')\n\
        r.create_db_instance(DBInstanceIdentifier='shop', DBInstanceClass='db.t3.medium', Engine='postgres', \
        AllocatedStorage=20, MasterUsername='u', MasterUserPassword='correct-horse', BackupRetentionPeriod=7)\n\
        for n, e in (('orders', 'aurora-postgresql'), ('docs', 'docdb')):\n\
        \x20   r.create_db_cluster(DBClusterIdentifier=n, Engine=e, MasterUsername='u', MasterUserPassword='correct-horse')\n";
    let mut command = Command::new(holdfast_testkit::tools::python());
    command.args(["-c", script]);
    for (k, v) in aws.env() {
        command.env(k, v);
    }
    let done = holdfast_testkit::proc::run(&mut command, &[], std::time::Duration::from_secs(300));
    assert_eq!(done.code, 0, "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn snapshots_copies_and_restores_work_against_moto() {
    let scratch = Scratch::new("moto");
    let aws = Aws::moto(&scratch);
    make(&aws);
    let (cloud, _) = client(&aws, "test").await;
    assert_eq!(cloud.list(&home()).await.unwrap().len(), 3);
    for url in ["rds://us-east-1/shop", "aurora://us-east-1/orders", "docdb://us-east-1/docs"] {
        let db = source(url);
        let facts = until(url, || cloud.describe(&db), |d| d.status.is_available()).await;
        let change = Modification { retention_days: Some(14), ..Modification::default() };
        cloud.modify(&db, &change).await.unwrap();
        assert_eq!(cloud.describe(&db).await.unwrap().backup.retention_days, 14);

        let at = SnapshotRef { engine: db.engine, region: home(), id: "s1".into() };
        let at = SnapshotRef { id: format!("{}-{}", db.id, at.id), ..at };
        let new = NewSnapshot { id: at.id.clone(), tags: Tags::default().with("k", "v") };
        let first = cloud.create_snapshot(&db, &new, &op("r")).await.unwrap();
        assert_eq!(cloud.create_snapshot(&db, &new, &op("r")).await.unwrap().arn, first.arn);
        assert!(cloud.create_snapshot(&db, &new, &op("other")).await.is_err());
        let ready = until("snapshot", || cloud.snapshot(&at), |s| s.status.is_available()).await;
        assert_eq!((ready.kind, ready.tags.get("k")), (SnapshotKind::Manual, Some("v")));
        let filter = SnapshotFilter { kind: Some(SnapshotKind::Manual), source_id: Some(db.id.clone()) };
        assert_eq!(cloud.snapshots(db.engine, &home(), &filter).await.unwrap().len(), 1);

        let copy = SnapshotCopy {
            from_arn: ready.arn.clone(),
            from_region: home(),
            to: SnapshotRef { region: region("eu-west-1"), ..at.clone() },
            key: None,
            copy_tags: true,
            tags: Tags::default(),
            option_group: None,
        };
        cloud.copy_snapshot(&copy, &op("c")).await.unwrap();
        until("copy", || cloud.snapshot(&copy.to), |s| s.status.is_available()).await;

        let mut froms = vec![RestoreFrom::Snapshot(at.clone())];
        // moto's restores to a time drop the engine of DocumentDB.
        if db.engine != Engine::DocumentDb {
            froms.push(RestoreFrom::Live { id: db.id.clone(), to: Moment::Latest });
        }
        for (n, from) in froms.iter().enumerate() {
            let target = RestoreTarget::like(&facts, db.named(&format!("{}-back{n}", db.id)).unwrap());
            let made = cloud.restore(from, &target, &op("r")).await.unwrap();
            assert_eq!(cloud.restore(from, &target, &op("r")).await.unwrap().arn, made.arn);
            until("restore", || cloud.describe(&target.source), |d| d.status.is_available()).await;
            if db.engine.is_cluster() {
                let instance = NewInstance {
                    id: format!("{}-1", target.source.id),
                    class: "db.r6g.large".into(),
                    parameter_group: None,
                    availability_zone: None,
                    public: None,
                    promotion_tier: None,
                    tags: Tags::default(),
                };
                cloud.create_instance(&target.source, &instance, &op("i")).await.unwrap();
                assert_eq!(cloud.instances(&target.source).await.unwrap().len(), 1);
                cloud.delete_instance(&home(), &instance.id).await.unwrap();
            }
            let how = Deletion {
                final_snapshot: FinalSnapshot::Named(format!("{}-last", target.source.id)),
                delete_automated_backups: true,
            };
            cloud.delete(&target.source, &how).await.unwrap();
            cloud.delete(&target.source, &how).await.unwrap();
        }
        cloud.delete_snapshot(&at).await.unwrap();
        cloud.delete_snapshot(&at).await.unwrap();
    }
}

#[tokio::test]
async fn vaults_and_locks_work_against_moto() {
    let scratch = Scratch::new("moto-vault");
    let aws = Aws::moto(&scratch);
    let (cloud, _) = client(&aws, "test").await;
    let new = NewVault { region: home(), name: "main".into(), key: None, tags: Tags::default() };
    cloud.create_vault(&new, &op("v")).await.unwrap();
    let lock = LockRequest { min_days: Some(7), max_days: Some(90), changeable_for_days: Some(3) };
    cloud.lock_vault(&home(), "main", &lock).await.unwrap();
    let vault = cloud.vault(&home(), "main").await.unwrap();
    assert_eq!(vault.lock.unwrap().mode(jiff::Timestamp::now()), LockMode::CompliancePending);
    let listed = cloud.vaults(&home()).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0].arn, listed[0].lock.map(|l| l.min_days)),
        (&vault.arn, vault.lock.map(|l| l.min_days))
    );
}
