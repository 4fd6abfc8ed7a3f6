//! From what the user asks for to a point, a timeline and what PostgreSQL is told.
//!
//! A target that cannot be reached is refused here, before a byte is written, with the nearest that
//! can: PostgreSQL itself would find out after hours of replay, or end early.

use super::created::{self, CreatedTablespace, Until};
use crate::error::{EngineError, Result};
use crate::wal::archive::WalArchive;
use holdfast_core::time::rfc3339;
use holdfast_core::{Lsn, RunId, SegmentName, TimelineId};
use holdfast_pgformat::history::TimelineHistory;
use holdfast_pgformat::wal::{WalReader, XactRecord, XlogRecord};
use holdfast_vault::PointFacts;
use holdfast_vault::point::Point;
use jiff::Timestamp;
use serde::Serialize;

/// Where to recover to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    EndOfWal,
    Time(Timestamp),
    Lsn(Lsn),
    Xid(u32),
    Name(String),
    /// As soon as the point is consistent.
    Immediate,
}

/// On which timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimelineChoice {
    /// The newest that descends from the point.
    #[default]
    Latest,
    /// The point's own.
    Current,
    Number(TimelineId),
}

/// What to tell the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub enum ServerTarget {
    None,
    Time(Timestamp),
    Lsn(Lsn),
    Xid(u32),
    Name(String),
    Immediate,
}

/// A target that can be reached.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub point: Point,
    pub timeline: TimelineId,
    pub history: TimelineHistory,
    pub server: ServerTarget,
    /// Segments that replay will ask for, as far as they are there.
    pub wal: Vec<SegmentName>,
    /// Where the archive ends: the last position that replay can reach.
    pub wal_end: Lsn,
    pub wal_end_time: Option<Timestamp>,
    /// Tablespaces that replay will create, wherever the map points.
    pub created_tablespaces: Vec<CreatedTablespace>,
    /// How far replay goes.
    pub until: Until,
    pub notes: Vec<String>,
}

