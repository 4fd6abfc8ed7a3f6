"""Subnet groups, parameter groups and option groups: things that others refer to and that must exist.

`default` subnet group and `default.<family>` parameter groups exist without being made.
"""

from .. import arns, network, paging
from ..registry import action
from ..wire.errors import AwsError, invalid
from . import settings
from .store import Resource


def subnet_group(ctx, name):
    """(name, vpc, zones); the default group covers the default VPC."""
    if not name or name == "default":
        vpc, found = network.default_subnets(ctx)
        return _view("default", "default", vpc, found, arns.rds(ctx.region, ctx.account, "subgrp", "default"))
    group = ctx.rds.subnet_groups.get(name.lower())
    if group is None:
        raise AwsError("DBSubnetGroupNotFoundFault", f"DB subnet group '{name}' does not exist.")
    return group.view


def _view(name, description, vpc, found, arn):
    return {
        "DBSubnetGroupName": name, "DBSubnetGroupDescription": description, "VpcId": vpc,
        "SubnetGroupStatus": "Complete", "DBSubnetGroupArn": arn,
        "Subnets": [
            {"SubnetIdentifier": s, "SubnetAvailabilityZone": {"Name": z}, "SubnetOutpost": {}, "SubnetStatus": "Active"}
            for s, z in found
        ],
    }


def zones(view):
    return sorted({s["SubnetAvailabilityZone"]["Name"] for s in view["Subnets"]})


def parameter_group(ctx, name, family):
    """The name of an existing group of this family; the family's default when none is given (5b)."""
    return _parameter_group(ctx.rds.parameter_groups, "DBParameterGroupNotFoundFault", "DBParameterGroup", name, family)


def cluster_parameter_group(ctx, name, family):
    return _parameter_group(
        ctx.rds.cluster_parameter_groups, "DBClusterParameterGroupNotFoundFault", "DBClusterParameterGroup", name, family
    )


def _parameter_group(table, fault, label, name, family):
    if not name or name == f"default.{family}":
        return f"default.{family}"
    group = table.get(name.lower())
    if group is None:
        raise AwsError(fault, f"{label} not found: {name}")
    if group.view["DBParameterGroupFamily"] != family:
        raise invalid(
            f"The Parameter Group {name} with DBParameterGroupFamily {group.view['DBParameterGroupFamily']} "
            f"can't be used for this instance. Please use a Parameter Group with DBParameterGroupFamily {family}"
        )
    return group.name


def option_group(ctx, name, engine, major):
    if not name:
        return f"default:{engine}-{major}"
    if name.startswith("default:"):
        return name
    group = ctx.rds.option_groups.get(name.lower())
    if group is None:
        raise AwsError("OptionGroupNotFoundFault", f"Specified OptionGroupName: {name} not found.")
    return group.name


@action("rds", "CreateDBSubnetGroup")
def create_subnet_group(ctx, p):
    name = p["DBSubnetGroupName"].lower()
    if name in ctx.rds.subnet_groups or name == "default":
        raise AwsError("DBSubnetGroupAlreadyExistsFault", f"The DB subnet group '{name}' already exists.")
    vpc, found = network.subnets(ctx, p["SubnetIds"])
    group = Resource(ctx, "subgrp", name, {}, settings.tags(p.get("Tags")))
    group.view = _view(name, p["DBSubnetGroupDescription"], vpc, found, group.arn)
    ctx.rds.subnet_groups[name] = group
    return {"DBSubnetGroup": group.view}


@action("rds", "DescribeDBSubnetGroups")
def describe_subnet_groups(ctx, p):
    views = [g.view for g in ctx.rds.subnet_groups.values()]
    if p.get("DBSubnetGroupName"):
        views = [subnet_group(ctx, p["DBSubnetGroupName"])]
    page, marker = paging.rds(ctx, p, views, lambda v: v["DBSubnetGroupName"])
    return {"DBSubnetGroups": page, "Marker": marker}


@action("rds", "DeleteDBSubnetGroup")
def delete_subnet_group(ctx, p):
    name = p["DBSubnetGroupName"].lower()
    subnet_group(ctx, name)
    users = [*ctx.rds.instances.values(), *ctx.rds.clusters.values()]
    if name == "default" or any(_group_of(r) == name for r in users):
        raise AwsError("InvalidDBSubnetGroupStateFault", f"Cannot delete the subnet group '{name}' because at least one database instance is still using it.")
    del ctx.rds.subnet_groups[name]
    return {}


