//! Object store emulators on a free port of the loopback interface.
//!
//! | store | what it is good for |
//! |---|---|
//! | [`Store::ministack`] | the default: conditional writes, versions, Object Lock; any credentials |
//! | [`Store::s3rver`] | a weak store: ignores `If-None-Match`, so a client must notice that |
//! | [`Store::garage`] | a weak store that people really run; checks signatures; for the soak only |
//! | [`Store::azurite`] | Azure Blob Storage |
//!
//! ministack must be installed; the others are optional and give `None`, after one line that says
//! so. All data is in the scratch directory or in memory and is gone with the [`Store`]. A whole
//! server with several daemons is [`Ceph`](crate::Ceph).

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::http::{self, Response};
use crate::proc::{self, Guarded};
use crate::scratch::Scratch;
use crate::tools;
use crate::user;

const START_LIMIT: Duration = Duration::from_secs(180);
const REGION: &str = "us-east-1";

pub(crate) const VERSIONING_ENABLED: &[u8] =
    b"<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
      <Status>Enabled</Status></VersioningConfiguration>";
pub(crate) const VERSIONING_SUSPENDED: &[u8] =
    b"<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
      <Status>Suspended</Status></VersioningConfiguration>";
pub(crate) const LOCK_ENABLED: (&str, &str) = ("x-amz-bucket-object-lock-enabled", "true");

/// Garage wants keys of its own form.
const GARAGE_ACCESS_KEY: &str = "GK0123456789abcdef01234567";
const GARAGE_SECRET_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Azurite's account, whose name and key are printed in its manual.
const AZURE_ACCOUNT: &str = "devstoreaccount1";
const AZURE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Which emulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// ministack, S3 (and more of AWS).
    Ministack,
    /// s3rver, a weak S3.
    S3rver,
    /// Garage, a weak S3.
    Garage,
    /// Azurite, Azure Blob Storage.
    Azurite,
}

/// A running emulator.
#[derive(Debug)]
pub struct Store {
    kind: StoreKind,
    port: u16,
    process: Guarded,
    log: PathBuf,
    _scratch: Scratch,
}

impl Store {
    /// Starts ministack with these buckets. Panics when it is not installed.
    pub fn ministack(scratch: &Scratch, buckets: &[&str]) -> Store {
        let program = tools::venv_program("ministack")
            .expect("ministack is not installed; run scripts/setup.sh stores");
        let store = Store::start(scratch, StoreKind::Ministack, |port, _| {
            let mut command = Command::new(&program);
            user::clean_environment(&mut command);
            command
                .env("BIND_HOST", "127.0.0.1")
                .env("GATEWAY_PORT", port.to_string())
                .env("SERVICES", "s3,sts,iam,kms")
                // Would listen on a fixed port of every interface.
                .env("IOT_MTLS_ENABLED", "0")
                .env("SFTP_ENABLED", "0")
                .env("LOG_LEVEL", "WARNING");
            command
        });
        for bucket in buckets {
            store.create_bucket(bucket);
        }
        store
    }

    /// Starts s3rver, which does not honour conditional writes, with these buckets.
    pub fn s3rver(scratch: &Scratch, buckets: &[&str]) -> Option<Store> {
        let program = optional("s3rver")?;
        let store = Store::start(scratch, StoreKind::S3rver, |port, dir| {
            let mut command = Command::new(&program);
            command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-d"]).arg(dir);
            command.arg("--no-vhost-buckets");
            for bucket in buckets {
                command.args(["--configure-bucket", bucket]);
            }
            command
        });
        Some(store)
    }

