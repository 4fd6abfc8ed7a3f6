//! KMS keys: without its key, a snapshot is noise.

use super::error::Result;
use super::source::Region;
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The state of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    Enabled,
    Disabled,
    /// It will be destroyed, with everything that it encrypts.
    PendingDeletion,
    Unavailable,
    Other(String),
}

/// A key of KMS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KmsKey {
    pub region: Region,
    pub arn: String,
    pub state: KeyState,
    /// `aws/rds` and its like: cannot leave the account.
    pub aws_managed: bool,
    pub multi_region: bool,
    pub deletion: Option<Timestamp>,
}

/// Keys.
#[async_trait]
pub trait Keys: Send + Sync {
    /// By id, ARN, or alias (`alias/backup`).
    async fn key(&self, region: &Region, id: &str) -> Result<KmsKey>;
}
