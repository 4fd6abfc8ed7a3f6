//! The answers of S3 that `object_store` does not ask for: bytes in, values out.
//!
//! A store may be anybody's gateway: what is missing is taken as absent, what is malformed gives an
//! error with a reason, and nothing panics.

use jiff::Timestamp;
use serde::Deserialize;

/// Why an answer means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store's answer cannot be understood: {0}")]
pub struct BadAnswer(String);

fn bad(e: impl std::fmt::Display) -> BadAnswer {
    BadAnswer(e.to_string())
}

/// Reads an answer whose outermost element has this name. Anything else that is well-formed (an error with
/// status 200, a proxy's page, a listing of another kind) would else look like an answer with nothing in it.
fn parse<'a, T: Deserialize<'a>>(text: &'a str, root: &str) -> Result<T, BadAnswer> {
    let mut reader = quick_xml::Reader::from_str(text);
    loop {
        match reader.read_event().map_err(bad)? {
            quick_xml::events::Event::Start(e) | quick_xml::events::Event::Empty(e) => {
                if e.local_name().as_ref() != root.as_bytes() {
                    return Err(bad(format_args!("it is no {root}")));
                }
                return quick_xml::de::from_str(text).map_err(bad);
            }
            quick_xml::events::Event::Eof => return Err(bad("it is empty")),
            _ => {}
        }
    }
}

fn time(text: &str) -> Result<Timestamp, BadAnswer> {
    text.trim().parse().map_err(|_| bad(format_args!("`{text}` is not a time")))
}

/// A stored version of an object, or a delete marker (which has no size).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub key: String,
    /// `null` for what was written while the bucket kept no versions.
    pub id: String,
    pub modified: Timestamp,
    pub size: u64,
    /// It came in parts. Such a version stands where its upload *began*, so somebody who may only write could
    /// begin one, wait for the object, and end it: the forgery would look older than the object (Amazon S3
    /// user guide, "Concurrent multipart upload operations"). All but packs is written in one piece.
    pub parts: bool,
}

/// One page of a listing. Versions of a key come newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub versions: Vec<Version>,
    pub markers: Vec<Version>,
    pub folders: Vec<String>,
    /// Where the next page begins: key, and version within it.
    pub next: Option<(String, Option<String>)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listing {
    #[serde(default)]
    is_truncated: String,
    next_key_marker: Option<String>,
    next_version_id_marker: Option<String>,
    #[serde(default, rename = "Version")]
    versions: Vec<Entry>,
    #[serde(default, rename = "DeleteMarker")]
    markers: Vec<Entry>,
    #[serde(default)]
    common_prefixes: Vec<Folder>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    key: String,
    version_id: Option<String>,
    last_modified: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default, rename = "ETag")]
    etag: Option<String>,
}

/// `…-N`: the tag of an object of N parts.
fn of_parts(etag: &str) -> bool {
    let tag = etag.trim().trim_matches('"');
    tag.rsplit_once('-').is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Folder {
    prefix: String,
}

/// Reads an answer to `GET ?versions`.
pub fn page(text: &str) -> Result<Page, BadAnswer> {
    let l: Listing = parse(text, "ListVersionsResult")?;
    let truncated = match l.is_truncated.trim() {
        "true" => true,
        "false" => false,
        // To take it for the end would be to overlook objects.
        _ => return Err(bad("the listing does not say whether it goes on")),
    };
    let read = |e: Entry| {
        Ok(Version {
            modified: time(&e.last_modified)?,
            key: e.key,
            id: e.version_id.filter(|id| !id.is_empty()).unwrap_or_else(|| "null".into()),
            size: e.size.unwrap_or(0),
            parts: e.etag.as_deref().is_some_and(of_parts),
        })
    };
    let next = match (truncated, l.next_key_marker) {
        (false, _) => None,
        (true, Some(key)) if !key.is_empty() => {
            Some((key, l.next_version_id_marker.filter(|id| !id.is_empty())))
        }
        // To take this for the end would be to overlook objects.
        (true, _) => return Err(bad("the listing goes on, and does not say where")),
    };
    Ok(Page {
        versions: l.versions.into_iter().map(read).collect::<Result<_, _>>()?,
        markers: l.markers.into_iter().map(read).collect::<Result<_, _>>()?,
        folders: l.common_prefixes.into_iter().map(|f| f.prefix).collect(),
        next,
    })
}

/// Whether a bucket keeps what is overwritten and deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versioning {
    Never,
    Enabled,
    /// No more: what is written now replaces what was written since.
    Suspended,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Status {
    status: Option<String>,
}

/// Reads an answer to `GET ?versioning`.
pub fn versioning(text: &str) -> Result<Versioning, BadAnswer> {
    let s: Status = parse(text, "VersioningConfiguration")?;
    Ok(match s.status.as_deref().map(str::trim) {
        Some("Enabled") => Versioning::Enabled,
        Some("Suspended") => Versioning::Suspended,
        None | Some("") => Versioning::Never,
        Some(other) => return Err(bad(format_args!("versioning is `{other}`"))),
    })
}

/// Reads an answer to `GET ?legal-hold`.
pub fn legal_hold(text: &str) -> Result<bool, BadAnswer> {
    let s: Status = parse(text, "LegalHold")?;
    Ok(s.status.is_some_and(|s| s.trim().eq_ignore_ascii_case("ON")))
}

/// Who may shorten a retention: with the right to, somebody; nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockMode {
    Governance,
    Compliance,
}

