"""The databases that AWS Backup protects, roles that it assumes, lifecycles it accepts."""

import fnmatch
import json
import re

from .. import arns, moto_bridge
from .errors import bad

ROLE = re.compile(r"arn:aws:iam::(\d{12}):role/(?:[\w+=,.@/-]+/)?([\w+=,.@-]+)$")
DEFAULT_ROLE = "service-role/AWSBackupDefaultServiceRole"
TYPES = {"postgres": "RDS", "aurora-postgresql": "Aurora", "docdb": "DocumentDB"}


def find(ctx, arn):
    """The instance or cluster behind an ARN of this region, or None."""
    parts = arns.split_rds(arn)
    if not parts or parts[0] != ctx.region or parts[1] != ctx.account:
        return None
    if parts[2] == "db":
        instance = ctx.rds.instances.get(parts[3])
        return None if instance is None or instance.cluster else instance
    return ctx.rds.clusters.get(parts[3]) if parts[2] == "cluster" else None


def type_of(resource):
    """AWS Backup's resource type; a Multi-AZ cluster counts as RDS."""
    return TYPES[resource.view["Engine"]]


def check_arn(arn):
    parts = arns.split_rds(arn)
    if not arn.startswith("arn:"):
        raise bad(f"Invalid ARN: {arn}")
    if not parts or parts[2] not in ("db", "cluster"):
        raise bad(f"The stand-in only backs up RDS databases and clusters, not {arn}")


def check_role(ctx, arn):
    """The role must exist and trust AWS Backup; the service's own default role is taken as there."""
    match = ROLE.match(arn)
    if not match:
        raise bad(f"Invalid IAM role ARN: {arn}")
    if not ctx.world.config.check_roles or arn.endswith(DEFAULT_ROLE):
        return
    role = next((r for r in moto_bridge.backend("iam", match[1], "aws").roles.values() if r.arn == arn), None)
    trusted = role is not None and "backup.amazonaws.com" in json.dumps(role.assume_role_policy_document)
    if not trusted:
        raise bad(f"IAM Role {arn} does not have sufficient permissions to execute: it cannot be assumed by AWS Backup")


def denied(ctx, role, action, subject):
    """The message of a job whose role a scripted denial forbids `action`, or None."""
    for rule in ctx.world.faults.for_call(action, ctx.region, [subject], role):
        if rule["kind"] == "deny":
            return f"Access Denied trying to call {action}: role {role} is not authorized to perform: {action} on resource: {subject}"
    return None


def lifecycle(given):
    """Checked lifecycle of a job or rule: (days to deletion or None). Cold storage for RDS types is
    accepted and ignored, as AWS Backup does (X7), but the 90-day rule is checked first (X6)."""
    given = given or {}
    if "DeleteAfterEvent" in given:
        raise bad("DeleteAfterEvent is not valid as an input.")
    cold, days = given.get("MoveToColdStorageAfterDays"), given.get("DeleteAfterDays")
    cold = None if cold == -1 else cold
    days = None if days == -1 else days
    if (cold is not None and cold < 1) or (days is not None and days < 1):
        raise bad("Lifecycle days must be at least 1, or -1 for no limit.")
    if cold is not None and days is not None and days < cold + 90:
        raise bad(f"Error in lifecycle: DeleteAfterDays ({days}) must be at least 90 days after MoveToColdStorageAfterDays ({cold}).")
    return days


def shown_lifecycle(days):
    return {} if days is None else {"DeleteAfterDays": days}


def tagged(resource):
    return {t["Key"]: t["Value"] for t in resource.tags}


def selected(ctx, selection):
    """The databases of this region that a selection covers."""
    candidates = [i for i in ctx.rds.instances.values() if not i.cluster] + list(ctx.rds.clusters.values())
    chosen = []
    for resource in candidates:
        type_ = type_of(resource)
        if not ctx.backup.opt_in.get(type_, True):
            continue
        tags = tagged(resource)
        by_arn = any(fnmatch.fnmatchcase(resource.arn, pattern) for pattern in selection.get("Resources", []))
        by_tag = any(tags.get(c["ConditionKey"].removeprefix("aws:ResourceTag/")) == c["ConditionValue"] for c in selection.get("ListOfTags", []))
        excluded = any(fnmatch.fnmatchcase(resource.arn, pattern) for pattern in selection.get("NotResources", []))
        if (by_arn or by_tag) and not excluded and _conditions(selection.get("Conditions", {}), tags):
            chosen.append(resource)
    return chosen


def _conditions(conditions, tags):
    tests = {
        "StringEquals": lambda a, b: a == b, "StringLike": lambda a, b: a is not None and fnmatch.fnmatchcase(a, b),
        "StringNotEquals": lambda a, b: a != b, "StringNotLike": lambda a, b: a is None or not fnmatch.fnmatchcase(a, b),
    }
    return all(
        tests[operator](tags.get(c["ConditionKey"].removeprefix("aws:ResourceTag/")), c["ConditionValue"])
        for operator, list_ in conditions.items() for c in list_
    )
