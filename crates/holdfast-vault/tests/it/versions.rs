//! Buckets that keep versions and locks: the part of S3 that `object_store` does not know.
//!
//! [`suite`] runs against the emulator in every test run, and against Ceph in the soak.

use crate::stores::{self, BUCKET};
use bytes::Bytes;
use holdfast_testkit::{Ceph, Scratch, Store as Server};
use holdfast_vault::store::xml::{LockMode, Retention, Versioning};
use holdfast_vault::{Created, Store, StoreErrorKind, VaultError};
use jiff::{SignedDuration, Timestamp};
use std::sync::atomic::Ordering;

/// Who has the bucket's keys and no key of the vault: requests as any S3 client sends them.
type Send<'a> = &'a dyn Fn(&str, &str, &[(&str, &str)], &[u8]) -> (u16, String);

fn body(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A store that has seen nothing yet.
type Fresh<'a> = &'a dyn Fn() -> Store;

async fn reads_take_the_oldest(fresh: Fresh<'_>, send: Send<'_>) {
    let store = fresh();
    for name in ["db/a/1/points/x", "db/a/1/points/xy", "db/a/1/points/z", "db/a/1/runs/r/data-0001.pack"] {
        assert_eq!(store.create(name, body("original content")).await.unwrap(), Created::New);
    }
    let put = |name: &str, text: &str| send("PUT", &format!("{BUCKET}/v/{name}"), &[], text.as_bytes()).0;
    let hide = |name: &str| send("DELETE", &format!("{BUCKET}/v/{name}"), &[], b"").0;
    for text in ["forged", "once more"] {
        assert_eq!(put("db/a/1/points/x", text), 200);
    }
    assert_eq!(hide("db/a/1/points/xy"), 204);
    assert_eq!(put("db/a/1/runs/r/data-0001.pack", "short"), 200);
    assert_eq!(hide("db/a/1/runs/r/data-0001.pack"), 204);
    let original = body("original content");
    // One that was open all along, and had read nothing; and one that begins with a listing.
    let (listed, mut tried) = (fresh(), false);
    listed.list("").await.unwrap();
    for store in [store, fresh(), listed] {
        for name in ["db/a/1/points/x", "db/a/1/points/xy", "db/a/1/runs/r/data-0001.pack"] {
            assert_eq!(store.get(name).await.unwrap(), original, "{name}");
            assert_eq!(store.get_range(name, 9..16).await.unwrap(), body("content"), "{name}");
            assert_eq!(store.get_tail(name, 7).await.unwrap(), body("content"), "{name}");
            assert_eq!(store.head(name).await.unwrap().unwrap().size, 16, "{name}");
        }
        let names: Vec<_> =
            store.list("db/a/1/points").await.unwrap().into_iter().map(|l| (l.name, l.size)).collect();
        let expected = ["x", "xy", "z"].map(|n| (format!("db/a/1/points/{n}"), 16));
        assert_eq!(names, expected);
        assert_eq!(store.folders("db/a/1").await.unwrap(), ["points", "runs"]);
        let next = store.first_after("db/a/1/points", "db/a/1/points/x").await.unwrap().unwrap();
        assert_eq!((next.name.as_str(), next.size), ("db/a/1/points/xy", 16));
        assert_eq!(store.first_after("db/a/1/points", "db/a/1/points/z").await.unwrap(), None);
        let over: Vec<_> = store
            .hidden("db/a/1/points")
            .into_iter()
            .map(|h| (h.name, h.over.len() > 1, h.over[0].marker))
            .collect();
        // What was refused below lies over it from then on.
        let expected = [("db/a/1/points/x".into(), true, false), ("db/a/1/points/xy".into(), tried, true)];
        assert_eq!(over, expected);
        tried = true;
        // A name that looks free is not.
        let e = store.create("db/a/1/points/xy", body("mine")).await.unwrap_err();
        assert_eq!(e.store_kind(), Some(StoreErrorKind::Exists), "{e}");
        assert_eq!(store.create("db/a/1/points/x", original.clone()).await.unwrap(), Created::Same);
        assert!(store.get("db/a/1/points/none").await.unwrap_err().is_not_found());
        assert_eq!(store.head("db/a/1/points/none").await.unwrap(), None);
        assert!(store.list("db/a/1/none").await.unwrap().is_empty());
    }
}

/// What `over` there is goes, and only that.
async fn uncovering(fresh: Fresh<'_>, send: Send<'_>) {
    let store = fresh();
    store.list("").await.unwrap();
    let hidden = store.hidden("");
    assert!(hidden.len() >= 3, "{hidden:?}");
    for h in &hidden {
        store.uncover(h).await.unwrap();
    }
    let store = fresh();
    assert_eq!(store.list("db").await.unwrap().len(), 4);
    assert!(store.hidden("").is_empty());
    for name in ["db/a/1/points/x", "db/a/1/points/xy", "db/a/1/runs/r/data-0001.pack"] {
        let (status, text) = send("GET", &format!("{BUCKET}/v/{name}"), &[], b"");
        assert_eq!((status, text.as_str()), (200, "original content"), "{name}");
    }
}

/// Deleting leaves nothing: no version, no marker.
async fn deleting(fresh: Fresh<'_>, send: Send<'_>) {
    let store = fresh();
    assert_eq!(store.create("del/x", body("1")).await.unwrap(), Created::New);
    assert_eq!(send("PUT", &format!("{BUCKET}/v/del/x"), &[], b"2").0, 200);
    assert_eq!(send("DELETE", &format!("{BUCKET}/v/del/x"), &[], b"").0, 204);
    // As a sweep does: what lies over it is known from a listing.
    let store = fresh();
    store.list("del").await.unwrap();
    store.delete("del/x").await.unwrap();
    let (_, left) = send("GET", &format!("{BUCKET}?versions&prefix=v/del/"), &[], b"");
    assert!(!left.contains("<Version>") && !left.contains("<DeleteMarker>"), "{left}");
    store.delete("del/x").await.unwrap();
    assert!(store.get("del/x").await.unwrap_err().is_not_found());
}

/// More versions of one name than a page of a listing holds.
async fn many_versions(fresh: Fresh<'_>, send: Send<'_>) {
    let store = fresh();
    store.create("many/a", body("first")).await.unwrap();
    for _ in 0..1100 {
        assert_eq!(send("PUT", &format!("{BUCKET}/v/many/a"), &[], b"x").0, 200);
    }
    store.create("many/b", body("other")).await.unwrap();
    let store = fresh();
    assert_eq!(store.get("many/a").await.unwrap(), body("first"));
    let listed: Vec<_> = store.list("many").await.unwrap().into_iter().map(|l| (l.name, l.size)).collect();
    assert_eq!(listed, [("many/a".to_string(), 5), ("many/b".to_string(), 5)]);
    assert_eq!(store.hidden("many")[0].over.len(), 1100);
    assert_eq!(fresh().first_after("many", "many/a").await.unwrap().unwrap().name, "many/b");
}

async fn locks(fresh: Fresh<'_>, send: Send<'_>) {
    let store = fresh();
    let s3 = store.s3().unwrap();
    assert_eq!(s3.versioning().await.unwrap(), Versioning::Enabled);
    assert!(s3.lock_configuration().await.unwrap().unwrap().enabled);
    assert!(s3.lifecycle().await.unwrap().is_empty());
    store.create("lock/x", body("1")).await.unwrap();
    store.list("lock").await.unwrap();
    let id = {
        let (_, text) = send("GET", &format!("{BUCKET}?versions&prefix=v/lock/x"), &[], b"");
        text.split("<VersionId>").nth(1).unwrap().split('<').next().unwrap().to_string()
    };
    let key = "v/lock/x";
    assert_eq!(s3.retention(key, &id).await.unwrap(), None);
    assert!(!s3.legal_hold(key, &id).await.unwrap());
    let day = |n: i64| {
        let t = Timestamp::now() + SignedDuration::from_hours(24 * n);
        Timestamp::from_second(t.as_second()).unwrap()
    };
    let two = Retention { mode: LockMode::Governance, until: day(2) };
    s3.put_retention(key, &id, two).await.unwrap();
    assert_eq!(s3.retention(key, &id).await.unwrap(), Some(two));
    // Dates only grow.
    let e = s3.put_retention(key, &id, Retention { until: day(1), ..two }).await.unwrap_err();
    assert_eq!(e.kind, StoreErrorKind::Denied, "{e:?}");
    let four = Retention { until: day(4), ..two };
    s3.put_retention(key, &id, four).await.unwrap();
    assert_eq!(s3.retention(key, &id).await.unwrap(), Some(four));
    match store.delete("lock/x").await {
        Err(VaultError::Locked { name, until, hold: false }) => {
            assert_eq!((name.as_str(), until), ("lock/x", Some(four.until)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.get("lock/x").await.unwrap(), body("1"));
    // A legal hold has no date.
    store.create("lock/held", body("1")).await.unwrap();
    let hold =
        b"<LegalHold xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>ON</Status></LegalHold>";
    assert_eq!(send("PUT", &format!("{BUCKET}/v/lock/held?legal-hold"), &[], hold).0, 200);
    let e = store.delete("lock/held").await.unwrap_err();
    assert!(matches!(e, VaultError::Locked { until: None, hold: true, .. }), "{e:?}");
    // Of what is over a locked object, everything goes.
    assert_eq!(send("DELETE", &format!("{BUCKET}/v/lock/x"), &[], b"").0, 204);
    let store = fresh();
    store.list("lock").await.unwrap();
    assert!(matches!(store.delete("lock/x").await, Err(VaultError::Locked { .. })));
    assert!(fresh().list("lock").await.unwrap().iter().any(|l| l.name == "lock/x"));
    assert_eq!(send("GET", &format!("{BUCKET}/v/lock/x"), &[], b"").1, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_locks() {
    let scratch = Scratch::new("versions");
    let server = Server::ministack(&scratch, &[]);
    server.create_locked_bucket(BUCKET);
    let send = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        let answer = server.request(method, path, headers, body);
        (answer.status(), answer.text())
    };
    let fresh = || stores::s3(&server, "v");
    reads_take_the_oldest(&fresh, &send).await;
    uncovering(&fresh, &send).await;
    deleting(&fresh, &send).await;
    many_versions(&fresh, &send).await;
    locks(&fresh, &send).await;
}

/// The whole of it on a real server, but for creates: 16.2 honours no conditions where versions are kept.
#[tokio::test(flavor = "multi_thread")]
async fn ceph_versions_and_locks() {
    let scratch = Scratch::new("versions-ceph");
    let Some(server) = Ceph::start(&scratch, &[]) else { return };
    server.create_locked_bucket(BUCKET);
    let send = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        let answer = server.request(method, path, headers, body);
        (answer.status(), answer.text())
    };
    let fresh = || stores::s3_env(&server.env(), "v");
    reads_take_the_oldest(&fresh, &send).await;
    uncovering(&fresh, &send).await;
    deleting(&fresh, &send).await;
    many_versions(&fresh, &send).await;
    locks(&fresh, &send).await;
}

/// What a bucket with versions costs more, and that a plain one costs nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_few() {
    let scratch = Scratch::new("versions-cost");
    let server = Server::ministack(&scratch, &[BUCKET]);
    let asked = |s: &Store| {
        let r = s.requests();
        [&r.get, &r.put, &r.list, &r.head, &r.delete].map(|c| c.load(Ordering::Relaxed))
    };
    let packs = |n: usize| format!("db/a/1/runs/20261121T093512Z-k3f9q2/data-{n:04}.pack");
    let work = async |versioned: bool| {
        let fresh = || stores::s3(&server, if versioned { "on" } else { "off" });
        let store = fresh();
        store.create("first", body("1")).await.unwrap();
        for n in 0..20 {
            store.create(&packs(n), body("1")).await.unwrap();
        }
        let written = asked(&store);
        let store = fresh();
        store.get("first").await.unwrap();
        for n in 0..20 {
            store.get(&packs(n)).await.unwrap();
            store.get_range(&packs(n), 0..1).await.unwrap();
        }
        let read = asked(&store);
        let store = fresh();
        store.get("first").await.unwrap();
        store.list("db").await.unwrap();
        for n in 0..20 {
            store.delete(&packs(n)).await.unwrap();
        }
        (written, read, asked(&store))
    };
    let [get, put, list, head, delete] = [0, 1, 2, 3, 4].map(|i| move |r: [u64; 5]| r[i]);
    let (written, read, deleted) = work(false).await;
    assert_eq!((written, read, deleted), ([0, 21, 0, 0, 0], [41, 0, 0, 0, 0], [1, 0, 1, 0, 20]));
    server.enable_versioning(BUCKET);
    let (written, read, deleted) = work(true).await;
    // What came first under `first`.
    assert_eq!((get(written), put(written), list(written), head(written)), (0, 21, 1, 0), "{written:?}");
    // What came first under `first`, and one listing for all packs.
    assert_eq!((get(read), list(read), head(read), delete(read)), (41, 2, 0, 0), "{read:?}");
    assert_eq!((get(deleted), list(deleted), delete(deleted)), (1, 2, 20), "{deleted:?}");
}
