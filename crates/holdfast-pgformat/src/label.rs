//! `backup_label`, backup history files and `tablespace_map`.
//!
//! `build_backup_content` (src/backend/access/transam/xlogbackup.c; in 15 part of xlog.c) writes a
//! label, `read_backup_label` and `read_tablespace_map` (xlogrecovery.c) read it, `do_pg_backup_start`
//! (xlog.c) escapes the map. A restore writes the texts that `pg_backup_stop` returned, unchanged;
//! these types are for reading them and for labels we must make ourselves.

use holdfast_core::lsn::{Lsn, SegmentName, TimelineId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text is not a label or map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    #[error("backup_label lacks the line `{0}:`")]
    Missing(&'static str),
    #[error("backup_label has an unreadable line `{0}`")]
    Malformed(String),
    #[error("backup_label names timeline {line} but starts in segment {segment}")]
    Timeline { line: TimelineId, segment: SegmentName },
    #[error("tablespace_map has an unreadable line {0}")]
    MapLine(usize),
    #[error("tablespace_map ends in the middle of a line")]
    MapCut,
}

/// Where a backup was taken from (`BACKUP FROM`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupFrom {
    Primary,
    Standby,
}

/// What only a backup history file has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupStop {
    pub lsn: Lsn,
    pub segment: SegmentName,
    pub time: String,
    pub timeline: TimelineId,
}

/// A `backup_label`, or (with [`BackupLabel::stop`]) a backup history file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupLabel {
    /// Redo position of the backup's checkpoint: replay starts here.
    pub start_lsn: Lsn,
    pub start_segment: SegmentName,
    pub stop: Option<BackupStop>,
    pub checkpoint_lsn: Lsn,
    /// `streamed`; pg_rewind writes `pg_rewind`.
    pub method: String,
    pub from: BackupFrom,
    /// In the server's `log_timezone`, as written: `2026-01-02 03:04:05 UTC`.
    pub start_time: String,
    pub label: String,
    pub start_timeline: TimelineId,
    /// 17 and later: the server refuses to start with this line; pg_combinebackup removes it.
    pub incremental_from: Option<(Lsn, TimelineId)>,
}

impl BackupLabel {
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        let mut fields = Fields { lines: text.lines().collect() };
        let (start_lsn, start_segment) = location(fields.need("START WAL LOCATION")?)?;
        let stop_at = fields.take("STOP WAL LOCATION").map(location).transpose()?;
        let checkpoint_lsn = parse_or(fields.need("CHECKPOINT LOCATION")?)?;
        let method = fields.take("BACKUP METHOD").unwrap_or_default().to_string();
        let from = match fields.take("BACKUP FROM") {
            Some("standby") => BackupFrom::Standby,
            _ => BackupFrom::Primary,
        };
        let start_time = fields.take("START TIME").unwrap_or_default().to_string();
        let label = fields.take("LABEL").unwrap_or_default().to_string();
        let start_timeline = match fields.take("START TIMELINE") {
            Some(t) => parse_or(t)?,
            None => start_segment.timeline,
        };
        if start_timeline != start_segment.timeline {
            return Err(LabelError::Timeline { line: start_timeline, segment: start_segment });
        }
        let stop_time = fields.take("STOP TIME").unwrap_or_default().to_string();
        let stop_timeline = fields.take("STOP TIMELINE").map(parse_or).transpose()?;
        let stop = stop_at.map(|(lsn, segment)| BackupStop {
            lsn,
            segment,
            time: stop_time,
            timeline: stop_timeline.unwrap_or(segment.timeline),
        });
        let from_lsn = fields.take("INCREMENTAL FROM LSN").map(parse_or).transpose()?;
        let from_timeline = fields.take("INCREMENTAL FROM TLI").map(parse_or).transpose()?;
        let incremental_from = match (from_lsn, from_timeline) {
            (Some(l), Some(t)) => Some((l, t)),
            (None, None) => None,
            (Some(_), None) => return Err(LabelError::Missing("INCREMENTAL FROM TLI")),
            (None, Some(_)) => return Err(LabelError::Missing("INCREMENTAL FROM LSN")),
        };
        Ok(BackupLabel {
            start_lsn,
            start_segment,
            stop,
            checkpoint_lsn,
            method,
            from,
            start_time,
            label,
            start_timeline,
            incremental_from,
        })
    }
}

