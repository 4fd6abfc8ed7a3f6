//! The policy file exactly as written: [`PolicyFile`].
//!
//! Every value carries its place in the text, nothing is interpreted (`"5m"` is still text), every
//! key may be absent, and an unknown key is a mistake. [`read`] survives mistakes of form: it notes
//! the problem, leaves the entry out and goes on, so that one run reports them all. It remembers
//! what it left out, so that the checks in `resolve.rs` do not also complain that it is missing.

use super::env::{Lookup, expand};
use super::locate::nearest;
use super::managed::written::{
    AlarmSection, CheckSection, ConnectSection, CutoverSection, DataSection, DrillSection, ObjectivesSection,
    PitrSection, PlaceSection,
};
use super::places::Places;
use serde::de::{Deserialize, Deserializer, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Text with its place.
pub type Text = Spanned<String>;
/// A table whose keys are names that the user chose.
pub type Named<T> = BTreeMap<Text, T>;

/// The whole file.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct PolicyFile {
    pub version: Option<Spanned<i64>>,
    pub state_dir: Option<Text>,
    pub databases: Named<DatabaseSection>,
    pub vaults: Named<VaultSection>,
    pub policies: Named<PlanSection>,
    pub tuning: TuningSection,
    pub limits: Named<Spanned<Scalar>>,
    pub prices: PricesSection,
}

/// `[databases.NAME]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct DatabaseSection {
    pub source: Option<Spanned<Address>>,
    pub policy: Option<Text>,
    pub data_directory: Option<Text>,
    pub method: Option<Text>,
    pub bin_dir: Option<Text>,
    pub members: Vec<Text>,
    // The rest is for managed databases.
    pub resource_id: Option<Text>,
    pub account: Option<Text>,
    pub profile: Option<Text>,
    pub role: Option<Text>,
    pub encrypted: Option<Spanned<Scalar>>,
    pub kms_key: Option<Text>,
    pub size: Option<Spanned<Scalar>>,
    pub daily_change: Option<Spanned<Scalar>>,
    pub budget: Option<Spanned<u32>>,
    pub snapshot_id: Option<Text>,
    pub tags: Named<Text>,
    pub connect: Option<Spanned<ConnectSection>>,
    pub checks: Named<CheckSection>,
    pub places: Named<PlaceSection>,
    pub cutover: Vec<Spanned<CutoverSection>>,
    pub alarms: Named<AlarmSection>,
}

/// `[vaults.NAME]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct VaultSection {
    pub url: Option<Spanned<Address>>,
    pub key_file: Option<Text>,
    pub passphrase_file: Option<Text>,
    pub compression: Option<Text>,
    pub wal_compression: Option<Text>,
    pub frame_size: Option<Spanned<Scalar>>,
    pub pack_size: Option<Spanned<Scalar>>,
    pub sweep_after: Option<Spanned<Scalar>>,
    pub sweep_early: Option<bool>,
    pub lock: Option<Spanned<LockSection>>,
    pub storage_class: Option<Text>,
    pub options: Named<Spanned<Scalar>>,
    // The rest is for vaults of the managed plane.
    pub account: Option<Text>,
    pub profile: Option<Text>,
    pub role: Option<Text>,
    pub backup_role: Option<Text>,
    pub kms_key: Option<Text>,
}

/// `lock = { … }`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct LockSection {
    pub mode: Option<Text>,
    #[serde(rename = "for")]
    pub period: Option<Spanned<Scalar>>,
    pub min: Option<Spanned<Scalar>>,
    pub max: Option<Spanned<Scalar>>,
    pub grace: Option<Spanned<Scalar>>,
}

/// `[policies.NAME]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct PlanSection {
    pub rpo: Option<Spanned<Scalar>>,
    pub rto: Option<Spanned<Scalar>>,
    pub wal: WalSection,
    pub tiers: Named<TierSection>,
    pub copies: Named<CopySection>,
    pub verify: Option<Spanned<VerifySection>>,
    pub objectives: ObjectivesSection,
    pub drills: Named<DrillSection>,
    pub data: Named<DataSection>,
    // The rest is for managed databases.
    pub pitr: Option<Spanned<PitrSection>>,
    pub deletion_protection: Option<Spanned<Scalar>>,
    pub final_snapshot: Option<Spanned<Scalar>>,
    pub quarantine: Option<Spanned<Scalar>>,
    pub manual_keep: Option<Spanned<Scalar>>,
    pub restore_id: Option<Text>,
    pub tags: Named<Text>,
}

/// `wal = { … }`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct WalSection {
    pub keep: Option<Spanned<Scalar>>,
    pub required: Option<Spanned<Scalar>>,
}

/// `[policies.NAME.tiers.TIER]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct TierSection {
    pub schedule: Option<Text>,
    pub timezone: Option<Text>,
    pub kind: Option<Text>,
    pub vaults: Option<Spanned<Vec<Text>>>,
    pub keep: Option<Spanned<KeepSection>>,
    pub cold_after: Option<Spanned<Scalar>>,
    pub snapshot_id: Option<Text>,
    pub tags: Named<Text>,
}

