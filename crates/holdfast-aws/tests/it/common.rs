//! A client, a log that can be read, and waiting.

use holdfast_aws::{AccessKeys, AwsCloud, Connection};
use holdfast_core::Secret;
use holdfast_core::managed::{Change, ChangeLog, Operation, Outcome, Region, Source};
use holdfast_testkit::{Aws, Scratch};
use serde_json::json;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Keeps every change.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Vec<Change>>);

impl ChangeLog for Recorder {
    fn record(&self, change: &Change) -> std::io::Result<()> {
        self.0.lock().unwrap().push(change.clone());
        Ok(())
    }
}

impl Recorder {
    /// What became of the calls of an action, attempts left out.
    pub(crate) fn outcomes(&self, action: &str) -> Vec<Outcome> {
        let all = self.0.lock().unwrap();
        let of = |c: &&Change| c.action == action && c.outcome != Outcome::Attempted;
        all.iter().filter(of).map(|c| c.outcome.clone()).collect()
    }

    pub(crate) fn changes(&self) -> Vec<Change> {
        self.0.lock().unwrap().clone()
    }
}

/// The stand-in with the instance `shop`, the Aurora cluster `orders` and the DocumentDB cluster `docs`, ten days old.
pub(crate) struct World {
    pub(crate) aws: Aws,
    pub(crate) cloud: AwsCloud,
    pub(crate) log: Arc<Recorder>,
}

pub(crate) fn region(name: &str) -> Region {
    name.parse().unwrap()
}

pub(crate) fn home() -> Region {
    region("us-east-1")
}

pub(crate) fn source(url: &str) -> Source {
    url.parse().unwrap()
}

pub(crate) fn op(name: &str) -> Operation {
    Operation::new(name).unwrap()
}

pub(crate) async fn client(aws: &Aws, key: &str) -> (AwsCloud, Arc<Recorder>) {
    let log = Arc::new(Recorder::default());
    let connection = Connection {
        endpoint: Some(aws.endpoint()),
        keys: Some(AccessKeys { id: key.into(), secret: Secret::new("test"), token: None }),
        ..Connection::default()
    };
    (AwsCloud::connect(&connection, &home(), log.clone()).await.unwrap(), log)
}

impl World {
    pub(crate) async fn new(name: &str) -> World {
        let scratch = Scratch::new(name);
        let aws = Aws::standin(&scratch);
        aws.control(
            "seed",
            Some(json!({
                "instances": [{"DBInstanceIdentifier": "shop", "age": 864000}],
                "clusters": [
                    {"DBClusterIdentifier": "orders", "age": 864000, "members": 2},
                    {"DBClusterIdentifier": "docs", "Engine": "docdb", "age": 864000, "members": 1},
                ],
                "role": "backup",
            })),
        );
        let (cloud, log) = client(&aws, "test").await;
        World { aws, cloud, log }
    }

    pub(crate) fn role(&self) -> String {
        "arn:aws:iam::123456789012:role/backup".into()
    }

    pub(crate) fn fault(&self, rule: serde_json::Value) {
        self.aws.control("faults", Some(rule));
    }
}

/// Asks until it is true, as a state machine would.
pub(crate) async fn until<T, F, Fut>(what: &str, ask: F, done: impl Fn(&T) -> bool) -> T
where
    F: Fn() -> Fut,
    Fut: Future<Output = holdfast_core::managed::Result<T>>,
    T: std::fmt::Debug,
{
    let begun = Instant::now();
    loop {
        let found = ask().await.unwrap_or_else(|e| panic!("{what}: {e}"));
        if done(&found) {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} does not come: {found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
