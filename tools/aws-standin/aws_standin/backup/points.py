"""Recovery points: what a vault holds.

Rules (provider-rules 5b): a locked vault lets none go; a legal hold lets none go and stops expiry;
the retention of a continuous point is changed through its plan only; deleting a continuous point
ends RDS's automated backups (retention 0), and leaves Aurora with one day; a point past its
retention is deleted by the service. Lists come in no useful order (X11).
"""

import json

from .. import arns, paging
from ..registry import action
from . import resources, vaults
from .errors import bad, missing, refused

DAY = 86400


class Point:
    def __init__(self, ctx, vault, arn, resource_arn, type_, snapshot, days, role, creator=None, continuous=False):
        self.vault, self.arn, self.resource_arn, self.type = vault, arn, resource_arn, type_
        self.snapshot, self.days, self.role, self.creator, self.continuous = snapshot, days, role, creator, continuous
        self.region, self.account = ctx.region, ctx.account
        self.started = self.created = ctx.now
        self.completed = None
        self.status = "COMPLETED"
        self.message = None
        self.source_vault = None
        self.restored = None
        self.metadata = {}
        self.size = 20 * 2**30

    @property
    def delete_at(self):
        return None if self.days is None or self.continuous else self.created + self.days * DAY


def find(ctx, p):
    vault = vaults.find(ctx, p["BackupVaultName"])
    point = vault.points.get(p["RecoveryPointArn"])
    if point is None:
        raise missing(f"Recovery point {p['RecoveryPointArn']} cannot be found in vault {vault.name}.")
    return vault, point


def add(ctx, vault, point):
    vault.points[point.arn] = point
    watch_expiry(ctx, point)
    return point


def watch_expiry(ctx, point):
    if point.delete_at is not None:
        ctx.world.clock.at(point.delete_at, lambda: expire(ctx, point))


def expire(ctx, point):
    if point.vault.points.get(point.arn) is not point or point.delete_at is None or point.delete_at > ctx.now:
        return
    if held(ctx, point):
        return  # holds.cancel looks again
    remove(ctx, point)


def remove(ctx, point):
    del point.vault.points[point.arn]
    ctx.backup.tags.pop(point.arn, None)
    if point.snapshot is not None:
        table = ctx.rds.cluster_snapshots if point.snapshot.kind == "cluster-snapshot" else ctx.rds.snapshots
        table.pop(point.snapshot.name, None)


def held(ctx, point):
    return any(hold.covers(point) for hold in ctx.backup.holds.values())


def restore_metadata(source):
    """What GetRecoveryPointRestoreMetadata gives: the source as it was, under RDS's names."""
    view = source.view
    if source.kind == "cluster":
        metadata = {
            "DBClusterIdentifier": source.name, "Engine": view["Engine"], "EngineVersion": view["EngineVersion"],
            "DBSubnetGroupName": view["DBSubnetGroup"], "Port": view["Port"], "EngineMode": view.get("EngineMode"),
            "DBClusterParameterGroupName": view["DBClusterParameterGroup"], "DatabaseName": view.get("DatabaseName"),
            "ServerlessV2ScalingConfiguration": json.dumps(view["ServerlessV2ScalingConfiguration"]) if view.get("ServerlessV2ScalingConfiguration") else None,
        }
    else:
        metadata = {
            "DBInstanceIdentifier": source.name, "DBInstanceClass": view["DBInstanceClass"], "Engine": view["Engine"],
            "DBSubnetGroupName": view["DBSubnetGroup"]["DBSubnetGroupName"], "MultiAZ": view["MultiAZ"], "Port": source.port,
            "OptionGroupName": view["OptionGroupMemberships"][0]["OptionGroupName"], "StorageType": view["StorageType"],
            "PubliclyAccessible": view["PubliclyAccessible"], "AutoMinorVersionUpgrade": view["AutoMinorVersionUpgrade"],
            "DBName": view.get("DBName"), "Iops": view.get("Iops"), "AllocatedStorage": view["AllocatedStorage"],
            "DBParameterGroupName": view["DBParameterGroups"][0]["DBParameterGroupName"],
        }
    for member in ("CopyTagsToSnapshot", "DeletionProtection"):
        metadata[member] = view[member]
    metadata["EnableIAMDatabaseAuthentication"] = view["IAMDatabaseAuthenticationEnabled"]
    metadata["VpcSecurityGroupIds"] = json.dumps([g["VpcSecurityGroupId"] for g in view["VpcSecurityGroups"]])
    return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in metadata.items() if v is not None}


