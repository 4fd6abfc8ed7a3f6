//! The end of a restore: everything besides the stored files, and `pg_control` last ([`finish`]).
//!
//! Order: directories that a backup keeps empty → configuration → rescued WAL → the signal →
//! `backup_label` → everything durable → `pg_control` → the markers go.

use super::files::{Owner, chown};
use super::plan::{MARKER, RestorePlan};
use super::settings::{self, restore_command};
use super::{RestoreOptions, make_dir};
use crate::context::Context;
use crate::error::{EngineError, Result};
use crate::state::{sync_dir, write_atomic};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as B64;
use holdfast_pg::process::Programs;
use holdfast_pgformat::control::ControlFile;
use holdfast_pgformat::path::ALWAYS_EMPTY_DIRS;
use holdfast_pgformat::walname::WalFileName;
use holdfast_vault::point::Point;
use std::path::Path;

fn put(path: &Path, bytes: &[u8], owner: Owner) -> Result<()> {
    write_atomic(path, bytes, 0o600)?;
    chown(path, owner)
}

/// Everything besides the stored files, and `pg_control` at the very end.
pub(super) fn finish(
    ctx: &Context,
    o: &RestoreOptions,
    plan: &RestorePlan,
    point: &Point,
    owner: Owner,
) -> Result<()> {
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
    let signal = if plan.standby.is_some() { "standby.signal" } else { "recovery.signal" };
    put(&to.join(signal), b"", owner)?;
    put(&to.join("backup_label"), point.backup_label.as_bytes(), owner)?;
    // Links are in place; the map would only repeat them, with the source's paths.
    sync_tree(to)?;
    // Perhaps a link, which that does not follow.
    sync_tree(&to.join("pg_wal"))?;
    for t in &plan.tablespaces {
        sync_location(&t.to, plan)?;
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

/// The same for a tablespace; in one that was in use, other people's directories may be closed to us.
fn sync_location(dir: &Path, plan: &RestorePlan) -> Result<()> {
    let Some(d) = &plan.delta else { return sync_tree(dir) };
    let version = dir.join(&d.version_dir);
    if version.is_dir() {
        sync_tree(&version)?;
    }
    sync_dir(dir).map_err(EngineError::io("make durable", dir))
}

/// Makes every directory below `dir` durable (files were synced one by one).
fn sync_tree(dir: &Path) -> Result<()> {
    for e in std::fs::read_dir(dir).map_err(EngineError::io("look into", dir))?.flatten() {
        // The file system's own, closed to everyone but root.
        if e.file_type().is_ok_and(|t| t.is_dir()) && e.file_name() != "lost+found" {
            sync_tree(&e.path())?;
        }
    }
    sync_dir(dir).map_err(EngineError::io("make durable", dir))
}
