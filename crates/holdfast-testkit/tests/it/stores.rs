//! Emulators and the fault proxy.

use std::time::{Duration, Instant};

use holdfast_testkit::http::Response;
use holdfast_testkit::s3::request_at;
use holdfast_testkit::{Fault, FaultProxy, Rule, Scratch, Store, TestRng};

fn put(endpoint: &str, key: &str, body: &[u8]) -> std::io::Result<Response> {
    request_at(endpoint, "PUT", &format!("bucket/{key}"), &[], body)
}

fn get(endpoint: &str, key: &str) -> std::io::Result<Response> {
    request_at(endpoint, "GET", &format!("bucket/{key}"), &[], b"")
}

#[test]
fn faults_are_injected_between_client_and_store() {
    let scratch = Scratch::new("kit-faults");
    let store = Store::ministack(&scratch, &["bucket"]);
    let proxy = FaultProxy::start(&store.endpoint());
    let through = proxy.endpoint();

    // Large bodies pass unharmed.
    let large = TestRng::new(1).bytes(20 << 20);
    assert_eq!(put(&through, "large", &large).unwrap().status(), 200);
    assert!(get(&through, "large").unwrap().body == large);

    proxy.add(Rule::on("PUT", "bucket/a").nth(2).fault(Fault::Status(503)));
    let statuses: Vec<u16> =
        (0..3).map(|i| put(&through, &format!("a{i}"), b"x").unwrap().status()).collect();
    assert_eq!(statuses, [200, 503, 200]);
    assert_eq!(get(&store.endpoint(), "a1").unwrap().status(), 404);
    proxy.heal();

    // The store did the work, the client does not know.
    proxy.add(Rule::on("PUT", "bucket/lost").fault(Fault::LoseReply).times(1));
    assert!(put(&through, "lost", b"there").is_err());
    assert_eq!(get(&store.endpoint(), "lost").unwrap().body, b"there");

    proxy.add(Rule::on("GET", "bucket/large").nth(1).fault(Fault::CutResponse(1 << 20)));
    assert!(get(&through, "large").is_err());
    assert!(get(&through, "large").unwrap().body == large);
    proxy.heal();

    proxy.add(Rule::on("PUT", "bucket/torn").nth(1).fault(Fault::CutRequest(1 << 20)));
    assert!(put(&through, "torn", &large).is_err());
    assert_eq!(get(&store.endpoint(), "torn").unwrap().status(), 404);

    proxy.add(Rule::on("GET", "bucket/large").nth(1).fault(Fault::FlipBit(12_345_678)));
    let body = get(&through, "large").unwrap().body;
    let wrong: Vec<usize> = (0..large.len()).filter(|&i| body[i] != large[i]).collect();
    assert_eq!(wrong, [12_345_678]);
    proxy.heal();

    proxy.add(Rule::on("", "").nth(1).fault(Fault::Delay(Duration::from_millis(300))));
    let start = Instant::now();
    assert_eq!(get(&through, "a0").unwrap().status(), 200);
    assert!(start.elapsed() >= Duration::from_millis(300));
    proxy.heal();

    proxy.add(Rule::on("GET", "").fault(Fault::Refuse));
    assert!(get(&through, "a0").is_err());
    proxy.heal();
    assert_eq!(proxy.faults(), 7);
    assert_eq!(proxy.counts()["PUT"], 6);
    assert_eq!(proxy.count("PUT", "bucket/a"), 3);
    proxy.reset_counts();

    // The same seed gives the same faults.
    let failures = |seed| {
        let proxy = FaultProxy::with_seed(&store.endpoint(), seed);
        proxy.add(Rule::on("GET", "").per_mille(300).fault(Fault::Status(500)));
        (0..40).map(|_| get(&proxy.endpoint(), "a0").unwrap().status()).collect::<Vec<_>>()
    };
    assert_eq!(failures(7), failures(7));
    assert!(failures(7).contains(&500) && failures(7).contains(&200));
}

#[test]
fn ministack_refuses_to_overwrite_and_keeps_versions() {
    let scratch = Scratch::new("kit-ministack");
    let store = Store::ministack(&scratch, &["bucket"]);
    let create = |body| store.request("PUT", "bucket/k", &[("If-None-Match", "*")], body).status();
    assert_eq!(create(b"1"), 200);
    assert_eq!(create(b"2"), 412);
    store.enable_versioning("bucket");
    let second = put(&store.endpoint(), "k", b"2").unwrap();
    assert!(second.head.header("x-amz-version-id").is_some());
    store.create_locked_bucket("locked");
    let lock = store.request("GET", "locked?object-lock", &[], b"");
    assert!(lock.text().contains("Enabled"), "{}", lock.text());
}

#[test]
fn a_weak_store_overwrites() {
    let scratch = Scratch::new("kit-s3rver");
    let Some(store) = Store::s3rver(&scratch, &["bucket"]) else { return };
    let put = |body| store.request("PUT", "bucket/k", &[("If-None-Match", "*")], body).status();
    assert_eq!((put(b"1"), put(b"2")), (200, 200));
    assert_eq!(get(&store.endpoint(), "k").unwrap().body, b"2");
}

#[test]
fn azurite_has_containers() {
    let scratch = Scratch::new("kit-azurite");
    let Some(store) = Store::azurite(&scratch, &["one"]) else { return };
    store.create_bucket("two");
    assert!(store.env().iter().any(|(name, _)| name == "AZURE_STORAGE_ACCOUNT_KEY"));
}
