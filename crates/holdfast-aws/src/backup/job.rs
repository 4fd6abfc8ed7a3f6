//! [`BackupJobs`]: backup, copy and restore jobs.

use super::{created_by, to_lifecycle};
use crate::actions as act;
use crate::call::On;
use crate::cloud::AwsCloud;
use crate::convert::{number, stamped, text, token, when};
use async_trait::async_trait;
use aws_sdk_backup::types as sdk;
use aws_smithy_types::DateTime;
use holdfast_core::managed::{
    BackupJob, BackupJobState, BackupJobs, CopyJob, CopyJobState, JobFilter, ManagedError, NewBackupJob,
    NewCopyJob, NewRestoreJob, Operation, Region, RestoreJob, RestoreJobState, Result,
};
use jiff::Timestamp;

/// `PercentDone` is a text.
fn percent(p: Option<&str>) -> Option<f64> {
    p.and_then(|t| t.trim_end_matches('%').parse().ok())
}

fn after(filter: &JobFilter) -> Option<DateTime> {
    filter.created_after.map(|t| DateTime::from_secs(t.as_second()))
}

fn backup_of_list(region: &Region, j: &sdk::BackupJob) -> Option<BackupJob> {
    Some(BackupJob {
        region: region.clone(),
        id: j.backup_job_id()?.to_string(),
        state: BackupJobState::of(j.state().map_or("", |s| s.as_str())),
        message: j.status_message().map(str::to_string),
        percent: percent(j.percent_done()),
        vault: text(j.backup_vault_name()),
        resource_arn: text(j.resource_arn()),
        point_arn: j.recovery_point_arn().map(str::to_string),
        created: when(j.creation_date())?,
        completed: when(j.completion_date()),
        expected: when(j.expected_completion_date()),
        size_bytes: number(j.backup_size_in_bytes()),
        created_by: created_by(j.created_by()),
    })
}

fn copy_of(region: &Region, j: &sdk::CopyJob) -> Option<CopyJob> {
    Some(CopyJob {
        region: region.clone(),
        id: j.copy_job_id()?.to_string(),
        state: CopyJobState::of(j.state().map_or("", |s| s.as_str())),
        message: j.status_message().map(str::to_string),
        from_point_arn: text(j.source_recovery_point_arn()),
        to_vault_arn: text(j.destination_backup_vault_arn()),
        to_point_arn: j.destination_recovery_point_arn().map(str::to_string),
        resource_arn: text(j.resource_arn()),
        created: when(j.creation_date())?,
        completed: when(j.completion_date()),
        size_bytes: number(j.backup_size_in_bytes()),
        created_by: created_by(j.created_by()),
    })
}

fn restore_of_list(region: &Region, j: &sdk::RestoreJobsListMember) -> Option<RestoreJob> {
    Some(RestoreJob {
        region: region.clone(),
        id: j.restore_job_id()?.to_string(),
        state: RestoreJobState::of(j.status().map_or("", |s| s.as_str())),
        message: j.status_message().map(str::to_string),
        percent: percent(j.percent_done()),
        point_arn: text(j.recovery_point_arn()),
        created_resource: j.created_resource_arn().map(str::to_string),
        created: when(j.creation_date())?,
        completed: when(j.completion_date()),
        expected_minutes: number(j.expected_completion_time_minutes()),
    })
}

fn key(region: &Region, id: &str) -> String {
    format!("job/{region}/{id}")
}

/// A job that was begun is begun, whether it may be looked at or not: whoever waits for it is told then.
fn unseen(e: &ManagedError) -> String {
    format!("begun, and not seen: {e}")
}

