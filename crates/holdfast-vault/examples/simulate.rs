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
        Some("segments") => segments(number("hours", 336), number("sample", 32), number("skew", 1)),
        Some("files") => {
            files(number("hours", 336), number("leaf", 256) as usize, mode, number("late", 0) == 1)
        }
        _ => panic!("say `segments` or `files`; see the head of examples/simulate.rs"),
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

// ---------------------------------------------------------------------------------------------------
// 1 TiB in 1 GiB files

struct SimLayer {
    layer: Layer,
    fps: Vec<u64>,
    map: FrameLoc,
    map_at: u32,
    map_len: u32,
    fp: FrameLoc,
    fps_at: u32,
}

/// Chunks of one leaf that are being filled.
struct Open {
    local: LocalPacks,
    body: Vec<u8>,
    fps: Vec<u8>,
    maps: Vec<(usize, usize)>,
    fp_of: Vec<(usize, usize)>,
}

fn segments(hours: u64, sample: u64, skew: u64) {
    let scale = SEGMENTS as f64 / sample as f64;
    let mut rng = TestRng::new(1);
    let mut table = PackTable::default();
    let mut files: Vec<Vec<SimLayer>> = (0..sample).map(|_| Vec::new()).collect();
    let mut series = Series::default();
    let mut pack_bytes: HashMap<u32, u64> = HashMap::new();
    let mut chunk_store: HashMap<(u32, u32), Vec<u8>> = HashMap::new();
    let nothing =
        FrameLoc { pack: 0, index: 0, offset: 0, sealed_len: 0, plain_len: 0, codec: FrameCodec::None };
    for hour in 0..=hours {
        let cpu = cpu_seconds();
        let mut meta = MetaPacks::new(hour, &mut table);
        let mut data = DataPacks::new(hour, &mut table);
        let mut open =
            Open { local: LocalPacks::default(), body: vec![], fps: vec![], maps: vec![], fp_of: vec![] };
        let (mut map_bytes, mut fp_bytes, mut chunks) = (0u64, 0u64, 0u64);
        let (mut parent_reads, mut parent_bytes) = (BTreeSet::new(), 0u64);
        let mut live: BTreeMap<u32, (f64, u64)> = BTreeMap::new();
        let (mut frames_used, mut frame_plain) = (BTreeSet::new(), 0u64);
        let mut changed_blocks = 0u64;
        let (mut frame, mut fill) = (None::<FrameLoc>, 0u32);
        for (i, file) in files.iter_mut().enumerate() {
            // What changed, 32 blocks to a frame; a frame may hold the end of one file and the start of
            // the next.
            let blocks: Vec<u32> = if hour == 0 {
                (0..SEGMENT_BLOCKS).collect()
            } else {
                let mut b: Vec<u32> = (0..SEGMENT_BLOCKS / 100)
                    .map(|_| {
                        let u = rng.next_u64() as f64 / u64::MAX as f64;
                        ((u.powi(skew as i32) * f64::from(SEGMENT_BLOCKS)) as u32).min(SEGMENT_BLOCKS - 1)
                    })
                    .collect();
                b.sort_unstable();
                b.dedup();
                b
            };
            changed_blocks += blocks.len() as u64;
            let mut layer = Layer::default();
            for b in blocks {
                if fill == FRAME_BLOCKS || frame.is_none() {
                    (frame, fill) = (Some(data.frame(FRAME_BLOCKS, &mut table)), 0);
                }
                let f = frame.expect("just made");
                if layer.frames.last() != Some(&f) {
                    layer.frames.push(f);
                }
                let n = layer.frames.len() as u32 - 1;
                layer.runs.push(Run { start: b, count: 1, frame: Some(n), at: fill * BLOCK });
                fill += 1;
            }
            layer.normalize(BLOCK);
            let fps: Vec<u64> = (0..layer.blocks()).map(|_| rng.next_u64()).collect();
            // The engine reads the parent's map and fingerprints of a file that it compares.
            for l in file.iter() {
                for c in [&l.map, &l.fp] {
                    if parent_reads.insert(place(c)) {
                        parent_bytes += u64::from(c.sealed_len);
                    }
                }
            }
            let counts: Vec<u64> = file.iter().map(|l| l.layer.blocks()).collect();
            let plan = merge_plan(&counts, layer.blocks());
            let mut all: Vec<&Layer> = file.iter().map(|l| &l.layer).collect();
            let mut all_fps: Vec<&[u64]> = file.iter().map(|l| l.fps.as_slice()).collect();
            all.push(&layer);
            all_fps.push(&fps);
            let (flat, flat_fps) = flatten(&all, &all_fps, SEGMENT_BLOCKS, BLOCK);
            for f in &flat.frames {
                if frames_used.insert((f.pack, f.index)) {
                    frame_plain += u64::from(f.plain_len);
                }
            }
            for r in &flat.runs {
                let f = flat.frames[r.frame.expect("no zeros here") as usize];
                let l = live.entry(f.pack).or_default();
                l.0 += f64::from(f.sealed_len) * f64::from(r.count) / f64::from(FRAME_BLOCKS);
                l.1 += u64::from(r.count);
            }
            let (keep, (layer, fps)) = match plan {
                MergePlan::Add => (file.len(), (layer, fps)),
                MergePlan::Upper => (1, flatten(&all[1..], &all_fps[1..], SEGMENT_BLOCKS, BLOCK)),
                MergePlan::All => (0, (flat, flat_fps)),
            };
            file.truncate(keep);
            if open.body.len() >= MAP_CHUNK {
                let (loc, plain) = close_map(&mut open, &mut meta, &mut table);
                map_bytes += u64::from(loc.sealed_len);
                chunks += 1;
                for (f, l) in std::mem::take(&mut open.maps) {
                    PENDING.with(|p| p.borrow_mut().push((f, l, true, loc)));
                }
                chunk_store.insert((loc.pack, loc.index), plain);
            }
            if open.fps.len() >= FPS_CHUNK {
                let loc = meta.frame(&open.fps, &mut table);
                open.fps.clear();
                fp_bytes += u64::from(loc.sealed_len);
                chunks += 1;
                for (f, l) in std::mem::take(&mut open.fp_of) {
                    PENDING.with(|p| p.borrow_mut().push((f, l, false, loc)));
                }
            }
            let (map_at, fps_at) = (open.body.len(), open.fps.len());
            encode_layer(&layer, BLOCK, &mut open.local, &mut open.body);
            open.fps.extend(fps.iter().flat_map(|f| f.to_le_bytes()));
            open.maps.push((i, file.len()));
            open.fp_of.push((i, file.len()));
            file.push(SimLayer {
                layer,
                fps,
                map: nothing,
                map_at: map_at as u32,
                map_len: (open.body.len() - map_at) as u32,
                fp: nothing,
                fps_at: fps_at as u32,
            });
        }
        let (loc, plain) = close_map(&mut open, &mut meta, &mut table);
        map_bytes += u64::from(loc.sealed_len);
        chunk_store.insert((loc.pack, loc.index), plain);
        let fp_loc = meta.frame(&open.fps, &mut table);
        fp_bytes += u64::from(fp_loc.sealed_len);
        chunks += 2;
        let mut pending = PENDING.with(|p| std::mem::take(&mut *p.borrow_mut()));
        pending.extend(open.maps.iter().map(|&(f, l)| (f, l, true, loc)));
        pending.extend(open.fp_of.iter().map(|&(f, l)| (f, l, false, fp_loc)));
        for (f, l, is_map, loc) in pending {
            let s = &mut files[f][l];
            if is_map { s.map = loc } else { s.fp = loc }
        }
        pack_bytes.insert(data.handle, data.bytes);

        // The leaf of the sample, the root of everything.
        let leaf = segment_leaf(&files);
        let leaf_plain = leaf.encode(&table);
        let leaf_loc = meta.frame(&leaf_plain, &mut table);
        let leaf_bytes = u64::from(leaf_loc.sealed_len);
        let (root_plain, packs) = segment_root(&leaf, leaf_loc, &live, hour, scale, &table);
        let root_loc = meta.frame(&root_plain, &mut table);

        let used: BTreeSet<(u32, u32)> = leaf.chunks.iter().map(|c| (c.pack, c.index)).collect();
        chunk_store.retain(|k, _| used.contains(k));
        let maps: BTreeSet<_> = files.iter().flatten().map(|l| place(&l.map)).collect();
        let fpcs: BTreeSet<_> = files.iter().flatten().map(|l| place(&l.fp)).collect();
        let sum = |s: &BTreeSet<(u32, u64, u32)>| s.iter().map(|(_, _, n)| u64::from(*n)).sum::<u64>() as f64;
        let layers: Vec<usize> = files.iter().map(Vec::len).collect();
        let live_bytes: f64 = live.values().map(|(b, _)| b).sum();
        let referenced: u64 = live.keys().map(|p| pack_bytes.get(p).copied().unwrap_or(0)).sum();
        let mib = (1u64 << 20) as f64;
        let put = |bytes: f64| (bytes / (8.0 * mib)).ceil() + 2.0;
        let data_packs = (data.bytes as f64 * scale / PACK as f64).ceil();
        let meta_bytes = (map_bytes + fp_bytes + leaf_bytes) as f64 * scale + f64::from(root_loc.sealed_len);
        series.add("01 blocks changed", changed_blocks as f64 * scale);
        series.add("02 data written, MiB", data.bytes as f64 * scale / mib);
        series.add("03 maps written, MiB", map_bytes as f64 * scale / mib);
        series.add("04 fingerprints written, MiB", fp_bytes as f64 * scale / mib);
        series.add("05 leaves written, MiB", leaf_bytes as f64 * scale / mib);
        series.add("06 root written, MiB", f64::from(root_loc.sealed_len) / mib);
        series.add("07 meta written / data written", meta_bytes / (data.bytes as f64 * scale));
        series.add("08 packs that the root names", packs as f64);
        series.add("09 layers of a file, mean", layers.iter().sum::<usize>() as f64 / layers.len() as f64);
        series.add("10 layers of a file, most", layers.iter().copied().max().unwrap_or(0) as f64);
        series.add("11 maps of the point, MiB", sum(&maps) * scale / mib);
        series.add("12 fingerprints of the point, MiB", sum(&fpcs) * scale / mib);
        series.add(
            "13 backup: PUT requests (8 MiB parts)",
            data_packs * put(PACK as f64)
                + (meta_bytes / PACK as f64).ceil() * put(meta_bytes.min(PACK as f64))
                + 2.0,
        );
        series.add("14 backup: GET of parent's chunks", parent_reads.len() as f64 * scale + 1.0);
        series.add("15 backup: the same, neighbours joined", coalesced(&parent_reads).0 as f64 * scale + 1.0);
        series.add("16 backup: parent's meta read, MiB", parent_bytes as f64 * scale / mib);
        series.add("17 restore: GET of leaves and maps", (maps.len() as f64 + 1.0) * scale + 1.0);
        series.add("18 restore: the same, neighbours joined", (coalesced(&maps).0 + 1) as f64 * scale + 1.0);
        series.add("19 restore: frames to open", frames_used.len() as f64 * scale);
        series.add("20 distinct frames / file bytes (R7: 1.3)", frame_plain as f64 / (sample << 30) as f64);
        series.add("21 referenced packs / live bytes (R7: 1.5)", referenced as f64 / live_bytes);
        series.add("22 CPU seconds for maps, whole database", (cpu_seconds() - cpu) * scale);
        series.add("23 chunks written", chunks as f64 * scale);
        if hour % 24 == 0 {
            eprintln_progress(hour, hours);
        }
    }
    series.print();
    segment_reading(&files, &chunk_store);
}

