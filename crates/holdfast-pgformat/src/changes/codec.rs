//! The bytes of a [`SegmentChanges`], as they are stored beside the segment.
//!
//! # Layout
//!
//! Numbers are little-endian. `v` is a number of up to 64 bits in groups of seven, the lowest first, the
//! highest bit of a byte telling that another one follows; no group of zeroes at the end.
//!
//! | field | form | |
//! |---|---|---|
//! | magic | `HFCM` | |
//! | version | u16 | [`CHANGES_VERSION`](super::CHANGES_VERSION) of the decoder that looked into the segment |
//! | page magic | u16 | `xlp_magic`: the server's major version |
//! | system id | u64 | |
//! | segment size | u8 | its binary logarithm, 20 to 30 |
//! | flags | u8 | 1: minimal WAL; 2: full_page_writes off; 4: untrusted; 8: head is the rest of a record; 16: which goes on; 32: head replaces a lost record; 64: tail |
//! | block size | v | of relation pages |
//! | start | v | in units of 8 bytes, as all positions and distances of this format but lengths |
//! | end | v | distance from the start; less than the segment size + 1 |
//! | timelines | v v | of the last page; how much less that of the first page is |
//! | untrusted | u8 v | if flagged: reason (1 bad CRC, 2 malformed record, 3 unknown resource manager, 4 unknown change of files, 5 unknown WAL level, 6 broken chain, 7 hole, 8 too many), and the distance from the start. Nothing follows. |
//! | links | v v | distance back from the start to the record before the first whole one; from the end to the last whole one; 0: there is none |
//! | head | | 8: v length, and as many bytes unless it is more than 1 MiB; 32: v distance back from the start to the lost record |
//! | tail | | 64: v distance from the end back to its start, v length, bytes as of the head |
//! | tablespaces | v, v… | count; each as the difference to the one before, less one except for the first |
//! | databases | v, (v v)… | count; tablespace as the difference to the one before; database, the same if the tablespace is, as the difference to the one before less one, or as it is |
//! | forks | v, … | count; then each as below, by tablespace, database, relation and fork |
//!
//! A fork of a relation:
//!
//! | field | form | |
//! |---|---|---|
//! | what | u8 | 1 + 2: fork (0 main, 1 fsm, 2 vm, 3 init); 4: there is a limit; 8: there are blocks; 16: database and tablespace are those of the fork before; 32: relation too (only with 16) |
//! | tablespace, database | v v | unless 16 |
//! | relation | v | unless 32; with 16 as the difference to the one before, less one |
//! | limit | v | with 4 |
//! | runs | v, … | with 8: count; each: v = 2 × blocks between the end of the run before and this one, less one except for the first, + 1 if it has more than one block; then, if so, v = its blocks less two |
//!
//! Everything has one form only, and bytes of another form are refused, as are more blocks than a log of that
//! length can name (a block reference takes 8 bytes). So decoded bytes, encoded again, are the same bytes.

use super::segment::{Head, Piece, Tail};
use super::{BlockSet, CHANGES_VERSION, ChangeSet, Distrust, RelChanges, SegmentChanges, Untrusted};
use crate::bytes::Cursor;
use crate::relation::{Fork, RelFileLocator};
use crate::version::{PgMajor, VersionError};
use holdfast_core::lsn::{Lsn, SegmentSize, TimelineId};

const MAGIC: &[u8; 4] = b"HFCM";

/// The longest piece of a record that is kept; a longer one makes a hole.
pub const MAX_FRAGMENT: usize = 1 << 20;

/// The most bytes that [`SegmentChanges::encode`] gives.
pub const MAX_ENCODED: usize = 16 << 20;

const MINIMAL: u8 = 1;
const FPW_OFF: u8 = 2;
const UNTRUSTED: u8 = 4;
const HEAD_REST: u8 = 8;
const HEAD_THROUGH: u8 = 16;
const HEAD_REPLACES: u8 = 32;
const TAIL: u8 = 64;

