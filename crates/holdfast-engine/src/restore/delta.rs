//! `restore --delta`: a directory that exists becomes the point, and only what differs is written.
//!
//! Decided by [`look`], before anything is touched: the directory belongs to the cluster (its
//! `pg_control` says so) or is what a restore left; no server runs on it, and no other data directory
//! of this host shares a place with it. [`begin`] takes `pg_control` away, [`clear`] removes what the
//! point does not have; then `restore::files` compares block by block.
//!
//! Order: marker → `pg_control` away, durable → surplus removed → blocks compared and rewritten in
//! place, every file made durable → the end of a plain restore, `pg_control` last.
//!
//! Crash at any step: before `pg_control` is away, nothing but the marker has changed. After it, a
//! directory with the marker that no server starts on; the same command goes on from there, and finds
//! what was already written to be equal. A plain restore empties it, as any broken-off one.
//!
//! Equal means equal content: the keyed fingerprint of the block as it is on disk now against the one
//! that the vault holds, never a time, a size or a page LSN. The same test decides what an incremental
//! backup stores. Two different blocks pass for one with probability 2^-55 (`holdfast_vault::digest`),
//! so for a terabyte of *differing* 8 KiB pages the chance that one is missed is 2^-28. Every file is
//! fsynced, changed or not: what was found equal may only have been equal in memory.

use super::plan::{MARKER, TablespacePlan, is_unfinished_marker};
use super::surplus::{self, Seen, Surplus};
use crate::error::{EngineError, Result};
use crate::state::sync_dir;
use holdfast_core::{Lsn, TimelineId};
use holdfast_pg::datadir::read_control;
use holdfast_pgformat::control::DbState;
use holdfast_vault::point::Point;
use holdfast_vault::reader::PointReader;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What is in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// A data directory of the same cluster.
    Cluster,
    /// What a restore that was broken off left.
    Partial,
}

/// A directory that can be restored over.
#[derive(Debug, Clone, Serialize)]
pub struct DeltaPlan {
    pub found: Found,
    /// Of its pg_control: state, timeline, last checkpoint.
    pub state: Option<String>,
    pub timeline: Option<TimelineId>,
    pub checkpoint: Option<Lsn>,
    /// What is there, and what of it is not in the point.
    #[serde(flatten)]
    pub seen: Seen,
    /// Names at the top of the directory that go, the first of them.
    pub surplus_names: Vec<String>,
    /// Finished WAL segments that were not archived; they go with pg_wal.
    pub unarchived_segments: u64,
    /// Directory of this version in a tablespace.
    #[serde(skip)]
    pub version_dir: String,
}

/// The file that `pg_control` becomes for a moment, until it is certain that no server came first.
const CONTROL_ASIDE: &str = "pg_control.holdfast-aside";

/// What the marker says.
pub fn marker_text(p: &Point) -> String {
    format!("restore of {}\ncluster {}\n", p.id, p.server.system_identifier)
}

