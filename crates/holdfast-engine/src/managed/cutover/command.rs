//! A program of the user's. It may be run twice, and ends with 0 if it did its work.
//!
//! It has a process group of its own: Ctrl-C is for Holdfast, which ends the group and stops where it is. What it
//! leaves running in the background when it ends does not hold anything up, even if that has its output.

use super::{Pair, Side};
use crate::error::{EngineError, Result};
use crate::managed::Managed;
use rustix::process::{Pid, Signal, kill_process_group};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

/// Between two looks at the time and at Ctrl-C; and what output that was written at the end gets.
const LOOK: Duration = Duration::from_millis(200);
/// Between being asked to end and being ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// As the policy has it where nothing is written.
pub fn default_within() -> u64 {
    600
}

/// Runs it with both databases in its environment: `HOLDFAST_OLD_ID`, `HOLDFAST_OLD_ENDPOINT`, `HOLDFAST_OLD_PORT`,
/// and the same with `NEW`: as they are called when all is done, or when all is undone. What it prints is progress; the
/// end of it is in the error.
///
/// # Errors
/// It cannot be started, does not end `within` so many seconds, or with 0; Ctrl-C.
pub async fn run(m: &Managed, words: &[String], pair: &Pair, within: u64, back: bool) -> Result<()> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let (old, new) = match back {
        true => (&pair.old, &pair.new),
        false => (pair.aside.as_ref().unwrap_or(&pair.old), pair.leads_to()),
    };
    command.envs(variables("OLD", old)).envs(variables("NEW", new));
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
                    stop(&mut child).await;
                    return Err(EngineError::Cancelled);
                }
                if begun.elapsed() >= Duration::from_secs(within) {
                    stop(&mut child).await;
                    return Err(failed(format!("not ended after {within} s, so it was stopped")));
                }
            }
        }
    };
    // What it wrote at the end; whoever inherited its output may write on for ever.
    let ended = Instant::now();
    while ended.elapsed() < LOOK && tokio::time::timeout(LOOK, next(&mut output, &mut line)).await == Ok(true)
    {
        say(&mut line);
    }
    say(&mut line);
    match status.success() {
        true => Ok(()),
        false => Err(failed(format!("{status} ({last})"))),
    }
}

/// Ends it with all that it started: what goes on writing would write over what is put back.
async fn stop(child: &mut Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::TERM);
        if tokio::time::timeout(LAST_WORDS, child.wait()).await.is_err() {
            let _ = child.start_kill();
        }
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait().await;
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
