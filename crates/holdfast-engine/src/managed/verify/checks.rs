//! What is in the copy: counted, compared and checked over sessions with it.
//!
//! Rows are counted with COUNT(*): the statistics of a server are not in its backups, and say nothing about a copy
//! (provider rules X40). Foreign keys are not listed but followed: rows of the child are looked up in the parent.
//! amcheck compares each B-tree with its table. All of that shares one time limit; what was not reached
//! is counted ([`Coverage`](super::evidence::Coverage)): without it there is no L4.
//!
//! A fault is something that is not as it should be; a note is something that was not looked at, or is worth knowing.

use super::connect::Access;
use super::evidence::{Asked, DatabaseEvidence, Evidence, TableCount};
use crate::error::{EngineError, Result};
use holdfast_core::Monitor;
use holdfast_core::policy::managed::Expect;
use holdfast_core::time::{Duration as Span, short};
use holdfast_pg::PgError;
use holdfast_pg::connect::Session;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// For everything but the caller's own questions.
const DEFAULT_SECONDS: u64 = 3_600;
/// For each of the caller's questions.
pub(super) const QUESTION: Duration = Duration::from_secs(300);
/// Less than this is no time: what sets a limit runs under the one before it, and 0 is none at all.
const LEAST: Duration = Duration::from_millis(50);
/// Most faults are one fault seen many times.
const MAX_FAULTS: usize = 50;
/// RDS's own, which lets nobody in.
const NOT_OURS: &str = "rdsadmin";

/// What to look at, beside what is always looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Checks {
    /// All, if none is named. One that is named and absent is a fault.
    pub databases: Vec<String>,
    pub assertions: Vec<Assertion>,
    pub fresh: Vec<Fresh>,
    /// DocumentDB.
    pub collections: Vec<Collection>,
    /// Time for counting, foreign keys and amcheck together; seconds. An hour if it is not given.
    pub seconds: Option<u64>,
}

/// A query with one row and one column: `true`, a number that is expected, or a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Assertion {
    pub name: String,
    /// The first of [`Checks::databases`] if none is named, else `postgres`.
    #[serde(default)]
    pub database: Option<String>,
    pub sql: String,
    /// What the number must be. Without this and `within` the answer must be `true`.
    #[serde(default)]
    pub expect: Option<Expect>,
    /// The answer is a time, at most this far before the moment that was restored.
    #[serde(default)]
    pub within: Option<Span>,
}

/// The newest value of a column must be close to the moment that was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fresh {
    #[serde(default)]
    pub database: Option<String>,
    /// With its schema, as SQL writes it.
    pub table: String,
    pub column: String,
    /// How far the newest may lie behind the moment.
    pub within: Span,
}

/// A collection of DocumentDB: its documents are counted, all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Collection {
    /// Of the check.
    pub name: String,
    /// The only one of the copy, if none is named here or in [`Checks::databases`].
    #[serde(default)]
    pub database: Option<String>,
    pub collection: String,
    /// What the number of documents must be.
    #[serde(default)]
    pub expect: Option<Expect>,
    /// The field whose latest time is taken.
    #[serde(default)]
    pub newest: Option<String>,
    /// How far that may lie behind the moment.
    #[serde(default)]
    pub within: Option<Span>,
    /// Names of indexes that must be there.
    #[serde(default)]
    pub indexes: Vec<String>,
}

/// The time that is left.
pub(super) struct Budget {
    end: Instant,
    said: bool,
}

impl Budget {
    /// [`Checks::seconds`], from now on.
    pub(super) fn of(checks: &Checks) -> Self {
        let seconds = checks.seconds.unwrap_or(DEFAULT_SECONDS);
        Budget { end: Instant::now() + Duration::from_secs(seconds), said: false }
    }

    pub(super) fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    pub(super) fn over(&self) -> bool {
        self.left() < LEAST
    }

    /// Lets the server end the next statement in time.
    async fn limit(&self, s: &Session) -> Result<(), PgError> {
        s.batch(&format!("set statement_timeout = {}", self.left().max(LEAST).as_millis())).await
    }
}

