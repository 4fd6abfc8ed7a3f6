//! One file for several vaults: how `wal push` treats a vault that is away, and how that one catches up.
//!
//! **While it is away.** All vaults are asked at once. As soon as as many as `wal.required` asks for have the
//! file, the others get [`PATIENCE`] more and are then left behind: PostgreSQL does not wait for a vault that
//! it does not need. A vault that failed is not asked again for [`REST`], unless the others are not enough.
//!
//! **What it missed** is kept under `STATE/missed/DB/VAULT/NAME`: the file itself, as PostgreSQL may use its
//! own again once the push has succeeded, and a host's key cannot read it back from another vault. At most
//! [`SPOOL_FILES`] are kept; of what comes behind them only the name, and `holdfast copy DB --to VAULT`
//! brings it from another vault.
//!
//! **Catching up.** A push that reached the vault brings up to [`CATCH_UP`] of the files that wait, oldest
//! first, for at most [`PATIENCE`]. Each goes the way of any push: same content is success, other content is
//! a conflict, which stays here and is told.
//!
//! Crash: a file that waits twice, or one that was brought and waits still; the next push finds it there. A
//! state directory that is lost loses the spool; `wal status` shows the gap, `copy` closes it.

use super::file::WalFile;
use super::push::{push_to, store};
use crate::context::{Context, open_vault};
use crate::error::{EngineError, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use holdfast_core::policy;
use holdfast_pgformat::control::ControlFile;
use holdfast_pgformat::walname::WalFileName;
use holdfast_vault::{ClusterPath, Vault};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// How long a vault is waited for that is not needed.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long a vault is left alone after it failed.
const REST: Duration = Duration::from_secs(60);
/// Files kept for a vault: 1 GiB of segments of 16 MiB.
const SPOOL_FILES: usize = 64;
/// Names kept for a vault.
const MOST_NAMES: usize = 10_000;
/// Files that one push brings beside its own.
const CATCH_UP: usize = 4;

/// Bytes added, and whether the file was there already.
type Stored = Result<(u64, bool)>;

/// Pushes a file to all vaults; an outcome for each, in their order.
pub async fn to_all(
    ctx: &Context,
    vaults: &[policy::Vault],
    required: usize,
    file: &WalFile,
    data_dir: &Path,
) -> Vec<Stored> {
    let mut out: Vec<Option<Stored>> = vaults.iter().map(|_| None).collect();
    let rests = |v: &policy::Vault| vaults.len() > 1 && away(ctx, v).is_some_and(|since| since < REST);
    let awake: Vec<usize> = (0..vaults.len()).filter(|i| vaults.get(*i).is_some_and(|v| !rests(v))).collect();
    push_some(ctx, vaults, &awake, required, file, data_dir, &mut out).await;
    let asleep: Vec<usize> = (0..vaults.len()).filter(|i| !awake.contains(i)).collect();
    let have = |out: &[Option<Stored>]| out.iter().flatten().filter(|r| r.is_ok()).count();
    if have(&out) < required && !asleep.is_empty() {
        push_some(ctx, vaults, &asleep, required, file, data_dir, &mut out).await;
    }
    let not_asked = || {
        EngineError::failed(
            "it failed less than a minute ago and was not asked again",
            "see `holdfast doctor`; what it missed is brought later",
        )
    };
    out.into_iter().map(|o| o.unwrap_or_else(|| Err(not_asked()))).collect()
}

async fn push_some(
    ctx: &Context,
    vaults: &[policy::Vault],
    which: &[usize],
    required: usize,
    file: &WalFile,
    data_dir: &Path,
    out: &mut [Option<Stored>],
) {
    let mut under_way: FuturesUnordered<_> = which
        .iter()
        .filter_map(|i| vaults.get(*i).map(|v| (*i, v)))
        .map(|(i, v)| async move {
            let pushed = async {
                let vault = open_vault(v).await?;
                push_to(ctx, &vault, v.wal_compression, file, data_dir).await
            };
            (i, pushed.await)
        })
        .collect();
    let mut enough_since: Option<Instant> = None;
    while !under_way.is_empty() {
        let next = match enough_since {
            None => under_way.next().await,
            Some(t) => {
                let left = PATIENCE.saturating_sub(t.elapsed());
                tokio::time::timeout(left, under_way.next()).await.unwrap_or_default()
            }
        };
        let Some((i, result)) = next else { break };
        if let Some(slot) = out.get_mut(i) {
            *slot = Some(result);
        }
        if out.iter().flatten().filter(|r| r.is_ok()).count() >= required {
            enough_since = enough_since.or(Some(Instant::now()));
        }
    }
    for i in which {
        if let Some(slot @ None) = out.get_mut(*i) {
            *slot = Some(Err(EngineError::failed(
                format!("it did not answer within {} s of the others", PATIENCE.as_secs()),
                "see `holdfast doctor`; what it missed is brought later",
            )));
        }
    }
}

fn folder(ctx: &Context, vault: &str) -> PathBuf {
    ctx.state.dir().join("missed").join(ctx.db.name.as_str()).join(vault)
}

fn flag(ctx: &Context, vault: &str) -> PathBuf {
    folder(ctx, vault).join(".away")
}

/// How long ago the vault failed, if it has not been reached since.
fn away(ctx: &Context, v: &policy::Vault) -> Option<Duration> {
    let at = std::fs::metadata(flag(ctx, &v.name)).and_then(|m| m.modified()).ok()?;
    // A clock that went back: ask.
    SystemTime::now().duration_since(at).ok()
}

/// The files that wait for a vault, oldest first. A file's name in the archive says which is older.
pub fn waiting(ctx: &Context, vault: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder(ctx, vault)) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|n| n.parse::<WalFileName>().is_ok())
        .collect();
    // Histories first: without them nothing that follows is found.
    names.sort_by_key(|n| (!n.ends_with(".history"), n.clone()));
    names
}