    /// Starts Garage, which does not honour conditional writes, with this bucket. `None` outside of
    /// the soak as well.
    pub fn garage(scratch: &Scratch, bucket: &str) -> Option<Store> {
        let program = tools::soak_program("garage", tools::root().join("garage/bin/garage"))?;
        let store = Store::start(scratch, StoreKind::Garage, |port, dir| {
            let config = format!(
                "metadata_dir = \"{0}/meta\"\ndata_dir = \"{0}/data\"\nreplication_factor = 1\n\
                 rpc_bind_addr = \"127.0.0.1:{1}\"\nrpc_public_addr = \"127.0.0.1:{1}\"\n\
                 rpc_secret = \"{GARAGE_SECRET_KEY}\"\n\
                 [s3_api]\ns3_region = \"{REGION}\"\napi_bind_addr = \"127.0.0.1:{port}\"\n",
                dir.display(),
                proc::free_port(),
            );
            std::fs::write(dir.join("garage.toml"), config).expect("write Garage's configuration");
            let mut command = Command::new(&program);
            user::clean_environment(&mut command);
            command
                .args(["-c", "garage.toml", "server", "--single-node", "--default-bucket"])
                .env("GARAGE_DEFAULT_ACCESS_KEY", GARAGE_ACCESS_KEY)
                .env("GARAGE_DEFAULT_SECRET_KEY", GARAGE_SECRET_KEY)
                .env("GARAGE_DEFAULT_BUCKET", bucket);
            command
        });
        Some(store)
    }

    /// Starts Azurite with these containers.
    pub fn azurite(scratch: &Scratch, containers: &[&str]) -> Option<Store> {
        let program = optional("azurite-blob")?;
        let store = Store::start(scratch, StoreKind::Azurite, |port, dir| {
            let mut command = Command::new(&program);
            command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
            command.args(["--skipApiVersionCheck", "--disableTelemetry", "--loose", "--location"]);
            command.arg(dir);
            command
        });
        for container in containers {
            store.create_container(container);
        }
        Some(store)
    }

    fn start(
        scratch: &Scratch,
        kind: StoreKind,
        command: impl Fn(u16, &std::path::Path) -> Command,
    ) -> Store {
        let mut log = PathBuf::new();
        for _ in 0..5 {
            let port = proc::free_port();
            let dir = scratch.make_dir(format!("store-{port}"));
            log = scratch.path(format!("store-{port}.log"));
            let out = std::fs::File::create(&log).expect("create the store's log");
            let err = out.try_clone().expect("duplicate a file handle");
            let child = command(port, &dir)
                .current_dir(&dir)
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(err)
                .spawn()
                .unwrap_or_else(|error| panic!("cannot start {kind:?}: {error}"));
            let mut process = Guarded::new(child);
            let mut ended = false;
            let up = proc::wait_until(START_LIMIT, || {
                ended = !process.is_running();
                ended || answers(port)
            });
            // Whoever answers on the port is ours only if ours still runs.
            if up && !ended && process.is_running() {
                return Store { kind, port, process, log, _scratch: scratch.clone() };
            }
        }
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        panic!("{kind:?} does not start; its log:\n{text}");
    }

    /// Which emulator it is.
    pub fn kind(&self) -> StoreKind {
        self.kind
    }

    /// Its URL: `http://127.0.0.1:PORT`, for Azure with the account's name after it.
    pub fn endpoint(&self) -> String {
        match self.kind {
            StoreKind::Azurite => format!("http://127.0.0.1:{}/{AZURE_ACCOUNT}", self.port),
            _ => format!("http://127.0.0.1:{}", self.port),
        }
    }

    /// Creates a bucket (a container, for Azure).
    pub fn create_bucket(&self, name: &str) {
        match self.kind {
            StoreKind::Azurite => self.create_container(name),
            _ => self.expect_ok("PUT", name, &[], b""),
        }
    }

    /// Creates a bucket with Object Lock, and with it versioning, enabled (ministack only).
    pub fn create_locked_bucket(&self, name: &str) {
        self.expect_ok("PUT", name, &[LOCK_ENABLED], b"");
    }

    /// Turns versioning on (ministack only).
    pub fn enable_versioning(&self, bucket: &str) {
        self.expect_ok("PUT", &format!("{bucket}?versioning"), &[], VERSIONING_ENABLED);
    }

    /// The environment in which a client finds this store and may use it, plain HTTP included.
    pub fn env(&self) -> Vec<(String, String)> {
        self.env_for(&self.endpoint())
    }

