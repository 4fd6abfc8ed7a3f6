//! `backup` of a cluster on another host, over the replication protocol (decision 32).
//!
//! The promise is that of [`crate::backup`]: when it returns, the point is complete, durable and restorable by
//! itself. Its point looks like any other; `changes.method` says how changed blocks were found:
//!
//! | method | what crosses the network | what is stored |
//! |---|---|---|
//! | `all` | everything | everything |
//! | `stream-compare` | everything | blocks whose fingerprint differs from the parent's |
//! | `wal-summaries` (17 and later, `summarize_wal` on) | blocks that the server's summaries of its WAL name, and files that are no relations | of those, what differs |
//!
//! - [`origin`]: both sessions, and what would make the run fail later
//! - [`intake`], [`unpack`], [`manifest`], [`tree`]: from the stream to leaves and tasks
//! - [`summaries`]: whether the server's summaries of its WAL may be used
//! - [`wal`]: the segments at the end of the stream
//!
//! Order: lock, lease, parent not condemned, `BASE_BACKUP`, the stream, its manifest compared with what came,
//! WAL durable in this vault, commit.
//!
//! Crash at any step: as of a backup on the server's host. The server ends its side by itself.

pub mod intake;
pub mod manifest;
pub mod origin;
pub mod summaries;
pub mod tree;
pub mod unpack;
pub mod wal;

use crate::backup::collect::{Collector, Copied, known_packs};
use crate::backup::facts::{HostFacts, databases, facts_of};
use crate::backup::need::{Gathered, segments};
use crate::backup::plan::{self, BackupPlan, KindWanted};
use crate::backup::wear::Wear;
use crate::backup::worker::{RunPacks, Shared, Worker};
use crate::backup::{
    BackupOptions, BackupReport, bury_dead_runs, open_cluster, packs_json, record_failure, root_json, standby,
};
use crate::context::Context;
use crate::error::{EngineError, Result, first_reason};
use crate::heartbeat::Heartbeat;
use crate::state::hostname;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as B64;
use holdfast_core::monitor::Event;
use holdfast_core::{Lsn, RunId, TimelineId};
use holdfast_pg::PgError;
use holdfast_pg::replication::{BaseBackup, Replication, Started};
use holdfast_pg::server::insert_lsn;
use holdfast_pgformat::control::ControlFile;
use holdfast_pgformat::label::BackupLabel;
use holdfast_pgformat::path::{PathKind, classify};
use holdfast_pgformat::relation::RelFileLocator;
use holdfast_vault::ClusterVault;
use holdfast_vault::codec::Compressor;
use holdfast_vault::point::{ChangeSource, Lease, Point, PointKind, Tablespace};
use holdfast_vault::reader::{PackSet, PointReader};
use intake::{Feed, Intake, Received};
use manifest::{Manifest, Upload};
use origin::RemoteOrigin;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use summaries::Limits;
use tree::Tree;
use wal::{Expected, Folder, Incoming, Standing};

/// The first server version with incremental base backups.
pub(crate) const SUMMARIES_SINCE: u32 = 170_000;

