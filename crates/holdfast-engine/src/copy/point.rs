//! One point from a vault to another: [`copy`].
//!
//! Order (R5, R10): parent chosen in the target → claim, which takes the lease → parent and source's point
//! still there → its WAL → packs → its WAL once more → commit by create-if-absent → read back. From the
//! lease on a failure declares the run aborted and leaves word of it under `failed/`.

use super::claim::{self, Claim, Claimant};
use super::leaves::Planner;
use super::wal::{self, WalCopied};
use super::worker::{Shared, Worker};
use super::{Pair, arrive};
use crate::backup::collect::{Collector, Copied, known_packs};
use crate::backup::worker::RunPacks;
use crate::context::Context;
use crate::error::{EngineError, Result, first_reason};
use crate::heartbeat::Heartbeat;
use crate::state::hostname;
use holdfast_core::{ExitCode, RunId};
use holdfast_vault::PointFacts;
use holdfast_vault::codec::Compressor;
use holdfast_vault::point::{Aborted, Body, CopiedFrom, FailedRun, FrameJson, PackJson, Point, PointKind};
use holdfast_vault::reader::{PackSet, PointReader};
use holdfast_vault::vault::hex;
use holdfast_vault::{Notes, PackClass, Signer};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Copied,
    AlreadyThere,
    /// It was there, and a sweep removed it: only by hand it is brought again.
    RemovedThere,
    Failed,
}

/// What became of one point.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PointReport {
    /// The id that the backup gave it.
    pub origin: RunId,
    /// Its id in the target.
    pub point: Option<RunId>,
    pub from: String,
    pub to: String,
    pub kind: PointKind,
    pub status: Status,
    pub size_bytes: u64,
    pub changed_bytes: u64,
    /// What the target has more, the point's WAL included.
    pub stored_bytes: u64,
    /// Sealed bytes of blocks that were fetched from the source.
    pub read_bytes: u64,
    pub wal: WalCopied,
    /// What was shown of it when it had arrived, `null` if it was not read back now.
    pub verified_level: Option<&'static str>,
    pub seconds: f64,
    pub error: Option<String>,
    pub hint: Option<String>,
    /// How the program ends if nothing worse happens.
    #[serde(skip)]
    pub exit: ExitCode,
}

impl PointReport {
    pub fn new(pair: &Pair, p: &Point, status: Status) -> Self {
        PointReport {
            origin: p.origin().clone(),
            point: None,
            from: pair.source_name.clone(),
            to: pair.policy.name.clone(),
            kind: p.kind,
            status,
            size_bytes: p.size_bytes,
            changed_bytes: 0,
            stored_bytes: 0,
            read_bytes: 0,
            wal: WalCopied::default(),
            verified_level: None,
            seconds: 0.0,
            error: None,
            hint: None,
            exit: ExitCode::Ok,
        }
    }
}

/// Copies `p`. The caller holds the lock of copies into this vault.
pub async fn copy(ctx: &Context, pair: &Pair, p: &Point, by_hand: bool) -> Result<PointReport> {
    let begun = Instant::now();
    let (parent, generation) = parent_of(pair, p).await?;
    let agent = claim::agent(&ctx.state);
    let who = Claimant {
        agent: &agent,
        parents: parent.iter().map(|q| q.id.clone()).collect(),
        wal: p.wal.iter().map(|w| w.name).collect(),
        by_hand,
    };
    let run = match claim::claim(&pair.target, p.origin(), who).await? {
        Claim::Ours(run) => run,
        Claim::There(there) => return already(ctx, pair, p, &there).await,
        Claim::Removed(run) => {
            return Ok(PointReport { point: Some(run), ..PointReport::new(pair, p, Status::RemovedThere) });
        }
    };
    let _heartbeat = Heartbeat::start(&pair.target, &run);
    let job = Job { ctx, pair, source: p, parent, generation, run: run.clone() };
    match job.execute().await {
        Ok(mut report) => {
            report.seconds = begun.elapsed().as_secs_f64();
            Ok(report)
        }
        Err(e) => {
            let e = pair.explain(p, e).await;
            record_failure(pair, &run, begun, &e).await;
            Err(e)
        }
    }
}

/// It is there. A copy that died before it was read back is read back now.
async fn already(ctx: &Context, pair: &Pair, p: &Point, there: &Point) -> Result<PointReport> {
    let mut report = PointReport::new(pair, p, Status::AlreadyThere);
    report.point = Some(there.id.clone());
    let notes = Notes::of_point(&pair.target, &there.id).await?;
    if notes.expired(jiff::Timestamp::now()).is_some() || pair.target.is_condemned(&there.id).await? {
        ctx.monitor.warning(format!(
            "point {} is in vault `{}` already, and expired there: `holdfast hold` keeps it",
            there.id, pair.policy.name
        ));
    } else if there.copied.is_some() && notes.verified.is_empty() {
        report.verified_level = arrive::check(ctx, pair, there).await?;
    }
    Ok(report)
}

