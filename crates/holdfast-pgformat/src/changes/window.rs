//! [`ChangeWindow`]: from the segments of a window of the log to the set of what was touched in it.
//!
//! How to use it: make one for the position where the window begins (the parent's redo), [`add`] every segment
//! from the one that holds it on, in order, and [`finish`] with the position where the window ends (the
//! child's redo). Any error means: read the pages and compare them.
//!
//! The set is that of all records of the segments, so a little more than the window asks for. Only a limit
//! could make it less; but then the limit itself says that the block has to be taken.
//!
//! [`add`]: ChangeWindow::add
//! [`finish`]: ChangeWindow::finish

use super::{ChangeSet, SegmentChanges, Untrusted};
use crate::wal::{LONG_HEADER, WAL_PAGE_SIZE};
use holdfast_core::lsn::{Lsn, TimelineId};

/// Why the pages of a window have to be read instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WindowError {
    /// A segment is missing, or is not full.
    #[error("the changes of the wal from {expected} to {found} are not known")]
    Gap {
        /// Where the next segment has to start.
        expected: Lsn,
        /// Where it starts, or the window ends.
        found: Lsn,
    },
    /// Segments of different clusters or versions, or timelines that go back.
    #[error("the wal at {at} is of another cluster, version or timeline")]
    Other {
        /// Start of the segment.
        at: Lsn,
    },
    /// `wal_level = minimal` leaves out changes.
    #[error("the wal up to {before} was written with wal_level = minimal")]
    MinimalWal {
        /// End of the segment that says so.
        before: Lsn,
    },
    /// What is there cannot be relied on.
    #[error("the changes of the wal cannot be relied on")]
    Untrusted(#[source] Untrusted),
    /// A record begins in the window and its end is missing.
    #[error("the wal record at {at} is not complete")]
    Incomplete {
        /// Its start.
        at: Lsn,
    },
}

/// What happened in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowChanges {
    /// What was touched.
    pub set: ChangeSet,
    /// `full_page_writes` was off at some time: a backup of a standby cannot be relied on.
    pub full_page_writes_off: bool,
    /// Start of the first segment.
    pub start: Lsn,
    /// End of the last one.
    pub end: Lsn,
    /// Timeline of the last page.
    pub timeline: TimelineId,
    /// How many there were.
    pub segments: u64,
}

/// Adds up segments.
#[derive(Debug)]
pub struct ChangeWindow {
    from: Lsn,
    sum: Option<SegmentChanges>,
    segments: u64,
}

impl ChangeWindow {
    /// A window that begins at `from`, which is the start of a record.
    pub fn new(from: Lsn) -> Self {
        ChangeWindow { from, sum: None, segments: 0 }
    }

    /// Takes in the next segment. After an error the window is of no use.
    pub fn add(&mut self, next: SegmentChanges) -> Result<(), WindowError> {
        let before = next.end;
        let sum = match self.sum.take() {
            None if next.start > self.from => {
                return Err(WindowError::Gap { expected: self.from, found: next.start });
            }
            // The rest of a record is not looked into: it has to be of one before the window.
            None if next.untrusted.is_none() && next.rest_end() > self.from => {
                return Err(WindowError::Gap { expected: self.from, found: next.rest_end() });
            }
            None => next,
            Some(sum) => {
                if next.start != sum.end {
                    return Err(WindowError::Gap { expected: sum.end, found: next.start });
                }
                if next.major != sum.major
                    || next.system_id != sum.system_id
                    || next.segment_size != sum.segment_size
                    || next.block_size != sum.block_size
                    || next.first_timeline < sum.timeline
                {
                    return Err(WindowError::Other { at: next.start });
                }
                sum.join(next)
            }
        };
        if let Some(u) = sum.untrusted {
            return Err(WindowError::Untrusted(u));
        }
        if sum.minimal_wal {
            return Err(WindowError::MinimalWal { before });
        }
        self.segments += 1;
        self.sum = Some(sum);
        Ok(())
    }

    /// Where the next segment has to start; `None` before the first one.
    pub fn next_start(&self) -> Option<Lsn> {
        self.sum.as_ref().map(|s| s.end)
    }

    /// The sum, if it reaches up to `to`. That a page header lies between is no gap: the redo position of a
    /// checkpoint is the start of a record, so behind one (src/backend/access/transam/xlog.c,
    /// `CreateCheckPoint`).
    pub fn finish(self, to: Lsn) -> Result<WindowChanges, WindowError> {
        let Some(sum) = self.sum else {
            return Err(WindowError::Gap { expected: self.from, found: to });
        };
        let header = if sum.end.0.is_multiple_of(WAL_PAGE_SIZE) { LONG_HEADER as u64 } else { 0 };
        if to.0 > sum.end.0.saturating_add(header) {
            return Err(WindowError::Gap { expected: sum.end, found: to });
        }
        if let Some(at) = sum.tail().filter(|at| *at < to) {
            return Err(WindowError::Incomplete { at });
        }
        Ok(WindowChanges {
            set: sum.set,
            full_page_writes_off: sum.full_page_writes_off,
            start: sum.start,
            end: sum.end,
            timeline: sum.timeline,
            segments: self.segments,
        })
    }
}
