//! What can go wrong with a PostgreSQL server or its files.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum PgError {
    #[error("cannot connect to postgresql at {at}: {why}")]
    Connect { at: String, why: String, auth: bool },
    #[error("the certificate of postgresql at {at} is not trusted: {why}")]
    Untrusted { at: String, why: String },
    #[error("the connection to postgresql was lost: {0}")]
    Lost(String),
    #[error("postgresql refused `{what}`: {why}")]
    Query { what: String, why: String },
    /// SQLSTATE 57014: `statement_timeout`, or somebody's `pg_cancel_backend` (PostgreSQL: appendix A, error codes).
    #[error("postgresql ended `{what}` before its time: {why}")]
    Cut { what: String, why: String },
    #[error("cannot {op} `{path}`")]
    Io {
        op: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{path}` cannot be used: {why}")]
    BadFile { path: PathBuf, why: String },
    #[error("{0}")]
    Version(String),
    #[error("the conninfo is not valid: {0}")]
    Conninfo(String),
    #[error("{what}")]
    Refused { what: String, hint: String },
    #[error("the server's answer cannot be understood: {0}")]
    Protocol(String),
    #[error("the server did not start: {0}")]
    Start(String),
}

pub type Result<T, E = PgError> = std::result::Result<T, E>;

impl PgError {
    pub fn io(op: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> PgError {
        let path = path.into();
        move |source| PgError::Io { op, path, source }
    }

    /// What the user can try.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            PgError::Connect { auth: true, .. } => {
                "check user, pg_hba.conf and PGPASSFILE; secrets never go into the policy".into()
            }
            PgError::Connect { .. } => {
                "check `source` of the database in the policy, and that the server is running".into()
            }
            PgError::Untrusted { .. } => {
                "`sslrootcert` of `source` must be the root certificate that signed it; sslmode=verify-full wants its name, too".into()
            }
            PgError::Lost(_) => "run it again once the server is back; nothing was committed".into(),
            PgError::Protocol(_) => {
                "check that `source` leads to a postgresql server and not to a pooler; nothing was committed"
                    .into()
            }
            PgError::Cut { .. } => "run it again; the server's log says who or what ended it".into(),
            PgError::Query { .. } => "grant what `holdfast doctor` names to this user".into(),
            PgError::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    "run holdfast as the owner of the data directory (usually the user postgres)".into()
                }
                std::io::ErrorKind::StorageFull => "make room and run it again".into(),
                _ => return None,
            },
            PgError::Version(_) => "--allow-unsupported tries it all the same".into(),
            PgError::Conninfo(_) => {
                "write host=/run/postgresql port=5432 user=postgres, or a postgresql:// url without a password".into()
            }
            PgError::Refused { hint, .. } => hint.clone(),
            PgError::Start(_) => "the server's own log above says why".into(),
            PgError::BadFile { .. } => return None,
        })
    }
}