thread_local! {
    /// Chunks that were closed while files are borrowed: (file, layer, is a map, where).
    static PENDING: std::cell::RefCell<Vec<(usize, usize, bool, FrameLoc)>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn close_map(open: &mut Open, meta: &mut MetaPacks, table: &mut PackTable) -> (FrameLoc, Vec<u8>) {
    let mut plain = Vec::with_capacity(open.body.len() + 256);
    let local = std::mem::take(&mut open.local);
    local.encode(table, &mut plain);
    plain.extend_from_slice(&open.body);
    open.body.clear();
    (meta.frame(&plain, table), plain)
}

fn segment_leaf(files: &[Vec<SimLayer>]) -> Leaf {
    let mut leaf = Leaf::default();
    let mut ids: HashMap<FrameLoc, u32> = HashMap::new();
    for (i, file) in files.iter().enumerate() {
        let mut e = dir_entry(
            format!("base/16384/16400.{i}").into_bytes(),
            u64::from(SEGMENT_BLOCKS) * u64::from(BLOCK),
            900_000 + i as u64,
            1_795_253_712_123_456_789 + i as i64 * 1_000_003,
        );
        for l in file {
            let mut id = |c: FrameLoc| {
                *ids.entry(c).or_insert_with(|| {
                    leaf.chunks.push(c);
                    leaf.chunks.len() as u32 - 1
                })
            };
            let (map, fps) = (id(l.map), id(l.fp));
            let blocks = l.layer.blocks() as u32;
            e.layers.push(LayerRef {
                map,
                map_at: l.map_at,
                map_len: l.map_len,
                fps,
                fps_at: l.fps_at,
                blocks,
            });
        }
        leaf.entries.push(e);
    }
    leaf
}

/// The root of the whole database: the sample's share of each run's packs, times the scale.
fn segment_root(
    leaf: &Leaf,
    leaf_loc: FrameLoc,
    live: &BTreeMap<u32, (f64, u64)>,
    hour: u64,
    scale: f64,
    table: &PackTable,
) -> (Vec<u8>, usize) {
    let mut full = PackTable::default();
    let mut rng = TestRng::new(hour);
    let mut root = Root::default();
    let leaves = 4usize;
    let mut lives: Vec<Vec<(u32, Live)>> = vec![Vec::new(); leaves];
    // By run: a run's packs share its live bytes evenly.
    let mut runs: BTreeMap<RunId, (f64, u64)> = BTreeMap::new();
    for (handle, (bytes, blocks)) in live {
        let id = table.get(*handle).expect("interned");
        let t = runs.entry(id.run.clone()).or_default();
        t.0 += bytes * scale;
        t.1 += (*blocks as f64 * scale) as u64;
    }
    let hour_bytes = 0.01 * (SEGMENTS << 30) as f64 / 4.0;
    for (run, (bytes, blocks)) in &runs {
        let total = if *run == run_id(0) { (SEGMENTS << 30) as f64 / 4.0 } else { hour_bytes };
        let n = (total / PACK as f64).ceil().max(1.0) as u32;
        for number in 1..=n {
            let pack = full.intern(&PackId { run: run.clone(), class: PackClass::Data, number });
            let one = Live {
                bytes: (bytes / f64::from(n)) as u64 + rng.below(9999),
                blocks: blocks / u64::from(n) + rng.below(99),
            };
            lives[(number as usize - 1) * leaves / n as usize].push((pack, one));
            root.packs.push(PackUse {
                pack,
                len: PACK + rng.below(65536),
                digest: digest(&mut rng),
                live: one,
            });
        }
    }
    let mut meta: BTreeSet<u32> = BTreeSet::new();
    for c in leaf.chunks.iter().chain([&leaf_loc]) {
        meta.insert(full.intern(table.get(c.pack).expect("interned")));
    }
    for pack in &meta {
        root.packs.push(PackUse {
            pack: *pack,
            len: rng.below(PACK),
            digest: digest(&mut rng),
            live: Live::default(),
        });
    }
    let own = full.intern(table.get(leaf_loc.pack).expect("interned"));
    let refs = lives.into_iter().enumerate().map(|(i, live)| LeafRef {
        chunk: FrameLoc { pack: own, offset: leaf_loc.offset + i as u64 * 20_000, ..leaf_loc },
        first: format!("base/16384/16400.{}", i * 256).into_bytes(),
        files: 256,
        bytes: 256 << 30,
        live,
        meta: meta.iter().copied().collect(),
    });
    root.groups.push(Group { name: b"base/16384".to_vec(), leaves: refs.collect() });
    (root.encode(&full), root.packs.len())
}

fn digest(rng: &mut TestRng) -> [u8; 32] {
    rng.bytes(32).try_into().expect("32 bytes")
}

/// Decodes every map as a restore does.
fn segment_reading(files: &[Vec<SimLayer>], chunks: &HashMap<(u32, u32), Vec<u8>>) {
    let start = Instant::now();
    let mut packs = PackTable::default();
    let (mut biggest, mut runs, mut frames) = (0usize, 0usize, 0usize);
    for file in files {
        let layers: Vec<Layer> = file
            .iter()
            .map(|l| {
                let chunk = &chunks[&(l.map.pack, l.map.index)];
                let mut t = Take::new(chunk);
                let handles = LocalPacks::decode(&mut t, &mut packs).expect("pack list");
                let from = t.position() + l.map_at as usize;
                decode_layer(&mut Take::new(&chunk[from..from + l.map_len as usize]), BLOCK, &handles)
                    .expect("layer")
            })
            .collect();
        let refs: Vec<&Layer> = layers.iter().collect();
        let (flat, _) = flatten(&refs, &[], SEGMENT_BLOCKS, BLOCK);
        let size = |l: &Layer| l.frames.len() * size_of::<FrameLoc>() + l.runs.len() * size_of::<Run>();
        biggest =
            biggest.max(layers.iter().map(size).sum::<usize>() + size(&flat) + SEGMENT_BLOCKS as usize * 4);
        runs = runs.max(flat.runs.len());
        frames = frames.max(flat.frames.len());
    }
    let each = start.elapsed().as_secs_f64() / files.len() as f64;
    println!(
        "Reading one file's map at the end: {:.1} ms, {} MiB in memory; {runs} runs in {frames} frames.",
        each * 1e3,
        mib(biggest as u64)
    );
    println!("Peak RSS of the simulation: {} MiB.\n", mib(status("VmHWM")));
}

// ---------------------------------------------------------------------------------------------------
// a million small files

/// Where the pages of a small file are: (frame, slot in it).
#[derive(Clone, Copy)]
struct Small {
    pages: u8,
    at: [(u32, u16); 3],
    /// Chunk of the leaf, and the layer's place in it.
    map: (u32, u32, u32),
    fps: (u32, u32),
}

struct SmallLeaf {
    chunks: Vec<FrameLoc>,
    files: Vec<Small>,
    entries: Vec<Entry>,
    at: FrameLoc,
    live: Vec<(u32, Live)>,
    meta: Vec<u32>,
    packed: Vec<u8>,
}

fn small_layer(f: &Small, frames: &[FrameLoc]) -> Layer {
    let mut layer = Layer::default();
    for (b, (frame, slot)) in f.at.iter().take(f.pages as usize).enumerate() {
        let loc = frames[*frame as usize];
        let n = layer.frames.iter().position(|x| *x == loc).unwrap_or_else(|| {
            layer.frames.push(loc);
            layer.frames.len() - 1
        });
        layer.runs.push(Run {
            start: b as u32,
            count: 1,
            frame: Some(n as u32),
            at: u32::from(*slot) * BLOCK,
        });
    }
    layer.normalize(BLOCK);
    layer
}

fn files(hours: u64, leaf_files: usize, mode: &str, late: bool) {
    const FILES: u64 = 1_000_000;
    const TOUCHED: u64 = 1000;
    let inline = mode == "inline";
    let mut rng = TestRng::new(2);
    let mut table = PackTable::default();
    let mut frames: Vec<FrameLoc> = Vec::new();
    let mut series = Series::default();
    let mut leaves: Vec<SmallLeaf> = Vec::new();
    let mut pack_len: HashMap<u32, u64> = HashMap::new();
    let nowhere =
        FrameLoc { pack: 0, index: 0, offset: 0, sealed_len: 0, plain_len: 0, codec: FrameCodec::None };
    for hour in 0..=hours {
        let cpu = cpu_seconds();
        let mut meta = MetaPacks::new(hour, &mut table);
        let mut data = DataPacks::new(hour, &mut table);
        let first_frame = frames.len();
        let mut fill = FRAME_BLOCKS;
        let mut page = |frames: &mut Vec<FrameLoc>, data: &mut DataPacks, table: &mut PackTable| {
            if fill == FRAME_BLOCKS {
                frames.push(data.frame(FRAME_BLOCKS, table));
                fill = 0;
            }
            fill += 1;
            (frames.len() as u32 - 1, fill as u16 - 1)
        };
        // Which files change: (leaf, file in it).
        let mut touched: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        if hour == 0 {
            let mut left = FILES;
            while left > 0 {
                let n = left.min(leaf_files as u64) as usize;
                let base = FILES - left;
                let mut leaf = SmallLeaf {
                    chunks: vec![],
                    files: vec![],
                    entries: vec![],
                    at: nowhere,
                    live: vec![],
                    meta: vec![],
                    packed: vec![],
                };
                for i in 0..n {
                    let pages = 1 + rng.below(3) as u8;
                    let mut f = Small { pages, at: [(0, 0); 3], map: (0, 0, 0), fps: (0, 0) };
                    for p in f.at.iter_mut().take(pages as usize) {
                        *p = page(&mut frames, &mut data, &mut table);
                    }
                    leaf.files.push(f);
                    let path = format!("base/16384/{}", 1_000_000 + (base + i as u64) * 3).into_bytes();
                    let t = 1_795_253_712_000_000_000 + rng.below(86_400_000_000_000) as i64;
                    leaf.entries.push(dir_entry(
                        path,
                        u64::from(pages) * u64::from(BLOCK),
                        4_000_000 + base + i as u64,
                        t,
                    ));
                }
                touched.insert(leaves.len(), (0..n).collect());
                leaves.push(leaf);
                left -= n as u64;
            }
        } else {
            for _ in 0..TOUCHED {
                let f = rng.below(FILES) as usize;
                touched.entry(f / leaf_files).or_default().insert(f % leaf_files);
            }
            let now = 1_795_253_712_000_000_000 + (hour as i64 + 24) * 3_600_000_000_000;
            for (l, which) in &touched {
                for i in which {
                    let leaf = &mut leaves[*l];
                    let f = &mut leaf.files[*i];
                    // One page of it changed; the layer that holds it replaces the file's whole map.
                    let p = rng.below(u64::from(f.pages)) as usize;
                    f.at[p] = page(&mut frames, &mut data, &mut table);
                    leaf.entries[*i].mtime_ns = now - rng.below(3_600_000_000_000) as i64;
                    leaf.entries[*i].ctime_ns = leaf.entries[*i].mtime_ns + 11_000;
                }
            }
        }
        let (mut map_bytes, mut fp_bytes, mut leaf_bytes, mut parent_reads) =
            (0u64, 0u64, 0u64, BTreeSet::new());
        let mut late_fps = Vec::new();
        for (l, which) in &touched {
            let leaf = &mut leaves[*l];
            // The engine reads the parent's leaf, and all its maps: those of untouched files for the
            // live sums.
            if hour > 0 {
                parent_reads.insert(place(&leaf.at));
                if !inline {
                    for f in &leaf.files {
                        parent_reads.insert(place(&leaf.chunks[f.map.0 as usize]));
                    }
                    for i in which {
                        parent_reads.insert(place(&leaf.chunks[leaf.files[*i].fps.0 as usize]));
                    }
                }
            }
            let many = mode == "compact" && leaf.chunks.len() + 2 > 8;
            if many {
                parent_reads.extend(leaf.chunks.iter().map(place));
            }
            let rewrite: Vec<usize> = if many || inline {
                (0..leaf.files.len()).collect()
            } else {
                which.iter().copied().collect()
            };
            let mut local = LocalPacks::default();
            let (mut body, mut fps) = (Vec::new(), Vec::new());
            let mut places = Vec::with_capacity(rewrite.len());
            for i in rewrite {
                let f = &leaf.files[i];
                let (at, fps_at) = (body.len(), fps.len());
                encode_layer(&small_layer(f, &frames), BLOCK, &mut local, &mut body);
                // The same fingerprint as long as the page is the same one.
                for (frame, slot) in f.at.iter().take(f.pages as usize) {
                    let print = TestRng::new(u64::from(*frame) << 16 | u64::from(*slot)).next_u64();
                    fps.extend_from_slice(&print.to_le_bytes());
                }
                places.push((i, at as u32, (body.len() - at) as u32, fps_at as u32));
            }
            let mut plain = Vec::new();
            local.encode(&table, &mut plain);
            plain.extend_from_slice(&body);
            if inline {
                // As if the leaf had a third part: pack list, layers, fingerprints.
                let shown = Leaf { chunks: vec![], entries: leaf.entries.clone() };
                let mut all = shown.encode(&table);
                all.extend_from_slice(&plain);
                all.extend_from_slice(&fps);
                leaf.at = meta.frame(&all, &mut table);
                leaf.packed = meta.packed.clone();
                leaf.meta = vec![leaf.at.pack];
            } else {
                let map = meta.frame(&plain, &mut table);
                map_bytes += u64::from(map.sealed_len);
                late_fps.push((*l, map, fps, places));
                if !late {
                    for (l, map, fps, places) in late_fps.drain(..) {
                        let fp = meta.frame(&fps, &mut table);
                        fp_bytes += u64::from(fp.sealed_len);
                        attach(&mut leaves[l], map, fp, &places);
                        write_leaf(&mut leaves[l], &mut meta, &mut table);
                    }
                }
            }
        }
        let written: Vec<usize> = late_fps.iter().map(|(l, ..)| *l).collect();
        for (l, map, fps, places) in late_fps {
            let fp = meta.frame(&fps, &mut table);
            fp_bytes += u64::from(fp.sealed_len);
            attach(&mut leaves[l], map, fp, &places);
        }
        for l in written {
            write_leaf(&mut leaves[l], &mut meta, &mut table);
        }
        for l in touched.keys() {
            let leaf = &mut leaves[*l];
            leaf_bytes += u64::from(leaf.at.sealed_len);
            let mut live: BTreeMap<u32, Live> = BTreeMap::new();
            for f in &leaf.files {
                for (frame, _) in f.at.iter().take(f.pages as usize) {
                    let loc = frames[*frame as usize];
                    let t = live.entry(loc.pack).or_default();
                    t.bytes += u64::from(loc.sealed_len / FRAME_BLOCKS);
                    t.blocks += 1;
                }
            }
            leaf.live = live.into_iter().collect();
        }
        for f in frames.get(first_frame..).unwrap_or(&[]) {
            let n = pack_len.entry(f.pack).or_default();
            *n = (*n).max(f.end());
        }
        // The root, whole.
        let mut root = Root::default();
        let mut uses: BTreeMap<u32, Live> = BTreeMap::new();
        let mut group = Group { name: b"base/16384".to_vec(), leaves: vec![] };
        for leaf in &leaves {
            for (p, l) in &leaf.live {
                let t = uses.entry(*p).or_default();
                t.bytes += l.bytes;
                t.blocks += l.blocks;
            }
            for p in &leaf.meta {
                uses.entry(*p).or_default();
            }
            group.leaves.push(LeafRef {
                chunk: leaf.at,
                first: leaf.entries[0].path.clone(),
                files: leaf.files.len() as u32,
                bytes: leaf.entries.iter().map(|e| e.size).sum(),
                live: leaf.live.clone(),
                meta: leaf.meta.clone(),
            });
        }
        let mut drng = TestRng::new(hour);
        for (pack, live) in uses {
            if pack != meta.handle {
                let len = pack_len.get(&pack).copied().unwrap_or(12345);
                root.packs.push(PackUse { pack, len, digest: digest(&mut drng), live });
            }
        }
        let lists: usize = group.leaves.iter().map(|l| l.live.len() + l.meta.len()).sum();
        root.groups.push(group);
        let root_loc = meta.frame(&root.encode(&table), &mut table);
        let root_bytes = u64::from(root_loc.sealed_len);
        // If the sums of a leaf stood in the leaf, the root would have only totals.
        for l in root.groups.iter_mut().flat_map(|g| &mut g.leaves) {
            (l.live, l.meta) = (vec![], vec![]);
        }
        let lean = u64::from(meta.frame(&root.encode(&table), &mut table).sealed_len);

        let mut restore: BTreeSet<(u32, u64, u32)> = leaves.iter().map(|l| place(&l.at)).collect();
        if !inline {
            restore.extend(
                leaves.iter().flat_map(|l| l.files.iter().map(|f| place(&l.chunks[f.map.0 as usize]))),
            );
        }
        let bytes: u64 = restore.iter().map(|(_, _, n)| u64::from(*n)).sum();
        let distinct: BTreeSet<u32> = leaves
            .iter()
            .flat_map(|l| &l.files)
            .flat_map(|f| f.at.iter().take(f.pages as usize).map(|a| a.0))
            .collect();
        let live_bytes: u64 = root.packs.iter().map(|p| p.live.bytes).sum();
        let referenced: u64 = root.packs.iter().filter(|p| p.live.blocks > 0).map(|p| p.len).sum();
        let file_bytes: u64 = leaves.iter().flat_map(|l| &l.entries).map(|e| e.size).sum();
        let m = (1u64 << 20) as f64;
        let meta_bytes = map_bytes + fp_bytes + leaf_bytes + root_bytes;
        series.add("01 leaves written", touched.len() as f64);
        series.add("02 data written, MiB", data.bytes as f64 / m);
        series.add("03 maps written, MiB", map_bytes as f64 / m);
        series.add("04 fingerprints written, MiB", fp_bytes as f64 / m);
        series.add("05 leaves written, MiB", leaf_bytes as f64 / m);
        series.add("06 root written, MiB", root_bytes as f64 / m);
        series.add("07 root without per-leaf sums, MiB", lean as f64 / m);
        series.add("08 meta written / data written", meta_bytes as f64 / data.bytes as f64);
        series.add("09 pack sums and meta packs in the root's leaves", lists as f64);
        series.add(
            "10 chunks of a leaf, mean",
            leaves.iter().map(|l| l.chunks.len()).sum::<usize>() as f64 / leaves.len() as f64,
        );
        series.add(
            "11 chunks of a leaf, most",
            leaves.iter().map(|l| l.chunks.len()).max().unwrap_or(0) as f64,
        );
        series.add("12 backup: GET of parent's leaves and chunks", parent_reads.len() as f64 + 1.0);
        series.add("13 backup: the same, neighbours joined", coalesced(&parent_reads).0 as f64 + 1.0);
        series.add("14 restore: GET of leaves and maps", restore.len() as f64 + 1.0);
        series.add("15 restore: the same, neighbours joined", coalesced(&restore).0 as f64 + 1.0);
        series.add("15b restore: MiB read with the gaps", coalesced(&restore).1 as f64 / m);
        series.add("16 restore: leaves and maps read, MiB", bytes as f64 / m);
        series.add(
            "17 distinct frames / file bytes (R7: 1.3)",
            (distinct.len() as u64 * u64::from(FRAME_BLOCKS * BLOCK)) as f64 / file_bytes as f64,
        );
        series
            .add("18 referenced packs / live bytes (R7: 1.5)", referenced as f64 / live_bytes.max(1) as f64);
        series.add("19 CPU seconds", cpu_seconds() - cpu);
        if hour % 24 == 0 {
            eprintln_progress(hour, hours);
        }
        if hour == hours {
            series.print();
            if !inline {
                small_reading(&mut leaves, &root, &mut table);
            }
        }
    }
    println!("Peak RSS of the simulation: {} MiB.\n", mib(status("VmHWM")));
}

/// Names new chunks in a leaf: `places` are (file, map_at, map_len, fps_at).
fn attach(leaf: &mut SmallLeaf, map: FrameLoc, fp: FrameLoc, places: &[(usize, u32, u32, u32)]) {
    let n = leaf.chunks.len() as u32;
    leaf.chunks.extend([map, fp]);
    for &(i, at, len, fps_at) in places {
        leaf.files[i].map = (n, at, len);
        leaf.files[i].fps = (n + 1, fps_at);
    }
    prune(leaf);
    for (e, f) in leaf.entries.iter_mut().zip(&leaf.files) {
        let ((map, map_at, map_len), (fps, fps_at)) = (f.map, f.fps);
        e.layers = vec![LayerRef { map, map_at, map_len, fps, fps_at, blocks: f.pages.into() }];
    }
}

fn write_leaf(leaf: &mut SmallLeaf, meta: &mut MetaPacks, table: &mut PackTable) {
    let shown = Leaf { chunks: leaf.chunks.clone(), entries: std::mem::take(&mut leaf.entries) };
    leaf.at = meta.frame(&shown.encode(table), table);
    leaf.packed = meta.packed.clone();
    leaf.entries = shown.entries;
    let packs: BTreeSet<u32> = leaf.chunks.iter().map(|c| c.pack).chain([leaf.at.pack]).collect();
    leaf.meta = packs.into_iter().collect();
}

/// Drops chunks that no file names any more.
fn prune(leaf: &mut SmallLeaf) {
    let mut new: HashMap<u32, u32> = HashMap::new();
    let mut chunks = Vec::new();
    for f in &mut leaf.files {
        for n in [&mut f.map.0, &mut f.fps.0] {
            *n = *new.entry(*n).or_insert_with(|| {
                chunks.push(leaf.chunks[*n as usize]);
                chunks.len() as u32 - 1
            });
        }
    }
    leaf.chunks = chunks;
}

/// Reads every leaf: one after another, and all at once.
fn small_reading(leaves: &mut Vec<SmallLeaf>, root: &Root, table: &mut PackTable) {
    let packed: Vec<(Vec<u8>, FrameLoc)> =
        leaves.iter_mut().map(|l| (std::mem::take(&mut l.packed), l.at)).collect();
    leaves.clear();
    leaves.shrink_to_fit();
    let plain = root.encode(table);
    let start = Instant::now();
    let back = Root::decode(&plain, table, 0).expect("root");
    println!(
        "Root: {} MiB plain, {} leaves, decoded in {:.0} ms.",
        mib(plain.len() as u64),
        back.groups[0].leaves.len(),
        start.elapsed().as_secs_f64() * 1e3
    );
    let mut d = Decompressor::new().expect("zstd");
    let mut out = Vec::new();
    let start = Instant::now();
    let mut files = 0;
    for (b, loc) in &packed {
        d.decompress(loc.codec, b, loc.plain_len as usize, &mut out).expect("zstd");
        files += Leaf::decode(&out, table).expect("leaf").entries.len();
    }
    println!("All leaves one after another: {files} files in {:.2} s.", start.elapsed().as_secs_f64());
    let all: Vec<Leaf> = packed
        .iter()
        .map(|(b, loc)| {
            d.decompress(loc.codec, b, loc.plain_len as usize, &mut out).expect("zstd");
            Leaf::decode(&out, table).expect("leaf")
        })
        .collect();
    let held = all
        .iter()
        .flat_map(|l| &l.entries)
        .map(|e| size_of::<Entry>() + e.path.capacity() + e.layers.capacity() * size_of::<LayerRef>())
        .sum::<usize>();
    println!("All leaves held at once: {} MiB of entries.", mib(held as u64));
}

fn eprintln_progress(hour: u64, hours: u64) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "hour {hour} of {hours}");
}
