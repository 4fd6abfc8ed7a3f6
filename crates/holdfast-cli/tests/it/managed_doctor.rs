//! `doctor` and `validate --live` of managed databases, against the strict stand-in for AWS.

use crate::managed::{boto, plane};
use serde_json::{Value, json};

/// Status and message of a line.
fn line<'a>(found: &'a Value, name: &str) -> (&'a str, &'a str) {
    let all = found["checks"].as_array().expect("checks");
    let l = all.iter().find(|l| l["name"] == name).unwrap_or_else(|| panic!("no `{name}` in {found:#}"));
    (l["status"].as_str().unwrap_or_default(), l["message"].as_str().unwrap_or_default())
}

#[test]
fn doctor_tells_what_would_fail() {
    let p = plane(
        "managed-doctor",
        "rds://us-east-1/shop",
        "[policies.standard.verify]\nlevel = \"L3\"\nevery = \"7d\"\n",
    );
    // Nothing has been made yet: that is no failure, and it is told.
    let fresh = p.hf.run(&["--json", "doctor", "shop"]).ok().json();
    assert_eq!(line(&fresh, "source.state").0, "OK");
    assert_eq!(line(&fresh, "source.window").0, "OK");
    assert_eq!(line(&fresh, "source.key").0, "OK");
    assert_eq!(line(&fresh, "tier.daily").0, "WARN");
    assert_eq!(line(&fresh, "copy.dr").0, "WARN");
    assert_eq!(line(&fresh, "verify.newest").0, "WARN");
    let (status, message) = line(&fresh, "source.resource-id");
    assert_eq!(status, "WARN");
    assert!(message.contains("does not name it"), "{message}");
    assert!(line(&fresh, "provider.identity").1.contains("123456789012"));

    assert_eq!(line(&fresh, "settings").0, "WARN");
    assert!(line(&fresh, "verify.login").1.contains("root certificates"));

    // A day's snapshot and its copy are later than a day: the policy of the other tests is not applied.
    let text = std::fs::read_to_string(p.scratch.path("holdfast.toml")).expect("policy");
    let _ = p.scratch.write("holdfast.toml", text.replace("rpo = \"1d\"", "rpo = \"2d\""));
    let _ = p.hf.run(&["apply", "shop", "--yes"]).ok();
    let _ = p.backup(&["--tier", "daily"]);
    let _ = p.hf.run(&["copy", "shop"]).ok();
    let well = p.hf.run(&["--json", "doctor", "shop"]).ok().json();
    assert_eq!((line(&well, "tier.daily").0, line(&well, "copy.dr").0), ("OK", "OK"));
    assert_eq!(line(&well, "settings").0, "OK");
    assert_eq!(line(&well, "quota.us-west-2.snapshots").0, "OK");

    // The key that everything is under is to be destroyed, the quota is nearly used up, two runs were missed.
    let arn = boto(
        &p.aws,
        "d = boto3.client('rds', region_name='us-east-1').describe_db_instances()['DBInstances'][0]\n\
         boto3.client('kms', region_name='us-west-2').schedule_key_deletion(KeyId=[k['KeyArn'] for k in \
         boto3.client('kms', region_name='us-west-2').list_keys()['Keys']][0], PendingWindowInDays=7)\n\
         print(d['DbiResourceId'])",
    );
    let _ = p.aws.control("config", Some(json!({ "quotas": { "manual-snapshots": 1 } })));
    let late = p.hf.run(&["--json", "doctor", "shop"]);
    assert_eq!(late.code, 5, "{}", late.stderr);
    let late = late.json();
    let (status, message) = line(&late, "vault.west.key");
    assert_eq!(status, "FAIL");
    assert!(message.contains("will be destroyed"), "{message}");
    assert_eq!(line(&late, "quota.us-east-1.snapshots").0, "FAIL");

    // The database of the policy is gone, and another has its name.
    let text = std::fs::read_to_string(p.scratch.path("holdfast.toml")).expect("policy");
    let named = |id: &str| {
        text.replace("policy = \"standard\"\n", &format!("policy = \"standard\"\nresource-id = \"{id}\"\n"))
    };
    let _ = p.scratch.write("holdfast.toml", named(&arn));
    assert_eq!(line(&p.hf.run(&["--json", "doctor", "shop"]).json(), "source.resource-id").0, "OK");
    let _ = p.scratch.write("holdfast.toml", named("db-ANOTHERONE"));
    let (status, message) = {
        let found = p.hf.run(&["--json", "doctor", "shop"]).json();
        let (s, m) = line(&found, "source.resource-id");
        (s.to_string(), m.to_string())
    };
    assert_eq!(status, "FAIL");
    assert!(message.contains("another database has this name"), "{message}");

    // What may not be seen is told by name, and does not stop the rest.
    let deny = json!({ "kind": "deny", "action": "rds:DescribeDBSnapshots", "times": 20 });
    let _ = p.aws.control("faults", Some(deny));
    let blind = p.hf.run(&["--json", "doctor", "shop"]);
    assert_eq!(blind.code, 5);
    let (status, message) = {
        let found = blind.json();
        let (s, m) = line(&found, "region.us-east-1");
        (s.to_string(), m.to_string())
    };
    assert_eq!(status, "FAIL");
    assert!(message.contains("rds:DescribeDBSnapshots"), "{message}");
    // Nothing seen is not nothing there.
    let found = blind.json();
    let (status, message) = line(&found, "tier.daily");
    assert!(status == "WARN" && message.contains("nobody knows"), "{status} {message}");
}

