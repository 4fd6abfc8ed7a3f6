//! The connection: socket, TLS, start-up, authentication, and messages one by one.

use crate::connect::{address, configure};
use crate::error::{PgError, Result};
use crate::settings::Settings;
use crate::tls::Tls;
use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
use bytes::{Buf, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::backend::{ErrorFields, Message};
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, SslMode, SslNegotiation};
use x509_cert::der::Decode;

/// No message of a backup is longer: the server's copies come in pieces of 32 KiB to 1 MiB.
const MAX_MESSAGE: u32 = 64 << 20;
/// Warnings that are kept for the caller.
const MAX_NOTICES: usize = 100;

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An open replication session. Dropped = closed; the server ends an unfinished backup by itself then.
pub struct Replication {
    wire: Box<dyn Duplex>,
    buf: BytesMut,
    at: String,
    notices: Vec<String>,
}

impl std::fmt::Debug for Replication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replication").field("at", &self.at).finish_non_exhaustive()
    }
}

pub(super) fn odd(what: impl Into<String>) -> PgError {
    PgError::Protocol(what.into())
}

fn lost(e: std::io::Error) -> PgError {
    PgError::Lost(e.to_string())
}

/// What the server said with an error or a notice.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub severity: String,
    pub code: String,
    pub message: String,
    pub detail: String,
}

impl Said {
    pub(super) fn read(mut fields: ErrorFields<'_>) -> Result<Self> {
        let mut s = Said::default();
        while let Some(f) = fields.next().map_err(|e| odd(e.to_string()))? {
            let text = String::from_utf8_lossy(f.value_bytes()).into_owned();
            match f.type_() {
                // The severity that is never translated.
                b'V' => s.severity = text,
                b'C' => s.code = text,
                b'M' => s.message = text,
                b'D' => s.detail = text,
                _ => {}
            }
        }
        Ok(s)
    }

    pub(super) fn error(self, what: &str) -> PgError {
        let why = match self.detail.is_empty() {
            true => self.message,
            false => format!("{} ({})", self.message, self.detail),
        };
        // 57P01 … 57P03: the server is being shut down or has crashed.
        match self.code.starts_with("57P") {
            true => PgError::Lost(why),
            false => PgError::Query { what: what.into(), why },
        }
    }
}

impl Replication {
    /// Connects as a walsender, with the settings that a SQL session of this conninfo would have.
    pub async fn connect(conninfo: &str) -> Result<Self> {
        let settings = Settings::read(conninfo)?;
        let config = configure(&settings)?;
        let mut last = None;
        for i in 0..config.get_hosts().len().max(config.get_hostaddrs().len()) {
            let limit = config.get_connect_timeout().copied().unwrap_or(Duration::from_secs(10));
            match tokio::time::timeout(limit, Self::open(&config, &settings, i)).await {
                Ok(Ok(s)) => return Ok(s),
                // A server that answers is the right one.
                Ok(Err(e @ (PgError::Refused { .. } | PgError::Conninfo(_)))) => return Err(e),
                Ok(Err(e)) => last = Some(e),
                Err(_) => last = Some(unreachable(&config, "it does not answer in time")),
            }
        }
        Err(last.unwrap_or_else(|| unreachable(&config, "there is no address")))
    }

