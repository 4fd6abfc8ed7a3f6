//! A vault that is away keeps nobody from the others, and is told.

use crate::common::{DB, Site, error_of, text};
use crate::copies;
use serde_json::Value;
use std::fs;

fn names(v: &Value) -> Vec<&str> {
    v["away"].as_array().expect("away").iter().map(|a| text(&a["vault"])).collect()
}

/// Takes a vault away, or brings it back: nobody may have put anything in its place.
fn rename(site: &Site, from: &str, to: &str) {
    assert!(!site.scratch.path(to).exists(), "{to} is there");
    fs::rename(site.scratch.path(from), site.scratch.path(to)).expect("rename the vault");
}

/// What is noted of a point in a vault, by kind.
fn notes(site: &Site, vault: &str, kind: &str) -> usize {
    let all = holdfast_testkit::damage::files_under(&site.scratch.path(vault));
    all.iter().filter(|f| f.extension().is_some_and(|e| e == kind)).count()
}

#[test]
fn what_can_be_asked_is_asked_and_the_rest_is_told() {
    let site = copies::site("away", "last = 9");
    copies::replace(&site, "at-least = 2", "at-least = 1");
    copies::replace(&site, "[vaults.local]\n", "[vaults.local]\nsweep-after = \"1s\"\n");
    site.sql("create table t as select g from generate_series(1, 1000) g");
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(text(&site.backup(&["--full"])["id"]).to_owned());
    }
    site.pg.wait_archived();
    let _ = copies::copy(&site, &[DB]).ok();
    let whole = site.hf.run(&["--json", "expire", DB]).ok().json();
    assert_eq!((whole["plans"].as_array().map(Vec::len), names(&whole)), (Some(2), vec![]), "{whole}");
    let status = site.hf.run(&["--json", "wal", "status", DB]).ok().json();
    assert_eq!((status["archives"].as_array().map(Vec::len), names(&status)), (Some(2), vec![]));
    let held = site.hf.run(&["--json", "hold", &ids[2], "--title", "both"]).ok().json();
    let both = text(&held["hold"]["id"]).to_owned();
    assert_eq!((notes(&site, "vault", "hold"), notes(&site, "dr", "hold")), (1, 1));

    // The copies are away: the rest is done, and said to be a part.
    rename(&site, "dr", "dr.gone");
    let plan = site.hf.run(&["--json", "expire", DB]).expect_code(3).json();
    assert_eq!((plan["plans"].as_array().map(Vec::len), names(&plan)), (Some(1), vec!["dr"]), "{plan}");
    assert_eq!(plan["plans"][0]["points"].as_array().map(Vec::len), Some(3), "{plan}");
    assert!(
        !text(&plan["away"][0]["error"]).is_empty() && !text(&plan["away"][0]["hint"]).is_empty(),
        "{plan}"
    );
    let done = site.hf.run(&["--json", "expire", &ids[0], "--apply"]).expect_code(3).json();
    assert_eq!((&done["expired"], names(&done)), (&1.into(), vec!["dr"]), "{done}");
    assert_eq!(notes(&site, "vault", "expired"), 1);
    let _ =
        site.hf.run(&["expire", DB]).expect_code(3).says("vault local").says("WARN vault `dr` was left out");
    let status = site.hf.run(&["--json", "wal", "status", DB]).expect_code(3).json();
    assert_eq!((status["archives"].as_array().map(Vec::len), names(&status)), (Some(1), vec!["dr"]));
    let _ = site.hf.run(&["wal", "status", DB]).expect_code(3).says("vault local").says("WARN vault `dr`");
    let held = site.hf.run(&["--json", "hold", &ids[1], "--title", "audit"]).expect_code(3).json();
    assert_eq!((text(&held["status"]), names(&held)), ("held", vec!["dr"]), "{held}");
    let audit = text(&held["hold"]["id"]).to_owned();
    assert_eq!((notes(&site, "vault", "hold"), notes(&site, "dr.gone", "hold")), (2, 1));
    let _ = site.hf.run(&["hold", &ids[1], "--title", "again"]).expect_code(3).says("--vault dr");
    let list = site.hf.run(&["--json", "hold", "--list"]).expect_code(3).json();
    assert_eq!((list["holds"].as_array().map(Vec::len), names(&list)), (Some(3), vec!["dr"]), "{list}");
    let gone = site.hf.run(&["--json", "release", &both]).expect_code(3).json();
    assert_eq!((text(&gone["status"]), names(&gone)), ("released", vec!["dr"]), "{gone}");
    // A point that nobody has may be where nobody could look, and so may a hold.
    let (_, message, _) =
        error_of(&site.hf.run(&["--json", "expire", "20000101T000000Z-aaaaaa"]).expect_code(10));
    assert!(message.contains("`dr`"), "{message}");
    let (_, message, _) =
        error_of(&site.hf.run(&["--json", "release", "20000101T000000Z-aaaaaa"]).expect_code(10));
    assert!(message.contains("`dr`"), "{message}");

    let _ = site.hf.run(&["sweep", DB]).expect_code(1).says("vault dr");
    // Back again: it holds what was not released there, and the rest can be made up for.
    rename(&site, "dr.gone", "dr");
    let list = site.hf.run(&["--json", "hold", "--list"]).ok().json();
    let of =
        |vault: &str| list["holds"].as_array().expect("holds").iter().filter(|h| h["vault"] == vault).count();
    assert_eq!((of("local"), of("dr")), (2, 1), "{list}");
    let _ = site.hf.run(&["--vault", "dr", "release", &both]).ok();
    let _ = site.hf.run(&["--vault", "dr", "hold", &ids[1], "--title", "audit"]).ok();
    assert_eq!((notes(&site, "dr", "hold"), notes(&site, "dr", "released")), (2, 1));

    // The first one is away, where backups go: the copies are asked, by the id that the backup gave.
    rename(&site, "vault", "vault.gone");
    let held = site.hf.run(&["--json", "hold", &ids[2], "--title", "copy"]).expect_code(3).json();
    assert_eq!(names(&held), ["local"], "{held}");
    let plan = site.hf.run(&["--json", "expire", DB]).expect_code(3).json();
    assert_eq!((text(&plan["plans"][0]["vault"]), names(&plan)), ("dr", vec!["local"]), "{plan}");
    // With none there is nothing to do; neither has one that was named another to fall back on.
    let (_, message, _) =
        error_of(&site.hf.run(&["--json", "--vault", "local", "expire", DB]).expect_code(10));
    assert!(message.contains("no vault"), "{message}");
    rename(&site, "dr", "dr.gone");
    for args in
        [&["--json", "expire", DB][..], &["--json", "wal", "status", DB], &["--json", "release", &audit]]
    {
        let (_, message, _) = error_of(&site.hf.run(args).expect_code(10));
        assert!(message.contains("no vault"), "{args:?}: {message}");
    }
}
