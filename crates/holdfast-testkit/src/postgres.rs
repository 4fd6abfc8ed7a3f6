//! A throwaway PostgreSQL server.
//!
//! [`Cluster::builder`] copies a cached `initdb` template into the scratch directory and starts
//! `postgres` on a free port and a socket of its own, as the server user, with `trust`
//! authentication for user `postgres`. `fsync` is off unless asked for: a killed *process* loses
//! nothing by that, only a killed machine would.
//!
//! The same builder starts a server on a directory that something else made
//! ([`ClusterBuilder::from_data_dir`]): then nothing in the directory is edited, and every setting
//! is given on the command line, where it beats whatever configuration was restored.
//!
//! A cluster that goes out of scope is stopped at once; if the whole test process is killed, a
//! watchdog does it (see [`crate::proc`]).

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::proc::{self, Guarded, Watchdog};
use crate::scratch::{Scratch, temp_root};
use crate::template;
use crate::user;
use crate::version::PgVersion;

const START_LIMIT: Duration = Duration::from_secs(180);
const STOP_LIMIT: Duration = Duration::from_secs(120);
/// Also for queries and client programs: a test that hangs should say where.
pub(crate) const CLIENT_LIMIT: Duration = Duration::from_secs(600);
/// Longest path of a Unix socket, and the longest name that PostgreSQL gives one.
const MAX_SOCKET_DIR: usize = 107 - "/.s.PGSQL.65535.lock".len();

/// How a server is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Waits for clients to go.
    Smart,
    /// Ends sessions and writes a shutdown checkpoint.
    Fast,
    /// Stops dead; the next start is a crash recovery.
    Immediate,
}

/// A server and its data directory.
#[derive(Debug)]
pub struct Cluster {
    version: PgVersion,
    data_dir: PathBuf,
    socket_dir: PathBuf,
    log_path: PathBuf,
    port: u16,
    tcp: bool,
    /// Given on the command line at each start.
    options: Vec<(String, String)>,
    server: Option<Server>,
    /// Keeps the directory from being removed under the server.
    scratch: Scratch,
}

#[derive(Debug)]
struct Server {
    process: Guarded,
    _watchdog: Watchdog,
}

/// What to build; see [`Cluster::builder`].
#[derive(Debug, Clone)]
pub struct ClusterBuilder {
    scratch: Scratch,
    name: String,
    version: PgVersion,
    existing: Option<PathBuf>,
    checksums: Option<bool>,
    initdb_args: Vec<String>,
    fresh: bool,
    waldir: Option<PathBuf>,
    fsync: bool,
    tcp: Option<bool>,
    settings: Vec<(String, String)>,
}

impl ClusterBuilder {
    /// Data checksums on or off; else the version's default (on from 18).
    pub fn checksums(mut self, on: bool) -> Self {
        self.checksums = Some(on);
        self
    }

    /// A further argument of `initdb`.
    pub fn initdb_arg(mut self, arg: &str) -> Self {
        self.initdb_args.push(arg.to_owned());
        self
    }

    /// Size of a WAL segment; 1 makes archives move quickly.
    pub fn wal_segsize_mb(self, megabytes: u32) -> Self {
        self.initdb_arg(&format!("--wal-segsize={megabytes}"))
    }

