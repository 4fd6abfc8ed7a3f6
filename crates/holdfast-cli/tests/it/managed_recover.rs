//! Incidents with databases that a provider runs, against the strict stand-in for AWS: the ways out, taken; recovery
//! points of AWS Backup; single snapshots.

use crate::common::error_of;
use crate::managed::{boto, key};
use holdfast_testkit::{Aws, Holdfast, Scratch, proc};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

const HOME: &str = "us-east-1";
const AWAY: &str = "us-west-2";

const POLICY: &str = r#"
version = 1
[databases.shop]
source = "SOURCE"
policy = "standard"
[databases.shop.places.west]
region = "us-west-2"
subnet-group = "default"
security-groups = ["GROUP"]
[vaults.west]
url = "snapshots://us-west-2"
kms-key = "KEY"
[vaults.safe]
url = "aws-backup://us-east-1/safe"
[vaults.far]
url = "aws-backup://us-west-2/far"
[policies.standard]
rpo = "1d"
rto = "4h"
pitr = { keep = "7d" }
restore-id = "{id}-risen-%Y%m%d-%H%M%S"
deletion-protection = false
[policies.standard.tiers.daily]
schedule = "0 12 * * *"
keep = { last = 7, at-least = 1 }
[policies.standard.tiers.weekly]
schedule = "0 14 * * 0"
vaults = ["safe"]
keep = { window = "30d" }
[policies.standard.copies.dr]
to = "west"
of = ["daily"]
keep = { last = 7, at-least = 1 }
[policies.standard.copies.points]
to = "far"
of = ["weekly"]
keep = { window = "30d" }
"#;

struct Site {
    aws: Aws,
    hf: Holdfast,
    _scratch: Scratch,
}

fn site(name: &str, source: &str) -> Site {
    let scratch = Scratch::new(name);
    let aws = Aws::standin(&scratch);
    let cluster = |more: Value| {
        let mut c =
            json!({ "DBClusterIdentifier": "shop", "age": 864_000, "members": 2, "StorageEncrypted": true });
        c.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        json!({ "clusters": [c] })
    };
    let seed = match source.split(':').next() {
        Some("rds") => json!({ "instances": [
            { "DBInstanceIdentifier": "shop", "age": 864_000, "StorageEncrypted": true }
        ] }),
        Some("aurora") => {
            cluster(json!({ "ServerlessV2ScalingConfiguration": { "MinCapacity": 0.5, "MaxCapacity": 4 } }))
        }
        _ => cluster(json!({ "Engine": "docdb" })),
    };
    let _ = aws.control("seed", Some(seed));
    let found = boto(
        &aws,
        &format!(
            "boto3.client('backup', region_name='{HOME}').create_backup_vault(BackupVaultName='safe')\n\
             boto3.client('backup', region_name='{AWAY}').create_backup_vault(BackupVaultName='far')\n\
             print(boto3.client('ec2', region_name='{AWAY}').describe_security_groups(Filters=[\
             {{'Name': 'group-name', 'Values': ['default']}}])['SecurityGroups'][0]['GroupId'])"
        ),
    );
    let text = POLICY.replace("SOURCE", source).replace("KEY", &key(&aws)).replace("GROUP", found.trim());
    let path = scratch.write("holdfast.toml", &text);
    let hf = Holdfast::new(&scratch, &path).env("HOLDFAST_POLL", "0.05").envs(aws.env());
    Site { aws, hf, _scratch: scratch }
}

impl Site {
    fn json(&self, args: &[&str]) -> Value {
        self.hf.run(&[&["--json"], args].concat()).ok().json()
    }

    fn refused(&self, args: &[&str], code: i32) -> (String, String) {
        let (_, message, hint) = error_of(&self.hf.run(&[&["--json"], args].concat()).expect_code(code));
        (message, hint)
    }

    /// Shows, then does.
    fn recover(&self, args: &[&str]) -> Value {
        let all = [&["recover", "shop"], args].concat();
        let shown = self.json(&all);
        assert!(shown["restore"].is_null() && shown["plan"]["target"]["source"].is_string(), "{shown:#}");
        let done = self.json(&[all.as_slice(), &["--yes"]].concat());
        assert_eq!(done["ways"][0]["from"]["from"], shown["ways"][0]["from"]["from"], "{done:#}");
        let made = done["restore"]["database"].as_str().expect("a database");
        assert!(made.contains("/shop-risen-20"), "the name is the policy's: {made}");
        assert_eq!(done["restore"]["database"], done["plan"]["target"]["source"]);
        done
    }

