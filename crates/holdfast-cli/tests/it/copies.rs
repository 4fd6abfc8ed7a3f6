//! Copies in a second vault: complete, byte for byte, with keys of their own, and no more than is missing.

use crate::common::{DB, Site, error_of, fingerprint, server, text};
use holdfast_testkit::damage::{files_under, flip_bit_at};
use holdfast_testkit::{Fault, FaultProxy, Holdfast, Output, PgVersion, Rule, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Adds to the policy of a site: further vaults as (name, table), and what copies go to.
pub fn extend(site: &Site, tables: &str) {
    let path = site.scratch.path("holdfast.toml");
    let text = fs::read_to_string(&path).expect("the policy");
    site.scratch.write("holdfast.toml", format!("{text}\n{tables}"));
}

pub fn replace(site: &Site, old: &str, new: &str) {
    let text = fs::read_to_string(site.scratch.path("holdfast.toml")).expect("the policy");
    assert!(text.contains(old), "{old} in {text}");
    site.scratch.write("holdfast.toml", text.replace(old, new));
}

/// A vault of its own key, made by `init` for a database of this name; returns its table for the policy.
fn vault(site: &Site, name: &str, database: &str) -> String {
    let other = Holdfast::new(&site.scratch, site.scratch.path(format!("{name}.toml")));
    let url = format!("file://{}", site.scratch.path(name).display());
    let key = site.scratch.path(format!("{name}.key")).display().to_string();
    let conninfo = site.pg.conninfo();
    let args =
        ["init", "--name", database, "--conninfo", &conninfo, "--vault", &url, "--key-file", &key, "--yes"];
    let _ = other.run(&args).ok();
    format!("[vaults.{name}]\nurl = \"{url}\"\nkey-file = \"{key}\"\nsweep-after = \"1s\"\n")
}

/// A site whose policy copies to `dr`, a vault with another key.
pub fn site(name: &str, keep: &str) -> Site {
    let site = Site::new(name, PgVersion::V17);
    with_copies(&site, keep);
    site
}

fn with_copies(site: &Site, keep: &str) {
    let table = vault(site, "dr", "other");
    let copies = format!("[policies.standard.copies.dr]\nto = \"dr\"\nkeep = {{ {keep} }}\n");
    extend(site, &format!("{table}\n{copies}"));
}

pub fn copy(site: &Site, args: &[&str]) -> Output {
    let mut all = vec!["--json", "copy"];
    all.extend(args);
    site.hf.run(&all)
}

fn points_of(site: &Site, vault: &str) -> Vec<Value> {
    let list = site.hf.run(&["--json", "--vault", vault, "list", DB]).ok().json();
    list["points"].as_array().expect("points").clone()
}

fn bytes_of(dir: &Path) -> u64 {
    files_under(dir).iter().map(|f| fs::metadata(f).map_or(0, |m| m.len())).sum()
}

/// Every file of a restored directory, but for the settings, which name the vault.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let own = |p: &PathBuf| p.file_name().is_some_and(|n| n == "postgresql.auto.conf");
    let name = |p: &PathBuf| p.strip_prefix(dir).expect("below").to_path_buf();
    let all = files_under(dir).into_iter().filter(|p| !own(p));
    all.map(|p| (name(&p), fs::read(&p).expect("read"))).collect()
}

/// Restores the point from both vaults, and compares every byte.
fn equal_in_both(site: &Site, origin: &str, n: &str) {
    let (a, b) = (format!("a{n}"), format!("b{n}"));
    let _ = site.restore(&a, &["--vault", "local", "--point", origin, "--immediate"]);
    let _ = site.restore(&b, &["--vault", "dr", "--point", origin, "--immediate"]);
    let (left, right) = (tree(&site.scratch.path(&a)), tree(&site.scratch.path(&b)));
    assert!(left.len() > 500, "{} files", left.len());
    assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
    for (name, bytes) in &left {
        assert!(right[name] == *bytes, "{} differs", name.display());
    }
    for dir in [a, b] {
        fs::remove_dir_all(site.scratch.path(&dir)).expect("remove");
    }
}

/// Nothing damaged, nothing that no point needs.
fn whole(site: &Site, vault: &str) {
    let out = site.hf.run(&["--vault", vault, "check"]).ok();
    assert!(!out.stdout.contains("FAIL"), "{}", out.stdout);
    assert!(!out.stdout.contains("no point needs it"), "{}", out.stdout);
}

fn fill(site: &Site) {
    site.sql("create table big as select g, repeat(md5(g::text), 8) as pad from generate_series(1, 30000) g");
    site.sql("create unlogged table scratch(x int)");
    site.sql("create table small(x int); insert into small values (1)");
}

