//! Tags: Holdfast's own keys, and what AWS takes as a value.
//!
//! Whatever Holdfast makes carries [`OPERATION`]; retention, reaping and the IAM policy of the role `delete` look at
//! tags only, never at prefixes or sort order.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The operation that made it: [`Operation`](super::Operation). Its presence means "Holdfast made this".
pub const OPERATION: &str = "holdfast:operation";
/// The database in the policy.
pub const DATABASE: &str = "holdfast:database";
/// The tier whose retention decides; absent on what was made by hand with Holdfast.
pub const TIER: &str = "holdfast:tier";
/// The run that made it.
pub const RUN: &str = "holdfast:run";
/// The resource id (`db-…`, `cluster-…`) of the source: it survives a rename, and a new source of the same name has
/// another.
pub const SOURCE: &str = "holdfast:source";
/// End of life of a temporary resource, RFC 3339; the reaper removes what is past it.
pub const EXPIRES: &str = "holdfast:expires";
/// On a copy of a cluster's snapshot, which AWS dates anew: when the original was taken, RFC 3339.
pub const TAKEN: &str = "holdfast:taken";
/// Why it was made, as a person wrote it (cleaned).
pub const NOTE: &str = "holdfast:note";
/// ARN of the snapshot that this is a copy of.
pub const COPY_OF: &str = "holdfast:copy-of";
pub const COPY_FROM_REGION: &str = "holdfast:copy-from-region";
/// When a restore of it was last shown to work, RFC 3339.
pub const VERIFIED: &str = "holdfast:verified";
/// When the quarantine of a replaced database ends, RFC 3339. Not [`EXPIRES`]: nothing reaps it.
pub const QUARANTINED_UNTIL: &str = "holdfast:quarantined-until";
/// The state of a replaced instance: `quarantine`; goes with [`QUARANTINED_UNTIL`].
pub const STATE: &str = "holdfast:state";

/// AWS takes 50 tags a resource, keys of 128 and values of 256 characters.
const VALUE_MAX: usize = 256;

/// Keys and values of a resource, without AWS's own (`aws:…`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(pub BTreeMap<String, String>);

impl Tags {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Adds a tag; the value is cleaned by [`clean_value`].
    pub fn set(&mut self, key: &str, value: &str) {
        self.0.insert(key.to_string(), clean_value(value));
    }

    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.set(key, value);
        self
    }

    pub fn operation(&self) -> Option<&str> {
        self.get(OPERATION)
    }

    /// True if Holdfast made it.
    pub fn is_ours(&self) -> bool {
        self.0.contains_key(OPERATION)
    }

    /// The end of life, if it has one that can be read.
    pub fn expires(&self) -> Option<jiff::Timestamp> {
        self.get(EXPIRES)?.parse().ok()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Tags {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Tags(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

/// What AWS takes as the value of a tag: letters, digits, spaces and `_.:/=+-@`, 256 characters. Others become `_`.
pub fn clean_value(text: &str) -> String {
    text.trim()
        .chars()
        .map(|c| if c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c) { c } else { '_' })
        .take(VALUE_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cleaned() {
        assert_eq!(clean_value("before \"v2\"\nmigration (ünder)"), "before _v2__migration _ünder_");
        assert_eq!(clean_value(&"ü".repeat(300)).chars().count(), 256);
    }

    #[test]
    fn a_temporary_resource_says_until_when() {
        let tags = Tags::default().with(OPERATION, "r1").with(EXPIRES, "2026-11-21T10:00:00Z");
        assert!(tags.is_ours());
        assert_eq!(tags.expires().unwrap().to_string(), "2026-11-21T10:00:00Z");
        assert!(Tags::default().with(EXPIRES, "soon").expires().is_none());
    }
}
