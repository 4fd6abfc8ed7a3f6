//! `restore --delta`: a directory that was something else becomes the point, cheaply and safely.
//!
//! The oracle is a plain restore of the same point: the two trees must be equal, byte for byte.

use crate::common::{DB, Site, error_of, fingerprint, path_text, server, text};
use holdfast_testkit::damage::{files_under, flip_bit_at};
use holdfast_testkit::{PgVersion, StopMode, proc, user, version};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

const MARKER: &str = ".holdfast-restore-in-progress";

/// Names, kinds, modes, owners and contents below a directory; links as links.
fn tree(dir: &Path) -> BTreeMap<String, (u32, u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(d) = pending.pop() {
        for e in fs::read_dir(&d).expect("list").flatten() {
            let (path, meta) = (e.path(), fs::symlink_metadata(e.path()).expect("stat"));
            let content = match () {
                () if meta.is_symlink() => path_text(&fs::read_link(&path).expect("link")).into_bytes(),
                () if meta.is_dir() => {
                    pending.push(path.clone());
                    Vec::new()
                }
                () => fs::read(&path).expect("read"),
            };
            let name = path_text(path.strip_prefix(dir).expect("below"));
            let mode = if meta.is_symlink() { 0 } else { meta.mode() };
            let _ = all.insert(name, (mode, meta.uid(), content));
        }
    }
    all
}

#[track_caller]
fn assert_same(got: &Path, expected: &Path, but: &[&str]) {
    let (a, b) = (tree(got), tree(expected));
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let other: Vec<&String> =
        names.into_iter().filter(|n| !but.contains(&n.as_str()) && a.get(*n) != b.get(*n)).collect();
    assert!(other.is_empty(), "{} and {} differ in {other:?}", got.display(), expected.display());
}

pub fn number(v: &Value, of: &str) -> u64 {
    v["delta"][of].as_u64().unwrap_or_else(|| panic!("no {of} in {}", v["delta"]))
}

/// `cp -a`, as the server's user.
fn copy_tree(from: &Path, to: &Path) {
    let done = proc::run(user::command("cp").arg("-a").arg(from).arg(to), b"", Duration::from_secs(60));
    assert_eq!(done.code, 0, "cp -a {}", from.display());
}

fn remove(dir: &Path) {
    fs::remove_dir_all(dir).expect("remove");
}

/// Changes one bit, and puts the times back.
fn change_quietly(path: &Path, offset: u64) {
    let before = fs::metadata(path).expect("stat");
    flip_bit_at(path, offset, 3);
    let file = fs::OpenOptions::new().write(true).open(path).expect("open");
    file.set_modified(before.modified().expect("mtime")).expect("set the time");
    let after = fs::metadata(path).expect("stat");
    assert_eq!((before.len(), before.modified().unwrap()), (after.len(), after.modified().unwrap()));
}

