//! Vaults of AWS Backup and their locks: [`BackupVault`], [`BackupVaults`].

use super::Operation;
use super::error::Result;
use super::source::Region;
use super::tags::Tags;
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Which kind of vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VaultKind {
    Standard,
    /// Always locked in compliance mode; owned by AWS Backup's own account.
    AirGapped,
    Other,
}

/// What a lock means today.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockMode {
    /// Whoever has the permission removes it: it stops accidents, not attackers.
    Governance,
    /// Becomes immutable at the lock date; until then it can be removed.
    CompliancePending,
    /// Nobody removes it, root and AWS included, nor any recovery point before its time.
    Compliance,
}

/// A vault's lock. Its limits apply to new jobs: one whose retention lies outside of them fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultLock {
    pub min_days: Option<u32>,
    pub max_days: Option<u32>,
    /// When it becomes, or became, immutable; absent in governance mode.
    pub lock_date: Option<Timestamp>,
}

impl VaultLock {
    pub fn mode(&self, now: Timestamp) -> LockMode {
        match self.lock_date {
            None => LockMode::Governance,
            Some(date) if date > now => LockMode::CompliancePending,
            Some(_) => LockMode::Compliance,
        }
    }
}

/// A vault of AWS Backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupVault {
    pub region: Region,
    pub name: String,
    pub arn: String,
    pub kind: VaultKind,
    pub created: Option<Timestamp>,
    pub key: Option<String>,
    /// As AWS counts them, some minutes late.
    pub points: u64,
    pub lock: Option<VaultLock>,
}

/// A vault to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewVault {
    pub region: Region,
    pub name: String,
    /// ARN of the key; `None` = AWS Backup's own, which no other account can use.
    pub key: Option<String>,
    pub tags: Tags,
}

/// A lock to be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRequest {
    pub min_days: Option<u32>,
    pub max_days: Option<u32>,
    /// Days until it is immutable for ever, at least 3. `None` = governance, removable.
    pub changeable_for_days: Option<u32>,
}

/// Vaults.
#[async_trait]
pub trait BackupVaults: Send + Sync {
    /// All vaults of a region, locks included.
    async fn vaults(&self, region: &Region) -> Result<Vec<BackupVault>>;

    async fn vault(&self, region: &Region, name: &str) -> Result<BackupVault>;

    /// Makes a vault. One that Holdfast made before is adopted whatever the operation: vaults are for ever.
    async fn create_vault(&self, new: &NewVault, op: &Operation) -> Result<BackupVault>;

    /// Puts a lock. With `changeable_for_days` **this cannot be undone** after that many days: show the plan first.
    async fn lock_vault(&self, region: &Region, name: &str, lock: &LockRequest) -> Result<()>;

    /// Removes a lock in governance mode, or before its lock date.
    async fn unlock_vault(&self, region: &Region, name: &str) -> Result<()>;

    /// The access policy (JSON), if there is one.
    async fn vault_policy(&self, region: &Region, name: &str) -> Result<Option<String>>;

    /// Replaces the access policy: who may delete, and which accounts may copy into it.
    async fn put_vault_policy(&self, region: &Region, name: &str, policy: &str) -> Result<()>;

    /// Tags of a vault, plan or recovery point, by ARN.
    async fn backup_tags(&self, region: &Region, arn: &str) -> Result<Tags>;

    /// Adds or replaces tags of a vault, plan or recovery point.
    async fn add_backup_tags(&self, region: &Region, arn: &str, tags: &Tags) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_without_a_date_is_removable() {
        let now: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
        let lock = |d: Option<&str>| VaultLock {
            min_days: Some(7),
            max_days: None,
            lock_date: d.map(|d| d.parse().unwrap()),
        };
        assert_eq!(lock(None).mode(now), LockMode::Governance);
        assert_eq!(lock(Some("2026-11-24T00:00:00Z")).mode(now), LockMode::CompliancePending);
        assert_eq!(lock(Some("2026-11-20T00:00:00Z")).mode(now), LockMode::Compliance);
    }
}