/// Judges the target. `None`: there is nothing in it, and the restore is a plain one.
pub fn look(to: &Path, p: &Point) -> Result<Option<DeltaPlan>> {
    match std::fs::read_dir(to) {
        Ok(mut entries) => {
            if entries.next().is_none() {
                return Ok(None);
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(EngineError::io("look into", to)(e)),
    }
    let wanted = p.server.system_identifier;
    let there = || to.join("global/pg_control").exists();
    let control = match there().then(|| read_control(to)) {
        None => None,
        Some(Ok((_, control))) => Some(control),
        // A restore that began meanwhile put it aside; its marker was there before, and is read after.
        Some(Err(_)) if !there() => None,
        Some(Err(e)) => return Err(not_a_cluster(to, &e.to_string())),
    };
    let marker = std::fs::read_to_string(to.join(MARKER)).ok();
    let marked: Option<u64> = marker
        .as_deref()
        .and_then(|m| m.lines().find_map(|l| l.strip_prefix("cluster ")))
        .and_then(|c| c.parse().ok());
    let identifier = control.as_ref().map(|c| c.system_identifier).or(marked);
    let found = match (&control, &marker) {
        (Some(_), _) if to.join("PG_VERSION").exists() || marker.is_some() => Found::Cluster,
        (None, Some(_)) => Found::Partial,
        _ => return Err(not_a_cluster(to, "it has no global/pg_control and PG_VERSION")),
    };
    if let Some(id) = identifier.filter(|id| *id != wanted) {
        return Err(EngineError::refused(
            format!("`{}` belongs to another cluster: {id}, and the point is of {wanted}", to.display()),
            "choose the right directory, or empty it yourself",
        ));
    }
    refuse_running(to)?;
    Ok(Some(DeltaPlan {
        found,
        state: control.as_ref().map(|c| word(c.state).to_string()),
        timeline: control.as_ref().map(|c| c.checkpoint_copy.timeline),
        checkpoint: control.as_ref().map(|c| c.checkpoint),
        seen: Seen::default(),
        surplus_names: Vec::new(),
        unarchived_segments: unarchived(to),
        version_dir: format!("PG_{}_{}", p.server.version_num / 10_000, p.server.catalog_version),
    }))
}

/// As pg_controldata says it.
fn word(state: DbState) -> &'static str {
    match state {
        DbState::Startup => "starting up",
        DbState::ShutDown => "shut down",
        DbState::ShutDownInRecovery => "shut down in recovery",
        DbState::ShuttingDown => "shutting down",
        DbState::InCrashRecovery => "in crash recovery",
        DbState::InArchiveRecovery => "in archive recovery",
        DbState::InProduction => "in production",
    }
}

impl DeltaPlan {
    /// What someone should know beforehand.
    pub fn notes(&self, to: &Path, tablespaces: &[TablespacePlan]) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        if self.unarchived_segments > 0 {
            notes.push(format!(
                "{} wal files of `{}` were not archived and will be lost: push them, or copy pg_wal elsewhere and \
                 give --wal-from",
                self.unarchived_segments,
                to.join("pg_wal").display()
            ));
        }
        for (oid, place) in tablespace_links(to)? {
            let Some(place) = place else { continue };
            match tablespaces.iter().find(|t| t.oid == oid) {
                Some(t) if t.to.canonicalize().ok().as_ref() == Some(&place) => {}
                Some(_) => {
                    notes.push(format!("the tablespace at `{}` is left there, unused", place.display()))
                }
                None if place.join(&self.version_dir).exists() => notes.push(format!(
                    "the tablespace at `{}` is not in the point: its files will be removed",
                    place.display()
                )),
                None => {}
            }
        }
        Ok(notes)
    }
}

fn not_a_cluster(to: &Path, why: &str) -> EngineError {
    EngineError::refused(
        format!("`{}` is neither empty nor a postgresql data directory: {why}", to.display()),
        "--delta restores over a stopped data directory of the same cluster, or over what a restore left",
    )
}

/// Segments that the archiver had still to take.
fn unarchived(to: &Path) -> u64 {
    let entries = std::fs::read_dir(to.join("pg_wal/archive_status"));
    let ready = |e: std::fs::DirEntry| e.path().extension().is_some_and(|x| x == "ready");
    entries.map_or(0, |d| d.flatten().map(ready).filter(|r| *r).count() as u64)
}

/// A server on the directory: by its lock file, or by a process that works in it (its lock file may be
/// gone, and children outlive a killed parent).
pub fn refuse_running(to: &Path) -> Result<()> {
    let refuse = |pid: i32| {
        EngineError::refused(
            format!("a server may be running on `{}`: process {pid}", to.display()),
            "stop it with `pg_ctl stop`; if that process is no server, remove postmaster.pid",
        )
    };
    let lock = std::fs::read_to_string(to.join("postmaster.pid")).unwrap_or_default();
    // A single-user server writes its number negative.
    let pid = lock.lines().next().and_then(|l| l.trim().parse::<i32>().ok()).map_or(0, i32::abs);
    // In a container numbers repeat: this process and its parent are no servers (`CreateLockFile`,
    // src/backend/utils/init/miscinit.c, judges alike).
    let own = [Some(rustix::process::getpid()), rustix::process::getppid()];
    if let Some(p) = rustix::process::Pid::from_raw(pid).filter(|p| !own.contains(&Some(*p)))
        && rustix::process::test_kill_process(p) != Err(rustix::io::Errno::SRCH)
    {
        return Err(refuse(pid));
    }
    let Ok(own) = to.canonicalize() else { return Ok(()) };
    match servers().into_iter().find(|(_, dir)| *dir == own) {
        Some((pid, _)) => Err(refuse(pid)),
        None => Ok(()),
    }
}

