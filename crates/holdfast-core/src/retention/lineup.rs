//! The points in order, newest first: [`Lineup`].
//!
//! Neither run ids nor clocks say which point is newer. On one line of history positions do: a
//! later position is newer, and so is a timeline than what it branched from. Between branches, and
//! between clusters, only time is left: the stop time as far as the store's clock bears it out.
//! Both together: a point is taken to be at least as late as every point of its past, and points
//! are ordered by that. Timeline numbers alone would do for honest hosts, but then one point on an
//! invented timeline 4294967295 would be the newest for ever.

use super::input::Candidate;
use super::plausible::{Judged, Standing, judge};
use crate::id::ClusterId;
use crate::lsn::{Lsn, TimelineId};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// One point among the others.
#[derive(Clone)]
pub(super) struct Entry<'a> {
    pub(super) point: &'a Candidate,
    pub(super) standing: Standing,
    /// The past of its timeline.
    pub(super) history: &'a [(TimelineId, Lsn)],
    /// When its state was: what periods and windows go by.
    pub(super) time: Timestamp,
    /// `time`, or that of a point of its past if it is later: what order goes by.
    at_least_as_late_as: Timestamp,
}

impl Entry<'_> {
    pub(super) fn counts(&self) -> bool {
        self.standing == Standing::Counts
    }

    /// Everything else only breaks ties, so that the order never depends on the input's.
    fn order(&self) -> impl Ord + '_ {
        let p = self.point;
        (self.at_least_as_late_as, (&p.cluster, p.timeline, p.stop_lsn, p.generation), (p.stored_at, &p.id))
    }
}

/// All points of a database, newest first. Points in doubt stand where their claims put them; no
/// rule asks for their place.
pub(super) struct Lineup<'a> {
    entries: Vec<Entry<'a>>,
}

impl<'a> Lineup<'a> {
    pub(super) fn new(points: &'a [Candidate], now: Timestamp) -> Self {
        let mut entries: Vec<Entry<'a>> = points
            .iter()
            .zip(judge(points, now))
            .map(|(point, Judged { standing, history })| {
                let time = point.time();
                Entry { point, standing, history, time, at_least_as_late_as: time }
            })
            .collect();
        date_by_their_past(&mut entries);
        entries.sort_by(|a, b| b.order().cmp(&a.order()));
        Lineup { entries }
    }

    /// With their places in the lineup.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = (usize, &Entry<'a>)> {
        self.entries.iter().enumerate()
    }

    /// Those that count.
    pub(super) fn counting(&self) -> impl DoubleEndedIterator<Item = (usize, &Entry<'a>)> {
        self.all().filter(|(_, e)| e.counts())
    }

    /// The cluster that the database is in now: the one of the newest point that counts.
    pub(super) fn current_cluster(&self) -> Option<&'a ClusterId> {
        self.counting().next().map(|(_, e)| &e.point.cluster)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// Makes no point earlier than the points of its past.
fn date_by_their_past(entries: &mut [Entry<'_>]) {
    // Ancestors have lower numbers, so this goes from the past to the future.
    let mut sound: Vec<&mut Entry<'_>> =
        entries.iter_mut().filter(|e| !matches!(e.standing, Standing::Doubtful(_))).collect();
    sound.sort_by_key(|e| {
        let p = e.point;
        (&p.cluster, p.timeline, p.stop_lsn, p.generation, p.stored_at, &p.id)
    });
    // Of each timeline, position and latest time up to there.
    let mut latest: BTreeMap<(&ClusterId, TimelineId), Vec<(Lsn, Timestamp)>> = BTreeMap::new();
    for e in sound {
        let p = e.point;
        let mut time = e.time;
        for (timeline, left_at) in e.history.iter().filter(|(t, _)| *t < p.timeline) {
            let past = latest.get(&(&p.cluster, *timeline)).map_or(&[][..], Vec::as_slice);
            let upto = past.partition_point(|(lsn, _)| lsn <= left_at);
            time = past[..upto].last().map_or(time, |(_, t)| time.max(*t));
        }
        let own = latest.entry((&p.cluster, p.timeline)).or_default();
        time = own.last().map_or(time, |(_, t)| time.max(*t));
        own.push((p.stop_lsn, time));
        e.at_least_as_late_as = time;
    }
}
