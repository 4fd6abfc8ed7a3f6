//! AWS without AWS, on a free port of the loopback interface.
//!
//! | service | what it is good for |
//! |---|---|
//! | [`Aws::standin`] | the default: our strict stand-in (`tools/aws-standin`), with states, pages, quotas, permissions, faults |
//! | [`Aws::moto`] | a second opinion: plain moto with DocumentDB, lenient, not ours |
//!
//! Both live in memory and are gone with the [`Aws`].

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::http;
use crate::proc::{self, Guarded};
use crate::s3::{answers, client_env};
use crate::scratch::Scratch;
use crate::tools;
use crate::user;

const START_LIMIT: Duration = Duration::from_secs(180);

/// A running substitute for AWS.
#[derive(Debug)]
pub struct Aws {
    port: u16,
    process: Guarded,
    log: PathBuf,
    _scratch: Scratch,
}

/// `tools/aws-standin` of this work tree, or `$HOLDFAST_AWS_STANDIN`.
fn program_dir() -> PathBuf {
    std::env::var_os("HOLDFAST_AWS_STANDIN").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/aws-standin")),
        PathBuf::from,
    )
}

impl Aws {
    /// Starts the strict stand-in. Panics when it is not installed.
    pub fn standin(scratch: &Scratch) -> Aws {
        let dir = program_dir();
        assert!(dir.join("aws_standin").is_dir(), "there is no aws_standin in {}", dir.display());
        let mut command = Command::new(tools::python());
        user::clean_environment(&mut command);
        command.args(["-m", "aws_standin", "--port", "0"]).env("PYTHONPATH", &dir);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        let log = scratch.path("aws-standin.log");
        let err = std::fs::File::create(&log).expect("create the stand-in's log");
        let child = command
            .current_dir(scratch.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start the stand-in: {error}"));
        let mut process = Guarded::new(child);
        let stdout = process.child().stdout.take().expect("stdout is piped");
        let mut first = String::new();
        BufReader::new(stdout).read_line(&mut first).expect("read what the stand-in says");
        let port = first.trim().rsplit(':').next().and_then(|p| p.parse().ok());
        let Some(port) = port else {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            panic!("the stand-in does not start (scripts/setup.sh aws?): {first}\n{text}");
        };
        Aws { port, process, log, _scratch: scratch.clone() }
    }

    /// Starts moto. Panics when it is not installed.
    pub fn moto(scratch: &Scratch) -> Aws {
        let log = scratch.path("moto.log");
        for _ in 0..5 {
            let port = proc::free_port();
            let out = std::fs::File::create(&log).expect("create moto's log");
            let err = out.try_clone().expect("duplicate a file handle");
            let mut command = Command::new(tools::python());
            user::clean_environment(&mut command);
            let child = command
                // Hundreds of images of machines that nobody here starts.
                .env("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
                .arg(program_dir().join("moto_docdb.py"))
                .args(["-H", "127.0.0.1", "-p", &port.to_string()])
                .current_dir(scratch.dir())
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(err)
                .spawn()
                .unwrap_or_else(|error| panic!("cannot start moto: {error}"));
            let mut process = Guarded::new(child);
            let mut ended = false;
            let up = proc::wait_until(START_LIMIT, || {
                ended = !process.is_running();
                ended || answers(port)
            });
            // Whoever answers on the port is ours only if ours still runs.
            if up && !ended && process.is_running() {
                return Aws { port, process, log, _scratch: scratch.clone() };
            }
        }
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        panic!("moto does not start (scripts/setup.sh aws?); its log:\n{text}");
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The environment in which a client finds it and may do everything.
    pub fn env(&self) -> Vec<(String, String)> {
        client_env("test", "test", &self.endpoint())
    }

    /// A call of the stand-in's control endpoint: `POST` with a body, `GET` without. Panics when it refuses.
    pub fn control(&self, name: &str, body: Option<Value>) -> Value {
        let url = format!("{}/_standin/{name}", self.endpoint());
        let text = body.as_ref().map(Value::to_string).unwrap_or_default();
        let method = if body.is_some() { "POST" } else { "GET" };
        let answer = http::request(method, &url, &[("content-type", "application/json")], text.as_bytes())
            .unwrap_or_else(|error| panic!("{method} {name}: {error}"));
        assert_eq!(answer.status(), 200, "{method} {name} {text}: {}", answer.text());
        serde_json::from_str(&answer.text()).expect("the control endpoint answers in JSON")
    }

    /// How often an action (`rds:CreateDBSnapshot`) was called (stand-in only).
    pub fn count(&self, action: &str) -> u64 {
        self.control("counts", None).get(action).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// It dies, and takes what it held with it.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}
