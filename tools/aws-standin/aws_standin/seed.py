"""Fixtures without waiting: `POST /_standin/seed`.

{"instances": [{...}], "clusters": [{...}], "snapshots": {...}, "points": {...}, "region": "us-east-1"}

instances  members of CreateDBInstance (defaults: postgres, db.t3.medium, 20 GB, retention 7) plus
           `age` in seconds; they are available at once, with a window and automated snapshots
clusters   members of CreateDBCluster (default engine aurora-postgresql) plus `age`, and `members`
           (a number of instances)
snapshots  {"source": ID, "count": N, "type": "manual"|"automated"|"awsbackup", "prefix": "s",
            "every": seconds, "tags": {..}, "regions": [..]}: finished ones, the newest first, of a source
            that exists in the request's region. The quota is not asked: how would one test 1,000?
points     {"source": ID, "vault": NAME, "count": N, "every": seconds, "regions": [..]}: recovery points
locks      {"vault": NAME, "min": days, "max": days, "date_age": seconds}: the vault's lock; in compliance mode since
           `date_age` seconds, in governance mode without
role       the name of an IAM role that AWS Backup may assume; {"name": NAME, "trusts": [accounts]}: that these may
key        the access key in whose account all this is (control.py, `keys`)
"""

import json

from . import arns, moto_bridge
from .world import Context

DAY = 86400


def run(world, given):
    from .control import context

    ctx = context(world, given)
    unknown = set(given) - {"instances", "clusters", "snapshots", "points", "locks", "role", "region", "key"}
    if unknown:
        raise ValueError(f"unknown fixture {sorted(unknown)[0]}")
    made = {}
    if given.get("role"):
        made["role"] = _role(ctx, given["role"])
    made["instances"] = [_database(ctx, dict(i), "instance") for i in given.get("instances", [])]
    made["clusters"] = [_database(ctx, dict(c), "cluster") for c in given.get("clusters", [])]
    for key, function in (("snapshots", _snapshots), ("points", _points), ("locks", _locks)):
        wanted = given.get(key, [])
        made[key] = sum((function(ctx, dict(w)) for w in (wanted if isinstance(wanted, list) else [wanted])), 0)
    return made


def _finish(resource):
    resource.hidden = 0
    resource.operation.finish()


def _database(ctx, spec, kind):
    from .control import post_backdate
    from .rds import clusters, instances

    age, members = spec.pop("age", 0), spec.pop("members", 0)
    spec.setdefault("MasterUsername", "postgres")
    spec.setdefault("MasterUserPassword", "correct-horse")
    spec.setdefault("BackupRetentionPeriod", 7)
    if kind == "instance":
        spec.setdefault("Engine", "postgres")
        spec.setdefault("DBInstanceClass", "db.t3.medium")
        spec.setdefault("AllocatedStorage", 20)
        instances.create(ctx, spec)
        resource = ctx.rds.instances[spec["DBInstanceIdentifier"].lower()]
    else:
        spec.setdefault("Engine", "aurora-postgresql")
        clusters.create(ctx, spec)
        resource = ctx.rds.clusters[spec["DBClusterIdentifier"].lower()]
    _finish(resource)
    for name in list(getattr(resource, "members", [])):
        _finish(ctx.rds.instances[name])
    for number in range(members):
        name = f"{resource.name}-{number + 1}"
        size = "db.serverless" if resource.view.get("ServerlessV2ScalingConfiguration") else "db.r6g.large"
        instances.create(ctx, {"DBInstanceIdentifier": name, "DBInstanceClass": size, "Engine": resource.view["Engine"], "DBClusterIdentifier": resource.name})
        _finish(ctx.rds.instances[name])
    if age:
        post_backdate(ctx.world, {"id": resource.name, "seconds": age, "region": ctx.region, "key": ctx.caller.key})
    return resource.arn


def _source(ctx, name):
    from .control import find

    return find(ctx, name)


def _snapshots(ctx, spec):
    from .rds import cluster_snapshots, snapshots

    source = _source(ctx, spec["source"])
    cluster = source.kind == "cluster"
    type_, made = spec.get("type", "manual"), 0
    for region in spec.get("regions", [ctx.region]):
        there = Context(ctx.world, ctx.caller, region)
        for number in range(spec["count"]):
            taken = ctx.now - (number + 1) * spec.get("every", DAY)
            prefix = {"automated": "rds:", "awsbackup": "awsbackup:job-"}.get(type_, "")
            name = f"{prefix}{spec.get('prefix', 's')}{number:05d}"
            tags = [{"Key": k, "Value": v} for k, v in spec.get("tags", {}).items()]
            made_one = (cluster_snapshots if cluster else snapshots).add(there, source, name, type_, tags=tags, taken=taken)
            made_one.tags = tags
            made += 1
    return made


def _points(ctx, spec):
    from .backup import points, vaults

    source, made = _source(ctx, spec["source"]), 0
    for region in spec.get("regions", [ctx.region]):
        there = Context(ctx.world, ctx.caller, region)
        vault = vaults.ensure(there, spec["vault"])
        for number in range(spec["count"]):
            taken = ctx.now - (number + 1) * spec.get("every", DAY)
            points.seed(there, vault, source, taken, f"{spec.get('prefix', 'seed')}{number:05d}-{arns.new_uuid()[:8]}")
            made += 1
    return made


def _locks(ctx, spec):
    from .backup import vaults

    vault = vaults.ensure(ctx, spec["vault"])
    age = spec.get("date_age")
    vault.lock = {"min": spec.get("min"), "max": spec.get("max"), "date": None if age is None else ctx.now - age}
    return 1


def _role(ctx, wanted):
    name, trusts = (wanted["name"], wanted["trusts"]) if isinstance(wanted, dict) else (wanted, None)
    principal = {"AWS": [f"arn:aws:iam::{a}:root" for a in trusts]} if trusts else {"Service": "backup.amazonaws.com"}
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}]}
    backend = moto_bridge.backend("iam", ctx.account, "aws")
    if not any(r.name == name for r in backend.roles.values()):
        backend.create_role(name, json.dumps(trust), "/", None, "", [], "3600")
    return f"arn:aws:iam::{ctx.account}:role/{name}"
