"""DB instances: create, describe, modify, delete, start, stop, reboot.

Rules (provider-rules 5b, X16, X17, X26, X32): states (creating, backing-up, available, modifying,
renaming, deleting, ...) are walked through; changes need `available`; defaults are applied for
groups that are not named; storage never shrinks; deletion needs a final snapshot's name or the
explicit skip, respects deletion protection, and takes the automated backups along unless told not
to; settings owned by AWS Backup cannot be changed here.
"""

from .. import arns, keys, network, paging
from ..registry import action
from ..wire.errors import AwsError, combination, invalid
from . import automated, engines, events, filters, groups, settings
from .store import Resource, endpoint_name

FIRST_STAGES = ["creating", "creating", "backing-up"]


class Instance(Resource):
    def __init__(self, ctx, name, view, tags=()):
        super().__init__(ctx, "db", name, view, tags)
        self.resource_id = arns.resource_id("db-")
        self.cluster = None
        self.backup_point = None  # the AWS Backup point that owns the backup settings
        self.endpoint = None      # set by the control endpoint
        self.origin = None        # what it was restored from
        self.replications = []
        self.restored_to = None   # the second that a point-in-time restore went to
        self.port = None


def find(ctx, name):
    key = arns.local(name, "db", ctx.region, ctx.account, "DBInstanceNotFoundFault", "DBInstance")
    instance = ctx.rds.instances.get(key)
    if instance is None or instance.hidden:
        raise AwsError("DBInstanceNotFoundFault", f"DBInstance {key} not found.")
    return instance


def require_available(instance, what):
    if instance.status != "available":
        raise AwsError("InvalidDBInstanceStateFault", f"{what} because the database instance {instance.name} is not currently in the available state. (status: {instance.status})")


def check_new(ctx, name, member="DBInstanceIdentifier"):
    name = arns.identifier(name, member)
    if name in ctx.rds.instances:
        raise AwsError("DBInstanceAlreadyExistsFault", "DB instance already exists")
    if len(ctx.rds.instances) >= ctx.world.config.quotas["instances"]:
        raise AwsError("InstanceQuotaExceededFault", f"Cannot create more than {ctx.world.config.quotas['instances']} DB instances.")
    return name


def placement(ctx, p, view, engine, version):
    """Network, groups and switches, for creations and restores alike; what is not given gets AWS's
    default, never what the source had (X17)."""
    subnets = groups.subnet_group(ctx, p.get("DBSubnetGroupName"))
    zones = groups.zones(subnets)
    if p.get("MultiAZ") and p.get("AvailabilityZone"):
        raise combination("Requesting a specific availability zone is not valid for Multi-AZ instances.")
    zone = p.get("AvailabilityZone", zones[0])
    if zone not in zones:
        raise invalid(f"Invalid availability zone: {zone}")
    group = groups.parameter_group(ctx, p.get("DBParameterGroupName"), engines.family(engine, version))
    options = groups.option_group(ctx, p.get("OptionGroupName"), engine, engines.major(version))
    view.update({
        "DBSubnetGroup": subnets, "AvailabilityZone": zone, "MultiAZ": p.get("MultiAZ", False),
        "VpcSecurityGroups": network.security_groups(ctx, p.get("VpcSecurityGroupIds"), subnets["VpcId"]),
        "DBParameterGroups": [{"DBParameterGroupName": group, "ParameterApplyStatus": "in-sync"}],
        "OptionGroupMemberships": [{"OptionGroupName": options, "Status": "in-sync"}],
        "PubliclyAccessible": p.get("PubliclyAccessible", False),
        "AutoMinorVersionUpgrade": p.get("AutoMinorVersionUpgrade", True),
        "CopyTagsToSnapshot": p.get("CopyTagsToSnapshot", False),
        "DeletionProtection": p.get("DeletionProtection", False),
        "IAMDatabaseAuthenticationEnabled": p.get("EnableIAMDatabaseAuthentication", False),
        "DBSecurityGroups": [], "ReadReplicaDBInstanceIdentifiers": [], "PendingModifiedValues": {},
        "DbInstancePort": 0, "CACertificateIdentifier": "rds-ca-rsa2048-g1", "NetworkType": "IPV4", "BackupTarget": "region",
        "MonitoringInterval": 0, "PerformanceInsightsEnabled": p.get("EnablePerformanceInsights", False),
        "EnabledCloudwatchLogsExports": p.get("EnableCloudwatchLogsExports", []),
    })


