//! A point in a cold vault: which of its data packs can be read, and what it takes to read the others.
//!
//! Looked at before anything is touched or spent: a request or two for each data pack. What comes out is
//! either nothing (all can be read), a refusal, or, where the user asks to retrieve, a [`Retrieval`]: the plan of
//! [`super::retrieve`], which carries it out.

use crate::error::{EngineError, Result};
use futures::{StreamExt, TryStreamExt};
use holdfast_core::policy::{StorageClass, Vault};
use holdfast_core::prices::s3::{RetrievalCost, S3Prices, Speed};
use holdfast_core::time::Duration;
use holdfast_core::{ByteSize, RunId};
use holdfast_vault::names::PackId;
use holdfast_vault::point::Point;
use holdfast_vault::reader::{PackSet, PointReader};
use holdfast_vault::store::retrieve::Archive;
use holdfast_vault::{ClusterVault, PackClass};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// Packs that are asked for at the same time.
pub(super) const AT_ONCE: usize = 16;

/// How the user wants archived packs retrieved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retrieve {
    pub speed: Speed,
    /// How long the copies stay; `None`: as long as the restore could take, and some days.
    pub days: Option<u16>,
    /// How long to wait; `None`: twice as long as it usually takes at most.
    pub patience: Option<Duration>,
    /// The user agreed to pay.
    pub approved: bool,
}

/// Packs in the same state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Packs {
    pub packs: u64,
    pub bytes: u64,
}

impl Packs {
    fn add(&mut self, bytes: u64) {
        self.packs += 1;
        self.bytes += bytes;
    }
}

/// Packs of one class that nobody has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct InClass {
    pub class: StorageClass,
    pub packs: u64,
    pub bytes: u64,
    /// How long it usually takes.
    pub from_seconds: u64,
    pub to_seconds: u64,
    pub cost: RetrievalCost,
}

/// What has to be retrieved before a point can be restored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Retrieval {
    pub speed: Speed,
    /// How long copies stay.
    pub days: u16,
    /// All data packs of the point.
    pub all: Packs,
    /// Nobody has asked for these.
    pub archived: Vec<InClass>,
    /// Asked for before, not there yet.
    pub under_way: Packs,
    /// They can be read.
    pub readable: Packs,
    /// When the first copy of these goes.
    pub readable_until: Option<Timestamp>,
    /// Of the readable ones, those whose copy goes before the restore could be done: it is to stay for longer.
    pub extended: Packs,
    /// How long the restore is taken to read, to judge that.
    pub reading_seconds: u64,
    /// How long the run waits before it gives up.
    pub patience_seconds: u64,
    /// What it costs from here on.
    pub cost: RetrievalCost,
    /// The figures are of that day and region.
    pub prices_date: String,
    pub prices_region: String,
}

impl Retrieval {
    /// Some packs cannot be read yet.
    pub fn is_needed(&self) -> bool {
        !self.archived.is_empty() || self.under_way.packs > 0
    }

    /// Carrying it out costs something.
    pub fn spends(&self) -> bool {
        self.asks() || self.extended.packs > 0
    }

    /// Nothing gets on unless packs are asked for, which costs.
    pub fn asks(&self) -> bool {
        !self.archived.is_empty()
    }

    /// Packs that nobody has asked for, of all classes.
    pub fn archived(&self) -> Packs {
        self.archived
            .iter()
            .fold(Packs::default(), |s, c| Packs { packs: s.packs + c.packs, bytes: s.bytes + c.bytes })
    }
}

/// Plain bytes a second that a restore reads at least: to be on the safe side.
const SLOW: u64 = 20 << 20;

/// For how long the copies of so many bytes are read.
fn reading(bytes: u64) -> Duration {
    Duration(3600 + bytes / SLOW)
}

/// Copies come one after the other, and the first must still be there when the last has come and all are read.
fn sensible_days(bytes: u64) -> u16 {
    u16::try_from(3 + reading(bytes).0 / 86_400).unwrap_or(u16::MAX)
}

