//! What happened to a point after it was made: [`PointNotes`], the fold of the notes beside it.
//!
//! Notes are records under `notes/POINT/`, each written once. Their fold does not depend on their order
//! or on clocks (R4): a hold beats an expiry, a release ends the one hold that it names, and what only
//! an operator may say counts only with the operator's signature. A note of a host that says so is not
//! an error, it is as if it were not there; [`Notes::ignored`] names it.

use crate::error::{Result, VaultError};
use crate::keys::Signer;
use crate::names::run_of;
use crate::noteindex::{self, Known};
use crate::point::{Body, Expired, Hold, Released, Verified};
use crate::store::Listed;
use crate::vault::ClusterVault;
use futures::{StreamExt, TryStreamExt};
use holdfast_core::RunId;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Notes read at once.
const PARALLEL_READS: usize = 16;

/// All notes of a cluster.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    by_point: BTreeMap<RunId, PointNotes>,
    /// Notes that do not count: signed by a host that may not say so, or damaged.
    pub ignored: Vec<String>,
}

/// The notes of one point.
#[derive(Debug, Clone, Default)]
pub struct PointNotes {
    pub verified: Vec<Verified>,
    /// With the *store's* time of each.
    expired: Vec<(Timestamp, Expired)>,
    holds: Vec<Hold>,
    /// With the store's time of each.
    released: BTreeMap<RunId, Timestamp>,
}

impl PointNotes {
    /// Holds that nobody released and whose time has not come.
    pub fn holds(&self, now: Timestamp) -> impl Iterator<Item = &Hold> {
        self.holds
            .iter()
            .filter(move |h| !self.released.contains_key(&h.id) && h.until.is_none_or(|until| until > now))
    }

    /// The earliest expiry, unless something holds the point: (since when nothing has stood in its way by
    /// the store's clock, what it says). Time under a hold does not count.
    pub fn expired(&self, now: Timestamp) -> Option<(Timestamp, &Expired)> {
        if self.holds(now).next().is_some() {
            return None;
        }
        let (at, note) = self.expired.iter().min_by_key(|(at, _)| *at)?;
        let ended = self.holds.iter().filter_map(|h| self.released.get(&h.id).copied().or(h.until)).max();
        Some((ended.map_or(*at, |e| e.max(*at)), note))
    }

    /// Somebody expired it, held or not.
    pub fn expired_at_all(&self) -> bool {
        !self.expired.is_empty()
    }

    /// A person said so, at whatever time.
    pub fn expired_by_hand(&self) -> bool {
        self.expired.iter().any(|(_, e)| e.by_hand)
    }

    /// The best verification that passed, the newest of those.
    pub fn best(&self) -> Option<&Verified> {
        self.verified.iter().filter(|v| v.passed).max_by_key(|v| (v.level.clone(), v.at))
    }

    fn take(&mut self, body: Body, signer: Signer, stored_at: Timestamp) -> bool {
        match (body, signer) {
            // A hold only keeps: anybody who may write may hold.
            (Body::Hold(h), _) => self.holds.push(h),
            (Body::Verified(v), Signer::Operator) => self.verified.push(v),
            (Body::Expired(e), Signer::Operator) => self.expired.push((stored_at, e)),
            (Body::Released(Released { hold, .. }), Signer::Operator) => {
                self.released.insert(hold, stored_at);
            }
            _ => return false,
        }
        true
    }
}

/// The point that a body is about.
fn about(body: &Body) -> Option<&RunId> {
    match body {
        Body::Hold(h) => Some(&h.point),
        Body::Verified(v) => Some(&v.point),
        Body::Expired(e) => Some(&e.point),
        Body::Released(r) => Some(&r.point),
        _ => None,
    }
}

/// `…/notes/POINT/NOTE.kind`
fn point_of(name: &str) -> Option<RunId> {
    name.rsplit('/').nth(1)?.parse().ok()
}

impl Notes {
    /// One listing, and one read per note that stands in no index ([`crate::noteindex`]).
    pub async fn read(cluster: &ClusterVault) -> Result<Self> {
        let listed = cluster.store().list(&cluster.path().notes()).await?;
        Self::open(cluster, listed).await
    }

    /// The notes of one point.
    pub async fn of_point(cluster: &ClusterVault, point: &RunId) -> Result<PointNotes> {
        let listed = cluster.store().list(&format!("{}/{point}", cluster.path().notes())).await?;
        Ok(Self::open(cluster, listed).await?.of(point))
    }

