//! Listings that go by an index: they say what a listing of everything says, also while others push, sweep
//! and index.

use crate::sweeping::{Stepping, order, pack, run_id};
use crate::vaults::{cluster_record, path, point};
use bytes::Bytes;
use holdfast_core::monitor::Collect;
use holdfast_core::{RunId, SegmentName, SegmentSize, TimelineId};
use holdfast_testkit::{Scratch, TestRng};
use holdfast_vault::manifest::{Live, PackUse, Root};
use holdfast_vault::names::{PackClass, PackId};
use holdfast_vault::pack::PackTable;
use holdfast_vault::point::{Body, Expired, Hold, Verified};
use holdfast_vault::pointindex::{ENOUGH, PackName};
use holdfast_vault::walindex::{WalListing, Written};
use holdfast_vault::{Cipher, ClusterVault, Keys, Notes, Result, Signer, Store, Vault, sweep};
use jiff::{SignedDuration, Timestamp};
use object_store::memory::InMemory;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

const SIZE: SegmentSize = SegmentSize::DEFAULT;

fn segment(t: u32, n: u64) -> SegmentName {
    SegmentName::new(TimelineId(t), n, SIZE)
}

fn name(c: &ClusterVault, s: SegmentName) -> String {
    c.path().segment(s.timeline, &s.to_string())
}

async fn put(c: &ClusterVault, s: SegmentName) -> Result<()> {
    c.store().create(&name(c, s), Bytes::from(vec![7; s.number(SIZE) as usize % 5])).await.map(|_| ())
}

async fn cluster_on(store: Store, keys: &Keys) -> ClusterVault {
    let vault = Vault::create(store, keys.clone(), Cipher::Aes256Gcm).await.unwrap();
    vault.ensure_cluster(path(), cluster_record).await.unwrap()
}

fn told(l: &WalListing) -> BTreeSet<SegmentName> {
    let of = |(t, wal): (&TimelineId, &holdfast_vault::walindex::TimelineWal)| {
        wal.numbers().into_iter().map(|n| SegmentName::new(*t, n, SIZE)).collect::<Vec<_>>()
    };
    l.timelines.iter().flat_map(of).collect()
}

/// What the model knows and no host does.
#[derive(Default)]
struct Truth {
    there: BTreeSet<SegmentName>,
    /// Rules have let it go: it may be there or not.
    doomed: BTreeSet<SegmentName>,
    removed: BTreeSet<SegmentName>,
    /// Below these nothing is wanted.
    floor: BTreeMap<u32, u64>,
    next: BTreeMap<u32, u64>,
    written: u32,
    raced: u32,
    reads: u32,
}

type Shared = Rc<RefCell<Truth>>;
type Host = Pin<Box<dyn Future<Output = ()>>>;

/// Pushes a few segments; some are left out, and come late.
async fn push(c: ClusterVault, truth: Shared, mut rng: TestRng) {
    let t = 1 + rng.below(2) as u32;
    for _ in 0..rng.range(1, 40) {
        let n = {
            let mut truth = truth.borrow_mut();
            let next = truth.next.entry(t).or_insert(3);
            let n = *next;
            *next += 1 + u64::from(rng.chance(30));
            // A late one fills a hole.
            if rng.chance(30) { n.saturating_sub(rng.below(60)).max(1) } else { n }
        };
        let s = segment(t, n);
        if truth.borrow().doomed.contains(&s) {
            continue;
        }
        put(&c, s).await.unwrap();
        truth.borrow_mut().there.insert(s);
    }
}

/// As [`sweep::execute`] does: the next index without what goes, then it goes.
async fn remove(c: ClusterVault, truth: Shared, mut rng: TestRng) {
    let doomed: BTreeSet<SegmentName> = {
        let mut truth = truth.borrow_mut();
        let t = 1 + rng.below(2) as u32;
        let newest = truth.next.get(&t).copied().unwrap_or(0);
        let floor = truth.floor.get(&t).copied().unwrap_or(0).max(rng.below(newest + 1));
        truth.floor.insert(t, floor);
        let below: Vec<SegmentName> =
            (0..floor).map(|n| segment(t, n)).filter(|s| s.number(SIZE) % 97 != 5).collect();
        truth.doomed.extend(below.iter().copied());
        below.into_iter().filter(|s| truth.there.contains(s)).collect()
    };
    loop {
        let l = WalListing::read(&c).await.unwrap();
        match l.write(&c, &doomed, "model").await.unwrap() {
            Written::Done => break truth.borrow_mut().written += 1,
            Written::Raced => truth.borrow_mut().raced += 1,
        }
    }
    for s in doomed {
        c.store().delete(&name(&c, s)).await.unwrap();
        truth.borrow_mut().removed.insert(s);
    }
}

