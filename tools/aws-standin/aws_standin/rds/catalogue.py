"""What RDS tells about itself: quotas of the account, engine versions, classes on offer."""

from .. import paging
from ..registry import action
from . import engines
from .snapshots import manual_count


@action("rds", "DescribeAccountAttributes")
def account_attributes(ctx, p):
    quotas = ctx.world.config.quotas
    clusters = sum(s.type == "manual" for s in ctx.rds.cluster_snapshots.values())
    table = {
        "DBInstances": (len(ctx.rds.instances), quotas["instances"]),
        "DBClusters": (len(ctx.rds.clusters), quotas["clusters"]),
        "ManualSnapshots": (manual_count(ctx), quotas["manual-snapshots"]),
        "ManualClusterSnapshots": (clusters, quotas["manual-cluster-snapshots"]),
        "AllocatedStorage": (sum(i.view["AllocatedStorage"] for i in ctx.rds.instances.values()), 100_000),
        "DBSubnetGroups": (len(ctx.rds.subnet_groups), 50),
        "DBParameterGroups": (len(ctx.rds.parameter_groups), 50),
        "DBClusterParameterGroups": (len(ctx.rds.cluster_parameter_groups), 50),
        "OptionGroups": (len(ctx.rds.option_groups), 20),
    }
    return {"AccountQuotas": [{"AccountQuotaName": n, "Used": u, "Max": m} for n, (u, m) in table.items()]}


@action("rds", "DescribeDBEngineVersions")
def engine_versions(ctx, p):
    found = []
    for engine, versions in engines.VERSIONS.items():
        if p.get("Engine", engine) != engine:
            continue
        for version in versions:
            if p.get("EngineVersion") and not (version == p["EngineVersion"] or version.startswith(p["EngineVersion"] + ".")):
                continue
            found.append({
                "Engine": engine, "EngineVersion": version, "DBParameterGroupFamily": engines.family(engine, version),
                "DBEngineDescription": engine, "DBEngineVersionDescription": f"{engine} {version}", "Status": "available",
                "SupportedEngineModes": ["provisioned"] if engine == "aurora-postgresql" else None,
            })
    page, marker = paging.rds(ctx, p, found, lambda v: f"{v['Engine']} {v['EngineVersion']}")
    return {"DBEngineVersions": page, "Marker": marker}


@action("rds", "DescribeOrderableDBInstanceOptions")
def orderable(ctx, p):
    engine = engines.engine(p["Engine"])
    versions = [v for v in engines.VERSIONS[engine] if p.get("EngineVersion", v) == v]
    classes = ["db.t3.medium", "db.t4g.medium", "db.r6g.large"]
    if engine == "postgres":
        classes = ["db.t3.micro", "db.t4g.micro", "db.t3.small", "db.t4g.small", *classes, "db.m6g.large"]
    elif engine == "aurora-postgresql":
        classes = ["db.serverless", *classes]
    found = [
        {"Engine": engine, "EngineVersion": v, "DBInstanceClass": c, "LicenseModel": "postgresql-license", "Vpc": True}
        for v in versions for c in classes if p.get("DBInstanceClass", c) == c
    ]
    page, marker = paging.rds(ctx, p, found, lambda o: f"{o['EngineVersion']} {o['DBInstanceClass']}")
    return {"OrderableDBInstanceOptions": page, "Marker": marker}
