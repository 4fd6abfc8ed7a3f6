//! Databases that a provider runs: Amazon RDS, Aurora, DocumentDB.
//!
//! | verb | file |
//! |---|---|
//! | take a snapshot and wait for it | [`backup`] |
//! | bring snapshots to another region | [`copy`] |
//! | what there is, in all regions | [`holdings`] |
//! | what the rules keep, and removing the rest | [`expire`] |
//! | make a new database of what was kept | [`restore`] |
//! | show that it can be restored, and what is in it | [`verify`] |
//! | remove what is past its end of life | [`reap`] |
//! | which way out of an incident | [`recover`] |
//! | the application to another database, and back | [`cutover`] |
//! | deleting what was replaced, with a last snapshot | [`retire`] |
//! | what the policy says, per region | [`tiers`] |
//! | the record of all changes | [`changes`] |
//!
//! The provider does the work, behind the ports of [`holdfast_core::managed`]; here is the order of the steps,
//! what is checked before each, and what is left if one fails. Every verb is an operation in the
//! [`journal`]: killed at any step, the same command goes on where it was.
//!
//! What Holdfast made is known by its tags ([`holdfast_core::managed::tags`]), never by its name: nobody
//! else's snapshot is counted or removed.

pub mod backup;
pub mod changes;
pub mod copy;
pub mod cutover;
pub mod expire;
pub mod holdings;
pub mod journal;
pub mod names;
pub mod observed;
pub mod reap;
pub mod recover;
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
use holdfast_core::managed::{Cloud, Operation as OperationName, Source};
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
        })
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
