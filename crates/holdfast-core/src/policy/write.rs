//! Writing policy files: a new one for `holdfast init` ([`NewPolicy::render`]), or one more
//! database in an existing one ([`add_database`]).

use super::env::Lookup;
use super::file::{Reading, read};
use super::locate::Position;
use super::problem::{PolicyError, Problem};
use super::{Policy, file};
use crate::id::DatabaseName;
use std::fmt::Write as _;
use std::path::Path;

/// What `holdfast init` knows when it writes a policy. Paths are text because the file is.
#[derive(Clone, Copy)]
pub struct NewPolicy<'a> {
    pub database: NewDatabase<'a>,
    /// Usually `local`.
    pub vault_name: &'a str,
    pub vault_url: &'a str,
    pub key_file: &'a str,
    /// `None` leaves the default (`state` beside the policy) as a comment.
    pub state_dir: Option<&'a str>,
}

/// A `[databases.NAME]` table to be written.
#[derive(Clone, Copy)]
pub struct NewDatabase<'a> {
    pub name: &'a DatabaseName,
    /// A URL or `key=value` string, without password.
    pub source: &'a str,
    /// The policy it follows. `None`: `standard` if there is one, else the only one there is.
    pub policy: Option<&'a str>,
    pub data_directory: Option<&'a str>,
    pub bin_dir: Option<&'a str>,
}

impl std::fmt::Debug for NewPolicy<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewPolicy({})", self.database.name)
    }
}

impl std::fmt::Debug for NewDatabase<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewDatabase({})", self.name)
    }
}

/// The text of a new policy file; see [`NewPolicy::render`].
pub fn render_new(new: &NewPolicy<'_>) -> String {
    new.render()
}

impl NewPolicy<'_> {
    /// A commented policy with one database, one vault and the policy `standard`. Nothing is
    /// checked here; [`Policy::parse`] says whether the parts were fit.
    pub fn render(&self) -> String {
        let plan = self.database.policy.unwrap_or("standard");
        let vault = string(self.vault_name);
        let mut out = String::from(
            "# Holdfast's policy: what is protected, where it goes, for how long, how it is proven.\n\
             # Check it after a change with `holdfast validate`. It holds no password: use PGPASSFILE or a\n\
             # service file.\n\
             version = 1\n",
        );
        out.push_str(&match self.state_dir {
            Some(dir) => format!("state-dir = {}\n", string(dir)),
            None => {
                "# state-dir = \"state\"                  # spool and owner tokens; beside this file\n".into()
            }
        });
        out.push('\n');
        out.push_str(&self.database.table(plan));
        let _ = write!(
            out,
            "# members = [\"db1\", \"db2\"]            # hosts that may push WAL; default: the first one\n\
             \n\
             [vaults.{name}]\n\
             url = {url}\n\
             # Whoever has this file can read the backups, and without it nobody can: keep a copy elsewhere.\n\
             key-file = {key}\n\
             # compression = \"zstd:1\"               # or \"lz4\", \"none\", \"zstd:3\"\n\
             # sweep-after = \"1d\"                  # an expired point stays so long before it is removed\n\
             \n\
             [policies.{plan_key}]\n\
             rpo = \"5m\"                             # at most this much work may be lost\n\
             rto = \"15m\"                            # at most this long until it serves again\n\
             wal = {{ keep = \"30d\", required = \"any\" }}\n\
             \n\
             [policies.{plan_key}.tiers.daily]\n\
             schedule = \"0 3 * * *\"                 # minute hour day month weekday, in `timezone`\n\
             timezone = \"UTC\"\n\
             kind = \"incremental\"                   # full when there is nothing to build on\n\
             vaults = [{vault}]\n\
             keep = {{ last = 7, daily = 30, weekly = 13, monthly = 12, window = \"30d\", at-least = 2 }}\n\
             \n\
             [policies.{plan_key}.verify]\n\
             level = \"L3\"                           # restored, started and recovered\n\
             every = \"7d\"\n",
            name = key(self.vault_name),
            url = string(self.vault_url),
            key = string(self.key_file),
            plan_key = key(plan),
        );
        out
    }
}

impl NewDatabase<'_> {
    fn table(&self, policy: &str) -> String {
        let mut out = format!(
            "[databases.{}]\nsource = {}\npolicy = {}\n",
            key(self.name.as_str()),
            string(self.source),
            string(policy)
        );
        for (name, value) in [("data-directory", self.data_directory), ("bin-dir", self.bin_dir)] {
            if let Some(v) = value {
                let _ = writeln!(out, "{name} = {}", string(v));
            }
        }
        out
    }
}

/// Adds a database at the end of the policy `text` and keeps everything before it byte for byte.
///
/// Refused when `text` is not a sound policy, when it has a database of that name already, or when
/// the result would not be sound; `origin` is for messages and relative paths.
pub fn add_database(
    text: &str,
    origin: &Path,
    new: &NewDatabase<'_>,
    lookup: Lookup<'_>,
) -> Result<String, PolicyError> {
    let before = Policy::parse_with(text, origin, lookup)?;
    let problem = |at: usize, message: String, hint: &str| {
        let Position { line, column } = Position::of(text, at);
        Problem { file: origin.to_path_buf(), line, column, message, hint: Some(hint.to_string()) }
    };
    if before.databases.contains_key(new.name) {
        let Reading { file, .. } = read(text, lookup);
        let at = file.as_ref().and_then(|f| place_of(f, new.name)).unwrap_or(0);
        let message = format!("database `{}` is already here", new.name);
        return Err(problem(at, message, "Choose another name, or change the section by hand.").into());
    }
    let plan = match new.policy {
        Some(p) => p,
        None => {
            let mut names = before.policies.keys().map(String::as_str);
            match (names.next(), names.next()) {
                _ if before.policies.contains_key("standard") => "standard",
                (Some(only), None) => only,
                _ => {
                    let message = format!("which policy should `{}` follow?", new.name);
                    return Err(problem(text.len(), message, "Name one of the policies in this file.").into());
                }
            }
        }
    };
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut out = text.to_string();
    if !out.is_empty() && !out.ends_with('\n') {
        out.push_str(newline);
    }
    out.push_str(newline);
    out.push_str(&new.table(plan).replace('\n', newline));
    // Also catches `databases = { … }`, to which TOML allows no further table.
    Policy::parse_with(&out, origin, lookup)?;
    Ok(out)
}

fn place_of(file: &file::PolicyFile, name: &DatabaseName) -> Option<usize> {
    file.databases.keys().find(|k| k.get_ref() == name.as_str()).map(|k| k.span().start)
}

/// A TOML string.
fn string(s: &str) -> String {
    toml::Value::from(s).to_string()
}

/// A TOML key, quoted if it must be.
fn key(s: &str) -> String {
    let bare = !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { s.to_string() } else { string(s) }
}
