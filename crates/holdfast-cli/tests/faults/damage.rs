//! Every object of a vault damaged in turn.

use crate::world::{DB, Site, differences, failures, remove, rng, rounds, server, soak, tree};
use holdfast_testkit::damage::{self, files_under};
use holdfast_testkit::{Damage, PgVersion, Scratch, StopMode, TestRng};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    File(Damage),
    Swap,
}

const HARMS: [Harm; 5] = [
    Harm::File(Damage::Truncate),
    Harm::File(Damage::FlipBit),
    Harm::Swap,
    Harm::File(Damage::Delete),
    Harm::File(Damage::AppendGarbage),
];

/// What an object is, from its name.
fn kind(name: &str) -> &'static str {
    let kinds = [
        ("keys/holdfast.vault", "copy of the descriptor"),
        ("holdfast.vault", "descriptor"),
        (".recovery", "recovery keys"),
        ("keys/", "epoch keys"),
        ("/cluster", "cluster record"),
        (".point", "point"),
        (".lease", "lease"),
        ("data-", "data pack"),
        ("meta-", "meta pack"),
        ("/notes/", "note"),
        ("/failed/", "failed run"),
        ("/wal/extra/", "wal extra"),
        (".owner-", "owner"),
        (".history", "history"),
        (".wal", "segment"),
        ("probe", "probe"),
    ];
    let found = kinds.iter().find(|(part, _)| name.contains(part));
    found.unwrap_or_else(|| panic!("{name}: what is it?")).1
}

/// Objects that no restore of the newest point needs: `check` alone speaks of them.
fn needless(kind: &str) -> bool {
    [
        "descriptor",
        "copy of the descriptor",
        "lease",
        "note",
        "failed run",
        "wal extra",
        "owner",
        "recovery keys",
        "probe",
    ]
    .contains(&kind)
}

/// The site with a full, an incremental, WAL, a note and a failed run; its server is stopped.
fn prepare(name: &str, more: &[&str]) -> Site {
    let scratch = Scratch::new(name);
    let pg = server(&scratch, "main", PgVersion::NEWEST).checksums(true).start();
    let mut site = Site::with(pg, &scratch, more);
    site.archive_with(&site.push_command());
    site.sql("create table t as select g, md5(g::text) as m from generate_series(1, 20000) g");
    let full = site.backup(&["--full"]);
    site.sql("update t set m = 'new' where g % 10 = 0");
    let _ = site.backup(&["--incremental"]);
    site.sql("delete from t where g % 11 = 0");
    site.pg.wait_archived();
    let _ = site.hf.run(&["verify", full["id"].as_str().expect("id"), "--level", "L1"]).ok();
    site.pg.stop(StopMode::Fast);
    site
}

/// A vault file that the harm can be swapped with: one of its kind if there is one.
fn partner(name: &str, all: &[String], rng: &mut TestRng) -> String {
    let alike: Vec<&String> = all.iter().filter(|o| *o != name && kind(o) == kind(name)).collect();
    if alike.is_empty() {
        let others: Vec<&String> = all.iter().filter(|o| *o != name).collect();
        return (*rng.pick(&others)).clone();
    }
    (*rng.pick(&alike)).clone()
}

