//! Ends of transactions: [`XactRecord`].
//!
//! `ParseCommitRecord` and its siblings (src/backend/access/rmgrdesc/xactdesc.c),
//! src/include/access/xact.h; the item of dropped statistics has 12 bytes up to 17 and 16 in 18.

use super::{Record, Rmgr, WalError};
use crate::bytes::Cursor;
use crate::relation::RelFileLocator;
use crate::time::PgTimestamp;
use crate::version::PgMajor;
use holdfast_core::lsn::Lsn;

const HAS_INFO: u8 = 0x80;
const OP_MASK: u8 = 0x70;

const HAS_DBINFO: u32 = 1 << 0;
const HAS_SUBXACTS: u32 = 1 << 1;
const HAS_RELATIONS: u32 = 1 << 2;
const HAS_INVALS: u32 = 1 << 3;
const HAS_TWOPHASE: u32 = 1 << 4;
const HAS_ORIGIN: u32 = 1 << 5;
const HAS_GID: u32 = 1 << 7;
const HAS_DROPPED_STATS: u32 = 1 << 8;
/// `sizeof(SharedInvalidationMessage)` (src/include/storage/sinval.h).
const INVAL_SIZE: usize = 16;

/// What happened to the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum XactKind {
    Commit,
    Abort,
    Prepare,
    CommitPrepared,
    AbortPrepared,
}

impl XactKind {
    /// The kind of a record of the transaction manager with this `xl_info`, if it ends or prepares
    /// a transaction.
    pub fn from_info(info: u8) -> Option<Self> {
        match info & OP_MASK {
            0x00 => Some(XactKind::Commit),
            0x10 => Some(XactKind::Prepare),
            0x20 => Some(XactKind::Abort),
            0x30 => Some(XactKind::CommitPrepared),
            0x40 => Some(XactKind::AbortPrepared),
            _ => None,
        }
    }

    pub fn is_commit(self) -> bool {
        matches!(self, XactKind::Commit | XactKind::CommitPrepared)
    }
}

/// A commit, abort or prepare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XactRecord {
    pub kind: XactKind,
    /// The transaction, also when another session finished it (two-phase).
    pub xid: u32,
    /// Of the commit or abort (`recovery_target_time` compares it), or of the preparation.
    pub time: PgTimestamp,
    /// Zero when not recorded.
    pub database: u32,
    pub subxacts: Vec<u32>,
    /// Relations whose files are deleted with this record. Not for [`XactKind::Prepare`].
    pub dropped: Vec<RelFileLocator>,
    pub gid: Option<String>,
    pub origin: Option<(Lsn, PgTimestamp)>,
}

impl XactRecord {
    /// `None` for records of another kind.
    pub fn decode(r: &Record, major: PgMajor) -> Result<Option<Self>, WalError> {
        if r.rmgr != Rmgr::XACT {
            return Ok(None);
        }
        let Some(kind) = XactKind::from_info(r.info) else { return Ok(None) };
        let mut c = Cursor::new(r.main_data(), 0);
        let parsed = match kind {
            XactKind::Prepare => prepare(&mut c),
            _ => finish(kind, r, &mut c, major),
        };
        let what = "the data of a commit, abort or prepare record is cut short";
        parsed.map(Some).ok_or(WalError::Malformed { at: r.lsn, what })
    }
}

