//! Who else may restore from a snapshot.

use crate::actions as act;
use crate::call::On;
use crate::cloud::AwsCloud;
use holdfast_core::managed::{Result, SnapshotRef};

/// The attribute that holds accounts.
const RESTORE: &str = "restore";

impl AwsCloud {
    pub(crate) async fn shares(&self, at: &SnapshotRef) -> Result<Vec<String>> {
        let client = self.rds(&at.region);
        if at.engine.is_cluster() {
            let on = On::new(act::DESCRIBE_CLUSTER_SNAPSHOT_ATTRIBUTES, &at.region, &at.id);
            let call =
                client.describe_db_cluster_snapshot_attributes().db_cluster_snapshot_identifier(&at.id);
            let reply = self.read(on, call.send()).await?;
            let all = reply.db_cluster_snapshot_attributes_result();
            let all = all.map(|r| r.db_cluster_snapshot_attributes()).unwrap_or_default();
            let own = all.iter().filter(|a| a.attribute_name() == Some(RESTORE));
            Ok(own.flat_map(|a| a.attribute_values().to_vec()).collect())
        } else {
            let on = On::new(act::DESCRIBE_SNAPSHOT_ATTRIBUTES, &at.region, &at.id);
            let call = client.describe_db_snapshot_attributes().db_snapshot_identifier(&at.id);
            let reply = self.read(on, call.send()).await?;
            let all = reply.db_snapshot_attributes_result();
            let all = all.map(|r| r.db_snapshot_attributes()).unwrap_or_default();
            let own = all.iter().filter(|a| a.attribute_name() == Some(RESTORE));
            Ok(own.flat_map(|a| a.attribute_values().to_vec()).collect())
        }
    }

    /// Adds or removes one account, if it is not so already: the call names only what changes, so that shares of
    /// other people stay.
    pub(crate) async fn share(&self, at: &SnapshotRef, account: &str, shared: bool) -> Result<()> {
        if self.shares(at).await?.iter().any(|a| a == account) == shared {
            return Ok(());
        }
        let (add, remove) = (shared.then(|| vec![account.into()]), (!shared).then(|| vec![account.into()]));
        let client = self.rds(&at.region);
        if at.engine.is_cluster() {
            let on = On::new(act::MODIFY_CLUSTER_SNAPSHOT_ATTRIBUTE, &at.region, &at.id);
            let call = client
                .modify_db_cluster_snapshot_attribute()
                .db_cluster_snapshot_identifier(&at.id)
                .attribute_name(RESTORE)
                .set_values_to_add(add)
                .set_values_to_remove(remove);
            self.change(on, None, call.send()).await.map(drop)
        } else {
            let on = On::new(act::MODIFY_SNAPSHOT_ATTRIBUTE, &at.region, &at.id);
            let call = client
                .modify_db_snapshot_attribute()
                .db_snapshot_identifier(&at.id)
                .attribute_name(RESTORE)
                .set_values_to_add(add)
                .set_values_to_remove(remove);
            self.change(on, None, call.send()).await.map(drop)
        }
    }
}
