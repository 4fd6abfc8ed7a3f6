//! The running server: `postgres.connect`, who we are there, and what it holds that may hurt.

use super::{Line, PATIENCE, Status};
use crate::context::Context;
use crate::error::EngineError;
use holdfast_core::size::ByteSize;
use holdfast_pg::PgError;
use holdfast_pg::connect::Session;
use holdfast_pg::server::Server;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A server that answered.
#[derive(Debug)]
pub(super) struct Live {
    pub session: Session,
    pub server: Server,
}

/// Waits for an answer, but not for ever.
pub(super) async fn patient<T>(f: impl Future<Output = Result<T, PgError>>) -> Result<T, EngineError> {
    match tokio::time::timeout(PATIENCE, f).await {
        Ok(r) => Ok(r?),
        Err(_) => Err(PgError::Lost(format!("no answer within {} s", PATIENCE.as_secs())).into()),
    }
}

/// Facts that a query gives as one JSON text.
pub(super) async fn facts<T: DeserializeOwned>(s: &Session, sql: &str) -> Result<T, EngineError> {
    let text = patient(s.text(sql)).await?;
    serde_json::from_str(&text).map_err(|e| PgError::Query { what: sql.into(), why: e.to_string() }.into())
}

pub(super) async fn connect(ctx: &Context) -> (Vec<Line>, Option<Live>) {
    const CONNECT: &str = "postgres.connect";
    let session = match ctx.conninfo() {
        Ok(c) => patient(Session::connect(c)).await,
        Err(e) => Err(e),
    };
    let session = match session {
        Ok(s) => s,
        Err(e) => return (vec![Line::error(CONNECT, Status::Fail, &e)], None),
    };
    let mut lines = Vec::new();
    let mut found = patient(Server::inspect(&session, ctx.allow_unsupported)).await;
    if let Err(e @ EngineError::Pg(PgError::Version(_))) = &found {
        lines.push(Line::error("postgres.version", Status::Fail, e));
        // The rest can be looked at all the same.
        found = patient(Server::inspect(&session, true)).await;
    }
    match found {
        Ok(server) => {
            let version = format!("{}.{}", server.version_num / 10_000, server.version_num % 10_000);
            lines.insert(0, Line::ok(CONNECT, format!("postgresql {version} answers at {}", session.at())));
            if lines.len() == 1 {
                lines.push(Line::ok("postgres.version", format!("postgresql {version} is supported")));
            }
            (lines, Some(Live { session, server }))
        }
        Err(e) => {
            lines.insert(0, Line::error(CONNECT, Status::Fail, &e));
            (lines, None)
        }
    }
}

pub(super) async fn check(live: &Live, remote: bool) -> Vec<Line> {
    let (s, server) = (&live.session, &live.server);
    let mut lines = vec![role(server.in_recovery)];
    let mut add = |name: &str, found: Result<Vec<Line>, EngineError>| match found {
        Ok(l) => lines.extend(l),
        // One line says that the server went away; the others would only repeat it.
        Err(_) if s.is_closed() && lines.iter().any(|l| l.message.starts_with("cannot be checked")) => {}
        Err(e) => lines.push(Line {
            message: format!("cannot be checked: {}", super::explain(&e)),
            ..Line::error(name, Status::Warn, &e)
        }),
    };
    // Of a remote backup the replication session shows it.
    if !remote {
        add("postgres.privileges", facts(s, PRIVILEGES).await.map(|p| privileges(&p)));
    }
    let pending: Result<Vec<String>, _> = facts(s, PENDING).await;
    add("postgres.pending-restart", pending.map(|p| vec![pending_restart(&p)]));
    add("postgres.replication-slots", facts(s, SLOTS).await.map(|l: Vec<Slot>| vec![slots(&l)]));
    add(
        "postgres.prepared-transactions",
        facts(s, PREPARED).await.map(|l: Vec<Prepared>| vec![prepared(&l)]),
    );
    add("postgres.collations", facts(s, COLLATIONS).await.map(|l: Vec<Collation>| vec![collations(&l)]));
    add("postgres.clock", clock_difference(s).await.map(|d| vec![clock(d)]));
    lines
}

fn role(in_recovery: bool) -> Line {
    const NAME: &str = "postgres.role";
    if in_recovery {
        return Line::ok(NAME, "the server is a standby: its files are backed up, and its primary's wal");
    }
    Line::ok(NAME, "the server is a primary")
}

#[derive(Debug, Deserialize)]
struct Privileges {
    user: String,
    start: bool,
    stop: bool,
    switch: bool,
    restore_point: bool,
    settings: bool,
}

