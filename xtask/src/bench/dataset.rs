//! The data of the benchmarks: made once, kept between runs.
//!
//! Everything is in `HOLDFAST_BENCH_DIR` (default `/var/tmp/holdfast-bench`): the data directory,
//! finished WAL segments of pgbench for `wal push`, and the vaults and repositories of the run that
//! is under way, so that all of it shares one file system.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::{Cluster, PgVersion, Scratch, StopMode, proc, user};

/// Raised when the recipe below changes: older data is then made anew.
const RECIPE: u32 = 2;
/// Segments for `wal push` and `wal get`.
const SEGMENTS: usize = 26;

/// `$HOLDFAST_BENCH_DIR`, made and owned by the server user.
pub fn root() -> Result<PathBuf> {
    let dir = std::env::var_os("HOLDFAST_BENCH_DIR").filter(|d| !d.is_empty());
    let dir = dir.map_or_else(|| PathBuf::from("/var/tmp/holdfast-bench"), PathBuf::from);
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    user::chown(&dir);
    Ok(dir)
}

/// The newest version that is installed.
pub fn version() -> Result<PgVersion> {
    let all = [PgVersion::V18, PgVersion::V17, PgVersion::V15];
    all.into_iter().find(|v| v.is_installed()).context("no PostgreSQL is installed; run scripts/setup.sh pg")
}

/// Where the data is, and the finished WAL segments.
#[derive(Debug, Clone)]
pub struct Dataset {
    pub version: PgVersion,
    pub data: PathBuf,
    pub segments: PathBuf,
}

impl Dataset {
    /// The dataset of about this many GiB; takes minutes when it is not there yet.
    pub fn provide(gib: f64) -> Result<Dataset> {
        let (root, version) = (root()?, version()?);
        let name = format!("data-pg{version}-{gib}g-r{RECIPE}");
        let set = Dataset { version, data: root.join(&name), segments: root.join(format!("{name}-wal")) };
        if !set.data.join("holdfast-bench-complete").exists() {
            set.make(gib)?;
        }
        Ok(set)
    }

    fn make(&self, gib: f64) -> Result<()> {
        let begin = Instant::now();
        println!("making {gib} GiB of data in {} (kept for the next run)", self.data.display());
        fresh(&self.data)?;
        fresh(&self.segments)?;
        initdb(self.version, &self.data)?;
        let scratch = Scratch::new("bench-make");
        // Without WAL; a run starts the server with other settings.
        let mut cluster = loading(&scratch, self.version, &self.data);
        let scale = (gib * 100.0 / 3.0).round().max(1.0);
        cluster.run_client("pgbench", &["-i", "-q", "-s", &scale.to_string()]);
        let step = |what: &str| println!("  {:4.0} s  {what}", begin.elapsed().as_secs_f64());
        step("pgbench");
        cluster.sql("postgres", &events((gib * 800_000.0) as u64));
        step("events");
        cluster.sql("postgres", &small_tables((gib * 800.0) as u64));
        step("500 small tables");
        cluster.sql("postgres", "vacuum freeze analyze");
        step("vacuum");
        cluster.stop(StopMode::Fast);
        drop(cluster);

        // WAL as a busy server writes it.
        let take = format!("cp %p {}/%f", self.segments.display());
        let mut cluster = Cluster::builder(&scratch, "bench", self.version)
            .from_data_dir(&self.data)
            .setting("archive_mode", "on")
            .setting("archive_command", &take)
            .setting("max_wal_size", "2GB")
            .setting("synchronous_commit", "off")
            .start();
        for _ in 0..40 {
            cluster.pgbench_run(5, 4);
            cluster.sql("postgres", "checkpoint");
            if self.segment_files()?.len() >= SEGMENTS {
                break;
            }
        }
        cluster.wait_archived();
        step("WAL segments");
        cluster.sql("postgres", "vacuum analyze; checkpoint");
        cluster.stop(StopMode::Fast);
        let found = self.segment_files()?.len();
        ensure!(found >= SEGMENTS, "only {found} WAL segments were written");
        // Outside of the data directory's content: no server and no backup minds it.
        fs::write(self.data.join("holdfast-bench-complete"), "")?;
        user::chown(&self.data.join("holdfast-bench-complete"));
        println!(
            "  {:4.0} s  {:.2} GB",
            begin.elapsed().as_secs_f64(),
            tree_bytes(&self.data.join("base")) as f64 / 1e9
        );
        Ok(())
    }

    /// Finished WAL segments, in order. The first is left out: it holds the end of the loading.
    pub fn segment_files(&self) -> Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> =
            fs::read_dir(&self.segments)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
        files.retain(|f| {
            f.file_name().is_some_and(|n| n.len() == 24) && fs::metadata(f).is_ok_and(|m| m.len() == 16 << 20)
        });
        files.sort();
        Ok(files.into_iter().skip(1).take(SEGMENTS).collect())
    }

    /// The server on it, with archiving by whatever `alter system` says.
    pub fn start(&self, scratch: &Scratch) -> Cluster {
        serving(scratch, self.version, &self.data)
    }
}

/// A server as the benchmarks run it: quiet, so that a backup is all that happens.
pub fn serving(scratch: &Scratch, version: PgVersion, data: &Path) -> Cluster {
    Cluster::builder(scratch, "bench", version)
        .from_data_dir(data)
        .fsync(true)
        .setting("archive_mode", "on")
        .setting("wal_level", "replica")
        .setting("autovacuum", "off")
        .setting("checkpoint_timeout", "1h")
        .setting("shared_buffers", "256MB")
        .start()
}

