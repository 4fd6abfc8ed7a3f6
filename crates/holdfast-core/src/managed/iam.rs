//! The IAM policies that Holdfast needs, one per [`Role`]: generated, so that they hold what the client calls and
//! nothing else. A test of `holdfast-aws` compares the two.
//!
//! Roles are apart so that the host that makes backups cannot remove them: give `observe` + `backup` to the daemon,
//! `configure` to whoever applies the policy, `restore` to whoever recovers or verifies, `delete` to the job that
//! expires and reaps.
//!
//! What AWS cannot express: `rds:ModifyDBInstance` is one action for every setting, and RDS has no condition for
//! "only the backup window". A retention of 0 days deletes all automated backups: so whoever has `configure` can
//! do that, and it is not part of `backup`.

use super::tags;
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt;
use std::str::FromStr;

/// What an identity is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks, changes nothing.
    Observe,
    /// Makes and copies backups.
    Backup,
    /// Brings settings, vaults, plans and locks to the policy: `holdfast apply`.
    Configure,
    /// Restores, verifies, cuts over; removes only what says until when it lives.
    Restore,
    /// Removes what Holdfast made; retires databases.
    Delete,
}

impl Role {
    pub const ALL: [Role; 5] = [Role::Observe, Role::Backup, Role::Configure, Role::Restore, Role::Delete];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Observe => "observe",
            Role::Backup => "backup",
            Role::Configure => "configure",
            Role::Restore => "restore",
            Role::Delete => "delete",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let known =
            || format!("`{s}` is not a role; the roles are observe, backup, configure, restore and delete");
        Role::ALL.into_iter().find(|r| r.as_str() == s).ok_or_else(known)
    }
}

/// What a statement is limited by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    Always,
    /// What Holdfast made.
    Ours,
    /// What says until when it lives: temporary restores.
    Mortal,
    /// What a cutover replaced.
    Quarantined,
    /// A new resource must carry Holdfast's tag.
    TaggedAsOurs,
    /// A role may be passed to AWS Backup and to nothing else.
    ToBackup,
    /// The key is used through RDS or AWS Backup, for a grant to an AWS resource.
    ThroughServices,
    /// The key of a secret, used through Secrets Manager.
    ThroughSecrets,
    /// Tags are set while a security group is made.
    WhileCreatingGroup,
}

/// Actions that belong together.
#[derive(Debug)]
struct Grant {
    role: Role,
    sid: &'static str,
    actions: &'static [&'static str],
    /// With `{p}`, `{r}` and `{a}` for partition, region and account.
    resources: &'static [&'static str],
    only: Only,
}

const ANY: &[&str] = &["*"];
const DATABASES: &[&str] = &["arn:{p}:rds:{r}:{a}:db:*", "arn:{p}:rds:{r}:{a}:cluster:*"];
const SNAPSHOTS: &[&str] = &["arn:{p}:rds:{r}:{a}:snapshot:*", "arn:{p}:rds:{r}:{a}:cluster-snapshot:*"];
const PASS: &[&str] = &["arn:{p}:iam::{a}:role/*"];
const KEYS: &[&str] = &["arn:{p}:kms:{r}:{a}:key/*"];

use Only::*;
use Role::*;

