//! What many notes say, in one object: [`NoteIndex`].
//!
//! A point that is verified daily has hundreds of notes after a year, and each is an object to read. As with
//! points (`crate::pointindex`) a listing of `notes/` says which notes there are, always. An entry of the
//! index stands for reading one of them only if the listing shows an object of the same name, size and time,
//! and only if the operator signed the index. It tells who signed the note, so a host's word counts no more
//! here than there. A stale index costs reads and nothing else.
//!
//! Written by sweeps, when [`ENOUGH`] notes stand in no index; one object with all that are there, after which
//! earlier ones go. Crash: both are there, and say the same.

use crate::error::{Result, VaultError};
use crate::keys::Signer;
use crate::names::run_of;
use crate::point::Body;
use crate::store::Listed;
use crate::vault::ClusterVault;
use futures::{StreamExt, TryStreamExt};
use holdfast_core::RunId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// So many notes without an index are worth one.
pub const ENOUGH: usize = 64;

/// Notes read at once.
const PARALLEL_READS: usize = 16;

/// One note.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// `POINT/NOTE.kind`: its name below the folder of notes.
    pub name: String,
    /// Did the operator sign it?
    pub operator: bool,
    /// Time and size of its object.
    pub stored_at: Timestamp,
    pub size: u64,
    pub note: Body,
}

/// The record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoteIndex {
    pub notes: Vec<Entry>,
    pub at: Timestamp,
    pub host: String,
}

/// What all indexes tell, by the whole name of the note.
#[derive(Debug, Default)]
pub(crate) struct Known(HashMap<String, Entry>);

impl Known {
    /// One request to list, one per index (usually one). Damaged ones and those of hosts do not count.
    pub(crate) async fn read(cluster: &ClusterVault) -> Result<Self> {
        let mut known = HashMap::new();
        for l in cluster.store().list(&cluster.path().index()).await? {
            if id_of(&l.name).is_none() {
                continue;
            }
            match cluster.vault().get_record(&l.name).await {
                Ok((Body::NoteIndex(i), Signer::Operator)) => {
                    let full = |e: Entry| (format!("{}/{}", cluster.path().notes(), e.name), e);
                    known.extend(i.notes.into_iter().map(full));
                }
                // Also one that this key does not open: a host may have put it there, and nothing depends on it.
                Ok(_)
                | Err(VaultError::Damaged { .. } | VaultError::Codec { .. } | VaultError::WrongKey(_)) => {}
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Known(known))
    }

    /// The note whose object the listing shows so, and who signed it.
    pub(crate) fn remove(&mut self, listed: &Listed) -> Option<(Body, Signer)> {
        let e = self.0.remove(&listed.name)?;
        let signer = if e.operator { Signer::Operator } else { Signer::Host };
        (e.stored_at == listed.modified && e.size == listed.size).then_some((e.note, signer))
    }
}

fn id_of(name: &str) -> Option<RunId> {
    run_of(name.rsplit('/').next()?.strip_prefix("notes-")?, "index")
}

/// Reads a note. `None`: it does not open, or a sweep was faster.
pub(crate) async fn read(cluster: &ClusterVault, name: &str) -> Result<Option<(Body, Signer)>> {
    match cluster.vault().get_record(name).await {
        Ok(found) => Ok(Some(found)),
        Err(VaultError::Damaged { .. } | VaultError::Codec { .. } | VaultError::WrongKey(_)) => Ok(None),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes an index of the notes in `listed`, if so many of them stand in none that it is worth it.
pub(crate) async fn write(cluster: &ClusterVault, listed: Vec<Listed>, host: &str) -> Result<()> {
    if listed.len() < ENOUGH {
        return Ok(());
    }
    let mut known = Known::read(cluster).await?;
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    for l in listed {
        match known.remove(&l) {
            Some(found) => there.push((l, found)),
            None => missing.push(l),
        }
    }
    if missing.len() < ENOUGH {
        return Ok(());
    }
    let read: Vec<_> = futures::stream::iter(missing)
        .map(|l| async move { Ok::<_, VaultError>((read(cluster, &l.name).await?, l)) })
        .buffer_unordered(PARALLEL_READS)
        .try_collect()
        .await?;
    let opened: Vec<_> = read.into_iter().filter_map(|(found, l)| Some((l, found?))).collect();
    // What does not open is read again each time, and is no reason to write.
    if opened.len() < ENOUGH {
        return Ok(());
    }
    there.extend(opened);
    there.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let folder = format!("{}/", cluster.path().notes());
    let entry = |(l, (note, signer)): (Listed, (Body, Signer))| {
        let name = l.name.strip_prefix(&folder)?.to_string();
        let operator = signer == Signer::Operator;
        Some(Entry { name, operator, stored_at: l.modified, size: l.size, note })
    };
    let notes = there.into_iter().filter_map(entry).collect();
    let index = NoteIndex { notes, at: Timestamp::now(), host: host.into() };
    let earlier = cluster.store().list(&cluster.path().index()).await?;
    let name = cluster.path().note_index(&RunId::generate(index.at));
    cluster.vault().put_record(&name, &Body::NoteIndex(index), Signer::Operator).await?;
    for l in earlier.iter().filter(|l| id_of(&l.name).is_some()) {
        // Whoever may not delete leaves it: it says the same.
        let _ = cluster.store().delete(&l.name).await;
    }
    Ok(())
}
