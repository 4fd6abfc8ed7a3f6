//! The record of every call that changes something: [`ChangeLog`].

use super::error::ManagedError;
use super::source::Region;
use serde::{Deserialize, Serialize};

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "outcome")]
pub enum Outcome {
    /// About to be sent. If nothing follows, the process died: the change may have happened.
    Attempted,
    /// The provider took it.
    Done,
    /// It had been done already: by the same operation, or (a removal) by anybody.
    Adopted,
    /// Refused, or not known whether it happened.
    Failed { why: String },
}

/// One call that changes something at the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub at: jiff::Timestamp,
    /// `None` for what has no region, such as DNS.
    pub region: Option<Region>,
    /// Of a vault in another account than the database's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// In the words of IAM: `rds:CreateDBSnapshot`.
    pub action: String,
    /// Identifier or ARN; never a secret.
    pub resource: String,
    pub operation: Option<String>,
    /// For AWS support; absent while attempted.
    pub request_id: Option<String>,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Receives every change, in order, from many threads. Later the audit log.
///
/// # Errors
/// An attempt that cannot be recorded is not made: the caller gets an error of kind `Other` instead.
pub trait ChangeLog: Send + Sync + std::fmt::Debug {
    fn record(&self, change: &Change) -> std::io::Result<()>;
}

impl Outcome {
    pub fn failed(e: &ManagedError) -> Self {
        Outcome::Failed { why: e.to_string() }
    }
}
