//! Integration tests of holdfast-pgformat: our reading of PostgreSQL's formats against its own.
#![allow(clippy::print_stderr)] // skipped tests say so

mod changes;
mod oracle;
mod restored_control;
mod server;
mod workload;
