//! `holdfast verify` of databases that a provider runs: against the strict stand-in for AWS, with a real server behind
//! each restored copy. Killed, refused, cut off; and what is left then.

use crate::common::error_of;
use crate::tls::{ca, issue};
use holdfast_testkit::{Aws, Cluster, DocumentServer, Holdfast, PgVersion, Scratch, proc, tools};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

const AWAY: &str = "us-west-2";
const PASSWORD: &str = "correct-horse";
const SOON: Duration = Duration::from_secs(180);

const POLICY: &str = r#"
version = 1
[databases.shop]
source = "SOURCE"
policy = "standard"
snapshot-id = "shop-manual-%Y%m%d-%H%M%S"
[databases.shop.connect]
user = "postgres"
password-file = "password"
ca-file = "root.crt"
[databases.shop.places.home]
region = "us-east-1"
isolated = { subnet-group = "default" }
[databases.shop.places.dr]
region = "us-west-2"
isolated = { subnet-group = "default" }
[vaults.west]
url = "snapshots://us-west-2"
kms-key = "KEY"
[policies.standard]
rpo = "1d"
rto = "4h"
tags = { Application = "shop" }
[policies.standard.tiers.daily]
schedule = "0 12 * * *"
keep = { last = 7, at-least = 1 }
[policies.standard.copies.dr]
to = "west"
keep = { last = 7, at-least = 1 }
[policies.standard.verify]
level = "L4"
every = "7d"
remove-after = "REMOVE"
"#;

pub(crate) const SQL_CHECKS: &str = r#"
[databases.shop.checks.users]
sql = "select count(*) from users"
expect = ">= 500"
[databases.shop.checks.orders]
sql = "select max(created_at) from orders"
within = "1d"
"#;

const DOCUMENT_CHECKS: &str = r#"
[databases.shop.checks.users]
collection = "users"
database = "app"
expect = "= 250"
newest = "createdAt"
within = "2d"
indexes = ["_id_", "email_1"]
"#;

const CONTENT: &str = "create table users(id int primary key, name text); \
    insert into users select g, 'u' || g from generate_series(1, 500) g; \
    create table orders(id int primary key, user_id int not null references users, created_at timestamptz); \
    insert into orders select g, 1 + g % 500, now() - interval '1 hour' from generate_series(1, 2000) g; \
    create index on orders(user_id)";

pub(crate) struct Stage {
    pub(crate) aws: Aws,
    pub(crate) hf: Holdfast,
    pub(crate) scratch: Scratch,
    /// Databases that were there before.
    before: BTreeSet<String>,
}

