//! Jobs for those who work on Holdfast: `cargo run --release -p xtask -- JOB`, or `make JOB`.

mod bench;
mod codec;
mod demo;
mod long;

use std::process::ExitCode;

const USAGE: &str = "\
usage: xtask JOB

  demo                     a backup, a disaster and a restore, on throwaway servers
  bench [OPTION...]        Holdfast and pgBackRest side by side; see bench/README.md
      --size GIB           about this much data (default 3)
      --rounds N           rounds, interleaved, medians are reported (default 5)
      --quick              3 rounds, no 10 GB memory row
      --dense CODEC        the denser setting of Holdfast (default zstd:3), in frames of 1 MiB
      --only ROW,...       only these rows: full, cold, dense, incremental, restore, wal-push,
                           wal-get, memory
      --write              with --only: merge the figures into docs/benchmarks.md all the same
  codec-trial [OPTION...]  frame sizes and zstd parameters on the data of `bench`
      --sample MIB         how much of it (default 512)
      --quick              a few settings; prints only
      --wal                WAL segments instead of relation files; prints only
      --files NODE,...     only these relations (relfilenodes); prints only
  soak                     the tests with HOLDFAST_SOAK=1, for SOAK_MINUTES each
  fuzz                     the property tests with many cases, for about FUZZ_SECONDS
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (job, rest) = match args.split_first() {
        Some((job, rest)) => (job.as_str(), rest),
        None => ("help", &[][..]),
    };
    let result = match job {
        "demo" => demo::run(),
        "bench" => bench::run(rest),
        "codec-trial" => codec::run(rest),
        "soak" => long::soak(),
        "fuzz" => long::fuzz(),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(if matches!(job, "help" | "-h" | "--help") { 0 } else { 2 });
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {job}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
