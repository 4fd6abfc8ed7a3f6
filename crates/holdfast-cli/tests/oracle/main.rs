//! The restore oracle. After a random history, every point must come back as what a reference becomes
//! that was made without Holdfast:
//!
//! ```text
//! pg_basebackup at the start ─ WAL copied by `cp` ─ replay to the target ─┐
//!                                                                         ├─ equal, page by page
//! holdfast's point ─ WAL from the vault ─ replay to the same target ──────┘
//! ```
//!
//! Targets are restore points (then the rows must also be those that the source had) and bare LSNs in
//! the middle of concurrent load. Besides, amcheck and pg_visibility look at the copy, and
//! pg_checksums at its files.
//!
//! `HOLDFAST_SEED` repeats a history; `HOLDFAST_SOAK=1` (or `HOLDFAST_POINTS`, `HOLDFAST_HISTORIES`)
//! makes it long.

// A test tells on stderr what it does: the history is long.
#![allow(clippy::print_stderr)]

mod history;
mod pages;
#[path = "../faults/world.rs"]
mod world;

use history::Ground;
use holdfast_testkit::{Cluster, PgVersion, Scratch, StopMode, TestRng, proc, user, version};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use world::{DB, Site, fingerprint, remove, rng, rounds, server, soak, text};

const SPACE: Ground = Ground { linked_space: "linked" };

/// What varies from history to history.
#[derive(Debug, Clone, Copy)]
struct Variant {
    checksums: bool,
    hints_logged: bool,
    segment_mb: u32,
}

/// A moment to go back to.
#[derive(Debug)]
struct Moment {
    point: String,
    target: [String; 2],
    /// Contents at that moment, if the source stood still.
    rows: Option<String>,
}

struct Oracle {
    site: Site,
    /// WAL as `cp` archived it.
    plain: PathBuf,
    base: PathBuf,
    base_space: PathBuf,
    space: PathBuf,
    space_oid: String,
}

impl Oracle {
    fn new(name: &str, pg_version: PgVersion, variant: Variant) -> Oracle {
        let scratch = Scratch::new(name);
        let mut builder = server(&scratch, "main", pg_version)
            .checksums(variant.checksums)
            .setting("shared_buffers", "4MB")
            .setting("max_prepared_transactions", "10")
            .setting("allow_in_place_tablespaces", "on")
            .setting("wal_log_hints", if variant.hints_logged { "on" } else { "off" });
        if variant.segment_mb != 1 {
            // The server wants two segments at least.
            let least = format!("{}MB", 2 * variant.segment_mb);
            builder = builder.wal_segsize_mb(variant.segment_mb).setting("min_wal_size", &least);
        }
        let pg = builder.start();
        let site = Site::with(pg, &scratch, &[]);
        let plain = scratch.make_dir("plain");
        let (dir, push) = (plain.display(), site.push_command());
        site.archive_with(&format!("cp %p {dir}/%f.tmp && mv {dir}/%f.tmp {dir}/%f && {push}"));
        let space = scratch.make_dir("space");
        site.sql(&format!("create tablespace linked location '{}'", space.display()));
        site.sql(
            "create extension amcheck; create extension pg_visibility;\n\
             create table load(id int primary key, n int, body text);",
        );
        let (base, base_space) = (scratch.path("base"), scratch.path("base-space"));
        let mapping = format!("{}={}", space.display(), base_space.display());
        let to = base.display().to_string();
        site.pg.run_client("pg_basebackup", &["-c", "fast", "-X", "none", "-D", &to, "-T", &mapping]);
        let space_oid = site.sql("select oid from pg_tablespace where spcname = 'linked'");
        Oracle { site, plain, base, base_space, space, space_oid }
    }