const FORK: u8 = 3;
const HAS_LIMIT: u8 = 4;
const HAS_BLOCKS: u8 = 8;
const SAME_DATABASE: u8 = 16;
const SAME_RELATION: u8 = 32;

/// Why bytes are not changes of a segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangesError {
    /// Something else.
    #[error("these are not the changes of a wal segment")]
    Magic,
    /// Of another version of the decoder.
    #[error("the changes of a wal segment have version {0}; this program knows {CHANGES_VERSION}")]
    Version(u16),
    /// Of a server that we do not know.
    #[error("the changes of a wal segment are of an unknown server version")]
    Server(#[source] VersionError),
    /// Cut short, too long, or not as they are written.
    #[error("the changes of a wal segment are malformed: {0}")]
    Malformed(&'static str),
}

impl SegmentChanges {
    /// The bytes to store: at most [`MAX_ENCODED`], and the same for the same changes. The layout is told in
    /// the source of this module (changes/codec.rs). Of an untrusted segment only what it is and why is kept.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.encode_with(self.untrusted);
        if out.len() > MAX_ENCODED {
            out = self.encode_with(Some(Untrusted { at: self.start, why: Distrust::TooMany }));
        }
        out
    }

    fn encode_with(&self, untrusted: Option<Untrusted>) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&CHANGES_VERSION.to_le_bytes());
        out.extend_from_slice(&self.major.wal_magic().to_le_bytes());
        out.extend_from_slice(&self.system_id.to_le_bytes());
        out.push(self.segment_size.bytes().ilog2() as u8);
        let mut flags = 0;
        let mut flag = |bit: u8, on: bool| flags |= if on { bit } else { 0 };
        flag(MINIMAL, self.minimal_wal);
        flag(FPW_OFF, self.full_page_writes_off);
        flag(UNTRUSTED, untrusted.is_some());
        if untrusted.is_none() {
            flag(HEAD_REST, matches!(self.head, Head::Rest { .. }));
            flag(HEAD_THROUGH, matches!(self.head, Head::Rest { through: true, .. }));
            flag(HEAD_REPLACES, matches!(self.head, Head::Replaces(_)));
            flag(TAIL, self.tail.is_some());
        }
        out.push(flags);
        put(&mut out, u64::from(self.block_size));
        put(&mut out, self.start.0 / 8);
        put(&mut out, self.end.bytes_since(self.start) / 8);
        put(&mut out, u64::from(self.timeline.0));
        put(&mut out, u64::from(self.timeline.0.saturating_sub(self.first_timeline.0)));
        if let Some(u) = untrusted {
            out.push(u.why.code());
            put(&mut out, u.at.bytes_since(self.start) / 8);
            return out;
        }
        put(&mut out, self.first_prev.map_or(0, |l| self.start.bytes_since(l) / 8));
        put(&mut out, self.last_record.map_or(0, |l| self.end.bytes_since(l) / 8));
        match &self.head {
            Head::Record => {}
            Head::Rest { piece, .. } => put_piece(&mut out, piece),
            Head::Replaces(lost) => put(&mut out, self.start.bytes_since(*lost) / 8),
        }
        if let Some(t) = &self.tail {
            put(&mut out, self.end.bytes_since(t.at) / 8);
            put_piece(&mut out, &t.piece);
        }
        put_set(&mut out, &self.set);
        out
    }
}

fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn put_piece(out: &mut Vec<u8>, piece: &Piece) {
    put(out, piece.len());
    if let Piece::Bytes(b) = piece
        && b.len() <= MAX_FRAGMENT
    {
        out.extend_from_slice(b);
    }
}