/// Before the catalog is read: what there is to look at must be known also when there is no time left to look, and the
/// limit of the last statement still holds.
async fn unhurried(s: &Session) -> Result<(), PgError> {
    s.batch("set statement_timeout = 0").await
}

/// Names of the databases in which a session is opened: L3 is one in each.
pub async fn databases(first: &Session, checks: &Checks, evidence: &mut Evidence) -> Result<Vec<String>> {
    evidence.server_version = Some(first.text("show server_version").await?);
    let rows = first
        .rows(
            "select datname::text from pg_database where datallowconn and not datistemplate and datname <> $1 \
             order by 1",
            &[&NOT_OURS],
        )
        .await?;
    let there: Vec<String> = rows.iter().filter_map(|r| r.try_get(0).ok()).collect();
    Ok(named(there, checks, evidence))
}

/// Those that are there and asked for; all of them, if none is named. One that is named and absent is a fault.
pub(super) fn named(there: Vec<String>, checks: &Checks, evidence: &mut Evidence) -> Vec<String> {
    if checks.databases.is_empty() {
        return there;
    }
    let (found, absent): (Vec<String>, Vec<String>) =
        checks.databases.iter().cloned().partition(|d| there.contains(d));
    evidence.faults.extend(absent.iter().map(|d| format!("there is no database `{d}`")));
    found
}

/// Looks at everything. Faults go into the evidence; an error is one that keeps us from looking.
pub async fn run(
    access: &Access,
    names: &[String],
    checks: &Checks,
    moment: Option<Timestamp>,
    monitor: &dyn Monitor,
    evidence: &mut Evidence,
) -> Result<()> {
    // What somebody asked for comes first, and has limits of its own.
    for a in &checks.assertions {
        let database = database_of(&a.database, checks);
        let asked = assertion(access, database, a, moment, evidence).await?;
        take(evidence, asked);
    }
    for f in &checks.fresh {
        let database = database_of(&f.database, checks);
        let asked = fresh(access, database, f, moment, evidence).await?;
        take(evidence, asked);
    }
    let mut budget = Budget::of(checks);
    for name in names {
        monitor.phase(&format!("checking the content of {name}"));
        let s = access.open(name).await?;
        let mut found = DatabaseEvidence { name: name.clone(), ..DatabaseEvidence::default() };
        count(&s, &mut found, &mut budget, monitor, evidence).await?;
        foreign_keys(&s, &mut found, &mut budget, monitor, evidence).await?;
        amcheck(&s, &mut found, &mut budget, monitor, evidence).await?;
        evidence.push(found);
    }
    let (tables, rows) =
        evidence.databases.iter().fold((0, 0), |(t, r), d| (t + d.tables.len(), r + d.rows()));
    if tables == 0 {
        fault(evidence, "the copy has no table at all".into());
    } else if rows == 0 && evidence.databases.iter().all(|d| d.tables.iter().all(|t| t.rows.is_some())) {
        fault(evidence, format!("the copy has {tables} tables and not one row"));
    }
    Ok(())
}

fn database_of<'a>(named: &'a Option<String>, checks: &'a Checks) -> &'a str {
    named.as_deref().or(checks.databases.first().map(String::as_str)).unwrap_or("postgres")
}

pub(super) fn take(evidence: &mut Evidence, asked: Asked) {
    if !asked.holds {
        fault(evidence, format!("{}: {}", asked.name, asked.found));
    }
    evidence.asked.push(asked);
}

pub(super) fn fault(evidence: &mut Evidence, text: String) {
    if evidence.faults.len() < MAX_FAULTS {
        evidence.faults.push(text);
    }
}

