//! Which packs are worn out: [`Wear`] (R7).
//!
//! A pack stays in the vault as long as a point needs one frame of it, and a restore opens a frame for a
//! single block of it. Blocks that change leave holes behind; those that never change would stay in packs
//! that are mostly holes. So a run reads some unchanged blocks again and stores them anew, worst packs first,
//! until an old pack is not needed at all. On the way their checksums and fingerprints are checked.
//!
//! Invariants, for what a point refers to: pack bytes ≤ 1.5 × live bytes, and bytes of distinct frames ≤ 1.3 ×
//! bytes of files. Both follow from keeping pack bytes below 1.3 × live bytes, where "live" shares a frame's
//! sealed bytes out among its blocks: a frame counts in full as soon as one block of it is needed. Work begins
//! at [`BEGIN`] and ends at [`ENOUGH`], both below that, since a run may not get through its budget. Holes that
//! a run makes itself are for the next one: after a night in which a third of the database changed, an
//! incremental is large enough.
//!
//! A run also gathers small packs when there are very many: each is a request of every restore.
//!
//! Packs of metadata are not looked at: they are about a thousandth, and small files' maps are gathered when
//! their leaf is written.

use holdfast_vault::manifest::{PackUse, Root};
use holdfast_vault::map::Layer;
use holdfast_vault::reader::PackSet;
use holdfast_vault::{PackClass, PackId};
use std::collections::HashSet;

/// Pack bytes per live byte at which work begins, and where it ends; in thousandths.
pub const BEGIN: u64 = 1_200;
pub const ENOUGH: u64 = 1_150;
/// More packs than this, and the small ones (below a quarter of a full one) are gathered, to half as many.
const MANY: usize = 512;
/// A run rewrites so much of the database at most …
const PERCENT: u64 = 5;
/// … but as much as this, so that small databases get through a pack.
const AT_LEAST: u64 = 256 << 20;
/// … and so many times what changes anyhow: who changes more wears more.
const PER_CHANGE: u64 = 3;

/// What to rewrite in one run.
#[derive(Debug, Clone, Default)]
pub struct Wear {
    packs: HashSet<u32>,
    /// Blocks that may still be rewritten.
    budget: u64,
}

/// Packs by what the parent's root says of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pack {
    handle: u32,
    len: u64,
    live: u64,
    blocks: u64,
}

impl Wear {
    /// Chooses from the packs of the parent. `size` is that of the database in bytes, `changing` how many
    /// bytes this run will read as changed, if that is known.
    pub fn plan(
        root: &Root,
        set: &PackSet,
        (block_size, pack_size): (u32, u64),
        (size, changing): (u64, u64),
    ) -> Wear {
        let is_data = |p: &&PackUse| {
            set.id(p.pack).is_some_and(|id: PackId| id.class == PackClass::Data) && p.live.blocks > 0
        };
        let packs = root.packs.iter().filter(is_data);
        let packs = packs
            .map(|p| Pack { handle: p.pack, len: p.len, live: p.live.bytes, blocks: p.live.blocks })
            .collect();
        let bytes = (size / 100 * PERCENT).max(AT_LEAST).max(changing.saturating_mul(PER_CHANGE));
        Wear::choose(packs, pack_size, bytes / u64::from(block_size.max(1)))
    }

    fn choose(mut packs: Vec<Pack>, pack_size: u64, budget: u64) -> Wear {
        let (mut len, live) =
            packs.iter().fold((0u64, 0u64), |(a, b), p| (a.saturating_add(p.len), b.saturating_add(p.live)));
        let above = |len: u64, bound: u64| u128::from(len) * 1_000 > u128::from(live) * u128::from(bound);
        let mut wear = Wear { packs: HashSet::new(), budget };
        let mut blocks = 0u64;
        if packs.len() > MANY {
            packs.sort_by_key(|p| (p.len, p.handle));
            let surplus = packs.len() - MANY / 2;
            let small = packs.iter().take(surplus).take_while(|p| p.len < pack_size / 4);
            for p in small {
                if blocks.saturating_add(p.blocks) > budget {
                    break;
                }
                blocks += p.blocks;
                wear.packs.insert(p.handle);
            }
        }
        if !above(len, BEGIN) {
            return wear;
        }
        // Least of them in use first: most is gained there for each block.
        packs.sort_by_key(|p| (u128::from(p.live) * 1_000_000 / u128::from(p.len.max(1)), p.handle));
        for p in packs {
            if !above(len, ENOUGH) || blocks >= budget {
                break;
            }
            // From here on they are as full as they should be: rewriting them gains nothing.
            if u128::from(p.len) * 1_000 <= u128::from(p.live) * u128::from(ENOUGH) {
                break;
            }
            if !wear.packs.insert(p.handle) {
                continue;
            }
            // What is live in it is written anew.
            len = len.saturating_sub(p.len.saturating_sub(p.live));
            blocks = blocks.saturating_add(p.blocks);
        }
        wear
    }

    /// Is there anything in these packs to rewrite?
    pub fn touches(&self, mut packs: impl Iterator<Item = u32>) -> bool {
        self.budget > 0 && packs.any(|p| self.packs.contains(&p))
    }

