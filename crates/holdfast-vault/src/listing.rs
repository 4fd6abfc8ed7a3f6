//! Listings that may be long: one folder, piece by piece, in bounded memory.
//!
//! [`Store::list`] gathers everything below a folder. A WAL archive has a million objects in one folder:
//! [`Store::visit`] shows them one by one, from a name on, and of a local vault asks the file system only
//! about those that somebody wants.

use crate::error::{Result, StoreErrorKind};
use crate::store::{Listed, Store, Tries, count, is_staged, stamp, store_error};
use futures::TryStreamExt;
use std::io::ErrorKind;
use std::path::Path;

/// What lies directly in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Level {
    pub objects: Vec<Listed>,
    pub folders: Vec<String>,
}

/// Which objects of a folder: those whose names sort after `after` and not after `until`.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    pub folder: &'a str,
    /// A whole name; empty: from the first.
    pub after: &'a str,
    /// A whole name.
    pub until: Option<&'a str>,
}

impl Span<'_> {
    fn has(&self, name: &str) -> bool {
        name > self.after && self.until.is_none_or(|u| name <= u)
    }
}

impl Store {
    /// Objects and folders directly in `folder`. One request per 1,000 of them.
    pub async fn level(&self, folder: &str) -> Result<Level> {
        if let Some(v) = self.kept().await? {
            match v.level(folder).await {
                Ok((objects, folders)) => return Ok(Level { objects, folders }),
                Err(e) => self.unseen(e).map(|_| ())?,
            }
        }
        let path = self.path(folder);
        let mut tries = Tries(0);
        loop {
            match self.inner.list_with_delimiter(Some(&path)).await {
                Ok(l) => {
                    count(
                        &self.requests().list,
                        1 + (l.objects.len() + l.common_prefixes.len()) as u64 / 1000,
                    );
                    let mut level = Level::default();
                    level.objects.extend(l.objects.iter().filter_map(|m| {
                        let name = self.relative(&m.location)?;
                        Some(Listed { name, size: m.size, modified: stamp(m) })
                    }));
                    level.objects.sort_by(|a, b| a.name.cmp(&b.name));
                    let names = l.common_prefixes.iter().filter_map(|p| p.filename());
                    level.folders.extend(names.map(str::to_string));
                    level.folders.sort();
                    return Ok(level);
                }
                Err(e) => match store_error("list", folder, e) {
                    e if e.kind == StoreErrorKind::NotFound => return Ok(Level::default()),
                    e => tries.again(e).await?,
                },
            }
        }
    }

    /// Shows each object of the span, in any order. `known` names those that need not be shown: of a local
    /// vault they are not looked at. One request per 1,000 objects from `after` to `until`.
    pub async fn visit(
        &self,
        span: Span<'_>,
        known: &(dyn Fn(&str) -> bool + Sync),
        each: &mut (dyn FnMut(Listed) + Send),
    ) -> Result<()> {
        if let Some(root) = &self.local {
            return visit_local(root, span, known, each);
        }
        if let Some(v) = self.kept().await? {
            let mut unknown = |l: Listed| {
                if !known(&l.name) {
                    each(l);
                }
            };
            match v.visit(span.folder, span.after, span.until, &mut unknown).await {
                Ok(()) => return Ok(()),
                Err(e) => self.unseen(e).map(|_| ())?,
            }
        }
        self.visit_remote(span, known, each).await
    }

