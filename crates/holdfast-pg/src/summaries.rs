//! What the server's summaries of its WAL say over SQL (17 and later).
//!
//! Everybody may call these functions, unless somebody took that right away.

use crate::connect::Session;
use crate::error::{PgError, Result};
use holdfast_core::{Lsn, TimelineId};
use holdfast_pgformat::relation::RelFileLocator;

/// Main forks that were cut or made anew between the two positions, and the lowest length that they had.
pub async fn limits(
    s: &Session,
    t: TimelineId,
    (from, to): (Lsn, Lsn),
) -> Result<Vec<(RelFileLocator, u32)>> {
    const WHAT: &str = "pg_wal_summary_contents";
    // A summary that begins before `from` may come with it: a limit before `from` holds for what came after,
    // and every block behind it that anybody wrote to since is named.
    let sql = "select c.reltablespace, c.reldatabase, c.relfilenode, min(c.relblocknumber)::bigint \
               from pg_available_wal_summaries() s \
               cross join lateral pg_wal_summary_contents(s.tli, s.start_lsn, s.end_lsn) c \
               where s.tli = $1::bigint and s.end_lsn > $2::text::pg_lsn and s.start_lsn < $3::text::pg_lsn \
               and c.is_limit_block and c.relforknumber = 0 group by 1, 2, 3";
    let odd = |e: tokio_postgres::Error| PgError::Query { what: WHAT.into(), why: e.to_string() };
    let mut out = Vec::new();
    for r in s.rows(sql, &[&i64::from(t.0), &from.to_string(), &to.to_string()]).await? {
        let limit: i64 = r.try_get(3).map_err(odd)?;
        let limit = u32::try_from(limit)
            .map_err(|_| PgError::Query { what: WHAT.into(), why: format!("there is no block {limit}") })?;
        let rel = RelFileLocator {
            tablespace: r.try_get(0).map_err(odd)?,
            database: r.try_get(1).map_err(odd)?,
            relation: r.try_get(2).map_err(odd)?,
        };
        out.push((rel, limit));
    }
    Ok(out)
}

/// The ranges of WAL that there are summaries of, ascending.
pub async fn ranges(s: &Session, t: TimelineId) -> Result<Vec<(Lsn, Lsn)>> {
    const WHAT: &str = "pg_available_wal_summaries";
    let sql = "select s.start_lsn::text, s.end_lsn::text from pg_available_wal_summaries() s \
               where s.tli = $1::bigint order by s.start_lsn, s.end_lsn";
    let odd = |why: String| PgError::Query { what: WHAT.into(), why };
    let mut out = Vec::new();
    for r in s.rows(sql, &[&i64::from(t.0)]).await? {
        let lsn = |n: usize| -> Result<Lsn> {
            let text: String = r.try_get(n).map_err(|e| odd(e.to_string()))?;
            text.parse().map_err(|_| odd(format!("`{text}` is no position")))
        };
        out.push((lsn(0)?, lsn(1)?));
    }
    Ok(out)
}
