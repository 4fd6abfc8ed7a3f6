//! A live PostgreSQL: connect to it, ask it, start and stop a backup, read its files, run a copy.
//!
//! - [`connect`]: sessions, with the habits of libpq ([`settings`]: service files, PG* variables;
//!   [`tls`]: sslmode);
//! - [`server`]: every fact that a backup must record or check ([`server::Server`]);
//! - [`backup`]: `pg_backup_start` … `pg_backup_stop` on one session ([`backup::OnlineBackup`]);
//! - [`datadir`]: pg_control, and what to copy from a data directory;
//! - [`process`]: start, watch and stop a server on a restored copy, never as root.

pub mod backup;
pub mod connect;
pub mod datadir;
pub mod error;
pub mod process;
pub mod replication;
pub mod server;
pub mod settings;
pub mod summaries;
pub mod tls;

pub use error::{PgError, Result};
