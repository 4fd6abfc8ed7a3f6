//! What every operation needs: the policy, the database it works on, its vaults, this host's state.

use crate::error::{EngineError, Result};
use crate::state::State;
use holdfast_core::policy::{self, Plan, Policy, Source};
use holdfast_core::{DatabaseName, Monitor, Secret};
use holdfast_vault::store::lock::LockRule;
use holdfast_vault::store::xml::LockMode;
use holdfast_vault::{ClusterPath, ClusterVault, Keys, Store, Vault};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// A database of the policy, with everything to work on it.
#[derive(Debug, Clone)]
pub struct Context {
    pub policy: Arc<Policy>,
    pub db: policy::Database,
    pub plan: Plan,
    pub state: State,
    pub monitor: Arc<dyn Monitor>,
    pub allow_unsupported: bool,
    /// Use this vault instead of the database's first.
    pub vault: Option<String>,
}

impl Context {
    pub fn new(policy: Arc<Policy>, db: Option<&str>, monitor: Arc<dyn Monitor>) -> Result<Self> {
        let db = pick_database(&policy, db)?;
        let plan = policy.plan_of(&db).cloned().unwrap_or_default();
        let state = State::open(policy.state_dir())?;
        if rustix::process::geteuid().is_root()
            && let Some(owner) =
                db.data_directory.as_deref().and_then(|d| holdfast_pg::datadir::owner(d).ok())
        {
            state.give_to(owner);
        }
        Ok(Context { policy, db, plan, state, monitor, allow_unsupported: false, vault: None })
    }

    pub fn conninfo(&self) -> Result<&str> {
        match &self.db.source {
            Source::Postgres { conninfo } => Ok(conninfo),
            other => Err(EngineError::refused(
                format!(
                    "`{}` is a managed database ({other}): this command is for those whose files holdfast reads",
                    self.db.name
                ),
                "see holdfast backup, list, copy, expire and restore --to-id",
            )),
        }
    }

    /// The vaults of this database, the chosen one only if one was chosen.
    pub fn vaults(&self) -> Result<Vec<policy::Vault>> {
        let all: Vec<policy::Vault> = self.policy.vaults_of(&self.db).cloned().collect();
        let Some(name) = &self.vault else { return Ok(all) };
        match all.into_iter().find(|v| &v.name == name) {
            Some(v) => Ok(vec![v]),
            None => Err(EngineError::not_found(
                format!("`{}` has no vault `{name}`", self.db.name),
                "see [vaults] in the policy",
            )),
        }
    }

    /// The vault that backups go to and restores come from, unless told otherwise.
    pub fn first_vault(&self) -> Result<policy::Vault> {
        self.vaults()?.into_iter().next().ok_or_else(|| {
            EngineError::usage(
                format!("`{}` has no vault", self.db.name),
                "add a [vaults.NAME] table to the policy",
            )
        })
    }

    /// The vault that a backup goes to. A cold one is never first; `--vault` can name one.
    pub async fn open_backup_vault(&self) -> Result<(policy::Vault, Vault)> {
        let v = self.first_vault()?;
        if v.is_cold() {
            return Err(EngineError::refused(
                format!(
                    "vault `{}` is cold: backups build on what is stored, and this cannot be read",
                    v.name
                ),
                format!("back up to another vault, then `holdfast copy {} --to {}`", self.db.name, v.name),
            ));
        }
        let opened = open_vault(&v).await?;
        Ok((v, opened))
    }

    pub async fn open_first_vault(&self) -> Result<(policy::Vault, Vault)> {
        let v = self.first_vault()?;
        let opened = open_vault(&v).await?;
        Ok((v, opened))
    }

    /// The newest cluster of this database in `vault`: the one that was made last.
    pub async fn newest_cluster(&self, vault: &Vault) -> Result<Option<ClusterVault>> {
        let mut newest: Option<ClusterVault> = None;
        for path in vault.clusters(&self.db.name).await? {
            let c = vault.cluster(path).await?;
            if newest.as_ref().is_none_or(|n| c.record().created_at > n.record().created_at) {
                newest = Some(c);
            }
        }
        Ok(newest)
    }

