//! Which pages a stretch of the log touched: the source of "changed" for a backup that does not read.
//!
//! | | |
//! |---|---|
//! | [`Effect`], [`effects`] | what one record does to files |
//! | [`BlockSet`] | a set of block numbers |
//! | [`ChangeSet`], [`RelChanges`] | what many records did, per relation fork |
//! | [`SegmentChanges`] | what one segment file (or a part of it) says by itself |
//! | [`SegmentScanner`], [`scan_changes`] | segment files → [`SegmentChanges`], beside the scan of `wal push` |
//! | [`SegmentChanges::encode`] | the bytes that are stored beside a segment; their layout is told there |
//! | [`ChangeWindow`] | segments of a window, one after the other → [`ChangeSet`] |
//!
//! The model is the server's own summarizer (src/backend/postmaster/walsummarizer.c and
//! src/common/blkreftable.c, 17 and later). It differs where a backup of ours asks for less or needs more:
//!
//! - Free space and visibility maps are in the set like any fork, but are not to be chosen by page: ask
//!   [`ChangeSet::is_referenced`] and take them whole. So a truncated one simply has the limit 0.
//! - Setting a limit always forgets the blocks at and above it. The server does not when a lower limit was
//!   set before; its result then depends on where one summary ends and the next begins.
//! - Dropped and made tablespaces are whole, and so is everything in them.
//! - What it would pass by in silence makes a stretch untrusted: a resource manager of the core that does
//!   not exist, a record that says it changes files (`XLR_SPECIAL_REL_UPDATE`) in a way we do not know.
//!
//! Invariants:
//! 1. Nothing is taken from a record before its CRC was checked.
//! 2. Cutting a log into stretches does not change what it says: [`SegmentChanges::join`] is associative, and
//!    the sum equals going through the records one by one.
//! 3. Whatever is not understood makes the stretch untrusted, never empty.

mod blocks;
mod codec;
mod collect;
mod effect;
#[cfg(test)]
mod proptests;
mod scanner;
mod segment;
mod set;
#[cfg(test)]
mod tests;
mod window;

pub use blocks::BlockSet;
pub use codec::{ChangesError, MAX_ENCODED, MAX_FRAGMENT};
pub use effect::{Effect, effects};
pub use scanner::{ScannedPart, SegmentScanner, scan_changes, scan_part_changes};
pub use segment::{Distrust, SegmentChanges, Untrusted};
pub use set::{ChangeSet, RelChanges};
pub use window::{ChangeWindow, WindowChanges, WindowError};

/// Goes up when a decoder before it was found to miss something: what it stored is then read again from the
/// log, or not trusted. A change of the layout raises it too.
pub const CHANGES_VERSION: u16 = 1;