/// Settles what came since.
async fn index(c: ClusterVault, truth: Shared) {
    let l = WalListing::read(&c).await.unwrap();
    match l.write(&c, &BTreeSet::new(), "model").await.unwrap() {
        Written::Done => truth.borrow_mut().written += 1,
        Written::Raced => truth.borrow_mut().raced += 1,
    }
}

/// What is really there: without steps.
async fn really(plain: &ClusterVault) -> BTreeSet<SegmentName> {
    let all = plain.store().list(&plain.path().wal()).await.unwrap();
    all.iter().filter_map(|l| l.name.rsplit('/').next()?.strip_suffix(".wal")?.parse().ok()).collect()
}

async fn look(c: ClusterVault, plain: ClusterVault, truth: Shared, seed: u64) {
    let (there, mut gone) = {
        let t = truth.borrow();
        (t.there.clone(), t.removed.clone())
    };
    // A push that slept may bring one again.
    let first = really(&plain).await;
    gone.retain(|s| !first.contains(s));
    let found = told(&WalListing::read(&c).await.unwrap());
    let last = really(&plain).await;
    let mut t = truth.borrow_mut();
    t.reads += 1;
    let stale: Vec<_> = found.intersection(&gone).filter(|s| !last.contains(s)).collect();
    assert!(stale.is_empty(), "seed {seed}: told of what had been removed before: {stale:?}");
    let missed: Vec<_> = there.difference(&t.doomed).filter(|s| !found.contains(s)).collect();
    assert!(missed.is_empty(), "seed {seed}: not told of {missed:?}");
}

async fn history(seed: u64, steps: u32) -> (u32, u32, u32) {
    let memory = Arc::new(InMemory::new());
    let keys = Keys::generate().unwrap();
    let plain = cluster_on(Store::from_object_store(memory.clone()), &keys).await;
    let truth = Shared::default();
    let mut rng = TestRng::new(seed);
    let mut hosts: Vec<Host> = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    let mut awake = 4;
    for _ in 0..steps {
        if hosts.len() < 7 {
            let store = Store::from_object_store(Arc::new(Stepping(memory.clone())));
            let (keys, truth, mut rng) = (keys.clone(), truth.clone(), rng.fork());
            let plain = plain.clone();
            hosts.push(Box::pin(async move {
                let c = Vault::open(store, keys).await.unwrap().cluster(path()).await.unwrap();
                match rng.below(10) {
                    0..5 => push(c, truth, rng).await,
                    5 => remove(c, truth, rng).await,
                    6 => index(c, truth).await,
                    _ => look(c, plain, truth, seed).await,
                }
            }));
        }
        if rng.chance(20) {
            awake = 1 + rng.below(7) as usize;
            rng.shuffle(&mut hosts);
        }
        let i = rng.below(hosts.len().min(awake) as u64) as usize;
        if hosts[i].as_mut().poll(&mut cx).is_ready() || rng.chance(2) {
            // Finished, or its process was killed.
            drop(hosts.swap_remove(i));
        }
    }
    drop(hosts);
    // Quiet: the index and a listing of everything say the same, also of what killed sweeps left.
    let l = WalListing::read(&plain).await.unwrap();
    let all = plain.store().list(&plain.path().wal()).await.unwrap();
    assert_eq!(told(&l), really(&plain).await, "seed {seed}");
    let bytes: u64 = l.timelines.values().map(|t| t.bytes()).sum();
    let really: u64 = all.iter().map(|l| l.size).sum();
    // Of a chunk that was cut only a share of its bytes is known.
    assert!(bytes.abs_diff(really) <= really / 4 + 64, "seed {seed}: {bytes} of {really}");
    let t = truth.borrow();
    (t.written, t.raced, t.reads)
}

#[test]
fn an_index_never_tells_of_what_is_gone_nor_hides_what_is_there() {
    let seed = holdfast_testkit::seed_from_env_or_time("HOLDFAST_SEED");
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (histories, steps) =
        if std::env::var_os("HOLDFAST_SOAK").is_some() { (300, 30_000) } else { (12, 12_000) };
    let mut sum = (0, 0, 0);
    for n in 0..histories {
        let (a, b, c) = rt.block_on(history(seed.wrapping_add(n), steps));
        sum = (sum.0 + a, sum.1 + b, sum.2 + c);
    }
    eprintln!("{} indexes written, {} raced, {} listings", sum.0, sum.1, sum.2);
    assert!(sum.0 > 50 && sum.1 > 0 && sum.2 > 100, "{sum:?}");
}

