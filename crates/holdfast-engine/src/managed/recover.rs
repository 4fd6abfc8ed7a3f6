//! What to do now: [`options`] for an incident, from what is really there.
//!
//! A pure function of what [`super::holdings`] saw, what happened and when. Every option says what it restores, what
//! is lost by it (RPO), and how long it takes (RTO) where that was measured; nothing is taken from what the policy
//! intends. The first is the one to take; `holdfast recover` shows them all and runs one.
//!
//! | what happened | what may be used |
//! |---|---|
//! | deletion or corruption of data, noticed at a time | any second before it, of the live source; else what shows a moment before it |
//! | the database is gone | its retained backups, continuous points, snapshots here |
//! | the region is gone | what other regions have: replicated backups, copies |
//! | somebody deletes on purpose | what that person cannot delete: vaults, before other regions, before the rest |

use super::holdings::{Holdings, Kept};
use holdfast_core::managed::{Engine, Region};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Rows or tables were deleted, or dropped, by mistake.
    AccidentalDeletion,
    /// The data is wrong since some time.
    Corruption,
    /// The database is gone, its region is there.
    CompleteLoss,
    RegionLoss,
    /// Somebody with rights destroys data and backups.
    MaliciousDeletion,
}

impl Scenario {
    pub const ALL: [Scenario; 5] = [
        Scenario::AccidentalDeletion,
        Scenario::Corruption,
        Scenario::CompleteLoss,
        Scenario::RegionLoss,
        Scenario::MaliciousDeletion,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Scenario::AccidentalDeletion => "accidental-deletion",
            Scenario::Corruption => "corruption",
            Scenario::CompleteLoss => "complete-loss",
            Scenario::RegionLoss => "region-loss",
            Scenario::MaliciousDeletion => "malicious-deletion",
        }
    }

    /// The data is wrong from the incident on: nothing later may be restored.
    pub fn needs_time(self) -> bool {
        matches!(self, Scenario::AccidentalDeletion | Scenario::Corruption | Scenario::MaliciousDeletion)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Scenario {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let known = || {
            let all: Vec<&str> = Scenario::ALL.iter().map(|s| s.as_str()).collect();
            format!("`{s}` is no scenario; there are {}", all.join(", "))
        };
        Scenario::ALL.into_iter().find(|k| k.as_str() == s).ok_or_else(known)
    }
}

/// What an option restores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum From {
    /// The live source, to a second.
    Source { to: Timestamp },
    /// A snapshot of a region, by identifier.
    Snapshot { id: String },
    /// A retained or replicated automated backup, to a second.
    Automated { arn: String, to: Timestamp },
    /// A point of an AWS Backup vault; a continuous one to a second.
    Point { vault: String, arn: String, to: Option<Timestamp> },
}

/// One way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Way {
    pub from: From,
    /// Where the new database will be.
    pub region: Region,
    /// The moment that it will show.
    pub shows: Timestamp,
    /// Work that is lost: from that moment to the incident.
    pub loss: SignedDuration,
    /// Of what is wanted: it was verified, it cannot be deleted, it is in another region.
    pub merits: Vec<String>,
}

/// What is known of the incident.
#[derive(Debug, Clone, Copy)]
pub struct Incident {
    pub scenario: Scenario,
    /// When it began; of a loss, when the database was last seen alive.
    pub at: Timestamp,
    pub now: Timestamp,
}

/// The second before an incident is the last good one.
const BEFORE: SignedDuration = SignedDuration::from_secs(1);
/// Of each kind so many are shown.
const SHOWN: usize = 5;

/// All ways out, the best first.
pub fn options(h: &Holdings, incident: Incident) -> Vec<Way> {
    let Incident { scenario, at, now } = incident;
    // The last moment that may be restored.
    let last = match scenario.needs_time() {
        true => at.checked_sub(BEFORE).unwrap_or(at),
        false => now,
    };
    let home = &h.source.region;
    let mut ways = Vec::new();
    let source_usable = matches!(scenario, Scenario::AccidentalDeletion | Scenario::Corruption);
    if let (true, Some(w)) = (source_usable && h.status.is_some(), h.window)
        && w.earliest.is_none_or(|e| e <= last)
    {
        let to = whole(last.min(w.latest));
        ways.push(way(From::Source { to }, home, to, at, &[]));
    }
    for k in h.kept.iter().filter(|k| k.restorable) {
        if scenario == Scenario::RegionLoss && k.region == *home {
            continue;
        }
        if let Some(found) = of_kept(k, h, last, at, incident) {
            ways.push(found);
        }
    }
    ways.sort_by_key(|w| (rank(w, scenario, home), w.loss, w.region != *home));
    // A hundred daily snapshots are no choice.
    let mut snapshots = 0;
    ways.retain(|w| {
        snapshots += usize::from(matches!(w.from, From::Snapshot { .. }));
        !matches!(w.from, From::Snapshot { .. }) || snapshots <= SHOWN
    });
    ways
}

