//! A log made by hand, for tests of what a healthy server rarely writes.

use super::{LONG_HEADER, RECORD_HEADER, SHORT_HEADER, WalEnd, WalError, WalReader};
use crate::crc32c::Crc32c;
use crate::scan::{LOOK_AHEAD, scan_part, scan_segment};
use crate::version::PgMajor;
use holdfast_core::lsn::{Lsn, SegmentSize};

const PAGE: usize = 8192;
const MIB: u64 = 1 << 20;

/// Writes records into segments of 1 MiB from the second segment on.
pub(crate) struct TestLog {
    pub(crate) bytes: Vec<u8>,
    pub(crate) base: u64,
    prev: u64,
}

impl TestLog {
    pub(crate) fn new() -> Self {
        TestLog { bytes: Vec::new(), base: MIB, prev: 0 }
    }

    pub(crate) fn lsn(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    fn page(&mut self, flags: u16, rem_len: usize) {
        let at = self.lsn();
        assert_eq!(at % PAGE as u64, 0);
        let long = at.is_multiple_of(MIB);
        self.bytes.extend(0xD110u16.to_le_bytes());
        self.bytes.extend((flags | if long { 2 } else { 0 }).to_le_bytes());
        self.bytes.extend(1u32.to_le_bytes());
        self.bytes.extend(at.to_le_bytes());
        self.bytes.extend((rem_len as u64).to_le_bytes());
        if long {
            self.bytes.extend(7u64.to_le_bytes());
            self.bytes.extend((MIB as u32).to_le_bytes());
            self.bytes.extend((PAGE as u32).to_le_bytes());
        }
    }

    /// A record with main data only. Without `keep`, it is abandoned at the first page boundary.
    pub(crate) fn record(&mut self, rmgr: u8, info: u8, main: &[u8], flags: u16, keep: bool) -> Lsn {
        self.record_with(rmgr, info, &[], main, flags, keep)
    }

    /// One with `blocks`, headers of block references, before the main data.
    pub(crate) fn record_with(
        &mut self,
        rmgr: u8,
        info: u8,
        blocks: &[u8],
        main: &[u8],
        flags: u16,
        keep: bool,
    ) -> Lsn {
        if self.bytes.len().is_multiple_of(PAGE) {
            self.page(flags, 0);
        }
        let start = self.lsn();
        let mut r = vec![0u8; RECORD_HEADER];
        r.extend(blocks);
        if main.len() < 256 {
            r.extend([255, main.len() as u8]);
        } else {
            r.push(254);
            r.extend((main.len() as u32).to_le_bytes());
        }
        r.extend(main);
        let n = r.len() as u32;
        r[..4].copy_from_slice(&n.to_le_bytes());
        r[8..16].copy_from_slice(&self.prev.to_le_bytes());
        (r[16], r[17]) = (info, rmgr);
        let crc = Crc32c::new().update(&r[24..]).update(&r[..20]).value();
        r[20..24].copy_from_slice(&crc.to_le_bytes());
        let mut rest = &r[..];
        while !rest.is_empty() {
            if self.bytes.len().is_multiple_of(PAGE) {
                if !keep {
                    return Lsn(start);
                }
                self.page(1, rest.len());
            }
            let n = rest.len().min(PAGE - self.bytes.len() % PAGE);
            self.bytes.extend(&rest[..n]);
            rest = &rest[n..];
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.prev = start;
        Lsn(start)
    }

    pub(crate) fn simple(&mut self, main: &[u8]) -> Lsn {
        self.record(10, 0, main, 0, true)
    }

    pub(crate) fn fill_segment(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(MIB as usize), 0);
    }

    pub(crate) fn reader(&self) -> WalReader {
        let mut r = WalReader::new(Lsn(self.base), PgMajor::V15, SegmentSize::try_from(MIB).unwrap());
        r.feed(&self.bytes);
        r
    }
}

fn starts(mut r: WalReader) -> (Vec<Lsn>, Result<Option<WalEnd>, WalError>) {
    let mut found = Vec::new();
    loop {
        match r.next() {
            Ok(Some(rec)) => found.push(rec.lsn),
            Ok(None) => return (found, Ok(r.end())),
            Err(e) => {
                assert_eq!(r.next(), Err(e.clone()), "an error stays");
                return (found, Err(e));
            }
        }
    }
}

#[test]
fn records_span_pages_and_segments() {
    let mut log = TestLog::new();
    let mut want = Vec::new();
    for n in [0usize, 1, 100, 8100, 8192, 20_000, 1_100_000, 3, 50_000] {
        want.push(log.simple(&vec![n as u8; n]));
    }
    let end = log.lsn();
    log.fill_segment();
    let (got, over) = starts(log.reader());
    assert_eq!((got, over), (want.clone(), Ok(Some(WalEnd::ZeroFill(Lsn(end))))));

    let segments: Vec<&[u8]> = log.bytes.chunks(MIB as usize).collect();
    let first = scan_segment(segments[0]).unwrap();
    assert_eq!((first.records, first.tail), (7, Some(want[6])));
    let second = scan_segment(segments[1]).unwrap();
    for s in &segments {
        let head = crate::wal::segment_header(s).unwrap();
        for part in [8192usize, 5 * 8192, 1 << 19] {
            let piece = |at: usize| {
                let end = s.len().min(at + part + LOOK_AHEAD);
                scan_part(&head, &s[at..end], at as u64, part).unwrap()
            };
            let joined = (0..s.len()).step_by(part).map(piece).reduce(|a, b| a.join(b)).unwrap();
            assert_eq!(joined, scan_segment(s).unwrap(), "parts of {part}");
        }
    }
    assert_eq!((second.first_record, second.last_record), (Some(want[7]), Some(want[8])));
    assert_eq!((second.tail, second.end_of_data), (None, Lsn(end)));

    // From the second segment on, the rest of the long record is skipped.
    let mut r = WalReader::new(Lsn(2 * MIB), PgMajor::V15, SegmentSize::try_from(MIB).unwrap());
    r.feed(segments[1]);
    assert_eq!(starts(r).0, want[7..]);
}

#[test]
fn a_lost_record_is_replaced() {
    let mut log = TestLog::new();
    let a = log.simple(&[1; 100]);
    let lost = log.record(10, 0, &[2; 9000], 0, false);
    let mut main = lost.0.to_le_bytes().to_vec();
    main.extend([0; 8]);
    let b = log.record(0, 0xD0, &main, 8, true);
    let c = log.simple(&[3; 10]);
    log.fill_segment();
    assert_eq!(starts(log.reader()).0, [a, b, c]);
    let f = scan_segment(&log.bytes).unwrap();
    assert_eq!((f.records, f.first_record, f.last_record), (3, Some(a), Some(c)));

    // What replaces it has to name it.
    let mut log = TestLog::new();
    log.record(10, 0, &[2; 9000], 0, false);
    log.record(0, 0xD0, &[9; 16], 8, true);
    assert!(matches!(starts(log.reader()).1, Err(WalError::Malformed { .. })));
}

#[test]
fn a_switch_ends_the_segment() {
    let mut log = TestLog::new();
    let a = log.simple(&[1; 100]);
    let s = log.record(0, 0x40, &[], 0, true);
    log.fill_segment();
    let b = log.simple(&[1; 100]);
    assert_eq!(starts(log.reader()).0, [a, s, b]);
    let f = scan_segment(&log.bytes[..MIB as usize]).unwrap();
    assert!(f.has_switch && f.tail.is_none());
    assert_eq!((f.last_record, f.end_of_data), (Some(s), Lsn(2 * MIB)));
}

#[test]
fn damage_is_noticed() {
    let mut log = TestLog::new();
    log.simple(&[1; 100]);
    let b = log.simple(&[2; 9000]);
    let in_b = b.bytes_since(Lsn(log.base)) as usize;
    let broken = |at: usize, value: u8| {
        let mut l = TestLog { bytes: log.bytes.clone(), base: log.base, prev: 0 };
        l.bytes[at] = value;
        l
    };
    assert!(matches!(starts(broken(in_b + 100, 9).reader()).1, Err(WalError::Crc { .. })));
    assert_eq!(starts(broken(in_b + 100, 9).reader().verify_crc(false)).0.len(), 2);
    assert!(matches!(starts(broken(in_b, 5).reader()).1, Err(WalError::ContinuationLength { .. })));
    assert!(matches!(starts(broken(in_b + 8, 1).reader()).1, Err(WalError::PrevLink { .. })));
    assert!(matches!(starts(broken(in_b + 17, 50).reader()).1, Err(WalError::Rmgr { id: 50, .. })));
    assert!(matches!(starts(broken(PAGE, 0x11).reader()).1, Err(WalError::Magic { .. })));
    assert!(matches!(starts(broken(PAGE + 2, 0).reader()).1, Err(WalError::NoContinuation { .. })));
    assert!(matches!(starts(broken(PAGE + 14, 1).reader()).1, Err(WalError::PageAddress { .. })));
    // An earlier address is what a recycled file has.
    assert_eq!(starts(broken(PAGE + 10, 0).reader()).1, Ok(Some(WalEnd::Recycled(b))));
    assert!(matches!(
        starts(log.reader().expect_system_id(8)).1,
        Err(WalError::SystemId { found: 7, expected: 8, .. })
    ));
    assert!(starts(log.reader().expect_system_id(7)).1.is_ok());
}

#[test]
fn odd_starts_are_refused() {
    for at in [MIB + 1, MIB + 8, MIB + 20, MIB + 44] {
        let mut r = WalReader::new(Lsn(at), PgMajor::V15, SegmentSize::DEFAULT);
        assert!(matches!(r.next(), Err(WalError::StartPosition(_))), "{at:x}");
    }
    assert_eq!((SHORT_HEADER, LONG_HEADER), (24, 40));
}
