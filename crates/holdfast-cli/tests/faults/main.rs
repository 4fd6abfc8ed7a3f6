//! What happens when something goes wrong: processes killed, objects damaged, disks full, servers and
//! stores gone, pages rotten.
//!
//! The promises: a vault is always in the old or in the new state; the next run needs nobody to clean
//! up; damage is named, and never restored in silence.
//!
//! Everything random prints its seed; `HOLDFAST_SEED` repeats it. `HOLDFAST_SOAK=1` makes the random
//! tests long (`HOLDFAST_KILLS`, `HOLDFAST_DAMAGES` and `HOLDFAST_CHURN` set their numbers).

// A test tells on stderr why it skips something.
#![allow(clippy::print_stderr)]

mod damage;
mod disks;
mod kills;
mod pages;
mod server;
mod stores;
mod world;
