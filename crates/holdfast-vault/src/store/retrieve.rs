//! Archived objects of S3: how one stands, and asking for a copy that can be read.
//!
//! An object of an archive class is read from a temporary copy, which somebody has to ask for, which takes
//! minutes to days to come, and which goes again. What was asked for is the store's own knowledge: nothing is
//! kept here, and whoever asks again changes nothing but the date on which a copy goes.
//!
//! Requests: [`Store::archive_state`] is a HEAD, and where that shows no copy a read of one byte, which settles
//! it whatever a gateway says of classes. [`Store::retrieve`] is a POST. Both mean the version that counts.

use super::s3::S3;
use super::versions::State;
use super::{Store, count, xml};
use crate::error::{Result, StoreError, StoreErrorKind};
use holdfast_core::policy::StorageClass;
use holdfast_core::prices::s3::Speed;
use jiff::Timestamp;
use std::sync::atomic::AtomicU64;

/// How an object stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// It can be read: it is in no archive.
    Open,
    /// It can be read from a temporary copy, until then.
    Copied { until: Option<Timestamp> },
    /// A copy was asked for, and is not there yet.
    UnderWay,
    /// Nobody has asked. The class is `None` where the store does not say.
    Archived { class: Option<StorageClass> },
}

/// What HEAD says of an object's archive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Headers {
    pub class: Option<String>,
    pub restore: Option<String>,
}

impl Store {
    /// How an object stands. One request, two where it is not retrieved.
    pub async fn archive_state(&self, name: &str) -> Result<Archive> {
        let Some(v) = &self.versions else { return Ok(Archive::Open) };
        let version = self.version_that_counts(name).await?;
        let mine = |e: StoreError| StoreError { name: name.to_string(), ..e };
        let said = v.s3.head_archive(&v.key(name), version.as_deref()).await.map_err(mine)?;
        match said.restore.as_deref().map(read_restore) {
            Some(Restore { ongoing: true, .. }) => return Ok(Archive::UnderWay),
            Some(Restore { ongoing: false, until }) => return Ok(Archive::Copied { until }),
            None => {}
        }
        match self.get_range_up_to(name, 0..1).await {
            Ok(_) => Ok(Archive::Open),
            Err(e) if e.store_kind() == Some(StoreErrorKind::Archived) => {
                Ok(Archive::Archived { class: said.class.as_deref().and_then(StorageClass::of_api_name) })
            }
            Err(e) => Err(e),
        }
    }

    /// Asks for a copy that stays for `days`, or that one which is there shall stay for `days` from now. It
    /// costs money; asked again it changes nothing while the copy is on its way.
    pub async fn retrieve(&self, name: &str, speed: Speed, days: u16) -> Result<()> {
        let refused = |kind, source| StoreError { op: OP, name: name.to_string(), kind, source };
        let Some(v) = &self.versions else {
            return Err(refused(StoreErrorKind::Unsupported, None).into());
        };
        let version = self.version_that_counts(name).await?;
        match v.s3.restore_object(&v.key(name), version.as_deref(), speed, days).await {
            Ok(()) => Ok(()),
            // `RestoreAlreadyInProgress`. What came of another conflict the next look tells.
            Err(e) if e.kind == StoreErrorKind::Exists => Ok(()),
            // There is nothing to retrieve.
            Err(e) if says(&e, "ObjectAlreadyInActiveTierError") => Ok(()),
            // `InvalidObjectState`: of a class that is read at once, or that this speed does not reach.
            Err(StoreError { kind: StoreErrorKind::Archived, source, .. }) => {
                Err(refused(StoreErrorKind::Unsupported, source).into())
            }
            Err(e) => Err(refused(e.kind, e.source).into()),
        }
    }

    /// The version to name in a request: where nothing lies over an object its plain name will do, which takes
    /// no right to name versions.
    async fn version_that_counts(&self, name: &str) -> Result<Option<String>> {
        let Some(v) = self.kept().await? else { return Ok(None) };
        let known = match v.remembered(name) {
            None => v.pack(name).await.or_else(|e| self.unseen(e))?,
            known => known,
        };
        let found = match known {
            None if v.state() == State::Kept => v.look_up(name).await.or_else(|e| self.unseen(e))?,
            known => known,
        };
        Ok(found.filter(|o| !o.over.is_empty()).map(|o| o.id))
    }
}

/// What a retrieval is called in errors; hints go by it.
pub(crate) const OP: &str = "retrieve";

impl S3 {
    async fn head_archive(&self, key: &str, version: Option<&str>) -> Result<Headers, StoreError> {
        let query: Vec<_> = version.map(|id| ("versionId", id)).into_iter().collect();
        Ok(self.call("ask for the state of", "HEAD", key, &query, None).await?.archive)
    }

    async fn restore_object(
        &self,
        key: &str,
        version: Option<&str>,
        speed: Speed,
        days: u16,
    ) -> Result<(), StoreError> {
        let query: Vec<_> =
            [("restore", "")].into_iter().chain(version.map(|id| ("versionId", id))).collect();
        let body = xml::write_restore_request(speed.api_name(), days);
        self.call(OP, "POST", key, &query, Some(body)).await.map(|_| ())
    }

    /// The counter of a request, as stores bill it.
    pub(super) fn counted(&self, method: &str, key: &str) {
        let counter: &AtomicU64 = match method {
            "DELETE" => &self.requests.delete,
            "PUT" | "POST" => &self.requests.put,
            _ if key.is_empty() => &self.requests.list,
            _ => &self.requests.head,
        };
        count(counter, 1);
    }
}

/// Whether the store gave this code.
pub(super) fn says(e: &StoreError, code: &str) -> bool {
    e.source.as_ref().is_some_and(|s| s.to_string().starts_with(code))
}

/// The header `x-amz-restore`.
#[derive(Debug, PartialEq, Eq)]
struct Restore {
    ongoing: bool,
    until: Option<Timestamp>,
}

/// Reads `ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"`. A date that cannot be read is
/// one that is not known.
fn read_restore(text: &str) -> Restore {
    let value = |key: &str| {
        let rest = text.split_once(&format!("{key}=\""))?.1;
        rest.split_once('"').map(|(v, _)| v)
    };
    let until = value("expiry-date").and_then(|t| jiff::fmt::rfc2822::parse(t).ok()).map(|z| z.timestamp());
    Restore { ongoing: value("ongoing-request") == Some("true"), until }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_tells_whether_a_copy_is_there() {
        let at = "2012-12-21T00:00:00Z".parse().ok();
        let done = r#"ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT""#;
        assert_eq!(read_restore(done), Restore { ongoing: false, until: at });
        assert_eq!(read_restore(r#"ongoing-request="true""#), Restore { ongoing: true, until: None });
        let odd = r#"ongoing-request="false", expiry-date="soon""#;
        assert_eq!(read_restore(odd), Restore { ongoing: false, until: None });
        assert_eq!(read_restore("\"=\""), Restore { ongoing: false, until: None });
    }
}
