//! The vault against real stores, stores that go wrong, and its own written format.
#![allow(clippy::print_stderr)]

mod conformance;
mod faults;
mod format_examples;
mod indexes;
mod retrieval;
mod stores;
mod sweeping;
mod vaults;
mod versions;
