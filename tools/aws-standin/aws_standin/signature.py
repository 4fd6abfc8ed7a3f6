"""AWS Signature Version 4, checked: a client that signs wrongly learns it here, not at AWS.

Header signatures only; presigned URLs are taken as they are. The age of a signature is not judged,
since virtual time may be anywhere. `POST /_standin/config {"signatures": false}` turns it off.
"""

import hashlib
import hmac
import re
from urllib.parse import quote, unquote

from .wire.errors import AwsError

FIELDS = re.compile(r"(Credential|SignedHeaders|Signature)=([^, ]+)")


def check(request, service, secret):
    """AwsError unless the request is signed with `secret`."""
    fields = dict(FIELDS.findall(request.headers["Authorization"]))
    key, day, region, scope_service, _ = fields["Credential"].rsplit("/", 4)
    names = fields["SignedHeaders"].split(";")
    present = {name.lower() for name in request.headers}
    needed = {"host"} | {name for name in present if name in ("x-amz-date", "x-amz-target", "x-amz-security-token")}
    missing = needed - set(names)
    if missing:
        raise _wrong(f"'{sorted(missing)[0]}' must be a SignedHeader in the AWS Authorization.")
    moment = request.headers.get("X-Amz-Date", "")
    if not moment.startswith(day):
        raise _wrong("Date in Credential scope does not match the date of the request.")
    digest = request.headers.get("X-Amz-Content-Sha256") or hashlib.sha256(request.body).hexdigest()
    if re.fullmatch(r"[0-9a-f]{64}", digest) and digest != hashlib.sha256(request.body).hexdigest():
        raise AwsError("SignatureDoesNotMatch", "The provided 'x-amz-content-sha256' header does not match what was computed.")
    canonical = "\n".join([
        request.method, _path(request.path, service), _query(request.query),
        *(f"{name}:{_value(request.headers, name)}" for name in names), "", ";".join(names), digest,
    ])
    scope = f"{day}/{region}/{scope_service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    derived = f"AWS4{secret}".encode()
    for part in (day, region, scope_service, "aws4_request"):
        derived = hmac.new(derived, part.encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(hmac.new(derived, text.encode(), hashlib.sha256).hexdigest(), fields["Signature"]):
        raise _wrong(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
            f"and signing method. The Canonical String for this request should have been '{canonical}'"
        )


def _wrong(message):
    return AwsError("SignatureDoesNotMatch", message)


def _value(headers, name):
    return ",".join(" ".join(value.split()) for value in headers.get_all(name, []))


def _path(path, service):
    """S3 signs the path as it is sent, everybody else encodes it once more."""
    if service == "s3":
        return quote(unquote(path), safe="/~") or "/"
    # Dot segments and doubled slashes are taken out first, a slash at the end stays.
    parts = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    normal = "/" + "/".join(parts) + ("/" if parts and path.endswith("/") else "")
    return quote(normal, safe="/~")


def _query(query):
    pairs = []
    for item in filter(None, query.split("&")):
        name, _, value = item.partition("=")
        pairs.append((_again(name), _again(value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _again(text):
    return quote(unquote(text.replace("+", "%20")), safe="~")
