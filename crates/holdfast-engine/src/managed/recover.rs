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

use super::holdings::{CONTINUOUS, Holdings, Kept};
use super::measured::{self, Kind, Measured};
use super::restore::{At, What};
use holdfast_core::managed::{Engine, LockMode, Region};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

    /// For people, who know what they saw and not what it is called.
    pub fn words(self) -> &'static str {
        match self {
            Scenario::AccidentalDeletion => "somebody deleted or dropped data by mistake",
            Scenario::Corruption => "the data is wrong: a bad release, a bad import, damage",
            Scenario::CompleteLoss => "the database is gone; its region works",
            Scenario::RegionLoss => "its region does not work, or is lost",
            Scenario::MaliciousDeletion => "somebody with rights deletes data or backups on purpose",
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
    /// A retained or replicated automated backup, to a second: its ARN; of Aurora, the resource id of its source.
    Automated { backup: String, to: Timestamp },
    /// A point of an AWS Backup vault; a continuous one to a second.
    Point { vault: String, arn: String, to: Option<Timestamp> },
}

impl From {
    /// The same, as a restore is asked for it.
    pub fn what(&self) -> What {
        match self {
            From::Source { to } => What::Moment { at: At::Time(*to), backup: None },
            From::Snapshot { id } => What::Snapshot(id.clone()),
            From::Automated { backup, to } => {
                What::Moment { at: At::Time(*to), backup: Some(backup.clone()) }
            }
            From::Point { vault, arn, to } => {
                What::RecoveryPoint { vault: vault.clone(), arn: arn.clone(), at: to.map(At::Time) }
            }
        }
    }

    /// The kind of restore that it takes, as [`measured`] counts them.
    pub fn kind(&self) -> Kind {
        match self {
            From::Source { .. } | From::Automated { .. } => Kind::Moment,
            From::Snapshot { .. } => Kind::Snapshot,
            From::Point { .. } => Kind::RecoveryPoint,
        }
    }
}

/// One way out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Way {
    pub from: From,
    /// Where the new database will be.
    pub region: Region,
    /// And in which account, if not in the source's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The moment that it will show.
    pub shows: Timestamp,
    /// Work that is lost: from that moment to the incident.
    pub loss: SignedDuration,
    /// Of what is wanted: it was verified, it cannot be deleted, it is in another region.
    pub merits: Vec<String>,
    /// Of the vault that it lies in.
    pub lock: Option<LockMode>,
    /// Its last verification failed.
    pub failed: bool,
    /// It shows that moment or one before it, and more is lost then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_most: bool,
    /// It is of another database that had the same name.
    pub another: bool,
    /// How long the newest restore of this kind took, in that region: [`with_times`]. `None`: it was never measured.
    pub rto: Option<Measured>,
}

impl Way {
    /// What it is called as long as it is there: its number changes with whatever comes or goes. Copies have the
    /// identifier of their original, so a snapshot is named with its region.
    pub fn name(&self) -> String {
        match &self.from {
            From::Source { .. } => "source".into(),
            From::Point { arn, .. } => arn.clone(),
            From::Automated { backup, .. } if backup.starts_with("arn:") => backup.clone(),
            From::Automated { backup: id, .. } | From::Snapshot { id } => {
                let account = self.account.as_ref().map(|a| format!("{a}/")).unwrap_or_default();
                format!("{account}{}/{id}", self.region)
            }
        }
    }
}

/// Says how long each took before, where that was measured.
pub fn with_times(ways: &mut [Way], all: &[Measured]) {
    for w in ways {
        w.rto = measured::newest(all, w.from.kind(), &w.region).cloned();
    }
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
/// So many snapshots of each region are shown.
const SHOWN: usize = 5;

/// Nobody loses so much more without having said so.
const MUCH: SignedDuration = SignedDuration::from_hours(1);

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
    let there = h.status.as_ref().is_some_and(|s| s != "deleting");
    let merits: &[&str] = match scenario {
        Scenario::MaliciousDeletion => &["the same person can delete it"],
        _ => &[],
    };
    if let (true, Some(w)) = (scenario.needs_time() && there, h.window)
        && w.earliest.is_none_or(|e| e <= last)
    {
        let to = whole(last.min(w.latest));
        ways.push(way(From::Source { to }, home, to, at, merits, None));
    }
    for k in h.kept.iter().filter(|k| k.restorable) {
        if scenario == Scenario::RegionLoss && k.region == *home {
            continue;
        }
        if let Some(found) = of_kept(k, h, last, at, incident) {
            ways.push(found);
        }
    }
    let far = |w: &Way| (w.account.is_some(), w.region != *home);
    ways.sort_by_key(|w| (w.another, rank(w, scenario, home), w.failed, w.at_most, w.loss, far(w)));
    ways
}

