//! Since when a tier of the policy has been expected to make points, kept on this host.
//!
//! A tier that never made a point is new, or it does not work; only time tells which. [`since`] writes down when a tier
//! was seen first with its schedule, in `state-dir/observed/DATABASE.tiers.json`; `apply` does so once the policy is in
//! force, and every look of `doctor`. A tier whose schedule or vault changes begins anew.
//!
//! Crash: the file holds the old or the new list. Lost, or on another host, every tier begins anew: `doctor` is patient
//! for one run more.

use super::Managed;
use crate::error::{EngineError, Result};
use crate::state::write_atomic;
use holdfast_core::policy::ManagedPlan;
use holdfast_core::policy::managed::ManagedTier;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Expected {
    /// Schedule, zone and vault.
    how: String,
    since: Timestamp,
}

/// By tier. Those that are new are written down with `now`; what cannot be written is warned of.
pub fn since(m: &Managed, plan: &ManagedPlan, now: Timestamp) -> BTreeMap<String, Timestamp> {
    let path = m.state.dir().join("observed").join(format!("{}.tiers.json", m.name));
    let before = read(&path);
    let all = merged(&before, plan, now);
    if all != before
        && let Err(e) = write(&path, &all)
    {
        m.monitor.warning(format!(
            "since when the tiers of `{}` are expected could not be written down: {e}",
            m.name
        ));
    }
    all.into_iter().map(|(tier, e)| (tier, e.since)).collect()
}

fn merged(
    before: &BTreeMap<String, Expected>,
    plan: &ManagedPlan,
    now: Timestamp,
) -> BTreeMap<String, Expected> {
    let one = |(name, t): (&String, &ManagedTier)| {
        let how = format!("{} {} {}", t.schedule, t.timezone, t.vault.as_deref().unwrap_or("-"));
        let since = before.get(name).filter(|e| e.how == how).map_or(now, |e| e.since);
        (name.clone(), Expected { how, since })
    };
    plan.tiers.iter().map(one).collect()
}

/// What is not there or cannot be understood begins anew.
fn read(path: &Path) -> BTreeMap<String, Expected> {
    std::fs::read(path).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default()
}

fn write(path: &Path, all: &BTreeMap<String, Expected>) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(EngineError::io("make the directory", dir))?;
    }
    let text = serde_json::to_vec_pretty(all).map_err(|e| EngineError::failed(e.to_string(), ""))?;
    write_atomic(path, &text, 0o600)
}
