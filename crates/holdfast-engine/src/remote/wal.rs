//! The WAL that a point needs, from the end of the stream: [`Incoming`].
//!
//! The server sends the segments from start to stop, finished, and the histories of its timelines. Each is put
//! into a folder of this host that looks like the data directory's `pg_wal`, so that the same code as on the
//! server's own host checks it, compares it with what the vault has, or stores it; then it is removed.
//!
//! A run from elsewhere is no owner of an archive (decision 32): where the server's archiver works, it gets
//! [`PATIENCE`] for what is missing, and only then the run stores it.
//!
//! Crash: segments that arrived stay in the vault, as `wal push` would have stored them; the folder is emptied
//! by the next run.

use super::intake::WalSink;
use crate::backup::need::{Gathered, gather};
use crate::context::Context;
use crate::error::{EngineError, Result};
use crate::wal::archive::segment_head;
use crate::wal::file::WalFile;
use crate::wal::owner::current_timeline;
use crate::wal::push::store;
use holdfast_core::policy::Compression;
use holdfast_core::{Lsn, SegmentName, TimelineId};
use holdfast_pg::PgError;
use holdfast_pg::connect::Session;
use holdfast_pg::server::archiver;
use holdfast_pgformat::changes::{Distrust, scan_changes};
use holdfast_pgformat::control::{ControlFile, DbState};
use holdfast_pgformat::walname::WalFileName;
use holdfast_vault::ClusterVault;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long all segments together wait for the archiver.
const PATIENCE: Duration = Duration::from_secs(10);

/// A timeline's history is a few lines.
const TEXT_LIMIT: u64 = 1 << 20;

/// A folder that is gone when its run is.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Empties what a killed run left; the run's lock says that nobody is in there.
    pub fn make(ctx: &Context) -> Result<Self> {
        let dir = ctx.state.dir().join("incoming").join(ctx.db.name.to_string());
        match std::fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(EngineError::io("empty", &dir)(e));
            }
            _ => {}
        }
        for d in ["pg_wal", "global"] {
            let d = dir.join(d);
            std::fs::create_dir_all(&d).map_err(EngineError::io("make the directory", &d))?;
        }
        Ok(Folder(dir))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Files of `pg_wal` on their way into the vault.
#[derive(Debug)]
pub struct Incoming {
    pub ctx: Context,
    pub cluster: ClusterVault,
    pub compression: Compression,
    pub dir: PathBuf,
    pub rt: tokio::runtime::Handle,
    pub expected: Expected,
    pub gathered: Gathered,
    open: Option<(String, File)>,
    waited_since: Option<Instant>,
    /// The vault had a segment of this backup already, with the same content.
    known: bool,
}

/// What is known of the server's WAL and the vault's.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// The timeline in the vault belongs to somebody.
    pub owned: bool,
    /// The server's archive command is one of ours.
    pub pushes: bool,
}

/// What the stream should be, and who else stores WAL.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    pub timeline: TimelineId,
    pub in_recovery: bool,
    /// An archiver may bring what is missing.
    pub archiver_works: bool,
    pub standing: Standing,
}