    /// Identifiers and statuses of the databases of a region.
    fn databases(&self, region: &str, table: &str) -> Vec<Value> {
        let state = self.aws.control("state", None);
        let accounts = state["regions"].as_object().expect("accounts");
        let of = |a: &Value| a[region]["rds"][table].as_array().cloned().unwrap_or_default();
        accounts.values().flat_map(of).collect()
    }

    /// What of AWS was asked of a region since `from`, and how many calls there are now.
    fn asked_of(&self, region: &str, from: usize) -> (Vec<String>, usize) {
        let all = self.aws.control("requests", None);
        let all = all.as_array().expect("requests");
        let home = all.iter().skip(from).filter(|r| r["region"] == region);
        (home.map(|r| format!("{}:{}", r["service"], r["action"])).collect(), all.len())
    }
}

/// Names have seconds in them.
fn another_second() {
    std::thread::sleep(Duration::from_millis(1100));
}

fn ago(minutes: i64) -> String {
    let t = Timestamp::now().checked_sub(SignedDuration::from_mins(minutes)).expect("a time");
    Timestamp::from_second(t.as_second()).expect("a time").to_string()
}

fn text(v: &Value) -> &str {
    v.as_str().unwrap_or_default()
}

/// Data that is wrong, of a database that lives: to the second before, and what it took is known the next time.
#[test]
fn data_that_was_deleted_or_spoilt() {
    let s = site("recover-data", "rds://us-east-1/shop");
    let none = s.refused(&["recover", "shop"], 2);
    assert!(none.1.contains("--scenario") && none.1.contains("region-loss"), "{none:?}");
    let when = s.refused(&["recover", "shop", "--scenario", "corruption"], 2);
    assert!(when.0.contains("when did the corruption begin"), "{when:?}");
    // X18: another time when it goes on.
    let _ = s.refused(&["recover", "shop", "--scenario", "corruption", "--at", "10 minutes ago"], 2);

    let at = ago(60);
    let deleted = s.recover(&["--scenario", "accidental-deletion", "--at", &at]);
    assert_eq!(deleted["ways"][0]["from"]["from"], "source");
    assert_eq!(deleted["ways"][0]["rto"], Value::Null, "nobody has measured it yet");
    assert_eq!(deleted["plan"]["asked"], at.as_str(), "the loss is counted to the incident");
    assert_eq!(deleted["restore"]["loss_seconds"], 1);
    assert!(text(&deleted["next"]).starts_with("holdfast cutover shop --to-id shop-risen-"), "{deleted:#}");
    let made = text(&deleted["restore"]["database"]).rsplit('/').next().expect("an id").to_string();
    let found = s.databases(HOME, "instances").into_iter().find(|d| d["id"] == made.as_str());
    let to = found.expect("the new one")["restored_to"].as_f64().expect("a second");
    let last: Timestamp = at.parse().expect("a time");
    assert_eq!(to as i64, last.as_second() - 1);

    another_second();
    let shown = s.json(&["recover", "shop", "--scenario", "corruption", "--at", &ago(30)]);
    let rto = &shown["ways"][0]["rto"];
    assert!(
        rto["seconds"].as_f64().is_some() && rto["kind"] == "moment" && rto["by"] == "restore",
        "{rto:#}"
    );
    assert_eq!((&rto["size_gib"], &rto["region"]), (&json!(20), &json!(HOME)));
    assert!(!shown["warnings"].as_array().expect("warnings").is_empty());
    let human = s.hf.run(&["recover", "shop", "--scenario", "corruption", "--at", &ago(30)]).ok();
    let _ = human.says("by a restore of 20 GiB").says("nothing was made").says("not measured");
    let spoilt = s.recover(&["--scenario", "corruption", "--at", &ago(30), "--way", "1"]);
    assert_eq!(spoilt["restore"]["loss_seconds"], 1);
    another_second();
    // The window's end lags: waiting loses less.
    let young = s.json(&["recover", "shop", "--scenario", "corruption", "--at", &ago(1)]);
    assert!(young["warnings"].to_string().contains("wait until"), "{young:#}");
    let far = s.refused(&["recover", "shop", "--scenario", "corruption", "--at", &ago(30), "--way", "99"], 2);
    assert!(far.1.contains("--way"), "{far:?}");
    let _ = s.refused(&["recover", "shop", "--scenario", "corruption", "--at", "2001-01-01T00:00:00Z"], 10);
}

