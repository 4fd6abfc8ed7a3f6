"""What moto's KMS leaves out: the state of a key counts, and a key may be named by its ARN everywhere.

moto encrypts and decrypts with disabled keys, and fails on `DisableKey` and its like when they are
given an ARN (5.2). Requests are looked at before moto gets them.
"""

import base64
import json

from . import keys
from .wire.errors import AwsError

USES = {"Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "Sign", "CreateGrant"}


def prepare(caller, region, action, body):
    """(account that has the key, body to hand on); AwsError when the key cannot be used."""
    account = caller.account
    try:
        document = json.loads(body)
    except ValueError:
        return account, body
    named = document.get("KeyId", "")
    if ":key/" in named and named.split(":")[3] == region:
        if named.split(":")[4] != account:
            # API reference of KMS: of these, DescribeKey and the uses of a key work across accounts.
            if action not in USES | {"DescribeKey"} or not keys.lets(caller, named, f"kms:{action}"):
                raise AwsError("AccessDenied", f"User: {caller.arn} is not authorized to perform: kms:{action} on resource: {named} because no resource-based policy allows the kms:{action} action")
            account = named.split(":")[4]
        document["KeyId"] = named.partition(":key/")[2]
    if action in USES:
        _check(account, region, document)
    return account, json.dumps(document).encode()


def _check(account, region, document):
    wanted = [document.get("KeyId"), document.get("DestinationKeyId")]
    if "CiphertextBlob" in document:
        # moto's ciphertext begins with the id of its key.
        wanted.append(base64.b64decode(document["CiphertextBlob"])[:36].decode("latin-1"))
    for name in filter(None, wanted):
        key = keys.find(account, region, name)
        if key is None or key.key_state == "Enabled":
            continue
        if key.key_state == "Disabled":
            raise AwsError("DisabledException", f"{key.arn} is disabled.")
        raise AwsError("KMSInvalidStateException", f"{key.arn} is pending deletion.")
