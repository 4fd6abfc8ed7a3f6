//! TLS to a server, by libpq's `sslmode`.
//!
//! | mode | encrypts | the certificate |
//! |---|---|---|
//! | `disable`, and every Unix socket | no | |
//! | `allow`, `prefer` (default) | if the server does | is not looked at |
//! | `require` | yes, or fails | is not looked at, unless there is a root certificate: then as `verify-ca` |
//! | `verify-ca` | yes | is signed by a root that is trusted |
//! | `verify-full` | yes | that, and names the host |
//!
//! Roots come from `sslrootcert` (a file, or `system`: then always as `verify-full`), else from
//! `~/.postgresql/root.crt`; a certificate of our own from `sslcert` and `sslkey`, else from
//! `~/.postgresql/postgresql.crt` and `.key` (PostgreSQL docs, "SSL Support").

use crate::error::{PgError, Result};
use crate::settings::{Settings, home};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_postgres::config::SslMode;

/// How far a server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Nothing,
    Chain,
    ChainAndName,
}

/// What a session does about TLS.
#[derive(Clone)]
pub struct Tls {
    pub mode: SslMode,
    pub config: ClientConfig,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("mode", &self.mode).finish_non_exhaustive()
    }
}

fn bad(what: impl Into<String>) -> PgError {
    PgError::Conninfo(what.into())
}

fn own(name: &str) -> Option<PathBuf> {
    home().map(|h| h.join(".postgresql").join(name)).filter(|p| p.exists())
}

impl Tls {
    pub fn new(s: &Settings) -> Result<Self> {
        let rootcert = s.get("sslrootcert");
        let roots_given = rootcert.is_some() || own("root.crt").is_some();
        let system = rootcert == Some("system");
        let (mode, check) = match s.get("sslmode") {
            None | Some("verify-full") if system => (SslMode::Require, Check::ChainAndName),
            Some(_) if system => return Err(bad("sslrootcert=system asks for sslmode=verify-full")),
            Some("disable") => (SslMode::Disable, Check::Nothing),
            None | Some("allow" | "prefer") => (SslMode::Prefer, Check::Nothing),
            Some("require") if roots_given => (SslMode::Require, Check::Chain),
            Some("require") => (SslMode::Require, Check::Nothing),
            Some("verify-ca") => (SslMode::Require, Check::Chain),
            Some("verify-full") => (SslMode::Require, Check::ChainAndName),
            Some(other) => {
                return Err(bad(format!(
                    "sslmode `{other}` is none of disable, allow, prefer, require, verify-ca, verify-full"
                )));
            }
        };
        Ok(Tls { mode, config: client(s, check)? })
    }
}

fn client(s: &Settings, check: Check) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Verifier { check, chain: chain(s, check, &provider)?, provider: provider.clone() };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let path = |setting: &str, default: &str| s.get(setting).map(PathBuf::from).or_else(|| own(default));
    let mut config = match (path("sslcert", "postgresql.crt"), path("sslkey", "postgresql.key")) {
        (Some(cert), Some(key)) => {
            let wrong = |p: &Path| format!("`{}` cannot be used", p.display());
            let key_of =
                PrivateKeyDer::from_pem_file(&key).map_err(|e| bad(format!("{}: {e}", wrong(&key))))?;
            builder
                .with_client_auth_cert(certificates(&cert)?, key_of)
                .map_err(|e| bad(format!("{}: {e}", wrong(&cert))))?
        }
        (Some(_), None) => return Err(bad("there is an sslcert and no sslkey")),
        (None, _) => builder.with_no_client_auth(),
    };
    // For sslnegotiation=direct (17 and later); others do not ask.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(config)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = |e: String| bad(format!("`{}` holds no certificates: {e}", file.display()));
    let all: Vec<_> =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(|e| wrong(e.to_string()))?;
    if all.is_empty() { Err(wrong("it has none in pem".into())) } else { Ok(all) }
}

/// The root certificates of a file, in PEM.
///
/// # Errors
/// It cannot be read, has none, or one that is none.
pub fn roots(file: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for c in certificates(file)? {
        roots.add(c).map_err(|e| bad(format!("`{}`: {e}", file.display())))?;
    }
    Ok(roots)
}

/// Checks the chain and the name, if anything is to be checked.
fn chain(
    s: &Settings,
    check: Check,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<WebPkiServerVerifier>>> {
    if check == Check::Nothing {
        return Ok(None);
    }
    if let Some(file) = own("root.crl") {
        return Err(bad(format!("`{}` would be used by libpq, and is not supported here", file.display())));
    }
    let mut roots = RootCertStore::empty();
    match s.get("sslrootcert").map(PathBuf::from).or_else(|| own("root.crt")) {
        Some(file) if file.as_os_str() == "system" => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(file) => roots = self::roots(&file)?,
        None => {
            return Err(bad(
                "sslmode verify-ca and verify-full need a root certificate: sslrootcert=FILE, sslrootcert=system, \
                 or ~/.postgresql/root.crt",
            ));
        }
    }
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    built.map(Some).map_err(|e| bad(format!("no root certificate can be used: {e}")))
}

#[derive(Debug)]
struct Verifier {
    check: Check,
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // The name is judged last, so the chain is good.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.check == Check::Chain => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