/// Somebody with rights: first what that person cannot delete. X34: the plan can be executed.
#[test]
fn data_that_somebody_deletes_on_purpose() {
    let s = site("recover-malice", "rds://us-east-1/shop");
    let _ = boto(
        &s.aws,
        "boto3.client('backup').put_backup_vault_lock_configuration(BackupVaultName='safe', MinRetentionDays=7)",
    );
    let point = s.json(&["backup", "shop", "--tier", "weekly"]);
    let _ = s.json(&["backup", "shop", "--tier", "daily"]);
    another_second();
    let at = Timestamp::now().to_string();
    let done = s.recover(&["--scenario", "malicious-deletion", "--at", &at]);
    let first = &done["ways"][0];
    assert_eq!((&first["from"]["from"], &first["from"]["arn"]), (&json!("point"), &point["arn"]), "{done:#}");
    assert_eq!(first["lock"], "governance");
    assert!(text(&done["warnings"][0]).contains("credentials"), "{done:#}");
    assert_eq!(s.aws.count("backup:StartRestoreJob"), 1);
}

/// X15: the source is gone, and its name finds nothing: what was retained of it does.
#[test]
fn a_database_that_is_gone() {
    let s = site("recover-gone", "rds://us-east-1/shop");
    let _ = s.json(&["backup", "shop", "--tier", "daily"]);
    let _ = boto(
        &s.aws,
        "boto3.client('rds').delete_db_instance(DBInstanceIdentifier='shop', SkipFinalSnapshot=True, \
         DeleteAutomatedBackups=False)",
    );
    let _ = s.aws.control("settle", Some(json!({})));
    // The snapshot is younger than the end of what was retained.
    let done = s.recover(&["--scenario", "complete-loss"]);
    assert_eq!(done["ways"][0]["from"]["from"], "snapshot", "{done:#}");
    assert!(text(&done["next"]).ends_with("--lost"), "{done:#}");
    let n = done["ways"].as_array().expect("ways").iter().position(|w| w["from"]["from"] == "automated");
    let n = (n.expect("what was retained") + 1).to_string();
    another_second();
    let done = s.recover(&["--scenario", "complete-loss", "--way", &n]);
    assert!(text(&done["plan"]["from"]).contains("retained"), "{done:#}");
    // Another one of that name is not what was lost, however young its snapshot is.
    let _ = boto(
        &s.aws,
        "rds = boto3.client('rds')\n\
         rds.create_db_instance(DBInstanceIdentifier='shop', Engine='postgres', DBInstanceClass='db.t4g.micro', \
         AllocatedStorage=20, MasterUsername='postgres', MasterUserPassword='not-the-same')",
    );
    let _ = s.aws.control("settle", Some(json!({})));
    let _ = boto(
        &s.aws,
        "boto3.client('rds').create_db_snapshot(DBInstanceIdentifier='shop', DBSnapshotIdentifier='newer')",
    );
    let _ = s.aws.control("settle", Some(json!({})));
    let again = s.json(&["recover", "shop", "--scenario", "complete-loss"]);
    let ways = again["ways"].as_array().expect("ways");
    assert_eq!(ways[0]["another"], false, "{again:#}");
    // It has a snapshot of its own making, too.
    assert!(ways.is_sorted_by_key(|w| w["another"] == true), "{again:#}");
    let newer = ways.iter().find(|w| w["from"]["id"] == "newer").expect("what somebody made of it");
    assert_eq!(newer["another"], true, "{again:#}");
}

/// The region does not answer: nothing is asked of it, and what others have is restored there.
fn region_is_lost(s: &Site, ways: &[&str]) {
    let _ = s.aws.control(
        "faults",
        Some(json!({ "kind": "cut-before", "action": "*", "region": HOME, "times": null })),
    );
    let (_, before) = s.asked_of(HOME, 0);
    for (i, way) in ways.iter().enumerate() {
        let n = (i + 1).to_string();
        let done = s.recover(&["--scenario", "region-loss", "--way", &n]);
        let taken = &done["ways"][i];
        assert_eq!((&taken["region"], text(&taken["from"]["from"])), (&json!(AWAY), *way), "{done:#}");
        assert!(text(&done["restore"]["database"]).contains(AWAY), "{done:#}");
        assert!(text(&done["next"]).contains("--region us-west-2 --lost"), "{done:#}");
        another_second();
    }
    let (asked, _) = s.asked_of(HOME, before);
    assert!(asked.is_empty(), "the dead region was asked: {asked:?}");
}

