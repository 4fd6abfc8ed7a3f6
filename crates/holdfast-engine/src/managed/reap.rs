//! Removing what is past its end of life: what an earlier crash left.
//!
//! Whatever is temporary carries two tags from its first moment: the operation that made it and its end of life. So
//! it is found in any region, on any host, whatever became of the process that made it (provider rules X20, X39).
//!
//! | carries | is removed |
//! |---|---|
//! | no tag of Holdfast's operations; of a database: not its own name | never |
//! | no end of life, or one that cannot be read | never (the second is told) |
//! | an end of life that is over | yes |
//! | an end of life to come, by a verification that this host knows to have ended | yes |
//! | a state (`quarantine`) | never: its deletion wants a final snapshot |
//!
//! A verification that this host began, that nobody goes on with, and whose end of life is over is ended as its own
//! command would end it: its record may know of a restore job of AWS Backup, whose result has no tags yet.
//!
//! What a process of this host works on just now stays. Snapshots are for [`super::expire`]: a backup is not temporary,
//! whatever its end of life.
//!
//! Crash: every removal stands by itself and bears being done again; the next run decides from what is there.

use super::journal::{Journal, Outline};
use super::wait::Pace;
use super::{remove, verify};
use crate::error::{EngineError, Result};
use crate::state::State;
use futures::{StreamExt as _, stream};
use holdfast_core::managed::{Cloud, Region, Source, Tags, tags as keys};
use holdfast_core::time::short;
use holdfast_core::{DatabaseName, Monitor};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Removals at once: each takes minutes, and AWS limits the rate of calls.
const AT_ONCE: usize = 4;

/// Everything to reap with. Not of one database: leftovers may be of one that the policy no longer has.
#[derive(Debug, Clone)]
pub struct Reaper {
    pub cloud: Arc<dyn Cloud>,
    pub journal: Journal,
    pub state: State,
    pub monitor: Arc<dyn Monitor>,
    pub pace: Pace,
    /// Databases of the policy that this identity sees: their unfinished verifications are ended.
    pub databases: Vec<DatabaseName>,
}

/// A thing that may be removed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Thing {
    Database {
        source: Source,
    },
    Group {
        region: Region,
        id: String,
        name: String,
    },
    /// A verification that was begun on this host and not finished.
    Verification {
        id: String,
        database: DatabaseName,
    },
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Thing::Database { source } => write!(f, "database {source}"),
            Thing::Group { region, id, name } => write!(f, "security group {id} ({name}) in {region}"),
            Thing::Verification { id, database } => write!(f, "verification {id} of {database}"),
        }
    }
}

/// One thing, and why it goes or stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    #[serde(flatten)]
    pub thing: Thing,
    /// The operation that made it.
    pub operation: String,
    pub why: String,
}

/// What would be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub remove: Vec<Line>,
    /// Temporary, and not to be removed now.
    pub stays: Vec<Line>,
    /// What could not be looked at: nothing is known about it.
    pub failures: Vec<String>,
}

/// What the journal says of operations.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Verifications that have ended.
    over: BTreeSet<String>,
    /// Operations under way whose database is locked by a process that lives.
    busy: BTreeSet<String>,
}

/// Looks at everything that Holdfast made in these regions. Makes no change.
///
/// # Errors
/// The journal cannot be read, or no region could be looked at.
pub async fn plan(r: &Reaper, regions: &[Region], now: Timestamp) -> Result<Plan> {
    let under_way = r.journal.unfinished(None, None)?;
    let known = Known { over: r.journal.ended_ids(verify::VERB)?, busy: busy(r, &under_way)? };
    let mut plan = Plan::default();
    for o in under_way.iter().filter(|o| o.verb == verify::VERB && !known.busy.contains(&o.id)) {
        let Some(database) = r.databases.iter().find(|d| d.as_str() == o.database) else { continue };
        let Some((region, end)) = verify::end_of(o) else { continue };
        if end <= now && regions.contains(&region) {
            let thing = Thing::Verification { id: o.id.clone(), database: database.clone() };
            let why = format!("it was begun and not finished; its end of life was {}", short(end));
            plan.remove.push(Line { thing, operation: o.id.clone(), why });
        }
    }
    let mut seen = 0;
    let mut first = None;
    for region in regions {
        let (things, failed) = things(&*r.cloud, region).await;
        seen += usize::from(failed.len() < LOOKS);
        for e in failed {
            plan.failures.push(e.to_string());
            first.get_or_insert(e);
        }
        for (thing, tags) in things {
            match judge(&thing, &tags, &known, now) {
                Some(Verdict::Remove(why)) => plan.remove.push(line(thing, &tags, why)),
                Some(Verdict::Stay(why)) => plan.stays.push(line(thing, &tags, why)),
                None => {}
            }
        }
    }
    match first {
        Some(e) if seen == 0 => Err(e.into()),
        _ => Ok(plan),
    }
}

