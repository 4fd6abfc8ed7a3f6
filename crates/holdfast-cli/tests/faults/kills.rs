//! kill -9 at random moments.

use crate::world::{DB, Site, differences, fingerprint, remove, rng, rounds, tree};
use holdfast_testkit::{PgVersion, Running, StopMode, TestRng};
use std::path::Path;
use std::time::{Duration, Instant};

/// Lets a run live for a random part of the time that it usually takes (a little more, so that some
/// end by themselves), then kills it. Whether it had ended.
fn kill_somewhere(run: &mut Running, usual: Duration, rng: &mut TestRng) -> bool {
    let span = usual.as_micros() as u64;
    // One in four near the end, where commits and renames are.
    let (from, to) = if rng.chance(250) { (span * 8 / 10, span * 13 / 10) } else { (0, span * 11 / 10) };
    std::thread::sleep(Duration::from_micros(rng.range(from, to + 1)));
    let ended = !run.is_running();
    run.kill9();
    ended
}

#[test]
fn backup_killed_anywhere() {
    let mut rng = rng(1);
    let site = Site::new("kill-backup", PgVersion::NEWEST);
    site.pg.pgbench_init(1);
    let begun = Instant::now();
    let _ = site.backup(&["--full"]);
    let usual = begun.elapsed();
    let mut points = site.points();
    let (mut killed, mut committed) = (0, 0);
    for round in 0..rounds("HOLDFAST_KILLS", 12, 300) {
        site.sql("update pgbench_accounts set abalance = abalance + 1 where random() < 0.02");
        let full = rng.chance(600);
        let mut args = vec!["--json", "backup", DB];
        args.push(if full { "--full" } else { "--incremental" });
        let mut run = site.hf.spawn(&args);
        let span = if full { usual } else { usual / 2 };
        let ended = kill_somewhere(&mut run, span, &mut rng);
        killed += u64::from(!ended);
        site.vault_is_whole();
        let now = site.points();
        assert_eq!(now[..points.len()], points, "round {round}: points that were there stay");
        assert!(now.len() <= points.len() + 1, "round {round}: {now:?}");
        assert!(
            !ended || now.len() == points.len() + 1,
            "round {round}: it ended without a point:\n{}",
            run.output()
        );
        committed += now.len() - points.len();
        points = now;
        if round % 4 == 3 {
            // Nobody cleaned up: the next run works, and builds on what is there.
            let next = site.backup(&["--incremental"]);
            assert_eq!(next["kind"], "incremental", "{next}");
            points.push(next["id"].as_str().expect("id").to_owned());
            assert_eq!(site.points(), points);
        }
    }
    eprintln!("backup: {killed} killed, {committed} committed before");
    assert!(killed > 0, "no run was killed in time");
    let last = site.backup(&[]);
    let before = fingerprint(&site.pg);
    site.pg.wait_archived();
    site.wal_is_continuous();
    let copy = site.restore_and_start("copy", &[]);
    assert_eq!(fingerprint(&copy), before, "restored from {}", last["id"]);
    drop(copy);
    // The oldest still restores too.
    remove(&site.scratch.path("copy"));
    let mut copy = site.restore_and_start("copy", &["--point", &points[0], "--immediate"]);
    copy.amcheck();
    copy.stop(StopMode::Fast);
    copy.check_checksums();
}

