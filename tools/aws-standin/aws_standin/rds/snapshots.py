"""DB snapshots of instances: create, describe, delete, share.

Rules (provider-rules 5b, X11, X19): the instance must be `available` and is `backing-up` meanwhile;
100 manual snapshots per region, AWS Backup's and automated ones not counted; a snapshot that is
`creating` has no SnapshotCreateTime; automated ones cannot be deleted or shared; at most 20
accounts share one, never one under an AWS-managed key.
"""

from .. import arns, keys, paging
from ..registry import action
from ..wire.errors import AwsError, combination, invalid
from . import events, filters, instances, settings
from .store import Resource

TYPES = ("automated", "manual", "shared", "public", "awsbackup")


class Snapshot(Resource):
    """Of an instance (kind `snapshot`) or of a cluster (`cluster-snapshot`)."""

    def __init__(self, ctx, kind, name, type_, view, tags=()):
        super().__init__(ctx, kind, name, view, tags)
        self.type, self.resource_id, self.taken = type_, None, None
        self.source_tags = []
        self.shared_with = []
        self.copied_from = None  # resource id of the database whose snapshot is being copied
        self.origin = None       # for the restore-endpoint hook: ARNs this one descends from
        self.lineage = []
        self.source_class = None


def find(ctx, text, member="DBSnapshotIdentifier"):
    """A snapshot here, or one of another account that shares it (ARN)."""
    parts = arns.split_rds(text)
    if parts and parts[1] != ctx.account:
        owner = ctx.elsewhere(parts[0], parts[1]).rds.snapshots.get(parts[3])
        if parts[0] == ctx.region and owner and ctx.account in owner.shared_with:
            return owner
        raise AwsError("DBSnapshotNotFoundFault", f"DBSnapshot {text} not found.")
    key = arns.local(text, "snapshot", ctx.region, ctx.account, "DBSnapshotNotFoundFault", "DBSnapshot")
    snapshot = ctx.rds.snapshots.get(key)
    if snapshot is None or snapshot.hidden:
        raise AwsError("DBSnapshotNotFoundFault", f"DBSnapshot {key} not found.")
    return snapshot


def manual_count(ctx):
    return sum(s.type == "manual" for s in ctx.rds.snapshots.values())


def check_new(ctx, name, member="DBSnapshotIdentifier"):
    name = arns.identifier(name, member, longest=255)
    if name in ctx.rds.snapshots:
        raise AwsError("DBSnapshotAlreadyExistsFault", f"Cannot create the snapshot because a snapshot with the identifier {name} already exists.")
    limit = ctx.world.config.quotas["manual-snapshots"]
    if manual_count(ctx) >= limit:
        raise AwsError("SnapshotQuotaExceededFault", f"Cannot create more than {limit} manual snapshots.")
    return name


def describe_source(instance):
    """What a snapshot remembers of its instance; not its network, class or groups (X17)."""
    view = instance.view
    return {
        "DBInstanceIdentifier": instance.name, "Engine": view["Engine"], "EngineVersion": view["EngineVersion"],
        "AllocatedStorage": view["AllocatedStorage"], "Port": instance.port, "AvailabilityZone": view["AvailabilityZone"],
        "VpcId": view["DBSubnetGroup"]["VpcId"], "InstanceCreateTime": view["InstanceCreateTime"],
        "MasterUsername": view["MasterUsername"], "LicenseModel": view["LicenseModel"],
        "StorageType": view["StorageType"], "Iops": view.get("Iops"), "Encrypted": view["StorageEncrypted"],
        "KmsKeyId": view.get("KmsKeyId"), "DbiResourceId": instance.resource_id,
        "OptionGroupName": view["OptionGroupMemberships"][0]["OptionGroupName"],
        "IAMDatabaseAuthenticationEnabled": view["IAMDatabaseAuthenticationEnabled"],
        "BackupRetentionPeriod": view["BackupRetentionPeriod"], "PreferredBackupWindow": view["PreferredBackupWindow"],
        "SnapshotTarget": "region",
    }


