//! Ceph with its S3 gateway, on one machine, for as long as a test: the one real S3 server among
//! the stores of the tests. It checks signatures and keeps Object Lock's promises.
//!
//! Three daemons run in the foreground, as the server user, with everything they keep in the
//! scratch directory: a monitor, an OSD whose objects are in memory, and the gateway (RGW). A
//! manager is not needed for what tests do. All listen on the loopback interface only: monitor and
//! gateway on free ports, the OSD on the first free ones of Ceph's own range.
//!
//! A start takes some ten seconds. Each daemon is [`Guarded`]: none outlives the [`Ceph`], nor the
//! test process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use crate::http::{self, Response};
use crate::proc::{self, Guarded};
use crate::s3;
use crate::scratch::Scratch;
use crate::tools;
use crate::user;

/// For the gateway to answer: it makes its pools first, and placement groups take their time.
const START_LIMIT: Duration = Duration::from_secs(180);
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
const ACCESS_KEY: &str = "HOLDFASTTESTKEY";
const SECRET_KEY: &str = "a-secret-of-no-worth";

/// Two that start side by side, on two cores, each take longer than both after one another.
static STARTING: Mutex<()> = Mutex::new(());

/// A running Ceph. Drop stops the gateway first, so that it does not look for the others.
#[derive(Debug)]
pub struct Ceph {
    port: u16,
    gateway: Guarded,
    _osd: Guarded,
    _monitor: Guarded,
    dir: PathBuf,
    _scratch: Scratch,
}

impl Ceph {
    /// Starts it with these buckets. `None`, after a word, outside of the soak or where setup found
    /// that Ceph cannot be had.
    pub fn start(scratch: &Scratch, buckets: &[&str]) -> Option<Ceph> {
        tools::soak_program("ceph", "/usr/bin/radosgw".into())?;
        let _turn = STARTING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Somebody else may take a port before it is used.
        let ceph = (0..3).find_map(|_| Ceph::try_start(scratch)).expect("Ceph starts in one of three tries");
        for bucket in buckets {
            ceph.create_bucket(bucket);
        }
        Some(ceph)
    }

    fn try_start(scratch: &Scratch) -> Option<Ceph> {
        let (monitor_port, port) = (proc::free_port(), proc::free_port());
        let name = format!("ceph-{port}");
        let dir = scratch.make_dir(&name);
        for sub in ["mon", "osd", "log"] {
            scratch.make_dir(format!("{name}/{sub}"));
        }
        let (fsid, osd) = (uuid(), uuid());
        scratch.write(format!("{name}/ceph.conf"), configuration(&dir, &fsid, monitor_port, port));

        let keys = [
            ("mon.", &["mon", "allow *"][..]),
            ("client.admin", &["mon", "allow *", "osd", "allow *", "mgr", "allow *"]),
            ("client.rgw", &["mon", "allow *", "osd", "allow *"]),
            ("osd.0", &["mon", "allow profile osd", "mgr", "allow profile osd", "osd", "allow *"]),
        ];
        run(&dir, "ceph-authtool", &["--create-keyring", "keyring"]);
        for (entity, capabilities) in keys {
            let mut args = vec!["keyring", "--gen-key", "-n", entity];
            for pair in capabilities.chunks(2) {
                args.extend(["--cap", pair[0], pair[1]]);
            }
            run(&dir, "ceph-authtool", &args);
        }
        let address = format!("[v2:127.0.0.1:{monitor_port}]");
        run(&dir, "monmaptool", &["--create", "--addv", "a", &address, "--fsid", &fsid, "monmap"]);
        run(&dir, "ceph-mon", &["--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring"]);
        let mut monitor = daemon(&dir, "ceph-mon", &["-i", "a"]);
        proc::wait_until(COMMAND_LIMIT, || !monitor.is_running() || proc::port_answers(monitor_port));
        if !monitor.is_running() {
            eprintln!("testkit: the monitor of Ceph ended at once:\n{}", log(&dir, "ceph-mon"));
            return None;
        }
        run(&dir, "ceph", &["osd", "new", &osd]);
        run(&dir, "ceph-osd", &["-i", "0", "--mkfs", "--osd-uuid", &osd]);
        let mut ceph = Ceph {
            port,
            _osd: daemon(&dir, "ceph-osd", &["-i", "0"]),
            gateway: daemon(&dir, "radosgw", &["-n", "client.rgw"]),
            _monitor: monitor,
            dir,
            _scratch: scratch.clone(),
        };
        let mut running = true;
        let up = proc::wait_until(START_LIMIT, || {
            running = ceph.gateway.is_running();
            !running || s3::answers(port)
        });
        // Whoever answers on the port is ours only if ours still runs.
        if !running || !ceph.gateway.is_running() {
            eprintln!("testkit: the gateway of Ceph ended at once:\n{}", log(&ceph.dir, "radosgw"));
            return None;
        }
        assert!(up, "Ceph does not start within {START_LIMIT:?}; its gateway said:\n{}", ceph.log());
        let (access, secret) = (format!("--access-key={ACCESS_KEY}"), format!("--secret-key={SECRET_KEY}"));
        let mut args = vec!["-n", "client.rgw", "user", "create", "--uid=test", "--display-name=test"];
        args.extend([access.as_str(), secret.as_str()]);
        run(&ceph.dir, "radosgw-admin", &args);
        Some(ceph)
    }