fn delta_over_a_diverged_cluster(pg_version: PgVersion) {
    if !version::supported_in_test().contains(&pg_version) {
        return;
    }
    let site = Site::new(&format!("delta{pg_version}"), pg_version);
    let location = site.pg.create_tablespace("ts");
    site.sql(
        "create table big as select g, repeat('b', 400) b from generate_series(1, 50000) g; \
         create index on big(g); create table shrinks as select g from generate_series(1, 200000) g; \
         create table far tablespace ts as select g, repeat('f', 300) f from generate_series(1, 10000) g; \
         create table dropped as select g from generate_series(1, 20000) g; \
         create unlogged table u as select g from generate_series(1, 1000) g; create database gone",
    );
    site.sql("vacuum; checkpoint");
    let point = site.backup(&[]);
    site.pg.wait_archived();
    site.sql("truncate u");
    let expected = fingerprint(&site.pg, "postgres");
    let map = |to: &str| format!("{}={}", location.display(), site.scratch.path(to).display());
    let immediate = ["--immediate", "--tablespace-map"];

    // A copy of it goes its own way.
    let copy = site.restore_and_start("copy", &[&immediate[..], &[&map("copy-ts")]].concat());
    let file = copy.sql("postgres", "select pg_relation_filepath('big')");
    let far = copy.sql("postgres", "select pg_relation_filepath('far')");
    let late = copy.create_tablespace("late");
    copy.sql(
        "postgres",
        "update big set b = 'changed' where g in (7, 25000); delete from shrinks where g > 1000; \
         update far set f = 'changed' where g = 77; drop table dropped; drop database gone; \
         create table extra as select g from generate_series(1, 30000) g; \
         create table later tablespace late as select g from generate_series(1, 1000) g; \
         insert into u values (1); create table short as select 1",
    );
    copy.sql("postgres", "create database more");
    copy.sql("postgres", "vacuum; select pg_switch_wal(); checkpoint");
    copy.sql("postgres", "select from pg_create_physical_replication_slot('keep', true)");
    let mut copy = copy;
    copy.stop(StopMode::Fast);
    drop(copy);
    let data = site.scratch.path("copy");
    let moved = site.scratch.path("copy-ts");
    let precious = site.scratch.write("precious/file", "mine");
    for (name, content) in [
        ("copy/standby.signal", ""),
        ("copy/postmaster.pid", "999999999\n"),
        ("copy/backup_label", "rubbish"),
        ("copy/tablespace_map", "1663 /nowhere\n"),
        ("copy/base/stray/inner", "x"),
        ("copy/pg_wal/0000000900000000000000AB", "poison"),
        ("copy/pg_replslot/odd/state", "x"),
        ("copy-ts/mine.txt", "not postgresql's"),
        ("copy-ts/PG_9.6_201608131/5/1", "of another version"),
    ] {
        site.scratch.write(name, content);
    }
    symlink(precious.parent().expect("dir"), data.join("base/evil")).expect("link");
    user::chown_tree(&data);
    user::chown_tree(&moved);
    // A page that no time, size or LSN tells of.
    change_quietly(&data.join(&file), 8192 * 1000 + 5000);
    fs::set_permissions(data.join(&file), fs::Permissions::from_mode(0o640)).expect("chmod");
    // Longer than in the point, and shorter.
    let grown = fs::OpenOptions::new().append(true).open(data.join("PG_VERSION")).expect("open");
    std::io::Write::write_all(&mut &grown, b"more\n").expect("append");
    let inode = fs::metadata(data.join(&file)).expect("stat").ino();

    let own = map("copy-ts");
    let args = [&immediate[..], &[&own, "--delta"]].concat();
    let before = (tree(&data), tree(&moved));
    let plan = site.restore("copy", &[&args[..], &["--plan"]].concat());
    let d = &plan["delta"];
    assert_eq!((text(&d["found"]), text(&d["state"])), ("cluster", "shut down"), "{plan}");
    assert!(d["surplus_names"].to_string().contains("standby.signal"), "{plan}");
    assert!(d["surplus_files"].as_u64() > Some(8) && d["files"].as_u64() > Some(500), "{plan}");
    assert!(plan["notes"].to_string().contains("not in the point"), "{plan}");
    let human = site.hf.run(&[&["restore", DB, "--to", &path_text(&data), "--plan"][..], &args].concat());
    let _ = human.ok().says("shut down, timeline 2").says("not in the point").says("nothing was touched");
    assert!((tree(&data), tree(&moved)) == before, "--plan touches nothing");
    drop(before);

    let done = site.restore("copy", &args);
    assert_eq!(done["point"], point["id"], "{done}");
    assert_eq!(done["delta"]["removed_files"], d["surplus_files"], "as planned: {done}");
    let size = point["size_bytes"].as_u64().expect("size");
    let (compared, rewritten) = (number(&done, "compared_bytes"), number(&done, "rewritten_bytes"));
    // Of `shrinks` and `dropped` (8 MiB) and the database that was dropped most has to come back.
    assert!(
        compared > size / 2 && rewritten < size / 2,
        "compared {compared}, rewrote {rewritten} of {size}"
    );
    assert_eq!(fs::metadata(data.join(&file)).expect("stat").ino(), inode, "written in place");
    assert_eq!(fs::read_to_string(&precious).expect("still there"), "mine");
    assert_eq!(fs::read_to_string(moved.join("mine.txt")).expect("still there"), "not postgresql's");
    assert!(moved.join("PG_9.6_201608131/5/1").exists());
    assert_eq!(files_under(&late), Vec::<std::path::PathBuf>::new(), "the tablespace of later");

    let _ = site.restore("fresh", &[&immediate[..], &[&map("fresh-ts")]].concat());
    let oid = site.sql("select oid from pg_tablespace where spcname = 'ts'");
    assert_same(&data, &site.scratch.path("fresh"), &[&format!("pg_tblspc/{oid}")]);
    let version_dir =
        fs::read_dir(site.scratch.path("fresh-ts")).expect("list").flatten().next().expect("a version");
    assert_same(&moved.join(version_dir.file_name()), &version_dir.path(), &[]);
    assert!(!moved.join(MARKER).exists());

    // Again: nothing differs but the settings, which recovery has not touched.
    let again = site.restore("copy", &args);
    assert!(number(&again, "rewritten_bytes") < 64 << 10, "{}", again["delta"]);
    assert!(number(&again, "compared_bytes") > size * 9 / 10, "{}", again["delta"]);
    // One page of the tablespace, quietly: one page is written.
    let far = moved.join(far.split_once('/').and_then(|(_, p)| p.split_once('/')).expect("a path").1);
    change_quietly(&far, 8192 * 3 + 100);
    let quiet = site.restore("copy", &args);
    let more = number(&quiet, "rewritten_bytes") - number(&again, "rewritten_bytes");
    assert_eq!(more, 8192, "{}", quiet["delta"]);
    // A page that must be zeros, and a file without its last pages (which may be zeros, too).
    change_quietly(&data.join("pg_multixact/offsets/0000"), 100);
    let pages = fs::metadata(data.join(&file)).expect("stat").len() / 8192;
    holdfast_testkit::damage::truncate(&data.join(&file), (pages - 300) * 8192);
    let quiet = site.restore("copy", &args);
    let more = number(&quiet, "rewritten_bytes") - number(&again, "rewritten_bytes");
    assert!((8192 * 2..=8192 * 301).contains(&more), "{more}: {}", quiet["delta"]);
    assert_same(&data, &site.scratch.path("fresh"), &[&format!("pg_tblspc/{oid}")]);

    let mut copy = site.copy("copy").start();
    copy.wait_recovery_end(Duration::from_secs(60));
    assert_eq!(fingerprint(&copy, "postgres"), expected);
    assert_eq!(copy.sql("postgres", "select count(*) from pg_replication_slots"), "0");
    copy.stop(StopMode::Fast);
    copy.check_checksums();
}

