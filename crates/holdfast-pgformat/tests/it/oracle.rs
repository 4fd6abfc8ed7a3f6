//! Every record of real WAL, as we read it and as pg_waldump reads it.

use crate::server::{Server, installed};
use holdfast_core::lsn::{Lsn, SegmentName, SegmentSize};
use holdfast_pgformat::control::ControlFile;
use holdfast_pgformat::page::{PageCheck, verify_page};
use holdfast_pgformat::path::{PathKind, classify};
use holdfast_pgformat::relation::Fork;
use holdfast_pgformat::scan::{LOOK_AHEAD, scan_part, scan_segment};
use holdfast_pgformat::version::PgMajor;
use holdfast_pgformat::wal::{
    Record, StorageRecord, WalReader, XactKind, XactRecord, XlogRecord, segment_header,
};
use std::path::Path;

const SETUP: &str = "
create extension if not exists pageinspect;
create table t (id int primary key, a text, b int[], p point, n int) with (fillfactor = 70);
create index on t using gin (b);
create index on t using gist (p);
create index on t using spgist (p);
create index on t using hash (n);
create index on t using brin (id);
create index on t (a);
create unlogged table u (x int);
create sequence s;
insert into t select i, repeat(md5(i::text), 3), array[i % 7, i % 13, i], point(i, -i), i % 50
    from generate_series(1, 6000) i;
insert into u select generate_series(1, 1000);
";

const WORK: &str = "
checkpoint;
select pg_create_restore_point('first point');
update t set n = n + 1, a = a || 'x' where id % 3 = 0;
delete from t where id % 5 = 0;
vacuum (freeze, analyze) t;
create table big (id int, v text);
alter table big alter v set storage external;
insert into big select i, repeat(chr(65 + i % 26), 30000) from generate_series(1, 40) i;
insert into big values (99, repeat('z', 900000));
begin; savepoint a; insert into t values (100001); savepoint b; insert into t values (100002);
rollback to b; insert into t values (100003); commit;
begin; insert into t values (100010); rollback;
begin; create table gone (x int); insert into gone values (1); rollback;
begin; insert into t values (100020); savepoint q; insert into t values (100021); prepare transaction 'two one';
begin; create table prep (x int); prepare transaction 'two-two';
commit prepared 'two one';
rollback prepared 'two-two';
select nextval('s') from generate_series(1, 100);
create table tr as select generate_series(1, 5000) x;
truncate tr;
drop table tr;
delete from big where id > 20;
vacuum big;
create materialized view mv as select * from t where id < 100;
refresh materialized view mv;
cluster t using t_pkey;
reindex table t;
create database other;
create database copied template template0 strategy file_copy;
drop database other;
select pg_logical_emit_message(true, 'x', repeat('m', 10000));
select pg_switch_wal();
set wal_compression = pglz;
checkpoint;
update t set n = n + 1;
select pg_create_restore_point('zweiter Punkt');
set wal_compression = off;
begin; lock table t in access exclusive mode; alter table t add column z int default 4; commit;
";

pub(crate) struct Expected {
    pub(crate) rmgr: String,
    pub(crate) total: u32,
    pub(crate) xid: u32,
    pub(crate) lsn: Lsn,
    pub(crate) prev: Lsn,
    pub(crate) desc: String,
    pub(crate) blocks: Vec<String>,
}

pub(crate) fn after<'a>(line: &'a str, key: &str) -> &'a str {
    line.split_once(key).unwrap_or_else(|| panic!("{key} in {line}")).1.trim_start()
}

pub(crate) fn word(s: &str) -> &str {
    s.split([',', ' ']).next().unwrap()
}

pub(crate) fn parse_dump(text: &str) -> Vec<Expected> {
    text.lines()
        .filter(|l| l.starts_with("rmgr: "))
        .map(|l| {
            let mut parts = after(l, "desc: ").split(", blkref #");
            let desc = parts.next().unwrap().to_string();
            Expected {
                rmgr: word(after(l, "rmgr: ")).to_string(),
                total: word(after(after(l, "len (rec/tot):"), "/")).parse().unwrap(),
                xid: word(after(l, "tx:")).parse().unwrap(),
                lsn: word(after(l, "lsn:")).parse().unwrap(),
                prev: word(after(l, "prev ")).parse().unwrap(),
                desc,
                blocks: parts.map(|b| b.trim().to_string()).collect(),
            }
        })
        .collect()
}

fn show_blocks(r: &Record) -> Vec<String> {
    r.blocks
        .iter()
        .map(|b| {
            let fork = if b.fork == Fork::Main { String::new() } else { format!("fork {} ", b.fork.name()) };
            let image = match &b.image {
                Some(i) if i.is_applied() => " FPW",
                Some(_) => " FPW for WAL verification",
                None => "",
            };
            format!("{}: rel {} {fork}blk {}{image}", b.id, b.rel, b.block)
        })
        .collect()
}

