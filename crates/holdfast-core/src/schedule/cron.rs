//! Five fields of cron: [`Cron`].

use jiff::civil::Date;

/// Sets of values, a bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Neither day field begins with `*`.
    either_day: bool,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
pub(super) const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Cron {
    /// `fields` in lower case.
    pub(super) fn parse(fields: &[&str]) -> Result<Cron, String> {
        let [minute, hour, day, month, weekday] = fields else { return Err("it has five fields".into()) };
        let star = |f: &str| f.starts_with(['*', '?']);
        let mut weekdays = set(weekday, 0, 7, &WEEKDAYS, 0)?;
        if weekdays & (1 << 7) != 0 {
            weekdays = (weekdays | 1) & !(1 << 7);
        }
        Ok(Cron {
            minutes: set(minute, 0, 59, &[], 0)?,
            hours: set(hour, 0, 23, &[], 0)?,
            days: set(day, 1, 31, &[], 0)?,
            months: set(month, 1, 12, &MONTHS, 1)?,
            weekdays,
            either_day: !star(day) && !star(weekday),
        })
    }

    /// Minute to day of week, as Amazon writes them.
    pub(super) fn amazon(&self) -> Option<String> {
        let list = |set: u64, low: u32, high: u32, add: u32| {
            let all: Vec<String> =
                (low..=high).filter(|n| set & (1 << n) != 0).map(|n| (n + add).to_string()).collect();
            if all.len() as u32 == high - low + 1 { "*".to_string() } else { all.join(",") }
        };
        let (day, weekday) = match (list(self.days, 1, 31, 0).as_str(), list(self.weekdays, 0, 6, 1).as_str())
        {
            (day, "*") => (day.to_string(), "?".to_string()),
            ("*", weekday) => ("?".to_string(), weekday.to_string()),
            _ => return None,
        };
        let (minute, hour) = (list(self.minutes, 0, 59, 0), list(self.hours, 0, 23, 0));
        Some(format!("{minute} {hour} {day} {} {weekday}", list(self.months, 1, 12, 0)))
    }

    pub(super) fn either_day(&self) -> bool {
        self.either_day
    }

    pub(super) fn on(&self, date: Date) -> bool {
        let has = |set: u64, n: i8| u32::try_from(n).is_ok_and(|n| set & (1 << n) != 0);
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        has(self.months, date.month()) && if self.either_day { day || weekday } else { day && weekday }
    }

    pub(super) fn times(&self) -> Vec<(u32, u32)> {
        let of = |set: u64, most: u32| (0..=most).filter(move |n| set & (1 << n) != 0);
        of(self.hours, 23).flat_map(|h| of(self.minutes, 59).map(move |m| (h, m))).collect()
    }
}

/// The values of a field; `first_name` is what the first name stands for.
fn set(field: &str, low: u32, high: u32, names: &[&str], first_name: u32) -> Result<u64, String> {
    let mut out = 0;
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((r, s)) => {
                (r, s.parse::<u32>().ok().filter(|s| *s > 0).ok_or_else(|| format!("`{part}` is no step"))?)
            }
            None => (part, 1),
        };
        let value = |s: &str| -> Result<u32, String> {
            let named = names.iter().position(|n| *n == s).and_then(|i| u32::try_from(i).ok());
            let n = match named {
                Some(i) => i + first_name,
                None => s.parse().map_err(|_| match s.contains(['#', 'l', 'w']) {
                    true => format!("`{s}` is not known to cron; write `first sunday 02:00`"),
                    false => format!("`{s}` is not a value"),
                })?,
            };
            match (low..=high).contains(&n) {
                true => Ok(n),
                false => Err(format!("`{s}` is not from {low} to {high}")),
            }
        };
        let (from, to) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => (low, if names == WEEKDAYS { 6 } else { high }),
            Some((a, b)) => (value(a)?, value(b)?),
            None if part.contains('/') => (value(range)?, high),
            None => (value(range)?, value(range)?),
        };
        if from > to {
            return Err(format!("`{part}` ends before it begins"));
        }
        let mut n = from;
        while n <= to {
            out |= 1 << n;
            n += step;
        }
    }
    Ok(out)
}