#[test]
fn delta_over_a_diverged_cluster_on_15() {
    delta_over_a_diverged_cluster(PgVersion::V15);
}

#[test]
fn delta_over_a_diverged_cluster_on_18() {
    delta_over_a_diverged_cluster(PgVersion::V18);
}

/// pg_wal elsewhere stays elsewhere and is emptied of what servers put there; names that share their
/// content with a snapshot of hard links are let go of; a directory that is empty is a plain restore.
#[test]
fn delta_and_links() {
    let site = Site::new("delta-links", PgVersion::NEWEST);
    site.sql("create table t as select g, repeat('x', 300) x from generate_series(1, 5000) g");
    let _ = site.backup(&[]);
    site.pg.wait_archived();
    let first = site.restore("copy", &["--delta"]);
    assert_eq!(first["delta"], Value::Null, "nothing was there: {first}");
    let (data, wal) = (site.scratch.path("copy"), site.scratch.path("wal"));
    let mut copy = site.copy("copy").start();
    copy.wait_recovery_end(Duration::from_secs(60));
    copy.sql("postgres", "update t set x = 'other' where g = 17");
    let file = copy.sql("postgres", "select pg_relation_filepath('t')");
    copy.stop(StopMode::Fast);
    drop(copy);
    fs::rename(data.join("pg_wal"), &wal).expect("move pg_wal");
    symlink(&wal, data.join("pg_wal")).expect("link");
    site.scratch.write("wal/somebodys.file", "mine");
    let snapshot = site.scratch.path("snapshot");
    fs::hard_link(data.join(&file), &snapshot).expect("a second name");
    let old = fs::read(&snapshot).expect("read");

    let done = site.restore("copy", &["--delta"]);
    assert!(number(&done, "removed_files") > 0, "{done}");
    assert!(fs::read(&snapshot).expect("read") == old, "a snapshot keeps its content");
    assert!(fs::read(data.join(&file)).expect("read") != old, "the file is the point's");
    assert_eq!(fs::read_link(data.join("pg_wal")).expect("still a link"), wal);
    let mut left: Vec<String> = files_under(&wal).iter().map(|f| path_text(f)).collect();
    left.retain(|f| !f.ends_with("somebodys.file"));
    assert_eq!(left, Vec::<String>::new());
    assert!(wal.join("somebodys.file").exists());
    let mut copy = site.copy("copy").start();
    copy.wait_recovery_end(Duration::from_secs(60));
    assert_eq!(fingerprint(&copy, "postgres"), fingerprint(&site.pg, "postgres"));
}

