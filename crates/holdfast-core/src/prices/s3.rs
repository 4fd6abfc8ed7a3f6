//! What S3 charges for its storage classes and for retrieving from them, and how long that takes.
//!
//! The figures are Amazon's list prices of us-east-1 as of [`DATE`]; other stores and regions differ, and
//! `[prices.s3]` of the policy replaces them one by one. Pure arithmetic: [`S3Prices::retrieval_cost`] and
//! [`S3Prices::early_deletion`] are what plans print.

use super::{Usd, gb};
use crate::policy::StorageClass;
use crate::time::Duration;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// When the figures below were looked up.
pub const DATE: &str = "2026-06-18";
/// For which region.
pub const REGION: &str = "us-east-1";

use Speed::{Bulk, Expedited, Standard};
use StorageClass as C;

/// Per GB and month; the first 50 TB.
const STORAGE: [(StorageClass, f64); 7] = [
    (C::Standard, 0.023),
    (C::StandardIa, 0.0125),
    (C::OnezoneIa, 0.01),
    // What has not been read for a month.
    (C::IntelligentTiering, 0.0125),
    (C::GlacierIr, 0.004),
    (C::Glacier, 0.0036),
    (C::DeepArchive, 0.00099),
];

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

/// Class, speed, per GB, per 1,000 requests, and how long it takes: from, to (seconds).
const RETRIEVAL: [(StorageClass, Speed, f64, f64, u64, u64); 5] = [
    (C::Glacier, Expedited, 0.03, 10.0, MINUTE, 5 * MINUTE),
    (C::Glacier, Standard, 0.01, 0.05, 3 * HOUR, 5 * HOUR),
    (C::Glacier, Bulk, 0.0, 0.0, 5 * HOUR, 12 * HOUR),
    (C::DeepArchive, Standard, 0.02, 0.10, 0, 12 * HOUR),
    (C::DeepArchive, Bulk, 0.0025, 0.025, 0, 48 * HOUR),
];

/// How fast archived objects are asked for: S3 calls it a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Speed {
    Expedited,
    Standard,
    Bulk,
}

impl Speed {
    pub const ALL: [Speed; 3] = [Bulk, Standard, Expedited];

    pub fn as_str(self) -> &'static str {
        match self {
            Expedited => "expedited",
            Standard => "standard",
            Bulk => "bulk",
        }
    }

    /// As S3 calls it.
    pub fn api_name(self) -> &'static str {
        match self {
            Expedited => "Expedited",
            Standard => "Standard",
            Bulk => "Bulk",
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Speed {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Speed::ALL
            .into_iter()
            .find(|v| v.as_str() == s)
            .ok_or_else(|| format!("`{s}` is not a speed of retrieval"))
    }
}

impl Serialize for Speed {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

/// What retrieving from a class at one speed costs, and how long it takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retrieval {
    pub per_gb: f64,
    pub per_1000_requests: f64,
    /// At least, usually.
    pub from: Duration,
    /// At most, usually.
    pub to: Duration,
}

/// The figures in force.
#[derive(Debug, Clone, PartialEq)]
pub struct S3Prices {
    /// As of when.
    pub date: String,
    pub region: String,
    pub(crate) storage: BTreeMap<StorageClass, f64>,
    pub(crate) retrieval: BTreeMap<(StorageClass, Speed), Retrieval>,
}

impl Default for S3Prices {
    fn default() -> Self {
        let row = |(class, speed, per_gb, per_1000_requests, from, to)| {
            let (from, to) = (Duration(from), Duration(to));
            ((class, speed), Retrieval { per_gb, per_1000_requests, from, to })
        };
        S3Prices {
            date: DATE.into(),
            region: REGION.into(),
            storage: STORAGE.into_iter().collect(),
            retrieval: RETRIEVAL.into_iter().map(row).collect(),
        }
    }
}

/// What a retrieval costs, all in all.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct RetrievalCost {
    /// For the bytes.
    pub bytes_usd: Usd,
    /// For asking.
    pub requests_usd: Usd,
    /// For the copies that can be read, as long as they stay.
    pub copies_usd: Usd,
    pub total_usd: Usd,
}

/// What deleting before the end of the minimum duration costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EarlyDeletion {
    /// Begun days are whole ones.
    pub days_left: u64,
    pub cost: Usd,
}

const DAYS_OF_A_MONTH: f64 = 30.0;
const DAY: u64 = 24 * HOUR;

impl S3Prices {
    /// Of a class, per GB and month.
    pub fn storage(&self, class: StorageClass) -> f64 {
        self.storage.get(&class).copied().unwrap_or(0.0)
    }

