//! Carries a [`Retrieval`] out: asks for the archived packs of a point, and waits until all can be read.
//!
//! It spends money, so it does nothing unless the user agreed. What was asked for is the store's own knowledge
//! and nothing is kept here: killed at any moment and repeated, it asks for what nobody has asked for, waits for
//! what is under way, and leaves what is there. A request that is repeated costs nothing. What is under way is
//! not asked for again at another speed, so no pack is paid for twice.
//!
//! While it waits it looks at a few packs only, and at the next ones when those have come: hours of waiting for
//! thousands of packs cost hundreds of requests, not millions.

use super::cold::{AT_ONCE, Retrieval, Retrieve, Standing, data_packs, must_last, standing};
use crate::context::Context;
use crate::error::{EngineError, Result};
use futures::{StreamExt, TryStreamExt};
use holdfast_core::monitor::Event;
use holdfast_core::prices::s3::Speed;
use holdfast_core::{ByteSize, RunId, time};
use holdfast_vault::ClusterVault;
use holdfast_vault::names::PackId;
use holdfast_vault::point::Point;
use holdfast_vault::store::retrieve::Archive;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Requests that are sent at the same time.
const ASKED_AT_ONCE: usize = 32;

/// The longest pause between two looks.
fn longest_pause(speed: Speed) -> Duration {
    Duration::from_secs(match speed {
        Speed::Expedited => 30,
        Speed::Standard => 300,
        Speed::Bulk => 900,
    })
}

/// A retrieval under way.
struct Run<'a> {
    ctx: &'a Context,
    cluster: &'a ClusterVault,
    point: &'a RunId,
    plan: &'a Retrieval,
    approved: bool,
    pause: Duration,
    until: Instant,
}

/// Retrieves what the plan says, and returns when all data packs of the point can be read.
pub async fn carry_out(
    ctx: &Context,
    cluster: &ClusterVault,
    point: &Point,
    plan: &Retrieval,
    how: &Retrieve,
) -> Result<()> {
    if plan.asks() && !how.approved {
        return Err(unapproved(plan));
    }
    let packs = data_packs(cluster, point).await?;
    let mut run = Run {
        ctx,
        cluster,
        point: &point.id,
        plan,
        approved: how.approved,
        pause: Duration::from_secs(1),
        until: Instant::now() + Duration::from_secs(plan.patience_seconds),
    };
    ctx.monitor.phase("retrieving archived packs");
    ctx.monitor.event(Event::Total(plan.all.bytes));
    ctx.monitor.advance(plan.readable.bytes);
    let mut told = false;
    // A copy that came early can be gone when the last has come: then it is asked for again.
    loop {
        let seen = standing(cluster, &packs).await?;
        let archived: Vec<&PackId> = of(&seen, |s| matches!(s, Archive::Archived { .. }));
        run.ask(&archived).await?;
        let waiting: BTreeMap<PackId, u64> = seen
            .iter()
            .filter(|(_, _, s)| matches!(s, Archive::Archived { .. } | Archive::UnderWay))
            .map(|(id, len, _)| (id.clone(), *len))
            .collect();
        if waiting.is_empty() {
            return run.prolong(&seen).await;
        }
        if !told {
            told = true;
            ctx.monitor.info(format!(
                "asked for {} packs at the speed `{}`, {} more were asked for before; waiting for at most {}",
                archived.len(),
                plan.speed,
                waiting.len() - archived.len(),
                time::human(Duration::from_secs(plan.patience_seconds))
            ));
        }
        run.wait(waiting).await?;
    }
}

fn of(seen: &Standing, state: impl Fn(&Archive) -> bool) -> Vec<&PackId> {
    seen.iter().filter(|(_, _, s)| state(s)).map(|(id, ..)| id).collect()
}

fn unapproved(plan: &Retrieval) -> EngineError {
    let packs = plan.archived();
    EngineError::refused(
        format!(
            "retrieving {} data packs ({}) costs about {}, and nobody has agreed to that",
            packs.packs,
            ByteSize(packs.bytes),
            plan.cost.total_usd
        ),
        "--plan shows what it takes; --yes does it",
    )
}

