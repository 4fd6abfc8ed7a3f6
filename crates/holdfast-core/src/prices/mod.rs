//! What providers charge and how long they take: dated figures, for estimates before something is spent.
//!
//! Each table starts with the list prices of one region, as of one date ([`s3`], [`RdsPrices`]), and takes over what
//! `[prices]` of the policy says. They are estimates for a plan, not a bill: no discounts, no taxes, no
//! transfer. `docs/guide/cold.md` names the source of every figure.

mod rds;
pub mod s3;

pub use rds::{AS_OF, Price, RdsPrices, TABLE};

use serde::{Serialize, Serializer};
use std::fmt;
use std::ops::{Add, AddAssign};

/// Everything that is priced.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prices {
    pub s3: s3::S3Prices,
    /// `[prices.managed.REGION]`
    pub managed: RdsPrices,
}

/// US dollars.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Usd(pub f64);

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            // Nothing at all is worth telling from next to nothing.
            v if v <= 0.0 => f.pad("$0"),
            v if v < 0.01 => f.pad("under $0.01"),
            v => f.pad(&format!("${v:.2}")),
        }
    }
}

impl Add for Usd {
    type Output = Usd;
    fn add(self, other: Usd) -> Usd {
        Usd(self.0 + other.0)
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Usd) {
        self.0 += other.0;
    }
}

impl std::iter::Sum for Usd {
    fn sum<I: Iterator<Item = Usd>>(all: I) -> Usd {
        all.fold(Usd(0.0), Add::add)
    }
}

impl Serialize for Usd {
    /// To a millionth: what is beyond is noise of the arithmetic.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_f64((self.0 * 1e6).round() / 1e6)
    }
}

/// Bytes as a provider counts a GB: 2^30.
fn gb(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1u32 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_sums_are_not_shown_as_nothing() {
        let shown = |v| Usd(v).to_string();
        assert_eq!(
            [shown(0.0), shown(0.0004), shown(0.01), shown(1234.5)],
            ["$0", "under $0.01", "$0.01", "$1234.50"]
        );
        assert_eq!([Usd(0.5), Usd(0.25)].into_iter().sum::<Usd>(), Usd(0.75));
    }
}