    async fn open(c: &Config, settings: &Settings, i: usize) -> Result<Self> {
        let at = address(c);
        let port = c.get_ports().get(i).or(c.get_ports().first()).copied().unwrap_or(5432);
        let host = c.get_hosts().get(i);
        let fail = |e: std::io::Error| unreachable(c, &e.to_string());
        let mut notes = None;
        let wire: Box<dyn Duplex> = match (c.get_hostaddrs().get(i), host) {
            (None, Some(Host::Unix(dir))) => {
                // As in libpq, `sslmode` says nothing about Unix sockets.
                let socket = dir.join(format!(".s.PGSQL.{port}"));
                Box::new(UnixStream::connect(socket).await.map_err(fail)?)
            }
            (addr, host) => {
                let name = match host {
                    Some(Host::Tcp(h)) => h.clone(),
                    _ => addr.map(ToString::to_string).unwrap_or_default(),
                };
                let tcp = match addr {
                    Some(a) => TcpStream::connect((*a, port)).await,
                    None => TcpStream::connect((name.as_str(), port)).await,
                }
                .map_err(fail)?;
                keep_alive(&tcp, c);
                let (wire, binding) = secure(tcp, c, settings, &name).await?;
                notes = binding;
                wire
            }
        };
        let mut s = Replication { wire, buf: BytesMut::with_capacity(1 << 20), at, notices: Vec::new() };
        s.start(c, notes).await?;
        Ok(s)
    }

    pub fn at(&self) -> &str {
        &self.at
    }

