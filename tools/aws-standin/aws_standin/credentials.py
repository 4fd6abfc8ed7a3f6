"""Who calls: access keys, sessions, and what the caller may do.

Known are `test`/`test` of account 123456789012, what `POST /_standin/keys` adds, and what moto's
IAM and STS handed out (AssumeRole, CreateAccessKey). Everything else is `InvalidClientTokenId`.
Signatures are checked (`signature.py`).
"""

import re
import sys

from .wire.errors import AwsError

ACCOUNT = "123456789012"
SCOPE = re.compile(r"AWS4-HMAC-SHA256 +Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request")


class Caller:
    def __init__(self, key, account, arn, secret="test", expires=None, policies=None, token=None):
        self.key, self.account, self.arn, self.secret = key, account, arn, secret
        # Virtual time after which the key answers ExpiredToken.
        self.expires = expires
        # Parsed IAM policies; None = everything is allowed.
        self.policies = policies
        self.token = token


class Credentials:
    def __init__(self):
        self.callers = {}
        self.add("test", ACCOUNT)

    def add(self, key, account=ACCOUNT, arn=None, **rest):
        arn = arn or f"arn:aws:iam::{account}:user/{key}"
        self.callers[key] = Caller(key, account, arn, **rest)
        return self.callers[key]

    def scope(self, headers, query):
        """(access key, region, service) of a signed request, or None when it is not signed."""
        text = headers.get("Authorization", "")
        if not text and "X-Amz-Credential" in query:
            parts = query["X-Amz-Credential"].split("/")
            if len(parts) == 5 and query.get("X-Amz-Signature"):
                return parts[0], parts[2], parts[3]
        if not text:
            return None
        match = SCOPE.match(text)
        if not match or "Signature=" not in text or "SignedHeaders=" not in text:
            raise AwsError("IncompleteSignature", "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters.")
        return match[1], match[3], match[4]

    def caller(self, key, now, real_now, token):
        found = self.callers.get(key) or _from_moto(key)
        if found is None:
            raise AwsError("InvalidClientTokenId", "The security token included in the request is invalid.")
        if found.token is not None and found.token != token:
            raise AwsError("InvalidClientTokenId", "The security token included in the request is invalid.")
        if found.expires is not None and found.expires <= (real_now if found.token else now):
            raise AwsError("ExpiredToken", "The security token included in the request is expired")
        return found


def _from_moto(key):
    """Keys that moto's backends handed out; nothing is imported just to find none."""
    sts = sys.modules.get("moto.sts.models")
    if sts:
        for account, backends in list(sts.sts_backends.items()):
            for role in [r for b in list(backends.values()) for r in b.assumed_roles]:
                if role.access_key_id == key:
                    return Caller(key, account, role.arn, role.secret_access_key, expires=role.expiration.timestamp(), token=role.session_token)
    iam = sys.modules.get("moto.iam.models")
    if iam:
        for account, backends in list(iam.iam_backends.items()):
            for backend in list(backends.values()):
                if key in backend.access_keys:
                    found = backend.access_keys[key]
                    return Caller(key, account, f"arn:aws:iam::{account}:user/{found.user_name}", found.secret_access_key)
    return None
