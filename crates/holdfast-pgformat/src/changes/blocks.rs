//! [`BlockSet`]: block numbers of one relation fork.
//!
//! In chunks of 65,536 blocks (512 MiB of relation), as in src/common/blkreftable.c. A chunk is a list of runs
//! while those take less than 8 KiB, and else a bitmap of 8 KiB: so a set takes at most 1/65,536 of the pages
//! that it names, and one run however long takes next to nothing.

use std::fmt;
use std::iter::Peekable;

const CHUNK_BITS: u32 = 16;
const WORDS: usize = 1 << CHUNK_BITS >> 6;
/// A run takes four bytes.
const MAX_RUNS: usize = WORDS * 8 / 4;

/// A set of block numbers.
#[derive(Clone, Default)]
pub struct BlockSet {
    /// By the upper half of the number, ascending; none is empty.
    chunks: Vec<(u16, Chunk)>,
}

/// Both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u16,
    last: u16,
}

#[derive(Clone)]
enum Chunk {
    /// Ascending, with a gap between each two.
    Runs(Vec<Run>),
    Bits(Box<[u64; WORDS]>),
}

fn split(block: u32) -> (u16, u16) {
    ((block >> CHUNK_BITS) as u16, block as u16)
}

fn number(chunk: u16, low: u16) -> u32 {
    u32::from(chunk) << CHUNK_BITS | u32::from(low)
}

impl BlockSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// How many blocks are in it.
    pub fn count(&self) -> u64 {
        self.runs().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// Whether the block is in it.
    pub fn contains(&self, block: u32) -> bool {
        let (hi, lo) = split(block);
        let at = self.chunks.partition_point(|(n, _)| *n < hi);
        self.chunks.get(at).is_some_and(|(n, c)| *n == hi && c.contains(lo))
    }

    /// Adds one block. Quick when blocks come in ascending order.
    pub fn insert(&mut self, block: u32) {
        self.insert_run(block, block);
    }

    /// Adds the blocks from `first` to `last`, both included.
    pub fn insert_run(&mut self, first: u32, last: u32) {
        let (mut lo, (last_chunk, _)) = (first, split(last));
        while lo <= last {
            let (hi, from) = split(lo);
            let to = if hi == last_chunk { last as u16 } else { u16::MAX };
            if let Some(c) = self.chunk_mut(hi) {
                c.insert(Run { first: from, last: to });
            }
            let Some(next) = number(hi, u16::MAX).checked_add(1) else { break };
            lo = next;
        }
    }

    /// There always is one.
    fn chunk_mut(&mut self, hi: u16) -> Option<&mut Chunk> {
        let at = match self.chunks.last() {
            Some((n, _)) if *n == hi => self.chunks.len() - 1,
            Some((n, _)) if *n > hi => self.chunks.partition_point(|(n, _)| *n < hi),
            _ => self.chunks.len(),
        };
        if self.chunks.get(at).is_none_or(|(n, _)| *n != hi) {
            self.chunks.insert(at, (hi, Chunk::Runs(Vec::new())));
        }
        self.chunks.get_mut(at).map(|c| &mut c.1)
    }

    /// Forgets every block from `limit` on.
    pub fn truncate(&mut self, limit: u32) {
        let (hi, lo) = split(limit);
        let keep = self.chunks.partition_point(|(n, _)| *n < hi);
        let within = self.chunks.get(keep).is_some_and(|(n, _)| *n == hi);
        self.chunks.truncate(keep + usize::from(within));
        if within && let Some((_, c)) = self.chunks.last_mut() {
            c.truncate(lo);
            if c.is_empty() {
                self.chunks.pop();
            }
        }
    }

    /// Adds all that the other one has.
    pub fn union(&mut self, other: BlockSet) {
        if self.chunks.last().map(|c| c.0) < other.chunks.first().map(|c| c.0) {
            self.chunks.extend(other.chunks);
            return;
        }
        for (hi, c) in other.chunks {
            match self.chunk_mut(hi) {
                Some(here) if here.is_empty() => *here = c,
                Some(here) => here.union(c),
                None => {}
            }
        }
    }

    /// Its runs, ascending, each as first and last block, with a gap between each two.
    pub fn runs(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.runs_from(0)
    }

    /// The runs within a file that holds `count` blocks from `first` on.
    pub fn runs_in(&self, first: u32, count: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        let end = first.saturating_add(count.saturating_sub(1));
        let runs = (count > 0).then(|| self.runs_from(first));
        let runs = runs.into_iter().flatten().take_while(move |r| r.0 <= end);
        runs.map(move |(a, b)| (a.max(first), b.min(end)))
    }

    /// The blocks within a file that holds `count` blocks from `first` on, ascending.
    pub fn blocks_in(&self, first: u32, count: u32) -> impl Iterator<Item = u32> + '_ {
        self.runs_in(first, count).flat_map(|(a, b)| a..=b)
    }

    /// All blocks, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.runs().flat_map(|(a, b)| a..=b)
    }

    /// From the run on that ends at or behind `first`.
    fn runs_from(&self, first: u32) -> Runs<impl Iterator<Item = (u32, u32)> + '_> {
        let (hi, lo) = split(first);
        let from = self.chunks.partition_point(|(n, _)| *n < hi);
        let chunks = self.chunks.get(from..).unwrap_or_default().iter();
        let runs = chunks.flat_map(move |(n, c)| {
            let from = if *n == hi { lo } else { 0 };
            c.runs(from).map(|r| (number(*n, r.first), number(*n, r.last)))
        });
        Runs { parts: runs.peekable() }
    }
}

