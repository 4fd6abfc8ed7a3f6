//! What we say that the log changed: against pg_waldump, against the server's own summaries, and against the
//! files.

use crate::oracle::{after, parse_dump, word};
use crate::server::{Server, installed};
use crate::workload::{BEGIN, END, Random, seed, statements};
use holdfast_core::lsn::{Lsn, SegmentName, SegmentSize};
use holdfast_pgformat::changes::{
    ChangeSet, ChangeWindow, Effect, SegmentChanges, WindowChanges, WindowError, effects, scan_changes,
};
use holdfast_pgformat::control::ControlFile;
use holdfast_pgformat::page::is_spgist_metapage;
use holdfast_pgformat::relation::{Fork, RelFileLocator, RelationFile};
use holdfast_pgformat::version::PgMajor;
use holdfast_pgformat::wal::WalReader;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const CONF: &str =
    "wal_level = replica\nmax_prepared_transactions = 20\ncheckpoint_timeout = '1h'\nautovacuum = off";

fn control(server: &Server) -> ControlFile {
    ControlFile::parse(&std::fs::read(server.data().join("global/pg_control")).unwrap()).unwrap()
}

/// The segments of the first timeline, and what is stored of each.
fn stored(server: &Server, size: SegmentSize) -> Vec<(Lsn, Vec<u8>, SegmentChanges)> {
    let mut list = Vec::new();
    for name in server.segments() {
        let bytes = std::fs::read(server.data().join("pg_wal").join(&name)).unwrap();
        let start = name.parse::<SegmentName>().unwrap().start(size);
        let Ok(c) = scan_changes(&bytes, 8192) else { continue };
        if c.start != start {
            break; // recycled, not written yet
        }
        let encoded = c.encode();
        let decoded = SegmentChanges::decode(&encoded).unwrap();
        let (head, tail) = c.fragment_lengths();
        if head <= 1 << 20 && tail <= 1 << 20 && c.untrusted.is_none() {
            assert_eq!(decoded, c, "{name}");
        }
        list.push((start, encoded, decoded));
    }
    list
}

fn window(list: &[(Lsn, Vec<u8>, SegmentChanges)], from: Lsn, to: Lsn) -> Result<WindowChanges, WindowError> {
    let mut w = ChangeWindow::new(from);
    for (start, _, c) in list {
        if c.end <= from && c.end > c.start && list.iter().any(|o| o.0 == c.end) {
            continue;
        }
        if *start >= to {
            break;
        }
        w.add(c.clone())?;
    }
    w.finish(to)
}

fn locator(path: &str) -> (RelFileLocator, Fork) {
    let parts: Vec<&str> = path.split('/').collect();
    let (tablespace, database) = match parts[0] {
        "base" => (1663, parts[1].parse().unwrap()),
        "global" => (1664, 0),
        _ => (parts[1].parse().unwrap(), parts[3].parse().unwrap()),
    };
    let f = RelationFile::parse(parts.last().unwrap()).unwrap();
    (RelFileLocator { tablespace, database, relation: f.relation }, f.fork)
}

/// A plain model of the same, from what pg_waldump prints.
#[derive(Default, PartialEq, Eq, Debug)]
struct Model {
    tablespaces: BTreeSet<u32>,
    databases: BTreeSet<(u32, u32)>,
    forks: BTreeMap<(RelFileLocator, Fork), (Option<u32>, BTreeSet<u32>)>,
}

impl Model {
    fn limit(&mut self, rel: RelFileLocator, fork: Fork, limit: u32) {
        let f = self.forks.entry((rel, fork)).or_default();
        f.0 = Some(f.0.map_or(limit, |l| l.min(limit)));
        f.1.retain(|b| *b < limit);
    }

