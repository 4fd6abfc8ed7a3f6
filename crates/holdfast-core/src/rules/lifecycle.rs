//! How long points stay, and where: VE1 to VE5, VE12.

use super::projection::reach;
use super::{Case, Findings, Kept, Protected, zone};
use crate::limits::Limit;
use crate::time::Duration;

const DAY: u64 = 86_400;

/// What AWS Backup would be told to delete after, or how far the rules reach.
fn deleted_after(p: &Protected<'_>, k: &Kept<'_>) -> Duration {
    match k.keep.window {
        Some(w) if k.site.is_aws_backup() => w,
        _ => reach(k.keep, pause(p, k)),
    }
}

/// The longest time between two points of a tier or copy.
fn pause(p: &Protected<'_>, k: &Kept<'_>) -> Duration {
    let pauses = k.of.iter().filter_map(|t| {
        let tier = p.plan.tiers.get(*t)?;
        tier.schedule.longest_pause(&zone(&tier.timezone))
    });
    // Points of several tiers come at least as often as those of the most frequent one.
    pauses.min().unwrap_or(Duration(DAY))
}

fn each<'a>(case: &Case<'a>, mut f: impl FnMut(&Protected<'a>, &Kept<'a>)) {
    for p in case.managed() {
        for k in p.keeps(case) {
            f(&p, &k);
        }
    }
}

pub(super) fn ve1(case: &Case<'_>, out: &mut Findings<'_>) {
    let least = case.policy.limits.span(Limit::ColdMinimum);
    each(case, |p, k| {
        let Some(cold) = k.cold_after else { return };
        let delete = deleted_after(p, k);
        if delete.0 < cold.0 + least.0 {
            out.add(
                &["policies", &p.database.policy, k.kind, k.name, "cold-after"],
                &p.database.name,
                format!(
                    "{} goes to cold storage after {cold} and is deleted after {delete}; deletion must come at least \
                     {least} after the move, after {}",
                    k.label(),
                    Duration(cold.0 + least.0)
                ),
                "AWS Backup refuses such a lifecycle. Take `cold-after` out, or keep the points for longer.",
            );
        }
    });
}

pub(super) fn ve2(case: &Case<'_>, out: &mut Findings<'_>) {
    each(case, |p, k| {
        if k.cold_after.is_some() {
            out.add(
                &["policies", &p.database.policy, k.kind, k.name, "cold-after"],
                &p.database.name,
                format!(
                    "{} wants cold storage, and {} has none: the provider ignores it and bills the warm price",
                    k.label(),
                    p.managed.engine
                ),
                "Take `cold-after` out. What is cheaper is fewer points: keep monthly ones for a year.",
            );
        }
    });
}

pub(super) fn ve3(case: &Case<'_>, out: &mut Findings<'_>) {
    let most = case.policy.limits.span(Limit::PitrMost);
    for p in case.managed() {
        let Some(pitr) = &p.plan.pitr else { continue };
        let spans = [("keep", Some(pitr.keep)), ("replicate", pitr.replicate.as_ref().map(|r| r.keep))];
        for (key, keep) in spans {
            if let Some(keep) = keep.filter(|k| *k > most) {
                out.add(
                    &["policies", &p.database.policy, "pitr", key],
                    &p.database.name,
                    format!(
                        "automated backups are to reach back {keep}, and the provider keeps {most} at most"
                    ),
                    "Write at most that, and add a tier whose points stay for longer.",
                );
            }
        }
    }
}