/// A full and incrementals in a second vault: equal, by themselves, and only what changed is added.
#[test]
fn a_chain_arrives_byte_for_byte_and_grows_by_what_changed() {
    let site = Site::new("copies", PgVersion::V17);
    fill(&site);
    let mut ids = vec![text(&site.backup(&["--tag", "why=test", "--note", "first"])["id"]).to_owned()];
    for n in 0..2 {
        site.sql(&format!("update big set pad = 'changed {n}' where g % 50 = {n}; create table t{n}(x int)"));
        site.sql("truncate small; insert into small select g from generate_series(1, 5000) g");
        ids.push(text(&site.backup(&[])["id"]).to_owned());
    }
    site.sql("select pg_switch_wal()");
    site.pg.wait_archived();
    // Until now nobody told the archiver of the second vault.
    with_copies(&site, "last = 9");
    let _ = site.hf.run(&["doctor", DB]).says("vault `dr` has no copy of any point yet");
    // A plan touches nothing.
    let before = bytes_of(&site.scratch.path("dr"));
    let plan = copy(&site, &[DB, "--to", "dr", "--plan"]).ok().json();
    assert_eq!(plan["copies"][0]["points"].as_array().map(Vec::len), Some(3), "{plan}");
    assert!(plan["copies"][0]["wal_segments"].as_u64() > Some(0), "{plan}");
    assert_eq!(bytes_of(&site.scratch.path("dr")), before);
    // Oldest first, each read back.
    let done = copy(&site, &[DB]).ok().json();
    let copied = done["copies"][0]["points"].as_array().expect("points").clone();
    assert_eq!(copied.iter().map(|p| text(&p["origin"])).collect::<Vec<_>>(), ids, "{done}");
    assert!(copied.iter().all(|p| p["status"] == "copied"), "{done}");
    assert_eq!(copied.iter().map(|p| text(&p["verified_level"])).collect::<Vec<_>>(), ["L2", "L0", "L0"]);
    let stored = |p: &Value| p["stored_bytes"].as_u64().expect("bytes");
    assert!(stored(&copied[1]) * 4 < stored(&copied[0]), "{done}");
    let read = |p: &Value| p["read_bytes"].as_u64().expect("read");
    // Frames of the source hold what changed beside what was stored anew (wear).
    assert!(read(&copied[1]) * 3 < read(&copied[0]), "{done}");
    assert!(done["copies"][0]["wal"]["segments"].as_u64() > Some(0), "{done}");
    let there = points_of(&site, "dr");
    assert_eq!(there.iter().map(|p| text(&p["copy_of"])).collect::<Vec<_>>(), ids);
    assert_eq!((&there[0]["note"], &there[0]["tags"]["why"]), (&"first".into(), &"test".into()));
    let original = points_of(&site, "local");
    for (a, b) in original.iter().zip(&there) {
        for k in ["kind", "start_lsn", "stop_lsn", "finished_at", "size_bytes", "files", "timeline"] {
            assert_eq!(a[k], b[k], "{k}");
        }
    }
    for (n, id) in ids.iter().enumerate() {
        equal_in_both(&site, id, &n.to_string());
    }
    let verified = site.hf.run(&["--json", "--vault", "dr", "verify", &ids[2], "--level", "L3"]).ok().json();
    assert_eq!((&verified["level"], &verified["vault"]), (&"L3".into(), &"dr".into()), "{verified}");
    whole(&site, "dr");
    // Killed between commit and read-back, it would have no note: the next copy makes up for it.
    let dr = site.scratch.path("dr");
    let first = text(&there[0]["id"]).to_owned();
    let notes = || {
        let all = files_under(&dr).into_iter();
        all.filter(|f| f.display().to_string().contains(&format!("notes/{first}/"))).collect::<Vec<_>>()
    };
    for f in notes() {
        fs::remove_file(f).expect("remove the note");
    }
    let _ = copy(&site, &[DB]).ok();
    assert_eq!(notes().len(), 1);
    assert_eq!(points_of(&site, "dr")[0]["verified_level"], "L2");
    // Again: nothing to do, and nothing written but what an attempt costs.
    let before = bytes_of(&site.scratch.path("dr"));
    let again = copy(&site, &[DB, "--to", "dr"]).ok().json();
    assert_eq!(again["copies"][0]["points"].as_array().map(Vec::len), Some(0), "{again}");
    assert_eq!(again["copies"][0]["wal"]["segments"], 0, "{again}");
    let named = copy(&site, &[&ids[1], "--to", "dr"]).ok().json();
    assert_eq!(named["copies"][0]["points"][0]["status"], "already-there", "{named}");
    let _ = site.hf.run(&["copy", &ids[1], "--to", "dr"]).ok().says("already there");
    assert_eq!(bytes_of(&site.scratch.path("dr")), before);
    // A little changes: a little is added and read. (The archiver brings its WAL by itself.)
    let packs = |dir: &Path| -> u64 {
        let all = files_under(dir).into_iter().filter(|f| f.extension().is_some_and(|e| e == "pack"));
        all.map(|f| fs::metadata(f).map_or(0, |m| m.len())).sum()
    };
    let before = packs(&site.scratch.path("dr"));
    site.sql("update big set pad = 'later' where g = 77");
    let made = site.backup(&[]);
    let last = text(&made["id"]).to_owned();
    let expected = fingerprint(&site.pg, "postgres");
    site.pg.wait_archived();
    let done = copy(&site, &[DB]).ok().json();
    let p = &done["copies"][0]["points"][0];
    assert_eq!(p["origin"], last.as_str());
    let added = packs(&site.scratch.path("dr")) - before;
    assert_eq!(p["changed_bytes"], made["changed_bytes"], "the same blocks as the backup: {done} {made}");
    assert!(stored(p) * 4 < stored(&copied[0]) && added * 4 < before, "{added} to {before}: {done}");
    assert!(added <= stored(p), "{added}: {done}");
    let read = |p: &Value| p["read_bytes"].as_u64().expect("read");
    assert!(read(p) * 4 < read(&copied[0]), "{p}");
    equal_in_both(&site, &last, "last");
    // The copy needs nothing of the source, neither points nor WAL.
    fs::rename(site.scratch.path("vault"), site.scratch.path("lost")).expect("lose the vault");
    let _ = site.restore("alone", &["--vault", "dr"]);
    let mut pg = site.copy("alone").start();
    pg.wait_recovery_end(Duration::from_secs(120));
    assert_eq!(fingerprint(&pg, "postgres"), expected);
}

