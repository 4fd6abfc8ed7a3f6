//! The server's files on this host: `postgres.data-directory`, tablespaces, pg_wal, configuration.

use super::Line;
use super::host::{Host, Space, resolve, space};
use crate::context::Context;
use holdfast_core::size::ByteSize;
use holdfast_pg::datadir::{Layout, read_control};
use holdfast_pg::server::Server;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(super) fn check(ctx: &Context, server: Option<&Server>, host: &Host) -> Vec<Line> {
    const DATA: &str = "postgres.data-directory";
    let Some(dir) = &host.data_dir else {
        // Without a server and without a word in the policy there is nothing to look at.
        let unknown = server.map(|_| {
            Line::fail(
                DATA,
                "the server does not tell its data directory to this user",
                format!(
                    "grant pg_read_all_settings to it, or set `data-directory` of [databases.{}] in the policy",
                    ctx.db.name
                ),
            )
        });
        return unknown.into_iter().collect();
    };
    let control = read_control(dir).map(|(_, c)| c.system_identifier).map_err(|e| super::explain(&e));
    let facts = DataDir {
        dir: dir.clone(),
        control,
        server_id: server.map(|s| s.system_identifier),
        list_error: std::fs::read_dir(dir.join("base")).err().map(|e| e.to_string()),
    };
    let mut lines = vec![data_directory(&facts)];
    let mode = std::fs::metadata(dir).map(|m| m.mode() & 0o7777).unwrap_or(0);
    if let Some(owner) = &host.server_user {
        lines.push(data_owner(&owner.name, &host.me.name, host.me.uid == 0, mode));
    }
    if let Ok(layout) = Layout::read(dir) {
        let found: Vec<Location> =
            layout.tablespaces.iter().filter_map(|t| t.location.as_deref()).map(|l| look(l, dir)).collect();
        lines.push(tablespaces(&found, layout.tablespaces.len()));
        let wal = dir.join("pg_wal");
        let error = std::fs::read_dir(&wal).err().map(|e| e.to_string());
        lines.push(wal_directory(layout.wal_link.as_deref(), error.as_deref()));
        if let Ok(s) = space(&wal) {
            lines.push(wal_space(s));
        }
    }
    lines.push(unlogged(count_unlogged(dir)));
    if let Some(server) = server {
        lines.push(configuration(&outside_config(server, dir)));
    }
    lines
}

struct DataDir {
    dir: PathBuf,
    /// System identifier, or why pg_control cannot be read.
    control: Result<u64, String>,
    server_id: Option<u64>,
    list_error: Option<String>,
}

fn data_directory(f: &DataDir) -> Line {
    const NAME: &str = "postgres.data-directory";
    let dir = f.dir.display();
    let run =
        "run holdfast on the database host as the owner of the data directory (usually the user postgres)";
    let problem = match (&f.control, &f.list_error) {
        (Err(why), _) => Some(why.clone()),
        (_, Some(why)) => Some(format!("cannot list `{dir}/base`: {why}")),
        _ => None,
    };
    if let Some(why) = problem {
        return Line::fail(NAME, why, run);
    }
    match (&f.control, f.server_id) {
        (Ok(found), Some(wanted)) if *found != wanted => Line::fail(
            NAME,
            format!(
                "`{dir}` is not the data directory of this server (system identifier {found}, not {wanted})"
            ),
            "check `source` and `data-directory` of the database in the policy",
        ),
        _ => Line::ok(NAME, format!("the data directory `{dir}` is readable")),
    }
}

fn data_owner(owner: &str, me: &str, root: bool, mode: u32) -> Line {
    const NAME: &str = "postgres.owner";
    if owner == me {
        return Line::ok(NAME, format!("holdfast runs as {me}, the owner of the data directory"));
    }
    if root {
        return Line::ok(NAME, format!("holdfast runs as root; what it starts runs as {owner}"));
    }
    let group = mode & 0o050 == 0o050;
    if group {
        return Line::ok(
            NAME,
            format!("holdfast runs as {me}; the data directory of {owner} is open to its group"),
        )
        .hint(format!("restores belong to {me}; run them as {owner}"));
    }
    Line::fail(
        NAME,
        format!("holdfast runs as {me}, and the data directory belongs to {owner}"),
        format!("run holdfast as {owner}, for example `sudo -u {owner} holdfast doctor`"),
    )
}

