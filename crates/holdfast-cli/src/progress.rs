//! Progress on stderr: a bar on a terminal, plain lines elsewhere, JSON lines with `--json`.

use holdfast_core::monitor::{Event, Monitor};
use holdfast_core::{ByteSize, time};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Set by Ctrl-C; long work looks at it.
pub static CANCELLED: AtomicBool = AtomicBool::new(false);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Bar,
    Lines,
    Json,
    /// Warnings only: what the server's log should see of `wal push`.
    Quiet,
}

impl Style {
    pub fn choose(json: bool, no_progress: bool) -> Self {
        if json {
            Style::Json
        } else if !no_progress && std::io::stderr().is_terminal() {
            Style::Bar
        } else {
            Style::Lines
        }
    }
}

#[derive(Debug)]
pub struct Progress {
    style: Style,
    verbose: bool,
    bar: ProgressBar,
    phase: Mutex<String>,
    done: AtomicU64,
    total: AtomicU64,
    begun: Mutex<Instant>,
    /// Milliseconds since `begun` of the last line.
    said: AtomicU64,
    no_lines: bool,
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

impl Progress {
    pub fn new(style: Style, verbose: bool, no_progress: bool) -> Self {
        let bar = match style {
            Style::Bar => ProgressBar::new(0),
            _ => ProgressBar::hidden(),
        };
        if style == Style::Bar
            && let Ok(s) = ProgressStyle::with_template(
                "{msg:24} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            )
        {
            bar.set_style(s.progress_chars("=> "));
        }
        Progress {
            style,
            verbose,
            bar,
            phase: Mutex::default(),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            begun: Mutex::new(Instant::now()),
            said: AtomicU64::new(0),
            no_lines: no_progress,
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn text(&self, line: &str) {
        if self.style == Style::Bar { self.bar.suspend(|| say(line)) } else { say(line) }
    }

    fn report(&self) {
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        let begun = *self.begun.lock().unwrap_or_else(|e| e.into_inner());
        let phase = self.phase.lock().unwrap_or_else(|e| e.into_inner()).clone();
        let seconds = begun.elapsed().as_secs_f64();
        if self.style == Style::Json {
            let line = json!({ "type": "progress", "phase": phase, "done_bytes": done, "total_bytes": total, "seconds": seconds });
            say(&line.to_string());
        } else if !self.no_lines {
            say(&format!(
                "{phase}: {} of about {} after {}",
                ByteSize(done),
                ByteSize(total.max(done)),
                time::human(begun.elapsed())
            ));
        }
    }
}

impl Monitor for Progress {
    fn event(&self, event: Event) {
        match event {
            Event::Phase(p) => {
                *self.phase.lock().unwrap_or_else(|e| e.into_inner()) = p.clone();
                *self.begun.lock().unwrap_or_else(|e| e.into_inner()) = Instant::now();
                self.done.store(0, Ordering::Relaxed);
                self.total.store(0, Ordering::Relaxed);
                self.said.store(0, Ordering::Relaxed);
                match self.style {
                    Style::Json => say(&json!({ "type": "phase", "text": p }).to_string()),
                    Style::Bar => {
                        self.bar.reset();
                        self.bar.set_length(0);
                        self.bar.set_message(p);
                    }
                    Style::Lines if !self.no_lines => say(&p),
                    _ => {}
                }
            }
            Event::Total(n) => {
                self.total.store(n, Ordering::Relaxed);
                self.bar.set_length(n);
            }
            Event::Info(t) => match self.style {
                Style::Json => say(&json!({ "type": "info", "text": t }).to_string()),
                Style::Quiet => {}
                _ if self.verbose || self.style == Style::Bar => self.text(&t),
                _ => self.text(&t),
            },
            Event::Warning(t) => match self.style {
                Style::Json => say(&json!({ "type": "warning", "text": t }).to_string()),
                _ => self.text(&format!("warning: {t}")),
            },
        }
    }

    fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        if self.style == Style::Bar {
            self.bar.inc(bytes);
            return;
        }
        if self.style == Style::Quiet {
            return;
        }
        let ms = {
            let begun = *self.begun.lock().unwrap_or_else(|e| e.into_inner());
            begun.elapsed().as_millis() as u64
        };
        let every =
            if self.style == Style::Json { 1_000 } else { Duration::from_secs(10).as_millis() as u64 };
        let last = self.said.load(Ordering::Relaxed);
        if ms >= last + every
            && self.said.compare_exchange(last, ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.report();
        }
    }

    fn cancelled(&self) -> bool {
        CANCELLED.load(Ordering::Relaxed)
    }
}
