//! What is under way at a provider: one file per operation, in `state-dir/operations`.
//!
//! A snapshot, a copy or a restore takes minutes to hours and costs money while it goes on. Each is a
//! sequence of steps, and the step that comes next is on disk before it is taken: [`Operation::advance`]
//! writes, syncs and renames, then returns. So whoever finds the file knows the names of everything that
//! may exist at the provider.
//!
//! ```text
//! state-dir/operations/20261122T031500Z-9f1c.json        under way
//! state-dir/operations/ended/20261122T031500Z-9f1c.json  its end, with what was found: evidence
//! ```
//!
//! Use: [`Journal::begin`] a new one or go on with what [`Journal::unfinished`] gives; `advance` before each
//! step; [`Operation::end`] at the end.
//!
//! Crash: a process that is killed leaves its file, and the same command goes on with it. A step is taken
//! at least once, so each must bear being taken twice: names are in the record before anything is created
//! under them, and "exists already", with the operation's own tag on it, is success.
//! An operation belongs to one process at a time: the run lock of its database ([`crate::state::State::lock_run`]),
//! of a verification its own ([`crate::state::State::lock_verify`]).

use crate::error::{EngineError, Result};
use crate::state::write_atomic;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;

/// The operations of this host.
#[derive(Debug, Clone)]
pub struct Journal {
    dir: PathBuf,
}

/// An operation as it stands on disk. `S` is the verb's own: its names and its next step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record<S> {
    pub version: u32,
    /// Also the value of the tag that everything gets that it creates.
    pub id: String,
    /// `backup`, `copy`, `restore` …
    pub verb: String,
    pub database: String,
    pub begun: Timestamp,
    pub updated: Timestamp,
    /// `None` while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    pub state: S,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    Succeeded,
    /// With the reason.
    Failed(String),
    /// What it had made was taken away again.
    RolledBack(String),
}

/// One operation, with its file.
#[derive(Debug)]
pub struct Operation<S> {
    journal: Journal,
    pub record: Record<S>,
}

/// What is common to all verbs: enough to list them and to find leftovers.
pub type Outline = Record<serde_json::Value>;

impl Journal {
    pub fn open(state_dir: &Path) -> Result<Self> {
        let dir = state_dir.join("operations");
        let ended = dir.join("ended");
        // The first look from a new host, on the worst day, needs no set-up.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&ended)
            .map_err(EngineError::io("make the directory", &ended))?;
        Ok(Journal { dir })
    }

    /// A new operation, written down before it does anything.
    pub fn begin<S: Serialize>(
        &self,
        verb: &str,
        database: &str,
        now: Timestamp,
        state: S,
    ) -> Result<Operation<S>> {
        let id = new_id(now);
        let (verb, database) = (verb.to_string(), database.to_string());
        let record =
            Record { version: VERSION, id, verb, database, begun: now, updated: now, ended: None, state };
        let op = Operation { journal: self.clone(), record };
        op.write()?;
        Ok(op)
    }

    /// What is under way, oldest first; of one verb and one database where they are given.
    ///
    /// # Errors
    /// A file that cannot be read or understood is an error: it may name things that cost money.
    pub fn unfinished(&self, verb: Option<&str>, database: Option<&str>) -> Result<Vec<Outline>> {
        let mut all = self.outlines(&self.dir)?;
        for over in all.extract_if(.., |r| r.ended.is_some()) {
            self.put_away(&over.id)?;
        }
        all.retain(|r| verb.is_none_or(|v| v == r.verb) && database.is_none_or(|d| d == r.database));
        Ok(all)
    }

    /// What has ended, oldest first.
    pub fn ended(&self, verb: &str, database: &str) -> Result<Vec<Outline>> {
        let mut all = self.outlines(&self.dir.join("ended"))?;
        all.retain(|r| r.verb == verb && r.database == database);
        Ok(all)
    }

    /// The ids of all operations of a verb that have ended, of any database.
    pub fn ended_ids(&self, verb: &str) -> Result<BTreeSet<String>> {
        let all = self.outlines(&self.dir.join("ended"))?;
        Ok(all.into_iter().filter(|r| r.verb == verb).map(|r| r.id).collect())
    }

    /// Goes on with one.
    pub fn resume<S: DeserializeOwned>(&self, outline: Outline) -> Result<Operation<S>> {
        let path = self.path(&outline.id);
        let state = serde_json::from_value(outline.state).map_err(|e| unreadable(&path, &e.to_string()))?;
        let Record { version, id, verb, database, begun, updated, ended, .. } = outline;
        let record = Record { version, id, verb, database, begun, updated, ended, state };
        Ok(Operation { journal: self.clone(), record })
    }

