//! The client against the strict stand-in for AWS, and against plain moto.

mod backup;
mod common;
mod connect;
mod engine;
mod faults;
mod moto;
mod restores;
mod roles;
mod services;
mod snapshots;
mod survey;
