//! `backup`: a recovery point of a running cluster, from its own host.
//!
//! The promise: when it returns, the point is complete, durable and restorable by itself, with the WAL
//! that makes it consistent; when it does not, the vault shows no point and nothing that was there is
//! touched.
//!
//! Order (R5, R10): lock → lease → parent not condemned → `pg_backup_start` → copy (files in parallel,
//! pg_control last) → `pg_backup_stop` → WAL durable in this vault → commit by create-if-absent.
//!
//! Crash at any step: packs and a lease without a point. The next run on this host declares the dead
//! run aborted; a later sweep removes its packs.

pub mod changes;
pub mod collect;
pub mod copy;
pub mod facts;
pub mod judge;
pub mod need;
pub mod origin;
pub mod plan;
pub mod source;
pub mod standby;
pub mod wear;
pub mod window;
pub mod worker;

use crate::context::{Context, open_vault};
use crate::error::{EngineError, Result};
use crate::heartbeat::Heartbeat;
use crate::state::hostname;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as B64;
use collect::{Collector, Copied, known_packs};
use copy::copy_files;
use facts::server_facts;
use holdfast_core::{Lsn, RunId, TimelineId};
use holdfast_pg::backup::{OnlineBackup, Stopped};
use holdfast_pg::connect::Session;
use holdfast_pg::datadir::{Layout, read_control};
use holdfast_pg::server::{Server, insert_lsn};
use holdfast_vault::point::{
    Aborted, ChangeSource, Cluster, DatabaseEntry, FailedRun, FrameJson, Lease, PackJson, Point, PointKind,
    Tablespace,
};
use holdfast_vault::reader::{PackSet, PointReader};
use holdfast_vault::vault::hex;
use holdfast_vault::{ClusterVault, PackClass, Signer, Vault};
use judge::{ParentTree, Reread};
use origin::Origin;
use plan::{BackupPlan, KindWanted};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use wear::Wear;
use window::Window;
use worker::{RunPacks, Shared};

/// What the user asked for.
#[derive(Debug, Clone, Default)]
pub struct BackupOptions {
    pub kind: KindWanted,
    pub tags: BTreeMap<String, String>,
    pub note: String,
    /// Over the replication protocol, whatever the policy says: see [`crate::remote`].
    pub remote: bool,
    /// Read so many percent of what shows no sign of change. `None`: as [`changes`] says.
    pub reread: Option<u8>,
}

/// A finished backup and how long its parts took.
#[derive(Debug, Clone)]
pub struct BackupReport {
    pub point: Point,
    pub reason: String,
    pub seconds: f64,
    pub checkpoint_seconds: f64,
    pub copy_seconds: f64,
    pub wal_seconds: f64,
    /// Bytes of the data directory that were read.
    pub read_bytes: u64,
    /// Of unchanged blocks that were stored anew, so that worn packs can go.
    pub rewritten_bytes: u64,
    pub warnings: Vec<String>,
}

/// Runs a backup.
pub async fn run(ctx: &Context, options: &BackupOptions) -> Result<BackupReport> {
    if options.remote || ctx.db.remote {
        return crate::remote::run(ctx, options).await;
    }
    let _lock = ctx.state.lock_run(&ctx.db.name)?;
    let begun = Instant::now();
    let started_at = jiff::Timestamp::now();
    let run = RunId::generate(started_at);
    let source = Origin::inspect(ctx).await?;
    let (policy_vault, vault) = ctx.open_backup_vault().await?;
    let cluster = open_cluster(ctx, &vault, &source.server).await?;
    // A copy's points would enter the history of the cluster that it was made of (trap 29).
    let timeline = crate::wal::owner::current_timeline(&source.control);
    match source.server.in_recovery {
        // Its WAL is its primary's, and so is the archive.
        true => crate::wal::owner::require_member(ctx)?,
        false => crate::wal::owner::authorize(ctx, &cluster, timeline, &source.data_dir).await?,
    }
    bury_dead_runs(ctx, &cluster).await?;
    let plan = plan::plan(&cluster, &source.server, options.kind).await?;
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
    let mut job = Job {
        ctx,
        policy_vault,
        cluster: cluster.clone(),
        run: run.clone(),
        started_at,
        plan,
        source,
        options,
        begun,
        warnings: Vec::new(),
        changes: ChangeSource::default(),
        timeline,
        read_bytes: 0,
    };
    let result = job.execute().await;
    if let Err(e) = &result {
        record_failure(&cluster, (&run, job.plan.kind, started_at), e).await;
    }
    result
}

