//! What there is of the managed databases of a policy, wherever it lies: [`list`].
//!
//! One survey of all regions that the policy names, each asked once and in parallel; then everything is given to the
//! database that it belongs to. A region that cannot be seen is a failure that is shown beside what could be: missing
//! is not empty. The same of vaults in other accounts, which are looked at with their own credentials
//! ([`super::abroad`]).

use super::abroad::{self, Gates, Unseen, account_of};
use super::apply::plan_name;
use super::beside::{self, Beside};
use super::copy::moment;
use super::journal::Journal;
use super::lineage::{self, Lineage, Whose};
use super::verify::evidence::{self, Verified};
use crate::error::Result;
use holdfast_core::DatabaseName;
use holdfast_core::managed::{
    AutomatedBackup, AutomatedKind, Cloud, Database, Engine, LockMode, ManagedError, PointStatus,
    RecoveryPoint, Region, RegionSurvey, RestorableWindow, Snapshot, SnapshotKind, Source, SurveyScope,
    tags as keys,
};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The kind of a point that can be restored to any second.
pub const CONTINUOUS: &str = "continuous";

/// A database of the policy, and the regions where something of it may be.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub name: DatabaseName,
    pub source: Source,
    /// Beside the source's own.
    pub regions: Vec<Region>,
    /// Which databases it was when it was last seen, for when it is gone.
    pub remembered: Lineage,
    /// As the policy says it: what it left behind is its own, whatever it was called when it was deleted.
    pub resource_id: Option<String>,
    /// Into the accounts of its vaults.
    pub gates: Gates,
}

/// One thing that can be restored.
#[derive(Debug, Clone, Serialize)]
pub struct Kept {
    /// `snapshot`, `copy`, `automated`, `recovery-point`, `continuous`, `retained`, `replicated`, `shared`; `predecessor`:
    /// the automated backups of a database that a cutover replaced, and that is there still.
    pub kind: &'static str,
    /// Identifier, or the ARN of what has none.
    pub id: String,
    pub arn: String,
    pub region: Region,
    /// Of the vault that it is in, where that is not the database's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The AWS Backup vault; `None` for snapshots of a region.
    pub vault: Option<String>,
    /// What the lock of that vault means today, if it has one.
    pub lock: Option<LockMode>,
    /// In the provider's words.
    pub state: String,
    pub restorable: bool,
    /// The moment that its data shows.
    pub taken: Option<Timestamp>,
    /// Or a moment before it: a copy of a cluster's snapshot says when it was copied, and not what it shows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_most: bool,
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
    #[serde(flatten)]
    pub verified: Option<Mark>,
    /// The newest verification of it found it bad, then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Timestamp>,
    /// `db-…` or `cluster-…` of the database that it shows, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
    /// It is of a database that a cutover replaced, and shows nothing that was written after that.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub before: bool,
    /// It is of another database that had the same name: [`Holdings::set_apart`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub another: bool,
}

/// That a restore of it was shown to work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mark {
    #[serde(rename = "verified")]
    pub at: Timestamp,
    /// How far: `L3` …
    #[serde(rename = "verified_level")]
    pub level: Option<String>,
}

/// A database and what is kept of it.
#[derive(Debug, Clone, Serialize)]
pub struct Holdings {
    pub database: String,
    pub source: Source,
    /// `None`: it is not there, or its region could not be seen (see the failures).
    pub status: Option<String>,
    /// `db-…` or `cluster-…` of the one that is there now: what `resource-id` of the policy is compared with.
    pub resource_id: Option<String>,
    pub window: Option<RestorableWindow>,
    /// Newest first.
    pub kept: Vec<Kept>,
    /// What a cutover replaced, what was restored and serves nothing; the database itself under another name.
    pub beside: Vec<Beside>,
    /// Of the database that is there now, or was last.
    #[serde(skip)]
    pub lineage: Lineage,
}

impl Holdings {
    /// Marks what is of another database of the same name, such as one that was made anew after a loss ([`Whose`]). What
    /// does not say whose it is, such as a continuous point, is not marked.
    pub fn set_apart(&mut self, id: Option<&str>, seen: Option<&Database>) {
        let lines = [self.lineage.clone(), seen.map(Lineage::seen).unwrap_or_default()];
        let Some(whose) = Whose::new(id, seen, &lines) else { return };
        for k in &mut self.kept {
            k.another = k.resource_id.as_ref().is_some_and(|of| !whose.is_own(of));
        }
    }
}

