//! Alarms that somebody keeps at the provider, declared so that `validate` can say whether they can ever
//! fire: [`Alarm`]. Holdfast neither makes nor reads them; the age of the newest success is its own alarm.

use super::database::dress;
use super::written::AlarmSection;
use crate::policy::file::{Named, Scalar};
use crate::policy::resolve::Resolver;
use crate::size::ByteSize;
use std::collections::BTreeMap;

/// `[databases.NAME.alarms.ALARM]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// `None`: that of the engine.
    pub namespace: Option<String>,
    pub metric: String,
    pub dimensions: Vec<String>,
    pub detects: Option<Detects>,
    pub threshold: Option<Threshold>,
    pub actions: Vec<String>,
}

/// What an alarm is meant to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detects {
    /// A backup that failed, or never ran.
    BackupFailure,
    /// What backups take.
    BackupStorage,
    /// The room that the database has or takes.
    Size,
    Load,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// Else above.
    pub below: bool,
    pub value: u64,
    /// It was written with a unit of bytes.
    pub bytes: bool,
}

const WORDS: [&str; 4] = ["backup-failure", "backup-storage", "size", "load"];

impl Detects {
    pub fn as_str(self) -> &'static str {
        match self {
            Detects::BackupFailure => "backup-failure",
            Detects::BackupStorage => "backup-storage",
            Detects::Size => "size",
            Detects::Load => "load",
        }
    }
}

impl Resolver<'_> {
    pub(super) fn alarms(&mut self, database: &str, w: &Named<AlarmSection>) -> BTreeMap<String, Alarm> {
        let mut out = BTreeMap::new();
        for (name, a) in w {
            let good_name = self.name(name, "alarm");
            if a.metric.is_none() {
                let path = ["databases", database, "alarms", name.get_ref()];
                self.missing(&path, "metric", name.span(), "Write the name of a metric of CloudWatch.");
            }
            let detects =
                a.detects.as_ref().and_then(|d| match self.word_of(d, "what an alarm detects", &WORDS)? {
                    "backup-failure" => Some(Detects::BackupFailure),
                    "backup-storage" => Some(Detects::BackupStorage),
                    "size" => Some(Detects::Size),
                    _ => Some(Detects::Load),
                });
            if let (Some(_), Some(b)) = (&a.above, &a.below) {
                self.problem(b.span(), "an alarm is `above` or `below`, not both", "Make two alarms of it.");
            }
            let mut threshold = None;
            for (below, w) in [(false, &a.above), (true, &a.below)] {
                let Some(w) = w else { continue };
                let found = match w.get_ref() {
                    Scalar::Number(n) => u64::try_from(*n).ok().map(|n| (n, false)),
                    Scalar::Text(t) => t.parse::<ByteSize>().ok().map(|s| (s.0, t.parse::<u64>().is_err())),
                    Scalar::Flag(_) => None,
                };
                match found {
                    Some((value, bytes)) => threshold = Some(Threshold { below, value, bytes }),
                    None => self.problem(
                        w.span(),
                        format!("`{}` is neither a number nor a size", w.get_ref()),
                        "Write for example `80` or `\"2TB\"`.",
                    ),
                }
            }
            let actions = a.actions.iter().filter_map(|t| self.arn(Some(t), "sns", "")).collect();
            if let (Some(name), Some(metric)) = (good_name, &a.metric) {
                let alarm = Alarm {
                    namespace: a.namespace.as_ref().map(|n| n.get_ref().clone()),
                    metric: metric.get_ref().clone(),
                    dimensions: dress(&a.dimensions),
                    detects,
                    threshold,
                    actions,
                };
                out.insert(name, alarm);
            }
        }
        out
    }
}