def _group_of(resource):
    group = resource.view.get("DBSubnetGroup")
    return group if isinstance(group, str) else (group or {}).get("DBSubnetGroupName")


def _make_parameter_group(ctx, p, table, kind, member):
    name = p[f"{member}Name"].lower()
    if name in table:
        raise AwsError("DBParameterGroupAlreadyExistsFault", f"Parameter group {name} already exists")
    group = Resource(ctx, kind, name, {}, settings.tags(p.get("Tags")))
    group.view = {
        f"{member}Name": name, "DBParameterGroupFamily": p["DBParameterGroupFamily"], "Description": p["Description"],
        f"{member}Arn": group.arn,
    }
    table[name] = group
    return {member: group.view}


def _list_parameter_groups(ctx, p, table, member, fault):
    views = [g.view for g in table.values()]
    wanted = p.get(f"{member}Name")
    if wanted:
        views = [v for v in views if v[f"{member}Name"] == wanted.lower()]
        if not views and wanted.startswith("default."):
            kind = "pg" if member == "DBParameterGroup" else "cluster-pg"
            views = [{
                f"{member}Name": wanted, "DBParameterGroupFamily": wanted.removeprefix("default."),
                "Description": f"Default parameter group for {wanted.removeprefix('default.')}",
                f"{member}Arn": arns.rds(ctx.region, ctx.account, kind, wanted),
            }]
        if not views:
            raise AwsError(fault, f"{member} not found: {wanted}")
    page, marker = paging.rds(ctx, p, views, lambda v: v[f"{member}Name"])
    return {f"{member}s": page, "Marker": marker}


@action("rds", "CreateDBParameterGroup")
def create_parameter_group(ctx, p):
    return _make_parameter_group(ctx, p, ctx.rds.parameter_groups, "pg", "DBParameterGroup")


@action("rds", "DescribeDBParameterGroups")
def describe_parameter_groups(ctx, p):
    return _list_parameter_groups(ctx, p, ctx.rds.parameter_groups, "DBParameterGroup", "DBParameterGroupNotFoundFault")


@action("rds", "CreateDBClusterParameterGroup")
def create_cluster_parameter_group(ctx, p):
    return _make_parameter_group(ctx, p, ctx.rds.cluster_parameter_groups, "cluster-pg", "DBClusterParameterGroup")


@action("rds", "DescribeDBClusterParameterGroups")
def describe_cluster_parameter_groups(ctx, p):
    return _list_parameter_groups(
        ctx, p, ctx.rds.cluster_parameter_groups, "DBClusterParameterGroup", "DBParameterGroupNotFoundFault"
    )


@action("rds", "DeleteDBParameterGroup")
def delete_parameter_group(ctx, p):
    name = p["DBParameterGroupName"].lower()
    if name not in ctx.rds.parameter_groups:
        raise AwsError("DBParameterGroupNotFoundFault", f"DBParameterGroup not found: {name}")
    for instance in ctx.rds.instances.values():
        if any(g["DBParameterGroupName"] == name for g in instance.view["DBParameterGroups"]):
            raise AwsError("InvalidDBParameterGroupStateFault", "One or more database instances are still members of this parameter group, so the group cannot be deleted")
    del ctx.rds.parameter_groups[name]
    return {}


@action("rds", "CreateOptionGroup")
def create_option_group(ctx, p):
    name = p["OptionGroupName"].lower()
    if name in ctx.rds.option_groups:
        raise AwsError("OptionGroupAlreadyExistsFault", f"An option group with the name {name} already exists.")
    group = Resource(ctx, "og", name, {}, settings.tags(p.get("Tags")))
    group.view = {
        "OptionGroupName": name, "OptionGroupDescription": p["OptionGroupDescription"], "EngineName": p["EngineName"],
        "MajorEngineVersion": p["MajorEngineVersion"], "OptionGroupArn": group.arn, "Options": [],
    }
    ctx.rds.option_groups[name] = group
    return {"OptionGroup": group.view}


@action("rds", "DescribeOptionGroups")
def describe_option_groups(ctx, p):
    views = [g.view for g in ctx.rds.option_groups.values()]
    if p.get("OptionGroupName"):
        views = [v for v in views if v["OptionGroupName"] == p["OptionGroupName"].lower()]
        if not views:
            raise AwsError("OptionGroupNotFoundFault", f"Specified OptionGroupName: {p['OptionGroupName']} not found.")
    page, marker = paging.rds(ctx, p, views, lambda v: v["OptionGroupName"])
    return {"OptionGroupsList": page, "Marker": marker}
