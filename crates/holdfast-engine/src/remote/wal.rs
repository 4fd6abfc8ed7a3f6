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
use crate::wal::push::store;
use holdfast_core::policy::Compression;
use holdfast_core::{Lsn, TimelineId};
use holdfast_pgformat::walname::WalFileName;
use holdfast_vault::ClusterVault;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long all segments together wait for the archiver.
const PATIENCE: Duration = Duration::from_secs(10);

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
    /// An archiver may bring what is missing.
    pub archiver_works: bool,
    pub timeline: TimelineId,
    pub gathered: Gathered,
    open: Option<(String, File)>,
    waited_since: Option<Instant>,
}

impl Incoming {
    pub fn new(
        ctx: Context,
        cluster: ClusterVault,
        compression: Compression,
        dir: PathBuf,
        rt: tokio::runtime::Handle,
        (archiver_works, timeline): (bool, TimelineId),
    ) -> Self {
        Incoming {
            ctx,
            cluster,
            compression,
            dir,
            rt,
            archiver_works,
            timeline,
            gathered: Gathered::default(),
            open: None,
            waited_since: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join("pg_wal").join(name)
    }

    async fn arrived(&mut self, name: &str, kind: WalFileName) -> Result<()> {
        match kind {
            WalFileName::Segment(s) if s.timeline == self.timeline => {
                self.wait_for_archiver(s).await?;
                let dir = self.dir.clone();
                let got = gather(&self.ctx, &self.cluster, self.compression, &dir, &[s], false).await?;
                self.gathered.needs.extend(got.needs);
                self.gathered.directory_ops.extend(got.directory_ops);
                self.gathered.stored_by_run += got.stored_by_run;
                self.gathered.stored_bytes += got.stored_bytes;
                Ok(())
            }
            WalFileName::History(t) if t <= self.timeline => {
                let (_, control) = holdfast_pg::datadir::read_control(&self.dir)?;
                let file = WalFile::open(&self.path(name), name, kind, &control)?;
                store(&self.cluster, self.compression, &file).await?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn wait_for_archiver(&mut self, s: holdfast_core::SegmentName) -> Result<()> {
        while self.archiver_works && segment_head(&self.cluster, s).await?.is_none() {
            let since = *self.waited_since.get_or_insert_with(Instant::now);
            if since.elapsed() > PATIENCE {
                break;
            }
            if self.ctx.monitor.cancelled() {
                return Err(EngineError::Cancelled);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

impl WalSink for Incoming {
    fn control(&mut self, bytes: &[u8]) -> Result<()> {
        let path = self.dir.join("global/pg_control");
        std::fs::write(&path, bytes).map_err(EngineError::io("write", path))
    }

    fn begin(&mut self, name: &str) -> Result<()> {
        if name.parse::<WalFileName>().is_err() {
            self.open = None;
            return Ok(());
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