/// All of it.
#[derive(Debug, Default, Serialize)]
pub struct Listing {
    pub databases: Vec<Holdings>,
    /// Region and reason.
    pub failures: Vec<(Region, String)>,
    /// Of vaults in other accounts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<Unseen>,
    /// Nothing could be seen in any region: why, of the first. Missing is not empty.
    #[serde(skip)]
    pub blind: Option<ManagedError>,
    /// By database: the newest verification that this host knows of, passed or not ([`add_evidence`]).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub verifications: BTreeMap<String, Verified>,
}

impl Listing {
    /// Whether all could be seen.
    pub fn is_whole(&self) -> bool {
        self.failures.is_empty() && self.unseen.is_empty()
    }

    /// What could not, for people: a place and the reason.
    pub fn gaps(&self) -> impl Iterator<Item = String> {
        let regions = self.failures.iter().map(|(region, why)| format!("{region}: {why}"));
        regions.chain(self.unseen.iter().map(ToString::to_string))
    }
}

/// Looks at everything once.
pub async fn list(cloud: &dyn Cloud, wanted: &[Wanted]) -> Listing {
    list_without(cloud, wanted, None).await
}

/// The same, but of a region that is lost nothing is asked: whoever waits for an answer has no time for that.
pub async fn list_without(cloud: &dyn Cloud, wanted: &[Wanted], lost: Option<&Region>) -> Listing {
    let regions: BTreeSet<Region> =
        wanted.iter().flat_map(|w| w.regions.iter().chain([&w.source.region])).cloned().collect();
    let regions: Vec<Region> = regions.into_iter().filter(|r| Some(r) != lost).collect();
    let engines: BTreeSet<Engine> = wanted.iter().map(|w| w.source.engine).collect();
    let scope = SurveyScope { engines: engines.into_iter().collect(), ..SurveyScope::backups() };
    let surveys = cloud.survey(&regions, &scope).await;
    let mut out = Listing::default();
    for s in &surveys {
        out.failures.extend(s.failures.iter().map(|e| (s.region.clone(), e.to_string())));
    }
    let foreign = look_abroad(wanted, lost, &scope, &mut out).await;
    if !surveys.is_empty() && surveys.iter().all(saw_nothing) && foreign.values().all(saw_nothing) {
        let why = surveys.into_iter().flat_map(|s| s.failures).next();
        return Listing { databases: wanted.iter().map(|w| w.with_nothing()).collect(), blind: why, ..out };
    }
    for w in wanted {
        let live = surveys.iter().flat_map(|s| &s.databases).find(|d| d.source == w.source);
        let lineage = live.map(Lineage::seen).unwrap_or_else(|| w.remembered.clone());
        let mut kept = Vec::new();
        let originals: BTreeMap<&str, &Snapshot> =
            surveys.iter().flat_map(|s| &s.snapshots).map(|s| (s.arn.as_str(), s)).collect();
        for s in &surveys {
            let own = s.snapshots.iter().filter(|x| is_of(x, w, &lineage));
            kept.extend(own.map(|x| dated(snapshot(x), x, &originals)));
            kept.extend(s.automated.iter().filter(|x| automated_is_of(x, w, &lineage)).map(automated));
            kept.extend(s.automated.iter().filter_map(|x| replaced(x, w, &lineage, &surveys)));
            kept.extend(s.points.iter().filter(|x| point_is_of(x, w)).map(|p| point(p, s, w)));
        }
        for gate in w.gates.all() {
            let Some(s) = foreign.get(&(gate.account.clone(), gate.region.clone())) else { continue };
            let known: BTreeSet<&str> = kept.iter().map(|k| k.arn.as_str()).collect();
            let found = kept_abroad(s, w, &lineage, &gate.account);
            let new: Vec<Kept> = found.into_iter().filter(|k| !known.contains(k.arn.as_str())).collect();
            kept.extend(new);
        }
        // Copies of continuous points, which is what other accounts have, are snapshots.
        for k in kept.iter_mut().filter(|k| k.kind == CONTINUOUS && k.restorable && k.account.is_none()) {
            let Some(vault) = &k.vault else { continue };
            // A listing does not say to when it reaches.
            match cloud.recovery_point(&k.region, vault, &k.arn).await {
                Ok(p) => k.window = p.window,
                Err(e) => out.failures.push((k.region.clone(), e.to_string())),
            }
        }
        // What AWS Backup made is there twice: as a point of a vault and as a snapshot of the region.
        let abroad: Vec<Kept> =
            foreign.values().flat_map(|s| &s.snapshots).map(|x| dated(snapshot(x), x, &originals)).collect();
        let twins: BTreeMap<String, (Option<String>, Option<Timestamp>, bool)> = kept
            .iter()
            .chain(&abroad)
            .filter(|k| k.vault.is_none())
            .map(|k| (k.arn.clone(), (k.resource_id.clone(), k.taken, k.at_most)))
            .collect();
        let tiers: BTreeMap<&str, &str> =
            surveys.iter().flat_map(|s| &s.snapshots).filter_map(|s| asked_for(s, w)).collect();
        let points: BTreeSet<String> =
            kept.iter().filter(|k| k.vault.is_some()).map(|k| k.arn.clone()).collect();
        kept.retain(|k| k.vault.is_some() || !points.contains(&k.arn));
        for k in kept.iter_mut().filter(|k| k.vault.is_some()) {
            // A point says neither which database it is of, nor, as a copy, how old its data is: only when the copy
            // was made. The snapshot that it is does.
            let Some((id, taken, at_most)) = twins.get(&k.arn) else { continue };
            k.resource_id = k.resource_id.take().or_else(|| id.clone());
            if taken.is_some() {
                (k.taken, k.at_most) = (*taken, *at_most);
            }
        }
        for k in kept.iter_mut().filter(|k| k.vault.is_some() && k.tier.is_none()) {
            k.tier = tiers.get(k.arn.as_str()).map(ToString::to_string);
        }
        kept.sort_by_key(|k| std::cmp::Reverse((k.taken.or(k.window.map(|w| w.latest)), k.id.clone())));
        out.databases.push(Holdings {
            database: w.name.to_string(),
            source: w.source.clone(),
            status: live.map(|d| d.status.to_string()),
            resource_id: live.map(|d| d.resource_id.clone()),
            window: live.and_then(|d| d.window),
            kept,
            beside: beside::of(surveys.iter().flat_map(|s| &s.databases), w),
            lineage,
        });
    }
    out
}

