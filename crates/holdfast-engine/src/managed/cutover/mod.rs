//! Bringing the application from one database to another, step by step, and back if a step fails.
//!
//! ```text
//! plan: what each step finds, does, and would put back
//! run:  step 1 ─ healthy? ─ step 2 ─ healthy? ─ … ─ the old one goes into quarantine
//!                   └─ no: the steps that were begun are undone, last first
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`plan`](mod@plan) | both databases, what each step finds, what it would do |
//! | [`run`](mod@run) | forward, backward, on after a crash |
//! | [`after`] | quarantine of the old one, marks of the new one |
//! | [`proxy`], [`dns`], [`secret`], [`kubernetes`], [`rename`], [`command`] | one kind of step each |
//! | [`health`] | whether the application is well |
//!
//! The steps are the policy's (`[[databases.NAME.cutover]]`), and a rename comes after proxies and before all others: it
//! takes the endpoint that the new database has until then away, so they write the one that it has then. What a step finds is written down before it changes
//! anything, so that it can be put back by another process as well. The old database is never deleted here: it gets
//! a tag that says until when it stays, and deleting it takes a command of its own, with a last snapshot.
//!
//! Is the old database lost ([`Presence`]), only what the new one is needed for is done: there is nothing to go back
//! to, so nothing goes back by itself.
//!
//! Crash: the journal knows the direction and each step. The same command goes on in that direction; every step
//! bears being done twice. `--back` turns an unfinished cutover round. A secret's value is never written down: its
//! version is.

mod after;
mod command;
mod dns;
mod health;
mod kubernetes;
mod plan;
mod proxy;
mod rename;
mod run;
mod secret;

pub use plan::{Plan, Request, plan};
pub use run::{Report, Unfinished, pending, resume, run, unfinished, without_home};

use holdfast_core::managed::{DnsRecord, Region, Source};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const VERB: &str = "cutover";

/// What a step found before it changed anything: what going back puts there again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    Proxy {
        targets: Vec<Source>,
    },
    Dns {
        record: Option<DnsRecord>,
    },
    Secret {
        version: String,
    },
    /// By container: its variables that the step changes. They may hold what nobody should read, so only the journal
    /// has them, never a plan or a report ([`Step::shown`]).
    Kubernetes {
        replicas: u32,
        values: kubernetes::Values,
    },
    /// Which is which is told by resource ids: names change hands. `None`: the old one is gone.
    Rename {
        old_resource: Option<String>,
        new_resource: String,
        aside: Source,
    },
    Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    Waiting,
    /// It may have changed something.
    Begun,
    Done,
    Undone,
}

/// One step, as planned and as far as it got.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    pub what: What,
    pub health: Option<String>,
    /// Seconds that the health check has.
    pub health_within: u64,
    pub before: Before,
    pub progress: Progress,
    /// For people: what it does, and what going back does.
    pub does: String,
    pub undoes: String,
    /// What could not be put back, or was left because somebody else had changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
}

impl Step {
    /// As people and other programs may see it.
    fn shown(mut self) -> Self {
        if let Before::Kubernetes { values, .. } = &mut self.before {
            values.values_mut().flat_map(BTreeMap::values_mut).for_each(|v| *v = "(in the journal)".into());
        }
        self.health = self.health.map(|url| health::shown(&url));
        self
    }
}

/// What a step changes: the policy's move with its placeholders filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Proxy {
        region: Region,
        name: String,
        /// Seconds until the proxy must reach its new target. A record of an earlier version has none.
        #[serde(default = "proxy::default_within")]
        within: u64,
    },
    Dns {
        zone: String,
        record: String,
        ttl: u32,
        value: String,
    },
    Secret {
        region: Region,
        id: String,
        keys: BTreeMap<String, String>,
    },
    Kubernetes(kubernetes::Change),
    Rename,
    Command {
        run: Vec<String>,
        undo: Vec<String>,
        /// Seconds that the program may take.
        #[serde(default = "command::default_within")]
        within: u64,
    },
}

/// Whether the old database is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    There,
    /// There, and in a state in which nobody can use it.
    Broken,
    Gone,
    /// Its region does not answer: nobody knows.
    Unseen,
}

impl Presence {
    /// Whether the application could go back to it.
    pub fn usable(self) -> bool {
        self == Presence::There
    }

    /// Whether there is something that can be marked.
    pub fn exists(self) -> bool {
        matches!(self, Presence::There | Presence::Broken)
    }
}

/// The two databases as commands and values know them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pair {
    pub old: Side,
    pub new: Side,
    pub presence: Presence,
    /// Resource ids of the old one and of what it had replaced, newest first.
    pub replaced: Vec<String>,
    /// If it is renamed: the new one as it is called then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasting: Option<Side>,
    /// And the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aside: Option<Side>,
}

impl Pair {
    /// What whoever writes a name or an address down must write: what the new one has at the end.
    fn leads_to(&self) -> &Side {
        self.lasting.as_ref().unwrap_or(&self.new)
    }

    /// Whether both are in one region.
    fn stays(&self) -> bool {
        self.old.source.region == self.new.source.region
    }
}

/// What is not known of an old one that is lost is empty (the port: 0).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Side {
    pub source: Source,
    pub resource_id: String,
    pub arn: String,
    pub host: String,
    pub reader: String,
    pub port: u16,
}