    /// `pg_wal` is a symbolic link to this directory, which must not exist yet.
    pub fn waldir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.waldir = Some(dir.into());
        self
    }

    /// Runs `initdb` instead of copying a template: a system identifier of its own.
    pub fn fresh_initdb(mut self) -> Self {
        self.fresh = true;
        self
    }

    /// Starts on this existing data directory and changes nothing in it. Without TCP unless asked.
    pub fn from_data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.existing = Some(dir.into());
        self
    }

    /// A configuration setting; a later one wins.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Archiving on, with this command.
    pub fn archive_command(self, command: &str) -> Self {
        self.setting("archive_mode", "on").setting("archive_command", command)
    }

    /// Real `fsync` (default off).
    pub fn fsync(mut self, on: bool) -> Self {
        self.fsync = on;
        self
    }

    /// Whether it listens on 127.0.0.1 too (default: yes, but not on an existing directory).
    pub fn tcp(mut self, on: bool) -> Self {
        self.tcp = Some(on);
        self
    }

    /// Makes the data directory, if there is none, but starts nothing.
    pub fn create(self) -> Cluster {
        let data_dir = match &self.existing {
            Some(dir) => dir.clone(),
            None => self.make_data_dir(),
        };
        let mut options = Vec::new();
        if self.existing.is_some() {
            if !self.fsync {
                options.push(("fsync".to_owned(), "off".to_owned()));
            }
            options.extend(self.settings.clone());
        }
        Cluster {
            version: self.version,
            socket_dir: socket_dir(&self.scratch, &self.name),
            log_path: self.scratch.path(format!("{}.log", self.name)),
            port: proc::free_port(),
            tcp: self.tcp.unwrap_or(self.existing.is_none()),
            data_dir,
            options,
            server: None,
            scratch: self.scratch,
        }
    }

    /// Makes and starts it; panics when it does not start.
    pub fn start(self) -> Cluster {
        self.try_start().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes and starts it; the error is what the server logged.
    pub fn try_start(self) -> Result<Cluster, String> {
        let mut cluster = self.create();
        cluster.try_start()?;
        Ok(cluster)
    }

    fn make_data_dir(&self) -> PathBuf {
        let data_dir = self.scratch.path(&self.name);
        let mut args = self.initdb_args.clone();
        match self.checksums {
            Some(true) => args.push("--data-checksums".to_owned()),
            Some(false) if self.version >= PgVersion::V18 => {
                args.push("--no-data-checksums".to_owned());
            }
            _ => {}
        }
        if self.fresh {
            template::initdb(self.version, &args, &data_dir);
        } else {
            template::copy(self.version, &args, &data_dir);
        }
        if let Some(waldir) = &self.waldir {
            let pg_wal = data_dir.join("pg_wal");
            let mut command = user::command("mv");
            let done = proc::run(command.arg(&pg_wal).arg(waldir), &[], CLIENT_LIMIT);
            assert_eq!(done.code, 0, "moving pg_wal to {} failed", waldir.display());
            symlink(waldir, &pg_wal).expect("link pg_wal");
            user::chown(&pg_wal);
        }
        self.write_configuration(&data_dir);
        data_dir
    }

    fn write_configuration(&self, data_dir: &Path) {
        let mut text = String::from("\n# holdfast-testkit\n");
        let mut set = |name: &str, value: &str| {
            let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
        };
        for (name, value) in [
            ("fsync", if self.fsync { "on" } else { "off" }),
            ("shared_buffers", "32MB"),
            ("max_connections", "50"),
            ("wal_level", "replica"),
            ("max_wal_senders", "10"),
            ("max_replication_slots", "10"),
            ("jit", "off"),
            ("log_line_prefix", "%m [%p] "),
            ("log_checkpoints", "off"),
        ] {
            set(name, value);
        }
        for (name, value) in &self.settings {
            set(name, value);
        }
        let path = data_dir.join("postgresql.conf");
        let mut file = OpenOptions::new().append(true).open(&path).expect("open postgresql.conf");
        std::io::Write::write_all(&mut file, text.as_bytes()).expect("append to postgresql.conf");
    }
}

fn socket_dir(scratch: &Scratch, name: &str) -> PathBuf {
    let short = scratch.path(format!("{name}.s"));
    if short.as_os_str().len() <= MAX_SOCKET_DIR {
        return scratch.make_dir(format!("{name}.s"));
    }
    // A long TMPDIR: PostgreSQL could not bind a socket there.
    let root = if temp_root().as_os_str().len() < 40 { temp_root() } else { "/tmp".into() };
    let dir = tempfile::Builder::new().prefix("hf-s-").tempdir_in(root).expect("a socket directory");
    user::chown(dir.path());
    dir.keep()
}