impl Run<'_> {
    /// Asks for packs, many at a time.
    async fn ask(&self, packs: &[&PackId]) -> Result<()> {
        if packs.is_empty() {
            return Ok(());
        }
        if !self.approved {
            // When it was planned they could be read, or were on their way.
            return Err(EngineError::refused(
                format!("{} data packs are archived again: retrieving them costs money", packs.len()),
                "--plan shows what it takes; --yes does it",
            ));
        }
        let (store, path) = (self.cluster.store(), self.cluster.path());
        let (speed, days) = (self.plan.speed, self.plan.days);
        futures::stream::iter(packs.iter().map(|id| path.pack(id)))
            .map(|name| async move {
                if self.ctx.monitor.cancelled() {
                    return Err(EngineError::Cancelled);
                }
                store.retrieve(&name, speed, days).await.map_err(EngineError::from)
            })
            .buffer_unordered(ASKED_AT_ONCE)
            .try_for_each(|_| async { Ok(()) })
            .await
    }

    /// Waits until all of these could be read once, or for too long.
    async fn wait(&mut self, waiting: BTreeMap<PackId, u64>) -> Result<()> {
        let mut waiting: Vec<(PackId, u64)> = waiting.into_iter().collect();
        while !waiting.is_empty() {
            self.sleep(&waiting).await?;
            let mut left = Vec::new();
            let mut rest = waiting.into_iter();
            loop {
                let batch: BTreeMap<PackId, u64> = rest.by_ref().take(AT_ONCE).collect();
                if batch.is_empty() {
                    break;
                }
                let seen = standing(self.cluster, &batch).await?;
                // The store forgot, or a request came to nothing.
                self.ask(&of(&seen, |s| matches!(s, Archive::Archived { .. }))).await?;
                let (mut came, before) = (0, left.len());
                for (id, len, state) in seen {
                    match state {
                        Archive::Archived { .. } | Archive::UnderWay => left.push((id, len)),
                        Archive::Open | Archive::Copied { .. } => came += len,
                    }
                }
                self.ctx.monitor.advance(came);
                if left.len() > before && came == 0 {
                    // Those behind them are hardly there either; they are looked at when these have come.
                    left.extend(rest);
                    break;
                }
            }
            waiting = left;
        }
        Ok(())
    }

    /// A pause before the next look, each longer than the one before.
    async fn sleep(&mut self, waiting: &[(PackId, u64)]) -> Result<()> {
        let wake = (Instant::now() + self.pause).min(self.until);
        self.pause = (self.pause * 3 / 2).min(longest_pause(self.plan.speed));
        while Instant::now() < wake {
            if self.ctx.monitor.cancelled() {
                return Err(EngineError::Cancelled);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        if Instant::now() < self.until {
            return Ok(());
        }
        Err(EngineError::failed(
            format!(
                "at least {} data packs have not been retrieved within {}",
                waiting.len().min(AT_ONCE),
                time::human(Duration::from_secs(self.plan.patience_seconds))
            ),
            format!(
                "they are under way: run the same again later, with --point {} and --retrieve-for to wait longer; \
                 nothing of it is paid for twice",
                self.point
            ),
        ))
    }

    /// Has copies stay that go before the restore could be done.
    async fn prolong(&self, seen: &Standing) -> Result<()> {
        let end = must_last(self.plan.all.bytes, Timestamp::now());
        let soon = |s: &Archive| matches!(s, Archive::Copied { until: Some(t) } if *t < end);
        let short = of(seen, soon);
        if short.is_empty() {
            return Ok(());
        }
        if self.approved {
            self.ask(&short).await?;
        }
        let goes = |s: &Archive| match s {
            Archive::Copied { until } => *until,
            _ => None,
        };
        let now =
            standing(self.cluster, &seen.iter().map(|(id, len, _)| (id.clone(), *len)).collect()).await?;
        if let Some(first) = now.iter().filter_map(|(_, _, s)| goes(s)).min().filter(|t| *t < end) {
            self.ctx.monitor.warning(format!(
                "the first copies go at {}, and the restore could read until {}: \
                 --retrieve-days with more days, and --yes, lets them stay",
                time::short(first),
                time::short(end)
            ));
        }
        Ok(())
    }
}
