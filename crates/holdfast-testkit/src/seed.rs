//! Random choices that can be replayed.
//!
//! A test takes its seed from [`seed_from_env_or_time`], which prints it; setting the variable to
//! the printed number repeats the run.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small deterministic generator (SplitMix64). Not for secrets.
#[derive(Debug, Clone)]
pub struct TestRng {
    state: u64,
}

impl TestRng {
    /// A generator that always gives the same sequence for the same seed.
    pub fn new(seed: u64) -> TestRng {
        TestRng { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, not including, `end`. The tiny bias does not matter in tests.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "an empty range has no numbers");
        self.next_u64() % end
    }

    /// A number from `start` up to, not including, `end`.
    pub fn range(&mut self, start: u64, end: u64) -> u64 {
        start + self.below(end - start)
    }

    /// True in `per_mille` of 1000 cases.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < u64::from(per_mille)
    }

    /// One of the items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let index = self.below(items.len() as u64) as usize;
        &items[index]
    }

    /// Puts the items into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }

    /// Random bytes, which do not compress.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next_u64().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// An independent generator, for a thread or a part of a test.
    pub fn fork(&mut self) -> TestRng {
        TestRng::new(self.next_u64())
    }
}

/// The seed in the environment variable `name`, or one from the clock. Prints it either way, so
/// that a failed run can be repeated.
pub fn seed_from_env_or_time(name: &str) -> u64 {
    let given = std::env::var(name).ok().filter(|text| !text.is_empty());
    let seed = match given {
        Some(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")),
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
            TestRng::new(now.as_nanos() as u64).next_u64() >> 16
        }
    };
    eprintln!("testkit: {name}={seed} repeats this run");
    seed
}
