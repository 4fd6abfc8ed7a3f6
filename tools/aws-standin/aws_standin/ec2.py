"""What moto's EC2 cannot know: a security group that a database uses is not deleted.

The isolated group of a test restore must be removed after the restore is gone, not before.
"""

from .wire.errors import AwsError


def check(world, account, region, action, form):
    if action != "DeleteSecurityGroup" or (account, region) not in world.regions:
        return
    rds = world.regions[(account, region)].rds
    group = form.get("GroupId")
    users = [*rds.instances.values(), *rds.clusters.values()]
    if any(g["VpcSecurityGroupId"] == group for r in users for g in r.view.get("VpcSecurityGroups", [])):
        raise AwsError("DependencyViolation", f"resource {group} has a dependent object")
