//! Retention at work: what the policy's rules make of a vault.
//!
//! [`Holdings`] gathers what one vault has of a database and asks
//! [`holdfast_core::retention`], which decides. [`expire`] prints and notes what may go, [`sweep`]
//! removes it, [`hold`] keeps a point whatever the rules say.
//!
//! Nothing here deletes but a sweep, and a sweep asks the rules again.

pub mod early;
pub mod expire;
pub mod hold;
pub mod sweep;

use crate::away::{Away, each_vault};
use crate::context::{Context, open_vault};
use crate::error::{EngineError, Result};
use holdfast_core::policy;
use holdfast_core::retention::{
    Candidate, Decision, Hold, Reason, Rules, Verdict, WalKeep, decide, wal_needs,
};
use holdfast_core::{ClusterId, RunId};
use holdfast_vault::vault::Seen;
use holdfast_vault::{ClusterVault, Notes, Signer, Vault};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What one vault has of a database, and what the rules say of it.
#[derive(Debug)]
pub struct Holdings {
    pub vault_policy: policy::Vault,
    pub vault: Vault,
    pub clusters: Vec<Held>,
    pub rules: Rules,
    /// Of all points but those that a person expired.
    pub decision: Decision,
    /// With those as well: says what guards them.
    with_expired: Decision,
    candidates: Vec<Candidate>,
    /// Where the verdict on a point stands in `decision`, and else in `with_expired`.
    places: HashMap<(ClusterId, RunId), (bool, usize)>,
    pub now: Timestamp,
}

/// One cluster of it.
#[derive(Debug)]
pub struct Held {
    pub cluster: ClusterVault,
    pub points: Vec<Seen>,
    pub notes: Notes,
    /// Point records that do not open.
    pub damaged: Vec<String>,
}

/// The rules that a policy has for a vault: those of the tiers and copies that go there.
pub fn rules(ctx: &Context, vault: &str) -> Result<Rules> {
    let tiers = ctx.plan.tiers.iter().filter(|(_, t)| t.vaults.iter().any(|v| v == vault));
    let copies = ctx.plan.copies.iter().filter(|(_, c)| c.to == vault);
    let keeps = tiers
        .clone()
        .map(|(name, t)| (format!("tier {name}"), t.keep.clone()))
        .chain(copies.map(|(name, c)| (format!("copy {name}"), c.keep.clone())))
        .collect();
    // Days begin where the (first) tier says that they do.
    let zone = tiers.map(|(_, t)| t.timezone.as_str()).next().unwrap_or("UTC");
    let timezone = TimeZone::get(zone).map_err(|_| {
        EngineError::usage(format!("`{zone}` is not a time zone"), "write an IANA name such as Europe/Berlin")
    })?;
    Ok(Rules { keeps, wal_keep: ctx.plan.wal.keep, timezone })
}

/// A point as retention sees it.
pub(crate) fn candidate(cluster: &ClusterId, seen: &Seen, notes: &Notes) -> Candidate {
    let p = &seen.facts;
    let verified = notes.get(&p.id).and_then(|n| n.best()).map(|v| v.at);
    Candidate {
        id: p.id.clone(),
        cluster: cluster.clone(),
        timeline: p.timeline,
        redo_lsn: p.redo_lsn,
        start_lsn: p.start_lsn,
        stop_lsn: p.stop_lsn,
        stop_time: p.stop_time,
        stored_at: seen.stored_at,
        generation: p.generation,
        size_bytes: p.size_bytes,
        partial: p.damaged > 0,
        verified,
        trusted: seen.signer == Signer::Operator || verified.is_some(),
        tags: p.tags.clone(),
        timeline_history: p.timeline_history.clone(),
    }
}

/// Whether no person may expire a point that stays for this reason.
pub fn guards(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::NewestSuccess
            | Reason::NewestVerified
            | Reason::AtLeast { .. }
            | Reason::Hold { .. }
            | Reason::Locked { .. }
    )
}

