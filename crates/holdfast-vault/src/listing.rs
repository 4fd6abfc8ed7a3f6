//! Listings: everything below a folder, one level of it, or one folder piece by piece in bounded memory.
//!
//! [`Store::list`] gathers. A WAL archive has a million objects in one folder: [`Store::visit`] shows them one by one, from a name on, and of a local vault asks the file system only
//! about those that somebody wants.

mod local;

use crate::error::{Result, StoreError, StoreErrorKind};
use crate::store::{Listed, Store, Tries, count, stamp, store_error};
use futures::{StreamExt as _, TryStreamExt as _};

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
    /// Everything below `folder`, in the order of names. One request per 1,000 objects.
    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        if let Some(root) = &self.local {
            let out = local::list(root, folder).await?;
            count(&self.requests().list, 1 + out.len() as u64 / 1000);
            return Ok(out);
        }
        if let Some(v) = self.kept().await? {
            match v.list(folder).await {
                Ok(out) => return Ok(out),
                Err(e) => self.unseen(e).map(|_| ())?,
            }
        }
        let path = self.path(folder);
        let mut tries = Tries(0);
        let mut out = loop {
            match self.collect(folder, self.inner.list(Some(&path)), usize::MAX).await {
                Ok(out) => break out,
                Err(e) => tries.again(e).await?,
            }
        };
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    /// The first object below `folder` whose name sorts after `after`, if the store lists in order.
    pub async fn first_after(&self, folder: &str, after: &str) -> Result<Option<Listed>> {
        if self.local.is_some() {
            return local::first(self, folder, after).await;
        }
        if let Some(v) = self.kept().await? {
            match v.first_after(folder, after).await {
                Ok(found) => return Ok(found),
                Err(e) => self.unseen(e).map(|_| ())?,
            }
        }
        let (path, offset) = (self.path(folder), self.path(after));
        let mut tries = Tries(0);
        loop {
            let stream = self.inner.list_with_offset(Some(&path), &offset);
            match self.collect(folder, stream, 1).await.map(|v| v.into_iter().next()) {
                Ok(Some(l)) if l.name.as_str() <= after => break,
                Ok(found) => return Ok(found),
                Err(e) => tries.again(e).await?,
            }
        }
        // The store starts where it likes (Azurite does): look for ourselves.
        Ok(self.list(folder).await?.into_iter().find(|l| l.name.as_str() > after))
    }

    async fn collect(
        &self,
        folder: &str,
        stream: futures::stream::BoxStream<'_, object_store::Result<object_store::ObjectMeta>>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        let metas: Vec<_> =
            stream.take(limit).try_collect().await.or_else(|e| match store_error("list", folder, e) {
                e if e.kind == StoreErrorKind::NotFound => Ok(Vec::new()),
                e => Err(e),
            })?;
        count(&self.requests().list, 1 + metas.len() as u64 / 1000);
        Ok(metas
            .into_iter()
            .filter_map(|m| {
                let name = self.relative(&m.location)?;
                Some(Listed { name, size: m.size, modified: stamp(&m) })
            })
            .collect())
    }

    /// Names of the folders directly below `folder`.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>> {
        if let Some(v) = self.kept().await? {
            match v.folders(folder).await {
                Ok(out) => return Ok(out),
                Err(e) => self.unseen(e).map(|_| ())?,
            }
        }
        let path = self.path(folder);
        let mut tries = Tries(0);
        loop {
            count(&self.requests().list, 1);
            match self.inner.list_with_delimiter(Some(&path)).await {
                Ok(l) => {
                    let mut names: Vec<String> =
                        l.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_string)).collect();
                    names.sort();
                    return Ok(names);
                }
                Err(e) => match store_error("list", folder, e) {
                    e if e.kind == StoreErrorKind::NotFound => return Ok(Vec::new()),
                    e => tries.again(e).await?,
                },
            }
        }
    }

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
            return local::visit(root, span, known, each).await;
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
