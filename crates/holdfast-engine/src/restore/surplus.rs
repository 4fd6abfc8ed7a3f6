//! What lies in an existing data directory and is not in the point: [`Surplus::walk`].
//!
//! The same walk counts for a plan and removes for `restore --delta`, so that what was announced is
//! what happens. It names, children before their directory,
//!
//! - files, links and directories that the point does not have, or has as something else,
//! - the content of directories that a backup keeps empty (slots, WAL, statistics in flight),
//! - `PG_<major>_<catalog>` of a tablespace that the directory links and the point does not have.
//!
//! It never leaves the directory but through the two kinds of links that PostgreSQL makes: into the
//! version directory of a tablespace, and through a linked `pg_wal`, where it names only what a server
//! puts there. Whatever else lies in those places belongs to someone else. `lost+found` of a file
//! system's root stays.
//!
//! Memory: the names of the point's largest (tablespace, database), a group of the manifest at a time.

use super::delta::tablespace_links;
use super::plan::{MARKER, TablespacePlan};
use crate::error::{EngineError, Result};
use holdfast_pgformat::walname::WalFileName;
use holdfast_vault::manifest::{Entry, EntryKind};
use holdfast_vault::reader::PointReader;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What the walk met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Seen {
    /// Files that are there, and their bytes: in the directory and in its tablespaces.
    pub files: u64,
    pub bytes: u64,
    /// Those of them that go.
    pub surplus_files: u64,
    pub surplus_bytes: u64,
}

/// What the point has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Want {
    File,
    Dir,
    Link(Vec<u8>),
}

impl Want {
    fn of(e: &Entry) -> Want {
        match e.kind {
            EntryKind::File => Want::File,
            EntryKind::Dir => Want::Dir,
            EntryKind::Link => Want::Link(e.link.clone()),
        }
    }
}

/// Called for everything that goes.
type Each<'a> = &'a mut dyn FnMut(&Path, &Metadata) -> Result<()>;

/// A walk over a directory that is to become a point.
pub struct Surplus<'a> {
    reader: &'a PointReader,
    rt: tokio::runtime::Handle,
    to: &'a Path,
    tablespaces: &'a [TablespacePlan],
    version_dir: &'a str,
    /// Relative: places in the directory where tablespaces of the point lie.
    inside: Vec<PathBuf>,
    rest: HashMap<Vec<u8>, Want>,
    group: (Vec<u8>, HashMap<Vec<u8>, Want>),
    seen: Seen,
}