impl PartialEq for BlockSet {
    fn eq(&self, other: &Self) -> bool {
        self.runs().eq(other.runs())
    }
}

impl Eq for BlockSet {}

impl fmt::Debug for BlockSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |(a, b): (u32, u32)| if a == b { a.to_string() } else { format!("{a}-{b}") };
        f.write_str(&self.runs().map(show).collect::<Vec<_>>().join(" "))
    }
}

impl FromIterator<u32> for BlockSet {
    fn from_iter<I: IntoIterator<Item = u32>>(blocks: I) -> Self {
        let mut s = BlockSet::new();
        blocks.into_iter().for_each(|b| s.insert(b));
        s
    }
}

/// Puts the runs of neighbouring chunks together where they touch.
struct Runs<I: Iterator<Item = (u32, u32)>> {
    parts: Peekable<I>,
}

impl<I: Iterator<Item = (u32, u32)>> Iterator for Runs<I> {
    type Item = (u32, u32);
    fn next(&mut self) -> Option<(u32, u32)> {
        let (first, mut last) = self.parts.next()?;
        while let Some((_, l)) = self.parts.next_if(|r| last.checked_add(1) == Some(r.0)) {
            last = l;
        }
        Some((first, last))
    }
}

impl Chunk {
    fn is_empty(&self) -> bool {
        match self {
            Chunk::Runs(r) => r.is_empty(),
            Chunk::Bits(b) => b.iter().all(|w| *w == 0),
        }
    }

    fn contains(&self, lo: u16) -> bool {
        match self {
            Chunk::Runs(runs) => {
                let at = runs.partition_point(|r| r.last < lo);
                runs.get(at).is_some_and(|r| r.first <= lo)
            }
            Chunk::Bits(bits) => bits.get(usize::from(lo) >> 6).is_some_and(|w| w >> (lo & 63) & 1 == 1),
        }
    }

    fn insert(&mut self, run: Run) {
        match self {
            Chunk::Runs(runs) => {
                insert_run(runs, run);
                self.settle();
            }
            Chunk::Bits(bits) => set_bits(bits, run),
        }
    }

    fn truncate(&mut self, lo: u16) {
        match self {
            Chunk::Runs(runs) => {
                runs.truncate(runs.partition_point(|r| r.first < lo));
                if let (Some(r), Some(last)) = (runs.last_mut(), lo.checked_sub(1)) {
                    r.last = r.last.min(last);
                }
            }
            Chunk::Bits(bits) => {
                let at = usize::from(lo) >> 6;
                for (i, w) in bits.iter_mut().enumerate().skip(at) {
                    *w &= if i == at { (1 << (lo & 63)) - 1 } else { 0 };
                }
                self.settle();
            }
        }
    }