impl Holdings {
    /// Reads what `vault` has, as of `now` (the store's clock where it was asked).
    pub async fn read(ctx: &Context, vault: policy::Vault, now: Timestamp) -> Result<Self> {
        let opened = open_vault(&vault).await?;
        Self::of(ctx, (vault, opened), now, None).await
    }

    /// The same of a vault that is open; a person may want to expire the point of the id `chosen`.
    async fn of(
        ctx: &Context,
        (vault, opened): (policy::Vault, Vault),
        now: Timestamp,
        chosen: Option<&str>,
    ) -> Result<Self> {
        let mut clusters = Vec::new();
        for cluster in ctx.clusters(&opened).await? {
            let survey = cluster.survey().await?;
            let notes = Notes::read(&cluster).await?;
            let damaged = survey.damaged.iter().map(ToString::to_string).collect();
            clusters.push(Held { cluster, points: survey.points, notes, damaged });
        }
        let rules = rules(ctx, &vault.name)?;
        let mut holds = Vec::new();
        let (mut all, mut rest) = (Vec::new(), Vec::new());
        let mut by_person: BTreeSet<(ClusterId, RunId)> = BTreeSet::new();
        for held in &clusters {
            holds.extend(held.notes.holds(now).map(|h| Hold {
                id: h.id.clone(),
                point: h.point.clone(),
                title: h.title.clone(),
                until: h.until,
            }));
            for seen in &held.points {
                let c = candidate(&held.cluster.path().cluster, seen, &held.notes);
                let by_hand = held
                    .notes
                    .get(&seen.facts.id)
                    .is_some_and(|n| n.expired(now).is_some() && n.expired_by_hand());
                if by_hand || chosen == Some(c.id.as_str()) {
                    by_person.insert((c.cluster.clone(), c.id.clone()));
                }
                if !by_hand {
                    rest.push(c.clone());
                }
                all.push(c);
            }
        }
        let mut locks = BTreeMap::new();
        let mut decision = decide(&rest, &holds, &locks, &rules, now);
        if opened.store().lock_rule().is_some() && opened.store().knows_locks().await? {
            // A lock keeps its own point and no other, so only what would go has to be asked about: by the
            // rules, or because a person said so, whom no rule stops.
            let stays: HashSet<(&ClusterId, &RunId)> =
                decision.verdicts.iter().filter(|v| v.keep).map(|v| (&v.cluster, &v.id)).collect();
            for held in &clusters {
                let cluster = &held.cluster.path().cluster;
                let goes = |id: &RunId| {
                    !stays.contains(&(cluster, id)) || by_person.contains(&(cluster.clone(), id.clone()))
                };
                let ids = held.points.iter().map(|s| &s.facts.id).filter(|id| goes(id));
                for (id, until) in holdfast_vault::lock::of_points(&held.cluster, ids).await? {
                    // An invented cluster may have a point of the same id.
                    locks.entry(id).and_modify(|t| *t = until.max(*t)).or_insert(until);
                }
            }
            decision = decide(&rest, &holds, &locks, &rules, now);
        }
        let with_expired = decide(&all, &holds, &locks, &rules, now);
        let mut places = HashMap::new();
        for (first, d) in [(false, &with_expired), (true, &decision)] {
            let keys = d.verdicts.iter().enumerate().rev();
            places.extend(keys.map(|(i, v)| ((v.cluster.clone(), v.id.clone()), (first, i))));
        }
        Ok(Holdings {
            vault_policy: vault,
            vault: opened,
            clusters,
            rules,
            decision,
            with_expired,
            candidates: all,
            places,
            now,
        })
    }

    /// The vaults of the database, each as of the store's own clock if `ask` (which writes and removes a
    /// small object), else as of this host's; and those that are away. `chosen`: the id of a point that a
    /// person wants to expire.
    pub async fn of_vaults(ctx: &Context, ask: bool, chosen: Option<&str>) -> Result<(Vec<Self>, Vec<Away>)> {
        each_vault(ctx, async |v| {
            // Opened first: asking for the time writes, and nothing may be written where no vault is.
            let opened = open_vault(&v).await?;
            let now = if ask { opened.store().clock().await?.0 } else { Timestamp::now() };
            Holdings::of(ctx, (v, opened), now, chosen).await
        })
        .await
    }

