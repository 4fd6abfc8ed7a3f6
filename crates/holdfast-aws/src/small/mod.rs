//! Services of which Holdfast calls three or four actions, by hand on `aws-sigv4`: [`Signed`].
//!
//! Their SDK crates are 23,000 (STS, which `aws-config` needs anyway) to over a million lines (EC2); what is needed of
//! them is a signed POST and a few fields of the answer (decision 35).
//!
//! Same credentials, endpoints, certificates, time-outs and number of attempts as the SDK's clients: they come from
//! the same configuration. Credentials are kept until five minutes before they expire.

mod dns;
mod ec2;
mod keys;
mod presign;
mod secrets;

use crate::call::On;
use crate::connect::Ready;
use crate::error;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use aws_types::SdkConfig;
use aws_types::service_config::ServiceConfigKey;
use holdfast_core::managed::{ErrorKind, ManagedError, Result};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

/// As for the SDK's clients.
const ATTEMPTS_DEFAULT: u32 = 6;
const ATTEMPT_LIMIT: Duration = Duration::from_secs(30);
const BACKOFF_MAX: Duration = Duration::from_secs(20);
/// A credential that ends within this is renewed first.
const EXPIRY_MARGIN: Duration = Duration::from_secs(300);
/// Answers are a few KiB; what is larger is none.
const BODY_MAX: usize = 8 << 20;

/// A service called by hand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    /// The name in its host and its signature: `ec2`.
    pub(crate) name: &'static str,
    /// The name in configuration files and `AWS_ENDPOINT_URL_…`: `Secrets Manager`.
    pub(crate) id: &'static str,
    /// One host for all regions, signed for this one.
    pub(crate) global: Option<&'static str>,
}

/// A request before it is signed.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    /// Path and query, escaped.
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

/// An answer of success.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
    pub(crate) request_id: Option<String>,
}

/// Signs and sends.
pub(crate) struct Signed {
    sdk: SdkConfig,
    http: SharedHttpConnector,
    known: Mutex<Option<Credentials>>,
}

/// The code and text of an error's body.
type ReadError = fn(&[u8]) -> (String, String);

impl Signed {
    pub(crate) fn new(ready: &Ready) -> Signed {
        Signed { sdk: ready.sdk.clone(), http: ready.http.clone(), known: Mutex::new(None) }
    }

    pub(crate) async fn credentials(&self, on: On<'_>) -> Result<Credentials> {
        let fresh = |c: &Credentials| c.expiry().is_none_or(|e| e > SystemTime::now() + EXPIRY_MARGIN);
        let kept = self.known.lock().unwrap_or_else(|e| e.into_inner()).clone();
        if let Some(credentials) = kept.filter(fresh) {
            return Ok(credentials);
        }
        let refuse = |said: String| on.refuse(ErrorKind::NoCredentials, said);
        let provider =
            self.sdk.credentials_provider().ok_or_else(|| refuse("there is no provider".into()))?;
        let found = provider.provide_credentials().await.map_err(|e| refuse(error::chain(Some(&e))))?;
        *self.known.lock().unwrap_or_else(|e| e.into_inner()) = Some(found.clone());
        Ok(found)
    }

    /// `https://service.region.amazonaws.com`, or what the user's configuration says.
    pub(crate) fn endpoint(&self, service: Service, region: &str) -> String {
        let env = format!("AWS_ENDPOINT_URL_{}", service.id.to_ascii_uppercase().replace(' ', "_"));
        let from_files = || {
            let key = ServiceConfigKey::builder()
                .service_id(service.id)
                .env("AWS_ENDPOINT_URL")
                .profile("endpoint_url")
                .build()
                .ok()?;
            self.sdk.service_config()?.load_config(key)
        };
        let own = std::env::var(env).ok().filter(|u| !u.is_empty());
        if let Some(url) = own.or_else(from_files).or_else(|| self.sdk.endpoint_url().map(str::to_string)) {
            return url.trim_end_matches('/').to_string();
        }
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let fips = if self.sdk.use_fips() == Some(true) { "-fips" } else { "" };
        match service.global {
            // Route 53 endpoints and quotas (AWS General Reference): GovCloud has one host, FIPS or not.
            Some(_) if region.starts_with("us-gov-") => format!("https://{}.us-gov.{suffix}", service.name),
            Some(_) => format!("https://{}{fips}.{suffix}", service.name),
            None => format!("https://{}{fips}.{region}.{suffix}", service.name),
        }
    }

