//! The index of points: facts of many points in one object, so that listing them is a few requests.
//!
//! A listing of `points/` says which points there are, always. An entry of the index stands for reading the
//! record only if the listing shows an object of the same name, size and time, and only if the operator
//! signed the index. So a stale index costs reads and nothing else: it can neither hide a point nor invent
//! one. It also tells which packs a point needs, which is otherwise in its root.
//!
//! Written by sweeps, which have read all of it anyway, when [`ENOUGH`] points stand in no index; one object
//! with all of them, after which earlier ones go. Crash: both are there, and say the same.

use crate::error::{Result, VaultError};
use crate::facts::PointFacts;
use crate::keys::Signer;
use crate::names::{PackClass, PackId, run_of};
use crate::pack::PackTable;
use crate::point::Body;
use crate::store::Listed;
use crate::vault::{ClusterVault, Seen, Survey};
use holdfast_core::RunId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

/// So many points without an index are worth one.
pub const ENOUGH: usize = 64;

/// A pack of some run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackName {
    pub run: RunId,
    pub class: String,
    pub number: u32,
}

/// One point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub facts: PointFacts,
    /// Did the operator sign the record?
    pub operator: bool,
    /// Time and size of the record's object.
    pub stored_at: Timestamp,
    pub size: u64,
    /// Packs that it needs and the entry before does not, as places in `packs`.
    pub more: Vec<u32>,
    /// The other way round.
    pub less: Vec<u32>,
}

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointIndex {
    pub packs: Vec<PackName>,
    pub points: Vec<Entry>,
    pub at: Timestamp,
    pub host: String,
}

/// What all indexes tell, by point.
#[derive(Debug, Default)]
pub(crate) struct Known {
    points: HashMap<RunId, Seen>,
}

impl Known {
    /// One request to list, one per index (usually one). Damaged ones and those of hosts do not count.
    pub(crate) async fn read(cluster: &ClusterVault, table: &mut PackTable) -> Result<Self> {
        let mut known = Known::default();
        for l in cluster.store().list(&cluster.path().index()).await? {
            if id_of(&l.name).is_none() {
                continue;
            }
            match cluster.vault().get_record(&l.name).await {
                Ok((Body::PointIndex(i), Signer::Operator)) => known.take(i, table),
                // Also one that this key does not open: a host may have put it there, and nothing depends on it.
                Ok(_)
                | Err(VaultError::Damaged { .. } | VaultError::Codec { .. } | VaultError::WrongKey(_)) => {}
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(known)
    }

    fn take(&mut self, index: PointIndex, table: &mut PackTable) {
        let handles: Vec<Option<u32>> =
            index.packs.iter().map(|p| p.id().map(|id| table.intern(&id))).collect();
        let mut packs: BTreeSet<u32> = BTreeSet::new();
        for e in index.points {
            let mut whole = true;
            let mut handle = |place: &u32| {
                let h = handles.get(*place as usize).copied().flatten();
                whole &= h.is_some();
                h
            };
            let less: Vec<u32> = e.less.iter().filter_map(&mut handle).collect();
            let more: Vec<u32> = e.more.iter().filter_map(&mut handle).collect();
            if !whole {
                // What follows builds on it.
                return;
            }
            packs.retain(|h| !less.contains(h));
            packs.extend(more);
            let signer = if e.operator { Signer::Operator } else { Signer::Host };
            let seen = Seen {
                signer,
                stored_at: e.stored_at,
                size: e.size,
                packs: Some(packs.iter().copied().collect()),
                indexed: true,
                facts: e.facts,
            };
            self.points.insert(seen.facts.id.clone(), seen);
        }
    }

    /// The facts of the point whose record the listing shows so.
    pub(crate) fn remove(&mut self, run: &RunId, listed: &Listed) -> Option<Seen> {
        let seen = self.points.remove(run)?;
        (seen.stored_at == listed.modified && seen.size == listed.size).then_some(seen)
    }
}

impl PackName {
    fn id(&self) -> Option<PackId> {
        let class = [PackClass::Data, PackClass::Meta].into_iter().find(|c| c.word() == self.class)?;
        Some(PackId { run: self.run.clone(), class, number: self.number })
    }
}

fn id_of(name: &str) -> Option<RunId> {
    let file = name.rsplit('/').next()?.strip_prefix("points-")?;
    run_of(file, "index")
}

/// Writes an index of the points of `survey` whose packs are known, if so many of them stand in none that it
/// is worth it.
pub(crate) async fn write(cluster: &ClusterVault, survey: &Survey, host: &str) -> Result<()> {
    let missing = |s: &&Seen| !s.indexed && s.packs.is_some();
    if survey.points.iter().filter(missing).count() < ENOUGH {
        return Ok(());
    }
    let mut index = PointIndex { packs: vec![], points: vec![], at: Timestamp::now(), host: host.into() };
    let mut places: HashMap<u32, u32> = HashMap::new();
    let mut before: BTreeSet<u32> = BTreeSet::new();
    for seen in &survey.points {
        let packs: BTreeSet<u32> = match &seen.packs {
            Some(packs) => packs.iter().copied().collect(),
            None => continue,
        };
        for h in &packs {
            if let Some(id) = survey.table.get(*h) {
                places.entry(*h).or_insert_with(|| {
                    let class = id.class.word().into();
                    index.packs.push(PackName { run: id.run.clone(), class, number: id.number });
                    index.packs.len() as u32 - 1
                });
            }
        }
        let place = |h: &u32| places.get(h).copied();
        index.points.push(Entry {
            facts: seen.facts.clone(),
            operator: seen.signer == Signer::Operator,
            stored_at: seen.stored_at,
            size: seen.size,
            more: packs.difference(&before).filter_map(place).collect(),
            less: before.difference(&packs).filter_map(place).collect(),
        });
        before = packs;
    }
    let earlier = cluster.store().list(&cluster.path().index()).await?;
    let name = cluster.path().point_index(&RunId::generate(index.at));
    cluster.vault().put_record(&name, &Body::PointIndex(index), Signer::Operator).await?;
    for l in earlier.iter().filter(|l| id_of(&l.name).is_some()) {
        // Whoever may not delete leaves it: it says the same.
        let _ = cluster.store().delete(&l.name).await;
    }
    Ok(())
}