/// Runs a backup of a server whose files are elsewhere.
pub async fn run(ctx: &Context, options: &BackupOptions) -> Result<BackupReport> {
    let _lock = ctx.state.lock_run(&ctx.db.name)?;
    let begun = Instant::now();
    let started_at = jiff::Timestamp::now();
    let run = RunId::generate(started_at);
    let mut origin = RemoteOrigin::inspect(ctx).await?;
    let (policy_vault, vault) = ctx.open_backup_vault().await?;
    let cluster = open_cluster(ctx, &vault, &origin.server).await?;
    // It claims no timeline: the archive belongs to the server's own host.
    crate::wal::owner::require_member(ctx)?;
    let owned = crate::wal::owner::owner_of(&cluster, origin.timeline).await?.is_some();
    origin.in_archive = origin.in_archive || (origin.archiver_works && owned);
    bury_dead_runs(ctx, &cluster).await?;
    let plan = plan::plan(&cluster, &origin.server, options.kind).await?;
    if options.kind == KindWanted::Incremental && plan.parent.is_none() {
        ctx.monitor.info(format!("making a full: {}", plan.reason));
    }
    let lease = Lease {
        run: run.clone(),
        parents: plan::parents(&plan),
        commit: cluster.path().point(&run),
        host: hostname(),
        agent: ctx.state.agent(),
        pid: std::process::id(),
        started_at,
        wal: Vec::new(),
    };
    cluster.take_lease(&lease).await?;
    let _heartbeat = Heartbeat::start(&cluster, &run);
    let folder = Folder::make(ctx)?;
    let mut job = Job {
        ctx,
        policy_vault,
        cluster: cluster.clone(),
        run: run.clone(),
        started_at,
        plan,
        standing: Standing { owned, pushes: origin.pushes },
        origin,
        options,
        begun,
        folder,

        warnings: Vec::new(),
        changes: ChangeSource::default(),
    };
    let result = job.execute().await;
    if let Err(e) = &result {
        record_failure(&cluster, (&run, job.plan.kind, started_at), e).await;
    }
    result
}

struct Job<'a> {
    ctx: &'a Context,
    policy_vault: holdfast_core::policy::Vault,
    cluster: ClusterVault,
    run: RunId,
    started_at: jiff::Timestamp,
    plan: BackupPlan,
    origin: RemoteOrigin,
    options: &'a BackupOptions,
    begun: Instant,
    folder: Folder,
    standing: Standing,
    warnings: Vec<String>,
    /// How changed blocks are found; set when the backup has started.
    changes: ChangeSource,
}

/// A backup that the server has started.
struct Begun {
    session: Replication,
    started: Started,
    /// Only of one that goes by the server's summaries.
    limits: Option<Limits>,
}

/// What the stream gave.
struct Taken {
    copied: Copied,
    received: Received,
    stop: (Lsn, TimelineId),
    wal: Gathered,
    read_bytes: u64,
}

