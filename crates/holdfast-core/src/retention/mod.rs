//! Which recovery points and which WAL stay: a pure function of what is in the vault, the policy,
//! the holds, the locks and the time.
//!
//! [`decide`] takes every point of one database and says for each whether it stays, with all the
//! [`Reason`]s; [`wal_needs`] says the same for WAL. Nothing here does IO, looks at a clock or
//! deletes; `expire --plan`, `expire --apply` and the sweeper all ask again, so that nobody acts on
//! an old answer or on what a host claims was the answer.
//!
//! ```text
//! points ──▶ plausible: which ones count ──▶ lineup: which is newer ──▶ rules    ┐
//!                                                  (periods of the calendar)     ├─▶ Decision ──▶ wal
//! holds, locks, tags ──▶ marks               guards, bases of the WAL window     ┘
//! ```
//!
//! # Rules
//! A point stays if *any* rule of any `keep` wants it. `last = N`: the newest N that count.
//! `daily = N` and its like: the newest that counts of each of the last N days (in the policy's
//! time zone; ISO weeks) that have one; days without a point use up nothing, so a job that fails
//! for a month shrinks nothing. `window` and `tags`: each point for itself, damaged or not, because
//! there nobody displaces anybody. Rules look at all clusters of the database together: after
//! `pg_upgrade` the points of the old cluster age out by the same rules.
//!
//! # What counts
//! A point counts if it is complete (no damaged pages) and plausible. Failed runs are not points.
//! [`Doubt`] lists what makes one implausible. Such a point is kept, displaces nothing, and raises
//! an [`Alarm`]; `verify`, or expiring it by hand, ends the doubt. What the operator signed, or
//! verified, is believed, except a stop time in the future. Honest events raise no alarm: a
//! failover, a recovery to an earlier time (new timelines), `pg_upgrade` (a new cluster), clocks
//! that differ by less than five minutes. A database that shrinks to less than a quarter (`TRUNCATE`)
//! raises one until a smaller point is verified, or for a week, and then counts after all.
//!
//! # Guards, which no rule overrides
//! - the newest point that counts, of the database;
//! - the newest verified one: no unverified point can displace it;
//! - the newest `at-least` (the highest of all `keep`s) that count;
//! - the newest that counts of each *earlier cluster*, as long as any rule could reach back to it:
//!   the longest of `window`, `wal.keep`, and the calendar rules as spans, and 30 days at least;
//! - what is held, locked or carries `keep-until` (if its value cannot be read, it stays);
//! - a damaged point that is newer than the newest complete one of its cluster: nothing better
//!   has its state. A cluster without any complete point keeps all its damaged ones;
//! - whatever is in doubt;
//! - with `wal.keep`: the base of the window of WAL, and the point after it, which becomes the base
//!   in time; both also of each timeline that was left, with its newest point, for as long as an
//!   earlier cluster stays, and one point that tells a timeline's history;
//! - everything, if no `keep` is given.
//!
//! # A hostile host
//! A host may hold a key that adds points and nothing else. What it can do and what it cannot:
//!
//! | it adds | what happens |
//! |---|---|
//! | points from the future, long past, out of order, tiny, of other history | kept, alarmed, displace nothing |
//! | one plausible point that poisons the comparison (high LSN, huge size) | it displaces as much as one point does. Honest points after it are in doubt and *kept* until one is verified |
//! | points of an invented cluster or timeline | count like others at the time *the store* saw them; the real cluster's newest point stays 30 days and longer |
//! | plausible points, many | **not defended**: with `last = 7`, seven of them take the place of seven. They cannot displace the newest verified point, held or locked ones, nor more than one point per period, and periods take their time to pass |
//! | WAL | stays; see [`wal_needs`] |
//!
//! So: use calendar rules or `window` beside `last`, verify often, and lock.
//!
//! # Invariants
//! 1. The order of the input has no influence.
//! 2. One more hold, lock or rule, or a larger number in a rule, expires nothing that stayed before.
//!    (Two exceptions: the first rule of all, and a longer `wal.keep`, which moves its base.)
//! 3. A point in doubt lets no other go, and no rule keeps less because of it.
//! 4. Deciding again over what was kept, at the same time, expires nothing more. Exceptions follow
//!    from comparing points with those that are there: one in doubt may count, and so expire, when
//!    what gave it away has expired; one that counted may come into doubt, and so stay, when its
//!    database shrank to less than a quarter in steps within a week and the steps have expired.
//! 5. Of points that count, the newest stays; so something stays if there is anything.
//!
//! `now` is the store's time where it can be had: a clock far ahead ends windows, holds and locks
//! early. A clock behind makes points look as if they came from the future, and they stay. Copies
//! should be written oldest first: the order in which the store saw points is evidence.

mod bases;
mod guards;
mod input;
mod lineup;
mod marks;
mod periods;
mod plausible;
mod rules;
mod verdict;
mod wal;

pub use input::{Candidate, Hold, Rules};
pub use marks::keep_until;
pub use periods::Every;
pub use plausible::Doubt;
pub use rules::decide;
pub use verdict::{Alarm, Decision, Reason, Verdict};
pub use wal::{Stretch, WalKeep, WalReason, wal_needs};

#[cfg(test)]
mod histories;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod wal_tests;
