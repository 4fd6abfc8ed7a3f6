//! What is worked on is what the policy means: the account, the database, and what people said of their snapshots.

use crate::common::error_of;
use crate::managed::{AWAY, HOME, Plane, boto, plane};
use std::time::Duration;

/// The policy, with lines put before its snapshot-id.
fn rewrite(p: &Plane, original: &str, lines: &str) {
    let text = original.replacen("snapshot-id", &format!("{lines}snapshot-id"), 1);
    std::fs::write(p.scratch.path("holdfast.toml"), text).expect("write");
}

fn policy(p: &Plane) -> String {
    std::fs::read_to_string(p.scratch.path("holdfast.toml")).expect("the policy")
}

/// Names are the same in every account, and of a database that was made anew.
#[test]
fn another_account_or_database_is_left_alone() {
    let p = plane("identity", "rds://us-east-1/shop", "");
    let original = policy(&p);
    for _ in 0..3 {
        let _ = p.backup(&["--tier", "daily"]);
        std::thread::sleep(Duration::from_millis(1100));
    }
    let before = p.snapshots(HOME);
    let refused = |args: &[&str], words: &str| {
        let (_, what, hint) = error_of(&p.hf.run(&[&["--json"], args].concat()).expect_code(13));
        assert!(what.contains(words) && !hint.is_empty(), "{args:?}: {what}\n{hint}");
    };
    let all: [&[&str]; 3] = [&["backup", "shop"], &["expire", "shop", "--apply"], &["copy", "shop"]];

    rewrite(&p, &original, "account = \"999999999999\"\n");
    for args in all {
        refused(args, "credentials of account 123456789012");
    }
    refused(&["restore", "shop", "--to-id", "new", "--newest-snapshot", "--yes"], "credentials of account");
    let _ = p.hf.run(&["list", "shop"]).expect_code(3).says("credentials of account 123456789012");
    let _ = p.hf.run(&["doctor", "shop"]).says("credentials of account 123456789012");

    let account = "account = \"123456789012\"\n";
    rewrite(&p, &original, &format!("{account}resource-id = \"db-FAIHNTYBKTGAUSUZQYPDS2GW4A\"\n"));
    for args in all {
        refused(args, "it is another database");
    }
    assert_eq!((p.snapshots(HOME), p.snapshots(AWAY)), (before, Vec::new()), "nothing was changed");

    rewrite(&p, &original, account);
    let _ = p.hf.run(&["expire", "shop"]).ok();
    // After a cutover the old one goes on being there; whoever protects it protects the wrong one.
    let _ = boto(
        &p.aws,
        "rds = boto3.client('rds')\n\
         arn = rds.describe_db_instances(DBInstanceIdentifier='shop')['DBInstances'][0]['DBInstanceArn']\n\
         rds.add_tags_to_resource(ResourceName=arn, Tags=[{'Key': 'holdfast:state', 'Value': 'quarantine'}])",
    );
    for args in all {
        refused(args, "replaced by a cutover");
    }
    let _ = p.hf.run(&["doctor", "shop"]).says("source.replaced");
}

/// What a person made goes when that person said, whatever rules there are.
#[test]
fn what_people_made_ends_when_they_said() {
    let p = plane("by-hand", "rds://us-east-1/shop", "");
    let original = policy(&p);
    let made = |args: &[&str]| {
        let id = p.backup(args)["id"].as_str().expect("id").to_string();
        std::thread::sleep(Duration::from_millis(1100));
        id
    };
    let protected = made(&["--keep-for", "1s", "--tag", "keep-until=2099-01-01"]);
    let unreadable = made(&["--keep-for", "1s", "--tag", "keep-until=soon"]);
    let over = made(&["--keep-for", "1s"]);
    let _ = p.hf.run(&["copy", "shop"]).ok();
    assert_eq!(p.snapshots(AWAY).len(), 3);
    let newest = made(&[]);

    // A policy whose rules are all AWS Backup's, and whose copy is gone.
    let (text, _) = original.split_once("[policies.standard.copies.dr]").expect("a copy");
    let text = text
        .replace("[policies.standard.tiers.daily]", "[policies.standard.tiers.daily]\nvaults = [\"plan\"]")
        .replace("keep = { last = 2, at-least = 1 }", "keep = { window = \"30d\" }")
        .replace("[vaults.west]", "[vaults.plan]\nurl = \"aws-backup://us-east-1/plan\"\n[vaults.west]");
    std::fs::write(p.scratch.path("holdfast.toml"), text).expect("write");
    let list = p.hf.run(&["--json", "list", "shop"]).ok().json();
    let kept = list["managed"]["databases"][0]["kept"].as_array().expect("kept").clone();
    assert_eq!(kept.iter().filter(|k| k["region"] == AWAY).count(), 3, "what was copied is there: {kept:#?}");
    let _ = p.hf.run(&["expire", "shop", "--apply"]).ok().says("keep-until").says("is not a date");
    let left = p.snapshots(HOME);
    assert!(!left.contains(&over), "{left:?}");
    for id in [protected, unreadable, newest] {
        assert!(left.contains(&id), "{id}: {left:?}");
    }
}
