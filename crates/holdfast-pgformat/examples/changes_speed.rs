//! Measures what it costs to learn which pages WAL segments touched, on one core:
//! `cargo run --release -p holdfast-pgformat --example changes_speed WAL-SEGMENT-FILE...`
//!
//! With `OUT=folder`, what would be stored is written there.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use holdfast_pgformat::changes::{ChangeWindow, SegmentChanges, scan_changes, scan_part_changes};
use holdfast_pgformat::crc32c::crc32c;
use holdfast_pgformat::scan::{LOOK_AHEAD, scan_part};
use holdfast_pgformat::wal::segment_header;
use std::hint::black_box;
use std::time::Instant;

const PART: usize = 1 << 20;

/// The best of many runs over all segments, in seconds.
fn best(mut f: impl FnMut()) -> f64 {
    f();
    let (mut best, begin) = (f64::MAX, Instant::now());
    while begin.elapsed().as_millis() < 1500 {
        let t = Instant::now();
        f();
        best = best.min(t.elapsed().as_secs_f64());
    }
    best
}

fn main() {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let segments: Vec<Vec<u8>> = files.iter().map(|f| std::fs::read(f).unwrap()).collect();
    let bytes: usize = segments.iter().map(Vec::len).sum();
    let show = |what: &str, seconds: f64| {
        let each = seconds * 1e3 / segments.len().max(1) as f64;
        println!("{what:36} {each:8.3} ms a segment {:9.0} MB/s", bytes as f64 / seconds / 1e6);
    };
    let parts = |s: &[u8], f: &mut dyn FnMut(&[u8], usize)| {
        for at in (0..s.len()).step_by(PART) {
            f(&s[at..s.len().min(at + PART + LOOK_AHEAD)], at);
        }
    };
    let facts = best(|| {
        for s in &segments {
            let head = segment_header(s).unwrap();
            parts(s, &mut |p, at| {
                black_box(scan_part(&head, p, at as u64, PART).unwrap());
            });
        }
    });
    let both = best(|| {
        for s in &segments {
            let head = segment_header(s).unwrap();
            parts(s, &mut |p, at| {
                black_box(scan_part_changes(&head, p, at as u64, PART, 8192));
            });
        }
    });
    let all = best(|| {
        for s in &segments {
            black_box(scan_changes(s, 8192).unwrap().encode());
        }
    });
    let crc = best(|| {
        for s in &segments {
            black_box(crc32c(s));
        }
    });
    show("scan, as wal push does today", facts);
    show("scan with changes", both);
    show("scan with changes, joined, encoded", all);
    show("of that, added", all - facts);
    show("crc32c of the bytes alone", crc);

    let out = std::env::var_os("OUT");
    let (mut stored, mut pieces, mut window) = (Vec::new(), 0, None);
    for (file, s) in files.iter().zip(&segments) {
        let c = scan_changes(s, 8192).unwrap();
        let (head, tail) = c.fragment_lengths();
        pieces += head + tail;
        let b = c.encode();
        if let Some(dir) = &out {
            let name = std::path::Path::new(file).file_name().unwrap();
            std::fs::write(std::path::Path::new(dir).join(name).with_extension("changes"), &b).unwrap();
        }
        if files.len() <= 20 || c.untrusted.is_some() {
            let forks = c.set.relations().count();
            println!(
                "{file}: {} bytes stored, {} of them pieces; {forks} forks, {} blocks {}",
                b.len(),
                head + tail,
                c.set.block_count(),
                c.untrusted.map_or(String::new(), |u| format!("; untrusted: {u}: {}", u.why))
            );
        }
        window.get_or_insert_with(|| ChangeWindow::new(c.end)); // no rest of a record matters
        stored.push(b);
    }
    let sum: usize = stored.iter().map(Vec::len).sum();
    println!("{} bytes stored for {} segments, {pieces} of them pieces of records", sum, stored.len());
    let decode = best(|| {
        for b in &stored {
            black_box(SegmentChanges::decode(b).unwrap());
        }
    });
    show("decode", decode);
    if let Some(mut w) = window {
        let t = Instant::now();
        for b in &stored {
            if let Err(e) = w.add(SegmentChanges::decode(b).unwrap()) {
                println!("window: {e}");
                return;
            }
        }
        let end = w.next_start().unwrap();
        let w = w.finish(end).map(|w| (w.set.relations().count(), w.set.block_count()));
        println!("window: {w:?} in {:.3} ms", t.elapsed().as_secs_f64() * 1e3);
    }
}
