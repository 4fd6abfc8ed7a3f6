//! AWS Backup: vaults, locks, plans, jobs, points.

use crate::common::{World, home, op, region, source, until};
use holdfast_core::managed::{
    BackupJobs, BackupPlans, BackupRule, BackupVaults, CopyAction, Databases, Engine, ErrorKind, JobFilter,
    Lifecycle, LockMode, LockRequest, NewBackupJob, NewCopyJob, NewRestoreJob, NewVault, PlanContent,
    PointFilter, PointStatus, RecoveryPoints, RestoreTarget, SelectionContent, Tags, restore_metadata, tags,
};

async fn vault(w: &World, region_name: &str, name: &str) -> String {
    let new = NewVault { region: region(region_name), name: name.into(), key: None, tags: Tags::default() };
    w.cloud.create_vault(&new, &op("vault")).await.unwrap().arn
}

fn kept(days: u32) -> Lifecycle {
    Lifecycle { cold_after_days: None, delete_after_days: Some(days) }
}

fn job(w: &World, vault: &str, resource: &str, days: u32) -> NewBackupJob {
    NewBackupJob {
        region: home(),
        vault: vault.into(),
        resource_arn: resource.into(),
        role_arn: w.role(),
        lifecycle: kept(days),
        start_window: None,
        complete_window: None,
        tags: Tags::default().with(tags::TIER, "daily"),
    }
}

