//! `restore`: a point, and the WAL after it, become a data directory.
//!
//! The promise: what comes back is what was backed up, byte for byte, every byte authenticated; the
//! directory cannot be started before it is whole; nothing that exists is written over unasked; and the copy
//! leaves the world alone until someone turns that on.
//!
//! Order: plan and preflight → marker file → files → tablespace links → settings, `recovery.signal`,
//! `backup_label` → everything durable → `pg_control` last, under a temporary name, renamed (trap 18).
//! The restored pg_control names no checkpoint: a copy whose `backup_label` was deleted by a helpful
//! hand refuses to start instead of starting from the wrong place (trap 19).
//!
//! Crash at any step: a directory with the marker and without `pg_control`. Running the same restore
//! again empties it and starts over.
//!
//! With [`RestoreOptions::delta`] a directory that exists becomes the point instead ([`delta`]); with
//! [`RestoreOptions::standby`] the copy follows a primary instead of ending recovery; with
//! [`RestoreOptions::only_databases`] the others are left out ([`select`]). What is archived in a cold vault is
//! retrieved first, if [`RestoreOptions::retrieve`] says so ([`cold`]).

pub mod choose;
pub mod cold;
mod compare;
pub mod created;
pub mod delta;
mod fetch;
pub mod files;
mod finish;
pub mod plan;
pub mod retrieve;
pub mod select;
pub mod settings;
pub mod surplus;
pub mod target;

use crate::context::Context;
use crate::error::{EngineError, Result};
use crate::state::write_atomic;
use cold::Retrieve;
use delta::DirLock;
use files::{Owner, Paths, Work, Written, chown, write_all};
use finish::finish;
use holdfast_core::RunId;
use holdfast_vault::ClusterVault;
use holdfast_vault::point::Point;
use holdfast_vault::reader::{PackSet, PointReader};
pub use plan::{MARKER, RestorePlan};
use plan::{check_target, is_unfinished_marker};
pub use settings::Standby;
use settings::TargetAction;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;
use target::{Target, TimelineChoice};

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    pub to: PathBuf,
    pub target: Target,
    pub point: Option<RunId>,
    /// Only of this cluster (system identifier), where the database has several.
    pub cluster: Option<String>,
    pub timeline: TimelineChoice,
    pub tablespace_map: Vec<(PathBuf, PathBuf)>,
    pub action: TargetAction,
    /// Stop just before the target instead of just after it.
    pub exclusive: bool,
    /// Settings for the copy, such as another port.
    pub set: Vec<(String, String)>,
    /// WAL that was rescued from a crashed host's pg_wal.
    pub wal_from: Option<PathBuf>,
    /// Over what is there, writing only what differs.
    pub delta: bool,
    /// Only these databases, by name or OID. Empty: all.
    pub only_databases: Vec<String>,
    /// As a replica.
    pub standby: Option<Standby>,
    /// Retrieve what is archived. `None`: a point that is archived is refused.
    pub retrieve: Option<Retrieve>,
    /// The program and policy that the copy's restore_command names.
    pub program: PathBuf,
}

impl RestoreOptions {
    pub fn new(to: PathBuf, program: PathBuf) -> Self {
        RestoreOptions {
            to,
            target: Target::EndOfWal,
            point: None,
            cluster: None,
            timeline: TimelineChoice::Latest,
            tablespace_map: Vec::new(),
            action: TargetAction::Promote,
            exclusive: false,
            set: Vec::new(),
            wal_from: None,
            delta: false,
            only_databases: Vec::new(),
            standby: None,
            retrieve: None,
            program,
        }
    }
}

/// What a restore over a directory did.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct DeltaReport {
    /// Bytes that were there and were compared.
    pub compared_bytes: u64,
    /// Bytes that differed or were missing.
    pub rewritten_bytes: u64,
    pub removed_files: u64,
    pub removed_bytes: u64,
}

/// A finished restore.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RestoreReport {
    pub plan: RestorePlan,
    pub files: u64,
    pub bytes: u64,
    pub fetched_bytes: u64,
    /// The directory was restored over.
    pub delta: Option<DeltaReport>,
    pub seconds: f64,
}

/// Restores by plan. The plan is made (again) here, so that it is never older than the run.
pub async fn run(ctx: &Context, o: &RestoreOptions) -> Result<RestoreReport> {
    let (plan, cluster) = plan::plan(ctx, o).await?;
    execute(ctx, o, plan, cluster).await
}