pub(crate) async fn open_cluster(ctx: &Context, vault: &Vault, server: &Server) -> Result<ClusterVault> {
    let path = ctx.cluster_path(server.system_identifier);
    let make = || Cluster {
        database: ctx.db.name.clone(),
        cluster: path.cluster.clone(),
        system_identifier: server.system_identifier,
        major: server.version.major.number() as u16,
        block_size: server.block_size,
        wal_segment_size: server.wal_segment_size,
        created_at: jiff::Timestamp::now(),
        digest_secret: String::new(),
    };
    Ok(vault.ensure_cluster(path.clone(), make).await?)
}

/// Runs of this host that took a lease and never committed are dead: the lock says that no other run
/// of this database lives here. Declaring them so keeps a paused one from committing later (R5).
pub(crate) async fn bury_dead_runs(ctx: &Context, cluster: &ClusterVault) -> Result<()> {
    let folder = format!("{}/leases", cluster.path().folder());
    let leases = cluster.store().list(&folder).await?;
    if leases.is_empty() {
        return Ok(());
    }
    let committed: std::collections::HashSet<String> =
        cluster.store().list(&cluster.path().points()).await?.into_iter().map(|l| l.name).collect();
    for l in leases {
        let Some(run) = holdfast_vault::names::run_of(&l.name, "lease") else { continue };
        if committed.contains(&cluster.path().point(&run)) {
            continue;
        }
        // It did commit, and a sweep removed its point since.
        if cluster.is_condemned(&run).await? {
            continue;
        }
        if let Ok((holdfast_vault::point::Body::Lease(lease), _)) = cluster.vault().get_record(&l.name).await
            && lease.agent == ctx.state.agent()
        {
            let aborted = Aborted {
                run: run.clone(),
                by: hostname(),
                at: jiff::Timestamp::now(),
                reason: "its process is gone".into(),
            };
            if cluster.abort_run(aborted).await? {
                ctx.monitor.info(format!("run {run} of this host died earlier; it left no point"));
            }
        }
    }
    Ok(())
}

/// Leaves word of a failed run. Best effort: the vault may be what failed.
pub(crate) async fn record_failure(
    cluster: &ClusterVault,
    (run, kind, started_at): (&RunId, PointKind, jiff::Timestamp),
    e: &EngineError,
) {
    let aborted =
        Aborted { run: run.clone(), by: hostname(), at: jiff::Timestamp::now(), reason: e.to_string() };
    let _ = cluster.abort_run(aborted).await;
    let failed = FailedRun {
        run: run.clone(),
        kind: format!("{kind:?}").to_lowercase(),
        started_at,
        failed_at: jiff::Timestamp::now(),
        error: e.to_string(),
        hint: e.hint(),
        host: hostname(),
    };
    let name = cluster.path().failed(run);
    let body = holdfast_vault::point::Body::FailedRun(failed);
    let _ = cluster.vault().put_record(&name, &body, Signer::Host).await;
}

struct Job<'a> {
    ctx: &'a Context,
    policy_vault: holdfast_core::policy::Vault,
    cluster: ClusterVault,
    run: RunId,
    started_at: jiff::Timestamp,
    plan: BackupPlan,
    source: Origin,
    options: &'a BackupOptions,
    begun: Instant,
    warnings: Vec<String>,
    /// How changed blocks are found; set when the backup has started.
    changes: ChangeSource,
    /// Of the server, when the backup had started.
    timeline: TimelineId,
    read_bytes: u64,
}

