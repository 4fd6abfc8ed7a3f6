//! `copy`: points and WAL of a database, brought to another vault.
//!
//! The promise: what arrives is what was backed up, every block authenticated and compared with its
//! fingerprint on the way, sealed anew with the target's own keys, complete with its WAL, and read back
//! before the copy says so. A copy stands by itself: the source's point may expire and be swept the next
//! minute. Only what the target lacks is sent.
//!
//! - [`select`] says what is to be copied: for a database, the points that the target lacks and its rules
//!   want, oldest first (retention reads the order in which the store saw them), then WAL.
//! - [`point`] copies one point, by the protocol that a backup commits with; [`claim`] gives it its run.
//! - [`leaves`] and [`worker`] are the two halves of the work on its files, [`wal`] brings segments,
//!   [`arrive`] reads back.
//!
//! One copy into a vault runs at a time on a host; backups run beside it. A point that is damaged or swept
//! in the source does not keep others from being copied.
//!
//! Crash or kill at any moment: points that were committed are there. The one that was under way leaves a
//! lease and packs without a point; the next copy of this host declares that run dead, a sweep removes what
//! it left, and the point is copied by a run of its own. Segments are created one by one, oldest first.

pub mod arrive;
pub mod claim;
pub mod leaves;
pub mod point;
pub mod select;
pub mod wal;
pub mod worker;

use crate::context::{Context, open_vault};
use crate::error::{EngineError, Result};
use holdfast_core::policy;
use holdfast_vault::point::{Cluster, Point};
use holdfast_vault::{ClusterVault, Vault, VaultError};
pub use point::{PointReport, Status};
pub use select::{Choice, CopyPlan};
use serde::Serialize;
use wal::WalCopied;

/// What the user asked for.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// A point (or the beginning of its id, in any vault); otherwise the whole database.
    pub point: Option<String>,
    /// The vault; without one, all that the policy's `copies` name.
    pub to: Option<String>,
    /// The vault to read from; without one, the first of the database that can be read.
    pub from: Option<String>,
}

/// Two folders of one cluster.
#[derive(Debug)]
pub struct Pair {
    pub source: ClusterVault,
    pub source_name: String,
    pub target: ClusterVault,
    pub policy: policy::Vault,
}

impl Pair {
    /// Both vaults digest with one secret, so what they know of blocks can be compared.
    pub fn one_secret(&self) -> bool {
        self.source.record().digest_secret == self.target.record().digest_secret
    }

    /// Says which of the two vaults is damaged.
    pub fn of_source(&self, e: VaultError) -> EngineError {
        worker::in_vault(&self.source_name, e).into()
    }

    fn swept(&self, p: &Point) -> EngineError {
        EngineError::failed(
            format!("point {} was removed from vault `{}` by a sweep", p.id, self.source_name),
            "nothing of it was committed; copy a newer point, and `holdfast hold` what must stay",
        )
    }

    /// A sweep of the source shows itself as objects that are missing; then it is the reason to tell.
    async fn explain(&self, p: &Point, e: EngineError) -> EngineError {
        let missing = matches!(&e, EngineError::Vault(v) if v.is_not_found());
        match self.source.can_build_on(&p.id).await {
            Ok(false) if missing => self.swept(p),
            _ => e,
        }
    }
}

/// What a copy did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CopyReport {
    pub points: Vec<PointReport>,
    /// Beside that of the points.
    pub wal: WalCopied,
    /// Points that were not copied, and why.
    pub left: Vec<Choice>,
    pub seconds: f64,
}

impl CopyReport {
    pub fn failed(&self) -> impl Iterator<Item = &PointReport> {
        self.points.iter().filter(|p| p.status == Status::Failed)
    }
}

/// The vaults that are copied to.
pub fn targets(ctx: &Context, o: &CopyOptions) -> Result<Vec<policy::Vault>> {
    let mut names: Vec<&str> = match &o.to {
        Some(to) => vec![to],
        None => ctx.plan.copies.values().map(|c| c.to.as_str()).collect(),
    };
    names.dedup();
    if names.is_empty() {
        return Err(EngineError::usage(
            format!("the policy of `{}` has no copies", ctx.db.name),
            "name the vault with --to, or add [policies.NAME.copies.dr] with `to` and `keep`",
        ));
    }
    names.iter().map(|n| named(ctx, n)).collect()
}

fn named(ctx: &Context, name: &str) -> Result<policy::Vault> {
    ctx.policy.vaults.get(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = ctx.policy.vaults.keys().map(String::as_str).collect();
        EngineError::not_found(
            format!("the policy has no vault `{name}`"),
            format!("it has: {}", known.join(", ")),
        )
    })
}