def add(ctx, name, view, tags, kind="create", origin=None, on_ready=None, on_fail=None):
    """Put a new instance there; it becomes available, and its first automated backup is taken."""
    instance = Instance(ctx, name, view, tags)
    instance.origin = origin
    instance.port = view.pop("_port")
    view["InstanceCreateTime"] = None

    def done():
        view["InstanceCreateTime"] = ctx.now
        if view.get("BackupRetentionPeriod", 0) > 0 and instance.cluster is None:
            automated.start(ctx, instance)
        events.emit(ctx, "db-instance", instance, "DB instance created", ["creation"], ctx.now)
        if on_ready:
            on_ready()

    def failed(fault):
        instance.settled = (fault or {}).get("state", "failed")
        if on_fail:
            on_fail(fault)
    instance.operation = ctx.world.operation(kind, instance.arn, FIRST_STAGES, done, failed)
    instance.hidden = ctx.world.faults.invisible_for("instance", instance.arn)
    ctx.rds.instances[name] = instance
    return instance


def show(ctx, instance, status=None):
    view = {k: v for k, v in instance.view.items() if v is not None}
    status = status or instance.status
    view.update({
        "DBInstanceIdentifier": instance.name, "DBInstanceStatus": status, "DBInstanceArn": instance.arn,
        "DbiResourceId": instance.resource_id, "TagList": instance.tags,
    })
    if instance.view.get("InstanceCreateTime") is not None:
        # There is no endpoint before the instance is there.
        host, port = instance.endpoint or (endpoint_name(instance.region, instance.account, instance.name), instance.port)
        view["Endpoint"] = {"Address": host, "Port": port, "HostedZoneId": "Z2R2ITUGPM61AM"}
    if instance.cluster:
        view["DBClusterIdentifier"] = instance.cluster
    span = automated.window(ctx, instance)
    if span and instance.cluster is None:
        view["LatestRestorableTime"] = span[1]
    if instance.backup_point:
        view["AwsBackupRecoveryPointArn"] = instance.backup_point
    if instance.replications:
        view["DBInstanceAutomatedBackupsReplications"] = [{"DBInstanceAutomatedBackupsArn": a} for a in instance.replications]
    if instance.busy and status == "creating":
        view["PercentProgress"] = str(instance.operation.percent)
    return view


@action("rds", "CreateDBInstance")
def create(ctx, p):
    name = check_new(ctx, p["DBInstanceIdentifier"])
    engine = engines.engine(p["Engine"])
    tags = settings.tags(p.get("Tags"))
    if engine in engines.CLUSTER_ENGINES or p.get("DBClusterIdentifier"):
        return {"DBInstance": show(ctx, _member(ctx, name, engine, p, tags))}
    version = engines.version(engine, p.get("EngineVersion"))
    size = engines.instance_class(p["DBInstanceClass"], engine)
    storage_type = p.get("StorageType", "gp3")
    storage = settings.storage(p.get("AllocatedStorage"), engine, storage_type)
    master = settings.user(p)
    settings.password(p)
    days = settings.retention(p.get("BackupRetentionPeriod", 1), cluster=False)
    backup, maintenance = settings.windows(p.get("PreferredBackupWindow"), p.get("PreferredMaintenanceWindow"))
    view = {
        "Engine": engine, "EngineVersion": version, "DBInstanceClass": size, "AllocatedStorage": storage,
        "StorageType": storage_type, "MasterUsername": master, "DBName": p.get("DBName"), "BackupRetentionPeriod": days,
        "PreferredBackupWindow": backup, "PreferredMaintenanceWindow": maintenance, "LicenseModel": "postgresql-license",
        "Iops": p.get("Iops"), "MaxAllocatedStorage": p.get("MaxAllocatedStorage"), "_port": p.get("Port", engines.PORTS[engine]),
    }
    encrypt(ctx, p, view)
    placement(ctx, p, view, engine, version)
    return {"DBInstance": show(ctx, add(ctx, name, view, tags))}