/// `2026-01-02 03:04:05.678 UTC` as microseconds since 1970.
fn micros(text: &str) -> i64 {
    let (date, time) = text.split_once(' ').unwrap();
    let d: Vec<i64> = date.split('-').map(|p| p.parse().unwrap()).collect();
    let (hms, fraction) = word(time).split_once('.').map_or((word(time), ""), |(a, b)| (a, b));
    let t: Vec<i64> = hms.split(':').map(|p| p.parse().unwrap()).collect();
    // Days from the civil calendar, after H. Hinnant.
    let y = if d[1] <= 2 { d[0] - 1 } else { d[0] };
    let (era, yoe) = (y.div_euclid(400), y.rem_euclid(400));
    let doy = (153 * ((d[1] + 9) % 12) + 2) / 5 + d[2] - 1;
    let days = era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468;
    let us: i64 = format!("{fraction:0<6}").parse().unwrap();
    ((days * 24 + t[0]) * 60 + t[1]) * 60_000_000 + t[2] * 1_000_000 + us
}

/// Feeds the segments in pieces and collects all records.
fn read_all(
    segments: &[Vec<u8>],
    start: Lsn,
    major: PgMajor,
    size: SegmentSize,
    piece: usize,
) -> Vec<Record> {
    let mut reader = WalReader::new(start, major, size);
    let mut records = Vec::new();
    for s in segments {
        for part in s.chunks(piece) {
            reader.feed(part);
            while let Some(r) = reader.next().unwrap() {
                records.push(r);
            }
        }
    }
    // It may also end together with the last segment there is.
    let at = reader.position();
    assert!(reader.end().is_some() || at.0.is_multiple_of(size.bytes()), "the log ends somewhere; at {at}");
    records
}

fn compare(major: PgMajor, bin: &Path, segment_mib: u32, more_conf: &str) {
    let conf = format!(
        "wal_level = logical\nmax_prepared_transactions = 10\ncheckpoint_timeout = '1h'\n\
         track_commit_timestamp = on\n{more_conf}"
    );
    let mut server = Server::init(bin, segment_mib, &conf);
    server.start();
    server.sql(SETUP);
    server.sql(WORK);
    let data = server.data();
    server.stop(&data, "fast");
    server.start();
    server.sql("insert into t select generate_series(200000, 205000); vacuum t;");
    server.stop(&data, "immediate");

    let control = ControlFile::parse(&std::fs::read(data.join("global/pg_control")).unwrap()).unwrap();
    assert_eq!(control.major(), Some(major));
    let size = control.wal_segment_size;
    assert_eq!(size.bytes(), u64::from(segment_mib) << 20);

    let names = server.segments();
    let segments: Vec<Vec<u8>> =
        names.iter().map(|n| std::fs::read(data.join("pg_wal").join(n)).unwrap()).collect();
    let first: SegmentName = names[0].parse().unwrap();
    let head = segment_header(&segments[0]).unwrap();
    assert_eq!((head.major, head.system_id), (major, control.system_identifier));
    assert!(head.matches_name(first));

    let expected = parse_dump(&server.waldump(&names[0], names.last().unwrap()));
    let records = read_all(&segments, first.start(size), major, size, 7777);
    assert_eq!(read_all(&segments, first.start(size), major, size, 1 << 20), records, "cut does not matter");
    for (r, e) in records.iter().zip(&expected) {
        let at = e.lsn;
        assert_eq!(r.lsn, e.lsn);
        assert_eq!(r.rmgr.to_string(), e.rmgr, "{at}");
        assert_eq!((r.bytes().len() as u32, r.xid, r.prev), (e.total, e.xid, e.prev), "{at}");
        assert_eq!(show_blocks(r), e.blocks, "{at}");
        check_meaning(r, e, major);
    }
    assert_eq!(records.len(), expected.len());
    assert!(records.len() > 10_000, "{}", records.len());
    for w in records.windows(2) {
        // At the end of a page, the page's header comes before the next record.
        let gap = w[1].lsn.bytes_since(w[0].end_lsn);
        assert!(gap == 0 || (w[0].end_lsn.0 % 8192 == 0 && (gap == 24 || gap == 40)), "{}", w[1].lsn);
    }

    compare_scan(&segments, &records, major, size);
    reader_from_any_record(&segments, &records, major, size, first.start(size));
    check_pages(&data, &control);
    eprintln!(
        "postgresql {major}, {segment_mib} MiB segments: {} records in {} segments agree with pg_waldump",
        records.len(),
        names.len()
    );
}

