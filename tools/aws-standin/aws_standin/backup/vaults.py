"""Backup vaults, their locks and access policies.

Rules (provider-rules 5b, X8, X36): a lock with ChangeableForDays (at least 3) is compliance mode,
free to change until its LockDate and immutable after it; without, it is governance mode, which a
permitted user may remove. Either way a recovery point cannot be deleted while the lock is on.
Minimum and maximum retention count for new jobs. A vault that holds recovery points is not deleted.
"""

import json
import re

from .. import arns, keys, paging
from ..registry import action
from ..wire.errors import AwsError
from .. import policy as iam
from .errors import bad, missing, refused

DAY = 86400


class Vault:
    def __init__(self, ctx, name, key, kind="BACKUP_VAULT"):
        self.name, self.region, self.account, self.key, self.kind = name, ctx.region, ctx.account, key, kind
        self.created = ctx.now
        self.points = {}
        self.lock = None  # {"min", "max", "date"}; date None = governance
        self.policy = None
        self.notifications = None
        self.creator = None

    @property
    def arn(self):
        return arns.backup(self.region, self.account, "backup-vault", self.name)

    def immutable(self, now):
        return self.lock is not None and self.lock["date"] is not None and now >= self.lock["date"]

    def objection(self, days):
        """Why the lock forbids this retention (None = for ever), or None."""
        if self.lock is None:
            return None
        low, high = self.lock["min"], self.lock["max"]
        if low is not None and days is not None and days < low:
            return f"Retention period {days} days is shorter than the minimum {low} days of vault {self.name}"
        if high is not None and (days is None or days > high):
            return f"Retention period {days or 'unlimited'} is longer than the maximum {high} days of vault {self.name}"
        return None


def find(ctx, name):
    vault = ctx.backup.vaults.get(name)
    if vault is None:
        raise missing(f"Backup vault {name} cannot be found.")
    return vault


def by_arn(ctx, arn):
    """A vault by ARN, in whatever region or account; X10: the resource type is `backup-vault`."""
    parts = arn.split(":")
    if len(parts) != 7 or parts[:3] != ["arn", "aws", "backup"] or parts[5] != "backup-vault":
        raise bad(f"Invalid backup vault ARN: {arn}")
    region = ctx.elsewhere(parts[3], parts[4])
    vault = region.backup.vaults.get(parts[6])
    if vault is None:
        raise missing(f"Backup vault {arn} cannot be found.")
    return vault


def ensure(ctx, name):
    """For fixtures: the vault, made when it is not there."""
    if name not in ctx.backup.vaults:
        if not re.fullmatch(r"[\w-]{2,50}", name):
            raise bad(f"Invalid vault name: {name}")
        ctx.backup.vaults[name] = Vault(ctx, name, keys.managed(ctx, "backup"))
    return ctx.backup.vaults[name]


def check_policy(ctx, vault, name):
    """Deny statements of the vault's access policy strike everybody they name, root included."""
    if not vault.policy:
        return
    for statement in json.loads(vault.policy).get("Statement", []):
        if statement.get("Effect") != "Deny" or not _names(statement.get("Principal"), ctx.caller):
            continue
        deny = {"Statement": [{k: v for k, v in statement.items() if k in ("Effect", "Action", "NotAction", "Resource")}]}
        if iam.allowed([deny], name, vault.arn, {})[1] or statement.get("Resource") == "*" and iam.allowed([deny], name, "*", {})[1]:
            raise AwsError("AccessDeniedException", f"User: {ctx.caller.arn} is not authorized to perform: {name} on resource: {vault.arn} with an explicit deny in a resource-based policy")


def _names(principal, caller):
    if principal == "*":
        return True
    wanted = (principal or {}).get("AWS", [])
    wanted = wanted if isinstance(wanted, list) else [wanted]
    return any(w in ("*", caller.arn, caller.account, f"arn:aws:iam::{caller.account}:root") for w in wanted)


def show(vault):
    view = {
        "BackupVaultName": vault.name, "BackupVaultArn": vault.arn, "VaultType": vault.kind, "VaultState": "AVAILABLE",
        "EncryptionKeyArn": vault.key, "CreationDate": vault.created, "NumberOfRecoveryPoints": len(vault.points),
        "Locked": vault.lock is not None, "CreatorRequestId": vault.creator,
    }
    if vault.lock:
        view.update({"MinRetentionDays": vault.lock["min"], "MaxRetentionDays": vault.lock["max"], "LockDate": vault.lock["date"]})
    return view


