//! The examples in `docs/FORMAT.md` are true: each is read out of the document and opened by the
//! real code, and what has one encoding only is encoded again and compared.
//!
//! A block is fenced as ```` ```hex example=NAME ```` (or `json`); in hexadecimal, `#` starts a comment.

use holdfast_core::policy::Compression;
use holdfast_core::{RunId, Secret, VaultId};
use holdfast_vault::codec::{Compressor, FrameCodec};
use holdfast_vault::digest::Digests;
use holdfast_vault::manifest::{
    Entry, EntryKind, Group, LayerRef, Leaf, LeafRef, Live, PackUse, Root, flags,
};
use holdfast_vault::map::{Layer, LocalPacks, Run, decode_layer, encode_layer};
use holdfast_vault::names::{ClusterPath, PackClass, PackId};
use holdfast_vault::object::Place;
use holdfast_vault::pack::{FrameLoc, PackTable, PackWriter, PartSink, SealContext, check_whole, purpose_of};
use holdfast_vault::point::{Body, Lease};
use holdfast_vault::walobj::WalFacts;
use holdfast_vault::wire::{Put, Take};
use holdfast_vault::{Cipher, Keys, Signer, Vault, record, walobj};
use std::sync::{Arc, Mutex};

const FORMAT: &str = include_str!("../../../../docs/FORMAT.md");
const BLOCK: u32 = 8192;
const RUN: &str = "20261121T093512Z-k3f9q2";
const SEGMENT: &str = "000000010000000000000003";

fn block(name: &str) -> &'static str {
    let start = FORMAT
        .match_indices("```")
        .find(|(at, _)| {
            FORMAT[at + 3..]
                .lines()
                .next()
                .is_some_and(|l| l.split(' ').any(|w| w == format!("example={name}")))
        })
        .unwrap_or_else(|| panic!("docs/FORMAT.md has no example {name}"))
        .0;
    let body = &FORMAT[start..];
    let body = &body[body.find('\n').unwrap() + 1..];
    &body[..body.find("```").unwrap()]
}

fn hex(name: &str) -> Vec<u8> {
    let digits: String =
        block(name).lines().flat_map(|l| l.split('#').next().unwrap().split_whitespace()).collect();
    assert_eq!(digits.len() % 2, 0, "{name}");
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}

fn keys() -> Keys {
    Keys::parse(block("key-file").as_bytes()).unwrap()
}

fn descriptor() -> holdfast_vault::vault::Descriptor {
    serde_json::from_str(block("descriptor")).unwrap()
}

fn digests() -> Digests {
    Digests::new(&Secret::new([0x5a; 32]))
}

fn path() -> ClusterPath {
    ClusterPath { database: "orders".parse().unwrap(), cluster: "7437823456789012345".parse().unwrap() }
}

fn run() -> RunId {
    RUN.parse().unwrap()
}

fn pack(class: PackClass) -> PackId {
    PackId { run: run(), class, number: 1 }
}

/// The frames of the example's data pack: blocks `A…`, `B…`; then a short last block.
fn data_frames() -> [Vec<u8>; 2] {
    let mut two = vec![b'A'; BLOCK as usize];
    two.extend(vec![b'B'; BLOCK as usize]);
    [two, b"the last block of a file may be short".to_vec()]
}

fn data_locs() -> [FrameLoc; 2] {
    let mut at = 256;
    let mut out = Vec::new();
    check_whole(
        &hex("data-pack"),
        &keys(),
        &descriptor().id,
        &path().pack(&pack(PackClass::Data)),
        |l, _, _| {
            out.push(*l);
            assert_eq!(l.offset, at);
            at = l.end();
            Ok(())
        },
    )
    .unwrap();
    out.try_into().unwrap()
}

