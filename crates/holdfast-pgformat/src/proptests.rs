//! No input makes a parser panic: random bytes, and real formats with a few bytes changed.

use crate::control::ControlFile;
use crate::crc32c::{crc32c, update_portable};
use crate::history::TimelineHistory;
use crate::incremental::IncrementalHeader;
use crate::label::{BackupLabel, TablespaceMap};
use crate::page::{PageHeader, checksum, checksum_portable, is_new, verify_page};
use crate::path::{classify, classify_in_tablespace, dir_action, unlogged_set};
use crate::relation::{RelationFile, is_temp_relation_name};
use crate::scan::{scan_part, scan_segment};
use crate::version::{PgMajor, PgVersion, parse_pg_version_file, parse_tablespace_dir};
use crate::wal::testlog::TestLog;
use crate::wal::{StorageRecord, WalReader, XactRecord, XlogRecord, decode_record, segment_header};
use crate::walname::WalFileName;
use holdfast_core::lsn::{Lsn, SegmentSize, TimelineId};
use proptest::collection::vec;
use proptest::prelude::*;

fn all_binary(b: &[u8]) {
    let _ = ControlFile::parse(b);
    let _ = ControlFile::with_invalid_checkpoint(b);
    let _ = PageHeader::parse(b);
    let _ = is_new(b);
    let _ = verify_page(b, 7, true);
    let _ = segment_header(b);
    let _ = IncrementalHeader::parse(b, 8192, 131_072).map(|h| (h.file_blocks(), h.runs()));
    let _ = scan_segment(b);
    for major in PgMajor::ALL {
        if let Ok(r) = decode_record(Lsn(1 << 24), Lsn(2 << 24), b.to_vec(), 8192) {
            let _ = XactRecord::decode(&r, major);
            let _ = XlogRecord::decode(&r, major);
            let _ = StorageRecord::decode(&r);
        }
    }
}

fn all_text(t: &str) {
    let _ = parse_pg_version_file(t);
    let _ = parse_tablespace_dir(t);
    let _ = classify(t);
    let _ = classify_in_tablespace(1, t);
    let _ = dir_action(t);
    let _ = unlogged_set(t.split('/'));
    let _ = is_temp_relation_name(t);
    if let Some(f) = RelationFile::parse(t) {
        assert_eq!(f.to_string(), t);
    }
    if let Ok(n) = t.parse::<WalFileName>() {
        assert_eq!(n.to_string(), t);
        let _ = n.fits(SegmentSize::DEFAULT);
    }
    if let Ok(h) = TimelineHistory::parse(TimelineId(9), t) {
        assert_eq!(TimelineHistory::parse(TimelineId(9), &h.to_string()), Ok(h));
    }
    if let Ok(l) = BackupLabel::parse(t) {
        let _ = l.to_string();
    }
    if let Ok(m) = TablespaceMap::parse(t) {
        assert_eq!(TablespaceMap::parse(&m.to_string()), Ok(m));
    }
}

fn read_all(bytes: &[u8], start: Lsn, piece: usize, crc: bool) -> usize {
    let mut r = WalReader::new(start, PgMajor::V15, SegmentSize::try_from(1 << 20).unwrap()).verify_crc(crc);
    let mut n = 0;
    for part in bytes.chunks(piece) {
        r.feed(part);
        while let Ok(Some(rec)) = r.next() {
            let _ = XactRecord::decode(&rec, PgMajor::V15);
            let _ = XlogRecord::decode(&rec, PgMajor::V18);
            n += 1;
        }
    }
    n
}

fn log() -> TestLog {
    let mut log = TestLog::new();
    for n in 0..40usize {
        let main = vec![n as u8; n * n * 9];
        log.record((n % 22) as u8, (n as u8) << 4, &main, 0, true);
    }
    log
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(b in vec(any::<u8>(), 0..600), start in any::<u64>()) {
        all_binary(&b);
        read_all(&b, Lsn(start & !7), 100, false);
        prop_assert_eq!(!update_portable(!0, &b), crc32c(&b));
    }

    #[test]
    fn random_records(body in vec(any::<u8>(), 0..200), rmgr in 0u8..22, info: u8) {
        let mut b = vec![0u8; 24];
        b.extend(&body);
        let n = b.len() as u32;
        b[..4].copy_from_slice(&n.to_le_bytes());
        (b[16], b[17]) = (info, rmgr);
        all_binary(&b);
        // The same bytes as main data reach the decoders of single kinds.
        let mut b = b[..24].to_vec();
        b.extend([255, body.len() as u8]);
        b.extend(&body);
        let n = b.len() as u32;
        b[..4].copy_from_slice(&n.to_le_bytes());
        all_binary(&b);
    }

    #[test]
    fn changed_logs(changes in vec((0usize..200_000, any::<u8>()), 1..6), piece in 1usize..20_000, crc: bool) {
        let mut l = log();
        let len = l.bytes.len();
        for (at, v) in &changes {
            // Most hits go where headers are.
            let at = if at % 3 == 0 { at % len } else { (at % (len / 8192) * 8192 + at % 64) % len };
            l.bytes[at] = *v;
        }
        read_all(&l.bytes, Lsn(l.base), piece, crc);
        let _ = scan_segment(&l.bytes);
        let _ = scan_segment(&l.bytes[..changes[0].0.min(len)]);
        if let Ok(head) = crate::wal::segment_header(&l.bytes) {
            for at in (0..len).step_by(3 * 8192) {
                let _ = scan_part(&head, &l.bytes[at..len.min(at + 3 * 8192 + 256)], at as u64, 3 * 8192);
            }
        }
    }

    #[test]
    fn pieces_do_not_matter(piece in 1usize..9000) {
        let l = log();
        prop_assert_eq!(read_all(&l.bytes, Lsn(l.base), piece, true), 40);
    }

    #[test]
    fn changed_control_files(at in 0usize..300, v: u8, cut in 0usize..512) {
        for f in [
            &include_bytes!("../testdata/pg15-control-512.bin")[..],
            include_bytes!("../testdata/pg18-control-512.bin"),
        ] {
            let mut b = f.to_vec();
            b[at] = v;
            if b == f {
                prop_assert!(ControlFile::parse(&b).is_ok());
            } else {
                prop_assert_eq!(ControlFile::parse(&b).is_ok(), at >= 296 || (at >= 292 && f[8..10] == 1300u16.to_le_bytes()));
            }
            // With a matching CRC the fields themselves are reached.
            let crc = crc32c(&b[..288]);
            b[288..292].copy_from_slice(&crc.to_le_bytes());
            all_binary(&b);
            all_binary(&f[..cut]);
        }
    }

    #[test]
    fn checksums_agree(b in vec(any::<u8>(), 1024), block: u32) {
        prop_assert_eq!(checksum(&b, block), checksum_portable(&b, block));
    }

    #[test]
    fn random_text(t in any::<String>(), n: i64) {
        all_text(&t);
        let _ = PgVersion::from_server_version_num(n);
    }

    #[test]
    fn nearly_right_text(t in r"(base|global|pg_tblspc|pg_wal|pg_xact|t1_2|[0-9]{1,5}|PG_15_1|_fsm|[.]1|/|\\|\n|\t| |0/1|[0-9A-F]{8}|[.]partial|[.]history|[.]backup|START WAL LOCATION: |CHECKPOINT LOCATION: |[(]file |[)]){0,12}") {
        all_text(&t);
    }
}
