//! Object Lock: what a point needs is locked at least as long as the point.
//!
//! Extend before commit: [`before_commit`] asks the store for the lock of everything that the new point
//! needs, extends what ends too early, and gives the date that the point's own record gets. A crash in
//! between leaves objects locked too long, never too short. What is extended is extended a quarter period
//! beyond the need, so an object is extended once in a quarter period and not for every point.
//!
//! What was asked and extended goes into a signed record, the *ledger*, so that the next commit asks only of
//! what it does not know: the newest one holds all that is known and still to come. A ledger that is lost or
//! does not open costs questions; one that lies, which takes a host's key, is found by [`look`], which never
//! reads it.
//!
//! [`look`] finds what is locked shorter than its point, for `check` and `lock`; [`extend`] mends it. The
//! store's own dates are what counts, and they are asked each time: nothing that a host wrote is believed.
//! No lock is ever shortened.

use crate::error::{Result, StoreErrorKind, VaultError};
use crate::keys::Signer;
use crate::names::{self, PackClass, PackId};
use crate::point::{Body, LockLedger, LockSeen, Point};
use crate::reader::{PackSet, PointReader};
use crate::store::lock::LockRule;
use crate::store::xml::Retention;
use crate::vault::{ClusterVault, Seen};
use futures::{StreamExt, TryStreamExt};
use holdfast_core::RunId;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Requests under way at once.
const PARALLEL: usize = 16;

/// The clocks of host and store differ by less: S3 refuses requests that are more than 15 minutes off.
const SKEW: SignedDuration = SignedDuration::from_mins(15);

/// An object whose lock ends before that of a point that needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Short {
    pub name: String,
    version: String,
    /// As it is locked now.
    pub now: Option<Retention>,
    /// Until when it has to be.
    pub need: Timestamp,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locks {
    pub short: Vec<Short>,
    /// Objects that were asked about.
    pub asked: u64,
    /// When the last lock that a point needs ends.
    pub last: Option<Timestamp>,
    /// Points something of which is locked too short.
    pub points: BTreeSet<RunId>,
}

/// What an extension did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extended {
    pub objects: u64,
    /// What the store did not allow, and why.
    pub refused: Vec<String>,
    /// What is locked for longer now, and until when.
    locked: Vec<LockSeen>,
}

/// Everything that a restore of the point reads, but the record itself.
async fn needs(cluster: &ClusterVault, point: &Point) -> Result<BTreeSet<String>> {
    let path = cluster.path();
    let mut out =
        BTreeSet::from([path.record(), names::DESCRIPTOR.to_string(), names::DESCRIPTOR_COPY.to_string()]);
    let packs = PackSet::new(cluster.clone());
    let reader = PointReader::open(packs.clone(), point).await?;
    out.extend(reader.root().packs.iter().filter_map(|p| packs.id(p.pack)).map(|id| path.pack(&id)));
    for p in &point.packs {
        let class = if p.class == "meta" { PackClass::Meta } else { PackClass::Data };
        out.insert(path.pack(&PackId { run: point.id.clone(), class, number: p.number }));
    }
    if point.timeline.0 > 1 {
        out.insert(path.history(point.timeline));
    }
    out.extend(point.wal.iter().map(|w| path.segment(w.name.timeline, &w.name.to_string())));
    // Without its keys nothing of it opens.
    out.extend(cluster.store().list("keys").await?.into_iter().map(|l| l.name));
    Ok(out)
}

/// Without these there is no point; of the others one may never have been.
fn is_vital(name: &str) -> bool {
    name.ends_with(".pack") || name.ends_with(".wal")
}

/// Asks for the locks of objects: those that are locked shorter than they need to be, and until when the
/// others are. One request each; packs are named by one listing.
async fn ask(
    cluster: &ClusterVault,
    needs: BTreeMap<String, Timestamp>,
) -> Result<(Vec<Short>, Vec<LockSeen>)> {
    let _ = cluster.store().list(&cluster.path().runs()).await?;
    let mode = cluster.store().lock_rule().map(|r| r.mode);
    let asked: Vec<Option<Short>> = futures::stream::iter(needs)
        .map(|(name, need)| async move {
            match cluster.store().lock_state(&name).await? {
                Some((version, now)) => Ok(Some(Short { name, version, now, need })),
                // Not there, it would else pass for well locked.
                None if is_vital(&name) => {
                    Err(VaultError::damaged(&name, "a point needs it, and it is missing"))
                }
                None => Ok(None),
            }
        })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    let (mut short, mut fine) = (Vec::new(), Vec::new());
    for s in asked.into_iter().flatten() {
        match s.now {
            Some(r) if r.until >= s.need && mode.is_none_or(|m| r.mode >= m) => {
                fine.push(LockSeen { name: s.name, until: r.until })
            }
            _ => short.push(s),
        }
    }
    short.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((short, fine))
}

/// What the newest ledger knows: nothing, if there is none that opens.
async fn ledger(cluster: &ClusterVault) -> Result<BTreeMap<String, Timestamp>> {
    let listed = cluster.store().list(&cluster.path().ledgers()).await?;
    let Some(newest) = listed.into_iter().max_by_key(|l| l.modified) else { return Ok(BTreeMap::new()) };
    match cluster.vault().get_record(&newest.name).await {
        Ok((Body::LockLedger(l), _)) => Ok(l.objects.into_iter().map(|o| (o.name, o.until)).collect()),
        Err(e) if e.retryable() => Err(e),
        _ => Ok(BTreeMap::new()),
    }
}