impl fmt::Display for BackupLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one_line = |s: &str| s.replace(['\n', '\r'], " ");
        writeln!(f, "START WAL LOCATION: {} (file {})", self.start_lsn, self.start_segment)?;
        if let Some(s) = &self.stop {
            writeln!(f, "STOP WAL LOCATION: {} (file {})", s.lsn, s.segment)?;
        }
        writeln!(f, "CHECKPOINT LOCATION: {}", self.checkpoint_lsn)?;
        writeln!(f, "BACKUP METHOD: {}", one_line(&self.method))?;
        let from = match self.from {
            BackupFrom::Primary => "primary",
            BackupFrom::Standby => "standby",
        };
        writeln!(f, "BACKUP FROM: {from}")?;
        writeln!(f, "START TIME: {}", one_line(&self.start_time))?;
        writeln!(f, "LABEL: {}", one_line(&self.label))?;
        writeln!(f, "START TIMELINE: {}", self.start_timeline)?;
        if let Some(s) = &self.stop {
            writeln!(f, "STOP TIME: {}", one_line(&s.time))?;
            writeln!(f, "STOP TIMELINE: {}", s.timeline)?;
        }
        if let Some((lsn, tli)) = self.incremental_from {
            writeln!(f, "INCREMENTAL FROM LSN: {lsn}")?;
            writeln!(f, "INCREMENTAL FROM TLI: {tli}")?;
        }
        Ok(())
    }
}

struct Fields<'a> {
    lines: Vec<&'a str>,
}

impl<'a> Fields<'a> {
    /// The value of the first line with this key. A label text that itself looks like a later line
    /// comes after the real `LABEL:` line only when it has line breaks, which then are its own fault.
    fn take(&mut self, key: &str) -> Option<&'a str> {
        let at =
            self.lines.iter().position(|l| l.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')))?;
        let line = self.lines.remove(at);
        let value = line.get(key.len() + 1..)?;
        Some(value.strip_prefix(' ').unwrap_or(value).trim_end_matches('\r'))
    }

    fn need(&mut self, key: &'static str) -> Result<&'a str, LabelError> {
        self.take(key).ok_or(LabelError::Missing(key))
    }
}

fn parse_or<T: std::str::FromStr>(s: &str) -> Result<T, LabelError> {
    s.parse().map_err(|_| LabelError::Malformed(s.chars().take(100).collect()))
}

/// `0/3000028 (file 000000010000000000000003)`
fn location(s: &str) -> Result<(Lsn, SegmentName), LabelError> {
    let bad = || LabelError::Malformed(s.chars().take(100).collect());
    let (lsn, file) = s.split_once(" (file ").ok_or_else(bad)?;
    Ok((parse_or(lsn)?, parse_or(file.strip_suffix(')').ok_or_else(bad)?)?))
}

/// One tablespace: its number and where its directory is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablespaceMapEntry {
    pub oid: u32,
    pub path: String,
}

/// `tablespace_map`: with it, the server makes the links in `pg_tblspc` when recovery starts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TablespaceMap {
    pub entries: Vec<TablespaceMapEntry>,
}

impl TablespaceMap {
    /// Unescapes as the server does: a backslash takes the meaning from the character after it.
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        let mut entries = Vec::new();
        let mut line = String::new();
        let mut escaped = false;
        for c in text.chars() {
            match c {
                '\n' | '\r' if !escaped => {
                    if !line.is_empty() {
                        let no = entries.len() + 1;
                        let (oid, path) = line.split_once(' ').ok_or(LabelError::MapLine(no))?;
                        if path.is_empty() || !crate::relation::all_digits(oid) {
                            return Err(LabelError::MapLine(no));
                        }
                        let oid = oid.parse().map_err(|_| LabelError::MapLine(no))?;
                        entries.push(TablespaceMapEntry { oid, path: path.to_string() });
                    }
                    line.clear();
                }
                '\\' if !escaped => escaped = true,
                c => {
                    line.push(c);
                    escaped = false;
                }
            }
        }
        if escaped || !line.is_empty() {
            return Err(LabelError::MapCut);
        }
        Ok(TablespaceMap { entries })
    }
}

