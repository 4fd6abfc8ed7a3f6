//! `global/pg_control`: [`ControlFile`].
//!
//! `ControlFileData` and `CheckPoint` of src/include/catalog/pg_control.h. Versions 1300 (15, 16),
//! 1700 and 1800 place every field we read at the same offset: 17 put `wal_level` into what had been
//! padding of `CheckPoint`, 18 put `default_char_signedness` before the nonce and so moved the CRC.
//!
//! The server writes this file in place, without a lock against readers. A copy whose CRC is wrong
//! is usually a torn read: read again (trap 17).

use crate::bytes::{Cursor, i32_at, i64_at, u8_at, u32_at, u64_at};
use crate::crc32c::crc32c;
use crate::version::PgMajor;
use holdfast_core::lsn::{Lsn, LsnError, SegmentSize, TimelineId};
use serde::{Deserialize, Serialize};

/// `PG_CONTROL_FILE_SIZE`: the file is padded with zeroes to this.
pub const CONTROL_FILE_SIZE: usize = 8192;

const CHECKPOINT_AT: usize = 32;
const CHECKPOINT_COPY_AT: usize = 40;
/// `sizeof(CheckPoint)`, also the main data of a checkpoint record.
pub const CHECKPOINT_SIZE: usize = 88;

/// Where a restored cluster without its backup_label would start: nowhere. `0/DEAD` lies in the
/// first segment, which no cluster has (initdb starts at the second), yet passes the server's own
/// check of the offset (`XRecOffIsValid`: at least 24 bytes into a page). pgBackRest restores with
/// the same value (its commit e634fd85c).
const INVALID_CHECKPOINT: u64 = 0xDEAD;

/// Why bytes are not a control file we can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    #[error("pg_control has {0} bytes, too few for its fields")]
    TooShort(usize),
    #[error(
        "pg_control has format version {0}; versions 1300 (postgresql 15 and 16), 1700 and 1800 are supported"
    )]
    UnsupportedVersion(u32),
    #[error("pg_control was written by a machine of another byte order")]
    ByteOrder,
    /// Usually the file was read while the server wrote it.
    #[error("pg_control has a bad checksum: stored {stored:08X}, computed {computed:08X}")]
    BadCrc { stored: u32, computed: u32 },
    #[error("pg_control has an impossible value {value} for {field}")]
    BadField { field: &'static str, value: i64 },
    #[error("pg_control has an impossible wal segment size")]
    SegmentSize(#[source] LsnError),
}

impl ControlError {
    /// Whether reading the file once more may help (a torn read).
    pub fn retryable(&self) -> bool {
        matches!(self, ControlError::BadCrc { .. } | ControlError::TooShort(_))
    }
}

/// `DBState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DbState {
    Startup,
    ShutDown,
    ShutDownInRecovery,
    ShuttingDown,
    InCrashRecovery,
    InArchiveRecovery,
    InProduction,
}

impl DbState {
    fn from_number(n: i32) -> Option<Self> {
        Some(match n {
            0 => DbState::Startup,
            1 => DbState::ShutDown,
            2 => DbState::ShutDownInRecovery,
            3 => DbState::ShuttingDown,
            4 => DbState::InCrashRecovery,
            5 => DbState::InArchiveRecovery,
            6 => DbState::InProduction,
            _ => return None,
        })
    }

    /// A cluster stopped cleanly, which a copy needs no WAL for.
    pub fn is_shut_down(self) -> bool {
        matches!(self, DbState::ShutDown | DbState::ShutDownInRecovery)
    }
}

/// `WalLevel` (src/include/access/xlog.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WalLevel {
    Minimal,
    Replica,
    Logical,
}

impl WalLevel {
    pub fn from_number(n: i32) -> Option<Self> {
        match n {
            0 => Some(WalLevel::Minimal),
            1 => Some(WalLevel::Replica),
            2 => Some(WalLevel::Logical),
            _ => None,
        }
    }
}

/// `CheckPoint`: in pg_control, and the body of checkpoint records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckPoint {
    pub redo: Lsn,
    pub timeline: TimelineId,
    pub previous_timeline: TimelineId,
    pub full_page_writes: bool,
    /// Recorded by 17 and later.
    pub wal_level: Option<WalLevel>,
    /// Epoch in the high 32 bits.
    pub next_xid: u64,
    pub next_oid: u32,
    pub next_multi: u32,
    pub next_multi_offset: u32,
    pub oldest_xid: u32,
    pub oldest_xid_db: u32,
    pub oldest_multi: u32,
    pub oldest_multi_db: u32,
    /// Seconds since 1970.
    pub time: i64,
    pub oldest_commit_ts_xid: u32,
    pub newest_commit_ts_xid: u32,
    pub oldest_active_xid: u32,
}

