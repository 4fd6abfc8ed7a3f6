//! A data directory on disk: pg_control, and the list of what a backup copies.
//!
//! The walk reads names and `lstat`s only. Links are read once: `pg_tblspc/<oid>` leads into a
//! tablespace, `pg_wal` may lead elsewhere (its content is never copied); any other link is recorded
//! as a link and not followed. A tablespace inside the data directory is met once, through its link.
//! Which relations are unlogged is decided per directory from the same listing that names the files.

use crate::error::{PgError, Result};
use holdfast_pgformat::control::ControlFile;
use holdfast_pgformat::path::{DirAction, PathKind, classify, dir_action, unlogged_set};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Reads pg_control; a torn read (bad CRC) is tried again for two seconds (trap 17).
pub fn read_control(data_dir: &Path) -> Result<(Vec<u8>, ControlFile)> {
    let path = data_dir.join("global/pg_control");
    let mut last = None;
    for _ in 0..40 {
        let bytes = std::fs::read(&path).map_err(PgError::io("read", &path))?;
        match ControlFile::parse(&bytes) {
            Ok(c) => return Ok((bytes, c)),
            Err(e) if e.retryable() => last = Some(e),
            Err(e) => return Err(PgError::BadFile { path, why: e.to_string() }),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let why = last.map(|e| e.to_string()).unwrap_or_default();
    Err(PgError::BadFile { path, why })
}

/// What an item of the walk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemKind {
    Dir,
    Link,
    /// A regular file and what its name makes it.
    File(PathKind),
}

/// Something that belongs in a backup.
#[derive(Debug, Clone)]
pub struct Item {
    /// Relative to the data directory, through `pg_tblspc/<oid>/…` for tablespaces.
    pub path: PathBuf,
    pub kind: ItemKind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    pub inode: u64,
    pub link: OsString,
}

/// A link in pg_tblspc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablespaceLink {
    pub oid: u32,
    /// `None`: an in-place tablespace, a directory right in pg_tblspc.
    pub location: Option<PathBuf>,
}

/// What the top of a data directory shows before the walk.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    pub tablespaces: Vec<TablespaceLink>,
    pub wal_link: Option<PathBuf>,
}

impl Layout {
    pub fn read(data_dir: &Path) -> Result<Self> {
        let mut layout = Layout::default();
        let wal = data_dir.join("pg_wal");
        layout.wal_link = std::fs::read_link(&wal).ok();
        let spc = data_dir.join("pg_tblspc");
        for e in list(&spc)? {
            let Some(oid) = e.name.to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
            let path = spc.join(&e.name);
            let location = if e.meta.is_symlink() {
                Some(std::fs::read_link(&path).map_err(PgError::io("read the link", &path))?)
            } else {
                None
            };
            layout.tablespaces.push(TablespaceLink { oid, location });
        }
        layout.tablespaces.sort_by_key(|t| t.oid);
        Ok(layout)
    }
}

struct Named {
    name: OsString,
    meta: std::fs::Metadata,
}

