"""DB clusters: Aurora PostgreSQL, DocumentDB and Multi-AZ PostgreSQL clusters.

Rules (provider-rules 5b, X37, X41): retention 1 to 35 days; an Aurora or DocumentDB cluster has no
instances until they are created, also after a restore, and is deleted only when they are gone;
Serverless v2 is engine mode `provisioned` with a scaling configuration, engine mode `serverless` is
refused; DocumentDB's automated backups always die with the cluster.
"""

from .. import arns, keys, network, paging
from ..registry import action
from ..wire.errors import AwsError, combination, invalid
from . import automated, engines, events, filters, groups, settings
from .store import Resource, endpoint_name


class Cluster(Resource):
    def __init__(self, ctx, name, view, tags=()):
        super().__init__(ctx, "cluster", name, view, tags)
        self.resource_id = arns.resource_id("cluster-")
        self.members = []
        self.backup_point = None
        self.endpoint = None
        self.origin = None
        self.vpc = None
        self.restored_to = None


def find(ctx, name):
    key = arns.local(name, "cluster", ctx.region, ctx.account, "DBClusterNotFoundFault", "DBCluster")
    cluster = ctx.rds.clusters.get(key)
    if cluster is None or cluster.hidden:
        raise AwsError("DBClusterNotFoundFault", f"DBCluster {key} not found.")
    return cluster


def is_multi_az(cluster):
    return bool(cluster.view.get("DBClusterInstanceClass"))


def require_available(cluster, what):
    if cluster.status != "available":
        raise AwsError("InvalidDBClusterStateFault", f"{what} because the DB cluster {cluster.name} is not currently in the available state. (status: {cluster.status})")


def check_new(ctx, name):
    name = arns.identifier(name, "DBClusterIdentifier")
    if name in ctx.rds.clusters:
        raise AwsError("DBClusterAlreadyExistsFault", f"DB Cluster {name} already exists")
    if len(ctx.rds.clusters) >= ctx.world.config.quotas["clusters"]:
        raise AwsError("DBClusterQuotaExceededFault", f"Cannot create more than {ctx.world.config.quotas['clusters']} DB clusters.")
    return name


def engine_mode(p, engine):
    """What X37 got wrong: v2 capacity belongs to engine mode `provisioned`."""
    mode, scaling = p.get("EngineMode"), p.get("ServerlessV2ScalingConfiguration")
    if scaling and engine == "postgres":
        raise combination("ServerlessV2ScalingConfiguration is not supported for Multi-AZ DB clusters.")
    if mode == "serverless":
        if scaling:
            raise combination("ServerlessV2ScalingConfiguration cannot be specified with engine mode serverless; Aurora Serverless v2 uses engine mode provisioned.")
        raise combination("The engine mode serverless you requested is currently unavailable.")
    if mode not in (None, "provisioned"):
        raise invalid(f"Invalid engine mode: {mode}")
    if scaling:
        low, high = scaling.get("MinCapacity"), scaling.get("MaxCapacity")
        if low is None or high is None or not 0 <= low <= high or not 1 <= high <= 256 or (low * 2) % 1 or (high * 2) % 1:
            raise invalid("Serverless v2 capacity must be between 0 and 256 ACUs in steps of 0.5, with MinCapacity not above MaxCapacity and MaxCapacity at least 1.")
    return {"EngineMode": "provisioned" if engine != "docdb" else None, "ServerlessV2ScalingConfiguration": scaling}


def placement(ctx, p, view, engine, version):
    """Network and groups for creations and restores; defaults where nothing is named (X17, X41)."""
    subnets = groups.subnet_group(ctx, p.get("DBSubnetGroupName"))
    view.update({
        "DBSubnetGroup": subnets["DBSubnetGroupName"], "AvailabilityZones": groups.zones(subnets)[:3],
        "VpcSecurityGroups": network.security_groups(ctx, p.get("VpcSecurityGroupIds"), subnets["VpcId"]),
        "DBClusterParameterGroup": groups.cluster_parameter_group(ctx, p.get("DBClusterParameterGroupName"), engines.family(engine, version)),
        "DeletionProtection": p.get("DeletionProtection", False), "CopyTagsToSnapshot": p.get("CopyTagsToSnapshot", False),
        "IAMDatabaseAuthenticationEnabled": p.get("EnableIAMDatabaseAuthentication", False),
        "EnabledCloudwatchLogsExports": p.get("EnableCloudwatchLogsExports", []),
        "MultiAZ": False, "HttpEndpointEnabled": False, "NetworkType": "IPV4", "AssociatedRoles": [],
        "AutoMinorVersionUpgrade": True,
    })
    return subnets["VpcId"]


