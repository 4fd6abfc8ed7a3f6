//! Where backups go: [`Vault`], and how they are squeezed: [`Compression`].

use super::class::StorageClass;
use super::database::{Refusal, is_scheme};
use super::file::{LockSection, Scalar, Text, VaultSection, list};
use super::locate::nearest;
use super::resolve::Resolver;
use crate::secret::redact_url;
use crate::size::ByteSize;
use crate::time::Duration;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use toml::Spanned;

/// `[vaults.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vault {
    pub name: String,
    /// `file`, `s3`, `gs` or `az`, without its query (which went into `options`) and without credentials.
    pub url: String,
    /// At least one of `key_file` and `passphrase_file` is there.
    pub key_file: Option<PathBuf>,
    pub passphrase_file: Option<PathBuf>,
    /// Of recovery points.
    pub compression: Compression,
    /// Of WAL segments.
    pub wal_compression: Compression,
    /// Plain size of the unit that is compressed, sealed and fetched: a power of two, 64 KiB to 4 MiB.
    pub frame_size: ByteSize,
    /// The size at which a pack is closed; at least `frame_size`.
    pub pack_size: ByteSize,
    /// How long an expired point stays before a sweep removes it: time to change one's mind, and for
    /// restores that read it to end.
    pub sweep_after: Duration,
    /// Whether a sweep removes points before the minimum duration of the storage class is over, which is paid
    /// for all the same.
    pub sweep_early: bool,
    /// Object Lock: every point stays locked for so long after it was made.
    pub lock: Option<Lock>,
    /// Of data packs; all else stays in the bucket's standard class.
    pub storage_class: Option<StorageClass>,
    /// What the object store needs to know, keys in lower kebab case (`region`, `endpoint`,
    /// `allow-http`, `virtual-hosted-style-request` …). Never a secret.
    pub options: BTreeMap<String, String>,
}

impl Vault {
    /// What it holds can be read only after it was retrieved: it takes copies, and nothing builds on it.
    pub fn is_cold(&self) -> bool {
        self.storage_class.is_some_and(StorageClass::is_archive)
    }
}

/// `lock = { mode = "governance", for = "30d" }`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    pub mode: LockMode,
    pub period: Duration,
}

/// Who may end a lock early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Whoever has a right of its own to.
    Governance,
    /// Nobody.
    Compliance,
}

impl FromStr for LockMode {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "governance" => Ok(LockMode::Governance),
            "compliance" => Ok(LockMode::Compliance),
            _ => Err(format!("`{s}` is not a mode of locks")),
        }
    }
}

/// `zstd`, `zstd:3`, `lz4` or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Level -7 to 22; not 0, which zstd takes to mean 3.
    Zstd {
        level: i32,
    },
    Lz4,
    None,
}

impl Default for Compression {
    fn default() -> Self {
        Compression::Zstd { level: 1 }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compression::Zstd { level } => write!(f, "zstd:{level}"),
            Compression::Lz4 => f.write_str("lz4"),
            Compression::None => f.write_str("none"),
        }
    }
}

impl FromStr for Compression {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "zstd" => Ok(Compression::default()),
            "lz4" => Ok(Compression::Lz4),
            "none" => Ok(Compression::None),
            _ => s
                .strip_prefix("zstd:")
                .and_then(|level| level.parse().ok())
                .filter(|level| (-7..=22).contains(level) && *level != 0)
                .map(|level| Compression::Zstd { level })
                .ok_or_else(|| format!("`{s}` is not a compression")),
        }
    }
}

