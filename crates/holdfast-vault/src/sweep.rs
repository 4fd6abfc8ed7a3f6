//! Sweeping: removing what no point, hold or lock needs any more (R5, docs/FORMAT.md §6.8).
//!
//! The promise: nothing that a point needs, or that a run under way could still come to need, is ever
//! removed; and what nobody needs goes in the end. Whoever calls says which points may go and which
//! WAL (that is retention, which this crate knows nothing of); what hangs on them is found here.
//!
//! Order, and why:
//! 1. dead runs are aborted at their commit name: a paused one that wakes cannot commit any more;
//! 2. points that shall go are condemned (create-if-absent), and holds on them are read again;
//! 3. *then* leases are listed. A writer takes its lease before it asks whether its parent is condemned.
//!    So a writer that is not in this list will find its parent condemned, and stop. A point that a
//!    lease without commit names as a parent waits for the next sweep;
//! 4. *then* points are listed, and what the remaining ones need is read from their roots;
//! 5. point records go first, then packs, notes, leases and WAL.
//!
//! Clocks decide only when a run counts as dead and when a sweep may begin, never what is needed.
//!
//! Crash at any step: a condemned run without a point, some of its packs still there. The next sweep
//! finds the same and goes on. Two sweeps at once do the same work twice.

use crate::error::{Result, StoreErrorKind, VaultError};
use crate::facts::PointFacts;
use crate::keys::Signer;
use crate::names::{PackClass, PackId, run_of};
use crate::noteindex;
use crate::notes::Notes;
use crate::point::{Aborted, Body, Condemned, Lease};
use crate::pointindex;
use crate::probe::PROBE_FOLDER;
use crate::reader::{PackSet, PointReader};
use crate::store::Listed;
use crate::vault::{ClusterVault, Seen, Survey};
use crate::walindex::{self, WalListing, Written};
use futures::{StreamExt, TryStreamExt};
use holdfast_core::{Monitor, RunId, SegmentName};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Requests under way at once.
const PARALLEL: usize = 16;

/// WAL of so long before a lease may still be needed by its run: a standby's backup begins at the last
/// restartpoint, which lies before it.
const WAL_BEFORE_LEASE: SignedDuration = SignedDuration::from_hours(48);

/// What shall go, as retention decided.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// Points, and why each may go.
    pub remove: BTreeMap<RunId, String>,
    /// WAL objects that no point and no window needs.
    pub wal: Vec<Listed>,
    /// Segments that no index tells of.
    pub unsettled: u64,
    /// The store's clock.
    pub now: Timestamp,
    /// A run that wrote nothing for so long is dead.
    pub dead_after: SignedDuration,
    /// Records of failed runs are kept so long.
    pub keep_failed: SignedDuration,
    pub host: String,
}

/// An object that can go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doomed {
    pub name: String,
    pub size: u64,
    /// When the store says that it was written.
    pub modified: Timestamp,
}

impl From<Listed> for Doomed {
    fn from(l: Listed) -> Self {
        Doomed { name: l.name, size: l.size, modified: l.modified }
    }
}

/// What a sweep removes, and what it cannot yet.
#[derive(Debug, Clone, Default)]
pub struct Sweep {
    /// Records of points.
    pub points: Vec<Doomed>,
    /// Packs that no remaining point needs.
    pub packs: Vec<Doomed>,
    pub wal: Vec<Doomed>,
    /// Notes of points that are gone, leases of runs that ended, old failures, litter of uploads.
    pub litter: Vec<Doomed>,
    /// Points that must wait, and for what.
    pub waiting: Vec<(RunId, String)>,
    /// Runs that died without a point.
    pub dead: Vec<RunId>,
    /// Runs that are under way.
    pub active: Vec<RunId>,
    /// Bytes of packs that stay.
    pub kept_bytes: u64,
    /// Runs under way that build on something that is not there, or whose lease does not open. Then nothing
    /// can go: the view may be torn (the parent was removed after the run had committed, and we listed the
    /// points between), and in it the run's needs are not seen. Found by the model in
    /// `tests/it/sweeping.rs`.
    pub unseen: Vec<RunId>,
    condemn: Vec<Condemned>,
}

