//! What a path under PGDATA is, and whether it belongs in a backup: [`classify`], [`dir_action`].
//!
//! The skip lists are those of src/backend/backup/basebackup.c (`excludeDirContents`,
//! `excludeFiles`, `sendDir`), the same in 15 to 18, plus names that pgBackRest leaves out
//! (src/info/manifest/build.c.inc) because they belong to the source's past, not to the data:
//! `*.old` labels and recovery signals.
//!
//! Invariants:
//! 1. Paths use `/`, are relative, and have no `.` or `..` parts; another path is [`PathKind::Other`].
//! 2. A file is a relation fork only in the three places where the server puts one: `global/`,
//!    `base/<database>/` and `pg_tblspc/<oid>/PG_<major>_<catalog>/<database>/`. Digits elsewhere
//!    (pg_xact has such names) are not pages (trap 16).
//! 3. Whether a relation is unlogged cannot be told from one name: see [`unlogged_set`].

use crate::relation::{Fork, RelationFile, all_digits, is_temp_relation_name, number};
use crate::version::parse_tablespace_dir;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// `excludeDirContents`: the directory is kept, empty; its files are recreated by the server.
const EMPTY_DIRS: [&str; 7] =
    ["pg_stat_tmp", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_subtrans"];

/// Directories a cluster must have and which a backup keeps without their content, with those that
/// a directory walk may not have seen (`pg_wal` may be a link elsewhere). `pg_wal/summaries` is
/// used by 17 and later and harmless before.
pub const ALWAYS_EMPTY_DIRS: [&str; 10] = [
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_wal",
    "pg_wal/archive_status",
    "pg_wal/summaries",
];

/// Where a relation lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tablespace {
    /// `global/`, shared relations.
    Global,
    /// `base/`.
    Default,
    Oid(u32),
}

impl Tablespace {
    /// The number that WAL uses for it.
    pub fn oid(self) -> u32 {
        match self {
            Tablespace::Global => crate::relation::GLOBAL_TABLESPACE,
            Tablespace::Default => crate::relation::DEFAULT_TABLESPACE,
            Tablespace::Oid(n) => n,
        }
    }
}

/// One file of one fork of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RelationFork {
    pub tablespace: Tablespace,
    /// Zero in `global/`.
    pub database: u32,
    pub relfilenode: u32,
    pub fork: Fork,
    pub segment_no: u32,
}

impl RelationFork {
    /// Whether this file is left out because its relation is unlogged: every fork but `_init` of a
    /// relation in `unlogged` (of the same directory).
    pub fn is_unlogged_data(&self, unlogged: &HashSet<u32>) -> bool {
        self.fork != Fork::Init && unlogged.contains(&self.relfilenode)
    }
}

/// Why a file is not part of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExcludeReason {
    /// In a directory that the server empties or rebuilds at start.
    RebuiltDirectory,
    /// `pgsql_tmp*`: sorts, hashes and other temporary files.
    TemporaryFile,
    /// `postgresql.auto.conf.tmp`, `current_logfiles.tmp`.
    UnfinishedWrite,
    /// `pg_internal.init*`.
    RelationCache,
    /// `backup_manifest` of the backup this server was started from.
    ForeignManifest,
    /// `backup_label.old`, `tablespace_map.old`.
    OldLabel,
    /// `postmaster.pid`, `postmaster.opts`.
    Postmaster,
    /// `recovery.signal`, `standby.signal`: a restore writes its own.
    RecoverySignal,
    /// `.DS_Store`.
    SystemFile,
}

/// A cluster-wide log of transaction state, 32 pages to a file (src/backend/access/transam/slru.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slru {
    Xact,
    MultixactOffsets,
    MultixactMembers,
    CommitTs,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    RelationFork(RelationFork),
    /// A relation of one session, gone after a restart.
    TempRelation,
    /// `global/pg_control`: copied last, written last (trap 18).
    ControlFile,
    /// Never copied: ours comes from `pg_backup_stop` (trap 20).
    BackupLabel,
    /// Never copied: ours comes from `pg_backup_stop` (trap 20).
    TablespaceMap,
    Excluded(ExcludeReason),
    Slru(Slru),
    TwoPhase,
    RelMap,
    /// Anything in `pg_wal`; WAL comes from the archive.
    Wal,
    Config,
    Other,
}

impl PathKind {
    /// Whether the file's content goes into a backup's data. Unlogged relations are not known here.
    pub fn is_copied(&self) -> bool {
        !matches!(
            self,
            PathKind::TempRelation
                | PathKind::BackupLabel
                | PathKind::TablespaceMap
                | PathKind::Excluded(_)
                | PathKind::Wal
        )
    }

