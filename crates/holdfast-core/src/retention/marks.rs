//! What is said of a single point: holds, locks and tags. They keep whatever its standing, because
//! a point that is kept for itself displaces nothing.

use super::input::{Hold, Rules};
use super::rules::Docket;
use super::verdict::{Alarm, Reason};
use crate::id::RunId;
use crate::policy::KEEP_UNTIL;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// Holds and locks that have not ended, `keep-until`, and the tags that rules name.
pub(super) fn apply(
    docket: &mut Docket<'_>,
    holds: &[Hold],
    locks: &BTreeMap<RunId, Timestamp>,
    rules: &Rules,
    now: Timestamp,
) {
    for (i, point) in docket.points() {
        let mut held: Vec<&Hold> =
            holds.iter().filter(|h| h.point == point.id && h.until.is_none_or(|t| t > now)).collect();
        held.sort_by_key(|h| &h.id);
        for h in held {
            docket.keep(i, Reason::Hold { id: h.id.clone(), title: h.title.clone(), until: h.until });
        }
        if let Some(until) = locks.get(&point.id).filter(|t| **t > now) {
            docket.keep(i, Reason::Locked { until: *until });
        }
        if let Some(text) = point.tags.get(KEEP_UNTIL) {
            match keep_until(text, &rules.timezone) {
                Some(until) if until > now => docket.keep(i, Reason::KeepUntil { until }),
                Some(_) => {}
                None => {
                    docket.keep(i, Reason::KeepUntilUnreadable { text: text.clone() });
                    docket.alarm(
                        i,
                        Alarm::KeepUntilUnreadable {
                            cluster: point.cluster.clone(),
                            point: point.id.clone(),
                            text: text.clone(),
                        },
                    );
                }
            }
        }
        for (rule, keep) in &rules.keeps {
            for tag in keep.tags.iter().filter(|t| t.matches(&point.tags)) {
                docket.keep(i, Reason::Tag { rule: rule.clone(), tag: tag.to_string() });
            }
        }
    }
}

/// An instant with its zone, or a day, which lasts to its end. A time of day without a zone is not
/// guessed at. `None`: it cannot be read, and what carries it stays.
pub fn keep_until(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(t) = text.parse::<Timestamp>() {
        return Some(t);
    }
    if text.len() != "2027-12-31".len() {
        return None;
    }
    let day: Date = text.parse().ok()?;
    let end = day.tomorrow().and_then(|d| d.to_zoned(zone.clone()));
    Some(end.map_or(Timestamp::MAX, |z| z.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_keep_until() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let read = |s: &str| keep_until(s, &zone).map(|t| t.to_string());
        assert_eq!(read("2027-06-30").as_deref(), Some("2027-06-30T22:00:00Z"), "to the end of the day");
        assert_eq!(read(" 2027-06-30T12:00:00+02:00 ").as_deref(), Some("2027-06-30T10:00:00Z"));
        assert_eq!(keep_until("9999-12-31", &zone), Some(Timestamp::MAX));
        for bad in
            ["", "2027", "2027-02-30", "2027-06-30T12:00:00", "2027-06-30 12:00", "forever", "30.06.2027"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
