//! The database's own settings, and the replication of its automated backups: what differs. Pure.

use super::change::{Action, Change, Difference, Left, days};
use super::cost::Costs;
use super::desired::{Replication, Settings};
use holdfast_core::managed::{
    AutomatedBackup, AutomatedKind, DailyWindow, Database, Engine, Modification, Region,
    Replication as Start, Tags, WeeklyWindow, offsets,
};
use jiff::tz::TimeZone;

/// A setting that this module changes.
fn changed(d: &Database, what: &'static str, change: Modification) -> Change {
    Change::new(d.source.to_string(), what, Action::Modify(change))
}

/// What differs in the settings.
pub(super) fn settings(wanted: &Settings, d: &Database, costs: &Costs<'_>) -> Difference {
    let mut out = Difference::default();
    retention(wanted, d, costs, &mut out);
    windows(wanted, d, &mut out);
    if let Some(copy) = wanted.copy_tags.filter(|c| *c != d.backup.copy_tags) {
        let change = Modification { copy_tags: Some(copy), ..Modification::default() };
        out.changes.push(
            changed(d, "copying of tags to snapshots", change)
                .between(on_off(d.backup.copy_tags), on_off(copy))
                .effect("Snapshots and automated backups carry the tags of the database from now on."),
        );
    }
    if wanted.deletion_protection != d.deletion_protection {
        let to = wanted.deletion_protection;
        let change = Modification { deletion_protection: Some(to), ..Modification::default() };
        let change =
            changed(d, "deletion protection", change).between(on_off(d.deletion_protection), on_off(to)).effect(
                if to {
                    "Nobody deletes the database before this is turned off again."
                } else {
                    "Whoever has the right can delete the database with one call, and its automated backups with it."
                },
            );
        out.changes.push(if to { change } else { change.loses(false) });
    }
    let stuck = d.status.is_stopped() || d.status.is_deleting() || d.status.is_failed();
    if stuck && !out.changes.is_empty() {
        let names: Vec<&str> = out.changes.iter().map(|c| c.what).collect();
        let why = format!("it is `{}`: AWS changes no settings of it ({})", d.status, names.join(", "));
        out.changes.clear();
        out.left.push(Left::blocked(d.source.to_string(), "settings", why));
    }
    out
}

fn retention(wanted: &Settings, d: &Database, costs: &Costs<'_>, out: &mut Difference) {
    const WHAT: &str = "retention of automated backups";
    let from = d.backup.retention_days;
    let Some(to) = wanted.retention_days.filter(|to| *to != from) else { return };
    if d.backup.owned_by_aws_backup {
        out.left.push(Left::blocked(
            d.source.to_string(),
            WHAT,
            format!(
                "it is {}, the policy wants {}: AWS Backup owns the automated backups of this database, and AWS refuses \
                 the change here. Change the plan that has continuous backup, or take the database out of it",
                days(from),
                days(to)
            ),
        ));
        return;
    }
    if to == 0 && d.source.engine.is_cluster() {
        let why = format!("{} clusters keep automated backups for 1 day at least", d.source.engine);
        out.left.push(Left::blocked(d.source.to_string(), WHAT, why));
        return;
    }
    let waits: Vec<&str> =
        d.pending.iter().map(String::as_str).filter(|p| *p != "backup retention").collect();
    if (from == 0) != (to == 0) && !waits.is_empty() {
        out.left.push(Left::blocked(
            d.source.to_string(),
            WHAT,
            format!(
                "it is {}, the policy wants {}: that has to be done at once, and AWS would do at once, too, what waits for \
                 the maintenance window ({})",
                days(from),
                days(to),
                waits.join(", ")
            ),
        ));
        return;
    }
    let change = Modification { retention_days: Some(to), ..Modification::default() };
    let change = changed(d, WHAT, change).between(days(from), days(to));
    out.changes.push(match (from, to) {
        (_, 0) => change.loses(true).effect(
            "ALL automated backups of this database are deleted at once, and no second can be restored any more. The \
             change can be an outage.",
        ),
        (0, _) => {
            let change = change.effect(
                "Automated backups begin, with a first backup at once. Turning them on can restart the instance: choose a \
                 quiet hour.",
            );
            Change { cost: costs.retention(d, to), ..change }
        }
        (from, to) if to < from => change.loses(true).effect(format!(
            "What is older than {} is deleted at once: no second before that can be restored any more.",
            days(to)
        )),
        (from, to) => {
            let change = change.effect("The window grows as time passes; what is gone does not come back.");
            Change { cost: costs.retention(d, to - from), ..change }
        }
    });
}

