//! A session that speaks the replication protocol: backups without access to the server's files.
//!
//! tokio-postgres has neither the `replication` start-up parameter nor a copy that begins between result
//! sets, so this is a client of its own over `postgres-protocol`. Addresses, passwords and TLS come from the
//! same [`crate::settings`] and [`crate::tls`] as those of SQL sessions.
//!
//! - [`wire`]: socket, TLS, start-up, passwords
//! - [`command`]: `IDENTIFY_SYSTEM`, `SHOW`, `TIMELINE_HISTORY`, temporary slots
//! - [`base_backup`]: `BASE_BACKUP`, `UPLOAD_MANIFEST` and the stream of a backup
//!
//! Every byte from the network is untrusted: what does not fit is [`crate::PgError::Protocol`].
//!
//! Crash: the server ends an unfinished backup, and drops temporary slots, when the session is gone.

pub mod base_backup;
pub mod command;
pub mod wire;

pub use base_backup::{BaseBackup, Piece, Started};
pub use command::Identity;
pub use wire::Replication;
