//! What retention is given: [`Candidate`], [`Hold`], [`Rules`].

use crate::id::{ClusterId, RunId};
use crate::lsn::{Lsn, TimelineId};
use crate::policy::Keep;
use crate::time::Duration;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// A recovery point as retention sees it. Everything but [`stored_at`](Self::stored_at),
/// [`verified`](Self::verified) and [`trusted`](Self::trusted) is what a host claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub id: RunId,
    pub cluster: ClusterId,
    pub timeline: TimelineId,
    /// From where replay starts.
    pub redo_lsn: Lsn,
    pub start_lsn: Lsn,
    pub stop_lsn: Lsn,
    /// The server's clock at the end of the backup: the state that the point holds.
    pub stop_time: Timestamp,
    /// The store's time of the object that committed the point.
    pub stored_at: Timestamp,
    /// One more than the highest that the run could see.
    pub generation: u64,
    /// The size of the database, not of what was stored.
    pub size_bytes: u64,
    /// Some of its pages are damaged.
    pub partial: bool,
    /// When a verification passed whose note the operator signed.
    pub verified: Option<Timestamp>,
    /// The operator signed the record (or verified it).
    pub trusted: bool,
    pub tags: BTreeMap<String, String>,
    /// The ancestors of `timeline`, oldest first, and where each was left. May be empty where the
    /// host did not have the history file; other points of the same timeline then tell.
    pub timeline_history: Vec<(TimelineId, Lsn)>,
}

impl Candidate {
    /// Whether somebody with more than a host's key stands behind it.
    pub(super) fn is_vouched_for(&self) -> bool {
        self.trusted || self.verified.is_some()
    }

    /// When the state was that it holds, as far as the store's clock bears it out. A server's clock
    /// that is a little ahead of the store's is read as the store's.
    pub(super) fn time(&self) -> Timestamp {
        self.stop_time.min(self.stored_at)
    }
}

/// A point that somebody put out of retention's reach. Released holds are not given in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    pub id: RunId,
    pub point: RunId,
    pub title: String,
    /// `None`: until it is released.
    pub until: Option<Timestamp>,
}

/// What the policy says about one vault of a database.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Each with a name for people: `tier daily`, `copy dr`. Empty: everything stays.
    pub keeps: Vec<(String, Keep)>,
    /// The span for which any second can be restored. `None`: only what points need themselves.
    pub wal_keep: Option<Duration>,
    /// Where days, weeks, months and years begin.
    pub timezone: TimeZone,
}

/// `span` before `t`.
pub(super) fn before(t: Timestamp, span: Duration) -> Timestamp {
    let span = SignedDuration::from_secs(i64::try_from(span.0).unwrap_or(i64::MAX));
    t.checked_sub(span).unwrap_or(Timestamp::MIN)
}

/// `span` after `t`.
pub(super) fn after(t: Timestamp, span: Duration) -> Timestamp {
    let span = SignedDuration::from_secs(i64::try_from(span.0).unwrap_or(i64::MAX));
    t.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// How long from `earlier` to `later`; nothing if they are the other way round.
pub(super) fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration(u64::try_from(later.duration_since(earlier).as_secs()).unwrap_or(0))
}

/// Whether the position `end` of `timeline` belongs to the past of a point on `own` with this
/// history. Any position on `own` itself does: compare LSNs for more.
pub(super) fn is_past_of(
    own: TimelineId,
    history: &[(TimelineId, Lsn)],
    timeline: TimelineId,
    end: Lsn,
) -> bool {
    timeline == own || history.iter().any(|(t, left_at)| *t == timeline && end <= *left_at)
}