/// What we decode of a record against pg_waldump's description of it.
fn check_meaning(r: &Record, e: &Expected, major: PgMajor) {
    let at = e.lsn;
    if let Some(x) = XactRecord::decode(r, major).unwrap() {
        let (verb, rest) = e.desc.split_once(' ').unwrap();
        let kind = match verb {
            "COMMIT" => XactKind::Commit,
            "ABORT" => XactKind::Abort,
            "PREPARE" => XactKind::Prepare,
            "COMMIT_PREPARED" => XactKind::CommitPrepared,
            "ABORT_PREPARED" => XactKind::AbortPrepared,
            other => panic!("{other} at {at}"),
        };
        assert_eq!(x.kind, kind, "{at}");
        if kind == XactKind::Prepare {
            let gid = rest.strip_prefix("gid ").unwrap().split(": ").next().unwrap();
            assert_eq!(x.gid.as_deref(), Some(gid), "{at}");
        } else {
            let time = rest.split_once(": ").filter(|(x, _)| x.parse::<u32>().is_ok()).map_or(rest, |t| t.1);
            assert_eq!(x.time.unix_micros(), micros(time), "{at}: {}", e.desc);
        }
        if let Some((_, list)) = e.desc.split_once("subxacts: ") {
            let subs: Vec<String> =
                list.split(';').next().unwrap().split_whitespace().map(String::from).collect();
            assert_eq!(x.subxacts.iter().map(|s| s.to_string()).collect::<Vec<_>>(), subs, "{at}");
        }
        if let Some((_, list)) = e.desc.split_once("rels: ").filter(|_| kind != XactKind::Prepare) {
            assert_eq!(x.dropped.len(), list.split(';').next().unwrap().split_whitespace().count(), "{at}");
        }
    }
    if let Some(x) = XlogRecord::decode(r, major).unwrap() {
        let verb = word(&e.desc);
        match x {
            XlogRecord::Checkpoint { shutdown, checkpoint } => {
                assert_eq!(verb, if shutdown { "CHECKPOINT_SHUTDOWN" } else { "CHECKPOINT_ONLINE" });
                let want = format!("redo {:X}/{:X}", checkpoint.redo.0 >> 32, checkpoint.redo.0 as u32);
                assert!(
                    e.desc.contains(&want)
                        || word(after(&e.desc, "redo ")).trim_end_matches(';').parse() == Ok(checkpoint.redo)
                );
                assert!(e.desc.contains(&format!("tli {};", checkpoint.timeline)));
                assert!(e.desc.contains(&format!("oid {};", checkpoint.next_oid)));
                assert_eq!(checkpoint.wal_level.is_some(), major >= PgMajor::V17);
            }
            XlogRecord::RestorePoint { name, .. } => assert_eq!(e.desc, format!("RESTORE_POINT {name}")),
            XlogRecord::Switch => assert_eq!(verb, "SWITCH"),
            XlogRecord::ParameterChange(_) => assert_eq!(verb, "PARAMETER_CHANGE"),
            XlogRecord::CheckpointRedo { wal_level } => {
                assert_eq!(verb, "CHECKPOINT_REDO");
                assert!(wal_level.is_some());
            }
            XlogRecord::FullPageWrites(_) => assert_eq!(verb, "FPW_CHANGE"),
            XlogRecord::EndOfRecovery { .. } => assert_eq!(verb, "END_OF_RECOVERY"),
            XlogRecord::BackupEnd { .. } => assert_eq!(verb, "BACKUP_END"),
            XlogRecord::OverwriteContrecord { .. } => assert_eq!(verb, "OVERWRITE_CONTRECORD"),
        }
    }
    if let Some(s) = StorageRecord::decode(r).unwrap() {
        let verb = match s {
            StorageRecord::CreateFork { .. } => "CREATE",
            StorageRecord::Truncate { blocks, .. } => {
                assert!(e.desc.contains(&format!("to {blocks} blocks")), "{at}");
                "TRUNCATE"
            }
            StorageRecord::CreateDatabaseCopy { .. } => "CREATE_FILE_COPY",
            StorageRecord::CreateDatabaseLogged { .. } => "CREATE_WAL_LOG",
            StorageRecord::DropDatabase { .. } => "DROP",
            StorageRecord::RelMapUpdate { .. } => "UPDATE",
            StorageRecord::CreateTablespace { .. } => "CREATE",
            StorageRecord::DropTablespace { .. } => "DROP",
        };
        assert_eq!(word(&e.desc), verb, "{at}");
    }
}

