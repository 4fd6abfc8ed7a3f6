//! The write-ahead log: pages, records, and what the records that matter to us say.
//!
//! [`WalReader`] turns bytes into [`Record`]s; [`segment_header`] looks at the head of one segment
//! file; [`XactRecord`], [`XlogRecord`] and [`StorageRecord`] decode the main data of the records
//! that recovery targets and change maps ask for. All of it without IO.
//!
//! The format is the same in 15 to 18 as far as it is read here, with these exceptions: the page
//! magic; CHECKPOINT_REDO exists from 17 on; checkpoint and END_OF_RECOVERY records carry the WAL
//! level from 17 on (16 and before: absent); items of dropped statistics in commit records grew from
//! 12 to 16 bytes in 18.

mod error;
mod page;
mod reader;
mod record;
mod rmgr;
mod storage;
#[cfg(test)]
pub(crate) mod testlog;
mod xact;
mod xlog;

pub use error::WalError;
pub use page::{LongHeader, PageFlags, SegmentHeader, WAL_PAGE_SIZE, WalPageHeader, segment_header};
pub use reader::{WalEnd, WalReader};
pub use record::{BlockImage, BlockRef, Record, decode_record};
pub use rmgr::Rmgr;
pub use storage::StorageRecord;
pub use xact::{XactKind, XactRecord};
pub use xlog::{ParameterChange, XlogRecord};

pub(crate) use page::{LONG_HEADER, SHORT_HEADER, header_size};
pub(crate) use record::{MAX_RECORD, RECORD_HEADER, RecordHeader, check_crc, is_switch, walk_record};
pub(crate) use storage::decode_parts as decode_storage_parts;
pub(crate) use xact::dropped_relations;
pub(crate) use xlog::decode_parts as decode_xlog_parts;