    /// The next link of the chain, each with other options.
    fn backup(&self, rng: &mut TestRng, first: bool) -> String {
        let compression = *rng.pick(&["zstd:1", "zstd:3", "lz4", "none"]);
        let frame = *rng.pick(&["64KiB", "256KiB", "1MiB"]);
        self.site.policy(|t| {
            let kept = |l: &&str| !l.starts_with("compression =") && !l.starts_with("frame-size =");
            let t: String = t.lines().filter(kept).flat_map(|l| [l, "\n"]).collect();
            t.replace(
                "key-file =",
                &format!("compression = \"{compression}\"\nframe-size = \"{frame}\"\nkey-file ="),
            )
        });
        let kind = if first || rng.chance(200) { "--full" } else { "--incremental" };
        let mut args = vec![kind];
        if rng.chance(250) {
            args.push("--reread");
        }
        let mut all = vec!["--json", "backup", DB];
        all.extend(&args);
        let mut out = self.site.hf.run(&all);
        for _ in 0..10 {
            // The history moved a database meanwhile: no point, and the run says so.
            if out.code == 0 || !out.transcript().contains("copied file by file") {
                break;
            }
            eprintln!("  a database was moved during the backup; again");
            out = self.site.hf.run(&all);
        }
        let done = out.ok().json();
        let shown = self.site.hf.run(&["--json", "show", text(&done["id"])]).ok().json();
        let changes = &shown["point"]["changes"];
        eprintln!(
            "  {} {} with {compression}, {frame} {args:?}: {changes}",
            text(&done["kind"]),
            text(&done["id"])
        );
        if text(&done["kind"]) == "incremental" {
            assert_eq!(text(&changes["method"]), "wal-maps", "{changes}");
        }
        assert_eq!(changes["missed"].as_u64().unwrap_or(0), 0, "the wal did not name every page: {changes}");
        text(&done["id"]).to_owned()
    }

    /// A history with points in it.
    fn live(&self, rng: &mut TestRng, count: u64) -> Vec<Moment> {
        let mut moments = Vec::new();
        history::begin(&self.site.pg, rng, SPACE);
        let script = self.site.scratch.write("load.sql", history::load_script());
        for n in 0..count {
            history::run(&self.site.pg, rng, rng.clone().range(10, 60), SPACE);
            let busy = n % 2 == 1;
            let load = busy.then(|| {
                let mut command = self.site.pg.client("pgbench");
                command.args(["-n", "-T", "600", "-c", "3", "-f"]).arg(&script);
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                proc::Guarded::new(command.spawn().expect("start pgbench"))
            });
            let point = std::thread::scope(|s| {
                let mut other = rng.fork();
                let steps = if busy { 40 } else { 0 };
                let meanwhile = s.spawn(move || history::run(&self.site.pg, &mut other, steps, SPACE));
                let point = self.backup(rng, n == 0);
                meanwhile.join().expect("the history goes on during a backup");
                point
            });
            if busy {
                let lsn = self.site.sql("select pg_current_wal_insert_lsn()");
                std::thread::sleep(Duration::from_millis(200));
                drop(load);
                moments.push(Moment { point, target: ["--lsn".into(), lsn], rows: None });
            } else {
                history::run(&self.site.pg, rng, rng.clone().range(0, 30), SPACE);
                self.quiet();
                let name = format!("moment{n}");
                let rows = fingerprint(&self.site.pg);
                self.site.sql(&format!("select pg_create_restore_point('{name}')"));
                moments.push(Moment { point, target: ["--name".into(), name], rows: Some(rows) });
            }
        }
        self.quiet();
        self.site.pg.wait_archived();
        let wal = self.site.sql("select pg_size_pretty(pg_current_wal_lsn() - '0/0'), (select count(*) from pg_class where relkind in ('r', 'i') and oid > 16383)");
        eprintln!("  wal and relations in the end: {wal}");
        moments
    }

    /// Waits for clients that were cut off.
    fn quiet(&self) {
        let gone = proc::wait_until(Duration::from_secs(60), || {
            self.site.sql("select count(*) from pg_stat_activity where application_name = 'pgbench'") == "0"
        });
        assert!(gone, "pgbench's sessions do not end");
    }

    /// The reference at a moment, promoted there and stopped.
    fn reference(&self, moment: &Moment) -> Cluster {
        let scratch = &self.site.scratch;
        let (dir, space) = (scratch.path("reference"), scratch.path("reference-space"));
        for (from, to) in [(&self.base, &dir), (&self.base_space, &space)] {
            remove(to);
            let mut cp = user::command("cp");
            cp.arg("-a").arg(from).arg(to);
            assert!(cp.status().is_ok_and(|s| s.success()), "cp {}", from.display());
        }
        let _ = fs::remove_file(scratch.path("reference.log"));
        let link = dir.join("pg_tblspc").join(&self.space_oid);
        fs::remove_file(&link).expect("the link of the base");
        symlink(&space, &link).expect("make a link");
        user::chown(&link);
        scratch.write("reference/recovery.signal", "");
        let [option, value] = &moment.target;
        let setting = if option == "--name" { "recovery_target_name" } else { "recovery_target_lsn" };
        let mut pg = Cluster::builder(scratch, "reference", self.site.pg.version())
            .from_data_dir(&dir)
            .setting("archive_mode", "off")
            .setting("restore_command", &format!("cp {}/%f %p", self.plain.display()))
            .setting(setting, value)
            .setting("recovery_target_action", "promote")
            .start();
        settle(&mut pg);
        pg
    }

