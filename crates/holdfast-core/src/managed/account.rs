//! The account: who we are in it, and what it may hold.

use super::error::Result;
use super::source::Region;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Who AWS says we are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// 12 digits.
    pub account: String,
    /// ARN of the user or of the assumed role.
    pub arn: String,
}

impl Identity {
    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub fn partition(&self) -> &str {
        self.arn.split(':').nth(1).unwrap_or("aws")
    }
}

/// A limit of the account in one region, as RDS counts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// `ManualSnapshots`, `ManualClusterSnapshots`, `DBInstances`, `AllocatedStorage` …
    pub name: String,
    pub used: u64,
    pub max: u64,
}

/// The account.
#[async_trait]
pub trait Account: Send + Sync {
    /// Who we are; the one call that no policy can deny.
    async fn identity(&self) -> Result<Identity>;

    /// The account's limits in a region.
    async fn quotas(&self, region: &Region) -> Result<Vec<Quota>>;
}
