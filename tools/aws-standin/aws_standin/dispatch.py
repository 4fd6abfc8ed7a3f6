"""From an HTTP request to an answer: who calls, which faults strike, may they, what happens.

Order, as at AWS: signature and key, throttling and scripted faults, the request against the model,
permissions, the action itself. Answers are `(status, headers, body)`; `Cut` asks the server to
close the connection instead.
"""

import fnmatch
import time
import traceback
from urllib.parse import parse_qsl

from . import arns, around, ec2, kms, moto_bridge, policy, signature, sts
from .credentials import ACCOUNT
from .registry import ACTIONS, request_tags, resources
from .wire import models, query, restjson
from .wire.errors import AwsError
from .world import Context

SECRETS = {"MasterUserPassword", "TdeCredentialPassword"}
JSON_NAMES = {
    "AccessDenied": "AccessDeniedException", "ExpiredToken": "ExpiredTokenException",
    "IncompleteSignature": "IncompleteSignatureException", "InvalidClientTokenId": "UnrecognizedClientException",
    "MissingAuthenticationToken": "MissingAuthenticationTokenException", "Throttling": "ThrottlingException",
    "ServiceUnavailable": "ServiceUnavailableException",
}
UNSIGNED = ("AssumeRoleWithWebIdentity", "AssumeRoleWithSAML")


class Cut(Exception):
    """Close the connection without an answer, or after the first half of it."""

    def __init__(self, answer=None):
        super().__init__()
        self.answer = answer


class Request:
    def __init__(self, method, target, headers, body):
        self.method, self.target, self.headers, self.body = method, target, headers, body
        self.path, _, self.query = target.partition("?")


def handle(world, request, host):
    request_id = arns.new_uuid()
    service, region, action, params = "unknown", "unknown", request.method, {}
    model, entry = None, None
    try:
        scope = world.credentials.scope(request.headers, dict(parse_qsl(request.query)))
        if scope is None:
            form = dict(parse_qsl(request.body.decode("latin-1"))) if request.method == "POST" else {}
            if form.get("Action") in UNSIGNED:
                return moto_bridge.call("sts", form["Action"], request.method, request.target, request.headers, request.body, ACCOUNT, host)
            raise AwsError("MissingAuthenticationToken", "Request is missing Authentication Token")
        key, region, service = scope
        if service in ("rds", "backup"):
            model = models.service_model(service)
        action, operation, labels, form = _operation(model, service, request)
        with world.lock:
            world.clock.run_due()
            entry = {"service": service, "action": action, "region": region, "key": key, "at": world.now()}
            world.requests.append(entry)
            world.counts[f"{service}:{action}"] += 1
            token = request.headers.get("X-Amz-Security-Token")
            caller = world.credentials.caller(key, world.now(), time.time(), token)
            if world.config.signatures and "Authorization" in request.headers:
                signature.check(request, service, caller.secret)
            if operation is not None:
                params = query.parse(operation, form) if service == "rds" else restjson.parse(operation, labels, request.query, request.body)
                entry["params"] = {k: "***" if k in SECRETS else v for k, v in params.items()}
            if model is None:
                subjects = around.subjects(service, action, request, form, region, caller.account)
                params = {"Tags": around.request_tags(service, form)}
            else:
                subjects = resources(service, action, params, region, caller.account)
            strikes = world.faults.for_call(f"{service}:{action}", region, subjects, caller.arn)
        before = [s for s in strikes if not s["kind"].endswith("-after")]
        for strike in before:
            _strike(strike, caller, f"{service}:{action}", subjects)
        _authorise(world, caller, service, action, params, subjects, region)
        if service == "ec2":
            ec2.check(world, caller.account, region, action, form)
        if service == "sts":
            sts.check(caller, action, form)
        if model is None:
            answer = _forward(request, service, caller, action, region, host)
            entry["status"] = answer[0]
        else:
            with world.lock:
                answer = _run(world, caller, service, action, operation, params, region, request_id)
            entry["status"] = answer[0]
        for strike in strikes:
            if strike["kind"] == "cut-after":
                raise Cut
            if strike["kind"] == "hang-after":
                # The connection is cut in the end, when whoever asked may be long dead: this tells the one from the other.
                entry["error"], entry["hung"] = "hangs", True
                time.sleep(strike.get("seconds", 5))
                raise Cut
            if strike["kind"] == "torn-after":
                raise Cut(answer)
            if strike["kind"] == "error-after":
                raise _server_error(strike)
        return answer
    except AwsError as error:
        if entry is not None:
            entry["error"] = error.name
        return _error(model, service, request, error, request_id)
    except Cut:
        if entry is not None:
            entry["error"] = "cut"
        raise
    except Exception:
        # A mistake in the stand-in must not look like an AWS answer that a client retries for long.
        traceback.print_exc()
        last = traceback.format_exc().strip().splitlines()[-1]
        return _error(model, service, request, AwsError("StandinBug", last, status=400), request_id)