@action("backup", "CreateBackupVault")
def create(ctx, p):
    name = p["BackupVaultName"]
    if name in ctx.backup.vaults:
        old = ctx.backup.vaults[name]
        if p.get("CreatorRequestId") and p["CreatorRequestId"] == old.creator:
            return _created(old)
        raise AwsError("AlreadyExistsException", f"Backup vault with the same name already exists: {name}")
    if p.get("EncryptionKeyArn"):
        if not p["EncryptionKeyArn"].startswith("arn:"):
            raise bad("EncryptionKeyArn must be the ARN of a key")
        key = keys.resolve(ctx, p["EncryptionKeyArn"], "InvalidParameterValueException")
        keys.authorise(ctx, key, "backup", ("kms:CreateGrant", "kms:DescribeKey", "kms:RetireGrant", "kms:Decrypt", "kms:GenerateDataKey"))
    else:
        key = keys.managed(ctx, "backup")
    vault = ctx.backup.vaults[name] = Vault(ctx, name, key)
    vault.creator = p.get("CreatorRequestId")
    ctx.backup.tags[vault.arn] = dict(p.get("BackupVaultTags", {}))
    return _created(vault)


def _created(vault):
    return {"BackupVaultName": vault.name, "BackupVaultArn": vault.arn, "CreationDate": vault.created}


@action("backup", "DescribeBackupVault")
def describe(ctx, p):
    return show(find(ctx, p["BackupVaultName"]))


@action("backup", "ListBackupVaults")
def list_vaults(ctx, p):
    found = [v for v in ctx.backup.vaults.values() if p.get("ByVaultType", v.kind) == v.kind]
    page, token = paging.backup(ctx, p, found, lambda v: v.name)
    return {"BackupVaultList": [show(v) for v in page], "NextToken": token}


@action("backup", "DeleteBackupVault")
def delete(ctx, p):
    vault = find(ctx, p["BackupVaultName"])
    check_policy(ctx, vault, "backup:DeleteBackupVault")
    if vault.points:
        raise refused(f"Backup vault {vault.name} cannot be deleted because it contains recovery points.")
    del ctx.backup.vaults[vault.name]
    return {}


@action("backup", "PutBackupVaultLockConfiguration")
def put_lock(ctx, p):
    vault = find(ctx, p["BackupVaultName"])
    _check_immutable(ctx, vault)
    low, high, grace = p.get("MinRetentionDays"), p.get("MaxRetentionDays"), p.get("ChangeableForDays")
    if low is not None and low < 1:
        raise bad("MinRetentionDays must be at least 1")
    if high is not None and not 1 <= high <= 36500:
        raise bad("MaxRetentionDays must be between 1 and 36500")
    if low is not None and high is not None and low > high:
        raise bad("MinRetentionDays must not be greater than MaxRetentionDays")
    if grace is not None and not 3 <= grace <= 36500:
        raise bad("ChangeableForDays must be at least 3 and at most 36500")
    vault.lock = {"min": low, "max": high, "date": None if grace is None else ctx.now + grace * DAY}
    return {}


@action("backup", "DeleteBackupVaultLockConfiguration")
def delete_lock(ctx, p):
    vault = find(ctx, p["BackupVaultName"])
    _check_immutable(ctx, vault)
    vault.lock = None
    return {}


def _check_immutable(ctx, vault):
    if vault.immutable(ctx.now):
        raise refused(f"The vault lock of {vault.name} is immutable since its lock date; it cannot be changed or deleted.")


@action("backup", "PutBackupVaultAccessPolicy")
def put_policy(ctx, p):
    vault = find(ctx, p["BackupVaultName"])
    try:
        document = json.loads(p.get("Policy", ""))
        if not isinstance(document.get("Statement"), list):
            raise ValueError
    except (ValueError, AttributeError):
        raise bad("The specified policy is not valid JSON with a list of statements") from None
    vault.policy = p["Policy"]
    return {}


@action("backup", "GetBackupVaultAccessPolicy")
def get_policy(ctx, p):
    vault = find(ctx, p["BackupVaultName"])
    if vault.policy is None:
        raise missing(f"Backup vault {vault.name} has no access policy.")
    return {"BackupVaultName": vault.name, "BackupVaultArn": vault.arn, "Policy": vault.policy}


@action("backup", "DeleteBackupVaultAccessPolicy")
def delete_policy(ctx, p):
    vault = find(ctx, p["BackupVaultName"])
    check_policy(ctx, vault, "backup:DeleteBackupVaultAccessPolicy")
    vault.policy = None
    return {}


@action("backup", "PutBackupVaultNotifications")
def put_notifications(ctx, p):
    vault = find(ctx, p["BackupVaultName"])
    vault.notifications = (p["SNSTopicArn"], p["BackupVaultEvents"])
    return {}


@action("backup", "GetBackupVaultNotifications")
def get_notifications(ctx, p):
    vault = find(ctx, p["BackupVaultName"])
    if vault.notifications is None:
        raise missing(f"Backup vault {vault.name} has no notifications.")
    topic, events = vault.notifications
    return {"BackupVaultName": vault.name, "BackupVaultArn": vault.arn, "SNSTopicArn": topic, "BackupVaultEvents": events}


@action("backup", "DeleteBackupVaultNotifications")
def delete_notifications(ctx, p):
    find(ctx, p["BackupVaultName"]).notifications = None
    return {}
