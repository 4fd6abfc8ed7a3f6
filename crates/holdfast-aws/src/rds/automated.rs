//! [`AutomatedBackups`]: live, retained and replicated.

use super::databases::PAGE;
use crate::actions as act;
use crate::call::On;
use crate::cloud::AwsCloud;
use crate::convert::{arn_region, number, rds_tags, signed, text, to_rds_tags, when};
use async_trait::async_trait;
use aws_sdk_rds::types::{DbClusterAutomatedBackup, DbInstanceAutomatedBackup, RestoreWindow};
use holdfast_core::managed::{
    AutomatedBackup, AutomatedBackups, AutomatedKind, Engine, ErrorKind, Region, Replication,
    RestorableWindow, Result, Source, Status,
};

fn window(w: Option<&RestoreWindow>) -> Option<RestorableWindow> {
    let w = w?;
    crate::convert::window(w.earliest_time(), w.latest_time())
}

/// What it is, by where its source lives and what AWS says.
fn kind(here: &Region, source: Option<&Region>, status: &str) -> AutomatedKind {
    if source.is_some_and(|s| s != here) {
        AutomatedKind::Replicated
    } else if status == "retained" {
        AutomatedKind::Retained
    } else {
        AutomatedKind::Live
    }
}

fn of_instance(here: &Region, b: &DbInstanceAutomatedBackup) -> Option<AutomatedBackup> {
    let engine = Engine::of_name(b.engine()?, false).filter(|e| *e == Engine::Rds)?;
    let from = b.db_instance_arn().and_then(arn_region).or_else(|| b.region()?.parse().ok());
    let status = text(b.status());
    Some(AutomatedBackup {
        at: Source::new(engine, here.clone(), b.db_instance_identifier()?).ok()?,
        arn: b.db_instance_automated_backups_arn().map(str::to_string),
        resource_id: text(b.dbi_resource_id()),
        source_arn: text(b.db_instance_arn()),
        kind: kind(here, from.as_ref(), &status),
        source_region: from.unwrap_or_else(|| here.clone()),
        status: Status::new(status),
        window: window(b.restore_window()),
        retention_days: number(b.backup_retention_period()).unwrap_or(0),
        size_gib: number(b.allocated_storage()),
        engine_version: text(b.engine_version()),
        encrypted: b.encrypted().unwrap_or(false),
        key: b.kms_key_id().map(str::to_string),
        source_created: when(b.instance_create_time()),
        vpc: b.vpc_id().map(str::to_string),
        option_group: b.option_group_name().map(str::to_string),
        port: number(b.port()),
        replicas: b
            .db_instance_automated_backups_replications()
            .iter()
            .filter_map(|r| r.db_instance_automated_backups_arn())
            .map(str::to_string)
            .collect(),
        recovery_point: b.aws_backup_recovery_point_arn().map(str::to_string),
        tags: rds_tags(b.tag_list()),
    })
}

fn of_cluster(here: &Region, b: &DbClusterAutomatedBackup) -> Option<AutomatedBackup> {
    let engine = Engine::of_name(b.engine()?, true)?;
    let from = b.db_cluster_arn().and_then(arn_region).or_else(|| b.region()?.parse().ok());
    let status = text(b.status());
    Some(AutomatedBackup {
        at: Source::new(engine, here.clone(), b.db_cluster_identifier()?).ok()?,
        arn: b.db_cluster_automated_backups_arn().map(str::to_string),
        resource_id: text(b.db_cluster_resource_id()),
        source_arn: text(b.db_cluster_arn()),
        kind: kind(here, from.as_ref(), &status),
        source_region: from.unwrap_or_else(|| here.clone()),
        status: Status::new(status),
        window: window(b.restore_window()),
        retention_days: number(b.backup_retention_period()).unwrap_or(0),
        size_gib: number(b.allocated_storage()),
        engine_version: text(b.engine_version()),
        encrypted: b.storage_encrypted().unwrap_or(false),
        key: b.kms_key_id().map(str::to_string),
        source_created: when(b.cluster_create_time()),
        vpc: b.vpc_id().map(str::to_string),
        option_group: None,
        port: number(b.port()),
        replicas: Vec::new(),
        recovery_point: b.aws_backup_recovery_point_arn().map(str::to_string),
        tags: rds_tags(b.tag_list()),
    })
}