def add(ctx, instance, name, type_, tags=(), taken=None, final=False, kind="snapshot", on_done=None, on_fail=None):
    """Take a snapshot; with `taken` it is complete at once (an automated one of the past)."""
    snapshot = Snapshot(ctx, "snapshot", name, type_, describe_source(instance), tags)
    snapshot.resource_id = instance.resource_id
    snapshot.lineage = [instance.arn, instance.resource_id]
    snapshot.source_class = instance.view["DBInstanceClass"]
    if type_ == "automated":
        snapshot.tags = [dict(t) for t in instance.tags] if instance.view.get("CopyTagsToSnapshot") else []

    def done():
        snapshot.taken = ctx.now if taken is None else taken
        snapshot.view["SnapshotCreateTime"] = snapshot.view["OriginalSnapshotCreateTime"] = snapshot.taken
        if taken is None:
            events.emit(ctx, "db-snapshot", snapshot, f"{'Automated' if type_ == 'automated' else 'Manual'} snapshot created", ["creation"], ctx.now)
        if on_done:
            on_done()

    def failed(fault):
        snapshot.settled = "failed"
        if on_fail:
            on_fail(fault)
    ctx.rds.snapshots[name] = snapshot
    if taken is not None:
        done()
        return snapshot
    snapshot.operation = ctx.world.operation(kind, snapshot.arn, ["creating"], done, failed)
    snapshot.hidden = ctx.world.faults.invisible_for("snapshot", snapshot.arn)
    if not final:
        _backing_up(ctx, instance, snapshot)
    return snapshot


def _backing_up(ctx, instance, snapshot):
    """The instance shows `backing-up` exactly as long as its snapshot is on the way."""
    operation = snapshot.operation

    class Shared:
        """The snapshot's operation, under the instance's name for it."""

        finished = property(lambda self: operation.finished)
        percent = property(lambda self: operation.percent)
        stage = "backing-up"
        kind = "snapshot"

        def observe(self):
            operation.observe()

        def cancel(self):
            """Deleting the instance does not stop its snapshot."""

    instance.operation = Shared()


def show(ctx, snapshot, as_type=None):
    view = {k: v for k, v in snapshot.view.items() if v is not None}
    foreign = snapshot.account != ctx.account
    view.update({
        "DBSnapshotIdentifier": snapshot.arn if foreign else snapshot.name, "Status": snapshot.status,
        "SnapshotType": "shared" if foreign else snapshot.type, "DBSnapshotArn": snapshot.arn,
        "PercentProgress": snapshot.operation.percent if snapshot.busy else (0 if snapshot.status == "failed" else 100),
    })
    if not foreign:
        view["TagList"] = snapshot.tags
    return view


@action("rds", "CreateDBSnapshot")
def create(ctx, p):
    instance = instances.find(ctx, p["DBInstanceIdentifier"])
    name = check_new(ctx, p["DBSnapshotIdentifier"])
    if instance.cluster:
        raise combination("The specified instance is a member of a cluster and a snapshot cannot be created directly. Please use the CreateDBClusterSnapshot API instead.")
    instances.require_available(instance, "Cannot create a snapshot")
    tags = settings.tags(p.get("Tags"))
    if instance.view["CopyTagsToSnapshot"]:
        given = {t["Key"] for t in tags}
        tags += [dict(t) for t in instance.tags if t["Key"] not in given]
    return {"DBSnapshot": show(ctx, add(ctx, instance, name, "manual", tags))}


def selected(ctx, p, table, member, fault, find_one, resource_member, resource_value):
    """The snapshots that a describe call asks for; shared with the cluster snapshots."""
    if p.get("SnapshotType") and p["SnapshotType"] not in TYPES:
        raise invalid(f"Invalid snapshot type: {p['SnapshotType']}")
    if p.get(f"{member}Identifier"):
        return [find_one(ctx, p[f"{member}Identifier"])]
    found = list(table.values())
    wanted = p.get("SnapshotType")
    if wanted == "shared" or p.get("IncludeShared"):
        shared = [
            s for (account, name), region in ctx.world.regions.items() if name == ctx.region and account != ctx.account
            for s in (region.rds.snapshots if table is ctx.rds.snapshots else region.rds.cluster_snapshots).values()
            if ctx.account in s.shared_with
        ]
        found = shared if wanted == "shared" else found + shared
    elif wanted == "public":
        found = []
    if wanted in ("automated", "manual", "awsbackup"):
        found = [s for s in found if s.type == wanted]
    elif wanted is None and not p.get("IncludeShared"):
        # Without a type RDS lists automated and manual ones; AWS Backup's only when they are asked for.
        found = [s for s in found if s.type in ("automated", "manual")]
    if p.get(resource_member):
        found = [s for s in found if resource_value(s) == p[resource_member].lower()]
    return found


def source_name(snapshot):
    return snapshot.view.get("DBInstanceIdentifier") or snapshot.view.get("DBClusterIdentifier")