def encrypt(ctx, p, view):
    if p.get("KmsKeyId") and not p.get("StorageEncrypted"):
        raise combination("KmsKeyId can only be specified when StorageEncrypted is true.")
    view["StorageEncrypted"] = p.get("StorageEncrypted", False)
    if view["StorageEncrypted"]:
        view["KmsKeyId"] = keys.resolve(ctx, p["KmsKeyId"]) if p.get("KmsKeyId") else keys.managed(ctx)
        keys.authorise(ctx, view["KmsKeyId"])


def _member(ctx, name, engine, p, tags):
    """An instance of an Aurora or DocumentDB cluster; storage, backups and users are the cluster's."""
    from . import clusters

    if not p.get("DBClusterIdentifier"):
        raise combination(f"The engine {engine} requires DBClusterIdentifier.")
    cluster = clusters.find(ctx, p["DBClusterIdentifier"])
    if cluster.status != "available":
        raise AwsError("InvalidDBClusterStateFault", f"Cannot create a DB instance in DB cluster {cluster.name}: its status is {cluster.status}, it must be available.")
    if cluster.view["Engine"] != engine:
        raise combination(f"The engine {engine} does not match the engine {cluster.view['Engine']} of the DB cluster.")
    if cluster.view.get("DBClusterInstanceClass"):
        raise combination("Instances of a Multi-AZ DB cluster are made with the cluster.")
    for member, label in (
        ("BackupRetentionPeriod", "backup retention period"), ("PreferredBackupWindow", "backup window"),
        ("MasterUsername", "master user name"), ("MasterUserPassword", "master user password"),
        ("AllocatedStorage", "allocated storage"), ("StorageEncrypted", "storage encryption"), ("VpcSecurityGroupIds", "VPC security groups"),
        ("DeletionProtection", "deletion protection"),
    ):
        if member in p:
            raise combination(f"The requested DB Instance will be a member of a DB Cluster. Set {label} for the DB Cluster.")
    version = cluster.view["EngineVersion"]
    size = engines.instance_class(p["DBInstanceClass"], engine)
    if size == "db.serverless" and not cluster.view.get("ServerlessV2ScalingConfiguration"):
        raise combination("Set the Serverless v2 scaling configuration on the parent DB cluster before creating a Serverless v2 DB instance.")
    if p.get("EngineVersion") and engines.version(engine, p["EngineVersion"]) != version:
        raise combination(f"The engine version of a member must be the cluster's, {version}.")
    return add_member(ctx, cluster, name, size, p, tags)


def add_member(ctx, cluster, name, size, p, tags):
    engine, version = cluster.view["Engine"], cluster.view["EngineVersion"]
    window = settings.windows(None, p.get("PreferredMaintenanceWindow"))[1]
    view = {
        "Engine": engine, "EngineVersion": version, "DBInstanceClass": size, "AllocatedStorage": 1,
        "StorageType": "aurora", "MasterUsername": cluster.view["MasterUsername"],
        "BackupRetentionPeriod": cluster.view["BackupRetentionPeriod"],
        "PreferredBackupWindow": cluster.view["PreferredBackupWindow"], "PreferredMaintenanceWindow": window,
        "LicenseModel": "postgresql-license", "StorageEncrypted": cluster.view["StorageEncrypted"],
        "KmsKeyId": cluster.view.get("KmsKeyId"), "PromotionTier": p.get("PromotionTier", 1),
        "_port": cluster.view["Port"],
    }
    own = {k: v for k, v in p.items() if k in ("AvailabilityZone", "DBParameterGroupName", "PubliclyAccessible", "CopyTagsToSnapshot")}
    own["DBSubnetGroupName"] = cluster.view["DBSubnetGroup"]
    own["VpcSecurityGroupIds"] = [g["VpcSecurityGroupId"] for g in cluster.view["VpcSecurityGroups"]]
    placement(ctx, own, view, engine, version)
    instance = add(ctx, name, view, tags, origin=cluster.origin)
    instance.cluster = cluster.name
    instance.endpoint = cluster.endpoint
    cluster.members.append(name)
    return instance


