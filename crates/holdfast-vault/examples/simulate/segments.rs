//! The scenario `segments`: few large files, scattered changes.

use super::*;

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

pub(super) fn segments(hours: u64, sample: u64, skew: u64) {
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
