//! The store under a vault: `object_store` with the few habits that a vault needs.
//!
//! - Names are relative to the vault's prefix.
//! - [`Store::create`] is create-if-absent (PutMode::Create). After a lost reply a second try may
//!   meet its own first one: an "exists" answer is settled by comparing content (R9).
//! - Reads are retried when a body breaks off; "not found" is final and never retried.
//! - Every request is counted ([`Store::requests`]), so tests can hold an operation to its cost.
//! - A local directory is fsynced, file and folder, before anything is acknowledged.
//!
//! Crash: an upload that was cut leaves an unfinished multipart upload (S3) or a `name#1` staging
//! file (local disk). Neither is ever visible under its name; `sweep` removes them.

use crate::error::{Result, StoreError, StoreErrorKind, VaultError};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use holdfast_core::secret::redact_url;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
}

const ATTEMPTS: u32 = 5;

impl Store {
    /// Opens the store at `url`. `options` are `object_store`'s keys (`region`, `endpoint`,
    /// `allow_http` …, dashes allowed); the usual `AWS_*`, `GOOGLE_*` and `AZURE_*` variables are
    /// read as well, the options win. No request is made.
    pub fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Self> {
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
        let mut clean = parsed.clone();
        clean.set_query(None);
        let (inner, prefix) = object_store::parse_url_opts(&clean, all).map_err(|e| bad(&e.to_string()))?;
        Ok(Store {
            inner: Arc::from(inner),
            prefix,
            url: redact_url(url),
            local: None,
            requests: Arc::default(),
        })
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
        })
    }

    /// A store that a test made.
    pub fn from_object_store(inner: Arc<dyn ObjectStore>) -> Self {
        Store { inner, prefix: Path::default(), url: "test:".into(), local: None, requests: Arc::default() }
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
                None => Err(StoreError {
                    op: "read",
                    name: name.into(),
                    kind: StoreErrorKind::NotFound,
                    source: None,
                }
                .into()),
            },
            other => other,
        }
    }

    async fn read(&self, op: &'static str, name: &str, opts: GetOptions) -> Result<Bytes> {
        let path = self.path(name);
        let mut attempt = 0;
        loop {
            attempt += 1;
            count(&self.requests.get, 1);
            let result = async { self.inner.get_opts(&path, opts.clone()).await?.bytes().await }.await;
            match result {
                Ok(b) => {
                    count(&self.requests.bytes_read, b.len() as u64);
                    return Ok(b);
                }
                Err(e) => {
                    // A range behind the end of a truncated object is damage, not a network fault.
                    if opts.range.is_some() && is_short(&chain_text(&e)) {
                        return Err(VaultError::damaged(name, "it ends before its own index says"));
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

    /// Size and date of an object, `None` if it is certainly not there.
    pub async fn head(&self, name: &str) -> Result<Option<Listed>> {
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
        let path = self.path(name);
        let mut attempt = 0;
        loop {
            attempt += 1;
            count(&self.requests.put, 1);
            count(&self.requests.bytes_written, body.len() as u64);
            let opts = PutOptions { mode: PutMode::Create, ..Default::default() };
            match self.inner.put_opts(&path, PutPayload::from_bytes(body.clone()), opts).await {
                Ok(_) => return Ok(Created::New),
                Err(e) => {
                    let e = store_error("write", name, e);
                    match e.kind {
                        StoreErrorKind::Exists => match self.get(name).await {
                            Ok(there) if there == body => return Ok(Created::Same),
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

    /// Starts writing a large object under a name that nobody else uses (it carries a run id).
    pub async fn upload(&self, name: &str) -> Result<Upload> {
        count(&self.requests.put, 1);
        let mut attempt = 0;
        let inner = loop {
            attempt += 1;
            match self.inner.put_multipart(&self.path(name)).await {
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

    /// Removes an object for good. Only [`crate::probe`], tests and the sweep call this.
    pub async fn delete(&self, name: &str) -> Result<()> {
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
        let _ = self.delete(&name).await;
        // A bucket that never had versioning says nothing, or `null`.
        let versioned = found.version.as_deref().is_some_and(|v| v != "null");
        Ok((stamp(&found), versioned))
    }

    pub(crate) fn relative(&self, location: &Path) -> Option<String> {
        let rest = location.as_ref().strip_prefix(self.prefix.as_ref())?;
        Some(rest.trim_start_matches('/').to_string())
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
            Ok(_) => Ok(()),
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

/// What an error and its sources say, without addresses and paths: a database may be called `orange`
/// or `credentials`, and its name must not decide what an error means. The code of an S3 error stands
/// between tags, one of which has a slash: it is kept by itself.
fn chain_text(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(s) = next {
        text.push_str(": ");
        text.push_str(&s.to_string());
        next = s.source();
    }
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split('<').next()).unwrap_or_default();
    let words = text.split_whitespace().filter(|w| !w.contains('/'));
    words.chain([code]).collect::<Vec<_>>().join(" ")
}

/// True if the store said that a range lies beyond the end of the object: it was cut.
fn is_short(text: &str) -> bool {
    // local disk, local disk, memory, any HTTP store, S3, the last two of any HTTP store
    [
        "Requested range was invalid",
        "Out of range of file",
        "Invalid range",
        "Wanted range starting at",
        "InvalidRange",
        "status code: 416",
    ]
    .iter()
    .any(|p| text.contains(p))
        || (text.contains("Requested ") && text.contains(", got "))
}

/// Codes with which stores refuse the credentials themselves, though the status says "forbidden".
const AUTH_CODES: [&str; 7] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "AuthenticationFailed",
    "InvalidAuthenticationInfo",
    "failed to authenticate",
];

fn refusal(body: &str) -> StoreErrorKind {
    if AUTH_CODES.iter().any(|c| body.contains(c)) { StoreErrorKind::Auth } else { StoreErrorKind::Denied }
}

fn io_kind(e: &(dyn std::error::Error + 'static)) -> Option<std::io::ErrorKind> {
    let mut next = Some(e);
    while let Some(s) = next {
        if let Some(io) = s.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        next = s.source();
    }
    None
}

pub(crate) fn store_error(op: &'static str, name: &str, e: object_store::Error) -> StoreError {
    use object_store::Error as E;
    use std::io::ErrorKind as Io;
    let kind = match &e {
        E::NotFound { .. } => StoreErrorKind::NotFound,
        E::AlreadyExists { .. } | E::Precondition { .. } => StoreErrorKind::Exists,
        E::PermissionDenied { source, .. } => refusal(&source.to_string()),
        E::Unauthenticated { .. } => StoreErrorKind::Auth,
        E::NotSupported { .. } | E::NotImplemented { .. } => StoreErrorKind::Unsupported,
        _ => match io_kind(&e) {
            Some(Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge) => StoreErrorKind::Full,
            Some(Io::PermissionDenied | Io::ReadOnlyFilesystem) => StoreErrorKind::Denied,
            Some(Io::NotFound) => StoreErrorKind::NotFound,
            // An object where a folder would be: below it there is certainly nothing.
            Some(Io::NotADirectory) if op != "write" => StoreErrorKind::NotFound,
            Some(Io::NotADirectory | Io::IsADirectory) => StoreErrorKind::Unsupported,
            _ => {
                let text = chain_text(&e);
                if text.contains("409 Conflict") {
                    StoreErrorKind::Exists
                } else if text.contains("status code: 403") {
                    // Listings do not say it by type.
                    refusal(&text)
                } else if text.contains("status code: 401")
                    || text.contains("credential")
                    || AUTH_CODES.iter().any(|c| text.contains(c))
                {
                    StoreErrorKind::Auth
                } else if text.contains("501 Not Implemented") {
                    StoreErrorKind::Unsupported
                } else {
                    StoreErrorKind::Transient
                }
            }
        },
    };
    StoreError { op, name: name.to_string(), kind, source: Some(Box::new(e)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Listings give the store's answer as text only.
    #[test]
    fn a_refused_listing_is_told_by_its_code() {
        let kind = |code: &str, bucket: &str| {
            let text = format!(
                "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\" encoding=\"UTF-8\"?>\
                 <Error><Code>{code}</Code><Message></Message><BucketName>{bucket}</BucketName></Error>"
            );
            let source = Box::new(std::io::Error::other(text));
            store_error("list", "db", object_store::Error::Generic { store: "S3", source }).kind
        };
        assert_eq!(kind("SignatureDoesNotMatch", "vault"), StoreErrorKind::Auth);
        assert_eq!(kind("AccessDenied", "vault"), StoreErrorKind::Denied);
        assert_eq!(kind("AccessDenied", "InvalidToken"), StoreErrorKind::Denied);
    }
}
