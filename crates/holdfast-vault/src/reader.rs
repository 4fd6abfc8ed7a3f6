//! Reading a point: root, leaves, maps, fingerprints, frames.
//!
//! Pack headers are read once per pack and kept ([`PackSet`]); a frame is one ranged read, but those of
//! meta packs in a remote store, which are small and lie side by side, come in blocks of
//! [`META_BLOCK`] bytes that are kept for their neighbours. Nothing is trusted before its seal opened.

use crate::codec::Decompressor;
use crate::codec::FrameCodec;
use crate::error::{Result, VaultError};
use crate::manifest::{Entry, Leaf, LeafRef, Root};
use crate::map::{Layer, LocalPacks, decode_layer, flatten};
use crate::names::{PackClass, PackId};
use crate::object::HEADER_LEN;
use crate::pack::{FrameLoc, PackReader, PackTable};
use crate::point::{FrameJson, Point};
use crate::vault::ClusterVault;
use crate::wire::Take;
use bytes::Bytes;
use holdfast_core::RunId;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, RwLock};

/// Opened packs of a cluster, shared by all who read.
#[derive(Debug, Clone)]
pub struct PackSet {
    cluster: ClusterVault,
    table: Arc<RwLock<PackTable>>,
    open: Arc<Mutex<HashMap<u32, Arc<PackReader>>>>,
    blocks: Arc<Mutex<MetaBlocks>>,
}

/// Meta packs of remote stores are read in aligned blocks of so many bytes. A request costs about what
/// 256 KiB cost on the way.
pub const META_BLOCK: u64 = 256 << 10;
/// The last blocks of meta packs: (pack, number of the block) and its bytes.
#[derive(Debug, Default)]
struct MetaBlocks(VecDeque<((u32, u64), Bytes)>);

impl MetaBlocks {
    /// 16 MiB. Leaf after leaf a reader goes forward in the packs of many runs.
    const KEEP: usize = 64;

    fn get(&self, key: (u32, u64)) -> Option<Bytes> {
        self.0.iter().rev().find(|(k, _)| *k == key).map(|(_, b)| b.clone())
    }

    fn put(&mut self, key: (u32, u64), bytes: Bytes) {
        if self.0.len() >= Self::KEEP {
            self.0.pop_front();
        }
        self.0.push_back((key, bytes));
    }
}

impl PackSet {
    pub fn new(cluster: ClusterVault) -> Self {
        PackSet { cluster, table: Arc::default(), open: Arc::default(), blocks: Arc::default() }
    }

    pub fn cluster(&self) -> &ClusterVault {
        &self.cluster
    }

    pub fn intern(&self, id: &PackId) -> u32 {
        self.table.write().unwrap_or_else(|e| e.into_inner()).intern(id)
    }

    pub fn id(&self, handle: u32) -> Option<PackId> {
        self.table.read().unwrap_or_else(|e| e.into_inner()).get(handle).cloned()
    }

    /// Runs `f` with the table, for decoders and encoders.
    pub fn with_table<T>(&self, f: impl FnOnce(&mut PackTable) -> T) -> T {
        f(&mut self.table.write().unwrap_or_else(|e| e.into_inner()))
    }

    /// Object name of a pack.
    pub fn name(&self, handle: u32) -> String {
        self.id(handle).map(|id| self.cluster.path().pack(&id)).unwrap_or_default()
    }

    /// The opener of a pack; one small read the first time.
    pub async fn reader(&self, handle: u32) -> Result<Arc<PackReader>> {
        if let Some(r) = self.open.lock().unwrap_or_else(|e| e.into_inner()).get(&handle) {
            return Ok(r.clone());
        }
        let name = self.name(handle);
        let head = self.cluster.store().get_range(&name, 0..HEADER_LEN as u64).await?;
        let vault = self.cluster.vault();
        let r = Arc::new(PackReader::new(&head, vault.keys(), vault.id(), &name)?);
        self.open.lock().unwrap_or_else(|e| e.into_inner()).insert(handle, r.clone());
        Ok(r)
    }

    /// The sealed bytes of a frame.
    async fn sealed(&self, loc: &FrameLoc, name: &str) -> Result<Vec<u8>> {
        let store = self.cluster.store();
        let meta = self.id(loc.pack).is_some_and(|id| id.class == PackClass::Meta);
        if !meta || u64::from(loc.sealed_len) >= META_BLOCK || store.local_path().is_some() {
            return Ok(store.get_range(name, loc.offset..loc.end()).await?.to_vec());
        }
        let mut out = Vec::with_capacity(loc.sealed_len as usize);
        for n in loc.offset / META_BLOCK..=loc.end().saturating_sub(1) / META_BLOCK {
            let block = self.block(loc.pack, n, name).await?;
            let start = n * META_BLOCK;
            let from = loc.offset.saturating_sub(start).min(block.len() as u64) as usize;
            let to = (loc.end() - start).min(block.len() as u64) as usize;
            out.extend_from_slice(block.get(from..to).unwrap_or_default());
        }
        if out.len() as u64 != u64::from(loc.sealed_len) {
            return Err(VaultError::damaged(name, "it ends before its own index says"));
        }
        Ok(out)
    }

