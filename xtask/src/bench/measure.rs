//! One command: how long, how much processor time, how much memory.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// What a run took.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    pub wall: f64,
    /// User and system time of the command and all descendants that were waited for.
    pub cpu: f64,
    /// The larger of: the greatest sum of proportional set sizes of the process tree (sampled), and
    /// the greatest resident set of any one of its processes (the kernel's own high-water mark).
    pub peak_memory: u64,
    pub stdout: String,
}

/// Runs a command that must succeed.
pub fn measure(command: &mut Command) -> Result<Measured> {
    run(command, false)
}

/// Runs a command whose exit status says something else than whether it worked.
pub fn measure_any(command: &mut Command) -> Result<Measured> {
    run(command, true)
}

fn run(command: &mut Command, any: bool) -> Result<Measured> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let before = children_seconds()?;
    let begin = Instant::now();
    let child = command.spawn().with_context(|| format!("start {command:?}"))?;
    let stop = Arc::new(AtomicBool::new(false));
    let sampler = {
        let (stop, pid) = (Arc::clone(&stop), child.id());
        std::thread::spawn(move || sample(pid, &stop))
    };
    let output = child.wait_with_output();
    let wall = begin.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    sampler.thread().unpark();
    let peak_memory = sampler.join().unwrap_or(0);
    let output = output.with_context(|| format!("wait for {command:?}"))?;
    let cpu = children_seconds()? - before;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        any || output.status.success(),
        "{command:?}: {}\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(Measured { wall, cpu, peak_memory, stdout })
}

/// Processor time of all children that have ended and were waited for; hundredths of a second.
fn children_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // After the name in parentheses: state is field 3, cutime 16, cstime 17; a tick is 10 ms on Linux.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let tick = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).context("/proc/self/stat");
    Ok((tick(13)? + tick(14)?) as f64 / 100.0)
}

fn sample(pid: u32, stop: &AtomicBool) -> u64 {
    let (mut peak, mut pause) = (0, Duration::from_millis(5));
    loop {
        let mut tree = vec![pid];
        let mut next = 0;
        while let Some(&parent) = tree.get(next) {
            tree.extend(children(parent));
            next += 1;
        }
        let sum: u64 = tree.iter().filter_map(|&p| kb(&format!("/proc/{p}/smaps_rollup"), "Pss:")).sum();
        let one = tree.iter().filter_map(|&p| kb(&format!("/proc/{p}/status"), "VmHWM:")).max().unwrap_or(0);
        peak = peak.max(sum.max(one) * 1024);
        if stop.load(Ordering::Relaxed) {
            return peak;
        }
        std::thread::park_timeout(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = tasks.flatten().map(|t| fs::read_to_string(t.path().join("children")).unwrap_or_default());
    lists.flat_map(|l| l.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<u32>>()).collect()
}

fn kb(path: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|l| l.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}
