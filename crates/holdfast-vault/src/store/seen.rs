//! What this role can see of versions.

use super::Store;
use super::s3::S3;
use super::versions::{Hidden, Oldest, State, Versions};
use crate::error::{Result, StoreError};

impl Store {
    /// A role that may not see versions works without, and so does who met a gateway that has none.
    pub(crate) fn unseen(&self, e: StoreError) -> Result<Option<Oldest>, StoreError> {
        match self.sees() {
            true => Err(e),
            false => Ok(None),
        }
    }

    /// Versions are kept, as far as is known, and can be listed.
    pub(super) fn sees(&self) -> bool {
        self.versions.as_ref().is_some_and(|v| v.state() == State::Kept)
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
}
