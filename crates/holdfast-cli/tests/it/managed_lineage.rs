//! Which database a backup is of: those that a cutover replaced are the policy's still, others of the same name are not.

use crate::common::error_of;
use crate::managed::{HOME, Plane, boto, plane};
use crate::managed_cutover::steps;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

fn settle(p: &Plane) {
    let _ = p.aws.control("settle", Some(json!({})));
}

fn edit(p: &Plane, from: &str, to: &str) {
    let path = p.scratch.path("holdfast.toml");
    let text = std::fs::read_to_string(&path).expect("policy");
    assert!(text.contains(from), "{from}");
    std::fs::write(&path, text.replace(from, to)).expect("write");
}

fn resource_id(p: &Plane, id: &str) -> String {
    let script = format!(
        "print(boto3.client('rds').describe_db_instances(DBInstanceIdentifier='{id}')['DBInstances'][0]['DbiResourceId'])"
    );
    boto(&p.aws, &script)
}

fn ways(p: &Plane, args: &[&str]) -> Vec<Value> {
    let all = [&["--json", "recover", "shop"], args].concat();
    p.hf.run(&all).ok().json()["ways"].as_array().expect("ways").clone()
}

/// VE14: whoever deletes a database may rename it before. What it left behind is found by its resource id.
#[test]
fn what_was_renamed_and_deleted_left_its_backups() {
    let p = plane("lineage-renamed", "rds://us-east-1/shop", "");
    // This host has seen it.
    let _ = p.backup(&["--tier", "daily"]);
    let of_this = |w: &Value| w["from"]["from"] == "automated" && w["another"] == false;
    let change = "boto3.client('rds').modify_db_instance(DBInstanceIdentifier='shop', NewDBInstanceIdentifier='x', \
                  ApplyImmediately=True)";
    let _ = boto(&p.aws, change);
    settle(&p);
    let _ = boto(
        &p.aws,
        "boto3.client('rds').delete_db_instance(DBInstanceIdentifier='x', SkipFinalSnapshot=True, \
         DeleteAutomatedBackups=False)",
    );
    settle(&p);
    let found = ways(&p, &["--scenario", "complete-loss"]);
    assert!(found.iter().any(of_this), "{found:#?}");
}

/// An incident of before the cutover is undone from what was replaced, while it is there and when it is gone.
#[test]
fn what_was_replaced_is_a_way_out() {
    let p = plane("lineage-recover", "rds://us-east-1/shop", "");
    let new = json!({ "instances": [{ "DBInstanceIdentifier": "shop-new", "StorageEncrypted": true }] });
    let _ = p.aws.control("seed", Some(new));
    let old = resource_id(&p, "shop");
    steps(&p, "[[databases.shop.cutover]]\ncommand = [\"true\"]\nundo = [\"true\"]\n", "1s");
    let _ = p.hf.run(&["cutover", "shop", "--to-id", "shop-new", "--yes"]).ok();
    edit(&p, "rds://us-east-1/shop\"", "rds://us-east-1/shop-new\"");
    let at = Timestamp::now().checked_sub(SignedDuration::from_hours(72)).expect("a time");
    let at = Timestamp::from_second(at.as_second()).expect("whole seconds");
    let incident = ["--scenario", "corruption", "--at", &at.to_string()];
    let first = ways(&p, &incident).first().cloned().expect("a way");
    assert_eq!(
        (&first["from"]["from"], &first["another"]),
        (&json!("automated"), &json!(false)),
        "{first:#}"
    );
    assert!(first["merits"].to_string().contains("before the cutover"), "{first:#}");
    assert_eq!(first["shows"], json!(at.checked_sub(SignedDuration::from_secs(1)).expect("a second before")));
    // It shows nothing that was written after its successor was made.
    let made: Timestamp = boto(
        &p.aws,
        "print(boto3.client('rds').describe_db_instances(DBInstanceIdentifier='shop-new')['DBInstances'][0]\
         ['InstanceCreateTime'].isoformat())",
    )
    .parse()
    .expect("when it was made");
    let now = ways(&p, &["--scenario", "complete-loss"]);
    let before = now.iter().find(|w| w["from"]["from"] == "automated").expect("its predecessor");
    let shows: Timestamp = before["shows"].as_str().and_then(|t| t.parse().ok()).expect("a moment");
    assert!(shows <= made, "{shows} {made}");
    // Nobody else's.
    let plain = ["--json", "restore", "shop", "--to-id", "x", "--at", &at.to_string()];
    let (_, message, _) = error_of(&p.hf.run(&plain).expect_code(13));
    assert!(message.contains("cannot be reached") || message.contains("no moment"), "{message}");

    let done = p.hf.run(&[&["--json", "recover", "shop", "--yes"], &incident[..]].concat()).ok().json();
    assert!(done["plan"]["from"].as_str().is_some_and(|f| f.contains("before the cutover")), "{done:#}");
    let state = p.aws.control("state", None);
    let text = state["regions"].to_string();
    assert!(text.contains("risen") || text.contains("restored"), "{text}");

    // Gone, with its successor: what this host saw last says which it was.
    let _ = boto(
        &p.aws,
        "rds = boto3.client('rds')\n\
         for id in ('shop', 'shop-new'):\n    \
         rds.modify_db_instance(DBInstanceIdentifier=id, DeletionProtection=False, ApplyImmediately=True)",
    );
    settle(&p);
    let _ = boto(
        &p.aws,
        "rds = boto3.client('rds')\n\
         for id in ('shop', 'shop-new'):\n    \
         rds.delete_db_instance(DBInstanceIdentifier=id, SkipFinalSnapshot=True, DeleteAutomatedBackups=False)",
    );
    settle(&p);
    let gone = ways(&p, &["--scenario", "complete-loss"]);
    let of_old = |w: &&Value| w["merits"].to_string().contains("before the cutover");
    let w = gone.iter().find(of_old).unwrap_or_else(|| panic!("nothing of {old}: {gone:#?}"));
    assert_eq!((&w["from"]["from"], &w["another"]), (&json!("automated"), &json!(false)), "{w:#}");
}