fn finish(kind: XactKind, r: &Record, c: &mut Cursor<'_>, major: PgMajor) -> Option<XactRecord> {
    let mut x = XactRecord {
        kind,
        xid: r.xid,
        time: PgTimestamp(c.i64()?),
        database: 0,
        subxacts: Vec::new(),
        dropped: Vec::new(),
        gid: None,
        origin: None,
    };
    let xinfo = if r.info & HAS_INFO != 0 { c.u32()? } else { 0 };
    if xinfo & HAS_DBINFO != 0 {
        x.database = c.u32()?;
        c.u32()?;
    }
    if xinfo & HAS_SUBXACTS != 0 {
        x.subxacts = words(array(c, 4)?);
    }
    if xinfo & HAS_RELATIONS != 0 {
        x.dropped = array(c, 12)?.as_chunks::<12>().0.iter().filter_map(|b| locator(b)).collect();
    }
    if xinfo & HAS_DROPPED_STATS != 0 {
        array(c, if major >= PgMajor::V18 { 16 } else { 12 })?;
    }
    // An abort has no invalidations, and its parser does not ask for any.
    if xinfo & HAS_INVALS != 0 && kind.is_commit() {
        array(c, INVAL_SIZE)?;
    }
    if xinfo & HAS_TWOPHASE != 0 {
        x.xid = c.u32()?;
        if xinfo & HAS_GID != 0 {
            let end = c.rest().iter().position(|b| *b == 0)?;
            x.gid = Some(text(c.take(end)?));
            c.u8()?;
        }
    }
    if xinfo & HAS_ORIGIN != 0 {
        x.origin = Some((Lsn(c.u64()?), PgTimestamp(c.i64()?)));
    }
    Some(x)
}

/// The relations whose files the end of a transaction deletes, from the main data of its record: what
/// comes before them in `ParseCommitRecord` and `ParseAbortRecord` is skipped, what comes after is not
/// looked at. `None` when it is cut short.
pub(crate) fn dropped_relations(info: u8, main: &[u8]) -> Option<impl Iterator<Item = RelFileLocator>> {
    let mut c = Cursor::new(main, 0);
    c.take(8)?; // xact_time
    let xinfo = if info & HAS_INFO != 0 { c.u32()? } else { 0 };
    let mut list: &[u8] = &[];
    if xinfo & HAS_RELATIONS != 0 {
        if xinfo & HAS_DBINFO != 0 {
            c.take(8)?;
        }
        if xinfo & HAS_SUBXACTS != 0 {
            array(&mut c, 4)?;
        }
        list = array(&mut c, 12)?;
    }
    Some(list.as_chunks::<12>().0.iter().filter_map(|b| locator(b)))
}

/// `xl_xact_prepare`; the two-phase state file that follows the name is not taken apart but for the
/// subtransactions.
fn prepare(c: &mut Cursor<'_>) -> Option<XactRecord> {
    c.take(8)?; // magic, total_len
    let xid = c.u32()?;
    let database = c.u32()?;
    let time = PgTimestamp(c.i64()?);
    c.u32()?; // owner
    let subxacts = usize::try_from(c.i32()?).ok()?;
    c.take(5 * 4)?; // relations and statistics to drop, invalidations
    c.take(2)?; // initfileinval, padding
    let gid_len = usize::from(c.u16()?);
    let origin_lsn = Lsn(c.u64()?);
    let origin_time = PgTimestamp(c.i64()?);
    let gid = c.take(gid_len)?;
    // Each part of the state file starts on eight bytes (`save_state_data`, twophase.c).
    c.take((c.at().wrapping_neg()) % 8)?;
    Some(XactRecord {
        kind: XactKind::Prepare,
        xid,
        time,
        database,
        subxacts: words(c.take(subxacts.checked_mul(4)?)?),
        dropped: Vec::new(),
        gid: Some(text(gid.split(|b| *b == 0).next()?)),
        origin: origin_lsn.is_valid().then_some((origin_lsn, origin_time)),
    })
}

/// A count and as many items.
fn array<'a>(c: &mut Cursor<'a>, item: usize) -> Option<&'a [u8]> {
    let n = usize::try_from(c.i32()?).ok()?;
    c.take(n.checked_mul(item)?)
}

fn words(b: &[u8]) -> Vec<u32> {
    b.as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w)).collect()
}

fn text(b: &[u8]) -> String {
    String::from_utf8_lossy(b).into_owned()
}

pub(super) fn locator(b: &[u8]) -> Option<RelFileLocator> {
    let mut c = Cursor::new(b, 0);
    Some(RelFileLocator { tablespace: c.u32()?, database: c.u32()?, relation: c.u32()? })
}
