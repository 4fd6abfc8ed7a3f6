//! What a vault needs of S3 beyond `object_store`: versions, locks, and what the bucket is set to.
//!
//! [`S3`] wraps the crate's own client and borrows everything from it: the HTTP client with its time-outs
//! and proxies, credentials, region, the bucket's address in either style. Requests are signed with the
//! crate's `AwsAuthorizer`. Each is tried as often as any other of a [`Store`](super::Store); all of them
//! may be repeated.
//!
//! What archived objects need is in [`super::retrieve`].
//!
//! What is deleted here is one version, by its id; a lock is only ever extended, and the header that
//! bypasses governance is not in this program.

use super::error::refusal;
use super::retrieve::{Headers, says};
use super::xml::{self, BadAnswer, LifecycleRule, LockConfiguration, Page, Retention, Versioning};
use super::{Requests, Tries, count};
use crate::error::{Result, StoreError, StoreErrorKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as B64;
use bytes::Bytes;
use holdfast_core::policy::StorageClass;
use md5::{Digest, Md5};
use object_store::ClientOptions;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use object_store::path::Path;
use object_store::signer::Signer;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::OnceCell;

/// A bucket of S3 and how to talk to it.
#[derive(Debug)]
pub struct S3 {
    pub store: AmazonS3,
    http: HttpClient,
    region: String,
    /// `https://…` up to and without the slash before a key.
    bucket_url: OnceCell<String>,
    pub(super) requests: Arc<Requests>,
    /// What it was opened with, to make another that sends more.
    url: url::Url,
    options: Vec<(String, String)>,
}

/// Hands out the crate's usual client, and keeps the last one: that of the store itself.
#[derive(Debug, Default, Clone)]
struct Shared(Arc<Mutex<Option<HttpClient>>>);

impl HttpConnector for Shared {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        *self.0.lock().unwrap_or_else(|e| e.into_inner()) = Some(client.clone());
        Ok(client)
    }
}

/// Hands out the client that is there.
#[derive(Debug)]
struct Same(HttpClient);

impl HttpConnector for Same {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.0.clone())
    }
}

/// A request that was answered with "fine".
pub(super) struct Answer {
    text: String,
    pub(super) archive: Headers,
}

impl S3 {
    /// Builds the store as `object_store::parse_url_opts` would, and keeps its parts.
    pub fn open(
        url: &url::Url,
        options: &[(String, String)],
        requests: Arc<Requests>,
    ) -> object_store::Result<Self> {
        let mut builder = AmazonS3Builder::new().with_url(url.to_string());
        for (key, value) in options {
            if let Ok(key) = key.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
        let shared = Shared::default();
        let store = builder.with_http_connector(shared.clone()).build()?;
        let kept = shared.0.lock().unwrap_or_else(|e| e.into_inner()).take();
        let http = match kept {
            Some(client) => client,
            None => ReqwestConnector::default().connect(&ClientOptions::new())?,
        };
        Ok(S3 {
            store,
            http,
            region: region.unwrap_or_else(|| "us-east-1".into()),
            bucket_url: OnceCell::new(),
            requests,
            url: url.clone(),
            options: options.to_vec(),
        })
    }

    /// The same store, which locks what it writes: on the same connections, with the same credentials.
    /// A storage class is sent as well, where a request has no attributes that would say it.
    pub fn locking(&self, r: Retention, class: Option<StorageClass>) -> object_store::Result<AmazonS3> {
        let mut client = ClientOptions::new();
        let mut builder = AmazonS3Builder::new().with_url(self.url.to_string());
        for (key, value) in &self.options {
            match key.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                Ok(AmazonS3ConfigKey::Client(key)) => client = client.with_config(key, value),
                Ok(key) => builder = builder.with_config(key, value),
                Err(_) => {}
            }
        }
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        let headers = request.headers_mut();
        let generic = |e: Source| object_store::Error::Generic { store: "S3", source: e };
        let class = class.map(|c| ("x-amz-storage-class", c.api_name().to_string()));
        let lock = [
            ("x-amz-object-lock-mode", r.mode.word().to_string()),
            ("x-amz-object-lock-retain-until-date", xml::stamp(r.until)),
        ];
        for (name, value) in lock.into_iter().chain(class) {
            headers.insert(name, value.parse().map_err(|_| generic("a date that no header takes".into()))?);
        }
        builder
            .with_client_options(client.with_default_headers(std::mem::take(headers)))
            .with_http_connector(Same(self.http.clone()))
            .with_credentials(self.store.credentials().clone())
            .build()
    }

