//! What is protected: [`Database`] and its [`Source`].

use super::file::{DatabaseSection, Text, list};
use super::locate::nearest;
use super::managed::ManagedDatabase;
use super::resolve::Resolver;
use crate::conninfo::keyword_value;
use crate::id::DatabaseName;
use std::fmt;
use std::path::PathBuf;

/// `[databases.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Database {
    pub name: DatabaseName,
    pub source: Source,
    /// The plan in [`super::Policy::policies`], or of a managed database in
    /// [`super::Policy::managed_plans`]; it exists.
    pub policy: String,
    /// Where the server's files are, when it is not what the server itself says.
    pub data_directory: Option<PathBuf>,
    /// Backups come over the replication protocol: the server's files are on another host.
    pub remote: bool,
    /// Where `postgres` and its companions are; `None` means the running server's own.
    pub bin_dir: Option<PathBuf>,
    /// The hosts that may push WAL. Empty: the first one that does, until `wal adopt`.
    pub members: Vec<String>,
    /// See [`Database::vaults`].
    pub vault_names: Vec<String>,
    /// What only managed databases have; there exactly if `source` is one.
    pub managed: Option<ManagedDatabase>,
}

impl Database {
    /// The vaults that its tiers name, then those that its copies go to, each once; all vaults when its
    /// policy has no tiers.
    pub fn vaults(&self) -> &[String] {
        &self.vault_names
    }
}

/// Where the data lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A PostgreSQL cluster that we can reach: a libpq URL or `key=value` string, without password.
    Postgres {
        conninfo: String,
    },
    Rds {
        region: String,
        id: String,
    },
    Aurora {
        region: String,
        id: String,
    },
    DocDb {
        region: String,
        id: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Postgres { conninfo } => f.write_str(conninfo),
            Source::Rds { region, id } => write!(f, "rds://{region}/{id}"),
            Source::Aurora { region, id } => write!(f, "aurora://{region}/{id}"),
            Source::DocDb { region, id } => write!(f, "docdb://{region}/{id}"),
        }
    }
}

/// A message and a hint. Neither ever repeats the source: it may hold a password.
pub(super) type Refusal = (String, String);

const EXAMPLE: &str = "Write for example \
    `postgresql:///?host=/run/postgresql&user=postgres` or `rds://us-east-1/shop`.";

impl Source {
    /// Reads and checks a source as the policy writes it.
    pub(super) fn parse(text: &str) -> Result<Source, Refusal> {
        let Some((scheme, rest)) = text.split_once("://").filter(|(s, _)| is_scheme(s)) else {
            let keys = keyword_value(text).ok_or_else(|| {
                ("this is neither a URL nor a libpq connection string".to_string(), EXAMPLE.to_string())
            })?;
            refuse_secrets(&keys)?;
            return Ok(Source::Postgres { conninfo: text.to_string() });
        };
        let managed = |make: fn(String, String) -> Source| {
            let named = |s: &str| {
                !s.is_empty() && s.len() <= 63 && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            };
            match rest.trim_end_matches('/').split_once('/') {
                Some((region, id)) if named(region) && named(id) => Ok(make(region.into(), id.into())),
                _ => Err((
                    format!("a {scheme} source is a region and an identifier"),
                    format!("Write for example `{scheme}://us-east-1/shop`."),
                )),
            }
        };
        match scheme {
            "postgresql" | "postgres" => {
                url_has_no_secret(rest)?;
                Ok(Source::Postgres { conninfo: text.to_string() })
            }
            "rds" => managed(|region, id| Source::Rds { region, id }),
            "aurora" => managed(|region, id| Source::Aurora { region, id }),
            "docdb" => managed(|region, id| Source::DocDb { region, id }),
            other => {
                let known = ["postgresql", "rds", "aurora", "docdb"];
                Err((
                    format!("`{other}://` is not a kind of source"),
                    match nearest(other, known) {
                        Some(k) => format!("Did you mean `{k}://`?"),
                        None => format!("The kinds of source are {}.", list(&known)),
                    },
                ))
            }
        }
    }
}

pub(super) fn is_scheme(s: &str) -> bool {
    s.starts_with(|c: char| c.is_ascii_alphabetic())
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// The settings of libpq whose value is a secret
/// (<https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-PARAMKEYWORDS>).
const SECRET_SETTINGS: [&str; 5] =
    ["password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"];

fn password_refused(what: &str) -> Refusal {
    (
        format!("{what} does not belong in the policy file"),
        "Put it into a password file (PGPASSFILE, or ~/.pgpass) or a service file (`service=NAME`, \
         PGSERVICEFILE) that only its owner can read."
            .into(),
    )
}

fn refuse_secrets(pairs: &[(String, String)]) -> Result<(), Refusal> {
    match pairs.iter().find(|(k, v)| SECRET_SETTINGS.contains(&k.as_str()) && !v.is_empty()) {
        Some((k, _)) if k == "password" => Err(password_refused("a password")),
        Some((k, _)) => Err(password_refused(&format!("`{k}`"))),
        None => Ok(()),
    }
}

/// `rest` is what follows `postgresql://`. Not the `url` crate: it refuses what libpq accepts
/// (several hosts, sockets as `%2Frun`).
fn url_has_no_secret(rest: &str) -> Result<(), Refusal> {
    // As libpq does it: credentials end at the first `@` before the first `/`.
    let authority = rest.split('/').next().unwrap_or("");
    if let Some((credentials, _)) = authority.split_once('@')
        && let Some((_, password)) = credentials.split_once(':')
        && !password.is_empty()
    {
        return Err(password_refused("a password"));
    }
    let query = rest.split_once('?').map_or("", |(_, q)| q);
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes())
        .map(|(k, v)| (k.into_owned(), v.into_owned()))
        .collect();
    refuse_secrets(&pairs)
}

