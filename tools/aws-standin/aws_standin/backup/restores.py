"""Restore jobs.

A restore job is RDS's restore under the role's name: the metadata must be complete and known, the
call's own rules hold, and what RDS refuses makes the job FAILED. Aurora and DocumentDB get a
cluster without instances (provider-rules 5b).
"""

import json

from .. import arns, paging
from ..registry import action
from ..credentials import Caller
from ..wire.errors import AwsError
from ..wire.query import parse_time
from ..world import Context
from . import resources
from .errors import bad, missing

BOOLEANS = {"MultiAZ", "PubliclyAccessible", "AutoMinorVersionUpgrade", "CopyTagsToSnapshot", "DeletionProtection", "EnableIAMDatabaseAuthentication", "UseLatestRestorableTime"}
NUMBERS = {"Port", "Iops", "AllocatedStorage"}
DOCUMENTS = {"VpcSecurityGroupIds", "ServerlessV2ScalingConfiguration"}
COMMON = {"Engine", "EngineVersion", "DBSubnetGroupName", "OptionGroupName", "StorageType", "RestoreTime"} | BOOLEANS | NUMBERS | DOCUMENTS
INSTANCE = COMMON | {"DBInstanceIdentifier", "DBInstanceClass", "DBName", "DBParameterGroupName", "AvailabilityZone", "LicenseModel"}
CLUSTER = COMMON | {"DBClusterIdentifier", "DatabaseName", "EngineMode", "DBClusterParameterGroupName", "RestoreType"}


class RestoreJob:
    def __init__(self, ctx, point, role, metadata):
        self.id = arns.new_uuid().upper()
        self.point, self.role, self.metadata = point, role, metadata
        self.created, self.completed = ctx.now, None
        self.forced, self.message, self.resource, self.token = None, None, None, None

    @property
    def state(self):
        if self.forced:
            return self.forced
        return "RUNNING" if self.resource is not None and self.resource.operation.polls else "PENDING"

    def end(self, ctx, state, message=None):
        self.forced, self.message, self.completed = state, message, ctx.now


def _typed(metadata, known):
    """Metadata are strings; RDS's own members want their types."""
    out = {}
    for name, text in metadata.items():
        if name not in known:
            raise bad(f"Unrecognized restore metadata key: {name}")
        try:
            if name in BOOLEANS:
                out[name] = {"true": True, "false": False}[text.lower()]
            elif name in NUMBERS:
                out[name] = int(text)
            elif name in DOCUMENTS:
                out[name] = json.loads(text)
            elif name == "RestoreTime":
                out[name] = parse_time(text)
            else:
                out[name] = text
        except (ValueError, KeyError):
            raise bad(f"Invalid value of restore metadata {name}: {text}") from None
    return out


@action("backup", "StartRestoreJob")
def start(ctx, p):
    token = p.get("IdempotencyToken")
    same = next((j for j in ctx.backup.restore_jobs.values() if token and j.token == token), None)
    if same is not None:
        return {"RestoreJobId": same.id}
    point = next((x for x in ctx.backup.points() if x.arn == p["RecoveryPointArn"]), None)
    if point is None:
        raise missing(f"Recovery point {p['RecoveryPointArn']} cannot be found.")
    if p.get("ResourceType", point.type) != point.type:
        raise bad(f"ResourceType {p['ResourceType']} does not match the recovery point's {point.type}")
    if not p.get("IamRoleArn"):
        raise bad("IamRoleArn is required to restore this resource type.")
    resources.check_role(ctx, p["IamRoleArn"])
    cluster = ":cluster:" in point.resource_arn
    wanted = _typed(p["Metadata"], CLUSTER if cluster else INSTANCE)
    identifier = "DBClusterIdentifier" if cluster else "DBInstanceIdentifier"
    for name in (identifier, *(["Engine"] if cluster else [])):
        if not wanted.get(name):
            raise bad(f"Restore metadata {name} is required.")
    job = RestoreJob(ctx, point, p["IamRoleArn"], p["Metadata"])
    job.token = token
    ctx.backup.restore_jobs[job.id] = job
    verb = "ToPointInTime" if point.continuous else "FromSnapshot" if cluster else "FromDBSnapshot"
    name = f"rds:RestoreDB{'Cluster' if cluster else 'Instance'}{verb}"
    refusal = resources.denied(ctx, job.role, name, point.arn)
    if refusal:
        job.end(ctx, "FAILED", refusal)
        return {"RestoreJobId": job.id}
    if p.get("CopySourceTagsToRestoredResource"):
        wanted["Tags"] = [{"Key": k, "Value": v} for k, v in ctx.backup.tags.get(point.arn, {}).items()]
    try:
        job.resource = _restore(ctx, job, point, wanted, cluster, identifier)
    except AwsError as error:
        job.end(ctx, "FAILED", f"{error.message} (Service: Rds, Error Code: {error.name})")
    return {"RestoreJobId": job.id}


