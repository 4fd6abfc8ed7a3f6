//! Names of snapshots, as AWS takes them.
//!
//! A name comes from a pattern of the policy: `{db}`, `{tier}`, `{source}` and the codes of strftime (`%Y%m%d`),
//! in UTC. It is made once, when the operation begins, and stored: a script that asks the clock in each
//! command gets another name after midnight, and loses its snapshot.

use crate::error::{EngineError, Result};
use jiff::Timestamp;

/// What a pattern may name.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    pub db: &'a str,
    pub source: &'a str,
    pub tier: &'a str,
    pub at: Timestamp,
}

/// `shop-daily-20261122-031500`
pub const DEFAULT_PATTERN: &str = "{db}-{tier}-%Y%m%d-%H%M%S";

/// The name that a pattern gives.
///
/// # Errors
/// What it gives is none that RDS takes: 1 to 255 letters, digits and single hyphens, a letter first and no
/// hyphen last (RDS API reference, CreateDBSnapshot).
pub fn snapshot_name(pattern: &str, parts: Parts<'_>) -> Result<String> {
    let bad = |why: String| {
        EngineError::usage(
            format!("`{pattern}` gives no name for a snapshot: {why}"),
            "patterns take {db}, {source}, {tier} and strftime codes, such as {db}-manual-%Y%m%d-%H%M%S",
        )
    };
    let timed = jiff::fmt::strtime::format(pattern, &parts.at.to_zoned(jiff::tz::TimeZone::UTC))
        .map_err(|e| bad(e.to_string()))?;
    let filled =
        timed.replace("{db}", parts.db).replace("{source}", parts.source).replace("{tier}", parts.tier);
    let name = clean(&filled);
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || name.len() > 255 {
        return Err(bad(format!("`{name}` must begin with a letter and have at most 255 characters")));
    }
    Ok(name)
}

/// The name for a copy of a snapshot: automated ones (`rds:shop-2026-11-22-03-10`) have names that nobody may
/// give.
pub fn copy_name(id: &str, same_region: bool) -> String {
    let name = clean(id.rsplit(':').next().unwrap_or(id));
    if same_region { format!("{name}-copy") } else { name }
}

/// Lower case; what RDS does not take becomes a hyphen, and hyphens stand alone.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' => out.push(c),
            _ if !out.ends_with('-') => out.push('-'),
            _ => {}
        }
    }
    out.trim_matches('-').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts<'static> {
        let at = "2026-11-22T03:15:07Z".parse().unwrap();
        Parts { db: "Shop.eu_1", source: "shop", tier: "daily", at }
    }

    #[test]
    fn patterns_of_the_strategies_give_names() {
        for (pattern, name) in [
            (DEFAULT_PATTERN, "shop-eu-1-daily-20261122-031507"),
            ("bibidi-manual-snapshot-%Y%m%d-%H%M%S", "bibidi-manual-snapshot-20261122-031507"),
            ("{source}-{tier}", "shop-daily"),
            ("pre-maintenance--{source}_", "pre-maintenance-shop"),
        ] {
            assert_eq!(snapshot_name(pattern, parts()).unwrap(), name, "{pattern}");
        }
    }

    #[test]
    fn what_rds_would_refuse_is_refused_before() {
        for pattern in ["", "%Y-{db}", "---", "%{db}", &"x".repeat(300)] {
            let e = snapshot_name(pattern, parts()).unwrap_err();
            assert!(e.to_string().contains("gives no name"), "{pattern}: {e}");
        }
    }

    #[test]
    fn copies_of_automated_snapshots_get_a_name_of_their_own() {
        assert_eq!(copy_name("rds:shop-2026-11-22-03-10", false), "shop-2026-11-22-03-10");
        assert_eq!(copy_name("shop-daily-1", true), "shop-daily-1-copy");
    }
}