impl CheckPoint {
    /// From the [`CHECKPOINT_SIZE`] bytes of the struct; `None` when there are fewer. `has_wal_level`
    /// is true for 17 and later; before, those four bytes are padding.
    pub fn parse(b: &[u8], has_wal_level: bool) -> Option<Self> {
        let mut c = Cursor::new(b.get(..CHECKPOINT_SIZE)?, 0);
        let redo = Lsn(c.u64()?);
        let timeline = TimelineId(c.u32()?);
        let previous_timeline = TimelineId(c.u32()?);
        let full_page_writes = c.u8()? != 0;
        c.take(3)?;
        let level = c.i32()?;
        let next_xid = c.u64()?;
        let next_oid = c.u32()?;
        let next_multi = c.u32()?;
        let next_multi_offset = c.u32()?;
        let oldest_xid = c.u32()?;
        let oldest_xid_db = c.u32()?;
        let oldest_multi = c.u32()?;
        let oldest_multi_db = c.u32()?;
        c.take(4)?;
        Some(CheckPoint {
            redo,
            timeline,
            previous_timeline,
            full_page_writes,
            wal_level: has_wal_level.then(|| WalLevel::from_number(level)).flatten(),
            next_xid,
            next_oid,
            next_multi,
            next_multi_offset,
            oldest_xid,
            oldest_xid_db,
            oldest_multi,
            oldest_multi_db,
            time: c.i64()?,
            oldest_commit_ts_xid: c.u32()?,
            newest_commit_ts_xid: c.u32()?,
            oldest_active_xid: c.u32()?,
        })
    }
}

/// `ControlFileData`, less what no one here needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlFile {
    pub system_identifier: u64,
    /// `pg_control_version`: 1300, 1700 or 1800.
    pub control_version: u32,
    pub catalog_version: u32,
    pub state: DbState,
    /// Last update of the file, seconds since 1970.
    pub time: i64,
    /// Position of the last checkpoint record.
    pub checkpoint: Lsn,
    pub checkpoint_copy: CheckPoint,
    pub min_recovery_point: Lsn,
    /// Zero outside recovery.
    pub min_recovery_point_timeline: TimelineId,
    pub backup_start_point: Lsn,
    pub backup_end_point: Lsn,
    pub backup_end_required: bool,
    pub wal_level: WalLevel,
    pub wal_log_hints: bool,
    pub max_connections: i32,
    pub max_worker_processes: i32,
    pub max_wal_senders: i32,
    pub max_prepared_xacts: i32,
    pub max_locks_per_xact: i32,
    pub track_commit_timestamp: bool,
    /// Bytes per page of a relation.
    pub block_size: u32,
    /// `relseg_size`: blocks per segment file of a relation.
    pub blocks_per_segment: u32,
    /// Bytes per page of WAL.
    pub wal_block_size: u32,
    pub wal_segment_size: SegmentSize,
    /// Zero means that pages have no checksums.
    pub data_checksum_version: u32,
}

impl ControlFile {
    /// Reads the content of `global/pg_control` and checks its CRC.
    pub fn parse(bytes: &[u8]) -> Result<Self, ControlError> {
        let short = || ControlError::TooShort(bytes.len());
        let (control_version, _) = check(bytes)?;
        let u32f = |at| u32_at(bytes, at).ok_or_else(short);
        let i32f = |at| i32_at(bytes, at).ok_or_else(short);
        let lsn = |at| u64_at(bytes, at).map(Lsn).ok_or_else(short);
        let flag = |at| u8_at(bytes, at).map(|b| b != 0).ok_or_else(short);
        let bad = |field, value| ControlError::BadField { field, value };
        // A size that is zero would be divided by somewhere.
        let size = |field: &'static str, at| match u32f(at)? {
            n if n.is_power_of_two() => Ok(n),
            n => Err(bad(field, i64::from(n))),
        };

