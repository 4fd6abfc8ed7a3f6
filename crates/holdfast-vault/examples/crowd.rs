//! Fills a local vault with the history of years, for the benchmark of listings.
//!
//! `crowd VAULT KEY-FILE DATABASE POINTS SEGMENTS`: beside the newest point of the database it puts
//! POINTS earlier ones, an hour apart, each with packs of its own and records like the newest one's, and
//! SEGMENTS names of WAL before that point's redo. The segments are empty files: listings see names, sizes
//! and times, and nothing here reads what would be in them.

// It is a program of the benchmark, not of the library.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use bytes::Bytes;
use holdfast_core::policy::Compression;
use holdfast_core::{DatabaseName, Lsn, RunId, SegmentName, TimelineId};
use holdfast_vault::codec::Compressor;
use holdfast_vault::manifest::{Live, PackUse, Root};
use holdfast_vault::names::{PackClass, PackId};
use holdfast_vault::object::Purpose;
use holdfast_vault::pack::{PackTable, PackWriter, PartSink};
use holdfast_vault::point::{FrameJson, PackJson, Point, WalNeed};
use holdfast_vault::{ClusterVault, Keys, Result, Store, Vault};
use jiff::{SignedDuration, Timestamp};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

/// Earlier points that a root names packs of.
const DEPTH: usize = 40;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl PartSink for Sink {
    fn part(&mut self, bytes: Bytes) -> Result<()> {
        self.0.lock().unwrap().extend_from_slice(&bytes);
        Ok(())
    }
    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
    fn abort(self: Box<Self>) {}
}

fn pack(c: &ClusterVault, id: &PackId, handle: u32, frame: &[u8]) -> ([u8; 32], FrameJson, Bytes) {
    let sink = Sink::default();
    let purpose = if id.class == PackClass::Meta { Purpose::Meta } else { Purpose::Data };
    let (ctx, name) = (c.seal_context(), c.path().pack(id));
    let mut w =
        PackWriter::new(&ctx, id.clone(), handle, &name, purpose, Box::new(sink.clone()), 8 << 20).unwrap();
    let loc = w.frame(frame, &mut Compressor::new(Compression::None).unwrap()).unwrap();
    let (info, _) = w.finish().unwrap();
    let root = FrameJson {
        pack: id.number,
        index: loc.index,
        offset: loc.offset,
        sealed_len: loc.sealed_len,
        plain_len: loc.plain_len,
        codec: loc.codec as u8,
    };
    let bytes = sink.0.lock().unwrap().clone();
    (info.digest, root, bytes.into())
}

fn set_time(vault: &Path, name: &str, t: Timestamp) {
    let file = std::fs::File::options().write(true).open(vault.join(name)).unwrap();
    file.set_modified(SystemTime::from(t)).unwrap();
}

async fn points(c: &ClusterVault, dir: &Path, like: &Point, count: u64, segments: u64) {
    let size = like.server.wal_segment_size;
    let last = size.segment_of(like.redo_lsn);
    let mut earlier: Vec<PackId> = Vec::new();
    for n in 0..count {
        let ago = SignedDuration::from_hours((count - n) as i64);
        let at = like.started_at.checked_sub(ago).unwrap();
        let run = RunId::generate(at);
        let mut p = like.clone();
        p.id = run.clone();
        p.parent = earlier.last().map(|id| id.run.clone());
        (p.started_at, p.copy_started_at, p.finished_at, p.stop_time) = (at, at, at, at);
        let first = last - segments + segments * n / count;
        p.redo_lsn = Lsn(size.start_of(first).0 + 0x28);
        p.start_lsn = p.redo_lsn;
        p.stop_lsn = Lsn(p.redo_lsn.0 + 0x100);
        p.generation = n + 1;
        let name = SegmentName::new(like.timeline, first, size);
        p.wal = vec![WalNeed { name, digest: "0".repeat(64) }];
        let mut table = PackTable::default();
        let id = PackId { run: run.clone(), class: PackClass::Data, number: 1 };
        earlier.push(id.clone());
        let (digest, _, bytes) = pack(c, &id, table.intern(&id), run.as_str().as_bytes());
        let len = bytes.len() as u64;
        c.store().create(&c.path().pack(&id), bytes).await.unwrap();
        set_time(dir, &c.path().pack(&id), at);
        p.packs = vec![PackJson { class: "data".into(), number: 1, len, digest: "0".repeat(64) }];
        let from = earlier.len().saturating_sub(DEPTH);
        let uses = earlier[from..]
            .iter()
            .map(|id| PackUse { pack: table.intern(id), len, digest, live: Live::default() })
            .collect();
        let id = PackId { run: run.clone(), class: PackClass::Meta, number: 1 };
        let plain = Root { packs: uses, groups: vec![] }.encode(&table);
        let (_, root, bytes) = pack(c, &id, table.intern(&id), &plain);
        c.store().create(&c.path().pack(&id), bytes).await.unwrap();
        set_time(dir, &c.path().pack(&id), at);
        p.root = root;
        c.commit_point(p).await.unwrap();
        set_time(dir, &c.path().point(&run), at);
    }
}

fn wal(c: &ClusterVault, dir: &Path, like: &Point, points: u64, segments: u64) {
    let size = like.server.wal_segment_size;
    let last = size.segment_of(like.redo_lsn);
    let folder = dir.join(c.path().wal_timeline(like.timeline));
    std::fs::create_dir_all(&folder).unwrap();
    let seconds = points * 3600;
    for n in 0..segments {
        let name = SegmentName::new(like.timeline, last - segments + n, size);
        let file = std::fs::File::create(folder.join(format!("{name}.wal"))).unwrap();
        let ago = SignedDuration::from_secs((seconds - seconds * n / segments) as i64);
        file.set_modified(SystemTime::from(like.started_at.checked_sub(ago).unwrap())).unwrap();
    }
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, key, database, count, segments] = args.as_slice() else {
        panic!("crowd VAULT KEY-FILE DATABASE POINTS SEGMENTS");
    };
    let (count, segments): (u64, u64) = (count.parse().unwrap(), segments.parse().unwrap());
    let dir = Path::new(dir);
    let keys = Keys::parse(&std::fs::read(key).unwrap()).unwrap();
    let vault = Vault::open(Store::open_local(dir).unwrap(), keys).await.unwrap();
    let database: DatabaseName = database.parse().unwrap();
    let path = vault.clusters(&database).await.unwrap().pop().unwrap();
    let c = vault.cluster(path).await.unwrap();
    let (all, _) = c.points().await.unwrap();
    let like = all.last().unwrap().clone();
    assert_eq!(like.timeline, TimelineId(1));
    let room = like.server.wal_segment_size.segment_of(like.redo_lsn);
    assert!(room > segments, "the point lies at segment {room}: no room for {segments} before it");
    points(&c, dir, &like, count, segments).await;
    wal(&c, dir, &like, count, segments);
    println!("{count} points and {segments} segments in {}", dir.display());
}