#[test]
fn delta_refuses_what_is_not_its_own() {
    let site = Site::new("delta-no", PgVersion::NEWEST);
    let location = site.pg.create_tablespace("ts");
    site.sql("create table t tablespace ts as select g from generate_series(1, 1000) g");
    let _ = site.backup(&[]);
    site.pg.wait_archived();
    let delta = |name: &str, args: &[&str]| {
        let dir = site.scratch.path(name);
        let before = if dir.exists() { tree(&dir) } else { BTreeMap::new() };
        for more in [&["--delta", "--plan"][..], &["--delta"]] {
            let (code, message, hint) =
                error_of(&site.try_restore(name, &[args, more].concat()).expect_code(13));
            assert_eq!(code, "refused");
            assert!(!hint.is_empty(), "{message}");
            if more.len() == 1 {
                // A running server writes by itself.
                assert!(name == "main" || tree(&dir) == before, "{message}: something was touched");
                assert!(!dir.join(MARKER).exists());
                return message;
            }
        }
        unreachable!()
    };
    // The source itself, running; also when somebody removed its lock file.
    let message = delta("main", &[]);
    assert!(message.contains("may be running"), "{message}");
    let (lock, aside) = (site.pg.data_dir().join("postmaster.pid"), site.scratch.path("lock"));
    fs::rename(&lock, &aside).expect("move");
    let message = delta("main", &[]);
    fs::rename(&aside, &lock).expect("move back");
    assert!(message.contains("may be running"), "{message}");
    assert_eq!(site.sql("select count(*) from t"), "1000");
    // Somebody's documents, a directory that only looks like one, and another cluster.
    site.scratch.write("documents/letter.txt", "dear");
    assert!(delta("documents", &[]).contains("neither empty nor"));
    site.scratch.write("half/PG_VERSION", "18\n");
    assert!(delta("half", &[]).contains("neither empty nor"));
    site.scratch.write("broken/global/pg_control", vec![7; 8192]);
    site.scratch.write("broken/PG_VERSION", "18\n");
    assert!(delta("broken", &[]).contains("neither empty nor"));
    let mut other = server(&site.scratch, "other", PgVersion::NEWEST).fresh_initdb().start();
    other.stop(StopMode::Fast);
    let message = delta("other", &[]);
    assert!(message.contains("another cluster"), "{message}");
    // The remains of another cluster's restore.
    site.scratch.write(format!("remains/{MARKER}"), "restore of 20260101T000000Z-aaaaaa\ncluster 42\n");
    let (_, message, _) = error_of(&site.try_restore("remains", &["--delta"]).expect_code(13));
    assert!(message.contains("another cluster: 42"), "{message}");
    // A copied data directory shares the tablespaces of the original.
    copy_tree(site.pg.data_dir(), &site.scratch.path("twin"));
    fs::remove_file(site.scratch.path("twin/postmaster.pid")).expect("remove");
    let files = files_under(&location);
    let message = delta("twin", &[]);
    assert!(message.contains("in use by the data directory"), "{message}");
    assert_eq!(files_under(&location), files);
    // With a place of its own it can be had, and the original's is left alone.
    let map = format!("{}={}", location.display(), site.scratch.path("twin-ts").display());
    // A place that is taken is still refused.
    site.scratch.write("taken/file", "mine");
    let taken = format!("{}={}", location.display(), site.scratch.path("taken").display());
    assert!(delta("twin", &["--tablespace-map", &taken]).contains("not empty"));
    let inside = path_text(&site.scratch.path("twin/pg_wal"));
    let wal_from = ["--delta", "--tablespace-map", &map, "--wal-from", &inside];
    let _ = site.try_restore("twin", &wal_from).expect_code(2);
    let done = site.restore("twin", &["--delta", "--tablespace-map", &map]);
    assert!(done["notes"].to_string().contains("left there, unused"), "{done}");
    assert_eq!(files_under(&location), files);
    let mut twin = site.copy("twin").start();
    twin.wait_recovery_end(Duration::from_secs(60));
    assert_eq!(fingerprint(&twin, "postgres"), fingerprint(&site.pg, "postgres"));
    // Running again, as a copy now.
    assert!(delta_of_running(&site).contains("may be running"));
    assert_eq!(site.sql("select count(*) from t"), "1000");
    // Nor does a copy get hold of the original's tablespaces when the original is stopped.
    drop(twin);
    let mut site = site;
    site.pg.stop(StopMode::Fast);
    copy_tree(site.pg.data_dir(), &site.scratch.path("late-twin"));
    let (_, message, _) = error_of(&site.try_restore("late-twin", &["--delta"]).expect_code(13));
    assert!(message.contains("in use by the data directory"), "{message}");
    assert_eq!(files_under(&location).len(), files.len());
}

