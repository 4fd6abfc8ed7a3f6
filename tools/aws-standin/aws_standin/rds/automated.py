"""Automated backups: restorable windows, retained and replicated backups, automated snapshots.

Rules (provider-rules 5b): the latest restorable time lags by about 5 minutes; instances show their
window only through DescribeDBInstanceAutomatedBackups; a deletion removes automated backups at once
unless DeleteAutomatedBackups=false; at most 40 retained ones per region; retained ones keep no
parameter and option groups, and expire; replicated ones live in another region (at most 20 there),
survive the deletion of the source, and need a key of that region when encrypted. DocumentDB has
none of this: its backups die with the cluster.
"""

import time as wall

from .. import arns, keys, paging
from ..registry import action
from ..wire.errors import AwsError, combination, invalid
from . import filters, settings
from .store import Resource

DAY = 86400
# What a retained backup remembers of its source; groups are not among it.
REMEMBERED = (
    "AllocatedStorage", "MasterUsername", "Engine", "EngineVersion", "LicenseModel", "Iops", "StorageType",
    "KmsKeyId", "IAMDatabaseAuthenticationEnabled", "PreferredBackupWindow",
)


class AutomatedBackup(Resource):
    def __init__(self, ctx, kind, source, started, retention):
        super().__init__(ctx, kind, arns.short_id("ab-"), {})
        self.settled = "active"
        self.source_name, self.source_arn, self.resource_id = source.name, source.arn, source.resource_id
        self.source_view = dict(source.view)
        self.source_tags = [dict(t) for t in source.tags]
        self.source_region = source.region
        self.started, self.retention, self.ended = started, retention, None
        self.key = source.view.get("KmsKeyId")
        self.point = None  # the continuous point that it was when its source was deleted

    def window(self, world):
        """(earliest, latest) or None while there is nothing to restore from."""
        if self.started is None or self.busy:
            return None
        now = world.now()
        latest = min(now, self.ended or now) - world.config.lag
        earliest = max(self.started, now - self.retention * DAY)
        return (earliest, latest) if latest >= earliest else None

    def gone(self, world):
        return self.ended is not None and world.now() - self.retention * DAY > self.ended


def table(ctx, cluster):
    return ctx.rds.cluster_automated if cluster else ctx.rds.automated


def of(ctx, source):
    """The automated backup of a living instance or cluster, or None (retention 0, DocumentDB too)."""
    return next(
        (b for b in table(ctx, source.kind == "cluster").values()
         if b.resource_id == source.resource_id and b.ended is None and b.source_region == ctx.region), None
    )


def window(ctx, source):
    backup = of(ctx, source)
    return backup.window(ctx.world) if backup else None


def start(ctx, source, when=None):
    """Begin automated backups of `source`, with the first backup taken at `when` (now)."""
    when = ctx.now if when is None else when
    kind = "cluster-auto-backup" if source.kind == "cluster" else "auto-backup"
    backup = AutomatedBackup(ctx, kind, source, when, source.view["BackupRetentionPeriod"])
    table(ctx, source.kind == "cluster")[backup.name] = backup
    take_snapshot(ctx, source, when)
    _schedule(ctx, source, when)
    return backup


def set_retention(ctx, source, days):
    source.view["BackupRetentionPeriod"] = days
    backup = of(ctx, source)
    if days == 0:
        remove(ctx, source)
    elif backup is None:
        start(ctx, source)
    else:
        backup.retention = days
        _prune(ctx, source)


def remove(ctx, source):
    """Automated backups and automated snapshots go at once; replicated ones stay."""
    backups = table(ctx, source.kind == "cluster")
    for backup in [b for b in backups.values() if b.resource_id == source.resource_id and b.source_region == ctx.region]:
        del backups[backup.name]
    snapshots = _snapshots(ctx, source)
    for name in [n for n, s in snapshots.items() if s.resource_id == source.resource_id and s.type == "automated"]:
        del snapshots[name]


