//! `verify`: shows that a point restores, and keeps the evidence.
//!
//! | level | what was shown |
//! |---|---|
//! | L0 | it is stored: every object that it names is there, with its length |
//! | L1 | every byte of it authenticates |
//! | L2 | it is complete: maps cover every block, the WAL to its end is there without a gap |
//! | L3 | it was restored to scratch, PostgreSQL started, recovered, and every database accepts a session |
//! | L4 | page checksums hold and amcheck finds nothing in the copy |
//!
//! Levels are climbed one by one; the highest that passed is noted, signed by the operator, beside the
//! point. The copy lives in a scratch directory, listens on a private socket, acts on nothing, and is
//! gone afterwards, also when something failed (a crash leaves it: the next run removes it).

mod content;

use crate::catalog;
use crate::context::Context;
use crate::error::{EngineError, Result};
use crate::restore::target::Target;
use crate::restore::{self, RestoreOptions};
use crate::state::hostname;
use holdfast_core::RunId;
use holdfast_core::policy::VerifyLevel;
use holdfast_pg::connect::Session;
use holdfast_pg::process::{Copy, Programs};
use holdfast_vault::check::{CheckReport, check_point};
use holdfast_vault::point::{Body, Point, Verified};
use holdfast_vault::{ClusterVault, Signer};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// L0 is below what a policy may ask for, so it is not a [`VerifyLevel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    L0,
    L1,
    L2,
    L3,
    L4,
}

impl Level {
    pub fn word(self) -> &'static str {
        match self {
            Level::L0 => "L0",
            Level::L1 => "L1",
            Level::L2 => "L2",
            Level::L3 => "L3",
            Level::L4 => "L4",
        }
    }

    pub fn parse(s: &str) -> Option<Self> {
        [Level::L0, Level::L1, Level::L2, Level::L3, Level::L4]
            .into_iter()
            .find(|l| l.word().eq_ignore_ascii_case(s))
    }
}

impl From<VerifyLevel> for Level {
    fn from(v: VerifyLevel) -> Self {
        match v {
            VerifyLevel::L1 => Level::L1,
            VerifyLevel::L2 => Level::L2,
            VerifyLevel::L3 => Level::L3,
            _ => Level::L4,
        }
    }
}

/// The outcome of one verification.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    pub point: RunId,
    pub vault: String,
    pub wanted: &'static str,
    /// The highest level that passed; null if not even L0 did.
    pub level: Option<&'static str>,
    pub passed: bool,
    pub findings: Vec<String>,
    pub seconds: f64,
    pub restore_seconds: Option<f64>,
    pub databases: Vec<String>,
    /// Whether the outcome could be noted in the vault.
    pub noted: bool,
}

/// Verifies a point (by id), or the newest one of the database.
pub async fn run(ctx: &Context, point: Option<&str>, level: Level, program: &Path) -> Result<VerifyReport> {
    let (vault, cluster, point) = match point {
        Some(id) => catalog::find(ctx, id).await?,
        None => newest(ctx).await?,
    };
    if level > Level::L0 && ctx.policy.vaults.get(&vault).is_some_and(|v| v.is_cold()) {
        return Err(EngineError::refused(
            format!("vault `{vault}` is cold: what it stores cannot be read before it was retrieved"),
            "verify with --level L0 here, which reads none of it, and higher in the vault that it was copied from",
        ));
    }
    let begun = Instant::now();
    // The copy that was asked for is restored from the vault that it is in.
    let ctx = &Context { vault: Some(vault.clone()), ..ctx.clone() };
    let mut v = Run {
        ctx,
        cluster: &cluster,
        point: &point,
        findings: Vec::new(),
        passed: None,
        restore_seconds: None,
        databases: Vec::new(),
    };
    let outcome = v.climb(level, program).await;
    if let Err(e) = outcome {
        // What keeps us from looking is no verdict about the point.
        if !is_verdict(&e) {
            return Err(e);
        }
        v.findings.push(e.to_string());
    }
    let passed = v.passed == Some(level);
    let Run { findings, passed: reached, restore_seconds, databases, .. } = v;
    let mut report = VerifyReport {
        point: point.id.clone(),
        vault,
        wanted: level.word(),
        level: reached.map(Level::word),
        passed,
        findings,
        seconds: begun.elapsed().as_secs_f64(),
        restore_seconds,
        databases,
        noted: false,
    };
    report.noted = note(ctx, &cluster, &report).await?;
    Ok(report)
}

