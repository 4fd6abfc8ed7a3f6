//! [`RecoveryPoints`].

use super::{created_by, lifecycle, to_lifecycle};
use crate::actions as act;
use crate::call::On;
use crate::cloud::AwsCloud;
use crate::convert::{arn_name, arn_region, number, text, when};
use async_trait::async_trait;
use aws_sdk_backup::types::{RecoveryPointByBackupVault, RecoveryPointStatus};
use aws_smithy_types::DateTime;
use holdfast_core::managed::{
    BackupVaults, Engine, Lifecycle, PointFilter, PointStatus, RecoveryPoint, RecoveryPoints, Region,
    RestorableWindow, Result, Tags,
};
use jiff::Timestamp;
use std::collections::BTreeMap;

fn engine(resource_type: Option<&str>) -> Option<Engine> {
    Engine::ALL.into_iter().find(|e| Some(e.backup_resource_type()) == resource_type)
}

fn status(of: Option<&RecoveryPointStatus>) -> PointStatus {
    match of.map(RecoveryPointStatus::as_str) {
        Some("CREATING") => PointStatus::Creating,
        Some("COMPLETED") => PointStatus::Completed,
        Some("AVAILABLE") => PointStatus::Available,
        Some("PARTIAL") => PointStatus::Partial,
        Some("DELETING") => PointStatus::Deleting,
        Some("EXPIRED") => PointStatus::Expired,
        Some("STOPPED") => PointStatus::Stopped,
        other => PointStatus::Other(text(other)),
    }
}

/// A continuous point's ARN says so: `…:recovery-point:continuous:…`. One that is a snapshot is none, whatever its
/// state: "AVAILABLE" means no more than that it was made (API reference, DescribeRecoveryPoint).
fn is_continuous(arn: &str, status: &PointStatus) -> bool {
    let snapshot = arn.contains(":snapshot:") || arn.contains(":cluster-snapshot:");
    arn.contains(":recovery-point:continuous:") || (*status == PointStatus::Available && !snapshot)
}

fn of_list(region: &Region, p: &RecoveryPointByBackupVault) -> Option<RecoveryPoint> {
    let arn = p.recovery_point_arn()?.to_string();
    let resource_arn = text(p.resource_arn());
    let status = status(p.status());
    Some(RecoveryPoint {
        region: region.clone(),
        vault: text(p.backup_vault_name()),
        copied_from_vault: p.source_backup_vault_arn().map(str::to_string),
        engine: engine(p.resource_type())?,
        resource_id: arn_name(&resource_arn).or(p.resource_name()).map(str::to_string),
        resource_arn,
        status_message: p.status_message().map(str::to_string),
        created: when(p.creation_date())?,
        completed: when(p.completion_date()),
        size_bytes: number(p.backup_size_in_bytes()),
        lifecycle: lifecycle(p.lifecycle()),
        delete_at: when(p.calculated_lifecycle().and_then(|c| c.delete_at())),
        encrypted: p.is_encrypted(),
        key: p.encryption_key_arn().map(str::to_string),
        continuous: is_continuous(&arn, &status),
        window: None,
        created_by: created_by(p.created_by()),
        last_restored: when(p.last_restore_time()),
        tags: None,
        status,
        arn,
    })
}

#[async_trait]
impl RecoveryPoints for AwsCloud {
    async fn recovery_points(
        &self,
        region: &Region,
        vault: &str,
        filter: &PointFilter,
    ) -> Result<Vec<RecoveryPoint>> {
        let on = On::new(act::LIST_POINTS, region, vault);
        let at = |t: Option<Timestamp>| t.map(|t| DateTime::from_secs(t.as_second()));
        let pages = self
            .backup(region)
            .list_recovery_points_by_backup_vault()
            .backup_vault_name(vault)
            .set_by_resource_arn(filter.resource_arn.clone())
            .set_by_created_after(at(filter.created_after))
            .set_by_created_before(at(filter.created_before))
            .into_paginator()
            .items()
            .send();
        let all = self.read(on, pages.try_collect()).await?;
        Ok(all.iter().filter_map(|p| of_list(region, p)).collect())
    }

    async fn recovery_point(&self, region: &Region, vault: &str, arn: &str) -> Result<RecoveryPoint> {
        let on = On::new(act::DESCRIBE_POINT, region, arn);
        let look = || async {
            let call = self
                .backup(region)
                .describe_recovery_point()
                .backup_vault_name(vault)
                .recovery_point_arn(arn);
            self.read(on, call.send()).await
        };
        let p = self.patiently(&format!("point/{region}/{arn}"), look).await?;
        let resource_arn = text(p.resource_arn());
        let status = status(p.status());
        let continuous = is_continuous(arn, &status);
        let engine = engine(p.resource_type()).ok_or_else(|| on.incomplete("resource type that we know"))?;
        let created = when(p.creation_date()).ok_or_else(|| on.incomplete("date of creation"))?;
        let window = match continuous {
            true => self.window_of(engine, region, &resource_arn, arn, created).await?,
            false => None,
        };
        let tags = self.point_tags(region, arn).await?;
        Ok(RecoveryPoint {
            region: region.clone(),
            vault: vault.to_string(),
            arn: arn.to_string(),
            copied_from_vault: p.source_backup_vault_arn().map(str::to_string),
            engine,
            resource_id: arn_name(&resource_arn).or(p.resource_name()).map(str::to_string),
            resource_arn,
            status_message: p.status_message().map(str::to_string),
            created,
            completed: when(p.completion_date()),
            size_bytes: number(p.backup_size_in_bytes()),
            lifecycle: lifecycle(p.lifecycle()),
            delete_at: when(p.calculated_lifecycle().and_then(|c| c.delete_at())),
            encrypted: p.is_encrypted(),
            key: p.encryption_key_arn().map(str::to_string),
            continuous,
            window,
            created_by: created_by(p.created_by()),
            last_restored: when(p.last_restore_time()),
            tags,
            status,
        })
    }