/// The point in the target with which the copy is compared: the nearest before it, else the nearest behind.
/// And the generation that the copy gets there.
async fn parent_of(pair: &Pair, p: &Point) -> Result<(Option<Point>, u64)> {
    let survey = pair.target.survey().await?;
    let points: Vec<PointFacts> = survey.points.into_iter().map(|s| s.facts).collect();
    let generation = points.iter().map(|q| q.generation).max().unwrap_or(0).saturating_add(1);
    // Dense: what lies in a cold vault goes when its own point goes, and is retrieved with no other's packs.
    if pair.policy.is_cold() {
        return Ok((None, generation));
    }
    let (before, behind): (Vec<_>, Vec<_>) = points.into_iter().partition(|q| q.stop_time <= p.stop_time);
    let now = jiff::Timestamp::now();
    for q in before.into_iter().rev().chain(behind) {
        // Other blocks, or other files: nothing could be told apart by number.
        let alike = q.system_identifier == p.server.system_identifier
            && q.version_num / 10_000 == p.server.version_num / 10_000
            && q.block_size == p.server.block_size
            && q.segment_blocks == p.server.segment_blocks;
        if !alike {
            continue;
        }
        let expired = Notes::of_point(&pair.target, &q.id).await?.expired(now).is_some();
        if !expired && !pair.target.is_condemned(&q.id).await? {
            return Ok((Some(pair.target.point(&q.id).await?), generation));
        }
    }
    Ok((None, generation))
}

/// Leaves word of a failed copy. Best effort: the vault may be what failed.
async fn record_failure(pair: &Pair, run: &RunId, begun: Instant, e: &EngineError) {
    let at = jiff::Timestamp::now();
    let aborted = Aborted { run: run.clone(), by: hostname(), at, reason: e.to_string() };
    let _ = pair.target.abort_run(aborted).await;
    let failed = FailedRun {
        run: run.clone(),
        kind: "copy".into(),
        started_at: at.checked_sub(begun.elapsed()).unwrap_or(at),
        failed_at: at,
        error: e.to_string(),
        hint: e.hint(),
        host: hostname(),
    };
    let name = pair.target.path().failed(run);
    let _ = pair.target.vault().put_record(&name, &Body::FailedRun(failed), Signer::Host).await;
}

struct Job<'a> {
    ctx: &'a Context,
    pair: &'a Pair,
    source: &'a Point,
    parent: Option<Point>,
    generation: u64,
    run: RunId,
}

