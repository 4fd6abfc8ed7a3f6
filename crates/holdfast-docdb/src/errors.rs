//! The driver's errors, in the words of the port.

use holdfast_core::managed::DocumentError;
use mongodb::error::{Error, ErrorKind};

/// `MaxTimeMSExpired`, `AuthenticationFailed`, `Unauthorized` (error_codes.yml of the server).
const TIME_UP: i32 = 50;
const LOGIN: i32 = 18;
const NOT_ALLOWED: i32 = 13;
const CERTIFICATE: &str = "invalid peer certificate";

pub(crate) fn translate(e: &Error) -> DocumentError {
    match e.kind.as_ref() {
        ErrorKind::Authentication { message, .. } => DocumentError::Login(message.clone()),
        ErrorKind::Command(c) if c.code == TIME_UP => DocumentError::TimeUp,
        ErrorKind::Command(c) if c.code == LOGIN => DocumentError::Login(c.message.clone()),
        ErrorKind::Command(c) if c.code == NOT_ALLOWED => {
            DocumentError::Refused(format!("not allowed: {}", c.message))
        }
        ErrorKind::Command(c) => DocumentError::Refused(format!("{} ({})", c.message, c.code_name)),
        // The driver tells why no server was found as text only; these are the words of rustls.
        ErrorKind::ServerSelection { message, .. } if message.contains(CERTIFICATE) => {
            let why = message.split(CERTIFICATE).nth(1).and_then(|rest| rest.split([',', '}']).next());
            DocumentError::Untrusted(format!("{CERTIFICATE}{}", why.unwrap_or_default().trim_end()))
        }
        ErrorKind::ServerSelection { message, .. } => DocumentError::NoAnswer(message.clone()),
        ErrorKind::DnsResolve { message, .. } => DocumentError::NoAnswer(message.clone()),
        ErrorKind::InvalidTlsConfig { message, .. } => DocumentError::Untrusted(message.clone()),
        ErrorKind::Io(e) if e.kind() == std::io::ErrorKind::TimedOut => DocumentError::TimeUp,
        ErrorKind::Io(e) => DocumentError::Lost(e.to_string()),
        ErrorKind::ConnectionPoolCleared { message, .. } => DocumentError::Lost(message.clone()),
        _ => DocumentError::Refused(e.to_string()),
    }
}
