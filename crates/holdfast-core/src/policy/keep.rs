//! How long recovery points are kept: [`Keep`].
//!
//! This is what is written; [`crate::retention`] applies it.

use super::file::KeepSection;
use super::resolve::Resolver;
use crate::time::Duration;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use toml::Spanned;

/// The tag that keeps the one point which carries it until the date in its value, whatever the
/// rules say. No rule can name it.
pub const KEEP_UNTIL: &str = "keep-until";

/// Retention as written; a point stays if any rule wants it. The rules are a union: `last = 7,
/// daily = 30` keeps the seven newest and one for each of the last thirty days that have one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// The newest so many.
    pub last: u32,
    pub hourly: u32,
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
    pub yearly: u32,
    /// Every point younger than this.
    pub window: Option<Duration>,
    /// Every point that carries one of these, as long as the rule stands.
    pub tags: Vec<TagRule>,
    /// Never go under this many successful points, whatever the other rules say; at least 1.
    pub at_least: u32,
}

impl Default for Keep {
    /// Nothing but the newest point.
    fn default() -> Self {
        Keep {
            last: 0,
            hourly: 0,
            daily: 0,
            weekly: 0,
            monthly: 0,
            yearly: 0,
            window: None,
            tags: Vec::new(),
            at_least: 1,
        }
    }
}

impl Keep {
    /// Whether no rule wants any point (only `at_least` would keep some).
    pub fn keeps_nothing(&self) -> bool {
        [self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly].iter().all(|n| *n == 0)
            && self.window.is_none()
            && self.tags.is_empty()
    }
}

/// Picks points by a tag: `release` (whatever its value) or `env=prod`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TagRule {
    /// Not empty.
    pub key: String,
    /// `None`: any.
    pub value: Option<String>,
}

impl TagRule {
    /// Whether a point with these tags is meant.
    pub fn matches(&self, tags: &BTreeMap<String, String>) -> bool {
        tags.get(&self.key).is_some_and(|found| self.value.as_ref().is_none_or(|v| v == found))
    }
}

impl fmt::Display for TagRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            None => f.write_str(&self.key),
            Some(v) => write!(f, "{}={v}", self.key),
        }
    }
}

impl FromStr for TagRule {
    type Err = String;
    /// Splits at the first `=`, as `--tag KEY=VALUE` does.
    fn from_str(s: &str) -> Result<Self, String> {
        let (key, value) = match s.split_once('=') {
            None => (s, None),
            Some((key, value)) => (key, Some(value.to_string())),
        };
        match key {
            "" => Err(format!("`{s}` names no tag")),
            KEEP_UNTIL => Err(format!("`{KEEP_UNTIL}` is a tag with a meaning of its own")),
            key => Ok(TagRule { key: key.to_string(), value }),
        }
    }
}

impl Resolver<'_> {
    /// `keep` of the tier or copy at `path`, whose name stands at `at`.
    pub(super) fn keep(
        &mut self,
        written: Option<&Spanned<KeepSection>>,
        path: &[&str],
        at: std::ops::Range<usize>,
    ) -> Option<Keep> {
        const EXAMPLE: &str = "Write for example `keep = { last = 7, daily = 30, window = \"30d\" }`.";
        let Some(written) = written else {
            self.missing(path, "keep", at, EXAMPLE);
            return None;
        };
        let w = written.get_ref();
        let keep = Keep {
            last: w.last.unwrap_or(0),
            hourly: w.hourly.unwrap_or(0),
            daily: w.daily.unwrap_or(0),
            weekly: w.weekly.unwrap_or(0),
            monthly: w.monthly.unwrap_or(0),
            yearly: w.yearly.unwrap_or(0),
            window: self.duration(w.window.as_ref()),
            tags: self.tag_rules(w),
            at_least: w.at_least.as_ref().map_or(1, |n| *n.get_ref()),
        };
        if keep.at_least == 0
            && let Some(n) = &w.at_least
        {
            self.problem(
                n.span(),
                "`at-least` cannot be 0",
                "Write 1 or more: the newest successful recovery point is never removed.",
            );
        }
        let mut inner = path.to_vec();
        inner.push("keep");
        if keep.keeps_nothing() && w.window.is_none() && w.tags.is_empty() && !self.left_out_under(&inner) {
            self.problem(written.span(), "this `keep` keeps nothing", EXAMPLE);
        }
        Some(keep)
    }

    fn tag_rules(&mut self, w: &KeepSection) -> Vec<TagRule> {
        let mut out = Vec::new();
        for text in &w.tags {
            match text.get_ref().parse::<TagRule>() {
                Ok(rule) if out.contains(&rule) => {}
                Ok(rule) => out.push(rule),
                Err(message) => self.problem(
                    text.span(),
                    message,
                    "Write a tag's key, or key and value: `tags = [\"release\", \"env=prod\"]`. A point with \
                     the tag `keep-until` stays until then without a rule.",
                ),
            }
        }
        out
    }
}
