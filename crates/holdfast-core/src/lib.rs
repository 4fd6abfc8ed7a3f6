//! Holdfast's vocabulary, without IO.
//!
//! Everything that two parts of Holdfast have to agree on lives here: positions in the write-ahead
//! log ([`lsn`]), names of databases and runs ([`id`]), instants and spans of time ([`time`]),
//! byte counts ([`size`]), secrets that do not print ([`secret`]), the policy file as it is written
//! and as it is meant ([`policy`]), what stores charge ([`prices`]), which recovery points stay
//! ([`retention`]), the port to Amazon's managed databases ([`managed`]), exit codes ([`exit`]) and the
//! [`monitor`] through which library code reports what it does. Nothing here opens a file or
//! a socket.

pub mod conninfo;
pub mod exit;
pub mod id;
pub mod limits;
pub mod lsn;
pub mod managed;
pub mod monitor;
pub mod policy;
pub mod prices;
pub mod retention;
pub mod rules;
pub mod schedule;
pub mod secret;
pub mod size;
pub mod time;

pub use exit::ExitCode;
pub use id::{ClusterId, DatabaseName, RunId, VaultId};
pub use lsn::{Lsn, SegmentName, SegmentSize, TimelineId};
pub use monitor::Monitor;
pub use secret::Secret;
pub use size::ByteSize;
