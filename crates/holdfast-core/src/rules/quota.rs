//! How many snapshots there will be: VE8.

use super::{Case, Findings, Kept, Protected, kept_at, zone};
use crate::limits::Limit;
use std::collections::BTreeMap;

/// How many points of a tier or copy stand once it has run for long.
pub(super) fn standing(case: &Case<'_>, p: &Protected<'_>, k: &Kept<'_>) -> Vec<jiff::Timestamp> {
    let tiers: Vec<_> =
        k.of.iter().filter_map(|t| p.plan.tiers.get(*t)).map(|t| (&t.schedule, zone(&t.timezone))).collect();
    kept_at(&tiers, k.keep, case.now)
}

/// One tier's or copy's part in a quota.
struct Part {
    label: String,
    points: usize,
    path: [String; 5],
}

pub(super) fn ve8(case: &Case<'_>, out: &mut Findings<'_>) {
    // Instances and clusters have a quota each, per region and account.
    let mut sums: BTreeMap<(&str, Option<&str>, bool), Vec<Part>> = BTreeMap::new();
    for p in case.managed() {
        for k in p.keeps(case) {
            // Points of AWS Backup are manual snapshots that do not count.
            if k.site.is_aws_backup() {
                continue;
            }
            let part = Part {
                label: format!("{} of {}", k.label(), p.database.name),
                points: standing(case, &p, &k).len(),
                path: ["policies", &p.database.policy, k.kind, k.name, "keep"].map(str::to_string),
            };
            let key = (k.site.region, k.site.account, p.managed.engine.is_cluster());
            sums.entry(key).or_default().push(part);
        }
    }
    let assumed = case.policy.limits.get(Limit::ManualSnapshots);
    for ((region, _, cluster), parts) in sums {
        let own: usize = parts.iter().map(|p| p.points).sum();
        let seen = case.observed.regions.get(region).copied().unwrap_or_default();
        let told = if cluster { seen.cluster_snapshot_quota } else { seen.instance_snapshot_quota };
        let quota = told.unwrap_or(assumed);
        let others =
            if cluster { seen.other_cluster_snapshots } else { seen.other_instance_snapshots } as usize;
        let total = own + others;
        if total as u64 <= quota {
            continue;
        }
        let Some(largest) = parts.iter().max_by_key(|p| p.points) else { continue };
        let path = largest.path.each_ref().map(String::as_str);
        let mut list: Vec<String> = parts.iter().map(|p| format!("{} by {}", p.points, p.label)).collect();
        if case.looked() {
            list.push(format!("{others} of others"));
        }
        let what = if cluster { "cluster snapshots" } else { "snapshots" };
        out.add(
            &path,
            format!("region {region}"),
            format!("{total} manual {what} will stand there, and the quota is {quota}: {}", list.join(", ")),
            "The next snapshot would fail. Keep fewer, or let AWS Backup keep them (its points do not count); if the \
             quota was raised, write `manual-snapshots` in `[limits]`.",
        );
    }
}