fn boto(aws: &Aws, script: &str) -> String {
    let mut command = std::process::Command::new(tools::python());
    command.args(["-c", &format!("import boto3, json\n{script}")]).envs(aws.env());
    let done = proc::run(&mut command, &[], SOON);
    assert_eq!(done.code, 0, "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_string()
}

fn path(p: &Path) -> String {
    p.display().to_string()
}

impl Stage {
    /// `life`: of what a verification makes.
    pub(crate) fn new(name: &str, source: &str, checks: &str, life: &str) -> Stage {
        let scratch = Scratch::new(name);
        let aws = Aws::standin(&scratch);
        let cluster = |engine: &str| {
            json!({ "clusters": [{ "DBClusterIdentifier": "shop", "Engine": engine, "age": 864_000,
                "members": 1, "StorageEncrypted": true }] })
        };
        let seed = match source.split(':').next() {
            Some("rds") => json!({ "instances": [
                { "DBInstanceIdentifier": "shop", "age": 864_000, "StorageEncrypted": true }
            ] }),
            Some("aurora") => cluster("aurora-postgresql"),
            _ => cluster("docdb"),
        };
        let _ = aws.control("seed", Some(seed));
        // Somebody else's, whose name and half of whose tags are as ours.
        let other = json!({ "instances": [{ "DBInstanceIdentifier": "verify-shop-other",
            "Tags": [{ "Key": "holdfast:expires", "Value": "2020-01-01T00:00:00Z" }] }] });
        let _ = aws.control("seed", Some(other));
        let key = boto(
            &aws,
            &format!("print(boto3.client('kms', region_name='{AWAY}').create_key()['KeyMetadata']['Arn'])"),
        );
        let text = POLICY.replace("SOURCE", source).replace("KEY", &key).replace("REMOVE", life) + checks;
        let _ = scratch.write("password", format!("{PASSWORD}\n"));
        let policy = scratch.write("holdfast.toml", &text);
        let hf = Holdfast::new(&scratch, &policy).env("HOLDFAST_POLL", "0.05").envs(aws.env());
        let mut stage = Stage { aws, hf, scratch, before: BTreeSet::new() };
        stage.before = stage.databases();
        stage
    }

    /// Certificates for `localhost`: the server's, its key, and the root, where the policy says.
    fn certificates(&self) -> (PathBuf, PathBuf, PathBuf) {
        let issuer = ca("provider");
        let (crt, key) = issue(&self.scratch, &issuer, "server", "localhost");
        (crt, key, self.scratch.write("root.crt", issuer.pem()))
    }

    fn answers_at(&self, port: u16) {
        let at = json!({ "source": "shop", "host": "localhost", "port": port });
        let _ = self.aws.control("restore-endpoint", Some(at));
    }

    /// A server with the content of a shop, behind every restore.
    pub(crate) fn postgres(&self) -> Cluster {
        self.postgres_of(PgVersion::V17)
    }

    pub(crate) fn postgres_of(&self, version: PgVersion) -> Cluster {
        let (crt, key, _) = self.certificates();
        let pg = Cluster::builder(&self.scratch, "restored", version)
            .tcp(true)
            .setting("max_prepared_transactions", "2")
            .setting("ssl", "on")
            .setting("ssl_cert_file", &path(&crt))
            .setting("ssl_key_file", &path(&key))
            .start();
        pg.sql("postgres", &format!("alter user postgres password '{PASSWORD}'"));
        let hba = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n\
                   hostssl all all ::1/128 scram-sha-256\n";
        std::fs::write(pg.data_dir().join("pg_hba.conf"), hba).expect("write pg_hba.conf");
        pg.sql("postgres", "select pg_reload_conf()");
        pg.sql("postgres", CONTENT);
        self.answers_at(pg.port());
        pg
    }

    /// The same for DocumentDB.
    fn documents(&self) -> DocumentServer {
        let (crt, key, root) = self.certificates();
        let server = DocumentServer::start(&self.scratch, (&crt, &key, &root), "postgres", PASSWORD);
        let _ = server.script(
            "u = c.app.users\nu.insert_many([{'email': f'u{i}', 'createdAt': now} for i in range(250)])\n\
             u.create_index('email')\nc.app.orders.insert_one({'x': 1})",
        );
        self.answers_at(server.port());
        server
    }

    pub(crate) fn snapshot(&self) -> String {
        let made = self.hf.run(&["--json", "backup", "shop", "--tier", "daily"]).ok().json();
        made["id"].as_str().expect("id").to_string()
    }

    fn regions(&self) -> Vec<Value> {
        let state = self.aws.control("state", None);
        let accounts = state["regions"].as_object().expect("accounts");
        accounts.values().filter_map(Value::as_object).flat_map(|r| r.values().cloned()).collect()
    }

    /// Identifiers of all instances and clusters of all regions.
    fn databases(&self) -> BTreeSet<String> {
        let mut out = BTreeSet::new();
        for region in self.regions() {
            for table in ["instances", "clusters"] {
                let rows = region["rds"][table].as_array().cloned().unwrap_or_default();
                out.extend(rows.iter().filter_map(|r| r["id"].as_str().map(str::to_string)));
            }
        }
        out
    }

    /// Nothing that costs money, and no group.
    #[track_caller]
    pub(crate) fn nothing_is_left(&self) {
        assert_eq!(self.databases(), self.before);
        let groups = self.groups();
        assert!(groups.is_empty(), "{groups:?}");
    }

    fn groups(&self) -> Vec<String> {
        let text = boto(
            &self.aws,
            &format!(
                "for r in ['us-east-1', '{AWAY}']:\n  for g in boto3.client('ec2', \
                 region_name=r).describe_security_groups()['SecurityGroups']:\n    print(g['GroupName'])"
            ),
        );
        text.lines().filter(|g| g.starts_with("holdfast-verify")).map(str::to_string).collect()
    }

    /// Operations under way, as this host knows them.
    fn open(&self) -> Vec<Value> {
        let Ok(dir) = std::fs::read_dir(self.scratch.path("state/operations")) else { return Vec::new() };
        let files = dir.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "json"));
        files.filter_map(|p| serde_json::from_slice(&std::fs::read(p).ok()?).ok()).collect()
    }

    fn ended(&self) -> usize {
        std::fs::read_dir(self.scratch.path("state/operations/ended")).map_or(0, Iterator::count)
    }

    pub(crate) fn verify(&self, args: &[&str], code: i32) -> Value {
        let all = [&["--json", "verify", "shop", "--yes"], args].concat();
        self.hf.run(&all).expect_code(code).json()
    }

    pub(crate) fn kept(&self, id: &str, region: &str) -> Value {
        let all = self.hf.run(&["--json", "list", "shop"]).ok().json();
        let kept = all["managed"]["databases"][0]["kept"].as_array().expect("kept").clone();
        let found = kept.into_iter().find(|k| k["id"] == id && k["region"] == region);
        found.unwrap_or_else(|| panic!("{id} in {region}: {all:#}"))
    }

    fn fault(&self, rule: Value) {
        let _ = self.aws.control("faults", Some(rule));
    }

    fn polls(&self, n: Value) {
        let _ = self.aws.control("config", Some(json!({ "polls": n })));
    }
}

