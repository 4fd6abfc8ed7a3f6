//! `make soak` and `make fuzz`: what takes longer than a test run may.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// With `HOLDFAST_SOAK=1`: the conformance suite of the stores, on the servers that only the soak
/// starts (Ceph, Garage), the model of many hosts and sweeps, and the tests of the program; those that sample (kills at random moments,
/// random histories) then go on for `SOAK_MINUTES`.
pub fn soak() -> Result<()> {
    let minutes =
        std::env::var("SOAK_MINUTES").ok().filter(|m| !m.is_empty()).unwrap_or_else(|| "10".to_owned());
    println!("soak: {minutes} minutes for each test that samples; HOLDFAST_SEED replays a run");
    let nextest = has("nextest");
    let tests = |which: &[&str]| {
        let mut command = cargo();
        if nextest {
            // The default profile ends a test after ten minutes.
            command.args(["nextest", "run", "--profile", "soak", "--retries", "0"]);
        } else {
            command.arg("test");
        }
        command.arg("--no-fail-fast").args(which);
        command.env("HOLDFAST_SOAK", "1").env("SOAK_MINUTES", &minutes);
        run(command)
    };
    // The second runs whatever the first found.
    let stores = tests(&["-p", "holdfast-vault", "--test", "it", "conformance::"]);
    let sweeps = tests(&["-p", "holdfast-vault", "--test", "it", "sweeping::"]);
    let program = tests(&["-p", "holdfast-cli", "--tests"]);
    stores.and(sweeps).and(program)
}

/// The property tests, with many cases, again and again with new random choices until the time is over.
pub fn fuzz() -> Result<()> {
    let seconds: u64 = match std::env::var("FUZZ_SECONDS") {
        Ok(s) if !s.is_empty() => s.parse().context("FUZZ_SECONDS is a number of seconds")?,
        _ => 60,
    };
    let crates = crates_with_properties()?;
    ensure!(!crates.is_empty(), "no crate has property tests");
    println!(
        "fuzz: property tests of {} on random and mutated bytes, without coverage feedback, for at least {seconds} s",
        crates.join(", ")
    );
    if has("fuzz") {
        println!(
            "fuzz: cargo-fuzz is installed, but there are no coverage-guided targets in this repository"
        );
    }
    let cases = std::env::var("PROPTEST_CASES").unwrap_or_else(|_| "20000".to_owned());
    let begin = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || begin.elapsed() < Duration::from_secs(seconds) {
        let mut command = cargo();
        command.args(["test", "--release", "-q", "--lib"]);
        for name in &crates {
            command.args(["-p", name]);
        }
        // Only the modules called `proptests`.
        command.args(["--", "proptests::"]).env("PROPTEST_CASES", &cases);
        run(command)?;
        rounds += 1;
    }
    println!("fuzz: {rounds} rounds of {cases} cases, {:.0} s, nothing found", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Crates with a module `proptests`.
fn crates_with_properties() -> Result<Vec<String>> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(crates)? {
        let path = entry?.path();
        if path.join("src/proptests.rs").exists() {
            found.extend(path.file_name().map(|n| n.to_string_lossy().into_owned()));
        }
    }
    found.sort();
    Ok(found)
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn has(subcommand: &str) -> bool {
    cargo().args([subcommand, "--version"]).output().is_ok_and(|o| o.status.success())
}

fn run(mut command: Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
