//! The table.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Results, listing};

pub const TEMPLATE: &str = "\
# Benchmarks

Holdfast against pgBackRest on the same machine, data and disk, in the same run: `make bench`. How each figure
is taken is in [bench/README.md](../bench/README.md). Figures of different runs do not compare: machines wobble.

## Side by side

<!-- bench:begin -->
<!-- bench:end -->

## Frame size and compression parameters

`cargo run --release -p xtask -- codec-trial` on the same data.

<!-- codec-trial:begin -->
<!-- codec-trial:end -->
";

const S: f64 = 1.0;
const MS: f64 = 1e3;

struct Table<'a> {
    r: &'a Results,
    out: String,
}

impl Table<'_> {
    /// A line with our figure and the peer's: in which unit, and the ratio that is asked for.
    fn line(
        &mut self,
        label: &str,
        ours: (&str, &str),
        theirs: (&str, &str),
        (what, scale, unit): (&str, f64, &str),
        target: Option<f64>,
    ) {
        let a = self.r.median(ours.0, ours.1, what);
        let b = self.r.median(theirs.0, theirs.1, what);
        let Some(a) = a else { return };
        let range = |who: (&str, &str)| {
            let range = self.r.range(who.0, who.1, what).filter(|(l, h)| *h > l * 1.005);
            range.map_or(String::new(), |(l, h)| format!(" ({}–{})", digits(l * scale), digits(h * scale)))
        };
        let (their_text, ratio) = match b {
            Some(b) => (format!("{} {unit}{}", digits(b * scale), range(theirs)), Some(a / b)),
            None => ("–".into(), None),
        };
        let shown = ratio.map_or("–".into(), |x| format!("{x:.2}"));
        let verdict = match (target, ratio) {
            (Some(t), Some(x)) => format!("≤ {t} {}", if x <= t { "met" } else { "**missed**" }),
            _ => String::new(),
        };
        let _ = writeln!(
            self.out,
            "| {label} | {} {unit}{} | {their_text} | {shown} | {verdict} |",
            digits(a * scale),
            range(ours)
        );
    }
}