impl Job<'_> {
    async fn execute(&self) -> Result<PointReport> {
        let (ctx, pair) = (self.ctx, self.pair);
        if let Some(q) = &self.parent
            && !pair.target.can_build_on(&q.id).await?
        {
            return Err(EngineError::failed(
                format!("point {} of vault `{}` is being removed", q.id, pair.policy.name),
                "run it again",
            ));
        }
        if !pair.source.can_build_on(&self.source.id).await? {
            return Err(pair.swept(self.source));
        }
        ctx.monitor.phase(&format!("copying point {} to {}", self.source.origin(), pair.policy.name));
        ctx.monitor.event(holdfast_core::monitor::Event::Total(self.source.size_bytes));
        let (needs, mut wal) = wal::of_point(pair, &self.source.wal).await?;
        wal.add(wal::histories(pair).await?);
        let read_bytes = Arc::new(AtomicU64::new(0));
        let copied = self.files(&read_bytes).await?;
        if (copied.size_bytes, copied.files) != (self.source.size_bytes, self.source.files) {
            return Err(EngineError::Worker("a copy that is not as long as its source".into()));
        }
        ctx.monitor.phase("committing");
        // What lay here for long may have gone by a sweep that began before our lease.
        let (again, late) = wal::of_point(pair, &self.source.wal).await?;
        debug_assert_eq!(again, needs);
        wal.add(late);
        let point = self.point(&copied, again, wal);
        let (until, _) = crate::lock::before_commit(&pair.target, &point, &*ctx.monitor).await?;
        pair.target.commit_point_until(point.clone(), until).await?;
        let verified_level = arrive::check(ctx, pair, &point).await?;
        Ok(PointReport {
            point: Some(point.id.clone()),
            changed_bytes: point.changed_bytes,
            stored_bytes: point.stored_bytes,
            read_bytes: read_bytes.load(Ordering::Relaxed),
            wal,
            verified_level,
            ..PointReport::new(pair, self.source, Status::Copied)
        })
    }

    async fn files(&self, read: &Arc<AtomicU64>) -> Result<Copied> {
        let (ctx, pair) = (self.ctx, self.pair);
        let rt = tokio::runtime::Handle::current();
        let source = PointReader::open(PackSet::new(pair.source.clone()), self.source)
            .await
            .map_err(|e| pair.of_source(e))?;
        let set = PackSet::new(pair.target.clone());
        let (parent, known) = match &self.parent {
            None => (None, HashMap::new()),
            Some(q) => {
                let reader = PointReader::open(set.clone(), q).await?;
                let known = known_packs(q, reader.root(), &set)?;
                (Some(reader), known)
            }
        };
        let block_size = self.source.server.block_size;
        let shared = Arc::new(Shared {
            source: source.packs().clone(),
            source_name: pair.source_name.clone(),
            rt: rt.clone(),
            block_size,
            theirs: pair.source.digests().clone(),
            ours: pair.target.digests().clone(),
            one_secret: pair.one_secret(),
            frame_size: (pair.policy.frame_size.0 as usize).max(block_size as usize),
            pack_size: pair.policy.pack_size.0,
            stop: AtomicBool::new(false),
            monitor: ctx.monitor.clone(),
            rate: ctx.policy.tuning.rate.map_or(0, |r| r.0),
            read_bytes: AtomicU64::new(0),
            begun: Instant::now(),
        });
        let packs = RunPacks {
            cluster: pair.target.clone(),
            run: self.run.clone(),
            next: AtomicU32::new(1),
            set: set.clone(),
            rt: rt.clone(),
        };
        let collector = Collector::new(
            pair.target.clone(),
            self.run.clone(),
            set,
            rt,
            (block_size, shared.pack_size),
            known,
        )?;
        let (workers, compression) = (ctx.workers(), pair.policy.compression);
        let read = read.clone();
        let work = tokio::task::spawn_blocking(move || {
            let done = run_threads(&shared, source, parent, collector, &packs, compression, workers);
            read.store(shared.read_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
            done
        });
        work.await.map_err(|e| EngineError::Worker(e.to_string()))?
    }

    /// All facts are the source's; what this run wrote, and where it came from, is its own.
    fn point(&self, copied: &Copied, wal: Vec<holdfast_vault::point::WalNeed>, came: WalCopied) -> Point {
        let class = |c| match c {
            PackClass::Data => "data",
            PackClass::Meta => "meta",
        };
        Point {
            id: self.run.clone(),
            parent: self.parent.as_ref().map(|q| q.id.clone()),
            changed_bytes: copied.changed_bytes,
            stored_bytes: copied.packs.iter().map(|p| p.len).sum::<u64>() + came.stored_bytes,
            root: FrameJson {
                pack: copied.root_pack,
                index: copied.root.index,
                offset: copied.root.offset,
                sealed_len: copied.root.sealed_len,
                plain_len: copied.root.plain_len,
                codec: copied.root.codec as u8,
            },
            packs: copied
                .packs
                .iter()
                .map(|p| PackJson {
                    class: class(p.id.class).into(),
                    number: p.id.number,
                    len: p.len,
                    digest: hex(&p.digest),
                })
                .collect(),
            wal,
            generation: self.generation,
            copied: Some(CopiedFrom {
                origin: self.source.origin().clone(),
                vault: self.pair.source.vault().id().clone(),
                point: self.source.id.clone(),
                at: jiff::Timestamp::now(),
                host: hostname(),
                tool: format!("holdfast {}", env!("CARGO_PKG_VERSION")),
            }),
            ..self.source.clone()
        }
    }
}

/// Planner, workers and collector, each on its own threads.
fn run_threads(
    shared: &Shared,
    source: PointReader,
    parent: Option<PointReader>,
    collector: Collector,
    packs: &RunPacks,
    compression: holdfast_core::policy::Compression,
    workers: usize,
) -> Result<Copied> {
    let (begin_tx, begin_rx) = crossbeam_channel::bounded(64);
    let (job_tx, job_rx) = crossbeam_channel::bounded(2 * workers);
    let (found_tx, found_rx) = crossbeam_channel::bounded(256);
    std::thread::scope(|s| {
        let found = found_tx.clone();
        let planner = s.spawn(move || Planner::new(shared, source, parent, begin_tx, found, job_tx).run());
        let mut handles = Vec::new();
        for _ in 0..workers {
            let (jobs, out) = (job_rx.clone(), found_tx.clone());
            handles.push(s.spawn(move || {
                let compressor =
                    Compressor::new(compression).map_err(|e| EngineError::Worker(e.to_string()))?;
                Worker::new(shared, packs, compressor, out).run(&jobs)
            }));
        }
        drop((job_rx, found_tx));
        let collected = collector.run(begin_rx, found_rx);
        if collected.is_err() {
            shared.stop.store(true, Ordering::Relaxed);
        }
        let mut results: Vec<Result<()>> = Vec::new();
        results
            .push(planner.join().unwrap_or_else(|_| Err(EngineError::Worker("the plan of a copy".into()))));
        for h in handles {
            results.push(h.join().unwrap_or_else(|_| Err(EngineError::Worker("a copy".into()))));
        }
        match first_reason(results) {
            // The collector says why, if it was the one.
            Err(EngineError::Cancelled) => collected.and(Err(EngineError::Cancelled)),
            Err(e) => Err(e),
            Ok(()) => collected,
        }
    })
}