    fn record(&mut self, rmgr: &str, desc: &str, blocks: &[String]) {
        let forks = || (0..4).map(|n| Fork::from_number(n).unwrap());
        let (verb, rest) = desc.split_once(' ').unwrap_or((desc, ""));
        match (rmgr, verb) {
            ("Storage", "CREATE") => {
                let (rel, fork) = locator(word(rest));
                self.limit(rel, fork, 0);
            }
            ("Storage", "TRUNCATE") => {
                let (rel, _) = locator(word(rest));
                let flags: u32 = word(after(rest, "flags ")).parse().unwrap();
                let blocks = word(after(rest, "to ")).parse().unwrap();
                for (bit, fork, n) in [(1, Fork::Main, blocks), (2, Fork::Vm, 0), (4, Fork::Fsm, 0)] {
                    if flags & bit != 0 {
                        self.limit(rel, fork, n);
                    }
                }
            }
            ("Transaction", verb) if verb != "PREPARE" => {
                let list = rest.split_once("rels: ").map_or("", |r| r.1.split(';').next().unwrap());
                for path in list.split_whitespace() {
                    forks().for_each(|f| self.limit(locator(path).0, f, 0));
                }
            }
            ("Database", verb) => {
                let dirs = match verb {
                    "CREATE_FILE_COPY" => after(rest, " to "),
                    _ => after(rest, "dir"),
                };
                for d in dirs.split_whitespace() {
                    let (t, d) = d.split_once('/').unwrap();
                    self.databases.insert((t.parse().unwrap(), d.parse().unwrap()));
                }
            }
            ("Tablespace", _) => {
                self.tablespaces.insert(word(rest).parse().unwrap());
            }
            _ => {}
        }
        for b in blocks {
            let rel: Vec<u32> = word(after(b, "rel ")).split('/').map(|n| n.parse().unwrap()).collect();
            let rel = RelFileLocator { tablespace: rel[0], database: rel[1], relation: rel[2] };
            let fork = b.split_once("fork ").map_or("main", |f| word(f.1));
            let fork = (0..4).filter_map(Fork::from_number).find(|f| f.name() == fork).unwrap();
            let block = word(after(b, "blk ")).parse().unwrap();
            self.forks.entry((rel, fork)).or_default().1.insert(block);
        }
    }
}

fn plain(set: &ChangeSet) -> Model {
    Model {
        tablespaces: set.tablespaces().collect(),
        databases: set.databases().collect(),
        forks: set.relations().map(|(r, f, c)| ((r, f), (c.limit, c.blocks.iter().collect()))).collect(),
    }
}

fn compare(major: PgMajor, bin: &Path, segment_mib: u32, seed: u64) {
    let mut random = Random::new(seed);
    let mut server = Server::init(bin, segment_mib, CONF);
    server.start();
    server.sql(BEGIN);
    server.sql(&statements(&mut random, 250, true));
    server.sql(&format!(
        "select pg_logical_emit_message(true, 'm', repeat('m', {}));\nselect pg_switch_wal();\ncheckpoint;\n{}",
        3_000_000 + random.below(3_000_000),
        statements(&mut random, 150, true)
    ));
    let data = server.data();
    server.stop(&data, "fast");
    let size = control(&server).wal_segment_size;
    let list = stored(&server, size);
    let names = server.segments();
    let dump = parse_dump(&server.waldump(&names[0], names.last().unwrap()));
    let mut model = Model::default();
    dump.iter().for_each(|r| model.record(&r.rmgr, &r.desc, &r.blocks));
    let from = dump[0].lsn;
    let last = dump.last().unwrap().lsn;
    // Everything, with a window that begins at the first record of all.
    let sum = window(&list, from, last);
    let sum = match sum {
        // The long message lies across segments with more than 1 MiB in one: then there is a hole.
        Err(WindowError::Untrusted(u)) if segment_mib > 1 => {
            eprintln!("postgresql {major}, {segment_mib} MiB segments: {u}");
            let mut w = ChangeWindow::new(from);
            for name in &names {
                let bytes = std::fs::read(data.join("pg_wal").join(name)).unwrap();
                let Ok(c) = scan_changes(&bytes, 8192) else { continue };
                if w.next_start().is_none_or(|n| n == c.start) && w.add(c).is_err() {
                    break;
                }
            }
            w.finish(last).unwrap()
        }
        other => other.unwrap(),
    };
    let got = plain(&sum.set);
    for (key, want) in &model.forks {
        assert_eq!(got.forks.get(key), Some(want), "{key:?}");
    }
    assert_eq!(got, model);
    let cut = list.iter().filter(|l| l.2.tail().is_some()).count();
    let bytes: usize = list.iter().map(|l| l.1.len()).sum();
    let fragments: u64 = list.iter().map(|l| l.2.fragment_lengths()).map(|f| f.0 + f.1).sum();
    assert!(cut > 2 && got.databases.len() > 2 && got.tablespaces.len() == 1 && got.forks.len() > 200);
    eprintln!(
        "postgresql {major}, {segment_mib} MiB segments: {} records, {} segments ({cut} cut a record), {} forks, \
         {} blocks; {bytes} bytes stored, {fragments} of them pieces of records",
        dump.len(),
        list.len(),
        got.forks.len(),
        sum.set.block_count(),
    );
}

