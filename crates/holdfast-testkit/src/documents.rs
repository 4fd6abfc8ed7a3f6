//! A server that speaks MongoDB's protocol: [`DocumentServer`], behind restored DocumentDB clusters.
//!
//! It is SecantusDB, the strictest that installs here: SCRAM-SHA-256, TLS, real cursors, unique indexes. What it lacks
//! of DocumentDB: SCRAM-SHA-1, the certificate of the provider, a cluster endpoint that moves, the server's refusals
//! of commands that DocumentDB does not know. A driver that works here need not work there; one that fails here does.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::proc::{self, Guarded};
use crate::scratch::Scratch;
use crate::tools;
use crate::user;

const START_LIMIT: Duration = Duration::from_secs(180);
const ENV: &str = "documents/bin";

/// A running server with TLS and one user, who may read and write everything.
#[derive(Debug)]
pub struct DocumentServer {
    port: u16,
    process: Guarded,
    /// For its clients.
    uri: String,
}

impl DocumentServer {
    /// Starts it, with `user` and `password`; `crt` and `key` are PEM for `localhost`, `root` verifies them. Panics when
    /// it is not installed.
    pub fn start(
        scratch: &Scratch,
        (crt, key, root): (&Path, &Path, &Path),
        user: &str,
        password: &str,
    ) -> DocumentServer {
        let store = scratch.path("documents");
        // Users are made while nobody needs one.
        let (port, mut process) = spawn(scratch, &store, &[]);
        let made = python(&format!(
            "import pymongo\nc = pymongo.MongoClient('mongodb://127.0.0.1:{port}/?directConnection=true')\n\
             c.admin.command('createUser', '{user}', pwd='{password}', roles=['root'])"
        ));
        assert!(made.is_ok(), "{made:?}");
        // It holds a lock on its files until it has gone, and writes the user down when it goes.
        proc::signal(process.id(), rustix::process::Signal::TERM);
        proc::wait_until(START_LIMIT, || !process.is_running());
        process.kill9();
        let tls = ["--auth", "--tls-cert-file", text(crt), "--tls-key-file", text(key)];
        let (port, process) = spawn(scratch, &store, &tls);
        let uri = format!(
            "mongodb://{user}:{password}@localhost:{port}/?directConnection=true&tls=true&tlsCAFile={}",
            root.display()
        );
        DocumentServer { port, process, uri }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs Python with `c`, a client that is logged in; what it printed. Panics when it fails.
    pub fn script(&self, script: &str) -> String {
        let all = format!(
            "import datetime, pymongo\nc = pymongo.MongoClient('{}')\nnow = \
             datetime.datetime.now(datetime.timezone.utc)\n{script}",
            self.uri
        );
        python(&all).unwrap_or_else(|e| panic!("{e}"))
    }

    /// It dies.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

fn program(name: &str) -> PathBuf {
    let path = tools::root().join(ENV).join(name);
    assert!(path.exists(), "{} is not installed (scripts/setup.sh aws)", path.display());
    path
}

fn python(script: &str) -> Result<String, String> {
    let mut command = Command::new(program("python"));
    command.args(["-c", script]);
    let done = proc::run(&mut command, &[], Duration::from_secs(300));
    match done.code {
        0 => Ok(String::from_utf8_lossy(&done.stdout).trim().to_string()),
        _ => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}

fn spawn(scratch: &Scratch, store: &Path, more: &[&str]) -> (u16, Guarded) {
    let log = scratch.path("documents.log");
    for _ in 0..5 {
        let port = proc::free_port();
        let out = std::fs::File::create(&log).expect("create the server's log");
        let err = out.try_clone().expect("duplicate a file handle");
        let mut command = Command::new(program("secantusd-py"));
        user::clean_environment(&mut command);
        let child = command
            .args(["--host", "127.0.0.1", "--port", &port.to_string(), "--storage-path", text(store)])
            .args(more)
            .current_dir(scratch.dir())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start the document server: {error}"));
        let mut process = Guarded::new(child);
        let mut ended = false;
        let up = proc::wait_until(START_LIMIT, || {
            ended = !process.is_running();
            ended || proc::port_answers(port)
        });
        if up && !ended && process.is_running() {
            return (port, process);
        }
    }
    panic!("the document server does not start:\n{}", std::fs::read_to_string(&log).unwrap_or_default());
}
