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

impl Status {
    /// Failed, for reasons of the place that it was put in: its network, its groups, too few machines of its class. The
    /// same guide has them; `incompatible-restore` is about the backup.
    pub fn is_hindered(&self) -> bool {
        matches!(self.0.as_str(), "insufficient-capacity" | "storage-full")
            || (self.0.starts_with("incompatible-") && self.0 != "incompatible-restore")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hinders_says_nothing_about_the_backup() {
        for (text, failed, hindered) in [
            ("incompatible-network", true, true),
            ("insufficient-capacity", true, true),
            ("incompatible-restore", true, false),
            ("restore-error", true, false),
            ("creating", false, false),
        ] {
            let s = Status::new(text);
            assert_eq!((s.is_failed(), s.is_hindered()), (failed, hindered), "{text}");
        }
    }
}