def retain(ctx, source):
    """The source is deleted, its automated backups stay until they expire."""
    backup = of(ctx, source)
    if backup is None:
        return
    retained = [b for t in (ctx.rds.automated, ctx.rds.cluster_automated) for b in t.values() if b.ended is not None]
    if len(retained) >= ctx.world.config.quotas["retained-backups"]:
        raise AwsError("DBInstanceAutomatedBackupQuotaExceededFault", "The quota for retained automated backups was exceeded. This prevents you from retaining any additional automated backups.")
    refresh(backup, source)
    backup.ended, backup.settled, backup.point = ctx.now, "retained", source.backup_point


def refresh(backup, source):
    backup.source_view, backup.source_name, backup.key = dict(source.view), source.name, source.view.get("KmsKeyId")


def end_replicas(ctx, source):
    """Replicated backups outlive their source and show as retained (5b)."""
    for replica in replicas(ctx, source):
        if replica.ended is None:
            replica.ended, replica.settled = ctx.now, "retained"


def replicas(ctx, source):
    return [
        b for (account, name), region in list(ctx.world.regions.items())
        if account == ctx.account and name != ctx.region
        for b in region.rds.automated.values() if b.resource_id == source.resource_id
    ]


def _snapshots(ctx, source):
    return ctx.rds.cluster_snapshots if source.kind == "cluster" else ctx.rds.snapshots


def take_snapshot(ctx, source, when):
    from . import cluster_snapshots, snapshots

    name = f"rds:{source.name}-{wall.strftime('%Y-%m-%d-%H-%M', wall.gmtime(when))}"
    if name not in _snapshots(ctx, source):
        maker = cluster_snapshots.add if source.kind == "cluster" else snapshots.add
        maker(ctx, source, name, "automated", taken=when)


def _prune(ctx, source):
    days = source.view["BackupRetentionPeriod"]
    snapshots = _snapshots(ctx, source)
    for name in [
        n for n, s in snapshots.items()
        if s.resource_id == source.resource_id and s.type == "automated" and s.taken < ctx.now - days * DAY
    ]:
        del snapshots[name]


def next_window(source, after):
    minute, _ = settings.backup_window(source.view["PreferredBackupWindow"])
    start_of_day = after - after % DAY
    due = start_of_day + minute * 60
    return due if due > after else due + DAY


def _schedule(ctx, source, after):
    ctx.world.clock.at(next_window(source, after), lambda: _daily(ctx, source))


def _daily(ctx, source):
    """The daily automated backup. It is skipped while the source is not available, or while one of
    its snapshots is being copied (5b); it takes no virtual time of its own, so that a test does not
    meet it by chance (`POST /_standin/window` starts one that is seen)."""
    living = ctx.rds.clusters if source.kind == "cluster" else ctx.rds.instances
    if living.get(source.name) is not source or of(ctx, source) is None:
        return
    copying = any(s.busy and s.copied_from == source.resource_id for s in _snapshots(ctx, source).values())
    if source.status == "available" and not copying:
        take_snapshot(ctx, source, ctx.now)
    _prune(ctx, source)
    _schedule(ctx, source, ctx.now)


def view(ctx, backup, cluster):
    source = backup.source_view
    span = backup.window(ctx.world)
    shown = {m: source.get(m) for m in REMEMBERED if m in source}
    shown.update({
        "DbiResourceId": backup.resource_id, "Region": backup.source_region, "DBInstanceIdentifier": backup.source_name,
        "DBInstanceArn": backup.source_arn, "Status": backup.status, "BackupRetentionPeriod": backup.retention,
        "RestoreWindow": {"EarliestTime": span[0], "LatestTime": span[1]} if span else {},
        "DBInstanceAutomatedBackupsArn": backup.arn, "InstanceCreateTime": source.get("InstanceCreateTime"),
        "Encrypted": source.get("StorageEncrypted", False), "KmsKeyId": backup.key, "Port": source.get("DbInstancePort") or None,
        "AvailabilityZone": source.get("AvailabilityZone"), "BackupTarget": "region", "TagList": backup.source_tags,
    })
    sources = ctx.rds.clusters if cluster else ctx.rds.instances
    living = next((s for s in sources.values() if s.resource_id == backup.resource_id and backup.source_region == ctx.region), None)
    shown["AwsBackupRecoveryPointArn"] = backup.point if living is None else living.backup_point
    if not cluster:
        if living is not None and living.replications and backup.ended is None:
            shown["DBInstanceAutomatedBackupsReplications"] = [{"DBInstanceAutomatedBackupsArn": a} for a in living.replications]
        return {k: v for k, v in shown.items() if v is not None}
    for old, new in (
        ("DbiResourceId", "DbClusterResourceId"), ("DBInstanceIdentifier", "DBClusterIdentifier"),
        ("DBInstanceArn", "DBClusterArn"), ("DBInstanceAutomatedBackupsArn", "DBClusterAutomatedBackupsArn"),
        ("Encrypted", "StorageEncrypted"),
    ):
        shown[new] = shown.pop(old)
    for member in ("InstanceCreateTime", "AvailabilityZone", "BackupTarget"):
        shown.pop(member)
    shown.update({
        "ClusterCreateTime": source.get("ClusterCreateTime"), "EngineMode": source.get("EngineMode"),
        "Port": source.get("Port"), "AvailabilityZones": source.get("AvailabilityZones"),
    })
    return {k: v for k, v in shown.items() if v is not None}


