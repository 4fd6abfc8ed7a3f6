//! A CNAME record leads to another database.

use crate::error::Result;
use crate::managed::Managed;
use crate::managed::wait::Answer;
use holdfast_core::managed::{DnsChange, DnsRecord};

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
) -> Result<()> {
    let now = m.cloud.record(zone, record, "CNAME").await?;
    let Some(now) = now.filter(|r| r.values.iter().any(|v| v.trim_end_matches('.') == value)) else {
        return Ok(());
    };
    let change = match was {
        Some(was) => m.cloud.upsert_record(zone, was).await?,
        None => m.cloud.delete_record(zone, &now).await?,
    };
    spread(m, record, change).await
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
