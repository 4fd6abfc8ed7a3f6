//! What tests do with a running [`Cluster`]: load, WAL, recovery, and PostgreSQL's own tools.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::postgres::{CLIENT_LIMIT, Cluster, ClusterBuilder, tail};
use crate::proc;
use crate::user;

const WAL_LIMIT: Duration = Duration::from_secs(400);

impl Cluster {
    // ---- load --------------------------------------------------------------------------------

    /// Creates pgbench's tables, `scale` × 100 000 accounts (about 15 MB each), in `postgres`.
    pub fn pgbench_init(&self, scale: u32) {
        self.run_client("pgbench", &["-i", "-q", "-s", &scale.to_string()]);
    }

    /// Runs pgbench's default transactions. Returns its report.
    pub fn pgbench_run(&self, seconds: u32, clients: u32) -> String {
        let (seconds, clients) = (seconds.to_string(), clients.to_string());
        self.run_client("pgbench", &["-n", "-T", &seconds, "-c", &clients])
    }

    /// The same in the background; the guard ends it when it goes.
    pub fn pgbench_spawn(&self, seconds: u32, clients: u32) -> proc::Guarded {
        let mut command = self.client("pgbench");
        command.args(["-n", "-T", &seconds.to_string(), "-c", &clients.to_string()]);
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        proc::Guarded::new(command.spawn().expect("start pgbench"))
    }

    /// Creates a tablespace in a new directory of the scratch directory, which it returns.
    pub fn create_tablespace(&self, name: &str) -> PathBuf {
        let dir = self.scratch().make_dir(format!("tablespace-{}-{name}", self.port()));
        self.sql("postgres", &format!("create tablespace {name} location '{}'", dir.display()));
        dir
    }

    // ---- WAL ---------------------------------------------------------------------------------

    /// Finishes the current WAL segment and returns its name.
    pub fn switch_wal(&self) -> String {
        // Without a record of ours there might be nothing to switch from.
        self.sql(
            "postgres",
            "select from pg_logical_emit_message(true, 'testkit', 'switch');\n\
             select pg_walfile_name(pg_switch_wal())",
        )
        .trim()
        .to_owned()
    }

    /// Switches the WAL segment and waits until the archive command has taken it. Returns its name.
    pub fn wait_archived(&self) -> String {
        let segment = self.switch_wal();
        self.wait_segment_archived(&segment);
        segment
    }

    /// Waits until the archive command has taken this segment; panics with the log if it does not.
    pub fn wait_segment_archived(&self, segment: &str) {
        let status = self.data_dir().join("pg_wal/archive_status");
        let archived = proc::wait_until(WAL_LIMIT, || {
            // A recycled segment leaves neither file, but not before it was archived.
            !status.join(format!("{segment}.ready")).exists()
                && (status.join(format!("{segment}.done")).exists()
                    || !self.data_dir().join("pg_wal").join(segment).exists())
        });
        assert!(archived, "{segment} was not archived; log:\n{}", tail(&self.log(), 40));
    }

    /// The write position, such as `0/3000148`.
    pub fn current_lsn(&self) -> String {
        self.sql("postgres", "select pg_current_wal_lsn()")
    }

    /// The server's clock, in UTC, with microseconds: `2026-11-21 09:15:02.123456+00`.
    pub fn now(&self) -> String {
        self.sql("postgres", "set timezone = 'UTC'; select clock_timestamp()")
    }

    // ---- recovery ----------------------------------------------------------------------------

    /// Ends recovery and waits for it.
    pub fn promote(&self) {
        assert_eq!(self.sql("postgres", "select pg_promote(true, 120)"), "t", "promotion failed");
    }

    /// Whether it is in recovery.
    pub fn is_in_recovery(&self) -> bool {
        self.sql("postgres", "select pg_is_in_recovery()") == "t"
    }

    /// Waits until recovery has ended; panics, with the log, when the server ends or it takes more
    /// than `limit`.
    pub fn wait_recovery_end(&mut self, limit: Duration) {
        let ended = proc::wait_until(limit, || {
            assert!(self.is_running(), "ended in recovery; log:\n{}", tail(&self.log(), 40));
            let answer = self.try_sql("postgres", "select pg_is_in_recovery()");
            answer.is_ok_and(|answer| answer == "f")
        });
        assert!(ended, "still in recovery; log:\n{}", tail(&self.log(), 40));
    }

    /// Makes a streaming standby by `pg_basebackup`, not started yet.
    pub fn standby(&self, name: &str) -> ClusterBuilder {
        let dir = self.scratch().path(name);
        let dest = dir.to_string_lossy();
        self.run_client("pg_basebackup", &["-R", "-c", "fast", "-X", "stream", "-D", &dest]);
        Cluster::builder(self.scratch(), name, self.version()).from_data_dir(dir)
    }

    // ---- PostgreSQL's own tools --------------------------------------------------------------

    /// A plain base backup with `pg_basebackup`.
    pub fn basebackup(&self, dest: &Path) {
        let dest = dest.to_string_lossy();
        self.run_client("pg_basebackup", &["-c", "fast", "-X", "stream", "-D", &dest]);
    }

    /// `pg_waldump` with these arguments, in the data directory's `pg_wal`. It may end with an
    /// error at the end of WAL, which is normal: what it printed until then counts.
    pub fn waldump(&self, args: &[&str]) -> String {
        let mut command = user::command(self.version().bin("pg_waldump"));
        command.arg("-p").arg(self.data_dir().join("pg_wal")).args(args);
        let done = proc::run(&mut command, &[], CLIENT_LIMIT);
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert!(done.code == 0 || !done.stdout.is_empty(), "pg_waldump {args:?}: {stderr}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// What `pg_controldata` prints.
    pub fn controldata(&self) -> String {
        self.run_client("pg_controldata", &["-D", &self.data_dir().to_string_lossy()])
    }

    /// One line's value of `pg_controldata`: `control("Database system identifier")`.
    pub fn control(&self, label: &str) -> String {
        let text = self.controldata();
        let value = text.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("no {label:?} in:\n{text}")).trim().to_owned()
    }

    /// Verifies all data checksums with `pg_checksums`; the server must be stopped cleanly.
    pub fn check_checksums(&self) {
        self.run_client("pg_checksums", &["--check", "-D", &self.data_dir().to_string_lossy()]);
    }

    /// Checks all tables and indexes of all databases with `pg_amcheck`.
    pub fn amcheck(&self) {
        self.run_client("pg_amcheck", &["--all", "--install-missing", "--heapallindexed"]);
    }

    /// A logical dump of a database, for comparing contents.
    pub fn dump(&self, database: &str) -> String {
        let text = self.run_client("pg_dump", &[database]);
        // Since its August 2025 releases pg_dump writes a random word into its output.
        let random = |line: &&str| line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ");
        text.lines().filter(|line| !random(line)).flat_map(|line| [line, "\n"]).collect()
    }
}