fn on_all(f: impl Fn(PgMajor, &Path, u64)) {
    let found = installed();
    if found.is_empty() {
        eprintln!("skipped: no postgresql is installed here");
    }
    let seed = seed();
    for (v, bin) in found {
        f(PgMajor::try_from(v).unwrap(), &bin, seed);
    }
}

#[test]
fn changes_agree_with_pg_waldump() {
    on_all(|major, bin, seed| {
        compare(major, bin, 1, seed);
        compare(major, bin, 4, seed.wrapping_add(1));
    });
}

/// `TS 1663, DB 5, REL 1259, FORK main: blocks 3..7`, and `limit 0`, `block 3`.
fn summary(text: &str) -> Model {
    let mut m = Model::default();
    for line in text.lines() {
        let number = |key: &str| -> u32 { word(after(line, key)).parse().unwrap() };
        let rel =
            RelFileLocator { tablespace: number("TS "), database: number("DB "), relation: number("REL ") };
        let (fork, what) = after(line, "FORK ").split_once(": ").unwrap();
        let fork = (0..4).filter_map(Fork::from_number).find(|f| f.name() == fork).unwrap();
        let (kind, value) = what.split_once(' ').unwrap();
        if rel.relation == 0 {
            m.databases.insert((rel.tablespace, rel.database));
            continue;
        }
        let f = m.forks.entry((rel, fork)).or_default();
        match kind {
            "limit" => f.0 = Some(value.parse().unwrap()),
            "block" => drop(f.1.insert(value.parse().unwrap())),
            _ => {
                let (a, b) = value.split_once("..").unwrap();
                f.1.extend(a.parse::<u32>().unwrap()..=b.parse().unwrap());
            }
        }
    }
    m
}

