//! Leaves of files that come in an order of somebody else's, as a server sends them.
//!
//! A walk knows a directory before it reads it, and cuts it into leaves. A stream tells of a file when it
//! begins. So all files of a group (one database of one tablespace) wait as entries in one leaf that grows;
//! when the group has ended it is sorted and cut, along the parent's leaves where there are some, so that one in
//! which nothing changed is named again.
//!
//! Layers of small files wait in memory, up to [`HELD`] bytes, and are written in the order of their leaf: a
//! reader of a leaf then finds them side by side. Behind that they are written as they come, which costs such
//! a reader more requests and nothing else.

use super::super::source::{SMALL_FILE_BLOCKS, Slot};
use super::{Collector, OpenLeaf, SlotState, lost};
use crate::error::Result;
use holdfast_vault::manifest::{LEAF_FILES, LeafRef};
use holdfast_vault::map::Layer;
use holdfast_vault::pack::FrameLoc;

/// Bytes of layers that may wait.
const HELD: usize = 64 << 20;

/// What a leaf that grows waits for.
#[derive(Debug, Default)]
pub(super) struct Growing {
    /// The parent's leaves of the group, once the last file is known.
    cuts: Option<Vec<LeafRef>>,
}

fn weight(layer: &Layer, fps: &[u64]) -> usize {
    layer.frames.len() * 32 + layer.runs.len() * 20 + fps.len() * 8
}

impl Collector {
    pub(super) fn grow(&mut self, id: u32, group: Vec<u8>) -> Result<()> {
        let mut leaf = OpenLeaf::new(group, false);
        leaf.grow = Some(Growing::default());
        self.leaves.insert(id, leaf);
        Ok(())
    }

    pub(super) fn add(&mut self, id: u32, slot: Slot, same: bool) -> Result<()> {
        let leaf = self.leaves.get_mut(&id).ok_or_else(|| lost("a leaf is unknown"))?;
        let mut state = match slot {
            Slot::Plain(entry) => SlotState::new(entry, 0),
            Slot::Reuse { mut entry, chunks, live } => {
                leaf.adopt(&mut entry, &chunks)?;
                SlotState { live, ..SlotState::new(entry, 0) }
            }
            Slot::Read { entry, tasks } => SlotState::new(entry, tasks),
            Slot::Gather { .. } => return Err(lost("a leaf that grows gathers nothing")),
        };
        state.same = same;
        leaf.waiting += usize::from(state.tasks_left > 0);
        leaf.slots.push(state);
        Ok(())
    }

    pub(super) fn seal(&mut self, id: u32, cuts: Vec<LeafRef>) -> Result<()> {
        let leaf = self.leaves.get_mut(&id).ok_or_else(|| lost("a leaf is unknown"))?;
        if let Some(g) = &mut leaf.grow {
            g.cuts = Some(cuts);
        }
        if leaf.waiting == 0 { self.close(id) } else { Ok(()) }
    }

    /// Nothing of a leaf is under way any more.
    pub(super) fn close(&mut self, id: u32) -> Result<()> {
        let Some(leaf) = self.leaves.get_mut(&id) else { return Err(lost("a leaf is unknown")) };
        match &mut leaf.grow {
            None => self.close_leaf(id),
            Some(g) => match g.cuts.take() {
                // More files may come.
                None => Ok(()),
                Some(cuts) => self.close_growing(id, &cuts),
            },
        }
    }

    /// Keeps the layer of a small file for later, if there is room.
    pub(super) fn hold(&mut self, id: u32, slot: usize, layer: &Layer, fps: &[u64]) -> Result<bool> {
        let leaf = self.leaves.get_mut(&id).ok_or_else(|| lost("a leaf is unknown"))?;
        let size = weight(layer, fps);
        if leaf.grow.is_none() || layer.blocks() > SMALL_FILE_BLOCKS || self.held_bytes + size > HELD {
            return Ok(false);
        }
        let s = leaf.slots.get_mut(slot).ok_or_else(|| lost("a file is unknown"))?;
        s.held = Some((layer.clone(), fps.to_vec()));
        self.held_bytes += size;
        Ok(true)
    }

    fn close_growing(&mut self, id: u32, cuts: &[LeafRef]) -> Result<()> {
        let mut leaf = self.leaves.remove(&id).ok_or_else(|| lost("a leaf is unknown"))?;
        leaf.close_map(&mut self.meta)?;
        leaf.close_fps(&mut self.meta)?;
        let OpenLeaf { group, slots, chunks, .. } = leaf;
        let mut slots: Vec<SlotState> = slots.into_iter().filter(|s| !s.gone).collect();
        slots.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
        if slots.windows(2).any(|w| matches!(w, [a, b] if a.entry.path == b.entry.path)) {
            return Err(lost("a file came twice"));
        }
        for (i, cut) in cuts.iter().enumerate() {
            let n = match cuts.get(i + 1) {
                Some(next) => slots.partition_point(|s| s.entry.path < next.first),
                None => slots.len(),
            };
            let part: Vec<SlotState> = slots.drain(..n).collect();
            let whole = part.len() == cut.files as usize
                && part.first().is_some_and(|s| s.entry.path == cut.first)
                && part.iter().all(|s| s.same);
            if whole {
                self.files += u64::from(cut.files);
                self.size_bytes += cut.bytes;
                self.groups.entry(group.clone()).or_default().push(cut.clone());
            } else {
                self.cut(&group, part, &chunks)?;
            }
        }
        self.cut(&group, slots, &chunks)
    }

    /// Makes leaves of sorted files: parts of about equal size, none above 1.5 leaves.
    fn cut(&mut self, group: &[u8], slots: Vec<SlotState>, chunks: &[FrameLoc]) -> Result<()> {
        let parts = (slots.len() * 2).div_ceil(LEAF_FILES * 3).max(1);
        let per = slots.len().div_ceil(parts).max(1);
        let mut slots = slots.into_iter().peekable();
        while slots.peek().is_some() {
            let mut leaf = OpenLeaf::new(group.to_vec(), false);
            let mut held = Vec::new();
            for mut s in slots.by_ref().take(per) {
                leaf.adopt(&mut s.entry, chunks)?;
                for (p, l) in &s.live {
                    leaf.add_live(*p, *l);
                }
                held.extend(s.held.take().map(|h| (leaf.slots.len(), h)));
                leaf.slots.push(s);
            }
            // The producer counts up from zero.
            let id = u32::MAX - self.parts;
            self.parts += 1;
            self.leaves.insert(id, leaf);
            for (slot, (layer, fps)) in held {
                self.held_bytes = self.held_bytes.saturating_sub(weight(&layer, &fps));
                let mut entry = self.slot(id, slot as u32)?.entry.clone();
                self.put_layer(id, slot, &mut entry, &layer, &fps)?;
                self.slot(id, slot as u32)?.entry = entry;
            }
            self.close_leaf(id)?;
        }
        Ok(())
    }
}
