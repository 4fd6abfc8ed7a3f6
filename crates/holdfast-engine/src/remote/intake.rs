//! From the stream of a base backup to work for the threads of a copy: [`Intake`].
//!
//! It runs on a thread of its own, fed by the connection. Files become slots of leaves that grow
//! ([`crate::backup::collect`]) and, in pieces of [`TASK_BYTES`], tasks that carry their blocks. With a parent,
//! workers compare fingerprints and drop what is the same. Of an `INCREMENTAL.*` file only the blocks that it
//! brings are tasks; what it does not name stays as the parent has it, and what neither has is zeros, as
//! `pg_combinebackup` takes it.
//!
//! Files that do not belong into the manifest go elsewhere: `backup_label`, `tablespace_map` and `pg_control`
//! into the point, WAL to [`super::wal`].
//!
//! Memory: a piece of the file at hand, a short queue of tasks, the entries of the group at hand, and a CRC
//! and a length per file for the comparison with the server's manifest.

use super::manifest::Arrived;
use super::summaries::Limits;
use super::tree::{Found as InParent, Tree};
use super::unpack::{Member, MemberKind, Part, Unpacker};
use crate::backup::source::{Begin, Slot, group_of, live_of};
use crate::backup::worker::{FileJob, ReadTask, Shared};
use crate::error::{EngineError, Result};
use bytes::{Bytes, BytesMut};
use crossbeam_channel::Sender;
use holdfast_pg::PgError;
use holdfast_pg::replication::Piece;
use holdfast_pgformat::crc32c::Crc32c;
use holdfast_pgformat::incremental::{FIXED_LEN, IncrementalHeader, PREFIX};
use holdfast_pgformat::path::{DirAction, PathKind, classify, dir_action};
use holdfast_pgformat::relation::Fork;
use holdfast_vault::manifest::{Entry, EntryKind, flags};
use std::collections::{HashSet, VecDeque};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes of a file per task; a multiple of every block size.
const TASK_BYTES: usize = 1 << 20;
/// Small files are handed out together.
const BATCH_FILES: usize = 64;
const BATCH_BYTES: usize = 4 << 20;
/// No label, map or control file is longer.
const TEXT_LIMIT: u64 = 1 << 20;
/// A manifest has about 150 bytes for a file.
const MANIFEST_LIMIT: usize = 4 << 30;

/// What the connection hands over.
#[derive(Debug)]
pub enum Feed {
    Piece(Piece),
    /// The server said that all was sent.
    End,
}

/// Takes WAL as it comes.
pub trait WalSink {
    /// The control file: it comes before all WAL.
    fn control(&mut self, bytes: &[u8]) -> Result<()>;
    fn begin(&mut self, name: &str, size: u64) -> Result<()>;
    fn data(&mut self, bytes: &[u8]) -> Result<()>;
    fn end(&mut self) -> Result<()>;
}

/// What came besides the files.
#[derive(Debug, Default)]
pub struct Received {
    pub label: Vec<u8>,
    pub tablespace_map: Vec<u8>,
    pub control: Vec<u8>,
    pub manifest: Vec<u8>,
    pub arrived: Arrived,
    /// Owner of the server's files.
    pub owner: Option<(u32, u32)>,
    pub standby_signal: bool,
}

/// Where the bytes of a member go.
#[derive(Debug)]
enum Sink {
    Nowhere,
    Text(Text),
    Wal,
    /// The start of an `INCREMENTAL.*` file.
    Header {
        path: Vec<u8>,
        member: Member,
        bytes: Vec<u8>,
    },
    Blocks(Blocks),
}

#[derive(Debug, Clone, Copy)]
enum Text {
    Label,
    TablespaceMap,
    Control,
}

/// A file whose blocks are coming.
#[derive(Debug)]
struct Blocks {
    job: Arc<FileJob>,
    /// First block and bytes of each task, in the order of the stream.
    tasks: VecDeque<(u32, usize)>,
    buf: BytesMut,
}

#[derive(Debug)]
struct OpenGroup {
    name: Vec<u8>,
    leaf: u32,
    slots: u32,
}

#[derive(Debug)]
struct Current {
    /// As the server's manifest names it.
    path: Vec<u8>,
    size: u64,
    crc: Crc32c,
    sink: Sink,
}

/// The archive at hand.
#[derive(Debug)]
struct Archive {
    unpacker: Unpacker,
    /// `pg_tblspc/OID/`, or nothing.
    prefix: Vec<u8>,
    begun: bool,
}

