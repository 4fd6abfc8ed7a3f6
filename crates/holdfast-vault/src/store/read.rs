//! Reading: the oldest version of a name, whole or in part, tried again when a body breaks off.

use super::error::{chain_text, is_short};
use super::versions::{Oldest, State};
use super::{ATTEMPTS, Listed, Store, Tries, backoff, count, stamp, store_error};
use crate::error::{Result, StoreError, StoreErrorKind, VaultError};
use bytes::Bytes;
use object_store::{GetOptions, GetRange, ObjectStoreExt as _};
use std::ops::Range;

impl Store {
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

    /// The first bytes of one version of a name, up to `len` of them.
    pub async fn head_of_version(&self, name: &str, id: &str, len: u64) -> Result<Bytes> {
        let range = Some(GetRange::Bounded(0..len));
        let opts = GetOptions { range, version: Some(id.to_string()), ..Default::default() };
        Ok(self.read_some("read", name, opts).await?.0)
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