@action("rds", "DescribeDBInstances")
def describe(ctx, p):
    found = [i for i in ctx.rds.instances.values()]
    if p.get("DBInstanceIdentifier"):
        key = arns.local(p["DBInstanceIdentifier"], "db", ctx.region, ctx.account, "DBInstanceNotFoundFault", "DBInstance")
        found = [i for i in found if i.name == key]
        # The look that ends a rename finds nothing under the old name any more.
        if not found or not found[0].observe() or ctx.rds.instances.get(key) is not found[0]:
            raise AwsError("DBInstanceNotFoundFault", f"DBInstance {key} not found.")
        return {"DBInstances": [show(ctx, found[0])]}
    found = filters.apply(p, found, {
        "db-instance-id": lambda i: i.name, "db-cluster-id": lambda i: i.cluster, "dbi-resource-id": lambda i: i.resource_id,
        "engine": lambda i: i.view["Engine"],
    })
    page, marker = paging.rds(ctx, p, found, lambda i: i.name)
    page = [i for i in page if i.observe() and i.name in ctx.rds.instances]
    return {"DBInstances": [show(ctx, i) for i in page], "Marker": marker}


# What may be changed, and whether it waits for the maintenance window without ApplyImmediately.
AT_ONCE = {"DeletionProtection", "CopyTagsToSnapshot", "MasterUserPassword", "CloudwatchLogsExportConfiguration", "PubliclyAccessible", "MaxAllocatedStorage"}
DEFERRED = {"DBInstanceClass": "DBInstanceClass", "AllocatedStorage": "AllocatedStorage", "MultiAZ": "MultiAZ", "EngineVersion": "EngineVersion", "Iops": "Iops", "StorageType": "StorageType"}
OWNED_BY_BACKUP = {"BackupRetentionPeriod", "PreferredBackupWindow"}
KNOWN = AT_ONCE | set(DEFERRED) | OWNED_BY_BACKUP | {
    "DBInstanceIdentifier", "ApplyImmediately", "NewDBInstanceIdentifier", "PreferredMaintenanceWindow",
    "VpcSecurityGroupIds", "DBSubnetGroupName", "DBParameterGroupName", "OptionGroupName", "AllowMajorVersionUpgrade",
    "EnableIAMDatabaseAuthentication", "AutoMinorVersionUpgrade", "ManageMasterUserPassword",
}


