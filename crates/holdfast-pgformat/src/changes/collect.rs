//! [`Collector`]: a [`ChangeSet`] in the making, for the many records of one part of a segment.
//!
//! 16 MiB of log hold a few hundred thousand block references, most of them to blocks that were just referred
//! to, so that the only thing done for most is to find that out: one look into a table of relations and one
//! into a table of blocks, both with open addressing. A limit has to forget blocks without looking for them:
//! it begins a new *generation* of its fork, and each generation knows which of its blocks the ones after it
//! forget.

use super::{ChangeSet, Effect, RelChanges};
use crate::relation::{Fork, RelFileLocator};

const FREE: u64 = u64::MAX;
/// 2^64 divided by the golden ratio: spreads neighbouring numbers.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

#[derive(Debug)]
pub(super) struct Collector {
    forks: Vec<OneFork>,
    /// Numbers of forks plus one; 0 is free. A power of two.
    fork_table: Vec<u32>,
    generations: Vec<Generation>,
    /// Generation and block; [`FREE`] is free. A power of two.
    block_table: Vec<u64>,
    block_shift: u32,
    blocks: usize,
    /// The fork of the reference before.
    last: Option<(RelFileLocator, Fork, u32)>,
    /// Databases and tablespaces.
    rest: ChangeSet,
}

#[derive(Debug)]
struct OneFork {
    rel: RelFileLocator,
    fork: Fork,
    limit: Option<u32>,
    /// The newest one.
    generation: u32,
}

#[derive(Debug, Clone, Copy)]
struct Generation {
    fork: u32,
    /// The smallest limit set when it began: of the ones before it, blocks from here on are forgotten.
    limit: Option<u32>,
    used: bool,
}

impl Collector {
    pub(super) fn new() -> Self {
        const BITS: u32 = 11;
        Collector {
            forks: Vec::new(),
            fork_table: vec![0; 64],
            generations: Vec::new(),
            block_table: vec![FREE; 1 << BITS],
            block_shift: 64 - BITS,
            blocks: 0,
            last: None,
            rest: ChangeSet::new(),
        }
    }

