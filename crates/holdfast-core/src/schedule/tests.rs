use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn runs(schedule: &str, zone: &str, from: &str, n: usize) -> Vec<String> {
    let s: Schedule = schedule.parse().unwrap();
    let from = at(from);
    let to = from.checked_add(SignedDuration::from_hours(24 * 3000)).unwrap();
    let zone = TimeZone::get(zone).unwrap();
    s.between(from, to, &zone, n).iter().map(ToString::to_string).collect()
}

#[test]
fn pauses_of_usual_schedules() {
    const DAY: u64 = 86_400;
    for (s, want) in [
        ("* * * * *", 60),
        ("*/15 * * * *", 900),
        ("0 * * * *", 3_600),
        ("0 */6 * * *", 6 * 3_600),
        ("every 6h", 6 * 3_600),
        ("0 8-18 * * *", 14 * 3_600),
        ("0 3 * * *", DAY),
        ("0 3 * * 0", 7 * DAY),
        ("0 3 * * 7", 7 * DAY),
        ("0 3 * * mon-fri", 3 * DAY),
        ("0 3 * * 0,6", 6 * DAY),
        ("0 3 1 * *", 31 * DAY),
        ("0 3 1,15 * *", 17 * DAY),
        ("0 3 1 jan *", 366 * DAY),
        // Either day field makes cron run.
        ("0 3 1 * 0", 7 * DAY),
        ("0 3 * * ?", DAY),
        ("first sunday 02:00", 35 * DAY),
        ("last day of month 23:30", 31 * DAY),
        ("first sunday of quarter 02:00", 98 * DAY),
    ] {
        let got = s.parse::<Schedule>().unwrap().longest_pause(&TimeZone::UTC).unwrap();
        assert_eq!(got.0, want, "{s}");
    }
}

#[test]
fn the_first_sunday_is_not_what_cron_makes_of_it() {
    assert_eq!(
        runs("first sunday 02:00", "UTC", "2026-11-02T00:00:00Z", 3),
        ["2026-12-06T02:00:00Z", "2027-01-03T02:00:00Z", "2027-02-07T02:00:00Z"]
    );
    assert_eq!(
        runs("First Sunday of quarter 02:00", "UTC", "2026-11-02T00:00:00Z", 2),
        ["2027-01-03T02:00:00Z", "2027-04-04T02:00:00Z"]
    );
    assert_eq!(
        runs("last friday of half-year 23:30", "UTC", "2026-11-02T00:00:00Z", 2),
        ["2026-12-25T23:30:00Z", "2027-06-25T23:30:00Z"]
    );
    // Seven days in a row and every Sunday.
    let cron: Schedule = "0 2 1-7 * 0".parse().unwrap();
    assert!(cron.either_day());
    assert_eq!(
        runs("0 2 1-7 * 0", "UTC", "2026-11-03T00:00:00Z", 6),
        ["03", "04", "05", "06", "07", "08"].map(|d| format!("2026-11-{d}T02:00:00Z"))
    );
    assert!(!"0 2 */2 * 0".parse::<Schedule>().unwrap().either_day());
}

#[test]
fn the_clocks_change() {
    // Copenhagen skips 02:00-03:00 on 2027-03-28 and has it twice on 2026-10-25.
    assert_eq!(
        runs("30 2 * * *", "Europe/Copenhagen", "2027-03-27T00:00:00Z", 3),
        ["2027-03-27T01:30:00Z", "2027-03-28T01:30:00Z", "2027-03-29T00:30:00Z"]
    );
    assert_eq!(
        runs("30 2 * * *", "Europe/Copenhagen", "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    let daily: Schedule = "0 3 * * *".parse().unwrap();
    let zone = TimeZone::get("Europe/Copenhagen").unwrap();
    assert_eq!(daily.longest_pause(&zone), Some(Duration(25 * 3_600)));
    assert_eq!(daily.after(at("2026-11-22T02:00:00Z"), &zone), Some(at("2026-11-23T02:00:00Z")));
    let rare: Schedule = "0 0 29 2 *".parse().unwrap();
    assert_eq!(rare.after(at("2026-11-22T02:00:00Z"), &TimeZone::UTC), Some(at("2028-02-29T00:00:00Z")));
}

#[test]
fn other_texts_are_not_schedules() {
    for (text, says) in [
        ("", "0 fields"),
        ("daily", "1 field"),
        ("0 3 * *", "4 fields"),
        ("0 3 * * ! ", "not a value"),
        ("60 3 * * *", "from 0 to 59"),
        ("0 3 0 * *", "from 1 to 31"),
        ("5-1 * * * *", "ends before"),
        ("*/0 * * * *", "no step"),
        ("0 2 * * 0#1", "first sunday"),
        ("0 2 l * *", "first sunday"),
        ("0 3 31 2 *", "never comes"),
        ("every 7h", "divide"),
        ("every 2d", "divide"),
        ("first sunday", "write it as"),
        ("first sundae 02:00", "day of the week"),
        ("first sunday of week 02:00", "half-year"),
        ("first sunday 2:00", "such as 02:00"),
        ("rate(6 hours)", "Amazon"),
        ("cron(0 3 * * ? *)", "Amazon"),
    ] {
        let e = text.parse::<Schedule>().unwrap_err();
        assert!(e.message.contains(says), "{text}: {e}");
        assert!(!e.hint.is_empty());
    }
}

#[test]
fn amazons_notation() {
    for (text, want) in [
        ("0 3 * * *", Some("cron(0 3 * * ? *)")),
        ("0 4 * * 0", Some("cron(0 4 ? * 1 *)")),
        ("30 5 1,15 jan-mar *", Some("cron(30 5 1,15 1,2,3 ? *)")),
        ("0 5 * * mon-fri", Some("cron(0 5 ? * 2,3,4,5,6 *)")),
        ("0 2 1-7 * 0", None),
        ("every 6h", Some("cron(0 0/6 * * ? *)")),
        ("every 15m", Some("cron(0/15 * * * ? *)")),
        ("every 90m", None),
        ("first sunday 02:00", Some("cron(0 2 ? * 1#1 *)")),
        ("second tuesday of quarter 02:30", Some("cron(30 2 ? 1,4,7,10 3#2 *)")),
        ("last day of quarter 23:00", Some("cron(0 23 L 3,6,9,12 ? *)")),
        ("first day of year 00:00", Some("cron(0 0 1 1 ? *)")),
        ("last friday 02:00", None),
    ] {
        assert_eq!(text.parse::<Schedule>().unwrap().amazon().as_deref(), want, "{text}");
    }
}