@action("rds", "ModifyDBInstance")
def modify(ctx, p):
    instance = find(ctx, p["DBInstanceIdentifier"])
    unknown = sorted(set(p) - KNOWN)
    if unknown:
        raise AwsError("NotImplemented", f"the stand-in does not model ModifyDBInstance {unknown[0]}")
    if instance.status not in ("available", "storage-optimization"):
        raise AwsError("InvalidDBInstanceStateFault", f"Database instance is not in available state. (status: {instance.status})")
    if instance.backup_point and OWNED_BY_BACKUP & set(p):
        raise combination(f"You can't modify {sorted(OWNED_BY_BACKUP & set(p))[0]} because the automated backups of DB instance {instance.name} are managed by AWS Backup.")
    view, now, change = instance.view, p.get("ApplyImmediately", False), {}
    if instance.cluster and {"BackupRetentionPeriod", "PreferredBackupWindow", "AllocatedStorage", "VpcSecurityGroupIds", "DeletionProtection", "MasterUserPassword"} & set(p):
        raise combination("The specified DB Instance is a member of a DB cluster. Modify the DB cluster instead.")
    if {"PreferredBackupWindow", "PreferredMaintenanceWindow"} & set(p):
        backup, maintenance = settings.windows(
            p.get("PreferredBackupWindow", view["PreferredBackupWindow"]),
            p.get("PreferredMaintenanceWindow", view["PreferredMaintenanceWindow"]),
        )
        change.update({"PreferredBackupWindow": backup, "PreferredMaintenanceWindow": maintenance})
    if "BackupRetentionPeriod" in p:
        change["BackupRetentionPeriod"] = settings.retention(p["BackupRetentionPeriod"], cluster=False)
    if "DBInstanceClass" in p:
        change["DBInstanceClass"] = engines.instance_class(p["DBInstanceClass"], view["Engine"])
    if "AllocatedStorage" in p:
        change["AllocatedStorage"] = settings.grow(view["AllocatedStorage"], p["AllocatedStorage"])
    if "EngineVersion" in p:
        target = engines.upgradable(view["Engine"], view["EngineVersion"], p["EngineVersion"])
        if engines.major(target) != engines.major(view["EngineVersion"]) and not p.get("AllowMajorVersionUpgrade"):
            raise combination("The AllowMajorVersionUpgrade flag must be present when upgrading to a new major version.")
        change["EngineVersion"] = target
    if "MasterUserPassword" in p:
        settings.password(p)
    if "VpcSecurityGroupIds" in p:
        change["VpcSecurityGroups"] = network.security_groups(ctx, p["VpcSecurityGroupIds"], view["DBSubnetGroup"]["VpcId"])
    if "DBSubnetGroupName" in p:
        change["DBSubnetGroup"] = groups.subnet_group(ctx, p["DBSubnetGroupName"])
    if "DBParameterGroupName" in p:
        group = groups.parameter_group(ctx, p["DBParameterGroupName"], engines.family(view["Engine"], view["EngineVersion"]))
        change["DBParameterGroups"] = [{"DBParameterGroupName": group, "ParameterApplyStatus": "pending-reboot"}]
    if "OptionGroupName" in p:
        options = groups.option_group(ctx, p["OptionGroupName"], view["Engine"], engines.major(view["EngineVersion"]))
        change["OptionGroupMemberships"] = [{"OptionGroupName": options, "Status": "in-sync"}]
    if "EnableIAMDatabaseAuthentication" in p:
        change["IAMDatabaseAuthenticationEnabled"] = p["EnableIAMDatabaseAuthentication"]
    for member in ("MultiAZ", "Iops", "StorageType", "DeletionProtection", "CopyTagsToSnapshot", "PubliclyAccessible", "MaxAllocatedStorage", "AutoMinorVersionUpgrade"):
        if member in p:
            change[member] = p[member]
    new_name = None
    if p.get("NewDBInstanceIdentifier"):
        new_name = arns.identifier(p["NewDBInstanceIdentifier"], "NewDBInstanceIdentifier")
        if new_name in ctx.rds.instances:
            raise AwsError("DBInstanceAlreadyExistsFault", f"DB instance {new_name} already exists")
    return {"DBInstance": _apply(ctx, instance, change, new_name, now)}


def _apply(ctx, instance, change, new_name, immediately):
    view = instance.view
    for member in ("DeletionProtection", "CopyTagsToSnapshot", "PubliclyAccessible", "MaxAllocatedStorage"):
        if member in change:
            view[member] = change.pop(member)
    zero = "BackupRetentionPeriod" in change and (change["BackupRetentionPeriod"] == 0) != (view["BackupRetentionPeriod"] == 0)
    waits = {m: v for m, v in change.items() if m in DEFERRED or (m == "BackupRetentionPeriod" and zero)}
    if immediately:
        # "All changes in the pending modifications queue are applied" (RDS guide, schedule modifications).
        queued = {m: v for m, v in view["PendingModifiedValues"].items() if m in DEFERRED}
        change, waits = {**queued, **change}, {**queued, **waits}
    pending = dict(waits)
    if new_name:
        pending["DBInstanceIdentifier"] = new_name
    view["PendingModifiedValues"] = {**view["PendingModifiedValues"], **pending}
    if not immediately:
        # AWS would do these in the maintenance window; here they stay pending until somebody asks.
        change = {m: v for m, v in change.items() if m not in waits}
        new_name = None
    shown = show(ctx, instance)
    if not change and not new_name:
        return shown

    def done():
        if "BackupRetentionPeriod" in change:
            automated.set_retention(ctx, instance, change.pop("BackupRetentionPeriod"))
        view.update(change)
        view["PendingModifiedValues"] = {
            m: v for m, v in view["PendingModifiedValues"].items() if m not in change and m != "BackupRetentionPeriod"
        } if not immediately else {}
        if new_name:
            rename(ctx, instance, new_name)
    stages = ["renaming"] if new_name else ["modifying"]
    instance.operation = ctx.world.operation("modify", instance.arn, stages, done, lambda f: None)
    return shown


