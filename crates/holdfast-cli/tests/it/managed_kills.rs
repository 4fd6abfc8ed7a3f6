//! Killed with SIGKILL, and cut off the network, at each step of cutover, copy and retire.
//!
//! The stand-in hangs in one call, before or after its effect; there the process is killed. What was hanging never
//! comes through later, so what follows is the same every time.

use crate::common::error_of;
use crate::managed::{AWAY, HOME, Plane, boto, plane};
use crate::managed_cutover::{BACKEND, backend, front, steps, workload, world};
use holdfast_testkit::{Holdfast, K8s, proc};
use serde_json::{Value, json};
use std::time::Duration;

/// Where it is killed: a call to AWS, how many of its kind pass first; or a patch of the workload.
#[derive(Debug, Clone, Copy)]
enum At {
    Aws(&'static str, u32),
    Patch(u32),
}

/// In the order of the steps.
const CUTOVER: [At; 10] = [
    At::Aws("rds:DeregisterDBProxyTargets", 0),
    At::Aws("rds:RegisterDBProxyTargets", 0),
    At::Aws("rds:ModifyDBInstance", 0),
    At::Aws("rds:ModifyDBInstance", 1),
    At::Aws("secretsmanager:PutSecretValue", 0),
    At::Patch(0),
    At::Patch(1),
    At::Aws("route53:ChangeResourceRecordSets", 0),
    At::Aws("rds:AddTagsToResource", 0),
    At::Aws("rds:AddTagsToResource", 1),
];

struct Stage {
    p: Plane,
    k8s: K8s,
    hf: Holdfast,
}

fn stage(name: &str) -> Stage {
    let p = plane(name, "rds://us-east-1/shop", "");
    let zone = front(&p);
    let k8s = K8s::start(&p.scratch);
    workload(&k8s);
    steps(
        &p,
        &format!(
            "[[databases.shop.cutover]]\nproxy = \"front\"\n\
             [[databases.shop.cutover]]\nsecret = \"shop/db\"\nkeys = {{ host = \"{{endpoint}}\", port = \"{{port}}\" }}\n\
             {BACKEND}\
             [[databases.shop.cutover]]\ncommand = [\"sh\", \"-c\", \"echo to >> moves\"]\n\
             undo = [\"sh\", \"-c\", \"echo back >> moves\"]\n\
             [[databases.shop.cutover]]\nroute53 = \"{zone}\"\nrecord = \"db.example.com\"\n\
             [[databases.shop.cutover]]\nrename = true\n"
        ),
        "1s",
    );
    let hf = Holdfast::new(&p.scratch, p.scratch.path("holdfast.toml"))
        .env("HOLDFAST_POLL", "0.05")
        .envs(p.aws.env())
        .envs(k8s.env());
    Stage { p, k8s, hf }
}

/// Calls that hang now or did.
fn hung(p: &Plane, k8s: Option<&K8s>, before: bool) -> usize {
    let rules = p.aws.control("faults", None);
    let struck = rules.as_array().map_or(0, |r| r.iter().filter(|r| r["struck"].as_u64() > Some(0)).count());
    let requests = p.aws.control("requests", None);
    let did = |r: &&Value| r["hung"] == true;
    let after = requests.as_array().map_or(0, |r| r.iter().filter(did).count());
    let patches = k8s.map_or(0, K8s::patches);
    if before { struck + patches } else { after + patches }
}

/// Runs it until it hangs there, and kills it.
fn killed(p: &Plane, k8s: Option<&K8s>, hf: &Holdfast, args: &[&str], at: At, kind: &str) {
    let before = kind == "hang-before";
    let known = hung(p, k8s, before);
    let more = match at {
        At::Aws(action, after) => {
            let rule = json!({ "kind": kind, "action": action, "after": after, "seconds": 25 });
            let _ = p.aws.control("faults", Some(rule));
            0
        }
        At::Patch(after) => {
            let k8s = k8s.expect("a cluster");
            let rule = json!({ "kind": kind, "verb": "patch", "after": after, "seconds": 15 });
            let _ = k8s.control("faults", Some(rule));
            usize::try_from(after).expect("few")
        }
    };
    let patches = k8s.map_or(0, K8s::patches);
    let mut run = hf.spawn(args);
    let there = || match at {
        At::Aws(..) => {
            // Patches that go through meanwhile do not count.
            hung(p, k8s, before) - (k8s.map_or(0, K8s::patches) - patches) > known
        }
        At::Patch(_) => k8s.map_or(0, K8s::patches) - patches > more,
    };
    let came = proc::wait_until(Duration::from_secs(40), there);
    assert!(came, "{args:?} never came to {at:?}: {}", run.output());
    // The effect of a patch follows its arrival at once.
    std::thread::sleep(Duration::from_millis(100));
    run.kill9();
    if let Some(k8s) = k8s {
        k8s.mend();
    }
}

fn settled(s: &Stage) -> Value {
    let _ = s.p.aws.control("settle", Some(json!({})));
    json!([world(&s.p), backend(&s.k8s)])
}

#[test]
fn a_cutover_killed_at_each_step_goes_back() {
    let s = stage("kills-back");
    let before = settled(&s);
    let go = ["cutover", "shop", "--to-id", "shop-new", "--yes"];
    for at in CUTOVER {
        killed(&s.p, Some(&s.k8s), &s.hf, &go, at, "hang-after");
        // Another cannot be begun.
        let other = ["cutover", "shop", "--to-id", "other", "--yes"];
        let _ = s.hf.run(&other).expect_code(13);
        let out = s.hf.run(&["--json", "cutover", "shop", "--back"]).ok().json();
        assert_eq!(out["cutover"]["rolled_back"], "asked for with --back", "{at:?} {out:#}");
        let mut after = settled(&s);
        // What was in service once keeps the mark of what it replaced; the old one that of its database.
        for id in ["shop", "shop-new"] {
            if let Some(tags) = after[0]["instances"][id][2].as_array_mut() {
                tags.retain(|t| t != "holdfast:replaces" && t != "holdfast:database");
            }
        }
        assert_eq!(after, before, "{at:?}");
    }
}

#[test]
fn a_cutover_killed_at_each_step_goes_on() {
    let s = stage("kills-on");
    let before = settled(&s);
    let begin = ["cutover", "shop", "--to-id", "shop-new", "--yes"];
    let on = ["cutover", "shop", "--resume"];
    let mut first = true;
    // Those of several calls come one after the other by themselves.
    for at in CUTOVER.into_iter().filter(|at| !matches!(at, At::Aws(_, 1) | At::Patch(1))) {
        for kind in ["hang-before", "hang-after"] {
            killed(&s.p, Some(&s.k8s), &s.hf, if first { &begin } else { &on }, at, kind);
            first = false;
        }
    }
    let done = s.hf.run(&["--json", "cutover", "shop", "--resume"]).ok().json();
    assert_eq!((&done["cutover"]["resumed"], &done["cutover"]["rolled_back"]), (&json!(true), &Value::Null));
    let after = settled(&s);
    let (was, is) = (&before[0]["instances"], &after[0]["instances"]);
    assert_eq!(
        (&is["shop"][0], is.as_object().map(serde_json::Map::len)),
        (&was["shop-new"][0], Some(2)),
        "{after:#}"
    );
    assert_eq!(after[0]["proxy"], json!(["shop"]));
    let host = &is["shop"][1];
    assert_eq!((&after[0]["secret"]["host"], &after[0]["record"]), (host, host));
    assert_eq!((&after[1][0][0]["env"][0]["value"], &after[1][2]), (host, &json!(3)));
}

/// The connection is cut in the middle of each step: the same run gets through.
#[test]
fn a_cutover_is_cut_off_in_each_step() {
    let s = stage("kills-cut");
    for (i, at) in CUTOVER.into_iter().enumerate() {
        let kind = ["cut-before", "cut-after"][i % 2];
        let _ = match at {
            At::Aws(action, after) => {
                s.p.aws.control("faults", Some(json!({ "kind": kind, "action": action, "after": after })))
            }
            At::Patch(after) => {
                s.k8s.control("faults", Some(json!({ "kind": kind, "verb": "patch", "after": after })))
            }
        };
    }
    let done = s.hf.run(&["--json", "cutover", "shop", "--to-id", "shop-new", "--yes"]).ok().json();
    assert_eq!(done["cutover"]["rolled_back"], Value::Null, "{done:#}");
    assert_eq!(settled(&s)[0]["proxy"], json!(["shop"]));
}

/// Before, after, and while the provider copies: one copy, whatever happens.
#[test]
fn a_copy_killed_at_each_step_is_one_copy() {
    let p = plane("kills-copy", "rds://us-east-1/shop", "");
    let mut made = Vec::new();
    for (i, kind) in ["hang-before", "hang-after", "waiting", "cut-after"].into_iter().enumerate() {
        std::thread::sleep(Duration::from_millis(1100));
        made.push(p.backup(&["--tier", "daily"])["id"].as_str().expect("id").to_string());
        match kind {
            "waiting" => {
                let _ = p.aws.control("config", Some(json!({ "polls": { "copy": 1000 } })));
                let begun = p.aws.count("rds:CopyDBSnapshot");
                let mut run = p.hf.spawn(&["copy", "shop"]);
                let there = || p.aws.count("rds:CopyDBSnapshot") > begun;
                assert!(proc::wait_until(Duration::from_secs(30), there), "it never began");
                // It is polled, and the answer is: not yet.
                std::thread::sleep(Duration::from_millis(300));
                run.kill9();
                // It ends at the provider; nobody has recorded it.
                let _ = p.aws.control("config", Some(json!({ "polls": 2 })));
                let _ = p.aws.control("settle", Some(json!({})));
            }
            "cut-after" => {
                let _ =
                    p.aws.control("faults", Some(json!({ "kind": kind, "action": "rds:CopyDBSnapshot" })));
            }
            _ => killed(&p, None, &p.hf, &["copy", "shop"], At::Aws("rds:CopyDBSnapshot", 0), kind),
        }
        let done = p.hf.run(&["--json", "copy", "shop"]).ok().json();
        assert_eq!(done["copies"][0]["report"]["failed"], json!([]), "{kind} {done:#}");
        assert_eq!(p.snapshots(AWAY), made, "{kind}");
        let again = p.hf.run(&["--json", "copy", "shop"]).ok().json();
        assert_eq!(again["copies"][0]["plan"]["missing"], json!([]), "{kind} {i} {again:#}");
        assert_eq!(again["copies"][0]["plan"]["under_way"], 0, "{kind} {again:#}");
    }
}

/// A replaced database whose quarantine is over.
fn retired(p: &Plane, cluster: bool) -> (&'static str, Vec<&'static str>) {
    let tags = "Tags=[{'Key': 'holdfast:state', 'Value': 'quarantine'}, {'Key': 'holdfast:database', 'Value': 'shop'}, \
                {'Key': 'holdfast:quarantined-until', 'Value': '2020-01-01T00:00:00Z'}]";
    let seed = match cluster {
        true => json!({ "clusters": [{ "DBClusterIdentifier": "gone", "members": 2 }] }),
        false => json!({ "instances": [{ "DBInstanceIdentifier": "gone" }] }),
    };
    let _ = p.aws.control("seed", Some(seed));
    let (noun, member) = if cluster { ("cluster", "DBCluster") } else { ("instance", "DBInstance") };
    let _ = boto(
        &p.aws,
        &format!(
            "rds = boto3.client('rds')\n\
             arn = rds.describe_db_{noun}s({member}Identifier='gone')['{member}s'][0]['{member}Arn']\n\
             rds.add_tags_to_resource(ResourceName=arn, {tags})\n\
             rds.modify_db_{noun}({member}Identifier='gone', DeletionProtection=True, CopyTagsToSnapshot=True, ApplyImmediately=True)"
        ),
    );
    let _ = p.aws.control("settle", Some(json!({})));
    match cluster {
        true => (
            "rds:DeleteDBCluster",
            vec!["rds:ModifyDBCluster", "rds:DeleteDBInstance", "rds:DeleteDBCluster"],
        ),
        false => ("rds:DeleteDBInstance", vec!["rds:ModifyDBInstance", "rds:DeleteDBInstance"]),
    }
}

fn retire(name: &str, source: &str) {
    let p = plane(name, source, "");
    let cluster = !source.starts_with("rds");
    let (last, calls) = retired(&p, cluster);
    let others = p.snapshots(HOME);
    let go = ["retire", "gone", "--yes"];
    for action in calls {
        for kind in ["hang-before", "hang-after"] {
            killed(&p, None, &p.hf, &go, At::Aws(action, 0), kind);
        }
    }
    // Killed while it is being deleted, too.
    let gone = p.hf.run(&["--json", "retire", "gone", "--yes"]).ok().json();
    let named = gone["final_snapshot"]["at"]["id"].as_str().expect("a final snapshot").to_string();
    assert_eq!(gone["final_snapshot"]["status"], "available", "{gone:#}");
    let left: Vec<String> = p.snapshots(HOME).into_iter().filter(|s| !others.contains(s)).collect();
    assert_eq!(left, [named], "exactly one final snapshot");
    // Nothing was ever asked to go without one.
    let requests = p.aws.control("requests", None);
    let member = if cluster { "DBClusterIdentifier" } else { "DBInstanceIdentifier" };
    let asked: Vec<&Value> = requests
        .as_array()
        .expect("requests")
        .iter()
        .filter(|r| {
            format!("rds:{}", r["action"].as_str().unwrap_or_default()) == last
                && r["params"][member] == "gone"
        })
        .map(|r| &r["params"])
        .collect();
    assert!(!asked.is_empty());
    for a in asked {
        assert_eq!(a["FinalDBSnapshotIdentifier"], json!(left[0]), "{a}");
        assert_ne!(a["SkipFinalSnapshot"], true, "{a}");
    }
    // The tags that it has from the database make it nobody's: no rule counts or removes it.
    let expire = p.hf.run(&["--json", "expire", "shop"]).ok().json().to_string();
    assert!(!expire.contains(&left[0]), "{expire}");
}

/// Since it was begun the database went back into service: nothing more is done to it.
#[test]
fn a_retirement_ends_when_the_quarantine_was_taken_back() {
    let p = plane("kills-retire-back", "rds://us-east-1/shop", "");
    let _ = retired(&p, false);
    let go = ["--json", "retire", "gone", "--yes"];
    killed(&p, None, &p.hf, &go, At::Aws("rds:ModifyDBInstance", 0), "hang-after");
    let _ = boto(
        &p.aws,
        "rds = boto3.client('rds')\n\
         arn = rds.describe_db_instances(DBInstanceIdentifier='gone')['DBInstances'][0]['DBInstanceArn']\n\
         rds.remove_tags_from_resource(ResourceName=arn, TagKeys=['holdfast:state', 'holdfast:quarantined-until'])",
    );
    let _ = p.aws.control("settle", Some(json!({})));
    let (_, message, _) = error_of(&p.hf.run(&go).expect_code(13));
    assert!(message.contains("in no quarantine that is over"), "{message}");
    assert_eq!(p.aws.count("rds:DeleteDBInstance"), 0);
    let (_, message, _) = error_of(&p.hf.run(&go).expect_code(13));
    assert!(message.contains("was not replaced"), "it has ended: {message}");
}

#[test]
fn a_retirement_killed_at_each_step_leaves_one_final_snapshot() {
    retire("kills-retire", "rds://us-east-1/shop");
}

#[test]
fn a_retirement_of_a_cluster_killed_at_each_step_leaves_one_final_snapshot() {
    retire("kills-retire-aurora", "aurora://us-east-1/shop");
}
