//! What it costs: the provider's formulas ([`monthly_rds`], [`monthly_cluster`], [`monthly_copy`]), an
//! [`estimate`] of a policy, VW8.
//!
//! An estimate needs `size` (what is allocated or used) and `daily-change`. It is for the state after the
//! longest retention has passed once, with all runs successful and nothing growing. Gigabytes are 10⁹ bytes.

use super::quota::standing;
use super::{Case, Findings, Kept, Observed, Protected};
use crate::id::DatabaseName;
use crate::limits::Limit;
use crate::policy::Policy;
use crate::policy::managed::Engine;
use crate::prices::Price;
use jiff::Timestamp;
use std::collections::BTreeMap;

const GB: f64 = 1e9;
const MONTH_DAYS: f64 = 365.25 / 12.0;

/// RDS: dollars a month for `backups` GB, automated and manual together, in a region whose active instances
/// have `allocated` GB: so much is free.
pub fn monthly_rds(backups: f64, allocated: f64, price: f64) -> f64 {
    (backups - allocated).max(0.0) * price
}

/// Aurora and DocumentDB, a cluster of `volume` GB: changes within the retention of automated backups, never
/// more than the daily volumes together, and a full copy for every snapshot older than that; one volume is free.
pub fn monthly_cluster(
    changes: f64,
    daily_volumes: f64,
    full_snapshots: f64,
    volume: f64,
    price: f64,
) -> f64 {
    (changes.min(daily_volumes) + full_snapshots * volume - volume).max(0.0) * price
}

/// Copies: what is transferred in a month, and what is stored at the target.
pub fn monthly_copy(transferred: f64, transfer_price: f64, stored: f64, storage_price: f64) -> f64 {
    transferred * transfer_price + stored * storage_price
}

/// Dollars a month, by item.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    pub database: DatabaseName,
    pub items: Vec<(String, f64)>,
    /// What it rests on, and what it leaves out.
    pub notes: Vec<String>,
}

impl Estimate {
    pub fn total(&self) -> f64 {
        self.items.iter().map(|(_, d)| d).sum()
    }
}

/// Of every managed database whose size is known.
pub fn estimate(policy: &Policy, observed: &Observed, now: Timestamp) -> Vec<Estimate> {
    let case = Case { policy, observed, now };
    case.managed().filter_map(|p| of(&case, &p)).collect()
}

/// GB of snapshots that share what did not change: one whole, and between two neighbours what changed, at
/// most all of it.
fn chain(points: &[Timestamp], size: f64, daily_change: f64) -> f64 {
    let gaps = points.windows(2).map(|w| match w {
        [newer, older] => (newer.as_second() - older.as_second()) as f64 / 86_400.0,
        _ => 0.0,
    });
    let changed: f64 = gaps.map(|days| (days * daily_change).min(size)).sum();
    if points.is_empty() { 0.0 } else { size + changed }
}

fn price_of(engine: Engine) -> Price {
    match engine {
        Engine::Rds => Price::RdsBackup,
        Engine::Aurora => Price::AuroraBackup,
        Engine::DocumentDb => Price::DocDbBackup,
    }
}

