"""RDS Proxy: proxies, their one target group, and targets.

Rules (X9): switching means deregistering and registering targets; the group `default` cannot be
renamed; a proxy takes one instance or one cluster as its target; new targets are REGISTERING, then
AVAILABLE.
"""

from .. import arns, network, paging
from ..registry import action
from ..wire.errors import AwsError, combination, invalid
from . import clusters, instances, settings
from .store import Resource, endpoint_name


class Proxy(Resource):
    def __init__(self, ctx, name, view, tags):
        super().__init__(ctx, "db-proxy", arns.short_id("prx-"), view, tags)
        self.proxy_name = name
        self.targets = []
        self.pool = {"MaxConnectionsPercent": 100, "MaxIdleConnectionsPercent": 50, "ConnectionBorrowTimeout": 120, "SessionPinningFilters": []}
        self.group_arn = arns.rds(ctx.region, ctx.account, "target-group", arns.short_id("prx-tg-"))


class Target:
    def __init__(self, ctx, kind, resource, operation):
        self.kind, self.resource, self.operation = kind, resource, operation


def find(ctx, name):
    proxy = ctx.rds.proxies.get(name.lower())
    if proxy is None:
        raise AwsError("DBProxyNotFoundFault", f"DB proxy {name} not found.")
    return proxy


def _show(ctx, proxy):
    view = {k: v for k, v in proxy.view.items() if v is not None}
    view.update({"DBProxyName": proxy.proxy_name, "DBProxyArn": proxy.arn, "Status": proxy.status})
    view["Endpoint"] = endpoint_name(proxy.region, proxy.account, proxy.proxy_name, "proxy-")
    return view


@action("rds", "CreateDBProxy")
def create(ctx, p):
    name = arns.identifier(p["DBProxyName"], "DBProxyName")
    if name in ctx.rds.proxies:
        raise AwsError("DBProxyAlreadyExistsFault", f"DB proxy {name} already exists.")
    if p["EngineFamily"] != "POSTGRESQL":
        raise AwsError("NotImplemented", "the stand-in only models proxies for PostgreSQL")
    vpc, subnets = network.subnets(ctx, p["VpcSubnetIds"])
    security = network.security_groups(ctx, p.get("VpcSecurityGroupIds"), vpc)
    proxy = Proxy(ctx, name, {
        "EngineFamily": p["EngineFamily"], "VpcId": vpc, "VpcSubnetIds": [s for s, _ in subnets],
        "VpcSecurityGroupIds": [g["VpcSecurityGroupId"] for g in security], "Auth": p.get("Auth", []), "RoleArn": p["RoleArn"],
        "RequireTLS": p.get("RequireTLS", False), "IdleClientTimeout": p.get("IdleClientTimeout", 1800),
        "DebugLogging": p.get("DebugLogging", False), "CreatedDate": ctx.now, "UpdatedDate": ctx.now,
    }, settings.tags(p.get("Tags")))
    proxy.operation = ctx.world.operation("proxy", proxy.arn, ["creating"], lambda: None)
    ctx.rds.proxies[name] = proxy
    return {"DBProxy": _show(ctx, proxy)}


@action("rds", "DescribeDBProxies")
def describe(ctx, p):
    found = [find(ctx, p["DBProxyName"])] if p.get("DBProxyName") else list(ctx.rds.proxies.values())
    page, marker = paging.rds(ctx, p, found, lambda x: x.proxy_name)
    page = [x for x in page if x.observe() and x.proxy_name in ctx.rds.proxies]
    return {"DBProxies": [_show(ctx, x) for x in page], "Marker": marker}


@action("rds", "DeleteDBProxy")
def delete(ctx, p):
    proxy = find(ctx, p["DBProxyName"])
    proxy.operation = ctx.world.operation("delete", proxy.arn, ["deleting"], lambda: ctx.rds.proxies.pop(proxy.proxy_name, None))
    return {"DBProxy": _show(ctx, proxy)}


def _group(ctx, proxy, name):
    if (name or "default") != "default":
        raise AwsError("DBProxyTargetGroupNotFoundFault", f"The target group {name} of proxy {proxy.proxy_name} was not found.")


def _show_group(ctx, proxy):
    return {
        "DBProxyName": proxy.proxy_name, "TargetGroupName": "default", "TargetGroupArn": proxy.group_arn, "IsDefault": True,
        "Status": "available", "ConnectionPoolConfig": proxy.pool, "CreatedDate": proxy.view["CreatedDate"], "UpdatedDate": proxy.view["UpdatedDate"],
    }


@action("rds", "DescribeDBProxyTargetGroups")
def describe_groups(ctx, p):
    proxy = find(ctx, p["DBProxyName"])
    _group(ctx, proxy, p.get("TargetGroupName"))
    return {"TargetGroups": [_show_group(ctx, proxy)]}


