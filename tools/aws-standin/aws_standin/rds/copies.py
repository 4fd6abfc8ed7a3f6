"""Copies of snapshots, within a region, across regions, and of shared ones across accounts.

Rules (provider-rules 5b, X41): called in the destination region; the source is named by ARN when it
is elsewhere; it must be `available` and must not be deleted meanwhile; encrypted stays encrypted; across regions an
encrypted source needs a KmsKeyId that is valid in the destination; the source's key must be usable
too; a shared encrypted snapshot copies only within its region and needs a key of one's own;
cross-account and cross-region in one step is refused for clusters; at most 20 (instances) or 5
(clusters) copies in flight per destination; copies count as manual snapshots. A PreSignedUrl is
ignored by AWS outside of GovCloud and China, so it is here.
"""

from .. import arns, keys
from ..registry import action
from ..wire.errors import AwsError, combination, invalid
from . import cluster_snapshots, events, settings, snapshots


def _source(ctx, text, kind, cluster):
    """The snapshot to copy, wherever it is."""
    fault = "DBClusterSnapshotNotFoundFault" if cluster else "DBSnapshotNotFoundFault"
    label = "DBClusterSnapshot" if cluster else "DBSnapshot"
    finder = cluster_snapshots.find if cluster else snapshots.find
    parts = arns.split_rds(text)
    if text.startswith("arn:") and (not parts or parts[2] != kind):
        raise invalid(f"Invalid source snapshot ARN: {text}")
    if not parts or parts[0] == ctx.region:
        return finder(ctx, text)
    region, account, _, name = parts
    table = ctx.elsewhere(region, account).rds
    snapshot = (table.cluster_snapshots if cluster else table.snapshots).get(name)
    if snapshot is None or (account != ctx.account and ctx.account not in snapshot.shared_with):
        raise AwsError(fault, f"{label} {text} not found.")
    if account != ctx.account:
        if cluster:
            raise invalid("You can't copy a DB cluster snapshot across Regions and accounts at the same time. Copy it within the Region first.")
        if snapshot.view.get("KmsKeyId"):
            raise invalid("A shared encrypted snapshot can only be copied within its Region.")
    return snapshot


def _key(ctx, source, p, encrypted):
    """The KMS key of the copy, or None for a plain one."""
    wanted = p.get("KmsKeyId")
    if not encrypted:
        if wanted and source.region != ctx.region:
            raise combination("You can't specify a KMS key to encrypt an unencrypted snapshot while copying it across Regions.")
        if wanted and source.kind == "cluster-snapshot":
            raise combination("An unencrypted DB cluster snapshot can't be encrypted by copying it.")
        return keys.resolve(ctx, wanted) if wanted else None
    held = source.view["KmsKeyId"]
    if not keys.usable(ctx, held):
        raise AwsError("KMSKeyNotAccessibleFault", f"The source snapshot KMS key [{held}] does not exist, is not enabled or you do not have permissions to access it.")
    if source.account != ctx.account:
        keys.authorise_foreign(ctx, held)
    if source.account != ctx.account and not wanted:
        raise AwsError("KMSKeyNotAccessibleFault", "A shared encrypted snapshot must be copied with a KMS key of your own account: specify KmsKeyId.")
    if source.region != ctx.region and not wanted:
        raise invalid("KmsKeyId must be specified when you copy an encrypted snapshot from another AWS Region.")
    return keys.resolve(ctx, wanted) if wanted else held


