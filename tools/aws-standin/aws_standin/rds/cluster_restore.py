"""Restoring clusters: from a snapshot, and to a point in time.

Rules (provider-rules 5b, X37, X41): the result is a cluster without instances (Aurora, DocumentDB);
defaults for groups that are not named; a copy-on-write clone takes no RestoreToTime; the time must
lie inside the window; RestoreDBClusterToPointInTime has no Engine member (the wire refuses it).
"""

from .. import keys
from ..registry import action
from ..wire.errors import AwsError, combination, invalid
from . import automated, cluster_snapshots, clusters, engines, events, settings, snapshots
from .restore import endpoint_for, inherited, moment


def _view(ctx, p, source, engine, version, key, encrypted):
    days = settings.retention(p.get("BackupRetentionPeriod", source["BackupRetentionPeriod"]), cluster=True)
    backup, maintenance = settings.windows(p.get("PreferredBackupWindow", source["PreferredBackupWindow"]), None)
    size = p.get("DBClusterInstanceClass")
    if engine == "postgres" and not size:
        raise combination("DBClusterInstanceClass is required to restore a Multi-AZ DB cluster.")
    if engine != "postgres" and size:
        raise combination(f"DBClusterInstanceClass is not supported for engine {engine}.")
    view = {
        "Engine": engine, "EngineVersion": version, "MasterUsername": source["MasterUsername"],
        "DatabaseName": p.get("DatabaseName"), "Port": p.get("Port", engines.PORTS[engine]),
        "BackupRetentionPeriod": days, "PreferredBackupWindow": backup, "PreferredMaintenanceWindow": maintenance,
        "StorageType": p.get("StorageType", source["StorageType"]), "AllocatedStorage": source["AllocatedStorage"],
        "DBClusterInstanceClass": engines.instance_class(size, engine) if size else None,
        "StorageEncrypted": encrypted, "KmsKeyId": key, **clusters.engine_mode(p, engine),
    }
    vpc = clusters.placement(ctx, p, view, engine, version)
    return view, vpc


def _key(ctx, p, held):
    """The key of the new cluster; a plain source may be encrypted on the way, never the reverse."""
    if held and not keys.usable(ctx, held):
        raise AwsError("KMSKeyNotAccessibleFault", f"The KMS key [{held}] of the source is not enabled or not accessible.")
    key = keys.resolve(ctx, p["KmsKeyId"]) if p.get("KmsKeyId") else held
    keys.authorise(ctx, key)
    return key


def find_snapshot(ctx, text):
    """RestoreDBClusterFromSnapshot takes a cluster snapshot, or for Aurora an instance snapshot's ARN."""
    try:
        return cluster_snapshots.find(ctx, text)
    except AwsError:
        if ":snapshot:" in text:
            snapshots.find(ctx, text)
            raise AwsError("NotImplemented", "the stand-in does not migrate instance snapshots to clusters") from None
        raise


@action("rds", "RestoreDBClusterFromSnapshot")
def from_snapshot(ctx, p):
    name = clusters.check_new(ctx, p["DBClusterIdentifier"])
    snapshot = find_snapshot(ctx, p["SnapshotIdentifier"])
    return {"DBCluster": clusters.show(ctx, restore_snapshot(ctx, name, snapshot, p))}


