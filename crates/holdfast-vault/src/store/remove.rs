//! Removing: every version of a name, and what cut writes left behind.

use super::versions::Hidden;
use super::{Listed, Store, Tries, count, store_error};
use crate::error::{Result, StoreError, StoreErrorKind, VaultError};
use object_store::ObjectStoreExt as _;

impl Store {
    /// Removes an object for good, with every version of it: what lies over it first, so that a removal
    /// that is cut short leaves the original. What lies over it is known from the last listing, which a
    /// sweep makes when it begins. Only [`crate::probe`], tests and the sweep call this.
    /// [`VaultError::Locked`] if the store keeps it.
    pub async fn delete(&self, name: &str) -> Result<()> {
        if let Some(v) = self.kept().await? {
            let found = match v.remembered(name) {
                None => v.look_up(name).await.or_else(|e| self.unseen(e))?,
                known => known,
            };
            if self.sees() {
                let Some(o) = found else { return Ok(()) };
                for over in &o.over {
                    self.delete_version(name, &over.version).await?;
                }
                self.delete_version(name, &o.id).await?;
                v.forget(name);
                return Ok(());
            }
        }
        if self.blind() {
            // By its name alone it would be hidden, not removed.
            let source = Some("the bucket keeps versions, and this role may not list them".into());
            let (op, kind) = ("delete", StoreErrorKind::Denied);
            return Err(StoreError { op, name: name.into(), kind, source }.into());
        }
        let path = self.path(name);
        let mut tries = Tries(0);
        loop {
            count(&self.requests.delete, 1);
            match self.inner.delete(&path).await {
                Ok(()) => return Ok(()),
                Err(e) => match store_error("delete", name, e) {
                    e if e.kind == StoreErrorKind::NotFound => return Ok(()),
                    e => tries.again(e).await?,
                },
            }
        }
    }

    /// Removes one version of a name, and no other.
    pub async fn delete_version(&self, name: &str, id: &str) -> Result<()> {
        let Some(v) = &self.versions else { return Ok(()) };
        let key = v.key(name);
        let refused = |mut e: StoreError| {
            e.name = name.to_string();
            e
        };
        match v.s3.delete_version(&key, id).await {
            Ok(()) => Ok(()),
            // 403 is said of a lock and of a missing right alike.
            Err(e) if e.kind == StoreErrorKind::Denied => match self.lock_of(name, id).await {
                Some((until, hold)) => Err(VaultError::Locked { name: name.into(), until, hold }),
                None => Err(refused(e).into()),
            },
            Err(e) => Err(refused(e).into()),
        }
    }

    /// Removes what lies over an object: markers and later versions, never the original. Whoever calls made
    /// sure that it is one ([`crate::check::is_original`]).
    pub async fn uncover(&self, hidden: &Hidden) -> Result<()> {
        for over in hidden.over.iter().filter(|o| o.version != hidden.original) {
            self.delete_version(&hidden.name, &over.version).await?;
        }
        if let Some(v) = &self.versions {
            v.forget(&hidden.name);
        }
        Ok(())
    }

    /// What writes that were cut have left below `folder` of a local vault: `NAME#1`, which no listing shows.
    pub fn staged(&self, folder: &str) -> Vec<Listed> {
        let mut out = Vec::new();
        let Some(root) = &self.local else { return out };
        let mut dirs = vec![root.join(folder)];
        while let Some(dir) = dirs.pop() {
            for e in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                // A million segments are not looked at one by one.
                if e.file_type().is_ok_and(|t| t.is_dir()) {
                    dirs.push(e.path());
                    continue;
                }
                if !e.file_name().to_str().is_some_and(is_staged) {
                    continue;
                }
                let (path, Ok(meta)) = (e.path(), e.metadata()) else { continue };
                if let Some(name) = path.strip_prefix(root).ok().and_then(|p| p.to_str()) {
                    let modified = meta.modified().ok().and_then(|t| t.try_into().ok()).unwrap_or_default();
                    out.push(Listed { name: name.to_string(), size: meta.len(), modified });
                }
            }
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        out
    }

    /// Removes what [`Store::staged`] named.
    pub fn remove_staged(&self, name: &str) -> Result<()> {
        let Some(root) = self.local.as_ref().filter(|_| is_staged(name)) else { return Ok(()) };
        match std::fs::remove_file(root.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                let kind = match e.kind() {
                    std::io::ErrorKind::PermissionDenied => StoreErrorKind::Denied,
                    _ => StoreErrorKind::Transient,
                };
                Err(StoreError { op: "delete", name: name.into(), kind, source: Some(Box::new(e)) }.into())
            }
            _ => Ok(()),
        }
    }

    /// Removes the folder of a deleted object if nothing is left in it. Object stores have no folders.
    /// Only for folders that belong to one run: another's first object could be on its way into a shared
    /// one.
    pub fn prune_folder(&self, name: &str) {
        let parts: Vec<&str> = name.split('/').collect();
        if let Some(root) = &self.local
            && let [.., kind, _, _] = parts.as_slice()
            && ["runs", "notes"].contains(kind)
            && let Some(folder) = root.join(name).parent()
        {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// `…#NUMBER`: how `object_store` calls a local file that is not whole yet. No name of ours has a `#`.
pub(crate) fn is_staged(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}
