//! `sweep`: removes what was expired and what nobody needs; see [`holdfast_vault::sweep`] for how.
//!
//! A point goes if an operator's note expired it at least `sweep-after` ago, nothing holds it, and the
//! rules still say so. WAL goes if neither a point nor the window needs it. Runs that died without a
//! point are aborted after a day without a sign of life, and their packs go.

use super::early::EarlyDeletion;
use super::{Held, Holdings};
use crate::context::{Context, open_vault};
use crate::error::{EngineError, Result};
use crate::state::hostname;
use holdfast_core::retention::Stretch;
use holdfast_core::{RunId, SegmentName, TimelineId};
use holdfast_vault::listing::Span;
use holdfast_vault::store::Listed;
use holdfast_vault::sweep::{self, Order, Sweep, Swept};
use holdfast_vault::walindex::{Chunk, WalListing};
use holdfast_vault::{ClusterVault, Signer, StoreErrorKind, VaultError};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// Objects of one kind.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Count {
    pub objects: u64,
    pub bytes: u64,
}

/// What a sweep of one cluster does, or did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SweepReport {
    pub vault: String,
    pub cluster: String,
    /// Points that go, and why.
    pub points: BTreeMap<RunId, String>,
    /// Points that are expired and stay for now, and why.
    pub waiting: BTreeMap<RunId, String>,
    /// Runs that died without a point.
    pub dead_runs: Vec<RunId>,
    pub active_runs: Vec<RunId>,
    pub packs: Count,
    pub wal: Count,
    /// Notes, leases, old failures, what cut uploads left, records of points.
    pub other: Count,
    pub kept_pack_bytes: u64,
    /// What it costs that packs go before the minimum duration of their storage class is over.
    pub early_deletion: Option<EarlyDeletion>,
    /// What was removed; absent in a plan.
    pub removed: Option<Count>,
    /// Objects that the store would not let go.
    pub refused: Vec<String>,
    /// Objects that are locked; a later sweep removes them.
    pub locked: Locked,
    /// Notes that do not count: damaged, or signed by a host that may not say so.
    pub ignored_notes: Vec<String>,
    /// Why nothing could go.
    pub blocked: Option<String>,
}

/// What the store keeps, and until when.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Locked {
    pub objects: u64,
    pub bytes: u64,
    /// Until when the last of them is locked.
    pub until: Option<Timestamp>,
    /// How many somebody holds, without a date.
    pub held: u64,
}

impl Locked {
    fn of(all: &[sweep::Locked]) -> Self {
        Locked {
            objects: all.len() as u64,
            bytes: all.iter().map(|l| l.size).sum(),
            until: all.iter().filter_map(|l| l.until).max(),
            held: all.iter().filter(|l| l.until.is_none()).count() as u64,
        }
    }
}

fn count(d: &[sweep::Doomed]) -> Count {
    Count { objects: d.len() as u64, bytes: d.iter().map(|d| d.size).sum() }
}

