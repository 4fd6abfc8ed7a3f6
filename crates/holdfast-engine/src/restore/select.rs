//! Some databases of a point, the others left out: [`choose`], [`Selection`].
//!
//! Recovery replays the log of the whole cluster, so a database that is left out must still take its
//! part of it. Its relation files are made with the right lengths and nothing in them: holes, of which
//! nothing is fetched. Everything else in its directory (`pg_filenode.map`) is restored.
//!
//! What replay does with a page of zeros (`XLogReadBufferExtended`,
//! src/backend/access/transam/xlogutils.c, the same in 15 to 18): a record with an image of the page
//! writes the image, and the first record that changes a page behind a checkpoint brings one
//! (`full_page_writes`, forced on during a backup). A record without one finds an uninitialized page:
//! `log_invalid_page`, and PANIC once the cluster is consistent. Some do, by design: `log_heap_visible`
//! without checksums and hint bit logging, the squeeze of a hash index (`REGBUF_NO_IMAGE`), anything if
//! the source runs with `full_page_writes = off`. Therefore `ignore_invalid_pages` is on in the copy: the
//! server warns instead, with the path of the file. Checked pages of the chosen databases are as they are
//! in any restore; only the PANIC about a reference to a missing one becomes a warning.
//!
//! Afterwards such a database is worse than missing: catalogs that happened to be rewritten could let
//! someone in, and tables of zeros read as empty. So its `PG_VERSION` is a sentence that says what
//! happened. No session can be opened on it (`ValidatePgVersion`, src/backend/utils/init/miscinit.c,
//! called by `InitPostgres` for every backend and worker), whatever the database is called by then, and
//! `DROP DATABASE`, which does not connect, works. A file copy of it in the log
//! (`CREATE DATABASE … STRATEGY FILE_COPY`, `ALTER DATABASE … SET TABLESPACE`) copies the sentence, too.
//! `STRATEGY WAL_LOG` brings every page and `PG_VERSION` in the log: that database is whole.
//!
//! Always restored: what initdb made (OIDs below 16384; `template0`, `template1`, `postgres`), `global/`,
//! and what is made behind the point from templates that are restored.

use super::created::CopiedDatabase;
use crate::error::{EngineError, Result};
use holdfast_pgformat::path::{PathKind, classify};
use holdfast_pgformat::version::parse_tablespace_dir;
use holdfast_vault::manifest::EntryKind;
use holdfast_vault::point::Point;
use holdfast_vault::reader::PointReader;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// `FirstNormalObjectId` (src/include/access/transam.h): below it is what initdb made.
const FIRST_NORMAL_OID: u32 = 16_384;
/// Databases that a cluster needs, whatever their OIDs have become.
const OF_THE_SYSTEM: [&str; 3] = ["postgres", "template0", "template1"];

/// A database that is restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chosen {
    pub oid: u32,
    /// `None`: the point does not say.
    pub name: Option<String>,
}

/// A database that is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    pub oid: u32,
    pub name: Option<String>,
    /// Of its relations, in the point.
    pub files: u64,
    pub bytes: u64,
    /// Recovery makes it, as a file by file copy of one that is left out.
    pub copied_from: Option<u32>,
}

/// Which databases are restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Selection {
    pub databases: Vec<Chosen>,
    #[serde(rename = "databases_left_out")]
    pub left_out: Vec<LeftOut>,
}

/// What becomes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Treat {
    Whole,
    /// Its length, and nothing in it.
    Hollow,
    /// This text instead.
    Mark(String),
}

impl Selection {
    pub fn left_out_bytes(&self) -> u64 {
        self.left_out.iter().map(|d| d.bytes).sum()
    }

    /// What becomes of the file at a path of the point.
    pub fn treat(&self, path: &[u8]) -> Treat {
        let Ok(path) = std::str::from_utf8(path) else { return Treat::Whole };
        let Some((dir, name)) = path.rsplit_once('/') else { return Treat::Whole };
        let Some(oid) = database_of(dir) else { return Treat::Whole };
        let Some(d) = self.left_out.iter().find(|d| d.oid == oid) else { return Treat::Whole };
        match name {
            "PG_VERSION" => Treat::Mark(d.sentence()),
            _ if classify(path).relation().is_some() => Treat::Hollow,
            _ => Treat::Whole,
        }
    }

    /// Lines for the copy's settings.
    pub fn comment(&self) -> String {
        let mut out = String::from("# not restored, and to be dropped:\n");
        for d in &self.left_out {
            let _ = writeln!(out, "#   {}", label(d.oid, d.name.as_deref()));
        }
        out
    }
}

