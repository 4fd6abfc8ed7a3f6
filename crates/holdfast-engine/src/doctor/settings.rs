//! Settings of the server that decide whether a copy is sound: `postgres.<setting>`.

use super::Line;
use holdfast_pg::server::Server;

pub(super) fn check(server: &Server) -> Vec<Line> {
    vec![
        wal_level(server.setting("wal_level")),
        full_page_writes(server.setting("full_page_writes")),
        fsync(server.setting("fsync")),
        checksums(server.checksums(), server.setting("wal_log_hints") == "on"),
    ]
}

fn wal_level(value: &str) -> Line {
    const NAME: &str = "postgres.wal-level";
    match value {
        "replica" | "logical" => Line::ok(NAME, format!("wal_level is {value}")),
        _ => Line::fail(
            NAME,
            format!("wal_level is {value}: the wal does not hold enough to recover from"),
            "run `alter system set wal_level = replica` and restart the server",
        ),
    }
}

fn full_page_writes(value: &str) -> Line {
    const NAME: &str = "postgres.full-page-writes";
    if value == "on" {
        return Line::ok(NAME, "full_page_writes is on");
    }
    Line::fail(
        NAME,
        "full_page_writes is off: a page torn by a crash cannot be repaired from wal",
        "run `alter system set full_page_writes = on` and `select pg_reload_conf()`, then take a full backup",
    )
}

fn fsync(value: &str) -> Line {
    const NAME: &str = "postgres.fsync";
    if value == "on" {
        return Line::ok(NAME, "fsync is on");
    }
    Line::fail(
        NAME,
        "fsync is off: a crash of the host can destroy the database, and backups then hold the ruins",
        "run `alter system set fsync = on` and `select pg_reload_conf()`",
    )
}

fn checksums(on: bool, log_hints: bool) -> Line {
    const NAME: &str = "postgres.data-checksums";
    if on {
        return Line::ok(NAME, "data checksums are on: damaged pages are found when they are backed up");
    }
    let hints =
        if log_hints { "" } else { " (wal_log_hints is off too, which is fine: hint bits are not needed)" };
    Line::warn(
        NAME,
        format!("data checksums are off: damage cannot be seen, only page headers are checked{hints}"),
        "stop the server and run `pg_checksums --enable`; the next backup is a full one then",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn settings_that_spoil_a_copy_fail() {
        for (value, status) in [("minimal", Status::Fail), ("replica", Status::Ok), ("logical", Status::Ok)] {
            assert_eq!(wal_level(value).status, status, "{value}");
        }
        assert_eq!(
            (full_page_writes("on").status, full_page_writes("off").status),
            (Status::Ok, Status::Fail)
        );
        assert_eq!((fsync("on").status, fsync("off").status), (Status::Ok, Status::Fail));
        assert_eq!(
            (checksums(true, false).status, checksums(false, true).status),
            (Status::Ok, Status::Warn)
        );
        assert!(checksums(false, false).message.contains("wal_log_hints"));
        for l in [wal_level("minimal"), full_page_writes("off"), fsync("off"), checksums(false, false)] {
            assert!(l.hint.is_some(), "{}", l.name);
        }
    }
}
