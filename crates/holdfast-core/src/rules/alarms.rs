//! Alarms that can never fire, or not for what they are meant: VE13.

use super::{Case, Findings};
use crate::limits::{METRICS, MetricUnit};
use crate::policy::managed::{Detects, Engine};

pub(super) fn ve13(case: &Case<'_>, out: &mut Findings<'_>) {
    for p in case.managed() {
        let (engine, database) = (p.managed.engine, p.database.name.as_str());
        let home = if engine == Engine::DocumentDb { "AWS/DocDB" } else { "AWS/RDS" };
        for (name, a) in &p.managed.alarms {
            let mut say = |key: &str, message: String, hint: &str| {
                out.add(
                    &["databases", database, "alarms", name, key],
                    database,
                    format!("alarm `{name}`: {message}"),
                    hint,
                );
            };
            let namespace = a.namespace.as_deref().unwrap_or(home);
            let named = || METRICS.iter().filter(|m| m.name == a.metric);
            let Some(m) = named().find(|m| m.namespace == namespace && m.engines.contains(&engine)) else {
                let hint = match named().next() {
                    Some(m) if m.engines.contains(&engine) => {
                        format!("It is in the namespace {}.", m.namespace)
                    }
                    Some(m) => {
                        let for_whom: Vec<String> = m.engines.iter().map(ToString::to_string).collect();
                        format!("It is published for {} only.", for_whom.join(" and "))
                    }
                    None => "It is not known here; check its spelling.".to_string(),
                };
                say(
                    "metric",
                    format!("{namespace} has no `{}` for {engine}: no data, it never fires", a.metric),
                    &hint,
                );
                continue;
            };
            if !a.dimensions.iter().any(|d| m.dimensions.contains(&d.as_str())) {
                let hint = format!("Write `dimensions = [\"{}\"]`.", m.dimensions.join("\"] or [\""));
                say(
                    "dimensions",
                    format!("`{}` is published by {} only", a.metric, m.dimensions.join(" or ")),
                    &hint,
                );
            }
            match (a.detects, m.tells) {
                (Some(Detects::BackupFailure), "jobs") => say(
                    "detects",
                    format!("`{}` does not see a job that never ran, expired or ended half", a.metric),
                    "What counts is the age of the newest success: `holdfast doctor` exits non-zero when it is too old.",
                ),
                (Some(d), tells) if d.as_str() != tells => say(
                    "detects",
                    format!("`{}` tells of {tells}, not of {}", a.metric, d.as_str()),
                    "For failed backups watch the age of the newest success (`holdfast doctor`), for growth `VolumeBytesUsed` \
                     or `FreeStorageSpace`.",
                ),
                _ => {}
            }
            match a.threshold {
                Some(t) if t.below && t.value == 0 => say(
                    "below",
                    format!("`{}` is never below 0: it can never fire", a.metric),
                    "Write a value that it can reach.",
                ),
                Some(t) if m.unit == MetricUnit::Bytes && !t.bytes && t.value < 1_000_000 => say(
                    if t.below { "below" } else { "above" },
                    format!("`{}` counts bytes, and the threshold is {} of them", a.metric, t.value),
                    "Write the unit, such as `\"2000GB\"`.",
                ),
                Some(t) if m.unit != MetricUnit::Bytes && t.bytes => say(
                    if t.below { "below" } else { "above" },
                    format!("`{}` does not count bytes", a.metric),
                    "Write a number without a unit.",
                ),
                Some(_) => {}
                None => say("metric", "it has no threshold".into(), "Write `above` or `below`."),
            }
            if a.actions.is_empty() {
                say("actions", "nobody is told".into(), "Write the ARN of a topic in `actions`.");
            }
        }
    }
}
