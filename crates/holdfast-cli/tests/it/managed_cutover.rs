//! Cutovers against the stand-ins for AWS and for Kubernetes (with the real kubectl): workloads, a database that is
//! lost, another region; and which snapshots are the policy's afterwards.

use crate::common::error_of;
use crate::managed::{AWAY, HOME, Plane, boto, plane};
use holdfast_testkit::{Holdfast, K8s};
use serde_json::{Value, json};
use std::time::Duration;

/// Secret, record (both by a name of their own) and proxy that lead to `shop`, with `shop-new` beside it. The zone's id.
const FRONT: &str = r#"
rds, ec2, r53 = boto3.client('rds'), boto3.client('ec2'), boto3.client('route53')
host = 'shop.internal.example.net'
zone = r53.create_hosted_zone(Name='example.com', CallerReference='1')['HostedZone']['Id'].split('/')[-1]
record = {'Name': 'db.example.com', 'Type': 'CNAME', 'TTL': 60, 'ResourceRecords': [{'Value': host}]}
r53.change_resource_record_sets(HostedZoneId=zone,
    ChangeBatch={'Changes': [{'Action': 'CREATE', 'ResourceRecordSet': record}]})
for region in ('us-east-1', 'us-west-2'):
    boto3.client('secretsmanager', region_name=region).create_secret(Name='shop/db',
        SecretString=json.dumps({'host': host, 'port': 5432, 'password': 'hush'}))
subnets = [s['SubnetId'] for s in ec2.describe_subnets()['Subnets']][:2]
rds.create_db_proxy(DBProxyName='front', EngineFamily='POSTGRESQL', RoleArn='arn:aws:iam::123456789012:role/front',
    VpcSubnetIds=subnets, Auth=[{'AuthScheme': 'SECRETS', 'SecretArn': 'arn:aws:secretsmanager:us-east-1:123456789012:secret:x-AAAAAA'}])
while rds.describe_db_proxies(DBProxyName='front')['DBProxies'][0]['Status'] != 'available': pass
rds.register_db_proxy_targets(DBProxyName='front', DBInstanceIdentifiers=['shop'])
while rds.describe_db_proxy_targets(DBProxyName='front')['Targets'][0]['TargetHealth']['State'] != 'AVAILABLE': pass
print(zone)
"#;

pub(crate) fn front(p: &Plane) -> String {
    let _ = p.aws.control("seed", Some(json!({ "instances": [{ "DBInstanceIdentifier": "shop-new" }] })));
    boto(&p.aws, FRONT)
}

/// Puts steps into the policy, in the place of others.
pub(crate) fn steps(p: &Plane, steps: &str, quarantine: &str) {
    let path = p.scratch.path("holdfast.toml");
    let text = std::fs::read_to_string(&path).expect("policy");
    let (head, tail) = text.split_once("[vaults.west]").expect("a vault");
    let head = head.split("[[databases.shop.cutover]]").next().unwrap_or(head);
    let tail = match tail.contains("quarantine =") {
        true => tail.to_string(),
        false => tail.replace("tags = {", &format!("quarantine = \"{quarantine}\"\ntags = {{")),
    };
    std::fs::write(&path, format!("{head}{steps}[vaults.west]{tail}")).expect("write");
}

/// Everything that a cutover touches.
pub(crate) fn world(p: &Plane) -> Value {
    let text = boto(
        &p.aws,
        r#"
rds, r53 = boto3.client('rds'), boto3.client('route53')
zone = r53.list_hosted_zones()['HostedZones'][0]['Id'].split('/')[-1]
sets = r53.list_resource_record_sets(HostedZoneId=zone)['ResourceRecordSets']
secret = lambda r: json.loads(boto3.client('secretsmanager', region_name=r).get_secret_value(SecretId='shop/db')['SecretString'])
print(json.dumps({
    'secret': secret('us-east-1'), 'west': secret('us-west-2'),
    'record': [s['ResourceRecords'][0]['Value'] for s in sets if s['Type'] == 'CNAME'][0],
    'proxy': [t['RdsResourceId'] for t in rds.describe_db_proxy_targets(DBProxyName='front')['Targets']],
    'instances': {i['DBInstanceIdentifier']: [i['DbiResourceId'], i.get('Endpoint', {}).get('Address'),
                  sorted(t['Key'] for t in i['TagList'] if t['Key'].startswith('holdfast:'))]
                  for i in rds.describe_db_instances()['DBInstances']},
}))
"#,
    );
    serde_json::from_str(&text).expect("json")
}

