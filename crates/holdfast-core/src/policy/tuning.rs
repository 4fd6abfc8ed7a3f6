//! How much of the host Holdfast may use: [`Tuning`].

use super::file::{Named, Scalar, TuningSection};
use super::resolve::Resolver;
use crate::limits::Limits;
use crate::size::ByteSize;
use crate::time::Duration;
use toml::Spanned;

/// `[tuning]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    /// Parallel workers; `None` lets the engine choose by the host's CPUs.
    pub workers: Option<usize>,
    /// Bytes per second read from the database host; `None` is unlimited.
    pub rate: Option<ByteSize>,
    /// Added to the scheduling priority of backup runs, -20 to 19; `None` leaves it alone.
    pub nice: Option<i32>,
    /// How long a backup waits for its WAL to be archived.
    pub archive_timeout: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning { workers: None, rate: None, nice: None, archive_timeout: Duration(600) }
    }
}

impl Resolver<'_> {
    pub(super) fn limits(&mut self, w: &Named<Spanned<Scalar>>) -> Limits {
        Limits::read(w, &mut |at, message, hint| self.problem(at, message, hint))
    }

    pub(super) fn tuning(&mut self, w: &TuningSection) -> Tuning {
        let mut out = Tuning::default();
        if let Some(n) = &w.workers {
            out.workers = usize::try_from(*n.get_ref()).ok().filter(|n| (1..=256).contains(n));
            if out.workers.is_none() {
                self.problem(
                    n.span(),
                    format!("`workers` is from 1 to 256, not {}", n.get_ref()),
                    "Leave the key out to let holdfast choose.",
                );
            }
        }
        out.rate = self.size_per(w.rate.as_ref(), "/s");
        if let (Some(r), Some(ByteSize(0))) = (&w.rate, out.rate) {
            self.problem(r.span(), "`rate` cannot be 0", "Leave the key out for no limit.");
        }
        if let Some(n) = &w.nice {
            out.nice = i32::try_from(*n.get_ref()).ok().filter(|n| (-20..=19).contains(n));
            if out.nice.is_none() {
                self.problem(
                    n.span(),
                    format!("`nice` is from -20 to 19, not {}", n.get_ref()),
                    "Write 10 to let everything else on the host go first.",
                );
            }
        }
        if let Some(d) = self.duration(w.archive_timeout.as_ref()) {
            out.archive_timeout = d;
        }
        out
    }
}
