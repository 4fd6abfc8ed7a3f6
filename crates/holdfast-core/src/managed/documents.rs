//! A server that speaks MongoDB's protocol, looked into: [`DocumentServers`], for copies of DocumentDB.
//!
//! Made by `holdfast-docdb`; the engine never knows the driver. Nothing here writes.

use crate::secret::Secret;
use async_trait::async_trait;
use jiff::Timestamp;
use std::path::PathBuf;
use std::time::Duration;

/// Where, who, over which TLS. Does not print the password.
#[derive(Debug, Clone)]
pub struct DocumentLogin {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Secret,
    /// Root certificates in PEM; the server's certificate and name are verified against them.
    pub ca_file: Option<PathBuf>,
    /// `false`: no TLS at all.
    pub tls: bool,
    /// For finding the server, and again for each connection.
    pub connect_timeout: Duration,
}

/// Why a server could not be looked into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Its certificate is not trusted, or the given roots cannot be used. Does not pass.
    #[error("its certificate is not trusted: {0}")]
    Untrusted(String),
    /// Nobody answers there. May pass.
    #[error("{0}")]
    NoAnswer(String),
    #[error("the server refuses the login: {0}")]
    Login(String),
    /// The connection was there, and broke.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The server answered that it does not do that.
    #[error("{0}")]
    Refused(String),
    /// It took longer than it may.
    #[error("the time was up")]
    TimeUp,
}

/// The newest value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewestDocument {
    /// The collection is empty, or is not there.
    Empty,
    /// There are documents, and none has a time in the field.
    NoTime,
    At(Timestamp),
}

/// Opens sessions.
#[async_trait]
pub trait DocumentServers: Send + Sync + std::fmt::Debug {
    /// Logs in. An answer means that a command was run after the login.
    async fn open(&self, login: &DocumentLogin) -> Result<Box<dyn Documents>, DocumentError>;
}

/// A session. All listings go to their end, whatever a server gives at once.
#[async_trait]
pub trait Documents: Send + Sync {
    async fn version(&self) -> Result<String, DocumentError>;

    /// Without the server's own.
    async fn databases(&self) -> Result<Vec<String>, DocumentError>;

    /// Without views and the server's own.
    async fn collections(&self, database: &str) -> Result<Vec<String>, DocumentError>;

    /// Every document counted; not the server's estimate.
    async fn count(&self, database: &str, collection: &str, limit: Duration) -> Result<u64, DocumentError>;

    /// The latest time in `field`, a date or an object id.
    async fn newest(
        &self,
        database: &str,
        collection: &str,
        field: &str,
        limit: Duration,
    ) -> Result<NewestDocument, DocumentError>;

    /// Names.
    async fn indexes(&self, database: &str, collection: &str) -> Result<Vec<String>, DocumentError>;
}
