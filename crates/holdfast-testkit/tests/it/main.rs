//! The test kit's own tests: each part against the real thing.

mod postgres;
mod processes;
mod stores;