/// How an execution ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    pub objects: u64,
    pub bytes: u64,
    /// Objects that the store does not let go for want of a right.
    pub refused: Vec<(String, String)>,
    /// Objects that are locked: a later sweep removes them.
    pub locked: Vec<Locked>,
}

/// An object that the store keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    pub name: String,
    pub size: u64,
    /// `None`: a legal hold, until somebody ends it.
    pub until: Option<Timestamp>,
}

impl Sweep {
    pub fn doomed(&self) -> impl Iterator<Item = &Doomed> {
        self.points.iter().chain(&self.packs).chain(&self.wal).chain(&self.litter)
    }

    pub fn bytes(&self) -> u64 {
        self.doomed().map(|d| d.size).sum()
    }
}

/// What leases say.
struct Leases {
    /// Of runs that neither committed nor were aborted.
    active: BTreeMap<RunId, Option<Lease>>,
    all: Vec<Listed>,
}

/// One look at everything.
struct Look {
    sweep: Sweep,
    survey: Survey,
    /// Notes that stay.
    notes: Vec<Listed>,
}

/// What would go now, had everything been condemned. Reads only.
pub async fn plan(cluster: &ClusterVault, order: &Order) -> Result<Sweep> {
    Ok(pass(cluster, order, false).await?.sweep)
}

/// One look at everything, in the order that the module's head gives. With `strict` only what was
/// condemned before leases were listed can go.
async fn pass(cluster: &ClusterVault, order: &Order, strict: bool) -> Result<Look> {
    let condemned = condemned(cluster).await?;
    let leases = leases(cluster, &condemned).await?;
    let survey = cluster.survey().await?;
    judge(cluster, order, strict, condemned, leases, survey).await
}

async fn condemned(cluster: &ClusterVault) -> Result<BTreeSet<RunId>> {
    let folder = format!("{}/condemned", cluster.path().folder());
    let listed = cluster.store().list(&folder).await?;
    Ok(listed.iter().filter_map(|l| l.name.rsplit('/').next()?.parse().ok()).collect())
}

/// Does it. What `plan` showed may differ by what happened since; that is judged anew.
pub async fn execute(cluster: &ClusterVault, order: &Order, monitor: &dyn Monitor) -> Result<(Sweep, Swept)> {
    let first = plan(cluster, order).await?;
    for run in &first.dead {
        let aborted = Aborted {
            run: run.clone(),
            by: order.host.clone(),
            at: order.now,
            reason: format!("it wrote nothing for {} hours", order.dead_after.as_hours()),
        };
        cluster.abort_run(aborted).await?;
    }
    for c in first.condemn {
        condemn(cluster, c).await?;
    }
    let mut look = pass(cluster, order, true).await?;
    for _ in 0..5 {
        if look.sweep.unseen.is_empty() {
            break;
        }
        look = pass(cluster, order, true).await?;
    }
    let Look { mut sweep, survey, notes } = look;
    let mut swept = Swept::default();
    settle(cluster, order, &mut sweep).await?;
    // Points first: while a record is there, everything that it needs is.
    for part in [&sweep.points, &sweep.packs, &sweep.wal, &sweep.litter] {
        remove(cluster, part, monitor, &mut swept).await?;
        let kept = !swept.refused.is_empty() || !swept.locked.is_empty();
        if monitor.cancelled() || (std::ptr::eq(part, &sweep.points) && kept) {
            break;
        }
    }
    // What was removed is to be told of, whatever becomes of the indexes: the next sweep writes them.
    if !monitor.cancelled() {
        let points = pointindex::write(cluster, &survey, &order.host).await;
        let notes = noteindex::write(cluster, notes, &order.host).await;
        for e in [points.err(), notes.err()].into_iter().flatten() {
            monitor.warning(format!("an index could not be written: {e}"));
        }
    }
    Ok((sweep, swept))
}

/// So many segments that stand in no index are worth one.
const UNSETTLED: u64 = 2 * walindex::CHUNK;