/// Errors that say something about the point; the rest is about this host or the network.
fn is_verdict(e: &EngineError) -> bool {
    use holdfast_vault::VaultError;
    match e {
        EngineError::Vault(VaultError::Damaged { .. } | VaultError::Codec { .. }) => true,
        EngineError::Vault(v) => v.is_not_found(),
        EngineError::Pg(holdfast_pg::PgError::Start(_)) | EngineError::Failed { .. } => true,
        _ => false,
    }
}

async fn newest(ctx: &Context) -> Result<(String, ClusterVault, Point)> {
    let (v, vault) = ctx.open_first_vault().await?;
    let mut best: Option<(ClusterVault, Point)> = None;
    for cluster in ctx.clusters(&vault).await? {
        if let Some(seen) = cluster.survey().await?.points.last() {
            let p = cluster.point(&seen.facts.id).await?;
            best = Some((cluster, p));
        }
    }
    match best {
        Some((c, p)) => Ok((v.name, c, p)),
        None => Err(EngineError::not_found(
            format!("`{}` has no recovery point to verify", ctx.db.name),
            "run `holdfast backup`",
        )),
    }
}

struct Run<'a> {
    ctx: &'a Context,
    cluster: &'a ClusterVault,
    point: &'a Point,
    findings: Vec<String>,
    passed: Option<Level>,
    restore_seconds: Option<f64>,
    databases: Vec<String>,
}

impl Run<'_> {
    async fn climb(&mut self, wanted: Level, program: &Path) -> Result<()> {
        let monitor = self.ctx.monitor.clone();
        monitor.phase("checking what is stored");
        let fast = check_point(self.cluster, self.point, true, &*monitor).await?;
        if !self.accept(fast, Level::L0) || wanted == Level::L0 {
            return Ok(());
        }
        monitor.phase("authenticating every byte");
        let full = check_point(self.cluster, self.point, false, &*monitor).await?;
        // The walk through manifests and maps is part of both, so L2 follows from the same report.
        if !self.accept(full, Level::L1) || wanted == Level::L1 {
            return Ok(());
        }
        self.wal_is_complete().await?;
        self.passed = Some(Level::L2);
        if wanted == Level::L2 {
            return Ok(());
        }
        self.restored(wanted, program).await
    }

    fn accept(&mut self, report: CheckReport, level: Level) -> bool {
        let damage: Vec<String> =
            report.findings.iter().filter(|f| f.damage).map(|f| format!("{}: {}", f.name, f.what)).collect();
        if damage.is_empty() {
            self.passed = Some(level);
            return true;
        }
        self.findings.extend(damage);
        false
    }

    /// R10: every segment from the start to the end of the point.
    async fn wal_is_complete(&self) -> Result<()> {
        let wanted = crate::backup::need::segments(
            self.cluster,
            self.point.timeline,
            self.point.redo_lsn,
            self.point.stop_lsn,
        );
        for s in wanted {
            if !self.point.wal.iter().any(|w| w.name == s) {
                return Err(EngineError::failed(
                    format!("the point does not name segment {s}"),
                    "run a new backup",
                ));
            }
        }
        Ok(())
    }

    /// L3 and L4 on a copy in scratch.
    async fn restored(&mut self, wanted: Level, program: &Path) -> Result<()> {
        let ctx = self.ctx;
        let major = self.point.server.version_num / 10_000;
        let programs = Programs::find(ctx.db.bin_dir.as_deref(), major)?;
        let scratch = Scratch::make(ctx, self.point)?;
        let mut o = RestoreOptions::new(scratch.data(), program.to_path_buf());
        o.target = Target::Immediate;
        o.point = Some(self.point.id.clone());
        for (i, t) in self.point.tablespaces.iter().enumerate() {
            o.tablespace_map.push((PathBuf::from(&t.location), scratch.dir.join(format!("ts{i}"))));
        }
        let begun = Instant::now();
        ctx.monitor.phase("restoring to scratch");
        restore::run(ctx, &o).await?;
        ctx.monitor.phase("starting the copy");
        let owner = holdfast_pg::datadir::owner(&scratch.data())?;
        let settings = [("max_wal_size", "10GB".to_string()), ("fsync", "off".to_string())];
        let mut copy = Copy::start(&programs, &scratch.data(), &scratch.sockets, owner, &settings)?;
        let cancelled = || ctx.monitor.cancelled();
        let user = match self.point.server.superuser.as_str() {
            "" => "postgres",
            name => name,
        };
        copy.wait_ready(user, Duration::from_secs(4 * 3600), cancelled).await?;
        self.restore_seconds = Some(begun.elapsed().as_secs_f64());
        ctx.monitor.phase("connecting to every database");
        let admin = Session::connect_to(&copy.conninfo(user), "template1").await?;
        // -2: a `drop database` that did not finish; nobody can connect (src/include/catalog/pg_database.h).
        let names = admin
            .rows(
                "select datname::text from pg_database where datallowconn and datconnlimit <> -2 order by 1",
                &[],
            )
            .await?;
        for row in names {
            let name: String = row.try_get(0).unwrap_or_default();
            let s = Session::connect_to(&copy.conninfo(user), &name).await?;
            let relations = s.text("select count(*)::text from pg_class").await?;
            ctx.monitor.info(format!("{name}: {relations} relations"));
            self.databases.push(name);
        }
        self.passed = Some(Level::L3);
        if wanted >= Level::L4 {
            content::check(ctx, &copy, user, &self.databases, &mut self.findings).await?;
        }
        drop(admin);
        copy.stop()?;
        if wanted >= Level::L4 {
            content::checksums(&programs, &scratch.data(), owner, self.point, &mut self.findings)?;
            if self.findings.is_empty() {
                self.passed = Some(Level::L4);
            }
        }
        Ok(())
    }
}