def restore_snapshot(ctx, name, snapshot, p, kind="restore", on_ready=None, on_fail=None):
    """Also what a restore job of AWS Backup does."""
    if snapshot.status != "available":
        raise AwsError("InvalidDBClusterSnapshotStateFault", f"The snapshot {snapshot.name} is not in the available state. (status: {snapshot.status})")
    view = snapshot.view
    engine = engines.engine(p["Engine"])
    if engine != view["Engine"]:
        raise combination(f"The engine {engine} is not compatible with the snapshot's engine {view['Engine']}.")
    if snapshot.account != ctx.account and view.get("KmsKeyId"):
        raise AwsError("InvalidDBClusterSnapshotStateFault", "A shared encrypted snapshot must be copied before it can be restored.")
    version = engines.upgradable(engine, view["EngineVersion"], p["EngineVersion"]) if p.get("EngineVersion") else view["EngineVersion"]
    key = _key(ctx, p, view.get("KmsKeyId"))
    new, vpc = _view(ctx, p, view, engine, version, key, bool(key))
    lineage = [snapshot.arn, *snapshot.lineage]
    snapshot.readers = getattr(snapshot, "readers", 0) + 1

    def ready():
        snapshot.readers -= 1
        events.emit(ctx, "db-cluster", cluster, f"Restored from snapshot {snapshot.name}", ["restoration"], ctx.now)
        if on_ready:
            on_ready()

    def failed(fault):
        snapshot.readers -= 1
        if on_fail:
            on_fail(fault)
    cluster = clusters.add(ctx, name, new, vpc, inherited(snapshot, p, kind), kind=kind, origin=lineage, on_ready=ready, on_fail=failed)
    cluster.endpoint = endpoint_for(ctx, lineage)
    return cluster


def _source(ctx, p):
    if bool(p.get("SourceDBClusterIdentifier")) == bool(p.get("SourceDbClusterResourceId")):
        raise combination("Exactly one of SourceDBClusterIdentifier and SourceDbClusterResourceId must be given.")
    if p.get("SourceDBClusterIdentifier"):
        source = clusters.find(ctx, p["SourceDBClusterIdentifier"])
        if source.status in ("creating", "deleting"):
            raise AwsError("InvalidDBClusterStateFault", f"DB cluster {source.name} has invalid state {source.status}.")
        return automated.of(ctx, source), source
    backup = next((b for b in ctx.rds.cluster_automated.values() if b.resource_id == p["SourceDbClusterResourceId"]), None)
    if backup is None or backup.gone(ctx.world):
        raise AwsError("DBClusterAutomatedBackupNotFoundFault", f"Automated backup {p['SourceDbClusterResourceId']} not found.")
    return backup, next((c for c in ctx.rds.clusters.values() if c.resource_id == backup.resource_id), None)


@action("rds", "RestoreDBClusterToPointInTime")
def to_point_in_time(ctx, p):
    name = clusters.check_new(ctx, p["DBClusterIdentifier"])
    backup, source = _source(ctx, p)
    return {"DBCluster": clusters.show(ctx, restore_backup(ctx, name, backup, source, p))}


def restore_backup(ctx, name, backup, source, p, kind="restore", on_ready=None, on_fail=None):
    type_ = p.get("RestoreType", "full-copy")
    if type_ not in ("full-copy", "copy-on-write"):
        raise invalid(f"Invalid restore type: {type_}")
    if type_ == "copy-on-write":
        if "RestoreToTime" in p:
            raise combination("RestoreToTime cannot be specified with restore type copy-on-write.")
        if source is None:
            raise combination("A copy-on-write clone needs a living source cluster.")
        if not p.get("UseLatestRestorableTime"):
            raise combination("UseLatestRestorableTime must be specified with restore type copy-on-write.")
        when = ctx.now
    else:
        when = moment(ctx, p, backup.window(ctx.world) if backup else None, "RestoreToTime", "source DB cluster")
    if source is not None:
        automated.refresh(backup, source)
    view = backup.source_view
    key = _key(ctx, p, backup.key)
    new, vpc = _view(ctx, p, view, view["Engine"], view["EngineVersion"], key, bool(key))
    lineage = [backup.arn, backup.source_arn, backup.resource_id]
    cluster = clusters.add(ctx, name, new, vpc, settings.tags(p.get("Tags")), kind=kind, origin=lineage, on_ready=on_ready, on_fail=on_fail)
    cluster.restored_to = when
    cluster.endpoint = endpoint_for(ctx, lineage)
    return cluster
