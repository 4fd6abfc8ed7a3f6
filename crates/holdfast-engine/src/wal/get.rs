//! `wal get`: PostgreSQL's `restore_command`.
//!
//! The promise: exit 0 = the file is there, whole and authentic; exit 1 = the archive certainly does
//! not have it; 200 = anything else, and PostgreSQL stops instead of ending recovery early (a code
//! over 125 is fatal for it, src/backend/access/transam/xlogarchive.c).
//!
//! "Certainly" has two parts: the store answered "not found", and the name does not lie in a hole: a
//! segment that is absent while an earlier and a later one of its timeline are there is a *gap*, and
//! a recovery that ended quietly before it would lose what comes after.
//!
//! **Prefetch.** After a hit, a detached process fetches the next segments into a spool outside of
//! the data directory (trap 36). A spooled file was verified before it got its name; taking it is a
//! rename. Leftovers of an earlier restore are told apart by cluster and removed when they lie behind.

use super::archive::{read_file, timeline_of_segment};
use crate::context::{Context, open_vault};
use crate::error::{EngineError, Result};
use crate::state::sync_dir;
use holdfast_core::{SegmentName, SegmentSize};
use holdfast_pgformat::history::TimelineHistory;
use holdfast_pgformat::walname::WalFileName;
use holdfast_vault::{ClusterVault, VaultError, walobj};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How a get ended, besides errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    File,
    CertainlyAbsent,
}

/// Segments fetched ahead of replay.
pub const PREFETCH: u64 = 8;

/// Options of one get.
#[derive(Debug, Clone)]
pub struct GetOptions {
    pub retry_for: Duration,
    /// Only this cluster's archive (written into restore_command by `restore`).
    pub cluster: Option<u64>,
    /// The timeline that this recovery goes to: segments of a branch that it left are not handed out.
    pub timeline: Option<holdfast_core::TimelineId>,
    pub prefetch: u64,
    /// The recovery has a target, and the plan found WAL without a gap up to here. What is missing beyond
    /// it is not needed: the server only reads ahead. (If it did need it, it would say so itself, "recovery
    /// ended before configured recovery target was reached".)
    pub reach: Option<SegmentName>,
    /// The plan saw every segment up to here: one that is missing now was removed meanwhile (by a sweep), and
    /// the log does not end there.
    pub planned: Option<SegmentName>,
}

