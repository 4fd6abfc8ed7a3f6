//! Where `scripts/setup.sh` put the programs that tests need.

use std::path::PathBuf;

/// `$HOLDFAST_TOOLS` or `/opt/holdfast-tools`.
pub fn root() -> PathBuf {
    std::env::var_os("HOLDFAST_TOOLS").map_or_else(|| "/opt/holdfast-tools".into(), PathBuf::from)
}

/// The Python of the tools' virtual environment (cryptography, zstandard, lz4, blake3).
pub fn python() -> PathBuf {
    root().join("venv/bin/python")
}

/// A program of the virtual environment, if it is there.
pub fn venv_program(name: &str) -> Option<PathBuf> {
    Some(root().join("venv/bin").join(name)).filter(|path| path.exists())
}

/// A program that npm installed, if it is there.
pub fn node_program(name: &str) -> Option<PathBuf> {
    Some(root().join("node/node_modules/.bin").join(name)).filter(|path| path.exists())
}

/// pgBackRest, the benchmark's peer, if it is there.
pub fn pgbackrest() -> Option<PathBuf> {
    Some(root().join("pgbackrest/usr/bin/pgbackrest")).filter(|path| path.exists())
}
