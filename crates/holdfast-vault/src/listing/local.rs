//! Listings of a vault in a directory. Folders are read on threads that may block.

use super::Span;
use crate::error::{Result, StoreError, StoreErrorKind, VaultError};
use crate::store::{Listed, Store, is_staged};
use std::io::ErrorKind;
use std::path::Path;
use tokio::sync::mpsc;

/// Names that wait to be looked at.
const BATCH: usize = 4096;

/// What a local vault has below `folder`, in the order of names: one look at each file, where the client of
/// the store layer takes three.
pub(super) async fn list(root: &Path, folder: &str) -> Result<Vec<Listed>> {
    let (root, folder) = (root.to_path_buf(), folder.to_string());
    apart(move || list_now(&root, &folder)).await
}

fn list_now(root: &Path, folder: &str) -> Result<Vec<Listed>> {
    let mut out = Vec::new();
    let mut folders = vec![folder.to_string()];
    while let Some(folder) = folders.pop() {
        each(root, &folder, &mut |name, e| {
            // A link, as somebody who moved a part of the vault leaves: what it leads to counts.
            let meta = match e.file_type() {
                Ok(t) if t.is_dir() => {
                    folders.push(name.to_string());
                    return Ok(());
                }
                Ok(t) if t.is_symlink() => std::fs::metadata(e.path()),
                _ => e.metadata(),
            };
            match meta {
                Ok(meta) if meta.is_dir() => folders.push(name.to_string()),
                Ok(meta) if meta.is_file() => out.push(listed(name, &meta)),
                Ok(_) => {}
                // A sweep was faster.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
            Ok(())
        })?;
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}

/// The first file below `folder` after `after`. A file system lists in no order: one look at every
/// name, and at one file.
pub(super) async fn first(store: &Store, folder: &str, after: &str) -> Result<Option<Listed>> {
    let Some(root) = store.local.clone() else { return Ok(None) };
    let (folder, after) = (folder.to_string(), after.to_string());
    match apart(move || first_now(&root, folder, &after)).await? {
        Some(name) => store.head(&name).await,
        None => Ok(None),
    }
}

fn first_now(root: &Path, folder: String, after: &str) -> Result<Option<String>> {
    let mut first: Option<String> = None;
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        each(root, &folder, &mut |name, e| {
            // Links are rare: asking what they lead to costs nothing much.
            if e.file_type()?.is_dir() || e.file_type()?.is_symlink() && e.path().is_dir() {
                folders.push(name.to_string());
            } else if name > after && first.as_deref().is_none_or(|f| name < f) {
                first = Some(name.to_string());
            }
            Ok(())
        })?;
    }
    Ok(first)
}

/// Shows each file of the span that is not known. Names come in batches from a thread that reads the
/// folder; only those that are wanted are looked at.
pub(super) async fn visit(
    root: &Path,
    span: Span<'_>,
    known: &(dyn Fn(&str) -> bool + Sync),
    show: &mut (dyn FnMut(Listed) + Send),
) -> Result<()> {
    let (sender, mut batches) = mpsc::channel::<Vec<String>>(2);
    let (reading, folder) = (root.to_path_buf(), span.folder.to_string());
    // Should this future be dropped, nobody receives, and the thread ends at its next batch.
    let reader = tokio::spawn(apart(move || {
        let mut batch = Vec::with_capacity(BATCH);
        each(&reading, &folder, &mut |name, _| {
            batch.push(name.to_string());
            if batch.len() < BATCH {
                return Ok(());
            }
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
            sender.blocking_send(full).map_err(|_| ErrorKind::BrokenPipe.into())
        })?;
        let _ = sender.blocking_send(batch);
        Ok(())
    }));
    while let Some(mut batch) = batches.recv().await {
        batch.retain(|name| span.has(name) && !known(name));
        if !batch.is_empty() {
            let root = root.to_path_buf();
            apart(move || look_at(&root, &batch)).await?.into_iter().for_each(&mut *show);
        }
    }
    reader.await.unwrap_or_else(|e| Err(gone(span.folder, e)))
}

fn look_at(root: &Path, names: &[String]) -> Result<Vec<Listed>> {
    let mut out = Vec::with_capacity(names.len());
    for name in names {
        // As the entry of its folder is seen: a link is no object of a level.
        match std::fs::symlink_metadata(root.join(name)) {
            Ok(meta) if meta.is_file() => out.push(listed(name, &meta)),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(failed(name, e)),
        }
    }
    Ok(out)
}

/// Runs on a thread that may block: a mount that hangs must not stop what else goes on, time limits above
/// all.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(gone("", e)))
}

/// The thread was lost: the runtime is shutting down.
fn gone(folder: &str, e: tokio::task::JoinError) -> VaultError {
    failed(folder, std::io::Error::other(e))
}

fn failed(name: &str, source: std::io::Error) -> VaultError {
    let kind = match source.kind() {
        ErrorKind::PermissionDenied => StoreErrorKind::Denied,
        _ => StoreErrorKind::Transient,
    };
    StoreError { op: "list", name: name.into(), kind, source: Some(Box::new(source)) }.into()
}

/// The entries of one folder by their whole names, but for writes that were cut.
fn each(
    root: &Path,
    folder: &str,
    each: &mut dyn FnMut(&str, &std::fs::DirEntry) -> std::io::Result<()>,
) -> Result<()> {
    let entries = match std::fs::read_dir(root.join(folder)) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        Err(e) => return Err(failed(folder, e)),
    };
    let mut name = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let start = name.len();
    for e in entries {
        let e = e.map_err(|e| failed(folder, e))?;
        let file = e.file_name();
        let Some(file) = file.to_str().filter(|f| !is_staged(f)) else { continue };
        name.truncate(start);
        name.push_str(file);
        each(&name, &e).map_err(|e| failed(folder, e))?;
    }
    Ok(())
}

fn listed(name: &str, meta: &std::fs::Metadata) -> Listed {
    let modified: jiff::Timestamp = meta.modified().ok().and_then(|t| t.try_into().ok()).unwrap_or_default();
    // As exact as other listings: times are compared.
    let modified = jiff::Timestamp::from_microsecond(modified.as_microsecond()).unwrap_or_default();
    Listed { name: name.to_string(), size: meta.len(), modified }
}