impl fmt::Display for TablespaceMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for e in &self.entries {
            write!(f, "{} ", e.oid)?;
            for c in e.path.chars() {
                if matches!(c, '\n' | '\r' | '\\') {
                    write!(f, "\\")?;
                }
                write!(f, "{c}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\n\
        CHECKPOINT LOCATION: 0/3000060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
        START TIME: 2026-01-02 03:04:05 UTC\nLABEL: holdfast nightly\nSTART TIMELINE: 1\n";

    #[test]
    fn labels_round_trip() {
        let l = BackupLabel::parse(LABEL).unwrap();
        assert_eq!((l.start_lsn, l.checkpoint_lsn), (Lsn(0x3000028), Lsn(0x3000060)));
        assert_eq!((l.from, l.start_timeline), (BackupFrom::Primary, TimelineId(1)));
        assert_eq!(l.to_string(), LABEL);
        let inc = format!("{LABEL}INCREMENTAL FROM LSN: 0/2000028\nINCREMENTAL FROM TLI: 1\n");
        let l = BackupLabel::parse(&inc).unwrap();
        assert_eq!(l.incremental_from, Some((Lsn(0x2000028), TimelineId(1))));
        assert_eq!(l.to_string(), inc);
    }

    #[test]
    fn history_files_have_a_stop() {
        let text = "START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\n\
            STOP WAL LOCATION: 0/3000138 (file 000000010000000000000003)\n\
            CHECKPOINT LOCATION: 0/3000060\nBACKUP METHOD: streamed\nBACKUP FROM: standby\n\
            START TIME: 2026-01-02 03:04:05 UTC\nLABEL: x\nSTART TIMELINE: 1\n\
            STOP TIME: 2026-01-02 03:04:07 UTC\nSTOP TIMELINE: 1\n";
        let l = BackupLabel::parse(text).unwrap();
        assert_eq!(l.stop.as_ref().unwrap().lsn, Lsn(0x3000138));
        assert_eq!(l.to_string(), text);
    }

    #[test]
    fn bad_labels() {
        assert_eq!(BackupLabel::parse(""), Err(LabelError::Missing("START WAL LOCATION")));
        for (from, to) in [("0/3000028 ", "03000028 "), ("(file ", "file "), ("TION: 0/3000060", "TION: x")] {
            assert!(matches!(BackupLabel::parse(&LABEL.replace(from, to)), Err(LabelError::Malformed(_))));
        }
        assert!(matches!(
            BackupLabel::parse(&LABEL.replace("TIMELINE: 1", "TIMELINE: 2")),
            Err(LabelError::Timeline { .. })
        ));
    }

    #[test]
    fn maps_round_trip() {
        let m = TablespaceMap {
            entries: vec![
                TablespaceMapEntry { oid: 16385, path: "/srv/fast disk".into() },
                TablespaceMapEntry { oid: 16386, path: " odd\\na\nme\r".into() },
            ],
        };
        let text = m.to_string();
        assert!(text.starts_with("16385 /srv/fast disk\n16386  odd\\\\na\\\nme"));
        assert_eq!(TablespaceMap::parse(&text), Ok(m));
        assert_eq!(TablespaceMap::parse("\r\n"), Ok(TablespaceMap::default()));
        for bad in ["16385\n", "x /a\n", "16385 \n", " /a\n"] {
            assert!(matches!(TablespaceMap::parse(bad), Err(LabelError::MapLine(1))), "{bad}");
        }
        assert_eq!(TablespaceMap::parse("1 /a"), Err(LabelError::MapCut));
        assert_eq!(TablespaceMap::parse("1 /a\\"), Err(LabelError::MapCut));
    }
}
