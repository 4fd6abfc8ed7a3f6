//! `holdfast restore` of a managed database: to a new instance or cluster.

use super::{Session, open};
use crate::args::{Cli, RestoreArgs};
use crate::commands::Done;
use crate::{failure, output};
use holdfast_core::managed::{Region, Scaling};
use holdfast_core::time;
use holdfast_engine::managed::restore::moment::At;
use holdfast_engine::managed::restore::plan::plan;
use holdfast_engine::managed::restore::{Overrides, Report, Request, What, run};
use serde_json::json;

pub async fn restore(cli: &Cli, a: &RestoreArgs) -> Done {
    let Some(to) = &a.managed.to_id else {
        return Err(failure::usage(
            "a provider restores to a new database, not into a directory",
            "name it: --to-id ID",
        ));
    };
    let s = open(cli, a.database.as_deref(), a.managed.wait_for.as_deref()).await?;
    let request = request(a, &s, to)?;
    let p = plan(&s.managed, &request).await?;
    if a.plan || !a.yes {
        s.progress.finish();
        match cli.json {
            true => output::json(&json!({ "plan": p })),
            false => {
                output::line(p.to_string().trim_end());
                output::line("nothing was made; --yes does it, and the provider charges for it");
            }
        }
        return Ok(0);
    }
    let result = run(&s.managed, &p).await;
    s.progress.finish();
    let r = result?;
    match cli.json {
        true => output::json(&json!({ "restore": r })),
        false => text(&r),
    }
    Ok(0)
}

fn request(a: &RestoreArgs, s: &Session, to: &str) -> anyhow::Result<Request> {
    let m = &a.managed;
    let region = match &m.region {
        Some(r) => Some(r.parse::<Region>().map_err(|e| failure::usage(e.to_string(), e.hint()))?),
        None => None,
    };
    let what = match (&m.from_snapshot, m.newest_snapshot, &a.at) {
        (Some(id), ..) => What::Snapshot(id.clone()),
        (None, true, _) => What::Newest,
        (None, false, Some(at)) => What::Moment { at: At::parse(at)?, backup: m.from_automated.clone() },
        (None, false, None) => {
            return Err(failure::usage(
                "to which moment?",
                "--at TIME of the incident, --at latest, --from-snapshot ID or --newest-snapshot",
            ));
        }
    };
    // What the policy says of that region, then what was typed.
    let home = region.as_ref().unwrap_or(&s.managed.source.region);
    let place = s.database.place_in(home.as_str());
    let mut set = Overrides::default();
    if let Some(p) = place {
        set.subnet_group.clone_from(&p.subnet_group);
        set.security_groups.clone_from(&p.security_groups);
        set.parameter_group.clone_from(&p.parameter_group);
        set.option_group.clone_from(&p.option_group);
        set.class.clone_from(&p.class);
        set.multi_az = p.multi_az;
        set.instances = p.instances;
        set.scaling = p.capacity.map(|c| Scaling { min: c.min, max: c.max, pause_after: None });
    }
    set.class = m.class.clone().or(set.class);
    set.instances = m.instances.or(set.instances);
    if let Some(text) = &m.acu {
        set.scaling = Some(capacity(text)?);
    }
    set.subnet_group = m.subnet_group.clone().or(set.subnet_group);
    if !m.security_groups.is_empty() {
        set.security_groups.clone_from(&m.security_groups);
    }
    set.parameter_group = m.parameter_group.clone().or(set.parameter_group);
    set.option_group = m.option_group.clone().or(set.option_group);
    set.deletion_protection = Some(s.plan.deletion_protection);
    let tags = s.plan.tags.iter().chain(&s.database.tags).map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let (nearest, remove_on_failure) = (m.nearest, m.remove_on_failure);
    Ok(Request { to: to.into(), region, what, nearest, set, tags, remove_on_failure, ..Request::default() })
}

/// `0.5-8`
fn capacity(text: &str) -> anyhow::Result<Scaling> {
    let parts = text.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match parts {
        Some((min, max)) if min <= max => Ok(Scaling { min, max, pause_after: None }),
        _ => Err(failure::usage(format!("--acu: `{text}` is no range"), "write for example --acu 0.5-8")),
    }
}

fn text(r: &Report) {
    output::line(&format!("{} is there", r.database));
    if let Some(e) = &r.endpoint {
        output::line(&format!("  endpoint {}:{}", e.host, e.port));
    }
    if let Some(t) = r.moment {
        output::line(&format!("  shows {}", time::short(t)));
    }
    for p in &r.phases {
        let d = std::time::Duration::from_secs_f64(p.seconds);
        output::line(&format!("  {}: {}", p.name, time::human(d)));
    }
    output::line(&format!("  {} in all", time::human(std::time::Duration::from_secs_f64(r.seconds))));
    for n in &r.notes {
        output::line(&format!("  note: {n}"));
    }
}
