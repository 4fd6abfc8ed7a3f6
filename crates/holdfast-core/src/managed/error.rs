//! What can go wrong at the provider, by what the caller can do about it.

use super::source::Region;
use std::fmt;

pub type Result<T, E = ManagedError> = std::result::Result<T, E>;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// The provider answered, and there is no such thing (past [`GRACE`](super::GRACE) if we made it just now).
    NotFound,
    /// The name is taken by something that this operation did not make.
    AlreadyExists,
    /// It is being created, modified, deleted … and cannot take this now. The state, if the provider named it.
    WrongState { state: Option<String> },
    /// A limit of the account is used up: which one, in the provider's words.
    QuotaExceeded { which: String },
    /// Credentials are good, but may not do this.
    Denied { action: String, resource: Option<String>, principal: Option<String> },
    /// No credentials were found, or the provider does not know them (any more).
    NoCredentials,
    /// The region does not exist, is not enabled for the account, or does not have the service.
    WrongRegion,
    /// Too many requests, for longer than our retries last.
    Throttled,
    /// The provider, or we, refuse the request as it is.
    InvalidRequest,
    /// A vault lock keeps it; until when, if known.
    Locked { until: Option<jiff::Timestamp> },
    /// No answer: name not resolved, connection refused or cut, time-out, a certificate that does not verify. What
    /// was asked for may have happened: ask again with the same operation.
    Network,
    /// The provider failed (5xx), or said something that we do not know.
    Other,
}

/// A failed call: why, and (through `Deref`) which action, where, on what.
#[derive(Debug)]
pub struct ManagedError {
    pub kind: ErrorKind,
    // Boxed, because results carry it everywhere.
    about: Box<About>,
}

/// What a failed call was about.
#[derive(Debug)]
pub struct About {
    /// In the words of IAM: `rds:CreateDBSnapshot`.
    pub action: String,
    /// `None` for what has no region, such as DNS.
    pub region: Option<Region>,
    /// Identifier or ARN of what it was about.
    pub resource: String,
    /// The provider's code and text, for whoever reads logs: `DBSnapshotNotFound: …`.
    pub said: String,
    /// For AWS support.
    pub request_id: Option<String>,
    /// True when another try may find it otherwise, though the kind does not say so: the provider failed (5xx).
    pub transient: bool,
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl std::ops::Deref for ManagedError {
    type Target = About;
    fn deref(&self) -> &About {
        &self.about
    }
}

impl std::ops::DerefMut for ManagedError {
    fn deref_mut(&mut self) -> &mut About {
        &mut self.about
    }
}

impl ManagedError {
    pub fn new(kind: ErrorKind, about: About) -> Self {
        ManagedError { kind, about: Box::new(about) }
    }

    /// True when the same call may succeed later without anyone doing anything. A [`ErrorKind::WrongState`] is: the
    /// state machine polls it with a deadline.
    pub fn retryable(&self) -> bool {
        self.transient
            || matches!(self.kind, ErrorKind::Throttled | ErrorKind::Network | ErrorKind::WrongState { .. })
    }

    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }

    pub fn is_wrong_state(&self) -> bool {
        matches!(self.kind, ErrorKind::WrongState { .. })
    }

    /// What the user can try.
    pub fn hint(&self) -> Option<String> {
        Some(match &self.kind {
            ErrorKind::NotFound => {
                "Check the identifier and the region; `holdfast list` shows what is there.".into()
            }
            ErrorKind::AlreadyExists => "Choose another name: something else has this one.".into(),
            ErrorKind::WrongState { .. } => {
                "Wait until it is `available`, then run it again; it continues where it was.".into()
            }
            ErrorKind::QuotaExceeded { which } => format!(
                "Delete what is not needed any more, or ask AWS for more ({which}); `holdfast doctor` projects quotas."
            ),
            ErrorKind::Denied { action, resource, .. } => {
                let role = super::iam::role_of(action).map_or("ROLE".to_string(), |r| r.to_string());
                let on = resource.as_deref().unwrap_or("*");
                format!(
                    "Allow `{action}` on `{on}`: `holdfast iam --role {role}` prints the policy. If the policy is \
                     there, look for a permission boundary, an SCP, a vault policy or the key's policy."
                )
            }
            ErrorKind::NoCredentials => {
                "Set AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this host a role; \
                 `holdfast doctor` shows who AWS says we are."
                    .into()
            }
            ErrorKind::WrongRegion => {
                "Check the region in the source; regions opened since 2019 must be enabled for the account."
                    .into()
            }
            ErrorKind::Throttled => {
                "Run it again later; other programs use the same account's request rate.".into()
            }
            ErrorKind::Locked { .. } => "Nothing shortens a lock: it goes when the lock ends.".into(),
            ErrorKind::Network => {
                "Check the network, the proxy and AWS_ENDPOINT_URL, then run it again: nothing is done twice."
                    .into()
            }
            ErrorKind::InvalidRequest | ErrorKind::Other => return None,
        })
    }
}

impl fmt::Display for ManagedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = self.action.split_once(':').map_or(self.action.as_str(), |(_, v)| v);
        write!(f, "{verb} of `{}`", self.resource)?;
        if let Some(region) = &self.region {
            write!(f, " in {region}")?;
        }
        match &self.kind {
            ErrorKind::NotFound => write!(f, ": there is no such thing"),
            ErrorKind::AlreadyExists => write!(f, ": the name is taken"),
            ErrorKind::WrongState { state: Some(s) } => write!(f, ": it is `{s}`"),
            ErrorKind::WrongState { state: None } => write!(f, ": it is in a state that does not allow it"),
            ErrorKind::QuotaExceeded { which } => write!(f, ": the quota is used up: {which}"),
            ErrorKind::Denied { action, resource, principal } => {
                write!(f, ": {} may not `{action}`", principal.as_deref().unwrap_or("this identity"))?;
                match resource {
                    Some(r) => write!(f, " on `{r}`"),
                    None => Ok(()),
                }
            }
            ErrorKind::NoCredentials => write!(f, ": no usable credentials"),
            ErrorKind::WrongRegion => write!(f, ": the region does not exist or is not enabled"),
            ErrorKind::Throttled => write!(f, ": too many requests"),
            ErrorKind::InvalidRequest => write!(f, ": the request was refused"),
            ErrorKind::Locked { until: Some(t) } => {
                write!(f, ": it is locked until {}", crate::time::short(*t))
            }
            ErrorKind::Locked { until: None } => write!(f, ": it is locked"),
            ErrorKind::Network => write!(f, ": no answer"),
            ErrorKind::Other => write!(f, ": it failed"),
        }?;
        match self.said.as_str() {
            "" => Ok(()),
            said => write!(f, " ({said})"),
        }
    }
}

impl std::error::Error for ManagedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.about.source.as_ref().map(|e| e.as_ref() as _)
    }
}
