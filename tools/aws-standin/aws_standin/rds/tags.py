"""Tags of RDS resources, by ARN."""

from .. import arns
from ..registry import action
from ..wire.errors import AwsError, invalid
from . import settings

NOT_FOUND = {
    "db": ("DBInstanceNotFoundFault", "DBInstance"), "snapshot": ("DBSnapshotNotFoundFault", "DBSnapshot"),
    "cluster": ("DBClusterNotFoundFault", "DBCluster"), "db-proxy": ("DBProxyNotFoundFault", "DBProxy"),
    "cluster-snapshot": ("DBClusterSnapshotNotFoundFault", "DBClusterSnapshot"),
}


def _find(ctx, arn):
    parts = arns.split_rds(arn)
    if not parts or parts[0] != ctx.region or parts[1] != ctx.account:
        raise invalid(f"Invalid resource name: {arn}")
    found = ctx.rds.by_arn(arn)
    if found is None:
        fault, label = NOT_FOUND.get(parts[2], ("InvalidParameterValue", parts[2]))
        raise AwsError(fault, f"{label} {parts[3]} not found.")
    return found


@action("rds", "AddTagsToResource")
def add(ctx, p):
    resource = _find(ctx, p["ResourceName"])
    given = settings.tags(p["Tags"])
    names = {t["Key"] for t in given}
    merged = [t for t in resource.tags if t["Key"] not in names] + given
    if len(merged) > 50:
        raise invalid("A resource may have at most 50 tags")
    resource.tags = merged
    return {}


@action("rds", "RemoveTagsFromResource")
def remove(ctx, p):
    resource = _find(ctx, p["ResourceName"])
    resource.tags = [t for t in resource.tags if t["Key"] not in p["TagKeys"]]
    return {}


@action("rds", "ListTagsForResource")
def list_tags(ctx, p):
    return {"TagList": _find(ctx, p["ResourceName"]).tags}
