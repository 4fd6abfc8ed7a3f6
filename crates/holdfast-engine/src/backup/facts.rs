//! What a point records about the server besides its files (R11): later rules will ask for it.

use crate::error::Result;
use holdfast_pg::connect::Session;
use holdfast_pg::server::Server;
use holdfast_pgformat::control::ControlFile;
use holdfast_vault::point::{DatabaseEntry, ServerFacts};
use std::collections::BTreeMap;
use std::path::Path;

/// What is known of the server's host.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    pub data_directory: String,
    pub owner: String,
    pub group: String,
    /// Of the history file of the timeline, if it has one.
    pub history: Option<String>,
    pub outside_config: BTreeMap<String, String>,
}

/// R11: everything that a later rule could ask for.
pub fn server_facts(s: &Server, control: &ControlFile, data_dir: &Path) -> Result<ServerFacts> {
    let (uid, gid) = holdfast_pg::datadir::owner(data_dir)?;
    let (owner, group) = crate::users::names(uid, gid);
    let history = data_dir.join("pg_wal").join(format!("{}.history", control.checkpoint_copy.timeline.hex()));
    let host = HostFacts {
        data_directory: data_dir.display().to_string(),
        owner,
        group,
        history: std::fs::read_to_string(history).ok(),
        outside_config: outside_config(s, data_dir),
    };
    Ok(facts_of(s, control, host))
}

pub fn facts_of(s: &Server, control: &ControlFile, host: HostFacts) -> ServerFacts {
    let recovery: BTreeMap<String, String> = [
        "max_connections",
        "max_worker_processes",
        "max_wal_senders",
        "max_prepared_transactions",
        "max_locks_per_transaction",
    ]
    .iter()
    .map(|k| ((*k).to_string(), s.setting(k).to_string()))
    .collect();
    let timeline_history = host
        .history
        .and_then(|t| {
            holdfast_pgformat::history::TimelineHistory::parse(control.checkpoint_copy.timeline, &t).ok()
        })
        .map(|h| h.entries().iter().map(|e| (e.timeline, e.switch_lsn)).collect())
        .unwrap_or_default();
    ServerFacts {
        system_identifier: s.system_identifier,
        version_num: s.version_num,
        version: s.version_text.clone(),
        catalog_version: s.catalog_version,
        control_version: s.control_version,
        block_size: s.block_size,
        segment_blocks: s.segment_blocks,
        wal_segment_size: s.wal_segment_size,
        wal_level: s.setting("wal_level").into(),
        wal_log_hints: s.setting("wal_log_hints") == "on",
        full_page_writes: s.setting("full_page_writes") == "on",
        data_checksums: s.checksums(),
        in_recovery: s.in_recovery,
        timeline_history,
        recovery_settings: recovery,
        data_directory: host.data_directory,
        owner: host.owner,
        group: host.group,
        port: s.port(),
        outside_config: host.outside_config,
        shared_preload_libraries: s.setting("shared_preload_libraries").into(),
        locale_provider: String::new(),
        superuser: s.superuser.clone(),
    }
}

/// Databases by OID, but for those whose `DROP` was broken off.
pub async fn databases(s: &Session) -> Result<Vec<DatabaseEntry>> {
    let sql = "select oid::bigint, datname::text from pg_database where datconnlimit <> -2 order by oid";
    let bad = |e: String| holdfast_pg::PgError::Query { what: "pg_database".into(), why: e };
    let mut out = Vec::new();
    for row in s.rows(sql, &[]).await? {
        let oid: i64 = row.try_get(0).map_err(|e| bad(e.to_string()))?;
        let name = row.try_get(1).map_err(|e| bad(e.to_string()))?;
        out.push(DatabaseEntry { oid: u32::try_from(oid).map_err(|e| bad(e.to_string()))?, name });
    }
    Ok(out)
}

/// Configuration files that live elsewhere (Debian keeps them in /etc/postgresql).
fn outside_config(s: &Server, data_dir: &Path) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for (setting, name) in
        [("config_file", "postgresql.conf"), ("hba_file", "pg_hba.conf"), ("ident_file", "pg_ident.conf")]
    {
        let path = Path::new(s.setting(setting));
        if !path.as_os_str().is_empty()
            && !path.starts_with(data_dir)
            && let Ok(text) = std::fs::read_to_string(path)
        {
            out.insert(name.to_string(), text);
        }
    }
    out
}
