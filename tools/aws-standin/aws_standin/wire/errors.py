"""The exception that becomes an AWS error response.

Handlers raise `AwsError(name, message)`. `name` is either the name of an exception shape of the
service model (`DBInstanceNotFoundFault`), whose wire code and HTTP status come from the model, or
one of the codes that all AWS services share and no model lists (`InvalidParameterValue`,
`Throttling`, ...), whose status is in `COMMON` below.
"""

# Codes outside of the models and their HTTP status (RDS API reference, "Common Errors").
COMMON = {
    "AccessDenied": 403,
    "AccessDeniedException": 403,
    "ExpiredToken": 403,
    "ExpiredTokenException": 403,
    "IncompleteSignature": 403,
    "IncompleteSignatureException": 403,
    "InvalidClientTokenId": 403,
    "UnrecognizedClientException": 403,
    "MissingAuthenticationToken": 403,
    "MissingAuthenticationTokenException": 403,
    "SignatureDoesNotMatch": 403,
    "InternalFailure": 500,
    "ServiceUnavailable": 503,
    "NotImplemented": 501,
    "Throttling": 400,
    "ThrottlingException": 400,
    "RequestLimitExceeded": 503,
}


class AwsError(Exception):
    def __init__(self, name, message, status=None):
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message
        self.status = status

    def on_wire(self, model):
        """The code and HTTP status, as `model` (or the common table) has them."""
        for shape in model.error_shapes:
            if shape.name == self.name:
                error = shape.metadata.get("error", {})
                return error.get("code", self.name), self.status or error.get("httpStatusCode", 400)
        return self.name, self.status or COMMON.get(self.name, 400)


def invalid(message):
    return AwsError("InvalidParameterValue", message)


def combination(message):
    return AwsError("InvalidParameterCombination", message)