@action("rds", "DescribeDBSnapshots")
def describe(ctx, p):
    text = p.get("DBSnapshotIdentifier")
    if text and not text.startswith("arn:"):
        # Seen once per describe, also while it is not visible yet.
        hidden = ctx.rds.snapshots.get(text.lower())
        if hidden and hidden.hidden:
            hidden.observe()
            raise AwsError("DBSnapshotNotFoundFault", f"DBSnapshot {text} not found.")
    found = selected(ctx, p, ctx.rds.snapshots, "DBSnapshot", "DBSnapshotNotFoundFault", find, "DBInstanceIdentifier", source_name)
    if p.get("DbiResourceId"):
        found = [s for s in found if s.resource_id == p["DbiResourceId"]]
    found = filters.apply(p, found, {
        "db-instance-id": source_name, "db-snapshot-id": lambda s: s.name, "dbi-resource-id": lambda s: s.resource_id,
        "snapshot-type": lambda s: s.type, "engine": lambda s: s.view["Engine"],
    })
    page, marker = paging.rds(ctx, p, found, lambda s: s.arn)
    page = [s for s in page if s.observe()]
    return {"DBSnapshots": [show(ctx, s) for s in page], "Marker": marker}


@action("rds", "DeleteDBSnapshot")
def delete(ctx, p):
    snapshot = find(ctx, p["DBSnapshotIdentifier"])
    check_deletable(ctx, snapshot, "InvalidDBSnapshotStateFault")
    del ctx.rds.snapshots[snapshot.name]
    shown = show(ctx, snapshot)
    shown["Status"] = "deleted"
    events.emit(ctx, "db-snapshot", snapshot, "Deleted manual snapshot", ["deletion"], ctx.now)
    return {"DBSnapshot": shown}


def check_deletable(ctx, snapshot, fault):
    if snapshot.account != ctx.account:
        raise AwsError("AccessDenied", "Only the owner may delete a snapshot.")
    if snapshot.type == "awsbackup":
        raise AwsError(fault, f"The snapshot {snapshot.name} is managed by AWS Backup. Delete its recovery point instead.")
    if snapshot.type != "manual":
        raise AwsError(fault, "Only manual snapshots may be deleted.")
    if snapshot.status not in ("available", "failed"):
        raise AwsError(fault, f"Snapshot {snapshot.name} is not in the available or failed state. (status: {snapshot.status})")
    if getattr(snapshot, "readers", 0):
        raise AwsError(fault, f"Snapshot {snapshot.name} is being copied or restored.")


def share(ctx, snapshot, p, fault):
    """ModifyDB(Cluster)SnapshotAttribute."""
    if p["AttributeName"] != "restore":
        raise invalid(f"Invalid attribute name: {p['AttributeName']}")
    add, remove = p.get("ValuesToAdd", []), p.get("ValuesToRemove", [])
    if snapshot.type != "manual":
        raise AwsError(fault, "Only manual snapshots can be shared; copy it first.")
    if snapshot.status != "available":
        raise AwsError(fault, f"Snapshot {snapshot.name} is not available.")
    key = snapshot.view.get("KmsKeyId")
    if add and key:
        if "all" in add:
            raise invalid("Encrypted snapshots cannot be made public.")
        if keys.is_managed(key):
            raise AwsError("KMSKeyNotAccessibleFault", "Sharing snapshots encrypted with the default service key for RDS is currently not supported.")
    for account in add:
        if account != "all" and not (account.isdigit() and len(account) == 12):
            raise invalid(f"Invalid account id: {account}")
    merged = [a for a in dict.fromkeys(snapshot.shared_with + add) if a not in remove]
    if len(merged) > 20:
        raise AwsError("SharedSnapshotQuotaExceededFault", "You have exceeded the maximum number of accounts that you can share a manual DB snapshot with.")
    snapshot.shared_with = merged


@action("rds", "ModifyDBSnapshotAttribute")
def modify_attribute(ctx, p):
    snapshot = find(ctx, p["DBSnapshotIdentifier"])
    share(ctx, snapshot, p, "InvalidDBSnapshotStateFault")
    return _attributes(snapshot)


@action("rds", "DescribeDBSnapshotAttributes")
def describe_attributes(ctx, p):
    return _attributes(find(ctx, p["DBSnapshotIdentifier"]))


def _attributes(snapshot):
    return {"DBSnapshotAttributesResult": {
        "DBSnapshotIdentifier": snapshot.name,
        "DBSnapshotAttributes": [{"AttributeName": "restore", "AttributeValues": snapshot.shared_with}],
    }}