const GRANTS: &[Grant] = &[
    // RDS and AWS Backup take no resource for most of what describes and lists.
    Grant {
        role: Observe,
        sid: "HoldfastObserveDatabases",
        actions: &[
            "rds:DescribeAccountAttributes",
            "rds:DescribeDBClusterAutomatedBackups",
            "rds:DescribeDBClusterSnapshotAttributes",
            "rds:DescribeDBClusterSnapshots",
            "rds:DescribeDBClusters",
            "rds:DescribeDBInstanceAutomatedBackups",
            "rds:DescribeDBInstances",
            "rds:DescribeDBProxies",
            "rds:DescribeDBProxyTargets",
            "rds:DescribeDBSnapshotAttributes",
            "rds:DescribeDBSnapshots",
            "rds:DescribeDBSubnetGroups",
            "rds:ListTagsForResource",
        ],
        resources: ANY,
        only: Always,
    },
    Grant {
        role: Observe,
        sid: "HoldfastObserveBackup",
        actions: &[
            "backup:DescribeBackupJob",
            "backup:DescribeBackupVault",
            "backup:DescribeCopyJob",
            "backup:DescribeRecoveryPoint",
            "backup:DescribeRestoreJob",
            "backup:GetBackupPlan",
            "backup:GetBackupSelection",
            "backup:GetBackupVaultAccessPolicy",
            "backup:ListBackupJobs",
            "backup:ListBackupPlans",
            "backup:ListBackupSelections",
            "backup:ListBackupVaults",
            "backup:ListCopyJobs",
            "backup:ListRecoveryPointsByBackupVault",
            "backup:ListRestoreJobs",
            "backup:ListTags",
        ],
        resources: ANY,
        only: Always,
    },
    Grant {
        role: Observe,
        sid: "HoldfastObserveAccount",
        actions: &["kms:DescribeKey", "sts:GetCallerIdentity"],
        resources: ANY,
        only: Always,
    },
    Grant {
        role: Backup,
        sid: "HoldfastBackupSnapshots",
        actions: &["rds:CreateDBClusterSnapshot", "rds:CreateDBSnapshot"],
        resources: &[
            "arn:{p}:rds:{r}:{a}:db:*",
            "arn:{p}:rds:{r}:{a}:cluster:*",
            "arn:{p}:rds:{r}:{a}:snapshot:*",
            "arn:{p}:rds:{r}:{a}:cluster-snapshot:*",
        ],
        only: TaggedAsOurs,
    },
    // The source may be another account's: no account in the resource.
    Grant {
        role: Backup,
        sid: "HoldfastBackupCopies",
        actions: &["rds:CopyDBClusterSnapshot", "rds:CopyDBSnapshot"],
        resources: &[
            "arn:{p}:rds:*:*:snapshot:*",
            "arn:{p}:rds:*:*:cluster-snapshot:*",
            "arn:{p}:rds:{r}:{a}:og:*",
        ],
        only: Always,
    },
    Grant {
        role: Backup,
        sid: "HoldfastBackupShare",
        actions: &["rds:ModifyDBClusterSnapshotAttribute", "rds:ModifyDBSnapshotAttribute"],
        resources: SNAPSHOTS,
        only: Ours,
    },
    Grant {
        role: Backup,
        sid: "HoldfastBackupTags",
        actions: &["rds:AddTagsToResource"],
        resources: SNAPSHOTS,
        only: Always,
    },
    // A point gets its tags from whoever begins its job.
    Grant {
        role: Backup,
        sid: "HoldfastBackupPointTags",
        actions: &["backup:TagResource"],
        resources: &[
            "arn:{p}:backup:{r}:{a}:backup-vault:*",
            "arn:{p}:backup:{r}:{a}:recovery-point:*",
            "arn:{p}:rds:{r}:{a}:snapshot:awsbackup:*",
            "arn:{p}:rds:{r}:{a}:cluster-snapshot:awsbackup:*",
        ],
        only: Always,
    },
    Grant {
        role: Configure,
        sid: "HoldfastConfigureSettings",
        actions: &[
            "rds:ModifyDBCluster",
            "rds:ModifyDBInstance",
            "rds:StartDBInstanceAutomatedBackupsReplication",
        ],
        resources: &["arn:{p}:rds:{r}:{a}:*"],
        only: Always,
    },
    // A replica of automated backups is tagged while its replication is started.
    Grant {
        role: Configure,
        sid: "HoldfastConfigureReplicas",
        actions: &["rds:AddTagsToResource"],
        resources: &["arn:{p}:rds:{r}:{a}:auto-backup:*"],
        only: Always,
    },
    Grant {
        role: Configure,
        sid: "HoldfastConfigurePlans",
        actions: &[
            "backup:CreateBackupPlan",
            "backup:CreateBackupSelection",
            "backup:CreateBackupVault",
            "backup:DeleteBackupSelection",
            "backup:PutBackupVaultAccessPolicy",
            "backup:PutBackupVaultLockConfiguration",
            "backup:TagResource",
            "backup:UpdateBackupPlan",
        ],
        resources: &["arn:{p}:backup:{r}:{a}:*"],
        only: Always,
    },
    Grant {
        role: Configure,
        sid: "HoldfastConfigureVaultStorage",
        actions: &["backup-storage:MountCapsule"],
        resources: ANY,
        only: Always,
    },
    Grant {
        role: Backup,
        sid: "HoldfastBackupJobs",
        actions: &["backup:StartBackupJob", "backup:StartCopyJob", "backup:StopBackupJob"],
        resources: ANY,
        only: Always,
    },
    Grant {
        role: Backup,
        sid: "HoldfastBackupPassRole",
        actions: &["iam:PassRole"],
        resources: PASS,
        only: ToBackup,
    },
    Grant {
        role: Backup,
        sid: "HoldfastBackupKeys",
        actions: &["kms:CreateGrant", "kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext"],
        // Whoever copies what another account shares uses that account's key too, if its policy says so.
        resources: &["arn:{p}:kms:{r}:*:key/*"],
        only: ThroughServices,
    },
    Grant {
        role: Configure,
        sid: "HoldfastConfigurePassRole",
        actions: &["iam:PassRole"],
        resources: PASS,
        only: ToBackup,
    },
    Grant {
        role: Configure,
        sid: "HoldfastConfigureKeys",
        // What a vault with a key of one's own takes (AWS Backup developer guide, "Create a backup vault").
        actions: &[
            "kms:CreateGrant",
            "kms:Decrypt",
            "kms:GenerateDataKey",
            "kms:GenerateDataKeyWithoutPlaintext",
            "kms:RetireGrant",
        ],
        resources: KEYS,
        only: ThroughServices,
    },
    Grant {
        role: Restore,
        sid: "HoldfastRestoreDatabases",
        actions: &[
            "rds:CreateDBInstance",
            "rds:RestoreDBClusterFromSnapshot",
            "rds:RestoreDBClusterToPointInTime",
            "rds:RestoreDBInstanceFromDBSnapshot",
            "rds:RestoreDBInstanceToPointInTime",
        ],
        // Databases, snapshots, automated backups, subnet, parameter and option groups.
        resources: &["arn:{p}:rds:{r}:{a}:*"],
        only: Always,
    },
    Grant {
        role: Restore,
        sid: "HoldfastRestoreSettings",
        actions: &[
            "rds:AddTagsToResource",
            "rds:ModifyDBCluster",
            "rds:ModifyDBInstance",
            "rds:RemoveTagsFromResource",
        ],
        resources: &["arn:{p}:rds:{r}:{a}:*"],
        only: Always,
    },
    Grant {
        role: Restore,
        sid: "HoldfastRestoreReap",
        actions: &["rds:DeleteDBCluster", "rds:DeleteDBInstance"],
        resources: DATABASES,
        only: Mortal,
    },
    Grant {
        role: Restore,
        sid: "HoldfastRestorePoints",
        actions: &["backup:GetRecoveryPointRestoreMetadata", "backup:StartRestoreJob"],
        resources: ANY,
        only: Always,
    },
    Grant {
        role: Restore,
        sid: "HoldfastRestorePassRole",
        actions: &["iam:PassRole"],
        resources: PASS,
        only: ToBackup,
    },
    Grant {
        role: Restore,
        sid: "HoldfastRestoreKeys",
        actions: &["kms:CreateGrant", "kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext"],
        resources: KEYS,
        only: ThroughServices,
    },
    Grant {
        role: Restore,
        sid: "HoldfastRestoreProxy",
        actions: &["rds:DeregisterDBProxyTargets", "rds:RegisterDBProxyTargets"],
        resources: &[
            "arn:{p}:rds:{r}:{a}:target-group:*",
            "arn:{p}:rds:{r}:{a}:db:*",
            "arn:{p}:rds:{r}:{a}:cluster:*",
        ],
        only: Always,
    },
    Grant {
        role: Restore,
        sid: "HoldfastRestoreGroupsSee",
        actions: &["ec2:DescribeSecurityGroups"],
        resources: ANY,
        only: Always,
    },
    Grant {
        role: Restore,
        sid: "HoldfastRestoreGroupsMake",
        actions: &["ec2:CreateSecurityGroup"],
        resources: &["arn:{p}:ec2:{r}:{a}:security-group/*", "arn:{p}:ec2:{r}:{a}:vpc/*"],
        only: Always,
    },
    Grant {
        role: Restore,
        sid: "HoldfastRestoreGroupsTag",
        actions: &["ec2:CreateTags"],
        resources: &["arn:{p}:ec2:{r}:{a}:security-group/*"],
        only: WhileCreatingGroup,
    },
    Grant {
        role: Restore,
        sid: "HoldfastRestoreGroups",
        actions: &[
            "ec2:AuthorizeSecurityGroupIngress",
            "ec2:DeleteSecurityGroup",
            "ec2:RevokeSecurityGroupEgress",
        ],
        resources: &["arn:{p}:ec2:{r}:{a}:security-group/*"],
        only: Ours,
    },
    Grant {
        role: Restore,
        sid: "HoldfastRestoreSecrets",
        actions: &["secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"],
        resources: &["arn:{p}:secretsmanager:{r}:{a}:secret:*"],
        only: Always,
    },
    Grant {
        role: Restore,
        sid: "HoldfastRestoreSecretKeys",
        actions: &["kms:Decrypt", "kms:GenerateDataKey"],
        resources: KEYS,
        only: ThroughSecrets,
    },
    Grant {
        role: Restore,
        sid: "HoldfastRestoreDns",
        actions: &["route53:ChangeResourceRecordSets", "route53:ListResourceRecordSets"],
        resources: &["arn:{p}:route53:::hostedzone/*"],
        only: Always,
    },
    Grant {
        role: Restore,
        sid: "HoldfastRestoreDnsChange",
        actions: &["route53:GetChange"],
        resources: &["arn:{p}:route53:::change/*"],
        only: Always,
    },
    Grant {
        role: Delete,
        sid: "HoldfastDeleteSnapshots",
        actions: &["rds:DeleteDBClusterSnapshot", "rds:DeleteDBSnapshot"],
        resources: SNAPSHOTS,
        only: Ours,
    },
    Grant {
        role: Delete,
        sid: "HoldfastDeleteDatabases",
        actions: &["rds:DeleteDBCluster", "rds:DeleteDBInstance"],
        resources: DATABASES,
        only: Mortal,
    },
    // The groups of verifications that a crash left.
    Grant {
        role: Delete,
        sid: "HoldfastDeleteGroupsSee",
        actions: &["ec2:DescribeSecurityGroups"],
        resources: ANY,
        only: Always,
    },
    Grant {
        role: Delete,
        sid: "HoldfastDeleteGroups",
        actions: &["ec2:DeleteSecurityGroup"],
        resources: &["arn:{p}:ec2:{r}:{a}:security-group/*"],
        only: Ours,
    },
    // Retiring: its protection is taken off, then it goes, with a final snapshot.
    Grant {
        role: Delete,
        sid: "HoldfastDeleteReplaced",
        actions: &[
            "rds:DeleteDBCluster",
            "rds:DeleteDBInstance",
            "rds:ModifyDBCluster",
            "rds:ModifyDBInstance",
        ],
        resources: DATABASES,
        only: Quarantined,
    },
    // The same call names its final snapshot; on a snapshot it deletes nothing.
    Grant {
        role: Delete,
        sid: "HoldfastDeleteNamingSnapshot",
        actions: &["rds:DeleteDBCluster", "rds:DeleteDBInstance"],
        resources: SNAPSHOTS,
        only: Always,
    },
    // The final snapshot, which carries the tags of its source.
    Grant {
        role: Delete,
        sid: "HoldfastDeleteFinalSnapshot",
        actions: &["rds:CreateDBClusterSnapshot", "rds:CreateDBSnapshot"],
        resources: &[
            "arn:{p}:rds:{r}:{a}:db:*",
            "arn:{p}:rds:{r}:{a}:cluster:*",
            "arn:{p}:rds:{r}:{a}:snapshot:*",
            "arn:{p}:rds:{r}:{a}:cluster-snapshot:*",
        ],
        only: Always,
    },
    Grant {
        role: Delete,
        sid: "HoldfastDeleteAutomatedBackups",
        actions: &[
            "rds:DeleteDBClusterAutomatedBackup",
            "rds:DeleteDBInstanceAutomatedBackup",
            "rds:StopDBInstanceAutomatedBackupsReplication",
        ],
        resources: &["arn:{p}:rds:{r}:{a}:*"],
        only: Always,
    },
    // Points of RDS and DocumentDB have the ARN of a snapshot of AWS Backup's (`awsbackup:job-…`).
    Grant {
        role: Delete,
        sid: "HoldfastDeletePoints",
        actions: &["backup:DeleteRecoveryPoint", "backup:UpdateRecoveryPointLifecycle"],
        resources: &[
            "arn:{p}:backup:{r}:{a}:recovery-point:*",
            "arn:{p}:rds:{r}:{a}:snapshot:awsbackup:*",
            "arn:{p}:rds:{r}:{a}:cluster-snapshot:awsbackup:*",
        ],
        only: Always,
    },
    Grant {
        role: Delete,
        sid: "HoldfastDeleteVaultLock",
        actions: &["backup:DeleteBackupVaultLockConfiguration"],
        resources: &["arn:{p}:backup:{r}:{a}:backup-vault:*"],
        only: Always,
    },
];

