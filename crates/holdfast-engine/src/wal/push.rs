//! `wal push`: PostgreSQL's `archive_command`.
//!
//! The promise: exit 0 means that the file is durable in as many vaults as the policy asks for, under
//! its name, with exactly this content. Anything else makes PostgreSQL keep the file and try again.
//!
//! Order of checks, before a byte is written: the name; the size; the page header's system
//! identifier, version, segment size and position (traps 28, 30, 34); that this data directory owns
//! the timeline (trap 29). Same content again is success; other content is kept under `conflict/`
//! and refused.
//!
//! Crash: the object appears whole or not at all (create-if-absent); the next try finds it and
//! compares digests without reading it.

use super::archive::{file_body, segment_head};
use super::fanout;
use super::file::WalFile;
use super::owner::{authorize, owns_current};
use crate::context::Context;
use crate::error::{EngineError, Result};
use holdfast_core::SegmentName;
use holdfast_core::policy::{Compression, Required};
use holdfast_pgformat::control::ControlFile;
use holdfast_pgformat::walname::WalFileName;
use holdfast_vault::point::Cluster;
use holdfast_vault::walobj;
use holdfast_vault::{ClusterVault, Signer, StoreErrorKind, Vault, VaultError};
use std::path::{Path, PathBuf};

/// What a push did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Pushed {
    pub name: String,
    pub stored_bytes: u64,
    /// It was there already, with the same content.
    pub duplicate: bool,
    pub vaults: Vec<String>,
    pub failed_vaults: Vec<String>,
}

/// Finds the data directory that `path` belongs to: where the server runs its archive_command, the
/// directory above pg_wal, or what the policy says.
pub fn data_dir_of(ctx: &Context, path: &Path) -> Result<PathBuf> {
    let is = |d: &Path| d.join("PG_VERSION").is_file() && d.join("global").is_dir();
    if path.is_relative()
        && let Ok(cwd) = std::env::current_dir()
        && is(&cwd)
    {
        return Ok(cwd);
    }
    if let Some(d) = path.parent().and_then(Path::parent)
        && is(d)
    {
        return Ok(d.to_path_buf());
    }
    ctx.db.data_directory.clone().filter(|d| is(d)).ok_or_else(|| {
        EngineError::usage(
            format!("cannot tell which data directory `{}` belongs to", path.display()),
            "run it in the data directory, or set `data-directory` of the database in the policy",
        )
    })
}

/// Pushes one file to the vaults of the database.
pub async fn push(ctx: &Context, path: &Path) -> Result<Pushed> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_string();
    let kind: WalFileName = name.parse().map_err(|e: holdfast_pgformat::walname::WalNameError| {
        EngineError::usage(e.to_string(), "archive_command gives it as %p")
    })?;
    let data_dir = data_dir_of(ctx, path)?;
    let (_, control) = holdfast_pg::datadir::read_control(&data_dir)?;
    let file = WalFile::open(path, &name, kind, &control)?;
    let vaults = ctx.vaults()?;
    let required = match ctx.plan.wal.required {
        Required::Any => 1,
        Required::All => vaults.len(),
        Required::Count(n) => n.clamp(1, vaults.len()),
    };
    let mut done =
        Pushed { name, stored_bytes: 0, duplicate: true, vaults: Vec::new(), failed_vaults: Vec::new() };
    let (mut first_error, mut missed) = (None, Vec::new());
    let tries = fanout::to_all(ctx, &vaults, required, &file, &data_dir).await;
    for (v, result) in vaults.iter().zip(tries) {
        match result {
            Ok((stored, duplicate)) => {
                done.vaults.push(v.name.clone());
                done.stored_bytes += stored;
                done.duplicate &= duplicate;
            }
            // A conflict in one vault is never outvoted by another.
            Err(e @ EngineError::Vault(VaultError::WalConflict { .. })) => return Err(e),
            Err(e @ EngineError::Refused { .. }) => return Err(e),
            Err(e) => {
                done.failed_vaults.push(v.name.clone());
                missed.push((v, e.to_string()));
                first_error.get_or_insert(e);
            }
        }
    }
    for (v, e) in missed.iter().filter(|_| vaults.len() > 1) {
        ctx.monitor.warning(format!("vault `{}` did not take {}: {e}", v.name, done.name));
    }
    match first_error {
        // PostgreSQL keeps the file and tries again, everywhere.
        Some(e) if done.vaults.len() < required => Err(e),
        _ => {
            for (v, _) in &missed {
                // As many vaults as are required have it: what goes wrong now is not PostgreSQL's.
                match fanout::remember(ctx, &v.name, path, &done.name) {
                    Ok(n) => ctx.monitor.info(format!("{n} files wait for vault `{}`", v.name)),
                    Err(e) => ctx.monitor.warning(format!("vault `{}` will miss it: {e}", v.name)),
                }
            }
            for v in vaults.iter().filter(|v| vaults.len() > 1 && done.vaults.contains(&v.name)) {
                fanout::catch_up(ctx, v, &data_dir, &control).await;
            }
            Ok(done)
        }
    }
}

