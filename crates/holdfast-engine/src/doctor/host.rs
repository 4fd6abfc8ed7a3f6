//! This host: the data directory on it, who owns it, and who may touch what.

use crate::context::Context;
use crate::users;
use holdfast_pg::datadir::{Layout, owner};
use holdfast_pg::process::drop_to;
use holdfast_pg::server::Server;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A user by numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub uid: u32,
    pub gid: u32,
    pub name: String,
}

impl User {
    fn new(uid: u32, gid: u32) -> Self {
        User { uid, gid, name: users::names(uid, gid).0 }
    }

    pub fn me() -> Self {
        User::new(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    }
}

/// What the other groups need to know about this host.
#[derive(Debug)]
pub(super) struct Host {
    /// From the policy, else from the server; it may not exist here.
    pub data_dir: Option<PathBuf>,
    /// The data directory and its tablespaces, links resolved; empty if they are not on this host.
    pub data_places: Vec<PathBuf>,
    pub me: User,
    /// Owner of the data directory: the server, and so `wal push`, runs as this user.
    pub server_user: Option<User>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Read,
    Write,
    Execute,
}

impl Want {
    fn bit(self) -> u32 {
        match self {
            Want::Read => 4,
            Want::Write => 2,
            Want::Execute => 1,
        }
    }
}

impl Host {
    pub fn look(ctx: &Context, server: Option<&Server>) -> Self {
        let data_dir = ctx
            .db
            .data_directory
            .clone()
            .or_else(|| server.map(|s| s.data_directory.clone()))
            .filter(|d| !d.as_os_str().is_empty());
        let mut data_places = Vec::new();
        if let Some(d) = &data_dir {
            data_places.extend(d.canonicalize());
            let tablespaces = Layout::read(d).map(|l| l.tablespaces).unwrap_or_default();
            data_places.extend(tablespaces.iter().filter_map(|t| t.location.as_ref()?.canonicalize().ok()));
        }
        let server_user = data_dir.as_deref().and_then(|d| owner(d).ok()).map(|(u, g)| User::new(u, g));
        Host { data_dir, data_places, me: User::me(), server_user }
    }

    /// The data directory or tablespace that `path` lies in.
    pub fn inside_data(&self, path: &Path) -> Option<&PathBuf> {
        let path = resolve(path);
        self.data_places.iter().find(|d| path.starts_with(d))
    }

    /// The server's user, if that is somebody else.
    pub fn other_server_user(&self) -> Option<&User> {
        self.server_user.as_ref().filter(|u| u.uid != self.me.uid)
    }

    /// May `user` do this? As root the kernel is asked on behalf of that user; otherwise the mode
    /// bits are read (which know nothing of access control lists).
    pub fn may(&self, user: &User, path: &Path, want: Want) -> bool {
        if user.uid == 0 {
            return path.exists();
        }
        if user.uid == self.me.uid || self.me.uid == 0 {
            let flag = ["-r", "-w", "-x"][match want {
                Want::Read => 0,
                Want::Write => 1,
                Want::Execute => 2,
            }];
            let mut c = Command::new("test");
            c.arg(flag).arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            drop_to(&mut c, (user.uid, user.gid));
            if c.status().is_ok_and(|s| s.success()) {
                return true;
            }
            // A child has none of the user's other groups.
        }
        let groups = groups_of(user);
        let look = |p: &Path, want: Want| {
            std::fs::metadata(p).is_ok_and(|m| allowed((m.mode(), m.uid(), m.gid()), user, &groups, want))
        };
        path.ancestors().skip(1).filter(|a| !a.as_os_str().is_empty()).all(|a| look(a, Want::Execute))
            && look(path, want)
    }
}

/// Mode, uid and gid of a file against a user with groups.
fn allowed((mode, uid, gid): (u32, u32, u32), user: &User, groups: &[u32], want: Want) -> bool {
    let shift = if uid == user.uid {
        6
    } else if gid == user.gid || groups.contains(&gid) {
        3
    } else {
        0
    };
    mode >> shift & want.bit() != 0
}

fn groups_of(user: &User) -> Vec<u32> {
    let text = std::fs::read_to_string("/etc/group").unwrap_or_default();
    text.lines()
        .filter_map(|l| {
            let f: Vec<&str> = l.split(':').collect();
            let member = f.get(3)?.split(',').any(|m| m == user.name);
            member.then(|| f.get(2)?.parse().ok())?
        })
        .collect()
}

/// Links resolved as far as the path exists.
pub(super) fn resolve(path: &Path) -> PathBuf {
    for a in path.ancestors() {
        if let Ok(real) = a.canonicalize() {
            return match path.strip_prefix(a) {
                Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
                _ => real,
            };
        }
    }
    path.to_path_buf()
}

/// The path itself, or the nearest folder above it that exists.
pub(super) fn nearest(path: &Path) -> PathBuf {
    path.ancestors().find(|a| a.exists()).map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

/// Number of the file system that holds `path`.
pub(super) fn device(path: &Path) -> Option<u64> {
    std::fs::metadata(nearest(path)).ok().map(|m| m.dev())
}

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    /// What an ordinary user may still write.
    pub free: u64,
    pub total: u64,
}

pub(super) fn space(path: &Path) -> std::io::Result<Space> {
    let s = rustix::fs::statvfs(nearest(path))?;
    let unit = if s.f_frsize == 0 { s.f_bsize } else { s.f_frsize };
    Ok(Space { free: s.f_bavail.saturating_mul(unit), total: s.f_blocks.saturating_mul(unit) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_for_owner_group_and_others() {
        let u = |uid, gid| User { uid, gid, name: String::new() };
        let (postgres, friend, stranger) = (u(26, 26), u(7, 7), u(8, 8));
        let file = (0o100_640, 26, 30);
        assert!(allowed(file, &postgres, &[], Want::Write));
        assert!(allowed(file, &friend, &[30], Want::Read) && !allowed(file, &friend, &[30], Want::Write));
        assert!(!allowed(file, &stranger, &[], Want::Read));
        // The owner's bits count for the owner, even if others may do more.
        assert!(!allowed((0o007, 26, 26), &postgres, &[26], Want::Read));
    }

    #[test]
    fn paths_that_do_not_exist_yet_are_resolved_through_links() {
        let t = tempfile::tempdir().unwrap();
        let real = t.path().canonicalize().unwrap().join("data");
        std::fs::create_dir(&real).unwrap();
        let link = t.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(resolve(&link.join("new/deep")), real.join("new/deep"));
        assert_eq!(resolve(&link), real);
        assert_eq!(nearest(&link.join("new/deep")), link);
        let host =
            Host { data_dir: None, data_places: vec![real.clone()], me: User::me(), server_user: None };
        assert_eq!(host.inside_data(&link.join("x")), Some(&real));
        assert_eq!(host.inside_data(&real.with_extension("old")), None);
        assert!(host.may(&host.me, &real, Want::Write) && !host.may(&host.me, &real.join("no"), Want::Read));
    }
}