/// From automated backups that were replicated, and from a copy.
#[test]
fn an_instance_whose_region_is_lost() {
    let s = site("recover-region", "rds://us-east-1/shop");
    let none = s.refused(&["recover", "shop", "--scenario", "region-loss"], 10);
    assert!(none.0.contains("nothing of `shop`"), "{none:?}");
    let _ = s.json(&["backup", "shop", "--tier", "daily"]);
    // It is all in the region: that is the reason, and not what nobody may see.
    let none = s.refused(&["recover", "shop", "--scenario", "region-loss"], 10);
    assert!(none.0.contains("outside of us-east-1"), "{none:?}");
    let there = s.json(&["recover", "shop", "--scenario", "complete-loss"]);
    assert!(text(&there["warnings"][0]).contains("it is not lost"), "{there:#}");
    let _ = s.json(&["copy", "shop", "--to", "west"]);
    let _ = boto(
        &s.aws,
        &format!(
            "arn = boto3.client('rds').describe_db_instances(DBInstanceIdentifier='shop')['DBInstances'][0]\
             ['DBInstanceArn']\n\
             key = boto3.client('kms', region_name='{AWAY}').create_key()['KeyMetadata']['Arn']\n\
             boto3.client('rds', region_name='{AWAY}').start_db_instance_automated_backups_replication(\
             SourceDBInstanceArn=arn, KmsKeyId=key, BackupRetentionPeriod=7, SourceRegion='{HOME}')"
        ),
    );
    let _ = s.aws.control("settle", Some(json!({})));
    let _ = s.aws.control("backdate", Some(json!({ "id": "shop", "seconds": 7200 })));
    // X42: of what is there now; the copy is young, and the window lags.
    let ways = s.json(&["recover", "shop", "--scenario", "region-loss"]);
    let mut kinds: Vec<&str> =
        ways["ways"].as_array().expect("ways").iter().map(|w| text(&w["from"]["from"])).collect();
    assert_eq!(kinds.len(), 2, "{ways:#}");
    region_is_lost(&s, &kinds);
    kinds.sort_unstable();
    assert_eq!(kinds, ["automated", "snapshot"]);
}

/// Both losses of a cluster, which gets its instances again.
fn cluster_is_lost(name: &str, source: &str, way: &str) {
    let s = site(name, source);
    let _ = s.json(&["backup", "shop", "--tier", "daily"]);
    let _ = s.json(&["copy", "shop", "--to", "west"]);
    let lives = s.json(&["recover", "shop", "--scenario", "accidental-deletion", "--at", &ago(30)]);
    assert_eq!(lives["ways"][0]["from"]["from"], "source", "{lives:#}");
    let keep = if way == "automated" { ", DeleteAutomatedBackups=False" } else { "" };
    let _ = boto(
        &s.aws,
        &format!(
            "rds = boto3.client('rds')\n\
             for i in rds.describe_db_instances()['DBInstances']:\n    \
             rds.delete_db_instance(DBInstanceIdentifier=i['DBInstanceIdentifier'], SkipFinalSnapshot=True)\n\
             rds.delete_db_cluster(DBClusterIdentifier='shop', SkipFinalSnapshot=True{keep})"
        ),
    );
    let _ = s.aws.control("settle", Some(json!({})));
    let done = s.recover(&["--scenario", "complete-loss"]);
    let from: Vec<&str> =
        done["ways"].as_array().expect("ways").iter().map(|w| text(&w["from"]["from"])).collect();
    assert!(from.contains(&way), "{done:#}");
    assert_eq!(done["restore"]["instances"].as_array().map(Vec::len), Some(2), "{done:#}");
    if let Some(n) = from.iter().position(|f| *f == "automated") {
        another_second();
        let done = s.recover(&["--scenario", "complete-loss", "--way", &(n + 1).to_string()]);
        assert_eq!(done["restore"]["instances"].as_array().map(Vec::len), Some(2), "{done:#}");
    }
    another_second();
    region_is_lost(&s, &["snapshot"]);
    assert_eq!(s.databases(AWAY, "clusters").len(), 1);
    let there = s.databases(AWAY, "instances");
    assert_eq!(there.len(), 2, "{there:#?}");
    assert!(there.iter().all(|i| i["status"] == "available"), "{there:#?}");
}

#[test]
fn an_aurora_cluster_that_is_lost() {
    cluster_is_lost("recover-aurora", "aurora://us-east-1/shop", "automated");
}