/// Where a tablespace is.
struct Location {
    path: PathBuf,
    error: Option<String>,
    inside: bool,
}

fn look(location: &Path, data_dir: &Path) -> Location {
    Location {
        path: location.to_path_buf(),
        error: std::fs::read_dir(location).err().map(|e| e.to_string()),
        inside: resolve(location).starts_with(resolve(data_dir)),
    }
}

fn tablespaces(found: &[Location], count: usize) -> Line {
    const NAME: &str = "postgres.tablespaces";
    if let Some(l) = found.iter().find(|l| l.error.is_some()) {
        return Line::fail(
            NAME,
            format!(
                "the tablespace `{}` cannot be read: {}",
                l.path.display(),
                l.error.as_deref().unwrap_or_default()
            ),
            "mount it, or give the user that runs holdfast the right to read it",
        );
    }
    if let Some(l) = found.iter().find(|l| l.inside) {
        return Line::warn(
            NAME,
            format!("the tablespace `{}` lies inside the data directory", l.path.display()),
            "move it out with `alter database … set tablespace` or a new location; other tools copy it twice",
        );
    }
    match count {
        0 => Line::ok(NAME, "there is no tablespace outside of the data directory"),
        n => Line::ok(NAME, format!("{} readable", super::count(n as u64, "tablespace"))),
    }
}

fn wal_directory(link: Option<&Path>, error: Option<&str>) -> Line {
    const NAME: &str = "postgres.wal-directory";
    match (link, error) {
        (_, Some(why)) => Line::fail(
            NAME,
            format!("pg_wal cannot be read: {why}"),
            match link {
                Some(l) => format!("give the user that runs holdfast the right to read `{}`", l.display()),
                None => "run holdfast as the owner of the data directory".into(),
            },
        ),
        (Some(l), None) => Line::ok(NAME, format!("pg_wal leads to `{}`, which is readable", l.display())),
        (None, None) => Line::ok(NAME, "pg_wal is readable"),
    }
}

fn wal_space(s: Space) -> Line {
    const NAME: &str = "postgres.wal-space";
    let text = format!("{} of {} are free where pg_wal is", ByteSize(s.free), ByteSize(s.total));
    if s.free < s.total / 10 {
        return Line::warn(
            NAME,
            text,
            "make room: a server whose pg_wal cannot grow stops; see `postgres.archive-backlog` and \
             `postgres.replication-slots`",
        );
    }
    Line::ok(NAME, text)
}

/// Relations with an `_init` fork, in every database.
fn count_unlogged(data_dir: &Path) -> u64 {
    let init_files = |dir: &Path| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter(|e| e.file_name().to_string_lossy().ends_with("_init")).count() as u64
    };
    let below = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let in_base: u64 = below(data_dir.join("base")).map(|d| init_files(&d)).sum();
    let in_tablespaces: u64 =
        below(data_dir.join("pg_tblspc")).flat_map(below).flat_map(below).map(|d| init_files(&d)).sum();
    in_base + in_tablespaces
}

fn unlogged(count: u64) -> Line {
    const NAME: &str = "postgres.unlogged-tables";
    match count {
        0 => Line::ok(NAME, "there are no unlogged tables"),
        n => {
            Line::ok(NAME, format!("{}, empty in every restored copy", super::count(n, "unlogged relation")))
                .hint("run `alter table … set logged` for those that must be backed up")
        }
    }
}

/// Configuration outside of the data directory, and why it cannot be read.
fn outside_config(server: &Server, data_dir: &Path) -> Vec<(PathBuf, Option<String>)> {
    let data = resolve(data_dir);
    ["config_file", "hba_file", "ident_file"]
        .iter()
        .map(|s| PathBuf::from(server.setting(s)))
        .filter(|p| p.is_absolute() && !resolve(p).starts_with(&data))
        .map(|p| {
            let error = std::fs::File::open(&p).err().map(|e| e.to_string());
            (p, error)
        })
        .collect()
}