/// A directory for a copy, removed when dropped. Leftovers of dead runs go first.
#[derive(Debug)]
struct Scratch {
    dir: PathBuf,
    sockets: PathBuf,
}

impl Scratch {
    fn make(ctx: &Context, point: &Point) -> Result<Self> {
        let base = ctx.state.dir().join("scratch");
        let owner = if rustix::process::geteuid().is_root() {
            crate::users::by_name(&point.server.owner)
        } else {
            None
        };
        let make = |d: &Path| -> Result<()> {
            std::fs::create_dir_all(d).map_err(EngineError::io("make the scratch directory", d))?;
            restore::files::chown(d, owner)
        };
        make(&base)?;
        for e in std::fs::read_dir(&base).map_err(EngineError::io("look into", &base))?.flatten() {
            let name = e.file_name().to_string_lossy().into_owned();
            let dead = name
                .rsplit('-')
                .next()
                .and_then(|p| p.parse::<i32>().ok())
                .and_then(rustix::process::Pid::from_raw)
                .is_some_and(|p| rustix::process::test_kill_process(p).is_err());
            if dead {
                let _ = std::fs::remove_dir_all(e.path());
            }
        }
        let dir = base.join(format!("{}-{}", point.id, std::process::id()));
        make(&dir)?;
        // Socket paths are short (107 bytes), state directories may be deep.
        let sockets = std::env::temp_dir().join(format!(
            "hf-{}-{:06x}",
            std::process::id(),
            rand::random::<u32>() >> 8
        ));
        make(&sockets)?;
        Ok(Scratch { dir, sockets })
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
        let _ = std::fs::remove_dir_all(&self.sockets);
    }
}

/// Notes the outcome beside the point. A host's key cannot, and says so.
async fn note(ctx: &Context, cluster: &ClusterVault, r: &VerifyReport) -> Result<bool> {
    if !cluster.vault().keys().newest()?.is_operator() {
        ctx.monitor.warning("this key may not sign verifications; the outcome is not kept".into());
        return Ok(false);
    }
    let now = jiff::Timestamp::now();
    let v = Verified {
        point: r.point.clone(),
        level: r.level.unwrap_or("none").into(),
        passed: r.passed,
        findings: r.findings.clone(),
        seconds: r.seconds,
        restore_seconds: r.restore_seconds,
        at: now,
        host: hostname(),
        tool: format!("holdfast {}", env!("CARGO_PKG_VERSION")),
    };
    let name = cluster.path().note(&r.point, &RunId::generate(now), "verified");
    cluster.vault().put_record(&name, &Body::Verified(v), Signer::Operator).await?;
    Ok(true)
}