fn line(thing: Thing, tags: &Tags, why: String) -> Line {
    Line { thing, operation: tags.operation().unwrap_or_default().to_string(), why }
}

fn busy(r: &Reaper, under_way: &[Outline]) -> Result<BTreeSet<String>> {
    let mut out = BTreeSet::new();
    for o in under_way {
        let lock = if o.verb == verify::VERB { "verify" } else { "run" };
        if r.state.try_lock_named(&format!("{}.{lock}", o.database))?.is_none() {
            out.insert(o.id.clone());
        }
    }
    Ok(out)
}

/// Listings of a region.
const LOOKS: usize = 2;

type Failures = Vec<holdfast_core::managed::ManagedError>;

async fn things(cloud: &dyn Cloud, region: &Region) -> (Vec<(Thing, Tags)>, Failures) {
    let (mut out, mut failed) = (Vec::new(), Vec::new());
    match cloud.list(region).await {
        Ok(all) => out.extend(all.into_iter().map(|d| (Thing::Database { source: d.source }, d.tags))),
        Err(e) => failed.push(e),
    }
    match cloud.own_groups(region).await {
        Ok(all) => out.extend(
            all.into_iter().map(|g| (Thing::Group { region: g.region, id: g.id, name: g.name }, g.tags)),
        ),
        Err(e) => failed.push(e),
    }
    (out, failed)
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Remove(String),
    Stay(String),
}

/// `None`: it is nobody's business here.
fn judge(thing: &Thing, tags: &Tags, known: &Known, now: Timestamp) -> Option<Verdict> {
    let operation = tags.operation()?;
    let text = tags.get(keys::EXPIRES)?;
    if matches!(thing, Thing::Database { source } if !remove::is_marked(tags, source)) {
        return None;
    }
    Some(match tags.expires() {
        None => Verdict::Stay(format!("its end of life, `{text}`, is no time")),
        Some(_) if tags.get(keys::STATE).is_some() => {
            Verdict::Stay(format!("it is in {}", tags.get(keys::STATE).unwrap_or_default()))
        }
        Some(_) if known.busy.contains(operation) => {
            Verdict::Stay(format!("operation {operation} is working on it"))
        }
        Some(end) if end <= now => Verdict::Remove(format!("its end of life was {}", short(end))),
        Some(_) if known.over.contains(operation) => {
            Verdict::Remove(format!("verification {operation} has ended"))
        }
        Some(end) => Verdict::Stay(format!("its end of life is {}", short(end))),
    })
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// What is gone; what was gone already counts.
    pub removed: Vec<String>,
    /// Thing and reason.
    pub failed: Vec<(String, String)>,
}

/// Removes what the plan names: verifications with all they made, databases, then the groups that they were in. One that fails keeps no other.
///
/// # Errors
/// Ctrl-C. Other failures are in the report.
pub async fn run(r: &Reaper, plan: &Plan) -> Result<Report> {
    let mut report = Report::default();
    let (groups, others): (Vec<&Line>, Vec<&Line>) =
        plan.remove.iter().partition(|l| matches!(l.thing, Thing::Group { .. }));
    let (verifications, others): (Vec<&Line>, Vec<&Line>) =
        others.into_iter().partition(|l| matches!(l.thing, Thing::Verification { .. }));
    for wave in [verifications, others, groups] {
        let mut running = stream::iter(wave)
            .map(async |l| (l.thing.to_string(), take(r, l).await))
            .buffer_unordered(AT_ONCE);
        while let Some((name, result)) = running.next().await {
            match result {
                Ok(()) => report.removed.push(name),
                Err(EngineError::Cancelled) => return Err(EngineError::Cancelled),
                Err(e) => report.failed.push((name, e.to_string())),
            }
        }
    }
    Ok(report)
}