/// X17, X20, X21, X39: what is shown is content, of a copy that is gone afterwards.
#[test]
fn an_instance_passes_and_fails() {
    let s = Stage::new("mv-rds", "rds://us-east-1/shop", SQL_CHECKS, "1d");
    let pg = s.postgres();
    let id = s.snapshot();
    let plan = s.hf.run(&["verify", "shop"]).ok();
    for part in ["db.t4g.micro", "0.019 dollars an hour with its storage", "isolated", "users", "--yes"] {
        assert!(plan.stdout.contains(part), "{part}: {}", plan.transcript());
    }
    // X31: no name is used twice, whoever else verifies.
    let names: BTreeSet<String> = (0..3)
        .map(|_| s.hf.run(&["--json", "verify", "shop"]).ok().json())
        .map(|p| p["plan"]["restore"]["target"]["source"].as_str().expect("a name").to_string())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(s.aws.count("ec2:CreateSecurityGroup"), 0, "a plan makes nothing");

    let done = s.verify(&[], 0);
    let v = &done["verify"];
    assert_eq!((&v["passed"], &v["level"], &v["noted"]), (&json!(true), &json!("L4"), &json!(true)));
    assert_eq!(v["evidence"]["asked"].as_array().map(Vec::len), Some(2), "{done:#}");
    assert!(v["restore_seconds"].as_f64().is_some_and(|s| s > 0.0), "{done:#}");
    s.nothing_is_left();
    let kept = s.kept(&id, "us-east-1");
    assert_eq!(kept["verified_level"], "L4", "{kept:#}");
    let _ = s.hf.run(&["list", "shop"]).ok().says("verified L4").says("passed L4");

    // X21: its status says available, and two rows are missing.
    pg.sql("postgres", "delete from orders where user_id in (7, 8); delete from users where id in (7, 8)");
    let done = s.verify(&[], 5);
    let v = &done["verify"];
    assert_eq!((&v["passed"], &v["level"]), (&json!(false), &json!("L3")), "{done:#}");
    assert!(v["evidence"]["faults"][0].as_str().is_some_and(|f| f.contains("wanted >= 500")), "{done:#}");
    s.nothing_is_left();
    let list = s.hf.run(&["--json", "list", "shop"]).ok().json();
    assert_eq!(list["managed"]["verifications"]["shop"]["passed"], false, "{list:#}");
    let _ = s.hf.run(&["list", "shop"]).ok().says("did NOT pass L4").says("verified L4");
    // L3 does not look at content; a moment and any second of the window are verified as well.
    let done = s.verify(&["--level", "L3", "--at", "latest"], 0);
    assert_eq!(done["verify"]["noted"], false);
    assert_eq!(s.verify(&["--level", "L3", "--random"], 0)["verify"]["level"], "L3");
    s.nothing_is_left();
    for (args, text) in [
        (&["--from-cidr", "0.0.0.0/0"][..], "network"),
        (&["--at", "10 minutes ago"], "incident"),
        (&["--level", "L7"], "no level"),
    ] {
        let all = [&["--json", "verify", "shop", "--yes"], args].concat();
        let (_, message, hint) = error_of(&s.hf.run(&all).expect_code(2));
        assert!(format!("{message} {hint}").contains(text), "{message} {hint}");
    }
}

