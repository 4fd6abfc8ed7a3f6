//! What this host remembers outside of any vault: locks, the owner token, spooled WAL.
//!
//! `state-dir` holds nothing that a vault or the policy could not bring back. Files are written to a
//! temporary name, fsynced and renamed.

use crate::error::{EngineError, Result};
use holdfast_core::DatabaseName;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The state folder of this host.
#[derive(Debug, Clone)]
pub struct State {
    dir: PathBuf,
}

/// Held while a run goes on; the kernel lets go of it when the process dies, however it dies.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

/// Writes `bytes` to `path` so that it holds the old or the new content, whatever happens.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let tmp = path.with_extension(format!("tmp-{:08x}", rand::random::<u32>()));
    let result = (|| {
        let mut f = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&tmp)?;
        f.write_all(bytes)?;
        f.sync_all()?;
        std::fs::rename(&tmp, path)?;
        sync_dir(path.parent().unwrap_or(Path::new(".")))
    })();
    if result.is_err() {
        let _ = std::fs::remove_file(&tmp);
    }
    result.map_err(EngineError::io("write", path))
}

/// Makes names in a directory durable.
pub fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

impl State {
    pub fn open(dir: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&dir).map_err(EngineError::io("make the state directory", &dir))?;
        Ok(State { dir })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Made by root, it is the server's user's all the same: `wal push` and `wal get` write there. What
    /// has another owner already stays as it is.
    pub fn give_to(&self, (uid, gid): (u32, u32)) {
        let mut all = vec![self.dir.clone()];
        all.extend(std::fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|e| e.path()));
        for path in all {
            if std::fs::symlink_metadata(&path).is_ok_and(|m| m.uid() == 0 && uid != 0) {
                let _ = std::os::unix::fs::lchown(&path, Some(uid), Some(gid));
            }
        }
    }

    fn sub(&self, name: &str) -> Result<PathBuf> {
        let d = self.dir.join(name);
        std::fs::create_dir_all(&d).map_err(EngineError::io("make the directory", &d))?;
        Ok(d)
    }

    /// One run per database at a time on this host.
    pub fn lock_run(&self, db: &DatabaseName) -> Result<RunLock> {
        self.lock_one(&format!("{db}.run"), "run", db)
    }

    /// One verification of a managed database at a time on this host. It lasts hours and changes nothing of the
    /// database: backups, copies and a recovery go on beside it.
    pub fn lock_verify(&self, db: &DatabaseName) -> Result<RunLock> {
        self.lock_one(&format!("{db}.verify"), "verification", db)
    }

    fn lock_one(&self, name: &str, what: &str, db: &DatabaseName) -> Result<RunLock> {
        let path = self.sub("lock")?.join(name);
        match self.try_lock(&path)? {
            Some(file) => Ok(RunLock { _file: file }),
            None => {
                let who = std::fs::read_to_string(&path).unwrap_or_default();
                Err(EngineError::Busy {
                    what: format!("another {what} of `{db}` is going on ({})", who.trim()),
                    hint: "wait until it has ended; it holds its lock only while it lives".into(),
                })
            }
        }
    }

    /// A lock that is only tried: `None` if somebody has it.
    pub fn try_lock_named(&self, name: &str) -> Result<Option<RunLock>> {
        let path = self.sub("lock")?.join(name);
        Ok(self.try_lock(&path)?.map(|file| RunLock { _file: file }))
    }

    fn try_lock(&self, path: &Path) -> Result<Option<File>> {
        let io = |e| EngineError::io("lock", path)(e);
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(io(e.into())),
        }
        let mut f = &file;
        let _ = file.set_len(0);
        let _ = writeln!(f, "pid {} since {}", std::process::id(), jiff::Timestamp::now());
        Ok(Some(file))
    }

    /// Who this host is to a vault: a hash of a random token kept here, the machine's id, and the
    /// data directory itself (path and inode). A copy of the data directory, on this machine or
    /// another, is somebody else (traps §3.5).
    pub fn owner_token(&self, db: &DatabaseName, data_dir: &Path) -> Result<String> {
        let path = self.sub("owner")?.join(format!("{db}.token"));
        let random = match std::fs::read_to_string(&path) {
            Ok(t) if t.trim().len() == 32 => t.trim().to_string(),
            Ok(_) => {
                return Err(EngineError::refused(
                    "the owner token is damaged",
                    format!("remove `{}` and run `holdfast wal adopt`", path.display()),
                ));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let fresh = format!("{:032x}", rand::random::<u128>());
                let own = path.with_extension(format!("{:08x}.new", rand::random::<u32>()));
                write_atomic(&own, fresh.as_bytes(), 0o600)?;
                // A backup and the first push may both be here. A link, unlike a rename, replaces nothing: one
                // of them makes the token, and what is on disk counts for both.
                let made = std::fs::hard_link(&own, &path);
                let _ = std::fs::remove_file(&own);
                match made {
                    Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                        return Err(EngineError::io("write", &path)(e));
                    }
                    _ => sync_dir(path.parent().unwrap_or(Path::new(".")))
                        .map_err(EngineError::io("write", &path))?,
                }
                std::fs::read_to_string(&path).map_err(EngineError::io("read", &path))?.trim().to_string()
            }
            Err(e) => return Err(EngineError::io("read", &path)(e)),
        };
        let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        let real = data_dir.canonicalize().map_err(EngineError::io("look up", data_dir))?;
        let meta = std::fs::metadata(&real).map_err(EngineError::io("look up", &real))?;
        let text = format!("{random}\n{}\n{}\n{}", machine.trim(), real.display(), meta.ino());
        Ok(holdfast_vault::vault::hex(
            holdfast_vault::digest::plain_hash(text.as_bytes()).get(..16).unwrap_or(&[]),
        ))
    }

    /// Which machine and state directory this is: two that agree share their run locks.
    pub fn agent(&self) -> String {
        let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        let dir = self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone());
        let text = format!("{}\n{}\n{}", hostname(), machine.trim(), dir.display());
        let hash = holdfast_vault::digest::plain_hash(text.as_bytes());
        holdfast_vault::vault::hex(hash.get(..16).unwrap_or(&[]))
    }

    /// Where prefetched segments of one cluster wait. Outside of any data directory (trap 36). Another
    /// place after each boot: what was spooled before a power cut was never made durable, and may be
    /// anything.
    pub fn spool(&self, db: &DatabaseName, cluster: &str) -> Result<PathBuf> {
        self.sub(&format!("spool/{db}/{cluster}/{}", boot()))
    }
}

/// Names this run of the kernel (random(4)); the same everywhere if it cannot be told.
fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let short: String = id.chars().filter(char::is_ascii_hexdigit).take(12).collect();
    if short.is_empty() { "boot".into() } else { short }
}

/// This host's name.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_locks_out_the_next_and_a_copy_is_somebody_else() {
        let t = tempfile::tempdir().unwrap();
        let s = State::open(t.path().join("state")).unwrap();
        let db: DatabaseName = "orders".parse().unwrap();
        let lock = s.lock_run(&db).unwrap();
        let again = s.lock_run(&db).unwrap_err();
        assert_eq!(again.exit_code(), holdfast_core::ExitCode::Busy);
        drop(lock);
        s.lock_run(&db).unwrap();
        let (a, b) = (t.path().join("a"), t.path().join("b"));
        std::fs::create_dir(&a).unwrap();
        std::fs::create_dir(&b).unwrap();
        assert_eq!(s.owner_token(&db, &a).unwrap(), s.owner_token(&db, &a).unwrap());
        assert_ne!(s.owner_token(&db, &a).unwrap(), s.owner_token(&db, &b).unwrap());
    }
}
