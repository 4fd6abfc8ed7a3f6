//! What a policy says of managed databases, as the verbs need it: rules per region, targets of copies.

use super::abroad::Gates;
use super::copy::Target;
use super::copy_job;
use crate::error::{EngineError, Result};
use holdfast_core::managed::Region;
use holdfast_core::policy::managed::VaultPlace;
use holdfast_core::policy::{ManagedPlan, ManagedVault, Policy};
use holdfast_core::retention::Rules;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// Rules by tier: each decides about what that tier made, and about nothing else.
pub type ByTier = BTreeMap<String, Rules>;

/// Where snapshots are: a region of the database's account, or of another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    pub account: Option<String>,
    pub region: Region,
}

impl Site {
    fn of(vault: &ManagedVault, region: Region, gates: &Gates) -> Self {
        Site { account: gates.of(&vault.name).map(|g| g.account.clone()), region }
    }
}

/// Rules for the snapshots of each place: those of the tiers and copies that go there. A weekly snapshot does not
/// take the place of an hourly one, as it would if all rules looked at all of them.
pub fn rules(
    policy: &Policy,
    plan: &ManagedPlan,
    home: &Region,
    gates: &Gates,
) -> Result<BTreeMap<Site, ByTier>> {
    // Where no rule of a tier is, there may be what people made, with an end of life, or what a copy left behind that
    // is switched off now.
    let mut out: BTreeMap<Site, ByTier> = BTreeMap::new();
    let own = |region: Region| Site { account: None, region };
    out.entry(own(home.clone())).or_default();
    for v in policy.managed_vaults.values().filter(|v| v.account.is_none()) {
        if let Some(region) = snapshots(v)? {
            out.entry(own(region)).or_default();
        }
    }
    for (name, t) in &plan.tiers {
        let site = match &t.vault {
            None => Site { account: None, region: home.clone() },
            Some(v) => {
                let v = vault(policy, v)?;
                match snapshots(v)? {
                    Some(region) => Site::of(v, region, gates),
                    // AWS Backup deletes by its own plan.
                    None => continue,
                }
            }
        };
        entry(&mut out, site, name, &t.timezone)?.keeps.push((format!("tier {name}"), t.keep.clone()));
    }
    for (name, c) in &plan.copies {
        let v = vault(policy, &c.to)?;
        let Some(region) = snapshots(v)? else { continue };
        let site = Site::of(v, region, gates);
        for tier in &c.of {
            let zone = plan.tiers.get(tier).map_or("UTC", |t| t.timezone.as_str());
            let rules = entry(&mut out, site.clone(), tier, zone)?;
            rules.keeps.push((format!("copy {name}"), c.keep.clone()));
        }
    }
    Ok(out)
}

/// Days begin where the tier says that they do.
fn entry<'a>(
    all: &'a mut BTreeMap<Site, ByTier>,
    site: Site,
    tier: &str,
    zone: &str,
) -> Result<&'a mut Rules> {
    let timezone = TimeZone::get(zone).map_err(|_| {
        EngineError::usage(format!("`{zone}` is not a time zone"), "write an IANA name such as Europe/Berlin")
    })?;
    let of_region = all.entry(site).or_default();
    Ok(of_region.entry(tier.to_string()).or_insert_with(|| Rules {
        keeps: Vec::new(),
        wal_keep: None,
        timezone,
    }))
}

