//! `listing`: `list`, `wal status`, `expire` and `doctor` over the history of years.
//!
//! A cluster of its own, whose log begins at segment 2,097,153; `examples/crowd.rs` of the vault puts
//! 10,000 points and 1,000,000 names of segments before it. All of them stay by the policy, and one sweep
//! has written the indexes. There is no peer to compare with: the target is absolute.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::{Cluster, PgVersion, Scratch, StopMode, user};

use super::dataset::{self, remove};
use super::measure::{measure, measure_any};
use super::tools::{Kind, Ours, Tool, archive_by};
use super::{Results, repository};

pub const POINTS: u64 = 10_000;
pub const SEGMENTS: u64 = 1_000_000;
/// What is measured.
pub const JOBS: [&str; 4] = ["list", "wal status", "expire", "doctor"];

pub fn run(results: &mut Results, scratch: &Scratch, rounds: usize) -> Result<()> {
    let version = dataset::version()?;
    let dir = dataset::root()?.join("listing");
    remove(&dir)?;
    let cluster = far_on(scratch, version)?;
    let ours = Ours::fresh(scratch, &dir, &cluster, None)?;
    let policy = dir.join("holdfast.toml");
    let text = fs::read_to_string(&policy)?;
    let kept =
        text.replace("keep = \"30d\"", "keep = \"900d\"").replace("window = \"30d\"", "window = \"900d\"");
    ensure!(kept.matches("900d").count() == 2, "`holdfast init` writes other rules than it did");
    fs::write(&policy, kept)?;
    archive_by(&cluster, &ours.archive_command());
    cluster.wait_archived();
    ours.backup(Kind::Full)?;
    println!("{POINTS} points, {SEGMENTS} segments");
    let crowd = ["run", "--quiet", "--release", "-p", "holdfast-vault", "--example", "crowd", "--"];
    let made = Command::new(env!("CARGO"))
        .current_dir(repository())
        .args(crowd)
        .args([ours.storage(), &dir.join("key")])
        .args(["bench", &POINTS.to_string(), &SEGMENTS.to_string()])
        .status()
        .context("start cargo")?;
    ensure!(made.success(), "examples/crowd: {made}");
    user::chown_tree(&dir);
    let m = measure(&mut ours.command(&["sweep", "bench"]))?;
    println!("  the sweep that writes the indexes: {:.1} s", m.wall);
    for _ in 0..rounds {
        for job in JOBS {
            let mut args: Vec<&str> = job.split(' ').collect();
            args.push("bench");
            // doctor finds something to say about a server without load; its exit status tells so.
            let m = measure_any(&mut ours.command(&args))?;
            ensure!(!m.stdout.is_empty(), "{job} said nothing");
            results.add_run("listing", job, &m);
        }
    }
    archive_by(&cluster, "/bin/true");
    drop(cluster);
    remove(&dir)
}

/// A server with room before its log.
fn far_on(scratch: &Scratch, version: PgVersion) -> Result<Cluster> {
    let mut cluster = Cluster::builder(scratch, "listing", version).setting("archive_mode", "on").start();
    cluster.stop(StopMode::Fast);
    let data = cluster.data_dir().to_owned();
    let mut reset = cluster.client("pg_resetwal");
    let out = reset.args(["-l", "000000010000200000000001", "-D"]).arg(&data).output()?;
    ensure!(out.status.success(), "pg_resetwal: {}", String::from_utf8_lossy(&out.stderr));
    cluster.start();
    Ok(cluster)
}
