//! Timeline history files (`00000002.history`): [`TimelineHistory`].
//!
//! Written by `writeTimeLineHistory`, read by `readTimeLineHistory` and asked by
//! `tliOfPointInHistory` (src/backend/access/transam/timeline.c).
//!
//! Invariants: entries are in ascending order of timeline and of switch position, all timelines are
//! below the file's own.

use holdfast_core::lsn::{Lsn, TimelineId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text is not a history file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    #[error("timeline history, line {line}: expected a timeline and a switch position, found `{text}`")]
    Syntax { line: usize, text: String },
    #[error("timeline history, line {line}: timeline {found} does not come after timeline {previous}")]
    Order { line: usize, previous: TimelineId, found: TimelineId },
    #[error("timeline history, line {line}: switch position {found} lies before {previous}")]
    SwitchOrder { line: usize, previous: Lsn, found: Lsn },
    #[error("timeline history of {own}, line {line}: timeline {found} is not below it")]
    NotBelowOwn { line: usize, own: TimelineId, found: TimelineId },
}

/// One line: where a parent timeline was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    pub timeline: TimelineId,
    /// First position that belongs to the next timeline.
    pub switch_lsn: Lsn,
    pub reason: String,
}

/// A timeline and its ancestors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineHistory {
    timeline: TimelineId,
    entries: Vec<HistoryEntry>,
}

impl TimelineHistory {
    /// A timeline without a history file, such as 1.
    pub fn root(timeline: TimelineId) -> Self {
        TimelineHistory { timeline, entries: Vec::new() }
    }

    /// Reads the history file of `timeline`.
    pub fn parse(timeline: TimelineId, text: &str) -> Result<Self, HistoryError> {
        let mut h = TimelineHistory::root(timeline);
        for (i, raw) in text.lines().enumerate() {
            let line = i + 1;
            let content = raw.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let bad = || HistoryError::Syntax { line, text: content.chars().take(100).collect() };
            let (tli, rest) = content.split_once(char::is_whitespace).ok_or_else(bad)?;
            let rest = rest.trim_start();
            let (lsn, reason) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            if !tli.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad());
            }
            let found: TimelineId = tli.parse().map_err(|_| bad())?;
            let switch_lsn: Lsn = lsn.parse().map_err(|_| bad())?;
            h.push(line, HistoryEntry { timeline: found, switch_lsn, reason: reason.trim().to_string() })?;
        }
        Ok(h)
    }

    fn push(&mut self, line: usize, e: HistoryEntry) -> Result<(), HistoryError> {
        if e.timeline >= self.timeline {
            return Err(HistoryError::NotBelowOwn { line, own: self.timeline, found: e.timeline });
        }
        if let Some(last) = self.entries.last() {
            if e.timeline <= last.timeline {
                return Err(HistoryError::Order { line, previous: last.timeline, found: e.timeline });
            }
            if e.switch_lsn < last.switch_lsn {
                return Err(HistoryError::SwitchOrder {
                    line,
                    previous: last.switch_lsn,
                    found: e.switch_lsn,
                });
            }
        }
        self.entries.push(e);
        Ok(())
    }

    /// The history of a new timeline that leaves this one at `switch_lsn`.
    pub fn child(&self, timeline: TimelineId, switch_lsn: Lsn, reason: &str) -> Result<Self, HistoryError> {
        let mut h = TimelineHistory { timeline, entries: Vec::new() };
        let reason = reason.replace(['\n', '\r'], " ");
        let own = HistoryEntry { timeline: self.timeline, switch_lsn, reason };
        for (i, e) in self.entries.iter().cloned().chain([own]).enumerate() {
            h.push(i + 1, e)?;
        }
        Ok(h)
    }

    pub fn timeline(&self) -> TimelineId {
        self.timeline
    }

    /// The ancestors, oldest first.
    pub fn entries(&self) -> &[HistoryEntry] {
        &self.entries
    }

    pub fn parent(&self) -> Option<&HistoryEntry> {
        self.entries.last()
    }

    /// From where to where `timeline` counts: the start, and the end (excluded) unless it is the
    /// newest. `None` when it is not an ancestor.
    pub fn range_of(&self, timeline: TimelineId) -> Option<(Lsn, Option<Lsn>)> {
        let mut begin = Lsn::INVALID;
        for e in &self.entries {
            if e.timeline == timeline {
                return Some((begin, Some(e.switch_lsn)));
            }
            begin = e.switch_lsn;
        }
        (timeline == self.timeline).then_some((begin, None))
    }

    /// Whether the byte at `lsn` of `timeline` is part of this history.
    pub fn contains(&self, timeline: TimelineId, lsn: Lsn) -> bool {
        self.range_of(timeline).is_some_and(|(begin, end)| begin <= lsn && end.is_none_or(|e| lsn < e))
    }

    /// The timeline that the byte at `lsn` is on (`tliOfPointInHistory`).
    pub fn timeline_of(&self, lsn: Lsn) -> TimelineId {
        self.entries.iter().find(|e| lsn < e.switch_lsn).map_or(self.timeline, |e| e.timeline)
    }

    /// Whether a server that stood at `end` (excluded, such as the stop position of a backup) of
    /// `timeline` can go on along this history: the timeline is here and was not left before `end`.
    pub fn descends_from(&self, timeline: TimelineId, end: Lsn) -> bool {
        self.range_of(timeline).is_some_and(|(_, left)| left.is_none_or(|l| end <= l))
    }
}

