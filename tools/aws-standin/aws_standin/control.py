"""The control endpoint, `/_standin/…`: JSON in, JSON out, no signature.

GET  state                what exists, per account and region
GET  requests             every call so far: action, region, key, parameters, status or error
GET  counts               how often each action was called
GET  config, clock, faults
POST reset                forget everything, moto's state too; {"back": N}: it begins N seconds ago, so that days of
                     backups lie in the past of whoever looks at his own clock (what moto holds knows no virtual time)
POST config               see config.py
POST advance              {"seconds": N}
POST clock                {"frozen": true|false, "speed": X}
POST faults               one rule or a list (faults.py); DELETE faults removes all
POST keys                 {"access_key", "secret" (default test), "account", "arn", "token", "expires_in",
                     "policies": [IAM documents]}
POST seed                 see seed.py
POST backdate             {"id", "seconds", "region"}: a database is older, and so is its window
POST window               {"id", "region"}: its automated backup starts now, and is seen (backing-up)
POST state                {"id", "status", "region", "kind"}: put a resource into a status
POST settle               finish every operation that is under way, and what follows from it
POST endpoint             {"id", "host", "port", "region"}: what describe shows as its endpoint
POST restore-endpoint     {"source", "host", "port"}: what restores from that source will show
POST run-plans            {"region"}: every rule of every AWS Backup plan runs now
POST job                  {"id", "state", "message", "region"}: put an AWS Backup job into a state
"""

import json
import time
import traceback
from collections import Counter

from . import moto_bridge, policy, seed
from .lifecycle import Operation
from .wire.errors import AwsError
from .world import Context

DEFAULT_REGION = "us-east-1"


def handle(world, method, path, body):
    name = path.removeprefix("/_standin").partition("?")[0].strip("/")
    function = ROUTES.get((method, name))
    if function is None:
        known = ", ".join(sorted(f"{m} {n}" for m, n in ROUTES))
        return 404, {"error": f"no such control call; known: {known}"}
    try:
        given = json.loads(body) if body.strip() else {}
        with world.lock:
            world.clock.run_due()
            return 200, function(world, given)
    except (ValueError, KeyError, TypeError, AwsError) as error:
        # The control endpoint is for tests: a wrong call must not pass unseen.
        return 400, {"error": f"{type(error).__name__}: {error}"}
    except Exception as error:
        traceback.print_exc()
        return 500, {"error": f"a mistake in the stand-in: {error!r}"}


def context(world, given):
    caller = world.credentials.callers[given.get("key", "test")]
    return Context(world, caller, given.get("region", DEFAULT_REGION))


def find(ctx, name, kind=None):
    """A database or snapshot by id or ARN, in the given region."""
    for table in ("instances", "clusters", "snapshots", "cluster_snapshots"):
        for resource in getattr(ctx.rds, table).values():
            if name in (resource.name, resource.arn) and kind in (None, resource.kind):
                return resource
    raise ValueError(f"nothing named {name} in {ctx.region}")


def get_state(world, _):
    regions = {}
    for (account, name), region in world.regions.items():
        tables = {}
        for table in region.rds.TABLES.values():
            tables[table] = [
                {
                    "id": r.name, "arn": r.arn, "status": r.status, "tags": {t["Key"]: t["Value"] for t in r.tags},
                    # Of what was restored: from which ARNs, and to which second.
                    "origin": getattr(r, "origin", None), "restored_to": getattr(r, "restored_to", None),
                }
                for r in getattr(region.rds, table).values()
            ]
        regions.setdefault(account, {})[name] = {"rds": tables, "backup": region.backup.dump()}
    return {"now": world.now(), "regions": regions}


def post_reset(world, given):
    unknown = set(given) - {"back"}
    if unknown:
        raise ValueError(f"unknown field {sorted(unknown)[0]}")
    back = float(given.get("back", 0))
    if back < 0:
        raise ValueError("a world does not begin in the future: advance it")
    world.reset(back)
    moto_bridge.reset()
    return {}


def post_config(world, given):
    world.config.update(given)
    return world.config.dump()


def post_advance(world, given):
    world.clock.advance(float(given["seconds"]))
    return get_clock(world, None)


def post_clock(world, given):
    if "speed" in given:
        world.clock.set_speed(float(given["speed"]))
    if "frozen" in given:
        world.clock.freeze(bool(given["frozen"]))
    return get_clock(world, None)


def get_clock(world, _):
    return {"now": world.now(), "speed": world.clock.speed, "frozen": world.clock.frozen}


def post_faults(world, given):
    for rule in given if isinstance(given, list) else [given]:
        world.faults.add(rule)
    return world.faults.rules


def delete_faults(world, _):
    world.faults.clear()
    return {}


