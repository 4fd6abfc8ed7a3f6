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
//! behind each create of a name that others could have used, and one `GET ?versioning` if no answer has told by then. Deleting
//! takes one request per version.
//!
//! Crash: an upload that was cut leaves an unfinished multipart upload (S3) or a `name#1` staging
//! file (local disk). Neither is ever visible under its name; `sweep` removes them.

mod error;
pub mod lock;
pub mod s3;
pub mod versions;
pub mod xml;

use crate::error::{Result, StoreError, StoreErrorKind, VaultError};
use crate::names::is_data_pack;
use bytes::Bytes;
pub(crate) use error::store_error;
use error::{chain_text, is_short};
use futures::{StreamExt, TryStreamExt};
use holdfast_core::policy::StorageClass;
use holdfast_core::secret::redact_url;
use lock::{LockRule, is_lockable};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload,
};
use s3::S3;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use versions::{Hidden, Oldest, State, Versions};

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
    /// Opens the store at `url`. `options` are `object_store`'s keys (`region`, `endpoint`,
    /// `allow_http` …, dashes allowed); the usual `AWS_*`, `GOOGLE_*` and `AZURE_*` variables are
    /// read as well, the options win. No request is made.
    pub fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        Self::open_locking(url, options, None)
    }

    /// The same; what a restore needs is locked as it is written. Only S3 can.
    pub fn open_locking(
        url: &str,
        options: &BTreeMap<String, String>,
        lock: Option<LockRule>,
    ) -> Result<Self> {
        let bad = |why: &str| VaultError::BadUrl(redact_url(url), why.to_string());
        let parsed = url::Url::parse(url).map_err(|e| bad(&e.to_string()))?;
        if parsed.scheme() == "file" {
            let path = parsed.to_file_path().map_err(|()| bad("it needs an absolute path, file:///path"))?;
            return Self::open_local(&path);
        }
        let mut all: Vec<(String, String)> = Vec::new();
        let env_prefix = match parsed.scheme() {
            "s3" | "s3a" => "AWS_",
            "gs" => "GOOGLE_",
            "az" | "azure" | "abfs" | "abfss" | "adl" => "AZURE_",
            _ => return Err(bad("the scheme is not file, s3, gs or az")),
        };
        for (k, v) in std::env::vars() {
            if let Some(rest) = k.strip_prefix(env_prefix)
                && !rest.is_empty()
            {
                all.push((k.to_ascii_lowercase(), v));
            }
        }
        // AWS users expect AWS_ENDPOINT_URL and its per-service form.
        if env_prefix == "AWS_"
            && let Some(v) =
                std::env::var_os("AWS_ENDPOINT_URL_S3").or_else(|| std::env::var_os("AWS_ENDPOINT_URL"))
        {
            let v = v.to_string_lossy().into_owned();
            if v.starts_with("http://") {
                all.push(("allow_http".into(), "true".into()));
            }
            all.push(("aws_endpoint".into(), v));
        }
        for (k, v) in
            parsed.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())).chain(options.clone())
        {
            if (k == "endpoint" || k == "endpoint-url") && v.starts_with("http://") {
                all.push(("allow_http".into(), "true".into()));
            }
            all.push((k.replace('-', "_"), v));
        }
        if lock.is_some() && !all.iter().any(|(k, _)| k.ends_with("checksum_algorithm")) {
            // S3 demands a digest of whatever is locked.
            all.push(("aws_checksum_algorithm".into(), "sha256".into()));
        }
        let mut clean = parsed.clone();
        clean.set_query(None);
        let requests: Arc<Requests> = Arc::default();
        let unsigned = all.iter().any(|(k, v)| k.ends_with("skip_signature") && v == "true");
        if env_prefix == "AWS_" && !unsigned {
            let open = || {
                let s3 = S3::open(&clean, &all, requests.clone())?;
                let (_, prefix) = object_store::ObjectStoreScheme::parse(&clean)?;
                Ok::<_, object_store::Error>((s3, prefix))
            };
            let (s3, prefix) = open().map_err(|e| bad(&e.to_string()))?;
            return Ok(Store {
                inner: Arc::new(s3.store.clone()),
                versions: Some(Arc::new(Versions::new(s3, prefix.as_ref()))),
                prefix,
                url: redact_url(url),
                local: None,
                requests,
                lock,
                unlocked: Arc::default(),
                class: None,
            });
        }
        let (inner, prefix) = object_store::parse_url_opts(&clean, all).map_err(|e| bad(&e.to_string()))?;
        Ok(Store {
            inner: Arc::from(inner),
            prefix,
            url: redact_url(url),
            local: None,
            requests,
            versions: None,
            lock: None,
            unlocked: Arc::default(),
            class: None,
        })
    }

    /// The same store, which gives data packs this class. Only S3 does.
    pub fn with_class(mut self, class: Option<StorageClass>) -> Self {
        self.class = class.filter(|_| self.versions.is_some());
        self
    }

    /// Data packs are archived: not one can be read before it was retrieved.
    pub fn is_cold(&self) -> bool {
        self.class.is_some_and(StorageClass::is_archive)
    }

    /// Only data packs are large and read by a plan; all else is small, and many a time read one by one.
    fn class_of(&self, name: &str) -> Option<StorageClass> {
        self.class.filter(|_| is_data_pack(name))
    }

    fn attributes_of(&self, name: &str) -> Attributes {
        let class = self.class_of(name).map(|c| (Attribute::StorageClass, c.api_name()));
        class.into_iter().collect()
    }

    /// A vault in a directory; made when the first object is written.
    pub fn open_local(path: &std::path::Path) -> Result<Self> {
        let inner = object_store::local::LocalFileSystem::new().with_fsync(true);
        let prefix = Path::from_absolute_path(path)
            .map_err(|e| VaultError::BadUrl(path.display().to_string(), e.to_string()))?;
        Ok(Store {
            inner: Arc::new(inner),
            prefix,
            url: format!("file://{}", path.display()),
            local: Some(path.to_path_buf()),
            requests: Arc::default(),
            versions: None,
            lock: None,
            unlocked: Arc::default(),
            class: None,
        })
    }

    /// A store that a test made.
    pub fn from_object_store(inner: Arc<dyn ObjectStore>) -> Self {
        Store {
            inner,
            prefix: Path::default(),
            url: "test:".into(),
            local: None,
            requests: Arc::default(),
            versions: None,
            lock: None,
            unlocked: Arc::default(),
            class: None,
        }
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

    /// Reads a whole object.
    pub async fn get(&self, name: &str) -> Result<Bytes> {
        self.read("read", name, GetOptions::default()).await
    }

    /// Reads `range`; an object that is shorter gives an error.
    pub async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        let want = range.end.saturating_sub(range.start);
        let opts = GetOptions { range: Some(GetRange::Bounded(range)), ..Default::default() };
        let got = self.read("read", name, opts).await?;
        if got.len() as u64 != want {
            return Err(VaultError::damaged(name, "it ends before its own index says"));
        }
        Ok(got)
    }

    /// Reads `range`, or as much of it as the object has.
    pub async fn get_range_up_to(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        let opts = GetOptions { range: Some(GetRange::Bounded(range)), ..Default::default() };
        self.read("read", name, opts).await
    }

    /// Reads the last `n` bytes, or all if it is shorter.
    pub async fn get_tail(&self, name: &str, n: u64) -> Result<Bytes> {
        let opts = GetOptions { range: Some(GetRange::Suffix(n)), ..Default::default() };
        match self.read("read", name, opts).await {
            // Azure knows no suffix ranges: ask for the length first.
            Err(e) if e.store_kind() == Some(StoreErrorKind::Unsupported) => match self.head(name).await? {
                Some(l) => self.get_range(name, l.size.saturating_sub(n)..l.size).await,
                None => Err(not_found("read", name)),
            },
            other => other,
        }
    }

    /// Reads the oldest version of a name.
    async fn read(&self, op: &'static str, name: &str, opts: GetOptions) -> Result<Bytes> {
        let plain = |opts: GetOptions| self.read_some(op, name, opts);
        let Some(v) = &self.versions else { return Ok(plain(opts).await?.0) };
        let (first, oldest) = if v.state() == State::Kept {
            let known = match v.remembered(name) {
                None => v.pack(name).await.or_else(|e| self.unseen(e))?,
                known => known,
            };
            match known {
                Some(o) if !o.over.is_empty() => (None, Some(o)),
                Some(o) => (Some(plain(opts.clone()).await), Some(o)),
                None => {
                    let (first, found) = tokio::join!(plain(opts.clone()), v.look_up(name));
                    (Some(first), found.or_else(|e| self.unseen(e))?)
                }
            }
        } else {
            let first = plain(opts.clone()).await;
            let kept = match &first {
                Ok((_, version)) => v.learn(version.as_deref()).await?,
                Err(e) if e.is_not_found() => v.kept().await?,
                Err(_) => false,
            };
            if !kept {
                return Ok(first?.0);
            }
            (Some(first), v.look_up(name).await.or_else(|e| self.unseen(e))?)
        };
        let o = match (first, oldest) {
            // Read by its plain name, it was the version that counts.
            (Some(Ok((bytes, version))), Some(o)) if version.as_deref().unwrap_or("null") == o.id => {
                return Ok(bytes);
            }
            (Some(first), None) if !self.sees() => return Ok(first?.0),
            // It was read, and no version of it is listed: the listing lags behind.
            (Some(Ok(_)), None) => self.seen_late(op, name).await?,
            (_, None) => return Err(not_found(op, name)),
            (_, Some(o)) => o,
        };
        let exactly = |id: String| plain(GetOptions { version: Some(id), ..opts.clone() });
        match exactly(o.id.clone()).await {
            Ok((bytes, _)) => Ok(bytes),
            // A sweep removed it since it was seen; what is there now is another's, or nothing.
            Err(e) if e.is_not_found() => match v.look_up(name).await.or_else(|e| self.unseen(e))? {
                Some(now) if now.id != o.id => Ok(exactly(now.id).await?.0),
                _ => Err(e),
            },
            Err(e) => Err(e),
        }
    }

    /// The oldest version of a name that is certainly there.
    async fn seen_late(&self, op: &'static str, name: &str) -> Result<Oldest> {
        for attempt in 1..ATTEMPTS {
            tokio::time::sleep(backoff(attempt)).await;
            if let Some(v) = &self.versions
                && let Some(o) = v.look_up(name).await?
            {
                return Ok(o);
            }
        }
        let source = Some("it can be read, and no version of it is listed".into());
        Err(StoreError { op, name: name.into(), kind: StoreErrorKind::Transient, source }.into())
    }

    /// A role that may not see versions works without, and so does who met a gateway that has none.
    pub(crate) fn unseen(&self, e: StoreError) -> Result<Option<Oldest>, StoreError> {
        match self.sees() {
            true => Err(e),
            false => Ok(None),
        }
    }

    /// Versions are kept, as far as is known, and can be listed.
    fn sees(&self) -> bool {
        self.versions.as_ref().is_some_and(|v| v.state() == State::Kept)
    }

    /// One read, of the version that `opts` name; with the version that was read.
    async fn read_some(
        &self,
        op: &'static str,
        name: &str,
        opts: GetOptions,
    ) -> Result<(Bytes, Option<String>)> {
        let path = self.path(name);
        let mut attempt = 0;
        loop {
            attempt += 1;
            count(&self.requests.get, 1);
            let result = async {
                let got = self.inner.get_opts(&path, opts.clone()).await?;
                let version = got.meta.version.clone();
                Ok((got.bytes().await?, version))
            }
            .await;
            match result {
                Ok((b, version)) => {
                    count(&self.requests.bytes_read, b.len() as u64);
                    return Ok((b, version));
                }
                Err(e) => {
                    // A range behind the end of a truncated object is damage, not a network fault.
                    if opts.range.is_some() && is_short(&chain_text(&e)) {
                        return Err(VaultError::damaged(name, "it ends before its own index says"));
                    }
                    // Some gateways know ranges of the newest version only.
                    if let (Some(range), Some(_)) = (&opts.range, &opts.version)
                        && chain_text(&e).contains("non-partial response")
                    {
                        let whole = GetOptions { version: opts.version.clone(), ..Default::default() };
                        let (bytes, version) = Box::pin(self.read_some(op, name, whole)).await?;
                        return Ok((cut(name, &bytes, range)?, version));
                    }
                    let e = store_error(op, name, e);
                    if e.kind != StoreErrorKind::Transient || attempt >= ATTEMPTS {
                        return Err(e.into());
                    }
                    tokio::time::sleep(backoff(attempt)).await;
                }
            }
        }
    }

    /// The versions, if the bucket keeps some that we can see.
    pub(crate) async fn kept(&self) -> Result<Option<&Versions>, StoreError> {
        match &self.versions {
            Some(v) if v.kept().await? => Ok(Some(v)),
            _ => Ok(None),
        }
    }

    /// Whether deleted and overwritten objects stay as versions, which we can see. At most one request.
    pub async fn keeps_versions(&self) -> Result<bool> {
        Ok(self.kept().await?.is_some())
    }

    /// True if the bucket keeps versions, and this role may not list them.
    pub fn blind(&self) -> bool {
        self.versions.as_ref().is_some_and(|v| v.state() == State::Blind)
    }

    /// What was seen to lie over objects below `folder` (`""`: anywhere), of all that this store listed or
    /// read. No request.
    pub fn hidden(&self, folder: &str) -> Vec<Hidden> {
        self.versions.as_ref().map(|v| v.hidden(folder)).unwrap_or_default()
    }

    /// What stands before every name in the bucket, with a slash at its end unless it is empty.
    pub fn key_prefix(&self) -> String {
        self.versions.as_ref().map(|v| v.key("")).unwrap_or_default()
    }

    /// The bucket behind an S3 store.
    pub fn s3(&self) -> Option<&S3> {
        self.versions.as_ref().map(|v| &v.s3)
    }

    /// Size and date of an object, `None` if it is certainly not there.
    pub async fn head(&self, name: &str) -> Result<Option<Listed>> {
        if let Some(v) = self.kept().await? {
            match v.look_up(name).await {
                Ok(found) => {
                    return Ok(found.map(|o| Listed {
                        name: name.into(),
                        size: o.size,
                        modified: o.modified,
                    }));
                }
                Err(e) => self.unseen(e).map(|_| ())?,
            }
        }
        let path = self.path(name);
        let mut tries = Tries(0);
        loop {
            count(&self.requests.head, 1);
            match self.inner.head(&path).await {
                Ok(m) => {
                    return Ok(Some(Listed { name: name.to_string(), size: m.size, modified: stamp(&m) }));
                }
                Err(e) => match store_error("look up", name, e) {
                    e if e.kind == StoreErrorKind::NotFound => return Ok(None),
                    e => tries.again(e).await?,
                },
            }
        }
    }

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

    /// Everything below `folder`, in the order of names. One request per 1,000 objects.
    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        if let Some(root) = &self.local {
            let out = crate::listing::list_local(root, folder)?;
            count(&self.requests.list, 1 + out.len() as u64 / 1000);
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
            return crate::listing::first_local(self, folder, after).await;
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
        count(&self.requests.list, 1 + metas.len() as u64 / 1000);
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
            count(&self.requests.list, 1);
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

    /// What keeps a version from being deleted: until when, and whether somebody holds it.
    async fn lock_of(&self, name: &str, id: &str) -> Option<(Option<jiff::Timestamp>, bool)> {
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

    /// The first bytes of one version of a name, up to `len` of them.
    pub async fn head_of_version(&self, name: &str, id: &str, len: u64) -> Result<Bytes> {
        let range = Some(GetRange::Bounded(0..len));
        let opts = GetOptions { range, version: Some(id.to_string()), ..Default::default() };
        Ok(self.read_some("read", name, opts).await?.0)
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

/// A range of an object that came whole.
fn cut(name: &str, whole: &Bytes, range: &GetRange) -> Result<Bytes> {
    let len = whole.len() as u64;
    let range = match range {
        GetRange::Bounded(r) => r.start..r.end.min(len),
        GetRange::Offset(from) => *from..len,
        GetRange::Suffix(n) => len.saturating_sub(*n)..len,
    };
    if range.start >= range.end {
        return Err(VaultError::damaged(name, "it ends before its own index says"));
    }
    Ok(whole.slice(range.start as usize..range.end as usize))
}

fn not_found(op: &'static str, name: &str) -> VaultError {
    StoreError { op, name: name.into(), kind: StoreErrorKind::NotFound, source: None }.into()
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

/// `…#NUMBER`: how `object_store` calls a local file that is not whole yet. No name of ours has a `#`.
pub(crate) fn is_staged(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
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
