//! Locks of what is there: asked for, extended, named when they refuse.

use super::lock::LockRule;
use super::{Store, xml};
use crate::error::{Result, VaultError};
use std::sync::atomic::Ordering;

impl Store {
    /// How this store locks what it writes.
    pub fn lock_rule(&self) -> Option<LockRule> {
        self.lock
    }

    /// Something was written without a lock, because this role may not lock.
    pub fn unlocked(&self) -> bool {
        self.unlocked.load(Ordering::Relaxed)
    }

    /// Whether objects here can be locked. One request, once.
    pub async fn knows_locks(&self) -> Result<bool> {
        match self.kept().await? {
            Some(v) => Ok(v.locks().await?),
            None => Ok(false),
        }
    }

    /// The version of a name that counts, as its lock stands; `None`: there is no such object. One request,
    /// and one more for a name that no listing has shown.
    pub async fn lock_state(&self, name: &str) -> Result<Option<(String, Option<xml::Retention>)>> {
        let Some(v) = self.kept().await? else { return Ok(None) };
        let found = match v.remembered(name) {
            None => v.look_up(name).await?,
            known => known,
        };
        let Some(o) = found else { return Ok(None) };
        let r = v.s3.retention(&v.key(name), &o.id).await?;
        Ok(Some((o.id, r)))
    }

    /// Locks a version, or locks it for longer.
    pub async fn extend_lock(&self, name: &str, id: &str, r: xml::Retention) -> Result<()> {
        let Some(v) = &self.versions else { return Ok(()) };
        Ok(v.s3.put_retention(&v.key(name), id, r).await?)
    }

    /// What keeps a version from being deleted: until when, and whether somebody holds it.
    pub(super) async fn lock_of(&self, name: &str, id: &str) -> Option<(Option<jiff::Timestamp>, bool)> {
        let v = self.versions.as_ref()?;
        let key = v.key(name);
        let until = v.s3.retention(&key, id).await.ok().flatten().map(|r| r.until);
        let until = until.filter(|t| *t > jiff::Timestamp::now());
        let hold = v.s3.legal_hold(&key, id).await.unwrap_or(false);
        (until.is_some() || hold).then_some((until, hold))
    }

    /// Why the store would not let an object go now, in words. A few requests, none where there are no locks.
    pub async fn lock_on(&self, name: &str) -> Result<Option<String>> {
        let Some(v) = self.kept().await? else { return Ok(None) };
        if !v.locks().await? {
            return Ok(None);
        }
        let found = match v.remembered(name) {
            None => v.look_up(name).await?,
            known => known,
        };
        let Some(o) = found else { return Ok(None) };
        // What lies over it goes first, so it counts as well.
        for id in std::iter::once(&o.id).chain(o.over.iter().map(|over| &over.version)) {
            if let Some((until, hold)) = self.lock_of(name, id).await {
                return Ok(Some(VaultError::Locked { name: name.into(), until, hold }.to_string()));
            }
        }
        Ok(None)
    }
}
