//! What the provider allows, and what is assumed where it says nothing: [`Limits`].
//!
//! One table, dated, each row with its source; `[limits]` of a policy overrides any of them, because a
//! provider raises its limits and grants quotas. Facts are those of the API models of 2025-04 and of the
//! user guides of 2023-06 unless a row says otherwise.

mod metrics;

pub use metrics::{METRICS, Metric, Unit as MetricUnit};

use crate::policy::file::{Named, Scalar};
use crate::policy::{Refuse, nearest};
use crate::time::Duration;
use std::collections::BTreeMap;
use toml::Spanned;

/// When the table was last gone through.
pub const AS_OF: &str = "2026-11-22";

/// What a value is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Count,
    /// Written as a span, held in seconds.
    Span,
    Percent,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub limit: Limit,
    /// As `[limits]` writes it.
    pub key: &'static str,
    pub value: u64,
    pub unit: Unit,
    pub source: &'static str,
}

macro_rules! limits {
    ($($(#[$doc:meta])* $variant:ident = $key:literal, $value:expr, $unit:ident, $source:literal;)+) => {
        /// A limit, by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Limit { $($(#[$doc])* $variant),+ }

        /// All of them.
        pub const TABLE: &[Row] = &[
            $(Row { limit: Limit::$variant, key: $key, value: $value, unit: Unit::$unit, source: $source }),+
        ];

        impl Limit {
            fn row(self) -> Row {
                match self {
                    $(Limit::$variant => Row {
                        limit: Limit::$variant, key: $key, value: $value, unit: Unit::$unit, source: $source,
                    }),+
                }
            }
        }
    };
}

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

limits! {
    /// In a region and account; of instances and of clusters separately. Points of AWS Backup do not count.
    ManualSnapshots = "manual-snapshots", 100, Count,
        "RDS user guide, CHAP_Limits; Aurora user guide, CHAP_Limits";
    /// Longest retention of automated backups.
    PitrMost = "pitr-most", 35 * DAY, Span,
        "RDS user guide, USER_WorkingWithAutomatedBackups; DocumentDB developer guide, backup_restore";
    /// How far the newest restorable moment is behind now.
    PitrLag = "pitr-lag", 5 * MINUTE, Span, "RDS user guide, USER_PIT: the log is uploaded every five minutes";
    /// Between the move to cold storage and the deletion.
    ColdMinimum = "cold-minimum", 90 * DAY, Span, "AWS Backup API model, Lifecycle";
    BackupWindowMinimum = "backup-window-minimum", 30 * MINUTE, Span,
        "RDS user guide, USER_WorkingWithAutomatedBackups";
    /// Days until a lock cannot be changed.
    LockGraceMinimum = "lock-grace-minimum", 3 * DAY, Span,
        "AWS Backup API model, PutBackupVaultLockConfiguration.ChangeableForDays";
    /// How late AWS Backup may begin a job.
    StartWindow = "start-window", HOUR, Span, "AWS Backup API model, StartWindowMinutes: at least 60";
    /// How long a snapshot takes, where nothing was measured.
    SnapshotDuration = "snapshot-duration", 30 * MINUTE, Span, "assumed; measured ones replace it";
    /// How long a copy to another region or account takes, where nothing was measured.
    CopyDuration = "copy-duration", HOUR, Span, "assumed; measured ones replace it";
    /// How far replicated automated backups are behind, beside `pitr-lag`.
    ReplicationLag = "replication-lag", 15 * MINUTE, Span, "assumed; the provider gives no figure";
    /// The longest time without a verification.
    VerifyMost = "verify-most", 31 * DAY, Span, "all five strategies ask for a test restore every month";
    /// How much a month may cost more than the one before.
    CostGrowth = "cost-growth", 20, Percent, "assumed";
    /// How long a throwaway instance runs, for estimates.
    VerifyDuration = "verify-duration", HOUR, Span, "assumed; measured ones replace it";
}

/// The table with what a policy overrides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    overrides: BTreeMap<Limit, u64>,
}

impl Limits {
    /// In its unit; spans in seconds.
    pub fn get(&self, limit: Limit) -> u64 {
        self.overrides.get(&limit).copied().unwrap_or_else(|| limit.row().value)
    }

    pub fn span(&self, limit: Limit) -> Duration {
        Duration(self.get(limit))
    }

    pub fn is_overridden(&self, limit: Limit) -> bool {
        self.overrides.contains_key(&limit)
    }

    /// Reads `[limits]`; `refuse` is told what is wrong, where.
    pub(crate) fn read(w: &Named<Spanned<Scalar>>, refuse: Refuse<'_>) -> Limits {
        let mut out = Limits::default();
        for (key, value) in w {
            let name = key.get_ref().as_str();
            let Some(row) = TABLE.iter().find(|r| r.key == name) else {
                let hint = match nearest(name, TABLE.iter().map(|r| r.key)) {
                    Some(k) => format!("Did you mean `{k}`?"),
                    None => "The guide `validate.md` lists them.".to_string(),
                };
                refuse(key.span(), format!("there is no limit `{name}`"), hint);
                continue;
            };
            let found = match (row.unit, value.get_ref()) {
                (Unit::Span, Scalar::Text(t)) => t.parse::<Duration>().ok().map(|d| d.0),
                (Unit::Count | Unit::Percent, Scalar::Number(n)) => u64::try_from(*n).ok(),
                _ => None,
            };
            match found {
                Some(v) => {
                    out.overrides.insert(row.limit, v);
                }
                None => refuse(
                    value.span(),
                    format!("`{}` is no value for `{name}`", value.get_ref()),
                    match row.unit {
                        Unit::Span => "Write a span, such as `\"30m\"`.".into(),
                        _ => format!("Write a number, such as {}.", row.value),
                    },
                ),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_source_and_a_name_of_its_own() {
        for (i, r) in TABLE.iter().enumerate() {
            assert!(!r.source.is_empty() && r.limit.row().key == r.key);
            assert!(TABLE.iter().skip(i + 1).all(|o| o.key != r.key), "{}", r.key);
            assert_eq!(Limits::default().get(r.limit), r.value);
        }
    }
}
