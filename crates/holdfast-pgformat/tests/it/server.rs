//! A throwaway PostgreSQL server of one major version.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Versions installed here: the distribution's and those under /opt/holdfast-tools.
pub fn installed() -> Vec<(u32, PathBuf)> {
    (15..=18)
        .filter_map(|v| {
            let places = [
                format!("/usr/lib/postgresql/{v}/bin"),
                format!("/opt/holdfast-tools/pg{v}/usr/lib/postgresql/{v}/bin"),
            ];
            places.into_iter().map(PathBuf::from).find(|p| p.join("initdb").exists()).map(|p| (v, p))
        })
        .collect()
}

pub struct Server {
    pub bin: PathBuf,
    pub dir: tempfile::TempDir,
    running: bool,
}

/// PostgreSQL refuses to run as root; then it runs as `postgres`.
fn as_owner(program: &Path) -> Command {
    if std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0) {
        let mut c = Command::new("runuser");
        c.args(["-u", "postgres", "--"]).arg(program);
        c
    } else {
        Command::new(program)
    }
}

fn must(mut c: Command) -> Output {
    c.env("TZ", "UTC").env("LC_ALL", "C").current_dir("/");
    let out = c.output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{c:?}: {err}\n{}", String::from_utf8_lossy(&out.stdout));
    out
}

impl Server {
    pub fn init(bin: &Path, segment_mib: u32, conf: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        if std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0) {
            let mut chown = Command::new("chown");
            chown.arg("postgres").arg(dir.path());
            must(chown);
        }
        let s = Server { bin: bin.to_path_buf(), dir, running: false };
        let mut c = as_owner(&bin.join("initdb"));
        c.args(["-k", "-N", "-A", "trust", "-U", "postgres", "--no-locale", "-E", "UTF8"])
            .arg(format!("--wal-segsize={segment_mib}"))
            .arg("-D")
            .arg(s.data());
        must(c);
        s.add_conf(&s.data(), conf);
        s
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn add_conf(&self, data: &Path, conf: &str) {
        let file = data.join("postgresql.conf");
        let mut text = std::fs::read_to_string(&file).unwrap();
        text.push_str(&format!(
            "\nlisten_addresses = ''\nunix_socket_directories = '{}'\nfsync = off\n\
             log_timezone = 'UTC'\nwal_keep_size = '2GB'\nmax_wal_size = '4GB'\n{conf}\n",
            self.dir.path().display()
        ));
        std::fs::write(&file, text).unwrap();
    }

    /// Starts the server on `data` and says whether it came up.
    pub fn try_start(&mut self, data: &Path) -> bool {
        let mut c = as_owner(&self.bin.join("pg_ctl"));
        c.args(["-w", "-t", "300", "start", "-D"]).arg(data).arg("-l").arg(self.dir.path().join("log"));
        c.env("TZ", "UTC").current_dir("/").stdout(std::process::Stdio::null());
        self.running = c.status().unwrap().success();
        self.running
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub fn start(&mut self) {
        let data = self.data();
        assert!(self.try_start(&data), "{}", self.log());
    }

    pub fn stop(&mut self, data: &Path, mode: &str) {
        let mut c = as_owner(&self.bin.join("pg_ctl"));
        c.args(["-w", "-t", "300", "stop", "-m", mode, "-D"]).arg(data);
        must(c);
        self.running = false;
    }

    pub fn run(&self, program: &str, args: &[&str]) -> Output {
        let mut c = as_owner(&self.bin.join(program));
        c.env("PGHOST", self.dir.path()).env("PGUSER", "postgres").args(args);
        must(c)
    }

    /// Runs each statement on its own, so that VACUUM and the like are possible.
    pub fn sql(&self, script: &str) {
        let file = self.dir.path().join("script.sql");
        std::fs::write(&file, script).unwrap();
        self.run(
            "psql",
            &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-f", file.to_str().unwrap()],
        );
    }

    /// One value that the server answers.
    pub fn ask(&self, query: &str) -> String {
        let out = self.run("psql", &["-X", "-q", "-A", "-t", "-d", "postgres", "-c", query]);
        String::from_utf8(out.stdout).unwrap().trim().to_string()
    }

    /// What pg_waldump prints of all segments from `first` to `last`; it ends in an error at the end
    /// of the log, which is as it should be.
    pub fn waldump(&self, first: &str, last: &str) -> String {
        let mut c = as_owner(&self.bin.join("pg_waldump"));
        c.env("TZ", "UTC").env("LC_ALL", "C").current_dir("/");
        c.arg("-p").arg(self.data().join("pg_wal")).args([first, last]);
        String::from_utf8_lossy(&c.output().unwrap().stdout).into_owned()
    }

    pub fn segments(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.data().join("pg_wal"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|n| n.len() == 24)
            .collect();
        names.sort();
        names
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.running {
            for data in ["data", "copy"] {
                let mut c = as_owner(&self.bin.join("pg_ctl"));
                c.args(["-w", "stop", "-m", "immediate", "-D"]).arg(self.dir.path().join(data));
                let _ = c.current_dir("/").output();
            }
        }
    }
}
