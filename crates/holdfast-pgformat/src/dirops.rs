//! Records of a segment that act on whole directories: [`DirectoryOps`].
//!
//! Replay of `CREATE DATABASE … STRATEGY FILE_COPY` and `ALTER DATABASE … SET TABLESPACE` copies the
//! directory that the *copy* has; if the source lost it before a backup came by, an empty one replaces
//! what the backup took (`dbase_redo`, src/backend/commands/dbcommands.c). Replay of `CREATE TABLESPACE`
//! links the path of the *source* (`create_tablespace_directories`, src/backend/commands/tablespace.c).
//! Both must be known without reading the WAL again, so 16 bits of every archived segment say it.
//!
//! A record's header may be cut by the end of its segment: 8 or 16 of its 24 bytes lie before it.
//! Neither segment alone knows then what the record is. So the first says how much it had, the second
//! what the record would be in each case, and [`DirectoryOps::of_sequence`] puts the two together.

use crate::bytes::u8_at;
use crate::wal::Rmgr;

/// What one segment says, as 16 bits: docs/FORMAT.md §6.1. 0 = nobody looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DirectoryOps(u16);

const KNOWN: u16 = 1;
const COPY: u16 = 1;
const DROP: u16 = 2;
const TABLESPACE: u16 = 4;
/// Where the three bits stand: for records that start here, and for one that started in the segment
/// before with 8 or with 16 bytes of its header.
const HERE: u32 = 1;
const CUT: u32 = 4;
const AFTER_8: u32 = 6;
const AFTER_16: u32 = 9;

/// What one segment of a sequence holds, once its neighbours are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Nobody looked into it (or into the next one, which has the rest of a header).
    pub unknown: bool,
    /// `XLOG_DBASE_CREATE_FILE_COPY`
    pub copies: bool,
    /// `XLOG_DBASE_DROP`
    pub drops: bool,
    /// `XLOG_TBLSPC_CREATE`
    pub tablespaces: bool,
}

fn of_record(rmgr: Rmgr, info: u8) -> u16 {
    match (rmgr, info & 0xF0) {
        (Rmgr::DBASE, 0x00) => COPY,
        (Rmgr::DBASE, 0x20) => DROP,
        (Rmgr::TBLSPC, 0x00) => TABLESPACE,
        _ => 0,
    }
}

impl DirectoryOps {
    pub fn from_bits(bits: u16) -> Self {
        DirectoryOps(bits)
    }

    pub fn bits(self) -> u16 {
        self.0
    }

    /// For a segment that was looked at; `rest` is what it has of a record that started before it.
    pub(crate) fn begin(rest: &[u8]) -> Self {
        // xl_info and xl_rmid are bytes 16 and 17 of the header.
        let would_be = |at: usize| match (u8_at(rest, at), u8_at(rest, at + 1)) {
            (Some(info), Some(rmgr)) => of_record(Rmgr(rmgr), info),
            _ => 0,
        };
        DirectoryOps(KNOWN | would_be(8) << AFTER_8 | would_be(0) << AFTER_16)
    }

    /// Of two parts of one segment.
    pub(crate) fn join(self, later: Self) -> Self {
        DirectoryOps(self.0 | later.0)
    }

    pub(crate) fn see(&mut self, rmgr: Rmgr, info: u8) {
        self.0 |= of_record(rmgr, info) << HERE;
    }

    /// The last record's header has only `known` bytes here.
    pub(crate) fn cut(&mut self, known: usize) {
        self.0 |= match known {
            8 => 1 << CUT,
            16 => 2 << CUT,
            _ => 0,
        };
    }

    /// What each of consecutive segments holds.
    pub fn of_sequence(segments: &[DirectoryOps]) -> Vec<Held> {
        let after = segments.iter().skip(1).map(|s| s.0).chain(std::iter::once(0));
        segments
            .iter()
            .zip(after)
            .map(|(here, next)| {
                let cut = here.0 >> CUT & 3;
                let rest = match cut {
                    1 => next >> AFTER_8,
                    2 => next >> AFTER_16,
                    _ => 0,
                };
                let ops = (here.0 >> HERE | rest) & 7;
                Held {
                    unknown: here.0 & KNOWN == 0 || cut != 0 && next & KNOWN == 0,
                    copies: ops & COPY != 0,
                    drops: ops & DROP != 0,
                    tablespaces: ops & TABLESPACE != 0,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(rmgr: Rmgr, info: u8) -> [u8; 24] {
        let mut h = [0xEEu8; 24];
        h[16] = info;
        h[17] = rmgr.0;
        h
    }

    #[test]
    fn what_a_segment_holds() {
        let mut s = DirectoryOps::begin(&[]);
        s.see(Rmgr::DBASE, 0x00);
        s.see(Rmgr::XACT, 0x00);
        let mut t = DirectoryOps::begin(&[]);
        t.see(Rmgr::TBLSPC, 0x00);
        t.see(Rmgr::DBASE, 0x21);
        // A record in between that is none of these, and one that only looks so in its data.
        let quiet = DirectoryOps::begin(&[0; 32]);
        let held = DirectoryOps::of_sequence(&[s, quiet, t, DirectoryOps::default()]);
        assert_eq!(held[0], Held { copies: true, ..Held::default() });
        assert_eq!(held[1], Held::default());
        assert_eq!(held[2], Held { drops: true, tablespaces: true, ..Held::default() });
        assert!(held[3].unknown);
    }

    #[test]
    fn a_header_that_is_cut_is_put_together() {
        for known in [8usize, 16] {
            for (rmgr, info) in
                [(Rmgr::DBASE, 0x00), (Rmgr::DBASE, 0x20), (Rmgr::TBLSPC, 0x00), (Rmgr::XACT, 0)]
            {
                let h = header(rmgr, info);
                let mut first = DirectoryOps::begin(&[]);
                first.cut(known);
                let second = DirectoryOps::begin(&h[known..]);
                let held = DirectoryOps::of_sequence(&[first, second]);
                let ops = of_record(rmgr, info);
                assert_eq!(
                    (held[0].copies, held[0].drops, held[0].tablespaces),
                    (ops & COPY != 0, ops & DROP != 0, ops & TABLESPACE != 0),
                    "{known} {rmgr:?} {info}"
                );
                assert_eq!(held[1], Held::default(), "it started in the one before");
                // The next one is not there: nobody can say.
                assert!(DirectoryOps::of_sequence(&[first])[0].unknown);
            }
        }
    }
}
