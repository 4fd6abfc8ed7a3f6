//! The IAM policies hold what the client calls, and nothing else.

use crate::common::{World, client, home, op, source, until};
use holdfast_core::managed::iam::{self, Role, Scope};
use holdfast_core::managed::{
    BackupVaults, Databases, Deletion, Engine, ErrorKind, FinalSnapshot, LockRequest, Modification, Moment,
    NewSnapshot, NewVault, RestoreFrom, RestoreTarget, Restores, SnapshotRef, Snapshots, Source, SurveyScope,
    Surveys, Tags, tags,
};
use serde_json::json;
use std::collections::BTreeSet;

#[test]
fn every_action_has_a_role_and_no_role_has_more() {
    let can: BTreeSet<&str> = holdfast_aws::ACTIONS.iter().copied().collect();
    let may: BTreeSet<&str> = Role::ALL.into_iter().flat_map(iam::actions).collect();
    let denied: Vec<_> = can.difference(&may).collect();
    assert!(denied.is_empty(), "called, but in no policy: {denied:?}");
    let implied: BTreeSet<&str> = iam::IMPLIED.iter().copied().chain(["ec2:CreateTags"]).collect();
    let unused: Vec<_> = may.difference(&can).filter(|a| !implied.contains(**a)).collect();
    assert!(unused.is_empty(), "in a policy, but never called: {unused:?}");
    assert_eq!(holdfast_aws::ACTIONS.len(), can.len());
}

/// The policy without the statements whose conditions the stand-in does not know: grants on keys, which AWS makes by
/// itself, and tags while a security group is made, which moto's EC2 does not check.
fn modelled(role: Role, scope: &Scope) -> serde_json::Value {
    let mut policy = iam::policy(role, scope);
    let unknown = |s: &serde_json::Value| {
        ["kms:ViaService", "ec2:CreateAction"].iter().any(|k| s["Condition"].to_string().contains(k))
    };
    policy["Statement"].as_array_mut().unwrap().retain(|s| !unknown(s));
    policy
}

/// Each role does its work with its own policy (and `observe`), and is stopped where it ends.
#[tokio::test]
async fn roles_are_enough_and_end_where_they_should() {
    let w = World::new("roles").await;
    let scope = Scope { account: "123456789012".into(), ..Scope::default() };
    for role in Role::ALL {
        let policies = json!([modelled(Role::Observe, &scope), modelled(role, &scope)]);
        w.aws.control("keys", Some(json!({"access_key": role.as_str(), "policies": policies})));
    }
    let (observe, _) = client(&w.aws, "observe").await;
    let (backup, _) = client(&w.aws, "backup").await;
    let (configure, _) = client(&w.aws, "configure").await;
    let (restore, _) = client(&w.aws, "restore").await;
    let (delete, _) = client(&w.aws, "delete").await;
    let denied = |r: holdfast_core::managed::Result<()>| {
        let e = r.unwrap_err();
        assert!(matches!(e.kind, ErrorKind::Denied { .. }), "{e}");
    };
    let shop = source("rds://us-east-1/shop");
    let new = NewSnapshot { id: "ours".into(), tags: Tags::default() };

    let seen = observe
        .survey(
            &[home()],
            &SurveyScope { plans: true, jobs: Some(Default::default()), ..SurveyScope::backups() },
        )
        .await;
    assert!(seen[0].failures.is_empty(), "{:?}", seen[0].failures);
    denied(observe.create_snapshot(&shop, &new, &op("r")).await.map(drop));

    backup.create_snapshot(&shop, &new, &op("r")).await.unwrap();
    let ours = SnapshotRef { engine: Engine::Rds, region: home(), id: "ours".into() };
    until("snapshot", || backup.snapshot(&ours), |s| s.status.is_available()).await;
    denied(backup.delete_snapshot(&ours).await);
    let how = Deletion { final_snapshot: FinalSnapshot::Skip, delete_automated_backups: true };
    denied(backup.delete(&shop, &how).await);

    // Settings are not for whoever makes backups: 0 days of retention would delete them.
    let days = Modification { retention_days: Some(9), ..Modification::default() };
    denied(backup.modify(&shop, &days).await.map(drop));
    configure.modify(&shop, &days).await.unwrap();
    until("settings", || configure.describe(&shop), |d| d.status.is_available()).await;
    let vault = NewVault { region: home(), name: "vault".into(), key: None, tags: Tags::default() };
    denied(backup.create_vault(&vault, &op("v")).await.map(drop));
    configure.create_vault(&vault, &op("v")).await.unwrap();
    let lock = LockRequest { min_days: Some(7), max_days: None, changeable_for_days: None };
    configure.lock_vault(&home(), "vault", &lock).await.unwrap();
    denied(configure.unlock_vault(&home(), "vault").await);
    delete.unlock_vault(&home(), "vault").await.unwrap();
    denied(configure.delete_snapshot(&ours).await);

    let facts = restore.describe(&shop).await.unwrap();
    let mut target = RestoreTarget::like(&facts, shop.named("temp").unwrap());
    target.tags.set(tags::EXPIRES, "2026-12-01T00:00:00Z");
    restore.restore(&RestoreFrom::Snapshot(ours.clone()), &target, &op("v")).await.unwrap();
    until("restore", || restore.describe(&target.source), |d| d.status.is_available()).await;
    // The source does not say until when it lives: nobody may delete it by these policies.
    denied(restore.delete(&shop, &how).await);
    restore.delete(&target.source, &how).await.unwrap();
    denied(restore.delete_snapshot(&ours).await);
    let from = RestoreFrom::Live { id: "shop".into(), to: Moment::Latest };
    let mut other = RestoreTarget::like(&facts, shop.named("temp2").unwrap());
    other.tags.set(tags::EXPIRES, "2026-12-01T00:00:00Z");
    restore.restore(&from, &other, &op("v2")).await.unwrap();

    // Made by a person: no tag of ours.
    w.aws.control("seed", Some(json!({"snapshots": {"source": "shop", "count": 1, "prefix": "theirs"}})));
    let theirs = SnapshotRef { id: "theirs00000".into(), ..ours.clone() };
    denied(delete.delete_snapshot(&theirs).await);
    denied(delete.delete(&shop, &how).await);
    delete.delete_snapshot(&ours).await.unwrap();

    // What a cutover replaced: its protection is taken off, and it goes with a last snapshot.
    let change = Modification { deletion_protection: Some(false), ..Modification::default() };
    denied(delete.modify(&shop, &change).await.map(drop));
    let until = Tags::default().with(tags::QUARANTINED_UNTIL, "2026-11-20T00:00:00Z");
    w.cloud.add_tags(&home(), &facts.arn, &until).await.unwrap();
    delete.modify(&shop, &change).await.unwrap();
    until_available(&w, &shop).await;
    let last = Deletion {
        final_snapshot: FinalSnapshot::Named("shop-final".into()),
        delete_automated_backups: false,
    };
    delete.delete(&shop, &last).await.unwrap();
}

async fn until_available(w: &World, source: &Source) {
    until("database", || w.cloud.describe(source), |d| d.status.is_available()).await;
}
