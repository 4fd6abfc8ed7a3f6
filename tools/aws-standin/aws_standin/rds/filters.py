"""The `Filters` of describe calls: known names only, OR within one, AND between them."""

from ..wire.errors import invalid


def apply(p, items, known):
    """`known` maps a filter name to a function of the item giving the value(s) to compare."""
    for rule in p.get("Filters", []):
        if rule["Name"] not in known:
            raise invalid(f"Unrecognized filter name: {rule['Name']}")
        value = known[rule["Name"]]
        wanted = {text.lower() for text in rule["Values"]}
        items = [item for item in items if (value(item) or "").lower() in wanted]
    return items
