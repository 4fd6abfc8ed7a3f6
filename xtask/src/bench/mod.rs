//! `xtask bench`: Holdfast and pgBackRest side by side, in one run, on one disk.
//!
//! Rounds are interleaved and start with another program each time, every job gets fresh storage, a
//! checkpoint and three seconds of rest before, and medians are reported. `bench/README.md` says what
//! is measured how.

pub mod dataset;
mod listing;
mod managed;
mod measure;
mod report;
mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_testkit::{Cluster, Scratch};
use serde_json::{Value, json};

use dataset::{Dataset, fresh, remove, tree_bytes};
use measure::Measured;
use tools::{Kind, Ours, Peer, Phases, Tool, archive_by, no_archive, settle};

const ROWS: [&str; 13] = [
    "full",
    "cold",
    "dense",
    "incremental",
    "touched",
    "restore",
    "chain",
    "wal-push",
    "wal-get",
    "memory",
    "large",
    "listing",
    "managed",
];
/// Rows that are only measured when they are asked for: they take long, or much disk.
const ON_REQUEST: [&str; 4] = ["chain", "large", "listing", "managed"];
const GB: u64 = 1 << 30;
/// Incrementals between a full and the restore of `chain`.
const CHAIN: usize = 200;

/// What was measured: row, program, quantity, one value per round.
#[derive(Debug, Default)]
pub struct Results(BTreeMap<String, BTreeMap<String, BTreeMap<String, Vec<f64>>>>);

impl Results {
    fn add(&mut self, row: &str, who: &str, what: &str, value: f64) {
        let quantities = self.0.entry(row.into()).or_default().entry(who.into()).or_default();
        quantities.entry(what.into()).or_default().push(value);
    }

    fn add_run(&mut self, row: &str, who: &str, m: &Measured) {
        self.add(row, who, "wall", m.wall);
        self.add(row, who, "cpu", m.cpu);
        self.add(row, who, "memory", m.peak_memory as f64);
        if row != "wal-push" && row != "wal-get" {
            println!(
                "  {row:12} {who:16} {:7.2} s  cpu {:6.2} s  {:5.0} MB",
                m.wall,
                m.cpu,
                m.peak_memory as f64 / 1e6
            );
        }
    }

    fn add_phases(&mut self, row: &str, who: &str, p: Phases) {
        self.add(row, who, "checkpoint", p.checkpoint);
        self.add(row, who, "copy", p.copy);
        self.add(row, who, "wal", p.wal);
    }

    /// The median over the rounds.
    pub fn median(&self, row: &str, who: &str, what: &str) -> Option<f64> {
        let mut values = self.0.get(row)?.get(who)?.get(what)?.clone();
        values.sort_by(f64::total_cmp);
        let n = values.len();
        let (a, b) = (values.get(n.checked_sub(1)? / 2)?, values.get(n / 2)?);
        Some((a + b) / 2.0)
    }

    /// Smallest and largest.
    pub fn range(&self, row: &str, who: &str, what: &str) -> Option<(f64, f64)> {
        let values = self.0.get(row)?.get(who)?.get(what)?;
        Some((values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?))
    }

    fn has(&self, row: &str) -> bool {
        self.0.contains_key(row)
    }

    fn to_json(&self) -> Value {
        json!(self.0)
    }

    fn read(value: &Value) -> Option<Results> {
        let mut out = Results::default();
        for (row, programs) in value.as_object()? {
            for (who, quantities) in programs.as_object()? {
                for (what, values) in quantities.as_object()? {
                    for v in values.as_array()? {
                        out.add(row, who, what, v.as_f64()?);
                    }
                }
            }
        }
        Some(out)
    }
}

#[derive(Debug)]
struct Options {
    gib: f64,
    rounds: usize,
    quick: bool,
    only: Option<Vec<String>>,
    write: bool,
    /// Compression of the denser setting; its frames have 1 MiB.
    dense: String,
}