#[test]
fn a_documentdb_cluster_that_is_lost() {
    cluster_is_lost("recover-docdb", "docdb://us-east-1/shop", "snapshot");
}

/// Serverless v2 comes back as that, and its price follows its limits (X37).
#[test]
fn what_is_serverless_stays_so() {
    let s = site("recover-serverless", "aurora://us-east-1/shop");
    let done = s.recover(&["--scenario", "accidental-deletion", "--at", &ago(30)]);
    let limits = &done["plan"]["target"]["scaling"];
    assert_eq!((&limits["min"], &limits["max"]), (&json!(0.5), &json!(4.0)), "{done:#}");
    assert_eq!(done["plan"]["instances"][0]["class"], "db.serverless");
    let price = &done["price"];
    assert!(price["least"].as_f64() < price["most"].as_f64(), "{price:#}");
    let made = text(&done["restore"]["database"]).rsplit('/').next().expect("an id").to_string();
    let scaling = boto(
        &s.aws,
        &format!(
            "c = boto3.client('rds').describe_db_clusters(DBClusterIdentifier='{made}')['DBClusters'][0]\n\
             print(c['EngineMode'], c['ServerlessV2ScalingConfiguration']['MaxCapacity'])"
        ),
    );
    assert_eq!(scaling, "provisioned 4.0");
}

/// X20: killed in the middle, the same command goes on with the name that it drew: one database, not two.
#[test]
fn killed_in_the_middle() {
    let s = site("recover-killed", "rds://us-east-1/shop");
    let _ = s.aws.control("config", Some(json!({ "polls": 1000 })));
    let at = ago(60);
    let same = ["recover", "shop", "--scenario", "accidental-deletion", "--at", at.as_str(), "--yes"];
    let mut run = s.hf.spawn(&same);
    let begun = || s.aws.count("rds:RestoreDBInstanceToPointInTime") == 1;
    assert!(proc::wait_until(Duration::from_secs(60), begun), "it never began");
    run.kill9();
    another_second();
    // Another one is not begun beside it by mistake, and a look makes nothing.
    let other = s.refused(&["recover", "shop", "--scenario", "corruption", "--at", &ago(5), "--yes"], 13);
    assert!(other.0.contains("is not finished") && other.1.contains("--to-id"), "{other:?}");
    let _ = s.json(&["recover", "shop", "--scenario", "corruption", "--at", &ago(5)]);
    // Nor another way of the same.
    for more in [["--way", "us-east-1/nothing"], ["--region", AWAY]] {
        let way = s.refused(&[&same[..], &more].concat(), 13);
        assert!(way.0.contains("begun by way `source` in us-east-1"), "{way:?}");
    }
    let look = s.json(&[&same[..6], &["--way", "source", "--region", HOME]].concat());
    assert!(look["resumes"].is_string() && look["restore"].is_null(), "{look:#}");
    // It takes longer than one waits: 3, and it goes on.
    let waiting = [&same[..], &["--wait-for", "1s"]].concat();
    let hint = s.refused(&waiting, 3).1;
    assert!(hint.contains("same command"), "{hint}");
    let _ = s.aws.control("config", Some(json!({ "polls": 2 })));
    let _ = s.aws.control("settle", Some(json!({})));
    let done = s.json(&same);
    assert_eq!(done["restore"]["resumed"], true, "{done:#}");
    let all: Vec<Value> = s.databases(HOME, "instances");
    assert_eq!(all.len(), 2, "{all:#?}");
    assert_eq!(look["plan"]["target"]["source"], done["restore"]["database"]);
    another_second();
    // It is over: the same incident again is another recovery, and what was interrupted measures nothing.
    let again = s.json(&same[..6]);
    assert_ne!(again["plan"]["target"]["source"], done["restore"]["database"]);
    assert_eq!(again["ways"][0]["rto"], Value::Null, "{again:#}");
}

/// A region that cannot be seen is told of; a plan that cannot be made leaves the ways.
#[test]
fn what_cannot_be_seen_or_done_is_said() {
    let s = site("recover-unseen", "rds://us-east-1/shop");
    let _ = s.aws.control(
        "faults",
        Some(json!({ "kind": "deny", "action": "rds:Describe*", "region": AWAY, "times": null })),
    );
    let at = ago(30);
    let all = ["--json", "recover", "shop", "--scenario", "corruption", "--at", at.as_str()];
    let out = s.hf.run(&all).expect_code(3).json();
    assert_eq!(out["failures"][0]["region"], AWAY, "{out:#}");
    let hint = s.refused(&[&all[1..], &["--yes"]].concat(), 13).1;
    assert!(hint.contains("--way source"), "{hint}");
    assert!(text(&out["command"]).contains("--way source"), "{out:#}");
    let taken = s.hf.run(&[&all[..], &["--to-id", "shop"]].concat()).expect_code(13).json();
    assert!(taken["plan"].is_null() && taken["ways"][0]["from"]["from"] == "source", "{taken:#}");
    assert_eq!(taken["error"]["code"], "refused", "{taken:#}");
}