impl LeftOut {
    /// Must not begin with a digit: then it is no version, and nobody gets in.
    fn sentence(&self) -> String {
        let drop = match &self.name {
            Some(n) => format!("drop database {};", quote_name(n)),
            None => format!("drop database, by the name that pg_database has for oid {}", self.oid),
        };
        format!(
            "left-out: this database was not restored (holdfast restore --only-database), its tables are empty.\n\
             remove it: {drop}\n"
        )
    }
}

/// A name and its OID, on one line whatever the name is.
pub fn label(oid: u32, name: Option<&str>) -> String {
    match name {
        Some(n) => format!("{} (oid {oid})", n.escape_debug()),
        None => format!("oid {oid}"),
    }
}

fn quote_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The database whose directory this is, in `base` or in a tablespace.
fn database_of(dir: &str) -> Option<u32> {
    let parts: Vec<&str> = dir.split('/').collect();
    match parts.as_slice() {
        ["base", oid] => oid.parse().ok(),
        ["pg_tblspc", _, version, oid] if parse_tablespace_dir(version).is_some() => oid.parse().ok(),
        _ => None,
    }
}

/// Decides what is restored of `point`. `copies`: what replay copies file by file.
pub async fn choose(
    point: &Point,
    reader: &PointReader,
    asked: &[String],
    copies: &[CopiedDatabase],
) -> Result<Selection> {
    let names: BTreeMap<u32, &str> = point.databases.iter().map(|d| (d.oid, d.name.as_str())).collect();
    let groups = || {
        reader
            .root()
            .groups
            .iter()
            .filter_map(|g| Some((database_of(std::str::from_utf8(&g.name).ok()?)?, g)))
    };
    let there: BTreeSet<u32> = groups().map(|(oid, _)| oid).collect();
    let wanted = resolve(asked, &names, &there)?;
    let system =
        |oid: u32| oid < FIRST_NORMAL_OID || names.get(&oid).is_some_and(|n| OF_THE_SYSTEM.contains(n));
    let name = |oid: u32| names.get(&oid).map(ToString::to_string);
    let mut left_out: BTreeMap<u32, LeftOut> = there
        .iter()
        .filter(|oid| !wanted.contains(oid) && !system(**oid))
        .map(|oid| (*oid, LeftOut { oid: *oid, name: name(*oid), files: 0, bytes: 0, copied_from: None }))
        .collect();
    for (oid, group) in groups() {
        let Some(d) = left_out.get_mut(&oid) else { continue };
        for leaf in &group.leaves {
            for e in reader.leaf(leaf).await?.entries.iter().filter(|e| e.kind == EntryKind::File) {
                let relation = |p| matches!(classify(p), PathKind::RelationFork(_));
                if std::str::from_utf8(&e.path).is_ok_and(relation) {
                    d.files += 1;
                    d.bytes += e.size;
                }
            }
        }
    }
    follow(&mut left_out, &wanted, copies)?;
    let restored = there.iter().filter(|oid| !left_out.contains_key(oid));
    Ok(Selection {
        databases: restored.map(|oid| Chosen { oid: *oid, name: name(*oid) }).collect(),
        left_out: left_out.into_values().collect(),
    })
}

/// What replay makes of a database that is left out is no better, and what it makes of a whole one is
/// whole.
fn follow(
    left_out: &mut BTreeMap<u32, LeftOut>,
    wanted: &BTreeSet<u32>,
    copies: &[CopiedDatabase],
) -> Result<()> {
    for c in copies.iter().filter(|c| c.database != c.source) {
        let Some(source) = left_out.get(&c.source) else {
            left_out.remove(&c.database);
            continue;
        };
        if wanted.contains(&c.database) {
            return Err(EngineError::refused(
                format!(
                    "recovery makes database {} again, at {}, as a copy of {}, which is left out",
                    c.database,
                    c.lsn,
                    label(c.source, source.name.as_deref())
                ),
                format!("name that one as well: --only-database {}", c.source),
            ));
        }
        left_out.entry(c.database).or_insert(LeftOut {
            oid: c.database,
            name: None,
            files: 0,
            bytes: 0,
            copied_from: Some(c.source),
        });
    }
    Ok(())
}

