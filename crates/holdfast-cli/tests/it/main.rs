//! The program against real servers: everything that a user does from a terminal, on real
//! PostgreSQL. Crashes, damage and the restore oracle are in `tests/faults` and `tests/oracle`.

mod archiver;
mod away;
mod changes;
mod cli;
mod cold;
mod common;
mod copies;
mod delta;
mod from_standby;
mod indexes;
mod keys;
mod lifecycle;
mod lock;
mod promoted;
mod put_back;
mod remote;
mod requests;
mod retention;
mod retrieval;
mod s3;
mod safety;
mod scattered;
mod selective;
mod standby;
mod tablespaces;
mod targets;
mod timelines;
mod tls;
mod validate;
mod versions;
mod wal;