    #[inline]
    pub(super) fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Block { rel, fork, block } => {
                let generation = match self.last {
                    Some((r, f, g)) if r == rel && f == fork => g,
                    _ => self.generation(rel, fork),
                };
                self.mark(u64::from(generation) << 32 | u64::from(block));
            }
            Effect::Limit { rel, fork, blocks } => self.limit(rel, fork, blocks),
            other => self.rest.apply(other),
        }
    }

    fn generation(&mut self, rel: RelFileLocator, fork: Fork) -> u32 {
        let at = self.fork_number(rel, fork);
        let g = self.forks.get(at as usize).map_or(0, |f| f.generation);
        self.last = Some((rel, fork, g));
        g
    }

    fn limit(&mut self, rel: RelFileLocator, fork: Fork, blocks: u32) {
        let at = self.fork_number(rel, fork);
        let next = self.generations.len() as u32;
        let Some(f) = self.forks.get_mut(at as usize) else { return };
        f.limit = Some(f.limit.map_or(blocks, |l| l.min(blocks)));
        match self.generations.get_mut(f.generation as usize) {
            Some(g) if !g.used => g.limit = Some(g.limit.map_or(blocks, |l| l.min(blocks))),
            _ => {
                f.generation = next;
                self.generations.push(Generation { fork: at, limit: Some(blocks), used: false });
                self.last = None;
            }
        }
    }

    fn fork_number(&mut self, rel: RelFileLocator, fork: Fork) -> u32 {
        let mask = self.fork_table.len() - 1;
        let mut at = hash(rel, fork) as usize & mask;
        loop {
            match self.fork_table.get(at) {
                Some(0) | None => break,
                Some(n) => match self.forks.get(*n as usize - 1) {
                    Some(f) if f.rel == rel && f.fork == fork => return *n - 1,
                    _ => at = (at + 1) & mask,
                },
            }
        }
        let number = self.forks.len() as u32;
        let generation = self.generations.len() as u32;
        self.generations.push(Generation { fork: number, limit: None, used: false });
        self.forks.push(OneFork { rel, fork, limit: None, generation });
        if let Some(free) = self.fork_table.get_mut(at) {
            *free = number + 1;
        }
        if self.forks.len() * 2 > self.fork_table.len() {
            self.grow_forks();
        }
        number
    }

    fn grow_forks(&mut self) {
        let mut table = vec![0u32; self.fork_table.len() * 4];
        let mask = table.len() - 1;
        for (f, n) in self.forks.iter().zip(1..) {
            let mut at = hash(f.rel, f.fork) as usize & mask;
            while let Some(slot) = table.get_mut(at) {
                if *slot == 0 {
                    *slot = n;
                    break;
                }
                at = (at + 1) & mask;
            }
        }
        self.fork_table = table;
    }

    #[inline]
    fn mark(&mut self, key: u64) {
        if put(&mut self.block_table, self.block_shift, key) {
            self.is_new(key);
        }
    }

    fn is_new(&mut self, key: u64) {
        if let Some(g) = self.generations.get_mut((key >> 32) as usize) {
            g.used = true;
        }
        self.blocks += 1;
        if self.blocks * 2 > self.block_table.len() {
            let mut table = vec![FREE; self.block_table.len() * 4];
            self.block_shift -= 2;
            for key in self.block_table.iter().filter(|k| **k != FREE) {
                put(&mut table, self.block_shift, *key);
            }
            self.block_table = table;
        }
    }

    pub(super) fn finish(self) -> ChangeSet {
        // From the last one back: what is forgotten of a generation is what a later one's limit forgets.
        let mut forget: Vec<Option<u32>> = vec![None; self.forks.len()];
        let mut limits: Vec<Option<u32>> = Vec::with_capacity(self.generations.len());
        for g in self.generations.iter().rev() {
            let Some(f) = forget.get_mut(g.fork as usize) else { continue };
            limits.push(*f);
            *f = match (*f, g.limit) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        limits.reverse();

        let mut of_forks: Vec<RelChanges> =
            self.forks.iter().map(|f| RelChanges { limit: f.limit, ..RelChanges::default() }).collect();
        let mut keys = self.block_table;
        keys.retain(|k| *k != FREE);
        keys.sort_unstable();
        for one in keys.chunk_by(|a, b| a >> 32 == b >> 32) {
            let number = one.first().map_or(0, |k| (k >> 32) as usize);
            let (Some(g), Some(limit)) = (self.generations.get(number), limits.get(number)) else { continue };
            let Some(to) = of_forks.get_mut(g.fork as usize) else { continue };
            let blocks = one.iter().map(|k| *k as u32).take_while(|b| limit.is_none_or(|l| *b < l));
            blocks.for_each(|b| to.blocks.insert(b));
        }
        let mut set = self.rest;
        set.relations.extend(self.forks.into_iter().zip(of_forks).map(|(f, c)| ((f.rel, f.fork), c)));
        set
    }
}

fn hash(rel: RelFileLocator, fork: Fork) -> u64 {
    let a = u64::from(rel.tablespace) << 32 | u64::from(rel.database);
    let b = u64::from(rel.relation) << 2 | fork as u64;
    (a.wrapping_mul(SPREAD) ^ b).wrapping_mul(SPREAD) >> 32
}

/// Whether it was not there yet. There always is a free place.
#[inline]
fn put(table: &mut [u64], shift: u32, key: u64) -> bool {
    let mut at = (key.wrapping_mul(SPREAD) >> shift) as usize;
    loop {
        match table.get_mut(at) {
            Some(k) if *k == key => return false,
            Some(k) if *k == FREE => {
                *k = key;
                return true;
            }
            Some(_) => at += 1,
            None => at = 0,
        }
    }
}
