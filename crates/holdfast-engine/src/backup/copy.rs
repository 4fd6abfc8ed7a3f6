//! The threads of a copy: [`copy_files`].

use super::collect::{Collector, Copied};
use super::judge::ParentTree;
use super::source::Source;
use super::worker::{RunPacks, Shared, Worker};
use crate::error::{EngineError, Result, first_reason};
use holdfast_vault::codec::Compressor;
use std::path::Path;
use std::sync::atomic::Ordering;

/// Producer, workers and collector, each on its own threads.
#[allow(clippy::too_many_arguments)]
pub fn copy_files(
    data_dir: &Path,
    geometry: (u32, u32),
    parent: Option<ParentTree>,
    collector: Collector,
    shared: &Shared,
    packs: &RunPacks,
    compression: holdfast_core::policy::Compression,
    workers: usize,
    rt: tokio::runtime::Handle,
) -> Result<Copied> {
    let (begin_tx, begin_rx) = crossbeam_channel::bounded(64);
    let (task_tx, task_rx) = crossbeam_channel::bounded(2 * workers);
    let (found_tx, found_rx) = crossbeam_channel::bounded(256);
    std::thread::scope(|s| {
        let source = s.spawn(move || Source::new(data_dir, geometry, parent, begin_tx, task_tx, rt).run());
        let mut handles = Vec::new();
        for _ in 0..workers {
            let (tasks, out) = (task_rx.clone(), found_tx.clone());
            handles.push(s.spawn(move || {
                let compressor =
                    Compressor::new(compression).map_err(|e| EngineError::Worker(e.to_string()))?;
                Worker::new(shared, packs, compressor, out).run(tasks)
            }));
        }
        drop((task_rx, found_tx));
        let collected = collector.run(begin_rx, found_rx);
        if collected.is_err() {
            shared.stop.store(true, Ordering::Relaxed);
        }
        let mut results: Vec<Result<()>> = Vec::new();
        results.push(source.join().unwrap_or_else(|_| Err(EngineError::Worker("the walk".into()))));
        for h in handles {
            results.push(h.join().unwrap_or_else(|_| Err(EngineError::Worker("a copy".into()))));
        }
        match first_reason(results) {
            // The collector says why, if it was the one.
            Err(EngineError::Cancelled) => collected.and(Err(EngineError::Cancelled)),
            Err(e) => Err(e),
            Ok(()) => collected,
        }
    })
}
