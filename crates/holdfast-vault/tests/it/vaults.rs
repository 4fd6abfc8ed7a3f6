//! Vaults as a whole: making, opening, roles, fencing.

use crate::stores;
use bytes::Bytes;
use holdfast_core::policy::Compression;
use holdfast_core::{ClusterId, Lsn, RunId, Secret, SegmentSize, TimelineId, VaultId};
use holdfast_testkit::Scratch;
use holdfast_vault::check::check_descriptor;
use holdfast_vault::codec::Compressor;
use holdfast_vault::names::{ClusterPath, PackClass, PackId};
use holdfast_vault::pack::FrameLoc;
use holdfast_vault::point::{
    Aborted, Body, ChangeSource, Cluster, FrameJson, Lease, Point, PointKind, ServerFacts, Verified,
};
use holdfast_vault::reader::PackSet;
use holdfast_vault::{
    Cipher, ClusterVault, Commit, Created, Keys, Signer, Store, Vault, VaultError, names, passphrase, walobj,
};
use jiff::Timestamp;

pub fn path() -> ClusterPath {
    ClusterPath { database: "orders".parse().unwrap(), cluster: ClusterId::from_system_identifier(7) }
}

pub fn cluster_record() -> Cluster {
    Cluster {
        database: "orders".parse().unwrap(),
        cluster: ClusterId::from_system_identifier(7),
        system_identifier: 7,
        major: 17,
        block_size: 8192,
        wal_segment_size: SegmentSize::DEFAULT,
        created_at: Timestamp::UNIX_EPOCH,
        digest_secret: String::new(),
    }
}

pub fn point(run: &RunId) -> Point {
    let t = "2026-11-21T09:35:12Z".parse::<Timestamp>().unwrap();
    Point {
        id: run.clone(),
        database: "orders".parse().unwrap(),
        cluster: ClusterId::from_system_identifier(7),
        kind: PointKind::Full,
        parent: None,
        started_at: t,
        copy_started_at: t,
        finished_at: t,
        redo_lsn: Lsn(0x3000028),
        start_lsn: Lsn(0x3000060),
        stop_lsn: Lsn(0x3000158),
        stop_time: t,
        timeline: TimelineId(1),
        backup_label: "START WAL LOCATION: …\n".into(),
        tablespace_map: String::new(),
        tablespaces: vec![],
        databases: vec![],
        wal_link: None,
        control_file: "Y29udHJvbA==".into(),
        server: ServerFacts {
            system_identifier: 7,
            version_num: 170005,
            version: "17.5".into(),
            catalog_version: 202406281,
            control_version: 1700,
            block_size: 8192,
            segment_blocks: 131072,
            wal_segment_size: SegmentSize::DEFAULT,
            wal_level: "replica".into(),
            wal_log_hints: false,
            full_page_writes: true,
            data_checksums: true,
            in_recovery: false,
            timeline_history: vec![(TimelineId(1), Lsn(0x3000028))],
            recovery_settings: [("max_connections".to_string(), "100".to_string())].into(),
            data_directory: "/data".into(),
            owner: "postgres".into(),
            group: "postgres".into(),
            port: 5432,
            outside_config: Default::default(),
            shared_preload_libraries: String::new(),
            locale_provider: "libc".into(),
            superuser: "postgres".into(),
        },
        changes: ChangeSource::new("all", "first backup"),
        size_bytes: 1,
        files: 1,
        changed_bytes: 1,
        stored_bytes: 1,
        root: FrameJson { pack: 1, index: 0, offset: 256, sealed_len: 20, plain_len: 4, codec: 0 },
        packs: vec![],
        wal: vec![],
        damaged: vec![],
        tags: Default::default(),
        note: String::new(),
        host: "db1".into(),
        tool: "holdfast test".into(),
        generation: 1,
        copied: None,
    }
}

fn run_id() -> RunId {
    RunId::generate(Timestamp::now())
}

fn aborted(run: &RunId) -> Aborted {
    Aborted {
        run: run.clone(),
        by: "sweep".into(),
        at: Timestamp::UNIX_EPOCH,
        reason: "its lease is old".into(),
    }
}

async fn new_vault(store: &Store) -> (Vault, Keys) {
    let keys = Keys::generate().unwrap();
    (Vault::create(store.clone(), keys.clone(), Cipher::Aes256Gcm).await.unwrap(), keys)
}

async fn new_cluster(store: &Store) -> (ClusterVault, Keys) {
    let (v, keys) = new_vault(store).await;
    (v.ensure_cluster(path(), cluster_record).await.unwrap(), keys)
}