/// A copy that goes before this is asked to stay for longer.
pub(super) fn must_last(bytes: u64, now: Timestamp) -> Timestamp {
    let span = SignedDuration::from_secs(i64::try_from(reading(bytes).0).unwrap_or(i64::MAX));
    now.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// The packs of a point, and how each of them stands.
pub(super) type Standing = Vec<(PackId, u64, Archive)>;

/// Looks at the data packs of a point in a cold vault. `None`: all of them can be read. Without `how` a point
/// that cannot be read is refused.
pub async fn look(
    vault: &Vault,
    cluster: &ClusterVault,
    p: &Point,
    prices: &S3Prices,
    how: Option<&Retrieve>,
) -> Result<Option<Retrieval>> {
    let packs = data_packs(cluster, p).await?;
    let standing = standing(cluster, &packs).await?;
    match how {
        Some(how) => {
            // What HEAD does not say, the policy does.
            let own = vault.storage_class.unwrap_or(StorageClass::Glacier);
            plan(&p.id, own, prices, how, &standing, Timestamp::now())
        }
        None => refuse(vault, p, &standing).map(|()| None),
    }
}

/// How packs stand, in the order of their names.
pub(super) async fn standing(cluster: &ClusterVault, packs: &BTreeMap<PackId, u64>) -> Result<Standing> {
    futures::stream::iter(packs.iter().map(|(id, len)| (id.clone(), *len)))
        .map(|(id, len)| async move {
            let name = cluster.path().pack(&id);
            Ok::<_, EngineError>((id, len, cluster.store().archive_state(&name).await?))
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

fn refuse(vault: &Vault, p: &Point, standing: &Standing) -> Result<()> {
    let (mut archived, mut under_way) = (Packs::default(), 0);
    for (_, len, state) in standing {
        match state {
            Archive::Archived { .. } => archived.add(*len),
            Archive::UnderWay => {
                archived.add(*len);
                under_way += 1;
            }
            Archive::Open | Archive::Copied { .. } => {}
        }
    }
    if archived.packs == 0 {
        return Ok(());
    }
    let asked = match under_way {
        0 => String::new(),
        n => format!("; {n} of these are being retrieved"),
    };
    Err(EngineError::refused(
        format!(
            "point {} in the cold vault `{}` cannot be read: {} of its {} data packs ({}) are archived{asked}",
            p.id,
            vault.name,
            archived.packs,
            standing.len(),
            ByteSize(archived.bytes)
        ),
        "restore from another vault with --vault; or add --retrieve --plan to see what it takes to retrieve them",
    ))
}

fn plan(
    point: &RunId,
    own: StorageClass,
    prices: &S3Prices,
    how: &Retrieve,
    standing: &Standing,
    now: Timestamp,
) -> Result<Option<Retrieval>> {
    let total = standing.iter().map(|(_, len, _)| len).sum();
    let days = how.days.unwrap_or_else(|| sensible_days(total));
    let until = must_last(total, now);
    let mut r = Retrieval {
        speed: how.speed,
        days,
        all: Packs { packs: standing.len() as u64, bytes: total },
        archived: Vec::new(),
        under_way: Packs::default(),
        readable: Packs::default(),
        readable_until: None,
        extended: Packs::default(),
        reading_seconds: reading(total).0,
        patience_seconds: 0,
        cost: RetrievalCost::default(),
        prices_date: prices.date.clone(),
        prices_region: prices.region.clone(),
    };
    let mut classes: BTreeMap<StorageClass, Packs> = BTreeMap::new();
    for (_, len, state) in standing {
        match state {
            Archive::Archived { class } => classes.entry(class.unwrap_or(own)).or_default().add(*len),
            Archive::UnderWay => r.under_way.add(*len),
            Archive::Open => r.readable.add(*len),
            Archive::Copied { until: None } => r.readable.add(*len),
            Archive::Copied { until: Some(goes) } => {
                r.readable.add(*len);
                r.readable_until = Some(r.readable_until.map_or(*goes, |t| t.min(*goes)));
                if *goes < until {
                    r.extended.add(*len);
                }
            }
        }
    }
    for (class, Packs { packs, bytes }) in classes {
        let (Some(figures), Some(cost)) =
            (prices.retrieval(class, how.speed), prices.retrieval_cost(class, how.speed, packs, bytes, days))
        else {
            return Err(impossible(point, class, how.speed, prices));
        };
        let (from_seconds, to_seconds) = (figures.from.0, figures.to.0);
        r.archived.push(InClass { class, packs, bytes, from_seconds, to_seconds, cost });
        r.cost.bytes_usd += cost.bytes_usd;
        r.cost.requests_usd += cost.requests_usd;
        r.cost.copies_usd += cost.copies_usd;
    }
    r.cost.copies_usd += prices.copies_cost(r.extended.bytes, if r.extended.packs > 0 { days } else { 0 });
    r.cost.total_usd = r.cost.bytes_usd + r.cost.requests_usd + r.cost.copies_usd;
    r.patience_seconds = how.patience.map_or_else(|| patience(own, &r, prices), |d| d.0);
    Ok((r.is_needed() || r.spends()).then_some(r))
}

/// Twice what it usually takes at most, and an hour at least.
fn patience(own: StorageClass, r: &Retrieval, prices: &S3Prices) -> u64 {
    // What is under way was perhaps asked for at a slower speed.
    let slowest = || Speed::ALL.iter().filter_map(|s| prices.retrieval(own, *s)).map(|f| f.to.0).max();
    let under_way = (r.under_way.packs > 0).then(slowest).flatten();
    let longest = r.archived.iter().map(|c| c.to_seconds).chain(under_way).max().unwrap_or(0);
    (2 * longest).max(3600)
}

fn impossible(point: &RunId, class: StorageClass, speed: Speed, prices: &S3Prices) -> EngineError {
    let able: Vec<&str> =
        Speed::ALL.into_iter().filter(|s| prices.retrieval(class, *s).is_some()).map(Speed::as_str).collect();
    EngineError::refused(
        format!("point {point} lies in `{class}`, from which nothing is retrieved at the speed `{speed}`"),
        format!("take --retrieve={}", able.join(" or --retrieve=")),
    )
}

/// The data packs that a point needs, and their lengths. A point that was copied before the vault was cold may
/// share some.
pub(super) async fn data_packs(cluster: &ClusterVault, p: &Point) -> Result<BTreeMap<PackId, u64>> {
    let set = PackSet::new(cluster.clone());
    let reader = PointReader::open(set.clone(), p).await?;
    let shared = reader.root().packs.iter().filter_map(|u| Some((set.id(u.pack)?, u.len)));
    let own = p
        .packs
        .iter()
        .filter(|j| j.class == "data")
        .map(|j| (PackId { run: p.id.clone(), class: PackClass::Data, number: j.number }, j.len));
    Ok(shared.filter(|(id, _)| id.class == PackClass::Data).chain(own).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_stay_until_the_last_was_read() {
        assert_eq!(sensible_days(1 << 30), 3);
        // 10 TiB: six days of reading.
        assert_eq!(sensible_days(10 << 40), 9);
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        assert_eq!(must_last(0, now), now + SignedDuration::from_hours(1));
        assert_eq!(must_last(u64::MAX, Timestamp::MAX), Timestamp::MAX);
    }
    const GB: u64 = 1 << 30;

    /// A plan for packs in these states, of one GB each.
    fn planned(speed: Speed, states: &[Archive]) -> Result<Option<Retrieval>> {
        let id: RunId = "20261121T120000Z-k3f9q2".parse().unwrap();
        let pack = |number| PackId { run: id.clone(), class: PackClass::Data, number };
        let standing: Standing = (1..).zip(states).map(|(n, s)| (pack(n), GB, *s)).collect();
        let how = Retrieve { speed, days: Some(2), patience: None, approved: false };
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        plan(&id, StorageClass::Glacier, &S3Prices::default(), &how, &standing, now)
    }

    fn copied(until: &str) -> Archive {
        Archive::Copied { until: Some(until.parse().unwrap()) }
    }

    #[test]
    fn every_state_is_planned_for() {
        let of = |class| Archive::Archived { class };
        let deep = of(Some(StorageClass::DeepArchive));
        // Six GB are read in less than two hours.
        let soon = copied("2026-11-21T12:30:00Z");
        let all = [of(None), deep, deep, Archive::UnderWay, soon, copied("2026-11-23T00:00:00Z")];
        let r = planned(Speed::Standard, &all).unwrap().unwrap();
        let rows: Vec<_> = r.archived.iter().map(|c| (c.class, c.packs, c.to_seconds / 3600)).collect();
        assert_eq!(rows, [(StorageClass::Glacier, 1, 5), (StorageClass::DeepArchive, 2, 12)]);
        let counts = [r.all, r.archived(), r.under_way, r.readable, r.extended].map(|p| (p.packs, p.bytes));
        assert_eq!(counts, [6, 3, 1, 2, 1].map(|n| (n, n * GB)));
        assert_eq!(r.readable_until, Some("2026-11-21T12:30:00Z".parse().unwrap()));
        assert!(r.is_needed() && r.asks() && r.spends());
        assert_eq!(r.patience_seconds, 24 * 3600);
        let copies = 4.0 * 0.023 * 3.0 / 30.0;
        let expected = 0.01 + 2.0 * 0.02 + (0.05 + 2.0 * 0.10) / 1000.0 + copies;
        assert!((r.cost.total_usd.0 - expected).abs() < 1e-9, "{:?}", r.cost);
    }

    #[test]
    fn what_need_not_be_paid_for_is_not() {
        let done = copied("2026-11-23T00:00:00Z");
        assert_eq!(planned(Speed::Bulk, &[Archive::Open, done]).unwrap(), None);
        let waits = planned(Speed::Bulk, &[Archive::UnderWay, done]).unwrap().unwrap();
        assert!(waits.is_needed() && !waits.spends());
        assert_eq!((waits.cost.total_usd.0, waits.patience_seconds), (0.0, 24 * 3600));
        // It can be read; a copy that shall stay for longer costs, and is not what a restore waits for.
        let short = planned(Speed::Bulk, &[Archive::Open, copied("2026-11-21T12:10:00Z")]).unwrap().unwrap();
        assert!(!short.is_needed() && !short.asks() && short.spends());
        assert!(short.cost.total_usd.0 > 0.0 && short.cost.bytes_usd.0 == 0.0);
    }

    #[test]
    fn a_speed_that_a_class_has_not_is_refused() {
        let deep = Archive::Archived { class: Some(StorageClass::DeepArchive) };
        let e = planned(Speed::Expedited, &[deep]).unwrap_err();
        assert!(e.to_string().contains("`deep-archive`"), "{e}");
        assert_eq!(e.hint().as_deref(), Some("take --retrieve=bulk or --retrieve=standard"));
        assert!(planned(Speed::Expedited, &[Archive::Archived { class: None }]).is_ok());
    }
}