const PRIVILEGES: &str = "select json_build_object('user', current_user, \
    'start', coalesce(has_function_privilege(to_regprocedure('pg_backup_start(text,boolean)')::oid, 'execute'), false), \
    'stop', coalesce(has_function_privilege(to_regprocedure('pg_backup_stop(boolean)')::oid, 'execute'), false), \
    'switch', has_function_privilege('pg_switch_wal()', 'execute'), \
    'restore_point', has_function_privilege('pg_create_restore_point(text)', 'execute'), \
    'settings', pg_has_role(current_user, 'pg_read_all_settings', 'usage'))::text";

/// An SQL identifier, quoted if it must be.
fn ident(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if plain { name.into() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn privileges(p: &Privileges) -> Vec<Line> {
    const NAME: &str = "postgres.privileges";
    let user = ident(&p.user);
    let mut lines = Vec::new();
    if !p.start || !p.stop {
        lines.push(Line::fail(
            NAME,
            format!("the user {user} may not start and stop a backup"),
            format!(
                "run `grant execute on function pg_backup_start(text, boolean), pg_backup_stop(boolean) to {user}` as \
                 a superuser"
            ),
        ));
    }
    if !p.settings {
        // What of this a backup cannot do without fails at `postgres.data-directory`.
        lines.push(Line::warn(
            NAME,
            format!("the user {user} may not see where the server's files and configuration are"),
            format!("run `grant pg_read_all_settings to {user}` as a superuser"),
        ));
    }
    if lines.is_empty() {
        let line = Line::ok(NAME, format!("the user {user} may do what a backup needs"));
        lines.push(if p.switch && p.restore_point {
            line
        } else {
            line.hint(format!(
                "pg_switch_wal() and pg_create_restore_point(text) may be granted to {user} as well; nothing needs them"
            ))
        });
    }
    lines
}

const PENDING: &str =
    "select coalesce(json_agg(name order by name), '[]')::text from pg_settings where pending_restart";

fn pending_restart(names: &[String]) -> Line {
    const NAME: &str = "postgres.pending-restart";
    if names.is_empty() {
        return Line::ok(NAME, "no changed setting waits for a restart");
    }
    Line::warn(
        NAME,
        format!("settings were changed and wait for a restart: {}", names.join(", ")),
        "restart the server; until then the old values count",
    )
}

#[derive(Debug, Deserialize)]
struct Slot {
    name: String,
    bytes: i64,
}

const SLOTS: &str = "select coalesce(json_agg(t order by name), '[]')::text from (select slot_name as name, \
    coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() \
    end, restart_lsn), 0)::bigint as bytes from pg_replication_slots where not active and restart_lsn is not null) t";

fn slots(inactive: &[Slot]) -> Line {
    const NAME: &str = "postgres.replication-slots";
    let Some(worst) = inactive.iter().max_by_key(|s| s.bytes) else {
        return Line::ok(NAME, "no inactive replication slot holds wal back");
    };
    let each: Vec<String> =
        inactive.iter().map(|s| format!("{} ({})", s.name, ByteSize(s.bytes.max(0) as u64))).collect();
    Line::warn(
        NAME,
        format!("inactive replication slots hold wal back until the disk is full: {}", each.join(", ")),
        format!(
            "start what uses it, or run `select pg_drop_replication_slot('{}')`",
            worst.name.replace('\'', "''")
        ),
    )
}

#[derive(Debug, Deserialize)]
struct Prepared {
    name: String,
    seconds: u64,
}

const PREPARED: &str = "select coalesce(json_agg(t order by name), '[]')::text from (select gid as name, \
    extract(epoch from now() - prepared)::bigint as seconds from pg_prepared_xacts \
    where prepared < now() - interval '1 day') t";

fn prepared(old: &[Prepared]) -> Line {
    const NAME: &str = "postgres.prepared-transactions";
    let Some(oldest) = old.iter().max_by_key(|p| p.seconds) else {
        return Line::ok(NAME, "no prepared transaction is older than a day");
    };
    Line::warn(
        NAME,
        format!(
            "{} older than a day, the oldest ({}) of {} days ago: locks are held, also in every restored copy",
            super::count(old.len() as u64, "prepared transaction"),
            oldest.name,
            oldest.seconds / 86_400
        ),
        format!("run `commit prepared` or `rollback prepared '{}'`", oldest.name.replace('\'', "''")),
    )
}

#[derive(Debug, Deserialize)]
struct Collation {
    name: String,
    recorded: String,
    actual: Option<String>,
}

const COLLATIONS: &str = "select coalesce(json_agg(t order by name), '[]')::text from (select datname as name, \
    datcollversion as recorded, pg_database_collation_actual_version(oid) as actual from pg_database \
    where datallowconn and datcollversion is not null) t \
    where recorded is distinct from actual";

fn collations(different: &[Collation]) -> Line {
    const NAME: &str = "postgres.collations";
    let Some(first) = different.first() else {
        return Line::ok(NAME, "collation versions are those of this host");
    };
    let each: Vec<String> = different
        .iter()
        .map(|c| format!("{} ({}, here {})", c.name, c.recorded, c.actual.as_deref().unwrap_or("unknown")))
        .collect();
    Line::warn(
        NAME,
        format!("text indexes may be in the wrong order, here and in every copy: {}", each.join(", ")),
        format!(
            "run `reindex database {0}`, then `alter database {0} refresh collation version`",
            ident(&first.name)
        ),
    )
}

/// Seconds that this host's clock is ahead of the server's.
async fn clock_difference(s: &Session) -> Result<f64, EngineError> {
    let before = jiff::Timestamp::now();
    let server: f64 = facts(s, "select extract(epoch from clock_timestamp())::text").await?;
    let after = jiff::Timestamp::now();
    // The answer was made somewhere between the two.
    let middle = (before.as_microsecond() as f64 + after.as_microsecond() as f64) / 2e6;
    let doubt = (after.as_microsecond() - before.as_microsecond()) as f64 / 2e6;
    let ahead = middle - server;
    Ok(if ahead.abs() <= doubt { 0.0 } else { ahead })
}

fn clock(ahead: f64) -> Line {
    const NAME: &str = "postgres.clock";
    if ahead.abs() <= 5.0 {
        return Line::ok(NAME, "this host and the server agree about the time");
    }
    let word = if ahead > 0.0 { "ahead of" } else { "behind" };
    Line::warn(
        NAME,
        format!("the clock of this host is {:.0} s {word} the server's", ahead.abs()),
        "synchronise both clocks (chrony, systemd-timesyncd): times of points and targets follow them",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Privileges {
        Privileges {
            user: "backup".into(),
            start: true,
            stop: true,
            switch: true,
            restore_point: true,
            settings: true,
        }
    }

    #[test]
    fn privileges_name_the_grant() {
        assert_eq!(privileges(&all())[0].status, Status::Ok);
        let line = &privileges(&Privileges { stop: false, user: "Back up".into(), ..all() })[0];
        assert_eq!(line.status, Status::Fail);
        assert!(line.hint.as_deref().unwrap().contains("pg_backup_stop(boolean) to \"Back up\"`"));
        assert_eq!(privileges(&Privileges { settings: false, ..all() })[0].status, Status::Warn);
        let optional = &privileges(&Privileges { switch: false, ..all() })[0];
        assert!(optional.status == Status::Ok && optional.hint.is_some());
    }

    #[test]
    fn what_lingers_is_named() {
        assert_eq!(slots(&[]).status, Status::Ok);
        let l = slots(&[Slot { name: "a".into(), bytes: 10 }, Slot { name: "b".into(), bytes: 3 << 30 }]);
        assert_eq!(l.status, Status::Warn);
        assert!(l.message.contains("b (3.00 GiB)") && l.hint.unwrap().contains("'b'"));
        assert_eq!(prepared(&[]).status, Status::Ok);
        let l = prepared(&[Prepared { name: "x".into(), seconds: 200_000 }]);
        assert!(l.status == Status::Warn && l.message.contains("2 days"));
        assert_eq!(collations(&[]).status, Status::Ok);
        let l = collations(&[Collation {
            name: "Shop".into(),
            recorded: "2.31".into(),
            actual: Some("2.36".into()),
        }]);
        assert!(l.status == Status::Warn && l.hint.unwrap().contains("alter database \"Shop\" refresh"));
        assert_eq!(pending_restart(&[]).status, Status::Ok);
        assert_eq!(pending_restart(&["archive_mode".into()]).status, Status::Warn);
    }

    #[test]
    fn roles_and_clocks() {
        assert_eq!((role(false).status, role(true).status), (Status::Ok, Status::Ok));
        assert!(role(true).message.contains("standby"));
        assert_eq!((clock(-4.9).status, clock(5.1).status), (Status::Ok, Status::Warn));
        assert!(clock(-60.0).message.contains("60 s behind"));
    }
}
