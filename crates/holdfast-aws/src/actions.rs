//! Every action that this crate can call, in the words of IAM.
//!
//! A call names one of these constants, and an unused one is a warning; so [`ALL`] is what the code can do, and a
//! test compares it with the policies of [`holdfast_core::managed::iam`].

/// An action, such as `rds:CreateDBSnapshot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Action(pub(crate) &'static str);

macro_rules! actions {
    ($($name:ident = $text:literal),* $(,)?) => {
        $(pub(crate) const $name: Action = Action($text);)*

        /// All actions.
        pub const ALL: &[&str] = &[$($text),*];
    };
}

actions! {
    ADD_TAGS = "rds:AddTagsToResource",
    COPY_CLUSTER_SNAPSHOT = "rds:CopyDBClusterSnapshot",
    COPY_SNAPSHOT = "rds:CopyDBSnapshot",
    CREATE_CLUSTER_SNAPSHOT = "rds:CreateDBClusterSnapshot",
    CREATE_INSTANCE = "rds:CreateDBInstance",
    CREATE_SNAPSHOT = "rds:CreateDBSnapshot",
    DELETE_CLUSTER = "rds:DeleteDBCluster",
    DELETE_CLUSTER_AUTOMATED = "rds:DeleteDBClusterAutomatedBackup",
    DELETE_CLUSTER_SNAPSHOT = "rds:DeleteDBClusterSnapshot",
    DELETE_INSTANCE = "rds:DeleteDBInstance",
    DELETE_INSTANCE_AUTOMATED = "rds:DeleteDBInstanceAutomatedBackup",
    DELETE_SNAPSHOT = "rds:DeleteDBSnapshot",
    DEREGISTER_TARGETS = "rds:DeregisterDBProxyTargets",
    DESCRIBE_ACCOUNT = "rds:DescribeAccountAttributes",
    DESCRIBE_CLUSTERS = "rds:DescribeDBClusters",
    DESCRIBE_CLUSTER_AUTOMATED = "rds:DescribeDBClusterAutomatedBackups",
    DESCRIBE_CLUSTER_SNAPSHOTS = "rds:DescribeDBClusterSnapshots",
    DESCRIBE_CLUSTER_SNAPSHOT_ATTRIBUTES = "rds:DescribeDBClusterSnapshotAttributes",
    DESCRIBE_INSTANCES = "rds:DescribeDBInstances",
    DESCRIBE_INSTANCE_AUTOMATED = "rds:DescribeDBInstanceAutomatedBackups",
    DESCRIBE_PROXIES = "rds:DescribeDBProxies",
    DESCRIBE_SNAPSHOTS = "rds:DescribeDBSnapshots",
    DESCRIBE_SNAPSHOT_ATTRIBUTES = "rds:DescribeDBSnapshotAttributes",
    DESCRIBE_SUBNET_GROUPS = "rds:DescribeDBSubnetGroups",
    DESCRIBE_TARGETS = "rds:DescribeDBProxyTargets",
    LIST_TAGS = "rds:ListTagsForResource",
    MODIFY_CLUSTER = "rds:ModifyDBCluster",
    MODIFY_CLUSTER_SNAPSHOT_ATTRIBUTE = "rds:ModifyDBClusterSnapshotAttribute",
    MODIFY_INSTANCE = "rds:ModifyDBInstance",
    MODIFY_SNAPSHOT_ATTRIBUTE = "rds:ModifyDBSnapshotAttribute",
    REGISTER_TARGETS = "rds:RegisterDBProxyTargets",
    REMOVE_TAGS = "rds:RemoveTagsFromResource",
    RESTORE_CLUSTER_SNAPSHOT = "rds:RestoreDBClusterFromSnapshot",
    RESTORE_CLUSTER_TIME = "rds:RestoreDBClusterToPointInTime",
    RESTORE_INSTANCE_SNAPSHOT = "rds:RestoreDBInstanceFromDBSnapshot",
    RESTORE_INSTANCE_TIME = "rds:RestoreDBInstanceToPointInTime",
    START_REPLICATION = "rds:StartDBInstanceAutomatedBackupsReplication",
    STOP_REPLICATION = "rds:StopDBInstanceAutomatedBackupsReplication",

    CREATE_PLAN = "backup:CreateBackupPlan",
    CREATE_SELECTION = "backup:CreateBackupSelection",
    CREATE_VAULT = "backup:CreateBackupVault",
    DELETE_POINT = "backup:DeleteRecoveryPoint",
    DELETE_SELECTION = "backup:DeleteBackupSelection",
    DELETE_VAULT_LOCK = "backup:DeleteBackupVaultLockConfiguration",
    DESCRIBE_BACKUP_JOB = "backup:DescribeBackupJob",
    DESCRIBE_COPY_JOB = "backup:DescribeCopyJob",
    DESCRIBE_POINT = "backup:DescribeRecoveryPoint",
    DESCRIBE_RESTORE_JOB = "backup:DescribeRestoreJob",
    DESCRIBE_VAULT = "backup:DescribeBackupVault",
    GET_PLAN = "backup:GetBackupPlan",
    GET_POINT_METADATA = "backup:GetRecoveryPointRestoreMetadata",
    GET_SELECTION = "backup:GetBackupSelection",
    GET_VAULT_POLICY = "backup:GetBackupVaultAccessPolicy",
    LIST_BACKUP_JOBS = "backup:ListBackupJobs",
    LIST_BACKUP_TAGS = "backup:ListTags",
    LIST_COPY_JOBS = "backup:ListCopyJobs",
    LIST_PLANS = "backup:ListBackupPlans",
    LIST_POINTS = "backup:ListRecoveryPointsByBackupVault",
    LIST_RESTORE_JOBS = "backup:ListRestoreJobs",
    LIST_SELECTIONS = "backup:ListBackupSelections",
    LIST_VAULTS = "backup:ListBackupVaults",
    PUT_VAULT_LOCK = "backup:PutBackupVaultLockConfiguration",
    PUT_VAULT_POLICY = "backup:PutBackupVaultAccessPolicy",
    START_BACKUP = "backup:StartBackupJob",
    START_COPY = "backup:StartCopyJob",
    START_RESTORE = "backup:StartRestoreJob",
    STOP_BACKUP = "backup:StopBackupJob",
    TAG_BACKUP = "backup:TagResource",
    UPDATE_PLAN = "backup:UpdateBackupPlan",
    UPDATE_POINT = "backup:UpdateRecoveryPointLifecycle",

    AUTHORIZE_INGRESS = "ec2:AuthorizeSecurityGroupIngress",
    CREATE_GROUP = "ec2:CreateSecurityGroup",
    DELETE_GROUP = "ec2:DeleteSecurityGroup",
    DESCRIBE_GROUPS = "ec2:DescribeSecurityGroups",
    REVOKE_EGRESS = "ec2:RevokeSecurityGroupEgress",

    CHANGE_RECORDS = "route53:ChangeResourceRecordSets",
    GET_DNS_CHANGE = "route53:GetChange",
    LIST_RECORDS = "route53:ListResourceRecordSets",

    GET_SECRET = "secretsmanager:GetSecretValue",
    PUT_SECRET = "secretsmanager:PutSecretValue",

    DESCRIBE_KEY = "kms:DescribeKey",
    CALLER_IDENTITY = "sts:GetCallerIdentity",
}
