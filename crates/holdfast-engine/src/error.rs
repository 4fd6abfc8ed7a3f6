//! What can go wrong in an operation, and how the program ends then.

use holdfast_core::ExitCode;
use holdfast_core::managed::{DocumentError, ErrorKind, ManagedError};
use holdfast_core::time::TimeError;
use holdfast_pg::PgError;
use holdfast_vault::{StoreErrorKind, VaultError};
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Pg(#[from] PgError),
    #[error(transparent)]
    Time(#[from] TimeError),
    /// The provider of a managed database.
    #[error(transparent)]
    Cloud(Box<ManagedError>),
    /// A copy of DocumentDB, looked into.
    #[error("the copy: {0}")]
    Documents(#[from] DocumentError),
    /// What was started goes on at the provider; the same command waits for it again.
    #[error("{what}")]
    NotYet { what: String, hint: String },
    #[error("cannot {op} `{path}`")]
    Io {
        op: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Something named by the user does not exist.
    #[error("{what}")]
    NotFound { what: String, hint: String },
    /// A safety rule says no.
    #[error("{what}")]
    Refused { what: String, hint: String },
    /// The command line or the policy asks for something impossible.
    #[error("{what}")]
    Usage { what: String, hint: String },
    /// This host cannot look: that says nothing about what it wanted to look at.
    #[error("{what}")]
    Unreachable { what: String, hint: String },
    /// One side does not let the other in: a login, or a certificate that is not trusted.
    #[error("{what}")]
    Denied { what: String, hint: String },
    #[error("{what}")]
    Busy { what: String, hint: String },
    #[error("cancelled")]
    Cancelled,
    #[error("{what}")]
    Failed { what: String, hint: String },
    #[error("a worker thread failed: {0}")]
    Worker(String),
}

// A box by hand: an error of the provider is five times the size of any other.
impl From<ManagedError> for EngineError {
    fn from(e: ManagedError) -> Self {
        EngineError::Cloud(Box::new(e))
    }
}

pub type Result<T, E = EngineError> = std::result::Result<T, E>;

impl EngineError {
    pub fn io(op: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> EngineError {
        let path = path.into();
        move |source| EngineError::Io { op, path, source }
    }

    pub fn refused(what: impl Into<String>, hint: impl Into<String>) -> Self {
        EngineError::Refused { what: what.into(), hint: hint.into() }
    }

    pub fn failed(what: impl Into<String>, hint: impl Into<String>) -> Self {
        EngineError::Failed { what: what.into(), hint: hint.into() }
    }

    pub fn not_found(what: impl Into<String>, hint: impl Into<String>) -> Self {
        EngineError::NotFound { what: what.into(), hint: hint.into() }
    }

    pub fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        EngineError::Usage { what: what.into(), hint: hint.into() }
    }

    pub fn exit_code(&self) -> ExitCode {
        match self {
            EngineError::Vault(e) => match e {
                VaultError::WrongKey(_)
                | VaultError::WrongPassphrase
                | VaultError::KeyRole(_)
                | VaultError::KeyFile(_) => ExitCode::Auth,
                VaultError::NoVault(_) => ExitCode::NotFound,
                VaultError::VaultExists(_) | VaultError::WeakStore(..) | VaultError::WalConflict { .. } => {
                    ExitCode::Refused
                }
                VaultError::BadUrl(..) => ExitCode::Usage,
                VaultError::Damaged { .. } | VaultError::Codec { .. } => ExitCode::VerificationFailed,
                VaultError::Store(s) => match s.kind {
                    StoreErrorKind::Auth | StoreErrorKind::Denied => ExitCode::Auth,
                    StoreErrorKind::NotFound => ExitCode::NotFound,
                    _ => ExitCode::Error,
                },
                _ => ExitCode::Error,
            },
            EngineError::Pg(PgError::Connect { auth: true, .. } | PgError::Untrusted { .. })
            | EngineError::Denied { .. } => ExitCode::Auth,
            EngineError::Pg(PgError::Refused { .. } | PgError::Version(_)) => ExitCode::Refused,
            EngineError::Pg(PgError::Conninfo(_)) | EngineError::Time(_) | EngineError::Usage { .. } => {
                ExitCode::Usage
            }
            EngineError::Cloud(e) => match &e.kind {
                ErrorKind::NotFound => ExitCode::NotFound,
                ErrorKind::Denied { .. } | ErrorKind::NoCredentials => ExitCode::Auth,
                ErrorKind::AlreadyExists | ErrorKind::Locked { .. } | ErrorKind::QuotaExceeded { .. } => {
                    ExitCode::Refused
                }
                ErrorKind::WrongRegion | ErrorKind::InvalidRequest => ExitCode::Usage,
                ErrorKind::WrongState { .. } => ExitCode::Busy,
                ErrorKind::Throttled | ErrorKind::Network | ErrorKind::Other => ExitCode::Error,
            },
            EngineError::Documents(DocumentError::Login(_) | DocumentError::Untrusted(_)) => ExitCode::Auth,
            EngineError::NotYet { .. } => ExitCode::Partial,
            EngineError::NotFound { .. } => ExitCode::NotFound,
            EngineError::Refused { .. } => ExitCode::Refused,
            EngineError::Busy { .. } => ExitCode::Busy,
            EngineError::Cancelled => ExitCode::Cancelled,
            _ => ExitCode::Error,
        }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            EngineError::Vault(e) => e.hint(),
            EngineError::Pg(e) => e.hint(),
            EngineError::Time(e) => Some(e.hint().into()),
            EngineError::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull => Some("make room and run it again".into()),
                std::io::ErrorKind::ReadOnlyFilesystem => {
                    Some("`state-dir` of the policy names a place that can be written".into())
                }
                std::io::ErrorKind::PermissionDenied => {
                    Some("run holdfast as the owner of the data directory (usually the user postgres)".into())
                }
                _ => None,
            },
            EngineError::Cloud(e) => e.hint(),
            EngineError::NotFound { hint, .. }
            | EngineError::NotYet { hint, .. }
            | EngineError::Refused { hint, .. }
            | EngineError::Usage { hint, .. }
            | EngineError::Busy { hint, .. }
            | EngineError::Unreachable { hint, .. }
            | EngineError::Denied { hint, .. }
            | EngineError::Failed { hint, .. } => (!hint.is_empty()).then(|| hint.clone()),
            EngineError::Documents(e) => Some(match e {
                DocumentError::Login(_) => {
                    "the user and password of [databases.NAME.connect] must be those of the moment that was restored; \
                     --reset-password sets a new one on the copy"
                        .into()
                }
                DocumentError::Untrusted(_) => {
                    "`ca-file` of [databases.NAME.connect] must hold the provider's root certificates".into()
                }
                DocumentError::NoAnswer(_) => "run this inside of the VPC of the copy".into(),
                DocumentError::TimeUp | DocumentError::Lost(_) => "run it again".into(),
                DocumentError::Refused(_) => "the user of the checks needs the role readAnyDatabase".into(),
            }),
            EngineError::Cancelled | EngineError::Worker(_) => None,
        }
    }

    /// Something stored is not what it was.
    pub fn is_damage(&self) -> bool {
        matches!(self, EngineError::Vault(VaultError::Damaged { .. } | VaultError::Codec { .. }))
    }

    /// Worth trying again without anyone doing anything.
    pub fn retryable(&self) -> bool {
        match self {
            EngineError::Vault(e) => e.retryable(),
            EngineError::Cloud(e) => e.retryable(),
            _ => false,
        }
    }

    /// An operation at a provider is not over by this: whoever runs it again goes on where it was.
    pub fn goes_on(&self) -> bool {
        match self {
            EngineError::NotYet { .. } | EngineError::Cancelled => true,
            EngineError::Cloud(e) => e.retryable() || e.kind == ErrorKind::NoCredentials,
            _ => false,
        }
    }
}

/// The outcome of threads that work together. One fault makes the others see a closed channel, or stop: the
/// first real reason is the one to tell.
pub fn first_reason(results: impl IntoIterator<Item = Result<()>>) -> Result<()> {
    let mut cancelled = false;
    for r in results {
        match r {
            Ok(()) => {}
            Err(EngineError::Cancelled) => cancelled = true,
            Err(e) => return Err(e),
        }
    }
    if cancelled { Err(EngineError::Cancelled) } else { Ok(()) }
}