fn matrix(name: &str, more: &[&str], salt: u64, harms: u64) {
    let mut rng = rng(salt);
    let site = prepare(name, more);
    let vault = site.vault();
    let relative = |p: &PathBuf| p.strip_prefix(&vault).expect("in the vault").display().to_string();
    let objects: Vec<String> = files_under(&vault).iter().map(relative).collect();
    let points = site.points();
    let (full, newest) = (&points[0], &points[1]);
    site.vault_is_whole();
    let whole: BTreeMap<&str, BTreeMap<String, u64>> = [full.as_str(), newest.as_str()]
        .into_iter()
        .map(|p| {
            let _ = site.try_restore("copy", &["--point", p, "--immediate"]).ok();
            let t = tree(&site.scratch.path("copy"));
            remove(&site.scratch.path("copy"));
            (p, t)
        })
        .collect();
    // Each object with each harm; by default few for each, turn by turn, so that every kind of object meets every
    // harm that there are objects for.
    let per_object = rounds("HOLDFAST_DAMAGES", harms, HARMS.len() as u64) as usize;
    let shift = rng.below(HARMS.len() as u64) as usize;
    let mut tried: BTreeMap<&str, u64> = BTreeMap::new();
    for (i, object) in objects.iter().enumerate() {
        let many = tried.get(kind(object)).is_some_and(|n| *n >= 6);
        let count = if many && per_object < HARMS.len() { 1 } else { per_object };
        for turn in 0..count {
            let harm = HARMS[(i * per_object + turn + shift) % HARMS.len()];
            *tried.entry(kind(object)).or_default() += 1;
            one(&site, &vault, object, harm, &objects, (full, newest), &whole, &mut rng);
        }
    }
    // What lies behind the target is no reason to refuse it.
    let last = objects.iter().filter(|o| kind(o) == "segment").max().expect("a segment");
    let original = fs::read(vault.join(last)).expect("read an object");
    let what = Damage::Empty.apply(&vault.join(last), &mut rng);
    for point in [full, newest] {
        let restored = site.try_restore("copy", &["--point", point, "--immediate"]);
        assert_eq!(restored.code, 0, "{what}\n{}", restored.transcript());
        remove(&site.scratch.path("copy"));
    }
    fs::write(vault.join(last), original).expect("put an object back");
    holdfast_testkit::user::chown(&vault.join(last));
    site.vault_is_whole();
    eprintln!("{name}: {} objects: {tried:?}", objects.len());
    for must in [
        "descriptor",
        "copy of the descriptor",
        "cluster record",
        "point",
        "lease",
        "data pack",
        "meta pack",
        "note",
        "wal extra",
        "owner",
        "segment",
    ] {
        assert!(tried.contains_key(must), "no {must} among {objects:?}");
    }
}

