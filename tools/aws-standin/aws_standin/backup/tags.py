"""Tags of vaults, plans, holds and recovery points; settings of the region."""

from ..registry import action
from .errors import bad, missing


def _find(ctx, arn):
    # "Include only values representing resource types that are fully managed by AWS Backup" (ListTags): points of
    # RDS, Aurora and DocumentDB are none, and their ARNs are those of snapshots.
    if not arn.startswith("arn:aws:backup:"):
        raise bad(f"The resource {arn} is not supported by this operation.")
    known = {v.arn for v in ctx.backup.vaults.values()} | {p.arn for p in ctx.backup.plans.values()}
    known |= {h.arn for h in ctx.backup.holds.values()} | {p.arn for p in ctx.backup.points()}
    if arn not in known:
        raise missing(f"Resource {arn} cannot be found.")
    return ctx.backup.tags.setdefault(arn, {})


@action("backup", "TagResource")
def tag(ctx, p):
    tags = _find(ctx, p["ResourceArn"])
    if any(key.lower().startswith("aws:") or not 1 <= len(key) <= 128 for key in p["Tags"]):
        raise bad("Invalid tag key")
    if len({**tags, **p["Tags"]}) > 50:
        raise bad("A resource may have at most 50 tags")
    tags.update(p["Tags"])
    return {}


@action("backup", "UntagResource")
def untag(ctx, p):
    tags = _find(ctx, p["ResourceArn"])
    for key in p["TagKeyList"]:
        tags.pop(key, None)
    return {}


@action("backup", "ListTags")
def list_tags(ctx, p):
    return {"Tags": _find(ctx, p["ResourceArn"])}


@action("backup", "DescribeRegionSettings")
def region_settings(ctx, p):
    return {"ResourceTypeOptInPreference": ctx.backup.opt_in, "ResourceTypeManagementPreference": {}}


@action("backup", "UpdateRegionSettings")
def update_region_settings(ctx, p):
    ctx.backup.opt_in.update(p.get("ResourceTypeOptInPreference", {}))
    return {}


@action("backup", "GetSupportedResourceTypes")
def supported(ctx, p):
    return {"ResourceTypes": sorted(ctx.backup.opt_in)}
