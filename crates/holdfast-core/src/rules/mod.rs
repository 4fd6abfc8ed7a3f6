//! Rules that a policy must hold to, beyond its form: VE1 to VE15 are errors, VW1 to VW10 warnings.
//!
//! [`check`] runs them all over a checked [`Policy`]. What the policy alone can tell is told offline; what
//! must be looked at comes in [`Observed`], which is empty offline. Every rule is a function of a [`Case`]
//! in a file of its kind, pure, with a test for firing and one for not firing; [`TABLE`] lists them.
//! `docs/guide/validate.md` explains each.

mod alarms;
mod calendar;
mod copies;
mod deletion;
mod evidence;
mod lifecycle;
mod money;
mod objectives;
mod observed;
mod projection;
mod quota;
mod sources;

pub use deletion::{Deletion, may_delete};
pub use money::{Estimate, estimate, monthly_cluster, monthly_copy, monthly_rds};
pub use objectives::{Claim, Reach, claims, human, reaches};
pub use observed::{Observed, SeenBucket, SeenDatabase, SeenRegion, Verified};
pub(crate) use projection::kept_at;

use crate::policy::managed::{ManagedDatabase, VaultPlace};
use crate::policy::{Database, ManagedPlan, ManagedVault, Policy, Position};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Error,
    Warning,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// What a rule has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `VE1`
    pub rule: &'static str,
    pub severity: Severity,
    /// In the policy file.
    pub at: Position,
    /// The database or policy that it is about.
    pub subject: String,
    /// Lower case, no full stop.
    pub message: String,
    /// Full sentences.
    pub hint: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}: {}", self.severity.as_str(), self.rule, self.subject, self.message)
    }
}

type Check = fn(&Case<'_>, &mut Findings);

/// Id, what it says, whether it needs to look, and the function.
pub(crate) const TABLE: &[(&str, &str, bool, Check)] = &[
    ("VE1", "deletion comes at least 90 days after the move to cold storage", false, lifecycle::ve1),
    ("VE2", "RDS, Aurora and DocumentDB have no cold storage", false, lifecycle::ve2),
    ("VE3", "automated backups reach back 35 days at most", false, lifecycle::ve3),
    ("VE4", "retention is within what the lock of the vault allows", false, lifecycle::ve4),
    ("VE5", "every storage tier can be reached before a point is deleted", false, lifecycle::ve5),
    ("VE6", "a copy of an encrypted source has a key that works at the target", false, copies::ve6),
    ("VE7", "schedules, windows and drills do not collide", true, calendar::ve7),
    ("VE8", "manual snapshots stay under the quota of the region", true, quota::ve8),
    ("VE9", "objectives can be met by what is scheduled", false, objectives::ve9),
    ("VE10", "a restore never meets production", false, deletion::ve10),
    ("VE11", "nothing is deleted without a final snapshot", false, deletion::ve11),
    ("VE12", "retention leaves the newest success and the minimum", false, lifecycle::ve12),
    ("VE13", "alarms can fire", false, alarms::ve13),
    ("VE14", "a lost source can still be named", true, sources::ve14),
    ("VE15", "a DocumentDB cluster has points outside of itself", false, sources::ve15),
    ("VW1", "points are verified", true, evidence::vw1),
    ("VW2", "drills are done", true, evidence::vw2),
    ("VW3", "the RTO is one that was measured", true, evidence::vw3),
    ("VW4", "not everything is in one region, account and key", false, copies::vw4),
    ("VW5", "a lock is one that nobody can remove", false, copies::vw5),
    ("VW6", "data lives as long as it must and not longer", false, evidence::vw6),
    ("VW7", "schedules mean what they seem to", true, calendar::vw7),
    ("VW8", "the bill is the expected one", false, money::vw8),
    ("VW9", "versioned buckets of exports let old versions go", true, evidence::vw9),
    ("VW10", "the provider does not ignore or fill in a setting", false, copies::vw10),
];

/// All findings, by place in the file. `now` is what drills and ages are judged by.
pub fn check(policy: &Policy, observed: &Observed, now: Timestamp) -> Vec<Finding> {
    let case = Case { policy, observed, now };
    let mut out = Vec::new();
    for (rule, .., function) in TABLE {
        let mut findings = Findings { rule, policy, found: Vec::new() };
        function(&case, &mut findings);
        out.append(&mut findings.found);
    }
    out.sort_by(|a, b| (a.at, a.severity, a.rule, &a.subject).cmp(&(b.at, b.severity, b.rule, &b.subject)));
    out.dedup();
    out
}

/// The rules that say more once something was looked at.
pub fn that_look() -> impl Iterator<Item = &'static str> {
    TABLE.iter().filter(|(_, _, looks, _)| *looks).map(|(id, ..)| *id)
}

/// What a rule looks at.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) observed: &'a Observed,
    pub(crate) now: Timestamp,
}