fn loading(scratch: &Scratch, version: PgVersion, data: &Path) -> Cluster {
    Cluster::builder(scratch, "load", version)
        .from_data_dir(data)
        .setting("wal_level", "minimal")
        .setting("max_wal_senders", "0")
        .setting("autovacuum", "off")
        .setting("shared_buffers", "512MB")
        .setting("maintenance_work_mem", "512MB")
        .setting("max_wal_size", "8GB")
        .start()
}

/// Is it there from an earlier run?
pub fn has_relation(gib: u64) -> Result<bool> {
    let data = root()?.join(format!("relation-pg{}-{gib}g-r{RECIPE}", version()?));
    Ok(data.join("holdfast-bench-complete").exists())
}

/// A cluster with one relation of so many GiB, for peak memory. Half text that repeats, half not.
pub fn one_relation(gib: u64) -> Result<(PgVersion, PathBuf)> {
    let (root, version) = (root()?, version()?);
    let data = root.join(format!("relation-pg{version}-{gib}g-r{RECIPE}"));
    if !data.join("holdfast-bench-complete").exists() {
        println!("making a relation of {gib} GiB in {}", data.display());
        fresh(&data)?;
        initdb(version, &data)?;
        let scratch = Scratch::new("bench-make");
        let mut cluster = loading(&scratch, version, &data);
        // About 1 KiB a row; in one transaction with its table it needs no WAL.
        cluster.sql(
            "postgres",
            &format!(
                "begin;
                 create table big as select i as id, md5(i::text) || repeat(md5((i / 64)::text), 29) as t
                     from generate_series(1, {}) i;
                 commit;
                 checkpoint;",
                gib * 1_040_000
            ),
        );
        cluster.stop(StopMode::Fast);
        fs::write(data.join("holdfast-bench-complete"), "")?;
        user::chown(&data.join("holdfast-bench-complete"));
    }
    Ok((version, data))
}

fn events(rows: u64) -> String {
    format!(
        "begin;
         create table events as
         select i as event_id, (random() * random() * 2000)::int as tenant,
                timestamptz '2026-01-01' + i * interval '1.7 second' as at,
                jsonb_build_object(
                    'user', md5((random() * 200000)::int::text),
                    'session', gen_random_uuid(),
                    'ip', '10.' || (random() * 255)::int || '.' || (random() * 255)::int || '.' || (random() * 255)::int,
                    'path', (array['/cart', '/checkout', '/search', '/product/', '/login', '/account/orders'])[1 + (random() * 5)::int] || (random() * 5000)::int,
                    'agent', (array['Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/128.0',
                                    'Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15',
                                    'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0'])[1 + (random() * 2)::int],
                    'status', (array[200, 200, 200, 304, 404, 500])[1 + (random() * 5)::int],
                    'ms', round((random() * random() * 900)::numeric, 3),
                    'tags', jsonb_build_array('t' || (random() * 50)::int, 't' || (random() * 50)::int)) as payload
         from generate_series(1, {rows}) i;
         commit;
         alter table events add primary key (event_id);
         create index on events (tenant, at);
         create index on events ((payload->>'user'));
         create index on events using gin ((payload->'tags'));"
    )
}

fn small_tables(rows: u64) -> String {
    // Sizes differ by a factor of five, as they do. One transaction would need 500 locks and files.
    format!(
        "do $$ begin for i in 1..500 loop
            execute format('create table small_%s (id bigint primary key, name text, amount numeric, at timestamptz)', i);
            execute format('insert into small_%s select n, md5(n::text) || %L, n * 1.25, now() + n * interval ''1 s''
                            from generate_series(1, %s) n', i, ' of table ' || i, {rows} * (1 + i % 5));
            commit;
        end loop; end $$;"
    )
}

fn initdb(version: PgVersion, data: &Path) -> Result<()> {
    let mut command = user::command(version.bin("initdb"));
    command.args(["-N", "-k", "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "-D"]).arg(data);
    let done = proc::run(&mut command, &[], Duration::from_secs(120));
    ensure!(done.code == 0, "initdb: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// Touches one page in `every` of the large tables, at random: a row lock writes to its page and to no other.
/// Returns how many.
pub fn touch(cluster: &Cluster, every: u64) -> u64 {
    let count = cluster.sql(
        "postgres",
        &format!(
            "create or replace function pg_temp.touch(t regclass) returns bigint language plpgsql as $$
             declare n bigint; pages bigint := pg_relation_size(t) / current_setting('block_size')::int;
             begin
                 execute format('select count(*) from (select 1 from %s where ctid = any(array(
                     select distinct format(''(%%s,1)'', (random() * ($1 - 1))::bigint)::tid
                     from generate_series(1, $1 / {every}))) for update) x', t) into n using pages;
                 return n;
             end $$;
             select sum(pg_temp.touch(oid::regclass)) from pg_class
             where relkind = 'r' and relnamespace = 'public'::regnamespace
               and pg_relation_size(oid) > 8192 * {every};"
        ),
    );
    count.lines().last().and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

/// An empty directory of the server user.
pub fn fresh(dir: &Path) -> Result<()> {
    remove(dir)?;
    fs::create_dir(dir).with_context(|| format!("create {}", dir.display()))?;
    user::chown(dir);
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(())
}

pub fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// The bytes of the files under a directory.
pub fn tree_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|e| match fs::symlink_metadata(e.path()) {
            Ok(m) if m.is_dir() => tree_bytes(&e.path()),
            Ok(m) if m.is_file() => m.len(),
            _ => 0,
        })
        .sum()
}
