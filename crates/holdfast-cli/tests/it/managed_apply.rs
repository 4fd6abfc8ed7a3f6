//! `plan` and `apply`: settings, replication, vaults, plans and locks of managed databases brought to the policy,
//! against the strict stand-in for AWS; killed, refused, not confirmed.

use crate::common::error_of;
use crate::managed::{boto, key};
use holdfast_testkit::{Aws, Holdfast, Scratch, proc};
use serde_json::{Value, json};
use std::time::Duration;

const DAY: i64 = 86_400;

struct Site {
    aws: Aws,
    hf: Holdfast,
    scratch: Scratch,
}

impl Site {
    fn new(name: &str, seed: Value) -> Site {
        let scratch = Scratch::new(name);
        let aws = Aws::standin(&scratch);
        let _ = aws.control("seed", Some(seed));
        let hf = Holdfast::new(&scratch, scratch.path("holdfast.toml"))
            .env("HOLDFAST_POLL", "0.05")
            .envs(aws.env());
        Site { aws, hf, scratch }
    }

    fn policy(&self, text: &str) {
        let _ = self.scratch.write("holdfast.toml", format!("version = 1\n{text}"));
    }

    fn plan(&self) -> Value {
        self.hf.run(&["--json", "plan"]).ok().json()["plan"]["databases"][0].clone()
    }

    /// With the code that is expected.
    fn apply(&self, args: &[&str], code: i32) -> Value {
        let all = [&["--json", "apply", "--yes"], args].concat();
        self.hf.run(&all).expect_code(code).json()["apply"]["databases"][0].clone()
    }

    /// How often anything was changed at the provider.
    fn changes(&self) -> u64 {
        let counts = self.aws.control("counts", None);
        let verbs = ["Create", "Modify", "Delete", "Put", "Start", "Stop", "Update", "Tag", "Add"];
        let changing =
            |name: &str| verbs.iter().any(|v| name.split(':').nth(1).is_some_and(|n| n.starts_with(v)));
        let all = counts.as_object().expect("counts").iter();
        all.filter(|(name, _)| changing(name)).filter_map(|(_, n)| n.as_u64()).sum()
    }

    fn settled(&self, what: &str) {
        let before = self.changes();
        let again = self.apply(&[], 0);
        assert_eq!((&again["done"], &again["remaining"]), (&json!([]), &json!([])), "{what}: {again:#}");
        assert_eq!(again["operation"], Value::Null, "{what}");
        assert_eq!(self.changes(), before, "{what}: applied twice it changes nothing");
        let _ = self.hf.run(&["apply", "--yes"]).ok().says("nothing to change");
        assert_eq!(self.plan()["changes"], json!([]), "{what}");
    }

    fn ask(&self, script: &str) -> Value {
        serde_json::from_str(&boto(&self.aws, script)).expect("json")
    }
}

fn instance() -> Value {
    json!({ "instances": [
        { "DBInstanceIdentifier": "shop", "age": 20 * DAY, "StorageEncrypted": true, "BackupRetentionPeriod": 7 }
    ] })
}

fn whats(changes: &Value) -> Vec<&str> {
    changes.as_array().expect("changes").iter().filter_map(|c| c["what"].as_str()).collect()
}

fn change<'a>(plan: &'a Value, what: &str) -> &'a Value {
    let all = plan["changes"].as_array().expect("changes");
    all.iter().find(|c| c["what"] == what).unwrap_or_else(|| panic!("no change of {what}: {plan:#}"))
}

fn rds(pitr: &str, key: &str) -> String {
    format!(
        r#"
[databases.shop]
source = "rds://us-east-1/shop"
policy = "standard"
size = "20GB"
[vaults.west]
url = "snapshots://us-west-2"
kms-key = "{key}"
[policies.standard]
rpo = "2d"
{pitr}
[policies.standard.tiers.daily]
schedule = "0 12 * * *"
keep = {{ last = 2, at-least = 1 }}
[policies.standard.copies.dr]
to = "west"
keep = {{ last = 7, at-least = 1 }}
"#
    )
}

const SHOP: &str = "
d = boto3.client('rds').describe_db_instances(DBInstanceIdentifier='shop')['DBInstances'][0]
west = boto3.client('rds', region_name='us-west-2').describe_db_instance_automated_backups()
print(json.dumps([d['BackupRetentionPeriod'], d['PreferredBackupWindow'], d['PreferredMaintenanceWindow'],
    d['CopyTagsToSnapshot'], d['DeletionProtection'],
    [[b['Status'], b['BackupRetentionPeriod']] for b in west['DBInstanceAutomatedBackups']]]))";

