//! The store under a vault: `object_store` with the few habits that a vault needs.
//!
//! - Names are relative to the vault's prefix.
//! - [`Store::create`] is create-if-absent (PutMode::Create). After a lost reply a second try may
//!   meet its own first one: an "exists" answer is settled by comparing content (R9).
//! - Reads are retried when a body breaks off; "not found" is final and never retried.
//! - Every request is counted ([`Store::requests`]), so tests can hold an operation to its cost.
//! - A local directory is fsynced, file and folder, before anything is acknowledged.
//! - A storage class is given to data packs as they are written ([`Store::with_class`]), never changed later:
//!   that would be a copy in place, which overwrites.
//! - Where an S3 bucket keeps versions the oldest one of a name is its content ([`versions`]), and
//!   deleting removes every version of a name by its id.
//!
//! Requests on such a bucket, beside those that any bucket gets: one listing for a name that is read and
//! was in no listing before (at the same time as the read; packs share one listing per 1,000 of them), one
//! behind each create of a name that others could have used, and one `GET ?versioning` if no answer has told
//! by then. Deleting takes one request per version.
//!
//! What a store does is in a file each: `open`, `read`, `write`, `remove`, `locks`, `seen` (versions),
//! `retrieve` (archives); listings are in [`crate::listing`].
//!
//! Crash: an upload that was cut leaves an unfinished multipart upload (S3) or a `name#1` staging
//! file (local disk). Neither is ever visible under its name; `sweep` removes them.

mod error;
pub mod lock;
mod locks;
mod open;
mod read;
mod remove;
pub mod retrieve;
pub mod s3;
mod seen;
pub mod versions;
mod write;
pub mod xml;

use crate::error::{Result, StoreError, StoreErrorKind};
use bytes::Bytes;
pub(crate) use error::store_error;
use holdfast_core::policy::StorageClass;
use lock::LockRule;
use object_store::ObjectStore;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
pub(crate) use remove::is_staged;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use versions::Versions;
pub use write::Upload;

/// Requests made so far, by verb. One per call that the store would bill.
#[derive(Debug, Default)]
pub struct Requests {
    pub get: AtomicU64,
    pub put: AtomicU64,
    pub list: AtomicU64,
    pub head: AtomicU64,
    pub delete: AtomicU64,
    pub bytes_read: AtomicU64,
    pub bytes_written: AtomicU64,
}

pub(crate) fn count(c: &AtomicU64, n: u64) {
    c.fetch_add(n, Ordering::Relaxed);
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub size: u64,
    /// When the *store* says that it was written.
    pub modified: jiff::Timestamp,
}

/// How [`Store::create`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    New,
    /// The name was taken by the very same bytes: an earlier try of ours, or another who knew the same.
    Same,
}

/// A vault's store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<dyn ObjectStore>,
    prefix: Path,
    url: String,
    pub(crate) local: Option<std::path::PathBuf>,
    requests: Arc<Requests>,
    /// Only of S3, and used only where the bucket keeps versions.
    versions: Option<Arc<Versions>>,
    /// How what is written is locked.
    lock: Option<LockRule>,
    /// The store refused to lock what we wrote: it was written without.
    unlocked: Arc<std::sync::atomic::AtomicBool>,
    /// Of data packs, on S3.
    class: Option<StorageClass>,
}

const ATTEMPTS: u32 = 5;

impl Store {
    /// Data packs are archived: not one can be read before it was retrieved.
    pub fn is_cold(&self) -> bool {
        self.class.is_some_and(StorageClass::is_archive)
    }

    /// Address without secrets.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The directory, when the vault is one.
    pub fn local_path(&self) -> Option<&std::path::Path> {
        self.local.as_deref()
    }

    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    pub(crate) fn path(&self, name: &str) -> Path {
        if name.is_empty() {
            return self.prefix.clone();
        }
        name.split('/').fold(self.prefix.clone(), |p, part| p.join(part))
    }

    /// The store's own clock, and whether it keeps what is deleted as versions: writes a small object,
    /// looks at it, removes it.
    pub async fn clock(&self) -> Result<(jiff::Timestamp, bool)> {
        let name = format!("{}/clock-{:016x}", crate::probe::PROBE_FOLDER, rand::random::<u64>());
        self.create(&name, Bytes::from_static(b"holdfast asks for the time")).await?;
        count(&self.requests.head, 1);
        let found = self.inner.head(&self.path(&name)).await.map_err(|e| store_error("look up", &name, e))?;
        if let Some(v) = &self.versions {
            v.learn(found.version.as_deref()).await?;
        }
        let _ = self.delete(&name).await;
        let versioned = self.blind() || self.keeps_versions().await?;
        Ok((stamp(&found), versioned))
    }

    pub(crate) fn relative(&self, location: &Path) -> Option<String> {
        let rest = location.as_ref().strip_prefix(self.prefix.as_ref())?;
        Some(rest.trim_start_matches('/').to_string())
    }
}

pub(crate) fn stamp(m: &object_store::ObjectMeta) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(m.last_modified.timestamp_micros()).unwrap_or_default()
}

/// How often something was tried.
pub(crate) struct Tries(pub(crate) u32);

impl Tries {
    /// Waits before another try, or gives the error back if none would help.
    pub(crate) async fn again(&mut self, e: StoreError) -> Result<(), StoreError> {
        self.0 += 1;
        if e.kind != StoreErrorKind::Transient || self.0 >= ATTEMPTS {
            return Err(e);
        }
        tokio::time::sleep(backoff(self.0)).await;
        Ok(())
    }
}

/// 50 ms, 200 ms, 800 ms, 3.2 s with up to a half more, so that many hosts do not return at once.
fn backoff(attempt: u32) -> Duration {
    let base = 50u64 << (2 * (attempt - 1)).min(8);
    Duration::from_millis(base + rand::random_range(0..=base / 2))
}
