//! Histories for tests: what honest servers do ([`History`]), and what hostile hosts add
//! ([`Fake`]).

use super::{Candidate, Rules};
use crate::id::{ClusterId, RunId};
use crate::lsn::{Lsn, TimelineId};
use crate::policy::Keep;
use crate::time::Duration;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

pub(super) const DAY: i64 = 86_400;

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

pub(super) fn plus(t: Timestamp, seconds: i64) -> Timestamp {
    t + SignedDuration::from_secs(seconds)
}

pub(super) fn id(n: usize) -> RunId {
    // On purpose not in the order of time: nobody may order by it.
    format!("20000101T000000Z-{:06}", 999_999 - n).parse().unwrap()
}

pub(super) fn days(n: u64) -> Duration {
    Duration(n * 86_400)
}

/// Copenhagen's rules, without the machine's database of zones.
pub(super) fn zone() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

pub(super) fn rules(keep: Keep) -> Rules {
    Rules { keeps: vec![("t".into(), keep)], wal_keep: None, timezone: zone() }
}

/// A point at a position, stored ten minutes after it ended, that nobody vouches for.
pub(super) fn point(n: usize, time: Timestamp, timeline: u32, lsn: u64) -> Candidate {
    Candidate {
        id: id(n),
        cluster: ClusterId::from_system_identifier(7),
        timeline: TimelineId(timeline),
        redo_lsn: Lsn(lsn.saturating_sub(20)),
        start_lsn: Lsn(lsn.saturating_sub(10)),
        stop_lsn: Lsn(lsn),
        stop_time: time,
        stored_at: plus(time, 600),
        generation: n as u64,
        size_bytes: 1 << 30,
        partial: false,
        verified: None,
        trusted: false,
        tags: BTreeMap::new(),
        timeline_history: Vec::new(),
    }
}

/// A point a day at three in the morning UTC, numbered from 1, oldest first.
pub(super) fn daily(first: &str, n: usize) -> Vec<Candidate> {
    let start = at(&format!("{first}T03:00:00Z"));
    (1..=n).map(|i| point(i, plus(start, (i as i64 - 1) * DAY), 1, i as u64 * 1000)).collect()
}

/// What happens before the next backup.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    Nothing,
    /// A standby takes over where the primary was.
    Failover,
    /// Recovery to an earlier point, that many back.
    Recovery(usize),
    /// `pg_upgrade`.
    Upgrade,
}

/// One backup of an honest host, and what went before.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) event: Event,
    /// At least 60 since the last one.
    pub(super) minutes: i64,
    /// How far the host's clock is off, less than 300 either way.
    pub(super) skew_seconds: i64,
    /// How long from the end of the backup to its commit, less than 60.
    pub(super) upload_minutes: i64,
    /// 100: as before.
    pub(super) size_percent: u64,
    pub(super) partial: bool,
    pub(super) verified: bool,
    pub(super) trusted: bool,
    pub(super) forgets_history: bool,
    pub(super) tagged: bool,
}

/// An honest database that lives through steps.
pub(super) struct History {
    pub(super) points: Vec<Candidate>,
    clock: Timestamp,
    cluster: u64,
    timeline: u32,
    newest_timeline: u32,
    past: Vec<(TimelineId, Lsn)>,
    lsn: u64,
    size: u64,
    generation: u64,
}

impl History {
    pub(super) fn new() -> Self {
        History {
            points: Vec::new(),
            clock: at("2025-01-01T00:00:00Z"),
            cluster: 1,
            timeline: 1,
            newest_timeline: 1,
            past: Vec::new(),
            lsn: 1000,
            size: 1 << 40,
            generation: 0,
        }
    }

    pub(super) fn of(steps: &[Step]) -> Vec<Candidate> {
        let mut h = History::new();
        for step in steps {
            h.step(step);
        }
        h.points
    }

