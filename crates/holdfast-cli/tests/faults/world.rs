//! A server, a vault and the program between them, for tests in which something goes wrong.
//! Shared with `tests/oracle`.

#![allow(dead_code)] // each of the two test programs uses its own part

use holdfast_testkit::damage::files_under;
use holdfast_testkit::{Cluster, ClusterBuilder, Holdfast, Output, PgVersion, Scratch, TestRng, proc, user};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const DB: &str = "app";

/// The generator of a test. `HOLDFAST_SEED` repeats a run; tests differ by `salt`.
pub fn rng(salt: u64) -> TestRng {
    let seed = holdfast_testkit::seed_from_env_or_time("HOLDFAST_SEED");
    TestRng::new(seed ^ (salt << 48))
}

/// Whether this is the long run of `make soak`.
pub fn soak() -> bool {
    std::env::var("HOLDFAST_SOAK").is_ok_and(|v| !v.is_empty() && v != "0")
}

/// A number of rounds: the environment variable, else the long or the short number.
pub fn rounds(variable: &str, short: u64, long: u64) -> u64 {
    let given = std::env::var(variable).ok().filter(|v| !v.is_empty());
    match given {
        Some(text) => text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")),
        None if soak() => long,
        None => short,
    }
}

/// A running server with a policy and a vault.
pub struct Site {
    pub pg: Cluster,
    pub hf: Holdfast,
    pub scratch: Scratch,
}

/// A server with small WAL segments that does nothing by itself; archiving is on, without a command.
pub fn server(scratch: &Scratch, name: &str, version: PgVersion) -> ClusterBuilder {
    Cluster::builder(scratch, name, version)
        .wal_segsize_mb(1)
        .setting("autovacuum", "off")
        .setting("max_wal_size", "64MB")
        .setting("min_wal_size", "4MB")
        .setting("checkpoint_timeout", "30min")
        .archive_command("")
}

impl Site {
    /// A server with checksums and a vault in a directory; WAL goes into it.
    pub fn new(name: &str, version: PgVersion) -> Site {
        let scratch = Scratch::new(name);
        let pg = server(&scratch, "main", version).checksums(true).start();
        let site = Site::with(pg, &scratch, &[]);
        site.archive_with(&site.push_command());
        site
    }

    /// A policy and a vault in a directory for this server; nothing is archived yet.
    pub fn with(pg: Cluster, scratch: &Scratch, more: &[&str]) -> Site {
        let url = format!("file://{}", scratch.path("vault").display());
        let hf = Holdfast::new(scratch, scratch.path("holdfast.toml"));
        Site::at(pg, scratch, hf, &url, more)
    }

    /// The same with a vault anywhere.
    pub fn at(pg: Cluster, scratch: &Scratch, hf: Holdfast, url: &str, more: &[&str]) -> Site {
        let key = scratch.path("hf.key").display().to_string();
        let conninfo = pg.conninfo();
        let mut args = vec!["init", "--name", DB, "--conninfo", &conninfo];
        args.extend(["--vault", url, "--key-file", &key, "--yes"]);
        args.extend(more);
        let _ = hf.run(&args).ok();
        Site { pg, hf, scratch: scratch.clone() }
    }

    pub fn push_command(&self) -> String {
        format!("{} wal push --db {DB} %p", self.hf.shell())
    }

    pub fn archive_with(&self, command: &str) {
        let quoted = command.replace('\'', "''");
        self.sql(&format!("alter system set archive_command = '{quoted}';\nselect pg_reload_conf();"));
    }

    pub fn sql(&self, sql: &str) -> String {
        self.pg.sql("postgres", sql)
    }

    pub fn vault(&self) -> PathBuf {
        self.scratch.path("vault")
    }

    /// `backup --json` with these arguments, which must succeed.
    pub fn backup(&self, args: &[&str]) -> Value {
        let mut all = vec!["--json", "backup", DB];
        all.extend(args);
        self.hf.run(&all).ok().json()
    }

