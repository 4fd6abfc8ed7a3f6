"""Service models: what botocore ships, loaded once each.

DocumentDB uses RDS's endpoint, version and signing name, and every operation and member of its
model is in RDS's too, so one model serves both.
"""

import functools

import botocore.loaders
import botocore.model

_loader = botocore.loaders.Loader()


@functools.cache
def service_model(service):
    # The plain file, without the "sdk-extras": those are members that only exist inside SDKs.
    raw = _loader.load_service_model(service, "service-2")
    return botocore.model.ServiceModel(raw, service)