/// The first column of the first row, as text.
async fn ask(access: &Access, database: &str, sql: &str) -> Result<Result<Option<String>, String>> {
    let s = match access.another(database).await? {
        Ok(s) => s,
        Err(why) => return Ok(Err(format!("no session in `{database}`: {why}"))),
    };
    // Whoever wrote the query did so for an ordinary session; it changes nothing.
    let settings = format!(
        "reset search_path; set timezone = 'UTC'; set default_transaction_read_only = on; \
         set statement_timeout = {}",
        QUESTION.as_millis()
    );
    s.batch(&settings).await?;
    let wrapped = format!("select v::text from (\n{}\n) as t(v)", sql.trim().trim_end_matches(';'));
    match s.rows(&wrapped, &[]).await {
        Ok(rows) => Ok(Ok(rows.first().and_then(|r| r.try_get::<_, Option<String>>(0).ok().flatten()))),
        Err(PgError::Query { why, .. } | PgError::Cut { why, .. }) => Ok(Err(why)),
        Err(e) => Err(e.into()),
    }
}

async fn assertion(
    access: &Access,
    database: &str,
    a: &Assertion,
    moment: Option<Timestamp>,
    evidence: &mut Evidence,
) -> Result<Asked> {
    let asked = |holds, found| Asked { name: a.name.clone(), holds, found };
    if let Some(within) = a.within {
        let sql = a.sql.trim().trim_end_matches(';');
        let sql = format!(
            "select (extract(epoch from t.v::text::timestamptz) * 1000000)::bigint from (\n{sql}\n) as t(v)"
        );
        let newest = match ask(access, database, &sql).await? {
            Err(why) => return Ok(asked(false, format!("the query failed: {why}"))),
            Ok(newest) => newest,
        };
        let Some(newest) = newest else { return Ok(asked(false, "no row, or null".into())) };
        let newest = newest.parse().ok().and_then(|us: i64| Timestamp::from_microsecond(us).ok());
        return Ok(recent(&a.name, newest, within, moment, evidence));
    }
    Ok(match ask(access, database, &a.sql).await? {
        Err(why) => asked(false, format!("the query failed: {why}")),
        Ok(None) => asked(false, "no row, or null".into()),
        Ok(Some(text)) => {
            let (holds, wanted) = judge(&text, a.expect);
            asked(holds, if holds { text } else { format!("found {text}, wanted {wanted}") })
        }
    })
}

fn judge(text: &str, expect: Option<Expect>) -> (bool, String) {
    match expect {
        None => (matches!(text, "t" | "true"), "true".into()),
        Some(e) => (meets(text, e), e.to_string()),
    }
}

/// Whole numbers are compared exactly; a fraction by what lies beside it.
fn meets(text: &str, expect: Expect) -> bool {
    if let Ok(n) = text.parse::<i64>() {
        return expect.holds(n);
    }
    match text.parse::<f64>() {
        Ok(v) if v.is_nan() => false,
        Ok(v) => expect.relation.holds_of(v.partial_cmp(&(expect.number as f64))),
        Err(_) => false,
    }
}

async fn fresh(
    access: &Access,
    database: &str,
    f: &Fresh,
    moment: Option<Timestamp>,
    evidence: &mut Evidence,
) -> Result<Asked> {
    let name = format!("newest {}.{}", f.table, f.column);
    let asked = |holds, found| Asked { name: name.clone(), holds, found };
    let column = f.column.replace('"', "\"\"");
    let sql = format!(
        "select (extract(epoch from max(\"{column}\")::timestamptz) * 1000000)::bigint from {}",
        f.table
    );
    let newest = match ask(access, database, &sql).await? {
        Err(why) => return Ok(asked(false, format!("the query failed: {why}"))),
        Ok(None) => return Ok(asked(false, "the table is empty".into())),
        Ok(Some(text)) => text.parse().ok().and_then(|us: i64| Timestamp::from_microsecond(us).ok()),
    };
    Ok(recent(&name, newest, f.within, moment, evidence))
}