/// The fast scan of each segment against the records.
fn compare_scan(segments: &[Vec<u8>], records: &[Record], major: PgMajor, size: SegmentSize) {
    let mut restore_points = 0;
    for s in segments {
        let head = segment_header(s).unwrap();
        let (from, to) = (head.page_addr, Lsn(head.page_addr.0 + size.bytes()));
        let here: Vec<&Record> = records.iter().filter(|r| (from..to).contains(&r.lsn)).collect();
        if here.is_empty() {
            continue; // a recycled file
        }
        let f = scan_segment(s).unwrap();
        for part in [8192usize, 3 * 8192, 128 * 1024, 1 << 20] {
            let piece = |at: usize| {
                let end = s.len().min(at + part + LOOK_AHEAD);
                scan_part(&head, &s[at..end], at as u64, part).unwrap()
            };
            let joined = (0..s.len()).step_by(part).map(piece).reduce(|a, b| a.join(b)).unwrap();
            assert_eq!(joined, f, "{from} in parts of {part}");
        }
        if f.tail.is_some_and(|t| records.last().is_some_and(|r| r.lsn < t)) {
            // The server was stopped within a record whose other segment it had not made yet.
            assert_eq!(f.records, here.len() as u64 + 1);
            continue;
        }
        assert_eq!((f.first_record, f.last_record), (Some(here[0].lsn), Some(here.last().unwrap().lsn)));
        assert_eq!(f.records, here.len() as u64);
        assert_eq!(f.has_switch, here.last().unwrap().is_switch());
        let last = here.last().unwrap();
        assert_eq!(f.tail.is_some(), last.end_lsn > to, "{from}");
        assert_eq!(f.end_of_data, last.end_lsn.min(to), "{from}");
        let complete = || here.iter().filter(|r| r.end_lsn <= to);
        let xacts: Vec<XactRecord> = complete()
            .filter_map(|r| XactRecord::decode(r, major).unwrap())
            .filter(|x| x.kind != XactKind::Prepare)
            .collect();
        let commits = xacts.iter().filter(|x| x.kind.is_commit()).count() as u64;
        assert!(f.commits == commits || (f.tail.is_some() && f.commits == commits + 1));
        for x in &xacts {
            assert!(
                f.first_time.unwrap() <= x.time.unix_micros() && x.time.unix_micros() <= f.last_time.unwrap()
            );
        }
        for r in complete() {
            if let Some(XlogRecord::RestorePoint { name, time }) = XlogRecord::decode(r, major).unwrap() {
                let p = f.restore_points.iter().find(|p| p.lsn == r.lsn).unwrap();
                assert_eq!((&p.name, p.time), (&name, time.unix_micros()));
                restore_points += 1;
            }
        }
    }
    assert!(restore_points >= 1);
}

/// Starting at the position of a record gives that record and the ones after it.
fn reader_from_any_record(
    segments: &[Vec<u8>],
    records: &[Record],
    major: PgMajor,
    size: SegmentSize,
    base: Lsn,
) {
    let all: Vec<u8> = segments.iter().take(4).flatten().copied().collect();
    for (i, r) in records.iter().enumerate().step_by(997) {
        let Some(bytes) = all.get(r.lsn.bytes_since(base) as usize..) else { break };
        let mut reader = WalReader::new(r.lsn, major, size);
        reader.feed(&bytes[..bytes.len().min(64 << 10)]);
        for want in records.iter().skip(i).take(20) {
            match reader.next().unwrap() {
                Some(got) => assert_eq!(&got, want),
                None => break,
            }
        }
    }
}

/// Every page of every relation of the stopped (not cleanly: pages are whole all the same) cluster.
fn check_pages(data: &Path, control: &ControlFile) {
    let (mut good, mut relations) = (0, 0);
    for dir in ["global", "base/1", "base/5"] {
        let Ok(list) = std::fs::read_dir(data.join(dir)) else { continue };
        for entry in list {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let PathKind::RelationFork(f) = classify(&format!("{dir}/{name}")) else { continue };
            relations += 1;
            let bytes = std::fs::read(data.join(dir).join(&name)).unwrap();
            for (no, page) in bytes.chunks(8192).enumerate() {
                let check = verify_page(page, no as u32, control.has_checksums());
                assert!(matches!(check, PageCheck::Ok | PageCheck::New), "{f:?} block {no}: {check:?}");
                good += 1;
            }
        }
    }
    assert!(good > 1000 && relations > 100, "{good} pages of {relations} files");
}

fn oracle(segment_mib: u32, more_conf: &str) {
    let found = installed();
    if found.is_empty() {
        eprintln!("skipped: no postgresql is installed here");
    }
    for (v, bin) in found {
        compare(PgMajor::try_from(v).unwrap(), &bin, segment_mib, more_conf);
    }
}

#[test]
fn records_agree_with_pg_waldump_with_small_segments() {
    oracle(1, "wal_compression = on");
}

#[test]
fn records_agree_with_pg_waldump_with_usual_segments() {
    oracle(16, "wal_consistency_checking = 'heap,btree'\nwal_log_hints = on");
}