def post_keys(world, given):
    unknown = set(given) - {"access_key", "account", "arn", "expires_in", "policies", "token", "secret"}
    if unknown:
        raise ValueError(f"unknown field {sorted(unknown)[0]}")
    rest = {}
    if given.get("policies") is not None:
        rest["policies"] = [policy.check(d) for d in given["policies"]]
    if "expires_in" in given:
        rest["expires"] = world.now() + given["expires_in"]
    for member in ("token", "secret"):
        if member in given:
            rest[member] = given[member]
    known = world.credentials.callers.get(given["access_key"])
    account = given.get("account") or (known.account if known else None)
    caller = world.credentials.add(given["access_key"], *([account] if account else []), arn=given.get("arn"), **rest)
    return {"access_key": caller.key, "account": caller.account, "arn": caller.arn}


def post_backdate(world, given):
    from .rds import automated

    ctx = context(world, given)
    resource, seconds = find(ctx, given["id"]), given["seconds"]
    member = "ClusterCreateTime" if resource.kind == "cluster" else "InstanceCreateTime"
    if resource.view.get(member) is None:
        raise ValueError(f"{resource.name} is not there yet (status: {resource.status})")
    resource.view[member] -= seconds
    backup = automated.of(ctx, resource)
    if backup:
        backup.started -= seconds
        days = min(int(seconds // automated.DAY), backup.retention)
        last = automated.next_window(resource, ctx.now) - automated.DAY
        for back in range(days):
            automated.take_snapshot(ctx, resource, last - back * automated.DAY)
        for region in world.regions.values():
            for replica in region.rds.automated.values():
                if replica.resource_id == resource.resource_id and replica is not backup and replica.started:
                    replica.started -= seconds
    return {"window": backup.window(world) if backup else None}


def post_window(world, given):
    from .rds import cluster_snapshots, snapshots

    ctx = context(world, given)
    resource = find(ctx, given["id"])
    if resource.status != "available":
        raise ValueError(f"{resource.name} is {resource.status}: an automated backup would be skipped")
    name = f"rds:{resource.name}-{time.strftime('%Y-%m-%d-%H-%M', time.gmtime(ctx.now))}"
    maker = cluster_snapshots if resource.kind == "cluster" else snapshots
    maker.add(ctx, resource, name, "automated")
    return {"snapshot": name}


def post_state(world, given):
    resource = find(context(world, given), given["id"], given.get("kind"))
    if resource.operation:
        resource.operation.cancel()
        resource.operation = None
    resource.settled = given["status"]
    return {"arn": resource.arn, "status": resource.status}


def post_settle(world, _):
    finished = 0
    # What ends may begin something: a backup job its copy.
    for _ in range(10):
        owners = [getattr(action, "__self__", None) for action in world.clock.pending()]
        operations = [owner for owner in owners if isinstance(owner, Operation) and not owner.finished]
        for operation in operations:
            operation.finish()
        finished += len(operations)
        if not operations:
            break
    return {"finished": finished}


def post_endpoint(world, given):
    resource = find(context(world, given), given["id"])
    resource.endpoint = (given["host"], int(given["port"]))
    return {"arn": resource.arn}


def post_restore_endpoint(world, given):
    world.restore_endpoints[given["source"]] = (given["host"], int(given["port"]))
    return {}


def post_run_plans(world, given):
    from .backup import plans

    return {"jobs": plans.run_all(context(world, given))}


def post_job(world, given):
    from .backup import jobs

    return jobs.force(context(world, given), given["id"], given["state"], given.get("message"))


ROUTES = {
    ("GET", "state"): get_state,
    ("GET", "requests"): lambda world, _: list(world.requests),
    ("GET", "counts"): lambda world, _: dict(Counter(world.counts)),
    ("GET", "config"): lambda world, _: world.config.dump(),
    ("GET", "clock"): get_clock,
    ("GET", "faults"): lambda world, _: world.faults.rules,
    ("POST", "reset"): post_reset,
    ("POST", "config"): post_config,
    ("POST", "advance"): post_advance,
    ("POST", "clock"): post_clock,
    ("POST", "faults"): post_faults,
    ("DELETE", "faults"): delete_faults,
    ("POST", "keys"): post_keys,
    ("POST", "seed"): lambda world, given: seed.run(world, given),
    ("POST", "backdate"): post_backdate,
    ("POST", "window"): post_window,
    ("POST", "state"): post_state,
    ("POST", "settle"): post_settle,
    ("POST", "endpoint"): post_endpoint,
    ("POST", "restore-endpoint"): post_restore_endpoint,
    ("POST", "run-plans"): post_run_plans,
    ("POST", "job"): post_job,
}
