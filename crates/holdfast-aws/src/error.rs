//! What AWS's codes mean: [`of_sdk`] for the SDK's errors, [`kind`] for the codes themselves.

use crate::call::On;
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId;
use holdfast_core::managed::{About, ErrorKind, ManagedError};
use std::error::Error;

/// What a code and its message mean. `action` is what was called.
pub(crate) fn kind(action: &str, code: &str, message: &str, status: u16) -> ErrorKind {
    let has = |words: &[&str]| words.iter().any(|w| code.contains(w));
    let lower = message.to_ascii_lowercase();
    if lower.contains("credential should be scoped to a valid region") || has(&["OptInRequired"]) {
        return ErrorKind::WrongRegion;
    }
    // Before "denied": a locked vault says so with either code.
    let shortens = matches!(action, "backup:DeleteRecoveryPoint" | "backup:UpdateRecoveryPointLifecycle");
    if shortens && lower.contains("lock") && status != 404 {
        return ErrorKind::Locked { until: None };
    }
    if has(&["Throttl", "RequestLimitExceeded", "TooManyRequests", "SlowDown", "PriorRequestNotComplete"]) {
        return ErrorKind::Throttled;
    }
    if has(&[
        "InvalidClientTokenId",
        "UnrecognizedClient",
        "ExpiredToken",
        "SignatureDoesNotMatch",
        "InvalidSignature",
        "IncompleteSignature",
        "MissingAuthenticationToken",
        "AuthFailure",
        "InvalidAccessKeyId",
        "RequestExpired",
    ]) {
        return ErrorKind::NoCredentials;
    }
    if has(&[
        "AccessDenied",
        "UnauthorizedOperation",
        "UnauthorizedAccess",
        "NotAuthorized",
        "AuthorizationNotFound",
    ]) {
        return denied(action, message);
    }
    if has(&["KMSKeyNotAccessible"]) {
        return ErrorKind::Denied { action: "kms:CreateGrant".into(), resource: None, principal: None };
    }
    if has(&["QuotaExceeded", "LimitExceeded"]) {
        let which = if message.is_empty() { code } else { message };
        return ErrorKind::QuotaExceeded { which: which.trim_end_matches('.').to_string() };
    }
    if has(&["AlreadyExists", "AlreadyRegistered", "Duplicate", "ResourceExists"]) {
        return ErrorKind::AlreadyExists;
    }
    if is_state(code) {
        return ErrorKind::WrongState { state: state_in(message) };
    }
    if is_missing(action, code) {
        return ErrorKind::NotFound;
    }
    match status {
        400..=499 => ErrorKind::InvalidRequest,
        _ => ErrorKind::Other,
    }
}

/// `InvalidDBInstanceState`, `InvalidDBClusterSnapshotStateFault`, `InvalidResourceStateException` …
fn is_state(code: &str) -> bool {
    let bare = code.trim_end_matches("Fault").trim_end_matches("Exception");
    // Groups and networks do not get better by waiting.
    let lasting = ["VPCNetwork", "SubnetGroup", "ParameterGroup", "SecurityGroup"];
    (bare.starts_with("Invalid") && bare.ends_with("State") && !lasting.iter().any(|w| bare.contains(w)))
        || matches!(
            bare,
            "DependencyViolation" | "InvalidGroup.InUse" | "KMSInvalidState" | "DependencyFailure"
        )
}

/// What the call was about is missing; as opposed to a group or a key that it named.
fn is_missing(action: &str, code: &str) -> bool {
    let bare = code.trim_end_matches("Fault").trim_end_matches("Exception");
    // A source that is gone, or a group that does not exist, makes a creation wrong: its own thing is never there.
    let named_only = ["SubnetGroup", "ParameterGroup", "OptionGroup", "SecurityGroup", "KMSKey"];
    if action.starts_with("rds:") && named_only.iter().any(|n| bare.contains(n)) {
        return action == "rds:DescribeDBSubnetGroups";
    }
    bare.ends_with("NotFound") || bare.starts_with("NoSuch") || bare == "ResourceNotFound"
}

/// The state in texts such as `Instance shop is not in available state` or `… currently in the 'modifying' state`.
fn state_in(message: &str) -> Option<String> {
    let quoted = message.split(['\'', '"', '`', '[', ']']).nth(1);
    let after = ["status: ", "state: ", "status is ", "state is ", "currently in "]
        .iter()
        .find_map(|w| message.split_once(w))
        .and_then(|(_, rest)| rest.split([' ', '.', ',', ')']).next());
    let fits =
        |s: &&str| !s.is_empty() && s.len() < 40 && s.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    after.filter(fits).or(quoted.filter(fits)).map(str::to_string)
}

/// Takes `User: ARN is not authorized to perform: ACTION on resource: ARN because …` apart.
fn denied(action: &str, message: &str) -> ErrorKind {
    let word = |after: &str| {
        let rest = message.split_once(after)?.1.trim_start();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let w = rest.get(..end)?.trim_end_matches(['.', ',']);
        (!w.is_empty()).then(|| w.to_string())
    };
    ErrorKind::Denied {
        action: word("to perform:").unwrap_or_else(|| action.to_string()),
        resource: word("on resource:").or_else(|| word("with an explicit deny on")),
        principal: word("User:"),
    }
}