    async fn bucket_url(&self) -> Result<&str, StoreError> {
        let made = self.bucket_url.get_or_try_init(|| async {
            // The crate knows how the bucket is addressed; a signed address shows it.
            let method = "GET".parse().map_err(|_| unusable("address", ""))?;
            let url = self
                .store
                .signed_url(method, &Path::from("x"), Duration::from_secs(60))
                .await
                .map_err(|e| super::error::store_error("reach", "", e))?;
            let text = url.as_str().split('?').next().unwrap_or_default();
            Ok(text.strip_suffix("/x").unwrap_or(text).to_string())
        });
        made.await.map(String::as_str)
    }

    /// One request, as often as it takes. `key` is the whole key; without one the request is the bucket's.
    pub(super) async fn call(
        &self,
        op: &'static str,
        method: &str,
        key: &str,
        query: &[(&str, &str)],
        body: Option<String>,
    ) -> Result<Answer, StoreError> {
        let mut tries = Tries(0);
        loop {
            self.counted(method, key);
            match self.once(op, method, key, query, body.clone()).await {
                Err(e) => tries.again(e).await?,
                done => return done,
            }
        }
    }

    async fn once(
        &self,
        op: &'static str,
        method: &str,
        key: &str,
        query: &[(&str, &str)],
        body: Option<String>,
    ) -> Result<Answer, StoreError> {
        let mut uri = self.bucket_url().await?.to_string();
        if !key.is_empty() {
            uri.push('/');
            uri.push_str(&encode(key, true));
        }
        for (i, (k, v)) in query.iter().enumerate() {
            uri.push(if i == 0 { '?' } else { '&' });
            uri.push_str(&encode(k, false));
            uri.push('=');
            uri.push_str(&encode(v, false));
        }
        let digest = body.as_ref().map(|b| B64.encode(Md5::digest(b.as_bytes())));
        let payload = body.map_or_else(HttpRequestBody::empty, |b| Bytes::from(b).into());
        let mut request = HttpRequest::new(payload);
        *request.method_mut() = method.parse().map_err(|_| unusable(op, key))?;
        *request.uri_mut() = uri.parse().map_err(|_| unusable(op, key))?;
        if let Some(digest) = digest {
            // Every store with locks wants a digest of what sets one; this is the one that all know.
            request.headers_mut().insert("content-md5", digest.parse().map_err(|_| unusable(op, key))?);
        }
        let credential = self
            .store
            .credentials()
            .get_credential()
            .await
            .map_err(|e| super::error::store_error(op, key, e))?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(&mut request, None)
            .map_err(|e| super::error::store_error(op, key, e))?;
        let lost =
            |e: object_store::client::HttpError| failed(op, key, StoreErrorKind::Transient, Box::new(e) as _);
        let response = self.http.execute(request).await.map_err(lost)?;
        let status = response.status().as_u16();
        let header =
            |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_string);
        let archive = Headers { class: header("x-amz-storage-class"), restore: header("x-amz-restore") };
        let bytes = response.into_body().bytes().await.map_err(lost)?;
        count(&self.requests.bytes_read, bytes.len() as u64);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if (200..300).contains(&status) {
            return Ok(Answer { text, archive });
        }
        let (code, message) = xml::error(&text);
        let kind = match status {
            404 => StoreErrorKind::NotFound,
            401 => StoreErrorKind::Auth,
            403 => refusal(&code),
            409 | 412 => StoreErrorKind::Exists,
            408 | 429 | 500 | 502..=599 => StoreErrorKind::Transient,
            _ => StoreErrorKind::Unsupported,
        };
        let said = if code.is_empty() { format!("status {status}") } else { format!("{code}: {message}") };
        Err(failed(op, key, kind, said.into()))
    }

    /// One page of the versions below `prefix`, from `from` on.
    pub async fn versions(
        &self,
        prefix: &str,
        folders: bool,
        from: Option<&(String, Option<String>)>,
    ) -> Result<Page, StoreError> {
        let mut query = vec![("prefix", prefix), ("versions", "")];
        if folders {
            query.push(("delimiter", "/"));
        }
        if let Some((key, version)) = from {
            query.push(("key-marker", key));
            if let Some(v) = version {
                query.push(("version-id-marker", v));
            }
        }
        query.sort_unstable();
        let answer = self.call("list the versions of", "GET", "", &query, None).await?;
        xml::page(&answer.text).map_err(|e| misread("list the versions of", prefix, e))
    }

    /// Removes one version, or a delete marker, for good.
    pub async fn delete_version(&self, key: &str, id: &str) -> Result<(), StoreError> {
        match self.call("delete", "DELETE", key, &[("versionId", id)], None).await {
            Err(e) if e.kind == StoreErrorKind::NotFound => Ok(()),
            done => done.map(|_| ()),
        }
    }

    /// Until when a version is locked; `None`: it is not.
    pub async fn retention(&self, key: &str, id: &str) -> Result<Option<Retention>, StoreError> {
        let op = "ask for the lock of";
        match self.call(op, "GET", key, &[("retention", ""), ("versionId", id)], None).await {
            Ok(a) => xml::retention(&a.text).map_err(|e| misread(op, key, e)),
            // Most say so where there is no lock.
            Err(e) if is_unlocked(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Locks a version, or extends its lock. The store refuses to shorten one, and we never ask.
    pub async fn put_retention(&self, key: &str, id: &str, r: Retention) -> Result<(), StoreError> {
        let query = [("retention", ""), ("versionId", id)];
        self.call("lock", "PUT", key, &query, Some(xml::write_retention(r))).await.map(|_| ())
    }

    /// Whether somebody has put a hold on a version.
    pub async fn legal_hold(&self, key: &str, id: &str) -> Result<bool, StoreError> {
        let op = "ask for the legal hold of";
        match self.call(op, "GET", key, &[("legal-hold", ""), ("versionId", id)], None).await {
            Ok(a) => xml::legal_hold(&a.text).map_err(|e| misread(op, key, e)),
            Err(e) if is_unlocked(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    pub async fn versioning(&self) -> Result<Versioning, StoreError> {
        let op = "ask whether versions are kept in";
        let a = self.call(op, "GET", "", &[("versioning", "")], None).await?;
        xml::versioning(&a.text).map_err(|e| misread(op, "", e))
    }

    /// `None`: the bucket knows no locks.
    pub async fn lock_configuration(&self) -> Result<Option<LockConfiguration>, StoreError> {
        let op = "ask for the lock rules of";
        match self.call(op, "GET", "", &[("object-lock", "")], None).await {
            Ok(a) => xml::lock_configuration(&a.text).map(Some).map_err(|e| misread(op, "", e)),
            Err(e) if e.kind == StoreErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub async fn lifecycle(&self) -> Result<Vec<LifecycleRule>, StoreError> {
        let op = "ask for the lifecycle rules of";
        match self.call(op, "GET", "", &[("lifecycle", "")], None).await {
            Ok(a) => xml::lifecycle(&a.text).map_err(|e| misread(op, "", e)),
            Err(e) if e.kind == StoreErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }
}

type Source = Box<dyn std::error::Error + Send + Sync>;

fn failed(op: &'static str, key: &str, kind: StoreErrorKind, source: Source) -> StoreError {
    let name = if key.is_empty() { "the bucket".into() } else { key.to_string() };
    StoreError { op, name, kind, source: Some(source) }
}

fn unusable(op: &'static str, key: &str) -> StoreError {
    failed(op, key, StoreErrorKind::Unsupported, "no request can be made of this name".into())
}

fn misread(op: &'static str, key: &str, e: BadAnswer) -> StoreError {
    failed(op, key, StoreErrorKind::Unsupported, Box::new(e))
}

/// How S3, and how Ceph says that a version has no lock.
fn is_unlocked(e: &StoreError) -> bool {
    const CODES: [&str; 2] = ["NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"];
    CODES.iter().any(|code| says(e, code))
}

/// Percent-encoding as signatures want it: all but letters, digits and `-_.~`.
fn encode(text: &str, slashes: bool) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(b)),
            b'/' if slashes => out.push('/'),
            _ => {
                let _ = write!(out, "%{b:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_as_they_are_signed() {
        assert_eq!(encode("db/a b/ü+.wal", true), "db/a%20b/%C3%BC%2B.wal");
        assert_eq!(encode("a/b=&~", false), "a%2Fb%3D%26~");
    }

    /// The address comes from the crate's own idea of where the bucket is.
    #[tokio::test]
    async fn the_bucket_is_addressed_as_the_store_does() {
        let keys = [("access_key_id", "a"), ("secret_access_key", "s"), ("region", "eu-west-1")];
        let at = async |more: &[(&str, &str)]| {
            let all =
                keys.iter().chain(more).map(|(k, v)| (k.to_string(), v.to_string())).collect::<Vec<_>>();
            let url = url::Url::parse("s3://acme/prefix").unwrap();
            let s3 = S3::open(&url, &all, Arc::default()).unwrap();
            (s3.bucket_url().await.unwrap().to_string(), s3.region.clone())
        };
        assert_eq!(at(&[]).await, ("https://s3.eu-west-1.amazonaws.com/acme".into(), "eu-west-1".into()));
        let virtual_host = at(&[("virtual_hosted_style_request", "true")]).await.0;
        assert_eq!(virtual_host, "https://acme.s3.eu-west-1.amazonaws.com");
        let other = at(&[("endpoint", "http://127.0.0.1:9000"), ("allow_http", "true")]).await.0;
        assert_eq!(other, "http://127.0.0.1:9000/acme");
    }
}