pub(crate) const BACKEND: &str = r#"[[databases.shop.cutover]]
kubernetes = "deployment/backend"
namespace = "shop"
env = { DATABASE_HOST = "{endpoint}" }
scale = true
within = "120s"
"#;

pub(crate) fn workload(k8s: &K8s) {
    let _ = k8s.control(
        "seed",
        Some(json!({ "namespace": "shop", "name": "backend", "replicas": 3,
            "env": { "app": { "DATABASE_HOST": "postgres://u:hush@old/db", "MODE": "live" }, "sidecar": { "MODE": "x" } },
            "init": { "migrate": { "DATABASE_HOST": "old-too" } } })),
    );
}

/// Variables of all containers, and how many pods it shall have.
pub(crate) fn backend(k8s: &K8s) -> Value {
    let o = k8s.object("backend");
    let pod = &o["spec"]["template"]["spec"];
    json!([pod["containers"], pod["initContainers"], o["spec"]["replicas"]])
}

#[test]
fn a_workload_is_changed_rolled_out_and_put_back() {
    let p = plane("cutover-k8s", "rds://us-east-1/shop", "");
    let _ = p.aws.control("seed", Some(json!({ "instances": [{ "DBInstanceIdentifier": "shop-new" }] })));
    let k8s = K8s::start(&p.scratch);
    workload(&k8s);
    let hf = Holdfast::new(&p.scratch, p.scratch.path("holdfast.toml"))
        .env("HOLDFAST_POLL", "0.05")
        .envs(p.aws.env())
        .envs(k8s.env());
    let fails = "[[databases.shop.cutover]]\ncommand = [\"false\"]\nundo = [\"true\"]\n";
    steps(&p, &format!("{BACKEND}{fails}"), "7d");
    let before = backend(&k8s);
    let go = ["--json", "cutover", "shop", "--to-id", "shop-new", "--yes"];

    let plan = hf.run(&["--json", "cutover", "shop", "--to-id", "shop-new"]).ok().json().to_string();
    assert!(plan.contains("down to no pod, then 3 again") && plan.contains("deployed from"), "{plan}");
    assert!(!plan.contains("hush"), "former values are nobody's to read: {plan}");
    assert_eq!((backend(&k8s), k8s.patches()), (before.clone(), 0), "a plan changes nothing");

    // A later step fails: the values, the pods are put back; somebody who writes between costs another try.
    let _ = k8s.control("faults", Some(json!({ "verb": "patch", "kind": "other-writer", "times": 2 })));
    let out = hf.run(&go).expect_code(1);
    assert!(!out.json().to_string().contains("hush"), "{}", out.json().to_string());
    assert_eq!(out.json()["cutover"]["steps"][0]["progress"], "undone");
    assert_eq!(backend(&k8s), before);
    let requests = k8s.control("requests", None);
    let wrote: Vec<&Value> = requests
        .as_array()
        .expect("requests")
        .iter()
        .filter(|r| r["verb"] == "patch" && r["status"] == 200)
        .map(|r| &r["patch"]["spec"])
        .collect();
    let replicas: Vec<Option<u64>> = wrote.iter().map(|s| s["replicas"].as_u64()).collect();
    assert_eq!(replicas, [Some(0), Some(3), Some(0), Some(3)], "{wrote:#?}");
    assert!(wrote[0].get("template").is_none(), "no value before the pods are gone: {wrote:#?}");

    // A rollout that does not end goes back, too.
    let _ = k8s.control("faults", Some(json!({ "kind": "stuck" })));
    let stuck = hf.run(&go).expect_code(1).json();
    let why = stuck["cutover"]["rolled_back"].as_str().expect("a reason");
    assert!(why.contains("not ready after") || why.contains("timed out"), "{why}");
    k8s.mend();
    assert_eq!(backend(&k8s), before);

    // What the cluster refuses is told, and nothing is begun.
    let text =
        |code| error_of(&hf.run(&["--json", "cutover", "shop", "--to-id", "shop-new"]).expect_code(code));
    let _ = k8s.control(
        "faults",
        Some(json!({ "kind": "status", "status": 403, "reason": "Forbidden", "message": "User cannot get" })),
    );
    let (_, message, hint) = text(13);
    assert!(message.contains("not allowed to get") && hint.contains("get and patch"), "{message} {hint}");
    steps(&p, &BACKEND.replace("within", "context = \"nobody\"\nwithin"), "7d");
    let (_, message, hint) = text(13);
    assert!(message.contains("does not let us in") && hint.contains("update-kubeconfig"), "{message} {hint}");
    steps(&p, &BACKEND.replace("deployment/", "statefulset/"), "7d");
    assert!(text(10).1.contains("is not there"));
    steps(&p, &BACKEND.replace("DATABASE_HOST", "PASSWORD"), "7d");
    assert!(text(13).1.contains("no container"));
    let none = Holdfast::new(&p.scratch, p.scratch.path("holdfast.toml"))
        .envs(p.aws.env())
        .env("PATH", p.scratch.path("nothing"));
    let out = none.run(&["--json", "cutover", "shop", "--to-id", "shop-new"]).expect_code(13);
    assert!(error_of(&out).2.contains("install kubectl"), "{:?}", error_of(&out));

    // And it goes through, without a pod of the old values beside one of the new.
    steps(&p, BACKEND, "7d");
    let done = hf.run(&go).ok().json();
    assert_eq!(done["cutover"]["now"], "rds://us-east-1/shop-new", "{done:#}");
    let after = backend(&k8s);
    let host = &after[0][0]["env"][0]["value"];
    assert!(host.as_str().is_some_and(|h| h.starts_with("shop-new.")), "{after:#}");
    assert_eq!((&after[1][0]["env"][0]["value"], &after[2]), (host, &json!(3)));
    assert_eq!(after[0][0]["env"][1], before[0][0]["env"][1], "other variables stay");
}