def _operation(model, service, request):
    """(action name, operation model or None, path labels, form) without judging members yet."""
    if model is None:
        form = dict(parse_qsl(request.body.decode("latin-1"))) if b"Action=" in request.body[:4096] else {}
        return around.action(service, request, form), None, {}, form
    if service == "rds":
        text = request.body.decode() if request.method == "POST" else request.query
        form = dict(parse_qsl(text, keep_blank_values=True))
        name = form.get("Action")
        if not name:
            raise AwsError("MissingAction", "The request must contain an action")
        if name not in model.operation_names:
            raise AwsError("InvalidAction", f"Could not find operation {name} for version {form.get('Version')}")
        if form.get("Version") != model.metadata["apiVersion"]:
            raise AwsError("InvalidAction", f"Could not find operation {name} for version {form.get('Version')}")
        return name, model.operation_model(name), {}, form
    found = restjson.find(model, request.method, request.path, request.query)
    if found is None:
        raise AwsError("UnknownOperationException", f"{request.method} {request.path}", status=404)
    operation, labels = found
    return operation.name, operation, labels, {}


def _strike(strike, caller, action, subjects):
    kind = strike["kind"]
    if kind == "deny":
        pattern = strike.get("resource", "*")
        raise denied(caller, action, next((s for s in subjects if fnmatch.fnmatchcase(s, pattern)), subjects[0]))
    if kind == "delay":
        time.sleep(strike.get("seconds", 1))
    elif kind == "throttle":
        raise AwsError(strike.get("code", "Throttling"), "Rate exceeded", strike.get("status"))
    elif kind == "error":
        raise _server_error(strike)
    elif kind == "hang-before":
        time.sleep(strike.get("seconds", 5))
        raise Cut
    elif kind == "cut-before":
        raise Cut


def _server_error(strike):
    if strike.get("status", 500) == 503:
        return AwsError("ServiceUnavailable", "Service Unavailable", status=503)
    return AwsError("InternalFailure", "The request processing has failed because of an unknown error, exception or failure.", status=500)


def denied(caller, action, resource, explicit=False):
    reason = (
        "with an explicit deny in an identity-based policy" if explicit
        else f"because no identity-based policy allows the {action} action"
    )
    return AwsError("AccessDenied", f"User: {caller.arn} is not authorized to perform: {action} on resource: {resource} {reason}")


def _authorise(world, caller, service, action, params, subjects, region):
    if caller.policies is None:
        return
    tags = request_tags(params)
    keys = {"aws:requestedregion": region}
    keys.update({f"aws:requesttag/{k}": v for k, v in tags.items()})
    if tags or "TagKeys" in params:
        keys["aws:tagkeys"] = list(tags) or params["TagKeys"]
    checks = [(f"{service}:{action}", s) for s in subjects]
    if tags and service == "rds" and not action.endswith(("TagsToResource", "TagsFromResource")):
        checks += [("rds:AddTagsToResource", s) for s in subjects if _created_by(action, s, params)]
    if tags and service == "ec2" and action.startswith("Create"):
        keys["ec2:createaction"] = action
        checks.append(("ec2:CreateTags", subjects[0]))
    if service == "backup" and action == "CreateBackupVault":
        checks.append(("backup-storage:MountCapsule", "*"))
    if tags and service == "backup" and action in ("CreateBackupVault", "CreateBackupPlan", "StartBackupJob"):
        checks.append(("backup:TagResource", subjects[0]))
    for member in ("IamRoleArn", "RoleArn", "MonitoringRoleArn"):
        if isinstance(params.get(member), str):
            checks.append(("iam:PassRole", params[member]))
            keys["iam:passedtoservice"] = f"{service}.amazonaws.com"
    checks = [(name, subject, region) for name, subject in checks]
    if service == "rds" and action.startswith("Copy"):
        # The source's region is asked too, under its own name (aws:RequestedRegion must allow both).
        checks += [(f"{service}:{action}", s, s.split(":")[3]) for s in subjects if s.startswith("arn:") and s.split(":")[3] != region]
    for name, subject, where in checks:
        own = {**keys, "aws:requestedregion": where}
        own.update({f"aws:resourcetag/{k}": v for k, v in tags_of(world, caller.account, subject).items()})
        verdict, explicit = policy.allowed(caller.policies, name, subject, own)
        if not verdict:
            raise denied(caller, name, subject, explicit)


