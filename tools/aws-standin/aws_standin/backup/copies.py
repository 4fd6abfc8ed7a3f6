"""Copy jobs: recovery points to other vaults, also in other regions.

Rules (provider-rules 5b, X10): the destination is a `backup-vault` ARN; its lock judges the new
retention; copies of continuous points are snapshots; an encrypted copy uses the destination vault's
key; a point under an AWS-managed key cannot go to another account, and another region and account
in one step is refused for these types.
"""

from .. import arns, keys, paging
from ..registry import action
from ..wire.errors import AwsError
from ..world import Context
from . import points, resources, vaults
from .errors import missing


class CopyJob:
    def __init__(self, ctx, point, target, role, days, parent=None):
        self.id = arns.new_uuid().upper()
        self.point, self.source_vault, self.target, self.role, self.days, self.parent = point, point.vault, target, role, days, parent
        self.created, self.completed = ctx.now, None
        self.forced, self.message, self.snapshot, self.result, self.token = None, None, None, None, None

    @property
    def state(self):
        if self.forced:
            return self.forced
        return "RUNNING" if self.snapshot is not None and self.snapshot.operation.polls else "CREATED"

    def end(self, ctx, state, message=None):
        self.forced, self.message, self.completed = state, message, ctx.now


def begin(ctx, point, target_arn, role, days, parent=None):
    try:
        target = vaults.by_arn(ctx, target_arn)
    except AwsError as error:
        target = None
        reason = error.message
    job = CopyJob(ctx, point, target, role, days, parent)
    job.target_arn = target_arn
    ctx.backup.copy_jobs[job.id] = job
    reason = reason if target is None else _objection(ctx, job, point, target)
    if reason:
        job.end(ctx, "FAILED", reason)
    else:
        _copy(ctx, job, point, target)
    return job


def _objection(ctx, job, point, target):
    source = point.snapshot
    if target.account != ctx.account:
        if target.region != ctx.region:
            return f"Cross-account and cross-Region copy in one step is not supported for {point.type}."
        held = source.view.get("KmsKeyId") if source else None
        if held and keys.is_managed(held):
            return "A recovery point encrypted with an AWS managed key cannot be copied to another account."
        if not target.policy or "backup:CopyIntoBackupVault" not in target.policy:
            return f"Access Denied: the access policy of {target.arn} does not allow backup:CopyIntoBackupVault."
    cluster = point.type in ("Aurora", "DocumentDB") or ":cluster:" in point.resource_arn
    name = f"rds:CopyDB{'Cluster' if cluster else ''}Snapshot"
    return target.objection(job.days) or resources.denied(ctx, job.role, name, point.arn)


def _copy(ctx, job, point, target):
    from ..rds import cluster_snapshots, copies, snapshots

    there = Context(ctx.world, ctx.caller, target.region)
    if target.account != ctx.account:
        region = ctx.elsewhere(target.region, target.account)
        there.account, there.rds, there.backup = target.account, region.rds, region.backup
    source = point.snapshot
    if source is None:  # continuous: a snapshot is taken for the copy
        database = resources.find(ctx, point.resource_arn)
        if database is None:
            job.end(ctx, "FAILED", f"Resource {point.resource_arn} of the continuous recovery point is gone.")
            return
        maker = cluster_snapshots if database.kind == "cluster" else snapshots
        source = maker.add(ctx, database, f"awsbackup:copyjob-{arns.new_uuid()}", "awsbackup", taken=ctx.now)
    encrypted = bool(source.view.get("KmsKeyId"))
    try:
        key = keys.resolve(there, target.key) if encrypted else None
        if encrypted and not keys.usable(ctx, source.view["KmsKeyId"]):
            raise AwsError("KMSKeyNotAccessibleFault", f"The key {source.view['KmsKeyId']} of the recovery point is not accessible.")
    except AwsError as error:
        job.end(ctx, "FAILED", error.message)
        return
    tags = [{"Key": k, "Value": v} for k, v in ctx.backup.tags.get(point.arn, {}).items()]

    def done():
        copy = points.Point(there, target, job.snapshot.arn, point.resource_arn, point.type, job.snapshot, job.days, job.role, point.creator)
        copy.created = copy.started = job.created
        copy.completed = ctx.now
        copy.source_vault, copy.metadata, copy.size = point.vault.arn, dict(point.metadata), point.size
        there.backup.tags[copy.arn] = dict(ctx.backup.tags.get(point.arn, {}))
        job.result = points.add(there, target, copy)
        job.end(ctx, "COMPLETED")

    def failed(fault):
        fault = fault or {}
        (there.rds.cluster_snapshots if source.kind == "cluster-snapshot" else there.rds.snapshots).pop(job.snapshot.name, None)
        job.end(ctx, fault.get("state", "FAILED"), fault.get("message", "The copy job failed."))
    job.snapshot = copies.start(
        there, source, f"awsbackup:copyjob-{job.id.lower()}", "awsbackup", key, tags, kind="copy-job", on_done=done, on_fail=failed
    )