#[tokio::test]
async fn making_and_opening() {
    let scratch = Scratch::new("vault-open");
    for store in [stores::memory(), stores::local(&scratch)] {
        let e = Vault::open(store.clone(), Keys::generate().unwrap()).await.unwrap_err();
        assert!(matches!(e, VaultError::NoVault(_)), "{e:?}");
        let (v, keys) = new_vault(&store).await;
        let again = Vault::open(store.clone(), keys.clone()).await.unwrap();
        assert_eq!(again.id(), v.id());
        assert_eq!(Vault::describe(&store).await.unwrap().id, *v.id());
        // A host's key opens it, a stranger's does not.
        Vault::open(store.clone(), keys.for_host()).await.unwrap();
        let e = Vault::open(store.clone(), Keys::generate().unwrap()).await.unwrap_err();
        assert!(matches!(e, VaultError::WrongKey(_)), "{e:?}");
        // Nothing is made over a vault, with its own keys or others.
        for k in [keys, Keys::generate().unwrap()] {
            let e = Vault::create(store.clone(), k, Cipher::None).await.unwrap_err();
            assert!(matches!(e, VaultError::VaultExists(_)), "{e:?}");
        }
        assert_eq!(store.list("").await.unwrap().len(), 2, "descriptor and copy");
        assert!(v.databases().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_makers_get_one_vault() {
    let store = stores::memory();
    let tries = (0..6).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { Vault::create(store, Keys::generate().unwrap(), Cipher::Aes256Gcm).await })
    });
    let mut made = Vec::new();
    for r in futures::future::join_all(tries).await {
        match r.unwrap() {
            Ok(v) => made.push(v.id().clone()),
            Err(VaultError::VaultExists(_)) => {}
            Err(e) => panic!("{e:?}"),
        }
    }
    assert_eq!(made, [Vault::describe(&store).await.unwrap().id]);
}