@action("rds", "ModifyDBProxyTargetGroup")
def modify_group(ctx, p):
    proxy = find(ctx, p["DBProxyName"])
    _group(ctx, proxy, p["TargetGroupName"])
    if p.get("NewName"):
        raise invalid("The default target group can't be renamed.")
    proxy.pool.update(p.get("ConnectionPoolConfig", {}))
    return {"DBProxyTargetGroup": _show_group(ctx, proxy)}


def _named(ctx, p):
    """The instances and clusters that a call names; they must exist."""
    wanted = [("RDS_INSTANCE", instances.find(ctx, i)) for i in p.get("DBInstanceIdentifiers", [])]
    wanted += [("TRACKED_CLUSTER", clusters.find(ctx, c)) for c in p.get("DBClusterIdentifiers", [])]
    if not wanted:
        raise combination("Either DBInstanceIdentifiers or DBClusterIdentifiers must be specified.")
    return wanted


@action("rds", "RegisterDBProxyTargets")
def register(ctx, p):
    proxy = find(ctx, p["DBProxyName"])
    _group(ctx, proxy, p.get("TargetGroupName"))
    if proxy.status != "available":
        raise AwsError("InvalidDBProxyStateFault", f"The proxy {proxy.proxy_name} is not available. (status: {proxy.status})")
    wanted = _named(ctx, p)
    if any(t.resource is r for t in proxy.targets for _, r in wanted):
        raise AwsError("DBProxyTargetAlreadyRegisteredFault", f"The target is already registered with proxy {proxy.proxy_name}.")
    if len(wanted) + len(proxy.targets) > 1:
        raise AwsError("DBProxyTargetAlreadyRegisteredFault", f"The proxy {proxy.proxy_name} already has a target; deregister it first.")
    for kind, resource in wanted:
        if resource.status != "available":
            state = "InvalidDBInstanceStateFault" if kind == "RDS_INSTANCE" else "InvalidDBClusterStateFault"
            raise AwsError(state, f"{resource.name} is not available. (status: {resource.status})")
        if kind == "RDS_INSTANCE" and resource.cluster:
            raise combination("Register the DB cluster, not one of its instances.")
        operation = ctx.world.operation("proxy", resource.arn, ["REGISTERING"], lambda: None)
        proxy.targets.append(Target(ctx, kind, resource, operation))
    return {"DBProxyTargets": _show_targets(ctx, proxy)}


@action("rds", "DeregisterDBProxyTargets")
def deregister(ctx, p):
    proxy = find(ctx, p["DBProxyName"])
    _group(ctx, proxy, p.get("TargetGroupName"))
    names = {n.lower() for n in p.get("DBInstanceIdentifiers", []) + p.get("DBClusterIdentifiers", [])}
    gone = [t for t in proxy.targets if t.resource.name in names]
    if not gone:
        raise AwsError("DBProxyTargetNotFoundFault", f"No such target is registered with proxy {proxy.proxy_name}.")
    proxy.targets = [t for t in proxy.targets if t not in gone]
    return {}


def _show_targets(ctx, proxy):
    shown = []
    for target in proxy.targets:
        resource = target.resource
        table = ctx.rds.instances if target.kind == "RDS_INSTANCE" else ctx.rds.clusters
        if target.operation and not target.operation.finished:
            health = {"State": "REGISTERING"}
        elif table.get(resource.name) is not resource or resource.status in ("deleting", "stopped", "failed"):
            health = {"State": "UNAVAILABLE", "Reason": "UNREACHABLE", "Description": "The target is not reachable."}
        else:
            health = {"State": "AVAILABLE"}
        host, port = resource.endpoint or (
            endpoint_name(resource.region, resource.account, resource.name, "" if target.kind == "RDS_INSTANCE" else "cluster-"),
            getattr(resource, "port", 5432),
        )
        shown.append({
            "Endpoint": host, "Port": port, "RdsResourceId": resource.name, "Type": target.kind, "Role": "READ_WRITE",
            "TargetHealth": health, "TrackedClusterId": resource.name if target.kind == "TRACKED_CLUSTER" else None,
        })
    return shown


@action("rds", "DescribeDBProxyTargets")
def describe_targets(ctx, p):
    proxy = find(ctx, p["DBProxyName"])
    _group(ctx, proxy, p.get("TargetGroupName"))
    for target in proxy.targets:
        target.operation.observe()
    page, marker = paging.rds(ctx, p, _show_targets(ctx, proxy), lambda t: t["RdsResourceId"])
    return {"Targets": page, "Marker": marker}
