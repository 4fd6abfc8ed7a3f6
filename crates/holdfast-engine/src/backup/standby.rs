//! What is different on a standby.
//!
//! All files come from the standby, with its own `pg_backup_start`: nothing is asked of the primary but its
//! WAL. The backup begins at the last restartpoint, so before the newest changes, and ends where the standby's
//! pages may have come to (`minRecoveryPoint`, src/backend/access/transam/xlogbackup.c and xlog.c,
//! `do_pg_backup_stop`). The server itself refuses if WAL written with `full_page_writes` off lies between, and
//! ends the backup if the standby is promoted.
//!
//! WAL is not pushed from here: the archive belongs to the primary. The run waits until the primary has
//! archived the last segment that it needs ([`gather`]), and asks it to switch segments if it lets us.
//!
//! Crash: as on a primary.

use super::need::{Gathered, same_as_local};
use crate::context::Context;
use crate::error::{EngineError, Result};
use crate::wal::archive::segment_head;
use holdfast_core::{SegmentName, conninfo};
use holdfast_pg::connect::Session;
use holdfast_pgformat::dirops::DirectoryOps;
use holdfast_vault::ClusterVault;
use holdfast_vault::point::WalNeed;
use holdfast_vault::vault::hex;
use std::path::Path;
use std::time::{Duration, Instant};

/// The longest wait for the primary's archiver. Its `archive_timeout` should be shorter.
const PATIENCE: Duration = Duration::from_secs(150);
/// So long the archiver gets before its server is asked to switch segments.
const BEFORE_ASKING: Duration = Duration::from_secs(1);

/// Waits until all of these are in the vault.
pub async fn gather(
    ctx: &Context,
    cluster: &ClusterVault,
    data_dir: &Path,
    wanted: &[SegmentName],
) -> Result<Gathered> {
    let mut out = Gathered::default();
    let begun = Instant::now();
    let mut asked = false;
    for s in wanted {
        let head = loop {
            if let Some(h) = segment_head(cluster, *s).await? {
                break h;
            }
            if ctx.monitor.cancelled() {
                return Err(EngineError::Cancelled);
            }
            if begun.elapsed() > PATIENCE {
                return Err(EngineError::failed(
                    format!("the primary has not archived segment {s} within {} s", PATIENCE.as_secs()),
                    "set archive_timeout on the primary to a minute or less, or let this user run \
                     pg_switch_wal there; see `holdfast wal status`",
                ));
            }
            if !asked && begun.elapsed() > BEFORE_ASKING {
                asked = true;
                if let Err(why) = switch_on_primary(ctx, cluster).await {
                    ctx.monitor.info(format!("waiting for the primary to archive its wal ({why})"));
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        // Only what is finished here can be compared.
        if out.needs.len() + 1 < wanted.len() {
            same_as_local(cluster, data_dir, *s, &head.digest)?;
        }
        out.directory_ops.push(DirectoryOps::from_bits(head.facts.flags));
        out.needs.push(WalNeed { name: *s, digest: hex(&head.digest) });
    }
    Ok(out)
}

/// Asks the server that this one follows to finish its segment. `Err`: why it was not done, for people.
async fn switch_on_primary(ctx: &Context, cluster: &ClusterVault) -> Result<(), String> {
    let at = upstream(ctx).await?;
    let said = Session::connect(&at).await.map_err(|e| e.to_string())?;
    // An address may lead to somebody else by now.
    let is = said.text("select system_identifier::text from pg_control_system()").await;
    if is.map_err(|e| e.to_string())? != cluster.record().system_identifier.to_string() {
        return Err("primary_conninfo leads to another cluster".into());
    }
    said.text("select pg_switch_wal()::text").await.map_err(|e| e.to_string())?;
    Ok(())
}

/// How to reach it: as this server does, with our own user and database.
async fn upstream(ctx: &Context) -> Result<String, String> {
    let own = ctx.conninfo().map_err(|e| e.to_string())?;
    let session = Session::connect(own).await.map_err(|e| e.to_string())?;
    let text = session
        .text("select coalesce(current_setting('primary_conninfo', true), '')")
        .await
        .map_err(|e| e.to_string())?;
    let follows = conninfo::keyword_value(&text)
        .or_else(|| conninfo::url(&text))
        .ok_or("the standby does not tell its primary_conninfo")?;
    let ours = conninfo::keyword_value(own).or_else(|| conninfo::url(own)).unwrap_or_default();
    // `pg_basebackup -R` writes every setting that its libpq knows.
    let of_place = ["host", "hostaddr", "port", "sslmode", "sslrootcert", "sslcert", "sslkey"];
    let is_place = |k: &str| of_place.contains(&k);
    let taken = follows.into_iter().filter(|(k, v)| is_place(k) && !v.is_empty());
    let kept = ours.into_iter().filter(|(k, _)| !is_place(k));
    let quote = |v: &str| v.replace('\\', "\\\\").replace('\'', "\\'");
    let all: Vec<String> = taken.chain(kept).map(|(k, v)| format!("{k}='{}'", quote(&v))).collect();
    Ok(all.join(" "))
}
