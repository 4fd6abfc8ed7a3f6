//! What a change costs a month, at most, where the policy's table of prices knows: [`Costs`].

use holdfast_core::managed::{Database, Engine, Region};
use holdfast_core::policy::{ManagedDatabase, Policy};
use holdfast_core::prices::{Price, Usd};

const GB: f64 = 1e9;
/// As the estimates of `validate` assume it where the policy does not say.
const DAILY_CHANGE: f64 = 0.02;

/// Prices and what is known of the size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Costs<'a> {
    pub policy: &'a Policy,
    pub database: &'a ManagedDatabase,
}

impl Costs<'_> {
    /// GB of the database, and of what changes in a day.
    fn size(&self, d: &Database) -> Option<(f64, f64)> {
        let seen = d.storage.allocated_gib.filter(|g| *g > 1).map(|g| f64::from(g) * f64::from(1 << 30));
        let size = self.database.size.map(|s| s.0 as f64).or(seen)? / GB;
        let change = self.database.daily_change.map_or(size * DAILY_CHANGE, |c| c.0 as f64 / GB);
        Some((size, change.min(size)))
    }

    fn price(&self, engine: Engine, region: &Region) -> f64 {
        let price = match engine {
            Engine::Rds => Price::RdsBackup,
            Engine::Aurora => Price::AuroraBackup,
            Engine::DocumentDb => Price::DocDbBackup,
        };
        self.policy.prices.managed.get(price, region.as_str())
    }

    /// Of so many days more. RDS keeps the log beside what the daily snapshots add.
    pub fn retention(&self, d: &Database, more: u32) -> Option<String> {
        let (_, change) = self.size(d)?;
        let twice = if d.source.engine == Engine::Rds { 2.0 } else { 1.0 };
        let dollars = twice * change * f64::from(more) * self.price(d.source.engine, &d.source.region);
        Some(format!("at most {} a month more, beyond what is free", Usd(dollars)))
    }

    /// Storage in the other region, and what crosses.
    pub fn replication(&self, d: &Database, to: &Region, days: u32) -> Option<String> {
        let (size, change) = self.size(d)?;
        let stored = (size + 2.0 * change * f64::from(days)) * self.price(d.source.engine, to);
        let transfer = self.policy.prices.managed.get(Price::Transfer, d.source.region.as_str());
        let first = Usd(size * transfer);
        let monthly = Usd(stored + 2.0 * change * 365.25 / 12.0 * transfer);
        Some(format!("about {monthly} a month, and {first} once for the first copy"))
    }
}
