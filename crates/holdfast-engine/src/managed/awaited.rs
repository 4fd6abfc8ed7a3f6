//! Waiting for what the provider makes: a snapshot, or a copy of one. The same for every verb that makes them.

use super::Managed;
use super::wait::Answer;
use crate::error::{EngineError, Result};
use holdfast_core::managed::{Snapshot, SnapshotRef};

/// Waits until a snapshot of our own is `available`. One that failed is removed: it counts against the quota and
/// restores nothing.
///
/// # Errors
/// It failed, in the provider's words; the deadline; Ctrl-C.
pub(super) async fn snapshot(m: &Managed, what: &str, at: &SnapshotRef) -> Result<Snapshot> {
    let done = m
        .pace
        .until(what, &*m.monitor, async || {
            let s = m.cloud.snapshot(at).await?;
            let (status, percent) = (s.status.clone(), s.percent);
            Ok(Answer::of(&status, Some(percent), s))
        })
        .await;
    if let Err(EngineError::Failed { .. }) = &done
        && m.cloud.snapshot(at).await.is_ok_and(|s| s.status.is_failed())
    {
        m.cloud.delete_snapshot(at).await?;
    }
    done
}
