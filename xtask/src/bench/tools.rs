//! The two programs, each with fresh storage, doing the same jobs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::{Cluster, Holdfast, Scratch, tools, user};
use serde_json::Value;

use super::dataset::{fresh, tree_bytes};
use super::measure::{Measured, measure};

/// Where a backup's time went. Seconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Phases {
    pub checkpoint: f64,
    pub copy: f64,
    pub wal: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Full,
    Incremental,
}

/// A program under measurement, set up for a running cluster.
pub trait Tool {
    fn archive_command(&self) -> String;
    fn storage(&self) -> &Path;
    fn backup(&self, kind: Kind) -> Result<(Measured, Phases)>;
    fn restore(&self, to: &Path) -> Result<Measured>;
    fn push(&self, segment: &Path) -> Result<Measured>;
    fn get(&self, name: &str, to: &Path) -> Result<Measured>;

    fn stored(&self) -> u64 {
        tree_bytes(self.storage())
    }
}

// ---- Holdfast -----------------------------------------------------------------------------------

#[derive(Debug)]
pub struct Ours {
    hf: Holdfast,
    vault: PathBuf,
    data: PathBuf,
    archive_command: String,
}

impl Ours {
    /// A new vault in `dir`, encrypted, with the codec's default setting or a denser one.
    pub fn fresh(scratch: &Scratch, dir: &Path, cluster: &Cluster, dense: Option<&str>) -> Result<Ours> {
        fresh(dir)?;
        let policy = dir.join("holdfast.toml");
        let hf = Holdfast::new(scratch, &policy);
        let vault = dir.join("vault");
        let url = format!("file://{}", vault.display());
        let key = dir.join("key").display().to_string();
        let conninfo =
            format!("host={} port={} user=postgres", cluster.socket_dir().display(), cluster.port());
        let init = hf
            .run(&[
                "--json",
                "init",
                "--name",
                "bench",
                "--conninfo",
                &conninfo,
                "--vault",
                &url,
                "--key-file",
                &key,
                "--yes",
            ])
            .ok()
            .json();
        if let Some(codec) = dense {
            let text = fs::read_to_string(&policy)?;
            let line = text
                .lines()
                .find(|l| l.starts_with("# compression"))
                .context("no `# compression` in the policy")?;
            fs::write(
                &policy,
                text.replace(line, &format!("compression = \"{codec}\"\nframe-size = \"1MiB\"")),
            )?;
        }
        let archive_command =
            init["archive_command"].as_str().context("init gave no archive_command")?.to_owned();
        Ok(Ours { hf, vault, data: cluster.data_dir().into(), archive_command })
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.hf.command(&["--json", "--no-progress"]);
        command.args(args).current_dir(&self.data);
        command
    }

    /// As a copy's restore_command does it.
    pub fn get_ahead(&self, system: &str, name: &str, to: &Path) -> Result<Measured> {
        measure(self.command(&["wal", "get", "--db", "bench", "--cluster", system, name]).arg(to))
    }
}

impl Tool for Ours {
    fn archive_command(&self) -> String {
        self.archive_command.clone()
    }

    fn storage(&self) -> &Path {
        &self.vault
    }

    fn backup(&self, kind: Kind) -> Result<(Measured, Phases)> {
        let kind = if kind == Kind::Full { "--full" } else { "--incremental" };
        let m = measure(&mut self.command(&["backup", "bench", kind]))?;
        let report: Value = serde_json::from_str(&m.stdout)?;
        let number =
            |field: &str| report[field].as_f64().with_context(|| format!("no `{field}` in {report}"));
        let p = Phases {
            checkpoint: number("checkpoint_seconds")?,
            copy: number("copy_seconds")?,
            wal: number("wal_seconds")?,
        };
        Ok((m, p))
    }

    fn restore(&self, to: &Path) -> Result<Measured> {
        measure(self.command(&["restore", "bench", "--to"]).arg(to))
    }

    fn push(&self, segment: &Path) -> Result<Measured> {
        measure(self.command(&["wal", "push", "--db", "bench"]).arg(segment))
    }

    fn get(&self, name: &str, to: &Path) -> Result<Measured> {
        measure(self.command(&["wal", "get", "--db", "bench", "--prefetch", "0", name]).arg(to))
    }
}

// ---- pgBackRest ---------------------------------------------------------------------------------

#[derive(Debug)]
pub struct Peer {
    program: PathBuf,
    config: PathBuf,
    repo: PathBuf,
    data: PathBuf,
}

impl Peer {
    pub fn version() -> Result<String> {
        let program =
            tools::pgbackrest().context("pgBackRest is not installed; run scripts/setup.sh bench")?;
        let out = Command::new(program).arg("version").output()?;
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }

    pub fn fresh(dir: &Path, cluster: &Cluster, cores: usize) -> Result<Peer> {
        let program =
            tools::pgbackrest().context("pgBackRest is not installed; run scripts/setup.sh bench")?;
        fresh(dir)?;
        for sub in ["repo", "log", "lock", "spool"] {
            fresh(&dir.join(sub))?;
        }
        let (at, data) = (dir.display(), cluster.data_dir().to_owned());
        let config = dir.join("pgbackrest.conf");
        fs::write(
            &config,
            format!(
                "[global]\nrepo1-path={at}/repo\nrepo1-bundle=y\nrepo1-block=y\nrepo1-retention-full=9\n\
                 log-path={at}/log\nlock-path={at}/lock\nspool-path={at}/spool\nlog-level-file=off\nlog-level-console=warn\n\
                 compress-type=zst\ncompress-level=3\nprocess-max={cores}\nstart-fast=y\narchive-async=n\n\n\
                 [bench]\npg1-path={}\npg1-port={}\npg1-socket-path={}\npg1-user=postgres\n",
                data.display(),
                cluster.port(),
                cluster.socket_dir().display()
            ),
        )?;
        let peer = Peer { program, config, repo: dir.join("repo"), data };
        measure(&mut peer.command(&["stanza-create"]))?;
        Ok(peer)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = user::command(&self.program);
        command.arg(format!("--config={}", self.config.display())).arg("--stanza=bench").args(args);
        command.current_dir(&self.data);
        command
    }
}

