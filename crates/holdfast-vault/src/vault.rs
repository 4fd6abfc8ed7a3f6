//! A vault: its descriptor, its clusters, and their records.
//!
//! How to use: [`Vault::create`] once, [`Vault::open`] ever after; [`Vault::cluster`] for the folder
//! of one cluster. Opening costs one request. A descriptor is written once, and once more as a copy
//! beside the keys: every seal in the vault depends on the id in it. A crash while creating leaves
//! either no vault, or a whole one, perhaps without the copy (the next `init` adds it).

use crate::digest::{Digests, hkdf32};
use crate::error::{Result, StoreErrorKind, VaultError};
use crate::keys::{Keys, Signer};
use crate::names::{self, ClusterPath, PackId};
use crate::notes::Notes;
use crate::object::{Cipher, FORMAT_VERSION, Place};
use crate::pack::{PackWriter, SealContext, purpose_of};
use crate::point::{Aborted, Alive, Body, Cluster, Lease, Point, Verified};
use crate::store::{Created, Store};
pub use crate::survey::{Seen, Survey};
use crate::upload::{PART_SIZE, UploadSink};
use crate::{probe, record};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as B64;
use bytes::Bytes;
use holdfast_core::{DatabaseName, RunId, Secret, VaultId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// `holdfast.vault`: what this place is. Clear JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Descriptor {
    pub holdfast_vault: u32,
    pub id: VaultId,
    pub created: jiff::Timestamp,
    pub cipher: Cipher,
    /// Binds the fields above to the keys: who can write here but has no key can neither change the
    /// cipher nor exchange the descriptor. HKDF of the oldest meta key, hexadecimal.
    pub key_check: String,
    /// For whoever finds this without the program.
    pub about: String,
}

/// The part of a descriptor that every version has.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Version {
    holdfast_vault: u32,
}

/// An open vault. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Vault {
    store: Store,
    descriptor: Arc<Descriptor>,
    keys: Arc<Keys>,
    /// Why `holdfast.vault` itself could not be used, if its copy was.
    trouble: Option<Arc<str>>,
}

impl Descriptor {
    /// What `key_check` must be for these keys.
    fn check_of(&self, keys: &Keys) -> Result<String> {
        let first = keys.epochs().first().ok_or_else(|| VaultError::KeyFile("it holds no epoch".into()))?;
        let bound = format!("{}\n{}\n{}\n", self.holdfast_vault, self.cipher.name(), self.created);
        let info: [&[u8]; 2] = [b"holdfast/1 key-check\n", bound.as_bytes()];
        Ok(hex(&hkdf32(&self.id.bytes(), first.meta.expose_bytes(), &info)))
    }

    fn parse(name: &str, text: &[u8]) -> Result<Self> {
        let bad = |_| VaultError::damaged(name, "it is not the descriptor of a vault");
        // The version first: the rest of a newer descriptor may not be readable to us at all.
        let v: Version = serde_json::from_slice(text).map_err(bad)?;
        if v.holdfast_vault > FORMAT_VERSION.into() {
            return Err(VaultError::NewerFormat { found: v.holdfast_vault, known: FORMAT_VERSION.into() });
        }
        serde_json::from_slice(text).map_err(bad)
    }
}

/// Lower-case hexadecimal.
pub fn hex(b: &[u8]) -> String {
    use std::fmt::Write;
    b.iter().fold(String::with_capacity(b.len() * 2), |mut s, x| {
        let _ = write!(s, "{x:02x}");
        s
    })
}

/// The 32 bytes behind 64 hexadecimal digits.
pub fn unhex32(s: &str) -> Option<[u8; 32]> {
    let mut out = [0u8; 32];
    if s.len() != 64 {
        return None;
    }
    for (i, o) in out.iter_mut().enumerate() {
        *o = u8::from_str_radix(s.get(i * 2..i * 2 + 2)?, 16).ok()?;
    }
    Some(out)
}