/// Where copies go that Holdfast makes, by the name of the copy; `only` one vault. Copies that are made of copies
/// come last.
///
/// # Errors
/// A vault that the policy does not have.
pub fn targets(
    policy: &Policy,
    plan: &ManagedPlan,
    home: &Region,
    only: Option<&str>,
    gates: &Gates,
) -> Result<Vec<(String, Target)>> {
    let all = rules(policy, plan, home, gates)?;
    let mut out: Vec<(String, Target)> = Vec::new();
    for (name, c) in plan.copies.iter().filter(|(_, c)| only.is_none_or(|v| v == c.to)) {
        let v = vault(policy, &c.to)?;
        let Some(region) = snapshots(v)? else { continue };
        let abroad = gates.of(&v.name).cloned();
        let second = abroad.is_some() && region != *home;
        let between = match &abroad {
            Some(g) if second => between(policy, plan, home, &g.account, gates)?,
            _ => false,
        };
        let rules = all.get(&Site::of(v, region.clone(), gates)).cloned();
        // Where nothing is left out, what people made by hand goes along.
        let of = (c.of.len() < plan.tiers.len()).then(|| c.of.clone());
        let key = v.kms_key.clone();
        let target = Target { region, abroad, second, between, key, option_group: None, of, rules };
        out.push((name.clone(), target));
    }
    out.sort_by_key(|(_, t)| t.second);
    Ok(out)
}

/// Whether copies go to a vault of this account in the source's region.
fn between(policy: &Policy, plan: &ManagedPlan, home: &Region, account: &str, gates: &Gates) -> Result<bool> {
    for c in plan.copies.values() {
        let is_it = gates.of(&c.to).is_some_and(|g| g.account == account && g.region == *home);
        if is_it && snapshots(vault(policy, &c.to)?)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where copies of AWS Backup's points go, by the name of the copy; `only` one vault.
///
/// # Errors
/// A vault that the policy does not have.
pub fn point_targets(
    policy: &Policy,
    plan: &ManagedPlan,
    home: &Region,
    only: Option<&str>,
) -> Result<Vec<(String, copy_job::Target)>> {
    let mut out = Vec::new();
    for (name, c) in plan.copies.iter().filter(|(_, c)| only.is_none_or(|v| v == c.to)) {
        let v = vault(policy, &c.to)?;
        let VaultPlace::AwsBackup { region: there, vault: at } = &v.place else { continue };
        let mut from = Vec::new();
        for tier in c.of.iter().filter_map(|t| plan.tiers.get(t)?.vault.as_ref()) {
            let source = vault(policy, tier)?;
            if let VaultPlace::AwsBackup { region, vault } = &source.place
                && region == home.as_str()
                && !from.iter().any(|(known, _)| known == vault)
            {
                from.push((vault.clone(), source.backup_role.clone()));
            }
        }
        let days = c.keep.window.map(|d| u32::try_from(d.0.div_ceil(86_400)).unwrap_or(u32::MAX));
        let (vault, account) = (at.clone(), v.account.clone());
        out.push((name.clone(), copy_job::Target { from, region: region(there)?, vault, account, days }));
    }
    Ok(out)
}

/// Every region of the policy where something of the database may be in its own account.
pub fn regions(policy: &Policy, plan: &ManagedPlan, gates: &Gates) -> Result<Vec<Region>> {
    let mut out = Vec::new();
    // A copy that is switched off leaves behind what it copied.
    for v in policy.managed_vaults.values().filter(|v| v.account.is_none()) {
        out.push(region(v.place.region())?);
    }
    let named =
        plan.tiers.values().filter_map(|t| t.vault.as_ref()).chain(plan.copies.values().map(|c| &c.to));
    let replicated = plan.pitr.iter().filter_map(|p| p.replicate.as_ref()).map(|r| &r.to);
    for name in named.chain(replicated).filter(|name| gates.of(name).is_none()) {
        out.push(region(vault(policy, name)?.place.region())?);
    }
    Ok(out)
}

fn vault<'a>(policy: &'a Policy, name: &str) -> Result<&'a ManagedVault> {
    policy.managed_vaults.get(name).ok_or_else(|| {
        EngineError::not_found(format!("there is no managed vault `{name}`"), "see [vaults] in the policy")
    })
}

fn snapshots(v: &ManagedVault) -> Result<Option<Region>> {
    match &v.place {
        VaultPlace::Snapshots { region: r } => Ok(Some(region(r)?)),
        VaultPlace::AwsBackup { .. } => Ok(None),
    }
}