/// Writes the next index of the WAL, without what goes now: before the first of it goes.
async fn settle(cluster: &ClusterVault, order: &Order, sweep: &mut Sweep) -> Result<()> {
    let segment = |d: &Doomed| d.name.rsplit('/').next()?.strip_suffix(".wal")?.parse().ok();
    let doomed: BTreeSet<SegmentName> = sweep.wal.iter().filter_map(segment).collect();
    if doomed.is_empty() && order.unsettled < UNSETTLED {
        return Ok(());
    }
    for _ in 0..5 {
        let listing = WalListing::read(cluster).await?;
        match listing.write(cluster, &doomed, &order.host).await? {
            Written::Done => return Ok(()),
            Written::Raced => {}
        }
    }
    // Others sweep without a pause; what they leave goes the next time.
    sweep.wal.clear();
    Ok(())
}

async fn condemn(cluster: &ClusterVault, c: Condemned) -> Result<()> {
    let name = cluster.path().condemned(&c.run);
    match cluster.vault().put_record(&name, &Body::Condemned(c), Signer::Operator).await {
        Ok(_) => Ok(()),
        // Its being there is what counts, whoever said it.
        Err(e) if e.store_kind() == Some(StoreErrorKind::Exists) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Runs whose point a sweep removed: condemned, and the operator signed it. Asked only of runs that have
/// left something but no commit: a host that could say so might have the packs of another's run removed
/// while it writes them.
async fn removed(
    cluster: &ClusterVault,
    condemned: &BTreeSet<RunId>,
    of: impl IntoIterator<Item = RunId>,
) -> Result<BTreeSet<RunId>> {
    let runs: BTreeSet<RunId> = of.into_iter().filter(|run| condemned.contains(run)).collect();
    let read: Vec<Option<RunId>> = futures::stream::iter(runs)
        .map(|run| async move {
            match cluster.vault().get_record(&cluster.path().condemned(&run)).await {
                Ok((Body::Condemned(c), Signer::Operator)) if c.run == run => Ok(Some(run)),
                Ok(_) | Err(VaultError::Damaged { .. }) => Ok(None),
                Err(e) => Err(e),
            }
        })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    Ok(read.into_iter().flatten().collect())
}

async fn leases(cluster: &ClusterVault, condemned: &BTreeSet<RunId>) -> Result<Leases> {
    let folder = format!("{}/leases", cluster.path().folder());
    let all = cluster.store().list(&folder).await?;
    let ended: BTreeSet<RunId> = cluster
        .store()
        .list(&cluster.path().points())
        .await?
        .iter()
        .filter_map(|l| run_of(&l.name, "point"))
        .collect();
    let open = || all.iter().filter_map(|l| run_of(&l.name, "lease")).filter(|run| !ended.contains(run));
    // The name of a point that was removed looks free.
    let removed = removed(cluster, condemned, open()).await?;
    let active = futures::stream::iter(open().filter(|run| !removed.contains(run)))
        .map(|run| async move {
            match cluster.vault().get_record(&cluster.path().lease(&run)).await {
                Ok((Body::Lease(lease), _)) => Ok((run, Some(lease))),
                // What a lease says that does not open is unknown: it could name anything.
                Ok(_) | Err(VaultError::Damaged { .. }) => Ok((run, None)),
                Err(e) => Err(e),
            }
        })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    Ok(Leases { active, all })
}

/// A pack's id from its name.
fn pack_of(name: &str) -> Option<PackId> {
    let mut parts = name.rsplit('/');
    let (file, run) = (parts.next()?, parts.next()?);
    let (class, number) = file.strip_suffix(".pack")?.split_once('-')?;
    let class = match class {
        "data" => PackClass::Data,
        "meta" => PackClass::Meta,
        _ => return None,
    };
    Some(PackId { run: run.parse().ok()?, class, number: number.parse().ok()? })
}

/// The run that an object under `runs/` belongs to.
fn run_folder(name: &str) -> Option<RunId> {
    name.rsplit('/').nth(1)?.parse().ok()
}

/// Fills in which packs each live point needs: those of its root, and the one that holds the root. Roots are
/// read; a plan believes the index.
async fn needs(
    cluster: &ClusterVault,
    survey: &mut Survey,
    live: &dyn Fn(&RunId) -> bool,
    strict: bool,
) -> Result<()> {
    let unknown = |s: &&Seen| live(&s.facts.id) && (strict || s.packs.is_none());
    let facts: Vec<PointFacts> = survey.points.iter().filter(unknown).map(|s| s.facts.clone()).collect();
    let mut read = futures::stream::iter(facts)
        .map(|f| async move {
            let packs = PackSet::new(cluster.clone());
            let reader = PointReader::open_root(packs.clone(), &f.id, &f.root, f.block_size).await?;
            let mut ids: BTreeSet<PackId> =
                reader.root().packs.iter().filter_map(|p| packs.id(p.pack)).collect();
            ids.insert(PackId { run: f.id.clone(), class: PackClass::Meta, number: f.root.pack });
            Ok::<_, VaultError>((f.id, ids))
        })
        .buffer_unordered(PARALLEL);
    let mut found: BTreeMap<RunId, Vec<u32>> = BTreeMap::new();
    while let Some(one) = read.next().await {
        let (run, ids) = one?;
        found.insert(run, ids.iter().map(|id| survey.table.intern(id)).collect());
    }
    for seen in &mut survey.points {
        if let Some(packs) = found.remove(&seen.facts.id) {
            seen.packs = Some(packs);
        }
    }
    Ok(())
}

/// Which of the points that shall go are held by now. Whoever holds writes first and asks then whether the
/// point is condemned; a sweep condemns first and reads the holds then. So one of them sees the other.
async fn holds(cluster: &ClusterVault, order: &Order, notes: &[Listed]) -> Result<BTreeSet<RunId>> {
    let of_going = notes.iter().filter(|l| {
        (l.name.ends_with(".hold") || l.name.ends_with(".released"))
            && run_folder(&l.name).is_some_and(|run| order.remove.contains_key(&run))
    });
    let notes = Notes::open(cluster, of_going.cloned().collect()).await?;
    Ok(notes.holds(order.now).map(|h| h.point.clone()).collect())
}

/// A sign of life, `runs/RUN/alive-NNNN`.
fn is_sign(name: &str) -> bool {
    name.rsplit('/').next().is_some_and(|file| file.starts_with("alive-"))
}

async fn judge(
    cluster: &ClusterVault,
    order: &Order,
    strict: bool,
    condemned: BTreeSet<RunId>,
    leases: Leases,
    mut survey: Survey,
) -> Result<Look> {
    let mut sweep = Sweep { active: leases.active.keys().cloned().collect(), ..Default::default() };
    let notes = cluster.store().list(&cluster.path().notes()).await?;
    let held = holds(cluster, order, &notes).await?;
    // What a record that does not open needs is unknown, so nothing can go.
    if let Some(e) = survey.damaged.pop() {
        return Err(e);
    }
    let mut live: BTreeSet<RunId> = BTreeSet::new();
    let mut going: BTreeSet<RunId> = BTreeSet::new();
    for seen in &survey.points {
        let id = &seen.facts.id;
        let Some(reason) = order.remove.get(id) else {
            live.insert(id.clone());
            continue;
        };
        // While its record is there, all that it needs must be.
        if let Some(why) = cluster.store().lock_on(&cluster.path().point(id)).await? {
            sweep.waiting.push((id.clone(), why));
            live.insert(id.clone());
            continue;
        }
        if held.contains(id) {
            sweep.waiting.push((id.clone(), "it is held".into()));
            live.insert(id.clone());
            continue;
        }
        let user = leases.active.iter().find(|(_, l)| l.as_ref().is_none_or(|l| l.parents.contains(id)));
        if let Some((run, _)) = user {
            // Condemned all the same: no further run begins with it.
            sweep.waiting.push((id.clone(), format!("run {run} may build on it")));
            live.insert(id.clone());
        } else if strict && !condemned.contains(id) {
            live.insert(id.clone());
        } else {
            going.insert(id.clone());
        }
        sweep.condemn.push(Condemned {
            run: id.clone(),
            generation: seen.facts.generation,
            reason: reason.clone(),
            at: order.now,
            host: order.host.clone(),
        });
    }
    needs(cluster, &mut survey, &|run| live.contains(run), strict).await?;
    let of_live = || survey.points.iter().filter(|s| live.contains(&s.facts.id));
    let handles: BTreeSet<u32> = of_live().flat_map(|s| s.packs.iter().flatten().copied()).collect();
    let needed: BTreeSet<&PackId> = handles.iter().filter_map(|h| survey.table.get(*h)).collect();
    let path = cluster.path();
    let old = |l: &Listed, age: SignedDuration| l.modified.duration_until(order.now) > age;

    // Packs, and the newest sign of life of each run.
    let mut last_write: BTreeMap<RunId, Timestamp> = BTreeMap::new();
    let runs = cluster.store().list(&path.runs()).await?;
    let staged = cluster.store().staged(&path.folder());
    for l in runs.iter().chain(staged.iter().filter(|l| l.name.starts_with(&path.runs()))) {
        if let Some(run) = run_folder(&l.name) {
            let t = last_write.entry(run).or_insert(l.modified);
            *t = (*t).max(l.modified);
        }
    }
    for l in &leases.all {
        if let Some(run) = run_of(&l.name, "lease") {
            let t = last_write.entry(run).or_insert(l.modified);
            *t = (*t).max(l.modified);
        }
    }
    let committed = |run: &RunId| live.contains(run) || going.contains(run) || survey.aborted.contains(run);
    let removed =
        removed(cluster, &condemned, last_write.keys().filter(|run| !committed(run)).cloned()).await?;
    let ended = |run: &RunId| committed(run) || removed.contains(run);
    for (run, last) in &last_write {
        if !ended(run) && last.duration_until(order.now) > order.dead_after {
            sweep.dead.push(run.clone());
        }
    }
    for l in &runs {
        let Some(run) = run_folder(&l.name) else { continue };
        // A plan shows what will go. What does go is of runs that can commit no more.
        let gone = ended(&run) || (!strict && sweep.dead.contains(&run));
        let doomed = Doomed::from(l.clone());
        match pack_of(&l.name) {
            Some(id) if needed.contains(&id) => sweep.kept_bytes += l.size,
            Some(_) if gone => sweep.packs.push(doomed),
            // A sign of life says nothing about a run that ended.
            None if gone && is_sign(&l.name) => sweep.litter.push(doomed),
            _ => sweep.kept_bytes += l.size,
        }
    }
    for seen in survey.points.iter().filter(|s| going.contains(&s.facts.id)) {
        let name = path.point(&seen.facts.id);
        let (size, modified) =
            cluster.store().head(&name).await?.map_or((0, seen.stored_at), |l| (l.size, l.modified));
        sweep.points.push(Doomed { name, size, modified });
    }
    for l in staged {
        // A run's own packs grow under such names as long as it lives.
        let done = !l.name.starts_with(&path.runs()) || run_folder(&l.name).is_some_and(|run| ended(&run));
        if done && old(&l, order.dead_after) {
            sweep.litter.push(l.into());
        }
    }
    let noted: BTreeSet<RunId> = notes.iter().filter_map(|l| run_folder(&l.name)).collect();
    // Also one that was declared dead after its point had gone: somebody saw its lease, and no point.
    let stays = |run: &RunId| live.contains(run) || going.contains(run);
    let gone_before = self::removed(cluster, &condemned, noted.into_iter().filter(|run| !stays(run))).await?;
    let goes = |l: &Listed| {
        run_folder(&l.name).is_some_and(|run| going.contains(&run) || gone_before.contains(&run))
    };
    let (gone, notes): (Vec<Listed>, Vec<Listed>) = notes.into_iter().partition(goes);
    sweep.litter.extend(gone.into_iter().map(Doomed::from));
    for l in &leases.all {
        let Some(run) = run_of(&l.name, "lease") else { continue };
        if ended(&run) && !leases.active.contains_key(&run) && old(l, order.dead_after) {
            sweep.litter.push(l.clone().into());
        }
    }
    for l in cluster.store().list(&format!("{}/failed", path.folder())).await? {
        if old(&l, order.keep_failed) {
            sweep.litter.push(l.into());
        }
    }
    // The newest ledger of locks knows all that the others do, and what is still true of it.
    let mut ledgers = cluster.store().list(&path.ledgers()).await?;
    ledgers.sort_by_key(|l| l.modified);
    ledgers.pop();
    sweep.litter.extend(ledgers.into_iter().filter(|l| old(l, order.dead_after)).map(Doomed::from));
    if !order.wal.is_empty() {
        // Whatever retention said: a point is complete with its WAL (R10).
        let of_points: BTreeSet<String> = of_live()
            .flat_map(|s| &s.facts.wal)
            .map(|w| path.segment(w.name.timeline, &w.name.to_string()))
            .collect();
        // A run under way names its segments only when it commits; it may have been long about it.
        let leased =
            |l: &&Listed| run_of(&l.name, "lease").is_some_and(|run| leases.active.contains_key(&run));
        let first = leases.all.iter().filter(leased).map(|l| l.modified).min();
        let before_leases =
            |l: &Listed| first.is_none_or(|first| l.modified.duration_until(first) > WAL_BEFORE_LEASE);
        // A copy builds on WAL that has lain here for long, and says which.
        let named: BTreeSet<String> = leases
            .active
            .values()
            .flatten()
            .flat_map(|l| &l.wal)
            .map(|s| path.segment(s.timeline, &s.to_string()))
            .collect();
        let free = |name: &String| !of_points.contains(name) && !named.contains(name);
        let can_go = |l: &&Listed| free(&l.name) && before_leases(l);
        sweep.wal = order.wal.iter().filter(can_go).cloned().map(Doomed::from).collect();
    }
    let seen: BTreeSet<&RunId> = survey.points.iter().map(|s| &s.facts.id).collect();
    let is_seen = |l: &Option<Lease>| l.as_ref().is_some_and(|l| l.parents.iter().all(|p| seen.contains(p)));
    sweep.unseen = leases.active.iter().filter(|(_, l)| !is_seen(l)).map(|(run, _)| run.clone()).collect();
    if let Some(run) = sweep.unseen.first() {
        let why = format!("what run {run} builds on cannot be seen");
        sweep.waiting = order.remove.keys().map(|id| (id.clone(), why.clone())).collect();
        for part in [&mut sweep.points, &mut sweep.packs, &mut sweep.wal, &mut sweep.litter] {
            part.clear();
        }
    }
    Ok(Look { sweep, survey, notes })
}

async fn remove(
    cluster: &ClusterVault,
    part: &[Doomed],
    monitor: &dyn Monitor,
    swept: &mut Swept,
) -> Result<()> {
    let store = cluster.store();
    let mut results = futures::stream::iter(part)
        .map(|d| async move {
            let done = match d.name.contains('#') {
                true => store.remove_staged(&d.name),
                false => store.delete(&d.name).await,
            };
            (d, done)
        })
        .buffer_unordered(PARALLEL);
    while let Some((d, result)) = results.next().await {
        match result {
            Ok(()) => {
                swept.objects += 1;
                swept.bytes += d.size;
                store.prune_folder(&d.name);
            }
            Err(VaultError::Locked { until, hold, .. }) => {
                let until = until.filter(|_| !hold);
                swept.locked.push(Locked { name: d.name.clone(), size: d.size, until });
            }
            Err(e) if e.store_kind() == Some(StoreErrorKind::Denied) => {
                swept.refused.push((d.name.clone(), e.to_string()));
            }
            Err(e) => return Err(e),
        }
        if monitor.cancelled() {
            break;
        }
    }
    Ok(())
}

/// Leftovers of store probes above the clusters, older than a day.
pub async fn probe_litter(store: &crate::Store, now: Timestamp) -> Result<Vec<Doomed>> {
    let day = SignedDuration::from_hours(24);
    let all = store.list(PROBE_FOLDER).await?;
    Ok(all.into_iter().filter(|l| l.modified.duration_until(now) > day).map(Doomed::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_are_known_by_their_names() {
        let run = "20261121T093512Z-k3f9q2";
        let id = pack_of(&format!("db/a/7/runs/{run}/data-0012.pack")).unwrap();
        assert_eq!((id.run.as_str(), id.class, id.number), (run, PackClass::Data, 12));
        assert_eq!(pack_of(&format!("db/a/7/runs/{run}/data-0012.pack#1")), None);
        assert_eq!(pack_of("db/a/7/runs/x/meta-0001.pack"), None);
        assert_eq!(run_folder(&format!("db/a/7/runs/{run}/data-0012.pack#1")).unwrap().as_str(), run);
    }
}
