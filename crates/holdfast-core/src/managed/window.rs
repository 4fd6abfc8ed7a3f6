//! Windows: what can be restored to ([`RestorableWindow`]), and when the provider works ([`DailyWindow`],
//! [`WeeklyWindow`]).
//!
//! The provider's windows are UTC, always. A policy may write the hours of a zone; they are translated at that
//! zone's *standard* time, because the provider moves nothing when the clocks change: in summer such a window is
//! an hour later by the clock (VW7 says so).

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// From when to when the provider can restore to any second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorableWindow {
    /// `None` where the provider does not say: an instance whose automated backups were not listed.
    pub earliest: Option<Timestamp>,
    /// Some minutes behind now while the source lives.
    pub latest: Timestamp,
}

impl RestorableWindow {
    pub fn contains(&self, t: Timestamp) -> bool {
        t <= self.latest && self.earliest.is_none_or(|e| t >= e)
    }

    /// The moment inside of the window that is nearest to `t`.
    pub fn nearest(&self, t: Timestamp) -> Timestamp {
        let t = t.min(self.latest);
        self.earliest.map_or(t, |e| t.max(e))
    }

    /// How far the window's end lies behind `now`.
    pub fn lag(&self, now: Timestamp) -> SignedDuration {
        now.duration_since(self.latest)
    }
}

/// Why a text is not a window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    #[error("`{0}` is not a window of hours")]
    Daily(String),
    #[error("`{0}` is not a window of a week")]
    Weekly(String),
}

const DAY: u32 = 24 * 60;
const WEEK: u32 = 7 * DAY;

fn minutes(text: &str) -> Option<u32> {
    let (h, m) = text.split_once(':')?;
    let part = |s: &str, below: u32| s.parse::<u32>().ok().filter(|v| *v < below && s.len() == 2);
    Some(part(h, 24)? * 60 + part(m, 60)?)
}

/// Minutes from `a` to `b` around a circle.
fn way(a: u32, b: u32, turn: u32) -> Option<u32> {
    Some((b + turn - a) % turn).filter(|n| *n > 0)
}

/// Whether two arcs of a circle share a minute.
fn circle(a: u32, a_length: u32, b: u32, b_length: u32, turn: u32) -> bool {
    (b + turn - a) % turn < a_length || (a + turn - b) % turn < b_length
}

fn shifted(start: u32, by: i32, turn: u32) -> u32 {
    let turn = i64::from(turn);
    u32::try_from((i64::from(start) - i64::from(by)).rem_euclid(turn)).unwrap_or(start)
}

fn hhmm(minute: u32) -> String {
    format!("{:02}:{:02}", minute % DAY / 60, minute % 60)
}

/// A backup window: `hh:mm-hh:mm`, every day; may pass midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DailyWindow {
    /// Minutes after midnight.
    pub start: u32,
    /// Minutes; AWS wants at least 30.
    pub length: u32,
}

impl fmt::Display for DailyWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", hhmm(self.start), hhmm(self.start + self.length))
    }
}

impl FromStr for DailyWindow {
    type Err = WindowError;
    fn from_str(s: &str) -> Result<Self, WindowError> {
        let bad = || WindowError::Daily(s.to_string());
        let (a, b) = s.split_once('-').ok_or_else(bad)?;
        let (start, end) = (minutes(a).ok_or_else(bad)?, minutes(b).ok_or_else(bad)?);
        Ok(DailyWindow { start, length: way(start, end, DAY).ok_or_else(bad)? })
    }
}

impl DailyWindow {
    /// True if the moment lies in it.
    pub fn contains(&self, t: Timestamp) -> bool {
        let second = t.as_second().rem_euclid(i64::from(DAY) * 60);
        let minute = u32::try_from(second / 60).unwrap_or(0);
        self.overlaps(minute, 1)
    }

    /// The same window in UTC, if it is written in `zone`.
    pub fn to_utc(self, zone: &TimeZone) -> DailyWindow {
        DailyWindow { start: shifted(self.start, offsets(zone).0, DAY), ..self }
    }

    /// A window of UTC as `zone` shows it at `offset` minutes.
    pub fn at_offset(self, offset: i32) -> DailyWindow {
        DailyWindow { start: shifted(self.start, -offset, DAY), ..self }
    }

