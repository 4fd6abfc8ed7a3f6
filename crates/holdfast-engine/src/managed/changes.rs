//! Every call that changes something at a provider, in a file that is only appended to: [`ChangeFile`].
//!
//! `state-dir/changes.log`, one JSON object a line: before a call is sent (`attempted`) and when its outcome is known
//! (`done`, `adopted`, `failed`). An attempt that cannot be written down is not made. CloudTrail forgets after 90
//! days (provider rules X25); this file is the user's own.
//!
//! Crash: an `attempted` line without a second one means that nobody knows whether it happened. A line that was cut
//! stays as it is, and the next one begins on a line of its own.

use holdfast_core::managed::{Change, ChangeLog};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The log of this host. It is opened when something is to be written: who only looks may do so on a host whose
/// state directory is full, or cannot be written any more.
#[derive(Debug)]
pub struct ChangeFile {
    path: PathBuf,
    file: Mutex<Option<File>>,
    /// Of what is done with other credentials than the database's.
    account: Option<String>,
}

impl ChangeFile {
    pub fn new(state_dir: &Path) -> Self {
        ChangeFile { path: state_dir.join("changes.log"), file: Mutex::new(None), account: None }
    }

    fn open(&self) -> std::io::Result<File> {
        if let Some(dir) = self.path.parent() {
            // The first change from a new host, on the worst day, needs no set-up.
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let mut file =
            std::fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path)?;
        let mut last = [0];
        if file.seek(SeekFrom::End(-1)).is_ok() && file.read(&mut last)? == 1 && last != *b"\n" {
            file.write_all(b"\n")?;
        }
        Ok(file)
    }

    /// For changes in the account of a vault: each line says so.
    #[must_use]
    pub fn of_account(self, account: Option<String>) -> Self {
        ChangeFile { account, ..self }
    }
}

impl ChangeLog for ChangeFile {
    fn record(&self, change: &Change) -> std::io::Result<()> {
        let account = change.account.clone().or_else(|| self.account.clone());
        let mut line = serde_json::to_vec(&Change { account, ..change.clone() })?;
        line.push(b'\n');
        let mut open = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match &mut *open {
            Some(file) => file,
            none => none.insert(self.open()?),
        };
        // One write: another process may append as well.
        file.write_all(&line)?;
        file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::managed::Outcome;

    #[test]
    fn lines_are_added_and_a_cut_one_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let change = Change {
            at: jiff::Timestamp::UNIX_EPOCH,
            region: None,
            account: None,
            action: "rds:CreateDBSnapshot".into(),
            resource: "shop-1".into(),
            operation: Some("op".into()),
            request_id: None,
            outcome: Outcome::Attempted,
        };
        ChangeFile::new(dir.path()).record(&change).unwrap();
        let path = dir.path().join("changes.log");
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"at\":").unwrap();
        ChangeFile::new(dir.path()).record(&change).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        for i in [0, 2] {
            assert_eq!(serde_json::from_str::<Change>(lines[i]).unwrap(), change);
        }
        let there = ChangeFile::new(dir.path()).of_account(Some("210987654321".into()));
        there.record(&change).unwrap();
        let last = std::fs::read_to_string(&path).unwrap();
        assert!(last.lines().last().unwrap().contains("\"account\":\"210987654321\""), "{last}");
    }
}
