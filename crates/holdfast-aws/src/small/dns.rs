//! [`Dns`]: Route 53's REST of XML.

use super::{Answer, Ask, Service, element, escape, xml_error};
use crate::actions as act;
use crate::call::On;
use crate::cloud::AwsCloud;
use async_trait::async_trait;
use holdfast_core::managed::{Dns, DnsChange, DnsRecord, ErrorKind, Result};
use serde::Deserialize;

const ROUTE53: Service = Service { name: "route53", id: "Route 53", global: Some("us-east-1") };
const API: &str = "/2013-04-01";
const NAMESPACE: &str = "https://route53.amazonaws.com/doc/2013-04-01/";

#[derive(Debug, Deserialize)]
struct Listing {
    #[serde(rename = "ResourceRecordSets", default)]
    sets: Sets,
}

#[derive(Debug, Default, Deserialize)]
struct Sets {
    #[serde(rename = "ResourceRecordSet", default)]
    sets: Vec<Set>,
}

#[derive(Debug, Deserialize)]
struct Set {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "TTL", default)]
    ttl: Option<u32>,
    #[serde(rename = "SetIdentifier", default)]
    identifier: Option<String>,
    #[serde(rename = "AliasTarget", default)]
    alias: Option<Alias>,
    #[serde(rename = "ResourceRecords", default)]
    records: Records,
}

#[derive(Debug, Deserialize)]
struct Alias {}

#[derive(Debug, Default, Deserialize)]
struct Records {
    #[serde(rename = "ResourceRecord", default)]
    records: Vec<Record>,
}

#[derive(Debug, Deserialize)]
struct Record {
    #[serde(rename = "Value")]
    value: String,
}

/// Route 53 ends names with a dot and writes odd characters as octal escapes.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').replace("\\052", "*").to_ascii_lowercase()
}

fn xml(text: &str) -> std::borrow::Cow<'_, str> {
    quick_xml::escape::escape(text)
}

fn batch(action: &str, r: &DnsRecord) -> String {
    let values: String = r
        .values
        .iter()
        .map(|v| format!("<ResourceRecord><Value>{}</Value></ResourceRecord>", xml(v)))
        .collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ChangeResourceRecordSetsRequest xmlns=\"{NAMESPACE}\">\
         <ChangeBatch><Comment>holdfast</Comment><Changes><Change><Action>{action}</Action><ResourceRecordSet>\
         <Name>{}</Name><Type>{}</Type><TTL>{}</TTL><ResourceRecords>{values}</ResourceRecords>\
         </ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>",
        xml(&r.name),
        xml(&r.kind),
        r.ttl
    )
}

fn short_zone(zone: &str) -> String {
    escape(zone.trim_start_matches("/hostedzone/"))
}

impl AwsCloud {
    async fn route53(&self, on: On<'_>, method: &'static str, path: String, body: String) -> Result<Answer> {
        let ask = Ask { method, path, headers: vec![("content-type", "text/xml".into())], body };
        let _permit = self.permit(on).await?;
        self.signed.send(on, ROUTE53, &ask, xml_error).await
    }

    async fn change_record(&self, zone: &str, action: &str, record: &DnsRecord) -> Result<DnsChange> {
        let on = On { action: act::CHANGE_RECORDS, region: None, resource: &record.name };
        let answer = self
            .logged(on, None, async {
                let path = format!("{API}/hostedzone/{}/rrset/", short_zone(zone));
                let answer = self.route53(on, "POST", path, batch(action, record)).await?;
                let id = answer.request_id.clone();
                Ok((answer, id))
            })
            .await?;
        change(on, &answer.body)
    }
}

fn change(on: On<'_>, body: &[u8]) -> Result<DnsChange> {
    let id = element(body, "Id").ok_or_else(|| on.incomplete("id of the change"))?;
    Ok(DnsChange {
        id: id.trim_start_matches("/change/").to_string(),
        in_sync: element(body, "Status").as_deref() == Some("INSYNC"),
    })
}

#[async_trait]
impl Dns for AwsCloud {
    async fn record(&self, zone: &str, name: &str, kind: &str) -> Result<Option<DnsRecord>> {
        let on = On { action: act::LIST_RECORDS, region: None, resource: name };
        // Sorted from this name on; several of the same name and type are weighted ones.
        let path = format!(
            "{API}/hostedzone/{}/rrset?maxitems=2&name={}&type={}",
            short_zone(zone),
            escape(name),
            escape(kind)
        );
        let answer = self.route53(on, "GET", path, String::new()).await?;
        let text = String::from_utf8_lossy(&answer.body);
        let listing: Listing = quick_xml::de::from_str(&text)
            .map_err(|e| on.refuse(ErrorKind::Other, format!("the answer cannot be read: {e}")))?;
        let same = |s: &Set| plain(&s.name) == plain(name) && s.kind == kind;
        let Some(found) = listing.sets.sets.into_iter().find(same) else { return Ok(None) };
        if found.alias.is_some() || found.identifier.is_some() {
            let said = "the record is an alias or one of several with weights: it could not be put back";
            return Err(on.refuse(ErrorKind::InvalidRequest, said));
        }
        Ok(Some(DnsRecord {
            name: plain(&found.name),
            kind: found.kind,
            ttl: found.ttl.unwrap_or(300),
            values: found.records.records.into_iter().map(|r| r.value).collect(),
        }))
    }

    async fn upsert_record(&self, zone: &str, record: &DnsRecord) -> Result<DnsChange> {
        self.change_record(zone, "UPSERT", record).await
    }

    async fn delete_record(&self, zone: &str, record: &DnsRecord) -> Result<DnsChange> {
        self.change_record(zone, "DELETE", record).await
    }

    async fn dns_change(&self, id: &str) -> Result<DnsChange> {
        let on = On { action: act::GET_DNS_CHANGE, region: None, resource: id };
        let path = format!("{API}/change/{}", escape(id.trim_start_matches("/change/")));
        let answer = self.route53(on, "GET", path, String::new()).await?;
        change(on, &answer.body)
    }
}
