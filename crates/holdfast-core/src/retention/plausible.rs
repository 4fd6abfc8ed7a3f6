//! Which points count: [`judge`].
//!
//! A host signs what it likes, so its points are compared with those that counted before, in the
//! order in which *the store* saw them (the one thing a host cannot choose). What is in doubt is
//! kept and never compared with, so that it neither displaces anything nor spoils the comparison
//! for others. The operator's signature, or a verification, is stronger than the comparison; only a
//! time in the future is doubtful whoever signed it, because it would count as newest for years.
//!
//! Two of the comparisons are broken by honest events: a large `TRUNCATE`, and putting a server's
//! disk back to an older state, which writes lower positions on the same timeline. The points after
//! such an event agree with each other and not with those before. They count from the moment when
//! one of them is vouched for, and those before it that showed the same break count with it. A
//! smaller size is believed a week later as well: retention itself removes the steps in between,
//! and without this a database that had shrunk over months would come into doubt by expiring.

use super::input::{Candidate, is_past_of, since};
use super::verdict::about;
use crate::id::{ClusterId, RunId};
use crate::lsn::{Lsn, TimelineId};
use crate::size::ByteSize;
use crate::time::Duration;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt;

/// Clocks that differ by no more are the same.
const SLACK: Duration = Duration(5 * 60);
/// A commit this long after the end of its backup is not an ordinary one.
const LATE: Duration = Duration(2 * 86_400);
/// A database may shrink to any size in this time.
const SHRINK: Duration = Duration(7 * 86_400);

/// Why a point does not count. Displays as a phrase about the point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// It holds a state later than the store's clock, or ours, knows of.
    Future { by: Duration },
    /// It was committed days after its backup ended, by a host.
    Late { by: Duration },
    /// Its positions contradict each other.
    Contradiction(&'static str),
    /// Another point of the same timeline has another history.
    OtherHistory { of: RunId },
    /// It ends before one that was stored before it on the same timeline.
    Backwards { end: Lsn, before: Lsn, of: RunId },
    /// Its position is later than another's and its time is earlier.
    TimeBackwards { by: Duration, of: RunId },
    /// It saw fewer points than one that was stored before it.
    Generation { of: RunId },
    /// It has less than a quarter of the size of the one before.
    Shrunk { to: u64, from: u64, of: RunId },
}

impl Doubt {
    /// Whether points after an honest event may all show it.
    fn is_same_break(&self, other: &Doubt) -> bool {
        matches!(
            (self, other),
            (Doubt::Backwards { .. }, Doubt::Backwards { .. }) | (Doubt::Shrunk { .. }, Doubt::Shrunk { .. })
        )
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::Future { by } => write!(f, "its stop time is {} in the future", about(*by)),
            Doubt::Late { by } => write!(f, "it was stored {} after its stop time", about(*by)),
            Doubt::Contradiction(what) => f.write_str(what),
            Doubt::OtherHistory { of } => write!(f, "its timeline has another history than in {of}"),
            Doubt::Backwards { end, before, of } => {
                write!(f, "it ends at {end}, before {before} of the earlier {of}")
            }
            Doubt::TimeBackwards { by, of } => {
                write!(f, "its stop time is {} before that of the earlier {of}", about(*by))
            }
            Doubt::Generation { of } => write!(f, "it did not see the earlier {of}"),
            Doubt::Shrunk { to, from, of } => {
                write!(f, "it has {} where {of} has {}", ByteSize(*to), ByteSize(*from))
            }
        }
    }
}

/// What a point is to the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Complete and plausible.
    Counts,
    /// Plausible, with damaged pages.
    Partial,
    Doubtful(Doubt),
}

/// A standing, and the history that the point's timeline has (its own, or where it brought none,
/// that of others).
pub(super) struct Judged<'a> {
    pub(super) standing: Standing,
    pub(super) history: &'a [(TimelineId, Lsn)],
}

/// The standing of each point, in the order given.
pub(super) fn judge<'a>(points: &'a [Candidate], now: Timestamp) -> Vec<Judged<'a>> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by_key(|&i| {
        let p = &points[i];
        (p.stored_at, p.generation, p.stop_lsn, p.timeline, &p.cluster, &p.id)
    });
    let mut standings = vec![Standing::Counts; points.len()];
    let mut seen = Seen::default();
    for i in order {
        let p = &points[i];
        if let Some(doubt) = clock(p, now) {
            standings[i] = Standing::Doubtful(doubt);
            continue;
        }
        let doubt = compare(p, &seen.before(p));
        if p.partial {
            standings[i] = match doubt {
                Some(doubt) if !p.is_vouched_for() => Standing::Doubtful(doubt),
                _ => Standing::Partial,
            };
            continue;
        }
        let waiting = seen.waiting.entry(&p.cluster).or_default();
        match doubt {
            None => waiting.clear(),
            Some(doubt) if p.is_vouched_for() || is_settled(p, &doubt, points) => {
                for (j, same) in std::mem::take(waiting) {
                    if same.is_same_break(&doubt) && is_successor(p, &points[j]) {
                        standings[j] = Standing::Counts;
                        seen.count(&points[j]);
                    }
                }
            }
            Some(doubt) => {
                waiting.push((i, doubt.clone()));
                standings[i] = Standing::Doubtful(doubt);
                continue;
            }
        }
        seen.count(p);
    }
    let known = &seen.histories;
    let history = |p: &'a Candidate| match p.timeline_history.is_empty() {
        false => p.timeline_history.as_slice(),
        true => known.get(&(&p.cluster, p.timeline)).map_or(&[][..], |k| &k.timeline_history),
    };
    points.iter().zip(standings).map(|(p, standing)| Judged { standing, history: history(p) }).collect()
}