#[test]
fn nothing_of_the_servers_own_summaries_is_missing() {
    on_all(|major, bin, seed| {
        if major < PgMajor::V17 {
            return;
        }
        let mut random = Random::new(seed);
        let mut server = Server::init(bin, 1, &format!("{CONF}\nsummarize_wal = on"));
        server.start();
        server.sql(BEGIN);
        for _ in 0..4 {
            server.sql(&statements(&mut random, 80, true));
            server.sql("checkpoint;");
        }
        server.sql(END);
        server.sql("checkpoint; select pg_switch_wal(); insert into still values (0, ''); checkpoint;");
        let ready = "select summarized_lsn >= (select redo_lsn from pg_control_checkpoint()) from pg_get_wal_summarizer_state()";
        for _ in 0..300 {
            if server.ask(ready) == "t" {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let data = server.data();
        server.stop(&data, "fast");
        let size = control(&server).wal_segment_size;
        let list = stored(&server, size);
        let segments: Vec<Vec<u8>> =
            server.segments().iter().map(|n| std::fs::read(data.join("pg_wal").join(n)).unwrap()).collect();
        let base = server.segments()[0].parse::<SegmentName>().unwrap().start(size);
        let mut names: Vec<String> = std::fs::read_dir(data.join("pg_wal/summaries"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|n| n.len() == 48 && n.ends_with(".summary"))
            .collect();
        names.sort();
        assert!(names.len() >= 4, "{names:?}");
        let (mut differences, mut blocks) = (BTreeMap::<String, u64>::new(), 0);
        for name in &names {
            let at = |i: usize| Lsn(u64::from_str_radix(&name[i..i + 16], 16).unwrap());
            let (from, to) = (at(8), at(24));
            let file = data.join("pg_wal/summaries").join(name);
            let out = server.run("pg_walsummary", &[file.to_str().unwrap()]);
            let theirs = summary(&String::from_utf8(out.stdout).unwrap());

            // Of the segments that hold the range, so of a little more.
            let sum = window(&list, from, to).unwrap();
            assert!(theirs.databases.iter().all(|(t, d)| sum.set.is_whole(*t, *d)), "{name}");
            for ((rel, fork), (limit, list)) in &theirs.forks {
                let ours =
                    sum.set.relation(*rel, *fork).unwrap_or_else(|| panic!("{rel} {fork:?} in {name}"));
                for b in list {
                    assert!(ours.takes(*b), "{name}: {rel} {fork:?} block {b}");
                }
                if let Some(l) = limit {
                    assert!(ours.limit.is_some_and(|o| o <= *l), "{name}: {rel} {fork:?} limit {l}");
                }
                blocks += list.len();
            }

            // Of exactly the same records: where do we differ?
            let mut reader = WalReader::new(from, major, size);
            let mut set = ChangeSet::new();
            let mut bytes = segments.iter().enumerate();
            'log: loop {
                while let Some(r) = reader.next().unwrap() {
                    if r.lsn >= to {
                        break 'log;
                    }
                    effects(r.lsn, r.bytes(), major, 8192, |e| {
                        assert!(!matches!(e, Effect::Unknown(_)));
                        set.apply(e);
                    })
                    .unwrap();
                }
                let Some((i, s)) = bytes.next() else { break };
                let start = base.0 + i as u64 * size.bytes();
                if start + size.bytes() > from.0 {
                    reader.feed(&s[from.0.saturating_sub(start) as usize..]);
                }
            }
            let ours = plain(&set);
            let mut differ = |what: &str, n: usize| *differences.entry(what.into()).or_default() += n as u64;
            differ("databases only in ours", ours.databases.difference(&theirs.databases).count());
            differ("tablespaces (ours)", ours.tablespaces.len());
            assert!(theirs.databases.is_subset(&ours.databases));
            for (key, (limit, list)) in &ours.forks {
                if key.1 == Fork::Fsm {
                    differ("free space map (ours)", list.len() + usize::from(limit.is_some()));
                    continue;
                }
                let none = (None, BTreeSet::new());
                let (l, b) = theirs.forks.get(key).unwrap_or(&none);
                let extra: Vec<_> = list.difference(b).collect();
                assert!(extra.is_empty(), "{name}: {key:?} {extra:?} only in ours");
                if limit != l {
                    assert!(key.1 == Fork::Vm && *limit == Some(0), "{name}: {key:?} {limit:?} {l:?}");
                    differ("limit of a visibility map", 1);
                }
            }
            for (key, (_, list)) in &theirs.forks {
                let (l, b) = ours.forks.get(key).unwrap();
                let more: Vec<_> = list.difference(b).collect();
                assert!(more.iter().all(|b| l.is_some_and(|l| **b >= l)), "{name}: {key:?} {more:?}");
                differ("blocks above a limit, forgotten only by us", more.len());
            }
        }
        eprintln!(
            "postgresql {major}: {} summaries with {blocks} blocks agree; {differences:?}",
            names.len()
        );
    });
}

type Files = BTreeMap<(RelFileLocator, Fork, u32), Vec<u8>>;

/// Every file of a relation.
fn relation_files(data: &Path) -> Files {
    let mut files = Files::new();
    let mut dir = |path: &Path, tablespace: u32, database: u32| {
        let Ok(list) = std::fs::read_dir(path) else { return };
        for e in list {
            let e = e.unwrap();
            if let Some(f) = RelationFile::parse(&e.file_name().into_string().unwrap())
                && e.file_type().unwrap().is_file()
            {
                let rel = RelFileLocator { tablespace, database, relation: f.relation };
                files.insert((rel, f.fork, f.segment_no), std::fs::read(e.path()).unwrap());
            }
        }
    };
    let numbers = |path: &Path| -> Vec<(u32, std::path::PathBuf)> {
        let list = std::fs::read_dir(path).into_iter().flatten().map(|e| e.unwrap());
        list.filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path()))).collect()
    };
    dir(&data.join("global"), 1664, 0);
    for (database, path) in numbers(&data.join("base")) {
        dir(&path, 1663, database);
    }
    for (tablespace, path) in numbers(&data.join("pg_tblspc")) {
        for version in std::fs::read_dir(path).unwrap() {
            for (database, path) in numbers(&version.unwrap().path()) {
                dir(&path, tablespace, database);
            }
        }
    }
    files
}

