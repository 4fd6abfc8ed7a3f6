//! The WAL archive of a cluster: what goes in, what comes out, who may write.
//!
//! - [`push`]: `archive_command`. One segment, one create-if-absent.
//! - [`fanout`]: the same for several vaults: one that is away keeps nobody, and catches up.
//! - [`get`]: `restore_command`. "Certainly absent" is said only when it is so; prefetches ahead.
//! - [`archive`]: what is there, per timeline; continuity; timeline histories.
//! - [`changes`]: which pages a segment changes.
//! - [`owner`]: who may push (fencing of restored copies), and `wal adopt`.
//! - [`status`]: all of it for people.

pub mod archive;
pub mod changes;
pub mod fanout;
pub mod file;
pub mod get;
pub mod owner;
pub mod push;
pub mod status;
