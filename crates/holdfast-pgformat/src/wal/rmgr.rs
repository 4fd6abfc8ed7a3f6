//! [`Rmgr`]: who wrote a record (src/include/access/rmgrlist.h, the same list in 15 to 18).

use std::fmt;

const NAMES: [&str; 22] = [
    "XLOG",
    "Transaction",
    "Storage",
    "CLOG",
    "Database",
    "Tablespace",
    "MultiXact",
    "RelMap",
    "Standby",
    "Heap2",
    "Heap",
    "Btree",
    "Hash",
    "Gin",
    "Gist",
    "Sequence",
    "SPGist",
    "BRIN",
    "CommitTs",
    "ReplicationOrigin",
    "Generic",
    "LogicalMessage",
];

/// A resource manager's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rmgr(pub u8);

impl Rmgr {
    pub const XLOG: Rmgr = Rmgr(0);
    pub const XACT: Rmgr = Rmgr(1);
    pub const SMGR: Rmgr = Rmgr(2);
    pub const DBASE: Rmgr = Rmgr(4);
    pub const TBLSPC: Rmgr = Rmgr(5);
    pub const RELMAP: Rmgr = Rmgr(7);
    pub const GENERIC: Rmgr = Rmgr(20);

    /// One of the server's own.
    pub fn is_builtin(self) -> bool {
        usize::from(self.0) < NAMES.len()
    }

    /// One that an extension registered (`RM_MIN_CUSTOM_ID`, src/include/access/rmgr.h).
    pub fn is_custom(self) -> bool {
        self.0 >= 128
    }

    pub fn is_valid(self) -> bool {
        self.is_builtin() || self.is_custom()
    }
}

/// As pg_waldump prints it.
impl fmt::Display for Rmgr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0)) {
            Some(name) => f.write_str(name),
            None => write!(f, "custom{:03}", self.0),
        }
    }
}
