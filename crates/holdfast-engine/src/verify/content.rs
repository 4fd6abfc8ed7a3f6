//! L4: the content of a copy. amcheck while it runs, page checksums after it stopped.

use crate::context::Context;
use crate::error::{EngineError, Result};
use holdfast_pg::connect::Session;
use holdfast_pg::process::{Copy, Programs};
use holdfast_vault::point::Point;
use std::path::Path;

/// Most findings are one fault seen many times.
const MAX_FINDINGS: usize = 50;

/// Heap and B-tree checks by amcheck, in every database. `verify_heapam` and `bt_index_check` with
/// `heapallindexed` (contrib/amcheck).
///
/// Prepared transactions of the copy are rolled back first. `verify_heapam` takes the oldest transaction of *all*
/// databases for the bound of what may have been pruned (contrib/amcheck/verify_heapam.c, `safe_xmin`), but pruning
/// goes by those of its own database (procarray.c, `ComputeXidHorizons`): with one that is prepared elsewhere, a row
/// that was deleted properly counts as one whose TOAST value is lost.
pub async fn check(
    ctx: &Context,
    copy: &Copy,
    user: &str,
    databases: &[String],
    findings: &mut Vec<String>,
) -> Result<()> {
    roll_back_prepared(copy, user, databases, findings).await?;
    for name in databases {
        ctx.monitor.phase(&format!("checking the content of {name}"));
        let s = Session::connect_to(&copy.conninfo(user), name).await?;
        let amcheck = match extension(&s).await {
            Ok(schema) => schema,
            // A target that pauses is read-only; a server without contrib has no amcheck.
            Err(e) => {
                ctx.monitor.warning(format!("amcheck cannot be used in {name}: {e}"));
                findings.push(format!("{name}: amcheck is not available: {e}"));
                continue;
            }
        };
        let heaps = format!(
            "select c.oid::regclass::text, v.blkno, v.msg from pg_class c, \
             lateral {amcheck}.verify_heapam(c.oid, check_toast => true) v \
             where c.relkind in ('r','m','t') and c.relpersistence <> 't' limit {MAX_FINDINGS}"
        );
        let heaps = s.rows(&heaps, &[]).await;
        let heaps = match heaps {
            Ok(rows) => rows,
            Err(e @ holdfast_pg::PgError::Lost(_)) => return Err(e.into()),
            // A page that the server itself refuses to read ends the whole query.
            Err(e) => {
                push(findings, format!("{name}: {e}"));
                Vec::new()
            }
        };
        for r in heaps {
            let (rel, block, msg): (String, i64, String) = (
                r.try_get(0).unwrap_or_default(),
                r.try_get(1).unwrap_or(-1),
                r.try_get(2).unwrap_or_default(),
            );
            push(findings, format!("{name}: {rel} block {block}: {msg}"));
        }
        let indexes = s
            .rows(
                "select c.oid::regclass::text, c.oid from pg_index i join pg_class c on c.oid = i.indexrelid \
                 join pg_am a on a.oid = c.relam where a.amname = 'btree' and i.indisready and i.indisvalid \
                 and c.relkind = 'i' and c.relpersistence <> 't'",
                &[],
            )
            .await?;
        let index = format!("select {amcheck}.bt_index_check($1::oid::regclass, true)::text");
        for r in indexes {
            let rel: String = r.try_get(0).unwrap_or_default();
            let oid: u32 = r.try_get(1).unwrap_or_default();
            if let Err(e) = s.row(&index, &[&oid]).await {
                if matches!(e, holdfast_pg::PgError::Lost(_)) {
                    return Err(e.into());
                }
                push(findings, format!("{name}: index {rel}: {e}"));
            }
            if ctx.monitor.cancelled() {
                return Err(EngineError::Cancelled);
            }
        }
    }
    Ok(())
}

/// The schema that amcheck is in, quoted: the source may have it in any, and of an older version. The copy is thrown
/// away: an extension more or a newer one in it harms nobody.
async fn extension(s: &Session) -> std::result::Result<String, holdfast_pg::PgError> {
    s.batch("create extension if not exists amcheck with schema pg_catalog").await?;
    s.batch("alter extension amcheck update").await?;
    s.text(
        "select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace \
         where e.extname = 'amcheck'",
    )
    .await
}

/// The copy is thrown away, and so may be what was prepared in it.
async fn roll_back_prepared(
    copy: &Copy,
    user: &str,
    databases: &[String],
    findings: &mut Vec<String>,
) -> Result<()> {
    for name in databases {
        let s = Session::connect_to(&copy.conninfo(user), name).await?;
        let prepared = s
            .rows(
                "select quote_literal(gid) from pg_prepared_xacts where database = current_database() order by 1",
                &[],
            )
            .await?;
        for r in prepared {
            let gid: String = r.try_get(0).unwrap_or_default();
            match s.batch(&format!("rollback prepared {gid}")).await {
                Ok(()) => {}
                Err(e @ holdfast_pg::PgError::Lost(_)) => return Err(e.into()),
                // Its file in pg_twophase, or what it holds, does not open.
                Err(e) => push(findings, format!("{name}: prepared transaction {gid}: {e}")),
            }
        }
    }
    Ok(())
}

fn push(findings: &mut Vec<String>, text: String) {
    if findings.len() < MAX_FINDINGS {
        findings.push(text);
    }
}

/// `pg_checksums --check` on the stopped copy.
pub fn checksums(
    programs: &Programs,
    data: &Path,
    owner: (u32, u32),
    point: &Point,
    findings: &mut Vec<String>,
) -> Result<()> {
    if !point.server.data_checksums {
        return Ok(());
    }
    let out = programs
        .command("pg_checksums", owner)
        .arg("--check")
        .arg("-D")
        .arg(data)
        .env("LC_ALL", "C")
        .output()
        .map_err(EngineError::io("run", programs.bin().join("pg_checksums")))?;
    if !out.status.success() {
        for l in String::from_utf8_lossy(&out.stderr)
            .lines()
            .filter(|l| l.contains("error") || l.contains("failed"))
        {
            push(findings, l.to_string());
        }
        push(findings, "page checksums do not hold in the copy".into());
    }
    Ok(())
}
