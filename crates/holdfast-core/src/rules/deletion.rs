//! What must not be overwritten or deleted: VE10, VE11, and [`may_delete`] for whoever is about to.

use super::{Case, Findings};
use jiff::Timestamp;

pub(super) fn ve10(case: &Case<'_>, out: &mut Findings<'_>) {
    for p in case.managed() {
        let name = p.database.name.as_str();
        for (place, at) in &p.managed.places {
            let Some(isolated) = &at.isolated else { continue };
            let path = ["databases", name, "places", place, "isolated"];
            let own = p.seen.filter(|_| at.region == p.managed.region).map(|s| s.security_groups.as_slice());
            let production = || at.security_groups.iter().chain(own.unwrap_or_default());
            if let Some(shared) = isolated.security_groups.iter().find(|g| production().any(|p| p == *g)) {
                out.add(
                    &path,
                    name,
                    format!("the security group {shared} is production's: a throwaway copy would be in the middle of it"),
                    "Leave `security-groups` out of `isolated`: holdfast makes a group for the run and removes it.",
                );
            }
            if at.subnet_group.as_ref().is_some_and(|s| *s == isolated.subnet_group) {
                out.add(
                    &path,
                    name,
                    format!("the subnet group `{}` is production's", isolated.subnet_group),
                    "Name one whose subnets reach nothing of production.",
                );
            }
        }
    }
}

pub(super) fn ve11(case: &Case<'_>, out: &mut Findings<'_>) {
    for p in case.managed().filter(|p| p.plan.final_snapshot.is_none()) {
        out.add(
            &["policies", &p.database.policy, "final-snapshot"],
            &p.database.name,
            "a deletion would leave no final snapshot",
            "Take the line out: a final snapshot is always made, and always has a name (the provider makes none by itself).",
        );
    }
}

/// What somebody wants to delete: a source, a snapshot, a recovery point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deletion<'a> {
    /// A whole instance or cluster, not one of its points.
    pub is_database: bool,
    /// How its final snapshot will be called.
    pub final_snapshot: Option<&'a str>,
    /// The state of the source allows a final snapshot (not `creating`, `failed`, `incompatible-…`).
    pub can_snapshot: bool,
    /// Good points of the same database that remain.
    pub others: usize,
    /// It is the newest success, or the newest that was verified.
    pub newest: bool,
    pub held: bool,
    pub locked_until: Option<Timestamp>,
    /// It was made by Holdfast: only then it is its to delete.
    pub own: bool,
}

/// VE11 and VE12 for a single deletion; `Err` says why not.
pub fn may_delete(d: &Deletion<'_>, now: Timestamp) -> Result<(), String> {
    if d.held {
        return Err("VE11: it is held".into());
    }
    if let Some(until) = d.locked_until.filter(|t| *t > now) {
        return Err(format!("VE11: it is locked until {}", crate::time::short(until)));
    }
    if d.is_database {
        return match d.final_snapshot {
            Some(name) if !name.is_empty() && d.can_snapshot => Ok(()),
            Some(name) if !name.is_empty() && d.others > 0 => Ok(()),
            Some(_) => Err("VE11: its state allows no final snapshot, and there is no other point".into()),
            None => Err("VE11: no final snapshot is named".into()),
        };
    }
    if !d.own {
        return Err("VE11: holdfast did not make it".into());
    }
    if d.newest {
        return Err("VE12: it is the newest success, or the newest that was verified".into());
    }
    if d.others == 0 {
        return Err("VE11: it is the only good point".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletions_that_are_refused() {
        let now: Timestamp = "2026-11-22T03:00:00Z".parse().unwrap();
        let later = Some("2027-01-01T00:00:00Z".parse().unwrap());
        let earlier = Some("2026-01-01T00:00:00Z".parse().unwrap());
        let point = Deletion { own: true, others: 1, ..Deletion::default() };
        let source = Deletion { is_database: true, can_snapshot: true, ..Deletion::default() };
        let named = Deletion { final_snapshot: Some("a-final-1"), ..source };
        for (d, says) in [
            (point, None),
            (Deletion { locked_until: earlier, ..point }, None),
            (Deletion { held: true, ..point }, Some("held")),
            (Deletion { locked_until: later, ..point }, Some("locked until 2027")),
            (Deletion { others: 0, ..point }, Some("only good point")),
            (Deletion { newest: true, ..point }, Some("VE12")),
            (Deletion { own: false, ..point }, Some("did not make it")),
            (source, Some("no final snapshot")),
            (named, None),
            (Deletion { can_snapshot: false, ..named }, Some("no other point")),
            (Deletion { can_snapshot: false, others: 2, ..named }, None),
            (Deletion { held: true, ..named }, Some("held")),
        ] {
            let got = may_delete(&d, now);
            match says {
                None => assert_eq!(got, Ok(()), "{d:?}"),
                Some(s) => assert!(got.as_ref().is_err_and(|e| e.contains(s)), "{d:?}: {got:?}"),
            }
        }
    }
}
