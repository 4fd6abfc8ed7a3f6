//! What was seen at the provider and in the evidence: [`Observed`], empty offline.

use crate::id::DatabaseName;
use crate::managed::{DailyWindow, WeeklyWindow};
use crate::policy::VerifyLevel;
use crate::time::Duration;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// All that rules can be told beside the policy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// Somebody looked. Without it the absence of evidence says nothing.
    pub looked: bool,
    pub databases: BTreeMap<DatabaseName, SeenDatabase>,
    /// By name of the region.
    pub regions: BTreeMap<String, SeenRegion>,
    /// That exports go to.
    pub buckets: Vec<SeenBucket>,
}

/// What was seen of a managed database. `None`: not looked at, or not known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SeenDatabase {
    /// Whether the source is there.
    pub exists: Option<bool>,
    pub resource_id: Option<String>,
    pub encrypted: Option<bool>,
    pub kms_key: Option<String>,
    /// In UTC, as the provider has it.
    pub backup_window: Option<DailyWindow>,
    /// In UTC.
    pub maintenance_window: Option<WeeklyWindow>,
    pub security_groups: Vec<String>,
    /// Slowest of the last ones.
    pub snapshot_duration: Option<Duration>,
    pub copy_duration: Option<Duration>,
    pub verified: Verified,
    /// The newest success of each drill of the policy, by its name.
    pub drills: BTreeMap<String, Timestamp>,
    /// Measured restores: 95 of 100 were faster.
    pub restore_p95: Option<Duration>,
    /// Bytes that it has allocated or uses.
    pub size: Option<u64>,
    /// Dollars that its backups cost last month.
    pub cost_last_month: Option<f64>,
}

/// The newest verification that succeeded, by the level that it reached. One of a lower level than the policy's is
/// none for the policy: a login proves no content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified(BTreeMap<VerifyLevel, Timestamp>);

impl Verified {
    pub fn add(&mut self, level: VerifyLevel, at: Timestamp) {
        let newest = self.0.entry(level).or_insert(at);
        *newest = at.max(*newest);
    }

    /// The newest that reached this level, or a higher one.
    pub fn at_least(&self, level: VerifyLevel) -> Option<Timestamp> {
        self.0.range(level..).map(|(_, at)| *at).max()
    }

    /// The newest that did not, and how far it came.
    pub fn below(&self, level: VerifyLevel) -> Option<(VerifyLevel, Timestamp)> {
        self.0.range(..level).map(|(l, at)| (*l, *at)).max_by_key(|(_, at)| *at)
    }
}

/// What others have in a region, beside the snapshots of this policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SeenRegion {
    /// Manual snapshots of instances that no rule of this policy made.
    pub other_instance_snapshots: u32,
    /// The same of clusters.
    pub other_cluster_snapshots: u32,
    /// What the account may have there, if the provider told; it counts more than any table.
    pub instance_snapshot_quota: Option<u64>,
    /// The same of clusters.
    pub cluster_snapshot_quota: Option<u64>,
}

/// A bucket that exports go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenBucket {
    pub name: String,
    pub versioned: bool,
    /// A lifecycle rule lets noncurrent versions go.
    pub noncurrent_expiry: bool,
}
