//! Clusters of Aurora and DocumentDB: from the SDK's shape to ours, and the calls on them.

use super::instance::{exports, groups, password, waits_otherwise};
use crate::actions as act;
use crate::call::On;
use crate::cloud::AwsCloud;
use crate::convert::{number, rds_tags, signed, text, when, window};
use aws_sdk_rds::types::{DbCluster, ServerlessV2ScalingConfiguration};
use holdfast_core::managed::{
    BackupSettings, Database, Deletion, Endpoint, Engine, ErrorKind, FinalSnapshot, Member, Modification,
    Region, Result, Scaling, Source, Status, Storage, Tags,
};

/// `None` for what Holdfast does not protect.
pub(crate) fn database(region: &Region, c: &DbCluster) -> Option<Database> {
    let engine = Engine::of_name(c.engine()?, true)?;
    let port = number(c.port());
    Some(Database {
        source: Source::new(engine, region.clone(), c.db_cluster_identifier()?).ok()?,
        resource_id: text(c.db_cluster_resource_id()),
        arn: text(c.db_cluster_arn()),
        engine_name: text(c.engine()),
        engine_version: text(c.engine_version()),
        engine_mode: c.engine_mode().map(str::to_string),
        status: Status::new(text(c.status())),
        created: when(c.cluster_create_time()),
        endpoint: c.endpoint().zip(port).map(|(host, port)| Endpoint { host: host.to_string(), port }),
        reader: c.reader_endpoint().map(str::to_string),
        class: None,
        storage: Storage {
            allocated_gib: number(c.allocated_storage()),
            max_allocated_gib: None,
            kind: c.storage_type().map(str::to_string),
            iops: number(c.iops()),
            throughput: number(c.storage_throughput()),
            encrypted: c.storage_encrypted().unwrap_or(false),
            key: c.kms_key_id().map(str::to_string),
        },
        multi_az: c.multi_az().unwrap_or(false),
        availability_zone: None,
        vpc: None,
        subnet_group: c.db_subnet_group().map(str::to_string),
        security_groups: groups(c.vpc_security_groups()),
        parameter_group: c.db_cluster_parameter_group().map(str::to_string),
        option_group: None,
        public: c.publicly_accessible().unwrap_or(false),
        port,
        iam_auth: c.iam_database_authentication_enabled().unwrap_or(false),
        log_exports: c.enabled_cloudwatch_logs_exports().to_vec(),
        database_name: c.database_name().map(str::to_string),
        master_user: c.master_username().map(str::to_string),
        master_secret: c.master_user_secret().and_then(|s| s.secret_arn()).map(str::to_string),
        deletion_protection: c.deletion_protection().unwrap_or(false),
        scaling: c.serverless_v2_scaling_configuration().and_then(|s| {
            Some(Scaling {
                min: s.min_capacity()?,
                max: s.max_capacity()?,
                pause_after: number(s.seconds_until_auto_pause()),
            })
        }),
        members: c
            .db_cluster_members()
            .iter()
            .map(|m| Member {
                id: text(m.db_instance_identifier()),
                writer: m.is_cluster_writer().unwrap_or(false),
                promotion_tier: number(m.promotion_tier()),
            })
            .collect(),
        backup: BackupSettings {
            retention_days: number(c.backup_retention_period()).unwrap_or(0),
            window: c.preferred_backup_window().and_then(|w| w.parse().ok()),
            // DocumentDB always copies them and does not say so.
            copy_tags: c.copy_tags_to_snapshot().unwrap_or(engine == Engine::DocumentDb),
            owned_by_aws_backup: c.aws_backup_recovery_point_arn().is_some(),
        },
        maintenance_window: c.preferred_maintenance_window().and_then(|w| w.parse().ok()),
        window: window(c.earliest_restorable_time(), c.latest_restorable_time()),
        pending: pending(c),
        replica_of: c.replication_source_identifier().or(c.global_cluster_identifier()).map(str::to_string),
        tags: rds_tags(c.tag_list()),
    })
}

fn pending(c: &DbCluster) -> Vec<String> {
    let Some(p) = c.pending_modified_values() else { return Vec::new() };
    let set = [
        ("identifier", p.db_cluster_identifier().is_some()),
        ("password", p.master_user_password().is_some()),
        ("engine version", p.engine_version().is_some()),
        ("backup retention", p.backup_retention_period().is_some()),
        ("storage type", p.storage_type().is_some()),
        ("allocated storage", p.allocated_storage().is_some()),
    ];
    set.iter().filter(|(_, is)| *is).map(|(name, _)| (*name).to_string()).collect()
}

pub(crate) fn scaling(s: Option<Scaling>) -> Option<ServerlessV2ScalingConfiguration> {
    s.map(|s| {
        ServerlessV2ScalingConfiguration::builder()
            .min_capacity(s.min)
            .max_capacity(s.max)
            .set_seconds_until_auto_pause(signed(s.pause_after))
            .build()
    })
}

