//! The five strategies of `examples/`, each from its policy file to a recovered application, against the strict
//! stand-in for AWS: checked, applied, backed up, copied, expired, verified, lost, recovered, cut over, cleared away.
//!
//! The files run as they are. What is of one account only is put in: identifiers of groups and zones, addresses of
//! health checks, the path of an own program. What happened is asserted at the provider's side.
//!
//! A strategy's days lie in the past ([`World::new`]): the stand-in's clock is moved, the program's is the host's.

mod bibidi;
mod distro;
mod gym;
mod indostar;
mod mangu;

use crate::managed::boto;
use crate::tls::{Issuer, ca, issue};
use holdfast_testkit::{Aws, Cluster, Holdfast, Output, PgVersion, Scratch, http};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

pub(crate) const DAY: u64 = 86_400;
const PASSWORD: &str = "correct-horse";
const ACCOUNT: &str = "123456789012";

/// What every customer has before there is any backup.
const CUSTOMER: &str = r#"
def client(service, region): return boto3.client(service, region_name=region)
def subnets(region, *names):
    ids = [s['SubnetId'] for s in client('ec2', region).describe_subnets()['Subnets']]
    for name in names:
        client('rds', region).create_db_subnet_group(
            DBSubnetGroupName=name, DBSubnetGroupDescription=name, SubnetIds=ids)
def group(region, name):
    return client('ec2', region).create_security_group(GroupName=name, Description=name)['GroupId']
def key(region, alias):
    made = client('kms', region).create_key()['KeyMetadata']
    client('kms', region).create_alias(AliasName=alias, TargetKeyId=made['KeyId'])
    return made['Arn']
def secret(region, name, value):
    client('secretsmanager', region).create_secret(
        Name=name, SecretString=value if isinstance(value, str) else json.dumps(value))
def zone(domain, record, host):
    r53 = boto3.client('route53')
    made = r53.create_hosted_zone(Name=domain, CallerReference=record)['HostedZone']['Id'].split('/')[-1]
    r53.change_resource_record_sets(HostedZoneId=made, ChangeBatch={'Changes': [{'Action': 'CREATE',
        'ResourceRecordSet': {'Name': record, 'Type': 'CNAME', 'TTL': 60, 'ResourceRecords': [{'Value': host}]}}]})
    return made
def instance(region, name):
    return client('rds', region).describe_db_instances(DBInstanceIdentifier=name)['DBInstances'][0]
def cluster(region, name):
    return client('rds', region).describe_db_clusters(DBClusterIdentifier=name)['DBClusters'][0]
out = {}
"#;

/// A provider with a customer's databases, and Holdfast with a policy for them.
pub(crate) struct World {
    pub(crate) aws: Aws,
    pub(crate) hf: Holdfast,
    pub(crate) scratch: Scratch,
    issuer: Issuer,
    /// Instances and clusters that were there before.
    before: BTreeSet<String>,
}

impl World {
    /// A provider whose clock is `days` behind the host's, with these fixtures (see the stand-in's `seed.py`).
    pub(crate) fn new(name: &str, days: u64, seeds: &[Value]) -> World {
        let scratch = Scratch::new(name);
        let aws = Aws::standin(&scratch);
        let _ = aws.control("reset", Some(json!({ "back": days * DAY })));
        for seed in seeds {
            let _ = aws.control("seed", Some(seed.clone()));
        }
        let issuer = ca("provider");
        let _ = scratch.write("root.crt", issuer.pem());
        let hf = Holdfast::bare(&scratch);
        let mut w = World { aws, hf, scratch, issuer, before: BTreeSet::new() };
        w.before = w.databases();
        w
    }

    /// Runs `script` after [`CUSTOMER`]; its `out`.
    pub(crate) fn customer(&self, script: &str) -> Value {
        let text = boto(&self.aws, &format!("{CUSTOMER}{script}\nprint(json.dumps(out, default=str))"));
        serde_json::from_str(&text).expect("json")
    }

