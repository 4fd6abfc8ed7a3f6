//! The policy of managed databases: what the provider is told to do, and what Holdfast does there.
//!
//! A managed database ([`ManagedDatabase`], beside [`super::Database`]) follows a [`ManagedPlan`]. The words
//! are those of native policies where they mean the same: tiers, copies, `keep`, `rpo`, `rto`, `verify`. Its
//! vaults are places at the provider ([`ManagedVault`]): the snapshots of a region, or a vault of AWS Backup.
//! Who makes the points of a tier follows from its vault: Holdfast takes snapshots and lets them go by all
//! rules of `keep`; AWS Backup does what its plan says and deletes by age alone.
//!
//! What is written and cannot be meant is refused here. What can be meant and does not work at this provider
//! (35 days, cold storage, quotas, collisions) is judged by [`crate::rules`], which needs the whole policy and
//! the table of [`crate::limits`]. `docs/guide/managed.md` is the reference for people.

mod alarm;
mod cutover;
mod database;
mod pattern;
mod plan;
mod vault;
pub mod written;

pub use crate::managed::Engine;
pub use alarm::{Alarm, Detects, Threshold};
pub use cutover::{CutoverStep, KubernetesMove, Move, WorkloadKind};
pub use database::{
    Capacity, Connect, Content, ContentCheck, Expect, Isolated, ManagedDatabase, Password, Place, Relation,
};
pub use pattern::{IdParts, IdPattern};
pub use plan::{ManagedCopy, ManagedPlan, ManagedTier, ManagedVerify, Pitr, Replicate};
pub(super) use vault::is_managed as is_managed_place;
pub use vault::{ManagedVault, VaultLock, VaultPlace};

#[cfg(test)]
mod tests;

use super::database::Source;

impl Source {
    /// Engine, region and identifier of a managed database.
    pub fn managed(&self) -> Option<(Engine, &str, &str)> {
        match self {
            Source::Postgres { .. } => None,
            Source::Rds { region, id } => Some((Engine::Rds, region, id)),
            Source::Aurora { region, id } => Some((Engine::Aurora, region, id)),
            Source::DocDb { region, id } => Some((Engine::DocumentDb, region, id)),
        }
    }
}