/// A name that was used twice: what another database left is not restored by mistake, and verifies nothing.
#[test]
fn another_database_of_that_name_is_not_restored_by_mistake() {
    let p = plane("lineage-restore", "rds://us-east-1/shop", "");
    let id = resource_id(&p, "shop");
    edit(&p, "policy = \"standard\"\n", &format!("policy = \"standard\"\nresource-id = \"{id}\"\n"));
    let own = p.backup(&["--tier", "daily"])["id"].as_str().expect("id").to_string();
    let _ = boto(
        &p.aws,
        "boto3.client('rds').delete_db_instance(DBInstanceIdentifier='shop', SkipFinalSnapshot=True)",
    );
    settle(&p);
    std::thread::sleep(Duration::from_millis(1100));
    let _ = p.aws.control("seed", Some(json!({ "instances": [{ "DBInstanceIdentifier": "shop" }] })));
    let _ = boto(
        &p.aws,
        "boto3.client('rds').create_db_snapshot(DBInstanceIdentifier='shop', DBSnapshotIdentifier='newer')",
    );
    settle(&p);
    let restore = ["--json", "restore", "shop", "--to-id", "risen"];
    let plan = p.hf.run(&[&restore[..], &["--newest-snapshot"]].concat()).ok().json();
    let arn = plan["plan"]["snapshot_arn"].as_str().expect("a snapshot");
    assert!(arn.ends_with(&format!(":{own}")), "{plan:#}");
    assert!(
        plan["plan"]["notes"].to_string().contains("newer` is newer, and of another database"),
        "{plan:#}"
    );
    let named = [&restore[..], &["--from-snapshot", "newer"]].concat();
    let (_, message, hint) = error_of(&p.hf.run(&named).expect_code(13));
    assert!(message.contains("another database") && hint.contains("--of-another"), "{message} {hint}");
    let plan = p.hf.run(&[&named[..], &["--of-another"]].concat()).ok().json();
    assert!(plan["plan"]["snapshot_arn"].as_str().is_some_and(|a| a.ends_with(":newer")), "{plan:#}");
    let verify = ["--json", "verify", "shop", "--level", "L2", "--from-snapshot", "newer"];
    let (_, message, _) = error_of(&p.hf.run(&verify).expect_code(13));
    assert!(message.contains("another database"), "{message}");

    // Only others are left.
    let _ = boto(&p.aws, &format!("boto3.client('rds').delete_db_snapshot(DBSnapshotIdentifier='{own}')"));
    settle(&p);
    assert_eq!(p.snapshots(HOME), ["newer"]);
    let newest = [&restore[..], &["--newest-snapshot"]].concat();
    let (_, message, _) = error_of(&p.hf.run(&newest).expect_code(13));
    assert!(message.contains("another database"), "{message}");
}

/// What a cutover replaced left snapshots: they are the newest of the new one until it has its own.
#[test]
fn the_newest_snapshot_may_be_of_what_was_replaced() {
    let p = plane("lineage-newest", "rds://us-east-1/shop", "");
    let new = json!({ "instances": [{ "DBInstanceIdentifier": "shop-new", "StorageEncrypted": true }] });
    let _ = p.aws.control("seed", Some(new));
    let old = p.backup(&["--tier", "daily"])["id"].as_str().expect("id").to_string();
    steps(&p, "[[databases.shop.cutover]]\ncommand = [\"true\"]\nundo = [\"true\"]\n", "7d");
    let _ = p.hf.run(&["cutover", "shop", "--to-id", "shop-new", "--yes"]).ok();
    edit(&p, "rds://us-east-1/shop\"", "rds://us-east-1/shop-new\"");
    let newest = || {
        let args = ["--json", "restore", "shop", "--to-id", "risen", "--newest-snapshot"];
        p.hf.run(&args).ok().json()["plan"]["snapshot_arn"].as_str().expect("a snapshot").to_string()
    };
    assert!(newest().ends_with(&format!(":{old}")));
    std::thread::sleep(Duration::from_millis(1100));
    let own = p.backup(&["--tier", "daily"])["id"].as_str().expect("id").to_string();
    assert!(newest().ends_with(&format!(":{own}")));
}
