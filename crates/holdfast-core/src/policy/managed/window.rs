//! The hours that the provider takes for itself: [`DailyWindow`] and [`WeeklyWindow`].
//!
//! The provider knows UTC only. A policy may write the hours of a zone; they are translated at that zone's
//! *standard* time, because the provider moves nothing when the clocks change: in summer such a window is an
//! hour later by the clock (VW7 says so).

use crate::schedule::clock;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt;
use std::str::FromStr;

const DAY: u32 = 24 * 60;
const WEEK: u32 = 7 * DAY;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// `03:00-04:00`; may pass midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DailyWindow {
    /// Minutes since midnight.
    pub start: u32,
    /// Minutes, 1 to a day.
    pub length: u32,
}

/// `sun:04:00-sun:05:00`; may pass the end of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeeklyWindow {
    /// Minutes since Monday 00:00.
    pub start: u32,
    /// Minutes.
    pub length: u32,
}

/// Minutes from `a` to `b` around a circle; a whole turn if they are the same.
fn way(a: u32, b: u32, turn: u32) -> u32 {
    match (b + turn - a) % turn {
        0 => turn,
        n => n,
    }
}

impl FromStr for DailyWindow {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("`{s}` is not a window of hours");
        let (a, b) = s.split_once('-').ok_or_else(bad)?;
        let minutes = |t: &str| clock(t).map(|(h, m)| h * 60 + m).ok_or_else(bad);
        let (a, b) = (minutes(a)?, minutes(b)?);
        if a == b {
            return Err(bad());
        }
        Ok(DailyWindow { start: a, length: way(a, b, DAY) })
    }
}

impl FromStr for WeeklyWindow {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("`{s}` is not a window of a week");
        let (a, b) = s.split_once('-').ok_or_else(bad)?;
        let minutes = |t: &str| {
            let (day, time) = t.split_once(':')?;
            let day = DAYS.iter().position(|d| d.eq_ignore_ascii_case(day))?;
            let (h, m) = clock(time)?;
            Some(u32::try_from(day).ok()? * DAY + h * 60 + m)
        };
        let (a, b) = (minutes(a).ok_or_else(bad)?, minutes(b).ok_or_else(bad)?);
        if a == b {
            return Err(bad());
        }
        Ok(WeeklyWindow { start: a, length: way(a, b, WEEK) })
    }
}

impl fmt::Display for DailyWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = (self.start + self.length) % DAY;
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.start / 60, self.start % 60, end / 60, end % 60)
    }
}

impl fmt::Display for WeeklyWindow {
    /// As the provider writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |m: u32| {
            let day = DAYS.get((m / DAY) as usize).copied().unwrap_or("mon");
            format!("{day}:{:02}:{:02}", m % DAY / 60, m % 60)
        };
        write!(f, "{}-{}", at(self.start), at((self.start + self.length) % WEEK))
    }
}

/// Minutes that `zone` is ahead of UTC: at standard time, and at summer time if it has one this year.
pub fn offsets(zone: &TimeZone) -> (i32, Option<i32>) {
    // Winter and summer of both hemispheres; the year of the facts that this release ships with.
    let at = |seconds: i64| {
        let t = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
        let info = zone.to_offset_info(t);
        (info.offset().seconds() / 60, info.dst().is_dst())
    };
    let (january, july) = (at(1_767_225_600), at(1_782_864_000));
    match (january, july) {
        ((standard, _), (same, _)) if standard == same => (standard, None),
        ((summer, true), (standard, false)) | ((standard, _), (summer, _)) => (standard, Some(summer)),
    }
}

fn shifted(start: u32, by: i32, turn: u32) -> u32 {
    let turn = i64::from(turn);
    u32::try_from((i64::from(start) - i64::from(by)).rem_euclid(turn)).unwrap_or(start)
}

impl DailyWindow {
    /// The same window in UTC, if it is written in `zone`.
    pub fn to_utc(self, zone: &TimeZone) -> DailyWindow {
        DailyWindow { start: shifted(self.start, offsets(zone).0, DAY), ..self }
    }

    /// A window of UTC as `zone` shows it at `offset` minutes.
    pub fn at_offset(self, offset: i32) -> DailyWindow {
        DailyWindow { start: shifted(self.start, -offset, DAY), ..self }
    }

    /// Whether it overlaps something of a day, in minutes since midnight UTC.
    pub fn overlaps(self, start: u32, length: u32) -> bool {
        circle(self.start, self.length, start % DAY, length, DAY)
    }

