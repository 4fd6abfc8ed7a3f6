//! A site: a server, a vault, a policy, and the program that ties them together.

use holdfast_testkit::damage::files_under;
use holdfast_testkit::{Cluster, ClusterBuilder, Holdfast, Output, PgVersion, Scratch, proc};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const DB: &str = "app";

/// A running server with archiving into a vault, set up by `holdfast init`.
pub struct Site {
    pub pg: Cluster,
    pub hf: Holdfast,
    pub archive_command: String,
    pub scratch: Scratch,
}

/// A server with small WAL segments, nothing that writes by itself, and archiving on without a command.
pub fn server(scratch: &Scratch, name: &str, version: PgVersion) -> ClusterBuilder {
    Cluster::builder(scratch, name, version)
        .checksums(true)
        .wal_segsize_mb(1)
        .setting("autovacuum", "off")
        .archive_command("")
}

impl Site {
    pub fn new(name: &str, version: PgVersion) -> Site {
        let scratch = Scratch::new(name);
        let pg = server(&scratch, "main", version).start();
        Site::with(pg, &scratch, &[])
    }

    /// A site around a server, with further arguments of `init`.
    pub fn with(pg: Cluster, scratch: &Scratch, more: &[&str]) -> Site {
        let hf = Holdfast::new(scratch, scratch.path("holdfast.toml"));
        let url = format!("file://{}", scratch.path("vault").display());
        let key = scratch.path("hf.key").display().to_string();
        let conninfo = pg.conninfo();
        let mut args = vec!["--json", "init", "--name", DB, "--conninfo", &conninfo];
        args.extend(["--vault", &url, "--key-file", &key, "--yes"]);
        args.extend(more);
        let done = hf.run(&args).ok().json();
        let archive_command =
            done["archive_command"].as_str().expect("init names archive_command").to_owned();
        assert_eq!(archive_command, format!("{} wal push --db {DB} %p", hf.shell()));
        let site = Site { pg, hf, archive_command, scratch: scratch.clone() };
        site.archive_with(&site.archive_command);
        site
    }

    pub fn archive_with(&self, command: &str) {
        let quoted = command.replace('\'', "''");
        self.pg.sql(
            "postgres",
            &format!("alter system set archive_command = '{quoted}';\nselect pg_reload_conf();"),
        );
    }

    pub fn sql(&self, sql: &str) -> String {
        self.pg.sql("postgres", sql)
    }

    /// `backup --json` with these arguments.
    pub fn backup(&self, args: &[&str]) -> Value {
        let mut all = vec!["--json", "backup", DB];
        all.extend(args);
        self.hf.run(&all).ok().json()
    }

    /// `restore` into a directory of this name in the scratch directory.
    pub fn try_restore(&self, name: &str, args: &[&str]) -> Output {
        let to = self.scratch.path(name).display().to_string();
        let mut all = vec!["--json", "restore", DB, "--to", &to];
        all.extend(args);
        self.hf.run(&all)
    }

    pub fn restore(&self, name: &str, args: &[&str]) -> Value {
        self.try_restore(name, args).ok().json()
    }

    /// A server on a restored directory, not started.
    pub fn copy(&self, name: &str) -> ClusterBuilder {
        let dir = self.scratch.path(name);
        Cluster::builder(&self.scratch, name, self.pg.version()).from_data_dir(dir)
    }

    /// Restores, starts, and waits until the copy takes writes.
    pub fn restore_and_start(&self, name: &str, args: &[&str]) -> Cluster {
        let _ = self.restore(name, args);
        let mut pg = self.copy(name).start();
        pg.wait_recovery_end(Duration::from_secs(120));
        pg
    }

    /// The files of the vault, relative names.
    pub fn vault_files(&self) -> Vec<String> {
        let dir = self.scratch.path("vault");
        let name = |p: PathBuf| p.strip_prefix(&dir).expect("a file of the vault").display().to_string();
        let mut all: Vec<String> = files_under(&dir).into_iter().map(name).collect();
        all.sort();
        all
    }

    /// The one file of the vault whose name contains this.
    pub fn vault_file(&self, part: &str) -> PathBuf {
        let hits: Vec<String> = self.vault_files().into_iter().filter(|f| f.contains(part)).collect();
        assert_eq!(hits.len(), 1, "files with {part}: {hits:?}");
        self.scratch.path("vault").join(&hits[0])
    }

    /// `wal get`: the exit code, and where the file would be.
    pub fn wal_get(&self, name: &str, retry_for: &str) -> (i32, PathBuf) {
        let dest = self.scratch.make_dir("got").join(name);
        let _ = fs::remove_file(&dest);
        let to = dest.display().to_string();
        let out = self.hf.run(&["wal", "get", "--db", DB, "--retry-for", retry_for, name, &to]);
        assert_eq!(out.code == 0, dest.exists(), "a file appears only on success: {}", out.transcript());
        (out.code, dest)
    }

    pub fn wal_status(&self) -> Value {
        let all = self.hf.run(&["--json", "wal", "status", DB]).ok().json();
        all["archives"][0].clone()
    }

    /// The policy is about this server from now on.
    pub fn move_to(&mut self, copy: Cluster) -> Cluster {
        let path = self.scratch.path("holdfast.toml");
        let text = fs::read_to_string(&path).expect("read the policy");
        let (old, new) = (&self.pg, &copy);
        let text = text.replace(&old.data_dir().display().to_string(), &new.data_dir().display().to_string());
        let text =
            text.replace(&old.socket_dir().display().to_string(), &new.socket_dir().display().to_string());
        let text = text.replace(&old.port().to_string(), &new.port().to_string());
        self.scratch.write("holdfast.toml", text);
        std::mem::replace(&mut self.pg, copy)
    }
}

/// md5 of every user table of a database, row by row in a fixed order.
pub fn fingerprint(pg: &Cluster, database: &str) -> String {
    let tables = pg.sql(
        database,
        "select quote_ident(schemaname) || '.' || quote_ident(tablename) from pg_tables \
         where schemaname not in ('pg_catalog', 'information_schema') order by 1",
    );
    let one = |t: &str| {
        format!(
            "select '{t} ' || count(*) || ' ' || coalesce(md5(string_agg(md5(t::text), '' order by t::text)), '') from {t} t;\n"
        )
    };
    pg.sql(database, &tables.lines().map(one).collect::<String>())
}

/// The error document of a failed `--json` run: (code, message, hint).
pub fn error_of(out: &Output) -> (String, String, String) {
    let e = &out.json()["error"];
    let text = |k: &str| e[k].as_str().unwrap_or_default().to_owned();
    (text("code"), text("message"), text("hint"))
}

pub fn text(v: &Value) -> &str {
    v.as_str().unwrap_or_else(|| panic!("not a text: {v}"))
}

/// Waits for a condition for at most a minute.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(proc::wait_until(Duration::from_secs(180), condition), "did not happen: {what}");
}

pub fn path_text(p: &Path) -> String {
    p.display().to_string()
}