/// Nothing could be seen: that is no answer to what there is, whatever is asked for.
#[test]
fn nothing_can_be_seen() {
    let s = site("recover-blind", "rds://us-east-1/shop");
    let deny = |region: &str| {
        let rule = json!({ "kind": "deny", "action": "*", "region": region, "times": null });
        let _ = s.aws.control("faults", Some(rule));
    };
    deny(AWAY);
    let (all, at) = (["recover", "shop", "--scenario"], ago(30));
    let lost = s.refused(&[&all[..], &["region-loss"]].concat(), 12);
    assert!(!lost.0.contains("nothing of"), "{lost:?}");
    // The other region is seen, and has nothing there.
    let part = s.refused(&[&all[..], &["corruption", "--at", &at, "--region", AWAY]].concat(), 3);
    assert!(part.0.matches("us-west-2 could").count() == 1, "{part:?}");
    deny(HOME);
    let _ = s.refused(&[&all[..], &["complete-loss"]].concat(), 12);
}

/// What a restore job makes has no tags of ours at first. Who may not put them there is told that it comes, and goes on
/// with it when that is mended.
#[test]
fn a_restore_job_whose_database_cannot_be_tagged_is_not_forgotten() {
    let s = site("recover-untagged", "rds://us-east-1/shop");
    let made = s.json(&["backup", "shop", "--tier", "weekly"]);
    let restore = ["restore", "shop", "--to-id", "risen", "--from-point", text(&made["arn"]), "--yes"];
    let rule = json!({ "kind": "deny", "action": "rds:AddTagsToResource", "times": null });
    let _ = s.aws.control("faults", Some(rule));
    let (message, hint) = s.refused(&restore, 3);
    assert!(message.contains("AddTagsToResource") && message.contains("may be there"), "{message}");
    assert!(hint.contains("same command"), "{hint}");
    let url = format!("{}/_standin/faults", s.aws.endpoint());
    let _ = boto(
        &s.aws,
        &format!(
            "import urllib.request\nurllib.request.urlopen(urllib.request.Request('{url}', method='DELETE'))"
        ),
    );
    let done = s.json(&restore);
    assert_eq!(done["restore"]["resumed"], true, "{done:#}");
    assert_eq!(s.aws.count("backup:StartRestoreJob"), 1);
    let all = s.databases(HOME, "instances");
    let risen = all.iter().find(|d| d["id"] == "risen").expect("the new one");
    assert!(risen["tags"]["holdfast:operation"].is_string(), "{risen:#}");
}