/// The producer's side of a copy over the network.
pub struct Intake<'a> {
    block_size: u32,
    segment_blocks: u32,
    /// Of a backup that goes by the server's summaries.
    limits: Option<Limits>,
    /// Permissions of the data directory itself, which no archive holds.
    root_mode: u32,
    tree: Option<Tree>,
    begin: Sender<Begin>,
    tasks: Sender<Vec<ReadTask>>,
    shared: &'a Shared,
    wal: &'a mut (dyn WalSink + Send),
    archive: Option<Archive>,
    in_manifest: bool,
    current: Option<Current>,
    top: OpenGroup,
    group: Option<OpenGroup>,
    sealed: HashSet<Vec<u8>>,
    next_leaf: u32,
    batch: Vec<ReadTask>,
    batch_bytes: usize,
    zeros: Bytes,
    out: Received,
}

impl std::fmt::Debug for Intake<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("limits", &self.limits.is_some()).finish_non_exhaustive()
    }
}

fn odd(what: impl Into<String>) -> EngineError {
    PgError::Protocol(what.into()).into()
}

fn gone() -> EngineError {
    EngineError::Cancelled
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

impl<'a> Intake<'a> {
    pub fn new(
        (block_size, segment_blocks): (u32, u32),
        (limits, root_mode): (Option<Limits>, u32),
        tree: Option<Tree>,
        (begin, tasks): (Sender<Begin>, Sender<Vec<ReadTask>>),
        shared: &'a Shared,
        wal: &'a mut (dyn WalSink + Send),
    ) -> Self {
        Intake {
            block_size,
            segment_blocks,
            limits,
            root_mode,
            tree,
            begin,
            tasks,
            shared,
            wal,
            archive: None,
            in_manifest: false,
            current: None,
            top: OpenGroup { name: Vec::new(), leaf: 0, slots: 0 },
            group: None,
            sealed: HashSet::new(),
            next_leaf: 1,
            batch: Vec::new(),
            batch_bytes: 0,
            zeros: Bytes::from(vec![0; TASK_BYTES]),
            out: Received::default(),
        }
    }

    /// Takes all that is fed. `Cancelled`: the feed broke off, and whoever fed knows why.
    pub fn run(mut self, mut feed: tokio::sync::mpsc::Receiver<Feed>) -> Result<Received> {
        self.tell(Begin::Grow { id: 0, group: Vec::new() })?;
        loop {
            if self.shared.stop.load(Ordering::Relaxed) || self.shared.monitor.cancelled() {
                return Err(EngineError::Cancelled);
            }
            match feed.blocking_recv() {
                None => return Err(EngineError::Cancelled),
                Some(Feed::End) => break,
                Some(Feed::Piece(Piece::Archive { name, location })) => self.archive(&name, &location)?,
                Some(Feed::Piece(Piece::Manifest)) => {
                    self.end_archive()?;
                    self.in_manifest = true;
                }
                Some(Feed::Piece(Piece::Data(bytes))) => self.data(bytes)?,
            }
        }
        if !self.in_manifest {
            return Err(odd("the backup has no manifest"));
        }
        self.finish()
    }

    fn tell(&self, b: Begin) -> Result<()> {
        self.begin.send(b).map_err(|_| gone())
    }

    fn archive(&mut self, name: &str, location: &str) -> Result<()> {
        self.end_archive()?;
        let prefix = match location {
            "" => Vec::new(),
            _ => {
                let oid = name.strip_suffix(".tar").and_then(|n| n.parse::<u32>().ok());
                let oid = oid.ok_or_else(|| odd(format!("an archive is called `{name}`")))?;
                format!("pg_tblspc/{oid}/").into_bytes()
            }
        };
        self.archive = Some(Archive { unpacker: Unpacker::default(), prefix, begun: false });
        Ok(())
    }

    fn end_archive(&mut self) -> Result<()> {
        match self.archive.take() {
            Some(a) if !a.unpacker.is_complete() => Err(odd("an archive of the backup has no end")),
            _ => Ok(()),
        }
    }

    fn data(&mut self, mut bytes: Bytes) -> Result<()> {
        if self.in_manifest {
            if self.out.manifest.len() + bytes.len() > MANIFEST_LIMIT {
                return Err(odd("the backup manifest has no end"));
            }
            self.out.manifest.extend_from_slice(&bytes);
            return Ok(());
        }
        loop {
            let Some(a) = &mut self.archive else { return Err(odd("content without an archive")) };
            match a.unpacker.next(&mut bytes).map_err(|e| odd(format!("an archive of the backup: {e}")))? {
                None => return Ok(()),
                Some(Part::Member(m)) => self.member(m)?,
                Some(Part::Data(d)) => self.content(d)?,
                Some(Part::End) => self.end_member()?,
            }
        }
    }

    fn member(&mut self, m: Member) -> Result<()> {
        let Some(a) = &mut self.archive else { return Err(odd("a member without an archive")) };
        let in_main = a.prefix.is_empty();
        let path = [a.prefix.as_slice(), &m.path].concat();
        let first = !std::mem::replace(&mut a.begun, true);
        if first && !in_main {
            let place = a.prefix.strip_suffix(b"/").unwrap_or_default().to_vec();
            let dir = Member { path: place.clone(), kind: MemberKind::Dir, mode: 0o700, ..m.clone() };
            self.plain(place, &dir, EntryKind::Dir)?;
        }
        let text = lossy(&path);
        match m.kind {
            // The server makes them up; a walk does not go in there either.
            MemberKind::Dir if text.starts_with("pg_wal/") => Ok(()),
            MemberKind::Dir => match dir_action(&text) {
                DirAction::Skip => Ok(()),
                _ => self.plain(path, &m, EntryKind::Dir),
            },
            // Tablespaces are known by their archives.
            MemberKind::Link if text.starts_with("pg_tblspc/") => Ok(()),
            MemberKind::Link => Err(odd(format!("`{text}` is a link"))),
            MemberKind::File => {
                let sink = self.sink(&path, &text, &m)?;
                self.current = Some(Current { path, size: 0, crc: Crc32c::new(), sink });
                Ok(())
            }
        }
    }

    /// Where the content of a file goes.
    fn sink(&mut self, path: &[u8], text: &str, m: &Member) -> Result<Sink> {
        let short = |t| match m.size <= TEXT_LIMIT {
            true => Ok(Sink::Text(t)),
            false => Err(odd(format!("`{text}` has {} bytes", m.size))),
        };
        match text {
            "backup_label" => return short(Text::Label),
            "tablespace_map" => return short(Text::TablespaceMap),
            "global/pg_control" => return short(Text::Control),
            "standby.signal" => self.out.standby_signal = true,
            "PG_VERSION" => self.out.owner = Some((m.uid, m.gid)),
            _ => {}
        }
        if let Some(name) = text.strip_prefix("pg_wal/") {
            return match name.contains('/') {
                true => Ok(Sink::Nowhere),
                false => {
                    self.wal.begin(name, m.size)?;
                    Ok(Sink::Wal)
                }
            };
        }
        let (dir, name) = text.rsplit_once('/').unwrap_or(("", text));
        if self.limits.is_some()
            && let Some(real) = name.strip_prefix(PREFIX)
        {
            let path = format!("{dir}/{real}").into_bytes();
            return Ok(Sink::Header { path, member: m.clone(), bytes: Vec::new() });
        }
        if !classify(text).is_copied() {
            return Ok(Sink::Nowhere);
        }
        self.whole(path.to_vec(), m)
    }

    fn content(&mut self, bytes: Bytes) -> Result<()> {
        let Some(mut c) = self.current.take() else { return Err(odd("content without a file")) };
        c.crc = c.crc.update(&bytes);
        c.size += bytes.len() as u64;
        self.shared.monitor.advance(bytes.len() as u64);
        self.shared.read_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        c.sink = self.take(c.sink, bytes)?;
        self.current = Some(c);
        Ok(())
    }

    fn take(&mut self, sink: Sink, bytes: Bytes) -> Result<Sink> {
        Ok(match sink {
            Sink::Nowhere => Sink::Nowhere,
            Sink::Wal => {
                self.wal.data(&bytes)?;
                Sink::Wal
            }
            Sink::Text(t) => {
                let into = match t {
                    Text::Label => &mut self.out.label,
                    Text::TablespaceMap => &mut self.out.tablespace_map,
                    Text::Control => &mut self.out.control,
                };
                into.extend_from_slice(&bytes);
                Sink::Text(t)
            }
            Sink::Header { path, member, bytes: mut head } => {
                head.extend_from_slice(&bytes);
                if head.len() < FIXED_LEN {
                    return Ok(Sink::Header { path, member, bytes: head });
                }
                let wrong = |e: holdfast_pgformat::incremental::IncrementalError| {
                    odd(format!("`{PREFIX}` of `{}`: {e}", lossy(&path)))
                };
                let len =
                    IncrementalHeader::len(&head, self.block_size, self.segment_blocks).map_err(wrong)?;
                if head.len() < len {
                    return Ok(Sink::Header { path, member, bytes: head });
                }
                let h =
                    IncrementalHeader::parse(&head, self.block_size, self.segment_blocks).map_err(wrong)?;
                let should = len as u64 + h.blocks.len() as u64 * u64::from(self.block_size);
                if member.size != should {
                    return Err(odd(format!("`{PREFIX}` of `{}` has another length", lossy(&path))));
                }
                let rest = Bytes::from(head).slice(len..);
                let sink = self.partial(path, &member, &h)?;
                if rest.is_empty() { sink } else { self.take(sink, rest)? }
            }
            Sink::Blocks(mut b) => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    let Some((first, want)) = b.tasks.front().copied() else {
                        return Err(odd(format!("`{}` is longer than announced", b.job.name)));
                    };
                    let n = (want - b.buf.len()).min(rest.len());
                    b.buf.extend_from_slice(&rest.split_to(n));
                    if b.buf.len() == want {
                        b.tasks.pop_front();
                        let data = std::mem::take(&mut b.buf).freeze();
                        self.task(&b.job, first, data)?;
                        // A piece of this size follows: one allocation for it.
                        if let Some((_, next)) = b.tasks.front() {
                            b.buf.reserve(*next);
                        }
                    }
                }
                Sink::Blocks(b)
            }
        })
    }

    fn end_member(&mut self) -> Result<()> {
        let Some(c) = self.current.take() else { return Err(odd("the end of no file")) };
        match &c.sink {
            Sink::Wal => self.wal.end()?,
            Sink::Text(Text::Control) => self.wal.control(&self.out.control)?,
            Sink::Header { .. } => return Err(odd(format!("`{}` has no header", lossy(&c.path)))),
            Sink::Blocks(b) if !b.tasks.is_empty() => {
                return Err(odd(format!("`{}` is shorter than announced", b.job.name)));
            }
            _ => {}
        }
        if self.out.arrived.insert(c.path.clone(), (c.size, c.crc.value())).is_some() {
            return Err(odd(format!("`{}` came twice", lossy(&c.path))));
        }
        Ok(())
    }

    fn task(&mut self, job: &Arc<FileJob>, first: u32, data: Bytes) -> Result<()> {
        self.batch_bytes += data.len();
        let count = (data.len() as u64).div_ceil(self.block_size.into()) as u32;
        self.batch.push(ReadTask { file: job.clone(), first, count, data: Some(data) });
        if self.batch.len() >= BATCH_FILES || self.batch_bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() { Ok(()) } else { self.tasks.send(batch).map_err(|_| gone()) }
    }

    /// Leaf and slot for a path; its group is begun, and the one before it ended, if need be.
    fn place(&mut self, path: &[u8]) -> Result<(u32, u32, Vec<u8>)> {
        let dir = Path::new(std::ffi::OsStr::from_bytes(path)).parent().unwrap_or(Path::new(""));
        let name = group_of(dir).as_os_str().as_bytes().to_vec();
        if !name.is_empty() && self.group.as_ref().is_none_or(|g| g.name != name) {
            self.end_group()?;
            if self.sealed.contains(&name) {
                return Err(odd(format!("files of `{}` come in two parts", lossy(&name))));
            }
            let leaf = self.next_leaf;
            self.next_leaf += 1;
            self.tell(Begin::Grow { id: leaf, group: name.clone() })?;
            self.group = Some(OpenGroup { name: name.clone(), leaf, slots: 0 });
        }
        let g = match &mut self.group {
            Some(g) if !name.is_empty() => g,
            _ => &mut self.top,
        };
        let slot = g.slots;
        g.slots += 1;
        Ok((g.leaf, slot, name))
    }

    fn end_group(&mut self) -> Result<()> {
        let Some(g) = self.group.take() else { return Ok(()) };
        self.seal(&g)?;
        self.sealed.insert(g.name);
        Ok(())
    }

    fn seal(&mut self, g: &OpenGroup) -> Result<()> {
        let cuts = self.tree.as_ref().map(|t| t.cuts(&g.name)).unwrap_or_default();
        if let Some(t) = &mut self.tree {
            t.forget(&g.name);
        }
        self.tell(Begin::Seal { leaf: g.leaf, cuts })
    }

    fn finish(mut self) -> Result<Received> {
        let (uid, gid) = self.out.owner.unwrap_or((0, 0));
        let root = Member {
            path: Vec::new(),
            kind: MemberKind::Dir,
            mode: self.root_mode,
            uid,
            gid,
            size: 0,
            mtime: 0,
        };
        self.plain(Vec::new(), &root, EntryKind::Dir)?;
        self.flush()?;
        self.end_group()?;
        let top = std::mem::replace(&mut self.top, OpenGroup { name: Vec::new(), leaf: 0, slots: 0 });
        self.seal(&top)?;
        self.tell(Begin::End)?;
        Ok(self.out)
    }

    fn entry(&self, path: Vec<u8>, m: &Member, kind: EntryKind, size: u64) -> Entry {
        let is_file = kind == EntryKind::File;
        let relation = is_file && classify(&lossy(&path)).relation().is_some();
        Entry {
            path,
            kind,
            flags: if relation { flags::RELATION } else { 0 },
            mode: m.mode,
            uid: m.uid,
            gid: m.gid,
            size,
            mtime_ns: if is_file { m.mtime.saturating_mul(1_000_000_000) } else { 0 },
            // Nobody told: a later run on the server's own host takes nothing over by its times.
            ctime_ns: 0,
            inode: 0,
            link: Vec::new(),
            damaged: Vec::new(),
            layers: Vec::new(),
        }
    }

    /// The parent's entry of a path.
    fn in_parent(
        &mut self,
        group: &[u8],
        path: &[u8],
    ) -> Result<Option<(Arc<holdfast_vault::manifest::Leaf>, Entry)>> {
        match &mut self.tree {
            Some(t) => t.entry(group, path),
            None => Ok(None),
        }
    }

    /// A directory or an empty file.
    fn plain(&mut self, path: Vec<u8>, m: &Member, kind: EntryKind) -> Result<()> {
        let (leaf, _, group) = self.place(&path)?;
        let entry = self.entry(path, m, kind, 0);
        let before = self.in_parent(&group, &entry.path)?;
        let same = before.is_some_and(|(_, p)| p == entry);
        self.tell(Begin::Add { leaf, slot: Slot::Plain(entry), same })
    }

    /// A file that comes as a whole.
    fn whole(&mut self, path: Vec<u8>, m: &Member) -> Result<Sink> {
        if m.size == 0 {
            self.plain(path, m, EntryKind::File)?;
            return Ok(Sink::Nowhere);
        }
        let bs = self.block_size as usize;
        let per_task = TASK_BYTES.next_multiple_of(bs);
        let mut tasks = VecDeque::new();
        let mut at = 0;
        while at < m.size {
            let n = (m.size - at).min(per_task as u64);
            let first = u32::try_from(at / bs as u64).map_err(|_| odd("a file is too long"))?;
            tasks.push_back((first, n as usize));
            at += n;
        }
        let (leaf, slot, group) = self.place(&path)?;
        let entry = self.entry(path, m, EntryKind::File, m.size);
        let before = match self.in_parent(&group, &entry.path)? {
            Some((l, e)) => self.tree.as_mut().map(|t| t.file(&l, &e)).transpose()?.flatten(),
            None => None,
        };
        let job = self.begin_file(leaf, slot, entry, tasks.len(), before)?;
        let buf = BytesMut::with_capacity(tasks.front().map_or(0, |t| t.1));
        Ok(Sink::Blocks(Blocks { job, tasks, buf }))
    }

    /// A file of which the server sends some blocks.
    fn partial(&mut self, path: Vec<u8>, m: &Member, h: &IncrementalHeader) -> Result<Sink> {
        let bs = self.block_size;
        let blocks = h.file_blocks();
        let (leaf, slot, group) = self.place(&path)?;
        let before = match self.in_parent(&group, &path)? {
            Some((l, e)) => self.tree.as_mut().map(|t| t.file(&l, &e)).transpose()?.flatten(),
            None => None,
        };
        let Some(before) = before else {
            return Err(odd(format!("`{}` came in part, and the parent does not have it", lossy(&path))));
        };
        let entry = self.entry(path, m, EntryKind::File, u64::from(blocks) * u64::from(bs));
        // Only main forks were named to the server.
        let limit = match (classify(&lossy(&entry.path)), &self.limits) {
            (PathKind::RelationFork(r), Some(l)) if r.fork == Fork::Main => {
                l.of_file(&r, self.segment_blocks)
            }
            _ => return Err(odd(format!("`{}` came in part, and was not asked for so", lossy(&entry.path)))),
        };
        let in_parent = u32::try_from(before.file.size / u64::from(bs)).unwrap_or(u32::MAX);
        let from_parent = h.truncation_blocks.min(in_parent).min(limit);
        let runs = h.runs();
        let zeros = holes(&runs, from_parent, blocks);
        let per_task = (TASK_BYTES / bs as usize).max(1) as u32;
        let split = |runs: &[(u32, u32)]| -> Vec<(u32, u32)> {
            let parts = runs.iter().flat_map(|(first, n)| {
                (0..n.div_ceil(per_task)).map(move |i| (first + i * per_task, per_task.min(n - i * per_task)))
            });
            parts.collect()
        };
        let (sent, made) = (split(&runs), split(&zeros));
        if sent.is_empty() && made.is_empty() {
            let entry =
                Entry { flags: before.refs.entry.flags, layers: before.refs.entry.layers.clone(), ..entry };
            let same = entry == before.refs.entry;
            let (flat, _) = holdfast_vault::map::flatten(&[&before.flat], &[], blocks, bs);
            let live = live_of(&flat, entry.size, bs);
            let slot = match blocks {
                0 => Slot::Plain(Entry { layers: Vec::new(), ..entry }),
                _ => Slot::Reuse { entry, chunks: before.refs.chunks.clone(), live },
            };
            self.tell(Begin::Add { leaf, slot, same })?;
            return Ok(Sink::Nowhere);
        }
        let job = self.begin_file(leaf, slot, entry, sent.len() + made.len(), Some(before))?;
        for (first, n) in made {
            let data = self.zeros.slice(..n as usize * bs as usize);
            self.task(&job, first, data)?;
        }
        let tasks = sent.iter().map(|(first, n)| (*first, *n as usize * bs as usize)).collect();
        Ok(Sink::Blocks(Blocks { job, tasks, buf: BytesMut::new() }))
    }

    fn begin_file(
        &mut self,
        leaf: u32,
        slot: u32,
        entry: Entry,
        tasks: usize,
        before: Option<InParent>,
    ) -> Result<Arc<FileJob>> {
        let name = lossy(&entry.path);
        let relation = match classify(&name) {
            PathKind::RelationFork(r) => Some(r.segment_no.wrapping_mul(self.segment_blocks)),
            _ => None,
        };
        let blocks = entry.blocks(self.block_size) as u32;
        // Only what passes by as a whole can be stored anew.
        let rewrite = match (&before, self.tree.as_mut().and_then(|t| t.wear.as_mut())) {
            (Some(b), Some(wear)) if self.limits.is_none() => wear.take(&b.flat, blocks),
            _ => Vec::new(),
        };
        let job = Arc::new(FileJob {
            leaf,
            slot,
            path: PathBuf::from(std::ffi::OsStr::from_bytes(&entry.path)),
            name,
            first_block_of_relation: relation,
            size: entry.size,
            parent: before.as_ref().map(|b| b.file.clone()),
            told: None,
            rewrite,
        });
        let tasks = u32::try_from(tasks).map_err(|_| odd("a file is too long"))?;
        self.tell(Begin::Add { leaf, slot: Slot::Read { entry, tasks }, same: false })?;
        if let Some(b) = before {
            self.tell(Begin::Parent { leaf, slot, file: b.file, refs: b.refs })?;
        }
        Ok(job)
    }
}

/// Blocks from `from` up to `end` that are in none of `runs`, which ascend.
fn holes(runs: &[(u32, u32)], from: u32, end: u32) -> Vec<(u32, u32)> {
    let mut out = Vec::new();
    let mut at = from;
    for (first, count) in runs {
        if *first > at {
            let stop = (*first).min(end);
            if stop > at {
                out.push((at, stop - at));
            }
        }
        at = at.max(first.saturating_add(*count));
    }
    if end > at {
        out.push((at, end - at));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::holes;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn holes_are_what_no_run_has(blocks in proptest::collection::btree_set(0u32..64, 0..40), from in 0u32..64, end in 0u32..64) {
            let mut runs: Vec<(u32, u32)> = Vec::new();
            for b in &blocks {
                match runs.last_mut() {
                    Some((f, n)) if *f + *n == *b => *n += 1,
                    _ => runs.push((*b, 1)),
                }
            }
            let got: Vec<u32> = holes(&runs, from, end).into_iter().flat_map(|(f, n)| f..f + n).collect();
            let want: Vec<u32> = (from..end).filter(|b| !blocks.contains(b)).collect();
            prop_assert_eq!(got, want);
        }
    }
}