/// Whether a time is close enough to the moment that was restored.
pub(super) fn recent(
    name: &str,
    newest: Option<Timestamp>,
    within: Span,
    moment: Option<Timestamp>,
    evidence: &mut Evidence,
) -> Asked {
    let asked = |holds, found| Asked { name: name.to_string(), holds, found };
    let Some(newest) = newest else { return asked(false, "it is no time".into()) };
    let Some(moment) = moment else {
        evidence.notes.push(format!("{name} is {}; the moment of the copy is not known", short(newest)));
        return asked(true, short(newest));
    };
    let (holds, text) = judge_fresh(newest, moment, within);
    if newest > moment {
        // Rows of the future: an application's own dates, or a moment that is not what it says (rules X33).
        evidence.notes.push(format!("{name} is {}, after the moment {}", short(newest), short(moment)));
    }
    asked(holds, text)
}

fn judge_fresh(newest: Timestamp, moment: Timestamp, within: Span) -> (bool, String) {
    let behind = moment.duration_since(newest).as_secs().max(0).unsigned_abs();
    if behind <= within.0 {
        return (true, short(newest));
    }
    let text = format!("{} is {} before the moment {}", short(newest), Span(behind), short(moment));
    (false, format!("{text}, more than {within}"))
}

/// What a statement under the time limit gave.
enum Limited<T> {
    Done(T),
    Refused(String),
    TimeUp,
}

/// Runs a statement within the budget; the first column of its rows, which is text. A lost connection is an error: the copy is gone.
async fn limited(s: &Session, sql: &str, budget: &Budget) -> Result<Limited<Vec<String>>> {
    if budget.over() {
        return Ok(Limited::TimeUp);
    }
    budget.limit(s).await?;
    match s.rows(sql, &[]).await {
        Ok(rows) => {
            let first = rows.iter().map(|r| r.try_get::<_, Option<String>>(0).ok().flatten());
            Ok(Limited::Done(first.map(Option::unwrap_or_default).collect()))
        }
        // The server's clock may run out before ours: it is the code that tells, not what is left of the budget.
        Err(PgError::Cut { .. }) => Ok(Limited::TimeUp),
        Err(PgError::Query { why, .. }) => Ok(Limited::Refused(why)),
        Err(e) => Err(e.into()),
    }
}

pub(super) fn time_up(what: &str, name: &str, budget: &mut Budget, evidence: &mut Evidence) {
    if !std::mem::replace(&mut budget.said, true) {
        evidence.notes.push(format!("the time was up at {what} of {name}: the rest was not looked at"));
    }
}

pub(super) fn stop_if_asked(monitor: &dyn Monitor) -> Result<()> {
    if monitor.cancelled() { Err(EngineError::Cancelled) } else { Ok(()) }
}

// Sizes in the catalog are of the last vacuum, and good enough for an order. What asks the file waits for locks, and
// transactions that were prepared in the source hold theirs in the copy.
const TABLES: &str = "select c.oid::regclass::text, c.oid::text, \
    c.relpages::int8 * current_setting('block_size')::int8 from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    where (c.relkind = 'r' or c.relkind = 'm' and c.relispopulated) and c.relpersistence <> 't' and n.nspname <> 'information_schema' \
    and n.nspname !~ '^pg_' order by c.relpages, 1";

async fn count(
    s: &Session,
    found: &mut DatabaseEvidence,
    budget: &mut Budget,
    monitor: &dyn Monitor,
    evidence: &mut Evidence,
) -> Result<()> {
    // A policy on a table would hide rows from a count.
    s.batch("set row_security = off").await?;
    unhurried(s).await?;
    for r in s.rows(TABLES, &[]).await? {
        stop_if_asked(monitor)?;
        let (Ok(table), Ok(oid)) = (r.try_get::<_, String>(0), r.try_get::<_, String>(1)) else { continue };
        let sql = format!("select count(*) || ' ' || pg_table_size({oid}) from only {table}");
        let counted: Option<(u64, u64)> = match limited(s, &sql, budget).await? {
            Limited::Done(found) => found
                .first()
                .and_then(|both| both.split_once(' '))
                .and_then(|(rows, bytes)| Some((rows.parse().ok()?, bytes.parse().ok()?))),
            Limited::Refused(why) => {
                fault(evidence, format!("{}: {table} cannot be read: {why}", found.name));
                None
            }
            Limited::TimeUp => {
                time_up("the tables", &found.name, budget, evidence);
                None
            }
        };
        let roughly = r.try_get::<_, i64>(2).map_or(0, |b| b.max(0).unsigned_abs());
        found.coverage.tables.count(1, counted.is_some());
        found.coverage.bytes.count(counted.map_or(roughly, |(_, bytes)| bytes), counted.is_some());
        let rows = counted.map(|(rows, _)| rows);
        found.tables.push(TableCount { table, rows });
    }
    Ok(())
}