/// Of every account and region where a vault of these databases is: once, whoever asks.
async fn look_abroad(
    wanted: &[Wanted],
    lost: Option<&Region>,
    scope: &SurveyScope,
    out: &mut Listing,
) -> BTreeMap<(String, Region), RegionSurvey> {
    let mut found = BTreeMap::new();
    let mut failed: BTreeMap<(String, Region), Unseen> = BTreeMap::new();
    for gate in wanted.iter().flat_map(|w| w.gates.all()).filter(|g| Some(&g.region) != lost) {
        let place = (gate.account.clone(), gate.region.clone());
        if found.contains_key(&place) {
            continue;
        }
        match abroad::survey(gate, scope).await {
            Ok(s) => {
                failed.remove(&place);
                out.unseen.extend(s.failures.iter().map(|e| Unseen {
                    account: gate.account.clone(),
                    region: gate.region.clone(),
                    vault: gate.vault.clone(),
                    error: e.to_string(),
                }));
                found.insert(place, s);
            }
            // Another vault of that account may have a better way.
            Err(e) => {
                failed.insert(place, e);
            }
        }
    }
    out.unseen.extend(failed.into_values());
    found
}

/// What another account has of a database: copies whose originals were in the account of the database.
fn kept_abroad(s: &RegionSurvey, w: &Wanted, lineage: &Lineage, account: &str) -> Vec<Kept> {
    let own = w.gates.own.as_deref();
    let copies = s.snapshots.iter().filter(|x| lineage.made_abroad(x, w.name.as_str(), &w.source, own));
    let of_account = |p: &&RecoveryPoint| own.is_none() || own == account_of(&p.resource_arn);
    let points = s.points.iter().filter(|x| point_is_of(x, w)).filter(of_account);
    let all = copies.map(snapshot).chain(points.map(|p| point(p, s, w)));
    all.map(|k| Kept { account: Some(account.to_string()), ..k }).collect()
}

fn saw_nothing(s: &RegionSurvey) -> bool {
    !s.failures.is_empty()
        && s.databases.is_empty()
        && s.snapshots.is_empty()
        && s.automated.is_empty()
        && s.vaults.is_empty()
}