/// Two vaults that heard of the cluster by themselves digest differently: everything is read, and still only
/// what changed is stored.
#[test]
fn vaults_with_other_digests_match_all_the_same() {
    let site = Site::new("copydigests", PgVersion::V15);
    let table = vault(&site, "dr", DB);
    extend(&site, &format!("{table}\n[policies.standard.copies.dr]\nto = \"dr\"\nkeep = {{ last = 9 }}\n"));
    fill(&site);
    let first = text(&site.backup(&[])["id"]).to_owned();
    site.pg.wait_archived();
    let one = copy(&site, &[DB]).ok().json()["copies"][0]["points"][0].clone();
    site.sql("update big set pad = 'later' where g % 1000 = 0");
    let second = text(&site.backup(&[])["id"]).to_owned();
    site.pg.wait_archived();
    let two = copy(&site, &[DB]).ok().json()["copies"][0]["points"][0].clone();
    let number = |p: &Value, k: &str| p[k].as_u64().expect("number");
    assert!(number(&two, "stored_bytes") * 4 < number(&one, "stored_bytes"), "{one} {two}");
    assert!(number(&two, "read_bytes") * 2 > number(&one, "read_bytes"), "all was read: {one} {two}");
    equal_in_both(&site, &first, "1");
    equal_in_both(&site, &second, "2");
    whole(&site, "dr");
}

/// kill -9 at many moments: what is there is whole, a repeat brings the rest, and a sweep finds the litter.
#[test]
fn killed_copies_are_repeated_and_leave_nothing() {
    let site = site("copykill", "last = 9");
    // Small packs: each that is full is there, whatever becomes of the run.
    replace(&site, "sweep-after = \"1s\"", "sweep-after = \"1s\"\npack-size = \"256KiB\"");
    fill(&site);
    site.sql("create table random as select gen_random_uuid() a, gen_random_uuid() b from generate_series(1, 100000)");
    let mut ids = vec![text(&site.backup(&[])["id"]).to_owned()];
    site.sql("update big set pad = 'changed' where g % 3 = 0");
    ids.push(text(&site.backup(&[])["id"]).to_owned());
    site.pg.wait_archived();
    extend(&site, "[tuning]\nrate = \"8MiB\"\n");
    let (mut killed, mut leases) = (0, 0);
    for ms in [40, 90, 150, 250, 400, 600, 900, 1500].into_iter().chain(std::iter::repeat_n(2500, 20)) {
        // On a busy machine the first ones may not have come as far as a pack.
        let packs = files_under(&site.scratch.path("dr"));
        if ms > 900 && leases > 1 && packs.iter().any(|f| f.extension().is_some_and(|e| e == "pack")) {
            break;
        }
        let mut run = site.hf.spawn(&["--json", "copy", DB, "--to", "dr"]);
        std::thread::sleep(Duration::from_millis(ms));
        killed += u64::from(run.is_running());
        run.kill9();
        let out = site.hf.run(&["--vault", "dr", "check"]).ok();
        assert!(!out.stdout.contains("FAIL"), "{}", out.stdout);
        leases = files_under(&site.scratch.path("dr"))
            .iter()
            .filter(|f| f.extension().is_some_and(|e| e == "lease"))
            .count();
    }
    assert!(killed > 2 && leases > 1, "{killed} killed, {leases} leases");
    replace(&site, "rate = \"8MiB\"", "rate = \"1GiB\"");
    let _ = copy(&site, &[DB, "--to", "dr"]).ok();
    let there = points_of(&site, "dr");
    assert_eq!(there.iter().map(|p| text(&p["copy_of"])).collect::<Vec<_>>(), ids, "each once");
    let litter = site.hf.run(&["--vault", "dr", "check", "--fast"]).ok();
    assert!(litter.stdout.contains("no point needs it"), "nothing was left: {}", litter.stdout);
    let _ = site.hf.run(&["--vault", "dr", "sweep"]).ok();
    whole(&site, "dr");
    for (n, id) in ids.iter().enumerate() {
        equal_in_both(&site, id, &n.to_string());
    }
}