/// Requests of listing 3,000 segments, before and after they are settled.
#[tokio::test]
async fn an_index_saves_requests_and_a_hosts_does_not_count() {
    let memory = Arc::new(InMemory::new());
    let keys = Keys::generate().unwrap();
    let c = cluster_on(Store::from_object_store(memory.clone()), &keys).await;
    for n in (3..3003).filter(|n| *n != 700) {
        put(&c, segment(1, n)).await.unwrap();
    }
    let lists = || c.store().requests().list.load(Ordering::Relaxed);
    let before = lists();
    let l = WalListing::read(&c).await.unwrap();
    assert_eq!((lists() - before, l.unsettled()), (5, 2999));
    assert_eq!(l.write(&c, &BTreeSet::new(), "test").await.unwrap(), Written::Done);
    let (before, whole) = (lists(), told(&l));
    let l = WalListing::read(&c).await.unwrap();
    // Indexes, the folder, what came later, and two holes: before the first segment and at 700.
    assert_eq!((lists() - before, l.unsettled()), (5, 64));
    assert_eq!(told(&l), whole);
    put(&c, segment(1, 700)).await.unwrap();
    assert!(told(&WalListing::read(&c).await.unwrap()).contains(&segment(1, 700)), "it came late");

    // A host that says all is settled, and nothing there.
    let host = Vault::open(Store::from_object_store(memory), keys.for_host()).await.unwrap();
    let host = host.cluster(path()).await.unwrap();
    let lie = holdfast_vault::walindex::WalIndex {
        number: 2,
        timelines: vec![],
        at: Timestamp::now(),
        host: "evil".into(),
    };
    let at = host.path().wal_index(2);
    host.vault().put_record(&at, &Body::WalIndex(lie), Signer::Host).await.unwrap();
    let l = WalListing::read(&c).await.unwrap();
    assert_eq!(told(&l).len(), 3000);
    assert_eq!(l.write(&c, &BTreeSet::new(), "test").await.unwrap(), Written::Done, "number 3");
    let index = c.store().list(&c.path().index()).await.unwrap();
    assert_eq!(index.len(), 1, "earlier ones went: {index:?}");
}

/// Puts a point with a root that names a pack of each of the last three.
async fn commit(c: &ClusterVault, rng: &mut TestRng, earlier: &mut Vec<PackId>) {
    let run = run_id(rng);
    let mut table = PackTable::default();
    let id = PackId { run: run.clone(), class: PackClass::Data, number: 1 };
    let (info, _, bytes) = pack(c, &id, table.intern(&id), run.as_str().as_bytes());
    c.store().create(&c.path().pack(&id), bytes).await.unwrap();
    earlier.push(id);
    let from = earlier.len().saturating_sub(3);
    let uses =
        |id| PackUse { pack: table.intern(id), len: info.len, digest: info.digest, live: Live::default() };
    let uses = earlier[from..].iter().map(uses).collect();
    let id = PackId { run: run.clone(), class: PackClass::Meta, number: 1 };
    let plain = Root { packs: uses, groups: vec![] }.encode(&table);
    let (_, root, bytes) = pack(c, &id, table.intern(&id), &plain);
    c.store().create(&c.path().pack(&id), bytes).await.unwrap();
    let mut p = point(&run);
    p.root = root;
    p.note = format!("number {}", earlier.len());
    p.stop_lsn = holdfast_core::Lsn(earlier.len() as u64);
    c.commit_point(p).await.unwrap();
}