/// What waits for the maintenance window goes on waiting: AWS does all of it by a call that asks for something at once.
#[test]
fn what_waits_for_maintenance_goes_on_waiting() {
    let pending = "rds = boto3.client('rds')\n\
                   d = rds.describe_db_instances(DBInstanceIdentifier='shop')['DBInstances'][0]\n\
                   print(json.dumps([d['DBInstanceClass'], d['PendingModifiedValues'].get('DBInstanceClass'),\
                   d['PreferredBackupWindow'], d['BackupRetentionPeriod']]))";
    let queue = "boto3.client('rds').modify_db_instance(DBInstanceIdentifier='shop', DBInstanceClass='db.t3.large', \
                 ApplyImmediately=False)";
    let s = Site::new("apply-pending", instance());
    let _ = boto(&s.aws, queue);
    let pitr = "pitr = { keep = \"14d\", backup-window = \"08:00-09:00\" }";
    s.policy(&rds(pitr, &key(&s.aws)));
    let done = s.apply(&[], 0);
    assert_eq!(done["remaining"], json!([]), "{done:#}");
    assert_eq!(s.ask(pending), json!(["db.t3.medium", "db.t3.large", "08:00-09:00", 14]));
    // Turning backups on cannot wait, and would take it along.
    let _ = boto(
        &s.aws,
        "boto3.client('rds').modify_db_instance(DBInstanceIdentifier='shop', BackupRetentionPeriod=0, \
         ApplyImmediately=True)",
    );
    let _ = s.aws.control("settle", Some(json!({})));
    let _ = boto(&s.aws, &queue.replace("large", "small"));
    let p = s.plan();
    assert!(!whats(&p["changes"]).contains(&"retention of automated backups"), "{p:#}");
    let left = p["left"].to_string();
    assert!(left.contains("what waits for the maintenance window"), "{p:#}");
}

