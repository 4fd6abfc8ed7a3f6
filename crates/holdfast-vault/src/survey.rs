//! All points of a cluster at a glance: [`ClusterVault::survey`].

use crate::error::{Result, StoreError, StoreErrorKind, VaultError};
use crate::facts::PointFacts;
use crate::keys::Signer;
use crate::names::run_of;
use crate::pack::PackTable;
use crate::point::{Body, Point};
use crate::pointindex::{self, Known};
use crate::store::Listed;
use crate::vault::{ClusterVault, Commit};
use futures::StreamExt;
use holdfast_core::{ClusterId, DatabaseName, RunId};
use std::collections::BTreeSet;

/// Records read at once when many are listed.
const PARALLEL_READS: usize = 16;

/// A point, who signed it, and when the *store* says that it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub facts: PointFacts,
    pub signer: Signer,
    pub stored_at: jiff::Timestamp,
    /// Of the record's object.
    pub size: u64,
    /// Packs that it needs, in the survey's table, if they are known.
    pub packs: Option<Vec<u32>>,
    /// The index told of it.
    pub indexed: bool,
}

/// What stands at the name of a point.
enum Record<T> {
    Point(T),
    Aborted,
    /// A sweep was faster.
    Gone,
}

/// All that stands at the names of points.
#[derive(Debug, Default)]
pub struct Survey {
    /// Ordered by the time that they hold.
    pub points: Vec<Seen>,
    pub aborted: BTreeSet<RunId>,
    /// Records that do not open: what they need is unknown.
    pub damaged: Vec<VaultError>,
    /// Names of the packs that [`Seen::packs`] speaks of.
    pub table: PackTable,
}

impl ClusterVault {
    /// The record of a point that a survey showed.
    pub async fn point(&self, run: &RunId) -> Result<Point> {
        match self.commit(run).await? {
            Some(Commit::Point(p)) => Ok(*p),
            _ => {
                let (name, kind) = (self.path().point(run), StoreErrorKind::NotFound);
                Err(StoreError { op: "read", name, kind, source: None }.into())
            }
        }
    }

    /// Every point, ordered by where it stops on its timeline. Damaged records come back as errors
    /// beside the good ones, so that one of them does not hide the rest. Reads every record: where facts
    /// will do, ask [`ClusterVault::survey`].
    pub async fn points(&self) -> Result<(Vec<Point>, Vec<VaultError>)> {
        let listed = self.store().list(&self.path().points()).await?;
        let mut points = Vec::new();
        let mut damaged = Vec::new();
        let read = |point: Point, _: Signer, _: &Listed| point;
        for (_, found) in self.records(listed, read).await {
            match found {
                Ok(Record::Point(p)) => points.push(p),
                Ok(Record::Aborted | Record::Gone) => {}
                Err(e @ VaultError::Damaged { .. }) => damaged.push(e),
                Err(e) => return Err(e),
            }
        }
        points.sort_by_cached_key(|p| (p.stop_time, p.stop_lsn, p.id.clone()));
        Ok((points, damaged))
    }

    /// The facts of every commit of the cluster, with what the store knows of it. One listing; of points
    /// that stand in the index (`crate::pointindex`) nothing more, and one read of each other.
    pub async fn survey(&self) -> Result<Survey> {
        let mut survey = Survey::default();
        let mut listed = self.store().list(&self.path().points()).await?;
        if listed.len() >= pointindex::ENOUGH {
            let mut known = Known::read(self, &mut survey.table).await?;
            listed.retain(|l| match run_of(&l.name, "point").and_then(|run| known.remove(&run, l)) {
                Some(seen) if self.is_own(&seen.facts.database, &seen.facts.cluster) => {
                    survey.points.push(seen);
                    false
                }
                _ => true,
            });
        }
        let seen = |point: Point, signer, l: &Listed| Seen {
            facts: PointFacts::from(&point),
            signer,
            stored_at: l.modified,
            size: l.size,
            packs: None,
            indexed: false,
        };
        for (run, found) in self.records(listed, seen).await {
            match found {
                Ok(Record::Point(seen)) => survey.points.push(seen),
                Ok(Record::Aborted) => {
                    survey.aborted.insert(run);
                }
                Ok(Record::Gone) => {}
                Err(e @ VaultError::Damaged { .. }) => survey.damaged.push(e),
                Err(e) => return Err(e),
            }
        }
        survey.points.sort_by_cached_key(|s| (s.facts.stop_time, s.facts.stop_lsn, s.facts.id.clone()));
        Ok(survey)
    }

    fn is_own(&self, database: &DatabaseName, cluster: &ClusterId) -> bool {
        *database == self.path().database && *cluster == self.path().cluster
    }

    /// Reads what stands at the names of points, several at once.
    async fn records<T>(
        &self,
        listed: Vec<Listed>,
        of: impl Fn(Point, Signer, &Listed) -> T,
    ) -> Vec<(RunId, Result<Record<T>>)> {
        let of = &of;
        futures::stream::iter(listed)
            .filter_map(|l| async move { run_of(&l.name, "point").map(|run| (run, l)) })
            .map(|(run, l)| async move {
                let name = self.path().point(&run);
                let found = match self.vault().get_record(&name).await {
                    // A point of another cluster, put here, would speak for one of the same name there.
                    Ok((Body::Point(p), signer)) if p.id == run && self.is_own(&p.database, &p.cluster) => {
                        Ok(Record::Point(of(*p, signer, &l)))
                    }
                    Ok((Body::Aborted(_), _)) => Ok(Record::Aborted),
                    Ok(_) => Err(VaultError::damaged(&name, "it is neither a point nor an aborted run")),
                    Err(e) if e.is_not_found() => Ok(Record::Gone),
                    Err(e) => Err(e),
                };
                (run, found)
            })
            .buffer_unordered(PARALLEL_READS)
            .collect()
            .await
    }
}