    fn step(&mut self, s: &Step) {
        self.clock = plus(self.clock, s.minutes * 60);
        self.lsn += 100;
        let mut quiet = false;
        match s.event {
            Event::Nothing => quiet = true,
            Event::Failover => self.branch(self.timeline, self.lsn),
            Event::Recovery(back) => {
                let own = self.cluster.to_string();
                let earlier: Vec<Candidate> =
                    self.points.iter().filter(|p| p.cluster.as_str() == own).rev().cloned().collect();
                if let Some(p) = earlier.get(back % earlier.len().max(1)) {
                    self.past = self.history_of(p);
                    self.size = p.size_bytes;
                    self.branch(p.timeline.0, p.stop_lsn.0 + 7);
                }
            }
            Event::Upgrade => {
                self.cluster += 1;
                (self.timeline, self.newest_timeline, self.lsn, self.generation) = (1, 1, 500, 0);
                self.past.clear();
            }
        }
        self.lsn += 100;
        self.generation += 1;
        self.size = self.size / 100 * s.size_percent;
        let after_partial = self.points.last().is_some_and(|p| p.partial);
        let mut p = point(self.points.len(), plus(self.clock, s.skew_seconds), self.timeline, self.lsn);
        p.cluster = ClusterId::from_system_identifier(self.cluster);
        p.stored_at = plus(self.clock, s.upload_minutes * 60);
        p.generation = self.generation;
        p.size_bytes = self.size;
        p.partial = s.partial && quiet && !after_partial && self.generation > 1;
        p.verified = s.verified.then_some(p.stored_at);
        p.trusted = s.trusted || s.verified;
        if !(s.forgets_history && quiet) {
            p.timeline_history = self.past.clone();
        }
        if s.tagged {
            p.tags.insert("env".into(), "prod".into());
        }
        self.points.push(p);
    }

    fn branch(&mut self, from: u32, lsn: u64) {
        self.past.push((TimelineId(from), Lsn(lsn)));
        self.newest_timeline += 1;
        self.timeline = self.newest_timeline;
        self.lsn = lsn;
    }

    fn history_of(&self, p: &Candidate) -> Vec<(TimelineId, Lsn)> {
        let same = |q: &&Candidate| q.cluster == p.cluster && q.timeline == p.timeline;
        let told = self.points.iter().filter(same).find(|q| !q.timeline_history.is_empty());
        told.map_or(Vec::new(), |q| q.timeline_history.clone())
    }
}

/// Points that give themselves away.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fake {
    Future,
    Backdated,
    Backwards,
    Tiny,
    OldGeneration,
    Contradiction,
}

impl Fake {
    pub(super) const ALL: [Fake; 6] = [
        Fake::Future,
        Fake::Backdated,
        Fake::Backwards,
        Fake::Tiny,
        Fake::OldGeneration,
        Fake::Contradiction,
    ];

    /// A fake that the store sees right after the honest, complete `real`.
    pub(super) fn after(self, real: &Candidate, n: usize, seconds: i64) -> Candidate {
        let mut f = real.clone();
        f.id = id(100_000 + n);
        (f.trusted, f.verified) = (false, None);
        f.tags.clear();
        f.stored_at = plus(real.stored_at, seconds);
        f.stop_time = f.stored_at;
        f.generation += 1;
        f.stop_lsn.0 += 1;
        match self {
            Fake::Future => f.stop_time = plus(f.stored_at, 301 + seconds * 86_400),
            Fake::Backdated => f.stop_time = plus(f.stored_at, -2 * DAY - seconds * 86_400),
            Fake::Backwards => {
                f.stop_lsn = Lsn(real.stop_lsn.0 - 1);
                (f.redo_lsn, f.start_lsn) = (f.stop_lsn, f.stop_lsn);
            }
            Fake::Tiny => f.size_bytes = real.size_bytes / 4 - 1,
            Fake::OldGeneration => f.generation = real.generation - 1,
            Fake::Contradiction => f.redo_lsn = Lsn(f.stop_lsn.0 + 1),
        }
        f
    }
}
