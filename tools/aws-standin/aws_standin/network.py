"""Subnets and security groups, which live in moto's EC2."""

from . import moto_bridge
from .wire.errors import AwsError, invalid


def _backend(ctx):
    return moto_bridge.backend("ec2", ctx.account, ctx.region)


def default_vpc(ctx):
    for vpc in _backend(ctx).vpcs.values():
        if str(vpc.is_default).lower() == "true":
            return vpc.id
    raise AwsError("InvalidVPCNetworkStateFault", "no default VPC")


def default_group(ctx, vpc):
    for group in _backend(ctx).describe_security_groups():
        if group.vpc_id == vpc and group.name == "default":
            return group.id
    raise AwsError("InvalidVPCNetworkStateFault", f"VPC {vpc} has no default security group")


def security_groups(ctx, wanted, vpc):
    """Memberships for `VpcSecurityGroupIds`; without any the VPC's default group is applied (5b)."""
    if not wanted:
        wanted = [default_group(ctx, vpc)]
    known = {group.id: group for group in _backend(ctx).describe_security_groups()}
    for name in wanted:
        if name not in known:
            raise invalid(f"Invalid security group , groupId= {name}, groupName=.")
        if known[name].vpc_id != vpc:
            raise invalid(f"The DB instance and EC2 security group are in different VPCs. The DB instance is in {vpc} and the EC2 security group is in {known[name].vpc_id}")
    return [{"VpcSecurityGroupId": name, "Status": "active"} for name in wanted]


def subnets(ctx, wanted):
    """(vpc, [(subnet, zone)]) of existing subnets of one VPC in at least two zones."""
    known = {s.id: s for zone in _backend(ctx).subnets.values() for s in zone.values()}
    found = []
    for name in wanted:
        if name not in known:
            raise AwsError("InvalidSubnet", f"Some input subnets in :[{name}] are invalid.")
        found.append(known[name])
    if len({s.vpc_id for s in found}) != 1:
        raise AwsError("InvalidVPCNetworkStateFault", "The subnets are in different VPCs.")
    if len({s.availability_zone for s in found}) < 2:
        raise AwsError(
            "DBSubnetGroupDoesNotCoverEnoughAZs",
            "The DB subnet group doesn't meet Availability Zone (AZ) coverage requirement. Add subnets to cover at least two AZs.",
        )
    return found[0].vpc_id, [(s.id, s.availability_zone) for s in found]


def default_subnets(ctx):
    found = _backend(ctx).get_default_subnets()
    return default_vpc(ctx), [(s.id, zone) for zone, s in sorted(found.items())]