/// Those to show to a person, counted from 0: a hundred daily snapshots are no choice.
pub fn shown(ways: &[Way]) -> Vec<usize> {
    let mut snapshots: BTreeMap<Region, usize> = BTreeMap::new();
    let mut few = |w: &Way| {
        let count = snapshots.entry(w.region.clone()).or_default();
        *count += 1;
        *count <= SHOWN
    };
    let all = ways.iter().enumerate();
    all.filter(|(_, w)| !matches!(w.from, From::Snapshot { .. }) || few(w)).map(|(n, _)| n).collect()
}

/// One that loses much less than the first: not the best for its merits, and whoever decides should know.
pub fn loses_less(ways: &[Way]) -> Option<usize> {
    let limit = ways.first()?.loss.checked_sub(MUCH)?;
    let good = |w: &&(usize, &Way)| w.1.loss < limit && !w.1.another && !w.1.failed;
    let all: Vec<(usize, &Way)> = ways.iter().enumerate().collect();
    all.iter().filter(good).min_by_key(|(_, w)| w.loss).map(|(n, _)| *n)
}

fn of_kept(k: &Kept, h: &Holdings, last: Timestamp, at: Timestamp, incident: Incident) -> Option<Way> {
    // AWS restores no encrypted snapshot of another account.
    if k.kind == "shared" && k.encrypted {
        return None;
    }
    let mut merits: Vec<&str> = Vec::new();
    if k.another {
        merits.push("another database of that name");
    }
    if k.before {
        merits.push("the database before the cutover");
    }
    let proven = k.verified.as_ref().map(|mark| match mark.level.as_deref() {
        Some("L2") => "restored once (L2)".to_string(),
        Some(level) => format!("verified {level}"),
        None => "verified".to_string(),
    });
    match (k.failed, &proven) {
        (Some(_), _) => merits.push("its last verification failed"),
        (None, Some(text)) => merits.push(text),
        (None, None) => {}
    }
    if k.at_most && k.window.is_none() {
        merits.push("may show an earlier moment: a copy that does not say which");
    }
    if k.region != h.source.region {
        merits.push("other region");
    }
    if k.account.is_some() {
        merits.push("other account");
    }
    match (&k.vault, k.lock) {
        (None, _) => {}
        (Some(_), Some(LockMode::Compliance)) => merits.push("vault that nobody can delete from"),
        (Some(_), Some(_)) => merits.push("vault with a lock that an administrator can remove"),
        (Some(_), None) => merits.push("vault"),
    }
    // Of another database of that name, nothing of what came after the loss.
    let last = if k.another { last.min(at) } else { last };
    // A point between two seconds shows the moment of its end; a window, any second of it.
    let (from, shows) = match (k.window, k.taken) {
        (Some(w), _) => {
            if w.earliest.is_some_and(|e| e > last) {
                return None;
            }
            let to = whole(last.min(w.latest));
            let from = match &k.vault {
                Some(v) => From::Point { vault: v.clone(), arn: k.arn.clone(), to: Some(to) },
                None if h.source.engine == Engine::Rds && !k.arn.is_empty() => {
                    From::Automated { backup: k.arn.clone(), to }
                }
                // RestoreDBClusterToPointInTime takes the resource id; DocumentDB has no such backups.
                None => From::Automated { backup: k.id.clone(), to },
            };
            (from, to)
        }
        // Nobody says to when it reaches: its end may have the fault in it.
        (None, _) if k.kind == CONTINUOUS => return None,
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
    let found = way(from, &k.region, shows, lost_at, &merits, k.lock);
    let at_most = k.at_most && k.window.is_none();
    Some(Way { account: k.account.clone(), failed: k.failed.is_some(), at_most, another: k.another, ..found })
}

fn way(
    from: From,
    region: &Region,
    shows: Timestamp,
    at: Timestamp,
    merits: &[&str],
    lock: Option<LockMode>,
) -> Way {
    let merits = merits.iter().map(ToString::to_string).collect();
    let loss = at.duration_since(shows);
    let region = region.clone();
    Way {
        from,
        region,
        account: None,
        shows,
        loss,
        merits,
        lock,
        failed: false,
        at_most: false,
        another: false,
        rto: None,
    }
}

/// Smaller is better. Against a person with rights, what that person cannot reach comes first.
fn rank(w: &Way, scenario: Scenario, home: &Region) -> u8 {
    if scenario != Scenario::MaliciousDeletion {
        return 0;
    }
    match (&w.from, w.lock, w.region != *home) {
        (_, Some(LockMode::Compliance), _) => 0,
        _ if w.account.is_some() => 1,
        (From::Point { .. }, Some(_), true) => 2,
        (From::Point { .. }, None, true) => 3,
        (From::Point { .. }, _, false) => 4,
        (_, _, true) => 5,
        (_, _, false) => 6,
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
            account: None,
            vault: None,
            lock: None,
            state: "available".into(),
            restorable: true,
            taken: Some(t(taken)),
            at_most: false,
            window: None,
            delete_at: None,
            size_bytes: None,
            encrypted: true,
            ours: true,
            tier: None,
            note: None,
            verified: None,
            failed: None,
            resource_id: None,
            before: false,
            another: false,
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
            resource_id: None,
            window: Some(RestorableWindow { earliest: Some(t("15T00:00:00")), latest: t("22T09:55:00") }),
            kept: vec![
                kept("snapshot", "daily-22", "us-east-1", "22T03:00:00"),
                kept("copy", "daily-21", "us-west-2", "21T03:00:00"),
                kept("snapshot", "daily-10", "us-east-1", "10T03:00:00"),
                locked,
            ],
            beside: Vec::new(),
            lineage: Default::default(),
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
    fn another_database_of_that_name_comes_last_or_not_at_all() {
        let mut h = holdings();
        for (k, id) in h.kept.iter_mut().zip(["db-NEW", "db-OLD", "db-NEW"]) {
            k.resource_id = Some(id.into());
        }
        h.set_apart(None, None);
        assert!(h.kept.iter().all(|k| !k.another), "nobody knows which it was");
        h.set_apart(Some("db-OLD"), None);
        let names = |at| -> Vec<String> {
            options(&h, incident(Scenario::CompleteLoss, at)).iter().map(Way::name).collect()
        };
        let all = ["us-west-2/daily-21", "arn:locked", "us-east-1/daily-22", "us-east-1/daily-10"];
        assert_eq!(names("22T09:00:00"), all);
        assert_eq!(names("21T09:00:00"), [all[0], all[1], all[3]], "made after it was last seen");
    }

    /// A retained backup whose window goes on after the loss, because the database of that name came after it.
    #[test]
    fn the_window_of_another_ends_where_this_one_was_lost() {
        let mut h = holdings();
        let mut retained = kept("retained", "db-OTHER", "us-east-1", "22T09:58:00");
        retained.resource_id = Some("db-OTHER".into());
        retained.taken = None;
        retained.window =
            Some(RestorableWindow { earliest: Some(t("15T00:00:00")), latest: t("22T09:58:00") });
        h.kept.push(retained);
        h.set_apart(Some("db-MINE"), None);
        let ways = options(&h, incident(Scenario::CompleteLoss, "22T09:00:00"));
        let way = ways.iter().find(|w| w.name() == "arn:db-OTHER").expect("a way");
        assert!(way.another && way.shows == t("22T09:00:00"), "{way:?}");
    }

    #[test]
    fn what_verifications_found_is_said_and_counts() {
        let mut h = holdings();
        let mark = |level: &str| {
            Some(super::super::holdings::Mark { at: t("22T04:00:00"), level: Some(level.into()) })
        };
        h.kept[0].failed = Some(t("22T04:00:00"));
        (h.kept[1].verified, h.kept[2].verified) = (mark("L4"), mark("L2"));
        let ways = options(&h, incident(Scenario::CompleteLoss, "22T09:00:00"));
        let says = |name: &str| ways.iter().find(|w| w.name() == name).unwrap().merits[0].clone();
        assert_eq!(says("us-west-2/daily-21"), "verified L4");
        assert_eq!(says("us-east-1/daily-10"), "restored once (L2)");
        assert_eq!(says("us-east-1/daily-22"), "its last verification failed");
        assert_eq!(ways.last().unwrap().name(), "us-east-1/daily-22");
        assert_eq!(loses_less(&ways), None, "what is bad is no reason to ask");
    }

    /// X10: a copy of a cluster's snapshot that somebody made yesterday may show last month.
    #[test]
    fn a_copy_that_does_not_say_what_it_shows_is_no_reason_to_pass_by_one_that_does() {
        let mut h = holdings();
        h.kept[0].at_most = true;
        let ways = options(&h, incident(Scenario::CompleteLoss, "22T09:00:00"));
        assert_eq!(ways[0].name(), "us-west-2/daily-21");
        let last = ways.last().unwrap();
        assert_eq!((last.name().as_str(), last.at_most), ("us-east-1/daily-22", true));
        assert!(last.merits[0].contains("earlier moment"), "{last:?}");
        // It may be the better one all the same: a person decides.
        assert_eq!(loses_less(&ways), Some(ways.len() - 1));
    }

    #[test]
    fn a_person_with_rights_may_have_left_the_source() {
        let mut h = holdings();
        let malice = incident(Scenario::MaliciousDeletion, "22T09:00:00");
        let ways = options(&h, malice);
        let n = ways.iter().position(|w| w.name() == "source").unwrap();
        assert_eq!(ways[n].merits, ["the same person can delete it"]);
        assert!(ways[..n].iter().all(|w| w.region.as_str() == "us-west-2"), "{ways:#?}");
        assert_eq!(loses_less(&ways), Some(n));
        assert_eq!(loses_less(&ways[n..]), None);
        h.status = Some("deleting".into());
        assert!(options(&h, malice).iter().all(|w| w.name() != "source"));
    }

    #[test]
    fn many_snapshots_are_cut_for_each_region_and_only_to_show() {
        let mut h = holdings();
        for n in 10..20 {
            h.kept.push(kept("snapshot", &format!("s{n}"), "us-east-1", &format!("{n}T05:00:00")));
        }
        let ways = options(&h, incident(Scenario::CompleteLoss, "22T09:00:00"));
        let shown: Vec<&Way> = shown(&ways).into_iter().map(|n| &ways[n]).collect();
        assert_eq!(ways.iter().filter(|w| w.name().starts_with("us-east-1/")).count(), 12);
        assert_eq!(shown.iter().filter(|w| w.name().starts_with("us-east-1/")).count(), 5);
        assert!(shown.iter().any(|w| w.name() == "us-west-2/daily-21"), "{shown:#?}");
    }

    #[test]
    fn a_database_that_is_gone_has_no_window_of_its_own() {
        let mut h = holdings();
        let mut retained = kept("retained", "db-ABC", "us-east-1", "22T03:00:00");
        retained.window = h.window;
        h.kept.push(retained);
        let ways = options(&h, incident(Scenario::CompleteLoss, "22T09:58:00"));
        assert_eq!(ways[0].from, From::Automated { backup: "arn:db-ABC".into(), to: t("22T09:55:00") });
        assert_eq!(ways[0].loss.as_secs(), 180);
        assert!(!ways.iter().any(|w| matches!(w.from, From::Source { .. })));
    }

    #[test]
    fn a_region_that_is_gone_leaves_what_others_have() {
        let ways = options(&holdings(), incident(Scenario::RegionLoss, "22T09:58:00"));
        assert_eq!(ways[0].from, From::Snapshot { id: "daily-21".into() });
        assert_eq!(ways[0].name(), "us-west-2/daily-21");
        assert!(ways.iter().all(|w| w.region.as_str() == "us-west-2"));
        // What the copies make it, not what the policy says (provider rules X10, X42).
        assert_eq!(ways[0].loss.as_hours(), 30);
    }

    #[test]
    fn against_a_person_with_rights_the_vault_comes_first() {
        let ways = options(&holdings(), incident(Scenario::MaliciousDeletion, "22T09:00:00"));
        assert!(matches!(&ways[0].from, From::Point { vault, .. } if vault == "safe"), "{ways:?}");
        // One that nobody can delete comes before one that is newer and elsewhere.
        let mut h = holdings();
        let mut locked = kept("recovery-point", "worm", "us-east-1", "01T02:00:00");
        (locked.vault, locked.lock) = (Some("worm".into()), Some(LockMode::Compliance));
        h.kept.push(locked);
        let ways = options(&h, incident(Scenario::MaliciousDeletion, "22T09:00:00"));
        assert!(matches!(&ways[0].from, From::Point { vault, .. } if vault == "worm"), "{ways:?}");
    }

    #[test]
    fn what_another_account_has_comes_before_all_that_an_administrator_can_delete() {
        let mut h = holdings();
        let mut abroad = kept("copy", "daily-20", "us-east-1", "20T03:00:00");
        abroad.account = Some("210987654321".into());
        h.kept.push(abroad);
        let first = |scenario| options(&h, incident(scenario, "22T09:00:00")).remove(0);
        let way = first(Scenario::MaliciousDeletion);
        assert_eq!(way.name(), "210987654321/us-east-1/daily-20");
        assert!(way.merits.contains(&"other account".to_string()));
        assert_eq!(first(Scenario::CompleteLoss).account, None);
        let lost = options(&h, incident(Scenario::RegionLoss, "22T09:00:00"));
        assert!(lost.iter().all(|w| w.account.is_none()), "its region is lost too");
    }

    #[test]
    fn a_continuous_point_is_restored_before_the_fault_or_not_at_all() {
        let mut h = holdings();
        let mut point = kept("continuous", "c", "us-east-1", "01T03:00:00");
        point.vault = Some("main".into());
        h.kept = vec![point];
        h.window = None;
        // Its end may show the deletion: without a window it is no way.
        assert!(options(&h, incident(Scenario::AccidentalDeletion, "20T12:00:00")).is_empty());
        h.kept[0].window = Some(RestorableWindow { earliest: None, latest: t("22T09:55:00") });
        let ways = options(&h, incident(Scenario::AccidentalDeletion, "20T12:00:00"));
        let to = Some(t("20T11:59:59"));
        assert_eq!(ways[0].from, From::Point { vault: "main".into(), arn: "arn:c".into(), to });
    }

    #[test]
    fn what_is_left_of_an_aurora_cluster_is_named_by_its_resource_id() {
        let mut h = holdings();
        h.source = "aurora://us-east-1/shop".parse().unwrap();
        let mut retained = kept("retained", "cluster-ABC", "us-east-1", "22T03:00:00");
        retained.window = h.window;
        h.kept = vec![retained];
        let ways = options(&h, incident(Scenario::CompleteLoss, "22T09:58:00"));
        let from = From::Automated { backup: "cluster-ABC".into(), to: t("22T09:55:00") };
        assert_eq!(ways[0].from, from);
    }

    #[test]
    fn times_are_those_of_the_same_kind_and_region() {
        let mut ways = options(&holdings(), incident(Scenario::AccidentalDeletion, "22T09:00:00"));
        let one = |kind, region: &str, seconds| Measured {
            kind,
            region: region.parse().unwrap(),
            seconds,
            at: t("20T00:00:00"),
            size_gib: Some(100),
            class: None,
            by: "restore",
            operation: "o".into(),
        };
        with_times(&mut ways, &[one(Kind::Moment, "us-west-2", 1.0), one(Kind::Snapshot, "us-east-1", 2.0)]);
        let rto = |w: &Way| w.rto.as_ref().map(|m| m.seconds);
        assert_eq!(rto(&ways[0]), None, "another region is another measurement");
        let here = ways.iter().find(|w| w.from == From::Snapshot { id: "daily-22".into() }).unwrap();
        assert_eq!(rto(here), Some(2.0));
    }

    #[test]
    fn nothing_left_is_said_by_an_empty_list() {
        let mut h = holdings();
        h.kept.clear();
        assert!(options(&h, incident(Scenario::RegionLoss, "22T09:58:00")).is_empty());
    }
}
