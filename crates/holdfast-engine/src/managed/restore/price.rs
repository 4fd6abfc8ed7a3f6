//! What a restored database costs while it is there: [`hourly`], from the table of list prices.

use super::{Plan, SERVERLESS};
use holdfast_core::managed::Engine;
use holdfast_core::prices::{Price, RdsPrices};
use serde::Serialize;

/// Hours of a month, as AWS counts them.
const MONTH: f64 = 730.0;

/// Dollars an hour. Without I/O, backup storage and transfer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Hourly {
    pub least: f64,
    /// More than the least with Serverless v2, which follows the load.
    pub most: f64,
    /// Storage of an instance is in it; that of clusters is billed by use, and is not.
    pub with_storage: bool,
    /// The price of another region was taken.
    pub guess: bool,
}

/// `None` where the table does not know the class of every instance: part of a price is none.
pub fn hourly(plan: &Plan, prices: &RdsPrices) -> Option<Hourly> {
    let t = &plan.target;
    let region = t.source.region.as_str();
    let guess = |p: Price| prices.is_guess(p, region);
    if t.source.engine == Engine::Rds {
        let class = t.class.as_deref()?;
        let gib = t.allocated_gib.or(plan.size_gib);
        // Of each zone one, with its own storage.
        let copies = if t.multi_az == Some(true) { 2.0 } else { 1.0 };
        let storage = gib.map_or(0.0, |g| prices.get(Price::RdsStorage, region) * f64::from(g) / MONTH);
        let all = copies * (prices.class_hour(class, region)? + storage);
        let guess = guess(Price::T4gMicro) || guess(Price::RdsStorage);
        return Some(Hourly { least: all, most: all, with_storage: gib.is_some(), guess });
    }
    let (mut least, mut most) = (0.0, 0.0);
    for i in &plan.instances {
        match (i.class.as_str(), t.scaling, t.source.engine) {
            (SERVERLESS, Some(s), Engine::Aurora) => {
                let unit = prices.get(Price::AuroraAcu, region);
                least += unit * s.min;
                most += unit * s.max;
            }
            // The table is of RDS instances: Aurora's and DocumentDB's of the same class cost more.
            _ => return None,
        }
    }
    (!plan.instances.is_empty()).then(|| Hourly {
        least,
        most,
        with_storage: false,
        guess: guess(Price::AuroraAcu),
    })
}

impl std::fmt::Display for Hourly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.least < self.most {
            true => write!(f, "about {:.3} to {:.3} dollars an hour", self.least, self.most)?,
            false => write!(f, "about {:.3} dollars an hour", self.least)?,
        }
        write!(f, "{}", if self.with_storage { " with its storage" } else { " without its storage" })?;
        write!(f, "{}", if self.guess { ", by the prices of us-east-1" } else { "" })
    }
}