/// Keeps a file for a vault that did not take it; the number that waits now.
pub fn remember(ctx: &Context, vault: &str, path: &Path, name: &str) -> Result<usize> {
    let dir = folder(ctx, vault);
    std::fs::create_dir_all(&dir).map_err(EngineError::io("make the directory", &dir))?;
    let _ = std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700));
    let flag = flag(ctx, vault);
    std::fs::write(&flag, b"").map_err(EngineError::io("write", &flag))?;
    let waiting = waiting(ctx, vault);
    if waiting.len() >= MOST_NAMES || waiting.iter().any(|n| n == name) {
        return Ok(waiting.len());
    }
    let to = dir.join(name);
    let tmp = dir.join(format!("{name}.tmp-{}", std::process::id()));
    let kept = if waiting.len() < SPOOL_FILES {
        // Not a link: PostgreSQL writes over segments that it uses again.
        std::fs::copy(path, &tmp).map(|_| ())
    } else {
        std::fs::write(&tmp, b"")
    };
    // A full disk must not keep PostgreSQL from going on: the name alone is worth keeping.
    if kept.is_err() {
        std::fs::write(&tmp, b"").map_err(EngineError::io("write", &tmp))?;
    }
    std::fs::rename(&tmp, &to).map_err(EngineError::io("write", &to))?;
    Ok(waiting.len() + 1)
}

/// Brings what waits for a vault that was reached just now. Best effort: it never fails a push.
pub async fn catch_up(ctx: &Context, v: &policy::Vault, data_dir: &Path, control: &ControlFile) {
    let dir = folder(ctx, &v.name);
    if !dir.is_dir() {
        return;
    }
    let Ok(Some(_lock)) = ctx.state.try_lock_named(&format!("{}.missed-{}", ctx.db.name, v.name)) else {
        return;
    };
    let _ = std::fs::remove_file(flag(ctx, &v.name));
    let bring = async {
        let vault = open_vault(v).await?;
        let path = ctx.cluster_path(control.system_identifier);
        let cluster = vault.cluster(path).await?;
        let mut brought = 0;
        for name in waiting(ctx, &v.name) {
            if brought >= CATCH_UP {
                break;
            }
            let Ok(kind) = name.parse::<WalFileName>() else { continue };
            let spooled = dir.join(&name);
            let empty = std::fs::metadata(&spooled).is_ok_and(|m| m.len() == 0);
            let local = data_dir.join("pg_wal").join(&name);
            let from = if empty { &local } else { &spooled };
            match WalFile::open(from, &name, kind, control) {
                Ok(file) => {
                    store(&cluster, v.wal_compression, &file).await?;
                    brought += 1;
                }
                // Only its name is left here, and the server has used the file again: is it there by now?
                Err(_) if empty => {
                    let there = match kind {
                        WalFileName::Segment(s) => super::archive::segment_head(&cluster, s).await?.is_some(),
                        _ => false,
                    };
                    if !there {
                        continue;
                    }
                }
                Err(e) => return Err(e),
            }
            std::fs::remove_file(&spooled).map_err(EngineError::io("remove", &spooled))?;
        }
        Ok::<_, EngineError>(brought)
    };
    match tokio::time::timeout(PATIENCE, bring).await {
        Ok(Ok(_)) | Err(_) => {}
        Ok(Err(e)) => ctx.monitor.warning(format!("vault `{}` cannot catch up: {e}", v.name)),
    }
    if waiting(ctx, &v.name).is_empty() {
        let _ = std::fs::remove_dir(&dir);
    }
}

/// Forgets what waits for a vault and is there by now; after `copy` brought it from elsewhere.
pub fn forget(ctx: &Context, vault: &str, there: &dyn Fn(&WalFileName) -> bool) {
    for name in waiting(ctx, vault) {
        if name.parse::<WalFileName>().is_ok_and(|n| there(&n)) {
            let _ = std::fs::remove_file(folder(ctx, vault).join(name));
        }
    }
}

/// How long a vault is asked for what another one may know as well.
const ASK: Duration = Duration::from_secs(5);

/// The digest secret that another vault of the database has for this cluster, if one can be asked.
pub async fn digest_secret(
    policy: &policy::Policy,
    db: &policy::Database,
    not: &Vault,
    path: &ClusterPath,
) -> Option<String> {
    for v in policy.vaults_of(db) {
        let ask = async {
            let vault = open_vault(v).await.ok()?;
            if vault.id() == not.id() {
                return None;
            }
            let cluster = vault.cluster(path.clone()).await.ok()?;
            Some(cluster.record().digest_secret.clone())
        };
        if let Ok(Some(secret)) = tokio::time::timeout(ASK, ask).await {
            return Some(secret);
        }
    }
    None
}
