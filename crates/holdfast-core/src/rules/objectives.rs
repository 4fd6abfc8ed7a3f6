//! What a policy achieves, computed from what it schedules and copies, never from what it says: [`claims`],
//! VE9.

use super::projection::back;
use super::quota::standing;
use super::{Case, Findings, Kept, Observed, Protected, is_immutable, zone};
use crate::id::DatabaseName;
use crate::limits::Limit;
use crate::policy::managed::Engine;
use crate::policy::{Policy, Scenario};
use crate::time::Duration;
use jiff::Timestamp;

/// What can be promised of a database in a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub database: DatabaseName,
    pub scenario: Scenario,
    /// What would be restored; of nothing, why.
    pub method: String,
    /// The most that can be lost; `None`: all of it.
    pub rpo: Option<Duration>,
    /// How far back that method reaches.
    pub back: Option<Duration>,
    pub wanted_rpo: Option<Duration>,
    pub wanted_rto: Option<Duration>,
    /// Of restores that were measured, 95 of 100 were faster.
    pub measured_rto: Option<Duration>,
}

impl Claim {
    /// Whether the objective, if there is one, is met.
    pub fn holds(&self) -> bool {
        self.wanted_rpo.is_none_or(|w| self.rpo.is_some_and(|r| r <= w))
    }
}

/// A way to get data back.
struct Way {
    method: String,
    rpo: Duration,
    back: Duration,
    step: Duration,
}

/// What there is for an incident that is noticed late: with which steps, and how far back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    pub database: DatabaseName,
    pub method: String,
    /// Between two moments that can be restored: as much is lost at most.
    pub step: Duration,
    pub back: Duration,
}

/// Of every managed database, all ways back while the source is there, the shortest first.
pub fn reaches(policy: &Policy, observed: &Observed, now: Timestamp) -> Vec<Reach> {
    let case = Case { policy, observed, now };
    let mut out = Vec::new();
    for p in case.managed() {
        let mut all = ways(&case, &p, Scenario::Corruption);
        all.sort_by_key(|w| (w.back, w.step));
        let database = &p.database.name;
        out.extend(all.into_iter().map(|w| Reach {
            database: database.clone(),
            method: w.method,
            step: w.step,
            back: w.back,
        }));
    }
    out
}

/// Of every managed database, for every scenario.
pub fn claims(policy: &Policy, observed: &Observed, now: Timestamp) -> Vec<Claim> {
    let case = Case { policy, observed, now };
    case.managed().flat_map(|p| of(&case, &p)).collect()
}

fn of(case: &Case<'_>, p: &Protected<'_>) -> Vec<Claim> {
    Scenario::ALL
        .into_iter()
        .map(|scenario| {
            let way = ways(case, p, scenario).into_iter().min_by_key(|w| (w.rpo, std::cmp::Reverse(w.back)));
            let own = p.plan.objectives.get(&scenario).copied().unwrap_or_default();
            let general = matches!(scenario, Scenario::Deletion | Scenario::Corruption | Scenario::Loss);
            Claim {
                database: p.database.name.clone(),
                scenario,
                method: way.as_ref().map_or_else(|| nothing(p, scenario), |w| w.method.clone()),
                rpo: way.as_ref().map(|w| w.rpo),
                back: way.as_ref().map(|w| w.back),
                wanted_rpo: own.rpo.or(p.plan.rpo.filter(|_| general)),
                wanted_rto: own.rto.or(p.plan.rto.filter(|_| general)),
                measured_rto: p.seen.and_then(|s| s.restore_p95),
            }
        })
        .collect()
}

fn nothing(p: &Protected<'_>, scenario: Scenario) -> String {
    match scenario {
        Scenario::Region => format!("nothing outside of {}", p.managed.region),
        Scenario::Malicious => "nothing that an administrator cannot delete".into(),
        _ => "nothing".into(),
    }
}

