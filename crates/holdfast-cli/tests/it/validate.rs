//! `holdfast validate`: form, rules, examples, and what `--explain` shows.

use crate::common::text;
use holdfast_testkit::{Holdfast, Scratch};
use std::path::Path;

const RULES: &str = r#"version = 1

[databases.shop]
source = "rds://us-east-1/shop"
policy = "p"

[policies.p]
rpo = "5m"

[policies.p.pitr]
keep = "40d"
backup-window = "03:00-04:00"

[policies.p.tiers.daily]
schedule = "0 3 * * *"
keep = { daily = 30 }
"#;

fn examples() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

#[test]
fn every_example_validates() {
    let scratch = Scratch::new("examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(examples()).expect("examples") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|e| e == "toml") {
            seen += 1;
            let hf = Holdfast::new(&scratch, &path);
            let shown = hf.run(&["validate", "--explain"]).ok();
            assert!(!shown.stdout.contains("error V"), "{}", shown.transcript());
            let doc = hf.run(&["--json", "validate", "--explain"]).ok().json();
            for claim in doc["claims"].as_array().expect("claims") {
                assert_eq!(claim["met"], true, "{claim}");
            }
        }
    }
    assert!(seen >= 7, "{seen} examples");
}

#[test]
fn rules_have_a_place_a_hint_and_an_exit_code() {
    let scratch = Scratch::new("rules");
    let path = scratch.write("p.toml", RULES);
    let hf = Holdfast::new(&scratch, &path);
    let out = hf.run(&["validate"]).expect_code(2);
    for says in [
        "error VE3: shop: automated backups are to reach back 40d".to_string(),
        format!("--> {}:11:1", path.display()),
        "error VE7: shop: tier `daily` runs in the backup window 03:00-04:00 UTC".to_string(),
        "error VE9: shop: of `loss` at most 5m may be lost".to_string(),
        "warning VW1: shop: nothing is ever verified".to_string(),
        "  hint: ".to_string(),
        "3 errors, 2 warnings".to_string(),
    ] {
        assert!(out.stdout.contains(&says), "{says}\n{}", out.transcript());
    }
    let doc = hf.run(&["--json", "validate"]).expect_code(2).json();
    let problems = doc["problems"].as_array().expect("problems");
    assert_eq!(problems.len(), 5, "{doc}");
    let ve3 = problems.iter().find(|p| p["rule"] == "VE3").expect("VE3");
    assert_eq!((text(&ve3["severity"]), &ve3["line"], &ve3["column"]), ("error", &11.into(), &1.into()));
    assert!(text(&ve3["hint"]).ends_with('.'), "{ve3}");
    assert!(doc.get("claims").is_none());
    // Warnings alone are no failure.
    let mild =
        RULES.replace("40d", "14d").replace("\"0 3 * * *\"", "\"0 6 * * *\"").replace("rpo = \"5m\"\n", "");
    let hf = Holdfast::new(&scratch, scratch.write("mild.toml", &mild));
    let out = hf.run(&["validate"]).ok();
    assert!(out.stdout.contains("0 errors, ") && out.stdout.contains("warning VW4"), "{}", out.transcript());
}

#[test]
fn explain_shows_claims_windows_and_cost() {
    let scratch = Scratch::new("explain");
    let hf = Holdfast::new(&scratch, examples().join("gym.toml"));
    let out = hf.run(&["validate", "--explain"]).ok();
    for says in [
        "loses at most",
        "point in time of the source",
        "1d 2h 30m",
        "backup window 03:00-04:00 UTC",
        "dollars a month",
    ] {
        assert!(out.stdout.contains(says), "{says}\n{}", out.transcript());
    }
}

#[test]
fn variables_come_from_the_environment() {
    let scratch = Scratch::new("variables");
    let path = examples().join("mangu.toml");
    let hf = Holdfast::new(&scratch, &path);
    let _ = hf.run(&["validate"]).ok();
    // Without copies nothing is left when the region is: the objective in the example is not met any more.
    let hf = Holdfast::new(&scratch, &path).env("CROSS_REGION_BACKUP", "false");
    let _ = hf.run(&["validate"]).expect_code(2).says("nothing outside of us-east-1");
    let secret = scratch.write("s.toml", RULES.replace("us-east-1/shop", "us-east-1/${DB_PASSWORD}"));
    let hf = Holdfast::new(&scratch, &secret).env("DB_PASSWORD", "hunter2");
    let out = hf.run(&["validate"]).expect_code(2);
    assert!(out.stderr.contains("`DB_PASSWORD` looks like a secret"), "{}", out.transcript());
    assert!(!out.transcript().contains("hunter2"), "{}", out.transcript());
}