impl std::fmt::Debug for Surplus<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surplus").field("to", &self.to).field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl<'a> Surplus<'a> {
    /// Not on a thread of the runtime: it waits for what it reads from the vault.
    pub fn new(
        reader: &'a PointReader,
        rt: tokio::runtime::Handle,
        to: &'a Path,
        tablespaces: &'a [TablespacePlan],
        version_dir: &'a str,
    ) -> Result<Self> {
        let real = |p: &Path| p.canonicalize().unwrap_or_else(|_| p.to_path_buf());
        let root = real(to);
        let inside = tablespaces
            .iter()
            .filter_map(|t| Some(real(&t.to).strip_prefix(&root).ok()?.to_path_buf()))
            .collect();
        let mut s = Surplus {
            reader,
            rt,
            to,
            tablespaces,
            version_dir,
            inside,
            rest: HashMap::new(),
            group: Default::default(),
            seen: Seen::default(),
        };
        s.rest = s.load(b"")?;
        Ok(s)
    }

    /// Names everything that goes to `each`.
    pub fn walk(mut self, each: Each<'_>) -> Result<Seen> {
        let links = tablespace_links(self.to)?;
        self.below(Path::new(""), self.to, each)?;
        for t in self.tablespaces {
            let version = t.to.join(self.version_dir);
            let rel = Path::new("pg_tblspc").join(t.oid.to_string()).join(self.version_dir);
            self.item(&rel, &version, each)?;
        }
        // One that the point does not have. Content first: the link is what makes it this directory's.
        for (oid, place) in links {
            if self.tablespaces.iter().any(|t| t.oid == oid) {
                continue;
            }
            let link = self.to.join("pg_tblspc").join(oid.to_string());
            if let Some(place) = place.filter(|p| !self.is_kept(p)) {
                self.all(&place.join(self.version_dir), each)?;
            }
            self.all(&link, each)?;
        }
        Ok(self.seen)
    }

    /// Walked as part of the point, or of the directory itself.
    fn is_kept(&self, place: &Path) -> bool {
        let same = |p: &Path| p.canonicalize().is_ok_and(|p| place.starts_with(&p) || p.starts_with(place));
        same(self.to) || self.tablespaces.iter().any(|t| same(&t.to))
    }

    fn load(&self, group: &[u8]) -> Result<HashMap<Vec<u8>, Want>> {
        let mut names = HashMap::new();
        for l in self.reader.root().groups.iter().filter(|g| g.name == group).flat_map(|g| &g.leaves) {
            let leaf = self.rt.block_on(self.reader.leaf(l))?;
            names.extend(leaf.entries.iter().map(|e| (e.path.clone(), Want::of(e))));
        }
        Ok(names)
    }

    /// What the point has at `rel`. A group is named by a directory, and has all that lies below it.
    fn want(&mut self, rel: &Path) -> Result<Option<Want>> {
        let key = rel.as_os_str().as_bytes();
        let above = rel.ancestors().skip(1).filter(|a| !a.as_os_str().is_empty());
        let groups = &self.reader.root().groups;
        let name = above.map(|a| a.as_os_str().as_bytes()).find(|a| groups.iter().any(|g| g.name == *a));
        let Some(name) = name else { return Ok(self.rest.get(key).cloned()) };
        if self.group.0 != name {
            self.group = (name.to_vec(), self.load(name)?);
        }
        Ok(self.group.1.get(key).cloned())
    }

    fn below(&mut self, rel: &Path, dir: &Path, each: Each<'_>) -> Result<()> {
        for path in list(dir)? {
            let Some(name) = path.file_name() else { continue };
            if rel.as_os_str().is_empty() && (name == MARKER || name == "lost+found") {
                continue;
            }
            let rel = rel.join(name);
            // Replaced by itself; and links to tablespaces have their own turn.
            let link = rel.parent() == Some(Path::new("pg_tblspc")) && path.is_symlink();
            if rel == Path::new("global/pg_control") || link && number(name).is_some() {
                continue;
            }
            // A directory where the point has a link.
            let in_place = rel.parent() == Some(Path::new("pg_tblspc"))
                && self.tablespaces.iter().any(|t| number(name) == Some(t.oid));
            if in_place { self.all(&path, each)? } else { self.item(&rel, &path, each)? }
        }
        Ok(())
    }

    /// One path: kept if the point has it as the same kind of thing.
    fn item(&mut self, rel: &Path, path: &Path, each: Each<'_>) -> Result<()> {
        let Some(meta) = look(path)? else { return Ok(()) };
        if rel == Path::new("pg_wal") && meta.is_symlink() && path.is_dir() {
            return self.linked_wal(path, each);
        }
        if meta.is_dir() && self.inside.iter().any(|i| i == rel) {
            return Ok(());
        }
        let want = match self.inside.iter().any(|i| i.starts_with(rel)) {
            true => Some(Want::Dir),
            false => self.want(rel)?,
        };
        match want {
            Some(Want::Dir) if meta.is_dir() => self.below(rel, path, each),
            Some(Want::File) if meta.is_file() => {
                self.count(&meta);
                Ok(())
            }
            Some(Want::Link(to)) if meta.is_symlink() => {
                let same = std::fs::read_link(path).is_ok_and(|l| l.as_os_str().as_bytes() == to);
                if same { Ok(()) } else { self.all(path, each) }
            }
            // A pg_wal that is a file system of its own.
            _ if rel == Path::new("pg_wal/lost+found") => Ok(()),
            _ => self.all(path, each),
        }
    }

    /// Only what a server makes there: the place may hold more than one cluster's.
    fn linked_wal(&mut self, link: &Path, each: Each<'_>) -> Result<()> {
        for path in list(link)? {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let made = ["archive_status", "summaries"].contains(&name)
                || name.starts_with("xlogtemp.")
                || name.starts_with("RECOVERY")
                || name.parse::<WalFileName>().is_ok();
            if made {
                self.all(&path, each)?;
            }
        }
        Ok(())
    }

    /// Everything at a path, children first, links unfollowed.
    fn all(&mut self, path: &Path, each: Each<'_>) -> Result<()> {
        let Some(meta) = look(path)? else { return Ok(()) };
        if meta.is_dir() {
            for p in list(path)? {
                self.all(&p, each)?;
            }
        } else {
            self.count(&meta);
            self.seen.surplus_files += 1;
            self.seen.surplus_bytes += if meta.is_file() { meta.len() } else { 0 };
        }
        each(path, &meta)
    }

    fn count(&mut self, meta: &Metadata) {
        self.seen.files += 1;
        self.seen.bytes += if meta.is_file() { meta.len() } else { 0 };
    }
}

/// Removes one thing that the walk named.
pub fn remove(path: &Path, meta: &Metadata) -> Result<()> {
    let done = if meta.is_dir() { std::fs::remove_dir(path) } else { std::fs::remove_file(path) };
    match done {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(EngineError::io("remove", path)(e)),
        _ => Ok(()),
    }
}

fn number(name: &OsStr) -> Option<u32> {
    name.to_str().and_then(|n| n.parse().ok())
}

fn look(path: &Path) -> Result<Option<Metadata>> {
    match std::fs::symlink_metadata(path) {
        Ok(m) => Ok(Some(m)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(EngineError::io("look up", path)(e)),
    }
}

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        // Another restore is at work here, and has just removed it: the lock will tell.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(EngineError::io("look into", dir))?,
    };
    entries.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>().map_err(EngineError::io("look into", dir))
}
