//! Buckets that keep versions: the oldest version of a name is its content (R2).
//!
//! Nothing in a vault is ever overwritten, so what came first under a name is what was written, and
//! whatever lies over it, a later version or a delete marker, was put there by somebody else: an
//! [`Over`], which [`crate::check`] reports.
//!
//! Whether the bucket keeps versions is learnt from the first answer that carries a version; a plain
//! bucket costs no request for it. Where versions are kept, a name's oldest one is looked up by one
//! listing of that name, or comes from a listing of its folder that was made anyway; all packs come from
//! one listing of theirs. What is known is kept as long as the [`Store`](super::Store) lives: an oldest
//! version changes only by being deleted, and names that were *not* there are looked for again.
//!
//! A role that may not list versions is [`State::Blind`]: it reads what a plain GET gives, as if nobody
//! had touched the bucket (seals and signatures cover the name all the same), and cannot sweep.

use super::Listed;
use super::s3::S3;
use super::xml::{Page, Version, Versioning};
use crate::error::{Result, StoreError, StoreErrorKind};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

/// What is known of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Unknown,
    /// It keeps no versions.
    Plain,
    /// It keeps them, or kept them once.
    Kept,
    /// It keeps them, and we may not see them.
    Blind,
}

/// Something that lies over an object.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Over {
    pub version: String,
    pub at: Timestamp,
    pub size: u64,
    /// A delete marker: plain readers see nothing. Otherwise other content.
    pub marker: bool,
}

/// The oldest version of a name, and what lies over it: markers, then versions, each newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oldest {
    pub id: String,
    pub size: u64,
    pub modified: Timestamp,
    pub over: Vec<Over>,
}

/// An object over which something lies.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Hidden {
    pub name: String,
    /// The version that counts.
    pub original: String,
    pub over: Vec<Over>,
}

/// More than so many names of undisturbed objects are not kept in memory.
const KEPT_NAMES: usize = 200_000;

#[derive(Debug, Default)]
struct Known {
    names: HashMap<String, Oldest>,
    /// Folders that were listed whole.
    whole: HashSet<String>,
    /// Packs that were written by us, and as which version.
    written: HashMap<String, String>,
}

/// The versions of a bucket.
#[derive(Debug)]
pub struct Versions {
    pub s3: S3,
    /// Before every name: `PREFIX/`, or nothing.
    prefix: String,
    state: Mutex<State>,
    /// Versions were seen: an answer that says otherwise later is a fault of the store, not news.
    proven: AtomicBool,
    known: Mutex<Known>,
    /// Whether the bucket knows locks.
    locks: tokio::sync::OnceCell<bool>,
    /// One listing of packs at a time: who comes second finds it done.
    listing: tokio::sync::Mutex<()>,
}

fn locked<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|e| e.into_inner())
}

/// The folder of all packs of the cluster that this name is a pack of.
fn packs_of(name: &str) -> Option<&str> {
    let rest = name.strip_suffix(".pack")?;
    let at = rest.rfind("/runs/")?;
    name.get(..at + "/runs".len())
}

