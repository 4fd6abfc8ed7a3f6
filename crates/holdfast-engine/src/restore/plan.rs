//! What a restore will do, before it does it. Printable as text and as JSON; touches nothing.

use super::cold::{self, Retrieval};
use super::created;
use super::delta::{self, DeltaPlan};
use super::select::{self, Selection};
use super::settings::{TargetAction, preload};
use super::target::{Resolved, ServerTarget, Target, resolve};
use super::{RestoreOptions, Standby};
use crate::context::{Context, open_vault};
use crate::error::{EngineError, Result};
use crate::wal::archive::WalArchive;
use holdfast_core::{ByteSize, DatabaseName, Lsn, RunId, SegmentName, TimelineId};
use holdfast_pg::process::Programs;
use holdfast_vault::PointFacts;
use holdfast_vault::point::Point;
use holdfast_vault::reader::{PackSet, PointReader};
use holdfast_vault::{ClusterVault, Notes};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A directory outside of the data directory, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TablespacePlan {
    pub oid: u32,
    pub from: PathBuf,
    pub to: PathBuf,
}

/// A restore, decided.
#[derive(Debug, Clone, Serialize)]
pub struct RestorePlan {
    pub database: DatabaseName,
    pub vault: String,
    /// The user named it: nothing is fetched from others.
    pub vault_chosen: bool,
    pub cluster: u64,
    pub point: RunId,
    pub point_kind: holdfast_vault::point::PointKind,
    pub point_time: jiff::Timestamp,
    pub point_timeline: TimelineId,
    pub timeline: TimelineId,
    pub server_target: ServerTarget,
    pub exclusive: bool,
    pub action: TargetAction,
    pub to: PathBuf,
    pub tablespaces: Vec<TablespacePlan>,
    pub postgres_version: String,
    pub size_bytes: u64,
    pub free_bytes: Option<u64>,
    pub files: u64,
    pub wal_from: Lsn,
    pub wal_end: Lsn,
    pub wal_end_time: Option<jiff::Timestamp>,
    pub wal_segments: u64,
    /// The segment in which replay starts.
    pub wal_first: SegmentName,
    /// The last segment of them.
    pub wal_last: Option<SegmentName>,
    /// There is a target: WAL beyond `wal_last` is not needed.
    pub bounded: bool,
    /// The directory holds a restore that was broken off: it is emptied first.
    pub replaces_partial: bool,
    /// The directory is restored over: only what differs is written.
    pub delta: Option<DeltaPlan>,
    /// Not all of its databases are restored.
    #[serde(flatten)]
    pub selection: Option<Selection>,
    /// The copy follows a primary instead of ending recovery.
    pub standby: Option<Standby>,
    /// What is archived and has to be retrieved first.
    pub retrieval: Option<Retrieval>,
    pub recovery_settings: BTreeMap<String, String>,
    pub shared_preload_libraries: String,
    pub set: Vec<(String, String)>,
    pub notes: Vec<String>,
    #[serde(skip)]
    pub resolved_point: Option<Box<Point>>,
}

/// The file that marks a restore in progress.
pub const MARKER: &str = ".holdfast-restore-in-progress";

