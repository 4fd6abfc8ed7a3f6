//! The scenario `files`: very many small files.

use super::*;

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

pub(super) fn files(hours: u64, leaf_files: usize, mode: &str, late: bool) {
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
