//! The policy and this host's part in it: `policy.*`.

use super::Line;
use super::host::{Host, Want};
use crate::context::Context;
use crate::state::hostname;
use std::io::Write as _;
use std::path::{Path, PathBuf};

pub(super) fn check(ctx: &Context, host: &Host) -> Vec<Line> {
    let dir = ctx.state.dir();
    let facts = StateDir {
        dir: dir.to_path_buf(),
        write_error: try_write(dir).err().map(|e| e.to_string()),
        inside: host.inside_data(dir).cloned(),
        shut_out: host.other_server_user().map(|u| (u.name.clone(), shut_out(host, dir))),
        policy: ctx.policy.origin.clone(),
    };
    let mut lines = state_dir(&facts);
    if let Some(user) = host.other_server_user() {
        let readable = host.may(user, &ctx.policy.origin, Want::Read);
        lines.push(policy_file(&ctx.policy.origin, &user.name, readable));
    }
    lines.push(members(&ctx.db.members, &hostname(), &ctx.db.name.to_string(), &ctx.policy.origin));
    lines
}

struct StateDir {
    dir: PathBuf,
    write_error: Option<String>,
    /// The data directory or tablespace around it.
    inside: Option<PathBuf>,
    /// The server's user, if it is another one, and what of this it cannot use.
    shut_out: Option<(String, Vec<PathBuf>)>,
    policy: PathBuf,
}

fn try_write(dir: &Path) -> std::io::Result<()> {
    let path = dir.join(format!("doctor-{:08x}", rand::random::<u32>()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
    // A full disk makes the file, and takes nothing into it.
    let written = file.write_all(&[0; 4096]).and_then(|()| file.sync_all());
    std::fs::remove_file(&path).and(written)
}

/// A state directory that cannot be written, for databases without a host of their own: nothing can be begun there.
pub fn unwritable(ctx: &Context) -> Option<Line> {
    let why = try_write(ctx.state.dir()).err()?;
    Some(Line::fail(
        "policy.state-dir",
        format!(
            "the state directory `{}` cannot be written, so nothing can be begun: {why}",
            ctx.state.dir().display()
        ),
        format!(
            "make room, give it to the user that runs holdfast, or set `state-dir` in `{}`",
            ctx.policy.origin.display()
        ),
    ))
}

/// What `wal push`, which the server runs, could not write or read in the state directory.
fn shut_out(host: &Host, dir: &Path) -> Vec<PathBuf> {
    let Some(user) = host.other_server_user() else { return Vec::new() };
    let mut needed = vec![(dir.to_path_buf(), Want::Write)];
    for (sub, want) in [("owner", Want::Read), ("lock", Want::Write), ("spool", Want::Write)] {
        let sub = dir.join(sub);
        if sub.exists() {
            needed.push((sub.clone(), Want::Write));
        }
        for e in std::fs::read_dir(&sub).into_iter().flatten().flatten() {
            needed.push((e.path(), want));
        }
    }
    needed.into_iter().filter(|(p, want)| !host.may(user, p, *want)).map(|(p, _)| p).collect()
}

fn state_dir(f: &StateDir) -> Vec<Line> {
    const NAME: &str = "policy.state-dir";
    let dir = f.dir.display();
    let mut lines = Vec::new();
    if let Some(why) = &f.write_error {
        lines.push(Line::fail(
            NAME,
            format!("the state directory `{dir}` cannot be written: {why}"),
            format!("give it to the user that runs holdfast, or set `state-dir` in `{}`", f.policy.display()),
        ));
    }
    if let Some(data) = &f.inside {
        lines.push(Line::fail(
            NAME,
            format!(
                "the state directory `{dir}` lies in `{}`, so a copy of the database has its identity",
                data.display()
            ),
            format!(
                "set `state-dir` in `{}` to a directory outside of the data directory",
                f.policy.display()
            ),
        ));
    }
    if let Some((user, paths)) = &f.shut_out
        && let Some(first) = paths.first()
    {
        lines.push(Line::fail(
            NAME,
            format!(
                "the server runs as {user}, which cannot use `{}`: archive_command will fail",
                first.display()
            ),
            format!("run `chown -R {user} {dir}`, and holdfast as {user}"),
        ));
    }
    if lines.is_empty() {
        lines.push(Line::ok(
            NAME,
            format!("the state directory `{dir}` is writable and outside of the database"),
        ));
    }
    lines
}

fn policy_file(policy: &Path, user: &str, readable: bool) -> Line {
    const NAME: &str = "policy.file";
    if readable {
        return Line::ok(NAME, format!("the server's user {user} can read the policy"));
    }
    Line::fail(
        NAME,
        format!(
            "the server runs as {user}, which cannot read `{}`: archive_command will fail",
            policy.display()
        ),
        format!("make the file and the folders above it readable for {user}; it holds no secret"),
    )
}

fn members(members: &[String], host: &str, db: &str, policy: &Path) -> Line {
    const NAME: &str = "policy.members";
    if members.is_empty() {
        return Line::ok(NAME, "any host may push wal; the first one that does owns the archive");
    }
    if members.iter().any(|m| m == host) {
        return Line::ok(NAME, format!("this host ({host}) is a member of `{db}`"));
    }
    Line::fail(
        NAME,
        format!("this host ({host}) is not a member of `{db}`: its wal is refused"),
        format!("add \"{host}\" to `members` of [databases.{db}] in `{}`", policy.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Status, worst};
    use super::*;

    fn facts() -> StateDir {
        StateDir {
            dir: "/s".into(),
            write_error: None,
            inside: None,
            shut_out: Some(("postgres".into(), Vec::new())),
            policy: "/etc/holdfast.toml".into(),
        }
    }

    #[test]
    fn the_state_directory_is_writable_outside_and_the_servers() {
        assert_eq!(worst(&state_dir(&facts())), Status::Ok);
        let bad = [
            StateDir { write_error: Some("permission denied".into()), ..facts() },
            StateDir { inside: Some("/data".into()), ..facts() },
            StateDir { shut_out: Some(("postgres".into(), vec!["/s/owner/a.token".into()])), ..facts() },
        ];
        for f in &bad {
            let lines = state_dir(f);
            assert_eq!((lines.len(), lines[0].status), (1, Status::Fail));
            assert!(lines[0].hint.is_some());
        }
        let all = StateDir { write_error: Some("x".into()), inside: Some("/data".into()), ..facts() };
        assert_eq!(state_dir(&all).len(), 2, "one finding does not hide another");
    }

    #[test]
    fn members_name_this_host_or_nobody() {
        let p = Path::new("/p.toml");
        assert_eq!(members(&[], "a", "db", p).status, Status::Ok);
        assert_eq!(members(&["a".into()], "a", "db", p).status, Status::Ok);
        let line = members(&["b".into()], "a", "db", p);
        assert_eq!(line.status, Status::Fail);
        assert!(line.hint.unwrap().contains("add \"a\" to `members` of [databases.db]"));
    }

    #[test]
    fn writing_is_tried_and_leaves_nothing() {
        let t = tempfile::tempdir().unwrap();
        try_write(t.path()).unwrap();
        assert_eq!(std::fs::read_dir(t.path()).unwrap().count(), 0);
        assert!(try_write(&t.path().join("no")).is_err());
        assert_eq!(policy_file(p(), "postgres", true).status, Status::Ok);
        assert_eq!(policy_file(p(), "postgres", false).status, Status::Fail);
    }

    fn p() -> &'static Path {
        Path::new("/p.toml")
    }
}