fn put_set(out: &mut Vec<u8>, set: &ChangeSet) {
    put(out, set.tablespaces.len() as u64);
    let mut before = None;
    for t in &set.tablespaces {
        put(out, after(before, *t));
        before = Some(*t);
    }
    put(out, set.databases.len() as u64);
    let mut before = (0, None);
    for (tablespace, database) in &set.databases {
        put(out, u64::from(tablespace - before.0));
        put(out, after(before.1.filter(|_| *tablespace == before.0), *database));
        before = (*tablespace, Some(*database));
    }
    put(out, set.relations.len() as u64);
    let mut before: Option<RelFileLocator> = None;
    for ((rel, fork), c) in &set.relations {
        let near = before.filter(|b| (b.tablespace, b.database) == (rel.tablespace, rel.database));
        let same = near.filter(|b| b.relation == rel.relation);
        let mut what = *fork as u8 & FORK;
        what |= if c.limit.is_some() { HAS_LIMIT } else { 0 };
        what |= if c.blocks.is_empty() { 0 } else { HAS_BLOCKS };
        what |= if near.is_some() { SAME_DATABASE } else { 0 };
        what |= if same.is_some() { SAME_RELATION } else { 0 };
        out.push(what);
        if near.is_none() {
            put(out, u64::from(rel.tablespace));
            put(out, u64::from(rel.database));
        }
        if same.is_none() {
            put(out, after(near.map(|b| b.relation), rel.relation));
        }
        if let Some(limit) = c.limit {
            put(out, u64::from(limit));
        }
        if !c.blocks.is_empty() {
            put_runs(out, &c.blocks);
        }
        before = Some(*rel);
    }
}

/// How far `n` is behind the one before, less one; itself when there is none.
fn after(before: Option<u32>, n: u32) -> u64 {
    before.map_or(u64::from(n), |b| u64::from(n).saturating_sub(u64::from(b) + 1))
}

fn put_runs(out: &mut Vec<u8>, blocks: &BlockSet) {
    put(out, blocks.runs().count() as u64);
    let mut before = None;
    for (first, last) in blocks.runs() {
        let gap = match before {
            // There is at least one block between two runs.
            Some(b) => after(Some(b), first) - 1,
            None => u64::from(first),
        };
        let len = u64::from(last - first) + 1;
        put(out, gap << 1 | u64::from(len > 1));
        if len > 1 {
            put(out, len - 2);
        }
        before = Some(last);
    }
}