impl Options {
    fn parse(args: &[String]) -> Result<Options> {
        let mut o =
            Options { gib: 3.0, rounds: 0, quick: false, only: None, write: false, dense: "zstd:1".into() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--size" => o.gib = value()?.parse().context("--size GIB")?,
                "--rounds" => o.rounds = value()?.parse().context("--rounds N")?,
                "--quick" => o.quick = true,
                "--write" => o.write = true,
                "--dense" => value()?.clone_into(&mut o.dense),
                "--only" => o.only = Some(value()?.split(',').map(str::to_owned).collect()),
                other => bail!("`{other}` is not an option of bench"),
            }
        }
        for row in o.only.iter().flatten() {
            ensure!(ROWS.contains(&row.as_str()), "`{row}` is not a row; rows are {}", ROWS.join(", "));
        }
        if o.rounds == 0 {
            o.rounds = if o.quick { 3 } else { 5 };
        }
        Ok(o)
    }

    fn wants(&self, row: &str) -> bool {
        match &self.only {
            None => !ON_REQUEST.contains(&row),
            Some(only) => only.iter().any(|r| r == row),
        }
    }

    fn complete(&self) -> bool {
        self.only.is_none()
    }
}

/// One run.
struct Bench {
    o: Options,
    set: Dataset,
    scratch: Scratch,
    cluster: Cluster,
    run: PathBuf,
    cores: usize,
    results: Results,
    notes: Vec<String>,
}

pub fn run(args: &[String]) -> Result<()> {
    let o = Options::parse(args)?;
    if o.only.as_ref().is_some_and(|only| only.len() == 1 && only[0] == "managed") {
        return managed::run(&mut Results::default(), o.rounds);
    }
    ensure!(!o.wants("managed"), "`managed` is measured by itself: --only managed");
    let peer = Peer::version()?;
    let root = dataset::root()?;
    let lock = fs::File::create(root.join("lock"))?;
    lock.try_lock().map_err(|e| anyhow::anyhow!("another benchmark uses {}: {e}", root.display()))?;
    let load_before = load();
    let set = Dataset::provide(o.gib)?;
    let run = root.join("run");
    fresh(&run)?;
    let scratch = Scratch::new("bench");
    let cluster = set.start(&scratch);
    let cores = std::thread::available_parallelism()?.get();
    let mut b =
        Bench { o, set, scratch, cluster, run, cores, results: Results::default(), notes: Vec::new() };
    // The first file of a fresh start would otherwise be part of the first round.
    no_archive(&b.cluster);
    let outcome = b.rounds().and_then(|()| b.wal()).and_then(|()| b.memory());
    let outcome = outcome.and_then(|()| b.chain()).and_then(|()| b.large());
    let outcome = outcome.and_then(|()| match b.o.wants("listing") {
        true => listing::run(&mut b.results, &b.scratch, b.o.rounds),
        false => Ok(()),
    });
    archive_by(&b.cluster, "/bin/true");
    remove(&b.run)?;
    outcome?;

    let facts = b.facts(&peer, &load_before);
    let path = repository().join("target/bench.json");
    let mut results = b.results;
    let mut facts = facts;
    if !b.o.complete() && b.o.write {
        // Rows of an earlier run stay, and their facts.
        if let Some(old) = fs::read(&path).ok().and_then(|t| serde_json::from_slice::<Value>(&t).ok()) {
            if let Some(mut all) = Results::read(&old["rows"]) {
                all.0.append(&mut results.0);
                results = all;
            }
            let mut notes: Vec<Value> = old["facts"]["notes"].as_array().cloned().unwrap_or_default();
            notes.push(json!(format!(
                "measured by themselves later: {}",
                b.o.only.iter().flatten().cloned().collect::<Vec<_>>().join(", ")
            )));
            facts = old["facts"].clone();
            if b.o.wants("dense") {
                facts["dense"] = json!(b.o.dense);
            }
            facts["notes"] = json!(notes);
        }
    }
    let text = report::markdown(&facts, &results);
    println!("\n{text}");
    if b.o.complete() || b.o.write {
        fs::create_dir_all(repository().join("target"))?;
        fs::write(
            &path,
            serde_json::to_string_pretty(&json!({ "facts": facts, "rows": results.to_json() }))?,
        )?;
        write_section("bench", &text)?;
        println!("written to docs/benchmarks.md and {}", path.display());
    }
    Ok(())
}

impl Bench {
    fn wants_any(&self, rows: &[&str]) -> bool {
        rows.iter().any(|r| self.o.wants(r))
    }

