//! [`Restores`]: a new instance or cluster from a snapshot or a second.

use super::{cluster, instance};
use crate::actions as act;
use crate::call::On;
use crate::cloud::AwsCloud;
use crate::convert::{seconds, signed, stamped, to_rds_tags};
use async_trait::async_trait;
use aws_smithy_types::DateTime;
use holdfast_core::managed::{
    Database, ErrorKind, Moment, Operation, RestoreFrom, RestoreTarget, Restores, Result, Tags, tags,
};

/// `UseLatestRestorableTime` and `RestoreTime`: one of them.
fn moment(m: Moment) -> (Option<bool>, Option<DateTime>) {
    match m {
        Moment::Latest => (Some(true), None),
        Moment::At(t) => (None, Some(seconds(t))),
    }
}

fn some(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// The tags of a restored database: they say which one it is, so that what inherits them is not taken for ours.
fn made(t: &RestoreTarget, op: &Operation) -> Tags {
    stamped(&t.tags, op).with(tags::MADE, &tags::database_mark(&t.source))
}

#[async_trait]
impl Restores for AwsCloud {
    async fn restore(&self, from: &RestoreFrom, target: &RestoreTarget, op: &Operation) -> Result<Database> {
        let source = &target.source;
        let (key, action) = match (source.engine.is_cluster(), from) {
            (false, RestoreFrom::Snapshot(_)) => {
                (instance::instance_key(&source.region, &source.id), act::RESTORE_INSTANCE_SNAPSHOT)
            }
            (false, _) => (instance::instance_key(&source.region, &source.id), act::RESTORE_INSTANCE_TIME),
            (true, RestoreFrom::Snapshot(_)) => {
                (cluster::cluster_key(&source.region, &source.id), act::RESTORE_CLUSTER_SNAPSHOT)
            }
            (true, _) => (cluster::cluster_key(&source.region, &source.id), act::RESTORE_CLUSTER_TIME),
        };
        let on = On::new(action, &source.region, &source.id);
        let made = match (source.engine.is_cluster(), from) {
            (false, RestoreFrom::Snapshot(at)) => self.instance_from_snapshot(on, &at.id, target, op).await,
            (false, _) => self.instance_to_time(on, from, target, op).await,
            (true, RestoreFrom::Snapshot(at)) => self.cluster_from_snapshot(on, &at.id, target, op).await,
            (true, _) => self.cluster_to_time(on, from, target, op).await,
        };
        match made {
            Ok(Some(database)) => {
                self.fresh.note(key);
                Ok(database)
            }
            Ok(None) => Err(on.incomplete("database")),
            Err(e) if e.kind == ErrorKind::AlreadyExists => {
                self.fresh.note(key);
                let found = if source.engine.is_cluster() {
                    self.describe_cluster(source).await
                } else {
                    self.describe_instance(source).await
                };
                self.adopt(on, op, e, found, |d| &d.tags)
            }
            Err(e) => Err(e),
        }
    }
}

impl AwsCloud {
    async fn instance_from_snapshot(
        &self,
        on: On<'_>,
        snapshot: &str,
        t: &RestoreTarget,
        op: &Operation,
    ) -> Result<Option<Database>> {
        let call = self
            .rds(&t.source.region)
            .restore_db_instance_from_db_snapshot()
            .db_instance_identifier(&t.source.id)
            .db_snapshot_identifier(snapshot)
            .set_db_instance_class(t.class.clone())
            .set_db_subnet_group_name(t.subnet_group.clone())
            .set_vpc_security_group_ids(some(&t.security_groups))
            .set_db_parameter_group_name(t.parameter_group.clone())
            .set_option_group_name(t.option_group.clone())
            .set_multi_az(t.multi_az)
            .set_availability_zone(t.availability_zone.clone())
            .set_publicly_accessible(t.public)
            .set_port(signed(t.port))
            .set_storage_type(t.storage_kind.clone())
            .set_allocated_storage(signed(t.allocated_gib))
            .set_iops(signed(t.iops))
            .set_storage_throughput(signed(t.throughput))
            .set_enable_iam_database_authentication(t.iam_auth)
            .set_enable_cloudwatch_logs_exports(some(&t.log_exports))
            .set_copy_tags_to_snapshot(t.copy_tags)
            .deletion_protection(t.deletion_protection)
            .set_tags(to_rds_tags(&made(t, op)));
        let reply = self.change(on, Some(op), call.send()).await?;
        Ok(reply.db_instance().and_then(|i| instance::database(&t.source.region, i)))
    }

    async fn instance_to_time(
        &self,
        on: On<'_>,
        from: &RestoreFrom,
        t: &RestoreTarget,
        op: &Operation,
    ) -> Result<Option<Database>> {
        let mut call = self
            .rds(&t.source.region)
            .restore_db_instance_to_point_in_time()
            .target_db_instance_identifier(&t.source.id)
            .set_db_instance_class(t.class.clone())
            .set_db_subnet_group_name(t.subnet_group.clone())
            .set_vpc_security_group_ids(some(&t.security_groups))
            .set_db_parameter_group_name(t.parameter_group.clone())
            .set_option_group_name(t.option_group.clone())
            .set_multi_az(t.multi_az)
            .set_availability_zone(t.availability_zone.clone())
            .set_publicly_accessible(t.public)
            .set_port(signed(t.port))
            .set_storage_type(t.storage_kind.clone())
            .set_allocated_storage(signed(t.allocated_gib))
            .set_iops(signed(t.iops))
            .set_storage_throughput(signed(t.throughput))
            .set_enable_iam_database_authentication(t.iam_auth)
            .set_enable_cloudwatch_logs_exports(some(&t.log_exports))
            .set_copy_tags_to_snapshot(t.copy_tags)
            .deletion_protection(t.deletion_protection)
            .set_tags(to_rds_tags(&made(t, op)));
        call = match from {
            RestoreFrom::Live { id, .. } => call.source_db_instance_identifier(id),
            RestoreFrom::Resource { resource_id, .. } => call.source_dbi_resource_id(resource_id),
            RestoreFrom::Automated { arn, .. } => call.source_db_instance_automated_backups_arn(arn),
            RestoreFrom::Snapshot(_) => call,
        };
        if let Some(m) = from.moment() {
            let (latest, at) = moment(m);
            call = call.set_use_latest_restorable_time(latest).set_restore_time(at);
        }
        let reply = self.change(on, Some(op), call.send()).await?;
        Ok(reply.db_instance().and_then(|i| instance::database(&t.source.region, i)))
    }

    async fn cluster_from_snapshot(
        &self,
        on: On<'_>,
        snapshot: &str,
        t: &RestoreTarget,
        op: &Operation,
    ) -> Result<Option<Database>> {
        let call = self
            .rds(&t.source.region)
            .restore_db_cluster_from_snapshot()
            .db_cluster_identifier(&t.source.id)
            .snapshot_identifier(snapshot)
            .engine(&t.engine_name)
            .set_engine_version(t.engine_version.clone())
            .set_db_subnet_group_name(t.subnet_group.clone())
            .set_vpc_security_group_ids(some(&t.security_groups))
            .set_db_cluster_parameter_group_name(t.parameter_group.clone())
            .set_port(signed(t.port))
            .set_storage_type(cluster_storage(t))
            .set_kms_key_id(t.key.clone())
            .set_enable_iam_database_authentication(t.iam_auth)
            .set_enable_cloudwatch_logs_exports(some(&t.log_exports))
            .set_copy_tags_to_snapshot(t.copy_tags)
            .set_serverless_v2_scaling_configuration(cluster::scaling(t.scaling))
            .deletion_protection(t.deletion_protection)
            .set_tags(to_rds_tags(&made(t, op)));
        let reply = self.change(on, Some(op), call.send()).await?;
        Ok(reply.db_cluster().and_then(|c| cluster::database(&t.source.region, c)))
    }

    async fn cluster_to_time(
        &self,
        on: On<'_>,
        from: &RestoreFrom,
        t: &RestoreTarget,
        op: &Operation,
    ) -> Result<Option<Database>> {
        // DocumentDB's restore to a time has no parameter group: `RestoreTarget::remainder` brings it.
        let group = t.parameter_group.clone().filter(|_| t.remainder(from).parameter_group.is_none());
        let mut call = self
            .rds(&t.source.region)
            .restore_db_cluster_to_point_in_time()
            .db_cluster_identifier(&t.source.id)
            .set_db_subnet_group_name(t.subnet_group.clone())
            .set_vpc_security_group_ids(some(&t.security_groups))
            .set_db_cluster_parameter_group_name(group)
            .set_port(signed(t.port))
            .set_storage_type(cluster_storage(t))
            .set_kms_key_id(t.key.clone())
            .set_enable_iam_database_authentication(t.iam_auth)
            .set_enable_cloudwatch_logs_exports(some(&t.log_exports))
            .set_copy_tags_to_snapshot(t.copy_tags)
            .set_serverless_v2_scaling_configuration(cluster::scaling(t.scaling))
            .deletion_protection(t.deletion_protection)
            .set_tags(to_rds_tags(&made(t, op)));
        call = match from {
            RestoreFrom::Live { id, .. } => call.source_db_cluster_identifier(id),
            RestoreFrom::Resource { resource_id, .. } => call.source_db_cluster_resource_id(resource_id),
            RestoreFrom::Automated { .. } => {
                let said = "clusters are restored by resource id: their automated backups have no ARN to restore from";
                return Err(on.refuse(ErrorKind::InvalidRequest, said));
            }
            RestoreFrom::Snapshot(_) => call,
        };
        if let Some(m) = from.moment() {
            let (latest, at) = moment(m);
            call = call.set_use_latest_restorable_time(latest).set_restore_to_time(at);
        }
        let reply = self.change(on, Some(op), call.send()).await?;
        Ok(reply.db_cluster().and_then(|c| cluster::database(&t.source.region, c)))
    }
}

/// A cluster's storage type is given only where it is not the usual one.
fn cluster_storage(t: &RestoreTarget) -> Option<String> {
    t.storage_kind.clone().filter(|k| k.ends_with("iopt1"))
}