impl Job<'_> {
    async fn execute(&mut self) -> Result<BackupReport> {
        for p in plan::parents(&self.plan) {
            if !self.cluster.can_build_on(&p).await? {
                return Err(EngineError::failed(format!("the parent {p} is being removed"), "run it again"));
            }
        }
        let set = PackSet::new(self.cluster.clone());
        let waited = Instant::now();
        let _slot = self.hold_wal().await;
        let reader = match &self.plan.parent {
            Some(p) => Some(PointReader::open(set.clone(), p).await?),
            None => None,
        };
        let Begun { mut session, started, limits } = self.start(reader.as_ref()).await?;
        let checkpoint_seconds = waited.elapsed().as_secs_f64();
        // A standby begins at its last restartpoint, which may well lie before the parent's end.
        if let Some(p) = &self.plan.parent
            && !self.origin.server.in_recovery
            && let Err(why) = plan::still_usable(p, started.start_lsn, started.timeline)
        {
            self.ctx.monitor.warning(format!("making a full: {why}"));
            self.changes = ChangeSource { exact: self.changes.exact, ..ChangeSource::new("all", &why) };
            self.plan = BackupPlan {
                kind: PointKind::Full,
                parent: None,
                reason: why,
                distrust: None,
                generation: self.plan.generation,
            };
        }
        let copy_started_at = jiff::Timestamp::now();
        let copying = Instant::now();
        let mut taken = self.copy(&mut session, &started, reader, set, limits).await?;
        for n in session.take_notices() {
            self.warn(format!("the server says: {n}"));
        }
        let copy_seconds = copying.elapsed().as_secs_f64();
        self.check_arrived(&mut taken, &started)?;
        let control = ControlFile::parse(&taken.received.control)
            .map_err(|e| PgError::Protocol(format!("the control file that came: {e}")))?;
        self.check_server(&taken, &started, &control)?;
        let databases = databases(&self.origin.session).await.unwrap_or_else(|e| {
            self.warn(format!("the names of the databases are not recorded: {e}"));
            Vec::new()
        });
        self.ctx.monitor.phase("waiting for wal");
        let waited = Instant::now();
        let stop_time = self.origin.now().await?;
        self.wal(&mut taken, &started).await?;
        self.judge_damage(&mut taken, &started).await;
        let wal_seconds = waited.elapsed().as_secs_f64();
        self.ctx.monitor.phase("committing");
        let (read_bytes, rewritten_bytes) = (taken.read_bytes, taken.copied.rewritten_bytes);
        let mut point = self.point(taken, &started, &control, copy_started_at, stop_time)?;
        point.databases = databases;
        let (until, warned) = crate::lock::before_commit(&self.cluster, &point, &*self.ctx.monitor).await?;
        self.warnings.extend(warned.iter().cloned());
        self.cluster.commit_point_until(point.clone(), until).await?;
        Ok(BackupReport {
            reason: match self.plan.parent {
                Some(_) => self.changes.reason.clone(),
                None => self.plan.reason.clone(),
            },
            seconds: self.begun.elapsed().as_secs_f64(),
            checkpoint_seconds,
            copy_seconds,
            wal_seconds,
            read_bytes,
            rewritten_bytes,
            warnings: std::mem::take(&mut self.warnings),
            point,
        })
    }

    fn warn(&mut self, text: String) {
        self.ctx.monitor.warning(text.clone());
        self.warnings.push(text);
    }

    /// A session whose temporary slot keeps the server's WAL until the run has it. Without one the server may
    /// remove what a long backup needs, and would then say so at its end.
    async fn hold_wal(&mut self) -> Option<Replication> {
        // Of a standby, the primary archives it.
        if self.origin.server.in_recovery {
            return None;
        }
        let name: String =
            self.run.to_string().to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let made = async {
            let mut s = self.origin.replication(self.ctx).await?;
            s.keep_wal(&format!("holdfast_{name}")).await?;
            Ok::<_, EngineError>(s)
        };
        match made.await {
            Ok(s) => Some(s),
            Err(e) => {
                self.warn(format!(
                    "the server's wal is not held back during this backup: {e} (hint: a free replication slot \
                     is asked for; raise max_replication_slots or wal_keep_size)"
                ));
                None
            }
        }
    }

    /// Starts the backup, in the way that brings the least.
    async fn start(&mut self, reader: Option<&PointReader>) -> Result<Begun> {
        let exact = self.hints_are_logged();
        let mut asked = BaseBackup {
            label: format!("holdfast {}", self.run),
            fast: true,
            wal: !self.origin.server.in_recovery,
            incremental: false,
            max_rate: self.ctx.policy.tuning.rate.map_or(0, |r| r.0),
        };
        if let (Some(reader), Some(parent)) = (reader, self.plan.parent.clone()) {
            let why = match self.no_summaries(&parent) {
                Some(why) => why,
                None => {
                    self.ctx.monitor.phase("telling the server what there is");
                    asked.incremental = true;
                    match self.start_incremental(&asked, reader, &parent).await {
                        Ok((session, started, Ok(limits))) => {
                            let text = format!("the server's summaries of its wal since {}", parent.id);
                            self.changes = ChangeSource::new("wal-summaries", &text);
                            self.changes.exact = exact && parent.changes.exact;
                            return Ok(Begun { session, started, limits: Some(limits) });
                        }
                        // The server ends that backup when it finds its session closed.
                        Ok((session, _, Err(why))) => {
                            drop(session);
                            why
                        }
                        // What the server says of the manifest or its summaries; anything else is a fault.
                        Err(EngineError::Pg(PgError::Query { why, .. } | PgError::Cut { why, .. })) => why,
                        Err(e) => return Err(e),
                    }
                }
            };
            let text = format!("everything is sent and compared with {}: {why}", parent.id);
            self.ctx.monitor.info(text.clone());
            self.changes = ChangeSource::new("stream-compare", &text);
        } else {
            self.changes = ChangeSource::new("all", &self.plan.reason);
        }
        self.changes.exact = exact;
        asked.incremental = false;
        self.ctx.monitor.phase("waiting for a checkpoint");
        let mut session = self.origin.replication(self.ctx).await?;
        let started = session.base_backup(&asked).await?;
        Ok(Begun { session, started, limits: None })
    }

    /// Why the server cannot tell what changed.
    fn no_summaries(&self, parent: &Point) -> Option<String> {
        summaries::unfit(&self.origin, parent)
            .or_else(|| self.options.reread.map(|_| "all pages were asked for (--reread)".into()))
    }

    /// The inner error: why what the server sends must not be used.
    async fn start_incremental(
        &self,
        asked: &BaseBackup,
        reader: &PointReader,
        parent: &Point,
    ) -> Result<(Replication, Started, Result<Limits, String>)> {
        let mut upload = Upload::new(parent.server.system_identifier);
        let bs = self.origin.server.block_size;
        Tree::relations(reader, bs, &mut |path, size| upload.file(path, size)).await?;
        let bytes = upload.finish(parent.timeline, parent.redo_lsn, parent.stop_lsn);
        let mut session = self.origin.replication(self.ctx).await?;
        session.upload_manifest(&bytes).await?;
        self.ctx.monitor.phase("waiting for a checkpoint");
        let started = session.base_backup(asked).await?;
        let limits = summaries::limits(&self.origin, &self.cluster, parent, &started).await;
        Ok((session, started, limits))
    }

    /// Does every change of a page of this server have a record?
    fn hints_are_logged(&self) -> bool {
        let s = &self.origin.server;
        !s.in_recovery && (s.checksums() || s.setting("wal_log_hints") == "on")
    }

    /// Takes the stream; a second task keeps an eye on the server meanwhile.
    async fn copy(
        &mut self,
        session: &mut Replication,
        started: &Started,
        reader: Option<PointReader>,
        set: PackSet,
        limits: Option<Limits>,
    ) -> Result<Taken> {
        let ctx = self.ctx;
        let incremental = limits.is_some();
        let rt = tokio::runtime::Handle::current();
        let bs = self.origin.server.block_size;
        let pack_size = self.policy_vault.pack_size.0;
        let (tree, known) = match (&self.plan.parent, reader) {
            (Some(p), Some(reader)) => {
                let known = known_packs(p, reader.root(), &set)?;
                let before = if p.kind == PointKind::Incremental { p.changed_bytes } else { 0 };
                let wear = Wear::plan(reader.root(), &set, (bs, pack_size), (p.size_bytes, before));
                (Some(Tree::new(reader, rt.clone(), bs, (!incremental).then_some(wear))), known)
            }
            _ => (None, HashMap::new()),
        };
        ctx.monitor.phase("copying files");
        ctx.monitor.event(Event::Total(started.bytes));
        let shared = Arc::new(Shared {
            block_size: bs,
            checksums: self.origin.server.checksums(),
            start_lsn: started.start_lsn,
            watch: None,
            insert_lsn: AtomicU64::new(started.start_lsn.0),
            want_lsn: AtomicBool::new(false),
            digests: self.cluster.digests().clone(),
            frame_size: (self.policy_vault.frame_size.0 as usize).max(bs as usize),
            pack_size,
            stop: AtomicBool::new(false),
            monitor: ctx.monitor.clone(),
            // The server keeps to the rate.
            rate: 0,
            read_bytes: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            begun: Instant::now(),
        });
        let packs = RunPacks {
            cluster: self.cluster.clone(),
            run: self.run.clone(),
            next: AtomicU32::new(1),
            set: set.clone(),
            rt: rt.clone(),
        };
        let collector =
            Collector::new(self.cluster.clone(), self.run.clone(), set, rt.clone(), (bs, pack_size), known)?;
        let geometry = (bs, self.origin.server.segment_blocks);
        let of_stream = (limits, self.origin.root_mode);
        let (compression, workers) = (self.policy_vault.compression, ctx.workers());
        let (feed, fed) = tokio::sync::mpsc::channel(64);
        let mut incoming = Incoming::new(
            ctx.clone(),
            self.cluster.clone(),
            self.policy_vault.wal_compression,
            self.folder.path().to_path_buf(),
            rt,
            Expected {
                timeline: started.timeline,
                in_recovery: self.origin.server.in_recovery,
                archiver_works: self.origin.in_archive || self.origin.pushes,
                standing: self.standing,
            },
        );
        let work = {
            let shared = shared.clone();
            tokio::task::spawn_blocking(move || {
                let intake = move |begin, tasks, shared: &Shared, incoming: &mut Incoming| {
                    Intake::new(geometry, of_stream, tree, (begin, tasks), shared, incoming).run(fed)
                };
                let done =
                    copy_stream(intake, collector, &shared, &packs, (compression, workers), &mut incoming);
                done.map(|(copied, received)| (copied, received, incoming.gathered))
            })
        };
        tokio::pin!(work);
        let mut working = true;
        let failed = {
            let pump = async {
                while let Some(p) = session.piece().await? {
                    if feed.send(Feed::Piece(p)).await.is_err() {
                        return Err(EngineError::Cancelled);
                    }
                }
                let stop = session.end_backup().await?;
                feed.send(Feed::End).await.map_err(|_| EngineError::Cancelled)?;
                drop(feed);
                Ok(stop)
            };
            tokio::pin!(pump);
            let mut stop: Option<(Lsn, TimelineId)> = None;
            let mut asked = Instant::now();
            let in_recovery = self.origin.server.in_recovery;
            loop {
                tokio::select! {
                    done = &mut work => {
                        working = false;
                        let (copied, received, wal) = match done {
                            Ok(Ok(all)) => all,
                            Ok(Err(e)) => break e,
                            Err(e) => break EngineError::Worker(e.to_string()),
                        };
                        let Some(stop) = stop else { break EngineError::Cancelled };
                        let read_bytes = shared.read_bytes.load(Ordering::Relaxed);
                        return Ok(Taken { copied, received, stop, wal, read_bytes });
                    }
                    sent = &mut pump, if stop.is_none() => match sent {
                        Ok(s) => stop = Some(s),
                        // The other side says why.
                        Err(EngineError::Cancelled) => {
                            working = false;
                            break match (&mut work).await {
                                Ok(done) => done.err().unwrap_or(EngineError::Cancelled),
                                Err(e) => EngineError::Worker(e.to_string()),
                            };
                        }
                        Err(e) => break e,
                    },
                    () = tokio::time::sleep(Duration::from_millis(20)) => {
                        let wanted = shared.want_lsn.swap(false, Ordering::Relaxed);
                        if wanted || asked.elapsed() > Duration::from_secs(5) {
                            asked = Instant::now();
                            match insert_lsn(&self.origin.session, in_recovery).await {
                                Ok(lsn) => shared.insert_lsn.store(lsn.0, Ordering::Relaxed),
                                Err(e) => break e.into(),
                            }
                        }
                    }
                }
            }
        };
        // The feed is closed by now. Nothing may be written once the run has left word of its failure.
        shared.stop.store(true, Ordering::Relaxed);
        if working {
            let _ = work.await;
        }
        Err(failed)
    }

    /// The server's manifest against what came.
    fn check_arrived(&self, taken: &mut Taken, started: &Started) -> Result<()> {
        let bad = |why: String| EngineError::failed(why, "run it again; if it comes back, check the network");
        let manifest = Manifest::parse(&taken.received.manifest).map_err(bad)?;
        if taken.stop.1 == started.timeline {
            manifest.is_of(started.timeline, started.start_lsn, taken.stop.0).map_err(bad)?;
        }
        let arrived = std::mem::take(&mut taken.received.arrived);
        manifest.compare(self.origin.server.system_identifier, arrived).map_err(bad)
    }

    fn check_server(&self, taken: &Taken, started: &Started, control: &ControlFile) -> Result<()> {
        let again = |why: &str| EngineError::failed(why, "run it again");
        if control.system_identifier != self.origin.server.system_identifier {
            return Err(again("the backup came from another cluster than the one that was asked"));
        }
        if taken.stop.1 != started.timeline
            || crate::wal::owner::current_timeline(control) != started.timeline
        {
            return Err(again("the timeline changed during the backup"));
        }
        // A copy in recovery is none: it stops somewhere, and its history is its own.
        if self.origin.server.in_recovery != taken.received.standby_signal && !self.origin.server.in_recovery
        {
            return Err(again("the backup came from a standby, and the server that was asked is none"));
        }
        if self.origin.server.in_recovery && !taken.received.standby_signal {
            return Err(EngineError::refused(
                "the server is in recovery and is no standby",
                "wait until its recovery has ended, or point `source` at the primary or a standby",
            ));
        }
        Ok(())
    }

    /// All segments from start to stop are in the vault (R10).
    async fn wal(&mut self, taken: &mut Taken, started: &Started) -> Result<()> {
        let wanted = segments(&self.cluster, started.timeline, started.start_lsn, taken.stop.0);
        if self.origin.server.in_recovery {
            taken.wal = standby::gather(self.ctx, &self.cluster, self.folder.path(), &wanted).await?;
        }
        // The server may send a segment or two behind the end.
        taken.wal.needs.retain(|n| wanted.contains(&n.name));
        let have: Vec<_> = taken.wal.needs.iter().map(|n| n.name).collect();
        if let Some(missing) = wanted.iter().find(|w| !have.contains(w)) {
            return Err(EngineError::failed(
                format!("the server did not send wal segment {missing}, which the backup needs"),
                "raise wal_keep_size, or leave a replication slot free",
            ));
        }
        taken.wal.refuse_lost_copies()?;
        if taken.wal.stored_by_run > 0 && !self.origin.in_archive {
            let why = match self.origin.server.archiving() {
                true => "the archiver does not push into this vault",
                false => "wal archiving is off",
            };
            self.warn(format!(
                "{why}: this run stored the {} wal segments that the point needs; nothing after it can be \
                 recovered (hint: let the server's archive_command run `holdfast wal push`)",
                taken.wal.stored_by_run
            ));
        }
        Ok(())
    }

    /// A page that was being written while the server read it cannot be read again from here. If the WAL of
    /// the backup names it, it has it whole; anything else is damage.
    async fn judge_damage(&mut self, taken: &mut Taken, started: &Started) {
        if taken.copied.damaged.is_empty() {
            return;
        }
        let window = (started.start_lsn, taken.stop.0);
        let changes = match wal::repaired(&self.cluster, &taken.wal.needs, window).await {
            Ok(c) => c,
            Err(why) => {
                self.warn(format!("pages that did not check out count as damaged: {why}"));
                return;
            }
        };
        let per_segment = self.origin.server.segment_blocks;
        taken.copied.damaged.retain(|d| {
            let PathKind::RelationFork(r) = classify(&d.path) else { return true };
            let rel = RelFileLocator {
                tablespace: r.tablespace.oid(),
                database: r.database,
                relation: r.relfilenode,
            };
            let block = r.segment_no.wrapping_mul(per_segment).wrapping_add(d.block);
            !changes.set.relation(rel, r.fork).is_some_and(|c| c.takes(block))
        });
    }

    fn point(
        &self,
        taken: Taken,
        started: &Started,
        control: &ControlFile,
        copy_started_at: jiff::Timestamp,
        stop_time: jiff::Timestamp,
    ) -> Result<Point> {
        let odd = |what: String| EngineError::from(PgError::Protocol(what));
        let text =
            |b: Vec<u8>, what: &str| String::from_utf8(b).map_err(|_| odd(format!("{what} is not utf-8")));
        let received = taken.received;
        let mut label = BackupLabel::parse(&text(received.label, "backup_label")?)
            .map_err(|e| odd(format!("backup_label: {e}")))?;
        if (label.start_lsn, label.start_timeline) != (started.start_lsn, started.timeline) {
            return Err(odd("backup_label is of another backup".into()));
        }
        // The point is whole: a server that read this would refuse it as one that has to be combined.
        label.incremental_from = None;
        let s = &self.origin.server;
        let history = self.folder.path().join("pg_wal").join(format!("{}.history", started.timeline.hex()));
        // The archive says only numbers; the name is that of nearly every server.
        let (owner, group) = ("postgres".to_string(), "postgres".to_string());
        let host = HostFacts {
            data_directory: self.origin.data_directory.clone(),
            owner,
            group,
            history: std::fs::read_to_string(history).ok(),
            outside_config: Default::default(),
        };
        let stored: u64 = taken.copied.packs.iter().map(|p| p.len).sum();
        let (root, packs) = (root_json(&taken.copied), packs_json(&taken.copied));
        Ok(Point {
            id: self.run.clone(),
            database: self.ctx.db.name.clone(),
            cluster: self.cluster.path().cluster.clone(),
            kind: self.plan.kind,
            parent: self.plan.parent.as_ref().map(|p| p.id.clone()),
            started_at: self.started_at,
            copy_started_at,
            finished_at: jiff::Timestamp::now(),
            redo_lsn: started.start_lsn,
            start_lsn: started.start_lsn,
            stop_lsn: taken.stop.0,
            stop_time,
            timeline: started.timeline,
            backup_label: label.to_string(),
            tablespace_map: text(received.tablespace_map, "tablespace_map")?,
            control_file: B64.encode(received.control),
            tablespaces: started
                .tablespaces
                .iter()
                .filter(|t| t.location.starts_with('/'))
                .map(|t| Tablespace { oid: t.oid, location: t.location.clone() })
                .collect(),
            databases: Vec::new(),
            wal_link: None,
            server: facts_of(s, control, host),
            changes: self.changes.clone(),
            size_bytes: taken.copied.size_bytes,
            files: taken.copied.files,
            changed_bytes: taken.copied.changed_bytes,
            stored_bytes: stored + taken.wal.stored_bytes,
            root,
            packs,
            wal: taken.wal.needs,
            damaged: taken.copied.damaged,
            tags: self.options.tags.clone(),
            note: self.options.note.clone(),
            host: hostname(),
            tool: format!("holdfast {}", env!("CARGO_PKG_VERSION")),
            generation: self.plan.generation,
            copied: None,
        })
    }
}

