//! [`WalError`].

use crate::version::{PgMajor, VersionError};
use holdfast_core::lsn::{Lsn, LsnError, TimelineId};

/// Why bytes are not the log we expected. Every variant means: these bytes do not belong here, or
/// are damaged. The end of the log is not an error, see [`super::WalReader::end`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    #[error("a wal segment starts with a header of 40 bytes; there are {0}")]
    TooShort(usize),
    #[error("not a wal segment of a supported version")]
    Version(#[from] VersionError),
    #[error("wal page at {at} has magic {found:04X}; postgresql {major} writes {:04X}", major.wal_magic())]
    Magic { at: Lsn, found: u16, major: PgMajor },
    #[error("wal page at {at} has unknown flags {found:04X}")]
    Flags { at: Lsn, found: u16 },
    #[error("wal page at {at} says that it is the page at {found}")]
    PageAddress { at: Lsn, found: Lsn },
    #[error("wal page at {at} starts a segment but has no segment header")]
    NoLongHeader { at: Lsn },
    #[error("wal page at {at} is of timeline {found}, after timeline {previous}")]
    TimelineOrder { at: Lsn, previous: TimelineId, found: TimelineId },
    #[error("wal segment at {at} is of the database system {found}, not {expected}")]
    SystemId { at: Lsn, found: u64, expected: u64 },
    #[error("wal segment at {at} says that segments have {found} bytes, not {expected}")]
    WrongSegmentSize { at: Lsn, found: u32, expected: u64 },
    #[error("wal segment has an impossible size in its header")]
    SegmentSize(#[source] LsnError),
    #[error("wal segment at {at} has pages of {found} bytes; only 8192 is supported")]
    BlockSize { at: Lsn, found: u32 },
    #[error("{0} is not where a wal record can start")]
    StartPosition(Lsn),
    #[error("wal page at {at} does not continue the record at {record}")]
    NoContinuation { at: Lsn, record: Lsn },
    #[error("wal page at {at} continues a record where none was begun")]
    UnexpectedContinuation { at: Lsn },
    #[error("wal page at {at} continues a record by {found} bytes instead of {expected}")]
    ContinuationLength { at: Lsn, found: u32, expected: u64 },
    #[error("wal record at {at} has the impossible length {length}")]
    RecordLength { at: Lsn, length: u32 },
    #[error("wal record at {at} follows {found}; the record before it is at {expected}")]
    PrevLink { at: Lsn, found: Lsn, expected: Lsn },
    #[error("wal record at {at} has the unknown resource manager {id}")]
    Rmgr { at: Lsn, id: u8 },
    #[error("wal record at {at} has a bad checksum: stored {stored:08X}, computed {computed:08X}")]
    Crc { at: Lsn, stored: u32, computed: u32 },
    #[error("wal record at {at} is malformed: {what}")]
    Malformed { at: Lsn, what: &'static str },
}