    pub fn relation(&self) -> Option<&RelationFork> {
        match self {
            PathKind::RelationFork(f) => Some(f),
            _ => None,
        }
    }
}

/// What a directory walk does with a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DirAction {
    /// Record it and go in.
    Descend,
    /// Record it as an empty directory.
    KeepEmpty,
    /// Leave it out.
    Skip,
}

/// What the file at `path`, relative to PGDATA, is.
///
/// A path through `pg_tblspc/<oid>/` is understood; [`classify_in_tablespace`] serves a walk that
/// starts at a tablespace's own directory.
pub fn classify(path: &str) -> PathKind {
    let parts: Vec<&str> = path.split('/').collect();
    let Some((name, dirs)) = parts.split_last() else { return PathKind::Other };
    if !is_clean(&parts) {
        return PathKind::Other;
    }
    if let Some(kind) = excluded(name, dirs, true) {
        return kind;
    }
    match dirs {
        [] => match *name {
            "recovery.signal" | "standby.signal" => PathKind::Excluded(ExcludeReason::RecoverySignal),
            "backup_label.old" | "tablespace_map.old" => PathKind::Excluded(ExcludeReason::OldLabel),
            "postgresql.conf" | "postgresql.auto.conf" | "pg_hba.conf" | "pg_ident.conf" => PathKind::Config,
            _ => PathKind::Other,
        },
        ["global"] => match *name {
            "pg_control" => PathKind::ControlFile,
            _ => in_relation_dir(Tablespace::Global, 0, name),
        },
        ["base", db] => match number(db) {
            Some(db) => in_relation_dir(Tablespace::Default, db, name),
            None => PathKind::Other,
        },
        ["pg_tblspc", oid, version, rest @ ..] => match (number(oid), parse_tablespace_dir(version)) {
            (Some(oid), Some(_)) => in_version_dir(oid, rest, name),
            _ => PathKind::Other,
        },
        ["pg_xact"] => slru(Slru::Xact, name),
        ["pg_multixact", "offsets"] => slru(Slru::MultixactOffsets, name),
        ["pg_multixact", "members"] => slru(Slru::MultixactMembers, name),
        ["pg_commit_ts"] => slru(Slru::CommitTs, name),
        ["pg_twophase"] if !name.is_empty() && is_hex(name) => PathKind::TwoPhase,
        _ => PathKind::Other,
    }
}

/// What the file at `path`, relative to a tablespace's version directory (`PG_15_202209061`), is.
pub fn classify_in_tablespace(tablespace_oid: u32, path: &str) -> PathKind {
    let parts: Vec<&str> = path.split('/').collect();
    let Some((name, dirs)) = parts.split_last() else { return PathKind::Other };
    if !is_clean(&parts) {
        return PathKind::Other;
    }
    excluded(name, dirs, false).unwrap_or_else(|| in_version_dir(tablespace_oid, dirs, name))
}

/// What to do with the directory at `path`, relative to PGDATA or to a tablespace. A tablespace that
/// lies inside PGDATA is the caller's to notice.
pub fn dir_action(path: &str) -> DirAction {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.starts_with("pgsql_tmp") || is_excluded_name(name).is_some() {
        DirAction::Skip
    } else if EMPTY_DIRS.contains(&name)
        || matches!(path, "pg_wal" | "pg_wal/archive_status" | "pg_wal/summaries")
    {
        DirAction::KeepEmpty
    } else if path.starts_with("pg_wal/") {
        DirAction::Skip
    } else {
        DirAction::Descend
    }
}

/// The relations of one directory that are unlogged now: those that have an `_init` fork.
///
/// To be made from a fresh listing right before the directory's files are copied; `SET LOGGED` and
/// `SET UNLOGGED` give a table new files at any time (trap 21).
pub fn unlogged_set<'a>(names: impl Iterator<Item = &'a str>) -> HashSet<u32> {
    names.filter_map(RelationFile::parse).filter(|f| f.fork == Fork::Init).map(|f| f.relation).collect()
}

fn is_clean(parts: &[&str]) -> bool {
    parts.iter().all(|p| !p.is_empty() && *p != "." && *p != "..")
}

