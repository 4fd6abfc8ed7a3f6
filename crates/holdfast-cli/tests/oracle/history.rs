//! Random things that people do to a database, as SQL. Some of it fails (a table is not there, a
//! tablespace is not empty): that is part of it.

use holdfast_testkit::{Cluster, TestRng};
use std::fmt::Write;

/// Databases that histories create, copy, move and drop; `postgres` is always there.
const DATABASES: [&str; 3] = ["one", "two", "three"];
const TABLES: u64 = 7;

/// What a history may use.
#[derive(Debug, Clone, Copy)]
pub struct Ground {
    /// An ordinary tablespace that exists from the beginning.
    pub linked_space: &'static str,
}

fn table(rng: &mut TestRng) -> String {
    format!("t{}", rng.below(TABLES))
}

fn space(rng: &mut TestRng, ground: Ground) -> String {
    match rng.below(5) {
        0 | 1 => ground.linked_space.to_owned(),
        2 => format!("inplace{}", rng.below(2)),
        _ => "pg_default".to_owned(),
    }
}

fn fill(t: &str, rng: &mut TestRng) -> String {
    let (from, count) = (rng.below(20) * 500, rng.range(1, 1500));
    let body = match rng.below(3) {
        0 => "repeat(md5(g::text), 3)".to_owned(),
        1 => "repeat('wide ', 20)".to_owned(),
        // Out of line
        _ => "(select string_agg(md5(random()::text), '') from generate_series(1, 120 + g * 0))".to_owned(),
    };
    let count = if body.starts_with("(select") { count / 20 + 1 } else { count };
    format!(
        "insert into {t}(id, k, body, p, r) select g, g % 100, {body}, point(g, g % 7), int4range(g, g + 10) \
         from generate_series({from}, {from} + {count}) g on conflict (id) do update set k = {t}.k + 1"
    )
}

/// One step within a database.
fn step(rng: &mut TestRng, ground: Ground) -> String {
    let t = table(rng);
    let other = table(rng);
    let n = rng.below(100);
    match rng.below(44) {
        0..=3 => create(&t, rng, ground),
        4..=10 => fill(&t, rng),
        11..=13 => format!("update {t} set k = k + 1 where k % 10 = {}", n % 10),
        14 => format!("update {t} set body = body || 'x' where id % 50 = {}", n % 50),
        15 | 16 => format!("delete from {t} where k = {n} or id % 13 = {}", n % 13),
        17 => format!("vacuum {t}"),
        18 => format!("vacuum (freeze, disable_page_skipping) {t}"),
        19 => format!("vacuum full {t}"),
        20 => format!("truncate {t}"),
        21 => format!("truncate {t}; {}", fill(&t, rng)),
        22 => format!("drop table {t}"),
        23 => format!("alter table {t} set {}", if rng.chance(400) { "unlogged" } else { "logged" }),
        24 => format!("alter table {t} set tablespace {}", space(rng, ground)),
        25 => format!("create index concurrently on {t}(k)"),
        26 => {
            let index = *rng.pick(&[
                "using hash(k)",
                "using gist(p)",
                "using spgist(r)",
                "using brin(id)",
                "using gin(to_tsvector('simple', left(body, 200)))",
                "(md5(body))",
            ]);
            format!("create index on {t} {index}")
        }
        27 => format!("reindex table {t}"),
        28 => format!("cluster {t} using {t}_pkey"),
        29 => format!(
            "begin; savepoint a; {}; savepoint b; delete from {t} where id % 3 = 0; rollback to b; release a; commit",
            fill(&t, rng)
        ),
        30 => format!("begin; {}; create table gone{n} as select * from {other}; rollback", fill(&t, rng)),
        31 => format!("begin; {}; prepare transaction 'p{}'", fill(&t, rng), n % 3),
        32 | 33 => format!("commit prepared 'p{}'", n % 3),
        34 => format!("rollback prepared 'p{}'", n % 3),
        35 => format!("select lo_from_bytea({n}, decode(repeat(md5('{n}'), 300), 'hex'))"),
        36 => format!("select lo_put({n}, {}, '\\x0102030405060708')", n * 50),
        37 => format!("select lo_unlink({n})"),
        // More than 64 subtransactions overflow the snapshot's list.
        38 => format!(
            "do $$ begin for i in 1..80 loop begin update {t} set k = k + 1 where id = i; exception when others then null; end; end loop; end $$"
        ),
        // Locks and an update by a subtransaction make multixacts.
        39 => format!(
            "begin; select count(*) from (select from {t} where k < 20 for key share) x; savepoint s; update {t} set k = k where k < 5; commit"
        ),
        40 => format!("alter table {t} add column c{n} text default md5(random()::text)"),
        41 => format!(
            "drop materialized view if exists m{n}; create materialized view m{n} as select k, count(*) from {t} group by 1; refresh materialized view m{n}"
        ),
        42 => format!("analyze {t}; select count(*) from {t} where k = {n}"),
        _ => format!("begin; truncate {t}; copy (select 1) to '/dev/null'; {}; commit", fill(&t, rng)),
    }
}