/// A managed database with all that belongs to it.
#[derive(Clone, Copy)]
pub(crate) struct Protected<'a> {
    pub(crate) database: &'a Database,
    pub(crate) managed: &'a ManagedDatabase,
    pub(crate) plan: &'a ManagedPlan,
    /// What was seen of it.
    pub(crate) seen: Option<&'a SeenDatabase>,
}

impl<'a> Case<'a> {
    pub(crate) fn managed(&self) -> impl Iterator<Item = Protected<'a>> + use<'a> {
        let Case { policy, observed, .. } = *self;
        policy.databases.values().filter_map(move |database| {
            let managed = database.managed.as_ref()?;
            let plan = policy.managed_plan_of(database)?;
            Some(Protected { database, managed, plan, seen: observed.databases.get(&database.name) })
        })
    }

    /// Whether anything was looked at.
    pub(crate) fn looked(&self) -> bool {
        self.observed.looked
    }

    pub(crate) fn vault(&self, name: &str) -> Option<&'a ManagedVault> {
        self.policy.managed_vaults.get(name)
    }
}

/// Where the points of a tier or copy are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) region: &'a str,
    /// `None`: not known, that of the profile.
    pub(crate) account: Option<&'a str>,
    /// `None`: the implicit snapshots of the database's own region.
    pub(crate) vault: Option<&'a ManagedVault>,
}

impl Site<'_> {
    pub(crate) fn is_aws_backup(&self) -> bool {
        self.vault.is_some_and(|v| v.place.is_aws_backup())
    }
}

impl<'a> Protected<'a> {
    /// The place of a tier (its vault) or copy (its target).
    pub(crate) fn site(&self, case: &Case<'a>, vault: Option<&str>) -> Site<'a> {
        let own = self.managed.account.as_deref();
        match vault.and_then(|v| case.vault(v)) {
            None => Site { region: &self.managed.region, account: own, vault: None },
            Some(v) => {
                Site { region: v.place.region(), account: v.account.as_deref().or(own), vault: Some(v) }
            }
        }
    }

    /// Every tier, then every copy: its name in the policy, where, `keep`, and the key path of its section.
    pub(crate) fn keeps(&self, case: &Case<'a>) -> Vec<Kept<'a>> {
        let tiers = self.plan.tiers.iter().map(|(name, t)| Kept {
            kind: "tiers",
            name,
            site: self.site(case, t.vault.as_deref()),
            keep: &t.keep,
            cold_after: t.cold_after,
            of: vec![name.as_str()],
        });
        let copies = self.plan.copies.iter().map(|(name, c)| Kept {
            kind: "copies",
            name,
            site: self.site(case, Some(&c.to)),
            keep: &c.keep,
            cold_after: c.cold_after,
            of: c.of.iter().map(String::as_str).collect(),
        });
        tiers.chain(copies).collect()
    }

    /// Whether the account of `site` is another one; what is not written is taken for the same.
    pub(crate) fn other_account(&self, site: &Site<'_>) -> bool {
        match (self.managed.account.as_deref(), site.account) {
            (own, Some(there)) => {
                own.is_some_and(|o| o != there)
                    || (own.is_none() && site.vault.is_some_and(|v| v.account.is_some()))
            }
            _ => false,
        }
    }
}

/// A tier or copy.
#[derive(Debug, Clone)]
pub(crate) struct Kept<'a> {
    /// `tiers` or `copies`.
    pub(crate) kind: &'static str,
    pub(crate) name: &'a str,
    pub(crate) site: Site<'a>,
    pub(crate) keep: &'a crate::policy::Keep,
    pub(crate) cold_after: Option<crate::time::Duration>,
    /// The tiers whose points these are.
    pub(crate) of: Vec<&'a str>,
}

impl Kept<'_> {
    pub(crate) fn label(&self) -> String {
        format!("{} `{}`", if self.kind == "tiers" { "tier" } else { "copy" }, self.name)
    }
}

/// Collects what one rule finds.
pub(crate) struct Findings<'a> {
    rule: &'static str,
    policy: &'a Policy,
    pub(crate) found: Vec<Finding>,
}

impl Findings<'_> {
    /// `path` is where it stands, as sections and keys; the nearest that is written is pointed at.
    pub(crate) fn add(
        &mut self,
        path: &[&str],
        subject: impl fmt::Display,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.found.push(Finding {
            rule: self.rule,
            severity: if self.rule.starts_with("VE") { Severity::Error } else { Severity::Warning },
            at: self.policy.places.of(path),
            subject: subject.to_string(),
            message: message.into(),
            hint: hint.into(),
        });
    }
}

/// The zone of that name; UTC (and a finding of VW7) if this host does not know it.
pub(crate) fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap_or(TimeZone::UTC)
}

/// Whether a vault's points can be deleted by nobody before their time.
pub(crate) fn is_immutable(v: &ManagedVault) -> bool {
    matches!(v.place, VaultPlace::AwsBackup { .. })
        && v.lock.is_some_and(|l| l.mode == crate::policy::LockMode::Compliance)
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
