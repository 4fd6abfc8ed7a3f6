//! Two weeks of hourly backups without the data: do maps, manifests, memory and requests stay small?
//! (`docs/FORMAT.md` §8 has what it printed.)
//!
//! Layers, leaves and roots are made, merged, encoded and compressed by the real code; blocks exist
//! only as locations of frames, and fingerprints are random numbers. Chunks are cut as the engine
//! cuts them.
//!
//! ```text
//! cargo run --release -p holdfast-vault --example simulate -- segments [hours=336] [sample=32] [skew=1]
//! cargo run --release -p holdfast-vault --example simulate -- files    [hours=336] [leaf=256] [mode=chunks|compact|inline] [late=0]
//! ```
//!
//! `segments`: 1 TiB in 1,024 files of 1 GiB, 1 % of all blocks change each hour, at random
//! (`skew=1`) or drawn by u^skew, so that some are hot. `sample` neighbouring files are simulated and
//! scaled; the root is made in full size.
//!
//! `files`: 1,000,000 files of 1 to 3 pages, of which 1,000 change each hour. Nothing is scaled.
//! `compact` and `inline` are alternatives to how the engine cuts chunks: gather a leaf's small
//! layers again when they lie in more than 8 chunks; or keep small layers in the leaf itself. With
//! `late=1` a run writes all maps, then all fingerprints, then all leaves, so that readers of one kind
//! find them side by side.
#![allow(clippy::print_stdout)]

mod files;
mod segments;

use holdfast_core::RunId;
use holdfast_core::policy::Compression;
use holdfast_testkit::TestRng;
use holdfast_vault::codec::{Compressor, Decompressor, FrameCodec};
use holdfast_vault::manifest::{
    Entry, EntryKind, Group, LayerRef, Leaf, LeafRef, Live, PackUse, Root, flags,
};
use holdfast_vault::map::{
    Layer, LocalPacks, MergePlan, Run, decode_layer, encode_layer, flatten, merge_plan,
};
use holdfast_vault::names::{PackClass, PackId};
use holdfast_vault::pack::{FrameLoc, PackTable};
use holdfast_vault::wire::Take;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

const BLOCK: u32 = 8192;
const FRAME_BLOCKS: u32 = 32;
const SEGMENT_BLOCKS: u32 = 131_072;
const SEGMENTS: u64 = 1024;
const PACK: u64 = 128 << 20;
/// As in the engine's collector.
const MAP_CHUNK: usize = 256 << 10;
const FPS_CHUNK: usize = 1 << 20;
const TAG: usize = 16;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |key: &str, default: u64| -> u64 {
        let found = args.iter().find_map(|a| a.strip_prefix(&format!("{key}=")));
        found.map_or(default, |v| v.parse().expect("a number"))
    };
    let mode = args.iter().find_map(|a| a.strip_prefix("mode=")).unwrap_or("chunks");
    println!("`simulate {}`\n", args.join(" "));
    match args.first().map(String::as_str) {
        Some("segments") => segments::segments(number("hours", 336), number("sample", 32), number("skew", 1)),
        Some("files") => {
            files::files(number("hours", 336), number("leaf", 256) as usize, mode, number("late", 0) == 1)
        }
        _ => panic!("say `segments` or `files`; see the head of examples/simulate/main.rs"),
    }
}

// ---------------------------------------------------------------------------------------------------
// what both scenarios share

fn run_id(hour: u64) -> RunId {
    let t = "2026-11-21T00:35:12Z".parse::<jiff::Timestamp>().expect("a time");
    let mut rng = TestRng::new(hour);
    let at = t + jiff::SignedDuration::from_hours(hour as i64);
    let tail: String =
        (0..6).map(|_| char::from(b"23456789abcdefghijkmnpqrstuvwxyz"[rng.below(32) as usize])).collect();
    format!("{}-{tail}", at.strftime("%Y%m%dT%H%M%SZ")).parse().expect("a run id")
}

/// Meta packs of one run: places for chunks, without the chunks.
struct MetaPacks {
    hour: u64,
    number: u32,
    offset: u64,
    index: u32,
    handle: u32,
    zstd: Compressor,
    packed: Vec<u8>,
}

impl MetaPacks {
    fn new(hour: u64, table: &mut PackTable) -> Self {
        let mut m = MetaPacks {
            hour,
            number: 0,
            offset: 0,
            index: 0,
            handle: 0,
            zstd: Compressor::new(Compression::Zstd { level: 3 }).expect("zstd"),
            packed: Vec::new(),
        };
        m.next(table);
        m
    }

    fn next(&mut self, table: &mut PackTable) {
        self.number += 1;
        (self.offset, self.index) = (256, 0);
        let id = PackId { run: run_id(self.hour), class: PackClass::Meta, number: self.number };
        self.handle = table.intern(&id);
    }