impl LockMode {
    /// As S3 writes it.
    pub fn word(self) -> &'static str {
        match self {
            LockMode::Governance => "GOVERNANCE",
            LockMode::Compliance => "COMPLIANCE",
        }
    }

    fn read(text: &str) -> Result<Self, BadAnswer> {
        match text.trim() {
            "GOVERNANCE" => Ok(LockMode::Governance),
            "COMPLIANCE" => Ok(LockMode::Compliance),
            other => Err(bad(format_args!("`{other}` is not a mode of locks"))),
        }
    }
}

/// Until when a version may not be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub mode: LockMode,
    pub until: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RetentionXml {
    mode: Option<String>,
    retain_until_date: Option<String>,
}

/// Reads an answer to `GET ?retention`.
pub fn retention(text: &str) -> Result<Option<Retention>, BadAnswer> {
    let r: RetentionXml = parse(text, "Retention")?;
    match (r.mode, r.retain_until_date) {
        (Some(mode), Some(until)) => {
            Ok(Some(Retention { mode: LockMode::read(&mode)?, until: time(&until)? }))
        }
        (None, None) => Ok(None),
        _ => Err(bad("a retention without a mode or a date")),
    }
}

/// The body of `PUT ?retention`.
pub fn write_retention(r: Retention) -> String {
    format!(
        "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{}</Mode>\
         <RetainUntilDate>{}</RetainUntilDate></Retention>",
        r.mode.word(),
        stamp(r.until)
    )
}

/// The body of `POST ?restore`.
pub fn write_restore_request(tier: &str, days: u16) -> String {
    format!(
        "<RestoreRequest xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Days>{days}</Days>\
         <GlacierJobParameters><Tier>{tier}</Tier></GlacierJobParameters></RestoreRequest>"
    )
}

