//! Disks that are full, or may not be written.

use crate::world::{DB, Site, SmallDisk, fingerprint, remove};
use holdfast_testkit::damage::files_under;
use holdfast_testkit::{PgVersion, Scratch, StopMode};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

#[test]
fn full_disk_under_the_vault() {
    let scratch = Scratch::new("full-vault");
    let Some(disk) = SmallDisk::new(&scratch.make_dir("vault"), "40m") else { return };
    let pg = crate::world::server(&scratch, "main", PgVersion::NEWEST).checksums(true).start();
    let site = Site::with(pg, &scratch, &[]);
    site.archive_with(&site.push_command());
    let first = site.backup(&["--full"]);
    // Random bytes do not compress: this cannot fit.
    site.sql("create table big as select g, decode(string_agg, 'hex') b from generate_series(1, 1300) g, \
              lateral (select string_agg(md5(random()::text || g || i), '') from generate_series(1, 2000) i) s");
    let failed = site.hf.run(&["--json", "backup", DB]).expect_code(1);
    let error = failed.json()["error"].clone();
    let said = format!("{} {}", error["message"], error["hint"]).to_lowercase();
    assert!(said.contains("no space") || said.contains("full") || said.contains("make room"), "{error}");
    assert_eq!(site.points().len(), 1, "no half point");
    let segment = site.pg.switch_wal();
    std::thread::sleep(Duration::from_secs(1));
    let path = site.pg.data_dir().join("pg_wal").join(&segment).display().to_string();
    // The archiver may just have found room: then this is a duplicate.
    let pushed = site.hf.run(&["wal", "push", "--db", DB, &path]);
    assert!([0, 1].contains(&pushed.code), "{}", pushed.transcript());
    // What was there still works on a full disk.
    site.vault_is_whole();
    let _ = site.try_restore("copy", &["--immediate"]).ok();
    remove(&site.scratch.path("copy"));
    disk.grow("400m");
    let before = fingerprint(&site.pg);
    let next = site.backup(&[]);
    assert_eq!(next["parent"], first["id"], "{next}");
    site.pg.wait_archived();
    site.vault_is_whole();
    site.wal_is_continuous();
    let copy = site.restore_and_start("copy", &[]);
    assert_eq!(fingerprint(&copy), before);
}

#[test]
fn full_disk_under_the_target() {
    let site = Site::new("full-target", PgVersion::NEWEST);
    site.sql("create table t as select g, md5(g::text) m from generate_series(1, 400000) g");
    let _ = site.backup(&["--full"]);
    let target = site.scratch.make_dir("copy");
    let Some(disk) = SmallDisk::new(&target, "30m") else { return };
    // Too small is seen beforehand, and nothing is written.
    let _ = site.try_restore("copy", &[]).expect_code(13).says("free");
    assert_eq!(files_under(&target), Vec::<std::path::PathBuf>::new());
    // It fills up while the restore runs: something else takes the room.
    disk.grow("125m");
    fill_during(&target, || {
        let out = site.try_restore("copy", &[]);
        assert_ne!(out.code, 0, "{}", out.transcript());
        let _ = out.says("copy");
    });
    assert!(!target.join("global/pg_control").exists(), "half a copy cannot start");
    let _ = fs::remove_file(target.join("filler"));
    disk.grow("400m");
    // The same command again.
    let before = fingerprint(&site.pg);
    site.pg.wait_archived();
    let copy = site.restore_and_start("copy", &[]);
    assert_eq!(fingerprint(&copy), before);
    drop(copy);
}

/// Takes the room on a disk as soon as a restore has begun there, while `action` runs.
fn fill_during(dir: &Path, action: impl FnOnce()) {
    std::thread::scope(|s| {
        s.spawn(|| {
            let marker = dir.join(".holdfast-restore-in-progress");
            for _ in 0..60_000 {
                if marker.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_micros(500));
            }
            let file = fs::File::create(dir.join("filler")).expect("make a file");
            // All at once, then what is left.
            for size in [64 << 20, 16 << 20, 4 << 20, 1 << 20, 1 << 16, 1 << 12] {
                let mut end = file.metadata().expect("stat").len();
                while rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), end, size).is_ok() {
                    end += size;
                }
            }
        });
        action();
    });
}

#[test]
fn vault_that_may_not_be_written() {
    let mut site = Site::new("read-only", PgVersion::NEWEST);
    site.sql("create table t as select g from generate_series(1, 1000) g");
    let _ = site.backup(&["--full"]);
    site.pg.wait_archived();
    let dirs = directories(&site.vault());
    let modes = |mode: u32| {
        for d in &dirs {
            fs::set_permissions(d, fs::Permissions::from_mode(mode)).expect("chmod");
        }
    };
    modes(0o500);
    let before = crate::world::tree(&site.vault());
    let failed = site.hf.run(&["--json", "backup", DB]);
    assert!([1, 12].contains(&failed.code), "{}", failed.transcript());
    let _ = failed.says("ermission denied").says("vault");
    let segment = site.pg.switch_wal();
    let path = site.pg.data_dir().join("pg_wal").join(&segment).display().to_string();
    let pushed = site.hf.run(&["wal", "push", "--db", DB, &path]);
    assert!([1, 12].contains(&pushed.code), "{}", pushed.transcript());
    let _ = pushed.says("hint");
    // Reading needs no right to write.
    site.vault_is_whole();
    assert_eq!(site.points().len(), 1);
    let _ = site.try_restore("copy", &["--immediate"]).ok();
    remove(&site.scratch.path("copy"));
    assert_eq!(crate::world::tree(&site.vault()), before, "nothing changed");
    modes(0o700);
    let next = site.backup(&[]);
    assert_eq!(next["kind"], "incremental");
    let before = fingerprint(&site.pg);
    site.pg.wait_segment_archived(&segment);
    site.pg.wait_archived();
    site.wal_is_continuous();
    site.vault_is_whole();
    site.pg.stop(StopMode::Fast);
    let copy = site.restore_and_start("copy", &[]);
    assert_eq!(fingerprint(&copy), before);
}

fn directories(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut all = vec![dir.to_owned()];
    for e in fs::read_dir(dir).expect("list").flatten() {
        if e.file_type().is_ok_and(|t| t.is_dir()) {
            all.extend(directories(&e.path()));
        }
    }
    all
}
