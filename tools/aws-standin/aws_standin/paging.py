"""Pages of lists.

RDS: MaxRecords 20 to 100 (default 100) and an opaque Marker (provider-rules 5b). AWS Backup:
MaxResults 1 to 1000 and NextToken. `page_size` of the configuration lowers both, so that a few
records already need several pages.
"""

import base64

from .wire.errors import AwsError, invalid


def _encode(key):
    return base64.urlsafe_b64encode(("after:" + key).encode()).decode()


def _decode(text):
    try:
        plain = base64.urlsafe_b64decode(text.encode()).decode()
    except ValueError:
        return None
    return plain[6:] if plain.startswith("after:") else None


def rds(ctx, params, items, key):
    """(page, marker or None); `items` in any order, `key` unique and stable."""
    limit = params.get("MaxRecords", 100)
    if not 20 <= limit <= 100:
        raise invalid(f"Invalid value {limit} for MaxRecords. Must be between 20 and 100")
    after = None
    if params.get("Marker"):
        after = _decode(params["Marker"])
        if after is None:
            raise invalid("The request contains an invalid marker.")
    return _page(items, key, after, min(limit, ctx.world.config.page_size))


def backup(ctx, params, items, key):
    limit = params.get("MaxResults", 1000)
    after = None
    if params.get("NextToken"):
        after = _decode(params["NextToken"])
        if after is None:
            raise AwsError("InvalidParameterValueException", "Invalid NextToken")
    return _page(items, key, after, min(limit, ctx.world.config.page_size))


def _page(items, key, after, limit):
    ordered = sorted(items, key=key)
    if after is not None:
        ordered = [item for item in ordered if key(item) > after]
    page = ordered[:limit]
    return page, _encode(key(page[-1])) if len(ordered) > limit else None
