"""Restoring instances: from a snapshot, and to a point in time.

Rules (provider-rules 5b, X15, X17, X18): a restore always makes a new instance; the source must be
there in the state `available` (snapshot) or still have a window (point in time: by identifier only
while it lives, by DbiResourceId, or by the ARN of a retained or replicated backup after that); the
time must lie inside the window; storage is not smaller than the source's; groups that are not
named get their defaults; a shared encrypted snapshot is copied first.
"""

from .. import keys
from ..registry import action
from ..wire import query
from ..wire.errors import AwsError, combination, invalid
from . import automated, cluster_snapshots, engines, events, instances, settings, snapshots

PLAIN = ("AllocatedStorage", "StorageType", "Iops", "MasterUsername", "LicenseModel")


def _view(ctx, p, source, default_class, engine, version, storage, encrypted, key):
    wanted = p.get("AllocatedStorage", storage)
    if wanted < storage:
        raise combination(f"Invalid storage size: requested size {wanted} cannot be less than {storage}")
    if p.get("Engine", engine) != engine:
        raise combination(f"The engine {p['Engine']} is not compatible with the source's engine {engine}.")
    days = settings.retention(p.get("BackupRetentionPeriod", source.get("BackupRetentionPeriod", 1)), cluster=False)
    backup, maintenance = settings.windows(p.get("PreferredBackupWindow", source.get("PreferredBackupWindow")), None)
    view = {m: source.get(m) for m in PLAIN}
    view.update({
        "Engine": engine, "EngineVersion": version, "AllocatedStorage": wanted,
        "DBInstanceClass": engines.instance_class(p.get("DBInstanceClass", default_class), engine),
        "BackupRetentionPeriod": days, "PreferredBackupWindow": backup, "PreferredMaintenanceWindow": maintenance,
        "StorageType": p.get("StorageType", source.get("StorageType")), "StorageEncrypted": encrypted, "KmsKeyId": key,
        "_port": p.get("Port", engines.PORTS[engine]),
    })
    instances.placement(ctx, p, view, engine, version)
    return view


def endpoint_for(ctx, lineage):
    """Where the control endpoint says that restores of this source answer."""
    for name in lineage:
        if name in ctx.world.restore_endpoints:
            return ctx.world.restore_endpoints[name]
        short = name.rpartition(":")[2]
        if short in ctx.world.restore_endpoints:
            return ctx.world.restore_endpoints[short]
    return None


@action("rds", "RestoreDBInstanceFromDBSnapshot")
def from_snapshot(ctx, p):
    name = instances.check_new(ctx, p["DBInstanceIdentifier"])
    if bool(p.get("DBSnapshotIdentifier")) == bool(p.get("DBClusterSnapshotIdentifier")):
        raise combination("Exactly one of DBSnapshotIdentifier and DBClusterSnapshotIdentifier must be given.")
    if p.get("DBClusterSnapshotIdentifier"):
        cluster_snapshots.find(ctx, p["DBClusterSnapshotIdentifier"])
        raise AwsError("NotImplemented", "the stand-in does not restore a Multi-AZ cluster snapshot to an instance")
    snapshot = snapshots.find(ctx, p["DBSnapshotIdentifier"])
    instance = restore_snapshot(ctx, name, snapshot, p)
    return {"DBInstance": instances.show(ctx, instance)}


def inherited(snapshot, p, kind):
    """Who names no tags gets those of the snapshot (RDS user guide, "Tagging Amazon RDS resources"); a restore job of
    AWS Backup copies none unless it is asked to."""
    if p.get("Tags") or kind != "restore":
        return settings.tags(p.get("Tags"))
    return [dict(tag) for tag in snapshot.tags if not tag["Key"].startswith("aws:")]


def restore_snapshot(ctx, name, snapshot, p, kind="restore", on_ready=None, on_fail=None):
    """Also what a restore job of AWS Backup does."""
    if snapshot.status != "available":
        raise AwsError("InvalidDBSnapshotStateFault", f"The snapshot {snapshot.name} is not in the available state. (status: {snapshot.status})")
    view = snapshot.view
    if snapshot.account != ctx.account and view.get("KmsKeyId"):
        raise AwsError("InvalidDBSnapshotStateFault", "A shared encrypted snapshot must be copied before it can be restored.")
    if view.get("KmsKeyId"):
        if not keys.usable(ctx, view["KmsKeyId"]):
            raise AwsError("KMSKeyNotAccessibleFault", f"The KMS key [{view['KmsKeyId']}] of the snapshot is not enabled or not accessible.")
        keys.authorise(ctx, view["KmsKeyId"])
    # Without a class the restore gets the source's, which is seldom what a test restore wants to pay.
    new = _view(ctx, p, view, snapshot.source_class, view["Engine"], view["EngineVersion"], view["AllocatedStorage"], view["Encrypted"], view.get("KmsKeyId"))
    tags = inherited(snapshot, p, kind)
    lineage = [snapshot.arn, *snapshot.lineage]
    snapshot.readers = getattr(snapshot, "readers", 0) + 1

    def ready():
        snapshot.readers -= 1
        events.emit(ctx, "db-instance", instance, f"Restored from snapshot {snapshot.name}", ["restoration"], ctx.now)
        if on_ready:
            on_ready()

    def failed(fault):
        snapshot.readers -= 1
        if on_fail:
            on_fail(fault)
    instance = instances.add(ctx, name, new, tags, kind=kind, origin=lineage, on_ready=ready, on_fail=failed)
    instance.endpoint = endpoint_for(ctx, lineage)
    return instance


