//! Route 53: the record that a cutover points elsewhere.

use super::error::Result;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// A plain record set (no alias, no weights).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRecord {
    /// `db.example.com`, without the dot at the end.
    pub name: String,
    /// `CNAME`, `A` …
    pub kind: String,
    /// Seconds.
    pub ttl: u32,
    pub values: Vec<String>,
}

/// A change that Route 53 is spreading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsChange {
    pub id: String,
    /// True once every name server of the zone has it.
    pub in_sync: bool,
}

/// Records of hosted zones. Route 53 has no regions.
#[async_trait]
pub trait Dns: Send + Sync {
    /// `None` if there is no such record. A record that is an alias or one of several with weights is
    /// `InvalidRequest`: Holdfast could not put it back.
    async fn record(&self, zone: &str, name: &str, kind: &str) -> Result<Option<DnsRecord>>;

    /// Creates or replaces it. Doing it twice changes nothing.
    async fn upsert_record(&self, zone: &str, record: &DnsRecord) -> Result<DnsChange>;

    async fn delete_record(&self, zone: &str, record: &DnsRecord) -> Result<DnsChange>;

    async fn dns_change(&self, id: &str) -> Result<DnsChange>;
}
