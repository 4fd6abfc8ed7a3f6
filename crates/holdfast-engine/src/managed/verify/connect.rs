//! A connection to the copy: who, with which password, over which TLS.
//!
//! A password comes from Secrets Manager, the environment or a file, or is set anew on the copy, which nobody else
//! uses. It is never written down. TLS is verified in full against the provider's bundle of root certificates, which
//! no system trusts by itself.

use crate::error::{EngineError, Result};
use crate::managed::observed;
use crate::managed::wait::Answer;
use crate::managed::{Managed, restore};
use holdfast_core::Secret;
use holdfast_core::managed::{Database, DocumentError, DocumentLogin, Endpoint, Modification, Region};
use holdfast_pg::PgError;
use holdfast_pg::connect::Session;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// For how long a server that says `available` may not answer: its name has to spread.
const ANSWERS_WITHIN: Duration = Duration::from_secs(300);
/// For one attempt to connect.
const REACHED_WITHIN: Duration = Duration::from_secs(10);
/// For how long a password that was just set may be refused: the provider hands it on.
const FRESH_WITHIN: Duration = Duration::from_secs(180);

const LOGIN: &str = "`user` and its password in [databases.NAME.connect] must be those of the moment that was restored; \
                     --reset-password sets a new one on the copy";
const ROOTS: &str = "`ca-file` in [databases.NAME.connect], or --ca-file FILE, must hold the provider's root certificates \
                     (AWS: global-bundle.pem of the RDS trust store)";

/// Where the password is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Password {
    /// In the secret that RDS manages for the source.
    #[default]
    Managed,
    /// In a secret: the bare password, or JSON with `password` and perhaps `username`.
    Secret { id: String, region: Option<Region> },
    /// In a variable of the environment.
    Env(String),
    /// On the first line of a file.
    File(PathBuf),
    /// Set anew on the copy: no secret of production is touched.
    Reset,
    /// None is needed.
    None,
}

/// How to log in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Login {
    /// The master user, if none is given.
    pub user: Option<String>,
    pub password: Password,
    /// The provider's root certificates, in PEM.
    pub ca_bundle: Option<PathBuf>,
    /// `verify-full`, if none is given.
    pub sslmode: Option<String>,
    /// Where the first session is opened (PostgreSQL); the one that the source names, if none is given.
    pub database: Option<String>,
}

impl Login {
    /// What can be seen to fail before anything is made.
    pub fn check(&self, m: &Managed) -> Result<()> {
        let verifies = self.sslmode.as_deref().is_none_or(|s| s.starts_with("verify-"));
        match &self.ca_bundle {
            None if verifies => {
                return Err(EngineError::usage(
                    "the copy's certificate is to be verified, and no root certificates are given",
                    "download the provider's bundle (AWS: global-bundle.pem of the RDS trust store); give --ca-file FILE, \
                     or `ca-file` in [databases.NAME.connect]",
                ));
            }
            Some(file) if !file.is_file() => {
                return Err(EngineError::usage(
                    format!("there is no file `{}`", file.display()),
                    "give --ca-file FILE with the provider's root certificates",
                ));
            }
            // Seen later it would have cost a copy.
            Some(file) if verifies => holdfast_pg::tls::roots(file)
                .map(drop)
                .map_err(|e| EngineError::usage(format!("the certificates cannot be used: {e}"), ROOTS))?,
            _ => {}
        }
        match &self.password {
            Password::Managed if managed_secret(m)?.is_none() => Err(EngineError::usage(
                format!("RDS manages no secret of `{}`, and no password is named", m.source),
                "write `user` and `password-secret`, `password-env` or `password-file` in [databases.NAME.connect], or give \
                 --reset-password to set one on the copy",
            )),
            Password::Env(name) if std::env::var_os(name).is_none() => Err(EngineError::usage(
                format!("the variable {name}, which should hold the password, is not set"),
                "set it, or write `password-secret` or `password-file` in [databases.NAME.connect]",
            )),
            Password::File(path) if !path.is_file() => Err(EngineError::usage(
                format!("there is no file `{}`, which should hold the password", path.display()),
                "write it, or name `password-secret` or `password-env` in [databases.NAME.connect]",
            )),
            _ => Ok(()),
        }
    }
}

