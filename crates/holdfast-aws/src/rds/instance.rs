//! Instances: from the SDK's shape to ours, and the calls on them.

use crate::actions as act;
use crate::call::On;
use crate::cloud::AwsCloud;
use crate::convert::{number, rds_tags, signed, text, to_rds_tags, when, window};
use aws_sdk_rds::types::{CloudwatchLogsExportConfiguration, DbInstance};
use holdfast_core::managed::{
    BackupSettings, Database, Deletion, Endpoint, Engine, FinalSnapshot, Instance, Modification, Region,
    Result, Source, Status, Storage,
};

/// An instance by itself, as a database. `None` for what Holdfast does not protect.
pub(crate) fn database(region: &Region, i: &DbInstance) -> Option<Database> {
    let id = i.db_instance_identifier()?;
    if i.db_cluster_identifier().is_some() {
        return None;
    }
    let engine = Engine::of_name(i.engine().unwrap_or_default(), false)?;
    let subnets = i.db_subnet_group();
    Some(Database {
        source: Source::new(engine, region.clone(), id).ok()?,
        resource_id: text(i.dbi_resource_id()),
        arn: text(i.db_instance_arn()),
        engine_name: text(i.engine()),
        engine_version: text(i.engine_version()),
        engine_mode: None,
        status: Status::new(text(i.db_instance_status())),
        created: when(i.instance_create_time()),
        endpoint: endpoint(i),
        reader: None,
        class: i.db_instance_class().map(str::to_string),
        storage: Storage {
            allocated_gib: number(i.allocated_storage()),
            max_allocated_gib: number(i.max_allocated_storage()),
            kind: i.storage_type().map(str::to_string),
            iops: number(i.iops()),
            throughput: number(i.storage_throughput()),
            encrypted: i.storage_encrypted().unwrap_or(false),
            key: i.kms_key_id().map(str::to_string),
        },
        multi_az: i.multi_az().unwrap_or(false),
        availability_zone: i.availability_zone().map(str::to_string),
        vpc: subnets.and_then(|g| g.vpc_id()).map(str::to_string),
        subnet_group: subnets.and_then(|g| g.db_subnet_group_name()).map(str::to_string),
        security_groups: groups(i.vpc_security_groups()),
        parameter_group: parameter_group(i),
        option_group: i
            .option_group_memberships()
            .first()
            .and_then(|g| g.option_group_name())
            .map(str::to_string),
        public: i.publicly_accessible().unwrap_or(false),
        port: number(i.endpoint().and_then(|e| e.port()).or(i.db_instance_port().filter(|p| *p != 0))),
        iam_auth: i.iam_database_authentication_enabled().unwrap_or(false),
        log_exports: i.enabled_cloudwatch_logs_exports().to_vec(),
        database_name: i.db_name().map(str::to_string),
        master_user: i.master_username().map(str::to_string),
        master_secret: i.master_user_secret().and_then(|s| s.secret_arn()).map(str::to_string),
        deletion_protection: i.deletion_protection().unwrap_or(false),
        scaling: None,
        members: Vec::new(),
        backup: BackupSettings {
            retention_days: number(i.backup_retention_period()).unwrap_or(0),
            window: i.preferred_backup_window().and_then(|w| w.parse().ok()),
            copy_tags: i.copy_tags_to_snapshot().unwrap_or(false),
            owned_by_aws_backup: i.aws_backup_recovery_point_arn().is_some(),
        },
        maintenance_window: i.preferred_maintenance_window().and_then(|w| w.parse().ok()),
        window: window(None, i.latest_restorable_time()),
        pending: pending(i),
        replica_of: i
            .read_replica_source_db_instance_identifier()
            .or(i.read_replica_source_db_cluster_identifier())
            .map(str::to_string),
        tags: rds_tags(i.tag_list()),
    })
}

/// An instance of a cluster.
pub(crate) fn member(i: &DbInstance) -> Instance {
    Instance {
        id: text(i.db_instance_identifier()),
        cluster: i.db_cluster_identifier().map(str::to_string),
        arn: text(i.db_instance_arn()),
        resource_id: text(i.dbi_resource_id()),
        status: Status::new(text(i.db_instance_status())),
        class: text(i.db_instance_class()),
        parameter_group: parameter_group(i),
        endpoint: endpoint(i),
        availability_zone: i.availability_zone().map(str::to_string),
        public: i.publicly_accessible().unwrap_or(false),
        promotion_tier: number(i.promotion_tier()),
        tags: rds_tags(i.tag_list()),
    }
}

fn endpoint(i: &DbInstance) -> Option<Endpoint> {
    let e = i.endpoint()?;
    Some(Endpoint { host: e.address()?.to_string(), port: number(e.port())? })
}

