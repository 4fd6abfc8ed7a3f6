//! A directory of its own for each test.
//!
//! It is owned by the server user, readable by all (mode 755) and removed when the last clone of
//! the [`Scratch`] is dropped; a cluster keeps a clone, so the directory cannot vanish under a
//! running server. `HOLDFAST_KEEP=1` keeps every directory, `HOLDFAST_KEEP_FAILED=1` keeps those of
//! tests that panicked; the path is printed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::user;

/// Socket paths may have 107 bytes, `/name/.s.PGSQL.65535` included: names stay short.
const MAX_NAME: usize = 24;

/// A scratch directory. Clones share it.
#[derive(Debug, Clone)]
pub struct Scratch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: Option<TempDir>,
    path: PathBuf,
}

impl Scratch {
    /// Makes a new, empty directory whose name contains `name`.
    pub fn new(name: &str) -> Scratch {
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(MAX_NAME).collect();
        let root = temp_root();
        let dir = tempfile::Builder::new()
            .prefix(&format!("holdfast-test-{name}-"))
            .tempdir_in(&root)
            .unwrap_or_else(|error| panic!("no scratch directory in {}: {error}", root.display()));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))
            .expect("set the mode of a directory that we just made");
        user::chown(dir.path());
        // Resolved, because servers print resolved paths.
        let path = fs::canonicalize(dir.path()).expect("resolve a directory that we just made");
        Scratch(Arc::new(Inner { dir: Some(dir), path }))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.0.path
    }

    /// A path inside; nothing is created.
    pub fn path(&self, sub: impl AsRef<Path>) -> PathBuf {
        self.0.path.join(sub)
    }

    /// A directory inside, created with its parents and owned by the server user.
    pub fn make_dir(&self, sub: impl AsRef<Path>) -> PathBuf {
        let mut path = self.0.path.clone();
        for part in sub.as_ref().components() {
            path.push(part);
            match fs::create_dir(&path) {
                Ok(()) => user::chown(&path),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("create {}: {error}", path.display()),
            }
        }
        path
    }

    /// Writes a file inside, owned by the server user, creating its directories.
    pub fn write(&self, sub: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let sub = sub.as_ref();
        if let Some(parent) = sub.parent() {
            self.make_dir(parent);
        }
        let path = self.path(sub);
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        user::chown(&path);
        path
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let keep = is_set("HOLDFAST_KEEP") || (failed && is_set("HOLDFAST_KEEP_FAILED"));
        let Some(dir) = self.dir.take() else { return };
        if keep {
            eprintln!("testkit: kept {}", dir.keep().display());
        } else if let Err(error) = dir.close() {
            eprintln!("testkit: could not remove {}: {error}", self.path.display());
        }
    }
}

/// `$TMPDIR` or `/tmp`.
pub fn temp_root() -> PathBuf {
    std::env::temp_dir()
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0")
}