pub(super) fn ve4(case: &Case<'_>, out: &mut Findings<'_>) {
    let grace = case.policy.limits.span(Limit::LockGraceMinimum);
    for v in case.policy.managed_vaults.values() {
        if let Some(g) = v.lock.and_then(|l| l.grace).filter(|g| *g < grace) {
            out.add(
                &["vaults", &v.name, "lock", "grace"],
                format!("vault {}", v.name),
                format!("the lock has {g} of grace, and the provider wants at least {grace}"),
                "Write `grace = \"3d\"` or more: it is the time in which a mistake can be taken back.",
            );
        }
    }
    each(case, |p, k| {
        let Some(lock) = k.site.vault.and_then(|v| v.lock) else { return };
        let delete = deleted_after(p, k);
        let what = match (lock.min, lock.max) {
            (Some(min), _) if delete < min => format!("shorter than the {min} that the lock demands"),
            (_, Some(max)) if delete > max => format!("longer than the {max} that the lock allows"),
            _ => return,
        };
        out.add(
            &["policies", &p.database.policy, k.kind, k.name, "keep"],
            &p.database.name,
            format!("{} is kept for {delete}, {what}: every job would fail", k.label()),
            "Bring `keep` and the lock of the vault together; a compliance lock cannot be changed after its grace.",
        );
    });
}

pub(super) fn ve5(case: &Case<'_>, out: &mut Findings<'_>) {
    each(case, |p, k| {
        let delete = deleted_after(p, k);
        if let Some(cold) = k.cold_after.filter(|c| *c >= delete) {
            out.add(
                &["policies", &p.database.policy, k.kind, k.name, "cold-after"],
                &p.database.name,
                format!(
                    "{} is deleted after {delete}, before it would move to cold storage after {cold}",
                    k.label()
                ),
                "That tier of storage never exists. Take `cold-after` out, or keep the points for longer.",
            );
        }
    });
    // Native points: storage classes are paid for at least so long.
    for (name, plan) in &case.policy.policies {
        let pauses = plan.tiers.values().filter_map(|t| t.schedule.longest_pause(&zone(&t.timezone)));
        let pause = pauses.min().unwrap_or(Duration(DAY));
        let tiers =
            plan.tiers.iter().flat_map(|(n, t)| t.vaults.iter().map(move |v| ("tiers", n, v, &t.keep)));
        let copies = plan.copies.iter().map(|(n, c)| ("copies", n, &c.to, &c.keep));
        for (kind, entry, vault, keep) in tiers.chain(copies) {
            let Some(class) = case.policy.vaults.get(vault).and_then(|v| v.storage_class) else { continue };
            let (back, least) = (reach(keep, pause), Duration(u64::from(class.minimum_days()) * DAY));
            if back < least && keep.tags.is_empty() {
                out.add(
                    &["policies", name, kind, entry, "keep"],
                    format!("policy {name}"),
                    format!("points stay {back} at most in vault `{vault}`, and its class `{class}` is paid for {least}"),
                    "Keep them for longer there, or use a class without a minimum.",
                );
            }
        }
    }
}

pub(super) fn ve12(case: &Case<'_>, out: &mut Findings<'_>) {
    each(case, |p, k| {
        if !k.site.is_aws_backup() {
            return;
        }
        let path = ["policies", &p.database.policy, k.kind, k.name, "keep"];
        let keep = k.keep;
        let counts = [keep.last, keep.hourly, keep.daily, keep.weekly, keep.monthly, keep.yearly];
        let by_age_only = counts.iter().all(|n| *n == 0) && keep.tags.is_empty() && keep.at_least <= 1;
        match keep.window {
            Some(w) if by_age_only => {
                let pause = pause(p, k);
                if w <= pause {
                    out.add(
                        &path,
                        &p.database.name,
                        format!("{} is deleted after {w}, and the next point comes after up to {pause}: between them there is none", k.label()),
                        "AWS Backup deletes by age, the newest success included. Keep points for at least two of their intervals.",
                    );
                }
            }
            _ => out.add(
                &path,
                &p.database.name,
                format!("{} is kept by AWS Backup, which deletes by age alone: it can promise no number of points", k.label()),
                "Write `keep = { window = \"30d\" }`, or let holdfast keep snapshots: `snapshots://REGION` knows all rules.",
            ),
        }
    });
}