    fn frame(&mut self, plain: &[u8], table: &mut PackTable) -> FrameLoc {
        if self.offset >= PACK {
            self.next(table);
        }
        self.packed.clear();
        let codec = self.zstd.compress(plain, &mut self.packed).expect("compress");
        let loc = FrameLoc {
            pack: self.handle,
            index: self.index,
            offset: self.offset,
            sealed_len: (self.packed.len() + TAG) as u32,
            plain_len: plain.len() as u32,
            codec,
        };
        self.offset = loc.end();
        self.index += 1;
        loc
    }
}

/// Data packs of one run.
struct DataPacks {
    hour: u64,
    number: u32,
    offset: u64,
    index: u32,
    handle: u32,
    bytes: u64,
    rng: TestRng,
}

impl DataPacks {
    fn new(hour: u64, table: &mut PackTable) -> Self {
        let mut d = DataPacks {
            hour,
            number: 0,
            offset: u64::MAX,
            index: 0,
            handle: 0,
            bytes: 0,
            rng: TestRng::new(hour ^ 77),
        };
        d.next(table);
        d
    }

    fn next(&mut self, table: &mut PackTable) {
        self.number += 1;
        (self.offset, self.index) = (256, 0);
        let id = PackId { run: run_id(self.hour), class: PackClass::Data, number: self.number };
        self.handle = table.intern(&id);
    }

    /// A full frame of about a quarter of its plain size.
    fn frame(&mut self, blocks: u32, table: &mut PackTable) -> FrameLoc {
        if self.offset >= PACK {
            self.next(table);
        }
        let plain = blocks * BLOCK;
        let sealed = plain / 5 + self.rng.below(u64::from(plain / 10)) as u32 + TAG as u32;
        let loc = FrameLoc {
            pack: self.handle,
            index: self.index,
            offset: self.offset,
            sealed_len: sealed,
            plain_len: plain,
            codec: FrameCodec::Zstd,
        };
        self.offset = loc.end();
        self.index += 1;
        self.bytes += u64::from(sealed);
        loc
    }
}

/// A gap that is read rather than skipped: one request costs about as much as 256 KiB.
const GAP: u64 = 256 << 10;

/// Ranged reads for these frames if neighbours are fetched together, and their bytes.
fn coalesced(locs: &BTreeSet<(u32, u64, u32)>) -> (u64, u64) {
    let (mut n, mut bytes) = (0, 0);
    let mut last: Option<(u32, u64)> = None;
    for (pack, offset, len) in locs {
        match last {
            Some((p, end)) if p == *pack && *offset <= end + GAP => bytes += offset - end,
            _ => n += 1,
        }
        bytes += u64::from(*len);
        last = Some((*pack, offset + u64::from(*len)));
    }
    (n, bytes)
}

fn place(l: &FrameLoc) -> (u32, u64, u32) {
    (l.pack, l.offset, l.sealed_len)
}

fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with(key)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0) << 10
}

fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = text.rsplit(')').next().unwrap_or_default();
    let f: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |i: usize| f.get(i).and_then(|v| v.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn mib(b: u64) -> String {
    format!("{:.1}", b as f64 / (1 << 20) as f64)
}

/// Values of one measure over the hours: full, mean and largest of the rest, last.
#[derive(Default)]
struct Series(BTreeMap<&'static str, Vec<f64>>);

impl Series {
    fn add(&mut self, what: &'static str, v: f64) {
        self.0.entry(what).or_default().push(v);
    }

    fn print(&self) {
        println!("| measure | full | mean of an hour | largest | last |");
        println!("|---|---:|---:|---:|---:|");
        for (what, v) in &self.0 {
            let rest = v.get(1..).unwrap_or(&[]);
            let mean = rest.iter().sum::<f64>() / rest.len().max(1) as f64;
            let max = rest.iter().copied().fold(0.0, f64::max);
            let last = v.last().copied().unwrap_or(0.0);
            println!("| {what} | {} | {} | {} | {} |", fig(v[0]), fig(mean), fig(max), fig(last));
        }
        println!();
    }
}

fn fig(v: f64) -> String {
    if v >= 100.0 || v == v.trunc() { format!("{v:.0}") } else { format!("{v:.2}") }
}

fn dir_entry(path: Vec<u8>, size: u64, inode: u64, mtime_ns: i64) -> Entry {
    Entry {
        path,
        kind: EntryKind::File,
        flags: flags::RELATION,
        mode: 0o600,
        uid: 104,
        gid: 112,
        size,
        mtime_ns,
        ctime_ns: mtime_ns + 11_000,
        inode,
        link: vec![],
        damaged: vec![],
        layers: vec![],
    }
}

fn digest(rng: &mut TestRng) -> [u8; 32] {
    rng.bytes(32).try_into().expect("32 bytes")
}

fn eprintln_progress(hour: u64, hours: u64) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "hour {hour} of {hours}");
}
