//! What the policy says of one database, in the provider's terms: [`Desired`]. Pure: the provider is not asked.

use super::change::days;
use crate::error::{EngineError, Result};
use crate::managed::backup_role::default_role;
use holdfast_core::managed::{
    BackupRule, CopyAction, DailyWindow, Engine, Lifecycle, PlanContent, Region, SelectionContent, Source,
    Tags, WeeklyWindow, tags as keys,
};
use holdfast_core::policy::managed::{VaultLock, VaultPlace};
use holdfast_core::policy::{Keep, ManagedDatabase, ManagedPlan, ManagedVault, Policy};
use holdfast_core::time::Duration;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// Minutes in which a job of AWS Backup has to begin. Its own default is 8 hours: a point could be so late, and
/// nobody would know. Not the least that it takes (60): a snapshot or the daily backup may be at work.
const START_WITHIN: u32 = 120;
/// Minutes after which a job that is not done is given up: two days; the first snapshot of a large database is long.
const COMPLETE_WITHIN: u32 = 2880;
/// Letters, digits, `-`, `_` and `.` (API reference of AWS Backup, BackupPlanName).
const PLAN_NAME_MAX: usize = 50;

/// All that a policy wants of one database.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    pub settings: Settings,
    pub replication: Replication,
    /// Of AWS Backup, those of tiers first.
    pub vaults: Vec<WantedVault>,
    /// `None`: AWS Backup is not to make points of it.
    pub plan: Option<WantedPlan>,
}

/// Of the database itself; `None` is left as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    pub retention_days: Option<u32>,
    /// In UTC.
    pub backup_window: Option<DailyWindow>,
    pub maintenance_window: Option<WeeklyWindow>,
    /// The zone in which the policy writes them.
    pub timezone: String,
    pub copy_tags: Option<bool>,
    pub deletion_protection: bool,
}

/// Replication of automated backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replication {
    /// The policy says nothing of automated backups.
    AsItIs,
    None,
    To {
        region: Region,
        days: u32,
        key: Option<String>,
    },
}

/// A vault of AWS Backup.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedVault {
    /// In the policy.
    pub name: String,
    pub region: Region,
    /// At the provider.
    pub id: String,
    pub account: String,
    /// ARN, alias or id.
    pub key: Option<String>,
    pub lock: Option<VaultLock>,
    /// Another account's: its access policy has to let this one copy.
    pub foreign: bool,
}

impl WantedVault {
    pub fn place(&self) -> String {
        format!("aws-backup://{}/{}", self.region, self.id)
    }
}

/// A plan of AWS Backup, which protects this database alone.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedPlan {
    pub content: PlanContent,
    pub tags: Tags,
    pub selection: SelectionContent,
}

/// Partition and account of an ARN.
pub fn place_of(arn: &str) -> Option<(&str, &str)> {
    let mut parts = arn.split(':').skip(1);
    let partition = parts.next()?;
    let account = parts.nth(2)?;
    (!partition.is_empty() && account.len() == 12).then_some((partition, account))
}

/// The name of the plan of a database: one source has one.
pub fn plan_name(source: &Source) -> String {
    let name = format!("holdfast-{}-{}", source.engine.scheme(), source.id);
    if name.len() <= PLAN_NAME_MAX {
        return name;
    }
    // Two long names may begin alike.
    let tail = source.id.bytes().fold(5381u32, |h, b| h.wrapping_mul(33) ^ u32::from(b));
    format!("{}-{tail:08x}", name.get(..PLAN_NAME_MAX - 9).unwrap_or(&name))
}