impl Cluster {
    /// A cluster called `name` (its directory in the scratch directory) of this version.
    pub fn builder(scratch: &Scratch, name: &str, version: PgVersion) -> ClusterBuilder {
        ClusterBuilder {
            scratch: scratch.clone(),
            name: name.to_owned(),
            version,
            existing: None,
            checksums: None,
            initdb_args: Vec::new(),
            fresh: false,
            waldir: None,
            fsync: false,
            tcp: None,
            settings: Vec::new(),
        }
    }

    /// Starts a server on a restored directory, as it is, with a log and a socket called `name`.
    /// For settings or a start that may fail use [`ClusterBuilder::from_data_dir`].
    pub fn from_data_dir(scratch: &Scratch, name: &str, version: PgVersion, dir: &Path) -> Cluster {
        Cluster::builder(scratch, name, version).from_data_dir(dir).start()
    }

    // ---- running -----------------------------------------------------------------------------

    /// Starts the server and waits until it takes connections; panics when it does not.
    pub fn start(&mut self) {
        self.try_start().unwrap_or_else(|error| panic!("{error}"));
    }

    /// Starts the server. The error is what it logged.
    pub fn try_start(&mut self) -> Result<(), String> {
        assert!(!self.is_running(), "{} runs already", self.data_dir.display());
        for _ in 0..10 {
            let logged_before = self.log().len();
            let Err(error) = self.start_once() else { return Ok(()) };
            let log = self.log();
            let news = log.get(logged_before..).unwrap_or_default();
            let taken = news.contains("Address already in use")
                || news.contains("could not create any TCP/IP sockets")
                || (news.contains("lock file") && news.contains(".s.PGSQL."));
            if !taken {
                return Err(format!("{error}; the server's log:\n{}", tail(news, 40)));
            }
            self.port = proc::free_port();
        }
        Err("no free port in ten attempts".to_owned())
    }