        let state = i32f(16)?;
        let level = i32f(172)?;
        Ok(ControlFile {
            system_identifier: u64_at(bytes, 0).ok_or_else(short)?,
            control_version,
            catalog_version: u32f(12)?,
            state: DbState::from_number(state).ok_or_else(|| bad("state", i64::from(state)))?,
            time: i64_at(bytes, 24).ok_or_else(short)?,
            checkpoint: lsn(CHECKPOINT_AT)?,
            checkpoint_copy: bytes
                .get(CHECKPOINT_COPY_AT..)
                .and_then(|b| CheckPoint::parse(b, control_version >= 1700))
                .ok_or_else(short)?,
            min_recovery_point: lsn(136)?,
            min_recovery_point_timeline: TimelineId(u32f(144)?),
            backup_start_point: lsn(152)?,
            backup_end_point: lsn(160)?,
            backup_end_required: flag(168)?,
            wal_level: WalLevel::from_number(level).ok_or_else(|| bad("wal_level", i64::from(level)))?,
            wal_log_hints: flag(176)?,
            max_connections: i32f(180)?,
            max_worker_processes: i32f(184)?,
            max_wal_senders: i32f(188)?,
            max_prepared_xacts: i32f(192)?,
            max_locks_per_xact: i32f(196)?,
            track_commit_timestamp: flag(200)?,
            block_size: size("block size", 216)?,
            // `--with-segsize-blocks` need not be a power of two.
            blocks_per_segment: match u32f(220)? {
                0 => return Err(bad("blocks per segment", 0)),
                n => n,
            },
            wal_block_size: size("wal block size", 224)?,
            wal_segment_size: SegmentSize::try_from(u64::from(u32f(228)?))
                .map_err(ControlError::SegmentSize)?,
            data_checksum_version: u32f(252)?,
        })
    }

    /// Whether pages carry checksums.
    pub fn has_checksums(&self) -> bool {
        self.data_checksum_version != 0
    }

    /// The major version that wrote this file, as far as it tells: 1300 was shared by 13 to 16, which
    /// the date in the catalog version tells apart. `PG_VERSION` is the authority.
    pub fn major(&self) -> Option<PgMajor> {
        match self.control_version {
            1700 => Some(PgMajor::V17),
            1800 => Some(PgMajor::V18),
            _ => match self.catalog_version {
                0..202_108_000 => None,
                202_108_000..202_300_000 => Some(PgMajor::V15),
                202_300_000.. => Some(PgMajor::V16),
            },
        }
    }

    /// A copy of the file that cannot start a cluster without backup_label (trap 19).
    ///
    /// `checkPoint` and `checkPointCopy.redo` become `0/DEAD` and the CRC is renewed. With a
    /// backup_label the server takes both positions from there and overwrites these two
    /// (`InitWalRecovery`, src/backend/access/transam/xlogrecovery.c); without one it stops with
    /// "could not locate a valid checkpoint record". What it does need stays: the copy's timeline
    /// chooses `recovery_target_timeline`, `minRecoveryPoint` is the end of a backup from a standby.
    /// Not for a cluster copied while shut down and restored without backup_label.
    pub fn with_invalid_checkpoint(bytes: &[u8]) -> Result<Vec<u8>, ControlError> {
        let (_, crc_at) = check(bytes)?;
        let mut copy = bytes.to_vec();
        let short = || ControlError::TooShort(bytes.len());
        for at in [CHECKPOINT_AT, CHECKPOINT_COPY_AT] {
            let field = copy.get_mut(at..).and_then(|b| b.first_chunk_mut::<8>()).ok_or_else(short)?;
            *field = INVALID_CHECKPOINT.to_le_bytes();
        }
        let crc = crc32c(copy.get(..crc_at).ok_or_else(short)?);
        let field = copy.get_mut(crc_at..).and_then(|b| b.first_chunk_mut::<4>()).ok_or_else(short)?;
        *field = crc.to_le_bytes();
        Ok(copy)
    }

    /// Whether the checkpoint is the one that [`Self::with_invalid_checkpoint`] writes.
    pub fn has_invalid_checkpoint(&self) -> bool {
        self.checkpoint == Lsn(INVALID_CHECKPOINT)
    }
}