/// What `policy` wants of the database with this ARN and resource id.
///
/// # Errors
/// What AWS cannot be told: a tier in another region or account, rules of `keep` beyond an age, two roles.
pub fn desired(
    policy: &Policy,
    name: &str,
    database: &ManagedDatabase,
    plan: &ManagedPlan,
    source: &Source,
    arn: &str,
    resource_id: &str,
) -> Result<Desired> {
    let (partition, account) =
        place_of(arn).ok_or_else(|| EngineError::failed(format!("`{arn}` is no ARN of a database"), ""))?;
    let mut vaults = Vaults { policy, account, found: Vec::new() };
    let mut rules = Vec::new();
    let mut roles: BTreeMap<String, String> = BTreeMap::new();
    for (tier, t) in &plan.tiers {
        let Some(v) =
            t.vault.as_ref().map(|v| vault(policy, v)).transpose()?.filter(|v| v.place.is_aws_backup())
        else {
            continue;
        };
        let to = vaults.add(v)?;
        if to.region != source.region || to.account != account {
            return Err(EngineError::usage(
                format!(
                    "tier `{tier}` goes to {}, and AWS Backup makes points where their source is",
                    to.place()
                ),
                format!("give it a vault in {}, and copy it to `{}`", source.region, v.name),
            ));
        }
        let role = v.backup_role.clone().unwrap_or_else(|| default_role(partition, account));
        roles.insert(role, v.name.clone());
        let schedule = t.schedule.amazon().ok_or_else(|| {
            EngineError::usage(
                format!("AWS Backup cannot be told the schedule of tier `{tier}`, `{}`", t.schedule),
                "write one that its cron knows",
            )
        })?;
        let mut point_tags = own_tags(plan, database, name, resource_id);
        t.tags.iter().for_each(|(k, v)| point_tags.set(k, v));
        point_tags.set(keys::TIER, tier);
        let mut copies = Vec::new();
        for (copy, c) in plan.copies.iter().filter(|(_, c)| c.of.contains(tier)) {
            let v = vault(policy, &c.to)?;
            if !v.place.is_aws_backup() {
                continue;
            }
            let to = vaults.add(v)?;
            copies.push(CopyAction {
                to_vault_arn: format!(
                    "arn:{partition}:backup:{}:{}:backup-vault:{}",
                    to.region, to.account, to.id
                ),
                lifecycle: lifecycle("copy", copy, &c.keep)?,
            });
        }
        copies.sort_by(|a, b| a.to_vault_arn.cmp(&b.to_vault_arn));
        rules.push(BackupRule {
            name: tier.clone(),
            vault: to.id,
            schedule: Some(schedule),
            timezone: (t.timezone != "UTC").then(|| t.timezone.clone()),
            start_window: Some(START_WITHIN),
            completion_window: Some(COMPLETE_WITHIN),
            lifecycle: lifecycle("tier", tier, &t.keep)?,
            continuous: false,
            copies,
            point_tags,
        });
    }
    if let (Some((a, first)), Some((b, second))) = (roles.first_key_value(), roles.iter().nth(1)) {
        return Err(EngineError::usage(
            format!("vaults `{first}` and `{second}` have different roles, `{a}` and `{b}`: a plan has one"),
            "give them the same backup-role",
        ));
    }
    let plan_wanted = roles.into_keys().next().map(|role_arn| WantedPlan {
        content: PlanContent { name: plan_name(source), rules },
        tags: own_tags(plan, database, name, resource_id),
        selection: SelectionContent {
            name: String::new(),
            role_arn,
            resources: vec![arn.to_string()],
            not_resources: Vec::new(),
            with_tags: Vec::new(),
        },
    });
    Ok(Desired {
        settings: settings(plan, source)?,
        replication: replication(policy, plan, source)?,
        vaults: vaults.found,
        plan: plan_wanted,
    })
}

fn settings(plan: &ManagedPlan, source: &Source) -> Result<Settings> {
    let deletion_protection = plan.deletion_protection;
    let Some(pitr) = &plan.pitr else {
        return Ok(Settings { deletion_protection, timezone: "UTC".into(), ..Settings::default() });
    };
    let zone = TimeZone::get(&pitr.timezone).map_err(|_| {
        EngineError::usage(
            format!("`{}` is not a time zone", pitr.timezone),
            "write an IANA name such as Europe/Berlin",
        )
    })?;
    Ok(Settings {
        retention_days: Some(whole_days(pitr.keep)),
        backup_window: pitr.backup_window.map(|w| w.to_utc(&zone)),
        maintenance_window: pitr.maintenance_window.map(|w| w.to_utc(&zone)),
        timezone: pitr.timezone.clone(),
        // DocumentDB always copies them.
        copy_tags: (source.engine != Engine::DocumentDb).then_some(true),
        deletion_protection,
    })
}