/// The old one is gone: what needs only the new one is done, and nothing is marked.
#[test]
fn after_a_complete_loss() {
    let p = plane("cutover-lost", "rds://us-east-1/shop", "");
    let zone = front(&p);
    steps(
        &p,
        &format!(
            "[[databases.shop.cutover]]\nproxy = \"front\"\n[[databases.shop.cutover]]\nsecret = \"shop/db\"\n\
             [[databases.shop.cutover]]\nroute53 = \"{zone}\"\nrecord = \"db.example.com\"\n\
             [[databases.shop.cutover]]\nrename = true\n"
        ),
        "7d",
    );
    let _ = p.backup(&["--tier", "daily"]);
    let _ = boto(
        &p.aws,
        "boto3.client('rds').delete_db_instance(DBInstanceIdentifier='shop', SkipFinalSnapshot=True)",
    );
    let _ = p.aws.control("settle", Some(json!({})));
    let go = ["--json", "cutover", "shop", "--to-id", "shop-new"];
    let (_, message, hint) = error_of(&p.hf.run(&go).expect_code(10));
    assert!(message.contains("is not there") && hint.contains("--lost"), "{message} {hint}");

    let lost = [&go[..], &["--lost"]].concat();
    let plan = p.hf.run(&lost).ok().json();
    assert_eq!(plan["plan"]["pair"]["presence"], "gone", "{plan:#}");
    assert!(
        plan["plan"]["steps"][0]["undoes"].as_str().is_some_and(|t| t.contains("leads nowhere")),
        "{plan:#}"
    );

    // A step fails: nothing goes back to what is lost; it goes on, or is put back as far as it can be.
    let fault = || {
        let _ = p.aws.control(
            "faults",
            Some(json!({ "kind": "deny", "action": "secretsmanager:PutSecretValue", "times": 1 })),
        );
    };
    fault();
    let yes = [&lost[..], &["--yes"]].concat();
    let _ = p.hf.run(&yes).expect_code(12);
    // The proxy and the name lead to the new one; secret and record come after the rename.
    assert_eq!(world(&p)["proxy"], json!(["shop"]), "it stands where it was");
    let back = p.hf.run(&["--json", "cutover", "shop", "--back"]).expect_code(1).json();
    let left = back["cutover"]["steps"][0]["left"].as_str().expect("what could not be put back");
    assert!(left.contains("leads nowhere"), "{left}");
    fault();
    let _ = p.hf.run(&yes).expect_code(12);
    let done = p.hf.run(&["--json", "cutover", "shop", "--resume"]).ok().json();
    assert_eq!(done["cutover"]["quarantined_until"], Value::Null, "{done:#}");
    let w = world(&p);
    assert_eq!(w["instances"].as_object().expect("instances").keys().collect::<Vec<_>>(), ["shop"], "{w:#}");
    assert_eq!((&w["proxy"], w["secret"]["password"].as_str()), (&json!(["shop"]), Some("hush")));
    // X32: the endpoint that the new one has since it was renamed, not the one that went with its name.
    let host = &w["instances"]["shop"][1];
    assert!(host.as_str().is_some_and(|h| h.starts_with("shop.")), "{w:#}");
    assert_eq!((&w["record"], &w["secret"]["host"]), (host, host), "{w:#}");
}

