//! Secrets Manager: passwords for verification, and the secret that a cutover points elsewhere.

use super::Operation;
use super::error::Result;
use super::source::Region;
use crate::secret::Secret;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// A value and its version.
#[derive(Debug, Clone)]
pub struct SecretValue {
    pub arn: String,
    pub version: String,
    pub value: Secret,
}

/// A version without its value, for a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretFacts {
    pub arn: String,
    pub version: String,
}

/// Secrets.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// The current value; `id` is a name or an ARN.
    async fn secret(&self, region: &Region, id: &str) -> Result<SecretValue>;

    /// A certain version: what a roll back puts back.
    async fn secret_version(&self, region: &Region, id: &str, version: &str) -> Result<SecretValue>;

    /// Puts a new current value. The operation decides the version's id: put again, it is the same version.
    async fn put_secret(
        &self,
        region: &Region,
        id: &str,
        value: &Secret,
        op: &Operation,
    ) -> Result<SecretFacts>;
}