def seed(ctx, vault, source, taken, name):
    """A finished point of the past, for fixtures."""
    from ..rds import cluster_snapshots, snapshots

    maker = cluster_snapshots if source.kind == "cluster" else snapshots
    snapshot = maker.add(ctx, source, f"awsbackup:job-{name}", "awsbackup", taken=taken)
    type_ = resources.type_of(source)
    role = f"arn:aws:iam::{ctx.account}:role/{resources.DEFAULT_ROLE}"
    point = Point(ctx, vault, snapshot.arn, source.arn, type_, snapshot, None, role)
    point.created = point.started = point.completed = taken
    point.metadata = restore_metadata(source)
    return add(ctx, vault, point)


def show(point):
    delete_at = point.delete_at
    view = {
        "RecoveryPointArn": point.arn, "BackupVaultName": point.vault.name, "BackupVaultArn": point.vault.arn,
        "ResourceArn": point.resource_arn, "ResourceType": point.type, "IamRoleArn": point.role, "Status": point.status,
        "StatusMessage": point.message, "CreationDate": point.created, "InitiationDate": point.started,
        "CompletionDate": point.completed, "BackupSizeInBytes": point.size, "IsEncrypted": bool(_key(point)),
        "EncryptionKeyArn": _key(point), "CalculatedLifecycle": {"DeleteAt": delete_at} if delete_at else {},
        "Lifecycle": resources.shown_lifecycle(point.days), "CreatedBy": point.creator, "SourceBackupVaultArn": point.source_vault,
        "VaultType": point.vault.kind, "LastRestoreTime": point.restored, "IsParent": False,
        "ResourceName": point.resource_arn.rpartition(":")[2],
    }
    return {k: v for k, v in view.items() if v is not None}


def _key(point):
    return point.snapshot.view.get("KmsKeyId") if point.snapshot else None


@action("backup", "DescribeRecoveryPoint")
def describe(ctx, p):
    _, point = find(ctx, p)
    return {**show(point), "StorageClass": "WARM"}


@action("backup", "ListRecoveryPointsByBackupVault")
def by_vault(ctx, p):
    vault = vaults.find(ctx, p["BackupVaultName"])
    found = [
        point for point in vault.points.values()
        if p.get("ByResourceArn", point.resource_arn) == point.resource_arn
        and p.get("ByResourceType", point.type) == point.type
        and ("ByBackupPlanId" not in p or (point.creator or {}).get("BackupPlanId") == p["ByBackupPlanId"])
        and p.get("ByCreatedBefore", point.created + 1) > point.created
        and p.get("ByCreatedAfter", point.created - 1) < point.created
    ]
    page, token = paging.backup(ctx, p, found, lambda point: point.arn)
    return {"RecoveryPoints": [show(point) for point in page], "NextToken": token}


@action("backup", "ListRecoveryPointsByResource")
def by_resource(ctx, p):
    found = [point for point in ctx.backup.points() if point.resource_arn == p["ResourceArn"]]
    page, token = paging.backup(ctx, p, found, lambda point: point.arn)
    return {"NextToken": token, "RecoveryPoints": [
        {
            "RecoveryPointArn": point.arn, "CreationDate": point.created, "Status": point.status, "BackupSizeBytes": point.size,
            "BackupVaultName": point.vault.name, "EncryptionKeyArn": _key(point), "VaultType": point.vault.kind, "IsParent": False,
        } for point in page
    ]}