#[test]
fn an_aurora_cluster_and_its_copy_in_another_region() {
    let s = Stage::new("mv-aurora", "aurora://us-east-1/shop", SQL_CHECKS, "1d");
    let _pg = s.postgres();
    let id = s.snapshot();
    let done = s.verify(&[], 0);
    assert_eq!(done["verify"]["level"], "L4", "{done:#}");
    s.nothing_is_left();
    let none = s.hf.run(&["--json", "verify", "shop", "--region", AWAY, "--yes"]).expect_code(10);
    assert!(error_of(&none).1.contains("no finished snapshot"));
    let _ = s.hf.run(&["copy", "shop"]).ok();
    let done = s.verify(&["--region", AWAY], 0);
    assert_eq!(done["verify"]["level"], "L4", "{done:#}");
    s.nothing_is_left();
    let copy = s.kept(&id, AWAY);
    assert_eq!((&copy["kind"], &copy["verified_level"]), (&json!("copy"), &json!("L4")), "{copy:#}");
    let last = s.hf.run(&["--json", "list", "shop"]).ok().json();
    assert_eq!(last["managed"]["verifications"]["shop"]["region"], AWAY, "{last:#}");
}

/// X41: counted to the end, over TLS, after a login.
#[test]
fn the_documents_of_a_cluster() {
    let s = Stage::new("mv-docdb", "docdb://us-east-1/shop", DOCUMENT_CHECKS, "1d");
    let mut server = s.documents();
    let _ = s.snapshot();
    let done = s.verify(&[], 0);
    let e = &done["verify"]["evidence"];
    assert_eq!(done["verify"]["level"], "L4", "{done:#}");
    let app = &e["databases"][0];
    assert_eq!((&app["name"], app["tables"].as_array().map(Vec::len)), (&json!("app"), Some(2)), "{done:#}");
    assert!(
        app["tables"].as_array().expect("collections").contains(&json!({ "table": "users", "rows": 250 }))
    );
    assert_eq!(e["asked"].as_array().map(Vec::len), Some(3), "count, indexes, newest: {done:#}");
    s.nothing_is_left();

    let _ = server.script("c.app.users.delete_one({})\nc.app.users.drop_index('email_1')");
    let done = s.verify(&[], 5);
    let faults = done["verify"]["evidence"]["faults"].to_string();
    for part in ["249 documents", "wanted = 250", "lacks email_1"] {
        assert!(faults.contains(part), "{part}: {faults}");
    }
    let _ = server
        .script("c.app.users.update_many({}, {'$set': {'createdAt': now - datetime.timedelta(days=9)}})");
    let faults = s.verify(&[], 5)["verify"]["evidence"]["faults"].to_string();
    assert!(faults.contains("more than 2d"), "{faults}");
    let _ = server.script("c.app.users.drop()");
    let faults = s.verify(&[], 5)["verify"]["evidence"]["faults"].to_string();
    assert!(faults.contains("there is no app.users"), "{faults}");
    s.nothing_is_left();

    let _ = s.scratch.write("password", "incorrect");
    let (_, message, hint) = error_of(&s.hf.run(&["--json", "verify", "shop", "--yes"]).expect_code(12));
    assert!(message.contains("login") && hint.contains("--reset-password"), "{message} {hint}");
    // A certificate of somebody else is no server of ours, and says nothing about the backup.
    let _ = s.scratch.write("password", PASSWORD);
    let _ = s.scratch.write("other.crt", ca("other").pem());
    let other = path(&s.scratch.path("other.crt"));
    let verdict =
        || s.hf.run(&["--json", "list", "shop"]).ok().json()["managed"]["verifications"]["shop"].clone();
    let before = verdict();
    let all = ["--json", "verify", "shop", "--yes", "--ca-file", &other];
    let (_, message, hint) = error_of(&s.hf.run(&all).expect_code(12));
    assert!(message.contains("invalid peer certificate") && hint.contains("ca-file"), "{message} {hint}");
    s.nothing_is_left();
    assert_eq!(verdict(), before);
    // Nobody listens there: that is about this host or the network, and no verdict about the backup.
    server.kill9();
    let all = ["--json", "verify", "shop", "--yes", "--wait-for", "6s"];
    let (_, message, hint) = error_of(&s.hf.run(&all).expect_code(1));
    assert!(message.contains("cannot be reached") && hint.contains("--from-cidr"), "{message} {hint}");
    assert_eq!(verdict(), before);
    s.nothing_is_left();
}

