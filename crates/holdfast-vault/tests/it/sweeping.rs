//! A model of many hosts on one vault: backing up, expiring, holding and sweeping at once, with pauses of
//! any length and crashes between any two requests. What must hold at every instant: everything that a
//! point needs is there, and what is held stays. And when all is quiet: nothing else is left.
//!
//! The hosts are futures that are polled one step at a time in an order that a seed decides
//! (`HOLDFAST_SEED`); each store request yields before and after it, so a crash can come when the request
//! was never sent, or when its reply was lost. Runs count as dead at once: clocks are as wrong as can be.

use crate::vaults::{cluster_record, path, point};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use holdfast_core::monitor::Collect;
use holdfast_core::policy::Compression;
use holdfast_core::{Lsn, RunId};
use holdfast_testkit::TestRng;
use holdfast_vault::codec::Compressor;
use holdfast_vault::manifest::{Live, PackUse, Root};
use holdfast_vault::names::{PackClass, PackId, run_of};
use holdfast_vault::object::Purpose;
use holdfast_vault::pack::{PackInfo, PackTable, PackWriter, PartSink};
use holdfast_vault::point::{Body, Expired, FrameJson, Hold, Lease, Released};
use holdfast_vault::reader::{PackSet, PointReader};
use holdfast_vault::sweep::{self, Order};
use holdfast_vault::{Cipher, ClusterVault, Commit, Keys, Notes, Result, Signer, Store, Vault, VaultError};
use jiff::{SignedDuration, Timestamp};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Gives the others a chance to run.
async fn turn() {
    let mut waited = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A store whose every request is two steps.
#[derive(Debug, Clone)]
pub struct Stepping(pub Arc<InMemory>);

impl std::fmt::Display for Stepping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stepping")
    }
}

type Answer<T> = object_store::Result<T>;