// The last column of a temporal key (`conperiod`, PostgreSQL 18) is a range, and no part of the equality.
const FOREIGN_KEYS: &str = "select c.conname::text, c.conrelid::regclass::text, c.convalidated, \
    c.confrelid::regclass::text, \
    (select coalesce(string_agg(format('p.%I = c.%I', k.parent, k.child), ' and ') filter (where not k.period), 'true') \
       from keys k where k.oid = c.oid), \
    (select string_agg(format('c.%I is not null', k.child), ' and ') from keys k where k.oid = c.oid), \
    (select format('p.%I', k.parent) from keys k where k.oid = c.oid and k.period), \
    (select format('c.%I', k.child) from keys k where k.oid = c.oid and k.period) \
    from pg_constraint c where c.contype = 'f' and c.conparentid = 0 \
    order by (select t.relpages from pg_class t where t.oid = c.conrelid), 1";
const KEYS: &str = "with keys as (select c.oid, x.attname as child, y.attname as parent, \
    coalesce((to_jsonb(c) ->> 'conperiod')::boolean, false) and k.n = cardinality(c.conkey) as period \
    from pg_constraint c cross join lateral unnest(c.conkey, c.confkey) with ordinality as k(f, t, n) \
    join pg_attribute x on x.attrelid = c.conrelid and x.attnum = k.f \
    join pg_attribute y on y.attrelid = c.confrelid and y.attnum = k.t where c.contype = 'f')";

async fn foreign_keys(
    s: &Session,
    found: &mut DatabaseEvidence,
    budget: &mut Budget,
    monitor: &dyn Monitor,
    evidence: &mut Evidence,
) -> Result<()> {
    unhurried(s).await?;
    for r in s.rows(&format!("{KEYS} {FOREIGN_KEYS}"), &[]).await? {
        stop_if_asked(monitor)?;
        let text = |i: usize| r.try_get::<_, Option<String>>(i).ok().flatten().unwrap_or_default();
        let (key, child, parent, equal, set) = (text(0), text(1), text(3), text(4), text(5));
        found.foreign_keys += 1;
        // One that nobody validated promises nothing about old rows, in the source as in the copy.
        if r.try_get::<_, bool>(2).is_ok_and(|valid| !valid) {
            found.foreign_keys_not_valid += 1;
            evidence.notes.push(format!("{}: foreign key {key} of {child} is not validated", found.name));
            continue;
        }
        let orphans = match (text(6), text(7)) {
            // PERIOD of PostgreSQL 18: ranges of several rows of the parent cover that of the child, none equals it.
            (of_parent, of_child) if !of_parent.is_empty() => format!(
                "select '1' from {child} c where {set} and not coalesce((select range_agg({of_parent}) from {parent} p \
                 where {equal}) @> {of_child}, false) limit 1"
            ),
            _ => format!(
                "select '1' from {child} c where {set} and not exists (select 1 from {parent} p where {equal}) limit 1"
            ),
        };
        let mut followed = false;
        match limited(s, &orphans, budget).await? {
            Limited::Done(rows) => {
                followed = true;
                if !rows.is_empty() {
                    fault(
                        evidence,
                        format!(
                            "{}: {child} has rows without the row of {parent} that {key} asks for",
                            found.name
                        ),
                    );
                }
            }
            Limited::Refused(why) => {
                evidence.notes.push(format!("{}: {key} could not be followed: {why}", found.name));
            }
            Limited::TimeUp => time_up("the foreign keys", &found.name, budget, evidence),
        }
        found.coverage.foreign_keys.count(1, followed);
    }
    Ok(())
}