/// Fetches `name` to `dest`. Vaults are tried in order: the first that has it wins; "absent" needs
/// the word of all of them.
pub async fn get(ctx: &Context, name: &str, dest: &Path, options: &GetOptions) -> Result<Got> {
    let kind: WalFileName = name.parse().map_err(|e: holdfast_pgformat::walname::WalNameError| {
        EngineError::usage(e.to_string(), "restore_command gives it as %f")
    })?;
    let deadline = Instant::now() + options.retry_for;
    let mut pause = Duration::from_millis(200);
    loop {
        match try_all(ctx, name, kind, dest, options).await {
            Err(e) if e.retryable() && Instant::now() + pause < deadline => {
                ctx.monitor.warning(format!("{e}; trying again"));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            other => return other,
        }
    }
}

async fn try_all(
    ctx: &Context,
    name: &str,
    kind: WalFileName,
    dest: &Path,
    options: &GetOptions,
) -> Result<Got> {
    // An ancestor's segments need a look at the branches first; the spool knows none.
    if let (WalFileName::Segment(s), Some(cluster)) = (kind, options.cluster)
        && options.timeline.is_none_or(|t| t == s.timeline)
        && take_spooled(ctx, cluster, name, dest)?
    {
        return Ok(Got::File);
    }
    let mut failure = None;
    let (mut asked, mut unknown) = (0, None);
    for v in ctx.vaults()? {
        let result = async {
            let vault = open_vault(&v).await?;
            let cluster = match options.cluster {
                Some(id) => match vault.cluster(ctx.cluster_path(id)).await {
                    // A vault that never heard of the cluster has none of its segments.
                    Err(e) if e.is_not_found() => return Ok(None),
                    other => other?,
                },
                None => ctx.newest_cluster(&vault).await?.ok_or_else(|| {
                    EngineError::not_found(
                        format!("the vault `{}` has nothing of `{}`", v.name, ctx.db.name),
                        "check the name of the database and the vault's url",
                    )
                })?,
            };
            let size = cluster.record().wal_segment_size;
            let beyond = match (kind, options.reach) {
                (WalFileName::Segment(s), Some(reach)) => s.number(size) > reach.number(size),
                _ => false,
            };
            if let (WalFileName::Segment(s), Some(t)) = (kind, options.timeline) {
                match on_the_way(&cluster, s, t).await {
                    Ok(true) => {}
                    Err(EngineError::Failed { .. }) if beyond => return Ok(Some(Got::CertainlyAbsent)),
                    Ok(false) => return Ok(Some(Got::CertainlyAbsent)),
                    Err(e) => return Err(e),
                }
            }
            let got = from_cluster(&cluster, name, kind, dest, beyond).await?;
            if let (Got::CertainlyAbsent, WalFileName::Segment(s)) = (got, kind) {
                refuse_vanished(&cluster, s, options).await?;
            }
            Ok(Some(got))
        };
        match result.await {
            Ok(Some(Got::File)) => return Ok(Got::File),
            Ok(Some(Got::CertainlyAbsent)) => asked += 1,
            Ok(None) => unknown = Some(v.name.clone()),
            Err(e) => {
                failure.get_or_insert(e);
            }
        }
    }
    match (failure, unknown) {
        (Some(e), _) => Err(e),
        (None, Some(vault)) if asked == 0 => Err(EngineError::not_found(
            format!("the vault `{vault}` has nothing of this cluster"),
            "check the name of the database and the vault's url",
        )),
        (None, _) => Ok(Got::CertainlyAbsent),
    }
}

/// Is `segment` on the way to timeline `to`? PostgreSQL asks for an ancestor's segment when the right
/// timeline's is missing; with it, recovery would silently go along the branch that was left.
async fn on_the_way(
    cluster: &ClusterVault,
    segment: SegmentName,
    to: holdfast_core::TimelineId,
) -> Result<bool> {
    if segment.timeline >= to {
        return Ok(true);
    }
    let Some(text) = read_file(cluster, &cluster.path().history(to)).await? else { return Ok(true) };
    let history = TimelineHistory::parse(to, &String::from_utf8_lossy(&text)).map_err(|e| {
        EngineError::failed(format!("the history of timeline {to} is malformed: {e}"), "run `holdfast check`")
    })?;
    let size = cluster.record().wal_segment_size;
    let right = timeline_of_segment(&history, size, segment.number(size));
    if segment.timeline < right {
        let Some((_, Some(left))) = history.range_of(segment.timeline) else { return Ok(true) };
        if left > segment.start(size) {
            return Err(EngineError::failed(
                format!(
                    "segment {} of timeline {right} is not in the archive",
                    SegmentName { timeline: right, ..segment }
                ),
                format!(
                    "recovery to timeline {to} cannot go on; --timeline {} recovers what is on that one",
                    segment.timeline
                ),
            ));
        }
        return Ok(false);
    }
    Ok(true)
}

async fn from_cluster(
    cluster: &ClusterVault,
    name: &str,
    kind: WalFileName,
    dest: &Path,
    beyond_reach: bool,
) -> Result<Got> {
    let t = kind.timeline();
    match kind {
        WalFileName::Segment(segment) => match fetch(cluster, segment, dest).await? {
            true => Ok(Got::File),
            false if beyond_reach => Ok(Got::CertainlyAbsent),
            false => {
                refuse_gap(cluster, segment).await?;
                Ok(Got::CertainlyAbsent)
            }
        },
        WalFileName::Partial(_) => {
            let object = cluster.path().wal_extra(t, name);
            match place_object(cluster, &object, dest).await? {
                true => Ok(Got::File),
                false => Ok(Got::CertainlyAbsent),
            }
        }
        WalFileName::History(_) | WalFileName::BackupHistory { .. } => {
            let object = match kind {
                WalFileName::History(_) => cluster.path().history(t),
                _ => cluster.path().wal_extra(t, name),
            };
            match read_file(cluster, &object).await? {
                Some(bytes) => {
                    place(dest, &bytes)?;
                    Ok(Got::File)
                }
                None => Ok(Got::CertainlyAbsent),
            }
        }
    }
}

/// Opens an object into `dest`; `false` if it is certainly not there. Its pieces are written as they are
/// opened, under a name of their own: the server sees nothing, or all of it authenticated.
async fn place_object(cluster: &ClusterVault, object: &str, dest: &Path) -> Result<bool> {
    let bytes = match cluster.store().get(object).await {
        Ok(b) => b,
        Err(e) if e.is_not_found() => return Ok(false),
        Err(e) => return Err(e.into()),
    };
    let vault = cluster.vault();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    placing(dest, |file| {
        let put = |at: u64, piece: &[u8]| file.write_all_at(piece, at);
        let (keys, id, digests) = (vault.keys(), vault.id(), cluster.digests());
        match walobj::decode_to(&bytes, keys, id, digests, object, threads, &put) {
            Ok(_) => Ok(true),
            Err(VaultError::Sink(e)) => Err(EngineError::io("write", dest)(e)),
            Err(e) => Err(e.into()),
        }
    })
}

/// Puts a segment's content at `dest`; `false` if it is certainly not there.
pub async fn fetch(cluster: &ClusterVault, segment: SegmentName, dest: &Path) -> Result<bool> {
    let name = cluster.path().segment(segment.timeline, &segment.to_string());
    place_object(cluster, &name, dest).await
}

/// A segment that the plan saw, on its right timeline, and that is not there any more.
async fn refuse_vanished(cluster: &ClusterVault, segment: SegmentName, o: &GetOptions) -> Result<()> {
    let size = cluster.record().wal_segment_size;
    let (Some(planned), Some(to)) = (o.planned.or(o.reach), o.timeline) else { return Ok(()) };
    if segment.number(size) > planned.number(size) {
        return Ok(());
    }
    let right = match read_file(cluster, &cluster.path().history(to)).await? {
        Some(text) => match TimelineHistory::parse(to, &String::from_utf8_lossy(&text)) {
            Ok(history) => timeline_of_segment(&history, size, segment.number(size)),
            Err(_) => to,
        },
        None => to,
    };
    // The server asks for the newest timeline first; only one of them has the segment.
    if segment.timeline != right {
        return Ok(());
    }
    Err(EngineError::failed(
        format!("segment {segment} was there when this restore was planned, and is gone"),
        "a sweep may have removed it with its point: restore from a newer point, and `holdfast hold` it",
    ))
}

/// An absent segment between two that are there is a gap, not the end (two listings).
async fn refuse_gap(cluster: &ClusterVault, segment: SegmentName) -> Result<()> {
    let folder = cluster.path().wal_timeline(segment.timeline);
    let own = cluster.path().segment(segment.timeline, &segment.to_string());
    let Some(first) = cluster.store().first_after(&folder, &folder).await? else { return Ok(()) };
    if first.name >= own {
        return Ok(());
    }
    match cluster.store().first_after(&folder, &own).await? {
        None => Ok(()),
        Some(later) => {
            let later =
                later.name.rsplit('/').next().unwrap_or_default().trim_end_matches(".wal").to_string();
            Err(EngineError::failed(
                format!("segment {segment} is missing from the archive, and {later} is there: a gap"),
                "recovery cannot cross it; restore to a time before it, or find the segment and push it",
            ))
        }
    }
}

/// Puts `bytes` at `dest`: the server sees nothing or all of it.
fn place(dest: &Path, bytes: &[u8]) -> Result<()> {
    placing(dest, |file| file.write_all_at(bytes, 0).map_err(EngineError::io("write", dest)))
}

/// Makes a file beside `dest`, and gives it that name when it is written.
fn placing<T>(dest: &Path, write: impl FnOnce(&std::fs::File) -> Result<T>) -> Result<T> {
    let tmp = temp_beside(dest);
    let done = std::fs::File::create(&tmp).map_err(EngineError::io("write", dest)).and_then(|f| write(&f));
    let done = done.and_then(|t| {
        std::fs::rename(&tmp, dest).map_err(EngineError::io("write", dest))?;
        Ok(t)
    });
    if done.is_err() {
        let _ = std::fs::remove_file(&tmp);
    }
    done
}

fn temp_beside(dest: &Path) -> PathBuf {
    let mut name = dest.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".holdfast-{}", std::process::id()));
    dest.with_file_name(name)
}

