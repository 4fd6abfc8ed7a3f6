//! What there is at the provider, of all that the policy says about one database: [`look`].

use super::Request;
use super::desired::{Desired, Replication, WantedVault};
use super::settings::of_source;
use super::vaults::SeenVault;
use crate::error::{EngineError, Result};
use crate::managed::{Managed, identity, observed};
use holdfast_core::managed::{
    AutomatedBackup, AutomatedKind, BackupPlan, Cloud, Database, Engine, ManagedError, Region,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What was seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub database: Database,
    /// Of this source, in other regions.
    pub replicas: Vec<AutomatedBackup>,
    /// By their names in the policy.
    pub vaults: BTreeMap<String, SeenVault>,
    /// Of the database's region. `None`: they could not be seen, and the policy needs none.
    pub plans: Result<Vec<BackupPlan>, Box<ManagedError>>,
}

/// The database alone, and whether it is the one of the policy.
pub(super) async fn database(m: &Managed, r: &Request) -> Result<Database> {
    let d = observed::look(m).await?.database;
    identity::database(m, &r.database, &d)?;
    Ok(d)
}

/// Everything that `wanted` is compared with.
pub(super) async fn look(m: &Managed, r: &Request, d: Database, wanted: &Desired) -> Result<Seen> {
    let replicas = replicas(m, &d, &wanted.replication).await?;
    let mut vaults = BTreeMap::new();
    for w in &wanted.vaults {
        vaults.insert(w.name.clone(), vault(m, r, w).await?);
    }
    let plans = match m.cloud.plans(&m.source.region).await {
        Ok(all) => Ok(all),
        Err(e) if wanted.plan.is_some() => return Err(e.into()),
        Err(e) => Err(Box::new(e)),
    };
    Ok(Seen { database: d, replicas, vaults, plans })
}

async fn replicas(m: &Managed, d: &Database, wanted: &Replication) -> Result<Vec<AutomatedBackup>> {
    if d.source.engine != Engine::Rds || *wanted == Replication::AsItIs {
        return Ok(Vec::new());
    }
    let own = m.cloud.automated_backups(d.source.engine, &d.source.region).await?;
    let live = own.iter().filter(|b| b.kind == AutomatedKind::Live && b.resource_id == d.resource_id);
    // `arn:aws:rds:REGION:ACCOUNT:auto-backup:ID`
    let region_of = |arn: &String| arn.split(':').nth(3).and_then(|r| r.parse::<Region>().ok());
    let mut regions: BTreeSet<Region> = live.flat_map(|b| b.replicas.iter().filter_map(region_of)).collect();
    if let Replication::To { region, .. } = wanted {
        regions.insert(region.clone());
    }
    let mut out = Vec::new();
    for region in regions {
        out.extend(of_source(m.cloud.automated_backups(d.source.engine, &region).await?, d));
    }
    Ok(out)
}

/// Who works in a vault: the identity of the database, or the vault's own.
pub(super) fn cloud_of<'a>(m: &'a Managed, r: &'a Request, w: &WantedVault) -> Option<&'a Arc<dyn Cloud>> {
    r.elsewhere.get(&w.name).or((!w.foreign).then_some(&m.cloud))
}

pub(super) async fn vault(m: &Managed, r: &Request, w: &WantedVault) -> Result<SeenVault> {
    let Some(cloud) = cloud_of(m, r, w) else {
        return Ok(SeenVault::Unreachable(format!(
            "it is in account {}, and [vaults.{}] has no `profile` or `role` to get there: vault, key, access policy and lock have to \
             be made by its owner",
            w.account, w.name
        )));
    };
    if r.elsewhere.contains_key(&w.name) {
        let me = cloud.identity().await?;
        if me.account != w.account {
            return Err(EngineError::refused(
                format!(
                    "the profile of vault `{}` is of account {}, and the vault is in {}",
                    w.name, me.account, w.account
                ),
                "check `account` and `profile` of the vault",
            ));
        }
    }
    let key = match &w.key {
        Some(k) => Some(cloud.key(&w.region, k).await?.arn),
        None => None,
    };
    let all = cloud.vaults(&w.region).await?;
    let Some(found) = all.into_iter().find(|v| v.name == w.id) else { return Ok(SeenVault::Absent { key }) };
    let tags = cloud.backup_tags(&w.region, &found.arn).await?;
    let policy = match w.foreign {
        true => cloud.vault_policy(&w.region, &w.id).await?,
        false => None,
    };
    Ok(SeenVault::There { vault: Box::new(found), ours: tags.is_ours(), key, policy })
}