#[test]
fn a_source_that_is_being_deleted() {
    let p = plane("managed-going", "rds://us-east-1/shop", "");
    // What is going is no state to wait for.
    let _ = p.aws.control("config", Some(json!({ "polls": 1000 })));
    let _ = boto(
        &p.aws,
        "boto3.client('rds').delete_db_instance(DBInstanceIdentifier='shop', SkipFinalSnapshot=True)",
    );
    let going = p.hf.run(&["--json", "doctor", "shop"]).json();
    assert_eq!(line(&going, "source.state").0, "FAIL", "{going:#}");
    assert!(going.to_string().contains("holdfast recover shop"), "{going:#}");
}

#[test]
fn validate_looks_when_it_is_asked_to() {
    let p = plane(
        "managed-live",
        "rds://us-east-1/shop",
        "[policies.standard.verify]\nlevel = \"L3\"\nevery = \"7d\"\n",
    );
    let rules = |args: &[&str]| -> Vec<String> {
        let all = p.hf.run(&[&["--json", "validate"], args].concat()).json();
        let found = all["problems"].as_array().expect("problems");
        found.iter().map(|f| format!("{} {}", f["rule"].as_str().unwrap_or_default(), f["message"])).collect()
    };
    let has =
        |all: &[String], rule: &str, text: &str| all.iter().any(|f| f.starts_with(rule) && f.contains(text));
    // Nothing is claimed of what was not looked at.
    let offline = rules(&[]);
    assert!(!has(&offline, "VE14", "") && !has(&offline, "VW1", "no verification"), "{offline:#?}");
    let live = rules(&["--live"]);
    assert!(has(&live, "VE14", "resource id"), "{live:#?}");
    assert!(has(&live, "VW1", "no verification has succeeded yet"), "{live:#?}");
    assert!(!has(&live, "VE8", ""), "{live:#?}");

    // Others have 99 snapshots of the hundred; this policy will keep two.
    let _ = p.aws.control("seed", Some(json!({ "snapshots": { "source": "shop", "count": 99 } })));
    let full = rules(&["--live"]);
    assert!(has(&full, "VE8", "99 of others"), "{full:#?}");
    // Its own are not counted twice.
    let _ = p.backup(&["--tier", "daily"]);
    let full = rules(&["--live"]);
    assert!(has(&full, "VE8", "99 of others"), "{full:#?}");
    // The account was granted more.
    let _ = p.aws.control("config", Some(json!({ "quotas": { "manual-snapshots": 300 } })));
    assert!(!has(&rules(&["--live"]), "VE8", ""));
    assert!(!has(&rules(&[]), "VE8", ""));

    // A region that does not answer is named, and is no clean bill.
    let deny = json!({ "kind": "deny", "action": "rds:DescribeDBInstances", "times": 20 });
    let _ = p.aws.control("faults", Some(deny));
    let blind = p.hf.run(&["--json", "validate", "--live"]).json();
    assert!(blind["unseen"][0].as_str().is_some_and(|u| u.contains("rds:DescribeDBInstances")), "{blind:#}");
}

/// Requests after the first are made with the keys of the role, and CloudTrail would show who it was.
#[test]
fn a_role_of_the_policy_is_assumed() {
    let p = plane("managed-role", "rds://us-east-1/shop", "");
    let arn = boto(
        &p.aws,
        "trust = json.dumps({'Version': '2012-10-17', 'Statement': [{'Effect': 'Allow', 'Principal': {'AWS': '*'}, \
         'Action': 'sts:AssumeRole'}]})\n\
         print(boto3.client('iam').create_role(RoleName='backups', AssumeRolePolicyDocument=trust)['Role']['Arn'])",
    );
    let text = std::fs::read_to_string(p.scratch.path("holdfast.toml")).expect("policy");
    let with = text.replace("policy = \"standard\"\n", &format!("policy = \"standard\"\nrole = \"{arn}\"\n"));
    let _ = p.scratch.write("holdfast.toml", &with);
    let found = p.hf.run(&["--json", "doctor", "shop"]).ok().json();
    let who = line(&found, "provider.identity").1.to_string();
    assert!(who.contains(":assumed-role/backups/holdfast"), "{who}");
    let _ = p.backup(&[]);
    let requests = p.aws.control("requests", None);
    let made = requests.as_array().expect("requests").iter().find(|r| r["action"] == "CreateDBSnapshot");
    assert_ne!(made.expect("a snapshot")["key"], "test");
}

