//! Writing: create-if-absent, with its class and its lock.

use super::lock::{self, is_lockable};
use super::versions::Versions;
use super::{ATTEMPTS, Created, Store, backoff, count, store_error, xml};
use crate::error::{Result, StoreError, StoreErrorKind, VaultError};
use crate::names::is_data_pack;
use bytes::Bytes;
use holdfast_core::policy::StorageClass;
use object_store::{
    Attribute, Attributes, MultipartUpload, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
};
use std::sync::atomic::Ordering;

impl Store {
    /// Writes `body` under a name that must be free.
    pub async fn create(&self, name: &str, body: Bytes) -> Result<Created> {
        self.create_until(name, body, None).await
    }

    /// The same, locked until then at least, if this store locks.
    pub async fn create_until(
        &self,
        name: &str,
        body: Bytes,
        until: Option<jiff::Timestamp>,
    ) -> Result<Created> {
        let made = match self.retention_for(name, until).await? {
            None => self.create_by_condition(name, body.clone()).await?,
            Some((v, r)) => {
                // The class is an attribute of the request.
                let locking = v.s3.locking(r, None).map_err(|e| store_error("lock", name, e))?;
                match self.create_in(&locking, name, body.clone()).await {
                    // Locking is a right of its own.
                    Err(e) if e.store_kind() == Some(StoreErrorKind::Denied) => {
                        let made = self.create_by_condition(name, body.clone()).await?;
                        self.unlocked.store(true, Ordering::Relaxed);
                        made
                    }
                    made => made?,
                }
            }
        };
        match made {
            (Created::New, version) => self.came_first(name, version, body).await,
            (same, _) => Ok(same),
        }
    }

    /// The same, as the store's own word for it: what a probe asks about. With the version that was made.
    pub(crate) async fn create_by_condition(
        &self,
        name: &str,
        body: Bytes,
    ) -> Result<(Created, Option<String>)> {
        self.create_in(&*self.inner, name, body).await
    }

    async fn create_in(
        &self,
        inner: &dyn ObjectStore,
        name: &str,
        body: Bytes,
    ) -> Result<(Created, Option<String>)> {
        let path = self.path(name);
        let mut attempt = 0;
        loop {
            attempt += 1;
            count(&self.requests.put, 1);
            count(&self.requests.bytes_written, body.len() as u64);
            let attributes = self.attributes_of(name);
            let opts = PutOptions { mode: PutMode::Create, attributes, ..Default::default() };
            match inner.put_opts(&path, PutPayload::from_bytes(body.clone()), opts).await {
                Ok(done) => {
                    self.wrote(name, done.version.as_deref());
                    return Ok((Created::New, done.version));
                }
                Err(e) => {
                    let e = store_error("write", name, e);
                    match e.kind {
                        // Nobody else uses the name of a pack, and an archived one cannot be compared.
                        StoreErrorKind::Exists if self.is_cold() && is_data_pack(name) => {
                            match self.head(name).await? {
                                Some(there) if there.size == body.len() as u64 => {
                                    return Ok((Created::Same, None));
                                }
                                _ => return Err(e.into()),
                            }
                        }
                        StoreErrorKind::Exists => match self.get(name).await {
                            Ok(there) if there == body => return Ok((Created::Same, None)),
                            Ok(_) => return Err(e.into()),
                            // A conflicting writer gave up: the name is free again.
                            Err(VaultError::Store(StoreError { kind: StoreErrorKind::NotFound, .. }))
                                if attempt < ATTEMPTS => {}
                            Err(other) => return Err(other),
                        },
                        StoreErrorKind::Transient if attempt < ATTEMPTS => {}
                        _ => return Err(e.into()),
                    }
                    tokio::time::sleep(backoff(attempt)).await;
                }
            }
        }
    }

    /// Where versions are kept a delete marker makes a taken name look free: what counts is what came first
    /// under it. Packs are looked at before their point is committed, all at once.
    async fn came_first(&self, name: &str, version: Option<String>, body: Bytes) -> Result<Created> {
        let Some(v) = &self.versions else { return Ok(Created::New) };
        if !v.learn(version.as_deref()).await? || name.ends_with(".pack") {
            return Ok(Created::New);
        }
        let Some(oldest) = v.look_up(name).await.or_else(|e| self.unseen(e))? else {
            return Ok(Created::New);
        };
        if Some(&oldest.id) == version.as_ref() {
            return Ok(Created::New);
        }
        if self.get(name).await? == body {
            return Ok(Created::Same);
        }
        let source = Some("a delete marker hid it".into());
        Err(StoreError { op: "write", name: name.into(), kind: StoreErrorKind::Exists, source }.into())
    }

