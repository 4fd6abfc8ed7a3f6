//! The server goes, or its files change, in the middle of a backup.

use crate::world::{DB, Site, fingerprint, rng, rounds};
use holdfast_testkit::{PgVersion, StopMode, TestRng};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A site whose backups take some seconds.
fn slow(name: &str) -> Site {
    let site = Site::new(name, PgVersion::NEWEST);
    site.sql("create table t as select g, md5(g::text) m from generate_series(1, 100000) g");
    let _ = site.backup(&["--full"]);
    site.rate(Some("6MiB"));
    site
}

fn fails(site: &Site, run: &mut holdfast_testkit::Running) -> String {
    let status = run.wait(Duration::from_secs(60)).expect("it ends by itself");
    let output = run.output();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("\"error\""), "{output}");
    assert_eq!(site.points().len(), 1, "no half point");
    output
}

/// Without a limit again: the next run works, and the chain goes on.
fn goes_on(site: &Site) {
    site.rate(None);
    let next = site.backup(&[]);
    assert_eq!(next["kind"], "incremental", "{next}");
    site.vault_is_whole();
    let before = fingerprint(&site.pg);
    site.pg.wait_archived();
    site.wal_is_continuous();
    let copy = site.restore_and_start("copy", &[]);
    assert_eq!(fingerprint(&copy), before);
}

#[test]
fn connection_lost_during_the_copy() {
    let site = slow("lost-session");
    let mut run = site.hf.spawn(&["--json", "backup", DB, "--full"]);
    site.wait_backup_copies(&mut run);
    let ended = site.sql(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like 'holdfast%'",
    );
    assert_ne!(ended, "0", "no session of holdfast");
    let said = fails(&site, &mut run);
    assert!(said.contains("connection") || said.contains("terminat"), "{said}");
    goes_on(&site);
}

#[test]
fn server_stopped_during_the_copy() {
    let mut site = slow("stopped");
    let mut run = site.hf.spawn(&["--json", "backup", DB, "--full"]);
    site.wait_backup_copies(&mut run);
    site.pg.stop(StopMode::Immediate);
    let _ = fails(&site, &mut run);
    // Nobody is there to talk to.
    let down = site.hf.run(&["--json", "backup", DB]).expect_code(1);
    assert!(down.json()["error"]["hint"].is_string(), "{}", down.transcript());
    site.pg.start();
    repoint(&site);
    goes_on(&site);
}

#[test]
fn server_restarted_during_the_copy() {
    let mut site = slow("restarted");
    let mut run = site.hf.spawn(&["--json", "backup", DB, "--full"]);
    site.wait_backup_copies(&mut run);
    site.pg.restart();
    let _ = fails(&site, &mut run);
    repoint(&site);
    goes_on(&site);
}

/// A start may choose another port.
fn repoint(site: &Site) {
    let port = site.pg.port().to_string();
    site.policy(|text| {
        let change = |line: &str| match line.split_once("port=") {
            Some((head, tail)) => {
                let rest = tail.trim_start_matches(|c: char| c.is_ascii_digit());
                format!("{head}port={port}{rest}\n")
            }
            None => format!("{line}\n"),
        };
        text.lines().map(change).collect()
    });
}

/// A session of a user who drops, truncates, extends, moves and vacuums what is being copied.
fn churn(site: &Site, rng: &mut TestRng, stop: &AtomicBool) -> u64 {
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        let t = format!("churn{}", rng.below(8));
        let sql = match rng.below(12) {
            0 => format!("drop table if exists {t}"),
            1 | 2 => format!("create table if not exists {t}(g int primary key, m text)"),
            3 => format!("truncate {t}"),
            4..=6 => format!(
                "insert into {t} select g, repeat(md5(g::text), 8) from generate_series(1, 3000) g on conflict do nothing"
            ),
            7 => format!("delete from {t} where g % 2 = 0"),
            8 => format!("vacuum full {t}"),
            9 => format!("vacuum (freeze) {t}"),
            10 => format!("alter table {t} set {}", if rng.chance(500) { "unlogged" } else { "logged" }),
            _ => format!("reindex table {t}"),
        };
        // A table may not exist just now.
        n += u64::from(site.pg.try_sql("postgres", &sql).is_ok());
    }
    n
}

#[test]
fn files_change_during_the_copy() {
    let mut rng = rng(21);
    let site = Site::new("churn", PgVersion::NEWEST);
    site.sql("create extension amcheck; create table quiet as select g from generate_series(1, 50000) g");
    let stop = AtomicBool::new(false);
    let count = rounds("HOLDFAST_CHURN", 3, 60);
    std::thread::scope(|s| {
        let users: Vec<_> = (0..2)
            .map(|_| {
                let mut rng = rng.fork();
                let (site, stop) = (&site, &stop);
                s.spawn(move || churn(site, &mut rng, stop))
            })
            .collect();
        // However this ends, the users stop.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for n in 0..count {
                site.rate(Some("12MiB"));
                let _ = site.backup(&[if n == 0 { "--full" } else { "--incremental" }]);
            }
        }));
        stop.store(true, Ordering::Relaxed);
        let done: u64 = users.into_iter().map(|u| u.join().expect("a user")).sum();
        eprintln!("{done} statements meanwhile");
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        assert!(done > 5, "nothing happened meanwhile");
    });
    site.vault_is_whole();
    let before = fingerprint(&site.pg);
    site.pg.wait_archived();
    site.wal_is_continuous();
    for (n, point) in site.points().iter().enumerate().rev().take(4) {
        let name = format!("copy{n}");
        let mut copy = site.restore_and_start(&name, &["--point", point, "--immediate"]);
        copy.amcheck();
        assert_eq!(copy.sql("postgres", "select count(*) from quiet"), "50000");
        copy.stop(StopMode::Fast);
        copy.check_checksums();
        crate::world::remove(&site.scratch.path(&name));
    }
    let copy = site.restore_and_start("end", &[]);
    assert_eq!(fingerprint(&copy), before);
}

/// A database that is moved while files are copied cannot be recovered from that copy: no point, and the
/// next run succeeds.
#[test]
fn a_database_is_moved() {
    let site = slow("moved");
    let _ = site.pg.create_tablespace("other");
    site.sql("create database moving");
    let mut run = site.hf.spawn(&["--json", "backup", DB, "--full", "--reread"]);
    site.wait_backup_copies(&mut run);
    site.sql("alter database moving set tablespace other");
    let output = fails(&site, &mut run);
    assert!(output.contains("copied file by file") && output.contains("again"), "{output}");
    site.rate(None);
    let _ = site.backup(&["--incremental"]);
    let _ = site.hf.run(&["verify"]).ok();
    // A copy alone does no harm: what it copies stays where it is.
    site.rate(Some("6MiB"));
    let mut run = site.hf.spawn(&["--json", "backup", DB, "--full", "--reread"]);
    site.wait_backup_copies(&mut run);
    site.sql("create database twin template moving strategy file_copy");
    assert!(run.wait(Duration::from_secs(60)).is_some_and(|s| s.success()), "{}", run.output());
    let _ = site.hf.run(&["verify"]).ok();
}