/// Locks what is too short until a quarter period beyond its need.
pub async fn extend(cluster: &ClusterVault, rule: &LockRule, short: &[Short]) -> Result<Extended> {
    let tried: Vec<Result<LockSeen, VaultError>> = futures::stream::iter(short)
        .map(|s| async move {
            let mode = s.now.map_or(rule.mode, |r| r.mode.max(rule.mode));
            let r = Retention { mode, until: rule.beyond(s.need) };
            let locked = LockSeen { name: s.name.clone(), until: r.until };
            match cluster.store().extend_lock(&s.name, &s.version, r).await {
                Ok(()) => Ok(locked),
                // A second one extended it further meanwhile.
                Err(e) if e.store_kind() == Some(StoreErrorKind::Denied) => {
                    match cluster.store().lock_state(&s.name).await? {
                        Some((_, Some(now))) if now.until >= s.need => {
                            Ok(LockSeen { until: now.until, ..locked })
                        }
                        _ => Err(e),
                    }
                }
                Err(e) => Err(e),
            }
        })
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    let mut out = Extended::default();
    for done in tried {
        match done {
            Ok(locked) => {
                out.objects += 1;
                out.locked.push(locked);
            }
            Err(e) if e.store_kind() == Some(StoreErrorKind::Denied) => out.refused.push(e.to_string()),
            Err(e) => return Err(e),
        }
    }
    Ok(out)
}

/// Sees to it that everything the point needs is locked as long as the point will be, and writes down what
/// is known then. Gives that date, for
/// the point's record, and what could not be extended; nothing where the vault is not locked.
pub async fn before_commit(cluster: &ClusterVault, point: &Point) -> Result<Option<(Timestamp, Extended)>> {
    let Some(rule) = cluster.store().lock_rule() else { return Ok(None) };
    if !cluster.store().knows_locks().await? {
        return Ok(None);
    }
    let now = Timestamp::now();
    let until = rule.of_point(now);
    let mut known = ledger(cluster).await?;
    // A host could write dates that nobody gave, and others would hand them on.
    let latest = rule.beyond(until).checked_add(SKEW).unwrap_or(Timestamp::MAX);
    known.retain(|_, t| *t <= latest);
    let unknown = |name: &String| known.get(name).is_none_or(|t| *t < until);
    let needs = needs(cluster, point).await?.into_iter().filter(unknown).map(|name| (name, until)).collect();
    let (short, fine) = ask(cluster, needs).await?;
    let done = extend(cluster, &rule, &short).await?;
    let learnt = fine.into_iter().chain(done.locked.iter().cloned());
    // Segments are of one point; the next one needs others.
    known.extend(learnt.filter(|l| !l.name.contains("/wal/")).map(|l| (l.name, l.until)));
    let objects = known.into_iter().filter(|(_, t)| *t > now).map(|(name, until)| LockSeen { name, until });
    let ledger = LockLedger {
        run: point.id.to_string(),
        objects: objects.collect(),
        at: now,
        host: point.host.clone(),
    };
    let name = cluster.path().ledger(&point.id);
    match cluster.vault().put_record(&name, &Body::LockLedger(ledger), Signer::Host).await {
        Ok(_) => {}
        Err(e) if e.store_kind() == Some(StoreErrorKind::Exists) => {}
        Err(e) => return Err(e),
    }
    Ok(Some((until, done)))
}

/// Until when the records of these points are locked. One request each.
pub async fn of_points<'a>(
    cluster: &ClusterVault,
    points: impl IntoIterator<Item = &'a RunId>,
) -> Result<BTreeMap<RunId, Timestamp>> {
    let asked: Vec<Option<(RunId, Timestamp)>> = futures::stream::iter(points)
        .map(|id| async move {
            let state = cluster.store().lock_state(&cluster.path().point(id)).await?;
            Ok::<_, VaultError>(state.and_then(|(_, r)| r).map(|r| (id.clone(), r.until)))
        })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    Ok(asked.into_iter().flatten().collect())
}

/// Finds what is locked shorter than a point that needs it. A point is to be locked for the rule's period
/// from when the store saw it, or as long as its record is; one whose time is over needs nothing.
pub async fn look(cluster: &ClusterVault, rule: &LockRule, points: &[Seen], now: Timestamp) -> Result<Locks> {
    let records = of_points(cluster, points.iter().map(|s| &s.facts.id)).await?;
    let mut need: BTreeMap<String, (Timestamp, BTreeSet<RunId>)> = BTreeMap::new();
    let mut locks = Locks::default();
    // Locks were given by the host's clock, and are judged by the store's.
    let slack = SKEW.min(rule.period / 16);
    for seen in points {
        let p = &seen.facts;
        let wanted = rule.of_point(seen.stored_at);
        let wanted = wanted.checked_sub(slack).unwrap_or(wanted);
        let until = records.get(&p.id).map_or(wanted, |r| wanted.max(*r));
        if until <= now {
            continue;
        }
        locks.last = locks.last.max(Some(until));
        let mut names = match cluster.point(&p.id).await {
            Ok(point) => needs(cluster, &point).await?,
            // A sweep was faster.
            Err(e) if e.is_not_found() => continue,
            Err(e) => return Err(e),
        };
        names.insert(cluster.path().point(&p.id));
        for name in names {
            let entry = need.entry(name).or_insert_with(|| (until, BTreeSet::new()));
            entry.0 = entry.0.max(until);
            entry.1.insert(p.id.clone());
        }
    }
    locks.asked = need.len() as u64;
    let dates = need.iter().map(|(name, (until, _))| (name.clone(), *until)).collect();
    locks.short = ask(cluster, dates).await?.0;
    let of = |s: &Short| need.get(&s.name).map(|(_, runs)| runs.clone()).unwrap_or_default();
    locks.points = locks.short.iter().flat_map(of).collect();
    Ok(locks)
}