/// What cannot be undone keeps no other step from going back, and is told; a program has its time.
#[test]
fn one_step_that_cannot_be_undone_keeps_no_other() {
    let p = plane("cutover-stuck", "rds://us-east-1/shop", "");
    let zone = front(&p);
    steps(
        &p,
        &format!(
            "[[databases.shop.cutover]]\nsecret = \"shop/db\"\n\
             [[databases.shop.cutover]]\nroute53 = \"{zone}\"\nrecord = \"db.example.com\"\n\
             [[databases.shop.cutover]]\ncommand = [\"true\"]\nundo = [\"sh\", \"-c\", \"echo >> tries; exit 3\"]\n\
             [[databases.shop.cutover]]\ncommand = [\"sh\", \"-c\", \"sleep 8; touch late\"]\nundo = [\"true\"]\nwithin = \"1s\"\n"
        ),
        "7d",
    );
    let before = world(&p);
    let out = p.hf.run(&["--json", "cutover", "shop", "--to-id", "shop-new", "--yes"]).expect_code(1).json();
    let why = out["cutover"]["rolled_back"].as_str().expect("a reason");
    assert!(why.contains("not ended after 1 s"), "{why}");
    let left: Vec<bool> =
        out["cutover"]["steps"].as_array().expect("steps").iter().map(|s| s["left"].is_string()).collect();
    assert_eq!(left, [false, false, true, false], "{out:#}");
    assert!(out["cutover"]["steps"][2]["left"].as_str().is_some_and(|l| l.contains("could not be undone")));
    assert_eq!(std::fs::read_to_string(p.scratch.path("tries")).expect("tries").lines().count(), 2);
    assert_eq!(world(&p), before);
    // What a program had begun is stopped with it.
    std::thread::sleep(Duration::from_secs(8));
    assert!(!p.scratch.path("late").exists(), "it writes over what was put back");
    // It has ended: nothing waits for somebody to edit its record.
    let again = p.hf.run(&["--json", "cutover", "shop", "--back"]).expect_code(10);
    assert!(error_of(&again).1.contains("unfinished"));
}

/// The home region does not answer: what is there is changed, and the secret that the application reads there.
#[test]
fn to_another_region() {
    let p = plane("cutover-region", "rds://us-east-1/shop", "");
    let zone = front(&p);
    let _ = p.aws.control(
        "seed",
        Some(json!({ "region": AWAY, "instances": [{ "DBInstanceIdentifier": "shop-dr" }] })),
    );
    steps(
        &p,
        &format!(
            "[[databases.shop.cutover]]\nsecret = \"shop/db\"\n[[databases.shop.cutover]]\nroute53 = \"{zone}\"\n\
             record = \"db.example.com\"\n[[databases.shop.cutover]]\nrename = true\n"
        ),
        "7d",
    );
    // Whose credentials these are is not asked there either, although that is the region of the environment.
    let path = p.scratch.path("holdfast.toml");
    let text = std::fs::read_to_string(&path).expect("policy");
    let account = "source = \"rds://us-east-1/shop\"\naccount = \"123456789012\"";
    std::fs::write(&path, text.replace("source = \"rds://us-east-1/shop\"", account)).expect("write");
    for action in ["rds:*", "sts:*"] {
        let rule = json!({ "kind": "cut-before", "action": action, "region": HOME, "times": null });
        let _ = p.aws.control("faults", Some(rule));
    }
    let go = ["--json", "cutover", "shop", "--to-id", "shop-dr", "--region", AWAY];
    let hf = Holdfast::new(&p.scratch, p.scratch.path("holdfast.toml"))
        .env("HOLDFAST_POLL", "0.05")
        .env("AWS_MAX_ATTEMPTS", "1")
        .envs(p.aws.env());
    let (_, _, hint) = error_of(&hf.run(&go).expect_code(13));
    assert!(hint.contains("--lost"), "{hint}");
    let plan = hf.run(&[&go[..], &["--lost"]].concat()).ok().json();
    assert!(plan["plan"]["warnings"].to_string().contains("the rename is left out"), "{plan:#}");
    let done = hf.run(&[&go[..], &["--lost", "--yes"]].concat()).ok().json();
    assert_eq!(done["cutover"]["now"], "rds://us-west-2/shop-dr", "{done:#}");
    assert_eq!(
        done["cutover"]["steps"].as_array().map(Vec::len),
        Some(2),
        "the rename is left out: {done:#}"
    );
    let west = boto(
        &p.aws,
        "print(boto3.client('secretsmanager', region_name='us-west-2').get_secret_value(SecretId='shop/db')['SecretString'])",
    );
    assert!(west.contains("shop-dr.") && west.contains("us-west-2"), "{west}");
    let east = boto(
        &p.aws,
        "print(boto3.client('secretsmanager', region_name='us-east-1').get_secret_value(SecretId='shop/db')['SecretString'])",
    );
    assert!(!east.contains("shop-dr"), "{east}");
}

