//! Faults of the strategies (X1 to X43) that no other test holds, and that each has one: `docs/dev/x-faults.md`.

use crate::managed::plane;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;

/// X11: names that sort after it, automated ones and newer ones of another database are not the newest of this one.
#[test]
fn x11_the_newest_is_by_time_and_of_this_database() {
    let p = plane("x11", "rds://us-east-1/shop", "");
    let made = p.backup(&["--tier", "daily"]);
    let id = made["id"].as_str().expect("id");
    let seed = |v| drop(p.aws.control("seed", Some(v)));
    seed(json!({ "snapshots": { "source": "shop", "count": 3, "prefix": "zzz-shop", "every": 3600 } }));
    seed(json!({ "instances": [{ "DBInstanceIdentifier": "aaa", "StorageEncrypted": true }] }));
    seed(json!({ "snapshots": { "source": "aaa", "count": 1, "prefix": "aaa-shop", "every": 0 } }));
    for unfinished in [false, true] {
        if unfinished {
            // One that is on its way is none yet.
            let _ = p.aws.control("config", Some(json!({ "polls": { "snapshot": 1000 } })));
            let script = "boto3.client('rds').create_db_snapshot(DBInstanceIdentifier='shop', \
                          DBSnapshotIdentifier='shop-unfinished')";
            let _ = crate::managed::boto(&p.aws, script);
        }
        let args = ["--json", "restore", "shop", "--to-id", "new", "--newest-snapshot"];
        let plan = p.hf.run(&args).ok().json();
        let from = plan["plan"].to_string();
        assert!(from.contains(&format!("snapshot:{id}\"")), "{plan:#}");
    }
}

/// X13, X19: 45 of its own on pages of 20; 40 of somebody else's that share their names.
#[test]
fn x19_every_page_counts_and_nobody_elses() {
    let p = plane("x19", "rds://us-east-1/shop", "");
    let made = p.backup(&["--tier", "daily"]);
    let id = made["id"].as_str().expect("id").to_string();
    let rows = || {
        let state = p.aws.control("state", None);
        let all = state["regions"]["123456789012"]["us-east-1"]["rds"]["snapshots"].clone();
        all.as_array().expect("snapshots").clone()
    };
    let tags = rows().iter().find(|r| r["id"] == id.as_str()).expect("made")["tags"].clone();
    let seeds: Vec<_> = (0..45)
        .map(|i| {
            let prefix = format!("shop-daily-{i:03}-");
            let mut tags = tags.clone();
            tags["holdfast:snapshot"] = json!(format!("us-east-1/{prefix}00000"));
            json!({ "source": "shop", "count": 1, "prefix": prefix, "every": (i + 1) * 86_400, "tags": tags })
        })
        .collect();
    let _ = p.aws.control("seed", Some(json!({ "snapshots": seeds })));
    let others = json!({ "source": "shop", "count": 40, "prefix": "shop-daily-", "every": 86_400 });
    let _ = p.aws.control("seed", Some(json!({ "snapshots": others })));
    let _ = p.aws.control("config", Some(json!({ "page_size": 20 })));
    let plan = p.hf.run(&["--json", "expire", "shop"]).ok().json();
    let home = plan["regions"].as_array().expect("regions").iter().find(|r| r["region"] == "us-east-1");
    let lines = home.expect("home")["snapshots"].as_array().expect("snapshots").clone();
    assert_eq!(lines.len(), 46, "all of its own, whatever the page");
    let _ = p.hf.run(&["expire", "shop", "--apply"]).ok();
    let manual = |r: &&serde_json::Value| r["id"].as_str().is_some_and(|i| !i.contains(':'));
    let left = rows();
    let (ours, theirs): (Vec<_>, Vec<_>) =
        left.iter().filter(manual).partition(|r| r["tags"].get("holdfast:operation").is_some());
    // Its rule keeps two.
    assert_eq!((ours.len(), theirs.len()), (2, 40));
    assert!(ours.iter().any(|r| r["id"] == id.as_str()));
}

/// Names of functions under `dir`.
fn functions(dir: &Path, out: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())).flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            functions(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source");
            let mut test = false;
            for line in text.lines().map(str::trim) {
                test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                if let Some((_, rest)) = line.split_once("fn ").filter(|_| test && !line.starts_with("//")) {
                    out.extend(rest.split_once('(').map(|(name, _)| name.to_string()));
                    test = false;
                }
            }
        }
    }
}

#[test]
fn every_fault_has_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = std::fs::read_to_string(root.join("docs/dev/x-faults.md")).expect("the table");
    let mut tests = BTreeSet::new();
    functions(&root.join("crates"), &mut tests);
    let mut seen = Vec::new();
    for row in table.lines().filter(|l| l.starts_with("| X")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, fault, _, how, named, _] = cells[..] else { panic!("not four columns: {row}") };
        let names: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty() || how.starts_with("not managed"), "{fault} has no test");
        for name in names {
            assert!(tests.contains(name), "{fault}: there is no test `{name}`");
        }
        seen.push(fault.to_string());
    }
    let all: Vec<String> = (1..=43).map(|n| format!("X{n}")).collect();
    assert_eq!(seen, all);
}