async fn take(r: &Reaper, line: &Line) -> Result<()> {
    let (cloud, monitor) = (&*r.cloud, &*r.monitor);
    monitor.phase(&format!("removing {}", line.thing));
    match &line.thing {
        Thing::Database { source } => {
            remove::database(cloud, &r.pace, monitor, source, &line.operation).await.map(|_| ())
        }
        Thing::Group { region, id, .. } => remove::group(cloud, &r.pace, monitor, region, id).await,
        Thing::Verification { id, database } => verify::abandon(r, database, id).await,
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for l in &self.remove {
            writeln!(f, "  remove  {}: {}", l.thing, l.why)?;
        }
        for l in &self.stays {
            writeln!(f, "  stays   {}: {}", l.thing, l.why)?;
        }
        for text in &self.failures {
            writeln!(f, "  unknown {text}")?;
        }
        match self.remove.is_empty() && self.stays.is_empty() && self.failures.is_empty() {
            true => writeln!(f, "  nothing temporary is left"),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(thing: &Thing, pairs: &[(&str, &str)]) -> Option<Verdict> {
        let known =
            Known { over: ["verify-over".to_string()].into(), busy: ["verify-busy".to_string()].into() };
        let tags: Tags = pairs.iter().copied().collect();
        judge(thing, &tags, &known, "2026-11-22T04:00:00Z".parse().unwrap())
    }

    const PAST: &str = "2026-11-22T03:00:00Z";
    const FUTURE: &str = "2026-11-22T05:00:00Z";

    #[test]
    fn only_what_is_ours_and_over_is_removed() {
        let db = Thing::Database { source: "rds://us-east-1/verify-shop-1".parse().unwrap() };
        let own = (keys::MADE, "us-east-1/verify-shop-1");
        let removed = |pairs: &[(&str, &str)]| {
            matches!(judged(&db, &[pairs, &[own]].concat()), Some(Verdict::Remove(_)))
        };
        let op = |id| (keys::OPERATION, id);
        let end = |t| (keys::EXPIRES, t);
        for (pairs, goes) in [
            // Somebody else's, whatever else it says.
            (vec![end(PAST)], false),
            (vec![end(PAST), (keys::DATABASE, "shop")], false),
            // Ours, to stay.
            (vec![op("restore-1")], false),
            (vec![op("restore-1"), end("tomorrow")], false),
            // Over, or of a verification that has ended.
            (vec![op("verify-1"), end(PAST)], true),
            (vec![op("verify-1"), end("2026-11-22T04:00:00Z")], true),
            (vec![op("verify-over"), end(FUTURE)], true),
            (vec![op("verify-1"), end(FUTURE)], false),
            // A process of this host is at it.
            (vec![op("verify-busy"), end(PAST)], false),
            // Its deletion wants a final snapshot.
            (vec![op("cutover-1"), end(PAST), (keys::STATE, "quarantine")], false),
        ] {
            assert_eq!(removed(&pairs), goes, "{pairs:?}");
        }
    }

    #[test]
    fn what_is_temporary_and_stays_is_told_with_the_reason() {
        let group =
            Thing::Group { region: "us-east-1".parse().unwrap(), id: "sg-1".into(), name: "x".into() };
        let why = |pairs: &[(&str, &str)]| match judged(&group, pairs) {
            Some(Verdict::Stay(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(why(&[(keys::OPERATION, "v"), (keys::EXPIRES, FUTURE)]).contains("05:00:00Z"));
        assert!(why(&[(keys::OPERATION, "v"), (keys::EXPIRES, "soon")]).contains("`soon`, is no time"));
        assert!(why(&[(keys::OPERATION, "verify-busy"), (keys::EXPIRES, PAST)]).contains("working on it"));
    }

    #[test]
    fn what_a_person_restored_from_a_snapshot_of_ours_stays() {
        let db = Thing::Database { source: "rds://us-east-1/shop-by-hand".parse().unwrap() };
        let inherited =
            [(keys::OPERATION, "backup-1"), (keys::EXPIRES, PAST), (keys::SNAPSHOT, "us-east-1/before")];
        assert_eq!(judged(&db, &inherited), None);
        // From a copy that Holdfast itself had restored elsewhere.
        let other = [inherited[0], inherited[1], (keys::MADE, "us-east-1/verify-shop-1")];
        assert_eq!(judged(&db, &other), None);
    }
}