/// Version and place of the CRC, once both are known to be right.
fn check(bytes: &[u8]) -> Result<(u32, usize), ControlError> {
    let short = || ControlError::TooShort(bytes.len());
    let version = u32_at(bytes, 8).ok_or_else(short)?;
    let crc_at = match version {
        1300 | 1700 => 288,
        1800 => 292,
        // `ReadControlFile` (src/backend/access/transam/xlog.c) tells byte order the same way.
        v if v % 65536 == 0 && v != 0 => return Err(ControlError::ByteOrder),
        v => return Err(ControlError::UnsupportedVersion(v)),
    };
    let stored = u32_at(bytes, crc_at).ok_or_else(short)?;
    let computed = crc32c(bytes.get(..crc_at).ok_or_else(short)?);
    if stored != computed {
        return Err(ControlError::BadCrc { stored, computed });
    }
    Ok((version, crc_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first 512 bytes of what `initdb -k` of each major writes; pg_controldata says the rest.
    const FILES: [(&[u8], PgMajor, u32, u64, u64); 3] = [
        (
            include_bytes!("../testdata/pg15-control-512.bin"),
            PgMajor::V15,
            202209061,
            7710563423411447314,
            0x17414F8,
        ),
        (
            include_bytes!("../testdata/pg17-control-512.bin"),
            PgMajor::V17,
            202406281,
            7710563425264485924,
            0x17497C0,
        ),
        (
            include_bytes!("../testdata/pg18-control-512.bin"),
            PgMajor::V18,
            202506291,
            7710563426851771956,
            0x1765D28,
        ),
    ];

    #[test]
    fn real_files() {
        for (bytes, major, catalog, sysid, checkpoint) in FILES {
            let c = ControlFile::parse(bytes).unwrap();
            assert_eq!(c.system_identifier, sysid);
            assert_eq!((c.catalog_version, c.control_version), (catalog, major.control_version()));
            assert_eq!(c.major(), Some(major));
            assert_eq!((c.checkpoint, c.checkpoint_copy.redo), (Lsn(checkpoint), Lsn(checkpoint)));
            assert_eq!(c.state, DbState::ShutDown);
            assert!(c.state.is_shut_down() && c.has_checksums());
            assert_eq!((c.block_size, c.blocks_per_segment, c.wal_block_size), (8192, 131072, 8192));
            assert_eq!(c.wal_segment_size, SegmentSize::DEFAULT);
            assert_eq!(c.wal_level, WalLevel::Replica);
            assert_eq!(
                (c.max_connections, c.max_worker_processes, c.max_wal_senders, c.max_locks_per_xact),
                (100, 8, 10, 64)
            );
            assert_eq!(c.checkpoint_copy.timeline, TimelineId(1));
            assert!(c.checkpoint_copy.full_page_writes);
            assert_eq!(c.checkpoint_copy.wal_level, (major >= PgMajor::V17).then_some(WalLevel::Replica));
        }
        assert_eq!(ControlFile::parse(FILES[0].0).unwrap().checkpoint_copy.next_oid, 13572);
    }

    #[test]
    fn a_torn_copy_is_noticed() {
        let mut b = FILES[0].0.to_vec();
        b[30] ^= 1;
        let e = ControlFile::parse(&b).unwrap_err();
        assert!(matches!(e, ControlError::BadCrc { .. }) && e.retryable());
        assert_eq!(ControlFile::parse(&b[..290]), Err(ControlError::TooShort(290)));
        b[8..12].copy_from_slice(&1300u32.to_be_bytes());
        assert_eq!(ControlFile::parse(&b), Err(ControlError::ByteOrder));
        b[8..12].copy_from_slice(&1902u32.to_le_bytes());
        assert_eq!(ControlFile::parse(&b), Err(ControlError::UnsupportedVersion(1902)));
    }

    #[test]
    fn the_checkpoint_can_be_invalidated() {
        for (bytes, ..) in FILES {
            let before = ControlFile::parse(bytes).unwrap();
            let copy = ControlFile::with_invalid_checkpoint(bytes).unwrap();
            let after = ControlFile::parse(&copy).unwrap();
            assert!(after.has_invalid_checkpoint() && !before.has_invalid_checkpoint());
            assert_eq!(copy.len(), bytes.len());
            let mut same = after.clone();
            same.checkpoint = before.checkpoint;
            same.checkpoint_copy.redo = before.checkpoint_copy.redo;
            assert_eq!(same, before);
            // XRecOffIsValid
            assert!(after.checkpoint.0 % 8192 >= 24);
        }
    }
}