/// Carries a plan out.
pub async fn execute(
    ctx: &Context,
    o: &RestoreOptions,
    plan: RestorePlan,
    cluster: ClusterVault,
) -> Result<RestoreReport> {
    let begun = Instant::now();
    let point = plan.resolved_point.clone().ok_or(EngineError::Cancelled)?;
    for n in &plan.notes {
        ctx.monitor.info(n.clone());
    }
    let owner = owner_of(&point, &o.to);
    if let Some(user) = owner {
        // The copy's restore_command keeps its spool there.
        ctx.state.give_to(user);
    }
    let _lock = prepare(&plan, &point, owner)?;
    let set = PackSet::new(cluster);
    let digests = set.cluster().digests().clone();
    let reader = PointReader::open(set, &point).await?;
    let mut report = DeltaReport::default();
    if let Some(d) = &plan.delta {
        ctx.monitor.phase("removing what is not in the point");
        let (reader, plan, version) = (reader.clone(), plan.clone(), d.version_dir.clone());
        let rt = tokio::runtime::Handle::current();
        let clear = move || delta::clear(&reader, rt, &plan.to, &plan.tablespaces, &version);
        let seen =
            tokio::task::spawn_blocking(clear).await.map_err(|e| EngineError::Worker(e.to_string()))??;
        (report.removed_files, report.removed_bytes) = (seen.surplus_files, seen.surplus_bytes);
    }
    link_tablespaces(&plan, owner)?;
    ctx.monitor.phase("restoring files");
    ctx.monitor.event(holdfast_core::monitor::Event::Total(plan.size_bytes));
    let places = Places { plan: plan.clone() };
    let written = std::sync::Arc::new(Written::default());
    let work = {
        let (written, monitor) = (written.clone(), ctx.monitor.clone());
        let (block_size, workers) = (point.server.block_size, ctx.workers() + 1);
        let compare = plan.delta.is_some().then_some(digests);
        let rt = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            let selection = places.plan.selection.as_ref();
            let work = Work {
                reader: &reader,
                paths: &places,
                owner,
                block_size,
                workers,
                selection,
                compare,
                monitor,
                rt,
            };
            write_all(&work, &written)
        })
    };
    work.await.map_err(|e| EngineError::Worker(e.to_string()))??;
    ctx.monitor.phase("finishing");
    finish(ctx, o, &plan, &point, owner)?;
    report.compared_bytes = written.compared.load(Ordering::Relaxed);
    report.rewritten_bytes = written.bytes.load(Ordering::Relaxed);
    Ok(RestoreReport {
        files: written.files.load(Ordering::Relaxed),
        bytes: written.bytes.load(Ordering::Relaxed),
        fetched_bytes: written.fetched.load(Ordering::Relaxed),
        delta: plan.delta.is_some().then_some(report),
        seconds: begun.elapsed().as_secs_f64(),
        plan,
    })
}

/// Who the copy belongs to when root restores: the user that the source belonged to, if this host
/// knows it, else the owner of the target. PostgreSQL refuses a directory of root's.
fn owner_of(point: &Point, to: &Path) -> Owner {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let existing = holdfast_pg::datadir::owner(to).ok().filter(|(uid, _)| *uid != 0);
    existing.or_else(|| crate::users::by_name(&point.server.owner))
}

fn make_dir(path: &Path, owner: Owner) -> Result<()> {
    std::fs::create_dir_all(path).map_err(EngineError::io("make the directory", path))?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .map_err(EngineError::io("set the mode of", path))?;
    chown(path, owner)
}