/// Opens the cluster's folder in `vault`. The first WAL of a database makes it; WAL of another
/// cluster than the ones that are known is refused (trap 30).
async fn cluster_for(ctx: &Context, vault: &Vault, file: &WalFile) -> Result<ClusterVault> {
    let path = ctx.cluster_path(file.system_identifier);
    match vault.cluster(path.clone()).await {
        Err(e) if e.is_not_found() => {}
        other => return Ok(other?),
    }
    let known = vault.clusters(&ctx.db.name).await?;
    if !known.is_empty() {
        return Err(EngineError::refused(
            format!(
                "`{}` of vault {} holds another cluster than system {}",
                ctx.db.name,
                vault.store().url(),
                file.system_identifier
            ),
            "after pg_upgrade or initdb, run `holdfast backup --full` once; otherwise check `source` in the policy",
        ));
    }
    // All vaults digest with one secret, so that copies can compare blocks without reading them.
    let secret = fanout::digest_secret(&ctx.policy, &ctx.db, vault, &path).await;
    let make = || Cluster { digest_secret: secret.unwrap_or_default(), ..new_cluster(ctx, file) };
    Ok(vault.ensure_cluster(path, make).await?)
}

fn new_cluster(ctx: &Context, file: &WalFile) -> Cluster {
    Cluster {
        database: ctx.db.name.clone(),
        cluster: holdfast_core::ClusterId::from_system_identifier(file.system_identifier),
        system_identifier: file.system_identifier,
        major: file.major,
        block_size: file.block_size,
        wal_segment_size: file.segment_size,
        created_at: jiff::Timestamp::now(),
        digest_secret: String::new(),
    }
}

pub(super) async fn push_to(
    ctx: &Context,
    vault: &Vault,
    compression: Compression,
    file: &WalFile,
    data_dir: &Path,
) -> Result<(u64, bool)> {
    let cluster = cluster_for(ctx, vault, file).await?;
    match authorize(ctx, &cluster, file.timeline(), data_dir).await {
        // The end of the timeline that this cluster left when it was promoted, whole or partial: it may be
        // the only one that has it, and PostgreSQL archives nothing further until it is taken. Content
        // that differs from what is there is refused all the same.
        Err(EngineError::Refused { .. })
            if owns_current(ctx, &cluster, file.timeline(), data_dir).await? => {}
        other => other?,
    }
    store(&cluster, compression, file).await
}