    fn union(&mut self, other: Chunk) {
        match (&mut *self, other) {
            (Chunk::Runs(a), Chunk::Runs(b)) => *a = merge(a, &b),
            (Chunk::Bits(a), Chunk::Bits(b)) => a.iter_mut().zip(b.iter()).for_each(|(a, b)| *a |= b),
            (Chunk::Bits(a), Chunk::Runs(b)) => b.into_iter().for_each(|r| set_bits(a, r)),
            (Chunk::Runs(a), Chunk::Bits(mut b)) => {
                a.iter().for_each(|r| set_bits(&mut b, *r));
                *self = Chunk::Bits(b);
            }
        }
        self.settle();
    }

    /// Takes the form that needs less room.
    fn settle(&mut self) {
        match self {
            Chunk::Runs(runs) if runs.len() > MAX_RUNS => {
                let mut bits = Box::new([0; WORDS]);
                runs.iter().for_each(|r| set_bits(&mut bits, *r));
                *self = Chunk::Bits(bits);
            }
            Chunk::Bits(bits) => {
                // A run ends at each bit that is not followed by one.
                let ends = bits.iter().zip(bits.iter().skip(1).chain(&[0]));
                let runs: u32 = ends.map(|(w, next)| (w & !(w >> 1 | next << 63)).count_ones()).sum();
                // Not at the very limit, so that a set does not change its form back and forth.
                if (runs as usize) < MAX_RUNS / 2 {
                    *self = Chunk::Runs(self.runs(0).collect());
                }
            }
            Chunk::Runs(_) => {}
        }
    }

    /// Its runs from the one on that ends at or behind `from`.
    fn runs(&self, from: u16) -> ChunkRuns<'_> {
        match self {
            Chunk::Runs(runs) => {
                let at = runs.partition_point(|r| r.last < from);
                ChunkRuns::List(runs.get(at..).unwrap_or_default().iter())
            }
            Chunk::Bits(bits) => {
                // A run that begins before is told from `from` on: who asks from there cannot tell.
                ChunkRuns::Bits(bits, u32::from(from))
            }
        }
    }
}

enum ChunkRuns<'a> {
    List(std::slice::Iter<'a, Run>),
    Bits(&'a [u64; WORDS], u32),
}

impl Iterator for ChunkRuns<'_> {
    type Item = Run;
    fn next(&mut self) -> Option<Run> {
        match self {
            ChunkRuns::List(i) => i.next().copied(),
            ChunkRuns::Bits(bits, at) => {
                let first = next_bit(bits, *at, 0)?;
                let end = next_bit(bits, first, u64::MAX).unwrap_or(1 << CHUNK_BITS);
                *at = end;
                Some(Run { first: first as u16, last: (end - 1) as u16 })
            }
        }
    }
}

/// The first bit at or behind `from` that is set (with `flip` 0) or clear (with `flip` all ones).
fn next_bit(bits: &[u64; WORDS], from: u32, flip: u64) -> Option<u32> {
    let at = from as usize >> 6;
    let mut mask = u64::MAX << (from & 63);
    for (i, w) in bits.iter().enumerate().skip(at) {
        let w = (w ^ flip) & mask;
        if w != 0 {
            return Some((i as u32) << 6 | w.trailing_zeros());
        }
        mask = u64::MAX;
    }
    None
}

fn set_bits(bits: &mut [u64; WORDS], run: Run) {
    let (a, b) = (usize::from(run.first), usize::from(run.last));
    for (i, w) in bits.iter_mut().enumerate().take((b >> 6) + 1).skip(a >> 6) {
        let low = if i == a >> 6 { u64::MAX << (a & 63) } else { u64::MAX };
        let high = if i == b >> 6 { u64::MAX >> (63 - (b & 63)) } else { u64::MAX };
        *w |= low & high;
    }
}

fn insert_run(runs: &mut Vec<Run>, run: Run) {
    if let Some(last) = runs.last_mut() {
        if run.first >= last.first && run.first <= last.last.saturating_add(1) {
            last.last = last.last.max(run.last);
            return;
        }
        if run.first < last.first {
            // Those that the new one touches become one with it.
            let from = runs.partition_point(|r| r.last.saturating_add(1) < run.first);
            let to = runs.partition_point(|r| r.first <= run.last.saturating_add(1));
            let touched = runs.get(from..to).unwrap_or_default();
            let first = touched.first().map_or(run.first, |r| r.first.min(run.first));
            let last = touched.last().map_or(run.last, |r| r.last.max(run.last));
            runs.splice(from..to.max(from), [Run { first, last }]);
            return;
        }
    }
    runs.push(run);
}

