//! The operations, one folder per verb. Each `mod.rs` reads as a table of contents of its verb.

pub mod away;
pub mod backup;
pub mod catalog;
pub mod checks;
pub mod context;
pub mod copy;
pub mod doctor;
pub mod error;
pub mod heartbeat;
pub mod lock;
pub mod managed;
pub mod remote;
pub mod restore;
pub mod retention;
pub mod state;
pub mod users;
pub mod verify;
pub mod wal;

pub use away::Away;
pub use context::Context;
pub use error::{EngineError, Result};