/// The vaults that can be read from, in the order in which they are tried.
pub(super) fn sources(ctx: &Context, o: &CopyOptions, target: &policy::Vault) -> Result<Vec<policy::Vault>> {
    let chosen = o.from.as_ref().or(ctx.vault.as_ref());
    let all = match chosen {
        Some(name) => vec![named(ctx, name)?],
        None => {
            let warm = |v: &&policy::Vault| v.name != target.name && !v.is_cold();
            ctx.policy.vaults_of(&ctx.db).filter(warm).cloned().collect()
        }
    };
    if let Some(v) = all.iter().find(|v| v.is_cold()) {
        return Err(EngineError::refused(
            format!("vault `{}` is cold: what it stores cannot be read before it was retrieved", v.name),
            "copy from another vault with --from",
        ));
    }
    if all.iter().any(|v| v.name == target.name) {
        return Err(EngineError::usage(
            format!("`{}` cannot be copied to itself", target.name),
            "name another vault with --from or --to",
        ));
    }
    if all.is_empty() {
        return Err(EngineError::usage(
            format!("`{}` has no other vault than `{}`", ctx.db.name, target.name),
            "name the vault to read from with --from",
        ));
    }
    Ok(all)
}

/// Opens a vault that blocks are read from.
pub(super) async fn open_source(v: &policy::Vault) -> Result<Vault> {
    let vault = open_vault(v).await?;
    if !vault.keys().can_read() {
        return Err(VaultError::KeyRole("read backups").into());
    }
    Ok(vault)
}

/// The folder of a cluster in the target, made if it is new there: with the digest secret of the source, so
/// that what the two know of blocks can be compared.
pub(super) async fn pair(
    source: &ClusterVault,
    source_name: &str,
    target: &Vault,
    policy: &policy::Vault,
) -> Result<Pair> {
    let record: Cluster = source.record().clone();
    let made = target.ensure_cluster(source.path().clone(), || record.clone()).await?;
    let r = made.record();
    if (r.system_identifier, r.block_size, r.wal_segment_size)
        != (record.system_identifier, record.block_size, record.wal_segment_size)
    {
        return Err(EngineError::refused(
            format!("vault `{}` holds another cluster under this name", policy.name),
            "run `holdfast check` on both vaults",
        ));
    }
    Ok(Pair { source: source.clone(), source_name: source_name.into(), target: made, policy: policy.clone() })
}

/// Copies to one vault, by a plan that is made here.
pub async fn run(ctx: &Context, o: &CopyOptions, to: &policy::Vault) -> Result<CopyReport> {
    let begun = std::time::Instant::now();
    let Some(_lock) = ctx.state.try_lock_named(&format!("{}.copy-{}", ctx.db.name, to.name))? else {
        return Err(EngineError::Busy {
            what: format!("another copy of `{}` to `{}` is going on", ctx.db.name, to.name),
            hint: "wait until it has ended; it holds its lock only while it lives".into(),
        });
    };
    let plan = select::plan(ctx, o, to).await?;
    let target = open_vault(to).await?;
    let mut report = CopyReport { left: plan.left.clone(), ..Default::default() };
    for part in &plan.parts {
        let pair = pair(&part.source, &plan.from, &target, to).await?;
        for p in &part.points {
            if ctx.monitor.cancelled() {
                return Err(EngineError::Cancelled);
            }
            match point::copy(ctx, &pair, p, o.point.is_some()).await {
                Ok(r) => report.points.push(r),
                // The others are copied all the same.
                Err(e) if o.point.is_none() && is_the_points(&e) => {
                    ctx.monitor.warning(format!("point {} was not copied: {e}", p.id));
                    let mut failed = PointReport::new(&pair, p, Status::Failed);
                    (failed.error, failed.hint) = (Some(e.to_string()), e.hint());
                    failed.exit = e.exit_code();
                    report.points.push(failed);
                }
                Err(e) => return Err(e),
            }
        }
        if o.point.is_none() {
            arrive::overdue(ctx, &pair).await?;
            report.wal.add(rest(ctx, &pair, &plan).await?);
        }
    }
    report.seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}

/// It is damaged or was swept in the source, or another host copies it: that says nothing of the others.
fn is_the_points(e: &EngineError) -> bool {
    e.is_damage() || matches!(e, EngineError::Failed { .. } | EngineError::Busy { .. })
}

/// What is archived beside the WAL that points name.
async fn rest(ctx: &Context, pair: &Pair, plan: &CopyPlan) -> Result<WalCopied> {
    ctx.monitor.phase(&format!("copying wal to {}", pair.policy.name));
    let mut out = wal::histories(pair).await?;
    out.add(wal::extras(pair).await?);
    let wanted = wal::lacking(pair, &|s, at| plan.wants_wal(pair, s, at)).await?;
    out.add(wal::segments(ctx, pair, wanted).await?);
    let there = wal::segments_of(&pair.target).await?;
    crate::wal::fanout::forget(ctx, &pair.policy.name, &|n| match n {
        holdfast_pgformat::walname::WalFileName::Segment(s) => there.contains(s),
        _ => false,
    });
    Ok(out)
}
