//! How library code reports what it does: it never prints, it tells a [`Monitor`].
//!
//! The command line draws a bar or writes lines, `--json` writes JSON lines, tests collect.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a run is doing, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A new phase began: `waiting for a checkpoint`, `copying files` …
    Phase(String),
    /// Something worth knowing that is not wrong.
    Info(String),
    /// Something is not as it should be, and the run goes on.
    Warning(String),
    /// The total of bytes that the current phase will go through, once it is known.
    Total(u64),
}

/// Receives progress. Cheap calls from many threads.
pub trait Monitor: Send + Sync + std::fmt::Debug {
    fn event(&self, event: Event);
    /// `bytes` more of the current phase's total are done.
    fn advance(&self, bytes: u64);
    /// True once the user asked to stop; long work looks at it often.
    fn cancelled(&self) -> bool {
        false
    }

    fn phase(&self, text: &str) {
        self.event(Event::Phase(text.to_string()));
    }
    fn info(&self, text: String) {
        self.event(Event::Info(text));
    }
    fn warning(&self, text: String) {
        self.event(Event::Warning(text));
    }
}

/// Keeps what it is told: for tests, and for runs whose log goes into a record.
#[derive(Debug, Default)]
pub struct Collect {
    pub events: Mutex<Vec<Event>>,
    pub bytes: AtomicU64,
    pub cancel: AtomicBool,
}

impl Collect {
    pub fn warnings(&self) -> Vec<String> {
        let events = self.events.lock().unwrap_or_else(|e| e.into_inner());
        events
            .iter()
            .filter_map(|e| match e {
                Event::Warning(w) => Some(w.clone()),
                _ => None,
            })
            .collect()
    }
}

impl Monitor for Collect {
    fn event(&self, event: Event) {
        self.events.lock().unwrap_or_else(|e| e.into_inner()).push(event);
    }
    fn advance(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
    fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}