/// Removes everything in a directory but the marker; the directory itself may be a mount point.
fn empty(dir: &Path) -> Result<()> {
    for e in std::fs::read_dir(dir).map_err(EngineError::io("look into", dir))?.flatten() {
        if e.file_name() == MARKER {
            continue;
        }
        let path = e.path();
        let removed = if e.file_type().is_ok_and(|t| t.is_dir()) {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        removed.map_err(EngineError::io("remove", &path))?;
    }
    Ok(())
}

/// Writes the marker into a directory; what a killed restore left of its own is taken away.
fn mark(dir: &Path, text: &str) -> Result<()> {
    for e in std::fs::read_dir(dir).map_err(EngineError::io("look into", dir))?.flatten() {
        if is_unfinished_marker(&e.file_name()) {
            std::fs::remove_file(e.path()).map_err(EngineError::io("remove", e.path()))?;
        }
    }
    write_atomic(&dir.join(MARKER), text.as_bytes(), 0o600)
}

/// Empties a tablespace that a broken-off restore left: a plain one began it empty, a delta found it in
/// use, perhaps beside other things.
fn empty_location(dir: &Path, version_dir: &str) -> Result<()> {
    let marker = std::fs::read_to_string(dir.join(MARKER)).unwrap_or_default();
    if !marker.contains(IN_USE) {
        return empty(dir);
    }
    match std::fs::remove_dir_all(dir.join(version_dir)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(EngineError::io("remove", dir.join(version_dir))(e))
        }
        _ => Ok(()),
    }
}

/// A line of the marker in a tablespace that was not empty when a delta began.
const IN_USE: &str = "was in use";

/// Makes the target and its marker; empties what an earlier try left, or makes sure that what is there
/// cannot be started.
fn prepare(plan: &RestorePlan, point: &Point, owner: Owner) -> Result<DirLock> {
    make_dir(&plan.to, owner)?;
    let lock = DirLock::take(&plan.to)?;
    // Another run may have ended since the plan was made.
    if plan.delta.is_none() && check_target(&plan.to)? {
        empty(&plan.to)?;
    }
    if plan.delta.is_some() {
        delta::refuse_running(&plan.to)?;
    }
    let marker = delta::marker_text(point);
    mark(&plan.to, &marker)?;
    if plan.delta.is_some() {
        delta::begin(&plan.to)?;
    }
    let s = &point.server;
    let version_dir = format!("PG_{}_{}", s.version_num / 10_000, s.catalog_version);
    for t in &plan.tablespaces {
        let at = t.to.join(MARKER);
        let mut text = marker.clone();
        if plan.delta.is_some() {
            let before = std::fs::read_to_string(&at).ok();
            let used = std::fs::read_dir(&t.to)
                .is_ok_and(|d| d.flatten().any(|e| !is_unfinished_marker(&e.file_name())));
            if before.map_or(used, |b| b.contains(IN_USE)) {
                text = format!("{text}{IN_USE}\n");
            }
        } else if plan.replaces_partial && at.is_file() {
            // A broken-off restore left its tablespaces too.
            empty_location(&t.to, &version_dir)?;
        }
        make_dir(&t.to, owner)?;
        mark(&t.to, &text)?;
    }
    Ok(lock)
}

/// Links in pg_tblspc. A delta finds some of them there.
fn link_tablespaces(plan: &RestorePlan, owner: Owner) -> Result<()> {
    let links = plan.to.join("pg_tblspc");
    make_dir(&links, owner)?;
    for t in &plan.tablespaces {
        let link = links.join(t.oid.to_string());
        match std::fs::read_link(&link) {
            Ok(place) if place == t.to => continue,
            Ok(_) => std::fs::remove_file(&link).map_err(EngineError::io("remove", &link))?,
            Err(_) => {}
        }
        std::os::unix::fs::symlink(&t.to, &link).map_err(EngineError::io("make the link", &link))?;
        chown(&link, owner)?;
    }
    Ok(())
}

/// Puts files below the target; tablespaces are reached through their links, which exist already.
struct Places {
    plan: RestorePlan,
}

impl Paths for Places {
    fn place(&self, path: &Path) -> Option<PathBuf> {
        let mut parts = path.iter();
        if parts.next() == Some("pg_tblspc".as_ref())
            && let Some(oid) = parts.next().and_then(|p| p.to_str()).and_then(|p| p.parse::<u32>().ok())
            && let Some(t) = self.plan.tablespaces.iter().find(|t| t.oid == oid)
        {
            let rest: PathBuf = parts.collect();
            // What lies beside the version directory is somebody else's, and a delta found it in use.
            if let Some(d) = &self.plan.delta
                && rest.iter().next().is_some_and(|first| first != d.version_dir.as_str())
            {
                return None;
            }
            // `create_dir_all` on the location itself is fine: it exists.
            return Some(if rest.as_os_str().is_empty() { t.to.clone() } else { t.to.join(rest) });
        }
        Some(if path.as_os_str().is_empty() { self.plan.to.clone() } else { self.plan.to.join(path) })
    }
}
