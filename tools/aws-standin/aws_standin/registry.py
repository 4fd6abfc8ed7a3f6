"""Which function serves which action, and which resources an action is about (for permissions)."""

from . import arns

ACTIONS = {}


def action(service, name):
    def register(function):
        if (service, name) in ACTIONS:
            raise RuntimeError(f"{service}:{name} is served twice")
        ACTIONS[(service, name)] = function
        return function

    return register


# Members that name a resource, and the kind in its ARN.
RDS_MEMBERS = {
    "DBInstanceIdentifier": "db", "SourceDBInstanceIdentifier": "db", "TargetDBInstanceIdentifier": "db",
    "SourceDBInstanceArn": "db", "DBSnapshotIdentifier": "snapshot", "SourceDBSnapshotIdentifier": "snapshot",
    "TargetDBSnapshotIdentifier": "snapshot", "FinalDBSnapshotIdentifier": "snapshot",
    "DBClusterIdentifier": "cluster", "SourceDBClusterIdentifier": "cluster",
    "DBClusterSnapshotIdentifier": "cluster-snapshot", "SnapshotIdentifier": "cluster-snapshot",
    "SourceDBClusterSnapshotIdentifier": "cluster-snapshot", "TargetDBClusterSnapshotIdentifier": "cluster-snapshot",
    "DBSubnetGroupName": "subgrp", "DBParameterGroupName": "pg", "DBClusterParameterGroupName": "cluster-pg",
    "OptionGroupName": "og", "SourceDBInstanceAutomatedBackupsArn": "auto-backup",
    "DBInstanceAutomatedBackupsArn": "auto-backup", "ResourceName": None,
}
# DBProxy* are authorised on the proxy's own ARN, which holds a generated id: "*" here.


def resources(service, name, params, region, account):
    found = []
    if service == "rds":
        if name == "DeleteDBCluster" and "FinalDBSnapshotIdentifier" in params:
            final = params["FinalDBSnapshotIdentifier"]
            params = {k: v for k, v in params.items() if k != "FinalDBSnapshotIdentifier"}
            found.append(arns.rds(region, account, "cluster-snapshot", final))
        for member, kind in RDS_MEMBERS.items():
            value = params.get(member)
            if isinstance(value, str):
                found.append(value if value.startswith("arn:") or kind is None else arns.rds(region, account, kind, value))
    elif service == "backup":
        if name in ("DeleteRecoveryPoint", "DescribeRecoveryPoint", "StartRestoreJob", "StartCopyJob",
                    "GetRecoveryPointRestoreMetadata", "UpdateRecoveryPointLifecycle", "DisassociateRecoveryPoint"):
            found.append(params["RecoveryPointArn"])
        elif "BackupVaultName" in params:
            found.append(arns.backup(region, account, "backup-vault", params["BackupVaultName"]))
        elif "BackupPlanId" in params:
            found.append(arns.backup(region, account, "backup-plan", params["BackupPlanId"]))
        elif name in ("TagResource", "UntagResource", "ListTags"):
            found.append(params["ResourceArn"])
    return found or ["*"]


def request_tags(params):
    for member in ("Tags", "BackupVaultTags", "BackupPlanTags", "RecoveryPointTags"):
        value = params.get(member)
        if isinstance(value, dict):
            return value
        if isinstance(value, list):
            return {tag.get("Key", ""): tag.get("Value", "") for tag in value if isinstance(tag, dict)}
    return {}
