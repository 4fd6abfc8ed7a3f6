//! `restore`: a point, and the WAL after it, become a data directory.
//!
//! The promise: what comes back is what was backed up, byte for byte, every byte authenticated; the
//! directory cannot be started before it is whole; nothing that exists is written over; and the copy
//! leaves the world alone until someone turns that on.
//!
//! Order: plan and preflight → marker file → files → tablespace links → settings, `recovery.signal`,
//! `backup_label` → everything durable → `pg_control` last, under a temporary name, renamed (trap 18).
//! The restored pg_control names no checkpoint: a copy whose `backup_label` was deleted by a helpful
//! hand refuses to start instead of starting from the wrong place (trap 19).
//!
//! Crash at any step: a directory with the marker and without `pg_control`. Running the same restore
//! again empties it and starts over.

pub mod choose;
pub mod created;
pub mod files;
pub mod plan;
pub mod settings;
pub mod target;

use crate::context::Context;
use crate::error::{EngineError, Result};
use crate::state::{sync_dir, write_atomic};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as B64;
use files::{Owner, Paths, Work, Written, chown, write_all};
use holdfast_core::RunId;
use holdfast_pg::process::Programs;
use holdfast_pgformat::control::ControlFile;
use holdfast_pgformat::path::ALWAYS_EMPTY_DIRS;
use holdfast_pgformat::walname::WalFileName;
use holdfast_vault::ClusterVault;
use holdfast_vault::point::Point;
use holdfast_vault::reader::{PackSet, PointReader};
pub use plan::{MARKER, RestorePlan};
use settings::{TargetAction, restore_command};
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
            program,
        }
    }
}

