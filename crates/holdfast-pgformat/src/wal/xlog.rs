//! Records of the log about itself: [`XlogRecord`].
//!
//! src/include/catalog/pg_control.h (kinds), src/include/access/xlog_internal.h (structs).

use super::{Record, Rmgr, WalError};
use crate::bytes::{Cursor, i32_at, u64_at};
use crate::control::{CheckPoint, WalLevel};
use crate::time::PgTimestamp;
use crate::version::PgMajor;
use holdfast_core::lsn::{Lsn, TimelineId};

/// `MAXFNAMELEN`: the room for a restore point's name.
const NAME_LEN: usize = 64;

/// `xl_parameter_change`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterChange {
    pub max_connections: i32,
    pub max_worker_processes: i32,
    pub max_wal_senders: i32,
    pub max_prepared_xacts: i32,
    pub max_locks_per_xact: i32,
    /// `None`: a level this program does not know.
    pub wal_level: Option<WalLevel>,
    pub wal_log_hints: bool,
    pub track_commit_timestamp: bool,
}

/// What a record of resource manager XLOG says, of those that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum XlogRecord {
    Checkpoint {
        shutdown: bool,
        checkpoint: CheckPoint,
    },
    /// 17 and later: where replay of an online checkpoint starts.
    CheckpointRedo {
        wal_level: Option<WalLevel>,
    },
    Switch,
    /// The end of a backup that started at this position.
    BackupEnd {
        start: Lsn,
    },
    ParameterChange(ParameterChange),
    RestorePoint {
        name: String,
        time: PgTimestamp,
    },
    FullPageWrites(bool),
    EndOfRecovery {
        time: PgTimestamp,
        timeline: TimelineId,
        previous_timeline: TimelineId,
        /// 17 and later.
        wal_level: Option<WalLevel>,
    },
    /// A record was lost in a crash and is to be forgotten.
    OverwriteContrecord {
        overwritten: Lsn,
        time: PgTimestamp,
    },
}

impl XlogRecord {
    /// `None` for records of another kind.
    pub fn decode(r: &Record, major: PgMajor) -> Result<Option<Self>, WalError> {
        if r.rmgr != Rmgr::XLOG {
            return Ok(None);
        }
        decode_parts(r.kind(), r.main_data(), major)
            .ok_or(WalError::Malformed { at: r.lsn, what: "the data of a log record is cut short" })
    }
}

/// `None`: cut short. `Some(None)`: a kind that does not matter here.
pub(crate) fn decode_parts(kind: u8, data: &[u8], major: PgMajor) -> Option<Option<XlogRecord>> {
    let has_level = major >= PgMajor::V17;
    let mut c = Cursor::new(data, 0);
    Some(Some(match kind {
        0x00 | 0x10 => {
            XlogRecord::Checkpoint { shutdown: kind == 0x00, checkpoint: CheckPoint::parse(data, has_level)? }
        }
        0x40 => XlogRecord::Switch,
        0x50 => XlogRecord::BackupEnd { start: Lsn(u64_at(data, 0)?) },
        0x60 => XlogRecord::ParameterChange(ParameterChange {
            max_connections: c.i32()?,
            max_worker_processes: c.i32()?,
            max_wal_senders: c.i32()?,
            max_prepared_xacts: c.i32()?,
            max_locks_per_xact: c.i32()?,
            wal_level: WalLevel::from_number(c.i32()?),
            wal_log_hints: c.u8()? != 0,
            track_commit_timestamp: c.u8()? != 0,
        }),
        0x70 => {
            let time = PgTimestamp(c.i64()?);
            let name = c.take(NAME_LEN)?.split(|b| *b == 0).next()?;
            XlogRecord::RestorePoint { name: String::from_utf8_lossy(name).into_owned(), time }
        }
        0x80 => XlogRecord::FullPageWrites(c.u8()? != 0),
        0x90 => XlogRecord::EndOfRecovery {
            time: PgTimestamp(c.i64()?),
            timeline: TimelineId(c.u32()?),
            previous_timeline: TimelineId(c.u32()?),
            wal_level: has_level.then(|| i32_at(data, 16).and_then(WalLevel::from_number)).flatten(),
        },
        0xD0 => XlogRecord::OverwriteContrecord { overwritten: Lsn(c.u64()?), time: PgTimestamp(c.i64()?) },
        0xE0 if has_level => XlogRecord::CheckpointRedo { wal_level: WalLevel::from_number(c.i32()?) },
        _ => return Some(None),
    }))
}
