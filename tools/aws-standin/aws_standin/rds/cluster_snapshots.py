"""DB cluster snapshots, of Aurora, Multi-AZ and DocumentDB clusters. Rules as in `snapshots.py`."""

from .. import arns, paging
from ..registry import action
from ..wire.errors import AwsError
from . import clusters, events, filters, settings
from .snapshots import Snapshot, check_deletable, selected, share, source_name
from .snapshots import _backing_up as backing_up

NOT_FOUND = "DBClusterSnapshotNotFoundFault"
STATE = "InvalidDBClusterSnapshotStateFault"


def find(ctx, text):
    parts = arns.split_rds(text)
    if parts and parts[1] != ctx.account:
        owner = ctx.elsewhere(parts[0], parts[1]).rds.cluster_snapshots.get(parts[3])
        if parts[0] == ctx.region and owner and ctx.account in owner.shared_with:
            return owner
        raise AwsError(NOT_FOUND, f"DBClusterSnapshot {text} not found.")
    key = arns.local(text, "cluster-snapshot", ctx.region, ctx.account, NOT_FOUND, "DBClusterSnapshot")
    snapshot = ctx.rds.cluster_snapshots.get(key)
    if snapshot is None or snapshot.hidden:
        raise AwsError(NOT_FOUND, f"DBClusterSnapshot {key} not found.")
    return snapshot


def check_new(ctx, name, member="DBClusterSnapshotIdentifier"):
    name = arns.identifier(name, member)
    if name in ctx.rds.cluster_snapshots:
        raise AwsError("DBClusterSnapshotAlreadyExistsFault", f"Cannot create the cluster snapshot because one with the identifier {name} already exists.")
    limit = ctx.world.config.quotas["manual-cluster-snapshots"]
    if sum(s.type == "manual" for s in ctx.rds.cluster_snapshots.values()) >= limit:
        raise AwsError("SnapshotQuotaExceededFault", f"Cannot create more than {limit} manual cluster snapshots.")
    return name


def add(ctx, cluster, name, type_, tags=(), taken=None, final=False, kind="snapshot", on_done=None, on_fail=None):
    view = cluster.view
    snapshot = Snapshot(ctx, "cluster-snapshot", name, type_, {
        "DBClusterIdentifier": cluster.name, "Engine": view["Engine"], "EngineVersion": view["EngineVersion"],
        "EngineMode": view.get("EngineMode"), "AllocatedStorage": view["AllocatedStorage"], "Port": 0 if view["Engine"] != "docdb" else view["Port"],
        "AvailabilityZones": view["AvailabilityZones"], "VpcId": cluster.vpc, "ClusterCreateTime": view["ClusterCreateTime"],
        "MasterUsername": view["MasterUsername"], "StorageEncrypted": view["StorageEncrypted"], "KmsKeyId": view.get("KmsKeyId"),
        "IAMDatabaseAuthenticationEnabled": view["IAMDatabaseAuthenticationEnabled"], "DbClusterResourceId": cluster.resource_id,
        "BackupRetentionPeriod": view["BackupRetentionPeriod"], "PreferredBackupWindow": view["PreferredBackupWindow"],
        "LicenseModel": "postgresql-license" if view["Engine"] != "docdb" else None, "StorageType": view["StorageType"],
    }, tags)
    snapshot.resource_id = cluster.resource_id
    snapshot.lineage = [cluster.arn, cluster.resource_id]

    def done():
        snapshot.taken = ctx.now if taken is None else taken
        snapshot.view["SnapshotCreateTime"] = snapshot.taken
        if taken is None:
            events.emit(ctx, "db-cluster-snapshot", snapshot, "Manual cluster snapshot created", ["backup"], ctx.now)
        if on_done:
            on_done()

    def failed(fault):
        snapshot.settled = "failed"
        if on_fail:
            on_fail(fault)
    ctx.rds.cluster_snapshots[name] = snapshot
    if taken is not None:
        done()
        return snapshot
    snapshot.operation = ctx.world.operation(kind, snapshot.arn, ["creating"], done, failed)
    snapshot.hidden = ctx.world.faults.invisible_for("snapshot", snapshot.arn)
    if not final:
        backing_up(ctx, cluster, snapshot)
    return snapshot


