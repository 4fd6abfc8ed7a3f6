//! Opening a store by its address.

use super::lock::LockRule;
use super::s3::S3;
use super::versions::Versions;
use super::{Requests, Store};
use crate::error::{Result, VaultError};
use holdfast_core::policy::StorageClass;
use holdfast_core::secret::redact_url;
use object_store::ObjectStore;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::sync::Arc;

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
            let bare = Self::bare(Arc::new(s3.store.clone()), prefix.clone(), redact_url(url));
            let versions = Some(Arc::new(Versions::new(s3, prefix.as_ref())));
            return Ok(Store { versions, requests, lock, ..bare });
        }
        let (inner, prefix) = object_store::parse_url_opts(&clean, all).map_err(|e| bad(&e.to_string()))?;
        Ok(Self::bare(Arc::from(inner), prefix, redact_url(url)))
    }

    /// A vault in a directory; made when the first object is written.
    pub fn open_local(path: &std::path::Path) -> Result<Self> {
        let inner = object_store::local::LocalFileSystem::new().with_fsync(true);
        let prefix = Path::from_absolute_path(path)
            .map_err(|e| VaultError::BadUrl(path.display().to_string(), e.to_string()))?;
        let bare = Self::bare(Arc::new(inner), prefix, format!("file://{}", path.display()));
        Ok(Store { local: Some(path.to_path_buf()), ..bare })
    }

    /// A store that a test made.
    pub fn from_object_store(inner: Arc<dyn ObjectStore>) -> Self {
        Self::bare(inner, Path::default(), "test:".into())
    }

    fn bare(inner: Arc<dyn ObjectStore>, prefix: Path, url: String) -> Self {
        Store {
            inner,
            prefix,
            url,
            local: None,
            requests: Arc::default(),
            versions: None,
            lock: None,
            unlocked: Arc::default(),
            class: None,
        }
    }

    /// The same store, which gives data packs this class. Only S3 does.
    pub fn with_class(mut self, class: Option<StorageClass>) -> Self {
        self.class = class.filter(|_| self.versions.is_some());
        self
    }
}