/// Stores what lies in `pg_wal` and was never archived: timeline histories, and finished segments of the
/// current timeline. PostgreSQL archives the history of a new timeline at its promotion only; a copy
/// whose archiving was off then would never bring it, nor the segments before archiving was turned on,
/// and no recovery could find the way to its timeline.
pub async fn catch_up(
    cluster: &ClusterVault,
    compression: Compression,
    data_dir: &Path,
    control: &ControlFile,
) -> Result<()> {
    let dir = data_dir.join("pg_wal");
    let timeline = super::owner::current_timeline(control);
    let size = control.wal_segment_size;
    for e in std::fs::read_dir(&dir).map_err(EngineError::io("look into", &dir))?.flatten() {
        let file_name = e.file_name();
        let Some(name) = file_name.to_str() else { continue };
        let Ok(kind) = name.parse::<WalFileName>() else { continue };
        let finished = match kind {
            WalFileName::History(_) => true,
            // The checkpoint lies behind it, so it is complete.
            WalFileName::Segment(s) => {
                s.timeline == timeline && s.number(size) < size.segment_of(control.checkpoint_copy.redo)
            }
            _ => false,
        };
        if !finished {
            continue;
        }
        match WalFile::open(&e.path(), name, kind, control) {
            Ok(file) => {
                store(cluster, compression, &file).await?;
            }
            // A segment file that waits to be used again has old content under a new name.
            Err(EngineError::Refused { .. }) if matches!(kind, WalFileName::Segment(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Stores a judged file; returns (bytes added, was there already).
pub async fn store(cluster: &ClusterVault, compression: Compression, file: &WalFile) -> Result<(u64, bool)> {
    let t = file.timeline();
    match file.kind {
        WalFileName::Segment(segment) => store_segment(cluster, compression, file, segment).await,
        WalFileName::Partial(_) => {
            let name = cluster.path().wal_extra(t, &file.name);
            store_sealed(cluster, compression, file, &name).await
        }
        WalFileName::History(_) | WalFileName::BackupHistory { .. } => {
            let name = match file.kind {
                WalFileName::History(_) => cluster.path().history(t),
                _ => cluster.path().wal_extra(t, &file.name),
            };
            if let Some(there) = super::archive::read_file(cluster, &name).await? {
                return if Some(&there) == file.text() { Ok((0, true)) } else { Err(conflict(&name)) };
            }
            let text = file.text().map(Vec::as_slice).unwrap_or_default();
            let body = file_body(&file.name, text);
            match cluster.vault().put_record(&name, &body, Signer::Host).await {
                Ok(_) => Ok((text.len() as u64, false)),
                // Each sealing differs: the one that won is compared by what it says.
                Err(e) if e.store_kind() == Some(StoreErrorKind::Exists) => {
                    match super::archive::read_file(cluster, &name).await? {
                        Some(there) if Some(&there) == file.text() => Ok((0, true)),
                        _ => Err(conflict(&name)),
                    }
                }
                Err(e) => Err(e.into()),
            }
        }
    }
}

fn conflict(name: &str) -> EngineError {
    VaultError::WalConflict { name: name.to_string() }.into()
}

async fn store_segment(
    cluster: &ClusterVault,
    compression: Compression,
    file: &WalFile,
    segment: SegmentName,
) -> Result<(u64, bool)> {
    let name = cluster.path().segment(segment.timeline, &file.name);
    match store_sealed(cluster, compression, file, &name).await {
        Err(EngineError::Vault(VaultError::WalConflict { .. })) => {
            // Keep what came, apart from what is there: one of the two is the truth, a person decides.
            // Its name comes from its content, so that PostgreSQL's retries do not pile up copies.
            let digest = file.digest(cluster.digests())?;
            let aside = cluster.path().conflict(&file.name, &digest);
            store_sealed(cluster, compression, file, &aside).await?;
            Err(conflict(&name))
        }
        other => other,
    }
}

async fn store_sealed(
    cluster: &ClusterVault,
    compression: Compression,
    file: &WalFile,
    name: &str,
) -> Result<(u64, bool)> {
    let ctx = cluster.seal_context();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let (body, digest) = walobj::encode(&ctx, name, &file.reading(), compression, threads)?;
    let len = body.len() as u64;
    match cluster.store().create(name, body).await {
        Ok(_) => Ok((len, false)),
        // Each sealing differs in its bytes: the header's digest decides.
        Err(e) if e.store_kind() == Some(StoreErrorKind::Exists) => {
            let there = match file.kind {
                WalFileName::Segment(segment) if !name.contains("/conflict/") => {
                    segment_head(cluster, segment).await?
                }
                _ => {
                    let b =
                        cluster.store().get_range(name, 0..holdfast_vault::object::HEADER_LEN as u64).await?;
                    Some(walobj::head(&b, cluster.vault().keys(), cluster.vault().place(name))?)
                }
            };
            match there {
                Some(h) if h.digest == digest => Ok((0, true)),
                _ => Err(conflict(name)),
            }
        }
        Err(e) => Err(e.into()),
    }
}
