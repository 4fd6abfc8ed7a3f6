//! Whether docs/FORMAT.md is enough: `docs/reader/holdfast_reader.py` was written from that page,
//! and reads what this program writes. Each file that it gives is compared with what a restore writes.

#[allow(dead_code)] // made for many more tests than these
#[path = "../it/common.rs"]
mod common;

use common::{Site, path_text, server, text};
use holdfast_testkit::damage::{files_under, flip_bit_at};
use holdfast_testkit::{PgVersion, Scratch, proc, tools, user};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reader/holdfast_reader.py");

/// The Python reader, on a copy that the server user can read.
struct Reader {
    script: PathBuf,
    vault: String,
    key: String,
}

impl Reader {
    fn new(scratch: &Scratch) -> Reader {
        let content = fs::read(SCRIPT).unwrap_or_else(|e| panic!("{SCRIPT}: {e}"));
        let script = scratch.write("holdfast_reader.py", content);
        Reader { script, vault: path_text(&scratch.path("vault")), key: path_text(&scratch.path("hf.key")) }
    }

    fn start(&self, args: &[&str]) -> proc::Finished {
        let mut command = user::command(tools::python());
        command.arg(&self.script).args(args);
        proc::run(&mut command, &[], Duration::from_secs(60))
    }

    /// Exit code, standard output and standard error of a command on the vault.
    fn run(&self, command: &str, args: &[&str]) -> proc::Finished {
        self.start(&[&[command, &self.vault, "--key", &self.key], args].concat())
    }

    #[track_caller]
    fn ok(&self, command: &str, args: &[&str]) -> Vec<u8> {
        let done = self.run(command, args);
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.code, 0, "holdfast_reader.py {command} {args:?} failed: {said}");
        done.stdout
    }

    /// It fails and says this.
    #[track_caller]
    fn fails(&self, says: &str, command: &str, args: &[&str]) {
        let done = self.run(command, args);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(
            done.code == 1 && said.contains(says),
            "expected code 1 and {says:?}, got code {}: {said}",
            done.code
        );
        assert!(
            said.starts_with("holdfast_reader: ") && said.lines().count() == 1,
            "not a clear message: {said}"
        );
    }
}

fn demand_python() {
    let python = tools::python();
    assert!(python.exists(), "{} is missing: run `make setup`", python.display());
    let mut command = user::command(&python);
    command.args(["-c", "import blake3, cryptography, lz4.block, zstandard"]);
    let done = proc::run(&mut command, &[], Duration::from_secs(60));
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.code, 0, "{} lacks packages: run `make setup`\n{said}", python.display());
}

struct World {
    site: Site,
    reader: Reader,
    /// Files to be compared, relative to the data directory.
    paths: Vec<String>,
    full: String,
    incremental: String,
    /// A segment's name and content, as the server wrote it.
    segment: (String, Vec<u8>),
}