    /// Its URL: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The environment in which a client finds it and may use it, plain HTTP included.
    pub fn env(&self) -> Vec<(String, String)> {
        self.env_for(&self.endpoint())
    }

    /// The same for another URL that leads to it, such as a fault proxy's.
    pub fn env_for(&self, endpoint: &str) -> Vec<(String, String)> {
        s3::client_env(ACCESS_KEY, SECRET_KEY, endpoint)
    }

    /// Creates a bucket.
    pub fn create_bucket(&self, name: &str) {
        self.expect_ok("PUT", name, &[], b"");
    }

    /// Creates a bucket with Object Lock, and with it versioning, enabled.
    pub fn create_locked_bucket(&self, name: &str) {
        self.expect_ok("PUT", name, &[s3::LOCK_ENABLED], b"");
    }

    /// Every object that is written from now on may not be removed for so many days, by nobody.
    pub fn retain_by_default(&self, bucket: &str, days: u32) {
        let body = format!(
            "<ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
             <Mode>COMPLIANCE</Mode><Days>{days}</Days></DefaultRetention></Rule>\
             </ObjectLockConfiguration>"
        );
        self.expect_ok("PUT", &format!("{bucket}?object-lock"), &[], body.as_bytes());
    }

    /// Turns versioning on.
    pub fn enable_versioning(&self, bucket: &str) {
        self.expect_ok("PUT", &format!("{bucket}?versioning"), &[], s3::VERSIONING_ENABLED);
    }

    /// Stops keeping versions; those that are there stay.
    pub fn suspend_versioning(&self, bucket: &str) {
        self.expect_ok("PUT", &format!("{bucket}?versioning"), &[], s3::VERSIONING_SUSPENDED);
    }