/// Needed for a call, but not called themselves: passing a role, grants on keys, the vault's storage.
pub const IMPLIED: &[&str] = &[
    "backup-storage:MountCapsule",
    "iam:PassRole",
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:RetireGrant",
];

/// Where a policy is to hold. `*` is right for all, narrower is better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// `aws`, `aws-cn`, `aws-us-gov`.
    pub partition: String,
    /// 12 digits, or `*`.
    pub account: String,
    /// A region, or `*`.
    pub region: String,
}

impl Default for Scope {
    fn default() -> Self {
        Scope { partition: "aws".into(), account: "*".into(), region: "*".into() }
    }
}

/// The actions of a role, sorted.
pub fn actions(role: Role) -> Vec<&'static str> {
    let mut all: Vec<&str> =
        GRANTS.iter().filter(|g| g.role == role).flat_map(|g| g.actions.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The role that allows an action: the least one.
pub fn role_of(action: &str) -> Option<Role> {
    GRANTS.iter().filter(|g| g.actions.contains(&action)).map(|g| g.role).min()
}

/// What the policy of a key has to say, beside what it says already, so that another account can copy snapshots that
/// are encrypted with it: the statements of KMS's own guide ("Allowing users in other accounts to use a KMS key").
pub fn key_statements(partition: &str, account: &str) -> Value {
    let principal = json!({ "AWS": format!("arn:{partition}:iam::{account}:root") });
    json!([
        {
            "Sid": format!("HoldfastUseBy{account}"),
            "Effect": "Allow",
            "Principal": principal,
            "Action": ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"],
            "Resource": "*",
        },
        {
            "Sid": format!("HoldfastGrantsBy{account}"),
            "Effect": "Allow",
            "Principal": principal,
            "Action": ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"],
            "Resource": "*",
            "Condition": { "Bool": { "kms:GrantIsForAWSResource": "true" } },
        },
    ])
}

/// The policy document of a role, ready for `aws iam put-role-policy`.
pub fn policy(role: Role, scope: &Scope) -> Value {
    let fill = |t: &str| {
        t.replace("{p}", &scope.partition).replace("{r}", &scope.region).replace("{a}", &scope.account)
    };
    let statements: Vec<Value> = GRANTS
        .iter()
        .filter(|g| g.role == role)
        .map(|g| {
            let resources: Vec<String> = g.resources.iter().map(|r| fill(r)).collect();
            let mut statement =
                json!({"Sid": g.sid, "Effect": "Allow", "Action": g.actions, "Resource": resources});
            if let (Some(condition), Some(map)) =
                (condition(g.only, &scope.partition), statement.as_object_mut())
            {
                map.insert("Condition".into(), condition);
            }
            statement
        })
        .collect();
    json!({"Version": "2012-10-17", "Statement": statements})
}

fn condition(only: Only, partition: &str) -> Option<Value> {
    let has = |key: &str, tag: &str| json!({"Null": {format!("{key}/{tag}"): "false"}});
    Some(match only {
        Always => return None,
        Ours => has("aws:ResourceTag", tags::OPERATION),
        Mortal => has("aws:ResourceTag", tags::EXPIRES),
        Quarantined => has("aws:ResourceTag", tags::QUARANTINED_UNTIL),
        TaggedAsOurs => json!({"ForAnyValue:StringEquals": {"aws:TagKeys": [tags::OPERATION]}}),
        ToBackup => json!({"StringEquals": {"iam:PassedToService": "backup.amazonaws.com"}}),
        ThroughServices => json!({"StringLike": {"kms:ViaService": via(&["rds", "backup"], partition)}}),
        ThroughSecrets => json!({"StringLike": {"kms:ViaService": via(&["secretsmanager"], partition)}}),
        WhileCreatingGroup => json!({"StringEquals": {"ec2:CreateAction": "CreateSecurityGroup"}}),
    })
}

/// Services as KMS calls them, in any region of the partition. China's hosts end in another domain.
fn via(services: &[&str], partition: &str) -> Vec<String> {
    let domains: &[&str] =
        if partition == "aws-cn" { &["amazonaws.com", "amazonaws.com.cn"] } else { &["amazonaws.com"] };
    services.iter().flat_map(|s| domains.iter().map(move |d| format!("{s}.*.{d}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_backs_up_cannot_delete() {
        for role in [Observe, Backup, Configure] {
            let deletes = |a: &&str| a.contains(":Delete") && *a != "backup:DeleteBackupSelection";
            assert_eq!(actions(role).iter().filter(|a| deletes(a)).count(), 0, "{role}");
        }
        // A retention of 0 days is a deletion too.
        let modifies = |a: &&str| ["rds:ModifyDBInstance", "rds:ModifyDBCluster"].contains(a);
        assert!(!actions(Backup).iter().any(modifies));
        assert!(actions(Observe).iter().all(|a| {
            let verb = a.split_once(':').unwrap().1;
            ["Describe", "List", "Get"].iter().any(|p| verb.starts_with(p))
        }));
    }

    #[test]
    fn deletions_are_bound_to_tags() {
        let text = policy(Delete, &Scope::default()).to_string();
        for statement in policy(Delete, &Scope::default())["Statement"].as_array().unwrap() {
            let on = statement["Action"].to_string();
            let databases = statement["Resource"].to_string().contains(":db:");
            if on.contains("DeleteDBSnapshot") || (databases && on.contains("DeleteDBInstance\"")) {
                assert!(statement["Condition"]["Null"].is_object(), "{statement}");
            }
        }
        assert!(text.contains("aws:ResourceTag/holdfast:operation"));
    }

    #[test]
    fn the_scope_narrows_resources() {
        let scope =
            Scope { partition: "aws-cn".into(), account: "123456789012".into(), region: "cn-north-1".into() };
        let text = policy(Backup, &scope).to_string();
        assert!(text.contains("arn:aws-cn:rds:cn-north-1:123456789012:snapshot:*"), "{text}");
        assert!(!text.contains('{') || !text.contains("{a}"), "{text}");
    }

    #[test]
    fn a_key_lets_another_account_use_it_and_no_more() {
        let all = key_statements("aws", "210987654321");
        let text = all.to_string();
        assert!(
            text.contains("arn:aws:iam::210987654321:root") && text.contains("kms:CreateGrant"),
            "{text}"
        );
        for forbidden in ["kms:*\"", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "\"Principal\":\"*\""] {
            assert!(!text.contains(forbidden), "{forbidden} in {text}");
        }
    }

    #[test]
    fn sids_are_unique_and_documents_fit() {
        let mut sids: Vec<&str> = GRANTS.iter().map(|g| g.sid).collect();
        sids.sort_unstable();
        let n = sids.len();
        sids.dedup();
        assert_eq!(sids.len(), n);
        // The limit of a managed policy, white space not counted.
        for role in Role::ALL {
            let size = policy(role, &Scope::default()).to_string().len();
            assert!(size <= 6144, "{role}: {size}");
        }
    }

    #[test]
    fn the_least_role_is_named() {
        assert_eq!(role_of("rds:DescribeDBInstances"), Some(Observe));
        assert_eq!(role_of("rds:CreateDBSnapshot"), Some(Backup));
        assert_eq!(role_of("rds:ModifyDBInstance"), Some(Configure));
        assert_eq!(role_of("backup:DeleteBackupVaultLockConfiguration"), Some(Delete));
        assert_eq!(role_of("rds:DeleteDBSnapshot"), Some(Delete));
        assert_eq!(role_of("s3:GetObject"), None);
    }
}
