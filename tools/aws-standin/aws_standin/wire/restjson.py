"""REST-JSON protocol (AWS Backup): path, query and JSON body in, JSON out, checked against the model.

Wrong types, unknown members and missing required ones are refused as AWS Backup does
(`InvalidParameterValueException`, `MissingParameterValueException`), and so are values outside of
the model's enumerations, ranges and patterns.
"""

import functools
import json
import re
from urllib.parse import parse_qsl, unquote

from .errors import AwsError
from .query import parse_time


@functools.cache
def _routes(model):
    routes = []
    for name in model.operation_names:
        operation = model.operation_model(name)
        path, _, query = operation.http["requestUri"].partition("?")
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path.rstrip("/")))
        routes.append((operation.http["method"], re.compile(pattern + "/?$"), query, operation))
    # Literal segments before labels, a required query before none.
    routes.sort(key=lambda r: (r[1].pattern.count("(?P<"), not r[2]))
    return routes


def find(model, method, raw_path, query):
    """The operation and its path labels, or None."""
    for verb, pattern, wanted, operation in _routes(model):
        match = pattern.match(raw_path) if verb == method else None
        if match and (not wanted or wanted in query.split("&")):
            return operation, {k: unquote(v) for k, v in match.groupdict().items()}
    return None


def parse(operation, labels, query, body):
    shape = operation.input_shape
    if shape is None:
        return {}
    value = {}
    pairs = parse_qsl(query, keep_blank_values=True)
    known_queries = set()
    body_members = {}
    for name, member in shape.members.items():
        where = member.serialization.get("location")
        wire = member.serialization.get("name", name)
        if where == "uri":
            value[name] = _check_text(member, labels[wire], wire)
        elif where == "querystring":
            known_queries.add(wire)
            found = [v for k, v in pairs if k == wire]
            if found:
                value[name] = _from_text(member, found, wire)
        elif where is None:
            body_members[wire] = (name, member)
    literal = operation.http["requestUri"].partition("?")[2].split("&")
    for key, _ in pairs:
        if key not in known_queries and key not in literal:
            raise AwsError("InvalidParameterValueException", f"Unknown query parameter: {key}")
    if body.strip():
        try:
            document = json.loads(body)
        except ValueError:
            raise AwsError("SerializationException", "The body is not valid JSON") from None
        if not isinstance(document, dict):
            raise AwsError("SerializationException", "Start of structure expected")
        for wire, item in document.items():
            if wire not in body_members:
                raise AwsError("InvalidParameterValueException", f"Unknown member: {wire}")
            name, member = body_members[wire]
            if item is not None:
                value[name] = _from_json(member, item, wire)
    for name in shape.required_members:
        if value.get(name) is None:
            raise AwsError("MissingParameterValueException", f"Missing required parameter: {name}")
    return value


def _from_text(shape, found, wire):
    if shape.type_name == "list":
        return [_from_text(shape.member, [f], wire) for f in found]
    text = found[-1]
    try:
        if shape.type_name in ("integer", "long"):
            number = int(text)
            _bounds(shape, number, wire)
            return number
        if shape.type_name == "boolean":
            return {"true": True, "false": False}[text.lower()]
        if shape.type_name == "timestamp":
            return parse_time(text)
    except (ValueError, KeyError):
        raise AwsError("InvalidParameterValueException", f"Invalid value for {wire}: {text}") from None
    return _check_text(shape, text, wire)


def _bounds(shape, number, wire):
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if (low is not None and number < low) or (high is not None and number > high):
        raise AwsError("InvalidParameterValueException", f"{wire} must be between {low} and {high}")


def _check_text(shape, text, wire):
    if getattr(shape, "enum", None) and text not in shape.enum:
        raise AwsError("InvalidParameterValueException", f"Invalid value for {wire}: {text}")
    pattern = shape._shape_model.get("pattern")  # botocore keeps it nowhere else
    if pattern and not re.search(pattern, text):
        raise AwsError("InvalidParameterValueException", f"{wire} does not match {pattern}")
    return text


JSON_TYPES = {
    "structure": dict, "map": dict, "list": list, "string": str, "boolean": bool,
    "integer": int, "long": int, "double": (int, float), "float": (int, float), "timestamp": (int, float, str),
}


def _from_json(shape, item, wire):
    kind = shape.type_name
    expected = JSON_TYPES.get(kind, str)
    if not isinstance(item, expected) or (isinstance(item, bool) and kind != "boolean"):
        raise AwsError("SerializationException", f"{wire}: {kind} expected, found {type(item).__name__}")
    if kind == "structure":
        value = {}
        names = {m.serialization.get("name", n): (n, m) for n, m in shape.members.items()}
        for key, inner in item.items():
            if key not in names:
                raise AwsError("InvalidParameterValueException", f"Unknown member: {wire}.{key}")
            if inner is not None:
                name, member = names[key]
                value[name] = _from_json(member, inner, f"{wire}.{key}")
        for name in shape.required_members:
            if name not in value:
                raise AwsError("MissingParameterValueException", f"Missing required parameter: {wire}.{name}")
        return value
    if kind == "list":
        return [_from_json(shape.member, inner, wire) for inner in item]
    if kind == "map":
        return {key: _from_json(shape.value, inner, f"{wire}.{key}") for key, inner in item.items()}
    if kind == "timestamp":
        return parse_time(item) if isinstance(item, str) else float(item)
    if kind in ("integer", "long"):
        _bounds(shape, item, wire)
    return _check_text(shape, item, wire) if kind == "string" else item


def render(operation, value):
    shape = operation.output_shape
    status = operation.http.get("responseCode", 200)
    if shape is None:
        return status, b""
    return status, json.dumps(_to_json(shape, value or {})).encode()


def _to_json(shape, value):
    kind = shape.type_name
    if kind == "structure":
        out = {}
        for name, item in value.items():
            if item is None:
                continue
            member = shape.members[name]  # KeyError: a mistake in the stand-in
            out[member.serialization.get("name", name)] = _to_json(member, item)
        return out
    if kind == "list":
        return [_to_json(shape.member, item) for item in value]
    if kind == "map":
        return {key: _to_json(shape.value, item) for key, item in value.items()}
    if kind == "timestamp":
        return round(value, 3)
    return value


def render_error(code, message, error_type="client"):
    return json.dumps({"__type": code, "Code": code, "Message": message, "message": message, "Type": error_type}).encode()