pub fn markdown(facts: &Value, r: &Results) -> String {
    let text = |k: &str| facts[k].as_str().unwrap_or("?").to_owned();
    let number = |k: &str| facts[k].as_f64().unwrap_or(0.0);
    let mut t = Table { r, out: String::new() };
    let _ = writeln!(
        t.out,
        "{}, pgBackRest {} (zst level 3, bundles, block incremental, process-max {}, not encrypted), {}. \
         Holdfast encrypts. {} cores of {}, {} GiB, Linux {}, {}; {:.2} GB of relation files; median of {} rounds \
         (smallest–largest). {}; load average {} before, {} after.\n",
        text("holdfast"),
        text("pgbackrest").trim_start_matches("pgBackRest "),
        number("cores"),
        text("postgres"),
        number("cores"),
        text("cpu"),
        number("memory_gib"),
        text("kernel"),
        text("filesystem"),
        number("data_bytes") / 1e9,
        number("rounds"),
        text("when"),
        text("load_before"),
        text("load_after"),
    );
    t.out.push_str("| | Holdfast | pgBackRest | ratio | target |\n|---|---|---|---|---|\n");
    let (full, pfull) = (("full", "holdfast"), ("full", "pgbackrest"));
    let dense = ("full", "dense");
    t.line("full backup, default (zstd:1)", full, pfull, ("wall", S, "s"), Some(0.5));
    t.line("– checkpoint", full, pfull, ("checkpoint", S, "s"), None);
    t.line("– copy", full, pfull, ("copy", S, "s"), None);
    t.line("– stop and WAL", full, pfull, ("wal", S, "s"), None);
    t.line("– processor time", full, pfull, ("cpu", S, "s"), None);
    t.line("– peak memory", full, pfull, ("memory", 1e-6, "MB"), None);
    t.line("– stored", full, pfull, ("stored", 1e-6, "MB"), Some(1.15));
    t.line(
        &format!("full backup, dense ({}, 1 MiB frames)", text("dense")),
        dense,
        pfull,
        ("wall", S, "s"),
        Some(0.65),
    );
    t.line("– copy", dense, pfull, ("copy", S, "s"), None);
    t.line("– processor time", dense, pfull, ("cpu", S, "s"), None);
    t.line("– peak memory", dense, pfull, ("memory", 1e-6, "MB"), None);
    t.line("– stored", dense, pfull, ("stored", 1e-6, "MB"), Some(1.02));
    let (cold, pcold) = (("cold", "holdfast"), ("cold", "pgbackrest"));
    t.line("full backup, cold cache", cold, pcold, ("wall", S, "s"), None);
    t.line("– copy", cold, pcold, ("copy", S, "s"), None);
    let (inc, pinc) = (("incremental", "holdfast"), ("incremental", "pgbackrest"));
    t.line("incremental, nothing changed", inc, pinc, ("wall", S, "s"), Some(0.5));
    t.line("– copy", inc, pinc, ("copy", S, "s"), None);
    t.line("– processor time", inc, pinc, ("cpu", S, "s"), None);
    t.line("– stored", inc, pinc, ("stored", 1e-6, "MB"), None);
    let (touched, ptouched) = (("touched", "holdfast"), ("touched", "pgbackrest"));
    t.line("incremental, 1 % of the tables' pages touched", touched, ptouched, ("wall", S, "s"), None);
    t.line("– copy", touched, ptouched, ("copy", S, "s"), Some(0.1));
    t.line("– processor time", touched, ptouched, ("cpu", S, "s"), None);
    t.line("– stored", touched, ptouched, ("stored", 1e-6, "MB"), Some(0.5));
    restore(&mut t);
    if let (Some(a), Some(b)) = (r.median("chain", "holdfast", "wall"), r.median("chain", "fresh", "wall")) {
        let met = if a <= 1.3 * b { "met" } else { "**missed**" };
        let _ = writeln!(
            t.out,
            "| restore after 200 incrementals, each after touching 1 page in 200 | {} s | {} s from a fresh full | {:.2} of it | ≤ 1.3 {met} |",
            digits(a),
            digits(b),
            a / b
        );
    }
    if let (Some(copy), Some(cp), Some(wal)) = (
        r.median("large", "holdfast", "wall"),
        r.median("large", "holdfast", "checkpoint"),
        r.median("large", "holdfast", "wal"),
    ) {
        let rest = copy - cp - wal;
        let met = if rest < 0.5 { "met" } else { "**missed**" };
        let _ = writeln!(
            t.out,
            "| incremental, nothing changed, 30 GiB, besides checkpoint and WAL | {} s | – | – | < 0.5 s {met} |",
            digits(rest)
        );
    }
    for job in listing::JOBS {
        if let (Some(wall), Some(memory)) =
            (r.median("listing", job, "wall"), r.median("listing", job, "memory"))
        {
            let met = if wall < 2.0 && memory < 200e6 { "met" } else { "**missed**" };
            let _ = writeln!(
                t.out,
                "| `{job}` with {} points and {} segments | {} s, {} MB | – | – | < 2 s, < 200 MB {met} |",
                listing::POINTS,
                listing::SEGMENTS,
                digits(wall),
                digits(memory / 1e6)
            );
        }
    }
    let (push, ppush) = (("wal-push", "holdfast"), ("wal-push", "pgbackrest"));
    t.line("wal push, one segment", push, ppush, ("wall", MS, "ms"), Some(0.25));
    t.line("– processor time", push, ppush, ("cpu", MS, "ms"), None);
    t.line("– stored", push, ppush, ("stored", 1e-6, "MB"), None);
    let (get, pget) = (("wal-get", "holdfast"), ("wal-get", "pgbackrest"));
    t.line("wal get, one segment, no prefetch", get, pget, ("wall", MS, "ms"), Some(0.5));
    t.line("wal get in sequence, prefetch on", ("wal-get", "prefetch"), pget, ("wall", MS, "ms"), None);
    for (job, word) in [("backup", "full backup"), ("restore", "restore")] {
        for gib in [1, 10] {
            let row = format!("memory-{gib}");
            if let Some(m) = r.median(&row, job, "memory") {
                let verdict = if m < 300e6 { "met" } else { "**missed**" };
                let _ = writeln!(
                    t.out,
                    "| peak memory, {word} of one relation of {gib} GiB | {} MB | – | – | < 300 MB {verdict} |",
                    digits(m / 1e6)
                );
            }
        }
    }
    for note in facts["notes"].as_array().into_iter().flatten() {
        let _ = write!(t.out, "\n{}.\n", note.as_str().unwrap_or_default());
    }
    t.out
}

/// At most half of the peer, or at most 1.2 plain writes, whichever is longer.
fn restore(t: &mut Table<'_>) {
    let (ours, theirs) = (("restore", "holdfast"), ("restore", "pgbackrest"));
    if !t.r.has("restore") {
        return;
    }
    t.line("restore", ours, theirs, ("wall", S, "s"), None);
    // The target has two arms: said on a line of its own.
    let median = |who: &str| t.r.median("restore", who, "wall");
    if let (Some(a), Some(b), Some(plain)) = (median("holdfast"), median("pgbackrest"), median("plain")) {
        let met = a <= (0.5 * b).max(1.2 * plain);
        let _ = writeln!(
            t.out,
            "| – plain write and fsync of the same bytes | {} s | – | {:.2} of it | ≤ 0.5 of the peer or ≤ 1.2 of this {} |",
            digits(plain),
            a / plain,
            if met { "met" } else { "**missed**" }
        );
    }
    t.line("– processor time", ours, theirs, ("cpu", S, "s"), None);
    t.line("– peak memory", ours, theirs, ("memory", 1e-6, "MB"), None);
}

/// Three significant digits.
fn digits(x: f64) -> String {
    let places = if x >= 99.95 {
        0
    } else if x >= 9.995 {
        1
    } else {
        2
    };
    format!("{x:.places$}")
}