/// What keeps us from looking is an error, and nothing stays because of it.
#[test]
fn refused_and_cut_off() {
    let s = Stage::new("mv-refused", "rds://us-east-1/shop", SQL_CHECKS, "1d");
    let _pg = s.postgres();
    let _ = s.snapshot();
    let all = ["--json", "verify", "shop", "--yes"];
    let _ = s.scratch.write("password", "incorrect");
    let (_, message, hint) = error_of(&s.hf.run(&all).expect_code(12));
    assert!(message.contains("refuses the login") && hint.contains("--reset-password"), "{message} {hint}");
    s.nothing_is_left();
    let _ = s.scratch.write("password", PASSWORD);
    let _ = s.scratch.write("other.crt", ca("other").pem());
    let other = path(&s.scratch.path("other.crt"));
    let (_, message, hint) =
        error_of(&s.hf.run(&[&all[..], &["--ca-file", &other]].concat()).expect_code(12));
    assert!(message.contains("invalid peer certificate") && hint.contains("ca-file"), "{message} {hint}");
    s.nothing_is_left();
    // What is no certificate at all is seen before anything is made.
    let made = s.aws.count("ec2:CreateSecurityGroup");
    let file = path(&s.scratch.path("password"));
    let none = [&all[..], &["--ca-file", &file]].concat();
    let (_, message, hint) = error_of(&s.hf.run(&none).expect_code(2));
    assert!(message.contains("no certificates") && hint.contains("ca-file"), "{message} {hint}");
    assert_eq!(s.aws.count("ec2:CreateSecurityGroup"), made);
    let list = s.hf.run(&["--json", "list", "shop"]).ok().json();
    assert!(list["managed"]["verifications"]["shop"].is_null(), "a wrong password is no verdict: {list:#}");
    for action in ["ec2:CreateSecurityGroup", "rds:RestoreDBInstanceFromDBSnapshot"] {
        s.fault(json!({ "kind": "deny", "action": action, "times": 1 }));
        let (_, message, hint) = error_of(&s.hf.run(&all).expect_code(12));
        assert!(message.contains(action) && hint.contains("holdfast iam"), "{message} {hint}");
        s.nothing_is_left();
    }
    s.fault(json!({ "kind": "fail", "operation": "restore", "resource": "*verify-shop-*" }));
    let done = s.verify(&[], 5);
    assert!(done["verify"]["stopped"].is_string(), "{done:#}");
    s.nothing_is_left();
    // Calls that are lost, or whose answers are.
    for action in [
        "ec2:CreateSecurityGroup",
        "ec2:AuthorizeSecurityGroupIngress",
        "rds:RestoreDBInstanceFromDBSnapshot",
        "rds:DeleteDBInstance",
        "ec2:DeleteSecurityGroup",
    ] {
        for kind in ["cut-before", "cut-after"] {
            s.fault(json!({ "kind": kind, "action": action }));
        }
    }
    assert_eq!(s.verify(&[], 0)["verify"]["passed"], true);
    s.nothing_is_left();
    // The removal itself is refused: it is told, and done the next time.
    s.fault(json!({ "kind": "deny", "action": "rds:DeleteDBInstance", "times": 1 }));
    let (_, message, _) = error_of(&s.hf.run(&all).expect_code(12));
    assert!(message.contains("rds:DeleteDBInstance"), "{message}");
    assert_eq!(s.databases().len(), s.before.len() + 1);
    assert_eq!(s.verify(&[], 0)["verify"]["resumed"], true);
    s.nothing_is_left();
    // One that was begun for something else is finished first, and is not what the answer is about.
    s.fault(json!({ "kind": "deny", "action": "rds:DeleteDBInstance", "times": 1 }));
    let _ = error_of(&s.hf.run(&all).expect_code(12));
    let _ = s.hf.run(&["verify", "shop", "--level", "L3"]).ok().says("first").says("begun and not finished");
    // What is not asked at this level is not promised.
    let plan = s.hf.run(&["verify", "shop", "--level", "L3"]).ok().stdout;
    assert!(!plan.contains("users") && plan.contains("a session in every database"), "{plan}");
    let done = s.verify(&["--level", "L3"], 0);
    let v = &done["verify"];
    assert_eq!((&v["level"], &v["wanted"], &v["resumed"]), (&json!("L3"), &json!("L3"), &json!(false)));
    assert!(v["evidence"]["notes"].to_string().contains("begun before, passed L4"), "{done:#}");
    s.nothing_is_left();
    // X31: the source's own group is not a place for a copy.
    let groups = boto(
        &s.aws,
        "print(boto3.client('rds').describe_db_instances(DBInstanceIdentifier='shop')['DBInstances'][0]\
         ['VpcSecurityGroups'][0]['VpcSecurityGroupId'])",
    );
    let policy = s.scratch.path("holdfast.toml");
    let text = std::fs::read_to_string(&policy).expect("policy");
    let isolated = format!("isolated = {{ subnet-group = \"default\", security-groups = [\"{groups}\"] }}");
    let text = text.replacen("isolated = { subnet-group = \"default\" }", &isolated, 1);
    std::fs::write(&policy, text).expect("write");
    let (_, message, _) = error_of(&s.hf.run(&all).expect_code(13));
    assert!(message.contains("not be alone"), "{message}");
    // Nor is its network, where the policy sets another apart.
    let text = std::fs::read_to_string(&policy).expect("policy");
    let text =
        text.replacen("isolated = { subnet-group = \"default\"", "isolated = { subnet-group = \"apart\"", 1);
    std::fs::write(&policy, text).expect("write");
    let typed = [&all[..], &["--subnet-group", "default"]].concat();
    let (_, message, _) = error_of(&s.hf.run(&typed).expect_code(13));
    assert!(message.contains("`default` is production's"), "{message}");
}