impl Job<'_> {
    async fn execute(&mut self) -> Result<BackupReport> {
        for p in plan::parents(&self.plan) {
            if !self.cluster.can_build_on(&p).await? {
                return Err(EngineError::failed(format!("the parent {p} is being removed"), "run it again"));
            }
        }
        let ctx = self.ctx;
        ctx.monitor.phase("waiting for a checkpoint");
        let waited = Instant::now();
        let session = Session::connect(ctx.conninfo()?).await?;
        let label = format!("holdfast {}", self.run);
        let standby = self.source.server.in_recovery;
        let backup = OnlineBackup::start(session, &label, true, standby).await?;
        let checkpoint_seconds = waited.elapsed().as_secs_f64();
        let control = read_control(&self.source.data_dir)?.1;
        let timeline = control.checkpoint_copy.timeline;
        // A standby that has followed a promotion begins on the old timeline until its first restartpoint on
        // the new one, and its pages are past the fork: no WAL of one timeline would make it consistent.
        if standby && crate::wal::owner::current_timeline(&control) != timeline {
            return Err(EngineError::failed(
                "the standby has followed a promotion, and has no restartpoint on the new timeline yet",
                "run `checkpoint` on the new primary and wait until the standby has replayed it, then run it again",
            ));
        }
        // A standby begins at its last restartpoint, which may well lie before the parent's end.
        if let Some(p) = &self.plan.parent
            && !standby
            && let Err(why) = plan::still_usable(p, backup.start_lsn, timeline)
        {
            ctx.monitor.warning(format!("making a full: {why}"));
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
        let mut early = need::Early::new(&self.cluster, timeline, backup.start_lsn);
        self.timeline = timeline;
        let window = self.window(timeline, backup.start_lsn).await;
        let copied = self.copy(&backup, &mut early, window).await?;
        self.judge_sample(&copied.watched);
        let copy_seconds = copying.elapsed().as_secs_f64();
        self.add_new_tablespaces()?;
        let databases = self.databases(backup.session()).await;
        // Everything else is read: pg_control comes last (trap 18).
        let (control_bytes, _) = read_control(&self.source.data_dir)?;
        ctx.monitor.phase("waiting for wal");
        let waited = Instant::now();
        let start_lsn = backup.start_lsn;
        let stopped = backup.stop().await?;
        self.same_server(&stopped).await?;
        let wal = self.wal(&stopped, &early).await?;
        let wal_seconds = waited.elapsed().as_secs_f64();
        ctx.monitor.phase("committing");
        let rewritten_bytes = copied.rewritten_bytes;
        let mut point = self.point(copied, stopped, start_lsn, control_bytes, copy_started_at, wal)?;
        point.databases = databases;
        let (until, warned) = crate::lock::before_commit(&self.cluster, &point, &*ctx.monitor).await?;
        self.warnings.extend(warned);
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
            read_bytes: self.read_bytes,
            rewritten_bytes,
            warnings: std::mem::take(&mut self.warnings),
            point,
        })
    }

    fn warn(&mut self, text: String) {
        self.ctx.monitor.warning(text.clone());
        self.warnings.push(text);
    }

    /// Names are a convenience of `restore --only-database`: no reason for a backup to fail.
    async fn databases(&mut self, session: &Session) -> Vec<DatabaseEntry> {
        facts::databases(session).await.unwrap_or_else(|e| {
            self.warn(format!("the names of the databases are not recorded: {e}"));
            Vec::new()
        })
    }

    /// A tablespace that was made while files were copied has files in the point, and so must have its
    /// place; one that was dropped meanwhile keeps its own for the same reason.
    fn add_new_tablespaces(&mut self) -> Result<()> {
        for t in Layout::read(&self.source.data_dir)?.tablespaces {
            if !self.source.layout.tablespaces.iter().any(|k| k.oid == t.oid) {
                self.source.layout.tablespaces.push(t);
            }
        }
        Ok(())
    }

    /// Copies all files; a second task keeps the backup's session alive meanwhile.
    async fn copy(
        &mut self,
        backup: &OnlineBackup,
        early: &mut need::Early,
        window: Option<Arc<Window>>,
    ) -> Result<Copied> {
        let ctx = self.ctx;
        let set = PackSet::new(self.cluster.clone());
        let rt = tokio::runtime::Handle::current();
        let bs = self.source.server.block_size;
        let (parent, known) = match &self.plan.parent {
            None => (None, HashMap::new()),
            Some(p) => {
                ctx.monitor.phase("reading the parent's manifest");
                let reader = PointReader::open(set.clone(), p).await?;
                let known = known_packs(p, reader.root(), &set)?;
                let reread = Reread { percent: self.sample_percent(&window), seed: self.plan.generation };
                // What the parent stored says something of this run only if it was no full.
                let before = if p.kind == PointKind::Incremental { p.changed_bytes } else { 0 };
                let changing = window.as_ref().map_or(before, |w| w.blocks() * u64::from(bs));
                let sizes = (bs, self.policy_vault.pack_size.0);
                let wear = Wear::plan(reader.root(), &set, sizes, (p.size_bytes, changing));
                let now = jiff::Timestamp::now();
                let tree = ParentTree::new(reader, p, now, (window.clone(), reread), wear);
                (Some(tree), known)
            }
        };
        ctx.monitor.phase("copying files");
        ctx.monitor.event(holdfast_core::monitor::Event::Total(expected_bytes(&self.source.session).await));
        let frame_size = (self.policy_vault.frame_size.0 as usize).max(bs as usize);
        let shared = Arc::new(Shared {
            block_size: bs,
            checksums: self.source.server.checksums(),
            start_lsn: backup.start_lsn,
            watch: window.as_ref().map(|w| self.watch(w)),
            insert_lsn: AtomicU64::new(backup.start_lsn.0),
            want_lsn: AtomicBool::new(false),
            digests: self.cluster.digests().clone(),
            frame_size,
            pack_size: self.policy_vault.pack_size.0,
            stop: AtomicBool::new(false),
            monitor: ctx.monitor.clone(),
            rate: ctx.policy.tuning.rate.map_or(0, |r| r.0),
            read_bytes: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            begun: Instant::now(),
        });
        let packs = Arc::new(RunPacks {
            cluster: self.cluster.clone(),
            run: self.run.clone(),
            next: AtomicU32::new(1),
            set: set.clone(),
            rt: rt.clone(),
        });
        let collector = Collector::new(
            self.cluster.clone(),
            self.run.clone(),
            set,
            rt.clone(),
            (bs, shared.pack_size),
            known,
        )?;
        let data_dir = self.source.data_dir.clone();
        let geometry = (bs, self.source.server.segment_blocks);
        let compression = self.policy_vault.compression;
        let workers = ctx.workers();
        let work = {
            let shared = shared.clone();
            tokio::task::spawn_blocking(move || {
                copy_files(&data_dir, geometry, parent, collector, &shared, &packs, compression, workers, rt)
            })
        };
        tokio::pin!(work);
        let mut asked = Instant::now();
        loop {
            tokio::select! {
                done = &mut work => {
                    self.read_bytes = shared.read_bytes.load(Ordering::Relaxed);
                    return done.map_err(|e| EngineError::Worker(e.to_string()))?;
                }
                () = tokio::time::sleep(Duration::from_millis(20)) => {
                    // A page from beyond the last known position, or a while since the last question.
                    let wanted = shared.want_lsn.swap(false, Ordering::Relaxed);
                    if wanted || asked.elapsed() > Duration::from_secs(5) {
                        asked = Instant::now();
                        let alive = match backup.ping().await {
                            Ok(lsn) => {
                                shared.insert_lsn.store(lsn.0, Ordering::Relaxed);
                                self.keep_wal(backup, early).await
                            }
                            Err(e) => Err(e.into()),
                        };
                        if let Err(e) = alive {
                            shared.stop.store(true, Ordering::Relaxed);
                            let _ = (&mut work).await;
                            return Err(e);
                        }
                    }
                }
            }
        }
    }

    /// Without an archiver nobody but this run keeps the WAL of a long copy.
    async fn keep_wal(&self, backup: &OnlineBackup, early: &mut need::Early) -> Result<()> {
        if self.source.archiver_works {
            return Ok(());
        }
        let flushed = backup.flushed().await?;
        let compression = self.policy_vault.wal_compression;
        early.advance(self.ctx, &self.cluster, compression, &self.source.data_dir, flushed).await
    }

    /// A promotion or restart on another timeline in the middle makes the copy worthless.
    async fn same_server(&self, stopped: &Stopped) -> Result<()> {
        let (_, control) = read_control(&self.source.data_dir)?;
        if control.system_identifier != self.source.control.system_identifier
            || crate::wal::owner::current_timeline(&control) != stopped.label.start_timeline
        {
            return Err(EngineError::failed("the timeline changed during the backup", "run it again"));
        }
        Ok(())
    }

    async fn wal(&mut self, stopped: &Stopped, early: &need::Early) -> Result<need::Gathered> {
        let t = stopped.label.start_timeline;
        let wanted = need::segments(&self.cluster, t, stopped.label.start_lsn, stopped.stop_lsn);
        let works = self.source.archiver_works;
        let compression = self.policy_vault.wal_compression;
        let dir = self.source.data_dir.clone();
        if self.source.server.in_recovery {
            let got = standby::gather(self.ctx, &self.cluster, &dir, &wanted).await?;
            got.refuse_lost_copies()?;
            return Ok(got);
        }
        let mut got = need::gather(self.ctx, &self.cluster, compression, &dir, &wanted, works).await?;
        got.stored_by_run += early.stored_by_run;
        got.stored_bytes += early.stored_bytes;
        got.refuse_lost_copies()?;
        if got.stored_by_run > 0 && !works {
            let why = if self.source.server.archiving() {
                "the archiver is failing"
            } else {
                "wal archiving is off"
            };
            self.warn(format!(
                "{why}: this run stored the {} wal segments that the point needs; nothing after it can be \
                 recovered (hint: see `holdfast doctor`)",
                got.stored_by_run
            ));
        }
        Ok(got)
    }

    fn point(
        &self,
        copied: Copied,
        stopped: Stopped,
        start_lsn: Lsn,
        control_bytes: Vec<u8>,
        copy_started_at: jiff::Timestamp,
        wal: need::Gathered,
    ) -> Result<Point> {
        let s = &self.source.server;
        let stop_time = stopped
            .time
            .parse()
            .map_err(|_| EngineError::failed("the server's clock cannot be read", "run it again"))?;
        let stored: u64 = copied.packs.iter().map(|p| p.len).sum();
        Ok(Point {
            id: self.run.clone(),
            database: self.ctx.db.name.clone(),
            cluster: self.cluster.path().cluster.clone(),
            kind: self.plan.kind,
            parent: self.plan.parent.as_ref().map(|p| p.id.clone()),
            started_at: self.started_at,
            copy_started_at,
            finished_at: jiff::Timestamp::now(),
            redo_lsn: stopped.label.start_lsn,
            start_lsn,
            stop_lsn: stopped.stop_lsn,
            stop_time,
            timeline: stopped.label.start_timeline,
            backup_label: stopped.label_text,
            tablespace_map: stopped.tablespace_map,
            control_file: B64.encode(control_bytes),
            tablespaces: self
                .source
                .layout
                .tablespaces
                .iter()
                .filter_map(|t| {
                    let location = t.location.as_ref()?.to_string_lossy().into_owned();
                    Some(Tablespace { oid: t.oid, location })
                })
                .collect(),
            databases: Vec::new(),
            wal_link: self.source.layout.wal_link.as_ref().map(|p| p.to_string_lossy().into_owned()),
            server: server_facts(s, &self.source.control, &self.source.data_dir)?,
            changes: self.changes.clone(),
            size_bytes: copied.size_bytes,
            files: copied.files,
            changed_bytes: copied.changed_bytes,
            stored_bytes: stored + wal.stored_bytes,
            root: root_json(&copied),
            packs: packs_json(&copied),
            wal: wal.needs,
            damaged: copied.damaged,
            tags: self.options.tags.clone(),
            note: self.options.note.clone(),
            host: hostname(),
            tool: format!("holdfast {}", env!("CARGO_PKG_VERSION")),
            generation: self.plan.generation,
            copied: None,
        })
    }
}

