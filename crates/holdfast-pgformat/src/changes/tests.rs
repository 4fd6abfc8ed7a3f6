//! Cases that random logs rarely hold.

use super::proptests::{BLOCK, MIB, segments, window, words};
use super::*;
use crate::relation::{Fork, RelFileLocator};
use crate::version::PgMajor;
use crate::wal::testlog::TestLog;
use holdfast_core::lsn::Lsn;

/// Fills the segment up to `left` bytes before its end by one record.
fn fill_up_to(log: &mut TestLog, left: usize) -> Lsn {
    const HEADERS: usize = 127 * 24 + 40;
    assert!(log.bytes.is_empty());
    // Header of the record and of its main data.
    let at = log.record(21, 0, &vec![5; MIB - HEADERS - left - 24 - 5], 0, true);
    assert_eq!((log.bytes.len() + left) % MIB, 0);
    at
}

fn broken(a: &SegmentChanges, b: &SegmentChanges) -> bool {
    let sum = a.clone().join(b.clone());
    sum.untrusted.is_some_and(|u| u.why == Distrust::Broken)
}

#[test]
fn segments_of_different_logs_do_not_join() {
    let log = |n: usize| {
        let mut log = TestLog::new();
        log.record(10, 0, &vec![1; n], 0, true);
        log.record(0, 0x40, &[], 0, true);
        log.fill_segment();
        log.record(10, 0, &[2], 0, true);
        log.fill_segment();
        segments(&log)
    };
    let (a, b) = (log(100), log(200));
    assert!(!broken(&a[0], &a[1]));
    // The record in the second segment names the one before it: at another place.
    assert!(broken(&a[0], &b[1]));
    let mut w = ChangeWindow::new(Lsn(MIB as u64));
    w.add(a[0].clone()).unwrap();
    assert!(matches!(w.add(a[0].clone()), Err(WindowError::Gap { .. })));
}

#[test]
fn a_record_lost_at_the_end_of_a_segment() {
    let log = |left: usize, named: u64| {
        let mut log = TestLog::new();
        fill_up_to(&mut log, left);
        let lost = log.record(10, 0, &[2; 900], 0, false);
        let mut main = (lost.0 + named).to_le_bytes().to_vec();
        main.extend([0; 8]);
        log.record(0, 0xD0, &main, 8, true);
        let end = Lsn(log.lsn());
        log.fill_segment();
        (segments(&log), end)
    };
    let ((a, end), (b, _)) = (log(104, 0), log(208, 0));
    assert!(a[0].tail().is_some() && window(a.clone(), end).is_ok());
    // Of another log, and one that names another record.
    assert!(broken(&a[0], &b[1]));
    let (c, end) = log(104, 8);
    assert!(window(c, end).is_err());
    // Without the segment that tells of the loss, the record is just not complete.
    let e = window([a[0].clone()], a[0].end).unwrap_err();
    assert_eq!(e, WindowError::Incomplete { at: a[0].tail().unwrap() });
}

#[test]
fn a_record_lost_within_a_segment() {
    let log = |named: u64| {
        let mut log = TestLog::new();
        let lost = log.record(10, 0, &[2; 9000], 0, false);
        let mut main = (lost.0 + named).to_le_bytes().to_vec();
        main.extend([0; 8]);
        let at = log.record(0, 0xD0, &main, 8, true);
        log.record(0, 0x40, &[], 0, true);
        log.fill_segment();
        (log, lost, at)
    };
    let (good, lost, at) = log(0);
    assert_eq!(segments(&good)[0].untrusted, None);
    assert_eq!(segments(&log(8).0)[0].untrusted.map(|u| u.why), Some(Distrust::Broken));
    // Bytes that end within the record that tells of the loss: nothing is known from the lost one on.
    let cut = scan_changes(&good.bytes[..(at.0 as usize - MIB) + 30], BLOCK).unwrap();
    assert_eq!((cut.end, cut.tail(), cut.untrusted), (lost, None, None));
}

#[test]
fn a_switch_across_segments() {
    for left in [8, 16, 24] {
        let mut log = TestLog::new();
        fill_up_to(&mut log, left);
        log.record(0, 0x40, &[], 0, true);
        log.fill_segment();
        assert_eq!(log.bytes.len(), 2 * MIB);
        log.record_with(10, 0, &[0, 0, 0, 0, 7, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 3, 0, 0, 0], &[], 0, true);
        let end = Lsn(log.lsn());
        log.fill_segment();
        let sum = window(segments(&log), end).unwrap();
        assert_eq!(sum.set.block_count(), 1, "{left}");
    }
}