def _living(ctx, cluster):
    backups = table(ctx, cluster)
    for name in [n for n, b in backups.items() if b.gone(ctx.world)]:
        del backups[name]
    for backup in backups.values():
        source = next(
            (s for s in (ctx.rds.clusters if cluster else ctx.rds.instances).values() if s.resource_id == backup.resource_id), None
        )
        if source is not None and backup.ended is None:
            refresh(backup, source)
    return list(backups.values())


@action("rds", "DescribeDBInstanceAutomatedBackups")
def describe(ctx, p):
    found = _living(ctx, False)
    if p.get("DBInstanceIdentifier"):
        found = [b for b in found if b.source_name == p["DBInstanceIdentifier"].lower()]
    for member, value in (("DbiResourceId", "resource_id"), ("DBInstanceAutomatedBackupsArn", "arn")):
        if p.get(member):
            found = [b for b in found if getattr(b, value) == p[member]]
            if not found:
                raise AwsError("DBInstanceAutomatedBackupNotFoundFault", f"Automated backup for DBInstance {p[member]} not found.")
    found = filters.apply(p, found, {
        "status": lambda b: b.status, "db-instance-id": lambda b: b.source_name, "dbi-resource-id": lambda b: b.resource_id,
    })
    page, marker = paging.rds(ctx, p, found, lambda b: b.name)
    page = [b for b in page if b.observe()]
    return {"DBInstanceAutomatedBackups": [view(ctx, b, False) for b in page], "Marker": marker}


@action("rds", "DescribeDBClusterAutomatedBackups")
def describe_cluster(ctx, p):
    found = [b for b in _living(ctx, True) if b.source_view["Engine"] != "docdb"]
    if p.get("DBClusterIdentifier"):
        found = [b for b in found if b.source_name == p["DBClusterIdentifier"].lower()]
    if p.get("DbClusterResourceId"):
        found = [b for b in found if b.resource_id == p["DbClusterResourceId"]]
        if not found:
            raise AwsError("DBClusterAutomatedBackupNotFoundFault", f"Automated backup {p['DbClusterResourceId']} not found.")
    found = filters.apply(p, found, {
        "status": lambda b: b.status, "db-cluster-id": lambda b: b.source_name, "db-cluster-resource-id": lambda b: b.resource_id,
    })
    page, marker = paging.rds(ctx, p, found, lambda b: b.name)
    return {"DBClusterAutomatedBackups": [view(ctx, b, True) for b in page], "Marker": marker}


@action("rds", "DeleteDBInstanceAutomatedBackup")
def delete(ctx, p):
    if p.get("DBInstanceAutomatedBackupsArn"):
        found = ctx.rds.by_arn(p["DBInstanceAutomatedBackupsArn"])
    elif p.get("DbiResourceId"):
        found = next((b for b in ctx.rds.automated.values() if b.resource_id == p["DbiResourceId"]), None)
    else:
        raise combination("One of DbiResourceId or DBInstanceAutomatedBackupsArn must be provided.")
    if not isinstance(found, AutomatedBackup):
        raise AwsError("DBInstanceAutomatedBackupNotFoundFault", "The automated backup was not found.")
    if found.status != "retained":
        raise AwsError("InvalidDBInstanceAutomatedBackupStateFault", "The automated backup is not in the retained state.")
    shown = view(ctx, found, False)
    del ctx.rds.automated[found.name]
    return {"DBInstanceAutomatedBackup": shown}