/// `[policies.NAME.copies.COPY]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct CopySection {
    pub to: Option<Text>,
    pub keep: Option<Spanned<KeepSection>>,
    pub of: Option<Spanned<Vec<Text>>>,
    pub snapshot_id: Option<Text>,
    pub cold_after: Option<Spanned<Scalar>>,
    pub enabled: Option<Spanned<Scalar>>,
}

/// `keep = { … }`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct KeepSection {
    pub last: Option<u32>,
    pub hourly: Option<u32>,
    pub daily: Option<u32>,
    pub weekly: Option<u32>,
    pub monthly: Option<u32>,
    pub yearly: Option<u32>,
    pub window: Option<Spanned<Scalar>>,
    pub tags: Vec<Text>,
    pub at_least: Option<Spanned<u32>>,
}

/// `[policies.NAME.verify]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct VerifySection {
    pub level: Option<Text>,
    pub every: Option<Spanned<Scalar>>,
    pub class: Option<Text>,
    pub check_within: Option<Spanned<Scalar>>,
    pub remove_after: Option<Spanned<Scalar>>,
    pub enabled: Option<Spanned<Scalar>>,
}

/// `[tuning]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct TuningSection {
    pub workers: Option<Spanned<i64>>,
    pub rate: Option<Spanned<Scalar>>,
    pub nice: Option<Spanned<i64>>,
    pub archive_timeout: Option<Spanned<Scalar>>,
}

/// `[prices]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct PricesSection {
    pub s3: S3PricesSection,
    /// By region, or `all`.
    pub managed: Named<Named<Spanned<f64>>>,
}

/// `[prices.s3]`: the keys of the tables are storage classes, and speeds.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct S3PricesSection {
    pub date: Option<Text>,
    pub region: Option<Text>,
    pub storage: Named<Spanned<f64>>,
    pub retrieval: Named<Named<RetrievalSection>>,
}

/// `[prices.s3.retrieval.CLASS.SPEED]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct RetrievalSection {
    pub per_gb: Option<Spanned<f64>>,
    pub per_1000_requests: Option<Spanned<f64>>,
    pub from: Option<Spanned<Scalar>>,
    pub to: Option<Spanned<Scalar>>,
}

/// A URL or connection string. It may wrongly hold a password, so it does not print.
#[derive(Clone, serde::Deserialize)]
#[serde(transparent)]
pub struct Address(pub String);

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

/// A single value whose meaning is decided later.
#[derive(Clone, PartialEq, Eq)]
pub enum Scalar {
    Text(String),
    Number(i64),
    Flag(bool),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Text(v) => f.write_str(v),
            Scalar::Number(v) => v.fmt(f),
            Scalar::Flag(v) => v.fmt(f),
        }
    }
}

impl fmt::Debug for Scalar {
    // Options of a vault may wrongly hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a number")
            }
            fn visit_str<E>(self, v: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(v.to_string()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Scalar, E> {
                Ok(Scalar::Number(v))
            }
            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Scalar, E> {
                i64::try_from(v).map(Scalar::Number).map_err(|_| E::custom("the number is too large"))
            }
            fn visit_bool<E>(self, v: bool) -> Result<Scalar, E> {
                Ok(Scalar::Flag(v))
            }
        }
        d.deserialize_any(Any)
    }
}

/// A mistake of form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub span: Range<usize>,
    pub message: String,
    pub hint: Option<String>,
}

/// What could be read, and what could not.
#[derive(Debug, Default)]
pub struct Reading {
    /// `None` if not even the syntax or the version is known; `mistakes` then says why.
    pub file: Option<PolicyFile>,
    pub mistakes: Vec<Mistake>,
    /// The paths of entries that were left out because of a mistake, such as
    /// `["vaults", "local", "kee-file"]`.
    pub left_out: Vec<Vec<String>>,
    /// Where everything stands, what was left out included.
    pub places: Places,
}

/// Reads the form of a policy file; never fails, see [`Reading`]. `lookup` gives the values of variables.
pub fn read(text: &str, lookup: Lookup<'_>) -> Reading {
    let mut out = Reading::default();
    let (mut tree, errors) = DeTable::parse_recoverable(text);
    let mut lines = Vec::new();
    for e in errors {
        // One mistake often upsets the parser twice in a line; the first report is the useful one.
        let span = e.span().unwrap_or(text.len()..text.len());
        let line = text.as_bytes().iter().take(span.start).filter(|b| **b == b'\n').count();
        if !lines.contains(&line) {
            lines.push(line);
            let hint = match e.message() {
                "duplicate key" => "Keep one of them: a key or section may stand only once.",
                _ => {
                    "A policy is TOML: [section] on a line of its own, then key = value; text stands in quotes."
                }
            };
            out.mistakes.push(Mistake {
                span,
                message: e.message().to_string(),
                hint: Some(hint.to_string()),
            });
        }
    }
    if !out.mistakes.is_empty() {
        return out;
    }
    if let Some(m) = wrong_version(tree.get_ref()) {
        out.mistakes.push(m);
        return out;
    }
    out.places = Places::of_table(text, tree.get_ref());
    expand(tree.get_mut(), lookup, &mut out.mistakes);
    // Each round removes one entry, so this ends.
    loop {
        let error = match PolicyFile::deserialize(toml::Deserializer::from(tree.clone())) {
            Ok(file) => {
                out.file = Some(file);
                return out;
            }
            Err(e) => e,
        };
        let span = error.span().unwrap_or(0..0);
        let mut found = Finder { span: span.clone(), best: None };
        found.walk(tree.get_ref(), &mut Vec::new());
        let Some((_, path)) = found.best else {
            out.mistakes.push(Mistake { span, message: error.message().to_string(), hint: None });
            return out;
        };
        out.mistakes.push(describe(error.message(), &path, span));
        remove(tree.get_mut(), &path);
        out.left_out.push(path);
    }
}

