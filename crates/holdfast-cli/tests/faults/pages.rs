//! A page that the source's disk has lost, and keys and passphrases that do not fit.

use crate::world::{DB, Site, rng, text};
use holdfast_testkit::{Holdfast, PgVersion, StopMode, damage};
use std::fs;

const BLOCK: usize = 8192;

#[test]
fn damaged_page_in_the_source() {
    let mut rng = rng(31);
    let mut site = Site::new("rot", PgVersion::NEWEST);
    site.sql("create table t as select g, md5(g::text) m from generate_series(1, 20000) g; checkpoint");
    let good = site.backup(&["--full"]);
    assert_eq!(good["status"], "succeeded");
    let file = site.sql("select pg_relation_filepath('t')");
    site.pg.stop(StopMode::Fast);
    let path = site.pg.data_dir().join(&file);
    let block = rng.range(3, 100);
    let offset = block * BLOCK as u64 + rng.range(24, BLOCK as u64);
    damage::flip_bit_at(&path, offset, rng.below(8) as u8);
    let rotten = fs::read(&path).expect("read the relation");
    site.pg.start();
    let port = site.pg.port().to_string();
    site.policy(|t| {
        let at = t.find("port=").expect("a port") + 5;
        let end = at + t[at..].find(|c: char| !c.is_ascii_digit()).expect("an end");
        format!("{}{port}{}", &t[..at], &t[end..])
    });
    for (kind, name) in [("--reread", "one"), ("--full", "two"), ("--incremental", "three")] {
        let out = site.hf.run(&["--json", "backup", DB, kind]).expect_code(3);
        let doc = out.json();
        assert_eq!(text(&doc["status"]), "partial", "{doc}");
        let damaged = doc["damaged"].as_array().expect("damaged[]").clone();
        assert_eq!(damaged.len(), 1, "{doc}");
        assert_eq!(
            (text(&damaged[0]["path"]), damaged[0]["block"].as_u64()),
            (file.as_str(), Some(block)),
            "{doc}"
        );
        // Rot is no change that the log should have named.
        assert!(doc["changes"]["missed"].is_null(), "{doc}");
        let plain = site.hf.run(&["show", text(&doc["id"])]).ok();
        let _ = plain.says(&file).says(&block.to_string());
        let list = site.hf.run(&["--json", "list", DB]).ok().json();
        let listed = list["points"].as_array().and_then(|p| p.last()).expect("a point").clone();
        assert_eq!((&listed["id"], text(&listed["status"])), (&doc["id"], "partial"));
        // As stored: nothing made up, nothing left out.
        let restored = site.try_restore(name, &["--point", text(&doc["id"]), "--immediate"]).ok();
        let _ = restored.says("damaged");
        let back = fs::read(site.scratch.path(name).join(&file)).expect("read the copy");
        assert!(back == rotten, "the damaged file is not the same in the copy");
    }
    // A person reads it too.
    let out = site.hf.run(&["backup", DB]).expect_code(3);
    let _ = out.says(&file).says(&format!("page {block}"));
    // The vault itself is fine; and the point before the rot has the page as it was.
    site.vault_is_whole();
    let _ = site.try_restore("before", &["--point", text(&good["id"]), "--immediate"]).ok();
    let before = fs::read(site.scratch.path("before").join(&file)).expect("read the copy");
    assert!(before != rotten && before.len() == rotten.len());
    // L4 finds it.
    let _ = site.hf.run(&["verify", DB, "--level", "L4"]).expect_code(5);
}

#[test]
fn keys_that_do_not_fit() {
    let site = Site::new("keys", PgVersion::NEWEST);
    let right = site.scratch.write("right", "correct horse battery staple\n");
    let wrong = site.scratch.write("wrong", "incorrect horse\n");
    let (right, wrong) = (right.display().to_string(), wrong.display().to_string());
    let _ = site.backup(&["--full"]);
    let _ = site.hf.run(&["key", "passphrase", "--passphrase-file", &right, "--db", DB]).ok();
    // Another vault's key.
    let other = Holdfast::new(&site.scratch, site.scratch.path("other.toml"));
    let url = format!("file://{}", site.scratch.path("other").display());
    let key = site.scratch.path("other.key").display().to_string();
    let conninfo = site.pg.conninfo();
    let _ = other
        .run(&["init", "--name", DB, "--conninfo", &conninfo, "--vault", &url, "--key-file", &key, "--yes"])
        .ok();
    let own = site.scratch.path("hf.key");
    let saved = fs::read(&own).expect("the key");
    let back = site.scratch.path("back.key").display().to_string();
    fs::copy(&key, &own).expect("put the wrong key in place");
    for args in [&["backup", DB][..], &["list", DB], &["check", DB], &["verify", DB]] {
        let out = site.hf.run(args).expect_code(12);
        let _ = out.says("hint");
    }
    let restored = site.try_restore("copy", &["--immediate"]).expect_code(12);
    assert!(!site.scratch.path("copy/global").exists(), "{}", restored.transcript());
    fs::write(&own, &saved[..saved.len() / 2]).expect("half a key file");
    let _ = site.hf.run(&["list", DB]).expect_code(12).says("hf.key");
    fs::remove_file(&own).expect("lose the key");
    let lost = site.hf.run(&["list", DB]);
    assert_ne!(lost.code, 0);
    let _ = lost.says("hf.key");
    let recover =
        |file: &str| site.hf.run(&["key", "recover", "--passphrase-file", file, "--to", &back, "--db", DB]);
    let _ = recover(&wrong).expect_code(12);
    assert!(!site.scratch.path("back.key").exists());
    let _ = recover(&right).ok();
    fs::rename(&back, &own).expect("put the key back");
    site.vault_is_whole();
    assert_eq!(site.points().len(), 1);
    let _ = site.try_restore("copy", &["--immediate"]).ok();
}
