//! Databases that a provider runs: Amazon RDS, Aurora, DocumentDB.
//!
//! | verb | file |
//! |---|---|
//! | bring the settings at the provider to the policy | [`apply`] |
//! | take a snapshot and wait for it | [`backup`] |
//! | a recovery point in a vault of AWS Backup, waited for | [`backup_job`] |
//! | bring snapshots to another region or account | [`copy`]; recovery points of AWS Backup: [`copy_job`] |
//! | who gets into other accounts | [`abroad`] |
//! | what there is, in all regions | [`holdings`] |
//! | what the rules keep, and removing the rest | [`expire`] |
//! | make a new database of what was kept | [`restore`] |
//! | show that it can be restored, and what is in it | [`verify`] |
//! | remove what is past its end of life | [`reap`] |
//! | which way out of an incident | [`recover`]; taking one: [`recovery`]; how long it took before: [`measured`] |
//! | the application to another database, and back | [`cutover`] |
//! | deleting what was replaced, with a last snapshot | [`retire`] |
//! | what the policy says, per region | [`tiers`] |
//! | which databases one has been | [`lineage`] |
//! | since when a tier should make points | `expected` |
//! | the record of all changes | [`changes`] |
//! | what could go wrong, from one look | [`doctor`], [`look`] |
//!
//! The provider does the work, behind the ports of [`holdfast_core::managed`]; here is the order of the steps,
//! what is checked before each, and what is left if one fails. Every verb is an operation in the
//! [`journal`]: killed at any step, the same command goes on where it was.
//!
//! What Holdfast made is known by its tags ([`holdfast_core::managed::tags`]), never by its name: nobody
//! else's snapshot is counted or removed.

pub mod abroad;
pub mod apply;
mod awaited;
pub mod backup;
pub mod backup_job;
pub mod backup_role;
pub mod beside;
pub mod changes;
pub mod copy;
mod copy_abroad;
pub mod copy_job;
pub mod cutover;
pub mod doctor;
mod expected;
pub mod expire;
pub mod holdings;
pub mod identity;
pub mod journal;
pub mod lineage;
pub mod look;
pub mod measured;
pub mod names;
pub mod observed;
pub mod reap;
pub mod recover;
pub mod recovery;
mod remove;
pub mod restore;
pub mod retire;
#[cfg(test)]
mod testing;
pub mod tiers;
pub mod verify;
pub mod wait;

use crate::context::Context;
use crate::error::{EngineError, Result};
use crate::state::State;
use holdfast_core::managed::{Cloud, DocumentServers, Operation as OperationName, Source};
use holdfast_core::{DatabaseName, Monitor};
use journal::Journal;
use std::sync::Arc;
use wait::Pace;

/// A managed database of the policy, with everything to work on it.
#[derive(Debug, Clone)]
pub struct Managed {
    pub name: DatabaseName,
    pub source: Source,
    pub cloud: Arc<dyn Cloud>,
    pub journal: Journal,
    pub state: State,
    pub monitor: Arc<dyn Monitor>,
    pub pace: Pace,
    /// For looking into copies of DocumentDB; `None` in a build without the driver.
    pub documents: Option<Arc<dyn DocumentServers>>,
}

impl Managed {
    /// # Errors
    /// The database is none that a provider runs.
    pub fn new(ctx: &Context, cloud: Arc<dyn Cloud>, pace: Pace) -> Result<Self> {
        let source = source_of(ctx)?;
        Ok(Managed {
            name: ctx.db.name.clone(),
            source,
            cloud,
            journal: Journal::open(ctx.state.dir())?,
            state: ctx.state.clone(),
            monitor: ctx.monitor.clone(),
            pace,
            documents: None,
        })
    }

    /// The same database, seen and worked on with other credentials: in the account of a vault.
    #[must_use]
    pub fn through(&self, cloud: Arc<dyn Cloud>) -> Self {
        Managed { cloud, ..self.clone() }
    }

    /// With a driver for DocumentDB.
    #[must_use]
    pub fn with_documents(self, documents: Option<Arc<dyn DocumentServers>>) -> Self {
        Managed { documents, ..self }
    }
}

/// The managed source of a database.
pub fn source_of(ctx: &Context) -> Result<Source> {
    let text = ctx.db.source.to_string();
    let refused = |_| {
        EngineError::usage(
            format!("`{}` is no managed database", ctx.db.name),
            "this is for rds://, aurora:// and docdb:// sources",
        )
    };
    text.parse::<Source>().map_err(refused)
}

/// The name under which the provider remembers a step of an operation.
fn operation(id: &str) -> Result<OperationName> {
    OperationName::new(id).map_err(|e| EngineError::failed(e.to_string(), ""))
}