fn windows(wanted: &Settings, d: &Database, out: &mut Difference) {
    let owned = d.backup.owned_by_aws_backup;
    let mut backup = wanted.backup_window.filter(|w| Some(*w) != d.backup.window);
    if let (true, Some(w)) = (owned, backup) {
        let why = format!(
            "the policy wants {w} UTC: AWS Backup owns the automated backups of this database, and AWS refuses the \
             change here"
        );
        out.left.push(Left::blocked(d.source.to_string(), "backup window", why));
        backup = None;
    }
    let maintenance = wanted.maintenance_window.filter(|w| Some(*w) != d.maintenance_window);
    if backup.is_none() && maintenance.is_none() {
        return;
    }
    let ends = (backup.or(d.backup.window), maintenance.or(d.maintenance_window));
    if let (Some(b), Some(m)) = ends
        && b.meets(m)
    {
        let other = match (backup.is_some(), maintenance.is_some()) {
            (true, true) => "the policy has both: move one",
            (true, false) => {
                "the maintenance window is the provider's: write maintenance-window in [policies.NAME.pitr]"
            }
            _ => "the backup window is the provider's: write backup-window in [policies.NAME.pitr]",
        };
        let why = format!(
            "the backup window {b} UTC and the maintenance window {m} UTC would overlap, which AWS refuses; {other}"
        );
        out.left.push(Left::blocked(d.source.to_string(), "windows", why));
        return;
    }
    if let Some(w) = backup {
        let change = Modification { backup_window: Some(w), ..Modification::default() };
        out.changes.push(
            changed(d, "backup window", change)
                .between(utc(d.backup.window), utc(Some(w)))
                .effect(format!("The daily backup begins in it{}.", local(w, &wanted.timezone))),
        );
    }
    if let Some(w) = maintenance {
        let change = Modification { maintenance_window: Some(w), ..Modification::default() };
        let members = match d.source.engine.is_cluster() {
            true => " Instances of the cluster have windows of their own, which stay.",
            false => "",
        };
        out.changes.push(
            changed(d, "maintenance window", change)
                .between(week(d.maintenance_window), week(Some(w)))
                .effect(format!(
                    "What waits for maintenance happens in it and may restart the database.{members}"
                )),
        );
    }
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn utc(w: Option<DailyWindow>) -> String {
    w.map_or("none".into(), |w| format!("{w} UTC"))
}

fn week(w: Option<WeeklyWindow>) -> String {
    w.map_or("none".into(), |w| format!("{w} UTC"))
}

/// `; in America/Toronto that is 03:00-04:00 in winter and 04:00-05:00 in summer`
fn local(w: DailyWindow, zone: &str) -> String {
    let Ok(tz) = TimeZone::get(zone) else { return String::new() };
    match offsets(&tz) {
        (0, None) => String::new(),
        (standard, None) => format!("; in {zone} that is {}", w.at_offset(standard)),
        (standard, Some(summer)) => format!(
            "; AWS keeps it in UTC: in {zone} that is {} in winter and {} in summer",
            w.at_offset(standard),
            w.at_offset(summer)
        ),
    }
}

/// What differs in the replication of automated backups. `replicas` are those of this source in other regions that
/// still get something.
pub(super) fn replication(
    wanted: &Replication,
    d: &Database,
    replicas: &[AutomatedBackup],
    costs: &Costs<'_>,
) -> Difference {
    const WHAT: &str = "replication of automated backups";
    let mut out = Difference::default();
    if *wanted == Replication::AsItIs {
        return out;
    }
    let to = match wanted {
        Replication::To { region, days, key } => Some((region, *days, key)),
        _ => None,
    };
    for r in replicas.iter().filter(|r| to.is_none_or(|(region, ..)| *region != r.at.region)) {
        if !r.tags.is_ours() {
            let why = format!("automated backups go to {} too: holdfast did not begin that", r.at.region);
            out.left.push(Left::note(d.source.to_string(), WHAT, why));
            continue;
        }
        let action = Action::StopReplication { from: r.at.region.clone(), again: None };
        out.changes.push(
            Change::new(d.source.to_string(), WHAT, action)
                .between(place(&r.at.region, r.retention_days), "none")
                .loses(false)
                .effect(ends(r)),
        );
    }
    let Some((region, wanted_days, key)) = to else { return out };
    let start = Start {
        source_arn: d.arn.clone(),
        to: region.clone(),
        retention_days: wanted_days,
        key: key.clone(),
        tags: Tags::default(),
    };
    match replicas.iter().find(|r| r.at.region == *region) {
        Some(r) if r.retention_days == wanted_days => {}
        Some(r) if !r.tags.is_ours() => out.left.push(Left::blocked(
            d.source.to_string(),
            WHAT,
            format!("{} are kept, not {}: holdfast did not begin it, and AWS changes its days only by ending it", place(region, r.retention_days), days(wanted_days)),
        )),
        // What cannot begin again is not stopped.
        Some(r) if d.storage.encrypted && key.is_none() => out.left.push(Left::blocked(
            d.source.to_string(),
            WHAT,
            format!("{} are kept; to change that it begins anew, and the vault has no kms-key", place(region, r.retention_days)),
        )),
        Some(r) => {
            let action = Action::StopReplication { from: region.clone(), again: Some(start) };
            out.changes.push(
                Change::new(d.source.to_string(), WHAT, action)
                    .between(place(region, r.retention_days), place(region, wanted_days))
                    .loses(false)
                    .effect(format!(
                        "AWS knows no other way than to stop it and to begin anew, with a whole copy. {}",
                        ends(r)
                    )),
            );
        }
        None if d.storage.encrypted && key.is_none() => out.left.push(Left::blocked(
            d.source.to_string(),
            WHAT,
            format!("the database is encrypted, and the vault in {region} has no kms-key: keys do not leave their region"),
        )),
        None => {
            let change = Change::new(d.source.to_string(), WHAT, Action::Replicate(start))
                .between("none", place(region, wanted_days))
                .effect(format!(
                    "Snapshots and log go to {region} as they are made, so that any second can be restored there. A whole \
                     copy goes first."
                ));
            out.changes.push(Change { cost: costs.replication(d, region, wanted_days), ..change });
        }
    }
    out
}

fn ends(r: &AutomatedBackup) -> String {
    format!(
        "Nothing new arrives in {} by it; what is there expires day by day and is gone in {}.",
        r.at.region,
        days(r.retention_days)
    )
}

fn place(region: &Region, n: u32) -> String {
    format!("{} in {region}", days(n))
}

/// Those of this very source that something still goes to.
pub(super) fn of_source(all: Vec<AutomatedBackup>, d: &Database) -> Vec<AutomatedBackup> {
    let live = |r: &AutomatedBackup| {
        r.kind == AutomatedKind::Replicated
            && r.resource_id == d.resource_id
            && r.status.as_str() != "retained"
    };
    all.into_iter().filter(live).collect()
}

/// Whether nothing of `change` is still to come into force.
pub(super) fn in_force(change: &Modification, d: &Database) -> bool {
    let same = |wanted: Option<bool>, is: bool| wanted.is_none_or(|w| w == is);
    change.retention_days.is_none_or(|n| n == d.backup.retention_days)
        && change.backup_window.is_none_or(|w| Some(w) == d.backup.window)
        && change.maintenance_window.is_none_or(|w| Some(w) == d.maintenance_window)
        && (same(change.copy_tags, d.backup.copy_tags) || d.source.engine == Engine::DocumentDb)
        && same(change.deletion_protection, d.deletion_protection)
        && !d.pending.iter().any(|p| p == "backup retention")
}

/// One call for all of them: the database is `modifying` once.
pub(super) fn merged<'a>(all: impl Iterator<Item = &'a Modification>) -> Modification {
    all.fold(Modification::default(), |sum, m| Modification {
        retention_days: m.retention_days.or(sum.retention_days),
        backup_window: m.backup_window.or(sum.backup_window),
        maintenance_window: m.maintenance_window.or(sum.maintenance_window),
        copy_tags: m.copy_tags.or(sum.copy_tags),
        deletion_protection: m.deletion_protection.or(sum.deletion_protection),
        ..sum
    })
}