/// Two at once from different hosts (states): one copies, the other gives way or finds it there.
#[test]
fn two_copiers_make_one_copy() {
    let site = site("copytwo", "last = 9");
    fill(&site);
    let id = text(&site.backup(&[])["id"]).to_owned();
    site.pg.wait_archived();
    let text_of = fs::read_to_string(site.scratch.path("holdfast.toml")).expect("policy");
    site.scratch
        .write("second.toml", format!("state-dir = \"state2\"\n{text_of}").replace("version = 1", ""));
    let second = fs::read_to_string(site.scratch.path("second.toml")).expect("policy");
    site.scratch.write("second.toml", format!("version = 1\n{second}"));
    let other = Holdfast::new(&site.scratch, site.scratch.path("second.toml"));
    let mut runs = [site.hf.spawn(&["copy", &id, "--to", "dr"]), other.spawn(&["copy", &id, "--to", "dr"])];
    let codes: Vec<Option<i32>> =
        runs.iter_mut().map(|r| r.wait(Duration::from_secs(60)).and_then(|s| s.code())).collect();
    assert!(codes.contains(&Some(0)) && codes.iter().all(|c| matches!(c, Some(0 | 11))), "{codes:?}");
    let _ = copy(&site, &[&id, "--to", "dr"]).ok();
    assert_eq!(points_of(&site, "dr").len(), 1);
    whole(&site, "dr");
}

/// Rules of the target decide what comes, what is gone there stays gone, and what goes here stays there.
#[test]
fn each_vault_keeps_by_its_own_rules() {
    let site = site("copyrules", "last = 1");
    replace(&site, "at-least = 2", "at-least = 1");
    // A window of recovery to any second would want its base as well.
    replace(&site, "wal = { keep = \"30d\", required = \"any\" }", "wal = { required = \"any\" }");
    replace(&site, "[vaults.local]\n", "[vaults.local]\nsweep-after = \"1s\"\n");
    fill(&site);
    let mut ids = Vec::new();
    for n in 0..3 {
        site.sql(&format!("create table t{n} as select g from generate_series(1, 3000) g"));
        ids.push(text(&site.backup(&[])["id"]).to_owned());
    }
    site.pg.wait_archived();
    let _ = site.hf.run(&["--vault", "local", "expire", &ids[0], "--apply"]).ok();
    let done = copy(&site, &[DB]).ok().json();
    let only: Vec<&str> =
        done["copies"][0]["points"].as_array().expect("points").iter().map(|p| text(&p["origin"])).collect();
    assert_eq!(only, [&ids[2]], "{done}");
    let left = done["copies"][0]["left"].to_string();
    assert!(left.contains("expired in vault `local`") && left.contains("no rule of vault `dr`"), "{left}");
    // By name, whatever the rules say; but not what is expired.
    let (code, message, hint) = error_of(&copy(&site, &[&ids[0], "--to", "dr"]).expect_code(13));
    assert!(code == "refused" && message.contains("expired") && hint.contains("hold"), "{message} {hint}");
    let _ = copy(&site, &[&ids[1], "--to", "dr"]).ok();
    assert_eq!(points_of(&site, "dr").len(), 2);
    // The target lets it go again, and the next copy does not bring it back.
    let gone = text(&points_of(&site, "dr")[0]["id"]).to_owned();
    let _ = site.hf.run(&["--vault", "dr", "expire", &gone, "--apply"]).ok();
    std::thread::sleep(Duration::from_millis(1100));
    let _ = site.hf.run(&["--vault", "dr", "sweep"]).ok();
    assert_eq!(points_of(&site, "dr").len(), 1);
    replace(&site, "keep = { last = 1 }", "keep = { last = 5 }");
    let done = copy(&site, &[DB]).ok().json();
    assert_eq!(done["copies"][0]["points"][0]["status"], "removed-there", "{done}");
    assert_eq!(points_of(&site, "dr").len(), 1);
    // A person does.
    let _ = copy(&site, &[&ids[1], "--to", "dr"]).ok();
    assert_eq!(points_of(&site, "dr").len(), 2);
    equal_in_both(&site, &ids[1], "again");
    // The source lets all but its newest go: the copies stand by themselves.
    let _ = site.hf.run(&["--vault", "local", "expire", &ids[1], "--apply"]).ok();
    std::thread::sleep(Duration::from_millis(1100));
    let _ = site.hf.run(&["--vault", "local", "sweep"]).ok();
    assert_eq!(points_of(&site, "local").len(), 1);
    let _ = site.restore("late", &["--vault", "dr", "--point", &ids[1], "--immediate"]);
    let mut pg = site.copy("late").start();
    pg.wait_recovery_end(Duration::from_secs(120));
    assert_eq!(pg.sql("postgres", "select count(*) from pg_tables where tablename ~ '^t[0-9]'"), "2");
    whole(&site, "dr");
}

