//! Windows: what can be restored to, and when the provider works. The provider's windows are UTC, always.

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
#[error("`{0}` is not a window; write 03:00-03:30, or sun:04:00-sun:04:30 for maintenance, in utc")]
pub struct WindowError(pub String);

const DAY: u32 = 24 * 60;
const WEEK: u32 = 7 * DAY;

fn minutes(text: &str) -> Option<u32> {
    let (h, m) = text.split_once(':')?;
    let part = |s: &str, below: u32| s.parse::<u32>().ok().filter(|v| *v < below && s.len() == 2);
    Some(part(h, 24)? * 60 + part(m, 60)?)
}

fn hhmm(minute: u32) -> String {
    format!("{:02}:{:02}", minute % DAY / 60, minute % 60)
}

/// A backup window: `hh:mm-hh:mm` UTC, every day; may pass midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DailyWindow {
    /// Minutes after midnight UTC.
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
        let bad = || WindowError(s.to_string());
        let (a, b) = s.split_once('-').ok_or_else(bad)?;
        let (start, end) = (minutes(a).ok_or_else(bad)?, minutes(b).ok_or_else(bad)?);
        Ok(DailyWindow { start, length: (end + DAY - start) % DAY })
    }
}

impl DailyWindow {
    /// True if the moment lies in it.
    pub fn contains(&self, t: Timestamp) -> bool {
        let second = t.as_second().rem_euclid(i64::from(DAY) * 60);
        let minute = u32::try_from(second / 60).unwrap_or(0);
        (minute + DAY - self.start) % DAY < self.length
    }
}

/// A maintenance window: `ddd:hh:mm-ddd:hh:mm` UTC, every week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WeeklyWindow {
    /// Minutes after Monday, midnight UTC.
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
        let bad = || WindowError(s.to_string());
        let (a, b) = s.split_once('-').ok_or_else(bad)?;
        let (start, end) = (day_minutes(a).ok_or_else(bad)?, day_minutes(b).ok_or_else(bad)?);
        Ok(WeeklyWindow { start, length: (end + WEEK - start) % WEEK })
    }
}

impl WeeklyWindow {
    /// True if the two share a minute: AWS refuses that.
    pub fn overlaps(&self, daily: &DailyWindow) -> bool {
        (0..7).any(|day| {
            let start = day * DAY + daily.start;
            (start + WEEK - self.start) % WEEK < self.length
                || (self.start + WEEK - start) % WEEK < daily.length
        })
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
        for text in ["3:00-03:30", "03:00", "24:00-01:00", "03:60-04:00"] {
            assert!(text.parse::<DailyWindow>().is_err(), "{text}");
        }
    }

    #[test]
    fn windows_pass_midnight() {
        let w: DailyWindow = "23:45-00:15".parse().unwrap();
        assert!(w.contains("2026-11-21T00:14:59Z".parse().unwrap()));
        assert!(!w.contains("2026-11-21T00:15:00Z".parse().unwrap()));
        let m: WeeklyWindow = "sun:23:30-mon:00:30".parse().unwrap();
        assert!(m.overlaps(&w));
        assert!(!m.overlaps(&"03:00-03:30".parse().unwrap()));
        assert!(m.overlaps(&"00:00-00:30".parse().unwrap()));
        assert!(!m.overlaps(&"00:30-01:00".parse().unwrap()));
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
}
