//! A CNAME record leads to another database.

use super::Pair;
use crate::error::Result;
use crate::managed::Managed;
use crate::managed::wait::Answer;
use holdfast_core::managed::{DnsChange, DnsRecord};

/// What somebody should know of the record before it is changed.
pub fn remarks(record: &str, was: Option<&DnsRecord>, pair: &Pair, warnings: &mut Vec<String>) {
    let old = &pair.old.host;
    let leads = |r: &DnsRecord| r.values.iter().any(|v| v.trim_end_matches('.') == old);
    match was {
        None => warnings.push(format!("`{record}` does not exist yet")),
        Some(r) if !old.is_empty() && !leads(r) => {
            let now = r.values.join(", ");
            warnings.push(format!("`{record}` leads to `{now}` now, not to `{old}`"));
        }
        Some(r) if r.ttl > 300 => warnings.push(format!(
            "`{record}` has a ttl of {} s: clients may use the old address that long; lower it before",
            r.ttl
        )),
        Some(_) => {}
    }
}

pub async fn point(m: &Managed, zone: &str, record: &str, ttl: u32, value: &str) -> Result<()> {
    let (name, kind) = (record.to_string(), "CNAME".to_string());
    let record = DnsRecord { name, kind, ttl, values: vec![value.to_string()] };
    let change = m.cloud.upsert_record(zone, &record).await?;
    spread(m, &record.name, change).await
}

/// Only where the record still is what the step wrote (`value`): what somebody else changed since stays.
pub async fn put_back(
    m: &Managed,
    zone: &str,
    record: &str,
    value: &str,
    was: Option<&DnsRecord>,
) -> Result<Option<String>> {
    let found = m.cloud.record(zone, record, "CNAME").await?;
    if found == was.cloned() {
        return Ok(None);
    }
    let Some(now) = found.filter(|r| r.values.iter().any(|v| v.trim_end_matches('.') == value)) else {
        return Ok(Some(format!(
            "record `{record}` was changed by somebody else meanwhile: it stays as it is"
        )));
    };
    let change = match was {
        Some(was) => m.cloud.upsert_record(zone, was).await?,
        None => m.cloud.delete_record(zone, &now).await?,
    };
    spread(m, record, change).await?;
    Ok(None)
}

/// Until every name server of the zone has it. What resolvers remember lasts for the ttl besides.
async fn spread(m: &Managed, record: &str, change: DnsChange) -> Result<()> {
    m.pace
        .until(&format!("record `{record}`"), &*m.monitor, async || {
            let done = change.in_sync || m.cloud.dns_change(&change.id).await?.in_sync;
            Ok(if done { Answer::Ready(()) } else { Answer::Going("spreading".into()) })
        })
        .await
}
