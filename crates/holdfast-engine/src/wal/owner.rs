//! Who may push WAL (engine-rules §3).
//!
//! `wal/<timeline>.owner-<n>` are create-if-absent; the highest number counts. The first push of a
//! timeline claims it, if its parent timeline belongs to the same owner (or to nobody). A restored
//! copy — another data directory, even on the same machine, even with the same system identifier and
//! timeline — has another token and is refused until a person says `wal adopt`.

use super::archive::read_file;
use crate::context::Context;
use crate::error::{EngineError, Result};
use crate::state::hostname;
use holdfast_core::TimelineId;
use holdfast_pgformat::control::ControlFile;
use holdfast_pgformat::history::TimelineHistory;
use holdfast_vault::point::{Body, Owner};
use holdfast_vault::{ClusterVault, Signer, StoreErrorKind};
use std::path::Path;

/// The owner of a timeline, if it has one.
pub async fn owner_of(cluster: &ClusterVault, t: TimelineId) -> Result<Option<Owner>> {
    // Numbers are dense: the first one that is missing ends the search. Nearly always two reads.
    let mut last = None;
    for n in 1.. {
        match cluster.vault().get_record(&cluster.path().owner(t, n)).await {
            Ok((Body::Owner(o), _)) => last = Some(o),
            Ok(_) => return Err(EngineError::failed("an owner record is malformed", "run `holdfast check`")),
            Err(e) if e.is_not_found() => break,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(last)
}

async fn claim(
    cluster: &ClusterVault,
    t: TimelineId,
    number: u32,
    token: &str,
    reason: &str,
) -> Result<bool> {
    let owner = Owner {
        timeline: t,
        number,
        token: token.into(),
        host: hostname(),
        since: jiff::Timestamp::now(),
        reason: reason.into(),
    };
    match cluster
        .vault()
        .put_record(&cluster.path().owner(t, number), &Body::Owner(owner), Signer::Host)
        .await
    {
        Ok(_) => Ok(true),
        Err(e) if e.store_kind() == Some(StoreErrorKind::Exists) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Is this host named in `members`? An empty list names everybody.
fn is_member(ctx: &Context) -> bool {
    let host = hostname();
    ctx.db.members.is_empty() || ctx.db.members.contains(&host)
}

/// Refuses a host that `members` does not name.
pub fn require_member(ctx: &Context) -> Result<()> {
    if is_member(ctx) {
        return Ok(());
    }
    Err(EngineError::refused(
        format!("this host ({}) is not a member of `{}`", hostname(), ctx.db.name),
        "add it to `members` of the database in the policy",
    ))
}

fn refuse(ctx: &Context, t: TimelineId, o: &Owner) -> EngineError {
    EngineError::refused(
        format!(
            "timeline {t} of `{}` belongs to another data directory (host {}, since {})",
            ctx.db.name, o.host, o.since
        ),
        "a restored copy must not write into its parent's archive; if this cluster has taken over for good, run \
         `holdfast wal adopt`",
    )
}

/// May this data directory push WAL of timeline `t`? Claims the timeline if it is free.
pub async fn authorize(ctx: &Context, cluster: &ClusterVault, t: TimelineId, data_dir: &Path) -> Result<()> {
    require_member(ctx)?;
    let token = ctx.state.owner_token(&ctx.db.name, data_dir)?;
    if let Some(o) = owner_of(cluster, t).await? {
        return if o.token == token { Ok(()) } else { Err(refuse(ctx, t, &o)) };
    }
    // A new timeline continues its parent: whoever owned that owns this.
    let parents = match read_file(cluster, &cluster.path().history(t)).await? {
        Some(text) => TimelineHistory::parse(t, &String::from_utf8_lossy(&text))
            .map(|h| h.entries().iter().rev().map(|e| e.timeline).collect())
            .unwrap_or_default(),
        // Its history file is the first thing a new timeline archives; without it, everything below.
        None => (1..t.0).rev().map(TimelineId).collect::<Vec<_>>(),
    };
    for p in parents {
        if let Some(o) = owner_of(cluster, p).await? {
            if o.token != token {
                return Err(refuse(ctx, p, &o));
            }
            break;
        }
    }
    if claim(cluster, t, 1, &token, "first push").await? {
        return Ok(());
    }
    match owner_of(cluster, t).await? {
        Some(o) if o.token == token => Ok(()),
        Some(o) => Err(refuse(ctx, t, &o)),
        None => Err(EngineError::failed("the owner of a timeline cannot be read", "run it again")),
    }
}

/// The timeline that a data directory is on. Right after a promotion only the end of recovery says so,
/// the checkpoint that follows it may take minutes.
pub fn current_timeline(control: &ControlFile) -> TimelineId {
    control.checkpoint_copy.timeline.max(control.min_recovery_point_timeline)
}

/// Does this data directory own the timeline that it is on, and is that one later than `t`?
pub async fn owns_current(
    ctx: &Context,
    cluster: &ClusterVault,
    t: TimelineId,
    data_dir: &Path,
) -> Result<bool> {
    let (_, control) = holdfast_pg::datadir::read_control(data_dir)?;
    let current = current_timeline(&control);
    if current <= t {
        return Ok(false);
    }
    let token = ctx.state.owner_token(&ctx.db.name, data_dir)?;
    Ok(owner_of(cluster, current).await?.is_some_and(|o| o.token == token))
}

/// Takes the archive over for the data directory at `data_dir`.
pub async fn adopt(ctx: &Context, cluster: &ClusterVault, t: TimelineId, data_dir: &Path) -> Result<Owner> {
    if !is_member(ctx) {
        return Err(EngineError::refused(
            format!("this host ({}) is not a member of `{}`", hostname(), ctx.db.name),
            "add it to `members` of the database in the policy",
        ));
    }
    let token = ctx.state.owner_token(&ctx.db.name, data_dir)?;
    for _ in 0..8 {
        let current = owner_of(cluster, t).await?;
        if let Some(o) = &current
            && o.token == token
        {
            return Ok(o.clone());
        }
        let next = current.map_or(1, |o| o.number + 1);
        claim(cluster, t, next, &token, "adopted").await?;
    }
    Err(EngineError::Busy {
        what: "other hosts adopt this archive at the same time".into(),
        hint: "find out which of them is the primary".into(),
    })
}