fn managed_secret(m: &Managed) -> Result<Option<String>> {
    Ok(observed::last(m)?.and_then(|seen| seen.database.master_secret))
}

/// Everything to open sessions with.
pub struct Access {
    conninfo: String,
    password: Option<Secret>,
    at: Endpoint,
    user: String,
    ca_bundle: Option<PathBuf>,
    tls: bool,
    /// Up to when a refused login is asked again; `None`: never.
    fresh_until: Option<Instant>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("conninfo", &self.conninfo).finish_non_exhaustive()
    }
}

impl Access {
    /// Finds or sets the password.
    pub async fn new(m: &Managed, plan: &restore::Plan, copy: &Database, login: &Login) -> Result<Self> {
        let (found, named) = password(m, plan, &login.password).await?;
        let user = login.user.clone().or(named).or_else(|| copy.master_user.clone());
        let user = user.unwrap_or_else(|| "postgres".to_string());
        let at = endpoint(copy)?;
        let mut conninfo = format!("host={} port={}", quoted(&at.host), at.port);
        let mut put = |key: &str, value: &str| conninfo.push_str(&format!(" {key}={}", quoted(value)));
        put("user", &user);
        put("sslmode", login.sslmode.as_deref().unwrap_or("verify-full"));
        put("connect_timeout", "10");
        if let Some(file) = &login.ca_bundle {
            put("sslrootcert", &file.display().to_string());
        }
        let tls = login.sslmode.as_deref() != Some("disable");
        let fresh_until = match login.password {
            Password::Reset => Instant::now().checked_add(FRESH_WITHIN.min(m.pace.deadline)),
            _ => None,
        };
        let ca_bundle = login.ca_bundle.clone();
        Ok(Access { conninfo, password: found, at, user, ca_bundle, tls, fresh_until })
    }

    pub(super) fn at(&self) -> &Endpoint {
        &self.at
    }