/// Exclusions by name that hold in every directory, and `pg_wal` at the top.
fn excluded(name: &str, dirs: &[&str], in_pgdata: bool) -> Option<PathKind> {
    if dirs.iter().any(|d| d.starts_with("pgsql_tmp")) {
        return Some(PathKind::Excluded(ExcludeReason::TemporaryFile));
    }
    if dirs.iter().any(|d| EMPTY_DIRS.contains(d)) {
        return Some(PathKind::Excluded(ExcludeReason::RebuiltDirectory));
    }
    if in_pgdata && dirs.first() == Some(&"pg_wal") {
        return Some(PathKind::Wal);
    }
    dirs.iter().chain([&name]).find_map(|n| is_excluded_name(n))
}

/// `excludeFiles` and the fixed names in `sendDir`; matched in any directory, as the server does.
fn is_excluded_name(name: &str) -> Option<PathKind> {
    let reason = match name {
        "backup_label" => return Some(PathKind::BackupLabel),
        "tablespace_map" => return Some(PathKind::TablespaceMap),
        "postgresql.auto.conf.tmp" | "current_logfiles.tmp" => ExcludeReason::UnfinishedWrite,
        "backup_manifest" => ExcludeReason::ForeignManifest,
        "postmaster.pid" | "postmaster.opts" => ExcludeReason::Postmaster,
        ".DS_Store" => ExcludeReason::SystemFile,
        n if n.starts_with("pgsql_tmp") => ExcludeReason::TemporaryFile,
        n if n.starts_with("pg_internal.init") => ExcludeReason::RelationCache,
        _ => return None,
    };
    Some(PathKind::Excluded(reason))
}

fn in_version_dir(oid: u32, dirs: &[&str], name: &str) -> PathKind {
    match dirs {
        [db] => match number(db) {
            Some(db) => in_relation_dir(Tablespace::Oid(oid), db, name),
            None => PathKind::Other,
        },
        _ => PathKind::Other,
    }
}

fn in_relation_dir(tablespace: Tablespace, database: u32, name: &str) -> PathKind {
    if name == "pg_filenode.map" {
        return PathKind::RelMap;
    }
    // Temporary relations belong to a database (`OidIsValid(dboid)` in sendDir).
    if database != 0 && is_temp_relation_name(name) {
        return PathKind::TempRelation;
    }
    match RelationFile::parse(name) {
        Some(f) => PathKind::RelationFork(RelationFork {
            tablespace,
            database,
            relfilenode: f.relation,
            fork: f.fork,
            segment_no: f.segment_no,
        }),
        None => PathKind::Other,
    }
}

fn slru(kind: Slru, name: &str) -> PathKind {
    // Four to six digits, fifteen with the long names of 17 (`SlruFileName`).
    if (4..=15).contains(&name.len()) && is_hex(name) { PathKind::Slru(kind) } else { PathKind::Other }
}