impl SegmentChanges {
    /// Takes stored bytes apart. It never takes more memory than a few times what the bytes take.
    pub fn decode(bytes: &[u8]) -> Result<Self, ChangesError> {
        if bytes.len() > MAX_ENCODED {
            return Err(ChangesError::Malformed("they are too long"));
        }
        let mut r = Reader(Cursor::new(bytes, 0));
        if r.take(4)? != MAGIC {
            return Err(ChangesError::Magic);
        }
        match r.u16()? {
            CHANGES_VERSION => {}
            other => return Err(ChangesError::Version(other)),
        }
        let major = PgMajor::from_wal_magic(r.u16()?).map_err(ChangesError::Server)?;
        let system_id = r.0.u64().ok_or(CUT)?;
        let log2 = r.u8()?;
        let segment_size = 1u64.checked_shl(u32::from(log2)).and_then(|n| SegmentSize::try_from(n).ok());
        let segment_size = segment_size.ok_or(ChangesError::Malformed("the segment size is impossible"))?;
        let flags = r.u8()?;
        let block_size = r.v32()?;
        let start = Lsn(r.v()?.checked_mul(8).ok_or(BIG)?);
        let len = r.v()?.checked_mul(8).filter(|n| *n <= segment_size.bytes()).ok_or(BIG)?;
        let end = Lsn(start.0.checked_add(len).ok_or(BIG)?);
        let timeline = TimelineId(r.v32()?);
        let first_timeline = TimelineId(timeline.0.checked_sub(r.v32()?).ok_or(BIG)?);
        let mut c = SegmentChanges {
            major,
            system_id,
            segment_size,
            block_size,
            first_timeline,
            timeline,
            start,
            end,
            minimal_wal: flags & MINIMAL != 0,
            full_page_writes_off: flags & FPW_OFF != 0,
            untrusted: None,
            set: ChangeSet::new(),
            head: Head::Record,
            tail: None,
            first_prev: None,
            last_record: None,
        };
        let head = flags & (HEAD_REST | HEAD_THROUGH | HEAD_REPLACES);
        if flags & UNTRUSTED != 0 {
            if flags & !(MINIMAL | FPW_OFF | UNTRUSTED) != 0 {
                return Err(ChangesError::Malformed("an untrusted segment has more to say"));
            }
            let why = r.u8().map(Distrust::from_code)?;
            let why = why.ok_or(ChangesError::Malformed("the reason for distrust is unknown"))?;
            let at = r.v()?.checked_mul(8).and_then(|n| start.0.checked_add(n)).ok_or(BIG)?;
            c.untrusted = Some(Untrusted { at: Lsn(at), why });
            return r.end(c);
        }
        let back =
            |from: Lsn, by: u64| by.checked_mul(8).and_then(|n| from.0.checked_sub(n)).map(Lsn).ok_or(BIG);
        c.first_prev = Some(r.v()?).filter(|n| *n > 0).map(|n| back(start, n)).transpose()?;
        c.last_record = Some(r.v()?).filter(|n| *n > 0).map(|n| back(end, n)).transpose()?;
        c.head = match head {
            0 => Head::Record,
            HEAD_REPLACES => Head::Replaces(back(start, r.v()?)?),
            HEAD_REST => Head::Rest { piece: r.piece()?, through: false },
            n if n == HEAD_REST | HEAD_THROUGH => Head::Rest { piece: r.piece()?, through: true },
            _ => return Err(ChangesError::Malformed("the head is two things")),
        };
        if flags & TAIL != 0 {
            let at = back(end, r.v()?)?;
            c.tail = Some(Tail { at, piece: r.piece()? });
        }
        if flags & 0x80 != 0 {
            return Err(ChangesError::Malformed("there are unknown flags"));
        }
        // What a log of this length can name: 8 bytes for a block, 12 for the four forks of a relation.
        r.set(&mut c.set, len / 8, len / 2)?;
        r.end(c)
    }
}

const CUT: ChangesError = ChangesError::Malformed("they are cut short");
const BIG: ChangesError = ChangesError::Malformed("a number is too large");