/// Damage of the source does not pass: the object is named, the target stays whole.
#[test]
fn damage_is_named_and_does_not_pass() {
    let site = site("copydamage", "last = 9");
    fill(&site);
    let full = text(&site.backup(&[])["id"]).to_owned();
    site.pg.wait_archived();
    let pack = files_under(&site.scratch.path("vault"))
        .into_iter()
        .find(|f| f.file_name().is_some_and(|n| n == "data-0001.pack"))
        .expect("a data pack");
    let good = fs::read(&pack).expect("read");
    flip_bit_at(&pack, good.len() as u64 / 2, 3);
    let (code, message, hint) = error_of(&copy(&site, &[&full, "--to", "dr"]).expect_code(5));
    assert!(message.contains("data-0001.pack") && message.contains("in vault `local`"), "{code} {message}");
    assert!(hint.contains("holdfast check"), "{hint}");
    let report = copy(&site, &[DB]).expect_code(5).json();
    let failed = &report["copies"][0]["points"][0];
    assert_eq!(failed["status"], "failed", "{report}");
    assert!(text(&failed["error"]).contains("data-0001.pack"), "{report}");
    assert_eq!(points_of(&site, "dr").len(), 0);
    fs::write(&pack, good).expect("mend");
    let _ = copy(&site, &[DB]).ok();
    let _ = site.hf.run(&["--vault", "dr", "sweep"]).ok();
    whole(&site, "dr");
    equal_in_both(&site, &full, "0");
    // A segment that is not what the point was made with.
    site.sql("select pg_switch_wal()");
    let next = site.backup(&[]);
    let shown = site.hf.run(&["--json", "--vault", "local", "show", text(&next["id"])]).ok().json();
    let segment = text(&shown["point"]["wal"][0]["name"]).to_owned();
    site.pg.wait_archived();
    let of = |vault: &str| {
        let all = files_under(&site.scratch.path(vault)).into_iter();
        all.filter(|f| f.ends_with(format!("{segment}.wal"))).collect::<Vec<_>>()
    };
    // The archiver brought it to the second vault as well: then the first one's is not needed.
    for f in of("dr") {
        fs::remove_file(f).expect("remove");
    }
    let file = of("vault").pop().expect("the segment");
    let good = fs::read(&file).expect("read");
    flip_bit_at(&file, good.len() as u64 / 2, 1);
    let (_, message, _) = error_of(&copy(&site, &[text(&next["id"]), "--to", "dr"]).expect_code(5));
    assert!(message.contains(&segment) && message.contains("in vault `local`"), "{message}");
}

/// The source sweeps the point while it is copied: it is told, and nothing of it arrives.
#[test]
fn a_point_that_is_swept_meanwhile_is_told() {
    let site = site("copyswept", "last = 9");
    replace(&site, "[vaults.local]\n", "[vaults.local]\nsweep-after = \"1s\"\n");
    replace(&site, "at-least = 2", "at-least = 1");
    site.sql("create table random as select g, gen_random_uuid() a, gen_random_uuid() b from generate_series(1, 400000) g");
    let old = text(&site.backup(&[])["id"]).to_owned();
    let _ = site.backup(&["--full"]);
    site.pg.wait_archived();
    let text_of = fs::read_to_string(site.scratch.path("holdfast.toml")).expect("policy");
    site.scratch.write("slow.toml", format!("{text_of}\n[tuning]\nrate = \"1MiB\"\nworkers = 1\n"));
    let slow = Holdfast::new(&site.scratch, site.scratch.path("slow.toml"));
    let mut run = slow.spawn(&["copy", &old, "--to", "dr"]);
    crate::common::eventually("the copy begins", || {
        files_under(&site.scratch.path("dr")).iter().any(|f| f.extension().is_some_and(|e| e == "lease"))
    });
    let _ = site.hf.run(&["--vault", "local", "expire", &old, "--apply"]).ok();
    std::thread::sleep(Duration::from_millis(1100));
    let _ = site.hf.run(&["--vault", "local", "sweep"]).ok();
    let code = run.wait(Duration::from_secs(120)).and_then(|s| s.code());
    assert_eq!(code, Some(1), "{}", run.output());
    assert!(run.output().contains("was removed from vault `local` by a sweep"), "{}", run.output());
    assert_eq!(points_of(&site, "dr").len(), 0);
    let _ = site.hf.run(&["--vault", "dr", "sweep"]).ok();
    whole(&site, "dr");
}