/// Decides everything, and checks everything that can be checked (preflight).
pub async fn plan(ctx: &Context, o: &RestoreOptions) -> Result<(RestorePlan, ClusterVault)> {
    let v = ctx.first_vault()?;
    let vault = open_vault(&v).await?;
    if !vault.keys().can_read() {
        return Err(holdfast_vault::VaultError::KeyRole("read backups").into());
    }
    let (cluster, points) = choose_cluster(ctx, &vault, o).await?;
    let archive = WalArchive::read(&cluster).await?;
    // One that is expired may go while it is read: only if nothing else reaches the target, or it was named.
    let staying = match &o.point {
        Some(_) => points.clone(),
        None => not_expired(&cluster, &points).await?,
    };
    let how = (o.timeline, o.exclusive);
    let r = match resolve(&archive, &staying, &o.target, o.point.as_ref(), how).await {
        Err(EngineError::NotFound { .. }) if staying.len() < points.len() => {
            resolve(&archive, &points, &o.target, o.point.as_ref(), how).await?
        }
        other => other?,
    };
    let p = &r.point;
    let retrieval = match v.is_cold() {
        true => cold::look(&v, &cluster, p, &ctx.policy.prices.s3, o.retrieve.as_ref()).await?,
        false => None,
    };
    let mut notes = r.notes.clone();
    if !p.damaged.is_empty() {
        notes.push(format!(
            "the point has {} damaged pages, which come back as they were stored",
            p.damaged.len()
        ));
    }
    let mut over = if o.delta { delta::look(&o.to, p)? } else { None };
    let emptied = match &over {
        Some(_) => delta::tablespace_links(&o.to)?
            .into_iter()
            .filter(|(oid, _)| !p.tablespaces.iter().any(|t| t.oid == *oid))
            .filter_map(|(_, place)| place)
            .collect(),
        None => Vec::new(),
    };
    notes.extend(check_created(&r, &emptied)?);
    if matches!(o.target, Target::EndOfWal) {
        check_end(&archive, &r)?;
    }
    let note_of = Notes::of_point(&cluster, &r.point.id).await?;
    if note_of.expired(jiff::Timestamp::now()).is_some() {
        notes.push(
            "the point is expired: a sweep may remove it while it is read; `holdfast hold` keeps it".into(),
        );
    }
    let replaces_partial = over.is_none() && check_target(&o.to)?;
    let tablespaces = tablespaces(p, o)?;
    for t in &tablespaces {
        if over.is_some() {
            delta::check_location(&o.to, t)?;
            continue;
        }
        // One that the broken-off restore had begun is emptied with the rest.
        if replaces_partial && t.to.join(MARKER).is_file() {
            continue;
        }
        check_empty(&t.to, "tablespace location", "--tablespace-map OLD=NEW puts it elsewhere")?;
    }
    if let Some(d) = over.take() {
        delta::refuse_shared(&o.to, &tablespaces, p)?;
        check_wal_from(o)?;
        let reader = PointReader::open(PackSet::new(cluster.clone()), p).await?;
        let d = delta::count(d, reader, &o.to, &tablespaces).await?;
        notes.extend(d.notes(&o.to, &tablespaces)?);
        over = Some(d);
    }
    let selection = match o.only_databases.is_empty() {
        true => None,
        false => {
            let copies = created::copies_in_replay(&archive, &r.wal, r.until).await?;
            let reader = PointReader::open(PackSet::new(cluster.clone()), p).await?;
            Some(select::choose(p, &reader, &o.only_databases, &copies).await?)
        }
    };
    let size_bytes = p.size_bytes - selection.as_ref().map_or(0, Selection::left_out_bytes).min(p.size_bytes);
    let free = free_bytes(&o.to);
    // What is there is written over.
    let reused = over.as_ref().map_or(0, |d| d.seen.bytes);
    if let Some(free) = free
        && free + reused < size_bytes + (64 << 20)
    {
        return Err(EngineError::refused(
            format!(
                "`{}` has {} free, and the restore needs {}",
                o.to.display(),
                ByteSize(free),
                ByteSize(size_bytes)
            ),
            "make room, or restore somewhere else",
        ));
    }
    let major = p.server.version_num / 10_000;
    let programs = Programs::find(ctx.db.bin_dir.as_deref(), major);
    if let Err(e) = &programs {
        notes.push(format!("{e}; the files can be restored, but not started here"));
    }
    let (_, dropped) = preload(&p.server.shared_preload_libraries, programs.as_ref().ok());
    if !dropped.is_empty() {
        notes.push(format!("not preloaded in the copy: {}", dropped.join(", ")));
    }
    if o.standby.is_some() {
        notes.push("the copy becomes a standby: it goes on after what is archived".into());
    } else if matches!(o.target, Target::EndOfWal) {
        notes.push("everything archived is recovered".into());
    }
    let plan = RestorePlan {
        database: ctx.db.name.clone(),
        vault: v.name.clone(),
        vault_chosen: ctx.vault.is_some(),
        cluster: cluster.record().system_identifier,
        point: p.id.clone(),
        point_kind: p.kind,
        point_time: p.stop_time,
        point_timeline: p.timeline,
        timeline: r.timeline,
        server_target: r.server.clone(),
        exclusive: o.exclusive,
        action: o.action,
        to: o.to.clone(),
        tablespaces,
        postgres_version: format!("{}.{}", major, p.server.version_num % 10_000),
        size_bytes,
        free_bytes: free,
        files: p.files,
        wal_from: p.redo_lsn,
        wal_end: r.wal_end,
        wal_end_time: r.wal_end_time,
        wal_segments: r.wal.len() as u64,
        wal_first: first_segment(p),
        wal_last: r.wal.last().copied(),
        bounded: !matches!(o.target, Target::EndOfWal),
        replaces_partial,
        delta: over,
        selection,
        standby: o.standby.clone(),
        retrieval,
        recovery_settings: p.server.recovery_settings.clone(),
        shared_preload_libraries: p.server.shared_preload_libraries.clone(),
        set: o.set.clone(),
        notes,
        resolved_point: Some(Box::new(r.point)),
    };
    Ok((plan, cluster))
}

