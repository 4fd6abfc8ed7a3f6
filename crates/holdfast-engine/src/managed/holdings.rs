//! What there is of the managed databases of a policy, wherever it lies: [`list`].
//!
//! One survey of all regions that the policy names, each asked once and in parallel; then everything is given to the
//! database that it belongs to. A region that cannot be seen is a failure that is shown beside what could be: missing
//! is not empty.

use super::copy::{is_ours, moment};
use holdfast_core::DatabaseName;
use holdfast_core::managed::{
    AutomatedBackup, AutomatedKind, Cloud, Engine, PointStatus, RecoveryPoint, Region, RestorableWindow,
    Snapshot, SnapshotKind, Source, SurveyScope, tags as keys,
};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;

/// A database of the policy, and the regions where something of it may be.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub name: DatabaseName,
    pub source: Source,
    /// Beside the source's own.
    pub regions: Vec<Region>,
}

/// One thing that can be restored.
#[derive(Debug, Clone, Serialize)]
pub struct Kept {
    /// `snapshot`, `copy`, `automated`, `recovery-point`, `continuous`, `retained`, `replicated`, `shared`.
    pub kind: &'static str,
    /// Identifier, or the ARN of what has none.
    pub id: String,
    pub arn: String,
    pub region: Region,
    /// The AWS Backup vault; `None` for snapshots of a region.
    pub vault: Option<String>,
    /// In the provider's words.
    pub state: String,
    pub restorable: bool,
    /// The moment that its data shows.
    pub taken: Option<Timestamp>,
    /// To any second of this instead.
    pub window: Option<RestorableWindow>,
    /// When the provider removes it by itself.
    pub delete_at: Option<Timestamp>,
    pub size_bytes: Option<u64>,
    pub encrypted: bool,
    /// Holdfast made it.
    pub ours: bool,
    pub tier: Option<String>,
    pub note: Option<String>,
    /// When a restore of it was last shown to work.
    pub verified: Option<Timestamp>,
}

/// A database and what is kept of it.
#[derive(Debug, Clone, Serialize)]
pub struct Holdings {
    pub database: String,
    pub source: Source,
    /// `None`: it is not there, or its region could not be seen (see the failures).
    pub status: Option<String>,
    pub window: Option<RestorableWindow>,
    /// Newest first.
    pub kept: Vec<Kept>,
}

/// All of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Listing {
    pub databases: Vec<Holdings>,
    /// Region and reason.
    pub failures: Vec<(Region, String)>,
}

/// Looks at everything once.
pub async fn list(cloud: &dyn Cloud, wanted: &[Wanted]) -> Listing {
    let regions: BTreeSet<Region> =
        wanted.iter().flat_map(|w| w.regions.iter().chain([&w.source.region])).cloned().collect();
    let regions: Vec<Region> = regions.into_iter().collect();
    let engines: BTreeSet<Engine> = wanted.iter().map(|w| w.source.engine).collect();
    let scope = SurveyScope { engines: engines.into_iter().collect(), ..SurveyScope::backups() };
    let surveys = cloud.survey(&regions, &scope).await;
    let mut out = Listing::default();
    for s in &surveys {
        out.failures.extend(s.failures.iter().map(|e| (s.region.clone(), e.to_string())));
    }
    for w in wanted {
        let mut kept = Vec::new();
        for s in &surveys {
            kept.extend(s.snapshots.iter().filter(|x| is_of(x, w)).map(snapshot));
            kept.extend(s.automated.iter().filter(|x| automated_is_of(x, w)).map(automated));
            kept.extend(s.points.iter().filter(|x| point_is_of(x, w)).map(point));
        }
        // What AWS Backup made is there twice: as a point of a vault and as a snapshot of the region.
        let points: BTreeSet<String> =
            kept.iter().filter(|k| k.vault.is_some()).map(|k| k.arn.clone()).collect();
        kept.retain(|k| k.vault.is_some() || !points.contains(&k.arn));
        kept.sort_by_key(|k| std::cmp::Reverse((k.taken.or(k.window.map(|w| w.latest)), k.id.clone())));
        let live = surveys.iter().flat_map(|s| &s.databases).find(|d| d.source == w.source);
        out.databases.push(Holdings {
            database: w.name.to_string(),
            source: w.source.clone(),
            status: live.map(|d| d.status.to_string()),
            window: live.and_then(|d| d.window),
            kept,
        });
    }
    out
}