    async fn block(&self, pack: u32, n: u64, name: &str) -> Result<Bytes> {
        if let Some(b) = self.blocks.lock().unwrap_or_else(|e| e.into_inner()).get((pack, n)) {
            return Ok(b);
        }
        let range = n.saturating_mul(META_BLOCK)..n.saturating_add(1).saturating_mul(META_BLOCK);
        let bytes = self.cluster.store().get_range_up_to(name, range).await?;
        self.blocks.lock().unwrap_or_else(|e| e.into_inner()).put((pack, n), bytes.clone());
        Ok(bytes)
    }

    /// One frame's plain content.
    pub async fn frame(&self, loc: &FrameLoc) -> Result<Vec<u8>> {
        let reader = self.reader(loc.pack).await?;
        let mut sealed = self.sealed(loc, reader.name()).await?;
        let codec_err =
            |e: std::io::Error| VaultError::Codec { name: reader.name().into(), what: e.to_string() };
        let mut d = Decompressor::new().map_err(codec_err)?;
        let mut out = Vec::new();
        reader.frame(loc, &mut sealed, &mut d, &mut out)?;
        Ok(out)
    }
}

/// Handle and location of a frame that JSON names.
pub fn frame_of(json: &FrameJson, handle: u32, name: &str) -> Result<FrameLoc> {
    Ok(FrameLoc {
        pack: handle,
        index: json.index,
        offset: json.offset,
        sealed_len: json.sealed_len,
        plain_len: json.plain_len,
        codec: FrameCodec::from_byte(json.codec)
            .ok_or_else(|| VaultError::damaged(name, "its root has an unknown codec"))?,
    })
}

/// Reads the tree of one point.
#[derive(Debug, Clone)]
pub struct PointReader {
    packs: PackSet,
    root: Arc<Root>,
    block_size: u32,
}

impl PointReader {
    pub async fn open(packs: PackSet, point: &Point) -> Result<Self> {
        Self::open_root(packs, &point.id, &point.root, point.server.block_size).await
    }

    /// By what else names the root.
    pub async fn open_root(packs: PackSet, run: &RunId, root: &FrameJson, block_size: u32) -> Result<Self> {
        let id = PackId { run: run.clone(), class: PackClass::Meta, number: root.pack };
        let handle = packs.intern(&id);
        let loc = frame_of(root, handle, &packs.cluster.path().point(run))?;
        let plain = packs.frame(&loc).await?;
        let root = packs
            .with_table(|t| Root::decode(&plain, t, handle))
            .map_err(|e| VaultError::damaged(&packs.name(handle), format!("its root is {e}")))?;
        Ok(PointReader { packs, root: Arc::new(root), block_size })
    }

    pub fn root(&self) -> &Root {
        &self.root
    }

    pub fn packs(&self) -> &PackSet {
        &self.packs
    }

    pub async fn leaf(&self, leaf: &LeafRef) -> Result<Leaf> {
        let plain = self.packs.frame(&leaf.chunk).await?;
        self.packs
            .with_table(|t| Leaf::decode(&plain, t))
            .map_err(|e| VaultError::damaged(&self.packs.name(leaf.chunk.pack), format!("a manifest is {e}")))
    }

    /// Reads the chunks that the layers of `leaf` lie in, once each.
    pub async fn chunks(&self, leaf: &Leaf, want_fingerprints: bool) -> Result<LeafChunks> {
        let mut maps = HashMap::new();
        let mut fps = HashMap::new();
        for l in leaf.entries.iter().flat_map(|e| &e.layers) {
            for (wanted, i, into) in [(true, l.map, &mut maps), (want_fingerprints, l.fps, &mut fps)] {
                if wanted && !into.contains_key(&i) {
                    let loc =
                        leaf.chunks.get(i as usize).ok_or_else(|| self.bad(leaf, "a chunk is missing"))?;
                    into.insert(i, Arc::new(self.packs.frame(loc).await?));
                }
            }
        }
        Ok(LeafChunks { maps, fps, block_size: self.block_size })
    }

    /// The layers of one entry (oldest first) and, if wanted, their fingerprints. `cache` keeps the
    /// last chunks: neighbours in a leaf share them.
    pub async fn entry_layers(
        &self,
        leaf: &Leaf,
        entry: &Entry,
        want_fingerprints: bool,
        cache: &mut ChunkCache,
    ) -> Result<(Vec<Layer>, Vec<Vec<u64>>)> {
        let mut maps = HashMap::new();
        let mut fps = HashMap::new();
        for l in &entry.layers {
            for (wanted, i, into) in [(true, l.map, &mut maps), (want_fingerprints, l.fps, &mut fps)] {
                if wanted && !into.contains_key(&i) {
                    let loc =
                        leaf.chunks.get(i as usize).ok_or_else(|| self.bad(leaf, "a chunk is missing"))?;
                    into.insert(i, cache.get(&self.packs, loc).await?);
                }
            }
        }
        let chunks = LeafChunks { maps, fps, block_size: self.block_size };
        let layers = chunks.layers(entry, &self.packs)?;
        let mut all = Vec::new();
        if want_fingerprints {
            for i in 0..entry.layers.len() {
                all.push(
                    chunks
                        .fingerprints(entry, i)
                        .ok_or_else(|| self.bad(leaf, "fingerprints are missing"))?,
                );
            }
        }
        Ok((layers, all))
    }