    async fn visit_remote(
        &self,
        span: Span<'_>,
        known: &(dyn Fn(&str) -> bool + Sync),
        each: &mut (dyn FnMut(Listed) + Send),
    ) -> Result<()> {
        let path = self.path(span.folder);
        let mut last = span.after.to_string();
        let mut tries = Tries(0);
        loop {
            let mut stream = match last.is_empty() {
                true => self.inner.list(Some(&path)),
                false => self.inner.list_with_offset(Some(&path), &self.path(&last)),
            };
            let mut shown = 0_u64;
            let ended = loop {
                let m = match stream.try_next().await {
                    Ok(Some(m)) => m,
                    Ok(None) => break Ok(()),
                    Err(e) => break Err(store_error("list", span.folder, e)),
                };
                shown += 1;
                let Some(name) = self.relative(&m.location) else { continue };
                // The store may start where it likes (Azurite does), and goes on into folders.
                if name.as_str() <= last.as_str() {
                    continue;
                }
                if span.until.is_some_and(|u| name.as_str() > u) {
                    break Ok(());
                }
                last.clone_from(&name);
                if !known(&name) {
                    each(Listed { name, size: m.size, modified: stamp(&m) });
                }
            };
            count(&self.requests().list, 1 + shown / 1000);
            match ended {
                Ok(()) => return Ok(()),
                Err(e) if e.kind == StoreErrorKind::NotFound => return Ok(()),
                // From the last name on: nothing is shown twice.
                Err(e) => tries.again(e).await?,
            }
        }
    }
}

/// What a local vault has below `folder`, in the order of names: one look at each file, where the client of
/// the store layer takes three.
pub(crate) fn list_local(root: &Path, folder: &str) -> Result<Vec<Listed>> {
    let mut out = Vec::new();
    let mut folders = vec![folder.to_string()];
    while let Some(folder) = folders.pop() {
        each_local(root, &folder, &mut |name, e| {
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
pub(crate) async fn first_local(store: &Store, folder: &str, after: &str) -> Result<Option<Listed>> {
    let Some(root) = &store.local else { return Ok(None) };
    let mut first: Option<String> = None;
    let mut folders = vec![folder.to_string()];
    while let Some(folder) = folders.pop() {
        each_local(root, &folder, &mut |name, e| {
            // Links are rare: asking what they lead to costs nothing much.
            if e.file_type()?.is_dir() || e.file_type()?.is_symlink() && e.path().is_dir() {
                folders.push(name.to_string());
            } else if name > after && first.as_deref().is_none_or(|f| name < f) {
                first = Some(name.to_string());
            }
            Ok(())
        })?;
    }
    match first {
        Some(name) => store.head(&name).await,
        None => Ok(None),
    }
}

fn visit_local(
    root: &Path,
    span: Span<'_>,
    known: &(dyn Fn(&str) -> bool + Sync),
    each: &mut (dyn FnMut(Listed) + Send),
) -> Result<()> {
    each_local(root, span.folder, &mut |name, e| {
        if !span.has(name) || known(name) {
            return Ok(());
        }
        match e.metadata() {
            Ok(meta) if meta.is_file() => each(listed(name, &meta)),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        Ok(())
    })
}

/// The entries of one folder by their whole names, but for writes that were cut.
fn each_local(
    root: &Path,
    folder: &str,
    each: &mut dyn FnMut(&str, &std::fs::DirEntry) -> std::io::Result<()>,
) -> Result<()> {
    let failed = |source: std::io::Error| {
        let kind = match source.kind() {
            ErrorKind::PermissionDenied => StoreErrorKind::Denied,
            _ => StoreErrorKind::Transient,
        };
        crate::StoreError { op: "list", name: folder.into(), kind, source: Some(Box::new(source)) }
    };
    let entries = match std::fs::read_dir(root.join(folder)) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        Err(e) => return Err(failed(e).into()),
    };
    let mut name = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let start = name.len();
    for e in entries {
        let e = e.map_err(failed)?;
        let file = e.file_name();
        let Some(file) = file.to_str().filter(|f| !is_staged(f)) else { continue };
        name.truncate(start);
        name.push_str(file);
        each(&name, &e).map_err(failed)?;
    }
    Ok(())
}

fn listed(name: &str, meta: &std::fs::Metadata) -> Listed {
    let modified: jiff::Timestamp = meta.modified().ok().and_then(|t| t.try_into().ok()).unwrap_or_default();
    // As exact as other listings: times are compared.
    let modified = jiff::Timestamp::from_microsecond(modified.as_microsecond()).unwrap_or_default();
    Listed { name: name.to_string(), size: meta.len(), modified }
}