    /// All clusters of this database in `vault`.
    pub async fn clusters(&self, vault: &Vault) -> Result<Vec<ClusterVault>> {
        let mut out = Vec::new();
        for path in vault.clusters(&self.db.name).await? {
            match vault.cluster(path).await {
                Ok(c) => out.push(c),
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e.into()),
            }
        }
        out.sort_by_key(|c| c.record().created_at);
        Ok(out)
    }

    pub fn cluster_path(&self, system_identifier: u64) -> ClusterPath {
        ClusterPath {
            database: self.db.name.clone(),
            cluster: holdfast_core::ClusterId::from_system_identifier(system_identifier),
        }
    }

    pub fn workers(&self) -> usize {
        self.policy
            .tuning
            .workers
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from))
            .clamp(1, 256)
    }
}

/// The database that was named, or the only one there is.
pub fn pick_database(policy: &Policy, name: Option<&str>) -> Result<policy::Database> {
    let known = || policy.databases.keys().map(DatabaseName::to_string).collect::<Vec<_>>().join(", ");
    match name {
        Some(n) => {
            policy.databases.iter().find(|(k, _)| k.as_str() == n).map(|(_, d)| d.clone()).ok_or_else(|| {
                EngineError::not_found(
                    format!("the policy has no database `{n}`"),
                    format!("it has: {}", known()),
                )
            })
        }
        None => match policy.databases.len() {
            1 => Ok(policy.databases.values().next().cloned().ok_or(EngineError::Cancelled)?),
            0 => Err(EngineError::usage("the policy has no database", "run `holdfast init`")),
            _ => Err(EngineError::usage(
                "the policy has several databases; name one",
                format!("it has: {}", known()),
            )),
        },
    }
}

/// Reads a file that holds a secret; warns nobody, refuses nothing but what cannot be read.
pub fn read_secret(path: &Path) -> Result<Secret> {
    let bytes = std::fs::read(path).map_err(EngineError::io("read the key file", path))?;
    Ok(Secret::new(bytes))
}

/// Can others read this file?
pub fn is_exposed(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.mode() & 0o077 != 0)
}

fn lock_rule(l: policy::Lock) -> LockRule {
    LockRule {
        mode: match l.mode {
            policy::LockMode::Governance => LockMode::Governance,
            policy::LockMode::Compliance => LockMode::Compliance,
        },
        period: jiff::SignedDuration::from_secs(i64::try_from(l.period.0).unwrap_or(i64::MAX)),
    }
}

/// The store of a vault in the policy; no request is made.
pub fn open_store(v: &policy::Vault) -> Result<Store> {
    Ok(Store::open_locking(&v.url, &v.options, v.lock.map(lock_rule))?.with_class(v.storage_class))
}

/// Opens a vault of the policy with its key file, or with the recovery copy and the passphrase.
pub async fn open_vault(v: &policy::Vault) -> Result<Vault> {
    let store = open_store(v)?;
    let keys = match &v.key_file {
        Some(path) => Keys::parse(read_secret(path)?.expose_bytes()).map_err(|e| match e {
            holdfast_vault::VaultError::KeyFile(what) => {
                holdfast_vault::VaultError::KeyFile(format!("`{}`: {what}", path.display()))
            }
            other => other,
        })?,
        None => {
            let Some(path) = &v.passphrase_file else {
                return Err(EngineError::usage(
                    format!("the vault `{}` has neither key-file nor passphrase-file", v.name),
                    "add `key-file` to the vault in the policy",
                ));
            };
            keys_by_passphrase(&store, &passphrase(path)?).await?
        }
    };
    Ok(Vault::open(store, keys).await?)
}

/// A passphrase from a file, its last newline not counted.
pub fn passphrase(path: &Path) -> Result<Secret> {
    let bytes = read_secret(path)?;
    let text = bytes.expose_bytes();
    let end = text.iter().rposition(|b| *b != b'\n' && *b != b'\r').map_or(0, |i| i + 1);
    if end == 0 {
        return Err(EngineError::usage(
            format!("`{}` holds no passphrase", path.display()),
            "write it on its first line",
        ));
    }
    Ok(Secret::new(text.get(..end).unwrap_or(text)))
}

/// The keys from the recovery copy that is stored in the vault.
pub async fn keys_by_passphrase(store: &Store, passphrase: &Secret) -> Result<Keys> {
    let descriptor = Vault::describe(store).await?;
    let copies: Vec<_> =
        store.list("keys").await?.into_iter().filter(|l| l.name.ends_with(".recovery")).collect();
    let Some(newest) = copies.last() else {
        return Err(EngineError::not_found(
            "the vault holds no recovery copy of its keys",
            "use the key file; make a copy with `holdfast key passphrase`",
        ));
    };
    let text = store.get(&newest.name).await?;
    Ok(holdfast_vault::passphrase::unwrap(&text, passphrase, &descriptor.id)?)
}
