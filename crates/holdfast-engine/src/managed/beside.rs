//! Databases that lie beside the one of the policy and cost money: what a cutover replaced, what was restored and
//! never put into service. And the one of the policy itself under a name that it does not know.
//!
//! Told by tags ([`tags::STATE`], [`tags::MADE`]) and by resource ids, which are of one database for ever. What somebody
//! else restored is not called ours: it inherits all tags, and its mark names another.

use super::holdings::Wanted;
use holdfast_core::managed::{Database, Source, Tags, tags};
use jiff::Timestamp;
use serde::Serialize;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Beside {
    pub source: Source,
    /// In the provider's words.
    pub status: String,
    pub created: Option<Timestamp>,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum What {
    /// It has the resource id of the policy, and another name.
    Renamed,
    /// By a cutover; `until` is the end of its quarantine.
    Replaced { until: Option<Timestamp> },
    /// By Holdfast, for good, and it is not the database of the policy.
    Restored,
}

/// Of everything that a survey found, what belongs to this database and is not it.
pub fn of<'a>(found: impl Iterator<Item = &'a Database>, w: &Wanted) -> Vec<Beside> {
    let (own, others): (Vec<_>, Vec<_>) =
        found.filter(|d| d.source.engine == w.source.engine).partition(|d| d.source == w.source);
    let judged = others.into_iter().filter(|d| !d.status.is_deleting()).filter_map(|d| {
        let same = w.resource_id.as_deref() == Some(d.resource_id.as_str());
        let what = judge(&d.source, &d.tags, w.name.as_str(), same && own.is_empty())?;
        Some(Beside { source: d.source.clone(), status: d.status.to_string(), created: d.created, what })
    });
    judged.collect()
}

/// `same`: it has the resource id of the policy, and nothing has the policy's name. After a cutover that renamed, what
/// was replaced has that id as well, until somebody writes the new one.
fn judge(source: &Source, of: &Tags, name: &str, same: bool) -> Option<What> {
    match by_tags(source, of, name) {
        Some(replaced @ What::Replaced { .. }) => Some(replaced),
        _ if same => Some(What::Renamed),
        other => other,
    }
}

fn by_tags(source: &Source, of: &Tags, name: &str) -> Option<What> {
    if of.get(tags::DATABASE) != Some(name) {
        return None;
    }
    if of.get(tags::STATE) == Some("quarantine") {
        let until = of.get(tags::QUARANTINED_UNTIL).and_then(|t| t.parse().ok());
        return Some(What::Replaced { until });
    }
    // What is temporary is the reaper's, and what took over in a cutover serves: this policy, or another one that has a
    // database of this name.
    let ours = of.get(tags::MADE) == Some(tags::database_mark(source).as_str());
    (ours && of.get(tags::EXPIRES).is_none() && of.get(tags::REPLACES).is_none()).then_some(What::Restored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_so_of_itself_is_ours() {
        let source: Source = "rds://us-east-1/risen".parse().unwrap();
        let of = Tags::default().with(tags::DATABASE, "shop");
        let judged = |tags: &Tags| by_tags(&source, tags, "shop");
        assert_eq!(judged(&of), None);
        let made = of.clone().with(tags::MADE, "us-east-1/risen");
        assert_eq!(judged(&made), Some(What::Restored));
        assert_eq!(by_tags(&source, &made, "other"), None);
        assert_eq!(judged(&made.clone().with(tags::EXPIRES, "2026-11-01T00:00:00Z")), None);
        // Somebody restored a snapshot of one that was ours.
        assert_eq!(judged(&of.clone().with(tags::MADE, "us-east-1/shop")), None);
        assert_eq!(judged(&made.clone().with(tags::REPLACES, "db-OLD")), None, "it serves");
        let replaced = made
            .clone()
            .with(tags::STATE, "quarantine")
            .with(tags::QUARANTINED_UNTIL, "2026-11-01T00:00:00Z");
        assert_eq!(judged(&replaced), Some(What::Replaced { until: "2026-11-01T00:00:00Z".parse().ok() }));
        // One that a cutover renamed has the policy's resource id still.
        let judge = |of: &Tags, same| judge(&source, of, "shop", same);
        assert!(matches!(judge(&replaced, true), Some(What::Replaced { .. })));
        assert_eq!((judge(&made, true), judge(&made, false)), (Some(What::Renamed), Some(What::Restored)));
    }
}
