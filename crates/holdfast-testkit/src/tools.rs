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

/// The directory with kubectl; `None`: whatever is in PATH (setup found that the package cannot be had).
pub fn kubectl_dir() -> Option<PathBuf> {
    Some(root().join("kubectl/usr/bin")).filter(|path| path.join("kubectl").exists())
}

/// pgBackRest, the benchmark's peer, if it is there.
pub fn pgbackrest() -> Option<PathBuf> {
    Some(root().join("pgbackrest/usr/bin/pgbackrest")).filter(|path| path.exists())
}

/// Whether this is the long run of `make soak`.
pub fn is_soak() -> bool {
    std::env::var("HOLDFAST_SOAK").is_ok_and(|value| !value.is_empty() && value != "0")
}

/// The main program of a part of `scripts/setup.sh` that only the soak uses. `None`, after one line
/// that says why, outside of the soak and where setup found that the part cannot be had. That it is
/// merely missing is a failure: a soak that leaves out a store unnoticed proves less than it says.
pub fn soak_program(part: &str, program: PathBuf) -> Option<PathBuf> {
    if !is_soak() {
        eprintln!("testkit: SKIPPED, {part} is for the soak (HOLDFAST_SOAK=1)");
        return None;
    }
    if program.exists() {
        return Some(program);
    }
    let stamp = std::fs::read_to_string(root().join(".stamp").join(part)).unwrap_or_default();
    assert_eq!(stamp.trim(), "absent", "{part} is not installed; run scripts/setup.sh {part}");
    eprintln!("testkit: SKIPPED, setup found that {part} cannot be had here");
    None
}
