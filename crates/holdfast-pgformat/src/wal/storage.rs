//! Records that make, cut or remove whole files: [`StorageRecord`].
//!
//! src/include/catalog/storage_xlog.h, src/include/commands/dbcommands_xlog.h,
//! src/include/utils/relmapper.h, src/include/commands/tablespace.h. Relations dropped at the end of
//! a transaction are in [`super::XactRecord`].

use super::xact::locator;
use super::{Record, Rmgr, WalError};
use crate::bytes::Cursor;
use crate::relation::{Fork, RelFileLocator};

/// A change of files that block references do not show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageRecord {
    /// `XLOG_SMGR_CREATE`
    CreateFork { rel: RelFileLocator, fork: Fork },
    /// `XLOG_SMGR_TRUNCATE`: the main fork is cut to `blocks`, when `main` says so; the others to
    /// what belongs to that length.
    Truncate { rel: RelFileLocator, blocks: u32, main: bool, vm: bool, fsm: bool },
    /// `XLOG_DBASE_CREATE_FILE_COPY`
    CreateDatabaseCopy { database: u32, tablespace: u32, source_database: u32, source_tablespace: u32 },
    /// `XLOG_DBASE_CREATE_WAL_LOG`: its blocks follow as records.
    CreateDatabaseLogged { database: u32, tablespace: u32 },
    /// `XLOG_DBASE_DROP`
    DropDatabase { database: u32, tablespaces: Vec<u32> },
    /// `XLOG_RELMAP_UPDATE`; database 0 for the shared map.
    RelMapUpdate { database: u32, tablespace: u32 },
    /// `XLOG_TBLSPC_CREATE`
    CreateTablespace { tablespace: u32, path: String },
    /// `XLOG_TBLSPC_DROP`
    DropTablespace { tablespace: u32 },
}

impl StorageRecord {
    /// `None` for records of another kind.
    pub fn decode(r: &Record) -> Result<Option<Self>, WalError> {
        decode_parts(r.rmgr, r.kind(), r.main_data())
            .ok_or(WalError::Malformed { at: r.lsn, what: "the data of a storage record is cut short" })
    }
}

/// `None`: cut short. `Some(None)`: a record of another kind.
pub(crate) fn decode_parts(rmgr: Rmgr, kind: u8, data: &[u8]) -> Option<Option<StorageRecord>> {
    let mut c = Cursor::new(data, 0);
    Some(Some(match (rmgr, kind) {
        (Rmgr::SMGR, 0x10) => {
            StorageRecord::CreateFork { rel: locator(c.take(12)?)?, fork: Fork::from_number(c.u32()?)? }
        }
        (Rmgr::SMGR, 0x20) => {
            let blocks = c.u32()?;
            let rel = locator(c.take(12)?)?;
            let flags = c.u32()?;
            StorageRecord::Truncate {
                rel,
                blocks,
                main: flags & 1 != 0,
                vm: flags & 2 != 0,
                fsm: flags & 4 != 0,
            }
        }
        (Rmgr::DBASE, 0x00) => StorageRecord::CreateDatabaseCopy {
            database: c.u32()?,
            tablespace: c.u32()?,
            source_database: c.u32()?,
            source_tablespace: c.u32()?,
        },
        (Rmgr::DBASE, 0x10) => {
            StorageRecord::CreateDatabaseLogged { database: c.u32()?, tablespace: c.u32()? }
        }
        (Rmgr::DBASE, 0x20) => {
            let database = c.u32()?;
            let n = usize::try_from(c.i32()?).ok()?;
            let list = c.take(n.checked_mul(4)?)?.as_chunks::<4>().0;
            StorageRecord::DropDatabase {
                database,
                tablespaces: list.iter().map(|w| u32::from_le_bytes(*w)).collect(),
            }
        }
        (Rmgr::RELMAP, 0x00) => StorageRecord::RelMapUpdate { database: c.u32()?, tablespace: c.u32()? },
        (Rmgr::TBLSPC, 0x00) => {
            let tablespace = c.u32()?;
            let path = c.rest().split(|b| *b == 0).next()?;
            StorageRecord::CreateTablespace { tablespace, path: String::from_utf8_lossy(path).into_owned() }
        }
        (Rmgr::TBLSPC, 0x10) => StorageRecord::DropTablespace { tablespace: c.u32()? },
        _ => return Some(None),
    }))
}