def _created_by(action, subject, params):
    """Whether `subject` is what the call makes, which is what its tags go on."""
    for member in ("DBSnapshotIdentifier", "DBClusterSnapshotIdentifier", "TargetDBSnapshotIdentifier",
                   "TargetDBClusterSnapshotIdentifier", "TargetDBInstanceIdentifier"):
        if member in params and not (action.startswith("Restore") and "Snapshot" in member):
            return subject.endswith(":" + params[member])
    name = params.get("DBInstanceIdentifier") or params.get("DBClusterIdentifier") or ""
    return subject.endswith(":" + name)


def tags_of(world, account, arn):
    parts = arn.split(":")
    if parts[2:3] == ["ec2"]:
        return around.tags_of(arn)
    if len(parts) < 6 or (account, parts[3]) not in world.regions:
        return {}
    region = world.regions[(account, parts[3])]
    found = region.rds.by_arn(arn) if parts[2] == "rds" else None
    if found is not None:
        return {tag["Key"]: tag["Value"] for tag in found.tags}
    return region.backup.tags.get(arn, {})


def _run(world, caller, service, action, operation, params, region, request_id):
    function = ACTIONS.get((service, action))
    if function is None:
        raise AwsError("NotImplemented", f"the stand-in does not model {service}:{action}")
    value = function(Context(world, caller, region), params)
    if service == "rds":
        return 200, [("Content-Type", "text/xml"), ("x-amzn-RequestId", request_id)], query.render(operation, value, request_id)
    status, body = restjson.render(operation, value)
    return status, [("Content-Type", "application/json"), ("x-amzn-RequestId", request_id)], body


def _forward(request, service, caller, action, region, host):
    if service not in moto_bridge.SERVICES:
        raise AwsError("NotImplemented", f"the stand-in does not serve {service}")
    if service == "sts" and action == "GetCallerIdentity":
        # moto answers with a made-up user; the caller's ARN is what messages about permissions name.
        model = models.service_model("sts")
        value = {"UserId": caller.key, "Account": caller.account, "Arn": caller.arn}
        body = query.render(model.operation_model(action), value, arns.new_uuid())
        return 200, [("Content-Type", "text/xml")], body
    account, body = caller.account, request.body
    if service == "kms":
        account, body = kms.prepare(caller, region, action, body)
    return moto_bridge.call(service, action, request.method, request.target, request.headers, body, account, host)


def _error(model, service, request, error, request_id):
    model_or_rds = model or models.service_model("rds")
    code, status = error.on_wire(model_or_rds)
    content_type = request.headers.get("Content-Type", "")
    speaks_json = service == "backup" or "json" in content_type or "X-Amz-Target" in request.headers
    if speaks_json:
        code = JSON_NAMES.get(code, code)
        body = restjson.render_error(code, error.message, "client" if status < 500 else "service")
        return status, [("Content-Type", "application/json"), ("x-amzn-ErrorType", code), ("x-amzn-RequestId", request_id)], body
    if service == "s3":
        code = {"InvalidClientTokenId": "InvalidAccessKeyId"}.get(code, code)
        body = f"<Error><Code>{code}</Code><Message>{error.message}</Message><RequestId>{request_id}</RequestId></Error>".encode()
    elif service == "ec2":
        code = {"InvalidClientTokenId": "AuthFailure", "AccessDenied": "UnauthorizedOperation"}.get(code, code)
        body = f"<Response><Errors><Error><Code>{code}</Code><Message>{error.message}</Message></Error></Errors><RequestID>{request_id}</RequestID></Response>".encode()
    else:
        body = query.render_error(model_or_rds, code, error.message, status, request_id)
    return status, [("Content-Type", "text/xml"), ("x-amzn-RequestId", request_id)], body