impl Vault {
    /// Makes a vault in an empty place, after probing that the store can carry one (R9). A place that
    /// holds backups but no descriptor is not empty: a new one would shut them in for ever.
    pub async fn create(store: Store, keys: Keys, cipher: Cipher) -> Result<Self> {
        let url = || store.url().to_string();
        if store.head(names::DESCRIPTOR).await?.is_some() {
            return Err(VaultError::VaultExists(url()));
        }
        if store.head(names::DESCRIPTOR_COPY).await?.is_some() || !store.folders(names::DB).await?.is_empty()
        {
            // The copy is written after the descriptor: another maker may have come between the two looks.
            return Err(match store.head(names::DESCRIPTOR).await? {
                Some(_) => VaultError::VaultExists(url()),
                None => VaultError::LostDescriptor(url()),
            });
        }
        probe::probe_conditional_create(&store).await?;
        let mut descriptor = Descriptor {
            holdfast_vault: FORMAT_VERSION.into(),
            created: jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default(),
            cipher,
            key_check: String::new(),
            about:
                "a holdfast vault of PostgreSQL backups; docs/FORMAT.md of the project describes every byte"
                    .into(),
            id: VaultId::generate(),
        };
        descriptor.key_check = descriptor.check_of(&keys)?;
        let vault = Vault { store, descriptor: Arc::new(descriptor), keys: Arc::new(keys), trouble: None };
        match vault.store.create(names::DESCRIPTOR, vault.descriptor_text()).await {
            Ok(_) => {}
            Err(e) if e.store_kind() == Some(StoreErrorKind::Exists) => {
                return Err(VaultError::VaultExists(vault.store.url().to_string()));
            }
            Err(e) => return Err(e),
        }
        vault.mend_descriptor().await?;
        Ok(vault)
    }

    fn descriptor_text(&self) -> Bytes {
        Bytes::from(serde_json::to_vec_pretty(&*self.descriptor).unwrap_or_default())
    }

