//! The state of an instance, cluster or snapshot, in AWS's words: [`Status`].

use serde::{Deserialize, Serialize};
use std::fmt;

/// `available`, `creating`, `backing-up` … kept as AWS says it, with the questions that callers ask of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Status(String);

impl Status {
    pub fn new(text: impl Into<String>) -> Self {
        Status(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Ready for whatever comes next.
    pub fn is_available(&self) -> bool {
        self.0 == "available"
    }

    pub fn is_deleting(&self) -> bool {
        self.0 == "deleting"
    }

    pub fn is_stopped(&self) -> bool {
        self.0 == "stopped"
    }

    /// It will not get better by waiting (AuroraUserGuide and UserGuide, "Viewing DB instance status").
    pub fn is_failed(&self) -> bool {
        matches!(
            self.0.as_str(),
            "failed"
                | "restore-error"
                | "storage-full"
                | "inaccessible-encryption-credentials"
                | "cloning-failed"
                | "migration-failed"
                | "insufficient-capacity"
        ) || self.0.starts_with("incompatible-")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