/// Names and lstats of a directory, sorted by name. What vanishes meanwhile is left out.
fn list(dir: &Path) -> Result<Vec<Named>> {
    let mut out = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        Ok(e) => e,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(out),
        Err(e) => return Err(PgError::io("list", dir)(e)),
    };
    for e in entries {
        let e = match e {
            Ok(e) => e,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(PgError::io("list", dir)(e)),
        };
        match e.metadata() {
            Ok(meta) => out.push(Named { name: e.file_name(), meta }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(err) => return Err(PgError::io("look up", e.path())(err)),
        }
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}

fn item(path: PathBuf, kind: ItemKind, m: &std::fs::Metadata) -> Item {
    Item {
        path,
        kind,
        mode: m.mode() & 0o7777,
        uid: m.uid(),
        gid: m.gid(),
        size: if matches!(kind, ItemKind::File(_)) { m.size() } else { 0 },
        mtime_ns: m.mtime().saturating_mul(1_000_000_000).saturating_add(m.mtime_nsec()),
        ctime_ns: m.ctime().saturating_mul(1_000_000_000).saturating_add(m.ctime_nsec()),
        inode: m.ino(),
        link: OsString::new(),
    }
}

/// Walks the data directory; `each` gets a directory's items together, sorted by name, parents first.
/// `pg_control` is not among them: the caller reads it last.
pub fn walk(data_dir: &Path, each: &mut dyn FnMut(Vec<Item>) -> Result<()>) -> Result<()> {
    let root = std::fs::metadata(data_dir).map_err(PgError::io("look up", data_dir))?;
    each(vec![item(PathBuf::new(), ItemKind::Dir, &root)])?;
    let inside = tablespaces_inside(data_dir)?;
    walk_dir(data_dir, Path::new(""), &inside, each)
}

/// Tablespaces that somebody put into the data directory itself, relative to it: their files are met
/// through pg_tblspc, and not a second time (trap 45; PostgreSQL warns of it and allows it).
fn tablespaces_inside(data_dir: &Path) -> Result<Vec<PathBuf>> {
    let Ok(root) = data_dir.canonicalize() else { return Ok(Vec::new()) };
    let locations = Layout::read(data_dir)?.tablespaces.into_iter().filter_map(|t| t.location);
    Ok(locations
        .filter_map(|l| Some(l.canonicalize().ok()?.strip_prefix(&root).ok()?.to_path_buf()))
        .filter(|l| !l.as_os_str().is_empty())
        .collect())
}

fn walk_dir(
    data_dir: &Path,
    dir: &Path,
    inside: &[PathBuf],
    each: &mut dyn FnMut(Vec<Item>) -> Result<()>,
) -> Result<()> {
    let full = data_dir.join(dir);
    let names = list(&full)?;
    let unlogged = unlogged_set(names.iter().filter_map(|n| n.name.to_str()));
    let mut items = Vec::new();
    let mut below = Vec::new();
    for Named { name, meta } in &names {
        // A restore's own marker, left by one that was killed at its very last step.
        if name == ".holdfast-restore-in-progress" {
            continue;
        }
        let path = dir.join(name);
        // Names that are not UTF-8 are nothing that the server made; they are files like any other.
        let text = path.to_string_lossy();
        let in_tblspc = dir == Path::new("pg_tblspc");
        // Both of these links stand for directories.
        let emptied = dir_action(&text) == DirAction::KeepEmpty && full.join(name).is_dir();
        let is_dir = meta.is_dir() || (meta.is_symlink() && (in_tblspc || text == "pg_wal" || emptied));
        if is_dir {
            match dir_action(&text) {
                _ if inside.contains(&path) => {
                    items.push(item(path, ItemKind::Dir, &dir_meta(&full.join(name), meta)?));
                }
                DirAction::Skip => continue,
                DirAction::KeepEmpty => {
                    items.push(item(path, ItemKind::Dir, &dir_meta(&full.join(name), meta)?));
                }
                DirAction::Descend => {
                    items.push(item(path.clone(), ItemKind::Dir, &dir_meta(&full.join(name), meta)?));
                    below.push(path);
                }
            }
        } else if meta.is_symlink() {
            refuse_moved(&text, &full.join(name))?;
            let link =
                std::fs::read_link(full.join(name)).map_err(PgError::io("read the link", full.join(name)))?;
            let mut i = item(path, ItemKind::Link, meta);
            i.link = OsString::from_vec(link.as_os_str().as_bytes().to_vec());
            items.push(i);
        } else if meta.is_file() {
            let kind = classify(&text);
            let unlogged = kind.relation().is_some_and(|r| r.is_unlogged_data(&unlogged));
            if !kind.is_copied() || unlogged || kind == PathKind::ControlFile {
                continue;
            }
            items.push(item(path, ItemKind::File(kind), meta));
        }
        // Sockets, pipes and devices are nothing that a restore could bring back.
    }
    each(items)?;
    for b in below {
        walk_dir(data_dir, &b, inside, each)?;
    }
    Ok(())
}

/// A part of the database that somebody moved behind a link of his own would not be in the backup, and
/// a copy on this host would write to the original. (Tablespaces and pg_wal are links by design.)
fn refuse_moved(path: &str, full: &Path) -> Result<()> {
    const PARTS: [&str; 9] = [
        "base",
        "global",
        "pg_commit_ts",
        "pg_logical",
        "pg_multixact",
        "pg_stat",
        "pg_tblspc",
        "pg_twophase",
        "pg_xact",
    ];
    let first = path.split('/').next().unwrap_or(path);
    if PARTS.contains(&first) && full.exists() {
        return Err(PgError::Refused {
            what: format!("`{}` is a symbolic link, and its content would not be backed up", full.display()),
            hint: "move it back into the data directory; use a tablespace to put data elsewhere".into(),
        });
    }
    Ok(())
}

/// The directory behind a link, if it is one.
fn dir_meta(path: &Path, meta: &std::fs::Metadata) -> Result<std::fs::Metadata> {
    if meta.is_symlink() {
        return std::fs::metadata(path).map_err(PgError::io("follow the link", path));
    }
    Ok(meta.clone())
}

/// A data directory as an open file would be made: who owns it, for children and restored files.
pub fn owner(data_dir: &Path) -> Result<(u32, u32)> {
    let m = std::fs::metadata(data_dir).map_err(PgError::io("look up", data_dir))?;
    Ok((m.uid(), m.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_takes_what_belongs_and_nothing_else() {
        let t = tempfile::tempdir().unwrap();
        let d = t.path().join("data");
        let spc = t.path().join("spc");
        for dir in [
            "global",
            "base/5",
            "pg_wal/archive_status",
            "pg_tblspc",
            "pg_replslot/s1",
            "pg_xact",
            "base/pgsql_tmp",
        ] {
            std::fs::create_dir_all(d.join(dir)).unwrap();
        }
        std::fs::create_dir_all(spc.join("PG_15_202209061/5")).unwrap();
        std::os::unix::fs::symlink(&spc, d.join("pg_tblspc/16400")).unwrap();
        std::os::unix::fs::symlink("/nowhere", d.join("dangling")).unwrap();
        for f in [
            "PG_VERSION",
            "postmaster.pid",
            "backup_label",
            "global/pg_control",
            "global/1262",
            "base/5/1247",
            "base/5/1247.1",
            "base/5/t3_500",
            "base/5/600",
            "base/5/600_init",
            "base/5/600_fsm",
            "base/5/pg_internal.init",
            "pg_wal/000000010000000000000001",
            "pg_replslot/s1/state",
            "pg_xact/0000",
            "base/pgsql_tmp/pgsql_tmp1.0",
            "pg_tblspc/16400/PG_15_202209061/5/700",
            "my.conf",
        ] {
            std::fs::write(d.join(f), "x").unwrap();
        }
        let mut seen = Vec::new();
        walk(&d, &mut |items| {
            seen.extend(items.into_iter().map(|i| (i.path.to_string_lossy().into_owned(), i.kind)));
            Ok(())
        })
        .unwrap();
        let files: Vec<&str> =
            seen.iter().filter(|(_, k)| matches!(k, ItemKind::File(_))).map(|(p, _)| p.as_str()).collect();
        assert_eq!(
            files,
            [
                "PG_VERSION",
                "my.conf",
                "base/5/1247",
                "base/5/1247.1",
                "base/5/600_init",
                "global/1262",
                "pg_tblspc/16400/PG_15_202209061/5/700",
                "pg_xact/0000",
            ]
        );
        let dirs: Vec<&str> =
            seen.iter().filter(|(_, k)| *k == ItemKind::Dir).map(|(p, _)| p.as_str()).collect();
        assert!(
            dirs.contains(&"pg_replslot") && dirs.contains(&"pg_wal") && dirs.contains(&"pg_tblspc/16400")
        );
        assert!(!dirs.contains(&"pg_replslot/s1") && !dirs.contains(&"base/pgsql_tmp"));
        assert!(seen.iter().any(|(p, k)| p == "dangling" && *k == ItemKind::Link));
        let layout = Layout::read(&d).unwrap();
        assert_eq!(layout.tablespaces, [TablespaceLink { oid: 16400, location: Some(spc) }]);
    }
}