fn of(case: &Case<'_>, p: &Protected<'_>) -> Option<Estimate> {
    let prices = &case.policy.prices.managed;
    let m = p.managed;
    let bytes = p.seen.and_then(|s| s.size).or(m.size.map(|s| s.0))?;
    let size = bytes as f64 / GB;
    let change = m.daily_change.map_or(size * 0.02, |c| c.0 as f64 / GB).min(size);
    let mut notes = Vec::new();
    if m.daily_change.is_none() {
        notes.push(format!("`daily-change` is not written: 2 % of the size, {change:.1} GB, is assumed"));
    }
    let price = price_of(m.engine);
    // What stands in each region; the copies of one region share what did not change.
    let mut regions: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
    regions.entry(&m.region).or_default();
    let mut transferred = 0.0;
    for k in p.keeps(case) {
        let points = standing(case, p, &k);
        if k.kind == "copies" && k.site.region != m.region {
            transferred += per_month(case, p, &k, size, change);
        }
        regions.entry(k.site.region).or_default().extend(points);
    }
    let pitr_days = p.plan.pitr.as_ref().map_or(0.0, |t| t.keep.0 as f64 / 86_400.0);
    let replicated =
        p.plan.pitr.as_ref().and_then(|t| t.replicate.as_ref()).filter(|_| m.engine == Engine::Rds);
    let mut items = Vec::new();
    for (region, mut points) in regions {
        points.sort_unstable();
        points.dedup();
        points.reverse();
        let home = region == m.region;
        let dollars = prices.get(price, region);
        if prices.is_guess(price, region) {
            notes.push(format!(
                "the price of backups in {region} is not known here; {dollars} is that of us-east-1"
            ));
        }
        let cost = match m.engine {
            Engine::Rds => {
                // Automated backups: daily snapshots and the log, both as large as what changes.
                let automated = if home && pitr_days > 0.0 { 2.0 * pitr_days * change } else { 0.0 };
                let whole = if points.is_empty() && automated > 0.0 { size } else { 0.0 };
                let allowance = if home { size } else { 0.0 };
                monthly_rds(chain(&points, size, change) + automated + whole, allowance, dollars)
            }
            Engine::Aurora | Engine::DocumentDb if home => {
                let old =
                    |t: &&Timestamp| (case.now.as_second() - t.as_second()) as f64 > pitr_days * 86_400.0;
                let outside = points.iter().filter(old).count() as f64;
                let days = pitr_days.max(1.0);
                monthly_cluster(size + days * change, days * size, outside, size, dollars)
            }
            // A copy is whole wherever it goes.
            Engine::Aurora | Engine::DocumentDb => points.len() as f64 * size * dollars,
        };
        let what = if home { "backups" } else { "copies" };
        items.push((format!("{what} in {region}, {} points", points.len()), cost));
    }
    if let Some(r) = replicated {
        let region = p.site(case, Some(&r.to)).region;
        let days = r.keep.0 as f64 / 86_400.0;
        items.push((
            format!("replicated backups in {region}"),
            (size + 2.0 * days * change) * prices.get(price, region),
        ));
        transferred += 2.0 * change * MONTH_DAYS;
    }
    if transferred > 0.0 {
        let each = prices.get(Price::Transfer, &m.region);
        items.push((format!("transfer, {transferred:.0} GB"), monthly_copy(transferred, each, 0.0, 0.0)));
    }
    if let Some(v) = &p.plan.verify {
        let times = MONTH_DAYS * 86_400.0 / v.every.0 as f64;
        let hours = case.policy.limits.get(Limit::VerifyDuration) as f64 / 3_600.0;
        let class = v.class.as_deref().unwrap_or("the source's class");
        match prices.class_hour(class, &m.region) {
            Some(hour) => {
                let storage = if m.engine == Engine::Rds {
                    size * prices.get(Price::RdsStorage, &m.region) / (MONTH_DAYS * 24.0)
                } else {
                    0.0
                };
                items.push((format!("verification, {times:.1} times"), times * hours * (hour + storage)));
            }
            None if class == "db.serverless" => {
                let acu = prices.get(Price::AuroraAcu, &m.region);
                items.push((format!("verification, {times:.1} times at one unit"), times * hours * acu));
            }
            None => notes.push(format!("verification is left out: the price of {class} is not known here")),
        }
    }
    notes.push(
        "taxes, requests, keys and growth are left out; other databases may use up what is free".into(),
    );
    Some(Estimate { database: p.database.name.clone(), items, notes })
}