fn parameter_group(i: &DbInstance) -> Option<String> {
    i.db_parameter_groups().first().and_then(|g| g.db_parameter_group_name()).map(str::to_string)
}

pub(crate) fn groups(of: &[aws_sdk_rds::types::VpcSecurityGroupMembership]) -> Vec<String> {
    of.iter().filter_map(|g| g.vpc_security_group_id()).map(str::to_string).collect()
}

fn pending(i: &DbInstance) -> Vec<String> {
    let Some(p) = i.pending_modified_values() else { return Vec::new() };
    let set = [
        ("class", p.db_instance_class().is_some()),
        ("allocated storage", p.allocated_storage().is_some()),
        ("port", p.port().is_some()),
        ("backup retention", p.backup_retention_period().is_some()),
        ("multi-az", p.multi_az().is_some()),
        ("engine version", p.engine_version().is_some()),
        ("iops", p.iops().is_some()),
        ("identifier", p.db_instance_identifier().is_some()),
        ("storage type", p.storage_type().is_some()),
        ("certificate", p.ca_certificate_identifier().is_some()),
        ("password", p.master_user_password().is_some()),
    ];
    set.iter().filter(|(_, is)| *is).map(|(name, _)| (*name).to_string()).collect()
}

/// Which log exports to turn on and off.
pub(crate) fn exports(want: &[String], have: &[String]) -> CloudwatchLogsExportConfiguration {
    let missing = |from: &[String], of: &[String]| -> Vec<String> {
        of.iter().filter(|l| !from.contains(l)).cloned().collect()
    };
    CloudwatchLogsExportConfiguration::builder()
        .set_enable_log_types(Some(missing(have, want)))
        .set_disable_log_types(Some(missing(want, have)))
        .build()
}

impl AwsCloud {
    pub(crate) async fn raw_instance(&self, region: &Region, id: &str) -> Result<DbInstance> {
        let on = On::new(act::DESCRIBE_INSTANCES, region, id);
        let look = || async {
            let call = self.rds(region).describe_db_instances().db_instance_identifier(id).send();
            let reply = self.read(on, call).await?;
            let first = reply.db_instances.unwrap_or_default().into_iter().next();
            first.ok_or_else(|| on.refuse(holdfast_core::managed::ErrorKind::NotFound, ""))
        };
        self.patiently(&instance_key(region, id), look).await
    }

    pub(crate) async fn describe_instance(&self, source: &Source) -> Result<Database> {
        let raw = self.raw_instance(&source.region, &source.id).await?;
        let on = On::new(act::DESCRIBE_INSTANCES, &source.region, &source.id);
        let mut found = database(&source.region, &raw).ok_or_else(|| {
            let engine = raw.engine().unwrap_or_default();
            on.refuse(
                holdfast_core::managed::ErrorKind::InvalidRequest,
                format!("this is an instance of `{engine}`, not an RDS instance for PostgreSQL"),
            )
        })?;
        // Instances do not say where their window begins; their automated backups do.
        if found.window.is_some() {
            let backups =
                crate::rds::instance_backups(self, &source.region, Some(&found.resource_id)).await?;
            join_window(&mut found, &backups);
        }
        Ok(found)
    }

    pub(crate) async fn modify_instance(&self, source: &Source, change: &Modification) -> Result<Database> {
        let on = On::new(act::MODIFY_INSTANCE, &source.region, &source.id);
        let logs = match &change.log_exports {
            Some(want) => {
                let now = self.raw_instance(&source.region, &source.id).await?;
                Some(exports(want, now.enabled_cloudwatch_logs_exports()))
            }
            None => None,
        };
        // Backups that are turned on or off wait for the maintenance window otherwise; other numbers of days do not.
        let crosses_zero = match change.retention_days {
            None => false,
            Some(0) => true,
            Some(_) => {
                let now = self.raw_instance(&source.region, &source.id).await?;
                now.backup_retention_period() == Some(0)
            }
        };
        let call = self
            .rds(&source.region)
            .modify_db_instance()
            .db_instance_identifier(&source.id)
            .apply_immediately(crosses_zero || waits_otherwise(change))
            .set_backup_retention_period(signed(change.retention_days))
            .set_preferred_backup_window(change.backup_window.map(|w| w.to_string()))
            .set_preferred_maintenance_window(change.maintenance_window.map(|w| w.to_string()))
            .set_copy_tags_to_snapshot(change.copy_tags)
            .set_deletion_protection(change.deletion_protection)
            .set_new_db_instance_identifier(change.new_id.clone())
            .set_vpc_security_group_ids(change.security_groups.clone())
            .set_db_parameter_group_name(change.parameter_group.clone())
            .set_option_group_name(change.option_group.clone())
            .set_db_instance_class(change.class.clone())
            .set_multi_az(change.multi_az)
            .set_cloudwatch_logs_export_configuration(logs)
            .set_master_user_password(password(change));
        let reply = self.change(on, None, call.send()).await?;
        let raw = reply.db_instance().ok_or_else(|| on.incomplete("instance"))?;
        database(&source.region, raw).ok_or_else(|| on.incomplete("instance for PostgreSQL"))
    }

