//! `xtask codec-trial`: which frame size and which parameters of zstd.
//!
//! Every frame is compressed by itself, as in a pack, by one thread. Speed is per second of processor
//! time of this thread, so other work on the machine disturbs it little.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, Strategy, compress_bound};

use crate::bench::{dataset::Dataset, write_section};

const FRAMES: [usize; 5] = [64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20];
const CHUNK: usize = 1 << 20;

/// A setting of zstd: the level, and what is set by hand over it.
#[derive(Debug, Clone, Copy)]
struct Setting {
    level: i32,
    by_hand: Option<ByHand>,
}

#[derive(Debug, Clone, Copy)]
struct ByHand {
    window: u32,
    hash: u32,
    chain: u32,
    min_match: u32,
    target: u32,
    strategy: Strategy,
}

impl Setting {
    fn name(&self) -> String {
        match self.by_hand {
            None => format!("level {}", self.level),
            Some(p) => {
                let strategy = format!("{:?}", p.strategy).trim_start_matches("ZSTD_").to_owned();
                let chain = if p.chain == 0 { String::new() } else { format!(" c{}", p.chain) };
                let target = if p.target == 0 { String::new() } else { format!(" t{}", p.target) };
                format!("{strategy} w{} h{}{chain} m{}{target}", p.window, p.hash, p.min_match)
            }
        }
    }

    fn compressor(&self) -> Result<Compressor<'static>> {
        let mut c = Compressor::new(self.level)?;
        c.set_parameter(CParameter::ChecksumFlag(false))?;
        c.set_parameter(CParameter::ContentSizeFlag(false))?;
        if let Some(p) = self.by_hand {
            c.set_parameter(CParameter::WindowLog(p.window))?;
            c.set_parameter(CParameter::HashLog(p.hash))?;
            if p.chain > 0 {
                c.set_parameter(CParameter::ChainLog(p.chain))?;
            }
            c.set_parameter(CParameter::MinMatch(p.min_match))?;
            c.set_parameter(CParameter::TargetLength(p.target))?;
            c.set_parameter(CParameter::Strategy(p.strategy))?;
        }
        Ok(c)
    }
}

fn settings(quick: bool) -> Vec<Setting> {
    let mut all: Vec<Setting> = [-1, 1, 2, 3].map(|level| Setting { level, by_hand: None }).into();
    let mut add = |level, window, hash, chain, min_match, target, strategy| {
        all.push(Setting {
            level,
            by_hand: Some(ByHand { window, hash, chain, min_match, target, strategy }),
        });
    };
    use Strategy::{ZSTD_dfast as Dfast, ZSTD_fast as Fast, ZSTD_greedy as Greedy};
    if quick {
        add(1, 20, 13, 0, 6, 2, Fast);
        add(1, 20, 12, 0, 6, 0, Fast);
        for (hash, min_match) in [(12, 5), (13, 5), (14, 5), (14, 6)] {
            add(1, 20, hash, 0, min_match, 0, Fast);
        }
        add(3, 20, 16, 15, 5, 0, Dfast);
        return all;
    }
    let fast = [
        (11, 5),
        (12, 4),
        (12, 5),
        (12, 6),
        (13, 4),
        (13, 5),
        (13, 6),
        (13, 7),
        (14, 4),
        (14, 5),
        (14, 6),
        (15, 5),
        (15, 6),
        (16, 5),
        (16, 6),
    ];
    for (hash, min_match) in fast {
        add(1, 20, hash, 0, min_match, 0, Fast);
    }
    for window in [16, 17, 18] {
        add(1, window, 14, 0, 5, 0, Fast);
    }
    add(1, 20, 13, 0, 5, 2, Fast);
    add(1, 20, 14, 0, 6, 2, Fast);
    for (hash, chain, min_match) in
        [(13, 12, 5), (14, 13, 5), (14, 12, 4), (15, 14, 5), (16, 15, 5), (17, 16, 5), (16, 15, 6)]
    {
        add(3, 20, hash, chain, min_match, 0, Dfast);
    }
    add(5, 20, 15, 14, 5, 2, Greedy);
    all
}

