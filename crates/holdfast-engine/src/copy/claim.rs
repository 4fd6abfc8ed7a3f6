//! Which run copies a point into a vault: [`claim`].
//!
//! A copy has packs of its own, sealed by other keys, so it is a run of its own; its id, and so the one name
//! under which it may commit, follows from the id that the backup gave the point and a number: try 0, try 1
//! and so on. Whoever creates the lease of a try has it. Two that copy the same point at once meet there,
//! and one of them gives way; a try that died is declared dead at its commit name, like any run, and the
//! next number is free. So there is never a second copy of a point in a vault, and a copier that was
//! paused for a year finds its commit name taken (docs/decisions/0029-copies.md).
//!
//! Crash: a lease, and packs that no point names. The next copy of this host declares the try dead, a sweep
//! removes what it left; a sweep also ends tries of other hosts that gave no sign of life for a day.

use crate::error::{EngineError, Result};
use crate::state::hostname;
use holdfast_core::{RunId, SegmentName};
use holdfast_vault::digest::plain_hash;
use holdfast_vault::point::{Aborted, Body, Lease, Point};
use holdfast_vault::{ClusterVault, Commit, StoreErrorKind};

/// More tries than this were not all honest.
const MOST: u32 = 10_000;

/// What came of asking for a try.
#[derive(Debug)]
pub enum Claim {
    /// This run may copy; its lease is taken.
    Ours(RunId),
    /// The point is there.
    There(Box<Point>),
    /// It was there, and a sweep removed it.
    Removed(RunId),
}

/// Who asks, and what the lease is to say.
#[derive(Debug)]
pub struct Claimant<'a> {
    /// Machine and state directory; the caller holds the lock that only one copy of it has.
    pub agent: &'a str,
    pub parents: Vec<RunId>,
    pub wal: Vec<SegmentName>,
    /// A person named the point: one that was removed is brought back.
    pub by_hand: bool,
}

/// Who copies, in leases. Never what a backup calls itself: a backup of this host declares its own dead runs
/// aborted, and holds another lock.
pub fn agent(state: &crate::state::State) -> String {
    format!("{}.copy", state.agent())
}

/// The id of a try.
pub fn try_id(origin: &RunId, number: u32) -> RunId {
    let hash = plain_hash(format!("holdfast/1 copy\n{origin}\n{number}").as_bytes());
    let mut tail = [0; 6];
    tail.iter_mut().zip(hash).for_each(|(t, h)| *t = h);
    origin.derived(tail)
}

/// The point in `target`, under its own id or a copy's. (One request a try; a listing tells more at once.)
pub async fn claim(target: &ClusterVault, origin: &RunId, who: Claimant<'_>) -> Result<Claim> {
    if let Some(Commit::Point(p)) = target.commit(origin).await? {
        return Ok(Claim::There(p));
    }
    if !who.by_hand && target.is_condemned(origin).await? {
        return Ok(Claim::Removed(origin.clone()));
    }
    let mut number = 0;
    while number < MOST {
        let run = try_id(origin, number);
        match target.commit(&run).await? {
            Some(Commit::Point(p)) if p.origin() == origin => return Ok(Claim::There(p)),
            Some(_) => {
                number += 1;
                continue;
            }
            None => {}
        }
        if target.is_condemned(&run).await? {
            if !who.by_hand {
                return Ok(Claim::Removed(run));
            }
            number += 1;
            continue;
        }
        match target.vault().get_record(&target.path().lease(&run)).await {
            Ok((Body::Lease(l), _)) if l.agent == who.agent => {
                // Its lock is ours, so it is dead.
                let aborted = Aborted {
                    run,
                    by: hostname(),
                    at: jiff::Timestamp::now(),
                    reason: "its process is gone".into(),
                };
                target.abort_run(aborted).await?;
                continue;
            }
            Ok((Body::Lease(l), _)) => {
                return Err(EngineError::Busy {
                    what: format!("host {} copies {origin} since {}", l.host, l.started_at),
                    hint:
                        "wait until it is done; if that host is gone, `holdfast sweep` ends its run after a \
                           day without a sign of life"
                            .into(),
                });
            }
            Ok(_) => {
                return Err(EngineError::failed(
                    format!("the lease of {run} is malformed"),
                    "run `holdfast check`",
                ));
            }
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e.into()),
        }
        let lease = Lease {
            run: run.clone(),
            parents: who.parents.clone(),
            commit: target.path().point(&run),
            host: hostname(),
            agent: who.agent.into(),
            pid: std::process::id(),
            started_at: jiff::Timestamp::now(),
            wal: who.wal.clone(),
        };
        match target.take_lease(&lease).await {
            Ok(()) => return Ok(Claim::Ours(run)),
            // Somebody was faster: look again.
            Err(e) if e.store_kind() == Some(StoreErrorKind::Exists) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(EngineError::failed(
        format!("{MOST} tries to copy {origin} have failed"),
        "see `failed` in `holdfast list`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_differ_and_say_when_the_backup_was() {
        let origin: RunId = "20261121T093512Z-k3f9q2".parse().unwrap();
        let all: std::collections::BTreeSet<RunId> = (0..100).map(|n| try_id(&origin, n)).collect();
        assert_eq!(all.len(), 100);
        assert!(all.iter().all(|id| id != &origin && id.as_str().starts_with("20261121T093512Z-")));
        assert_eq!(try_id(&origin, 7), try_id(&origin, 7));
    }
}