#[async_trait]
impl BackupJobs for AwsCloud {
    async fn start_backup(&self, new: &NewBackupJob, op: &Operation) -> Result<BackupJob> {
        let on = On::new(act::START_BACKUP, &new.region, &new.resource_arn);
        let call = self
            .backup(&new.region)
            .start_backup_job()
            .backup_vault_name(&new.vault)
            .resource_arn(&new.resource_arn)
            .iam_role_arn(&new.role_arn)
            .idempotency_token(token(op))
            .set_lifecycle(to_lifecycle(new.lifecycle))
            .set_start_window_minutes(new.start_window.map(i64::from))
            .set_complete_window_minutes(new.complete_window.map(i64::from))
            .set_recovery_point_tags(Some(stamped(&new.tags, op).0.into_iter().collect()));
        let reply = self.change(on, Some(op), call.send()).await?;
        let id = reply.backup_job_id().ok_or_else(|| on.incomplete("job id"))?;
        self.fresh.note(key(&new.region, id));
        match self.backup_job(&new.region, id).await {
            Err(e) if !e.retryable() => Ok(BackupJob {
                region: new.region.clone(),
                id: id.to_string(),
                state: BackupJobState::of("CREATED"),
                message: Some(unseen(&e)),
                percent: None,
                vault: new.vault.clone(),
                resource_arn: new.resource_arn.clone(),
                point_arn: reply.recovery_point_arn().map(str::to_string),
                created: when(reply.creation_date()).unwrap_or_else(Timestamp::now),
                completed: None,
                expected: None,
                size_bytes: None,
                created_by: None,
            }),
            looked => looked,
        }
    }

    async fn backup_job(&self, region: &Region, id: &str) -> Result<BackupJob> {
        let on = On::new(act::DESCRIBE_BACKUP_JOB, region, id);
        let look = || async {
            self.read(on, self.backup(region).describe_backup_job().backup_job_id(id).send()).await
        };
        let j = self.patiently(&key(region, id), look).await?;
        Ok(BackupJob {
            region: region.clone(),
            id: id.to_string(),
            state: BackupJobState::of(j.state().map_or("", |s| s.as_str())),
            message: j.status_message().map(str::to_string),
            percent: percent(j.percent_done()),
            vault: text(j.backup_vault_name()),
            resource_arn: text(j.resource_arn()),
            point_arn: j.recovery_point_arn().map(str::to_string),
            created: when(j.creation_date()).ok_or_else(|| on.incomplete("date of creation"))?,
            completed: when(j.completion_date()),
            expected: when(j.expected_completion_date()),
            size_bytes: number(j.backup_size_in_bytes()),
            created_by: created_by(j.created_by()),
        })
    }

    async fn backup_jobs(&self, region: &Region, filter: &JobFilter) -> Result<Vec<BackupJob>> {
        let on = On::new(act::LIST_BACKUP_JOBS, region, "all backup jobs");
        let pages = self
            .backup(region)
            .list_backup_jobs()
            .set_by_resource_arn(filter.resource_arn.clone())
            .set_by_created_after(after(filter))
            .into_paginator()
            .items()
            .send();
        let all = self.read(on, pages.try_collect()).await?;
        Ok(all.iter().filter_map(|j| backup_of_list(region, j)).collect())
    }

    async fn stop_backup(&self, region: &Region, id: &str) -> Result<()> {
        let on = On::new(act::STOP_BACKUP, region, id);
        match self.change(on, None, self.backup(region).stop_backup_job().backup_job_id(id).send()).await {
            Ok(_) => Ok(()),
            // It ended by itself in the meantime.
            Err(e) => match self.backup_job(region, id).await {
                Ok(job) if job.state.is_final() => Ok(()),
                _ => Err(e),
            },
        }
    }

    async fn start_copy(&self, new: &NewCopyJob, op: &Operation) -> Result<CopyJob> {
        let on = On::new(act::START_COPY, &new.region, &new.point_arn);
        let call = self
            .backup(&new.region)
            .start_copy_job()
            .source_backup_vault_name(&new.from_vault)
            .recovery_point_arn(&new.point_arn)
            .destination_backup_vault_arn(&new.to_vault_arn)
            .iam_role_arn(&new.role_arn)
            .idempotency_token(token(op))
            .set_lifecycle(to_lifecycle(new.lifecycle));
        let reply = self.change(on, Some(op), call.send()).await?;
        let id = reply.copy_job_id().ok_or_else(|| on.incomplete("job id"))?;
        self.fresh.note(key(&new.region, id));
        match self.copy_job(&new.region, id).await {
            Err(e) if !e.retryable() => Ok(CopyJob {
                region: new.region.clone(),
                id: id.to_string(),
                state: CopyJobState::of("CREATED"),
                message: Some(unseen(&e)),
                from_point_arn: new.point_arn.clone(),
                to_vault_arn: new.to_vault_arn.clone(),
                to_point_arn: None,
                resource_arn: String::new(),
                created: when(reply.creation_date()).unwrap_or_else(Timestamp::now),
                completed: None,
                size_bytes: None,
                created_by: None,
            }),
            looked => looked,
        }
    }