struct Reader<'a>(Cursor<'a>);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], ChangesError> {
        self.0.take(n).ok_or(CUT)
    }

    fn u8(&mut self) -> Result<u8, ChangesError> {
        self.0.u8().ok_or(CUT)
    }

    fn u16(&mut self) -> Result<u16, ChangesError> {
        self.0.u16().ok_or(CUT)
    }

    fn v(&mut self) -> Result<u64, ChangesError> {
        let (mut n, mut shift) = (0u64, 0u32);
        loop {
            let b = self.u8()?;
            let group = u64::from(b & 0x7F);
            if shift > 63 || group << shift >> shift != group {
                return Err(BIG);
            }
            n |= group << shift;
            if b & 0x80 == 0 {
                return match b {
                    0 if shift > 0 => Err(ChangesError::Malformed("a number is longer than it has to be")),
                    _ => Ok(n),
                };
            }
            shift += 7;
        }
    }

    fn v32(&mut self) -> Result<u32, ChangesError> {
        u32::try_from(self.v()?).map_err(|_| BIG)
    }

    /// The number behind `before` by one more than what is read, or what is read.
    fn next(&mut self, before: Option<u32>) -> Result<u32, ChangesError> {
        let n = self.v()?;
        let base = before.map_or(0, |b| u64::from(b) + 1);
        base.checked_add(n).and_then(|n| u32::try_from(n).ok()).ok_or(BIG)
    }

    fn piece(&mut self) -> Result<Piece, ChangesError> {
        let n = self.v()?;
        match usize::try_from(n) {
            Ok(n) if n <= MAX_FRAGMENT => Ok(Piece::Bytes(self.take(n)?.to_vec())),
            _ => Ok(Piece::Dropped(n)),
        }
    }

    fn set(&mut self, set: &mut ChangeSet, max_blocks: u64, max_forks: u64) -> Result<(), ChangesError> {
        let mut before = None;
        for _ in 0..self.v()? {
            let t = self.next(before)?;
            set.tablespaces.insert(t);
            before = Some(t);
        }
        let mut before: (u32, Option<u32>) = (0, None);
        for _ in 0..self.v()? {
            let step = self.v32()?;
            let tablespace = before.0.checked_add(step).ok_or(BIG)?;
            let database = self.next(before.1.filter(|_| step == 0))?;
            set.databases.insert((tablespace, database));
            before = (tablespace, Some(database));
        }
        let forks = self.v()?;
        if forks > max_forks {
            return Err(ChangesError::Malformed("there are too many relations"));
        }
        let mut blocks = 0;
        let mut before: Option<(RelFileLocator, Fork)> = None;
        for _ in 0..forks {
            let what = self.u8()?;
            let key = self.fork(what, before)?;
            if before.is_some_and(|b| key <= b) || what & (HAS_LIMIT | HAS_BLOCKS) == 0 {
                return Err(ChangesError::Malformed("a relation is out of order"));
            }
            let mut c = RelChanges::default();
            if what & HAS_LIMIT != 0 {
                c.limit = Some(self.v32()?);
            }
            if what & HAS_BLOCKS != 0 {
                self.runs(&mut c.blocks, &mut blocks, max_blocks)?;
            }
            set.relations.insert(key, c);
            before = Some(key);
        }
        Ok(())
    }

    fn fork(
        &mut self,
        what: u8,
        before: Option<(RelFileLocator, Fork)>,
    ) -> Result<(RelFileLocator, Fork), ChangesError> {
        let bad = || ChangesError::Malformed("a relation is not as it is written");
        let fork = Fork::from_number(u32::from(what & FORK)).ok_or_else(bad)?;
        let near = before.map(|b| b.0).filter(|_| what & SAME_DATABASE != 0);
        let (tablespace, database) = match near {
            Some(b) => (b.tablespace, b.database),
            None => (self.v32()?, self.v32()?),
        };
        let relation = match near {
            Some(b) if what & SAME_RELATION != 0 => b.relation,
            _ => self.next(near.map(|b| b.relation))?,
        };
        let rel = RelFileLocator { tablespace, database, relation };
        let same_database = before.is_some_and(|(b, _)| (b.tablespace, b.database) == (tablespace, database));
        let same = before.is_some_and(|(b, _)| b == rel);
        // The flags say what is so, and no others are there.
        let flags = if same_database { SAME_DATABASE } else { 0 } | if same { SAME_RELATION } else { 0 };
        if what & !(FORK | HAS_LIMIT | HAS_BLOCKS) != flags {
            return Err(bad());
        }
        Ok((rel, fork))
    }

    fn runs(&mut self, to: &mut BlockSet, blocks: &mut u64, max: u64) -> Result<(), ChangesError> {
        let runs = self.v()?;
        if runs == 0 {
            return Err(ChangesError::Malformed("a relation has no blocks"));
        }
        let mut before: Option<u32> = None;
        for _ in 0..runs {
            let v = self.v()?;
            let base = before.map_or(0, |b| u64::from(b) + 2);
            let first = base.checked_add(v >> 1).and_then(|n| u32::try_from(n).ok()).ok_or(BIG)?;
            let more = if v & 1 == 1 { self.v()?.checked_add(1).ok_or(BIG)? } else { 0 };
            let last = u64::from(first).checked_add(more).and_then(|n| u32::try_from(n).ok()).ok_or(BIG)?;
            *blocks += more + 1;
            if *blocks > max {
                return Err(ChangesError::Malformed("there are too many blocks"));
            }
            to.insert_run(first, last);
            before = Some(last);
        }
        Ok(())
    }

    /// Nothing may follow.
    fn end<T>(&self, value: T) -> Result<T, ChangesError> {
        if self.0.left() == 0 { Ok(value) } else { Err(ChangesError::Malformed("something follows them")) }
    }
}
