//! The stores that the tests run against.

use holdfast_testkit::{Ceph, Scratch, Store as Server};
use holdfast_vault::Store;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const BUCKET: &str = "vault";

/// What the testkit tells programs by their environment, as options of [`Store::open`].
pub fn options(env: &[(String, String)]) -> BTreeMap<String, String> {
    let mut map: BTreeMap<String, String> =
        env.iter().map(|(k, v)| (k.to_lowercase().replace("aws_", ""), v.clone())).collect();
    map.insert("allow_http".into(), "true".into());
    map
}

/// The bucket of an S3 emulator, reached at `endpoint` (its own, or a proxy's).
pub fn s3_at(server: &Server, endpoint: &str, prefix: &str) -> Store {
    s3_env(&server.env_for(endpoint), prefix)
}

/// The bucket of whatever S3 server a client finds in this environment.
pub fn s3_env(env: &[(String, String)], prefix: &str) -> Store {
    Store::open(&format!("s3://{BUCKET}/{prefix}"), &options(env)).unwrap()
}

pub fn s3(server: &Server, prefix: &str) -> Store {
    s3_at(server, &server.endpoint(), prefix)
}

/// Whether this Ceph refuses a second create in a bucket with versions, seen without our code. The
/// release of Debian 12 (16.2) lets everybody win there; ceph/ceph#63348 (2025) is about that.
pub fn honours_conditions(server: &Ceph, versions: &str) -> bool {
    let path = format!("{BUCKET}/condition/{versions}");
    let put = || server.request("PUT", &path, &[("if-none-match", "*")], b"x").status();
    assert_eq!(put(), 200);
    match put() {
        412 => true,
        200 => {
            eprintln!("this Ceph ignores If-None-Match (versions {versions}): it must be refused");
            false
        }
        other => panic!("PUT {path}: {other}"),
    }
}

/// What a bucket with versions keeps of an object.
#[derive(Debug)]
pub struct Versions {
    pub ids: Vec<String>,
    pub markers: usize,
}

pub fn versions(server: &Ceph, key: &str) -> Versions {
    let text = server.request("GET", &format!("{BUCKET}?versions&prefix={key}"), &[], b"").text();
    let id = |version: &str| {
        let from = version.split_once("<VersionId>").unwrap().1;
        from.split_once('<').unwrap().0.to_string()
    };
    Versions {
        ids: text.split("<Version>").skip(1).map(id).collect(),
        markers: text.matches("<DeleteMarker>").count(),
    }
}

pub fn memory() -> Store {
    Store::from_object_store(std::sync::Arc::new(object_store::memory::InMemory::new()))
}

pub fn local(scratch: &Scratch) -> Store {
    Store::open_local(&scratch.path("vault")).unwrap()
}

/// A small file system of its own; `None`, after a word, where one cannot be mounted.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    pub fn mount(at: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let ok = mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], &at);
        if !ok {
            eprintln!("SKIPPED: no tmpfs can be mounted here (needs root)");
        }
        ok.then_some(Tmpfs(at))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn read_only(&self) {
        assert!(mount(&["-o", "remount,ro"], &self.0), "remount read-only");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(args: &[&str], at: &Path) -> bool {
    Command::new("mount").args(args).arg(at).output().is_ok_and(|o| o.status.success())
}

/// A Google store in front of an S3 emulator; see `gcs_shim.py`.
pub struct Gcs {
    child: std::process::Child,
    pub endpoint: String,
}

impl Gcs {
    pub fn start(s3: &Server) -> Self {
        use std::io::BufRead;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/gcs_shim.py");
        let mut child = Command::new(holdfast_testkit::tools::python())
            .arg(script)
            .arg(s3.endpoint())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Gcs { child, endpoint: format!("http://127.0.0.1:{}", port.trim()) }
    }

    pub fn store(&self, prefix: &str) -> Store {
        let key = r#"{"private_key":"","private_key_id":"","client_email":"","disable_oauth":true}"#;
        let options = [
            ("google_base_url", self.endpoint.as_str()),
            ("google_service_account_key", key),
            ("allow_http", "true"),
        ];
        let options = options.into_iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Store::open(&format!("gs://{BUCKET}/{prefix}"), &options).unwrap()
    }
}

impl Drop for Gcs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
