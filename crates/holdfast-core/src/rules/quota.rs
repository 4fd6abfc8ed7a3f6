//! How many snapshots there will be: VE8.

use super::{Case, Findings, Kept, Protected, kept_at, zone};
use crate::limits::Limit;
use crate::policy::managed::VaultPlace;
use std::collections::BTreeMap;

/// How many points of a tier or copy stand once it has run for long.
pub(super) fn standing(case: &Case<'_>, p: &Protected<'_>, k: &Kept<'_>) -> Vec<jiff::Timestamp> {
    let tiers: Vec<_> =
        k.of.iter().filter_map(|t| p.plan.tiers.get(*t)).map(|t| (&t.schedule, zone(&t.timezone))).collect();
    kept_at(&tiers, k.keep, case.now)
}

pub(super) fn ve8(case: &Case<'_>, out: &mut Findings<'_>) {
    // Instances and clusters have a quota each, per region and account.
    let mut sums: BTreeMap<(String, Option<String>, bool), Vec<(String, usize, Vec<String>)>> =
        BTreeMap::new();
    for p in case.managed() {
        for k in p.keeps(case) {
            // Points of AWS Backup are manual snapshots that do not count.
            if k.site.is_aws_backup()
                || k.site.vault.is_some_and(|v| !matches!(v.place, VaultPlace::Snapshots { .. }))
            {
                continue;
            }
            let key = (
                k.site.region.to_string(),
                k.site.account.map(str::to_string),
                p.managed.engine.is_cluster(),
            );
            let path = ["policies", &p.database.policy, k.kind, k.name, "keep"].map(str::to_string).to_vec();
            let label = format!("{} of {}", k.label(), p.database.name);
            sums.entry(key).or_default().push((label, standing(case, &p, &k).len(), path));
        }
    }
    let quota = case.policy.limits.get(Limit::ManualSnapshots);
    for ((region, _, cluster), parts) in sums {
        let own: usize = parts.iter().map(|(_, n, _)| n).sum();
        let seen = case.observed.regions.get(&region).copied().unwrap_or_default();
        let others =
            if cluster { seen.other_cluster_snapshots } else { seen.other_instance_snapshots } as usize;
        let total = own + others;
        if total as u64 <= quota {
            continue;
        }
        let Some((_, _, path)) = parts.iter().max_by_key(|(_, n, _)| *n) else { continue };
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let mut list: Vec<String> = parts.iter().map(|(l, n, _)| format!("{n} by {l}")).collect();
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