#[tokio::test]
async fn points_are_told_by_their_index_as_by_their_records() {
    let scratch = Scratch::new("point-index");
    let keys = Keys::generate().unwrap();
    let c = cluster_on(crate::stores::local(&scratch), &keys).await;
    let mut rng = TestRng::new(11);
    let mut earlier = Vec::new();
    for _ in 0..ENOUGH + 6 {
        commit(&c, &mut rng, &mut earlier).await;
    }
    let gets = || c.store().requests().get.load(Ordering::Relaxed);
    let before = gets();
    let plain = c.survey().await.unwrap();
    assert_eq!(gets() - before, (ENOUGH + 6) as u64, "each record is read");
    assert!(plain.points.iter().all(|s| !s.indexed));
    let now = order(&c, SignedDuration::from_hours(9)).await.unwrap();
    let without = sweep::plan(&c, &now).await.unwrap();
    let (_, swept) = sweep::execute(&c, &now, &Collect::default()).await.unwrap();
    assert_eq!(swept.objects, 0);
    let before = gets();
    let s = c.survey().await.unwrap();
    assert_eq!(gets() - before, 1, "the index alone is read");
    assert_eq!(s.points.len(), plain.points.len());
    for (a, b) in s.points.iter().zip(&plain.points) {
        assert!(a.indexed);
        assert_eq!((&a.facts, a.signer, a.stored_at, a.size), (&b.facts, b.signer, b.stored_at, b.size));
    }
    // What stays and goes is the same, by roots and by the index.
    let with = sweep::plan(&c, &now).await.unwrap();
    assert_eq!((with.kept_bytes, with.packs.len()), (without.kept_bytes, without.packs.len()));

    // A record that is not the one that was indexed is read; one that is gone is not told of.
    let (first, second) = (&s.points[0].facts.id, &s.points[1].facts.id);
    let file = |run| scratch.path("vault").join(c.path().point(run));
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    std::fs::File::options().write(true).open(file(first)).unwrap().set_modified(later).unwrap();
    std::fs::remove_file(file(second)).unwrap();
    let s = c.survey().await.unwrap();
    assert_eq!(s.points.len(), plain.points.len() - 1);
    assert!(s.points.iter().all(|s| &s.facts.id != second));
    assert_eq!(s.points.iter().filter(|s| !s.indexed).map(|s| &s.facts.id).collect::<Vec<_>>(), [first]);

    // A host's index does not count, nor one whose packs are named in a way that nobody knows.
    let index = c.store().list(&c.path().index()).await.unwrap();
    let only = index.iter().find(|l| l.name.contains("points-")).unwrap();
    let Ok((Body::PointIndex(good), _)) = c.vault().get_record(&only.name).await else { panic!() };
    let mut odd = good.clone();
    odd.packs[0] = PackName { class: "other".into(), ..odd.packs[0].clone() };
    for (body, signer) in [(good, Signer::Host), (odd, Signer::Operator)] {
        for l in c.store().list(&c.path().index()).await.unwrap() {
            c.store().delete(&l.name).await.unwrap();
        }
        let name = c.path().point_index(&run_id(&mut rng));
        c.vault().put_record(&name, &Body::PointIndex(body), signer).await.unwrap();
        let s = c.survey().await.unwrap();
        assert_eq!(s.points.len(), plain.points.len() - 1);
        assert!(s.points.iter().all(|s| !s.indexed), "{signer:?}");
    }
}

/// Notes of 20 points, as daily verifications, holds and a host's lies leave them.
async fn many_notes(
    c: &ClusterVault,
    host: &ClusterVault,
    runs: &[RunId],
    of_each: usize,
    rng: &mut TestRng,
) {
    let at = |n: usize| Timestamp::from_second(1_790_000_000 + 86_400 * n as i64).unwrap();
    for run in runs {
        for n in 0..of_each {
            let verified = Verified {
                point: run.clone(),
                // The best one is old: no newer one of less may hide it.
                level: if n == 3 { "L4" } else { "L1" }.into(),
                passed: true,
                findings: vec![],
                seconds: 1.5,
                restore_seconds: None,
                at: at(n),
                host: "h".into(),
                tool: "t".into(),
            };
            let name = c.path().note(run, &run_id(rng), "verified");
            c.vault().put_record(&name, &Body::Verified(verified), Signer::Operator).await.unwrap();
        }
        let hold = run_id(rng);
        let h = Hold {
            id: hold.clone(),
            point: run.clone(),
            title: "x".into(),
            until: None,
            at: at(0),
            host: "h".into(),
        };
        c.vault().put_record(&c.path().note(run, &hold, "hold"), &Body::Hold(h), Signer::Host).await.unwrap();
        let lie = Expired {
            point: run.clone(),
            reason: "by a host".into(),
            by_hand: true,
            at: at(0),
            host: "evil".into(),
        };
        let name = host.path().note(run, &run_id(rng), "expired");
        host.vault().put_record(&name, &Body::Expired(lie), Signer::Host).await.unwrap();
    }
}