fn region(text: &str) -> Result<Region> {
    text.parse::<Region>().map_err(|e| EngineError::usage(e.to_string(), e.hint()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managed::abroad::{Gate, foreign};
    use std::path::Path;

    const OTHER: &str = "210987654321";
    const NEAR: &str = "[policies.p.copies.z]\nto = \"near\"\nkeep = { last = 1 }\n";

    fn policy(more: &str) -> Policy {
        let text = format!(
            "version = 1\n\
             [databases.shop]\nsource = \"rds://us-east-1/shop\"\npolicy = \"p\"\naccount = \"123456789012\"\n\
             [vaults.near]\nurl = \"snapshots://us-east-1\"\naccount = \"{OTHER}\"\nrole = \"arn:aws:iam::{OTHER}:role/x\"\n\
             [vaults.far]\nurl = \"snapshots://us-west-2\"\naccount = \"{OTHER}\"\nprofile = \"x\"\n\
             [vaults.own]\nurl = \"snapshots://us-west-2\"\naccount = \"123456789012\"\n\
             [policies.p]\nrpo = \"1d\"\nrto = \"4h\"\n\
             [policies.p.tiers.daily]\nschedule = \"0 12 * * *\"\nkeep = {{ last = 7 }}\n\
             [policies.p.copies.a]\nto = \"far\"\nkeep = {{ last = 3 }}\n\
             [policies.p.copies.b]\nto = \"own\"\nkeep = {{ last = 2 }}\n{more}"
        );
        Policy::parse(&text, Path::new("/x")).unwrap()
    }

    fn gates(p: &Policy) -> (ManagedPlan, Gates) {
        let d = p.databases.values().next().unwrap();
        let plan = p.managed_plan_of(d).unwrap().clone();
        let mut all = Gates::new(Some("123456789012".into()));
        for v in foreign(&p.managed_vaults, &plan, all.own.clone().as_deref()) {
            let region = v.place.region().parse().unwrap();
            let (vault, account) = (v.name.clone(), v.account.clone().unwrap());
            all.add(Gate { vault, account, region, cloud: Err("nobody".into()) });
        }
        (plan, all)
    }

    #[test]
    fn what_goes_to_another_account_and_region_goes_there_last_and_by_a_vault_between() {
        let home: Region = "us-east-1".parse().unwrap();
        let p = policy(NEAR);
        let (plan, all) = gates(&p);
        assert!(all.of("own").is_none(), "an account that is the own one");
        let found = targets(&p, &plan, &home, None, &all).unwrap();
        let shown: Vec<(&str, bool, bool)> =
            found.iter().map(|(n, t)| (n.as_str(), t.abroad.is_some(), t.second)).collect();
        assert_eq!(shown, [("b", false, false), ("z", true, false), ("a", true, true)]);
        // One that is asked for alone still has its place between.
        assert!(targets(&p, &plan, &home, Some("far"), &all).unwrap()[0].1.between);
        assert_eq!(regions(&p, &plan, &all).unwrap(), ["us-west-2".parse().unwrap()]);

        let p = policy("");
        let (plan, all) = gates(&p);
        let found = targets(&p, &plan, &home, None, &all).unwrap();
        assert!(found.len() == 2 && found[1].1.second && !found[1].1.between, "another is not refused");
    }

    /// The same region in two accounts has two sets of rules.
    #[test]
    fn rules_are_of_an_account_and_a_region() {
        let p = policy(NEAR);
        let (plan, all) = gates(&p);
        let found = rules(&p, &plan, &"us-east-1".parse().unwrap(), &all).unwrap();
        let places: Vec<(Option<&str>, &str)> =
            found.keys().map(|s| (s.account.as_deref(), s.region.as_str())).collect();
        let own = [(None, "us-east-1"), (None, "us-west-2")];
        let other = [(Some(OTHER), "us-east-1"), (Some(OTHER), "us-west-2")];
        assert_eq!(places, [own, other].concat());
        assert!(found.values().all(|r| r["daily"].keeps.len() == 1));
    }
}
