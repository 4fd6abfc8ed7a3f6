//! `initdb` once per version and options; afterwards a copy.
//!
//! `initdb` takes about a second, a copy a tenth of that. Templates live in
//! `${HOLDFAST_TEST_CACHE:-/tmp/holdfast-test-cache-UID}`, one directory per full server version
//! and set of options, and are made under a file lock, since test processes run in parallel.
//! Clusters copied from one template share its system identifier.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::proc;
use crate::scratch::temp_root;
use crate::user;
use crate::version::PgVersion;

const LIMIT: Duration = Duration::from_secs(300);

/// Runs `initdb` for a new directory `dir` (whose parent the server user may write to).
pub(crate) fn initdb(version: PgVersion, args: &[String], dir: &Path) {
    let mut command = user::command(version.bin("initdb"));
    command.args(["-N", "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "-D"]);
    command.arg(dir).args(args);
    let done = proc::run(&mut command, &[], LIMIT);
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.code, 0, "initdb of PostgreSQL {version} failed: {stderr}");
}

/// Makes `dir` a new data directory, copied from a template.
pub(crate) fn copy(version: PgVersion, args: &[String], dir: &Path) {
    let template = template(version, args);
    let mut command = user::command("cp");
    command.args(["-a", "--reflink=auto"]).arg(&template).arg(dir);
    let done = proc::run(&mut command, &[], LIMIT);
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.code, 0, "copying {} failed: {stderr}", template.display());
}

/// What tests of one user share, and `make clean` removes.
pub fn cache_dir() -> PathBuf {
    let cache = std::env::var_os("HOLDFAST_TEST_CACHE").map_or_else(
        || temp_root().join(format!("holdfast-test-cache-{}", rustix::process::geteuid().as_raw())),
        PathBuf::from,
    );
    fs::create_dir_all(&cache).unwrap_or_else(|e| panic!("create {}: {e}", cache.display()));
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o755)).expect("chmod of our own cache");
    user::chown(&cache);
    cache
}

fn template(version: PgVersion, args: &[String]) -> PathBuf {
    let cache = cache_dir();

    let mut hasher = DefaultHasher::new();
    (version.full_version(), args).hash(&mut hasher);
    let name = format!("pg{version}-{:016x}", hasher.finish());
    let template = cache.join(&name);

    let lock = File::create(cache.join(format!("{name}.lock"))).expect("create a lock file");
    lock.lock().expect("lock the template");
    if !template.exists() {
        // A directory of that name is complete: it appears by the rename.
        let unfinished = cache.join(format!("{name}.new"));
        let _ = fs::remove_dir_all(&unfinished);
        initdb(version, args, &unfinished);
        fs::rename(&unfinished, &template).expect("rename within the cache");
    }
    template
}
