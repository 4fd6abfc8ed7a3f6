//! Which second: the time of the incident, and the backup that reaches it.
//!
//! People know when something went wrong, not how long ago that will be when the provider begins: "10 minutes ago"
//! is refused (provider rules X18). A source can be reached in more than one way: while it lives by its name, after
//! its deletion by what was retained, in another region by what was replicated; and a name that was used twice has
//! two pasts. [`choose`] takes the one whose window holds the moment.

use crate::error::{EngineError, Result};
use holdfast_core::managed::{Moment, RestorableWindow, RestoreFrom};
use holdfast_core::time::{TimeError, human, parse_instant, short};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The moment that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// The newest that the provider can reach.
    #[default]
    Latest,
    Time(Timestamp),
}

impl At {
    /// `latest`, or an instant with its zone.
    ///
    /// # Errors
    /// No zone, no time, or a time that counts from now.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("latest") {
            return Ok(At::Latest);
        }
        let relative = text.eq_ignore_ascii_case("now") || text.ends_with("ago");
        if relative {
            return Err(EngineError::usage(
                format!("`{text}` depends on when it is read, and the restore begins later"),
                "give the time of the incident, such as 2026-11-21T09:35:00+01:00, or `latest`",
            ));
        }
        parse_instant(text, Timestamp::now()).map(At::Time).map_err(|e| match e {
            // Its hint names a time that counts from now, which is none here.
            TimeError::NotATime(_) => EngineError::usage(
                e.to_string(),
                "write the time of the incident with its zone, such as 2026-11-21T09:35:00+01:00, or `latest`",
            ),
            e => e.into(),
        })
    }
}

/// Which of a source's pasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Past {
    Live,
    Retained,
    Replicated,
    /// Of a database that a cutover replaced, and that is there still.
    Before,
}

impl Past {
    pub fn words(self) -> &'static str {
        match self {
            Past::Live => "the live source",
            Past::Retained => "the retained backup of a deleted source",
            Past::Before => "the database before the cutover",
            Past::Replicated => "the backup replicated from another region",
        }
    }
}

/// One way to a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    pub past: Past,
    /// With any moment in it: [`choose`] sets it.
    pub from: RestoreFrom,
    pub resource_id: String,
    pub window: RestorableWindow,
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub way: Way,
    pub from: RestoreFrom,
    /// What the data will show.
    pub moment: Timestamp,
    /// Worth saying.
    pub notes: Vec<String>,
}

/// Finds the way whose window holds the moment; the live source first, then the one that reaches furthest.
/// `nearest` takes the closest moment instead of refusing.
///
/// # Errors
/// No way holds it; the hint names the nearest moment. `ways` is not empty.
pub fn choose(ways: &[Way], at: At, nearest: bool, now: Timestamp) -> Result<Choice> {
    let mut sorted: Vec<&Way> = ways.iter().collect();
    sorted.sort_by_key(|w| (w.past != Past::Live, std::cmp::Reverse(w.window.latest)));
    let none = || EngineError::not_found("there is nothing to restore a moment from", "restore a snapshot");
    let first = *sorted.first().ok_or_else(none)?;
    let t = match at {
        At::Latest => {
            return Ok(Choice {
                from: with(&first.from, Moment::Latest),
                moment: first.window.latest,
                way: first.clone(),
                notes: Vec::new(),
            });
        }
        At::Time(t) => t,
    };
    let mut notes = Vec::new();
    let second = whole(t);
    if second != t {
        notes.push(format!("whole seconds only: {} instead of {t}", short(second)));
    }
    if let Some(way) = sorted.iter().find(|w| w.window.contains(second)) {
        return Ok(Choice {
            from: with(&way.from, Moment::At(second)),
            moment: second,
            way: (*way).clone(),
            notes,
        });
    }
    let distance = |w: &&&Way| second.duration_since(w.window.nearest(second)).abs();
    let way = *sorted.iter().min_by_key(distance).unwrap_or(&first);
    let mut closest = whole_inside(way.window.nearest(second), &way.window);
    if way.past != Past::Retained && way.window.earliest.is_some_and(|e| closest < e + MOVES_ON) {
        let inside = whole(closest + MOVES_ON);
        closest = if way.window.contains(inside) { inside } else { closest };
    }
    if nearest {
        notes.push(format!(
            "{} cannot be reached: the nearest moment is taken, {} {}",
            short(second),
            human(second.duration_since(closest).unsigned_abs()),
            if closest < second { "before it" } else { "after it" },
        ));
        return Ok(Choice {
            from: with(&way.from, Moment::At(closest)),
            moment: closest,
            way: way.clone(),
            notes,
        });
    }
    Err(refuse(second, closest, way, now))
}

fn refuse(asked: Timestamp, closest: Timestamp, way: &Way, now: Timestamp) -> EngineError {
    let from = way.window.earliest.map_or("its creation".into(), short);
    let what = format!(
        "{} cannot be reached: {} holds {from} to {}",
        short(asked),
        way.past.words(),
        short(way.window.latest)
    );
    let near = format!("`--nearest` takes {}", short(closest));
    let hint = if asked > now {
        format!("it lies in the future; {near}")
    } else if asked > way.window.latest && way.past == Past::Live {
        // Logs are uploaded every five minutes (provider rules §5b).
        format!("the end moves on every 5 minutes: wait, or {near}")
    } else if asked < closest {
        format!("{near}; snapshots may reach further back: `--from-snapshot ID`")
    } else {
        near
    };
    EngineError::refused(what, hint)
}