fn replication(policy: &Policy, plan: &ManagedPlan, source: &Source) -> Result<Replication> {
    let Some(pitr) = plan.pitr.as_ref().filter(|_| source.engine == Engine::Rds) else {
        return Ok(Replication::AsItIs);
    };
    let Some(r) = &pitr.replicate else { return Ok(Replication::None) };
    let v = vault(policy, &r.to)?;
    let region = region(v.place.region())?;
    if region == source.region {
        return Err(EngineError::usage(
            format!("automated backups are to be replicated to {region}, where the database is"),
            "name a vault `snapshots://REGION` of another region in `replicate`",
        ));
    }
    Ok(Replication::To { region, days: whole_days(r.keep), key: v.kms_key.clone() })
}

/// Each vault once.
struct Vaults<'a> {
    policy: &'a Policy,
    account: &'a str,
    found: Vec<WantedVault>,
}

impl Vaults<'_> {
    fn add(&mut self, v: &ManagedVault) -> Result<WantedVault> {
        if let Some(known) = self.found.iter().find(|k| k.name == v.name) {
            return Ok(known.clone());
        }
        let VaultPlace::AwsBackup { region: r, vault: id } = &v.place else {
            return Err(EngineError::usage(format!("`{}` is no vault of AWS Backup", v.name), ""));
        };
        let account = v.account.clone().unwrap_or_else(|| self.account.to_string());
        let wanted = WantedVault {
            name: v.name.clone(),
            region: region(r)?,
            id: id.clone(),
            foreign: account != self.account,
            account,
            key: v.kms_key.clone(),
            lock: v.lock,
        };
        let same = |k: &&WantedVault| k.place() == wanted.place() && k.account == wanted.account;
        if let Some(other) = self.found.iter().find(same) {
            // Two names in the policy for one place would fight over its lock.
            if other.lock != self.policy.managed_vaults.get(&v.name).and_then(|v| v.lock) {
                return Err(EngineError::usage(
                    format!(
                        "vaults `{}` and `{}` of the policy are one place, with two locks",
                        other.name, v.name
                    ),
                    "write the lock the same way, or use one of the two",
                ));
            }
            return Ok(other.clone());
        }
        self.found.push(wanted.clone());
        Ok(wanted)
    }
}

fn own_tags(plan: &ManagedPlan, database: &ManagedDatabase, name: &str, resource_id: &str) -> Tags {
    // `set` cleans what AWS does not take.
    let mut tags = Tags::default();
    plan.tags.iter().chain(&database.tags).for_each(|(k, v)| tags.set(k, v));
    tags.set(keys::DATABASE, name);
    tags.set(keys::SOURCE, resource_id);
    tags
}

fn lifecycle(kind: &str, name: &str, keep: &Keep) -> Result<Lifecycle> {
    let window = keep.window.ok_or_else(|| {
        EngineError::usage(
            format!("{kind} `{name}` is kept by AWS Backup, which deletes by age alone"),
            "write keep = { window = \"30d\" }",
        )
    })?;
    Ok(Lifecycle { cold_after_days: None, delete_after_days: Some(whole_days(window)) })
}

/// Days; what is left of the last one counts as a whole.
pub(super) fn whole_days(d: Duration) -> u32 {
    u32::try_from(d.0.div_ceil(86_400)).unwrap_or(u32::MAX)
}

fn vault<'a>(policy: &'a Policy, name: &str) -> Result<&'a ManagedVault> {
    policy.managed_vaults.get(name).ok_or_else(|| {
        EngineError::not_found(format!("there is no managed vault `{name}`"), "see [vaults] in the policy")
    })
}

fn region(text: &str) -> Result<Region> {
    text.parse::<Region>().map_err(|e| EngineError::usage(e.to_string(), e.hint()))
}

/// `daily: cron(0 6 * * ? *) UTC into primary, kept 30 days, copied to …`
pub(super) fn rule_text(r: &BackupRule) -> String {
    let kept = |l: &Lifecycle| l.delete_after_days.map_or("for ever".to_string(), days);
    let mut text = format!(
        "{}: {} {} into {}, kept {}",
        r.name,
        r.schedule.as_deref().unwrap_or("AWS's own schedule"),
        r.timezone.as_deref().unwrap_or("UTC"),
        r.vault,
        kept(&r.lifecycle)
    );
    if r.continuous {
        text.push_str(", continuous");
    }
    for c in &r.copies {
        let place: Vec<&str> = c.to_vault_arn.split(':').collect();
        let (region, vault) = (place.get(3).unwrap_or(&"?"), place.last().unwrap_or(&"?"));
        text.push_str(&format!(", copied to {vault} in {region} for {}", kept(&c.lifecycle)));
    }
    text
}
