"""Short names for AWS Backup's exceptions."""

from ..wire.errors import AwsError


def bad(message):
    return AwsError("InvalidParameterValueException", message)


def missing(message):
    return AwsError("ResourceNotFoundException", message)


def refused(message):
    return AwsError("InvalidRequestException", message)
