//! Plans and selections of AWS Backup: what differs. Pure.
//!
//! A database has a plan of its own, named after its source and known by its tags. It is changed in place: AWS keeps
//! the old version, and points that exist keep their lifecycle. Selections cannot be changed: the new one is made
//! before the old one goes, so that no moment is without one.

use super::change::{Action, Change, Difference, Left};
use super::desired::{WantedPlan, plan_name, rule_text};
use holdfast_core::managed::{
    BackupPlan, Database, PlanContent, Selection, SelectionContent, Tags, tags as keys,
};

const POINTS_STAY: &str = "Points that exist keep their time.";

/// What differs in the plan of this database. `estimate` is what the whole policy costs, where that is known.
pub(super) fn plan(
    wanted: Option<&WantedPlan>,
    name: &str,
    d: &Database,
    plans: &[BackupPlan],
    estimate: Option<String>,
) -> Difference {
    let mut out = Difference::default();
    let id = plan_name(&d.source);
    let on = format!("plan {id} in {}", d.source.region);
    let ours = |p: &&BackupPlan| {
        p.content.name == id && p.tags.is_ours() && p.tags.get(keys::DATABASE) == Some(name)
    };
    let own = plans.iter().find(ours);
    for p in plans.iter().filter(|p| own.is_none_or(|o| o.id != p.id)) {
        for s in p.selections.iter().filter(|s| selects(&s.content, d)) {
            let why = format!(
                "plan `{}` makes points of this database too (selection `{}`): {}",
                p.content.name,
                s.content.name,
                if p.tags.is_ours() {
                    "holdfast keeps it for another entry"
                } else {
                    "holdfast did not make it"
                }
            );
            out.left.push(Left::note(d.source.to_string(), "plan", why));
        }
    }
    let Some(own) = own else {
        let Some(w) = wanted else { return out };
        if let Some(other) = plans.iter().find(|p| p.content.name == id) {
            let whose = match (other.tags.is_ours(), other.tags.get(keys::DATABASE)) {
                (true, Some(n)) => format!("of `{n}`, another database of a policy"),
                _ => "that holdfast did not make".into(),
            };
            let why = format!(
                "there is a plan of this name {whose}: rename or remove it; if the database was renamed in the policy, set \
                 the plan's tag {} to `{name}`",
                keys::DATABASE
            );
            out.left.push(Left::blocked(on, "plan", why));
            return out;
        }
        let action = Action::CreatePlan {
            content: w.content.clone(),
            tags: w.tags.clone(),
            selection: w.selection.clone(),
        };
        let change = Change::new(on, "plan", action).between("none", rules(&w.content)).effect(format!(
            "AWS Backup makes these points of {} by itself, as role {}, and deletes them by age.",
            d.source, w.selection.role_arn
        ));
        out.changes.push(Change { cost: estimate, ..change });
        return out;
    };
    match wanted {
        None => {
            for s in &own.selections {
                out.changes.push(
                    Change::new(
                        &on,
                        "selection",
                        Action::Unselect { plan: own.id.clone(), id: s.id.clone() },
                    )
                    .between(selection_text(&s.content), "none")
                    .loses(false)
                    .effect(format!("AWS Backup makes no more points by this plan. {POINTS_STAY}")),
                );
            }
        }
        Some(w) => {
            if sorted(&own.content) != sorted(&w.content) {
                let (from, to) = different(&own.content, &w.content);
                let action = Action::UpdatePlan { id: own.id.clone(), content: w.content.clone() };
                let change = Change::new(&on, "rules", action).between(from, to).effect(format!(
                    "AWS Backup works by the new rules from their next run on. {POINTS_STAY}"
                ));
                let less = keeps_less(&own.content, &w.content);
                out.changes.push(if less { change.loses(false) } else { change });
            }
            let missing: Tags = w.tags.iter().filter(|(k, v)| own.tags.get(k) != Some(v)).collect();
            if !missing.is_empty() {
                let names: Vec<&str> = missing.iter().map(|(k, _)| k).collect();
                let action = Action::TagPlan { arn: own.arn.clone(), tags: missing.clone() };
                out.changes.push(
                    Change::new(&on, "tags", action)
                        .between("others", names.join(", "))
                        .effect("Tags of the plan itself; those of points are in its rules."),
                );
            }
            selections(&on, own, &w.selection, &mut out);
        }
    }
    out
}