    /// Reads the notes that a listing named: if they are many, from the index as far as it tells of them.
    pub async fn open(cluster: &ClusterVault, listed: Vec<Listed>) -> Result<Self> {
        let (mut read, mut unknown) = (Vec::new(), listed);
        if unknown.len() >= noteindex::ENOUGH {
            let mut known = Known::read(cluster).await?;
            unknown.retain(|l| match known.remove(l) {
                Some(found) => {
                    read.push((l.clone(), Some(found)));
                    false
                }
                None => true,
            });
        }
        let others: Vec<_> = futures::stream::iter(unknown)
            .map(|l| async move {
                let found = noteindex::read(cluster, &l.name).await?;
                Ok::<_, VaultError>((l, found))
            })
            .buffer_unordered(PARALLEL_READS)
            .try_collect()
            .await?;
        read.extend(others);
        let mut notes = Notes::default();
        for (l, found) in read {
            let counted = match (point_of(&l.name), found) {
                (Some(point), Some((body, signer))) if about(&body) == Some(&point) => {
                    notes.by_point.entry(point).or_default().take(body, signer, l.modified)
                }
                _ => false,
            };
            if !counted {
                // A hold that does not open holds all the same, until somebody releases it by its name.
                if let (Some(point), Some(id)) = (point_of(&l.name), run_of(&l.name, "hold")) {
                    let title = "its record does not open".into();
                    let (until, at, host) = (None, l.modified, String::new());
                    let hold = Hold { id, point: point.clone(), title, until, at, host };
                    notes.by_point.entry(point).or_default().holds.push(hold);
                }
                notes.ignored.push(l.name);
            }
        }
        notes.ignored.sort();
        Ok(notes)
    }

    /// What is known of a point; nothing, if there are no notes.
    pub fn of(&self, point: &RunId) -> PointNotes {
        self.by_point.get(point).cloned().unwrap_or_default()
    }

    pub fn get(&self, point: &RunId) -> Option<&PointNotes> {
        self.by_point.get(point)
    }

    /// Every hold of a point that is still in force.
    pub fn holds(&self, now: Timestamp) -> impl Iterator<Item = &Hold> {
        self.by_point.values().flat_map(move |p| p.holds(now))
    }

    /// The hold of this id, in force or not.
    pub fn find_hold(&self, id: &str) -> Vec<&Hold> {
        self.by_point.values().flat_map(|p| &p.holds).filter(|h| h.id.as_str().starts_with(id)).collect()
    }

    /// All passed and failed verifications.
    pub fn verifications(&self) -> Vec<Verified> {
        self.by_point.values().flat_map(|p| p.verified.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    fn id(n: u8) -> RunId {
        format!("20261121T0000{n:02}Z-aaaaaa").parse().unwrap()
    }

    fn hold(n: u8, until: Option<i64>) -> Body {
        let until = until.map(t);
        Body::Hold(Hold { id: id(n), point: id(0), title: "audit".into(), until, at: t(1), host: "h".into() })
    }

    fn released(n: u8) -> Body {
        Body::Released(Released {
            hold: id(n),
            point: id(0),
            reason: String::new(),
            at: t(1),
            host: "h".into(),
        })
    }

    fn expired() -> Body {
        Body::Expired(Expired {
            point: id(0),
            reason: "no rule".into(),
            by_hand: false,
            at: t(1),
            host: "h".into(),
        })
    }

    #[test]
    fn the_fold_does_not_depend_on_order() {
        let all = [hold(1, None), hold(2, Some(50)), released(1), expired()];
        for turn in 0..all.len() {
            let mut p = PointNotes::default();
            for i in 0..all.len() {
                assert!(p.take(all[(i + turn) % all.len()].clone(), Signer::Operator, t(10)));
            }
            assert_eq!(p.holds(t(40)).map(|h| h.id.clone()).collect::<Vec<_>>(), [id(2)]);
            assert!(p.expired(t(40)).is_none(), "held until 50");
            // Time under a hold does not count.
            assert_eq!(p.expired(t(51)).map(|(at, _)| at), Some(t(50)));
        }
    }

    #[test]
    fn a_host_can_hold_and_nothing_else() {
        let mut p = PointNotes::default();
        assert!(p.take(hold(1, None), Signer::Host, t(1)));
        for body in [released(1), expired()] {
            assert!(!p.take(body, Signer::Host, t(1)));
        }
        assert_eq!(p.holds(t(9)).count(), 1);
        assert!(p.expired(t(9)).is_none());
    }
}