/// Processes of PostgreSQL and where they work: a server's working directory is its data directory (once
/// it has gone there: it starts anywhere). Those of other users show only to root.
fn servers() -> Vec<(i32, PathBuf)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let server = |e: std::fs::DirEntry| {
        let pid: i32 = e.file_name().to_str()?.parse().ok()?;
        let name = std::fs::read_to_string(e.path().join("comm")).ok()?;
        let is = ["postgres", "postmaster"].contains(&name.trim_end());
        let dir = is.then(|| std::fs::read_link(e.path().join("cwd")).ok()).flatten()?;
        dir.join("PG_VERSION").exists().then_some((pid, dir))
    };
    entries.filter_map(server).collect()
}

/// Links in pg_tblspc: the number, and where it leads, if it leads anywhere.
pub fn tablespace_links(data: &Path) -> Result<Vec<(u32, Option<PathBuf>)>> {
    let dir = data.join("pg_tblspc");
    let entries = match std::fs::read_dir(&dir) {
        Ok(e) => e,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(EngineError::io("look into", &dir)(e)),
    };
    let links = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_symlink()));
    let numbered = |e: std::fs::DirEntry| {
        let oid = e.file_name().to_str()?.parse().ok()?;
        Some((oid, e.path().canonicalize().ok().filter(|p| p.is_dir())))
    };
    Ok(links.filter_map(numbered).collect())
}

/// Places outside of `data` that are part of it.
fn places_of(data: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = data.canonicalize().into_iter().collect();
    all.extend(data.join("pg_wal").canonicalize());
    all.extend(tablespace_links(data).unwrap_or_default().into_iter().filter_map(|(_, p)| p));
    all
}

/// A tablespace may lie where the directory's own links lead, where a restore began one, or where there
/// is nothing.
pub fn check_location(to: &Path, t: &TablespacePlan) -> Result<()> {
    let empty =
        std::fs::read_dir(&t.to).map_or(true, |d| d.flatten().all(|e| is_unfinished_marker(&e.file_name())));
    let place = t.to.canonicalize().ok();
    let linked = tablespace_links(to)?.into_iter().any(|(_, p)| p.is_some() && p == place);
    if empty || linked || t.to.join(MARKER).is_file() {
        return Ok(());
    }
    Err(EngineError::refused(
        format!(
            "the tablespace location `{}` is not empty, and `{}` has no link to it",
            t.to.display(),
            to.display()
        ),
        "--tablespace-map OLD=NEW puts it elsewhere",
    ))
}