/// An error of the SDK, told by what can be done about it.
pub(crate) fn of_sdk<E>(on: On<'_>, e: SdkError<E, HttpResponse>) -> ManagedError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let request_id = e.request_id().map(str::to_string);
    let (kind, said, transient) = match &e {
        SdkError::ServiceError(s) => {
            let status = s.raw().status().as_u16();
            let meta = s.err().meta();
            let (code, message) = (meta.code().unwrap_or_default(), meta.message().unwrap_or_default());
            let said = if message.is_empty() { code.to_string() } else { format!("{code}: {message}") };
            (kind(on.action.0, code, message, status), said, status >= 500)
        }
        SdkError::ResponseError(_) => {
            (ErrorKind::Network, "the answer was cut or is not readable".into(), false)
        }
        other => {
            let said = chain(other.source());
            (without_answer(other, &said), said, false)
        }
    };
    ManagedError::new(
        kind,
        About {
            action: on.action.0.to_string(),
            region: on.region.cloned(),
            resource: on.resource.to_string(),
            said,
            request_id,
            transient,
            source: None,
        },
    )
}

/// No answer came: no credentials to ask with, a region that has no address, or the network.
fn without_answer(e: &(dyn Error + 'static), said: &str) -> ErrorKind {
    let mut next = Some(e);
    while let Some(s) = next {
        if s.downcast_ref::<CredentialsError>().is_some() {
            return ErrorKind::NoCredentials;
        }
        next = s.source();
    }
    network_kind(said)
}

/// What a failure to get any answer means.
pub(crate) fn network_kind(said: &str) -> ErrorKind {
    if unresolved(said) { ErrorKind::WrongRegion } else { ErrorKind::Network }
}

/// True if the name of an AWS endpoint does not resolve: there is no such region, or no such service in it. A host
/// without any network says the same; the hint of `WrongRegion` would mislead there, so a name of our own choosing
/// (an endpoint URL) does not count.
fn unresolved(said: &str) -> bool {
    (said.contains("dns error") || said.contains("failed to lookup address"))
        && said.contains("Name or service not known")
}

/// An error and its sources in one line, each once.
pub(crate) fn chain(e: Option<&(dyn Error + 'static)>) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = e;
    while let Some(s) = next {
        // Some print their sources over several lines.
        let text = s.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if !parts.iter().any(|p| p.contains(&text)) {
            parts.push(text);
        }
        next = s.source();
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_taken_apart() {
        let message = "User: arn:aws:iam::123456789012:user/backup is not authorized to perform: rds:CreateDBSnapshot \
                       on resource: arn:aws:rds:us-east-1:123456789012:db:shop because no identity-based policy \
                       allows the rds:CreateDBSnapshot action";
        let kind = kind("rds:CreateDBSnapshot", "AccessDenied", message, 403);
        assert_eq!(
            kind,
            ErrorKind::Denied {
                action: "rds:CreateDBSnapshot".into(),
                resource: Some("arn:aws:rds:us-east-1:123456789012:db:shop".into()),
                principal: Some("arn:aws:iam::123456789012:user/backup".into()),
            }
        );
    }

    #[test]
    fn codes_are_told_apart() {
        let k = |action: &str, code: &str, message: &str, status| kind(action, code, message, status);
        assert_eq!(k("rds:DescribeDBSnapshots", "DBSnapshotNotFound", "", 404), ErrorKind::NotFound);
        assert_eq!(k("rds:DescribeDBClusters", "DBClusterNotFoundFault", "", 404), ErrorKind::NotFound);
        assert_eq!(
            k("rds:RestoreDBInstanceFromDBSnapshot", "DBSubnetGroupNotFoundFault", "", 404),
            ErrorKind::InvalidRequest
        );
        assert_eq!(
            k("rds:DescribeDBSubnetGroups", "DBSubnetGroupNotFoundFault", "", 404),
            ErrorKind::NotFound
        );
        assert_eq!(k("rds:CreateDBSnapshot", "DBSnapshotAlreadyExists", "", 400), ErrorKind::AlreadyExists);
        assert!(matches!(
            k("rds:CreateDBSnapshot", "SnapshotQuotaExceeded", "", 400),
            ErrorKind::QuotaExceeded { .. }
        ));
        assert_eq!(k("ec2:DescribeSecurityGroups", "RequestLimitExceeded", "", 503), ErrorKind::Throttled);
        assert_eq!(
            k(
                "rds:CreateDBSnapshot",
                "InvalidDBInstanceState",
                "Instance shop is currently in modifying state.",
                400
            ),
            ErrorKind::WrongState { state: Some("modifying".into()) }
        );
        assert_eq!(
            k("backup:DeleteRecoveryPoint", "InvalidRequestException", "The vault has a Vault Lock", 400),
            ErrorKind::Locked { until: None }
        );
        assert_eq!(k("rds:DescribeDBInstances", "InvalidClientTokenId", "", 403), ErrorKind::NoCredentials);
        assert_eq!(k("rds:DescribeDBInstances", "InternalFailure", "", 500), ErrorKind::Other);
    }
}
