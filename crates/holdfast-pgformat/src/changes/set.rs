//! [`ChangeSet`]: what many records did, put together in the order of the log.
//!
//! Per relation fork as in src/common/blkreftable.c: the blocks that were referred to, and the limit, the
//! smallest length that it is known to have had. Setting a limit forgets the blocks from there on; references
//! after that count again, for the fork has grown again.

use super::{BlockSet, Effect};
use crate::relation::{Fork, RelFileLocator};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// What happened to one fork of a relation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RelChanges {
    /// The smallest number of blocks that it had; 0 when it was made or dropped. Every block from here on has
    /// to be taken, whether it is in `blocks` or not.
    pub limit: Option<u32>,
    /// Blocks that were referred to, after the last time that the fork was cut below them.
    pub blocks: BlockSet,
}

impl RelChanges {
    /// Whether this block has to be taken.
    pub fn takes(&self, block: u32) -> bool {
        self.limit.is_some_and(|l| block >= l) || self.blocks.contains(block)
    }

    fn cut(&mut self, limit: u32) {
        self.limit = Some(self.limit.map_or(limit, |l| l.min(limit)));
        self.blocks.truncate(limit);
    }

    /// What both did, `later` after this.
    fn then(&mut self, later: RelChanges) {
        if let Some(limit) = later.limit {
            self.cut(limit);
        }
        self.blocks.union(later.blocks);
    }
}

/// Which pages were touched: the blocks of each relation fork, and databases and tablespaces as a whole.
///
/// It takes at most about 1/65,536 of the pages that it names, plus some hundred bytes for each relation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangeSet {
    pub(super) tablespaces: BTreeSet<u32>,
    /// Tablespace and database.
    pub(super) databases: BTreeSet<(u32, u32)>,
    pub(super) relations: BTreeMap<(RelFileLocator, Fork), RelChanges>,
}

impl ChangeSet {
    /// Nothing was touched.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing was touched.
    pub fn is_empty(&self) -> bool {
        self.tablespaces.is_empty() && self.databases.is_empty() && self.relations.is_empty()
    }

    /// Whether every file of this database in this tablespace has to be taken. Shared relations have the
    /// database 0.
    pub fn is_whole(&self, tablespace: u32, database: u32) -> bool {
        self.tablespaces.contains(&tablespace) || self.databases.contains(&(tablespace, database))
    }

    /// What happened to one fork; `None`: nothing. Ask [`ChangeSet::is_whole`] first.
    pub fn relation(&self, rel: RelFileLocator, fork: Fork) -> Option<&RelChanges> {
        self.relations.get(&(rel, fork))
    }

    /// Whether anything happened to any fork of it: then its `_vm` and `_fsm` are to be taken whole.
    pub fn is_referenced(&self, rel: RelFileLocator) -> bool {
        let from = Bound::Included((rel, Fork::Main));
        self.relations.range((from, Bound::Included((rel, Fork::Init)))).next().is_some()
    }

    /// All forks to which anything happened, by tablespace, database, relation and fork.
    pub fn relations(&self) -> impl Iterator<Item = (RelFileLocator, Fork, &RelChanges)> {
        self.relations.iter().map(|((rel, fork), c)| (*rel, *fork, c))
    }

    /// Tablespace and database of the databases that are whole.
    pub fn databases(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.databases.iter().copied()
    }

    /// Tablespaces that are whole, with every database in them.
    pub fn tablespaces(&self) -> impl Iterator<Item = u32> + '_ {
        self.tablespaces.iter().copied()
    }

    /// Blocks that were referred to, without those that only a limit names.
    pub fn block_count(&self) -> u64 {
        self.relations.values().map(|r| r.blocks.count()).sum()
    }

    /// Takes in what a record does, after those before it. Effects on no file change nothing.
    pub fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Block { rel, fork, block } => {
                self.relations.entry((rel, fork)).or_default().blocks.insert(block);
            }
            Effect::Limit { rel, fork, blocks } => {
                self.relations.entry((rel, fork)).or_default().cut(blocks);
            }
            Effect::Database { tablespace, database } => {
                self.databases.insert((tablespace, database));
            }
            Effect::Tablespace(tablespace) => {
                self.tablespaces.insert(tablespace);
            }
            Effect::WalLevel(_)
            | Effect::FullPageWrites(_)
            | Effect::Switch
            | Effect::Replaces(_)
            | Effect::Unknown(_) => {}
        }
    }

    /// Takes in what happened in the stretch of the log right after this one.
    pub fn merge(&mut self, later: ChangeSet) {
        self.tablespaces.extend(later.tablespaces);
        self.databases.extend(later.databases);
        if self.relations.is_empty() {
            self.relations = later.relations;
            return;
        }
        for (key, c) in later.relations {
            self.relations.entry(key).or_default().then(c);
        }
    }
}