impl Incoming {
    pub fn new(
        ctx: Context,
        cluster: ClusterVault,
        compression: Compression,
        dir: PathBuf,
        rt: tokio::runtime::Handle,
        expected: Expected,
    ) -> Self {
        Incoming {
            ctx,
            cluster,
            compression,
            dir,
            rt,
            expected,
            gathered: Gathered::default(),
            open: None,
            waited_since: None,
            known: false,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join("pg_wal").join(name)
    }

    async fn arrived(&mut self, name: &str, kind: WalFileName) -> Result<()> {
        match kind {
            WalFileName::Segment(s) if s.timeline == self.expected.timeline => {
                match self.wait_for_archiver(s).await? {
                    true => self.known = true,
                    false => self.may_store(s).await?,
                }
                let dir = self.dir.clone();
                let got = gather(&self.ctx, &self.cluster, self.compression, &dir, &[s], false).await?;
                self.gathered.needs.extend(got.needs);
                self.gathered.directory_ops.extend(got.directory_ops);
                self.gathered.stored_by_run += got.stored_by_run;
                self.gathered.stored_bytes += got.stored_bytes;
                Ok(())
            }
            WalFileName::History(t) if t <= self.expected.timeline => {
                let (_, control) = holdfast_pg::datadir::read_control(&self.dir)?;
                let file = WalFile::open(&self.path(name), name, kind, &control)?;
                store(&self.cluster, self.compression, &file).await?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// May the run bring a segment that the vault lacks? A clone with the same system identifier and timeline
    /// would occupy the names of what the owner has yet to push. (The caller compares what is there.)
    async fn may_store(&self, s: SegmentName) -> Result<()> {
        let bytes = std::fs::read(self.path(&s.to_string()))
            .map_err(EngineError::io("read", self.path(&s.to_string())))?;
        checks_out(s, &bytes, self.cluster.record().block_size)?;
        // Same content in the backup's first segment: it is the server whose WAL this is.
        if !self.expected.standing.owned || self.known {
            return Ok(());
        }
        if self.expected.standing.pushes {
            let session = Session::connect(self.ctx.conninfo()?).await?;
            if !archiver(&session).await?.failing {
                return Ok(());
            }
        }
        Err(EngineError::refused(
            format!(
                "wal segment {s} is not in the vault, where timeline {} belongs to another data directory, and \
                 nothing shows that this server is the one that pushes it",
                s.timeline
            ),
            "let the server's archive_command run `holdfast wal push` (see `holdfast wal status`); a clone takes the \
             archive over with `holdfast wal adopt` on its own host, or gets a database of its own in the policy",
        ))
    }

    /// Is the segment in the vault, if need be after a while?
    async fn wait_for_archiver(&mut self, s: SegmentName) -> Result<bool> {
        while segment_head(&self.cluster, s).await?.is_none() {
            if !self.expected.archiver_works {
                return Ok(false);
            }
            let since = *self.waited_since.get_or_insert_with(Instant::now);
            if since.elapsed() > PATIENCE {
                return Ok(false);
            }
            if self.ctx.monitor.cancelled() {
                return Err(EngineError::Cancelled);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(true)
    }
}

impl WalSink for Incoming {
    fn control(&mut self, bytes: &[u8]) -> Result<()> {
        let c = ControlFile::parse(bytes)
            .map_err(|e| PgError::Protocol(format!("the control file that came: {e}")))?;
        let (r, e) = (self.cluster.record(), self.expected);
        let state = if e.in_recovery { DbState::InArchiveRecovery } else { DbState::InProduction };
        // Of a standby, segments would come half written.
        if c.system_identifier != r.system_identifier
            || c.wal_segment_size != r.wal_segment_size
            || c.block_size != r.block_size
            || c.state != state
            || (!e.in_recovery && current_timeline(&c) != e.timeline)
        {
            return Err(EngineError::refused(
                format!(
                    "the backup came from another server than the one that was asked (system {}, {:?}, timeline {})",
                    c.system_identifier,
                    c.state,
                    current_timeline(&c)
                ),
                "run it again; if it comes back, name one server in `source` of the database in the policy",
            ));
        }
        let path = self.dir.join("global/pg_control");
        std::fs::write(&path, bytes).map_err(EngineError::io("write", path))
    }

    fn begin(&mut self, name: &str, size: u64) -> Result<()> {
        self.open = None;
        let fits = match name.parse::<WalFileName>() {
            Err(_) => return Ok(()),
            Ok(WalFileName::Segment(_)) => size == self.cluster.record().wal_segment_size.bytes(),
            Ok(_) => size <= TEXT_LIMIT,
        };
        if !fits {
            return Err(PgError::Protocol(format!("`pg_wal/{name}` has {size} bytes")).into());
        }
        let path = self.path(name);
        let file = File::create(&path).map_err(EngineError::io("write", &path))?;
        self.open = Some((name.to_string(), file));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.open {
            Some((name, file)) => {
                let path = self.dir.join("pg_wal").join(name.as_str());
                file.write_all(bytes).map_err(EngineError::io("write", path))
            }
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<()> {
        let Some((name, _)) = self.open.take() else { return Ok(()) };
        let Ok(kind) = name.parse::<WalFileName>() else { return Ok(()) };
        let rt = self.rt.clone();
        rt.block_on(self.arrived(&name, kind))?;
        // Histories are looked at once more for the point.
        if !matches!(kind, WalFileName::History(_)) {
            let path = self.path(&name);
            std::fs::remove_file(&path).map_err(EngineError::io("remove", &path))?;
        }
        Ok(())
    }
}

/// What came over the network and will count as the archive's: its records must check out.
fn checks_out(s: SegmentName, bytes: &[u8], block_size: u32) -> Result<()> {
    let why = match scan_changes(bytes, block_size) {
        Err(e) => e.to_string(),
        Ok(c) => match c.untrusted {
            Some(u) if matches!(u.why, Distrust::BadCrc | Distrust::Malformed | Distrust::Broken) => {
                format!("{:?} at {}", u.why, u.at)
            }
            _ => return Ok(()),
        },
    };
    Err(EngineError::failed(
        format!("wal segment {s} did not arrive whole: {why}"),
        "run it again; if it comes back, look into the server's pg_wal with pg_waldump",
    ))
}

/// Was a page that did not check out written since the backup began? Then the WAL of the point has it whole,
/// because full pages are written during a backup. `Err`: the WAL could not be asked.
pub async fn repaired(
    cluster: &ClusterVault,
    needs: &[holdfast_vault::point::WalNeed],
    (start, stop): (Lsn, Lsn),
) -> Result<holdfast_pgformat::changes::WindowChanges, String> {
    let mut window = holdfast_pgformat::changes::ChangeWindow::new(start);
    for n in needs {
        let (changes, _) = crate::wal::changes::stored(cluster, n.name).await?;
        window.add(changes).map_err(|e| e.to_string())?;
    }
    window.finish(stop).map_err(|e| e.to_string())
}
