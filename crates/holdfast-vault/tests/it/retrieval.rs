//! Archived objects: how they stand, asking for them, and asking for them to stay.

use crate::stores::{self, BUCKET};
use bytes::Bytes;
use holdfast_core::policy::StorageClass;
use holdfast_core::prices::s3::Speed;
use holdfast_testkit::{Scratch, Store as Server};
use holdfast_vault::store::retrieve::Archive;
use holdfast_vault::{Created, Store, StoreErrorKind};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

const PACK: &str = "db/a/1/runs/20261121T093512Z-k3f9q2/data-0001.pack";

async fn with_pack(server: &Server, prefix: &str, class: StorageClass) -> Store {
    let store = stores::s3(server, prefix).with_class(Some(class));
    assert_eq!(store.create(PACK, Bytes::from_static(b"sealed blocks")).await.unwrap(), Created::New);
    store
}

/// The state that is not `UnderWay` any more.
async fn settled(store: &Store) -> Archive {
    for _ in 0..100 {
        match store.archive_state(PACK).await.unwrap() {
            Archive::UnderWay => tokio::time::sleep(Duration::from_millis(100)).await,
            other => return other,
        }
    }
    panic!("it is under way for ten seconds")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_object_is_retrieved_and_stays_for_longer() {
    let scratch = Scratch::new("retrieval");
    let server = Server::ministack(&scratch, &[BUCKET]);
    for versions in [false, true] {
        if versions {
            server.enable_versioning(BUCKET);
        }
        for class in [StorageClass::Glacier, StorageClass::DeepArchive] {
            let store = with_pack(&server, &format!("{class}-{versions}"), class).await;
            let archived = Archive::Archived { class: Some(class) };
            assert_eq!(store.archive_state(PACK).await.unwrap(), archived);
            let e = store.get(PACK).await.unwrap_err();
            assert_eq!(e.store_kind(), Some(StoreErrorKind::Archived), "{e}");
            // Asked twice it is on its way once.
            let begun = std::time::Instant::now();
            for _ in 0..2 {
                store.retrieve(PACK, Speed::Bulk, 1).await.unwrap();
                let state = store.archive_state(PACK).await.unwrap();
                // The server is done with it after two seconds.
                assert!(state == Archive::UnderWay || begun.elapsed().as_secs() >= 1, "{state:?}");
            }
            let Archive::Copied { until: Some(first) } = settled(&store).await else { panic!("no copy") };
            assert_eq!(store.get(PACK).await.unwrap(), Bytes::from_static(b"sealed blocks"));
            let day = SignedDuration::from_hours(24);
            assert!(first > Timestamp::now() + day && first <= Timestamp::now() + day * 2, "{first}");
            // A request for what is there moves the day on which it goes.
            store.retrieve(PACK, Speed::Bulk, 8).await.unwrap();
            let longer = store.archive_state(PACK).await.unwrap();
            // Counted from the end of the day, which may have come in between.
            let days = [7, 8].map(|n| Archive::Copied { until: Some(first + day * n) });
            assert!(days.contains(&longer), "{longer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_no_archive_needs_no_retrieval() {
    let scratch = Scratch::new("retrieval-open");
    let server = Server::ministack(&scratch, &[BUCKET]);
    let plain = with_pack(&server, "plain", StorageClass::Standard).await;
    assert_eq!(plain.archive_state(PACK).await.unwrap(), Archive::Open);
    plain.retrieve(PACK, Speed::Standard, 1).await.unwrap();
    let instant = with_pack(&server, "instant", StorageClass::GlacierIr).await;
    assert_eq!(instant.archive_state(PACK).await.unwrap(), Archive::Open);
    let e = instant.retrieve(PACK, Speed::Standard, 1).await.unwrap_err();
    assert_eq!(e.store_kind(), Some(StoreErrorKind::Unsupported), "{e}");
    let e = plain.archive_state("db/a/1/runs/20261121T093512Z-k3f9q2/data-0002.pack").await.unwrap_err();
    assert!(e.is_not_found(), "{e}");
    let e = plain.retrieve("db/a/1/runs/none/data-0001.pack", Speed::Standard, 1).await.unwrap_err();
    assert!(e.is_not_found(), "{e}");
    let local = Store::open_local(scratch.dir()).unwrap();
    let e = local.retrieve(PACK, Speed::Standard, 1).await.unwrap_err();
    assert_eq!(e.store_kind(), Some(StoreErrorKind::Unsupported), "{e}");
}
