//! Measures page checksums, CRC-32C and the segment scan on one core:
//! `cargo run --release -p holdfast-pgformat --example checksum_speed [WAL segment file]`
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use holdfast_pgformat::crc32c::crc32c;
use holdfast_pgformat::page::{checksum, checksum_portable, is_new, verify_page};
use holdfast_pgformat::scan::scan_segment;
use holdfast_pgformat::wal::{WalReader, segment_header};
use std::hint::black_box;
use std::time::Instant;

fn measure(what: &str, bytes: usize, mut f: impl FnMut()) {
    f();
    let (mut best, begin) = (f64::MAX, Instant::now());
    while begin.elapsed().as_millis() < 700 {
        let t = Instant::now();
        f();
        best = best.min(t.elapsed().as_secs_f64());
    }
    println!("{what:28} {:8.3} ms {:8.2} GB/s", best * 1e3, bytes as f64 / best / 1e9);
}

fn main() {
    // 8 MB: larger than the second-level cache, as file buffers are.
    let data: Vec<u8> = (0..8u32 << 20).map(|i| (i.wrapping_mul(2654435761) >> 13) as u8).collect();
    let pages = |f: &dyn Fn(&[u8], u32)| data.chunks_exact(8192).zip(0..).for_each(|(p, n)| f(p, n));
    measure("page checksum", data.len(), || {
        pages(&|p, n| {
            black_box(checksum(p, n));
        })
    });
    measure("page checksum, portable", data.len(), || {
        pages(&|p, n| {
            black_box(checksum_portable(p, n));
        })
    });
    measure("verify_page", data.len(), || {
        pages(&|p, n| {
            black_box(verify_page(p, n, true));
        })
    });
    let zero = vec![0u8; 8 << 20];
    measure("is_new", zero.len(), || {
        black_box(is_new(&zero));
    });
    measure("crc32c", data.len(), || {
        black_box(crc32c(&data));
    });

    let Some(file) = std::env::args().nth(1) else { return };
    let segment = std::fs::read(file).unwrap();
    let head = segment_header(&segment).unwrap();
    let facts = scan_segment(&segment).unwrap();
    println!("{} records, {} commits, {}..{}", facts.records, facts.commits, facts.start, facts.end_of_data);
    measure("scan_segment", segment.len(), || {
        black_box(scan_segment(&segment).unwrap());
    });
    for crc in [true, false] {
        measure(if crc { "WalReader" } else { "WalReader without crc" }, segment.len(), || {
            let mut r = WalReader::new(head.page_addr, head.major, head.segment_size).verify_crc(crc);
            r.feed(&segment);
            while let Some(rec) = r.next().unwrap() {
                black_box(rec);
            }
        });
    }
}