#[derive(Debug, Clone)]
struct Figure {
    setting: String,
    frame: usize,
    compress: f64,
    decompress: f64,
    ratio: f64,
    best: bool,
}

pub fn run(args: &[String]) -> Result<()> {
    let (mut sample, mut quick, mut wal, mut only) = (512_usize, false, false, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--sample" => sample = args.next().and_then(|n| n.parse().ok()).context("--sample MIB")?,
            "--quick" => quick = true,
            "--wal" => wal = true,
            "--files" => {
                let list = args.next().context("--files RELFILENODE,...")?;
                only = list.split(',').map(str::to_owned).collect();
            }
            other => bail!("`{other}` is not an option of codec-trial"),
        }
    }
    let set = Dataset::provide(3.0)?;
    let (data, total) =
        read_sample(&if wal { set.segments.clone() } else { set.data.join("base") }, sample << 20, &only)?;
    let about = format!(
        "{:.0} MiB of {} (1 MiB from each of so many places, spread evenly over {:.2} GB), \
         zstd {}, one thread, per second of processor time",
        data.len() as f64 / 1_048_576.0,
        if wal { "WAL" } else { "relation files" },
        total as f64 / 1e9,
        zstd::zstd_safe::version_string(),
    );
    println!("{about}");
    let mut figures = Vec::new();
    for setting in settings(quick) {
        for frame in FRAMES {
            let f = measure(&data, frame, setting)?;
            println!(
                "{:26} {:5} KiB  {:6.0} MB/s  {:6.0} MB/s back  {:.4}",
                f.setting,
                frame >> 10,
                f.compress,
                f.decompress,
                f.ratio
            );
            figures.push(f);
        }
    }
    let mark: Vec<bool> = figures
        .iter()
        .map(|f| {
            !figures.iter().any(|o| {
                o.compress >= f.compress && o.ratio < f.ratio || o.compress > f.compress && o.ratio <= f.ratio
            })
        })
        .collect();
    for (f, best) in figures.iter_mut().zip(mark) {
        f.best = best;
    }
    let text = table(&about, &figures);
    println!("\n{text}");
    if quick || wal || !only.is_empty() {
        return Ok(());
    }
    write_section("codec-trial", &text)
}

fn table(about: &str, figures: &[Figure]) -> String {
    let mut out = format!(
        "{about}. Each cell: MB/s compressing, stored bytes / plain bytes. **Bold**: no other cell is both faster and \
         smaller.\n\nw = windowLog, h = hashLog, c = chainLog, m = minMatch, t = targetLength; `level N` is zstd's own \
         table, which depends on the size of the frame.\n\n| setting |"
    );
    for frame in FRAMES {
        out.push_str(&format!(" {} KiB |", frame >> 10));
    }
    out.push_str("\n|---|");
    out.push_str(&"---|".repeat(FRAMES.len()));
    for row in figures.chunks(FRAMES.len()) {
        out.push_str(&format!("\n| {} |", row.first().map_or("", |f| f.setting.as_str())));
        for f in row {
            let cell = format!("{:.0}, {:.4}", f.compress, f.ratio);
            out.push_str(&if f.best { format!(" **{cell}** |") } else { format!(" {cell} |") });
        }
    }
    let mut best: Vec<&Figure> = figures.iter().filter(|f| f.best).collect();
    best.sort_by(|a, b| b.compress.total_cmp(&a.compress));
    out.push_str("\n\nThe bold cells, fastest first:\n\n| setting | frame | MB/s | ratio | MB/s back |\n|---|---|---|---|---|");
    for f in best {
        out.push_str(&format!(
            "\n| {} | {} KiB | {:.0} | {:.4} | {:.0} |",
            f.setting,
            f.frame >> 10,
            f.compress,
            f.ratio,
            f.decompress
        ));
    }
    out.push('\n');
    out
}

