//! What is in a copy of DocumentDB: logged into, counted and compared.
//!
//! Each collection is named, and counted to its end (provider rules X41): the first batch of a listing and a server's
//! estimate say nothing. What was not reached in time is said, as for PostgreSQL ([`super::checks`]).

use super::checks::{
    self, Budget, Checks, Collection, QUESTION, fault, recent, stop_if_asked, take, time_up,
};
use super::connect::{Access, answering};
use super::evidence::{Asked, DatabaseEvidence, Evidence, TableCount};
use crate::error::{EngineError, Result};
use crate::managed::Managed;
use holdfast_core::managed::{DocumentError, DocumentServers, Documents, NewestDocument};
use holdfast_core::time::short;
use jiff::Timestamp;

/// # Errors
/// This build has no driver.
pub fn driver(m: &Managed) -> Result<&dyn DocumentServers> {
    m.documents.as_deref().ok_or_else(|| {
        EngineError::usage(
            "this holdfast was built without a driver for DocumentDB: it cannot log in there",
            "build it with its default features, or ask for L2 (--level L2)",
        )
    })
}

/// Logs in, and asks again while nobody answers yet. A refused login is final, unless the password was just set.
pub async fn open(m: &Managed, access: &Access) -> Result<Box<dyn Documents>> {
    let driver = driver(m)?;
    let login = access.documents()?;
    answering(m, access.at(), async || match driver.open(&login).await {
        Ok(session) => Ok(Ok(session)),
        Err(e @ (DocumentError::NoAnswer(_) | DocumentError::Lost(_) | DocumentError::TimeUp)) => {
            Ok(Err(e.to_string()))
        }
        Err(e @ DocumentError::Login(_)) if access.is_fresh() => Ok(Err(e.to_string())),
        Err(e) => Err(access.denied_documents(e)),
    })
    .await
}

/// Names of the databases that are looked at. One that is named and absent is a fault.
pub async fn databases(s: &dyn Documents, checks: &Checks, evidence: &mut Evidence) -> Result<Vec<String>> {
    evidence.server_version = Some(s.version().await?);
    let there = s.databases().await?;
    Ok(checks::named(there, checks, evidence))
}

/// Looks at everything. Faults go into the evidence; an error is one that keeps us from looking.
pub async fn run(
    m: &Managed,
    s: &dyn Documents,
    names: &[String],
    checks: &Checks,
    moment: Option<Timestamp>,
    evidence: &mut Evidence,
) -> Result<()> {
    for c in &checks.collections {
        stop_if_asked(&*m.monitor)?;
        asked(s, names, checks, c, moment, evidence).await?;
    }
    let mut budget = Budget::of(checks);
    for name in names {
        m.monitor.phase(&format!("checking the content of {name}"));
        let found = database(m, s, name, &mut budget, evidence).await?;
        evidence.push(found);
    }
    let (collections, documents) =
        evidence.databases.iter().fold((0, 0), |(t, r), d| (t + d.tables.len(), r + d.rows()));
    if collections == 0 {
        fault(evidence, "the copy has no collection at all".into());
    } else if documents == 0 && evidence.databases.iter().all(|d| d.tables.iter().all(|t| t.rows.is_some())) {
        fault(evidence, format!("the copy has {collections} collections and not one document"));
    }
    Ok(())
}