impl Resolver<'_> {
    /// `vault_names` is filled in by the caller, who knows the plans.
    pub(super) fn database(&mut self, name: &Text, w: &DatabaseSection) -> Option<Database> {
        let id = match name.get_ref().parse::<DatabaseName>() {
            Ok(id) => Some(id),
            Err(e) => {
                self.problem(
                    name.span(),
                    format!("`{}` is not a valid {}", e.value, e.what),
                    sentence(e.rule),
                );
                None
            }
        };
        let path = ["databases", name.get_ref()];
        let source = match &w.source {
            None => {
                self.missing(&path, "source", name.span(), EXAMPLE);
                None
            }
            Some(text) => match Source::parse(&text.get_ref().0) {
                Ok(source) => Some(source),
                Err((message, hint)) => {
                    self.problem(text.span(), message, hint);
                    None
                }
            },
        };
        let policy = match &w.policy {
            None => {
                let names = self.policies.clone();
                let hint = match names.first() {
                    Some(first) => format!("Write for example `policy = \"{first}\"`."),
                    None => "Add a `[policies.standard]` section and write `policy = \"standard\"`.".into(),
                };
                self.missing(&path, "policy", name.span(), &hint);
                None
            }
            Some(p) => self.known_policy(p),
        };
        let data_directory = self.path(w.data_directory.as_ref());
        let bin_dir = self.path(w.bin_dir.as_ref());
        let remote = match w.method.as_ref().map(|m| (m.get_ref().as_str(), m.span())) {
            None | Some(("local", _)) => false,
            Some(("remote", _)) => true,
            Some((other, span)) => {
                self.problem(
                    span,
                    format!("`{other}` is no way to make a backup"),
                    "Write `local` (holdfast runs on the server's host) or `remote` (over the replication protocol).",
                );
                false
            }
        };
        let mut members = Vec::new();
        for m in &w.members {
            let host = m.get_ref();
            if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c.is_control()) {
                self.problem(
                    m.span(),
                    "this is not a host name",
                    "Write the name that `hostname` prints on the host.",
                );
            } else if members.contains(host) {
                self.problem(m.span(), format!("`{host}` is listed twice"), "Remove one of them.");
            } else {
                members.push(host.clone());
            }
        }
        let managed = source.as_ref().and_then(|s| self.managed_database(name, w, s));
        if let Some(Source::Postgres { .. }) = source {
            self.not_managed(w);
        }
        Some(Database {
            name: id?,
            source: source?,
            policy: policy?,
            data_directory,
            remote,
            bin_dir,
            members,
            vault_names: Vec::new(),
            managed,
        })
    }
}

/// A rule such as "use up to 63 letters" as a hint: "Use up to 63 letters."
pub(super) fn sentence(rule: &str) -> String {
    let mut chars = rule.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).chain(['.']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_read_and_print() {
        for text in [
            "postgresql:///?host=/run/postgresql&port=5432&user=postgres",
            "postgres://holdfast@a:5432,b:5433/app?target_session_attrs=any",
            "postgresql://%2Frun%2Fpostgresql/app",
            "host=/run/postgresql user=postgres",
            "service = orders passfile='/etc/holdfast/it\\'s pass' ",
            "rds://us-east-1/shop",
            "aurora://eu-west-1/shop-cluster",
            "docdb://eu-west-1/docs",
        ] {
            assert_eq!(Source::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn passwords_are_refused_and_not_repeated() {
        for text in [
            "postgresql://me:hunter2@h/db",
            "postgresql://:hunter2@h/db",
            "postgresql://h/db?user=me&password=hunter2",
            "postgresql://h/db?pass%77ord=hunter2",
            "postgresql://h/db?sslpassword=hunter2",
            "postgresql://h?password=hunter2",
            "host=h password=hunter2",
            "host=h password = 'hunter2'",
            "user='a b' password='hunter2 and more'",
            "scram_client_key=hunter2",
        ] {
            let (message, hint) = Source::parse(text).unwrap_err();
            assert!(message.contains("does not belong in the policy file"), "{text}: {message}");
            assert!(hint.contains("PGPASSFILE") && hint.contains("service file"), "{hint}");
            assert!(!message.contains("hunter2") && !hint.contains("hunter2"), "{message} {hint}");
        }
        // None of these has one.
        for text in ["postgresql://me:@h/db", "application_name='password=x' host=h", "passfile=/p host=h"] {
            assert!(Source::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn other_texts_are_not_sources() {
        for text in
            ["", "orders", "=x", "a b=c", "host='open", "rds://us-east-1", "rds:///x", "docdb://r/a/b"]
        {
            assert!(Source::parse(text).is_err(), "{text}");
        }
        let (message, hint) = Source::parse("mysql://me:hunter2@h/db").unwrap_err();
        assert_eq!(message, "`mysql://` is not a kind of source");
        assert_eq!(hint, "The kinds of source are `postgresql`, `rds`, `aurora` and `docdb`.");
        assert_eq!(Source::parse("postgresq://h").unwrap_err().1, "Did you mean `postgresql://`?");
    }
}
