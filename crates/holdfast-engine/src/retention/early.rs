//! What it costs to remove packs before the minimum duration of their storage class is over: [`EarlyDeletion`].
//!
//! An estimate: every data pack is taken to have the class that the vault has now, and to be as old as the
//! store says; prices are those of the policy ([`holdfast_core::prices`]).

use holdfast_core::RunId;
use holdfast_core::policy::{StorageClass, Vault};
use holdfast_core::prices::Usd;
use holdfast_core::prices::s3::S3Prices;
use holdfast_core::time::Duration;
use holdfast_vault::names::is_data_pack;
use holdfast_vault::sweep::Doomed;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// The packs of one run that would go too early.
#[derive(Debug, Clone, Serialize)]
pub struct EarlyRun {
    pub run: RunId,
    pub packs: u64,
    pub bytes: u64,
    /// Of its youngest pack.
    pub days_left: u64,
    pub cost_usd: Usd,
}

/// What removing everything now is charged for days that were not used.
#[derive(Debug, Clone, Serialize)]
pub struct EarlyDeletion {
    pub class: StorageClass,
    pub minimum_days: u16,
    pub packs: u64,
    pub bytes: u64,
    pub cost_usd: Usd,
    /// From then on it costs nothing.
    pub free_at: Timestamp,
    pub prices_date: String,
    pub prices_region: String,
    pub runs: Vec<EarlyRun>,
}

/// Until when an object is paid for that was stored then. `None`: its class has no minimum duration.
pub(super) fn paid_until(class: StorageClass, stored: Timestamp) -> Option<Timestamp> {
    let days = i64::from(class.minimum_days());
    let end = || stored.checked_add(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MAX);
    (days > 0).then(end)
}

impl EarlyDeletion {
    /// `None`: nothing of it goes too early.
    pub fn of<'a>(
        vault: &Vault,
        prices: &S3Prices,
        packs: impl Iterator<Item = &'a Doomed>,
        now: Timestamp,
    ) -> Option<Self> {
        let class = vault.storage_class.filter(|c| c.minimum_days() > 0)?;
        let mut runs: BTreeMap<RunId, EarlyRun> = BTreeMap::new();
        let mut free_at = now;
        for d in packs.filter(|d| is_data_pack(&d.name)) {
            let Some(run) = d.name.rsplit('/').nth(1).and_then(|r| r.parse::<RunId>().ok()) else { continue };
            let stored = u64::try_from(d.modified.duration_until(now).as_secs()).unwrap_or(0);
            let Some(early) = prices.early_deletion(class, d.size, Duration(stored)) else { continue };
            let r = runs.entry(run.clone()).or_insert(EarlyRun {
                run,
                packs: 0,
                bytes: 0,
                days_left: 0,
                cost_usd: Usd(0.0),
            });
            r.packs += 1;
            r.bytes += d.size;
            r.days_left = r.days_left.max(early.days_left);
            r.cost_usd += early.cost;
            free_at = free_at.max(paid_until(class, d.modified).unwrap_or(now));
        }
        let runs: Vec<EarlyRun> = runs.into_values().collect();
        (!runs.is_empty()).then(|| EarlyDeletion {
            class,
            minimum_days: class.minimum_days(),
            packs: runs.iter().map(|r| r.packs).sum(),
            bytes: runs.iter().map(|r| r.bytes).sum(),
            cost_usd: runs.iter().map(|r| r.cost_usd).sum(),
            free_at,
            prices_date: prices.date.clone(),
            prices_region: prices.region.clone(),
            runs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::policy::Policy;
    use std::path::Path;

    fn vault(class: &str) -> Vault {
        let text = format!(
            "version = 1\n[databases.a]\nsource = \"host=/run/postgresql\"\npolicy = \"p\"\n[policies.p]\n\
             [vaults.h]\nurl = \"file:///h\"\nkey-file = \"k\"\n\
             [vaults.v]\nurl = \"s3://b/v\"\nkey-file = \"k\"\nstorage-class = \"{class}\"\n"
        );
        let mut p = Policy::parse(&text, Path::new("/p.toml")).unwrap();
        p.vaults.remove("v").unwrap()
    }

    #[test]
    fn only_young_data_packs_of_a_class_with_a_minimum_cost() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let doomed = |name: &str, days: i64| Doomed {
            name: format!("db/a/7/runs/{name}"),
            size: 10 << 30,
            modified: now - SignedDuration::from_hours(24 * days),
        };
        let all = [
            doomed("20261120T120000Z-aaaaaa/data-0001.pack", 1),
            doomed("20261120T120000Z-aaaaaa/data-0002.pack", 0),
            doomed("20261120T120000Z-aaaaaa/meta-0001.pack", 1),
            doomed("20261011T120000Z-bbbbbb/data-0001.pack", 40),
            doomed("20260801T120000Z-cccccc/data-0001.pack", 112),
        ];
        let of = |class: &str| EarlyDeletion::of(&vault(class), &S3Prices::default(), all.iter(), now);
        let e = of("glacier").unwrap();
        let rows: Vec<_> = e.runs.iter().map(|r| (r.packs, r.days_left)).collect();
        assert_eq!(rows, [(1, 50), (2, 90)]);
        assert_eq!((e.packs, e.free_at), (3, now + SignedDuration::from_hours(24 * 90)));
        let expected = 10.0 * 0.0036 * (50.0 + 89.0 + 90.0) / 30.0;
        assert!((e.cost_usd.0 - expected).abs() < 1e-9, "{e:?}");
        assert_eq!(of("deep-archive").unwrap().packs, 4);
        assert_eq!(of("standard-ia").unwrap().runs.len(), 1);
        assert!(of("intelligent-tiering").is_none());
    }
}