def start(ctx, source, name, type_, key, tags, kind="copy", on_done=None, on_fail=None):
    """Put the copy there; used by AWS Backup's copy jobs too."""
    cluster = source.kind == "cluster-snapshot"
    view = dict(source.view)
    view["SnapshotCreateTime"] = None
    view["KmsKeyId"] = key
    view["StorageEncrypted" if cluster else "Encrypted"] = bool(key)
    if cluster:
        view["SourceDBClusterSnapshotArn"] = source.arn
    else:
        view["SourceDBSnapshotIdentifier"] = source.arn if source.region != ctx.region or source.account != ctx.account else source.name
        view["SourceRegion"] = source.region if source.region != ctx.region else None
    copy = snapshots.Snapshot(ctx, source.kind, name, type_, view, tags)
    copy.resource_id, copy.copied_from = source.resource_id, source.resource_id
    copy.lineage = [source.arn, *source.lineage]
    copy.source_class = source.source_class
    source.readers = getattr(source, "readers", 0) + 1

    def done():
        source.readers -= 1
        copy.copied_from, copy.taken = None, ctx.now
        copy.view["SnapshotCreateTime"] = ctx.now
        events.emit(ctx, "db-cluster-snapshot" if cluster else "db-snapshot", copy, f"Finished copy of snapshot {source.name} from region {source.region}", ["notification"], ctx.now)
        if on_done:
            on_done()

    def failed(fault):
        source.readers -= 1
        copy.copied_from, copy.settled = None, "failed"
        if on_fail:
            on_fail(fault)
    stages = ["copying"] if source.region != ctx.region or source.account != ctx.account else ["creating"]
    copy.operation = ctx.world.operation(kind, copy.arn, stages, done, failed)
    copy.hidden = ctx.world.faults.invisible_for("snapshot", copy.arn)
    (ctx.rds.cluster_snapshots if cluster else ctx.rds.snapshots)[name] = copy
    return copy


def _check_flight(ctx, table, limit, fault):
    if sum(1 for s in table.values() if s.copied_from and s.busy) >= limit:
        raise AwsError(fault, f"Cannot have more than {limit} snapshot copies in progress to this destination Region.")


def _tags(ctx, p, source):
    given = settings.tags(p.get("Tags"))
    # Tags of what another account shares are not shown, and not copied (≈).
    if p.get("CopyTags") and source.account == ctx.account:
        names = {t["Key"] for t in given}
        given += [dict(t) for t in source.tags if t["Key"] not in names]
    return given


@action("rds", "CopyDBSnapshot")
def copy_snapshot(ctx, p):
    source = _source(ctx, p["SourceDBSnapshotIdentifier"], "snapshot", False)
    name = snapshots.check_new(ctx, p["TargetDBSnapshotIdentifier"], "TargetDBSnapshotIdentifier")
    if source.status != "available":
        raise AwsError("InvalidDBSnapshotStateFault", f"The source snapshot {source.name} is not in the available state. (status: {source.status})")
    _check_flight(ctx, ctx.rds.snapshots, ctx.world.config.quotas["copies-in-flight"], "SnapshotQuotaExceededFault")
    key = _key(ctx, source, p, source.view.get("Encrypted"))
    keys.authorise(ctx, key)
    return {"DBSnapshot": snapshots.show(ctx, start(ctx, source, name, "manual", key, _tags(ctx, p, source)))}


@action("rds", "CopyDBClusterSnapshot")
def copy_cluster_snapshot(ctx, p):
    source = _source(ctx, p["SourceDBClusterSnapshotIdentifier"], "cluster-snapshot", True)
    name = cluster_snapshots.check_new(ctx, p["TargetDBClusterSnapshotIdentifier"], "TargetDBClusterSnapshotIdentifier")
    if source.status != "available":
        raise AwsError("InvalidDBClusterSnapshotStateFault", f"The source snapshot {source.name} is not in the available state. (status: {source.status})")
    _check_flight(ctx, ctx.rds.cluster_snapshots, ctx.world.config.quotas["cluster-copies-in-flight"], "SnapshotQuotaExceededFault")
    key = _key(ctx, source, p, source.view.get("StorageEncrypted"))
    keys.authorise(ctx, key)
    return {"DBClusterSnapshot": cluster_snapshots.show(ctx, start(ctx, source, name, "manual", key, _tags(ctx, p, source)))}
