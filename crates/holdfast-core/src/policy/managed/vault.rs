//! Places at the provider that keep recovery points: [`ManagedVault`].

use crate::policy::LockMode;
use crate::policy::database::Refusal;
use crate::policy::file::{LockSection, Text, VaultSection};
use crate::policy::locate::nearest;
use crate::policy::resolve::Resolver;
use crate::time::Duration;
use std::fmt;
use toml::Spanned;

/// `[vaults.NAME]` with a `url` of the managed plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedVault {
    pub name: String,
    pub place: VaultPlace,
    /// Twelve digits; `None`: the account of the database.
    pub account: Option<String>,
    pub profile: Option<String>,
    /// Assumed to work there.
    pub role: Option<String>,
    /// What AWS Backup assumes; `None`: its default service role.
    pub backup_role: Option<String>,
    /// The key that snapshots are encrypted with there; a copy into another region needs one.
    pub kms_key: Option<String>,
    /// Of a vault of AWS Backup.
    pub lock: Option<VaultLock>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum VaultPlace {
    /// `snapshots://REGION`: snapshots of the engine, made, copied and deleted by Holdfast.
    Snapshots { region: String },
    /// `aws-backup://REGION/NAME`: recovery points of AWS Backup, made and deleted by its plan.
    AwsBackup { region: String, vault: String },
}

impl VaultPlace {
    pub fn region(&self) -> &str {
        match self {
            VaultPlace::Snapshots { region } | VaultPlace::AwsBackup { region, .. } => region,
        }
    }

    pub fn is_aws_backup(&self) -> bool {
        matches!(self, VaultPlace::AwsBackup { .. })
    }
}

impl fmt::Display for VaultPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VaultPlace::Snapshots { region } => write!(f, "snapshots://{region}"),
            VaultPlace::AwsBackup { region, vault } => write!(f, "aws-backup://{region}/{vault}"),
        }
    }
}

/// `lock = { mode, min, max, grace }`: AWS Backup Vault Lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VaultLock {
    /// Without grace it is governance, whatever was meant: that is how the provider decides.
    pub mode: LockMode,
    /// A job that wants to keep a point for less fails.
    pub min: Option<Duration>,
    /// A job that wants to keep a point for more fails.
    pub max: Option<Duration>,
    /// After this nobody can change or remove the lock.
    pub grace: Option<Duration>,
}

const EXAMPLE: &str = "Write `snapshots://REGION`, or `aws-backup://REGION/VAULT` for a vault of AWS Backup.";

/// Whether `url` is of the managed plane.
pub(in crate::policy) fn is_managed(url: &str) -> bool {
    ["snapshots:", "aws-backup:", "arn:"].iter().any(|s| url.starts_with(s))
}

fn place(text: &str) -> Result<VaultPlace, Refusal> {
    if let Some(rest) = text.strip_prefix("arn:") {
        let parts: Vec<&str> = rest.splitn(6, ':').collect();
        let hint = match parts.as_slice() {
            [_, "backup", region, account, tail, name] if *tail == "backup-vault" => {
                format!("Write `url = \"aws-backup://{region}/{name}\"` and `account = \"{account}\"`.")
            }
            [_, "backup", region, _, tail] | [_, "backup", region, _, tail, _] => format!(
                "Write `aws-backup://{region}/{}`; the ARN of a vault is `arn:aws:backup:REGION:ACCOUNT:backup-vault:NAME`.",
                tail.strip_prefix("vault/").unwrap_or("VAULT")
            ),
            _ => EXAMPLE.to_string(),
        };
        return Err(("this is an ARN, not a place".into(), hint));
    }
    let no = |message: &str| Err((message.to_string(), EXAMPLE.to_string()));
    let named = |s: &str, more: &[u8]| {
        !s.is_empty()
            && s.len() <= 50
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || more.contains(&b))
    };
    if let Some(region) = text.strip_prefix("snapshots://").map(|r| r.trim_end_matches('/')) {
        return match named(region, &[]) {
            true => Ok(VaultPlace::Snapshots { region: region.into() }),
            false => no("the snapshots of one region are meant"),
        };
    }
    match text.strip_prefix("aws-backup://").and_then(|r| r.split_once('/')) {
        // Names of vaults: 2 to 50 letters, digits, `-` and `_` (API reference of AWS Backup, CreateBackupVault).
        Some((region, vault)) if named(region, &[]) && named(vault, b"_") && vault.len() >= 2 => {
            Ok(VaultPlace::AwsBackup { region: region.into(), vault: vault.into() })
        }
        _ => no("a vault of AWS Backup is a region and a name"),
    }
}

