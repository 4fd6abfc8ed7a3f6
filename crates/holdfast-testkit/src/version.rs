//! The PostgreSQL versions that tests run against, and where their programs are.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::tools;

/// A major version of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgVersion(u32);

impl PgVersion {
    /// Debian 12's own.
    pub const V15: PgVersion = PgVersion(15);
    /// For the soak; put together by `scripts/setup.sh pg16`, or named by `HOLDFAST_PG16_BIN`.
    pub const V16: PgVersion = PgVersion(16);
    /// Unpacked by `scripts/setup.sh`.
    pub const V17: PgVersion = PgVersion(17);
    /// Unpacked by `scripts/setup.sh`.
    pub const V18: PgVersion = PgVersion(18);

    /// The newest version: the one for a test that needs just one.
    pub const NEWEST: PgVersion = PgVersion::V18;

    /// The major version number.
    pub fn major(self) -> u32 {
        self.0
    }

    /// The directory of its programs; `HOLDFAST_PG<major>_BIN` overrides it.
    pub fn bin_dir(self) -> PathBuf {
        let major = self.0;
        if let Some(dir) = std::env::var_os(format!("HOLDFAST_PG{major}_BIN")) {
            return dir.into();
        }
        let unpacked = tools::root().join(format!("pg{major}/usr/lib/postgresql/{major}/bin"));
        let installed = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
        if installed.join("postgres").exists() { installed } else { unpacked }
    }

    /// One of its programs: `bin("pg_waldump")`.
    pub fn bin(self, program: &str) -> PathBuf {
        self.bin_dir().join(program)
    }

    /// Whether its server is installed here.
    pub fn is_installed(self) -> bool {
        self.bin("postgres").exists()
    }

    /// Whether it can summarise WAL and take incremental base backups (17 and later).
    pub fn has_wal_summaries(self) -> bool {
        self.0 >= 17
    }

    /// What `postgres --version` says, for example `postgres (PostgreSQL) 17.12 (Debian …)`.
    pub fn full_version(self) -> String {
        let output = Command::new(self.bin("postgres"))
            .arg("--version")
            .output()
            .unwrap_or_else(|error| panic!("postgres {self}: {error}; run scripts/setup.sh"));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl fmt::Display for PgVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The versions that a test of "every supported version" runs against: 15, 17 and 18.
/// `HOLDFAST_TEST_PG=15,16` chooses others. A version that is not installed is an error, except 16,
/// which `scripts/setup.sh pg16` installs where it can: it is skipped with a word.
pub fn supported_in_test() -> Vec<PgVersion> {
    static VERSIONS: OnceLock<Vec<PgVersion>> = OnceLock::new();
    VERSIONS.get_or_init(choose).clone()
}

fn choose() -> Vec<PgVersion> {
    let wanted = std::env::var("HOLDFAST_TEST_PG").ok().filter(|list| !list.is_empty());
    let wanted = wanted.unwrap_or_else(|| "15,17,18".to_owned());
    let mut chosen = Vec::new();
    for part in wanted.split(',') {
        let major = part.trim().parse().expect("HOLDFAST_TEST_PG is like 15,17,18");
        let version = PgVersion(major);
        if version.is_installed() {
            chosen.push(version);
        } else {
            assert!(
                version == PgVersion::V16,
                "PostgreSQL {version} is not installed; run scripts/setup.sh pg"
            );
            eprintln!("testkit: SKIPPED, PostgreSQL 16 is not installed (scripts/setup.sh pg16)");
        }
    }
    chosen
}
