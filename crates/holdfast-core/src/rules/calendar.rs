//! Schedules, windows and the clock: VE7, VW7.

use super::{Case, Findings, Protected, zone};
use crate::limits::Limit;
use crate::managed::{DailyWindow, WeeklyWindow, offsets};
use crate::schedule::Schedule;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// As many runs as are looked at: hourly ones for two years.
const MANY: usize = 20_000;

/// The windows in UTC: as written, because `apply` makes them so; else as seen.
fn windows(p: &Protected<'_>) -> (Option<DailyWindow>, Option<WeeklyWindow>) {
    let pitr = p.plan.pitr.as_ref();
    let zone = zone(pitr.map_or("UTC", |t| &t.timezone));
    let backup = pitr.and_then(|t| t.backup_window).map(|w| w.to_utc(&zone));
    let maintenance = pitr.and_then(|t| t.maintenance_window).map(|w| w.to_utc(&zone));
    (
        backup.or(p.seen.and_then(|s| s.backup_window)),
        maintenance.or(p.seen.and_then(|s| s.maintenance_window)),
    )
}

/// The windows of today, where `apply` will move them.
fn until_applied(case: &Case<'_>, out: &mut Findings<'_>) {
    let year = case.now.checked_add(SignedDuration::from_hours(24 * 400)).unwrap_or(case.now);
    for p in case.managed() {
        let Some(seen) = p.seen else { continue };
        let (backup, maintenance) = windows(&p);
        let moved = seen.backup_window.zip(backup).filter(|(is, will)| is != will);
        let serviced = seen.maintenance_window.zip(maintenance).filter(|(is, will)| is != will);
        for (name, t) in &p.plan.tiers {
            let runs = t.schedule.between(case.now, year, &zone(&t.timezone), MANY);
            let path = ["policies", p.database.policy.as_str(), "tiers", name.as_str(), "schedule"];
            let mut say = |kind: &str, is: String, will: String| {
                let message = format!("tier `{name}` runs in the {kind} window of today, {is} UTC");
                let hint = format!("`holdfast apply` moves the window to {will} UTC, as the policy says.");
                out.add(&path, &p.database.name, message, hint);
            };
            if let Some((is, will)) = moved
                && runs.iter().any(|t| is.overlaps(clock(*t), 1))
            {
                say("backup", is.to_string(), will.to_string());
            }
            if let Some((is, will)) = serviced
                && runs.iter().any(|t| is.catches(*t, 1))
            {
                say("maintenance", is.to_string(), will.to_string());
            }
        }
    }
}

fn clock(t: Timestamp) -> u32 {
    let z = t.to_zoned(TimeZone::UTC);
    u32::try_from(i32::from(z.hour()) * 60 + i32::from(z.minute())).unwrap_or(0)
}

pub(super) fn ve7(case: &Case<'_>, out: &mut Findings<'_>) {
    let limits = &case.policy.limits;
    let year = case.now.checked_add(SignedDuration::from_hours(24 * 400)).unwrap_or(case.now);
    for p in case.managed() {
        let policy = p.database.policy.as_str();
        let (backup, maintenance) = windows(&p);
        let least = limits.get(Limit::BackupWindowMinimum) / 60;
        if let Some(w) = backup.filter(|w| u64::from(w.length) < least) {
            out.add(
                &["policies", policy, "pitr", "backup-window"],
                &p.database.name,
                format!(
                    "the backup window {w} UTC is {} minutes long, and the provider wants {least}",
                    w.length
                ),
                "Make it longer.",
            );
        }
        if let (Some(b), Some(m)) = (backup, maintenance)
            && b.meets(m)
        {
            out.add(
                &["policies", policy, "pitr", "backup-window"],
                &p.database.name,
                format!("the backup window {b} UTC overlaps the maintenance window {m} UTC"),
                "The provider refuses that. Move one of them.",
            );
        }
        let took = p.seen.and_then(|s| s.snapshot_duration).unwrap_or(limits.span(Limit::SnapshotDuration));
        let minutes = u32::try_from(took.0.div_ceil(60)).unwrap_or(1).max(1);
        let tiers = p.plan.tiers.iter().map(|(n, t)| ("tiers", n, &t.schedule, &t.timezone, minutes));
        let drills = p.plan.drills.iter().map(|(n, d)| ("drills", n, &d.schedule, &d.timezone, 1));
        for (kind, name, schedule, tz, length) in tiers.chain(drills) {
            let what = if kind == "tiers" { "tier" } else { "drill" };
            let runs = schedule.between(case.now, year, &zone(tz), MANY);
            let path = ["policies", policy, kind, name.as_str(), "schedule"];
            if let Some((w, t)) =
                backup.and_then(|w| Some((w, runs.iter().find(|t| w.overlaps(clock(**t), length))?)))
            {
                out.add(
                    &path,
                    &p.database.name,
                    format!("{what} `{name}` runs in the backup window {w} UTC ({})", crate::time::short(*t)),
                    "The provider skips its own backup while a snapshot or copy of the database is at work, and takes no \
                     snapshot while the database is not available. Move one of them.",
                );
            }
            if let Some((w, t)) =
                maintenance.and_then(|w| Some((w, runs.iter().find(|t| w.catches(**t, length))?)))
            {
                out.add(
                    &path,
                    &p.database.name,
                    format!(
                        "{what} `{name}` runs in the maintenance window {w} UTC ({})",
                        crate::time::short(*t)
                    ),
                    "In it the database may be restarting. Move one of them.",
                );
            }
            if kind != "drills" {
                continue;
            }
            let meets = p.plan.tiers.iter().find_map(|(tier, t)| {
                let zone = zone(&t.timezone);
                let hit = runs.iter().find(|d| {
                    let from =
                        d.checked_sub(SignedDuration::from_secs(i64::from(minutes) * 60)).unwrap_or(**d);
                    let until = d.checked_add(SignedDuration::from_secs(1)).unwrap_or(**d);
                    !t.schedule.between(from, until, &zone, 1).is_empty()
                })?;
                Some((tier, *hit))
            });
            if let Some((tier, t)) = meets {
                out.add(
                    &path,
                    &p.database.name,
                    format!(
                        "drill `{name}` begins while tier `{tier}` is at work ({})",
                        crate::time::short(t)
                    ),
                    "Move one of them, so that the drill measures the recovery and not the backup.",
                );
            }
        }
    }
}