impl Resolver<'_> {
    pub(in crate::policy) fn managed_vault(&mut self, name: &Text, w: &VaultSection) -> Option<ManagedVault> {
        let good_name = self.name(name, "vault");
        let native: [(&str, Option<std::ops::Range<usize>>); 8] = [
            ("key-file", w.key_file.as_ref().map(Spanned::span)),
            ("passphrase-file", w.passphrase_file.as_ref().map(Spanned::span)),
            ("compression", w.compression.as_ref().map(Spanned::span)),
            ("wal-compression", w.wal_compression.as_ref().map(Spanned::span)),
            ("frame-size", w.frame_size.as_ref().map(Spanned::span)),
            ("pack-size", w.pack_size.as_ref().map(Spanned::span)),
            ("sweep-after", w.sweep_after.as_ref().map(Spanned::span)),
            ("storage-class", w.storage_class.as_ref().map(Spanned::span)),
        ];
        self.misplaced(
            native,
            "is for vaults that holdfast writes",
            "Take it out: the provider keeps what is in this vault.",
        );
        if let Some((key, _)) = w.options.first_key_value() {
            let hint =
                "Take them out; `account`, `profile`, `role` and AWS_… variables say how to get there.";
            self.problem(key.span(), "`options` is for vaults that holdfast writes", hint);
        }
        let text = w.url.as_ref()?;
        let place = match place(&text.get_ref().0) {
            Ok(p) => Some(p),
            Err((message, hint)) => {
                self.problem(text.span(), message, hint);
                None
            }
        };
        let account = self.account(w.account.as_ref());
        let role = self.arn(w.role.as_ref(), "iam", "role");
        let backup_role = self.arn(w.backup_role.as_ref(), "iam", "role");
        let kms_key = self.kms_key(w.kms_key.as_ref());
        let aws_backup = place.as_ref().is_none_or(VaultPlace::is_aws_backup);
        for (key, span) in [
            ("lock", w.lock.as_ref().map(Spanned::span)),
            ("backup-role", w.backup_role.as_ref().map(Spanned::span)),
        ] {
            if let Some(span) = span.filter(|_| !aws_backup) {
                self.problem(
                    span,
                    format!("`{key}` is for vaults of AWS Backup"),
                    "Snapshots have no lock: copy to `aws-backup://REGION/VAULT`, or to another account.",
                );
            }
        }
        let lock = w.lock.as_ref().and_then(|l| self.vault_lock(name.get_ref(), l));
        let profile = w.profile.as_ref().map(|p| p.get_ref().clone());
        Some(ManagedVault {
            name: good_name?,
            place: place?,
            account,
            profile,
            role,
            backup_role,
            kms_key,
            lock,
        })
    }

    fn vault_lock(&mut self, vault: &str, w: &Spanned<LockSection>) -> Option<VaultLock> {
        const EXAMPLE: &str =
            "Write for example `lock = { mode = \"compliance\", min = \"30d\", grace = \"7d\" }`.";
        let l = w.get_ref();
        if let Some(p) = &l.period {
            self.problem(
                p.span(),
                "`for` is for buckets; a vault of AWS Backup has `min` and `max`",
                EXAMPLE,
            );
        }
        let mode = match &l.mode {
            None => {
                self.missing(&["vaults", vault, "lock"], "mode", w.span(), EXAMPLE);
                None
            }
            Some(m) => self.word_of(m, "a mode of locks", &["governance", "compliance"]),
        };
        let mode = match mode? {
            "compliance" => LockMode::Compliance,
            _ => LockMode::Governance,
        };
        let min = self.whole_days(l.min.as_ref());
        let max = self.whole_days(l.max.as_ref());
        let grace = self.whole_days(l.grace.as_ref());
        if let (Some(a), Some(b), Some(at)) = (min, max, &l.max)
            && b < a
        {
            self.problem(at.span(), "`max` is less than `min`", EXAMPLE);
        }
        match (mode, &l.grace) {
            (LockMode::Compliance, None) => self.problem(
                w.span(),
                "a lock without `grace` is governance: whoever has the right can remove it",
                "Write `grace = \"3d\"` or more. When it is over nobody can change the lock any more, AWS included; \
                 or write `mode = \"governance\"`.",
            ),
            (LockMode::Governance, Some(g)) => self.problem(
                g.span(),
                "a lock with `grace` is compliance: when it is over nobody can change or remove it",
                "Write `mode = \"compliance\"` if that is meant, or take `grace` out.",
            ),
            _ => {}
        }
        Some(VaultLock { mode, min, max, grace })
    }

    /// AWS Backup counts in days.
    pub(in crate::policy) fn whole_days(
        &mut self,
        w: Option<&Spanned<crate::policy::file::Scalar>>,
    ) -> Option<Duration> {
        let d = self.duration(w)?;
        if let (false, Some(w)) = (d.0.is_multiple_of(86_400), w) {
            self.problem(
                w.span(),
                format!("`{}` is not a number of days", w.get_ref()),
                "Write for example `\"30d\"`.",
            );
        }
        Some(d)
    }

    pub(in crate::policy) fn account(&mut self, w: Option<&Text>) -> Option<String> {
        let w = w?;
        let a = w.get_ref();
        if a.len() != 12 || !a.bytes().all(|b| b.is_ascii_digit()) {
            self.problem(
                w.span(),
                format!("`{a}` is not an account"),
                "An account has twelve digits, in quotes.",
            );
        }
        Some(a.clone())
    }

    /// `arn:PARTITION:SERVICE:…:…:KIND…`
    pub(in crate::policy) fn arn(&mut self, w: Option<&Text>, service: &str, kind: &str) -> Option<String> {
        let w = w?;
        let parts: Vec<&str> = w.get_ref().splitn(6, ':').collect();
        let good = matches!(parts.as_slice(), ["arn", p, s, _, _, rest]
            if p.starts_with("aws") && *s == service && rest.starts_with(kind) && rest.len() > kind.len());
        if !good {
            self.problem(
                w.span(),
                format!("this is not the ARN of a {kind}"),
                format!("It looks like `arn:aws:{service}:…:{kind}…`."),
            );
        }
        Some(w.get_ref().clone())
    }

    /// An ARN, an alias or the id of a key.
    pub(in crate::policy) fn kms_key(&mut self, w: Option<&Text>) -> Option<String> {
        let w = w?;
        let k = w.get_ref();
        let id = k.len() == 36 && k.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        let arn = k.starts_with("arn:aws") && (k.contains(":key/") || k.contains(":alias/"));
        if !(id || arn || k.strip_prefix("alias/").is_some_and(|a| !a.is_empty()) || k.starts_with("mrk-")) {
            let hint = match nearest(k.split('/').next().unwrap_or(""), ["alias"]) {
                Some(_) => "Did you mean `alias/NAME`?",
                None => "Write the ARN of a key, `alias/NAME` or the id of a key.",
            };
            self.problem(w.span(), format!("`{k}` does not name a key"), hint);
        }
        Some(k.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_and_print() {
        for text in ["snapshots://us-west-2", "aws-backup://us-east-1/gym-app_dr"] {
            assert_eq!(place(text).unwrap().to_string(), text);
        }
        for (text, hint) in [
            ("arn:aws:backup:us-east-1:123456789012:vault/gym-dr", "Write `aws-backup://us-east-1/gym-dr`"),
            ("arn:aws:backup:us-east-1:123456789012:backup-vault:gym-dr", "`account = \"123456789012\"`"),
            ("arn:aws:s3:::bucket", "snapshots://REGION"),
            ("snapshots://", "snapshots://REGION"),
            ("snapshots://us-west-2/x", "snapshots://REGION"),
            ("aws-backup://us-east-1", "aws-backup://REGION/VAULT"),
            ("aws-backup://us-east-1/a", "aws-backup://REGION/VAULT"),
        ] {
            let e = place(text).unwrap_err();
            assert!(e.1.contains(hint), "{text}: {e:?}");
        }
    }
}
