//! Targets of RDS Proxies: what a cutover switches.

use super::error::Result;
use super::source::{Region, Source};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Whether a proxy can reach a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetHealth {
    /// `AVAILABLE`, `REGISTERING`, `UNAVAILABLE` …
    pub state: String,
    /// `AUTH_FAILURE`, `CONNECTION_FAILED`, `PENDING_PROXY_CAPACITY` …
    pub reason: Option<String>,
    pub description: Option<String>,
}

/// An instance or cluster behind a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyTarget {
    /// Identifier of the instance or cluster.
    pub id: String,
    pub is_cluster: bool,
    /// `None` for a cluster as such: its instances have it.
    pub health: Option<TargetHealth>,
}

/// RDS Proxies. The target group is `default`: it cannot be renamed, targets are exchanged.
#[async_trait]
pub trait Proxies: Send + Sync {
    /// Endpoint of a proxy.
    async fn proxy_endpoint(&self, region: &Region, proxy: &str) -> Result<String>;

    async fn proxy_targets(&self, region: &Region, proxy: &str) -> Result<Vec<ProxyTarget>>;

    /// Puts a database behind the proxy. There already is success.
    async fn register_target(&self, proxy: &str, target: &Source) -> Result<()>;

    /// Takes a database away from the proxy; open connections are cut. Away already is success.
    async fn deregister_target(&self, proxy: &str, target: &Source) -> Result<()>;
}