    /// The lock that an object of this name gets, if it gets one.
    async fn retention_for(
        &self,
        name: &str,
        until: Option<jiff::Timestamp>,
    ) -> Result<Option<(&Versions, xml::Retention)>> {
        let (Some(rule), Some(v)) = (&self.lock, &self.versions) else { return Ok(None) };
        if !is_lockable(name) || self.unlocked() || !v.locks().await? {
            return Ok(None);
        }
        let r = until.map_or_else(|| rule.now(), |until| xml::Retention { mode: rule.mode, until });
        Ok(Some((v, r)))
    }

    /// Only data packs are large and read by a plan; all else is small, and many a time read one by one.
    fn class_of(&self, name: &str) -> Option<StorageClass> {
        self.class.filter(|_| is_data_pack(name))
    }

    fn attributes_of(&self, name: &str) -> Attributes {
        let class = self.class_of(name).map(|c| (Attribute::StorageClass, c.api_name()));
        class.into_iter().collect()
    }

    fn wrote(&self, name: &str, version: Option<&str>) {
        if let (Some(v), Some(id), true) = (&self.versions, version, name.ends_with(".pack")) {
            v.wrote(name, id);
        }
    }

    /// A pack below `folder` whose oldest version is not what this store wrote there. One listing.
    pub async fn usurped(&self, folder: &str) -> Result<Option<String>> {
        let Some(v) = self.kept().await? else { return Ok(None) };
        match v.list(folder).await {
            Ok(_) => Ok(v.usurped(folder)),
            Err(e) => Ok(self.unseen(e).map(|_| None)?),
        }
    }

    /// Starts writing a large object under a name that nobody else uses (it carries a run id).
    pub async fn upload(&self, name: &str) -> Result<Upload> {
        count(&self.requests.put, 1);
        if let Some((v, r)) = self.retention_for(name, None).await? {
            match lock::Parts::begin(&v.s3, &self.path(name), r, self.class_of(name))
                .await
                .map_err(|e| store_error("write", name, e))
            {
                Ok(parts) => {
                    let inner = Box::new(parts);
                    return Ok(Upload { inner, name: name.to_string(), store: self.clone(), bytes: 0 });
                }
                Err(e) if e.kind == StoreErrorKind::Denied => self.unlocked.store(true, Ordering::Relaxed),
                Err(e) => return Err(e.into()),
            }
        }
        let mut attempt = 0;
        let inner = loop {
            attempt += 1;
            let attributes = self.attributes_of(name);
            let opts = PutMultipartOptions { attributes, ..Default::default() };
            match self.inner.put_multipart_opts(&self.path(name), opts).await {
                Ok(u) => break u,
                Err(e) => {
                    let e = store_error("write", name, e);
                    if e.kind != StoreErrorKind::Transient || attempt >= ATTEMPTS {
                        return Err(e.into());
                    }
                    tokio::time::sleep(backoff(attempt)).await;
                }
            }
        };
        Ok(Upload { inner, name: name.to_string(), store: self.clone(), bytes: 0 })
    }
}

/// An object being written part by part. Nothing is visible until [`Upload::finish`].
#[derive(Debug)]
pub struct Upload {
    inner: Box<dyn MultipartUpload>,
    name: String,
    store: Store,
    bytes: u64,
}

impl Upload {
    /// Sends a part (at least 5 MiB, but for the last). The future may be awaited later than the
    /// next call, so that several parts are under way at once.
    pub fn part(&mut self, body: Bytes) -> impl Future<Output = Result<()>> + Send + 'static {
        count(&self.store.requests.put, 1);
        count(&self.store.requests.bytes_written, body.len() as u64);
        self.bytes += body.len() as u64;
        let fut = self.inner.put_part(PutPayload::from_bytes(body));
        let name = self.name.clone();
        async move { fut.await.map_err(|e| store_error("write", &name, e).into()) }
    }

    /// Makes the object visible, durably.
    pub async fn finish(mut self) -> Result<()> {
        count(&self.store.requests.put, 1);
        match self.inner.complete().await {
            Ok(done) => {
                self.store.wrote(&self.name, done.version.as_deref());
                Ok(())
            }
            Err(e) => {
                let e = store_error("finish writing", &self.name, e);
                // After a lost reply the second try finds no upload to finish, because the first one
                // did it. Nobody else uses this name: an object as long as ours is ours.
                match self.store.head(&self.name).await {
                    Ok(Some(there)) if there.size == self.bytes => Ok(()),
                    _ => Err(e.into()),
                }
            }
        }
    }

    /// Gives up; parts that were sent are dropped if the store answers.
    pub async fn abort(mut self) {
        let _ = self.inner.abort().await;
    }
}
