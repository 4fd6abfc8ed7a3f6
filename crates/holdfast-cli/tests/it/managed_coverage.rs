//! How much of a copy was looked at, in figures; what is less than L4, and who is told: the exit code, `list`, `doctor`,
//! `validate --live`. With a real server behind the restored copy.

use crate::managed_verify::{SQL_CHECKS, Stage};
use holdfast_testkit::{Cluster, PgVersion};
use serde_json::{Value, json};

const CHECKER: &str = "create role checker login password 'correct-horse'; grant pg_read_all_data to checker";
/// A temporal foreign key: the stay is covered by two rows of the room together, and equal to none.
const TEMPORAL: &str = "create table rooms (id int4range, open daterange, primary key (id, open without overlaps)); \
    create table stays (room int4range, at daterange, foreign key (room, period at) references rooms (id, period open)); \
    insert into rooms values ('[1,2)', '[2026-01-01,2026-02-01)'), ('[1,2)', '[2026-02-01,2026-03-01)'); \
    insert into stays values ('[1,2)', '[2026-01-15,2026-02-15)')";

/// Status and message of a line of `doctor`.
fn doctor(s: &Stage, name: &str) -> (String, String) {
    let found = s.hf.run(&["--json", "doctor", "shop"]).json();
    let line = found["checks"].as_array().expect("checks").iter().find(|l| l["name"] == name).cloned();
    let line = line.unwrap_or_else(|| panic!("no `{name}` in {found:#}"));
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_string();
    (text("status"), text("message"))
}

fn vw1(s: &Stage) -> Vec<String> {
    let all = s.hf.run(&["--json", "validate", "--live"]).json();
    let found = all["problems"].as_array().expect("problems").iter().filter(|p| p["rule"] == "VW1");
    found.map(|p| p["message"].to_string()).collect()
}

fn share(v: &Value, what: &str) -> (u64, u64) {
    let s = &v["evidence"]["coverage"][what];
    (s["looked_at"].as_u64().expect("looked at"), s["of"].as_u64().expect("of"))
}

fn replace(s: &Stage, from: &str, to: &str) {
    let path = s.scratch.path("holdfast.toml");
    let text = std::fs::read_to_string(&path).expect("policy");
    assert!(text.contains(from), "{from}");
    std::fs::write(&path, text.replace(from, to)).expect("write");
}

fn stage(name: &str) -> (Stage, Cluster) {
    let s = Stage::new(name, "rds://us-east-1/shop", SQL_CHECKS, "1d");
    let pg = s.postgres_of(PgVersion::V18);
    pg.sql("postgres", CHECKER);
    pg.sql("postgres", TEMPORAL);
    let _ = s.snapshot();
    replace(&s, "user = \"postgres\"", "user = \"checker\"");
    (s, pg)
}

#[test]
fn what_was_not_looked_at_is_no_l4() {
    let (s, pg) = stage("mv-coverage");
    // Without rights on amcheck no index is compared: L3 was shown, and L4 was wanted.
    let done = s.verify(&[], 3);
    let v = &done["verify"];
    assert_eq!(
        (&v["passed"], &v["level"], &v["wanted"]),
        (&json!(true), &json!("L3"), &json!("L4")),
        "{done:#}"
    );
    assert!(
        v["incomplete"].as_str().is_some_and(|t| t.starts_with("0 of ") && t.contains("indexes")),
        "{done:#}"
    );
    assert_eq!((share(v, "tables"), share(v, "foreign_keys")), ((4, 4), (2, 2)), "{done:#}");
    let (bytes, indexes) = (share(v, "bytes"), share(v, "indexes"));
    assert!(bytes.0 == bytes.1 && bytes.0 > 100_000 && indexes.0 == 0 && indexes.1 > 3, "{done:#}");
    s.nothing_is_left();
    let _ = s.hf.run(&["list", "shop"]).ok().says("passed L3, L4 is incomplete").says("verified L3");
    // Nor is it a verification for a policy that wants L4.
    let (status, message) = doctor(&s, "verify.newest");
    assert_eq!(status, "WARN", "{message}");
    assert!(message.contains("no verification of L4") && message.contains("L3 was passed"), "{message}");
    let told = vw1(&s);
    assert!(
        told.iter().any(|t| t.contains("no verification of L4") && t.contains("L3 was passed")),
        "{told:?}"
    );

    pg.sql(
        "postgres",
        "create extension amcheck; grant execute on all functions in schema public to checker",
    );
    let out = s.hf.run(&["verify", "shop", "--yes"]).ok();
    let text = format!("{} of {} indexes compared", indexes.1, indexes.1);
    let _ = out.says("passed L4").says("4 of 4 tables (").says("2 of 2 foreign keys followed").says(&text);
    assert_eq!(doctor(&s, "verify.newest").0, "OK");
    assert_eq!(vw1(&s), Vec::<String>::new());
    // A look of less at the same snapshot takes nothing of that away.
    assert_eq!(s.verify(&["--level", "L3"], 0)["verify"]["level"], "L3");
    assert_eq!(doctor(&s, "verify.newest").0, "OK");
    let _ = s.hf.run(&["list", "shop"]).ok().says("verified L4");

    // Rows of a temporal key that nothing covers are a fault, and not an incomplete look.
    pg.sql(
        "postgres",
        "set session_replication_role = replica; update stays set at = '[2026-02-15,2026-03-15)'",
    );
    let done = s.verify(&[], 5);
    assert!(done["verify"]["evidence"]["faults"].to_string().contains("stays has rows without"), "{done:#}");
    s.nothing_is_left();
}

/// A time of its own: what it did not reach is counted.
#[test]
fn the_time_for_the_content_is_up() {
    let (s, pg) = stage("mv-content-time");
    replace(&s, "every = \"7d\"", "every = \"7d\"\ncheck-within = \"1s\"");
    // Its count waits for a transaction that outlives its session.
    let lock = "begin; lock table ledger in access exclusive mode; prepare transaction 'held'";
    pg.sql("postgres", "create table ledger (id int)");
    pg.sql("postgres", lock);
    let done = s.verify(&[], 3);
    let v = &done["verify"];
    let (looked_at, of) = share(v, "tables");
    assert!(looked_at < of && of == 5, "{done:#}");
    assert_eq!((&v["passed"], &v["level"]), (&json!(true), &json!("L3")), "{done:#}");
    assert!(
        v["incomplete"].as_str().is_some_and(|t| t.contains(&format!("{looked_at} of 5 tables"))),
        "{done:#}"
    );
    assert!(v["evidence"]["notes"].to_string().contains("the time was up"), "{done:#}");
    pg.sql("postgres", "rollback prepared 'held'");
    s.nothing_is_left();
}