fn ways(case: &Case<'_>, p: &Protected<'_>, scenario: Scenario) -> Vec<Way> {
    let limits = &case.policy.limits;
    let lag = limits.span(Limit::PitrLag);
    let mut out = Vec::new();
    if let Some(pitr) = &p.plan.pitr {
        let to_a_second =
            |method: &str| Way { method: method.into(), rpo: lag, back: pitr.keep, step: Duration(1) };
        match scenario {
            Scenario::Deletion | Scenario::Corruption => out.push(to_a_second("point in time of the source")),
            // Automated backups outlive their source if they are told to and it can still be named.
            Scenario::Loss
                if p.managed.engine != Engine::DocumentDb
                    && pitr.keep_after_deletion
                    && has_resource_id(p) =>
            {
                out.push(to_a_second("retained automated backups, by resource id"));
            }
            _ => {}
        }
        if let Some(r) = pitr.replicate.as_ref().filter(|_| p.managed.engine == Engine::Rds)
            && matches!(scenario, Scenario::Loss | Scenario::Region)
        {
            let there = p.site(case, Some(&r.to)).region;
            out.push(Way {
                method: format!("automated backups replicated to {there}"),
                rpo: Duration(lag.0 + limits.get(Limit::ReplicationLag)),
                back: r.keep,
                step: Duration(1),
            });
        }
    }
    for k in p.keeps(case) {
        let fits = match scenario {
            Scenario::Region => k.site.region != p.managed.region,
            Scenario::Malicious => p.other_account(&k.site) || k.site.vault.is_some_and(is_immutable),
            _ => true,
        };
        if fits && let Some((rpo, step)) = worst(case, p, &k) {
            let what = if k.site.is_aws_backup() { "recovery points" } else { "snapshots" };
            out.push(Way {
                method: format!("{what} of {} in {}", k.label(), k.site.region),
                rpo,
                back: back(&standing(case, p, &k), case.now),
                step,
            });
        }
    }
    out
}

fn has_resource_id(p: &Protected<'_>) -> bool {
    p.managed.resource_id.is_some() || p.seen.is_some_and(|s| s.resource_id.is_some())
}

/// The most that is lost with the points of a tier or copy: just before a new one has arrived, the newest is
/// the one before. Also the longest time between two points. Those of several tiers come at least as often as
/// those of the most frequent.
fn worst(case: &Case<'_>, p: &Protected<'_>, k: &Kept<'_>) -> Option<(Duration, Duration)> {
    let limits = &case.policy.limits;
    let took = p.seen.and_then(|s| s.snapshot_duration).unwrap_or(limits.span(Limit::SnapshotDuration));
    let copy = p.seen.and_then(|s| s.copy_duration).unwrap_or(limits.span(Limit::CopyDuration));
    let pauses = k.of.iter().filter_map(|t| {
        let tier = p.plan.tiers.get(*t)?;
        tier.schedule.longest_pause(&zone(&tier.timezone))
    });
    let pause = pauses.min()?;
    let mut rpo = pause.0 + took.0;
    if k.site.is_aws_backup() {
        rpo += limits.get(Limit::StartWindow);
    }
    if k.kind == "copies" {
        rpo += copy.0;
    }
    Some((Duration(rpo), pause))
}

pub(super) fn ve9(case: &Case<'_>, out: &mut Findings<'_>) {
    for p in case.managed() {
        for c in of(case, &p).into_iter().filter(|c| !c.holds()) {
            let Some(wanted) = c.wanted_rpo else { continue };
            let policy = p.database.policy.as_str();
            let scenario = c.scenario.as_str();
            let own = p.plan.objectives.get(&c.scenario).is_some_and(|o| o.rpo.is_some());
            let path: &[&str] = if own {
                &["policies", policy, "objectives", scenario, "rpo"]
            } else {
                &["policies", policy, "rpo"]
            };
            let message = match c.rpo {
                Some(r) => format!(
                    "of `{scenario}` at most {wanted} may be lost, and {} may lose {}",
                    c.method,
                    human(r)
                ),
                None => format!(
                    "of `{scenario}` at most {wanted} may be lost, and there is {} to restore from",
                    c.method
                ),
            };
            out.add(path, &p.database.name, message, advice(&p, c.scenario));
        }
    }
}

/// `1d 2h 30m`
pub fn human(d: Duration) -> String {
    let parts = [(d.0 / 86_400, "d"), (d.0 % 86_400 / 3_600, "h"), (d.0 % 3_600 / 60, "m")];
    let shown: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if shown.is_empty() { d.to_string() } else { shown.join(" ") }
}

fn advice(p: &Protected<'_>, scenario: Scenario) -> String {
    match scenario {
        Scenario::Region => "The interval of the copied tier counts, not that of the tiers that stay: copy more often, \
                             replicate automated backups (RDS), or write the objective that holds."
            .into(),
        Scenario::Malicious => {
            "Copy to another account, or to a vault of AWS Backup with a compliance lock, or write the objective that holds."
                .into()
        }
        Scenario::Loss if p.managed.engine == Engine::DocumentDb => {
            "Automated backups of DocumentDB die with the cluster: take snapshots more often, or write the objective that holds."
                .into()
        }
        Scenario::Loss if p.managed.resource_id.is_none() && p.plan.pitr.is_some() => format!(
            "A deleted source cannot be restored by its name: write its `resource-id` in `[databases.{}]`.",
            p.database.name
        ),
        _ => "Add `pitr`, take snapshots more often, or write the objective that holds.".into(),
    }
}
