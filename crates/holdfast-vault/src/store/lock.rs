//! Object Lock at the moment of writing: what a point needs is locked from its first second.
//!
//! A [`LockRule`] makes a [`Store`](super::Store) send the lock with the object, in the PUT or in the
//! request that begins a multipart upload, so that it costs nothing and leaves no gap. Dates are the rule's
//! period and a quarter of it ahead: a run that takes less than a quarter period extends nothing of its own,
//! and neither do the runs that build on it in that time ([`crate::lock`]).
//!
//! Leases, failures, notes, tombstones and probes are not locked: no restore needs them.

use super::s3::S3;
use super::xml::{LockMode, Retention};
use async_trait::async_trait;
use holdfast_core::policy::StorageClass;
use jiff::{SignedDuration, Timestamp};
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, MultipartUpload, PutPayload, PutResult, UploadPart};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// How what is written is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockRule {
    pub mode: LockMode,
    /// For so long after it was made a point stays locked.
    pub period: SignedDuration,
}

impl LockRule {
    /// Until when a point that is made at `t` is locked.
    pub fn of_point(&self, t: Timestamp) -> Timestamp {
        t.checked_add(self.period).unwrap_or(Timestamp::MAX)
    }

    /// What is locked is locked so far beyond the need, so that it is extended once in a quarter period.
    pub fn beyond(&self, need: Timestamp) -> Timestamp {
        need.checked_add(self.period / 4).unwrap_or(Timestamp::MAX)
    }

    /// Of an object that is written now.
    pub(super) fn now(&self) -> Retention {
        Retention { mode: self.mode, until: self.beyond(self.of_point(Timestamp::now())) }
    }
}

/// Whether a restore could come to need an object of this name.
pub fn is_lockable(name: &str) -> bool {
    let mut parts = name.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("holdfast.vault" | "keys"), ..) => true,
        // Signs of life go when their run has ended.
        (Some("db"), Some(_), Some(_), Some("runs")) => {
            !name.rsplit('/').next().is_some_and(|file| file.starts_with("alive-"))
        }
        (Some("db"), Some(_), Some(_), Some(kind)) => matches!(kind, "cluster" | "points" | "wal"),
        _ => false,
    }
}

/// A multipart upload that was begun with a lock and goes on without saying so again.
#[derive(Debug)]
pub(super) struct Parts {
    store: AmazonS3,
    path: Path,
    id: MultipartId,
    next: usize,
    done: Arc<Mutex<BTreeMap<usize, PartId>>>,
}

impl Parts {
    pub(super) async fn begin(
        s3: &S3,
        path: &Path,
        r: Retention,
        class: Option<StorageClass>,
    ) -> object_store::Result<Self> {
        let id = s3.locking(r, class)?.create_multipart(path).await?;
        let (store, path) = (s3.store.clone(), path.clone());
        Ok(Parts { store, path, id, next: 0, done: Arc::default() })
    }
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let at = self.next;
        self.next += 1;
        let (store, path, id, done) =
            (self.store.clone(), self.path.clone(), self.id.clone(), self.done.clone());
        Box::pin(async move {
            let part = store.put_part(&path, &id, at, data).await?;
            done.lock().unwrap_or_else(|e| e.into_inner()).insert(at, part);
            Ok(())
        })
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        let parts: Vec<PartId> = {
            let done = self.done.lock().unwrap_or_else(|e| e.into_inner());
            done.values().cloned().collect()
        };
        self.store.complete_multipart(&self.path, &self.id, parts).await
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        self.store.abort_multipart(&self.path, &self.id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_restore_needs_is_locked() {
        for name in
            ["holdfast.vault", "keys/holdfast.vault", "db/a/7/cluster", "db/a/7/runs/r/data-0001.pack"]
        {
            assert!(is_lockable(name), "{name}");
        }
        for name in [
            "probe/x",
            "db/a/7/leases/r.lease",
            "db/a/7/notes/r/n.hold",
            "db/a/7/condemned/r",
            "db/a/7/runs/r/alive-0001",
        ] {
            assert!(!is_lockable(name), "{name}");
        }
    }
}
