//! Rules of the calendar: [`Calendar`], such as `first sunday of quarter 02:00`.

use super::cron::WEEKDAYS;
use jiff::civil::Date;

/// One day in each month, quarter, half-year or year, and a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Calendar {
    which: Which,
    /// Sunday is 0; `None`: any day.
    weekday: Option<i8>,
    /// Months in each period; 12 is divisible by it.
    months: i8,
    pub(super) at: (u32, u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// From 1 to 4.
    Nth(i8),
    Last,
}

const WHICH: [(&str, Which); 5] = [
    ("first", Which::Nth(1)),
    ("second", Which::Nth(2)),
    ("third", Which::Nth(3)),
    ("fourth", Which::Nth(4)),
    ("last", Which::Last),
];
const PERIODS: [(&str, i8); 4] = [("month", 1), ("quarter", 3), ("half-year", 6), ("year", 12)];

/// Whether `word` begins such a rule.
pub(super) fn begins(word: &str) -> bool {
    WHICH.iter().any(|(w, _)| *w == word)
}

impl Calendar {
    /// `words` in lower case: WHICH DAY [of PERIOD] HH:MM.
    pub(super) fn parse(words: &[&str]) -> Result<Calendar, String> {
        let (which, day, period, time) = match words {
            [which, day, time] => (which, day, "month", time),
            [which, day, "of", period, time] => (which, day, *period, time),
            _ => return Err("write it as `first sunday of quarter 02:00`".into()),
        };
        let which = WHICH.iter().find(|(w, _)| w == which).map(|(_, v)| *v);
        let weekday = match *day {
            "day" => None,
            name => {
                let at = WEEKDAYS.iter().position(|d| name == *d || name == long(d));
                Some(
                    at.and_then(|i| i8::try_from(i).ok())
                        .ok_or_else(|| format!("`{name}` is not a day of the week"))?,
                )
            }
        };
        let months = PERIODS.iter().find(|(p, _)| *p == period).map(|(_, n)| *n);
        Ok(Calendar {
            which: which.ok_or("it begins with first, second, third, fourth or last")?,
            weekday,
            months: months.ok_or_else(|| format!("`{period}` is not month, quarter, half-year or year"))?,
            at: clock(time).ok_or_else(|| format!("`{time}` is not a time such as 02:00"))?,
        })
    }

    /// Minute to day of week, as Amazon writes them. It has no last Friday.
    pub(super) fn amazon(&self) -> Option<String> {
        let (day, weekday) = match (self.which, self.weekday) {
            (Which::Nth(n), Some(w)) => ("?".to_string(), format!("{}#{n}", w + 1)),
            (Which::Nth(n), None) => (n.to_string(), "?".to_string()),
            (Which::Last, None) => ("L".to_string(), "?".to_string()),
            (Which::Last, Some(_)) => return None,
        };
        let first = if self.which == Which::Last { self.months } else { 1 };
        let step = usize::try_from(self.months).ok()?;
        let months: Vec<String> = (first..=12).step_by(step).map(|m| m.to_string()).collect();
        let months = if months.len() == 12 { "*".to_string() } else { months.join(",") };
        let (hour, minute) = self.at;
        Some(format!("{minute} {hour} {day} {months} {weekday}"))
    }

    pub(super) fn on(&self, date: Date) -> bool {
        let first_month = (date.month() - 1) % self.months == 0;
        let last_month = date.month() % self.months == 0;
        let week = self.weekday.is_none_or(|w| date.weekday().to_sunday_zero_offset() == w);
        let step = if self.weekday.is_some() { 7 } else { 1 };
        week && match self.which {
            Which::Nth(n) => first_month && (date.day() - 1) / step + 1 == n,
            Which::Last => last_month && date.days_in_month() - date.day() < step,
        }
    }
}

fn long(short: &str) -> &'static str {
    match short {
        "sun" => "sunday",
        "mon" => "monday",
        "tue" => "tuesday",
        "wed" => "wednesday",
        "thu" => "thursday",
        "fri" => "friday",
        _ => "saturday",
    }
}

/// `02:00`
fn clock(s: &str) -> Option<(u32, u32)> {
    let (h, m) = s.split_once(':')?;
    let two =
        |t: &str| if t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit()) { t.parse().ok() } else { None };
    let (h, m): (u32, u32) = (two(h)?, two(m)?);
    (h < 24 && m < 60).then_some((h, m))
}