/// Snapshots that others make inherit every tag that ours and the database have: they are nobody's business.
#[test]
fn what_inherits_our_tags_is_not_ours() {
    let p = plane("cutover-inherit", "rds://us-east-1/shop", "");
    let mine = p.backup(&["--tier", "daily"]);
    let id = mine["id"].as_str().expect("id");
    let _ = boto(
        &p.aws,
        &format!(
            "rds = boto3.client('rds')\n\
             arn = rds.describe_db_snapshots(DBSnapshotIdentifier='{id}')['DBSnapshots'][0]['DBSnapshotArn']\n\
             tags = rds.list_tags_for_resource(ResourceName=arn)['TagList']\n\
             db = rds.describe_db_instances(DBInstanceIdentifier='shop')['DBInstances'][0]['DBInstanceArn']\n\
             over = [{{'Key': 'holdfast:expires', 'Value': '2020-01-01T00:00:00Z'}}]\n\
             rds.add_tags_to_resource(ResourceName=db, Tags=tags + over)\n\
             rds.modify_db_instance(DBInstanceIdentifier='shop', CopyTagsToSnapshot=True, ApplyImmediately=True)\n\
             rds.create_db_snapshot(DBSnapshotIdentifier='theirs', DBInstanceIdentifier='shop', Tags=tags + over)\n\
             by_hand = [t for t in tags if t['Key'] != 'holdfast:tier'] + over\n\
             import time\n\
             while rds.describe_db_snapshots(DBSnapshotIdentifier='theirs')['DBSnapshots'][0]['Status'] != 'available': pass\n\
             while rds.describe_db_instances(DBInstanceIdentifier='shop')['DBInstances'][0]['DBInstanceStatus'] != 'available': pass\n\
             rds.create_db_snapshot(DBSnapshotIdentifier='theirs-too', DBInstanceIdentifier='shop', Tags=by_hand)\n\
             while rds.describe_db_snapshots(DBSnapshotIdentifier='theirs-too')['DBSnapshots'][0]['Status'] != 'available': pass"
        ),
    );
    assert_eq!(p.snapshots(HOME).len(), 3);
    let list = p.hf.run(&["--json", "list", "shop"]).ok().json();
    let ours: Vec<&Value> = list["managed"]["databases"][0]["kept"]
        .as_array()
        .expect("kept")
        .iter()
        .filter(|k| k["ours"] == true)
        .map(|k| &k["id"])
        .collect();
    assert_eq!(ours, [id], "{list:#}");
    let expire = p.hf.run(&["--json", "expire", "shop"]).ok().json();
    let counted: usize = expire["regions"]
        .as_array()
        .expect("regions")
        .iter()
        .filter_map(|r| r["snapshots"].as_array())
        .map(Vec::len)
        .sum();
    assert_eq!(counted, 1, "{expire:#}");
    let copy = p.hf.run(&["--json", "copy", "shop"]).ok().json();
    assert_eq!(copy["copies"][0]["report"]["arrived"].as_array().map(Vec::len), Some(1), "{copy:#}");
    assert_eq!(p.snapshots(AWAY), [id]);
    // Nor is the database temporary, whatever its tags say.
    let reap = p.hf.run(&["--json", "reap", "shop"]).ok().json();
    assert_eq!(reap["reap"][0]["plan"]["remove"], json!([]), "{reap:#}");
    let _ = p.hf.run(&["expire", "shop", "--apply"]).ok();
    assert_eq!(p.snapshots(HOME).len(), 3);
}