/// X20: SIGKILL at each step, again and again; the same command ends it, once, and nothing is left.
#[test]
fn killed_at_each_step() {
    let checks = SQL_CHECKS.to_string()
        + "[databases.shop.checks.slow]\nsql = \"select count(*) from pg_sleep(5)\"\nexpect = \"= 1\"\n";
    let s = Stage::new("mv-killed", "aurora://us-east-1/shop", &checks, "1d");
    let _pg = s.postgres();
    let _ = s.snapshot();
    let at = |step: &str, inner: &str| {
        let (step, inner) = (step.to_string(), inner.to_string());
        move |s: &Stage| {
            s.open().iter().any(|o| {
                let inner_is = o["state"]["progress"]["next"].to_string().contains(&inner);
                o["verb"] == "verify" && o["state"]["next"] == step.as_str() && inner_is
            })
        }
    };
    let kill = |when: &dyn Fn(&Stage) -> bool| {
        let mut run = s.hf.spawn(&["--json", "verify", "shop", "--yes"]);
        let there = proc::wait_until(SOON, || when(&s) || !run.is_running());
        assert!(there && run.is_running(), "it ended before it could be killed: {}", run.output());
        run.kill9();
    };
    s.fault(json!({ "kind": "delay", "action": "ec2:CreateSecurityGroup", "seconds": 10 }));
    kill(&at("group", ""));
    kill(&|s: &Stage| s.aws.count("ec2:CreateSecurityGroup") > 0);
    s.polls(json!(1000));
    kill(&|s: &Stage| s.aws.count("rds:RestoreDBClusterFromSnapshot") > 0);
    kill(&at("restore", "wait_database"));
    s.polls(json!(2));
    let _ = s.aws.control("settle", Some(json!({})));
    s.polls(json!(1000));
    kill(&at("restore", "wait_instances"));
    s.polls(json!(2));
    let _ = s.aws.control("settle", Some(json!({})));
    kill(&at("check", ""));
    s.polls(json!(1000));
    kill(&at("remove", ""));
    kill(&|s: &Stage| s.aws.count("rds:DeleteDBInstance") > 0);
    s.polls(json!(2));
    let _ = s.aws.control("settle", Some(json!({})));
    let done = s.verify(&[], 0);
    assert_eq!((&done["verify"]["resumed"], &done["verify"]["passed"]), (&json!(true), &json!(true)));
    s.nothing_is_left();
    assert!(s.open().is_empty());
    // One of each, however often it was begun.
    assert_eq!(s.ended(), 2, "a backup and one verification");
    let names: BTreeSet<String> = restored(&s, "RestoreDBClusterFromSnapshot");
    assert_eq!(names.len(), 1, "{names:?}");
}

/// What an action was asked to make, over all its calls.
fn restored(s: &Stage, action: &str) -> BTreeSet<String> {
    let log = std::fs::read_to_string(s.scratch.path("state/changes.log")).expect("the log of changes");
    let lines = log.lines().filter(|l| l.contains(&format!("rds:{action}\"")));
    lines.filter_map(|l| serde_json::from_str::<Value>(l).ok()).map(|l| l["resource"].to_string()).collect()
}