    fn rounds(&mut self) -> Result<()> {
        if !self.wants_any(&["full", "cold", "dense", "incremental", "touched", "restore"]) {
            return Ok(());
        }
        for round in 0..self.o.rounds {
            println!("round {} of {}", round + 1, self.o.rounds);
            let mut order = ["holdfast", "pgbackrest", "dense"];
            if round % 2 == 1 {
                order.reverse();
            }
            for who in order {
                if who == "dense" && !self.o.wants("dense") {
                    continue;
                }
                if who == "pgbackrest"
                    && !self.wants_any(&["full", "cold", "incremental", "touched", "restore", "dense"])
                {
                    continue;
                }
                if who == "holdfast"
                    && !self.wants_any(&["full", "cold", "incremental", "touched", "restore"])
                {
                    continue;
                }
                self.backups(who)?;
            }
            if self.o.wants("restore") {
                let to = self.run.join("plain");
                settle(&self.cluster, &self.run)?;
                let m = tools::plain_copy(&self.set.data, &to)?;
                self.results.add_run("restore", "plain", &m);
                remove(&to)?;
            }
        }
        Ok(())
    }

    fn tool(&self, who: &str) -> Result<Box<dyn Tool>> {
        let dir = self.run.join(who);
        no_archive(&self.cluster);
        let dense = Some(self.o.dense.as_str()).filter(|_| who == "dense");
        let tool: Box<dyn Tool> = match who {
            "pgbackrest" => Box::new(Peer::fresh(&dir, &self.cluster, self.cores)?),
            _ => Box::new(Ours::fresh(&self.scratch, &dir, &self.cluster, dense)?),
        };
        archive_by(&self.cluster, &tool.archive_command());
        // The first segment shows that archiving works, and is not part of what is measured.
        self.cluster.wait_archived();
        Ok(tool)
    }

    fn backups(&mut self, who: &str) -> Result<()> {
        let tool = self.tool(who)?;
        settle(&self.cluster, &self.run)?;
        let before = tool.stored();
        let (m, p) = tool.backup(Kind::Full)?;
        self.results.add_run("full", who, &m);
        self.results.add_phases("full", who, p);
        self.results.add("full", who, "stored", (tool.stored() - before) as f64);
        if who != "dense" {
            if self.o.wants("incremental") {
                settle(&self.cluster, &self.run)?;
                let before = tool.stored();
                let (m, p) = tool.backup(Kind::Incremental)?;
                self.results.add_run("incremental", who, &m);
                self.results.add_phases("incremental", who, p);
                self.results.add("incremental", who, "stored", (tool.stored() - before) as f64);
            }
            if self.o.wants("touched") {
                let pages = dataset::touch(&self.cluster, 100);
                settle(&self.cluster, &self.run)?;
                self.cluster.wait_archived();
                let before = tool.stored();
                let (m, p) = tool.backup(Kind::Incremental)?;
                self.results.add_run("touched", who, &m);
                self.results.add_phases("touched", who, p);
                self.results.add("touched", who, "stored", (tool.stored() - before) as f64);
                self.results.add("touched", who, "pages", pages as f64);
            }
            if self.o.wants("restore") {
                let to = self.run.join(format!("restored-{who}"));
                remove(&to)?;
                settle(&self.cluster, &self.run)?;
                let m = tool.restore(&to)?;
                self.results.add_run("restore", who, &m);
                self.results.add("restore", who, "bytes", tree_bytes(&to) as f64);
                remove(&to)?;
            }
            if self.o.wants("cold") {
                settle(&self.cluster, &self.run)?;
                if tools::drop_caches() {
                    let (m, p) = tool.backup(Kind::Full)?;
                    self.results.add_run("cold", who, &m);
                    self.results.add_phases("cold", who, p);
                } else if !self.notes.iter().any(|n| n.contains("cache")) {
                    self.notes.push("cold cache: skipped, dropping the page cache needs root".into());
                }
            }
        }
        no_archive(&self.cluster);
        drop(tool);
        remove(&self.run.join(who))
    }