    /// Writes the descriptor and its copy where one of them is missing. A changed one is left: nothing
    /// in a vault is overwritten.
    pub async fn mend_descriptor(&self) -> Result<()> {
        for name in [names::DESCRIPTOR, names::DESCRIPTOR_COPY] {
            match self.store.create(name, self.descriptor_text()).await {
                Ok(_) => {}
                Err(e) if e.store_kind() == Some(StoreErrorKind::Exists) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Opens the vault in `store` with `keys`. One request; a second one for the copy if the
    /// descriptor is lost, damaged, or not made with these keys.
    pub async fn open(store: Store, keys: Keys) -> Result<Self> {
        let first = Self::read_descriptor(&store, names::DESCRIPTOR, &keys).await;
        let (descriptor, trouble) = match first {
            Ok(d) => (d, None),
            Err(
                e @ (VaultError::NoVault(_)
                | VaultError::Damaged { .. }
                | VaultError::WrongKey(_)
                | VaultError::NewerFormat { .. }),
            ) => {
                let Ok(copy) = Self::read_descriptor(&store, names::DESCRIPTOR_COPY, &keys).await else {
                    return Err(e);
                };
                let what = match e {
                    VaultError::NoVault(_) => "it is missing",
                    VaultError::Damaged { .. } => "it is not the descriptor of a vault",
                    _ => "it is not the one that was written",
                };
                (copy, Some(what.into()))
            }
            Err(e) => return Err(e),
        };
        Ok(Vault { store, descriptor: Arc::new(descriptor), keys: Arc::new(keys), trouble })
    }

    async fn read_descriptor(store: &Store, name: &str, keys: &Keys) -> Result<Descriptor> {
        let text = match store.get(name).await {
            Ok(t) => t,
            Err(e) if e.is_not_found() => return Err(VaultError::NoVault(store.url().to_string())),
            Err(e) => return Err(e),
        };
        let descriptor = Descriptor::parse(name, &text)?;
        if descriptor.check_of(keys)? != descriptor.key_check {
            return Err(VaultError::WrongKey(format!(
                "{}/{name} was not made with this key file, or was changed since",
                store.url()
            )));
        }
        Ok(descriptor)
    }

    /// Reads the descriptor (or its copy) without any key: nothing in it is proven.
    pub async fn describe(store: &Store) -> Result<Descriptor> {
        for name in [names::DESCRIPTOR, names::DESCRIPTOR_COPY] {
            match store.get(name).await {
                Ok(t) => return Descriptor::parse(name, &t),
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e),
            }
        }
        Err(VaultError::NoVault(store.url().to_string()))
    }

    /// Whether the copy says what the descriptor says (not found: there is none).
    pub(crate) async fn copy_of_descriptor(&self) -> Result<bool> {
        let text = self.store.get(names::DESCRIPTOR_COPY).await?;
        Ok(Descriptor::parse(names::DESCRIPTOR_COPY, &text).is_ok_and(|d| d == *self.descriptor))
    }

    /// Why `holdfast.vault` is not to be used, if the vault was opened through its copy.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn id(&self) -> &VaultId {
        &self.descriptor.id
    }

    pub fn cipher(&self) -> Cipher {
        self.descriptor.cipher
    }

    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    pub fn place<'a>(&'a self, name: &'a str) -> Place<'a> {
        Place { vault: &self.descriptor.id, name }
    }

    /// Writes a signed record; the name must be free (the same record again is fine).
    pub async fn put_record(&self, name: &str, body: &Body, signer: Signer) -> Result<Created> {
        self.put_record_until(name, body, signer, None).await
    }

    async fn put_record_until(
        &self,
        name: &str,
        body: &Body,
        signer: Signer,
        until: Option<jiff::Timestamp>,
    ) -> Result<Created> {
        let plain = serde_json::to_vec(body).unwrap_or_default();
        let bytes = record::encode(&self.keys, self.descriptor.cipher, self.place(name), signer, &plain)?;
        self.store.create_until(name, bytes, until).await
    }

    /// Reads a record, signature checked.
    pub async fn get_record(&self, name: &str) -> Result<(Body, Signer)> {
        let bytes = self.store.get(name).await?;
        self.open_record(name, &bytes)
    }

    pub fn open_record(&self, name: &str, bytes: &[u8]) -> Result<(Body, Signer)> {
        let (plain, signer) = record::decode(bytes, &self.keys, self.place(name))?;
        let body = serde_json::from_slice(&plain)
            .map_err(|e| VaultError::damaged(name, format!("its text is malformed: {e}")))?;
        Ok((body, signer))
    }

    /// Databases that have a folder here.
    pub async fn databases(&self) -> Result<Vec<DatabaseName>> {
        Ok(self.store.folders(names::DB).await?.into_iter().filter_map(|d| d.parse().ok()).collect())
    }

    /// Clusters of a database; several after `pg_upgrade`.
    pub async fn clusters(&self, database: &DatabaseName) -> Result<Vec<ClusterPath>> {
        let folders = self.store.folders(&format!("{}/{database}", names::DB)).await?;
        Ok(folders
            .into_iter()
            .filter_map(|c| c.parse().ok())
            .map(|cluster| ClusterPath { database: database.clone(), cluster })
            .collect())
    }

    /// Opens the folder of a cluster.
    pub async fn cluster(&self, path: ClusterPath) -> Result<ClusterVault> {
        let name = path.record();
        match self.get_record(&name).await? {
            (Body::Cluster(record), _) => ClusterVault::new(self.clone(), path, record),
            _ => Err(VaultError::damaged(&name, "it does not describe a cluster")),
        }
    }

    /// Opens the folder of a cluster, making it if this is the first that the vault hears of it.
    /// `make` is called only then; its digest secret is filled in here.
    pub async fn ensure_cluster(
        &self,
        path: ClusterPath,
        make: impl FnOnce() -> Cluster,
    ) -> Result<ClusterVault> {
        match self.cluster(path.clone()).await {
            Err(e) if e.is_not_found() => {}
            other => return other,
        }
        let mut record = make();
        if record.digest_secret.is_empty() {
            record.digest_secret = B64.encode(crate::keys::fresh32());
        }
        match self.put_record(&path.record(), &Body::Cluster(record), Signer::Host).await {
            Ok(_) => {}
            // Another run of this cluster was faster.
            Err(e) if e.store_kind() == Some(StoreErrorKind::Exists) => {}
            Err(e) => return Err(e),
        }
        self.cluster(path).await
    }
}

/// A committed point or an aborted run, as its object says.
#[derive(Debug, Clone, PartialEq)]
pub enum Commit {
    Point(Box<Point>),
    Aborted(Aborted),
}

/// The folder of one cluster in an open vault. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ClusterVault {
    vault: Vault,
    path: Arc<ClusterPath>,
    record: Arc<Cluster>,
    digests: Digests,
}

impl ClusterVault {
    fn new(vault: Vault, path: ClusterPath, record: Cluster) -> Result<Self> {
        let secret = B64
            .decode(&record.digest_secret)
            .map_err(|_| VaultError::damaged(&path.record(), "its digest secret is malformed"))?;
        Ok(ClusterVault {
            vault,
            path: Arc::new(path),
            digests: Digests::new(&Secret::new(secret)),
            record: Arc::new(record),
        })
    }

    pub fn vault(&self) -> &Vault {
        &self.vault
    }
    pub fn store(&self) -> &Store {
        &self.vault.store
    }
    pub fn path(&self) -> &ClusterPath {
        &self.path
    }
    pub fn record(&self) -> &Cluster {
        &self.record
    }
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    pub fn seal_context(&self) -> SealContext {
        SealContext {
            vault: self.vault.id().clone(),
            keys: self.vault.keys.clone(),
            cipher: self.vault.cipher(),
            digests: self.digests.clone(),
        }
    }

