//! From points to verdicts: [`decide`], and the rules of `keep`.

use super::input::{Candidate, Hold, Rules, after};
use super::lineup::Lineup;
use super::periods::{Every, Period};
use super::plausible::Standing;
use super::verdict::{Alarm, Decision, Reason, Verdict};
use super::{bases, guards, marks};
use crate::id::RunId;
use crate::policy::Keep;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// Says which of `points`, all of one database in one vault, stay. See the [module](super).
///
/// `holds` are those that nobody released; `locks` says until when the store refuses to delete a
/// point; `now` is the store's time.
pub fn decide(
    points: &[Candidate],
    holds: &[Hold],
    locks: &BTreeMap<RunId, Timestamp>,
    rules: &Rules,
    now: Timestamp,
) -> Decision {
    let lineup = Lineup::new(points, now);
    let mut docket = Docket::new(&lineup);
    for (rule, keep) in &rules.keeps {
        last(&mut docket, rule, keep);
        periods(&mut docket, rule, keep, &rules.timezone);
        window(&mut docket, rule, keep, now);
    }
    marks::apply(&mut docket, holds, locks, rules, now);
    guards::apply(&mut docket, rules, now);
    bases::apply(&mut docket, rules, now);
    docket.decide()
}

/// The newest so many.
fn last(docket: &mut Docket<'_>, rule: &str, keep: &Keep) {
    for (n, i) in (1..=keep.last).zip(docket.counting()) {
        docket.keep(i, Reason::Last { rule: rule.to_string(), n, of: keep.last });
    }
}

/// The newest of each of the latest periods that have one.
fn periods(docket: &mut Docket<'_>, rule: &str, keep: &Keep, zone: &TimeZone) {
    for every in Every::ALL {
        let of = every.wanted(keep);
        if of == 0 {
            continue;
        }
        let mut newest: BTreeMap<Period, usize> = BTreeMap::new();
        for (i, e) in docket.lineup.counting() {
            newest.entry(every.period(e.time, zone)).or_insert(i);
        }
        for (n, (period, i)) in (1..=of).zip(newest.into_iter().rev()) {
            docket.keep(i, Reason::Period { rule: rule.to_string(), every, period: period.name, n, of });
        }
    }
}

/// Everything young enough. Nobody displaces anybody here, so damaged points stay as well.
fn window(docket: &mut Docket<'_>, rule: &str, keep: &Keep, now: Timestamp) {
    let Some(span) = keep.window else { return };
    for (i, e) in docket.lineup.all() {
        let until = after(e.time, span);
        if until >= now {
            docket.keep(i, Reason::Window { rule: rule.to_string(), until });
        }
    }
}

/// The points in order, and what has been found for each.
pub(super) struct Docket<'a> {
    pub(super) lineup: &'a Lineup<'a>,
    reasons: Vec<Vec<Reason>>,
    alarms: Vec<Vec<Alarm>>,
}

impl<'a> Docket<'a> {
    fn new(lineup: &'a Lineup<'a>) -> Self {
        Docket { lineup, reasons: vec![Vec::new(); lineup.len()], alarms: vec![Vec::new(); lineup.len()] }
    }

    /// All points with their places.
    pub(super) fn points(&self) -> impl Iterator<Item = (usize, &'a Candidate)> + use<'a> {
        self.lineup.all().map(|(i, e)| (i, e.point))
    }

    /// The places of those that count, newest first.
    fn counting(&self) -> impl Iterator<Item = usize> + use<'a> {
        self.lineup.counting().map(|(i, _)| i)
    }

    pub(super) fn keep(&mut self, i: usize, reason: Reason) {
        if let Some(reasons) = self.reasons.get_mut(i) {
            reasons.push(reason);
        }
    }

    pub(super) fn alarm(&mut self, i: usize, alarm: Alarm) {
        if let Some(alarms) = self.alarms.get_mut(i) {
            alarms.push(alarm);
        }
    }

    fn decide(self) -> Decision {
        let verdicts = self
            .lineup
            .all()
            .zip(self.reasons)
            .map(|((_, e), mut reasons)| {
                if reasons.is_empty() {
                    reasons.push(match e.standing {
                        Standing::Partial => Reason::Damaged,
                        _ => Reason::NoRule,
                    });
                }
                Verdict {
                    id: e.point.id.clone(),
                    cluster: e.point.cluster.clone(),
                    keep: reasons.iter().any(Reason::keeps),
                    counts: e.counts(),
                    reasons,
                }
            })
            .collect();
        Decision { verdicts, alarms: self.alarms.into_iter().flatten().collect() }
    }
}
