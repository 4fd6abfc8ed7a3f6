//! The one way to make a call: [`AwsCloud::read`], [`AwsCloud::change`], and what goes with them.

use crate::actions::Action;
use crate::cloud::AwsCloud;
use crate::error;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId;
use holdfast_core::managed::{
    About, Change, ErrorKind, GRACE, ManagedError, Operation, Outcome, Region, Result, Tags,
};
use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What a call is about, for errors and the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct On<'a> {
    pub(crate) action: Action,
    pub(crate) region: Option<&'a Region>,
    pub(crate) resource: &'a str,
}

impl<'a> On<'a> {
    pub(crate) fn new(action: Action, region: &'a Region, resource: &'a str) -> Self {
        On { action, region: Some(region), resource }
    }

    /// An error of our own making.
    pub(crate) fn refuse(self, kind: ErrorKind, said: impl Into<String>) -> ManagedError {
        ManagedError::new(
            kind,
            About {
                action: self.action.0.to_string(),
                region: self.region.cloned(),
                resource: self.resource.to_string(),
                said: said.into(),
                request_id: None,
                transient: false,
                source: None,
            },
        )
    }

    /// AWS answered, but left out what its model promises.
    pub(crate) fn incomplete(self, what: &str) -> ManagedError {
        self.refuse(ErrorKind::Other, format!("the answer has no {what}"))
    }
}

/// What this process made a moment ago, and AWS may not know of yet.
#[derive(Debug, Default)]
pub(crate) struct Fresh(Mutex<HashMap<String, Instant>>);

impl Fresh {
    pub(crate) fn note(&self, key: String) {
        let mut map = self.0.lock().unwrap_or_else(|e| e.into_inner());
        map.retain(|_, at| at.elapsed() < GRACE);
        map.insert(key, Instant::now());
    }

    /// It was removed: from now on "not found" is the truth.
    pub(crate) fn forget(&self, key: &str) {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).remove(key);
    }

    fn is_young(&self, key: &str) -> bool {
        let map = self.0.lock().unwrap_or_else(|e| e.into_inner());
        map.get(key).is_some_and(|at| at.elapsed() < GRACE)
    }
}

const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl AwsCloud {
    /// A call that changes nothing, or all pages of a listing.
    pub(crate) async fn read<T, E, F>(&self, on: On<'_>, call: F) -> Result<T>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let _permit = self.permit(on).await?;
        call.await.map_err(|e| error::of_sdk(on, e))
    }

    /// A call that changes something: logged before and after.
    pub(crate) async fn change<T, E, F>(&self, on: On<'_>, op: Option<&Operation>, call: F) -> Result<T>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
        T: RequestId,
    {
        self.logged(on, op, async {
            let reply = self.read(on, call).await?;
            let id = reply.request_id().map(str::to_string);
            Ok((reply, id))
        })
        .await
    }

    /// The same for any call; it gives its request id besides its value. A taken name is not logged here:
    /// [`adopt`](Self::adopt) knows what it means.
    pub(crate) async fn logged<T, F>(&self, on: On<'_>, op: Option<&Operation>, call: F) -> Result<T>
    where
        F: Future<Output = Result<(T, Option<String>)>>,
    {
        self.record(on, op, None, Outcome::Attempted)?;
        match call.await {
            Ok((value, id)) => {
                self.record(on, op, id, Outcome::Done)?;
                Ok(value)
            }
            Err(e) if e.kind == ErrorKind::AlreadyExists => Err(e),
            Err(e) => {
                self.record(on, op, e.request_id.clone(), Outcome::failed(&e))?;
                Err(e)
            }
        }
    }

    /// A removal: what is gone already was removed.
    pub(crate) async fn removal<T, E, F>(&self, on: On<'_>, call: F) -> Result<()>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
        T: RequestId,
    {
        self.gone(on, async {
            let reply = self.read(on, call).await?;
            Ok(reply.request_id().map(str::to_string))
        })
        .await
    }

    /// The same for any call; it gives its request id.
    pub(crate) async fn gone<F>(&self, on: On<'_>, call: F) -> Result<()>
    where
        F: Future<Output = Result<Option<String>>>,
    {
        self.record(on, None, None, Outcome::Attempted)?;
        match call.await {
            Ok(id) => self.record(on, None, id, Outcome::Done),
            Err(e) if e.is_not_found() => self.record(on, None, e.request_id.clone(), Outcome::Adopted),
            Err(e) => {
                self.record(on, None, e.request_id.clone(), Outcome::failed(&e))?;
                Err(e)
            }
        }
    }

    /// After "the name is taken": what has it is ours if it carries the operation.
    pub(crate) fn adopt<T>(
        &self,
        on: On<'_>,
        op: &Operation,
        refused: ManagedError,
        found: Result<T>,
        tags: impl Fn(&T) -> &Tags,
    ) -> Result<T> {
        match found {
            Ok(value) if tags(&value).operation() == Some(op.as_str()) => {
                self.record(on, Some(op), refused.request_id.clone(), Outcome::Adopted)?;
                Ok(value)
            }
            Err(e) if e.retryable() => {
                self.record(on, Some(op), e.request_id.clone(), Outcome::failed(&e))?;
                Err(e)
            }
            _ => {
                self.record(on, Some(op), refused.request_id.clone(), Outcome::failed(&refused))?;
                Err(refused)
            }
        }
    }

    /// Looks for something; while it is young, "not found" means "not yet".
    pub(crate) async fn patiently<T, F, Fut>(&self, key: &str, look: F) -> Result<T>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        loop {
            match look().await {
                Err(e) if e.is_not_found() && self.fresh.is_young(key) => {
                    tokio::time::sleep(LOOK_AGAIN).await
                }
                other => return other,
            }
        }
    }

    pub(crate) async fn permit(&self, on: On<'_>) -> Result<tokio::sync::SemaphorePermit<'_>> {
        self.permits.acquire().await.map_err(|e| on.refuse(ErrorKind::Other, e.to_string()))
    }

    pub(crate) fn record(
        &self,
        on: On<'_>,
        op: Option<&Operation>,
        request_id: Option<String>,
        outcome: Outcome,
    ) -> Result<()> {
        let change = Change {
            at: jiff::Timestamp::now(),
            region: on.region.cloned(),
            account: None,
            action: on.action.0.to_string(),
            resource: on.resource.to_string(),
            operation: op.map(|o| o.as_str().to_string()),
            request_id,
            outcome,
        };
        self.log.record(&change).map_err(|e| {
            let mut refused = on.refuse(ErrorKind::Other, "the change could not be written to the log");
            refused.source = Some(Box::new(e));
            refused
        })
    }
}
