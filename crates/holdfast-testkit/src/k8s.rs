//! A Kubernetes cluster without Kubernetes: the stand-in of its API (`tools/k8s-standin`), for the real kubectl.
//!
//! It lives in memory and is gone with the [`K8s`].

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::http;
use crate::proc::Guarded;
use crate::scratch::Scratch;
use crate::tools;
use crate::user;

/// A running stand-in.
#[derive(Debug)]
pub struct K8s {
    port: u16,
    kubeconfig: PathBuf,
    _process: Guarded,
    scratch: Scratch,
}

/// `tools/k8s-standin` of this work tree, or `$HOLDFAST_K8S_STANDIN`.
fn program() -> PathBuf {
    std::env::var_os("HOLDFAST_K8S_STANDIN")
        .map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/k8s-standin")),
            PathBuf::from,
        )
        .join("k8s_standin.py")
}

impl K8s {
    /// Starts it. Panics when it does not.
    pub fn start(scratch: &Scratch) -> K8s {
        let kubeconfig = scratch.path("kubeconfig");
        let log = scratch.path("k8s-standin.log");
        let mut command = Command::new(tools::python());
        user::clean_environment(&mut command);
        let child = command
            .arg(program())
            .args(["--port", "0", "--kubeconfig"])
            .arg(&kubeconfig)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(scratch.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).expect("create the stand-in's log"))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start the stand-in: {error}"));
        let mut process = Guarded::new(child);
        let stdout = process.child().stdout.take().expect("stdout is piped");
        let mut first = String::new();
        BufReader::new(stdout).read_line(&mut first).expect("read what the stand-in says");
        let Some(port) = first.trim().rsplit(':').next().and_then(|p| p.parse().ok()) else {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            panic!("the stand-in does not start: {first}\n{text}");
        };
        K8s { port, kubeconfig, _process: process, scratch: scratch.clone() }
    }

    /// The environment in which holdfast finds kubectl, and kubectl the cluster.
    pub fn env(&self) -> Vec<(String, String)> {
        let mut path = std::env::var("PATH").unwrap_or_default();
        if let Some(dir) = tools::kubectl_dir() {
            path = format!("{}:{path}", dir.display());
        }
        vec![
            ("KUBECONFIG".into(), self.kubeconfig.display().to_string()),
            ("PATH".into(), path),
            // kubectl keeps a cache there.
            ("HOME".into(), self.scratch.path("home").display().to_string()),
        ]
    }

    /// A call of its control endpoint: `POST` with a body, `GET` without. Panics when it refuses.
    pub fn control(&self, name: &str, body: Option<Value>) -> Value {
        let method = if body.is_some() { "POST" } else { "GET" };
        self.call(method, name, &body.as_ref().map(Value::to_string).unwrap_or_default())
    }

    /// Takes all faults away.
    pub fn mend(&self) {
        let _ = self.call("DELETE", "faults", "");
    }

    fn call(&self, method: &str, name: &str, text: &str) -> Value {
        let url = format!("http://127.0.0.1:{}/_standin/{name}", self.port);
        let answer = http::request(method, &url, &[("content-type", "application/json")], text.as_bytes())
            .unwrap_or_else(|error| panic!("{method} {name}: {error}"));
        assert_eq!(answer.status(), 200, "{method} {name} {text}: {}", answer.text());
        serde_json::from_str(&answer.text()).expect("the control endpoint answers in JSON")
    }

    /// An object by its name.
    pub fn object(&self, name: &str) -> Value {
        let all = self.control("state", None);
        let found = all.as_array().and_then(|all| all.iter().find(|o| o["metadata"]["name"] == name));
        found.unwrap_or_else(|| panic!("there is no {name}: {all}")).clone()
    }

    /// How many patches arrived so far, whatever came of them.
    pub fn patches(&self) -> usize {
        let all = self.control("requests", None);
        all.as_array().map_or(0, |all| all.iter().filter(|r| r["verb"] == "patch").count())
    }
}