#[async_trait]
impl ObjectStore for Stepping {
    async fn put_opts(&self, at: &Path, body: PutPayload, opts: PutOptions) -> Answer<PutResult> {
        turn().await;
        let r = self.0.put_opts(at, body, opts).await;
        turn().await;
        r
    }
    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> Answer<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(at, opts).await
    }
    async fn get_opts(&self, at: &Path, opts: GetOptions) -> Answer<GetResult> {
        turn().await;
        self.0.get_opts(at, opts).await
    }
    fn delete_stream(&self, at: BoxStream<'static, Answer<Path>>) -> BoxStream<'static, Answer<Path>> {
        let inner = self.0.clone();
        at.then(move |path| {
            let inner = inner.clone();
            async move {
                turn().await;
                let one = stream::once(async move { path }).boxed();
                let r = inner.delete_stream(one).next().await.unwrap();
                turn().await;
                r
            }
        })
        .boxed()
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Answer<ObjectMeta>> {
        let (inner, prefix) = (self.0.clone(), prefix.cloned());
        let look = async move {
            turn().await;
            inner.list(prefix.as_ref())
        };
        stream::once(look).flatten().boxed()
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Answer<ListResult> {
        turn().await;
        self.0.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, opts: CopyOptions) -> Answer<()> {
        self.0.copy_opts(from, to, opts).await
    }
}

/// A pack in memory.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl PartSink for Sink {
    fn part(&mut self, bytes: Bytes) -> Result<()> {
        self.0.lock().unwrap().extend_from_slice(&bytes);
        Ok(())
    }
    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
    fn abort(self: Box<Self>) {}
}

/// What the test knows and no host does.
#[derive(Default)]
struct Ledger {
    /// Packs that a run's point would need, by name, once it is about to commit.
    needs: BTreeMap<RunId, BTreeSet<String>>,
    /// Points whose hold was there before anybody condemned them, and that nobody released.
    held: BTreeSet<RunId>,
    commits: u32,
    fenced: u32,
    refused: u32,
    removed: u64,
}

type Shared = Rc<RefCell<Ledger>>;
type Host = Pin<Box<dyn Future<Output = ()>>>;

struct World {
    memory: Arc<InMemory>,
    /// Without steps, to look at everything.
    cluster: ClusterVault,
    keys: Keys,
    ledger: Shared,
    rng: TestRng,
}

pub fn run_id(rng: &mut TestRng) -> RunId {
    let t = Timestamp::from_second(1_790_000_000 + rng.below(10_000_000) as i64).unwrap();
    let tail: String = (0..6).map(|_| char::from(b'a' + rng.below(26) as u8)).collect();
    format!("{}-{tail}", t.strftime("%Y%m%dT%H%M%SZ")).parse().unwrap()
}

pub fn pack(c: &ClusterVault, id: &PackId, handle: u32, frame: &[u8]) -> (PackInfo, FrameJson, Bytes) {
    let sink = Sink::default();
    let name = c.path().pack(id);
    let purpose = if id.class == PackClass::Meta { Purpose::Meta } else { Purpose::Data };
    let ctx = c.seal_context();
    let mut w =
        PackWriter::new(&ctx, id.clone(), handle, &name, purpose, Box::new(sink.clone()), 8 << 20).unwrap();
    let loc = w.frame(frame, &mut Compressor::new(Compression::None).unwrap()).unwrap();
    let (info, _) = w.finish().unwrap();
    let root = FrameJson {
        pack: id.number,
        index: loc.index,
        offset: loc.offset,
        sealed_len: loc.sealed_len,
        plain_len: loc.plain_len,
        codec: loc.codec as u8,
    };
    let bytes = sink.0.lock().unwrap().clone();
    (info, root, bytes.into())
}

/// What the engine does for a backup, in its order: lease, look at the parent, packs, commit.
async fn backup(c: ClusterVault, ledger: Shared, mut rng: TestRng) -> Result<()> {
    let (points, _) = c.points().await?;
    // Any point, expired ones too: nothing but the lease and the look afterwards protects it.
    let parent = if points.is_empty() || rng.chance(100) { None } else { Some(rng.pick(&points).clone()) };
    let run = run_id(&mut rng);
    let lease = Lease {
        run: run.clone(),
        parents: parent.iter().map(|p| p.id.clone()).collect(),
        commit: c.path().point(&run),
        host: "model".into(),
        agent: "model".into(),
        pid: 1,
        started_at: Timestamp::UNIX_EPOCH,
        wal: vec![],
    };
    c.take_lease(&lease).await?;
    if let Some(p) = &parent
        && !c.can_build_on(&p.id).await?
    {
        ledger.borrow_mut().refused += 1;
        return Ok(());
    }
    let mut table = PackTable::default();
    let mut uses: Vec<PackUse> = Vec::new();
    let mut needs = BTreeSet::new();
    if let Some(p) = &parent {
        let set = PackSet::new(c.clone());
        let reader = PointReader::open(set.clone(), p).await?;
        for u in &reader.root().packs {
            let id = set.id(u.pack).unwrap();
            if rng.chance(700) {
                needs.insert(c.path().pack(&id));
                uses.push(PackUse { pack: table.intern(&id), ..u.clone() });
            }
        }
    }
    let id = PackId { run: run.clone(), class: PackClass::Data, number: 1 };
    let handle = table.intern(&id);
    let (info, _, bytes) = pack(&c, &id, handle, run.as_str().as_bytes());
    c.store().create(&c.path().pack(&id), bytes).await?;
    needs.insert(c.path().pack(&id));
    uses.push(PackUse { pack: handle, len: info.len, digest: info.digest, live: Live::default() });
    if rng.chance(300) {
        c.give_sign(&run, 1, "model").await?;
    }
    let id = PackId { run: run.clone(), class: PackClass::Meta, number: 1 };
    let plain = Root { packs: uses, groups: vec![] }.encode(&table);
    let handle = table.intern(&id);
    let (_, root, bytes) = pack(&c, &id, handle, &plain);
    c.store().create(&c.path().pack(&id), bytes).await?;
    needs.insert(c.path().pack(&id));
    ledger.borrow_mut().needs.insert(run.clone(), needs);
    let mut p = point(&run);
    p.parent = parent.map(|p| p.id);
    p.root = root;
    p.stop_lsn = Lsn(rng.next_u64() >> 1);
    match c.commit_point(p).await {
        Ok(()) => ledger.borrow_mut().commits += 1,
        Err(VaultError::Fenced(_)) => ledger.borrow_mut().fenced += 1,
        Err(e) => return Err(e),
    }
    Ok(())
}

async fn expire(c: ClusterVault, mut rng: TestRng) -> Result<()> {
    let (points, _) = c.points().await?;
    if points.len() < 2 {
        return Ok(());
    }
    let p = rng.pick(&points).id.clone();
    let at = Timestamp::now();
    let note = Expired { point: p.clone(), reason: "model".into(), by_hand: true, at, host: "model".into() };
    let name = c.path().note(&p, &run_id(&mut rng), "expired");
    c.vault().put_record(&name, &Body::Expired(note), Signer::Operator).await?;
    Ok(())
}

/// As the engine holds: write first, ask then.
async fn hold(c: ClusterVault, ledger: Shared, mut rng: TestRng) -> Result<()> {
    let (points, _) = c.points().await?;
    if points.is_empty() {
        return Ok(());
    }
    let p = rng.pick(&points).id.clone();
    let h = Hold {
        id: run_id(&mut rng),
        point: p.clone(),
        title: "model".into(),
        until: None,
        at: Timestamp::now(),
        host: "model".into(),
    };
    c.vault().put_record(&c.path().note(&p, &h.id, "hold"), &Body::Hold(h.clone()), Signer::Host).await?;
    if c.is_condemned(&p).await? || c.commit(&p).await?.is_none() {
        return Ok(());
    }
    ledger.borrow_mut().held.insert(p.clone());
    if rng.chance(700) {
        // From the moment that a release may be there, nothing is promised.
        ledger.borrow_mut().held.remove(&p);
        let r = Released {
            hold: h.id,
            point: p.clone(),
            reason: String::new(),
            at: Timestamp::now(),
            host: "model".into(),
        };
        let name = c.path().note(&p, &run_id(&mut rng), "released");
        c.vault().put_record(&name, &Body::Released(r), Signer::Operator).await?;
    }
    Ok(())
}

/// The order that the engine would give, with no grace at all.
pub async fn order(c: &ClusterVault, dead_after: SignedDuration) -> Result<Order> {
    let now = Timestamp::now();
    let (points, _) = c.points().await?;
    let notes = Notes::read(c).await?;
    let gone = points.iter().filter(|p| notes.get(&p.id).is_some_and(|n| n.expired(now).is_some()));
    Ok(Order {
        remove: gone.map(|p| (p.id.clone(), "model".into())).collect(),
        wal: vec![],
        unsettled: 0,
        now: now + SignedDuration::from_secs(5),
        dead_after,
        keep_failed: SignedDuration::ZERO,
        host: "model".into(),
    })
}

async fn sweep(c: ClusterVault, ledger: Shared, mut rng: TestRng) -> Result<()> {
    // Either every run that has not committed is dead, or none is.
    let dead_after = if rng.chance(400) { SignedDuration::ZERO } else { SignedDuration::from_hours(9) };
    let order = order(&c, dead_after).await?;
    let (_, swept) = sweep::execute(&c, &order, &Collect::default()).await?;
    assert!(swept.refused.is_empty());
    ledger.borrow_mut().removed += swept.objects;
    Ok(())
}

/// Errors that a host may meet because others are at work; all else is a failure of the model.
fn is_expected(e: &VaultError) -> bool {
    // A point or pack that a sweep took while we read, outside of what we had protected.
    e.is_not_found() || matches!(e, VaultError::Fenced(_))
}

impl World {
    async fn new(seed: u64) -> Self {
        let memory = Arc::new(InMemory::new());
        let store = Store::from_object_store(memory.clone());
        let keys = Keys::generate().unwrap();
        let vault = Vault::create(store, keys.clone(), Cipher::Aes256Gcm).await.unwrap();
        let cluster = vault.ensure_cluster(path(), cluster_record).await.unwrap();
        World { memory, cluster, keys, ledger: Shared::default(), rng: TestRng::new(seed) }
    }

    /// A host that does one thing through a store of its own.
    async fn host(&mut self) -> Host {
        let store = Store::from_object_store(Arc::new(Stepping(self.memory.clone())));
        let mut rng = self.rng.fork();
        let (keys, ledger) = (self.keys.clone(), self.ledger.clone());
        Box::pin(async move {
            let what = rng.below(10);
            let done = async {
                let c = Vault::open(store, keys).await?.cluster(path()).await?;
                match what {
                    0..5 => backup(c, ledger, rng).await,
                    5..7 => expire(c, rng).await,
                    7 => hold(c, ledger, rng).await,
                    _ => sweep(c, ledger, rng).await,
                }
            };
            if let Err(e) = done.await {
                assert!(is_expected(&e), "host {what}: {e:?}");
            }
        })
    }

    /// What must be true at every instant.
    async fn inspect(&self, points: &mut BTreeMap<RunId, bool>, seed: u64) {
        let c = &self.cluster;
        let all: BTreeSet<String> =
            c.store().list(&c.path().folder()).await.unwrap().into_iter().map(|l| l.name).collect();
        let mut there = BTreeSet::new();
        let named: BTreeSet<RunId> = all.iter().filter_map(|n| run_of(n, "point")).collect();
        // What stands at a name never changes. (A sweep that slept may abort a run whose point came, expired
        // and was removed meanwhile: then `aborted` stands where the point was.)
        points.retain(|run, _| named.contains(run));
        for run in named {
            let is_point = match points.get(&run) {
                Some(known) => *known,
                None => {
                    let is = matches!(c.commit(&run).await.unwrap(), Some(Commit::Point(_)));
                    points.insert(run.clone(), is);
                    is
                }
            };
            if !is_point {
                continue;
            }
            there.insert(run);
        }
        let ledger = self.ledger.borrow();
        for run in &there {
            for name in &ledger.needs[run] {
                assert!(all.contains(name), "seed {seed}: point {run} needs {name}, which is gone");
            }
        }
        for run in &ledger.held {
            assert!(there.contains(run), "seed {seed}: point {run} was held, and is gone");
        }
    }
}

async fn history(seed: u64, steps: u32) -> (u32, u32, u32, u64) {
    let mut world = World::new(seed).await;
    let mut hosts: Vec<Host> = Vec::new();
    let mut points = BTreeMap::new();
    let mut cx = Context::from_waker(Waker::noop());
    let mut rng = world.rng.fork();
    // Some are paused for long: only so many of the first are polled at a time.
    let mut awake = 4;
    for step in 0..steps {
        if hosts.len() < 7 {
            hosts.push(world.host().await);
        }
        if rng.chance(20) {
            awake = 1 + rng.below(7) as usize;
            rng.shuffle(&mut hosts);
        }
        let i = rng.below(hosts.len().min(awake) as u64) as usize;
        let ended = hosts[i].as_mut().poll(&mut cx).is_ready();
        if ended || rng.chance(6) {
            // Finished, or its process was killed.
            drop(hosts.swap_remove(i));
        }
        if step % 4 == 0 || ended {
            world.inspect(&mut points, seed).await;
        }
    }
    // The others come to their end, however late, one after the other.
    while let Some(mut host) = hosts.pop() {
        while host.as_mut().poll(&mut cx).is_pending() {}
        world.inspect(&mut points, seed).await;
    }
    quiet(&world, seed).await;
    let l = world.ledger.borrow();
    (l.commits, l.fenced, l.refused, l.removed)
}

/// When nobody is at work, sweeps leave what is needed and nothing else.
async fn quiet(world: &World, seed: u64) {
    let c = &world.cluster;
    let mut left = 0;
    for _ in 0..3 {
        let order = order(c, SignedDuration::ZERO).await.unwrap();
        let (s, swept) = sweep::execute(c, &order, &Collect::default()).await.unwrap();
        assert!(s.waiting.is_empty() && s.active.is_empty(), "seed {seed}: {s:?}");
        left = swept.objects;
    }
    assert_eq!(left, 0, "seed {seed}: the third sweep found something");
    let now = Timestamp::now();
    let notes = Notes::read(c).await.unwrap();
    let (live, errors) = c.points().await.unwrap();
    assert!(errors.is_empty());
    assert!(live.iter().all(|p| notes.get(&p.id).is_none_or(|n| n.expired(now).is_none())));
    let all = c.store().list(&c.path().folder()).await.unwrap();
    let ledger = world.ledger.borrow();
    let needed: BTreeSet<&String> = live.iter().flat_map(|p| &ledger.needs[&p.id]).collect();
    let of = |kind: &str| -> Vec<&String> {
        all.iter().map(|l| &l.name).filter(|n| n.contains(&format!("/{kind}/"))).collect()
    };
    assert_eq!(of("runs").into_iter().collect::<BTreeSet<_>>(), needed, "seed {seed}");
    assert!(of("leases").is_empty(), "seed {seed}: {:?}", of("leases"));
    let ids: BTreeSet<String> = live.iter().map(|p| p.id.to_string()).collect();
    for n in of("notes") {
        assert!(ids.contains(n.rsplit('/').nth(1).unwrap()), "seed {seed}: {n}");
    }
}

#[test]
fn random_histories_lose_nothing_and_leave_nothing() {
    let seed = holdfast_testkit::seed_from_env_or_time("HOLDFAST_SEED");
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (histories, steps) =
        if std::env::var_os("HOLDFAST_SOAK").is_some() { (300, 6000) } else { (16, 2500) };
    let mut sum = (0, 0, 0, 0);
    for n in 0..histories {
        let (a, b, c, d) = rt.block_on(history(seed.wrapping_add(n), steps));
        sum = (sum.0 + a, sum.1 + b, sum.2 + c, sum.3 + d);
    }
    eprintln!("{} commits, {} fenced, {} parents refused, {} objects removed", sum.0, sum.1, sum.2, sum.3);
    // A history in which nothing happens shows nothing.
    assert!(sum.0 > 50 && sum.1 > 0 && sum.2 > 0 && sum.3 > 200, "{sum:?}");
}

/// A killed writer's unfinished files on a local disk, which no listing shows.
#[tokio::test]
async fn what_cut_writes_left_goes() {
    let scratch = holdfast_testkit::Scratch::new("sweep-staged");
    let store = crate::stores::local(&scratch);
    let vault = Vault::create(store.clone(), Keys::generate().unwrap(), Cipher::Aes256Gcm).await.unwrap();
    let c = vault.ensure_cluster(path(), cluster_record).await.unwrap();
    let mut rng = TestRng::new(3);
    let (dead, alive) = (run_id(&mut rng), run_id(&mut rng));
    for run in [&dead, &alive] {
        let lease = Lease {
            run: run.clone(),
            parents: vec![],
            commit: c.path().point(run),
            host: "model".into(),
            agent: "model".into(),
            pid: 1,
            started_at: Timestamp::UNIX_EPOCH,
            wal: vec![],
        };
        c.take_lease(&lease).await.unwrap();
    }
    let root = scratch.path("vault");
    let write = |name: String| {
        let at = root.join(&name);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(&at, b"half").unwrap();
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(100_000);
        std::fs::File::open(&at).unwrap().set_modified(old).unwrap();
        at
    };
    let of = |run: &RunId| c.path().pack(&PackId { run: run.clone(), class: PackClass::Data, number: 1 });
    let (gone, stays) = (write(format!("{}#1", of(&dead))), write(format!("{}#1", of(&alive))));
    let segment = write(format!("{}/00000001/000000010000000000000003.wal#2", c.path().wal()));
    c.abort_run(holdfast_vault::point::Aborted {
        run: dead,
        by: "model".into(),
        at: Timestamp::UNIX_EPOCH,
        reason: "it is dead".into(),
    })
    .await
    .unwrap();
    let order = order(&c, SignedDuration::from_hours(24)).await.unwrap();
    let (s, swept) = sweep::execute(&c, &order, &Collect::default()).await.unwrap();
    assert_eq!((s.litter.len(), swept.objects), (2, 2), "{s:?}");
    assert!(!gone.exists() && !segment.exists() && stays.exists());
}

/// A run that writes no pack for days gives signs of life, and is not taken for dead; they go when it has ended.
#[tokio::test]
async fn signs_of_life_keep_a_slow_run_alive() {
    let scratch = holdfast_testkit::Scratch::new("sweep-alive");
    let c = on_disk(&scratch).await;
    let run = run_id(&mut TestRng::new(8));
    let lease = Lease {
        run: run.clone(),
        parents: vec![],
        commit: c.path().point(&run),
        host: "model".into(),
        agent: "model".into(),
        pid: 1,
        started_at: Timestamp::UNIX_EPOCH,
        wal: vec![],
    };
    c.take_lease(&lease).await.unwrap();
    let aged = |name: String, hours: u64| {
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(hours * 3600);
        std::fs::File::open(scratch.path("vault").join(name)).unwrap().set_modified(old).unwrap();
    };
    aged(c.path().lease(&run), 60);
    let order = order(&c, SignedDuration::from_hours(24)).await.unwrap();
    let dead = async || sweep::plan(&c, &order).await.unwrap().dead;
    assert_eq!(dead().await, std::slice::from_ref(&run));
    for n in [1, 2] {
        c.give_sign(&run, n, "model").await.unwrap();
    }
    aged(c.path().alive(&run, 1), 30);
    assert_eq!(dead().await, []);
    let (s, swept) = sweep::execute(&c, &order, &Collect::default()).await.unwrap();
    assert_eq!(
        (s.active.as_slice(), swept.objects),
        (std::slice::from_ref(&run), 0),
        "it is under way: {s:?}"
    );
    // It died after the second one.
    aged(c.path().alive(&run, 2), 25);
    let (s, swept) = sweep::execute(&c, &order, &Collect::default()).await.unwrap();
    assert_eq!((s.active.as_slice(), swept.objects), (&[][..], 3), "both, and the lease: {s:?}");
    assert!(matches!(c.commit(&run).await.unwrap(), Some(Commit::Aborted(_))));
}

/// A cluster in a directory, whose times and bytes a test can change.
async fn on_disk(scratch: &holdfast_testkit::Scratch) -> ClusterVault {
    let store = crate::stores::local(scratch);
    let vault = Vault::create(store, Keys::generate().unwrap(), Cipher::Aes256Gcm).await.unwrap();
    vault.ensure_cluster(path(), cluster_record).await.unwrap()
}

#[tokio::test]
async fn a_hold_that_does_not_open_holds() {
    let scratch = holdfast_testkit::Scratch::new("sweep-hold");
    let c = on_disk(&scratch).await;
    let mut rng = TestRng::new(5);
    backup(c.clone(), Shared::default(), rng.fork()).await.unwrap();
    let p = c.points().await.unwrap().0.remove(0).id;
    let at = Timestamp::now();
    let expired = Expired { point: p.clone(), reason: "x".into(), by_hand: true, at, host: "h".into() };
    let name = c.path().note(&p, &run_id(&mut rng), "expired");
    c.vault().put_record(&name, &Body::Expired(expired), Signer::Operator).await.unwrap();
    let hold = run_id(&mut rng);
    let h =
        Hold { id: hold.clone(), point: p.clone(), title: "audit".into(), until: None, at, host: "h".into() };
    let name = c.path().note(&p, &hold, "hold");
    c.vault().put_record(&name, &Body::Hold(h), Signer::Host).await.unwrap();
    let file = scratch.path("vault").join(&name);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[300] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let notes = Notes::read(&c).await.unwrap();
    assert_eq!((notes.ignored.as_slice(), notes.holds(at).count()), (&[name][..], 1));
    assert!(notes.of(&p).expired(at).is_none());
    // Whatever the order says.
    let mut order = order(&c, SignedDuration::ZERO).await.unwrap();
    order.remove.insert(p.clone(), "x".into());
    let (s, _) = sweep::execute(&c, &order, &Collect::default()).await.unwrap();
    assert_eq!(s.waiting, [(p.clone(), "it is held".to_string())]);
    assert!(c.commit(&p).await.unwrap().is_some());
    // The operator can end it by its id.
    let r = Released { hold, point: p.clone(), reason: String::new(), at, host: "h".into() };
    let name = c.path().note(&p, &run_id(&mut rng), "released");
    c.vault().put_record(&name, &Body::Released(r), Signer::Operator).await.unwrap();
    assert!(Notes::read(&c).await.unwrap().of(&p).expired(at).is_some());
}

#[tokio::test]
async fn wal_of_runs_under_way_stays() {
    let scratch = holdfast_testkit::Scratch::new("sweep-wal");
    let c = on_disk(&scratch).await;
    let run = run_id(&mut TestRng::new(6));
    let lease = Lease {
        run: run.clone(),
        parents: vec![],
        commit: c.path().point(&run),
        host: "model".into(),
        agent: "model".into(),
        pid: 1,
        started_at: Timestamp::UNIX_EPOCH,
        wal: vec![],
    };
    c.take_lease(&lease).await.unwrap();
    let mut order = order(&c, SignedDuration::from_hours(9)).await.unwrap();
    for (n, days) in [(1, 9), (2, 1), (3, 0)] {
        let name = c.path().segment(holdfast_core::TimelineId(1), &format!("00000001000000000000000{n}"));
        c.store().create(&name, Bytes::from_static(b"wal")).await.unwrap();
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(days * 86_400);
        std::fs::File::open(scratch.path("vault").join(&name)).unwrap().set_modified(old).unwrap();
        order.wal.push(c.store().head(&name).await.unwrap().unwrap());
    }
    let gone =
        |s: &sweep::Sweep| s.wal.iter().map(|d| d.name[d.name.len() - 5..].to_string()).collect::<Vec<_>>();
    let s = sweep::plan(&c, &order).await.unwrap();
    assert_eq!(gone(&s), ["1.wal"], "long before the lease");
    // Unless a lease names it: a copy builds on what has lain there for long.
    let second = run_id(&mut TestRng::new(7));
    let named = Lease {
        commit: c.path().point(&second),
        run: second.clone(),
        wal: vec!["000000010000000000000001".parse().unwrap()],
        ..lease.clone()
    };
    c.take_lease(&named).await.unwrap();
    let s = sweep::plan(&c, &order).await.unwrap();
    assert_eq!(gone(&s), Vec::<String>::new(), "a lease names it");
    let dead = holdfast_vault::point::Aborted {
        run: second,
        by: "model".into(),
        at: Timestamp::UNIX_EPOCH,
        reason: "it is dead".into(),
    };
    c.abort_run(dead).await.unwrap();
    c.abort_run(holdfast_vault::point::Aborted {
        run,
        by: "model".into(),
        at: Timestamp::UNIX_EPOCH,
        reason: "it is dead".into(),
    })
    .await
    .unwrap();
    assert_eq!(gone(&sweep::plan(&c, &order).await.unwrap()), ["1.wal", "2.wal", "3.wal"]);
}