fn truth(major: PgMajor, bin: &Path, seed: u64, crash: bool) {
    let mut random = Random::new(seed);
    // Checksums are on: so hint bits are logged too, and no page changes without a record.
    let mut server = Server::init(bin, 1, CONF);
    let data = server.data();
    server.start();
    server.sql(BEGIN);
    server.sql(&statements(&mut random, 120, true));
    server.sql(END);
    server.stop(&data, "fast");
    let from = control(&server).checkpoint_copy.redo;
    let before = relation_files(&data);

    server.start();
    server.sql(&statements(&mut random, 250, false));
    if crash {
        server.stop(&data, "immediate");
        server.start();
        server.sql(&statements(&mut random, 80, false));
    }
    server.sql(END);
    server.stop(&data, "fast");
    let to = control(&server).checkpoint_copy.redo;
    let later = relation_files(&data);
    let set = window(&stored(&server, control(&server).wal_segment_size), from, to).unwrap().set;

    let unlogged = |rel: RelFileLocator| {
        let init = |f: &Files| f.contains_key(&(rel, Fork::Init, 0));
        init(&before) || init(&later)
    };
    let (mut changed, mut same, mut taken, mut maps) = (0u64, 0u64, 0u64, 0u64);
    let (mut missed, mut caches) = (Vec::new(), 0);
    for ((rel, fork, no), new) in &later {
        let Some(old) = before.get(&(*rel, *fork, *no)) else { continue };
        if set.is_whole(rel.tablespace, rel.database) {
            continue;
        }
        if *fork == Fork::Init {
            assert!(old == new || set.is_referenced(*rel), "{rel} init");
            continue;
        }
        if *fork != Fork::Main {
            // Without a reference, their stat has to be asked (rule 10).
            maps += u64::from(old != new && !set.is_referenced(*rel));
            continue;
        }
        if unlogged(*rel) {
            continue;
        }
        let c = set.relation(*rel, Fork::Main);
        let first = no * 131_072;
        let numbers = first..;
        for ((block, new), old) in numbers.zip(new.chunks(8192)).zip(old.chunks(8192)) {
            let takes = c.is_some_and(|c| c.takes(block));
            taken += u64::from(takes);
            if new == old {
                same += 1;
                continue;
            }
            changed += 1;
            let zero = new.iter().all(|b| *b == 0);
            // A cache of pages with room, which the server changes without a record.
            if block == 0 && is_spgist_metapage(new) && is_spgist_metapage(old) {
                caches += 1;
                continue;
            }
            if !takes && !zero {
                missed.push((*rel, block, old.to_vec(), new.to_vec()));
            }
        }
        let count = u32::try_from(new.len() / 8192).unwrap();
        if let Some(c) = c {
            let want: Vec<u32> = (first..first + count).filter(|b| c.blocks.contains(*b)).collect();
            assert_eq!(c.blocks.blocks_in(first, count).collect::<Vec<_>>(), want);
        }
    }
    eprintln!(
        "postgresql {major}{}: {changed} pages changed and {same} did not; {taken} were taken; {maps} maps and {caches} caches \
         changed without a reference",
        if crash { " with a crash" } else { "" }
    );
    for (rel, block, old, new) in &missed {
        let bytes: Vec<usize> = (0..old.len()).filter(|i| old.get(*i) != new.get(*i)).collect();
        eprintln!(
            "missed between {from} and {to}, seed {seed}: {rel} block {block}: {} bytes: {:?}",
            bytes.len(),
            bytes.iter().map(|i| (*i, old[*i], new[*i])).take(20).collect::<Vec<_>>()
        );
        eprintln!("old {:02x?}\nnew {:02x?}", &old[..64], &new[..64]);
    }
    if let Some((rel, ..)) = missed.first() {
        server.start();
        panic!(
            "{}",
            server.ask(&format!(
                "select oid::regclass, relpersistence, relkind from pg_class where relfilenode = {}",
                rel.relation
            ))
        );
    }
    assert!(changed > 50 && same > changed, "a test of nothing");
}

#[test]
fn every_page_that_changed_is_taken() {
    on_all(|major, bin, seed| {
        truth(major, bin, seed, false);
        truth(major, bin, seed.wrapping_add(1), true);
    });
}
