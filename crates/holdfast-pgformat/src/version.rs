//! Which PostgreSQL this is: [`PgMajor`], the `PG_VERSION` file, `server_version_num`, and the
//! version numbers inside other formats.
//!
//! Only majors are judged. A minor release, or a catalog version we never saw, is not a reason to
//! refuse a cluster.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a version is not one this program works with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    #[error("`{0}` is not the content of a PG_VERSION file; it holds one number, such as 17")]
    Malformed(String),
    #[error("server_version_num {0} is not a version; it is a number such as 170004")]
    MalformedNumber(i64),
    #[error("postgresql {0} is past its end of life; versions 15 to 18 are supported")]
    EndOfLife(u32),
    #[error("postgresql {0} is newer than this program knows; versions 15 to 18 are supported")]
    TooNew(u32),
    #[error("wal page magic {0:04X} belongs to no supported version of postgresql (15 to 18)")]
    UnknownMagic(u16),
}

/// A supported major version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum PgMajor {
    V15,
    V16,
    V17,
    V18,
}

impl PgMajor {
    pub const ALL: [PgMajor; 4] = [PgMajor::V15, PgMajor::V16, PgMajor::V17, PgMajor::V18];

    pub fn number(self) -> u32 {
        match self {
            PgMajor::V15 => 15,
            PgMajor::V16 => 16,
            PgMajor::V17 => 17,
            PgMajor::V18 => 18,
        }
    }

    /// `XLOG_PAGE_MAGIC` (src/include/access/xlog_internal.h of each release branch).
    pub fn wal_magic(self) -> u16 {
        match self {
            PgMajor::V15 => 0xD110,
            PgMajor::V16 => 0xD113,
            PgMajor::V17 => 0xD116,
            PgMajor::V18 => 0xD118,
        }
    }

    pub fn from_wal_magic(magic: u16) -> Result<Self, VersionError> {
        PgMajor::ALL.into_iter().find(|m| m.wal_magic() == magic).ok_or(VersionError::UnknownMagic(magic))
    }

    /// `PG_CONTROL_VERSION` (src/include/catalog/pg_control.h): 13 to 16 share 1300.
    pub fn control_version(self) -> u32 {
        match self {
            PgMajor::V15 | PgMajor::V16 => 1300,
            PgMajor::V17 => 1700,
            PgMajor::V18 => 1800,
        }
    }

    /// `TABLESPACE_VERSION_DIRECTORY` (src/include/common/relpath.h): `PG_15_202209061`.
    pub fn tablespace_dir(self, catalog_version: u32) -> String {
        format!("PG_{}_{catalog_version}", self.number())
    }
}

impl TryFrom<u32> for PgMajor {
    type Error = VersionError;
    fn try_from(n: u32) -> Result<Self, VersionError> {
        match n {
            15 => Ok(PgMajor::V15),
            16 => Ok(PgMajor::V16),
            17 => Ok(PgMajor::V17),
            18 => Ok(PgMajor::V18),
            0..=14 => Err(VersionError::EndOfLife(n)),
            _ => Err(VersionError::TooNew(n)),
        }
    }
}

impl From<PgMajor> for u32 {
    fn from(m: PgMajor) -> u32 {
        m.number()
    }
}

impl fmt::Display for PgMajor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// A server's version: major and minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PgVersion {
    pub major: PgMajor,
    pub minor: u32,
}

impl PgVersion {
    /// From `server_version_num`: 170004 is 17.4 (src/include/pg_config.h, `PG_VERSION_NUM`).
    pub fn from_server_version_num(n: i64) -> Result<Self, VersionError> {
        let small = u32::try_from(n).map_err(|_| VersionError::MalformedNumber(n))?;
        if small < 10_000 {
            return Err(VersionError::MalformedNumber(n));
        }
        Ok(PgVersion { major: PgMajor::try_from(small / 10_000)?, minor: small % 10_000 })
    }
}

impl fmt::Display for PgVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Reads a `PG_VERSION` file: the major version and a line feed (`ValidatePgVersion`,
/// src/backend/utils/init/miscinit.c).
pub fn parse_pg_version_file(text: &str) -> Result<PgMajor, VersionError> {
    let t = text.trim_end_matches(['\n', '\r', ' ']);
    let bad = || VersionError::Malformed(t.chars().take(40).collect());
    // Before 10 the major had two parts; "9.6" is old, not malformed.
    let head = t.split('.').next().unwrap_or_default();
    if head.is_empty() || head.len() > 4 || !head.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let n: u32 = head.parse().map_err(|_| bad())?;
    if head.len() != t.len() && n >= 10 {
        return Err(bad());
    }
    PgMajor::try_from(n)
}

/// The parts of a tablespace's version directory name (`PG_15_202209061` → 15, 202209061), for a
/// name of any major; `None` for another name.
pub fn parse_tablespace_dir(name: &str) -> Option<(u32, u32)> {
    let (major, catalog) = name.strip_prefix("PG_")?.split_once('_')?;
    let num =
        |t: &str| (!t.is_empty() && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse().ok()).flatten();
    Some((num(major)?, num(catalog)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_files() {
        assert_eq!(parse_pg_version_file("15\n"), Ok(PgMajor::V15));
        assert_eq!(parse_pg_version_file("18"), Ok(PgMajor::V18));
        assert_eq!(parse_pg_version_file("14\n"), Err(VersionError::EndOfLife(14)));
        assert_eq!(parse_pg_version_file("9.6\n"), Err(VersionError::EndOfLife(9)));
        assert_eq!(parse_pg_version_file("19\n"), Err(VersionError::TooNew(19)));
        for bad in ["", "\n", "x", "15.1", "+15", "99999999999"] {
            assert!(matches!(parse_pg_version_file(bad), Err(VersionError::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn numbers_and_directories() {
        let v = PgVersion::from_server_version_num(150_018).unwrap();
        assert_eq!(v.to_string(), "15.18");
        assert!(PgVersion::from_server_version_num(-1).is_err());
        assert_eq!(PgVersion::from_server_version_num(90_624), Err(VersionError::EndOfLife(9)));
        assert_eq!(PgVersion::from_server_version_num(140_020), Err(VersionError::EndOfLife(14)));
        assert_eq!(PgVersion::from_server_version_num(190_000), Err(VersionError::TooNew(19)));
        assert_eq!(PgMajor::V15.tablespace_dir(202209061), "PG_15_202209061");
        assert_eq!(parse_tablespace_dir("PG_15_202209061"), Some((15, 202209061)));
        assert_eq!(parse_tablespace_dir("PG_15"), None);
        assert_eq!(parse_tablespace_dir("PG_+5_1"), None);
        for m in PgMajor::ALL {
            assert_eq!(PgMajor::from_wal_magic(m.wal_magic()), Ok(m));
        }
        assert!(PgMajor::from_wal_magic(0xD10D).is_err());
    }
}