def _restore(ctx, job, point, wanted, cluster, identifier):
    from ..rds import automated, cluster_restore, clusters, instances, restore

    def ready():
        point.restored = ctx.now
        job.end(ctx, "COMPLETED")

    def failed(fault):
        fault = fault or {}
        job.end(ctx, fault.get("state", "FAILED"), fault.get("message", "The restore job failed."))
    # AWS Backup acts as the role, not as the caller.
    ctx = Context(ctx.world, Caller(None, ctx.account, job.role), ctx.region)
    name = (clusters if cluster else instances).check_new(ctx, wanted[identifier])
    hooks = {"kind": "restore-job", "on_ready": ready, "on_fail": failed}
    module = cluster_restore if cluster else restore
    if not point.continuous:
        return module.restore_snapshot(ctx, name, point.snapshot, wanted, **hooks)
    if cluster and "RestoreTime" in wanted:
        wanted["RestoreToTime"] = wanted.pop("RestoreTime")
    source = resources.find(ctx, point.resource_arn)
    backups = automated.table(ctx, cluster).values()
    backup = next((b for b in backups if b.source_arn == point.resource_arn), None)
    if backup is None:
        raise AwsError("DBInstanceAutomatedBackupNotFoundFault", f"No automated backup of {point.resource_arn} is left.")
    return module.restore_backup(ctx, name, backup, source, wanted, **hooks)


def observe(job):
    if job.resource is not None and not job.forced:
        job.resource.observe()


def show(job):
    percent = job.resource.operation.percent if job.state == "RUNNING" else (100 if job.state == "COMPLETED" else 0)
    view = {
        "AccountId": job.point.account, "RestoreJobId": job.id, "RecoveryPointArn": job.point.arn, "SourceResourceArn": job.point.resource_arn,
        "BackupVaultArn": job.point.vault.arn, "CreationDate": job.created, "CompletionDate": job.completed, "Status": job.state,
        "StatusMessage": job.message, "PercentDone": f"{percent:.2f}%", "BackupSizeInBytes": job.point.size, "IamRoleArn": job.role,
        "CreatedResourceArn": job.resource.arn if job.resource else None, "ResourceType": job.point.type,
        "RecoveryPointCreationDate": job.point.created, "IsParent": False,
    }
    return {k: v for k, v in view.items() if v is not None}


@action("backup", "DescribeRestoreJob")
def describe(ctx, p):
    job = ctx.backup.restore_jobs.get(p["RestoreJobId"])
    if job is None:
        raise missing(f"Restore job {p['RestoreJobId']} cannot be found.")
    observe(job)
    return show(job)


@action("backup", "GetRestoreJobMetadata")
def get_metadata(ctx, p):
    job = ctx.backup.restore_jobs.get(p["RestoreJobId"])
    if job is None:
        raise missing(f"Restore job {p['RestoreJobId']} cannot be found.")
    return {"RestoreJobId": job.id, "Metadata": job.metadata}


@action("backup", "ListRestoreJobs")
def list_jobs(ctx, p):
    for job in ctx.backup.restore_jobs.values():
        observe(job)
    found = [
        j for j in ctx.backup.restore_jobs.values()
        if p.get("ByStatus", j.state) == j.state and p.get("ByResourceType", j.point.type) == j.point.type
        and p.get("ByCreatedBefore", j.created + 1) > j.created and p.get("ByCreatedAfter", j.created - 1) < j.created
    ]
    page, token = paging.backup(ctx, p, found, lambda j: j.id)
    return {"RestoreJobs": [show(j) for j in page], "NextToken": token}