    /// Starts a pack whose parts go to the store as they fill.
    pub fn pack_writer(&self, id: PackId, handle: u32, rt: &tokio::runtime::Handle) -> Result<PackWriter> {
        let name = self.path.pack(&id);
        let sink = UploadSink::new(self.store(), &name, rt);
        let purpose = purpose_of(&id);
        PackWriter::new(&self.seal_context(), id, handle, &name, purpose, Box::new(sink), PART_SIZE)
    }

    /// Reads the commit object of a run; `None` if the run did not commit.
    pub async fn commit(&self, run: &RunId) -> Result<Option<Commit>> {
        let name = self.path.point(run);
        match self.vault.get_record(&name).await {
            Ok((Body::Point(p), _)) => Ok(Some(Commit::Point(p))),
            Ok((Body::Aborted(a), _)) => Ok(Some(Commit::Aborted(a))),
            Ok(_) => Err(VaultError::damaged(&name, "it is neither a point nor an aborted run")),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Outcomes of verifications. Only the operator's signature counts (R4).
    pub async fn verifications(&self) -> Result<Vec<Verified>> {
        let listed = self.store().list(&self.path.notes()).await?;
        let only = listed.into_iter().filter(|l| l.name.ends_with(".verified")).collect();
        Ok(Notes::open(self, only).await?.verifications())
    }

    /// Takes a lease for a run (R5): first object of every backup.
    pub async fn take_lease(&self, lease: &Lease) -> Result<()> {
        let name = self.path.lease(&lease.run);
        self.vault.put_record(&name, &Body::Lease(lease.clone()), Signer::Host).await.map(|_| ())
    }

    /// Leaves a sign of life. A sweep takes a run that wrote nothing for a day for dead; one that works on a
    /// single pack for so long says by this that it is not. Each has a number of its own.
    pub async fn give_sign(&self, run: &RunId, number: u32, host: &str) -> Result<()> {
        let alive = Alive { run: run.clone(), number, at: jiff::Timestamp::now(), host: host.into() };
        let name = self.path.alive(run, number);
        self.vault.put_record(&name, &Body::Alive(alive), Signer::Host).await.map(|_| ())
    }

    /// True if a sweep has condemned the run: nothing new may build on it.
    pub async fn is_condemned(&self, run: &RunId) -> Result<bool> {
        Ok(self.store().head(&self.path.condemned(run)).await?.is_some())
    }

    /// May a run that took its lease build on `run`? Asked *after* the lease is there (R5): whoever condemns
    /// later sees the lease, and whoever removed everything before took the point first.
    pub async fn can_build_on(&self, run: &RunId) -> Result<bool> {
        Ok(!self.is_condemned(run).await? && self.store().head(&self.path.point(run)).await?.is_some())
    }

    /// Commits a point: the last object, create-if-absent under the name that the lease announced.
    pub async fn commit_point(&self, point: Point) -> Result<()> {
        self.commit_point_until(point, None).await
    }

    /// The same, with the date of its lock, which [`crate::lock::before_commit`] gave.
    pub async fn commit_point_until(&self, point: Point, until: Option<jiff::Timestamp>) -> Result<()> {
        let run = point.id.clone();
        self.own_packs(&run).await?;
        let name = self.path.point(&run);
        let body = Body::Point(Box::new(point));
        match self.vault.put_record_until(&name, &body, Signer::Host, until).await {
            Ok(_) => Ok(()),
            Err(e) if e.store_kind() == Some(StoreErrorKind::Exists) => {
                Err(VaultError::Fenced(run.to_string()))
            }
            Err(e) => Err(e),
        }
    }

    /// Where versions are kept the oldest of a name counts: whoever wrote under the names of our packs before
    /// we did would have us commit his. One request, none where there are no versions.
    async fn own_packs(&self, run: &RunId) -> Result<()> {
        if !self.store().keeps_versions().await? {
            return Ok(());
        }
        let folder = format!("{}/{run}", self.path.runs());
        match self.store().usurped(&folder).await? {
            None => Ok(()),
            Some(name) => {
                Err(VaultError::damaged(&name, "somebody else wrote under this name before the run did"))
            }
        }
    }

    /// Declares a run dead: from now on it cannot commit. `false` if it had committed before.
    pub async fn abort_run(&self, aborted: Aborted) -> Result<bool> {
        let name = self.path.point(&aborted.run);
        match self.vault.put_record(&name, &Body::Aborted(aborted), Signer::Host).await {
            Ok(_) => Ok(true),
            Err(e) if e.store_kind() == Some(StoreErrorKind::Exists) => Ok(false),
            Err(e) => Err(e),
        }
    }
}
