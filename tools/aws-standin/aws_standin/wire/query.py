"""AWS Query protocol (RDS, DocumentDB): form parameters in, XML out, checked against the model.

Names are matched exactly as the model spells them. What is left over is refused
(`MalformedInput`), and so are wrong types; AWS's own front end says so for structures, lists and
numbers, and ignores a few unknown names that we refuse on purpose: a misspelt member is a mistake
of the client.
"""

import base64
from datetime import datetime, timezone
from xml.sax.saxutils import escape

from .errors import AwsError

# Parameters that botocore sends without them being members of the operation.
ENVELOPE = {"Action", "Version", "SourceRegion"}


def parse(operation, form):
    """The structure in `form` (a dict of strings), or AwsError."""
    used = set()
    shape = operation.input_shape
    value = {} if shape is None else _structure(shape, form, "", used)
    unknown = sorted(set(form) - used - ENVELOPE)
    if unknown:
        raise AwsError("MalformedInput", f"Unknown parameter in input: {unknown[0]}")
    return value


def _structure(shape, form, prefix, used):
    value = {}
    for name, member in shape.members.items():
        wire = f"{prefix}{member.serialization.get('name', name)}"
        item = _value(member, form, wire, used)
        if item is not None:
            value[name] = item
        elif name in shape.required_members:
            raise AwsError("MissingParameter", f"The request must contain the parameter {wire}.")
    return value


def _present(form, wire):
    return wire in form or any(key.startswith(wire + ".") for key in form)


def _value(shape, form, wire, used):
    kind = shape.type_name
    if kind == "structure":
        return _structure(shape, form, wire + ".", used) if _present(form, wire) else None
    if kind == "list":
        return _list(shape, form, wire, used)
    if kind == "map":
        raise AwsError("NotImplemented", f"maps are not read by the stand-in ({wire})")
    if wire not in form:
        if any(key.startswith(wire + ".") for key in form):
            raise AwsError("MalformedInput", f"Start of structure or list found where not expected: {wire}")
        return None
    used.add(wire)
    return _scalar(shape, form[wire], wire)


def _list(shape, form, wire, used):
    if wire in form:
        # Clients send an empty list as `Name=`.
        used.add(wire)
        if form[wire] != "":
            raise AwsError("MalformedInput", f"Expected list, found a value: {wire}")
        return []
    if shape.serialization.get("flattened"):
        prefix = wire
    else:
        prefix = f"{wire}.{shape.member.serialization.get('name', 'member')}"
    items = []
    while _present(form, f"{prefix}.{len(items) + 1}"):
        items.append(_value(shape.member, form, f"{prefix}.{len(items) + 1}", used))
    return items or None


def _scalar(shape, text, wire):
    kind = shape.type_name
    try:
        if kind in ("integer", "long"):
            value = int(text)
            if not -(2**31) <= value < 2**31 and kind == "integer":
                raise ValueError
            return value
        if kind in ("double", "float"):
            return float(text)
        if kind == "boolean":
            return {"true": True, "false": False}[text.lower()]
        if kind == "timestamp":
            return parse_time(text)
        if kind == "blob":
            return base64.b64decode(text, validate=True)
    except (ValueError, KeyError):
        raise AwsError("MalformedInput", f"Invalid value for {kind} parameter {wire}: {text}") from None
    if getattr(shape, "enum", None) and text not in shape.enum:
        raise AwsError("InvalidParameterValue", f"Invalid value {text} for parameter {wire}; valid values: {', '.join(shape.enum)}")
    return text


def parse_time(text):
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        value = value.replace(tzinfo=timezone.utc)
    return value.timestamp()


def format_time(seconds):
    moment = datetime.fromtimestamp(round(seconds, 3), timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def render(operation, value, request_id):
    namespace = operation.service_model.metadata["xmlNamespace"]
    out = [f'<{operation.name}Response xmlns="{namespace}">']
    shape = operation.output_shape
    if shape is not None:
        wrapper = shape.serialization.get("resultWrapper", f"{operation.name}Result")
        out.append(f"<{wrapper}>")
        _render_members(shape, value or {}, out)
        out.append(f"</{wrapper}>")
    out.append(f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>")
    out.append(f"</{operation.name}Response>")
    return "".join(out).encode()


def _render_members(shape, value, out):
    members = shape.members
    for name, item in value.items():
        if item is None:
            continue
        if name not in members:
            # A mistake in the stand-in: say so loudly instead of sending what no client reads.
            raise KeyError(f"{shape.name} has no member {name}")
        _render(members[name], members[name].serialization.get("name", name), item, out)


def _render(shape, tag, value, out):
    kind = shape.type_name
    if kind == "structure":
        out.append(f"<{tag}>")
        _render_members(shape, value, out)
        out.append(f"</{tag}>")
    elif kind == "list":
        flattened = shape.serialization.get("flattened")
        item_tag = tag if flattened else shape.member.serialization.get("name", "member")
        if not flattened:
            out.append(f"<{tag}>")
        for item in value:
            _render(shape.member, item_tag, item, out)
        if not flattened:
            out.append(f"</{tag}>")
    else:
        out.append(f"<{tag}>{_text(kind, value)}</{tag}>")


def _text(kind, value):
    if kind == "boolean":
        return "true" if value else "false"
    if kind == "timestamp":
        return format_time(value)
    return escape(str(value))


def render_error(model, code, message, status, request_id):
    namespace = model.metadata["xmlNamespace"]
    party = "Sender" if status < 500 else "Receiver"
    return (
        f'<ErrorResponse xmlns="{namespace}"><Error><Type>{party}</Type><Code>{escape(code)}</Code>'
        f"<Message>{escape(message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    ).encode()
