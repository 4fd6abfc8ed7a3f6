//! Which way a run finds changed blocks, and the sample that keeps watch over it (engine-rules §2.16).

use super::Job;
use super::window::Window;
use super::worker::{Watch, Watched};
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
            self.changes.exact = self.hints_are_logged();
            return None;
        };
        let all = self.options.reread == Some(100);
        let exact = self.hints_are_logged() && (all || self.parent_is_exact(timeline));
        self.ctx.monitor.phase("looking up what changed");
        let read = match &self.plan.distrust {
            Some(why) => Err(why.clone()),
            None => Window::read(&self.cluster, &self.source.data_dir, parent, (timeline, redo)).await,
        };
        let found = match read {
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
        };
        self.changes.exact = exact;
        found
    }

    /// Does every change of a page of this server have a record? A standby sets no hints, but its pages lack
    /// those that its primary set and did not log.
    fn hints_are_logged(&self) -> bool {
        let s = &self.source.server;
        !s.in_recovery && (s.checksums() || s.setting("wal_log_hints") == "on")
    }

    fn parent_is_exact(&self, timeline: TimelineId) -> bool {
        self.plan.parent.as_ref().is_some_and(|p| p.changes.exact && p.timeline == timeline)
    }

    /// With what pages are judged that the window does not name.
    pub(super) fn watch(&self, window: &Window) -> Watch {
        let exact = self.hints_are_logged() && self.parent_is_exact(self.timeline);
        Watch { from: window.from, exact }
    }

    /// What a sample (or all) of the pages that no record names showed.
    pub(super) fn judge_sample(&mut self, watched: &Watched) {
        self.changes.reread = watched.blocks;
        self.changes.missed = watched.missed;
        if watched.missed > 0 {
            self.warn(format!(
                "{} of {} pages that were read again had changed, and the wal since the parent does not name \
                 them: {} may lack pages, and the next run is a full \
                 (hint: please report this, with `holdfast list --json`; `holdfast verify` the points that \
                 you count on)",
                watched.missed,
                watched.blocks,
                match self.options.reread {
                    Some(100) => "incremental points before this one",
                    _ => "this point and incremental ones before it",
                }
            ));
        }
    }

    /// By a hash, so that a rotation of fulls does not take all the turns.
    fn is_sampled(&self) -> bool {
        let hash = self.plan.generation.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        hash.is_multiple_of(SAMPLE_EVERY)
    }

    pub(super) fn sample_percent(&self, window: &Option<Arc<Window>>) -> u8 {
        match self.options.reread {
            Some(n) => n.min(100),
            None if window.is_some() && self.is_sampled() => SAMPLE_PERCENT,
            None => 0,
        }
    }
}