    /// Warnings of the server since the last call.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    async fn start(&mut self, c: &Config, binding: Option<Vec<u8>>) -> Result<()> {
        let user = c.get_user().unwrap_or("postgres");
        let mut params = vec![("user", user), ("replication", "true"), ("client_encoding", "UTF8")];
        // A backup takes hours in one command, and the session that holds a slot is idle all the while.
        let options = format!(
            "{} -c statement_timeout=0 -c idle_session_timeout=0",
            c.get_options().unwrap_or_default()
        );
        params.push(("options", options.trim_start()));
        params.extend(c.get_application_name().map(|a| ("application_name", a)));
        let mut out = BytesMut::new();
        frontend::startup_message(params, &mut out).map_err(|e| PgError::Conninfo(e.to_string()))?;
        self.send(&out).await?;
        let mut proved = false;
        loop {
            match self.message().await? {
                Message::AuthenticationOk => {
                    if c.get_channel_binding() == ChannelBinding::Require && !proved {
                        return Err(self.no("the server did not use channel binding"));
                    }
                }
                Message::AuthenticationCleartextPassword => {
                    let password = self.password(c)?;
                    self.answer(&password).await?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(user.as_bytes(), &self.password(c)?, body.salt());
                    self.answer(hash.as_bytes()).await?;
                }
                Message::AuthenticationSasl(body) => {
                    let offers: Vec<String> = body
                        .mechanisms()
                        .map(|m| Ok(m.to_string()))
                        .collect()
                        .map_err(|e| odd(e.to_string()))?;
                    proved = self.scram(c, &offers, binding.clone()).await?;
                }
                Message::ParameterStatus(_) | Message::BackendKeyData(_) => {}
                Message::ReadyForQuery(_) => return Ok(()),
                Message::ErrorResponse(e) => {
                    let said = Said::read(e.fields())?;
                    return Err(self.refused(said, user));
                }
                _ => return Err(self.no("the server asks for a way of authentication that is not supported")),
            }
        }
    }

    fn no(&self, why: &str) -> PgError {
        PgError::Connect { at: self.at.clone(), why: why.into(), auth: true }
    }

    /// What the server says before the session is open, with what to do about it.
    fn refused(&self, said: Said, user: &str) -> PgError {
        let what = format!("postgresql at {} refuses a replication session: {}", self.at, said.message);
        let hint = match said.code.as_str() {
            // No line of pg_hba.conf; `all` as a database does not cover replication.
            "28000" if said.message.contains("pg_hba.conf") => format!(
                "add `host replication {user} ADDRESS scram-sha-256` with the address of this host to \
                 pg_hba.conf and reload it"
            ),
            "42501" => format!("alter role {user} replication"),
            "53300" => "raise max_wal_senders (or max_connections) of the server".to_string(),
            "55000" => "set wal_level of the server to replica".to_string(),
            c if c.starts_with("28") => {
                return PgError::Connect { at: self.at.clone(), why: said.message, auth: true };
            }
            _ => return PgError::Connect { at: self.at.clone(), why: said.message, auth: false },
        };
        PgError::Refused { what, hint }
    }

    fn password(&self, c: &Config) -> Result<Vec<u8>> {
        c.get_password().map(<[u8]>::to_vec).ok_or_else(|| self.no("the server asks for a password"))
    }

    async fn answer(&mut self, password: &[u8]) -> Result<()> {
        let mut out = BytesMut::new();
        frontend::password_message(password, &mut out).map_err(|e| PgError::Conninfo(e.to_string()))?;
        self.send(&out).await
    }

    /// SCRAM-SHA-256; tells whether it was bound to the TLS channel.
    async fn scram(&mut self, c: &Config, offers: &[String], binding: Option<Vec<u8>>) -> Result<bool> {
        let password = self.password(c)?;
        let offered = |m: &str| offers.iter().any(|o| o == m);
        let binding = binding.filter(|_| c.get_channel_binding() != ChannelBinding::Disable);
        let (how, mechanism) = match binding {
            Some(b) if offered(sasl::SCRAM_SHA_256_PLUS) => {
                (sasl::ChannelBinding::tls_server_end_point(b), sasl::SCRAM_SHA_256_PLUS)
            }
            Some(_) => (sasl::ChannelBinding::unrequested(), sasl::SCRAM_SHA_256),
            None => (sasl::ChannelBinding::unsupported(), sasl::SCRAM_SHA_256),
        };
        if !offered(mechanism) {
            return Err(self.no("the server offers no sasl mechanism that is supported"));
        }
        let bound = mechanism == sasl::SCRAM_SHA_256_PLUS;
        let mut scram = sasl::ScramSha256::new(&password, how);
        let mut out = BytesMut::new();
        let wrong = |e: std::io::Error| odd(e.to_string());
        frontend::sasl_initial_response(mechanism, scram.message(), &mut out).map_err(wrong)?;
        self.send(&out).await?;
        match self.message().await? {
            Message::AuthenticationSaslContinue(b) => {
                scram.update(b.data()).map_err(|e| self.no(&e.to_string()))?;
            }
            Message::ErrorResponse(e) => {
                let said = Said::read(e.fields())?;
                return Err(self.no(&said.message));
            }
            _ => return Err(odd("a sasl exchange was broken off")),
        }
        let mut out = BytesMut::new();
        frontend::sasl_response(scram.message(), &mut out).map_err(wrong)?;
        self.send(&out).await?;
        match self.message().await? {
            Message::AuthenticationSaslFinal(b) => {
                scram.finish(b.data()).map_err(|e| self.no(&e.to_string()))?;
                Ok(bound)
            }
            Message::ErrorResponse(e) => {
                let said = Said::read(e.fields())?;
                Err(self.no(&said.message))
            }
            _ => Err(odd("a sasl exchange was broken off")),
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.wire.write_all(bytes).await.map_err(lost)?;
        self.wire.flush().await.map_err(lost)
    }

    /// The next message that is no notice.
    pub(super) async fn message(&mut self) -> Result<Message> {
        loop {
            if let Some(head) = self.buf.get(1..5) {
                let len = head.try_into().map(u32::from_be_bytes).unwrap_or(u32::MAX);
                if !(4..=MAX_MESSAGE).contains(&len) {
                    return Err(odd(format!("a message of {len} bytes")));
                }
                match Message::parse(&mut self.buf).map_err(|e| odd(e.to_string()))? {
                    Some(Message::NoticeResponse(n)) => {
                        let said = Said::read(n.fields())?;
                        if said.severity == "WARNING" && self.notices.len() < MAX_NOTICES {
                            self.notices.push(said.message);
                        }
                        continue;
                    }
                    Some(m) => return Ok(m),
                    None => {}
                }
            }
            if self.wire.read_buf(&mut self.buf).await.map_err(lost)? == 0 {
                return Err(PgError::Lost("the server closed the connection".into()));
            }
        }
    }
}