/// Another version may have any other keys, so nothing else is worth reporting.
fn wrong_version(tree: &DeTable<'_>) -> Option<Mistake> {
    let (key, value) = tree.iter().find(|(k, _)| k.get_ref() == "version")?;
    let DeValue::Integer(n) = value.get_ref() else { return None };
    if n.as_str() == "1" {
        return None;
    }
    let span = if value.span().is_empty() { key.span() } else { value.span() };
    Some(Mistake {
        span,
        message: format!("version {n} of the policy file is not known here"),
        hint: Some("Write `version = 1`, or install the release of holdfast that knows this version.".into()),
    })
}

/// Finds the entry that an error is about: the one whose key, or else whose value, has that span.
struct Finder {
    span: Range<usize>,
    best: Option<((u8, usize), Vec<String>)>,
}

impl Finder {
    fn walk(&mut self, table: &DeTable<'_>, path: &mut Vec<String>) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            let within = value.span().start <= self.span.start && self.span.end <= value.span().end;
            let rank = if key.span() == self.span {
                3
            } else if value.span() == self.span {
                2
            } else {
                u8::from(within)
            };
            let score = (rank, path.len());
            if rank > 0 && self.best.as_ref().is_none_or(|(s, _)| *s < score) {
                self.best = Some((score, path.clone()));
            }
            // The span of a table under a `[header]` is the header's, so it does not say what is within.
            match value.get_ref() {
                DeValue::Table(inner) => self.walk(inner, path),
                DeValue::Array(items) => {
                    for (i, item) in items.iter().enumerate() {
                        if let DeValue::Table(inner) = item.get_ref() {
                            path.push(i.to_string());
                            self.walk(inner, path);
                            path.pop();
                        }
                    }
                }
                _ => {}
            }
            path.pop();
        }
    }
}

fn remove(table: &mut DeTable<'_>, path: &[String]) {
    match path {
        [] => {}
        [last] => {
            table.remove(last.as_str());
        }
        [first, rest @ ..] => match (table.get_mut(first.as_str()).map(|v| v.get_mut()), rest) {
            (Some(DeValue::Table(inner)), _) => remove(inner, rest),
            (Some(DeValue::Array(items)), [index, rest @ ..]) => {
                let item = index.parse().ok().and_then(|i: usize| items.get_mut(i));
                if let Some(DeValue::Table(inner)) = item.map(|v| v.get_mut()) {
                    remove(inner, rest);
                }
            }
            _ => {}
        },
    }
}

/// Turns serde's words into ours. They must not repeat a value: it may be a connection string.
fn describe(message: &str, path: &[String], span: Range<usize>) -> Mistake {
    let key = path.last().map_or("", String::as_str);
    let known: Vec<&str> = match message.split_once(", expected ") {
        Some((_, list)) => list.split('`').skip(1).step_by(2).collect(),
        None => Vec::new(),
    };
    if message.starts_with("unknown field") {
        let hint = match nearest(key, known.iter().copied()) {
            Some(k) => format!("Did you mean `{k}`?"),
            None => format!("The keys known here are {}.", list(&known)),
        };
        let place = match path {
            [] | [_] => String::new(),
            [sections @ .., _] => format!(" in [{}]", sections.join(".")),
        };
        return Mistake { span, message: format!("unknown key `{key}`{place}"), hint: Some(hint) };
    }
    let message = match message.rsplit_once(", expected ") {
        Some((found, expected)) => {
            let expected = match expected {
                "u32" => "a number from 0 to 4294967295",
                "i64" => "a whole number",
                "f64" => "a number",
                "a sequence" => "a list",
                "a map" => "a table",
                other => other,
            };
            let found = found.split_once(": ").map_or(found, |(_, f)| f);
            let found = if found.starts_with("string") { "text" } else { found };
            let found = match found {
                "map" => "a table",
                "sequence" => "a list",
                other => other,
            };
            format!("`{key}` takes {expected}, not {found}")
        }
        None => format!("`{key}`: {message}"),
    };
    Mistake { span, message, hint: None }
}

/// "`a`, `b` and `c`"
pub(super) fn list<S: AsRef<str>>(words: &[S]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("`{}`", w.as_ref())).collect();
    match quoted.as_slice() {
        [] => "none".into(),
        [one] => one.clone(),
        [init @ .., last] => format!("{} and {last}", init.join(", ")),
    }
}
