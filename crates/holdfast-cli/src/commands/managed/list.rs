//! `holdfast list`: what there is of managed databases, in all regions of the policy.

use super::{connect, gates};
use crate::output;
use holdfast_core::managed::{ErrorKind, ManagedError, Region, Source};
use holdfast_core::policy::Policy;
use holdfast_core::{ByteSize, time};
use holdfast_engine::EngineError;
use holdfast_engine::managed::beside::What;
use holdfast_engine::managed::holdings::{Holdings, Kept, Listing, Wanted, add_evidence, list};
use holdfast_engine::managed::journal::Journal;
use holdfast_engine::managed::lineage::Lineage;
use holdfast_engine::managed::observed;
use holdfast_engine::managed::tiers;
use holdfast_engine::managed::verify::evidence::{Level, Verified};
use std::path::Path;

/// Of all managed databases of the policy, or one. Databases of one identity are looked at together.
pub async fn gather(policy: &Policy, only: Option<&str>, state_dir: &Path) -> anyhow::Result<Listing> {
    let mut out = Listing::default();
    let mut groups: Vec<(_, Vec<_>)> = Vec::new();
    for db in policy.databases.values().filter(|d| only.is_none_or(|n| n == d.name.as_str())) {
        let (Some(managed), Some(plan)) = (&db.managed, policy.managed_plan_of(db)) else { continue };
        let source: Source =
            db.source.to_string().parse().map_err(|e: holdfast_core::managed::SourceError| {
                EngineError::usage(e.to_string(), e.hint())
            })?;
        let identity = (&managed.profile, &managed.role, &managed.account);
        let one = (db.name.clone(), source, managed, plan);
        match groups.iter_mut().find(|(who, _)| *who == identity) {
            Some((_, all)) => all.push(one),
            None => groups.push((identity, vec![one])),
        }
    }
    for (_, all) in groups {
        let Some((_, Source { region: home, .. }, first, _)) = all.first() else { continue };
        let cloud = connect(first, home, state_dir).await?;
        // Names are the same in every account: what another one has is not of these databases.
        if let (Some(wanted), Ok(me)) = (&first.account, cloud.identity().await)
            && me.account != *wanted
        {
            let why =
                format!("these are credentials of account {}, and the policy says {wanted}", me.account);
            out.failures.push((home.clone(), why));
            continue;
        }
        let mut wanted = Vec::new();
        for (name, source, managed, plan) in all {
            let gates = gates(policy, managed, plan, &*cloud, state_dir).await?;
            let regions = tiers::regions(policy, plan, &gates)?;
            // Which databases it was, for when it is gone. A convenience: what cannot be read keeps nobody from looking.
            let seen = observed::last_of(state_dir, &name, &source).ok().flatten();
            let remembered = seen.map(|o| Lineage::seen(&o.database)).unwrap_or_default();
            let resource_id = managed.resource_id.clone();
            wanted.push(Wanted { name, source, regions, remembered, resource_id, gates });
        }
        let found = list(&*cloud, &wanted).await;
        out.databases.extend(found.databases);
        out.failures.extend(found.failures);
        for gap in found.unseen {
            // Databases of another identity may have asked the same.
            if !out.unseen.iter().any(|u| (&u.vault, &u.error) == (&gap.vault, &gap.error)) {
                out.unseen.push(gap);
            }
        }
        out.blind = out.blind.or(found.blind);
    }
    if !out.databases.is_empty() {
        add_evidence(&mut out, &Journal::open(state_dir)?)?;
    }
    Ok(out)
}

pub fn text(l: &Listing) {
    for h in &l.databases {
        header(h, &l.failures);
        l.verifications.get(&h.database).into_iter().for_each(last);
        let mut rows = vec![
            ["POINT", "KIND", "SHOWS", "SIZE", "STATE", "WHERE", "UNTIL", "NOTE"].map(String::from).to_vec(),
        ];
        rows.extend(h.kept.iter().map(row));
        match (h.kept.is_empty(), l.failures.is_empty()) {
            (true, true) => output::line("  nothing is kept of it"),
            // Missing is not empty.
            (true, false) => output::line("  nothing of it was seen, and not everything could be looked at:"),
            (false, _) => output::table(&rows),
        }
    }
    for gap in l.gaps() {
        output::line(&format!("could not be seen: {gap}"));
    }
    if let Some(hint) = l.blind.as_ref().and_then(ManagedError::hint) {
        output::line(&format!("hint: {hint}"));
    }
}

/// Nothing of any managed database may be seen with these credentials: that is an error, and no empty list.
pub fn blind(l: &mut Listing) -> Option<EngineError> {
    let shut = |e: &mut ManagedError| matches!(e.kind, ErrorKind::NoCredentials | ErrorKind::Denied { .. });
    let nothing = l.databases.iter().all(|h| h.status.is_none() && h.kept.is_empty());
    l.blind.take_if(|e| nothing && shut(e)).map(EngineError::from)
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
    if let Some(id) = &h.resource_id {
        output::line(&format!("  resource-id {id}"));
    }
    for b in &h.beside {
        let what = match b.what {
            What::Renamed => "is it, under another name: change `source`".into(),
            What::Replaced { until: Some(end) } => {
                format!("was replaced by a cutover, and is kept until {}", time::short(end))
            }
            What::Replaced { until: None } => "was replaced by a cutover".into(),
            What::Restored => "was restored, and is not the database of the policy".into(),
        };
        output::line(&format!("  {} ({}) {what}", b.source, b.status));
    }
}

fn last(v: &Verified) {
    let verdict = match (v.passed, v.level) {
        (true, Some(level)) if level < v.wanted => {
            format!("passed {}, {} is incomplete", level.word(), v.wanted.word())
        }
        (true, level) => format!("passed {}", level.map_or("", Level::word)),
        (false, _) => format!("did NOT pass {}", v.wanted.word()),
    };
    let seconds = v.restored_seconds.filter(|_| !v.resumed).map(std::time::Duration::from_secs_f64);
    let restored = seconds.map(|d| format!(", restored in {}", time::human(d))).unwrap_or_default();
    let at = time::short(v.at);
    output::line(&format!("  last verification {at}: {verdict}{restored} ({}, in {})", v.from, v.region));
}

fn row(k: &Kept) -> Vec<String> {
    let shows = match (k.window, k.taken) {
        (Some(w), _) => format!("up to {}", time::short(w.latest)),
        // A copy that does not say what it shows: that moment or one before.
        (None, Some(t)) if k.at_most => format!("at most {}", time::short(t)),
        (None, Some(t)) => time::short(t),
        (None, None) => "-".into(),
    };
    let place = k.vault.as_ref().map_or(k.region.to_string(), |v| format!("{v} in {}", k.region));
    let place = k.account.as_ref().map_or(place.clone(), |a| format!("{place}, account {a}"));
    let mark = k.verified.as_ref().map(|v| {
        let level = v.level.as_ref().map(|l| format!("{l} ")).unwrap_or_default();
        format!("[verified {level}{}] ", time::short(v.at))
    });
    let verified = mark.unwrap_or_default();
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
