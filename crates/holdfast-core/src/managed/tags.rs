//! Tags: Holdfast's own keys, and what AWS takes as a value.
//!
//! Whatever Holdfast makes carries [`OPERATION`]; retention, reaping and the IAM policy of the role `delete` look at
//! tags only, never at prefixes or sort order.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The operation that made it: [`Operation`](super::Operation). Its presence means "Holdfast made this", except on a
/// snapshot: see [`SNAPSHOT`].
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
/// On a snapshot: which one it is, [`snapshot_mark`]. Snapshots inherit the tags of their database, copies those of
/// their original, and databases those of the snapshot that they were restored from, whoever makes them; so no other
/// tag says that Holdfast made a snapshot. This one, inherited, names another.
pub const SNAPSHOT: &str = "holdfast:snapshot";
/// On a database that Holdfast restored: which one it is, [`database_mark`]. For the same reason: what somebody
/// restores from a snapshot of ours may inherit all other tags, its end of life included.
pub const MADE: &str = "holdfast:made";
/// On a database: the resource ids of those that it replaced in cutovers, newest first, with spaces between.
pub const REPLACES: &str = "holdfast:replaces";
/// End of life of a temporary resource, RFC 3339; the reaper removes what is past it.
pub const EXPIRES: &str = "holdfast:expires";
/// On a copy of a cluster's snapshot, which AWS dates anew: when the original was taken, RFC 3339.
pub const TAKEN: &str = "holdfast:taken";
/// Why it was made, as a person wrote it (cleaned).
pub const NOTE: &str = "holdfast:note";
/// ARN of the snapshot that this is a copy of.
pub const COPY_OF: &str = "holdfast:copy-of";
pub const COPY_FROM_REGION: &str = "holdfast:copy-from-region";
/// When a restore of it was last shown to work, RFC 3339, and how far: `2026-11-21T10:00:00Z L4`.
pub const VERIFIED: &str = "holdfast:verified";
/// When the quarantine of a replaced database ends, RFC 3339. Not [`EXPIRES`]: nothing reaps it.
pub const QUARANTINED_UNTIL: &str = "holdfast:quarantined-until";
/// The state of a replaced instance: `quarantine`; goes with [`QUARANTINED_UNTIL`].
pub const STATE: &str = "holdfast:state";

/// AWS takes 50 tags a resource, keys of 128 and values of 256 characters.
pub const VALUE_MAX: usize = 256;

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

    /// When a restore of it was last shown to work, and how far.
    pub fn verified(&self) -> Option<(jiff::Timestamp, Option<&str>)> {
        let mut words = self.get(VERIFIED)?.split(' ');
        Some((words.next()?.parse().ok()?, words.next()))
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

/// The value of [`SNAPSHOT`] for one snapshot: region and identifier, in lower case as AWS keeps it.
pub fn snapshot_mark(at: &super::SnapshotRef) -> String {
    clean_value(&format!("{}/{}", at.region, at.id.to_ascii_lowercase()))
}

/// The same of a copy: what a copy says of its original counts only beside this, because a database that was restored
/// from one, and every snapshot of it, may inherit that too.
pub fn copy_mark(at: &super::SnapshotRef) -> String {
    clean_value(&format!("{}/copy", snapshot_mark(at)))
}

/// The value of [`MADE`] for one database.
pub fn database_mark(source: &super::Source) -> String {
    clean_value(&format!("{}/{}", source.region, source.id.to_ascii_lowercase()))
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

    #[test]
    fn when_and_how_far_it_was_verified() {
        let tags = |text: &str| Tags::default().with(VERIFIED, text);
        let at = "2026-11-21T10:00:00Z".parse().unwrap();
        assert_eq!(tags("2026-11-21T10:00:00Z L4").verified(), Some((at, Some("L4"))));
        assert_eq!(tags("2026-11-21T10:00:00Z").verified(), Some((at, None)));
        assert_eq!(tags("yesterday").verified(), None);
    }
}