/// A copied data directory keeps the links of the original: what lies behind them is the original's.
pub fn refuse_shared(to: &Path, tablespaces: &[TablespacePlan], p: &Point) -> Result<()> {
    let own = to.canonicalize().ok();
    let mut ours: Vec<PathBuf> = own.iter().cloned().chain(to.join("pg_wal").canonicalize()).collect();
    ours.extend(tablespaces.iter().filter_map(|t| t.to.canonicalize().ok()));
    // One of the point that is mapped elsewhere is left alone where it was.
    let leftover =
        tablespace_links(to)?.into_iter().filter(|(oid, _)| !tablespaces.iter().any(|t| t.oid == *oid));
    ours.extend(leftover.filter_map(|(_, place)| place));
    let mut others: Vec<PathBuf> = servers().into_iter().map(|(_, dir)| dir).collect();
    let source = PathBuf::from(&p.server.data_directory);
    others.extend(source.canonicalize().ok().filter(|s| s.join("PG_VERSION").exists()));
    others.sort();
    others.dedup();
    for other in others.into_iter().filter(|o| Some(o) != own.as_ref()) {
        for place in places_of(&other) {
            if let Some(shared) = ours.iter().find(|o| o.starts_with(&place) || place.starts_with(o)) {
                return Err(EngineError::refused(
                    format!(
                        "`{}` is in use by the data directory `{}` as well",
                        shared.display(),
                        other.display()
                    ),
                    format!(
                        "remove the links of `{}` that lead there, and put tablespaces elsewhere with --tablespace-map OLD=NEW",
                        to.display()
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// At most so many names are shown.
const NAMES_SHOWN: usize = 20;

/// Counts what is there and what goes.
pub async fn count(
    mut plan: DeltaPlan,
    reader: PointReader,
    to: &Path,
    tablespaces: &[TablespacePlan],
) -> Result<DeltaPlan> {
    let (to, tablespaces) = (to.to_path_buf(), tablespaces.to_vec());
    let rt = tokio::runtime::Handle::current();
    let walk = move || {
        let mut names = Vec::new();
        let walk = Surplus::new(&reader, rt, &to, &tablespaces, &plan.version_dir)?;
        plan.seen = walk.walk(&mut |path, _| {
            if path.parent() == Some(&to) && names.len() < NAMES_SHOWN {
                names.extend(path.file_name().map(|n| n.to_string_lossy().into_owned()));
            }
            Ok(())
        })?;
        names.sort();
        plan.surplus_names = names;
        Ok(plan)
    };
    tokio::task::spawn_blocking(walk).await.map_err(|e| EngineError::Worker(e.to_string()))?
}

/// Keeps a second restore out of a directory, until it is dropped or the process ends.
#[derive(Debug)]
pub struct DirLock {
    _file: std::fs::File,
}

impl DirLock {
    pub fn take(dir: &Path) -> Result<Self> {
        let file = std::fs::File::open(dir).map_err(EngineError::io("open", dir))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => Err(EngineError::Busy {
                what: format!("another restore is at work in `{}`", dir.display()),
                hint: "wait for it, or stop it".into(),
            }),
            // A file system without locks: as before.
            Ok(()) | Err(_) => Ok(DirLock { _file: file }),
        }
    }
}

/// Makes sure that no server starts from here on. None ran a moment ago, and the marker is there.
pub fn begin(to: &Path) -> Result<()> {
    let global = to.join("global");
    let (control, aside) = (global.join("pg_control"), global.join(CONTROL_ASIDE));
    if !control.exists() {
        return Ok(());
    }
    std::fs::rename(&control, &aside).map_err(EngineError::io("put aside", &control))?;
    sync_dir(&global).map_err(EngineError::io("make durable", &global))?;
    // A server that read it before has its lock file by now; one that comes later does not get far.
    if let Err(e) = refuse_running(to) {
        std::fs::rename(&aside, &control).map_err(EngineError::io("put back", &control))?;
        std::fs::remove_file(to.join(MARKER)).map_err(EngineError::io("remove", to.join(MARKER)))?;
        return Err(e);
    }
    std::fs::remove_file(&aside).map_err(EngineError::io("remove", &aside))?;
    sync_dir(&global).map_err(EngineError::io("make durable", &global))
}

/// Removes what the point does not have. Blocks: not on a thread of the runtime.
pub fn clear(
    reader: &PointReader,
    rt: tokio::runtime::Handle,
    to: &Path,
    tablespaces: &[TablespacePlan],
    version_dir: &str,
) -> Result<Seen> {
    let outside = places_of(to);
    let seen = Surplus::new(reader, rt, to, tablespaces, version_dir)?.walk(&mut surplus::remove)?;
    // Directories of the copy are made durable at its end; these are no part of it any more.
    for place in outside.iter().filter(|p| p.is_dir()) {
        sync_dir(place).map_err(EngineError::io("make durable", place))?;
    }
    Ok(seen)
}
