//! `holdfast restore` of a managed database: to a new instance or cluster.

use super::{Base, Session, open_in};
use crate::args::{Cli, RestoreArgs};
use crate::commands::Done;
use crate::{failure, output};
use holdfast_core::managed::{Region, Scaling, Tags};
use holdfast_core::policy::Policy;
use holdfast_core::policy::managed::VaultPlace;
use holdfast_core::time;
use holdfast_engine::managed::Managed;
use holdfast_engine::managed::recovery::role_of;
use holdfast_engine::managed::restore::moment::At;
use holdfast_engine::managed::restore::origin::vault_of;
use holdfast_engine::managed::restore::plan::plan;
use holdfast_engine::managed::restore::price::{Hourly, hourly};
use holdfast_engine::managed::restore::{Overrides, Report, Request, What, run};
use serde_json::json;

pub async fn restore(cli: &Cli, a: &RestoreArgs) -> Done {
    let Some(to) = &a.managed.to_id else {
        return Err(failure::usage(
            "a provider restores to a new database, not into a directory",
            "name it: --to-id ID, and a moment: --at TIME, --from-snapshot ID, --newest-snapshot or --from-point ARN",
        ));
    };
    let base = Base::region(a.managed.region.as_deref());
    let s = open_in(cli, a.database.as_deref(), a.managed.wait_for.as_deref(), base).await?;
    let there = match &a.managed.account {
        None => s.managed.clone(),
        Some(account) => {
            let region = a.managed.region.as_deref().and_then(|r| r.parse().ok());
            let gates = s.gates().await?;
            let gate = gates.into_account(account, region.as_ref()).ok_or_else(|| {
                failure::usage(
                    format!("--account: no vault of the policy is in account {account}"),
                    "the `profile` or `role` of a vault there is the way to it",
                )
            })?;
            s.managed.through(gate.enter().await?)
        }
    };
    let request = request(a, &s, &there, to).await?;
    let p = plan(&there, &request).await?;
    s.progress.finish();
    let price = hourly(&p, &s.ctx.policy.prices.managed);
    if !cli.json {
        output::line(p.to_string().trim_end());
        price_text(price);
    }
    if a.plan || !a.yes {
        match cli.json {
            true => output::json(&json!({ "plan": p, "price": price })),
            false => output::line("nothing was made; --yes does it, and the provider charges for it"),
        }
        return Ok(0);
    }
    let result = run(&there, &p).await;
    s.progress.finish();
    let r = result?;
    match cli.json {
        true => output::json(&json!({ "plan": p, "price": price, "restore": r })),
        false => text(&r),
    }
    Ok(0)
}

async fn request(a: &RestoreArgs, s: &Session, there: &Managed, to: &str) -> anyhow::Result<Request> {
    let m = &a.managed;
    let mut region = match &m.region {
        Some(r) => Some(r.parse::<Region>().map_err(|e| failure::usage(e.to_string(), e.hint()))?),
        None => None,
    };
    let at = || a.at.as_deref().map(At::parse).transpose();
    let mut role_arn = None;
    let what = match (&m.from_snapshot, m.newest_snapshot, &m.from_point) {
        (Some(id), ..) => What::Snapshot(id.clone()),
        (None, true, _) => What::Newest,
        (None, false, Some(arn)) => {
            // A point is restored where it lies.
            region = region.or_else(|| arn.split(':').nth(3)?.parse().ok());
            let place = region.as_ref().unwrap_or(&s.managed.source.region);
            let known: Vec<&str> = vaults_in(&s.ctx.policy, place.as_str()).collect();
            let vault = vault_of(there, place, arn, &known).await?;
            role_arn =
                role_of(&s.ctx.policy, place.as_str(), &vault, m.account.as_deref()).map(str::to_string);
            What::RecoveryPoint { vault, arn: arn.clone(), at: at()? }
        }
        (None, false, None) => match at()? {
            Some(at) => What::Moment { at, backup: m.from_automated.clone() },
            None => {
                return Err(failure::usage(
                    "to which moment?",
                    "--at TIME of the incident, --at latest, --from-snapshot ID, --newest-snapshot or --from-point ARN",
                ));
            }
        },
    };
    // What the policy says of that region, then what was typed.
    let home = region.as_ref().unwrap_or(&s.managed.source.region);
    let mut set = places(s, home, m.account.as_deref());
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
    let (nearest, remove_on_failure) = (m.nearest, m.remove_on_failure);
    let tags = tags(s);
    Ok(Request {
        to: to.into(),
        region,
        account: m.account.clone(),
        what,
        nearest,
        role_arn,
        set,
        tags,
        remove_on_failure,
        resource_id: s.database.resource_id.clone(),
        of_another: m.of_another,
        ..Request::default()
    })
}

fn vaults_in<'a>(policy: &'a Policy, wanted: &'a str) -> impl Iterator<Item = &'a str> {
    policy.managed_vaults.values().filter_map(move |v| match &v.place {
        VaultPlace::AwsBackup { region, vault } if region == wanted => Some(vault.as_str()),
        _ => None,
    })
}

/// What the policy says of a restore in a region of an account.
pub(super) fn places(s: &Session, region: &Region, account: Option<&str>) -> Overrides {
    let mut set = Overrides { deletion_protection: Some(s.plan.deletion_protection), ..Overrides::default() };
    if let Some(p) = s.database.place_of(region.as_str(), account) {
        set.subnet_group.clone_from(&p.subnet_group);
        set.security_groups.clone_from(&p.security_groups);
        set.parameter_group.clone_from(&p.parameter_group);
        set.option_group.clone_from(&p.option_group);
        set.class.clone_from(&p.class);
        set.multi_az = p.multi_az;
        set.instances = p.instances;
        set.scaling = p.capacity.map(|c| Scaling { min: c.min, max: c.max, pause_after: None });
    }
    set
}

/// The policy's, of everything that is made for the database.
pub(super) fn tags(s: &Session) -> Tags {
    s.plan.tags.iter().chain(&s.database.tags).map(|(k, v)| (k.as_str(), v.as_str())).collect()
}

/// `0.5-8`
fn capacity(text: &str) -> anyhow::Result<Scaling> {
    let parts = text.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match parts {
        Some((min, max)) if min <= max => Ok(Scaling { min, max, pause_after: None }),
        _ => Err(failure::usage(format!("--acu: `{text}` is no range"), "write for example --acu 0.5-8")),
    }
}

pub(super) fn price_text(price: Option<Hourly>) {
    match price {
        Some(p) => output::line(&format!("  {:<12}{p}", "price")),
        None => output::line(&format!("  {:<12}the table has none for this class", "price")),
    }
}

pub(super) fn text(r: &Report) {
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