#[tokio::test]
async fn a_point_is_made_copied_restored_and_removed() {
    let w = World::new("points").await;
    let here = vault(&w, "us-east-1", "main").await;
    let there = vault(&w, "eu-west-1", "far").await;
    assert_eq!(vault(&w, "us-east-1", "main").await, here, "made again, it is the same vault");
    for (url, id) in [
        ("rds://us-east-1/shop", "back-rds"),
        ("aurora://us-east-1/orders", "back-a"),
        ("docdb://us-east-1/docs", "back-d"),
    ] {
        let db = w.cloud.describe(&source(url)).await.unwrap();
        let new = job(&w, "main", &db.arn, 30);
        let step = op(&format!("run/{id}"));
        let first = w.cloud.start_backup(&new, &step).await.unwrap();
        assert_eq!(w.cloud.start_backup(&new, &step).await.unwrap().id, first.id, "one job");
        let done =
            until("backup", || w.cloud.backup_job(&new.region, &first.id), |j| j.state.is_final()).await;
        assert!(done.state.is_success(), "{done:?}");
        let arn = done.point_arn.unwrap();
        let point = w.cloud.recovery_point(&home(), "main", &arn).await.unwrap();
        assert_eq!((point.engine, point.status.clone()), (db.source.engine, PointStatus::Completed));
        assert_eq!(point.lifecycle.delete_after_days, Some(30));
        assert!(point.delete_at.is_some() && !point.continuous);
        assert_eq!(point.tags.as_ref().unwrap().get(tags::TIER), Some("daily"));
        assert_eq!(point.resource_id.as_deref(), Some(db.source.id.as_str()));
        let listed = w
            .cloud
            .recovery_points(
                &home(),
                "main",
                &PointFilter { resource_arn: Some(db.arn.clone()), ..Default::default() },
            )
            .await
            .unwrap();
        assert_eq!(listed.iter().map(|p| &p.arn).collect::<Vec<_>>(), [&arn]);

        let copy = NewCopyJob {
            region: home(),
            from_vault: "main".into(),
            point_arn: arn.clone(),
            to_vault_arn: there.clone(),
            role_arn: w.role(),
            lifecycle: kept(90),
        };
        let begun = w.cloud.start_copy(&copy, &step).await.unwrap();
        assert_eq!(w.cloud.start_copy(&copy, &step).await.unwrap().id, begun.id);
        let copied =
            until("copy", || w.cloud.copy_job(&copy.region, &begun.id), |j| j.state.is_final()).await;
        assert!(copied.state.is_success(), "{copied:?}");
        let far =
            w.cloud.recovery_point(&region("eu-west-1"), "far", &copied.to_point_arn.unwrap()).await.unwrap();
        assert_eq!(far.lifecycle.delete_after_days, Some(90));

        let hints = w.cloud.restore_hints(&home(), "main", &arn).await.unwrap();
        let target = RestoreTarget::like(&db, db.source.named(id).unwrap());
        let restore = NewRestoreJob {
            region: home(),
            engine: db.source.engine,
            point_arn: arn.clone(),
            role_arn: w.role(),
            metadata: restore_metadata(&hints, &target, None),
            copy_tags: false,
        };
        let begun = w.cloud.start_restore(&restore, &step).await.unwrap();
        assert_eq!(w.cloud.start_restore(&restore, &step).await.unwrap().id, begun.id);
        let restored =
            until("restore", || w.cloud.restore_job(&restore.region, &begun.id), |j| j.state.is_final())
                .await;
        assert!(restored.state.is_success(), "{restored:?}");
        assert!(restored.created_resource.unwrap().ends_with(id));
        w.cloud.describe(&target.source).await.unwrap();

        w.cloud.set_lifecycle(&home(), "main", &arn, kept(60)).await.unwrap();
        assert_eq!(w.cloud.recovery_point(&home(), "main", &arn).await.unwrap().lifecycle, kept(60));
        w.cloud.delete_recovery_point(&home(), "main", &arn).await.unwrap();
        let every = PointFilter::default();
        let ask = || w.cloud.recovery_points(&copy.region, "main", &every);
        until("removed", ask, |all| all.iter().all(|p| p.arn != arn)).await;
        w.cloud.delete_recovery_point(&home(), "main", &arn).await.unwrap();
    }
    let all = JobFilter::default();
    assert_eq!(w.cloud.backup_jobs(&home(), &all).await.unwrap().len(), 3);
    assert_eq!(w.cloud.copy_jobs(&home(), &all).await.unwrap().len(), 3);
    assert_eq!(w.cloud.restore_jobs(&home(), &all).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_lock_says_what_it_is_and_holds() {
    let w = World::new("lock").await;
    vault(&w, "us-east-1", "main").await;
    assert!(w.cloud.vault(&home(), "main").await.unwrap().lock.is_none());
    let governance = LockRequest { min_days: Some(7), max_days: Some(365), changeable_for_days: None };
    w.cloud.lock_vault(&home(), "main", &governance).await.unwrap();
    let lock = w.cloud.vault(&home(), "main").await.unwrap().lock.unwrap();
    let now = jiff::Timestamp::now();
    assert_eq!((lock.mode(now), lock.min_days, lock.max_days), (LockMode::Governance, Some(7), Some(365)));

    // Shorter than the lock's minimum: the job fails.
    let shop = w.cloud.describe(&source("rds://us-east-1/shop")).await.unwrap();
    let short = job(&w, "main", &shop.arn, 3);
    let made = w.cloud.start_backup(&short, &op("short")).await;
    match made {
        Ok(begun) => {
            let end =
                until("job", || w.cloud.backup_job(&short.region, &begun.id), |j| j.state.is_final()).await;
            assert!(!end.state.is_success());
        }
        Err(e) => assert!(!e.retryable(), "{e}"),
    }
    let fits = job(&w, "main", &shop.arn, 30);
    let begun = w.cloud.start_backup(&fits, &op("fits")).await.unwrap();
    let done = until("job", || w.cloud.backup_job(&fits.region, &begun.id), |j| j.state.is_final()).await;
    let arn = done.point_arn.unwrap();
    let kept = w.cloud.delete_recovery_point(&home(), "main", &arn).await.unwrap_err();
    assert_eq!(kept.kind, ErrorKind::Locked { until: None }, "{kept}");
    assert!(!kept.retryable());

    w.cloud.unlock_vault(&home(), "main").await.unwrap();
    w.cloud.delete_recovery_point(&home(), "main", &arn).await.unwrap();
    let compliance = LockRequest { changeable_for_days: Some(3), ..governance };
    w.cloud.lock_vault(&home(), "main", &compliance).await.unwrap();
    let lock = w.cloud.vault(&home(), "main").await.unwrap().lock.unwrap();
    assert_eq!(lock.mode(now), LockMode::CompliancePending);
    let hasty = LockRequest { changeable_for_days: Some(1), ..governance };
    assert_eq!(
        w.cloud.lock_vault(&home(), "main", &hasty).await.unwrap_err().kind,
        ErrorKind::InvalidRequest
    );

    assert_eq!(w.cloud.vault_policy(&home(), "main").await.unwrap(), None);
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"backup:DeleteRecoveryPoint","Resource":"*"}]}"#;
    w.cloud.put_vault_policy(&home(), "main", policy).await.unwrap();
    assert!(w.cloud.vault_policy(&home(), "main").await.unwrap().unwrap().contains("DeleteRecoveryPoint"));
    assert!(w.cloud.vault(&home(), "nothing").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn plans_are_made_once_and_changed() {
    let w = World::new("plans").await;
    vault(&w, "us-east-1", "main").await;
    let far = vault(&w, "eu-west-1", "far").await;
    let rule = BackupRule {
        name: "daily".into(),
        vault: "main".into(),
        schedule: Some("cron(0 5 ? * * *)".into()),
        timezone: None,
        start_window: Some(60),
        completion_window: Some(180),
        lifecycle: kept(35),
        continuous: true,
        copies: vec![CopyAction { to_vault_arn: far, lifecycle: kept(90) }],
        point_tags: Tags::default().with(tags::TIER, "daily"),
    };
    let mut content = PlanContent { name: "holdfast-standard".into(), rules: vec![rule] };
    let none = Tags::default();
    let made = w.cloud.create_plan(&home(), &content, &none, &op("plan-1")).await.unwrap();
    let again = w.cloud.create_plan(&home(), &content, &none, &op("plan-1")).await.unwrap();
    assert_eq!(made.id, again.id);
    assert_eq!(made.content, content);
    assert_eq!(made.tags.operation(), Some("plan-1"));

    let selection = SelectionContent {
        name: "shop".into(),
        role_arn: w.role(),
        resources: vec!["arn:aws:rds:us-east-1:123456789012:db:shop".into()],
        not_resources: vec![],
        with_tags: vec![],
    };
    let first = w.cloud.create_selection(&home(), &made.id, &selection, &op("sel-1")).await.unwrap();
    let second = w.cloud.create_selection(&home(), &made.id, &selection, &op("sel-1")).await.unwrap();
    assert_eq!(first.id, second.id);
    content.rules[0].schedule = Some("cron(0 6 ? * * *)".into());
    let changed = w.cloud.update_plan(&home(), &made.id, &content).await.unwrap();
    assert_eq!(changed.content, content);
    assert_ne!(changed.version, made.version);
    assert_eq!(changed.selections, std::slice::from_ref(&first));
    assert_eq!(w.cloud.plans(&home()).await.unwrap(), [changed]);
    w.cloud.delete_selection(&home(), &made.id, &first.id).await.unwrap();
    w.cloud.delete_selection(&home(), &made.id, &first.id).await.unwrap();
    assert!(w.cloud.plan(&home(), &made.id).await.unwrap().selections.is_empty());
    // Both continuous and illegal: delete before cold + 90 (VE1).
    content.rules[0].lifecycle = Lifecycle { cold_after_days: Some(30), delete_after_days: Some(90) };
    assert_eq!(
        w.cloud.update_plan(&home(), &made.id, &content).await.unwrap_err().kind,
        ErrorKind::InvalidRequest
    );
    assert_eq!(Engine::Rds.backup_resource_type(), "RDS");
}