/// Where the manifest begins, as the point names it.
pub(crate) fn root_json(copied: &Copied) -> FrameJson {
    FrameJson {
        pack: copied.root_pack,
        index: copied.root.index,
        offset: copied.root.offset,
        sealed_len: copied.root.sealed_len,
        plain_len: copied.root.plain_len,
        codec: copied.root.codec as u8,
    }
}

/// The packs of a run, as the point names them.
pub(crate) fn packs_json(copied: &Copied) -> Vec<PackJson> {
    let class = |c| match c {
        PackClass::Data => "data".to_string(),
        PackClass::Meta => "meta".to_string(),
    };
    let one = |p: &holdfast_vault::pack::PackInfo| PackJson {
        class: class(p.id.class),
        number: p.id.number,
        len: p.len,
        digest: hex(&p.digest),
    };
    copied.packs.iter().map(one).collect()
}

/// For the progress bar only.
async fn expected_bytes(s: &Session) -> u64 {
    s.text("select coalesce(sum(pg_database_size(oid)), 0)::bigint::text from pg_database")
        .await
        .ok()
        .and_then(|t| t.parse().ok())
        .unwrap_or(0)
}

/// The server's position right now, for those who only want to know.
pub async fn current_lsn(ctx: &Context) -> Result<Lsn> {
    let s = Session::connect(ctx.conninfo()?).await?;
    Ok(insert_lsn(&s, false).await?)
}

/// Opens the database's vault by name, for callers outside of a run.
pub async fn vault_of(ctx: &Context) -> Result<Vault> {
    open_vault(&ctx.first_vault()?).await
}