    pub(crate) async fn remove_instance(
        &self,
        region: &Region,
        id: &str,
        how: Option<&Deletion>,
    ) -> Result<()> {
        let on = On::new(act::DELETE_INSTANCE, region, id);
        self.fresh.forget(&instance_key(region, id));
        let mut call = self.rds(region).delete_db_instance().db_instance_identifier(id);
        // Members of a cluster have neither final snapshots nor automated backups of their own.
        call = match how.map(|h| (&h.final_snapshot, h.delete_automated_backups)) {
            Some((FinalSnapshot::Named(name), delete)) => call
                .final_db_snapshot_identifier(name)
                .skip_final_snapshot(false)
                .delete_automated_backups(delete),
            Some((FinalSnapshot::Skip, delete)) => {
                call.skip_final_snapshot(true).delete_automated_backups(delete)
            }
            None => call.skip_final_snapshot(true),
        };
        match self.removal(on, call.send()).await {
            Err(e) if e.is_wrong_state() => match self.raw_instance(region, id).await {
                Ok(i) if i.db_instance_status() == Some("deleting") => Ok(()),
                Err(gone) if gone.is_not_found() => Ok(()),
                _ => Err(e),
            },
            other => other,
        }
    }

    pub(crate) async fn make_member(
        &self,
        cluster: &Source,
        new: &holdfast_core::managed::NewInstance,
        op: &holdfast_core::managed::Operation,
    ) -> Result<Instance> {
        let on = On::new(act::CREATE_INSTANCE, &cluster.region, &new.id);
        let engine = if cluster.engine == Engine::DocumentDb { "docdb" } else { "aurora-postgresql" };
        let call = self
            .rds(&cluster.region)
            .create_db_instance()
            .db_instance_identifier(&new.id)
            .db_cluster_identifier(&cluster.id)
            .engine(engine)
            .db_instance_class(&new.class)
            .set_db_parameter_group_name(new.parameter_group.clone())
            .set_availability_zone(new.availability_zone.clone())
            .set_publicly_accessible(new.public)
            .set_promotion_tier(signed(new.promotion_tier))
            .set_tags(to_rds_tags(&crate::convert::stamped(&new.tags, op)));
        let key = instance_key(&cluster.region, &new.id);
        match self.change(on, Some(op), call.send()).await {
            Ok(reply) => {
                self.fresh.note(key);
                Ok(member(reply.db_instance().ok_or_else(|| on.incomplete("instance"))?))
            }
            Err(e) if e.kind == holdfast_core::managed::ErrorKind::AlreadyExists => {
                self.fresh.note(key);
                let found = self.raw_instance(&cluster.region, &new.id).await.map(|i| member(&i));
                self.adopt(on, op, e, found, |i| &i.tags)
            }
            Err(e) => Err(e),
        }
    }
}

pub(crate) fn instance_key(region: &Region, id: &str) -> String {
    format!("instance/{region}/{id}")
}

/// Whether it would wait for the maintenance window if it were not asked for at once. Whatever else waits for that
/// window comes into force by such a call, too: "all changes in the pending modifications queue" (RDS user guide,
/// "Using the schedule modifications setting"). So what AWS applies soon anyway is not asked for at once.
pub(crate) fn waits_otherwise(change: &Modification) -> bool {
    let Modification {
        retention_days: _,
        backup_window: _,
        maintenance_window: _,
        copy_tags: _,
        deletion_protection: _,
        log_exports: _,
        new_id,
        security_groups,
        parameter_group,
        option_group,
        class,
        multi_az,
        scaling,
        master_password,
    } = change;
    new_id.is_some()
        || security_groups.is_some()
        || parameter_group.is_some()
        || option_group.is_some()
        || class.is_some()
        || multi_az.is_some()
        || scaling.is_some()
        || master_password.is_some()
}

pub(crate) fn password(change: &Modification) -> Option<String> {
    let secret = change.master_password.as_ref()?;
    String::from_utf8(secret.expose_bytes().to_vec()).ok()
}

/// Puts the beginning of the window, which only the automated backup knows, into the instance.
pub(crate) fn join_window(found: &mut Database, backups: &[holdfast_core::managed::AutomatedBackup]) {
    let own = backups.iter().find(|b| {
        b.resource_id == found.resource_id && b.kind == holdfast_core::managed::AutomatedKind::Live
    });
    if let (Some(window), Some(known)) = (&mut found.window, own.and_then(|b| b.window)) {
        window.earliest = known.earliest;
    }
}