/// Block 0 is the `B`, 1 to 3 are zeros, 4 is the `A`, 5 is short.
fn layer(locs: [FrameLoc; 2]) -> Layer {
    Layer {
        frames: locs.to_vec(),
        runs: vec![
            Run { start: 0, count: 1, frame: Some(0), at: BLOCK },
            Run { start: 1, count: 3, frame: None, at: 0 },
            Run { start: 4, count: 1, frame: Some(0), at: 0 },
            Run { start: 5, count: 1, frame: Some(1), at: 0 },
        ],
    }
}

fn size() -> u64 {
    5 * u64::from(BLOCK) + data_frames()[1].len() as u64
}

fn content() -> Vec<u8> {
    let b = BLOCK as usize;
    let [two, short] = data_frames();
    [&two[b..], &vec![0; 3 * b], &two[..b], &short].concat()
}

fn table() -> PackTable {
    let mut t = PackTable::default();
    t.intern(&pack(PackClass::Data));
    t.intern(&pack(PackClass::Meta));
    t
}

fn map_chunk(locs: [FrameLoc; 2]) -> (Vec<u8>, u32) {
    let mut local = LocalPacks::default();
    let mut body = Vec::new();
    encode_layer(&layer(locs), BLOCK, &mut local, &mut body);
    let mut chunk = Vec::new();
    local.encode(&table(), &mut chunk);
    chunk.extend_from_slice(&body);
    (chunk, body.len() as u32)
}

fn fingerprints() -> Vec<u8> {
    content().chunks(BLOCK as usize).flat_map(|b| digests().block(b).to_le_bytes()).collect()
}

fn leaf(map: FrameLoc, fps: FrameLoc, map_len: u32) -> Leaf {
    let dir = Entry {
        path: b"base/5".to_vec(),
        kind: EntryKind::Dir,
        flags: 0,
        mode: 0o700,
        uid: 104,
        gid: 112,
        size: 0,
        mtime_ns: 1_795_253_712_123_456_789,
        ctime_ns: 1_795_253_712_123_456_789,
        inode: 4242,
        link: vec![],
        damaged: vec![],
        layers: vec![],
    };
    let file = Entry {
        path: b"base/5/1259".to_vec(),
        kind: EntryKind::File,
        flags: flags::RELATION,
        mode: 0o600,
        size: size(),
        ctime_ns: dir.ctime_ns + 1000,
        inode: 4250,
        layers: vec![LayerRef { map: 0, map_at: 0, map_len, fps: 1, fps_at: 0, blocks: 6 }],
        ..dir.clone()
    };
    Leaf { chunks: vec![map, fps], entries: vec![dir, file] }
}

fn root(leaf_at: FrameLoc, data_len: u64, data_digest: [u8; 32], locs: [FrameLoc; 2]) -> Root {
    let live = Live { bytes: locs.iter().map(|l| u64::from(l.sealed_len)).sum(), blocks: 3 };
    Root {
        packs: vec![PackUse { pack: 0, len: data_len, digest: data_digest, live }],
        groups: vec![Group {
            name: b"base/5".to_vec(),
            leaves: vec![LeafRef {
                chunk: leaf_at,
                first: b"base/5".to_vec(),
                files: 2,
                bytes: size(),
                live: vec![(0, live)],
                meta: vec![1],
            }],
        }],
    }
}

fn lease() -> Lease {
    serde_json::from_str(block("lease")).unwrap()
}

fn wal_plain() -> Vec<u8> {
    b"not a real segment".repeat(10)
}

fn facts() -> WalFacts {
    WalFacts {
        system_identifier: 7437823456789012345,
        timeline: 1,
        major: 17,
        flags: 0,
        first_time: 1_795_253_712_000_000,
        last_time: 1_795_253_713_500_000,
        end_lsn: 0x3FF_FFF8,
        segment_size: 16 << 20,
        changes_len: 0,
    }
}

