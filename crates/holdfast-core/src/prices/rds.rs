//! Prices of managed databases' backups: [`RdsPrices`].
//!
//! `[prices.managed.all]` overrides a price everywhere, `[prices.managed.us-west-1]` in one region. A region without a row of
//! its own has the price of us-east-1, which is then a guess ([`RdsPrices::is_guess`]).

use crate::policy::file::Named;
use crate::policy::{Refuse, nearest};
use std::collections::BTreeMap;
use toml::Spanned;

/// When the table was last gone through.
pub const AS_OF: &str = "2026-11-22";

/// What is priced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Price {
    /// Of RDS, a GB and month beyond what is free.
    RdsBackup,
    AuroraBackup,
    DocDbBackup,
    /// A GB from one region to another; the source region pays.
    Transfer,
    /// RDS, gp3, a GB and month: for throwaway instances.
    RdsStorage,
    /// An Aurora capacity unit and hour.
    AuroraAcu,
    /// Of a throwaway instance, an hour.
    T4gMicro,
    T4gSmall,
}

use Price as P;

/// Price, key, region (`""`: us-east-1, and the guess for all others), dollars, source.
pub const TABLE: &[(Price, &str, &str, f64, &str)] = &[
    (P::RdsBackup, "rds-backup", "", 0.095, "AWS price list, RDS:ChargedBackupUsage, 2026-05"),
    (P::RdsBackup, "rds-backup", "ap-northeast-1", 0.095, "AWS price list, RDS:ChargedBackupUsage, 2026-05"),
    (P::AuroraBackup, "aurora-backup", "", 0.021, "AWS price list, Aurora:BackupUsage, 2026-05"),
    (P::AuroraBackup, "aurora-backup", "us-east-2", 0.021, "AWS price list, 2026-05"),
    (P::AuroraBackup, "aurora-backup", "us-west-2", 0.021, "AWS price list, 2026-05"),
    (P::AuroraBackup, "aurora-backup", "eu-west-1", 0.021, "AWS price list, 2026-05"),
    (P::AuroraBackup, "aurora-backup", "ap-northeast-1", 0.024, "AWS price list, 2026-05"),
    (P::DocDbBackup, "docdb-backup", "", 0.021, "a bill: 1,630 GB were 34.25 dollars (2025-07)"),
    (
        P::Transfer,
        "transfer",
        "",
        0.02,
        "AWS price list, inter-region data transfer: most pairs; us-east-1 and us-east-2 0.01",
    ),
    (P::RdsStorage, "rds-storage", "", 0.115, "AWS price list, RDS gp3, 2026-05"),
    (P::AuroraAcu, "aurora-acu", "", 0.12, "AWS price list, Aurora Serverless v2, 2026-05"),
    (P::T4gMicro, "db.t4g.micro", "", 0.016, "AWS price list, 2026-05"),
    (P::T4gSmall, "db.t4g.small", "", 0.032, "AWS price list, 2026-05"),
];

/// The table with what a policy overrides.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RdsPrices {
    /// By price and region; `all` is every region without its own.
    overrides: BTreeMap<(Price, String), f64>,
}

impl RdsPrices {
    /// Dollars in `region`.
    pub fn get(&self, price: Price, region: &str) -> f64 {
        let own = |r: &str| self.overrides.get(&(price, r.to_string())).copied();
        let row = |r: &str| TABLE.iter().find(|(p, _, at, ..)| *p == price && *at == r).map(|(.., v, _)| *v);
        own(region).or_else(|| own("all")).or_else(|| row(region)).or_else(|| row("")).unwrap_or(0.0)
    }

    /// Whether the policy says what it costs in `region`.
    pub fn is_overridden(&self, price: Price, region: &str) -> bool {
        [region, "all"].iter().any(|r| self.overrides.contains_key(&(price, r.to_string())))
    }

    /// Whether that is the price of another region.
    pub fn is_guess(&self, price: Price, region: &str) -> bool {
        let row = TABLE.iter().any(|(p, _, at, ..)| *p == price && *at == region);
        !(self.is_overridden(price, region) || row || region == "us-east-1")
    }

    /// An hour of a throwaway instance, where its class is in the table.
    pub fn class_hour(&self, class: &str, region: &str) -> Option<f64> {
        TABLE.iter().find(|(_, key, ..)| *key == class).map(|(p, ..)| self.get(*p, region))
    }

    /// Reads `[prices.managed]`; `refuse` is told what is wrong, where.
    pub(crate) fn read(w: &Named<Named<Spanned<f64>>>, refuse: Refuse<'_>) -> RdsPrices {
        let mut out = RdsPrices::default();
        for (region, prices) in w {
            for (key, value) in prices {
                let name = key.get_ref().as_str();
                let Some((price, ..)) = TABLE.iter().find(|(_, k, ..)| *k == name) else {
                    let hint = match nearest(name, TABLE.iter().map(|(_, k, ..)| *k)) {
                        Some(k) => format!("Did you mean `{k}`?"),
                        None => "The guide `validate.md` lists them.".to_string(),
                    };
                    refuse(key.span(), format!("there is no price `{name}`"), hint);
                    continue;
                };
                let dollars = *value.get_ref();
                if !(0.0..=100_000.0).contains(&dollars) {
                    refuse(
                        value.span(),
                        "this is not a price".into(),
                        "Write dollars, such as 0.095.".into(),
                    );
                }
                out.overrides.insert((*price, region.get_ref().clone()), dollars);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_without_a_price_is_a_guess() {
        let mut p = RdsPrices::default();
        assert_eq!(p.get(Price::AuroraBackup, "ap-northeast-1"), 0.024);
        assert_eq!(p.get(Price::RdsBackup, "us-west-1"), 0.095);
        assert!(p.is_guess(Price::RdsBackup, "us-west-1") && !p.is_guess(Price::RdsBackup, "us-east-1"));
        assert_eq!(p.class_hour("db.t4g.micro", "us-east-1"), Some(0.016));
        assert_eq!(p.class_hour("db.r6g.large", "us-east-1"), None);
        p.overrides.insert((Price::RdsBackup, "all".into()), 0.1);
        p.overrides.insert((Price::RdsBackup, "us-west-1".into()), 0.11);
        assert_eq!((p.get(Price::RdsBackup, "us-west-1"), p.get(Price::RdsBackup, "x")), (0.11, 0.1));
        assert!(!p.is_guess(Price::RdsBackup, "x"));
    }
}
