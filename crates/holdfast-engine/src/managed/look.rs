//! One look at everything that concerns a managed database: what [`super::doctor`] judges, and what
//! `validate --live` tells the rules.
//!
//! [`look`] asks in parallel and makes no change. A question that failed is kept as its error: missing is not
//! empty. [`Timings`] come from the records of this host's operations; another host's are not known here.

use super::abroad::{Gates, Unseen};
use super::holdings::{Holdings, Listing, Wanted, list};
use super::journal::{Ended, Outline};
use super::lineage::Lineage;
use super::recover::Scenario;
use super::verify::evidence;
use super::{Managed, expected, measured, observed, recovery, tiers};
use crate::error::{EngineError, Result};
use futures::{StreamExt as _, stream};
use holdfast_core::managed::{
    BackupJob, BackupVault, Cloud, Database, Identity, JobFilter, KmsKey, ManagedError, Quota, Region,
};
use holdfast_core::policy::managed::VaultPlace;
use holdfast_core::policy::{self, Drill, ManagedPlan, ManagedVault, Policy};
use holdfast_core::rules::{SeenDatabase, SeenRegion, Verified};
use holdfast_core::time::Duration;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Questions under way at once, beside those of the survey.
const AT_ONCE: usize = 8;
/// How far back jobs of AWS Backup are looked at.
const JOBS_BACK: SignedDuration = SignedDuration::from_hours(7 * 24);
/// So many operations of each kind are measured.
const NEWEST: usize = 20;

/// A vault of the policy, and what there is of it.
#[derive(Debug)]
pub struct SeenVault {
    /// In the policy.
    pub name: String,
    pub region: Region,
    /// Of AWS Backup; `None`: it is not there, or it is the snapshots of a region, which always are.
    pub vault: Option<Result<Option<BackupVault>>>,
    /// The key that the policy names for it.
    pub key: Option<Result<KmsKey>>,
}

/// All that was seen.
#[derive(Debug)]
pub struct Seen {
    pub identity: Result<Identity>,
    /// `None`: it is gone.
    pub live: Result<Option<Database>>,
    pub source_key: Option<Result<KmsKey>>,
    pub holdings: Holdings,
    /// Regions of which not everything could be seen, with the reason.
    pub failures: Vec<(Region, String)>,
    /// Vaults of other accounts that could not be seen, and the ways into those accounts.
    pub unseen: Vec<Unseen>,
    pub gates: Gates,
    pub quotas: Vec<(Region, Result<Vec<Quota>>)>,
    pub vaults: Vec<SeenVault>,
    /// Of AWS Backup, for this database, in the last seven days.
    pub jobs: Vec<(Region, Result<Vec<BackupJob>>)>,
    /// Operations of this host that have not ended.
    pub unfinished: Vec<Outline>,
    pub timings: Timings,
    /// By tier: since when it has been expected to make points.
    pub expected: BTreeMap<String, Timestamp>,
}

/// How long things took here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Timings {
    pub snapshot: Option<Duration>,
    pub copy: Option<Duration>,
    /// 95 of 100 were faster.
    pub restore_p95: Option<Duration>,
    pub verified: Verified,
    /// Recoveries that succeeded: what happened, or was rehearsed, and when. Newest first.
    pub recovered: Vec<(Scenario, Timestamp)>,
}

/// Looks at everything.
///
/// # Errors
/// The journal or the policy cannot be read. What the provider refuses is in the result.
pub async fn look(
    m: &Managed,
    policy: &Policy,
    plan: &ManagedPlan,
    gates: Gates,
    now: Timestamp,
) -> Result<Seen> {
    let home = &m.source.region;
    let cloud: &dyn Cloud = &*m.cloud;
    // A convenience: that it cannot be read keeps nobody from looking.
    let seen = observed::last(m).unwrap_or_else(|e| {
        m.monitor.warning(e.to_string());
        None
    });
    let remembered = seen.map(|o| Lineage::seen(&o.database)).unwrap_or_default();
    let regions = tiers::regions(policy, plan, &gates)?;
    let (name, source) = (m.name.clone(), m.source.clone());
    let resource_id = policy.databases.get(&m.name).and_then(|d| d.managed.as_ref()?.resource_id.clone());
    let wanted = Wanted { name, source, regions, remembered, resource_id, gates: gates.clone() };
    let mut regions: BTreeSet<Region> = wanted.regions.iter().cloned().collect();
    regions.insert(home.clone());
    let survey = async { list(cloud, std::slice::from_ref(&wanted)).await };
    let (identity, live, listing, vaults) = futures::join!(
        cloud.identity(),
        cloud.describe(&m.source),
        survey,
        vaults(cloud, policy, plan, &gates)
    );
    let live = or_gone(live);
    let source_key = match &live {
        Ok(Some(Database { storage, .. })) => match &storage.key {
            Some(k) => Some(cloud.key(home, k).await.map_err(EngineError::from)),
            None => None,
        },
        _ => None,
    };
    let quotas = stream::iter(&regions)
        .map(async |r| (r.clone(), cloud.quotas(r).await.map_err(EngineError::from)))
        .buffered(AT_ONCE)
        .collect()
        .await;
    let jobs = match &live {
        Ok(Some(d)) if vaults.iter().any(|v| v.vault.is_some()) => {
            vec![(home.clone(), jobs(cloud, home, &d.arn, now).await)]
        }
        _ => Vec::new(),
    };
    let Listing { mut databases, failures, unseen, .. } = listing;
    Ok(Seen {
        identity: identity.map_err(EngineError::from),
        live,
        source_key,
        holdings: databases.remove(0),
        failures,
        unseen,
        gates,
        quotas,
        vaults,
        jobs,
        unfinished: m.journal.unfinished(None, Some(m.name.as_str()))?,
        timings: timings(m)?,
        expected: expected::since(m, plan, now),
    })
}