    fn wal(&mut self) -> Result<()> {
        if !self.wants_any(&["wal-push", "wal-get"]) {
            return Ok(());
        }
        println!("WAL segments");
        no_archive(&self.cluster);
        let ours = Ours::fresh(&self.scratch, &self.run.join("holdfast"), &self.cluster, None)?;
        let peer = Peer::fresh(&self.run.join("pgbackrest"), &self.cluster, self.cores)?;
        let both: [(&str, &dyn Tool); 2] = [("holdfast", &ours), ("pgbackrest", &peer)];
        let segments = self.set.segment_files()?;
        settle(&self.cluster, &self.run)?;
        for (i, segment) in segments.iter().enumerate() {
            for k in 0..2 {
                let (who, tool) = both[(i + k) % 2];
                let before = tool.stored();
                let m = tool.push(segment)?;
                self.results.add_run("wal-push", who, &m);
                self.results.add("wal-push", who, "stored", (tool.stored() - before) as f64);
            }
        }
        if self.o.wants("wal-get") {
            let dir = self.run.join("got");
            fresh(&dir)?;
            settle(&self.cluster, &self.run)?;
            let names: Vec<String> =
                segments.iter().filter_map(|s| Some(s.file_name()?.to_str()?.to_owned())).collect();
            let dest = dir.join("RECOVERYXLOG");
            for (i, name) in names.iter().enumerate() {
                for k in 0..2 {
                    let (who, tool) = both[(i + k) % 2];
                    let m = tool.get(name, &dest)?;
                    self.results.add_run("wal-get", who, &m);
                    same(&dest, &self.set.segments.join(name))?;
                    fs::remove_file(&dest)?;
                }
            }
            let system = self.cluster.control("Database system identifier");
            for name in &names {
                let m = ours.get_ahead(&system, name, &dest)?;
                self.results.add_run("wal-get", "prefetch", &m);
                same(&dest, &self.set.segments.join(name))?;
                fs::remove_file(&dest)?;
                // As long as replaying a segment may take.
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        }
        remove(&self.run.join("holdfast"))?;
        remove(&self.run.join("pgbackrest"))
    }

    /// Backup and restore of one relation of 1 and of 10 GiB: only memory is of interest.
    fn memory(&mut self) -> Result<()> {
        if !self.o.wants("memory") {
            return Ok(());
        }
        for gib in [1_u64, 10] {
            if gib == 10 && self.o.quick && self.o.only.is_none() {
                self.notes.push("memory at 10 GiB: skipped by --quick".into());
                continue;
            }
            let (need, free) = (gib * 3 * GB, free_bytes(&self.run)?);
            if free < need + 5 * GB {
                self.notes.push(format!(
                    "memory at {gib} GiB: skipped, the disk has only {} GB free",
                    free / 1_000_000_000
                ));
                continue;
            }
            let (version, data) = dataset::one_relation(gib)?;
            let cluster = dataset::serving(&self.scratch, version, &data);
            let dir = self.run.join("memory");
            no_archive(&cluster);
            let ours = Ours::fresh(&self.scratch, &dir, &cluster, None)?;
            archive_by(&cluster, &ours.archive_command());
            cluster.wait_archived();
            println!("memory, {gib} GiB");
            let row = format!("memory-{gib}");
            let (m, _) = ours.backup(Kind::Full)?;
            self.results.add_run(&row, "backup", &m);
            let to = self.run.join("restored");
            let m = ours.restore(&to)?;
            self.results.add_run(&row, "restore", &m);
            archive_by(&cluster, "/bin/true");
            drop(cluster);
            remove(&to)?;
            remove(&dir)?;
        }
        Ok(())
    }

    /// A restore after many incrementals, beside one of a fresh full of the same database.
    fn chain(&mut self) -> Result<()> {
        if !self.o.wants("chain") {
            return Ok(());
        }
        println!("{CHAIN} incrementals, each after touching 1 page in 200");
        no_archive(&self.cluster);
        let ours = Ours::fresh(&self.scratch, &self.run.join("holdfast"), &self.cluster, None)?;
        archive_by(&self.cluster, &ours.archive_command());
        self.cluster.wait_archived();
        ours.backup(Kind::Full)?;
        for n in 1..=CHAIN {
            dataset::touch(&self.cluster, 200);
            let (m, p) = ours.backup(Kind::Incremental)?;
            self.results.add("chain", "incremental", "copy", p.copy);
            if n % 20 == 0 {
                println!("  {n}: {:.2} s, copy {:.2} s", m.wall, p.copy);
            }
        }
        let to = self.run.join("restored");
        let restore = |b: &mut Bench, who: &str| -> Result<()> {
            remove(&to)?;
            settle(&b.cluster, &b.run)?;
            let m = ours.restore(&to)?;
            b.results.add_run("chain", who, &m);
            remove(&to)
        };
        for _ in 0..self.o.rounds {
            restore(self, "holdfast")?;
        }
        ours.backup(Kind::Full)?;
        for _ in 0..self.o.rounds {
            restore(self, "fresh")?;
        }
        no_archive(&self.cluster);
        drop(ours);
        remove(&self.run.join("holdfast"))
    }

    /// Incrementals of a quiet database of 30 GiB.
    fn large(&mut self) -> Result<()> {
        if !self.o.wants("large") {
            return Ok(());
        }
        let free = free_bytes(&self.run)?;
        let need = if dataset::has_relation(30)? { 15 * GB } else { 48 * GB };
        if free < need {
            self.notes.push(format!("30 GiB: skipped, the disk has only {} GB free", free / 1_000_000_000));
            return Ok(());
        }
        let (version, data) = dataset::one_relation(30)?;
        let cluster = dataset::serving(&self.scratch, version, &data);
        let dir = self.run.join("large");
        no_archive(&cluster);
        let ours = Ours::fresh(&self.scratch, &dir, &cluster, None)?;
        archive_by(&cluster, &ours.archive_command());
        cluster.wait_archived();
        println!("30 GiB");
        ours.backup(Kind::Full)?;
        for _ in 0..self.o.rounds {
            settle(&cluster, &self.run)?;
            let (m, p) = ours.backup(Kind::Incremental)?;
            self.results.add_run("large", "holdfast", &m);
            self.results.add_phases("large", "holdfast", p);
        }
        archive_by(&cluster, "/bin/true");
        drop(cluster);
        remove(&dir)
    }

    fn facts(&self, peer: &str, load_before: &str) -> Value {
        let holdfast = Command::new(holdfast_testkit::binary::locate()).arg("--version").output();
        let holdfast =
            holdfast.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default();
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find_map(|l| l.strip_prefix("model name"))
            .map_or("unknown processor", |m| m.trim_start_matches(['\t', ' ', ':']));
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory: u64 = memory
            .lines()
            .find_map(|l| l.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
            .unwrap_or(0);
        let said = |program: &str, args: &[&str]| {
            let out = Command::new(program).args(args).output();
            out.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
        };
        json!({
            "when": jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            "holdfast": holdfast, "pgbackrest": peer, "postgres": self.set.version.full_version(),
            "cores": self.cores, "cpu": model, "memory_gib": memory >> 20,
            "kernel": said("uname", &["-r"]),
            "filesystem": said("stat", &["-f", "-c", "%T", &self.run.parent().unwrap_or(Path::new("/")).to_string_lossy()]),
            "rounds": self.o.rounds, "dense": self.o.dense, "data_bytes": tree_bytes(&self.set.data.join("base")),
            "load_before": load_before, "load_after": load(), "notes": self.notes,
        })
    }
}

fn same(a: &Path, b: &Path) -> Result<()> {
    ensure!(fs::read(a)? == fs::read(b)?, "{} is not {}", a.display(), b.display());
    Ok(())
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}

fn free_bytes(dir: &Path) -> Result<u64> {
    let out = Command::new("df").args(["--output=avail", "-B1"]).arg(dir).output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    text.lines().nth(1).and_then(|l| l.trim().parse().ok()).context("df")
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Replaces a section of docs/benchmarks.md, which is marked by two comments.
pub fn write_section(name: &str, text: &str) -> Result<()> {
    let path = repository().join("docs/benchmarks.md");
    let old = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => report::TEMPLATE.to_owned(),
        Err(e) => return Err(e).context("docs/benchmarks.md"),
    };
    let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
    let split = old.split_once(&begin).and_then(|(head, rest)| Some((head, rest.split_once(&end)?.1)));
    let (head, tail) = split.with_context(|| format!("docs/benchmarks.md lacks `{begin}` … `{end}`"))?;
    fs::write(&path, format!("{head}{begin}\n\n{}\n\n{end}{tail}", text.trim())).context("docs/benchmarks.md")
}
