//! Cutting a log does not change what it says, damage is never passed over, and no bytes make a decoder panic.

use super::collect::Collector;
use super::*;
use crate::relation::{Fork, RelFileLocator};
use crate::scan::LOOK_AHEAD;
use crate::version::PgMajor;
use crate::wal::segment_header;
use crate::wal::testlog::TestLog;
use holdfast_core::lsn::Lsn;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

pub(super) const MIB: usize = 1 << 20;
const PAGE: usize = 8192;
pub(super) const BLOCK: u32 = 8192;

/// What to write into a log.
#[derive(Debug, Clone)]
enum Op {
    /// Block references, and as much data.
    Blocks(Vec<(RelFileLocator, Fork, u32)>, usize),
    Create(RelFileLocator, Fork),
    Truncate(RelFileLocator, u32, u32),
    Drop(Vec<RelFileLocator>, u8),
    Database(u8, u32, u32),
    Tablespace(u8, u32),
    Nothing(usize),
    /// A record that is lost at the next page, and the one that replaces it.
    Lost(usize),
    Switch,
}

fn rel() -> impl Strategy<Value = RelFileLocator> {
    (1663u32..1665, 1u32..3, 16384u32..16388).prop_map(|(tablespace, database, relation)| RelFileLocator {
        tablespace,
        database,
        relation,
    })
}

fn fork() -> impl Strategy<Value = Fork> {
    (0u32..4).prop_map(|n| Fork::from_number(n).unwrap())
}

fn block() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0u32..40, 2 => 65_530u32..65_550, 1 => any::<u32>()]
}

