//! A program of the user's. It may be run twice, and ends with 0 if it did its work.

use super::Pair;
use crate::error::{EngineError, Result};
use crate::managed::Managed;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// Runs it with both databases in its environment: `HOLDFAST_OLD_ID`, `HOLDFAST_OLD_ENDPOINT`, `HOLDFAST_OLD_PORT`,
/// and the same with `NEW`. What it prints is progress; the end of it is in the error.
pub async fn run(m: &Managed, words: &[String], pair: &Pair) -> Result<()> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for (which, side) in [("OLD", &pair.old), ("NEW", &pair.new)] {
        command.env(format!("HOLDFAST_{which}_ID"), &side.source.id);
        command.env(format!("HOLDFAST_{which}_REGION"), side.source.region.as_str());
        command.env(format!("HOLDFAST_{which}_ENDPOINT"), &side.host);
        command.env(format!("HOLDFAST_{which}_READER"), &side.reader);
        command.env(format!("HOLDFAST_{which}_PORT"), side.port.to_string());
    }
    let failed = |why: String| {
        EngineError::failed(
            format!("`{}`: {why}", words.join(" ")),
            "it must end with 0 and bear being run twice",
        )
    };
    let mut child = command.spawn().map_err(|e| failed(format!("cannot be started: {e}")))?;
    let mut last = String::new();
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            m.monitor.info(line.clone());
            last = line;
        }
    }
    let status = child.wait().await.map_err(|e| failed(e.to_string()))?;
    match status.success() {
        true => Ok(()),
        false => Err(failed(format!("{status} ({last})"))),
    }
}
