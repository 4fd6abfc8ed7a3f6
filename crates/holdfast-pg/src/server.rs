//! What a server says about itself: [`Server::inspect`].

use crate::connect::Session;
use crate::error::{PgError, Result};
use holdfast_core::{Lsn, SegmentSize, TimelineId};
use holdfast_pgformat::version::PgVersion;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Facts about a running server.
#[derive(Debug, Clone)]
pub struct Server {
    pub version: PgVersion,
    pub version_num: u32,
    pub version_text: String,
    pub system_identifier: u64,
    pub control_version: u32,
    pub catalog_version: u32,
    pub data_directory: PathBuf,
    pub in_recovery: bool,
    pub timeline: TimelineId,
    pub block_size: u32,
    pub segment_blocks: u32,
    pub wal_segment_size: SegmentSize,
    pub settings: BTreeMap<String, String>,
    pub is_superuser: bool,
    /// The role that initdb made: it exists in every copy, whatever its name.
    pub superuser: String,
}

/// Settings that are recorded, or that `doctor` looks at.
const SETTINGS: &[&str] = &[
    "archive_command",
    "archive_library",
    "archive_mode",
    "archive_timeout",
    "config_file",
    "data_checksums",
    "data_directory",
    "fsync",
    "full_page_writes",
    "hba_file",
    "hot_standby",
    "ident_file",
    "listen_addresses",
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
    "port",
    "restore_command",
    "server_encoding",
    "shared_preload_libraries",
    "summarize_wal",
    "synchronous_commit",
    "synchronous_standby_names",
    "track_commit_timestamp",
    "unix_socket_directories",
    "wal_compression",
    "wal_keep_size",
    "wal_level",
    "wal_log_hints",
    "max_wal_size",
];

impl Server {
    pub async fn inspect(s: &Session, allow_unsupported: bool) -> Result<Self> {
        let version_num: i32 = s
            .text("select setting from pg_settings where name = 'server_version_num'")
            .await?
            .parse()
            .map_err(|_| PgError::Version("the server's version cannot be read".into()))?;
        let version = match PgVersion::from_server_version_num(version_num.into()) {
            Ok(v) => v,
            Err(e) if !allow_unsupported => return Err(PgError::Version(e.to_string())),
            // Whoever insists gets the nearest format that we know.
            Err(_) => {
                let near = if version_num < 150_000 { 150_000 } else { 180_000 };
                PgVersion::from_server_version_num(near).map_err(|e| PgError::Version(e.to_string()))?
            }
        };
        let row = s
            .row(
                "select system_identifier, pg_control_version, catalog_version_no, pg_is_in_recovery(), version(), \
                 (select timeline_id from pg_control_checkpoint()), current_setting('is_superuser') = 'on' \
                 from pg_control_system()",
                &[],
            )
            .await?;
        let get_err = |e: tokio_postgres::Error| PgError::Query {
            what: "pg_control_system".into(),
            why: e.to_string(),
        };
        let system_identifier: i64 = row.try_get(0).map_err(get_err)?;
        let control_version: i32 = row.try_get(1).map_err(get_err)?;
        let catalog_version: i32 = row.try_get(2).map_err(get_err)?;
        let timeline: i32 = row.try_get(5).map_err(get_err)?;
        let names: Vec<&str> = SETTINGS.to_vec();
        let mut settings = BTreeMap::new();
        for r in s.rows("select name, setting, unit from pg_settings where name = any($1)", &[&names]).await?
        {
            let (k, v): (String, Option<String>) =
                (r.try_get(0).map_err(get_err)?, r.try_get(1).map_err(get_err)?);
            settings.insert(k, v.unwrap_or_default());
        }
        let number = |sql: &'static str| async move {
            s.text(sql)
                .await?
                .parse::<u64>()
                .map_err(|_| PgError::Query { what: sql.into(), why: "no number".into() })
        };
        let block_size = number("select setting from pg_settings where name = 'block_size'").await? as u32;
        // In blocks of 8 kB, as pg_settings counts.
        let segment_blocks =
            number("select setting from pg_settings where name = 'segment_size'").await? as u32;
        let wal_bytes = number("select setting from pg_settings where name = 'wal_segment_size'").await?;
        Ok(Server {
            version,
            version_num: version_num as u32,
            version_text: row.try_get(4).map_err(get_err)?,
            system_identifier: system_identifier as u64,
            control_version: control_version as u32,
            catalog_version: catalog_version as u32,
            data_directory: settings.get("data_directory").map(PathBuf::from).unwrap_or_default(),
            in_recovery: row.try_get(3).map_err(get_err)?,
            timeline: TimelineId(timeline as u32),
            block_size,
            segment_blocks,
            wal_segment_size: SegmentSize::try_from(wal_bytes)
                .map_err(|e| PgError::Version(e.to_string()))?,
            settings,
            is_superuser: row.try_get(6).map_err(get_err)?,
            // BOOTSTRAP_SUPERUSERID, src/include/catalog/pg_authid.dat
            superuser: s
                .text("select coalesce((select rolname from pg_roles where oid = 10), '')::text")
                .await?,
        })
    }

    pub fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map(String::as_str).unwrap_or("")
    }

    pub fn checksums(&self) -> bool {
        self.setting("data_checksums") == "on"
    }

    pub fn port(&self) -> u16 {
        self.setting("port").parse().unwrap_or(5432)
    }

    /// Is an archiver configured at all?
    pub fn archiving(&self) -> bool {
        let on = matches!(self.setting("archive_mode"), "on" | "always");
        let cmd = self.setting("archive_command");
        on && (!self.setting("archive_library").is_empty() || !(cmd.is_empty() || cmd == "(disabled)"))
    }
}

/// How the archiver does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiverState {
    pub archived: i64,
    pub failed: i64,
    pub last_archived: Option<String>,
    pub last_failed: Option<String>,
    /// The newest thing that it tried failed.
    pub failing: bool,
}

pub async fn archiver(s: &Session) -> Result<ArchiverState> {
    let row = s
        .row(
            "select archived_count, failed_count, last_archived_wal, last_failed_wal, \
             coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) from pg_stat_archiver",
            &[],
        )
        .await?;
    let e = |e: tokio_postgres::Error| PgError::Query { what: "pg_stat_archiver".into(), why: e.to_string() };
    Ok(ArchiverState {
        archived: row.try_get(0).map_err(e)?,
        failed: row.try_get(1).map_err(e)?,
        last_archived: row.try_get(2).map_err(e)?,
        last_failed: row.try_get(3).map_err(e)?,
        failing: row.try_get(4).map_err(e)?,
    })
}

/// How far WAL is written and flushed. Of a primary only.
pub async fn flush_lsn(s: &Session) -> Result<Lsn> {
    let sql = "select pg_current_wal_flush_lsn()::text";
    s.text(sql).await?.parse().map_err(|_| PgError::Query { what: sql.into(), why: "no lsn".into() })
}

/// The position that the server would write next: no page on disk has a later LSN (§2.13).
pub async fn insert_lsn(s: &Session, in_recovery: bool) -> Result<Lsn> {
    let sql = if in_recovery {
        "select pg_last_wal_replay_lsn()::text"
    } else {
        "select pg_current_wal_insert_lsn()::text"
    };
    let text = s.text(sql).await?;
    text.parse().map_err(|_| PgError::Query { what: sql.into(), why: "no lsn".into() })
}
