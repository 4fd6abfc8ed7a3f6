//! A program of the user's. It may be run twice, and ends with 0 if it did its work.
//!
//! It has a process group of its own: Ctrl-C is for Holdfast, which ends it and stops where it is. What it leaves
//! running in the background does not hold anything up, even if that has its output.

use super::{Pair, Side};
use crate::error::{EngineError, Result};
use crate::managed::Managed;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// Between two looks at the time and at Ctrl-C; and what output that was written at the end gets.
const LOOK: Duration = Duration::from_millis(200);

/// As the policy has it where nothing is written.
pub fn default_within() -> u64 {
    600
}

/// Runs it with both databases in its environment: `HOLDFAST_OLD_ID`, `HOLDFAST_OLD_ENDPOINT`, `HOLDFAST_OLD_PORT`,
/// and the same with `NEW`; `FINAL` is the new one as it is called at the end. What it prints is progress; the end of
/// it is in the error.
///
/// # Errors
/// It cannot be started, does not end `within` so many seconds, or with 0; Ctrl-C.
pub async fn run(m: &Managed, words: &[String], pair: &Pair, within: u64) -> Result<()> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    for (which, side) in [("OLD", &pair.old), ("NEW", &pair.new), ("FINAL", pair.leads_to())] {
        command.envs(variables(which, side));
    }
    let failed = |why: String| {
        EngineError::failed(
            format!("`{}`: {why}", words.join(" ")),
            "it must end with 0, `within` the time of the step, and bear being run twice",
        )
    };
    let mut child = command.spawn().map_err(|e| failed(format!("cannot be started: {e}")))?;
    let mut output = child.stderr.take().map(BufReader::new);
    let (mut line, mut last) = (Vec::new(), String::new());
    let mut say = |line: &mut Vec<u8>| {
        let text = String::from_utf8_lossy(line).trim_end().to_string();
        line.clear();
        if !text.is_empty() {
            m.monitor.info(text.clone());
            last = text;
        }
    };
    let begun = Instant::now();
    let mut tick = tokio::time::interval(LOOK);
    let status = loop {
        tokio::select! {
            ended = child.wait() => break ended.map_err(|e| failed(e.to_string()))?,
            read = next(&mut output, &mut line) => match read {
                true => say(&mut line),
                false => output = None,
            },
            _ = tick.tick() => {
                if m.monitor.cancelled() {
                    let _ = child.kill().await;
                    return Err(EngineError::Cancelled);
                }
                if begun.elapsed() >= Duration::from_secs(within) {
                    let _ = child.kill().await;
                    return Err(failed(format!("not ended after {within} s, so it was stopped")));
                }
            }
        }
    };
    // What it wrote at the end; whoever inherited its output may write on for ever.
    while tokio::time::timeout(LOOK, next(&mut output, &mut line)).await == Ok(true) {
        say(&mut line);
        if begun.elapsed() >= Duration::from_secs(within) {
            break;
        }
    }
    say(&mut line);
    match status.success() {
        true => Ok(()),
        false => Err(failed(format!("{status} ({last})"))),
    }
}

/// The next line, whatever bytes it has; `false`: there is none any more. What was read of one when the wait for it
/// was given up stays in `line`.
async fn next(output: &mut Option<BufReader<tokio::process::ChildStderr>>, line: &mut Vec<u8>) -> bool {
    match output {
        Some(reader) => matches!(reader.read_until(b'\n', line).await, Ok(n) if n > 0),
        None => std::future::pending().await,
    }
}

fn variables(which: &str, side: &Side) -> [(String, String); 5] {
    let name = |of: &str| format!("HOLDFAST_{which}_{of}");
    [
        (name("ID"), side.source.id.clone()),
        (name("REGION"), side.source.region.to_string()),
        (name("ENDPOINT"), side.host.clone()),
        (name("READER"), side.reader.clone()),
        (name("PORT"), side.port.to_string()),
    ]
}