/// After a cutover without a rename the database is another: the snapshots of the one before go by the rules still.
#[test]
fn snapshots_of_what_was_replaced_go_by_the_rules() {
    let p = plane("cutover-lineage", "rds://us-east-1/shop", "");
    let _ = p.aws.control(
        "seed",
        Some(json!({ "instances": [{ "DBInstanceIdentifier": "shop-new", "StorageEncrypted": true }] })),
    );
    steps(&p, "[[databases.shop.cutover]]\ncommand = [\"true\"]\nundo = [\"true\"]\n", "7d");
    let old: Vec<Value> = (0..3)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(1100));
            p.backup(&["--tier", "daily"])["id"].clone()
        })
        .collect();
    let out = p.hf.run(&["cutover", "shop", "--to-id", "shop-new", "--yes"]).ok();
    let _ = out.says("source = \"rds://us-east-1/shop-new\"");
    let path = p.scratch.path("holdfast.toml");
    let text = std::fs::read_to_string(&path).expect("policy");
    std::fs::write(&path, text.replace("rds://us-east-1/shop\"", "rds://us-east-1/shop-new\""))
        .expect("write");
    std::thread::sleep(Duration::from_millis(1100));
    let new = p.backup(&["--tier", "daily"])["id"].clone();
    let plan = p.hf.run(&["--json", "expire", "shop"]).ok().json();
    let home = plan["regions"].as_array().expect("regions").iter().find(|r| r["region"] == HOME);
    let lines = home.expect("home")["snapshots"].as_array().expect("lines").clone();
    assert_eq!(lines.len(), 4, "{plan:#}");
    let _ = p.hf.run(&["expire", "shop", "--apply"]).ok();
    let left = p.snapshots(HOME);
    assert!(left.iter().any(|id| new == id.as_str()), "{left:?}");
    assert!(!left.iter().any(|id| old[0] == id.as_str()), "the oldest went by the rules: {left:?}");
    let list = p.hf.run(&["--json", "list", "shop"]).ok().json().to_string();
    assert!(list.contains(old[2].as_str().expect("id")), "{list}");
}

/// A proxy that never reaches its new target keeps clients waiting: it has a time of its own, and the cutover goes back.
#[test]
fn a_proxy_that_never_gets_there() {
    let p = plane("cutover-proxy", "rds://us-east-1/shop", "");
    let _ = front(&p);
    steps(
        &p,
        "[[databases.shop.cutover]]\nsecret = \"shop/db\"\n[[databases.shop.cutover]]\nproxy = \"front\"\n\
         within = \"1s\"\n",
        "7d",
    );
    let before = world(&p);
    let plan = p.hf.run(&["cutover", "shop", "--to-id", "shop-new"]).ok();
    let _ = plan.says("reaches it within 1s");
    let _ = p.aws.control("config", Some(json!({ "polls": { "proxy": 100_000 } })));
    let begun = std::time::Instant::now();
    let done = p.hf.run(&["--json", "cutover", "shop", "--to-id", "shop-new", "--yes"]).expect_code(1).json();
    assert!(begun.elapsed() < Duration::from_secs(60), "{done:#}");
    let why = done["cutover"]["rolled_back"].as_str().expect("a reason");
    assert!(why.contains("proxy `front`") && why.contains("not ready after"), "{why}");
    for step in done["cutover"]["steps"].as_array().expect("steps") {
        assert_eq!(step["progress"], "undone", "{done:#}");
    }
    // It may not reach the old one at once either: that is told, and keeps nothing else from going back.
    let left = done["cutover"]["steps"][1]["left"].as_str().expect("what is left");
    assert!(left.contains("registered again"), "{left}");
    let _ = p.aws.control("settle", Some(json!({})));
    let after = world(&p);
    assert_eq!((&after["proxy"], &after["secret"]), (&json!(["shop"]), &before["secret"]));
}
