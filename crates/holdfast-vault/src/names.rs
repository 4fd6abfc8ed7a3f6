//! Names of objects in a vault, relative to its prefix. A person with `ls` can read them; the
//! program builds and parses them only here. `docs/FORMAT.md` §2 lists them.

use holdfast_core::{ClusterId, DatabaseName, RunId, TimelineId};

pub const DESCRIPTOR: &str = "holdfast.vault";
/// The same bytes once more. Every seal depends on the vault's id, which stands nowhere else.
pub const DESCRIPTOR_COPY: &str = "keys/holdfast.vault";
pub const DB: &str = "db";

/// The keys of an epoch that may be public.
pub fn epoch(epoch: u32) -> String {
    format!("keys/{epoch:04}.epoch")
}

/// A copy of all keys, wrapped by a passphrase.
pub fn recovery(epoch: u32, tag: &str) -> String {
    format!("keys/{epoch:04}-{tag}.recovery")
}

/// The folder of one cluster of one database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterPath {
    pub database: DatabaseName,
    pub cluster: ClusterId,
}

impl ClusterPath {
    pub fn folder(&self) -> String {
        format!("{DB}/{}/{}", self.database, self.cluster)
    }
    pub fn record(&self) -> String {
        format!("{}/cluster", self.folder())
    }
    pub fn points(&self) -> String {
        format!("{}/points", self.folder())
    }
    pub fn point(&self, run: &RunId) -> String {
        format!("{}/{run}.point", self.points())
    }
    pub fn lease(&self, run: &RunId) -> String {
        format!("{}/leases/{run}.lease", self.folder())
    }
    pub fn condemned(&self, run: &RunId) -> String {
        format!("{}/condemned/{run}", self.folder())
    }
    pub fn notes(&self) -> String {
        format!("{}/notes", self.folder())
    }
    pub fn note(&self, point: &RunId, note: &RunId, kind: &str) -> String {
        format!("{}/notes/{point}/{note}.{kind}", self.folder())
    }
    /// Ledgers of locks.
    pub fn ledgers(&self) -> String {
        format!("{}/locks", self.folder())
    }
    pub fn ledger(&self, run: &RunId) -> String {
        format!("{}/{run}.ledger", self.ledgers())
    }
    pub fn failed(&self, run: &RunId) -> String {
        format!("{}/failed/{run}.run", self.folder())
    }
    pub fn pack(&self, pack: &PackId) -> String {
        format!("{}/runs/{}/{}-{:04}.pack", self.folder(), pack.run, pack.class.word(), pack.number)
    }
    /// A sign of life of a run, beside its packs.
    pub fn alive(&self, run: &RunId, number: u32) -> String {
        format!("{}/{run}/alive-{number:04}", self.runs())
    }
    pub fn runs(&self) -> String {
        format!("{}/runs", self.folder())
    }
    /// What shortens listings; everything in it can be made again.
    pub fn index(&self) -> String {
        format!("{}/index", self.folder())
    }
    pub fn wal_index(&self, number: u64) -> String {
        format!("{}/wal-{number:08}.index", self.index())
    }
    pub fn point_index(&self, id: &RunId) -> String {
        format!("{}/points-{id}.index", self.index())
    }
    pub fn note_index(&self, id: &RunId) -> String {
        format!("{}/notes-{id}.index", self.index())
    }
    pub fn wal(&self) -> String {
        format!("{}/wal", self.folder())
    }
    pub fn wal_timeline(&self, tli: TimelineId) -> String {
        format!("{}/wal/{}", self.folder(), tli.hex())
    }
    /// A finished segment.
    pub fn segment(&self, tli: TimelineId, name: &str) -> String {
        format!("{}/{name}.wal", self.wal_timeline(tli))
    }
    /// A `.partial` or `.backup` file: beside the segments, under its own full name.
    pub fn wal_extra(&self, tli: TimelineId, name: &str) -> String {
        format!("{}/extra/{}/{name}", self.wal(), tli.hex())
    }
    pub fn history(&self, tli: TimelineId) -> String {
        format!("{}/{}.history", self.wal(), tli.hex())
    }
    pub fn owner(&self, tli: TimelineId, n: u32) -> String {
        format!("{}/{}.owner-{n:04}", self.wal(), tli.hex())
    }
    /// A file whose name was taken by other content, told apart by the head of its own digest.
    pub fn conflict(&self, name: &str, digest: &[u8; 32]) -> String {
        let head: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
        format!("{}/conflict/{name}-{head}", self.wal())
    }
}

/// What a pack holds, which decides who can read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackClass {
    /// Blocks of files; sealed with the data key.
    Data,
    /// Maps, fingerprints, manifests; sealed with the meta key.
    Meta,
}

impl PackClass {
    pub fn word(self) -> &'static str {
        match self {
            PackClass::Data => "data",
            PackClass::Meta => "meta",
        }
    }
}

/// One pack of one run. Its name is fixed before its first byte is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId {
    pub run: RunId,
    pub class: PackClass,
    pub number: u32,
}

/// Whether an object of this name holds blocks: what is large, and read by a plan.
pub fn is_data_pack(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or_default();
    file.starts_with("data-") && file.ends_with(".pack")
}

/// Run id of `…/<run>.<ext>`.
pub fn run_of(name: &str, ext: &str) -> Option<RunId> {
    name.rsplit('/').next()?.strip_suffix(ext)?.strip_suffix('.')?.parse().ok()
}
