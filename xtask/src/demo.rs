//! `make demo`: a shop takes orders, is backed up while it does, loses a table, and gets it back.
//!
//! What is proven, and how. The load never stops. Just before the disaster an auditor locks the
//! tables against writers for a moment, notes the digest of every row and the time, and lets go: at
//! that time, and at no other, the shop held exactly those rows. The disaster follows a second later,
//! and the shop is brought back to the auditor's time. Then
//!
//! * every row of the copy must be a row of the audit and the other way round, digest by digest;
//! * two cashiers kept a journal of their own, outside of the server: every order that the server
//!   had acknowledged by then must be in the copy, and none that was sent later may be.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_testkit::proc::{Guarded, Watchdog};
use holdfast_testkit::{Cluster, Holdfast, PgVersion, Scratch, StopMode};
use serde_json::Value;

const CUSTOMERS: u32 = 20_000;
const PRODUCTS: u32 = 2_000;
const ORDERS: u32 = 200_000;
const TABLES: [&str; 5] = ["orders", "order_items", "payments", "products", "customers"];

pub fn run() -> Result<()> {
    let start = Instant::now();
    let version = [PgVersion::V18, PgVersion::V17, PgVersion::V15].into_iter().find(|v| v.is_installed());
    let version = version.context("no PostgreSQL is installed; run scripts/setup.sh pg")?;
    let scratch = Scratch::new("demo");
    // Also when this process is killed: after the servers, which have watchdogs of their own.
    let dir = scratch.dir().display().to_string();
    let _cleaner = Watchdog::new("sleep 7; rm -rf \"$1\"", &[&dir]);

    title("A shop opens");
    let source = open_shop(&scratch, version)?;
    let hf = Holdfast::new(&scratch, scratch.path("holdfast.toml"));
    protect(&source, &hf, &scratch)?;
    let load = start_load(&source, &scratch)?;
    let cashiers = [Cashier::start(&source)?, Cashier::start(&source)?];
    say("customers are buying: 4 pgbench clients, and 2 cashiers who keep their own journal");
    std::thread::sleep(Duration::from_secs(2));

    title("A full backup, while the shop is open");
    backup(&hf, "--full", "opening day")?;
    std::thread::sleep(Duration::from_secs(3));

    title("More orders, then an incremental backup");
    backup(&hf, "--incremental", "after lunch")?;
    std::thread::sleep(Duration::from_secs(4));

    title("The audit");
    let audit = Fingerprint::take(&source, true)?;
    let at = audit.at.clone().context("the audit has no time")?;
    say(&format!("at {at} the shop held {} rows; the digest of each is noted", group(audit.rows() as u64)));
    std::thread::sleep(Duration::from_secs(1));

    title("The disaster");
    say("psql> DROP TABLE orders CASCADE;");
    source.sql("shop", "set client_min_messages = error; drop table orders cascade");
    let dropped_at = now_us();
    let archived = source.sql("postgres", "select last_archived_wal from pg_stat_archiver");
    drop(load);
    let journal: Vec<Sale> = cashiers.into_iter().flat_map(Cashier::stop).collect();
    let error =
        source.try_sql("shop", "select count(*) from orders").err().context("orders is still there")?;
    say("psql> SELECT count(*) FROM orders;");
    say(error.trim().lines().next().unwrap_or_default());

    title("Back to the second before");
    let decision = Instant::now();
    source.wait_archived();
    let wal_seconds = decision.elapsed().as_secs_f64();
    let target = scratch.path("copy");
    let to = target.to_string_lossy();
    let plan = hf.run(&["restore", "shop", "--to", &to, "--at", &at, "--plan"]).ok();
    say(&format!("holdfast restore shop --to {to} --at {at} --plan"));
    for line in plan.stdout.lines() {
        println!("    | {line}");
    }
    let restoring = Instant::now();
    let done = hf.run(&["--json", "--no-progress", "restore", "shop", "--to", &to, "--at", &at]).ok().json();
    let restore_seconds = restoring.elapsed().as_secs_f64();
    let starting = Instant::now();
    let mut copy = Cluster::from_data_dir(&scratch, "copy", version, &target);
    copy.wait_recovery_end(Duration::from_secs(60));
    let orders = copy.sql("shop", "select count(*) from orders");
    let start_seconds = starting.elapsed().as_secs_f64();
    let rto = decision.elapsed().as_secs_f64();
    say(&format!("the copy answers: {} orders", group(orders.parse().unwrap_or(0))));

    title("The proof");
    let there = Fingerprint::take(&copy, false)?;
    let mut faults = audit.compare(&there);
    let audit_us = audit.at_us;
    let (must, must_not) = check_journal(&journal, &there, audit_us, &mut faults);
    faults.extend(compare_schema(&source, &copy));
    if !faults.is_empty() {
        for fault in faults.iter().take(20) {
            println!("  MISMATCH: {fault}");
        }
        bail!("{} mismatches: the copy is not what was audited", faults.len());
    }
    say(&format!(
        "{} rows of {} tables: each one identical, none missing, none too many",
        group(there.rows() as u64),
        TABLES.len()
    ));
    say(&format!(
        "{} journalled orders acknowledged before the target: all there; {} sent after it: none there",
        group(must),
        group(must_not)
    ));
    copy.stop(StopMode::Fast);
    copy.check_checksums();
    say("every page checksum of the copy is right");

    title("Measured");
    report(&journal, &archived, audit_us, dropped_at, &done, &hf)?;
    say(&format!(
        "RTO achieved   {rto:.1} s from the decision to a server that answers with the data \
         (last WAL archived {wal_seconds:.1} s, restore {restore_seconds:.1} s, start and replay {start_seconds:.1} s)"
    ));
    say(&format!(
        "the whole demo took {:.0} s; its servers and files are removed now",
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}

// ---- the shop -----------------------------------------------------------------------------------

const SCHEMA: &str = "
create table customers (
    customer_id bigint generated always as identity primary key, name text not null, email text not null unique,
    city text not null, created_at timestamptz not null default now());
create table products (
    product_id bigint generated always as identity primary key, sku text not null unique, name text not null,
    price numeric(10,2) not null, stock bigint not null);
create table orders (
    order_id bigint generated always as identity primary key,
    customer_id bigint not null references customers, status text not null default 'new',
    note text, placed_at timestamptz not null default clock_timestamp());
create table order_items (
    order_item_id bigint generated always as identity primary key,
    order_id bigint not null references orders, product_id bigint not null references products,
    quantity int not null, price numeric(10,2) not null);
create table payments (
    payment_id bigint generated always as identity primary key, order_id bigint not null references orders,
    amount numeric(12,2) not null, method text not null, paid_at timestamptz not null default clock_timestamp());
";

const INDEXES: &str = "
create index on orders (customer_id);
create index on orders (placed_at);
create index on order_items (order_id);
create index on order_items (product_id);
create index on payments (order_id);
create view order_totals as
    select order_id, customer_id, sum(quantity * price) as total
    from orders join order_items using (order_id) group by order_id, customer_id;

-- The order of tables is that of the audit's locks: orders, order_items, payments, products.
create function place_order(customer bigint, product bigint) returns bigint language plpgsql as $$
declare o bigint; p numeric; begin
    insert into orders (customer_id, note) values (customer, 'cashier') returning order_id into o;
    select price into strict p from products where product_id = product;
    insert into order_items (order_id, product_id, quantity, price) values (o, product, 1, p);
    insert into payments (order_id, amount, method) values (o, p, 'cash');
    update products set stock = stock - 1 where product_id = product;
    return o;
end $$;
";

/// What pgbench's clients do.
const LOAD: &str = r"\set customer random(1, 20000)
\set product random(1, 2000)
\set other random(1, 2000)
\set quantity random(1, 5)
begin;
insert into orders (customer_id, note) values (:customer, 'web ' || md5(random()::text)) returning order_id \gset
insert into order_items (order_id, product_id, quantity, price)
    select :order_id, product_id, :quantity, price from products where product_id in (:product, :other);
insert into payments (order_id, amount, method)
    select :order_id, sum(quantity * price), 'card' from order_items where order_id = :order_id;
update products set stock = stock - :quantity where product_id = :product;
update orders set status = 'paid' where order_id = :order_id;
commit;
";

fn open_shop(scratch: &Scratch, version: PgVersion) -> Result<Cluster> {
    let cluster = Cluster::builder(scratch, "shop", version)
        .checksums(true)
        .fresh_initdb()
        .fsync(true)
        .setting("archive_mode", "on")
        .setting("archive_timeout", "10s")
        .setting("shared_buffers", "128MB")
        .setting("max_wal_size", "1GB")
        .start();
    let begin = Instant::now();
    cluster.sql("postgres", "create database shop");
    cluster.sql("shop", SCHEMA);
    cluster.sql(
        "shop",
        &format!(
            "insert into customers (name, email, city)
                 select 'Customer ' || i, 'c' || i || '@example.com', 'City ' || i % 500 from generate_series(1, {CUSTOMERS}) i;
             insert into products (sku, name, price, stock)
                 select 'SKU-' || i, 'Product ' || md5(i::text), (i % 9000) / 100.0 + 1, 100000 from generate_series(1, {PRODUCTS}) i;
             insert into orders (customer_id, status, note, placed_at)
                 select 1 + (i * 7919) % {CUSTOMERS}, 'paid', md5(i::text), now() - interval '1 minute' * ({ORDERS} - i)
                 from generate_series(1, {ORDERS}::bigint) i;
             insert into order_items (order_id, product_id, quantity, price)
                 select o, 1 + (o * 31 + n * 977) % {PRODUCTS}, n, n * 3.5 from generate_series(1, {ORDERS}::bigint) o, generate_series(1, 3) n;
             insert into payments (order_id, amount, method) select o, o % 500 + 0.99, 'card' from generate_series(1, {ORDERS}::bigint) o;"
        ),
    );
    cluster.sql("shop", INDEXES);
    cluster.sql("shop", "vacuum analyze");
    let size = cluster.sql("shop", "select pg_size_pretty(pg_database_size('shop'))");
    say(&format!(
        "PostgreSQL {version}, checksums on; {size} of customers, products, orders, items and payments ({:.1} s)",
        begin.elapsed().as_secs_f64()
    ));
    Ok(cluster)
}

/// `holdfast init`, and what it says the server needs.
fn protect(cluster: &Cluster, hf: &Holdfast, scratch: &Scratch) -> Result<()> {
    let vault = format!("file://{}", scratch.path("vault").display());
    let key = scratch.path("holdfast.key").display().to_string();
    let conninfo = format!("host={} port={} user=postgres", cluster.socket_dir().display(), cluster.port());
    let init = hf
        .run(&[
            "--json",
            "init",
            "--name",
            "shop",
            "--conninfo",
            &conninfo,
            "--vault",
            &vault,
            "--key-file",
            &key,
            "--yes",
        ])
        .ok()
        .json();
    let command = init["archive_command"].as_str().context("init gave no archive_command")?;
    cluster.sql(
        "postgres",
        &format!(
            "alter system set archive_command = '{}'; select pg_reload_conf()",
            command.replace('\'', "''")
        ),
    );
    say(&format!("holdfast init: an encrypted vault, a key, and archive_command = '{command}'"));
    cluster.wait_archived();
    Ok(())
}

fn start_load(cluster: &Cluster, scratch: &Scratch) -> Result<Guarded> {
    let script = scratch.write("orders.sql", LOAD);
    let log = std::fs::File::create(scratch.path("pgbench.log"))?;
    let mut pgbench = cluster.client("pgbench");
    pgbench.args(["-n", "-c", "4", "-T", "600", "-R", "200", "-f"]).arg(script).arg("shop");
    pgbench.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(Guarded::new(pgbench.spawn().context("start pgbench")?))
}

fn backup(hf: &Holdfast, kind: &str, note: &str) -> Result<()> {
    let b = hf.run(&["--json", "--no-progress", "backup", "shop", kind, "--note", note]).ok().json();
    let number =
        |field: &str| b[field].as_f64().with_context(|| format!("no `{field}` in the report of a backup"));
    let (size, stored, copy) = (number("size_bytes")?, number("stored_bytes")?, number("copy_seconds")?);
    ensure!(b["damaged"].as_array().is_some_and(Vec::is_empty), "damaged pages: {}", b["damaged"]);
    say(&format!(
        "point {}: {} read at {}/s, {} stored ({:.1} % of it)",
        b["id"].as_str().unwrap_or("?"),
        mb(size),
        mb(size / copy.max(0.001)),
        mb(stored),
        100.0 * stored / size
    ));
    say(&format!(
        "{:.1} s: checkpoint {:.1}, copy {copy:.1}, WAL {:.1}",
        number("seconds")?,
        number("checkpoint_seconds")?,
        number("wal_seconds")?
    ));
    Ok(())
}

// ---- the cashiers -------------------------------------------------------------------------------

/// One line of a journal. Times are microseconds since 1970, of this machine's clock.
#[derive(Debug, Clone)]
struct Sale {
    order: u64,
    sent: i64,
    acknowledged: i64,
    /// WAL position after the commit.
    lsn: u64,
}

/// A session that places one order after another, and writes down which were acknowledged.
struct Cashier {
    psql: Guarded,
    journal: Arc<Mutex<Vec<Sale>>>,
    thread: JoinHandle<()>,
}

impl Cashier {
    fn start(cluster: &Cluster) -> Result<Cashier> {
        let mut psql = cluster.client("psql");
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", "shop", "-f", "-"]);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut psql = Guarded::new(psql.spawn().context("start psql")?);
        let mut input = psql.child().stdin.take().context("psql has an input")?;
        let output = psql.child().stdout.take().context("psql has an output")?;
        let journal = Arc::new(Mutex::new(Vec::new()));
        let mine = Arc::clone(&journal);
        let thread = std::thread::spawn(move || {
            let mut lines = BufReader::new(output).lines();
            let mut n = u64::from(std::process::id());
            loop {
                n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (customer, product) = (n >> 33, n >> 40);
                let (customer, product) =
                    (1 + customer % u64::from(CUSTOMERS), 1 + product % u64::from(PRODUCTS));
                let sent = now_us();
                // psql shows a result only when the server has said that the statement, and so its
                // transaction, is complete.
                let text = format!(
                    "select place_order({customer}, {product});\nselect pg_current_wal_insert_lsn();\n"
                );
                if input.write_all(text.as_bytes()).and_then(|()| input.flush()).is_err() {
                    return;
                }
                let Some(order) = lines.next().and_then(Result::ok).and_then(|l| l.parse().ok()) else {
                    return;
                };
                let acknowledged = now_us();
                let Some(lsn) = lines.next().and_then(Result::ok).and_then(|l| lsn(&l)) else { return };
                if let Ok(mut journal) = mine.lock() {
                    journal.push(Sale { order, sent, acknowledged, lsn });
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Ok(Cashier { psql, journal, thread })
    }

    /// The journal. The session has ended by itself when there is no table any more.
    fn stop(mut self) -> Vec<Sale> {
        let ended = Instant::now();
        while !self.thread.is_finished() && ended.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.psql.kill9();
        let _ = self.thread.join();
        std::mem::take(&mut *self.journal.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

/// How many orders must be in the copy, and how many must not; adds what is wrong to `faults`.
fn check_journal(journal: &[Sale], copy: &Fingerprint, at: i64, faults: &mut Vec<String>) -> (u64, u64) {
    let orders = copy.table("orders");
    let has = |order: u64| orders.binary_search_by_key(&order, |row| row.0).is_ok();
    let (mut must, mut must_not) = (0, 0);
    for sale in journal {
        if sale.acknowledged <= at {
            must += 1;
            if !has(sale.order) {
                faults
                    .push(format!("order {} was acknowledged before the target and is missing", sale.order));
            }
        } else if sale.sent >= at {
            must_not += 1;
            if has(sale.order) {
                faults.push(format!("order {} was placed after the target and is there", sale.order));
            }
        }
    }
    if must == 0 || must_not == 0 {
        faults.push(format!(
            "the journal proves nothing: {must} orders before the target, {must_not} after it"
        ));
    }
    (must, must_not)
}

// ---- the audit ----------------------------------------------------------------------------------

/// The key and the digest of a row.
type Row = (u64, String);

/// Every row of every table, by its key.
struct Fingerprint {
    tables: Vec<(&'static str, Vec<Row>)>,
    /// When, as text for `--at` and in microseconds.
    at: Option<String>,
    at_us: i64,
}

impl Fingerprint {
    fn take(cluster: &Cluster, lock: bool) -> Result<Fingerprint> {
        let mut sql = String::from(
            "set timezone = 'UTC'; set datestyle = 'ISO';\nbegin isolation level repeatable read;\n",
        );
        if lock {
            // Waits for the writers that are under way; the snapshot is taken by the first query after.
            let _ = writeln!(sql, "lock table {} in share mode;", TABLES.join(", "));
        }
        for table in TABLES {
            let key = format!("{}_id", table.trim_end_matches('s'));
            let _ = writeln!(
                sql,
                "copy (select '{table}', {key}, md5(t::text) from {table} t order by {key}) to stdout;"
            );
        }
        sql.push_str(
            "select 'at', to_char(t at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
                 (extract(epoch from t) * 1000000)::bigint from clock_timestamp() t;\ncommit;",
        );
        let text = cluster.sql("shop", &sql);
        let mut found = Fingerprint { tables: TABLES.map(|t| (t, Vec::new())).into(), at: None, at_us: 0 };
        let mut current = 0;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("at|") {
                let (at, us) = rest.split_once('|').context("the time of the audit")?;
                (found.at, found.at_us) = (Some(at.to_owned()), us.parse()?);
                continue;
            }
            let mut fields = line.split('\t');
            let (Some(table), Some(key), Some(digest)) = (fields.next(), fields.next(), fields.next()) else {
                bail!("the audit answered `{line}`");
            };
            while found.tables.get(current).is_some_and(|t| t.0 != table) {
                current += 1;
            }
            let rows = &mut found.tables.get_mut(current).with_context(|| format!("what is `{table}`?"))?.1;
            rows.push((key.parse()?, digest.to_owned()));
        }
        Ok(found)
    }

    fn rows(&self) -> usize {
        self.tables.iter().map(|t| t.1.len()).sum()
    }

    fn table(&self, name: &str) -> &[Row] {
        self.tables.iter().find(|t| t.0 == name).map_or(&[], |t| &t.1)
    }

    /// What differs, row by row.
    fn compare(&self, copy: &Fingerprint) -> Vec<String> {
        let mut faults = Vec::new();
        for (table, rows) in &self.tables {
            let (mut a, mut b) = (rows.iter().peekable(), copy.table(table).iter().peekable());
            loop {
                match (a.peek(), b.peek()) {
                    (None, None) => break,
                    (Some(x), Some(y)) if x.0 == y.0 => {
                        if x.1 != y.1 {
                            faults.push(format!("{table}: row {} differs", x.0));
                        }
                        a.next();
                        b.next();
                    }
                    (Some(x), y) if y.is_none_or(|y| x.0 < y.0) => {
                        faults.push(format!("{table}: row {} is missing", x.0));
                        a.next();
                    }
                    (_, y) => {
                        faults.push(format!("{table}: row {} is too many", y.map_or(0, |y| y.0)));
                        b.next();
                    }
                }
            }
            if rows.is_empty() {
                faults.push(format!("{table}: the audit saw no rows"));
            }
        }
        faults
    }
}

/// What the drop took along besides rows.
fn compare_schema(source: &Cluster, copy: &Cluster) -> Vec<String> {
    let mut faults = Vec::new();
    let count = |c: &Cluster| {
        c.sql(
            "shop",
            "select (select count(*) from pg_constraint where contype = 'f'), (select count(*) from pg_views where schemaname = 'public')",
        )
    };
    if count(source) == "4|1" {
        faults.push("the drop took no foreign key and no view along".to_owned());
    }
    if count(copy) != "4|1" {
        faults.push(format!("foreign keys and views are {} instead of 4|1", count(copy)));
    }
    faults
}

// ---- words --------------------------------------------------------------------------------------

fn report(
    journal: &[Sale],
    archived: &str,
    audit: i64,
    dropped: i64,
    restore: &Value,
    hf: &Holdfast,
) -> Result<()> {
    let list = hf.run(&["--json", "list", "shop"]).ok().json();
    for p in list["points"].as_array().context("list has points")? {
        let number = |field: &str| p[field].as_f64().unwrap_or(0.0);
        say(&format!(
            "{:14} {} of data, {} stored",
            p["kind"].as_str().unwrap_or("?"),
            mb(number("size_bytes")),
            mb(number("stored_bytes"))
        ));
    }
    let (bytes, seconds) =
        (restore["bytes"].as_f64().unwrap_or(0.0), restore["seconds"].as_f64().unwrap_or(0.0));
    say(&format!("restore        {} in {seconds:.1} s, {}/s", mb(bytes), mb(bytes / seconds.max(0.001))));

    let given_up = journal.iter().filter(|s| s.acknowledged > audit).count();
    say(&format!(
        "RPO achieved   0 of {} journalled orders lost up to the target; the target lay {:.1} s before the drop \
         ({given_up} orders of that time are not in the copy, by choice)",
        group(journal.iter().filter(|s| s.acknowledged <= audit).count() as u64),
        (dropped - audit) as f64 / 1e6
    ));
    // Had the machine burned instead: what no finished segment held, as the journal saw it.
    let end = segment_end(archived).with_context(|| format!("`{archived}` is no segment"))?;
    let lost: Vec<&Sale> = journal.iter().filter(|s| s.lsn > end).collect();
    let since = lost.iter().map(|s| s.acknowledged).min().map_or(0.0, |first| (dropped - first) as f64 / 1e6);
    say(&format!(
        "               had the whole machine been lost at the drop: {} journalled orders, the last {:.1} s \
         (archive_timeout is 10 s)",
        lost.len(),
        since.max(0.0)
    ));
    Ok(())
}

/// The position after a segment of 16 MiB.
fn segment_end(name: &str) -> Option<u64> {
    let high = u64::from_str_radix(name.get(8..16)?, 16).ok()?;
    let low = u64::from_str_radix(name.get(16..24)?, 16).ok()?;
    Some((high << 32) + ((low + 1) << 24))
}

fn lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    Some((u64::from_str_radix(high, 16).ok()? << 32) + u64::from_str_radix(low, 16).ok()?)
}

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

fn title(text: &str) {
    println!("\n== {text}");
}

fn say(text: &str) {
    println!("   {text}");
}

fn mb(bytes: f64) -> String {
    if bytes < 1e6 { format!("{:.0} kB", bytes / 1e3) } else { format!("{:.1} MB", bytes / 1e6) }
}

/// 1234567 as `1,234,567`.
fn group(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}