impl World {
    /// A server with all sorts of files, a vault with this in its table of the policy, two points.
    fn new(name: &str, init: &[&str], settings: &str) -> World {
        demand_python();
        let scratch = Scratch::new(name);
        let site = Site::with(server(&scratch, "main", PgVersion::V15).start(), &scratch, init);
        let policy = fs::read_to_string(scratch.path("holdfast.toml")).expect("read the policy");
        let edited = policy.replacen("\nurl = ", &format!("\n{settings}url = "), 1);
        assert!(edited != policy || settings.is_empty(), "{policy}");
        scratch.write("holdfast.toml", edited);

        site.pg.create_tablespace("fast");
        site.sql(
            "create table big as select g, md5(g::text) || md5((-g)::text) t from generate_series(1, 40000) g;
             create index big_g on big(g);
             create table there tablespace fast as select g, repeat('t', 90) t from generate_series(1, 3000) g;
             create table empty(x int); create table zeros as select 1 x;
             vacuum; checkpoint",
        );
        let of = |relation: &str| site.sql(&format!("select pg_relation_filepath('{relation}')"));
        let mut paths: Vec<String> =
            ["big", "big_g", "there", "empty", "zeros", "pg_class", "pg_attribute"].map(of).into();
        paths.push(format!("{}_vm", of("big")));
        paths.extend(
            ["PG_VERSION", "base/5/PG_VERSION", "global/pg_filenode.map", "postgresql.conf"]
                .map(str::to_owned),
        );
        // Pages that a crashed server extended the file by: in the middle of the layer, once there is another after.
        let zeros = site.pg.data_dir().join(of("zeros"));
        fs::OpenOptions::new()
            .append(true)
            .open(&zeros)
            .and_then(|f| f.set_len(20 * 8192))
            .expect("extend a file");

        let full = site.backup(&["--full", "--note", "the first", "--tag", "why=test"]);
        site.sql("update big set t = upper(t) where g % 4001 < 3; insert into there select g, 'late' from generate_series(1, 500) g");
        let segment = site.pg.wait_archived();
        let original = fs::read(site.pg.data_dir().join("pg_wal").join(&segment)).expect("read a segment");
        let incremental = site.backup(&[]);
        site.pg.wait_archived();
        assert_eq!((text(&full["kind"]), text(&incremental["kind"])), ("full", "incremental"));
        let (full, incremental) = (text(&full["id"]).to_owned(), text(&incremental["id"]).to_owned());
        World { reader: Reader::new(&scratch), site, paths, full, incremental, segment: (segment, original) }
    }

    /// What the two say about the vault is the same.
    fn compare_list(&self) {
        let ours = self.site.hf.run(&["--json", "list", common::DB]).ok().json();
        let theirs: Value = serde_json::from_slice(&self.reader.ok("list", &[])).expect("JSON");
        let cluster = &theirs["clusters"][0];
        let (a, b) =
            (ours["points"].as_array().expect("points"), cluster["points"].as_array().expect("points"));
        assert_eq!((a.len(), b.len()), (2, 2), "{theirs}");
        for (a, b) in a.iter().zip(b) {
            assert_eq!((&a["database"], &a["cluster"]), (&cluster["database"], &cluster["cluster"]));
            for field in [
                "id",
                "kind",
                "parent",
                "started_at",
                "finished_at",
                "start_lsn",
                "stop_lsn",
                "timeline",
                "size_bytes",
                "files",
                "changed_bytes",
                "stored_bytes",
                "tags",
                "note",
            ] {
                assert_eq!(a[field], b[field], "{field}");
            }
            let number = b["server"]["version_num"].as_u64().expect("a number");
            assert_eq!(text(&a["postgres_version"]), format!("{}.{}", number / 10_000, number % 10_000));
            assert_eq!(a["damaged_pages"].as_u64(), b["damaged"].as_array().map(|d| d.len() as u64));
        }
        let segments = cluster["segments"].as_array().expect("segments");
        let stored = self.site.vault_files();
        assert_eq!(segments.len(), stored.iter().filter(|f| f.ends_with(".wal")).count());
        assert!(segments.iter().any(|s| s == self.segment.0.as_str()), "{segments:?}");
    }

