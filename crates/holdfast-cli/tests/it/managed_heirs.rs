//! What people restore from Holdfast's snapshots inherits their tags, and so do its snapshots: none of that may be
//! taken for what Holdfast made, nor for temporary.

use crate::managed::{Plane, boto, plane};
use serde_json::json;
use std::time::Duration;

const HOME: &str = "us-east-1";
const AWAY: &str = "us-west-2";

/// As from the console: the tags are not asked for, and inherited.
fn restored_by_hand(p: &Plane, region: &str, snapshot: &str, id: &str) -> String {
    boto(
        &p.aws,
        &format!(
            "rds = boto3.client('rds', region_name='{region}')\n\
             rds.restore_db_instance_from_db_snapshot(DBInstanceIdentifier='{id}', DBSnapshotIdentifier='{snapshot}', \
             CopyTagsToSnapshot=True)\n\
             def db(): return rds.describe_db_instances(DBInstanceIdentifier='{id}')['DBInstances'][0]\n\
             while db()['DBInstanceStatus'] != 'available': pass\n\
             print(' '.join(sorted(t['Key'] for t in db()['TagList'])))"
        ),
    )
}

/// The snapshot before a change is over after a day; what somebody restored from it in an incident is in service.
#[test]
fn what_a_person_restored_is_not_temporary_and_the_last_snapshot_stays() {
    let p = plane("heirs-reap", "rds://us-east-1/shop", "");
    let made = p.backup(&["--keep-for", "1d"]);
    let id = made["id"].as_str().expect("id");
    let _ = boto(
        &p.aws,
        &format!(
            "rds = boto3.client('rds', region_name='{HOME}')\n\
             arn = rds.describe_db_snapshots(DBSnapshotIdentifier='{id}')['DBSnapshots'][0]['DBSnapshotArn']\n\
             rds.add_tags_to_resource(ResourceName=arn, Tags=[{{'Key': 'holdfast:expires', 'Value': '2020-01-01T00:00:00Z'}}])"
        ),
    );
    let inherited = restored_by_hand(&p, HOME, id, "shop-by-hand");
    assert!(
        inherited.contains("holdfast:expires") && inherited.contains("holdfast:operation"),
        "{inherited}"
    );
    let reap = p.hf.run(&["--json", "reap", "--yes"]).ok().json();
    assert_eq!(reap["reap"][0]["plan"]["remove"], json!([]), "{reap:#}");
    let there =
        "print(len(boto3.client('rds', region_name='us-east-1').describe_db_instances()['DBInstances']))";
    assert_eq!(boto(&p.aws, there), "2");
    // It is over, and it is all that there is.
    let _ = p.hf.run(&["expire", "shop", "--apply"]).ok().says("the newest that there is");
    assert_eq!(p.snapshots(HOME), [id]);
    std::thread::sleep(Duration::from_millis(1100));
    let newer = p.backup(&["--tier", "daily"]);
    let _ = p.hf.run(&["expire", "shop", "--apply"]).ok();
    assert_eq!(p.snapshots(HOME), [newer["id"].as_str().expect("id")]);
}

/// What a copy says of its original holds for no snapshot of what was restored from it.
#[test]
fn snapshots_of_what_was_restored_from_a_copy_are_no_copies() {
    let p = plane("heirs-copies", "rds://us-east-1/shop", "");
    let first = p.backup(&["--tier", "daily"]);
    let _ = p.hf.run(&["copy", "shop"]).ok();
    let inherited = restored_by_hand(&p, AWAY, first["id"].as_str().expect("id"), "shop-west");
    assert!(inherited.contains("holdfast:copy-of") && inherited.contains("holdfast:taken"), "{inherited}");
    let text = std::fs::read_to_string(p.scratch.path("holdfast.toml")).expect("policy");
    let moved = text
        .replace("rds://us-east-1/shop", "rds://us-west-2/shop-west")
        .replace("snapshots://us-west-2", "snapshots://us-east-1");
    let key = boto(
        &p.aws,
        "print(boto3.client('kms', region_name='us-east-1').create_key()['KeyMetadata']['Arn'])",
    );
    let old = text.lines().find(|l| l.starts_with("kms-key")).expect("a key");
    let _ = p.scratch.write("holdfast.toml", moved.replace(old, &format!("kms-key = \"{key}\"")));
    let made: Vec<String> = (0..3)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(1100));
            p.backup(&["--tier", "daily"])["id"].as_str().expect("id").to_string()
        })
        .collect();
    // Two are kept: the newest.
    let _ = p.hf.run(&["expire", "shop", "--apply"]).ok();
    let mut kept = p.snapshots(AWAY);
    kept.retain(|id| made.contains(id));
    assert_eq!(kept, made[1..]);
    let out = p.hf.run(&["--json", "copy", "shop"]).ok().json();
    assert_eq!(out["copies"][0]["report"]["arrived"].as_array().map(Vec::len), Some(2), "{out:#}");
}