    /// Whether it overlaps something of a day, in minutes since midnight of the same zone.
    pub fn overlaps(self, start: u32, length: u32) -> bool {
        circle(self.start, self.length, start % DAY, length, DAY)
    }

    /// Whether it shares a minute with a window of the week: AWS refuses that.
    pub fn meets(self, week: WeeklyWindow) -> bool {
        (0..7).any(|d| circle(week.start, week.length, d * DAY + self.start, self.length, WEEK))
    }
}

/// A maintenance window: `ddd:hh:mm-ddd:hh:mm`, every week; may pass its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WeeklyWindow {
    /// Minutes after Monday, midnight.
    pub start: u32,
    /// Minutes.
    pub length: u32,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

fn day_minutes(text: &str) -> Option<u32> {
    let (day, time) = text.split_once(':')?;
    let n = DAYS.iter().position(|name| day.eq_ignore_ascii_case(name))?;
    Some(u32::try_from(n).ok()? * DAY + minutes(time)?)
}

impl fmt::Display for WeeklyWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |minute: u32| {
            let day = DAYS.get((minute % WEEK / DAY) as usize).unwrap_or(&"mon");
            format!("{day}:{}", hhmm(minute))
        };
        write!(f, "{}-{}", at(self.start), at(self.start + self.length))
    }
}

impl FromStr for WeeklyWindow {
    type Err = WindowError;
    fn from_str(s: &str) -> Result<Self, WindowError> {
        let bad = || WindowError::Weekly(s.to_string());
        let (a, b) = s.split_once('-').ok_or_else(bad)?;
        let (start, end) = (day_minutes(a).ok_or_else(bad)?, day_minutes(b).ok_or_else(bad)?);
        Ok(WeeklyWindow { start, length: way(start, end, WEEK).ok_or_else(bad)? })
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

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl From<$name> for String {
            fn from(v: $name) -> String {
                v.to_string()
            }
        }
        impl TryFrom<String> for $name {
            type Error = WindowError;
            fn try_from(s: String) -> Result<Self, WindowError> {
                s.parse()
            }
        }
    )*};
}
as_text!(DailyWindow, WeeklyWindow);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_print_as_written() {
        for text in ["03:00-03:30", "23:45-00:15"] {
            assert_eq!(text.parse::<DailyWindow>().unwrap().to_string(), text);
        }
        for text in ["sun:04:00-sun:04:30", "sun:23:45-mon:00:15"] {
            assert_eq!(text.parse::<WeeklyWindow>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn windows_pass_midnight() {
        let w: DailyWindow = "23:45-00:15".parse().unwrap();
        assert!(w.contains("2026-11-21T00:14:59Z".parse().unwrap()));
        assert!(!w.contains("2026-11-21T00:15:00Z".parse().unwrap()));
        let m: WeeklyWindow = "sun:23:30-mon:00:30".parse().unwrap();
        assert!(w.meets(m));
        assert!(!day("03:00-03:30").meets(m));
        assert!(day("00:00-00:30").meets(m));
        assert!(!day("00:30-01:00").meets(m));
    }

    #[test]
    fn targets_are_brought_into_the_window() {
        let at = |s: &str| s.parse::<Timestamp>().unwrap();
        let w = RestorableWindow {
            earliest: Some(at("2026-11-14T00:00:00Z")),
            latest: at("2026-11-21T09:55:00Z"),
        };
        assert!(w.contains(at("2026-11-20T00:00:00Z")));
        assert_eq!(w.nearest(at("2026-11-21T10:00:00Z")), w.latest);
        assert_eq!(w.nearest(at("1999-01-01T00:00:00Z")), at("2026-11-14T00:00:00Z"));
        assert_eq!(w.lag(at("2026-11-21T10:00:00Z")).as_secs(), 300);
    }

    fn day(s: &str) -> DailyWindow {
        s.parse().unwrap()
    }

    fn week(s: &str) -> WeeklyWindow {
        s.parse().unwrap()
    }

    #[test]
    fn what_is_no_window_is_refused() {
        assert_eq!(week("Sun:04:00-Sun:05:00").start, 6 * 1440 + 240);
        assert_eq!((day("23:30-00:30").length, week("sun:23:30-mon:00:30").length), (60, 60));
        for bad in [
            "",
            "03:00",
            "3:00-4:00",
            "03:00-03:00",
            "24:00-01:00",
            "03:60-04:00",
            "03:00-04:00-05:00",
            "sun:03:00-04:00",
        ] {
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