    fn outlines(&self, dir: &Path) -> Result<Vec<Outline>> {
        let mut out = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(EngineError::io("list", dir))? {
            let path = entry.map_err(EngineError::io("list", dir))?.path();
            // What a write that was cut left has another ending.
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                // It ended just now.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(EngineError::io("read", &path)(e)),
            };
            let record: Outline =
                serde_json::from_slice(&bytes).map_err(|e| unreadable(&path, &e.to_string()))?;
            if record.version != VERSION {
                return Err(unreadable(&path, &format!("it has version {}", record.version)));
            }
            out.push(record);
        }
        out.sort_by(|a, b| (a.begun, &a.id).cmp(&(b.begun, &b.id)));
        Ok(out)
    }

    fn put_away(&self, id: &str) -> Result<()> {
        let path = self.path(id);
        match std::fs::rename(&path, self.dir.join("ended").join(format!("{id}.json"))) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(EngineError::io("move", &path)(e)),
            _ => Ok(()),
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }
}

fn unreadable(path: &Path, why: &str) -> EngineError {
    EngineError::failed(
        format!("the record of an operation, `{}`, cannot be understood: {why}", path.display()),
        "it names what an operation made at the provider: look for its tag there \
         (holdfast:operation), then move the file away",
    )
}

impl<S: Serialize> Operation<S> {
    pub fn id(&self) -> &str {
        &self.record.id
    }

    pub fn state(&self) -> &S {
        &self.record.state
    }

    /// Writes down what comes next. Only then may it be done.
    pub fn advance(&mut self, now: Timestamp, change: impl FnOnce(&mut S)) -> Result<()> {
        change(&mut self.record.state);
        self.record.updated = now;
        self.write()
    }

    /// The end; the record is kept as evidence.
    pub fn end(mut self, now: Timestamp, ended: Ended) -> Result<Record<S>> {
        self.record.ended = Some(ended);
        self.record.updated = now;
        // Once it says so itself it is over; where the file lies is for tidiness.
        self.write()?;
        self.journal.put_away(&self.record.id)?;
        Ok(self.record)
    }

    fn write(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.record)
            .map_err(|e| EngineError::failed(format!("cannot write down an operation: {e}"), ""))?;
        write_atomic(&self.journal.path(&self.record.id), &text, 0o600)
    }
}

/// Fit for identifiers and tags of AWS: digits, `t`, `z`, a hyphen and hexadecimal digits.
fn new_id(now: Timestamp) -> String {
    format!("{}-{:08x}", now.strftime("%Y%m%dt%H%M%Sz"), rand::random::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Step {
        snapshot: String,
        next: String,
    }

    fn journal() -> (tempfile::TempDir, Journal) {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        (dir, journal)
    }

    fn begin(j: &Journal) -> Operation<Step> {
        let state = Step { snapshot: "shop-1".into(), next: "create".into() };
        j.begin("backup", "shop", Timestamp::now(), state).unwrap()
    }

    #[test]
    fn the_next_process_finds_the_step_that_was_next() {
        let (_dir, j) = journal();
        let mut op = begin(&j);
        op.advance(Timestamp::now(), |s| s.next = "wait".into()).unwrap();
        let id = op.id().to_string();
        drop(op);

        let mut found = j.unfinished(Some("backup"), Some("shop")).unwrap();
        assert_eq!(found.len(), 1);
        let op: Operation<Step> = j.resume(found.remove(0)).unwrap();
        assert_eq!((op.id(), op.state().next.as_str()), (id.as_str(), "wait"));
        assert!(j.unfinished(Some("copy"), None).unwrap().is_empty());
        assert!(j.unfinished(None, Some("other")).unwrap().is_empty());
    }

    #[test]
    fn what_ended_is_kept_and_not_found_again() {
        let (_dir, j) = journal();
        let op = begin(&j);
        op.end(Timestamp::now(), Ended::Failed("the quota".into())).unwrap();
        assert!(j.unfinished(None, None).unwrap().is_empty());
        let ended = j.ended("backup", "shop").unwrap();
        assert_eq!(ended[0].ended, Some(Ended::Failed("the quota".into())));
    }

    #[test]
    fn one_that_was_killed_when_it_had_ended_is_over() {
        let (_dir, j) = journal();
        let mut op = begin(&j);
        op.record.ended = Some(Ended::Succeeded);
        op.write().unwrap();
        drop(op);
        assert!(j.unfinished(None, None).unwrap().is_empty());
        assert_eq!(j.ended("backup", "shop").unwrap().len(), 1);
    }

    #[test]
    fn a_damaged_record_is_told_of_and_not_skipped() {
        let (dir, j) = journal();
        let op = begin(&j);
        let path = dir.path().join(format!("operations/{}.json", op.id()));
        std::fs::write(&path, b"{\"version\":1,").unwrap();
        let e = j.unfinished(None, None).unwrap_err();
        assert!(e.to_string().contains("cannot be understood"), "{e}");
        // What a cut write leaves is no record.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(path.with_extension("tmp-00000000"), b"{").unwrap();
        assert!(j.unfinished(None, None).unwrap().is_empty());
    }
}
