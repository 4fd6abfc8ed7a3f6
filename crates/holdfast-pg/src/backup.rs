//! An online backup: `pg_backup_start`, the copy, `pg_backup_stop` — on one session.
//!
//! Exclusive mode does not exist since 15. If the session dies, the server ends the backup by itself;
//! [`OnlineBackup::ping`] finds that out early instead of after hours of copying.

use crate::connect::Session;
use crate::error::{PgError, Result};
use crate::server::{flush_lsn, insert_lsn};
use holdfast_core::Lsn;
use holdfast_pgformat::label::BackupLabel;

/// A backup that the server is in.
#[derive(Debug)]
pub struct OnlineBackup {
    session: Session,
    pub start_lsn: Lsn,
    in_recovery: bool,
}

/// What `pg_backup_stop` gave.
#[derive(Debug, Clone)]
pub struct Stopped {
    pub stop_lsn: Lsn,
    pub label_text: String,
    pub label: BackupLabel,
    pub tablespace_map: String,
    /// The server's clock, in its own words: RFC 3339.
    pub time: String,
}

impl OnlineBackup {
    /// Starts; waits for a checkpoint (an immediate one if `fast`).
    pub async fn start(session: Session, label: &str, fast: bool, in_recovery: bool) -> Result<Self> {
        let row = session.row("select pg_backup_start($1, $2)::text", &[&label, &fast]).await?;
        let text: String = row
            .try_get(0)
            .map_err(|e| PgError::Query { what: "pg_backup_start".into(), why: e.to_string() })?;
        let start_lsn = text
            .parse()
            .map_err(|_| PgError::Query { what: "pg_backup_start".into(), why: "no lsn".into() })?;
        Ok(OnlineBackup { session, start_lsn, in_recovery })
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Is the session (and so the backup) still alive? Also the server's insert position.
    pub async fn ping(&self) -> Result<Lsn> {
        insert_lsn(&self.session, self.in_recovery).await
    }

    /// What is certainly in the files of pg_wal.
    pub async fn flushed(&self) -> Result<Lsn> {
        flush_lsn(&self.session).await
    }

    /// Ends the backup; does not wait for the archiver (the caller makes sure of the WAL itself).
    pub async fn stop(self) -> Result<Stopped> {
        let row = self
            .session
            .row(
                "select lsn::text, labelfile, spcmapfile, \
                 to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') \
                 from pg_backup_stop(wait_for_archive => false)",
                &[],
            )
            .await?;
        let e =
            |e: tokio_postgres::Error| PgError::Query { what: "pg_backup_stop".into(), why: e.to_string() };
        let lsn: String = row.try_get(0).map_err(e)?;
        let label_text: String = row.try_get(1).map_err(e)?;
        let label = BackupLabel::parse(&label_text)
            .map_err(|e| PgError::Query { what: "pg_backup_stop".into(), why: e.to_string() })?;
        Ok(Stopped {
            stop_lsn: lsn
                .parse()
                .map_err(|_| PgError::Query { what: "pg_backup_stop".into(), why: "no lsn".into() })?,
            label_text,
            label,
            tablespace_map: row.try_get::<_, Option<String>>(2).map_err(e)?.unwrap_or_default(),
            time: row.try_get(3).map_err(e)?,
        })
    }
}