const AMCHECK: &str = "select n.nspname::text, x.name is not null from (select 1) o \
    left join pg_available_extensions x on x.name = 'amcheck' \
    left join pg_extension e on e.extname = 'amcheck' left join pg_namespace n on n.oid = e.extnamespace";

const INDEXES: &str = "select c.oid::regclass::text, c.oid::text from pg_index i \
    join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam where a.amname = 'btree' \
    and i.indisready and i.indisvalid and c.relkind = 'i' and c.relpersistence <> 't' \
    order by c.relpages, 1";

async fn amcheck(
    s: &Session,
    found: &mut DatabaseEvidence,
    budget: &mut Budget,
    monitor: &dyn Monitor,
    evidence: &mut Evidence,
) -> Result<()> {
    unhurried(s).await?;
    let indexes = s.rows(INDEXES, &[]).await?;
    found.indexes = indexes.len() as u64;
    found.coverage.indexes.of = found.indexes;
    let row = s.row(AMCHECK, &[]).await?;
    let schema = match (row.try_get::<_, Option<String>>(0).ok().flatten(), row.try_get(1)) {
        (Some(schema), _) => schema,
        (None, Ok(true)) => {
            // The copy is thrown away: an extension in it harms nobody.
            match s
                .batch("create schema holdfast_verify; create extension amcheck schema holdfast_verify")
                .await
            {
                Ok(()) => "holdfast_verify".to_string(),
                Err(PgError::Query { why, .. } | PgError::Cut { why, .. }) => {
                    evidence.notes.push(format!("{}: amcheck was not used: {why}", found.name));
                    return Ok(());
                }
                Err(e) => return Err(e.into()),
            }
        }
        _ => {
            evidence.notes.push(format!("{}: amcheck was not used: the server does not have it", found.name));
            return Ok(());
        }
    };
    let schema = schema.replace('"', "\"\"");
    for r in indexes {
        stop_if_asked(monitor)?;
        let (Ok(index), Ok(oid)) = (r.try_get::<_, String>(0), r.try_get::<_, String>(1)) else { continue };
        let sql = format!("select \"{schema}\".bt_index_check({oid}::oid::regclass, true)::text");
        match limited(s, &sql, budget).await? {
            Limited::Done(_) => found.coverage.indexes.looked_at += 1,
            Limited::Refused(why) if why.contains("permission denied") => {
                evidence.notes.push(format!("{}: amcheck was not used: {why}", found.name));
                return Ok(());
            }
            Limited::Refused(why) => {
                found.coverage.indexes.looked_at += 1;
                fault(evidence, format!("{}: index {index}: {why}", found.name));
            }
            Limited::TimeUp => {
                time_up("the indexes", &found.name, budget, evidence);
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assertions_are_true_or_what_is_expected() {
        for (text, expect, holds) in [
            ("true", "", true),
            ("t", "", true),
            ("false", "", false),
            ("1", "", false),
            ("10", ">= 10", true),
            ("9.99", ">= 10", false),
            ("9.99", "< 10", true),
            ("0.5", "> 0", true),
            ("0.5", "!= 0", true),
            ("-0.5", "< 0", true),
            ("3", "= 3", true),
            ("3.0", "= 3", true),
            ("NaN", "!= 0", false),
            ("1e300", "> 0", true),
            ("many", ">= 1", false),
        ] {
            assert_eq!(judge(text, Expect::parse(expect)).0, holds, "{text} {expect}");
        }
    }

    #[test]
    fn freshness_counts_from_the_moment_and_not_from_now() {
        let t = |s: &str| s.parse::<Timestamp>().unwrap();
        let moment = t("2020-01-02T00:00:00Z");
        let day = Span(86_400);
        assert!(judge_fresh(t("2020-01-01T00:00:00Z"), moment, day).0);
        let (holds, text) = judge_fresh(t("2019-12-31T23:59:59Z"), moment, day);
        assert!(!holds && text.contains("more than 1d"), "{text}");
        assert!(judge_fresh(t("2020-01-03T00:00:00Z"), moment, day).0);
    }
}
