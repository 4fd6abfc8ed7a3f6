//! [`Keys`]: KMS's JSON.

use super::{Service, json_ask, json_error};
use crate::actions as act;
use crate::call::On;
use crate::cloud::AwsCloud;
use async_trait::async_trait;
use holdfast_core::managed::{ErrorKind, KeyState, Keys, KmsKey, Region, Result};
use serde::Deserialize;
use serde_json::json;

const KMS: Service = Service { name: "kms", id: "KMS", global: None };

#[derive(Debug, Deserialize)]
struct Reply {
    #[serde(rename = "KeyMetadata")]
    key: Metadata,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    #[serde(rename = "Arn")]
    arn: String,
    #[serde(rename = "KeyState", default)]
    state: String,
    #[serde(rename = "KeyManager", default)]
    manager: String,
    #[serde(rename = "MultiRegion", default)]
    multi_region: Option<bool>,
    /// Seconds, with a fraction.
    #[serde(rename = "DeletionDate", default)]
    deletion: Option<f64>,
}

fn state(word: &str) -> KeyState {
    match word {
        "Enabled" => KeyState::Enabled,
        "Disabled" => KeyState::Disabled,
        "PendingDeletion" | "PendingReplicaDeletion" => KeyState::PendingDeletion,
        "Unavailable" => KeyState::Unavailable,
        other => KeyState::Other(other.to_string()),
    }
}

#[async_trait]
impl Keys for AwsCloud {
    async fn key(&self, region: &Region, id: &str) -> Result<KmsKey> {
        let on = On::new(act::DESCRIBE_KEY, region, id);
        let ask = json_ask("TrentService.DescribeKey", &json!({"KeyId": id}));
        let _permit = self.permit(on).await?;
        let answer = self.signed.send(on, KMS, &ask, json_error).await?;
        let reply: Reply = serde_json::from_slice(&answer.body)
            .map_err(|e| on.refuse(ErrorKind::Other, format!("the answer cannot be read: {e}")))?;
        let date = |t: f64| jiff::Timestamp::from_second(t as i64).ok();
        Ok(KmsKey {
            region: region.clone(),
            arn: reply.key.arn,
            state: state(&reply.key.state),
            aws_managed: reply.key.manager == "AWS",
            multi_region: reply.key.multi_region.unwrap_or(false),
            deletion: reply.key.deletion.and_then(date),
        })
    }
}