    /// Whether it overlaps a window of the week.
    pub fn meets(self, week: WeeklyWindow) -> bool {
        (0..7).any(|d| circle(week.start, week.length, d * DAY + self.start, self.length, WEEK))
    }
}

impl WeeklyWindow {
    pub fn to_utc(self, zone: &TimeZone) -> WeeklyWindow {
        WeeklyWindow { start: shifted(self.start, offsets(zone).0, WEEK), ..self }
    }

    /// Whether something that begins at `t` and takes `length` minutes falls into it.
    pub fn catches(self, t: Timestamp, length: u32) -> bool {
        let z = t.to_zoned(TimeZone::UTC);
        let day = u32::try_from(z.weekday().to_monday_zero_offset()).unwrap_or(0);
        let clock = u32::try_from(i32::from(z.hour()) * 60 + i32::from(z.minute())).unwrap_or(0);
        circle(self.start, self.length, day * DAY + clock, length, WEEK)
    }
}

/// Whether two arcs of a circle share a minute.
fn circle(a: u32, a_length: u32, b: u32, b_length: u32, turn: u32) -> bool {
    (b + turn - a) % turn < a_length || (a + turn - b) % turn < b_length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(s: &str) -> DailyWindow {
        s.parse().unwrap()
    }

    fn week(s: &str) -> WeeklyWindow {
        s.parse().unwrap()
    }

    #[test]
    fn windows_read_and_print() {
        for s in ["03:00-04:00", "23:30-00:30", "00:00-23:59"] {
            assert_eq!(day(s).to_string(), s);
        }
        for s in ["sun:04:00-sun:05:00", "sun:23:30-mon:00:30"] {
            assert_eq!(week(s).to_string(), s);
        }
        assert_eq!(week("Sun:04:00-Sun:05:00").start, 6 * 1440 + 240);
        assert_eq!((day("23:30-00:30").length, week("sun:23:30-mon:00:30").length), (60, 60));
        for bad in
            ["", "03:00", "3:00-4:00", "03:00-03:00", "24:00-01:00", "03:00-04:00-05:00", "sun:03:00-04:00"]
        {
            assert!(bad.parse::<DailyWindow>().is_err() && bad.parse::<WeeklyWindow>().is_err(), "{bad}");
        }
    }

    #[test]
    fn zones_are_translated_at_standard_time() {
        let toronto = TimeZone::get("America/Toronto").unwrap();
        assert_eq!(offsets(&toronto), (-300, Some(-240)));
        assert_eq!(offsets(&TimeZone::UTC), (0, None));
        assert_eq!(offsets(&TimeZone::get("Australia/Sydney").unwrap()), (600, Some(660)));
        assert_eq!(offsets(&TimeZone::get("Asia/Kolkata").unwrap()), (330, None));
        // 3 AM Eastern is 08:00 UTC in winter, and 4 AM by the clock in summer.
        let utc = day("03:00-04:00").to_utc(&toronto);
        assert_eq!(utc.to_string(), "08:00-09:00");
        assert_eq!(utc.at_offset(-240).to_string(), "04:00-05:00");
        let sydney = TimeZone::get("Australia/Sydney").unwrap();
        assert_eq!(week("mon:04:00-mon:05:00").to_utc(&sydney).to_string(), "sun:18:00-sun:19:00");
    }

    #[test]
    fn overlaps_go_around_the_clock() {
        assert!(day("03:00-04:00").overlaps(180, 1) && day("03:00-04:00").overlaps(239, 1));
        assert!(!day("03:00-04:00").overlaps(240, 30) && !day("03:00-04:00").overlaps(150, 30));
        assert!(day("03:00-04:00").overlaps(150, 31) && day("23:30-00:30").overlaps(0, 1));
        assert!(day("23:30-00:30").meets(week("mon:00:00-mon:01:00")));
        assert!(!day("03:00-04:00").meets(week("sun:04:00-sun:05:00")));
        assert!(day("03:30-04:30").meets(week("sun:04:00-sun:05:00")));
        let sunday: Timestamp = "2026-11-22T03:45:00Z".parse().unwrap();
        assert!(week("sun:04:00-sun:05:00").catches(sunday, 30));
        assert!(!week("sun:04:00-sun:05:00").catches(sunday, 15));
        assert!(!week("sat:04:00-sat:05:00").catches(sunday, 30));
    }
}