const SCHEMES: [&str; 4] = ["file", "s3", "gs", "az"];
const URL_EXAMPLE: &str = "Write for example `file:///var/lib/holdfast/vault` or `s3://bucket/prefix`.";
const CREDENTIALS: &str = "Give credentials to the object store through the environment, a profile or the \
     host's own role, as its other tools take them.";
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The place and, from the query, its options.
fn parse_url(text: &str) -> Result<(String, Vec<(String, String)>), Refusal> {
    let no = |message: &str, hint: &str| Err((message.to_string(), hint.to_string()));
    let Some((scheme, rest)) = text.split_once("://").filter(|(s, _)| is_scheme(s)) else {
        return match text.strip_prefix('/') {
            Some(path) => no("this is a path, not a URL", &format!("Write `file:///{path}`.")),
            None => no("this is not a URL", URL_EXAMPLE),
        };
    };
    if !SCHEMES.contains(&scheme) {
        let hint = match nearest(scheme, SCHEMES) {
            Some(k) => format!("Did you mean `{k}://`?"),
            None => format!(
                "The kinds of vault are {}; for managed databases `snapshots` and `aws-backup`.",
                list(&SCHEMES)
            ),
        };
        return Err((format!("`{scheme}://` is not a kind of vault"), hint));
    }
    let Ok(url) = url::Url::parse(text) else { return no("this is not a URL", URL_EXAMPLE) };
    let shown = redact_url(text);
    if url.password().is_some() || !url.username().is_empty() {
        return no("credentials do not belong in the policy file", CREDENTIALS);
    }
    if url.fragment().is_some() {
        return Err((
            format!("`{shown}` has a `#`"),
            "Write a `#` that is part of the name as `%23`.".into(),
        ));
    }
    let host = url.host_str().unwrap_or("");
    if scheme == "file" {
        if !host.is_empty() {
            let path = rest.split('?').next().unwrap_or("");
            return Err((
                format!("`{shown}` names the host `{host}`"),
                format!("Write three slashes: `file:///{path}`."),
            ));
        }
        if url.path().len() < 2 {
            return Err((format!("`{shown}` is the root of the file system"), URL_EXAMPLE.into()));
        }
    } else if host.is_empty() || url.port().is_some() {
        return Err((
            format!("`{shown}` does not start with the name of a bucket"),
            format!("Write `{scheme}://BUCKET/PREFIX`; another server is the option `endpoint`."),
        ));
    }
    let place = text.split('?').next().unwrap_or(text).to_string();
    Ok((place, url.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())).collect()))
}

/// `AWS_Region` → `aws-region`
fn option_key(key: &str) -> String {
    key.to_ascii_lowercase().replace('_', "-")
}

/// Whether the value of this option is itself a secret (the path of a file that holds one is not).
fn is_secret_option(key: &str) -> bool {
    if key.ends_with("-file") || key.ends_with("-path") {
        return false;
    }
    const ENDS: [&str; 5] =
        ["access-key", "account-key", "master-key", "service-account-key", "customer-key-base64"];
    ENDS.iter().any(|e| key.ends_with(e))
        || key.split('-').any(|w| matches!(w, "secret" | "password" | "token" | "sas" | "sig" | "signature"))
}

