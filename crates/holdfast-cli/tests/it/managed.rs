//! Databases that a provider runs, against the strict stand-in for AWS: snapshots, copies, retention, what is shown,
//! cutover; killed, refused, cut off.

use crate::common::error_of;
use holdfast_testkit::{Aws, Holdfast, Scratch, proc, tools};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) const HOME: &str = "us-east-1";
pub(crate) const AWAY: &str = "us-west-2";

pub(crate) struct Plane {
    pub(crate) aws: Aws,
    pub(crate) hf: Holdfast,
    pub(crate) scratch: Scratch,
}

const POLICY: &str = r#"
version = 1
[databases.shop]
source = "SOURCE"
policy = "standard"
snapshot-id = "shop-manual-%Y%m%d-%H%M%S"
[vaults.west]
url = "snapshots://us-west-2"
kms-key = "KEY"
[policies.standard]
rpo = "1d"
rto = "4h"
pitr = { keep = "7d" }
tags = { Application = "shop" }
[policies.standard.tiers.daily]
schedule = "0 12 * * *"
keep = { last = 2, at-least = 1 }
[policies.standard.copies.dr]
to = "west"
keep = { last = 7, at-least = 1 }
"#;

/// Prepares, or looks at, what our client has no command for.
pub(crate) fn boto(aws: &Aws, script: &str) -> String {
    let mut command = std::process::Command::new(tools::python());
    command.args(["-c", &format!("import boto3, json\n{script}")]).envs(aws.env());
    let done = proc::run(&mut command, &[], Duration::from_secs(300));
    assert_eq!(done.code, 0, "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_string()
}

/// A key in the other region, as a customer has one.
pub(crate) fn key(aws: &Aws) -> String {
    boto(aws, &format!("print(boto3.client('kms', region_name='{AWAY}').create_key()['KeyMetadata']['Arn'])"))
}

pub(crate) fn plane(name: &str, source: &str, more: &str) -> Plane {
    let scratch = Scratch::new(name);
    let aws = Aws::standin(&scratch);
    let seed = match source.starts_with("rds") {
        true => json!({ "instances": [
            { "DBInstanceIdentifier": "shop", "age": 864_000, "StorageEncrypted": true }
        ] }),
        false => json!({ "clusters": [
            { "DBClusterIdentifier": "shop", "age": 864_000, "members": 1, "StorageEncrypted": true }
        ] }),
    };
    let _ = aws.control("seed", Some(seed));
    let text = POLICY.replace("SOURCE", source).replace("KEY", &key(&aws)) + more;
    let path = scratch.write("holdfast.toml", &text);
    let hf = Holdfast::new(&scratch, &path).env("HOLDFAST_POLL", "0.05").envs(aws.env());
    Plane { aws, hf, scratch }
}

impl Plane {
    pub(crate) fn backup(&self, args: &[&str]) -> Value {
        let all = [&["--json", "backup", "shop"], args].concat();
        self.hf.run(&all).ok().json()
    }

    fn kept(&self) -> Vec<Value> {
        let all = self.hf.run(&["--json", "list", "shop"]).ok().json();
        all["managed"]["databases"][0]["kept"].as_array().expect("kept").clone()
    }

    /// Identifiers of finished manual snapshots of a region, as the provider has them.
    pub(crate) fn snapshots(&self, region: &str) -> Vec<String> {
        let state = self.aws.control("state", None);
        let mut out = Vec::new();
        for account in state["regions"].as_object().expect("accounts").values() {
            let Some(tables) = account[region]["rds"].as_object() else { continue };
            for rows in ["snapshots", "cluster_snapshots"].iter().filter_map(|t| tables.get(*t)?.as_array()) {
                // Automated ones have a colon in their names.
                let manual = rows.iter().filter_map(|r| r["id"].as_str()).filter(|id| !id.contains(':'));
                out.extend(manual.map(str::to_string));
            }
        }
        out.sort();
        out
    }
}

fn from_backup_to_copy(name: &str, source: &str) {
    let p = plane(name, source, "");
    // Somebody else's, whose name sorts before and after ours.
    let _ = p.aws.control(
        "seed",
        Some(json!({ "snapshots": { "source": "shop", "count": 3, "prefix": "shop-daily" } })),
    );
    let others = p.snapshots(HOME);
    assert_eq!(others.len(), 3, "{others:?}");

    let made = p.backup(&["--note", "before \"v2\"", "--tag", "Ticket=OPS-1"]);
    let id = made["id"].as_str().expect("id");
    assert!(id.starts_with("shop-manual-20"), "{id}");
    assert_eq!((&made["status"], &made["encrypted"]), (&json!("succeeded"), &json!(true)));
    assert_eq!(made["tags"]["Ticket"], "OPS-1");
    assert_eq!(made["tags"]["Application"], "shop");
    assert!(p.snapshots(HOME).contains(&id.to_string()));

    // Three of a tier that keeps two; the names have seconds in them.
    let mut daily = Vec::new();
    for _ in 0..3 {
        daily.push(p.backup(&["--tier", "daily"])["id"].as_str().expect("id").to_string());
        std::thread::sleep(Duration::from_millis(1100));
    }
    let plan = p.hf.run(&["--json", "copy", "shop", "--plan"]).ok().json();
    let missing = plan["copies"][0]["plan"]["missing"].as_array().expect("missing");
    assert_eq!(missing.len(), 4, "{plan:#}");
    assert!(p.snapshots(AWAY).is_empty());
    let copy = &plan["copies"][0];
    let (gib, dollars) = (copy["plan"]["transfer_gib"].as_u64(), copy["transfer_dollars"].as_f64());
    assert!(dollars.is_some_and(|d| (d > 0.0) == (gib > Some(0))), "{plan:#}");
    assert_eq!(plan["copies"][0]["newest_there"], Value::Null, "{plan:#}");
    let done = p.hf.run(&["--json", "copy", "shop"]).ok().json();
    assert_eq!(done["copies"][0]["report"]["arrived"].as_array().map(Vec::len), Some(4), "{done:#}");
    // What would be lost with the region is counted after it has arrived.
    assert!(done["copies"][0]["behind_seconds"].as_i64().is_some_and(|s| s > 0), "{done:#}");
    assert_eq!(p.snapshots(AWAY).len(), 4);
    // Nothing is copied twice.
    let again = p.hf.run(&["--json", "copy", "shop"]).ok().json();
    assert_eq!(again["copies"][0]["plan"]["missing"], json!([]), "{again:#}");

    let plan = p.hf.run(&["--json", "expire", "shop"]).ok().json();
    let home = plan["regions"].as_array().expect("regions").iter().find(|r| r["region"] == HOME);
    let lines = home.expect("the home region")["snapshots"].as_array().expect("lines").clone();
    assert_eq!(lines.len(), 4, "only what holdfast made is looked at: {plan:#}");
    let gone: Vec<&str> =
        lines.iter().filter(|l| l["keep"] == false).filter_map(|l| l["id"].as_str()).collect();
    assert_eq!(gone, [daily[0].as_str()]);
    assert!(p.snapshots(HOME).contains(&daily[0]), "a plan changes nothing");
    let _ = p.hf.run(&["expire", "shop", "--apply"]).ok();
    let left = p.snapshots(HOME);
    assert!(
        !left.contains(&daily[0]) && left.contains(&daily[2]) && left.contains(&id.to_string()),
        "{left:?}"
    );
    assert!(others.iter().all(|o| left.contains(o)), "other people's snapshots are never touched: {left:?}");

    let kept = p.kept();
    let copies = kept.iter().filter(|k| k["kind"] == "copy" && k["region"] == AWAY).count();
    assert_eq!(copies, 4, "{kept:#?}");
    // Of the moment that the data shows, not of the copy's own making.
    let original =
        kept.iter().find(|k| k["id"] == daily[2].as_str() && k["region"] == HOME).expect("original");
    let copy = kept.iter().find(|k| k["id"] == daily[2].as_str() && k["region"] == AWAY).expect("copy");
    assert_eq!(original["taken"], copy["taken"]);
    let _ = p.hf.run(&["list"]).ok().says("us-west-2");
}

#[test]
fn snapshots_of_an_instance() {
    from_backup_to_copy("managed-rds", "rds://us-east-1/shop");
}

#[test]
fn snapshots_of_an_aurora_cluster() {
    from_backup_to_copy("managed-aurora", "aurora://us-east-1/shop");
}

/// X20: killed while it waits, the same command finds its snapshot again and makes no second one.
#[test]
fn killed_while_it_waits() {
    let p = plane("managed-killed", "rds://us-east-1/shop", "");
    let _ = p.aws.control("config", Some(json!({ "polls": { "snapshot": 1000 } })));
    let mut run = p.hf.spawn(&["backup", "shop", "--tier", "daily"]);
    let seen = proc::wait_until(Duration::from_secs(30), || p.aws.count("rds:CreateDBSnapshot") == 1);
    assert!(seen, "it never began");
    run.kill9();
    let _ = p.aws.control("config", Some(json!({ "polls": { "snapshot": 2 } })));
    let _ = p.aws.control("settle", Some(json!({})));
    let made = p.backup(&["--tier", "daily"]);
    assert_eq!(made["resumed"], true, "{made:#}");
    assert_eq!(p.snapshots(HOME).len(), 1);
    // It is over: the next one is another.
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(p.backup(&["--tier", "daily"])["resumed"], false);
    assert_eq!(p.snapshots(HOME).len(), 2);
}

/// The reply is lost after the snapshot was begun: it is adopted, not made again.
#[test]
fn the_network_is_cut_after_the_call() {
    let p = plane("managed-cut", "rds://us-east-1/shop", "");
    let _ = p.aws.control("faults", Some(json!({ "kind": "cut-after", "action": "rds:CreateDBSnapshot" })));
    let _ = p.backup(&["--tier", "daily"]);
    assert_eq!(p.snapshots(HOME).len(), 1);
    let log = std::fs::read_to_string(p.scratch.path("state/changes.log")).expect("the log of changes");
    assert!(log.lines().any(|l| l.contains("rds:CreateDBSnapshot") && l.contains("\"attempted\"")), "{log}");
}

/// X5, X38: a snapshot that fails is no success, whatever else there is.
#[test]
fn a_snapshot_that_fails_is_told_and_removed() {
    let p = plane("managed-fails", "rds://us-east-1/shop", "");
    let _ =
        p.aws.control("faults", Some(json!({ "kind": "fail", "operation": "snapshot", "resource": "*" })));
    let out = p.hf.run(&["--json", "backup", "shop"]).expect_code(1);
    let (_, message, hint) = error_of(&out);
    assert!(message.contains("failed") && !hint.is_empty(), "{message}");
    assert!(p.snapshots(HOME).is_empty(), "a failed one counts against the quota");
}

#[test]
fn missing_permissions_are_named() {
    let p = plane("managed-denied", "rds://us-east-1/shop", "");
    let _ = p
        .aws
        .control("faults", Some(json!({ "kind": "deny", "action": "rds:CreateDBSnapshot", "times": 9 })));
    let out = p.hf.run(&["--json", "backup", "shop"]).expect_code(12);
    let (_, message, hint) = error_of(&out);
    assert!(message.contains("rds:CreateDBSnapshot"), "{message}");
    assert!(hint.contains("holdfast iam --role backup"), "{hint}");
    let none = Holdfast::new(&p.scratch, p.scratch.path("holdfast.toml"))
        .env("AWS_ENDPOINT_URL", p.aws.endpoint())
        .env("AWS_EC2_METADATA_DISABLED", "true");
    let (_, message, hint) = error_of(&none.run(&["--json", "backup", "shop"]).expect_code(12));
    assert!(message.contains("credentials") && hint.contains("AWS_PROFILE"), "{message} {hint}");
    // Who may see nothing is told so, and not that there is nothing.
    let (_, message, hint) = error_of(&none.run(&["--json", "list"]).expect_code(12));
    assert!(message.contains("credentials") && hint.contains("AWS_PROFILE"), "{message} {hint}");
}

#[test]
fn a_region_that_is_down_hides_no_other() {
    let p = plane("managed-region", "rds://us-east-1/shop", "");
    let _ = p.backup(&[]);
    let _ = p.aws.control(
        "faults",
        Some(json!({ "kind": "deny", "action": "rds:Describe*", "region": AWAY, "times": 1000 })),
    );
    let out = p.hf.run(&["--json", "list", "shop"]).expect_code(3).json();
    let managed = &out["managed"];
    assert!(!managed["databases"][0]["kept"].as_array().expect("kept").is_empty());
    let failures = managed["failures"].as_array().expect("failures");
    assert!(failures.iter().any(|f| f[0] == AWAY), "{managed:#}");
    // `apply` and others refuse a database of another id than the policy's: here it can be read.
    assert!(managed["databases"][0]["resource_id"].as_str().is_some_and(|id| id.starts_with("db-")));
    let judged = p.hf.run(&["--json", "expire", "shop"]).expect_code(3).json();
    assert_eq!(judged["regions"][0]["region"], HOME, "{judged:#}");
    assert_eq!(judged["failures"][0]["region"], AWAY, "{judged:#}");
    let _ = p
        .aws
        .control("faults", Some(json!({ "kind": "cut-before", "action": "rds:Describe*", "times": 1000 })));
    let hf = Holdfast::new(&p.scratch, p.scratch.path("holdfast.toml"))
        .env("AWS_MAX_ATTEMPTS", "1")
        .envs(p.aws.env());
    let out = hf.run(&["list", "shop"]).expect_code(3);
    assert!(out.stdout.contains("nothing of it was seen") && !out.stdout.contains("nothing is kept"));
}

/// Names that are taken, notes that a tag does not take, a source that is not ready: told, not hidden.
#[test]
fn a_backup_says_what_it_could_not_do() {
    let p = plane("managed-names-taken", "rds://us-east-1/shop", "");
    // The names of the next seconds are taken.
    let script = "from datetime import datetime, timedelta, timezone\n\
                  rds, now = boto3.client('rds'), datetime.now(timezone.utc)\n\
                  for i in range(90):\n\
                  \x20   name = (now + timedelta(seconds=i)).strftime('shop-manual-%Y%m%d-%H%M%S')\n\
                  \x20   rds.copy_db_snapshot(SourceDBSnapshotIdentifier='first-00000', TargetDBSnapshotIdentifier=name)";
    let quotas = json!({ "copies-in-flight": 200, "manual-snapshots": 200 });
    let _ = p.aws.control("config", Some(json!({ "polls": 0, "quotas": quotas })));
    let _ = p
        .aws
        .control("seed", Some(json!({ "snapshots": { "source": "shop", "count": 1, "prefix": "first-" } })));
    let _ = boto(&p.aws, script);
    let out = p.hf.run(&["--json", "backup", "shop", "--note", "a & b"]).ok();
    let id = out.json()["id"].as_str().expect("id").to_string();
    assert!(id.ends_with("-2"), "the next free name is taken: {id}");
    assert!(out.stderr.contains("kept as `a _ b`"), "{}", out.stderr);
    let (_, _, hint) = error_of(&p.hf.run(&["--json", "backup", "shop", "--keep-for", "0d"]).expect_code(2));
    assert!(hint.contains("--keep-for 30d"), "{hint}");

    let _ = p.aws.control("config", Some(json!({ "polls": 1000 })));
    let _ = boto(
        &p.aws,
        "boto3.client('rds').modify_db_instance(DBInstanceIdentifier='shop', BackupRetentionPeriod=9, \
         ApplyImmediately=True)",
    );
    let made = p.aws.count("rds:CreateDBSnapshot");
    let (_, message, hint) =
        error_of(&p.hf.run(&["--json", "backup", "shop", "--wait-for", "5s"]).expect_code(1));
    assert!(message.contains("modifying") && hint.contains("nothing was begun"), "{message} {hint}");
    assert_eq!(p.aws.count("rds:CreateDBSnapshot"), made);
}

/// A zone with a record, and a secret, that lead to `shop`; `shop-new` beside it.
fn stage(name: &str, health: &str, quarantine: &str) -> Plane {
    let p = plane(name, "rds://us-east-1/shop", "");
    let _ = p.aws.control("seed", Some(json!({ "instances": [{ "DBInstanceIdentifier": "shop-new" }] })));
    let zone = boto(
        &p.aws,
        r#"
host = boto3.client('rds').describe_db_instances(DBInstanceIdentifier='shop')['DBInstances'][0]['Endpoint']['Address']
r53 = boto3.client('route53')
zone = r53.create_hosted_zone(Name='example.com', CallerReference='1')['HostedZone']['Id'].split('/')[-1]
record = {'Name': 'db.example.com', 'Type': 'CNAME', 'TTL': 60, 'ResourceRecords': [{'Value': host}]}
r53.change_resource_record_sets(HostedZoneId=zone,
    ChangeBatch={'Changes': [{'Action': 'CREATE', 'ResourceRecordSet': record}]})
boto3.client('secretsmanager').create_secret(Name='shop/db',
    SecretString=json.dumps({'host': host, 'port': 5432, 'password': 'hush'}))
print(zone)
"#,
    );
    let path = p.scratch.path("holdfast.toml");
    let text = std::fs::read_to_string(&path).expect("policy").replace(
        "[vaults.west]",
        &format!(
            r#"[[databases.shop.cutover]]
secret = "shop/db"
keys = {{ host = "{{endpoint}}", port = "{{port}}" }}
[[databases.shop.cutover]]
command = ["sh", "-c", "echo to $HOLDFAST_NEW_ID >> moves"]
undo = ["sh", "-c", "echo back >> moves"]
[[databases.shop.cutover]]
route53 = "{zone}"
record = "db.example.com"
health = "{}{health}"
health-within = "3s"
[[databases.shop.cutover]]
rename = true
[vaults.west]"#,
            p.aws.endpoint()
        ),
    );
    let text = text.replace("tags = {", &format!("quarantine = \"{quarantine}\"\ntags = {{"));
    std::fs::write(&path, text).expect("write");
    p
}

/// Host of the secret, whether its port is a number, target of the record, identifiers of all instances.
fn where_it_leads(p: &Plane) -> Value {
    let text = boto(
        &p.aws,
        r#"
rds, r53 = boto3.client('rds'), boto3.client('route53')
zone = r53.list_hosted_zones()['HostedZones'][0]['Id'].split('/')[-1]
sets = r53.list_resource_record_sets(HostedZoneId=zone)['ResourceRecordSets']
secret = json.loads(boto3.client('secretsmanager').get_secret_value(SecretId='shop/db')['SecretString'])
print(json.dumps({
    'secret': secret,
    'record': [s['ResourceRecords'][0]['Value'] for s in sets if s['Type'] == 'CNAME'][0],
    'instances': {i['DBInstanceIdentifier']: [i['DbiResourceId'], i.get('Endpoint', {}).get('Address')]
                  for i in rds.describe_db_instances()['DBInstances']},
}))
"#,
    );
    serde_json::from_str(&text).expect("json")
}

/// X9, X32: every step, then the old one stays in quarantine; deleting it takes a final snapshot.
#[test]
fn cutover_and_the_end_of_the_old_one() {
    let p = stage("managed-cutover", "/_standin/clock", "1s");
    let before = where_it_leads(&p);
    let plan = p.hf.run(&["--json", "cutover", "shop", "--to-id", "shop-new"]).ok().json();
    assert_eq!(plan["plan"]["steps"].as_array().map(Vec::len), Some(4), "{plan:#}");
    assert_eq!(plan["plan"]["warnings"], json!([]), "{plan:#}");
    assert!(plan["plan"]["steps"][0]["does"].to_string().contains("becomes `shop`"), "names first: {plan:#}");
    assert_eq!(where_it_leads(&p), before, "a plan changes nothing");

    let done = p.hf.run(&["--json", "cutover", "shop", "--to-id", "shop-new", "--yes"]).ok().json();
    assert_eq!(done["cutover"]["rolled_back"], Value::Null, "{done:#}");
    assert_eq!(done["plan"]["steps"].as_array().map(Vec::len), Some(4), "the plan comes with it: {done:#}");
    let after = where_it_leads(&p);
    assert_eq!(done["cutover"]["now_resource_id"], after["instances"]["shop"][0], "{done:#}");
    let (old, new) = (&before["instances"]["shop"], &before["instances"]["shop-new"]);
    assert_eq!(after["instances"]["shop"][0], new[0], "the new one has the name: {after:#}");
    // X32: the endpoint that goes with the name, not the one that the new one had before.
    assert_eq!((&after["instances"]["shop"][1], &after["secret"]["host"]), (&old[1], &old[1]));
    assert_eq!((&after["secret"]["port"], &after["secret"]["password"]), (&json!(5432), &json!("hush")));
    assert_eq!(after["record"], old[1]);
    let aside = after["instances"].as_object().expect("instances").iter().find(|(_, v)| v[0] == old[0]);
    let aside = aside.expect("the old one is there").0.clone();
    assert!(aside.starts_with("shop-old-"), "{aside}");

    // What the policy protects is never retired, nor what no cutover replaced.
    assert!(error_of(&p.hf.run(&["--json", "retire", "shop"]).expect_code(13)).1.contains("policy protects"));
    let _ = p.aws.control("seed", Some(json!({ "instances": [{ "DBInstanceIdentifier": "other" }] })));
    assert!(error_of(&p.hf.run(&["--json", "retire", "other"]).expect_code(13)).1.contains("not replaced"));
    // The quarantine of this policy is a second.
    std::thread::sleep(Duration::from_millis(1500));
    let _ = p.hf.run(&["retire", &aside]).ok().says("nothing was changed");
    let kept = p.hf.run(&["--json", "retire", &aside]).ok().json();
    assert_eq!(kept["plan"]["keeps_automated_backups"], true, "{kept:#}");
    // The policy says whether automated backups outlive it.
    let path = p.scratch.path("holdfast.toml");
    let text = std::fs::read_to_string(&path).expect("policy");
    std::fs::write(&path, text.replace("keep = \"7d\" }", "keep = \"7d\", keep-after-deletion = false }"))
        .expect("write");
    let gone = p.hf.run(&["--json", "retire", &aside, "--yes"]).ok().json();
    assert_eq!(gone["plan"]["keeps_automated_backups"], false, "{gone:#}");
    let last = gone["final_snapshot"]["at"]["id"].as_str().expect("a final snapshot");
    assert!(p.snapshots(HOME).contains(&last.to_string()), "{gone:#}");
    // It is called after the old one, and is the database's all the same.
    let _ = p.hf.run(&["list", "shop"]).ok().says(last);
    let left = where_it_leads(&p);
    assert!(!left["instances"].as_object().expect("instances").contains_key(&aside), "{left:#}");
}

#[test]
fn a_cutover_that_is_not_well_goes_back() {
    let p = stage("managed-back", "/_standin/nowhere", "7d");
    let before = where_it_leads(&p);
    let out = p.hf.run(&["--json", "cutover", "shop", "--to-id", "shop-new", "--yes"]).expect_code(1).json();
    let why = out["cutover"]["rolled_back"].as_str().expect("a reason");
    assert!(why.contains("is not well"), "{why}");
    let progress: Vec<&str> = out["cutover"]["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .filter_map(|s| s["progress"].as_str())
        .collect();
    // The rename comes before all that get an address.
    assert_eq!(progress, ["undone", "undone", "undone", "undone"]);
    assert_eq!(where_it_leads(&p), before);
    // Nothing secret is written down.
    for entry in std::fs::read_dir(p.scratch.path("state/operations/ended")).expect("operations") {
        let text = std::fs::read_to_string(entry.expect("entry").path()).expect("record");
        assert!(!text.contains("hush"), "{text}");
    }
}

/// X15, X17, X18: to a new one, with the source's settings, to a moment that exists; also when the source is gone.
#[test]
fn restored_to_a_new_instance() {
    let p = plane("managed-restore", "rds://us-east-1/shop", "");
    let _ = p.backup(&[]);
    let text = |args: &[&str], code| error_of(&p.hf.run(args).expect_code(code));
    let own = text(&["--json", "restore", "shop", "--to-id", "shop", "--at", "latest"], 13);
    assert!(own.1.contains("shop"), "{own:?}");
    let ago = text(&["--json", "restore", "shop", "--to-id", "new", "--at", "10 minutes ago"], 2);
    assert!(ago.2.contains("incident"), "{ago:?}");
    let far = text(&["--json", "restore", "shop", "--to-id", "new", "--at", "1999-01-01T00:00:00Z"], 13);
    assert!(far.2.contains("--nearest"), "{far:?}");
    for none in
        [&["--json", "restore", "shop", "--to", "here", "--at", "latest"][..], &["--json", "restore", "shop"]]
    {
        let none = text(none, 2);
        assert!(none.2.contains("--to-id"), "{none:?}");
    }
    let no_time = text(&["--json", "restore", "shop", "--to-id", "new", "--at", "bogus"], 2);
    assert!(no_time.2.contains("latest") && !no_time.2.contains("ago"), "{no_time:?}");

    let plan = p.hf.run(&["--json", "restore", "shop", "--to-id", "new", "--at", "latest"]).ok().json();
    assert_eq!(plan["plan"]["target"]["source"], "rds://us-east-1/new", "{plan:#}");
    assert_eq!(p.aws.count("rds:RestoreDBInstanceToPointInTime"), 0, "a plan makes nothing");
    let done =
        p.hf.run(&["--json", "restore", "shop", "--to-id", "new", "--at", "latest", "--yes"]).ok().json();
    assert!(done["restore"]["endpoint"]["host"].is_string(), "{done:#}");
    assert_eq!(p.aws.count("rds:RestoreDBInstanceToPointInTime"), 1);

    // The source is deleted with its backups kept: its name finds nothing, its past is there.
    let _ = boto(
        &p.aws,
        "boto3.client('rds').delete_db_instance(DBInstanceIdentifier='shop', SkipFinalSnapshot=True, \
         DeleteAutomatedBackups=False)",
    );
    let _ = p.aws.control("settle", Some(json!({})));
    let again = ["restore", "shop", "--to-id", "risen", "--at", "latest", "--yes"];
    let done = p.hf.run(&again).ok().stdout;
    let (plan, made) = (done.find("  price "), done.find("risen is there"));
    assert!(plan.is_some() && plan < made, "what it costs is said before it is made: {done}");
    let _ = p.hf.run(&["reap"]).ok();
}

/// Another policy in the same account calls its database the same: nothing of it is counted, copied or removed.
#[test]
fn a_database_of_the_same_name_is_another() {
    let p = plane("managed-names", "rds://us-east-1/shop", "");
    let _ = p.aws.control(
        "seed",
        Some(json!({ "instances": [
        { "DBInstanceIdentifier": "staging", "age": 864_000, "StorageEncrypted": true }
    ] })),
    );
    let mine = p.backup(&["--tier", "daily"]);
    let text = std::fs::read_to_string(p.scratch.path("holdfast.toml")).expect("policy");
    let text = text
        .replace("rds://us-east-1/shop", "rds://us-east-1/staging")
        .replace("last = 2", "last = 1")
        .replace("version = 1", "version = 1\nstate-dir = \"other\"");
    let path = p.scratch.write("staging.toml", &text);
    let other = Holdfast::new(&p.scratch, &path).env("HOLDFAST_POLL", "0.05").envs(p.aws.env());
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(1100));
        let _ = other.run(&["backup", "shop", "--tier", "daily"]).ok();
    }
    let plan = other.run(&["--json", "expire", "shop"]).ok().json();
    let lines: usize = plan["regions"]
        .as_array()
        .expect("regions")
        .iter()
        .filter_map(|r| r["snapshots"].as_array())
        .map(Vec::len)
        .sum();
    assert_eq!(lines, 2, "{plan:#}");
    let _ = other.run(&["expire", "shop", "--apply"]).ok();
    assert!(p.snapshots(HOME).contains(&mine["id"].as_str().expect("id").to_string()));
    let plan = other.run(&["--json", "copy", "shop", "--plan"]).ok().json();
    assert_eq!(plan["copies"][0]["plan"]["missing"].as_array().map(Vec::len), Some(1), "{plan:#}");
}

