//! What was shown and what was promised to others: VW1, VW2, VW3, VW6, VW9.

use super::projection::{back, reach};
use super::quota::standing;
use super::{Case, Findings, zone};
use crate::limits::Limit;
use crate::policy::{DataClass, Drill, Span, VerifyLevel};
use crate::time::Duration;
use jiff::Timestamp;
use std::collections::BTreeMap;

fn age(now: Timestamp, then: Timestamp) -> Duration {
    Duration(u64::try_from(now.as_second() - then.as_second()).unwrap_or(0))
}

pub(super) fn vw1(case: &Case<'_>, out: &mut Findings<'_>) {
    let most = case.policy.limits.span(Limit::VerifyMost);
    for d in case.policy.databases.values() {
        let native = case.policy.plan_of(d).map(|p| p.verify.map(|v| (v.level, v.every)));
        let managed = case.policy.managed_plan_of(d).map(|p| p.verify.as_ref().map(|v| (v.level, v.every)));
        let Some(wanted) = native.or(managed) else { continue };
        let path = ["policies", d.policy.as_str(), "verify"];
        let Some((level, every)) = wanted else {
            let hint = "Add `[policies.….verify]` with `level = \"L4\"` and `every = \"7d\"`: a backup that was never restored \
                        is a hope.";
            out.add(&path, &d.name, "nothing is ever verified", hint);
            continue;
        };
        if every > most {
            let message = format!("points are verified every {every} only");
            out.add(&[&path[..], &["every"]].concat(), &d.name, message, format!("Write {most} or less."));
        }
        // L3 and L4 log in, and trust nobody without the provider's certificates.
        if d.managed.as_ref().and_then(|m| m.connect.as_ref()).is_some_and(|c| c.ca_file.is_none()) {
            out.add(
                &["databases", d.name.as_str(), "connect"],
                &d.name,
                "`verify` ends before it begins: no root certificates are named",
                "Write `ca-file` (AWS: global-bundle.pem of the RDS trust store), or always give --ca-file.",
            );
        }
        // What could not be looked at is not known to lack anything.
        let Some(seen) = case.observed.databases.get(&d.name).filter(|_| d.managed.is_some()) else {
            continue;
        };
        let hint = match level {
            VerifyLevel::L5 => {
                "This version runs no L5: write `level = \"L4\"`, and run your own test beside it.".into()
            }
            _ => format!("Run `holdfast verify {}`.", d.name),
        };
        let ago = |t| super::objectives::human(age(case.now, t));
        let lower = match seen.verified.below(level) {
            Some((l, t)) => format!(": {l} was passed {} ago, and the policy wants {level}", ago(t)),
            None => String::new(),
        };
        match seen.verified.at_least(level) {
            None if lower.is_empty() => out.add(&path, &d.name, "no verification has succeeded yet", hint),
            None => {
                let message = format!("no verification of {level} has succeeded yet{lower}");
                out.add(&path, &d.name, message, hint);
            }
            Some(t) if age(case.now, t) > every => {
                let message = format!("the last verification of {level} was {} ago{lower}", ago(t));
                out.add(&path, &d.name, message, hint);
            }
            Some(_) => {}
        }
    }
}

pub(super) fn vw2(case: &Case<'_>, out: &mut Findings<'_>) {
    let empty: BTreeMap<String, Drill> = BTreeMap::new();
    for d in case.policy.databases.values() {
        let native = case.policy.plan_of(d).map(|p| &p.drills);
        let drills = native.or_else(|| case.policy.managed_plan_of(d).map(|p| &p.drills)).unwrap_or(&empty);
        let Some(seen) = case.observed.databases.get(&d.name) else { continue };
        for (name, drill) in drills {
            let zone = zone(&drill.timezone);
            let done = seen.drills.get(name).copied();
            // Overdue once the run after the last success has passed; of one that was never done, a whole interval.
            let pause = drill.schedule.longest_pause(&zone).unwrap_or(Duration(0));
            let overdue = match done {
                None => Some("was never done".to_string()),
                Some(t) if age(case.now, t) > pause => {
                    Some(format!("was done {} ago", super::objectives::human(age(case.now, t))))
                }
                Some(_) => None,
            };
            if let Some(what) = overdue {
                out.add(
                    &["policies", &d.policy, "drills", name],
                    &d.name,
                    format!("drill `{name}` ({}, {}) {what}", drill.scenario, drill.schedule),
                    "Rehearse it, and let `holdfast recover` measure how long it takes.",
                );
            }
        }
    }
}