impl Wanted {
    fn with_nothing(&self) -> Holdings {
        let (database, source) = (self.name.to_string(), self.source.clone());
        Holdings {
            database,
            source,
            status: None,
            resource_id: None,
            window: None,
            kept: Vec::new(),
            beside: Vec::new(),
            lineage: Lineage::default(),
        }
    }
}

/// Adds what this host's records show of verifications: of what carries no tag of ours, and of moments.
///
/// # Errors
/// The journal cannot be read.
pub fn add_evidence(listing: &mut Listing, journal: &Journal) -> Result<()> {
    for h in &mut listing.databases {
        let all = evidence::newest(journal, &h.database)?;
        for k in &mut h.kept {
            let same = |v: &&Verified| v.region == k.region && v.what.as_deref() == Some(&k.arn);
            let newer = |v: &&Verified| k.verified.as_ref().is_none_or(|mark| mark.at < v.at);
            k.failed = all.iter().find(same).filter(newer).filter(|v| !v.passed).map(|v| v.at);
            // A look of less takes nothing away from what was shown: what is kept does not change.
            let shown = all.iter().filter(same).filter(|v| v.passed);
            let marks = shown.map(|v| Mark { at: v.at, level: v.level.map(|l| l.word().to_string()) });
            k.verified = marks.chain(k.verified.take()).max_by_key(|m| (m.level.clone(), m.at));
        }
        if let Some(last) = all.into_iter().next() {
            listing.verifications.insert(h.database.clone(), last);
        }
    }
    Ok(())
}

/// By our tag; else by the source that it names. A copy says where it came from, so its region is not the source's.
fn is_of(s: &Snapshot, w: &Wanted, lineage: &Lineage) -> bool {
    // The last snapshot of a database that was replaced is called after that one.
    let of_line =
        s.at.engine == w.source.engine && s.source_resource_id.as_ref().is_some_and(|id| lineage.has(id));
    if of_line || lineage.made(s, w.name.as_str(), &w.source) {
        return true;
    }
    // Copies from another account are of that account's database.
    if !lineage::is_of_its_account(s) {
        return false;
    }
    // A copy of ours, even of another source, says where it came from.
    let from = s.of_original(keys::COPY_FROM_REGION);
    let from = from.or(s.copied_from_region.as_ref().map(Region::as_str)).unwrap_or(s.at.region.as_str());
    s.at.engine == w.source.engine && s.source_id == w.source.id && from == w.source.region.as_str()
}

fn automated_is_of(a: &AutomatedBackup, w: &Wanted, line: &Lineage) -> bool {
    let by_name = a.at.id == w.source.id && a.source_region == w.source.region;
    // Whoever deletes a database may rename it before. What was replaced is another matter ([`replaced`]).
    let newest = line.has(&a.resource_id) && line.successor(&a.resource_id).is_none();
    let by_id = newest || w.resource_id.as_ref() == Some(&a.resource_id);
    // Of a living source it is the restorable window, which is shown by itself.
    a.kind != AutomatedKind::Live && a.at.engine == w.source.engine && (by_name || by_id)
}

/// The automated backups of a database that a cutover replaced, whatever it is called now. They show what the
/// application wrote until its successor took over, and then something that nobody uses: the window ends when the
/// successor was made. Is that not known, nothing is offered.
fn replaced(a: &AutomatedBackup, w: &Wanted, line: &Lineage, surveys: &[RegionSurvey]) -> Option<Kept> {
    let next = line.successor(&a.resource_id).filter(|_| a.at.engine == w.source.engine)?;
    if automated_is_of(a, w, line) {
        return None;
    }
    let mut databases = surveys.iter().flat_map(|s| &s.databases);
    let mut backups = surveys.iter().flat_map(|s| &s.automated);
    let made = line
        .made_at(next)
        .or_else(|| databases.find(|d| d.resource_id == next)?.created)
        .or_else(|| backups.find(|b| b.resource_id == next)?.source_created)?;
    let window = a.window.map(|w| RestorableWindow { latest: w.latest.min(made), ..w })?;
    if window.earliest.is_some_and(|e| e > window.latest) {
        return None;
    }
    let found = automated(a);
    let kind = if a.kind == AutomatedKind::Live { "predecessor" } else { found.kind };
    Some(Kept { kind, window: Some(window), before: true, ..found })
}