fn first_segment(p: &Point) -> SegmentName {
    SegmentName::at(p.timeline, p.redo_lsn, p.server.wal_segment_size)
}

async fn not_expired(cluster: &ClusterVault, points: &[PointFacts]) -> Result<Vec<PointFacts>> {
    let mut listed = cluster.store().list(&cluster.path().notes()).await?;
    if !listed.iter().any(|l| l.name.ends_with(".expired")) {
        return Ok(points.to_vec());
    }
    listed.retain(|l| !l.name.ends_with(".verified"));
    let notes = Notes::open(cluster, listed).await?;
    let now = jiff::Timestamp::now();
    let stays = |p: &&PointFacts| notes.get(&p.id).is_none_or(|n| n.expired(now).is_none());
    Ok(points.iter().filter(stays).cloned().collect())
}

/// The newest cluster that has points, or the one that has the point that was named.
async fn choose_cluster(
    ctx: &Context,
    vault: &holdfast_vault::Vault,
    o: &RestoreOptions,
) -> Result<(ClusterVault, Vec<PointFacts>)> {
    let mut found = None;
    for cluster in ctx.clusters(vault).await? {
        if o.cluster.as_ref().is_some_and(|c| cluster.path().cluster.to_string() != *c) {
            continue;
        }
        let survey = cluster.survey().await?;
        let points: Vec<PointFacts> = survey.points.into_iter().map(|s| s.facts).collect();
        for e in survey.damaged {
            ctx.monitor.warning(e.to_string());
        }
        let fits = match &o.point {
            Some(id) => points.iter().any(|p| p.is_called(id)),
            None => !points.is_empty(),
        };
        if fits {
            found = Some((cluster, points));
        }
    }
    found.ok_or_else(|| match &o.point {
        Some(id) => EngineError::not_found(format!("there is no point {id}"), "see `holdfast list`"),
        None => EngineError::not_found(
            format!("the vault has no recovery point of `{}`", ctx.db.name),
            "run `holdfast backup`, or choose another vault with --vault",
        ),
    })
}

/// The target must be empty or not there; true if it holds a restore that was broken off.
pub(super) fn check_target(to: &Path) -> Result<bool> {
    // Broken off at its very last step it is whole, and could have been used: then it is somebody's.
    if to.join(MARKER).is_file() && !to.join("global/pg_control").exists() {
        return Ok(true);
    }
    check_empty(to, "target", "choose an empty directory; only --delta writes over one")?;
    Ok(false)
}

/// pg_wal is emptied: rescued WAL has to be somewhere else by then.
fn check_wal_from(o: &RestoreOptions) -> Result<()> {
    let Some(from) = o.wal_from.as_ref().and_then(|f| f.canonicalize().ok()) else { return Ok(()) };
    let inside = |p: PathBuf| p.canonicalize().is_ok_and(|p| from.starts_with(p));
    if inside(o.to.clone()) || inside(o.to.join("pg_wal")) {
        return Err(EngineError::usage(
            format!("--wal-from `{}` lies in the directory that is restored over", from.display()),
            "copy it to another place first, and name that",
        ));
    }
    Ok(())
}

/// A marker that a killed restore had not renamed yet: all that it left, and no reason to refuse.
pub(super) fn is_unfinished_marker(name: &std::ffi::OsStr) -> bool {
    name.to_str().and_then(|n| n.strip_prefix(MARKER)).is_some_and(|rest| rest.starts_with(".tmp-"))
}