/// Intake, workers and collector, each on its own threads.
fn copy_stream<F>(
    intake: F,
    collector: Collector,
    shared: &Shared,
    packs: &RunPacks,
    (compression, workers): (holdfast_core::policy::Compression, usize),
    incoming: &mut Incoming,
) -> Result<(Copied, Received)>
where
    F: FnOnce(
            crossbeam_channel::Sender<crate::backup::source::Begin>,
            crossbeam_channel::Sender<Vec<crate::backup::worker::ReadTask>>,
            &Shared,
            &mut Incoming,
        ) -> Result<Received>
        + Send,
{
    let (begin_tx, begin_rx) = crossbeam_channel::bounded(64);
    let (task_tx, task_rx) = crossbeam_channel::bounded(workers);
    let (found_tx, found_rx) = crossbeam_channel::bounded(256);
    std::thread::scope(|s| {
        let taking = s.spawn(move || intake(begin_tx, task_tx, shared, incoming));
        let mut handles = Vec::new();
        for _ in 0..workers {
            let (tasks, out) = (task_rx.clone(), found_tx.clone());
            handles.push(s.spawn(move || {
                let compressor =
                    Compressor::new(compression).map_err(|e| EngineError::Worker(e.to_string()))?;
                Worker::new(shared, packs, compressor, out).run(tasks)
            }));
        }
        drop((task_rx, found_tx));
        let collected = collector.run(begin_rx, found_rx);
        if collected.is_err() {
            shared.stop.store(true, Ordering::Relaxed);
        }
        let (mut received, mut results) = (None, Vec::new());
        match taking.join().unwrap_or_else(|_| Err(EngineError::Worker("the intake".into()))) {
            Ok(r) => received = Some(r),
            Err(e) => results.push(Err(e)),
        }
        for h in handles {
            results.push(h.join().unwrap_or_else(|_| Err(EngineError::Worker("a copy".into()))));
        }
        match first_reason(results) {
            Err(EngineError::Cancelled) => Err(collected.err().unwrap_or(EngineError::Cancelled)),
            Err(e) => Err(e),
            Ok(()) => Ok((collected?, received.ok_or(EngineError::Cancelled)?)),
        }
    })
}