#[tokio::test]
async fn the_key_belongs_to_the_descriptor() {
    let store = crate::stores::memory();
    let put = |name: &'static str, b: &'static str| store.create(name, b.as_bytes().into());
    put("holdfast.vault", block("descriptor")).await.unwrap();
    let v = Vault::open(store.clone(), keys()).await.unwrap();
    assert_eq!(v.cipher(), Cipher::Aes256Gcm);
    assert!(v.keys().can_read() && !keys().for_host().can_read());
    // The owner's file is what the program itself would write.
    let ours: serde_json::Value = serde_json::from_slice(keys().to_text().expose_bytes()).unwrap();
    let doc: serde_json::Value = serde_json::from_str(block("key-file")).unwrap();
    assert_eq!(ours, doc);
}

#[test]
fn numbers() {
    let mut b = Vec::new();
    for v in [0, 1, 127, 128, 300, u64::MAX] {
        b.put_varint(v);
    }
    assert_eq!(b, hex("varint"));
    let mut b = Vec::new();
    for v in [0, -1, 1, -2, 64, i64::MIN] {
        b.put_zigzag(v);
    }
    assert_eq!(b, hex("zigzag"));
}

#[test]
fn keyed_digests() {
    let want = block("digests");
    let line = |what: &str, value: &[u8]| {
        let text: String = value.iter().map(|b| format!("{b:02x}")).collect();
        assert!(want.lines().any(|l| l.starts_with(what) && l.ends_with(&text)), "{what} {text}");
    };
    let d = digests();
    line("fingerprint", &d.block(b"holdfast").to_le_bytes());
    line("frame", &d.frame(b"holdfast"));
    line("content", &d.content(b"holdfast"));
}