def rename(ctx, instance, new_name):
    """The endpoint changes with the name; snapshots and backups keep the resource id."""
    del ctx.rds.instances[instance.name]
    for cluster in ctx.rds.clusters.values():
        cluster.members = [new_name if m == instance.name else m for m in cluster.members]
    backup = automated.of(ctx, instance)
    instance.name = new_name
    ctx.rds.instances[new_name] = instance
    if backup:
        backup.source_name, backup.source_arn = new_name, instance.arn
    events.emit(ctx, "db-instance", instance, f"Renamed instance to {new_name}", ["notification"], ctx.now)


@action("rds", "DeleteDBInstance")
def delete(ctx, p):
    from . import clusters, snapshots

    instance = find(ctx, p["DBInstanceIdentifier"])
    skip, final = p.get("SkipFinalSnapshot", False), p.get("FinalDBSnapshotIdentifier")
    if instance.status == "deleting":
        raise AwsError("InvalidDBInstanceStateFault", f"Instance {instance.name} is already being deleted.")
    if instance.view.get("DeletionProtection"):
        raise combination("Cannot delete protected DB Instance, please disable deletion protection and try again.")
    if instance.cluster:
        if final:
            raise combination("FinalDBSnapshotIdentifier cannot be specified when deleting a cluster instance.")
        if clusters.is_multi_az(ctx.rds.clusters[instance.cluster]):
            raise AwsError("InvalidDBClusterStateFault", "An instance of a Multi-AZ DB cluster cannot be deleted alone.")
    else:
        if skip and final:
            raise combination("FinalDBSnapshotIdentifier can not be specified when deleting an instance with SkipFinalSnapshot.")
        if not skip and not final:
            raise combination("FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified.")
        if final:
            if instance.status in ("creating", "failed", "incompatible-restore", "incompatible-network", "incompatible-parameters"):
                raise AwsError("InvalidDBInstanceStateFault", f"Cannot create a final snapshot: instance {instance.name} is in state {instance.status}.")
            snapshots.check_new(ctx, final, member="FinalDBSnapshotIdentifier")
    keep = p.get("DeleteAutomatedBackups") is False
    if keep and instance.cluster:
        raise combination("DeleteAutomatedBackups cannot be specified for a cluster instance.")
    if keep:
        automated.retain(ctx, instance)
    if final:
        snapshots.add(ctx, instance, final.lower(), "manual", tags=instance.tags if instance.view["CopyTagsToSnapshot"] else [], final=True)
    if instance.operation:
        instance.operation.cancel()
    instance.operation = ctx.world.operation("delete", instance.arn, ["deleting"], lambda: drop(ctx, instance, keep))
    return {"DBInstance": show(ctx, instance)}


def drop(ctx, instance, keep_backups):
    ctx.rds.instances.pop(instance.name, None)
    for cluster in ctx.rds.clusters.values():
        if instance.name in cluster.members:
            cluster.members.remove(instance.name)
    if not keep_backups:
        automated.remove(ctx, instance)
    automated.end_replicas(ctx, instance)
    events.emit(ctx, "db-instance", instance, "DB instance deleted", ["deletion"], ctx.now)


def _walk(ctx, p, allowed, stages, end, what):
    instance = find(ctx, p["DBInstanceIdentifier"])
    if instance.status not in allowed:
        raise AwsError("InvalidDBInstanceStateFault", f"Instance {instance.name} is not in {allowed[0]} state; {what} needs it. (status: {instance.status})")
    instance.operation = ctx.world.operation("reboot", instance.arn, stages, lambda: setattr(instance, "settled", end))
    return {"DBInstance": show(ctx, instance)}


@action("rds", "RebootDBInstance")
def reboot(ctx, p):
    return _walk(ctx, p, ["available"], ["rebooting"], "available", "a reboot")


@action("rds", "StopDBInstance")
def stop(ctx, p):
    return _walk(ctx, p, ["available"], ["stopping"], "stopped", "stopping")


@action("rds", "StartDBInstance")
def start(ctx, p):
    return _walk(ctx, p, ["stopped"], ["starting"], "available", "starting")
