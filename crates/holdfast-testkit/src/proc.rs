//! Processes that tests start: free ports, waiting with a limit, and a promise that nothing is
//! left running.
//!
//! `Drop` stops a server at the end of a test, but a test process that is killed runs no `Drop`.
//! Each server therefore has a [`Watchdog`]: a shell in a process group of its own that reads from
//! a pipe whose other end only the test process holds. When that process goes, however it goes,
//! the read ends and the shell kills the server.

use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// A port of the loopback interface that nobody listens on now. Somebody else may take it before
/// it is used: whoever starts a server on it must be ready to try another.
///
/// Below those that the kernel gives to outgoing connections (32768 on, net.ipv4.ip_local_port_range): a server that is
/// stopped and started again finds its port free. Each process begins somewhere else.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(61);
    let cache = crate::template::cache_dir().join("ports");
    fs::create_dir_all(&cache).expect("a directory for ports");
    for _ in 0..PORTS {
        let n = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let port = u16::try_from(20_000 + n).expect("a port");
        // A server may take a second until it listens: until the end of this process the port is not another test's.
        let claim = cache.join(port.to_string());
        let claim = File::options().create(true).truncate(false).write(true).open(claim);
        let claim = claim.unwrap_or_else(|e| panic!("claim port {port}: {e}"));
        if claim.try_lock().is_err() {
            continue;
        }
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            std::mem::forget(claim);
            return port;
        }
    }
    panic!("no free port from 20000 on");
}

const PORTS: u32 = 12_000;

/// Whether somebody listens on that port of the loopback interface.
pub fn port_answers(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port).into();
    TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
}

/// Calls `condition` until it holds; false when it did not within `limit`.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(5);
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Sends a signal to a process. One that is gone already is no error.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = kill_process(pid, signal);
    }
}

/// Sends SIGKILL to a process, to the group that it leads if it does, and to all its descendants
/// and their groups, and waits until they are gone. The process is stopped first, so that it can
/// start no child while its children are being listed.
pub fn kill_tree(pid: u32) {
    signal(pid, Signal::STOP);
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(&parent) = all.get(next) {
        all.extend(children(parent));
        next += 1;
    }
    for &pid in &all {
        if let Some(pid) = Pid::from_raw(pid as i32) {
            // Only a group leader has a group of that number.
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let gone = wait_until(Duration::from_secs(30), || !all.iter().any(|&pid| is_alive(pid)));
    assert!(gone, "processes {all:?} survived SIGKILL");
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut found = Vec::new();
    for task in tasks.flatten() {
        let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(list.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    found
}

/// Whether the process exists and is not merely waiting to be reaped.
pub fn is_alive(pid: u32) -> bool {
    !matches!(state(pid).as_deref(), Some("Z" | "X") | None)
}

/// Whether a SIGSTOP has reached it: the signal is sent before it has done its work.
pub fn is_stopped(pid: u32) -> bool {
    state(pid).as_deref() == Some("T")
}

/// proc_pid_stat(5), the third field.
fn state(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything, a parenthesis too.
    stat.rsplit(')').next()?.split_whitespace().next().map(str::to_owned)
}

/// Waits for a child, at most `limit`; `None` when it still runs.
pub fn wait_child(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let mut status = None;
    wait_until(limit, || {
        status = child.try_wait().expect("wait for a child of ours");
        status.is_some()
    });
    status
}

/// A finished program: its exit code (128 + signal when a signal ended it) and what it wrote.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// Exit code in the manner of a shell.
pub fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Runs a command to its end with `input` as its standard input. Kills it, and panics, when it
/// takes longer than `limit`.
pub fn run(command: &mut Command, input: &[u8], limit: Duration) -> Finished {
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let stdin = child.stdin.take();
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    // A descendant that keeps a pipe open must not hang the test, so the readers are not scoped
    // to the wait for the child itself but to the same deadline.
    let deadline = Instant::now() + limit;
    let stdout = reader(stdout);
    let stderr = reader(stderr);
    thread::scope(|scope| {
        if let Some(mut stdin) = stdin {
            // The program may end without reading all of it: its exit code tells.
            scope.spawn(move || std::io::Write::write_all(&mut stdin, input));
        }
        let Some(status) = wait_child(&mut child, limit) else {
            kill_tree(child.id());
            let _ = child.wait();
            panic!("{command:?} did not end within {limit:?}");
        };
        let code = exit_code(status);
        let rest = || deadline.saturating_duration_since(Instant::now()) + Duration::from_secs(1);
        let stdout = stdout.recv_timeout(rest()).expect("output ends when the program does");
        let stderr = stderr.recv_timeout(rest()).expect("output ends when the program does");
        Finished { code, stdout, stderr }
    })
}

fn reader(mut pipe: impl Read + Send + 'static) -> std::sync::mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// Runs a shell command when the test process is gone. Dropping it calls the command off.
#[derive(Debug)]
pub struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// `command` is POSIX shell text; `$1`… are `args`.
    pub fn new(command: &str, args: &[&str]) -> Watchdog {
        // `read` ends with a line (called off, status 0) or with the end of the pipe (do it).
        let script = format!("trap '' HUP INT TERM; read -r word || {{ {command}; }}");
        let shell = Command::new("/bin/sh")
            .arg("-c")
            .arg(script)
            .arg("holdfast-testkit-watchdog")
            .args(args)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start /bin/sh");
        Watchdog { shell }
    }

    /// Kills process `pid` when the test process is gone.
    pub fn for_process(pid: u32) -> Watchdog {
        Watchdog::new("kill -KILL \"$1\"", &[&pid.to_string()])
    }

    /// Stops the PostgreSQL server of a data directory when the test process is gone.
    pub fn for_data_dir(data_dir: &Path) -> Watchdog {
        let command = "pid=$(head -n 1 \"$1/postmaster.pid\") && kill -QUIT \"$pid\" && sleep 5; \
                       kill -KILL \"$pid\"";
        Watchdog::new(command, &[&data_dir.to_string_lossy()])
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.shell.stdin.take() {
            let _ = std::io::Write::write_all(&mut stdin, b"off\n");
        }
        let _ = self.shell.wait();
    }
}

/// A child that is killed, with its descendants, when the guard goes or the test process does.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
    // Dropped after the child has been reaped in `drop`, so it never kills somebody else's process.
    _watchdog: Watchdog,
}

impl Guarded {
    /// Guards a running child.
    pub fn new(child: Child) -> Guarded {
        let watchdog = Watchdog::for_process(child.id());
        Guarded { child, _watchdog: watchdog }
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child itself.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL to it and all its descendants.
    pub fn kill9(&mut self) {
        if self.is_running() {
            kill_tree(self.child.id());
        }
        let _ = self.child.wait();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill9();
    }
}