    /// Whether a login that was refused may be granted in a moment.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh_until.is_some_and(|end| Instant::now() < end)
    }

    /// For DocumentDB.
    ///
    /// # Errors
    /// It lets nobody in without a password.
    pub fn documents(&self) -> Result<DocumentLogin> {
        let Some(password) = self.password.clone() else {
            return Err(EngineError::usage(
                "DocumentDB wants a password, and none is given",
                "write where it is in [databases.NAME.connect]",
            ));
        };
        Ok(DocumentLogin {
            host: self.at.host.clone(),
            port: self.at.port,
            user: self.user.clone(),
            password,
            ca_file: self.ca_bundle.clone(),
            tls: self.tls,
            connect_timeout: Duration::from_secs(5),
        })
    }

    pub async fn open(&self, database: &str) -> Result<Session, PgError> {
        Session::connect_with(&self.conninfo, database, self.password.as_ref()).await
    }

    /// Opens one more. The inner error is the copy's own: it lets nobody into that database.
    ///
    /// # Errors
    /// What says nothing about the copy: the login, the certificates, the way to it.
    pub async fn another(&self, database: &str) -> Result<Result<Session, String>> {
        match self.open(database).await {
            Ok(s) => Ok(Ok(s)),
            Err(e @ (PgError::Connect { auth: true, .. } | PgError::Untrusted { .. })) => Err(self.denied(e)),
            Err(e @ PgError::Connect { .. }) => match reached(&self.at).await {
                Ok(()) => Ok(Err(e.to_string())),
                Err(why) => Err(unreachable(&self.at, &why)),
            },
            Err(e) => Err(e.into()),
        }
    }

    /// Neither a password that is not that of the copy nor a certificate that is not trusted here is a fault of it.
    fn denied(&self, e: PgError) -> EngineError {
        match e {
            PgError::Connect { why, auth: true, .. } => EngineError::Denied {
                what: format!(
                    "the copy could not be looked into: it refuses the login of `{}`: {why}",
                    self.user
                ),
                hint: LOGIN.into(),
            },
            PgError::Untrusted { why, .. } => EngineError::Denied {
                what: format!("the copy could not be looked into: {why}"),
                hint: ROOTS.into(),
            },
            e => e.into(),
        }
    }

    /// The same of DocumentDB.
    pub(super) fn denied_documents(&self, e: DocumentError) -> EngineError {
        let (what, hint) = match e {
            DocumentError::Login(why) => (
                format!("the copy could not be looked into: it refuses the login of `{}`: {why}", self.user),
                LOGIN,
            ),
            DocumentError::Untrusted(why) => (format!("the copy could not be looked into: {why}"), ROOTS),
            e => return EngineError::Documents(e),
        };
        EngineError::Denied { what, hint: hint.into() }
    }

    /// An error of a session that was open: if this host cannot even reach the copy any more, that is what is wrong.
    pub(super) async fn or_unreachable<T>(&self, looked: Result<T>) -> Result<T> {
        let cut = matches!(
            looked,
            Err(EngineError::Pg(PgError::Lost(_) | PgError::Connect { .. })
                | EngineError::Documents(
                    DocumentError::Lost(_) | DocumentError::NoAnswer(_) | DocumentError::TimeUp
                ))
        );
        match cut {
            true => reached(&self.at).await.map_err(|why| unreachable(&self.at, &why)).and(looked),
            false => looked,
        }
    }

    /// Opens one, and asks again while nobody answers there yet. A refused password is final, unless it was just set.
    pub async fn first(&self, m: &Managed, database: &str) -> Result<Session> {
        answering(m, &self.at, async || match self.open(database).await {
            Err(e @ PgError::Connect { auth: true, .. }) if !self.is_fresh() => Err(self.denied(e)),
            Err(e @ PgError::Untrusted { .. }) => Err(self.denied(e)),
            Err(e @ (PgError::Connect { .. } | PgError::Lost(_))) => Ok(Err(e.to_string())),
            Err(e) => Err(e.into()),
            Ok(s) => Ok(Ok(s)),
        })
        .await
    }
}

fn endpoint(copy: &Database) -> Result<Endpoint> {
    copy.endpoint.clone().ok_or_else(|| {
        EngineError::failed(
            format!("`{}` is available and has no endpoint", copy.source),
            "run it again: the provider may not show it yet",
        )
    })
}

/// Whether anything listens there, seen from this host: its name is known, and TCP connects.
async fn reached(at: &Endpoint) -> Result<(), String> {
    let connect = tokio::net::TcpStream::connect((at.host.as_str(), at.port));
    match tokio::time::timeout(REACHED_WITHIN, connect).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err("no answer in time".into()),
    }
}

/// A server that this host cannot reach says nothing about the backup.
fn unreachable(at: &Endpoint, why: &str) -> EngineError {
    EngineError::Unreachable {
        what: format!("the copy cannot be reached from this host ({}:{}): {why}", at.host, at.port),
        hint: "run it inside of the VPC, or with --from-cidr ADDRESS/32 if the copy sees this host under another address"
            .into(),
    }
}