    fn bad(&self, leaf: &Leaf, what: &str) -> VaultError {
        let pack = leaf.chunks.first().map(|c| c.pack).unwrap_or_default();
        VaultError::damaged(&self.packs.name(pack), what)
    }
}

/// The last few chunks that were read.
#[derive(Debug)]
pub struct ChunkCache {
    chunks: VecDeque<(FrameLoc, Arc<Vec<u8>>)>,
    keep: usize,
}

impl Default for ChunkCache {
    fn default() -> Self {
        Self::with_room(12)
    }
}

impl ChunkCache {
    /// Room for so many chunks, each at most about 1 MiB.
    pub fn with_room(keep: usize) -> Self {
        ChunkCache { chunks: VecDeque::new(), keep }
    }

    async fn get(&mut self, packs: &PackSet, loc: &FrameLoc) -> Result<Arc<Vec<u8>>> {
        if let Some((_, b)) = self.chunks.iter().find(|(l, _)| l == loc) {
            return Ok(b.clone());
        }
        let bytes = Arc::new(packs.frame(loc).await?);
        if self.chunks.len() >= self.keep {
            self.chunks.pop_front();
        }
        self.chunks.push_back((*loc, bytes.clone()));
        Ok(bytes)
    }
}

/// Map and fingerprint chunks of one leaf, in memory.
#[derive(Debug)]
pub struct LeafChunks {
    maps: HashMap<u32, Arc<Vec<u8>>>,
    fps: HashMap<u32, Arc<Vec<u8>>>,
    block_size: u32,
}

impl LeafChunks {
    /// The layers of an entry, oldest first.
    pub fn layers(&self, entry: &Entry, packs: &PackSet) -> Result<Vec<Layer>> {
        let bad = |what: String| {
            VaultError::damaged(
                &packs.cluster.path().folder(),
                format!("the map of `{}` is {what}", lossy(entry)),
            )
        };
        let mut out = Vec::with_capacity(entry.layers.len());
        for l in &entry.layers {
            let chunk = self.maps.get(&l.map).ok_or_else(|| bad("missing".into()))?;
            let layer = packs
                .with_table(|table| {
                    let mut t = Take::new(chunk);
                    let handles = LocalPacks::decode(&mut t, table)?;
                    let body = t.position();
                    let from = body.saturating_add(l.map_at as usize);
                    let slice = chunk
                        .get(from..from.saturating_add(l.map_len as usize))
                        .ok_or(t.err("outside of its chunk"))?;
                    decode_layer(&mut Take::new(slice), self.block_size, &handles)
                })
                .map_err(|e| bad(e.to_string()))?;
            if layer.blocks() != u64::from(l.blocks) {
                return Err(bad("not as long as its manifest says".into()));
            }
            out.push(layer);
        }
        Ok(out)
    }

    /// Fingerprints of one layer of an entry, in the order of its runs.
    pub fn fingerprints(&self, entry: &Entry, layer: usize) -> Option<Vec<u64>> {
        let l = entry.layers.get(layer)?;
        let chunk = self.fps.get(&l.fps)?;
        let from = l.fps_at as usize;
        let bytes = chunk.get(from..from.checked_add(l.blocks as usize * 8)?)?;
        Some(bytes.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().unwrap_or([0; 8]))).collect())
    }

    /// One layer with every block of the entry, and its fingerprints if they were read.
    pub fn flat(&self, entry: &Entry, packs: &PackSet) -> Result<(Layer, Vec<u64>)> {
        let layers = self.layers(entry, packs)?;
        let blocks = entry.blocks(self.block_size) as u32;
        let fps: Vec<Vec<u64>> = (0..layers.len()).filter_map(|i| self.fingerprints(entry, i)).collect();
        let l: Vec<&Layer> = layers.iter().collect();
        let f: Vec<&[u64]> = fps.iter().map(Vec::as_slice).collect();
        let (flat, flat_fps) = flatten(&l, &f, blocks, self.block_size);
        if flat.blocks() != u64::from(blocks) {
            return Err(VaultError::damaged(
                &packs.cluster.path().folder(),
                format!("the map of `{}` has {} of {blocks} blocks", lossy(entry), flat.blocks()),
            ));
        }
        Ok((flat, flat_fps))
    }
}

fn lossy(e: &Entry) -> String {
    String::from_utf8_lossy(&e.path).into_owned()
}