    async fn copy_job(&self, region: &Region, id: &str) -> Result<CopyJob> {
        let on = On::new(act::DESCRIBE_COPY_JOB, region, id);
        let look =
            || async { self.read(on, self.backup(region).describe_copy_job().copy_job_id(id).send()).await };
        let reply = self.patiently(&key(region, id), look).await?;
        reply.copy_job().and_then(|j| copy_of(region, j)).ok_or_else(|| on.incomplete("job"))
    }

    async fn copy_jobs(&self, region: &Region, filter: &JobFilter) -> Result<Vec<CopyJob>> {
        let on = On::new(act::LIST_COPY_JOBS, region, "all copy jobs");
        let pages = self
            .backup(region)
            .list_copy_jobs()
            .set_by_resource_arn(filter.resource_arn.clone())
            .set_by_created_after(after(filter))
            .into_paginator()
            .items()
            .send();
        let all = self.read(on, pages.try_collect()).await?;
        Ok(all.iter().filter_map(|j| copy_of(region, j)).collect())
    }

    async fn start_restore(&self, new: &NewRestoreJob, op: &Operation) -> Result<RestoreJob> {
        let on = On::new(act::START_RESTORE, &new.region, &new.point_arn);
        let call = self
            .backup(&new.region)
            .start_restore_job()
            .recovery_point_arn(&new.point_arn)
            .set_metadata(Some(new.metadata.clone().into_iter().collect()))
            .iam_role_arn(&new.role_arn)
            .idempotency_token(token(op))
            .resource_type(new.engine.backup_resource_type())
            .copy_source_tags_to_restored_resource(new.copy_tags);
        let reply = self.change(on, Some(op), call.send()).await?;
        let id = reply.restore_job_id().ok_or_else(|| on.incomplete("job id"))?;
        self.fresh.note(key(&new.region, id));
        match self.restore_job(&new.region, id).await {
            Err(e) if !e.retryable() => Ok(RestoreJob {
                region: new.region.clone(),
                id: id.to_string(),
                state: RestoreJobState::of("PENDING"),
                message: Some(unseen(&e)),
                percent: None,
                point_arn: new.point_arn.clone(),
                created_resource: None,
                created: Timestamp::now(),
                completed: None,
                expected_minutes: None,
            }),
            looked => looked,
        }
    }

    async fn restore_job(&self, region: &Region, id: &str) -> Result<RestoreJob> {
        let on = On::new(act::DESCRIBE_RESTORE_JOB, region, id);
        let look = || async {
            self.read(on, self.backup(region).describe_restore_job().restore_job_id(id).send()).await
        };
        let j = self.patiently(&key(region, id), look).await?;
        Ok(RestoreJob {
            region: region.clone(),
            id: id.to_string(),
            state: RestoreJobState::of(j.status().map_or("", |s| s.as_str())),
            message: j.status_message().map(str::to_string),
            percent: percent(j.percent_done()),
            point_arn: text(j.recovery_point_arn()),
            created_resource: j.created_resource_arn().map(str::to_string),
            created: when(j.creation_date()).ok_or_else(|| on.incomplete("date of creation"))?,
            completed: when(j.completion_date()),
            expected_minutes: number(j.expected_completion_time_minutes()),
        })
    }

    async fn restore_jobs(&self, region: &Region, filter: &JobFilter) -> Result<Vec<RestoreJob>> {
        let on = On::new(act::LIST_RESTORE_JOBS, region, "all restore jobs");
        let pages = self
            .backup(region)
            .list_restore_jobs()
            .set_by_created_after(after(filter))
            .into_paginator()
            .items()
            .send();
        let all = self.read(on, pages.try_collect()).await?;
        // There is no filter by resource: the answer names it.
        let of = |j: &&sdk::RestoreJobsListMember| {
            filter.resource_arn.as_deref().is_none_or(|r| j.source_resource_arn() == Some(r))
        };
        Ok(all.iter().filter(of).filter_map(|j| restore_of_list(region, j)).collect())
    }
}
