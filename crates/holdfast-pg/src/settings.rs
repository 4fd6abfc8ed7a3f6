//! The settings of a connection, by libpq's names: from the conninfo, a service file and the environment.
//!
//! What the conninfo leaves out comes from the service that it (or PGSERVICE) names, then from the PG…
//! variables, as in libpq (PostgreSQL docs, "Environment Variables", "The Connection Service File").
//! A password stands in a service file, a password file or PGPASSWORD, never in the policy. A setting
//! that is not known is an error, and so is one that would ask for more safety than is given.

use crate::error::{PgError, Result};
use holdfast_core::conninfo;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Settings by name; none is empty.
#[derive(Clone, Default)]
pub struct Settings(BTreeMap<String, String>);

impl std::fmt::Debug for Settings {
    // One of them may be a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// What sessions here understand.
const KNOWN: [&str; 24] = [
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "options",
    "passfile",
    "password",
    "port",
    "service",
    "servicefile",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// What changes nothing that matters to a backup's session.
const WITHOUT_EFFECT: [&str; 8] = [
    "application_name",
    "client_encoding",
    "fallback_application_name",
    "gsslib",
    "krbsrvname",
    "gssdelegation",
    "sslcompression",
    "sslsni",
];

/// What would ask for more safety than is given here: refused.
const ASKS_FOR_MORE: [&str; 7] = [
    "require_auth",
    "requirepeer",
    "sslcertmode",
    "sslcrl",
    "sslcrldir",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
];

/// Variables for settings that nobody gave.
const VARIABLES: [(&str, &str); 23] = [
    ("PGREQUIREAUTH", "require_auth"),
    ("PGREQUIREPEER", "requirepeer"),
    ("PGSSLCRL", "sslcrl"),
    ("PGSSLCRLDIR", "sslcrldir"),
    ("PGSSLCERTMODE", "sslcertmode"),
    ("PGSSLMINPROTOCOLVERSION", "ssl_min_protocol_version"),
    ("PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version"),
    ("PGGSSENCMODE", "gssencmode"),
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGUSER", "user"),
    ("PGDATABASE", "dbname"),
    ("PGPASSWORD", "password"),
    ("PGPASSFILE", "passfile"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
];

pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

fn bad(what: impl Into<String>) -> PgError {
    PgError::Conninfo(what.into())
}

impl Settings {
    /// Reads a conninfo, the service that it names, and the environment.
    pub fn read(text: &str) -> Result<Self> {
        let pairs = match text.trim() {
            "" => Some(Vec::new()),
            t if t.contains("://") => conninfo::url(t),
            t => conninfo::keyword_value(t),
        };
        let pairs = pairs.ok_or_else(|| bad("it is neither a url nor a list of key=value"))?;
        if pairs.iter().any(|(k, v)| k == "password" && !v.is_empty()) {
            return Err(bad("it holds a password"));
        }
        let mut s = Settings::default();
        s.add(pairs, "it")?;
        if let Some(service) = s.get("service").map(str::to_string).or_else(|| env("PGSERVICE")) {
            s.service(&service)?;
        }
        let given = VARIABLES.into_iter().filter_map(|(var, name)| Some((name.to_string(), env(var)?)));
        s.add(given.collect(), "the environment")?;
        Ok(s)
    }

    /// Takes what is not there yet.
    fn add(&mut self, pairs: Vec<(String, String)>, whence: &str) -> Result<()> {
        let mut new = BTreeMap::new();
        for (k, v) in pairs {
            match k.as_str() {
                k if KNOWN.contains(&k) => {}
                k if WITHOUT_EFFECT.contains(&k) => continue,
                "gssencmode" if v != "require" => continue,
                "gssencmode" => return Err(bad("gssencmode=require is not supported; use tls (sslmode)")),
                "sslcertmode" if v == "allow" => continue,
                k if ASKS_FOR_MORE.contains(&k) && !v.is_empty() => {
                    return Err(bad(format!("{whence} sets {k}, which is not supported")));
                }
                k if ASKS_FOR_MORE.contains(&k) => continue,
                k => return Err(bad(format!("{whence} has the setting `{k}`, which nobody knows"))),
            }
            if !v.is_empty() {
                // Of two the later one, as in libpq.
                new.insert(k, v);
            }
        }
        for (k, v) in new {
            self.0.entry(k).or_insert(v);
        }
        Ok(())
    }

    /// The section of a service in the user's file, else in the system's.
    fn service(&mut self, name: &str) -> Result<()> {
        let own =
            self.get("servicefile").map(PathBuf::from).or_else(|| env("PGSERVICEFILE").map(PathBuf::from));
        let own = own.or_else(|| home().map(|h| h.join(".pg_service.conf")));
        // Where Debian's packages look.
        let system = env("PGSYSCONFDIR").unwrap_or_else(|| "/etc/postgresql-common".into());
        for file in own.into_iter().chain([Path::new(&system).join("pg_service.conf")]) {
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            if let Some(pairs) = section(&text, name) {
                return self.add(pairs, &format!("service `{name}`"));
            }
        }
        Err(bad(format!("no service file has a section [{name}]")))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn parse<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let wrong = |_| bad(format!("its {name} is not a number"));
        self.get(name).map(|v| v.parse().map_err(wrong)).transpose()
    }
}

/// The lines of `[name]` in a service file.
fn section(text: &str, name: &str) -> Option<Vec<(String, String)>> {
    let mut lines = text.lines().map(str::trim).skip_while(|l| *l != format!("[{name}]"));
    lines.next()?;
    let pairs = lines.take_while(|l| !l.starts_with('[')).filter(|l| !l.is_empty() && !l.starts_with('#'));
    Some(pairs.filter_map(|l| l.split_once('=')).map(|(k, v)| (k.trim().into(), v.trim().into())).collect())
}

pub(crate) fn home() -> Option<PathBuf> {
    env("HOME").map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_known_or_refused() {
        let read = |t: &str| Settings::read(t).map_err(|e| e.to_string());
        let s = read("host=db1 sslmode=verify-full sslrootcert=/ca.pem application_name=x gssencmode=prefer")
            .unwrap();
        assert_eq!((s.get("host"), s.get("sslmode")), (Some("db1"), Some("verify-full")));
        assert_eq!(s.get("application_name"), None);
        for (text, part) in [
            ("host=x password=y", "holds a password"),
            ("host=x sslcrl=/y", "sslcrl, which is not supported"),
            ("host=x gssencmode=require", "gssencmode"),
            ("host=x require_auth=scram-sha-256", "require_auth"),
            ("host=x sslmod=require", "`sslmod`"),
            ("host=x service=nosuch-service servicefile=/nonexistent", "[nosuch-service]"),
            ("what is this", "neither"),
        ] {
            let e = read(text).unwrap_err();
            assert!(e.contains(part) && !e.contains("password=y"), "{text}: {e}");
        }
    }

    #[test]
    fn services_fill_what_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("services");
        let text =
            "# ours\n[other]\nhost=no\n\n[orders]\nhost = db7\nport=5433\npassword=secret\n[last]\nhost=x\n";
        std::fs::write(&file, text).unwrap();
        let s = Settings::read(&format!("service=orders servicefile={} port=6000", file.display())).unwrap();
        assert_eq!(
            (s.get("host"), s.get("port"), s.get("password")),
            (Some("db7"), Some("6000"), Some("secret"))
        );
        assert!(!format!("{s:?}").contains("secret"));
    }
}