/// Tablespaces that lie in the data directory itself, by location and in place.
#[test]
fn delta_with_tablespaces_inside() {
    let site = Site::new("delta-inside", PgVersion::V15);
    let location = site.pg.data_dir().join("nested/space");
    fs::create_dir_all(&location).expect("make it");
    for dir in [location.parent().expect("nested"), &location] {
        user::chown(dir);
    }
    site.sql(&format!("create tablespace nested location '{}'", location.display()));
    site.sql("set allow_in_place_tablespaces = on; create tablespace near location ''");
    let rows = "as select g, repeat('x', 300) x from generate_series(1, 10000) g";
    site.sql(&format!(
        "create table t tablespace nested {rows}; create table u tablespace near {rows}; vacuum"
    ));
    let point = site.backup(&[]);
    site.pg.wait_archived();
    let mut copy = site.restore_and_start("copy", &["--immediate"]);
    copy.sql("postgres", "update t set x = 'other' where g = 17; update u set x = 'other' where g = 17");
    copy.sql("postgres", "create table w tablespace nested as select 1; checkpoint");
    copy.stop(StopMode::Fast);
    drop(copy);
    let done = site.restore("copy", &["--immediate", "--delta"]);
    let size = point["size_bytes"].as_u64().expect("size");
    assert!(number(&done, "rewritten_bytes") < size / 20, "{}", done["delta"]);
    let _ = site.restore("fresh", &["--immediate"]);
    let oid = site.sql("select oid from pg_tablespace where spcname = 'nested'");
    let (dir, link) = (site.scratch.path("copy"), format!("pg_tblspc/{oid}"));
    assert_same(&dir, &site.scratch.path("fresh"), &[&link]);
    assert_eq!(fs::read_link(dir.join(&link)).expect("a link"), dir.join("nested/space"));
    let mut copy = site.copy("copy").start();
    copy.wait_recovery_end(Duration::from_secs(60));
    assert_eq!(fingerprint(&copy, "postgres"), fingerprint(&site.pg, "postgres"));
}

fn delta_of_running(site: &Site) -> String {
    let (_, message, _) = error_of(&site.try_restore("twin", &["--delta"]).expect_code(13));
    message
}

