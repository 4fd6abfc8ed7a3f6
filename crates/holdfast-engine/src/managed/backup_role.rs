//! The role under which AWS Backup works: the vault's, or the one that AWS makes for everybody.

use crate::error::{EngineError, Result};
use holdfast_core::managed::{Cloud, Region};

/// What AWS Backup makes when its console is used first (developer guide, "Default service role").
const DEFAULT: &str = "role/service-role/AWSBackupDefaultServiceRole";

/// That role of an account.
pub fn default_role(partition: &str, account: &str) -> String {
    format!("arn:{partition}:iam::{account}:{DEFAULT}")
}

/// `given`, or the default role of the account that the vault is in.
///
/// # Errors
/// There is no such vault, or it cannot be seen.
pub async fn role(cloud: &dyn Cloud, region: &Region, vault: &str, given: Option<&str>) -> Result<String> {
    if let Some(role) = given {
        return Ok(role.to_string());
    }
    let found = cloud.vault(region, vault).await.map_err(|e| match e.is_not_found() {
        true => EngineError::not_found(
            format!("{region} has no vault `{vault}` of AWS Backup"),
            "make it, or correct the `url` of the vault in the policy",
        ),
        false => e.into(),
    })?;
    // arn:aws:backup:REGION:ACCOUNT:backup-vault:NAME
    default_of(&found.arn).ok_or_else(|| {
        EngineError::failed(
            format!("the ARN of vault `{vault}`, `{}`, does not say its account", found.arn),
            "set `backup-role` of the vault in the policy",
        )
    })
}

fn default_of(arn: &str) -> Option<String> {
    let mut parts = arn.split(':').skip(1);
    let partition = parts.next()?;
    let account = parts.nth(2).filter(|a| a.len() == 12)?;
    Some(default_role(partition, account))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_role_is_of_the_vaults_account_and_partition() {
        assert_eq!(
            default_of("arn:aws-cn:backup:cn-north-1:123456789012:backup-vault:main").unwrap(),
            "arn:aws-cn:iam::123456789012:role/service-role/AWSBackupDefaultServiceRole"
        );
        assert_eq!(default_of("arn:aws:backup"), None);
    }
}
