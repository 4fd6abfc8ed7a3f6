//! The native vault: where backups are kept. `docs/FORMAT.md` describes every byte; this crate is
//! its only writer. It knows nothing of PostgreSQL beyond blocks, segments and timelines.
//!
//! Which object is written by what:
//!
//! | object | written by | commit point |
//! |---|---|---|
//! | `holdfast.vault` | [`Vault::create`] | itself |
//! | `db/…/cluster` | [`Vault::ensure_cluster`] | itself |
//! | `db/…/leases/RUN.lease` | [`ClusterVault::take_lease`] | - |
//! | `db/…/runs/RUN/*.pack` | [`pack::PackWriter`] through [`upload::UploadSink`] | the point |
//! | `db/…/points/RUN.point` | [`ClusterVault::commit_point`] | itself |
//! | `db/…/wal/TLI/SEGMENT.wal` | [`walobj::encode`] + [`Store::create`] | itself |
//! | `db/…/notes/…` | `verify`, `hold`, `release`, `expire` | itself |
//! | `db/…/condemned/RUN` | [`sweep::Sweep`] | itself |
//! | `db/…/index/…` | [`walindex`], [`pointindex`], by a sweep | itself |
//!
//! Nothing is overwritten, so a crash at any instant leaves the old state or the new one, and at
//! worst packs that no point names.

pub mod check;
pub mod codec;
pub mod digest;
pub mod error;
pub mod facts;
pub mod keys;
pub mod listing;
pub mod lock;
pub mod manifest;
pub mod map;
pub mod names;
pub mod noteindex;
pub mod notes;
pub mod object;
pub mod pack;
pub mod passphrase;
pub mod point;
pub mod pointindex;
pub mod probe;
pub mod reader;
pub mod record;
pub mod store;
pub mod survey;
pub mod sweep;
pub mod upload;
pub mod vault;
pub mod walindex;
pub mod walobj;
pub mod wire;

pub use error::{Result, StoreError, StoreErrorKind, VaultError};
pub use facts::PointFacts;
pub use keys::{Keys, Role, Signer};
pub use names::{ClusterPath, PackClass, PackId};
pub use notes::Notes;
pub use object::Cipher;
pub use store::{Created, Store};
pub use vault::{ClusterVault, Commit, Vault};