/// SIGKILL at several moments: nothing starts on what is left, and the same command goes on.
#[test]
fn a_killed_delta_cannot_start_and_can_be_repeated() {
    let site = Site::new("delta-kill", PgVersion::NEWEST);
    let location = site.pg.create_tablespace("ts");
    site.sql(
        "create table big as select g, gen_random_uuid() a, gen_random_uuid() b from generate_series(1, 300000) g; \
         create table far tablespace ts as select * from big limit 80000",
    );
    let _ = site.backup(&[]);
    site.pg.wait_archived();
    let map = |to: &str| format!("{}={}", location.display(), site.scratch.path(to).display());
    let _ = site.restore("fresh", &["--tablespace-map", &map("fresh-ts")]);
    let mut old = site.restore_and_start("old", &["--tablespace-map", &map("old-ts")]);
    old.sql("postgres", "update big set a = gen_random_uuid(); update far set a = gen_random_uuid()");
    old.sql("postgres", "create table extra as select * from big limit 1000");
    old.stop(StopMode::Fast);
    drop(old);
    let oid = site.sql("select oid from pg_tablespace where spcname = 'ts'");
    let (dir, ts) = (site.scratch.path("copy"), site.scratch.path("copy-ts"));
    let link = format!("pg_tblspc/{oid}");
    let (to, map) = (path_text(&dir), map("copy-ts"));
    let args = ["restore", DB, "--to", &to, "--tablespace-map", &map, "--delta"];
    let diverge = || {
        for old in [&dir, &ts].into_iter().filter(|d| d.exists()) {
            remove(old);
        }
        copy_tree(&site.scratch.path("old"), &dir);
        copy_tree(&site.scratch.path("old-ts"), &ts);
        fs::remove_file(dir.join(&link)).expect("remove");
        symlink(&ts, dir.join(&link)).expect("link");
    };
    // A run that stands still in the middle. One that was through before is repeated.
    let halfway = |marker: &Path| {
        for _ in 0..30 {
            diverge();
            let mut run = site.hf.spawn(&args);
            while run.is_running() && !marker.exists() {
                std::thread::sleep(Duration::from_millis(1));
            }
            if run.freeze() && marker.exists() && !dir.join("global/pg_control").exists() {
                return run;
            }
        }
        panic!("no run was seen in the middle");
    };
    // Two at once: the second is refused, and does no harm.
    let mut run = halfway(&dir.join(MARKER));
    let second = site.hf.run(&args).expect_code(11);
    assert!(second.transcript().contains("another restore"), "{}", second.transcript());
    run.thaw();
    assert!(run.wait(Duration::from_secs(60)).is_some_and(|s| s.success()), "{}", run.output());
    diverge();
    let begun = Instant::now();
    let _ = site.hf.run(&args).ok().says("rewrote");
    let usual = begun.elapsed();
    let whole = || {
        assert_same(&dir, &site.scratch.path("fresh"), &[&link]);
        assert_same(&ts, &site.scratch.path("fresh-ts"), &[]);
    };
    whole();
    let control = dir.join("global/pg_control");
    let mut killed = [0, 0];
    // How long a run takes changes with what else runs: more are killed until both kinds were hit.
    for (n, part) in
        [5, 25, 45, 65, 85].into_iter().chain([1, 10, 20, 30, 40].into_iter().cycle()).enumerate()
    {
        if n >= 5 && killed.iter().all(|&k| k > 0) {
            break;
        }
        assert!(n < 40, "no kill came in the middle: {killed:?}");
        diverge();
        // Twice: the second goes on from what the first left.
        for (again, killed) in killed.iter_mut().enumerate() {
            let mut run = site.hf.spawn(&args);
            if part > 10 || again > 0 {
                while run.is_running() && !dir.join(MARKER).exists() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            std::thread::sleep(usual * part / 100);
            let ended = !run.is_running();
            run.kill9();
            if ended {
                break;
            }
            if dir.join(MARKER).exists() && !control.exists() {
                *killed += 1;
                let error = site.copy("copy").try_start().expect_err("half a delta must not start");
                assert!(error.contains("pg_control") || error.contains("ended at start"), "{error}");
                let plan = site.restore("copy", &["--tablespace-map", &map, "--delta", "--plan"]);
                assert_eq!(plan["delta"]["found"], "partial");
            }
        }
        let _ = site.hf.run(&args).ok();
        whole();
    }
    // A plain restore takes the remains of a delta for what they are, too.
    site.scratch.write("old-ts/mine.txt", "mine");
    let mut run = halfway(&ts.join(MARKER));
    run.kill9();
    assert!(!control.exists());
    let _ = site.restore("copy", &["--tablespace-map", &map]);
    assert_eq!(fs::read_to_string(ts.join("mine.txt")).expect("not ours to remove"), "mine");
    assert_same(&dir, &site.scratch.path("fresh"), &[&link]);
    let mut copy = site.copy("copy").start();
    copy.wait_recovery_end(Duration::from_secs(60));
    assert_eq!(fingerprint(&copy, "postgres"), fingerprint(&site.pg, "postgres"));
}

#[test]
fn root_runs_a_delta_for_the_servers_user() {
    if fs::metadata("/proc/self").expect("who am I").uid() != 0 {
        return;
    }
    let site = Site::new("delta-root", PgVersion::V15);
    site.sql("create table t as select g from generate_series(1, 1000) g");
    let _ = site.backup(&[]);
    site.pg.wait_archived();
    let mut copy = site.restore_and_start("copy", &[]);
    copy.sql("postgres", "create table more as select g from generate_series(1, 1000) g; drop table t");
    copy.stop(StopMode::Fast);
    drop(copy);
    let dir = site.scratch.path("copy");
    let owner = fs::metadata(&dir).expect("stat").uid();
    // Somebody was here as root.
    std::os::unix::fs::chown(dir.join("PG_VERSION"), Some(0), Some(0)).expect("chown");
    let mut command = std::process::Command::new(site.hf.path());
    user::clean_environment(&mut command);
    command.arg("--config").arg(site.scratch.path("holdfast.toml"));
    command.args(["restore", DB, "--delta", "--to", &path_text(&dir)]).current_dir("/");
    let done = proc::run(&mut command, b"", Duration::from_secs(60));
    assert_eq!(done.code, 0, "{}", String::from_utf8_lossy(&done.stderr));
    for (name, (_, uid, _)) in tree(&dir) {
        assert_eq!(uid, owner, "{name}");
    }
    let mut copy = site.copy("copy").start();
    copy.wait_recovery_end(Duration::from_secs(60));
    assert_eq!(fingerprint(&copy, "postgres"), fingerprint(&site.pg, "postgres"));
}