#[test]
fn a_window_begins_at_the_start_of_a_record() {
    let mut log = TestLog::new();
    log.record(21, 0, &vec![5; MIB], 0, true);
    let inside = Lsn(2 * MIB as u64 + 40);
    log.record(10, 0, &[1], 0, true);
    let end = Lsn(log.lsn());
    log.fill_segment();
    let second = &segments(&log)[1];
    let from = |from: Lsn| {
        let mut w = ChangeWindow::new(from);
        w.add(second.clone())?;
        w.finish(end)
    };
    // Within the rest of a record whose start is not there.
    assert!(matches!(from(inside), Err(WindowError::Gap { .. })));
    let after = second.rest_end();
    assert!(after > inside && after < end);
    assert!(from(Lsn(after.0.next_multiple_of(8))).is_ok());
    assert!(matches!(from(Lsn(MIB as u64)), Err(WindowError::Gap { .. })));
}

#[test]
fn stored_bytes_cannot_ask_for_much() {
    let mut b = b"HFCM\x01\0\x10\xD1\x07\0\0\0\0\0\0\0\x1E\0".to_vec();
    // Block size, start, end (1 GiB on), timelines, links, tablespaces, databases.
    b.extend(b"\x80\x40\0\x80\x80\x80\x40\x01\0\0\0\0\0");
    let forks = |list: &[u8]| [&b[..], list].concat();
    // One fork whose only run has 2^32 blocks.
    let one = forks(b"\x01\x08\x01\x01\x01\x01\x01\xFE\xFF\xFF\xFF\x0F");
    assert_eq!(SegmentChanges::decode(&one), Err(ChangesError::Malformed("there are too many blocks")));
    // 2^27 are what 1 GiB can name; they take next to nothing.
    let one = forks(b"\x01\x08\x01\x01\x01\x01\x01\xFE\xFF\xFF\x3F");
    assert_eq!(SegmentChanges::decode(&one).unwrap().set.block_count(), 1 << 27);
    // Counts that nothing follows.
    for list in [&b"\xFF\xFF\xFF\x01"[..], b"\x01\x08\x01\x01\x01\xFF\xFF\xFF\x01"] {
        assert!(SegmentChanges::decode(&forks(list)).is_err());
    }
    let mut untrusted = b[..18].to_vec();
    untrusted[17] = 4;
    untrusted.extend(b"\x80\x40\0\x80\x80\x80\x40\x01\0\x07\0");
    let s = SegmentChanges::decode(&untrusted).unwrap();
    assert_eq!(s.untrusted.map(|u| u.why), Some(Distrust::Hole));
    assert_eq!(s.encode(), untrusted);
}

#[test]
fn a_long_record_across_segments_is_a_hole() {
    // With segments of 1 MiB no piece is too long; the record is found all the same.
    let mut log = TestLog::new();
    let at = log.record(21, 0, &vec![1; 3 * MIB], 0, true);
    log.record(0, 0x40, &[], 0, true);
    let end = Lsn(log.lsn());
    log.fill_segment();
    let list = segments(&log);
    assert!(list.len() >= 4);
    assert_eq!(list[0].tail(), Some(at));
    assert!(window(list.clone(), end).unwrap().set.is_empty());
    let list = list.iter().map(|s| SegmentChanges::decode(&s.encode()).unwrap());
    assert!(window(list, end).is_ok());

    // A longer piece is not stored, and then nothing can be said of the record.
    let mut list = segments(&log);
    list[0].tail.as_mut().unwrap().piece = super::segment::Piece::Bytes(vec![1; MIB + 1]);
    list[0] = SegmentChanges::decode(&list[0].encode()).unwrap();
    let hole = Untrusted { at, why: Distrust::Hole };
    assert_eq!(window(list, end).unwrap_err(), WindowError::Untrusted(hole));
}

#[test]
fn what_is_not_known_is_not_trusted() {
    let of = |rmgr: u8, info: u8, main: &[u8]| {
        let mut log = TestLog::new();
        log.record(rmgr, info, main, 0, true);
        log.fill_segment();
        let s = scan_changes(&log.bytes, BLOCK).unwrap();
        (s.untrusted.map(|u| u.why), s.minimal_wal, s.full_page_writes_off)
    };
    // Heap, a custom one, and both with XLR_SPECIAL_REL_UPDATE.
    assert_eq!(of(10, 0, b""), (None, false, false));
    assert_eq!(of(200, 0, b""), (None, false, false));
    for rmgr in [10, 200, 0] {
        assert_eq!(of(rmgr, 1, &[0; 100]).0, Some(Distrust::UnknownFileChange));
    }
    assert_eq!(of(22, 0, b"").0, Some(Distrust::UnknownRmgr));
    assert_eq!(of(2, 0x30, &[0; 20]).0, Some(Distrust::UnknownFileChange));
    assert_eq!(of(2, 0x10, &[0; 15]).0, Some(Distrust::Malformed));
    // Level minimal (0) and unknown in XLOG_PARAMETER_CHANGE, and XLOG_FPW_CHANGE.
    let level = |n: u32| [words(&[1, 1, 1, 1, 1, n]), vec![0, 0]].concat();
    assert_eq!(of(0, 0x60, &level(0)), (None, true, false));
    assert_eq!(of(0, 0x60, &level(1)), (None, false, false));
    assert_eq!(of(0, 0x60, &level(9)).0, Some(Distrust::UnknownWalLevel));
    assert_eq!(of(0, 0x80, &[0]), (None, false, true));
    assert_eq!(of(0, 0x80, &[1]), (None, false, false));
}