/// A point that Holdfast had made for a tier, by its ARN: the snapshot that it is says so. A point that somebody else
/// had made may inherit such a tag, but not with the resource id of its own source.
fn asked_for<'a>(s: &'a Snapshot, w: &Wanted) -> Option<(&'a str, &'a str)> {
    let own = s.tags.get(keys::DATABASE) == Some(w.name.as_str())
        && s.source_resource_id.is_some()
        && s.tags.get(keys::SOURCE) == s.source_resource_id.as_deref();
    let tier = s.tags.get(keys::TIER).filter(|_| own && s.kind == SnapshotKind::AwsBackup)?;
    Some((&s.arn, tier))
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
    // What other people's have of our tags is inherited.
    let own = |key| s.tags.get(key).filter(|_| s.is_ours());
    let copied = s.copied_from.is_some() || s.is_our_copy();
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
        account: None,
        vault: None,
        lock: None,
        state: s.status.to_string(),
        restorable: s.status.is_available(),
        taken: moment(s),
        at_most: s.at.engine.is_cluster() && s.copied_from.is_some() && !s.is_our_copy(),
        window: None,
        delete_at: s.tags.expires().filter(|_| s.is_ours()),
        size_bytes: s.full_bytes.or(Some(u64::from(s.size_gib) << 30)),
        encrypted: s.encrypted,
        ours: s.is_ours(),
        tier: own(keys::TIER).map(str::to_string),
        note: own(keys::NOTE).map(str::to_string),
        verified: s
            .tags
            .verified()
            .filter(|_| s.is_ours())
            .map(|(at, level)| Mark { at, level: level.map(str::to_string) }),
        failed: None,
        resource_id: lineage::of_snapshot(s).map(str::to_string),
        before: false,
        another: false,
    }
}

/// What a copy does not say its original does, where that is seen.
fn dated(mut k: Kept, s: &Snapshot, originals: &BTreeMap<&str, &Snapshot>) -> Kept {
    let mut from = s.copied_from.as_deref();
    // A copy of a copy of … is no loop that anybody can make; a bound costs nothing.
    for _ in 0..8 {
        let Some(o) = from.filter(|_| k.at_most).and_then(|arn| originals.get(arn)) else { break };
        k.taken = moment(o).or(k.taken);
        k.at_most = o.copied_from.is_some() && !o.is_our_copy();
        from = o.copied_from.as_deref();
    }
    k
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
        account: None,
        vault: None,
        lock: None,
        state: a.status.to_string(),
        restorable: a.window.is_some(),
        taken: None,
        at_most: false,
        window: a.window,
        delete_at: None,
        size_bytes: a.size_gib.map(|g| u64::from(g) << 30),
        encrypted: a.encrypted,
        ours: a.tags.is_ours(),
        tier: None,
        note: None,
        verified: None,
        failed: None,
        resource_id: Some(a.resource_id.clone()),
        before: false,
        another: false,
    }
}

/// Our plan has a rule for each tier, of its name. On-demand points have no creator (AWS Backup API,
/// `RecoveryPointCreator`), those of other people's plans another.
fn by_rule(p: &RecoveryPoint, w: &Wanted) -> Option<String> {
    let by = p.created_by.as_ref()?;
    let ours = by.plan_name.as_deref() == Some(plan_name(&w.source).as_str());
    by.rule_name.clone().filter(|_| ours)
}

fn point(p: &RecoveryPoint, seen: &RegionSurvey, w: &Wanted) -> Kept {
    let vault = seen.vaults.iter().find(|v| v.name == p.vault);
    Kept {
        kind: if p.continuous { CONTINUOUS } else { "recovery-point" },
        id: p.snapshot_id().unwrap_or(&p.arn).to_string(),
        arn: p.arn.clone(),
        region: p.region.clone(),
        account: None,
        vault: Some(p.vault.clone()),
        lock: vault.and_then(|v| v.lock).map(|l| l.mode(Timestamp::now())),
        state: match &p.status {
            PointStatus::Other(text) => text.clone(),
            known => format!("{known:?}").to_lowercase(),
        },
        restorable: p.status.is_restorable(),
        taken: Some(p.created),
        at_most: p.copied_from_vault.is_some(),
        window: p.window,
        delete_at: p.delete_at,
        size_bytes: p.size_bytes,
        encrypted: p.encrypted,
        ours: p.tags.as_ref().is_some_and(|t| t.is_ours()),
        tier: by_rule(p, w),
        note: p.status_message.clone().or_else(|| p.tags.as_ref()?.get(keys::NOTE).map(Into::into)),
        verified: None,
        failed: None,
        resource_id: None,
        before: false,
        another: false,
    }
}