/// 10,000 notes: once a sweep has written their index a few requests tell of all of them.
#[tokio::test]
async fn notes_are_told_by_their_index_as_by_themselves() {
    let memory = Arc::new(InMemory::new());
    let keys = Keys::generate().unwrap();
    let c = cluster_on(Store::from_object_store(memory.clone()), &keys).await;
    let host = Vault::open(Store::from_object_store(memory), keys.for_host()).await.unwrap();
    let host = host.cluster(path()).await.unwrap();
    let mut rng = TestRng::new(12);
    let mut earlier = Vec::new();
    for _ in 0..20 {
        commit(&c, &mut rng, &mut earlier).await;
    }
    let runs: Vec<RunId> = c.survey().await.unwrap().points.into_iter().map(|s| s.facts.id).collect();
    many_notes(&c, &host, &runs, 500, &mut rng).await;
    let (gets, lists) = (
        || c.store().requests().get.load(Ordering::Relaxed),
        || c.store().requests().list.load(Ordering::Relaxed),
    );
    let read = async || {
        let before = (gets(), lists());
        let notes = Notes::read(&c).await.unwrap();
        (notes, gets() - before.0, lists() - before.1)
    };
    let now = Timestamp::now();
    let told = |n: &Notes| -> Vec<_> {
        let of = |run: &RunId| {
            let p = n.of(run);
            let best = p.best().map(|v| (v.level.clone(), v.at));
            (best, p.verified.len(), p.holds(now).count(), p.expired_at_all())
        };
        runs.iter().map(of).collect()
    };
    let (plain, requests, _) = read().await;
    assert_eq!((requests, plain.ignored.len()), (20 * 502, 20));
    let l4 = Timestamp::from_second(1_790_000_000 + 3 * 86_400).unwrap();
    assert!(told(&plain).iter().all(|t| *t == (Some(("L4".into(), l4)), 500, 1, false)));

    let order = order(&c, SignedDuration::from_hours(9)).await.unwrap();
    let (_, swept) = sweep::execute(&c, &order, &Collect::default()).await.unwrap();
    assert_eq!(swept.objects, 0);
    let (notes, requests, listings) = read().await;
    // Ten pages of names and a little, the indexes; the index itself.
    assert_eq!(requests, 1);
    assert!(listings <= 13, "{listings}");
    assert_eq!((told(&notes), &notes.ignored), (told(&plain), &plain.ignored));
    let of_one = {
        let before = gets();
        let p = Notes::of_point(&c, &runs[0]).await.unwrap();
        assert_eq!((p.best().map(|v| v.level.as_str()), p.holds(now).count()), (Some("L4"), 1));
        gets() - before
    };
    assert_eq!(of_one, 1);
    // A second sweep writes none.
    let index = async || -> Vec<String> {
        let all = c.store().list(&c.path().index()).await.unwrap();
        all.into_iter().map(|l| l.name).filter(|n| n.contains("/notes-")).collect()
    };
    let first = index().await;
    assert_eq!(first.len(), 1);
    let _ = sweep::execute(&c, &order, &Collect::default()).await.unwrap();
    assert_eq!(index().await, first);

    // What came since is read; what is gone is not told of.
    many_notes(&c, &host, &runs[..1], 40, &mut rng).await;
    let victim = c.store().list(&format!("{}/{}", c.path().notes(), runs[1])).await.unwrap().remove(0);
    assert!(victim.name.ends_with(".verified"));
    c.store().delete(&victim.name).await.unwrap();
    let (notes, requests, _) = read().await;
    assert_eq!(requests, 1 + 42);
    assert_eq!((notes.of(&runs[0]).verified.len(), notes.of(&runs[1]).verified.len()), (540, 499));
    assert_eq!(notes.of(&runs[0]).holds(now).count(), 2);
    // Many of them: the next sweep takes them in, and leaves one index.
    many_notes(&c, &host, &runs[..1], 40, &mut rng).await;
    let _ = sweep::execute(&c, &order, &Collect::default()).await.unwrap();
    let second = index().await;
    assert!(second.len() == 1 && second != first);
    assert_eq!(read().await.1, 1);

    // A host cannot say so: neither that its note is an operator's, nor anything in an index of its own.
    let Ok((Body::NoteIndex(mut lie), _)) = c.vault().get_record(&second[0]).await else { panic!() };
    for e in &mut lie.notes {
        e.operator = true;
    }
    let name = c.path().note_index(&run_id(&mut rng));
    host.vault().put_record(&name, &Body::NoteIndex(lie), Signer::Host).await.unwrap();
    let (notes, requests, _) = read().await;
    assert_eq!((requests, notes.ignored.len()), (2, 22));
    assert!(runs.iter().all(|r| !notes.of(r).expired_at_all()));
    c.store().delete(&second[0]).await.unwrap();
    assert!(read().await.1 > 10_000, "a host's index alone saves nothing");
}
