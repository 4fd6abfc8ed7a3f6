//! Which way a run finds changed blocks, and the sample that keeps watch over it (engine-rules §2.16).

use super::Job;
use super::window::Window;
use super::worker::Watched;
use holdfast_core::{Lsn, TimelineId};
use holdfast_pgformat::changes::CHANGES_VERSION;
use holdfast_vault::point::ChangeSource;
use std::sync::Arc;

/// Every so many runs that go by the WAL read a sample of the other pages, to see that none was missed.
const SAMPLE_EVERY: u64 = 16;
const SAMPLE_PERCENT: u8 = 2;

impl Job<'_> {
    /// The changes since the parent from the WAL, if they are known; says which way the run goes, and why.
    pub(super) async fn window(&mut self, timeline: TimelineId, redo: Lsn) -> Option<Arc<Window>> {
        let Some(parent) = &self.plan.parent else {
            self.changes = ChangeSource::new("all", &self.plan.reason);
            return None;
        };
        self.ctx.monitor.phase("looking up what changed");
        let read = match &self.plan.distrust {
            Some(why) => Err(why.clone()),
            None => Window::read(&self.cluster, &self.source.data_dir, parent, (timeline, redo)).await,
        };
        match read {
            Ok(w) => {
                let text = format!(
                    "{} segments of wal since {} name {} blocks",
                    w.segments(),
                    parent.id,
                    w.blocks()
                );
                self.changes = ChangeSource::new("wal-maps", &text);
                self.changes.decoder = Some(CHANGES_VERSION);
                Some(Arc::new(w))
            }
            Err(why) => {
                let text = format!("files are read and compared with {}: {why}", parent.id);
                self.ctx.monitor.info(text.clone());
                self.changes = ChangeSource::new("fingerprints", &text);
                None
            }
        }
    }

    /// What a sample (or all) of the pages that no record names showed.
    pub(super) fn judge_sample(&mut self, watched: &Watched) {
        self.changes.reread = watched.blocks;
        self.changes.missed = watched.missed;
        if watched.missed > 0 {
            self.warn(format!(
                "{} of {} pages that were read again had changed, and the wal since the parent does not name \
                 them: incremental points before this one may lack pages, and the next run is a full \
                 (hint: please report this, with `holdfast list --json`; `holdfast verify` the points that \
                 you count on)",
                watched.missed, watched.blocks
            ));
        }
    }

    pub(super) fn sample_percent(&self, window: &Option<Arc<Window>>) -> u8 {
        match self.options.reread {
            Some(n) => n.min(100),
            None if window.is_some() && self.plan.generation.is_multiple_of(SAMPLE_EVERY) => SAMPLE_PERCENT,
            None => 0,
        }
    }
}
