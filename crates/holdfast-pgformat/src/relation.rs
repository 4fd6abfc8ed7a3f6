//! Names of relations on disk: [`RelFileLocator`], [`Fork`], [`RelationFile`].
//!
//! From src/include/storage/relfilelocator.h, src/common/relpath.c and
//! `parse_filename_for_nontemp_relation` in src/backend/storage/file/reinit.c.

use serde::{Deserialize, Serialize};
use std::fmt;

/// `DEFAULTTABLESPACE_OID`, pg_default (src/include/catalog/pg_tablespace.dat).
pub const DEFAULT_TABLESPACE: u32 = 1663;
/// `GLOBALTABLESPACE_OID`, pg_global.
pub const GLOBAL_TABLESPACE: u32 = 1664;

/// Which relation: `RelFileLocator` (`RelFileNode` in 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RelFileLocator {
    pub tablespace: u32,
    /// Zero for relations shared by all databases.
    pub database: u32,
    pub relation: u32,
}

impl fmt::Display for RelFileLocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tablespace, self.database, self.relation)
    }
}

/// `ForkNumber` (src/include/common/relpath.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fork {
    Main,
    Fsm,
    Vm,
    Init,
}

impl Fork {
    pub fn from_number(n: u32) -> Option<Self> {
        match n {
            0 => Some(Fork::Main),
            1 => Some(Fork::Fsm),
            2 => Some(Fork::Vm),
            3 => Some(Fork::Init),
            _ => None,
        }
    }

    /// `forkNames` (src/common/relpath.c).
    pub fn name(self) -> &'static str {
        match self {
            Fork::Main => "main",
            Fork::Fsm => "fsm",
            Fork::Vm => "vm",
            Fork::Init => "init",
        }
    }

    fn from_suffix(s: &str) -> Option<Self> {
        [Fork::Fsm, Fork::Vm, Fork::Init].into_iter().find(|f| f.name() == s)
    }
}

/// The name of one file of a relation: `16384`, `16384_fsm`, `16384.1`, `16384_vm.2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RelationFile {
    pub relation: u32,
    pub fork: Fork,
    pub segment_no: u32,
}

impl RelationFile {
    /// `None` for every other name. As strict as 17: no leading zeroes, so that a value has one name.
    pub fn parse(name: &str) -> Option<Self> {
        let (stem, segment_no) = match name.split_once('.') {
            Some((stem, seg)) => (stem, number(seg)?),
            None => (name, 0),
        };
        let (digits, fork) = match stem.split_once('_') {
            Some((digits, suffix)) => (digits, Fork::from_suffix(suffix)?),
            None => (stem, Fork::Main),
        };
        Some(RelationFile { relation: number(digits)?, fork, segment_no })
    }
}

impl fmt::Display for RelationFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.relation)?;
        if self.fork != Fork::Main {
            write!(f, "_{}", self.fork.name())?;
        }
        if self.segment_no != 0 {
            write!(f, ".{}", self.segment_no)?;
        }
        Ok(())
    }
}

/// A decimal number from 1 without leading zeroes.
pub(crate) fn number(s: &str) -> Option<u32> {
    if s.starts_with('0') || !all_digits(s) {
        return None;
    }
    s.parse().ok()
}

pub(crate) fn all_digits(s: &str) -> bool {
    !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit())
}

/// `looks_like_temp_rel_name` (src/backend/storage/file/fd.c): `t3_16384`, `t3_16384_fsm.1`.
pub fn is_temp_relation_name(name: &str) -> bool {
    let Some((backend, rest)) = name.strip_prefix('t').and_then(|n| n.split_once('_')) else {
        return false;
    };
    let (stem, segment) = match rest.split_once('.') {
        Some((stem, seg)) => (stem, Some(seg)),
        None => (rest, None),
    };
    let (digits, fork) = match stem.split_once('_') {
        Some((digits, suffix)) => (digits, Some(suffix)),
        None => (stem, None),
    };
    all_digits(backend)
        && all_digits(digits)
        && fork.is_none_or(|f| Fork::from_suffix(f).is_some())
        && segment.is_none_or(all_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for (name, want) in [
            ("16384", (16384, Fork::Main, 0)),
            ("16384.1", (16384, Fork::Main, 1)),
            ("1_fsm", (1, Fork::Fsm, 0)),
            ("4294967295_vm.12", (u32::MAX, Fork::Vm, 12)),
            ("9_init", (9, Fork::Init, 0)),
        ] {
            let f = RelationFile::parse(name).unwrap();
            assert_eq!((f.relation, f.fork, f.segment_no), want);
            assert_eq!(f.to_string(), name);
        }
        for bad in [
            "",
            "0",
            "016384",
            "4294967296",
            "1.0",
            "1.",
            "1.01",
            "1_main",
            "1_",
            "1_fsm_vm",
            "1_fsmx",
            "t1_1",
            "pg_filenode.map",
            "1.1.1",
            "+1",
            "1 ",
        ] {
            assert_eq!(RelationFile::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn temporary_names() {
        for yes in ["t1_2", "t12_16384_fsm", "t3_5.1", "t3_5_init.01"] {
            assert!(is_temp_relation_name(yes), "{yes}");
        }
        for no in ["t_1", "t1_", "t1", "1_2", "t1_2_", "t1_2_x", "t1_2.", "t1_2.x", "tx_2", "t1_2_main"] {
            assert!(!is_temp_relation_name(no), "{no}");
        }
    }
}
