//! How long a cron schedule may leave nothing behind: [`longest_pause`].

use std::collections::BTreeSet;
use std::time::Duration;

/// The longest time between two runs of a five-field schedule, to the coarsest restricted field: for
/// judging ages, not for scheduling. What cannot be read counts as "every".
pub(super) fn longest_pause(schedule: &str) -> Duration {
    const DAY: u64 = 86_400;
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    let gap = |i: usize, first: u64, n: u64| fields.get(i).and_then(|f| field_gap(f, first, n));
    let month = gap(3, 1, 12).map(|g| g * 31 * DAY);
    // Months differ in length: three days are left for that.
    let of_month = gap(2, 1, 31).map(|g| (g + u64::from(g > 1) * 3).min(31) * DAY);
    let of_week = gap(4, 0, 7).map(|g| g * DAY);
    let day = match (of_month, of_week) {
        // Cron runs when either fits.
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let hour = gap(1, 0, 24).map(|g| g * 3_600);
    let minute = gap(0, 0, 60).unwrap_or(1) * 60;
    Duration::from_secs(month.or(day).or(hour).unwrap_or(minute))
}

/// The longest way from one value of the field to its next, around the clock; `None` for "every".
fn field_gap(field: &str, first: u64, n: u64) -> Option<u64> {
    let mut set = BTreeSet::new();
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((r, s)) => (r, s.parse::<u64>().ok().filter(|s| *s > 0)?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            Some((a, b)) => (number(a)?, number(b)?),
            None if range == "*" => (first, first + n - 1),
            None if part.contains('/') => (number(range)?, first + n - 1),
            None => (number(range)?, number(range)?),
        };
        if to > first + n {
            return None;
        }
        let mut v = from;
        while v <= to {
            set.insert((v - first.min(v)) % n);
            v += step;
        }
    }
    if set.is_empty() || set.len() as u64 == n {
        return None;
    }
    let all: Vec<u64> = set.into_iter().collect();
    let last = *all.last()?;
    let around = all.first()? + n - last;
    all.windows(2).map(|w| w.last().unwrap_or(&0) - w.first().unwrap_or(&0)).chain([around]).max()
}

fn number(s: &str) -> Option<u64> {
    const NAMES: [&str; 19] = [
        "sun", "mon", "tue", "wed", "thu", "fri", "sat", "jan", "feb", "mar", "apr", "may", "jun", "jul",
        "aug", "sep", "oct", "nov", "dec",
    ];
    if let Ok(n) = s.parse() {
        return Some(n);
    }
    let at = NAMES.iter().position(|n| s.eq_ignore_ascii_case(n))? as u64;
    Some(if at < 7 { at } else { at - 6 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_of_usual_schedules() {
        let cases = [
            ("* * * * *", 60),
            ("*/15 * * * *", 900),
            ("0 * * * *", 3_600),
            ("0 */6 * * *", 6 * 3_600),
            ("0 8-18 * * *", 14 * 3_600),
            ("0 3 * * *", 86_400),
            ("0 3 * * 0", 7 * 86_400),
            ("0 3 * * 7", 7 * 86_400),
            ("0 3 * * mon-fri", 3 * 86_400),
            ("0 3 * * 0,6", 6 * 86_400),
            ("0 3 1 * *", 31 * 86_400),
            ("0 3 1,15 * *", 20 * 86_400),
            ("0 3 1 jan *", 12 * 31 * 86_400),
            ("0 3 1 * 0", 7 * 86_400),
            ("0 3 * * ?", 86_400),
        ];
        for (s, want) in cases {
            assert_eq!(longest_pause(s).as_secs(), want, "{s}");
        }
        for odd in ["", "x", "0 3 99 * *", "*/0 * * * *", "5-1 * * * *"] {
            let _ = longest_pause(odd);
        }
    }
}