    /// Whether the rules keep a point (asked without what persons expired), and why. Ids repeat: a copy of a
    /// cluster may have them, and a host can invent a cluster with the points of another.
    pub fn verdict(&self, cluster: &ClusterId, id: &RunId) -> Option<&Verdict> {
        let (first, place) = self.places.get(&(cluster.clone(), id.clone()))?;
        let decision = if *first { &self.decision } else { &self.with_expired };
        decision.verdicts.get(*place)
    }

    /// What forbids that a person expires the point.
    pub fn guards_of(&self, cluster: &ClusterId, id: &RunId) -> Vec<String> {
        let mine = |v: &&Verdict| &v.cluster == cluster && &v.id == id;
        let verdict = self.with_expired.verdicts.iter().find(mine);
        verdict.into_iter().flat_map(|v| &v.reasons).filter(|r| guards(r)).map(ToString::to_string).collect()
    }

    /// The WAL that stays if the points in `going` go.
    pub fn wal_keep(&self, going: &dyn Fn(&RunId) -> bool) -> WalKeep {
        let kept: Vec<&Candidate> = self.candidates.iter().filter(|c| !going(&c.id)).collect();
        wal_needs(&kept, &self.decision, &self.rules, self.now)
    }

    /// May this point go now: somebody expired it, at least `grace` ago by the store's clock, nothing holds
    /// it, the rules (or the guards, if a person did it) still agree, and its packs, which are not younger than
    /// it, are no longer paid for if the vault waits for that. `Err` says why not.
    pub fn may_go(
        &self,
        held: &Held,
        seen: &Seen,
        grace: holdfast_core::time::Duration,
    ) -> Option<Result<String, String>> {
        let id = &seen.facts.id;
        let notes = held.notes.get(id)?;
        let Some((at, note)) = notes.expired(self.now) else {
            return notes.expired_at_all().then(|| Err("it is held".into()));
        };
        let cluster = &held.cluster.path().cluster;
        if notes.expired_by_hand() {
            let guards = self.guards_of(cluster, id);
            if !guards.is_empty() {
                return Some(Err(guards.join("; ")));
            }
        } else {
            match self.verdict(cluster, id) {
                None => return Some(Err("the rules were not asked about it".into())),
                Some(v) if v.keep => {
                    let why: Vec<String> = v.reasons.iter().map(ToString::to_string).collect();
                    return Some(Err(format!("the rules want it again: {}", why.join("; "))));
                }
                Some(_) => {}
            }
        }
        let waited = at.duration_until(self.now).as_secs().max(0) as u64;
        if waited < grace.0 {
            let left = holdfast_core::time::Duration(grace.0 - waited);
            return Some(Err(format!("expired, removed in {left} at the earliest (`sweep-after`)")));
        }
        match (self.vault_policy.storage_class, self.vault_policy.sweep_early) {
            (Some(class), false) => match early::paid_until(class, seen.stored_at) {
                Some(t) if t > self.now => Some(Err(format!(
                    "expired, and `{class}` is paid for until {}: removed then (`sweep-early`)",
                    holdfast_core::time::short(t)
                ))),
                _ => Some(Ok(note.reason.clone())),
            },
            _ => Some(Ok(note.reason.clone())),
        }
    }

    /// All points, as retention sees them.
    pub(crate) fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The holds in force.
    pub(crate) fn holds(&self) -> Vec<Hold> {
        let hold = |h: &holdfast_vault::point::Hold| Hold {
            id: h.id.clone(),
            point: h.point.clone(),
            title: h.title.clone(),
            until: h.until,
        };
        self.clusters.iter().flat_map(|held| held.notes.holds(self.now)).map(hold).collect()
    }

    /// The cluster that a point is in.
    pub fn held_of(&self, cluster: &ClusterId) -> Option<&Held> {
        self.clusters.iter().find(|h| &h.cluster.path().cluster == cluster)
    }
}
