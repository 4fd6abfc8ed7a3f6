"""Resource names: ARNs of RDS and AWS Backup, resource ids, identifier syntax."""

import base64
import os
import re
import uuid

from .wire.errors import AwsError, invalid


def rds(region, account, kind, name):
    """kind: db, cluster, snapshot, cluster-snapshot, subgrp, pg, cluster-pg, og, auto-backup,
    cluster-auto-backup, db-proxy, target-group."""
    return f"arn:aws:rds:{region}:{account}:{kind}:{name}"


def backup(region, account, kind, name, separator=":"):
    return f"arn:aws:backup:{region}:{account}:{kind}{separator}{name}"


def split_rds(arn):
    """(region, account, kind, name) of an RDS ARN, or None when it is none."""
    parts = arn.split(":", 6)
    if len(parts) < 7 or parts[0] != "arn" or parts[2] != "rds":
        return None
    return parts[3], parts[4], parts[5], parts[6]


def resource_id(prefix):
    """db-ABC… / cluster-ABC…, 26 characters of base32 as AWS has them."""
    return prefix + base64.b32encode(os.urandom(17)).decode()[:26]


def short_id(prefix):
    return prefix + base64.b32encode(os.urandom(20)).decode().lower()[:26]


def new_uuid():
    return str(uuid.uuid4())


_ID = re.compile(r"[a-z](?:-?[a-z0-9])*$")


def identifier(text, member, longest=63):
    """RDS identifiers: first a letter, then letters, digits, single hyphens, not at the end; stored
    in lower case (API reference of every Create call)."""
    lower = text.lower()
    if not _ID.match(lower) or len(lower) > longest:
        raise invalid(
            f"The parameter {member} is not a valid identifier. Identifiers must begin with a letter; must contain "
            "only ASCII letters, digits, and hyphens; and must not end with a hyphen or contain two consecutive hyphens."
        )
    return lower


def local(text, kind, region, account, fault, label):
    """The identifier in `text`, which may be an ARN of this region and account."""
    if not text.startswith("arn:"):
        return text.lower()
    parts = split_rds(text)
    if not parts or parts[2] != kind:
        raise invalid(f"The parameter is not a valid ARN of a {label}: {text}")
    if parts[0] != region or parts[1] != account:
        raise AwsError(fault, f"{label} {text} not found.")
    return parts[3].lower()