/// The archiver does not run: every push here is one of ours, and PostgreSQL keeps every segment.
#[test]
fn wal_push_killed_anywhere() {
    let mut rng = rng(2);
    let site = Site::new("kill-push", PgVersion::NEWEST);
    site.sql("create table t(x text)");
    let _ = site.backup(&["--full"]);
    site.pg.wait_archived();
    // Keeps the segments, and a pushed one is not remembered as archived.
    site.archive_with("/bin/false");
    let count = rounds("HOLDFAST_KILLS", 24, 400);
    let mut segments = Vec::new();
    for _ in 0..count.min(40) {
        site.sql("insert into t select md5(g::text) from generate_series(1, 2000) g");
        segments.push(site.pg.switch_wal());
    }
    let path = |name: &str| site.pg.data_dir().join("pg_wal").join(name).display().to_string();
    let mut usual = Duration::from_millis(80);
    let mut killed = 0;
    for round in 0..count {
        let segment = &segments[round as usize % segments.len()];
        let file = path(segment);
        let args = ["wal", "push", "--db", DB, &file];
        for _ in 0..rng.range(1, 3) {
            let mut run = site.hf.spawn(&args);
            killed += u64::from(!kill_somewhere(&mut run, usual, &mut rng));
        }
        // The second try: the first one's work is found, or done again.
        let begun = Instant::now();
        let _ = site.hf.run(&args).ok();
        usual = (usual + begun.elapsed()) / 2;
        if round % 8 == 7 {
            site.vault_is_whole();
        }
    }
    eprintln!("wal push: {killed} killed");
    assert!(killed > 0, "no run was killed in time");
    site.vault_is_whole();
    site.wal_is_continuous();
    for segment in &segments {
        let dest = site.scratch.make_dir("got").join(segment);
        let to = dest.display().to_string();
        let _ = site.hf.run(&["wal", "get", "--db", DB, segment, &to]).ok();
        assert_eq!(
            std::fs::read(&dest).expect("got"),
            std::fs::read(path(segment)).expect("pushed"),
            "{segment}"
        );
    }
    // The archiver takes over where the killed runs left off.
    site.archive_with(&site.push_command());
    let before = fingerprint(&site.pg);
    site.pg.wait_archived();
    site.wal_is_continuous();
    let copy = site.restore_and_start("copy", &[]);
    assert_eq!(fingerprint(&copy), before);
}

#[test]
fn restore_killed_anywhere() {
    let mut rng = rng(3);
    let mut site = Site::new("kill-restore", PgVersion::NEWEST);
    let space = site.pg.create_tablespace("side");
    site.pg.pgbench_init(1);
    site.sql("create table s tablespace side as select g, md5(g::text) from generate_series(1, 20000) g");
    let _ = site.backup(&["--full"]);
    site.sql("update pgbench_accounts set abalance = 1 where aid % 7 = 0");
    let _ = site.backup(&["--incremental"]);
    site.pg.wait_archived();
    let before = fingerprint(&site.pg);
    site.pg.stop(StopMode::Fast);
    let moved = site.scratch.path("moved");
    let map = format!("{}={}", space.display(), moved.display());
    let args = ["--tablespace-map", map.as_str()];
    let begun = Instant::now();
    let _ = site.try_restore("copy", &args).ok();
    let usual = begun.elapsed();
    let dir = site.scratch.path("copy");
    let (whole, whole_moved) = (tree(&dir), tree(&moved));
    let to = dir.display().to_string();
    let mut killed = 0;
    for round in 0..rounds("HOLDFAST_KILLS", 12, 300) {
        if rng.chance(600) {
            remove(&dir);
            remove(&moved);
        } else if finished(&dir) && !dir.join(".holdfast-restore-in-progress").exists() {
            // A finished one is never written over.
            let _ = site.try_restore("copy", &args).expect_code(13);
            remove(&dir);
            remove(&moved);
        }
        let mut run = site.hf.spawn(&["restore", DB, "--to", &to, "--tablespace-map", &map]);
        let ended = kill_somewhere(&mut run, usual, &mut rng);
        killed += u64::from(!ended);
        let finished = finished(&dir);
        if finished {
            // Killed at the very last step it is whole, and its marker may still be there.
            let mut got = (tree(&dir), tree(&moved));
            got.0.remove(".holdfast-restore-in-progress");
            got.1.remove(".holdfast-restore-in-progress");
            assert_eq!(differences(&got.0, &whole), Vec::<String>::new(), "round {round}");
            assert_eq!(differences(&got.1, &whole_moved), Vec::<String>::new(), "round {round}");
        } else {
            assert!(!ended, "round {round}: it ended unfinished:\n{}", run.output());
            if dir.join("PG_VERSION").exists() && round % 3 == 0 {
                let error = site.copy("copy").try_start().expect_err("half a restore must not start");
                assert!(error.contains("ended at start"), "{error}");
            }
            if rng.chance(500) {
                let _ = site.try_restore("copy", &args).ok();
                assert_eq!(differences(&tree(&dir), &whole), Vec::<String>::new(), "round {round}");
                assert_eq!(differences(&tree(&moved), &whole_moved), Vec::<String>::new(), "round {round}");
            }
        }
    }
    eprintln!("restore: {killed} killed");
    assert!(killed > 0, "no run was killed in time");
    remove(&dir);
    remove(&moved);
    let copy = site.restore_and_start("copy", &args);
    assert_eq!(fingerprint(&copy), before);
    site.vault_is_whole();
}

/// pg_control comes last, so it tells a whole copy from half a one.
fn finished(dir: &Path) -> bool {
    dir.join("global/pg_control").exists()
}