fn or_gone<T>(found: Result<T, ManagedError>) -> Result<Option<T>> {
    match found {
        Ok(d) => Ok(Some(d)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

async fn jobs(cloud: &dyn Cloud, region: &Region, arn: &str, now: Timestamp) -> Result<Vec<BackupJob>> {
    let created_after = now.checked_sub(JOBS_BACK).ok();
    let filter = JobFilter { resource_arn: Some(arn.to_string()), created_after };
    Ok(cloud.backup_jobs(region, &filter).await?)
}

/// Of every vault that tiers and copies of the plan go to, and that somebody gets to.
async fn vaults(cloud: &dyn Cloud, policy: &Policy, plan: &ManagedPlan, gates: &Gates) -> Vec<SeenVault> {
    let tiers = plan.tiers.values().filter_map(|t| t.vault.as_ref());
    let names: BTreeSet<&String> = tiers.chain(plan.copies.values().map(|c| &c.to)).collect();
    let own = |v: &&ManagedVault| gates.of(&v.name).is_some() || (v.profile.is_none() && v.role.is_none());
    let known = names.iter().filter_map(|n| policy.managed_vaults.get(*n)).filter(own);
    stream::iter(known)
        .filter_map(async |v| {
            let region: Region = v.place.region().parse().ok()?;
            let there = match gates.of(&v.name) {
                // Why not is among what the survey could not see.
                Some(gate) => Some(gate.enter().await.ok()?),
                None => None,
            };
            let cloud = there.as_deref().unwrap_or(cloud);
            let vault = match &v.place {
                VaultPlace::Snapshots { .. } => None,
                VaultPlace::AwsBackup { vault, .. } => Some(or_gone(cloud.vault(&region, vault).await)),
            };
            let key = match &v.kms_key {
                Some(k) => Some(cloud.key(&region, k).await.map_err(EngineError::from)),
                None => None,
            };
            Some(SeenVault { name: v.name.clone(), region, vault, key })
        })
        .collect()
        .await
}

/// What the records of this host say.
///
/// # Errors
/// A record that cannot be read.
pub fn timings(m: &Managed) -> Result<Timings> {
    let name = m.name.as_str();
    let slowest = |verb: &str| -> Result<Option<Duration>> {
        let all = m.journal.ended(verb, name)?;
        Ok(all.iter().rev().filter(|o| good(o)).take(NEWEST).filter_map(took).max())
    };
    let measured = measured::all(&m.journal, name)?;
    let mut restores: Vec<Duration> =
        measured.iter().take(NEWEST).map(|r| Duration(r.seconds.ceil() as u64)).collect();
    restores.sort();
    let mut shown = Verified::default();
    for v in evidence::newest(&m.journal, name)?.iter().filter(|v| v.passed) {
        v.level.and_then(|l| l.word().parse().ok()).into_iter().for_each(|l| shown.add(l, v.at));
    }
    Ok(Timings {
        snapshot: slowest("backup")?,
        copy: slowest("copy")?,
        restore_p95: p95(&restores),
        verified: shown,
        recovered: recovery::done(&m.journal, name)?,
    })
}

fn good(o: &Outline) -> bool {
    o.ended == Some(Ended::Succeeded)
}

/// From its begin to its end. One that was killed counts its pause as well: rather too long than too short.
fn took(o: &Outline) -> Option<Duration> {
    u64::try_from(o.updated.duration_since(o.begun).as_secs()).ok().map(Duration)
}

/// In the words of the policy.
fn of_policy(s: Scenario) -> policy::Scenario {
    use policy::Scenario as P;
    match s {
        Scenario::AccidentalDeletion => P::Deletion,
        Scenario::Corruption => P::Corruption,
        Scenario::CompleteLoss => P::Loss,
        Scenario::RegionLoss => P::Region,
        Scenario::MaliciousDeletion => P::Malicious,
    }
}

/// `all` is sorted.
fn p95(all: &[Duration]) -> Option<Duration> {
    let at = (all.len() * 95).div_ceil(100).checked_sub(1)?;
    all.get(at).copied()
}

impl Seen {
    /// In the words of the rules.
    pub fn database(&self, plan: &ManagedPlan) -> SeenDatabase {
        let live = self.live.as_ref().ok();
        let d = live.and_then(Option::as_ref);
        SeenDatabase {
            exists: live.map(Option::is_some),
            resource_id: d.map(|d| d.resource_id.clone()),
            encrypted: d.map(|d| d.storage.encrypted),
            kms_key: d.and_then(|d| d.storage.key.clone()),
            backup_window: d.and_then(|d| d.backup.window?.to_string().parse().ok()),
            maintenance_window: d.and_then(|d| d.maintenance_window?.to_string().parse().ok()),
            security_groups: d.map(|d| d.security_groups.clone()).unwrap_or_default(),
            snapshot_duration: self.timings.snapshot,
            copy_duration: self.timings.copy,
            verified: self.verified(),
            drills: self.drills(plan),
            restore_p95: self.timings.restore_p95,
            size: d.and_then(|d| d.storage.allocated_gib).filter(|g| *g > 1).map(|g| u64::from(g) << 30),
            cost_last_month: None,
        }
    }

    /// By this host's records, or by what snapshots say of themselves: another host may have verified.
    pub fn verified(&self) -> Verified {
        let mut all = self.timings.verified.clone();
        for mark in self.holdings.kept.iter().filter_map(|k| k.verified.as_ref()) {
            let level = mark.level.as_ref().and_then(|l| l.parse().ok());
            level.into_iter().for_each(|l| all.add(l, mark.at));
        }
        all
    }

    /// A drill is a recovery that was rehearsed; a real one counts as well.
    fn drills(&self, plan: &ManagedPlan) -> BTreeMap<String, Timestamp> {
        let last = |wanted| self.timings.recovered.iter().find(|(s, _)| of_policy(*s) == wanted);
        let done = |(name, d): (&String, &Drill)| Some((name.clone(), last(d.scenario)?.1));
        plan.drills.iter().filter_map(done).collect()
    }

    /// Manual snapshots of a region that Holdfast made of this database: of instances, and of clusters.
    fn own(&self, region: &Region) -> (u64, u64) {
        let mine = self.holdings.kept.iter().filter(|k| {
            k.region == *region
                && k.account.is_none()
                && k.vault.is_none()
                && k.ours
                && matches!(k.kind, "snapshot" | "copy")
        });
        let n = mine.count() as u64;
        if self.holdings.source.engine.is_cluster() { (0, n) } else { (n, 0) }
    }
}

/// What others have in each region, beside all these databases. Of several accounts the one that others use most.
pub fn others(all: &[Seen]) -> BTreeMap<String, SeenRegion> {
    let mut sums: BTreeMap<(String, Region), Shares> = BTreeMap::new();
    for s in all {
        let Ok(who) = &s.identity else { continue };
        for (region, quotas) in &s.quotas {
            let Ok(quotas) = quotas else { continue };
            let of = |name: &str| quotas.iter().find(|q| q.name == name).cloned();
            let sum = sums.entry((who.account.clone(), region.clone())).or_default();
            let own = s.own(region);
            sum.own = (sum.own.0 + own.0, sum.own.1 + own.1);
            (sum.instances, sum.clusters) = (of("ManualSnapshots"), of("ManualClusterSnapshots"));
        }
    }
    let mut out: BTreeMap<String, SeenRegion> = BTreeMap::new();
    for ((_, region), sum) in sums {
        let found = sum.seen();
        let total = |s: &SeenRegion| s.other_instance_snapshots.saturating_add(s.other_cluster_snapshots);
        let entry = out.entry(region.to_string()).or_insert(found);
        if total(&found) > total(entry) {
            *entry = found;
        }
    }
    out
}

/// Whose snapshots are in a region.
#[derive(Default)]
struct Shares {
    own: (u64, u64),
    instances: Option<Quota>,
    clusters: Option<Quota>,
}

impl Shares {
    fn seen(&self) -> SeenRegion {
        let others = |q: &Option<Quota>, own: u64| {
            let used = q.as_ref().map_or(0, |q| q.used).saturating_sub(own);
            u32::try_from(used).unwrap_or(u32::MAX)
        };
        SeenRegion {
            other_instance_snapshots: others(&self.instances, self.own.0),
            other_cluster_snapshots: others(&self.clusters, self.own.1),
            instance_snapshot_quota: self.instances.as_ref().map(|q| q.max),
            cluster_snapshot_quota: self.clusters.as_ref().map(|q| q.max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_95th_of_a_hundred() {
        let all: Vec<Duration> = (1..=100).map(Duration).collect();
        assert_eq!(p95(&all), Some(Duration(95)));
        assert_eq!(p95(&all[..1]), Some(Duration(1)));
        assert_eq!(p95(&all[..3]), Some(Duration(3)));
        assert_eq!(p95(&[]), None);
    }
}
