//! A way out of an incident, taken: a restore whose name was drawn once, and that the same command goes on with.
//!
//! ```text
//! unfinished? ── yes ──▶ its own request again ──▶ restore
//!      └── no ──▶ survey, ways, one chosen ──▶ planned ──▶ written down ──▶ restore
//! ```
//!
//! Use: [`unfinished`] with what the command line says; else [`super::recover::options`], a [`Request`] for the way
//! that was chosen, [`begin`]; then [`run`].
//!
//! Crash: the record holds the request with the drawn name, from before the restore begins until it is known how it
//! ended. Killed in between, the same command finds it by scenario and time, whatever ways there are by now. Asked
//! for another way or region than was begun, it refuses.

use super::journal::{Ended, Journal, Operation};
use super::recover::{Scenario, Way};
use super::restore::{self, Plan, Report, Request};
use super::{Managed, backup_role};
use crate::error::{EngineError, Result};
use holdfast_core::managed::Region;
use holdfast_core::policy::Policy;
use holdfast_core::policy::managed::VaultPlace;
use holdfast_core::policy::managed::{IdParts, IdPattern};
use holdfast_core::time::short;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

const VERB: &str = "recover";
/// Instances of a cluster are called after it, with `-1` to `-16`.
const NAME_MAX: usize = 60;

/// What happened, as the command line says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    pub scenario: Scenario,
    /// Not given for a loss: it is seen now.
    pub at: Option<Timestamp>,
    /// The name of the new database, if one was given.
    pub to: Option<String>,
    /// The way that was asked for, by its number or its name, and its region.
    pub way: Option<String>,
    pub region: Option<Region>,
}

/// Which of the ways was begun: its number then, from 1, and its name. A record of an older version has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub number: usize,
    pub name: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    scenario: Scenario,
    at: Option<Timestamp>,
    request: Request,
    #[serde(default)]
    way: Option<Taken>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    report: Option<Report>,
}

/// A recovery that was begun.
#[derive(Debug, Clone)]
pub struct Begun {
    pub id: String,
    pub begun: Timestamp,
    pub scenario: Scenario,
    pub at: Option<Timestamp>,
    pub request: Request,
    pub way: Option<Taken>,
}

impl Begun {
    /// Whether what is asked for now is what was begun, or leaves that open.
    fn is_asked_for(&self, incident: &Incident, home: &Region) -> bool {
        let way = match (&incident.way, &self.way) {
            (Some(asked), Some(t)) => *asked == t.name || *asked == t.number.to_string(),
            _ => true,
        };
        way && incident.region.as_ref().is_none_or(|r| r == self.region(home))
    }

    fn region<'a>(&'a self, home: &'a Region) -> &'a Region {
        self.request.region.as_ref().unwrap_or(home)
    }
}

/// The recoveries of a database that succeeded, newest first: what happened, or was rehearsed, and when.
///
/// # Errors
/// The journal cannot be read. A record of another shape, as another version may have left, is none.
pub fn done(journal: &Journal, database: &str) -> Result<Vec<(Scenario, Timestamp)>> {
    let mut all = journal.ended(VERB, database)?;
    all.retain(|o| o.ended == Some(Ended::Succeeded));
    let one = |o: super::journal::Outline| {
        Some((serde_json::from_value::<State>(o.state).ok()?.scenario, o.updated))
    };
    Ok(all.into_iter().rev().filter_map(one).collect())
}

/// The name that a restored database gets by the policy's pattern, at a moment.
pub fn name(m: &Managed, pattern: &IdPattern, way: &Way, scenario: Scenario, now: Timestamp) -> String {
    let parts = IdParts {
        id: &m.source.id,
        database: m.name.as_str(),
        tier: "",
        note: scenario.as_str(),
        region: way.region.as_str(),
    };
    pattern.render(&parts, now, NAME_MAX)
}

/// The role under which AWS Backup restores from a vault: the policy's for it, or the default.
pub async fn role(m: &Managed, policy: &Policy, way: &Way) -> Result<Option<String>> {
    let super::recover::From::Point { vault, .. } = &way.from else { return Ok(None) };
    let given = role_of(policy, way.region.as_str(), vault, way.account.as_deref());
    backup_role::role(&*m.cloud, &way.region, vault, given).await.map(Some)
}

/// `backup-role` of the policy's vault of that name and region, in another account if one is given: no role works in
/// an account that it is not of.
pub fn role_of<'a>(policy: &'a Policy, region: &str, vault: &str, account: Option<&str>) -> Option<&'a str> {
    let place = VaultPlace::AwsBackup { region: region.into(), vault: vault.into() };
    let mut found = policy.managed_vaults.values().filter(|v| v.place == place);
    match account {
        Some(a) => found.find(|v| v.account.as_deref() == Some(a)),
        None => found.min_by_key(|v| v.account.is_some()),
    }?
    .backup_role
    .as_deref()
}

