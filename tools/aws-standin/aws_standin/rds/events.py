"""RDS events. There is no "backup failed" event (provider-rules 5b): absence is the signal."""

from .. import paging
from ..registry import action
from ..wire.errors import combination

WINDOW = 14 * 86400


def emit(ctx_or_region, kind, resource, message, categories, now):
    ctx_or_region.rds.events.append({
        "SourceIdentifier": resource.name, "SourceType": kind, "Message": message, "EventCategories": categories,
        "Date": now, "SourceArn": resource.arn,
    })


@action("rds", "DescribeEvents")
def describe_events(ctx, p):
    if p.get("SourceIdentifier") and not p.get("SourceType"):
        raise combination("SourceType must be provided if SourceIdentifier is provided.")
    if "Duration" in p and ("StartTime" in p or "EndTime" in p):
        raise combination("Duration cannot be used with StartTime or EndTime.")
    end = p.get("EndTime", ctx.now)
    start = p.get("StartTime", end - p.get("Duration", 60) * 60)
    start = max(start, ctx.now - WINDOW)
    found = [
        (number, event) for number, event in enumerate(ctx.rds.events)
        if start <= event["Date"] <= end
        and p.get("SourceType", event["SourceType"]) == event["SourceType"]
        and p.get("SourceIdentifier", event["SourceIdentifier"]) == event["SourceIdentifier"]
        and (not p.get("EventCategories") or set(p["EventCategories"]) & set(event["EventCategories"]))
    ]
    page, marker = paging.rds(ctx, p, found, lambda item: f"{item[0]:08d}")
    return {"Events": [event for _, event in page], "Marker": marker}