def add(ctx, name, view, vpc, tags, kind="create", origin=None, on_ready=None, on_fail=None):
    cluster = Cluster(ctx, name, view, tags)
    cluster.vpc, cluster.origin = vpc, origin
    view["ClusterCreateTime"] = ctx.now

    def done():
        automated.start(ctx, cluster)
        events.emit(ctx, "db-cluster", cluster, "DB cluster created", ["creation"], ctx.now)
        if on_ready:
            on_ready()

    def failed(fault):
        cluster.settled = (fault or {}).get("state", "failed")
        if on_fail:
            on_fail(fault)
    cluster.operation = ctx.world.operation(kind, cluster.arn, ["creating"], done, failed)
    cluster.hidden = ctx.world.faults.invisible_for("cluster", cluster.arn)
    ctx.rds.clusters[name] = cluster
    if is_multi_az(cluster):
        _multi_az_members(ctx, cluster)
    return cluster


def _multi_az_members(ctx, cluster):
    from . import instances

    for number in range(1, 4):
        name = f"{cluster.name}-instance-{number}"
        instances.add_member(ctx, cluster, name, cluster.view["DBClusterInstanceClass"], {}, [])


def show(ctx, cluster):
    view = {k: v for k, v in cluster.view.items() if v is not None}
    status = cluster.status
    docdb = view["Engine"] == "docdb"
    view.update({
        "DBClusterIdentifier": cluster.name, "Status": status, "DBClusterArn": cluster.arn,
        "DbClusterResourceId": cluster.resource_id, "TagList": cluster.tags,
        "DBClusterMembers": [
            {"DBInstanceIdentifier": m, "IsClusterWriter": number == 0, "DBClusterParameterGroupStatus": "in-sync", "PromotionTier": 1}
            for number, m in enumerate(cluster.members)
        ],
    })
    host = endpoint_name(cluster.region, cluster.account, cluster.name, "cluster-")
    if cluster.endpoint:
        view["Endpoint"] = view["ReaderEndpoint"] = cluster.endpoint[0]
        view["Port"] = cluster.endpoint[1]
    else:
        view["Endpoint"], view["ReaderEndpoint"] = host, host.replace("cluster-", "cluster-ro-")
    view["HostedZoneId"] = "Z2R2ITUGPM61AM"
    span = automated.window(ctx, cluster)
    if span:
        view["EarliestRestorableTime"], view["LatestRestorableTime"] = span
    if status == "creating" and not docdb:
        view["PercentProgress"] = str(cluster.operation.percent) if cluster.busy else "100"
    if cluster.backup_point:
        view["AwsBackupRecoveryPointArn"] = cluster.backup_point
    return view


@action("rds", "CreateDBCluster")
def create(ctx, p):
    name = check_new(ctx, p["DBClusterIdentifier"])
    engine = engines.engine(p["Engine"])
    version = engines.version(engine, p.get("EngineVersion"))
    multi_az = engine == "postgres"
    if p.get("GlobalClusterIdentifier") or p.get("ReplicationSourceIdentifier"):
        raise AwsError("NotImplemented", "the stand-in does not model global and replica clusters")
    if multi_az and not p.get("DBClusterInstanceClass"):
        raise combination("DBClusterInstanceClass is required for a Multi-AZ DB cluster.")
    if not multi_az and (p.get("DBClusterInstanceClass") or p.get("AllocatedStorage")):
        raise combination(f"DBClusterInstanceClass and AllocatedStorage are not supported for engine {engine}.")
    master = settings.user(p)
    settings.password(p)
    days = settings.retention(p.get("BackupRetentionPeriod", 1), cluster=True)
    backup, maintenance = settings.windows(p.get("PreferredBackupWindow"), p.get("PreferredMaintenanceWindow"))
    view = {
        "Engine": engine, "EngineVersion": version, "MasterUsername": master, "DatabaseName": p.get("DatabaseName"),
        "Port": p.get("Port", engines.PORTS[engine]), "BackupRetentionPeriod": days, "PreferredBackupWindow": backup,
        "PreferredMaintenanceWindow": maintenance, "StorageType": p.get("StorageType", "gp3" if multi_az else ("standard" if engine == "docdb" else "aurora")),
        "AllocatedStorage": settings.storage(p.get("AllocatedStorage"), engine) if multi_az else 1,
        "DBClusterInstanceClass": engines.instance_class(p["DBClusterInstanceClass"], engine) if multi_az else None,
        **engine_mode(p, engine),
    }
    if p.get("KmsKeyId") and not p.get("StorageEncrypted"):
        raise combination("KmsKeyId can only be specified when StorageEncrypted is true.")
    view["StorageEncrypted"] = p.get("StorageEncrypted", False)
    if view["StorageEncrypted"]:
        view["KmsKeyId"] = keys.resolve(ctx, p["KmsKeyId"]) if p.get("KmsKeyId") else keys.managed(ctx)
        keys.authorise(ctx, view["KmsKeyId"])
    vpc = placement(ctx, p, view, engine, version)
    return {"DBCluster": show(ctx, add(ctx, name, view, vpc, settings.tags(p.get("Tags"))))}