    fn start_once(&mut self) -> Result<(), String> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log_path);
        let log = log.map_err(|error| format!("{}: {error}", self.log_path.display()))?;
        let mut command = user::command(self.version.bin("postgres"));
        command.arg("-D").arg(&self.data_dir);
        let listen = if self.tcp { "127.0.0.1" } else { "" };
        command.arg("-c").arg(format!("port={}", self.port));
        command.arg("-c").arg(format!("listen_addresses={listen}"));
        command.arg("-c");
        command.arg(format!("unix_socket_directories={}", self.socket_dir.display()));
        // The log is where this test looks for it, whatever the restored configuration says.
        command.args(["-c", "logging_collector=off", "-c", "log_destination=stderr"]);
        for (name, value) in &self.options {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let stderr = log.try_clone().map_err(|error| error.to_string())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(stderr)
            .spawn()
            .map_err(|error| format!("cannot start PostgreSQL {}: {error}", self.version))?;
        let watchdog = Watchdog::for_data_dir(&self.data_dir);
        let mut process = Guarded::new(child);
        let pid = process.id().to_string();
        let pid_file = self.data_dir.join("postmaster.pid");
        let mut ended = false;
        let up = proc::wait_until(START_LIMIT, || {
            ended = !process.is_running();
            // Line 8 is the state; the first is checked, since the file may be an old server's.
            let text = fs::read_to_string(&pid_file).unwrap_or_default();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            let ours = lines.first() == Some(&pid.as_str());
            ended || (ours && matches!(lines.get(7), Some(&("ready" | "standby"))))
        });
        if ended || !up {
            process.kill9();
            let how = if ended { "ended" } else { "was not ready in time" };
            return Err(format!("PostgreSQL {} {how} at start", self.version));
        }
        self.server = Some(Server { process, _watchdog: watchdog });
        Ok(())
    }

    /// Stops the server and waits; panics when it does not stop. No error when it is stopped.
    pub fn stop(&mut self, mode: StopMode) {
        let Some(mut server) = self.server.take() else { return };
        proc::signal(
            server.process.id(),
            match mode {
                StopMode::Smart => Signal::TERM,
                StopMode::Fast => Signal::INT,
                StopMode::Immediate => Signal::QUIT,
            },
        );
        let status = proc::wait_child(server.process.child(), STOP_LIMIT);
        assert!(status.is_some(), "no {mode:?} stop in time; log:\n{}", tail(&self.log(), 40));
    }

    /// Kills the server with all its processes, archive command included, as the loss of the host
    /// would.
    pub fn kill9(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.process.kill9();
        }
    }

    /// Stops it fast and starts it again.
    pub fn restart(&mut self) {
        self.stop(StopMode::Fast);
        self.start();
    }

    /// Whether the server process runs.
    pub fn is_running(&mut self) -> bool {
        self.server.as_mut().is_some_and(|server| server.process.is_running())
    }

    /// Waits until the server has ended by itself, as with `recovery_target_action = shutdown`.
    pub fn wait_exit(&mut self, limit: Duration) -> bool {
        let ended = proc::wait_until(limit, || !self.is_running());
        if ended {
            self.server = None;
        }
        ended
    }

    // ---- talking -----------------------------------------------------------------------------

    /// Runs SQL through `psql` and gives its output: unaligned, tuples only, without the last line
    /// end. Each statement is a transaction. Panics with the server's message on an error.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    /// The same; the error is what psql wrote.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut command = self.client("psql");
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-f", "-", "-d", database]);
        let input = format!("{sql}\n");
        let done = proc::run(&mut command, input.as_bytes(), CLIENT_LIMIT);
        if done.code == 0 {
            Ok(String::from_utf8_lossy(&done.stdout).trim_end_matches('\n').to_owned())
        } else {
            Err(String::from_utf8_lossy(&done.stderr).into_owned())
        }
    }

    /// One of the version's programs, run as the server user, with `PGHOST`, `PGPORT`, `PGUSER` and
    /// `PGDATABASE` set for this server.
    pub fn client(&self, program: &str) -> Command {
        let mut command = user::command(self.version.bin(program));
        command
            .env("PGHOST", &self.socket_dir)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres");
        command
    }

    /// Runs such a program to its end and gives what it wrote on stdout; panics when it fails.
    pub fn run_client(&self, program: &str, args: &[&str]) -> String {
        let done = proc::run(self.client(program).args(args), &[], CLIENT_LIMIT);
        let (stdout, stderr) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        // pg_amcheck writes what it finds to stdout.
        assert_eq!(done.code, 0, "{program} {args:?} failed: {stderr}\n{stdout}");
        stdout.into_owned()
    }

    /// libpq keywords for the socket: `host=… port=… user=postgres dbname=postgres`.
    pub fn conninfo(&self) -> String {
        format!("host={} port={} user=postgres dbname=postgres", self.socket_dir.display(), self.port)
    }

    /// The same as a URL: `postgresql:///postgres?host=…&port=…&user=postgres`.
    pub fn url(&self) -> String {
        format!("postgresql:///postgres?host={}&port={}&user=postgres", self.socket_dir.display(), self.port)
    }

    // ---- facts -------------------------------------------------------------------------------

    /// Its version.
    pub fn version(&self) -> PgVersion {
        self.version
    }

    /// Port, of the socket and of TCP. It may change with a start.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The directory of its socket.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// Process id of the postmaster, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(|server| server.process.id())
    }

    /// Everything that the server logged, over all its starts.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log_path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The scratch directory in which it lives.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(server) = self.server.as_mut() {
            proc::signal(server.process.id(), Signal::QUIT);
            // What does not obey is killed by the guard.
            let _ = proc::wait_child(server.process.child(), Duration::from_secs(10));
        }
        if !self.socket_dir.starts_with(self.scratch.dir()) {
            let _ = fs::remove_dir_all(&self.socket_dir);
        }
    }
}

pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