/// A step that concerns the whole cluster.
fn cluster_step(rng: &mut TestRng, ground: Ground) -> String {
    let database = *rng.pick(&DATABASES);
    let template = *rng.pick(&["template0", "template1", "one", "two"]);
    match rng.below(11) {
        0 | 1 => format!("create database {database} template {template} strategy file_copy"),
        2 | 3 => format!("create database {database} template {template} strategy wal_log"),
        4 => format!(
            "create database {database} template template0 strategy file_copy tablespace {}",
            ground.linked_space
        ),
        5 => format!("drop database {database} with (force)"),
        6 => format!("alter database {database} set tablespace {}", space(rng, ground)),
        7 => format!(
            "set allow_in_place_tablespaces = on; create tablespace inplace{} location ''",
            rng.below(2)
        ),
        8 => format!("drop tablespace inplace{}", rng.below(2)),
        9 => "checkpoint".to_owned(),
        _ => "select pg_switch_wal()".to_owned(),
    }
}

fn create(t: &str, rng: &mut TestRng, ground: Ground) -> String {
    let (unlogged, fill) = (rng.chance(150), rng.range(50, 101));
    let unlogged = if unlogged { "unlogged " } else { "" };
    format!(
        "create {unlogged}table {t}(id int primary key, k int, body text, p point, r int4range) \
         with (fillfactor = {fill}) tablespace {}",
        space(rng, ground)
    )
}

/// A database to begin with, and every table in two of them: most steps find something to do.
pub fn begin(pg: &Cluster, rng: &mut TestRng, ground: Ground) {
    pg.sql("postgres", "create tablespace inplace0 location '';\ncreate tablespace inplace1 location '';");
    pg.sql("postgres", "create database one");
    for database in ["postgres", "one"] {
        for n in 0..TABLES {
            let t = format!("t{n}");
            let made = create(&t, rng, ground);
            pg.sql(database, &format!("{made};\n{};", fill(&t, rng)));
        }
    }
}

/// Runs a number of random steps, a batch of them for each database that there is.
pub fn run(pg: &Cluster, rng: &mut TestRng, steps: u64, ground: Ground) {
    let mut left = steps;
    while left > 0 {
        let existing = pg.sql(
            "postgres",
            "select datname from pg_database where datallowconn and datconnlimit <> -2 and not datistemplate order by 1",
        );
        let existing: Vec<&str> = existing.lines().collect();
        let mut script = String::from(
            // A prepared transaction keeps its locks: nobody waits for it.
            "\\set ON_ERROR_STOP off\nset client_min_messages = fatal; set lock_timeout = '200ms'; set statement_timeout = '10s';\n",
        );
        let batch = rng.range(4, 13).min(left);
        left -= batch;
        let database = if rng.chance(350) {
            for _ in 0..batch.min(3) {
                let step = cluster_step(rng, ground);
                let _ = writeln!(script, "{step};");
            }
            "postgres"
        } else {
            for _ in 0..batch {
                // After a failed transaction block the rest goes on.
                let _ = writeln!(script, "{};\nrollback;", step(rng, ground));
            }
            *rng.pick(&existing)
        };
        let _ = pg.try_sql(database, &script).unwrap_or_else(|error| panic!("{script}\n{error}"));
    }
}

/// What pgbench's clients do meanwhile.
pub fn load_script() -> &'static str {
    "\\set id random(1, 3000)\n\
     begin;\n\
     insert into load(id, n, body) values (:id, 1, repeat('l', 50)) on conflict (id) do update set n = load.n + 1;\n\
     savepoint s;\n\
     update load set body = md5(:id::text) where id = :id + 1;\n\
     rollback to s;\n\
     delete from load where id = :id + 2;\n\
     commit;\n"
}