/// A key that does not fit, or may not read, says so.
#[test]
fn keys_that_do_not_fit_are_refused() {
    let site = site("copykeys", "last = 9");
    let id = text(&site.backup(&[])["id"]).to_owned();
    site.pg.wait_archived();
    let (dr, local) = (site.scratch.path("dr.key"), site.scratch.path("hf.key"));
    replace(&site, &dr.display().to_string(), &local.display().to_string());
    let (_, message, hint) = error_of(&copy(&site, &[&id, "--to", "dr"]).expect_code(12));
    assert!(message.contains("key") && hint.contains("key-file"), "{message} {hint}");
    // A host's key adds to the target, and cannot read the source.
    let host = site.scratch.path("host.key").display().to_string();
    let plain = fs::read_to_string(site.scratch.path("dr.toml")).expect("policy");
    assert!(plain.contains("dr.key"));
    let other = Holdfast::new(&site.scratch, site.scratch.path("dr.toml"));
    let _ = other.run(&["key", "export", "--role", "host", "--to", &host]).ok();
    let text_of = fs::read_to_string(site.scratch.path("holdfast.toml")).expect("policy");
    let (head, tail) = text_of.split_once("[vaults.dr]").expect("dr");
    let tail = tail.replacen(&local.display().to_string(), &host, 1);
    site.scratch.write("holdfast.toml", format!("{head}[vaults.dr]{tail}"));
    let done = copy(&site, &[&id, "--to", "dr"]).ok().json();
    assert_eq!(done["copies"][0]["points"][0]["status"], "copied", "{done}");
    let (_, message, hint) = error_of(&copy(&site, &[&id, "--from", "dr", "--to", "local"]).expect_code(12));
    assert!(message.contains("may not read") && hint.contains("owner"), "{message} {hint}");
    let (code, ..) = error_of(&copy(&site, &[&id, "--to", "nowhere"]).expect_code(10));
    assert_eq!(code, "not-found");
    let _ = copy(&site, &[DB, "--from", "dr", "--to", "dr"]).expect_code(2);
}

/// To a bucket and back.
#[test]
fn a_copy_in_a_bucket_restores() {
    let scratch = holdfast_testkit::Scratch::new("copys3");
    let store = Store::ministack(&scratch, &["backups"]);
    let pg = server(&scratch, "main", PgVersion::V18).start();
    let mut site = Site::with(pg, &scratch, &[]);
    site.hf = site.hf.clone().envs(store.env());
    let key = scratch.path("dr.key").display().to_string();
    extend(
        &site,
        &format!(
            "[vaults.dr]\nurl = \"s3://backups/dr\"\nkey-file = \"{key}\"\n\n[policies.standard.copies.dr]\n\
             to = \"dr\"\nkeep = {{ last = 9 }}\n"
        ),
    );
    // `init` makes the second vault, with a key of its own, and with the digests of the first.
    let conninfo = site.pg.conninfo();
    let url = "s3://backups/dr";
    let args = ["init", "--name", DB, "--conninfo", &conninfo, "--vault", url, "--key-file", &key, "--yes"];
    let _ = site.hf.run(&args).ok();
    fill(&site);
    let full = text(&site.backup(&[])["id"]).to_owned();
    site.sql("update big set pad = 'changed' where g % 100 = 0");
    let next = text(&site.backup(&[])["id"]).to_owned();
    site.pg.wait_archived();
    let done = copy(&site, &[DB]).ok().json();
    let points = done["copies"][0]["points"].as_array().expect("points");
    assert_eq!(points.len(), 2, "{done}");
    let read = |p: &Value| p["read_bytes"].as_u64().expect("read");
    assert!(read(&points[1]) * 2 < read(&points[0]), "unchanged blocks are not read: {done}");
    equal_in_both(&site, &full, "0");
    equal_in_both(&site, &next, "1");
    whole(&site, "dr");
}

