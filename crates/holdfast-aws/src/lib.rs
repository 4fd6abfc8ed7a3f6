//! Amazon behind the port of [`holdfast_core::managed`]: the only crate that names its SDK.
//!
//! [`AwsCloud::connect`] finds credentials, region, profile and endpoints the way AWS users expect
//! ([`Connection`]); what it gives is a [`Cloud`](holdfast_core::managed::Cloud).
//!
//! | module | what |
//! |---|---|
//! | `connect` | credentials, endpoints, certificates, proxies, time-outs, retries |
//! | `cloud`, `call` | clients per region; one way to make a call: a bound on parallel ones, the grace of what was just made, adoption of our own, the log of changes |
//! | `actions` | every action that this crate can call, compared with the IAM policies by a test |
//! | `error` | what AWS's codes mean |
//! | `rds` | RDS, Aurora and DocumentDB, which share one API; proxies, quotas |
//! | `backup` | AWS Backup |
//! | `small` | EC2, Route 53, Secrets Manager, KMS by hand: a few calls each, see decision 35 |
//! | `survey` | everything in several regions |
//!
//! **Retries** are the SDK's standard mode: throttling, 5xx and lost replies, six attempts with exponential backoff
//! and jitter from 1 s to 20 s, and a token bucket that stops retrying when most calls fail; `AWS_MAX_ATTEMPTS` and
//! `AWS_RETRY_MODE=adaptive` are honoured. A retried creation that had worked meets its own name and is adopted.
//! **Time-outs**: 5 s to connect, 30 s an attempt, 3 minutes a call with all its attempts.
//!
//! **On a crash** nothing is left but what AWS has; the change log has an `attempted` line for it.

mod actions;
mod backup;
mod call;
mod cloud;
mod connect;
mod convert;
mod error;
mod rds;
mod small;
mod survey;

pub use actions::ALL as ACTIONS;
pub use cloud::AwsCloud;
pub use connect::{AccessKeys, Connection};
