//! What a policy says of managed databases, as the verbs need it: rules per region, targets of copies.

use super::copy::Target;
use crate::error::{EngineError, Result};
use holdfast_core::managed::Region;
use holdfast_core::policy::managed::VaultPlace;
use holdfast_core::policy::{ManagedPlan, ManagedVault, Policy};
use holdfast_core::retention::Rules;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// Rules by tier: each decides about what that tier made, and about nothing else.
pub type ByTier = BTreeMap<String, Rules>;

/// Rules for the snapshots of each region: those of the tiers and copies that go there. A weekly snapshot does not
/// take the place of an hourly one, as it would if all rules looked at all of them.
pub fn rules(policy: &Policy, plan: &ManagedPlan, home: &Region) -> Result<BTreeMap<Region, ByTier>> {
    let mut out: BTreeMap<Region, ByTier> = BTreeMap::new();
    for (name, t) in &plan.tiers {
        let region = match &t.vault {
            None => home.clone(),
            Some(v) => match snapshots(vault(policy, v)?)? {
                Some(region) => region,
                // AWS Backup deletes by its own plan.
                None => continue,
            },
        };
        entry(&mut out, region, name, &t.timezone)?.keeps.push((format!("tier {name}"), t.keep.clone()));
    }
    for (name, c) in &plan.copies {
        let Some(region) = snapshots(vault(policy, &c.to)?)? else { continue };
        for tier in &c.of {
            let zone = plan.tiers.get(tier).map_or("UTC", |t| t.timezone.as_str());
            let rules = entry(&mut out, region.clone(), tier, zone)?;
            rules.keeps.push((format!("copy {name}"), c.keep.clone()));
        }
    }
    Ok(out)
}

/// Days begin where the tier says that they do.
fn entry<'a>(
    all: &'a mut BTreeMap<Region, ByTier>,
    region: Region,
    tier: &str,
    zone: &str,
) -> Result<&'a mut Rules> {
    let timezone = TimeZone::get(zone).map_err(|_| {
        EngineError::usage(format!("`{zone}` is not a time zone"), "write an IANA name such as Europe/Berlin")
    })?;
    let of_region = all.entry(region).or_default();
    Ok(of_region.entry(tier.to_string()).or_insert_with(|| Rules {
        keeps: Vec::new(),
        wal_keep: None,
        timezone,
    }))
}

/// Where copies go that Holdfast makes, by the name of the copy; `only` one vault.
///
/// # Errors
/// A vault in another account: such copies take sharing, which is not done yet.
pub fn targets(
    policy: &Policy,
    plan: &ManagedPlan,
    home: &Region,
    only: Option<&str>,
) -> Result<Vec<(String, Target)>> {
    let all = rules(policy, plan, home)?;
    let mut out = Vec::new();
    for (name, c) in plan.copies.iter().filter(|(_, c)| only.is_none_or(|v| v == c.to)) {
        let v = vault(policy, &c.to)?;
        let Some(region) = snapshots(v)? else { continue };
        if v.account.is_some() {
            return Err(EngineError::refused(
                format!("copy `{name}` goes to another account, which this version cannot do"),
                "let AWS Backup copy it: a vault `aws-backup://REGION/NAME` of that account",
            ));
        }
        let rules = all.get(&region).cloned();
        // Where nothing is left out, what people made by hand goes along.
        let of = (c.of.len() < plan.tiers.len()).then(|| c.of.clone());
        out.push((name.clone(), Target { region, key: v.kms_key.clone(), option_group: None, of, rules }));
    }
    if let (Some(v), true) = (only, out.is_empty()) {
        return Err(EngineError::not_found(
            format!("no copy of this policy goes to snapshots of `{v}`"),
            "see [policies.NAME.copies] in the policy",
        ));
    }
    Ok(out)
}

/// Every region of the policy where something of the database may be.
pub fn regions(policy: &Policy, plan: &ManagedPlan) -> Result<Vec<Region>> {
    let mut out = Vec::new();
    let named =
        plan.tiers.values().filter_map(|t| t.vault.as_ref()).chain(plan.copies.values().map(|c| &c.to));
    let replicated = plan.pitr.iter().filter_map(|p| p.replicate.as_ref()).map(|r| &r.to);
    for name in named.chain(replicated) {
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