pub(super) fn vw3(case: &Case<'_>, out: &mut Findings<'_>) {
    for p in case.managed() {
        let Some(p95) = p.seen.and_then(|s| s.restore_p95) else { continue };
        let policy = p.database.policy.as_str();
        let general = p.plan.rto.map(|r| (vec!["policies", policy, "rto"], r));
        let own =
            p.plan.objectives.iter().filter_map(|(s, o)| {
                Some((vec!["policies", policy, "objectives", s.as_str(), "rto"], o.rto?))
            });
        for (path, rto) in general.into_iter().chain(own).filter(|(_, r)| *r < p95) {
            out.add(
                &path,
                &p.database.name,
                format!("it is to serve again within {rto}, and measured restores took up to {}", super::objectives::human(p95)),
                "That is the restore alone, without verification and cutover. Write the objective that holds, or a larger class.",
            );
        }
    }
}

pub(super) fn vw6(case: &Case<'_>, out: &mut Findings<'_>) {
    // The longest that anything stays, by policy.
    let mut longest: BTreeMap<&str, (Duration, &BTreeMap<String, DataClass>)> = BTreeMap::new();
    for (name, plan) in &case.policy.policies {
        let pauses = plan.tiers.values().filter_map(|t| t.schedule.longest_pause(&zone(&t.timezone)));
        let pause = pauses.min().unwrap_or(Duration(86_400));
        let keeps = plan.tiers.values().map(|t| &t.keep).chain(plan.copies.values().map(|c| &c.keep));
        let most = keeps.map(|k| reach(k, pause)).chain(plan.wal.keep).max().unwrap_or(Duration(0));
        longest.insert(name, (most, &plan.data));
    }
    for p in case.managed() {
        let points =
            p.keeps(case).into_iter().map(|k| match k.keep.window.filter(|_| k.site.is_aws_backup()) {
                Some(w) => w,
                None => back(&standing(case, &p, &k), case.now),
            });
        let most = points.chain(p.plan.pitr.as_ref().map(|t| t.keep)).max().unwrap_or(Duration(0));
        let entry = longest.entry(&p.database.policy).or_insert((most, &p.plan.data));
        entry.0 = entry.0.max(most);
    }
    for (policy, (most, classes)) in longest {
        for (class, c) in classes {
            let path = ["policies", policy, "data", class.as_str()];
            let subject = format!("policy {policy}");
            let short = match c.keep {
                Some(Span::Forever) => true,
                Some(Span::For(k)) => k > most,
                None => false,
            };
            let span = match c.keep {
                Some(Span::Forever) => "ever".to_string(),
                Some(Span::For(d)) => d.to_string(),
                None => String::new(),
            };
            if short {
                out.add(
                    &[&path[..], &["keep"]].concat(),
                    &subject,
                    format!("`{class}` must be kept for {span}, and no backup reaches back further than {}", super::objectives::human(most)),
                    "As long as the database itself has the data that may do. What is deleted there by mistake is gone after \
                     that: keep yearly points, or export the class to an archive.",
                );
            }
            if let Some(within) = c.erase_within.filter(|w| *w < most && !c.documented) {
                out.add(
                    &[&path[..], &["erase-within"]].concat(),
                    &subject,
                    format!("`{class}` must be erased within {within}, and backups keep it for {}", super::objectives::human(most)),
                    "Keep points for less, or document the longer life in backups, tell it to users, repeat erasures after \
                     every restore, and write `documented = true`.",
                );
            }
        }
    }
}

pub(super) fn vw9(case: &Case<'_>, out: &mut Findings<'_>) {
    for b in case.observed.buckets.iter().filter(|b| b.versioned && !b.noncurrent_expiry) {
        out.add(
            &[],
            format!("bucket {}", b.name),
            "it keeps versions and never lets old ones go: deleted exports stay, and are paid for",
            "Add a lifecycle rule that expires noncurrent versions. (Never on the prefix of a vault of holdfast.)",
        );
    }
}