fn check_empty(dir: &Path, what: &str, hint: &str) -> Result<()> {
    match std::fs::read_dir(dir) {
        Ok(entries) => {
            if entries.flatten().any(|e| !is_unfinished_marker(&e.file_name())) {
                let running = dir.join("postmaster.pid").exists();
                let extra = if running { ", and a server may be running on it" } else { "" };
                return Err(EngineError::refused(
                    format!("the {what} `{}` is not empty{extra}", dir.display()),
                    hint,
                ));
            }
            Ok(())
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(EngineError::io("look into", dir)(e)),
    }
}

fn tablespaces(p: &Point, o: &RestoreOptions) -> Result<Vec<TablespacePlan>> {
    let mut out: Vec<TablespacePlan> = Vec::new();
    for t in &p.tablespaces {
        let from = PathBuf::from(&t.location);
        let to = o
            .tablespace_map
            .iter()
            .find(|(old, _)| *old == from)
            .map_or_else(|| default_place(p, o, &from), |(_, new)| new.clone());
        if !to.is_absolute() {
            return Err(EngineError::usage(
                format!("`{}` is not an absolute path", to.display()),
                "--tablespace-map OLD=NEW",
            ));
        }
        let taken = out.iter().any(|t| t.to.starts_with(&to) || to.starts_with(&t.to));
        if taken || o.to.starts_with(&to) {
            return Err(EngineError::usage(
                format!("`{}` is to hold a tablespace and something else as well", to.display()),
                "give each tablespace a directory of its own: --tablespace-map OLD=NEW",
            ));
        }
        out.push(TablespacePlan { oid: t.oid, from, to });
    }
    for (old, _) in &o.tablespace_map {
        if !out.iter().any(|t| &t.from == old) {
            let known: Vec<String> = out.iter().map(|t| t.from.display().to_string()).collect();
            return Err(EngineError::usage(
                format!("the point has no tablespace at `{}`", old.display()),
                format!("it has: {}", known.join(", ")),
            ));
        }
    }
    Ok(out)
}

/// Where a tablespace goes by itself: to its old place, or, if that was inside of the data directory, to
/// the same place inside of the copy.
fn default_place(p: &Point, o: &RestoreOptions, from: &Path) -> PathBuf {
    match from.strip_prefix(&p.server.data_directory) {
        Ok(inside) => o.to.join(inside),
        Err(_) => from.to_path_buf(),
    }
}

/// Replay of `CREATE TABLESPACE` links the path that the source gave, no map reaches it. On the source's
/// own host the copy would write into the original's files: refused before anything is written.
/// A place of the directory that is restored over is `emptied` first.
fn check_created(r: &Resolved, emptied: &[PathBuf]) -> Result<Vec<String>> {
    let s = &r.point.server;
    let version = format!("PG_{}_{}", s.version_num / 10_000, s.catalog_version);
    let mut notes = Vec::new();
    for t in &r.created_tablespaces {
        let at = t.path.display();
        let before = format!("restore to before it with `--lsn {} --exclusive`", t.lsn);
        let goes = t.path.canonicalize().is_ok_and(|p| emptied.contains(&p));
        if t.path.join(&version).exists() && !goes {
            return Err(EngineError::refused(
                format!(
                    "recovery creates a tablespace at `{at}` (position {}), which is in use on this host: \
                     the copy would write into it",
                    t.lsn
                ),
                format!("{before}, or restore on another host"),
            ));
        }
        if !t.path.is_dir() {
            return Err(EngineError::refused(
                format!("recovery creates a tablespace at `{at}`, and there is no such directory"),
                format!("make it, empty and owned by the server's user, or {before}"),
            ));
        }
        notes.push(format!("recovery creates a tablespace at `{at}`, as on the source"));
    }
    Ok(notes)
}

/// Without a target the server would stop where WAL is missing, though later WAL is there. A point of which
/// a sweep kept only its own segments is like that, and a point before a gap.
fn check_end(archive: &WalArchive, r: &Resolved) -> Result<()> {
    let Some(last) = r.wal.last() else { return Ok(()) };
    let reached = last.number(archive.segment_size());
    let later = archive.segments.get(&r.timeline).and_then(|s| s.range(reached + 1..).next());
    match later {
        None => Ok(()),
        Some(later) => Err(EngineError::refused(
            format!(
                "point {} cannot be recovered to the end of the wal: what follows {last} is missing, up to {}",
                r.point.id,
                SegmentName::new(r.timeline, *later, archive.segment_size())
            ),
            "--immediate restores the point itself; --at and --lsn reach what lies before the gap",
        )),
    }
}

/// Free bytes for this user where `path` is or will be.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let mut p = path;
    loop {
        if p.exists() {
            let s = rustix::fs::statvfs(p).ok()?;
            return Some(s.f_bavail * s.f_frsize);
        }
        p = p.parent()?;
    }
}