impl Resolver<'_> {
    pub(super) fn vault(&mut self, name: &Text, w: &VaultSection) -> Option<Vault> {
        let good_name = self.name(name, "vault");
        let path = ["vaults", name.get_ref()];
        self.misplaced(
            [
                ("account", w.account.as_ref().map(Spanned::span)),
                ("profile", w.profile.as_ref().map(Spanned::span)),
                ("role", w.role.as_ref().map(Spanned::span)),
                ("backup-role", w.backup_role.as_ref().map(Spanned::span)),
                ("kms-key", w.kms_key.as_ref().map(Spanned::span)),
            ],
            "is for vaults of the managed plane (snapshots://, aws-backup://)",
            "Take it out; what the object store needs to know goes into `options`.",
        );
        let mut options = BTreeMap::new();
        let mut url = None;
        match &w.url {
            None => self.missing(&path, "url", name.span(), URL_EXAMPLE),
            Some(text) => match parse_url(&text.get_ref().0) {
                Ok((place, query)) => {
                    for (key, value) in query {
                        self.option(&mut options, &key, text.span(), value);
                    }
                    url = Some(place);
                }
                Err((message, hint)) => self.problem(text.span(), message, hint),
            },
        }
        for (key, value) in &w.options {
            self.option(&mut options, key.get_ref(), key.span(), value.get_ref().to_string());
        }
        let key_file = self.path(w.key_file.as_ref());
        let passphrase_file = self.path(w.passphrase_file.as_ref());
        if w.key_file.is_none() && w.passphrase_file.is_none() {
            self.missing(
                &path,
                "key-file",
                name.span(),
                "Write for example `key-file = \"/etc/holdfast/vault.key\"`; `holdfast init` makes the file.",
            );
        }
        let compression = self.compression(w.compression.as_ref());
        let wal_compression = self.compression(w.wal_compression.as_ref());
        let frame_size = self.size(w.frame_size.as_ref()).unwrap_or(ByteSize(256 * KIB));
        if let Some(at) = &w.frame_size
            && !(frame_size.0.is_power_of_two() && (64 * KIB..=4 * MIB).contains(&frame_size.0))
        {
            self.problem(
                at.span(),
                format!("`frame-size` cannot be {}", at.get_ref()),
                "Write 64KiB, 128KiB, 256KiB, 512KiB, 1MiB, 2MiB or 4MiB.",
            );
        }
        let pack_size = self.size(w.pack_size.as_ref()).unwrap_or(ByteSize(128 * MIB));
        if let Some(at) = &w.pack_size
            && !(frame_size.0..=4096 * MIB).contains(&pack_size.0)
        {
            self.problem(
                at.span(),
                format!("`pack-size` cannot be {}", at.get_ref()),
                "Write at least the `frame-size` and at most 4GiB.",
            );
        }
        let lock = w.lock.as_ref().and_then(|l| self.lock(&path, l, url.as_deref()));
        let storage_class = self.storage_class(w.storage_class.as_ref(), url.as_deref());
        Some(Vault {
            name: good_name?,
            url: url?,
            key_file,
            passphrase_file,
            compression,
            wal_compression,
            frame_size,
            pack_size,
            sweep_after: self.duration(w.sweep_after.as_ref()).unwrap_or(Duration(86_400)),
            sweep_early: w.sweep_early.unwrap_or(true),
            lock,
            storage_class,
            options,
        })
    }

    fn option(
        &mut self,
        into: &mut BTreeMap<String, String>,
        key: &str,
        at: std::ops::Range<usize>,
        value: String,
    ) {
        let key = option_key(key);
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            self.problem(
                at,
                "this is not the name of an option",
                "Names are made of letters, digits and `-`, such as `region` or `allow-http`.",
            );
        } else if is_secret_option(&key) {
            self.problem(at, format!("option `{key}` does not belong in the policy file"), CREDENTIALS);
        } else if into.insert(key.clone(), value).is_some() {
            self.problem(
                at,
                format!("option `{key}` is given twice"),
                "Write it either in the URL or under `options`.",
            );
        }
    }

    fn lock(&mut self, path: &[&str], w: &Spanned<LockSection>, url: Option<&str>) -> Option<Lock> {
        const EXAMPLE: &str = "Write for example `lock = { mode = \"governance\", for = \"30d\" }`.";
        if url.is_some_and(|u| !u.starts_with("s3:")) {
            self.problem(
                w.span(),
                "only S3 knows locks",
                "Take `lock` out, or use a bucket with Object Lock.",
            );
        }
        let l = w.get_ref();
        self.misplaced(
            [
                ("min", l.min.as_ref().map(Spanned::span)),
                ("max", l.max.as_ref().map(Spanned::span)),
                ("grace", l.grace.as_ref().map(Spanned::span)),
            ],
            "is for the lock of a vault of AWS Backup",
            EXAMPLE,
        );
        let path = [path, &["lock"]].concat();
        let mode = match &w.get_ref().mode {
            None => {
                self.missing(&path, "mode", w.span(), EXAMPLE);
                None
            }
            Some(m) => match m.get_ref().parse() {
                Ok(mode) => Some(mode),
                Err(message) => {
                    self.problem(m.span(), message, "Write `governance` or `compliance`.");
                    None
                }
            },
        };
        if w.get_ref().period.is_none() {
            self.missing(&path, "for", w.span(), EXAMPLE);
        }
        Some(Lock { mode: mode?, period: self.duration(w.get_ref().period.as_ref())? })
    }

    fn storage_class(&mut self, written: Option<&Text>, url: Option<&str>) -> Option<StorageClass> {
        let w = written?;
        if url.is_some_and(|u| !u.starts_with("s3:")) {
            self.problem(
                w.span(),
                "only S3 has storage classes",
                "Take `storage-class` out; other stores have a class for a whole bucket.",
            );
        }
        match w.get_ref().parse() {
            Ok(class) => Some(class),
            Err(message) => {
                let known = StorageClass::words();
                let hint = match nearest(w.get_ref(), known.iter().copied()) {
                    Some(k) => format!("Did you mean `{k}`?"),
                    None => format!("The classes are {}.", list(&known)),
                };
                self.problem(w.span(), message, hint);
                None
            }
        }
    }

    fn compression(&mut self, text: Option<&Text>) -> Compression {
        match text.map(|t| (t, t.get_ref().parse())) {
            None => Compression::default(),
            Some((_, Ok(c))) => c,
            Some((t, Err(message))) => {
                self.problem(
                    t.span(),
                    message,
                    "Write `zstd`, `zstd:LEVEL` (-7 to 22, not 0), `lz4` or `none`.",
                );
                Compression::default()
            }
        }
    }

    /// A number of bytes; reports what is none.
    pub(super) fn size(&mut self, written: Option<&Spanned<Scalar>>) -> Option<ByteSize> {
        self.size_per(written, "")
    }

    /// The same, with a unit such as `/s` allowed after it.
    pub(super) fn size_per(&mut self, written: Option<&Spanned<Scalar>>, per: &str) -> Option<ByteSize> {
        let w = written?;
        let size = match w.get_ref() {
            Scalar::Number(n) => u64::try_from(*n).ok().map(ByteSize),
            Scalar::Text(t) => t.strip_suffix(per).unwrap_or(t).parse().ok(),
            Scalar::Flag(_) => None,
        };
        if size.is_none() {
            self.problem(
                w.span(),
                format!("`{}` is not a size", w.get_ref()),
                "Write for example `\"64MiB\"`, `\"20MB\"` or `1048576`.",
            );
        }
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressions_read_and_print() {
        for (text, is) in [
            ("zstd", Compression::Zstd { level: 1 }),
            ("zstd:19", Compression::Zstd { level: 19 }),
            ("zstd:-3", Compression::Zstd { level: -3 }),
            ("lz4", Compression::Lz4),
            ("none", Compression::None),
        ] {
            assert_eq!(text.parse(), Ok(is));
            assert_eq!(is.to_string().parse(), Ok(is));
        }
        for bad in ["", "gzip", "zstd:", "zstd:0", "zstd:23", "lz4:1", "ZSTD"] {
            assert!(bad.parse::<Compression>().is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_give_a_place_and_options() {
        let (place, query) = parse_url("s3://bucket/a/b?region=eu-west-1&allow_http=true").unwrap();
        assert_eq!(place, "s3://bucket/a/b");
        assert_eq!(query.len(), 2);
        assert_eq!(parse_url("file:///var/lib/vault").unwrap().0, "file:///var/lib/vault");
        for bad in [
            "",
            "vault",
            "file://",
            "file:///",
            "file://var/lib",
            "s3://",
            "s3:///x",
            "s3://h:9000/b",
            "ftp://h/x",
        ] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_url("/srv/vault").unwrap_err().1, "Write `file:///srv/vault`.");
        assert_eq!(parse_url("file://srv/vault").unwrap_err().1, "Write three slashes: `file:///srv/vault`.");
        assert_eq!(parse_url("s4://b").unwrap_err().1, "Did you mean `s3://`?");
    }

    #[test]
    fn secret_options_are_known_by_name() {
        for secret in
            ["secret-access-key", "aws-session-token", "access-key", "account-key", "sas-key", "password"]
        {
            assert!(is_secret_option(secret), "{secret}");
        }
        for plain in ["region", "access-key-id", "sse-kms-key-id", "web-identity-token-file", "profile"] {
            assert!(!is_secret_option(plain), "{plain}");
        }
    }
}
