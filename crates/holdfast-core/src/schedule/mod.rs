//! When something is due: [`Schedule`], as a tier or a drill of the policy writes it.
//!
//! Three forms:
//!
//! - five cron fields, `0 3 * * *`: minute, hour, day of month, month, day of week (0 and 7 are Sunday).
//!   As in Vixie cron, two restricted day fields mean *either*: `0 2 1-7 * 0` is every Sunday **and** the
//!   first week of the month, not the first Sunday;
//! - a rule of the calendar, `first sunday 02:00`, `last day of quarter 23:30`: what cron cannot say;
//! - `every 6h`, counted from midnight, so that it divides the day.
//!
//! A schedule has no time zone of its own: whoever asks gives one. A time that the clocks skip is run at
//! the moment that they skip to plus what was skipped (02:30 becomes 03:30), a time that comes twice is run
//! the first time.

mod calendar;
mod cron;

use crate::time::Duration;
use calendar::Calendar;
use cron::Cron;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::fmt;
use std::str::FromStr;

/// A checked schedule; prints as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    rule: Rule,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Cron(Cron),
    /// Minutes; divides the day.
    Every(u32),
    Calendar(Calendar),
}

/// Why a text is no schedule; a message and, as a full sentence, what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ScheduleError {
    pub message: String,
    pub hint: String,
}

const HINT: &str = "Write minute, hour, day of month, month and day of week, such as `\"0 3 * * *\"`, or \
    `\"first sunday 02:00\"`, or `\"every 6h\"`.";
const DAY_MINUTES: u32 = 24 * 60;
/// Long enough for a 29th of February on a given weekday to be rare, short enough to count through.
const HORIZON_DAYS: i64 = 6 * 366;
/// As many runs as are counted through when a pause is looked for.
const MANY: usize = 100_000;

fn error(message: String) -> ScheduleError {
    ScheduleError { message, hint: HINT.into() }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(s: &str) -> Result<Self, ScheduleError> {
        let lower = s.to_ascii_lowercase();
        let words: Vec<&str> = lower.split_whitespace().collect();
        let rule = match words.as_slice() {
            ["every", span] => {
                Rule::Every(every(span).ok_or_else(|| error(format!("`{s}` does not divide a day")))?)
            }
            [first, ..] if calendar::begins(first) => {
                Rule::Calendar(Calendar::parse(&words).map_err(|why| error(format!("`{s}`: {why}")))?)
            }
            [inner] if inner.starts_with("rate(") || inner.starts_with("cron(") => return Err(amazon(s)),
            [first, ..] if first.starts_with("rate(") || first.starts_with("cron(") => return Err(amazon(s)),
            fields if fields.len() == 5 => Rule::Cron(
                Cron::parse(fields).map_err(|why| error(format!("`{s}` is not a cron schedule: {why}")))?,
            ),
            [_] => return Err(error(format!("`{s}` has 1 field, a cron schedule has 5"))),
            fields => return Err(error(format!("`{s}` has {} fields, a cron schedule has 5", fields.len()))),
        };
        let out = Schedule { text: s.to_string(), rule };
        // Only whether: a policy is read for every segment that is archived.
        if out.after(Timestamp::UNIX_EPOCH, &TimeZone::UTC).is_none() {
            return Err(error(format!("`{s}` never comes")));
        }
        Ok(out)
    }
}

/// EventBridge and AWS Backup have six fields and another numbering of weekdays (1 is Sunday).
fn amazon(s: &str) -> ScheduleError {
    ScheduleError {
        message: format!("`{s}` is Amazon's own notation"),
        hint: "Write `\"every 6h\"` for `rate(6 hours)`, and `\"0 3 * * *\"` for `cron(0 3 * * ? *)`: five fields, \
               Sunday is 0."
            .into(),
    }
}

