//! Instants and spans of time as people write them.
//!
//! A target time must carry its zone: a timestamp without one has restored the wrong hour often
//! enough (Barman 3.11, plugin-barman-cloud#700). [`parse_instant`] accepts RFC 3339 with an
//! offset or zone, or a relative `10 minutes ago`.

use jiff::{SignedDuration, Span, Timestamp, Zoned};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Why a text is not an instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    #[error("`{0}` has no time zone")]
    NoZone(String),
    #[error("`{0}` is not a time")]
    NotATime(String),
}

impl TimeError {
    pub fn hint(&self) -> &'static str {
        match self {
            TimeError::NoZone(_) => "add the offset, such as 2026-11-21T09:35:00+01:00, or Z for utc",
            TimeError::NotATime(_) => {
                "write 2026-11-21T09:35:00Z, 2026-11-21 09:35:00+01:00, or `10 minutes ago`"
            }
        }
    }
}

/// Reads an instant; `now` is what "ago" counts from.
pub fn parse_instant(text: &str, now: Timestamp) -> Result<Timestamp, TimeError> {
    let t = text.trim();
    if t.eq_ignore_ascii_case("now") {
        return Ok(now);
    }
    if let Some(span) = t.strip_suffix("ago") {
        let d: Duration = span.trim().parse().map_err(|_| TimeError::NotATime(t.into()))?;
        return now
            .checked_sub(SignedDuration::from_secs(d.0 as i64))
            .map_err(|_| TimeError::NotATime(t.into()));
    }
    if let Ok(ts) = t.parse::<Timestamp>() {
        return Ok(ts);
    }
    // `+01` without minutes, as PostgreSQL prints it.
    if let Some(i) = t.rfind(['+', '-'])
        && i > 10
        && t.len() - i == 3
        && let Ok(ts) = format!("{t}:00").parse::<Timestamp>()
    {
        return Ok(ts);
    }
    if let Ok(z) = t.parse::<Zoned>() {
        return Ok(z.timestamp());
    }
    if t.parse::<jiff::civil::DateTime>().is_ok() {
        return Err(TimeError::NoZone(t.into()));
    }
    Err(TimeError::NotATime(t.into()))
}

/// RFC 3339 in UTC, with as many digits of a second as there are.
pub fn rfc3339(t: Timestamp) -> String {
    t.to_string()
}

/// To the second, for tables.
pub fn short(t: Timestamp) -> String {
    t.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// A span of whole seconds as policies write it: `30d`, `5m`, `90s`, `2 weeks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub u64);

impl Duration {
    pub fn std(self) -> std::time::Duration {
        std::time::Duration::from_secs(self.0)
    }

    pub fn span(self) -> Span {
        Span::new().seconds(self.0 as i64)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, n) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
            if self.0 >= n && self.0.is_multiple_of(n) {
                return write!(f, "{}{unit}", self.0 / n);
            }
        }
        write!(f, "{}s", self.0)
    }
}

impl FromStr for Duration {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("`{s}` is not a span of time; write for example 30d, 12h, 5m or 90s");
        let mut total: u64 = 0;
        let mut rest = s.trim();
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let split = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            let n: u64 = rest.get(..split).and_then(|d| d.parse().ok()).ok_or_else(bad)?;
            let tail = rest.get(split..).unwrap_or("").trim_start();
            let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            let mult = match unit {
                "s" | "sec" | "secs" | "second" | "seconds" => 1,
                "m" | "min" | "mins" | "minute" | "minutes" => 60,
                "h" | "hour" | "hours" => 3_600,
                "d" | "day" | "days" => 86_400,
                "w" | "week" | "weeks" => 7 * 86_400,
                _ => return Err(bad()),
            };
            total = n.checked_mul(mult).and_then(|v| total.checked_add(v)).ok_or_else(bad)?;
            rest = tail.trim_start_matches([' ', ',']);
        }
        Ok(Duration(total))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How long something took, for people: `850 ms`, `12.3 s`, `4 m 05 s`.
pub fn human(d: std::time::Duration) -> String {
    let s = d.as_secs_f64();
    if s < 1.0 {
        format!("{:.0} ms", s * 1000.0)
    } else if s < 60.0 {
        format!("{s:.1} s")
    } else if s < 3600.0 {
        format!("{} m {:02} s", d.as_secs() / 60, d.as_secs() % 60)
    } else {
        format!("{} h {:02} m", d.as_secs() / 3600, d.as_secs() % 3600 / 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_need_a_zone() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let at = |s: &str| parse_instant(s, now);
        assert_eq!(at("2026-11-21T09:00:00+01:00").unwrap().to_string(), "2026-11-21T08:00:00Z");
        assert_eq!(at("2026-11-21 09:00:00+01").unwrap().to_string(), "2026-11-21T08:00:00Z");
        assert_eq!(at("10 minutes ago").unwrap().to_string(), "2026-11-21T09:50:00Z");
        assert_eq!(at("1h 30m ago").unwrap().to_string(), "2026-11-21T08:30:00Z");
        assert!(matches!(at("2026-11-21T09:00:00"), Err(TimeError::NoZone(_))));
        assert!(matches!(at("2026-11-21 09:00:00"), Err(TimeError::NoZone(_))));
        assert!(matches!(at("yesterday"), Err(TimeError::NotATime(_))));
    }

    #[test]
    fn spans_read_and_print() {
        assert_eq!("30d".parse::<Duration>().unwrap().to_string(), "30d");
        assert_eq!("2 weeks".parse::<Duration>().unwrap().0, 14 * 86_400);
        assert!("d".parse::<Duration>().is_err());
        assert!("5".parse::<Duration>().is_err());
        assert!("99999999999999999999d".parse::<Duration>().is_err());
    }
}