    /// Runs of blocks of a file that lie in chosen packs, as far as the budget goes.
    pub fn take(&mut self, flat: &Layer, blocks: u32) -> Vec<(u32, u32)> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for r in &flat.runs {
            let pack = r.frame.and_then(|f| flat.frames.get(f as usize)).map(|f| f.pack);
            if !pack.is_some_and(|p| self.packs.contains(&p)) || r.start >= blocks {
                continue;
            }
            let room = u32::try_from(self.budget).unwrap_or(u32::MAX);
            let count = r.count.min(blocks - r.start).min(room);
            if count == 0 {
                break;
            }
            self.budget -= u64::from(count);
            match runs.last_mut() {
                Some((f, n)) if *f + *n == r.start => *n += count,
                _ => runs.push((r.start, count)),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use std::collections::BTreeMap;

    const FRAME: u64 = 32;
    const PACK_FRAMES: u32 = 32;

    /// A database whose blocks all have one sealed byte, and frames and packs as a backup would fill them.
    struct Model {
        /// Frame of each block.
        blocks: Vec<usize>,
        /// Pack and length of each frame.
        frames: Vec<(u32, u64)>,
        next_pack: u32,
    }

    impl Model {
        fn new(blocks: u64) -> Model {
            let mut m = Model { blocks: vec![0; blocks as usize], frames: Vec::new(), next_pack: 0 };
            m.store((0..blocks as usize).collect());
            m
        }

        fn store(&mut self, blocks: Vec<usize>) {
            for (i, part) in blocks.chunks(FRAME as usize).enumerate() {
                for b in part {
                    self.blocks[*b] = self.frames.len();
                }
                self.frames.push((self.next_pack + i as u32 / PACK_FRAMES, part.len() as u64));
            }
            self.next_pack = self.frames.last().map_or(0, |(p, _)| p + 1);
        }

        fn packs(&self) -> Vec<Pack> {
            let (mut live, mut len) = (BTreeMap::<u32, u64>::new(), BTreeMap::<u32, u64>::new());
            for f in &self.blocks {
                *live.entry(self.frames[*f].0).or_default() += 1;
            }
            for (p, n) in &self.frames {
                *len.entry(*p).or_default() += n;
            }
            live.iter().map(|(p, n)| Pack { handle: *p, len: len[p], live: *n, blocks: *n }).collect()
        }

        /// Pack bytes and bytes of distinct frames, each per live byte in thousandths; and packs.
        fn wear(&self) -> (u64, u64, usize) {
            let live = self.blocks.len() as u64;
            let used: HashSet<usize> = self.blocks.iter().copied().collect();
            let frames: u64 = used.iter().map(|f| self.frames[*f].1).sum();
            let packs = self.packs();
            (packs.iter().map(|p| p.len).sum::<u64>() * 1000 / live, frames * 1000 / live, packs.len())
        }
    }

    /// Hundreds of runs, of different habits, keep both invariants; without rewriting they would not.
    #[test]
    fn long_histories_keep_the_invariants() {
        let mut rng = StdRng::seed_from_u64(11);
        let blocks = 20 * FRAME * u64::from(PACK_FRAMES);
        // Share of blocks that change in a run; share of the database in which they lie.
        for (share, hot) in [(0.01, 1.0), (0.05, 1.0), (0.01, 0.1), (0.2, 1.0), (0.0005, 1.0), (0.3, 0.3)] {
            let (mut kept, mut left) = (Model::new(blocks), Model::new(blocks));
            let mut worst = (0, 0, 0);
            let pack_size = FRAME * u64::from(PACK_FRAMES);
            for _ in 0..300 {
                let n = (blocks as f64 * share) as usize;
                let mut some: Vec<usize> =
                    (0..n).map(|_| rng.random_range(0..(blocks as f64 * hot) as usize)).collect();
                some.sort_unstable();
                some.dedup();
                let budget = (blocks / 100 * PERCENT).max(PER_CHANGE * n as u64);
                let wear = Wear::choose(kept.packs(), pack_size, budget);
                let mut anew: Vec<usize> = (0..kept.blocks.len())
                    .filter(|b| wear.packs.contains(&kept.frames[kept.blocks[*b]].0))
                    .filter(|b| some.binary_search(b).is_err())
                    .take(budget as usize)
                    .collect();
                left.store(some.clone());
                anew.extend(some);
                anew.sort_unstable();
                kept.store(anew);
                let (p, f, n) = kept.wear();
                worst = (worst.0.max(p), worst.1.max(f), worst.2.max(n));
            }
            // Holes that a run makes itself are there until the next one.
            let frames = 1_300.max(BEGIN + (share * 1_000.0) as u64);
            assert!(worst.0 <= 1_500 && worst.1 <= frames, "{share} of {hot}: {worst:?}");
            if share >= 0.01 && hot >= 1.0 {
                assert!(left.wear().0 > 3_000, "the history is too kind: {:?}", left.wear());
            }
            assert!(worst.2 <= MANY + 64, "{share} of {hot}: {} packs", worst.2);
        }
    }

    #[test]
    fn nothing_is_rewritten_before_it_is_time() {
        let packs = |live: u64| vec![Pack { handle: 1, len: 1000, live, blocks: live / 10 }];
        assert!(Wear::choose(packs(900), 1000, 1000).packs.is_empty());
        assert_eq!(Wear::choose(packs(500), 1000, 1000).packs.len(), 1);
        assert!(Wear::choose(packs(500), 1000, 0).packs.is_empty());
        assert!(Wear::choose(Vec::new(), 1000, 1000).packs.is_empty());
        // Beside one that is worn out, full ones stay.
        let mut some: Vec<Pack> = (2..4).map(|h| Pack { handle: h, len: 100, live: 99, blocks: 9 }).collect();
        some.push(Pack { handle: 9, len: 100, live: 1, blocks: 1 });
        assert_eq!(Wear::choose(some, 1000, 1000).packs, HashSet::from([9]));
    }
}