/// Into a vault of AWS Backup, and back from there; what fails there fails here (X5).
#[test]
fn a_recovery_point_made_and_restored() {
    let s = site("recover-point", "rds://us-east-1/shop");
    let made =
        s.json(&["backup", "shop", "--tier", "weekly", "--note", "before v2", "--tag", "Ticket=OPS-1"]);
    assert_eq!((&made["kind"], &made["status"]), (&json!("recovery-point"), &json!("succeeded")));
    assert_eq!((&made["vault"], &made["tags"]["Ticket"]), (&json!("safe"), &json!("OPS-1")), "{made:#}");
    assert_eq!(made["tags"]["holdfast:tier"], "weekly");
    let kept: Timestamp = text(&made["delete_at"]).parse().expect("when it goes");
    let taken: Timestamp = text(&made["taken_at"]).parse().expect("when it was made");
    assert_eq!(kept.duration_since(taken).as_hours(), 30 * 24);
    let arn = text(&made["arn"]);
    let restore = ["restore", "shop", "--to-id", "from-point", "--from-point", arn];
    let plan = s.json(&restore);
    let origin = &plan["plan"]["origin"]["recovery-point"];
    assert!(text(&origin["role_arn"]).ends_with("AWSBackupDefaultServiceRole"), "{plan:#}");
    assert_eq!(origin["vault"], "safe");
    let timed = s.refused(&[&restore[..], &["--at", "latest"]].concat(), 2);
    assert!(timed.0.contains("not continuous"), "{timed:?}");
    let done = s.json(&[&restore[..], &["--yes"]].concat());
    assert!(done["restore"]["endpoint"]["host"].is_string(), "{done:#}");
    let other = s.refused(&["restore", "shop", "--to-id", "x", "--from-point", &format!("{arn}x")], 10);
    assert!(other.0.contains("no vault"), "{other:?}");

    // A copy job that says COMPLETED, and whose point never came: the vault is looked into.
    let _ = s.aws.control("config", Some(json!({ "polls": 100_000 })));
    let mut run = s.hf.spawn(&["copy", "shop", "--to", "far", "--wait-for", "8s"]);
    assert!(proc::wait_until(Duration::from_secs(60), || s.aws.count("backup:StartCopyJob") == 1));
    // No program of its own for that: the copy waits for a few seconds only.
    // A request is counted before it has its effect.
    let mut job = Value::Null;
    let known = proc::wait_until(Duration::from_secs(60), || {
        let state = s.aws.control("state", None);
        job = state["regions"]["123456789012"]["us-east-1"]["backup"]["copy_jobs"][0]["id"].clone();
        job.is_string()
    });
    assert!(known);
    let _ = s.aws.control("job", Some(json!({ "id": job, "state": "COMPLETED" })));
    assert!(proc::wait_until(Duration::from_secs(60), || !run.is_running()), "{}", run.output());
    assert!(run.output().contains("completed, and its point is not there"), "{}", run.output());
    let _ = s.aws.control("config", Some(json!({ "polls": 2 })));
    let _ = s.aws.control("settle", Some(json!({})));

    // To another vault, once; and restored from there, in its region.
    let there = s.json(&["copy", "shop", "--to", "far"]);
    let copied = text(&there["copies"][0]["report"]["arrived"][0]["to_point_arn"]);
    assert!(copied.contains(AWAY), "{there:#}");
    let again = s.json(&["copy", "shop", "--to", "far"]);
    assert_eq!(
        (&again["copies"][0]["plan"]["missing"], &again["copies"][0]["plan"]["there"]),
        (&json!([]), &json!(1))
    );
    // It is as old as its data, not as its copying.
    let list = s.json(&["list", "shop"]);
    let kept = list["managed"]["databases"][0]["kept"].as_array().expect("kept").clone();
    let shows = |arn: &str| kept.iter().find(|k| k["arn"] == arn).expect("in the list")["taken"].clone();
    assert_eq!(shows(arn), shows(copied));
    assert_eq!(s.aws.count("backup:StartCopyJob"), 2);
    // A job that says COMPLETED is not believed: the vault is looked into. What was removed there is copied again.
    let _ = boto(
        &s.aws,
        &format!(
            "boto3.client('backup', region_name='{AWAY}').delete_recovery_point(BackupVaultName='far', \
             RecoveryPointArn='{copied}')"
        ),
    );
    let there = s.json(&["copy", "shop", "--to", "far"]);
    let copied = text(&there["copies"][0]["report"]["arrived"][0]["to_point_arn"]);
    assert_eq!(s.aws.count("backup:StartCopyJob"), 3, "{there:#}");
    let far = s.json(&["restore", "shop", "--to-id", "from-far", "--from-point", copied, "--yes"]);
    assert_eq!(far["restore"]["database"], "rds://us-west-2/from-far", "{far:#}");

    // Killed while it waits: the same job is gone on with.
    let _ = s.aws.control("config", Some(json!({ "polls": 1000 })));
    let mut run = s.hf.spawn(&["backup", "shop", "--tier", "weekly"]);
    let begun = || s.aws.count("backup:StartBackupJob") == 2 && s.aws.count("backup:DescribeBackupJob") > 5;
    assert!(proc::wait_until(Duration::from_secs(60), begun), "it never began");
    run.kill9();
    let _ = s.aws.control("config", Some(json!({ "polls": 2 })));
    let _ = s.aws.control("settle", Some(json!({})));
    let made = s.json(&["backup", "shop", "--tier", "weekly"]);
    assert_eq!(made["resumed"], true, "{made:#}");
    assert_eq!(s.aws.count("backup:StartBackupJob"), 2);
    // The answer is lost: the same token is the same job.
    let _ = s.aws.control("faults", Some(json!({ "kind": "cut-after", "action": "backup:StartBackupJob" })));
    let _ = s.json(&["backup", "shop", "--tier", "weekly"]);
    let jobs = boto(&s.aws, "print(len(boto3.client('backup').list_backup_jobs()['BackupJobs']))");
    assert_eq!(jobs, "3");
    for state in ["FAILED", "ABORTED", "EXPIRED", "PARTIAL"] {
        let rule = json!({ "kind": "fail", "operation": "backup-job", "resource": "*", "state": state,
                           "message": "the stars were wrong" });
        let _ = s.aws.control("faults", Some(rule));
        let failed = s.refused(&["backup", "shop", "--tier", "weekly"], 1);
        assert!(failed.0.contains(&state.to_lowercase()) && failed.0.contains("stars"), "{failed:?}");
    }
}