pub(super) fn vw7(case: &Case<'_>, out: &mut Findings<'_>) {
    until_applied(case, out);
    let native = case.policy.policies.iter().flat_map(|(n, p)| {
        let tiers = p.tiers.iter().map(|(t, v)| ("tiers", t, &v.schedule, &v.timezone));
        let drills = p.drills.iter().map(|(t, v)| ("drills", t, &v.schedule, &v.timezone));
        tiers.chain(drills).map(move |x| (n, x))
    });
    let managed = case.policy.managed_plans.iter().flat_map(|(n, p)| {
        let tiers = p.tiers.iter().map(|(t, v)| ("tiers", t, &v.schedule, &v.timezone));
        let drills = p.drills.iter().map(|(t, v)| ("drills", t, &v.schedule, &v.timezone));
        tiers.chain(drills).map(move |x| (n, x))
    });
    for (policy, (kind, name, schedule, tz)) in native.chain(managed) {
        let subject = format!("policy {policy}");
        let path = ["policies", policy, kind, name];
        if schedule.either_day() {
            out.add(
                &[&path[..], &["schedule"]].concat(),
                &subject,
                format!("`{schedule}` runs when the day of the month *or* the day of the week fits"),
                "For the first Sunday write `\"first sunday 02:00\"`; cron cannot say it.",
            );
        }
        known_zone(&[&path[..], &["timezone"]].concat(), &subject, tz, out);
        if let Some((time, skipped)) = touched(schedule, &zone(tz), case.now) {
            out.add(
                &[&path[..], &["schedule"]].concat(),
                &subject,
                format!("at {time} the clocks of {tz} {}", if skipped { "skip this time" } else { "show this time twice" }),
                "It runs once, moved by what was skipped or at the first of the two; another scheduler may not. Choose \
                 a time outside of the change, or UTC.",
            );
        }
    }
    for (policy, plan) in &case.policy.managed_plans {
        let Some(pitr) = &plan.pitr else { continue };
        let subject = format!("policy {policy}");
        known_zone(&["policies", policy, "pitr", "timezone"], &subject, &pitr.timezone, out);
        let zone = zone(&pitr.timezone);
        let (standard, Some(summer)) = offsets(&zone) else { continue };
        if let Some(w) = pitr.backup_window {
            let utc = w.to_utc(&zone);
            out.add(
                &["policies", policy, "pitr", "backup-window"],
                &subject,
                format!(
                    "the provider keeps windows in UTC: {utc} UTC is {} by the clock of {} in winter and {} in summer",
                    utc.at_offset(standard),
                    pitr.timezone,
                    utc.at_offset(summer)
                ),
                format!("Write `backup-window = \"{utc}\"` without `timezone` to say what the provider does."),
            );
        }
    }
}

fn known_zone(path: &[&str], subject: &str, tz: &str, out: &mut Findings<'_>) {
    if TimeZone::get(tz).is_err() {
        out.add(
            path,
            subject,
            format!("the time zone `{tz}` is not known on this host; UTC is taken for it here"),
            "Check its spelling, or install the system's time zone data.",
        );
    }
}

/// The next run that a change of the clocks touches, and whether its time is skipped (else it comes twice).
fn touched(schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> Option<(String, bool)> {
    // Of many runs in a day one more or less is nothing.
    if schedule.clock_times().len() > 4 {
        return None;
    }
    for change in zone.following(now).take(4) {
        let date = change.timestamp().to_zoned(zone.clone()).date();
        for (h, m) in schedule.times_on(date) {
            let at = date.at(i8::try_from(h).ok()?, i8::try_from(m).ok()?, 0, 0);
            let offset = zone.to_ambiguous_timestamp(at).offset();
            match offset {
                jiff::tz::AmbiguousOffset::Unambiguous { .. } => {}
                jiff::tz::AmbiguousOffset::Gap { .. } => {
                    return Some((at.strftime("%Y-%m-%d %H:%M").to_string(), true));
                }
                jiff::tz::AmbiguousOffset::Fold { .. } => {
                    return Some((at.strftime("%Y-%m-%d %H:%M").to_string(), false));
                }
            }
        }
    }
    None
}