/// Whether fewer points will stand, or for less long, than by the rules that there are.
fn keeps_less(is: &PlanContent, wanted: &PlanContent) -> bool {
    let sooner = |a: Option<u32>, b: Option<u32>| match (a, b) {
        (None, b) => b.is_some(),
        (Some(a), Some(b)) => b < a,
        (Some(_), None) => false,
    };
    is.rules.iter().any(|old| {
        let Some(new) = wanted.rules.iter().find(|r| r.name == old.name) else { return true };
        let copies = old.copies.iter().any(|c| {
            let same = new.copies.iter().find(|n| n.to_vault_arn == c.to_vault_arn);
            same.is_none_or(|n| sooner(c.lifecycle.delete_after_days, n.lifecycle.delete_after_days))
        });
        let ages = sooner(old.lifecycle.delete_after_days, new.lifecycle.delete_after_days);
        copies || ages || (old.continuous && !new.continuous) || old.vault != new.vault
    })
}

fn selections(on: &str, own: &BackupPlan, wanted: &SelectionContent, out: &mut Difference) {
    let good = own.selections.iter().find(|s| same_selection(&s.content, wanted));
    if good.is_none() {
        let from: Vec<String> = own.selections.iter().map(|s| selection_text(&s.content)).collect();
        let from = if from.is_empty() { "none".to_string() } else { from.join("; ") };
        let action = Action::Select { plan: own.id.clone(), content: wanted.clone() };
        out.changes.push(
            Change::new(on, "selection", action)
                .between(from, selection_text(wanted))
                .effect("AWS Backup protects this database by the plan, under this role."),
        );
    }
    let stale = |s: &&Selection| good.is_none_or(|g| g.id != s.id);
    for s in own.selections.iter().filter(stale) {
        out.changes.push(
            Change::new(on, "selection", Action::Unselect { plan: own.id.clone(), id: s.id.clone() })
                .between(selection_text(&s.content), "none")
                .effect("It is not what the policy says; the one that is stays, so no moment is without protection."),
        );
    }
}

/// Whether a selection covers the database, as far as ARNs, patterns and tags tell.
fn selects(s: &SelectionContent, d: &Database) -> bool {
    let fits = |patterns: &[String]| patterns.iter().any(|p| matches(p, &d.arn));
    let by_tag =
        s.with_tags.iter().any(|(k, v)| d.tags.get(k.trim_start_matches("aws:ResourceTag/")) == Some(v));
    (fits(&s.resources) || by_tag) && !fits(&s.not_resources)
}

/// `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for m in middle {
        match rest.find(m) {
            Some(at) => rest = rest.get(at + m.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

pub(super) fn same_selection(a: &SelectionContent, b: &SelectionContent) -> bool {
    SelectionContent { name: String::new(), ..a.clone() }
        == SelectionContent { name: String::new(), ..b.clone() }
}

/// The order of rules and copies means nothing.
pub(super) fn sorted(p: &PlanContent) -> PlanContent {
    let mut p = p.clone();
    p.rules.iter_mut().for_each(|r| r.copies.sort_by(|a, b| a.to_vault_arn.cmp(&b.to_vault_arn)));
    p.rules.sort_by(|a, b| a.name.cmp(&b.name));
    p
}

fn rules(p: &PlanContent) -> String {
    sorted(p).rules.iter().map(rule_text).collect::<Vec<_>>().join("; ")
}

/// The rules that differ, before and after.
fn different(from: &PlanContent, to: &PlanContent) -> (String, String) {
    let only = |a: &PlanContent, b: &PlanContent| {
        let b = sorted(b);
        let left: Vec<String> =
            sorted(a).rules.iter().filter(|r| !b.rules.contains(r)).map(rule_text).collect();
        if left.is_empty() { "none".to_string() } else { left.join("; ") }
    };
    let (a, b) = (only(from, to), only(to, from));
    // Windows or tags of points.
    if a == b { (format!("{a} (other windows or tags)"), b) } else { (a, b) }
}

fn selection_text(s: &SelectionContent) -> String {
    let mut what = s.resources.clone();
    what.extend(s.with_tags.iter().map(|(k, v)| format!("tag {k}={v}")));
    format!("{} as {}", what.join(", "), s.role_arn)
}
