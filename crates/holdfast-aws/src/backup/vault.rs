//! [`BackupVaults`]: vaults, locks, policies, tags.

use crate::actions as act;
use crate::call::On;
use crate::cloud::AwsCloud;
use crate::convert::{number, stamped, text, token, when};
use async_trait::async_trait;
use aws_sdk_backup::types::VaultType;
use aws_smithy_types::DateTime;
use holdfast_core::managed::{
    BackupVault, BackupVaults, ErrorKind, LockRequest, NewVault, Operation, Outcome, Region, Result, Tags,
    VaultKind, VaultLock,
};

fn kind(of: Option<&VaultType>) -> VaultKind {
    match of.map(VaultType::as_str) {
        None | Some("BACKUP_VAULT") => VaultKind::Standard,
        Some("LOGICALLY_AIR_GAPPED_BACKUP_VAULT") => VaultKind::AirGapped,
        Some(_) => VaultKind::Other,
    }
}

/// A vault has a lock if AWS says so, or if it shows a lock's limits: `Locked` has been seen false beside them.
fn lock(
    locked: Option<bool>,
    min: Option<i64>,
    max: Option<i64>,
    date: Option<&DateTime>,
) -> Option<VaultLock> {
    let lock = VaultLock { min_days: number(min), max_days: number(max), lock_date: when(date) };
    let has = locked == Some(true)
        || lock.min_days.is_some()
        || lock.max_days.is_some()
        || lock.lock_date.is_some();
    has.then_some(lock)
}

#[async_trait]
impl BackupVaults for AwsCloud {
    async fn vaults(&self, region: &Region) -> Result<Vec<BackupVault>> {
        let on = On::new(act::LIST_VAULTS, region, "all vaults");
        let pages = self.backup(region).list_backup_vaults().into_paginator().items().send();
        let all = self.read(on, pages.try_collect()).await?;
        let vault = |v: &aws_sdk_backup::types::BackupVaultListMember| {
            Some(BackupVault {
                region: region.clone(),
                name: v.backup_vault_name()?.to_string(),
                arn: text(v.backup_vault_arn()),
                kind: kind(v.vault_type()),
                created: when(v.creation_date()),
                key: v.encryption_key_arn().map(str::to_string),
                points: u64::try_from(v.number_of_recovery_points()).unwrap_or(0),
                lock: lock(v.locked(), v.min_retention_days(), v.max_retention_days(), v.lock_date()),
            })
        };
        Ok(all.iter().filter_map(vault).collect())
    }

    async fn vault(&self, region: &Region, name: &str) -> Result<BackupVault> {
        let on = On::new(act::DESCRIBE_VAULT, region, name);
        let look = || async {
            let call = self.backup(region).describe_backup_vault().backup_vault_name(name).send();
            let v = match self.read(on, call).await {
                // AWS Backup denies what does not exist to whoever may see everything else, with this text.
                Err(e) if e.said.contains("Insufficient privileges to perform this action") => {
                    match self.vaults(region).await?.iter().any(|v| v.name == name) {
                        true => return Err(e),
                        false => return Err(on.refuse(ErrorKind::NotFound, e.said.clone())),
                    }
                }
                other => other?,
            };
            Ok(BackupVault {
                region: region.clone(),
                name: text(v.backup_vault_name()),
                arn: text(v.backup_vault_arn()),
                kind: kind(v.vault_type()),
                created: when(v.creation_date()),
                key: v.encryption_key_arn().map(str::to_string),
                points: u64::try_from(v.number_of_recovery_points()).unwrap_or(0),
                lock: lock(v.locked(), v.min_retention_days(), v.max_retention_days(), v.lock_date()),
            })
        };
        self.patiently(&format!("vault/{region}/{name}"), look).await
    }

    async fn create_vault(&self, new: &NewVault, op: &Operation) -> Result<BackupVault> {
        let on = On::new(act::CREATE_VAULT, &new.region, &new.name);
        let call = self
            .backup(&new.region)
            .create_backup_vault()
            .backup_vault_name(&new.name)
            .set_encryption_key_arn(new.key.clone())
            .set_backup_vault_tags(Some(stamped(&new.tags, op).0.into_iter().collect()))
            .creator_request_id(token(op));
        let made = self.change(on, Some(op), call.send()).await;
        self.fresh.note(format!("vault/{}/{}", new.region, new.name));
        match made {
            Ok(_) => self.vault(&new.region, &new.name).await,
            Err(e) if e.kind == ErrorKind::AlreadyExists => {
                let found = self.vault(&new.region, &new.name).await?;
                let tags = self.backup_tags(&new.region, &found.arn).await?;
                if tags.is_ours() {
                    self.record(on, Some(op), e.request_id.clone(), Outcome::Adopted)?;
                    Ok(found)
                } else {
                    self.record(on, Some(op), e.request_id.clone(), Outcome::failed(&e))?;
                    Err(e)
                }
            }
            Err(e) => Err(e),
        }
    }

    async fn lock_vault(&self, region: &Region, name: &str, lock: &LockRequest) -> Result<()> {
        let on = On::new(act::PUT_VAULT_LOCK, region, name);
        let call = self
            .backup(region)
            .put_backup_vault_lock_configuration()
            .backup_vault_name(name)
            .set_min_retention_days(lock.min_days.map(i64::from))
            .set_max_retention_days(lock.max_days.map(i64::from))
            .set_changeable_for_days(lock.changeable_for_days.map(i64::from));
        self.change(on, None, call.send()).await.map(drop)
    }

    async fn unlock_vault(&self, region: &Region, name: &str) -> Result<()> {
        let on = On::new(act::DELETE_VAULT_LOCK, region, name);
        let call = self.backup(region).delete_backup_vault_lock_configuration().backup_vault_name(name);
        self.removal(on, call.send()).await
    }

    async fn vault_policy(&self, region: &Region, name: &str) -> Result<Option<String>> {
        let on = On::new(act::GET_VAULT_POLICY, region, name);
        let call = self.backup(region).get_backup_vault_access_policy().backup_vault_name(name);
        match self.read(on, call.send()).await {
            Ok(reply) => Ok(reply.policy),
            // No policy, and no vault, are the same code.
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn put_vault_policy(&self, region: &Region, name: &str, policy: &str) -> Result<()> {
        let on = On::new(act::PUT_VAULT_POLICY, region, name);
        let call =
            self.backup(region).put_backup_vault_access_policy().backup_vault_name(name).policy(policy);
        self.change(on, None, call.send()).await.map(drop)
    }

    async fn backup_tags(&self, region: &Region, arn: &str) -> Result<Tags> {
        let on = On::new(act::LIST_BACKUP_TAGS, region, arn);
        let mut all = Tags::default();
        let mut next: Option<String> = None;
        loop {
            let call = self.backup(region).list_tags().resource_arn(arn).set_next_token(next);
            let reply = self.read(on, call.send()).await?;
            all.0.extend(reply.tags.unwrap_or_default());
            next = reply.next_token.filter(|t| !t.is_empty());
            if next.is_none() {
                return Ok(all);
            }
        }
    }

    async fn add_backup_tags(&self, region: &Region, arn: &str, tags: &Tags) -> Result<()> {
        let on = On::new(act::TAG_BACKUP, region, arn);
        let call = self
            .backup(region)
            .tag_resource()
            .resource_arn(arn)
            .set_tags(Some(tags.0.clone().into_iter().collect()));
        self.change(on, None, call.send()).await.map(drop)
    }
}