    /// `restore --json` into a directory of this name in the scratch directory.
    pub fn try_restore(&self, name: &str, args: &[&str]) -> Output {
        let to = self.scratch.path(name).display().to_string();
        let mut all = vec!["--json", "restore", DB, "--to", &to];
        all.extend(args);
        self.hf.run(&all)
    }

    /// A server on a restored directory, not started.
    pub fn copy(&self, name: &str) -> ClusterBuilder {
        Cluster::builder(&self.scratch, name, self.pg.version()).from_data_dir(self.scratch.path(name))
    }

    /// Restores, starts, and waits until the copy takes writes.
    pub fn restore_and_start(&self, name: &str, args: &[&str]) -> Cluster {
        let _ = self.try_restore(name, args).ok();
        let mut pg = self.copy(name).start();
        pg.wait_recovery_end(Duration::from_secs(120));
        pg
    }

    /// Ids of the points that `list` shows.
    pub fn points(&self) -> Vec<String> {
        let list = self.hf.run(&["--json", "list", DB]).ok().json();
        let points = list["points"].as_array().expect("points[]").clone();
        points.iter().map(|p| p["id"].as_str().expect("id").to_owned()).collect()
    }

    /// `check --json`: what it calls damage, `name: message`.
    pub fn damage(&self) -> Vec<String> {
        let out = self.hf.run(&["--json", "check", DB]);
        let found = failures(&out);
        assert_eq!(out.code, if found.is_empty() { 0 } else { 5 }, "{}", out.transcript());
        found
    }

    #[track_caller]
    pub fn vault_is_whole(&self) {
        let damage = self.damage();
        assert!(damage.is_empty(), "check found damage: {damage:#?}");
    }

    /// The archive has no holes.
    #[track_caller]
    pub fn wal_is_continuous(&self) {
        let all = self.hf.run(&["--json", "wal", "status", DB]).ok().json();
        let archive = &all["archives"][0];
        assert_eq!(archive["gaps"], serde_json::json!([]), "{all}");
        assert_eq!(archive["conflicts"], serde_json::json!([]), "{all}");
    }

    /// Adds lines to the policy.
    pub fn policy(&self, change: impl Fn(&str) -> String) {
        let path = self.scratch.path("holdfast.toml");
        let text = fs::read_to_string(&path).expect("read the policy");
        self.scratch.write("holdfast.toml", change(&text));
    }

    /// Slows backups down, so that something can happen in the middle; `None`: no limit.
    pub fn rate(&self, rate: Option<&str>) {
        self.policy(|text| {
            let kept: String = text
                .lines()
                .filter(|l| *l != "[tuning]" && !l.starts_with("rate ="))
                .flat_map(|l| [l, "\n"])
                .collect();
            match rate {
                Some(rate) => format!("{}\n\n[tuning]\nrate = \"{rate}\"\n", kept.trim_end()),
                None => kept,
            }
        });
    }

    /// Waits until a backup copies files: its `pg_backup_start` has returned.
    pub fn wait_backup_copies(&self, run: &mut holdfast_testkit::Running) {
        let copying = proc::wait_until(Duration::from_secs(60), || {
            assert!(run.is_running(), "it ended early:\n{}", run.output());
            run.output().contains("copying files")
        });
        assert!(copying, "no copying:\n{}", run.output());
    }
}

/// What `check --json` calls damage, `name: message`; the error document, if that is what came.
pub fn failures(out: &Output) -> Vec<String> {
    let doc = out.json();
    if doc["error"].is_object() {
        return vec![format!("{}", doc["error"])];
    }
    let lines = doc["checks"].as_array().expect("checks[]").clone();
    let failed = lines.iter().filter(|l| l["status"] == "FAIL");
    failed.map(|l| format!("{}: {}", text(&l["name"]), text(&l["message"]))).collect()
}

