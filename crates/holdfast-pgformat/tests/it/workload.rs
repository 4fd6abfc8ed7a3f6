//! A random mix of what changes files: rows, tables, indexes, databases, tablespaces, vacuum, truncation.

use std::fmt::Write as _;

/// A small generator; the same numbers for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed ^ 0x9E37_79B9_7F4A_7C15)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Of `HOLDFAST_SEED`, or a new one; it is printed.
#[allow(clippy::print_stderr)]
pub fn seed() -> u64 {
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_nanos() as u64 >> 10);
    let seed = std::env::var("HOLDFAST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(now);
    eprintln!("HOLDFAST_SEED={seed}");
    seed
}

/// What every history starts from.
pub const BEGIN: &str = "
set allow_in_place_tablespaces = on;
create tablespace place location '';
create extension if not exists pageinspect;
create table fixed (id int primary key, a text, b int[], p point, n int) with (fillfactor = 80);
create index on fixed using gin (b);
create index on fixed using gist (p);
create index on fixed using spgist (p);
create index on fixed using hash (n);
create index on fixed using brin (id);
create unlogged table u (x int primary key);
create sequence s;
insert into fixed select i, repeat(md5(i::text), 3), array[i % 7, i % 13, i], point(i, -i), i % 50
    from generate_series(1, 5000) i;
insert into u select generate_series(1, 1000);
create table still as select i id, repeat('s', 200) v from generate_series(1, 4000) i;
create table t0 (id int, v text);
create table t1 (id int primary key, v text) tablespace place;
";

/// Statements, some of which may fail.
/// Without `rewrites`, the files of the lasting tables stay what they are.
pub fn statements(random: &mut Random, count: u32, rewrites: bool) -> String {
    let mut s = String::from(
        "\\set ON_ERROR_STOP 0\nset client_min_messages = fatal;\nset lock_timeout = '50ms';\nset allow_in_place_tablespaces = on;\n",
    );
    for _ in 0..count {
        one(random, &mut s, rewrites);
    }
    s
}

fn one(r: &mut Random, s: &mut String, rewrites: bool) {
    let t = r.below(6);
    let (a, n) = (r.below(20_000), 1 + r.below(400));
    let place = if r.below(4) == 0 { "place" } else { "pg_default" };
    let _ = match r.below(38) {
        0..=2 => writeln!(s, "create table t{t} (id int, v text) tablespace {place};"),
        3 => writeln!(
            s,
            "create table t{t} (id int primary key, v text); insert into t{t} select i, md5(i::text) from generate_series(1, {n}) i;"
        ),
        4 => writeln!(s, "drop table t{t};"),
        5..=7 => writeln!(
            s,
            "insert into t{t} select i, repeat('x', i % 300) from generate_series({a}, {a} + {n} * 5) i;"
        ),
        8..=10 => writeln!(
            s,
            "update fixed set n = n + 1, a = a || 'y' where id between {} and {};",
            a % 5000,
            a % 5000 + n / 4
        ),
        11 => writeln!(s, "delete from fixed where id between {} and {};", a % 5000, a % 5000 + n / 8),
        12 => writeln!(
            s,
            "insert into fixed select i, 'z', array[i], point(i, i), i from generate_series({a} + 100000, {a} + 100000 + {n}) i on conflict do nothing;"
        ),
        13 => writeln!(s, "delete from t{t} where id > {a};\nvacuum t{t};"),
        14 => writeln!(s, "vacuum (freeze) fixed;"),
        15 => writeln!(s, "truncate t{t};"),
        16 => writeln!(s, "begin; truncate t{t}; insert into t{t} values (1, 'q'); rollback;"),
        17 => writeln!(
            s,
            "begin; truncate t{t}; insert into t{t} select i, 'q' from generate_series(1, {n}) i; commit;"
        ),
        18 => writeln!(s, "create index on t{t} (id);"),
        19 => writeln!(s, "alter table t{t} set tablespace {place};"),
        20 => writeln!(s, "create database d{t} strategy wal_log;"),
        21 => writeln!(s, "create database d{t} template template0 strategy file_copy;"),
        22 => writeln!(s, "drop database d{t};"),
        23 => writeln!(s, "alter database d{t} set tablespace {place};"),
        24 => writeln!(
            s,
            "begin; update fixed set n = n where id = {}; create table p{t} (x int); insert into p{t} select generate_series(1, {n}); prepare transaction 'g{t}';",
            a % 5000
        ),
        25 => writeln!(s, "commit prepared 'g{t}';"),
        26 => writeln!(s, "rollback prepared 'g{t}';"),
        27 => writeln!(s, "drop table p{t};"),
        28 => writeln!(s, "begin; drop table p{t}; drop table t{t}; prepare transaction 'g{t}';"),
        29 => writeln!(
            s,
            "select pg_logical_emit_message({}, 'm', repeat('m', {}));",
            r.below(2) == 0,
            n * n * 3
        ),
        30 => writeln!(s, "checkpoint;"),
        31 | 32 if !rewrites => writeln!(
            s,
            "update still set v = v || 'a' where id % 37 = {};\ndelete from still where id between {} and {};",
            n % 37,
            a % 4000,
            a % 4000 + n / 20
        ),
        31 => writeln!(s, "reindex table fixed;"),
        32 => writeln!(s, "cluster fixed using fixed_pkey;"),
        33 => writeln!(
            s,
            "begin; savepoint a; create table gone (x int); insert into gone values (1); rollback to a; commit;"
        ),
        34 => writeln!(
            s,
            "select count(*) from fixed where n > {n}; select sum(id) from still; select nextval('s') from generate_series(1, {n});"
        ),
        35 => writeln!(s, "insert into t{t} values (1, repeat('w', {}));", n * 2000),
        36 => writeln!(s, "select pg_switch_wal();"),
        _ => writeln!(
            s,
            "create unlogged table un{t} (x int); insert into un{t} select generate_series(1, {n}); drop table if exists un{};",
            (t + 1) % 6
        ),
    };
}

/// So that no transaction stays prepared and a server may be stopped.
pub const END: &str = "\\set ON_ERROR_STOP 0
rollback prepared 'g0';
rollback prepared 'g1';
rollback prepared 'g2';
rollback prepared 'g3';
rollback prepared 'g4';
rollback prepared 'g5';
";
