//! [`Effect`]: what one record does to the files of a cluster.

use crate::control::WalLevel;
use crate::relation::{Fork, RelFileLocator};
use crate::version::PgMajor;
use crate::wal::{
    RECORD_HEADER, RecordHeader, Rmgr, StorageRecord, WalError, XactKind, XlogRecord, check_crc,
    decode_storage_parts, decode_xlog_parts, dropped_relations, walk_record,
};
use holdfast_core::lsn::Lsn;

use super::Distrust;

/// `XLR_SPECIAL_REL_UPDATE` (src/include/access/xlogrecord.h).
const SPECIAL_REL_UPDATE: u8 = 0x01;

const FORKS: [Fork; 4] = [Fork::Main, Fork::Fsm, Fork::Vm, Fork::Init];

/// One thing that a record does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A block reference, whatever its flags: a change, an image (also one for a hint bit), a page made anew.
    Block {
        /// The relation.
        rel: RelFileLocator,
        /// Its fork.
        fork: Fork,
        /// Block within the fork.
        block: u32,
    },
    /// The fork had only this many blocks for a moment: 0 when it was created or dropped.
    Limit {
        /// The relation.
        rel: RelFileLocator,
        /// Its fork.
        fork: Fork,
        /// Blocks that were left.
        blocks: u32,
    },
    /// Every file of a database in a tablespace was made or removed.
    Database {
        /// `pg_tablespace.oid`
        tablespace: u32,
        /// `pg_database.oid`
        database: u32,
    },
    /// A tablespace was made or removed.
    Tablespace(u32),
    /// The WAL level from here on, as the record says it; a checkpoint says it too from 17 on.
    WalLevel(WalLevel),
    /// Whether the first change of a page after a checkpoint logs all of it.
    FullPageWrites(bool),
    /// The rest of the segment is unused (`XLOG_SWITCH`).
    Switch,
    /// A record that began there was lost in a crash (`XLOG_OVERWRITE_CONTRECORD`).
    Replaces(Lsn),
    /// It may do more than this program can tell.
    Unknown(Distrust),
}

/// Shows `effect` all that a whole record does. `bytes` is the record without page headers or padding; its CRC
/// is checked first. `block_size` is the size of relation pages. After an error, what was shown is worth
/// nothing: the record is damaged, or of a form that the server would refuse.
///
/// Block references are those that `XLogRecGetBlockTagExtended` gives (src/backend/access/transam/xlogreader.c),
/// of all resource managers; the rest follows `SummarizeDbaseRecord`, `SummarizeSmgrRecord`,
/// `SummarizeXactRecord` and `SummarizeXlogRecord` (src/backend/postmaster/walsummarizer.c).
pub fn effects(
    at: Lsn,
    bytes: &[u8],
    major: PgMajor,
    block_size: u32,
    mut effect: impl FnMut(Effect),
) -> Result<(), WalError> {
    let cut = || WalError::Malformed { at, what: "it is cut short" };
    let header = RecordHeader::parse(bytes).filter(|_| bytes.len() >= RECORD_HEADER).ok_or_else(cut)?;
    check_crc(at, bytes, header.crc)?;
    if !header.rmgr.is_valid() {
        return Err(WalError::Rmgr { at, id: header.rmgr.0 });
    }
    let parts = walk_record(at, bytes, block_size, |b| {
        effect(Effect::Block { rel: b.rel, fork: b.fork, block: b.block });
    })?;
    let main = || bytes.len().checked_sub(parts.main_len).and_then(|from| bytes.get(from..)).ok_or_else(cut);
    let bad = WalError::Malformed { at, what: "its data is cut short" };
    match header.rmgr {
        Rmgr::XLOG => of_the_log(header.info, main()?, major, &mut effect).ok_or(bad)?,
        Rmgr::XACT => of_a_transaction(header.info, main()?, &mut effect).ok_or(bad)?,
        Rmgr::SMGR | Rmgr::DBASE | Rmgr::TBLSPC => {
            of_storage(header.rmgr, header.info, main()?, &mut effect).ok_or(bad)?;
        }
        // As `extractPageInfo` (src/bin/pg_rewind/parsexlog.c) does: nobody else may change files like this.
        _ if header.info & SPECIAL_REL_UPDATE != 0 => effect(Effect::Unknown(Distrust::UnknownFileChange)),
        _ => {}
    }
    Ok(())
}