#[tokio::test]
async fn newer_and_damaged_descriptors_are_refused() {
    for (text, newer) in [
        (r#"{"holdfast-vault": 2}"#, true),
        (r#"{"holdfast-vault": 2, "id": 5, "cipher": "aegis-256"}"#, true),
        (r#"{"holdfast-vault": 1}"#, false),
        (r#"{"holdfast-vault": 1, "id": "0"#, false),
        ("", false),
    ] {
        let store = stores::memory();
        store.create(names::DESCRIPTOR, Bytes::from_static(text.as_bytes())).await.unwrap();
        let e = Vault::open(store, Keys::generate().unwrap()).await.unwrap_err();
        match e {
            VaultError::NewerFormat { found: 2, known: 1 } => assert!(newer, "{text}"),
            VaultError::Damaged { .. } => assert!(!newer, "{text}"),
            e => panic!("{text}: {e:?}"),
        }
    }
}

/// Who can write to the store but has no key changes nothing that is gone by.
#[tokio::test]
async fn changed_descriptors_are_not_believed() {
    for (from, to) in [
        ("aes-256-gcm", "none"),
        ("\"created\": \"2", "\"created\": \"1"),
        ("\"id\": \"", "\"id\": \"0"),
        ("{", ""),
    ] {
        let store = stores::memory();
        let (v, keys) = new_vault(&store).await;
        let text = String::from_utf8(store.get(names::DESCRIPTOR).await.unwrap().to_vec()).unwrap();
        let mut changed = text.replacen(from, to, 1);
        if from.contains("id") {
            changed = text.replace(&v.id().to_string(), &VaultId::generate().to_string());
        }
        assert_ne!(changed, text);
        let forged = Bytes::from(changed);
        // With its copy the vault opens as it was made, and check tells.
        let other = stores::memory();
        other.create(names::DESCRIPTOR, forged.clone()).await.unwrap();
        other.create(names::DESCRIPTOR_COPY, Bytes::from(text.clone())).await.unwrap();
        let opened = Vault::open(other.clone(), keys.clone()).await.unwrap();
        assert_eq!((opened.id(), opened.cipher()), (v.id(), Cipher::Aes256Gcm), "{from}");
        assert!(check_descriptor(&opened).await.unwrap().damaged(), "{from}");
        // Without, it does not.
        let other = stores::memory();
        other.create(names::DESCRIPTOR, forged).await.unwrap();
        let e = Vault::open(other, keys).await.unwrap_err();
        assert!(matches!(e, VaultError::WrongKey(_) | VaultError::Damaged { .. }), "{from}: {e:?}");
    }
}

#[tokio::test]
async fn a_lost_descriptor_is_not_replaced_by_another_vault() {
    let store = stores::memory();
    let (c, keys) = new_cluster(&store).await;
    let text = store.get(names::DESCRIPTOR).await.unwrap();
    store.delete(names::DESCRIPTOR).await.unwrap();
    // The copy serves, and init puts the descriptor back.
    let opened = Vault::open(store.clone(), keys.clone()).await.unwrap();
    assert_eq!(opened.id(), c.vault().id());
    let report = check_descriptor(&opened).await.unwrap();
    assert!(report.damaged() && report.findings[0].name == names::DESCRIPTOR, "{report:?}");
    opened.mend_descriptor().await.unwrap();
    assert_eq!(store.get(names::DESCRIPTOR).await.unwrap(), text);
    let report = check_descriptor(&Vault::open(store.clone(), keys.clone()).await.unwrap()).await.unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
    // Both gone: nothing opens, and nothing is made on top of the backups.
    store.delete(names::DESCRIPTOR).await.unwrap();
    store.delete(names::DESCRIPTOR_COPY).await.unwrap();
    let e = Vault::open(store.clone(), keys.clone()).await.unwrap_err();
    assert!(matches!(e, VaultError::NoVault(_)), "{e:?}");
    let e = Vault::create(store, keys, Cipher::Aes256Gcm).await.unwrap_err();
    assert!(matches!(e, VaultError::LostDescriptor(_)), "{e:?}");
}

/// Many small frames of a meta pack in a remote store cost few requests; each comes back as it was.
#[tokio::test(flavor = "multi_thread")]
async fn neighbours_of_a_meta_pack_come_together() {
    let store = stores::memory();
    let (c, _) = new_cluster(&store).await;
    let id = PackId { run: RunId::generate(Timestamp::now()), class: PackClass::Meta, number: 1 };
    let frame = |n: u32| -> Vec<u8> {
        (0..3000).map(|i| (n.wrapping_mul(2_654_435_761) >> (i % 24)) as u8).collect()
    };
    let rt = tokio::runtime::Handle::current();
    let (writer, set) = (c.clone(), PackSet::new(c.clone()));
    let handle = set.intern(&id);
    let locs: Vec<FrameLoc> = tokio::task::spawn_blocking(move || {
        let mut w = writer.pack_writer(id, handle, &rt).unwrap();
        let mut none = Compressor::new(Compression::None).unwrap();
        let locs = (0..500).map(|n| w.frame(&frame(n), &mut none).unwrap()).collect();
        let (_, sink) = w.finish().unwrap();
        sink.finish().unwrap();
        locs
    })
    .await
    .unwrap();
    let gets = || store.requests().get.load(std::sync::atomic::Ordering::Relaxed);
    let before = gets();
    for (n, loc) in locs.iter().enumerate() {
        assert_eq!(set.frame(loc).await.unwrap(), frame(n as u32), "{n}");
    }
    // 1.5 MB in blocks of 256 KiB, and the header.
    assert!(gets() - before <= 8, "{} requests", gets() - before);
}

/// A descriptor with a field of a later release is read.
#[tokio::test]
async fn unknown_fields_are_ignored() {
    let store = stores::memory();
    let (v, keys) = new_vault(&store).await;
    let text = String::from_utf8(store.get(names::DESCRIPTOR).await.unwrap().to_vec()).unwrap();
    let other = stores::memory();
    let text = text.replacen('{', "{\"later\": [1],", 1);
    other.create(names::DESCRIPTOR, Bytes::from(text)).await.unwrap();
    assert_eq!(Vault::open(other, keys).await.unwrap().id(), v.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_hosts_make_one_cluster() {
    let store = stores::memory();
    let (v, _) = new_vault(&store).await;
    let tries = (0..8).map(|_| {
        let v = v.clone();
        tokio::spawn(async move { v.ensure_cluster(path(), cluster_record).await.unwrap() })
    });
    let clusters: Vec<ClusterVault> =
        futures::future::join_all(tries).await.into_iter().map(Result::unwrap).collect();
    // All of them digest with the secret that won.
    let digest = clusters[0].digests().block(b"page");
    assert!(clusters.iter().all(|c| c.digests().block(b"page") == digest));
    assert_eq!(v.databases().await.unwrap(), ["orders".parse().unwrap()]);
    assert_eq!(v.clusters(&"orders".parse().unwrap()).await.unwrap(), [path()]);
    // `make` is not called for a cluster that is known.
    v.ensure_cluster(path(), || panic!("it is known")).await.unwrap();
}

#[tokio::test]
async fn a_run_commits_once_or_is_fenced() {
    let scratch = Scratch::new("vault-fence");
    for store in [stores::memory(), stores::local(&scratch)] {
        let (c, _) = new_cluster(&store).await;
        let run = run_id();
        let lease = Lease {
            run: run.clone(),
            parents: vec![],
            commit: c.path().point(&run),
            host: "db1".into(),
            agent: "a".into(),
            pid: 1,
            started_at: Timestamp::UNIX_EPOCH,
            wal: vec![],
        };
        c.take_lease(&lease).await.unwrap();
        assert!(c.take_lease(&lease).await.is_err(), "a lease is taken once: its bytes are sealed anew");
        assert_eq!(c.commit(&run).await.unwrap(), None);
        assert!(!c.is_condemned(&run).await.unwrap());
        c.commit_point(point(&run)).await.unwrap();
        assert_eq!(c.commit(&run).await.unwrap(), Some(Commit::Point(Box::new(point(&run)))));
        assert!(!c.abort_run(aborted(&run)).await.unwrap(), "it had committed");
        // Declared dead: the late commit meets the record and fails, and nothing changes.
        let late = run_id();
        assert!(c.abort_run(aborted(&late)).await.unwrap());
        let e = c.commit_point(point(&late)).await.unwrap_err();
        assert!(matches!(e, VaultError::Fenced(_)), "{e:?}");
        assert_eq!(c.commit(&late).await.unwrap(), Some(Commit::Aborted(aborted(&late))));
        let (points, errors) = c.points().await.unwrap();
        assert_eq!((points.len(), errors.len()), (1, 0));
        store.create(&c.path().condemned(&run), Bytes::new()).await.unwrap();
        assert!(c.is_condemned(&run).await.unwrap());
    }
}

/// The commit of a run and its abortion race: exactly one of them stands.
#[tokio::test(flavor = "multi_thread")]
async fn commit_and_abort_race() {
    let (c, _) = new_cluster(&stores::memory()).await;
    for _ in 0..50 {
        let run = run_id();
        let (a, b) = (c.clone(), c.clone());
        let (ra, rb) = (run.clone(), run.clone());
        let commit = tokio::spawn(async move { a.commit_point(point(&ra)).await });
        let abort = tokio::spawn(async move { b.abort_run(aborted(&rb)).await.unwrap() });
        let committed = commit.await.unwrap().is_ok();
        assert_eq!(committed, !abort.await.unwrap());
        assert_eq!(matches!(c.commit(&run).await.unwrap(), Some(Commit::Point(_))), committed);
    }
}

/// The very same bytes again (a lost reply, then a retry by whoever holds them) are a success.
#[tokio::test]
async fn the_same_record_twice_is_fine() {
    let store = stores::memory();
    let (c, _) = new_cluster(&store).await;
    let run = run_id();
    c.commit_point(point(&run)).await.unwrap();
    let name = c.path().point(&run);
    let bytes = store.get(&name).await.unwrap();
    assert_eq!(store.create(&name, bytes).await.unwrap(), Created::Same);
    // Sealed anew it is another object, so a second run of the same commit is told that it is late.
    assert!(matches!(c.commit_point(point(&run)).await, Err(VaultError::Fenced(_))));
}

#[tokio::test]
async fn damaged_points_do_not_hide_the_others() {
    let scratch = Scratch::new("vault-damage");
    let store = stores::local(&scratch);
    let (c, _) = new_cluster(&store).await;
    let runs: Vec<RunId> = (0..3).map(|_| run_id()).collect();
    for r in &runs {
        c.commit_point(point(r)).await.unwrap();
    }
    let file = scratch.path("vault").join(c.path().point(&runs[1]));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[300] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    // Another point's record under this name is damage too: names are sealed in.
    std::fs::copy(
        scratch.path("vault").join(c.path().point(&runs[0])),
        scratch.path("vault").join(c.path().point(&run_id())),
    )
    .unwrap();
    let (points, errors) = c.points().await.unwrap();
    assert_eq!((points.len(), errors.len()), (2, 2), "{errors:?}");
}

fn write_pack(c: &ClusterVault, rt: &tokio::runtime::Handle, class: PackClass, plain: &[u8]) -> FrameLoc {
    let id = PackId { run: "20261121T093512Z-k3f9q2".parse().unwrap(), class, number: 1 };
    let mut w = c.pack_writer(id, 0, rt).unwrap();
    let loc = w.frame(plain, &mut Compressor::new(Compression::Zstd { level: 1 }).unwrap()).unwrap();
    let (_, sink) = w.finish().unwrap();
    sink.finish().unwrap();
    loc
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_adds_and_does_not_read() {
    let store = stores::memory();
    let (owner, keys) = new_cluster(&store).await;
    let host = Vault::open(store.clone(), keys.for_host()).await.unwrap().cluster(path()).await.unwrap();
    let rt = tokio::runtime::Handle::current();
    let plain = b"a page, a page".repeat(500);
    let writer = host.clone();
    let (text, handle) = (plain.clone(), rt.clone());
    let (data, meta) = tokio::task::spawn_blocking(move || {
        (
            write_pack(&writer, &handle, PackClass::Data, &text),
            write_pack(&writer, &handle, PackClass::Meta, &text),
        )
    })
    .await
    .unwrap();
    for (loc, class, host_may) in [(data, PackClass::Data, false), (meta, PackClass::Meta, true)] {
        let id = PackId { run: "20261121T093512Z-k3f9q2".parse().unwrap(), class, number: 1 };
        let read = |c: &ClusterVault| {
            let set = PackSet::new(c.clone());
            let handle = set.intern(&id);
            async move { set.frame(&FrameLoc { pack: handle, ..loc }).await }
        };
        assert_eq!(read(&owner).await.unwrap(), plain);
        match read(&host).await {
            Ok(p) => assert!(host_may && p == plain),
            Err(VaultError::KeyRole(_)) => assert!(!host_may),
            Err(e) => panic!("{e:?}"),
        }
    }
    // WAL: the host seals it, judges it by its head, and cannot open it.
    let (ctx, segment) = (host.seal_context(), vec![7u8; 3 << 20]);
    let (w, digest) =
        walobj::encode(&ctx, "w", &(&segment[..], Default::default()), Compression::Lz4, 2).unwrap();
    let hk = host.vault().keys();
    assert_eq!(walobj::head(&w, hk, host.vault().place("w")).unwrap().digest, digest);
    let open = |k: &Keys| walobj::decode(&w, k, owner.vault().id(), owner.digests(), "w", 2);
    assert!(matches!(open(hk), Err(VaultError::KeyRole(_))));
    assert!(open(&keys).unwrap().0 == segment);
    // Points yes, verdicts no.
    let run = run_id();
    host.commit_point(point(&run)).await.unwrap();
    let verdict = || Verified {
        point: run.clone(),
        level: "L3".into(),
        passed: true,
        findings: vec![],
        seconds: 1.5,
        restore_seconds: None,
        at: Timestamp::UNIX_EPOCH,
        host: "db1".into(),
        tool: "holdfast test".into(),
    };
    let name = |n: &RunId| path().note(&run, n, "verified");
    let e = host
        .vault()
        .put_record(&name(&run_id()), &Body::Verified(verdict()), Signer::Operator)
        .await
        .unwrap_err();
    assert!(matches!(e, VaultError::KeyRole(_)), "{e:?}");
    // Signed as a host it can be written, and counts for nothing (R4).
    host.vault().put_record(&name(&run_id()), &Body::Verified(verdict()), Signer::Host).await.unwrap();
    assert!(owner.verifications().await.unwrap().is_empty());
    owner.vault().put_record(&name(&run_id()), &Body::Verified(verdict()), Signer::Operator).await.unwrap();
    assert_eq!(host.verifications().await.unwrap(), [verdict()]);
}

#[tokio::test]
async fn the_passphrase_brings_the_keys_back() {
    let store = stores::memory();
    let (v, keys) = new_vault(&store).await;
    let pass = Secret::new("correct horse battery staple");
    let wrapped = passphrase::wrap(&keys, &pass, v.id()).unwrap();
    store.create(&names::recovery(1, "k3f9q2"), Bytes::from(wrapped)).await.unwrap();
    // All that is left: the vault and the passphrase.
    let id = Vault::describe(&store).await.unwrap().id;
    let copies = store.list("keys").await.unwrap();
    let text = store.get(&copies[0].name).await.unwrap();
    let back = passphrase::unwrap(&text, &pass, &id).unwrap();
    assert!(back.can_read());
    Vault::open(store.clone(), back).await.unwrap();
    let e = passphrase::unwrap(&text, &Secret::new("wrong"), &id).unwrap_err();
    assert!(matches!(e, VaultError::WrongPassphrase), "{e:?}");
}

/// A vault that was copied somewhere else, object by object, is the same vault.
#[tokio::test]
async fn a_vault_can_be_moved() {
    let (from, to) = (stores::memory(), stores::memory());
    let (c, keys) = new_cluster(&from).await;
    let run = run_id();
    c.commit_point(point(&run)).await.unwrap();
    for l in from.list("").await.unwrap() {
        to.create(&l.name, from.get(&l.name).await.unwrap()).await.unwrap();
    }
    let moved = Vault::open(to, keys).await.unwrap().cluster(path()).await.unwrap();
    assert_eq!(moved.points().await.unwrap().0, [point(&run)]);
}