/// One snapshot by its name, and no other; whose it is is found.
#[test]
fn one_snapshot_is_copied() {
    let s = site("copy-one", "rds://us-east-1/shop");
    let first = s.json(&["backup", "shop", "--tier", "daily"]);
    another_second();
    let _ = s.json(&["backup", "shop", "--tier", "daily"]);
    let id = text(&first["id"]);
    let done = s.json(&["copy", id, "--to", "west"]);
    let arrived = done["copies"][0]["report"]["arrived"].as_array().expect("arrived");
    assert_eq!(arrived.len(), 1, "{done:#}");
    assert_eq!(arrived[0]["at"]["id"], id);
    assert_eq!(s.databases(AWAY, "snapshots").len(), 1);
    let again = s.json(&["copy", id, "--to", "west", "--db", "shop"]);
    assert_eq!(again["copies"][0]["plan"]["missing"], json!([]), "{again:#}");
    let none = s.refused(&["copy", "nobody-has-this", "--to", "west"], 10);
    assert!(none.0.contains("nobody-has-this"), "{none:?}");
}
/// A continuous point goes to any second of its window, and to none by itself.
#[test]
fn a_continuous_point_to_a_second() {
    let s = site("recover-continuous", "rds://us-east-1/shop");
    let _ = boto(
        &s.aws,
        "backup = boto3.client('backup')\n\
         arn = boto3.client('rds').describe_db_instances()['DBInstances'][0]['DBInstanceArn']\n\
         plan = backup.create_backup_plan(BackupPlan={'BackupPlanName': 'all', 'Rules': [{'RuleName': 'any-second', \
         'TargetBackupVaultName': 'safe', 'ScheduleExpression': 'cron(0 5 * * ? *)', \
         'EnableContinuousBackup': True, 'Lifecycle': {'DeleteAfterDays': 14}}]})['BackupPlanId']\n\
         role = 'arn:aws:iam::123456789012:role/service-role/AWSBackupDefaultServiceRole'\n\
         backup.create_backup_selection(BackupPlanId=plan, BackupSelection={'SelectionName': 'shop', \
         'IamRoleArn': role, 'Resources': [arn]})",
    );
    let _ = s.aws.control("run-plans", Some(json!({})));
    let _ = s.aws.control("settle", Some(json!({})));
    let at = ago(30);
    let ways = s.json(&["recover", "shop", "--scenario", "corruption", "--at", &at]);
    let all = ways["ways"].as_array().expect("ways");
    let point = all.iter().find(|w| w["from"]["from"] == "point").expect("the continuous point");
    let arn = text(&point["from"]["arn"]);
    let before: Timestamp = text(&point["from"]["to"]).parse().expect("a second");
    assert_eq!(at.parse::<Timestamp>().expect("a time").duration_since(before).as_secs(), 1);
    another_second();
    let done = s.recover(&["--scenario", "corruption", "--at", &at, "--way", arn]);
    assert_eq!(done["restore"]["loss_seconds"], 1, "{done:#}");
    let by_hand = ["restore", "shop", "--to-id", "by-hand", "--from-point", arn];
    let when = s.refused(&by_hand, 2);
    assert!(when.0.contains("to which moment"), "{when:?}");
    let far = s.refused(&[&by_hand[..], &["--at", "1999-01-01T00:00:00Z"]].concat(), 13);
    assert!(far.1.contains("--nearest"), "{far:?}");
    let done = s.json(&[&by_hand[..], &["--at", &at, "--yes"]].concat());
    assert_eq!(done["restore"]["moment"], at.as_str(), "{done:#}");
    let made = s.databases(HOME, "instances").into_iter().find(|d| d["id"] == "by-hand");
    let to = made.expect("the new one")["restored_to"].as_f64().expect("a second");
    assert_eq!(to as i64, at.parse::<Timestamp>().expect("a time").as_second());
}