fn measure(data: &[u8], frame: usize, setting: Setting) -> Result<Figure> {
    let mut compressor = setting.compressor()?;
    let mut out: Vec<u8> = Vec::with_capacity(compress_bound(frame));
    // Untimed: the first frames pay for memory.
    for plain in data.chunks(frame).take(8) {
        out.clear();
        compressor.compress_to_buffer(plain, &mut out)?;
    }
    let mut kept = Vec::new();
    let mut stored = 0;
    let begin = cpu_seconds()?;
    for (i, plain) in data.chunks(frame).enumerate() {
        out.clear();
        compressor.compress_to_buffer(plain, &mut out)?;
        stored += out.len().min(plain.len());
        // A sixteenth of them for the way back.
        if i % 16 == 0 {
            kept.push((out.clone(), plain.len()));
        }
    }
    let compress = cpu_seconds()? - begin;
    let mut back: Vec<u8> = Vec::with_capacity(frame);
    let mut decompressor = Decompressor::new()?;
    let (begin, mut plain_bytes) = (cpu_seconds()?, 0);
    // The counter moves with the scheduler's ticks: many passes.
    for (packed, plain_len) in kept.iter().cycle().take(kept.len() * 16) {
        back.clear();
        decompressor.decompress_to_buffer(packed, &mut back)?;
        ensure!(back.len() == *plain_len, "zstd gave back {} bytes instead of {plain_len}", back.len());
        plain_bytes += back.len();
    }
    let decompress = cpu_seconds()? - begin;
    Ok(Figure {
        setting: setting.name(),
        frame,
        compress: data.len() as f64 / 1e6 / compress.max(1e-9),
        decompress: plain_bytes as f64 / 1e6 / decompress.max(1e-9),
        ratio: stored as f64 / data.len() as f64,
        best: false,
    })
}

/// Nanosecond counter of this thread's time on a processor.
fn cpu_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").context("/proc/thread-self/schedstat")?;
    let ns: u64 = text.split_whitespace().next().and_then(|w| w.parse().ok()).context("schedstat")?;
    Ok(ns as f64 / 1e9)
}

/// Pieces of 1 MiB, evenly over all relation files laid end to end; small files come as they are.
fn read_sample(base: &Path, want: usize, only: &[String]) -> Result<(Vec<u8>, u64)> {
    let mut files = Vec::new();
    collect(base, &mut files)?;
    // All segments of a relation: 16384, 16384.1, ...
    let node = |path: &Path| path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    files.retain(|(path, _)| only.is_empty() || only.contains(&node(path)));
    files.sort();
    let total: u64 = files.iter().map(|f| f.1).sum();
    ensure!(total > 0, "no relation files in {}", base.display());
    let every = (total as f64 / want as f64).max(1.0);
    let mut data = Vec::with_capacity(want + CHUNK);
    let mut seen = 0_f64;
    for (path, size) in &files {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        for offset in (0..*size).step_by(CHUNK) {
            let len = (*size - offset).min(CHUNK as u64) as usize;
            // Whenever as much was passed over as the share asks for.
            if seen / every >= data.len() as f64 {
                let start = data.len();
                data.resize(start + len, 0);
                file.read_exact_at(data.get_mut(start..).unwrap_or(&mut []), offset)?;
            }
            seen += len as f64;
        }
    }
    Ok((data, total))
}

fn collect(dir: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let meta = entry.metadata()?;
        let digits = entry.file_name().to_string_lossy().starts_with(|c: char| c.is_ascii_digit());
        if meta.is_dir() {
            collect(&entry.path(), files)?;
        } else if digits && meta.len() > 0 {
            files.push((entry.path(), meta.len()));
        }
    }
    Ok(())
}