    async fn restore_hints(
        &self,
        region: &Region,
        vault: &str,
        arn: &str,
    ) -> Result<BTreeMap<String, String>> {
        let on = On::new(act::GET_POINT_METADATA, region, arn);
        let call = self
            .backup(region)
            .get_recovery_point_restore_metadata()
            .backup_vault_name(vault)
            .recovery_point_arn(arn);
        let reply = self.read(on, call.send()).await?;
        Ok(reply.restore_metadata.unwrap_or_default().into_iter().collect())
    }

    async fn set_lifecycle(
        &self,
        region: &Region,
        vault: &str,
        arn: &str,
        lifecycle: Lifecycle,
    ) -> Result<()> {
        let on = On::new(act::UPDATE_POINT, region, arn);
        let call = self
            .backup(region)
            .update_recovery_point_lifecycle()
            .backup_vault_name(vault)
            .recovery_point_arn(arn)
            .set_lifecycle(to_lifecycle(lifecycle));
        self.change(on, None, call.send()).await.map(drop)
    }

    async fn delete_recovery_point(&self, region: &Region, vault: &str, arn: &str) -> Result<()> {
        let on = On::new(act::DELETE_POINT, region, arn);
        let call =
            self.backup(region).delete_recovery_point().backup_vault_name(vault).recovery_point_arn(arn);
        self.removal(on, call.send()).await
    }
}

impl AwsCloud {
    /// AWS Backup lists tags of what it manages wholly ("include only values representing resource types that are fully
    /// managed by AWS Backup": API reference, ListTags). A point of a database is a snapshot of RDS and has its tags
    /// there. Without them it is a point all the same.
    async fn point_tags(&self, region: &Region, arn: &str) -> Result<Option<Tags>> {
        let found = match arn.split(':').nth(2) {
            Some("rds") => self.rds_tags_of(region, arn).await,
            _ => self.backup_tags(region, arn).await,
        };
        match found {
            Ok(tags) => Ok(Some(tags)),
            Err(e) if e.retryable() => Err(e),
            Err(_) => Ok(None),
        }
    }

    /// AWS Backup does not say to when a continuous point reaches; the automated backups that it owns do. They name
    /// their point. Where none does, the source's own tell, unless that came after the point: then it is another one of
    /// that name.
    async fn window_of(
        &self,
        engine: Engine,
        region: &Region,
        resource_arn: &str,
        point: &str,
        made: Timestamp,
    ) -> Result<Option<RestorableWindow>> {
        if arn_region(resource_arn).as_ref() != Some(region) {
            return Ok(None);
        }
        let Some(id) = arn_name(resource_arn) else { return Ok(None) };
        let before = |t: Option<Timestamp>| t.is_none_or(|t| t <= made);
        if engine.is_cluster() {
            return match self.raw_cluster(region, id).await {
                Ok(c) => {
                    let its = match c.aws_backup_recovery_point_arn() {
                        Some(arn) => arn == point,
                        None => before(when(c.cluster_create_time())),
                    };
                    let window =
                        crate::convert::window(c.earliest_restorable_time(), c.latest_restorable_time());
                    Ok(window.filter(|_| its))
                }
                Err(e) if e.is_not_found() => Ok(None),
                Err(e) => Err(e),
            };
        }
        let mut all = crate::rds::instance_backups(self, region, None).await?;
        all.retain(|b| b.source_arn == resource_arn);
        if let Some(own) = all.iter().find(|b| b.recovery_point.as_deref() == Some(point)) {
            return Ok(own.window);
        }
        all.retain(|b| b.recovery_point.is_none() && before(b.source_created));
        Ok(match all.as_slice() {
            [only] => only.window,
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_not_continuous_whatever_its_state() {
        let at = |arn: &str, s: PointStatus| is_continuous(arn, &s);
        let snapshot = "arn:aws:rds:us-east-1:123456789012:cluster-snapshot:awsbackup:job-1";
        assert!(!at(snapshot, PointStatus::Available) && !at(snapshot, PointStatus::Completed));
        assert!(at("arn:aws:backup:us-east-1:1:recovery-point:continuous:shop-1", PointStatus::Completed));
    }
}