fn is_hex(s: &str) -> bool {
    all_digits(s) || (!s.is_empty() && s.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ExcludeReason::*;

    fn fork(
        tablespace: Tablespace,
        database: u32,
        relfilenode: u32,
        fork: Fork,
        segment_no: u32,
    ) -> PathKind {
        PathKind::RelationFork(RelationFork { tablespace, database, relfilenode, fork, segment_no })
    }

    #[test]
    fn relations() {
        use Tablespace::*;
        assert_eq!(classify("base/5/16384.1"), fork(Default, 5, 16384, Fork::Main, 1));
        assert_eq!(classify("global/1262_vm"), fork(Global, 0, 1262, Fork::Vm, 0));
        assert_eq!(
            classify("pg_tblspc/16999/PG_15_202209061/5/17000_init"),
            fork(Oid(16999), 5, 17000, Fork::Init, 0)
        );
        assert_eq!(classify_in_tablespace(16999, "5/17000_fsm.2"), fork(Oid(16999), 5, 17000, Fork::Fsm, 2));
        assert_eq!(classify("base/5/t3_16384"), PathKind::TempRelation);
        assert_eq!(classify("global/t3_16384"), PathKind::Other);
        assert_eq!(classify("base/5/pg_filenode.map"), PathKind::RelMap);
        assert_eq!(classify("global/pg_filenode.map"), PathKind::RelMap);
        // Digits in other places are not pages.
        for p in [
            "base/16384",
            "base/5/x/16384",
            "pg_xact/16384/1",
            "16384",
            "base/x/1",
            "pg_tblspc/1/PG_15_1/1",
            "pg_tblspc/1/5/16384",
            "base/5/PG_VERSION",
            "base/5/0016384",
            "../base/5/1",
            "base//5/1",
            "/base/5/1",
        ] {
            assert_eq!(classify(p), PathKind::Other, "{p}");
        }
    }

    #[test]
    fn exclusions_of_basebackup() {
        for (p, why) in [
            ("postgresql.auto.conf.tmp", UnfinishedWrite),
            ("current_logfiles.tmp", UnfinishedWrite),
            ("base/5/pg_internal.init", RelationCache),
            ("global/pg_internal.init.1234", RelationCache),
            ("backup_manifest", ForeignManifest),
            ("postmaster.pid", Postmaster),
            ("postmaster.opts", Postmaster),
            ("pg_stat_tmp/global.stat", RebuiltDirectory),
            ("pg_replslot/slot/state", RebuiltDirectory),
            ("pg_dynshmem/x", RebuiltDirectory),
            ("pg_notify/0000", RebuiltDirectory),
            ("pg_serial/0000", RebuiltDirectory),
            ("pg_snapshots/x", RebuiltDirectory),
            ("pg_subtrans/0000", RebuiltDirectory),
            ("base/pgsql_tmp/pgsql_tmp1.0", TemporaryFile),
            ("base/pgsql_tmp/x.fileset/1", TemporaryFile),
            ("pg_tblspc/1/PG_15_1/pgsql_tmp/1", TemporaryFile),
            ("base/5/.DS_Store", SystemFile),
            ("backup_label.old", OldLabel),
            ("tablespace_map.old", OldLabel),
            ("recovery.signal", RecoverySignal),
            ("standby.signal", RecoverySignal),
        ] {
            assert_eq!(classify(p), PathKind::Excluded(why), "{p}");
            assert!(!classify(p).is_copied());
        }
        assert_eq!(classify("backup_label"), PathKind::BackupLabel);
        assert_eq!(classify("tablespace_map"), PathKind::TablespaceMap);
        assert_eq!(classify("pg_wal/000000010000000000000001"), PathKind::Wal);
        assert_eq!(classify("pg_wal/archive_status/x.ready"), PathKind::Wal);
        assert_eq!(classify_in_tablespace(1, "pgsql_tmp/pgsql_tmp1.0"), PathKind::Excluded(TemporaryFile));
    }

    #[test]
    fn the_rest() {
        assert_eq!(classify("global/pg_control"), PathKind::ControlFile);
        assert_eq!(classify("pg_xact/0000"), PathKind::Slru(Slru::Xact));
        assert_eq!(classify("pg_multixact/members/00A1F"), PathKind::Slru(Slru::MultixactMembers));
        assert_eq!(classify("pg_multixact/offsets/0000"), PathKind::Slru(Slru::MultixactOffsets));
        assert_eq!(classify("pg_commit_ts/0000"), PathKind::Slru(Slru::CommitTs));
        assert_eq!(classify("pg_twophase/000002D5"), PathKind::TwoPhase);
        assert_eq!(classify("pg_twophase/00000000000002D5"), PathKind::TwoPhase);
        assert_eq!(classify("postgresql.conf"), PathKind::Config);
        for p in [
            "PG_VERSION",
            "base/5/PG_VERSION",
            "pg_stat/pgstat.stat",
            "pg_logical/mappings/x",
            "log/x.log",
            "",
        ] {
            assert_eq!(classify(p), PathKind::Other, "{p}");
        }
        assert!(classify("PG_VERSION").is_copied());
    }

    #[test]
    fn directories() {
        for d in ALWAYS_EMPTY_DIRS {
            assert_eq!(dir_action(d), DirAction::KeepEmpty, "{d}");
        }
        assert_eq!(dir_action("base/pgsql_tmp"), DirAction::Skip);
        assert_eq!(dir_action("pg_wal/other"), DirAction::Skip);
        for d in ["base", "base/5", "pg_tblspc", "pg_logical/snapshots", "base/pg_wal"] {
            assert_eq!(dir_action(d), DirAction::Descend, "{d}");
        }
    }

    #[test]
    fn unlogged_relations_keep_only_their_init_forks() {
        let names = ["1", "1_init", "1_fsm", "2", "2_vm", "3_init", "x_init", "PG_VERSION"];
        let set = unlogged_set(names.into_iter());
        assert_eq!(set, HashSet::from([1, 3]));
        let left_out: Vec<_> = names
            .iter()
            .filter(|n| classify(&format!("base/5/{n}")).relation().is_some_and(|r| r.is_unlogged_data(&set)))
            .copied()
            .collect();
        assert_eq!(left_out, ["1", "1_fsm"]);
    }
}
