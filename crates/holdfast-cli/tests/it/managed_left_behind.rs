//! What costs money and serves nobody is told: databases beside the one of the policy, what a stopped command leaves.
//! And what an earlier run left is no reason to do something else than was asked for.

use crate::common::error_of;
use crate::managed::{Plane, boto, plane};
use holdfast_testkit::proc;
use serde_json::{Value, json};
use std::time::Duration;

const HOME: &str = "us-east-1";

fn doctor(p: &Plane, name: &str) -> Option<(String, String, String)> {
    let found = p.hf.run(&["--json", "doctor", "shop"]).json();
    let line = found["checks"].as_array().expect("checks").iter().find(|l| l["name"] == name)?.clone();
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_string();
    Some((text("status"), text("message"), text("hint")))
}

fn beside(p: &Plane) -> Vec<Value> {
    let all = p.hf.run(&["--json", "list", "shop"]).json();
    all["managed"]["databases"][0]["beside"].as_array().expect("beside").clone()
}

/// Puts tags on an instance.
fn tag(p: &Plane, id: &str, tags: &[(&str, &str)]) {
    let tags: Vec<Value> = tags.iter().map(|(k, v)| json!({ "Key": k, "Value": v })).collect();
    let _ = boto(
        &p.aws,
        &format!(
            "rds = boto3.client('rds')\n\
             arn = rds.describe_db_instances(DBInstanceIdentifier='{id}')['DBInstances'][0]['DBInstanceArn']\n\
             rds.add_tags_to_resource(ResourceName=arn, Tags={})",
            json!(tags)
        ),
    );
}

#[test]
fn databases_that_serve_nobody_are_told() {
    let p = plane("left-beside", "rds://us-east-1/shop", "");
    assert_eq!((beside(&p), doctor(&p, "source.restored")), (Vec::new(), None));
    let _ = p.backup(&["--tier", "daily"]);
    let _ = p.hf.run(&["restore", "shop", "--to-id", "risen", "--newest-snapshot", "--yes"]).ok();
    let (status, message, hint) = doctor(&p, "source.restored").expect("a line");
    assert_eq!(status, "WARN", "{message}");
    assert!(message.contains("/risen was restored") && message.contains("charged"), "{message}");
    assert!(hint.contains("holdfast cutover shop --to-id risen"), "{hint}");
    let found = beside(&p);
    assert_eq!((found.len(), &found[0]["what"]), (1, &json!("restored")), "{found:?}");
    let _ = p.hf.run(&["list", "shop"]).ok().says("risen (available) was restored");

    // As a cutover leaves what it replaced.
    tag(
        &p,
        "risen",
        &[("holdfast:state", "quarantine"), ("holdfast:quarantined-until", "2036-01-01T00:00:00Z")],
    );
    assert_eq!(doctor(&p, "source.restored"), None);
    let (status, message, _) = doctor(&p, "source.quarantine").expect("a line");
    assert_eq!(status, "OK", "{message}");
    assert!(message.contains("charged until 2036-01-01"), "{message}");
    tag(&p, "risen", &[("holdfast:quarantined-until", "2026-01-01T00:00:00Z")]);
    let (status, message, hint) = doctor(&p, "source.quarantine").expect("a line");
    assert_eq!(status, "WARN", "{message}");
    assert!(hint.contains("holdfast retire risen --db shop"), "{hint}");
    let _ = p.hf.run(&["retire", "risen", "--db", "shop"]).ok().says("risen");
}

/// Somebody gave it another name: it is not gone.
#[test]
fn a_database_that_was_renamed_is_found() {
    let p = plane("left-renamed", "rds://us-east-1/shop", "");
    let all = p.hf.run(&["--json", "list", "shop"]).ok().json();
    let id = all["managed"]["databases"][0]["resource_id"].as_str().expect("id").to_string();
    let path = p.scratch.path("holdfast.toml");
    let text = std::fs::read_to_string(&path).expect("policy");
    let named = format!("policy = \"standard\"\nresource-id = \"{id}\"");
    std::fs::write(&path, text.replacen("policy = \"standard\"", &named, 1)).expect("write");
    let _ = doctor(&p, "source.state");
    let _ = boto(
        &p.aws,
        "boto3.client('rds').modify_db_instance(DBInstanceIdentifier='shop', NewDBInstanceIdentifier='shop-old', \
         ApplyImmediately=True)",
    );
    let _ = p.aws.control("settle", Some(json!({})));
    let (status, message, hint) = doctor(&p, "source.state").expect("a line");
    assert_eq!(status, "FAIL", "{message}");
    assert!(message.contains("called `shop-old` now") && hint.contains("`source`"), "{message} {hint}");
    let _ = p.hf.run(&["list", "shop"]).says("shop-old (available) is it, under another name");
    let ways = ["--json", "recover", "shop", "--scenario", "complete-loss", "--plan"];
    let found = p.hf.run(&ways).json();
    let told = found["warnings"]
        .as_array()
        .is_some_and(|w| w[0].as_str().is_some_and(|t| t.contains("`shop-old` now")));
    assert!(told, "{found:#}");
    std::fs::remove_dir_all(p.scratch.path("state")).expect("forget what was seen");
    let _ = p.hf.run(&ways[1..]).says("`shop-old` now").says("this host never saw it");
}