/// The segments that a vault has.
fn segments(site: &Site, vault: &str) -> Vec<String> {
    let all = files_under(&site.scratch.path(vault)).into_iter();
    let names = all.filter(|f| f.extension().is_some_and(|e| e == "wal"));
    let mut names: Vec<String> = names.filter_map(|f| Some(f.file_name()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

fn missed(site: &Site) -> Vec<PathBuf> {
    let dir = site.scratch.path("state/missed");
    let all = if dir.is_dir() { files_under(&dir) } else { Vec::new() };
    all.into_iter().filter(|f| !f.ends_with(".away")).collect()
}

/// The minute for which a vault that failed is left alone is over.
fn a_minute_later(site: &Site) {
    let flag = site.scratch.path(format!("state/missed/{DB}/dr/.away"));
    let file = fs::File::open(&flag).expect("the vault was away");
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(120)).expect("set the time");
}

/// A vault that is down blocks neither the other nor PostgreSQL, and has everything in the end.
#[test]
fn wal_goes_to_all_vaults_and_one_that_was_down_catches_up() {
    let site = site("fanout", "last = 9");
    let first = site.pg.wait_archived();
    assert!(segments(&site, "dr").contains(&format!("{first}.wal")), "both have it");
    let (dr, gone) = (site.scratch.path("dr"), site.scratch.path("dr.gone"));
    fs::rename(&dr, &gone).expect("take the vault away");
    let failed = || site.sql("select failed_count from pg_stat_archiver");
    let before = failed();
    let names: Vec<String> = (0..3).map(|_| site.pg.wait_archived()).collect();
    assert_eq!(failed(), before, "{}", site.pg.log());
    assert!(segments(&site, "vault").contains(&format!("{}.wal", names[2])));
    assert!(missed(&site).len() >= 3, "{:?}", missed(&site));
    let _ = site.hf.run(&["doctor", DB]).says("wait for vault `dr`");
    assert!(site.pg.log().contains("vault `dr` did not take"), "{}", site.pg.log());
    // All are required: then it is an error, and PostgreSQL keeps the file.
    replace(&site, "required = \"any\"", "required = \"all\"");
    let last = site.pg.data_dir().join("pg_wal").join(&names[2]).display().to_string();
    let out = site.hf.run(&["--json", "wal", "push", "--db", DB, &last]);
    assert!(out.code != 0 && error_of(&out).1.contains("no vault"), "{}", out.transcript());
    // Back again: the next push brings what waits. (A vault that failed is left alone for a minute.)
    replace(&site, "required = \"all\"", "required = \"any\"");
    fs::rename(&gone, &dr).expect("bring the vault back");
    a_minute_later(&site);
    site.pg.wait_archived();
    crate::common::eventually("the vault catches up", || {
        if missed(&site).is_empty() {
            return true;
        }
        site.pg.wait_archived();
        false
    });
    assert_eq!(segments(&site, "dr"), segments(&site, "vault"));
    // Two archives, one content.
    for name in &names {
        let dest = site.scratch.path(format!("got-{name}")).display().to_string();
        let _ = site.hf.run(&["--vault", "dr", "wal", "get", "--db", DB, name, &dest]).ok();
    }
    // What waits is lost with the state: a copy closes the gap.
    fs::rename(&dr, &gone).expect("take the vault away");
    for _ in 0..2 {
        site.pg.wait_archived();
    }
    fs::remove_dir_all(site.scratch.path("state/missed")).expect("lose the spool");
    fs::rename(&gone, &dr).expect("bring the vault back");
    site.pg.wait_archived();
    assert!(segments(&site, "dr").len() + 2 <= segments(&site, "vault").len());
    let gaps = |site: &Site| {
        let all = site.hf.run(&["--json", "--vault", "dr", "wal", "status", DB]).ok().json();
        all["archives"][0]["gaps"].as_array().map(Vec::len)
    };
    assert_eq!(gaps(&site), Some(1));
    let _ = site.backup(&[]);
    let _ = copy(&site, &[DB, "--to", "dr"]).ok();
    assert_eq!(gaps(&site), Some(0));
    whole(&site, "dr");
}

/// The best vault is taken and said; one that is gone or damaged is passed over, also in the middle.
#[test]
fn restore_takes_the_vault_that_reaches_furthest_and_falls_back() {
    let site = site("choose", "last = 9");
    fill(&site);
    let id = text(&site.backup(&[])["id"]).to_owned();
    site.pg.wait_archived();
    let _ = copy(&site, &[DB]).ok();
    let plan = |args: &[&str]| {
        let to = site.scratch.path("planned").display().to_string();
        let mut all = vec!["--json", "restore", DB, "--to", &to, "--plan"];
        all.extend(args);
        site.hf.run(&all)
    };
    // Alike: the first of the policy.
    let p = plan(&[]).ok().json();
    assert_eq!(p["vault"], "local", "{p}");
    assert!(p["notes"].to_string().contains("`local` was chosen"), "{p}");
    // The first one lost its newest segments: the other reaches further.
    site.sql("insert into small values (42)");
    let expected = fingerprint(&site.pg, "postgres");
    // The archiver comes to rest: what was filled goes segment by segment.
    crate::common::eventually("everything is archived", || {
        let newest = site.pg.wait_archived();
        segments(&site, "vault").last() == Some(&format!("{newest}.wal"))
    });
    let later = segments(&site, "vault").pop().expect("a segment");
    let kept = site.vault_file(&later);
    let aside = site.scratch.path("aside");
    fs::rename(&kept, &aside).expect("lose a segment");
    let p = plan(&[]).ok().json();
    assert_eq!(p["vault"], "dr", "{p}");
    assert!(p["notes"].to_string().contains("`local` reaches"), "{p}");
    assert_eq!(plan(&["--immediate"]).ok().json()["vault"], "local", "a target that both reach");
    assert_eq!(plan(&["--vault", "local"]).ok().json()["vault"], "local", "no choice");
    fs::rename(&aside, &kept).expect("put it back");
    // Damaged in the middle: it goes on with the other, and says so.
    let packs = files_under(&site.scratch.path("vault"));
    let pack = packs.into_iter().find(|f| f.ends_with("data-0001.pack")).expect("a pack");
    let good = fs::read(&pack).expect("read");
    flip_bit_at(&pack, good.len() as u64 / 2, 3);
    let out = site.try_restore("fallback", &[]).ok();
    let r = out.json();
    assert_eq!(r["plan"]["vault"], "dr", "{r}");
    assert!(r["notes"].to_string().contains("data-0001.pack"), "{r}");
    // Whichever vault the files came from, each segment comes from one that has it.
    let newest = site.vault_files().into_iter().rfind(|f| f.ends_with(".wal")).expect("a segment");
    fs::remove_file(site.scratch.path("vault").join(newest)).expect("lose a segment");
    let mut pg = site.copy("fallback").start();
    pg.wait_recovery_end(Duration::from_secs(120));
    assert_eq!(fingerprint(&pg, "postgres"), expected);
    drop(pg);
    // Where there is no choice it fails, and names the object.
    let (_, message, _) = error_of(&site.try_restore("stuck", &["--vault", "local"]).expect_code(5));
    assert!(message.contains("data-0001.pack"), "{message}");
    // Gone altogether: it hides nothing of the other and is told. The point is known by the id that the backup gave it.
    fs::rename(site.scratch.path("vault"), site.scratch.path("lost")).expect("lose the vault");
    let list = site.hf.run(&["--json", "list"]).expect_code(5).json();
    assert!(
        list["points"][0]["copy_of"] == id.as_str() && list["problems"].to_string().contains("`local`"),
        "{list}"
    );
    let _ =
        site.hf.run(&["check", "--fast"]).expect_code(5).says("vault dr, cluster").says("cannot be opened");
    let _ = site.hf.run(&["sweep"]).expect_code(1).says("vault dr, cluster").says("FAIL there is no vault");
    let p = plan(&["--point", &id, "--immediate"]).ok().json();
    assert_eq!(p["vault"], "dr", "{p}");
    assert!(p["notes"].to_string().contains("vault `local` cannot be restored from"), "{p}");
    let pg = site.restore_and_start("last", &[]);
    assert_eq!(fingerprint(&pg, "postgres"), expected);
}

/// A vault that takes the request and says nothing: PostgreSQL waits a few seconds, once a minute.
#[test]
fn a_vault_that_hangs_is_left_behind_in_time() {
    let scratch = holdfast_testkit::Scratch::new("copyhang");
    let store = Store::ministack(&scratch, &["backups"]);
    let proxy = FaultProxy::with_seed(&store.endpoint(), 7);
    let pg = server(&scratch, "main", PgVersion::V17).start();
    let mut site = Site::with(pg, &scratch, &[]);
    site.hf = site.hf.clone().envs(store.env_for(&proxy.endpoint()));
    let key = scratch.path("dr.key").display().to_string();
    extend(
        &site,
        &format!(
            "[vaults.dr]\nurl = \"s3://backups/dr\"\nkey-file = \"{key}\"\n\n[policies.standard.copies.dr]\n\
             to = \"dr\"\nkeep = {{ last = 9 }}\n"
        ),
    );
    let conninfo = site.pg.conninfo();
    let url = "s3://backups/dr";
    let args = ["init", "--name", DB, "--conninfo", &conninfo, "--vault", url, "--key-file", &key, "--yes"];
    let _ = site.hf.run(&args).ok();
    let name = site.pg.wait_archived();
    // The archiver has no credentials for the bucket: its own trouble with it is forgotten.
    let forget = || drop(fs::remove_dir_all(scratch.path("state/missed")));
    site.archive_with("true");
    forget();
    let path = site.pg.data_dir().join("pg_wal").join(&name).display().to_string();
    proxy.add(Rule::on("", "").fault(Fault::Delay(Duration::from_secs(300))));
    let push = || {
        let begun = std::time::Instant::now();
        let done = site.hf.run(&["--json", "wal", "push", "--db", DB, &path]).ok().json();
        (done, begun.elapsed())
    };
    let (done, took) = push();
    assert_eq!((&done["vaults"], &done["failed_vaults"]), (&json!(["local"]), &json!(["dr"])), "{done}");
    assert!(took > Duration::from_secs(3) && took < Duration::from_secs(60), "{took:?}");
    assert_eq!(missed(&site).len(), 1);
    proxy.reset_counts();
    let (done, _) = push();
    assert_eq!(done["failed_vaults"], json!(["dr"]));
    assert_eq!(proxy.count("", ""), 0, "it is left alone for a minute");
    proxy.heal();
    a_minute_later(&site);
    let (done, _) = push();
    assert_eq!(done["failed_vaults"], json!([]), "{done}");
    assert_eq!(missed(&site).len(), 0, "nothing waits any more");
}

/// What segments say about pages goes along: an incremental into the copy vault goes by it.
#[test]
fn incrementals_go_on_in_the_copy() {
    let site = site("copies-maps", "last = 9");
    fill(&site);
    let _ = site.backup(&["--full"]);
    let _ = copy(&site, &[DB]).ok();
    // While the second vault was no vault of the archiver's, its WAL came by copies only.
    site.sql("update big set pad = 'x' where g = 7");
    site.pg.wait_archived();
    let _ = copy(&site, &[DB]).ok();
    let p = site.backup(&["--vault", "dr"]);
    assert_eq!((text(&p["kind"]), text(&p["changes"]["method"])), ("incremental", "wal-maps"), "{p}");
    let _ = site.hf.run(&["check", DB, "--vault", "dr"]).ok();
}
