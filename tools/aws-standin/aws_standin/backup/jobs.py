"""Backup jobs.

Rules (provider-rules 5b, X5): a start window is at least 60 minutes; while the database is not
available the job stays CREATED, and is EXPIRED when the window is over; a retention outside of the
vault's lock makes the job FAILED, not the call; jobs end COMPLETED, FAILED, EXPIRED, ABORTED or
PARTIAL; RDS backup jobs cannot be stopped; the same idempotency token is the same job. One
continuous point per database.
"""

from .. import arns, paging
from ..registry import action
from . import points, resources, vaults
from .errors import bad, missing, refused

STATES = {"CREATED", "PENDING", "RUNNING", "ABORTING", "ABORTED", "COMPLETED", "FAILED", "EXPIRED", "PARTIAL"}


class Job:
    def __init__(self, ctx, vault, resource_arn, role, days, start_minutes, creator=None, tags=None, copies=(), continuous=False):
        self.id, self.vault, self.resource_arn, self.role, self.days = arns.new_uuid().upper(), vault, resource_arn, role, days
        self.created, self.completed, self.started = ctx.now, None, None
        self.start_by = ctx.now + start_minutes * 60
        self.creator, self.tags, self.copies, self.continuous = creator, tags or {}, copies, continuous
        self.token = None
        self.forced, self.message, self.point, self.snapshot = None, None, None, None
        self.type = None

    @property
    def state(self):
        if self.forced:
            return self.forced
        if self.started is None:
            return "CREATED"
        return "RUNNING"

    def end(self, ctx, state, message=None):
        self.forced, self.message, self.completed = state, message, ctx.now


def start(ctx, job):
    """Put the job there; it begins as soon as its database is available."""
    ctx.backup.jobs[job.id] = job
    objection = job.vault.objection(job.days)
    source = resources.find(ctx, job.resource_arn)
    if source is not None:
        job.type = resources.type_of(source)
    if source is None:
        job.end(ctx, "FAILED", f"Resource {job.resource_arn} cannot be found.")
    elif objection:
        job.end(ctx, "FAILED", objection)
    elif job.continuous:
        _continuous(ctx, job, source)
    else:
        _poke(ctx, job)
        if job.started is None and job.forced is None:
            ctx.world.clock.at(job.start_by, lambda: _poke(ctx, job))
    return job


def _poke(ctx, job):
    """Begin if the database is available; expire when the start window is over."""
    if job.started is not None or job.forced:
        return
    source = resources.find(ctx, job.resource_arn)
    if source is None:
        job.end(ctx, "FAILED", f"Resource {job.resource_arn} cannot be found.")
    elif source.status == "available":
        _begin(ctx, job, source)
    elif ctx.now >= job.start_by:
        job.end(ctx, "EXPIRED", f"Backup job expired before it could start: the database was in state {source.status}.")


def _begin(ctx, job, source):
    from ..rds import cluster_snapshots, snapshots

    cluster = source.kind == "cluster"
    name = f"rds:CreateDB{'Cluster' if cluster else ''}Snapshot"
    refusal = resources.denied(ctx, job.role, name, source.arn)
    if refusal:
        job.end(ctx, "FAILED", refusal)
        return
    job.started = ctx.now

    def done():
        complete(ctx, job, source, "COMPLETED")
        go_on()

    def failed(fault):
        fault = fault or {}
        state = fault.get("state", "FAILED")
        job.end(ctx, state, fault.get("message", "The backup job failed to create a snapshot."))
        if state == "PARTIAL":
            complete(ctx, job, source, "PARTIAL")
        else:
            table = ctx.rds.cluster_snapshots if cluster else ctx.rds.snapshots
            table.pop(job.snapshot.name, None)
        go_on()

    def go_on():
        # The next one waits for the database, and not for somebody to look.
        for other in list(ctx.backup.jobs.values()):
            _poke(ctx, other)
    maker = cluster_snapshots if cluster else snapshots
    tags = [{"Key": k, "Value": v} for k, v in {**resources.tagged(source), **job.tags}.items()]
    job.snapshot = maker.add(
        ctx, source, f"awsbackup:job-{job.id.lower()}", "awsbackup", tags=tags, kind="backup-job", on_done=done, on_fail=failed
    )


def complete(ctx, job, source, state):
    from . import copies

    point = points.Point(ctx, job.vault, job.snapshot.arn, job.resource_arn, job.type, job.snapshot, job.days, job.role, job.creator)
    point.started, point.created, point.completed = job.started, job.created, ctx.now
    point.status = state
    point.metadata = points.restore_metadata(source)
    ctx.backup.tags[point.arn] = {**resources.tagged(source), **job.tags}
    job.point = points.add(ctx, job.vault, point)
    job.end(ctx, state, job.message)
    if state == "COMPLETED":
        for wanted in job.copies:
            copies.begin(ctx, point, wanted["DestinationBackupVaultArn"], job.role, resources.lifecycle(wanted.get("Lifecycle")), job)