impl Tool for Peer {
    fn archive_command(&self) -> String {
        format!(
            "{} --config={} --stanza=bench archive-push %p",
            self.program.display(),
            self.config.display()
        )
    }

    fn storage(&self) -> &Path {
        &self.repo
    }

    fn backup(&self, kind: Kind) -> Result<(Measured, Phases)> {
        let kind = if kind == Kind::Full { "--type=full" } else { "--type=incr" };
        let m = measure(&mut self.command(&[kind, "--log-level-console=info", "backup"]))?;
        let phases = phases(&m.stdout)
            .with_context(|| format!("what pgBackRest said was not understood:\n{}", m.stdout))?;
        Ok((m, phases))
    }

    fn restore(&self, to: &Path) -> Result<Measured> {
        fresh(to)?;
        let path = format!("--pg1-path={}", to.display());
        measure(&mut self.command(&[&path, "restore"]))
    }

    fn push(&self, segment: &Path) -> Result<Measured> {
        measure(self.command(&["archive-push"]).arg(segment))
    }

    fn get(&self, name: &str, to: &Path) -> Result<Measured> {
        measure(self.command(&["archive-get", name]).arg(to))
    }
}

/// From the times in pgBackRest's log: to the start of the backup, to its stop, to the end of WAL.
fn phases(log: &str) -> Option<Phases> {
    let at = |text: &str| {
        let line = log.lines().find(|l| l.contains(text))?;
        let clock = line.split_whitespace().nth(1)?;
        let mut parts = clock.split(':').map(|p| p.parse::<f64>().ok());
        Some(parts.next()?? * 3600.0 + parts.next()?? * 60.0 + parts.next()??)
    };
    let apart = |a: f64, b: f64| (b - a).rem_euclid(86_400.0);
    let asked = at("backup start: backup begins after")?;
    let started = at("backup start archive =")?;
    let stopping = at("backup stop and wait for all WAL")?;
    let checking = at("check archive for segment")?;
    let done = at("new backup label =")?;
    Some(Phases {
        checkpoint: apart(asked, started),
        copy: apart(started, stopping),
        wal: apart(stopping, checking) + apart(checking, done),
    })
}

// ---- both ---------------------------------------------------------------------------------------

/// Finishes what is being written, and empties the archiver's queue into nothing.
pub fn no_archive(cluster: &Cluster) {
    archive_by(cluster, "/bin/true");
    cluster.wait_archived();
}

pub fn archive_by(cluster: &Cluster, command: &str) {
    let quoted = command.replace('\'', "''");
    cluster
        .sql("postgres", &format!("alter system set archive_command = '{quoted}'; select pg_reload_conf()"));
    // The archiver is told by a signal of its own.
    std::thread::sleep(Duration::from_millis(300));
}

/// A checkpoint, no dirty pages of ours, a moment of rest, and memory that is there.
pub fn settle(cluster: &Cluster, dir: &Path) -> Result<()> {
    cluster.sql("postgres", "checkpoint");
    sync(dir)?;
    std::thread::sleep(Duration::from_secs(3));
    touch_memory();
    Ok(())
}

/// Uses free memory once. A virtual machine with a balloon hands free pages back to its host within
/// seconds, and each costs a fault out of the machine when it is used again: whichever program came
/// after a removed directory paid up to 10 s of processor time for 3 GB of page cache, in turns.
fn touch_memory() {
    let free = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|l| l.strip_prefix("MemFree:"))?;
        line.split_whitespace().next()?.parse::<usize>().ok()
    });
    let wanted = free.map_or(0, |kib| (kib / 2).min(6 << 20)) << 10;
    let mut pages = vec![0u8; wanted];
    for page in pages.chunks_mut(4096) {
        page[0] = 1;
    }
    std::hint::black_box(&pages);
}

pub fn sync(dir: &Path) -> Result<()> {
    let status = Command::new("sync").arg("-f").arg(dir).status()?;
    ensure!(status.success(), "sync -f {}: {status}", dir.display());
    Ok(())
}

/// Drops the page cache; false when this is not allowed.
pub fn drop_caches() -> bool {
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// The data directory without `pg_wal`, copied by `cp`, then one `syncfs`: the cheapest way to have the same bytes
/// durable. (An fsync of each file takes more than twice as long here.)
pub fn plain_copy(from: &Path, to: &Path) -> Result<Measured> {
    fresh(to)?;
    let script = "set -e; cd \"$1\"; for e in *; do [ \"$e\" = pg_wal ] || cp -a --reflink=never -- \"$e\" \"$2\"/; done; \
                  sync -f \"$2\"";
    let mut command = user::command("/bin/sh");
    command.args(["-c", script, "plain"]).arg(from).arg(to);
    measure(&mut command)
}
