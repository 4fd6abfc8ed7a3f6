//! Server programs, and a server on a restored copy: [`Programs`], [`Copy`].
//!
//! PostgreSQL refuses to run as root: children drop to the owner of the data directory. A copy
//! listens on a private socket only and never acts on the world (no archiving, no workers).

use crate::connect::Session;
use crate::error::{PgError, Result};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where `postgres`, `initdb` … of one major version are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    bin: PathBuf,
}

impl Programs {
    /// From `bin-dir` of the policy, else where Debian and the PGDG packages put them, else PATH.
    pub fn find(bin_dir: Option<&Path>, major: u32) -> Result<Self> {
        let mut places: Vec<PathBuf> = bin_dir.map(Path::to_path_buf).into_iter().collect();
        if bin_dir.is_none() {
            places.push(PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")));
            places.push(PathBuf::from(format!("/usr/pgsql-{major}/bin")));
            if let Some(path) = std::env::var_os("PATH") {
                places.extend(std::env::split_paths(&path));
            }
        }
        for bin in places {
            if bin.join("postgres").is_file() && Self::major_of(&bin) == Some(major) {
                return Ok(Programs { bin });
            }
        }
        Err(PgError::Refused {
            what: format!("the server programs of postgresql {major} were not found"),
            hint: "install them here, or set `bin-dir` of the database in the policy".into(),
        })
    }

    fn major_of(bin: &Path) -> Option<u32> {
        let out = Command::new(bin.join("postgres")).arg("-V").output().ok()?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let word = text.split_whitespace().find(|w| w.starts_with(|c: char| c.is_ascii_digit()))?;
        word.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }

    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// A command that runs as `owner` if we are root.
    pub fn command(&self, program: &str, owner: (u32, u32)) -> Command {
        let mut c = Command::new(self.bin.join(program));
        drop_to(&mut c, owner);
        c
    }
}

/// Makes `c` run as `owner` when this process is root.
pub fn drop_to(c: &mut Command, (uid, gid): (u32, u32)) {
    if rustix::process::geteuid().is_root() && uid != 0 {
        c.uid(uid).gid(gid);
    }
}

/// A server running on a restored data directory. Dropped = stopped at once.
#[derive(Debug)]
pub struct Copy {
    child: Child,
    data_dir: PathBuf,
    socket_dir: PathBuf,
    log: PathBuf,
}

/// The port only names the socket file; nothing listens on it.
const PORT: u16 = 5432;

impl Copy {
    /// Starts a server on `data_dir`; `socket_dir` must be writable by `owner` and its path short
    /// (107 bytes for a socket, `UNIXSOCK_PATH_BUFLEN`).
    pub fn start(
        programs: &Programs,
        data_dir: &Path,
        socket_dir: &Path,
        owner: (u32, u32),
        settings: &[(&str, String)],
    ) -> Result<Self> {
        let log = socket_dir.join("server.log");
        let out = std::fs::File::create(&log).map_err(PgError::io("write", &log))?;
        let err = out.try_clone().map_err(PgError::io("write", &log))?;
        let mut c = programs.command("postgres", owner);
        c.arg("-D").arg(data_dir);
        let sockets = socket_dir.display().to_string();
        let fixed = [
            ("listen_addresses", String::new()),
            ("unix_socket_directories", sockets),
            ("port", PORT.to_string()),
            ("logging_collector", "off".into()),
            ("log_destination", "stderr".into()),
            ("archive_mode", "off".into()),
            ("ssl", "off".into()),
            ("hba_file", socket_dir.join("pg_hba.conf").display().to_string()),
        ];
        let hba = socket_dir.join("pg_hba.conf");
        std::fs::write(&hba, "local all all trust\n").map_err(PgError::io("write", &hba))?;
        for (k, v) in fixed.iter().map(|(k, v)| (*k, v)).chain(settings.iter().map(|(k, v)| (*k, v))) {
            c.arg("-c").arg(format!("{k}={v}"));
        }
        c.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        c.env_remove("PGDATA").env("LC_ALL", "C");
        let child = c.spawn().map_err(PgError::io("run", programs.bin().join("postgres")))?;
        Ok(Copy { child, data_dir: data_dir.into(), socket_dir: socket_dir.into(), log })
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Lines of the log that say why it failed.
    fn reason(&self) -> String {
        let log = self.log_text();
        let bad: Vec<&str> = log
            .lines()
            .filter(|l| ["FATAL", "PANIC", "ERROR", "HINT", "DETAIL"].iter().any(|w| l.contains(w)))
            .collect();
        let lines = if bad.is_empty() { log.lines().collect() } else { bad };
        lines.iter().rev().take(6).rev().copied().collect::<Vec<_>>().join("\n")
    }

    pub fn conninfo(&self, user: &str) -> String {
        format!("host={} port={PORT} user={user}", self.socket_dir.display())
    }

    /// Waits until the server has left recovery (or is consistent, if it pauses at its target) and
    /// accepts sessions.
    pub async fn wait_ready(
        &mut self,
        user: &str,
        limit: Duration,
        cancelled: impl Fn() -> bool,
    ) -> Result<Session> {
        let begin = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(PgError::Start(format!("{status}\n{}", self.reason())));
            }
            if let Ok(s) = Session::connect_to(&self.conninfo(user), "template1").await {
                let done = s
                    .text(
                        "select case when not pg_is_in_recovery() or pg_get_wal_replay_pause_state() = 'paused' \
                         then 'yes' else 'no' end",
                    )
                    .await;
                if done.is_ok_and(|d| d == "yes") {
                    return Ok(s);
                }
            }
            if cancelled() {
                return Err(PgError::Lost("cancelled".into()));
            }
            if begin.elapsed() > limit {
                return Err(PgError::Start(format!(
                    "not ready after {} s\n{}",
                    limit.as_secs(),
                    self.reason()
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops it with a fast shutdown, or at once if that takes too long.
    pub fn stop(mut self) -> Result<()> {
        self.signal(rustix::process::Signal::INT);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(60) {
            if let Ok(Some(_)) = self.child.try_wait() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn signal(&self, s: rustix::process::Signal) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, s);
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        self.signal(rustix::process::Signal::QUIT);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(self.data_dir.join("postmaster.pid"));
    }
}