pub fn text(v: &Value) -> &str {
    v.as_str().unwrap_or_else(|| panic!("not a text: {v}"))
}

/// Row count and a digest of every user table of every database.
pub fn fingerprint(pg: &Cluster) -> String {
    let databases = pg.sql(
        "postgres",
        "select datname from pg_database where datallowconn and datconnlimit <> -2 and not datistemplate order by 1",
    );
    let mut all =
        pg.sql("postgres", "select 'prepared', gid, transaction, database from pg_prepared_xacts order by 2");
    for database in databases.lines() {
        let tables = pg.sql(
            database,
            "select format('%I.%I', schemaname, tablename) from pg_tables \
             where schemaname not in ('pg_catalog', 'information_schema') \
             and not exists (select from pg_class c where c.relpersistence = 'u' \
                and c.oid = format('%I.%I', schemaname, tablename)::regclass) order by 1",
        );
        let one = |t: &str| {
            format!(
                "select '{t} ' || count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)::numeric)::text, '-') from {t} t;\n"
            )
        };
        let sums = pg.sql(database, &tables.lines().map(one).collect::<String>());
        all.push_str(&format!("[{database}]\n{sums}\n"));
        let objects = pg.sql(
            database,
            "select 'large objects ' || count(*) || ' ' || coalesce(sum(hashtextextended(encode(data, 'hex'), pageno)::numeric)::text, '-') \
             from pg_largeobject;\n\
             select 'relations ' || count(*) || ' ' || md5(string_agg(concat_ws(' ', relname, relkind, relpersistence, spcname), ',' order by relname, relkind)) \
             from pg_class c left join pg_tablespace t on t.oid = c.reltablespace where relname !~ '^pg_(toast|temp)'",
        );
        all.push_str(&format!("{objects}\n"));
    }
    all
}

/// Every file below a directory, relative, with a digest of its content.
pub fn tree(dir: &Path) -> BTreeMap<String, u64> {
    let digest = |path: &Path| {
        let mut h = DefaultHasher::new();
        let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // How far the archive reached is no part of what was restored.
        match String::from_utf8(bytes).map(|text| text.split(" --reach ").map(str::to_owned).collect()) {
            Ok::<Vec<String>, _>(parts) => {
                let rest = |p: &String| p.get(24..).unwrap_or_default().to_owned();
                parts
                    .iter()
                    .take(1)
                    .cloned()
                    .chain(parts.iter().skip(1).map(rest))
                    .for_each(|p| p.hash(&mut h));
            }
            Err(e) => e.into_bytes().hash(&mut h),
        }
        h.finish()
    };
    let name = |p: &Path| p.strip_prefix(dir).expect("below it").display().to_string();
    files_under(dir).iter().map(|p| (name(p), digest(p))).collect()
}

/// What differs between two trees.
pub fn differences(a: &BTreeMap<String, u64>, b: &BTreeMap<String, u64>) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    names.into_iter().filter(|n| a.get(*n) != b.get(*n)).cloned().collect()
}

pub fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("{}: {e}", path.display()),
        _ => {}
    }
}

/// A file system of its own on a directory, gone when dropped. `None`, with a word, where that needs
/// rights that we do not have.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn new(dir: &Path, size: &str) -> Option<SmallDisk> {
        let owner = user::server_user();
        let options = format!("size={size},mode=0700,uid={},gid={}", owner.uid, owner.gid);
        let mut command = std::process::Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir);
        let done = command.stderr(std::process::Stdio::null()).status();
        if done.is_ok_and(|s| s.success()) {
            return Some(SmallDisk(dir.to_owned()));
        }
        eprintln!("SKIPPED: a small disk needs the right to mount (run as root)");
        None
    }

    /// Makes it larger.
    pub fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        let done = std::process::Command::new("mount").args(["-o", &options]).arg(&self.0).status();
        assert!(done.is_ok_and(|s| s.success()), "cannot grow {}", self.0.display());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: something may still have a file open.
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
