//! Sessions with a server.
//!
//! Libpq's habits hold: PGHOST, PGPORT, PGUSER, PGDATABASE fill what the conninfo leaves out, and a
//! password comes from PGPASSWORD or the password file (PGPASSFILE or ~/.pgpass, mode 0600), never
//! from the policy. Keepalives are on, because a firewall that drops an idle backup session hours
//! into a backup has cost people their backups (barman#333).

use crate::error::{PgError, Result};
use std::time::Duration;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls, Row, types::ToSql};

/// An open session. Dropped = closed; the server ends an unfinished backup by itself then.
pub struct Session {
    client: Client,
    at: String,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("at", &self.at).finish_non_exhaustive()
    }
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// Parses a conninfo (URL or `key=value` list) and fills in defaults.
pub fn config(conninfo: &str) -> Result<Config> {
    // tokio-postgres knows neither of them; neither changes what a local session can do.
    let mut c: Config = conninfo.parse().map_err(|e: tokio_postgres::Error| {
        let why = std::error::Error::source(&e).map(|s| s.to_string()).unwrap_or_else(|| e.to_string());
        PgError::Conninfo(why)
    })?;
    if c.get_password().is_some() {
        return Err(PgError::Conninfo("it holds a password".into()));
    }
    if c.get_hosts().is_empty() && c.get_hostaddrs().is_empty() {
        match env("PGHOST") {
            Some(h) => c.host(&h),
            None => c.host("/run/postgresql"),
        };
    }
    if c.get_ports().is_empty() {
        c.port(env("PGPORT").and_then(|p| p.parse().ok()).unwrap_or(5432));
    }
    if c.get_user().is_none() {
        c.user(env("PGUSER").or_else(|| env("USER")).unwrap_or_else(|| "postgres".into()));
    }
    if c.get_dbname().is_none() {
        c.dbname(env("PGDATABASE").unwrap_or_else(|| "postgres".into()));
    }
    if c.get_connect_timeout().is_none() {
        c.connect_timeout(Duration::from_secs(10));
    }
    c.keepalives(true).keepalives_idle(Duration::from_secs(60));
    c.application_name("holdfast");
    if let Some(p) = env("PGPASSWORD").or_else(|| pgpass(&c)) {
        c.password(p);
    }
    Ok(c)
}

/// The password file's line for this session (libpq, fe-connect.c `passwordFromFile`).
fn pgpass(c: &Config) -> Option<String> {
    let file = match env("PGPASSFILE") {
        Some(f) => std::path::PathBuf::from(f),
        None => std::path::PathBuf::from(env("HOME")?).join(".pgpass"),
    };
    let meta = std::fs::metadata(&file).ok()?;
    // As libpq: a file that others can read is ignored.
    if std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o077 != 0 {
        return None;
    }
    let text = std::fs::read_to_string(file).ok()?;
    let host = match c.get_hosts().first()? {
        Host::Tcp(h) => h.clone(),
        Host::Unix(_) => "localhost".into(),
    };
    let port = c.get_ports().first().copied().unwrap_or(5432).to_string();
    let want = [host.as_str(), port.as_str(), c.get_dbname()?, c.get_user()?];
    text.lines().filter(|l| !l.starts_with('#')).find_map(|l| {
        let mut fields = vec![String::new()];
        let mut chars = l.chars();
        while let Some(ch) = chars.next() {
            match ch {
                '\\' => fields.last_mut()?.push(chars.next()?),
                ':' if fields.len() < 5 => fields.push(String::new()),
                ch => fields.last_mut()?.push(ch),
            }
        }
        let fits = fields.len() == 5 && want.iter().zip(&fields).all(|(w, f)| f == "*" || f == w);
        fits.then(|| fields.pop()).flatten()
    })
}

/// The server's address for messages.
pub fn address(c: &Config) -> String {
    let host = match c.get_hosts().first() {
        Some(Host::Tcp(h)) => h.clone(),
        Some(Host::Unix(p)) => p.display().to_string(),
        None => c.get_hostaddrs().first().map(|a| a.to_string()).unwrap_or_default(),
    };
    format!("{host}:{}", c.get_ports().first().copied().unwrap_or(5432))
}

impl Session {
    /// Connects to the database that the conninfo (or the defaults) name.
    pub async fn connect(conninfo: &str) -> Result<Self> {
        Self::open(config(conninfo)?).await
    }

    /// Connects to `database` of the same server.
    pub async fn connect_to(conninfo: &str, database: &str) -> Result<Self> {
        let mut c = config(conninfo)?;
        c.dbname(database);
        Self::open(c).await
    }

    async fn open(c: Config) -> Result<Self> {
        let at = address(&c);
        let (client, connection) = c.connect(NoTls).await.map_err(|e| connect_error(&at, &e))?;
        tokio::spawn(async move {
            // Its error reaches whoever uses the client.
            let _ = connection.await;
        });
        let s = Session { client, at };
        // A backup session idles for hours inside no transaction, and must not be ended for that.
        s.batch(
            "set statement_timeout = 0; set lock_timeout = 0; set idle_session_timeout = 0; \
             set idle_in_transaction_session_timeout = 0; set search_path = pg_catalog; \
             set datestyle = iso; set client_encoding = utf8",
        )
        .await?;
        Ok(s)
    }

    pub fn at(&self) -> &str {
        &self.at
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub async fn batch(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(|e| query_error(sql, &e))
    }

    pub async fn row(&self, sql: &str, args: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        self.client.query_one(sql, args).await.map_err(|e| query_error(sql, &e))
    }

    pub async fn rows(&self, sql: &str, args: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        self.client.query(sql, args).await.map_err(|e| query_error(sql, &e))
    }

    /// One text value, the first column of the only row.
    pub async fn text(&self, sql: &str) -> Result<String> {
        let row = self.row(sql, &[]).await?;
        row.try_get::<_, Option<String>>(0).map(Option::unwrap_or_default).map_err(|e| query_error(sql, &e))
    }
}

fn connect_error(at: &str, e: &tokio_postgres::Error) -> PgError {
    let auth = e.code().is_some_and(|c| c.code().starts_with("28"))
        || e.to_string().contains("authentication")
        || e.to_string().contains("password");
    let mut why = e.as_db_error().map(|d| d.message().to_string()).unwrap_or_else(|| e.to_string());
    if e.as_db_error().is_none()
        && let Some(s) = std::error::Error::source(e)
    {
        why = format!("{why}: {s}");
    }
    PgError::Connect { at: at.to_string(), why, auth }
}

fn query_error(sql: &str, e: &tokio_postgres::Error) -> PgError {
    // 57P01 … 57P03: the server is being shut down or has crashed.
    let dead = e.is_closed() || e.code().is_some_and(|c| c.code().starts_with("57P"));
    let why = match e.as_db_error() {
        Some(d) => d.message().to_string(),
        None => match std::error::Error::source(e) {
            Some(s) => format!("{e}: {s}"),
            None => e.to_string(),
        },
    };
    if dead || e.as_db_error().is_none() {
        return PgError::Lost(why);
    }
    PgError::Query { what: sql.split_whitespace().take(8).collect::<Vec<_>>().join(" "), why }
}
