//! Throwaway surroundings for tests: real PostgreSQL servers of several versions, object store
//! emulators, a proxy that injects faults, damage for vault files, and the binary under test.
//!
//! For development only; nothing that ships depends on it. Everything is plain blocking `std`, so
//! that a test reads from top to bottom.
//!
//! * [`scratch`]: a directory of its own for each test, gone afterwards.
//! * [`user`]: servers and the binary under test run as an unprivileged user, even when the tests
//!   run as root (PostgreSQL refuses to run as root).
//! * [`postgres`]: [`Cluster`], a server that starts in a fraction of a second and never outlives
//!   the test process. [`version`] says where the programs of each major version are.
//! * [`binary`]: [`Holdfast`], the program under test and what it answered.
//! * [`s3`]: [`Store`], an S3 or Azure emulator on a free port of the loopback interface.
//! * [`aws`]: [`Aws`], our strict stand-in for AWS, or moto.
//! * [`documents`]: [`DocumentServer`], which speaks MongoDB's protocol.
//! * [`ceph`]: [`Ceph`], a real S3 server in the same place, for the soak.
//! * [`faultproxy`]: [`FaultProxy`], in front of a store: errors, delays, cut connections, replies
//!   that get lost after the work was done.
//! * [`damage`]: what disks and people do to files.
//! * [`seed`]: random choices that can be replayed.
//!
//! ```no_run
//! use holdfast_testkit::{Cluster, PgVersion, Scratch};
//!
//! let scratch = Scratch::new("example");
//! let mut cluster = Cluster::builder(&scratch, "main", PgVersion::V17).checksums(true).start();
//! assert_eq!(cluster.sql("postgres", "select 1 + 1"), "2");
//! cluster.kill9();
//! cluster.start();
//! ```
//!
//! A helper that fails panics with what the server or program said: in a test that is the message
//! somebody needs. Functions named `try_…` return the failure instead.

// A test's stderr is where skips, seeds and kept directories are told.
#![allow(clippy::print_stderr)]

pub mod aws;
pub mod binary;
pub mod ceph;
pub mod damage;
pub mod documents;
pub mod faultproxy;
pub mod http;
pub mod k8s;
pub mod operations;
pub mod postgres;
pub mod proc;
pub mod s3;
pub mod scratch;
pub mod seed;
mod template;
pub mod tools;
pub mod user;
pub mod version;

pub use aws::Aws;
pub use binary::{Holdfast, Output, Running};
pub use ceph::Ceph;
pub use damage::Damage;
pub use documents::DocumentServer;
pub use faultproxy::{Fault, FaultProxy, Rule};
pub use k8s::K8s;
pub use postgres::{Cluster, ClusterBuilder, StopMode};
pub use s3::Store;
pub use scratch::Scratch;
pub use seed::{TestRng, seed_from_env_or_time};
pub use version::PgVersion;
