//! Periods of the calendar for grandfather-father-son rules: [`Every`].

use crate::policy::Keep;
use crate::time::Duration;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt;

/// How often a rule keeps one point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Every {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

/// One hour, day, week, month or year. Later ones compare greater; only those of one [`Every`] and
/// one time zone can be compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Period {
    number: i64,
    /// For people.
    pub(super) name: String,
}

impl Every {
    pub(crate) const ALL: [Every; 5] = [Every::Hour, Every::Day, Every::Week, Every::Month, Every::Year];

    /// As the policy spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Every::Hour => "hourly",
            Every::Day => "daily",
            Every::Week => "weekly",
            Every::Month => "monthly",
            Every::Year => "yearly",
        }
    }

    /// How many periods `keep` asks for.
    pub(crate) fn wanted(self, keep: &Keep) -> u32 {
        match self {
            Every::Hour => keep.hourly,
            Every::Day => keep.daily,
            Every::Week => keep.weekly,
            Every::Month => keep.monthly,
            Every::Year => keep.yearly,
        }
    }

    /// At most this long, leap years and the end of summer time included.
    pub(super) fn longest(self) -> Duration {
        Duration(match self {
            Every::Hour => 3_600,
            Every::Day => 90_000,
            Every::Week => 7 * 86_400 + 3_600,
            Every::Month => 31 * 86_400 + 3_600,
            Every::Year => 366 * 86_400 + 3_600,
        })
    }

    /// The period that `t` falls in.
    pub(crate) fn period(self, t: Timestamp, zone: &TimeZone) -> Period {
        let z = t.to_zoned(zone.clone());
        let (year, month, day) = (i64::from(z.year()), i64::from(z.month()), i64::from(z.day()));
        let (number, name) = match self {
            // By the instant at which it began, not by what the clock showed: when summer time
            // ends, an hour comes twice and each is an hour of its own.
            Every::Hour => {
                let into = i64::from(z.minute()) * 60 + i64::from(z.second());
                (t.as_second() - into, z.strftime("%Y-%m-%d %H:00%:z").to_string())
            }
            Every::Day => ((year * 100 + month) * 100 + day, z.strftime("%Y-%m-%d").to_string()),
            // The ISO week of 2027-01-01 is the 53rd of 2026.
            Every::Week => {
                let week = z.date().iso_week_date();
                let (year, week) = (i64::from(week.year()), i64::from(week.week()));
                (year * 100 + week, format!("{year:04}-W{week:02}"))
            }
            Every::Month => (year * 100 + month, z.strftime("%Y-%m").to_string()),
            Every::Year => (year, z.strftime("%Y").to_string()),
        };
        Period { number, name }
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Copenhagen's rules, without the machine's database of zones.
    fn zone() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn names(every: Every, times: &[&str]) -> Vec<String> {
        times.iter().map(|t| every.period(t.parse().unwrap(), &zone()).name).collect()
    }

    #[test]
    fn days_begin_at_local_midnight() {
        let times =
            ["2026-07-01T21:59:59Z", "2026-07-01T22:00:00Z", "2026-12-31T22:59:59Z", "2026-12-31T23:00:00Z"];
        assert_eq!(names(Every::Day, &times), ["2026-07-01", "2026-07-02", "2026-12-31", "2027-01-01"]);
        assert_eq!(names(Every::Month, &times[2..]), ["2026-12", "2027-01"]);
        assert_eq!(names(Every::Year, &times[2..]), ["2026", "2027"]);
    }

    #[test]
    fn iso_weeks_at_the_end_of_the_year() {
        let times = [
            "2024-12-29T12:00:00Z",
            "2024-12-30T12:00:00Z",
            "2026-12-31T12:00:00Z",
            "2027-01-03T12:00:00Z",
            "2027-01-04T12:00:00Z",
        ];
        assert_eq!(names(Every::Week, &times), ["2024-W52", "2025-W01", "2026-W53", "2026-W53", "2027-W01"]);
        let p: Vec<Period> = times.iter().map(|t| Every::Week.period(t.parse().unwrap(), &zone())).collect();
        assert!(p[0] < p[1] && p[1] < p[2] && p[2] == p[3] && p[3] < p[4]);
    }

    #[test]
    fn an_hour_that_comes_twice_is_two_hours() {
        let autumn = ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"];
        assert_eq!(
            names(Every::Hour, &autumn),
            ["2026-10-25 02:00+02:00", "2026-10-25 02:00+01:00", "2026-10-25 03:00+01:00"]
        );
        let spring = ["2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z"];
        assert_eq!(names(Every::Hour, &spring), ["2026-03-29 01:00+01:00", "2026-03-29 03:00+02:00"]);
        // 25 hours, one day.
        let day: Vec<String> = (0..25)
            .map(|h| {
                "2026-10-24T22:00:00Z".parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_hours(h)
            })
            .map(|t| Every::Day.period(t, &zone()).name)
            .collect();
        assert!(day.iter().all(|d| d == "2026-10-25"), "{day:?}");
    }

    #[test]
    fn later_is_greater_and_no_period_is_longer_than_said() {
        let start: Timestamp = "2023-12-28T00:17:00Z".parse().unwrap();
        for every in Every::ALL {
            let mut previous: Option<(Period, Timestamp)> = None;
            for h in 0..24 * 800 {
                let t = start + jiff::SignedDuration::from_mins(h * 47);
                let p = every.period(t, &zone());
                match &previous {
                    Some((q, _)) if *q > p => panic!("{q:?} before {p:?}"),
                    Some((q, began)) if *q == p => {
                        assert!(t.duration_since(*began).as_secs() <= every.longest().0 as i64, "{p:?}");
                    }
                    _ => previous = Some((p, t)),
                }
            }
        }
    }
}
