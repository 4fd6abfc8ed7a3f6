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

    /// Adds who is missing and removes who is too many.
    pub(crate) async fn share(&self, at: &SnapshotRef, accounts: &[String]) -> Result<()> {
        let have = self.shares(at).await?;
        let add: Vec<String> = accounts.iter().filter(|a| !have.contains(a)).cloned().collect();
        let remove: Vec<String> = have.into_iter().filter(|a| !accounts.contains(a)).collect();
        if add.is_empty() && remove.is_empty() {
            return Ok(());
        }
        let some = |v: Vec<String>| (!v.is_empty()).then_some(v);
        let client = self.rds(&at.region);
        if at.engine.is_cluster() {
            let on = On::new(act::MODIFY_CLUSTER_SNAPSHOT_ATTRIBUTE, &at.region, &at.id);
            let call = client
                .modify_db_cluster_snapshot_attribute()
                .db_cluster_snapshot_identifier(&at.id)
                .attribute_name(RESTORE)
                .set_values_to_add(some(add))
                .set_values_to_remove(some(remove));
            self.change(on, None, call.send()).await.map(drop)
        } else {
            let on = On::new(act::MODIFY_SNAPSHOT_ATTRIBUTE, &at.region, &at.id);
            let call = client
                .modify_db_snapshot_attribute()
                .db_snapshot_identifier(&at.id)
                .attribute_name(RESTORE)
                .set_values_to_add(some(add))
                .set_values_to_remove(some(remove));
            self.change(on, None, call.send()).await.map(drop)
        }
    }
}
