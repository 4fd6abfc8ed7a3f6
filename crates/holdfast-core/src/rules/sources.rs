//! Sources that can be lost: VE14, VE15.

use super::{Case, Findings};
use crate::policy::managed::Engine;

pub(super) fn ve14(case: &Case<'_>, out: &mut Findings<'_>) {
    for p in case.managed() {
        let Some(seen) = p.seen else { continue };
        if p.plan.pitr.is_none() || p.managed.engine == Engine::DocumentDb || p.managed.resource_id.is_some()
        {
            continue;
        }
        let name = p.database.name.as_str();
        let message = match seen.exists {
            Some(false) => "the source is gone, and the policy does not say which retained backups were its own".to_string(),
            _ => "without its resource id the automated backups of a deleted source cannot be found by its name".to_string(),
        };
        let hint = match &seen.resource_id {
            Some(id) => {
                format!("Write `resource-id = \"{id}\"` in `[databases.{name}]` now, while it is there.")
            }
            None => "Look for it among the retained automated backups, and write `resource-id`.".to_string(),
        };
        out.add(&["databases", name, "source"], name, message, hint);
    }
}

pub(super) fn ve15(case: &Case<'_>, out: &mut Findings<'_>) {
    for p in case.managed().filter(|p| p.managed.engine == Engine::DocumentDb && p.plan.tiers.is_empty()) {
        out.add(
            &["policies", &p.database.policy, "pitr"],
            &p.database.name,
            "automated backups of DocumentDB die with the cluster, and there is no tier",
            format!("Add a `[policies.{}.tiers.daily]` section, and copy it elsewhere.", p.database.policy),
        );
    }
}