fn every(span: &str) -> Option<u32> {
    let seconds = span.parse::<Duration>().ok()?.0;
    let minutes = u32::try_from(seconds / 60).ok()?;
    (seconds % 60 == 0 && minutes > 0 && DAY_MINUTES.is_multiple_of(minutes)).then_some(minutes)
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Schedule {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Both day fields of cron are restricted, so either makes it run: seldom what was meant.
    pub fn either_day(&self) -> bool {
        matches!(&self.rule, Rule::Cron(c) if c.either_day())
    }

    /// The times of the clock, as (hour, minute), at which it runs on `date`.
    pub(crate) fn times_on(&self, date: Date) -> Vec<(u32, u32)> {
        match &self.rule {
            Rule::Cron(c) if c.on(date) => c.times(),
            Rule::Cron(_) => Vec::new(),
            Rule::Every(n) => (0..DAY_MINUTES / n).map(|i| ((i * n) / 60, (i * n) % 60)).collect(),
            Rule::Calendar(c) if c.on(date) => vec![c.at],
            Rule::Calendar(_) => Vec::new(),
        }
    }

    /// Every run from `from` on and before `to`, in order, at most `most`.
    pub fn between(&self, from: Timestamp, to: Timestamp, zone: &TimeZone, most: usize) -> Vec<Timestamp> {
        let mut out = Vec::new();
        let mut date = from.to_zoned(zone.clone()).date();
        // A day early: a time that is skipped may move past midnight.
        date = date.yesterday().unwrap_or(date);
        while out.len() < most {
            let mut day: Vec<Timestamp> = self
                .times_on(date)
                .into_iter()
                .filter_map(|(h, m)| {
                    let at = date.at(i8::try_from(h).ok()?, i8::try_from(m).ok()?, 0, 0);
                    zone.to_timestamp(at).ok()
                })
                .filter(|t| *t >= from && *t < to && out.last().is_none_or(|l| l < t))
                .collect();
            day.sort_unstable();
            day.dedup();
            out.extend(day);
            match date.tomorrow() {
                Ok(next) if next <= to.to_zoned(zone.clone()).date() => date = next,
                _ => break,
            }
        }
        out.truncate(most);
        out
    }

    /// The first run after `t`; `None` only past the end of the calendar.
    pub fn after(&self, t: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut from = t.checked_add(SignedDuration::from_nanos(1)).ok()?;
        // Most runs are near.
        for days in [2, 40, 3 * HORIZON_DAYS] {
            let to = from.checked_add(SignedDuration::from_hours(24 * days)).ok()?;
            if let Some(first) = self.between(from, to, zone, 1).first() {
                return Some(*first);
            }
            from = to;
        }
        None
    }

    /// The longest time from one run to the next, summer time included; `None` if it never comes twice.
    pub fn longest_pause(&self, zone: &TimeZone) -> Option<Duration> {
        let start: Timestamp = Timestamp::from_second(1_704_067_200).ok()?; // 2024-01-01
        let end = start.checked_add(SignedDuration::from_hours(24 * HORIZON_DAYS)).ok()?;
        let runs = self.between(start, end, zone, MANY);
        runs.windows(2)
            .filter_map(|w| match w {
                [a, b] => u64::try_from(b.as_second() - a.as_second()).ok(),
                _ => None,
            })
            .max()
            .map(Duration)
    }

    /// The same for AWS Backup and EventBridge, whose cron has a year, counts weekdays from Sunday as 1 and
    /// wants one day field to be `?`; `None` if it cannot be said there.
    pub fn amazon(&self) -> Option<String> {
        let fields = match &self.rule {
            Rule::Cron(c) => c.amazon()?,
            Rule::Calendar(c) => c.amazon()?,
            Rule::Every(n) if *n < 60 && 60 % n == 0 => format!("0/{n} * * * ?"),
            Rule::Every(n) if n % 60 == 0 => format!("0 0/{} * * ?", n / 60),
            Rule::Every(_) => return None,
        };
        Some(format!("cron({fields} *)"))
    }

    /// The times of the clock, as (hour, minute), that a day of it can have.
    pub(crate) fn clock_times(&self) -> Vec<(u32, u32)> {
        match &self.rule {
            Rule::Cron(c) => c.times(),
            Rule::Every(n) => (0..DAY_MINUTES / n).map(|i| ((i * n) / 60, (i * n) % 60)).collect(),
            Rule::Calendar(c) => vec![c.at],
        }
    }
}

#[cfg(test)]
mod tests;
