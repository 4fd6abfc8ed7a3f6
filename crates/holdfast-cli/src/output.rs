//! The only place that writes to stdout: data for people as tables, for programs as one JSON document.

use holdfast_engine::Away;
use std::io::Write;

/// Prints one JSON document.
pub fn json(v: &impl serde::Serialize) {
    let text = serde_json::to_string_pretty(v).unwrap_or_else(|_| "{}".into());
    line(&text);
}

/// Prints a line. A reader that went away (`| head`) is no error.
pub fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints the vaults that gave no answer.
pub fn away(all: &[Away]) {
    for a in all {
        line(&format!("WARN {a}"));
    }
}

/// Prints rows with aligned columns; the first row is the heading.
pub fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for r in rows {
        let cells: Vec<String> = r.iter().zip(&widths).map(|(s, w)| format!("{s:w$}", w = *w)).collect();
        line(cells.join("  ").trim_end());
    }
}