    /// The point of a moment, recovered to the moment, promoted there and stopped.
    fn restored(&self, moment: &Moment) -> Cluster {
        let [option, value] = &moment.target;
        let mut pg = self.restore(&[option, value, "--point", &moment.point]);
        settle(&mut pg);
        pg
    }

    fn restore(&self, args: &[&str]) -> Cluster {
        let (dir, space) = (self.site.scratch.path("copy"), self.site.scratch.path("copy-space"));
        remove(&dir);
        remove(&space);
        let _ = fs::remove_file(self.site.scratch.path("copy.log"));
        let map = format!("{}={}", self.space.display(), space.display());
        let mut all = args.to_vec();
        all.extend(["--tablespace-map", &map]);
        let _ = self.site.try_restore("copy", &all).ok();
        self.site.copy("copy").start()
    }

    /// Both at one moment, compared.
    fn compare(&self, moment: &Moment, deeply: bool) {
        let (reference, copy) = std::thread::scope(|s| {
            let reference = s.spawn(|| self.reference(moment));
            let copy = self.restored(moment);
            (reference.join().expect("the reference recovers"), copy)
        });
        let found = pages::compare(reference.data_dir(), copy.data_dir());
        let shown: Vec<&String> = found.different.iter().take(20).collect();
        assert!(
            found.different.is_empty(),
            "{moment:?}: {} of {} pages in {} files differ (reference and restored): {shown:#?}",
            found.different.len(),
            found.pages,
            found.files
        );
        assert!(found.pages > 1000, "{moment:?}: only {} pages compared", found.pages);
        let (here, there) =
            (pages::unmarked_visible(copy.data_dir()), pages::unmarked_visible(reference.data_dir()));
        let only_here: Vec<&String> = here.iter().filter(|w| !there.contains(w)).collect();
        assert!(only_here.is_empty(), "{moment:?}: visible pages without their mark: {only_here:?}");
        let (mut copy, mut reference) = (copy, reference);
        copy.start();
        let rows = moment.rows.clone().unwrap_or_else(|| {
            reference.start();
            fingerprint(&reference)
        });
        same_rows(&fingerprint(&copy), &rows, &format!("{moment:?}"));
        if deeply {
            examine(&mut copy);
        }
        eprintln!(
            "  {} {}: {} pages in {} files are equal",
            moment.target[0], moment.target[1], found.pages, found.files
        );
    }
}

/// Waits for the end of recovery without a session, which might prune pages; then writes all out.
fn settle(pg: &mut Cluster) {
    let ended = proc::wait_until(Duration::from_secs(120), || {
        assert!(pg.is_running(), "ended in recovery:\n{}", pg.log());
        pg.log().contains("is ready to accept connections")
    });
    assert!(ended, "recovery does not end:\n{}", pg.log());
    pg.stop(StopMode::Fast);
    assert_eq!(pg.control("Database cluster state"), "shut down", "{}", pg.log());
}

fn same_rows(got: &str, wanted: &str, what: &str) {
    let different: Vec<_> = got.lines().zip(wanted.lines()).filter(|(a, b)| a != b).take(10).collect();
    assert!(
        got == wanted,
        "{what}: contents differ (restored and wanted): {different:#?}\n{got}\n---\n{wanted}"
    );
}

/// PostgreSQL's own opinion of a copy.
fn examine(copy: &mut Cluster) {
    // A prepared transaction of another database makes pg_visibility doubt what is visible, and verify_heapam
    // miss TOAST values of rows that are dead (holdfast-engine, verify/content.rs).
    for prepared in copy.sql("postgres", "select database, gid from pg_prepared_xacts").lines() {
        let (database, gid) = prepared.split_once('|').expect("two columns");
        copy.sql(database, &format!("rollback prepared '{gid}'"));
    }
    copy.amcheck();
    let databases = copy.sql(
        "postgres",
        "select datname from pg_database where datallowconn and datconnlimit <> -2 order by 1",
    );
    for database in databases.lines() {
        let wrong = copy.sql(
            database,
            "create extension if not exists pg_visibility;\n\
             select c.oid::regclass, c.relpersistence, what, t from pg_class c, lateral \
             (select 'visible' what, pg_check_visible(c.oid) t union all select 'frozen', pg_check_frozen(c.oid)) x \
             where c.relkind in ('r', 'm', 't') and c.relpersistence <> 't' order by c.oid, 3, 4 limit 20",
        );
        assert_eq!(wrong, "", "{database}: the visibility map lies");
    }
    copy.stop(StopMode::Fast);
    if copy.control("Data page checksum version") != "0" {
        copy.check_checksums();
    }
}