/// GB that a copy transfers in a month: what changed between two points; of clusters the whole volume.
fn per_month(case: &Case<'_>, p: &Protected<'_>, k: &Kept<'_>, size: f64, change: f64) -> f64 {
    let month = jiff::SignedDuration::from_hours(24 * 365);
    let Ok(from) = case.now.checked_sub(month) else { return 0.0 };
    let runs: usize =
        k.of.iter()
            .filter_map(|t| p.plan.tiers.get(*t))
            .map(|t| t.schedule.between(from, case.now, &super::zone(&t.timezone), 20_000).len())
            .sum();
    let runs = runs as f64 / 12.0;
    if p.managed.engine.is_cluster() || runs <= 0.0 {
        return runs * size;
    }
    runs * (MONTH_DAYS / runs * change).min(size)
}

pub(super) fn vw8(case: &Case<'_>, out: &mut Findings<'_>) {
    let growth = case.policy.limits.get(Limit::CostGrowth) as f64 / 100.0;
    for p in case.managed() {
        let Some(e) = of(case, &p) else { continue };
        let (name, total) = (p.database.name.as_str(), e.total());
        if let Some(budget) = p.managed.budget.filter(|b| total > f64::from(*b)) {
            out.add(
                &["databases", name, "budget"],
                name,
                format!("its backups will cost about {total:.0} dollars a month, and the budget is {budget}"),
                "`holdfast validate --explain` shows the items. Keep fewer points, or raise the budget.",
            );
        }
        let last = p.seen.and_then(|s| s.cost_last_month);
        if let Some(last) = last.filter(|l| *l > 1.0 && total > l * (1.0 + growth)) {
            out.add(
                &["databases", name],
                name,
                format!(
                    "its backups will cost about {total:.0} dollars a month, {:.0} % more than the {last:.0} of last month",
                    (total / last - 1.0) * 100.0
                ),
                "`holdfast validate --explain` shows the items; `cost-growth` in `[limits]` is how much is expected.",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 0.005 * b.abs().max(1.0)
    }

    #[test]
    fn the_bills_of_the_strategies() {
        // G: 100 GB, 300 GB automated and 600 GB of AWS Backup share one allowance.
        assert!(close(monthly_rds(900.0, 100.0, 0.095), 76.0));
        // Its early stage: 5 GB of data on 20 GB of disk, 115 GB kept.
        assert!(close(monthly_rds(115.0, 20.0, 0.095), 9.025));
        // Retained automated backups count: 50 + 75 on a region with 100 GB allocated.
        assert!(close(monthly_rds(125.0, 100.0, 1.0), 25.0));
        assert_eq!(monthly_rds(80.0, 100.0, 0.095), 0.0);
        // D's DocumentDB: 1,630 GB billed.
        assert!(close(monthly_cluster(1_630.0 + 500.0, 1e9, 0.0, 500.0, 0.021), 34.23));
        // Within one volume nothing is billed; a year of monthly snapshots is, whole.
        assert_eq!(monthly_cluster(90.0, 1e9, 0.0, 100.0, 0.021), 0.0);
        assert!(close(monthly_cluster(100.0, 1e9, 12.0, 100.0, 0.021), 25.2));
        // No more than the daily volumes.
        assert!(close(monthly_cluster(900.0, 200.0, 0.0, 100.0, 0.021), 2.1));
        assert!(close(monthly_copy(15.0, 0.02, 100.0, 0.095), 9.8));
    }

    #[test]
    fn snapshots_share_what_did_not_change() {
        let at = |day: i64| Timestamp::from_second(1_700_000_000 - day * 86_400).unwrap();
        assert_eq!(chain(&[], 100.0, 1.0), 0.0);
        assert_eq!(chain(&[at(0)], 100.0, 1.0), 100.0);
        assert!(close(chain(&[at(0), at(1), at(8)], 100.0, 1.0), 108.0));
        assert!(close(chain(&[at(0), at(365)], 100.0, 1.0), 200.0), "never more than all of it");
    }
}
