//! The parent's files, looked up by name in whatever order a server sends them: [`Tree`].

use crate::backup::plan::ParentFile;
use crate::backup::source::ParentRefs;
use crate::backup::wear::Wear;
use crate::error::Result;
use holdfast_vault::manifest::{Entry, EntryKind, Leaf, LeafRef, flags};
use holdfast_vault::map::{Layer, flatten};
use holdfast_vault::reader::{ChunkCache, PointReader};
use std::collections::HashMap;
use std::sync::Arc;

/// A parent's file, its map as one layer, and how its leaf names it.
#[derive(Debug)]
pub struct Found {
    pub refs: ParentRefs,
    pub file: Arc<ParentFile>,
    pub flat: Layer,
}

/// The parent's manifest; leaves of the group at hand are kept.
#[derive(Debug)]
pub struct Tree {
    reader: PointReader,
    rt: tokio::runtime::Handle,
    cache: ChunkCache,
    block_size: u32,
    leaves: HashMap<Vec<u8>, Vec<Option<Arc<Leaf>>>>,
    /// Chooses blocks that are stored anew although they did not change.
    pub wear: Option<Wear>,
}

impl Tree {
    pub fn new(reader: PointReader, rt: tokio::runtime::Handle, block_size: u32, wear: Option<Wear>) -> Self {
        // Files come in no order: the chunks of many leaves are in use at a time.
        let cache = ChunkCache::with_room(96);
        Tree { reader, rt, cache, block_size, leaves: HashMap::new(), wear }
    }

    /// The parent's leaves of a group.
    pub fn cuts(&self, group: &[u8]) -> Vec<LeafRef> {
        let groups = &self.reader.root().groups;
        groups.iter().find(|g| g.name == group).map(|g| g.leaves.clone()).unwrap_or_default()
    }

    /// Nothing more of this group will be asked for.
    pub fn forget(&mut self, group: &[u8]) {
        self.leaves.remove(group);
    }

    /// The entry of a path, and the leaf that it is in.
    pub fn entry(&mut self, group: &[u8], path: &[u8]) -> Result<Option<(Arc<Leaf>, Entry)>> {
        let root = self.reader.root();
        let Some(g) = root.groups.iter().find(|g| g.name == group) else { return Ok(None) };
        let n = g.leaves.partition_point(|l| l.first.as_slice() <= path);
        let Some((i, leaf_ref)) = n.checked_sub(1).and_then(|i| Some((i, g.leaves.get(i)?))) else {
            return Ok(None);
        };
        let there = self.leaves.entry(group.to_vec()).or_insert_with(|| vec![None; g.leaves.len()]);
        let leaf = match there.get(i) {
            Some(Some(leaf)) => leaf.clone(),
            _ => {
                let leaf = Arc::new(self.rt.block_on(self.reader.leaf(leaf_ref))?);
                if let Some(slot) = there.get_mut(i) {
                    *slot = Some(leaf.clone());
                }
                leaf
            }
        };
        let at = leaf.entries.binary_search_by(|e| e.path.as_slice().cmp(path));
        let entry = at.ok().and_then(|i| leaf.entries.get(i)).cloned();
        Ok(entry.map(|e| (leaf, e)))
    }

    /// What the parent has of a file with content.
    pub fn file(&mut self, leaf: &Leaf, entry: &Entry) -> Result<Option<Found>> {
        if entry.kind != EntryKind::File || entry.size == 0 {
            return Ok(None);
        }
        let (layers, layer_fps) =
            self.rt.block_on(self.reader.entry_layers(leaf, entry, true, &mut self.cache))?;
        let l: Vec<&Layer> = layers.iter().collect();
        let f: Vec<&[u64]> = layer_fps.iter().map(Vec::as_slice).collect();
        let (flat, fps) = flatten(&l, &f, entry.blocks(self.block_size) as u32, self.block_size);
        let file = ParentFile {
            size: entry.size,
            block_size: self.block_size,
            layers,
            layer_fps,
            fps,
            damaged: entry.damaged.clone(),
        };
        let refs = ParentRefs { entry: entry.clone(), chunks: leaf.chunks.clone() };
        Ok(Some(Found { refs, file: Arc::new(file), flat }))
    }

    /// Every file that the server may send in part, and its length.
    pub async fn relations(
        reader: &PointReader,
        block_size: u32,
        each: &mut (dyn FnMut(&[u8], u64) + Send),
    ) -> Result<()> {
        use holdfast_pgformat::path::{PathKind, classify};
        use holdfast_pgformat::relation::Fork;
        let leaves = reader.root().groups.iter().flat_map(|g| &g.leaves);
        for l in leaves {
            for e in reader.leaf(l).await?.entries {
                let whole = e.kind == EntryKind::File
                    && e.size > 0
                    && e.size.is_multiple_of(block_size.into())
                    && e.flags & (flags::DAMAGED | flags::UNSETTLED) == 0;
                let path = String::from_utf8_lossy(&e.path);
                let main = matches!(classify(&path), PathKind::RelationFork(r) if r.fork == Fork::Main);
                if whole && main {
                    each(&e.path, e.size);
                }
            }
        }
        Ok(())
    }
}