fn configuration(outside: &[(PathBuf, Option<String>)]) -> Line {
    const NAME: &str = "postgres.configuration";
    if let Some((path, Some(why))) = outside.iter().find(|(_, e)| e.is_some()) {
        return Line::warn(
            NAME,
            format!("`{}` cannot be read and is not in the backups: {why}", path.display()),
            "give the user that runs holdfast the right to read it",
        );
    }
    match outside.first() {
        None => Line::ok(NAME, "the configuration lies in the data directory"),
        Some((path, _)) => Line::ok(
            NAME,
            format!(
                "the configuration in `{}` is readable and kept with every point",
                path.parent().unwrap_or(path).display()
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn the_data_directory_is_readable_and_this_servers() {
        let f = |control, server_id, list: Option<&str>| DataDir {
            dir: "/d".into(),
            control,
            server_id,
            list_error: list.map(str::to_string),
        };
        assert_eq!(data_directory(&f(Ok(1), Some(1), None)).status, Status::Ok);
        assert_eq!(data_directory(&f(Ok(1), None, None)).status, Status::Ok);
        assert_eq!(data_directory(&f(Ok(2), Some(1), None)).status, Status::Fail);
        assert_eq!(data_directory(&f(Err("no".into()), Some(1), None)).status, Status::Fail);
        assert_eq!(data_directory(&f(Ok(1), Some(1), Some("permission denied"))).status, Status::Fail);
    }

    #[test]
    fn the_owner_runs_it_or_root_or_the_group() {
        assert_eq!(data_owner("postgres", "postgres", false, 0o700).status, Status::Ok);
        assert_eq!(data_owner("postgres", "root", true, 0o700).status, Status::Ok);
        assert!(data_owner("postgres", "backup", false, 0o750).hint.is_some());
        let l = data_owner("postgres", "backup", false, 0o700);
        assert!(l.status == Status::Fail && l.hint.unwrap().contains("sudo -u postgres"));
    }

    #[test]
    fn tablespaces_and_pg_wal() {
        let l = |error: Option<&str>, inside| Location {
            path: "/t".into(),
            error: error.map(str::to_string),
            inside,
        };
        assert_eq!(tablespaces(&[], 0).status, Status::Ok);
        assert_eq!(tablespaces(&[l(None, false)], 1).status, Status::Ok);
        assert_eq!(tablespaces(&[l(None, true)], 1).status, Status::Warn);
        assert_eq!(tablespaces(&[l(None, true), l(Some("no"), false)], 2).status, Status::Fail);
        assert_eq!(wal_directory(Some(Path::new("/w")), None).status, Status::Ok);
        assert!(wal_directory(Some(Path::new("/w")), Some("no")).hint.unwrap().contains("`/w`"));
        assert_eq!(wal_directory(None, Some("no")).status, Status::Fail);
        assert_eq!(wal_space(Space { free: 9, total: 100 }).status, Status::Warn);
        assert_eq!(wal_space(Space { free: 10, total: 100 }).status, Status::Ok);
    }

    #[test]
    fn unlogged_relations_are_counted_everywhere() {
        let t = tempfile::tempdir().unwrap();
        for d in ["base/5", "base/16384", "pg_tblspc/99/PG_15_202209061/5"] {
            std::fs::create_dir_all(t.path().join(d)).unwrap();
        }
        for f in
            ["base/5/600_init", "base/5/600", "base/16384/700_init", "pg_tblspc/99/PG_15_202209061/5/1_init"]
        {
            std::fs::write(t.path().join(f), "").unwrap();
        }
        assert_eq!(count_unlogged(t.path()), 3);
        assert_eq!((unlogged(0).status, unlogged(3).status), (Status::Ok, Status::Ok));
        assert!(unlogged(3).message.contains("3 unlogged"));
    }

    #[test]
    fn configuration_elsewhere_must_be_readable() {
        assert_eq!(configuration(&[]).status, Status::Ok);
        assert_eq!(configuration(&[("/etc/a.conf".into(), None)]).status, Status::Ok);
        let l = configuration(&[("/etc/a.conf".into(), None), ("/etc/b.conf".into(), Some("denied".into()))]);
        assert!(l.status == Status::Warn && l.message.contains("/etc/b.conf"));
    }
}