    /// Sends until there is an answer that another try would not change. A global service is that of the partition.
    pub(crate) async fn send(
        &self,
        on: On<'_>,
        service: Service,
        ask: &Ask,
        read_error: ReadError,
    ) -> Result<Answer> {
        let home = self.sdk.region().map(|r| r.as_ref()).unwrap_or_default();
        let region = match service.global {
            Some(usual) => global_region(home, usual),
            None => on.region.map_or("us-east-1", |r| r.as_str()),
        };
        let region = region.to_string();
        let attempts = self.sdk.retry_config().map_or(ATTEMPTS_DEFAULT, |r| r.max_attempts()).max(1);
        let mut pause = Duration::from_secs(1);
        let mut attempt = 1;
        loop {
            let again = match self.once(on, service, &region, ask, read_error).await {
                Err(e) if attempt < attempts && worth_another_try(&e) => e,
                done => return done,
            };
            drop(again);
            attempt += 1;
            tokio::time::sleep(pause.mul_f64(jitter())).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    async fn once(
        &self,
        on: On<'_>,
        service: Service,
        region: &str,
        ask: &Ask,
        read_error: ReadError,
    ) -> Result<Answer> {
        let invalid = |e: &dyn std::fmt::Display| on.refuse(ErrorKind::InvalidRequest, e.to_string());
        let identity = self.credentials(on).await?.into();
        let url = format!("{}{}", self.endpoint(service, region), ask.path);
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(service.name)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|e| invalid(&e))?
            .into();
        let headers = ask.headers.iter().map(|(k, v)| (*k, v.as_str()));
        let signable =
            SignableRequest::new(ask.method, &url, headers, SignableBody::Bytes(ask.body.as_bytes()))
                .map_err(|e| invalid(&e))?;
        let (instructions, _) = sign(signable, &params).map_err(|e| invalid(&e))?.into_parts();
        let mut builder = http::Request::builder().method(ask.method).uri(&url);
        for (name, value) in &ask.headers {
            builder = builder.header(*name, value);
        }
        let mut request = builder.body(SdkBody::from(ask.body.as_str())).map_err(|e| invalid(&e))?;
        instructions.apply_to_request_http1x(&mut request);
        let request = HttpRequest::try_from(request).map_err(|e| invalid(&e))?;
        let answered = tokio::time::timeout(ATTEMPT_LIMIT, async {
            let reply = self.http.call(request).await.map_err(|e| unanswered(on, &e))?;
            let status = reply.status().as_u16();
            let id = ["x-amzn-requestid", "x-amz-request-id"].iter().find_map(|h| reply.headers().get(*h));
            let id = id.map(str::to_string);
            let cut =
                |e: &dyn std::fmt::Display| on.refuse(ErrorKind::Network, format!("the answer was cut: {e}"));
            let body = ByteStream::new(reply.into_body()).collect().await.map_err(|e| cut(&e))?.into_bytes();
            Ok((status, id, body))
        });
        let (status, request_id, body) = match answered.await {
            Ok(done) => done?,
            Err(_) => return Err(on.refuse(ErrorKind::Network, "no answer in 30 s")),
        };
        if body.len() > BODY_MAX {
            return Err(on.refuse(ErrorKind::Other, "the answer is too long to be one"));
        }
        if (200..300).contains(&status) {
            return Ok(Answer { body: body.to_vec(), request_id });
        }
        let (code, message) = read_error(&body);
        let said = if message.is_empty() { code.clone() } else { format!("{code}: {message}") };
        let mut e = on.refuse(error::kind(on.action.0, &code, &message, status), said);
        e.transient = status >= 500;
        e.request_id = request_id;
        Err(e)
    }
}

fn unanswered(on: On<'_>, e: &ConnectorError) -> ManagedError {
    let said = error::chain(Some(e));
    on.refuse(error::network_kind(&said), said)
}

/// Where requests to a global service are signed for: in each partition another region (AWS General Reference, "Route
/// 53 endpoints").
fn global_region<'a>(home: &str, usual: &'a str) -> &'a str {
    match home {
        h if h.starts_with("us-gov-") => "us-gov-west-1",
        h if h.starts_with("cn-") => "cn-northwest-1",
        _ => usual,
    }
}