def show(ctx, snapshot):
    view = {k: v for k, v in snapshot.view.items() if v is not None}
    foreign = snapshot.account != ctx.account
    view.update({
        "DBClusterSnapshotIdentifier": snapshot.arn if foreign else snapshot.name, "Status": snapshot.status,
        "SnapshotType": "shared" if foreign else snapshot.type, "DBClusterSnapshotArn": snapshot.arn,
        "PercentProgress": snapshot.operation.percent if snapshot.busy else (0 if snapshot.status == "failed" else 100),
    })
    if not foreign:
        view["TagList"] = snapshot.tags
    return view


@action("rds", "CreateDBClusterSnapshot")
def create(ctx, p):
    cluster = clusters.find(ctx, p["DBClusterIdentifier"])
    name = check_new(ctx, p["DBClusterSnapshotIdentifier"])
    clusters.require_available(cluster, "Cannot create a cluster snapshot")
    tags = settings.tags(p.get("Tags"))
    if cluster.view["CopyTagsToSnapshot"]:
        given = {t["Key"] for t in tags}
        tags += [dict(t) for t in cluster.tags if t["Key"] not in given]
    return {"DBClusterSnapshot": show(ctx, add(ctx, cluster, name, "manual", tags))}


@action("rds", "DescribeDBClusterSnapshots")
def describe(ctx, p):
    text = p.get("DBClusterSnapshotIdentifier")
    hidden = ctx.rds.cluster_snapshots.get((text or "").lower())
    if hidden and hidden.hidden:
        hidden.observe()
        raise AwsError(NOT_FOUND, f"DBClusterSnapshot {text} not found.")
    found = selected(ctx, p, ctx.rds.cluster_snapshots, "DBClusterSnapshot", NOT_FOUND, find, "DBClusterIdentifier", source_name)
    if p.get("DbClusterResourceId"):
        found = [s for s in found if s.resource_id == p["DbClusterResourceId"]]
    found = filters.apply(p, found, {
        "db-cluster-id": source_name, "db-cluster-snapshot-id": lambda s: s.name, "snapshot-type": lambda s: s.type,
        "engine": lambda s: s.view["Engine"], "db-cluster-resource-id": lambda s: s.resource_id,
    })
    page, marker = paging.rds(ctx, p, found, lambda s: s.arn)
    page = [s for s in page if s.observe()]
    return {"DBClusterSnapshots": [show(ctx, s) for s in page], "Marker": marker}


@action("rds", "DeleteDBClusterSnapshot")
def delete(ctx, p):
    snapshot = find(ctx, p["DBClusterSnapshotIdentifier"])
    check_deletable(ctx, snapshot, STATE)
    del ctx.rds.cluster_snapshots[snapshot.name]
    shown = show(ctx, snapshot)
    shown["Status"] = "deleted"
    return {"DBClusterSnapshot": shown}


@action("rds", "ModifyDBClusterSnapshotAttribute")
def modify_attribute(ctx, p):
    snapshot = find(ctx, p["DBClusterSnapshotIdentifier"])
    share(ctx, snapshot, p, STATE)
    return _attributes(snapshot)


@action("rds", "DescribeDBClusterSnapshotAttributes")
def describe_attributes(ctx, p):
    return _attributes(find(ctx, p["DBClusterSnapshotIdentifier"]))


def _attributes(snapshot):
    return {"DBClusterSnapshotAttributesResult": {
        "DBClusterSnapshotIdentifier": snapshot.name,
        "DBClusterSnapshotAttributes": [{"AttributeName": "restore", "AttributeValues": snapshot.shared_with}],
    }}