/// The order for [`sweep`] if the points in `going` go: with the WAL that nothing needs then.
pub(super) async fn order(h: &Holdings, held: &Held, going: BTreeMap<RunId, String>) -> Result<Order> {
    let path = held.cluster.path();
    let size = held.cluster.record().wal_segment_size;
    // What goes in other clusters too: only this one's points matter for its WAL.
    let keep = h.wal_keep(&|id| going.contains_key(id));
    let goes = |s: SegmentName, modified| {
        keep.needs(&path.cluster, s.timeline, s.start(size), s.end(size), modified).is_none()
    };
    let listing = WalListing::read(&held.cluster).await?;
    let mut wal: Vec<Listed> = Vec::new();
    for (t, known) in &listing.timelines {
        for c in &known.chunks {
            let stretch = size.start_of(c.first)..size.start_of(c.first + c.count);
            let all = match keep.needs_all(&path.cluster, *t, stretch, c.oldest, c.newest) {
                Stretch::Stays => continue,
                Stretch::Mixed { by_age: true } => {
                    let exact = chunk(&held.cluster, *t, c).await?;
                    wal.extend(exact.into_iter().filter(|(s, l)| goes(*s, l.modified)).map(|(_, l)| l));
                    continue;
                }
                Stretch::Goes => true,
                Stretch::Mixed { by_age: false } => false,
            };
            let segments = (c.first..c.first + c.count).map(|n| SegmentName::new(*t, n, size));
            let going = segments.zip(0..).filter(|(s, _)| all || goes(*s, c.newest));
            wal.extend(going.map(|(s, i)| Listed {
                name: path.segment(*t, &s.to_string()),
                // Of the sizes only the sum is known.
                size: c.bytes / c.count + if i == 0 { c.bytes % c.count } else { 0 },
                modified: c.newest,
            }));
        }
        for s in &known.loose {
            let segment = SegmentName::new(*t, s.number, size);
            if goes(segment, s.modified) {
                let name = path.segment(*t, &segment.to_string());
                wal.push(Listed { name, size: s.size, modified: s.modified });
            }
        }
    }
    for l in &listing.others {
        if l.name.contains("/conflict/") {
            // A person has to look at these first.
            continue;
        }
        let file = l.name.rsplit('/').next().unwrap_or_default();
        // What is named after a segment: `NAME.partial`, `NAME.OFFSET.backup`.
        let Some(segment) = file.get(..24).and_then(|s| s.parse::<SegmentName>().ok()) else { continue };
        if goes(segment, l.modified) {
            wal.push(l.clone());
        }
    }
    Ok(Order {
        remove: going,
        wal,
        unsettled: listing.unsettled(),
        now: h.now,
        dead_after: super::expire::DEAD_AFTER,
        keep_failed: super::expire::KEEP_FAILED,
        host: hostname(),
    })
}

/// The segments of a chunk of which some stay, as they are listed.
async fn chunk(cluster: &ClusterVault, t: TimelineId, c: &Chunk) -> Result<Vec<(SegmentName, Listed)>> {
    let (path, size) = (cluster.path(), cluster.record().wal_segment_size);
    let name = |n: u64| path.segment(t, &SegmentName::new(t, n, size).to_string());
    let (folder, after) = (path.wal_timeline(t), c.first.checked_sub(1).map_or(String::new(), name));
    let until = name(c.first + c.count - 1);
    let mut out = Vec::new();
    let span = Span { folder: &folder, after: &after, until: Some(&until) };
    let mut each = |l: Listed| {
        let file = l.name.rsplit('/').next().and_then(|f| f.strip_suffix(".wal")?.parse().ok());
        out.extend(file.map(|s| (s, l)));
    };
    cluster.store().visit(span, &|_| false, &mut each).await?;
    Ok(out)
}

fn report(
    ctx: &Context,
    h: &Holdings,
    held: &Held,
    order: &Order,
    waiting: &BTreeMap<RunId, String>,
    s: &Sweep,
) -> SweepReport {
    let mut waiting = waiting.clone();
    waiting.extend(s.waiting.iter().cloned());
    let points = order.remove.iter().filter(|(id, _)| !waiting.contains_key(id));
    let (a, b) = (count(&s.points), count(&s.litter));
    SweepReport {
        vault: h.vault_policy.name.clone(),
        cluster: held.cluster.path().cluster.to_string(),
        points: points.map(|(id, why)| (id.clone(), why.clone())).collect(),
        waiting,
        dead_runs: s.dead.clone(),
        active_runs: s.active.clone(),
        packs: count(&s.packs),
        wal: count(&s.wal),
        other: Count { objects: a.objects + b.objects, bytes: a.bytes + b.bytes },
        kept_pack_bytes: s.kept_bytes,
        early_deletion: EarlyDeletion::of(
            &h.vault_policy,
            &ctx.policy.prices.s3,
            s.packs.iter(),
            h.now,
        ),
        removed: None,
        refused: Vec::new(),
        locked: Locked::default(),
        ignored_notes: held.notes.ignored.clone(),
        blocked: s.unseen.first().map(|run| {
            format!("run {run} builds on something that is not there, or its lease does not open; a day without a sign of life ends it")
        }),
    }
}