    /// The example's file with `put`, and variables of the environment.
    pub(crate) fn policy(&mut self, example: &str, put: &[(&str, &str)], variables: &[(&str, &str)]) {
        let path = format!("{}/../../examples/{example}.toml", env!("CARGO_MANIFEST_DIR"));
        let mut text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        for (from, to) in put {
            assert!(text.contains(from), "{example}.toml has no `{from}`");
            text = text.replace(from, to);
        }
        let policy = self.scratch.write("holdfast.toml", text);
        self.hf = Holdfast::new(&self.scratch, policy)
            .env("HOLDFAST_POLL", "0.05")
            // A region that is down stays so: to ask it six times takes half a minute.
            .env("AWS_MAX_ATTEMPTS", "2")
            .envs(self.aws.env())
            .envs(variables.iter().copied());
    }

    /// The URL of a health check that is well.
    pub(crate) fn well(&self) -> String {
        format!("{}/_standin/clock", self.aws.endpoint())
    }

    /// A server with this content behind everything that is restored from these sources.
    pub(crate) fn postgres(&self, sources: &[&str], database: &str, content: &str) -> Cluster {
        let (crt, key) = issue(&self.scratch, &self.issuer, "server", "localhost");
        let pg = Cluster::builder(&self.scratch, "restored", PgVersion::V17)
            .tcp(true)
            .setting("ssl", "on")
            .setting("ssl_cert_file", &crt.display().to_string())
            .setting("ssl_key_file", &key.display().to_string())
            .start();
        let role = format!("create role holdfast_check login password '{PASSWORD}' in role pg_read_all_data");
        pg.sql("postgres", &role);
        let hba = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n\
                   hostssl all all ::1/128 scram-sha-256\n";
        std::fs::write(pg.data_dir().join("pg_hba.conf"), hba).expect("write pg_hba.conf");
        pg.sql("postgres", "select pg_reload_conf()");
        pg.sql("postgres", &format!("create database {database}"));
        pg.sql(database, content);
        // L4 compares all indexes: whoever looks needs the right to.
        for database in ["postgres", database] {
            pg.sql(
                database,
                "create extension amcheck; grant execute on all functions in schema public to holdfast_check",
            );
        }
        for source in sources {
            self.answers(source, pg.port());
        }
        pg
    }

    /// The one value that `sql` gives at the endpoint of a restore, logged in as the checks are, over TLS.
    #[track_caller]
    pub(crate) fn content(&self, pg: &Cluster, restored: &Value, database: &str, sql: &str) -> String {
        let at = &restored["restore"]["endpoint"];
        let (host, port) = (at["host"].as_str().expect("a host"), at["port"].as_u64().expect("a port"));
        let root = self.path("root.crt");
        let conninfo = format!(
            "host={host} port={port} user=holdfast_check password={PASSWORD} dbname={database} sslmode=verify-full \
             sslrootcert={}",
            root.display()
        );
        pg.run_client("psql", &["-X", "-A", "-t", "-c", sql, &conninfo]).trim().to_string()
    }

    /// What is restored from this source answers here.
    pub(crate) fn answers(&self, source: &str, port: u16) {
        let at = json!({ "source": source, "host": "localhost", "port": port });
        let _ = self.aws.control("restore-endpoint", Some(at));
    }

    /// Runs with `--json`; demands this code.
    #[track_caller]
    pub(crate) fn run(&self, code: i32, args: &[&str]) -> Value {
        self.raw(args).expect_code(code).json()
    }

    pub(crate) fn raw(&self, args: &[&str]) -> Output {
        self.hf.run(&[&["--json"], args].concat())
    }

    /// Checked, planned, applied; a second time there is nothing to change.
    #[track_caller]
    pub(crate) fn brought_to_the_policy(&self, locks: &[&str]) -> Value {
        let _ = self.hf.run(&["validate", "--explain"]).ok();
        let plan = self.run(0, &["plan"]);
        assert!(!changes(&plan["plan"]).is_empty(), "{plan:#}");
        let mut args = vec!["apply", "--yes"];
        args.extend(locks.iter().flat_map(|l| ["--confirm-lock", l]));
        let done = self.run(0, &args);
        let again = self.run(0, &["plan"]);
        assert_eq!(changes(&again["plan"]), Vec::<Value>::new(), "{again:#}");
        done
    }

