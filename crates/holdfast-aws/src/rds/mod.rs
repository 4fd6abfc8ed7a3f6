//! RDS, Aurora and DocumentDB: one API, one client. DocumentDB's own SDK talks to the same endpoints with the same
//! signature; it only has fewer members (decision 35).

mod automated;
mod cluster;
mod databases;
mod instance;
mod proxy;
mod restore;
mod sharing;
mod snapshot;

pub(crate) use automated::{instance_backups, needs_presigned};
