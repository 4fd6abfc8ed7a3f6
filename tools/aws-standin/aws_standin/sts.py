"""What moto's STS leaves out: a role must exist, and its trust policy must let the caller assume it.

IAM guide, "Cross-account resource access": both sides must allow it. The caller's own policies are looked at in
`dispatch.py`, as for every call.
"""

import json

from . import keys, moto_bridge
from .wire.errors import AwsError


def check(caller, action, form):
    if action != "AssumeRole":
        return
    arn = form.get("RoleArn", "")
    refused = AwsError("AccessDenied", f"User: {caller.arn} is not authorized to perform: sts:AssumeRole on resource: {arn}")
    parts = arn.split(":")
    if len(parts) != 6 or not parts[5].startswith("role/"):
        raise refused
    roles = moto_bridge.backend("iam", parts[4], "aws").roles.values()
    role = next((r for r in roles if r.arn == arn), None)
    if role is None or not keys.allows(json.loads(role.assume_role_policy_document), caller, "sts:AssumeRole", "*"):
        raise refused