impl Versions {
    pub fn new(s3: S3, prefix: &str) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Versions {
            s3,
            prefix,
            state: Mutex::new(State::Unknown),
            proven: AtomicBool::new(false),
            known: Mutex::default(),
            locks: tokio::sync::OnceCell::new(),
            listing: tokio::sync::Mutex::default(),
        }
    }

    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub fn state(&self) -> State {
        *locked(&self.state)
    }

    fn set(&self, s: State) {
        *locked(&self.state) = s;
    }

    /// Takes note of the version that an answer carried. True if the bucket keeps versions that we can see.
    pub async fn learn(&self, version: Option<&str>) -> Result<bool, StoreError> {
        match (self.state(), version) {
            (State::Kept, _) => return Ok(true),
            (State::Blind, _) => return Ok(false),
            (_, None) => {
                self.set(State::Plain);
                return Ok(false);
            }
            // Some say this of buckets that never kept any; and it is what they say of an object that was
            // there before.
            (State::Plain, Some("null")) => return Ok(false),
            (State::Unknown, Some("null")) => {}
            // The first listing tells whether we may see them.
            (State::Unknown | State::Plain, Some(_)) => {
                self.prove();
                self.set(State::Kept);
                return Ok(true);
            }
        }
        self.ask().await
    }

    /// Whether the bucket keeps versions that we can see; asks if nothing is known.
    pub async fn kept(&self) -> Result<bool, StoreError> {
        match self.state() {
            State::Kept => Ok(true),
            State::Plain | State::Blind => Ok(false),
            State::Unknown => self.ask().await,
        }
    }

    async fn ask(&self) -> Result<bool, StoreError> {
        let state = match self.s3.versioning().await {
            Ok(Versioning::Never) => State::Plain,
            Ok(Versioning::Enabled | Versioning::Suspended) => {
                self.prove();
                State::Kept
            }
            // Whoever may not ask may perhaps see; the first listing tells.
            Err(e) if e.kind == StoreErrorKind::Denied => State::Kept,
            Err(e) if matches!(e.kind, StoreErrorKind::Unsupported | StoreErrorKind::NotFound) => {
                State::Plain
            }
            Err(e) => return Err(e),
        };
        self.set(state);
        Ok(state == State::Kept)
    }

    fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// One page of versions; `from` is moved to where the next one begins, or to nothing.
    async fn turn(
        &self,
        prefix: &str,
        folders: bool,
        from: &mut Option<(String, Option<String>)>,
    ) -> Result<Page, StoreError> {
        let mut page = self.s3.versions(prefix, folders, from.as_ref()).await.map_err(|e| self.lost(e))?;
        if page.versions.iter().any(|v| v.id != "null") {
            self.prove();
        }
        if let (Some((key, id)), Some((was, before))) = (&page.next, &*from)
            && (key < was || key == was && id == before)
        {
            // A gateway that ignores where a page begins: its first page would pass for the whole.
            let (op, name, kind) = ("list the versions of", prefix.to_string(), StoreErrorKind::Transient);
            let source = Some("the listing does not get on".into());
            return Err(StoreError { op, name, kind, source });
        }
        *from = page.next.take();
        Ok(page)
    }

    /// Everything below `prefix` that has a version, by name. With `one` only what has that very name.
    async fn fetch(&self, prefix: &str, one: bool) -> Result<BTreeMap<String, Oldest>, StoreError> {
        let (key, mut from) = (self.key(prefix), None);
        let (mut versions, mut markers): (Vec<Version>, Vec<Version>) = Default::default();
        loop {
            let page = self.turn(&key, false, &mut from).await?;
            versions.extend(page.versions.into_iter().filter(|v| !one || v.key == key));
            markers.extend(page.markers.into_iter().filter(|v| !one || v.key == key));
            match &from {
                // A longer name sorts behind: of this one there is no more.
                Some((next, _)) if one && *next != key => break,
                None => break,
                Some(_) => {}
            }
        }
        let mut out: BTreeMap<String, Oldest> = BTreeMap::new();
        // What cannot be an original stands as one only where nothing else does.
        let (false_ones, versions): (Vec<Version>, Vec<Version>) =
            versions.into_iter().partition(|v| v.parts && !v.key.ends_with(".pack"));
        for v in versions {
            let Some(name) = v.key.strip_prefix(&self.prefix).map(str::to_string) else { continue };
            match out.get_mut(&name) {
                None => {
                    let oldest = Oldest { id: v.id, size: v.size, modified: v.modified, over: Vec::new() };
                    out.insert(name, oldest);
                }
                // They come newest first, so this one is older than all before.
                Some(o) => {
                    let newer = Oldest { id: v.id, size: v.size, modified: v.modified, over: Vec::new() };
                    let was = std::mem::replace(o, newer);
                    o.over = was.over;
                    o.over.push(Over { version: was.id, at: was.modified, size: was.size, marker: false });
                }
            }
        }
        for v in false_ones {
            let Some(name) = v.key.strip_prefix(&self.prefix).map(str::to_string) else { continue };
            let over = Over { version: v.id.clone(), at: v.modified, size: v.size, marker: false };
            match out.get_mut(&name) {
                Some(o) => o.over.push(over),
                None => {
                    let o = Oldest { id: v.id, size: v.size, modified: v.modified, over: Vec::new() };
                    out.insert(name, o);
                }
            }
        }
        for m in markers.into_iter().rev() {
            // A marker over nothing hides nothing.
            let Some(o) = m.key.strip_prefix(&self.prefix).and_then(|n| out.get_mut(n)) else { continue };
            o.over.insert(0, Over { version: m.id, at: m.modified, size: m.size, marker: true });
        }
        Ok(out)
    }

    /// Whether versions of this bucket can be locked. One request, once.
    pub async fn locks(&self) -> Result<bool, StoreError> {
        let asked = self.locks.get_or_try_init(|| async {
            match self.s3.lock_configuration().await {
                Ok(c) => Ok(c.is_some_and(|c| c.enabled)),
                // Who may not ask finds out by trying.
                Err(e) if e.kind == StoreErrorKind::Denied => Ok(true),
                Err(e) if e.kind == StoreErrorKind::Unsupported => Ok(false),
                Err(e) => Err(e),
            }
        });
        asked.await.copied()
    }

    /// A listing of versions failed: for good, if we may not list them, or if the gateway knows none.
    fn lost(&self, e: StoreError) -> StoreError {
        match e.kind {
            // To go on without versions would be to overlook what is hidden.
            _ if self.proven.load(Ordering::Relaxed) => {}
            StoreErrorKind::Denied => self.set(State::Blind),
            StoreErrorKind::Unsupported => self.set(State::Plain),
            _ => {}
        }
        e
    }

    /// What was seen of a name before.
    pub fn remembered(&self, name: &str) -> Option<Oldest> {
        locked(&self.known).names.get(name).cloned()
    }

    pub fn forget(&self, name: &str) {
        locked(&self.known).names.remove(name);
    }

    /// The oldest version of a name by a request of its own, whatever was seen before. One listing.
    pub async fn look_up(&self, name: &str) -> Result<Option<Oldest>, StoreError> {
        let found = self.fetch(name, true).await?.remove(name);
        let mut known = locked(&self.known);
        match &found {
            Some(o) => known.names.insert(name.to_string(), o.clone()),
            None => known.names.remove(name),
        };
        Ok(found)
    }

    /// The oldest version of a pack, from one listing of all packs of its cluster. `None`: it is no pack, or
    /// came later.
    pub async fn pack(&self, name: &str) -> Result<Option<Oldest>, StoreError> {
        let Some(folder) = packs_of(name) else { return Ok(None) };
        let _turn = self.listing.lock().await;
        if !locked(&self.known).whole.contains(folder) {
            let _ = self.list(folder).await?;
        }
        Ok(self.remembered(name))
    }

    /// Everything below `folder`, each by its oldest version.
    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let found = self.fetch(&prefix, false).await?;
        let mut known = locked(&self.known);
        known.names.retain(|name, _| !name.starts_with(&prefix));
        let mut out = Vec::with_capacity(found.len());
        for (name, o) in found {
            out.push(Listed { name: name.clone(), size: o.size, modified: o.modified });
            if !o.over.is_empty() || known.names.len() < KEPT_NAMES {
                known.names.insert(name, o);
            }
        }
        known.whole.insert(folder.to_string());
        Ok(out)
    }

    /// The first name below `folder` that sorts after `after`.
    pub async fn first_after(&self, folder: &str, after: &str) -> Result<Option<Listed>, StoreError> {
        let prefix = format!("{}/", self.key(folder));
        let begin = self.key(after).max(prefix.clone());
        let mut from = Some((begin.clone(), None));
        loop {
            let page = self.turn(&prefix, false, &mut from).await?;
            // Ceph begins with the marker itself.
            let later: BTreeSet<&str> = page.versions.iter().map(|v| v.key.as_str()).collect();
            for key in later.into_iter().filter(|key| *key > begin.as_str()) {
                let Some(name) = key.strip_prefix(&self.prefix) else { continue };
                // Its oldest version may be on another page. Gone meanwhile, the next one is asked for.
                if let Some(o) = self.look_up(name).await? {
                    return Ok(Some(Listed { name: name.to_string(), size: o.size, modified: o.modified }));
                }
            }
            if from.is_none() {
                return Ok(None);
            }
        }
    }

    /// Shows each name below `folder` after `after` and not after `until`, by its oldest version.
    pub async fn visit(
        &self,
        folder: &str,
        after: &str,
        until: Option<&str>,
        each: &mut (dyn FnMut(Listed) + Send),
    ) -> Result<(), StoreError> {
        let prefix = format!("{}/", self.key(folder));
        let begin = if after.is_empty() { prefix.clone() } else { self.key(after).max(prefix.clone()) };
        let mut from = Some((begin.clone(), None));
        // Versions of a name come newest first, perhaps over two pages.
        let mut last: Option<(Listed, bool)> = None;
        loop {
            let page = self.turn(&prefix, false, &mut from).await?;
            for v in page.versions.iter().filter(|v| v.key > begin) {
                let Some(name) = v.key.strip_prefix(&self.prefix) else { continue };
                if last.as_ref().is_some_and(|(l, _)| l.name != name)
                    && let Some((whole, _)) = last.take()
                {
                    each(whole);
                }
                if until.is_some_and(|u| name > u) {
                    return Ok(());
                }
                // As in `fetch`: what came in parts counts only where nothing else does.
                let doubtful = v.parts && !name.ends_with(".pack");
                if last.as_ref().is_none_or(|(_, was)| *was || !doubtful) {
                    let listed = Listed { name: name.to_string(), size: v.size, modified: v.modified };
                    last = Some((listed, doubtful));
                }
            }
            if from.is_none() {
                break;
            }
        }
        last.into_iter().for_each(|(l, _)| each(l));
        Ok(())
    }

    /// Objects directly in `folder`, each by its oldest version, and names of the folders there.
    pub async fn level(&self, folder: &str) -> Result<(Vec<Listed>, Vec<String>), StoreError> {
        let prefix = if folder.is_empty() { self.prefix.clone() } else { format!("{}/", self.key(folder)) };
        let (mut from, mut folders) = (None, Vec::new());
        let mut objects: BTreeMap<String, (Listed, bool)> = BTreeMap::new();
        loop {
            let page = self.turn(&prefix, true, &mut from).await?;
            let name = |p: &String| Some(p.strip_prefix(&prefix)?.trim_end_matches('/').to_string());
            folders.extend(page.folders.iter().filter_map(name).filter(|n| !n.is_empty()));
            for v in &page.versions {
                let Some(name) = v.key.strip_prefix(&self.prefix) else { continue };
                let doubtful = v.parts && !name.ends_with(".pack");
                if objects.get(name).is_none_or(|(_, was)| *was || !doubtful) {
                    let listed = Listed { name: name.to_string(), size: v.size, modified: v.modified };
                    objects.insert(name.to_string(), (listed, doubtful));
                }
            }
            if from.is_none() {
                break;
            }
        }
        folders.sort();
        folders.dedup();
        Ok((objects.into_values().map(|(l, _)| l).collect(), folders))
    }

    /// Names of the folders directly below `folder`, hidden ones as well.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.level(folder).await?.1)
    }

    pub fn wrote(&self, name: &str, id: &str) {
        locked(&self.known).written.insert(name.to_string(), id.to_string());
    }

    /// A name below `folder`, which was listed, that holds something else than what we wrote there.
    pub fn usurped(&self, folder: &str) -> Option<String> {
        let known = locked(&self.known);
        let mut below =
            known.names.iter().filter(|(n, _)| n.strip_prefix(folder).is_some_and(|r| r.starts_with('/')));
        let not_ours = |name: &str, o: &Oldest| match known.written.get(name) {
            Some(id) => *id != o.id,
            // A reply was lost: then only one version is surely ours.
            None => !o.over.is_empty(),
        };
        below.find(|(name, o)| not_ours(name, o)).map(|(name, _)| name.clone())
    }

    /// What was seen to lie over objects below `folder`, of all that was listed or looked up.
    pub fn hidden(&self, folder: &str) -> Vec<Hidden> {
        let below = |name: &str| {
            folder.is_empty() || name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
        };
        let known = locked(&self.known);
        let mut out: Vec<Hidden> = known
            .names
            .iter()
            .filter(|(name, o)| !o.over.is_empty() && below(name))
            .map(|(name, o)| Hidden { name: name.clone(), original: o.id.clone(), over: o.over.clone() })
            .collect();
        out.sort_by(|a, b| a.name.cmp(&b.name));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_are_listed_by_cluster() {
        let name = "db/a/7/runs/20261121T093512Z-k3f9q2/data-0001.pack";
        assert_eq!(packs_of(name), Some("db/a/7/runs"));
        assert_eq!(packs_of("db/runs/7/points/20261121T093512Z-k3f9q2.point"), None);
        assert_eq!(packs_of("db/a/7/wal/00000001/x.wal"), None);
    }
}