fn of_kept(k: &Kept, h: &Holdings, last: Timestamp, at: Timestamp, incident: Incident) -> Option<Way> {
    let mut merits: Vec<&str> = Vec::new();
    if k.verified.is_some() {
        merits.push("verified");
    }
    if k.region != h.source.region {
        merits.push("other region");
    }
    if k.vault.is_some() {
        merits.push("vault");
    }
    // A point between two seconds shows the moment of its end; a window, any second of it.
    let (from, shows) = match (k.window, k.taken) {
        (Some(w), _) => {
            if w.earliest.is_some_and(|e| e > last) {
                return None;
            }
            let to = whole(last.min(w.latest));
            let from = match &k.vault {
                Some(v) => From::Point { vault: v.clone(), arn: k.arn.clone(), to: Some(to) },
                // DocumentDB has none, and an Aurora one has no name that a restore takes but its resource id.
                None if h.source.engine == Engine::Rds => From::Automated { arn: k.arn.clone(), to },
                None => return None,
            };
            (from, to)
        }
        (None, Some(taken)) if taken <= last => {
            let from = match &k.vault {
                Some(v) => From::Point { vault: v.clone(), arn: k.arn.clone(), to: None },
                None => From::Snapshot { id: k.id.clone() },
            };
            (from, taken)
        }
        _ => return None,
    };
    let lost_at = if incident.scenario.needs_time() { at } else { at.max(shows) };
    Some(way(from, &k.region, shows, lost_at, &merits))
}

fn way(from: From, region: &Region, shows: Timestamp, at: Timestamp, merits: &[&str]) -> Way {
    let merits = merits.iter().map(ToString::to_string).collect();
    Way { from, region: region.clone(), shows, loss: at.duration_since(shows), merits }
}

/// Smaller is better. Against a person with rights, what that person cannot reach comes first.
fn rank(w: &Way, scenario: Scenario, home: &Region) -> u8 {
    if scenario != Scenario::MaliciousDeletion {
        return 0;
    }
    match (&w.from, w.region != *home) {
        (From::Point { .. }, true) => 0,
        (From::Point { .. }, false) => 1,
        (_, true) => 2,
        (_, false) => 3,
    }
}

/// AWS restores to whole seconds.
fn whole(t: Timestamp) -> Timestamp {
    Timestamp::from_second(t.as_second()).unwrap_or(t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::managed::{RestorableWindow, Source};

    fn t(s: &str) -> Timestamp {
        format!("2026-11-{s}Z").parse().unwrap()
    }

    fn kept(kind: &'static str, id: &str, region: &str, taken: &str) -> Kept {
        Kept {
            kind,
            id: id.into(),
            arn: format!("arn:{id}"),
            region: region.parse().unwrap(),
            vault: None,
            state: "available".into(),
            restorable: true,
            taken: Some(t(taken)),
            window: None,
            delete_at: None,
            size_bytes: None,
            encrypted: true,
            ours: true,
            tier: None,
            note: None,
            verified: None,
        }
    }

    fn holdings() -> Holdings {
        let source: Source = "rds://us-east-1/shop".parse().unwrap();
        let mut locked = kept("recovery-point", "locked", "us-west-2", "01T03:00:00");
        locked.vault = Some("safe".into());
        Holdings {
            database: "shop".into(),
            source,
            status: Some("available".into()),
            window: Some(RestorableWindow { earliest: Some(t("15T00:00:00")), latest: t("22T09:55:00") }),
            kept: vec![
                kept("snapshot", "daily-22", "us-east-1", "22T03:00:00"),
                kept("copy", "daily-21", "us-west-2", "21T03:00:00"),
                kept("snapshot", "daily-10", "us-east-1", "10T03:00:00"),
                locked,
            ],
        }
    }

    fn incident(scenario: Scenario, at: &str) -> Incident {
        Incident { scenario, at: t(at), now: t("22T10:00:00") }
    }

    #[test]
    fn a_deletion_is_undone_to_the_second_before() {
        let ways = options(&holdings(), incident(Scenario::AccidentalDeletion, "20T12:00:00"));
        assert_eq!(ways[0].from, From::Source { to: t("20T11:59:59") });
        assert_eq!(ways[0].loss.as_secs(), 1);
        // Nothing that already has the fault in it.
        assert!(ways.iter().all(|w| w.shows < t("20T12:00:00")), "{ways:?}");
    }

    #[test]
    fn older_than_the_window_only_snapshots_are_left() {
        let ways = options(&holdings(), incident(Scenario::Corruption, "12T00:00:00"));
        assert_eq!(ways[0].from, From::Snapshot { id: "daily-10".into() });
    }

    #[test]
    fn a_database_that_is_gone_has_no_window_of_its_own() {
        let mut h = holdings();
        let mut retained = kept("retained", "db-ABC", "us-east-1", "22T03:00:00");
        retained.window = h.window;
        h.kept.push(retained);
        let ways = options(&h, incident(Scenario::CompleteLoss, "22T09:58:00"));
        assert_eq!(ways[0].from, From::Automated { arn: "arn:db-ABC".into(), to: t("22T09:55:00") });
        assert_eq!(ways[0].loss.as_secs(), 180);
        assert!(!ways.iter().any(|w| matches!(w.from, From::Source { .. })));
    }

    #[test]
    fn a_region_that_is_gone_leaves_what_others_have() {
        let ways = options(&holdings(), incident(Scenario::RegionLoss, "22T09:58:00"));
        assert_eq!(ways[0].from, From::Snapshot { id: "daily-21".into() });
        assert!(ways.iter().all(|w| w.region.as_str() == "us-west-2"));
        // What the copies make it, not what the policy says (provider rules X10, X42).
        assert_eq!(ways[0].loss.as_hours(), 30);
    }

    #[test]
    fn against_a_person_with_rights_the_vault_comes_first() {
        let ways = options(&holdings(), incident(Scenario::MaliciousDeletion, "22T09:00:00"));
        assert!(matches!(&ways[0].from, From::Point { vault, .. } if vault == "safe"), "{ways:?}");
    }

    #[test]
    fn nothing_left_is_said_by_an_empty_list() {
        let mut h = holdings();
        h.kept.clear();
        assert!(options(&h, incident(Scenario::RegionLoss, "22T09:58:00")).is_empty());
    }
}