/// Finds point and timeline for `target`.
pub async fn resolve(
    archive: &WalArchive,
    points: &[PointFacts],
    target: &Target,
    wanted_point: Option<&RunId>,
    (timeline, exclusive): (TimelineChoice, bool),
) -> Result<Resolved> {
    if points.is_empty() {
        return Err(EngineError::not_found("there is no recovery point", "run `holdfast backup`"));
    }
    let candidates: Vec<&PointFacts> = match wanted_point {
        Some(id) => points.iter().filter(|p| p.is_called(id)).collect(),
        None => points.iter().collect(),
    };
    if candidates.is_empty() {
        return Err(EngineError::not_found(
            format!("there is no point {}", wanted_point.map(RunId::as_str).unwrap_or_default()),
            "see `holdfast list`",
        ));
    }
    // Newest first.
    let mut paths: Vec<Path> = Vec::new();
    for p in candidates.iter().rev() {
        if let Some(path) = Path::of(archive, p, timeline) {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(EngineError::not_found(
            "no recovery point lies on that timeline",
            "see `holdfast wal status` and choose with --timeline and --point",
        ));
    }
    // The newest timeline first, then the newest point on the way to it: after a recovery to an earlier
    // time, points of the branch that was left may be newer and are not what "latest" means.
    paths.sort_by_key(|p| std::cmp::Reverse((p.timeline, p.point.stop_time)));
    match target {
        Target::EndOfWal => first_of(paths)?.finish(archive, ServerTarget::None, None, Vec::new()).await,
        Target::Immediate => {
            first_of(paths)?.finish(archive, ServerTarget::Immediate, None, Vec::new()).await
        }
        Target::Time(t) => by_time(archive, paths, *t, exclusive).await,
        Target::Lsn(l) => by_lsn(archive, paths, *l).await,
        Target::Xid(x) => by_record(archive, paths, Wanted::Xid(*x)).await,
        Target::Name(n) => by_record(archive, paths, Wanted::Name(n)).await,
    }
}

fn first_of(paths: Vec<Path>) -> Result<Path> {
    paths.into_iter().next().ok_or(EngineError::Cancelled)
}

/// A point and the way forward from it. Which segments lie on it is found out when it is tried: ten thousand
/// points have a million segments each.
#[derive(Debug, Clone)]
struct Path {
    point: PointFacts,
    timeline: TimelineId,
    history: TimelineHistory,
}

impl Path {
    fn of(archive: &WalArchive, p: &PointFacts, choice: TimelineChoice) -> Option<Self> {
        let timeline = match choice {
            TimelineChoice::Latest => archive.latest_for(p.timeline, p.stop_lsn),
            TimelineChoice::Current => p.timeline,
            TimelineChoice::Number(t) => t,
        };
        let history = archive.history(timeline);
        if !(timeline == p.timeline || history.descends_from(p.timeline, p.stop_lsn)) {
            return None;
        }
        Some(Path { point: p.clone(), timeline, history })
    }

    fn wal(&self, archive: &WalArchive) -> Vec<SegmentName> {
        archive.reach(&self.history, self.point.redo_lsn)
    }

    /// R10 says that the segments to the stop position are there; a vault that lost them says so here.
    fn complete(&self, archive: &WalArchive) -> Result<Vec<SegmentName>> {
        let size = archive.segment_size();
        let need = size.segment_before(self.point.stop_lsn);
        let wal = self.wal(archive);
        match wal.last() {
            Some(s) if s.number(size) >= need => Ok(wal),
            _ => Err(EngineError::failed(
                format!("the wal that makes point {} consistent is not all there", self.point.id),
                "run `holdfast check`; restore another point with --point, or from another vault",
            )),
        }
    }

    async fn finish(
        self,
        archive: &WalArchive,
        server: ServerTarget,
        until: Option<Lsn>,
        mut notes: Vec<String>,
    ) -> Result<Resolved> {
        let wal = self.complete(archive)?;
        let lsn = until.unwrap_or(match &server {
            ServerTarget::Lsn(l) => *l,
            ServerTarget::Immediate => self.point.stop_lsn,
            _ => Lsn(u64::MAX),
        });
        let time = match &server {
            ServerTarget::Time(t) => t.as_microsecond(),
            _ => i64::MAX,
        };
        let until = Until { lsn, time };
        let created_tablespaces = created::in_replay(archive, &wal, until).await?;
        let (wal_end, wal_end_time) = match end_of(archive, &wal, &self.point).await {
            Ok(end) => end,
            // Replay stops before it gets there.
            Err(e) if server != ServerTarget::None && e.is_damage() => {
                notes.push(format!("the end of the archived wal, behind the target, is not known: {e}"));
                (self.point.stop_lsn, None)
            }
            Err(e) => return Err(e),
        };
        if self.timeline != self.point.timeline {
            notes.push(format!(
                "recovery goes from timeline {} to timeline {}",
                self.point.timeline, self.timeline
            ));
        }
        Ok(Resolved {
            point: archive.cluster.point(&self.point.id).await?,
            timeline: self.timeline,
            history: self.history,
            server,
            wal,
            wal_end,
            wal_end_time,
            created_tablespaces,
            until,
            notes,
        })
    }
}

/// The last position and the last timestamp that the archive reaches.
async fn end_of(
    archive: &WalArchive,
    wal: &[SegmentName],
    p: &PointFacts,
) -> Result<(Lsn, Option<Timestamp>)> {
    let mut end = p.stop_lsn;
    for (i, s) in wal.iter().rev().enumerate() {
        let head = archive.head(*s).await?;
        if i == 0 {
            end = if head.facts.end_lsn > 0 { head.facts.end() } else { s.end(archive.segment_size()) };
        }
        if head.facts.last_time != 0 {
            return Ok((end.max(p.stop_lsn), Timestamp::from_microsecond(head.facts.last_time).ok()));
        }
        // A long stretch without any commit: the point's own time is good enough.
        if i > 64 {
            break;
        }
    }
    Ok((end.max(p.stop_lsn), Some(p.stop_time)))
}

async fn by_time(archive: &WalArchive, paths: Vec<Path>, t: Timestamp, exclusive: bool) -> Result<Resolved> {
    let mut latest: Option<Timestamp> = None;
    let us = t.as_microsecond();
    for path in paths.iter().filter(|p| p.point.stop_time <= t) {
        let wal = path.complete(archive)?;
        let Some(i) = first_segment_at(archive, &wal, us).await? else {
            let (_, end) = end_of(archive, &wal, &path.point).await?;
            latest = latest.max(Some(end.unwrap_or(path.point.stop_time)));
            continue;
        };
        let tail = wal.get(i..).unwrap_or(&[]).to_vec();
        // Inclusive recovery stops at the first end of a transaction *behind* the target
        // (recoveryStopsBefore, src/backend/access/transam/xlogrecovery.c).
        let from = if exclusive { us } else { us.saturating_add(1) };
        if transaction_ends_at_or_after(archive, &tail, from).await? {
            return path.clone().finish(archive, ServerTarget::Time(t), None, Vec::new()).await;
        }
        // With none behind the target PostgreSQL would replay everything and then fail, although
        // everything is what was asked for.
        let note = "no transaction ended after the target: everything archived is recovered";
        return path.clone().finish(archive, ServerTarget::None, None, vec![note.into()]).await;
    }
    match latest {
        Some(end) => Err(EngineError::not_found(
            format!("{} lies behind the end of the archived wal", rfc3339(t)),
            format!("the latest possible is {}; without --at everything archived is recovered", rfc3339(end)),
        )),
        None => {
            let first = paths.iter().map(|p| p.point.stop_time).min().unwrap_or_default();
            Err(EngineError::not_found(
                format!("{} lies before every recovery point", rfc3339(t)),
                format!("the earliest possible is {}", rfc3339(first)),
            ))
        }
    }
}

/// Index of the first segment with a timestamp at or after `us`: bisection over segment heads.
async fn first_segment_at(archive: &WalArchive, wal: &[SegmentName], us: i64) -> Result<Option<usize>> {
    let (mut low, mut high) = (0usize, wal.len());
    while low < high {
        let mid = low + (high - low) / 2;
        // Segments without any timestamp say nothing: look at the next that says something.
        let mut at = mid;
        let mut last = 0;
        while at < high {
            let Some(s) = wal.get(at) else { break };
            last = archive.head(*s).await?.facts.last_time;
            if last != 0 {
                break;
            }
            at += 1;
        }
        if last == 0 || last >= us {
            high = mid;
        } else {
            low = at + 1;
        }
    }
    // `low` may rest on segments without timestamps, or behind the last one.
    for (i, s) in wal.iter().enumerate().skip(low) {
        if archive.head(*s).await?.facts.last_time >= us {
            return Ok(Some(i));
        }
    }
    Ok(None)
}

/// Does a commit or abort at or after `us` follow? Reads segments until one is found.
async fn transaction_ends_at_or_after(archive: &WalArchive, tail: &[SegmentName], us: i64) -> Result<bool> {
    let mut found = false;
    scan(archive, tail, &mut |r, major| {
        if let Ok(Some(x)) = XactRecord::decode(r, major)
            && x.kind != holdfast_pgformat::wal::XactKind::Prepare
            && x.time.unix_micros() >= us
        {
            found = true;
        }
        !found
    })
    .await?;
    Ok(found)
}

async fn by_lsn(archive: &WalArchive, paths: Vec<Path>, l: Lsn) -> Result<Resolved> {
    let mut latest: Option<Lsn> = None;
    for path in paths.iter().filter(|p| p.point.stop_lsn <= l) {
        let wal = path.complete(archive)?;
        let (end, _) = end_of(archive, &wal, &path.point).await?;
        if l <= end {
            return path.clone().finish(archive, ServerTarget::Lsn(l), None, Vec::new()).await;
        }
        latest = latest.max(Some(end));
    }
    Err(match latest {
        Some(end) => EngineError::not_found(
            format!("{l} lies behind the end of the archived wal"),
            format!("the latest possible is {end}"),
        ),
        None => {
            let first = paths.iter().map(|p| p.point.stop_lsn).min().unwrap_or_default();
            EngineError::not_found(
                format!("{l} lies before every recovery point"),
                format!("the earliest possible is {first}"),
            )
        }
    })
}

#[derive(Debug, Clone, Copy)]
enum Wanted<'a> {
    Xid(u32),
    Name(&'a str),
}

/// A transaction or a restore point is found by reading archived WAL, from the newest point back.
async fn by_record(archive: &WalArchive, paths: Vec<Path>, wanted: Wanted<'_>) -> Result<Resolved> {
    let mut searched_to: Option<SegmentName> = None;
    for path in paths {
        // What lies behind the next newer point's start was searched already.
        let size = archive.segment_size();
        let wal = path.wal(archive);
        let stretch: Vec<SegmentName> = wal
            .iter()
            .copied()
            .filter(|s| searched_to.is_none_or(|end| s.number(size) <= end.number(size)))
            .collect();
        let mut hit: Option<Lsn> = None;
        scan(archive, &stretch, &mut |r, major| {
            let is = match wanted {
                Wanted::Xid(x) => XactRecord::decode(r, major).ok().flatten().is_some_and(|t| {
                    t.kind != holdfast_pgformat::wal::XactKind::Prepare && (t.xid == x || t.subxacts.contains(&x))
                }),
                Wanted::Name(n) => {
                    matches!(XlogRecord::decode(r, major), Ok(Some(XlogRecord::RestorePoint { name, .. })) if name == n)
                }
            };
            if is && r.end_lsn > path.point.stop_lsn {
                hit = Some(r.lsn);
            }
            hit.is_none()
        })
        .await?;
        if hit.is_some() {
            let server = match wanted {
                Wanted::Xid(x) => ServerTarget::Xid(x),
                Wanted::Name(n) => ServerTarget::Name(n.to_string()),
            };
            return path.finish(archive, server, hit, Vec::new()).await;
        }
        searched_to = wal.first().copied();
    }
    let what = match wanted {
        Wanted::Xid(x) => format!("transaction {x}"),
        Wanted::Name(n) => format!("a restore point named `{n}`"),
    };
    Err(EngineError::not_found(
        format!("{what} is nowhere in the archived wal behind a recovery point"),
        "check its spelling; it may lie before the first point, or in wal that is not archived yet",
    ))
}

/// Feeds segments to `each`, record by record, until it says enough.
pub(super) async fn scan(
    archive: &WalArchive,
    segments: &[SegmentName],
    each: &mut dyn FnMut(&holdfast_pgformat::wal::Record, holdfast_pgformat::version::PgMajor) -> bool,
) -> Result<()> {
    let mut reader: Option<(WalReader, holdfast_pgformat::version::PgMajor)> = None;
    for s in segments {
        let bytes = archive.content(*s).await?;
        let bad = |e: holdfast_pgformat::wal::WalError| {
            EngineError::failed(format!("segment {s} cannot be read: {e}"), "run `holdfast check`")
        };
        if reader.is_none() {
            let h = holdfast_pgformat::wal::segment_header(&bytes).map_err(bad)?;
            reader = Some((
                WalReader::new(s.start(archive.segment_size()), h.major, archive.segment_size()),
                h.major,
            ));
        }
        let Some((r, major)) = &mut reader else { continue };
        r.feed(&bytes);
        loop {
            match r.next() {
                Ok(Some(record)) => {
                    if !each(&record, *major) {
                        return Ok(());
                    }
                }
                Ok(None) => break,
                Err(e) => return Err(bad(e)),
            }
        }
        // The log ends inside of this segment (a timeline switch): the next one starts afresh.
        if r.end().is_some() {
            reader = None;
        }
    }
    Ok(())
}
