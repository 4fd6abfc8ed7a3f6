//! Sessions with a server.
//!
//! Libpq's habits hold: [`crate::settings`] says where settings come from, [`crate::tls`] what `sslmode`
//! does. Keepalives are on, because a firewall that drops an idle backup session hours into a backup
//! has cost people their backups (barman#333).

use crate::error::{PgError, Result};
use crate::settings::{Settings, env, home};
use crate::tls::Tls;
use holdfast_core::Secret;
use std::time::Duration;
use tokio_postgres::config::{ChannelBinding, Host, SslMode, SslNegotiation, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, Row, types::ToSql};
use tokio_postgres_rustls::MakeRustlsConnect;

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

/// The session that a conninfo (URL or `key=value` list) asks for, with defaults filled in.
pub fn config(conninfo: &str) -> Result<Config> {
    configure(&Settings::read(conninfo)?)
}

pub(crate) fn configure(s: &Settings) -> Result<Config> {
    let bad = |what: &str| PgError::Conninfo(what.to_string());
    let mut c = Config::new();
    // An address without a name still has to be called something, to a certificate for example.
    let hosts = s.get("host").or(s.get("hostaddr")).unwrap_or("/run/postgresql");
    for host in hosts.split(',') {
        c.host(if host.is_empty() { "/run/postgresql" } else { host });
    }
    for address in s.get("hostaddr").into_iter().flat_map(|a| a.split(',')) {
        c.hostaddr(address.parse().map_err(|_| bad("its hostaddr is not an ip address"))?);
    }
    for port in s.get("port").unwrap_or("5432").split(',') {
        c.port(if port.is_empty() {
            5432
        } else {
            port.parse().map_err(|_| bad("its port is not a number"))?
        });
    }
    c.user(s.get("user").map(str::to_string).or_else(|| env("USER")).unwrap_or_else(|| "postgres".into()));
    c.dbname(s.get("dbname").unwrap_or("postgres"));
    let seconds = |name: &str| Ok::<_, PgError>(s.parse(name)?.map(Duration::from_secs));
    c.connect_timeout(
        seconds("connect_timeout")?.filter(|t| !t.is_zero()).unwrap_or(Duration::from_secs(10)),
    );
    c.keepalives(s.get("keepalives") != Some("0"));
    c.keepalives_idle(
        seconds("keepalives_idle")?.filter(|t| !t.is_zero()).unwrap_or(Duration::from_secs(60)),
    );
    if let Some(t) = seconds("keepalives_interval")? {
        c.keepalives_interval(t);
    }
    if let Some(n) = s.parse("keepalives_count")? {
        c.keepalives_retries(n);
    }
    if let Some(ms) = s.parse("tcp_user_timeout")? {
        c.tcp_user_timeout(Duration::from_millis(ms));
    }
    if let Some(options) = s.get("options") {
        c.options(options);
    }
    match s.get("target_session_attrs") {
        None | Some("any" | "prefer-standby") => {}
        Some("read-write" | "primary") => {
            c.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        Some("read-only" | "standby") => {
            c.target_session_attrs(TargetSessionAttrs::ReadOnly);
        }
        Some(_) => return Err(bad("its target_session_attrs is unknown")),
    }
    match s.get("channel_binding") {
        None | Some("prefer") => {}
        Some("disable") => {
            c.channel_binding(ChannelBinding::Disable);
        }
        Some("require") => {
            c.channel_binding(ChannelBinding::Require);
        }
        Some(_) => return Err(bad("its channel_binding is none of disable, prefer, require")),
    }
    match s.get("sslnegotiation") {
        None | Some("postgres") => {}
        Some("direct") => {
            c.ssl_negotiation(SslNegotiation::Direct);
        }
        Some(_) => return Err(bad("its sslnegotiation is neither postgres nor direct")),
    }
    c.application_name("holdfast");
    if let Some(p) = s.get("password").map(str::to_string).or_else(|| pgpass(s, &c)) {
        c.password(p);
    }
    Ok(c)
}

/// The password file's line for this session (libpq, fe-connect.c `passwordFromFile`).
fn pgpass(s: &Settings, c: &Config) -> Option<String> {
    let file = match s.get("passfile") {
        Some(f) => std::path::PathBuf::from(f),
        None => home()?.join(".pgpass"),
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
        let settings = Settings::read(conninfo)?;
        Self::open(configure(&settings)?, &settings).await
    }

    /// Connects to `database` of the same server.
    pub async fn connect_to(conninfo: &str, database: &str) -> Result<Self> {
        let settings = Settings::read(conninfo)?;
        let mut c = configure(&settings)?;
        c.dbname(database);
        Self::open(c, &settings).await
    }

    /// Connects to `database` with a password that comes from elsewhere, such as a secrets manager: a conninfo
    /// never holds one.
    pub async fn connect_with(conninfo: &str, database: &str, password: Option<&Secret>) -> Result<Self> {
        let settings = Settings::read(conninfo)?;
        let mut c = configure(&settings)?;
        c.dbname(database);
        if let Some(p) = password {
            c.password(p.expose_bytes());
        }
        Self::open(c, &settings).await
    }

    async fn open(mut c: Config, settings: &Settings) -> Result<Self> {
        let at = address(&c);
        // As in libpq, `sslmode` says nothing about Unix sockets.
        let local = c.get_hosts().iter().all(|h| matches!(h, Host::Unix(_)));
        let plain =
            settings.get("sslmode") == Some("disable") && settings.get("sslrootcert") != Some("system");
        let client = if local || plain {
            c.ssl_mode(SslMode::Disable);
            let (client, connection) = c.connect(NoTls).await.map_err(|e| connect_error(&at, &e))?;
            drive(connection);
            client
        } else {
            let tls = Tls::new(settings)?;
            c.ssl_mode(tls.mode);
            let tls = MakeRustlsConnect::new(tls.config);
            let (client, connection) = c.connect(tls).await.map_err(|e| connect_error(&at, &e))?;
            drive(connection);
            client
        };
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

/// Runs a connection. Its error reaches whoever uses the client.
fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static) {
    tokio::spawn(async move {
        let _ = connection.await;
    });
}

/// What rustls has against the server's certificate. An `io::Error` hides what it wraps from `source`.
fn certificate(e: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(e);
    while let Some(e) = next {
        let inner = e.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = e.downcast_ref().or_else(|| inner?.downcast_ref());
        if let Some(e @ rustls::Error::InvalidCertificate(_)) = tls {
            return Some(e.to_string());
        }
        next = e.source();
    }
    None
}

fn connect_error(at: &str, e: &tokio_postgres::Error) -> PgError {
    if let Some(why) = certificate(e) {
        return PgError::Untrusted { at: at.to_string(), why };
    }
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
    let what = sql.split_whitespace().take(8).collect::<Vec<_>>().join(" ");
    if e.code() == Some(&SqlState::QUERY_CANCELED) {
        return PgError::Cut { what, why };
    }
    PgError::Query { what, why }
}
