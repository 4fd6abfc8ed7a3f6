//! What every store must do for a vault: one suite, run against each kind of store that we can have
//! here. A store that passes can carry a vault; one that does not is refused by the probe.

use crate::stores::{self, BUCKET};
use bytes::Bytes;
use futures::StreamExt;
use holdfast_core::{ClusterId, DatabaseName, RunId, TimelineId};
use holdfast_testkit::{Ceph, Fault, FaultProxy, Rule, Scratch, Store as Server};
use holdfast_vault::names::{self, ClusterPath, PackClass, PackId};
use holdfast_vault::probe::probe_conditional_create;
use holdfast_vault::{Created, Store, StoreErrorKind, VaultError};
use std::sync::atomic::Ordering;

const MIB: usize = 1 << 20;

pub async fn suite(store: &Store) {
    create_if_absent(store).await;
    racing_creates_have_one_winner(store).await;
    reads(store).await;
    listings(store).await;
    more_than_a_thousand(store).await;
    uploads(store).await;
    deletes(store).await;
    every_name_that_a_vault_uses(store).await;
    probe_conditional_create(store).await.expect("the probe accepts this store");
    let left = store.list("probe").await.unwrap();
    assert!(left.is_empty(), "the probe leaves {left:?}");
}

fn body(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn kind(e: &VaultError) -> Option<StoreErrorKind> {
    e.store_kind()
}

async fn create_if_absent(store: &Store) {
    assert_eq!(store.create("create/x", body("one")).await.unwrap(), Created::New);
    assert_eq!(store.create("create/x", body("one")).await.unwrap(), Created::Same);
    let e = store.create("create/x", body("two")).await.unwrap_err();
    assert_eq!(kind(&e), Some(StoreErrorKind::Exists), "{e}");
    assert_eq!(store.get("create/x").await.unwrap(), body("one"), "nothing was overwritten");
    // The same length is not the same content, and a prefix is not either.
    for other in ["onf", "on", "one!", ""] {
        assert!(store.create("create/x", body(other)).await.is_err(), "{other:?}");
    }
}

async fn racing_creates_have_one_winner(store: &Store) {
    for round in 0..5 {
        let name = format!("race/{round}");
        let tries = (0..8).map(|i| {
            let (store, name) = (store.clone(), name.clone());
            tokio::spawn(async move {
                let mine = body(&format!("writer {i}"));
                (mine.clone(), store.create(&name, mine).await)
            })
        });
        let mut winners = Vec::new();
        for r in futures::future::join_all(tries).await {
            match r.unwrap() {
                (mine, Ok(Created::New)) => winners.push(mine),
                (_, Err(e)) if kind(&e) == Some(StoreErrorKind::Exists) => {}
                (mine, other) => panic!("{mine:?}: {other:?}"),
            }
        }
        assert_eq!(winners, [store.get(&name).await.unwrap()]);
        // All who wrote the same bytes have succeeded; one of them made the object.
        let name = format!("race/same-{round}");
        let tries = (0..8).map(|_| {
            let (store, name) = (store.clone(), name.clone());
            tokio::spawn(async move { store.create(&name, body("the same")).await.unwrap() })
        });
        let results = futures::future::join_all(tries).await;
        let new = results.into_iter().filter(|r| *r.as_ref().unwrap() == Created::New).count();
        assert_eq!(new, 1);
    }
}

async fn reads(store: &Store) {
    store.create("read/x", body("0123456789")).await.unwrap();
    assert_eq!(store.get("read/x").await.unwrap(), body("0123456789"));
    assert_eq!(store.get_range("read/x", 3..7).await.unwrap(), body("3456"));
    assert_eq!(store.get_range("read/x", 0..10).await.unwrap(), body("0123456789"));
    assert_eq!(store.get_tail("read/x", 4).await.unwrap(), body("6789"));
    assert_eq!(store.get_tail("read/x", 10).await.unwrap(), body("0123456789"));
    assert_eq!(store.get_tail("read/x", 64).await.unwrap(), body("0123456789"));
    // Shorter than somebody's index says: damage, and no reason to try again.
    for range in [5..20, 9..11, 10..12, 100..200] {
        let e = store.get_range("read/x", range.clone()).await.unwrap_err();
        assert!(matches!(e, VaultError::Damaged { .. }), "{range:?}: {e:?}");
    }
    let there = store.head("read/x").await.unwrap().unwrap();
    assert_eq!((there.name.as_str(), there.size), ("read/x", 10));
    let age = jiff::Timestamp::now().duration_since(there.modified).as_secs().abs();
    assert!(age < 3600, "the store's clock is {age} s away");
    // Absence is an answer of its own.
    for missing in ["read/y", "read", "read/x/y", "nowhere/at/all"] {
        assert_eq!(store.head(missing).await.unwrap(), None, "{missing}");
        for e in [
            store.get(missing).await.unwrap_err(),
            store.get_range(missing, 0..4).await.unwrap_err(),
            store.get_tail(missing, 4).await.unwrap_err(),
        ] {
            assert!(e.is_not_found(), "{missing}: {e:?}");
        }
    }
}

async fn listings(store: &Store) {
    for name in ["list/b/2", "list/a/1", "list/ab", "list/b/10", "list/a/x/deep", "listing/z"] {
        store.create(name, body(name)).await.unwrap();
    }
    let of = |v: Vec<holdfast_vault::store::Listed>| v.into_iter().map(|l| l.name).collect::<Vec<_>>();
    assert_eq!(
        of(store.list("list").await.unwrap()),
        ["list/a/1", "list/a/x/deep", "list/ab", "list/b/10", "list/b/2"]
    );
    // A folder is not a prefix of a name: `list/a` is not `list/ab`.
    assert_eq!(of(store.list("list/a").await.unwrap()), ["list/a/1", "list/a/x/deep"]);
    assert!(store.list("list/c").await.unwrap().is_empty());
    assert!(store.list("nowhere").await.unwrap().is_empty());
    let sizes: Vec<u64> = store.list("list/b").await.unwrap().iter().map(|l| l.size).collect();
    assert_eq!(sizes, [9, 8]);
    assert_eq!(store.folders("list").await.unwrap(), ["a", "b"]);
    assert_eq!(store.folders("list/a").await.unwrap(), ["x"]);
    assert!(store.folders("nowhere").await.unwrap().is_empty());
    let after =
        |name: &'static str| async move { store.first_after("list", name).await.unwrap().map(|l| l.name) };
    assert_eq!(after("list/a/1").await.as_deref(), Some("list/a/x/deep"));
    assert_eq!(after("list/a/0").await.as_deref(), Some("list/a/1"));
    assert_eq!(after("list/b/10").await.as_deref(), Some("list/b/2"));
    assert_eq!(after("list/b/2").await, None);
    assert!(store.first_after("nowhere", "nowhere/a").await.unwrap().is_none());
}

async fn more_than_a_thousand(store: &Store) {
    const N: usize = 1100;
    let names: Vec<String> = (0..N).map(|i| format!("many/{i:05}")).collect();
    futures::stream::iter(&names)
        .map(|n| async move { store.create(n, body("x")).await.unwrap() })
        .buffer_unordered(16)
        .collect::<Vec<_>>()
        .await;
    let before = store.requests().list.load(Ordering::Relaxed);
    let listed: Vec<String> = store.list("many").await.unwrap().into_iter().map(|l| l.name).collect();
    assert_eq!(listed, names);
    assert_eq!(store.requests().list.load(Ordering::Relaxed) - before, 2, "a page holds 1,000");
    let next = store.first_after("many", &names[1000]).await.unwrap().unwrap();
    assert_eq!(next.name, names[1001]);
}

async fn uploads(store: &Store) {
    let big: Vec<u8> = (0..12 * MIB + 77).map(|i| (i * 31 / 97) as u8).collect();
    let parts: Vec<Bytes> = big.chunks(6 * MIB).map(Bytes::copy_from_slice).collect();
    // Finished: visible whole, and only then. Parts may be sent side by side.
    let mut up = store.upload("up/done").await.unwrap();
    let sent: Vec<_> = parts.iter().map(|p| tokio::spawn(up.part(p.clone()))).collect();
    for s in sent {
        s.await.unwrap().unwrap();
    }
    assert_eq!(store.head("up/done").await.unwrap(), None);
    assert!(store.list("up").await.unwrap().is_empty());
    up.finish().await.unwrap();
    assert!(store.get("up/done").await.unwrap() == big, "it reads back otherwise");
    assert_eq!(store.head("up/done").await.unwrap().unwrap().size, big.len() as u64);
    assert_eq!(
        store.get_range("up/done", 6 * MIB as u64 - 2..6 * MIB as u64 + 2).await.unwrap(),
        big[6 * MIB - 2..6 * MIB + 2]
    );
    // Given up: nothing.
    let mut up = store.upload("up/aborted").await.unwrap();
    up.part(parts[0].clone()).await.unwrap();
    up.abort().await;
    // Dropped in the middle, as by a crash: nothing that anybody sees.
    let mut up = store.upload("up/dropped").await.unwrap();
    up.part(parts[0].clone()).await.unwrap();
    drop(up);
    for name in ["up/aborted", "up/dropped"] {
        assert_eq!(store.head(name).await.unwrap(), None);
        assert!(store.get(name).await.unwrap_err().is_not_found());
    }
    assert_eq!(store.list("up").await.unwrap().len(), 1);
}

async fn deletes(store: &Store) {
    store.create("delete/x", body("x")).await.unwrap();
    store.delete("delete/x").await.unwrap();
    store.delete("delete/x").await.unwrap();
    store.delete("delete/never/was").await.unwrap();
    assert_eq!(store.head("delete/x").await.unwrap(), None);
    // A name that was deleted is free again.
    assert_eq!(store.create("delete/x", body("y")).await.unwrap(), Created::New);
}

async fn every_name_that_a_vault_uses(store: &Store) {
    let path = ClusterPath {
        database: "Orders-eu_1.main".parse::<DatabaseName>().unwrap(),
        cluster: "7437823456789012345".parse::<ClusterId>().unwrap(),
    };
    let run: RunId = "20261121T093512Z-k3f9q2".parse().unwrap();
    let tli = TimelineId(10);
    let segment = "0000000A000000010000000F";
    let mut all = vec![
        names::DESCRIPTOR.to_string(),
        names::DESCRIPTOR_COPY.to_string(),
        names::epoch(1),
        names::recovery(1, "k3f9q2"),
        path.record(),
        path.point(&run),
        path.lease(&run),
        path.condemned(&run),
        path.note(&run, &run, "verified"),
        path.failed(&run),
        path.pack(&PackId { run: run.clone(), class: PackClass::Data, number: 1 }),
        path.pack(&PackId { run: run.clone(), class: PackClass::Meta, number: 12345 }),
        path.segment(tli, segment),
        path.wal_extra(tli, &format!("{segment}.partial")),
        path.wal_extra(tli, &format!("{segment}.00000028.backup")),
        path.history(tli),
        path.owner(tli, 1),
        path.conflict(segment, &[0xab; 32]),
    ];
    for name in &all {
        assert_eq!(store.create(name, body(name)).await.unwrap(), Created::New, "{name}");
    }
    for name in &all {
        assert_eq!(store.get(name).await.unwrap(), body(name), "{name}");
        assert_eq!(store.head(name).await.unwrap().unwrap().name, *name);
    }
    let mut listed: Vec<String> = Vec::new();
    for folder in [names::DB, "keys"] {
        listed.extend(store.list(folder).await.unwrap().into_iter().map(|l| l.name));
    }
    all.retain(|n| n != names::DESCRIPTOR);
    all.sort();
    assert_eq!(listed, all, "listings give back the names that were written");
    assert_eq!(store.folders(names::DB).await.unwrap(), [path.database.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    suite(&stores::memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_directory() {
    let scratch = Scratch::new("conf-local");
    let store = stores::local(&scratch);
    suite(&store).await;
    // Staging files of the aborted upload are gone; that of the dropped one may stay, unseen.
    let litter: Vec<_> =
        std::fs::read_dir(scratch.path("vault/up")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(!litter.iter().any(|n| n.to_string_lossy().starts_with("aborted")), "{litter:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn local_directory_with_an_unusual_name() {
    let scratch = Scratch::new("conf-odd");
    for odd in ["two words", "ümlaut", "a#1", "100%", "100%41", "q?x=1", "st*r", "~tilde", "[br]", "a&b=c"] {
        let dir = scratch.path(odd).join("vault");
        let store = Store::open_local(&dir).unwrap();
        create_if_absent(&store).await;
        listings(&store).await;
        assert!(dir.join("create/x").is_file(), "{odd}: the vault is somewhere else");
        let url = url::Url::from_file_path(&dir).unwrap();
        let again = Store::open(url.as_str(), &Default::default()).unwrap();
        assert_eq!(again.get("create/x").await.unwrap(), body("one"), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s3() {
    let scratch = Scratch::new("conf-s3");
    let server = Server::ministack(&scratch, &[BUCKET]);
    suite(&stores::s3(&server, "a/prefix")).await;
    // Only the upload that was dropped is still open; the aborted one is not.
    let open = server.request("GET", &format!("{BUCKET}?uploads"), &[], b"").text();
    assert!(!open.contains("up/aborted"), "{open}");
    // Two vaults in one bucket do not see each other, and neither does the bucket's root.
    let other = stores::s3(&server, "a/prefix2");
    assert!(other.list("").await.unwrap().is_empty());
    assert!(other.folders("db").await.unwrap().is_empty());
    suite(&stores::s3(&server, "")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_with_versions() {
    let scratch = Scratch::new("conf-s3v");
    let server = Server::ministack(&scratch, &[BUCKET]);
    server.enable_versioning(BUCKET);
    suite(&stores::s3(&server, "v")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azure() {
    let scratch = Scratch::new("conf-az");
    let Some(server) = Server::azurite(&scratch, &[BUCKET]) else { return };
    let mut options = stores::options(&server.env());
    suite(&Store::open(&format!("az://{BUCKET}/a/prefix"), &options).unwrap()).await;
    // A wrong key is told from a missing right.
    options.insert("azure_storage_account_key".into(), "d3Jvbmc=".into());
    let store = Store::open(&format!("az://{BUCKET}/a/prefix"), &options).unwrap();
    let e = store.get("create/x").await.unwrap_err();
    assert_eq!(kind(&e), Some(StoreErrorKind::Auth), "{e:?}");
}

/// Our code and object_store's Google client, against S3 in disguise; Google itself is untested.
#[tokio::test(flavor = "multi_thread")]
async fn google_client() {
    let scratch = Scratch::new("conf-gcs");
    let server = Server::ministack(&scratch, &[BUCKET]);
    let shim = stores::Gcs::start(&server);
    suite(&shim.store("a/prefix")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ceph() {
    let scratch = Scratch::new("conf-ceph");
    let Some(server) = Ceph::start(&scratch, &[BUCKET]) else { return };
    suite(&stores::s3_env(&server.env(), "a/prefix")).await;
    let open = server.request("GET", &format!("{BUCKET}?uploads"), &[], b"").text();
    assert!(open.contains("up/dropped") && !open.contains("up/aborted"), "{open}");
    let other = stores::s3_env(&server.env(), "a/prefix2");
    assert!(other.list("").await.unwrap().is_empty());
    suite(&stores::s3_env(&server.env(), "")).await;
    // Here credentials count, and a wrong one is told from a missing right.
    for (option, wrong) in [("secret_access_key", "wrong"), ("access_key_id", "NOBODY")] {
        let mut options = stores::options(&server.env());
        options.insert(option.into(), wrong.into());
        let store = Store::open(&format!("s3://{BUCKET}/a/prefix"), &options).unwrap();
        let e = store.get("create/x").await.unwrap_err();
        assert_eq!(kind(&e), Some(StoreErrorKind::Auth), "{option}: {e:?}");
        let e = store.create("create/new", body("x")).await.unwrap_err();
        assert_eq!(kind(&e), Some(StoreErrorKind::Auth), "{option}: {e:?}");
        let e = store.list("create").await.unwrap_err();
        assert_eq!(kind(&e), Some(StoreErrorKind::Auth), "{option}: {e:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ceph_with_versions() {
    let scratch = Scratch::new("conf-cephv");
    let Some(server) = Ceph::start(&scratch, &[BUCKET]) else { return };
    server.enable_versioning(BUCKET);
    let store = stores::s3_env(&server.env(), "on");
    if stores::honours_conditions(&server, "on") {
        suite(&store).await
    } else {
        is_refused(&store).await
    }
    // Suspended, 16.2 keeps conditions again. Not `deletes`: it takes a delete marker for an object,
    // so that a name which was deleted stays taken; a vault does not use a name again.
    server.suspend_versioning(BUCKET);
    let store = stores::s3_env(&server.env(), "suspended");
    if stores::honours_conditions(&server, "suspended") {
        create_if_absent(&store).await;
        racing_creates_have_one_winner(&store).await;
        uploads(&store).await;
        every_name_that_a_vault_uses(&store).await;
        probe_conditional_create(&store).await.unwrap();
    } else {
        is_refused(&store).await;
    }
}

/// Object Lock with a retention of its own for every object: what is deleted stays, in sight.
#[tokio::test(flavor = "multi_thread")]
async fn ceph_with_object_lock() {
    let scratch = Scratch::new("conf-cephl");
    let Some(server) = Ceph::start(&scratch, &[]) else { return };
    server.create_locked_bucket(BUCKET);
    server.retain_by_default(BUCKET, 1);
    let proxy = FaultProxy::start(&server.endpoint());
    let store = stores::s3_env(&server.env_for(&proxy.endpoint()), "lock");
    if stores::honours_conditions(&server, "locked") {
        create_if_absent(&store).await;
        racing_creates_have_one_winner(&store).await;
        every_name_that_a_vault_uses(&store).await;
        // The answer to a create is lost: content settles it, and one version is there.
        proxy.add(Rule::on("PUT", "lost/create").nth(1).fault(Fault::LoseReply));
        let made = store.create("lost/create", body("first")).await.unwrap();
        assert!(matches!(made, Created::New | Created::Same));
        assert_eq!(stores::versions(&server, "lock/lost/create").ids.len(), 1);
    } else {
        is_refused(&store).await;
    }
    reads(&store).await;
    uploads(&store).await;
    // What is locked is not deleted, and not hidden either.
    assert_eq!(store.create("lost/delete", body("first")).await.unwrap(), Created::New);
    let there = stores::versions(&server, "lock/lost/delete");
    assert_eq!((there.ids.len(), there.markers), (1, 0));
    let e = store.delete("lost/delete").await.unwrap_err();
    assert!(matches!(e, VaultError::Locked { until: Some(_), hold: false, .. }), "{e:?}");
    assert_eq!(store.get("lost/delete").await.unwrap(), body("first"));
    assert!(store.list("lost").await.unwrap().iter().any(|l| l.name == "lost/delete"));
    let after = stores::versions(&server, "lock/lost/delete");
    assert_eq!((after.ids, after.markers), (there.ids, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_conditions_is_refused() {
    let scratch = Scratch::new("conf-weak");
    let Some(server) = Server::s3rver(&scratch, &[BUCKET]) else { return };
    is_refused(&stores::s3(&server, "weak")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garage_is_refused() {
    let scratch = Scratch::new("conf-garage");
    let Some(server) = Server::garage(&scratch, BUCKET) else { return };
    let store = stores::s3(&server, "weak");
    // It works but for this: what is refused is the weakness, not a server that answers nothing.
    reads(&store).await;
    store.delete("read/x").await.unwrap();
    is_refused(&store).await;
}

async fn is_refused(store: &Store) {
    let e = probe_conditional_create(store).await.unwrap_err();
    assert!(matches!(e, VaultError::WeakStore(..)), "{e:?}");
    let keys = holdfast_vault::Keys::generate().unwrap();
    let e = holdfast_vault::Vault::create(store.clone(), keys, holdfast_vault::Cipher::Aes256Gcm)
        .await
        .unwrap_err();
    assert!(matches!(e, VaultError::WeakStore(..)), "{e:?}");
    let locked = store.knows_locks().await.unwrap();
    let left = store.list("").await.unwrap();
    // Where everything is locked not even a probe can be taken back.
    assert!(
        left.iter().all(|l| locked && l.name.starts_with("probe/")),
        "a refused vault leaves nothing: {left:?}"
    );
}