fn effect() -> impl Strategy<Value = Effect> {
    prop_oneof![
        10 => (rel(), fork(), block()).prop_map(|(rel, fork, block)| Effect::Block { rel, fork, block }),
        3 => (rel(), fork(), block()).prop_map(|(rel, fork, blocks)| Effect::Limit { rel, fork, blocks }),
        1 => (1u32..4, 1u32..4).prop_map(|(tablespace, database)| Effect::Database { tablespace, database }),
        1 => (1u32..4).prop_map(Effect::Tablespace),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let len = || prop_oneof![6 => 0usize..200, 3 => 0usize..20_000, 2 => 0usize..400_000];
    prop_oneof![
        10 => (vec((rel(), fork(), block()), 1..4), len()).prop_map(|(b, n)| Op::Blocks(b, n)),
        2 => (rel(), fork()).prop_map(|(r, f)| Op::Create(r, f)),
        3 => (rel(), 0u32..50, 1u32..8).prop_map(|(r, n, f)| Op::Truncate(r, n, f)),
        2 => (vec(rel(), 0..4), 0u8..5).prop_map(|(r, k)| Op::Drop(r, k)),
        1 => (0u8..3, 1u32..4, 1u32..4).prop_map(|(k, a, b)| Op::Database(k, a, b)),
        1 => (0u8..2, 1u32..4).prop_map(|(k, t)| Op::Tablespace(k, t)),
        4 => len().prop_map(Op::Nothing),
        1 => (1usize..30_000).prop_map(Op::Lost),
        1 => Just(Op::Switch),
    ]
}

pub(super) fn words(w: &[u32]) -> Vec<u8> {
    w.iter().flat_map(|n| n.to_le_bytes()).collect()
}

fn locator(r: RelFileLocator) -> [u32; 3] {
    [r.tablespace, r.database, r.relation]
}

fn write(log: &mut TestLog, op: &Op) {
    match op {
        Op::Blocks(list, len) => {
            let mut b = Vec::new();
            let mut last = None;
            for (id, (r, f, n)) in list.iter().enumerate() {
                let same = last == Some(*r);
                b.extend([id as u8, *f as u8 | if same { 0x80 } else { 0 }, 0, 0]);
                if !same {
                    b.extend(words(&locator(*r)));
                }
                b.extend(n.to_le_bytes());
                last = Some(*r);
            }
            log.record_with(10, 0x20, &b, &vec![7; *len], 0, true);
        }
        Op::Create(r, f) => {
            let mut main = words(&locator(*r));
            main.extend((*f as u32).to_le_bytes());
            log.record(2, 0x11, &main, 0, true);
        }
        Op::Truncate(r, n, flags) => {
            let mut main = words(&[*n]);
            main.extend(words(&locator(*r)));
            main.extend(flags.to_le_bytes());
            log.record(2, 0x21, &main, 0, true);
        }
        Op::Drop(list, kind) => {
            // Commit, abort, and both of a prepared transaction; a PREPARE drops nothing.
            let info = [0x00, 0x20, 0x30, 0x40, 0x10][usize::from(*kind)] | 0x81;
            let mut main = vec![0; 8];
            main.extend(words(&[1 << 2 | 1 << 1 | 1, 5, 1663, 1, 99, list.len() as u32]));
            list.iter().for_each(|r| main.extend(words(&locator(*r))));
            log.record(1, info, &main, 0, true);
        }
        Op::Database(kind, a, b) => {
            let main = match kind {
                0 => words(&[*b, *a, 1, 1663]),
                1 => words(&[*b, *a]),
                _ => words(&[*b, 2, *a, *a + 1]),
            };
            log.record(4, kind << 4 | 1, &main, 0, true);
        }
        Op::Tablespace(kind, t) => {
            let mut main = words(&[*t]);
            main.extend(b"/x\0");
            log.record(5, kind << 4, &main, 0, true);
        }
        Op::Nothing(n) => {
            log.record(21, 0, &vec![3; *n], 0, true);
        }
        Op::Lost(n) => {
            let room = (PAGE - log.bytes.len() % PAGE) % PAGE;
            let lost = log.record(10, 0, &vec![9; room + n], 0, false);
            let mut main = lost.0.to_le_bytes().to_vec();
            main.extend([0; 8]);
            log.record(0, 0xD0, &main, 8, true);
        }
        Op::Switch => {
            log.record(0, 0x40, &[], 0, true);
            log.fill_segment();
        }
    }
}

/// A log of these, and where it ends.
fn log(ops: &[Op]) -> (TestLog, Lsn) {
    let mut log = TestLog::new();
    ops.iter().for_each(|o| write(&mut log, o));
    // So that every segment is full.
    log.record(0, 0x40, &[], 0, true);
    let end = Lsn(log.lsn());
    log.fill_segment();
    (log, end)
}

/// Record by record.
fn one_by_one(log: &TestLog) -> ChangeSet {
    let mut set = ChangeSet::new();
    let mut reader = log.reader();
    while let Some(r) = reader.next().unwrap() {
        effects(r.lsn, r.bytes(), PgMajor::V15, BLOCK, |e| {
            assert!(!matches!(e, Effect::Unknown(_)), "{e:?} at {}", r.lsn);
            set.apply(e);
        })
        .unwrap();
    }
    set
}

pub(super) fn window(
    segments: impl IntoIterator<Item = SegmentChanges>,
    end: Lsn,
) -> Result<WindowChanges, WindowError> {
    let mut w = ChangeWindow::new(Lsn(MIB as u64));
    for s in segments {
        w.add(s)?;
    }
    w.finish(end)
}

pub(super) fn segments(log: &TestLog) -> Vec<SegmentChanges> {
    log.bytes.chunks(MIB).map(|s| scan_changes(s, BLOCK).unwrap()).collect()
}

fn parts(segment: &[u8], len: usize) -> Vec<ScannedPart> {
    let head = segment_header(segment).unwrap();
    let starts = (0..segment.len()).step_by(len);
    let part = |at: usize| {
        let end = segment.len().min(at + len + LOOK_AHEAD);
        scan_part_changes(&head, &segment[at..end], at as u64, len, BLOCK)
    };
    starts.map(part).collect()
}

/// Decoded bytes, encoded again, are the same; nothing panics.
fn decode_any(bytes: &[u8]) {
    if let Ok(s) = SegmentChanges::decode(bytes) {
        assert_eq!(s.encode(), bytes);
        for (_, _, c) in s.set.relations() {
            let _ = c.blocks.runs_in(3, 100).count();
        }
        let _ = window([s.clone()], s.end);
        let _ = s.clone().join(s);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sets_add_up(effects in vec(effect(), 0..120), cut in any::<Index>()) {
        let all = |list: &[Effect]| {
            let mut s = ChangeSet::new();
            list.iter().for_each(|e| s.apply(*e));
            s
        };
        let whole = all(&effects);
        let mut collector = Collector::new();
        effects.iter().for_each(|e| collector.take(*e));
        prop_assert_eq!(&collector.finish(), &whole);
        let (a, b) = effects.split_at(cut.index(effects.len() + 1));
        let mut sum = all(a);
        sum.merge(all(b));
        prop_assert_eq!(&sum, &whole);
        // What was touched is taken, unless the whole of it is.
        for e in &effects {
            if let Effect::Block { rel, fork, block } = *e {
                prop_assert!(whole.relation(rel, fork).unwrap().takes(block) && whole.is_referenced(rel));
            }
        }
    }

    #[test]
    fn cutting_a_log_changes_nothing(
        ops in vec(op(), 1..40),
        len in 1usize..130,
        order in any::<u64>(),
        cut in any::<Index>(),
    ) {
        let (log, end) = log(&ops);
        let want = one_by_one(&log);
        let segments = segments(&log);
        let sum = window(segments.clone(), end).unwrap();
        prop_assert_eq!(&sum.set, &want);

        // Whatever the size of the parts, and in whatever order they are added.
        for (bytes, whole) in log.bytes.chunks(MIB).zip(&segments) {
            let mut scanner = SegmentScanner::new();
            let mut list = parts(bytes, len * PAGE);
            let mut x = order;
            while !list.is_empty() {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                scanner.add(list.swap_remove((x >> 33) as usize % list.len()));
            }
            let part = scanner.finish().unwrap();
            prop_assert_eq!(&part.changes, whole);
            prop_assert_eq!(part.facts, crate::scan::scan_segment(bytes));
            // Stored, it says the same.
            let stored = whole.encode();
            prop_assert_eq!(&SegmentChanges::decode(&stored).unwrap(), whole);
        }

        // Associative: join two halves, each joined by itself.
        let (a, b) = segments.split_at(cut.index(segments.len()));
        let add = |l: &[SegmentChanges]| l.iter().cloned().reduce(SegmentChanges::join);
        if let (Some(a), Some(b)) = (add(a), add(b)) {
            let both = a.join(b);
            prop_assert_eq!(&both, &add(&segments).unwrap());
            prop_assert_eq!(&both.set, &want);
        }
    }

    #[test]
    fn prefixes_hold_what_is_complete(ops in vec(op(), 1..20), cut in any::<Index>()) {
        let (log, _) = log(&ops);
        let at = 40 + cut.index(log.bytes.len() - 40);
        let (full, rest) = (at / MIB, at % MIB);
        let mut list: Vec<_> = log.bytes.chunks(MIB).take(full).map(|s| scan_changes(s, BLOCK).unwrap()).collect();
        list.extend(scan_changes(&log.bytes[full * MIB..][..rest], BLOCK));
        let mut reader = log.reader();
        let (mut want, mut last) = (ChangeSet::new(), Lsn(MIB as u64));
        while let Some(r) = reader.next().unwrap() {
            if r.end_lsn.0 / 8 > (MIB + at) as u64 / 8 {
                break;
            }
            last = r.end_lsn;
            effects(r.lsn, r.bytes(), PgMajor::V15, BLOCK, |e| want.apply(e)).unwrap();
        }
        // Less than a header of the next segment is no segment.
        if last.0 <= list.last().map_or(0, |s| s.end.0) {
            prop_assert_eq!(window(list, last).unwrap().set, want);
        }
    }

    #[test]
    fn a_missing_segment_is_noticed(ops in vec(op(), 10..60), which in any::<Index>()) {
        let (log, end) = log(&ops);
        let mut segments = segments(&log);
        segments.remove(which.index(segments.len()));
        prop_assert!(window(segments, end).is_err());
    }

    #[test]
    fn damage_is_never_passed_over(
        ops in vec(op(), 1..20),
        changes in vec((any::<Index>(), any::<u8>(), 0u8..4), 1..4),
    ) {
        let (mut log, end) = log(&ops);
        let want = one_by_one(&log);
        let len = (end.0 - MIB as u64) as usize;
        for (at, v, kind) in &changes {
            let at = at.index(len);
            // Most hits go where headers of pages and of the first record are.
            let at = if *kind == 0 { at } else { (at / PAGE * PAGE + at % 80).min(len - 1) };
            log.bytes[at] = *v;
        }
        let list: Result<Vec<_>, _> = log.bytes.chunks(MIB).map(|s| scan_changes(s, BLOCK)).collect();
        if let Ok(list) = list {
            for s in &list {
                decode_any(&s.encode());
            }
            if let Ok(w) = window(list, end) {
                prop_assert_eq!(w.set, want);
            }
        }
        if let Ok(head) = segment_header(&log.bytes) {
            for at in (0..log.bytes.len().min(MIB)).step_by(3 * PAGE) {
                let seen = &log.bytes[at..log.bytes.len().min(at + 3 * PAGE + LOOK_AHEAD)];
                let _ = scan_part_changes(&head, seen, at as u64, 3 * PAGE, BLOCK);
            }
        }
    }

    #[test]
    fn changed_stored_bytes(
        ops in vec(op(), 1..12),
        changes in vec((any::<Index>(), any::<u8>()), 0..5),
        cut in any::<Index>(),
    ) {
        let (log, _) = log(&ops);
        for s in segments(&log) {
            let mut bytes = s.encode();
            // Pieces of records are of no interest here.
            let len = bytes.len();
            for (at, v) in &changes {
                let at = at.index(len);
                bytes[if at % 4 == 0 { at } else { at % 64.min(len) }] = *v;
            }
            decode_any(&bytes);
            decode_any(&bytes[..cut.index(len)]);
            bytes.push(0);
            decode_any(&bytes);
        }
    }

    #[test]
    fn random_stored_bytes(b in vec(prop_oneof![0u8..8, any::<u8>()], 0..300), flags in 0u8..128) {
        decode_any(&b);
        let mut with_head = b"HFCM\x01\0\x10\xD1\x07\0\0\0\0\0\0\0\x18".to_vec();
        with_head.push(flags);
        with_head.extend(b);
        decode_any(&with_head);
    }

    #[test]
    fn random_records(body in vec(any::<u8>(), 0..200), rmgr: u8, info: u8) {
        let mut log = TestLog::new();
        for rmgr in [rmgr % 22, rmgr | 128] {
            log.record(rmgr, info & !0x40, &body, 0, true);
            log.record_with(rmgr, info & !0x40, &body, &[], 0, true);
        }
        log.fill_segment();
        for major in PgMajor::ALL {
            let mut reader = log.reader();
            while let Ok(Some(r)) = reader.next() {
                let _ = effects(r.lsn, r.bytes(), major, BLOCK, |_| {});
            }
        }
        if let Ok(s) = scan_changes(&log.bytes, BLOCK) {
            decode_any(&s.encode());
        }
    }
}