@action("rds", "DescribeDBClusters")
def describe(ctx, p):
    if p.get("DBClusterIdentifier"):
        key = arns.local(p["DBClusterIdentifier"], "cluster", ctx.region, ctx.account, "DBClusterNotFoundFault", "DBCluster")
        cluster = ctx.rds.clusters.get(key)
        if cluster is None or not cluster.observe() or ctx.rds.clusters.get(key) is not cluster:
            raise AwsError("DBClusterNotFoundFault", f"DBCluster {key} not found.")
        return {"DBClusters": [show(ctx, cluster)]}
    found = filters.apply(p, list(ctx.rds.clusters.values()), {
        "db-cluster-id": lambda c: c.name, "engine": lambda c: c.view["Engine"], "db-cluster-resource-id": lambda c: c.resource_id,
    })
    page, marker = paging.rds(ctx, p, found, lambda c: c.name)
    page = [c for c in page if c.observe() and c.name in ctx.rds.clusters]
    return {"DBClusters": [show(ctx, c) for c in page], "Marker": marker}


KNOWN = {
    "DBClusterIdentifier", "ApplyImmediately", "BackupRetentionPeriod", "PreferredBackupWindow", "PreferredMaintenanceWindow",
    "DeletionProtection", "CopyTagsToSnapshot", "VpcSecurityGroupIds", "DBClusterParameterGroupName", "NewDBClusterIdentifier",
    "ServerlessV2ScalingConfiguration", "MasterUserPassword", "EngineVersion", "EnableIAMDatabaseAuthentication",
    "CloudwatchLogsExportConfiguration", "AllowMajorVersionUpgrade",
}


@action("rds", "ModifyDBCluster")
def modify(ctx, p):
    cluster = find(ctx, p["DBClusterIdentifier"])
    unknown = sorted(set(p) - KNOWN)
    if unknown:
        raise AwsError("NotImplemented", f"the stand-in does not model ModifyDBCluster {unknown[0]}")
    require_available(cluster, "Cannot modify")
    owned = {"BackupRetentionPeriod", "PreferredBackupWindow"} & set(p)
    if cluster.backup_point and owned:
        raise combination(f"You can't modify {sorted(owned)[0]} because the automated backups of DB cluster {cluster.name} are managed by AWS Backup.")
    view, change = cluster.view, {}
    if {"PreferredBackupWindow", "PreferredMaintenanceWindow"} & set(p):
        backup, maintenance = settings.windows(
            p.get("PreferredBackupWindow", view["PreferredBackupWindow"]),
            p.get("PreferredMaintenanceWindow", view["PreferredMaintenanceWindow"]),
        )
        change.update({"PreferredBackupWindow": backup, "PreferredMaintenanceWindow": maintenance})
    if "BackupRetentionPeriod" in p:
        change["BackupRetentionPeriod"] = settings.retention(p["BackupRetentionPeriod"], cluster=True)
    if "ServerlessV2ScalingConfiguration" in p:
        change["ServerlessV2ScalingConfiguration"] = engine_mode(p, view["Engine"])["ServerlessV2ScalingConfiguration"]
    if "VpcSecurityGroupIds" in p:
        change["VpcSecurityGroups"] = network.security_groups(ctx, p["VpcSecurityGroupIds"], cluster.vpc)
    if "DBClusterParameterGroupName" in p:
        change["DBClusterParameterGroup"] = groups.cluster_parameter_group(ctx, p["DBClusterParameterGroupName"], engines.family(view["Engine"], view["EngineVersion"]))
    if "MasterUserPassword" in p:
        settings.password(p)
    if "EngineVersion" in p:
        change["EngineVersion"] = engines.upgradable(view["Engine"], view["EngineVersion"], p["EngineVersion"])
    if "EnableIAMDatabaseAuthentication" in p:
        change["IAMDatabaseAuthenticationEnabled"] = p["EnableIAMDatabaseAuthentication"]
    for member in ("DeletionProtection", "CopyTagsToSnapshot"):
        if member in p:
            view[member] = p[member]
    new_name = None
    if p.get("NewDBClusterIdentifier"):
        new_name = arns.identifier(p["NewDBClusterIdentifier"], "NewDBClusterIdentifier")
        if new_name in ctx.rds.clusters:
            raise AwsError("DBClusterAlreadyExistsFault", f"DB Cluster {new_name} already exists")
    shown = show(ctx, cluster)
    if not change and not new_name:
        return {"DBCluster": shown}

    def done():
        if "BackupRetentionPeriod" in change:
            automated.set_retention(ctx, cluster, change["BackupRetentionPeriod"])
        view.update(change)
        if new_name:
            _rename(ctx, cluster, new_name)
    cluster.operation = ctx.world.operation("modify", cluster.arn, ["renaming" if new_name else "modifying"], done, lambda f: None)
    return {"DBCluster": shown}