/// The recovery that this command goes on with.
///
/// # Errors
/// Another one of this database, or the same by another way, is not finished, and no other name is given.
pub fn unfinished(m: &Managed, incident: &Incident) -> Result<Option<Begun>> {
    let mut other = None;
    for outline in m.journal.unfinished(Some(VERB), Some(m.name.as_str()))? {
        let op: Operation<State> = m.journal.resume(outline)?;
        let begun = of(&op);
        let named = incident.to.as_ref().is_none_or(|to| to.eq_ignore_ascii_case(&begun.request.to));
        let same = begun.scenario == incident.scenario && (incident.at.is_none() || incident.at == begun.at);
        match (named, same) {
            (true, true) if begun.is_asked_for(incident, &m.source.region) => return Ok(Some(begun)),
            (true, true) => {
                let way = begun.way.as_ref().map(|t| format!(" by way `{}`", t.name)).unwrap_or_default();
                return Err(EngineError::refused(
                    format!(
                        "this recovery was begun{way} in {}, to `{}`, and is not finished",
                        begun.region(&m.source.region),
                        begun.request.to
                    ),
                    "go on with it: the same without `--way` and `--region`; for another way beside it, give \
                     another `--to-id`",
                ));
            }
            _ if incident.to.is_none() || named => other = Some(begun),
            // Another name is another recovery.
            _ => {}
        }
    }
    match other {
        None => Ok(None),
        Some(b) => Err(EngineError::refused(
            format!(
                "a recovery from {}{} to `{}`, begun {}, is not finished",
                b.scenario,
                b.at.map(|t| format!(" at {}", short(t))).unwrap_or_default(),
                b.request.to,
                short(b.begun)
            ),
            "go on with it by the command that began it; for another one beside it, give `--to-id`",
        )),
    }
}

fn of(op: &Operation<State>) -> Begun {
    let State { scenario, at, request, way, .. } = op.state().clone();
    Begun { id: op.id().to_string(), begun: op.record.begun, scenario, at, request, way }
}

/// Writes down what will be restored, before it is.
pub fn begin(m: &Managed, incident: &Incident, way: Taken, request: &Request) -> Result<Begun> {
    let _lock = m.state.lock_run(&m.name)?;
    if let Some(begun) = unfinished(m, incident)? {
        return Err(EngineError::Busy {
            what: format!("operation {} has just begun the same recovery", begun.id),
            hint: "run the same command again: it goes on with that one".into(),
        });
    }
    let Incident { scenario, at, .. } = *incident;
    let way = Some(way);
    let state = State { scenario, at, request: request.clone(), way, report: None };
    Ok(of(&m.journal.begin(VERB, m.name.as_str(), Timestamp::now(), state)?))
}

/// How its restore ended, if that is all that a killed run left to write down.
pub fn ended(m: &Managed, begun: &Begun) -> Result<Option<Report>> {
    let region = begun.request.region.as_ref().unwrap_or(&m.source.region);
    let to = m.source.in_region(region).named(&begun.request.to);
    let to = to.map_err(|e| EngineError::usage(e.to_string(), e.hint()))?.to_string();
    for record in m.journal.ended("restore", m.name.as_str())?.into_iter().rev() {
        let target = record.state.pointer("/progress/plan/target/source").and_then(|v| v.as_str());
        if record.begun < begun.begun || target != Some(to.as_str()) {
            continue;
        }
        return match record.ended {
            Some(Ended::Succeeded) => {
                let report = record.state.get("report").cloned().unwrap_or_default();
                let report: Option<Report> = serde_json::from_value(report).ok();
                close(&m.journal, begun, Ended::Succeeded, report.clone())?;
                Ok(report)
            }
            Some(Ended::Failed(why) | Ended::RolledBack(why)) => {
                close(&m.journal, begun, Ended::Failed(why.clone()), None)?;
                Err(EngineError::failed(why, "run it again: it begins anew"))
            }
            None => Ok(None),
        };
    }
    Ok(None)
}

/// Restores, and writes down how that ended.
///
/// # Errors
/// Those of the restore. [`EngineError::goes_on`]: the same command goes on.
pub async fn run(m: &Managed, begun: &Begun, plan: &Plan) -> Result<Report> {
    match restore::run(m, plan).await {
        Ok(report) => {
            close(&m.journal, begun, Ended::Succeeded, Some(report.clone()))?;
            Ok(report)
        }
        // Somebody else works on it just now.
        Err(e) if e.goes_on() || matches!(e, EngineError::Busy { .. }) => Err(e),
        Err(e) => {
            close(&m.journal, begun, Ended::Failed(e.to_string()), None)?;
            Err(e)
        }
    }
}

/// A recovery whose restore can no longer be planned is over.
pub fn give_up(m: &Managed, begun: &Begun, why: &EngineError) -> Result<()> {
    close(&m.journal, begun, Ended::Failed(why.to_string()), None)
}

fn close(journal: &Journal, begun: &Begun, how: Ended, report: Option<Report>) -> Result<()> {
    for outline in journal.unfinished(Some(VERB), None)?.into_iter().filter(|o| o.id == begun.id) {
        let mut op: Operation<State> = journal.resume(outline)?;
        if report.is_some() {
            op.advance(Timestamp::now(), |s| s.report.clone_from(&report))?;
        }
        op.end(Timestamp::now(), how.clone())?;
    }
    Ok(())
}