    /// The same for another URL that leads to this store, such as a fault proxy's.
    pub fn env_for(&self, endpoint: &str) -> Vec<(String, String)> {
        match self.kind {
            StoreKind::Azurite => owned(&[
                ("AZURE_STORAGE_ACCOUNT_NAME", AZURE_ACCOUNT),
                ("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY),
                ("AZURE_STORAGE_ENDPOINT", endpoint),
                ("AZURE_ALLOW_HTTP", "true"),
            ]),
            _ => client_env(self.access_key(), self.secret_key(), endpoint),
        }
    }

    /// The access key (the account, for Azure).
    pub fn access_key(&self) -> &'static str {
        match self.kind {
            StoreKind::Ministack => "test",
            StoreKind::S3rver => "S3RVER",
            StoreKind::Garage => GARAGE_ACCESS_KEY,
            StoreKind::Azurite => AZURE_ACCOUNT,
        }
    }

    /// The secret that belongs to it.
    pub fn secret_key(&self) -> &'static str {
        match self.kind {
            StoreKind::Ministack => "test",
            StoreKind::S3rver => "S3RVER",
            StoreKind::Garage => GARAGE_SECRET_KEY,
            StoreKind::Azurite => AZURE_KEY,
        }
    }

    /// Sends an unsigned request, which ministack and s3rver accept. `path` is `bucket/key?query`.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        request_at(&format!("http://127.0.0.1:{}", self.port), method, path, headers, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The store dies, and takes what it held in memory with it.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn expect_ok(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let answer = self.request(method, path, headers, body);
        let status = answer.status();
        assert!((200..300).contains(&status), "{method} {path}: {status} {}", answer.text());
    }

    /// Azurite wants a real signature; Python's standard library makes it.
    fn create_container(&self, name: &str) {
        const SCRIPT: &str = r#"
import base64, email.utils, hashlib, hmac, sys, urllib.request
url, account, key, name = sys.argv[1:]
date = email.utils.formatdate(usegmt=True)
text = ("PUT\n\n\n\n\n\n\n\n\n\n\n\n" + "x-ms-date:" + date + "\nx-ms-version:2021-08-06\n"
        + "/" + account + "/" + account + "/" + name + "\nrestype:container")
digest = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
request = urllib.request.Request(url + "/" + name + "?restype=container", method="PUT", headers={
    "x-ms-date": date, "x-ms-version": "2021-08-06", "Content-Length": "0",
    "Authorization": "SharedKey " + account + ":" + base64.b64encode(digest).decode()})
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30)
"#;
        let mut command = Command::new(tools::python());
        command.args(["-c", SCRIPT, &self.endpoint(), AZURE_ACCOUNT, AZURE_KEY, name]);
        let done = proc::run(&mut command, &[], START_LIMIT);
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.code, 0, "container {name} was not created: {stderr}");
    }
}

/// Sends an unsigned request, which the S3 emulators accept, to any endpoint.
pub fn request_at(
    endpoint: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Response> {
    http::request(method, &format!("{endpoint}/{path}"), headers, body)
}

/// The environment of a client of S3 at `endpoint`.
pub(crate) fn client_env(access_key: &str, secret_key: &str, endpoint: &str) -> Vec<(String, String)> {
    owned(&[
        ("AWS_ACCESS_KEY_ID", access_key),
        ("AWS_SECRET_ACCESS_KEY", secret_key),
        ("AWS_REGION", REGION),
        ("AWS_DEFAULT_REGION", REGION),
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ])
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Any answer to a request, even a refusal, shows that the server is up.
pub(crate) fn answers(port: u16) -> bool {
    proc::port_answers(port) && http::request("GET", &format!("http://127.0.0.1:{port}/"), &[], b"").is_ok()
}

fn optional(name: &str) -> Option<PathBuf> {
    let program = tools::node_program(name);
    if program.is_none() {
        eprintln!("testkit: SKIPPED, {name} is not installed (scripts/setup.sh stores)");
    }
    program
}
