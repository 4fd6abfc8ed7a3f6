//! Vaults in other accounts: who gets there, and whether it is the account that the policy says.
//!
//! A vault with `account` is another account's, and is reached by its own `profile` and `role`. Whoever holds the
//! credentials (the command line) makes a [`Gate`] for each; the verbs [`enter`](Gate::enter) it when they need what
//! is behind. A gate that does not open is told of and stops nothing else: missing is not empty.
//!
//! Nothing of the database's own account is done through a gate, and the other way round.

use crate::error::{EngineError, Result};
use holdfast_core::managed::{Cloud, ErrorKind, Region, RegionSurvey, SurveyScope};
use holdfast_core::policy::{ManagedPlan, ManagedVault};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The way into the account of one vault.
#[derive(Debug, Clone)]
pub struct Gate {
    /// In the policy.
    pub vault: String,
    /// Twelve digits.
    pub account: String,
    pub region: Region,
    /// As `profile` and `role` of the vault say; else why there is nobody.
    pub cloud: Result<Arc<dyn Cloud>, String>,
}

impl Gate {
    /// Who works there, once AWS has said that it is the right account.
    ///
    /// # Errors
    /// The policy names no way; the way leads to another account; the provider's.
    pub async fn enter(&self) -> Result<Arc<dyn Cloud>> {
        let cloud = self.cloud.as_ref().map_err(|why| {
            EngineError::refused(
                format!("vault `{}` is in account {}: {why}", self.vault, self.account),
                format!("write `profile` or `role` into [vaults.{}]", self.vault),
            )
        })?;
        let me = cloud.identity().await?;
        if me.account != self.account {
            return Err(EngineError::refused(
                format!(
                    "the credentials for vault `{}` are of account {}, and the vault is in {}",
                    self.vault, me.account, self.account
                ),
                format!("check `account`, `profile` and `role` of [vaults.{}]", self.vault),
            ));
        }
        Ok(cloud.clone())
    }
}

/// The gates of a database's vaults.
#[derive(Debug, Clone, Default)]
pub struct Gates {
    /// The database's account, if it is known.
    pub own: Option<String>,
    by_vault: BTreeMap<String, Gate>,
}

impl Gates {
    pub fn new(own: Option<String>) -> Self {
        Gates { own, by_vault: BTreeMap::new() }
    }

    pub fn add(&mut self, gate: Gate) {
        self.by_vault.insert(gate.vault.clone(), gate);
    }

    /// `None`: the vault is in the database's account.
    pub fn of(&self, vault: &str) -> Option<&Gate> {
        self.by_vault.get(vault)
    }

    /// One into an account: of those that are open one of the region, else any; else what says why there is none.
    pub fn into_account(&self, account: &str, region: Option<&Region>) -> Option<&Gate> {
        let there = self.by_vault.values().filter(|g| g.account == account);
        there.min_by_key(|g| (g.cloud.is_err(), region.is_some_and(|r| *r != g.region)))
    }

    pub fn all(&self) -> impl Iterator<Item = &Gate> {
        self.by_vault.values()
    }
}

/// The vaults of other accounts that tiers and copies of a plan go to. `own` is the database's account: where it is
/// not known, a vault that names one is taken for another's.
pub fn foreign<'a>(
    vaults: &'a BTreeMap<String, ManagedVault>,
    plan: &'a ManagedPlan,
    own: Option<&'a str>,
) -> impl Iterator<Item = &'a ManagedVault> {
    let used = move |name: &String| {
        plan.copies.values().any(|c| c.to == *name)
            || plan.tiers.values().any(|t| t.vault.as_ref() == Some(name))
    };
    let other = move |v: &ManagedVault| v.account.as_deref().is_some_and(|a| own != Some(a));
    vaults.iter().filter(move |(name, v)| used(name) && other(v)).map(|(_, v)| v)
}

/// The account in an ARN.
pub fn account_of(arn: &str) -> Option<&str> {
    arn.split(':').nth(4).filter(|a| !a.is_empty())
}

/// What could not be seen in another account.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Unseen {
    pub account: String,
    pub region: Region,
    /// A vault of the policy that is there.
    pub vault: String,
    pub error: String,
}

impl std::fmt::Display for Unseen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "vault {} in account {}, {}: {}", self.vault, self.account, self.region, self.error)
    }
}

/// Looks at the region of a gate, whatever it has.
pub async fn survey(gate: &Gate, scope: &SurveyScope) -> Result<RegionSurvey, Unseen> {
    let unseen = |error: String| Unseen {
        account: gate.account.clone(),
        region: gate.region.clone(),
        vault: gate.vault.clone(),
        error,
    };
    let cloud = gate.enter().await.map_err(|e| unseen(e.to_string()))?;
    let mut found = cloud.survey(std::slice::from_ref(&gate.region), scope).await;
    match found.pop() {
        Some(s) => Ok(s),
        None => Err(unseen("the provider said nothing".into())),
    }
}

/// Whether a key, by what KMS said of it in another account, may not be used there.
pub(super) fn shuts_out(kind: &ErrorKind) -> bool {
    // For a key that one may not see KMS says either.
    matches!(kind, ErrorKind::Denied { .. } | ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(vault: &str, account: &str, region: &str) -> Gate {
        let cloud = Err("the policy names no way to get there".into());
        Gate { vault: vault.into(), account: account.into(), region: region.parse().unwrap(), cloud }
    }

    #[tokio::test]
    async fn a_gate_that_does_not_open_says_why_and_what_to_write() {
        let e = gate("safe", "210987654321", "us-east-1").enter().await.unwrap_err();
        assert!(e.to_string().contains("vault `safe` is in account 210987654321: the policy names no way"));
        assert!(e.hint().unwrap().contains("[vaults.safe]"));
    }

    #[test]
    fn the_gate_of_the_region_is_taken_where_there_is_one() {
        let mut all = Gates::new(None);
        all.add(gate("a", "210987654321", "us-west-2"));
        all.add(gate("b", "210987654321", "us-east-1"));
        let (home, third) = ("us-east-1".parse().unwrap(), "eu-west-1".parse().unwrap());
        let vault = |account, region| Some(all.into_account(account, region)?.vault.as_str());
        assert_eq!(vault("210987654321", Some(&home)), Some("b"));
        assert_eq!(vault("210987654321", Some(&third)), Some("a"));
        assert_eq!(vault("123456789012", None), None);
        assert_eq!(account_of("arn:aws:rds:us-east-1:123456789012:snapshot:s"), Some("123456789012"));
        assert_eq!(account_of("s"), None);
    }
}