def _rename(ctx, cluster, new_name):
    del ctx.rds.clusters[cluster.name]
    for name in cluster.members:
        ctx.rds.instances[name].cluster = new_name
    cluster.name = new_name
    ctx.rds.clusters[new_name] = cluster


@action("rds", "DeleteDBCluster")
def delete(ctx, p):
    from . import cluster_snapshots

    cluster = find(ctx, p["DBClusterIdentifier"])
    skip, final = p.get("SkipFinalSnapshot", False), p.get("FinalDBSnapshotIdentifier")
    if cluster.status == "deleting":
        raise AwsError("InvalidDBClusterStateFault", f"Cluster {cluster.name} is already being deleted.")
    if cluster.view["DeletionProtection"]:
        raise combination("Cannot delete protected Cluster, please disable deletion protection and try again.")
    if not is_multi_az(cluster) and any(ctx.rds.instances[m].status != "deleting" for m in cluster.members):
        raise AwsError("InvalidDBClusterStateFault", "Cluster cannot be deleted, it still contains DB instances in non-deleting state.")
    if skip and final:
        raise combination("FinalDBSnapshotIdentifier can not be specified when deleting a cluster with SkipFinalSnapshot.")
    if not skip and not final:
        raise combination("FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified.")
    keep = p.get("DeleteAutomatedBackups") is False
    if keep and cluster.view["Engine"] == "docdb":
        raise combination("DeleteAutomatedBackups is not supported for engine docdb: automated backups are deleted with the cluster.")
    if final:
        if cluster.status in ("creating", "failed"):
            raise AwsError("InvalidDBClusterStateFault", f"Cannot create a final snapshot: cluster {cluster.name} is in state {cluster.status}.")
        cluster_snapshots.check_new(ctx, final, "FinalDBSnapshotIdentifier")
    if keep:
        automated.retain(ctx, cluster)
    if final:
        tags = cluster.tags if cluster.view["CopyTagsToSnapshot"] else []
        cluster_snapshots.add(ctx, cluster, final.lower(), "manual", tags=tags, final=True)
    if cluster.operation:
        cluster.operation.cancel()

    def done():
        ctx.rds.clusters.pop(cluster.name, None)
        for name in cluster.members:
            ctx.rds.instances.pop(name, None)
        if not keep:
            automated.remove(ctx, cluster)
        events.emit(ctx, "db-cluster", cluster, "DB cluster deleted", ["deletion"], ctx.now)
    cluster.operation = ctx.world.operation("delete", cluster.arn, ["deleting"], done)
    return {"DBCluster": show(ctx, cluster)}


def _walk(ctx, p, wanted, stages, end):
    cluster = find(ctx, p["DBClusterIdentifier"])
    if cluster.status != wanted:
        raise AwsError("InvalidDBClusterStateFault", f"DbCluster {cluster.name} is in {cluster.status} state but expected in {wanted} state.")
    members = [ctx.rds.instances[m] for m in cluster.members]

    def done():
        for resource in (cluster, *members):
            resource.settled = end
    cluster.operation = ctx.world.operation("reboot", cluster.arn, stages, done)
    return {"DBCluster": show(ctx, cluster)}


@action("rds", "StopDBCluster")
def stop(ctx, p):
    return _walk(ctx, p, "available", ["stopping"], "stopped")


@action("rds", "StartDBCluster")
def start(ctx, p):
    return _walk(ctx, p, "stopped", ["starting"], "available")