fn merge(a: &[Run], b: &[Run]) -> Vec<Run> {
    let mut out: Vec<Run> = Vec::with_capacity(a.len().max(b.len()));
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    loop {
        let next = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if y.first < x.first => b.next(),
            (Some(_), _) => a.next(),
            (None, _) => b.next(),
        };
        let Some(r) = next else { return out };
        match out.last_mut() {
            Some(l) if r.first <= l.last.saturating_add(1) => l.last = l.last.max(r.last),
            _ => out.push(r),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn edges() {
        let mut s = BlockSet::new();
        s.insert_run(65_530, 65_540);
        s.insert(u32::MAX);
        s.insert(0);
        assert_eq!(s.runs().collect::<Vec<_>>(), [(0, 0), (65_530, 65_540), (u32::MAX, u32::MAX)]);
        assert_eq!(s.count(), 13);
        assert_eq!(s.runs_in(65_535, 3).collect::<Vec<_>>(), [(65_535, 65_537)]);
        assert_eq!(s.runs_in(1, 65_529).count(), 0);
        assert_eq!(s.runs_in(0, 0).count(), 0);
        assert_eq!(s.blocks_in(u32::MAX, u32::MAX).collect::<Vec<_>>(), [u32::MAX]);
        s.truncate(65_536);
        assert_eq!(s.runs().collect::<Vec<_>>(), [(0, 0), (65_530, 65_535)]);
        s.truncate(0);
        assert!(s.is_empty() && s.count() == 0);
        s.insert_run(0, u32::MAX);
        assert_eq!(s.runs().collect::<Vec<_>>(), [(0, u32::MAX)]);
        assert!(s.chunks.iter().all(|c| matches!(&c.1, Chunk::Runs(r) if r.len() == 1)));
    }

    #[test]
    fn dense_sets_become_bitmaps_and_back() {
        let every_other = |from: u32| (from..65_536).step_by(2);
        let mut s: BlockSet = every_other(0).collect();
        assert!(matches!(s.chunks[0].1, Chunk::Bits(_)));
        assert_eq!(s.iter().collect::<Vec<_>>(), every_other(0).collect::<Vec<_>>());
        assert_eq!(s.blocks_in(100, 5).collect::<Vec<_>>(), [100, 102, 104]);
        assert!(s.contains(65_534) && !s.contains(65_535));
        let odd: BlockSet = every_other(1).collect();
        s.union(odd);
        assert!(matches!(s.chunks[0].1, Chunk::Runs(_)));
        assert_eq!(s.runs().collect::<Vec<_>>(), [(0, 65_535)]);
        let mut s: BlockSet = every_other(0).collect();
        s.truncate(101);
        assert_eq!(s.count(), 51);
        assert!(matches!(s.chunks[0].1, Chunk::Runs(_)));
    }

    #[test]
    fn as_a_plain_set() {
        // A small generator: the numbers fall near each other and around the edge of a chunk.
        let mut x = 7u64;
        let mut random = |n: u64| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (x >> 33) % n
        };
        for round in 0..200 {
            let (mut s, mut plain) = (BlockSet::new(), BTreeSet::new());
            for _ in 0..random(40) {
                let first = 65_500 + random(100) as u32;
                let last = first + random(1 + round / 10) as u32;
                match random(8) {
                    0 => {
                        s.truncate(first);
                        plain.retain(|b| *b < first);
                    }
                    1 => {
                        s.union((first..=last).collect());
                        plain.extend(first..=last);
                    }
                    _ => {
                        s.insert_run(first, last);
                        plain.extend(first..=last);
                    }
                }
                assert_eq!(s.iter().collect::<BTreeSet<_>>(), plain);
                assert_eq!(s.contains(first), plain.contains(&first));
                assert_eq!(
                    s.blocks_in(first, 9).collect::<Vec<_>>(),
                    plain.range(first..first + 9).copied().collect::<Vec<_>>()
                );
            }
            let runs: Vec<_> = s.runs().collect();
            assert!(runs.windows(2).all(|w| w[0].1 + 1 < w[1].0), "{runs:?}");
        }
    }
}
