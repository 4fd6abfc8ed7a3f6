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
use holdfast_core::managed::{Database, Endpoint, Modification, Region};
use holdfast_pg::PgError;
use holdfast_pg::connect::Session;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// For how long a server that says `available` may not answer: its name has to spread.
const ANSWERS_WITHIN: Duration = Duration::from_secs(300);

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
}

impl Login {
    /// What can be seen to fail before anything is made.
    pub fn check(&self, m: &Managed) -> Result<()> {
        let verifies = self.sslmode.as_deref().is_none_or(|s| s.starts_with("verify-"));
        match &self.ca_bundle {
            None if verifies => {
                return Err(EngineError::usage(
                    "the copy's certificate is to be verified, and no root certificates are given",
                    "download the provider's bundle (AWS: global-bundle.pem of the RDS trust store), and give --ca-bundle FILE",
                ));
            }
            Some(file) if !file.is_file() => {
                return Err(EngineError::usage(
                    format!("there is no file `{}`", file.display()),
                    "give --ca-bundle FILE with the provider's root certificates",
                ));
            }
            _ => {}
        }
        match &self.password {
            Password::Managed if managed_secret(m)?.is_none() => Err(EngineError::usage(
                format!("RDS manages no secret of `{}`, and no password is named", m.source),
                "give --password-secret, --password-env or --password-file, or --reset-password to set one on the copy",
            )),
            Password::Env(name) if std::env::var_os(name).is_none() => Err(EngineError::usage(
                format!("the variable {name}, which should hold the password, is not set"),
                "set it, or give --password-secret or --password-file",
            )),
            Password::File(path) if !path.is_file() => Err(EngineError::usage(
                format!("there is no file `{}`, which should hold the password", path.display()),
                "write it, or give --password-secret or --password-env",
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
        let at = endpoint(copy)?;
        let mut conninfo = format!("host={} port={}", quoted(&at.host), at.port);
        let mut put = |key: &str, value: &str| conninfo.push_str(&format!(" {key}={}", quoted(value)));
        put("user", user.as_deref().unwrap_or("postgres"));
        put("sslmode", login.sslmode.as_deref().unwrap_or("verify-full"));
        put("connect_timeout", "10");
        if let Some(file) = &login.ca_bundle {
            put("sslrootcert", &file.display().to_string());
        }
        Ok(Access { conninfo, password: found })
    }

    pub async fn open(&self, database: &str) -> Result<Session, PgError> {
        Session::connect_with(&self.conninfo, database, self.password.as_ref()).await
    }

    /// Opens one, and asks again while nobody answers there yet. A refused password is final.
    pub async fn first(&self, m: &Managed, database: &str) -> Result<Session> {
        answering(m, &self.conninfo, async || match self.open(database).await {
            Err(e @ PgError::Connect { auth: true, .. }) => Err(e.into()),
            Err(e @ (PgError::Connect { .. } | PgError::Lost(_))) => Ok(Err(e.to_string())),
            Err(e) => Err(e.into()),
            Ok(s) => Ok(Ok(s)),
        })
        .await
    }
}

pub fn endpoint(copy: &Database) -> Result<Endpoint> {
    copy.endpoint.clone().ok_or_else(|| {
        EngineError::failed(
            format!("`{}` is available and has no endpoint", copy.source),
            "run it again: the provider may not show it yet",
        )
    })
}

/// Waits until the port of a server answers.
pub async fn port_answers(m: &Managed, at: &Endpoint) -> Result<()> {
    let name = format!("{}:{}", at.host, at.port);
    answering(m, &name, async || {
        let connect = tokio::net::TcpStream::connect((at.host.as_str(), at.port));
        Ok(match tokio::time::timeout(Duration::from_secs(10), connect).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err("no answer within 10 s".to_string()),
        })
    })
    .await
}

async fn answering<T, F>(m: &Managed, what: &str, mut ask: impl FnMut() -> F) -> Result<T>
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
            return Err(EngineError::failed(
                format!("the copy does not answer ({what}): {why}"),
                "the group lets in one address: run this in the same VPC, or give --from-cidr and --public",
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
            None => {
                Err(EngineError::usage("RDS manages no secret of the source any more", "name a password"))
            }
        },
        Password::Env(name) => match std::env::var(name) {
            Ok(v) => Ok((Some(Secret::new(v)), None)),
            Err(_) => Err(EngineError::usage(format!("the variable {name} is not set or no text"), "set it")),
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
            let d = m.cloud.describe(copy).await?;
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