fn unreachable(c: &Config, why: &str) -> PgError {
    PgError::Connect { at: address(c), why: why.into(), auth: false }
}

/// Best effort: a firewall that forgets an idle session would let the run wait for ever.
fn keep_alive(tcp: &TcpStream, c: &Config) {
    use rustix::net::sockopt;
    let _ = tcp.set_nodelay(true);
    if c.get_keepalives() {
        let _ = sockopt::set_socket_keepalive(tcp, true);
        let _ = sockopt::set_tcp_keepidle(tcp, c.get_keepalives_idle());
        let every = c.get_keepalives_interval().unwrap_or(Duration::from_secs(10));
        let _ = sockopt::set_tcp_keepintvl(tcp, every);
        let _ = sockopt::set_tcp_keepcnt(tcp, c.get_keepalives_retries().unwrap_or(6));
    }
}

/// TLS as the settings ask for it; also what SCRAM binds to.
async fn secure(
    mut tcp: TcpStream,
    c: &Config,
    settings: &Settings,
    name: &str,
) -> Result<(Box<dyn Duplex>, Option<Vec<u8>>)> {
    let plain = settings.get("sslmode") == Some("disable") && settings.get("sslrootcert") != Some("system");
    if plain {
        return Ok((Box::new(tcp), None));
    }
    let tls = Tls::new(settings)?;
    let fail = |why: String| PgError::Connect { at: address(c), why, auth: false };
    if c.get_ssl_negotiation() == SslNegotiation::Postgres {
        let mut out = BytesMut::new();
        frontend::ssl_request(&mut out);
        tcp.write_all(&out).await.map_err(lost)?;
        let mut answer = [0u8];
        tcp.read_exact(&mut answer).await.map_err(lost)?;
        if answer != *b"S" {
            return match tls.mode {
                SslMode::Require => Err(fail("the server does not support tls".into())),
                _ => Ok((Box::new(tcp), None)),
            };
        }
    } else if tls.mode != SslMode::Require {
        return Err(PgError::Conninfo("sslnegotiation=direct asks for sslmode=require or more".into()));
    }
    let server = ServerName::try_from(name.to_string()).map_err(|e| fail(e.to_string()))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls.config));
    let stream = connector.connect(server, tcp).await.map_err(|e| fail(format!("tls: {e}")))?;
    let binding = stream.get_ref().1.peer_certificates().and_then(|c| end_point(c.first()?));
    Ok((Box::new(stream), binding))
}

/// RFC 5929 §4.1: the certificate's digest, with the hash of its own signature.
fn end_point(der: &[u8]) -> Option<Vec<u8>> {
    use x509_cert::der::oid::db::rfc5912 as oid;
    let cert = x509_cert::Certificate::from_der(der).ok()?;
    let hash = match cert.signature_algorithm.oid {
        oid::SHA_1_WITH_RSA_ENCRYPTION | oid::SHA_256_WITH_RSA_ENCRYPTION | oid::ECDSA_WITH_SHA_256 => {
            &SHA256
        }
        oid::SHA_384_WITH_RSA_ENCRYPTION | oid::ECDSA_WITH_SHA_384 => &SHA384,
        oid::SHA_512_WITH_RSA_ENCRYPTION | oid::ECDSA_WITH_SHA_512 => &SHA512,
        _ => return None,
    };
    Some(digest(hash, der).as_ref().to_vec())
}

/// A text that ends with a zero byte, taken off the front.
pub(super) fn take_text(b: &mut bytes::Bytes) -> Result<String> {
    let end = b.iter().position(|c| *c == 0).ok_or_else(|| odd("a text has no end"))?;
    let text = b.split_to(end);
    b.advance(1);
    String::from_utf8(text.to_vec()).map_err(|_| odd("a text is not utf-8"))
}
