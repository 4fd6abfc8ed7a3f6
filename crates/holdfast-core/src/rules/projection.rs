//! What a schedule and a `keep` leave standing once they have run for long: [`kept_at`].

use crate::policy::Keep;
use crate::retention::Every;
use crate::schedule::Schedule;
use crate::time::Duration;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

const DAY: u64 = 86_400;
/// As many runs as are projected; a tier that runs every minute is judged by its newest months.
const MANY: usize = 60_000;

/// How far back `keep` reaches at most, for a tier whose runs are at most `pause` apart.
pub(crate) fn reach(keep: &Keep, pause: Duration) -> Duration {
    let by = |n: u32, each: u64| u64::from(n).saturating_mul(each);
    let spans = [
        by(keep.last.max(keep.at_least), pause.0),
        by(keep.hourly, 3_600.max(pause.0)),
        by(keep.daily, DAY.max(pause.0)),
        by(keep.weekly, (7 * DAY).max(pause.0)),
        by(keep.monthly, (31 * DAY).max(pause.0)),
        by(keep.yearly, (366 * DAY).max(pause.0)),
        keep.window.map_or(0, |w| w.0),
    ];
    Duration(spans.into_iter().max().unwrap_or(0))
}

/// The moments of all points that stand at `now`, newest first, if every run of these schedules, each in its
/// zone, succeeded since long ago. Days and weeks are those of the first. Rules on tags keep what nobody can
/// foresee; they add nothing here.
pub(crate) fn kept_at(tiers: &[(&Schedule, TimeZone)], keep: &Keep, now: Timestamp) -> Vec<Timestamp> {
    let zone = tiers.first().map_or(TimeZone::UTC, |(_, z)| z.clone());
    let pauses = tiers.iter().filter_map(|(s, z)| s.longest_pause(z));
    let pause = pauses.max().unwrap_or(Duration(DAY));
    let back = reach(keep, pause).0.saturating_add(pause.0).min(200 * 366 * DAY);
    let from = i64::try_from(back)
        .ok()
        .and_then(|s| now.checked_sub(SignedDuration::from_secs(s)).ok())
        .unwrap_or(now);
    let mut runs: Vec<Timestamp> =
        tiers.iter().flat_map(|(s, z)| s.between(from, now, z, usize::MAX)).collect();
    runs.sort_unstable();
    runs.dedup();
    runs.reverse();
    runs.truncate(MANY);
    let mut kept: BTreeSet<Timestamp> = BTreeSet::new();
    kept.extend(runs.iter().take(keep.last.max(keep.at_least) as usize));
    if let Some(w) = keep.window {
        let young =
            |t: &&Timestamp| u64::try_from(now.as_second() - t.as_second()).is_ok_and(|age| age < w.0);
        kept.extend(runs.iter().filter(young));
    }
    for every in Every::ALL {
        let wanted = every.wanted(keep) as usize;
        let mut seen = BTreeSet::new();
        for t in &runs {
            if seen.len() == wanted {
                break;
            }
            if seen.insert(every.period(*t, &zone)) {
                kept.insert(*t);
            }
        }
    }
    kept.into_iter().rev().collect()
}

/// The age of the oldest of them.
pub(crate) fn back(kept: &[Timestamp], now: Timestamp) -> Duration {
    Duration(kept.last().and_then(|t| u64::try_from(now.as_second() - t.as_second()).ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(schedule: &str, keep: Keep) -> usize {
        let s: Schedule = schedule.parse().unwrap();
        kept_at(&[(&s, TimeZone::UTC)], &keep, "2026-11-22T12:00:00Z".parse().unwrap()).len()
    }

    #[test]
    fn what_stands_after_a_long_time() {
        let keep = Keep::default();
        assert_eq!(count("0 3 * * *", Keep { last: 7, ..keep.clone() }), 7);
        assert_eq!(count("every 6h", Keep { last: 30, ..keep.clone() }), 30);
        // At noon the run of this moment is still to come, and that of 30 days ago goes.
        assert_eq!(count("every 6h", Keep { window: Some(Duration(30 * DAY)), ..keep.clone() }), 119);
        assert_eq!(count("0 3 * * *", Keep { daily: 7, weekly: 4, ..keep.clone() }), 10, "today is in both");
        assert_eq!(count("0 3 1 * *", Keep { monthly: 12, yearly: 7, ..keep.clone() }), 17);
        assert_eq!(count("0 3 * * 0", Keep { window: Some(Duration(DAY)), at_least: 2, ..keep.clone() }), 2);
        assert_eq!(count("* * * * *", Keep { hourly: 3, ..keep }), 3);
    }
}