pub(crate) fn cluster_key(region: &Region, id: &str) -> String {
    format!("cluster/{region}/{id}")
}

impl AwsCloud {
    pub(crate) async fn raw_cluster(&self, region: &Region, id: &str) -> Result<DbCluster> {
        let on = On::new(act::DESCRIBE_CLUSTERS, region, id);
        let look = || async {
            let call = self.rds(region).describe_db_clusters().db_cluster_identifier(id).send();
            let reply = self.read(on, call).await?;
            let first = reply.db_clusters.unwrap_or_default().into_iter().next();
            first.ok_or_else(|| on.refuse(ErrorKind::NotFound, ""))
        };
        self.patiently(&cluster_key(region, id), look).await
    }

    pub(crate) async fn describe_cluster(&self, source: &Source) -> Result<Database> {
        let raw = self.raw_cluster(&source.region, &source.id).await?;
        let on = On::new(act::DESCRIBE_CLUSTERS, &source.region, &source.id);
        let found = database(&source.region, &raw).filter(|d| d.source.engine == source.engine);
        let mut found = found.ok_or_else(|| {
            let said = format!("this is a cluster of `{}`", raw.engine().unwrap_or_default());
            on.refuse(ErrorKind::InvalidRequest, said)
        })?;
        found.tags = self.tags_if_absent(&source.region, &found.arn, raw.tag_list, found.tags).await?;
        if let Some(name) = &found.subnet_group {
            found.vpc = self.vpc_if_known(&source.region, name).await?;
        }
        Ok(found)
    }

    /// The tags in an answer; asked for, if the answer leaves them out (DocumentDB's may).
    pub(crate) async fn tags_if_absent(
        &self,
        region: &Region,
        arn: &str,
        list: Option<Vec<aws_sdk_rds::types::Tag>>,
        known: Tags,
    ) -> Result<Tags> {
        match list {
            None if !arn.is_empty() => self.rds_tags_of(region, arn).await,
            _ => Ok(known),
        }
    }

    pub(crate) async fn modify_cluster(&self, source: &Source, change: &Modification) -> Result<Database> {
        let on = On::new(act::MODIFY_CLUSTER, &source.region, &source.id);
        let logs = match &change.log_exports {
            Some(want) => {
                let now = self.raw_cluster(&source.region, &source.id).await?;
                Some(exports(want, now.enabled_cloudwatch_logs_exports()))
            }
            None => None,
        };
        let call = self
            .rds(&source.region)
            .modify_db_cluster()
            .db_cluster_identifier(&source.id)
            .apply_immediately(waits_otherwise(change))
            .set_backup_retention_period(signed(change.retention_days))
            .set_preferred_backup_window(change.backup_window.map(|w| w.to_string()))
            .set_preferred_maintenance_window(change.maintenance_window.map(|w| w.to_string()))
            .set_copy_tags_to_snapshot(change.copy_tags.filter(|_| source.engine == Engine::Aurora))
            .set_deletion_protection(change.deletion_protection)
            .set_new_db_cluster_identifier(change.new_id.clone())
            .set_vpc_security_group_ids(change.security_groups.clone())
            .set_db_cluster_parameter_group_name(change.parameter_group.clone())
            .set_serverless_v2_scaling_configuration(scaling(change.scaling))
            .set_cloudwatch_logs_export_configuration(logs)
            .set_master_user_password(password(change));
        let reply = self.change(on, None, call.send()).await?;
        let raw = reply.db_cluster().ok_or_else(|| on.incomplete("cluster"))?;
        database(&source.region, raw).ok_or_else(|| on.incomplete("cluster of a known engine"))
    }

    pub(crate) async fn remove_cluster(&self, source: &Source, how: &Deletion) -> Result<()> {
        let on = On::new(act::DELETE_CLUSTER, &source.region, &source.id);
        self.fresh.forget(&cluster_key(&source.region, &source.id));
        let mut call = self.rds(&source.region).delete_db_cluster().db_cluster_identifier(&source.id);
        call = match &how.final_snapshot {
            FinalSnapshot::Named(name) => call.final_db_snapshot_identifier(name).skip_final_snapshot(false),
            FinalSnapshot::Skip => call.skip_final_snapshot(true),
        };
        if source.engine == Engine::Aurora {
            call = call.delete_automated_backups(how.delete_automated_backups);
        }
        match self.removal(on, call.send()).await {
            Err(e) if e.is_wrong_state() => match self.raw_cluster(&source.region, &source.id).await {
                Ok(c) if c.status() == Some("deleting") => Ok(()),
                Err(gone) if gone.is_not_found() => Ok(()),
                _ => Err(e),
            },
            other => other,
        }
    }
}