/// The points that counted so far.
#[derive(Default)]
struct Seen<'a> {
    last: Option<&'a Candidate>,
    by_cluster: BTreeMap<&'a ClusterId, Vec<&'a Candidate>>,
    /// Of each timeline the first that brought a history, or the last that is vouched for.
    histories: BTreeMap<(&'a ClusterId, TimelineId), &'a Candidate>,
    /// Points in doubt since the last one that counted, which a later one may bear out.
    waiting: BTreeMap<&'a ClusterId, Vec<(usize, Doubt)>>,
}

/// What a point is compared with.
struct Before<'a> {
    /// The last on the same timeline.
    same_timeline: Option<&'a Candidate>,
    /// The last on the same timeline or an ancestor, in the point's past.
    past: Option<&'a Candidate>,
    /// The last of the cluster.
    cluster: Option<&'a Candidate>,
    /// The last of the database.
    database: Option<&'a Candidate>,
    /// One of the same timeline that brought a history.
    history: Option<&'a Candidate>,
}

impl<'a> Seen<'a> {
    fn count(&mut self, p: &'a Candidate) {
        self.last = Some(p);
        self.by_cluster.entry(&p.cluster).or_default().push(p);
        if !p.timeline_history.is_empty() {
            let known = self.histories.entry((&p.cluster, p.timeline)).or_insert(p);
            if p.is_vouched_for() {
                *known = p;
            }
        }
    }

    fn before(&self, p: &Candidate) -> Before<'a> {
        let counted = self.by_cluster.get(&p.cluster).map_or(&[][..], Vec::as_slice);
        let history = self.histories.get(&(&p.cluster, p.timeline)).copied();
        let own = match history {
            Some(known) if p.timeline_history.is_empty() => &known.timeline_history,
            _ => &p.timeline_history,
        };
        let last = |wanted: &dyn Fn(&Candidate) -> bool| counted.iter().rev().copied().find(|q| wanted(q));
        Before {
            same_timeline: last(&|q| q.timeline == p.timeline),
            past: last(&|q| is_past_of(p.timeline, own, q.timeline, q.stop_lsn)),
            cluster: counted.last().copied(),
            database: self.last,
            history,
        }
    }
}

/// Doubts that need no other point.
fn clock(p: &Candidate, now: Timestamp) -> Option<Doubt> {
    let ahead = since(p.stored_at.min(now), p.stop_time);
    if ahead > SLACK {
        return Some(Doubt::Future { by: ahead });
    }
    let late = since(p.stop_time, p.stored_at);
    (late > LATE && !p.is_vouched_for()).then_some(Doubt::Late { by: late })
}

/// The first thing about `p` that does not go with what was `before`.
fn compare(p: &Candidate, before: &Before<'_>) -> Option<Doubt> {
    if let Some(what) = contradiction(p) {
        return Some(Doubt::Contradiction(what));
    }
    if let Some(q) = before.history
        && !p.timeline_history.is_empty()
        && p.timeline_history != q.timeline_history
    {
        return Some(Doubt::OtherHistory { of: q.id.clone() });
    }
    if let Some(q) = before.same_timeline
        && p.stop_lsn < q.stop_lsn
    {
        return Some(Doubt::Backwards { end: p.stop_lsn, before: q.stop_lsn, of: q.id.clone() });
    }
    if let Some(q) = before.past
        && since(p.time(), q.time()) > SLACK
    {
        return Some(Doubt::TimeBackwards { by: since(p.time(), q.time()), of: q.id.clone() });
    }
    // Equal is fine: two runs at once see the same points.
    if let Some(q) = before.cluster
        && p.generation < q.generation
    {
        return Some(Doubt::Generation { of: q.id.clone() });
    }
    // After a recovery to an earlier time, the past is what the size goes on from; it may have
    // expired. `pg_upgrade` leaves no past, and about the same size.
    let no_past = p.timeline_history.is_empty().then(|| before.cluster.or(before.database)).flatten();
    if let Some(q) = before.past.or(no_past)
        && p.size_bytes < q.size_bytes / 4
    {
        return Some(Doubt::Shrunk { to: p.size_bytes, from: q.size_bytes, of: q.id.clone() });
    }
    None
}

fn contradiction(p: &Candidate) -> Option<&'static str> {
    let h = &p.timeline_history;
    if p.redo_lsn > p.start_lsn || p.start_lsn > p.stop_lsn {
        return Some("its positions are not in order");
    }
    if h.iter().any(|(t, _)| *t >= p.timeline)
        || h.windows(2).any(|w| matches!(w, [a, b] if a.0 >= b.0 || a.1 > b.1))
    {
        return Some("its timeline history is not in order");
    }
    h.last().is_some_and(|(_, began)| p.stop_lsn < *began).then_some("it ends before its timeline begins")
}

/// Whether the size was different long enough ago.
fn is_settled(p: &Candidate, doubt: &Doubt, points: &[Candidate]) -> bool {
    let Doubt::Shrunk { of, .. } = doubt else { return false };
    points.iter().filter(|q| q.id == *of).all(|q| since(q.stored_at, p.stored_at) >= SHRINK)
}

/// Whether `p` would be plausible if `q` were all that counted before, on the same history.
fn is_successor(p: &Candidate, q: &Candidate) -> bool {
    let same_timeline = (p.timeline == q.timeline).then_some(q);
    is_past_of(p.timeline, &p.timeline_history, q.timeline, q.stop_lsn)
        && compare(
            p,
            &Before {
                same_timeline,
                past: Some(q),
                cluster: Some(q),
                database: Some(q),
                history: same_timeline.filter(|q| !q.timeline_history.is_empty()),
            },
        )
        .is_none()
}
