//! The program against real servers: everything that a user does from a terminal, on real
//! PostgreSQL. Crashes, damage and the restore oracle are in `tests/faults` and `tests/oracle`.

mod archiver;
mod cli;
mod common;
mod copies;
mod keys;
mod lifecycle;
mod retention;
mod s3;
mod safety;
mod scattered;
mod tablespaces;
mod targets;
mod timelines;
mod tls;
mod wal;
