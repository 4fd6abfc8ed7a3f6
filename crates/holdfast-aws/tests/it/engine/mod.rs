//! The engine's managed verbs against the stand-in: real calls, real states, real sessions.

mod reap;
mod restore;
mod verify;

use crate::common::World;
use holdfast_core::managed::{Cloud, Tags};
use holdfast_core::monitor::Collect;
use holdfast_engine::managed::journal::{Ended, Journal};
use holdfast_engine::managed::reap::Reaper;
use holdfast_engine::managed::wait::Pace;
use holdfast_engine::managed::{Managed, backup};
use holdfast_engine::state::State;
use std::sync::Arc;
use std::time::Duration;

/// A database of the stand-in, as a process of the host sees it.
pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) m: Managed,
    pub(crate) monitor: Arc<Collect>,
    _dir: tempfile::TempDir,
}

impl Site {
    /// `source` is one of the world's.
    pub(crate) async fn new(name: &str, source: &str) -> Site {
        let world = World::new(name).await;
        let (cloud, _) = crate::common::client(&world.aws, "test").await;
        let dir = tempfile::tempdir().unwrap();
        let monitor = Arc::new(Collect::default());
        let step = Duration::from_millis(20);
        let m = Managed {
            name: "shop".parse().unwrap(),
            source: source.parse().unwrap(),
            cloud: Arc::new(cloud) as Arc<dyn Cloud>,
            journal: Journal::open(dir.path()).unwrap(),
            state: State::open(dir.path().to_path_buf()).unwrap(),
            monitor: monitor.clone(),
            pace: Pace { first: step, most: step, deadline: Duration::from_secs(60) },
            documents: Some(Arc::new(holdfast_docdb::DocumentClients)),
        };
        Site { world, m, monitor, _dir: dir }
    }

    /// A finished snapshot by Holdfast; its name.
    pub(crate) async fn snapshot(&self) -> String {
        let request = backup::Request {
            tier: None,
            pattern: "{id}-{tier}-%Y%m%d-%H%M%S".parse().unwrap(),
            tags: Tags::default(),
            note: String::new(),
            keep_for: None,
        };
        backup::run(&self.m, &request).await.unwrap().snapshot.at.id
    }

    pub(crate) fn reaper(&self) -> Reaper {
        Reaper {
            cloud: self.m.cloud.clone(),
            journal: self.m.journal.clone(),
            state: self.m.state.clone(),
            monitor: self.m.monitor.clone(),
            pace: self.m.pace,
            databases: vec![self.m.name.clone()],
        }
    }

    /// The only operation of a verb that has ended, and how.
    pub(crate) fn ended(&self, verb: &str) -> Ended {
        let all = self.m.journal.ended(verb, "shop").unwrap();
        assert_eq!(all.len(), 1, "{verb}");
        all[0].ended.clone().unwrap()
    }

    pub(crate) fn nothing_is_under_way(&self) {
        assert!(self.m.journal.unfinished(None, None).unwrap().is_empty());
    }

    /// Identifiers of instances and clusters that are not of the world.
    pub(crate) fn made(&self) -> Vec<String> {
        let state = self.world.aws.control("state", None);
        let mut out = Vec::new();
        for region in state["regions"]["123456789012"].as_object().unwrap().values() {
            for table in ["instances", "clusters"] {
                let all = region["rds"][table].as_array().cloned().unwrap_or_default();
                out.extend(all.iter().map(|r| r["id"].as_str().unwrap().to_string()));
            }
        }
        out.retain(|id| !["shop", "orders", "orders-1", "orders-2", "docs", "docs-1"].contains(&id.as_str()));
        out.sort();
        out
    }
}
