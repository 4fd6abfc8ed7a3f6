//! The binary under test.
//!
//! It runs as the server user, as it does beside a real server. The checkout may be unreadable for
//! that user, so each scratch directory gets a link to the binary (a copy where a link cannot be
//! made); the archive command of a cluster can name that path too.
//!
//! Where it comes from: `HOLDFAST_BIN`, which `make test` sets, or else `holdfast` in the target
//! directory in which the test itself was built.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::proc::{self, Guarded};
use crate::scratch::Scratch;
use crate::user;

const LIMIT: Duration = Duration::from_secs(600);

/// The binary under test with a policy file and an environment.
#[derive(Debug, Clone)]
pub struct Holdfast {
    binary: PathBuf,
    config: Option<PathBuf>,
    env: Vec<(OsString, OsString)>,
    scratch: Scratch,
}

impl Holdfast {
    /// The binary, with `--config CONFIG` before the arguments of every run.
    pub fn new(scratch: &Scratch, config: impl Into<PathBuf>) -> Holdfast {
        Holdfast { config: Some(config.into()), ..Holdfast::bare(scratch) }
    }

    /// The binary, without a policy file.
    pub fn bare(scratch: &Scratch) -> Holdfast {
        let binary = provide(scratch);
        Holdfast { binary, config: None, env: Vec::new(), scratch: scratch.clone() }
    }

    /// An environment variable for every run, for example of [`crate::Store::env`].
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Several of them.
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        for (name, value) in pairs {
            self = self.env(name, value);
        }
        self
    }

    /// The path at which the server user can execute the binary.
    pub fn path(&self) -> &Path {
        &self.binary
    }

    /// The policy file.
    pub fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The beginning of a shell command: the environment, the binary, `--config` and the policy
    /// file. `format!("{} wal push %p", holdfast.shell())` is an `archive_command`.
    pub fn shell(&self) -> String {
        let mut words = Vec::new();
        if !self.env.is_empty() {
            words.push("env".to_owned());
            let pairs = self.env.iter();
            words.extend(pairs.map(|(n, v)| quote(&format!("{}={}", n.display(), v.display()))));
        }
        words.push(quote(&self.binary.display().to_string()));
        if let Some(config) = &self.config {
            words.push("--config".to_owned());
            words.push(quote(&config.display().to_string()));
        }
        words.join(" ")
    }

    /// A command to go on with, for what the methods here do not offer.
    pub fn command(&self, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = user::command(&self.binary);
        command.current_dir(self.scratch.dir());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command.args(args);
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[impl AsRef<OsStr>]) -> Output {
        self.run_with_input(args, b"")
    }

    /// The same with something on its standard input.
    pub fn run_with_input(&self, args: &[impl AsRef<OsStr>], input: &[u8]) -> Output {
        let mut command = self.command(args);
        let done = proc::run(&mut command, input, LIMIT);
        let args: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
        Output {
            command: format!("holdfast {}", args.join(" ")),
            code: done.code,
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        }
    }

    /// Starts it in the background, in a process group of its own, with its output in a file.
    pub fn spawn(&self, args: &[impl AsRef<OsStr>]) -> Running {
        let file = tempfile::Builder::new()
            .prefix("holdfast-out-")
            .tempfile_in(self.scratch.dir())
            .expect("a file for output");
        let (file, log) = file.keep().expect("keep a file for output");
        let stderr = file.try_clone().expect("duplicate a file handle");
        let mut command = self.command(args);
        command.process_group(0).stdin(Stdio::null()).stdout(file).stderr(stderr);
        let child = command.spawn().expect("start the binary under test");
        Running { process: Guarded::new(child), log }
    }
}

/// What a run answered.
#[derive(Debug, Clone)]
#[must_use = "look at the exit code: ok() or expect_code()"]
pub struct Output {
    command: String,
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Demands exit code 0.
    #[track_caller]
    pub fn ok(self) -> Output {
        self.expect_code(0)
    }

    /// Demands this exit code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Output {
        assert!(self.code == code, "expected exit code {code} of:\n{}", self.transcript());
        self
    }

    /// Demands that stdout or stderr contains this text.
    #[track_caller]
    pub fn says(self, text: &str) -> Output {
        let found = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(found, "expected {text:?} in:\n{}", self.transcript());
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error}) from:\n{}", self.transcript()))
    }

    /// Standard output as one JSON value per line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let lines = self.stdout.lines().filter(|line| !line.trim().is_empty());
        let parse = |line| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("no JSON ({error}) in:\n{}", self.transcript()))
        };
        lines.map(parse).collect()
    }

    /// Command, exit code and both outputs, for messages.
    pub fn transcript(&self) -> String {
        format!(
            "$ {}\n--- exit code {}\n--- stdout\n{}--- stderr\n{}",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}

/// A run in the background. It is killed when it goes out of scope.
#[derive(Debug)]
pub struct Running {
    process: Guarded,
    log: PathBuf,
}

impl Running {
    /// Process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has written to stdout and stderr so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Waits until it has written this text; panics when it ends, or a minute passes, without.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let said = proc::wait_until(Duration::from_secs(60), || {
            let running = self.is_running();
            self.output().contains(text) || !running
        });
        let output = self.output();
        assert!(said && output.contains(text), "expected {text:?} in:\n{output}");
    }

    /// Waits for its end; the exit status, or `None` when it takes longer.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        proc::wait_child(self.process.child(), limit)
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        proc::signal(self.process.id(), Signal::INT);
    }

    /// A polite request to end.
    pub fn terminate(&self) {
        proc::signal(self.process.id(), Signal::TERM);
    }

    /// Lets it do nothing more until [`thaw`](Self::thaw); false when it has ended before. What is there then stays.
    pub fn freeze(&mut self) -> bool {
        proc::signal(self.process.id(), Signal::STOP);
        let pid = self.process.id();
        proc::wait_until(Duration::from_secs(30), || proc::is_stopped(pid) || !proc::is_alive(pid));
        self.is_running()
    }

    /// Goes on after [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        proc::signal(self.process.id(), Signal::CONT);
    }

    /// Stops it dead, with its children, between any two of its instructions.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }
}

/// Puts the binary where the server user can execute it, once per scratch directory.
fn provide(scratch: &Scratch) -> PathBuf {
    let dest = scratch.make_dir("bin").join("holdfast");
    if dest.exists() {
        return dest;
    }
    let source = locate();
    let mode = fs::metadata(&source).expect("stat the binary under test").permissions().mode();
    // A build replaces the file, it does not write into it: the link stays what it is.
    let linked = mode & 0o005 == 0o005 && fs::hard_link(&source, &dest).is_ok();
    if !linked {
        fs::copy(&source, &dest).unwrap_or_else(|e| panic!("copy {}: {e}", source.display()));
        let all = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&dest, all).expect("make the copy executable");
    }
    dest
}

/// Finds the binary under test; panics, saying where it looked, when there is none.
pub fn locate() -> PathBuf {
    if let Some(path) = std::env::var_os("HOLDFAST_BIN").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        assert!(path.exists(), "HOLDFAST_BIN={} does not exist", path.display());
        return path;
    }
    // The test is target/PROFILE/deps/NAME-HASH.
    let this = std::env::current_exe().expect("a running program has a path");
    let found = this.ancestors().skip(1).take(2).map(|dir| dir.join("holdfast")).find(|p| p.exists());
    found.unwrap_or_else(|| {
        let dir = this.parent().unwrap_or(&this).display();
        panic!("no binary `holdfast` beside {dir}: run `cargo build -p holdfast-cli` first")
    })
}

/// Quotes a word for a POSIX shell, if it needs that.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:+,@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
