//! Finds and reads the policy file.

use crate::failure;
use holdfast_core::policy::Policy;
use std::path::{Path, PathBuf};

const SYSTEM: &str = "/etc/holdfast/holdfast.toml";
const HERE: &str = "holdfast.toml";

/// The policy file to use: `--config` or HOLDFAST_CONFIG, ./holdfast.toml, /etc/holdfast/holdfast.toml.
pub fn locate(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(p) = given {
        return absolute(p);
    }
    for p in [HERE, SYSTEM] {
        if Path::new(p).is_file() {
            return absolute(Path::new(p));
        }
    }
    Err(failure::usage(
        format!("there is no policy file: neither ./{HERE} nor {SYSTEM}"),
        "run `holdfast init`, or name one with --config or HOLDFAST_CONFIG",
    ))
}

/// Where `init` writes a new one.
pub fn place_for_new(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    absolute(given.unwrap_or(Path::new(HERE)))
}

fn absolute(p: &Path) -> anyhow::Result<PathBuf> {
    Ok(std::path::absolute(p)?)
}

/// What `${NAME}` in a policy stands for; text that is not UTF-8 counts as not set.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub fn read(path: &Path) -> anyhow::Result<Policy> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        let hint = match e.kind() {
            std::io::ErrorKind::NotFound => "run `holdfast init`, or check --config and HOLDFAST_CONFIG",
            _ => "check its permissions: the user that runs holdfast must read it",
        };
        failure::usage(format!("cannot read the policy `{}`: {e}", path.display()), hint)
    })?;
    Ok(Policy::parse_with(&text, path, &variable)?)
}
