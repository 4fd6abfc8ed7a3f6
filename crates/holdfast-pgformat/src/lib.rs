//! PostgreSQL's on-disk formats: bytes in, values out.
//!
//! Nothing here opens a file, reads a clock or waits; every parser takes bytes (or text) and returns
//! a value or a typed error, and none panics on any input. Facts about PostgreSQL — names, versions,
//! struct layouts, skip lists — live in this crate only, each beside the name of the server's source
//! file it was taken from. PostgreSQL 15, 16, 17 and 18 on little-endian machines.
//!
//! | file or object | read by | written by |
//! |---|---|---|
//! | `PG_VERSION` | [`version::parse_pg_version_file`] | |
//! | `global/pg_control` | [`control::ControlFile::parse`] | [`control::ControlFile::with_invalid_checkpoint`] |
//! | relation pages | [`page::verify_page`] | |
//! | path names under PGDATA | [`path::classify`], [`path::dir_action`] | |
//! | `backup_label`, `tablespace_map` | [`label::BackupLabel::parse`], [`label::TablespaceMap::parse`] | the same types' `Display` |
//! | `00000002.history` | [`history::TimelineHistory::parse`] | its `Display` |
//! | `INCREMENTAL.*` of a base backup | [`incremental::IncrementalHeader::parse`] | |
//! | names in the WAL archive | [`walname::WalFileName`] | its `Display` |
//! | WAL segments | [`wal::WalReader`], [`wal::segment_header`], [`scan::scan_segment`], [`dirops::DirectoryOps`], [`changes::SegmentScanner`] | |
//! | changed pages of a WAL segment (our own format) | [`changes::SegmentChanges::decode`] | [`changes::SegmentChanges::encode`] |

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod bytes;
pub mod changes;
mod checksum_simd;
pub mod control;
pub mod crc32c;
pub mod dirops;
pub mod history;
pub mod incremental;
pub mod label;
pub mod page;
pub mod path;
pub mod relation;
pub mod scan;
pub mod time;
pub mod version;
pub mod wal;
pub mod walname;

#[cfg(test)]
mod proptests;
