//! Positions in PostgreSQL's write-ahead log: [`Lsn`], [`TimelineId`], [`SegmentName`].
//!
//! Text forms follow the server: an LSN is `16/B374D848` (`pg_lsn`, src/backend/utils/adt/pg_lsn.c),
//! a segment file is 24 hexadecimal digits `TTTTTTTTXXXXXXXXYYYYYYYY` (`XLogFileName`,
//! src/include/access/xlog_internal.h). In JSON all of them are text.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Why a text is not a position in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LsnError {
    #[error("`{0}` is not an lsn; write it as two hexadecimal numbers, such as 0/3000028")]
    Lsn(String),
    #[error("`{0}` is not a wal segment name; it has 24 hexadecimal digits")]
    Segment(String),
    #[error("`{0}` is not a timeline; write a decimal number from 1")]
    Timeline(String),
    #[error("{0} bytes is not a wal segment size; it is a power of two from 1 MiB to 1 GiB")]
    SegmentSize(u64),
}

/// A byte position in the write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    pub const INVALID: Lsn = Lsn(0);

    /// Zero is what the server uses for "no position".
    pub fn is_valid(self) -> bool {
        self.0 != 0
    }

    /// The distance in bytes from `earlier` to here, zero when `earlier` is not earlier.
    pub fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = LsnError;
    fn from_str(s: &str) -> Result<Self, LsnError> {
        let err = || LsnError::Lsn(s.to_string());
        let (hi, lo) = s.trim().split_once('/').ok_or_else(err)?;
        let part = |t: &str| {
            if t.is_empty() || t.len() > 8 || !t.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(err());
            }
            u64::from_str_radix(t, 16).map_err(|_| err())
        };
        Ok(Lsn(part(hi)? << 32 | part(lo)?))
    }
}

/// A timeline: one line of history of a cluster. Decimal in text, eight hexadecimal digits in names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimelineId(pub u32);

impl TimelineId {
    /// The eight digits that start a segment's name (upper case, hexadecimal: timeline 10 is
    /// `0000000A`; reading it as decimal was a real fault, pgBackRest b89e6b7f6).
    pub fn hex(self) -> String {
        format!("{:08X}", self.0)
    }

    /// From the eight hexadecimal digits.
    pub fn from_hex(s: &str) -> Result<Self, LsnError> {
        let err = || LsnError::Timeline(s.to_string());
        if s.len() != 8 || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(err());
        }
        match u32::from_str_radix(s, 16) {
            Ok(n) if n > 0 => Ok(TimelineId(n)),
            _ => Err(err()),
        }
    }
}

impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TimelineId {
    type Err = LsnError;
    fn from_str(s: &str) -> Result<Self, LsnError> {
        match s.trim().parse::<u32>() {
            Ok(n) if n > 0 => Ok(TimelineId(n)),
            _ => Err(LsnError::Timeline(s.to_string())),
        }
    }
}

/// The size of a WAL segment file in bytes: a power of two from 1 MiB to 1 GiB
/// (`IsValidWalSegSize`, src/include/access/xlog_internal.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct SegmentSize(u32);

impl SegmentSize {
    /// 16 MiB, what `initdb` chooses.
    pub const DEFAULT: SegmentSize = SegmentSize(16 << 20);

    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    /// Number of the segment that holds the byte at `lsn`.
    pub fn segment_of(self, lsn: Lsn) -> u64 {
        lsn.0 / self.bytes()
    }

    /// Number of the segment that holds the byte *before* `lsn`: the last one needed to replay up
    /// to an end position (`XLByteToPrevSeg`). An end exactly on a boundary needs no byte of the
    /// next segment.
    pub fn segment_before(self, lsn: Lsn) -> u64 {
        lsn.0.saturating_sub(1) / self.bytes()
    }

    /// First position of segment `no`.
    pub fn start_of(self, no: u64) -> Lsn {
        Lsn(no.saturating_mul(self.bytes()))
    }

    fn per_xlogid(self) -> u64 {
        0x1_0000_0000 / self.bytes()
    }
}