async fn database(
    m: &Managed,
    s: &dyn Documents,
    name: &str,
    budget: &mut Budget,
    evidence: &mut Evidence,
) -> Result<DatabaseEvidence> {
    let mut found = DatabaseEvidence { name: name.to_string(), ..DatabaseEvidence::default() };
    for collection in s.collections(name).await? {
        stop_if_asked(&*m.monitor)?;
        let rows = match budget.over() {
            true => Err(DocumentError::TimeUp),
            false => s.count(name, &collection, budget.left()).await,
        };
        let rows = match rows {
            Ok(n) => Some(n),
            Err(DocumentError::TimeUp) => {
                time_up("the collections", name, budget, evidence);
                None
            }
            Err(DocumentError::Refused(why)) => {
                fault(evidence, format!("{name}: {collection} cannot be read: {why}"));
                None
            }
            Err(e) => return Err(e.into()),
        };
        match s.indexes(name, &collection).await {
            Ok(all) => found.indexes += all.len() as u64,
            Err(DocumentError::Refused(why)) => {
                evidence.notes.push(format!("{name}: the indexes of {collection} were not listed: {why}"));
            }
            Err(e) => return Err(e.into()),
        }
        found.coverage.tables.count(1, rows.is_some());
        found.tables.push(TableCount { table: collection, rows });
    }
    Ok(found)
}

/// One check of the policy: several answers, each with its own name.
async fn asked(
    s: &dyn Documents,
    names: &[String],
    checks: &Checks,
    c: &Collection,
    moment: Option<Timestamp>,
    evidence: &mut Evidence,
) -> Result<()> {
    let named = c.database.as_deref().or(checks.databases.first().map(String::as_str));
    let database = match (named, names) {
        (Some(d), _) => d,
        (None, [only]) => only.as_str(),
        (None, all) => {
            let found = format!("the copy has {} databases, and the check names none", all.len());
            take(evidence, Asked { name: c.name.clone(), holds: false, found });
            return Ok(());
        }
    };
    let at = format!("{database}.{}", c.collection);
    // A collection that is not there has no documents, and a server says so without complaint.
    let there = s.collections(database).await?.contains(&c.collection);
    if !there {
        take(evidence, Asked { name: c.name.clone(), holds: false, found: format!("there is no {at}") });
        return Ok(());
    }
    let refused = |e: DocumentError| match e {
        DocumentError::Refused(why) => Ok(why),
        DocumentError::TimeUp => Ok(format!("no answer in {} s", QUESTION.as_secs())),
        e => Err(EngineError::from(e)),
    };
    let mut answer = |name: String, holds, found| take(evidence, Asked { name, holds, found });
    match s.count(database, &c.collection, QUESTION).await {
        Ok(n) => {
            let holds = c.expect.is_none_or(|e| i64::try_from(n).is_ok_and(|n| e.holds(n)));
            let wanted = c.expect.filter(|_| !holds).map(|e| format!(", wanted {e}"));
            answer(c.name.clone(), holds, format!("{n} documents in {at}{}", wanted.unwrap_or_default()));
        }
        Err(e) => answer(c.name.clone(), false, format!("{at} cannot be counted: {}", refused(e)?)),
    }
    if !c.indexes.is_empty() {
        let name = format!("{}: indexes", c.name);
        match s.indexes(database, &c.collection).await {
            Ok(all) => {
                let missing: Vec<&str> =
                    c.indexes.iter().map(String::as_str).filter(|i| !all.iter().any(|a| a == i)).collect();
                match missing.is_empty() {
                    true => answer(name, true, all.join(", ")),
                    false => answer(name, false, format!("{at} lacks {}", missing.join(", "))),
                }
            }
            Err(e) => answer(name, false, refused(e)?),
        }
    }
    let Some(field) = &c.newest else { return Ok(()) };
    let name = format!("{}: newest {field}", c.name);
    let newest = match s.newest(database, &c.collection, field, QUESTION).await {
        Ok(newest) => newest,
        Err(e) => {
            answer(name, false, refused(e)?);
            return Ok(());
        }
    };
    let asked = match (newest, c.within) {
        (NewestDocument::Empty, _) => Asked { name, holds: false, found: format!("{at} is empty") },
        (NewestDocument::NoTime, _) => {
            Asked { name, holds: false, found: format!("no document of {at} has a time in `{field}`") }
        }
        (NewestDocument::At(t), Some(within)) => recent(&name, Some(t), within, moment, evidence),
        (NewestDocument::At(t), None) => Asked { name, holds: true, found: short(t) },
    };
    checks::take(evidence, asked);
    Ok(())
}