fn spool_dir(ctx: &Context, cluster: u64) -> Result<PathBuf> {
    let dir = ctx.state.spool(&ctx.db.name, &cluster.to_string())?;
    Ok(dir)
}

/// Takes a verified segment from the spool, if it is there.
fn take_spooled(ctx: &Context, cluster: u64, name: &str, dest: &Path) -> Result<bool> {
    let from = spool_dir(ctx, cluster)?.join(name);
    if std::fs::rename(&from, dest).is_ok() {
        return Ok(true);
    }
    // Another file system: copy, then rename into place.
    match std::fs::read(&from) {
        Ok(bytes) => {
            place(dest, &bytes)?;
            let _ = std::fs::remove_file(&from);
            Ok(true)
        }
        Err(_) => Ok(false),
    }
}

/// The body of the detached prefetch process: fetches the segments after `name` until one is absent.
/// Only one runs per cluster; it keeps [`PREFETCH`] segments ahead and removes those that lie behind.
pub async fn prefetch(ctx: &Context, cluster_id: u64, name: &str, ahead: u64) -> Result<u64> {
    let Some(_lock) = ctx.state.try_lock_named(&format!("{}.prefetch", ctx.db.name))? else { return Ok(0) };
    let segment: SegmentName =
        name.parse().map_err(|_| EngineError::usage(format!("`{name}` is not a segment"), ""))?;
    let dir = spool_dir(ctx, cluster_id)?;
    forget_earlier_boots(&dir);
    let mut found = None;
    for v in ctx.vaults()? {
        // One that is away, or does not know the cluster: `wal get` asks the next, too.
        if let Ok(vault) = open_vault(&v).await
            && let Ok(cluster) = vault.cluster(ctx.cluster_path(cluster_id)).await
        {
            found = Some(cluster);
            break;
        }
    }
    let Some(cluster) = found else { return Ok(0) };
    let size = cluster.record().wal_segment_size;
    clean_behind(&dir, segment, size);
    let mut fetched = 0;
    let mut next = segment.next(size);
    for _ in 0..ahead {
        let path = dir.join(next.to_string());
        if !path.exists() {
            match fetch(&cluster, next, &path).await {
                Ok(true) => fetched += 1,
                // Absent, or in trouble: `wal get` itself will say so if replay gets there.
                _ => break,
            }
        }
        next = next.next(size);
    }
    let _ = sync_dir(&dir);
    Ok(fetched)
}