impl TryFrom<u64> for SegmentSize {
    type Error = LsnError;
    fn try_from(n: u64) -> Result<Self, LsnError> {
        if n.is_power_of_two() && (1 << 20..=1 << 30).contains(&n) {
            Ok(SegmentSize(n as u32))
        } else {
            Err(LsnError::SegmentSize(n))
        }
    }
}

impl From<SegmentSize> for u64 {
    fn from(s: SegmentSize) -> u64 {
        s.bytes()
    }
}

/// The 24-digit name of a WAL segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    pub timeline: TimelineId,
    /// The middle eight digits (`log id`).
    pub log: u32,
    /// The last eight digits (segment within the log id).
    pub seg: u32,
}

impl SegmentName {
    pub fn new(timeline: TimelineId, number: u64, size: SegmentSize) -> Self {
        let per = size.per_xlogid();
        SegmentName { timeline, log: (number / per) as u32, seg: (number % per) as u32 }
    }

    /// The segment that holds the byte at `lsn`.
    pub fn at(timeline: TimelineId, lsn: Lsn, size: SegmentSize) -> Self {
        Self::new(timeline, size.segment_of(lsn), size)
    }

    pub fn number(self, size: SegmentSize) -> u64 {
        u64::from(self.log) * size.per_xlogid() + u64::from(self.seg)
    }

    pub fn start(self, size: SegmentSize) -> Lsn {
        size.start_of(self.number(size))
    }

    pub fn end(self, size: SegmentSize) -> Lsn {
        size.start_of(self.number(size) + 1)
    }

    pub fn next(self, size: SegmentSize) -> Self {
        Self::new(self.timeline, self.number(size) + 1, size)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline.0, self.log, self.seg)
    }
}

impl FromStr for SegmentName {
    type Err = LsnError;
    fn from_str(s: &str) -> Result<Self, LsnError> {
        let err = || LsnError::Segment(s.to_string());
        if s.len() != 24 || !s.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)) {
            return Err(err());
        }
        let part = |i: usize| s.get(i..i + 8).and_then(|t| u32::from_str_radix(t, 16).ok()).ok_or_else(err);
        let timeline = part(0)?;
        if timeline == 0 {
            return Err(err());
        }
        Ok(SegmentName { timeline: TimelineId(timeline), log: part(8)?, seg: part(16)? })
    }
}

macro_rules! text_serde {
    ($t:ty) => {
        impl Serialize for $t {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $t {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let s = String::deserialize(d)?;
                s.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
text_serde!(Lsn);
text_serde!(SegmentName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsn_text_round_trips() {
        let lsn: Lsn = "16/B374D848".parse().unwrap();
        assert_eq!(lsn.0, 0x16_B374_D848);
        assert_eq!(lsn.to_string(), "16/B374D848");
        for bad in ["", "1", "1/", "/1", "1/2/3", "x/1", "123456789/0", "+1/0"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn segment_names_follow_the_server() {
        let s = SegmentSize::DEFAULT;
        let name: SegmentName = "0000000A000000010000000F".parse().unwrap();
        assert_eq!(name.timeline, TimelineId(10));
        assert_eq!(name.number(s), 0x10F);
        assert_eq!(name.to_string(), "0000000A000000010000000F");
        let last = SegmentName::new(TimelineId(1), 0xFF, s);
        assert_eq!(last.next(s).to_string(), "000000010000000100000000");
        assert!("0000000a000000010000000f".parse::<SegmentName>().is_err());
        assert!("000000000000000100000001".parse::<SegmentName>().is_err());
    }

    #[test]
    fn end_on_a_boundary_needs_no_next_segment() {
        let s = SegmentSize::DEFAULT;
        assert_eq!(s.segment_before(Lsn(0x300_0000)), 2);
        assert_eq!(s.segment_of(Lsn(0x300_0000)), 3);
        assert_eq!(s.segment_before(Lsn(0x300_0001)), 3);
    }

    #[test]
    fn odd_segment_sizes_are_refused() {
        assert!(SegmentSize::try_from(3 << 20).is_err());
        assert!(SegmentSize::try_from(1 << 31).is_err());
        let s = SegmentSize::try_from(1 << 20).unwrap();
        assert_eq!(SegmentName::new(TimelineId(1), 4096, s).to_string(), "000000010000000100000000");
    }
}
