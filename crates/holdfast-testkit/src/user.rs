//! Who runs the servers.
//!
//! PostgreSQL refuses to run as root, and tests often run as root in CI. Then servers, and the
//! binary under test, run as the operating system's user `postgres`; otherwise as ourselves.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The account under which servers run.
#[derive(Debug, Clone)]
pub struct ServerUser {
    /// Numeric user id.
    pub uid: u32,
    /// Numeric primary group id.
    pub gid: u32,
    /// Login name.
    pub name: String,
    /// Whether a process has to change its identity to become this user.
    pub drops_privileges: bool,
}

/// The account under which servers run in this process.
pub fn server_user() -> &'static ServerUser {
    static USER: OnceLock<ServerUser> = OnceLock::new();
    USER.get_or_init(|| {
        let uid = rustix::process::geteuid().as_raw();
        let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
        let entries = passwd.lines().filter_map(parse_passwd);
        if uid == 0 {
            let (name, uid, gid) = entries
                .into_iter()
                .find(|(name, ..)| name == "postgres")
                .expect("user `postgres` exists; run scripts/setup.sh");
            ServerUser { uid, gid, name, drops_privileges: true }
        } else {
            let gid = rustix::process::getegid().as_raw();
            let name = entries
                .into_iter()
                .find(|entry| entry.1 == uid)
                .map_or_else(|| uid.to_string(), |entry| entry.0);
            ServerUser { uid, gid, name, drops_privileges: false }
        }
    })
}

fn parse_passwd(line: &str) -> Option<(String, u32, u32)> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some((name, uid, gid))
}

/// A command that runs `program` as the server user, from `/`, in an environment without settings
/// of PostgreSQL, of a cloud or of Holdfast that the person running the tests may have.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let user = server_user();
    if user.drops_privileges {
        command.uid(user.uid).gid(user.gid);
    }
    clean_environment(&mut command);
    command.env("HOME", home()).env("USER", &user.name).env("LOGNAME", &user.name);
    command.current_dir("/");
    command
}

/// Removes what a person's shell may have set and a test must not depend on.
pub fn clean_environment(command: &mut Command) {
    const PREFIXES: [&str; 6] = ["PG", "AWS_", "AZURE_", "GOOGLE_", "HOLDFAST_", "LC_"];
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if PREFIXES.iter().any(|prefix| name_text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    // Messages of servers are matched by tests.
    command.env("LC_ALL", "C").env_remove("LANG").env_remove("LANGUAGE");
}

/// A home directory that the server user may write to, one for the machine: nothing that a test
/// asserts may live in it.
fn home() -> &'static Path {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(|| {
        let home = crate::scratch::temp_root().join(format!("holdfast-test-home-{}", server_user().uid));
        fs::create_dir_all(&home).expect("create the home directory of the server user");
        let owner = fs::metadata(&home).expect("stat the home directory").uid();
        if owner != server_user().uid {
            chown(&home);
        }
        home
    })
}

/// Gives one path to the server user; a symbolic link itself, not what it points to.
pub fn chown(path: &Path) {
    let user = server_user();
    if user.drops_privileges {
        lchown(path, Some(user.uid), Some(user.gid))
            .unwrap_or_else(|error| panic!("chown {}: {error}", path.display()));
    }
}

/// Gives a whole tree to the server user. Symbolic links are not followed.
pub fn chown_tree(path: &Path) {
    if !server_user().drops_privileges {
        return;
    }
    chown(path);
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        for entry in fs::read_dir(path).expect("list a directory that we own") {
            chown_tree(&entry.expect("read a directory entry").path());
        }
    }
}
