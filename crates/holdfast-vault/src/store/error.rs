//! What a store's answer means: [`store_error`] turns whatever `object_store` says into a
//! [`StoreError`] with one of the few kinds that callers act on.

use crate::error::{StoreError, StoreErrorKind};

/// What an error and its sources say, without addresses and paths: a database may be called `orange`
/// or `credentials`, and its name must not decide what an error means. The code of an S3 error stands
/// between tags, one of which has a slash: it is kept by itself.
pub(super) fn chain_text(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(s) = next {
        text.push_str(": ");
        text.push_str(&s.to_string());
        next = s.source();
    }
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split('<').next()).unwrap_or_default();
    let words = text.split_whitespace().filter(|w| !w.contains('/'));
    words.chain([code]).collect::<Vec<_>>().join(" ")
}

/// True if the store said that a range lies beyond the end of the object: it was cut.
pub(super) fn is_short(text: &str) -> bool {
    // local disk, local disk, memory, any HTTP store, S3, the last two of any HTTP store
    [
        "Requested range was invalid",
        "Out of range of file",
        "Invalid range",
        "Wanted range starting at",
        "InvalidRange",
        "status code: 416",
    ]
    .iter()
    .any(|p| text.contains(p))
        || (text.contains("Requested ") && text.contains(", got "))
}

/// Codes with which stores refuse the credentials themselves, though the status says "forbidden".
const AUTH_CODES: [&str; 7] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "AuthenticationFailed",
    "InvalidAuthenticationInfo",
    "failed to authenticate",
];

pub(super) fn refusal(body: &str) -> StoreErrorKind {
    if AUTH_CODES.iter().any(|c| body.contains(c)) {
        StoreErrorKind::Auth
    } else if body.contains("InvalidObjectState") {
        StoreErrorKind::Archived
    } else {
        StoreErrorKind::Denied
    }
}

fn io_kind(e: &(dyn std::error::Error + 'static)) -> Option<std::io::ErrorKind> {
    let mut next = Some(e);
    while let Some(s) = next {
        if let Some(io) = s.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        next = s.source();
    }
    None
}

pub(crate) fn store_error(op: &'static str, name: &str, e: object_store::Error) -> StoreError {
    use object_store::Error as E;
    use std::io::ErrorKind as Io;
    let kind = match &e {
        E::NotFound { .. } => StoreErrorKind::NotFound,
        E::AlreadyExists { .. } | E::Precondition { .. } => StoreErrorKind::Exists,
        E::PermissionDenied { source, .. } => refusal(&source.to_string()),
        E::Unauthenticated { .. } => StoreErrorKind::Auth,
        E::NotSupported { .. } | E::NotImplemented { .. } => StoreErrorKind::Unsupported,
        _ => match io_kind(&e) {
            Some(Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge) => StoreErrorKind::Full,
            Some(Io::PermissionDenied | Io::ReadOnlyFilesystem) => StoreErrorKind::Denied,
            Some(Io::NotFound) => StoreErrorKind::NotFound,
            // An object where a folder would be: below it there is certainly nothing.
            Some(Io::NotADirectory) if op != "write" => StoreErrorKind::NotFound,
            Some(Io::NotADirectory | Io::IsADirectory) => StoreErrorKind::Unsupported,
            _ => {
                let text = chain_text(&e);
                if text.contains("409 Conflict") {
                    StoreErrorKind::Exists
                } else if text.contains("status code: 403") {
                    // Listings do not say it by type.
                    refusal(&text)
                } else if text.contains("status code: 401")
                    || text.contains("credential")
                    || AUTH_CODES.iter().any(|c| text.contains(c))
                {
                    StoreErrorKind::Auth
                } else if text.contains("501 Not Implemented") {
                    StoreErrorKind::Unsupported
                } else {
                    StoreErrorKind::Transient
                }
            }
        },
    };
    StoreError { op, name: name.to_string(), kind, source: Some(Box::new(e)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Listings give the store's answer as text only.
    #[test]
    fn a_refused_listing_is_told_by_its_code() {
        let kind = |code: &str, bucket: &str| {
            let text = format!(
                "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\" encoding=\"UTF-8\"?>\
                 <Error><Code>{code}</Code><Message></Message><BucketName>{bucket}</BucketName></Error>"
            );
            let source = Box::new(std::io::Error::other(text));
            store_error("list", "db", object_store::Error::Generic { store: "S3", source }).kind
        };
        assert_eq!(kind("SignatureDoesNotMatch", "vault"), StoreErrorKind::Auth);
        assert_eq!(kind("InvalidObjectState", "vault"), StoreErrorKind::Archived);
        assert_eq!(kind("AccessDenied", "vault"), StoreErrorKind::Denied);
        assert_eq!(kind("AccessDenied", "InvalidToken"), StoreErrorKind::Denied);
    }
}
