//! [`PgTimestamp`]: the server's `TimestampTz` (src/include/datatype/timestamp.h).

use serde::{Deserialize, Serialize};

/// Microseconds between 1970-01-01 and 2000-01-01 (`POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE` days).
const EPOCH_DIFFERENCE_US: i64 = 946_684_800 * 1_000_000;

/// Microseconds since 2000-01-01 00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PgTimestamp(pub i64);

impl PgTimestamp {
    /// Microseconds since 1970-01-01 00:00 UTC.
    pub fn unix_micros(self) -> i64 {
        self.0.saturating_add(EPOCH_DIFFERENCE_US)
    }

    pub fn from_unix_micros(us: i64) -> Self {
        PgTimestamp(us.saturating_sub(EPOCH_DIFFERENCE_US))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs() {
        assert_eq!(PgTimestamp(0).unix_micros(), 946_684_800_000_000);
        assert_eq!(PgTimestamp::from_unix_micros(946_684_800_000_001), PgTimestamp(1));
        assert_eq!(PgTimestamp(i64::MAX).unix_micros(), i64::MAX);
    }
}