/// Ctrl-C leaves a snapshot under way: it is told, and the next run makes what it was asked for.
#[test]
fn a_stopped_command_says_what_it_leaves() {
    let p = plane("left-stopped", "rds://us-east-1/shop", "");
    let stopped = |n: u64| {
        let _ = p.aws.control("config", Some(json!({ "polls": 1000 })));
        let mut run = p.hf.spawn(&["--json", "backup", "shop"]);
        let begun = || p.aws.count("rds:CreateDBSnapshot") >= n;
        assert!(proc::wait_until(Duration::from_secs(60), begun), "{}", run.output());
        run.wait_for("creating");
        run.interrupt();
        let ended = run.wait(Duration::from_secs(60)).expect("it stops");
        assert_eq!(ended.code(), Some(130), "{}", run.output());
        let _ = p.aws.control("config", Some(json!({ "polls": 2 })));
        let _ = p.aws.control("settle", Some(json!({})));
        run.output()
    };
    let said = stopped(1);
    assert!(said.contains("has not ended") && said.contains("`holdfast backup shop`"), "{said}");
    for line in said.lines().filter(|l| l.starts_with('{') && l.ends_with('}')) {
        let parsed: Result<Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok(), "{line}");
    }
    assert!(!said.lines().any(|l| l.starts_with("stopping")), "text among lines of json: {said}");
    // That one is finished, and one that ends in a day is made.
    let out = p.hf.run(&["--json", "backup", "shop", "--keep-for", "1d", "--tag", "why=test"]).ok().json();
    assert_eq!((&out["tags"]["why"], p.snapshots(HOME).len()), (&json!("test"), 2), "{out:#}");
    assert!(out["tags"]["holdfast:expires"].is_string(), "{out:#}");

    // The command that is told is the one that goes on with it, and no other one.
    let _ = p.aws.control("config", Some(json!({ "polls": 1000 })));
    let mut run = p.hf.spawn(&["backup", "shop", "--keep-for", "1d"]);
    assert!(
        proc::wait_until(Duration::from_secs(60), || p.aws.count("rds:CreateDBSnapshot") >= 3),
        "{}",
        run.output()
    );
    run.wait_for("creating");
    run.interrupt();
    assert!(run.wait(Duration::from_secs(60)).is_some(), "it stops");
    assert!(run.output().contains("with the options that it was begun with"), "{}", run.output());
    let _ = p.aws.control("config", Some(json!({ "polls": 2 })));
    let _ = p.aws.control("settle", Some(json!({})));
    let out = p.hf.run(&["--json", "backup", "shop", "--keep-for", "1d"]).ok().json();
    assert_eq!((&out["resumed"], p.snapshots(HOME).len()), (&json!(true), 3), "{out:#}");

    // What it left is gone: no reason to make none.
    let _ = stopped(4);
    let _ = boto(
        &p.aws,
        "rds = boto3.client('rds')\n\
         found = rds.describe_db_snapshots(SnapshotType='manual')['DBSnapshots']\n\
         newest = max(found, key=lambda s: s['SnapshotCreateTime'])\n\
         rds.delete_db_snapshot(DBSnapshotIdentifier=newest['DBSnapshotIdentifier'])",
    );
    let _ = p.aws.control("settle", Some(json!({})));
    let out = p.hf.run(&["--json", "backup", "shop", "--tier", "daily"]).ok();
    assert_eq!(out.json()["tags"]["holdfast:tier"], "daily", "{}", out.transcript());
    assert!(out.stderr.contains("which an earlier run began, is over"), "{}", out.stderr);
}

/// A vault of Holdfast's own says nothing about where a provider keeps its backups.
#[test]
fn options_of_the_other_plane_are_refused() {
    let p = plane("left-vault", "rds://us-east-1/shop", "");
    for verb in [&["backup", "shop"][..], &["copy", "shop"]] {
        let (_, message, hint) =
            error_of(&p.hf.run(&[&["--json", "--vault", "west"], verb].concat()).expect_code(2));
        assert!(message.contains("--vault `west`") && hint.contains("--tier"), "{message} {hint}");
    }
    assert!(p.snapshots(HOME).is_empty());
    for verb in [["wal", "status", "shop"], ["wal", "adopt", "shop"]] {
        let (_, message, _) = error_of(&p.hf.run(&[&["--json"], &verb[..]].concat()).expect_code(2));
        assert!(message.contains("a provider runs this one"), "{message}");
    }
    let (_, message, hint) = error_of(&p.hf.run(&["--json", "reap", "nobody"]).expect_code(10));
    assert!(message.contains("`nobody`") && hint.contains("shop"), "{message} {hint}");
    // Whoever only looks leaves no log of changes.
    let state = p.scratch.path("state");
    let _ = std::fs::remove_dir_all(&state);
    let _ = p.hf.run(&["list", "shop"]).ok();
    assert!(!state.join("changes.log").exists());
}