fn with(from: &RestoreFrom, to: Moment) -> RestoreFrom {
    let mut from = from.clone();
    match &mut from {
        RestoreFrom::Snapshot(_) => {}
        RestoreFrom::Live { to: t, .. }
        | RestoreFrom::Resource { to: t, .. }
        | RestoreFrom::Automated { to: t, .. } => *t = to,
    }
    from
}

/// The beginning of a window moves on with the time, but where the source is gone: what lies on it is gone when the provider is asked for it.
const MOVES_ON: SignedDuration = SignedDuration::from_secs(60);

/// The second that `t` lies in: never later than asked for.
pub fn whole(t: Timestamp) -> Timestamp {
    Timestamp::from_second(t.as_second()).unwrap_or(t)
}

/// The start of a window may lie inside of a second: then the next one.
fn whole_inside(t: Timestamp, w: &RestorableWindow) -> Timestamp {
    let down = whole(t);
    match w.contains(down) {
        true => down,
        false => down.checked_add(SignedDuration::from_secs(1)).unwrap_or(down),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(s: &str) -> Timestamp {
        format!("2026-11-{s}Z").parse().unwrap()
    }

    fn way(past: Past, id: &str, from: &str, to: &str) -> Way {
        let start = match past {
            Past::Live => RestoreFrom::Live { id: id.into(), to: Moment::Latest },
            _ => RestoreFrom::Automated { arn: id.into(), to: Moment::Latest },
        };
        let window = RestorableWindow { earliest: Some(t(from)), latest: t(to) };
        Way { past, from: start, resource_id: format!("db-{id}"), window }
    }

    /// A name that was used twice: the old one was deleted on the 15th.
    fn ways() -> Vec<Way> {
        vec![
            way(Past::Retained, "old", "08T00:00:00", "15T12:00:00"),
            way(Past::Live, "shop", "16T00:00:00.5", "21T09:55:00"),
        ]
    }

    const NOW: &str = "21T10:00:00";

    #[test]
    fn the_past_that_holds_the_moment_is_taken() {
        let chosen = |at| choose(&ways(), at, false, t(NOW)).unwrap();
        let c = chosen(At::Time(t("20T00:00:00")));
        assert_eq!(c.from, RestoreFrom::Live { id: "shop".into(), to: Moment::At(t("20T00:00:00")) });
        let c = chosen(At::Time(t("14T00:00:00")));
        assert_eq!(c.way.resource_id, "db-old");
        let c = chosen(At::Latest);
        assert_eq!((c.way.past, c.moment), (Past::Live, t("21T09:55:00")));
        assert!(matches!(c.from, RestoreFrom::Live { to: Moment::Latest, .. }));
    }

    #[test]
    fn seconds_are_whole_and_never_after_the_incident() {
        let c = choose(&ways(), At::Time(t("20T00:00:00.9")), false, t(NOW)).unwrap();
        assert_eq!(c.moment, t("20T00:00:00"));
        assert!(c.notes[0].contains("whole seconds"), "{:?}", c.notes);
    }

    #[test]
    fn outside_is_refused_with_the_nearest() {
        let no = |at: &str| choose(&ways(), At::Time(t(at)), false, t(NOW)).unwrap_err();
        let e = no("21T09:58:00");
        assert!(e.to_string().contains("holds 2026-11-16 00:00:00Z to 2026-11-21 09:55:00Z"), "{e}");
        assert!(
            e.hint().unwrap().contains("wait, or `--nearest` takes 2026-11-21 09:55:00Z"),
            "{:?}",
            e.hint()
        );
        assert!(no("22T00:00:00").hint().unwrap().contains("future"));
        assert!(no("01T00:00:00").hint().unwrap().contains("2026-11-08 00:00:00Z; snapshots"));
        // Between two pasts: the closer end.
        assert!(no("15T13:00:00").hint().unwrap().contains("2026-11-15 12:00:00Z"));
    }

    #[test]
    fn nearest_is_taken_when_it_is_asked_for() {
        let near = |at: &str| choose(&ways(), At::Time(t(at)), true, t(NOW)).unwrap();
        let c = near("21T09:58:00");
        assert_eq!(c.moment, t("21T09:55:00"));
        assert!(c.notes[0].contains("3 m 00 s before it"), "{:?}", c.notes);
        // The window begins inside of a second: the next whole one lies in it, and a minute later it still does.
        let c = near("15T23:59:00");
        assert_eq!(c.moment, t("16T00:01:01"));
        assert_eq!(c.from, RestoreFrom::Live { id: "shop".into(), to: Moment::At(t("16T00:01:01")) });
    }

    #[test]
    fn times_that_count_from_now_are_refused() {
        assert_eq!(At::parse("Latest").unwrap(), At::Latest);
        assert_eq!(At::parse("2026-11-20T01:00:00+01:00").unwrap(), At::Time(t("20T00:00:00")));
        for text in ["10 minutes ago", "now"] {
            let e = At::parse(text).unwrap_err();
            assert!(e.hint().unwrap().contains("time of the incident"), "{text}");
        }
        assert!(matches!(At::parse("2026-11-20 01:00:00"), Err(EngineError::Time(_))));
    }
}