    /// Passed, and nothing of the throwaway copy is left.
    #[track_caller]
    pub(crate) fn verified(&self, db: &str, more: &[&str]) -> Value {
        let ca = self.path("root.crt").display().to_string();
        let all = [&["verify", db, "--yes", "--ca-file", &ca][..], more].concat();
        let there = self.databases();
        let done = self.run(0, &all);
        assert_eq!(
            (&done["verify"]["passed"], &done["verify"]["level"]),
            (&json!(true), &json!("L4")),
            "{done:#}"
        );
        assert_eq!(self.databases(), there, "the copy is gone");
        self.no_groups_are_left();
        done
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    pub(crate) fn state(&self, region: &str) -> Value {
        self.aws.control("state", None)["regions"][ACCOUNT][region].clone()
    }

    fn rows(&self, region: &str, tables: &[&str]) -> Vec<Value> {
        let state = self.state(region);
        let all = tables.iter().filter_map(|t| state["rds"][*t].as_array());
        all.flatten().cloned().collect()
    }

    /// Manual snapshots, of instances and clusters.
    pub(crate) fn snapshots(&self, region: &str) -> BTreeSet<String> {
        let all = self.rows(region, &["snapshots", "cluster_snapshots"]);
        let names = all.iter().filter_map(|r| r["id"].as_str());
        // Automated ones, and those of AWS Backup, have a colon in their names.
        names.filter(|id| !id.contains(':')).map(str::to_string).collect()
    }

    /// Identifiers of all instances and clusters of all regions, as `us-east-1/shop`.
    pub(crate) fn databases(&self) -> BTreeSet<String> {
        let state = self.aws.control("state", None);
        let regions = state["regions"][ACCOUNT].as_object().cloned().unwrap_or_default();
        let mut out = BTreeSet::new();
        for (name, region) in regions {
            for table in ["instances", "clusters"] {
                let rows = region["rds"][table].as_array().cloned().unwrap_or_default();
                out.extend(rows.iter().filter_map(|r| Some(format!("{name}/{}", r["id"].as_str()?))));
            }
        }
        out
    }

    /// An instance or cluster, as the provider has it.
    pub(crate) fn database(&self, region: &str, id: &str) -> Value {
        let all = self.rows(region, &["clusters", "instances"]);
        all.into_iter().find(|r| r["id"] == id).unwrap_or_else(|| panic!("no {id} in {region}"))
    }

    /// ARNs of the recovery points of a vault.
    pub(crate) fn points(&self, region: &str, vault: &str) -> BTreeSet<String> {
        let state = self.state(region);
        let vaults = state["backup"]["vaults"].as_array().cloned().unwrap_or_default();
        let found = vaults.iter().find(|v| v["name"] == vault).unwrap_or_else(|| panic!("no vault {vault}"));
        let points = found["points"].as_array().expect("points");
        points.iter().filter_map(|p| p["arn"].as_str().map(str::to_string)).collect()
    }

    pub(crate) fn advance(&self, seconds: u64) {
        let _ = self.aws.control("advance", Some(json!({ "seconds": seconds })));
    }

    /// To the host's own time.
    pub(crate) fn to_the_present(&self) {
        let now = self.aws.control("clock", None)["now"].as_f64().expect("now");
        let host =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs_f64();
        let _ = self.aws.control("advance", Some(json!({ "seconds": (host - now).max(0.0) })));
    }

    pub(crate) fn settle(&self) {
        let _ = self.aws.control("settle", Some(json!({})));
    }

    /// Like snapshot `id` that Holdfast made, `n` older ones, each `every` seconds older than the one before.
    pub(crate) fn older(
        &self,
        region: &str,
        source: &str,
        id: &str,
        prefix: &str,
        n: u64,
        every: u64,
    ) -> Vec<String> {
        let all = self.rows(region, &["snapshots", "cluster_snapshots"]);
        let like = all.iter().find(|r| r["id"] == id).unwrap_or_else(|| panic!("no snapshot {id}"));
        let (mut seeds, mut names) = (Vec::new(), Vec::new());
        for i in 0..n {
            let prefix = format!("{prefix}{i:03}-");
            let name = format!("{prefix}00000");
            let mut tags = like["tags"].clone();
            if tags.get("holdfast:snapshot").is_some() {
                tags["holdfast:snapshot"] = json!(format!("{region}/{name}"));
            }
            seeds.push(json!({ "source": source, "count": 1, "prefix": prefix, "every": (i + 1) * every, "tags": tags }));
            names.push(name);
        }
        let _ = self.aws.control("seed", Some(json!({ "region": region, "snapshots": seeds })));
        names
    }

    /// Somebody else's snapshots, named as ours.
    pub(crate) fn others(&self, region: &str, source: &str, prefix: &str) -> BTreeSet<String> {
        let before = self.snapshots(region);
        let seed = json!({ "source": source, "count": 3, "prefix": prefix, "every": 60 * DAY });
        let _ = self.aws.control("seed", Some(json!({ "region": region, "snapshots": seed })));
        self.snapshots(region).difference(&before).cloned().collect()
    }

    /// No service of the region answers. Names (Route 53) are not of a region.
    pub(crate) fn goes_down(&self, region: &str) {
        let services = ["rds", "backup", "ec2", "kms", "secretsmanager", "sts"];
        let rule = |s: &&str| json!({ "kind": "error", "status": 503, "action": format!("{s}:*"), "region": region, "times": null });
        let all: Vec<Value> = services.iter().map(rule).collect();
        let _ = self.aws.control("faults", Some(json!(all)));
    }

    pub(crate) fn comes_back(&self) {
        let url = format!("{}/_standin/faults", self.aws.endpoint());
        let answer = http::request("DELETE", &url, &[], b"").expect("the control endpoint");
        assert_eq!(answer.status(), 200);
    }

    /// How often an action was asked of a region.
    pub(crate) fn asked(&self, region: &str) -> usize {
        let all = self.aws.control("requests", None);
        all.as_array().expect("requests").iter().filter(|r| r["region"] == region).count()
    }

    /// Nothing that costs money and belongs to nobody: beside what was there and `kept`, no database; no throwaway
    /// group; nothing for the reaper; no operation under way.
    #[track_caller]
    pub(crate) fn nothing_is_left_but(&self, kept: &[&str]) {
        let _ = self.run(0, &["reap", "--yes"]);
        let mut more: BTreeSet<String> = self.databases().difference(&self.before).cloned().collect();
        for k in kept {
            assert!(more.remove(*k), "{k} is not there: {:?}", self.databases());
        }
        assert!(more.is_empty(), "left: {more:?}");
        self.no_groups_are_left();
        let open = std::fs::read_dir(self.path("state/operations")).expect("operations").flatten();
        let open: Vec<_> = open.filter(|e| e.path().extension().is_some_and(|e| e == "json")).collect();
        assert!(open.is_empty(), "{open:?}");
    }

    #[track_caller]
    fn no_groups_are_left(&self) {
        let mut script = String::new();
        for region in self.regions() {
            let _ = writeln!(
                script,
                "out['{region}'] = [g['GroupName'] for g in client('ec2', '{region}').describe_security_groups()['SecurityGroups'] if g['GroupName'].startswith('holdfast-')]"
            );
        }
        let found = self.customer(&script);
        let all = found.as_object().expect("regions").values();
        assert!(all.into_iter().all(|g| *g == json!([])), "{found:#}");
    }

    fn regions(&self) -> Vec<String> {
        let state = self.aws.control("state", None);
        state["regions"][ACCOUNT].as_object().map(|r| r.keys().cloned().collect()).unwrap_or_default()
    }

    /// Where a name of Route 53 leads.
    pub(crate) fn record(&self, record: &str) -> String {
        let found = self.customer(&format!(
            "r53 = boto3.client('route53')\nfor z in r53.list_hosted_zones()['HostedZones']:\n  for s in \
             r53.list_resource_record_sets(HostedZoneId=z['Id'])['ResourceRecordSets']:\n    if s['Type'] == 'CNAME' \
             and s['Name'].rstrip('.') == '{record}': out['to'] = s['ResourceRecords'][0]['Value']"
        ));
        found["to"].as_str().expect("a record").to_string()
    }
}

/// Every change of every database of a plan.
pub(crate) fn changes(plan: &Value) -> Vec<Value> {
    let all = plan["databases"].as_array().cloned().unwrap_or_default();
    all.iter().filter_map(|d| d["changes"].as_array()).flatten().cloned().collect()
}

pub(crate) fn id_of(made: &Value) -> String {
    made["id"].as_str().unwrap_or_else(|| panic!("no id: {made:#}")).to_string()
}