/// Does one harm, looks, and undoes it.
#[allow(clippy::too_many_arguments)]
fn one(
    site: &Site,
    vault: &Path,
    object: &str,
    harm: Harm,
    objects: &[String],
    (full, newest): (&str, &str),
    whole: &BTreeMap<&str, BTreeMap<String, u64>>,
    rng: &mut TestRng,
) {
    let path = vault.join(object);
    let original = fs::read(&path).expect("read an object");
    if original.is_empty() {
        return;
    }
    let (mut hurt, mut undo) = (vec![object.to_owned()], vec![(path.clone(), original)]);
    let what = match harm {
        Harm::Swap => {
            let other = partner(object, objects, rng);
            undo.push((vault.join(&other), fs::read(vault.join(&other)).expect("read an object")));
            damage::swap(&path, &vault.join(&other));
            let what = format!("{object} exchanged with {other}");
            hurt.push(other);
            what
        }
        Harm::File(d) => d.apply(&path, rng),
    };
    let kinds: Vec<&str> = hurt.iter().map(|h| kind(h)).collect();

    // 1. check names it.
    let out = site.hf.run(&["--json", "check", DB]);
    assert!(![101, 134, 139].contains(&out.code), "{what}: it crashed\n{}", out.transcript());
    let gone = harm == Harm::File(Damage::Delete);
    // What is gone without anyone pointing at it is not missed: see `deleted_objects` below.
    let unmissed = gone && needless(kinds[0]);
    // A segment that no point needs leaves a gap, or shortens the archive, which a gap warns of.
    let may_be_quiet =
        unmissed || (gone && ["segment", "point"].contains(&kinds[0])) || harmless(&kinds, &undo[0]);
    if !may_be_quiet && kinds != ["probe"] {
        let doc = out.transcript();
        let named = hurt.iter().any(|h| doc.contains(h.as_str()));
        assert!(out.code != 0, "{what}: check finds nothing\n{doc}");
        assert!(named, "{what}: check does not name it\n{doc}");
        let expected: &[i32] = &[5];
        assert!(expected.contains(&out.code), "{what}: exit code {}\n{doc}", out.code);
        assert!(!failures(&out).is_empty(), "{what}\n{doc}");
    }

    // 2. Nothing wrong is restored: the bytes are right, or there are none.
    // By default one of the two points, so that every object is hurt in good time.
    let both = [full, newest];
    let either = if rng.chance(300) { &both[..1] } else { &both[1..] };
    for point in if soak() { &both[..] } else { either } {
        let restored = site.try_restore("copy", &["--point", point, "--immediate"]);
        let dir = site.scratch.path("copy");
        if restored.code == 0 {
            let wrong = differences(&tree(&dir), &whole[*point]);
            assert!(wrong.is_empty(), "{what}: point {point} was restored with wrong files: {wrong:?}");
        } else {
            let doc = restored.transcript();
            assert!(![101, 134, 139].contains(&restored.code), "{what}: it crashed\n{doc}");
            assert!(!dir.join("global/pg_control").exists(), "{what}: a failed restore could start\n{doc}");
            assert!(!kinds.iter().all(|k| needless(k)), "{what}: no restore needs it\n{doc}");
        }
        remove(&dir);
        // 3. verify says so where restore does, and restore may be luckier only.
        if rng.chance(200) {
            let verified = site.hf.run(&["--json", "verify", point, "--level", "L2"]);
            assert!(
                restored.code == 0 || verified.code != 0,
                "{what}: verify passes, and restore does not\n{}\n{}",
                verified.transcript(),
                restored.transcript()
            );
            assert!(
                ![101, 134, 139].contains(&verified.code),
                "{what}: it crashed\n{}",
                verified.transcript()
            );
            undo_notes(site, vault, objects);
        }
    }

    // 4. A segment is handed out whole, or PostgreSQL is stopped. What it says about pages is no part of it.
    let mut whole_all_the_same = Vec::new();
    for h in hurt.iter().filter(|h| kind(h) == "segment") {
        let file = h.rsplit('/').next().expect("a name");
        let name = file.strip_suffix(".wal").expect("a segment");
        let dest = site.scratch.make_dir("got").join(name);
        let to = dest.display().to_string();
        let _ = fs::remove_file(&dest);
        let got = site.hf.run(&["wal", "get", "--db", DB, "--retry-for", "1s", name, &to]);
        let last = objects.iter().filter(|o| kind(o) == "segment").max() == Some(h);
        let first = objects.iter().filter(|o| kind(o) == "segment").min() == Some(h);
        let expected = if gone && (last || first) { 1 } else { 200 };
        if got.code == 0 && harm == Harm::File(Damage::FlipBit) {
            whole_all_the_same.push((name.to_owned(), fs::read(&dest).expect("read what was given")));
            continue;
        }
        assert_eq!(got.code, expected, "{what}\n{}", got.transcript());
        assert!(!dest.exists(), "{what}: a damaged segment was handed out");
    }
    for (path, bytes) in undo {
        // Whoever runs the tests may be root; the vault is the server user's.
        fs::write(&path, bytes).expect("put an object back");
        holdfast_testkit::user::chown(&path);
    }
    for (name, given) in whole_all_the_same {
        let dest = site.scratch.make_dir("got").join(&name);
        let _ = fs::remove_file(&dest);
        let to = dest.display().to_string();
        let _ = site.hf.run(&["wal", "get", "--db", DB, "--retry-for", "1s", &name, &to]).ok();
        assert!(fs::read(&dest).expect("read") == given, "{what}: a damaged segment was handed out");
    }
}

/// The descriptor is clear JSON, and one of its fields only speaks to people: a flipped bit there
/// changes nothing that the program goes by.
fn harmless(kinds: &[&str], (path, original): &(PathBuf, Vec<u8>)) -> bool {
    let parse = |text: &[u8]| -> Option<serde_json::Value> {
        let mut v: serde_json::Value = serde_json::from_slice(text).ok()?;
        v.as_object_mut()?.retain(|k, _| k != "about");
        Some(v)
    };
    let both = ["descriptor", "copy of the descriptor"];
    // They are the same bytes: exchanged, nothing has changed.
    kinds.iter().all(|k| both.contains(k))
        && fs::read(path).is_ok_and(|now| parse(&now).is_some_and(|now| Some(now) == parse(original)))
}

/// `verify` leaves notes: those of this test go, so that the objects stay the same.
fn undo_notes(site: &Site, vault: &Path, objects: &[String]) {
    for path in files_under(vault) {
        let name = path.strip_prefix(vault).expect("in the vault").display().to_string();
        if !objects.contains(&name) {
            assert!(name.contains("/notes/"), "verify left {name}");
            fs::remove_file(&path).expect("remove a note");
        }
    }
    let _ = site;
}

#[test]
fn every_object_damaged() {
    matrix("damage", &[], 11, 2);
}

#[test]
fn every_object_damaged_without_encryption() {
    // The same code reads both: one harm for each object.
    matrix("damage-plain", &["--no-encryption"], 12, 1);
}
