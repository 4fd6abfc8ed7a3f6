//! When the server's summaries of its WAL may say what changed since the parent: [`unfit`] before a backup
//! starts, [`limits`] when it has.
//!
//! The server only looks whether it has a summary for every position of the range that it is told. That the
//! parent lies in *its* history is shown here, and it is shown only of a primary on the parent's timeline whose
//! archiver pushes into this vault:
//!
//! - This vault has every segment from the parent's end up to this backup's start, and the server's archiver
//!   says that it brought the last of them. A push compares content, and the archiver goes on only when one
//!   succeeded. A machine that was put back to a snapshot writes another future: its first segment that differs
//!   would have been refused, and nothing behind it would be called archived.
//! - The segments of the backup itself are compared with the vault's when they come (`super::wal`).
//!
//! The limits of relations ([`Limits`]) are read over SQL, because the archive does not have them: the server
//! tells the length of a file, but not that it was shorter in between. A file that was cut and grew again by
//! pages that nobody wrote to has zeros there, and not what the parent has (engine-rules §2.9).
//!
//! Anything that is not shown gives a reason, and the run compares everything.

use super::SUMMARIES_SINCE;
use super::origin::RemoteOrigin;
use crate::backup::plan::still_usable;
use holdfast_core::{Lsn, TimelineId};
use holdfast_pg::replication::Started;
use holdfast_pg::server::archiver;
use holdfast_pgformat::path::RelationFork;
use holdfast_pgformat::relation::RelFileLocator;
use holdfast_pgformat::walname::WalFileName;
use holdfast_vault::ClusterVault;
use holdfast_vault::point::Point;
use holdfast_vault::walindex::WalListing;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long the archiver gets for the last segment before the start.
const PATIENCE: Duration = Duration::from_secs(10);

/// Up to which block the parent's copies of a relation's main fork count.
#[derive(Debug, Default)]
pub struct Limits(HashMap<RelFileLocator, u32>);

impl Limits {
    /// In blocks of this file, of which one relation may have many.
    pub fn of_file(&self, file: &RelationFork, segment_blocks: u32) -> u32 {
        let rel = RelFileLocator {
            tablespace: file.tablespace.oid(),
            database: file.database,
            relation: file.relfilenode,
        };
        let Some(limit) = self.0.get(&rel) else { return u32::MAX };
        limit.saturating_sub(file.segment_no.saturating_mul(segment_blocks))
    }
}

/// Why the summaries are of no use, as far as that is known before the backup starts.
pub fn unfit(origin: &RemoteOrigin, parent: &Point) -> Option<String> {
    let s = &origin.server;
    let why = if s.version_num < SUMMARIES_SINCE {
        "servers before 17 keep no summaries of their wal".into()
    } else if s.setting("summarize_wal") != "on" {
        "summarize_wal is off".into()
    } else if s.in_recovery {
        "nothing shows that a standby's summaries follow on this parent".into()
    } else if parent.timeline != origin.timeline {
        format!(
            "{} is of timeline {}, and the server is on timeline {}",
            parent.id, parent.timeline, origin.timeline
        )
    } else if !(origin.in_archive || origin.pushes) {
        "the server's archiver does not push into this vault, so nothing shows that its wal follows on this parent"
            .into()
    } else {
        return None;
    };
    Some(why)
}

/// Shows that the summaries follow on `parent`, and reads what they say of limits. `Err`: what is not shown.
pub async fn limits(
    origin: &RemoteOrigin,
    cluster: &ClusterVault,
    parent: &Point,
    started: &Started,
) -> Result<Limits, String> {
    if started.timeline != parent.timeline {
        return Err(format!(
            "the backup began on timeline {}, and {} is of another",
            started.timeline, parent.id
        ));
    }
    still_usable(parent, started.start_lsn, started.timeline)?;
    archived(origin, cluster, parent, started).await?;
    let limits = read(origin, started.timeline, (parent.redo_lsn, started.start_lsn)).await?;
    // Afterwards: the server may remove old ones at any time.
    covered(origin, started.timeline, (parent.redo_lsn, started.start_lsn)).await?;
    Ok(limits)
}