fn histories(pg_version: PgVersion, salt: u64) {
    if !version::supported_in_test().contains(&pg_version) {
        return;
    }
    for history in 0..rounds("HOLDFAST_HISTORIES", 1, 10) {
        let mut rng = rng(salt + 16 * history);
        let variant = Variant {
            checksums: rng.chance(600),
            hints_logged: rng.chance(300),
            segment_mb: if soak() && rng.chance(300) { 16 } else { 1 },
        };
        eprintln!("PostgreSQL {pg_version}, {variant:?}");
        let oracle = Oracle::new(&format!("oracle{pg_version}"), pg_version, variant);
        let mut moments = oracle.live(&mut rng, rounds("HOLDFAST_POINTS", 5, 15));
        oracle.site.vault_is_whole();
        oracle.site.wal_is_continuous();
        let last = fingerprint(&oracle.site.pg);
        // Every moment from its own point; some also from the one before.
        for n in 1..moments.len() {
            if rng.chance(200) {
                let (point, target) = (moments[n - 1].point.clone(), moments[n].target.clone());
                let rows = moments[n].rows.clone();
                moments.push(Moment { point, target, rows });
            }
        }
        let count = moments.len();
        for (n, moment) in moments.iter().enumerate() {
            oracle.compare(moment, soak() || n + 1 == count || rng.chance(300));
        }
        // As soon as consistent: PostgreSQL finds nothing wrong with it.
        let any = rng.pick(&moments).point.clone();
        let mut copy = oracle.restore(&["--immediate", "--point", &any]);
        copy.wait_recovery_end(Duration::from_secs(120));
        examine(&mut copy);
        // To the end of WAL: what the source has now.
        let mut copy = oracle.restore(&[]);
        copy.wait_recovery_end(Duration::from_secs(120));
        same_rows(&fingerprint(&copy), &last, "the end of wal");
    }
}

#[test]
fn history_on_15() {
    histories(PgVersion::V15, 1);
}

#[test]
fn history_on_16() {
    if soak() {
        histories(PgVersion::V16, 2);
    }
}

#[test]
fn history_on_17() {
    histories(PgVersion::V17, 3);
}

#[test]
fn history_on_18() {
    histories(PgVersion::V18, 4);
}

/// The comparison is worth something: a byte changed in the copy is found.
#[test]
fn a_changed_byte_is_found() {
    let scratch = Scratch::new("oracle-self");
    let mut pg = server(&scratch, "main", PgVersion::NEWEST).checksums(false).start();
    pg.sql(
        "postgres",
        "create table t as select g, md5(g::text) m from generate_series(1, 1000) g; create index on t(g)",
    );
    let file = pg.sql("postgres", "select pg_relation_filepath('t')");
    let index = pg.sql("postgres", "select pg_relation_filepath('t_g_idx')");
    pg.stop(StopMode::Fast);
    let mut cp = Command::new("cp");
    cp.arg("-a").arg(pg.data_dir()).arg(scratch.path("copy"));
    assert!(cp.status().is_ok_and(|s| s.success()));
    let copy = scratch.path("copy");
    assert_eq!(pages::compare(pg.data_dir(), &copy).different, Vec::<String>::new());
    for (file, at) in [(&file, 8192 + 8000), (&file, 30), (&index, 8192 + 8000)] {
        let path = copy.join(file);
        let whole = fs::read(&path).expect("read");
        holdfast_testkit::damage::flip_bit_at(&path, at, 3);
        let found = pages::compare(pg.data_dir(), &copy).different;
        assert_eq!(found.len(), 1, "{file} at {at}: {found:?}");
        // The last pages may be empty ones.
        fs::write(&path, &whole[..8192]).expect("cut");
        let found = pages::compare(pg.data_dir(), &copy).different;
        assert!(!found.is_empty(), "{file} cut");
        fs::write(&path, whole).expect("put back");
    }
}
