//! The metadata of AWS Backup's restore jobs: [`restore_metadata`].

use super::restore::{Moment, RestoreTarget};
use super::source::Engine;
use std::collections::BTreeMap;

/// The metadata of a restore job: what `GetRecoveryPointRestoreMetadata` said, with the target's values in place of
/// the source's. `moment` is for continuous points only.
///
/// Keys as the developer guide lists them ("Restore testing inferred metadata": RDS instances; RDS, Aurora and
/// DocumentDB clusters; keys are not case sensitive). A restore job can set neither tags nor Serverless v2 limits: tag
/// and modify what it made. Deletion protection is not among those keys; where the point brings the source's along, it
/// gets the target's value, or a throwaway copy of a protected database could not be removed.
pub fn restore_metadata(
    known: &BTreeMap<String, String>,
    target: &RestoreTarget,
    moment: Option<Moment>,
) -> BTreeMap<String, String> {
    let mut out = known.clone();
    // The source's own values must not come along: AWS would put it back where it was, or refuse.
    for key in [
        "AvailabilityZone",
        "AvailabilityZones",
        "DBInstanceIdentifier",
        "DBClusterIdentifier",
        "RestoreTime",
        "UseLatestRestorableTime",
        "VpcSecurityGroupIds",
        "DBSubnetGroupName",
        "DBClusterSnapshotIdentifier",
        "DBSnapshotIdentifier",
    ] {
        out.retain(|k, _| !k.eq_ignore_ascii_case(key));
    }
    let mut put = |key: &str, value: Option<String>| {
        if let Some(v) = value {
            out.retain(|k, _| !k.eq_ignore_ascii_case(key));
            out.insert(key.to_string(), v);
        }
    };
    let protected = known.keys().find(|k| k.eq_ignore_ascii_case("DeletionProtection"));
    if let Some(key) = protected {
        put(key, Some(target.deletion_protection.to_string()));
    }
    let number = |n: Option<u32>| n.map(|v| v.to_string());
    let yes = |b: Option<bool>| b.map(|v| v.to_string());
    let list = |l: &[String]| {
        let quoted: Vec<String> = l.iter().map(|s| format!("\"{s}\"")).collect();
        (!l.is_empty()).then(|| format!("[{}]", quoted.join(",")))
    };
    put("DBSubnetGroupName", target.subnet_group.clone());
    put("VpcSecurityGroupIds", list(&target.security_groups));
    put("EnableCloudwatchLogsExports", list(&target.log_exports));
    put("EnableIAMDatabaseAuthentication", yes(target.iam_auth));
    put("OptionGroupName", target.option_group.clone());
    put("Port", target.port.map(|p| p.to_string()));
    if target.source.engine == Engine::Rds {
        put("DBInstanceIdentifier", Some(target.source.id.clone()));
        put("DBInstanceClass", target.class.clone());
        put("DBParameterGroupName", target.parameter_group.clone());
        put("MultiAZ", yes(target.multi_az));
        put("PubliclyAccessible", yes(target.public));
        put("StorageType", target.storage_kind.clone());
        put("AllocatedStorage", number(target.allocated_gib));
        put("Iops", number(target.iops));
        put("AvailabilityZone", target.availability_zone.clone());
        put("CopyTagsToSnapshot", yes(target.copy_tags));
    } else {
        put("DBClusterIdentifier", Some(target.source.id.clone()));
        put("Engine", Some(target.engine_name.clone()));
        put("EngineVersion", target.engine_version.clone());
        put("DBClusterParameterGroupName", target.parameter_group.clone());
        put("KmsKeyId", target.key.clone());
    }
    match moment {
        Some(Moment::Latest) => put("UseLatestRestorableTime", Some("true".into())),
        Some(Moment::At(t)) => put("RestoreTime", Some(t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())),
        None => {}
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managed::Tags;

    #[test]
    fn the_targets_values_replace_the_sources() {
        let known: BTreeMap<String, String> = [
            ("dbinstanceidentifier", "shop"),
            ("AvailabilityZone", "us-east-1a"),
            ("LicenseModel", "postgresql-license"),
            ("DBInstanceClass", "db.r6g.4xlarge"),
            ("DeletionProtection", "true"),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
        let target = RestoreTarget {
            source: "rds://us-east-1/shop-restored".parse().unwrap(),
            engine_name: "postgres".into(),
            engine_version: None,
            class: Some("db.t4g.medium".into()),
            subnet_group: Some("private".into()),
            security_groups: vec!["sg-1".into(), "sg-2".into()],
            parameter_group: Some("shop-17".into()),
            option_group: None,
            multi_az: Some(false),
            availability_zone: None,
            public: Some(false),
            port: Some(5432),
            storage_kind: None,
            allocated_gib: None,
            iops: None,
            throughput: None,
            scaling: None,
            key: None,
            iam_auth: None,
            log_exports: vec![],
            copy_tags: None,
            deletion_protection: false,
            tags: Tags::default(),
        };
        let at = Moment::At("2026-11-21T09:35:00.9Z".parse().unwrap());
        let m = restore_metadata(&known, &target, Some(at));
        let get = |k: &str| m.get(k).map(String::as_str);
        assert_eq!(get("DBInstanceIdentifier"), Some("shop-restored"));
        assert_eq!(get("DBInstanceClass"), Some("db.t4g.medium"));
        assert_eq!(get("VpcSecurityGroupIds"), Some("[\"sg-1\",\"sg-2\"]"));
        assert_eq!(get("LicenseModel"), Some("postgresql-license"));
        assert_eq!(get("RestoreTime"), Some("2026-11-21T09:35:00Z"));
        assert_eq!(get("dbinstanceidentifier"), None);
        assert_eq!(get("AvailabilityZone"), None);
        assert_eq!(get("DeletionProtection"), Some("false"));
    }
}