/// When the time to wait is up it goes on at the provider, and the same command goes on here.
#[test]
fn the_time_to_wait_is_up() {
    let s = Stage::new("mv-wait", "rds://us-east-1/shop", SQL_CHECKS, "1d");
    let _pg = s.postgres();
    let _ = s.snapshot();
    s.polls(json!(1000));
    let short = ["--json", "verify", "shop", "--yes", "--wait-for", "1s"];
    let (_, _, hint) = error_of(&s.hf.run(&short).expect_code(3));
    assert!(hint.contains("same command"), "{hint}");
    assert_eq!(s.databases().len(), s.before.len() + 1);
    let plan = s.hf.run(&["verify", "shop"]).ok();
    assert!(plan.stdout.contains("resumes"), "{}", plan.transcript());
    s.polls(json!(2));
    let _ = s.aws.control("settle", Some(json!({})));
    let done = s.verify(&[], 0);
    assert_eq!(done["verify"]["resumed"], true);
    s.nothing_is_left();
}

/// X20, X39: killed, and nobody comes back. The reaper removes all of it when its end has come, and nothing else.
#[test]
fn the_reaper_ends_what_nobody_goes_on_with() {
    let s = Stage::new("mv-reap", "rds://us-east-1/shop", SQL_CHECKS, "8s");
    let _pg = s.postgres();
    let _ = s.snapshot();
    s.polls(json!(1000));
    // Its end of life counts from the plan, which comes after this.
    let started = std::time::Instant::now();
    let mut run = s.hf.spawn(&["verify", "shop", "--yes"]);
    let begun = || s.aws.count("rds:RestoreDBInstanceFromDBSnapshot") > 0;
    assert!(proc::wait_until(SOON, begun), "{}", run.output());
    let begun = std::time::Instant::now();
    run.kill9();
    s.polls(json!(2));
    let _ = s.aws.control("settle", Some(json!({})));
    let early = s.hf.run(&["--json", "reap", "shop"]).ok().json();
    if started.elapsed() < Duration::from_secs(7) {
        assert_eq!(early["reap"][0]["plan"]["remove"], json!([]), "{early:#}");
    }
    std::thread::sleep(Duration::from_secs(9).saturating_sub(begun.elapsed()));
    let plan = s.hf.run(&["--json", "reap"]).ok().json();
    assert_eq!(plan["reap"][0]["plan"]["remove"].as_array().map(Vec::len), Some(3), "{plan:#}");
    assert_eq!(s.databases().len(), s.before.len() + 1, "a plan removes nothing");
    let _ = s.hf.run(&["reap", "--yes"]).ok().says("removed database");
    s.nothing_is_left();
    // The operation is over as well, and shows nothing.
    assert!(s.open().is_empty());
    let _ = s.hf.run(&["list", "shop"]).ok().says("did NOT pass L4");
    let _ = s.hf.run(&["reap"]).ok().says("nothing temporary is left");
}

/// SIGKILL of a restore at each of its steps: one cluster with its instances, and no second one.
#[test]
fn a_restore_killed_at_each_step() {
    let s = Stage::new("mv-restore", "aurora://us-east-1/shop", SQL_CHECKS, "1d");
    let _ = s.snapshot();
    let args = ["--json", "restore", "shop", "--to-id", "risen", "--newest-snapshot", "--yes"];
    let at = |s: &Stage, step: &str| {
        s.open()
            .iter()
            .any(|o| o["verb"] == "restore" && o["state"]["progress"]["next"].to_string().contains(step))
    };
    s.polls(json!(1000));
    // Steps that would be over at once are held up: the provider answers seconds later.
    for (step, held_up_by) in [
        ("start", Some("rds:RestoreDBClusterFromSnapshot")),
        ("wait_database", None),
        ("create_instance", Some("rds:CreateDBInstance")),
        ("wait_instances", None),
        ("protection", Some("rds:ModifyDBCluster")),
    ] {
        if let Some(action) = held_up_by {
            s.fault(json!({ "kind": "delay", "action": action, "seconds": 8 }));
        }
        let mut run = s.hf.spawn(&args);
        let (mut looks, mut seen) = (0, false);
        let _ = proc::wait_until(SOON, || {
            looks += 1;
            // What it waits for before that step is over.
            if held_up_by.is_some() && looks % 3 == 0 && !at(&s, step) {
                let _ = s.aws.control("settle", Some(json!({})));
            }
            seen = at(&s, step);
            seen || !run.is_running()
        });
        assert!(seen, "{step}: {}", run.output());
        run.kill9();
        if step == "wait_database" || step == "wait_instances" {
            let _ = s.aws.control("settle", Some(json!({})));
        }
    }
    s.polls(json!(2));
    let _ = s.aws.control("settle", Some(json!({})));
    let done = s.hf.run(&args).ok().json();
    assert!(done["restore"]["endpoint"]["host"].is_string(), "{done:#}");
    let made: Vec<String> = s.databases().difference(&s.before).cloned().collect();
    assert_eq!(made, ["risen", "risen-1"]);
    assert!(s.open().is_empty());
}