/// The OIDs that are meant.
fn resolve(asked: &[String], names: &BTreeMap<u32, &str>, there: &BTreeSet<u32>) -> Result<BTreeSet<u32>> {
    let mut wanted = BTreeSet::new();
    for a in asked {
        let by_name = names.iter().find(|(_, n)| *n == a).map(|(oid, _)| *oid);
        let oid = by_name.or_else(|| a.parse().ok()).filter(|oid| there.contains(oid));
        wanted.insert(oid.ok_or_else(|| {
            let known: Vec<String> = there.iter().map(|o| label(*o, names.get(o).copied())).collect();
            let known = known.join(", ");
            let hint = if names.is_empty() {
                format!("the point does not record names, choose by oid (`select oid, datname from pg_database`): {known}")
            } else {
                format!("it has {known}; one that was made after the point comes with the wal")
            };
            EngineError::not_found(format!("the point has no database `{a}`"), hint)
        })?);
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::Lsn;

    fn out(oid: u32, name: &str) -> LeftOut {
        LeftOut { oid, name: Some(name.into()), files: 1, bytes: 8192, copied_from: None }
    }

    #[test]
    fn only_relations_of_what_is_left_out_are_hollow() {
        let s = Selection { databases: vec![], left_out: vec![out(16390, "a\"b")] };
        for hollow in ["base/16390/1259", "base/16390/1259_fsm", "pg_tblspc/16400/PG_15_202209061/16390/5.1"]
        {
            assert_eq!(s.treat(hollow.as_bytes()), Treat::Hollow, "{hollow}");
        }
        for whole in [
            "base/16390/pg_filenode.map",
            "base/16391/1259",
            "base/16391/PG_VERSION",
            "global/1262",
            "PG_VERSION",
            "pg_xact/0000",
            "16390/1259",
            "pg_tblspc/16390/PG_15_202209061/16400/5",
        ] {
            assert_eq!(s.treat(whole.as_bytes()), Treat::Whole, "{whole}");
        }
        for marked in ["base/16390/PG_VERSION", "pg_tblspc/16400/PG_15_202209061/16390/PG_VERSION"] {
            let Treat::Mark(text) = s.treat(marked.as_bytes()) else { panic!("{marked}") };
            assert!(!text.starts_with(|c: char| c.is_ascii_digit()), "{text}");
            assert!(text.contains("drop database \"a\"\"b\";"), "{text}");
        }
    }

    #[test]
    fn names_come_before_oids() {
        let names = BTreeMap::from([(5, "postgres"), (16390, "16391"), (16391, "b")]);
        let there = BTreeSet::from([5, 16390, 16391, 16392]);
        let ask = |a: &str| resolve(&[a.into()], &names, &there).map(|w| w.into_iter().collect::<Vec<_>>());
        assert_eq!(ask("16391").unwrap(), [16390]);
        assert_eq!(ask("b").unwrap(), [16391]);
        assert_eq!(ask("16392").unwrap(), [16392]);
        for missing in ["B", "16393", ""] {
            assert!(matches!(ask(missing), Err(EngineError::NotFound { .. })), "{missing}");
        }
    }

    #[test]
    fn a_point_without_names_goes_by_oids() {
        let there = BTreeSet::from([5, 16390]);
        let ask = |a: &str| resolve(&[a.into()], &BTreeMap::new(), &there);
        assert_eq!(ask("16390").unwrap(), BTreeSet::from([16390]));
        let Err(EngineError::NotFound { hint, .. }) = ask("orders") else { panic!("it was found") };
        assert!(hint.contains("by oid") && hint.contains("oid 16390"), "{hint}");
    }

    #[test]
    fn copies_of_what_is_left_out_are_left_out() {
        let copy = |database, source| CopiedDatabase { database, source, lsn: Lsn(1) };
        let mut left = BTreeMap::from([(20000, out(20000, "x"))]);
        let wanted = BTreeSet::from([20001]);
        // A move to another tablespace; a copy; a copy of that; one of a whole database.
        let all = [copy(20000, 20000), copy(20005, 20000), copy(20006, 20005), copy(20007, 20001)];
        follow(&mut left, &wanted, &all).unwrap();
        assert_eq!(left.keys().copied().collect::<Vec<_>>(), [20000, 20005, 20006]);
        assert_eq!(left[&20006].copied_from, Some(20005));
        assert!(follow(&mut left, &wanted, &[copy(20001, 20006)]).is_err());
        // It was made while the backup ran, and replay makes it again.
        follow(&mut left, &wanted, &[copy(20000, 1)]).unwrap();
        assert!(!left.contains_key(&20000));
    }
}
