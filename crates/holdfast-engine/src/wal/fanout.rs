//! One file for several vaults: what `wal push` does beside the first of them.

use crate::context::{Context, open_vault};
use holdfast_vault::{ClusterPath, Vault};
use std::time::Duration;

/// How long a vault is asked for what another one may know as well.
const ASK: Duration = Duration::from_secs(5);

/// The digest secret that another vault of the database has for this cluster, if one can be asked.
pub async fn digest_secret(ctx: &Context, not: &Vault, path: &ClusterPath) -> Option<String> {
    for v in ctx.policy.vaults_of(&ctx.db) {
        let ask = async {
            let vault = open_vault(v).await.ok()?;
            if vault.id() == not.id() {
                return None;
            }
            let cluster = vault.cluster(path.clone()).await.ok()?;
            Some(cluster.record().digest_secret.clone())
        };
        if let Ok(Some(secret)) = tokio::time::timeout(ASK, ask).await {
            return Some(secret);
        }
    }
    None
}