/// Sweeps the vaults of the database; with `plan_only` says what it would do and touches nothing.
pub async fn run(ctx: &Context, plan_only: bool) -> Result<Vec<SweepReport>> {
    let vaults = ctx.vaults()?;
    let mut out = Vec::new();
    for v in &vaults {
        match vault(ctx, v, plan_only).await {
            Ok(reports) => out.extend(reports),
            // Others are swept all the same, and what was done there is told.
            Err(e) if vaults.len() > 1 && !matches!(e, EngineError::Cancelled) => {
                let hint = e.hint().map(|h| format!(" ({h})")).unwrap_or_default();
                out.push(SweepReport {
                    vault: v.name.clone(),
                    cluster: "-".into(),
                    blocked: Some(format!("{e}{hint}")),
                    ..Default::default()
                });
            }
            Err(e) => return Err(e),
        }
    }
    Ok(out)
}

async fn vault(ctx: &Context, v: &holdfast_core::policy::Vault, plan_only: bool) -> Result<Vec<SweepReport>> {
    let mut out = Vec::new();
    // Opened first: asking for the time writes, and nothing may be written where no vault is.
    let opened = open_vault(v).await?;
    let store = opened.store();
    let now = if plan_only {
        Timestamp::now()
    } else {
        let (now, versioned) = store.clock().await?;
        if versioned && store.blind() {
            return Err(EngineError::refused(
                format!(
                    "vault `{}` lies in a bucket that keeps versions, and this role may not list them: \
                     deleting would hide objects and free nothing",
                    v.name
                ),
                "allow s3:ListBucketVersions and s3:DeleteObjectVersion, or sweep with other credentials",
            ));
        }
        now
    };
    let h = Holdings::of(ctx, (v.clone(), opened), now, None).await?;
    if !plan_only && !h.vault.keys().can_sign(Signer::Operator) {
        return Err(VaultError::KeyRole("sign as an operator (verify, hold, release, expire, sweep)").into());
    }
    for held in &h.clusters {
        match cluster(ctx, &h, held, plan_only).await {
            Ok(r) => out.push(r),
            // Others are swept all the same, and what was done is told.
            Err(e @ EngineError::Failed { .. }) => {
                let mut r = report(ctx, &h, held, &Order::default(), &BTreeMap::new(), &Sweep::default());
                let hint = e.hint().unwrap_or_default();
                r.blocked = Some(format!("{e} ({hint})"));
                out.push(r);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(out)
}

async fn cluster(ctx: &Context, h: &Holdings, held: &Held, plan_only: bool) -> Result<SweepReport> {
    let (mut going, mut waiting) = (BTreeMap::new(), BTreeMap::new());
    for seen in &held.points {
        let id = &seen.facts.id;
        match h.may_go(held, seen, h.vault_policy.sweep_after) {
            None => {}
            Some(Ok(why)) => {
                going.insert(id.clone(), why);
            }
            Some(Err(why)) => {
                waiting.insert(id.clone(), why);
            }
        }
    }
    let order = order(h, held, going).await?;
    let cannot = |e: VaultError| match e {
        e @ (VaultError::Damaged { .. } | VaultError::Codec { .. }) => EngineError::failed(
            format!("nothing was removed, because what a point needs cannot be read: {e}"),
            "see `holdfast check`; expire the damaged point by hand, or remove its record if it does not open",
        ),
        e if e.store_kind() == Some(StoreErrorKind::NotFound) => EngineError::failed(
            format!("nothing was removed, because what a point needs is missing: {e}"),
            "see `holdfast check`; expire that point by hand",
        ),
        e => e.into(),
    };
    if plan_only {
        let s = sweep::plan(&held.cluster, &order).await.map_err(cannot)?;
        return Ok(report(ctx, h, held, &order, &waiting, &s));
    }
    ctx.monitor.phase("sweeping");
    let (s, swept): (Sweep, Swept) =
        sweep::execute(&held.cluster, &order, &*ctx.monitor).await.map_err(cannot)?;
    let mut r = report(ctx, h, held, &order, &waiting, &s);
    r.removed = Some(Count { objects: swept.objects, bytes: swept.bytes });
    r.locked = Locked::of(&swept.locked);
    r.refused = swept.refused.into_iter().map(|(name, why)| format!("{name}: {why}")).collect();
    Ok(r)
}