def observe(job):
    if job.snapshot is not None and not job.forced:
        job.snapshot.observe()


def show(job):
    source = job.source_vault
    view = {
        "AccountId": source.account, "CopyJobId": job.id, "SourceBackupVaultArn": source.arn, "SourceRecoveryPointArn": job.point.arn,
        "DestinationBackupVaultArn": job.target_arn, "ResourceArn": job.point.resource_arn, "ResourceType": job.point.type,
        "CreationDate": job.created, "CompletionDate": job.completed, "State": job.state, "StatusMessage": job.message,
        "BackupSizeInBytes": job.point.size, "IamRoleArn": job.role, "IsParent": False,
        "DestinationRecoveryPointArn": job.snapshot.arn if job.snapshot else None,
        "DestinationRecoveryPointLifecycle": resources.shown_lifecycle(job.days),
        "CreatedByBackupJobId": job.parent.id if job.parent else None, "CreatedBy": job.parent.creator if job.parent else None,
        "ResourceName": job.point.resource_arn.rpartition(":")[2],
    }
    return {k: v for k, v in view.items() if v is not None}


@action("backup", "StartCopyJob")
def start(ctx, p):
    """Called in the source's region, unlike RDS's own copies."""
    vault = vaults.find(ctx, p["SourceBackupVaultName"])
    point = vault.points.get(p["RecoveryPointArn"])
    if point is None:
        raise missing(f"Recovery point {p['RecoveryPointArn']} cannot be found in vault {vault.name}.")
    token = p.get("IdempotencyToken")
    same = next((j for j in ctx.backup.copy_jobs.values() if token and j.token == token), None)
    if same is None:
        vaults.by_arn(ctx, p["DestinationBackupVaultArn"])
        resources.check_role(ctx, p["IamRoleArn"])
        days = resources.lifecycle(p.get("Lifecycle"))
        same = begin(ctx, point, p["DestinationBackupVaultArn"], p["IamRoleArn"], days)
        same.token = token
    return {"CopyJobId": same.id, "CreationDate": same.created, "IsParent": False}


@action("backup", "DescribeCopyJob")
def describe(ctx, p):
    job = ctx.backup.copy_jobs.get(p["CopyJobId"])
    if job is None:
        raise missing(f"Copy job {p['CopyJobId']} cannot be found.")
    observe(job)
    return {"CopyJob": show(job)}


@action("backup", "ListCopyJobs")
def list_jobs(ctx, p):
    for job in ctx.backup.copy_jobs.values():
        observe(job)
    found = [
        j for j in ctx.backup.copy_jobs.values()
        if p.get("ByResourceArn", j.point.resource_arn) == j.point.resource_arn and p.get("ByState", j.state) == j.state
        and p.get("ByDestinationVaultArn", j.target_arn) == j.target_arn and p.get("ByResourceType", j.point.type) == j.point.type
        and p.get("BySourceRecoveryPointArn", j.point.arn) == j.point.arn
        and p.get("ByCreatedBefore", j.created + 1) > j.created and p.get("ByCreatedAfter", j.created - 1) < j.created
    ]
    page, token = paging.backup(ctx, p, found, lambda j: j.id)
    return {"CopyJobs": [show(j) for j in page], "NextToken": token}
