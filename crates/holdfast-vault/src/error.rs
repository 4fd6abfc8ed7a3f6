//! What can go wrong with a vault, by what the caller can do about it.

use crate::store::retrieve::OP as RETRIEVE;
use std::fmt;

/// What a store said, without its wording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The store answered, and the object is certainly not there.
    NotFound,
    /// Something already has this name.
    Exists,
    /// Credentials were refused or missing.
    Auth,
    /// Credentials are good, but may not do this; also a read-only file system.
    Denied,
    /// It is in an archive class, and nobody has retrieved it.
    Archived,
    /// No room left.
    Full,
    /// The store cannot do what was asked at all.
    Unsupported,
    /// Network faults, 5xx, time-outs: worth another try.
    Transient,
}

/// A failed operation on the store: what, on which object, and why.
#[derive(Debug)]
pub struct StoreError {
    pub op: &'static str,
    pub name: String,
    pub kind: StoreErrorKind,
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.kind {
            StoreErrorKind::NotFound => "there is no such object",
            StoreErrorKind::Exists => "an object of this name already exists",
            StoreErrorKind::Auth => "the store refused the credentials",
            StoreErrorKind::Denied => "the store does not allow it",
            StoreErrorKind::Archived => "it is archived, and must be retrieved before it can be read",
            StoreErrorKind::Full => "there is no space left",
            StoreErrorKind::Unsupported => "the store cannot do this",
            StoreErrorKind::Transient => "the store failed",
        };
        write!(f, "cannot {} `{}`: {why}", self.op, self.name)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e.as_ref() as _)
    }
}

/// A failed operation on the vault.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("`{name}` is damaged: {what}")]
    Damaged { name: String, what: String },
    #[error("the key does not open this vault: {0}")]
    WrongKey(String),
    #[error("the passphrase is wrong, or the recovery copy of the keys is damaged")]
    WrongPassphrase,
    #[error("this key file may not {0}")]
    KeyRole(&'static str),
    #[error("the key file cannot be used: {0}")]
    KeyFile(String),
    #[error("there is no vault at {0}: `holdfast.vault` is not there")]
    NoVault(String),
    #[error("there are backups at {0}, but no `holdfast.vault`: a new vault here could not open them")]
    LostDescriptor(String),
    #[error("there is already a vault at {0}")]
    VaultExists(String),
    #[error("the vault has format version {found}, and this program reads up to {known}")]
    NewerFormat { found: u32, known: u32 },
    #[error("the store at {0} does not honour create-if-absent: {1}")]
    WeakStore(String, String),
    #[error("`{0}` is not the address of a vault: {1}")]
    BadUrl(String, String),
    #[error("`{name}` is in the archive already with other content")]
    WalConflict { name: String },
    #[error("the run {0} was declared dead by another host and cannot commit any more")]
    Fenced(String),
    #[error("`{name}` is locked: the store keeps it {}", kept(until, *hold))]
    Locked { name: String, until: Option<jiff::Timestamp>, hold: bool },
    #[error("cannot write what was read")]
    Sink(#[source] std::io::Error),
    #[error("cannot compress or decompress a frame of `{name}`: {what}")]
    Codec { name: String, what: String },
}

/// Until when a lock keeps an object, and a hold.
fn kept(until: &Option<jiff::Timestamp>, hold: bool) -> String {
    let date = until.map(|t| format!("until {}", holdfast_core::time::short(t)));
    match (date, hold) {
        (Some(date), false) => date,
        (Some(date), true) => format!("{date}, and under a legal hold"),
        (None, _) => "under a legal hold".into(),
    }
}

impl VaultError {
    pub(crate) fn damaged(name: &str, what: impl Into<String>) -> Self {
        VaultError::Damaged { name: name.to_string(), what: what.into() }
    }

    /// The store's own verdict, if that is what failed.
    pub fn store_kind(&self) -> Option<StoreErrorKind> {
        match self {
            VaultError::Store(e) => Some(e.kind),
            _ => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.store_kind() == Some(StoreErrorKind::NotFound)
    }

    /// True when the same call may succeed later without anyone doing anything.
    pub fn retryable(&self) -> bool {
        self.store_kind() == Some(StoreErrorKind::Transient)
    }

    /// What the user can try.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            VaultError::Store(e) => match e.kind {
                StoreErrorKind::Denied if e.op == RETRIEVE => "retrieving is a right of its own: allow \
                     s3:RestoreObject on the vault's objects to this role"
                    .into(),
                StoreErrorKind::Unsupported if e.op == RETRIEVE => "this store, or the class that the object has \
                     there, cannot do that (RestoreObject of S3): another --retrieve speed may, or the store's own \
                     tools, or another vault with --vault"
                    .into(),
                StoreErrorKind::Transient if e.op == RETRIEVE => "run it again: it goes on where the store is; \
                     where there is no capacity for `expedited`, take `standard`"
                    .into(),
                StoreErrorKind::Auth => "check the credentials: AWS_ACCESS_KEY_ID, AWS_PROFILE or the \
                     options of the vault in the policy"
                    .into(),
                StoreErrorKind::Denied => "check that this user may read and write the vault: \
                     permissions of the folder, policy of the bucket, or a read-only mount"
                    .into(),
                StoreErrorKind::Archived => "name another vault with --vault or --from; \
                     `holdfast restore --retrieve` restores from what is archived"
                    .into(),
                StoreErrorKind::Full => "make room in the vault; nothing that was committed is lost".into(),
                StoreErrorKind::Transient => "check the network and the store's address, then run it again".into(),
                _ => return None,
            },
            VaultError::Damaged { .. } => {
                "run `holdfast check` to see everything that is damaged; restore from another point or vault".into()
            }
            VaultError::WrongKey(_) => "set `key-file` of the vault to the key file that `holdfast init` made".into(),
            VaultError::WrongPassphrase => "check the file named by --passphrase-file".into(),
            VaultError::KeyFile(_) => "use the file that `holdfast init` or `holdfast key export` wrote, or make it anew \
                 with `holdfast key recover`"
                .into(),
            VaultError::KeyRole(_) => {
                "this host has a key that adds but does not read; use the owner's key file for this".into()
            }
            VaultError::NoVault(_) => "check `url` of the vault in the policy; `holdfast init` makes a new vault".into(),
            VaultError::LostDescriptor(_) => {
                "put back `holdfast.vault` (a copy is `keys/holdfast.vault`), or use another place for a new vault".into()
            }
            VaultError::NewerFormat { .. } => "upgrade holdfast on this host".into(),
            VaultError::WeakStore(..) => {
                "use a store with conditional writes (If-None-Match): Amazon S3, Ceph RGW, MinIO, a local disk".into()
            }
            VaultError::BadUrl(..) => "write file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix".into(),
            VaultError::WalConflict { .. } => "another cluster or a restored copy writes to this archive; the new \
                 content was kept under wal/conflict/; see `holdfast wal status`"
                .into(),
            VaultError::Fenced(_) => "run the backup again".into(),
            VaultError::Locked { .. } => "nothing shortens a lock: a later sweep removes it".into(),
            _ => return None,
        })
    }
}

pub type Result<T, E = VaultError> = std::result::Result<T, E>;
