"""What moto's KMS leaves out: the state of a key counts, and a key may be named by its ARN everywhere.

moto encrypts and decrypts with disabled keys, and fails on `DisableKey` and its like when they are
given an ARN (5.2). Requests are looked at before moto gets them.
"""

import base64
import json

from . import keys
from .wire.errors import AwsError

USES = {"Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "Sign", "CreateGrant"}


def prepare(account, region, action, body):
    """The body to hand on; AwsError when the key cannot be used."""
    try:
        document = json.loads(body)
    except ValueError:
        return body
    named = document.get("KeyId", "")
    if ":key/" in named and named.split(":")[3:5] == [region, account]:
        document["KeyId"] = named.partition(":key/")[2]
    if action in USES:
        _check(account, region, document)
    return json.dumps(document).encode()


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
