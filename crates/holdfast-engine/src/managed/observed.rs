//! How a source last looked, kept on this host: what a restore carries over when the source is gone.
//!
//! A deleted instance takes its network, its groups and its class with it: no snapshot says which subnet group it
//! was in, no retained backup which class it had (provider rules X15, X17). So every verb that looks at a source
//! leaves what it saw in `state-dir/observed/DATABASE.json`; [`last`] reads it.
//!
//! Crash: the file holds the old or the new observation. It is a convenience: a host without it restores all the
//! same, with the settings given by hand.

use super::Managed;
use crate::error::{EngineError, Result};
use crate::state::write_atomic;
use holdfast_core::DatabaseName;
use holdfast_core::managed::{Database, Instance, ManagedError, Source};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;

/// A source, as it was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    pub version: u32,
    pub at: Timestamp,
    pub database: Database,
    /// Of a cluster: writer first, then by promotion tier.
    pub instances: Vec<Instance>,
}

/// Describes the source and its instances, and remembers them.
///
/// # Errors
/// The provider's. What cannot be written down is only warned of.
pub async fn look(m: &Managed) -> Result<Observed, ManagedError> {
    let database = m.cloud.describe(&m.source).await?;
    let instances = match m.source.engine.is_cluster() {
        true => m.cloud.instances(&m.source).await?,
        false => Vec::new(),
    };
    let seen = Observed::new(database, instances);
    let seen = match last(m) {
        Ok(Some(before)) => seen.after(before),
        _ => seen,
    };
    if let Err(e) = save(m, &seen) {
        m.monitor.warning(format!("how `{}` looks could not be written down: {e}", m.source));
    }
    Ok(seen)
}

/// The last observation of this database's source, if there is one.
///
/// # Errors
/// A file that cannot be read or understood.
pub fn last(m: &Managed) -> Result<Option<Observed>> {
    last_of(m.state.dir(), &m.name, &m.source)
}

/// The same without a session.
///
/// # Errors
/// A file that cannot be read or understood.
pub fn last_of(state_dir: &Path, name: &DatabaseName, source: &Source) -> Result<Option<Observed>> {
    let path = path(state_dir, name);
    let bytes = match std::fs::read(&path) {
        Ok(b) => b,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(EngineError::io("read", &path)(e)),
    };
    let unreadable = |why: String| {
        EngineError::failed(
            format!("`{}` cannot be understood: {why}", path.display()),
            "remove it; what it remembers of the source must be given by hand then",
        )
    };
    let seen: Observed = serde_json::from_slice(&bytes).map_err(|e| unreadable(e.to_string()))?;
    match seen.version {
        VERSION => Ok((seen.database.source == *source).then_some(seen)),
        v => Err(unreadable(format!("it has version {v}"))),
    }
}

fn save(m: &Managed, seen: &Observed) -> Result<()> {
    let path = path(m.state.dir(), &m.name);
    let dir = m.state.dir().join("observed");
    std::fs::create_dir_all(&dir).map_err(EngineError::io("make the directory", &dir))?;
    let text = serde_json::to_vec_pretty(seen).map_err(|e| EngineError::failed(e.to_string(), ""))?;
    write_atomic(&path, &text, 0o600)
}

fn path(state_dir: &Path, name: &DatabaseName) -> PathBuf {
    state_dir.join("observed").join(format!("{name}.json"))
}

impl Observed {
    /// Puts the writer first.
    pub(super) fn new(database: Database, mut instances: Vec<Instance>) -> Self {
        let writes = |i: &Instance| database.members.iter().any(|m| m.id == i.id && m.writer);
        instances.sort_by_key(|i| (!writes(i), i.promotion_tier.unwrap_or(u32::MAX), i.id.clone()));
        Observed { version: VERSION, at: Timestamp::now(), database, instances }
    }

    /// A cluster loses its instances before it goes itself: what is known of them is kept.
    fn after(mut self, before: Observed) -> Self {
        if self.instances.is_empty() && before.database.resource_id == self.database.resource_id {
            self.instances = before.instances;
        }
        self
    }
}