    /// What the reader gives of a point is what a restore writes.
    fn compare_point(&self, point: &str) {
        let scratch = &self.site.scratch;
        let (name, moved) = (format!("copy-{point}"), format!("copy-{point}-fast"));
        let plan = self.site.restore(
            &name,
            &["--point", point, "--immediate", "--plan", "--tablespace-map", &self.map(&moved)],
        );
        assert_eq!(plan["point"], point);
        let _ = self
            .site
            .restore(&name, &["--point", point, "--immediate", "--tablespace-map", &self.map(&moved)]);
        let copy = scratch.path(&name);
        for path in self.paths.iter().map(String::as_str).chain(["backup_label"]) {
            let expected = fs::read(copy.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
            let given = self.reader.ok("extract", &[point, path]);
            assert!(
                given == expected,
                "{point}: {path} differs ({} and {} bytes)",
                given.len(),
                expected.len()
            );
        }
        // A restore invalidates the checkpoint in it, so only what stays is compared.
        let path = "global/pg_control";
        let (given, expected) =
            (self.reader.ok("extract", &[point, path]), fs::read(copy.join(path)).expect(path));
        assert_eq!((given.len(), &given[..8]), (expected.len(), &expected[..8]));

        // Nothing is missing from the manifest, nor from the restore.
        let listing = String::from_utf8(self.reader.ok("files", &[point])).expect("text");
        let sizes: Vec<(u64, &str)> =
            listing.lines().map(|l| (l[..12].trim().parse().expect("a size"), &l[14..])).collect();
        let files = sizes.iter().filter(|(_, p)| !p.ends_with('/') && !p.contains(" -> "));
        for (size, path) in
            files.clone().filter(|(_, p)| !["tablespace_map", "postgresql.auto.conf"].contains(p))
        {
            let len = fs::metadata(copy.join(path)).unwrap_or_else(|e| panic!("{path}: {e}")).len();
            assert_eq!(*size, len, "{path}");
        }
        for file in files_under(&copy) {
            let path = path_text(file.strip_prefix(&copy).expect("below it"));
            let added = path.starts_with("pg_wal/") || path.contains("holdfast") || path == "recovery.signal";
            assert!(
                added || files.clone().any(|(_, p)| *p == path),
                "{path} is only in the restored directory"
            );
        }
    }

    fn map(&self, to: &str) -> String {
        let location =
            self.site.sql("select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'");
        format!("{location}={}", self.site.scratch.path(to).display())
    }

    fn compare_wal(&self) {
        let (name, original) = &self.segment;
        assert!(self.reader.ok("wal", &[name]) == *original, "{name} differs");
        // Of the `.backup` files the server keeps only the last.
        let mut compared = 0;
        for stored in self.site.vault_files().iter().filter(|f| f.ends_with(".backup")) {
            let name = stored.rsplit('/').next().expect("a name");
            let given = self.reader.ok("wal", &[name]);
            if let Ok(original) = fs::read(self.site.pg.data_dir().join("pg_wal").join(name)) {
                assert!(given == original, "{name} differs");
                compared += 1;
            }
        }
        assert!(compared > 0, "no .backup file was archived");
    }

    /// One bit anywhere in an object is found by whatever reads it; then it is put back.
    fn damage(&self, object: &str, says: &str, command: &str, args: &[&str]) {
        let path = self.site.vault_file(object);
        let len = fs::metadata(&path).expect("stat").len();
        for offset in [12, 30, 100, 200, 250, 300, len / 2, len - 70, len - 20] {
            flip_bit_at(&path, offset, 3);
            self.reader.fails(says, command, args);
            flip_bit_at(&path, offset, 3);
        }
        let parked = path.with_extension("parked");
        fs::rename(&path, &parked).expect("rename");
        self.reader.fails("", command, args);
        fs::rename(&parked, &path).expect("rename");
    }

    fn compare_everything(&self) {
        self.compare_list();
        self.compare_point(&self.full);
        self.compare_point(&self.incremental);
        self.compare_wal();
        let said = String::from_utf8(self.reader.ok("check", &[])).expect("text");
        assert_eq!(said.lines().filter(|l| l.contains(": point ")).count(), 2, "{said}");
        // One flipped byte in each data pack of the full, which both points need; which of them has the table
        // is up to the threads.
        let packs: Vec<String> = self
            .site
            .vault_files()
            .into_iter()
            .filter(|f| f.contains(&format!("{}/data-", self.full)))
            .collect();
        assert!(!packs.is_empty());
        let flip = |pack: &String| {
            let path = self.site.scratch.path("vault").join(pack);
            let middle = fs::metadata(&path).expect("stat").len() / 2;
            flip_bit_at(&path, middle, 0);
        };
        for pack in &packs {
            flip(pack);
            self.reader.fails(pack, "check", &[]);
            flip(pack);
        }
        packs.iter().for_each(flip);
        for point in [&self.full, &self.incremental] {
            self.reader.fails(&format!("{}/data-", self.full), "extract", &[point, &self.paths[0]]);
        }
    }
}

#[test]
fn reads_zstd() {
    World::new("reader-zstd", &[], "").compare_everything();
}

#[test]
fn reads_lz4() {
    let settings = "compression = \"lz4\"\nwal-compression = \"lz4\"\n";
    World::new("reader-lz4", &[], settings).compare_everything();
}

#[test]
fn reads_uncompressed() {
    let settings = "compression = \"none\"\nwal-compression = \"none\"\n";
    World::new("reader-none", &[], settings).compare_everything();
}

#[test]
fn reads_unencrypted() {
    let world = World::new("reader-clear", &["--no-encryption"], "");
    let descriptor =
        fs::read_to_string(world.site.scratch.path("vault/holdfast.vault")).expect("read the descriptor");
    assert!(descriptor.contains("\"none\""), "{descriptor}");
    world.compare_everything();
}

/// Every kind of object, and keys.
#[test]
fn damage_is_found() {
    let w = World::new("reader-damage", &[], "");
    let (full, big) = (w.full.as_str(), w.paths[0].as_str());
    let segment = w.segment.0.as_str();
    w.damage(&format!("{full}/data-0001.pack"), "data-0001.pack", "check", &[]);
    w.damage(&format!("{full}/meta-0001.pack"), "meta-0001.pack", "files", &[full]);
    w.damage(&format!("{full}.point"), ".point", "files", &[full]);
    w.damage("/cluster", "/cluster", "list", &[]);
    w.damage(segment, segment, "wal", &[segment]);

    // A segment under another's name.
    let path = w.site.vault_file(segment);
    let other = format!("{}FF", &segment[..22]);
    let copy = path.with_file_name(format!("{other}.wal"));
    fs::copy(&path, &copy).expect("copy");
    user::chown(&copy);
    w.reader.fails("not authentic", "wal", &[&other]);

    w.reader.fails("no such entry", "extract", &[full, "base/5/none"]);
    w.reader.fails("no database of this vault has it", "wal", &["0000000100000000000000EE"]);
    w.keys(full);
    assert!(!w.reader.ok("extract", &[full, big]).is_empty(), "all damage was undone");
}

impl World {
    /// The key file comes out of a recovery copy; another's key file is refused; a host's cannot read data.
    fn keys(&self, point: &str) {
        let scratch = &self.site.scratch;
        let pass = path_text(&scratch.write("pass", "correct horse\n"));
        let _ = self.site.hf.run(&["key", "passphrase", "--passphrase-file", &pass]).ok();
        let recovered = self.reader.start(&["recover", &self.reader.vault, &pass]);
        assert_eq!(recovered.code, 0, "{}", String::from_utf8_lossy(&recovered.stderr));
        let key = |path: &Path| {
            serde_json::from_slice::<Value>(&fs::read(path).expect("read a key file")).expect("JSON")
        };
        let own = key(&scratch.path("hf.key"));
        assert_eq!(serde_json::from_slice::<Value>(&recovered.stdout).expect("JSON"), own);
        let wrong = path_text(&scratch.write("wrong", "incorrect horse\n"));
        assert_eq!(self.reader.start(&["recover", &self.reader.vault, &wrong]).code, 1);

        let with = |name: &str, change: &dyn Fn(&mut Value)| {
            let mut changed = own.clone();
            change(&mut changed["epochs"][0]);
            let path = path_text(&scratch.write(name, changed.to_string()));
            Reader { script: self.reader.script.clone(), vault: self.reader.vault.clone(), key: path }
        };
        let another = with("another.key", &|epoch| epoch["meta"] = epoch["host-sign"].clone());
        another.fails("does not belong to this vault", "list", &[]);
        let host = with("host.key", &|epoch| {
            let epoch = epoch.as_object_mut().expect("an epoch");
            let _ = (epoch.remove("data-private"), epoch.remove("operator-sign"));
        });
        assert!(!host.ok("files", &[point]).is_empty());
        host.fails("lacks data-private", "extract", &[point, &self.paths[0]]);
        let forger = with("forger.key", &|epoch| epoch["host-public"] = epoch["operator-public"].clone());
        forger.fails("signature is wrong", "list", &[]);
    }
}
