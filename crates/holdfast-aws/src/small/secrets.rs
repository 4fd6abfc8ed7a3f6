//! [`Secrets`]: Secrets Manager's JSON.

use super::{Answer, Service, json_ask, json_error};
use crate::actions as act;
use crate::call::On;
use crate::cloud::AwsCloud;
use crate::convert::token;
use async_trait::async_trait;
use holdfast_core::Secret;
use holdfast_core::managed::{ErrorKind, Operation, Region, Result, SecretFacts, SecretValue, Secrets};
use serde_json::{Value, json};

const SECRETS: Service = Service { name: "secretsmanager", id: "Secrets Manager", global: None };

fn read(on: On<'_>, answer: &Answer) -> Result<Value> {
    // The text of the error would repeat the answer, and with it the secret.
    serde_json::from_slice(&answer.body).map_err(|_| on.refuse(ErrorKind::Other, "the answer is not JSON"))
}

fn text(on: On<'_>, value: &Value, key: &str) -> Result<String> {
    value.get(key).and_then(Value::as_str).map(str::to_string).ok_or_else(|| on.incomplete(key))
}

impl AwsCloud {
    async fn secrets_manager(&self, on: On<'_>, verb: &str, body: Value) -> Result<Answer> {
        let ask = json_ask(&format!("secretsmanager.{verb}"), &body);
        let _permit = self.permit(on).await?;
        self.signed.send(on, SECRETS, &ask, json_error).await
    }

    async fn secret_of(&self, region: &Region, id: &str, version: Option<&str>) -> Result<SecretValue> {
        let on = On::new(act::GET_SECRET, region, id);
        let mut body = json!({"SecretId": id});
        if let (Some(v), Some(map)) = (version, body.as_object_mut()) {
            map.insert("VersionId".into(), v.into());
        }
        let value = read(on, &self.secrets_manager(on, "GetSecretValue", body).await?)?;
        Ok(SecretValue {
            arn: text(on, &value, "ARN")?,
            version: text(on, &value, "VersionId")?,
            // Binary secrets are nobody's database password.
            value: Secret::new(text(on, &value, "SecretString")?),
        })
    }
}

#[async_trait]
impl Secrets for AwsCloud {
    async fn secret(&self, region: &Region, id: &str) -> Result<SecretValue> {
        self.secret_of(region, id, None).await
    }

    async fn secret_version(&self, region: &Region, id: &str, version: &str) -> Result<SecretValue> {
        self.secret_of(region, id, Some(version)).await
    }

    async fn put_secret(
        &self,
        region: &Region,
        id: &str,
        value: &Secret,
        op: &Operation,
    ) -> Result<SecretFacts> {
        let on = On::new(act::PUT_SECRET, region, id);
        let plain = String::from_utf8(value.expose_bytes().to_vec())
            .map_err(|_| on.refuse(ErrorKind::InvalidRequest, "the value is not text"))?;
        let answer = self
            .logged(on, Some(op), async {
                // With the same token and the same value Secrets Manager does nothing and says yes.
                let body = json!({"SecretId": id, "SecretString": plain, "ClientRequestToken": token(op)});
                let answer = self.secrets_manager(on, "PutSecretValue", body).await?;
                let id = answer.request_id.clone();
                Ok((answer, id))
            })
            .await?;
        let value = read(on, &answer)?;
        Ok(SecretFacts { arn: text(on, &value, "ARN")?, version: text(on, &value, "VersionId")? })
    }
}