/// As the server writes it. Comments and blank lines of the source text are not kept.
impl fmt::Display for TimelineHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for e in &self.entries {
            writeln!(f, "{}\t{}\t{}", e.timeline, e.switch_lsn, e.reason)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "1\t0/3000158\tno recovery target specified\n\n2\t0/5000000\tbefore 2026-01-02\n";

    #[test]
    fn questions() {
        let h = TimelineHistory::parse(TimelineId(4), TEXT).unwrap();
        let (t1, t2, t3, t4) = (TimelineId(1), TimelineId(2), TimelineId(3), TimelineId(4));
        assert_eq!(h.timeline_of(Lsn(0x3000157)), t1);
        assert_eq!(h.timeline_of(Lsn(0x3000158)), t2);
        assert_eq!(h.timeline_of(Lsn(0x5000000)), t4);
        assert!(h.contains(t1, Lsn(0x3000157)) && !h.contains(t1, Lsn(0x3000158)));
        assert!(!h.contains(t2, Lsn(0x3000157)) && h.contains(t4, Lsn(u64::MAX)));
        assert!(!h.contains(t3, Lsn(0x5000001)));
        assert!(h.descends_from(t1, Lsn(0x3000158)) && !h.descends_from(t1, Lsn(0x3000159)));
        assert!(h.descends_from(t4, Lsn(0x9000000)) && !h.descends_from(t3, Lsn(1)));
        assert_eq!(h.range_of(t4), Some((Lsn(0x5000000), None)));
        assert_eq!(h.parent().unwrap().reason, "before 2026-01-02");
    }

    #[test]
    fn round_trip_and_children() {
        let h = TimelineHistory::parse(TimelineId(4), TEXT).unwrap();
        assert_eq!(TimelineHistory::parse(TimelineId(4), &h.to_string()).unwrap(), h);
        let c = h.child(TimelineId(5), Lsn(0x6000000), "why\nnot").unwrap();
        assert_eq!(c.entries().len(), 3);
        assert_eq!(TimelineHistory::parse(TimelineId(5), &c.to_string()).unwrap(), c);
        assert!(h.child(TimelineId(4), Lsn(0x6000000), "").is_err());
    }

    #[test]
    fn malformed_files() {
        let own = TimelineId(9);
        let parse = |t| TimelineHistory::parse(own, t);
        for bad in ["x\t0/1\tr", "1", "1\t", "1\t01\tr", "1\t0/\tr", "-1\t0/1", "0\t0/1", "1 2 3", "0xA\t0/1"]
        {
            assert!(matches!(parse(bad), Err(HistoryError::Syntax { line: 1, .. })), "{bad}");
        }
        assert!(matches!(parse("2\t0/1\n2\t0/2"), Err(HistoryError::Order { line: 2, .. })));
        assert!(matches!(parse("2\t0/2\n3\t0/1"), Err(HistoryError::SwitchOrder { line: 2, .. })));
        assert!(matches!(parse("9\t0/2"), Err(HistoryError::NotBelowOwn { .. })));
        assert_eq!(parse("# nothing\n\n"), Ok(TimelineHistory::root(own)));
    }
}