/// A time as S3 wants it, whole seconds, rounded up: never earlier than was meant.
pub fn stamp(t: Timestamp) -> String {
    let second = t.as_second() + i64::from(t.subsec_nanosecond() > 0);
    Timestamp::from_second(second).unwrap_or(t).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What a bucket does about locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockConfiguration {
    pub enabled: bool,
    /// What every new object gets that brings no retention of its own.
    pub default: Option<(LockMode, u32)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LockXml {
    object_lock_enabled: Option<String>,
    rule: Option<LockRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LockRule {
    default_retention: Option<DefaultRetention>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DefaultRetention {
    mode: Option<String>,
    days: Option<u32>,
    years: Option<u32>,
}

/// Reads an answer to `GET ?object-lock`.
pub fn lock_configuration(text: &str) -> Result<LockConfiguration, BadAnswer> {
    let l: LockXml = parse(text, "ObjectLockConfiguration")?;
    let default = match l.rule.and_then(|r| r.default_retention) {
        Some(DefaultRetention { mode: Some(mode), days, years }) => {
            let days = days.unwrap_or(0).saturating_add(years.unwrap_or(0).saturating_mul(365));
            Some((LockMode::read(&mode)?, days))
        }
        _ => None,
    };
    Ok(LockConfiguration { enabled: l.object_lock_enabled.is_some_and(|s| s.trim() == "Enabled"), default })
}

/// A rule that does something to objects by their age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleRule {
    pub id: String,
    /// Objects below this key.
    pub prefix: String,
    pub enabled: bool,
    /// Only objects with certain tags; ours have none.
    pub tagged: bool,
    /// What it does that a vault does not survive, in words.
    pub harm: Vec<&'static str>,
}

#[derive(Deserialize)]
struct LifecycleXml {
    #[serde(default, rename = "Rule")]
    rules: Vec<RuleXml>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RuleXml {
    #[serde(rename = "ID")]
    id: Option<String>,
    prefix: Option<String>,
    status: Option<String>,
    filter: Option<FilterXml>,
    expiration: Option<ExpirationXml>,
    noncurrent_version_expiration: Option<Anything>,
    #[serde(default, rename = "Transition")]
    transitions: Vec<Anything>,
    #[serde(default, rename = "NoncurrentVersionTransition")]
    noncurrent_transitions: Vec<Anything>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FilterXml {
    prefix: Option<String>,
    tag: Option<Anything>,
    and: Option<AndXml>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AndXml {
    prefix: Option<String>,
    #[serde(default, rename = "Tag")]
    tags: Vec<Anything>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ExpirationXml {
    days: Option<String>,
    date: Option<String>,
}

/// Its being there is all that counts.
#[derive(Deserialize)]
struct Anything {}

/// Reads an answer to `GET ?lifecycle`.
pub fn lifecycle(text: &str) -> Result<Vec<LifecycleRule>, BadAnswer> {
    let l: LifecycleXml = parse(text, "LifecycleConfiguration")?;
    let rule = |r: RuleXml| {
        let (and, filter) = match r.filter {
            Some(f) => (f.and, Some((f.prefix, f.tag.is_some()))),
            None => (None, None),
        };
        let tagged =
            filter.as_ref().is_some_and(|(_, tag)| *tag) || and.as_ref().is_some_and(|a| !a.tags.is_empty());
        let prefix = r
            .prefix
            .or_else(|| filter.and_then(|(p, _)| p))
            .or_else(|| and.and_then(|a| a.prefix))
            .unwrap_or_default();
        let mut harm = Vec::new();
        // Without days and date it removes delete markers below which nothing is left.
        if r.expiration.is_some_and(|e| e.days.is_some() || e.date.is_some()) {
            harm.push("expires objects");
        }
        if r.noncurrent_version_expiration.is_some() {
            harm.push("removes noncurrent versions, and so the originals of what was overwritten or hidden");
        }
        if !r.transitions.is_empty() || !r.noncurrent_transitions.is_empty() {
            harm.push("moves objects to another storage class");
        }
        LifecycleRule {
            id: r.id.unwrap_or_default(),
            prefix,
            enabled: r.status.is_some_and(|s| s.trim() == "Enabled"),
            tagged,
            harm,
        }
    };
    Ok(l.rules.into_iter().map(rule).collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorXml {
    code: Option<String>,
    message: Option<String>,
}

/// Code and message of a refusal, as far as there are any.
pub fn error(text: &str) -> (String, String) {
    match parse::<ErrorXml>(text, "Error") {
        Ok(e) => (e.code.unwrap_or_default(), e.message.unwrap_or_default()),
        Err(_) => (String::new(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>v/</Prefix>
<KeyMarker/><VersionIdMarker/><MaxKeys>1000</MaxKeys><IsTruncated>true</IsTruncated>
<NextKeyMarker>v/b</NextKeyMarker><NextVersionIdMarker>7</NextVersionIdMarker>
<DeleteMarker><Key>v/a</Key><VersionId>3</VersionId><IsLatest>true</IsLatest>
<LastModified>2026-11-21T09:35:12.123Z</LastModified><Owner><ID>x</ID></Owner></DeleteMarker>
<Version><Key>v/a</Key><VersionId>2</VersionId><IsLatest>false</IsLatest><LastModified>2026-11-21T09:35:11.000Z</LastModified>
<ETag>&quot;e&quot;</ETag><Size>12</Size><StorageClass>STANDARD</StorageClass></Version>
<DeleteMarker><Key>v/b</Key><VersionId>8</VersionId><IsLatest>true</IsLatest>
<LastModified>2026-11-21T09:35:12Z</LastModified></DeleteMarker>
<Version><Key>v/a&amp;b</Key><LastModified>2026-11-21T09:35:11.000Z</LastModified><Size>5000000000</Size></Version>
<CommonPrefixes><Prefix>v/c/</Prefix></CommonPrefixes></ListVersionsResult>"#;

    #[test]
    fn a_page_of_versions() {
        let p = page(PAGE).unwrap();
        let shown = |v: &Version| (v.key.clone(), v.id.clone(), v.size);
        assert_eq!(
            p.versions.iter().map(shown).collect::<Vec<_>>(),
            [("v/a".into(), "2".into(), 12), ("v/a&b".into(), "null".into(), 5_000_000_000)]
        );
        assert_eq!(
            p.markers.iter().map(shown).collect::<Vec<_>>(),
            [("v/a".into(), "3".into(), 0), ("v/b".into(), "8".into(), 0)]
        );
        assert_eq!(p.folders, ["v/c/"]);
        assert_eq!(p.next, Some(("v/b".into(), Some("7".into()))));
        // A page that goes on without saying where must not look like the last.
        assert!(page(&PAGE.replace("<NextKeyMarker>v/b</NextKeyMarker>", "")).is_err());
        assert!(page(&PAGE.replace("2026-11-21T09:35:12Z", "yesterday")).is_err());
        let empty = "<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>";
        assert_eq!(page(empty).unwrap(), Page::default());
        // What could pass for an answer with nothing in it.
        for other in [
            "",
            "<ListVersionsResult/>",
            "<Error><Code>InternalError</Code></Error>",
            "<html><body>please log in</body></html>",
            "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
        ] {
            assert!(page(other).is_err(), "{other}");
        }
        assert!(versioning("<html/>").is_err() && retention("<Error/>").is_err());
        assert!(of_parts("\"d41d8cd98f00b204e9800998ecf8427e-2\"") && !of_parts("\"d41d8cd9\""));
    }

    #[test]
    fn locks_and_holds() {
        let r = Retention { mode: LockMode::Compliance, until: "2026-11-21T09:35:12.5Z".parse().unwrap() };
        let text = write_retention(r);
        assert!(text.contains("<RetainUntilDate>2026-11-21T09:35:13Z<"), "never earlier: {text}");
        let back = retention(&text).unwrap().unwrap();
        assert_eq!((back.mode, back.until), (r.mode, "2026-11-21T09:35:13Z".parse().unwrap()));
        assert_eq!(retention("<Retention/>").unwrap(), None);
        assert!(retention("<Retention><Mode>GOVERNANCE</Mode></Retention>").is_err());
        assert!(
            retention(
                "<Retention><Mode>X</Mode><RetainUntilDate>2026-11-21T09:35:13Z</RetainUntilDate></Retention>"
            )
            .is_err()
        );
        assert!(legal_hold("<LegalHold><Status>ON</Status></LegalHold>").unwrap());
        assert!(!legal_hold("<LegalHold><Status>OFF</Status></LegalHold>").unwrap());
        let c = lock_configuration(
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
             <Mode>GOVERNANCE</Mode><Years>2</Years></DefaultRetention></Rule></ObjectLockConfiguration>",
        );
        let expected = LockConfiguration { enabled: true, default: Some((LockMode::Governance, 730)) };
        assert_eq!(c.unwrap(), expected);
        for (text, is) in [
            ("<VersioningConfiguration/>", Versioning::Never),
            (
                "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
                Versioning::Enabled,
            ),
            (
                "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>",
                Versioning::Suspended,
            ),
        ] {
            assert_eq!(versioning(text).unwrap(), is);
        }
    }

    #[test]
    fn lifecycle_rules_say_what_they_do() {
        let rules = lifecycle(
            "<LifecycleConfiguration>\
             <Rule><ID>old</ID><Prefix>v/</Prefix><Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>\
             <Rule><ID>nc</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>\
             <NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration></Rule>\
             <Rule><ID>cold</ID><Filter><And><Prefix>v/</Prefix><Tag><Key>a</Key><Value>b</Value></Tag></And></Filter>\
             <Status>Disabled</Status><Transition><Days>30</Days><StorageClass>GLACIER</StorageClass></Transition></Rule>\
             <Rule><ID>good</ID><Filter/><Status>Enabled</Status>\
             <Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>\
             <AbortIncompleteMultipartUpload><DaysAfterInitiation>3</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>\
             </LifecycleConfiguration>",
        )
        .unwrap();
        let shown: Vec<_> = rules
            .iter()
            .map(|r| (r.id.as_str(), r.prefix.as_str(), r.enabled, r.tagged, r.harm.len()))
            .collect();
        assert_eq!(
            shown,
            [
                ("old", "v/", true, false, 1),
                ("nc", "", true, false, 1),
                ("cold", "v/", false, true, 1),
                ("good", "", true, false, 0)
            ]
        );
    }

    fn all(text: &str) {
        let _ = (page(text), versioning(text), legal_hold(text), retention(text));
        let _ = (lock_configuration(text), lifecycle(text), error(text));
    }

    proptest! {
        /// Whatever a store sends, it is read or refused.
        #[test]
        fn odd_answers_never_panic(text in ".{0,200}") {
            all(&text);
        }

        #[test]
        fn damaged_answers_never_panic(at in 0usize..2000, cut in 0usize..40, put in "[<>/&\"a-z0-9]{0,8}") {
            let at = at.min(PAGE.len());
            let end = (at + cut).min(PAGE.len());
            if PAGE.is_char_boundary(at) && PAGE.is_char_boundary(end) {
                all(&format!("{}{put}{}", &PAGE[..at], &PAGE[end..]));
            }
        }
    }
}