/// `None`: cut short.
fn of_the_log(info: u8, main: &[u8], major: PgMajor, effect: &mut impl FnMut(Effect)) -> Option<()> {
    if info & SPECIAL_REL_UPDATE != 0 {
        effect(Effect::Unknown(Distrust::UnknownFileChange));
    }
    let mut level = |l: Option<WalLevel>| match l {
        Some(l) => effect(Effect::WalLevel(l)),
        None => effect(Effect::Unknown(Distrust::UnknownWalLevel)),
    };
    match decode_xlog_parts(info & 0xF0, main, major)? {
        Some(XlogRecord::Checkpoint { checkpoint, .. }) => {
            if major >= PgMajor::V17 {
                level(checkpoint.wal_level);
            }
            effect(Effect::FullPageWrites(checkpoint.full_page_writes));
        }
        Some(XlogRecord::CheckpointRedo { wal_level }) => level(wal_level),
        Some(XlogRecord::EndOfRecovery { wal_level, .. }) if major >= PgMajor::V17 => level(wal_level),
        Some(XlogRecord::ParameterChange(p)) => level(p.wal_level),
        Some(XlogRecord::FullPageWrites(on)) => effect(Effect::FullPageWrites(on)),
        Some(XlogRecord::Switch) => effect(Effect::Switch),
        Some(XlogRecord::OverwriteContrecord { overwritten, .. }) => effect(Effect::Replaces(overwritten)),
        _ => {}
    }
    Some(())
}

/// The ends of transactions: relations dropped with them. What a PREPARE would drop, its commit names again.
fn of_a_transaction(info: u8, main: &[u8], effect: &mut impl FnMut(Effect)) -> Option<()> {
    match XactKind::from_info(info) {
        Some(XactKind::Prepare) => {}
        Some(_) => {
            for rel in dropped_relations(info, main)? {
                FORKS.into_iter().for_each(|fork| effect(Effect::Limit { rel, fork, blocks: 0 }));
            }
        }
        None if info & SPECIAL_REL_UPDATE != 0 => effect(Effect::Unknown(Distrust::UnknownFileChange)),
        None => {}
    }
    Some(())
}

fn of_storage(rmgr: Rmgr, info: u8, main: &[u8], effect: &mut impl FnMut(Effect)) -> Option<()> {
    match decode_storage_parts(rmgr, info & 0xF0, main)? {
        Some(StorageRecord::CreateFork { rel, fork }) => effect(Effect::Limit { rel, fork, blocks: 0 }),
        Some(StorageRecord::Truncate { rel, blocks, main, vm, fsm }) => {
            if main {
                effect(Effect::Limit { rel, fork: Fork::Main, blocks });
            }
            // `blocks` counts blocks of the main fork; these two are taken whole in any case.
            for fork in [(Fork::Vm, vm), (Fork::Fsm, fsm)].into_iter().filter(|f| f.1).map(|f| f.0) {
                effect(Effect::Limit { rel, fork, blocks: 0 });
            }
        }
        Some(
            StorageRecord::CreateDatabaseCopy { database, tablespace, .. }
            | StorageRecord::CreateDatabaseLogged { database, tablespace },
        ) => effect(Effect::Database { tablespace, database }),
        Some(StorageRecord::DropDatabase { database, tablespaces }) => {
            for tablespace in tablespaces {
                effect(Effect::Database { tablespace, database });
            }
        }
        Some(
            StorageRecord::CreateTablespace { tablespace, .. } | StorageRecord::DropTablespace { tablespace },
        ) => {
            effect(Effect::Tablespace(tablespace));
        }
        // Of another resource manager, which is not asked for here.
        Some(StorageRecord::RelMapUpdate { .. }) => {}
        None => effect(Effect::Unknown(Distrust::UnknownFileChange)),
    }
    Some(())
}
