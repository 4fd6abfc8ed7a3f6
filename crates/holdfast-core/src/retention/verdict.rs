//! What retention says: [`Decision`], [`Verdict`], [`Reason`], [`Alarm`].

use super::periods::Every;
use super::plausible::Doubt;
use crate::id::{ClusterId, RunId};
use crate::time::{Duration, short};
use jiff::Timestamp;
use std::fmt;

/// A verdict on every point, and what somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// One per point that was given, newest first: by position on one line of history, by time
    /// between branches and clusters. The order of the input does not matter.
    pub verdicts: Vec<Verdict>,
    /// In the order of the verdicts. The same points give the same alarms again: tell the new ones.
    pub alarms: Vec<Alarm>,
}

/// Whether a point stays, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub id: RunId,
    pub cluster: ClusterId,
    pub keep: bool,
    /// Complete and plausible: rules count it, and it can be the base of a recovery.
    pub counts: bool,
    /// All there are; at least one. If it goes, what is said of points that nobody wants.
    pub reasons: Vec<Reason>,
}

/// Why a point stays or goes. Displays as one short phrase.
///
/// `rule` is the name that [`Rules::keeps`](super::Rules::keeps) gave; `n` of `of` says how far a
/// point has moved towards the end of a rule that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// There are no rules, so nothing goes.
    NoRules,
    /// Among the newest so many.
    Last { rule: String, n: u32, of: u32 },
    /// The newest of a period of the calendar.
    Period { rule: String, every: Every, period: String, n: u32, of: u32 },
    /// Young enough.
    Window { rule: String, until: Timestamp },
    /// Carries a tag that a rule names.
    Tag { rule: String, tag: String },
    /// Held by somebody.
    Hold { id: RunId, title: String, until: Option<Timestamp> },
    /// The store does not let it be deleted.
    Locked { until: Timestamp },
    /// Carries `keep-until`.
    KeepUntil { until: Timestamp },
    /// Carries a `keep-until` that cannot be read.
    KeepUntilUnreadable { text: String },
    /// The newest of the database that counts.
    NewestSuccess,
    /// The newest that was verified.
    NewestVerified,
    /// Among the newest `n`, under which no rule goes.
    AtLeast { rule: String, n: u32 },
    /// The newest that counts of a cluster that was there before the current one.
    NewestOfCluster { until: Timestamp },
    /// The newest that counts of a timeline that was left.
    NewestOfBranch { until: Timestamp },
    /// Newer points of its timeline do not say where it comes from.
    TellsHistory,
    /// Recovery to the oldest time of the WAL window starts here.
    WalBase,
    /// Becomes the base when the one before it is no longer needed.
    NextWalBase,
    /// Has damaged pages, but nothing newer is complete.
    NothingBetter,
    /// Does not count, so it is not touched.
    Doubtful(Doubt),
    /// It goes: no rule wants it.
    NoRule,
    /// It goes: no rule wants it, it has damaged pages, and a newer point is complete.
    Damaged,
}

impl Reason {
    /// Whether it is a reason to keep.
    pub fn keeps(&self) -> bool {
        !matches!(self, Reason::NoRule | Reason::Damaged)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoRules => f.write_str("no rule lets anything go"),
            Reason::Last { rule, n, of } => write!(f, "{rule}: last {n} of {of}"),
            Reason::Period { rule, every, period, n, of } => {
                write!(f, "{rule}: {every} {period} ({n} of {of})")
            }
            Reason::Window { rule, until } => write!(f, "{rule}: window until {}", short(*until)),
            Reason::Tag { rule, tag } => write!(f, "{rule}: tag {}", plain(tag)),
            Reason::Hold { title, until: None, .. } => write!(f, "held: {}", plain(title)),
            Reason::Hold { title, until: Some(t), .. } => {
                write!(f, "held until {}: {}", short(*t), plain(title))
            }
            Reason::Locked { until } => write!(f, "locked until {}", short(*until)),
            Reason::KeepUntil { until } => write!(f, "tag keep-until {}", short(*until)),
            Reason::KeepUntilUnreadable { text } => {
                write!(f, "tag keep-until `{}` is not a date", plain(text))
            }
            Reason::NewestSuccess => f.write_str("newest success"),
            Reason::NewestVerified => f.write_str("newest verified"),
            Reason::AtLeast { rule, n } => write!(f, "{rule}: at least {n}"),
            Reason::NewestOfCluster { until } => {
                write!(f, "newest of an earlier cluster until {}", short(*until))
            }
            Reason::NewestOfBranch { until } => {
                write!(f, "newest of an earlier timeline until {}", short(*until))
            }
            Reason::TellsHistory => f.write_str("tells the history of its timeline"),
            Reason::WalBase => f.write_str("base of the wal window"),
            Reason::NextWalBase => f.write_str("next base of the wal window"),
            Reason::NothingBetter => f.write_str("damaged, but nothing newer is complete"),
            Reason::Doubtful(doubt) => write!(f, "in doubt: {doubt}"),
            Reason::NoRule => f.write_str("no rule wants it"),
            Reason::Damaged => f.write_str("damaged, and a newer point is complete"),
        }
    }
}

/// Something about a point that a person should look at. Displays as one lower-case line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// It does not count, and stays until somebody verifies or expires it.
    Doubtful { cluster: ClusterId, point: RunId, doubt: Doubt },
    /// Its tag `keep-until` cannot be read, so it stays.
    KeepUntilUnreadable { cluster: ClusterId, point: RunId, text: String },
}

impl Alarm {
    /// The point that it is about.
    pub fn point(&self) -> &RunId {
        match self {
            Alarm::Doubtful { point, .. } | Alarm::KeepUntilUnreadable { point, .. } => point,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Alarm::Doubtful { doubt: Doubt::Future { .. }, .. } => {
                "Compare the server's clock with the store's; then expire the point by hand, or leave it."
            }
            Alarm::Doubtful { .. } => {
                "If nothing explains it, find out who made it. `holdfast verify` makes it count; it can be \
                 expired by hand."
            }
            Alarm::KeepUntilUnreadable { .. } => {
                "Write dates as 2027-12-31 or 2027-12-31T18:00:00Z. The point stays until it is expired by hand."
            }
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Alarm::Doubtful { point, doubt, .. } => write!(f, "point {point} does not count: {doubt}"),
            Alarm::KeepUntilUnreadable { point, text, .. } => {
                write!(f, "point {point} has the tag keep-until `{}`, which is not a date", plain(text))
            }
        }
    }
}

/// What others wrote, fit for a terminal: hosts write tags.
fn plain(text: &str) -> String {
    const MOST: usize = 60;
    let mut out: String = text.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}

/// A span to the unit that matters: `40m`, `26h`, `3d`.
pub(super) fn about(d: Duration) -> String {
    match d.0 {
        s if s >= 2 * 86_400 => format!("{}d", s / 86_400),
        s if s >= 2 * 3_600 => format!("{}h", s / 3_600),
        s => format!("{}m", s / 60),
    }
}