pub(super) async fn answering<T, F>(m: &Managed, at: &Endpoint, mut ask: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Result<T, String>>>,
{
    let begun = Instant::now();
    loop {
        let why = match ask().await? {
            Ok(t) => return Ok(t),
            Err(why) => why,
        };
        if m.monitor.cancelled() {
            return Err(EngineError::Cancelled);
        }
        if begun.elapsed() >= ANSWERS_WITHIN.min(m.pace.deadline) {
            reached(at).await.map_err(|e| unreachable(at, &e))?;
            return Err(EngineError::failed(
                format!("the copy does not answer ({}:{}): {why}", at.host, at.port),
                "it accepts connections and opens no session: its log at the provider says why",
            ));
        }
        m.monitor.phase(&format!("waiting for the copy to answer: {why}"));
        tokio::time::sleep(m.pace.first.min(Duration::from_secs(5))).await;
    }
}

/// The password, and the user that its secret names.
async fn password(
    m: &Managed,
    plan: &restore::Plan,
    from: &Password,
) -> Result<(Option<Secret>, Option<String>)> {
    let secret = async |region: &Region, id: &str| {
        let value = m.cloud.secret(region, id).await?.value;
        Ok::<_, EngineError>(parse(&value))
    };
    match from {
        Password::None => Ok((None, None)),
        Password::Secret { id, region } => secret(region.as_ref().unwrap_or(&m.source.region), id).await,
        Password::Managed => match managed_secret(m)? {
            Some(arn) => secret(&m.source.region, &arn).await,
            None => Err(EngineError::usage(
                "RDS manages no secret of the source any more",
                "write where the password is in [databases.NAME.connect]",
            )),
        },
        Password::Env(name) => match std::env::var(name) {
            Ok(v) => Ok((Some(Secret::new(v)), None)),
            Err(_) => {
                Err(EngineError::usage(format!("the variable {name} is not set or no text"), "export it"))
            }
        },
        Password::File(path) => Ok((Some(crate::context::passphrase(path)?), None)),
        Password::Reset => Ok((Some(reset(m, plan).await?), None)),
    }
}

/// A secret as AWS writes those of databases, or the bare password.
fn parse(value: &Secret) -> (Option<Secret>, Option<String>) {
    let json: Option<serde_json::Value> = serde_json::from_slice(value.expose_bytes()).ok();
    let text = |key: &str| json.as_ref()?.get(key)?.as_str().map(str::to_string);
    match text("password") {
        Some(p) => (Some(Secret::new(p)), text("username")),
        None => (Some(value.clone()), None),
    }
}

/// A new password of the copy's master user, known to this process only.
async fn reset(m: &Managed, plan: &restore::Plan) -> Result<Secret> {
    const LETTERS: &[u8] = b"23456789abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ";
    let text: Vec<u8> =
        (0..32).filter_map(|_| LETTERS.get(rand::random_range(0..LETTERS.len())).copied()).collect();
    let password = Secret::new(text);
    let change = Modification { master_password: Some(password.clone()), ..Modification::default() };
    let copy = &plan.target.source;
    m.pace
        .until(&format!("password of `{copy}`"), &*m.monitor, async || {
            m.cloud.modify(copy, &change).await.map(|_| Answer::Ready(()))
        })
        .await?;
    m.pace
        .until(&format!("`{copy}`"), &*m.monitor, async || {
            // AWS stays `available` for some seconds after the call; what is pending says that it has not begun yet.
            let d = m.cloud.describe(copy).await?;
            if d.pending.iter().any(|p| p == "password") {
                return Ok(Answer::Going("its new password is pending".into()));
            }
            Ok(Answer::of(&d.status, None, ()))
        })
        .await?;
    Ok(password)
}

/// A value for a list of `key=value`.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_as_aws_writes_them() {
        let read = |text: &str| {
            let (p, user) = parse(&Secret::new(text.as_bytes().to_vec()));
            (String::from_utf8(p.unwrap().expose_bytes().to_vec()).unwrap(), user)
        };
        let json = r#"{"username":"app","password":"p'w","engine":"postgres"}"#;
        assert_eq!(read(json), ("p'w".into(), Some("app".into())));
        assert_eq!(read("hunter2"), ("hunter2".into(), None));
        // A bare password that happens to be JSON.
        assert_eq!(read("12345"), ("12345".into(), None));
    }

    #[test]
    fn values_survive_their_quotes() {
        let text = format!("host={} user={}", quoted(r"a\b"), quoted("it's me"));
        let pairs = holdfast_core::conninfo::keyword_value(&text).unwrap();
        assert_eq!(pairs, [("host".into(), r"a\b".to_string()), ("user".into(), "it's me".into())]);
    }
}
