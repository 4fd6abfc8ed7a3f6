//! Signs of life of a run: [`Heartbeat`].
//!
//! A sweep takes a run that wrote nothing for a day for dead (R5), and a run on a very slow store may work on
//! one pack for longer. So it leaves a small object beside its packs four times a day, as long as its process
//! is there and the store takes it. That is about being disturbed only: a run that was declared dead all the
//! same cannot commit, whatever it writes.
//!
//! Crash: nothing more is written, and a day later the run is dead. Signs of runs that ended go in a sweep.

use crate::state::hostname;
use holdfast_core::RunId;
use holdfast_vault::ClusterVault;
use std::time::Duration;

/// Several fail before a day is over.
const EVERY: Duration = Duration::from_secs(6 * 3600);

/// Gives signs until it is dropped.
#[derive(Debug)]
pub struct Heartbeat(tokio::task::JoinHandle<()>);

impl Heartbeat {
    /// For a run that has taken its lease.
    pub fn start(cluster: &ClusterVault, run: &RunId) -> Self {
        let (cluster, run) = (cluster.clone(), run.clone());
        Heartbeat(tokio::spawn(async move {
            for number in 1.. {
                tokio::time::sleep(EVERY).await;
                // If the store does not take it, the run itself will hear of it.
                let _ = cluster.give_sign(&run, number, &hostname()).await;
            }
        }))
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.0.abort();
    }
}