#[test]
fn a_record() {
    let d = descriptor();
    let name = path().lease(&run());
    let (plain, signer) =
        record::decode(&hex("record"), &keys(), Place { vault: &d.id, name: &name }).unwrap();
    assert_eq!(signer, Signer::Host);
    assert_eq!(serde_json::from_slice::<Body>(&plain).unwrap(), Body::Lease(lease()));
    assert!(plain.starts_with(br#"{"record":"lease","#));
}

#[test]
fn a_data_pack() {
    let d = descriptor();
    let mut seen = Vec::new();
    let name = path().pack(&pack(PackClass::Data));
    check_whole(&hex("data-pack"), &keys(), &d.id, &name, |l, plain, digest| {
        assert_eq!(&digests().frame(plain), digest);
        seen.push((l.codec, plain.to_vec()));
        Ok(())
    })
    .unwrap();
    let [two, short] = data_frames();
    assert_eq!(seen, [(FrameCodec::Zstd, two), (FrameCodec::None, short)]);
}

#[test]
fn a_map_a_leaf_and_a_root() {
    let locs = data_locs();
    let d = descriptor();
    let (chunk, map_len) = map_chunk(locs);
    assert_eq!(hex("map-chunk"), chunk, "{chunk:02x?}");
    // Reading it back, by hand.
    let bytes = hex("map-chunk");
    let mut t = Take::new(&bytes);
    let mut packs = table();
    let handles = LocalPacks::decode(&mut t, &mut packs).unwrap();
    assert_eq!(decode_layer(&mut t, BLOCK, &handles).unwrap(), layer(locs));
    // All of it again in the meta pack.
    let mut frames = Vec::new();
    let name = path().pack(&pack(PackClass::Meta));
    check_whole(&hex("meta-pack"), &keys(), &d.id, &name, |l, plain, _| {
        frames.push((FrameLoc { pack: 1, ..*l }, plain.to_vec()));
        Ok(())
    })
    .unwrap();
    let data = hex("data-pack");
    let digest = data.last_chunk::<32>().unwrap();
    let want_leaf = leaf(frames[0].0, frames[1].0, map_len);
    assert_eq!(hex("leaf"), want_leaf.encode(&table()), "{:02x?}", want_leaf.encode(&table()));
    let want_root = root(frames[2].0, data.len() as u64, *digest, locs);
    assert_eq!(hex("root"), want_root.encode(&table()), "{:02x?}", want_root.encode(&table()));
    let plains: Vec<Vec<u8>> = frames.into_iter().map(|(_, p)| p).collect();
    assert_eq!(plains, [chunk, fingerprints(), hex("leaf"), hex("root")]);
}

#[test]
fn a_wal_object() {
    let d = descriptor();
    let name = path().segment(holdfast_core::TimelineId(1), SEGMENT);
    let (plain, head) = walobj::decode(&hex("wal"), &keys(), &d.id, &digests(), &name, 1).unwrap();
    assert_eq!((plain, head.facts), (wal_plain(), facts()));
}

#[derive(Clone, Default)]
struct MemSink(Arc<Mutex<Vec<u8>>>);

impl PartSink for MemSink {
    fn part(&mut self, bytes: bytes::Bytes) -> holdfast_vault::Result<()> {
        self.0.lock().unwrap().extend_from_slice(&bytes);
        Ok(())
    }
    fn finish(self: Box<Self>) -> holdfast_vault::Result<()> {
        Ok(())
    }
    fn abort(self: Box<Self>) {}
}

/// Prints new examples with the document's key, for a change of the format (`--ignored --nocapture`).
/// Take those that changed; what is sealed differs every time.
#[tokio::test]
#[ignore = "prints; the examples in the document are checked by the others"]
async fn print_new_examples() {
    let keys = keys();
    let id: VaultId = descriptor().id;
    let show = |name: &str, b: &[u8]| {
        eprintln!("```hex example={name}");
        for line in b.chunks(32) {
            eprintln!("{}", line.iter().map(|x| format!("{x:02x}")).collect::<String>());
        }
        eprintln!("```");
    };
    let d = digests();
    let h = |b: &[u8]| b.iter().map(|x| format!("{x:02x}")).collect::<String>();
    eprintln!("fingerprint {}", h(&d.block(b"holdfast").to_le_bytes()));
    eprintln!("frame {}\ncontent {}", h(&d.frame(b"holdfast")), h(&d.content(b"holdfast")));
    let l = Lease {
        run: run(),
        parents: vec!["20261121T083500Z-m4x7wd".parse().unwrap()],
        commit: path().point(&run()),
        host: "db1".into(),
        agent: "0f1e2d3c4b5a69788796a5b4c3d2e1f0".into(),
        pid: 4711,
        started_at: "2026-11-21T09:35:12Z".parse().unwrap(),
        wal: vec![],
    };
    eprintln!("{}", serde_json::to_string_pretty(&l).unwrap());
    let name = path().lease(&run());
    let plain = serde_json::to_vec(&Body::Lease(l)).unwrap();
    let place = Place { vault: &id, name: &name };
    show("record", &record::encode(&keys, Cipher::Aes256Gcm, place, Signer::Host, &plain).unwrap());
    let ctx = SealContext { vault: id, keys: Arc::new(keys), cipher: Cipher::Aes256Gcm, digests: digests() };
    let writer = |id: PackId, handle: u32, sink: &MemSink| {
        let name = path().pack(&id);
        let purpose = purpose_of(&id);
        PackWriter::new(&ctx, id, handle, &name, purpose, Box::new(sink.clone()), 1 << 20).unwrap()
    };
    let mut zstd = Compressor::new(Compression::Zstd { level: 3 }).unwrap();
    let sink = MemSink::default();
    let mut w = writer(pack(PackClass::Data), 0, &sink);
    let locs = data_frames().map(|f| w.frame(&f, &mut zstd).unwrap());
    let (info, _) = w.finish().unwrap();
    show("data-pack", &sink.0.lock().unwrap());
    let (chunk, map_len) = map_chunk(locs);
    show("map-chunk", &chunk);
    let sink = MemSink::default();
    let mut w = writer(pack(PackClass::Meta), 1, &sink);
    let map = w.frame(&chunk, &mut zstd).unwrap();
    let fps = w.frame(&fingerprints(), &mut zstd).unwrap();
    let leaf = leaf(map, fps, map_len).encode(&table());
    let leaf_at = w.frame(&leaf, &mut zstd).unwrap();
    let root = root(leaf_at, info.len, info.digest, locs).encode(&table());
    w.frame(&root, &mut zstd).unwrap();
    w.finish().unwrap();
    show("leaf", &leaf);
    show("root", &root);
    show("meta-pack", &sink.0.lock().unwrap());
    let plain = wal_plain();
    let name = path().segment(holdfast_core::TimelineId(1), SEGMENT);
    show("wal", &walobj::encode(&ctx, &name, &(&plain[..], facts()), Compression::Lz4, 1).unwrap().0);
}

/// Whoever adds a field to a record also describes it.
#[test]
fn every_field_of_every_record_is_described() {
    use holdfast_vault::point::{
        Aborted, DamagedPage, DatabaseEntry, FailedRun, LockLedger, LockSeen, Owner, PackJson, Tablespace,
        Verified, WalNeed,
    };
    let text = |v: &str| v.to_string();
    let t = jiff::Timestamp::UNIX_EPOCH;
    let mut point = crate::vaults::point(&run());
    point.packs = vec![PackJson { class: text("data"), number: 1, len: 1, digest: text("") }];
    point.wal = vec![WalNeed { name: SEGMENT.parse().unwrap(), digest: text("") }];
    point.damaged = vec![DamagedPage { path: text(""), block: 1, what: text("") }];
    point.tablespaces = vec![Tablespace { oid: 1, location: text("") }];
    point.databases = vec![DatabaseEntry { oid: 1, name: text("") }];
    point.server.recovery_settings.clear();
    let bodies = [
        Body::Point(Box::new(point)),
        Body::Aborted(Aborted { run: run(), by: text(""), at: t, reason: text("") }),
        Body::Lease(lease()),
        Body::Cluster(crate::vaults::cluster_record()),
        Body::Owner(Owner {
            timeline: holdfast_core::TimelineId(1),
            number: 1,
            token: text(""),
            host: text(""),
            since: t,
            reason: text(""),
        }),
        Body::Verified(Verified {
            point: run(),
            level: text("L3"),
            passed: true,
            findings: vec![],
            seconds: 1.0,
            restore_seconds: None,
            at: t,
            host: text(""),
            tool: text(""),
        }),
        Body::FailedRun(FailedRun {
            run: run(),
            kind: text(""),
            started_at: t,
            failed_at: t,
            error: text(""),
            hint: None,
            host: text(""),
        }),
        Body::LockLedger(LockLedger {
            run: text(""),
            objects: vec![LockSeen { name: text(""), until: t }],
            at: t,
            host: text(""),
        }),
        Body::File { name: text(""), content: text("") },
    ];
    let section = &FORMAT[FORMAT.find("### 6.5").unwrap()..FORMAT.find("### 6.6").unwrap()];
    fn names(v: &serde_json::Value, out: &mut Vec<String>) {
        match v {
            serde_json::Value::Object(o) => {
                for (k, v) in o {
                    out.push(k.clone());
                    names(v, out);
                }
            }
            serde_json::Value::Array(a) => a.iter().for_each(|v| names(v, out)),
            _ => {}
        }
    }
    for b in bodies {
        let json = serde_json::to_value(&b).unwrap();
        let kind = format!("**`{}`**", json["record"].as_str().unwrap());
        assert!(section.contains(&kind), "{kind} is not in §6.5");
        let mut fields = Vec::new();
        names(&json, &mut fields);
        for f in fields.iter().filter(|f| *f != "record") {
            assert!(section.contains(&format!("`{f}`")), "field `{f}` of {kind} is not in §6.5");
        }
    }
}