/// Removes what was spooled before this boot, beside `dir`.
fn forget_earlier_boots(dir: &Path) {
    let Some(all) = dir.parent() else { return };
    for e in std::fs::read_dir(all).into_iter().flatten().flatten() {
        if e.path() != dir {
            let _ = std::fs::remove_dir_all(e.path());
        }
    }
}

/// Removes what replay has passed, and what another restore left.
fn clean_behind(dir: &Path, current: SegmentName, size: SegmentSize) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let window = current.number(size)..=current.number(size) + 4 * PREFETCH;
    for e in entries.flatten() {
        let name = e.file_name();
        let keep = name
            .to_str()
            .and_then(|n| n.parse::<SegmentName>().ok())
            .is_some_and(|s| s.timeline == current.timeline && window.contains(&s.number(size)));
        if !keep {
            let _ = std::fs::remove_file(e.path());
        }
    }
}

/// True if the spool should be filled up again: fewer than half of `ahead` wait.
pub fn wants_prefetch(ctx: &Context, cluster: u64, name: &str, ahead: u64) -> bool {
    if ahead == 0 || name.parse::<SegmentName>().is_err() {
        return false;
    }
    let Ok(dir) = spool_dir(ctx, cluster) else { return false };
    let waiting = std::fs::read_dir(dir).map(|d| d.count()).unwrap_or(0) as u64;
    waiting < ahead.div_ceil(2)
}