const SAFE: &str = r#"
[vaults.safe]
url = "aws-backup://us-east-1/safe"
[policies.standard.tiers.nightly]
schedule = "0 3 * * *"
vaults = ["safe"]
keep = { window = "30d" }
[policies.standard.tiers.weekly]
schedule = "0 14 * * 0"
vaults = ["safe"]
keep = { window = "30d" }
"#;

/// A tier that never made a point is new, until its first run is over.
#[test]
fn a_tier_that_never_made_a_point_fails_once_it_should_have() {
    let p = plane("managed-doctor-due", "rds://us-east-1/shop", "");
    let fresh = p.hf.run(&["--json", "doctor", "shop"]).ok().json();
    let (status, message) = line(&fresh, "tier.daily");
    assert!(status == "WARN" && message.contains("the first run is due"), "{message}");
    let path = p.scratch.path("state/observed/shop.tiers.json");
    let text = std::fs::read_to_string(&path).expect("since when");
    let mut seen: Value = serde_json::from_str(&text).expect("json");
    // Seen first three days ago: a run a day was due, and its copy.
    let then = jiff::Timestamp::now().checked_sub(jiff::SignedDuration::from_hours(72)).expect("a time");
    seen["daily"]["since"] = json!(then);
    std::fs::write(&path, seen.to_string()).expect("write");
    let late = p.hf.run(&["--json", "doctor", "shop"]).expect_code(5).json();
    for name in ["tier.daily", "copy.dr"] {
        let (status, message) = line(&late, name);
        assert!(status == "FAIL" && message.contains("the first run was due"), "{name}: {message}");
    }
    // With another schedule it begins anew.
    let policy = p.scratch.path("holdfast.toml");
    let text = std::fs::read_to_string(&policy).expect("policy");
    std::fs::write(&policy, text.replace("0 12 * * *", "30 12 * * *")).expect("write");
    assert_eq!(line(&p.hf.run(&["--json", "doctor", "shop"]).ok().json(), "tier.daily").0, "WARN");
    let _ = p.backup(&["--tier", "daily"]);
    assert_eq!(line(&p.hf.run(&["--json", "doctor", "shop"]).ok().json(), "tier.daily").0, "OK");
}

/// Points of one vault of AWS Backup: by the rule that made them, or by what Holdfast asked for, and not by the vault.
#[test]
fn tiers_of_one_vault_are_told_apart() {
    let p = plane("managed-doctor-vault", "rds://us-east-1/shop", SAFE);
    let policy = p.scratch.path("holdfast.toml");
    let text = std::fs::read_to_string(&policy).expect("policy");
    let text = text
        .replace("to = \"west\"", "to = \"west\"\nof = [\"daily\"]")
        .replace("rpo = \"1d\"", "rpo = \"2d\"");
    std::fs::write(&policy, text).expect("write");
    let _ = p.hf.run(&["apply", "shop", "--yes"]).ok();
    let tiers = || {
        let found = p.hf.run(&["--json", "doctor", "shop"]).json();
        (line(&found, "tier.nightly").0.to_string(), line(&found, "tier.weekly").0.to_string())
    };
    let both = |a: &str, b: &str| (a.to_string(), b.to_string());
    assert_eq!(tiers(), both("WARN", "WARN"));
    // Somebody's own is of no tier.
    let _ = boto(
        &p.aws,
        "db = boto3.client('rds').describe_db_instances()['DBInstances'][0]['DBInstanceArn']\n\
         role = 'arn:aws:iam::123456789012:role/service-role/AWSBackupDefaultServiceRole'\n\
         boto3.client('backup').start_backup_job(BackupVaultName='safe', ResourceArn=db, IamRoleArn=role)",
    );
    let _ = p.aws.control("settle", Some(json!({})));
    assert_eq!(tiers(), both("WARN", "WARN"));
    let _ = p.backup(&["--tier", "weekly"]);
    assert_eq!(tiers(), both("WARN", "OK"));
    let points = || {
        let all = p.hf.run(&["--json", "list", "shop"]).ok().json();
        let kept = all["managed"]["databases"][0]["kept"].as_array().expect("kept").clone();
        let mut all: Vec<String> =
            kept.iter().filter(|k| k["vault"] == "safe").map(|k| k["tier"].to_string()).collect();
        all.sort();
        all
    };
    assert_eq!(points(), ["\"weekly\"", "null"]);
    // Both rules of the plan run.
    let _ = p.aws.control("run-plans", Some(json!({})));
    let _ = p.aws.control("settle", Some(json!({})));
    assert_eq!(tiers(), both("OK", "OK"));
    assert_eq!(points(), ["\"nightly\"", "\"weekly\"", "\"weekly\"", "null"]);
}
