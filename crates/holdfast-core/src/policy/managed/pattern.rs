//! How snapshots and restored copies are called: [`IdPattern`].
//!
//! `{id}-{tier}-%Y%m%d-%H%M%S` is the default. In braces: `id` (of the source), `database` (its name in the
//! policy), `tier`, `note`, `region`; with `%`: `Y m d H M S` of the moment, in UTC. The moment is drawn once
//! for an operation, so that a name does not change at midnight.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt;
use std::str::FromStr;

/// A checked pattern; prints as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdPattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Plain(String),
    Field(Field),
    Time(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Id,
    Database,
    Tier,
    Note,
    Region,
}

const FIELDS: [(&str, Field); 5] = [
    ("id", Field::Id),
    ("database", Field::Database),
    ("tier", Field::Tier),
    ("note", Field::Note),
    ("region", Field::Region),
];
const TIMES: [&str; 6] = ["%Y", "%m", "%d", "%H", "%M", "%S"];

/// What a name is made of. Whatever the provider does not allow in an id becomes `-`.
#[derive(Debug, Clone, Copy, Default)]
pub struct IdParts<'a> {
    pub id: &'a str,
    pub database: &'a str,
    pub tier: &'a str,
    pub note: &'a str,
    pub region: &'a str,
}

impl FromStr for IdPattern {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = s;
        while let Some(c) = rest.chars().next() {
            if c == '{' {
                let (name, after) = rest.get(1..).and_then(|r| r.split_once('}')).ok_or("`{` without `}`")?;
                let field = FIELDS.iter().find(|(n, _)| *n == name).map(|(_, f)| *f);
                parts.push(Part::Field(field.ok_or_else(|| format!("`{{{name}}}` is not known here"))?));
                rest = after;
            } else if c == '%' {
                let found = TIMES.iter().find(|t| rest.starts_with(**t));
                parts.push(Part::Time(found.ok_or("only %Y, %m, %d, %H, %M and %S are known here")?));
                rest = rest.get(2..).unwrap_or("");
            } else {
                let end = rest.find(['{', '%']).unwrap_or(rest.len());
                let (plain, after) = rest.split_at(end);
                if !plain.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                    return Err("the provider allows letters, digits and `-` only".into());
                }
                parts.push(Part::Plain(plain.to_string()));
                rest = after;
            }
        }
        let out = IdPattern { text: s.to_string(), parts };
        match out.parts.first() {
            Some(Part::Plain(p)) if p.starts_with(|c: char| c.is_ascii_alphabetic()) => {}
            Some(Part::Field(_)) => {}
            _ => return Err("it has to begin with a letter".into()),
        }
        let (a, b) = (out.sample(0), out.sample(1));
        if a == b {
            return Err("two names of different seconds would be the same; end it with %Y%m%d-%H%M%S".into());
        }
        Ok(out)
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl IdPattern {
    /// A stand-in where a policy is refused anyway.
    pub(super) fn plain() -> IdPattern {
        IdPattern { text: String::new(), parts: Vec::new() }
    }

    fn sample(&self, second: i64) -> String {
        // 2026-11-22: all six fields differ from those of other days.
        let t = Timestamp::from_second(1_795_305_600 + second).unwrap_or(Timestamp::UNIX_EPOCH);
        let parts = IdParts { id: "a", database: "b", tier: "c", note: "d", region: "e" };
        self.render(&parts, t, 255)
    }

    /// The name, at most `most` characters (255 for snapshots, 63 for instances and clusters). What is cut
    /// is never the time: the longest part before it loses its end.
    pub fn render(&self, parts: &IdParts<'_>, at: Timestamp, most: usize) -> String {
        let z = at.to_zoned(TimeZone::UTC);
        let mut pieces: Vec<(bool, String)> = self
            .parts
            .iter()
            .map(|p| match p {
                Part::Plain(t) => (false, t.to_ascii_lowercase()),
                Part::Time(t) => (false, z.strftime(t).to_string()),
                Part::Field(f) => {
                    let value = match f {
                        Field::Id => parts.id,
                        Field::Database => parts.database,
                        Field::Tier => parts.tier,
                        Field::Note => parts.note,
                        Field::Region => parts.region,
                    };
                    (true, fit(value))
                }
            })
            .collect();
        let mut over = pieces.iter().map(|(_, p)| p.len()).sum::<usize>().saturating_sub(most);
        while over > 0 {
            let Some((_, longest)) =
                pieces.iter_mut().filter(|(f, p)| *f && !p.is_empty()).max_by_key(|(_, p)| p.len())
            else {
                break;
            };
            longest.pop();
            over -= 1;
        }
        let whole: String = pieces.into_iter().map(|(_, p)| p).collect();
        let whole = fit(&whole);
        if whole.starts_with(|c: char| c.is_ascii_alphabetic()) { whole } else { format!("s-{whole}") }
    }
}

/// Lower case letters and digits with single hyphens between them.
fn fit(s: &str) -> String {
    let mut out = String::new();
    for c in s.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => out.push(c),
            _ if out.ends_with('-') || out.is_empty() => {}
            _ => out.push('-'),
        }
    }
    out.trim_end_matches('-').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(pattern: &str, note: &str, most: usize) -> String {
        let parts =
            IdParts { id: "prod-db", database: "eu.orders", tier: "daily", note, region: "us-east-1" };
        let at = "2026-11-22T03:04:05Z".parse().unwrap();
        pattern.parse::<IdPattern>().unwrap().render(&parts, at, most)
    }

    #[test]
    fn the_patterns_of_the_strategies() {
        for (pattern, want) in [
            ("bibidi-manual-snapshot-%Y%m%d-%H%M%S", "bibidi-manual-snapshot-20261122-030405"),
            ("{id}-%Y%m%d-%H%M%S", "prod-db-20261122-030405"),
            ("{id}-%Y%m%d-%H%M%S-backup", "prod-db-20261122-030405-backup"),
            ("pre-maintenance-{note}-%Y%m%d-%H%M%S", "pre-maintenance-add-index-2-20261122-030405"),
            ("{database}-{region}-{tier}-%Y%m%d%H%M%S", "eu-orders-us-east-1-daily-20261122030405"),
        ] {
            assert_eq!(name(pattern, "Add index (2)!", 255), want);
        }
        // No note leaves no doubled hyphen, a long one is cut and the time is not.
        assert_eq!(name("pre-{note}-%Y%m%d-%H%M%S", "", 255), "pre-20261122-030405");
        let long = name("pre-{note}-%Y%m%d-%H%M%S", &"x".repeat(300), 63);
        assert!(long.len() == 63 && long.ends_with("x-20261122-030405"), "{long}");
        let odd = IdParts { id: "9lives", ..IdParts::default() };
        let p: IdPattern = "{id}-%S".parse().unwrap();
        assert_eq!(p.render(&odd, "2026-11-22T03:04:05Z".parse().unwrap(), 63), "s-9lives-05");
    }

    #[test]
    fn names_that_would_clash_or_be_refused() {
        for (pattern, says) in [
            ("", "begin with a letter"),
            ("9-%S", "begin with a letter"),
            ("%Y-%S", "begin with a letter"),
            ("bibidi-manual", "the same"),
            ("bibidi-manual-%Y%m%d", "the same"),
            ("a_b-%S", "letters, digits"),
            ("a:b-%S", "letters, digits"),
            ("a-%s", "only %Y"),
            ("a-{tear}-%S", "`{tear}` is not known"),
            ("a-{tier-%S", "without"),
        ] {
            let e = pattern.parse::<IdPattern>().unwrap_err();
            assert!(e.contains(says), "{pattern}: {e}");
        }
    }
}
