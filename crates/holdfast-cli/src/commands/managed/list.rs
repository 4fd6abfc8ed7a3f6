//! `holdfast list`: what there is of managed databases, in all regions of the policy.

use super::connect;
use crate::output;
use holdfast_core::managed::{Region, Source};
use holdfast_core::policy::Policy;
use holdfast_core::{ByteSize, time};
use holdfast_engine::EngineError;
use holdfast_engine::managed::holdings::{Holdings, Kept, Listing, Wanted, list};
use holdfast_engine::managed::tiers;
use std::path::Path;

/// Of all managed databases of the policy, or one. Databases of one identity are looked at together.
pub async fn gather(policy: &Policy, only: Option<&str>, state_dir: &Path) -> anyhow::Result<Listing> {
    let mut out = Listing::default();
    let mut groups: Vec<(Option<String>, Vec<Wanted>, _)> = Vec::new();
    for db in policy.databases.values().filter(|d| only.is_none_or(|n| n == d.name.as_str())) {
        let (Some(managed), Some(plan)) = (&db.managed, policy.managed_plan_of(db)) else { continue };
        let source: Source =
            db.source.to_string().parse().map_err(|e: holdfast_core::managed::SourceError| {
                EngineError::usage(e.to_string(), e.hint())
            })?;
        let wanted = Wanted { name: db.name.clone(), source, regions: tiers::regions(policy, plan)? };
        match groups.iter_mut().find(|(profile, ..)| *profile == managed.profile) {
            Some((_, all, _)) => all.push(wanted),
            None => groups.push((managed.profile.clone(), vec![wanted], managed)),
        }
    }
    for (_, wanted, managed) in groups {
        let Some(home) = wanted.first().map(|w| w.source.region.clone()) else { continue };
        let cloud = connect(managed, &home, state_dir).await?;
        let found = list(&*cloud, &wanted).await;
        out.databases.extend(found.databases);
        out.failures.extend(found.failures);
    }
    Ok(out)
}

pub fn text(l: &Listing) {
    for h in &l.databases {
        header(h, &l.failures);
        let mut rows = vec![
            ["POINT", "KIND", "SHOWS", "SIZE", "STATE", "WHERE", "UNTIL", "NOTE"].map(String::from).to_vec(),
        ];
        rows.extend(h.kept.iter().map(row));
        match h.kept.is_empty() {
            true => output::line("  nothing is kept of it"),
            false => output::table(&rows),
        }
    }
    for (region, why) in &l.failures {
        output::line(&format!("could not be seen: {region}: {why}"));
    }
}

fn header(h: &Holdings, failures: &[(Region, String)]) {
    let unseen = failures.iter().any(|(r, _)| *r == h.source.region);
    let status = match (&h.status, unseen) {
        (Some(s), _) => s.clone(),
        (None, true) => "not seen".into(),
        (None, false) => "gone".into(),
    };
    let window = match h.window {
        Some(w) => {
            let from = w.earliest.map_or("?".into(), time::short);
            format!("any second from {from} to {}", time::short(w.latest))
        }
        None => "no point in time".into(),
    };
    output::line(&format!("{} ({}): {status}, {window}", h.database, h.source));
}

fn row(k: &Kept) -> Vec<String> {
    let shows = match (k.window, k.taken) {
        (Some(w), _) => format!("up to {}", time::short(w.latest)),
        (None, Some(t)) => time::short(t),
        (None, None) => "-".into(),
    };
    let place = k.vault.as_ref().map_or(k.region.to_string(), |v| format!("{v} in {}", k.region));
    let verified = k.verified.map(|t| format!("[verified {}] ", time::short(t))).unwrap_or_default();
    vec![
        k.id.clone(),
        k.kind.to_string(),
        shows,
        k.size_bytes.map_or("-".into(), |b| ByteSize(b).to_string()),
        k.state.clone(),
        place,
        k.delete_at.map_or("-".into(), time::short),
        format!("{verified}{}", k.note.as_deref().or(k.tier.as_deref()).unwrap_or_default()),
    ]
}