    /// `None`: nothing is retrieved from this class at this speed.
    pub fn retrieval(&self, class: StorageClass, speed: Speed) -> Option<&Retrieval> {
        self.retrieval.get(&(class, speed))
    }

    /// Of so many objects, whose copies stay for `days`. S3 ends a copy at the midnight (UTC) after them, so a
    /// day more is counted. `None` as [`Self::retrieval`].
    pub fn retrieval_cost(
        &self,
        class: StorageClass,
        speed: Speed,
        objects: u64,
        bytes: u64,
        days: u16,
    ) -> Option<RetrievalCost> {
        let r = self.retrieval(class, speed)?;
        let bytes_usd = Usd(gb(bytes) * r.per_gb);
        let requests_usd = Usd(objects as f64 / 1000.0 * r.per_1000_requests);
        let copies_usd = self.copies_cost(bytes, days);
        let total_usd = bytes_usd + requests_usd + copies_usd;
        Some(RetrievalCost { bytes_usd, requests_usd, copies_usd, total_usd })
    }

    /// Of temporary copies alone, which are stored in the standard class.
    pub fn copies_cost(&self, bytes: u64, days: u16) -> Usd {
        Usd(gb(bytes) * self.storage(C::Standard) * (f64::from(days) + 1.0) / DAYS_OF_A_MONTH)
    }

    /// Of an object that has been stored for so long. `None`: deleting it costs nothing.
    pub fn early_deletion(&self, class: StorageClass, bytes: u64, stored: Duration) -> Option<EarlyDeletion> {
        let least = u64::from(class.minimum_days()) * DAY;
        let days_left = least.checked_sub(stored.0).filter(|left| *left > 0)?.div_ceil(DAY);
        let cost = Usd(gb(bytes) * self.storage(class) * days_left as f64 / DAYS_OF_A_MONTH);
        Some(EarlyDeletion { days_left, cost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1 << 30;

    fn near(a: Usd, b: f64) -> bool {
        (a.0 - b).abs() < 1e-9
    }

    #[test]
    fn every_class_is_priced_and_archives_have_speeds() {
        let p = S3Prices::default();
        for (class, price) in STORAGE {
            assert_eq!(p.storage(class), price);
            assert!(price > 0.0);
            for speed in Speed::ALL {
                let expected = class.is_archive() && (class, speed) != (C::DeepArchive, Expedited);
                assert_eq!(p.retrieval(class, speed).is_some(), expected, "{class} {speed}");
                assert_eq!(speed.as_str().parse(), Ok(speed));
            }
        }
        assert!("fast".parse::<Speed>().is_err());
    }

    /// Amazon's own example: 15,000,000 objects, 100 TB from S3 Glacier Flexible Retrieval, `Standard`:
    /// $750 for requests, $1,024 for bytes.
    #[test]
    fn a_retrieval_costs_bytes_requests_and_copies() {
        let p = S3Prices::default();
        let c = p.retrieval_cost(C::Glacier, Standard, 15_000_000, 100 * 1024 * GB, 2).unwrap();
        assert!(near(c.requests_usd, 750.0) && near(c.bytes_usd, 1024.0), "{c:?}");
        assert!(near(c.copies_usd, 102_400.0 * 0.023 / 10.0), "{c:?}");
        assert!(near(c.total_usd, 750.0 + 1024.0 + 235.52), "{c:?}");
        assert_eq!(p.retrieval_cost(C::DeepArchive, Expedited, 1, GB, 1), None);
        assert_eq!(p.retrieval_cost(C::GlacierIr, Standard, 1, GB, 1), None);
    }

    #[test]
    fn early_deletion_is_charged_for_the_days_that_are_left() {
        let p = S3Prices::default();
        let after = |class, seconds| p.early_deletion(class, 10 * GB, Duration(seconds));
        let whole = after(C::DeepArchive, 0).unwrap();
        assert_eq!(whole.days_left, 180);
        assert!(near(whole.cost, 10.0 * 0.00099 * 6.0));
        let half = after(C::Glacier, 45 * DAY + 1).unwrap();
        assert_eq!(half.days_left, 45);
        assert!(near(half.cost, 10.0 * 0.0036 * 1.5));
        assert_eq!(after(C::StandardIa, 30 * DAY), None);
        assert_eq!(after(C::StandardIa, 30 * DAY - 1).unwrap().days_left, 1);
        assert_eq!(after(C::Standard, 0), None);
    }
}