/// A finished restore.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RestoreReport {
    pub plan: RestorePlan,
    pub files: u64,
    pub bytes: u64,
    pub fetched_bytes: u64,
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
    prepare(&plan, owner)?;
    ctx.monitor.phase("restoring files");
    ctx.monitor.event(holdfast_core::monitor::Event::Total(plan.size_bytes));
    let set = PackSet::new(cluster);
    let reader = PointReader::open(set, &point).await?;
    let places = Places { plan: plan.clone() };
    let written = std::sync::Arc::new(Written::default());
    let work = {
        let (written, monitor) = (written.clone(), ctx.monitor.clone());
        let (block_size, workers) = (point.server.block_size, ctx.workers() + 1);
        let rt = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            let work = Work { reader: &reader, paths: &places, owner, block_size, workers, monitor, rt };
            write_all(&work, &written)
        })
    };
    work.await.map_err(|e| EngineError::Worker(e.to_string()))??;
    ctx.monitor.phase("finishing");
    finish(ctx, o, &plan, &point, owner)?;
    Ok(RestoreReport {
        files: written.files.load(Ordering::Relaxed),
        bytes: written.bytes.load(Ordering::Relaxed),
        fetched_bytes: written.fetched.load(Ordering::Relaxed),
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

/// Makes the target and its marker; empties what an earlier try left.
fn prepare(plan: &RestorePlan, owner: Owner) -> Result<()> {
    if plan.replaces_partial {
        empty(&plan.to)?;
    }
    make_dir(&plan.to, owner)?;
    write_atomic(&plan.to.join(MARKER), format!("restore of {}\n", plan.point).as_bytes(), 0o600)?;
    for t in &plan.tablespaces {
        // A broken-off restore left its tablespaces too; they were empty when it began.
        if plan.replaces_partial && t.to.join(MARKER).is_file() {
            empty(&t.to)?;
        }
        make_dir(&t.to, owner)?;
        write_atomic(&t.to.join(MARKER), format!("restore of {}\n", plan.point).as_bytes(), 0o600)?;
    }
    let links = plan.to.join("pg_tblspc");
    make_dir(&links, owner)?;
    for t in &plan.tablespaces {
        let link = links.join(t.oid.to_string());
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
            // `create_dir_all` on the location itself is fine: it exists.
            return Some(if rest.as_os_str().is_empty() { t.to.clone() } else { t.to.join(rest) });
        }
        Some(if path.as_os_str().is_empty() { self.plan.to.clone() } else { self.plan.to.join(path) })
    }
}

fn put(path: &Path, bytes: &[u8], owner: Owner) -> Result<()> {
    write_atomic(path, bytes, 0o600)?;
    chown(path, owner)
}

/// Everything besides the stored files, and `pg_control` at the very end.
fn finish(ctx: &Context, o: &RestoreOptions, plan: &RestorePlan, point: &Point, owner: Owner) -> Result<()> {
    let to = &plan.to;
    for d in ALWAYS_EMPTY_DIRS {
        make_dir(&to.join(d), owner)?;
    }
    let major = point.server.version_num / 10_000;
    let programs = Programs::find(ctx.db.bin_dir.as_deref(), major).ok();
    configuration(o, ctx, plan, point, programs.as_ref(), owner)?;
    if let Some(dir) = &o.wal_from {
        add_rescued_wal(ctx, dir, &to.join("pg_wal"), owner)?;
    }
    put(&to.join("recovery.signal"), b"", owner)?;
    put(&to.join("backup_label"), point.backup_label.as_bytes(), owner)?;
    // Links are in place; the map would only repeat them, with the source's paths.
    sync_tree(to)?;
    for t in &plan.tablespaces {
        sync_tree(&t.to)?;
    }
    let control = B64.decode(&point.control_file).map_err(|_| {
        EngineError::failed(
            "the point's pg_control is malformed",
            "run `holdfast check`; restore another point",
        )
    })?;
    let control = ControlFile::with_invalid_checkpoint(&control).map_err(|e| {
        EngineError::failed(format!("the point's pg_control cannot be used: {e}"), "restore another point")
    })?;
    let global = to.join("global");
    put(&global.join("pg_control"), &control, owner)?;
    // The markers of the tablespaces go after it: as long as it is there, all of them are needed to repeat.
    for dir in std::iter::once(to).chain(plan.tablespaces.iter().map(|t| &t.to)) {
        std::fs::remove_file(dir.join(MARKER)).map_err(EngineError::io("remove", dir.join(MARKER)))?;
        sync_dir(dir).map_err(EngineError::io("make durable", dir))?;
        // The directory may be new: its own name must last, too.
        if let Some(parent) = dir.parent() {
            let _ = sync_dir(parent);
        }
    }
    Ok(())
}

/// Configuration that lived elsewhere becomes the copy's own, then what a copy is told.
fn configuration(
    o: &RestoreOptions,
    ctx: &Context,
    plan: &RestorePlan,
    point: &Point,
    programs: Option<&Programs>,
    owner: Owner,
) -> Result<()> {
    let to = &plan.to;
    for (name, text) in &point.server.outside_config {
        let path = to.join(name);
        if !path.exists() {
            let own = if name == "postgresql.conf" { strip_places(text) } else { text.clone() };
            put(&path, own.as_bytes(), owner)?;
        }
    }
    if !to.join("postgresql.conf").exists() {
        put(
            &to.join("postgresql.conf"),
            b"# the source's configuration was not readable when it was backed up\n",
            owner,
        )?;
    }
    for name in ["pg_hba.conf", "pg_ident.conf"] {
        if !to.join(name).exists() {
            let text: &[u8] = if name == "pg_hba.conf" { b"local all all peer\n" } else { b"" };
            put(&to.join(name), text, owner)?;
        }
    }
    let command = restore_command(&o.program, &ctx.policy.origin, plan);
    let auto = to.join("postgresql.auto.conf");
    let mut text = match std::fs::read_to_string(&auto) {
        Ok(t) => t,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(EngineError::io("read", &auto)(e)),
    };
    text.push_str(&settings::render(plan, &command, programs));
    if has_in_place_tablespaces(to) {
        // PostgreSQL refuses to recover a directory in pg_tblspc unless it is told that it belongs there.
        text.push_str("allow_in_place_tablespaces = on\n");
    }
    put(&auto, text.as_bytes(), owner)
}

/// Tablespaces that are plain directories in pg_tblspc (a developer's setting), not links.
fn has_in_place_tablespaces(to: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(to.join("pg_tblspc")) else { return false };
    entries.flatten().any(|e| e.file_type().is_ok_and(|t| t.is_dir()))
}

/// Debian's postgresql.conf names its data directory and its neighbours by absolute path: the copy has
/// its own. (Settings that name files elsewhere, such as ssl certificates, stay.)
fn strip_places(text: &str) -> String {
    let places = ["data_directory", "hba_file", "ident_file", "external_pid_file", "include_dir"];
    text.lines()
        .map(|l| {
            let key = l.trim_start().split(|c: char| c == '=' || c.is_whitespace()).next().unwrap_or("");
            if places.contains(&key) { format!("#{l}\n") } else { format!("{l}\n") }
        })
        .collect()
}

/// Takes WAL that never reached an archive. PostgreSQL asks the archive first, then looks here.
fn add_rescued_wal(ctx: &Context, from: &Path, pg_wal: &Path, owner: Owner) -> Result<()> {
    let mut n = 0;
    for e in std::fs::read_dir(from).map_err(EngineError::io("look into", from))?.flatten() {
        let name = e.file_name();
        let Some(kind) = name.to_str().and_then(|s| s.parse::<WalFileName>().ok()) else { continue };
        if matches!(kind, WalFileName::BackupHistory { .. }) {
            continue;
        }
        let bytes = std::fs::read(e.path()).map_err(EngineError::io("read", e.path()))?;
        put(&pg_wal.join(&name), &bytes, owner)?;
        n += 1;
    }
    ctx.monitor.info(format!("added {n} wal files from `{}`", from.display()));
    Ok(())
}

/// Makes every directory below `dir` durable (files were synced one by one).
fn sync_tree(dir: &Path) -> Result<()> {
    for e in std::fs::read_dir(dir).map_err(EngineError::io("look into", dir))?.flatten() {
        if e.file_type().is_ok_and(|t| t.is_dir()) {
            sync_tree(&e.path())?;
        }
    }
    sync_dir(dir).map_err(EngineError::io("make durable", dir))
}
