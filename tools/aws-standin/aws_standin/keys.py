"""KMS keys as RDS and AWS Backup see them; the keys themselves live in moto's KMS.

moto happily uses disabled keys; here a key must exist in the right region and be `Enabled`
(provider-rules 5b: "cross-region needs a key valid in the target"). Another account uses a key only
if the key's own policy says so (KMS guide, "Allowing users in other accounts to use a KMS key").
"""

import json

from . import moto_bridge, policy
from .wire.errors import AwsError


def _backend(account, region):
    return moto_bridge.backend("kms", account, region)


def managed(ctx, service="rds"):
    """The ARN of the AWS-managed key of a service, as `alias/aws/rds`; moto does not know all of them."""
    backend, alias = _backend(ctx.account, ctx.region), f"alias/aws/{service}"
    key_id = backend.get_key_id_from_alias(alias)
    if key_id is None:
        key_id = backend.create_key("", "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", f"Default key of {service}", None).id
        backend.create_alias(key_id, alias)
    backend.keys[key_id].key_manager = "AWS"  # what DescribeKey says of it
    return backend.keys[key_id].arn


def resolve(ctx, text, fault="KMSKeyNotAccessibleFault"):
    """The ARN of the usable key that `text` (id, ARN, alias, alias ARN) names."""
    key = find(ctx.account, ctx.region, text)
    if key is None:
        raise AwsError(fault, f"The specified KMS key [{text}] does not exist, is not enabled or you do not have permissions to access it.")
    if key.key_state != "Enabled":
        raise AwsError(fault, f"The specified KMS key [{key.arn}] is not enabled. (state: {key.key_state})")
    return key.arn


def usable(ctx, arn):
    key = find(ctx.account, ctx.region, arn, any_region=True)
    return key is not None and key.key_state == "Enabled"


def authorise(ctx, arn, service="rds", actions=("kms:CreateGrant", "kms:DescribeKey")):
    """RDS uses a customer's key on behalf of the caller, who needs kms:CreateGrant and kms:DescribeKey on
    it (RDS guide, Overview.Encryption.Keys); AWS Backup wants more for a vault (developer guide, "Create a
    backup vault"); AWS-managed keys are open to the whole account."""
    policies = ctx.caller.policies
    if arn is None or policies is None or is_managed(arn):
        return
    region = arn.split(":")[3]
    conditions = {"kms:viaservice": f"{service}.{region}.amazonaws.com", "kms:grantisforawsresource": "true", "aws:requestedregion": region}
    for action in actions:
        if not policy.allowed(policies, action, arn, conditions)[0]:
            raise AwsError("KMSKeyNotAccessibleFault", f"The specified KMS key [{arn}] is not accessible: {ctx.caller.arn} is not authorized to perform {action} on it.")


def lets(caller, arn, action):
    """Whether the policy of the key lets a caller of another account do this; for its own account the identity
    policies decide."""
    parts = arn.split(":")
    if parts[4] == caller.account:
        return True
    key = find(parts[4], parts[3], arn)
    conditions = {"kms:viaservice": f"rds.{parts[3]}.amazonaws.com", "kms:grantisforawsresource": "true", "aws:requestedregion": parts[3]}
    return key is not None and allows(json.loads(key.policy), caller, action, arn, conditions)


def authorise_foreign(ctx, arn):
    """A copy of another account's encrypted snapshot: its key's policy lets the account in, and the caller's policies
    reach that key (Aurora guide, "Copying a DB cluster snapshot across accounts")."""
    for action in ("kms:CreateGrant", "kms:DescribeKey"):
        if not lets(ctx.caller, arn, action):
            raise AwsError("KMSKeyNotAccessibleFault", f"The source snapshot KMS key [{arn}] does not exist, is not enabled or you do not have permissions to access it.")
    authorise(ctx, arn)


def allows(document, caller, action, resource, conditions=None):
    """Whether a policy of a resource (a key, the trust of a role) allows a caller, by its account or its ARN."""
    statements = document.get("Statement", [])
    statements = statements if isinstance(statements, list) else [statements]
    own = {"*", caller.account, caller.arn, f"arn:aws:iam::{caller.account}:root"}
    heard = []
    for statement in statements:
        principal = statement.get("Principal", {})
        named = principal if isinstance(principal, str) else principal.get("AWS", [])
        if own & set(named if isinstance(named, list) else [named]):
            heard.append({"Resource": "*", **{k: v for k, v in statement.items() if k != "Principal"}})
    return policy.allowed([{"Statement": heard}], action, resource, conditions or {})[0]


def is_managed(arn):
    """Whether it is an AWS-managed key: such keys cannot leave the account (5b)."""
    parts = arn.split(":")
    key = _backend(parts[4], parts[3]).keys.get(parts[5].partition("/")[2])
    return key is not None and any(alias.startswith("alias/aws/") for alias in key.aliases)


def find(account, region, text, any_region=False):
    """moto's key that `text` (id, ARN, alias, alias ARN) names, or None."""
    if text.startswith("arn:"):
        parts = text.split(":")
        if len(parts) != 6 or parts[2] != "kms" or (parts[3] != region and not any_region):
            return None
        account, region, text = parts[4], parts[3], parts[5].removeprefix("key/")
    backend = _backend(account, region)
    if text.startswith("alias/"):
        text = backend.get_key_id_from_alias(text)
    return backend.keys.get(text)