/// The automated backups of instances: of one, or of all.
pub(crate) async fn instance_backups(
    cloud: &AwsCloud,
    region: &Region,
    resource_id: Option<&str>,
) -> Result<Vec<AutomatedBackup>> {
    let on =
        On::new(act::DESCRIBE_INSTANCE_AUTOMATED, region, resource_id.unwrap_or("all automated backups"));
    let pages = cloud
        .rds(region)
        .describe_db_instance_automated_backups()
        .set_dbi_resource_id(resource_id.map(str::to_string))
        .into_paginator()
        .page_size(PAGE)
        .items()
        .send();
    match cloud.read(on, pages.try_collect()).await {
        Ok(all) => Ok(all.iter().filter_map(|b| of_instance(region, b)).collect()),
        Err(e) if e.is_not_found() => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

#[async_trait]
impl AutomatedBackups for AwsCloud {
    async fn automated_backups(&self, engine: Engine, region: &Region) -> Result<Vec<AutomatedBackup>> {
        match engine {
            Engine::Rds => instance_backups(self, region, None).await,
            Engine::Aurora => {
                let on = On::new(act::DESCRIBE_CLUSTER_AUTOMATED, region, "all automated backups");
                let pages = self
                    .rds(region)
                    .describe_db_cluster_automated_backups()
                    .into_paginator()
                    .page_size(PAGE)
                    .items()
                    .send();
                let all = self.read(on, pages.try_collect()).await?;
                let ours = all.iter().filter_map(|b| of_cluster(region, b));
                Ok(ours.filter(|b| b.at.engine == engine).collect())
            }
            Engine::DocumentDb => Ok(Vec::new()),
        }
    }

    async fn start_replication(&self, replication: &Replication) -> Result<AutomatedBackup> {
        let on = On::new(act::START_REPLICATION, &replication.to, &replication.source_arn);
        let mut call = self
            .rds(&replication.to)
            .start_db_instance_automated_backups_replication()
            .source_db_instance_arn(&replication.source_arn)
            .set_backup_retention_period(signed(Some(replication.retention_days)))
            .set_kms_key_id(replication.key.clone())
            .set_tags(to_rds_tags(&replication.tags));
        if let Some(from) = arn_region(&replication.source_arn).filter(needs_presigned) {
            call = call.pre_signed_url(self.presigned_replication(on, replication, &from).await?);
        }
        match self.change(on, None, call.send()).await {
            Ok(reply) => reply
                .db_instance_automated_backup()
                .and_then(|b| of_instance(&replication.to, b))
                .ok_or_else(|| on.incomplete("automated backup")),
            // It runs already: AWS says so as a taken name, or as a state.
            Err(e) if e.kind == ErrorKind::AlreadyExists || e.is_wrong_state() => {
                let all = instance_backups(self, &replication.to, None).await?;
                // What an earlier replication left is no replication.
                let goes_on = |b: &AutomatedBackup| {
                    b.source_arn == replication.source_arn && b.status.as_str() != "retained"
                };
                let found = all.into_iter().find(goes_on);
                match found {
                    Some(b) => {
                        self.record(
                            on,
                            None,
                            e.request_id.clone(),
                            holdfast_core::managed::Outcome::Adopted,
                        )?;
                        Ok(b)
                    }
                    None => Err(e),
                }
            }
            Err(e) => Err(e),
        }
    }

    async fn stop_replication(&self, source_arn: &str, to: &Region) -> Result<()> {
        let on = On::new(act::STOP_REPLICATION, to, source_arn);
        let call =
            self.rds(to).stop_db_instance_automated_backups_replication().source_db_instance_arn(source_arn);
        self.removal(on, call.send()).await
    }

    async fn delete_automated_backup(&self, backup: &AutomatedBackup) -> Result<()> {
        let region = &backup.at.region;
        match backup.at.engine {
            Engine::Rds => {
                let on = On::new(act::DELETE_INSTANCE_AUTOMATED, region, &backup.resource_id);
                let call = self.rds(region).delete_db_instance_automated_backup();
                // One of the two names it; the ARN is certain where a replica has its source's resource id.
                let call = match &backup.arn {
                    Some(arn) => call.db_instance_automated_backups_arn(arn),
                    None => call.dbi_resource_id(&backup.resource_id),
                };
                self.removal(on, call.send()).await
            }
            Engine::Aurora => {
                let on = On::new(act::DELETE_CLUSTER_AUTOMATED, region, &backup.resource_id);
                let call = self
                    .rds(region)
                    .delete_db_cluster_automated_backup()
                    .db_cluster_resource_id(&backup.resource_id);
                self.removal(on, call.send()).await
            }
            Engine::DocumentDb => {
                let on = On::new(act::DELETE_CLUSTER_AUTOMATED, region, &backup.resource_id);
                Err(on.refuse(ErrorKind::InvalidRequest, "DocumentDB has no automated backups of its own"))
            }
        }
    }
}

/// Regions in which a request to another region must bring a signed URL (RDS API, `PreSignedUrl`).
pub(crate) fn needs_presigned(region: &Region) -> bool {
    region.as_str().starts_with("cn-") || region.as_str().starts_with("us-gov-")
}