/// The vault has all segments between the two, and this server's archiver brought the last one.
async fn archived(
    origin: &RemoteOrigin,
    cluster: &ClusterVault,
    parent: &Point,
    started: &Started,
) -> Result<(), String> {
    let size = cluster.record().wal_segment_size;
    // The one that the backup starts in comes with it, and is compared.
    let last = size.segment_of(started.start_lsn).saturating_sub(1);
    let first = size.segment_of(parent.stop_lsn).min(last);
    let since = Instant::now();
    loop {
        let said = archiver(&origin.session).await.map_err(|e| e.to_string())?.last_archived;
        let up_to = match said.as_deref().and_then(|n| n.parse::<WalFileName>().ok()) {
            Some(WalFileName::Segment(s)) if s.timeline == started.timeline => Some(s.number(size)),
            // It is made, and archived, after the segment that it is named by.
            Some(WalFileName::BackupHistory { segment, .. }) if segment.timeline == started.timeline => {
                Some(segment.number(size))
            }
            _ => None,
        };
        let why = if up_to.is_none_or(|n| n < last) {
            "the server's archiver has not said that it brought the wal before this backup".to_string()
        } else {
            let listing = WalListing::read(cluster).await.map_err(|e| e.to_string())?;
            let there = listing.timelines.get(&started.timeline).map(|w| w.numbers()).unwrap_or_default();
            match (first..=last).find(|n| !there.contains(n)) {
                None => return Ok(()),
                Some(_) => format!("the vault does not have all wal since {}", parent.id),
            }
        };
        if since.elapsed() > PATIENCE {
            return Err(why);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn read(origin: &RemoteOrigin, t: TimelineId, range: (Lsn, Lsn)) -> Result<Limits, String> {
    let found = holdfast_pg::summaries::limits(&origin.session, t, range).await.map_err(|e| e.to_string())?;
    Ok(Limits(found.into_iter().collect()))
}

/// Is there a summary for every position of the range?
async fn covered(origin: &RemoteOrigin, t: TimelineId, (from, to): (Lsn, Lsn)) -> Result<(), String> {
    let ranges = holdfast_pg::summaries::ranges(&origin.session, t).await.map_err(|e| e.to_string())?;
    match reach(&ranges, from) >= to {
        true => Ok(()),
        false => Err(format!("the server has no summaries of all wal from {from} to {to}")),
    }
}

/// How far ascending ranges get from `from` without a gap.
fn reach(ranges: &[(Lsn, Lsn)], from: Lsn) -> Lsn {
    ranges.iter().fold(from, |at, (start, end)| if *start <= at { at.max(*end) } else { at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_pgformat::path::{PathKind, classify};

    #[test]
    fn a_gap_ends_the_reach() {
        let r = |a: u64, b: u64| (Lsn(a), Lsn(b));
        assert_eq!(reach(&[r(10, 20), r(20, 30)], Lsn(10)), Lsn(30));
        assert_eq!(reach(&[r(0, 20), r(15, 30)], Lsn(10)), Lsn(30));
        assert_eq!(reach(&[r(10, 20), r(21, 30)], Lsn(10)), Lsn(20));
        assert_eq!(reach(&[r(11, 20)], Lsn(10)), Lsn(10));
    }

    #[test]
    fn a_limit_counts_in_the_file_that_it_lies_in() {
        let rel = RelFileLocator { tablespace: 1663, database: 5, relation: 16400 };
        let limits = Limits([(rel, 150)].into_iter().collect());
        let of = |path: &str| match classify(path) {
            PathKind::RelationFork(r) => limits.of_file(&r, 100),
            other => panic!("{other:?}"),
        };
        assert_eq!((of("base/5/16400"), of("base/5/16400.1"), of("base/5/16400.2")), (150, 50, 0));
        assert_eq!(of("base/5/16401"), u32::MAX);
    }
}