/// By our tag; else by the source that it names. A copy says where it came from, so its region is not the source's.
fn is_of(s: &Snapshot, w: &Wanted) -> bool {
    if is_ours(s, w.name.as_str(), &w.source) {
        return true;
    }
    // A copy of ours, even of another source, says where it came from.
    let from = s.tags.get(keys::COPY_FROM_REGION);
    let from = from.or(s.copied_from_region.as_ref().map(Region::as_str)).unwrap_or(s.at.region.as_str());
    s.at.engine == w.source.engine && s.source_id == w.source.id && from == w.source.region.as_str()
}

fn automated_is_of(a: &AutomatedBackup, w: &Wanted) -> bool {
    // Of a living source it is the restorable window, which is shown by itself.
    a.kind != AutomatedKind::Live
        && a.at.engine == w.source.engine
        && a.at.id == w.source.id
        && a.source_region == w.source.region
}

fn point_is_of(p: &RecoveryPoint, w: &Wanted) -> bool {
    // arn:aws:rds:REGION:ACCOUNT:db:ID, or …:cluster:ID
    let mut parts = p.resource_arn.split(':').skip(3);
    let region = parts.next();
    let kind = parts.nth(1);
    let id = parts.next();
    let own = if w.source.engine.is_cluster() { "cluster" } else { "db" };
    p.engine == w.source.engine
        && region == Some(w.source.region.as_str())
        && kind == Some(own)
        && (id == Some(w.source.id.as_str()) || p.resource_id.as_deref() == Some(w.source.id.as_str()))
}

fn snapshot(s: &Snapshot) -> Kept {
    let copied = s.copied_from.is_some() || s.tags.get(keys::COPY_OF).is_some();
    Kept {
        kind: match s.kind {
            SnapshotKind::Automated => "automated",
            SnapshotKind::Shared => "shared",
            SnapshotKind::AwsBackup => "recovery-point",
            _ if copied => "copy",
            _ => "snapshot",
        },
        id: s.at.id.clone(),
        arn: s.arn.clone(),
        region: s.at.region.clone(),
        vault: None,
        state: s.status.to_string(),
        restorable: s.status.is_available(),
        taken: moment(s),
        window: None,
        delete_at: s.tags.expires(),
        size_bytes: s.full_bytes.or(Some(u64::from(s.size_gib) << 30)),
        encrypted: s.encrypted,
        ours: s.tags.is_ours(),
        tier: s.tags.get(keys::TIER).map(str::to_string),
        note: s.tags.get(keys::NOTE).map(str::to_string),
        verified: s.tags.get(keys::VERIFIED).and_then(|t| t.parse().ok()),
    }
}

fn automated(a: &AutomatedBackup) -> Kept {
    Kept {
        kind: match a.kind {
            AutomatedKind::Replicated => "replicated",
            _ => "retained",
        },
        id: a.resource_id.clone(),
        arn: a.arn.clone().unwrap_or_default(),
        region: a.at.region.clone(),
        vault: None,
        state: a.status.to_string(),
        restorable: a.window.is_some(),
        taken: None,
        window: a.window,
        delete_at: None,
        size_bytes: a.size_gib.map(|g| u64::from(g) << 30),
        encrypted: a.encrypted,
        ours: a.tags.is_ours(),
        tier: None,
        note: None,
        verified: None,
    }
}

fn point(p: &RecoveryPoint) -> Kept {
    Kept {
        kind: if p.continuous { "continuous" } else { "recovery-point" },
        id: p.snapshot_id().unwrap_or(&p.arn).to_string(),
        arn: p.arn.clone(),
        region: p.region.clone(),
        vault: Some(p.vault.clone()),
        state: match &p.status {
            PointStatus::Other(text) => text.clone(),
            known => format!("{known:?}").to_lowercase(),
        },
        restorable: p.status.is_restorable(),
        taken: Some(p.created),
        window: p.window,
        delete_at: p.delete_at,
        size_bytes: p.size_bytes,
        encrypted: p.encrypted,
        ours: p.tags.as_ref().is_some_and(|t| t.is_ours()),
        tier: None,
        note: p.status_message.clone(),
        verified: None,
    }
}