/// A recovery point of AWS Backup, whose restore job takes no tags: killed before they are on the copy.
#[test]
fn a_recovery_point() {
    let s = Stage::new("mv-point", "rds://us-east-1/shop", SQL_CHECKS, "10s");
    let _pg = s.postgres();
    let _ = s.aws.control("seed", Some(json!({ "role": "backup" })));
    let _ = boto(&s.aws, "boto3.client('backup').create_backup_vault(BackupVaultName='main')");
    let _ =
        s.aws.control("seed", Some(json!({ "points": { "source": "shop", "vault": "main", "count": 1 } })));
    let arn = boto(
        &s.aws,
        "print(boto3.client('backup').list_recovery_points_by_backup_vault(BackupVaultName='main')\
         ['RecoveryPoints'][0]['RecoveryPointArn'])",
    );
    let role = "arn:aws:iam::123456789012:role/backup";
    let args = ["--from-point", &arn, "--role-arn", role];
    let none = [
        "--json",
        "verify",
        "shop",
        "--yes",
        "--from-point",
        "arn:aws:rds:us-east-1:123456789012:snapshot:no",
    ];
    assert!(error_of(&s.hf.run(&none).expect_code(10)).1.contains("no vault"));
    let done = s.verify(&args, 0);
    assert_eq!(done["verify"]["level"], "L4", "{done:#}");
    s.nothing_is_left();
    let list = s.hf.run(&["--json", "list", "shop"]).ok().json();
    let kept = list["managed"]["databases"][0]["kept"].as_array().expect("kept").clone();
    let point = kept.iter().find(|k| k["arn"] == arn.as_str()).expect("the point");
    assert_eq!(point["verified_level"], "L4", "{point:#}");

    s.polls(json!(1000));
    let mut run = s.hf.spawn(&["verify", "shop", "--yes", "--from-point", &arn, "--role-arn", role]);
    assert!(proc::wait_until(SOON, || s.aws.count("backup:StartRestoreJob") > 1), "{}", run.output());
    run.kill9();
    s.polls(json!(2));
    let _ = s.aws.control("settle", Some(json!({})));
    std::thread::sleep(Duration::from_secs(11));
    let _ = s.hf.run(&["reap", "--yes"]).ok();
    s.nothing_is_left();
    assert!(s.open().is_empty());
}

/// What plain moto can: the provider's part, without a server behind it.
#[test]
fn against_moto() {
    let scratch = Scratch::new("mv-moto");
    let aws = Aws::moto(&scratch);
    let _ = boto(
        &aws,
        "boto3.client('rds').create_db_instance(DBInstanceIdentifier='shop', Engine='postgres', \
         DBInstanceClass='db.t3.medium', AllocatedStorage=20, MasterUsername='postgres', \
         MasterUserPassword='correct-horse', DBSubnetGroupName=boto3.client('rds').create_db_subnet_group(\
         DBSubnetGroupName='default-vpc', DBSubnetGroupDescription='x', SubnetIds=[s['SubnetId'] for s in \
         boto3.client('ec2').describe_subnets()['Subnets'][:2]])['DBSubnetGroup']['DBSubnetGroupName'])",
    );
    let text = POLICY
        .replace("SOURCE", "rds://us-east-1/shop")
        .replace("KEY", "alias/none")
        .replace("REMOVE", "1d")
        .replace("subnet-group = \"default\"", "subnet-group = \"default-vpc\"");
    let _ = scratch.write("password", PASSWORD);
    let policy = scratch.write("holdfast.toml", &text);
    let hf = Holdfast::new(&scratch, &policy).env("HOLDFAST_POLL", "0.05").envs(aws.env());
    let _ = hf.run(&["backup", "shop", "--tier", "daily"]).ok();
    let done = hf.run(&["--json", "verify", "shop", "--yes", "--level", "L2"]).ok().json();
    assert_eq!(
        (&done["verify"]["level"], &done["verify"]["noted"]),
        (&json!("L2"), &json!(true)),
        "{done:#}"
    );
    let left = boto(
        &aws,
        "print([i['DBInstanceIdentifier'] for i in boto3.client('rds').describe_db_instances()['DBInstances']], \
         [g['GroupName'] for g in boto3.client('ec2').describe_security_groups()['SecurityGroups'] \
         if g['GroupName'].startswith('holdfast')])",
    );
    assert_eq!(left, "['shop'] []");
}
