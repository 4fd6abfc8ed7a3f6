"""Legal holds: recovery points that are covered neither expire nor are deleted (provider-rules 5b)."""

from .. import arns, paging
from ..registry import action
from . import points
from .errors import bad, missing, refused


class Hold:
    def __init__(self, ctx, p):
        self.id = arns.new_uuid()
        self.arn = arns.backup(ctx.region, ctx.account, "legal-hold", self.id)
        self.title, self.description, self.selection = p["Title"], p["Description"], p.get("RecoveryPointSelection", {})
        self.created, self.canceled, self.reason, self.retain_until = ctx.now, None, None, None
        self.status, self.token = "ACTIVE", p.get("IdempotencyToken")

    def covers(self, point):
        if self.status != "ACTIVE":
            return False
        chosen = self.selection
        span = chosen.get("DateRange")
        return (
            (not chosen.get("VaultNames") or point.vault.name in chosen["VaultNames"])
            and (not chosen.get("ResourceIdentifiers") or point.resource_arn in chosen["ResourceIdentifiers"])
            and (not span or span["FromDate"] <= point.created <= span["ToDate"])
        )


def find(ctx, hold_id):
    if hold_id not in ctx.backup.holds:
        raise missing(f"Legal hold {hold_id} cannot be found.")
    return ctx.backup.holds[hold_id]


def _show(hold, listed=False):
    view = {
        "Title": hold.title, "Status": hold.status, "Description": hold.description, "LegalHoldId": hold.id, "LegalHoldArn": hold.arn,
        "CreationDate": hold.created,
    }
    if not listed:
        view["RecoveryPointSelection"] = hold.selection
    return view


@action("backup", "CreateLegalHold")
def create(ctx, p):
    same = next((h for h in ctx.backup.holds.values() if p.get("IdempotencyToken") and h.token == p["IdempotencyToken"]), None)
    if same is None:
        span = p.get("RecoveryPointSelection", {}).get("DateRange")
        if span and span["FromDate"] > span["ToDate"]:
            raise bad("FromDate must not be after ToDate.")
        same = Hold(ctx, p)
        ctx.backup.holds[same.id] = same
        ctx.backup.tags[same.arn] = dict(p.get("Tags", {}))
    return _show(same)


@action("backup", "GetLegalHold")
def get(ctx, p):
    hold = find(ctx, p["LegalHoldId"])
    return {**_show(hold), "CancelDescription": hold.reason, "CancellationDate": hold.canceled, "RetainRecordUntil": hold.retain_until}


@action("backup", "ListLegalHolds")
def list_holds(ctx, p):
    page, token = paging.backup(ctx, p, list(ctx.backup.holds.values()), lambda h: h.id)
    return {"LegalHolds": [{**_show(h, listed=True), "CancellationDate": h.canceled} for h in page], "NextToken": token}


@action("backup", "CancelLegalHold")
def cancel(ctx, p):
    hold = find(ctx, p["LegalHoldId"])
    if hold.status != "ACTIVE":
        raise refused(f"Legal hold {hold.id} is not active. (status: {hold.status})")
    hold.status, hold.canceled, hold.reason = "CANCELED", ctx.now, p["CancelDescription"]
    hold.retain_until = ctx.now + p.get("RetainRecordInDays", 0) * points.DAY
    for point in ctx.backup.points():
        points.expire(ctx, point)
    return {}


@action("backup", "ListRecoveryPointsByLegalHold")
def covered(ctx, p):
    hold = find(ctx, p["LegalHoldId"])
    found = [point for point in ctx.backup.points() if hold.covers(point)]
    page, token = paging.backup(ctx, p, found, lambda point: point.arn)
    return {"NextToken": token, "RecoveryPoints": [
        {"RecoveryPointArn": x.arn, "ResourceArn": x.resource_arn, "ResourceType": x.type, "BackupVaultName": x.vault.name} for x in page
    ]}