def _continuous(ctx, job, source):
    """The first run makes the point and takes over the database's automated backups; later runs
    renew it. A second one elsewhere is refused."""
    from ..rds import automated

    arn = points.continuous_arn(ctx, source)
    holder = next((p for p in ctx.backup.points() if p.arn == arn), None)
    if holder is not None and holder.vault is not job.vault:
        job.end(ctx, "FAILED", f"{source.arn} already has a continuous recovery point in vault {holder.vault.name}; there can be one.")
        return
    if job.type == "DocumentDB":
        job.end(ctx, "FAILED", "Continuous backup is not supported for DocumentDB.")
        return
    automated.set_retention(ctx, source, job.days)
    if holder is None:
        holder = points.Point(ctx, job.vault, arn, source.arn, job.type, None, job.days, job.role, job.creator, continuous=True)
        holder.status = "AVAILABLE"
        points.add(ctx, job.vault, holder)
    holder.days, holder.metadata = job.days, points.restore_metadata(source)
    source.backup_point = arn
    job.started, job.point = ctx.now, holder
    job.end(ctx, "COMPLETED")


def observe(ctx, job):
    _poke(ctx, job)
    if job.snapshot is not None:
        job.snapshot.observe()


def show(job):
    running = job.state == "RUNNING" and job.snapshot is not None
    percent = job.snapshot.operation.percent if running else (100 if job.state == "COMPLETED" else 0)
    view = {
        "AccountId": job.vault.account, "BackupJobId": job.id, "BackupVaultName": job.vault.name, "BackupVaultArn": job.vault.arn,
        "ResourceArn": job.resource_arn, "ResourceType": job.type, "CreationDate": job.created, "CompletionDate": job.completed,
        "State": job.state, "StatusMessage": job.message, "PercentDone": f"{percent}.0", "IamRoleArn": job.role,
        "RecoveryPointArn": job.point.arn if job.point else (job.snapshot.arn if job.snapshot else None),
        "BackupSizeInBytes": job.point.size if job.point else None, "StartBy": job.start_by, "CreatedBy": job.creator,
        "IsParent": False, "ResourceName": job.resource_arn.rpartition(":")[2],
    }
    return {k: v for k, v in view.items() if v is not None}


@action("backup", "StartBackupJob")
def start_job(ctx, p):
    vault = vaults.find(ctx, p["BackupVaultName"])
    token = p.get("IdempotencyToken")
    same = next((j for j in ctx.backup.jobs.values() if token and j.token == token), None)
    if same is not None:
        return _started(same)
    if p.get("LogicallyAirGappedBackupVaultArn"):
        raise refused("the stand-in does not model logically air-gapped vaults")
    resources.check_arn(p["ResourceArn"])
    resources.check_role(ctx, p["IamRoleArn"])
    minutes = check_windows(p.get("StartWindowMinutes"), p.get("CompleteWindowMinutes"))
    if p.get("BackupOptions"):
        raise bad("BackupOptions are not valid for this resource type")
    days = resources.lifecycle(p.get("Lifecycle"))
    job = Job(ctx, vault, p["ResourceArn"], p["IamRoleArn"], days, minutes, tags=p.get("RecoveryPointTags"))
    job.token = token
    return _started(start(ctx, job))


def check_windows(start_minutes, complete_minutes):
    if start_minutes is not None and not 60 <= start_minutes <= 52_560_000:
        raise bad("StartWindowMinutes must be at least 60.")
    start_minutes = start_minutes or 480
    if complete_minutes is not None and complete_minutes <= start_minutes:
        raise bad("The completion window must be longer than the start window.")
    return start_minutes


def _started(job):
    return {"BackupJobId": job.id, "CreationDate": job.created, "IsParent": False}


@action("backup", "DescribeBackupJob")
def describe(ctx, p):
    job = ctx.backup.jobs.get(p["BackupJobId"])
    if job is None:
        raise missing(f"Backup job {p['BackupJobId']} cannot be found.")
    observe(ctx, job)
    return show(job)


@action("backup", "ListBackupJobs")
def list_jobs(ctx, p):
    for job in list(ctx.backup.jobs.values()):
        observe(ctx, job)
    found = [
        j for j in ctx.backup.jobs.values()
        if p.get("ByResourceArn", j.resource_arn) == j.resource_arn and p.get("ByState", j.state) == j.state
        and p.get("ByBackupVaultName", j.vault.name) == j.vault.name and p.get("ByResourceType", j.type) == j.type
        and p.get("ByCreatedBefore", j.created + 1) > j.created and p.get("ByCreatedAfter", j.created - 1) < j.created
    ]
    page, token = paging.backup(ctx, p, found, lambda j: j.id)
    return {"BackupJobs": [show(j) for j in page], "NextToken": token}


@action("backup", "StopBackupJob")
def stop(ctx, p):
    if p["BackupJobId"] not in ctx.backup.jobs:
        raise missing(f"Backup job {p['BackupJobId']} cannot be found.")
    raise refused("Stopping a backup job is not supported for Amazon RDS, Aurora and DocumentDB.")


def force(ctx, job_id, state, message):
    """For the control endpoint: a job in a state that takes an accident to see."""
    for table in (ctx.backup.jobs, ctx.backup.copy_jobs, ctx.backup.restore_jobs):
        job = table.get(job_id)
        if job is not None:
            if state not in STATES:
                raise ValueError(f"unknown state {state}")
            made = getattr(job, "snapshot", None) or getattr(job, "resource", None)
            if made is not None and made.busy:
                made.operation.cancel()
                made.settled = "failed"
            job.end(ctx, state, message)
            return {"id": job_id, "state": job.state}
    raise ValueError(f"no job {job_id} in {ctx.region}")