@action("rds", "DeleteDBClusterAutomatedBackup")
def delete_cluster(ctx, p):
    found = next((b for b in ctx.rds.cluster_automated.values() if b.resource_id == p["DbClusterResourceId"]), None)
    if found is None:
        raise AwsError("DBClusterAutomatedBackupNotFoundFault", f"Automated backup {p['DbClusterResourceId']} not found.")
    if found.status != "retained":
        raise AwsError("InvalidDBClusterAutomatedBackupStateFault", "The automated backup is not in the retained state.")
    shown = view(ctx, found, True)
    del ctx.rds.cluster_automated[found.name]
    return {"DBClusterAutomatedBackup": shown}


@action("rds", "StartDBInstanceAutomatedBackupsReplication")
def start_replication(ctx, p):
    """Called in the destination region, names the source by ARN."""
    parts = arns.split_rds(p["SourceDBInstanceArn"])
    if not parts or parts[2] != "db":
        raise invalid(f"Invalid SourceDBInstanceArn: {p['SourceDBInstanceArn']}")
    if parts[0] == ctx.region:
        raise invalid("The source DB instance must be in a different AWS Region.")
    source = ctx.elsewhere(parts[0]).rds.instances.get(parts[3])
    if source is None or parts[1] != ctx.account:
        raise AwsError("DBInstanceNotFoundFault", f"DBInstance {p['SourceDBInstanceArn']} not found.")
    if source.status != "available":
        raise AwsError("InvalidDBInstanceStateFault", f"The DB instance {source.name} is not in the available state.")
    if source.view["BackupRetentionPeriod"] == 0:
        raise AwsError("InvalidDBInstanceStateFault", "Automated backups are not enabled for the source DB instance.")
    if source.cluster:
        raise AwsError("InvalidDBInstanceStateFault", "Replication of automated backups is not supported for members of a DB cluster.")
    if any(b.resource_id == source.resource_id and b.ended is None for b in ctx.rds.automated.values()):
        raise AwsError("InvalidDBInstanceAutomatedBackupStateFault", "Automated backups of this DB instance are already replicated to this Region.")
    replicated = [b for b in ctx.rds.automated.values() if b.source_region != ctx.region]
    if len(replicated) >= ctx.world.config.quotas["replicated-backups"]:
        raise AwsError("DBInstanceAutomatedBackupQuotaExceededFault", "The quota for replicated automated backups was exceeded.")
    encrypted = source.view.get("StorageEncrypted")
    if encrypted and not p.get("KmsKeyId"):
        raise combination("KmsKeyId must be specified for an encrypted source DB instance.")
    key = keys.resolve(ctx, p["KmsKeyId"]) if encrypted else None
    keys.authorise(ctx, key)
    days = settings.retention(p.get("BackupRetentionPeriod", 7), cluster=True)
    backup = AutomatedBackup(ctx, "auto-backup", source, None, days)
    backup.source_tags = settings.tags(p.get("Tags"))
    backup.key, backup.settled = key, "replicating"

    def done():
        backup.started = ctx.now
    backup.operation = ctx.world.operation("replicate", source.arn, ["pending"], done, lambda f: setattr(backup, "settled", "failed"))
    ctx.rds.automated[backup.name] = backup
    source.replications.append(backup.arn)
    return {"DBInstanceAutomatedBackup": view(ctx, backup, False)}


@action("rds", "StopDBInstanceAutomatedBackupsReplication")
def stop_replication(ctx, p):
    backup = next(
        (b for b in ctx.rds.automated.values() if b.source_arn == p["SourceDBInstanceArn"] and b.source_region != ctx.region and b.ended is None), None
    )
    if backup is None:
        raise AwsError("DBInstanceNotFoundFault", f"No replicated backups of {p['SourceDBInstanceArn']} in this Region.")
    backup.ended, backup.settled = ctx.now, "retained"
    source = ctx.elsewhere(backup.source_region).rds.by_arn(backup.source_arn)
    if source is not None and backup.arn in source.replications:
        source.replications.remove(backup.arn)
    return {"DBInstanceAutomatedBackup": view(ctx, backup, False)}