/// X14, X26: windows in UTC, retention and replication; what differs is found, shown, mended; what loses is asked for.
#[test]
fn settings_of_an_instance() {
    let s = Site::new("apply-rds", instance());
    let key = key(&s.aws);
    let whole = r#"pitr = { keep = "14d", backup-window = "03:00-04:00", maintenance-window = "sun:05:00-sun:06:00", timezone = "America/Toronto", replicate = { to = "west", keep = "7d" } }"#;
    s.policy(&rds(whole, &key));
    let p = s.plan();
    let wanted = [
        "retention of automated backups",
        "copying of tags to snapshots",
        "deletion protection",
        "backup window",
        "maintenance window",
        "replication of automated backups",
    ];
    let mut found = whats(&p["changes"]);
    found.sort_unstable();
    let mut sorted = wanted;
    sorted.sort_unstable();
    assert_eq!(found, sorted, "{p:#}");
    let window = change(&p, "backup window");
    assert_eq!(window["to"], "08:00-09:00 UTC");
    assert!(window["effect"].as_str().expect("effect").contains("04:00-05:00 in summer"), "{window}");
    let keep = change(&p, "retention of automated backups");
    assert_eq!((&keep["from"], &keep["to"]), (&json!("7 days"), &json!("14 days")));
    assert!(keep["cost"].as_str().is_some_and(|c| c.contains('$')), "{keep}");
    assert_eq!((&keep["irreversible"], &keep["loses"]), (&json!(false), &json!(false)));
    let _ = s.hf.run(&["apply", "shop"]).ok().says("nothing was changed");
    assert_eq!(s.aws.count("rds:ModifyDBInstance"), 0, "without --yes it is a plan");

    let done = s.apply(&["shop"], 0);
    assert_eq!(done["done"].as_array().map(Vec::len), Some(6), "{done:#}");
    assert_eq!(s.aws.count("rds:ModifyDBInstance"), 1, "all settings in one call");
    let is = s.ask(SHOP);
    assert_eq!(is, json!([14, "08:00-09:00", "sun:10:00-sun:11:00", true, true, [["replicating", 7]]]));
    s.settled("all settings");

    // Somebody turned two of them.
    let _ = boto(
        &s.aws,
        "boto3.client('rds').modify_db_instance(DBInstanceIdentifier='shop', BackupRetentionPeriod=3, \
         DeletionProtection=False, ApplyImmediately=True)",
    );
    let _ = s.aws.control("settle", Some(json!({})));
    assert_eq!(whats(&s.plan()["changes"]), ["retention of automated backups", "deletion protection"]);
    assert_eq!(s.apply(&[], 0)["done"].as_array().map(Vec::len), Some(2));
    assert_eq!(s.ask(SHOP), is);

    // Fewer days, another window, no replication any more: only what loses nothing is done.
    s.policy(&rds(r#"pitr = { keep = "5d", backup-window = "05:00-06:00" }"#, &key));
    let p = s.plan();
    let keep = change(&p, "retention of automated backups");
    assert_eq!((&keep["irreversible"], &keep["loses"]), (&json!(true), &json!(true)));
    let _ = s.hf.run(&["plan"]).ok().says("wants --allow-loss").says("IRREVERSIBLE");
    let out = s.apply(&[], 3);
    assert_eq!(out["done"].as_array().map(Vec::len), Some(1), "{out:#}");
    assert_eq!(
        whats(&out["remaining"]),
        ["retention of automated backups", "replication of automated backups"]
    );
    let is = s.ask(SHOP);
    assert_eq!((&is[0], &is[1], &is[5]), (&json!(14), &json!("05:00-06:00"), &json!([["replicating", 7]])));
    let _ = s.apply(&["--allow-loss"], 0);
    let is = s.ask(SHOP);
    assert_eq!((&is[0], &is[5]), (&json!(5), &json!([["retained", 7]])));
    s.settled("less");

    // A policy with errors is not applied.
    s.policy(&rds(r#"pitr = { keep = "40d" }"#, &key));
    let (code, message, hint) = error_of(&s.hf.run(&["--json", "apply", "--yes"]).expect_code(2));
    assert!(code == "usage" && message.contains("VE3") && hint.contains("holdfast validate"), "{message}");
    assert_eq!(s.ask(SHOP)[0], 5);
}

/// What AWS would refuse is told in the plan, and does not keep the rest.
#[test]
fn what_cannot_be_is_told() {
    let s = Site::new("apply-blocked", instance());
    let key = key(&s.aws);
    // The maintenance window is the provider's, and overlaps.
    let _ = boto(
        &s.aws,
        "boto3.client('rds').modify_db_instance(DBInstanceIdentifier='shop', \
         PreferredMaintenanceWindow='sun:03:30-sun:04:00', ApplyImmediately=True)",
    );
    let _ = s.aws.control("settle", Some(json!({})));
    s.policy(&rds(r#"pitr = { keep = "14d", backup-window = "03:00-04:00" }"#, &key));
    let out = s.apply(&[], 3);
    let left = out["left"].as_array().expect("left");
    let overlap = left.iter().find(|l| l["what"] == "windows").unwrap_or_else(|| panic!("{out:#}"));
    assert!(
        overlap["why"].as_str().is_some_and(|w| w.contains("overlap") && w.contains("maintenance-window"))
    );
    assert_eq!(s.ask(SHOP)[0], 14, "the rest is done");

    // Being modified: waited for. Stopped: AWS changes nothing.
    s.policy(&rds(r#"pitr = { keep = "20d" }"#, &key));
    let _ = boto(
        &s.aws,
        "boto3.client('rds').modify_db_instance(DBInstanceIdentifier='shop', BackupRetentionPeriod=15, ApplyImmediately=True)",
    );
    let _ = s.apply(&[], 0);
    assert_eq!(s.ask(SHOP)[0], 20);
    let _ = s.aws.control("state", Some(json!({ "id": "shop", "status": "stopped" })));
    s.policy(&rds(r#"pitr = { keep = "21d" }"#, &key));
    let out = s.apply(&[], 3);
    assert!(out["left"].to_string().contains("it is `stopped`"), "{out:#}");
    assert_eq!(s.aws.count("rds:ModifyDBInstance"), 4, "two of them are the test's");

    // Not the database that the policy means.
    let text = rds(r#"pitr = { keep = "20d" }"#, &key);
    s.policy(
        &text.replace("policy = \"standard\"\n", "policy = \"standard\"\nresource-id = \"db-ANOTHER\"\n"),
    );
    let (_, message, _) = error_of(&s.hf.run(&["--json", "apply", "--yes"]).expect_code(13));
    assert!(message.contains("it is another database"), "{message}");
}

/// Two clusters in one policy, of Aurora and DocumentDB: one command.
#[test]
fn settings_of_clusters() {
    let s = Site::new(
        "apply-clusters",
        json!({ "clusters": [
            { "DBClusterIdentifier": "orders", "age": 5 * DAY, "members": 1 },
            { "DBClusterIdentifier": "docs", "Engine": "docdb", "age": 5 * DAY, "members": 1 },
        ] }),
    );
    s.policy(
        r#"
[databases.orders]
source = "aurora://us-east-1/orders"
policy = "standard"
encrypted = false
[databases.docs]
source = "docdb://us-east-1/docs"
policy = "standard"
encrypted = false
[vaults.west]
url = "snapshots://us-west-2"
[policies.standard]
pitr = { keep = "10d", backup-window = "03:00-04:00", maintenance-window = "sun:05:00-sun:06:00" }
[policies.standard.tiers.daily]
schedule = "0 12 * * *"
keep = { last = 2, at-least = 1 }
[policies.standard.copies.dr]
to = "west"
keep = { last = 7, at-least = 1 }
"#,
    );
    let all = s.hf.run(&["--json", "apply", "--yes"]).ok().json();
    let all = all["apply"]["databases"].as_array().expect("databases");
    assert_eq!(all.len(), 2);
    let is = s.ask(
        "
all = [boto3.client(n).describe_db_clusters(DBClusterIdentifier=i)['DBClusters'][0] for n, i in
       (('rds', 'orders'), ('docdb', 'docs'))]
print(json.dumps([[c['BackupRetentionPeriod'], c['PreferredBackupWindow'], c['PreferredMaintenanceWindow'],
    c['DeletionProtection']] for c in all]))",
    );
    let one = json!([10, "03:00-04:00", "sun:05:00-sun:06:00", true]);
    assert_eq!(is, json!([one, one]));
    assert_eq!(s.aws.count("rds:ModifyDBCluster"), 2);
    let again = s.hf.run(&["--json", "apply", "--yes"]).ok().json();
    assert_eq!(again["apply"]["databases"][0]["done"], json!([]), "{again:#}");
    assert_eq!(s.aws.count("rds:ModifyDBCluster"), 2);
    // One that cannot be seen hides no other.
    let _ = boto(
        &s.aws,
        "boto3.client('docdb').modify_db_cluster(DBClusterIdentifier='docs', DeletionProtection=False)",
    );
    let _ = s.aws.control(
        "faults",
        Some(json!({ "kind": "deny", "action": "rds:DescribeDBClusters", "resource": "*orders*", "times": 50 })),
    );
    let out = s.hf.run(&["--json", "plan"]).expect_code(12).json();
    let all = out["plan"]["databases"].as_array().expect("databases");
    assert_eq!(all.iter().filter(|d| d["error"].is_object()).count(), 1, "{out:#}");
    assert!(all.iter().any(|d| d["changes"].as_array().is_some_and(|c| !c.is_empty())), "{out:#}");
}

fn backup(primary: &str, dr: &str, more: &str) -> String {
    format!(
        r#"
[databases.shop]
source = "rds://us-east-1/shop"
policy = "standard"
size = "20GB"
tags = {{ Team = "shop" }}
[vaults.primary]
url = "aws-backup://us-east-1/shop-vault"
backup-role = "arn:aws:iam::123456789012:role/backup"
{primary}
[vaults.dr]
url = "aws-backup://us-west-2/shop-dr"
kms-key = "alias/dr"
{dr}
[policies.standard]
deletion-protection = false
[policies.standard.tiers.daily]
schedule = "0 6 * * *"
timezone = "Europe/Berlin"
vaults = ["primary"]
keep = {{ window = "30d" }}
{more}
[policies.standard.copies.dr]
to = "dr"
of = ["daily"]
keep = {{ window = "60d" }}
"#
    )
}

fn with_backup(name: &str) -> Site {
    let s = Site::new(
        name,
        json!({ "role": "backup", "instances": [
            { "DBInstanceIdentifier": "shop", "age": 20 * DAY, "StorageEncrypted": true }
        ] }),
    );
    let _ = boto(
        &s.aws,
        "k = boto3.client('kms', region_name='us-west-2')\n\
         k.create_alias(AliasName='alias/dr', TargetKeyId=k.create_key()['KeyMetadata']['KeyId'])",
    );
    s
}

const VAULTS: &str = "
out = {}
for region, name in (('us-east-1', 'shop-vault'), ('us-west-2', 'shop-dr')):
    b = boto3.client('backup', region_name=region)
    v = b.describe_backup_vault(BackupVaultName=name)
    points = b.list_recovery_points_by_backup_vault(BackupVaultName=name)['RecoveryPoints']
    out[name] = {'points': [p['Status'] for p in points], 'locked': v['Locked'], 'min': v.get('MinRetentionDays'),
        'max': v.get('MaxRetentionDays'), 'date': v['LockDate'].isoformat() if v.get('LockDate') else None,
        'life': [p.get('Lifecycle', {}).get('DeleteAfterDays') for p in points],
        'key': v['EncryptionKeyArn']}
b = boto3.client('backup')
out['plans'] = []
for p in b.list_backup_plans()['BackupPlansList']:
    full = b.get_backup_plan(BackupPlanId=p['BackupPlanId'])['BackupPlan']
    some = b.list_backup_selections(BackupPlanId=p['BackupPlanId'])['BackupSelectionsList']
    out['plans'].append({'name': full['BackupPlanName'], 'roles': [s['IamRoleArn'] for s in some],
        'rules': {r['RuleName']: [r['ScheduleExpression'], r['ScheduleExpressionTimezone'],
                  r['Lifecycle']['DeleteAfterDays'], len(r.get('CopyActions', []))] for r in full['Rules']}})
print(json.dumps(out))";

/// X6, X8, X10: what the plan of AWS Backup makes when its time comes, and locks in their true meaning.
#[test]
fn aws_backup_and_its_locks() {
    let s = with_backup("apply-backup");
    let governance = r#"lock = { mode = "governance", min = "7d", max = "400d" }"#;
    let compliance = r#"lock = { mode = "compliance", min = "7d", grace = "5d" }"#;
    s.policy(&backup(governance, compliance, ""));
    let p = s.plan();
    assert_eq!(whats(&p["changes"]), ["vault", "vault", "plan", "lock", "lock"], "{p:#}");
    let last = &p["changes"][4];
    assert_eq!((&last["irreversible"], &last["confirm"]), (&json!(true), &json!("dr")));
    let effect = last["effect"].as_str().expect("effect");
    assert!(effect.contains("nobody, root and AWS included") && effect.contains("taken back"), "{effect}");
    let on = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(5 * 24);
    assert!(effect.contains(&on.strftime("%Y-%m-%d").to_string()), "the date is shown before: {effect}");
    assert!(change(&p, "plan")["cost"].as_str().is_some_and(|c| c.contains('$')), "{p:#}");
    let stops = p["changes"][3]["effect"].as_str().expect("effect");
    assert!(stops.contains("accidents, not attackers"), "{stops}");

    // Everything but what nobody confirmed.
    let out = s.apply(&[], 3);
    assert_eq!(out["done"].as_array().map(Vec::len), Some(4), "{out:#}");
    assert_eq!(out["remaining"][0]["confirm"], "dr", "{out:#}");
    let is = s.ask(VAULTS);
    assert_eq!((&is["shop-vault"]["min"], &is["shop-vault"]["date"]), (&json!(7), &Value::Null), "{is:#}");
    assert_eq!(
        (&is["shop-dr"]["locked"], &is["plans"][0]["name"]),
        (&json!(false), &json!("holdfast-rds-shop"))
    );
    assert_eq!(is["plans"][0]["rules"]["daily"], json!(["cron(0 6 * * ? *)", "Europe/Berlin", 30, 1]));
    assert_eq!(is["plans"][0]["roles"], json!(["arn:aws:iam::123456789012:role/backup"]));
    assert!(is["shop-dr"]["key"].as_str().is_some_and(|k| k.contains("us-west-2")), "{is:#}");
    let (_, message, _) =
        error_of(&s.hf.run(&["--json", "apply", "--yes", "--confirm-lock", "nowhere"]).expect_code(2));
    assert!(message.contains("no vault `nowhere`"), "{message}");

    // It works by itself: a point and its copy come with the time.
    let _ = s.aws.control("advance", Some(json!({ "seconds": 26 * 3600 })));
    for _ in 0..3 {
        let _ = s.aws.control("settle", Some(json!({})));
    }
    let is = s.ask(VAULTS);
    for (vault, days) in [("shop-vault", 30), ("shop-dr", 60)] {
        let points = is[vault]["points"].as_array().expect("points");
        assert!(!points.is_empty() && points.iter().all(|p| p == "COMPLETED"), "{is:#}");
        assert_eq!(is[vault]["life"][0], days, "{is:#}");
    }

    let out = s.apply(&["--confirm-lock", "dr"], 0);
    assert_eq!(whats(&out["done"]), ["lock"]);
    let is = s.ask(VAULTS);
    let date = is["shop-dr"]["date"].as_str().expect("a date").to_string();
    let later = on + jiff::SignedDuration::from_hours(26);
    assert!(date.starts_with(&later.strftime("%Y-%m-%d").to_string()), "{date}");
    s.settled("locked");
    assert_eq!(s.ask(VAULTS)["shop-dr"]["date"], json!(date), "the date does not move");

    // Before its date it can be taken back, if that is said.
    s.policy(&backup(governance, "", ""));
    let out = s.apply(&[], 3);
    assert_eq!((&out["remaining"][0]["what"], &out["remaining"][0]["loses"]), (&json!("lock"), &json!(true)));
    // Also if it is what an objective of the policy asks for: time runs out.
    let promised = "[policies.standard.objectives.malicious]\nrpo = \"30d\"\nrto = \"4h\"\n";
    s.policy(&backup(governance, "", promised));
    let (_, message, hint) = error_of(&s.hf.run(&["--json", "apply", "--yes"]).expect_code(2));
    assert!(message.contains("VE9") && hint.contains("--allow-loss"), "{message} {hint}");
    let out = s.hf.run(&["--json", "apply", "--yes", "--allow-loss"]).ok();
    assert!(out.stderr.contains("VE9"), "{}", out.stderr);
    assert_eq!(s.ask(VAULTS)["shop-dr"]["locked"], false);
    // A higher minimum holds more; a lower one holds less.
    s.policy(&backup(&governance.replace("7d", "10d"), "", ""));
    let _ = s.apply(&[], 0);
    s.policy(&backup(&governance.replace("7d", "5d"), "", ""));
    let _ = s.apply(&[], 3);
    assert_eq!(s.ask(VAULTS)["shop-vault"]["min"], 10);
}

/// After its date nobody changes a lock: it is told, and nothing is tried.
#[test]
fn a_lock_whose_date_is_past() {
    let s = with_backup("apply-immutable");
    let compliance = r#"lock = { mode = "compliance", min = "7d", grace = "5d" }"#;
    s.policy(&backup("", compliance, ""));
    let _ = s.apply(&["--confirm-lock", "dr"], 0);
    let past = json!({ "locks": { "vault": "shop-dr", "min": 7, "date_age": DAY }, "region": "us-west-2" });
    let _ = s.aws.control("seed", Some(past));
    s.settled("immutable");
    s.policy(&backup("", &compliance.replace("7d", "20d"), ""));
    let before = s.aws.count("backup:PutBackupVaultLockConfiguration");
    let out = s.apply(&["--confirm-lock", "dr", "--allow-loss"], 3);
    assert!(out["left"].to_string().contains("nobody can change it any more, AWS included"), "{out:#}");
    s.policy(&backup("", "", ""));
    let out = s.apply(&["--allow-loss"], 0);
    assert!(out["left"].to_string().contains("nobody can remove it, AWS included"), "{out:#}");
    assert_eq!(s.aws.count("backup:PutBackupVaultLockConfiguration"), before);
    assert_eq!(s.aws.count("backup:DeleteBackupVaultLockConfiguration"), 0);
}

/// Drift of plans and selections; what other people made is used or told of, and stays as it is.
#[test]
fn plans_and_selections() {
    let s = with_backup("apply-plans");
    let theirs = s.ask(
        "
b = boto3.client('backup')
b.create_backup_vault(BackupVaultName='shop-vault', BackupVaultTags={'owner': 'them'})
plan = b.create_backup_plan(BackupPlan={'BackupPlanName': 'theirs', 'Rules': [
    {'RuleName': 'all', 'TargetBackupVaultName': 'shop-vault', 'Lifecycle': {'DeleteAfterDays': 3}}]})['BackupPlanId']
b.create_backup_selection(BackupPlanId=plan, BackupSelection={'SelectionName': 'all',
    'IamRoleArn': 'arn:aws:iam::123456789012:role/backup', 'Resources': ['arn:aws:rds:*:*:db:*']})
print(json.dumps(plan))",
    );
    s.policy(&backup("", "", ""));
    let out = s.apply(&[], 0);
    let left = out["left"].to_string();
    assert!(left.contains("plan `theirs` makes points of this database too"), "{left}");
    assert!(left.contains("holdfast did not make it (0 points are in it)"), "{left}");
    s.settled("beside theirs");

    // The role of the selection was changed by hand, and the rule: the new selection is there before the old one goes.
    let _ = s.aws.control("seed", Some(json!({ "role": "other" })));
    let _ = boto(
        &s.aws,
        "
b = boto3.client('backup')
plan = [p['BackupPlanId'] for p in b.list_backup_plans()['BackupPlansList'] if p['BackupPlanName'] == 'holdfast-rds-shop'][0]
one = b.list_backup_selections(BackupPlanId=plan)['BackupSelectionsList'][0]['SelectionId']
body = b.get_backup_selection(BackupPlanId=plan, SelectionId=one)['BackupSelection']
b.delete_backup_selection(BackupPlanId=plan, SelectionId=one)
b.create_backup_selection(BackupPlanId=plan, BackupSelection={**body, 'IamRoleArn': 'arn:aws:iam::123456789012:role/other'})
rules = b.get_backup_plan(BackupPlanId=plan)['BackupPlan']
rules['Rules'][0]['Lifecycle'] = {'DeleteAfterDays': 2}
rules['Rules'][0].pop('RuleId')
b.update_backup_plan(BackupPlanId=plan, BackupPlan=rules)",
    );
    let p = s.plan();
    assert_eq!(whats(&p["changes"]), ["rules", "selection", "selection"], "{p:#}");
    let rules = change(&p, "rules");
    assert!(rules["from"].as_str().is_some_and(|t| t.contains("kept 2 days")), "{rules}");
    assert!(rules["to"].as_str().is_some_and(|t| t.contains("kept 30 days")), "{rules}");
    let seen = s.aws.control("requests", None).as_array().map_or(0, Vec::len);
    let _ = s.apply(&[], 0);
    let all = s.aws.control("requests", None);
    let order: Vec<&str> = all.as_array().expect("requests")[seen..]
        .iter()
        .filter_map(|r| r["action"].as_str())
        .filter(|a| a.ends_with("BackupSelection") && !a.contains("Get"))
        .collect();
    assert_eq!(order, ["CreateBackupSelection", "DeleteBackupSelection"]);
    s.settled("mended");

    // A tier more is a rule more in the same plan.
    let weekly = "[policies.standard.tiers.weekly]\nschedule = \"0 8 * * 0\"\nvaults = [\"primary\"]\nkeep = { window = \"90d\" }";
    s.policy(&backup("", "", weekly));
    assert_eq!(whats(&s.apply(&[], 0)["done"]), ["rules"]);
    let is = s.ask(VAULTS);
    let own = is["plans"]
        .as_array()
        .expect("plans")
        .iter()
        .find(|p| p["name"] == "holdfast-rds-shop")
        .expect("ours");
    assert_eq!(own["rules"].as_object().map(serde_json::Map::len), Some(2), "{is:#}");

    // AWS Backup is not wanted any more: the end of protection has to be said.
    let plain = rds("", "alias/dr");
    s.policy(&plain.replace("rpo = \"2d\"", "rpo = \"2d\"\ndeletion-protection = false"));
    let out = s.apply(&[], 3);
    assert_eq!(whats(&out["remaining"]), ["selection"], "{out:#}");
    let _ = s.apply(&["--allow-loss"], 0);
    let is = s.ask(VAULTS);
    let plans = is["plans"].as_array().expect("plans");
    let roles = |name: &str| plans.iter().find(|p| p["name"] == name).map(|p| p["roles"].clone());
    assert_eq!(roles("holdfast-rds-shop"), Some(json!([])));
    assert!(
        theirs.is_string() && roles("theirs").is_some_and(|r| r.as_array().is_some_and(|r| r.len() == 1))
    );
}

/// Killed in the middle of one step after the other, the same command goes on, and nothing is made twice.
#[test]
fn killed_at_each_step() {
    let s = with_backup("apply-killed");
    let text = backup(
        r#"lock = { mode = "governance", min = "7d" }"#,
        "",
        "[policies.standard.pitr]\nkeep = \"14d\"\nreplicate = { to = \"west\", keep = \"7d\" }\n",
    );
    s.policy(&format!(
        "{text}[vaults.west]\nurl = \"snapshots://us-west-2\"\nkms-key = \"{}\"\n",
        key(&s.aws)
    ));
    let mut killed = 0;
    for action in [
        "rds:ModifyDBInstance",
        "rds:StartDBInstanceAutomatedBackupsReplication",
        "backup:CreateBackupVault",
        "backup:CreateBackupPlan",
        "backup:CreateBackupSelection",
        "backup:PutBackupVaultLockConfiguration",
    ] {
        let _ = s.aws.control("faults", Some(json!({ "kind": "delay", "action": action, "seconds": 5 })));
        let before = s.aws.count(action);
        let mut run = s.hf.spawn(&["apply", "--yes"]);
        let there = || {
            let log = std::fs::read_to_string(s.scratch.path("state/changes.log")).unwrap_or_default();
            let begun = log.lines().filter(|l| l.contains(action) && l.contains("\"attempted\"")).count();
            begun > killed_before(&log, action) || s.aws.count(action) > before
        };
        assert!(
            proc::wait_until(Duration::from_secs(60), there),
            "it never came to {action}: {}",
            run.output()
        );
        run.kill9();
        killed += 1;
        // What was sent may still arrive.
        let _ = proc::wait_until(Duration::from_secs(5), || s.aws.count(action) > before);
    }
    assert_eq!(killed, 6);
    let out = s.apply(&[], 0);
    assert_eq!(out["resumed"], true, "{out:#}");
    s.settled("after all");
    let is = s.ask(VAULTS);
    assert_eq!(is["plans"].as_array().map(Vec::len), Some(1), "{is:#}");
    assert_eq!(is["plans"][0]["roles"].as_array().map(Vec::len), Some(1), "{is:#}");
    assert_eq!((&is["shop-vault"]["locked"], &s.ask(SHOP)[0]), (&json!(true), &json!(14)));
    let left = std::fs::read_dir(s.scratch.path("state/operations")).expect("operations");
    let open =
        left.filter(|e| e.as_ref().is_ok_and(|e| e.path().extension().is_some_and(|x| x == "json"))).count();
    assert_eq!(open, 0, "no operation is left open");
}

/// Attempts of an action whose end is known: those are not the one that is under way.
fn killed_before(log: &str, action: &str) -> usize {
    let of = |word: &str| log.lines().filter(|l| l.contains(action) && l.contains(word)).count();
    of("\"done\"") + of("\"adopted\"") + of("\"failed\"")
}

/// Which action, on what, and whose policy has it.
#[test]
fn missing_permissions_are_named() {
    let s = with_backup("apply-denied");
    s.policy(&backup(
        r#"lock = { mode = "governance", min = "7d" }"#,
        "",
        "[policies.standard.pitr]\nkeep = \"14d\"\n",
    ));
    for (action, args) in [
        ("rds:ModifyDBInstance", &["--json", "apply", "--yes"][..]),
        ("backup:CreateBackupVault", &["--json", "apply", "--yes"]),
        ("backup:CreateBackupSelection", &["--json", "apply", "--yes"]),
        ("backup:PutBackupVaultLockConfiguration", &["--json", "apply", "--yes"]),
    ] {
        let _ = s.aws.control("faults", Some(json!({ "kind": "deny", "action": action, "times": 1 })));
        let (_, message, hint) = error_of(&s.hf.run(args).expect_code(12));
        assert!(message.contains(action) && message.contains("arn:aws:"), "{message}");
        assert!(hint.contains("holdfast iam --role configure"), "{hint}");
    }
    let _ = s.apply(&[], 0);
    // What takes protection away is in another role.
    s.policy(&backup("", "", "[policies.standard.pitr]\nkeep = \"14d\"\n"));
    let action = "backup:DeleteBackupVaultLockConfiguration";
    let _ = s.aws.control("faults", Some(json!({ "kind": "deny", "action": action, "times": 1 })));
    let args = ["--json", "apply", "--yes", "--allow-loss"];
    let (_, message, hint) = error_of(&s.hf.run(&args).expect_code(12));
    assert!(message.contains(action) && hint.contains("holdfast iam --role delete"), "{message} {hint}");
}

/// The settings against plain moto: we do not only agree with ourselves.
#[test]
fn settings_against_moto() {
    let scratch = Scratch::new("apply-moto");
    let aws = Aws::moto(&scratch);
    let _ = boto(
        &aws,
        "boto3.client('rds').create_db_instance(DBInstanceIdentifier='shop', DBInstanceClass='db.t3.medium', \
         Engine='postgres', AllocatedStorage=20, MasterUsername='u', MasterUserPassword='correct-horse', \
         BackupRetentionPeriod=7)",
    );
    let pitr = r#"pitr = { keep = "14d", backup-window = "03:00-04:00", maintenance-window = "sun:05:00-sun:06:00" }"#;
    let text = rds(pitr, "alias/west");
    let path = scratch.write("holdfast.toml", format!("version = 1\n{text}"));
    let hf = Holdfast::new(&scratch, &path).env("HOLDFAST_POLL", "0.05").envs(aws.env());
    let done = hf.run(&["--json", "apply", "--yes"]).ok().json();
    assert!(done["apply"]["databases"][0]["done"].as_array().is_some_and(|d| d.len() >= 4), "{done:#}");
    let is = boto(
        &aws,
        "d = boto3.client('rds').describe_db_instances(DBInstanceIdentifier='shop')['DBInstances'][0]\n\
         print(json.dumps([d['BackupRetentionPeriod'], d['PreferredBackupWindow'], d['PreferredMaintenanceWindow'], \
         d['DeletionProtection']]))",
    );
    let is: Value = serde_json::from_str(&is).expect("json");
    assert_eq!(is, json!([14, "03:00-04:00", "sun:05:00-sun:06:00", true]));
    let again = hf.run(&["--json", "apply", "--yes"]).ok().json();
    assert_eq!(again["apply"]["databases"][0]["done"], json!([]), "{again:#}");
}