#[test]
fn settings_are_seen_wherever_they_stand() {
    // In the first part of a segment, in a later one, in the next segment, and across both.
    for before in [0, MIB / 2, MIB, MIB - 127 * 24 - 40 - 24 - 5 - 16] {
        let log = |rmgr_info: u8, main: &[u8]| {
            let mut log = TestLog::new();
            log.record(21, 0, &vec![5; before], 0, true);
            log.record(0, rmgr_info, main, 0, true);
            log.record(0, 0x40, &[], 0, true);
            let end = Lsn(log.lsn());
            log.fill_segment();
            window(segments(&log), end)
        };
        let level = |n: u32| [words(&[1, 1, 1, 1, 1, n]), vec![0, 0]].concat();
        assert!(matches!(log(0x60, &level(0)), Err(WindowError::MinimalWal { .. })), "{before}");
        assert!(!log(0x60, &level(1)).unwrap().full_page_writes_off);
        assert!(log(0x80, &[0]).unwrap().full_page_writes_off, "{before}");
    }
}

#[test]
fn what_records_do() {
    let rel = |relation| RelFileLocator { tablespace: 1663, database: 5, relation };
    let limit = |relation, fork, blocks| Effect::Limit { rel: rel(relation), fork, blocks };
    let of = |rmgr: u8, info: u8, main: &[u32]| {
        let mut log = TestLog::new();
        log.record(rmgr, info, &words(main), 0, true);
        log.fill_segment();
        let (mut reader, mut list) = (log.reader(), Vec::new());
        let r = reader.next().unwrap().unwrap();
        effects(r.lsn, r.bytes(), PgMajor::V15, BLOCK, |e| list.push(e)).unwrap();
        list
    };
    assert_eq!(of(2, 0x11, &[1663, 5, 9, 3]), [limit(9, Fork::Init, 0)]);
    assert_eq!(of(2, 0x21, &[7, 1663, 5, 9, 1]), [limit(9, Fork::Main, 7)]);
    assert_eq!(of(2, 0x21, &[7, 1663, 5, 9, 6]), [limit(9, Fork::Vm, 0), limit(9, Fork::Fsm, 0)]);
    let forks = [Fork::Main, Fork::Fsm, Fork::Vm, Fork::Init];
    // Commit, abort, and those of prepared transactions, with one relation; without any.
    for info in [0x80, 0xA0, 0xB0, 0xC0] {
        assert_eq!(of(1, info | 1, &[0, 0, 4, 1, 1663, 5, 9]), forks.map(|f| limit(9, f, 0)));
        assert_eq!(of(1, info & 0x70, &[0, 0]), []);
    }
    assert_eq!(of(1, 0x90, &[0, 0, 4, 1, 1663, 5, 9]), [], "a PREPARE");
    let whole = |tablespace, database| Effect::Database { tablespace, database };
    assert_eq!(of(4, 0x01, &[8, 1663, 1, 1664]), [whole(1663, 8)]);
    assert_eq!(of(4, 0x11, &[8, 1663]), [whole(1663, 8)]);
    assert_eq!(of(4, 0x21, &[8, 2, 1663, 99]), [whole(1663, 8), whole(99, 8)]);
    assert_eq!(of(5, 0x00, &[99, 0]), [Effect::Tablespace(99)]);
    assert_eq!(of(5, 0x10, &[99]), [Effect::Tablespace(99)]);
    assert_eq!(of(0, 0x40, &[]), [Effect::Switch]);

    // Block references of any resource manager, with every flag.
    for rmgr in [0, 10, 20, 128, 255] {
        let mut log = TestLog::new();
        let mut b = vec![2, 0x41, 0, 0];
        b.extend(words(&[1663, 5, 9, 70_000]));
        b.extend([3, 0x82, 0, 0, 1, 0, 0, 0]);
        log.record_with(rmgr, 0xA0, &b, &[], 0, true);
        log.fill_segment();
        let (mut reader, mut list) = (log.reader(), Vec::new());
        let r = reader.next().unwrap().unwrap();
        effects(r.lsn, r.bytes(), PgMajor::V15, BLOCK, |e| list.push(e)).unwrap();
        let block = |fork, block| Effect::Block { rel: rel(9), fork, block };
        assert_eq!(list, [block(Fork::Fsm, 70_000), block(Fork::Vm, 1)]);
    }
}
