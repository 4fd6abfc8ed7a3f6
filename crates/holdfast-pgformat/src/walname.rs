//! Names of files in a WAL archive: [`WalFileName`].
//!
//! `IsXLogFileName`, `IsPartialXLogFileName`, `IsTLHistoryFileName` and `IsBackupHistoryFileName` of
//! src/include/access/xlog_internal.h; hexadecimal digits are upper case, timelines included
//! (timeline 10 is `0000000A`, trap 34).

use holdfast_core::lsn::{SegmentName, SegmentSize, TimelineId};
use std::fmt;
use std::str::FromStr;

/// Why a name is not one that PostgreSQL archives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a wal segment, partial segment, timeline history or backup history file name")]
pub struct WalNameError(pub String);

/// A file name that `archive_command` may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalFileName {
    /// `000000010000000000000001`
    Segment(SegmentName),
    /// `000000010000000000000001.partial`: the last segment of a timeline that was left.
    Partial(SegmentName),
    /// `00000002.history`
    History(TimelineId),
    /// `000000010000000000000002.00000028.backup`
    BackupHistory { segment: SegmentName, offset: u32 },
}

impl WalFileName {
    pub fn timeline(self) -> TimelineId {
        match self {
            WalFileName::Segment(s) | WalFileName::Partial(s) => s.timeline,
            WalFileName::BackupHistory { segment, .. } => segment.timeline,
            WalFileName::History(t) => t,
        }
    }

    /// Whether a segment of this number exists with segments of this size: with 1 GiB segments the
    /// last eight digits go up to 3.
    pub fn fits(self, size: SegmentSize) -> bool {
        let per = 0x1_0000_0000 / size.bytes();
        match self {
            WalFileName::Segment(s) | WalFileName::Partial(s) => u64::from(s.seg) < per,
            WalFileName::BackupHistory { segment, offset } => {
                u64::from(segment.seg) < per && u64::from(offset) < size.bytes()
            }
            WalFileName::History(_) => true,
        }
    }
}

impl FromStr for WalFileName {
    type Err = WalNameError;
    fn from_str(name: &str) -> Result<Self, WalNameError> {
        parse(name).ok_or_else(|| WalNameError(name.chars().take(80).collect()))
    }
}

fn parse(name: &str) -> Option<WalFileName> {
    let Some((stem, suffix)) = name.split_once('.') else {
        return name.parse().ok().map(WalFileName::Segment);
    };
    match suffix {
        "partial" => stem.parse().ok().map(WalFileName::Partial),
        "history" => match hex8(stem)? {
            0 => None,
            n => Some(WalFileName::History(TimelineId(n))),
        },
        _ => {
            let offset = hex8(suffix.strip_suffix(".backup")?)?;
            Some(WalFileName::BackupHistory { segment: stem.parse().ok()?, offset })
        }
    }
}

fn hex8(s: &str) -> Option<u32> {
    if s.len() != 8 || !s.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)) {
        return None;
    }
    u32::from_str_radix(s, 16).ok()
}

impl fmt::Display for WalFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalFileName::Segment(s) => write!(f, "{s}"),
            WalFileName::Partial(s) => write!(f, "{s}.partial"),
            WalFileName::History(t) => write!(f, "{}.history", t.hex()),
            WalFileName::BackupHistory { segment, offset } => write!(f, "{segment}.{offset:08X}.backup"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in [
            "000000010000000000000001",
            "0000000A00000001000000FF.partial",
            "0000000A.history",
            "000000010000000000000002.00000028.backup",
        ] {
            assert_eq!(name.parse::<WalFileName>().unwrap().to_string(), name);
        }
        assert_eq!("0000000A.history".parse(), Ok(WalFileName::History(TimelineId(10))));
    }

    #[test]
    fn other_names_are_refused() {
        for name in [
            "",
            "RECOVERYXLOG",
            "00000001000000000000000g",
            "00000001000000000000000a",
            "0000000a.history",
            "00000000.history",
            "000000000000000000000001",
            "0000000100000000000000010",
            "000000010000000000000001.gz",
            "000000010000000000000001.partial.gz",
            "000000010000000000000001.28.backup",
            "000000010000000000000001..backup",
            "../00000001000000000000001",
            "+0000001.history",
        ] {
            assert!(name.parse::<WalFileName>().is_err(), "{name}");
        }
    }

    #[test]
    fn segment_numbers_fit_their_size() {
        let n: WalFileName = "000000010000000000000004".parse().unwrap();
        assert!(n.fits(SegmentSize::DEFAULT));
        assert!(!n.fits(SegmentSize::try_from(1 << 30).unwrap()));
    }
}