/// What the target's rules let go is not sent there again and again.
#[test]
fn what_expired_in_the_target_is_not_copied_again() {
    let p = plane("managed-again", "rds://us-east-1/shop", "");
    let path = p.scratch.path("holdfast.toml");
    let text = std::fs::read_to_string(&path).expect("policy").replace("last = 7", "last = 1");
    std::fs::write(&path, text).expect("write");
    for _ in 0..2 {
        let _ = p.backup(&["--tier", "daily"]);
        std::thread::sleep(Duration::from_millis(1100));
    }
    let _ = p.hf.run(&["copy", "shop"]).ok();
    assert_eq!(p.snapshots(AWAY).len(), 1, "only what the target keeps");
    let again = p.hf.run(&["--json", "copy", "shop"]).ok().json();
    assert_eq!(again["copies"][0]["plan"]["missing"], json!([]), "{again:#}");
}

/// A cutover killed in the middle of its rename goes back to where everything was.
#[test]
fn a_cutover_killed_while_it_renames() {
    let p = stage("managed-renaming", "/_standin/clock", "7d");
    let before = where_it_leads(&p);
    let _ = p.aws.control("config", Some(json!({ "polls": 1000 })));
    let mut run = p.hf.spawn(&["cutover", "shop", "--to-id", "shop-new", "--yes"]);
    let begun = || p.aws.count("rds:ModifyDBInstance") == 1;
    assert!(proc::wait_until(Duration::from_secs(60), begun), "it never came to the rename");
    run.kill9();
    let _ = p.aws.control("config", Some(json!({ "polls": 2 })));
    let _ = p.aws.control("settle", Some(json!({})));
    // The same command shows what is unfinished, and another is refused; the hints are commands that run.
    let same = p.hf.run(&["cutover", "shop", "--to-id", "shop-new"]).ok();
    assert!(same.stdout.contains("was begun") && same.stdout.contains("--back"), "{}", same.stdout);
    let other = ["--json", "cutover", "shop", "--to-id", "other", "--yes"];
    let (_, _, hint) = error_of(&p.hf.run(&other).expect_code(13));
    assert!(hint.contains("holdfast cutover shop --resume"), "{hint}");
    let doctor = p.hf.run(&["--json", "doctor", "shop"]).json().to_string();
    assert!(doctor.contains("`holdfast cutover shop --resume` goes on"), "{doctor}");
    // Asked for and done is no failure; what it does is said first.
    let out = p.hf.run(&["--json", "cutover", "shop", "--back"]).ok().json();
    assert_eq!(out["cutover"]["rolled_back"], "asked for with --back", "{out:#}");
    assert_eq!(out["unfinished"]["to"], "rds://us-east-1/shop-new", "{out:#}");
    assert_eq!(where_it_leads(&p), before);
    // Killed once more, the same command goes on to the end.
    let _ = p.aws.control("config", Some(json!({ "polls": 1000 })));
    let renamed = p.aws.count("rds:ModifyDBInstance");
    let go = ["cutover", "shop", "--to-id", "shop-new", "--yes"];
    let mut run = p.hf.spawn(&go);
    let begun = || p.aws.count("rds:ModifyDBInstance") > renamed;
    assert!(proc::wait_until(Duration::from_secs(60), begun), "it never came to the rename");
    run.kill9();
    let _ = p.aws.control("config", Some(json!({ "polls": 2 })));
    let _ = p.aws.control("settle", Some(json!({})));
    let done = p.hf.run(&go).ok();
    let _ = done.says("was begun").says("now write resource-id = ");
    assert_eq!(where_it_leads(&p)["instances"]["shop"][0], before["instances"]["shop-new"][0]);
}

#[test]
fn native_commands_say_so() {
    let p = plane("managed-native", "rds://us-east-1/shop", "");
    for args in [&["check", "shop"][..], &["sweep", "shop"], &["lock", "shop"]] {
        let (_, message, hint) = error_of(&p.hf.run(&[&["--json"], args].concat()).expect_code(2));
        assert!(
            message.contains("a provider runs this one") && hint.contains("restore --to-id"),
            "{message}"
        );
    }
}
