//! Fields of a JSON secret lead to another database. The version before stays in Secrets Manager.

use crate::error::{EngineError, Result};
use crate::managed::Managed;
use holdfast_core::Secret;
use holdfast_core::managed::{Operation, Region};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The secret as an object: what RDS itself and most applications keep there.
pub fn object(id: &str, value: &Secret) -> Result<Map<String, Value>> {
    match serde_json::from_slice(value.expose_bytes()) {
        Ok(Value::Object(fields)) => Ok(fields),
        // The parser's message would quote the secret.
        _ => Err(EngineError::refused(
            format!("secret `{id}` is no JSON object, so it has no fields to change"),
            "use a command step for it",
        )),
    }
}

pub async fn write(
    m: &Managed,
    region: &Region,
    id: &str,
    keys: &BTreeMap<String, String>,
    op: &Operation,
) -> Result<()> {
    let now = m.cloud.secret(region, id).await?;
    let mut fields = object(id, &now.value)?;
    for (key, text) in keys {
        // A port that was a number stays one.
        let number = fields.get(key).is_some_and(Value::is_number);
        let value = match text.parse::<u64>() {
            Ok(n) if number => Value::from(n),
            _ => Value::from(text.as_str()),
        };
        fields.insert(key.clone(), value);
    }
    put(m, region, id, fields, &now.value, op).await
}

/// Field by field, and only what still is what the step wrote: a password that was changed since stays.
pub async fn put_back(
    m: &Managed,
    region: &Region,
    id: &str,
    keys: &BTreeMap<String, String>,
    version: &str,
    op: &Operation,
) -> Result<Option<String>> {
    let now = m.cloud.secret(region, id).await?;
    let mut fields = object(id, &now.value)?;
    if now.version == version {
        return Ok(None);
    }
    let was = object(id, &m.cloud.secret_version(region, id, version).await?.value)?;
    let mut others = Vec::new();
    for (key, text) in keys {
        let (found, before) = (fields.get(key), was.get(key));
        if found == before {
            continue;
        }
        if !found.is_some_and(|v| same(v, text)) {
            others.push(key.as_str());
            continue;
        }
        match before {
            Some(value) => drop(fields.insert(key.clone(), value.clone())),
            None => drop(fields.remove(key)),
        }
    }
    put(m, region, id, fields, &now.value, op).await?;
    Ok((!others.is_empty()).then(|| {
        format!("{} of secret `{id}` was changed by somebody else meanwhile: it stays", others.join(", "))
    }))
}

async fn put(
    m: &Managed,
    region: &Region,
    id: &str,
    fields: Map<String, Value>,
    now: &Secret,
    op: &Operation,
) -> Result<()> {
    let text = Secret::new(Value::Object(fields).to_string());
    if text.expose_bytes() != now.expose_bytes() {
        m.cloud.put_secret(region, id, &text, op).await?;
    }
    Ok(())
}

fn same(value: &Value, text: &str) -> bool {
    match value {
        Value::String(s) => s == text,
        Value::Number(n) => text.parse::<u64>().is_ok_and(|t| n.as_u64() == Some(t)),
        _ => false,
    }
}
