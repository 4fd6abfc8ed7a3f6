//! Copies of DocumentDB, looked into over MongoDB's wire protocol, behind the port
//! [`holdfast_core::managed::DocumentServers`]. The only crate that names the driver.
//!
//! Made for what DocumentDB is and is not: one host is asked and no other is looked for (a copy's instances are
//! behind its cluster endpoint), nothing is retried by the driver (`retryWrites=false`; DocumentDB has none), nothing
//! is written, and every listing is read to its end (provider rules X41). SCRAM with whichever hash the server names;
//! TLS verified against the given root certificates, name included.
//!
//! Crash: nothing is kept anywhere.

mod client;
mod errors;

pub use client::DocumentClients;