    /// Sends a signed request. `path` is `bucket/key?query`; a name in it must need no escapes.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let signed = self.sign(method, path, headers, body);
        let mut all = headers.to_vec();
        all.extend(signed.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        http::request(method, &format!("{}/{path}", self.endpoint()), &all, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// What the gateway logged.
    pub fn log(&self) -> String {
        log(&self.dir, "radosgw")
    }

    fn expect_ok(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let answer = self.request(method, path, headers, body);
        let status = answer.status();
        assert!((200..300).contains(&status), "{method} {path}: {status} {}", answer.text());
    }

    /// The headers of AWS Signature Version 4; Python's standard library makes them.
    fn sign(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<(String, String)> {
        const SCRIPT: &str = r#"
import base64, datetime, hashlib, hmac, sys, urllib.parse
access, secret, host, method, path = sys.argv[1:6]
body = sys.stdin.buffer.read()
now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
mac = lambda key, text: hmac.new(key, text.encode(), hashlib.sha256).digest()
digest = hashlib.sha256(body).hexdigest()
new = {"x-amz-date": now, "x-amz-content-sha256": digest,
       "content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()}
signed = {"host": host, **new, **dict(pair.split(":", 1) for pair in sys.argv[6:])}
names = ";".join(sorted(signed))
path, _, query = path.partition("?")
query = sorted(urllib.parse.parse_qsl(query, keep_blank_values=True))
canonical = "\n".join([method, "/" + path, urllib.parse.urlencode(query, quote_via=urllib.parse.quote, safe=""),
    *(name + ":" + signed[name] for name in sorted(signed)), "", names, digest])
scope = now[:8] + "/us-east-1/s3/aws4_request"
text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
key = ("AWS4" + secret).encode()
for word in scope.split("/"):
    key = mac(key, word)
new["authorization"] = ("AWS4-HMAC-SHA256 Credential=" + access + "/" + scope + ",SignedHeaders=" + names
                        + ",Signature=" + mac(key, text).hex())
for name, value in new.items():
    print(name + ":" + value)
"#;
        let host = format!("127.0.0.1:{}", self.port);
        let mut command = Command::new(tools::python());
        command.args(["-c", SCRIPT, ACCESS_KEY, SECRET_KEY, &host, method, path]);
        command.args(headers.iter().map(|(name, value)| format!("{name}:{value}")));
        let done = proc::run(&mut command, body, COMMAND_LIMIT);
        assert_eq!(done.code, 0, "not signed: {}", String::from_utf8_lossy(&done.stderr));
        let text = String::from_utf8(done.stdout).expect("headers are text");
        let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.to_owned()));
        text.lines().filter_map(pair).collect()
    }
}

/// One copy of everything, nothing on disk that matters, and no opinion about the machine.
fn configuration(dir: &Path, fsid: &str, monitor_port: u16, port: u16) -> String {
    let dir = dir.display();
    format!(
        "\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor_port}/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
ms bind msgr1 = false
keyring = {dir}/keyring
log file = {dir}/log/$name.log
admin socket =
pid file =
run dir = {dir}
mon data = {dir}/mon
osd data = {dir}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
osd class load list = *
osd class default list = *
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail warn = 2
mon data avail crit = 1
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw thread pool size = 32
"
    )
}

/// A command of Ceph in its directory, told where its configuration is and nothing else.
fn command(dir: &Path, program: &str) -> Command {
    let mut command = user::command(format!("/usr/bin/{program}"));
    command.env_remove("CEPH_ARGS").env("CEPH_CONF", dir.join("ceph.conf")).current_dir(dir);
    command
}

fn run(dir: &Path, program: &str, args: &[&str]) {
    let done = proc::run(command(dir, program).args(args), &[], COMMAND_LIMIT);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.code, 0, "{program} {args:?}: {said}");
}

/// A daemon in the foreground, as a child that cannot get away.
fn daemon(dir: &Path, program: &str, args: &[&str]) -> Guarded {
    let out = fs::File::create(dir.join("log").join(format!("{program}.out"))).expect("create a log");
    let err = out.try_clone().expect("duplicate a file handle");
    let child = command(dir, program)
        .arg("-f")
        .args(args)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
    Guarded::new(child)
}

fn log(dir: &Path, program: &str) -> String {
    fs::read_to_string(dir.join("log").join(format!("{program}.out"))).unwrap_or_default()
}

/// Random, from the kernel.
fn uuid() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("the kernel makes UUIDs");
    text.trim().to_owned()
}