/// Like the SDK's standard mode: throttled, failed at the provider, or cut.
fn worth_another_try(e: &ManagedError) -> bool {
    e.transient || matches!(e.kind, ErrorKind::Throttled | ErrorKind::Network)
}

/// Between a half and one, from the clock: enough to part two callers.
fn jitter() -> f64 {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    0.5 + f64::from(nanos % 1000) / 2000.0
}

/// Escapes one value of a form or a path.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// A body as `application/x-www-form-urlencoded`.
pub(crate) fn form(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect::<Vec<_>>().join("&")
}

/// The text of the first element of this name, wherever it is.
pub(crate) fn element(body: &[u8], name: &str) -> Option<String> {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_reader(body);
    let mut inside = false;
    let mut text = String::new();
    loop {
        match reader.read_event().ok()? {
            Event::Start(e) if e.local_name().as_ref() == name.as_bytes() => inside = true,
            Event::End(e) if inside && e.local_name().as_ref() == name.as_bytes() => return Some(text),
            Event::Text(t) if inside => text.push_str(&t.decode().ok()?),
            Event::GeneralRef(r) if inside => {
                let entity = r.decode().ok()?;
                match r.resolve_char_ref().ok()? {
                    Some(c) => text.push(c),
                    None => text.push_str(quick_xml::escape::resolve_predefined_entity(&entity)?),
                }
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// The code and message of an XML error.
pub(crate) fn xml_error(body: &[u8]) -> (String, String) {
    (element(body, "Code").unwrap_or_default(), element(body, "Message").unwrap_or_default())
}

/// The code and message of a JSON error: `{"__type": "prefix#Code", "message": …}`.
pub(crate) fn json_error(body: &[u8]) -> (String, String) {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text =
        |keys: [&str; 2]| keys.iter().find_map(|k| value.get(*k)?.as_str()).unwrap_or_default().to_string();
    let code = text(["__type", "code"]);
    (code.rsplit('#').next().unwrap_or_default().to_string(), text(["message", "Message"]))
}

/// A call of a JSON service.
pub(crate) fn json_ask(target: &str, body: &serde_json::Value) -> Ask {
    Ask {
        method: "POST",
        path: "/".into(),
        headers: vec![
            ("content-type", "application/x-amz-json-1.1".into()),
            ("x-amz-target", target.to_string()),
        ],
        body: body.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_read() {
        let ec2 = b"<?xml version=\"1.0\"?><Response><Errors><Error><Code>InvalidGroup.NotFound</Code>\
                    <Message>no &lt;sg&gt; &amp; no vpc</Message></Error></Errors></Response>";
        assert_eq!(xml_error(ec2), ("InvalidGroup.NotFound".into(), "no <sg> & no vpc".into()));
        let json = b"{\"__type\":\"com.amazonaws.kms#NotFoundException\",\"message\":\"gone\"}";
        assert_eq!(json_error(json), ("NotFoundException".into(), "gone".into()));
        assert_eq!(json_error(b"<html>"), (String::new(), String::new()));
        assert_eq!(xml_error(b"<Code>unclosed"), (String::new(), String::new()));
    }

    #[test]
    fn forms_are_escaped() {
        assert_eq!(form(&[("a b".into(), "c&d/ü".into())]), "a%20b=c%26d%2F%C3%BC");
    }
}