@action("backup", "GetRecoveryPointRestoreMetadata")
def get_metadata(ctx, p):
    vault, point = find(ctx, p)
    return {"BackupVaultArn": vault.arn, "RecoveryPointArn": point.arn, "RestoreMetadata": point.metadata, "ResourceType": point.type}


def _check_release(ctx, vault, point, name):
    vaults.check_policy(ctx, vault, f"backup:{name}")
    if vault.lock is not None:
        raise refused(f"Recovery point {point.arn} cannot be deleted: backup vault {vault.name} is configured with a vault lock (write once, read many).")
    if held(ctx, point):
        raise refused(f"Recovery point {point.arn} cannot be deleted: it is under a legal hold.")
    if getattr(point.snapshot, "readers", 0):
        raise refused(f"Recovery point {point.arn} is in use by a copy or restore job.")


def _source(ctx, point):
    return resources.find(ctx, point.resource_arn)


@action("backup", "DeleteRecoveryPoint")
def delete(ctx, p):
    vault, point = find(ctx, p)
    _check_release(ctx, vault, point, "DeleteRecoveryPoint")
    if point.continuous:
        source = _source(ctx, point)
        if source is not None:
            from ..rds import automated

            source.backup_point = None
            automated.set_retention(ctx, source, 1 if source.kind == "cluster" else 0)
    remove(ctx, point)
    return {}


@action("backup", "DisassociateRecoveryPoint")
def disassociate(ctx, p):
    """Gives a continuous point back to RDS, which keeps the retention."""
    vault, point = find(ctx, p)
    if not point.continuous:
        raise refused("Only continuous recovery points can be disassociated.")
    _check_release(ctx, vault, point, "DisassociateRecoveryPoint")
    source = _source(ctx, point)
    if source is not None:
        source.backup_point = None
    remove(ctx, point)
    return {}


@action("backup", "UpdateRecoveryPointLifecycle")
def update_lifecycle(ctx, p):
    vault, point = find(ctx, p)
    if point.continuous:
        raise refused("The retention of a continuous recovery point can only be changed through its backup plan.")
    days = resources.lifecycle(p.get("Lifecycle"))
    objection = vault.objection(days)
    if objection:
        raise bad(objection)
    shorter = days is not None and (point.days is None or days < point.days)
    if vault.lock is not None and shorter:
        raise refused(f"The retention of recovery point {point.arn} cannot be shortened while vault {vault.name} is locked.")
    point.days = days
    watch_expiry(ctx, point)
    delete_at = point.delete_at
    return {
        "BackupVaultArn": vault.arn, "RecoveryPointArn": point.arn, "Lifecycle": resources.shown_lifecycle(days),
        "CalculatedLifecycle": {"DeleteAt": delete_at} if delete_at else {},
    }


@action("backup", "ListProtectedResources")
def protected(ctx, p):
    newest = {}
    for point in ctx.backup.points():
        if point.resource_arn not in newest or newest[point.resource_arn].created < point.created:
            newest[point.resource_arn] = point
    page, token = paging.backup(ctx, p, list(newest.values()), lambda point: point.resource_arn)
    return {"Results": [_protected(point) for point in page], "NextToken": token}


def _protected(point):
    return {
        "ResourceArn": point.resource_arn, "ResourceType": point.type, "LastBackupTime": point.created,
        "ResourceName": point.resource_arn.rpartition(":")[2], "LastBackupVaultArn": point.vault.arn, "LastRecoveryPointArn": point.arn,
    }


@action("backup", "DescribeProtectedResource")
def describe_protected(ctx, p):
    found = [point for point in ctx.backup.points() if point.resource_arn == p["ResourceArn"]]
    if not found:
        raise missing(f"Resource {p['ResourceArn']} is not protected.")
    return _protected(max(found, key=lambda point: point.created))


def continuous_arn(ctx, source):
    # Shape of the ARN not confirmed by a real account; clients must treat it as opaque.
    return arns.rds(ctx.region, ctx.account, "auto-backup", f"awsbackup:continuous:{source.resource_id.lower()}")