def _backup_of(ctx, p):
    """The automated backup that a point-in-time restore reads, and the living source, if there is one."""
    given = [m for m in ("SourceDBInstanceIdentifier", "SourceDbiResourceId", "SourceDBInstanceAutomatedBackupsArn") if p.get(m)]
    if len(given) != 1:
        raise combination("Exactly one of SourceDBInstanceIdentifier, SourceDbiResourceId and SourceDBInstanceAutomatedBackupsArn must be given.")
    if given[0] == "SourceDBInstanceIdentifier":
        source = instances.find(ctx, p[given[0]])
        if source.cluster:
            raise combination("The source is a member of a DB cluster; restore the cluster instead.")
        if source.view["BackupRetentionPeriod"] == 0:
            raise AwsError("PointInTimeRestoreNotEnabledFault", f"Point in time restore is not enabled for {source.name}: its backup retention period is 0.")
        if source.status in ("creating", "deleting"):
            raise AwsError("InvalidDBInstanceStateFault", f"DB instance {source.name} has invalid state {source.status}.")
        return automated.of(ctx, source), source
    if given[0] == "SourceDbiResourceId":
        backup = next((b for b in ctx.rds.automated.values() if b.resource_id == p[given[0]]), None)
    else:
        backup = next((b for b in ctx.rds.automated.values() if b.arn == p[given[0]]), None)
    if backup is None or backup.gone(ctx.world):
        raise AwsError("DBInstanceAutomatedBackupNotFoundFault", f"Automated backup {p[given[0]]} not found.")
    source = next((i for i in ctx.rds.instances.values() if i.resource_id == backup.resource_id), None)
    return backup, source


def moment(ctx, p, span, member="RestoreTime", label="source"):
    """The instant to restore to, inside the window."""
    latest = p.get("UseLatestRestorableTime", False)
    if latest == (member in p):
        raise combination(f"Exactly one of {member} and UseLatestRestorableTime must be specified.")
    if span is None:
        raise AwsError("InvalidRestoreFault", f"The {label} has no restorable time yet.")
    if latest:
        return span[1]
    when = p[member]
    if when < span[0] or when > span[1]:
        side = "before the earliest" if when < span[0] else "after the latest"
        raise invalid(f"The specified time {query.format_time(when)} is {side} restorable time; the window is {query.format_time(span[0])} to {query.format_time(span[1])}.")
    return when


@action("rds", "RestoreDBInstanceToPointInTime")
def to_point_in_time(ctx, p):
    name = instances.check_new(ctx, p["TargetDBInstanceIdentifier"], "TargetDBInstanceIdentifier")
    backup, source = _backup_of(ctx, p)
    instance = restore_backup(ctx, name, backup, source, p)
    return {"DBInstance": instances.show(ctx, instance)}


def restore_backup(ctx, name, backup, source, p, kind="restore", on_ready=None, on_fail=None):
    when = moment(ctx, p, backup.window(ctx.world) if backup else None, label="source DB instance")
    if source is not None:
        automated.refresh(backup, source)
    view = backup.source_view
    if backup.key:
        if not keys.usable(ctx, backup.key):
            raise AwsError("KMSKeyNotAccessibleFault", f"The KMS key [{backup.key}] of the automated backup is not enabled or not accessible.")
        keys.authorise(ctx, backup.key)
    new = _view(ctx, p, view, view["DBInstanceClass"], view["Engine"], view["EngineVersion"], view["AllocatedStorage"], view["StorageEncrypted"], backup.key)
    lineage = [backup.arn, backup.source_arn, backup.resource_id]
    instance = instances.add(ctx, name, new, settings.tags(p.get("Tags")), kind=kind, origin=lineage, on_ready=on_ready, on_fail=on_fail)
    instance.restored_to = when
    instance.endpoint = endpoint_for(ctx, lineage)
    return instance
